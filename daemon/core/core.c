/* Opening and closing the core: see core.h and state.h. Main thread. */
#include "daemon/core/core.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/base/clock.h"
#include "daemon/base/log.h"
#include "daemon/base/mem.h"
#include "daemon/core/backing.h"
#include "daemon/core/config.h"
#include "daemon/core/fold.h"
#include "daemon/core/inflight.h"
#include "daemon/core/limit_watch.h"
#include "daemon/core/limits.h"
#include "daemon/core/recover.h"
#include "daemon/core/state.h"
#include "daemon/core/trash.h"
#include "daemon/jobs/lane.h"
#include "daemon/jobs/loop.h"

enum { FULL_BYTES = 1 << 20 }; /* a disk with less than that free is full */

static int probe_drivers(struct ld_core *core, struct ld_err *err)
{
    const char *want = core->config->driver;

    for (size_t i = 0; i < LD_MAX_DRIVERS && ld_drivers[i]; i++) {
        struct ld_driver_status *s = &core->driver[core->n_drivers++];

        s->driver = ld_drivers[i];
        s->is_usable = s->driver->probe(&core->env, &s->flags, &s->why) == 0;
        if (!s->is_usable)
            ld_warn("storage driver '%s' can't be used: %s", s->driver->name, s->why.message);
        else if (want ? strcmp(want, s->driver->name) == 0 : !core->default_driver)
            core->default_driver = s->driver;
        if (want && strcmp(want, s->driver->name) == 0 && !s->is_usable) {
            *err = s->why;
            return ld_err_prefix(err, "the storage driver '%s' can't be used", want);
        }
    }
    if (core->default_driver)
        return 0;
    return want ? ld_err_set(err, LD_E_INVALID, "there is no storage driver '%s'", want)
                : ld_err_set(err, LD_E_UNSUPPORTED, "no storage driver can be used here");
}

static void tell_event(void *arg)
{
    struct ld_core *core = arg;

    ld_limit_watch_wake(core->limit_watch);
    if (core->on_event)
        core->on_event(core->on_event_arg, ld_store_event_newest(core->store));
}

static void on_store_event(void *arg, uint64_t newest_id)
{
    struct ld_core *core = arg;

    (void)newest_id; /* asked again on the loop: it may have grown */
    ld_loop_post(core->loop, tell_event, core);
}

/* A removed layer or container is read by nobody any more. */
static void on_pin_free(void *arg)
{
    ld_core_kick_reaper(arg);
}

/* A full disk has no room even for what the database shares among its readers: without the reserve
 * nobody could remove anything any more. */
static int open_store(struct ld_core *core, struct ld_err *err)
{
    static const struct ld_store_options options = {.is_loop = ld_is_loop_running};
    struct ld_err ignored = LD_ERR_INIT;
    uint64_t free_bytes = 0;

    if (ld_store_open(core->root.data_fd, &options, &core->store, err) == 0)
        return 0;
    if (ld_root_free_bytes(&core->root, &free_bytes, &ignored) < 0 || free_bytes >= FULL_BYTES)
        return -1;
    ld_reserve_give_up(&core->root);
    *err = LD_ERR_INIT;
    return ld_store_open(core->root.data_fd, &options, &core->store, err);
}

static int open_all(struct ld_core *core, struct ld_err *err)
{
    const struct ld_config *config = core->config;

    if (ld_root_open(config->data_root, config->run_root, config->group, &core->root, err) < 0 ||
        open_store(core, err) < 0)
        return -1;
    core->env = (struct ld_driver_env){.layers_fd = core->root.layers_fd,
                                       .w_fd = core->root.w_fd,
                                       .stage_fd = core->root.stage_fd,
                                       .instance = ld_store_instance(core->store)};
    ld_limits_probe(core);
    core->pins = ld_pins_new();
    core->jobs = ld_jobs_new();
    core->mounts = ld_mounts_new(&core->root, &core->env, core->lanes);
    core->reaper = ld_reaper_new(core);
    core->folder = ld_folder_new(core);
    core->limit_watch = ld_limit_watch_new(core);
    core->inflight = ld_inflight_new(config->import.decoder_memory);
    if (probe_drivers(core, err) < 0)
        return -1;
    ld_backings_probe(core);
    if (ld_mounts_sweep(core->mounts, err) < 0 || ld_recover(core, err) < 0)
        return -1;
    ld_store_on_events(core->store, on_store_event, core);
    ld_pins_on_free(core->pins, on_pin_free, core);
    ld_reserve_keep(&core->root);
    if (core->refusal)
        return 0;
    ld_reaper_kick(core->reaper);
    ld_folder_start(core->folder);
    ld_limit_watch_wake(core->limit_watch);
    return 0;
}

