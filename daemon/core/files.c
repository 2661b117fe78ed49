/* Reading files: see files.h. */
#include "daemon/core/files.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/base/fdio.h"
#include "daemon/base/mem.h"
#include "daemon/base/tree.h"
#include "daemon/core/files_priv.h"
#include "daemon/core/tarout.h"

enum { MAX_NAMES = 1 << 22 }; /* of one directory */

void ld_file_info_done(struct ld_file_info *info)
{
    ld_free_p(&info->name);
    ld_free_p(&info->target);
}

int ld_path_error(struct ld_err *err, int neg_errno, const struct ld_files_root *root,
                  const char *what, const char *path)
{
    switch (neg_errno) {
    case -ENOENT:
        return ld_err_set(err, LD_E_NOT_FOUND, "there is no '%s' in the %s", path, root->what);
    case -ENOTDIR:
        return ld_err_set(err, LD_E_CONFLICT, "'%s': a part of the path is not a directory", path);
    case -ELOOP:
        return ld_err_set(err, LD_E_INVALID, "'%s': too many symbolic links", path);
    case -ENAMETOOLONG:
        return ld_err_set(err, LD_E_INVALID, "'%.64s…' is too long for a path", path);
    case -EROFS:
        return ld_err_set(err, LD_E_CONFLICT, "'%s' is on a read-only mount", path);
    case -EISDIR:
        return ld_err_set(err, LD_E_CONFLICT, "'%s' is a directory", path);
    case -ENOTEMPTY:
    case -EEXIST:
        return ld_err_set(err, LD_E_CONFLICT, "'%s' is a directory that is not empty", path);
    case -EBUSY:
    case -EXDEV:
        return ld_err_set(err, LD_E_BUSY, "'%s' is or holds a mount", path);
    default:
        return ld_err_sys(err, neg_errno, "%s '%s' of the %s", what, path, root->what);
    }
}

void ld_path_split_done(struct ld_split_path *p)
{
    ld_free_p(&p->parent);
    ld_free_p(&p->name);
}

int ld_path_split(const char *path, struct ld_split_path *ret, struct ld_err *err)
{
    size_t len = strlen(path), end = len, start;

    if (path[0] != '/')
        return ld_err_set(err, LD_E_INVALID, "the path '%s' is not absolute", path);
    if (len >= PATH_MAX)
        return ld_err_set(err, LD_E_INVALID, "the path '%.64s…' is longer than %d bytes", path,
                          PATH_MAX - 1);
    while (end > 1 && path[end - 1] == '/')
        end--;
    for (start = end; start > 0 && path[start - 1] != '/'; start--)
        continue;
    *ret = (struct ld_split_path){.name = ld_strndup(path + start, end - start),
                                  .wants_dir = end < len};
    while (start > 1 && path[start - 1] == '/')
        start--;
    ret->parent = ld_strndup(path, start);
    if (end == 1) { /* the root */
        ret->name[0] = '\0';
        ret->wants_dir = true;
    }
    return 0;
}

/* O_PATH of what the path names. */
static int open_path(const struct ld_files_root *root, const char *path, struct ld_err *err)
{
    struct ld_split_path split LD_AUTO(ld_path_split_done) = {.name = NULL};
    int fd;

    if (ld_path_split(path, &split, err) < 0)
        return -1;
    fd = ld_open_under(root->fd, path, LD_IN_ROOT, O_PATH | (split.wants_dir ? 0 : O_NOFOLLOW), 0);
    return fd < 0 ? ld_path_error(err, fd, root, "open", path) : fd;
}

static int read_link(int fd, char **ret)
{
    char target[PATH_MAX];
    ssize_t len = readlinkat(fd, "", target, sizeof(target) - 1);

    if (len < 0)
        return -errno;
    *ret = ld_strndup(target, (size_t)len);
    return 0;
}

int ld_files_stat(const struct ld_files_root *root, const char *path, struct ld_file_info *ret,
                  struct ld_err *err)
{
    struct ld_split_path split LD_AUTO(ld_path_split_done) = {.name = NULL};
    struct ld_file_info info LD_AUTO(ld_file_info_done) = {.name = NULL};
    autoclose int fd = open_path(root, path, err);
    int r = 0;

    if (fd < 0 || ld_path_split(path, &split, err) < 0)
        return -1;
    if (fstat(fd, &info.st) < 0)
        r = -errno;
    else if (S_ISLNK(info.st.st_mode))
        r = read_link(fd, &info.target);
    if (r < 0)
        return ld_path_error(err, r, root, "look at", path);
    info.name = *split.name ? ld_steal(&split.name) : ld_strdup("/");
    *ret = ld_steal(&info);
    return 0;
}

int ld_files_open(const struct ld_files_root *root, const char *path, int *ret_fd,
                  struct stat *ret_st, struct ld_err *err)
{
    autoclose int place = open_path(root, path, err);
    autoclose int fd = -EBADF;

    if (place < 0)
        return -1;
    if (fstat(place, ret_st) < 0)
        return ld_path_error(err, -errno, root, "look at", path);
    if (!S_ISREG(ret_st->st_mode))
        return ld_err_set(err, LD_E_CONFLICT, "'%s' is not a regular file", path);
    fd = open(ld_fd_path(place).path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0)
        return ld_path_error(err, -errno, root, "open", path);
    *ret_fd = ld_steal_fd(&fd);
    return 0;
}

