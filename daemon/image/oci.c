/* Index and manifest documents: see oci.h. Reading order is fixed so that a malformed document
 * gives the same message everywhere: kind, then entries from the first to the last. */
#include "daemon/image/oci.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cjson/cJSON.h>

#include "daemon/base/err.h"
#include "daemon/base/mem.h"
#include "daemon/base/sid.h"
#include "daemon/image/doc.h"

static const struct {
    const char *media_type;
    enum ld_oci_kind kind;
} kinds[] = {
    {"application/vnd.oci.image.index.v1+json", LD_OCI_INDEX},
    {"application/vnd.docker.distribution.manifest.list.v2+json", LD_OCI_INDEX},
    {"application/vnd.oci.image.manifest.v1+json", LD_OCI_MANIFEST},
    {"application/vnd.docker.distribution.manifest.v2+json", LD_OCI_MANIFEST},
    {"application/vnd.oci.artifact.manifest.v1+json", LD_OCI_ARTIFACT},
};

/* Docker's first schema 2 manifests gave the config no type of its own. */
static const char *const config_types[] = {
    "application/vnd.oci.image.config.v1+json",
    "application/vnd.docker.container.image.v1+json",
    "application/octet-stream",
    "",
};

static enum ld_oci_kind kind_of_type(const char *media_type)
{
    for (size_t i = 0; media_type && i < LD_ARRAY_LEN(kinds); i++) {
        if (strcmp(media_type, kinds[i].media_type) == 0)
            return kinds[i].kind;
    }
    return LD_OCI_UNKNOWN;
}

enum ld_oci_layer_kind ld_oci_layer_kind_of(const char *media_type)
{
    size_t len = strlen(media_type);
    static const char encrypted[] = "+encrypted";

    if (len >= strlen(encrypted) && strcmp(media_type + len - strlen(encrypted), encrypted) == 0)
        return LD_OCI_LAYER_ENCRYPTED;
    if (strstr(media_type, ".foreign.") || strstr(media_type, ".nondistributable."))
        return LD_OCI_LAYER_FOREIGN;
    return LD_OCI_LAYER_PLAIN;
}

static void descriptor_done(struct ld_oci_descriptor *d)
{
    free(d->media_type);
    free(d->ref_name);
    free(d->image_name);
    *d = (struct ld_oci_descriptor){0};
}

static int copy_field(const struct ld_doc_reader *r, const cJSON *from, const char *name, char *to,
                      size_t size)
{
    const char *text;

    if (ld_doc_string(r, from, name, false, &text) < 0)
        return -1;
    if (text && strlen(text) >= size)
        return ld_err_set(r->err, LD_E_BAD_CONTENT, "%s: '%s' is longer than %zu bytes", r->what,
                          name, size - 1);
    (void)snprintf(to, size, "%s", text ? text : "");
    return 0;
}

static int read_platform(const struct ld_doc_reader *r, const cJSON *from,
                         struct ld_oci_platform *ret)
{
    if (copy_field(r, from, "os", ret->os, sizeof(ret->os)) < 0 ||
        copy_field(r, from, "architecture", ret->arch, sizeof(ret->arch)) < 0 ||
        copy_field(r, from, "variant", ret->variant, sizeof(ret->variant)) < 0)
        return -1;
    return 0;
}

static char *dup_or_null(const char *text)
{
    return text ? ld_strdup(text) : NULL;
}

static int read_annotations(const struct ld_doc_reader *r, const cJSON *from,
                            struct ld_oci_descriptor *d)
{
    const char *ref_name;
    const char *image_name;
    const char *type;
    const cJSON *notes;

    if (ld_doc_object(r, from, "annotations", false, &notes) < 0)
        return -1;
    if (!notes)
        return 0;
    if (ld_doc_string(r, notes, "org.opencontainers.image.ref.name", false, &ref_name) < 0 ||
        ld_doc_string(r, notes, "io.containerd.image.name", false, &image_name) < 0 ||
        ld_doc_string(r, notes, "vnd.docker.reference.type", false, &type) < 0)
        return -1;
    d->ref_name = dup_or_null(ref_name);
    d->image_name = dup_or_null(image_name);
    d->is_attestation = type && strcmp(type, "attestation-manifest") == 0;
    return 0;
}

static int read_digest(const struct ld_doc_reader *r, const char *text, struct ld_digest *ret)
{
    int rc = ld_digest_parse(text, ret);

    if (rc == -EOPNOTSUPP)
        return ld_err_set(r->err, LD_E_BAD_CONTENT,
                          "%s: digest '%.100s' is not of sha256, which is "
                          "all that is supported",
                          r->what, text);
    if (rc < 0)
        return ld_err_set(r->err, LD_E_BAD_CONTENT, "%s: '%.100s' is not a digest", r->what, text);
    return 0;
}

