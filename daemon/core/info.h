/* What the daemon is and what its store takes: for /v1/info and /v1/df. Blocking; any worker. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/base/err.h"
#include "daemon/base/fdio.h"
#include "daemon/store/store.h"

struct ld_core;

struct ld_driver_info {
    const char *name;
    bool is_usable, is_default, upper_is_layer, copies, quota;
    const char *reason, *hint; /* why it is not usable, or NULL */
};

struct ld_info {
    const char *instance;
    char kernel[65];
    char machine[65];
    int64_t started_ns;
    const char *filesystem; /* "ext4" */
    uint64_t size, available, inodes_available;
    struct ld_driver_info driver[8];
    size_t n_drivers;
    struct ld_store_sums sums;
    size_t mounted, jobs_running;
    const char *data_root, *run_root;
    const char *refusal; /* why nothing can be created, or NULL */
};
/* Everything it points to lives as long as the core. */
int ld_info_get(struct ld_core *core, struct ld_info *ret, struct ld_err *err);

/* Bytes are st_blocks x 512. Committed layers are as the records have them, everything else is
 * walked: when the daemon is idle the total is what du counts below the data root. */
struct ld_disk_use {
    struct ld_store_sums sums;
    uint64_t unused_bytes; /* of layers that no image has */
    size_t writable_count, volume_count;
    struct ld_usage writable, volumes, trash, quarantine, staging, blobs, other, total;
};
int ld_disk_use_get(struct ld_core *core, const bool *cancel, struct ld_disk_use *ret,
                    struct ld_err *err);
