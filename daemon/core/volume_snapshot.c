/* Snapshots of volumes: see volume_snapshot.h. Both ways the copy is made under a new storage id,
 * synced and put in its place; then one transaction; then, after a rollback, the old directory goes
 * to the trash. */
#include "daemon/core/volume_snapshot.h"

#include "daemon/base/clock.h"
#include "daemon/base/digest.h"
#include "daemon/base/mem.h"
#include "daemon/core/making.h"
#include "daemon/core/snapshot.h"
#include "daemon/core/state.h"
#include "daemon/core/trash.h"
#include "daemon/core/volume.h"
#include "daemon/core/writable.h"

static int copy_and_record(struct ld_core *core, const struct ld_write *w,
                           const struct ld_volume *v, const struct ld_volume_snapshot_spec *spec,
                           ld_sid sid, struct ld_snapshot *ret, struct ld_err *err)
{
    char id[65];
    struct ld_snapshot snapshot = {.id = id,
                                   .name = (char *)spec->name, /* only read */
                                   .labels = (char *)spec->labels,
                                   .volume_sid = sid,
                                   .fuzzy = spec->live,
                                   .created_ns = ld_now_ns()};
    struct ld_volume_source from = {.id = v->id, .live = spec->live, .cancel = spec->cancel};
    struct ld_write with = *w;

    ld_random_hex(id, 32);
    with.dirs = &core->root.volumes_fd;
    with.n_dirs = 1;
    if (ld_volume_copy(core, &from, sid, err) < 0)
        return -1;
    if (ld_store_volume_snapshot_add(core->store, &with, v->id, &snapshot, err) < 0) {
        if (!ld_is_undecided(err))
            ld_volume_discard(core, sid);
        return -1;
    }
    ld_making_end(core, sid);
    return ld_store_snapshot_find(core->store, v->id, id, ret, err);
}

int ld_volume_snapshot_create(struct ld_core *core, const struct ld_write *w, const char *volume,
                              const struct ld_volume_snapshot_spec *spec, struct ld_snapshot *ret,
                              struct ld_err *err)
{
    struct ld_volume v LD_AUTO(ld_volume_done) = {.sid = 0};
    struct ld_note owner = {.kind = "volume"};
    ld_sid sid;

    if (ld_store_volume_get(core->store, volume, &v, err) < 0)
        return -1;
    owner.id = v.id;
    owner.name = v.name;
    if (ld_snapshot_check_name(core, &owner, spec->name, err) < 0 ||
        (!spec->live && ld_volume_refuse_mounted(core, &v, true, err) < 0) ||
        ld_core_may_grow(core, 0, err) < 0 || ld_store_take_sid(core->store, &sid, err) < 0)
        return -1;
    return copy_and_record(core, w, &v, spec, sid, ret, err);
}

static int move_to_copy(struct ld_core *core, const struct ld_write *w, const struct ld_volume *v,
                        const struct ld_snapshot *s, ld_sid sid, struct ld_err *err)
{
    struct ld_removed removed LD_AUTO(ld_removed_done) = {.n = 0};
    struct ld_volume_rollback what = {
        .volume = v->id, .snapshot = s->id, .sid = v->sid, .next_sid = sid};
    struct ld_write with = *w;

    with.dirs = &core->root.volumes_fd;
    with.n_dirs = 1;
    if (ld_store_volume_rollback(core->store, &with, &what, &removed, err) < 0) {
        if (!ld_is_undecided(err))
            ld_volume_discard(core, sid);
        return -1;
    }
    ld_making_end(core, sid);
    ld_trash_take(core, &removed);
    return 0;
}

int ld_volume_rollback(struct ld_core *core, const struct ld_write *w, const char *volume,
                       const char *snapshot, const bool *cancel, struct ld_volume *ret,
                       struct ld_err *err)
{
    struct ld_volume v LD_AUTO(ld_volume_done) = {.sid = 0};
    struct ld_snapshot s LD_AUTO(ld_snapshot_done) = {.id = NULL};
    struct ld_volume_source from = {.id = volume, .cancel = cancel};
    ld_sid sid;

    if (ld_store_volume_get(core->store, volume, &v, err) < 0 ||
        ld_store_snapshot_find(core->store, v.id, snapshot, &s, err) < 0 ||
        ld_volume_refuse_mounted(core, &v, false, err) < 0 || ld_core_may_grow(core, 0, err) < 0 ||
        ld_store_take_sid(core->store, &sid, err) < 0)
        return -1;
    from.snapshot_sid = s.volume_sid;
    from.size_limit = v.size_limit;
    if (ld_volume_copy(core, &from, sid, err) < 0 || move_to_copy(core, w, &v, &s, sid, err) < 0)
        return -1;
    return ld_store_volume_get(core->store, v.id, ret, err);
}
