/* Layers: lookups, chains, who uses them, and their release when nobody does.
 *
 * A chain is the parent pointers. A layer lives as long as another layer, an image, a snapshot or a
 * container (restorable ones in the trash too) stands on it, or a container may have it mounted
 * (folds.c); whoever takes the last of these away calls ld_layers_release in the same transaction.
 */
#include <stdlib.h>
#include <string.h>

#include "daemon/base/mem.h"
#include "daemon/store/internal.h"

#define COLUMNS                                                                                    \
    "sid, parent_sid, diff_id, chain_id, origin, damage, bytes, inodes, created_ns, uncounted"

static void read_layer(sqlite3_stmt *stmt, struct ld_layer *layer)
{
    *layer = (struct ld_layer){
        .sid = ld_col_u64(stmt, 0),
        .parent_sid = ld_col_u64(stmt, 1),
        .diff_id = ld_col_text(stmt, 2),
        .chain_id = ld_col_text(stmt, 3),
        .origin = (enum ld_origin)ld_col_int(stmt, 4),
        .damage = ld_col_text(stmt, 5),
        .bytes = ld_col_u64(stmt, 6),
        .inodes = ld_col_u64(stmt, 7),
        .created_ns = ld_col_int(stmt, 8),
        .is_uncounted = ld_col_int(stmt, 9) != 0,
    };
}

int ld_store_layer_get(struct ld_store *store, ld_sid sid, struct ld_layer *ret, struct ld_err *err)
{
    autoread read = {0};
    autosql stmt = NULL;
    int rc;

    if (ld_read_begin(store, LD_READ_POINT, &read, err) < 0)
        return -1;
    stmt = ld_sql(read.db, "SELECT " COLUMNS " FROM layers WHERE sid = ?1", err);
    if (!stmt)
        return -1;
    ld_bind(stmt, 1, sid);
    rc = ld_sql_next(stmt, err);
    if (rc < 0)
        return -1;
    if (rc == 0)
        return ld_err_set(err, LD_E_NOT_FOUND, "no such layer: %" LD_PRI_SID, sid);
    read_layer(stmt, ret);
    return 0;
}

int ld_store_layer_by_chain(struct ld_store *store, const char *chain_id, struct ld_layer *ret,
                            struct ld_err *err)
{
    autoread read = {0};
    autosql stmt = NULL;
    int rc;

    if (ld_read_begin(store, LD_READ_POINT, &read, err) < 0)
        return -1;
    stmt = ld_sql(read.db, "SELECT " COLUMNS " FROM layers WHERE chain_id = ?1", err);
    if (!stmt)
        return -1;
    ld_bind(stmt, 1, chain_id);
    rc = ld_sql_next(stmt, err);
    if (rc < 0)
        return -1;
    if (rc == 0)
        return ld_err_set(err, LD_E_NOT_FOUND, "no such layer: '%s'", chain_id);
    read_layer(stmt, ret);
    return 0;
}

int ld_store_chain(struct ld_store *store, ld_sid tip, struct ld_chain_sids *ret,
                   struct ld_err *err)
{
    struct ld_chain_sids chain = {.n = 0};
    autoread read = {0};
    autosql stmt = NULL;
    int rc = 0;

    if (ld_read_begin(store, LD_READ_POINT, &read, err) < 0)
        return -1;
    /* One row more than allowed shows that the chain goes on (or round in a circle). */
    stmt = ld_sql(read.db,
                  "WITH RECURSIVE chain(sid, parent_sid, damage, depth) AS ("
                  "  SELECT sid, parent_sid, damage, 1 FROM layers WHERE sid = ?1"
                  "  UNION ALL"
                  "  SELECT l.sid, l.parent_sid, l.damage, depth + 1"
                  "  FROM chain c JOIN layers l ON l.sid = c.parent_sid WHERE depth <= ?2)"
                  "SELECT sid, damage IS NOT NULL FROM chain ORDER BY depth",
                  err);
    if (!stmt)
        return -1;
    ld_bind(stmt, 1, tip);
    ld_bind(stmt, 2, LD_MAX_LAYERS);
    while (tip != 0 && (rc = ld_sql_next(stmt, err)) > 0) {
        if (chain.n == LD_MAX_LAYERS)
            return ld_err_set(err, LD_E_CORRUPT,
                              "the chain of layer %" LD_PRI_SID " has more than %d layers", tip,
                              LD_MAX_LAYERS);
        chain.sid[chain.n++] = ld_col_u64(stmt, 0);
        if (ld_col_int(stmt, 1) && chain.damaged == 0)
            chain.damaged = chain.sid[chain.n - 1];
    }
    if (rc < 0)
        return -1;
    if (tip != 0 && chain.n == 0)
        return ld_err_set(err, LD_E_NOT_FOUND, "no such layer: %" LD_PRI_SID, tip);
    *ret = chain;
    return 0;
}

