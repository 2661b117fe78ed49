/* Containers and the mounts they ask for.
 *
 * A removed container's row goes at once, unless it can be restored for a while: then it keeps its
 * row, and with it its layers, with removed_ns set until the trash forgets it. Names are unique
 * among the living. `version` counts what a user sees.
 */
#include <stdlib.h>
#include <string.h>

#include "daemon/base/mem.h"
#include "daemon/base/parse.h"
#include "daemon/store/internal.h"

#define COLUMNS                                                                                    \
    "seq, id, name, image_id, image_ref, parent_sid, upper_sid, driver, driver_state, labels,"     \
    " config, spec_digest, boot_id, read_only, auto_remove, ever_mounted, damage, created_ns,"     \
    " version, removed_ns, base_sid, size_limit, inode_limit, backing"

enum { EXPIRE_AT_ONCE = 100 };

/* ---- reading ---- */

static void read_container(sqlite3_stmt *stmt, struct ld_container *c)
{
    *c = (struct ld_container){
        .id = ld_col_text(stmt, 1),
        .name = ld_col_text(stmt, 2),
        .image_id = ld_col_text(stmt, 3),
        .image_ref = ld_col_text(stmt, 4),
        .parent_sid = ld_col_u64(stmt, 5),
        .upper_sid = ld_col_u64(stmt, 6),
        .driver = ld_col_text(stmt, 7),
        .driver_state = ld_col_text(stmt, 8),
        .labels = ld_col_text(stmt, 9),
        .config = ld_col_text(stmt, 10),
        .spec_digest = ld_col_text(stmt, 11),
        .boot_id = ld_col_text(stmt, 12),
        .read_only = ld_col_int(stmt, 13) != 0,
        .auto_remove = ld_col_int(stmt, 14) != 0,
        .ever_mounted = ld_col_int(stmt, 15) != 0,
        .damage = ld_col_text(stmt, 16),
        .created_ns = ld_col_int(stmt, 17),
        .version = ld_col_u64(stmt, 18),
        .removed_ns = ld_col_int(stmt, 19),
        .base_sid = ld_col_u64(stmt, 20),
        .limits = {.bytes = ld_col_u64(stmt, 21), .inodes = ld_col_u64(stmt, 22)},
        .backing = (enum ld_backing)ld_col_int(stmt, 23),
    };
    c->ephemeral = c->boot_id != NULL;
}

static int read_mounts(struct ld_db *db, int64_t seq, struct ld_container *c, struct ld_err *err)
{
    autosql stmt = ld_sql(db,
                          "SELECT type, source, target, subpath, volume_id, read_only, size"
                          " FROM container_mounts WHERE container = ?1 ORDER BY n",
                          err);
    size_t cap = 0;
    int rc;

    if (!stmt)
        return -1;
    ld_bind(stmt, 1, seq);
    while ((rc = ld_sql_next(stmt, err)) > 0) {
        ld_grow(&c->mounts, &cap, c->n_mounts + 1, sizeof(*c->mounts));
        c->mounts[c->n_mounts++] = (struct ld_mount_spec){
            .type = (enum ld_mount_type)ld_col_int(stmt, 0),
            .source = ld_col_text(stmt, 1),
            .target = ld_col_text(stmt, 2),
            .subpath = ld_col_text(stmt, 3),
            .volume_id = ld_col_text(stmt, 4),
            .read_only = ld_col_int(stmt, 5) != 0,
            .size = ld_col_u64(stmt, 6),
        };
    }
    return rc;
}

/* The container that a statement with one text parameter finds: 1, 0: none. */
static int get_by(struct ld_db *db, const char *sql, const char *key, struct ld_container *ret,
                  struct ld_err *err)
{
    LD_AUTO(ld_container_done) struct ld_container c = {0};
    autosql stmt = ld_sql(db, sql, err);
    int rc;

    if (!stmt)
        return -1;
    ld_bind(stmt, 1, key);
    rc = ld_sql_next(stmt, err);
    if (rc <= 0)
        return rc;
    read_container(stmt, &c);
    if (read_mounts(db, ld_col_int(stmt, 0), &c, err) < 0)
        return -1;
    *ret = ld_steal(&c);
    return 1;
}

