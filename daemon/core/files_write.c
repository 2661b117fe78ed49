/* Writing files: see files.h.
 *
 * A container may run meanwhile and change the tree under us: each entry's parent is resolved
 * anew in the root, its last component is never followed, and a file appears under its name only
 * when it is whole (O_TMPFILE, then linked; replaced by rename).
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/base/digest.h"
#include "daemon/base/fdio.h"
#include "daemon/base/mem.h"
#include "daemon/base/tree.h"
#include "daemon/core/files_priv.h"
#include "daemon/image/source.h"

enum { BLOCK = 256 << 10 };

/* ---- one file ---- */

int ld_nameless_make(int dir, char **ret_name)
{
    int fd = openat(dir, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    char random[17];

    if (fd >= 0)
        return fd;
    if (errno != EOPNOTSUPP && errno != EISDIR && errno != EINVAL && errno != ENOENT)
        return -errno;
    ld_random_hex(random, 8);
    *ret_name = ld_asprintf(".layerd-%s", random);
    fd = openat(dir, *ret_name, O_CREAT | O_EXCL | O_RDWR | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd >= 0)
        return fd;
    fd = -errno;
    ld_free_p(ret_name);
    return fd;
}

int ld_nameless_name(int dir, int fd, char **temp, const char *name)
{
    char random[17];

    if (!*temp) {
        if (linkat(AT_FDCWD, ld_fd_path(fd).path, dir, name, AT_SYMLINK_FOLLOW) == 0)
            return 0;
        if (errno != EEXIST)
            return -errno;
        ld_random_hex(random, 8);
        *temp = ld_asprintf(".layerd-%s", random);
        if (linkat(AT_FDCWD, ld_fd_path(fd).path, dir, *temp, AT_SYMLINK_FOLLOW) < 0)
            return -errno;
    }
    if (renameat(dir, *temp, dir, name) == 0) {
        ld_free_p(temp);
        return 0;
    }
    return -errno;
}

void ld_nameless_drop(int dir, char **temp)
{
    if (*temp)
        (void)unlinkat(dir, *temp, 0); /* a leftover with a telling name at worst */
    ld_free_p(temp);
}

static int copy_in(struct ld_source *from, int fd, uint64_t *bytes, struct ld_err *err)
{
    autofree char *block = ld_alloc0(BLOCK);

    for (;;) {
        ssize_t n = ld_source_read(from, block, BLOCK, err);
        int r;

        if (n <= 0)
            return (int)n;
        r = ld_write_full(fd, block, (size_t)n);
        if (r < 0)
            return ld_err_sys(err, r, "write the file");
        *bytes += (uint64_t)n;
    }
}

int ld_files_write(const struct ld_files_root *root, const char *path, struct ld_source *content,
                   const struct ld_new_file *as, struct ld_files_result *ret, struct ld_err *err)
{
    struct ld_split_path split LD_AUTO(ld_path_split_done) = {.name = NULL};
    autoclose int place = -EBADF, dir = -EBADF, fd = -EBADF;
    struct timespec times[2] = {as->mtime, as->mtime};
    autofree char *temp = NULL;
    int r;

    *ret = (struct ld_files_result){.entries = 1};
    if (ld_path_split(path, &split, err) < 0)
        return -1;
    if (!*split.name || split.wants_dir || strcmp(split.name, ".") == 0 ||
        strcmp(split.name, "..") == 0)
        return ld_err_set(err, LD_E_CONFLICT, "'%s' names a directory, not a file", path);
    place = ld_open_under(root->fd, split.parent, LD_IN_ROOT, O_PATH | O_DIRECTORY, 0);
    dir = place < 0 ? place : openat(place, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0)
        return ld_path_error(err, place < 0 ? place : -errno, root, "open", split.parent);
    fd = ld_nameless_make(dir, &temp);
    if (fd < 0)
        return ld_path_error(err, fd, root, "write", path);
    r = copy_in(content, fd, &ret->bytes, err);
    if (r == 0 &&
        (fchown(fd, as->uid, as->gid) < 0 || fchmod(fd, as->mode) < 0 || futimens(fd, times) < 0))
        r = ld_path_error(err, -errno, root, "set the attributes of", path);
    if (r == 0) {
        r = ld_fsync(fd); /* before it has its name: a crash leaves the old content or the new */
        if (r == 0)
            r = ld_nameless_name(dir, fd, &temp, split.name);
        if (r == 0)
            r = ld_fsync(dir);
        if (r < 0)
            r = ld_path_error(err, r, root, "write", path);
    }
    ld_nameless_drop(dir, &temp);
    return r;
}

/* ---- delete ---- */

int ld_files_delete(const struct ld_files_root *root, const char *path, bool recursive,
                    const bool *cancel, struct ld_err *err)
{
    struct ld_split_path split LD_AUTO(ld_path_split_done) = {.name = NULL};
    autoclose int place = -EBADF, dir = -EBADF;
    struct stat st;
    int r;

    if (ld_path_split(path, &split, err) < 0)
        return -1;
    if (!*split.name || strcmp(split.name, ".") == 0 || strcmp(split.name, "..") == 0)
        return ld_err_set(err, LD_E_INVALID, "'%s' can't be deleted", path);
    place = ld_open_under(root->fd, split.parent, LD_IN_ROOT, O_PATH | O_DIRECTORY, 0);
    dir = place < 0 ? place : openat(place, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0)
        return ld_path_error(err, place < 0 ? place : -errno, root, "open", split.parent);
    if (fstatat(dir, split.name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return ld_path_error(err, -errno, root, "look at", path);
    if (split.wants_dir && !S_ISDIR(st.st_mode))
        return ld_path_error(err, -ENOTDIR, root, "delete", path);
    if (!S_ISDIR(st.st_mode))
        r = unlinkat(dir, split.name, 0) < 0 ? -errno : 0;
    else if (recursive)
        r = ld_remove_tree(dir, split.name, cancel);
    else
        r = unlinkat(dir, split.name, AT_REMOVEDIR) < 0 ? -errno : 0;
    if (r == 0)
        r = ld_fsync(dir);
    return r < 0 ? ld_path_error(err, r, root, "delete", path) : 0;
}
