/* Exporting images: see image_export.h.
 *
 * Layers are known by the digests of what is written here: images that share one, on whatever
 * chain, write it once. Everything is in memory before the first byte is written, but the layers
 * themselves. */
#include "daemon/core/image_export.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/base/mem.h"
#include "daemon/base/table.h"
#include "daemon/core/image.h"
#include "daemon/core/layer_blob.h"
#include "daemon/core/layer_tar.h"
#include "daemon/core/stack.h"
#include "daemon/core/state.h"
#include "daemon/core/tarout.h"
#include "daemon/image/layout.h"
#include "daemon/image/ref.h"

enum { MAX_DOCUMENTS = 64 << 20 }; /* bytes of configs and manifests in one export */

/* Where the bytes of a blob of the layout come from: the layer's recipe (then digest and diff ID
 * are the same), or what was kept of it. */
struct origin {
    struct ld_digest digest, diff_id;
    ld_sid sid;
    size_t index; /* of the blob */
    UT_hash_handle hh;
};

struct item {
    struct ld_image image;
    struct ld_stack stack; /* pinned, not open */
    struct ld_oci_config config;
    struct ld_oci_manifest manifest; /* as it came */
    bool as_came;                    /* it goes out with that manifest */
    size_t *layers;                  /* indexes of blobs, lowest first */
    char **names;                    /* as they were asked for; borrowed by the layout */
    size_t n_names, cap_names;
};

struct ld_image_export {
    struct ld_core *core;
    enum ld_export_format format;
    bool as_came;
    struct item **items;
    size_t n_items, cap_items;
    size_t document_bytes;
    struct ld_layout_blob *blobs;
    struct origin **origins; /* of blobs, by index */
    size_t n_blobs, cap_blobs, cap_origins;
    struct origin *by_digest;
    struct ld_layout_image *images;
    struct ld_layout layout;
    uint64_t size;
    const bool *cancel; /* while it writes */
};

int ld_export_format_parse(const char *text, enum ld_export_format *ret)
{
    static const char *const names[] = {
        [LD_EXPORT_OCI] = "oci", [LD_EXPORT_DOCKER] = "docker", [LD_EXPORT_ROOTFS] = "rootfs"};

    for (size_t i = 0; i < LD_ARRAY_LEN(names); i++) {
        if (strcmp(names[i], text) == 0) {
            *ret = (enum ld_export_format)i;
            return 0;
        }
    }
    return -EINVAL;
}

static void item_free(struct item *item)
{
    ld_stack_done(&item->stack);
    for (size_t i = 0; i < item->n_names; i++)
        free(item->names[i]);
    free(item->names);
    free(item->layers);
    ld_oci_config_done(&item->config);
    ld_oci_manifest_done(&item->manifest);
    ld_image_done(&item->image);
    free(item);
}

void ld_image_export_free(struct ld_image_export *e)
{
    if (!e)
        return;
    HASH_CLEAR(hh, e->by_digest);
    for (size_t i = 0; i < e->n_blobs; i++)
        free(e->origins[i]);
    for (size_t i = 0; i < e->n_items; i++)
        item_free(e->items[i]);
    free(e->origins);
    free(e->blobs);
    free(e->images);
    free(e->items);
    free(e);
}

static void export_free_p(struct ld_image_export **e)
{
    ld_image_export_free(*e);
    *e = NULL;
}

/* ---- the images ---- */

/* The full name when the image was named by a reference; NULL when by its id. */
static char *name_asked_for(const struct ld_image *image, const char *text)
{
    struct ld_err ignored = LD_ERR_INIT;
    char full[LD_REFERENCE_TEXT];
    struct ld_reference ref;

    if (ld_reference_parse(text, &ref, &ignored) < 0)
        return NULL;
    ld_reference_format(&ref, full);
    for (size_t i = 0; i < image->n_refs; i++) {
        if (strcmp(image->refs[i], full) == 0)
            return ld_strdup(full);
    }
    return NULL;
}

static void add_name(struct item *item, const char *text)
{
    autofree char *name = name_asked_for(&item->image, text);

    for (size_t i = 0; name && i < item->n_names; i++) {
        if (strcmp(item->names[i], name) == 0)
            return;
    }
    if (!name)
        return;
    ld_grow(&item->names, &item->cap_names, item->n_names + 1, sizeof(*item->names));
    item->names[item->n_names++] = ld_steal(&name);
}

static struct item *find_item(const struct ld_image_export *e, const char *id)
{
    for (size_t i = 0; i < e->n_items; i++) {
        if (strcmp(e->items[i]->image.id, id) == 0)
            return e->items[i];
    }
    return NULL;
}

static int add_item(struct ld_image_export *e, struct ld_image *image, struct item **ret,
                    struct ld_err *err)
{
    struct item *item = ld_new(struct item);

