/* What is different between two trees: added, modified, deleted.
 *
 * Exact: an entry is modified when ld_node_compare says so, however it came to be that way.
 * Blocking; no state, any thread.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <time.h>

#include "daemon/base/err.h"
#include "daemon/base/tree.h"

enum ld_change_kind { LD_CHANGE_ADDED, LD_CHANGE_MODIFIED, LD_CHANGE_DELETED };

struct ld_change {
    enum ld_change_kind kind;
    const char *path; /* "/etc/passwd": bytes, starts with '/', no trailing one; "/" is the root */
    const struct stat *st; /* the node as it is now; as it was for a deleted one */
    /* The node itself, valid during the call, so that a sink can open or copy it: in `now`, or, for
     * a deleted one, in `before`. */
    const struct ld_node *node;
};

/* A result other than 0 ends the walk; the walk then returns -1 with the err the sink has filled.
 */
typedef int (*ld_change_fn)(void *arg, const struct ld_change *change, struct ld_err *err);

/* The two trees to compare. */
struct ld_diff {
    struct ld_layers now;    /* the topmost layers of a chain, or a whole tree */
    struct ld_layers before; /* the chain below those, or another whole tree */
    bool now_is_upper;       /* what it does not have is unchanged, unless hidden by a mark */
    const bool *cancel;      /* polled for each entry; or NULL */

    /* Whole trees only. The inodes of `now` when it was made, in the order of the walk: one that is
     * still at its place, with a change time in [from, to], was not touched and is not compared.
     * n_inode 0: all are compared. */
    const uint64_t *inode;
    size_t n_inode;
    struct timespec from, to;
};

/* In the order of a tree's walk, a directory before what is in it. An entry replaced by one of
 * another type is modified. Only the topmost of what was deleted is told, and nothing of what was
 * in a directory that a file replaces. What vanishes during the walk (a mounted container) is left
 * out.
 */
int ld_diff_walk(const struct ld_diff *diff, ld_change_fn sink, void *arg,
                 struct ld_err *err) ld_must_check;
