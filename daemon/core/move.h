/* Moving a container that nobody uses onto another tip: a new, empty writable layer on it takes the
 * place of its own, which goes to the trash.
 *
 * The new one first, durable; then one transaction; then the old directory is renamed. A kill
 * before the transaction leaves what the next start deletes, one after it what it renames.
 */
#pragma once

#include <stdbool.h>

#include "daemon/base/err.h"

struct ld_chain_sids;
struct ld_container;
struct ld_core;
struct ld_driver;
struct ld_write;

struct ld_move {
    const struct ld_container *container;
    const struct ld_driver *driver;    /* the container's */
    const struct ld_chain_sids *chain; /* what it is going to stand on */
    const char *snapshot; /* the id of the one it returns to; NULL: the chain shows what the
                             container does, and nobody is told of the move */
    const bool *cancel;   /* ends the copying of a vfs container; or NULL */
};

/* Worker, the container's key held, nothing of it mounted or held (ld_mounts_settle). A failure
 * leaves the container as it was. Codes: conflict (its limits can't be enforced here, the tip is
 * damaged by now), not_found (the snapshot is gone, or the container), no_space, canceled. */
int ld_move(struct ld_core *core, const struct ld_write *w, const struct ld_move *move,
            struct ld_err *err) ld_must_check;
