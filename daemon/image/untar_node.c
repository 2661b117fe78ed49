/* Files, symlinks, devices and fifos with their attributes, in the one order that keeps them all:
 * content, owner (clears set-id bits and capabilities), mode, xattrs (an ACL has the last word
 * about the mode), times.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>

#include "daemon/base/fdio.h"
#include "daemon/base/mem.h"
#include "daemon/image/untar_impl.h"

/* ---- xattrs ---- */

static bool begins(const char *name, const char *prefix)
{
    return strncmp(name, prefix, strlen(prefix)) == 0;
}

/* Linux has a place for it: others are macOS's, NFS's and the like. */
static bool is_storable(const struct ld_tar_entry *e, const char *name)
{
    if (begins(name, "security.") || begins(name, "trusted."))
        return true;
    if (begins(name, "user."))
        return e->type == LD_TAR_FILE || e->type == LD_TAR_DIR;
    if (strcmp(name, "system.posix_acl_access") == 0)
        return e->type != LD_TAR_SYMLINK;
    return strcmp(name, "system.posix_acl_default") == 0 && e->type == LD_TAR_DIR;
}

/* The kernel says "not supported" of an ACL in another form than its own, as it does where there
 * are no ACLs at all. */
static bool is_acl_form(const struct ld_tar_xattr *x)
{
    static const uint8_t version[4] = {2};

    return x->len >= sizeof(version) && memcmp(x->value, version, sizeof(version)) == 0;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct ld_xattr *)a)->name, ((const struct ld_xattr *)b)->name);
}

int ld_untar_sort_xattrs(struct ld_untar *u, struct ld_err *err)
{
    const struct ld_tar_entry *e = &u->entry;

    u->now.n = u->later.n = 0;
    for (size_t i = 0; i < e->n_xattrs; i++) {
        const struct ld_tar_xattr *x = &e->xattrs[i];
        bool is_later = begins(x->name, "trusted.") && e->type != LD_TAR_DIR;
        struct ld_xattrs *list = is_later ? &u->later : &u->now;

        if (begins(x->name, LD_XATTR_OVERLAY) && !u->job->escapes_xattrs)
            return ld_untar_refuse(u, err,
                                   "its xattr '%s' is overlay's own, and this kernel cannot show "
                                   "a file that has it",
                                   x->name);
        if (!is_storable(e, x->name)) {
            ld_warnings_add(&u->out.warnings, "entry '%.200s': xattr '%s' left out", e->name,
                            x->name);
            continue;
        }
        if (begins(x->name, "system.posix_acl_") && !is_acl_form(x))
            return ld_untar_refuse(u, err, "its xattr '%s' has no valid value", x->name);
        ld_grow(&list->item, &list->cap, list->n + 1, sizeof(*list->item));
        /* Borrowed from the entry: nobody frees or changes the items of these lists. */
        list->item[list->n++] =
            (struct ld_xattr){.name = (char *)x->name, .value = (char *)x->value, .len = x->len};
    }
    if (u->now.n > 1)
        qsort(u->now.item, u->now.n, sizeof(*u->now.item), by_name);
    if (u->later.n > 1)
        qsort(u->later.item, u->later.n, sizeof(*u->later.item), by_name);
    return 0;
}

/* ext4 says ENOSPC of xattrs that do not fit into their one block. */
static bool has_space(int fd)
{
    struct statvfs fs;

    return fstatvfs(fd, &fs) == 0 && fs.f_bavail > 16 && fs.f_favail > 0;
}

