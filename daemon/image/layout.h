/* Writing image archives.
 *
 * The one form (OCI) is an OCI image layout and a Docker archive at once: oci-layout, index.json
 * and manifest.json in front, then blobs/sha256/HEX, each once: manifests and configs, then layers.
 * Everything about it is known before the first layer is read, so readers can plan before the bytes
 * come, and the size is known in advance. The other (DOCKER) is what `docker save` wrote before
 * version 25: manifest.json, HEX.json, HEX.tar; for readers that an OCI layout would mislead.
 *
 * The bytes are a function of the description alone: no time, owner or machine is in them. An image
 * whose manifest came with it and is still true goes out under the same manifest digest.
 *
 * One thread; blocks in the sink. A description is borrowed for the call.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "daemon/base/digest.h"
#include "daemon/base/err.h"
#include "daemon/image/oci.h"
#include "daemon/image/sink.h"

#define LD_LAYER_MEDIA_TYPE "application/vnd.oci.image.layer.v1.tar"

enum ld_layout_form { LD_LAYOUT_OCI, LD_LAYOUT_DOCKER };

/* A layer's bytes as they go out. No digest is in the list twice. */
struct ld_layout_blob {
    struct ld_digest digest;
    uint64_t size;
};

struct ld_layout_image {
    struct ld_digest id; /* of the config */
    const void *config;
    size_t config_len;
    struct ld_oci_platform platform; /* as the config says */
    const void *manifest;            /* as it came, naming just these blobs; NULL: one is made */
    size_t manifest_len;
    const char *manifest_type; /* NULL: OCI's */
    const size_t *layers;      /* indexes of blobs, lowest first */
    size_t n_layers;
    char *const *names; /* full references; none is fine */
    size_t n_names;
};

struct ld_layout {
    enum ld_layout_form form;
    const struct ld_layout_image *images; /* no id twice */
    size_t n_images;
    const struct ld_layout_blob *blobs;
    size_t n_blobs;
    /* Writes exactly the blob's bytes. */
    int (*write_blob)(void *arg, size_t blob, struct ld_sink *sink, struct ld_err *err);
    void *arg;
};

/* Bytes that ld_layout_write gives; write_blob is not called. */
int ld_layout_size(const struct ld_layout *layout, uint64_t *ret, struct ld_err *err) ld_must_check;
int ld_layout_write(const struct ld_layout *layout, struct ld_sink *sink,
                    struct ld_err *err) ld_must_check;
