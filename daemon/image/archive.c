/* Image archives: see archive.h. This file opens the container, tells its form, and keeps the list
 * of images; archive_oci.c and archive_docker.c read the two forms into it.
 *
 * Invariant of the list: ids are unique, names are unique over all images. */
#include "daemon/image/archive.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/base/buf.h"
#include "daemon/base/err.h"
#include "daemon/base/fdio.h"
#include "daemon/base/mem.h"
#include "daemon/image/archive_impl.h"
#include "daemon/image/doc.h"
#include "daemon/image/source.h"

static const char *const format_names[] = {
    [LD_ARCHIVE_AUTO] = "auto",
    [LD_ARCHIVE_OCI] = "oci",
    [LD_ARCHIVE_DOCKER] = "docker",
    [LD_ARCHIVE_ROOTFS] = "rootfs",
};

int ld_archive_format_parse(const char *name, enum ld_archive_format *ret)
{
    for (size_t i = 0; i < LD_ARRAY_LEN(format_names); i++) {
        if (strcmp(name, format_names[i]) == 0) {
            *ret = (enum ld_archive_format)i;
            return 0;
        }
    }
    return -EINVAL;
}

const char *ld_archive_format_name(enum ld_archive_format format)
{
    return format_names[format];
}

/* ---- what the forms share ---- */

void ld_archive_warn(struct ld_archive *a, const char *fmt, ...)
{
    autobuf struct ld_buf text = LD_BUF_INIT(1024);
    va_list ap;

    if (a->n_warnings == LD_ARCHIVE_MAX_WARNINGS)
        return;
    va_start(ap, fmt);
    ld_buf_vaddf(&text, fmt, ap);
    va_end(ap);
    ld_grow(&a->warnings, &a->cap_warnings, a->n_warnings + 1, sizeof(*a->warnings));
    a->warnings[a->n_warnings++] = ld_buf_take(&text);
}

static int read_span(int fd, const struct ld_archive_span *span, char **ret, struct ld_err *err)
{
    autofree char *text = ld_try_alloc((size_t)span->size + 1, LD_OCI_MAX_DOCUMENT + 1);
    int r;

    if (!text)
        return ld_err_sys(err, -errno, "read a document of %" PRIu64 " bytes", span->size);
    r = ld_pread_full(fd, text, (size_t)span->size, span->offset);
    if (r < 0)
        return ld_err_sys(err, r, "read the archive at %" PRIu64, span->offset);
    *ret = ld_steal(&text);
    return 0;
}

int ld_archive_document(struct ld_archive *a, const char *name, struct ld_archive_span *ret_span,
                        char **ret_text, struct ld_err *err)
{
    struct ld_archive_span span;

    if (ld_archive_index_find(a->index, name, &span, err) < 0)
        return -1;
    if (span.size > LD_OCI_MAX_DOCUMENT)
        return ld_err_over_limit(err, "document_bytes", LD_OCI_MAX_DOCUMENT,
                                 "'%.200s' in the archive has %" PRIu64 " bytes", name, span.size);
    a->document_bytes += span.size;
    if (a->document_bytes > LD_ARCHIVE_MAX_DOCUMENTS)
        return ld_err_over_limit(err, "archive_documents", LD_ARCHIVE_MAX_DOCUMENTS,
                                 "the archive has too many bytes of manifests and configs");
    if (a->cancel && __atomic_load_n(a->cancel, __ATOMIC_RELAXED))
        return ld_err_sys(err, -ECANCELED, "read the archive");
    if (read_span(a->fd, &span, ret_text, err) < 0)
        return -1;
    *ret_span = span;
    return 0;
}

int ld_archive_image_of(struct ld_archive *a, const struct ld_digest *id,
                        struct ld_archive_image **ret, bool *ret_made, struct ld_err *err)
{
    struct ld_archive_image *image;

    for (size_t i = 0; i < a->n_images; i++) {
        if (ld_digest_equal(&a->images[i].id, id)) {
            *ret = &a->images[i];
            *ret_made = false;
            return 0;
        }
    }
    if (a->n_images == LD_ARCHIVE_MAX_IMAGES)
        return ld_err_over_limit(err, "archive_images", LD_ARCHIVE_MAX_IMAGES,
                                 "the archive holds too many images");
    ld_grow(&a->images, &a->cap_images, a->n_images + 1, sizeof(*a->images));
    image = &a->images[a->n_images++];
    image->id = *id;
    *ret = image;
    *ret_made = true;
    return 0;
}

