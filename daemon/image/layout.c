/* Image archives: see layout.h. The size comes from the same code as the bytes: it writes the
 * archive with zeros for layers into a sink that counts. */
#include "daemon/image/layout.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include <cjson/cJSON.h>

#include "daemon/base/mem.h"
#include "daemon/image/ref.h"
#include "daemon/image/tarw.h"

static const char config_type[] = "application/vnd.oci.image.config.v1+json";
static const char manifest_type[] = "application/vnd.oci.image.manifest.v1+json";
static const char index_type[] = "application/vnd.oci.image.index.v1+json";

struct writer {
    const struct ld_layout *layout;
    struct ld_tarw *tar;
    bool is_dry;
};

/* ---- names in the archive ---- */

struct name {
    char text[96];
};

static struct name name_of(const struct writer *w, const struct ld_digest *digest,
                           const char *suffix)
{
    bool is_oci = w->layout->form == LD_LAYOUT_OCI;
    char text[LD_DIGEST_TEXT];
    struct name name;

    ld_digest_format(digest, text);
    (void)snprintf(name.text, sizeof(name.text), "%s%s%s", is_oci ? "blobs/sha256/" : "",
                   text + strlen("sha256:"), is_oci ? "" : suffix); /* 81 bytes at most */
    return name;
}

static struct name config_name(const struct writer *w, const struct ld_layout_image *image)
{
    return name_of(w, &image->id, ".json");
}

static struct name blob_name(const struct writer *w, size_t blob)
{
    return name_of(w, &w->layout->blobs[blob].digest, ".tar");
}

/* ---- entries ---- */

static int put_dir(struct writer *w, const char *name, struct ld_err *err)
{
    struct ld_tar_entry e = {.name = name, .linkname = "", .type = LD_TAR_DIR, .mode = 0755};

    return ld_tarw_entry(w->tar, &e, err);
}

static int begin_file(struct writer *w, const char *name, uint64_t size, struct ld_err *err)
{
    struct ld_tar_entry e = {
        .name = name, .linkname = "", .type = LD_TAR_FILE, .mode = 0644, .size = size};

    return ld_tarw_entry(w->tar, &e, err);
}

static int put_file(struct writer *w, const char *name, const void *data, size_t len,
                    struct ld_err *err)
{
    return begin_file(w, name, len, err) < 0 ? -1 : ld_tarw_data(w->tar, data, len, err);
}

/* Takes the JSON value. */
static int put_json(struct writer *w, const char *name, cJSON *json, struct ld_err *err)
{
    autofree char *text = cJSON_PrintUnformatted(json);

    cJSON_Delete(json);
    if (!text)
        return ld_err_set(err, LD_E_UNAVAILABLE, "out of memory");
    return put_file(w, name, text, strlen(text), err);
}

/* ---- documents ---- */

static void add_u64(cJSON *json, const char *name, uint64_t value)
{
    char text[24];

    (void)snprintf(text, sizeof(text), "%" PRIu64, value); /* a double would round it */
    (void)cJSON_AddRawToObject(json, name, text);
}

static cJSON *descriptor(const char *media_type, const struct ld_digest *digest, uint64_t size)
{
    cJSON *json = cJSON_CreateObject();
    char text[LD_DIGEST_TEXT];

    ld_digest_format(digest, text);
    (void)cJSON_AddStringToObject(json, "mediaType", media_type);
    (void)cJSON_AddStringToObject(json, "digest", text);
    add_u64(json, "size", size);
    return json;
}

/* The manifest of an image and what its descriptor says of it. */
struct manifest {
    char *text; /* owned */
    size_t len;
    const char *type;
    struct ld_digest digest;
};

static void manifest_done(struct manifest *m)
{
    ld_free_p(&m->text);
}

static char *render_manifest(const struct ld_layout *layout, const struct ld_layout_image *image)
{
    cJSON *json = cJSON_CreateObject();
    cJSON *layers;
    char *text;

    (void)cJSON_AddNumberToObject(json, "schemaVersion", 2);
    (void)cJSON_AddStringToObject(json, "mediaType", manifest_type);
    (void)cJSON_AddItemToObject(json, "config",
                                descriptor(config_type, &image->id, image->config_len));
    layers = cJSON_AddArrayToObject(json, "layers");
    for (size_t i = 0; i < image->n_layers; i++) {
        const struct ld_layout_blob *blob = &layout->blobs[image->layers[i]];

        (void)cJSON_AddItemToArray(layers,
                                   descriptor(LD_LAYER_MEDIA_TYPE, &blob->digest, blob->size));
    }
    text = cJSON_PrintUnformatted(json);
    cJSON_Delete(json);
    return text;
}