    item->image = *image;
    *image = (struct ld_image){.id = NULL};
    ld_grow(&e->items, &e->cap_items, e->n_items + 1, sizeof(struct item *));
    e->items[e->n_items++] = item;
    e->document_bytes += item->image.config_len + item->image.manifest_len;
    if (e->document_bytes > MAX_DOCUMENTS)
        return ld_err_set(err, LD_E_INVALID,
                          "the configs of these images have more than %d bytes together",
                          MAX_DOCUMENTS);
    if (ld_stack_pin(e->core, item->image.tip_sid, &item->stack, err) < 0) {
        if (err->code == LD_E_NOT_FOUND) /* a layer's: say what the user knows */
            return ld_err_set(err, LD_E_NOT_FOUND, "image %s was removed meanwhile",
                              item->image.id);
        return ld_err_prefix(err, "image %.19s", item->image.id);
    }
    *ret = item;
    return 0;
}

static int find_images(struct ld_image_export *e, const char *const *images, size_t n,
                       struct ld_err *err)
{
    for (size_t i = 0; i < n; i++) {
        struct ld_image image LD_AUTO(ld_image_done) = {.id = NULL};
        struct item *item;

        if (ld_image_find(e->core, images[i], &image, err) < 0)
            return -1;
        item = find_item(e, image.id);
        if (!item && add_item(e, &image, &item, err) < 0)
            return -1;
        add_name(item, images[i]);
    }
    if (e->format == LD_EXPORT_ROOTFS && e->n_items > 1)
        return ld_err_set(err, LD_E_INVALID, "format=rootfs is for one image, not for %zu",
                          e->n_items);
    return 0;
}

/* ---- their layers ---- */

/* `kept` NULL: its tar. */
static int add_blob(struct ld_image_export *e, ld_sid sid, const struct ld_digest *diff_id,
                    const struct ld_oci_descriptor *kept, size_t *ret, struct ld_err *err)
{
    struct ld_layout_blob blob = {.digest = kept ? kept->digest : *diff_id,
                                  .size = kept ? kept->size : 0};
    struct origin *origin;

    HASH_FIND(hh, e->by_digest, &blob.digest, sizeof(blob.digest), origin);
    if (origin) {
        *ret = origin->index;
        return 0;
    }
    if (!kept && ld_layer_tar_size(e->core, sid, diff_id, &blob.size, err) < 0)
        return -1;
    ld_grow(&e->blobs, &e->cap_blobs, e->n_blobs + 1, sizeof(*e->blobs));
    ld_grow(&e->origins, &e->cap_origins, e->n_blobs + 1, sizeof(struct origin *));
    origin = ld_new(struct origin);
    *origin = (struct origin){
        .digest = blob.digest, .diff_id = *diff_id, .sid = sid, .index = e->n_blobs};
    HASH_ADD(hh, e->by_digest, digest, sizeof(origin->digest), origin);
    e->blobs[e->n_blobs] = blob;
    e->origins[e->n_blobs] = origin;
    *ret = e->n_blobs++;
    return 0;
}

/* The config says which layers the image has; the records have to agree. */
static int add_layer(struct ld_image_export *e, struct item *item, size_t at, struct ld_err *err)
{
    struct ld_layer layer LD_AUTO(ld_layer_done) = {.sid = 0};
    const struct ld_digest *diff_id = &item->config.diff_ids[at];
    const struct ld_oci_descriptor *came = item->as_came ? &item->manifest.layers[at] : NULL;
    ld_sid sid = item->stack.chain.sid[item->stack.chain.n - 1 - at];
    char text[LD_DIGEST_TEXT];

    if (ld_store_layer_get(e->core->store, sid, &layer, err) < 0)
        return -1;
    ld_digest_format(diff_id, text);
    if (!layer.diff_id || strcmp(layer.diff_id, text) != 0)
        return ld_err_set(err, LD_E_CORRUPT, "image %s: layer %zu has the diff ID %s, not %s",
                          item->image.id, at, layer.diff_id ? layer.diff_id : "none", text);
    if (came && ld_digest_equal(&came->digest, diff_id))
        came = NULL;
    return add_blob(e, sid, diff_id, came, &item->layers[at], err);
}

/* Can the layer be given as the manifest has it? */
static bool is_at_hand(const struct ld_image_export *e, const struct item *item, size_t at)
{
    const struct ld_oci_descriptor *came = &item->manifest.layers[at];
    const struct ld_digest *diff_id = &item->config.diff_ids[at];
    ld_sid sid = item->stack.chain.sid[item->stack.chain.n - 1 - at];
    struct ld_err ignored = LD_ERR_INIT;
    uint64_t size = 0;

    if (ld_digest_equal(&came->digest, diff_id))
        return ld_layer_tar_size(e->core, sid, diff_id, &size, &ignored) == 0 && size == came->size;
    return ld_layer_blob_is(e->core, sid, &came->digest, came->size);
}

/* The manifest goes out as it came when all that it names can be given; else all layers are plain.
 */
