/* A writable layer that is being made: from its storage id to its record.
 *
 * begin, then a store verb with `w` as ready has filled it, then end. What fails in between is
 * taken back by undo; a kill leaves a marked directory (making.h), which the next start deletes.
 * Any worker.
 */
#pragma once

#include <errno.h>
#include <stdbool.h>

#include "daemon/store/store.h"
#include "drivers/driver.h"

struct ld_core;

struct ld_new_writable {
    struct ld_writable w; /* sid, chain, state */
    bool is_made;
    bool is_pinned; /* while it is made: whoever looks for what nobody uses leaves it alone */
    int dirs[3];    /* those of the layer that must be durable before the record is; owned */
    size_t n_dirs;
};

/* What is to be made; all borrowed. The chain outlives it. */
struct ld_writable_spec {
    const struct ld_driver *driver;
    struct ld_chain chain;
    struct ld_limits limits;
    enum ld_backing backing;
};
/* Takes a sid, marks it, and makes w/SID on the chain, held to the limits. conflict: they can't be
 * enforced here. */
int ld_writable_begin(struct ld_core *core, const struct ld_writable_spec *spec, const bool *cancel,
                      struct ld_new_writable *ret, struct ld_err *err);
/* Makes *w wait for what the record relies on; a copy of many files is synced here. */
int ld_writable_ready(struct ld_core *core, struct ld_new_writable *nw, bool is_ephemeral,
                      struct ld_write *w, struct ld_err *err);
/* The driver's text for the record; NULL: none. */
const char *ld_writable_state(const struct ld_new_writable *nw);
/* The record is not, and will not be, there. */
void ld_writable_undo(struct ld_core *core, struct ld_new_writable *nw);
/* Recorded or undone. */
void ld_writable_end(struct ld_core *core, struct ld_new_writable *nw);

/* Has a store verb that failed with this perhaps happened all the same? Then what it would have
 * recorded must stay until the next start, which knows. */
bool ld_is_undecided(const struct ld_err *err);
