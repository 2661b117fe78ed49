/* Cloning a container: see clone.h. The present state becomes a tip that both stand on, so that any
 * number of clones of an unchanged container make one layer, or none. */
#include "daemon/core/clone.h"

#include <stdlib.h>

#include "daemon/base/mem.h"
#include "daemon/core/fold.h"
#include "daemon/core/limits.h"
#include "daemon/core/state.h"
#include "daemon/core/tip.h"
#include "daemon/core/writable.h"
#include "daemon/jobs/op.h"

int ld_clone_admit(struct ld_core *core, const char *origin, const struct ld_clone_spec *spec,
                   struct ld_op *op, char ret_id[65], struct ld_err *err)
{
    struct ld_container_state state LD_AUTO(ld_container_state_done) = {.mount = LD_UNMOUNTED};

    /* A snapshot is only read: many clones of one are made at the same time. */
    if (ld_container_find(core, origin, &state, err) < 0 ||
        ld_container_admit(core, origin, spec->snapshot == NULL, op, ret_id, err) < 0)
        return -1;
    if (ld_core_driver_copies(core, state.record.driver) ||
        (!spec->snapshot && (state.mount == LD_MOUNTED || state.record.backing)))
        op->lane = LD_LANE_COPY;
    if (spec->name)
        ld_op_key(op, LD_EXCLUSIVE, "n:c:%s", spec->name);
    return 0;
}

/* Mounts to ask for: a volume by its id, but an anonymous one as a new one. Strings are borrowed.
 */
static int copy_mounts(struct ld_core *core, const struct ld_container *from,
                       struct ld_mount_spec *mounts, struct ld_err *err)
{
    for (size_t i = 0; i < from->n_mounts; i++) {
        struct ld_volume v LD_AUTO(ld_volume_done) = {.sid = 0};

        mounts[i] = from->mounts[i];
        if (from->mounts[i].type != LD_MOUNT_VOLUME)
            continue;
        if (ld_store_volume_get(core->store, from->mounts[i].volume_id, &v, err) < 0)
            return ld_err_prefix(err, "the volume for '%s'", from->mounts[i].target);
        mounts[i].source = v.anonymous ? NULL : from->mounts[i].volume_id;
    }
    return 0;
}

static int find_tip(struct ld_core *core, const struct ld_write *w, const struct ld_container *from,
                    const char *snapshot, const bool *cancel, struct ld_tip *ret,
                    struct ld_err *err)
{
    struct ld_snapshot s LD_AUTO(ld_snapshot_done) = {.id = NULL};
    struct ld_tip_how how = {.cancel = cancel};

    *ret = (struct ld_tip){.sid = 0};
    if (!snapshot)
        return ld_tip_of(core, w, from, &how, ret, err);
    if (ld_store_snapshot_find(core->store, from->id, snapshot, &s, err) < 0)
        return -1;
    ret->sid = s.tip_sid;
    return 0;
}

static int clone_of(struct ld_core *core, const struct ld_write *w, const struct ld_container *from,
                    const struct ld_clone_spec *how, const bool *cancel,
                    struct ld_container_state *ret, struct ld_err *err)
{
    autofree struct ld_mount_spec *mounts =
        ld_alloc0((from->n_mounts + 1) * sizeof(*mounts)); /* what it points to is `from`'s */
    struct ld_container_origin origin = {.container = from};
    struct ld_container_spec spec = {.name = how->name,
                                     .origin = &origin,
                                     .driver = from->driver,
                                     .labels = how->labels ? how->labels : from->labels,
                                     .config = from->config,
                                     .mounts = mounts,
                                     .n_mounts = from->n_mounts,
                                     .limits = from->limits,
                                     .backing = from->backing,
                                     .read_only = from->read_only,
                                     .ephemeral = from->ephemeral,
                                     .auto_remove = from->auto_remove};
    struct ld_tip tip;
    bool made;
    int rc;

    if (how->has_size_limit)
        spec.limits.bytes = how->limits.bytes;
    if (how->has_inode_limit)
        spec.limits.inodes = how->limits.inodes;
    if (!from->backing && ld_limits_check(core, &spec.limits, err) < 0)
        return -1;
    if (copy_mounts(core, from, mounts, err) < 0 ||
        find_tip(core, w, from, how->snapshot, cancel, &tip, err) < 0)
        return -1;
    origin.tip_sid = tip.sid;
    origin.layer = tip.capture.is_changed ? &tip.capture.layer : NULL;
    rc = ld_container_create(core, w, &spec, cancel, ret, &made, err);
    ld_capture_end(core, &tip.capture, rc == 0 || ld_is_undecided(err));
    ld_folder_note(core, tip.sid);
    return rc;
}

int ld_clone_create(struct ld_core *core, const struct ld_write *w, const char *origin,
                    const struct ld_clone_spec *spec, const bool *cancel,
                    struct ld_container_state *ret, struct ld_err *err)
{
    struct ld_container from LD_AUTO(ld_container_done) = {.id = NULL};

    if (ld_store_container_get(core->store, origin, &from, err) < 0)
        return -1;
    return clone_of(core, w, &from, spec, cancel, ret, err);
}