static int manifest_of(const struct ld_layout *layout, const struct ld_layout_image *image,
                       struct manifest *ret, struct ld_err *err)
{
    if (image->manifest)
        *ret =
            (struct manifest){.text = ld_memdup(image->manifest, image->manifest_len),
                              .len = image->manifest_len,
                              .type = image->manifest_type ? image->manifest_type : manifest_type};
    else
        *ret = (struct manifest){.text = render_manifest(layout, image), .type = manifest_type};
    if (!ret->text)
        return ld_err_set(err, LD_E_UNAVAILABLE, "out of memory");
    if (!image->manifest)
        ret->len = strlen(ret->text);
    ret->digest = ld_digest_of(ret->text, ret->len);
    return 0;
}

static const char *tag_of(const char *name)
{
    return strrchr(name, ':') + 1; /* a full reference has one */
}

static bool is_tag_of_several(const struct ld_layout *layout, const char *tag)
{
    size_t n = 0;

    for (size_t i = 0; i < layout->n_images; i++) {
        for (size_t j = 0; j < layout->images[i].n_names; j++)
            n += strcmp(tag_of(layout->images[i].names[j]), tag) == 0;
    }
    return n > 1;
}

/* Tools that choose an image of a layout by `ref.name` expect its tag there; where that would not
 * tell the images apart, it is the whole name. */
static cJSON *annotations(const struct ld_layout *layout, const char *name)
{
    cJSON *json = cJSON_CreateObject();
    const char *tag = tag_of(name);

    (void)cJSON_AddStringToObject(json, "io.containerd.image.name", name);
    (void)cJSON_AddStringToObject(json, "org.opencontainers.image.ref.name",
                                  is_tag_of_several(layout, tag) ? name : tag);
    return json;
}

static cJSON *platform_json(const struct ld_oci_platform *p)
{
    cJSON *json = cJSON_CreateObject();

    (void)cJSON_AddStringToObject(json, "architecture", p->arch);
    (void)cJSON_AddStringToObject(json, "os", p->os);
    if (p->variant[0])
        (void)cJSON_AddStringToObject(json, "variant", p->variant);
    return json;
}

/* Once for each name; an image without names is listed all the same. */
static void list_image(const struct ld_layout *layout, const struct ld_layout_image *image,
                       const struct manifest *manifest, cJSON *list)
{
    size_t i = 0;

    do {
        cJSON *json = descriptor(manifest->type, &manifest->digest, manifest->len);

        if (i < image->n_names)
            (void)cJSON_AddItemToObject(json, "annotations", annotations(layout, image->names[i]));
        if (image->platform.arch[0] && image->platform.os[0])
            (void)cJSON_AddItemToObject(json, "platform", platform_json(&image->platform));
        (void)cJSON_AddItemToArray(list, json);
    } while (++i < image->n_names);
}

static int put_index(struct writer *w, struct ld_err *err)
{
    cJSON *json = cJSON_CreateObject();
    cJSON *list;

    (void)cJSON_AddNumberToObject(json, "schemaVersion", 2);
    (void)cJSON_AddStringToObject(json, "mediaType", index_type);
    list = cJSON_AddArrayToObject(json, "manifests");
    for (size_t i = 0; i < w->layout->n_images; i++) {
        LD_AUTO(manifest_done) struct manifest m = {.text = NULL};

        if (manifest_of(w->layout, &w->layout->images[i], &m, err) < 0) {
            cJSON_Delete(json);
            return -1;
        }
        list_image(w->layout, &w->layout->images[i], &m, list);
    }
    return put_json(w, "index.json", json, err);
}

static cJSON *familiar_name(const char *name)
{
    struct ld_err ignored = LD_ERR_INIT;
    char text[LD_REFERENCE_TEXT];
    struct ld_reference ref;

    if (ld_reference_parse(name, &ref, &ignored) < 0)
        return cJSON_CreateString(name);
    ld_reference_familiar(&ref, text);
    return cJSON_CreateString(text);
}

static int put_docker_manifest(struct writer *w, struct ld_err *err)
{
    cJSON *json = cJSON_CreateArray();

    for (size_t i = 0; i < w->layout->n_images; i++) {
        const struct ld_layout_image *image = &w->layout->images[i];
        cJSON *item = cJSON_CreateObject();
        cJSON *list;

        (void)cJSON_AddItemToArray(json, item);
        (void)cJSON_AddStringToObject(item, "Config", config_name(w, image).text);
        list = cJSON_AddArrayToObject(item, "RepoTags");
        for (size_t j = 0; j < image->n_names; j++)
            (void)cJSON_AddItemToArray(list, familiar_name(image->names[j]));
        list = cJSON_AddArrayToObject(item, "Layers");
        for (size_t j = 0; j < image->n_layers; j++)
            (void)cJSON_AddItemToArray(list,
                                       cJSON_CreateString(blob_name(w, image->layers[j]).text));
    }
    return put_json(w, "manifest.json", json, err);
}

