/* The trash: what removals have taken out of the records and the reaper deletes from disk later.
 *
 * A row is written in the transaction of the removal and names the directory by its sid; whether
 * that was renamed to trash/SID already is repeated at start. The row goes when the directory is
 * deleted. A container, volume or image that can be restored keeps its own row with removed_ns set
 * until then. An image has no directory: its sid is only its place in the list, and its layers stay
 * where they are, needed by it.
 *
 * What is deleted and what can be restored is told apart by the row alone, never by the clock,
 * which may be set back: purge_ns = removed_ns says that the directory may be half deleted. A purge
 * writes that, and the reaper before it begins with what has become due.
 */
#include <stdlib.h>
#include <string.h>

#include "daemon/base/mem.h"
#include "daemon/store/internal.h"

int ld_trash_add(struct ld_tx *tx, struct ld_gone gone, const struct ld_note *owner,
                 int64_t keep_ns, struct ld_removed *removed, struct ld_err *err)
{
    autosql stmt = ld_sql(tx->db,
                          "INSERT INTO trash(sid, place, kind, owner_id, owner_name, removed_ns,"
                          " purge_ns, bytes) VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7,"
                          " CASE WHEN ?2 = ?8 THEN 0 END)",
                          err);
    struct ld_removed_object *object;

    if (!stmt)
        return -1;
    ld_bind(stmt, 1, gone.sid);
    ld_bind(stmt, 2, (int)gone.place);
    ld_bind(stmt, 3, owner->kind);
    ld_bind(stmt, 4, owner->id);
    ld_bind(stmt, 5, owner->name);
    ld_bind(stmt, 6, tx->now_ns);
    ld_bind(stmt, 7, tx->now_ns + keep_ns);
    ld_bind(stmt, 8, (int)LD_PLACE_NONE);
    if (ld_sql_done(stmt, err) < 0)
        return -1;
    object = ld_removed_add(removed, owner->kind, owner->id, owner->name);
    object->is_kept = keep_ns > 0;
    if (gone.place == LD_PLACE_NONE)
        return 0;
    object->dir = gone;
    object->has_dir = true;
    ld_grow(&removed->item, &removed->cap, removed->n + 1, sizeof(*removed->item));
    removed->item[removed->n++] = gone;
    return 0;
}

#define COLUMNS "sid, place, kind, owner_id, owner_name, removed_ns, purge_ns"

/* Nothing needs the layer g.sid but the image ?1 and the layer g.above. */
#define IS_FREE(g)                                                                                 \
    "NOT EXISTS(SELECT 1 FROM layers WHERE parent_sid = " g ".sid AND sid <> " g ".above)"         \
    " AND NOT EXISTS(SELECT 1 FROM images WHERE tip_sid = " g ".sid AND id <> ?1)"                 \
    " AND NOT EXISTS(SELECT 1 FROM containers WHERE parent_sid = " g ".sid)"                       \
    " AND NOT EXISTS(SELECT 1 FROM snapshots WHERE tip_sid = " g ".sid)"                           \
    " AND NOT EXISTS(SELECT 1 FROM held WHERE layer_sid = " g ".sid)"

static void read_trash(sqlite3_stmt *stmt, struct ld_trash *trash)
{
    *trash = (struct ld_trash){
        .sid = ld_col_u64(stmt, 0),
        .place = (enum ld_place)ld_col_int(stmt, 1),
        .kind = ld_col_text(stmt, 2),
        .owner_id = ld_col_text(stmt, 3),
        .owner_name = ld_col_text(stmt, 4),
        .removed_ns = ld_col_int(stmt, 5),
        .purge_ns = ld_col_int(stmt, 6),
    };
}

int ld_store_trash_list(struct ld_store *store, const struct ld_trash_query *query,
                        struct ld_trash_page *ret, struct ld_err *err)
{
    LD_AUTO(ld_trash_page_done) struct ld_trash_page page = {0};
    struct ld_paging paging = LD_PAGING(query->limit);
    size_t cap = 0;
    autoread read = {0};
    autosql stmt = NULL;
    int rc;

