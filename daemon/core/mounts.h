/* The mounted life of writable layers: build at the stage, show at once, unmount with a kept clone,
 * views for the daemon's own readers, the in-use probe.
 *
 * What is mounted is never stored: a table sid -> mount id is filled by one sweep of mountinfo at
 * start and by our own mounts, and each use checks it against the kernel. Every function blocks and
 * may run on any worker; calls for one sid are serialized in here, calls for different sids run in
 * parallel.
 *
 * Sources: Documentation/filesystems/overlayfs.rst ("Sharing and copying layers"),
 * mount_setattr(2), open_tree and move_mount of linux/mount.h. The measurements that force the
 * shape are in docs/DESIGN.md.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "daemon/base/err.h"
#include "drivers/driver.h"

struct ld_root;
struct ld_lanes;
struct ld_mounts;
struct ld_mountinfo;
struct ld_mount_target;

/* Something mounted inside the container's root. */
struct ld_mount_part {
    enum ld_part_type { LD_PART_VOLUME, LD_PART_BIND, LD_PART_TMPFS } type;
    const char *target;  /* absolute path in the container, resolved in its root */
    const char *source;  /* BIND: absolute path on the host; what is mounted below it stays out */
    ld_sid volume;       /* VOLUME: volumes/SID */
    const char *subpath; /* VOLUME, BIND: below the source, or NULL */
    bool read_only;
    uint64_t size; /* TMPFS: bytes, 0: the kernel's default */
    bool seed;     /* VOLUME: fill it with the image's content at the target if it is still empty */
};

/* A container's file system, as the mounts need to know it. Borrowed for the call. */
struct ld_rootfs {
    const char *id; /* the mount point is mnt/ID */
    const struct ld_driver *driver;
    const struct ld_driver_env *env; /* where its writable layer lies */
    bool is_backed;                  /* in a file system of its own: see backing.h */
    struct ld_writable writable;
    bool read_only;
    bool is_volatile;
    bool was_mounted; /* ever before: then the in-use probe comes first */
    const struct ld_mount_part *parts;
    size_t n_parts;
    const struct ld_mount_target *target; /* of an attach: where it is shown, too; NULL: nowhere */
};

enum ld_mount_state {
    LD_UNMOUNTED,
    LD_MOUNTED,
    LD_HELD, /* not mounted here, but held by somebody in another mount namespace */
};

struct ld_mounts *ld_mounts_new(const struct ld_root *root, const struct ld_driver_env *env,
                                struct ld_lanes *lanes);
/* Closes kept clones. Mounted containers stay mounted. */
void ld_mounts_free(struct ld_mounts *mounts);

/* Start: adopts what is mounted at mnt/ and is ours (source layerd:INSTANCE:SID, or a bind of
 * w/SID). */
int ld_mounts_sweep(struct ld_mounts *mounts, struct ld_err *err);

/* Start: a container whose unmount was cut off may be mounted without what was taken first. Mounts
 * that again, so that nobody writes below it. Others are left alone. */
int ld_mounts_complete(struct ld_mounts *mounts, const struct ld_rootfs *spec, struct ld_err *err);

/* Start: a mounted container is shown at its target again, where a kill has kept that from being
 * done or from being undone; of one that is not mounted nothing stays at its target. */
int ld_mounts_complete_target(struct ld_mounts *mounts, const struct ld_rootfs *spec,
                              struct ld_err *err);

/* Mounts at mnt/ID, and at the spec's target: there with all that is mounted in it, nodev and
 * nosuid unless the target is trusted. Success also when it is mounted already (*ret_was true),
 * wherever that is.
 * busy: held in another namespace; conflict: a target is missing in a read-only container, or is
 * not what the source is; not_found: a bind's source; those of ld_mount_target_open. After a
 * failure nothing is mounted. */
int ld_mounts_attach(struct ld_mounts *mounts, const struct ld_rootfs *spec, bool *ret_was,
                     struct ld_err *err);

/* Unmounts its target, then mnt/ID, and what is mounted in them; success also when it is not
 * mounted. Never waits for the disk unless `sync`. busy: somebody is in it (details.holders names
 * them); then all is as before. force: detached whatever holds it; *ret_held tells that somebody
 * still does. */
struct ld_unmount_flags {
    bool force, sync;
};
int ld_mounts_detach(struct ld_mounts *mounts, const struct ld_rootfs *spec,
                     struct ld_unmount_flags flags, bool *ret_was, bool *ret_held,
                     struct ld_err *err);

/* From the table, checked against the kernel; no I/O. HELD as the last probe saw it. */
enum ld_mount_state ld_mounts_state(struct ld_mounts *mounts, const char *id, ld_sid sid);
/* The device of its superblock while it is known to be alive: mounted, or held as the last probe
 * saw it. False: not known. For an overlay; other drivers' mounts share theirs with the data root.
 */
bool ld_mounts_device(struct ld_mounts *mounts, ld_sid sid, dev_t *ret);
/* Probes a container that was mounted once and is not now. */
enum ld_mount_state ld_mounts_probe(struct ld_mounts *mounts, const struct ld_rootfs *spec);

/* Makes sure that nothing of ours is alive on the layer, if nobody uses it: closes a kept clone
 * (which may wait for the disk), then probes. MOUNTED: it is mounted, or a view of it is open. As
 * long as the container's key is held, an UNMOUNTED layer stays so. */
enum ld_mount_state ld_mounts_settle(struct ld_mounts *mounts, const struct ld_rootfs *spec);

/* Nobody, in any namespace, can write to the layer until it is resumed, which each success must be
 * followed by. Success also when nothing of ours is alive on it. busy: somebody has something in it
 * open for writing (details.holders); then nothing has changed. Under the container's key; a start
 * after a kill resumes what was left. */
int ld_mounts_quiesce(struct ld_mounts *mounts, const struct ld_rootfs *spec, struct ld_err *err);
void ld_mounts_resume(struct ld_mounts *mounts, const struct ld_rootfs *spec);

/* A writable layer that was removed: closes a kept clone (which may wait for the disk) and forgets
 * it. False while a mount or a view of ours is still there. Others may hold it all the same: probe.
 */
bool ld_mounts_let_go(struct ld_mounts *mounts, ld_sid sid);

/* The root of what is shown at mnt/ID, O_PATH, or -errno. As long as it is open the mount is busy.
 */
int ld_mounts_open_place(struct ld_mounts *mounts, const char *id);

/* The target it is shown at, which the caller frees; NULL: none. Checked against the kernel. */
char *ld_mounts_target(struct ld_mounts *mounts, ld_sid sid);

/* The writable layer that a line of mountinfo shows the root of, wherever that is mounted; 0: none
 * of ours. Is it a root of ours at all? */
ld_sid ld_mounts_sid_of(const char *instance, const struct ld_mountinfo *line);
bool ld_mounts_is_ours(const char *instance, const struct ld_mountinfo *line);

/* How many containers are mounted, as the table says. */
size_t ld_mounts_count(struct ld_mounts *mounts);

/* A private clone (nodev, nosuid, noexec) of the container's tree for a reader in the daemon, also
 * when it is not mounted. with_parts: with volumes and binds, as somebody inside sees it. Returns
 * the root's descriptor in *ret_fd; ends with ld_view_close, which closes it. busy as for attach.
 */
struct ld_view {
    int fd;
    ld_sid sid;
};
int ld_mounts_view(struct ld_mounts *mounts, const struct ld_rootfs *spec, bool with_parts,
                   struct ld_view *ret, struct ld_err *err);
void ld_view_close(struct ld_mounts *mounts, const struct ld_rootfs *spec, struct ld_view *view);