/* Fills *d, which the caller frees whatever happens. */
static int read_descriptor(const struct ld_doc_reader *r, const cJSON *from,
                           struct ld_oci_descriptor *d)
{
    const cJSON *platform;
    const char *media_type;
    const char *digest;

    if (!cJSON_IsObject(from))
        return ld_err_set(r->err, LD_E_BAD_CONTENT, "%s is not an object", r->what);
    if (ld_doc_string(r, from, "mediaType", false, &media_type) < 0 ||
        ld_doc_string(r, from, "digest", true, &digest) < 0 ||
        ld_doc_u64(r, from, "size", true, &d->size) < 0 ||
        ld_doc_object(r, from, "platform", false, &platform) < 0)
        return -1;
    if (read_digest(r, digest, &d->digest) < 0)
        return -1;
    d->media_type = ld_strdup(media_type ? media_type : "");
    d->has_platform = platform != NULL;
    if (platform && read_platform(r, platform, &d->platform) < 0)
        return -1;
    return read_annotations(r, from, d);
}

/* The entries of an array of descriptors, into *ret (freed by the caller whatever happens). */
static int read_descriptors(const struct ld_doc_reader *r, const cJSON *from, const char *name,
                            struct ld_oci_descriptor **ret, size_t *ret_n)
{
    const cJSON *array = NULL;
    const cJSON *item = NULL;
    size_t cap = 0;

    if (ld_doc_array(r, from, name, true, &array) < 0)
        return -1;
    cJSON_ArrayForEach (item, array) {
        char what[256];
        struct ld_doc_reader sub = {.what = what, .err = r->err};

        (void)snprintf(what, sizeof(what), "%.200s: %s[%zu]", r->what, name, *ret_n); /* or cut */
        ld_grow(ret, &cap, *ret_n + 1, sizeof(**ret));
        if (read_descriptor(&sub, item, &(*ret)[(*ret_n)++]) < 0)
            return -1;
    }
    return 0;
}

/* A manifest says by its config what it is of. */
static int kind_of_manifest(const struct ld_doc_reader *r, const cJSON *json, enum ld_oci_kind *ret)
{
    const cJSON *config;
    const char *type;

    if (ld_doc_object(r, json, "config", true, &config) < 0 ||
        ld_doc_string(r, config, "mediaType", false, &type) < 0)
        return -1;
    *ret = LD_OCI_ARTIFACT;
    for (size_t i = 0; i < LD_ARRAY_LEN(config_types); i++) {
        if (strcmp(type ? type : "", config_types[i]) == 0)
            *ret = LD_OCI_MANIFEST;
    }
    return 0;
}

static int refuse_schema1(const struct ld_doc_reader *r)
{
    (void)ld_err_set(r->err, LD_E_BAD_CONTENT, "%s: a Docker manifest of schema 1 is not supported",
                     r->what);
    return ld_err_hint(r->err,
                       "convert the image: skopeo copy --format v2s2, or push and pull it again "
                       "with a current tool");
}

/* A type that is known must be that of the content: the same bytes read as an index by one reader
 * and as a manifest by another are two images under one digest. */
static int check_type(const struct ld_doc_reader *r, const char *media_type, enum ld_oci_kind kind)
{
    enum ld_oci_kind said = kind_of_type(media_type);

    if (said == LD_OCI_UNKNOWN || said == kind ||
        (said == LD_OCI_MANIFEST && kind == LD_OCI_ARTIFACT))
        return 0;
    return ld_err_set(r->err, LD_E_BAD_CONTENT,
                      "%s: its content is not what its media type '%.100s' "
                      "says",
                      r->what, media_type);
}

static int kind_of_json(const struct ld_doc_reader *r, const cJSON *json, const char *media_type,
                        enum ld_oci_kind *ret)
{
    bool is_index = cJSON_GetObjectItemCaseSensitive(json, "manifests") != NULL;
    bool is_manifest = cJSON_GetObjectItemCaseSensitive(json, "layers") ||
                       cJSON_GetObjectItemCaseSensitive(json, "config");
    const char *own_type;
    uint64_t schema;

