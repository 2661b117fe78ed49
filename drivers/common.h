/* What the drivers share: telling a writable layer's changes from its chain.
 * Blocking; any thread. For the drivers only. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include "drivers/chain.h"
#include "drivers/driver.h"

/* Removes what a failed operation or a trial left. What can't be removed is found later: in w as an
 * orphan, at the stage with the next start. */
void ld_driver_discard(int dir, const char *name);

/* The two trees to compare. */
struct ld_diff {
    struct ld_layers now;    /* an overlay's upper on the container's own layers, or a whole tree */
    struct ld_layers before; /* the chain below those */
    bool now_is_upper;       /* what it does not have is unchanged, unless hidden by a mark */

    /* Whole trees only. The inodes of `now` when it was made, in the order of the walk: one that is
     * still at its place, with a change time in [from, to], was not touched and is not compared.
     * n_inode 0: all are compared. */
    const uint64_t *inode;
    size_t n_inode;
    struct timespec from, to;
};

/* As ld_driver.changes has it. What vanishes during the walk (a mounted container) is left out. */
int ld_diff_walk(const struct ld_diff *diff, ld_change_fn sink, void *arg,
                 struct ld_err *err) ld_must_check;