    if (ld_read_begin(store, LD_READ_LIST, &read, err) < 0)
        return -1;
    stmt = ld_sql(read.db,
                  "SELECT " COLUMNS " FROM trash"
                  " WHERE sid > ?1 AND (?2 = 0 OR purge_ns = removed_ns)"
                  " AND (?3 = 0 OR (bytes IS NULL AND purge_ns > removed_ns))"
                  " AND (?4 IS NULL OR kind = ?4) ORDER BY sid LIMIT ?5",
                  err);
    if (!stmt)
        return -1;
    ld_bind(stmt, 1, query->after);
    ld_bind(stmt, 2, query->only_due);
    ld_bind(stmt, 3, query->only_uncounted);
    ld_bind(stmt, 4, query->kind);
    ld_bind(stmt, 5, paging.max + 1);
    while ((rc = ld_page_next(stmt, &paging, &page.next, err)) > 0) {
        struct ld_trash *t;

        ld_grow(&page.item, &cap, page.n + 1, sizeof(*page.item));
        t = &page.item[page.n++];
        read_trash(stmt, t);
        if (t->place == LD_PLACE_NONE &&
            ld_image_removed_refs(read.db, t->owner_id, &t->refs, &t->n_refs, err) < 0)
            return -1;
    }
    if (rc < 0)
        return -1;
    *ret = ld_steal(&page);
    return 0;
}

/* ---- finding ---- */

/* The row that a statement with two text parameters finds: 1, 2: several, 0: none. */
static int get_by(struct ld_db *db, const char *sql, const char *key, const char *other,
                  struct ld_trash *ret, struct ld_err *err)
{
    LD_AUTO(ld_trash_done) struct ld_trash trash = {0};
    autosql stmt = ld_sql(db, sql, err);
    int rc;

    if (!stmt)
        return -1;
    ld_bind(stmt, 1, key);
    ld_bind(stmt, 2, other);
    rc = ld_sql_next(stmt, err);
    if (rc <= 0)
        return rc;
    read_trash(stmt, &trash);
    rc = ld_sql_next(stmt, err);
    if (rc != 0)
        return rc < 0 ? -1 : 2;
    *ret = ld_steal(&trash);
    return 1;
}

/* One object may have left more than one directory; its own is the last. */
static int find(struct ld_db *db, const char *text, const char *ref, struct ld_trash *ret,
                struct ld_err *err)
{
    const char *hex = strncmp(text, "sha256:", 7) == 0 ? text + 7 : text;
    autofree char *digest = ld_asprintf("sha256:%s", hex);
    int rc = get_by(db,
                    "SELECT " COLUMNS ", max(sid) FROM trash WHERE owner_id IN (?1, ?2)"
                    " GROUP BY owner_id LIMIT 2",
                    text, digest, ret, err);

    if (rc == 0)
        rc = get_by(db,
                    "SELECT " COLUMNS ", max(sid) FROM trash"
                    " WHERE (owner_name = ?1 AND kind <> 'image')"
                    " OR owner_id IN (SELECT image_id FROM removed_refs WHERE name = ?2)"
                    " GROUP BY owner_id LIMIT 2",
                    text, ref, ret, err);
    if (rc == 0 && ld_text_is_prefix(hex))
        rc = get_by(db,
                    "SELECT " COLUMNS ", max(sid) FROM trash"
                    " WHERE (owner_id > ?1 AND owner_id < ?1 || 'g')"
                    " OR (owner_id > ?2 AND owner_id < ?2 || 'g')"
                    " GROUP BY owner_id LIMIT 2",
                    text, digest, ret, err);
    return rc;
}

int ld_store_trash_find(struct ld_store *store, const char *text, const char *ref,
                        struct ld_trash *ret, struct ld_err *err)
{
    autoread read = {0};
    int rc;

    if (ld_read_begin(store, LD_READ_POINT, &read, err) < 0)
        return -1;
    rc = find(read.db, text, ref, ret, err);
    if (rc == 2) {
        (void)ld_err_set(err, LD_E_CONFLICT, "'%s' is ambiguous: there are several in the trash",
                         text);
        return ld_err_hint(err, "give its id");
    }
    if (rc == 0)
        return ld_err_set(err, LD_E_NOT_FOUND, "there is no '%s' in the trash", text);
    return rc < 0 ? -1 : 0;
}

