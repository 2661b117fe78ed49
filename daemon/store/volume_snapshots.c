/* Snapshots of volumes: rows as those of containers, but each names a directory of its own. The
 * volume's row decides which directory the volume is; a rollback names another one. */
#include <stdlib.h>
#include <string.h>

#include "daemon/base/mem.h"
#include "daemon/store/internal.h"

static int note(struct ld_tx *tx, const char *type, const struct ld_snapshot *s,
                const struct ld_volume *owner, struct ld_err *err)
{
    autobuf struct ld_buf attributes = LD_BUF_INIT(4096);

    ld_buf_adds(&attributes, "{\"volume\":");
    ld_json_add(&attributes, owner->id);
    ld_buf_adds(&attributes, ",\"volume_name\":");
    ld_json_add(&attributes, owner->name);
    ld_buf_addc(&attributes, '}');
    return ld_tx_note(tx,
                      &(struct ld_note){.type = type,
                                        .kind = "snapshot",
                                        .id = s->id,
                                        .name = s->name,
                                        .attributes = ld_buf_str(&attributes)},
                      err);
}

static int living(struct ld_tx *tx, const char *id, struct ld_volume *ret, struct ld_err *err)
{
    return ld_want_row(ld_volume_row(tx->db, id, ret, err), "volume", id, err);
}

static int bump_version(struct ld_tx *tx, const char *volume, struct ld_err *err)
{
    autosql stmt = ld_sql(tx->db, "UPDATE volumes SET version = version + 1 WHERE id = ?1", err);

    if (!stmt)
        return -1;
    ld_bind(stmt, 1, volume);
    return ld_sql_done(stmt, err);
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

    if (ld_once_check(tx, err) < 0 || living(tx, a->volume, &v, err) < 0 ||
        ld_snapshot_name_free(tx, a->s, v.id, err) < 0 ||
        ld_snapshot_insert(tx, a->s, v.id, 0, err) < 0 || bump_version(tx, v.id, err) < 0 ||
        ld_once_record(tx, "snapshot", a->s->id, err) < 0)
        return -1;
    return note(tx, "snapshot.create", a->s, &v, err);
}

int ld_store_volume_snapshot_add(struct ld_store *store, const struct ld_write *w,
                                 const char *volume, const struct ld_snapshot *s,
                                 struct ld_err *err)
{
    struct add a = {.volume = volume, .s = s};

    if (s->labels && strlen(s->labels) > LD_STORE_MAX_DOC)
        return ld_err_set(err, LD_E_INVALID, "snapshot '%s': the labels are too large",
                          s->name ? s->name : s->id);
    return ld_store_write(store, w, LD_SYNC_FULL, add, &a, err);
}

/* ---- removing ---- */

static int drop(struct ld_tx *tx, const struct ld_snapshot *s, struct ld_removed *removed,
                struct ld_err *err)
{
    struct ld_gone gone = {.sid = s->volume_sid, .place = LD_PLACE_VOLUMES};
    struct ld_note owner = {.kind = "snapshot", .id = s->id, .name = s->name};
    autosql stmt = ld_sql(tx->db, "DELETE FROM snapshots WHERE id = ?1", err);

    if (!stmt)
        return -1;
    ld_bind(stmt, 1, s->id);
    return ld_sql_done(stmt, err) < 0 ? -1 : ld_trash_add(tx, gone, &owner, 0, removed, err);
}

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
        if (drop(tx, &s, removed, err) < 0)
            return -1;
    }
}

struct removal {
    const char *volume, *id;
    uint64_t if_match;
    struct ld_removed removed;
};

static int remove_snapshot(struct ld_tx *tx, void *arg, struct ld_err *err)
{
    LD_AUTO(ld_volume_done) struct ld_volume v = {0};
    LD_AUTO(ld_snapshot_done) struct ld_snapshot s = {0};
    struct removal *r = arg;

    if (living(tx, r->volume, &v, err) < 0 ||
        ld_want_row(ld_snapshot_row(tx->db, v.id, r->id, &s, err), "snapshot", r->id, err) < 0)
        return -1;
    if (r->if_match != 0 && r->if_match != s.version)
        return ld_err_version(err, "snapshot", s.id, s.version, r->if_match);
    r->removed.is_removed = true;
    if (drop(tx, &s, &r->removed, err) < 0 || bump_version(tx, v.id, err) < 0)
        return -1;
    return note(tx, "snapshot.remove", &s, &v, err);
}

int ld_store_volume_snapshot_remove(struct ld_store *store, const struct ld_write *w,
                                    const char *volume, const char *id, uint64_t if_match,
                                    struct ld_removed *ret_removed, struct ld_err *err)
{
    struct removal r = {.volume = volume, .id = id, .if_match = if_match};

    if (ld_store_write(store, w, LD_SYNC_FULL, remove_snapshot, &r, err) < 0) {
        ld_removed_done(&r.removed);
        return -1;
    }
    *ret_removed = r.removed;
    return 0;
}

/* ---- rolling back ---- */

struct rollback {
    const struct ld_volume_rollback *what;
    struct ld_removed removed;
};

static int note_rollback(struct ld_tx *tx, const struct ld_volume *v, const struct ld_snapshot *s,
                         struct ld_err *err)
{
    autobuf struct ld_buf attributes = LD_BUF_INIT(4096);

    ld_buf_adds(&attributes, "{\"snapshot\":");
    ld_json_add(&attributes, s->id);
    ld_buf_adds(&attributes, ",\"snapshot_name\":");
    ld_json_add(&attributes, s->name);
    ld_buf_addc(&attributes, '}');
    return ld_tx_note(tx,
                      &(struct ld_note){.type = "volume.rollback",
                                        .kind = "volume",
                                        .id = v->id,
                                        .name = v->name,
                                        .attributes = ld_buf_str(&attributes)},
                      err);
}

/* The snapshot's state is the volume's, an empty one too: it is not seeded any more. */
static int move_to(struct ld_tx *tx, const char *volume, ld_sid sid, struct ld_err *err)
{
    autosql stmt = ld_sql(tx->db,
                          "UPDATE volumes SET sid = ?2, seeded = 1, damage = NULL,"
                          " version = version + 1 WHERE id = ?1",
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
    return note_rollback(tx, &v, &s, err);
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
