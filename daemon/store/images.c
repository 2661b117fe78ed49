/* Images and their references.
 *
 * An image is its config's digest and a tip. References are rows of their own; an image without one
 * is dangling and stays until it is removed. `version` counts what a user sees of an image: its
 * references.
 *
 * A removed image that can be restored keeps its row, and with it its layers, with removed_ns set
 * until the trash forgets it; the names it had are in removed_refs. It is found by nobody but the
 * trash, and by an import of the same image: that makes it live again.
 */
#include <stdlib.h>
#include <string.h>

#include "daemon/base/mem.h"
#include "daemon/store/internal.h"

#define COLUMNS "seq, id, tip_sid, config, media_type, size, created_ns, version"

/* ---- reading ---- */

static void read_image(sqlite3_stmt *stmt, struct ld_image *image)
{
    *image = (struct ld_image){
        .id = ld_col_text(stmt, 1),
        .tip_sid = ld_col_u64(stmt, 2),
        .media_type = ld_col_text(stmt, 4),
        .size = ld_col_u64(stmt, 5),
        .created_ns = ld_col_int(stmt, 6),
        .version = ld_col_u64(stmt, 7),
    };
    image->config = ld_col_blob(stmt, 3, &image->config_len);
}

static void add_text(char ***list, size_t *n, size_t *cap, char *take_text)
{
    ld_grow(list, cap, *n + 1, sizeof(**list));
    (*list)[(*n)++] = take_text;
}

/* Appends the names that a statement of an image's id gives. */
static int read_names(sqlite3_stmt *stmt, const char *id, char ***list, size_t *n,
                      struct ld_err *err)
{
    size_t cap = 0;
    int rc;

    if (!stmt)
        return -1;
    ld_bind(stmt, 1, id);
    while ((rc = ld_sql_next(stmt, err)) > 0)
        add_text(list, n, &cap, ld_col_text(stmt, 0));
    return rc;
}

static int read_refs(struct ld_db *db, const char *id, struct ld_image *image, struct ld_err *err)
{
    autosql stmt = ld_sql(db, "SELECT name FROM refs WHERE image_id = ?1 ORDER BY name", err);

    return read_names(stmt, id, &image->refs, &image->n_refs, err);
}

int ld_image_removed_refs(struct ld_db *db, const char *id, char ***ret, size_t *ret_n,
                          struct ld_err *err)
{
    autosql stmt =
        ld_sql(db, "SELECT name FROM removed_refs WHERE image_id = ?1 ORDER BY name", err);

    return read_names(stmt, id, ret, ret_n, err);
}

/* 1: found, with everything; 0: no such image. */
static int get_image(struct ld_db *db, const char *id, struct ld_image *ret, struct ld_err *err)
{
    LD_AUTO(ld_image_done) struct ld_image image = {0};
    autosql stmt = ld_sql(db,
                          "SELECT " COLUMNS ", manifest FROM images"
                          " WHERE id = ?1 AND removed_ns IS NULL",
                          err);
    int rc;

    if (!stmt)
        return -1;
    ld_bind(stmt, 1, id);
    rc = ld_sql_next(stmt, err);
    if (rc <= 0)
        return rc;
    read_image(stmt, &image);
    image.manifest = ld_col_blob(stmt, 8, &image.manifest_len);
    if (read_refs(db, id, &image, err) < 0)
        return -1;
    *ret = ld_steal(&image);
    return 1;
}

int ld_store_image_get(struct ld_store *store, const char *id, struct ld_image *ret,
                       struct ld_err *err)
{
    autoread read = {0};
    int rc;

    if (ld_read_begin(store, LD_READ_POINT, &read, err) < 0)
        return -1;
    rc = get_image(read.db, id, ret, err);
    return ld_want_row(rc, "image", id, err);
}

