/* Snapshots of volumes: rows as those of containers, but each names a directory of its own. The
 * volume's row decides which directory the volume is; a rollback names another one. */
#include <stdlib.h>
#include <string.h>

#include "daemon/base/mem.h"
#include "daemon/store/internal.h"

static int living(struct ld_tx *tx, const char *id, struct ld_volume *ret, struct ld_err *err)
{
    return ld_want_row(ld_volume_row(tx->db, id, ret, err), "volume", id, err);
}

/* ---- adding ---- */

struct add {
    const char *volume;
    const struct ld_snapshot *s;
};

static int add(struct ld_tx *tx, void *arg, struct ld_err *err)
{
    LD_AUTO(ld_volume_done) struct ld_volume v = {0};
    const struct add *a = arg;

    if (living(tx, a->volume, &v, err) < 0)
        return -1;
    return ld_snapshot_add(tx, a->s,
                           &(struct ld_note){.kind = "volume", .id = v.id, .name = v.name}, 0, err);
}

int ld_store_volume_snapshot_add(struct ld_store *store, const struct ld_write *w,
                                 const char *volume, const struct ld_snapshot *s,
                                 struct ld_err *err)
{
    struct add a = {.volume = volume, .s = s};

    return ld_snapshot_check(s, err) < 0 ? -1
                                         : ld_store_write(store, w, LD_SYNC_FULL, add, &a, err);
}

/* ---- removing ---- */

/* 1: *ret is one of them; 0: there are no more. */
static int first_of(struct ld_db *db, const char *volume, struct ld_snapshot *ret,
                    struct ld_err *err)
{
    autosql stmt = ld_sql(db,
                          "SELECT id, name, volume_sid FROM snapshots WHERE owner_id = ?1"
                          " AND volume_sid IS NOT NULL ORDER BY seq LIMIT 1",
                          err);
    int rc;

    if (!stmt)
        return -1;
    ld_bind(stmt, 1, volume);
    rc = ld_sql_next(stmt, err);
    if (rc > 0)
        *ret = (struct ld_snapshot){.id = ld_col_text(stmt, 0),
                                    .name = ld_col_text(stmt, 1),
                                    .volume_sid = ld_col_u64(stmt, 2)};
    return rc;
}

int ld_volume_snapshots_drop(struct ld_tx *tx, const char *volume, struct ld_removed *removed,
                             struct ld_err *err)
{
    for (;;) {
        LD_AUTO(ld_snapshot_done) struct ld_snapshot s = {0};
        int rc = first_of(tx->db, volume, &s, err);

        if (rc <= 0)
            return rc;
        if (ld_snapshot_drop(tx, &s, removed, err) < 0)
            return -1;
    }
}

/* ---- rolling back ---- */

struct rollback {
    const struct ld_volume_rollback *what;
    struct ld_removed removed;
};

/* The snapshot's state is the volume's, an empty one too: it is not seeded any more. */
static int move_to(struct ld_tx *tx, const char *volume, ld_sid sid, struct ld_err *err)
{
    autosql stmt = ld_sql(tx->db,
                          "UPDATE volumes SET sid = ?2, seeded = 1, damage = NULL"
                          " WHERE id = ?1",
                          err);

    if (!stmt)
        return -1;
    ld_bind(stmt, 1, volume);
    ld_bind(stmt, 2, sid);
    return ld_sql_done(stmt, err);
}

static int roll_back(struct ld_tx *tx, void *arg, struct ld_err *err)
{
    LD_AUTO(ld_volume_done) struct ld_volume v = {0};
    LD_AUTO(ld_snapshot_done) struct ld_snapshot s = {0};
    struct rollback *r = arg;
    const char *text = r->what->snapshot;
    struct ld_gone old = {.sid = r->what->sid, .place = LD_PLACE_VOLUMES};
    struct ld_note owner = {.kind = "volume"};

    if (living(tx, r->what->volume, &v, err) < 0 ||
        ld_want_row(ld_snapshot_row(tx->db, v.id, text, &s, err), "snapshot", text, err) < 0)
        return -1;
    if (v.sid != r->what->sid)
        return ld_err_set(err, LD_E_CONFLICT, "volume '%s' is another directory by now",
                          v.name ? v.name : v.id);
    owner.id = v.id;
    owner.name = v.name;
    if (move_to(tx, v.id, r->what->next_sid, err) < 0 ||
        ld_trash_add(tx, old, &owner, 0, &r->removed, err) < 0)
        return -1;
    return ld_snapshot_returned(tx, &s, &owner, err);
}

int ld_store_volume_rollback(struct ld_store *store, const struct ld_write *w,
                             const struct ld_volume_rollback *what, struct ld_removed *ret_removed,
                             struct ld_err *err)
{
    struct rollback r = {.what = what};

    if (ld_store_write(store, w, LD_SYNC_FULL, roll_back, &r, err) < 0) {
        ld_removed_done(&r.removed);
        return -1;
    }
    *ret_removed = r.removed;
    return 0;
}
