/* Images and layers as JSON: see image_json.h. */
#include "api/image_json.h"

#include <stdlib.h>
#include <string.h>

#include <cjson/cJSON.h>

#include "api/json.h"
#include "daemon/base/mem.h"
#include "daemon/core/core.h"
#include "daemon/core/image.h"
#include "daemon/core/image_mount.h"
#include "daemon/image/oci.h"
#include "daemon/store/store.h"

/* What is shown of an image comes from its config and from its layers' rows. */
struct details {
    struct ld_oci_config config;
    struct ld_chain_sids chain;
    struct ld_layer *layer; /* topmost first, as the chain */
    size_t containers;
};

static void details_free(struct details **slot)
{
    struct details *d = *slot;

    if (!d)
        return;
    for (size_t i = 0; d->layer && i < d->chain.n; i++)
        ld_layer_done(&d->layer[i]);
    free(d->layer);
    ld_oci_config_done(&d->config);
    free(d);
    *slot = NULL;
}

static int load(struct ld_core *core, const struct ld_image *image, struct details **ret,
                struct ld_err *err)
{
    struct ld_store *store = ld_core_store(core);
    struct details *d LD_AUTO(details_free) = ld_new(struct details);
    struct ld_users users LD_AUTO(ld_users_done) = {.n = 0};

    if (ld_oci_config_parse(image->config, image->config_len, image->id, &d->config, err) < 0 ||
        ld_store_chain(store, image->tip_sid, &d->chain, err) < 0 ||
        ld_store_image_users(store, image->id, &users, err) < 0)
        return -1;
    d->containers = users.n;
    d->layer = ld_alloc0((d->chain.n + 1) * sizeof(*d->layer));
    for (size_t i = 0; i < d->chain.n; i++) {
        if (ld_store_layer_get(store, d->chain.sid[i], &d->layer[i], err) < 0)
            return -1;
    }
    *ret = ld_steal(&d);
    return 0;
}

static cJSON *strings(char *const *list)
{
    cJSON *json = cJSON_CreateArray();

    for (size_t i = 0; list && list[i]; i++)
        cJSON_AddItemToArray(json, ld_json_text(list[i]));
    return json;
}

static cJSON *strings_or_null(char *const *list)
{
    return list ? strings(list) : cJSON_CreateNull();
}

static cJSON *labels_json(const struct ld_oci_config *config)
{
    cJSON *json = cJSON_CreateObject();

    for (size_t i = 0; i < config->n_labels; i++)
        cJSON_AddItemToObject(json, config->labels[i].key, ld_json_text(config->labels[i].value));
    return json;
}

static cJSON *refs_json(const struct ld_image *image)
{
    cJSON *json = cJSON_CreateArray();

    for (size_t i = 0; i < image->n_refs; i++) {
        autofree char *shown = ld_image_short_ref(image->refs[i]);

        cJSON_AddItemToArray(json, ld_json_text(shown));
    }
    return json;
}

/* A config's time is text of its maker: shown only when it is one of ours' form. */
static cJSON *time_text(const char *text)
{
    size_t len = text ? strlen(text) : 0;
    bool is_utc = len >= 20 && len <= 30 && text[len - 1] == 'Z' && text[4] == '-' &&
                  text[7] == '-' && text[10] == 'T' && text[13] == ':' && text[16] == ':' &&
                  (len == 20 || text[19] == '.');

    for (size_t i = 0; is_utc && i + 1 < len; i++)
        is_utc = strchr("0123456789-T:.", text[i]) != NULL;
    return is_utc ? cJSON_CreateString(text) : cJSON_CreateNull();
}

static cJSON *summary(const struct ld_image *image, const struct details *d)
{
    cJSON *json = cJSON_CreateObject();
    const struct ld_oci_platform *p = &d->config.platform;
    uint64_t size = 0;

    for (size_t i = 0; i < d->chain.n; i++)
        size += d->layer[i].bytes;
    cJSON_AddStringToObject(json, "id", image->id);
    cJSON_AddItemToObject(json, "refs", refs_json(image));
    cJSON_AddItemToObject(json, "created", time_text(d->config.created));
    cJSON_AddItemToObject(json, "imported_at", ld_json_time(image->created_ns));
    cJSON_AddItemToObject(json, "size", ld_json_u64(size));
    cJSON_AddItemToObject(json, "architecture", ld_json_text(p->arch));
    cJSON_AddItemToObject(json, "os", ld_json_text(p->os));
    cJSON_AddItemToObject(json, "variant", ld_json_text(p->variant[0] ? p->variant : NULL));
    cJSON_AddItemToObject(json, "labels", labels_json(&d->config));
    cJSON_AddItemToObject(json, "layer_count", ld_json_u64(d->chain.n));
    cJSON_AddItemToObject(json, "containers", ld_json_u64(d->containers));
    cJSON_AddStringToObject(json, "state", d->chain.damaged ? "damaged" : "ok");
    cJSON_AddItemToObject(json, "version", ld_json_u64(image->version));
    return json;
}

