/* The daemon's settings: defaults, then the INI file with its drop-ins, then flags.
 *
 * Read once at start, on the main thread, before threads exist; constant afterwards (a reload only
 * changes the log level). Strings are owned by the struct.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/base/err.h"
#include "daemon/base/log.h"

/* What one archive may hold at most; over a limit is 422 bad_content with the limit in details. */
struct ld_import_limits {
    uint64_t entries;        /* per layer */
    uint64_t layer_bytes;    /* of an uncompressed layer, and of a file with its holes */
    uint64_t ratio;          /* uncompressed to compressed bytes */
    uint64_t ratio_from;     /* uncompressed bytes from which the ratio counts */
    uint64_t decoder_memory; /* for windows over 8 MiB, one decoder at a time */
    bool keep_blobs;         /* compressed layers as they came, beside the unpacked ones */
};

/* "keep" or "drop": 0; else -EINVAL. */
int ld_blobs_parse(const char *text, bool *ret_keep);

struct ld_config {
    char *data_root; /* "/var/lib/layerd" */
    char *run_root;  /* "/run/layerd" */
    char *host;      /* "unix:///run/layerd/layerd.sock" or "fd://" */
    char *read_host; /* the same for readers, or NULL */
    char *group;     /* who may use the socket: "layerd" */
    char *driver;    /* the default storage driver, or NULL: the best that works */
    enum ld_log_level log_level;
    enum ld_log_format log_format;
    struct ld_import_limits import;
    uint64_t min_free_bytes;      /* imports and creates answer no_space below it */
    uint64_t trash_containers_ms; /* how long removed containers stay: 0 */
    uint64_t trash_images_ms;     /* removed images: 0 */
    uint64_t trash_volumes_ms;    /* removed volumes: 24 h */
    uint64_t trash_max_bytes;     /* what all of them may take; 0: no bound */
    uint64_t watch_limits_ms;     /* how often the use of what has limits is looked at; 0: never */
    uint64_t drain_timeout_ms;    /* how long a stop waits for requests in work */
};

struct ld_options {
    struct ld_config config;
    bool check_config, version, help;
};

/* Reads argv over the file (--config FILE, default /etc/layerd/layerd.conf, which may be missing)
 * and its drop-ins (FILE.d/ *.conf, in byte order). Code invalid: the message names file, line and
 * key. A failure leaves *ret empty. */
int ld_options_read(int argc, char **argv, struct ld_options *ret, struct ld_err *err);
void ld_config_done(struct ld_config *config);

/* The text of --help. */
extern const char ld_usage_text[];