/* The layers from the tip down as long as nothing but the image and the one above needs them. */
int ld_store_trash_image_bytes(struct ld_store *store, const char *id, uint64_t *ret,
                               struct ld_err *err)
{
    autoread read = {0};
    autosql stmt = NULL;
    int64_t bytes = 0;

    if (ld_read_begin(store, LD_READ_POINT, &read, err) < 0)
        return -1;
    stmt = ld_sql(
        read.db,
        "WITH RECURSIVE gone(sid, above, bytes, parent_sid) AS ("
        "  SELECT l.sid, 0, l.bytes, l.parent_sid FROM images i"
        "  JOIN layers l ON l.sid = i.tip_sid WHERE i.id = ?1"
        "  UNION SELECT l.sid, g.sid, l.bytes, l.parent_sid"
        "  FROM gone g JOIN layers l ON l.sid = g.parent_sid"
        "  WHERE " IS_FREE("g") ")"
                                " SELECT coalesce(sum(g.bytes), 0) FROM gone g WHERE " IS_FREE("g"),
        err);
    if (!stmt)
        return -1;
    ld_bind(stmt, 1, id);
    if (ld_sql_int(stmt, &bytes, err) < 0)
        return -1;
    *ret = (uint64_t)bytes;
    return 0;
}

/* ---- forgetting ---- */

struct forget {
    const ld_sid *sids;
    size_t n;
    struct ld_removed removed;
};

/* 1: *ret is the row; 0: no such row. */
static int get_trash(struct ld_db *db, ld_sid sid, struct ld_trash *ret, struct ld_err *err)
{
    autosql stmt = ld_sql(db, "SELECT " COLUMNS " FROM trash WHERE sid = ?1", err);
    int rc;

    if (!stmt)
        return -1;
    ld_bind(stmt, 1, sid);
    rc = ld_sql_next(stmt, err);
    if (rc > 0)
        read_trash(stmt, ret);
    return rc;
}

static int run_with_sid(struct ld_db *db, const char *text, ld_sid sid, struct ld_err *err)
{
    autosql stmt = ld_sql(db, text, err);

    if (!stmt)
        return -1;
    ld_bind(stmt, 1, sid);
    return ld_sql_done(stmt, err);
}

/* 1: the row is that of an image, or its directory that of a container or volume, which was removed
 * and kept its own row; 0: that is gone, or the object lives on without this directory. */
static int is_restorable(struct ld_db *db, const struct ld_trash *trash, struct ld_err *err)
{
    autosql stmt = NULL;
    int64_t one;

    if (trash->place == LD_PLACE_LAYERS)
        return 0;
    if (trash->place == LD_PLACE_W)
        stmt = ld_sql(db,
                      "SELECT 1 FROM containers"
                      " WHERE upper_sid = ?1 AND id = ?2 AND removed_ns IS NOT NULL",
                      err);
    else if (trash->place == LD_PLACE_VOLUMES)
        stmt = ld_sql(
            db, "SELECT 1 FROM volumes WHERE sid = ?1 AND id = ?2 AND removed_ns IS NOT NULL", err);
    else
        stmt = ld_sql(db, "SELECT ?1 FROM images WHERE id = ?2 AND removed_ns IS NOT NULL", err);
    if (!stmt)
        return -1;
    ld_bind(stmt, 1, trash->sid);
    ld_bind(stmt, 2, trash->owner_id);
    return ld_sql_int(stmt, &one, err);
}