/* 1: *ret_id is the image a reference points to; 0: no such reference. */
static int find_ref(struct ld_db *db, const char *ref, char **ret_id, struct ld_err *err)
{
    autosql stmt = ld_sql(db, "SELECT image_id FROM refs WHERE name = ?1", err);
    int rc;

    if (!stmt)
        return -1;
    ld_bind(stmt, 1, ref);
    rc = ld_sql_next(stmt, err);
    if (rc > 0)
        *ret_id = ld_col_text(stmt, 0);
    return rc;
}

int ld_store_image_by_ref(struct ld_store *store, const char *ref, struct ld_image *ret,
                          struct ld_err *err)
{
    autofree char *id = NULL;
    autoread read = {0};
    int rc;

    if (ld_read_begin(store, LD_READ_POINT, &read, err) < 0)
        return -1;
    rc = find_ref(read.db, ref, &id, err);
    if (rc > 0)
        rc = get_image(read.db, id, ret, err);
    return ld_want_row(rc, "image", ref, err);
}

/* 1: one id alone begins so; 0: none. */
static int find_prefix(struct ld_db *db, const char *hex, char **ret_id, struct ld_err *err)
{
    autosql stmt = ld_sql(db,
                          "SELECT id FROM images WHERE id >= 'sha256:' || ?1"
                          " AND id < 'sha256:' || ?1 || 'g' AND removed_ns IS NULL"
                          " ORDER BY id LIMIT 9",
                          err);

    if (!stmt)
        return -1;
    ld_bind(stmt, 1, hex);
    return ld_only_id(stmt, "image", hex, ret_id, err);
}

int ld_store_image_by_prefix(struct ld_store *store, const char *prefix, struct ld_image *ret,
                             struct ld_err *err)
{
    const char *hex = strncmp(prefix, "sha256:", 7) == 0 ? prefix + 7 : prefix;
    autofree char *id = NULL;
    autoread read = {0};
    int rc = 0;

    if (ld_read_begin(store, LD_READ_POINT, &read, err) < 0)
        return -1;
    if (ld_text_is_prefix(hex) || ld_text_is_id(hex))
        rc = find_prefix(read.db, hex, &id, err);
    if (rc > 0)
        rc = get_image(read.db, id, ret, err);
    return ld_want_row(rc, "image", prefix, err);
}

static int list_images(struct ld_db *db, const struct ld_image_query *query,
                       struct ld_image_page *page, struct ld_err *err)
{
    autosql stmt =
        ld_sql(db,
               "SELECT " COLUMNS " FROM images i WHERE seq > ?1 AND removed_ns IS NULL"
               " AND (?2 IS NULL OR EXISTS(SELECT 1 FROM refs"
               "   WHERE image_id = i.id AND name GLOB ?2))"
               " AND (?3 = 0 OR (?3 > 0) = NOT EXISTS(SELECT 1 FROM refs WHERE image_id = i.id))"
               " AND (?4 = 0 OR created_ns < ?4) ORDER BY seq LIMIT ?5",
               err);
    struct ld_paging paging = LD_PAGING(query->limit);
    size_t cap = 0;
    int rc;

    if (!stmt)
        return -1;
    ld_bind(stmt, 1, query->after);
    ld_bind(stmt, 2, query->ref_glob);
    ld_bind(stmt, 3, query->dangling);
    ld_bind(stmt, 4, query->until_ns);
    ld_bind(stmt, 5, paging.max + 1);
    while ((rc = ld_page_next(stmt, &paging, &page->next, err)) > 0) {
        struct ld_image *image;

        ld_grow(&page->item, &cap, page->n + 1, sizeof(*page->item));
        image = &page->item[page->n++];
        read_image(stmt, image);
        if (read_refs(db, image->id, image, err) < 0)
            return -1;
    }
    return rc;
}

int ld_store_image_list(struct ld_store *store, const struct ld_image_query *query,
                        struct ld_image_page *ret, struct ld_err *err)
{
    LD_AUTO(ld_image_page_done) struct ld_image_page page = {0};
    autoread read = {0};

