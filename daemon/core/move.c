/* Moving onto another tip: see move.h. */
#include "daemon/core/move.h"

#include "daemon/core/fold.h"
#include "daemon/core/state.h"
#include "daemon/core/trash.h"
#include "daemon/core/writable.h"

static int record(struct ld_core *core, const struct ld_write *w, const struct ld_move *move,
                  struct ld_new_writable *nw, struct ld_removed *removed, struct ld_err *err)
{
    const struct ld_container *c = move->container;
    struct ld_write with = *w;
    struct ld_moved what = {.container = c->id,
                            .snapshot = move->snapshot,
                            .tip_sid = move->chain->n ? move->chain->sid[0] : 0,
                            .upper_sid = c->upper_sid,
                            .next_sid = nw->w.sid,
                            .driver_state = ld_writable_state(nw),
                            .is_ephemeral = c->ephemeral};

    if (ld_writable_ready(core, nw, c->ephemeral, &with, err) < 0)
        return -1;
    return ld_store_move(core->store, &with, &what, removed, err);
}

int ld_move(struct ld_core *core, const struct ld_write *w, const struct ld_move *move,
            struct ld_err *err)
{
    struct ld_removed removed LD_AUTO(ld_removed_done) = {.n = 0};
    struct ld_writable_spec spec = {.driver = move->driver,
                                    .chain = {.sid = move->chain->sid, .n = move->chain->n},
                                    .limits = move->container->limits,
                                    .backing = move->container->backing};
    struct ld_new_writable nw;
    int rc = ld_writable_begin(core, &spec, move->cancel, &nw, err);

    if (rc == 0)
        rc = record(core, w, move, &nw, &removed, err);
    if (rc < 0 && !ld_is_undecided(err))
        ld_writable_undo(core, &nw);
    ld_writable_end(core, &nw);
    if (rc == 0) {
        ld_trash_take(core, &removed);
        ld_folder_note(core, move->container->parent_sid); /* perhaps the last to need it */
    }
    return rc;
}