static int forget_one(struct ld_tx *tx, ld_sid sid, struct ld_removed *removed, struct ld_err *err)
{
    LD_AUTO(ld_trash_done) struct ld_trash trash = {0};
    int rc = get_trash(tx->db, sid, &trash, err);

    if (rc <= 0)
        return rc;
    rc = is_restorable(tx->db, &trash, err);
    if (rc < 0 || (rc > 0 && trash.place == LD_PLACE_W &&
                   ld_container_destroy(tx, trash.owner_id, removed, err) < 0))
        return -1;
    if (rc > 0 && trash.place == LD_PLACE_VOLUMES &&
        ld_volume_snapshots_drop(tx, trash.owner_id, removed, err) < 0)
        return -1;
    if (rc > 0 && trash.place == LD_PLACE_NONE &&
        ld_image_destroy(tx, trash.owner_id, removed, err) < 0)
        return -1;
    if (trash.place == LD_PLACE_VOLUMES &&
        run_with_sid(tx->db, "DELETE FROM volumes WHERE sid = ?1 AND removed_ns IS NOT NULL", sid,
                     err) < 0)
        return -1;
    return run_with_sid(tx->db, "DELETE FROM trash WHERE sid = ?1", sid, err);
}

static int forget_all(struct ld_tx *tx, void *arg, struct ld_err *err)
{
    struct forget *forget = arg;

    for (size_t i = 0; i < forget->n; i++) {
        if (forget_one(tx, forget->sids[i], &forget->removed, err) < 0)
            return -1;
    }
    return 0;
}

int ld_store_trash_forget(struct ld_store *store, const struct ld_write *w, const ld_sid *sids,
                          size_t n, struct ld_removed *ret_removed, struct ld_err *err)
{
    struct forget forget = {.sids = sids, .n = n};
    int rc = ld_store_write(store, w, LD_SYNC_LAZY, forget_all, &forget, err);

    /* Lost in a power cut it is done again, unless what became free with it is deleted by then. */
    if (rc == 0 && forget.removed.n > 0 && !w->dry_run)
        rc = ld_store_flush(store, err);
    if (rc < 0) {
        ld_removed_done(&forget.removed);
        return -1;
    }
    *ret_removed = forget.removed;
    return 0;
}

/* ---- purge ---- */

struct purge {
    ld_sid sid;     /* 0: every one */
    int64_t due_ns; /* only what is due at that time; 0: at any */
};

static int purge(struct ld_tx *tx, void *arg, struct ld_err *err)
{
    const struct purge *p = arg;
    autosql stmt = ld_sql(tx->db,
                          "UPDATE trash SET purge_ns = removed_ns WHERE (?1 = 0 OR sid = ?1)"
                          " AND (?2 = 0 OR (purge_ns <= ?2 AND purge_ns > removed_ns))",
                          err);

    if (!stmt)
        return -1;
    ld_bind(stmt, 1, p->sid);
    ld_bind(stmt, 2, p->due_ns);
    if (ld_sql_done(stmt, err) < 0)
        return -1;
    if (p->sid != 0 && sqlite3_changes(ld_db_handle(tx->db)) == 0)
        return ld_err_set(err, LD_E_NOT_FOUND, "nothing in the trash: %" LD_PRI_SID, p->sid);
    return 0;
}

int ld_store_trash_purge(struct ld_store *store, const struct ld_write *w, ld_sid sid,
                         struct ld_err *err)
{
    struct purge p = {.sid = sid};

    return ld_store_write(store, w, LD_SYNC_FULL, purge, &p, err);
}

/* 1: something has become due that can still be restored. */
static int has_due(struct ld_store *store, int64_t due_ns, struct ld_err *err)
{
    autoread read = {0};
    autosql stmt = NULL;
    int64_t one;

    if (ld_read_begin(store, LD_READ_POINT, &read, err) < 0)
        return -1;
    stmt = ld_sql(
        read.db, "SELECT 1 FROM trash WHERE purge_ns <= ?1 AND purge_ns > removed_ns LIMIT 1", err);
    if (!stmt)
        return -1;
    ld_bind(stmt, 1, due_ns);
    return ld_sql_int(stmt, &one, err);
}

int ld_store_trash_expire(struct ld_store *store, int64_t due_ns, struct ld_err *err)
{
    struct purge p = {.due_ns = due_ns};
    int rc = has_due(store, due_ns, err);

    return rc <= 0 ? rc : ld_store_write(store, &LD_WRITE_SELF, LD_SYNC_FULL, purge, &p, err);
}