int ld_archive_use_config(struct ld_archive *a, struct ld_archive_image *image, const char *text,
                          size_t n_layers, struct ld_err *err)
{
    LD_AUTO(ld_oci_config_done) struct ld_oci_config config = {0};
    char have[LD_OCI_PLATFORM_TEXT], host[LD_OCI_PLATFORM_TEXT];
    char what[sizeof("config ") + LD_DIGEST_TEXT] = "config ";

    ld_digest_format(&image->id, what + strlen("config "));
    if (ld_oci_config_parse(text, (size_t)image->config.size, what, &config, err) < 0)
        return -1;
    image->platform = config.platform;
    if (!image->platform.os[0])
        memcpy(image->platform.os, "linux", sizeof("linux"));
    ld_oci_platform_format(&image->platform, have);
    ld_oci_platform_format(&a->host, host);
    if (strcmp(image->platform.os, "linux") != 0)
        return ld_err_set(err, LD_E_BAD_CONTENT, "%s: the image is for %s, only linux is supported",
                          what, have);
    if (config.n_layers != n_layers)
        return ld_err_set(err, LD_E_BAD_CONTENT,
                          "%s names %zu diff IDs, but the manifest has %zu "
                          "layers",
                          what, config.n_layers, n_layers);
    a->n_layers += n_layers;
    if (a->n_layers > LD_ARCHIVE_MAX_LAYERS)
        return ld_err_over_limit(err, "archive_layers", LD_ARCHIVE_MAX_LAYERS,
                                 "the images of the archive have too many layers");
    if (image->platform.arch[0] && ld_oci_platform_rank(&a->host, &image->platform) == 0)
        ld_archive_warn(a, "image %s is for %s, this host is %s", what + strlen("config "), have,
                        host);
    image->layers = ld_alloc0(n_layers * sizeof(*image->layers));
    image->n_layers = n_layers;
    for (size_t i = 0; i < n_layers; i++) {
        image->layers[i].diff_id = config.diff_ids[i];
        image->layers[i].has_diff_id = true;
    }
    return 0;
}

/* ---- names ---- */

static void remove_name(struct ld_archive *a, struct ld_archive_image *image, size_t at)
{
    free(image->names[at]);
    image->n_names--;
    a->n_names--;
    memmove(image->names + at, image->names + at + 1,
            (image->n_names - at) * sizeof(*image->names));
}

/* The image that has the name, or NULL. */
static struct ld_archive_image *owner_of_name(struct ld_archive *a, const char *name,
                                              size_t *ret_at)
{
    for (size_t i = 0; i < a->n_images; i++) {
        for (size_t j = 0; j < a->images[i].n_names; j++) {
            if (strcmp(a->images[i].names[j], name) == 0) {
                *ret_at = j;
                return &a->images[i];
            }
        }
    }
    return NULL;
}

int ld_archive_add_name(struct ld_archive *a, struct ld_archive_image *image,
                        const struct ld_reference *ref, struct ld_err *err)
{
    struct ld_archive_image *owner;
    char name[LD_REFERENCE_TEXT];
    size_t cap = image->n_names;
    size_t at = 0;

    ld_reference_format(ref, name);
    owner = owner_of_name(a, name, &at);
    if (owner == image)
        return 0;
    if (owner) {
        ld_archive_warn(a, "'%s' is the name of two images in the archive, the later one gets it",
                        name);
        remove_name(a, owner, at);
    }
    if (a->n_names == LD_ARCHIVE_MAX_NAMES)
        return ld_err_over_limit(err, "archive_names", LD_ARCHIVE_MAX_NAMES,
                                 "the images of the archive have too many names");
    ld_grow(&image->names, &cap, image->n_names + 1, sizeof(*image->names));
    image->names[image->n_names++] = ld_strdup(name);
    a->n_names++;
    return 0;
}

static void drop_names(struct ld_archive *a, struct ld_archive_image *image)
{
    a->n_names -= image->n_names;
    for (size_t i = 0; i < image->n_names; i++)
        free(image->names[i]);
    free(ld_steal(&image->names));
    image->n_names = 0;
}

/* NAME for the only image, or NAME:TAG for several that have nothing but a tag. */
static int apply_ref(struct ld_archive *a, const char *text, struct ld_err *err)
{
    struct ld_reference ref;

    if (ld_reference_parse(text, &ref, err) < 0)
        return -1;
    if (ref.digest[0])
        return ld_err_set(err, LD_E_INVALID,
                          "'%.200s': an image cannot be given a digest as its name", text);
    if (a->n_images == 1) {
        drop_names(a, &a->images[0]);
        return ld_archive_add_name(a, &a->images[0], &ref, err);
    }
    for (size_t i = 0; i < a->n_images; i++) {
        struct ld_archive_image *image = &a->images[i];
        struct ld_reference tagged = ref;

        if (!ref.is_default_tag || image->n_names > 0 || !image->tag ||
            !ld_reference_tag_is_valid(image->tag))
            return ld_err_set(err, LD_E_INVALID, "'%.200s' cannot name the archive's %zu images",
                              text, a->n_images);
        memcpy(tagged.tag, image->tag, strlen(image->tag) + 1); /* valid: it fits */
        if (ld_archive_add_name(a, image, &tagged, err) < 0)
            return -1;
    }
    return 0;
}