    if (ld_read_begin(store, LD_READ_LIST, &read, err) < 0 ||
        list_images(read.db, query, &page, err) < 0)
        return -1;
    *ret = ld_steal(&page);
    return 0;
}

static int list_users(struct ld_db *db, const char *id, struct ld_users *ret, struct ld_err *err)
{
    autosql stmt = ld_sql(db,
                          "SELECT 'container', id, name FROM containers"
                          " WHERE image_id = ?1 AND removed_ns IS NULL ORDER BY seq",
                          err);

    if (!stmt)
        return -1;
    ld_bind(stmt, 1, id);
    return ld_users_read(stmt, ret, err);
}

int ld_store_image_users(struct ld_store *store, const char *id, struct ld_users *ret,
                         struct ld_err *err)
{
    autoread read = {0};

    if (ld_read_begin(store, LD_READ_LIST, &read, err) < 0)
        return -1;
    return list_users(read.db, id, ret, err);
}

/* ---- adding ---- */

struct add {
    const struct ld_image_add *adds;
    size_t n;
};

/* A layer that the importer found: still there, on the same parent, and whole unless just repaired.
 */
static int check_layer(struct ld_tx *tx, const struct ld_layer_add *add, ld_sid parent,
                       struct ld_err *err)
{
    autosql stmt = ld_sql(tx->db,
                          "SELECT damage IS NULL FROM layers WHERE sid = ?1"
                          " AND parent_sid IS ?2 AND (?3 IS NULL OR chain_id = ?3)",
                          err);
    int64_t is_whole = 0;
    int rc;

    if (!stmt)
        return -1;
    ld_bind(stmt, 1, add->layer.sid);
    ld_bind_id(stmt, 2, parent);
    ld_bind(stmt, 3, add->layer.chain_id);
    rc = ld_sql_int(stmt, &is_whole, err);
    if (rc < 0)
        return -1;
    if (rc == 0)
        return ld_layer_conflict(err, &add->layer, "was removed meanwhile");
    if (!is_whole && add->how == LD_LAYER_REUSED)
        return ld_layer_conflict(err, &add->layer, "turned out to be damaged meanwhile");
    return 0;
}

static int repair_layer(struct ld_tx *tx, const struct ld_layer *layer, struct ld_err *err)
{
    autosql stmt = ld_sql(
        tx->db, "UPDATE layers SET damage = NULL, bytes = ?2, inodes = ?3 WHERE sid = ?1", err);

    if (!stmt)
        return -1;
    ld_bind(stmt, 1, layer->sid);
    ld_bind(stmt, 2, layer->bytes);
    ld_bind(stmt, 3, layer->inodes);
    /* What was kept of it went with the damaged directory. */
    if (ld_sql_done(stmt, err) < 0 || ld_blob_forget(tx, layer->sid, err) < 0)
        return -1;
    return ld_tx_note(
        tx, &(struct ld_note){.type = "layer.repaired", .kind = "layer", .id = layer->chain_id},
        err);
}

static int add_layers(struct ld_tx *tx, const struct ld_image_add *add, ld_sid *ret_tip,
                      struct ld_err *err)
{
    ld_sid parent = 0;

    if (add->n_layers > LD_MAX_LAYERS)
        return ld_err_set(err, LD_E_BAD_CONTENT, "image '%s' has %zu layers, the limit is %d",
                          add->image.id, add->n_layers, LD_MAX_LAYERS);
    for (size_t i = 0; i < add->n_layers; i++) {
        const struct ld_layer_add *layer = &add->layers[i];
        int rc = layer->how == LD_LAYER_NEW ? ld_layer_insert(tx, &layer->layer, parent, err)
                                            : check_layer(tx, layer, parent, err);

        if (rc == 0 && layer->how == LD_LAYER_REPAIRED)
            rc = repair_layer(tx, &layer->layer, err);
        if (rc == 0 && layer->blob.digest)
            rc = ld_blob_put(tx, layer->layer.sid, &layer->blob, err);
        if (rc < 0)
            return -1;
        parent = layer->layer.sid;
    }
    *ret_tip = parent;
    return 0;
}

