/* OCI image layouts in archives: see archive.h. index.json lists images; one that is listed as
 * several manifests for different platforms, or by an index of its own, gives the one that fits the
 * host. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/base/buf.h"
#include "daemon/base/err.h"
#include "daemon/base/mem.h"
#include "daemon/image/archive_impl.h"
#include "daemon/image/doc.h"

enum {
    MAX_NESTING = 4, /* indexes in indexes; real ones have one */
    MAX_PLATFORMS =
        64, /* of one image in index.json; more entries of one name are images of their own */
};

/* "blobs/sha256/HEX" */
struct blob_name {
    char text[sizeof("blobs/sha256/") + 64];
};

static struct blob_name blob_name(const struct ld_digest *digest)
{
    struct blob_name name;
    char text[LD_DIGEST_TEXT];

    ld_digest_format(digest, text);
    (void)snprintf(name.text, sizeof(name.text), "blobs/sha256/%s", text + strlen("sha256:"));
    return name;
}

static int check_size(const struct ld_oci_descriptor *d, const struct ld_archive_span *span,
                      struct ld_err *err)
{
    if (d->size == span->size)
        return 0;
    return ld_err_set(err, LD_E_BAD_CONTENT,
                      "'%s' in the archive has %" PRIu64 " bytes, its "
                      "descriptor says %" PRIu64,
                      blob_name(&d->digest).text, span->size, d->size);
}

/* A document named by a descriptor: found, size and digest verified. */
static int read_document(struct ld_archive *a, const struct ld_oci_descriptor *d,
                         struct ld_archive_span *ret_span, char **ret_text, struct ld_err *err)
{
    struct blob_name name = blob_name(&d->digest);
    autofree char *text = NULL;
    struct ld_archive_span span;
    struct ld_digest digest;

    if (ld_archive_document(a, name.text, &span, &text, err) < 0 || check_size(d, &span, err) < 0)
        return -1;
    digest = ld_digest_of(text, (size_t)span.size);
    if (!ld_digest_equal(&digest, &d->digest))
        return ld_err_set(err, LD_E_BAD_CONTENT,
                          "'%s' in the archive has not the digest of its name", name.text);
    *ret_span = span;
    *ret_text = ld_steal(&text);
    return 0;
}

static int refuse_foreign(const struct ld_oci_descriptor *d, struct ld_err *err)
{
    char digest[LD_DIGEST_TEXT];

    ld_digest_format(&d->digest, digest);
    (void)ld_err_set(err, LD_E_BAD_CONTENT, "layer %s (%.100s) is not in the archive", digest,
                     d->media_type);
    return ld_err_hint(err,
                       "such layers are fetched from elsewhere: make an archive that holds them");
}

static int locate_layer(struct ld_archive *a, const struct ld_oci_descriptor *d,
                        struct ld_archive_layer *layer, struct ld_err *err)
{
    enum ld_oci_layer_kind kind = ld_oci_layer_kind_of(d->media_type);

    if (kind == LD_OCI_LAYER_ENCRYPTED) {
        (void)ld_err_set(err, LD_E_BAD_CONTENT, "'%s' in the archive is an encrypted layer",
                         blob_name(&d->digest).text);
        return ld_err_hint(err, "decrypt the image first: skopeo copy --decryption-key");
    }
    if (ld_archive_index_find(a->index, blob_name(&d->digest).text, &layer->span, err) < 0)
        return kind == LD_OCI_LAYER_FOREIGN ? refuse_foreign(d, err) : -1;
    layer->blob = d->digest;
    layer->has_blob = true;
    layer->media_type = d->media_type[0] ? ld_strdup(d->media_type) : NULL;
    return check_size(d, &layer->span, err);
}

/* ---- names ---- */

static int parse_annotation(struct ld_archive *a, const char *text, struct ld_reference *ret)
{
    struct ld_err ignored = LD_ERR_INIT;

    if (ld_reference_parse(text, ret, &ignored) == 0 && !ret->digest[0])
        return 0;
    ld_archive_warn(a, "the name '%.200s' of an image in the archive is not usable, ignoring",
                    text);
    return -1;
}

/* The full name that containerd writes; else ref.name, which is a name when it looks like one, and
 * otherwise but a word that is judged when all images are known. */
static int take_names(struct ld_archive *a, struct ld_archive_image *image,
                      const struct ld_oci_descriptor *d, struct ld_err *err)
{
    struct ld_reference ref;

    if (d->image_name && parse_annotation(a, d->image_name, &ref) == 0)
        return ld_archive_add_name(a, image, &ref, err);
    if (d->ref_name && strpbrk(d->ref_name, "/:@"))
        return parse_annotation(a, d->ref_name, &ref) < 0
                   ? 0
                   : ld_archive_add_name(a, image, &ref, err);
    if (d->ref_name && !image->tag)
        image->tag = ld_strdup(d->ref_name);
    return 0;
}

