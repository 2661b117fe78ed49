/* Folding: a run of layers, each the state of a container, is replaced by one that comes to the
 * same. See core/fold.h for why, when, and what happens on the disk.
 *
 * The run itself stays. Its lower part may be what a snapshot names, or others stand on it; and
 * whoever has read the old chain goes on with it: an operation that is running, for as long as it
 * runs, and a mount, for as long as it is alive in any mount namespace. So a fold notes in `held`
 * all containers that stand on the run. Once no operation is left from before it, those that were
 * never mounted are struck off and the others are ripe: from then on each is let go as soon as
 * somebody has seen that its writable layer is not mounted, since its next mount is of the new
 * chain. A layer leaves with the last thing that needs it, as ever (layers.c).
 */
#include <stdlib.h>

#include "daemon/base/mem.h"
#include "daemon/store/internal.h"

/* l is the state of a container and no image's, whole, and counted. */
#define IS_STATE "l.origin IN (2, 3, 4) AND l.chain_id IS NULL"
#define IS_FOLDABLE                                                                                \
    IS_STATE " AND l.damage IS NULL AND NOT l.uncounted"                                           \
             " AND NOT EXISTS(SELECT 1 FROM images i WHERE i.tip_sid = l.sid)"

/* The layer x is a state that can be returned to, or that a container stands on. */
#define IS_TIP(x)                                                                                  \
    "(EXISTS(SELECT 1 FROM containers c WHERE c.parent_sid = " x ")"                               \
    " OR EXISTS(SELECT 1 FROM snapshots s WHERE s.tip_sid = " x "))"

#define L_IS_TIP IS_TIP("l.sid")

/* ?1 and all that stand on it, those that were folded and live on for a while, too. */
#define WITH_ABOVE                                                                                 \
    "WITH RECURSIVE above(sid) AS (VALUES(?1) UNION"                                               \
    "  SELECT l.sid FROM above a JOIN layers l ON l.parent_sid = a.sid)"

_Static_assert(LD_ORIGIN_FREEZE == 2 && LD_ORIGIN_CAPTURE == 3 && LD_ORIGIN_FOLD == 4,
               "the numbers in IS_STATE");

/* ---- reading ---- */

int ld_store_foldable(struct ld_store *store, ld_sid tip, struct ld_foldable *ret,
                      struct ld_err *err)
{
    autoread read = {0};
    autosql stmt = NULL;
    int rc;

    ret->n = 0;
    if (ld_read_begin(store, LD_READ_POINT, &read, err) < 0)
        return -1;
    stmt = ld_sql(read.db,
                  "WITH RECURSIVE own(sid, parent_sid, bytes, inodes, depth) AS ("
                  "  SELECT sid, parent_sid, bytes, inodes, 1 FROM layers l"
                  "  WHERE sid = ?1 AND " L_IS_TIP " AND " IS_FOLDABLE " UNION ALL"
                  "  SELECT l.sid, l.parent_sid, l.bytes, l.inodes, depth + 1"
                  "  FROM own o JOIN layers l ON l.sid = o.parent_sid"
                  "  WHERE depth < ?2 AND " IS_FOLDABLE ")"
                  "SELECT sid, bytes, inodes, " IS_TIP(
                      "own.sid") "   OR (SELECT count(*) FROM layers a WHERE "
                                 "a.parent_sid = own.sid) > 1"
                                 " FROM own ORDER BY depth",
                  err);
    if (!stmt)
        return -1;
    ld_bind(stmt, 1, tip);
    ld_bind(stmt, 2, LD_MAX_LAYERS);
    while ((rc = ld_sql_next(stmt, err)) > 0)
        ret->item[ret->n++] = (struct ld_foldable_layer){.sid = ld_col_u64(stmt, 0),
                                                         .bytes = ld_col_u64(stmt, 1),
                                                         .inodes = ld_col_u64(stmt, 2),
                                                         .is_named = ld_col_int(stmt, 3) != 0};
    return rc;
}

