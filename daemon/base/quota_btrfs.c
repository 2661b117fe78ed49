/* Quota groups of subvolumes: see quota.h. A counted directory is a subvolume, which btrfs gives a
 * group of its own (0/ID); its limit is on what it refers to, metadata and shared extents included.
 *
 * Two accountings, both limit. The full one counts what a subvolume refers to, whoever else does.
 * Simple quotas (since 6.7, nearly free) count an extent with the subvolume that has written it,
 * until nobody refers to it: what a snapshot keeps of a container still counts against that.
 *
 * What the groups hold is read from sysfs: live, with what is reserved for writes that are not on
 * the disk yet, where the quota tree says what the last commit did. A group outlives its subvolume:
 * newer kernels drop it with the cleaner, 6.1 never does, and none lets it go (EBUSY) before the
 * cleaner, which comes every 30 s, has been there. So what was deleted here is kept in a list that
 * each sweep tries; a process's first one looks for groups without a subvolume on the whole file
 * system, which are of no use to anybody (`btrfs qgroup clear-stale`).
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/btrfs.h>
#include <linux/btrfs_tree.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/base/fdio.h"
#include "daemon/base/log.h"
#include "daemon/base/mem.h"
#include "daemon/base/parse.h"
#include "daemon/base/quota_kind.h"

struct ids {
    uint64_t *id;
    size_t n, cap;
};

struct ld_quota_stale {
    pthread_mutex_t lock;
    struct ids deleted; /* subvolumes whose groups may still be there */
    bool has_looked;
};

/* ---- what the kernel shows ---- */

