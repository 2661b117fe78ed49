/* What the daemon is: for /v1/info. Blocking; any worker. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/base/err.h"
#include "daemon/core/fold.h"
#include "daemon/store/store.h"

struct ld_core;

struct ld_driver_info {
    const char *name;
    bool is_usable, is_default, upper_is_layer, copies, quota;
    const char *reason, *hint; /* why it is not usable, or NULL */
};

struct ld_backing_info {
    const char *name;
    bool is_usable;
    const char *reason, *hint; /* why it is not usable, or NULL */
};

struct ld_info {
    const char *instance;
    char kernel[65];
    char machine[65];
    int64_t started_ns;
    const char *filesystem;               /* "ext4" */
    const char *no_quota, *no_quota_hint; /* why nothing can be limited, and what helps; or NULL */
    uint64_t not_limited;                 /* containers and volumes whose limits are not enforced */
    uint64_t size, available, inodes_available;
    struct ld_driver_info driver[8];
    size_t n_drivers;
    struct ld_backing_info backing[LD_BACKING_END];
    size_t n_backings;
    struct ld_store_sums sums;
    size_t mounted, jobs_running;
    struct ld_fold_counts folded;
    const char *data_root, *run_root;
    const char *refusal; /* why nothing can be created, or NULL */
};
/* Everything it points to lives as long as the core. */
int ld_info_get(struct ld_core *core, struct ld_info *ret, struct ld_err *err);
