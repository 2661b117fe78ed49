/* Opening, comparing and copying one node of a tree: see tree.h. No state, any thread. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "daemon/base/fdio.h"
#include "daemon/base/mem.h"
#include "daemon/base/tree.h"

enum { COMPARE_BLOCK = 128 << 10 };

/* No symlink in it, not even at the end unless O_PATH|O_NOFOLLOW asks for the link itself. */
static int open_plain(int root, const char *path, int flags)
{
    struct open_how how = {.flags = (unsigned)flags | O_CLOEXEC,
                           .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS};
    long fd = syscall(SYS_openat2, root, path, &how, sizeof(how));

    return fd < 0 ? -errno : (int)fd;
}

int ld_tree_open_path(int root, const char *path, int flags)
{
    autoclose int at = -EBADF;

    /* In pieces that openat2 takes, cut at a '/'. */
    while (strlen(path) >= PATH_MAX) {
        char piece[PATH_MAX];
        size_t len = PATH_MAX - 1;
        int next;

        while (len > 0 && path[len] != '/')
            len--;
        if (len == 0)
            return -ENAMETOOLONG;
        memcpy(piece, path, len);
        piece[len] = '\0';
        next = open_plain(at < 0 ? root : at, piece, O_PATH | O_DIRECTORY);
        if (next < 0)
            return next;
        ld_close(at);
        at = next;
        path += len + 1;
    }
    return open_plain(at < 0 ? root : at, *path ? path : ".", flags);
}

