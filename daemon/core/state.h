/* What the files of core/ share. Nobody outside core/ includes it.
 *
 * Everything here is set while the core opens and constant afterwards, or is a module with a
 * contract of its own about threads.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "daemon/core/core.h"
#include "daemon/core/jobs.h"
#include "daemon/core/mounts.h"
#include "daemon/core/pins.h"
#include "daemon/core/root.h"
#include "daemon/store/store.h"
#include "drivers/driver.h"

enum { LD_MAX_DRIVERS = 8 };

/* What the probe of a driver said at start. */
struct ld_driver_status {
    const struct ld_driver *driver;
    bool is_usable;
    unsigned flags;    /* enum ld_driver_flags */
    struct ld_err why; /* when it is not */
};

/* The same of a backing; [LD_BACKING_NONE] is not used. */
struct ld_backing_status {
    bool is_usable;
    struct ld_err why;
};

struct ld_inflight;
struct ld_timer;
struct ld_reaper;
struct ld_folder;
struct ld_limit_watch;

struct ld_core {
    const struct ld_config *config;
    struct ld_loop *loop;
    struct ld_lanes *lanes;
    struct ld_ops *ops;
    struct ld_root root;
    struct ld_store *store;
    struct ld_driver_env env;
    struct ld_err no_quota; /* why env.quota limits nothing */
    uint64_t n_not_limited; /* records found at the start whose limits could not be set */
    struct ld_driver_status driver[LD_MAX_DRIVERS];
    size_t n_drivers;
    const struct ld_driver *default_driver;
    struct ld_backing_status backing[LD_BACKING_END];
    struct ld_mounts *mounts;
    struct ld_pins *pins;
    struct ld_reaper *reaper;
    struct ld_folder *folder;
    struct ld_limit_watch *limit_watch;
    struct ld_inflight *inflight;
    struct ld_jobs *jobs;
    int64_t started_ns;
    /* The database is older than the tree (restored from a backup): nothing is touched, creates and
     * imports are refused with this text. NULL: all is well. */
    char *refusal;
    ld_event_fn on_event; /* loop only */
    void *on_event_arg;
};

/* Before anything that needs space or a new sid: conflict with the refusal, no_space below the
 * watermark. Any thread. */
int ld_core_may_grow(struct ld_core *core, uint64_t bytes, struct ld_err *err);

/* After a removal has failed: true when the disk was full and the reserve is given up for it now.
 * Then it is worth one more try. Any worker. */
bool ld_core_make_room(struct ld_core *core, const struct ld_err *err);