/* A bare word "base" beside an OCI image may be meant as its name or as its tag. It is taken as a
 * name, as podman does, but for "latest", which tools write where no name was given. */
static int apply_tags(struct ld_archive *a, struct ld_err *err)
{
    for (size_t i = 0; i < a->n_images; i++) {
        struct ld_archive_image *image = &a->images[i];
        struct ld_err ignored = LD_ERR_INIT;
        char id[LD_DIGEST_TEXT];
        struct ld_reference ref;

        if (!image->tag || image->n_names > 0)
            continue;
        if (strcmp(image->tag, "latest") != 0 &&
            ld_reference_parse(image->tag, &ref, &ignored) == 0) {
            if (ld_archive_add_name(a, image, &ref, err) < 0)
                return -1;
            continue;
        }
        ld_digest_format(&image->id, id);
        ld_archive_warn(a, "image %s came with the tag '%.128s' but without a name, so it has none",
                        id, image->tag);
    }
    return 0;
}

/* ---- opening ---- */

static int copy_decoded(struct ld_source *from, int to, const struct ld_archive_options *o,
                        uint64_t *ret_size, struct ld_err *err)
{
    enum { CHUNK = 256 << 10 };
    autofree char *chunk = ld_alloc0(CHUNK);
    uint64_t size = 0;
    ssize_t n;
    int r;

    while ((n = ld_source_read(from, chunk, CHUNK, err)) > 0) {
        if (o->cancel && __atomic_load_n(o->cancel, __ATOMIC_RELAXED))
            return ld_err_sys(err, -ECANCELED, "decompress the archive");
        if (o->copy_space && size + (uint64_t)n > o->copy_space)
            return ld_err_set(err, LD_E_NO_SPACE,
                              "its decompressed copy has more than the %" PRIu64
                              " bytes that are free",
                              o->copy_space);
        r = ld_write_full(to, chunk, (size_t)n);
        if (r < 0)
            return ld_err_sys(err, r, "write the decompressed archive");
        size += (uint64_t)n;
    }
    if (n < 0)
        return -1;
    *ret_size = size;
    return 0;
}

