/* Project quotas: see quota.h. A directory is a project, base + sid, which what is made in it
 * inherits. No state. */
#include <errno.h>
#include <fcntl.h>
#include <linux/dqblk_xfs.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/quota.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "daemon/base/fdio.h"
#include "daemon/base/quota_kind.h"

enum {
    PROJECTS = 2, /* the kernel's PRJQUOTA, which glibc does not name */
    /* Bases are multiples of 2^20 from 2^30 on, above what people and other daemons number by hand;
     * 2048 of them leave 2^30 sids to the last one. */
    BASE_SHIFT = 20,
    FIRST_BASE = 1 << 30,
    N_BASES = 2048,
};

/* By number, so that it needs no glibc that knows it. In the kernel since 5.14. */
static int quota_call(int fd, int command, uint32_t id, void *arg)
{
    return syscall(SYS_quotactl_fd, fd, QCMD(command, PROJECTS), id, arg) < 0 ? -errno : 0;
}

static uint32_t hash(const char *text)
{
    uint32_t h = 2166136261u; /* FNV-1a */

    for (; *text; text++)
        h = (h ^ (unsigned char)*text) * 16777619u;
    return h ^ h >> 16;
}

static int refuse(int dir, int why, struct ld_err *err)
{
    struct statfs fs = {.f_type = 0};

    (void)fstatfs(dir, &fs); /* then there is no hint */
    if (why < 0)
        (void)ld_err_set(err, LD_E_UNSUPPORTED,
                         "the data root's file system has no project quotas: %s",
                         strerrordesc_np(-why));
    else
        (void)ld_err_set(err, LD_E_UNSUPPORTED,
                         "the data root's file system does not enforce project quotas");
    switch ((unsigned)fs.f_type) {
    case EXT4_SUPER_MAGIC:
        return ld_err_hint(err, "unmounted: tune2fs -O quota,project -Q prjquota DEVICE; then "
                                "mount it with -o prjquota");
    case XFS_SUPER_MAGIC:
        return ld_err_hint(err, "mount it with -o prjquota (the root: rootflags=prjquota)");
    default:
        return ld_err_hint(err, "limits need the data root on ext4 or xfs, mounted with "
                                "-o prjquota, or on btrfs");
    }
}

static int probe(int dir, const char *instance, struct ld_quota *ret, struct ld_err *err)
{
    struct fs_quota_statv state = {.qs_version = FS_QSTATV_VERSION1};
    struct ld_quota quota = {.kind = &ld_quota_projects,
                             .base =
                                 (uint32_t)FIRST_BASE + (hash(instance) % N_BASES << BASE_SHIFT)};
    int r = quota_call(dir, Q_XGETQSTATV, 0, &state);

    if (r < 0 || !(state.qs_flags & FS_QUOTA_PDQ_ACCT) || !(state.qs_flags & FS_QUOTA_PDQ_ENFD))
        return refuse(dir, r, err);
    *ret = quota;
    return 0;
}

bool ld_quota_is_inherited(int dir)
{
    struct fsxattr attr;

    return ioctl(dir, FS_IOC_FSGETXATTR, &attr) == 0 && attr.fsx_xflags & FS_XFLAG_PROJINHERIT;
}

/* 0 or -errno. */
static int project_of(const struct ld_quota *quota, ld_sid sid, uint32_t *ret)
{
    if (sid >= UINT32_MAX - quota->base) /* the last id means none */
        return -EOVERFLOW;
    *ret = quota->base + (uint32_t)sid;
    return 0;
}

static int tag(int dir, uint32_t id)
{
    struct fsxattr attr;

    if (ioctl(dir, FS_IOC_FSGETXATTR, &attr) < 0)
        return -errno;
    attr.fsx_projid = id;
    attr.fsx_xflags |= FS_XFLAG_PROJINHERIT;
    return ioctl(dir, FS_IOC_FSSETXATTR, &attr) < 0 ? -errno : 0;
}

/* Limited or not: it can be later. */
static int make_dir(const struct ld_quota *quota, int parent, const char *name, mode_t mode,
                    ld_sid sid, bool is_limited)
{
    autoclose int dir = -EBADF;
    uint32_t id = 0;
    int r = project_of(quota, sid, &id);

    (void)is_limited;
    dir = r < 0 ? r : ld_make_dir(parent, name, mode);
    if (dir < 0)
        return ld_steal_fd(&dir);
    r = tag(dir, id);
    if (r == 0)
        return ld_steal_fd(&dir);
    (void)unlinkat(parent, name, AT_REMOVEDIR); /* empty, and the error is what counts */
    return r;
}

static int is_counted(const struct ld_quota *quota, int dir, ld_sid sid, bool *ret)
{
    struct fsxattr attr;
    uint32_t id = 0;
    int r = project_of(quota, sid, &id);

    if (r < 0)
        return r;
    if (ioctl(dir, FS_IOC_FSGETXATTR, &attr) < 0)
        return -errno;
    *ret = attr.fsx_projid == id && attr.fsx_xflags & FS_XFLAG_PROJINHERIT;
    return 0;
}

static int get(const struct ld_quota *quota, int dir, ld_sid sid, struct ld_limits *ret_limits,
               struct ld_limits *ret_used)
{
    struct if_dqblk block = {.dqb_valid = 0};
    uint32_t id = 0;
    int r = project_of(quota, sid, &id);

    if (r == 0)
        r = quota_call(dir, Q_GETQUOTA, id, &block);
    if (r < 0 && r != -ENOENT) /* xfs: nothing was ever counted or limited */
        return r;
    if (ret_limits)
        *ret_limits = (struct ld_limits){.bytes = block.dqb_bhardlimit * 1024,
                                         .inodes = block.dqb_ihardlimit};
    if (ret_used)
        *ret_used = (struct ld_limits){.bytes = block.dqb_curspace, .inodes = block.dqb_curinodes};
    return 0;
}

static int set(const struct ld_quota *quota, int dir, ld_sid sid, const struct ld_limits *limits)
{
    struct if_dqblk block = {.dqb_valid = QIF_LIMITS, .dqb_ihardlimit = limits->inodes};
    struct ld_limits now = {.bytes = 0};
    uint32_t id = 0;
    int r = project_of(quota, sid, &id);

    if (r == 0)
        r = get(quota, dir, sid, &now, NULL);
    block.dqb_bhardlimit = limits->bytes / 1024 + (limits->bytes % 1024 != 0);
    if (r < 0 || (now.bytes / 1024 == block.dqb_bhardlimit && now.inodes == limits->inodes))
        return r; /* a set is a write to the disk */
    return quota_call(dir, Q_SETQUOTA, id, &block);
}

static int forget(const struct ld_quota *quota, int dir, ld_sid sid)
{
    return set(quota, dir, sid, &(struct ld_limits){.bytes = 0});
}

const struct ld_quota_kind ld_quota_projects = {
    .probe = probe,
    .counts_inodes = true,
    .counts_blocks = true,
    .make_dir = make_dir,
    .is_counted = is_counted,
    .set = set,
    .get = get,
    .forget = forget,
};
