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
#include <sys/sysmacros.h>
#include <unistd.h>

#include "daemon/base/digest.h"
#include "daemon/base/fdio.h"
#include "daemon/base/mem.h"
#include "daemon/base/tree.h"
#include "daemon/core/files_priv.h"
#include "daemon/image/source.h"
#include "daemon/image/tar.h"
#include "daemon/jobs/lane.h"

enum { MAX_DIRS = 65536, BLOCK = 256 << 10 };

/* ---- one file ---- */

/* A file without a name in `dir`, or with a random one where there is no O_TMPFILE (*ret_name,
 * free). */
static int make_nameless(int dir, char **ret_name)
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

/* Gives the whole file its name; what has it now, unless a directory, is replaced at once. */
static int give_name(int dir, int fd, char **temp, const char *name)
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

static void drop_temp(int dir, char **temp)
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
    fd = make_nameless(dir, &temp);
    if (fd < 0)
        return ld_path_error(err, fd, root, "write", path);
    r = copy_in(content, fd, &ret->bytes, err);
    if (r == 0 &&
        (fchown(fd, as->uid, as->gid) < 0 || fchmod(fd, as->mode) < 0 || futimens(fd, times) < 0))
        r = ld_path_error(err, -errno, root, "set the attributes of", path);
    if (r == 0) {
        r = ld_fsync(fd); /* before it has its name: a crash leaves the old content or the new */
        if (r == 0)
            r = give_name(dir, fd, &temp, split.name);
        if (r == 0)
            r = ld_fsync(dir);
        if (r < 0)
            r = ld_path_error(err, r, root, "write", path);
    }
    drop_temp(dir, &temp);
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

/* ---- a tar ---- */

/* A directory of the archive: its attributes come after all that is in it. */
struct late {
    char *path;
    struct stat st;
    struct ld_xattrs xattrs;
};

struct unpack {
    const struct ld_files_root *root;
    char *base; /* the directory, absolute, without '/' at the end */
    struct late *late;
    size_t n_late, cap_late;
    const bool *cancel;
    struct ld_files_result *result;
};

static void unpack_done(struct unpack *u)
{
    for (size_t i = 0; i < u->n_late; i++) {
        free(u->late[i].path);
        ld_xattrs_done(&u->late[i].xattrs);
    }
    free(u->late);
    free(u->base);
}

static int refuse(struct ld_err *err, const char *entry, const char *why)
{
    return ld_err_set(err, LD_E_BAD_CONTENT, "entry '%s': %s", entry, why);
}

/* "./a//b/" becomes "a/b"; ".." is refused, "" is the directory itself. */
static int clean(const char *name, char **ret, struct ld_err *err)
{
    autofree char *out = ld_alloc0(strlen(name) + 1);
    size_t len = 0;

    for (const char *p = name; *p;) {
        size_t n;

        p += strspn(p, "/");
        n = strcspn(p, "/");
        if (n == 2 && p[0] == '.' && p[1] == '.')
            return refuse(err, name, "'..' leads out of the directory");
        if (n > NAME_MAX)
            return refuse(err, name, "a name in it has more than 255 bytes");
        if (n > 0 && !(n == 1 && p[0] == '.')) {
            if (len)
                out[len++] = '/';
            memcpy(out + len, p, n);
            len += n;
        }
        p += n;
    }
    *ret = ld_steal(&out);
    return 0;
}

/* The parent of base/name, missing directories made. Symlinks in it are followed inside the root.
 */
static int open_parent(const struct unpack *u, const char *name, const char **ret_last)
{
    const char *slash = strrchr(name, '/');
    size_t len = slash ? (size_t)(slash - name) : 0;

    *ret_last = slash ? slash + 1 : name;
    for (size_t at = 0;; at++) {
        autofree char *path = NULL;
        autoclose int fd = -EBADF;

        while (at < len && name[at] != '/')
            at++;
        path = ld_asprintf("%s/%.*s", u->base, (int)at, name);
        fd = ld_open_under(u->root->fd, path, LD_IN_ROOT, O_PATH | O_DIRECTORY, 0);
        if (fd == -ENOENT && at > 0) {
            char *last = strrchr(path, '/');
            autoclose int parent = -EBADF;
            int made;

            *last = '\0';
            parent =
                ld_open_under(u->root->fd, *path ? path : "/", LD_IN_ROOT, O_PATH | O_DIRECTORY, 0);
            made = parent < 0 ? parent : ld_make_dir(parent, last + 1, 0755);
            *last = '/';
            ld_close(made);
            fd = made < 0 ? made
                          : ld_open_under(u->root->fd, path, LD_IN_ROOT, O_PATH | O_DIRECTORY, 0);
        }
        if (fd < 0)
            return fd;
        if (at >= len) {
            int dir = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

            return dir < 0 ? -errno : dir;
        }
    }
}

