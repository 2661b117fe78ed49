/* Nodes of a tree into a tar: attributes, xattrs, content, hard links found by inode.
 *
 * One thread; blocks in the sink. Memory grows with the number of multi-linked inodes met (bounded
 * by LD_TAR_MAX_ENTRIES, then unavailable).
 */
#pragma once

#include <stdbool.h>

#include "daemon/base/err.h"
#include "daemon/base/tree.h"

struct ld_sink;
struct ld_tarout;

struct ld_tarout *ld_tarout_new(struct ld_sink *sink, const bool *cancel); /* both borrowed */
/* The same for a tree that is a layer: its recipe is told (borrowed; the caller finishes it). */
struct ld_recipe;
struct ld_tarout *ld_tarout_new_recorded(struct ld_sink *sink, struct ld_recipe *recipe,
                                         const bool *cancel);
void ld_tarout_free_p(struct ld_tarout **out);

/* Writes the node under this name ("" : the root, "./"). The second name of an inode becomes a hard
 * link to the first. A socket, which tar can't say, is left out; a file that vanished is too. */
int ld_tarout_node(struct ld_tarout *out, const struct ld_node *node, const char *name,
                   struct ld_err *err);
/* An OCI whiteout for the path ("a/b" becomes "a/.wh.b"). */
int ld_tarout_whiteout(struct ld_tarout *out, const char *path, struct ld_err *err);
/* Another name of an inode that was written already (false: it was not). */
int ld_tarout_link(struct ld_tarout *out, const struct stat *st, const char *name, bool *ret_done,
                   struct ld_err *err);
int ld_tarout_finish(struct ld_tarout *out, struct ld_err *err);

/* All of it at once: a whole merged tree as a finished tar. */
struct ld_layers;
int ld_tarout_tree(const struct ld_layers *layers, struct ld_sink *sink, const bool *cancel,
                   struct ld_err *err);
