/* What is mounted inside a container's root: volumes, binds of the host, tmpfs.
 *
 * Works on a root at the private stage, where nobody else can be, so that resolving a target and
 * mounting on it is no race (where somebody may be, what is mounted on is a descriptor in the root
 * all the same). Blocking; any worker.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "daemon/core/mounts.h"

struct ld_root;

/* The ids of the mounts made, in mount order. */
struct ld_part_ids {
    uint64_t *id;
    size_t n, cap;
};
void ld_part_ids_done(struct ld_part_ids *ids);

/* Mounts all parts of the spec on the container root `top` (O_PATH), in the order of their targets'
 * depth, so that a nested one comes later. Missing targets are made, except in a read-only
 * container (conflict). A failure leaves some of them mounted: the caller drops the whole stage. */
int ld_parts_mount(const struct ld_root *root, const struct ld_rootfs *spec,
                   const struct ld_driver_env *env, int top, struct ld_part_ids *ids,
                   struct ld_err *err);

/* A mounted container that may lack some of them, whoever is in it: mounts those at whose targets
 * nothing is mounted. */
int ld_parts_mount_missing(const struct ld_root *root, const struct ld_rootfs *spec,
                           const struct ld_driver_env *env, int top, struct ld_err *err);
/* Is something mounted at every part's target? */
bool ld_parts_are_mounted(const struct ld_rootfs *spec, int top);

/* Which of the parts a mount is that mountinfo has below the container, NULL: none. By device and
 * root for volumes and binds, by its source for a tmpfs. */
struct ld_mountinfo;
const struct ld_mount_part *ld_part_of_mount(const struct ld_root *root,
                                             const struct ld_rootfs *spec, const char *instance,
                                             const struct ld_mountinfo *line);
/* O_PATH of what a volume or bind mounts. not_found: it is not there. */
int ld_part_open_source(const struct ld_root *root, const struct ld_mount_part *part,
                        struct ld_err *err);

/* What mountinfo says of a bind of what `fd` shows: path in its file system and device of that,
 * found by asking where its own mount lies. False: it can't be told. */
struct ld_bind_root {
    char *path; /* owned; "/" for the root */
    unsigned major, minor;
};
bool ld_bind_root_of(int fd, struct ld_bind_root *ret);