static int insert_image(struct ld_tx *tx, const struct ld_image *image, ld_sid tip,
                        struct ld_err *err)
{
    autosql stmt = ld_sql(tx->db,
                          "INSERT INTO images(id, tip_sid, config, manifest, media_type, size,"
                          " created_ns) VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                          err);

    if (!stmt)
        return -1;
    ld_bind(stmt, 1, image->id);
    ld_bind_id(stmt, 2, tip);
    ld_bind_blob(stmt, 3, image->config, image->config_len);
    ld_bind_blob(stmt, 4, image->manifest, image->manifest_len);
    ld_bind(stmt, 5, image->media_type);
    ld_bind(stmt, 6, image->size);
    ld_bind(stmt, 7, image->created_ns ? image->created_ns : tx->now_ns);
    return ld_sql_done(stmt, err);
}

static int bump_version(struct ld_tx *tx, const char *id, struct ld_err *err)
{
    autosql stmt = ld_sql(tx->db, "UPDATE images SET version = version + 1 WHERE id = ?1", err);

    if (!stmt)
        return -1;
    ld_bind(stmt, 1, id);
    return ld_sql_done(stmt, err);
}

static int run_with_id(struct ld_tx *tx, const char *text, const char *id, struct ld_err *err)
{
    autosql stmt = ld_sql(tx->db, text, err);

    if (!stmt)
        return -1;
    ld_bind(stmt, 1, id);
    return ld_sql_done(stmt, err);
}

/* A removed image lives again; its names are the caller's. */
static int revive(struct ld_tx *tx, const char *id, struct ld_err *err)
{
    if (run_with_id(tx, "UPDATE images SET removed_ns = NULL WHERE id = ?1", id, err) < 0 ||
        run_with_id(tx, "DELETE FROM removed_refs WHERE image_id = ?1", id, err) < 0 ||
        run_with_id(tx, "DELETE FROM trash WHERE owner_id = ?1 AND kind = 'image'", id, err) < 0)
        return -1;
    return bump_version(tx, id, err);
}

/* One that is in the trash came here again just now, with none of the names it had. */
static int revive_as_new(struct ld_tx *tx, const struct ld_image *image, struct ld_err *err)
{
    autosql stmt = ld_sql(tx->db, "UPDATE images SET created_ns = ?2 WHERE id = ?1", err);

    if (!stmt)
        return -1;
    ld_bind(stmt, 1, image->id);
    ld_bind(stmt, 2, image->created_ns ? image->created_ns : tx->now_ns);
    return ld_sql_done(stmt, err) < 0 ? -1 : revive(tx, image->id, err);
}

/* The same config means the same chain, so the image stays as it is. The first manifest is kept. */
static int keep_image(struct ld_tx *tx, const struct ld_image *image, ld_sid tip, bool *ret_found,
                      struct ld_err *err)
{
    autosql find =
        ld_sql(tx->db, "SELECT tip_sid, removed_ns IS NOT NULL FROM images WHERE id = ?1", err);
    autosql stmt = NULL;
    int rc;