/* ---- manifests ---- */

/* A new image from its manifest, which has been read and verified. */
static int fill_image(struct ld_archive *a, struct ld_archive_image *image,
                      const struct ld_oci_manifest *manifest, const char *config,
                      struct ld_err *err)
{
    if (ld_archive_use_config(a, image, config, manifest->n_layers, err) < 0)
        return -1;
    for (size_t i = 0; i < manifest->n_layers; i++) {
        if (locate_layer(a, &manifest->layers[i], &image->layers[i], err) < 0)
            return -1;
    }
    return 0;
}

/* The manifest's own bytes, where they are and what they are. */
struct document {
    const struct ld_oci_descriptor *descriptor;
    struct ld_archive_span span;
    const char *text;
    const char *what;
};

static int add_manifest(struct ld_archive *a, const struct document *doc,
                        const struct ld_oci_descriptor *listed, struct ld_err *err)
{
    LD_AUTO(ld_oci_manifest_done) struct ld_oci_manifest manifest = {0};
    autofree char *config = NULL;
    struct ld_archive_span span;
    struct ld_archive_image *image = NULL;
    bool is_new = false;

    if (ld_oci_manifest_parse(doc->text, (size_t)doc->span.size, doc->what, &manifest, err) < 0 ||
        read_document(a, &manifest.config, &span, &config, err) < 0 ||
        ld_archive_image_of(a, &manifest.config.digest, &image, &is_new, err) < 0)
        return -1;
    if (is_new) {
        image->config = span;
        image->manifest = doc->span;
        if (doc->descriptor->media_type[0])
            image->manifest_media_type = ld_strdup(doc->descriptor->media_type);
        if (fill_image(a, image, &manifest, config, err) < 0)
            return ld_err_prefix(err, "%s", doc->what);
    }
    return take_names(a, image, listed, err);
}

/* ---- choosing ---- */

/* Attestations lie beside the manifests that they are about, for the platform "unknown/unknown". */
static bool is_candidate(const struct ld_oci_descriptor *d)
{
    return !d->is_attestation && !(d->has_platform && strcmp(d->platform.arch, "unknown") == 0);
}

static void list_platform(struct ld_buf *list, const struct ld_oci_descriptor *d)
{
    char text[LD_OCI_PLATFORM_TEXT] = "one without platform";

    if (d->has_platform)
        ld_oci_platform_format(&d->platform, text);
    ld_buf_addf(list, "%s%s", list->len ? ", " : "", text);
}

/* The best of n entries for the host; one without a platform is taken when no other fits. */
static int choose(struct ld_archive *a, const struct ld_oci_descriptor *const *from, size_t n,
                  const char *what, const struct ld_oci_descriptor **ret, struct ld_err *err)
{
    autobuf struct ld_buf list = LD_BUF_INIT(300);
    const struct ld_oci_descriptor *best = NULL;
    char host[LD_OCI_PLATFORM_TEXT];
    int best_rank = 0;

    for (size_t i = 0; i < n; i++) {
        int rank;

        if (!is_candidate(from[i]))
            continue;
        rank = from[i]->has_platform ? ld_oci_platform_rank(&a->host, &from[i]->platform) : 1;
        list_platform(&list, from[i]);
        if (rank > best_rank) {
            best = from[i];
            best_rank = rank;
        }
    }
    if (best) {
        *ret = best;
        return 0;
    }
    ld_oci_platform_format(&a->host, host);
    if (list.len == 0)
        return ld_err_set(err, LD_E_BAD_CONTENT, "%s lists no image", what);
    return ld_err_set(err, LD_E_BAD_CONTENT, "%s has no image for %s, only for: %s%s", what, host,
                      ld_buf_str(&list), list.full ? "…" : "");
}

static int choose_from_index(struct ld_archive *a, const struct ld_oci_index *index,
                             const char *what, const struct ld_oci_descriptor **ret,
                             struct ld_err *err)
{
    autofree const struct ld_oci_descriptor **from = ld_alloc0((index->n + 1) * sizeof(*from));

    for (size_t i = 0; i < index->n; i++)
        from[i] = &index->entries[i];
    return choose(a, from, index->n, what, ret, err);
}

/* One image of index.json: down through nested indexes to its manifest. */
static int add_entry(struct ld_archive *a, const struct ld_oci_descriptor *listed,
                     struct ld_err *err)
{
    LD_AUTO(ld_oci_index_done) struct ld_oci_index index = {0};
    LD_AUTO(ld_oci_index_done) struct ld_oci_index above = {0}; /* d points into it */
    const struct ld_oci_descriptor *d = listed;

