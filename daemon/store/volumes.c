/* Volumes. As with containers, names are unique among the living, and a removed one that can be
 * restored keeps its row until the trash forgets it. */
#include <stdlib.h>
#include <string.h>

#include "daemon/base/mem.h"
#include "daemon/store/internal.h"

#define COLUMNS                                                                                    \
    "seq, id, sid, name, anonymous, seeded, labels, spec_digest, damage, created_ns, version,"     \
    " removed_ns, size_limit"

/* ---- reading ---- */

static void read_volume(sqlite3_stmt *stmt, struct ld_volume *v)
{
    *v = (struct ld_volume){
        .id = ld_col_text(stmt, 1),
        .sid = ld_col_u64(stmt, 2),
        .name = ld_col_text(stmt, 3),
        .anonymous = ld_col_int(stmt, 4) != 0,
        .seeded = ld_col_int(stmt, 5) != 0,
        .labels = ld_col_text(stmt, 6),
        .spec_digest = ld_col_text(stmt, 7),
        .damage = ld_col_text(stmt, 8),
        .created_ns = ld_col_int(stmt, 9),
        .version = ld_col_u64(stmt, 10),
        .removed_ns = ld_col_int(stmt, 11),
        .size_limit = ld_col_u64(stmt, 12),
    };
}

/* The volume that a statement with one text parameter finds: 1, 0: none. ret may be NULL. */
static int get_by(struct ld_db *db, const char *sql, const char *key, struct ld_volume *ret,
                  struct ld_err *err)
{
    autosql stmt = ld_sql(db, sql, err);
    int rc;

    if (!stmt)
        return -1;
    ld_bind(stmt, 1, key);
    rc = ld_sql_next(stmt, err);
    if (rc > 0 && ret)
        read_volume(stmt, ret);
    return rc;
}

int ld_volume_row(struct ld_db *db, const char *id, struct ld_volume *ret, struct ld_err *err)
{
    return get_by(db, "SELECT " COLUMNS " FROM volumes WHERE id = ?1 AND removed_ns IS NULL", id,
                  ret, err);
}

static int get_by_name(struct ld_db *db, const char *name, struct ld_volume *ret,
                       struct ld_err *err)
{
    return get_by(db, "SELECT " COLUMNS " FROM volumes WHERE name = ?1 AND removed_ns IS NULL",
                  name, ret, err);
}

/* By how its id begins: one alone. */
static int get_by_prefix(struct ld_db *db, const char *prefix, struct ld_volume *ret,
                         struct ld_err *err)
{
    autofree char *id = NULL;
    autosql stmt = ld_sql(db,
                          "SELECT id FROM volumes WHERE id >= ?1 AND id < ?1 || 'g'"
                          " AND removed_ns IS NULL ORDER BY id LIMIT 9",
                          err);
    int rc;

    if (!stmt)
        return -1;
    ld_bind(stmt, 1, prefix);
    rc = ld_only_id(stmt, "volume", prefix, &id, err);
    return rc > 0 ? ld_volume_row(db, id, ret, err) : rc;
}

int ld_store_volume_get(struct ld_store *store, const char *id, struct ld_volume *ret,
                        struct ld_err *err)
{
    autoread read = {0};
    int rc;

    if (ld_read_begin(store, LD_READ_POINT, &read, err) < 0)
        return -1;
    rc = ld_volume_row(read.db, id, ret, err);
    return ld_want_row(rc, "volume", id, err);
}

int ld_store_volume_by_name(struct ld_store *store, const char *name, struct ld_volume *ret,
                            struct ld_err *err)
{
    autoread read = {0};
    int rc;

    if (ld_read_begin(store, LD_READ_POINT, &read, err) < 0)
        return -1;
    rc = get_by_name(read.db, name, ret, err);
    return ld_want_row(rc, "volume", name, err);
}

int ld_store_volume_find(struct ld_store *store, const char *text, struct ld_volume *ret,
                         struct ld_err *err)
{
    autoread read = {0};
    int rc = 0;

