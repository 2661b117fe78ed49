/* Unpacking a tar into a tree: see files.h.
 *
 * A container may run meanwhile and change the tree under us: each directory is resolved in the
 * root, the last component of an entry is never followed, and a file appears under its name only
 * when it is whole. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "daemon/base/fdio.h"
#include "daemon/base/mem.h"
#include "daemon/base/tree.h"
#include "daemon/core/files_priv.h"
#include "daemon/image/dirs.h"
#include "daemon/image/source.h"
#include "daemon/image/tar.h"
#include "daemon/jobs/lane.h"

enum { MAX_DIRS = 65536 };

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
    unsigned flags;
    const bool *cancel;
    struct ld_files_result *result;
    char *parent; /* the directory of the entry before, below the base: most have it in common */
    int parent_fd;
};

static void unpack_done(struct unpack *u)
{
    for (size_t i = 0; i < u->n_late; i++) {
        free(u->late[i].path);
        ld_xattrs_done(&u->late[i].xattrs);
    }
    free(u->late);
    free(u->base);
    free(u->parent);
    ld_close(u->parent_fd);
}

static int refuse(struct ld_err *err, const char *entry, const char *why)
{
    return ld_err_set(err, LD_E_BAD_CONTENT, "entry '%s': %s", entry, why);
}