/* /sys/fs/btrfs/UUID of the file system. */
static int open_sysfs(int dir)
{
    static const unsigned char dash_before[] = {4, 6, 8, 10};
    struct btrfs_ioctl_fs_info_args info = {.flags = 0};
    char path[64] = "/sys/fs/btrfs/";
    size_t at = strlen(path), dash = 0;
    int fd;

    if (ioctl(dir, BTRFS_IOC_FS_INFO, &info) < 0)
        return -errno;
    for (size_t i = 0; i < sizeof(info.fsid); i++) {
        if (dash < sizeof(dash_before) && i == dash_before[dash]) {
            path[at++] = '-';
            dash++;
        }
        at += (size_t)snprintf(path + at, sizeof(path) - at, "%02x", info.fsid[i]); /* it fits */
    }
    fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

/* ENOTCONN, as the ioctls say it: the quotas are off. */
static int open_groups(int dir)
{
    autoclose int sysfs = open_sysfs(dir);
    int fd = sysfs < 0 ? sysfs : ld_open_dir(sysfs, "qgroups");

    return sysfs >= 0 && fd == -ENOENT ? -ENOTCONN : fd;
}

static int read_number(int dir, const char *name, uint64_t *ret)
{
    autoclose int fd = openat(dir, name, O_RDONLY | O_CLOEXEC);
    char text[32];
    ssize_t len;

    if (fd < 0)
        return -errno;
    len = ld_read_some(fd, text, sizeof(text) - 1);
    if (len < 0)
        return (int)len;
    text[len] = '\0';
    text[strcspn(text, "\n")] = '\0';
    return ld_parse_u64(text, 0, UINT64_MAX, ret);
}

/* The subvolume whose root `dir` is. */
static int subvolume_of(int dir, uint64_t *ret)
{
    struct btrfs_ioctl_ino_lookup_args lookup = {.objectid = BTRFS_FIRST_FREE_OBJECTID};
    struct stat st;

    if (fstat(dir, &st) < 0)
        return -errno;
    if (st.st_ino != BTRFS_FIRST_FREE_OBJECTID)
        return -EOPNOTSUPP;
    if (ioctl(dir, BTRFS_IOC_INO_LOOKUP, &lookup) < 0)
        return -errno;
    *ret = lookup.treeid;
    return 0;
}

static bool is_subvolume(int dir, uint64_t id)
{
    struct btrfs_ioctl_ino_lookup_args lookup = {.treeid = id,
                                                 .objectid = BTRFS_FIRST_FREE_OBJECTID};

    return ioctl(dir, BTRFS_IOC_INO_LOOKUP, &lookup) == 0 || errno != ENOENT;
}

/* ---- is it there? ---- */

static int refuse(int dir, int why, struct ld_err *err)
{
    bool is_simple = access("/sys/fs/btrfs/features/simple_quota", F_OK) == 0;
    char path[4096];
    ssize_t len = readlink(ld_fd_path(dir).path, path, sizeof(path) - 1);

    if (why != -ENOTCONN)
        return ld_err_sys(err, why, "look at the quotas of the data root's file system, a btrfs");
    (void)ld_err_set(err, LD_E_UNSUPPORTED,
                     "the quotas of the data root's file system, a btrfs, are off");
    path[len < 0 ? 0 : len] = '\0';
    return ld_err_hint(err, "btrfs quota enable %s'%s', then restart layerd",
                       is_simple ? "-s " : "", len < 0 ? "PATH" : path);
}

static int probe(int dir, const char *instance, struct ld_quota *ret, struct ld_err *err)
{
    autoclose int groups = open_groups(dir);

    (void)instance; /* subvolumes have numbers of their own */
    if (groups < 0)
        return refuse(dir, groups, err);
    *ret = (struct ld_quota){.kind = &ld_quota_subvolumes, .stale = ld_new(struct ld_quota_stale)};
    pthread_mutex_init(&ret->stale->lock, NULL);
    return 0;
}

static void done(struct ld_quota *quota)
{
    pthread_mutex_destroy(&quota->stale->lock);
    free(quota->stale->deleted.id);
    free(quota->stale);
}

/* ---- one directory ---- */

static int make_dir(const struct ld_quota *quota, int parent, const char *name, mode_t mode,
                    ld_sid sid, bool is_limited)
{
    struct btrfs_ioctl_vol_args args = {.fd = 0};
    autoclose int dir = -EBADF;
    int r = 0;

    (void)quota;
    (void)sid;
    if (!is_limited)
        return ld_make_dir(parent, name, mode);
    if (strlen(name) >= sizeof(args.name))
        return -ENAMETOOLONG;
    memcpy(args.name, name, strlen(name));
    if (ioctl(parent, BTRFS_IOC_SUBVOL_CREATE, &args) < 0)
        return -errno;
    dir = ld_open_dir(parent, name);
    if (dir < 0)
        r = dir;
    else if (fchmod(dir, mode) < 0)
        r = -errno;
    if (r == 0)
        return ld_steal_fd(&dir);
    (void)unlinkat(parent, name, AT_REMOVEDIR); /* empty, and the error is what counts */
    return r;
}

static int is_counted(const struct ld_quota *quota, int dir, ld_sid sid, bool *ret)
{
    uint64_t id = 0;
    int r = subvolume_of(dir, &id);

    (void)quota;
    (void)sid;
    if (r < 0 && r != -EOPNOTSUPP)
        return r;
    *ret = r == 0;
    return 0;
}

static int read_limits(int group, struct ld_limits *ret)
{
    uint64_t flags = 0, bytes = 0;
    int r = read_number(group, "limit_flags", &flags);

    if (r == 0 && flags & BTRFS_QGROUP_LIMIT_MAX_RFER)
        r = read_number(group, "max_referenced", &bytes);
    if (r == 0)
        *ret = (struct ld_limits){.bytes = bytes};
    return r;
}

/* The sum that is held against the limit. */
static int read_use(int group, struct ld_limits *ret)
{
    static const char *const parts[] = {"referenced", "rsv_data", "rsv_meta_pertrans",
                                        "rsv_meta_prealloc"};
    uint64_t sum = 0;

    for (size_t i = 0; i < LD_ARRAY_LEN(parts); i++) {
        uint64_t bytes = 0;
        int r = read_number(group, parts[i], &bytes);

        if (r < 0)
            return r;
        sum += bytes;
    }
    *ret = (struct ld_limits){.bytes = sum};
    return 0;
}

static int get(const struct ld_quota *quota, int dir, ld_sid sid, struct ld_limits *ret_limits,
               struct ld_limits *ret_used)
{
    autoclose int groups = -EBADF, group = -EBADF;
    char name[32];
    uint64_t id = 0;
    int r = subvolume_of(dir, &id);

    (void)quota;
    (void)sid;
    if (r < 0)
        return r;
    groups = open_groups(dir);
    if (groups < 0)
        return groups;
    (void)snprintf(name, sizeof(name), "0_%llu", (unsigned long long)id); /* it fits */
    group = ld_open_dir(groups, name);
    if (group < 0)
        return group;
    if (ret_limits)
        r = read_limits(group, ret_limits);
    return r == 0 && ret_used ? read_use(group, ret_used) : r;
}

static int set(const struct ld_quota *quota, int dir, ld_sid sid, const struct ld_limits *limits)
{
    struct btrfs_ioctl_qgroup_limit_args args = {
        .lim = {.flags = BTRFS_QGROUP_LIMIT_MAX_RFER,
                .max_rfer = limits->bytes ? limits->bytes : UINT64_MAX}}; /* that: none */
    struct ld_limits now;
    uint64_t id = 0;
    int r = subvolume_of(dir, &id);

    if (r < 0)
        return r;
    args.qgroupid = id;
    if (get(quota, dir, sid, &now, NULL) == 0 && now.bytes == limits->bytes)
        return 0; /* a set is a write to the disk */
    return ioctl(dir, BTRFS_IOC_QGROUP_LIMIT, &args) < 0 ? -errno : 0;
}

static int settle(int dir)
{
    return ld_syncfs(dir); /* a commit */
}

/* ---- what was deleted ---- */

static void add(struct ids *ids, uint64_t id)
{
    ld_grow(&ids->id, &ids->cap, ids->n + 1, sizeof(*ids->id));
    ids->id[ids->n++] = id;
}

static int remove_tree(const struct ld_quota *quota, int parent, const char *name,
                       const bool *cancel)
{
    autoclose int dir = ld_open_dir(parent, name);
    uint64_t id = 0;
    bool is_counted = dir >= 0 && subvolume_of(dir, &id) == 0;
    int r;

    ld_close_p(&dir);
    r = ld_remove_tree(parent, name, cancel);
    if (r == 0 && is_counted) {
        pthread_mutex_lock(&quota->stale->lock);
        add(&quota->stale->deleted, id);
        pthread_mutex_unlock(&quota->stale->lock);
    }
    return r;
}

/* Is it gone? */
static bool drop_group(int dir, uint64_t id)
{
    struct btrfs_ioctl_qgroup_create_args args = {.create = 0, .qgroupid = id};

    /* Off is as good as gone; anything but EBUSY would not be better the next time. */
    return ioctl(dir, BTRFS_IOC_QGROUP_CREATE, &args) == 0 || errno != EBUSY;
}

struct look {
    int dir;
    struct ids found;
};

static int look_at_group(void *arg, const char *name, unsigned char d_type)
{
    struct look *look = arg;
    uint64_t id = 0;

    (void)d_type;
    if (strncmp(name, "0_", 2) == 0 &&
        ld_parse_u64(name + 2, BTRFS_FIRST_FREE_OBJECTID, UINT64_MAX, &id) == 0 &&
        !is_subvolume(look->dir, id))
        add(&look->found, id);
    return 0;
}

/* One that is being made has a group a moment before it is a subvolume: the commit is after that,
 * so what is none then was deleted. Numbers are never used again. */
static void look_for_stale(int dir, struct ids *ret)
{
    autoclose int groups = open_groups(dir);
    struct look look = {.dir = dir};
    int r = groups < 0 ? groups : ld_each_name(groups, look_at_group, &look);

    if (r == 0 && look.found.n > 0)
        r = ld_syncfs(dir);
    if (r < 0)
        ld_warn("look for quota groups without a subvolume: %s, ignoring", strerrordesc_np(-r));
    for (size_t i = 0; r == 0 && i < look.found.n; i++) {
        if (!is_subvolume(dir, look.found.id[i]))
            add(ret, look.found.id[i]);
    }
    free(look.found.id);
}

static void sweep(const struct ld_quota *quota, int dir)
{
    struct ld_quota_stale *stale = quota->stale;
    struct ids now;
    bool has_looked;

    pthread_mutex_lock(&stale->lock);
    now = stale->deleted;
    stale->deleted = (struct ids){.n = 0};
    has_looked = stale->has_looked;
    stale->has_looked = true;
    pthread_mutex_unlock(&stale->lock);
    if (!has_looked)
        look_for_stale(dir, &now);
    for (size_t i = 0; i < now.n; i++) {
        if (drop_group(dir, now.id[i]))
            continue;
        pthread_mutex_lock(&stale->lock);
        add(&stale->deleted, now.id[i]);
        pthread_mutex_unlock(&stale->lock);
    }
    free(now.id);
}

const struct ld_quota_kind ld_quota_subvolumes = {
    .probe = probe,
    .done = done,
    .make_dir = make_dir,
    .is_counted = is_counted,
    .set = set,
    .get = get,
    .settle = settle,
    .remove_tree = remove_tree,
    .sweep = sweep,
};
