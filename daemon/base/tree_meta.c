/* Attributes of one node by its descriptor, and overlay's marks: see tree.h.
 *
 * Descriptors may be O_PATH, and of symlinks: the xattr calls refuse those, but follow
 * /proc/self/fd/N to exactly the object (a symlink behind it is not followed any further). No
 * state, any thread.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "daemon/base/fdio.h"
#include "daemon/base/mem.h"
#include "daemon/base/tree.h"

static const char mark_prefix[] = LD_XATTR_OVERLAY;
static const char escape_prefix[] = LD_XATTR_OVERLAY "overlay.";
static const char opaque_name[] = LD_XATTR_OVERLAY "opaque";

enum {
    PREFIX_LEN = sizeof(mark_prefix) - 1,
    ESCAPE_LEN = sizeof(escape_prefix) - 1,
    NAMES_MAX = 1 << 16, /* XATTR_LIST_MAX and XATTR_SIZE_MAX of the kernel */
    VALUE_MAX = 1 << 16,
    TOTAL_MAX = 8 << 20,
    READ_TRIES = 8,
};

static ssize_t list_names(int fd, char *list, size_t size)
{
    ssize_t len = flistxattr(fd, list, size);

    return len < 0 && errno == EBADF ? listxattr(ld_fd_path(fd).path, list, size) : len;
}

static ssize_t get_value(int fd, const char *name, void *value, size_t size)
{
    ssize_t len = fgetxattr(fd, name, value, size);

    return len < 0 && errno == EBADF ? getxattr(ld_fd_path(fd).path, name, value, size) : len;
}

static int set_value(int fd, const char *name, const void *value, size_t size)
{
    int r = fsetxattr(fd, name, value, size, 0);

    return r < 0 && errno == EBADF ? setxattr(ld_fd_path(fd).path, name, value, size, 0) : r;
}

static int remove_value(int fd, const char *name)
{
    int r = fremovexattr(fd, name);

    return r < 0 && errno == EBADF ? removexattr(ld_fd_path(fd).path, name) : r;
}

static int set_mode(int fd, mode_t mode)
{
    int r = fchmod(fd, mode);

    return r < 0 && errno == EBADF ? chmod(ld_fd_path(fd).path, mode) : r;
}

/* The name the tree shows for a stored one, free it; NULL: a mark, not shown. */
static char *shown_name(enum ld_form form, const char *stored)
{
    if (form == LD_FORM_PLAIN || strncmp(stored, mark_prefix, PREFIX_LEN) != 0)
        return ld_strdup(stored);
    if (strncmp(stored, escape_prefix, ESCAPE_LEN) == 0)
        return ld_asprintf("%s%s", mark_prefix, stored + ESCAPE_LEN);
    return NULL;
}

static char *stored_name(enum ld_form form, const char *shown)
{
    if (form == LD_FORM_PLAIN || strncmp(shown, mark_prefix, PREFIX_LEN) != 0)
        return ld_strdup(shown);
    return ld_asprintf("%s%s", escape_prefix, shown + PREFIX_LEN);
}

/* All stored names, each with its NUL, in *ret (NULL when there are none). Returns their length or
 * -errno. The list may grow between asking for its size and reading it: then again. */
static ssize_t read_names(int fd, char **ret)
{
    for (int tries = 0; tries < READ_TRIES; tries++) {
        autofree char *list = NULL;
        ssize_t len = list_names(fd, NULL, 0);

        if (len == 0 || (len < 0 && errno == EOPNOTSUPP))
            return 0;
        if (len < 0)
            return -errno;
        list = ld_try_alloc((size_t)len + 1, NAMES_MAX + 1);
        if (!list)
            return -errno;
        len = list_names(fd, list, (size_t)len);
        if (len < 0 && errno == ERANGE)
            continue;
        if (len < 0)
            return -errno;
        *ret = ld_steal(&list);
        return len;
    }
    return -EAGAIN;
}

/* Returns the length or -errno; -ENODATA: it is gone. */
static ssize_t read_value(int fd, const char *name, char **ret)
{
    for (int tries = 0; tries < READ_TRIES; tries++) {
        autofree char *value = NULL;
        ssize_t len = get_value(fd, name, NULL, 0);

        if (len < 0)
            return -errno;
        value = ld_try_alloc((size_t)len + 1, VALUE_MAX + 1);
        if (!value)
            return -errno;
        if (len > 0)
            len = get_value(fd, name, value, (size_t)len);
        if (len < 0 && errno == ERANGE)
            continue;
        if (len < 0)
            return -errno;
        *ret = ld_steal(&value);
        return len;
    }
    return -EAGAIN;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct ld_xattr *)a)->name, ((const struct ld_xattr *)b)->name);
}

/* Adds the stored xattr unless it is a mark or gone. */
static int add_one(int fd, enum ld_form form, const char *stored, size_t *total,
                   struct ld_xattrs *x)
{
    autofree char *name = shown_name(form, stored);
    autofree char *value = NULL;
    ssize_t len;

