/* Images mounted without a container: a read-only view of their layers, at mnt/image-HEX and, where
 * that is asked for, at a target. Nothing is stored: the kernel says what is mounted, and the
 * target is a symlink as a container's is (target.h). An image that is mounted is not removed.
 * Threads: see core.h. */
#pragma once

#include <stdbool.h>

#include "daemon/base/err.h"

struct ld_core;
struct ld_image;
struct ld_mount_target;
struct ld_write;

/* Where it is mounted, which the caller frees; NULL: nowhere. Any thread. */
char *ld_image_mountpoint(const struct ld_core *core, const char *image_id);
/* The target it is shown at, likewise. */
char *ld_image_target(const struct ld_core *core, const char *image_id);

/* Workers, under the image's key. Success also when it is mounted already. Codes: conflict (it has
 * another target, or no layers), corrupt (a layer is damaged), unsupported (no driver can), those
 * of ld_mount_target_open. target: NULL: no matter. */
int ld_image_mount(struct ld_core *core, const struct ld_write *w, const char *image_id,
                   const struct ld_mount_target *target, struct ld_err *err);
/* Success also when it is not mounted. busy: somebody is in it (details.holders); then all is as
 * before. force: detached whatever holds it. */
int ld_image_unmount(struct ld_core *core, const struct ld_write *w, const char *image_id,
                     bool force, struct ld_err *err);

/* Start: shows mounted images at their targets again, and takes what is not mounted away there. */
void ld_image_mounts_recover(struct ld_core *core);