    if (!find)
        return -1;
    ld_bind(find, 1, image->id);
    rc = ld_sql_next(find, err);
    if (rc < 0)
        return -1;
    *ret_found = rc > 0;
    if (rc == 0)
        return 0;
    if (ld_col_u64(find, 0) != tip)
        return ld_err_set(err, LD_E_CONFLICT,
                          "image '%s' stands on layer %" LD_PRI_SID ", not on %" LD_PRI_SID,
                          image->id, ld_col_u64(find, 0), tip);
    if (ld_col_int(find, 1) && revive_as_new(tx, image, err) < 0)
        return -1;
    stmt = ld_sql(tx->db,
                  "UPDATE images SET manifest = ?2, media_type = ?3"
                  " WHERE id = ?1 AND manifest IS NULL AND ?2 IS NOT NULL",
                  err);
    if (!stmt)
        return -1;
    ld_bind(stmt, 1, image->id);
    ld_bind_blob(stmt, 2, image->manifest, image->manifest_len);
    ld_bind(stmt, 3, image->media_type);
    return ld_sql_done(stmt, err);
}

/* The reference points to the image from now on, whatever it pointed to. */
static int point_ref(struct ld_tx *tx, const char *ref, const char *id, struct ld_err *err)
{
    autobuf struct ld_buf attributes = LD_BUF_INIT(8192);
    autofree char *old = NULL;
    autosql stmt = NULL;
    int rc = find_ref(tx->db, ref, &old, err);

    if (rc < 0)
        return -1;
    if (rc > 0 && strcmp(old, id) == 0)
        return 0;
    stmt = ld_sql(tx->db, "INSERT OR REPLACE INTO refs VALUES(?1, ?2)", err);
    if (!stmt)
        return -1;
    ld_bind(stmt, 1, ref);
    ld_bind(stmt, 2, id);
    if (ld_sql_done(stmt, err) < 0 || bump_version(tx, id, err) < 0 ||
        (old && bump_version(tx, old, err) < 0))
        return -1;
    if (old) {
        ld_buf_adds(&attributes, "{\"moved_from\":");
        ld_json_add(&attributes, old);
        ld_buf_addc(&attributes, '}');
    }
    return ld_tx_note(tx,
                      &(struct ld_note){.type = "image.tag",
                                        .kind = "image",
                                        .id = id,
                                        .name = ref,
                                        .attributes = old ? ld_buf_str(&attributes) : NULL},
                      err);
}

static int note_added(struct ld_tx *tx, const struct ld_image_add *add, struct ld_err *err)
{
    struct ld_note note = {.type = add->container ? "image.commit" : "image.import",
                           .kind = "image",
                           .id = add->image.id,
                           .name = add->n_refs > 0 ? add->refs[0] : NULL};
    autofree char *attributes = NULL;

    if (add->container)
        attributes = ld_asprintf("{\"container\":\"%s\"}", add->container); /* hex digits */
    note.attributes = attributes;
    return ld_tx_note(tx, &note, err);
}

static int add_one(struct ld_tx *tx, const struct ld_image_add *add, struct ld_err *err)
{
    const struct ld_image *image = &add->image;
    bool is_there = false;
    ld_sid tip = 0;

    if (image->config_len > LD_STORE_MAX_DOC || image->manifest_len > LD_STORE_MAX_DOC)
        return ld_err_set(err, LD_E_BAD_CONTENT, "image '%s': its config or manifest is too large",
                          image->id);
    if (add_layers(tx, add, &tip, err) < 0 || keep_image(tx, image, tip, &is_there, err) < 0)
        return -1;
    if (!is_there && insert_image(tx, image, tip, err) < 0)
        return -1;
    if (note_added(tx, add, err) < 0)
        return -1;
    for (size_t i = 0; i < add->n_refs; i++) {
        if (point_ref(tx, add->refs[i], image->id, err) < 0)
            return -1;
    }
    return 0;
}

static int add_all(struct ld_tx *tx, void *arg, struct ld_err *err)
{
    const struct add *add = arg;

    if (ld_once_check(tx, err) < 0)
        return -1;
    for (size_t i = 0; i < add->n; i++) {
        if (add_one(tx, &add->adds[i], err) < 0)
            return -1;
    }
    return add->n > 0 ? ld_once_record(tx, "image", add->adds[0].image.id, err) : 0;
}

int ld_store_image_add(struct ld_store *store, const struct ld_write *w,
                       const struct ld_image_add *adds, size_t n, struct ld_err *err)
{
    struct add add = {.adds = adds, .n = n};

    return ld_store_write(store, w, LD_SYNC_FULL, add_all, &add, err);
}

/* ---- tag ---- */

/* The image is there, in the version asked for. *ret_tip and *ret_refs are what a removal needs. */
static int check_image(struct ld_tx *tx, const char *id, uint64_t if_match, ld_sid *ret_tip,
                       int64_t *ret_refs, struct ld_err *err)
{
    autosql stmt = ld_sql(tx->db,
                          "SELECT version, tip_sid, (SELECT count(*) FROM refs WHERE image_id = ?1)"
                          " FROM images WHERE id = ?1 AND removed_ns IS NULL",
                          err);
    int rc;

    if (!stmt)
        return -1;
    ld_bind(stmt, 1, id);
    rc = ld_sql_next(stmt, err);
    if (rc < 0)
        return -1;
    if (rc == 0)
        return ld_err_set(err, LD_E_NOT_FOUND, "no such image: '%s'", id);
    if (if_match != 0 && if_match != ld_col_u64(stmt, 0))
        return ld_err_set(err, LD_E_PRECONDITION, "image '%s' is in version %lld, not %llu", id,
                          (long long)ld_col_int(stmt, 0), (unsigned long long)if_match);
    *ret_tip = ld_col_u64(stmt, 1);
    *ret_refs = ld_col_int(stmt, 2);
    return 0;
}

struct tag {
    const char *ref;
    const char *id;
    uint64_t if_match;
};

static int tag(struct ld_tx *tx, void *arg, struct ld_err *err)
{
    const struct tag *t = arg;
    int64_t n_refs;
    ld_sid tip;

    if (ld_once_check(tx, err) < 0 || check_image(tx, t->id, t->if_match, &tip, &n_refs, err) < 0 ||
        point_ref(tx, t->ref, t->id, err) < 0)
        return -1;
    return ld_once_record(tx, "image", t->id, err);
}

int ld_store_image_tag(struct ld_store *store, const struct ld_write *w, const char *ref,
                       const char *image_id, uint64_t if_match, struct ld_err *err)
{
    struct tag t = {.ref = ref, .id = image_id, .if_match = if_match};

    return ld_store_write(store, w, LD_SYNC_FULL, tag, &t, err);
}

/* ---- remove ---- */

struct removal {
    const struct ld_image_remove *what;
    struct ld_removed removed;
};

static int drop_ref(struct ld_tx *tx, const char *ref, const char *id, struct ld_removed *removed,
                    struct ld_err *err)
{
    autosql stmt = ld_sql(tx->db, "DELETE FROM refs WHERE name = ?1", err);

