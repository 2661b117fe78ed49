/* Makes small images, good and bad ones: tars from tables of entries, layers from tars, archives
 * from layers. All of it asserts. libarchive writes the tars, so that what layerd reads was written
 * by somebody else.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "daemon/base/digest.h"

struct cJSON;
struct ld_client;

enum ld_entry_type {
    LD_ENTRY_FILE,
    LD_ENTRY_DIR,
    LD_ENTRY_SYMLINK,
    LD_ENTRY_LINK, /* hard link */
    LD_ENTRY_CHAR,
    LD_ENTRY_FIFO
};

struct ld_entry {
    const char *path;
    enum ld_entry_type type;
    const char *data; /* content, or the target of a link */
    size_t len;       /* of the content; 0: strlen(data) */
    unsigned mode;    /* 0: 0644, 0755 for directories, 0777 for symlinks */
    unsigned uid, gid;
    int64_t mtime; /* 0: 1700000000 */
    long mtime_ns;
    const char *xattr, *value;
    unsigned major, minor; /* CHAR */
};

struct ld_blob {
    char *data; /* owned; NUL added */
    size_t len;
};
void ld_blob_done(struct ld_blob *blob);

struct ld_blob ld_make_tar(const struct ld_entry *entries, size_t n);
/* filter: gzip, zstd, xz, bzip2. */
struct ld_blob ld_compress(const struct ld_blob *blob, const char *filter);

enum ld_image_flaw {
    LD_FLAW_NONE,
    LD_FLAW_BLOB,          /* a layer's bytes are not those of its digest (oci) */
    LD_FLAW_DIFF_ID,       /* the config's first diff ID is another one */
    LD_FLAW_CONFIG,        /* the config's bytes are not those of its digest (oci) */
    LD_FLAW_LAYER_MISSING, /* the blob of the last layer is not in the archive */
    LD_FLAW_LAYER_COUNT,   /* the config names one diff ID more */
    LD_FLAW_BIG_MANIFEST,  /* a manifest of 10 MB */
    LD_FLAW_DEEP_JSON,     /* a config nested 1,000 deep */
};

struct ld_image_spec {
    const char *format;      /* "oci" (the default) or "docker" */
    const char *filter;      /* of the layers' blobs; NULL: none */
    const char *outer;       /* of the archive; NULL: none */
    const char *const *refs; /* NULL at the end; or NULL */
    const char *config; /* members of the config object, single quotes: "'Cmd':['sh']"; or NULL */
    const char *architecture;     /* NULL: the host's */
    const struct ld_blob *layers; /* uncompressed tars, lowest first */
    size_t n_layers;
    enum ld_image_flaw flaw;
};
/* Several specs make one archive. The format of the first decides. */
struct ld_blob ld_make_image(const struct ld_image_spec *specs, size_t n);

/* The blob as a file in the test's directory: a descriptor of it. */
int ld_blob_file(const struct ld_blob *blob, const char *name);

/* POST /v1/images/import of it; query "" or "?ref=…". ld_import asserts the 200 and returns the
 * result (borrowed from the client), ld_import_error the error's code. */
struct cJSON *ld_import(struct ld_client *client, const struct ld_blob *archive, const char *query);
struct cJSON *ld_import_error(struct ld_client *client, const struct ld_blob *archive,
                              const char *query, const char *code);

/* The images most tests use.
 * base:latest: two layers; /etc/{passwd,motd}, /bin/{tool,link}, /usr/lib/deep/…, /var/empty; the
 * upper one deletes /etc/gone and replaces /etc/motd. app:latest: base's layers and one more with
 * /app/run and /data/{seed,sub/file}; config with a command, env, a label; the declared volume
 * /data. */
struct ld_blob ld_make_base(void);
struct ld_blob ld_make_app(void);