/* ---- the space bound ---- */

struct count {
    ld_sid sid;
    uint64_t bytes;
};

static int set_bytes(struct ld_tx *tx, void *arg, struct ld_err *err)
{
    const struct count *count = arg;
    autosql stmt = ld_sql(tx->db, "UPDATE trash SET bytes = ?2 WHERE sid = ?1", err);

    if (!stmt)
        return -1;
    ld_bind(stmt, 1, count->sid);
    ld_bind(stmt, 2, count->bytes);
    return ld_sql_done(stmt, err);
}

int ld_store_trash_set_bytes(struct ld_store *store, ld_sid sid, uint64_t bytes, struct ld_err *err)
{
    struct count count = {.sid = sid, .bytes = bytes};

    /* What a power cut forgets is counted again. */
    return ld_store_write(store, &LD_WRITE_SELF, LD_SYNC_LAZY, set_bytes, &count, err);
}

/* The n-th of what can be restored, in the order of removal; 0: there are not so many. */
static int get_cut(struct ld_db *db, int64_t n, struct ld_trash_cut *ret, struct ld_err *err)
{
    autosql stmt = ld_sql(db,
                          "SELECT removed_ns, sid FROM trash WHERE purge_ns > removed_ns"
                          " ORDER BY removed_ns, sid LIMIT 1 OFFSET ?1 - 1",
                          err);
    int rc;

    if (!stmt)
        return -1;
    ld_bind(stmt, 1, n);
    rc = ld_sql_next(stmt, err);
    if (rc > 0)
        *ret = (struct ld_trash_cut){.removed_ns = ld_col_int(stmt, 0), .sid = ld_col_u64(stmt, 1)};
    return rc;
}

/* The earliest cut behind which no more than `max` is kept: the more goes, the less is. Each look
 * takes a while where there are many layers, so they are few. */
static int find_cut(struct ld_db *db, uint64_t max, struct ld_trash_cut *ret, struct ld_err *err)
{
    autosql stmt = ld_sql(db, "SELECT count(*) FROM trash WHERE purge_ns > removed_ns", err);
    int64_t low = 1, high = 0; /* all that can be restored takes nothing once it is deleted */

    if (!stmt || ld_sql_int(stmt, &high, err) < 0)
        return -1;
    while (low < high) {
        int64_t middle = low + (high - low) / 2;
        struct ld_trash_cut cut = {.sid = 0};
        uint64_t bytes = 0;

        if (get_cut(db, middle, &cut, err) < 0 || ld_trash_kept_bytes(db, cut, &bytes, err) < 0)
            return -1;
        if (bytes <= max)
            high = middle;
        else
            low = middle + 1;
    }
    return get_cut(db, low, ret, err);
}

static int cut_off(struct ld_tx *tx, void *arg, struct ld_err *err)
{
    const struct ld_trash_cut *cut = arg;
    autosql stmt = ld_sql(tx->db,
                          "UPDATE trash SET purge_ns = removed_ns WHERE purge_ns > removed_ns"
                          " AND (removed_ns, sid) <= (?1, ?2)",
                          err);

    if (!stmt)
        return -1;
    ld_bind(stmt, 1, cut->removed_ns);
    ld_bind(stmt, 2, cut->sid);
    return ld_sql_done(stmt, err);
}

/* 1: *ret is where to cut. */
static int look_for_cut(struct ld_store *store, uint64_t max, struct ld_trash_cut *ret,
                        struct ld_err *err)
{
    autoread read = {0};
    uint64_t bytes = 0;

    if (ld_read_begin(store, LD_READ_LIST, &read, err) < 0 ||
        ld_trash_kept_bytes(read.db, (struct ld_trash_cut){.sid = 0}, &bytes, err) < 0)
        return -1;
    return bytes <= max ? 0 : find_cut(read.db, max, ret, err);
}

int ld_store_trash_bound(struct ld_store *store, uint64_t max_bytes, struct ld_err *err)
{
    struct ld_trash_cut cut = {.sid = 0};
    int rc = look_for_cut(store, max_bytes, &cut, err);

    return rc <= 0 ? rc : ld_store_write(store, &LD_WRITE_SELF, LD_SYNC_FULL, cut_off, &cut, err);
}