struct cJSON *ld_image_summary_json(struct ld_core *core, const struct ld_image *image,
                                    struct ld_err *err)
{
    struct details *d LD_AUTO(details_free) = NULL;

    return load(core, image, &d, err) < 0 ? NULL : summary(image, d);
}

static cJSON *config_json(const struct ld_oci_config *c)
{
    cJSON *json = cJSON_CreateObject();

    cJSON_AddItemToObject(json, "entrypoint", strings_or_null(c->entrypoint));
    cJSON_AddItemToObject(json, "cmd", strings_or_null(c->cmd));
    cJSON_AddItemToObject(json, "env", strings(c->env));
    cJSON_AddItemToObject(json, "user", ld_json_text(c->user ? c->user : ""));
    cJSON_AddItemToObject(json, "working_dir", ld_json_text(c->workdir ? c->workdir : ""));
    cJSON_AddItemToObject(json, "volumes", strings(c->volumes));
    cJSON_AddItemToObject(json, "labels", labels_json(c));
    cJSON_AddItemToObject(json, "exposed_ports", strings(c->exposed_ports));
    cJSON_AddItemToObject(json, "stop_signal",
                          ld_json_text(c->stop_signal && *c->stop_signal ? c->stop_signal : NULL));
    return json;
}

static int is_shared(struct ld_core *core, ld_sid sid, bool *ret, struct ld_err *err)
{
    struct ld_users users LD_AUTO(ld_users_done) = {.n = 0};
    size_t images = 0;

    if (ld_store_layer_users(ld_core_store(core), sid, &users, err) < 0)
        return -1;
    for (size_t i = 0; i < users.n; i++)
        images += strcmp(users.item[i].kind, "image") == 0;
    *ret = images > 1;
    return 0;
}

/* What is kept of a layer as it came. */
static int add_blob(struct ld_core *core, ld_sid sid, cJSON *layer, uint64_t *ret_size,
                    struct ld_err *err)
{
    struct ld_kept_blob blob LD_AUTO(ld_kept_blob_done) = {.digest = NULL};
    struct ld_err why = LD_ERR_INIT;
    cJSON *json;

    if (ld_store_blob_get(ld_core_store(core), sid, &blob, &why) < 0) {
        if (why.code != LD_E_NOT_FOUND) {
            *err = why;
            return -1;
        }
        cJSON_AddNullToObject(layer, "blob");
        return 0;
    }
    json = cJSON_AddObjectToObject(layer, "blob");
    cJSON_AddItemToObject(json, "digest", ld_json_text(blob.digest));
    cJSON_AddItemToObject(json, "media_type", ld_json_text(blob.media_type));
    cJSON_AddItemToObject(json, "size", ld_json_u64(blob.size));
    *ret_size = blob.size;
    return 0;
}

static void add_mount(const struct ld_core *core, const struct ld_image *image, cJSON *json)
{
    autofree char *mountpoint = ld_image_mountpoint(core, image->id);
    autofree char *target = ld_image_target(core, image->id);

    cJSON_AddItemToObject(json, "mountpoint", ld_json_text(mountpoint));
    cJSON_AddItemToObject(json, "target", ld_json_text(target));
}

struct cJSON *ld_image_json(struct ld_core *core, const struct ld_image *image, struct ld_err *err)
{
    struct details *d LD_AUTO(details_free) = NULL;
    cJSON *json, *layers;
    uint64_t unique = 0, blobs = 0;

    if (load(core, image, &d, err) < 0)
        return NULL;
    json = summary(image, d);
    add_mount(core, image, json);
    layers = cJSON_AddArrayToObject(json, "layers");
    for (size_t i = 0; i < d->chain.n; i++) {
        const struct ld_layer *l = &d->layer[i];
        cJSON *item = cJSON_CreateObject();
        bool shared = false;
        uint64_t kept = 0;

        cJSON_AddItemToArray(layers, item);
        if (is_shared(core, l->sid, &shared, err) < 0 ||
            add_blob(core, l->sid, item, &kept, err) < 0) {
            cJSON_Delete(json);
            return NULL;
        }
        unique += shared ? 0 : l->bytes;
        blobs += kept;
        cJSON_AddItemToObject(item, "chain_id", ld_json_text(l->chain_id));
        cJSON_AddItemToObject(item, "diff_id", ld_json_text(l->diff_id));
        cJSON_AddItemToObject(item, "size", ld_json_u64(l->bytes));
        cJSON_AddBoolToObject(item, "shared", shared);
    }
    cJSON_AddItemToObject(json, "unique", ld_json_u64(unique));
    cJSON_AddItemToObject(json, "blobs", ld_json_u64(blobs));
    cJSON_AddItemToObject(
        json, "author",
        ld_json_text(d->config.author && *d->config.author ? d->config.author : NULL));
    cJSON_AddItemToObject(json, "config", config_json(&d->config));
    return json;
}