    if (!stmt)
        return -1;
    ld_bind(stmt, 1, ref);
    if (ld_sql_done(stmt, err) < 0 || bump_version(tx, id, err) < 0)
        return -1;
    add_text(&removed->untagged, &removed->n_untagged, &removed->cap_untagged, ld_strdup(ref));
    (void)ld_removed_add(removed, "reference", id, ref);
    return ld_tx_note(
        tx, &(struct ld_note){.type = "image.untag", .kind = "image", .id = id, .name = ref}, err);
}

/* Containers, then their snapshots. */
static int list_all_users(struct ld_db *db, const char *id, struct ld_users *ret,
                          struct ld_err *err)
{
    autosql stmt = ld_sql(db,
                          "SELECT 'container', id, name, 0 AS rank, seq FROM containers"
                          " WHERE image_id = ?1 AND removed_ns IS NULL"
                          " UNION ALL SELECT 'snapshot', s.id, s.name, 1, s.seq"
                          " FROM containers c JOIN snapshots s ON s.owner_id = c.id"
                          " WHERE c.image_id = ?1 AND c.removed_ns IS NULL ORDER BY rank, seq",
                          err);

    if (!stmt)
        return -1;
    ld_bind(stmt, 1, id);
    return ld_users_read(stmt, ret, err);
}

static int refuse_used(struct ld_tx *tx, const char *id, struct ld_err *err)
{
    LD_AUTO(ld_users_done) struct ld_users users = {0};
    size_t containers = 0;

    if (list_all_users(tx->db, id, &users, err) < 0)
        return -1;
    if (users.n == 0)
        return 0;
    while (containers < users.n && strcmp(users.item[containers].kind, "container") == 0)
        containers++;
    (void)ld_err_set(err, LD_E_IN_USE, "image '%s' is used by %zu container%s%s", id, containers,
                     containers == 1 ? "" : "s",
                     containers < users.n ? " and their snapshots" : "");
    (void)ld_err_hint(err, "remove the containers first, or force: they keep their layers");
    return ld_users_details(&users, err);
}

/* Its row and its layers stay. */
static int trash_image(struct ld_tx *tx, const struct ld_image *image, ld_sid tip,
                       const struct ld_image_remove *what, struct ld_removed *removed,
                       struct ld_err *err)
{
    struct ld_gone none = {.sid = what->trash_sid, .place = LD_PLACE_NONE};
    struct ld_note owner = {
        .kind = "image", .id = image->id, .name = image->n_refs > 0 ? image->refs[0] : NULL};
    autosql stmt = ld_sql(
        tx->db, "UPDATE images SET removed_ns = ?2, version = version + 1 WHERE id = ?1", err);

