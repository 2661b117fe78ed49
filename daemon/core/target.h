/* Places of a caller's choice: where something of ours is shown besides its own mount point.
 *
 * Whoever can move or replace a folder on the way to a target would decide over what a mount of
 * ours hides, so every folder above it belongs to root and nobody else may write to it; no symlink
 * is followed, and nothing of ours lies above, at or below it. What was checked is a descriptor,
 * and that is what is mounted on.
 *
 * A target is written down as a symlink RUN/targets/NAME before anything is mounted there: it has
 * to be found again after a kill, and mountinfo alone can't tell our mount from somebody's own bind
 * of the same file system. It lives as long as mounts do, not longer: hence not in the database.
 *
 * Blocking; any worker.
 */
#pragma once

#include <stdbool.h>

#include "daemon/base/err.h"

struct ld_root;

struct ld_mount_target {
    const char *path; /* absolute, without "//", "." and "..", not "/" */
    bool is_trusted;  /* set-id bits and device nodes work there */
};

/* The words of a path: invalid, before anything is looked at. */
int ld_mount_target_check(const char *path, struct ld_err *err);

/* The folder a path names, O_PATH, by the rules above. Codes: invalid, not_found, conflict (no
 * folder, or something is mounted there), forbidden (the rules). */
int ld_mount_target_open(const struct ld_root *root, const char *instance, const char *path,
                         int *ret_fd, struct ld_err *err);
/* The folder that holds it, O_PATH, no symlink followed, and the name in there (borrowed from
 * path). Or -errno. */
int ld_mount_target_open_parent(const char *path, const char **ret_name);

int ld_mount_target_record(const struct ld_root *root, const char *name,
                           const struct ld_mount_target *target, struct ld_err *err);
/* False: none, *ret untouched. ret->path is the caller's. */
bool ld_mount_target_recorded(const struct ld_root *root, const char *name,
                              struct ld_mount_target *ret);
void ld_mount_target_forget(const struct ld_root *root, const char *name);