static int set_xattrs(struct ld_untar *u, int fd, struct ld_err *err)
{
    for (size_t i = 0; i < u->now.n; i++) {
        const struct ld_xattr *x = &u->now.item[i];
        int r = ld_xattr_set(fd, LD_FORM_LAYER, x->name, x->value, x->len);

        if (r == -ENOSPC && has_space(fd))
            r = -E2BIG;
        if (r == -E2BIG || r == -ERANGE || r == -EINVAL)
            return ld_untar_refuse(u, err, "its xattr '%s' (%zu bytes) %s", x->name, x->len,
                                   r == -EINVAL ? "has no valid value"
                                                : "is too large to be stored");
        if (r == -EOPNOTSUPP)
            return ld_err_set(err, LD_E_UNSUPPORTED,
                              "entry '%.200s': the file system cannot store xattr '%s'",
                              u->entry.name, x->name);
        if (r < 0)
            return ld_untar_sys(u, r, "set an xattr of", err);
    }
    return 0;
}

/* trusted.* are settle's, who finds the inode by a link of it in the aside directory. */
static int defer_xattrs(struct ld_untar *u, int dir, const char *name, struct ld_err *err)
{
    autofree char *path = ld_untar_path(u->dirs, name);
    struct ld_pending_note note = {
        .kind = LD_NOTE_XATTRS, .path = path, .number = u->entry.number, .xattrs = &u->later};
    int aside = ld_untar_aside(u, err);
    char link[24];

    if (aside < 0)
        return -1;
    (void)snprintf(link, sizeof(link), "x%" PRIu64, u->entry.number); /* 21 at most */
    if (linkat(dir, name, aside, link, 0) < 0)
        return ld_untar_sys(u, -errno, "keep a link of", err);
    return ld_pending_add(u->out.pending, &note, err);
}

/* ---- files ---- */

static int write_content(struct ld_untar *u, int fd, struct ld_err *err)
{
    struct ld_tar_piece piece;
    uint64_t end = 0;
    int r;

    while ((r = ld_tar_data(u->tar, &piece, err)) > 0) {
        if (ld_untar_is_canceled(u))
            return ld_err_set(err, LD_E_CANCELED, "unpacking was cancelled");
        u->out.bytes += piece.len;
        if (u->job->limits.max_bytes && u->out.bytes > u->job->limits.max_bytes)
            return ld_untar_over(u, err, "layer_bytes", u->job->limits.max_bytes,
                                 "the content of the layer up to here");
        r = ld_pwrite_full(fd, piece.data, piece.len, piece.offset);
        if (r < 0)
            return ld_untar_sys(u, r, "write", err);
        end = piece.offset + piece.len;
    }
    if (r == 0 && end < u->entry.size && ftruncate(fd, (off_t)u->entry.size) < 0)
        return ld_untar_sys(u, -errno, "give its size to", err);
    return r;
}

/* What open() can give at once; set-id bits would be cleared by writing and chown. */
static mode_t birth_mode(const struct ld_untar *u)
{
    return u->entry.mode & (07000 | u->masked) ? 0600 : u->entry.mode;
}

static int file_attrs(struct ld_untar *u, int fd, struct ld_err *err)
{
    const struct ld_tar_entry *e = &u->entry;
    struct timespec mtime = {.tv_sec = e->mtime_sec, .tv_nsec = e->mtime_nsec};

    if ((e->uid != u->uid || e->gid != u->gid) && fchown(fd, e->uid, e->gid) < 0)
        return ld_untar_sys(u, -errno, "set the owner of", err);
    if (birth_mode(u) != e->mode && fchmod(fd, e->mode) < 0)
        return ld_untar_sys(u, -errno, "set the mode of", err);
    if (set_xattrs(u, fd, err) < 0)
        return -1;
    if (futimens(fd, (struct timespec[]){mtime, mtime}) < 0)
        return ld_untar_sys(u, -errno, "set the times of", err);
    return 0;
}

