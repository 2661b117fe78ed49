/* What the files of the mounts module share: mounts.c (table, attach), mounts_target.c, unmount.c,
 * mount_tree.c, view.c, quiesce.c.
 *
 * One entry per writable layer that is mounted, kept, viewed or held. entry->work serializes the
 * system calls for that layer and is held across them: it belongs to one object and no callback
 * runs under it. mounts->lock guards the table and the fields that others may read; it is never
 * held across a call that can block.
 *
 * Invariant: while a superblock of the layer is alive through us, exactly one of these gives it
 * again: the mount at mnt/ID (mount_id), the mount at stage/SID (is_staged), the kept clone (kept).
 * So a second superblock on one upper directory, which would corrupt it, is never made.
 */
#pragma once

#include <pthread.h>
#include <stdbool.h>

#include "daemon/base/table.h"
#include "daemon/core/mount_tree.h"
#include "daemon/core/mounts.h"
#include "daemon/core/parts.h"
#include "daemon/core/root.h"
#include "daemon/jobs/lane.h"

enum { LD_MAX_KEPT = 64 }; /* clones waiting for their close; more: the unmount closes itself */

struct ld_mount_entry {
    ld_sid sid;
    unsigned refs; /* of calls in work and of pending closes; under lock */
    pthread_mutex_t work;

    uint64_t mount_id; /* at mnt/ID, or 0; under lock */
    bool is_held;      /* as the last probe saw it; under lock */
    char id[65];
    dev_t dev; /* of the superblock that was shown last; under lock */

    char *target;          /* a container's second place, or NULL; under lock */
    uint64_t target_mount; /* at it; under lock */
    struct ld_part_ids target_parts;

    struct ld_part_ids parts; /* mounts of ours inside it; under work, as all below */
    int kept;
    unsigned views; /* and whoever keeps it still */
    bool is_staged; /* stage/SID is mounted for views */
    bool has_staged_parts;

    UT_hash_handle hh;
};

struct ld_mounts {
    const struct ld_root *root;
    const struct ld_driver_env *env;
    struct ld_lanes *lanes;
    pthread_mutex_t lock;
    struct ld_mount_entry *entries;
    unsigned kept; /* clones waiting for their close; under lock */
};

/* The entry of a sid, made when missing, with a reference and `work` locked; and back. */
struct ld_mount_entry *ld_mounts_enter(struct ld_mounts *m, ld_sid sid);
void ld_mounts_leave(struct ld_mounts *m, struct ld_mount_entry *e);

/* The parts below need e->work. */

/* Is mnt/ID what the table says? Forgets the mount when it is not. */
bool ld_entry_is_attached(struct ld_mounts *m, struct ld_mount_entry *e);
void ld_entry_set(struct ld_mounts *m, struct ld_mount_entry *e, uint64_t mount_id, bool is_held);

/* Asks the driver unless something of ours is alive; remembers the answer. */
bool ld_entry_probe(struct ld_mounts *m, struct ld_mount_entry *e, const struct ld_rootfs *spec);

/* Mounts the layer at stage/NAME, an empty directory: from the kept clone or anew. */
int ld_entry_mount_at_stage(struct ld_mounts *m, struct ld_mount_entry *e,
                            const struct ld_rootfs *spec, const char *name, struct ld_err *err);

/* busy, with who has something of `place` (O_PATH; or -errno: of the whole mount) in use. -1. */
int ld_entry_busy(const struct ld_mounts *m, const struct ld_rootfs *spec, int place,
                  struct ld_err *err);

/* Takes k, a clone of a mount just unmounted: kept until the close lane comes to it. */
void ld_entry_keep(struct ld_mounts *m, struct ld_mount_entry *e, int k,
                   const struct ld_rootfs *spec, bool sync);
/* Closes the kept clone now, which may wait for the disk. */
void ld_entry_close_kept(struct ld_mount_entry *e);

/* One of e->views less: the last one's stage becomes the kept clone, which then may be closed. */
void ld_entry_end_view(struct ld_mounts *m, struct ld_mount_entry *e, const struct ld_rootfs *spec);

/* Unmounts mnt/ID with everything in it that is ours, last first; all or nothing. *ret_k: a
 * clone. */
int ld_unmount_tree(struct ld_mounts *m, struct ld_mount_entry *e, const struct ld_rootfs *spec,
                    int *ret_k, struct ld_err *err);

/* ---- the target: mounts_target.c ---- */

/* Shows a clone of dir/name, which is built whole, at spec->target, and writes that down first. */
int ld_entry_show_target(struct ld_mounts *m, struct ld_mount_entry *e,
                         const struct ld_rootfs *spec, int dir, const char *name,
                         struct ld_err *err);
/* Is it mounted at e->target? Forgets a target at which it is not. */
bool ld_entry_is_at_target(struct ld_mounts *m, struct ld_mount_entry *e);
/* Detaches it there, whatever holds it, and forgets it. */
int ld_entry_drop_target(struct ld_mounts *m, struct ld_mount_entry *e,
                         const struct ld_rootfs *spec, struct ld_err *err);

/* Takes it away there, if it is there, all or nothing; put back, or forgotten with what was taken
 * closed before. busy: as for an unmount. */
struct ld_taken_target {
    struct ld_mount_tree tree;
    int parent;
    char *path;
    bool is_taken;
};
#define LD_TAKEN_TARGET_INIT                                                                       \
    {                                                                                              \
        .parent = -EBADF, .tree = {.top = -EBADF }                                                 \
    }
int ld_entry_take_target(struct ld_mounts *m, struct ld_mount_entry *e,
                         const struct ld_rootfs *spec, struct ld_taken_target *ret,
                         struct ld_err *err);
void ld_entry_put_target_back(struct ld_mounts *m, struct ld_mount_entry *e,
                              struct ld_taken_target *taken);
void ld_entry_forget_target(struct ld_mounts *m, struct ld_mount_entry *e,
                            const struct ld_rootfs *spec);
void ld_taken_target_done(struct ld_taken_target *taken);