int ld_node_open(const struct ld_node *node)
{
    mode_t type = node->st.st_mode & S_IFMT;
    int flags = O_PATH;
    autoclose int fd = -EBADF;
    struct stat st;

    if (type == S_IFREG)
        flags = O_RDONLY | O_NONBLOCK | O_NOATIME;
    else if (type == S_IFDIR)
        flags = O_RDONLY | O_DIRECTORY;
    fd = openat(node->dir, node->name, flags | O_NOFOLLOW | O_CLOEXEC);
    /* Only the owner of a file, or who has CAP_FOWNER, may leave its access time alone. */
    if (fd < 0 && errno == EPERM && flags & O_NOATIME)
        fd = openat(node->dir, node->name, (flags & ~O_NOATIME) | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return errno == ELOOP || errno == ENOTDIR || errno == ENXIO ? -ESTALE : -errno;
    if (fstat(fd, &st) < 0)
        return -errno;
    return (st.st_mode & S_IFMT) == type ? ld_steal_fd(&fd) : -ESTALE;
}

int ld_node_readlink(const struct ld_node *node, char **ret)
{
    char target[PATH_MAX];
    ssize_t len = readlinkat(node->dir, node->name, target, sizeof(target));

    if (len < 0)
        return errno == EINVAL ? -ESTALE : -errno;
    if (len == sizeof(target))
        return -ENAMETOOLONG;
    *ret = ld_strndup(target, (size_t)len);
    return 0;
}

/* ---- comparing ---- */

static bool is_same_time(const struct timespec *a, const struct timespec *b)
{
    return a->tv_sec == b->tv_sec && a->tv_nsec == b->tv_nsec;
}

static bool is_equal_stat(const struct stat *a, const struct stat *b)
{
    mode_t type = a->st_mode & S_IFMT;

    if (a->st_mode != b->st_mode || a->st_uid != b->st_uid || a->st_gid != b->st_gid ||
        !is_same_time(&a->st_mtim, &b->st_mtim))
        return false;
    if (type == S_IFCHR || type == S_IFBLK)
        return a->st_rdev == b->st_rdev;
    return (type != S_IFREG && type != S_IFLNK) || a->st_size == b->st_size;
}

/* Where the next data of either file begins, at or after `at`; the size where only a hole follows.
 */
static off_t next_data(int a, int b, off_t at, off_t size)
{
    off_t x = lseek(a, at, SEEK_DATA);
    off_t y = lseek(b, at, SEEK_DATA);

    /* A file system that knows no holes says ENXIO only at the end, and has data everywhere. */
    x = x < 0 ? size : x;
    y = y < 0 ? size : y;
    return x < y ? x : y;
}

/* 1: the same bytes; 0; -errno. Holes are zeros, holes of both are not read. */
static int is_equal_content(int a, int b, off_t size, const bool *cancel)
{
    size_t block = size < COMPARE_BLOCK ? (size_t)size : COMPARE_BLOCK;
    autofree char *x = ld_alloc0(block);
    autofree char *y = ld_alloc0(block);

    for (off_t at = next_data(a, b, 0, size); at < size;) {
        size_t len = size - at < (off_t)block ? (size_t)(size - at) : block;
        int r;

        if (cancel && __atomic_load_n(cancel, __ATOMIC_RELAXED))
            return -ECANCELED;
        r = ld_pread_full(a, x, len, (uint64_t)at);
        if (r == 0)
            r = ld_pread_full(b, y, len, (uint64_t)at);
        if (r < 0)
            return r == -ENODATA ? 0 : r; /* shorter by now */
        if (memcmp(x, y, len) != 0)
            return 0;
        at += (off_t)len;
        if (at < size)
            at = next_data(a, b, at, size);
    }
    return 1;
}

static int is_equal_target(const struct ld_node *a, const struct ld_node *b)
{
    autofree char *x = NULL, *y = NULL;
    int r = ld_node_readlink(a, &x);

    if (r == 0)
        r = ld_node_readlink(b, &y);
    return x && y ? strcmp(x, y) == 0 : r;
}

/* What needs the nodes opened: xattrs, then content. 1, 0, -errno. */
static int is_equal_inside(const struct ld_node *a, const struct ld_node *b, const bool *cancel)
{
    LD_AUTO(ld_xattrs_done) struct ld_xattrs x = {.n = 0}, y = {.n = 0};
    autoclose int fd_a = ld_node_open(a);
    autoclose int fd_b = ld_node_open(b);
    int r = fd_a < 0 ? fd_a : fd_b < 0 ? fd_b : 0;

    if (r == 0)
        r = ld_xattrs_get(fd_a, a->form, &x);
    if (r == 0)
        r = ld_xattrs_get(fd_b, b->form, &y);
    if (r < 0)
        return r;
    if (!ld_xattrs_equal(&x, &y))
        return 0;
    return S_ISREG(a->st.st_mode) ? is_equal_content(fd_a, fd_b, a->st.st_size, cancel) : 1;
}

int ld_node_compare(const struct ld_node *a, const struct ld_node *b, const bool *cancel,
                    bool *ret_equal, struct ld_err *err)
{
    int r = is_equal_stat(&a->st, &b->st);

    bool is_same =
        a->st.st_dev == b->st.st_dev && a->st.st_ino == b->st.st_ino && a->form == b->form;

    if (r == 1 && !is_same && S_ISLNK(a->st.st_mode))
        r = is_equal_target(a, b);
    if (r == 1 && !is_same)
        r = is_equal_inside(a, b, cancel);
    if (r < 0)
        return ld_err_sys(err, r, "compare '%s'", a->path);
    *ret_equal = r;
    return 0;
}

/* ---- copying ---- */

static int copy_attrs(const struct ld_node *node, int from, int to, enum ld_form form)
{
    LD_AUTO(ld_xattrs_done) struct ld_xattrs xattrs = {.n = 0};
    int r = ld_xattrs_get(from, node->form, &xattrs);

    return r < 0 ? r : ld_attrs_set(to, form, &node->st, &xattrs);
}

static int copy_file(const struct ld_node *node, int dir, const char *name, enum ld_form form,
                     const bool *cancel)
{
    autoclose int from = ld_node_open(node);
    autoclose int to = -EBADF;
    int r;

    if (from < 0)
        return from;
    to = openat(dir, name, O_CREAT | O_EXCL | O_WRONLY | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (to < 0)
        return -errno;
    r = ld_copy_data(from, to, cancel);
    return r < 0 ? r : copy_attrs(node, from, to, form);
}

static int make_special(const struct ld_node *node, int dir, const char *name)
{
    mode_t type = node->st.st_mode & S_IFMT;
    autofree char *target = NULL;
    int r;

    if (type == S_IFDIR)
        return mkdirat(dir, name, 0700) < 0 ? -errno : 0;
    if (type != S_IFLNK)
        return mknodat(dir, name, type | 0600, node->st.st_rdev) < 0 ? -errno : 0;
    r = ld_node_readlink(node, &target);
    if (!target)
        return r;
    return symlinkat(target, dir, name) < 0 ? -errno : 0;
}

static int copy_special(const struct ld_node *node, int dir, const char *name, enum ld_form form)
{
    autoclose int from = ld_node_open(node);
    autoclose int to = -EBADF;
    int r = from < 0 ? from : make_special(node, dir, name);

    if (r < 0)
        return r;
    to = openat(dir, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    if (to < 0)
        return -errno;
    return copy_attrs(node, from, to, form);
}

int ld_node_copy(const struct ld_node *node, int dir, const char *name, enum ld_form form,
                 const bool *cancel, struct ld_err *err)
{
    int r;

    if (S_ISREG(node->st.st_mode))
        r = copy_file(node, dir, name, form, cancel);
    else if (S_ISDIR(node->st.st_mode))
        r = make_special(node, dir, name);
    else
        r = copy_special(node, dir, name, form);
    return r < 0 ? ld_err_sys(err, r, "copy '%s'", node->path) : 0;
}

int ld_node_copy_attrs(const struct ld_node *node, int fd, enum ld_form form, struct ld_err *err)
{
    autoclose int from = ld_node_open(node);
    int r = from < 0 ? from : copy_attrs(node, from, fd, form);

    return r < 0 ? ld_err_sys(err, r, "copy attributes of '%s'", node->path) : 0;
}
