/* Snapshots: named tips of a container, and the container's moves between tips.
 *
 * A tip is a layer, and freezing, capturing and rolling back only change which layer a container or
 * a snapshot names; layers that nobody reaches any more leave in the same transaction. What the
 * directories have to look like before and after is the business of core/freeze and core/rollback.
 */
#include <stdlib.h>
#include <string.h>

#include "daemon/base/mem.h"
#include "daemon/store/internal.h"

#define COLUMNS "seq, id, owner_id, name, labels, tip_sid, fuzzy, created_ns, version, volume_sid"

/* ---- reading ---- */

static void read_snapshot(sqlite3_stmt *stmt, struct ld_snapshot *s)
{
    *s = (struct ld_snapshot){
        .id = ld_col_text(stmt, 1),
        .owner_id = ld_col_text(stmt, 2),
        .name = ld_col_text(stmt, 3),
        .labels = ld_col_text(stmt, 4),
        .tip_sid = ld_col_u64(stmt, 5),
        .fuzzy = ld_col_int(stmt, 6) != 0,
        .created_ns = ld_col_int(stmt, 7),
        .version = ld_col_u64(stmt, 8),
        .volume_sid = ld_col_u64(stmt, 9),
    };
}

/* The snapshot of an owner that a statement (?1 owner, ?2 key) finds: 1, 0: none. */
static int get_by(struct ld_db *db, const char *sql, const char *owner, const char *key,
                  struct ld_snapshot *ret, struct ld_err *err)
{
    autosql stmt = ld_sql(db, sql, err);
    int rc;

    if (!stmt)
        return -1;
    ld_bind(stmt, 1, owner);
    ld_bind(stmt, 2, key);
    rc = ld_sql_next(stmt, err);
    if (rc > 0)
        read_snapshot(stmt, ret);
    return rc;
}

int ld_snapshot_row(struct ld_db *db, const char *owner, const char *id, struct ld_snapshot *ret,
                    struct ld_err *err)
{
    return get_by(db, "SELECT " COLUMNS " FROM snapshots WHERE owner_id = ?1 AND id = ?2", owner,
                  id, ret, err);
}

static int get_by_name(struct ld_db *db, const char *owner, const char *name,
                       struct ld_snapshot *ret, struct ld_err *err)
{
    return get_by(db, "SELECT " COLUMNS " FROM snapshots WHERE owner_id = ?1 AND name = ?2", owner,
                  name, ret, err);
}

static int get_by_prefix(struct ld_db *db, const char *owner, const char *prefix,
                         struct ld_snapshot *ret, struct ld_err *err)
{
    autofree char *id = NULL;
    autosql stmt = ld_sql(db,
                          "SELECT id FROM snapshots WHERE owner_id = ?1 AND id >= ?2"
                          " AND id < ?2 || 'g' ORDER BY id LIMIT 9",
                          err);
    int rc;

    if (!stmt)
        return -1;
    ld_bind(stmt, 1, owner);
    ld_bind(stmt, 2, prefix);
    rc = ld_only_id(stmt, "snapshot", prefix, &id, err);
    return rc > 0 ? ld_snapshot_row(db, owner, id, ret, err) : rc;
}

int ld_store_snapshot_find(struct ld_store *store, const char *owner, const char *text,
                           struct ld_snapshot *ret, struct ld_err *err)
{
    autoread read = {0};
    int rc = 0;

    if (ld_read_begin(store, LD_READ_POINT, &read, err) < 0)
        return -1;
    if (ld_text_is_id(text))
        rc = ld_snapshot_row(read.db, owner, text, ret, err);
    if (rc == 0)
        rc = get_by_name(read.db, owner, text, ret, err);
    if (rc == 0 && ld_text_is_prefix(text))
        rc = get_by_prefix(read.db, owner, text, ret, err);
    return ld_want_row(rc, "snapshot", text, err);
}

static int list_snapshots(struct ld_db *db, const struct ld_snapshot_query *query,
                          struct ld_snapshot_page *page, struct ld_err *err)
{
    autofree char *labels = ld_labels_json(query->labels, query->n_labels);
    struct ld_paging paging = LD_PAGING(query->limit);
    size_t cap = 0;
    autosql stmt = ld_sql(db,
                          "SELECT " COLUMNS " FROM snapshots s WHERE owner_id = ?1 AND seq > ?2"
                          " AND (?3 IS NULL OR name GLOB ?3) AND (?4 = 0 OR created_ns < ?4)"
                          " AND " LD_LABELS_MATCH("s.labels", "?5") " ORDER BY seq LIMIT ?6",
                          err);
    int rc;

