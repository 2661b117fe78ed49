/* What the files of the archive module share. Private to archive*.c. */
#pragma once

#include "daemon/image/archive.h"
#include "daemon/image/archive_index.h"
#include "daemon/image/ref.h"

struct ld_archive {
    int fd;     /* what spans refer to */
    int own_fd; /* the decompressed copy, or -EBADF */
    uint64_t size;
    enum ld_archive_format format;
    struct ld_oci_platform host;
    struct ld_archive_index *index; /* while opening */
    struct ld_archive_image *images;
    size_t n_images, cap_images;
    size_t n_layers, n_names; /* of all images */
    uint64_t document_bytes;  /* read so far */
    const bool *cancel;
    char **warnings;
    size_t n_warnings, cap_warnings;
};

/* Keeps the first LD_ARCHIVE_MAX_WARNINGS. */
void ld_archive_warn(struct ld_archive *a, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

/* A document by its name in the archive: found, bounded, read. `what` names it in errors. Free
 * *ret_text. */
int ld_archive_document(struct ld_archive *a, const char *name, struct ld_archive_span *ret_span,
                        char **ret_text, struct ld_err *err) ld_must_check;

/* The image with this id, made when it is not there yet (*ret_made). Valid until the next call. */
int ld_archive_image_of(struct ld_archive *a, const struct ld_digest *id,
                        struct ld_archive_image **ret, bool *ret_made,
                        struct ld_err *err) ld_must_check;

/* Fills platform and layer diff IDs from the config, after it is known that n_layers blobs go with
 * it. */
int ld_archive_use_config(struct ld_archive *a, struct ld_archive_image *image, const char *text,
                          size_t n_layers, struct ld_err *err) ld_must_check;

/* Gives the image a name; an image that had it before loses it, with a warning. */
int ld_archive_add_name(struct ld_archive *a, struct ld_archive_image *image,
                        const struct ld_reference *ref, struct ld_err *err) ld_must_check;

/* Adds the images that index.json, or manifest.json, names. */
int ld_archive_read_oci(struct ld_archive *a, struct ld_err *err) ld_must_check;
int ld_archive_read_docker(struct ld_archive *a, struct ld_err *err) ld_must_check;