static int get_by_id(struct ld_db *db, const char *id, struct ld_container *ret, struct ld_err *err)
{
    return get_by(db, "SELECT " COLUMNS " FROM containers WHERE id = ?1 AND removed_ns IS NULL", id,
                  ret, err);
}

static int get_by_name(struct ld_db *db, const char *name, struct ld_container *ret,
                       struct ld_err *err)
{
    return get_by(db, "SELECT " COLUMNS " FROM containers WHERE name = ?1 AND removed_ns IS NULL",
                  name, ret, err);
}

/* By how its id begins: one alone. */
static int get_by_prefix(struct ld_db *db, const char *prefix, struct ld_container *ret,
                         struct ld_err *err)
{
    autofree char *id = NULL;
    autosql stmt = ld_sql(db,
                          "SELECT id FROM containers WHERE id >= ?1 AND id < ?1 || 'g'"
                          " AND removed_ns IS NULL ORDER BY id LIMIT 9",
                          err);
    int rc;

    if (!stmt)
        return -1;
    ld_bind(stmt, 1, prefix);
    rc = ld_only_id(stmt, "container", prefix, &id, err);
    return rc > 0 ? get_by_id(db, id, ret, err) : rc;
}

int ld_store_container_get(struct ld_store *store, const char *id, struct ld_container *ret,
                           struct ld_err *err)
{
    autoread read = {0};
    int rc;

    if (ld_read_begin(store, LD_READ_POINT, &read, err) < 0)
        return -1;
    rc = get_by_id(read.db, id, ret, err);
    return ld_want_row(rc, "container", id, err);
}

int ld_store_container_find(struct ld_store *store, const char *text, struct ld_container *ret,
                            struct ld_err *err)
{
    autoread read = {0};
    int rc = 0;

    if (ld_read_begin(store, LD_READ_POINT, &read, err) < 0)
        return -1;
    if (ld_text_is_id(text))
        rc = get_by_id(read.db, text, ret, err);
    if (rc == 0)
        rc = get_by_name(read.db, text, ret, err);
    if (rc == 0 && ld_text_is_prefix(text))
        rc = get_by_prefix(read.db, text, ret, err);
    return ld_want_row(rc, "container", text, err);
}

/* FROM: which index or none; MORE: what else must hold. */
#define LIST(from, more)                                                                           \
    "SELECT " COLUMNS " FROM " from " WHERE seq > ?1 AND removed_ns IS NULL"                       \
    " AND (?2 IS NULL OR name GLOB ?2) AND (?3 IS NULL OR image_id = ?3)"                          \
    " AND (?4 IS NULL OR driver = ?4)"                                                             \
    " AND (?5 IS NULL OR EXISTS(SELECT 1 FROM container_mounts m"                                  \
    "   WHERE m.container = c.seq AND m.volume_id = ?5))"                                          \
    " AND (?6 = 0 OR created_ns < ?6) AND " LD_LABELS_MATCH("c.labels", "?7") more                 \
        " ORDER BY seq LIMIT ?8"

static sqlite3_stmt *list_statement(struct ld_db *db, const struct ld_container_query *query,
                                    struct ld_err *err)
{
    return ld_sql(db,
                  query->limited ? LIST("containers c INDEXED BY containers_limited",
                                        " AND (size_limit > 0 OR inode_limit > 0)")
                                 : LIST("containers c", ""),
                  err);
}
#undef LIST

static int list_containers(struct ld_db *db, const struct ld_container_query *query,
                           struct ld_container_page *page, struct ld_err *err)
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
    ld_bind(stmt, 3, query->image_id);
    ld_bind(stmt, 4, query->driver);
    ld_bind(stmt, 5, query->volume_id);
    ld_bind(stmt, 6, query->until_ns);
    ld_bind(stmt, 7, labels);
    ld_bind(stmt, 8, paging.max + 1);
    while ((rc = ld_page_next(stmt, &paging, &page->next, err)) > 0) {
        struct ld_container *c;

        ld_grow(&page->item, &cap, page->n + 1, sizeof(*page->item));
        c = &page->item[page->n++];
        read_container(stmt, c);
        if (read_mounts(db, (int64_t)paging.last, c, err) < 0)
            return -1;
    }
    return rc;
}

