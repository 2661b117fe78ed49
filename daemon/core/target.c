/* Places of a caller's choice: see target.h. No state but the symlinks; any worker. */
#include "daemon/core/target.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/base/fdio.h"
#include "daemon/base/log.h"
#include "daemon/base/mem.h"
#include "daemon/base/mountapi.h"
#include "daemon/core/mounts.h"
#include "daemon/core/root.h"

/* A trusted one is written down as "trusted:/path": a path begins with a slash. */
static const char trusted[] = "trusted:";

enum { MAX_PATH = PATH_MAX - sizeof(trusted) };

int ld_mount_target_check(const char *path, struct ld_err *err)
{
    const char *at = path;

    if (*path != '/')
        return ld_err_set(err, LD_E_INVALID, "the target '%s' is not an absolute path", path);
    if (strlen(path) > MAX_PATH)
        return ld_err_set(err, LD_E_INVALID, "the target is longer than %d bytes", (int)MAX_PATH);
    while (*at) {
        size_t len = strcspn(++at, "/");

        if (len == 0 || (len == 1 && at[0] == '.') || (len == 2 && at[0] == '.' && at[1] == '.'))
            return ld_err_set(
                err, LD_E_INVALID,
                "the target '%s' is '/', or has '//', '.', '..' or a slash at its end", path);
        if (len > NAME_MAX)
            return ld_err_set(err, LD_E_INVALID, "a name in the target is longer than %d bytes",
                              NAME_MAX);
        at += len;
    }
    return 0;
}

/* ---- the way to it ---- */

static bool is_same(const struct stat *a, const struct stat *b)
{
    return a->st_dev == b->st_dev && a->st_ino == b->st_ino;
}