    if (ld_read_begin(store, LD_READ_POINT, &read, err) < 0)
        return -1;
    if (ld_text_is_id(text))
        rc = ld_volume_row(read.db, text, ret, err);
    if (rc == 0)
        rc = get_by_name(read.db, text, ret, err);
    if (rc == 0 && ld_text_is_prefix(text))
        rc = get_by_prefix(read.db, text, ret, err);
    return ld_want_row(rc, "volume", text, err);
}

/* Mounted by a living container. */
#define IS_USED                                                                                    \
    "EXISTS(SELECT 1 FROM container_mounts m JOIN containers c ON c.seq = m.container"             \
    " WHERE m.volume_id = v.id AND c.removed_ns IS NULL)"

/* FROM: which index or none; MORE: what else must hold. */
#define LIST(from, more)                                                                           \
    "SELECT " COLUMNS " FROM " from " WHERE seq > ?1 AND removed_ns IS NULL"                       \
    " AND (?2 IS NULL OR name GLOB ?2)"                                                            \
    " AND (?3 = 0 OR (?3 > 0) = NOT " IS_USED ")"                                                  \
    " AND (?4 = 0 OR (?4 > 0) = anonymous)"                                                        \
    " AND (?5 = 0 OR created_ns < ?5) AND " LD_LABELS_MATCH("v.labels", "?6") more                 \
        " ORDER BY seq LIMIT ?7"

static sqlite3_stmt *list_statement(struct ld_db *db, const struct ld_volume_query *query,
                                    struct ld_err *err)
{
    return ld_sql(db,
                  query->limited
                      ? LIST("volumes v INDEXED BY volumes_limited", " AND size_limit > 0")
                      : LIST("volumes v", ""),
                  err);
}
#undef LIST

static int list_volumes(struct ld_db *db, const struct ld_volume_query *query,
                        struct ld_volume_page *page, struct ld_err *err)
{
    autofree char *labels = ld_labels_json(query->labels, query->n_labels);
    struct ld_paging paging = LD_PAGING(query->limit);
    size_t cap = 0;
    autosql stmt = list_statement(db, query, err);
    int rc;

    if (!stmt)
        return -1;
    ld_bind(stmt, 1, query->after);
    ld_bind(stmt, 2, query->name_glob);
    ld_bind(stmt, 3, query->unused);
    ld_bind(stmt, 4, query->anonymous);
    ld_bind(stmt, 5, query->until_ns);
    ld_bind(stmt, 6, labels);
    ld_bind(stmt, 7, paging.max + 1);
    while ((rc = ld_page_next(stmt, &paging, &page->next, err)) > 0) {
        ld_grow(&page->item, &cap, page->n + 1, sizeof(*page->item));
        read_volume(stmt, &page->item[page->n++]);
    }
    return rc;
}

int ld_store_volume_list(struct ld_store *store, const struct ld_volume_query *query,
                         struct ld_volume_page *ret, struct ld_err *err)
{
    LD_AUTO(ld_volume_page_done) struct ld_volume_page page = {0};
    autoread read = {0};

    if (ld_read_begin(store, LD_READ_LIST, &read, err) < 0 ||
        list_volumes(read.db, query, &page, err) < 0)
        return -1;
    *ret = ld_steal(&page);
    return 0;
}

static int list_users(struct ld_db *db, const char *id, struct ld_users *ret, struct ld_err *err)
{
    autosql stmt = ld_sql(db,
                          "SELECT DISTINCT 'container', c.id, c.name"
                          " FROM container_mounts m JOIN containers c ON c.seq = m.container"
                          " WHERE m.volume_id = ?1 AND c.removed_ns IS NULL ORDER BY c.seq",
                          err);

    if (!stmt)
        return -1;
    ld_bind(stmt, 1, id);
    return ld_users_read(stmt, ret, err);
}

int ld_store_volume_users(struct ld_store *store, const char *id, struct ld_users *ret,
                          struct ld_err *err)
{
    autoread read = {0};