int ld_store_foldable_above(struct ld_store *store, ld_sid sid, ld_sid *ret_tip, struct ld_err *err)
{
    autoread read = {0};
    autosql stmt = NULL;
    int64_t tip = 0;

    if (ld_read_begin(store, LD_READ_POINT, &read, err) < 0)
        return -1;
    stmt = ld_sql(read.db, WITH_ABOVE "SELECT max(sid) FROM above WHERE " IS_TIP("above.sid"), err);
    if (!stmt)
        return -1;
    ld_bind(stmt, 1, sid);
    if (ld_sql_int(stmt, &tip, err) < 0)
        return -1;
    *ret_tip = (ld_sid)tip;
    return 0;
}

int ld_store_foldable_tip(struct ld_store *store, ld_sid after, ld_sid *ret, struct ld_err *err)
{
    autoread read = {0};
    autosql stmt = NULL;
    int64_t sid = 0;

    if (ld_read_begin(store, LD_READ_LIST, &read, err) < 0)
        return -1;
    stmt = ld_sql(read.db,
                  "SELECT sid FROM layers l WHERE sid > ?1 AND " IS_STATE
                  " AND NOT EXISTS(SELECT 1 FROM layers a WHERE a.parent_sid = l.sid)"
                  " ORDER BY sid LIMIT 1",
                  err);
    if (!stmt)
        return -1;
    ld_bind(stmt, 1, after);
    if (ld_sql_int(stmt, &sid, err) < 0)
        return -1;
    *ret = (ld_sid)sid;
    return 0;
}

/* ---- the fold ---- */

/* A statement whose parameters are the sids a (?1) and b (?2); 0: it has no such parameter. */
static int run(struct ld_tx *tx, const char *text, ld_sid a, ld_sid b, struct ld_err *err)
{
    autosql stmt = ld_sql(tx->db, text, err);

    if (!stmt)
        return -1;
    if (a)
        ld_bind(stmt, 1, a);
    if (b)
        ld_bind(stmt, 2, b);
    return ld_sql_done(stmt, err);
}

static int are_others(struct ld_err *err)
{
    return ld_err_set(err, LD_E_CONFLICT, "the layers to be folded are others by now");
}

/* *ret: what the run stands on. */
static int check_run(struct ld_tx *tx, const struct ld_fold *f, ld_sid *ret, struct ld_err *err)
{
    ld_sid parent = f->n ? f->run[0] : 0;

    for (size_t i = 0; i < f->n; i++) {
        autosql stmt = ld_sql(tx->db,
                              "SELECT coalesce(parent_sid, 0) FROM layers l WHERE sid = ?1"
                              " AND " IS_FOLDABLE,
                              err);
        int64_t below = 0;
        int rc;

        if (!stmt)
            return -1;
        ld_bind(stmt, 1, f->run[i]);
        rc = parent == f->run[i] ? ld_sql_int(stmt, &below, err) : 0;
        if (rc <= 0)
            return rc < 0 ? -1 : are_others(err);
        parent = (ld_sid)below;
    }
    *ret = parent;
    return 0;
}

/* 1: it is part of a state; 0: only of what was folded before. */
static int is_alive(struct ld_tx *tx, ld_sid sid, struct ld_err *err)
{
    autosql stmt =
        ld_sql(tx->db, WITH_ABOVE "SELECT 1 FROM above WHERE " IS_TIP("above.sid") " LIMIT 1", err);
    int64_t one;

    if (!stmt)
        return -1;
    ld_bind(stmt, 1, sid);
    return ld_sql_int(stmt, &one, err);
}

/* Whoever may have the run mounted: containers that stand on it, removed ones, too, since others
 * can have them mounted still; and those for which something is held that stood on it once. */
static int hold(struct ld_tx *tx, ld_sid top, struct ld_err *err)
{
    return run(tx,
               WITH_ABOVE "INSERT OR IGNORE INTO held(layer_sid, upper_sid)"
                          " SELECT ?1, c.upper_sid FROM above"
                          "   JOIN containers c ON c.parent_sid = above.sid"
                          " UNION SELECT ?1, h.upper_sid FROM above"
                          "   JOIN held h ON h.layer_sid = above.sid",
               top, 0, err);
}