/* ---- restore ---- */

struct restoring {
    ld_sid sid;
    const char *name; /* a new one; NULL: as it was */
    struct ld_restored restored;
};

/* 1: a living object has the name. A layer is never restored alone: it has no name. */
static int is_name_taken(struct ld_db *db, enum ld_place place, const char *name,
                         struct ld_err *err)
{
    autosql stmt =
        place == LD_PLACE_W
            ? ld_sql(db, "SELECT 1 FROM containers WHERE name = ?1 AND removed_ns IS NULL", err)
            : ld_sql(db, "SELECT 1 FROM volumes WHERE name = ?1 AND removed_ns IS NULL", err);
    int64_t one;

    if (!stmt)
        return -1;
    ld_bind(stmt, 1, name);
    return ld_sql_int(stmt, &one, err);
}

/* What was written without a sync is nothing to come back to after a crash. */
static int check_boot(struct ld_tx *tx, const struct ld_trash *trash, struct ld_err *err)
{
    autosql stmt =
        ld_sql(tx->db, "SELECT 1 FROM containers WHERE upper_sid = ?1 AND boot_id <> ?2", err);
    int64_t one;
    int rc;

    if (!stmt)
        return -1;
    ld_bind(stmt, 1, trash->sid);
    ld_bind_text(stmt, 2, tx->store->boot_id);
    rc = ld_sql_int(stmt, &one, err);
    if (rc <= 0)
        return rc;
    return ld_err_set(err, LD_E_CONFLICT,
                      "container '%s' was ephemeral and the system has been started since",
                      trash->owner_name ? trash->owner_name : trash->owner_id);
}

static int check_volumes(struct ld_tx *tx, const struct ld_trash *trash, struct ld_err *err)
{
    autofree char *id = NULL;
    autosql stmt = ld_sql(tx->db,
                          "SELECT m.volume_id FROM container_mounts m JOIN containers c"
                          " ON m.container = c.seq WHERE c.upper_sid = ?1"
                          " AND m.volume_id IS NOT NULL AND NOT EXISTS(SELECT 1 FROM volumes v"
                          "   WHERE v.id = m.volume_id AND v.removed_ns IS NULL) LIMIT 1",
                          err);
    int rc;

    if (!stmt)
        return -1;
    ld_bind(stmt, 1, trash->sid);
    rc = ld_sql_next(stmt, err);
    if (rc <= 0)
        return rc;
    id = ld_col_text(stmt, 0);
    (void)ld_err_set(err, LD_E_CONFLICT, "container '%s' mounts the volume %s, which is removed",
                     trash->owner_name ? trash->owner_name : trash->owner_id, id);
    return ld_err_hint(err, "restore that volume first, if it is in the trash");
}

static int check_restorable(struct ld_tx *tx, const struct ld_trash *trash, struct ld_err *err)
{
    int rc = is_restorable(tx->db, trash, err);

    if (rc < 0)
        return -1;
    if (rc == 0 || trash->purge_ns == trash->removed_ns)
        return ld_err_set(err, LD_E_CONFLICT, "%s '%s' can't be restored: it is being deleted",
                          trash->kind, trash->owner_name ? trash->owner_name : trash->owner_id);
    return 0;
}

/* Of a container or volume. */
static int check_needs(struct ld_tx *tx, const struct ld_trash *trash, const char *name,
                       struct ld_err *err)
{
    int rc = is_name_taken(tx->db, trash->place, name, err);
    if (rc < 0)
        return -1;
    if (rc > 0) {
        (void)ld_err_set(err, LD_E_EXISTS, "the name '%s' is taken by another %s", name,
                         trash->kind);
        return ld_err_hint(err, "restore it under another name");
    }
    if (trash->place != LD_PLACE_W)
        return 0;
    return check_boot(tx, trash, err) < 0 ? -1 : check_volumes(tx, trash, err);
}