    if (!stmt)
        return -1;
    ld_bind(stmt, 1, query->owner);
    ld_bind(stmt, 2, query->after);
    ld_bind(stmt, 3, query->name_glob);
    ld_bind(stmt, 4, query->until_ns);
    ld_bind(stmt, 5, labels);
    ld_bind(stmt, 6, paging.max + 1);
    while ((rc = ld_page_next(stmt, &paging, &page->next, err)) > 0) {
        ld_grow(&page->item, &cap, page->n + 1, sizeof(*page->item));
        read_snapshot(stmt, &page->item[page->n++]);
    }
    return rc;
}

int ld_store_snapshot_list(struct ld_store *store, const struct ld_snapshot_query *query,
                           struct ld_snapshot_page *ret, struct ld_err *err)
{
    LD_AUTO(ld_snapshot_page_done) struct ld_snapshot_page page = {0};
    autoread read = {0};

    if (ld_read_begin(store, LD_READ_LIST, &read, err) < 0 ||
        list_snapshots(read.db, query, &page, err) < 0)
        return -1;
    *ret = ld_steal(&page);
    return 0;
}

int ld_store_snapshot_summary(struct ld_store *store, const char *owner, uint64_t *ret_n,
                              char **ret_parent, struct ld_err *err)
{
    autoread read = {0};
    autosql stmt = NULL;

    if (ld_read_begin(store, LD_READ_POINT, &read, err) < 0)
        return -1;
    stmt = ld_sql(read.db,
                  "SELECT count(*), (SELECT s.id FROM snapshots s JOIN containers c"
                  "   ON c.id = s.owner_id AND c.parent_sid IS s.tip_sid"
                  "   WHERE s.owner_id = ?1 ORDER BY s.seq DESC LIMIT 1)"
                  " FROM snapshots WHERE owner_id = ?1",
                  err);
    if (!stmt)
        return -1;
    ld_bind(stmt, 1, owner);
    if (ld_sql_next(stmt, err) < 0)
        return -1;
    *ret_n = ld_col_u64(stmt, 0);
    *ret_parent = ld_col_text(stmt, 1);
    return 0;
}

/* ---- events ---- */