static int fold(struct ld_tx *tx, void *arg, struct ld_err *err)
{
    const struct ld_fold *f = arg;
    ld_sid top = f->run[0], below = 0;
    int rc;

    if (check_run(tx, f, &below, err) < 0 || ld_layer_insert(tx, f->layer, below, err) < 0 ||
        hold(tx, top, err) < 0)
        return -1;
    if (run(tx, "UPDATE layers SET parent_sid = ?2 WHERE parent_sid = ?1", top, f->layer->sid,
            err) < 0 ||
        run(tx, "UPDATE containers SET parent_sid = ?2 WHERE parent_sid = ?1", top, f->layer->sid,
            err) < 0)
        return -1;
    if (run(tx, "UPDATE snapshots SET tip_sid = ?2 WHERE tip_sid = ?1", top, f->layer->sid, err) <
        0)
        return -1;
    rc = is_alive(tx, f->layer->sid, err);
    if (rc <= 0)
        return rc < 0 ? -1 : are_others(err); /* folded before, and nobody needs it any more */
    return 0;
}

int ld_store_fold(struct ld_store *store, const struct ld_fold *what, struct ld_err *err)
{
    struct ld_fold copy = *what;

    return ld_store_write(store, &LD_WRITE_SELF, LD_SYNC_FULL, fold, &copy, err);
}

/* ---- letting go ---- */

/* Nobody can have it mounted: never mounted, or gone from the disk. */
#define IS_FREE                                                                                    \
    "NOT EXISTS(SELECT 1 FROM containers c"                                                        \
    "  WHERE c.upper_sid = held.upper_sid AND c.ever_mounted)"                                     \
    " AND NOT EXISTS(SELECT 1 FROM trash t WHERE t.sid = held.upper_sid)"

struct release {
    const ld_sid *tops;
    size_t n;
    ld_sid upper;
    struct ld_removed removed;
};

/* What became free with it is renamed and deleted next: that must not be forgotten again. */
static int write_release(struct ld_store *store, ld_tx_fn fn, struct release *r,
                         struct ld_removed *ret_removed, struct ld_err *err)
{
    int rc = ld_store_write(store, &LD_WRITE_SELF, LD_SYNC_LAZY, fn, r, err);

    if (rc == 0 && r->removed.n > 0)
        rc = ld_store_flush(store, err);
    if (rc < 0) {
        ld_removed_done(&r->removed);
        return -1;
    }
    *ret_removed = r->removed;
    return 0;
}

static int release(struct ld_tx *tx, void *arg, struct ld_err *err)
{
    struct release *r = arg;

    for (size_t i = 0; i < r->n; i++) {
        if (run(tx, "DELETE FROM held WHERE layer_sid = ?1 AND " IS_FREE, r->tops[i], 0, err) < 0 ||
            run(tx, "UPDATE held SET ripe = 1 WHERE layer_sid = ?1", r->tops[i], 0, err) < 0 ||
            ld_layers_release(tx, r->tops[i], &r->removed, err) < 0)
            return -1;
    }
    return 0;
}

int ld_store_fold_release(struct ld_store *store, const ld_sid *tops, size_t n,
                          struct ld_removed *ret_removed, struct ld_err *err)
{
    struct release r = {.tops = tops, .n = n};

    return write_release(store, release, &r, ret_removed, err);
}

void ld_held_done(struct ld_held *held)
{
    ld_free_p(&held->container);
}

int ld_store_held_next(struct ld_store *store, ld_sid after, struct ld_held *ret,
                       struct ld_err *err)
{
    autoread read = {0};
    autosql stmt = NULL;
    int rc;

