/* Rolling back: see rollback.h. It is a move onto the snapshot's tip. */
#include "daemon/core/rollback.h"

#include <stdlib.h>

#include "daemon/base/mem.h"
#include "daemon/core/move.h"
#include "daemon/core/rootfs.h"
#include "daemon/core/state.h"

struct rollback {
    struct ld_core *core;
    const struct ld_write *w;
    struct ld_container container;
    struct ld_snapshot snapshot;
    struct ld_chain_sids chain; /* of the snapshot */
    const struct ld_driver *driver;
};

static int refuse_use(struct rollback *r, struct ld_err *err)
{
    struct ld_loaded_rootfs rootfs LD_AUTO(ld_rootfs_done) = {.parts = NULL};
    enum ld_mount_state state;

    /* A damaged container can be rolled back: that heals it. */
    if (ld_rootfs_load(r->core, &r->container, false, &rootfs, err) < 0)
        return -1;
    r->driver = rootfs.fs.driver;
    state = ld_mounts_settle(r->core->mounts, &rootfs.fs);
    if (state == LD_UNMOUNTED)
        return 0;
    if (state == LD_HELD) {
        (void)ld_err_set(err, LD_E_BUSY, "it is held by a process in another mount namespace");
        return ld_err_hint(err, "end that process, then try again");
    }
    (void)ld_err_set(err, LD_E_BUSY, "it is mounted, or being read");
    return ld_err_hint(err, "unmount it first");
}

static int load(struct rollback *r, const char *snapshot, struct ld_err *err)
{
    if (ld_store_snapshot_find(r->core->store, r->container.id, snapshot, &r->snapshot, err) < 0 ||
        ld_store_chain(r->core->store, r->snapshot.tip_sid, &r->chain, err) < 0)
        return -1;
    if (r->chain.damaged)
        return ld_err_set(err, LD_E_CORRUPT, "a layer of the snapshot '%s' is damaged", snapshot);
    return ld_core_may_grow(r->core, 0, err);
}

static int move(struct rollback *r, const bool *cancel, struct ld_err *err)
{
    struct ld_move move = {.container = &r->container,
                           .driver = r->driver,
                           .chain = &r->chain,
                           .snapshot = r->snapshot.id,
                           .cancel = cancel};

    return ld_move(r->core, r->w, &move, err);
}

int ld_container_rollback(struct ld_core *core, const struct ld_write *w, const char *container,
                          const char *snapshot, const bool *cancel, struct ld_container_state *ret,
                          struct ld_err *err)
{
    struct rollback *r = ld_new(struct rollback);
    int rc;

    r->core = core;
    r->w = w;
    rc = ld_store_container_get(core->store, container, &r->container, err);
    if (rc == 0) {
        if (load(r, snapshot, err) < 0 || refuse_use(r, err) < 0 || move(r, cancel, err) < 0)
            rc = ld_err_prefix(err, "container '%s'",
                               r->container.name ? r->container.name : r->container.id);
        else
            rc = ld_container_find(core, r->container.id, ret, err);
    }
    ld_container_done(&r->container);
    ld_snapshot_done(&r->snapshot);
    free(r);
    return rc;
}
