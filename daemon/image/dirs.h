/* A path of open directories below a root, so that going from one entry of an archive to the next
 * one opens only what differs. Every level is a real directory: nothing here follows a symlink.
 *
 * Blocking; one thread. Functions that can fail return -errno.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "daemon/base/cleanup.h"

enum {
    LD_MAX_NAME = 255,      /* bytes of one component */
    LD_MAX_TREE_DEPTH = 128 /* components of a path */
};

struct ld_dirs;

struct ld_dirs *ld_dirs_new(int root); /* borrowed */
void ld_dirs_free(struct ld_dirs *d);
void ld_dirs_free_p(struct ld_dirs **d);

size_t ld_dirs_depth(const struct ld_dirs *d);
/* The directory of a level, 0: the root. O_RDONLY, borrowed, open until the level is cut. */
int ld_dirs_fd(const struct ld_dirs *d, size_t level);
static inline int ld_dirs_top(const struct ld_dirs *d)
{
    return ld_dirs_fd(d, ld_dirs_depth(d));
}
/* "a/b", "" for the root; good until the next push or cut. */
const char *ld_dirs_path(const struct ld_dirs *d);
/* The name of a level above 0: *ret_len bytes, not terminated, good as the path is. */
const char *ld_dirs_name(const struct ld_dirs *d, size_t level, size_t *ret_len);

/* Is there a level below this one, and is that its name? */
bool ld_dirs_is_next(const struct ld_dirs *d, size_t level, const char *name, size_t len);

void ld_dirs_cut(struct ld_dirs *d, size_t level); /* leaves the levels below */
/* Enters a directory of the top: -ENOENT, -ENOTDIR (a symlink too), -ENAMETOOLONG for a name or a
 * depth over the limits. */
int ld_dirs_push(struct ld_dirs *d, const char *name, size_t len) ld_must_check;