/* The archive is compressed as a whole: from here on spans refer to a plain copy of it. */
static int decompress(struct ld_archive *a, const struct ld_archive_options *o, struct ld_err *err)
{
    static const struct ld_codec_limits no_limits = {0};
    auto_source *file = ld_source_fd_new(a->fd, 0, a->size);
    auto_source *decoder = NULL;

    a->own_fd = openat(o->tmp_dir, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (a->own_fd < 0)
        return ld_err_sys(err, -errno, "make a file for the decompressed archive");
    if (ld_decoder_new(file, o->limits ? o->limits : &no_limits, &decoder, err) < 0 ||
        copy_decoded(decoder, a->own_fd, o, &a->size, err) < 0)
        return ld_err_prefix(err, "archive");
    a->fd = a->own_fd;
    return 0;
}

static int unwrap(struct ld_archive *a, const struct ld_archive_options *o, struct ld_err *err)
{
    unsigned char head[LD_CODEC_HEAD];
    size_t len = a->size < sizeof(head) ? (size_t)a->size : sizeof(head);
    int r;

    if (len == 0)
        return ld_err_set(err, LD_E_BAD_CONTENT, "the archive is empty");
    r = ld_pread_full(a->fd, head, len, 0);
    if (r < 0)
        return ld_err_sys(err, r, "read the archive");
    return ld_codec_detect(head, len) == LD_CODEC_NONE ? 0 : decompress(a, o, err);
}

static int refuse_old_docker(struct ld_err *err)
{
    (void)ld_err_set(err, LD_E_BAD_CONTENT,
                     "the archive has 'repositories' but no manifest.json: the "
                     "format of Docker before 1.10 is not supported");
    return ld_err_hint(err, "load it into a current engine and save it again");
}

/* What it is, when nobody said: by the names at its top level. */
static int detect(struct ld_archive *a, struct ld_err *err)
{
    const struct ld_archive_markers *m = ld_archive_index_markers(a->index);

    if (ld_archive_index_count(a->index) == 0) {
        (void)ld_err_set(err, LD_E_BAD_CONTENT, "the archive has no entries");
        return ld_err_hint(err, "an empty root file system needs format=rootfs");
    }
    if (m->oci_layout && m->index_json)
        a->format = LD_ARCHIVE_OCI;
    else if (m->manifest_json)
        a->format = LD_ARCHIVE_DOCKER;
    else if (m->oci_layout)
        return ld_err_set(err, LD_E_BAD_CONTENT, "the archive has 'oci-layout' but no index.json");
    else if (m->repositories && m->layer_tar)
        return refuse_old_docker(err);
    else
        a->format = LD_ARCHIVE_ROOTFS;
    return 0;
}

/* One image of one layer, which is the whole file. Its config can be written once the diff ID is
 * known. */
static void read_rootfs(struct ld_archive *a)
{
    size_t cap = 0;

    ld_grow(&a->images, &cap, 1, sizeof(*a->images));
    a->n_images = 1;
    a->images[0].is_rootfs = true;
    a->images[0].platform = a->host;
    a->images[0].layers = ld_new(struct ld_archive_layer);
    a->images[0].layers[0].span.size = a->size;
    a->images[0].n_layers = 1;
}

static int read_images(struct ld_archive *a, struct ld_err *err)
{
    const struct ld_archive_markers *m = ld_archive_index_markers(a->index);

    if (!ld_archive_index_is_whole(a->index))
        return ld_err_over_limit(err, "archive_entries", LD_ARCHIVE_MAX_ENTRIES,
                                 "the archive has too many entries for one of images");
    /* Engines from Docker 25 on write both: index.json tells the blobs, manifest.json the names. */
    if (a->format == LD_ARCHIVE_OCI && ld_archive_read_oci(a, err) < 0)
        return -1;
    if ((a->format == LD_ARCHIVE_DOCKER || m->manifest_json) && ld_archive_read_docker(a, err) < 0)
        return -1;
    if (a->n_images == 0)
        return ld_err_set(err, LD_E_BAD_CONTENT, "the archive holds no image");
    return 0;
}

static int read_content(struct ld_archive *a, const struct ld_archive_options *o,
                        struct ld_err *err)
{
    /* A root file system is unpacked as it is, compressed or not: no need to look into it here. */
    if (o->format != LD_ARCHIVE_ROOTFS) {
        if (unwrap(a, o, err) < 0)
            return -1;
        if (ld_archive_index_scan(a->fd, a->size, o->cancel, &a->index, err) < 0)
            return ld_err_prefix(err, "archive");
    } else if (a->size == 0) {
        return ld_err_set(err, LD_E_BAD_CONTENT, "the archive is empty");
    }
    a->format = o->format;
    if (a->format == LD_ARCHIVE_AUTO && detect(a, err) < 0)
        return -1;
    if (a->format == LD_ARCHIVE_ROOTFS)
        read_rootfs(a);
    else if (read_images(a, err) < 0)
        return -1;
    if (o->ref)
        return apply_ref(a, o->ref, err);
    return apply_tags(a, err);
}

int ld_archive_open(int fd, uint64_t size, const struct ld_archive_options *o,
                    struct ld_archive **ret, struct ld_err *err)
{
    LD_AUTO(ld_archive_free_p) struct ld_archive *a = ld_new(struct ld_archive);

    a->fd = fd;
    a->own_fd = -EBADF;
    a->size = size;
    a->cancel = o->cancel;
    if (o->platform)
        a->host = *o->platform;
    else
        ld_oci_platform_of_host(&a->host);
    if (read_content(a, o, err) < 0)
        return -1;
    ld_archive_index_free(ld_steal(&a->index));
    *ret = ld_steal(&a);
    return 0;
}

static void image_done(struct ld_archive *a, struct ld_archive_image *image)
{
    drop_names(a, image);
    free(image->tag);
    free(image->manifest_media_type);
    for (size_t i = 0; image->layers && i < image->n_layers; i++)
        free(image->layers[i].media_type);
    free(image->layers);
}

void ld_archive_free(struct ld_archive *a)
{
    if (!a)
        return;
    for (size_t i = 0; i < a->n_images; i++)
        image_done(a, &a->images[i]);
    for (size_t i = 0; i < a->n_warnings; i++)
        free(a->warnings[i]);
    free(a->images);
    free(a->warnings);
    ld_archive_index_free(a->index);
    ld_close(a->own_fd);
    free(a);
}

void ld_archive_free_p(struct ld_archive **archive)
{
    ld_archive_free(ld_steal(archive));
}

const struct ld_archive_image *ld_archive_images(const struct ld_archive *a, size_t *ret_n)
{
    *ret_n = a->n_images;
    return a->images;
}

char *const *ld_archive_warnings(const struct ld_archive *a, size_t *ret_n)
{
    *ret_n = a->n_warnings;
    return a->warnings;
}

enum ld_archive_format ld_archive_format(const struct ld_archive *a)
{
    return a->format;
}

int ld_archive_fd(const struct ld_archive *a)
{
    return a->fd;
}

int ld_archive_read(const struct ld_archive *a, const struct ld_archive_span *span, char **ret,
                    struct ld_err *err)
{
    return read_span(a->fd, span, ret, err);
}