    for (int depth = 0; depth < MAX_NESTING; depth++) {
        struct blob_name what = blob_name(&d->digest);
        struct document doc = {.descriptor = d, .what = what.text};
        autofree char *text = NULL;
        enum ld_oci_kind kind;

        ld_oci_index_done(&above);
        above = ld_steal(&index);
        if (read_document(a, d, &doc.span, &text, err) < 0 ||
            ld_oci_kind_of(text, (size_t)doc.span.size, d->media_type, what.text, &kind, err) < 0)
            return -1;
        doc.text = text;
        if (kind == LD_OCI_MANIFEST)
            return add_manifest(a, &doc, listed, err);
        if (kind != LD_OCI_INDEX) {
            ld_archive_warn(a, "'%s' in the archive is an artifact, no image, ignoring", what.text);
            return 0;
        }
        if (ld_oci_index_parse(text, (size_t)doc.span.size, what.text, &index, err) < 0 ||
            choose_from_index(a, &index, what.text, &d, err) < 0)
            return -1;
    }
    return ld_err_set(err, LD_E_BAD_CONTENT,
                      "'%s' in the archive: indexes are nested deeper than %d",
                      blob_name(&listed->digest).text, MAX_NESTING);
}

static const char *key_of(const struct ld_oci_descriptor *d)
{
    return d->image_name ? d->image_name : d->ref_name ? d->ref_name : "";
}

static bool same_platform(const struct ld_oci_platform *a, const struct ld_oci_platform *b)
{
    return strcmp(a->os, b->os) == 0 && strcmp(a->arch, b->arch) == 0 &&
           strcmp(a->variant, b->variant) == 0;
}

/* The entries at and after `first` that are the same image for other platforms: the same name (or
 * none), each with a platform, all different. Just the first one when they are not that. */
static size_t collect_group(const struct ld_oci_index *index, const bool *used, size_t first,
                            size_t *group)
{
    const struct ld_oci_descriptor *e = index->entries;
    size_t n = 0;

    for (size_t i = first; i < index->n; i++) {
        if (used[i] || strcmp(key_of(&e[i]), key_of(&e[first])) != 0)
            continue;
        if (!e[i].has_platform || n == MAX_PLATFORMS)
            goto alone;
        for (size_t j = 0; j < n; j++) {
            if (same_platform(&e[group[j]].platform, &e[i].platform))
                goto alone;
        }
        group[n++] = i;
    }
    return n;
alone:
    group[0] = first;
    return 1;
}

static int add_group(struct ld_archive *a, const struct ld_oci_index *index, const size_t *group,
                     size_t n, struct ld_err *err)
{
    autofree const struct ld_oci_descriptor **from = ld_alloc0(n * sizeof(*from));
    const struct ld_oci_descriptor *chosen;

    for (size_t i = 0; i < n; i++)
        from[i] = &index->entries[group[i]];
    /* What an entry that stands alone says of its platform is no choice, and often wrong. */
    if (n == 1)
        return add_entry(a, from[0], err);
    if (choose(a, from, n, "index.json", &chosen, err) < 0)
        return -1;
    return add_entry(a, chosen, err);
}

static int add_all(struct ld_archive *a, const struct ld_oci_index *index, struct ld_err *err)
{
    autofree bool *used = ld_alloc0(index->n * sizeof(*used));
    autofree size_t *group = ld_alloc0((index->n + 1) * sizeof(*group));

    for (size_t i = 0; i < index->n; i++)
        used[i] = !is_candidate(&index->entries[i]);
    for (size_t i = 0; i < index->n; i++) {
        size_t n;

        if (used[i])
            continue;
        n = collect_group(index, used, i, group);
        for (size_t j = 0; j < n; j++)
            used[group[j]] = true;
        if (add_group(a, index, group, n, err) < 0)
            return -1;
    }
    return 0;
}

static int check_layout(struct ld_archive *a, struct ld_err *err)
{
    struct ld_doc_reader r = {.what = "oci-layout", .err = err};
    LD_AUTO(ld_doc_free_p) struct cJSON *json = NULL;
    autofree char *text = NULL;
    struct ld_archive_span span;
    const char *version;

    if (ld_archive_document(a, "oci-layout", &span, &text, err) < 0 ||
        ld_doc_parse(text, (size_t)span.size, "oci-layout", &json, err) < 0 ||
        ld_doc_string(&r, json, "imageLayoutVersion", true, &version) < 0)
        return -1;
    if (strncmp(version, "1.", 2) != 0)
        return ld_err_set(err, LD_E_BAD_CONTENT,
                          "oci-layout: version '%.50s' is not supported, only "
                          "1.x",
                          version);
    return 0;
}

int ld_archive_read_oci(struct ld_archive *a, struct ld_err *err)
{
    LD_AUTO(ld_oci_index_done) struct ld_oci_index index = {0};
    autofree char *text = NULL;
    struct ld_archive_span span;

    if (check_layout(a, err) < 0 || ld_archive_document(a, "index.json", &span, &text, err) < 0 ||
        ld_oci_index_parse(text, (size_t)span.size, "index.json", &index, err) < 0)
        return -1;
    return add_all(a, &index, err);
}