static int note(struct ld_tx *tx, const char *type, const struct ld_snapshot *s,
                const struct ld_container *owner, struct ld_err *err)
{
    autobuf struct ld_buf attributes = LD_BUF_INIT(4096);

    ld_buf_adds(&attributes, "{\"container\":");
    ld_json_add(&attributes, owner->id);
    ld_buf_adds(&attributes, ",\"container_name\":");
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

static int note_rollback(struct ld_tx *tx, const struct ld_container *c,
                         const struct ld_snapshot *s, struct ld_err *err)
{
    autobuf struct ld_buf attributes = LD_BUF_INIT(4096);

    ld_buf_adds(&attributes, "{\"snapshot\":");
    ld_json_add(&attributes, s->id);
    ld_buf_adds(&attributes, ",\"snapshot_name\":");
    ld_json_add(&attributes, s->name);
    ld_buf_addc(&attributes, '}');
    return ld_tx_note(tx,
                      &(struct ld_note){.type = "container.rollback",
                                        .kind = "container",
                                        .id = c->id,
                                        .name = c->name,
                                        .attributes = ld_buf_str(&attributes)},
                      err);
}

/* ---- freezing and capturing ---- */

/* The container with the writable layer that the caller has worked on. */
static int get_as_seen(struct ld_tx *tx, const char *id, ld_sid upper, struct ld_container *ret,
                       struct ld_err *err)
{
    if (ld_container_living(tx, id, 0, ret, err) < 0)
        return -1;
    if (ret->upper_sid != upper)
        return ld_err_set(err, LD_E_CONFLICT, "container '%s' has another writable layer by now",
                          ret->name ? ret->name : id);
    return 0;
}

static int bump_version(struct ld_tx *tx, const char *container, struct ld_err *err)
{
    autosql stmt = ld_sql(tx->db, "UPDATE containers SET version = version + 1 WHERE id = ?1", err);

    if (!stmt)
        return -1;
    ld_bind(stmt, 1, container);
    return ld_sql_done(stmt, err);
}

/* The container goes on in a new writable layer, which nobody has ever mounted. */
static int move_to(struct ld_tx *tx, const char *container, ld_sid tip, ld_sid upper,
                   const char *driver_state, struct ld_err *err)
{
    autosql stmt = ld_sql(tx->db,
                          "UPDATE containers SET parent_sid = ?2, upper_sid = ?3,"
                          " driver_state = ?4, ever_mounted = 0, damage = NULL WHERE id = ?1",
                          err);

    if (!stmt)
        return -1;
    ld_bind(stmt, 1, container);
    ld_bind_id(stmt, 2, tip);
    ld_bind(stmt, 3, upper);
    ld_bind(stmt, 4, driver_state);
    return ld_sql_done(stmt, err);
}

int ld_snapshot_name_free(struct ld_tx *tx, const struct ld_snapshot *s, const char *owner,
                          struct ld_err *err)
{
    LD_AUTO(ld_snapshot_done) struct ld_snapshot other = {0};
    int rc = s->name ? get_by_name(tx->db, owner, s->name, &other, err) : 0;

    return rc > 0 ? ld_err_taken(err, "snapshot", s->name, other.id) : rc;
}

int ld_snapshot_insert(struct ld_tx *tx, const struct ld_snapshot *s, const char *owner, ld_sid tip,
                       struct ld_err *err)
{
    autosql stmt = ld_sql(tx->db,
                          "INSERT INTO snapshots(id, owner_kind, owner_id, name, labels, tip_sid,"
                          " fuzzy, created_ns, volume_sid) VALUES(?1, iif(?8 IS NULL, 'container',"
                          " 'volume'), ?2, ?3, json(?4), ?5, ?6, ?7, ?8)",
                          err);

    if (!stmt)
        return -1;
    ld_bind(stmt, 1, s->id);
    ld_bind(stmt, 2, owner);
    ld_bind(stmt, 3, s->name);
    ld_bind(stmt, 4, s->labels ? s->labels : "{}");
    ld_bind_id(stmt, 5, tip);
    ld_bind(stmt, 6, s->fuzzy);
    ld_bind(stmt, 7, s->created_ns ? s->created_ns : tx->now_ns);
    ld_bind_id(stmt, 8, s->volume_sid);
    return ld_sql_done(stmt, err);
}

static int freeze(struct ld_tx *tx, void *arg, struct ld_err *err)
{
    LD_AUTO(ld_container_done) struct ld_container c = {0};
    const struct ld_freeze *f = arg;
    const struct ld_snapshot *s = f->snapshot;
    ld_sid tip = 0;

    if ((s && ld_once_check(tx, err) < 0) ||
        get_as_seen(tx, f->container, f->upper_sid, &c, err) < 0 ||
        (s && ld_snapshot_name_free(tx, s, c.id, err) < 0))
        return -1;
    tip = f->layer ? f->layer->sid : c.parent_sid;
    if (f->layer && ld_layer_insert(tx, f->layer, c.parent_sid, err) < 0)
        return -1;
    if (f->next_sid && move_to(tx, c.id, tip, f->next_sid, NULL, err) < 0)
        return -1;
    if (!s)
        return 0;
    if (ld_snapshot_insert(tx, s, c.id, tip, err) < 0 || bump_version(tx, c.id, err) < 0 ||
        ld_once_record(tx, "snapshot", s->id, err) < 0)
        return -1;
    return note(tx, "snapshot.create", s, &c, err);
}

int ld_store_freeze(struct ld_store *store, const struct ld_write *w, const struct ld_freeze *what,
                    struct ld_err *err)
{
    struct ld_freeze copy = *what; /* borrows the strings for the call */
    enum ld_sync sync = what->is_ephemeral && !w->once ? LD_SYNC_LAZY : LD_SYNC_FULL;

    if (what->snapshot && what->snapshot->labels &&
        strlen(what->snapshot->labels) > LD_STORE_MAX_DOC)
        return ld_err_set(err, LD_E_INVALID, "snapshot '%s': the labels are too large",
                          what->snapshot->name ? what->snapshot->name : what->snapshot->id);
    return ld_store_write(store, w, sync, freeze, &copy, err);
}

/* ---- removing ---- */

struct removal {
    const char *owner, *id;
    uint64_t if_match;
    struct ld_removed removed;
};

static int remove_snapshot(struct ld_tx *tx, void *arg, struct ld_err *err)
{
    LD_AUTO(ld_container_done) struct ld_container c = {0};
    LD_AUTO(ld_snapshot_done) struct ld_snapshot s = {0};
    struct removal *r = arg;
    autosql stmt = NULL;
    int rc = ld_container_living(tx, r->owner, 0, &c, err);

    if (rc == 0)
        rc = ld_snapshot_row(tx->db, r->owner, r->id, &s, err);
    if (ld_want_row(rc, "snapshot", r->id, err) < 0)
        return -1;
    if (r->if_match != 0 && r->if_match != s.version)
        return ld_err_version(err, "snapshot", s.id, s.version, r->if_match);
    stmt = ld_sql(tx->db, "DELETE FROM snapshots WHERE id = ?1", err);
    if (!stmt)
        return -1;
    ld_bind(stmt, 1, s.id);
    if (ld_sql_done(stmt, err) < 0 || bump_version(tx, c.id, err) < 0 ||
        note(tx, "snapshot.remove", &s, &c, err) < 0)
        return -1;
    r->removed.is_removed = true;
    (void)ld_removed_add(&r->removed, "snapshot", s.id, s.name); /* takes nothing by itself */
    return ld_layers_release(tx, s.tip_sid, &r->removed, err);
}

int ld_store_snapshot_remove(struct ld_store *store, const struct ld_write *w, const char *owner,
                             const char *id, uint64_t if_match, struct ld_removed *ret_removed,
                             struct ld_err *err)
{
    struct removal r = {.owner = owner, .id = id, .if_match = if_match};

    if (ld_store_write(store, w, LD_SYNC_FULL, remove_snapshot, &r, err) < 0) {
        ld_removed_done(&r.removed);
        return -1;
    }
    *ret_removed = r.removed;
    return 0;
}

/* ---- moving ---- */

struct move {
    const struct ld_moved *what;
    struct ld_removed removed;
};

/* Which tip it moves to: the snapshot's, or the one that was said. */
static int find_tip(struct ld_tx *tx, const struct ld_moved *what, struct ld_snapshot *s,
                    ld_sid *ret, struct ld_err *err)
{
    int rc = what->snapshot ? ld_snapshot_row(tx->db, what->container, what->snapshot, s, err) : 1;

    if (ld_want_row(rc, "snapshot", what->snapshot, err) < 0)
        return -1;
    *ret = what->snapshot ? s->tip_sid : what->tip_sid;
    rc = *ret ? ld_layer_is_whole(tx->db, *ret, err) : 1;
    if (rc == 0)
        return ld_err_set(err, LD_E_CONFLICT, "the layer %" LD_PRI_SID " to go on on is damaged",
                          *ret);
    return rc < 0 ? -1 : 0;
}

static int move(struct ld_tx *tx, void *arg, struct ld_err *err)
{
    LD_AUTO(ld_container_done) struct ld_container c = {0};
    LD_AUTO(ld_snapshot_done) struct ld_snapshot s = {0};
    struct move *m = arg;
    struct ld_gone old = {.sid = m->what->upper_sid, .place = LD_PLACE_W};
    struct ld_note owner;
    ld_sid tip = 0;

    if (get_as_seen(tx, m->what->container, m->what->upper_sid, &c, err) < 0 ||
        find_tip(tx, m->what, &s, &tip, err) < 0 ||
        move_to(tx, c.id, tip, m->what->next_sid, m->what->driver_state, err) < 0)
        return -1;
    owner = (struct ld_note){.kind = "container", .id = c.id, .name = c.name};
    if (ld_trash_add(tx, old, &owner, 0, &m->removed, err) < 0 ||
        ld_layers_release(tx, c.parent_sid, &m->removed, err) < 0)
        return -1;
    if (!m->what->snapshot)
        return 0;
    return bump_version(tx, c.id, err) < 0 ? -1 : note_rollback(tx, &c, &s, err);
}

int ld_store_move(struct ld_store *store, const struct ld_write *w, const struct ld_moved *what,
                  struct ld_removed *ret_removed, struct ld_err *err)
{
    struct move m = {.what = what};
    enum ld_sync sync = what->is_ephemeral ? LD_SYNC_LAZY : LD_SYNC_FULL;

    if (ld_store_write(store, w, sync, move, &m, err) < 0) {
        ld_removed_done(&m.removed);
        return -1;
    }
    *ret_removed = m.removed;
    return 0;
}