    if (ld_read_begin(store, LD_READ_LIST, &read, err) < 0)
        return -1;
    return list_users(read.db, id, ret, err);
}

int ld_volume_is_used(struct ld_db *db, const char *id, struct ld_err *err)
{
    autosql stmt = ld_sql(db, "SELECT 1 FROM volumes v WHERE id = ?1 AND " IS_USED, err);
    int64_t one;

    if (!stmt)
        return -1;
    ld_bind(stmt, 1, id);
    return ld_sql_int(stmt, &one, err);
}

/* ---- adding ---- */

static int note(struct ld_tx *tx, const char *type, const struct ld_volume *v, struct ld_err *err)
{
    return ld_tx_note(
        tx, &(struct ld_note){.type = type, .kind = "volume", .id = v->id, .name = v->name}, err);
}

static int insert_volume(struct ld_tx *tx, const struct ld_volume *v, struct ld_err *err)
{
    autosql stmt = ld_sql(tx->db,
                          "INSERT INTO volumes(id, sid, name, anonymous, seeded, labels,"
                          " spec_digest, created_ns, size_limit)"
                          " VALUES(?1, ?2, ?3, ?4, ?5, json(?6), ?7, ?8, ?9)",
                          err);

    if (!stmt)
        return -1;
    ld_bind(stmt, 1, v->id);
    ld_bind(stmt, 2, v->sid);
    ld_bind(stmt, 3, v->name);
    ld_bind(stmt, 4, v->anonymous);
    ld_bind(stmt, 5, v->seeded);
    ld_bind(stmt, 6, v->labels ? v->labels : "{}");
    ld_bind(stmt, 7, v->spec_digest);
    ld_bind(stmt, 8, v->created_ns ? v->created_ns : tx->now_ns);
    ld_bind(stmt, 9, v->size_limit);
    if (ld_sql_done(stmt, err) < 0)
        return -1;
    return note(tx, "volume.create", v, err);
}

static int add(struct ld_tx *tx, void *arg, struct ld_err *err)
{
    LD_AUTO(ld_volume_done) struct ld_volume other = {0};
    const struct ld_volume *v = arg;
    int rc = ld_once_check(tx, err);

    if (rc == 0 && v->name)
        rc = get_by_name(tx->db, v->name, &other, err);
    if (rc != 0)
        return rc < 0 ? -1 : ld_err_taken(err, "volume", v->name, other.id);
    if (insert_volume(tx, v, err) < 0)
        return -1;
    return ld_once_record(tx, "volume", v->id, err);
}

static int check_size(const struct ld_volume *v, struct ld_err *err)
{
    if (v->labels && strlen(v->labels) > LD_STORE_MAX_DOC)
        return ld_err_set(err, LD_E_INVALID, "volume '%s': the labels are too large",
                          v->name ? v->name : v->id);
    return 0;
}

int ld_store_volume_add(struct ld_store *store, const struct ld_write *w, const struct ld_volume *v,
                        struct ld_err *err)
{
    struct ld_volume copy = *v; /* borrows v's strings for the call */

    if (check_size(v, err) < 0)
        return -1;
    return ld_store_write(store, w, LD_SYNC_FULL, add, &copy, err);
}

struct ensure {
    const struct ld_volume *want;
    struct ld_volume got;
    bool is_made;
};

static int ensure(struct ld_tx *tx, void *arg, struct ld_err *err)
{
    struct ensure *e = arg;
    int rc = get_by_name(tx->db, e->want->name, &e->got, err);

    if (rc != 0)
        return rc < 0 ? -1 : 0;
    e->is_made = true;
    if (insert_volume(tx, e->want, err) < 0)
        return -1;
    return get_by_name(tx->db, e->want->name, &e->got, err) < 0 ? -1 : 0;
}

int ld_store_volume_ensure(struct ld_store *store, const struct ld_write *w,
                           const struct ld_volume *v, struct ld_volume *ret, bool *ret_made,
                           struct ld_err *err)
{
    struct ensure e = {.want = v};

