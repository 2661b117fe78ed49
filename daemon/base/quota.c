/* Which way of counting a file system has, and the calls to it: see quota.h. No state. */
#include "daemon/base/quota.h"

#include <errno.h>
#include <linux/magic.h>
#include <sys/vfs.h>

#include "daemon/base/fdio.h"
#include "daemon/base/quota_kind.h"

int ld_quota_probe(int dir, const char *instance, struct ld_quota *ret, struct ld_err *err)
{
    struct statfs fs = {.f_type = 0};

    if (fstatfs(dir, &fs) < 0)
        return ld_err_sys(err, -errno, "look at the data root's file system");
    return (unsigned)fs.f_type == BTRFS_SUPER_MAGIC
               ? ld_quota_subvolumes.probe(dir, instance, ret, err)
               : ld_quota_projects.probe(dir, instance, ret, err);
}

void ld_quota_done(struct ld_quota *quota)
{
    if (quota->kind && quota->kind->done)
        quota->kind->done(quota);
    *quota = (struct ld_quota){.kind = NULL};
}

int ld_quota_check(const struct ld_quota *quota, const struct ld_limits *limits, struct ld_err *err)
{
    if (!quota->kind || limits->inodes == 0 || quota->kind->counts_inodes)
        return 0;
    (void)ld_err_set(err, LD_E_UNSUPPORTED, "the data root's file system counts no inodes");
    return ld_err_hint(err, "limit its size: btrfs takes the space of small files and of metadata "
                            "from that, too");
}

int ld_quota_make_dir(const struct ld_quota *quota, int parent, const char *name, mode_t mode,
                      ld_sid sid, bool is_limited)
{
    return quota->kind ? quota->kind->make_dir(quota, parent, name, mode, sid, is_limited)
                       : ld_make_dir(parent, name, mode);
}

int ld_quota_make_like(const struct ld_quota *quota, int parent, const char *name, mode_t mode,
                       ld_sid sid, int model)
{
    struct ld_limits limits = {.bytes = 0};
    autoclose int dir = -EBADF;
    bool is_counted = false;
    int r = quota->kind ? ld_quota_is_counted(quota, model, sid, &is_counted) : 0;

    if (r == 0 && is_counted)
        r = ld_quota_get(quota, model, sid, &limits, NULL);
    if (r < 0)
        return r;
    dir = ld_quota_make_dir(quota, parent, name, mode, sid, is_counted);
    if (dir >= 0 && is_counted)
        r = ld_quota_set(quota, dir, sid, &limits);
    if (r == 0)
        return ld_steal_fd(&dir);
    (void)!ld_quota_remove_tree(quota, parent, name, NULL); /* the caller has an error already */
    return r;
}

int ld_quota_is_counted(const struct ld_quota *quota, int dir, ld_sid sid, bool *ret)
{
    return quota->kind ? quota->kind->is_counted(quota, dir, sid, ret) : -EOPNOTSUPP;
}

int ld_quota_set(const struct ld_quota *quota, int dir, ld_sid sid, const struct ld_limits *limits)
{
    return quota->kind ? quota->kind->set(quota, dir, sid, limits) : -EOPNOTSUPP;
}

int ld_quota_get(const struct ld_quota *quota, int dir, ld_sid sid, struct ld_limits *ret_limits,
                 struct ld_limits *ret_used)
{
    return quota->kind ? quota->kind->get(quota, dir, sid, ret_limits, ret_used) : -EOPNOTSUPP;
}

int ld_quota_usage(const struct ld_quota *quota, int parent, const char *name, ld_sid sid,
                   const bool *cancel, struct ld_usage *ret)
{
    autoclose int dir =
        quota->kind && quota->kind->counts_blocks ? ld_open_dir(parent, name) : -EBADF;
    struct ld_limits used;
    bool is_counted = false;

    /* Whatever is against the short way, the walk tells. */
    if (dir < 0 || ld_quota_is_counted(quota, dir, sid, &is_counted) < 0 || !is_counted ||
        ld_quota_get(quota, dir, sid, NULL, &used) < 0)
        return ld_tree_usage(parent, name, cancel, ret);
    *ret = (struct ld_usage){.bytes = used.bytes, .inodes = used.inodes};
    return 0;
}

int ld_quota_settle(const struct ld_quota *quota, int dir)
{
    return quota->kind && quota->kind->settle ? quota->kind->settle(dir) : 0;
}

int ld_quota_remove_tree(const struct ld_quota *quota, int parent, const char *name,
                         const bool *cancel)
{
    return quota->kind && quota->kind->remove_tree
               ? quota->kind->remove_tree(quota, parent, name, cancel)
               : ld_remove_tree(parent, name, cancel);
}

int ld_quota_forget(const struct ld_quota *quota, int dir, ld_sid sid)
{
    return quota->kind && quota->kind->forget ? quota->kind->forget(quota, dir, sid) : 0;
}

void ld_quota_sweep(const struct ld_quota *quota, int dir)
{
    if (quota->kind && quota->kind->sweep)
        quota->kind->sweep(quota, dir);
}