    if (ld_read_begin(store, LD_READ_POINT, &read, err) < 0)
        return -1;
    stmt = ld_sql(read.db,
                  "SELECT h.upper_sid, c.id, c.id IS NULL"
                  "   AND NOT EXISTS(SELECT 1 FROM trash t WHERE t.sid = h.upper_sid)"
                  " FROM held h LEFT JOIN containers c"
                  "   ON c.upper_sid = h.upper_sid AND c.removed_ns IS NULL"
                  " WHERE h.upper_sid > ?1 AND h.ripe ORDER BY h.upper_sid LIMIT 1",
                  err);
    if (!stmt)
        return -1;
    ld_bind(stmt, 1, after);
    rc = ld_sql_next(stmt, err);
    if (rc < 0)
        return -1;
    *ret = (struct ld_held){.upper_sid = 0};
    if (rc > 0)
        *ret = (struct ld_held){.upper_sid = ld_col_u64(stmt, 0),
                                .container = ld_col_text(stmt, 1),
                                .is_gone = ld_col_int(stmt, 2) != 0};
    return 0;
}

/* One layer that is ripe and held for the writable layer, which holds it no more; 0: none. */
static int take_held(struct ld_tx *tx, ld_sid upper, ld_sid *ret, struct ld_err *err)
{
    autosql stmt = ld_sql(tx->db,
                          "DELETE FROM held WHERE upper_sid = ?1 AND layer_sid ="
                          " (SELECT min(layer_sid) FROM held WHERE upper_sid = ?1 AND ripe)"
                          " RETURNING layer_sid",
                          err);
    int64_t sid = 0;

    if (!stmt)
        return -1;
    ld_bind(stmt, 1, upper);
    if (ld_sql_int(stmt, &sid, err) < 0)
        return -1;
    *ret = (ld_sid)sid;
    return 0;
}

static int drop(struct ld_tx *tx, void *arg, struct ld_err *err)
{
    struct release *r = arg;
    ld_sid layer;

    for (;;) {
        if (take_held(tx, r->upper, &layer, err) < 0)
            return -1;
        if (layer == 0)
            return 0;
        if (ld_layers_release(tx, layer, &r->removed, err) < 0)
            return -1;
    }
}

int ld_store_held_drop(struct ld_store *store, ld_sid upper, struct ld_removed *ret_removed,
                       struct ld_err *err)
{
    struct release r = {.upper = upper};

    return write_release(store, drop, &r, ret_removed, err);
}

/* ---- start ---- */

/* A state of a container that nothing needs: 1; 0: there is none. */
static int next_unneeded(struct ld_tx *tx, ld_sid *ret, struct ld_err *err)
{
    autosql stmt = ld_sql(tx->db,
                          "SELECT sid FROM layers l WHERE " IS_STATE " AND NOT " L_IS_TIP
                          " AND NOT EXISTS(SELECT 1 FROM layers a WHERE a.parent_sid = l.sid)"
                          " AND NOT EXISTS(SELECT 1 FROM images WHERE tip_sid = l.sid)"
                          " AND NOT EXISTS(SELECT 1 FROM held WHERE layer_sid = l.sid) LIMIT 1",
                          err);
    int64_t sid = 0;
    int rc;

    if (!stmt)
        return -1;
    rc = ld_sql_int(stmt, &sid, err);
    *ret = (ld_sid)sid;
    return rc;
}

static int recover(struct ld_tx *tx, void *arg, struct ld_err *err)
{
    struct release *r = arg;
    bool is_same_boot = ld_store_is_same_boot(tx->store);
    ld_sid sid;
    int rc;

    if (run(tx, is_same_boot ? "DELETE FROM held WHERE " IS_FREE : "DELETE FROM held", 0, 0, err) <
            0 ||
        run(tx, "UPDATE held SET ripe = 1", 0, 0, err) < 0)
        return -1;
    while ((rc = next_unneeded(tx, &sid, err)) > 0) {
        if (ld_layers_release(tx, sid, &r->removed, err) < 0)
            return -1;
    }
    return rc;
}

int ld_store_folds_recover(struct ld_store *store, struct ld_err *err)
{
    LD_AUTO(ld_removed_done) struct ld_removed removed = {.n = 0};
    struct release r = {.upper = 0};

    return write_release(store, recover, &r, &removed, err);
}
