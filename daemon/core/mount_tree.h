/* A mount of ours with what is mounted in it: listed, taken away as a whole, put back as a whole.
 *
 * Children first, each through a descriptor of its parent directory: by a path below the container
 * a process in there could turn our umount2 into one of a mount of the host. At the first EBUSY
 * everything taken so far is put back. What is not ours is never unmounted, but named.
 *
 * Needs the entry's `work`; any worker.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "daemon/core/mounts.h"
#include "daemon/core/parts.h"

struct ld_mount_entry;

/* Where it is mounted. `dir` lies on the parent mount; `path` is as mountinfo has it. Borrowed. */
struct ld_spot {
    int dir;
    const char *name;
    const char *path;
    struct ld_part_ids *known; /* ids of our mounts in it, as far as they are remembered */
};

/* A mount inside it, in the order of the table: parents before children. */
struct ld_mount_child {
    int id, parent;    /* of mountinfo */
    uint64_t mount_id; /* of statx */
    char *path;        /* relative to the container's root, as the kernel says */
    bool is_ours;
    int clone; /* once unmounted: what is put back if need be */
};

struct ld_mount_tree {
    struct ld_mounts *m;
    struct ld_mount_entry *e;
    const struct ld_rootfs *spec;
    struct ld_spot spot;
    struct ld_mount_child *item;
    size_t n, cap;
    int top;    /* once unmounted: a clone */
    int top_id; /* of mountinfo */
};

void ld_mount_tree_init(struct ld_mount_tree *t, struct ld_mounts *m, struct ld_mount_entry *e,
                        const struct ld_rootfs *spec, const struct ld_spot *spot);
/* Closes the clones. */
void ld_mount_tree_done(struct ld_mount_tree *t);

/* What is mounted in it, asked of the kernel. -errno. */
int ld_mount_tree_list(struct ld_mount_tree *t);
/* Takes all of it away, last first; all or nothing. is_bare: probably nothing is mounted in it. */
int ld_mount_tree_take(struct ld_mount_tree *t, bool is_bare, struct ld_err *err);
/* What was taken is mounted again; a failure is logged. */
void ld_mount_tree_put_back(struct ld_mount_tree *t);
