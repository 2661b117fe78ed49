/* Taking and removing snapshots: see snapshot.h. */
#include "daemon/core/snapshot.h"

#include <string.h>

#include "daemon/base/clock.h"
#include "daemon/base/digest.h"
#include "daemon/base/mem.h"
#include "daemon/base/parse.h"
#include "daemon/core/container.h"
#include "daemon/core/fold.h"
#include "daemon/core/freeze.h"
#include "daemon/core/rootfs.h"
#include "daemon/core/state.h"
#include "daemon/core/tip.h"
#include "daemon/core/trash.h"
#include "daemon/jobs/op.h"

int ld_snapshot_admit_create(struct ld_core *core, const char *container, struct ld_op *op,
                             char ret_id[65], struct ld_err *err)
{
    struct ld_container_state state LD_AUTO(ld_container_state_done) = {.mount = LD_UNMOUNTED};

    if (ld_container_find(core, container, &state, err) < 0 ||
        ld_container_admit(core, container, true, op, ret_id, err) < 0)
        return -1;
    if (state.mount == LD_MOUNTED || state.record.backing ||
        ld_core_driver_copies(core, state.record.driver))
        op->lane = LD_LANE_COPY;
    return 0;
}

int ld_snapshot_check_name(struct ld_core *core, const struct ld_note *owner, const char *name,
                           struct ld_err *err)
{
    struct ld_snapshot other LD_AUTO(ld_snapshot_done) = {.id = NULL};
    struct ld_err lookup = LD_ERR_INIT;

    if (!name)
        return 0;
    if (!ld_name_is_valid(name)) {
        (void)ld_err_set(err, LD_E_INVALID, "the snapshot name '%s' is not valid", name);
        return ld_err_hint(err,
                           "names are [a-z0-9][a-z0-9_.-]*, at most 128 bytes, not 64 hex digits");
    }
    /* Asked again in its transaction; but nothing should be made only to be refused. */
    if (ld_store_snapshot_find(core->store, owner->id, name, &other, &lookup) == 0 && other.name &&
        strcmp(other.name, name) == 0)
        return ld_err_set(err, LD_E_EXISTS, "%s '%s' has a snapshot '%s' already", owner->kind,
                          owner->name ? owner->name : owner->id, name);
    return 0;
}

static int take(struct ld_core *core, const struct ld_write *w, const struct ld_container *c,
                const struct ld_snapshot_spec *spec, const bool *cancel, struct ld_snapshot *ret,
                struct ld_err *err)
{
    char id[65];
    struct ld_snapshot snapshot = {.id = id,
                                   .name = (char *)spec->name, /* only read */
                                   .labels = (char *)spec->labels,
                                   .created_ns = ld_now_ns()};
    struct ld_tip_how how = {.snapshot = &snapshot, .live = spec->live, .cancel = cancel};
    struct ld_tip tip;

    ld_random_hex(id, 32);
    if (ld_tip_of(core, w, c, &how, &tip, err) < 0)
        return -1;
    ld_folder_note(core, tip.sid);
    return ld_store_snapshot_find(core->store, c->id, id, ret, err);
}

int ld_snapshot_create(struct ld_core *core, const struct ld_write *w, const char *container,
                       const struct ld_snapshot_spec *spec, const bool *cancel,
                       struct ld_snapshot *ret, struct ld_err *err)
{
    struct ld_container c LD_AUTO(ld_container_done) = {.id = NULL};
    struct ld_note owner = {.kind = "container"};

    if (ld_store_container_get(core->store, container, &c, err) < 0)
        return -1;
    owner.id = c.id;
    owner.name = c.name;
    if (ld_snapshot_check_name(core, &owner, spec->name, err) < 0)
        return -1;
    if (take(core, w, &c, spec, cancel, ret, err) < 0)
        return ld_err_prefix(err, "container '%s'", c.name ? c.name : c.id);
    return 0;
}

int ld_snapshot_remove(struct ld_core *core, const struct ld_write *w, const char *owner,
                       const char *id, uint64_t if_match, struct ld_removed *ret,
                       struct ld_err *err)
{
    struct ld_removed removed LD_AUTO(ld_removed_done) = {.n = 0};
    struct ld_snapshot snapshot LD_AUTO(ld_snapshot_done) = {.id = NULL};

    if (w->dry_run && ld_freeze_count(core, NULL, err) < 0)
        return -1; /* its bytes are told */
    if (ld_store_snapshot_find(core->store, owner, id, &snapshot, err) < 0)
        return -1;
    if (ld_store_snapshot_remove(core->store, w, owner, id, if_match, &removed, err) < 0 &&
        (w->dry_run || !ld_core_make_room(core, err) ||
         ld_store_snapshot_remove(core->store, w, owner, id, if_match, &removed, err) < 0))
        return -1;
    ld_trash_finish(core, w, &removed, ret);
    if (!w->dry_run)
        ld_folder_note(core, snapshot.tip_sid); /* what later states have replaced can go */
    return 0;
}