static void to_stat(const struct ld_tar_entry *e, struct stat *st)
{
    *st = (struct stat){.st_mode = e->mode,
                        .st_uid = e->uid,
                        .st_gid = e->gid,
                        .st_mtim = {.tv_sec = e->mtime_sec, .tv_nsec = e->mtime_nsec}};
    st->st_atim = st->st_mtim;
    switch (e->type) {
    case LD_TAR_DIR:
        st->st_mode |= S_IFDIR;
        break;
    case LD_TAR_SYMLINK:
        st->st_mode |= S_IFLNK;
        break;
    case LD_TAR_CHAR:
        st->st_mode |= S_IFCHR;
        break;
    case LD_TAR_BLOCK:
        st->st_mode |= S_IFBLK;
        break;
    case LD_TAR_FIFO:
        st->st_mode |= S_IFIFO;
        break;
    case LD_TAR_FILE:
    case LD_TAR_HARDLINK:
        st->st_mode |= S_IFREG;
        break;
    }
}

/* Borrows from the entry. */
static void to_xattrs(const struct ld_tar_entry *e, struct ld_xattrs *ret)
{
    ret->item = ld_alloc0((e->n_xattrs + 1) * sizeof(*ret->item));
    ret->n = 0;
    for (size_t i = 0; i < e->n_xattrs; i++) {
        if (strncmp(e->xattrs[i].name, "trusted.", 8) == 0)
            continue; /* overlay's marks are not for a container to set */
        ret->item[ret->n++] =
            (struct ld_xattr){.name = ld_strdup(e->xattrs[i].name),
                              .value = ld_memdup(e->xattrs[i].value, e->xattrs[i].len),
                              .len = e->xattrs[i].len};
    }
    ret->cap = e->n_xattrs + 1;
}

static int set_attrs(int fd, const struct ld_tar_entry *e)
{
    struct ld_xattrs xattrs LD_AUTO(ld_xattrs_done) = {.n = 0};
    struct stat st;

    to_stat(e, &st);
    to_xattrs(e, &xattrs);
    return ld_attrs_set(fd, LD_FORM_PLAIN, &st, &xattrs);
}

static int put_file(struct unpack *u, struct ld_tar *tar, const struct ld_tar_entry *e, int dir,
                    const char *last, struct ld_err *err)
{
    autofree char *temp = NULL;
    autoclose int fd = make_nameless(dir, &temp);
    struct ld_tar_piece piece;
    int rc = 0, r = fd < 0 ? fd : 0;

    while (r == 0 && (rc = ld_tar_data(tar, &piece, err)) > 0) {
        r = ld_flag_is_set(u->cancel) ? -ECANCELED
                                      : ld_pwrite_full(fd, piece.data, piece.len, piece.offset);
        u->result->bytes += piece.len;
    }
    if (rc < 0) {
        drop_temp(dir, &temp);
        return -1;
    }
    if (r == 0 && ftruncate(fd, (off_t)e->size) < 0)
        r = -errno;
    if (r == 0)
        r = set_attrs(fd, e);
    if (r == 0)
        r = give_name(dir, fd, &temp, last);
    drop_temp(dir, &temp);
    return r < 0 ? ld_path_error(err, r, u->root, "write", e->name) : 0;
}

/* What is there under the name and is no directory makes room. */
static int make_room(int dir, const char *last)
{
    return unlinkat(dir, last, 0) < 0 && errno != ENOENT ? -errno : 0;
}

static int put_special(const struct ld_tar_entry *e, int dir, const char *last)
{
    autoclose int fd = -EBADF;
    struct stat st;
    int r = make_room(dir, last);

    to_stat(e, &st);
    if (r == 0 && e->type == LD_TAR_SYMLINK)
        r = symlinkat(e->linkname, dir, last) < 0 ? -errno : 0;
    else if (r == 0)
        r = mknodat(dir, last, (st.st_mode & S_IFMT) | 0600, makedev(e->devmajor, e->devminor)) < 0
                ? -errno
                : 0;
    if (r < 0)
        return r;
    fd = openat(dir, last, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    return fd < 0 ? -errno : set_attrs(fd, e);
}

static int put_hardlink(const struct unpack *u, const struct ld_tar_entry *e, int dir,
                        const char *last, struct ld_err *err)
{
    autofree char *target = NULL;
    const char *target_last;
    autoclose int from = -EBADF, fd = -EBADF;
    struct stat st;
    int r;

    if (clean(e->linkname, &target, err) < 0)
        return -1;
    from = open_parent(u, target, &target_last);
    fd = from < 0 ? from : openat(from, target_last, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) < 0 || S_ISDIR(st.st_mode))
        return refuse(err, e->name, "the target of the hard link is missing or a directory");
    r = make_room(dir, last);
    if (r == 0 && linkat(from, target_last, dir, last, 0) < 0)
        r = -errno;
    return r < 0 ? ld_path_error(err, r, u->root, "link", e->name) : 0;
}