int ld_store_container_list(struct ld_store *store, const struct ld_container_query *query,
                            struct ld_container_page *ret, struct ld_err *err)
{
    LD_AUTO(ld_container_page_done) struct ld_container_page page = {0};
    autoread read = {0};

    if (ld_read_begin(store, LD_READ_LIST, &read, err) < 0 ||
        list_containers(read.db, query, &page, err) < 0)
        return -1;
    *ret = ld_steal(&page);
    return 0;
}

/* ---- adding ---- */

static int exists(struct ld_db *db, const char *sql, const char *key, struct ld_err *err)
{
    autosql stmt = ld_sql(db, sql, err);
    int64_t one;

    if (!stmt)
        return -1;
    ld_bind(stmt, 1, key);
    return ld_sql_int(stmt, &one, err);
}

static int check_name_free(struct ld_tx *tx, const char *name, struct ld_err *err)
{
    LD_AUTO(ld_container_done) struct ld_container other = {0};
    int rc = name ? get_by_name(tx->db, name, &other, err) : 0;

    if (rc > 0)
        return ld_err_taken(err, "container", name, other.id);
    return rc;
}

/* What the container stands on is still there. A clone needs layers, no image. */
static int check_base(struct ld_tx *tx, const struct ld_container *c, bool is_clone,
                      struct ld_err *err)
{
    int rc = 1;

    if (c->image_id && !is_clone)
        rc = exists(tx->db, "SELECT 1 FROM images WHERE id = ?1 AND removed_ns IS NULL",
                    c->image_id, err);
    if (ld_want_row(rc, "image", c->image_id, err) < 0)
        return -1;
    if (c->parent_sid != 0)
        rc = ld_layer_is_whole(tx->db, c->parent_sid, err);
    if (rc <= 0)
        return rc < 0 ? -1
                      : ld_err_set(err, LD_E_CONFLICT,
                                   "layer %" LD_PRI_SID " is gone or damaged: container '%s' "
                                   "cannot stand on it",
                                   c->parent_sid, c->name ? c->name : c->id);
    for (size_t i = 0; i < c->n_mounts; i++) {
        const struct ld_mount_spec *m = &c->mounts[i];

        rc = m->volume_id ? ld_volume_row(tx->db, m->volume_id, NULL, err) : 1;
        if (rc <= 0)
            return rc < 0 ? -1
                          : ld_err_missing(err, "volume", m->source ? m->source : m->volume_id);
    }
    return 0;
}

static int insert_container(struct ld_tx *tx, const struct ld_container *c, struct ld_err *err)
{
    autosql stmt = ld_sql(
        tx->db,
        "INSERT INTO containers(id, name, image_id, image_ref, parent_sid, upper_sid, driver,"
        " driver_state, labels, config, spec_digest, boot_id, read_only, auto_remove,"
        " ever_mounted, damage, created_ns, base_sid, size_limit, inode_limit, backing)"
        " VALUES(?1,?2,?3,?4,?5,?6,?7,?8,json(?9),?10,?11,?12,?13,?14,?15,?16,?17,?18,?19,?20,"
        " ?21)",
        err);

    if (!stmt)
        return -1;
    ld_bind(stmt, 1, c->id);
    ld_bind(stmt, 2, c->name);
    ld_bind(stmt, 3, c->image_id);
    ld_bind(stmt, 4, c->image_ref);
    ld_bind_id(stmt, 5, c->parent_sid);
    ld_bind(stmt, 6, c->upper_sid);
    ld_bind(stmt, 7, c->driver);
    ld_bind(stmt, 8, c->driver_state);
    ld_bind(stmt, 9, c->labels ? c->labels : "{}");
    ld_bind(stmt, 10, c->config);
    ld_bind(stmt, 11, c->spec_digest);
    ld_bind_text(stmt, 12, c->ephemeral ? tx->store->boot_id : NULL);
    ld_bind(stmt, 13, c->read_only);
    ld_bind(stmt, 14, c->auto_remove);
    ld_bind(stmt, 15, c->ever_mounted);
    ld_bind(stmt, 16, c->damage);
    ld_bind(stmt, 17, c->created_ns ? c->created_ns : tx->now_ns);
    ld_bind_id(stmt, 18, c->base_sid);
    ld_bind(stmt, 19, c->limits.bytes);
    ld_bind(stmt, 20, c->limits.inodes);
    ld_bind(stmt, 21, (int)c->backing);
    return ld_sql_done(stmt, err);
}

