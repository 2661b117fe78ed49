/* Limits that the file system itself enforces on a directory and all that is made in it: project
 * quotas (ext4, xfs, f2fs).
 *
 * A directory is tagged while it is empty: what is made in it inherits the project, and only then
 * is it counted. A rename or link of something else into a tagged directory is EXDEV; out of one it
 * is not, and what moves keeps its project.
 *
 * Limits are held by the kernel for everybody but a process with CAP_SYS_RESOURCE that writes to
 * ext4 directly; overlayfs drops that capability itself. And in the initial user namespace the
 * owner of a file, or CAP_FOWNER, can take it out of its project (FS_IOC_FSSETXATTR). Blocking; any
 * thread. Sources: quotactl(2), ioctl_fsgetxattr(2), Documentation/filesystems/quota.rst.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "daemon/base/err.h"
#include "daemon/base/sid.h"

struct ld_limits {
    uint64_t bytes, inodes; /* 0: none. Bytes are rounded up to what the kernel counts in: KiB */
};

/* Which projects of a file system are ours: base + sid. Another store on the same file system has
 * another base, as it has another instance name. */
struct ld_quota {
    uint32_t base; /* 0: nothing can be limited */
};

/* Is it enforced where `dir` lies? By the state of the quotas: xfs takes project ids without. -1:
 * the message says why not, the hint what would help. */
int ld_quota_probe(int dir, const char *instance, struct ld_quota *ret, struct ld_err *err);

/* Does what is made in `dir`, or renamed into it, belong to a project of somebody's? */
bool ld_quota_is_inherited(int dir);

/* All below take a directory opened for reading (not O_PATH) on the file system, and return 0 or
 * -errno. A quota that limits nothing: tag does nothing, the others are EOPNOTSUPP. EOVERFLOW: the
 * sid is beyond all project ids. */

/* `dir`, empty, becomes the project of `sid`. */
int ld_quota_tag(const struct ld_quota *quota, int dir, ld_sid sid);
/* `dir`, empty, is about to take the place of `model`: it is tagged like that. Any file system. */
int ld_quota_tag_like(int dir, int model);
/* Was it tagged so? */
int ld_quota_is_tagged(const struct ld_quota *quota, int dir, ld_sid sid, bool *ret);
/* The limits of the project; none lifts them. Below what is used already, nothing more is written.
 */
int ld_quota_set(const struct ld_quota *quota, int dir, ld_sid sid, const struct ld_limits *limits);
/* Either may be NULL. `ret_used` counts the tagged directory itself. */
int ld_quota_get(const struct ld_quota *quota, int dir, ld_sid sid, struct ld_limits *ret_limits,
                 struct ld_limits *ret_used);