    if (!stmt)
        return -1;
    ld_bind(stmt, 1, image->id);
    ld_bind(stmt, 2, tx->now_ns);
    if (ld_sql_done(stmt, err) < 0 ||
        ld_trash_add(tx, none, &owner, what->keep_ns, removed, err) < 0)
        return -1;
    for (size_t i = 0; i < image->n_refs; i++) {
        autosql ref = ld_sql(tx->db, "INSERT INTO removed_refs VALUES(?1, ?2)", err);

        if (!ref)
            return -1;
        ld_bind(ref, 1, image->refs[i]);
        ld_bind(ref, 2, image->id);
        if (ld_sql_done(ref, err) < 0)
            return -1;
    }
    return tx->w->dry_run ? ld_layers_dead_bytes(
                                tx->db, tip, &removed->object[removed->n_objects - 1].bytes, err)
                          : 0;
}

static int delete_image(struct ld_tx *tx, const char *id, ld_sid tip,
                        const struct ld_image_remove *what, struct ld_removed *removed,
                        struct ld_err *err)
{
    LD_AUTO(ld_image_done) struct ld_image image = {.id = ld_strdup(id)};

    if (read_refs(tx->db, id, &image, err) < 0)
        return -1;
    for (size_t i = 0; i < image.n_refs; i++) {
        if (drop_ref(tx, image.refs[i], id, removed, err) < 0)
            return -1;
    }
    if (ld_tx_note(tx,
                   &(struct ld_note){.type = "image.remove",
                                     .kind = "image",
                                     .id = id,
                                     .name = image.n_refs > 0 ? image.refs[0] : NULL},
                   err) < 0)
        return -1;
    removed->is_removed = true;
    if (what->keep_ns > 0)
        return trash_image(tx, &image, tip, what, removed, err);
    (void)ld_removed_add(removed, "image", id, image.n_refs > 0 ? image.refs[0] : NULL);
    return run_with_id(tx, "DELETE FROM images WHERE id = ?1", id, err) < 0
               ? -1
               : ld_layers_release(tx, tip, removed, err);
}

static int remove_image(struct ld_tx *tx, void *arg, struct ld_err *err)
{
    struct removal *removal = arg;
    const struct ld_image_remove *what = removal->what;
    autofree char *id = NULL;
    int64_t n_refs = 0;
    ld_sid tip = 0;
    int rc;

    if (what->id) {
        id = ld_strdup(what->id);
    } else {
        rc = find_ref(tx->db, what->ref, &id, err);
        if (rc <= 0)
            return rc < 0 ? -1 : ld_err_set(err, LD_E_NOT_FOUND, "no such image: '%s'", what->ref);
    }
    if (check_image(tx, id, what->if_match, &tip, &n_refs, err) < 0)
        return -1;
    if (!what->id && (n_refs > 1 || what->keep))
        return drop_ref(tx, what->ref, id, &removal->removed, err);
    if (what->id && n_refs > 1 && !what->force && !what->all_refs) {
        (void)ld_err_set(err, LD_E_CONFLICT, "image '%s' has %lld references", id,
                         (long long)n_refs);
        return ld_err_hint(err, "name one of them to remove it alone, or force");
    }
    if (!what->force && refuse_used(tx, id, err) < 0)
        return -1;
    return delete_image(tx, id, tip, what, &removal->removed, err);
}

int ld_store_image_remove(struct ld_store *store, const struct ld_write *w,
                          const struct ld_image_remove *what, struct ld_removed *ret_removed,
                          struct ld_err *err)
{
    struct removal removal = {.what = what};

