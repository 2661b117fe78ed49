/* Freezing a writable layer: see freeze.h.
 *
 * In the order of a removal: the new writable layer is made, everything is synced (all the
 * container has written, too), one transaction makes the old one a layer, and then its directory
 * moves to its place. A kill before the transaction leaves a marked directory, which the next start
 * deletes; one after it leaves a move that the next start makes.
 *
 * The frozen layer keeps the storage id, so that its directory can always be found by it.
 */
#include "daemon/core/freeze.h"

#include <errno.h>
#include <string.h>

#include "daemon/base/fdio.h"
#include "daemon/base/log.h"
#include "daemon/core/limits.h"
#include "daemon/core/making.h"
#include "daemon/core/state.h"
#include "daemon/core/writable.h"
#include "daemon/jobs/lane.h"

/* The next writable layer, durable together with everything in the present one. */
static int make_next(struct ld_core *core, const struct ld_tip_spec *spec, ld_sid next,
                     struct ld_err *err)
{
    const struct ld_rootfs *fs = &spec->rootfs->fs;
    int r;

    if (ld_making_begin(core, next, err) < 0 ||
        fs->driver->succeed(fs->env, &fs->writable, next, err) < 0)
        return -1;
    if (spec->container->ephemeral)
        return 0;
    r = ld_syncfs(core->root.data_fd);
    return r < 0 ? ld_err_sys(err, r, "sync the data root") : 0;
}

static void take_back(struct ld_core *core, ld_sid next)
{
    int r = ld_remove_tree(core->root.w_fd, ld_sid_name(next).text, NULL);

    if (r < 0)
        ld_warn("take back writable layer %" LD_PRI_SID ": %s; the next start does it", next,
                strerrordesc_np(-r));
    ld_limits_forget(core, next);
    ld_making_end(core, next);
}

int ld_freeze_finish(struct ld_core *core, ld_sid sid, struct ld_err *err)
{
    if (ld_driver_overlay.seal(&core->env, sid, err) == 0)
        return 0;
    if (!ld_core_make_room(core, err))
        return -1;
    return ld_driver_overlay.seal(&core->env, sid, err);
}

int ld_freeze_check_depth(const struct ld_tip_spec *spec, struct ld_err *err)
{
    if (spec->rootfs->chain.n < LD_MAX_LAYERS)
        return 0;
    (void)ld_err_set(err, LD_E_CONFLICT, "it stands on %d layers, as many as a mount can have",
                     LD_MAX_LAYERS);
    return ld_err_hint(err, "roll back to an earlier snapshot, or import what it exports");
}

static int freeze_changed(struct ld_core *core, const struct ld_write *w,
                          const struct ld_tip_spec *spec, struct ld_err *err)
{
    const struct ld_container *c = spec->container;
    struct ld_layer layer = {.sid = c->upper_sid, .origin = LD_ORIGIN_FREEZE, .is_uncounted = true};
    struct ld_freeze freeze = {.container = c->id,
                               .upper_sid = c->upper_sid,
                               .layer = &layer,
                               .is_ephemeral = c->ephemeral,
                               .snapshot = spec->snapshot};

    if (ld_freeze_check_depth(spec, err) < 0 ||
        ld_store_take_sid(core->store, &freeze.next_sid, err) < 0)
        return -1;
    if (make_next(core, spec, freeze.next_sid, err) < 0) {
        take_back(core, freeze.next_sid);
        return -1;
    }
    if (ld_store_freeze(core->store, w, &freeze, err) < 0) {
        if (!ld_is_undecided(err))
            take_back(core, freeze.next_sid);
        return -1;
    }
    ld_making_end(core, freeze.next_sid);
    if (ld_freeze_finish(core, c->upper_sid, err) < 0)
        return ld_err_prefix(err, "the snapshot is recorded; the next start completes it");
    ld_core_kick_reaper(core); /* it counts the new layer */
    return 0;
}

int ld_freeze(struct ld_core *core, const struct ld_write *w, const struct ld_tip_spec *spec,
              ld_sid *ret_tip, struct ld_err *err)
{
    const struct ld_container *c = spec->container;
    const struct ld_rootfs *fs = &spec->rootfs->fs;
    struct ld_freeze same = {.container = c->id,
                             .upper_sid = c->upper_sid,
                             .is_ephemeral = c->ephemeral,
                             .snapshot = spec->snapshot};
    bool is_clean = false;

    if (fs->driver->is_clean(fs->env, &fs->writable, &is_clean, err) < 0)
        return -1;
    if (is_clean)
        *ret_tip = c->parent_sid;
    else
        *ret_tip = c->upper_sid;
    if (!is_clean)
        return freeze_changed(core, w, spec, err);
    return spec->snapshot ? ld_store_freeze(core->store, w, &same, err) : 0;
}

/* ---- counting ---- */

int ld_freeze_count(struct ld_core *core, const bool *cancel, struct ld_err *err)
{
    ld_sid sid = 0;

    for (;;) {
        struct ld_usage usage;
        int r;

        if (ld_store_layer_uncounted(core->store, sid, &sid, err) < 0)
            return -1;
        if (sid == 0)
            return 0;
        if (cancel && ld_flag_is_set(cancel))
            return ld_err_set(err, LD_E_CANCELED, "cancelled");
        r = ld_tree_usage(core->root.layers_fd, ld_sid_name(sid).text, cancel, &usage);
        if (r == -ENOENT)
            continue; /* it went meanwhile, or is not at its place yet: the next round */
        if (r < 0)
            return ld_err_sys(err, r, "count layer %" LD_PRI_SID, sid);
        if (ld_store_layer_set_count(core->store, sid, usage.bytes, usage.inodes, err) < 0)
            return -1;
    }
}