    if (!cJSON_IsObject(json))
        return ld_err_set(r->err, LD_E_BAD_CONTENT, "%s is not a JSON object", r->what);
    if (ld_doc_u64(r, json, "schemaVersion", false, &schema) < 0 ||
        ld_doc_string(r, json, "mediaType", false, &own_type) < 0)
        return -1;
    if (schema == 1 || cJSON_GetObjectItemCaseSensitive(json, "fsLayers"))
        return refuse_schema1(r);
    if (is_index && is_manifest)
        return ld_err_set(r->err, LD_E_BAD_CONTENT,
                          "%s: it has both 'manifests' and 'config' or "
                          "'layers', so it is ambiguous",
                          r->what);
    if (is_index)
        *ret = LD_OCI_INDEX;
    else if (kind_of_type(media_type) == LD_OCI_ARTIFACT ||
             kind_of_type(own_type) == LD_OCI_ARTIFACT)
        *ret = LD_OCI_ARTIFACT;
    else if (!is_manifest)
        return ld_err_set(r->err, LD_E_BAD_CONTENT, "%s is neither an image index nor a manifest",
                          r->what);
    else if (kind_of_manifest(r, json, ret) < 0)
        return -1;
    if (check_type(r, media_type, *ret) < 0 || check_type(r, own_type, *ret) < 0)
        return -1;
    return 0;
}

int ld_oci_kind_of(const char *text, size_t len, const char *media_type, const char *what,
                   enum ld_oci_kind *ret, struct ld_err *err)
{
    struct ld_doc_reader r = {.what = what, .err = err};
    LD_AUTO(ld_doc_free_p) cJSON *json = NULL;
    enum ld_oci_kind kind = LD_OCI_UNKNOWN;

    if (ld_doc_parse(text, len, what, &json, err) < 0 ||
        kind_of_json(&r, json, media_type, &kind) < 0)
        return -1;
    *ret = kind;
    return 0;
}

int ld_oci_index_parse(const char *text, size_t len, const char *what, struct ld_oci_index *ret,
                       struct ld_err *err)
{
    LD_AUTO(ld_oci_index_done) struct ld_oci_index index = {0};
    struct ld_doc_reader r = {.what = what, .err = err};
    LD_AUTO(ld_doc_free_p) cJSON *json = NULL;
    enum ld_oci_kind kind;

    if (ld_doc_parse(text, len, what, &json, err) < 0 || kind_of_json(&r, json, NULL, &kind) < 0)
        return -1;
    if (kind != LD_OCI_INDEX)
        return ld_err_set(err, LD_E_BAD_CONTENT, "%s is not an image index", what);
    if (read_descriptors(&r, json, "manifests", &index.entries, &index.n) < 0)
        return -1;
    if (index.n > LD_OCI_MAX_ENTRIES)
        return ld_err_set(err, LD_E_BAD_CONTENT, "%s: it lists %zu manifests, the limit is %d",
                          what, index.n, LD_OCI_MAX_ENTRIES);
    *ret = ld_steal(&index);
    return 0;
}

int ld_oci_manifest_parse(const char *text, size_t len, const char *what,
                          struct ld_oci_manifest *ret, struct ld_err *err)
{
    LD_AUTO(ld_oci_manifest_done) struct ld_oci_manifest manifest = {0};
    struct ld_doc_reader r = {.what = what, .err = err};
    LD_AUTO(ld_doc_free_p) cJSON *json = NULL;
    enum ld_oci_kind kind;
    const cJSON *config;

    if (ld_doc_parse(text, len, what, &json, err) < 0 || kind_of_json(&r, json, NULL, &kind) < 0)
        return -1;
    if (kind != LD_OCI_MANIFEST)
        return ld_err_set(err, LD_E_BAD_CONTENT, "%s is not an image manifest", what);
    if (ld_doc_object(&r, json, "config", true, &config) < 0 ||
        read_descriptor(&r, config, &manifest.config) < 0 ||
        read_descriptors(&r, json, "layers", &manifest.layers, &manifest.n_layers) < 0)
        return -1;
    if (manifest.n_layers > LD_MAX_LAYERS)
        return ld_err_set(err, LD_E_BAD_CONTENT, "%s: it has %zu layers, the limit is %d", what,
                          manifest.n_layers, LD_MAX_LAYERS);
    *ret = ld_steal(&manifest);
    return 0;
}

void ld_oci_index_done(struct ld_oci_index *index)
{
    for (size_t i = 0; i < index->n; i++)
        descriptor_done(&index->entries[i]);
    free(index->entries);
    *index = (struct ld_oci_index){0};
}

void ld_oci_manifest_done(struct ld_oci_manifest *manifest)
{
    descriptor_done(&manifest->config);
    for (size_t i = 0; i < manifest->n_layers; i++)
        descriptor_done(&manifest->layers[i]);
    free(manifest->layers);
    *manifest = (struct ld_oci_manifest){0};
}