    if (!name)
        return 0;
    len = read_value(fd, stored, &value);
    if (len == -ENODATA)
        return 0;
    if (len < 0)
        return (int)len;
    *total += (size_t)len;
    if (*total > TOTAL_MAX)
        return -E2BIG;
    ld_grow(&x->item, &x->cap, x->n + 1, sizeof(*x->item));
    x->item[x->n++] =
        (struct ld_xattr){.name = ld_steal(&name), .value = ld_steal(&value), .len = (size_t)len};
    return 0;
}

int ld_xattrs_get(int fd, enum ld_form form, struct ld_xattrs *ret)
{
    LD_AUTO(ld_xattrs_done) struct ld_xattrs x = {.n = 0};
    autofree char *names = NULL;
    ssize_t len = read_names(fd, &names);
    size_t total = 0;

    if (!names)
        return (int)len;
    for (ssize_t at = 0; at < len; at += (ssize_t)strlen(names + at) + 1) {
        int r = add_one(fd, form, names + at, &total, &x);

        if (r < 0)
            return r;
    }
    if (x.n > 1)
        qsort(x.item, x.n, sizeof(*x.item), by_name);
    *ret = ld_steal(&x);
    return 0;
}

int ld_xattr_set(int fd, enum ld_form form, const char *name, const void *value, size_t len)
{
    autofree char *stored = stored_name(form, name);

    return set_value(fd, stored, value, len) < 0 ? -errno : 0;
}

int ld_xattrs_set(int fd, enum ld_form form, const struct ld_xattrs *xattrs)
{
    for (size_t i = 0; i < xattrs->n; i++) {
        const struct ld_xattr *x = &xattrs->item[i];
        int r = ld_xattr_set(fd, form, x->name, x->value, x->len);

        if (r < 0)
            return r;
    }
    return 0;
}

int ld_xattrs_clear(int fd, enum ld_form form)
{
    autofree char *names = NULL;
    ssize_t len = read_names(fd, &names);

    if (!names)
        return (int)len;
    for (ssize_t at = 0; at < len; at += (ssize_t)strlen(names + at) + 1) {
        autofree char *shown = shown_name(form, names + at);

        if (shown && remove_value(fd, names + at) < 0 && errno != ENODATA)
            return -errno;
    }
    return 0;
}

bool ld_xattrs_equal(const struct ld_xattrs *a, const struct ld_xattrs *b)
{
    if (a->n != b->n)
        return false;
    for (size_t i = 0; i < a->n; i++) {
        const struct ld_xattr *x = &a->item[i], *y = &b->item[i];

        if (strcmp(x->name, y->name) != 0 || x->len != y->len ||
            memcmp(x->value, y->value, x->len) != 0)
            return false;
    }
    return true;
}

void ld_xattrs_done(struct ld_xattrs *xattrs)
{
    for (size_t i = 0; i < xattrs->n; i++) {
        free(xattrs->item[i].name);
        free(xattrs->item[i].value);
    }
    free(xattrs->item);
    *xattrs = (struct ld_xattrs){.n = 0};
}

int ld_attrs_set(int fd, enum ld_form form, const struct stat *st, const struct ld_xattrs *xattrs)
{
    struct timespec times[2] = {st->st_atim, st->st_mtim};

    if (fchownat(fd, "", st->st_uid, st->st_gid, AT_EMPTY_PATH) < 0)
        return -errno;
    if (!S_ISLNK(st->st_mode) && set_mode(fd, st->st_mode & 07777) < 0)
        return -errno;
    if (xattrs) {
        int r = ld_xattrs_set(fd, form, xattrs);

        if (r < 0)
            return r;
    }
    return utimensat(fd, "", times, AT_EMPTY_PATH) < 0 ? -errno : 0;
}

bool ld_mark_is_whiteout(const struct stat *st)
{
    return S_ISCHR(st->st_mode) && st->st_rdev == makedev(0, 0);
}

int ld_mark_make_whiteout(int dir, const char *name)
{
    return mknodat(dir, name, S_IFCHR, makedev(0, 0)) < 0 ? -errno : 0;
}

int ld_mark_set_opaque(int dir_fd)
{
    return set_value(dir_fd, opaque_name, "y", 1) < 0 ? -errno : 0;
}

int ld_mark_clear_opaque(int dir_fd)
{
    int r = remove_value(dir_fd, opaque_name) < 0 ? -errno : 0;

    return r == -ENODATA || r == -EOPNOTSUPP ? 0 : r;
}

int ld_mark_get_opaque(int dir_fd, char *ret_mark)
{
    char value = '\0';
    ssize_t len = get_value(dir_fd, opaque_name, &value, 1);

    /* ERANGE: longer than any mark is. The kernel takes that for none, so do we. */
    if (len < 0 && errno != ENODATA && errno != EOPNOTSUPP && errno != ERANGE)
        return -errno;
    *ret_mark = len == 1 && (value == 'y' || value == 'x') ? value : '\0';
    return 0;
}