    if (ld_store_write(store, w, LD_SYNC_FULL, remove_image, &removal, err) < 0) {
        ld_removed_done(&removal.removed);
        return -1;
    }
    *ret_removed = removal.removed;
    return 0;
}

/* ---- the trash ---- */

/* Unless another image has it by now. */
static int give_name_back(struct ld_tx *tx, const char *id, const char *name,
                          struct ld_restored *ret, struct ld_err *err)
{
    autofree char *other = NULL;
    int rc = find_ref(tx->db, name, &other, err);

    if (rc < 0 || (rc == 0 && point_ref(tx, name, id, err) < 0))
        return -1;
    if (rc == 0)
        add_text(&ret->refs, &ret->n_refs, &ret->cap_refs, ld_strdup(name));
    else
        add_text(&ret->taken, &ret->n_taken, &ret->cap_taken, ld_strdup(name));
    return 0;
}

static int give_names_back(struct ld_tx *tx, const char *id, const struct ld_image *old,
                           const char *name, struct ld_restored *ret, struct ld_err *err)
{
    if (name) {
        if (give_name_back(tx, id, name, ret, err) < 0)
            return -1;
        if (ret->n_taken == 0)
            return 0;
        (void)ld_err_set(err, LD_E_EXISTS, "the name '%s' is taken by another image", name);
        return ld_err_hint(err, "restore it under another name");
    }
    for (size_t i = 0; i < old->n_refs; i++) {
        if (give_name_back(tx, id, old->refs[i], ret, err) < 0)
            return -1;
    }
    return 0;
}

int ld_image_restore(struct ld_tx *tx, const char *id, const char *name, struct ld_restored *ret,
                     struct ld_err *err)
{
    LD_AUTO(ld_image_done) struct ld_image old = {0};
    LD_AUTO(ld_restored_done) struct ld_restored restored = {0};
    struct ld_note note = {.type = "image.restore", .kind = "image", .id = id};

    if (ld_image_removed_refs(tx->db, id, &old.refs, &old.n_refs, err) < 0 ||
        revive(tx, id, err) < 0 || give_names_back(tx, id, &old, name, &restored, err) < 0)
        return -1;
    note.name = restored.n_refs > 0 ? restored.refs[0] : NULL;
    if (ld_tx_note(tx, &note, err) < 0)
        return -1;
    *ret = ld_steal(&restored);
    return 0;
}

int ld_image_destroy(struct ld_tx *tx, const char *id, struct ld_removed *removed,
                     struct ld_err *err)
{
    autosql stmt = ld_sql(tx->db,
                          "DELETE FROM images WHERE id = ?1 AND removed_ns IS NOT NULL"
                          " RETURNING coalesce(tip_sid, 0)",
                          err);
    int64_t tip = 0;

    if (!stmt)
        return -1;
    ld_bind(stmt, 1, id);
    if (ld_sql_int(stmt, &tip, err) < 0)
        return -1;
    return ld_layers_release(tx, (ld_sid)tip, removed, err);
}