int ld_store_layer_list(struct ld_store *store, uint64_t after, size_t limit,
                        struct ld_layer_page *ret, struct ld_err *err)
{
    LD_AUTO(ld_layer_page_done) struct ld_layer_page page = {0};
    struct ld_paging paging = LD_PAGING(limit);
    size_t cap = 0;
    autoread read = {0};
    autosql stmt = NULL;
    int rc;

    if (ld_read_begin(store, LD_READ_LIST, &read, err) < 0)
        return -1;
    stmt =
        ld_sql(read.db, "SELECT " COLUMNS " FROM layers WHERE sid > ?1 ORDER BY sid LIMIT ?2", err);
    if (!stmt)
        return -1;
    ld_bind(stmt, 1, after);
    ld_bind(stmt, 2, paging.max + 1);
    while ((rc = ld_page_next(stmt, &paging, &page.next, err)) > 0) {
        ld_grow(&page.item, &cap, page.n + 1, sizeof(*page.item));
        read_layer(stmt, &page.item[page.n++]);
    }
    if (rc < 0)
        return -1;
    *ret = ld_steal(&page);
    return 0;
}

int ld_store_layer_users(struct ld_store *store, ld_sid sid, struct ld_users *ret,
                         struct ld_err *err)
{
    autoread read = {0};
    autosql stmt = NULL;

    if (ld_read_begin(store, LD_READ_LIST, &read, err) < 0)
        return -1;
    stmt = ld_sql(read.db,
                  "WITH RECURSIVE above(sid) AS ("
                  "  VALUES(?1) UNION"
                  "  SELECT l.sid FROM above a JOIN layers l ON l.parent_sid = a.sid)"
                  "SELECT 'image', i.id, (SELECT min(name) FROM refs WHERE image_id = i.id)"
                  "  FROM above JOIN images i ON i.tip_sid = above.sid AND i.removed_ns IS NULL"
                  " UNION ALL SELECT 'container', c.id, c.name"
                  "  FROM above JOIN containers c ON c.parent_sid = above.sid"
                  " UNION ALL SELECT 'snapshot', s.id, s.name"
                  "  FROM above JOIN snapshots s ON s.tip_sid = above.sid",
                  err);
    if (!stmt)
        return -1;
    ld_bind(stmt, 1, sid);
    return ld_users_read(stmt, ret, err);
}

/* ---- writing ---- */

struct damage {
    ld_sid sid;
    const char *reason;
};

static int set_damage(struct ld_tx *tx, void *arg, struct ld_err *err)
{
    const struct damage *damage = arg;
    struct ld_sid_text name = ld_sid_name(damage->sid);
    autosql stmt = ld_sql(tx->db, "UPDATE layers SET damage = ?2 WHERE sid = ?1", err);

    if (!stmt)
        return -1;
    ld_bind(stmt, 1, damage->sid);
    ld_bind(stmt, 2, damage->reason);
    if (ld_sql_done(stmt, err) < 0)
        return -1;
    if (sqlite3_changes(ld_db_handle(tx->db)) == 0)
        return ld_err_set(err, LD_E_NOT_FOUND, "no such layer: %s", name.text);
    return ld_tx_note(tx,
                      &(struct ld_note){.type = damage->reason ? "layer.damaged" : "layer.repaired",
                                        .kind = "layer",
                                        .id = name.text},
                      err);
}

int ld_store_layer_set_damage(struct ld_store *store, const struct ld_write *w, ld_sid sid,
                              const char *reason, struct ld_err *err)
{
    struct damage damage = {.sid = sid, .reason = reason};

    return ld_store_write(store, w, LD_SYNC_FULL, set_damage, &damage, err);
}

