/* Tips: which layer a container stands on, and how that changes. Freezing, capturing and rolling
 * back only change which layer a container or a snapshot names; layers that nobody reaches any more
 * leave in the same transaction. What the directories have to look like before and after is the
 * business of core/freeze and core/move.
 */
#include <string.h>

#include "daemon/base/mem.h"
#include "daemon/store/internal.h"

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

/* ---- freezing and capturing ---- */

static int freeze(struct ld_tx *tx, void *arg, struct ld_err *err)
{
    LD_AUTO(ld_container_done) struct ld_container c = {0};
    const struct ld_freeze *f = arg;
    const struct ld_snapshot *s = f->snapshot;
    struct ld_note owner = {.kind = "container"};
    ld_sid tip = 0;

    if (get_as_seen(tx, f->container, f->upper_sid, &c, err) < 0)
        return -1;
    tip = f->layer ? f->layer->sid : c.parent_sid;
    if (f->layer && ld_layer_insert(tx, f->layer, c.parent_sid, err) < 0)
        return -1;
    if (f->next_sid && move_to(tx, c.id, tip, f->next_sid, NULL, err) < 0)
        return -1;
    owner.id = c.id;
    owner.name = c.name;
    return s ? ld_snapshot_add(tx, s, &owner, tip, err) : 0;
}

int ld_store_freeze(struct ld_store *store, const struct ld_write *w, const struct ld_freeze *what,
                    struct ld_err *err)
{
    struct ld_freeze copy = *what; /* borrows the strings for the call */
    enum ld_sync sync = what->is_ephemeral && !w->once ? LD_SYNC_LAZY : LD_SYNC_FULL;

    if (what->snapshot && ld_snapshot_check(what->snapshot, err) < 0)
        return -1;
    return ld_store_write(store, w, sync, freeze, &copy, err);
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
    return m->what->snapshot ? ld_snapshot_returned(tx, &s, &owner, err) : 0;
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