/* ---- a directory's names ---- */

struct names {
    char **name;
    size_t n, cap;
    const char *after;
};

static void names_done(struct names *names)
{
    for (size_t i = 0; i < names->n; i++)
        free(names->name[i]);
    free(names->name);
}

static int add_name(void *arg, const char *name, unsigned char d_type)
{
    struct names *names = arg;

    (void)d_type;
    if (names->after && strcmp(name, names->after) <= 0)
        return 0;
    if (names->n == MAX_NAMES)
        return -E2BIG;
    ld_grow(&names->name, &names->cap, names->n + 1, sizeof(*names->name));
    names->name[names->n++] = ld_strdup(name);
    return 0;
}

static int by_bytes(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static int open_dir(const struct ld_files_root *root, const char *path, struct ld_err *err)
{
    autoclose int place = open_path(root, path, err);
    struct stat st;
    int fd;

    if (place < 0)
        return -1;
    if (fstat(place, &st) < 0)
        return ld_path_error(err, -errno, root, "look at", path);
    if (!S_ISDIR(st.st_mode))
        return ld_err_set(err, LD_E_CONFLICT, "'%s' is not a directory", path);
    fd = openat(place, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return fd < 0 ? ld_path_error(err, -errno, root, "open", path) : fd;
}

/* 1: gone by now. */
static int look_at(int dir, const char *name, struct ld_file_info *info)
{
    autoclose int fd = openat(dir, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);

    if (fd < 0)
        return errno == ENOENT ? 1 : -errno;
    if (fstat(fd, &info->st) < 0)
        return -errno;
    info->name = ld_strdup(name);
    return S_ISLNK(info->st.st_mode) ? read_link(fd, &info->target) : 0;
}

int ld_files_list(const struct ld_files_root *root, const char *path, const char *after,
                  ld_file_info_fn sink, void *arg, struct ld_err *err)
{
    struct names names LD_AUTO(names_done) = {.after = after};
    autoclose int dir = open_dir(root, path, err);
    int r;

    if (dir < 0)
        return -1;
    r = ld_each_name(dir, add_name, &names);
    if (r < 0)
        return ld_path_error(err, r, root, "read", path);
    if (names.n)
        qsort(names.name, names.n, sizeof(*names.name), by_bytes);
    for (size_t i = 0; i < names.n; i++) {
        struct ld_file_info info LD_AUTO(ld_file_info_done) = {.name = NULL};

        r = look_at(dir, names.name[i], &info);
        if (r < 0)
            return ld_path_error(err, r, root, "look at a name in", path);
        if (r > 0)
            continue;
        r = sink(arg, &info, err);
        if (r)
            return r < 0 ? -1 : 0; /* 1: enough */
    }
    return 0;
}

/* ---- out as tar ---- */

static int read_tree(int dir, const char *name, struct ld_tarout *out, const bool *cancel,
                     struct ld_err *err)
{
    const struct ld_layers plain = {.root = &dir, .n = 1, .form = LD_FORM_PLAIN};
    struct ld_tree *tree LD_AUTO(ld_tree_free_p) = ld_tree_new(&plain, LD_TREE_NO_LEAVE, cancel);
    struct ld_node node;
    int rc;

    while ((rc = ld_tree_next(tree, &node, err)) > 0) {
        autofree char *shown =
            *name ? ld_asprintf("%s%s%s", name, node.depth ? "/" : "", node.path + 1)
                  : ld_strdup(node.path + 1);

        if (ld_tarout_node(out, &node, shown, err) < 0)
            return -1;
    }
    return rc;
}

static int read_single(int parent, const char *name, const struct stat *st, struct ld_tarout *out,
                       struct ld_err *err)
{
    struct ld_node node = {
        .path = name, .name = name, .depth = 1, .st = *st, .dir = parent, .form = LD_FORM_PLAIN};

    return ld_tarout_node(out, &node, name, err);
}

int ld_files_read_tar(const struct ld_files_root *root, const char *path, struct ld_sink *sink,
                      const bool *cancel, struct ld_err *err)
{
    struct ld_split_path split LD_AUTO(ld_path_split_done) = {.name = NULL};
    struct ld_tarout *out LD_AUTO(ld_tarout_free_p) = NULL;
    autoclose int place = open_path(root, path, err);
    autoclose int dir = -EBADF;
    struct stat st;
    int rc;

    if (place < 0 || ld_path_split(path, &split, err) < 0)
        return -1;
    if (fstat(place, &st) < 0)
        return ld_path_error(err, -errno, root, "look at", path);
    out = ld_tarout_new(sink, cancel);
    if (S_ISDIR(st.st_mode)) {
        dir = openat(place, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        rc = dir < 0 ? ld_path_error(err, -errno, root, "open", path)
                     : read_tree(dir, split.name, out, cancel, err);
    } else {
        dir = ld_open_under(root->fd, split.parent, LD_IN_ROOT, O_PATH | O_DIRECTORY, 0);
        rc = dir < 0 ? ld_path_error(err, dir, root, "open", path)
                     : read_single(dir, split.name, &st, out, err);
    }
    return rc < 0 ? -1 : ld_tarout_finish(out, err);
}
