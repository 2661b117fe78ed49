/* The data root and the run root: see root.h. Main thread at start and stop.
 *
 * Invariant: no mount of ours ever becomes a child of the mount that holds the layers. The kernel
 * walks all children of a layer's mount for each layer at each overlay mount, so that with 3,000
 * containers mounted below the data root's own mount a mount takes ten times as long. Where the run
 * root lies on that mount, mnt/ gets a tmpfs of its own; backing/ always is one.
 */
#include "daemon/core/root.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "daemon/base/fdio.h"
#include "daemon/base/log.h"
#include "daemon/base/mem.h"
#include "daemon/base/mountapi.h"

enum { RESERVE_BYTES = 64 << 20, GROUP_BUFFER = 1 << 16 };
static const char reserve_name[] = "reserve";

static int make_path(const char *path)
{
    autofree char *copy = ld_strdup(path);

    for (char *slash = strchr(copy + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        if (mkdir(copy, 0755) < 0 && errno != EEXIST)
            return -errno;
        *slash = '/';
    }
    return mkdir(path, 0700) < 0 && errno != EEXIST ? -errno : 0;
}

/* Makes and opens a root; *ret_path is its true path, as mountinfo will show it. */
static int open_top(const char *what, const char *path, mode_t mode, char **ret_path, int *ret_fd,
                    struct ld_err *err)
{
    int r;

    if (path[0] != '/')
        return ld_err_set(err, LD_E_INVALID, "the %s '%s' is not an absolute path", what, path);
    r = make_path(path);
    if (r < 0)
        return ld_err_sys(err, r, "make the %s '%s'", what, path);
    *ret_path = realpath(path, NULL);
    if (!*ret_path)
        return ld_err_sys(err, -errno, "resolve the %s '%s'", what, path);
    *ret_fd = open(*ret_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (*ret_fd < 0)
        return ld_err_sys(err, -errno, "open the %s '%s'", what, path);
    if (fchown(*ret_fd, 0, 0) < 0 || fchmod(*ret_fd, mode) < 0)
        return ld_err_sys(err, -errno, "own the %s '%s'", what, path);
    return 0;
}

static int open_sub(int dir, const char *name, mode_t mode, int *ret_fd, struct ld_err *err)
{
    int fd = ld_ensure_dir(dir, name, mode);

    if (fd < 0)
        return ld_err_sys(err, fd, "open the folder '%s'", name);
    *ret_fd = fd;
    return 0;
}

/* Locks, rename and overlay do not do on these what they promise. */
static int refuse_remote(const struct ld_root *root, struct ld_err *err)
{
    static const long remote[] = {NFS_SUPER_MAGIC,       SMB_SUPER_MAGIC, 0xFF534D42 /* cifs */,
                                  0xFE534D42 /* smb2 */, V9FS_MAGIC,      CEPH_SUPER_MAGIC,
                                  AFS_SUPER_MAGIC,       CODA_SUPER_MAGIC};
    struct statfs fs;

    if (fstatfs(root->data_fd, &fs) < 0)
        return ld_err_sys(err, -errno, "look at the file system of '%s'", root->data_path);
    for (size_t i = 0; i < LD_ARRAY_LEN(remote); i++) {
        if ((unsigned)fs.f_type == (unsigned)remote[i]) {
            (void)ld_err_set(err, LD_E_UNSUPPORTED,
                             "the data root '%s' is on a network file system", root->data_path);
            return ld_err_hint(err, "put it on ext4, xfs or btrfs");
        }
    }
    return 0;
}

static int lock_root(struct ld_root *root, struct ld_err *err)
{
    root->lock_fd = openat(root->data_fd, "lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (root->lock_fd < 0)
        return ld_err_sys(err, -errno, "open the lock of '%s'", root->data_path);
    if (flock(root->lock_fd, LOCK_EX | LOCK_NB) == 0)
        return 0;
    if (errno != EWOULDBLOCK)
        return ld_err_sys(err, -errno, "lock '%s'", root->data_path);
    (void)ld_err_set(err, LD_E_CONFLICT, "another layerd uses the data root '%s'", root->data_path);
    return ld_err_hint(err, "stop it, or give --data-root another folder");
}

static int open_data(const char *path, struct ld_root *root, struct ld_err *err)
{
    int empty = -EBADF;

    if (open_top("data root", path, 0700, &root->data_path, &root->data_fd, err) < 0 ||
        refuse_remote(root, err) < 0 || lock_root(root, err) < 0 ||
        open_sub(root->data_fd, "layers", 0700, &root->layers_fd, err) < 0 ||
        open_sub(root->data_fd, "w", 0700, &root->w_fd, err) < 0 ||
        open_sub(root->data_fd, "volumes", 0700, &root->volumes_fd, err) < 0 ||
        open_sub(root->data_fd, "staging", 0700, &root->staging_fd, err) < 0 ||
        open_sub(root->data_fd, "trash", 0700, &root->trash_fd, err) < 0 ||
        open_sub(root->data_fd, "quarantine", 0700, &root->quarantine_fd, err) < 0 ||
        open_sub(root->layers_fd, "0", 0755, &empty, err) < 0)
        return -1;
    ld_close(empty); /* the empty second lower of a view of one layer */
    if (ld_fsync(root->layers_fd) < 0 || ld_fsync(root->data_fd) < 0)
        return ld_err_sys(err, -errno, "sync the data root '%s'", root->data_path);
    return 0;
}

static void find_group(const char *name, unsigned *ret_gid)
{
    autofree char *buffer = ld_alloc0(GROUP_BUFFER);
    struct group group, *found = NULL;

    *ret_gid = 0;
    if (name && getgrnam_r(name, &group, buffer, GROUP_BUFFER, &found) == 0 && found)
        *ret_gid = group.gr_gid;
    else if (name)
        ld_warn("there is no group '%s': only root may use the socket", name);
}

/* The stage of an earlier life may hold mounts of views and half-built containers: nobody can be in
 * them, so they are let go as a whole. */
static int open_stage(struct ld_root *root, struct ld_err *err)
{
    int fd = ld_ensure_dir(root->run_fd, "stage", 0700);
    autofree char *path = ld_asprintf("%s/stage", root->run_path);

    if (fd < 0)
        return ld_err_sys(err, fd, "make '%s'", path);
    ld_close(fd);
    while (umount2(path, MNT_DETACH | UMOUNT_NOFOLLOW) == 0)
        continue;
    if (mount("layerd-stage", path, "tmpfs", MS_NOSUID | MS_NODEV, "mode=0700") < 0)
        return ld_err_sys(err, -errno, "mount a tmpfs at '%s'", path);
    if (mount(NULL, path, NULL, MS_PRIVATE, NULL) < 0)
        return ld_err_sys(err, -errno, "make '%s' private", path);
    root->stage_fd = ld_open_dir(root->run_fd, "stage");
    return root->stage_fd < 0 ? ld_err_sys(err, root->stage_fd, "open '%s'", path) : 0;
}

/* Shared, unlike the stage: who enters a mount namespace of his own takes a copy of all mounts
 * along, and an unmount of ours has to reach that one. Else a container's memory would stay until
 * somebody's service ends. */
static int open_backing(struct ld_root *root, struct ld_err *err)
{
    autofree char *path = ld_asprintf("%s/backing", root->run_path);
    bool is_root = false;
    uint64_t id;
    int r;

    if (open_sub(root->run_fd, "backing", 0700, &root->backing_fd, err) < 0)
        return -1;
    r = ld_mount_id(root->backing_fd, "", &id, &is_root);
    if (r < 0)
        return ld_err_sys(err, r, "ask for the mount of '%s'", path);
    if (is_root)
        return 0; /* of an earlier life */
    if (mount("layerd-backing", path, "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=0700") < 0)
        return ld_err_sys(err, -errno, "mount a tmpfs at '%s'", path);
    if (mount(NULL, path, NULL, MS_SHARED, NULL) < 0)
        return ld_err_sys(err, -errno, "make '%s' shared", path);
    ld_close(root->backing_fd);
    root->backing_fd = ld_open_dir(root->run_fd, "backing");
    return root->backing_fd < 0 ? ld_err_sys(err, root->backing_fd, "open '%s'", path) : 0;
}

static int open_mnt(struct ld_root *root, struct ld_err *err)
{
    autofree char *path = ld_asprintf("%s/mnt", root->run_path);
    uint64_t id;
    int r;

    if (open_sub(root->run_fd, "mnt", 0710, &root->mnt_fd, err) < 0)
        return -1;
    r = ld_mount_id(root->mnt_fd, "", &id, NULL);
    if (r == 0)
        r = ld_mount_id(root->data_fd, "", &root->data_mount_id, NULL);
    if (r < 0)
        return ld_err_sys(err, r, "ask for the mount of '%s'", path);
    if (id == root->data_mount_id) {
        if (mount("layerd-mnt", path, "tmpfs", MS_NOSUID | MS_NODEV, "mode=0710") < 0)
            return ld_err_sys(err, -errno, "mount a tmpfs at '%s'", path);
        ld_close(root->mnt_fd);
        root->mnt_fd = ld_open_dir(root->run_fd, "mnt");
        if (root->mnt_fd < 0)
            return ld_err_sys(err, root->mnt_fd, "open '%s'", path);
    }
    if (fchown(root->mnt_fd, 0, root->gid) < 0 || fchmod(root->mnt_fd, 0710) < 0)
        return ld_err_sys(err, -errno, "own '%s'", path);
    return 0;
}

int ld_root_open(const char *data_path, const char *run_path, const char *group,
                 struct ld_root *ret, struct ld_err *err)
{
    struct ld_root root = LD_ROOT_INIT;

    find_group(group, &root.gid);
    if (open_data(data_path, &root, err) < 0 ||
        open_top("run root", run_path, 0711, &root.run_path, &root.run_fd, err) < 0 ||
        open_sub(root.run_fd, "targets", 0700, &root.targets_fd, err) < 0 ||
        open_sub(root.run_fd, "bundles", 0700, &root.bundles_fd, err) < 0 ||
        open_stage(&root, err) < 0 || open_backing(&root, err) < 0 || open_mnt(&root, err) < 0) {
        ld_root_done(&root);
        return -1;
    }
    *ret = root;
    return 0;
}

static void unmount_if_root(int *fd, const char *run_path, const char *name, int flags)
{
    autofree char *path = run_path ? ld_asprintf("%s/%s", run_path, name) : NULL;
    bool is_root = false;
    uint64_t id;

    if (*fd >= 0)
        (void)!ld_mount_id(*fd, "", &id, &is_root); /* closed already: nothing to unmount */
    ld_close_p(fd);
    if (is_root)
        (void)umount2(path, flags | UMOUNT_NOFOLLOW); /* busy: containers are still mounted */
}

void ld_root_done(struct ld_root *root)
{
    unmount_if_root(&root->stage_fd, root->run_path, "stage", MNT_DETACH);
    unmount_if_root(&root->mnt_fd, root->run_path, "mnt", 0);
    unmount_if_root(&root->backing_fd, root->run_path, "backing", 0);
    ld_close_p(&root->targets_fd);
    ld_close_p(&root->bundles_fd);
    ld_close_p(&root->run_fd);
    ld_close_p(&root->layers_fd);
    ld_close_p(&root->w_fd);
    ld_close_p(&root->volumes_fd);
    ld_close_p(&root->staging_fd);
    ld_close_p(&root->trash_fd);
    ld_close_p(&root->quarantine_fd);
    ld_close_p(&root->data_fd);
    ld_close_p(&root->lock_fd);
    ld_free_p(&root->data_path);
    ld_free_p(&root->run_path);
}

void ld_reserve_keep(const struct ld_root *root)
{
    autoclose int fd =
        openat(root->data_fd, reserve_name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    uint64_t free_bytes = 0;
    struct ld_err err = LD_ERR_INIT;
    struct stat st;

    if (fd < 0 || fstat(fd, &st) < 0 || st.st_blocks * 512 >= RESERVE_BYTES)
        return;
    if (ld_root_free_bytes(root, &free_bytes, &err) < 0 || free_bytes < 4 * (uint64_t)RESERVE_BYTES)
        return;
    if (fallocate(fd, 0, 0, RESERVE_BYTES) < 0)
        ld_debug("no reserve: %d, ignoring", errno);
}

void ld_reserve_give_up(const struct ld_root *root)
{
    autoclose int fd = openat(root->data_fd, reserve_name, O_RDWR | O_CLOEXEC | O_NOFOLLOW);

    struct stat st;

    if (fd < 0 || fstat(fd, &st) < 0 || st.st_blocks == 0)
        return;
    /* A journal gives freed blocks out again only after its transaction: the sync ends it. */
    if (ftruncate(fd, 0) == 0 && ld_fsync(fd) == 0)
        ld_warn("the disk is full: the reserve of 64 MiB was given up, so that removals work");
}

int ld_root_free_bytes(const struct ld_root *root, uint64_t *ret, struct ld_err *err)
{
    struct statvfs fs;

    if (fstatvfs(root->data_fd, &fs) < 0)
        return ld_err_sys(err, -errno, "ask for the free space of '%s'", root->data_path);
    *ret = (uint64_t)fs.f_bavail * fs.f_frsize;
    return 0;
}
