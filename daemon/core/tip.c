/* Making a tip of a container's present state: see tip.h. */
#include "daemon/core/tip.h"

#include "daemon/core/freeze.h"
#include "daemon/core/rootfs.h"
#include "daemon/core/state.h"

static int refuse_use(enum ld_mount_state state, struct ld_err *err)
{
    if (state == LD_HELD) {
        (void)ld_err_set(err, LD_E_BUSY, "it is held by a process in another mount namespace");
        return ld_err_hint(err, "end that process, then try again");
    }
    (void)ld_err_set(err, LD_E_BUSY, "it is in use");
    return ld_err_hint(err, "unmount it first");
}

int ld_tip_of(struct ld_core *core, const struct ld_write *w, const struct ld_container *c,
              const struct ld_snapshot *snapshot, ld_sid *ret_tip, struct ld_err *err)
{
    struct ld_loaded_rootfs rootfs LD_AUTO(ld_rootfs_done) = {.parts = NULL};
    struct ld_tip_spec spec = {.container = c, .rootfs = &rootfs, .snapshot = snapshot};
    enum ld_mount_state state;

    if (ld_core_may_grow(core, 0, err) < 0 || ld_rootfs_load(core, c, true, &rootfs, err) < 0)
        return -1;
    if (!rootfs.fs.driver->seal)
        return ld_err_set(err, LD_E_UNSUPPORTED, "the driver '%s' has no snapshots yet", c->driver);
    state = ld_mounts_settle(core->mounts, &rootfs.fs);
    if (state != LD_UNMOUNTED)
        return refuse_use(state, err);
    return ld_freeze(core, w, &spec, ret_tip, err);
}