static int make_file(struct ld_untar *u, int dir, const char *name, struct ld_err *err)
{
    const int flags = O_CREAT | O_EXCL | O_WRONLY | O_NOFOLLOW | O_CLOEXEC;
    autoclose int fd = openat(dir, name, flags, birth_mode(u));

    if (fd < 0 && errno == EEXIST) {
        if (ld_untar_replace(u, dir, name, err) < 0)
            return -1;
        fd = openat(dir, name, flags, birth_mode(u));
    }
    if (fd < 0)
        return ld_untar_sys(u, -errno, "create", err);
    if (u->entry.size > 0) {
        autofree char *path = ld_untar_path(u->dirs, name);

        if (ld_recipe_file(u->recipe, path, err) < 0 || write_content(u, fd, err) < 0)
            return -1;
    }
    return file_attrs(u, fd, err);
}

/* ---- the rest ---- */

static int create_special(const struct ld_untar *u, int dir, const char *name)
{
    const struct ld_tar_entry *e = &u->entry;
    dev_t dev = makedev(e->devmajor, e->devminor);
    int r = -1;

    if (e->type == LD_TAR_SYMLINK)
        r = symlinkat(e->linkname, dir, name);
    else if (e->type == LD_TAR_FIFO)
        r = mknodat(dir, name, S_IFIFO | 0600, 0);
    else if (e->type == LD_TAR_CHAR)
        r = mknodat(dir, name, S_IFCHR | 0600, dev);
    else if (e->type == LD_TAR_BLOCK)
        r = mknodat(dir, name, S_IFBLK | 0600, dev);
    return r < 0 ? -errno : 0;
}

static int special_attrs(struct ld_untar *u, int dir, const char *name, struct ld_err *err)
{
    const struct ld_tar_entry *e = &u->entry;
    struct timespec mtime = {.tv_sec = e->mtime_sec, .tv_nsec = e->mtime_nsec};

    if ((e->uid != u->uid || e->gid != u->gid) &&
        fchownat(dir, name, e->uid, e->gid, AT_SYMLINK_NOFOLLOW) < 0)
        return ld_untar_sys(u, -errno, "set the owner of", err);
    /* Made by us a moment ago, and no symlink: nothing is followed. */
    if (e->type != LD_TAR_SYMLINK && fchmodat(dir, name, e->mode, 0) < 0)
        return ld_untar_sys(u, -errno, "set the mode of", err);
    if (u->now.n > 0) {
        autoclose int fd = openat(dir, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);

        if (fd < 0)
            return ld_untar_sys(u, -errno, "open", err);
        if (set_xattrs(u, fd, err) < 0)
            return -1;
    }
    if (utimensat(dir, name, (struct timespec[]){mtime, mtime}, AT_SYMLINK_NOFOLLOW) < 0)
        return ld_untar_sys(u, -errno, "set the times of", err);
    return 0;
}

static int make_special(struct ld_untar *u, int dir, const char *name, struct ld_err *err)
{
    const struct ld_tar_entry *e = &u->entry;
    int r;

    if (e->type == LD_TAR_CHAR && e->devmajor == 0 && e->devminor == 0)
        return ld_untar_refuse(u, err, "a character device 0:0 is overlay's whiteout");
    /* The kernel's device numbers have 12 and 20 bits. */
    if (e->devmajor > 0xfff || e->devminor > 0xfffff)
        return ld_untar_refuse(u, err, "its device number %u:%u is out of range", e->devmajor,
                               e->devminor);
    r = create_special(u, dir, name);
    if (r == -EEXIST) {
        if (ld_untar_replace(u, dir, name, err) < 0)
            return -1;
        r = create_special(u, dir, name);
    }
    if (r < 0)
        return ld_untar_sys(u, r, "create", err);
    return special_attrs(u, dir, name, err);
}

int ld_untar_node(struct ld_untar *u, const char *name, struct ld_err *err)
{
    int dir = ld_dirs_top(u->dirs);
    int r;

    if (ld_untar_sort_xattrs(u, err) < 0)
        return -1;
    if (u->entry.type == LD_TAR_FILE)
        r = make_file(u, dir, name, err);
    else
        r = make_special(u, dir, name, err);
    if (r == 0 && u->later.n > 0)
        r = defer_xattrs(u, dir, name, err);
    return r;
}
