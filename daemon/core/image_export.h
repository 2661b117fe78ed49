/* Images out again: one archive of one or several images (image/layout.h), or the merged root of
 * one image as a tar. The same images and options give the same bytes, on any daemon, at any time.
 * An image whose manifest came with it, and of whose layers everything that the manifest names is
 * at hand, goes out just as it came, manifest digest included; of any other the layers are plain.
 *
 * An export holds pins, no keys: images may be removed while it is written, and it goes on.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/base/err.h"

struct ld_core;
struct ld_sink;

enum ld_export_format {
    LD_EXPORT_OCI,    /* OCI image layout and Docker archive in one */
    LD_EXPORT_DOCKER, /* Docker archive of the older kind */
    LD_EXPORT_ROOTFS,
};
int ld_export_format_parse(const char *text, enum ld_export_format *ret); /* 0 or -EINVAL */

struct ld_image_export_options {
    enum ld_export_format format;
    /* Not what was kept of an image (its manifest, and its layers' blobs where all of them are
     * kept): then the bytes depend on nothing but config and layers. */
    bool is_plain;
};

struct ld_image_export;

/* Worker. Finds the images and pins their layers. An image that is named by a reference goes out
 * under that name, one that is named by its id without any; one that is named more than once is in
 * it once. Codes: not_found, conflict (an ambiguous prefix), invalid (several images for ROOTFS;
 * too many documents), corrupt (a layer is damaged). */
int ld_image_export_open(struct ld_core *core, const char *const *images, size_t n,
                         const struct ld_image_export_options *options,
                         struct ld_image_export **ret, struct ld_err *err) ld_must_check;

/* Bytes that will be written, 0: not known before. Any thread. */
uint64_t ld_image_export_size(const struct ld_image_export *e);

/* Worker of the stream lane, once. Each layer is verified as it passes; one that is damaged ends it
 * inside that layer (code corrupt) and is recorded as damaged. */
int ld_image_export_write(struct ld_image_export *e, struct ld_sink *sink, const bool *cancel,
                          struct ld_err *err) ld_must_check;

void ld_image_export_free(struct ld_image_export *e); /* any thread; NULL is fine */