/* Does `what` lie on the way from "/" to the folder `dir` shows? */
static int lies_above(const struct stat *what, int dir, bool *ret)
{
    autoclose int at = openat(dir, ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
    struct stat st, up;

    *ret = false;
    if (at < 0 || fstat(at, &st) < 0)
        return -errno;
    for (;;) {
        int parent = openat(at, "..", O_PATH | O_DIRECTORY | O_CLOEXEC);

        if (parent < 0)
            return -errno;
        ld_close(at);
        at = parent;
        if (fstat(at, &up) < 0)
            return -errno;
        if (is_same(&up, &st))
            return 0; /* "/" is its own parent */
        if (is_same(&up, what)) {
            *ret = true;
            return 0;
        }
        st = up;
    }
}

static int refuse(struct ld_err *err, const char *path, size_t len, const char *why)
{
    (void)ld_err_set(err, LD_E_FORBIDDEN, "the target '%s' is refused: '%.*s' %s", path,
                     len ? (int)len : 1, path, why);
    return ld_err_hint(err, "every folder above a target belongs to root, can be written by root "
                            "only, and is no symlink");
}

/* One step down: the folder `name` of `at`, and what may be wrong with it. */
static int step(int at, const char *name, const char *path, size_t len, int *ret_fd,
                struct stat *ret_st, struct ld_err *err)
{
    autoclose int fd = openat(at, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);

    if (fd < 0 && errno == ENOENT)
        return ld_err_set(err, LD_E_NOT_FOUND, "the target '%s': there is no '%.*s'", path,
                          (int)len, path);
    if (fd < 0 || fstat(fd, ret_st) < 0)
        return ld_err_sys(err, -errno, "open the target '%s'", path);
    if (S_ISLNK(ret_st->st_mode))
        return refuse(err, path, len, "is a symlink");
    if (!S_ISDIR(ret_st->st_mode))
        return ld_err_set(err, LD_E_CONFLICT, "the target '%s': '%.*s' is not a folder", path,
                          (int)len, path);
    *ret_fd = ld_steal_fd(&fd);
    return 0;
}

static int check_roots(const struct ld_root *root, const char *path, size_t len,
                       const struct stat *st, struct ld_err *err)
{
    const int fds[] = {root->data_fd, root->run_fd};
    struct stat ours;

    for (size_t i = 0; i < LD_ARRAY_LEN(fds); i++) {
        if (fstat(fds[i], &ours) < 0)
            return ld_err_sys(err, -errno, "look at a root");
        if (is_same(st, &ours))
            return refuse(err, path, len, "is a root of layerd");
    }
    return 0;
}

static int walk(const struct ld_root *root, const char *path, int *ret_fd, struct stat *ret_st,
                struct ld_err *err)
{
    autoclose int at = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    size_t len = 0;

    if (at < 0 || fstat(at, ret_st) < 0)
        return ld_err_sys(err, -errno, "open '/'");
    while (path[len]) {
        size_t begin = len + 1, n = strcspn(path + begin, "/");
        autofree char *name = ld_strndup(path + begin, n);
        int next = -EBADF;

        if (ret_st->st_uid != 0 || (ret_st->st_mode & (S_IWGRP | S_IWOTH)))
            return refuse(err, path, len,
                          ret_st->st_uid ? "does not belong to root"
                                         : "can be written by others than root");
        len = begin + n;
        if (step(at, name, path, len, &next, ret_st, err) < 0)
            return -1;
        ld_close(at);
        at = next;
        if (check_roots(root, path, len, ret_st, err) < 0)
            return -1;
    }
    *ret_fd = ld_steal_fd(&at);
    return 0;
}

/* ---- what is mounted on the way ---- */

struct above {
    const char *path, *instance;
    bool is_ours;
};

/* A container's root belongs to root, too, but to one that we do not trust. */
static int look_above(void *arg, const struct ld_mountinfo *line)
{
    struct above *a = arg;
    size_t len = strlen(line->mountpoint);

    if (strncmp(a->path, line->mountpoint, len) == 0 && a->path[len] == '/' &&
        ld_mounts_is_ours(a->instance, line))
        a->is_ours = true;
    return 0;
}

static int check_mounts(const char *instance, const char *path, int fd, struct ld_err *err)
{
    struct above above = {.path = path, .instance = instance};
    bool is_root = false;
    uint64_t id = 0;
    int r = ld_mount_id(fd, "", &id, &is_root);

    if (r == 0)
        r = ld_mountinfo_each(look_above, &above);
    if (r < 0)
        return ld_err_sys(err, r, "look at the mounts above '%s'", path);
    if (above.is_ours)
        return refuse(err, path, strlen(path), "lies in a container");
    if (!is_root)
        return 0;
    (void)ld_err_set(err, LD_E_CONFLICT, "something is mounted at '%s' already", path);
    return ld_err_hint(err, "unmount that, or choose another target");
}

int ld_mount_target_open(const struct ld_root *root, const char *instance, const char *path,
                         int *ret_fd, struct ld_err *err)
{
    const int fds[] = {root->data_fd, root->run_fd};
    autoclose int fd = -EBADF;
    struct stat st;

    if (ld_mount_target_check(path, err) < 0 || walk(root, path, &fd, &st, err) < 0 ||
        check_mounts(instance, path, fd, err) < 0)
        return -1;
    for (size_t i = 0; i < LD_ARRAY_LEN(fds); i++) {
        bool is_above = false;
        int r = lies_above(&st, fds[i], &is_above);

        if (r < 0)
            return ld_err_sys(err, r, "look at the folders above a root");
        if (is_above)
            return refuse(err, path, strlen(path), "lies above a root of layerd");
    }
    *ret_fd = ld_steal_fd(&fd);
    return 0;
}

int ld_mount_target_open_parent(const char *path, const char **ret_name)
{
    autoclose int at = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    const char *name = path + 1;

    if (at < 0)
        return -errno;
    for (const char *slash; (slash = strchr(name, '/')); name = slash + 1) {
        autofree char *step_name = ld_strndup(name, (size_t)(slash - name));
        int next = openat(at, step_name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

        if (next < 0)
            return -errno;
        ld_close(at);
        at = next;
    }
    *ret_name = name;
    return ld_steal_fd(&at);
}

/* ---- written down ---- */

int ld_mount_target_record(const struct ld_root *root, const char *name,
                           const struct ld_mount_target *target, struct ld_err *err)
{
    autofree char *text = ld_asprintf("%s%s", target->is_trusted ? trusted : "", target->path);

    ld_mount_target_forget(root, name);
    return symlinkat(text, root->targets_fd, name) < 0
               ? ld_err_sys(err, -errno, "write down the target '%s'", target->path)
               : 0;
}

bool ld_mount_target_recorded(const struct ld_root *root, const char *name,
                              struct ld_mount_target *ret)
{
    autofree char *text = ld_alloc0(PATH_MAX);
    ssize_t n = readlinkat(root->targets_fd, name, text, PATH_MAX - 1);
    size_t skip;

    if (n <= 0)
        return false;
    ret->is_trusted = strncmp(text, trusted, strlen(trusted)) == 0;
    skip = ret->is_trusted ? strlen(trusted) : 0;
    ret->path = ld_strdup(text + skip);
    return true;
}

void ld_mount_target_forget(const struct ld_root *root, const char *name)
{
    if (unlinkat(root->targets_fd, name, 0) < 0 && errno != ENOENT)
        ld_warn("forget the target of '%s': %s", name, strerrordesc_np(errno));
}
