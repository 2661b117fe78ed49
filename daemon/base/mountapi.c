/* Mount system calls: see mountapi.h. No state; any thread. */
#include "daemon/base/mountapi.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/base/fdio.h"
#include "daemon/base/mem.h"
#include "daemon/base/parse.h"

#ifndef STATX_MNT_ID_UNIQUE
#define STATX_MNT_ID_UNIQUE 0x00004000U /* linux 6.8 */
#endif

int ld_mount_clone(int dir, const char *path, unsigned flags)
{
    unsigned recursive = flags & LD_CLONE_RECURSIVE ? AT_RECURSIVE : 0;
    unsigned at = *path ? AT_SYMLINK_NOFOLLOW : AT_EMPTY_PATH;
    struct mount_attr attr = {.propagation = MS_PRIVATE};
    autoclose int fd = open_tree(dir, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | recursive | at);

    if (fd < 0)
        return -errno;
    if (flags & LD_CLONE_RDONLY)
        attr.attr_set |= MOUNT_ATTR_RDONLY;
    if (flags & (LD_CLONE_GUARDED | LD_CLONE_NODEV_NOSUID))
        attr.attr_set |= MOUNT_ATTR_NODEV | MOUNT_ATTR_NOSUID;
    if (flags & LD_CLONE_GUARDED)
        attr.attr_set |= MOUNT_ATTR_NOEXEC;
    if (mount_setattr(fd, "", AT_EMPTY_PATH | recursive, &attr, sizeof(attr)) < 0)
        return -errno;
    return ld_steal_fd(&fd);
}

int ld_mount_put(int tree, int place)
{
    return move_mount(tree, "", place, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) < 0
               ? -errno
               : 0;
}

int ld_mount_put_at(int tree, int dir, const char *name)
{
    return move_mount(tree, "", dir, name, MOVE_MOUNT_F_EMPTY_PATH) < 0 ? -errno : 0;
}

int ld_mount_move(int from_dir, const char *from, int to_dir, const char *to)
{
    return move_mount(from_dir, from, to_dir, to, 0) < 0 ? -errno : 0;
}

int ld_mount_set_rdonly(int mount_fd, bool on)
{
    struct mount_attr attr = {.attr_set = on ? MOUNT_ATTR_RDONLY : 0,
                              .attr_clr = on ? 0 : MOUNT_ATTR_RDONLY};

    return mount_setattr(mount_fd, "", AT_EMPTY_PATH, &attr, sizeof(attr)) < 0 ? -errno : 0;
}

int ld_mount_set_sb_rdonly(int fd, bool on)
{
    autoclose int fs = fspick(fd, "", FSPICK_EMPTY_PATH | FSPICK_CLOEXEC);

    if (fs < 0 || fsconfig(fs, FSCONFIG_SET_FLAG, on ? "ro" : "rw", NULL, 0) < 0 ||
        fsconfig(fs, FSCONFIG_CMD_RECONFIGURE, NULL, NULL, 0) < 0)
        return -errno;
    return 0;
}

static int set_number(int fs, const char *key, uint64_t n)
{
    char text[32];

    (void)snprintf(text, sizeof(text), "%" PRIu64, n); /* 20 digits at most */
    return n && fsconfig(fs, FSCONFIG_SET_STRING, key, text, 0) < 0 ? -errno : 0;
}

static int set_bounds(int fs, const struct ld_tmpfs *tmpfs)
{
    int r = set_number(fs, "size", tmpfs->size);

    return r < 0 ? r : set_number(fs, "nr_inodes", tmpfs->inodes);
}

