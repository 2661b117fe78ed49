/* Image archives: from a spooled file to a list of images with the places of their layers.
 *
 * Read are: an OCI image layout as tar, a Docker archive (`docker save` of old and new engines,
 * also with both forms in one), a plain root file system as tar. The form is told by what the
 * archive holds; any order of entries; the archive itself may be compressed by gzip, zstd, xz or
 * bzip2, and is then decompressed once into a second unlinked file.
 *
 * Documents (index, manifest, config) are verified against their digests here. Layers are only
 * located: whoever unpacks one verifies its blob digest and its diff ID, both passed along.
 *
 * One thread per object; blocks on files. Memory is bounded by the limits below, whatever the
 * archive holds. Failures: bad_content (names the entry or blob, and the reason), invalid (`ref`),
 * no_space, io, canceled.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/base/cleanup.h"
#include "daemon/base/digest.h"
#include "daemon/image/codec.h"
#include "daemon/image/oci.h"

struct ld_err;

enum {
    LD_ARCHIVE_MAX_ENTRIES = 100000, /* of an archive that is no plain root file system */
    LD_ARCHIVE_MAX_IMAGES = 1000,
    LD_ARCHIVE_MAX_LAYERS = 20000, /* of all images together */
    LD_ARCHIVE_MAX_NAMES = 10000,  /* likewise */
    LD_ARCHIVE_MAX_WARNINGS = 100,
    LD_ARCHIVE_MAX_DOCUMENTS = 128 << 20, /* bytes of documents read, repeated ones each time */
};

enum ld_archive_format {
    LD_ARCHIVE_AUTO,
    LD_ARCHIVE_OCI,
    LD_ARCHIVE_DOCKER,
    LD_ARCHIVE_ROOTFS,
};
int ld_archive_format_parse(const char *name, enum ld_archive_format *ret); /* 0 or -EINVAL */
const char *ld_archive_format_name(enum ld_archive_format format);          /* "auto" */

struct ld_archive_options {
    enum ld_archive_format format;
    /* The name to give instead of those in the archive, or NULL. For an archive of several images
     * only when each has nothing but a tag of its own: then NAME:TAG. Code invalid otherwise. */
    const char *ref;
    const struct ld_oci_platform *platform; /* NULL: the host's */
    const struct ld_codec_limits *limits;   /* for the archive's own compression; NULL: none */
    uint64_t copy_space; /* a decompressed copy of more bytes is no_space; 0: no limit */
    int tmp_dir;         /* where the decompressed copy goes (O_TMPFILE) */
    const bool *cancel;  /* or NULL */
};

/* A piece of ld_archive_fd. */
struct ld_archive_span {
    uint64_t offset;
    uint64_t size;
};

struct ld_archive_layer {
    struct ld_archive_span span; /* the blob, possibly compressed */
    struct ld_digest diff_id;    /* to be verified after decompression */
    struct ld_digest blob;       /* to be verified, of the blob itself */
    char *media_type;            /* of the blob, as the manifest says, or NULL */
    bool has_diff_id;            /* false only for a root file system: the unpacker finds it */
    bool has_blob;               /* Docker's older archives name no blob digests */
};

struct ld_archive_image {
    struct ld_digest id; /* digest of the config; not set while `is_rootfs` */
    struct ld_archive_span config;
    struct ld_archive_span manifest; /* size 0: none came with it */
    char *manifest_media_type;       /* of the manifest, or NULL */
    struct ld_oci_platform platform; /* as the config says */
    /* A plain root file system: no config yet. Render it with ld_oci_config_render_rootfs from
     * `platform` and the diff ID of its one layer; its digest is the image's id. */
    bool is_rootfs;
    char **names; /* full normal references "docker.io/library/debian:12", each once */
    size_t n_names;
    char *tag; /* a tag without a name that came with it ("latest"), or NULL */
    struct ld_archive_layer *layers; /* lowest first; none is an image without content */
    size_t n_layers;
};

struct ld_archive;

/* fd: the whole archive, readable by pread, borrowed for the archive's life; size: of it. At least
 * one image is in what this returns. */
int ld_archive_open(int fd, uint64_t size, const struct ld_archive_options *options,
                    struct ld_archive **ret, struct ld_err *err) ld_must_check;
void ld_archive_free(struct ld_archive *archive);
void ld_archive_free_p(struct ld_archive **archive);

/* All borrowed, valid until free. No two images have the same id, no name is there twice. */
const struct ld_archive_image *ld_archive_images(const struct ld_archive *archive, size_t *ret_n);
char *const *ld_archive_warnings(const struct ld_archive *archive, size_t *ret_n);
enum ld_archive_format
ld_archive_format(const struct ld_archive *archive); /* what it turned out to be */

/* What spans refer to: the fd given to open, or the decompressed copy (owned by the archive). Read
 * it by pread only; several threads may. */
int ld_archive_fd(const struct ld_archive *archive);

/* Reads a document (config or manifest of an image), a NUL added. Free it. */
int ld_archive_read(const struct ld_archive *archive, const struct ld_archive_span *span,
                    char **ret, struct ld_err *err) ld_must_check;
