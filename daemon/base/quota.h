/* Limits that the file system itself enforces on a directory and all that is made in it: project
 * quotas (ext4, xfs, f2fs: quota_project.c), or subvolumes with quota groups (btrfs:
 * quota_btrfs.c).
 *
 * Counted is a directory that was made so; what is made in it is counted with it. A rename or link
 * of something else into it is EXDEV. Out of a project a rename is possible, and what moves keeps
 * its project; out of a subvolume it is EXDEV, too: its directory lies apart, which shows by its
 * device. The directory itself can be renamed anywhere on the file system.
 *
 * What gets around the limits. Projects: CAP_SYS_RESOURCE on ext4, for who writes to it directly
 * (overlayfs drops that itself); and in the initial user namespace the owner of a file, or
 * CAP_FOWNER, can take it out of its project (FS_IOC_FSSETXATTR). Subvolumes: who owns a directory
 * can make a subvolume in it (BTRFS_IOC_SUBVOL_CREATE; not through overlayfs), which is counted
 * apart. A runtime has to keep these from whom it does not trust.
 *
 * Blocking; any thread. Sources: quotactl(2), ioctl_fsgetxattr(2), Documentation/filesystems/
 * quota.rst, linux/btrfs.h, fs/btrfs/qgroup.c.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "daemon/base/err.h"
#include "daemon/base/fdio.h"
#include "daemon/base/sid.h"

struct ld_limits {
    uint64_t bytes, inodes; /* 0: none. Projects: bytes are rounded up to KiB */
};

struct ld_quota_kind;
struct ld_quota_stale;

/* How things are counted on a file system. */
struct ld_quota {
    const struct ld_quota_kind *kind; /* NULL: nothing can be limited */
    /* Projects: which are ours, base + sid. Another store on the same file system has another base,
     * as it has another instance name. */
    uint32_t base;
    struct ld_quota_stale *stale; /* subvolumes: what sweep is to do; shared by copies of this */
};

static inline bool ld_quota_is_on(const struct ld_quota *quota)
{
    return quota->kind != NULL;
}

/* Is it enforced where `dir` lies? By the state of the quotas: xfs takes project ids without. -1:
 * the message says why not, the hint what would help. */
int ld_quota_probe(int dir, const char *instance, struct ld_quota *ret, struct ld_err *err);
void ld_quota_done(struct ld_quota *quota);

/* Does what is made in `dir`, or renamed into it, belong to a project of somebody's? */
bool ld_quota_is_inherited(int dir);

/* unsupported: limits of a sort that is not counted here (with subvolumes: inodes). */
int ld_quota_check(const struct ld_quota *quota, const struct ld_limits *limits,
                   struct ld_err *err) ld_must_check;

/* The directory parent/name, empty, as the one of `sid`; the descriptor or -errno. With projects it
 * is always counted. A subvolume costs the renames out of it, so it is one only if `is_limited`.
 * Works with any quota, also one that limits nothing: then it is not counted. EOVERFLOW: the sid is
 * beyond all project ids. */
int ld_quota_make_dir(const struct ld_quota *quota, int parent, const char *name, mode_t mode,
                      ld_sid sid, bool is_limited) ld_must_check;
/* The same for what is to take the place of `model`, counted and limited as that is. */
int ld_quota_make_like(const struct ld_quota *quota, int parent, const char *name, mode_t mode,
                       ld_sid sid, int model) ld_must_check;

/* All below take what make_dir has made, opened for reading (not O_PATH), and return 0 or -errno;
 * EOPNOTSUPP: the quota limits nothing, or `dir` is not counted. */

/* Is it the counted directory of `sid`? */
int ld_quota_is_counted(const struct ld_quota *quota, int dir, ld_sid sid, bool *ret);
/* Its limits; none lifts them. Below what is used already, nothing more is written. */
int ld_quota_set(const struct ld_quota *quota, int dir, ld_sid sid, const struct ld_limits *limits);
/* Either may be NULL. `ret_used` counts the directory itself; what was reflinked to subvolumes
 * since the last commit may be missing: see settle. */
int ld_quota_get(const struct ld_quota *quota, int dir, ld_sid sid, struct ld_limits *ret_limits,
                 struct ld_limits *ret_used);
/* What ld_tree_usage says of parent/name, which make_dir has made as that of `sid`. No walk where
 * it is counted by projects: those count blocks and inodes as stat has them. What was deleted and
 * is still open, they do count. */
int ld_quota_usage(const struct ld_quota *quota, int parent, const char *name, ld_sid sid,
                   const bool *cancel, struct ld_usage *ret) ld_must_check;
/* All that was written is counted from now on; may wait for the disk. */
int ld_quota_settle(const struct ld_quota *quota, int dir);

/* ld_remove_tree of something that may be counted. Then, of what was deleted, on any directory of
 * the file system: what the kernel still knows of it goes. */
int ld_quota_remove_tree(const struct ld_quota *quota, int parent, const char *name,
                         const bool *cancel) ld_must_check;
int ld_quota_forget(const struct ld_quota *quota, int dir, ld_sid sid);
/* The same for what the kernel was not ready to let go of; to be called now and then. The first
 * call looks for all that a process before this one has left. */
void ld_quota_sweep(const struct ld_quota *quota, int dir);