int ld_mount_tmpfs(const struct ld_tmpfs *tmpfs)
{
    autoclose int fs = fsopen("tmpfs", FSOPEN_CLOEXEC);
    char mode[16];
    int fd, r;

    (void)snprintf(mode, sizeof(mode), "%o", (unsigned)tmpfs->mode);
    if (fs < 0 || fsconfig(fs, FSCONFIG_SET_STRING, "source", tmpfs->source, 0) < 0 ||
        fsconfig(fs, FSCONFIG_SET_STRING, "mode", mode, 0) < 0)
        return -errno;
    r = set_bounds(fs, tmpfs);
    if (r < 0)
        return r;
    if (fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
        return -errno;
    fd = fsmount(fs, FSMOUNT_CLOEXEC, MOUNT_ATTR_NODEV | MOUNT_ATTR_NOSUID);
    return fd < 0 ? -errno : fd;
}

int ld_mount_tmpfs_change(int fd, const struct ld_tmpfs *tmpfs)
{
    autoclose int fs = fspick(fd, "", FSPICK_EMPTY_PATH | FSPICK_CLOEXEC);
    int r = fs < 0 ? -errno : set_bounds(fs, tmpfs);

    if (r < 0)
        return r;
    return fsconfig(fs, FSCONFIG_CMD_RECONFIGURE, NULL, NULL, 0) < 0 ? -errno : 0;
}

int ld_umount_at(int dir, const char *name, bool detach)
{
    autofree char *path = ld_asprintf("/proc/self/fd/%d/%s", dir, name);

    return umount2(path, UMOUNT_NOFOLLOW | (detach ? MNT_DETACH : 0)) < 0 ? -errno : 0;
}

int ld_mount_id(int dir, const char *name, uint64_t *ret, bool *ret_is_root)
{
    struct statx stx;

    if (statx(dir, name,
              AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | AT_STATX_DONT_SYNC |
                  (*name ? 0 : AT_EMPTY_PATH),
              STATX_MNT_ID | STATX_MNT_ID_UNIQUE, &stx) < 0)
        return -errno;
    *ret = stx.stx_mnt_id;
    if (ret_is_root)
        *ret_is_root = stx.stx_attributes & STATX_ATTR_MOUNT_ROOT;
    return 0;
}

/* mountinfo writes blank, tab, newline and backslash as \ooo. In place. */
static void unescape(char *text)
{
    char *out = text;

    for (const char *in = text; *in; out++) {
        if (in[0] == '\\' && in[1] >= '0' && in[1] <= '3' && in[2] && in[3]) {
            *out = (char)((in[1] - '0') << 6 | (in[2] - '0') << 3 | (in[3] - '0'));
            in += 4;
        } else {
            *out = *in++;
        }
    }
    *out = '\0';
}

/* The next blank-separated field of *at, terminated; NULL at the end. */
static char *next_field(char **at)
{
    char *field = *at;

    if (!field)
        return NULL;
    *at = strchr(field, ' ');
    if (*at)
        *(*at)++ = '\0';
    return field;
}

/* "36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue" */
static int parse_line(char *line, struct ld_mountinfo *ret)
{
    char *at = line;
    char *id = next_field(&at), *parent = next_field(&at), *device = next_field(&at);
    char *root = next_field(&at), *mountpoint = next_field(&at);
    char *field, *colon;
    int major, minor;

    do
        field = next_field(&at);
    while (field && strcmp(field, "-") != 0);
    ret->fstype = next_field(&at);
    field = next_field(&at);
    if (!field || !at)
        return -EIO;
    ret->source = field;
    ret->super_options = at;
    colon = strchr(device, ':');
    if (!colon)
        return -EIO;
    *colon = '\0';
    if (ld_parse_int(id, 0, INT32_MAX, &ret->id) < 0 ||
        ld_parse_int(parent, 0, INT32_MAX, &ret->parent) < 0 ||
        ld_parse_int(device, 0, INT32_MAX, &major) < 0 ||
        ld_parse_int(colon + 1, 0, INT32_MAX, &minor) < 0)
        return -EIO;
    ret->major = (unsigned)major;
    ret->minor = (unsigned)minor;
    unescape(root);
    unescape(mountpoint);
    unescape(field);
    unescape(at);
    ret->root = root;
    ret->mountpoint = mountpoint;
    return 0;
}

/* Takes the file. */
static int read_lines(FILE *file, ld_mountinfo_fn fn, void *arg)
{
    autofree char *line = NULL;
    size_t cap = 0;
    ssize_t len;
    int r = 0;

    while (r == 0 && (errno = 0, len = getline(&line, &cap, file)) > 0) {
        struct ld_mountinfo info;

        if (line[len - 1] == '\n')
            line[len - 1] = '\0';
        r = parse_line(line, &info);
        if (r == 0)
            r = fn(arg, &info);
    }
    if (r == 0 && ferror(file))
        r = -EIO;
    (void)fclose(file); /* only read */
    return r;
}

int ld_mountinfo_each(ld_mountinfo_fn fn, void *arg)
{
    FILE *file = fopen("/proc/self/mountinfo", "re");

    return file ? read_lines(file, fn, arg) : -errno;
}

int ld_mountinfo_each_of(int proc_pid, ld_mountinfo_fn fn, void *arg)
{
    autoclose int fd = openat(proc_pid, "mountinfo", O_RDONLY | O_CLOEXEC);
    FILE *file = fd < 0 ? NULL : fdopen(fd, "r");

    if (!file)
        return -errno;
    (void)ld_steal_fd(&fd);
    return read_lines(file, fn, arg);
}