static int insert_mount(struct ld_tx *tx, int64_t container, size_t n,
                        const struct ld_mount_spec *m, struct ld_err *err)
{
    autosql stmt =
        ld_sql(tx->db, "INSERT INTO container_mounts VALUES(?1,?2,?3,?4,?5,?6,?7,?8,?9)", err);

    if (!stmt)
        return -1;
    ld_bind(stmt, 1, container);
    ld_bind(stmt, 2, n);
    ld_bind(stmt, 3, (int)m->type);
    ld_bind(stmt, 4, m->source);
    ld_bind(stmt, 5, m->target);
    ld_bind(stmt, 6, m->subpath);
    ld_bind(stmt, 7, m->volume_id);
    ld_bind(stmt, 8, m->read_only);
    ld_bind(stmt, 9, m->size);
    return ld_sql_done(stmt, err);
}

static int note(struct ld_tx *tx, const char *type, const struct ld_container *c,
                const char *attributes, struct ld_err *err)
{
    return ld_tx_note(tx,
                      &(struct ld_note){.type = type,
                                        .kind = "container",
                                        .id = c->id,
                                        .name = c->name,
                                        .attributes = attributes},
                      err);
}

static int note_created(struct ld_tx *tx, const struct ld_container *c, struct ld_err *err)
{
    autobuf struct ld_buf attributes = LD_BUF_INIT(64 << 10);

    ld_buf_adds(&attributes, "{\"image\":");
    ld_json_add(&attributes, c->image_ref ? c->image_ref : c->image_id);
    ld_buf_adds(&attributes, ",\"driver\":");
    ld_json_add(&attributes, c->driver);
    ld_buf_addc(&attributes, '}');
    return note(tx, "container.create", c,
                ld_buf_check(&attributes) < 0 ? NULL : ld_buf_str(&attributes), err);
}

struct add {
    struct ld_container container;
    const char *from_id; /* of a clone: the container it is made from; or NULL */
    const struct ld_layer *layer;
};

static int note_cloned(struct ld_tx *tx, const struct add *a, struct ld_err *err)
{
    LD_AUTO(ld_container_done) struct ld_container from = {0};
    autobuf struct ld_buf attributes = LD_BUF_INIT(4096);

    if (ld_container_living(tx, a->from_id, 0, &from, err) < 0)
        return -1;
    ld_buf_adds(&attributes, "{\"clone\":");
    ld_json_add(&attributes, a->container.id);
    ld_buf_adds(&attributes, ",\"clone_name\":");
    ld_json_add(&attributes, a->container.name);
    ld_buf_addc(&attributes, '}');
    return note(tx, "container.clone", &from, ld_buf_str(&attributes), err);
}

static int add(struct ld_tx *tx, void *arg, struct ld_err *err)
{
    const struct add *a = arg;
    const struct ld_container *c = &a->container;
    int64_t seq;

    if (ld_once_check(tx, err) < 0 || check_name_free(tx, c->name, err) < 0 ||
        (a->layer && ld_layer_insert(tx, a->layer, a->layer->parent_sid, err) < 0) ||
        check_base(tx, c, a->from_id != NULL, err) < 0 || insert_container(tx, c, err) < 0)
        return -1;
    seq = sqlite3_last_insert_rowid(ld_db_handle(tx->db));
    for (size_t i = 0; i < c->n_mounts; i++) {
        if (insert_mount(tx, seq, i, &c->mounts[i], err) < 0)
            return -1;
    }
    if (ld_once_record(tx, "container", c->id, err) < 0)
        return -1;
    if (note_created(tx, c, err) < 0)
        return -1;
    return a->from_id ? note_cloned(tx, a, err) : 0;
}