int ld_layer_conflict(struct ld_err *err, const struct ld_layer *layer, const char *why)
{
    return ld_err_set(err, LD_E_CONFLICT, "layer %" LD_PRI_SID " (%s) %s", layer->sid,
                      layer->chain_id ? layer->chain_id : "without chain ID", why);
}

int ld_layer_insert(struct ld_tx *tx, const struct ld_layer *layer, ld_sid parent,
                    struct ld_err *err)
{
    autosql taken = ld_sql(tx->db, "SELECT 1 FROM layers WHERE sid = ?1 OR chain_id = ?2", err);
    autosql stmt = NULL;
    int64_t one;
    int rc;

    if (!taken)
        return -1;
    ld_bind(taken, 1, layer->sid);
    ld_bind(taken, 2, layer->chain_id);
    rc = ld_sql_int(taken, &one, err);
    if (rc != 0)
        return rc < 0 ? -1 : ld_layer_conflict(err, layer, "was added by somebody else meanwhile");
    stmt = ld_sql(tx->db,
                  "INSERT INTO layers(sid, parent_sid, diff_id, chain_id, origin, bytes, inodes,"
                  " created_ns, uncounted) VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
                  err);
    if (!stmt)
        return -1;
    ld_bind(stmt, 1, layer->sid);
    ld_bind_id(stmt, 2, parent);
    ld_bind(stmt, 3, layer->diff_id);
    ld_bind(stmt, 4, layer->chain_id);
    ld_bind(stmt, 5, (int)layer->origin);
    ld_bind(stmt, 6, layer->bytes);
    ld_bind(stmt, 7, layer->inodes);
    ld_bind(stmt, 8, layer->created_ns ? layer->created_ns : tx->now_ns);
    ld_bind(stmt, 9, layer->is_uncounted);
    return ld_sql_done(stmt, err);
}

struct count {
    ld_sid sid;
    uint64_t bytes, inodes;
};

static int set_count(struct ld_tx *tx, void *arg, struct ld_err *err)
{
    const struct count *count = arg;
    autosql stmt = ld_sql(
        tx->db, "UPDATE layers SET bytes = ?2, inodes = ?3, uncounted = 0 WHERE sid = ?1", err);

    if (!stmt)
        return -1;
    ld_bind(stmt, 1, count->sid);
    ld_bind(stmt, 2, count->bytes);
    ld_bind(stmt, 3, count->inodes);
    return ld_sql_done(stmt, err);
}

int ld_store_layer_set_count(struct ld_store *store, ld_sid sid, uint64_t bytes, uint64_t inodes,
                             struct ld_err *err)
{
    struct count count = {.sid = sid, .bytes = bytes, .inodes = inodes};

    /* What a power cut forgets is counted again. */
    return ld_store_write(store, &LD_WRITE_SELF, LD_SYNC_LAZY, set_count, &count, err);
}

int ld_store_layer_uncounted(struct ld_store *store, ld_sid after, ld_sid *ret, struct ld_err *err)
{
    autoread read = {0};
    autosql stmt = NULL;
    int64_t sid = 0;

    if (ld_read_begin(store, LD_READ_POINT, &read, err) < 0)
        return -1;
    stmt = ld_sql(read.db, "SELECT min(sid) FROM layers WHERE uncounted AND sid > ?1", err);
    if (!stmt)
        return -1;
    ld_bind(stmt, 1, after);
    if (ld_sql_int(stmt, &sid, err) < 0)
        return -1;
    *ret = (ld_sid)sid;
    return 0;
}

int ld_layer_is_whole(struct ld_db *db, ld_sid sid, struct ld_err *err)
{
    autosql stmt = ld_sql(db, "SELECT 1 FROM layers WHERE sid = ?1 AND damage IS NULL", err);
    int64_t one;

    if (!stmt)
        return -1;
    ld_bind(stmt, 1, sid);
    return ld_sql_int(stmt, &one, err);
}

/* 1: something stands on the layer; 0: nothing does. */
static int is_needed(struct ld_db *db, ld_sid sid, struct ld_err *err)
{
    autosql stmt = ld_sql(db,
                          "SELECT EXISTS(SELECT 1 FROM layers WHERE parent_sid = ?1)"
                          " OR EXISTS(SELECT 1 FROM images WHERE tip_sid = ?1)"
                          " OR EXISTS(SELECT 1 FROM containers WHERE parent_sid = ?1)"
                          " OR EXISTS(SELECT 1 FROM snapshots WHERE tip_sid = ?1)"
                          " OR EXISTS(SELECT 1 FROM held WHERE layer_sid = ?1)",
                          err);
    int64_t needed = 1;

    if (!stmt)
        return -1;
    ld_bind(stmt, 1, sid);
    if (ld_sql_int(stmt, &needed, err) < 0)
        return -1;
    return needed ? 1 : 0;
}