static int put_dir(struct unpack *u, const struct ld_tar_entry *e, const char *name, int dir,
                   const char *last, struct ld_err *err)
{
    struct late *late;
    int fd = ld_make_dir(dir, last, 0700);
    int r = fd < 0 && fd != -EEXIST ? fd : 0;

    ld_close(fd);
    if (fd == -EEXIST) {
        struct stat st;

        autofree char *path = ld_asprintf("%s/%s", u->base, name);
        autoclose int there = ld_open_under(u->root->fd, path, LD_IN_ROOT, O_PATH | O_DIRECTORY, 0);

        /* A symlink to a directory stays, as `tar -h` of docker cp does; anything else must be one.
         */
        if (there < 0)
            return ld_err_set(err, LD_E_CONFLICT,
                              "entry '%s' is a directory, what the %s has there is not", e->name,
                              u->root->what);
        if (fstatat(dir, last, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISLNK(st.st_mode))
            return 0;
    }
    if (r < 0)
        return ld_path_error(err, r, u->root, "make", e->name);
    if (u->n_late == MAX_DIRS)
        return refuse(err, e->name, "more than 65536 directories");
    ld_grow(&u->late, &u->cap_late, u->n_late + 1, sizeof(*u->late));
    late = &u->late[u->n_late++];
    late->path = ld_strdup(name);
    to_stat(e, &late->st);
    to_xattrs(e, &late->xattrs);
    return 0;
}

static int put_entry(struct unpack *u, struct ld_tar *tar, const struct ld_tar_entry *e,
                     struct ld_err *err)
{
    autofree char *name = NULL;
    const char *last;
    autoclose int dir = -EBADF;
    int r;

    if (clean(e->name, &name, err) < 0)
        return -1;
    if (!*name)
        return 0; /* the directory itself keeps its attributes */
    dir = open_parent(u, name, &last);
    if (dir < 0)
        return ld_path_error(err, dir, u->root, "open the directory of", e->name);
    u->result->entries++;
    switch (e->type) {
    case LD_TAR_DIR:
        return put_dir(u, e, name, dir, last, err);
    case LD_TAR_FILE:
        return put_file(u, tar, e, dir, last, err);
    case LD_TAR_HARDLINK:
        return put_hardlink(u, e, dir, last, err);
    case LD_TAR_SYMLINK:
    case LD_TAR_CHAR:
    case LD_TAR_BLOCK:
    case LD_TAR_FIFO:
        break;
    }
    r = put_special(e, dir, last);
    return r < 0 ? ld_path_error(err, r, u->root, "make", e->name) : 0;
}

static int finish_dirs(const struct unpack *u, struct ld_err *err)
{
    for (size_t i = u->n_late; i-- > 0;) {
        const struct late *late = &u->late[i];
        const char *last;
        autoclose int dir = open_parent(u, late->path, &last);
        autoclose int fd =
            dir < 0 ? dir : openat(dir, last, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        int r;

        if (fd < 0)
            continue; /* moved away by the container meanwhile */
        r = ld_attrs_set(fd, LD_FORM_PLAIN, &late->st, &late->xattrs);
        if (r < 0)
            return ld_path_error(err, r, u->root, "set the attributes of", late->path);
    }
    return 0;
}

int ld_files_write_tar(const struct ld_files_root *root, const char *path, struct ld_source *source,
                       const bool *cancel, struct ld_files_result *ret, struct ld_err *err)
{
    struct ld_split_path split LD_AUTO(ld_path_split_done) = {.name = NULL};
    struct unpack u LD_AUTO(unpack_done) = {.root = root, .cancel = cancel, .result = ret};
    static const struct ld_tar_limits limits = {0}; /* tar's own; the spool bounds the rest */
    auto_tar *tar = ld_tar_new(source, &limits, NULL);
    autoclose int base = -EBADF;
    struct ld_tar_entry e;
    size_t len = strlen(path);
    int rc;

    *ret = (struct ld_files_result){.entries = 0};
    if (ld_path_split(path, &split, err) < 0)
        return -1;
    base = ld_open_under(root->fd, path, LD_IN_ROOT, O_PATH, 0);
    if (base < 0)
        return ld_path_error(err, base, root, "open", path);
    ld_close_p(&base);
    base = ld_open_under(root->fd, path, LD_IN_ROOT, O_RDONLY | O_DIRECTORY, 0);
    if (base == -ENOTDIR)
        return ld_err_set(err, LD_E_CONFLICT, "'%s' is not a directory", path);
    if (base < 0)
        return ld_path_error(err, base, root, "open", path);
    while (len > 0 && path[len - 1] == '/')
        len--;
    u.base = ld_strndup(path, len);
    while ((rc = ld_tar_next(tar, &e, err)) > 0) {
        if (ld_flag_is_set(cancel))
            return ld_err_set(err, LD_E_CANCELED, "cancelled");
        if (put_entry(&u, tar, &e, err) < 0)
            return -1;
    }
    if (rc < 0 || finish_dirs(&u, err) < 0)
        return -1;
    rc = ld_syncfs(base);
    return rc < 0 ? ld_path_error(err, rc, root, "write", path) : 0;
}