static size_t len_of(const char *text)
{
    return text ? strlen(text) : 0;
}

int ld_store_container_clone(struct ld_store *store, const struct ld_write *w,
                             const struct ld_container *c, const char *from_id,
                             const struct ld_layer *layer, struct ld_err *err)
{
    struct add add_it = {.from_id = from_id, .layer = layer};
    enum ld_sync sync = c->ephemeral && !w->once ? LD_SYNC_LAZY : LD_SYNC_FULL;
    int rc;

    if (len_of(c->labels) > LD_STORE_MAX_DOC || len_of(c->config) > LD_STORE_MAX_DOC)
        return ld_err_set(err, LD_E_INVALID, "container '%s': labels or config are too large",
                          c->name ? c->name : c->id);
    ld_container_copy(&add_it.container, c);
    rc = ld_store_write(store, w, sync, add, &add_it, err);
    ld_container_done(&add_it.container);
    return rc;
}

int ld_store_container_add(struct ld_store *store, const struct ld_write *w,
                           const struct ld_container *c, struct ld_err *err)
{
    return ld_store_container_clone(store, w, c, NULL, NULL, err);
}

/* ---- changing ---- */

struct patch {
    const char *id;
    const struct ld_container_patch *patch;
    struct ld_container now;
};

int ld_container_living(struct ld_tx *tx, const char *id, uint64_t if_match,
                        struct ld_container *ret, struct ld_err *err)
{
    int rc = get_by_id(tx->db, id, ret, err);

    if (rc < 0)
        return -1;
    if (rc == 0)
        return ld_err_missing(err, "container", id);
    if (if_match != 0 && ret->version != if_match)
        return ld_err_version(err, "container", id, ret->version, if_match);
    return 0;
}

static int note_update(struct ld_tx *tx, const struct ld_container *old,
                       const struct ld_container *now, struct ld_err *err)
{
    autobuf struct ld_buf attributes = LD_BUF_INIT(4096);

    if (strcmp(old->name ? old->name : "", now->name ? now->name : "") == 0)
        return note(tx, "container.update", now, NULL, err);
    ld_buf_adds(&attributes, "{\"renamed_from\":");
    ld_json_add(&attributes, old->name);
    ld_buf_addc(&attributes, '}');
    return note(tx, "container.update", now, ld_buf_str(&attributes), err);
}

static int patch(struct ld_tx *tx, void *arg, struct ld_err *err)
{
    LD_AUTO(ld_container_done) struct ld_container old = {0};
    struct patch *p = arg;
    const char *name = p->patch->name;
    const struct ld_limits *limits = p->patch->limits ? p->patch->limits : &old.limits;
    autosql stmt = NULL;

    if (ld_container_living(tx, p->id, p->patch->if_match, &old, err) < 0)
        return -1;
    if (name && (!old.name || strcmp(name, old.name) != 0) && check_name_free(tx, name, err) < 0)
        return -1;
    stmt = ld_sql(
        tx->db,
        "UPDATE containers SET name = coalesce(?2, name), labels = coalesce(json(?3), labels),"
        " size_limit = ?4, inode_limit = ?5, version = version + 1 WHERE id = ?1",
        err);
    if (!stmt)
        return -1;
    ld_bind(stmt, 1, p->id);
    ld_bind(stmt, 2, name);
    ld_bind(stmt, 3, p->patch->labels);
    ld_bind(stmt, 4, limits->bytes);
    ld_bind(stmt, 5, limits->inodes);
    if (ld_sql_done(stmt, err) < 0 || ld_container_living(tx, p->id, 0, &p->now, err) < 0)
        return -1;
    return note_update(tx, &old, &p->now, err);
}

int ld_store_container_patch(struct ld_store *store, const struct ld_write *w, const char *id,
                             const struct ld_container_patch *what, struct ld_container *ret,
                             struct ld_err *err)
{
    struct patch p = {.id = id, .patch = what};
    int rc;