static int get_layer(struct ld_db *db, ld_sid sid, struct ld_layer *ret, struct ld_err *err)
{
    autosql stmt = ld_sql(db, "SELECT " COLUMNS " FROM layers WHERE sid = ?1", err);
    int rc;

    if (!stmt)
        return -1;
    ld_bind(stmt, 1, sid);
    rc = ld_sql_next(stmt, err);
    if (rc > 0)
        read_layer(stmt, ret);
    return rc;
}

static int release_one(struct ld_tx *tx, const struct ld_layer *layer, struct ld_removed *removed,
                       struct ld_err *err)
{
    struct ld_gone gone = {.sid = layer->sid, .place = LD_PLACE_LAYERS};
    struct ld_note owner = {.kind = "layer", .id = layer->chain_id};
    autosql stmt = ld_sql(tx->db, "DELETE FROM layers WHERE sid = ?1", err);

    if (!stmt)
        return -1;
    ld_bind(stmt, 1, layer->sid);
    if (ld_sql_done(stmt, err) < 0)
        return -1;
    removed->layer_bytes += layer->bytes;
    if (ld_trash_add(tx, gone, &owner, 0, removed, err) < 0)
        return -1;
    removed->object[removed->n_objects - 1].bytes = layer->bytes;
    return 0;
}

int ld_layers_release(struct ld_tx *tx, ld_sid tip, struct ld_removed *removed, struct ld_err *err)
{
    while (tip != 0) { /* ends at the latest with the lowest layer: each round deletes one */
        LD_AUTO(ld_layer_done) struct ld_layer layer = {0};
        int rc = is_needed(tx->db, tip, err);

        if (rc != 0)
            return rc < 0 ? -1 : 0;
        rc = get_layer(tx->db, tip, &layer, err);
        if (rc <= 0)
            return rc;
        if (release_one(tx, &layer, removed, err) < 0)
            return -1;
        tip = layer.parent_sid;
    }
    return 0;
}

/* 1: something that lives stands on the layer; 0: at most what is in the trash. */
static int has_living(struct ld_db *db, ld_sid sid, struct ld_err *err)
{
    autosql stmt = ld_sql(db,
                          "WITH RECURSIVE above(sid) AS ("
                          "  VALUES(?1) UNION"
                          "  SELECT l.sid FROM above a JOIN layers l ON l.parent_sid = a.sid)"
                          "SELECT 1 FROM above a WHERE"
                          " EXISTS(SELECT 1 FROM images WHERE tip_sid = a.sid"
                          "   AND removed_ns IS NULL)"
                          " OR EXISTS(SELECT 1 FROM containers WHERE parent_sid = a.sid"
                          "   AND removed_ns IS NULL)"
                          " OR EXISTS(SELECT 1 FROM snapshots s JOIN containers c"
                          "   ON c.id = s.owner_id WHERE s.tip_sid = a.sid"
                          "   AND c.removed_ns IS NULL)"
                          " OR EXISTS(SELECT 1 FROM held WHERE layer_sid = a.sid) LIMIT 1",
                          err);
    int64_t one;

    if (!stmt)
        return -1;
    ld_bind(stmt, 1, sid);
    return ld_sql_int(stmt, &one, err);
}

int ld_layers_dead_bytes(struct ld_db *db, ld_sid tip, uint64_t *ret, struct ld_err *err)
{
    uint64_t bytes = 0;
    size_t depth = 0;

    /* No deeper than a chain may be: it could go round in a circle. */
    while (tip != 0 && depth++ < LD_MAX_LAYERS) {
        LD_AUTO(ld_layer_done) struct ld_layer layer = {0};
        int rc = has_living(db, tip, err);

        if (rc == 0)
            rc = get_layer(db, tip, &layer, err);
        else if (rc > 0)
            break;
        if (rc < 0)
            return -1;
        bytes += layer.bytes;
        tip = layer.parent_sid;
    }
    *ret = bytes;
    return 0;
}
