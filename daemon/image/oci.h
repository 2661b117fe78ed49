/* OCI and Docker documents: image index and manifest list, manifest, image config.
 *
 * Documents come out of archives and registries: bounded (LD_OCI_MAX_DOCUMENT, doc.h), every type
 * checked, ambiguous ones refused (a document that could be read as an index and as a manifest).
 * Raw bytes are never rendered anew: whoever records a config or a manifest keeps the bytes as they
 * came, since their digest is a name.
 *
 * No blocking, any thread. Failures are LD_E_BAD_CONTENT unless it says otherwise, and begin with
 * `what`, the caller's name for the document. Results are freed by the `done` function of their
 * type, which accepts a zeroed one.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/base/cleanup.h"
#include "daemon/base/digest.h"

struct ld_err;

enum {
    LD_OCI_MAX_DOCUMENT = 4 << 20, /* bytes of an index, a manifest or a config */
    LD_OCI_MAX_ENTRIES = 1000,     /* manifests in one index */
};

/* Go's names: "linux", "arm64", "v8". Empty strings: not told. */
struct ld_oci_platform {
    char os[32];
    char arch[32];
    char variant[16];
};

/* From utsname.machine ("x86_64"); an unknown machine is passed on as the architecture. */
void ld_oci_platform_of(const char *machine, struct ld_oci_platform *ret);
void ld_oci_platform_of_host(struct ld_oci_platform *ret);
/* How well an image for `image` runs on `host`: 0 not at all, more is better. The architecture
 * itself with its best variant first, then what its CPUs also run (386 on amd64, arm on arm64). */
int ld_oci_platform_rank(const struct ld_oci_platform *host, const struct ld_oci_platform *image);

/* "linux/arm/v7" */
enum { LD_OCI_PLATFORM_TEXT = 32 + 32 + 16 + 3 };
void ld_oci_platform_format(const struct ld_oci_platform *p, char text[LD_OCI_PLATFORM_TEXT]);

enum ld_oci_kind {
    LD_OCI_UNKNOWN,
    LD_OCI_INDEX,    /* OCI image index, Docker manifest list */
    LD_OCI_MANIFEST, /* OCI manifest v1, Docker manifest v2 schema 2 */
    LD_OCI_ARTIFACT, /* a manifest of something that is no image (its config says what) */
};

struct ld_oci_descriptor {
    struct ld_digest digest;
    uint64_t size;
    char *media_type; /* "" when not told */
    char *ref_name;   /* annotation org.opencontainers.image.ref.name, or NULL */
    char *image_name; /* annotation io.containerd.image.name, or NULL */
    bool has_platform;
    bool is_attestation; /* of a build (BuildKit): no image */
    struct ld_oci_platform platform;
};

struct ld_oci_index {
    struct ld_oci_descriptor *entries;
    size_t n;
};

/* What a blob of a layer is said to be. The bytes decide about compression, whatever this says. */
enum ld_oci_layer_kind {
    LD_OCI_LAYER_PLAIN,
    LD_OCI_LAYER_FOREIGN,   /* not distributable: usually only a URL, no blob */
    LD_OCI_LAYER_ENCRYPTED, /* cannot be read without a key we do not have */
};
enum ld_oci_layer_kind ld_oci_layer_kind_of(const char *media_type);

struct ld_oci_manifest {
    struct ld_oci_descriptor config;
    struct ld_oci_descriptor *layers; /* lowest first */
    size_t n_layers;
};

/* What a document is, judged by its content and held against the media type its descriptor gives
 * ("" or NULL: none). Docker's schema 1 manifests are refused with a hint. */
int ld_oci_kind_of(const char *text, size_t len, const char *media_type, const char *what,
                   enum ld_oci_kind *ret, struct ld_err *err) ld_must_check;
int ld_oci_index_parse(const char *text, size_t len, const char *what, struct ld_oci_index *ret,
                       struct ld_err *err) ld_must_check;
int ld_oci_manifest_parse(const char *text, size_t len, const char *what,
                          struct ld_oci_manifest *ret, struct ld_err *err) ld_must_check;
void ld_oci_index_done(struct ld_oci_index *index);
void ld_oci_manifest_done(struct ld_oci_manifest *manifest);

struct ld_oci_pair {
    char *key;
    char *value;
};

struct ld_oci_history {
    char *created; /* RFC 3339 as written; these four may be NULL */
    char *created_by;
    char *author;
    char *comment;
    bool empty_layer;
    int layer; /* index into diff_ids, lowest is 0; -1: none */
};

/* An image config, OCI's or Docker's. Pointers may be NULL where the document has nothing. */
struct ld_oci_config {
    struct ld_oci_platform platform;
    char *created; /* RFC 3339 as written */
    char *author;
    struct ld_digest *diff_ids; /* lowest first */
    size_t n_layers;            /* at most LD_MAX_LAYERS; 0 is an image without content */
    struct ld_oci_history *history;
    size_t n_history;
    /* the "config" object */
    char *user;
    char *workdir;
    char *stop_signal;
    char **env; /* NULL-terminated lists */
    char **cmd;
    char **entrypoint;
    char **volumes;             /* sorted */
    char **exposed_ports;       /* "80/tcp", sorted */
    struct ld_oci_pair *labels; /* sorted by key */
    size_t n_labels;
};

int ld_oci_config_parse(const char *text, size_t len, const char *what, struct ld_oci_config *ret,
                        struct ld_err *err) ld_must_check;
void ld_oci_config_done(struct ld_oci_config *config);

/* The config of an image made of one plain root file system tar: platform and diff ID, no time, so
 * that the same tar gives the same image id everywhere. Free the text. */
char *ld_oci_config_render_rootfs(const struct ld_oci_platform *platform,
                                  const struct ld_digest *diff_id);
