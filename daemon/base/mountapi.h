/* The mount system calls as this project uses them: thin, by descriptors, -errno.
 *
 * Blocking; any thread. Sources: open_tree(2), move_mount(2), mount_setattr(2) as in linux/mount.h,
 * proc_pid_mountinfo(5).
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "daemon/base/cleanup.h"

enum ld_clone_flags {
    LD_CLONE_RECURSIVE = 1 << 0,
    LD_CLONE_RDONLY = 1 << 1,
    LD_CLONE_GUARDED = 1 << 2, /* nodev, nosuid, noexec */
    LD_CLONE_NODEV_NOSUID = 1 << 3,
};

/* A detached clone of the mount at dir/path ("" : dir itself, which may be O_PATH), private at
 * once: a clone of a shared mount is its peer, and what is mounted into the one would appear in the
 * other. A symlink at the end is not followed. Closing the descriptor ends the clone unless it was
 * attached. */
int ld_mount_clone(int dir, const char *path, unsigned flags) ld_must_check;

/* Attaches a detached tree on the place an O_PATH descriptor names. */
int ld_mount_put(int tree, int place) ld_must_check;
/* The same by name, and from a place where it is attached now. The source's parent is private. */
int ld_mount_put_at(int tree, int dir, const char *name) ld_must_check;
int ld_mount_move(int from_dir, const char *from, int to_dir, const char *to) ld_must_check;

int ld_mount_set_rdonly(int mount_fd, bool on) ld_must_check;

/* The same for the whole file system that `fd` (O_PATH) is the root of a mount of: it holds for all
 * its mounts in all namespaces. -EBUSY: something is open for writing. */
int ld_mount_set_sb_rdonly(int fd, bool on) ld_must_check;

/* A tmpfs, detached, nodev and nosuid. */
struct ld_tmpfs {
    const char *source; /* what mountinfo shows */
    uint64_t size;      /* bytes, rounded up to pages; 0: the kernel's default */
    uint64_t inodes;    /* its root counted; each further name of a file is one, too. 0: likewise */
    mode_t mode;        /* of its root */
};
int ld_mount_tmpfs(const struct ld_tmpfs *tmpfs) ld_must_check;
/* Size and inodes of the one that `fd` is the root of a mount of, wherever it is in use. -EINVAL:
 * it holds more, or was made without that limit. */
int ld_mount_tmpfs_change(int fd, const struct ld_tmpfs *tmpfs) ld_must_check;

/* umount2 of the mount on dir/name, where dir lies on the parent mount: never by a path below a
 * container, which a process in there can turn into a mount of the host. detach: MNT_DETACH. */
int ld_umount_at(int dir, const char *name, bool detach) ld_must_check;

/* The id of the mount dir/name shows (a mount root or not; "" : dir itself); STATX_MNT_ID_UNIQUE
 * where the kernel has it, so never reused there. *ret_is_root: name is that mount's root. NULL:
 * not asked. */
int ld_mount_id(int dir, const char *name, uint64_t *ret, bool *ret_is_root) ld_must_check;

/* One line of a mountinfo, unescaped. Valid during the callback. */
struct ld_mountinfo {
    int id, parent; /* the small ids of this table, not those of ld_mount_id */
    unsigned major, minor;
    const char *root, *mountpoint, *fstype, *source, *super_options;
};

/* A result other than 0 ends the walk and is returned. */
typedef int (*ld_mountinfo_fn)(void *arg, const struct ld_mountinfo *line);
int ld_mountinfo_each(ld_mountinfo_fn fn, void *arg) ld_must_check;
/* The same of another process: proc_pid is the directory /proc/PID. */
int ld_mountinfo_each_of(int proc_pid, ld_mountinfo_fn fn, void *arg) ld_must_check;