/* "./a//b/" becomes "a/b"; ".." is refused, "" is the directory itself. */
static int clean(const char *name, unsigned flags, char **ret, struct ld_err *err)
{
    autofree char *out = ld_alloc0(strlen(name) + 1);
    size_t len = 0, depth = 0;

    for (const char *p = name; *p;) {
        size_t n;

        p += strspn(p, "/");
        n = strcspn(p, "/");
        if (n == 2 && p[0] == '.' && p[1] == '.')
            return refuse(err, name, "'..' leads out of the directory");
        if (n > NAME_MAX)
            return refuse(err, name, "a name in it has more than 255 bytes");
        if (n > 0 && !(n == 1 && p[0] == '.')) {
            if (++depth > LD_MAX_TREE_DEPTH && flags & LD_UNPACK_STRICT)
                return refuse(err, name, "its path is deeper than 128 directories");
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

/* What the archive alone tells of an entry; *ret is its clean name. */
static int admit(const struct ld_tar_entry *e, unsigned flags, char **ret, struct ld_err *err)
{
    autofree char *name = NULL, *target = NULL;

    if (clean(e->name, flags, &name, err) < 0 ||
        (e->type == LD_TAR_HARDLINK && clean(e->linkname, flags, &target, err) < 0))
        return -1;
    if (flags & LD_UNPACK_STRICT) {
        if (e->name[0] == '/' && *name)
            return refuse(err, e->name, "its path is absolute");
        if (!*name && e->type != LD_TAR_DIR)
            return refuse(err, e->name, "it takes the place of the directory itself");
        if (e->type == LD_TAR_CHAR && e->devmajor == 0 && e->devminor == 0)
            return refuse(err, e->name, "a character device 0:0 is overlay's whiteout");
    }
    *ret = ld_steal(&name);
    return 0;
}

/* The directory base/name[0, len), missing ones made. Symlinks in it are followed inside the root.
 */
static int open_dirs(const struct unpack *u, const char *name, size_t len)
{
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

/* The parent of base/name, borrowed. No entry puts anything in the place of a directory, so the one
 * before has the same directory by the same name; what the container has moved meanwhile is still
 * inside the root. */
static int open_parent(struct unpack *u, const char *name, const char **ret_last)
{
    const char *slash = strrchr(name, '/');
    size_t len = slash ? (size_t)(slash - name) : 0;
    int fd;

    *ret_last = slash ? slash + 1 : name;
    if (u->parent && strlen(u->parent) == len && memcmp(u->parent, name, len) == 0)
        return u->parent_fd;
    fd = open_dirs(u, name, len);
    if (fd < 0)
        return fd;
    ld_close_p(&u->parent_fd);
    free(u->parent);
    u->parent = ld_strndup(name, len);
    u->parent_fd = fd;
    return fd;
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
    autoclose int fd = ld_nameless_make(dir, &temp);
    struct ld_tar_piece piece;
    int rc = 0, r = fd < 0 ? fd : 0;

    while (r == 0 && (rc = ld_tar_data(tar, &piece, err)) > 0) {
        r = ld_flag_is_set(u->cancel) ? -ECANCELED
                                      : ld_pwrite_full(fd, piece.data, piece.len, piece.offset);
        u->result->bytes += piece.len;
    }
    if (rc < 0) {
        ld_nameless_drop(dir, &temp);
        return -1;
    }
    if (r == 0 && ftruncate(fd, (off_t)e->size) < 0)
        r = -errno;
    if (r == 0)
        r = set_attrs(fd, e);
    if (r == 0)
        r = ld_nameless_name(dir, fd, &temp, last);
    ld_nameless_drop(dir, &temp);
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
    const char *slash, *target_last;
    autoclose int from = -EBADF, fd = -EBADF;
    struct stat st;
    int r;

    if (clean(e->linkname, u->flags, &target, err) < 0)
        return -1;
    slash = strrchr(target, '/');
    target_last = slash ? slash + 1 : target;
    from = open_dirs(u, target, slash ? (size_t)(slash - target) : 0);
    fd = from < 0 ? from : openat(from, target_last, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) < 0 || S_ISDIR(st.st_mode))
        return refuse(err, e->name, "the target of the hard link is missing or a directory");
    r = make_room(dir, last);
    if (r == 0 && linkat(from, target_last, dir, last, 0) < 0)
        r = -errno;
    return r < 0 ? ld_path_error(err, r, u->root, "link", e->name) : 0;
}

/* The attributes come last. */
static int add_late(struct unpack *u, const struct ld_tar_entry *e, const char *name,
                    struct ld_err *err)
{
    struct late *late;

    if (u->n_late == MAX_DIRS && u->flags & LD_UNPACK_ANY_DIRS) {
        u->result->dirs_left = true;
        return 0;
    }
    if (u->n_late == MAX_DIRS)
        return refuse(err, e->name, "more than 65536 directories");
    ld_grow(&u->late, &u->cap_late, u->n_late + 1, sizeof(*u->late));
    late = &u->late[u->n_late++];
    late->path = ld_strdup(name);
    to_stat(e, &late->st);
    to_xattrs(e, &late->xattrs);
    return 0;
}

static int put_dir(struct unpack *u, const struct ld_tar_entry *e, const char *name, int dir,
                   const char *last, struct ld_err *err)
{
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
    return add_late(u, e, name, err);
}

static int put_named(struct unpack *u, struct ld_tar *tar, const struct ld_tar_entry *e,
                     const char *name, struct ld_err *err)
{
    const char *last;
    int dir = open_parent(u, name, &last);
    int r;

    if (dir < 0)
        return ld_path_error(err, dir, u->root, "open the directory of", e->name);
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

static int put_entry(struct unpack *u, struct ld_tar *tar, const struct ld_tar_entry *e,
                     struct ld_err *err)
{
    autofree char *name = NULL;

    if (admit(e, u->flags, &name, err) < 0)
        return -1;
    if (!*name) /* the directory itself keeps its attributes, unless they are asked for */
        return u->flags & LD_UNPACK_SELF && e->type == LD_TAR_DIR ? add_late(u, e, name, err) : 0;
    if (put_named(u, tar, e, name, err) < 0)
        return -1;
    u->result->entries++;
    return 0;
}

/* A directory that is none any more (moved away by the container meanwhile) is passed over. */
static int finish_dir(struct unpack *u, const char *name, const struct stat *st,
                      const struct ld_xattrs *xattrs, struct ld_err *err)
{
    const char *last;
    int dir = open_parent(u, name, &last);
    autoclose int fd =
        dir < 0 ? dir
                : openat(dir, *last ? last : ".", O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    int r = fd < 0 ? 0 : ld_attrs_set(fd, LD_FORM_PLAIN, st, xattrs);

    return r < 0 ? ld_path_error(err, r, u->root, "set the attributes of", name) : 0;
}

static int finish_dirs(struct unpack *u, struct ld_err *err)
{
    for (size_t i = u->n_late; i-- > 0;) {
        const struct late *late = &u->late[i];

        if (finish_dir(u, late->path, &late->st, &late->xattrs, err) < 0)
            return -1;
    }
    return 0;
}

/* The same from the archive, when there were too many to keep. */
static int finish_entry(struct unpack *u, const struct ld_tar_entry *e, struct ld_err *err)
{
    struct ld_xattrs xattrs LD_AUTO(ld_xattrs_done) = {.n = 0};
    autofree char *name = NULL;
    struct stat st;

    if (e->type != LD_TAR_DIR)
        return 0;
    if (admit(e, u->flags, &name, err) < 0)
        return -1;
    if (!*name && !(u->flags & LD_UNPACK_SELF))
        return 0;
    to_stat(e, &st);
    to_xattrs(e, &xattrs);
    return finish_dir(u, name, &st, &xattrs, err);
}

/* Opens the directory that is unpacked into, for its syncfs. */
static int begin(struct unpack *u, const char *path, int *ret_base, struct ld_err *err)
{
    struct ld_split_path split LD_AUTO(ld_path_split_done) = {.name = NULL};
    autoclose int place = -EBADF;
    size_t len = strlen(path);
    int base;

    if (ld_path_split(path, &split, err) < 0)
        return -1;
    place = ld_open_under(u->root->fd, path, LD_IN_ROOT, O_PATH, 0);
    if (place < 0)
        return ld_path_error(err, place, u->root, "open", path);
    base = ld_open_under(u->root->fd, path, LD_IN_ROOT, O_RDONLY | O_DIRECTORY, 0);
    if (base == -ENOTDIR)
        return ld_err_set(err, LD_E_CONFLICT, "'%s' is not a directory", path);
    if (base < 0)
        return ld_path_error(err, base, u->root, "open", path);
    while (len > 0 && path[len - 1] == '/')
        len--;
    u->base = ld_strndup(path, len);
    *ret_base = base;
    return 0;
}

static int each_entry(struct ld_source *source, const bool *cancel,
                      int (*fn)(void *arg, struct ld_tar *tar, const struct ld_tar_entry *e,
                                struct ld_err *err),
                      void *arg, struct ld_err *err)
{
    static const struct ld_tar_limits limits = {0}; /* tar's own; the spool bounds the rest */
    auto_tar *tar = ld_tar_new(source, &limits, NULL);
    struct ld_tar_entry e;
    int rc;

    while ((rc = ld_tar_next(tar, &e, err)) > 0) {
        if (ld_flag_is_set(cancel))
            return ld_err_set(err, LD_E_CANCELED, "cancelled");
        if (fn(arg, tar, &e, err) < 0)
            return -1;
    }
    return rc;
}

static int on_put(void *arg, struct ld_tar *tar, const struct ld_tar_entry *e, struct ld_err *err)
{
    return put_entry(arg, tar, e, err);
}

static int on_finish(void *arg, struct ld_tar *tar, const struct ld_tar_entry *e,
                     struct ld_err *err)
{
    (void)tar;
    return finish_entry(arg, e, err);
}

static int on_check(void *arg, struct ld_tar *tar, const struct ld_tar_entry *e, struct ld_err *err)
{
    autofree char *name = NULL;

    (void)tar;
    return admit(e, *(const unsigned *)arg, &name, err);
}

int ld_files_write_tar(const struct ld_files_root *root, const char *path, struct ld_source *source,
                       unsigned flags, const bool *cancel, struct ld_files_result *ret,
                       struct ld_err *err)
{
    struct unpack u LD_AUTO(unpack_done) = {
        .root = root, .flags = flags, .cancel = cancel, .result = ret, .parent_fd = -EBADF};
    autoclose int base = -EBADF;
    int r;

    *ret = (struct ld_files_result){.entries = 0};
    if (begin(&u, path, &base, err) < 0 || each_entry(source, cancel, on_put, &u, err) < 0 ||
        (!ret->dirs_left && finish_dirs(&u, err) < 0))
        return -1;
    r = ld_syncfs(base);
    return r < 0 ? ld_path_error(err, r, root, "write", path) : 0;
}

int ld_files_finish_tar(const struct ld_files_root *root, const char *path,
                        struct ld_source *source, unsigned flags, const bool *cancel,
                        struct ld_err *err)
{
    struct unpack u LD_AUTO(unpack_done) = {
        .root = root, .flags = flags, .cancel = cancel, .parent_fd = -EBADF};
    autoclose int base = -EBADF;
    int r;

    if (begin(&u, path, &base, err) < 0 || each_entry(source, cancel, on_finish, &u, err) < 0)
        return -1;
    r = ld_syncfs(base);
    return r < 0 ? ld_path_error(err, r, root, "write", path) : 0;
}

int ld_files_check_tar(struct ld_source *source, unsigned flags, const bool *cancel,
                       struct ld_err *err)
{
    return each_entry(source, cancel, on_check, &flags, err);
}
