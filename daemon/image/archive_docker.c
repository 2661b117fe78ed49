/* Docker archives: see archive.h. manifest.json lists images by paths in the archive; those are
 * looked up among its entries and mean nothing else. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cjson/cJSON.h>

#include "daemon/base/err.h"
#include "daemon/base/mem.h"
#include "daemon/base/parse.h"
#include "daemon/base/sid.h"
#include "daemon/image/archive_impl.h"
#include "daemon/image/doc.h"

static const char document[] = "manifest.json";

/* The digest a path promises for the blob it names: "blobs/sha256/HEX" of newer engines. */
static bool digest_of_blob_path(const char *path, struct ld_digest *ret)
{
    static const char prefix[] = "blobs/sha256/";
    char text[LD_DIGEST_TEXT] = "sha256:";

    if (strncmp(path, prefix, strlen(prefix)) != 0 || !ld_is_hex(path + strlen(prefix), 64))
        return false;
    memcpy(text + strlen(text), path + strlen(prefix), 65);
    return ld_digest_parse(text, ret) == 0;
}

/* The same for a config, which has also been called "HEX.json" and "sha256:HEX". */
static bool digest_of_config_path(const char *path, struct ld_digest *ret)
{
    char text[LD_DIGEST_TEXT] = "sha256:";
    const char *hex = strncmp(path, "sha256:", 7) == 0 ? path + 7 : path;

    if (digest_of_blob_path(path, ret))
        return true;
    if (strlen(hex) != 64 && !(strlen(hex) == 64 + 5 && strcmp(hex + 64, ".json") == 0))
        return false;
    memcpy(text + 7, hex, 64);
    text[7 + 64] = '\0';
    return ld_digest_parse(text, ret) == 0;
}

static int locate_layers(struct ld_archive *a, struct ld_archive_image *image, char *const *paths,
                         struct ld_err *err)
{
    for (size_t i = 0; i < image->n_layers; i++) {
        struct ld_archive_layer *layer = &image->layers[i];

        if (ld_archive_index_find(a->index, paths[i], &layer->span, err) < 0)
            return -1;
        layer->has_blob = digest_of_blob_path(paths[i], &layer->blob);
    }
    return 0;
}

static int add_tags(struct ld_archive *a, struct ld_archive_image *image, char *const *tags,
                    struct ld_err *err)
{
    for (size_t i = 0; tags && tags[i]; i++) {
        struct ld_err why = LD_ERR_INIT;
        struct ld_reference ref;

        if (ld_reference_parse(tags[i], &ref, &why) < 0)
            return ld_err_set(err, LD_E_BAD_CONTENT, "RepoTags: %.400s", why.message);
        if (ref.digest[0])
            return ld_err_set(err, LD_E_BAD_CONTENT, "RepoTags: '%.200s' is a digest, not a tag",
                              tags[i]);
        if (ld_archive_add_name(a, image, &ref, err) < 0)
            return -1;
    }
    return 0;
}

/* What one item of manifest.json says. */
struct item {
    const char *config; /* borrowed from the document */
    char **tags;
    char **layers;
};

static void item_done(struct item *item)
{
    ld_strv_free_p(&item->tags);
    ld_strv_free_p(&item->layers);
}

static int add_image(struct ld_archive *a, const struct item *item, struct ld_err *err)
{
    struct ld_archive_image *image = NULL;
    autofree char *config = NULL;
    struct ld_archive_span span;
    struct ld_digest id, promised;
    bool is_new = false;

    if (ld_archive_document(a, item->config, &span, &config, err) < 0)
        return -1;
    id = ld_digest_of(config, (size_t)span.size);
    if (digest_of_config_path(item->config, &promised) && !ld_digest_equal(&id, &promised))
        return ld_err_set(err, LD_E_BAD_CONTENT,
                          "'%.200s' in the archive has not the digest of its "
                          "name",
                          item->config);
    if (ld_archive_image_of(a, &id, &image, &is_new, err) < 0)
        return -1;
    if (is_new) {
        image->config = span;
        if (ld_archive_use_config(a, image, config, ld_strv_len(item->layers), err) < 0 ||
            locate_layers(a, image, item->layers, err) < 0)
            return -1;
    }
    return add_tags(a, image, item->tags, err);
}

static int add_item(struct ld_archive *a, const cJSON *json, const char *what, struct ld_err *err)
{
    struct ld_doc_reader r = {.what = what, .err = err};
    LD_AUTO(item_done) struct item item = {0};

    if (!cJSON_IsObject(json))
        return ld_err_set(err, LD_E_BAD_CONTENT, "%s is not an object", what);
    if (ld_doc_string(&r, json, "Config", true, &item.config) < 0 ||
        ld_doc_strings(&r, json, "RepoTags", &item.tags) < 0 ||
        ld_doc_strings(&r, json, "Layers", &item.layers) < 0)
        return -1;
    if (ld_strv_len(item.layers) > LD_MAX_LAYERS)
        return ld_err_over_limit(err, "image_layers", LD_MAX_LAYERS, "%s has %zu layers", what,
                                 ld_strv_len(item.layers));
    return add_image(a, &item, err) < 0 ? ld_err_prefix(err, "%s", what) : 0;
}

static int read_items(struct ld_archive *a, struct ld_err *err)
{
    LD_AUTO(ld_doc_free_p) cJSON *json = NULL;
    autofree char *text = NULL;
    struct ld_archive_span span;
    const cJSON *item;
    size_t n = 0;

    if (ld_archive_document(a, document, &span, &text, err) < 0 ||
        ld_doc_parse(text, (size_t)span.size, document, &json, err) < 0)
        return -1;
    if (!cJSON_IsArray(json))
        return ld_err_set(err, LD_E_BAD_CONTENT, "%s is not a JSON array", document);
    cJSON_ArrayForEach (item, json) {
        char what[64];

        (void)snprintf(what, sizeof(what), "%s[%zu]", document, n++);
        if (add_item(a, item, what, err) < 0)
            return -1;
    }
    return 0;
}

int ld_archive_read_docker(struct ld_archive *a, struct ld_err *err)
{
    if (read_items(a, err) == 0)
        return 0;
    if (a->format == LD_ARCHIVE_DOCKER && !err->hint[0])
        (void)ld_err_hint(err, "a root file system that has a manifest.json of its own needs "
                               "format=rootfs");
    return -1;
}
