/* What the drivers share: opening a chain, and telling a writable layer's changes from it.
 * Blocking; any thread. For the drivers only. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include "drivers/driver.h"

/* The open roots of a chain, topmost first. A chain of no layer is layers/0, the fixed empty one.
 */
struct ld_open_chain {
    struct ld_layers layers; /* points to fd */
    int *fd;
};

/* Codes: unsupported (more than LD_MAX_LAYERS), corrupt (a layer's directory is missing). */
int ld_chain_open(const struct ld_driver_env *env, const struct ld_chain *chain,
                  struct ld_open_chain *ret, struct ld_err *err) ld_must_check;
void ld_chain_close(struct ld_open_chain *chain);

/* The same without its first n. */
static inline struct ld_layers ld_layers_below(const struct ld_layers *layers, size_t n)
{
    return (struct ld_layers){.root = layers->root + n, .n = layers->n - n, .form = layers->form};
}

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