static int put_image(struct writer *w, const struct ld_layout_image *image, struct ld_err *err)
{
    LD_AUTO(manifest_done) struct manifest m = {.text = NULL};

    if (w->layout->form == LD_LAYOUT_OCI &&
        (manifest_of(w->layout, image, &m, err) < 0 ||
         put_file(w, name_of(w, &m.digest, "").text, m.text, m.len, err) < 0))
        return -1;
    return put_file(w, config_name(w, image).text, image->config, image->config_len, err);
}

/* ---- layers ---- */

/* The content of the present entry as a sink. Its last bytes are held back until whoever writes it
 * says that all of it was right: what is cut off by a damaged layer ends inside an entry, which no
 * reader takes for an archive's end. */
enum { HELD_BACK = 512 };

struct content {
    struct ld_sink base;
    struct ld_tarw *tar;
    uint64_t left;
    size_t n_held;
    char held[HELD_BACK];
};

static int content_write(struct ld_sink *sink, const void *data, size_t len, struct ld_err *err)
{
    struct content *c = (struct content *)sink;
    uint64_t free_part = c->left > HELD_BACK ? c->left - HELD_BACK : 0;
    size_t now = len < free_part ? len : (size_t)free_part;

    if (len > c->left)
        return ld_err_set(err, LD_E_CORRUPT, "a layer is longer than it should be");
    if (now && ld_tarw_data(c->tar, data, now, err) < 0)
        return -1;
    if (len > now)
        memcpy(c->held + c->n_held, (const char *)data + now, len - now);
    c->n_held += len - now;
    c->left -= len;
    return 0;
}

static int put_blob(struct writer *w, size_t blob, struct ld_err *err)
{
    static const struct ld_sink_ops ops = {.write = content_write};
    const struct ld_layout *layout = w->layout;
    uint64_t size = layout->blobs[blob].size;
    struct content content = {.base.ops = &ops, .tar = w->tar, .left = size};

    if (begin_file(w, blob_name(w, blob).text, size, err) < 0)
        return -1;
    if ((w->is_dry ? ld_sink_zeros(&content.base, size, err)
                   : layout->write_blob(layout->arg, blob, &content.base, err)) < 0)
        return -1;
    if (content.left)
        return ld_err_set(err, LD_E_CORRUPT, "a layer is shorter than it should be");
    return ld_tarw_data(w->tar, content.held, content.n_held, err);
}

/* ---- the archive ---- */

static int put_oci_head(struct writer *w, struct ld_err *err)
{
    static const char version[] = "{\"imageLayoutVersion\":\"1.0.0\"}";

    return put_file(w, "oci-layout", version, strlen(version), err) < 0 || put_index(w, err) < 0 ||
                   put_docker_manifest(w, err) < 0 || put_dir(w, "blobs", err) < 0 ||
                   put_dir(w, "blobs/sha256", err) < 0
               ? -1
               : 0;
}

static int put_all(struct writer *w, struct ld_err *err)
{
    const struct ld_layout *layout = w->layout;

    if ((layout->form == LD_LAYOUT_OCI ? put_oci_head(w, err) : put_docker_manifest(w, err)) < 0)
        return -1;
    for (size_t i = 0; i < layout->n_images; i++) {
        if (put_image(w, &layout->images[i], err) < 0)
            return -1;
    }
    for (size_t i = 0; i < layout->n_blobs; i++) {
        if (put_blob(w, i, err) < 0)
            return -1;
    }
    return ld_tarw_finish(w->tar, err);
}

int ld_layout_write(const struct ld_layout *layout, struct ld_sink *sink, struct ld_err *err)
{
    auto_tarw *tar = ld_tarw_new(sink, NULL);
    struct writer w = {.layout = layout, .tar = tar};

    return put_all(&w, err);
}

int ld_layout_size(const struct ld_layout *layout, uint64_t *ret, struct ld_err *err)
{
    auto_sink *count = ld_sink_count_new();
    auto_tarw *tar = ld_tarw_new(count, NULL);
    struct writer w = {.layout = layout, .tar = tar, .is_dry = true};

    if (put_all(&w, err) < 0)
        return -1;
    *ret = ld_sink_count(count);
    return 0;
}
