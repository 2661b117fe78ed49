/* Snapshots: states of a container or of a volume, their owner. One of a container names a layer
 * (tips.c makes them), one of a volume a directory of its own (volume_snapshots.c).
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

int ld_store_snapshot_of_layer(struct ld_store *store, ld_sid layer, const char *container,
                               struct ld_snapshot *ret, struct ld_err *err)
{
    autoread read = {0};
    autosql stmt = NULL;
    int rc;

    if (ld_read_begin(store, LD_READ_POINT, &read, err) < 0)
        return -1;
    stmt = ld_sql(read.db,
                  "SELECT " COLUMNS " FROM snapshots WHERE tip_sid = ?1"
                  " ORDER BY owner_id <> ?2, seq LIMIT 1",
                  err);
    if (!stmt)
        return -1;
    ld_bind(stmt, 1, layer);
    ld_bind(stmt, 2, container);
    rc = ld_sql_next(stmt, err);
    if (rc > 0)
        read_snapshot(stmt, ret);
    return ld_want_row(rc, "snapshot", ld_sid_name(layer).text, err);
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

/* ---- what a change of them says ---- */

/* {"KEY":ID,"KEY_name":NAME} */
static void add_pair(struct ld_buf *out, const char *key, const char *id, const char *name)
{
    ld_buf_addf(out, "{\"%s\":", key);
    ld_json_add(out, id);
    ld_buf_addf(out, ",\"%s_name\":", key);
    ld_json_add(out, name);
    ld_buf_addc(out, '}');
}

static int note(struct ld_tx *tx, const char *type, const struct ld_snapshot *s,
                const struct ld_note *owner, struct ld_err *err)
{
    autobuf struct ld_buf attributes = LD_BUF_INIT(4096);
    struct ld_note note = {.type = type, .kind = "snapshot", .id = s->id, .name = s->name};

    add_pair(&attributes, owner->kind, owner->id, owner->name);
    note.attributes = ld_buf_str(&attributes);
    return ld_tx_note(tx, &note, err);
}

static int bump_version(struct ld_tx *tx, const struct ld_note *owner, struct ld_err *err)
{
    autosql stmt = ld_sql(tx->db,
                          strcmp(owner->kind, "volume") == 0
                              ? "UPDATE volumes SET version = version + 1 WHERE id = ?1"
                              : "UPDATE containers SET version = version + 1 WHERE id = ?1",
                          err);

    if (!stmt)
        return -1;
    ld_bind(stmt, 1, owner->id);
    return ld_sql_done(stmt, err);
}

int ld_snapshot_returned(struct ld_tx *tx, const struct ld_snapshot *s, const struct ld_note *owner,
                         struct ld_err *err)
{
    autofree char *type = ld_asprintf("%s.rollback", owner->kind);
    autobuf struct ld_buf attributes = LD_BUF_INIT(4096);
    struct ld_note note = *owner;

    add_pair(&attributes, "snapshot", s->id, s->name);
    note.type = type;
    note.attributes = ld_buf_str(&attributes);
    return bump_version(tx, owner, err) < 0 ? -1 : ld_tx_note(tx, &note, err);
}

/* ---- adding ---- */

static int check_name(struct ld_tx *tx, const struct ld_snapshot *s, const char *owner,
                      struct ld_err *err)
{
    LD_AUTO(ld_snapshot_done) struct ld_snapshot other = {0};
    int rc = s->name ? get_by_name(tx->db, owner, s->name, &other, err) : 0;

    return rc > 0 ? ld_err_taken(err, "snapshot", s->name, other.id) : rc;
}

static int insert(struct ld_tx *tx, const struct ld_snapshot *s, const char *owner, ld_sid tip,
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

int ld_snapshot_check(const struct ld_snapshot *s, struct ld_err *err)
{
    if (!s->labels || strlen(s->labels) <= LD_STORE_MAX_DOC)
        return 0;
    return ld_err_set(err, LD_E_INVALID, "snapshot '%s': the labels are too large",
                      s->name ? s->name : s->id);
}

int ld_snapshot_add(struct ld_tx *tx, const struct ld_snapshot *s, const struct ld_note *owner,
                    ld_sid tip, struct ld_err *err)
{
    if (ld_once_check(tx, err) < 0 || check_name(tx, s, owner->id, err) < 0 ||
        insert(tx, s, owner->id, tip, err) < 0 || bump_version(tx, owner, err) < 0 ||
        ld_once_record(tx, "snapshot", s->id, err) < 0)
        return -1;
    return note(tx, "snapshot.create", s, owner, err);
}

/* ---- removing ---- */

int ld_snapshot_drop(struct ld_tx *tx, const struct ld_snapshot *s, struct ld_removed *removed,
                     struct ld_err *err)
{
    struct ld_gone gone = {.sid = s->volume_sid, .place = LD_PLACE_VOLUMES};
    struct ld_note object = {.kind = "snapshot", .id = s->id, .name = s->name};
    autosql stmt = ld_sql(tx->db, "DELETE FROM snapshots WHERE id = ?1", err);

    if (!stmt)
        return -1;
    ld_bind(stmt, 1, s->id);
    if (ld_sql_done(stmt, err) < 0)
        return -1;
    if (s->volume_sid)
        return ld_trash_add(tx, gone, &object, 0, removed, err);
    (void)ld_removed_add(removed, "snapshot", s->id, s->name); /* takes nothing by itself */
    return ld_layers_release(tx, s->tip_sid, removed, err);
}

struct removal {
    const char *owner, *id;
    uint64_t if_match;
    struct ld_removed removed;
};

static int remove_of(struct ld_tx *tx, struct removal *r, const struct ld_note *owner,
                     struct ld_err *err)
{
    LD_AUTO(ld_snapshot_done) struct ld_snapshot s = {0};
    int rc = ld_snapshot_row(tx->db, owner->id, r->id, &s, err);

    if (ld_want_row(rc, "snapshot", r->id, err) < 0)
        return -1;
    if (r->if_match != 0 && r->if_match != s.version)
        return ld_err_version(err, "snapshot", s.id, s.version, r->if_match);
    r->removed.is_removed = true;
    if (ld_snapshot_drop(tx, &s, &r->removed, err) < 0 || bump_version(tx, owner, err) < 0)
        return -1;
    return note(tx, "snapshot.remove", &s, owner, err);
}

static int remove_snapshot(struct ld_tx *tx, void *arg, struct ld_err *err)
{
    LD_AUTO(ld_container_done) struct ld_container c = {0};
    LD_AUTO(ld_volume_done) struct ld_volume v = {0};
    struct removal *r = arg;
    int rc = ld_volume_row(tx->db, r->owner, &v, err);

    if (rc < 0 || (rc == 0 && ld_container_living(tx, r->owner, 0, &c, err) < 0))
        return -1;
    if (rc > 0)
        return remove_of(tx, r, &(struct ld_note){.kind = "volume", .id = v.id, .name = v.name},
                         err);
    return remove_of(tx, r, &(struct ld_note){.kind = "container", .id = c.id, .name = c.name},
                     err);
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
