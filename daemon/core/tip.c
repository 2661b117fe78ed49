/* Making a tip of a container's present state: see tip.h. */
#include "daemon/core/tip.h"

#include "daemon/core/fold.h"
#include "daemon/core/freeze.h"
#include "daemon/core/rootfs.h"
#include "daemon/core/state.h"
#include "daemon/core/writable.h"

struct tip {
    struct ld_core *core;
    const struct ld_write *w;
    const struct ld_container *container;
    const struct ld_tip_how *how;
    struct ld_loaded_rootfs rootfs;
    bool is_fuzzy;
};

/* A copy of the writable layer. An overlay in use is kept still meanwhile; a tree of files that is
 * mounted can't be: whoever has it in another namespace has a mount of his own. */
static int copy(struct tip *t, const struct ld_tip_spec *spec, struct ld_capture *ret,
                struct ld_err *err)
{
    struct ld_mounts *mounts = t->core->mounts;
    const struct ld_rootfs *fs = &t->rootfs.fs;
    bool is_mounted =
        ld_mounts_state(mounts, t->container->id, t->container->upper_sid) == LD_MOUNTED;
    int rc;

    t->is_fuzzy = t->how->live && is_mounted;
    if (!fs->driver->seal && is_mounted && !t->is_fuzzy) {
        (void)ld_err_set(err, LD_E_BUSY, "it is mounted");
        return ld_err_hint(err,
                           "unmount it, or ask for live=1: the driver '%s' can't keep it still",
                           fs->driver->name);
    }
    if (!fs->driver->seal || t->is_fuzzy)
        return ld_capture(t->core, spec, t->is_fuzzy, t->how->cancel, ret, err);
    if (ld_mounts_quiesce(mounts, fs, err) < 0)
        return -1;
    rc = ld_capture(t->core, spec, false, t->how->cancel, ret, err);
    ld_mounts_resume(mounts, fs);
    return rc;
}

/* The snapshot of a captured layer, or of the tip where nothing was changed. */
static int record(struct tip *t, struct ld_capture *capture, struct ld_err *err)
{
    struct ld_snapshot snapshot = *t->how->snapshot; /* borrows */
    struct ld_freeze freeze = {.container = t->container->id,
                               .upper_sid = t->container->upper_sid,
                               .layer = capture->is_changed ? &capture->layer : NULL,
                               .is_ephemeral = t->container->ephemeral,
                               .snapshot = &snapshot};
    int rc;

    snapshot.fuzzy = t->is_fuzzy;
    rc = ld_store_freeze(t->core->store, t->w, &freeze, err);
    ld_capture_end(t->core, capture, rc == 0 || ld_is_undecided(err));
    return rc;
}

/* A move into the layer store, which has to be a rename. */
static bool can_freeze(const struct ld_rootfs *fs)
{
    return fs->driver->seal && !fs->writable.is_apart;
}

static int make(struct tip *t, struct ld_tip *ret, struct ld_err *err)
{
    struct ld_tip_spec spec = {
        .container = t->container, .rootfs = &t->rootfs, .snapshot = t->how->snapshot};
    enum ld_mount_state state = ld_mounts_settle(t->core->mounts, &t->rootfs.fs);

    if (state == LD_HELD) {
        (void)ld_err_set(err, LD_E_BUSY, "it is held by a process in another mount namespace");
        return ld_err_hint(err, "end that process, then try again");
    }
    if (state == LD_UNMOUNTED && can_freeze(&t->rootfs.fs))
        return ld_freeze(t->core, t->w, &spec, &ret->sid, err);
    if (copy(t, &spec, &ret->capture, err) < 0)
        return -1;
    ret->sid = ret->capture.is_changed ? ret->capture.layer.sid : t->container->parent_sid;
    return t->how->snapshot ? record(t, &ret->capture, err) : 0;
}

int ld_tip_of(struct ld_core *core, const struct ld_write *w, const struct ld_container *c,
              const struct ld_tip_how *how, struct ld_tip *ret, struct ld_err *err)
{
    struct ld_container now LD_AUTO(ld_container_done) = {.id = NULL};
    struct tip t = {.core = core, .w = w, .container = c, .how = how};
    bool has_changed = false;
    int rc;

    *ret = (struct ld_tip){.sid = 0};
    if (ld_core_may_grow(core, 0, err) < 0 ||
        ld_fold_before_growth(core, c, how->cancel, &has_changed, err) < 0 ||
        (has_changed && ld_store_container_get(core->store, c->id, &now, err) < 0))
        return -1;
    if (has_changed)
        t.container = &now;
    if (ld_rootfs_load(core, t.container, true, &t.rootfs, err) < 0)
        return -1;
    rc = make(&t, ret, err);
    ld_rootfs_done(&t.rootfs);
    return rc;
}