static bool can_go_as_it_came(const struct ld_image_export *e, struct item *item)
{
    const struct ld_image *image = &item->image;
    struct ld_err ignored = LD_ERR_INIT;
    char text[LD_DIGEST_TEXT];

    if (!e->as_came || e->format != LD_EXPORT_OCI || !image->manifest ||
        ld_oci_manifest_parse(image->manifest, image->manifest_len, image->id, &item->manifest,
                              &ignored) < 0)
        return false;
    ld_digest_format(&item->manifest.config.digest, text);
    if (strcmp(text, image->id) != 0 || item->manifest.config.size != image->config_len ||
        item->manifest.n_layers != item->stack.chain.n)
        return false;
    for (size_t i = 0; i < item->stack.chain.n; i++) {
        if (!is_at_hand(e, item, i))
            return false;
    }
    return true;
}

static int add_layers(struct ld_image_export *e, struct item *item, struct ld_err *err)
{
    const struct ld_image *image = &item->image;

    if (ld_oci_config_parse(image->config, image->config_len, image->id, &item->config, err) < 0) {
        err->code = LD_E_CORRUPT; /* it was read once */
        return -1;
    }
    if (item->config.n_layers != item->stack.chain.n)
        return ld_err_set(err, LD_E_CORRUPT, "image %s: its config names %zu layers, it has %zu",
                          image->id, item->config.n_layers, item->stack.chain.n);
    item->as_came = can_go_as_it_came(e, item);
    item->layers = ld_alloc0((item->stack.chain.n + 1) * sizeof(*item->layers));
    for (size_t i = 0; i < item->stack.chain.n; i++) {
        if (add_layer(e, item, i, err) < 0)
            return -1;
    }
    return 0;
}

/* ---- the archive ---- */

static int write_blob(void *arg, size_t blob, struct ld_sink *sink, struct ld_err *err)
{
    struct ld_image_export *e = arg;
    const struct origin *origin = e->origins[blob];

    return ld_digest_equal(&origin->digest, &origin->diff_id)
               ? ld_layer_write_tar(e->core, origin->sid, &origin->diff_id, sink, e->cancel, err)
               : ld_layer_write_blob(e->core, origin->sid, &origin->digest, sink, e->cancel, err);
}

static int describe(struct ld_image_export *e, struct ld_err *err)
{
    e->images = ld_alloc0(e->n_items * sizeof(*e->images));
    for (size_t i = 0; i < e->n_items; i++) {
        struct item *item = e->items[i];
        struct ld_layout_image *image = &e->images[i];

        if (add_layers(e, item, err) < 0)
            return -1;
        *image = (struct ld_layout_image){.config = item->image.config,
                                          .config_len = item->image.config_len,
                                          .platform = item->config.platform,
                                          .layers = item->layers,
                                          .n_layers = item->stack.chain.n,
                                          .names = item->names,
                                          .n_names = item->n_names};
        if (item->as_came) {
            image->manifest = item->image.manifest;
            image->manifest_len = item->image.manifest_len;
            image->manifest_type = item->image.media_type; /* NULL: the usual one */
        }
        if (ld_digest_parse(item->image.id, &image->id) < 0)
            return ld_err_set(err, LD_E_CORRUPT, "'%s' is no image id", item->image.id);
    }
    e->layout =
        (struct ld_layout){.form = e->format == LD_EXPORT_DOCKER ? LD_LAYOUT_DOCKER : LD_LAYOUT_OCI,
                           .images = e->images,
                           .n_images = e->n_items,
                           .blobs = e->blobs,
                           .n_blobs = e->n_blobs,
                           .write_blob = write_blob,
                           .arg = e};
    return ld_layout_size(&e->layout, &e->size, err);
}

int ld_image_export_open(struct ld_core *core, const char *const *images, size_t n,
                         const struct ld_image_export_options *options,
                         struct ld_image_export **ret, struct ld_err *err)
{
    struct ld_image_export *e LD_AUTO(export_free_p) = ld_new(struct ld_image_export);

    e->core = core;
    e->format = options->format;
    e->as_came = !options->is_plain;
    if (find_images(e, images, n, err) < 0 ||
        (e->format != LD_EXPORT_ROOTFS && describe(e, err) < 0))
        return -1;
    *ret = ld_steal(&e);
    return 0;
}

uint64_t ld_image_export_size(const struct ld_image_export *e)
{
    return e->size;
}

/* ---- the root ---- */

static int write_root(struct ld_image_export *e, struct ld_sink *sink, const bool *cancel,
                      struct ld_err *err)
{
    struct ld_stack *stack = &e->items[0]->stack;

    if (ld_stack_open(stack, err) < 0)
        return -1;
    return ld_tarout_tree(&stack->layers, sink, cancel, err);
}

int ld_image_export_write(struct ld_image_export *e, struct ld_sink *sink, const bool *cancel,
                          struct ld_err *err)
{
    e->cancel = cancel;
    return e->format == LD_EXPORT_ROOTFS ? write_root(e, sink, cancel, err)
                                         : ld_layout_write(&e->layout, sink, err);
}
