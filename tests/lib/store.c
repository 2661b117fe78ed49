/* Records made for tests: see store.h. */
#include "tests/lib/store.h"

#include <stdio.h>
#include <string.h>

#include "daemon/base/buf.h"
#include "daemon/base/mem.h"
#include "tests/lib/env.h"

enum { MAX_TEST_LAYERS = 450 };

struct ld_store *ld_test_store(int dir)
{
    struct ld_store *store = NULL;
    struct ld_err err = LD_ERR_INIT;

    ld_test_ok(ld_store_open(dir, NULL, &store, &err), &err);
    return store;
}

const char *ld_test_id(unsigned n)
{
    static _Thread_local char ids[64][65];
    static _Thread_local unsigned next;
    char *id = ids[next++ % LD_ARRAY_LEN(ids)];

    (void)snprintf(id, sizeof(ids[0]), "%08x%056x", n * 2654435761u, n);
    return id;
}

/* The layers of an image, bottom to top, as an importer finds them. */
static size_t reuse_layers(struct ld_store *store, const char *image, struct ld_layer_add *layers)
{
    LD_AUTO(ld_image_done) struct ld_image below = {0};
    struct ld_chain_sids chain;
    struct ld_err err = LD_ERR_INIT;

    ld_test_ok(ld_store_image_get(store, image, &below, &err), &err);
    ld_test_ok(ld_store_chain(store, below.tip_sid, &chain, &err), &err);
    for (size_t i = 0; i < chain.n; i++) {
        layers[i] = (struct ld_layer_add){.how = LD_LAYER_REUSED};
        layers[i].layer.sid = chain.sid[chain.n - 1 - i];
    }
    return chain.n;
}

char *ld_test_image(struct ld_store *store, unsigned number, const char *on, size_t n,
                    const char *ref)
{
    autofree struct ld_layer_add *layers = ld_alloc0(MAX_TEST_LAYERS * sizeof(*layers));
    char *id = ld_asprintf("sha256:%s", ld_test_id(number));
    size_t below = on ? reuse_layers(store, on, layers) : 0;
    struct ld_err err = LD_ERR_INIT;
    struct ld_image_add add = {.layers = layers, .n_layers = below + n};

    for (size_t i = below; i < below + n; i++) {
        struct ld_layer *layer = &layers[i].layer;

        ld_test_ok(ld_store_take_sid(store, &layer->sid, &err), &err);
        layer->diff_id = ld_asprintf("sha256:%s", ld_test_id(900000 + (unsigned)layer->sid));
        layer->chain_id = ld_asprintf("sha256:%s", ld_test_id(800000 + (unsigned)layer->sid));
        layer->bytes = 1000;
        layer->inodes = 3;
    }
    add.image = (struct ld_image){
        .id = id, .config = (char[]){"{}"}, .config_len = 2, .size = 1000 * (below + n)};
    add.refs = ref ? &ref : NULL;
    add.n_refs = ref ? 1 : 0;
    ld_test_ok(ld_store_image_add(store, &LD_WRITE_SELF, &add, 1, &err), &err);
    for (size_t i = below; i < below + n; i++)
        ld_layer_done(&layers[i].layer);
    return id;
}

int ld_test_container(struct ld_store *store, unsigned number, const char *name,
                      const char *image_id, const char *volume_id, struct ld_err *err)
{
    LD_AUTO(ld_image_done) struct ld_image image = {0};
    struct ld_mount_spec mount = {.type = LD_MOUNT_VOLUME,
                                  .source = (char[]){"data"},
                                  .target = (char[]){"/data"},
                                  .volume_id = (char *)volume_id};
    struct ld_container c = {.id = (char *)ld_test_id(number),
                             .name = (char *)name,
                             .image_id = (char *)image_id,
                             .driver = (char[]){"overlay"},
                             .mounts = &mount,
                             .n_mounts = volume_id ? 1 : 0};

    if (image_id)
        ld_test_ok(ld_store_image_get(store, image_id, &image, err), err);
    c.parent_sid = image.tip_sid;
    ld_test_ok(ld_store_take_sid(store, &c.upper_sid, err), err);
    return ld_store_container_add(store, &LD_WRITE_SELF, &c, err);
}

int ld_test_volume(struct ld_store *store, unsigned number, const char *name, struct ld_err *err)
{
    struct ld_volume v = {
        .id = (char *)ld_test_id(number), .name = (char *)name, .anonymous = name == NULL};

    ld_test_ok(ld_store_take_sid(store, &v.sid, err), err);
    return ld_store_volume_add(store, &LD_WRITE_SELF, &v, err);
}

char *ld_test_events(struct ld_store *store)
{
    LD_AUTO(ld_event_page_done) struct ld_event_page page = {0};
    autobuf struct ld_buf buf = LD_BUF_INIT(1 << 20);
    struct ld_event_query query = {.after = 0};
    struct ld_err err = LD_ERR_INIT;

    ld_test_ok(ld_store_flush(store, &err), &err);
    ld_test_ok(ld_store_event_list(store, &query, &page, &err), &err);
    for (size_t i = 0; i < page.n; i++)
        ld_buf_addf(&buf, "%s%s", i == 0 ? "" : " ", page.item[i].type);
    return ld_buf_take(&buf);
}