    if (check_size(v, err) < 0)
        return -1;
    if (ld_store_write(store, w, LD_SYNC_FULL, ensure, &e, err) < 0) {
        ld_volume_done(&e.got);
        return -1;
    }
    *ret = e.got;
    *ret_made = e.is_made;
    return 0;
}

/* ---- changing ---- */

int ld_store_volume_set_seeded(struct ld_store *store, const struct ld_write *w, const char *id,
                               struct ld_err *err)
{
    struct ld_set set = {.sql = "UPDATE volumes SET seeded = coalesce(?2, 1), version = version + 1"
                                " WHERE id = ?1 AND removed_ns IS NULL",
                         .kind = "volume",
                         .id = id};

    return ld_store_set(store, w, LD_SYNC_FULL, &set, err);
}

int ld_store_volume_set_damage(struct ld_store *store, const struct ld_write *w, const char *id,
                               const char *reason, struct ld_err *err)
{
    struct ld_set set = {.sql = "UPDATE volumes SET damage = ?2, version = version + 1"
                                " WHERE id = ?1 AND removed_ns IS NULL",
                         .kind = "volume",
                         .id = id,
                         .text = reason,
                         .event = reason ? "volume.damaged" : "volume.repaired"};

    return ld_store_set(store, w, LD_SYNC_FULL, &set, err);
}

struct patch {
    const char *id;
    const struct ld_volume_patch *patch;
    struct ld_volume now;
};

static int patch(struct ld_tx *tx, void *arg, struct ld_err *err)
{
    LD_AUTO(ld_volume_done) struct ld_volume old = {0};
    struct patch *p = arg;
    const uint64_t *size_limit = p->patch->size_limit;
    int rc = ld_volume_row(tx->db, p->id, &old, err);
    autosql stmt = NULL;

    if (ld_want_row(rc, "volume", p->id, err) < 0)
        return -1;
    if (p->patch->if_match != 0 && p->patch->if_match != old.version)
        return ld_err_version(err, "volume", old.id, old.version, p->patch->if_match);
    stmt = ld_sql(tx->db,
                  "UPDATE volumes SET labels = coalesce(json(?2), labels), size_limit = ?3,"
                  " version = version + 1 WHERE id = ?1",
                  err);
    if (!stmt)
        return -1;
    ld_bind(stmt, 1, p->id);
    ld_bind(stmt, 2, p->patch->labels);
    ld_bind(stmt, 3, size_limit ? *size_limit : old.size_limit);
    if (ld_sql_done(stmt, err) < 0 || ld_volume_row(tx->db, p->id, &p->now, err) < 0)
        return -1;
    return note(tx, "volume.update", &p->now, err);
}

int ld_store_volume_patch(struct ld_store *store, const struct ld_write *w, const char *id,
                          const struct ld_volume_patch *what, struct ld_volume *ret,
                          struct ld_err *err)
{
    struct patch p = {.id = id, .patch = what};

    if (what->labels && strlen(what->labels) > LD_STORE_MAX_DOC)
        return ld_err_set(err, LD_E_INVALID, "volume '%s': the labels are too large", id);
    if (ld_store_write(store, w, LD_SYNC_FULL, patch, &p, err) < 0) {
        ld_volume_done(&p.now);
        return -1;
    }
    *ret = p.now;
    return 0;
}

struct imported {
    const char *id, *attributes;
};

static int imported(struct ld_tx *tx, void *arg, struct ld_err *err)
{
    LD_AUTO(ld_volume_done) struct ld_volume v = {0};
    const struct imported *i = arg;
    autosql stmt = NULL;
    int rc = ld_once_check(tx, err);

    if (rc == 0)
        rc = ld_volume_row(tx->db, i->id, &v, err);
    if (rc <= 0)
        return rc < 0 ? -1 : ld_err_missing(err, "volume", i->id);
    stmt = ld_sql(tx->db,
                  "UPDATE volumes SET seeded = 1, version = version + 1 WHERE id = ?1"
                  " AND NOT seeded",
                  err);
    if (!stmt)
        return -1;
    ld_bind(stmt, 1, i->id);
    if (ld_sql_done(stmt, err) < 0 || ld_once_record(tx, "volume", i->id, err) < 0)
        return -1;
    return ld_tx_note(tx,
                      &(struct ld_note){.type = "volume.import",
                                        .kind = "volume",
                                        .id = v.id,
                                        .name = v.name,
                                        .attributes = i->attributes},
                      err);
}