static int revive(struct ld_tx *tx, const struct ld_trash *trash, const char *name,
                  struct ld_err *err)
{
    autosql stmt = ld_sql(tx->db,
                          trash->place == LD_PLACE_W
                              ? "UPDATE containers SET removed_ns = NULL, version = version + 1,"
                                " name = ?2 WHERE upper_sid = ?1"
                              : "UPDATE volumes SET removed_ns = NULL, version = version + 1,"
                                " name = ?2, anonymous = ?2 IS NULL WHERE sid = ?1",
                          err);

    if (!stmt)
        return -1;
    ld_bind(stmt, 1, trash->sid);
    ld_bind(stmt, 2, name);
    if (ld_sql_done(stmt, err) < 0)
        return -1;
    return run_with_sid(tx->db, "DELETE FROM trash WHERE sid = ?1", trash->sid, err);
}

static int restore(struct ld_tx *tx, void *arg, struct ld_err *err)
{
    LD_AUTO(ld_trash_done) struct ld_trash trash = {0};
    struct restoring *r = arg;
    int rc = get_trash(tx->db, r->sid, &trash, err);
    const char *name = r->name ? r->name : trash.owner_name;

    if (rc <= 0)
        return rc < 0 ? -1
                      : ld_err_set(err, LD_E_NOT_FOUND,
                                   "nothing to restore in the trash: %" LD_PRI_SID, r->sid);
    if (check_restorable(tx, &trash, err) < 0)
        return -1;
    if (trash.place == LD_PLACE_NONE)
        return ld_image_restore(tx, trash.owner_id, r->name, &r->restored, err);
    if (check_needs(tx, &trash, name, err) < 0 || revive(tx, &trash, name, err) < 0)
        return -1;
    return ld_tx_note(tx,
                      &(struct ld_note){.type = trash.place == LD_PLACE_W ? "container.restore"
                                                                          : "volume.restore",
                                        .kind = trash.kind,
                                        .id = trash.owner_id,
                                        .name = name},
                      err);
}

int ld_store_trash_restore(struct ld_store *store, const struct ld_write *w, ld_sid sid,
                           const char *name, struct ld_restored *ret, struct ld_err *err)
{
    struct restoring r = {.sid = sid, .name = name};

    if (ld_store_write(store, w, LD_SYNC_FULL, restore, &r, err) < 0) {
        ld_restored_done(&r.restored);
        return -1;
    }
    *ret = r.restored;
    return 0;
}

/* ---- what a sid is ---- */

int ld_store_sid_owner(struct ld_store *store, ld_sid sid, enum ld_sid_owner *ret,
                       struct ld_err *err)
{
    autoread read = {0};
    autosql stmt = NULL;
    int64_t owner = LD_SID_UNKNOWN;

    if (ld_read_begin(store, LD_READ_POINT, &read, err) < 0)
        return -1;
    /* Trash first: a removed container's own row may still be there. */
    stmt = ld_sql(read.db,
                  "SELECT CASE"
                  " WHEN EXISTS(SELECT 1 FROM trash WHERE sid = ?1) THEN ?2"
                  " WHEN EXISTS(SELECT 1 FROM layers WHERE sid = ?1) THEN ?3"
                  " WHEN EXISTS(SELECT 1 FROM containers WHERE upper_sid = ?1) THEN ?4"
                  " WHEN EXISTS(SELECT 1 FROM volumes WHERE sid = ?1) THEN ?5"
                  " WHEN EXISTS(SELECT 1 FROM snapshots WHERE volume_sid = ?1) THEN ?5 END",
                  err);
    if (!stmt)
        return -1;
    ld_bind(stmt, 1, sid);
    ld_bind(stmt, 2, (int)LD_SID_TRASH);
    ld_bind(stmt, 3, (int)LD_SID_LAYER);
    ld_bind(stmt, 4, (int)LD_SID_CONTAINER);
    ld_bind(stmt, 5, (int)LD_SID_VOLUME);
    if (ld_sql_int(stmt, &owner, err) < 0)
        return -1;
    *ret = (enum ld_sid_owner)owner;
    return 0;
}