    if (len_of(what->labels) > LD_STORE_MAX_DOC)
        return ld_err_set(err, LD_E_INVALID, "container '%s': the labels are too large", id);
    rc = ld_store_write(store, w, LD_SYNC_FULL, patch, &p, err);
    if (rc == 0 && ret) {
        *ret = p.now;
        p.now = (struct ld_container){0};
    }
    ld_container_done(&p.now);
    return rc;
}

int ld_store_container_set_driver_state(struct ld_store *store, const struct ld_write *w,
                                        const char *id, const char *state, struct ld_err *err)
{
    struct ld_set set = {
        .sql = "UPDATE containers SET driver_state = ?2 WHERE id = ?1 AND removed_ns IS NULL",
        .kind = "container",
        .id = id,
        .text = state};

    return ld_store_set(store, w, LD_SYNC_FULL, &set, err);
}

int ld_store_container_set_ever_mounted(struct ld_store *store, const char *id, struct ld_err *err)
{
    /* Without ?2 in use SQLite would refuse to bind it. */
    struct ld_set set = {.sql = "UPDATE containers SET ever_mounted = coalesce(?2, 1)"
                                " WHERE id = ?1 AND removed_ns IS NULL",
                         .kind = "container",
                         .id = id};

    return ld_store_set(store, &LD_WRITE_SELF, LD_SYNC_LAZY, &set, err);
}

int ld_store_container_set_damage(struct ld_store *store, const struct ld_write *w, const char *id,
                                  const char *reason, struct ld_err *err)
{
    struct ld_set set = {.sql = "UPDATE containers SET damage = ?2, version = version + 1"
                                " WHERE id = ?1 AND removed_ns IS NULL",
                         .kind = "container",
                         .id = id,
                         .text = reason,
                         .event = reason ? "container.damaged" : "container.repaired"};

    return ld_store_set(store, w, LD_SYNC_FULL, &set, err);
}

/* ---- removing ---- */

/* 1: *ret_tip is the tip of a snapshot that was deleted; 0: none is left. */
static int delete_snapshot(struct ld_tx *tx, const char *owner, ld_sid *ret_tip, struct ld_err *err)
{
    autosql stmt = ld_sql(tx->db,
                          "DELETE FROM snapshots WHERE seq = (SELECT min(seq) FROM snapshots"
                          " WHERE owner_kind = 'container' AND owner_id = ?1)"
                          " RETURNING coalesce(tip_sid, 0)",
                          err);
    int64_t tip = 0;
    int rc;

    if (!stmt)
        return -1;
    ld_bind(stmt, 1, owner);
    rc = ld_sql_int(stmt, &tip, err);
    *ret_tip = (ld_sid)tip;
    return rc;
}

int ld_container_destroy(struct ld_tx *tx, const char *id, struct ld_removed *removed,
                         struct ld_err *err)
{
    autosql stmt = ld_sql(
        tx->db, "DELETE FROM containers WHERE id = ?1 RETURNING coalesce(parent_sid, 0)", err);
    int64_t parent = 0;
    ld_sid tip;
    int rc;

    if (!stmt)
        return -1;
    ld_bind(stmt, 1, id);
    if (ld_sql_int(stmt, &parent, err) < 0)
        return -1;
    if (ld_layers_release(tx, (ld_sid)parent, removed, err) < 0)
        return -1;
    while ((rc = delete_snapshot(tx, id, &tip, err)) > 0) {
        if (ld_layers_release(tx, tip, removed, err) < 0)
            return -1;
    }
    return rc;
}

static int mark_removed(struct ld_tx *tx, const char *id, struct ld_err *err)
{
    autosql stmt = ld_sql(
        tx->db, "UPDATE containers SET removed_ns = ?2, version = version + 1 WHERE id = ?1", err);

    if (!stmt)
        return -1;
    ld_bind(stmt, 1, id);
    ld_bind(stmt, 2, tx->now_ns);
    return ld_sql_done(stmt, err);
}