struct cJSON *ld_image_history_json(struct ld_core *core, const struct ld_image *image,
                                    struct ld_err *err)
{
    struct details *d LD_AUTO(details_free) = NULL;
    cJSON *json, *items;

    if (load(core, image, &d, err) < 0)
        return NULL;
    json = cJSON_CreateObject();
    items = cJSON_AddArrayToObject(json, "items");
    cJSON_AddNullToObject(json, "next");
    for (size_t i = d->config.n_history; i-- > 0;) {
        const struct ld_oci_history *h = &d->config.history[i];
        const struct ld_layer *l = h->layer < 0 || (size_t)h->layer >= d->chain.n
                                       ? NULL
                                       : &d->layer[d->chain.n - 1 - (size_t)h->layer];
        cJSON *item = cJSON_CreateObject();

        cJSON_AddItemToObject(item, "created", time_text(h->created));
        cJSON_AddItemToObject(item, "created_by", ld_json_text(h->created_by ? h->created_by : ""));
        cJSON_AddItemToObject(item, "author", ld_json_text(h->author ? h->author : ""));
        cJSON_AddItemToObject(item, "comment", ld_json_text(h->comment ? h->comment : ""));
        cJSON_AddBoolToObject(item, "empty_layer", l == NULL);
        cJSON_AddItemToObject(item, "chain_id", ld_json_text(l ? l->chain_id : NULL));
        cJSON_AddItemToObject(item, "size", ld_json_u64(l ? l->bytes : 0));
        cJSON_AddItemToArray(items, item);
    }
    return json;
}

struct cJSON *ld_layer_json(struct ld_core *core, const struct ld_layer *layer, bool with_users,
                            struct ld_err *err)
{
    struct ld_store *store = ld_core_store(core);
    struct ld_chain_sids *chain = ld_new(struct ld_chain_sids);
    struct ld_layer parent LD_AUTO(ld_layer_done) = {.sid = 0};
    struct ld_users users LD_AUTO(ld_users_done) = {.n = 0};
    size_t images = 0, containers = 0, depth;
    cJSON *json;
    int rc = ld_store_chain(store, layer->sid, chain, err);

    depth = chain->n;
    free(chain);
    if (rc < 0 ||
        (layer->parent_sid && ld_store_layer_get(store, layer->parent_sid, &parent, err) < 0) ||
        ld_store_layer_users(store, layer->sid, &users, err) < 0)
        return NULL;
    for (size_t i = 0; i < users.n; i++) {
        images += strcmp(users.item[i].kind, "image") == 0;
        containers += strcmp(users.item[i].kind, "container") == 0;
    }
    json = cJSON_CreateObject();
    cJSON_AddItemToObject(json, "chain_id", ld_json_text(layer->chain_id));
    cJSON_AddItemToObject(json, "diff_id", ld_json_text(layer->diff_id));
    cJSON_AddItemToObject(json, "parent", ld_json_text(parent.chain_id));
    cJSON_AddItemToObject(json, "depth", ld_json_u64(depth));
    cJSON_AddItemToObject(json, "size", ld_json_u64(layer->bytes));
    cJSON_AddItemToObject(json, "inodes", ld_json_u64(layer->inodes));
    cJSON_AddStringToObject(json, "origin", ld_origin_name(layer->origin));
    cJSON_AddStringToObject(json, "state", layer->damage ? "damaged" : "ok");
    cJSON_AddItemToObject(json, "reason", ld_json_text(layer->damage));
    cJSON_AddItemToObject(json, "created_at", ld_json_time(layer->created_ns));
    cJSON_AddItemToObject(json, "images", ld_json_u64(images));
    cJSON_AddItemToObject(json, "containers", ld_json_u64(containers));
    cJSON_AddItemToObject(json, "snapshots", ld_json_u64(users.n - images - containers));
    if (with_users)
        cJSON_AddItemToObject(json, "users", ld_json_users(&users));
    return json;
}