int ld_store_volume_imported(struct ld_store *store, const struct ld_write *w, const char *id,
                             const char *attributes, struct ld_err *err)
{
    struct imported i = {.id = id, .attributes = attributes};

    return ld_store_write(store, w, LD_SYNC_FULL, imported, &i, err);
}

/* ---- removing ---- */

static int delete_row(struct ld_tx *tx, const struct ld_volume *v, int64_t keep_ns,
                      struct ld_err *err)
{
    autosql stmt = NULL;

    if (keep_ns > 0)
        stmt = ld_sql(
            tx->db, "UPDATE volumes SET removed_ns = ?2, version = version + 1 WHERE id = ?1", err);
    else
        stmt = ld_sql(tx->db, "DELETE FROM volumes WHERE id = ?1", err);
    if (!stmt)
        return -1;
    ld_bind(stmt, 1, v->id);
    if (keep_ns > 0)
        ld_bind(stmt, 2, tx->now_ns);
    return ld_sql_done(stmt, err);
}

int ld_volume_drop(struct ld_tx *tx, const struct ld_volume *v, int64_t keep_ns,
                   struct ld_removed *removed, struct ld_err *err)
{
    struct ld_gone gone = {.sid = v->sid, .place = LD_PLACE_VOLUMES};
    struct ld_note owner = {.kind = "volume", .id = v->id, .name = v->name};

    if (ld_trash_add(tx, gone, &owner, keep_ns, removed, err) < 0 ||
        delete_row(tx, v, keep_ns, err) < 0 ||
        (keep_ns <= 0 && ld_volume_snapshots_drop(tx, v->id, removed, err) < 0))
        return -1;
    return note(tx, "volume.remove", v, err);
}

static int refuse_used(struct ld_tx *tx, const struct ld_volume *v, struct ld_err *err)
{
    LD_AUTO(ld_users_done) struct ld_users users = {0};

    if (list_users(tx->db, v->id, &users, err) < 0)
        return -1;
    if (users.n == 0)
        return 0;
    (void)ld_err_set(err, LD_E_IN_USE, "volume '%s' is used by %zu container%s",
                     v->name ? v->name : v->id, users.n, users.n == 1 ? "" : "s");
    (void)ld_err_hint(err, "remove the containers first");
    return ld_users_details(&users, err);
}

struct removal {
    const char *id;
    const struct ld_remove *how;
    struct ld_removed removed;
};

static int remove_volume(struct ld_tx *tx, void *arg, struct ld_err *err)
{
    LD_AUTO(ld_volume_done) struct ld_volume v = {0};
    struct removal *removal = arg;
    int rc = ld_volume_row(tx->db, removal->id, &v, err);

    if (ld_want_row(rc, "volume", removal->id, err) < 0)
        return -1;
    if (removal->how->if_match != 0 && removal->how->if_match != v.version)
        return ld_err_version(err, "volume", v.id, v.version, removal->how->if_match);
    if (refuse_used(tx, &v, err) < 0)
        return -1;
    removal->removed.is_removed = true;
    return ld_volume_drop(tx, &v, removal->how->keep_ns, &removal->removed, err);
}

int ld_store_volume_remove(struct ld_store *store, const struct ld_write *w, const char *id,
                           const struct ld_remove *how, struct ld_removed *ret_removed,
                           struct ld_err *err)
{
    struct removal removal = {.id = id, .how = how};

    if (ld_store_write(store, w, LD_SYNC_FULL, remove_volume, &removal, err) < 0) {
        ld_removed_done(&removal.removed);
        return -1;
    }
    *ret_removed = removal.removed;
    return 0;
}