/* Anonymous volumes of a container that is gone now, as far as nobody else mounts them. */
static int drop_volumes(struct ld_tx *tx, const struct ld_container *c, int64_t keep_ns,
                        struct ld_removed *removed, struct ld_err *err)
{
    for (size_t i = 0; i < c->n_mounts; i++) {
        LD_AUTO(ld_volume_done) struct ld_volume v = {0};
        const char *id = c->mounts[i].volume_id;
        int rc = id ? ld_volume_row(tx->db, id, &v, err) : 0;

        if (rc < 0)
            return -1;
        if (rc == 0 || !v.anonymous)
            continue;
        rc = ld_volume_is_used(tx->db, id, err);
        if (rc < 0 || (rc == 0 && ld_volume_drop(tx, &v, keep_ns, removed, err) < 0))
            return -1;
    }
    return 0;
}

static int remove_one(struct ld_tx *tx, const struct ld_container *c, const struct ld_remove *how,
                      const char *event, struct ld_removed *removed, struct ld_err *err)
{
    struct ld_gone gone = {.sid = c->upper_sid, .place = LD_PLACE_W};
    struct ld_note owner = {.kind = "container", .id = c->id, .name = c->name};
    int rc;

    if (ld_trash_add(tx, gone, &owner, how->keep_ns, removed, err) < 0)
        return -1;
    rc = how->keep_ns > 0 || how->may_be_held ? mark_removed(tx, c->id, err)
                                              : ld_container_destroy(tx, c->id, removed, err);
    if (rc < 0 || (how->volumes && drop_volumes(tx, c, how->keep_ns, removed, err) < 0))
        return -1;
    removed->is_removed = true;
    return note(tx, event, c, NULL, err);
}

struct removal {
    const char *id;
    const struct ld_remove *how;
    struct ld_removed removed;
};

static int remove_container(struct ld_tx *tx, void *arg, struct ld_err *err)
{
    LD_AUTO(ld_container_done) struct ld_container c = {0};
    struct removal *removal = arg;

    if (ld_container_living(tx, removal->id, removal->how->if_match, &c, err) < 0)
        return -1;
    return remove_one(tx, &c, removal->how, "container.remove", &removal->removed, err);
}

int ld_store_container_remove(struct ld_store *store, const struct ld_write *w, const char *id,
                              const struct ld_remove *how, struct ld_removed *ret_removed,
                              struct ld_err *err)
{
    struct removal removal = {.id = id, .how = how};

    if (ld_store_write(store, w, LD_SYNC_FULL, remove_container, &removal, err) < 0) {
        ld_removed_done(&removal.removed);
        return -1;
    }
    *ret_removed = removal.removed;
    return 0;
}

/* ---- expiry ---- */

struct expiry {
    struct ld_removed removed;
    bool more;
};

static int expire(struct ld_tx *tx, void *arg, struct ld_err *err)
{
    static const struct ld_remove how = {.volumes = true};
    struct expiry *expiry = arg;

    for (int i = 0; i < EXPIRE_AT_ONCE; i++) {
        LD_AUTO(ld_container_done) struct ld_container c = {0};
        int rc = get_by(tx->db,
                        "SELECT " COLUMNS " FROM containers WHERE boot_id IS NOT NULL"
                        " AND boot_id <> ?1 AND removed_ns IS NULL LIMIT 1",
                        tx->store->boot_id, &c, err);

        if (rc <= 0)
            return rc;
        if (remove_one(tx, &c, &how, "container.expired", &expiry->removed, err) < 0)
            return -1;
    }
    expiry->more = true;
    return 0;
}

int ld_store_expire(struct ld_store *store, struct ld_removed *ret_removed, bool *ret_more,
                    struct ld_err *err)
{
    struct expiry expiry = {.more = false};

    if (ld_store_write(store, &LD_WRITE_SELF, LD_SYNC_FULL, expire, &expiry, err) < 0) {
        ld_removed_done(&expiry.removed);
        return -1;
    }
    *ret_removed = expiry.removed;
    *ret_more = expiry.more;
    return 0;
}