struct ld_core *ld_core_open(const struct ld_config *config, struct ld_loop *loop,
                             struct ld_lanes *lanes, struct ld_ops *ops, struct ld_err *err)
{
    struct ld_core *core = ld_new(struct ld_core);

    core->config = config;
    core->loop = loop;
    core->lanes = lanes;
    core->ops = ops;
    core->started_ns = ld_now_ns();
    core->root = LD_ROOT_INIT;
    if (open_all(core, err) == 0)
        return core;
    ld_core_close(core);
    return NULL;
}

void ld_core_stop(struct ld_core *core)
{
    ld_jobs_stop(core->jobs);
    ld_reaper_stop(core->reaper);
    ld_folder_stop(core->folder);
    ld_limit_watch_stop(core->limit_watch);
}

void ld_core_close(struct ld_core *core)
{
    if (!core)
        return;
    if (core->pins)
        ld_pins_on_free(core->pins, NULL, NULL);
    ld_reaper_free(core->reaper);
    ld_folder_free(core->folder);
    ld_limit_watch_free(core->limit_watch);
    core->limit_watch = NULL; /* events may still be told */
    ld_inflight_free(core->inflight);
    ld_mounts_free(core->mounts);
    ld_jobs_free(core->jobs);
    ld_store_close(core->store);
    ld_pins_free(core->pins);
    ld_quota_done(&core->env.quota);
    ld_root_done(&core->root);
    ld_free_p(&core->refusal);
    core->on_event = NULL;
    ld_loop_post(core->loop, free, core); /* after what others have posted for it */
}

struct ld_store *ld_core_store(struct ld_core *core)
{
    return core->store;
}

const struct ld_config *ld_core_config(const struct ld_core *core)
{
    return core->config;
}

struct ld_loop *ld_core_loop(struct ld_core *core)
{
    return core->loop;
}

struct ld_lanes *ld_core_lanes(struct ld_core *core)
{
    return core->lanes;
}

struct ld_ops *ld_core_ops(struct ld_core *core)
{
    return core->ops;
}

bool ld_core_driver_copies(const struct ld_core *core, const char *name)
{
    for (size_t i = 0; i < core->n_drivers; i++) {
        const struct ld_driver *driver = core->driver[i].driver;

        if (name ? strcmp(driver->name, name) == 0 : driver == core->default_driver)
            return core->driver[i].flags & LD_DRIVER_COPIES;
    }
    return false;
}

void ld_core_watch_events(struct ld_core *core, ld_event_fn fn, void *arg)
{
    core->on_event = fn;
    core->on_event_arg = arg;
}

void ld_core_kick_reaper(struct ld_core *core)
{
    if (core->reaper && !core->refusal)
        ld_reaper_kick(core->reaper);
}

int ld_core_may_grow(struct ld_core *core, uint64_t bytes, struct ld_err *err)
{
    uint64_t free_bytes, want;

    if (core->refusal)
        return ld_err_set(err, LD_E_CONFLICT, "%s", core->refusal);
    if (ld_root_free_bytes(&core->root, &free_bytes, err) < 0)
        return -1;
    if (__builtin_add_overflow(bytes, core->config->min_free_bytes, &want) || free_bytes < want) {
        (void)ld_err_set(
            err, LD_E_NO_SPACE,
            "'%s' has %llu bytes free, %llu more than the %llu to be kept free are needed",
            core->root.data_path, (unsigned long long)free_bytes, (unsigned long long)bytes,
            (unsigned long long)core->config->min_free_bytes);
        return ld_err_hint(err, "remove images, containers or volumes that nobody needs");
    }
    return 0;
}

bool ld_core_make_room(struct ld_core *core, const struct ld_err *err)
{
    if (err->code != LD_E_NO_SPACE)
        return false;
    ld_reserve_give_up(&core->root);
    return true;
}
