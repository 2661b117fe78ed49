/* Random layers and changes: see randtree.h. Single-threaded (fts). */
#include "tests/lib/randtree.h"

#include <errno.h>
#include <fcntl.h>
#include <fts.h>
#include <linux/capability.h>
#include <linux/posix_acl.h>
#include <linux/posix_acl_xattr.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "daemon/base/fdio.h"
#include "daemon/base/mem.h"

enum { MAX_DEPTH = 4, MAX_PATHS = 1000 };

static const char *const names[] = {"a", "b",   "c",    "dir",      "e-e",
                                    "e", "f g", "h\nx", "\xc3\xa4", "z"};

uint64_t ld_rand_next(struct ld_rand *r)
{
    /* splitmix64 */
    uint64_t z = r->state += 0x9e3779b97f4a7c15u;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

unsigned ld_rand_below(struct ld_rand *r, unsigned n)
{
    return (unsigned)(ld_rand_next(r) % n);
}

static void must(int result, const char *what, const char *name)
{
    if (result < 0) {
        (void)fprintf(stderr, "random tree: %s '%s': %s\n", what, name, strerror(errno));
        abort();
    }
}

/* ---- attributes ---- */

/* Access: mode-like entries and one named user; default: the same for directories. */
static void add_acl(struct ld_rand *r, const char *path, const char *xattr)
{
    struct {
        struct posix_acl_xattr_header head;
        struct posix_acl_xattr_entry entry[5];
    } acl = {
        .head.a_version = POSIX_ACL_XATTR_VERSION,
        .entry =
            {
                {ACL_USER_OBJ, 7, (uint32_t)ACL_UNDEFINED_ID},
                {ACL_USER, (uint16_t)ld_rand_below(r, 8), 1000 + ld_rand_below(r, 3)},
                {ACL_GROUP_OBJ, 5, (uint32_t)ACL_UNDEFINED_ID},
                {ACL_MASK, 7, (uint32_t)ACL_UNDEFINED_ID},
                {ACL_OTHER, (uint16_t)ld_rand_below(r, 8), (uint32_t)ACL_UNDEFINED_ID},
            },
    };

    (void)setxattr(path, xattr, &acl, sizeof(acl), 0); /* not everywhere */
}

static void add_xattrs(struct ld_rand *r, int fd, mode_t mode)
{
    struct ld_fd_path path = ld_fd_path(fd);
    struct vfs_cap_data caps = {.magic_etc = VFS_CAP_REVISION_2,
                                .data[0].permitted = 1u << ld_rand_below(r, 20)};
    char value[40];
    int len = snprintf(value, sizeof(value), "v%u", ld_rand_below(r, 3));

    if (ld_rand_below(r, 3) == 0)
        (void)setxattr(path.path, "trusted.test", value, (size_t)len, 0);
    if (!S_ISREG(mode) && !S_ISDIR(mode))
        return;
    if (ld_rand_below(r, 3) == 0)
        (void)setxattr(path.path, "user.test", value, (size_t)len, 0);
    if (ld_rand_below(r, 6) == 0)
        (void)setxattr(path.path, "user.empty", value, 0, 0);
    if (S_ISREG(mode) && ld_rand_below(r, 5) == 0)
        (void)setxattr(path.path, "security.capability", &caps, sizeof(caps), 0);
    if (ld_rand_below(r, 6) == 0)
        add_acl(r, path.path, "system.posix_acl_access");
    if (S_ISDIR(mode) && ld_rand_below(r, 4) == 0)
        add_acl(r, path.path, "system.posix_acl_default");
}

static struct timespec random_time(struct ld_rand *r)
{
    return (struct timespec){.tv_sec = 1000000000 + ld_rand_below(r, 5),
                             .tv_nsec = ld_rand_below(r, 1000000000)};
}

static void add_attrs(struct ld_rand *r, int dir, const char *name)
{
    autoclose int fd = openat(dir, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    struct timespec t = random_time(r);
    struct timespec times[2] = {t, t};
    static const mode_t modes[] = {0644, 0755, 0600, 04755, 02755, 01777, 0, 06711};
    struct stat st;

    must(fd, "open", name);
    must(fstat(fd, &st), "stat", name);
    must(fchownat(fd, "", ld_rand_below(r, 3) * 1000, ld_rand_below(r, 3), AT_EMPTY_PATH), "chown",
         name);
    if (!S_ISLNK(st.st_mode))
        must(chmod(ld_fd_path(fd).path, modes[ld_rand_below(r, LD_ARRAY_LEN(modes))]), "chmod",
             name);
    add_xattrs(r, fd, st.st_mode);
    must(utimensat(fd, "", times, AT_EMPTY_PATH), "utimens", name);
}

/* ---- layers ---- */

static void write_random(struct ld_rand *r, int fd)
{
    char data[64];
    unsigned n = ld_rand_below(r, 4);

    for (unsigned i = 0; i < n; i++) {
        uint64_t at = ld_rand_below(r, 3) * 70000;
        int len = snprintf(data, sizeof(data), "content %u\n", ld_rand_below(r, 4));

        must(ld_pwrite_full(fd, data, (size_t)len, at), "write", "");
    }
    if (ld_rand_below(r, 4) == 0)
        must(ftruncate(fd, ld_rand_below(r, 2) * 300000), "truncate", "");
}

static void make_file(struct ld_rand *r, int dir, const char *name)
{
    autoclose int fd = openat(dir, name, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600);

    must(fd, "create", name);
    write_random(r, fd);
}

static void make_other(struct ld_rand *r, int dir, const char *name)
{
    static const char *const targets[] = {"a", "../b", "/dir/c", "nowhere"};

    switch (ld_rand_below(r, 4)) {
    case 0:
        must(mkfifoat(dir, name, 0600), "mkfifo", name);
        return;
    case 1:
        must(mknodat(dir, name, S_IFCHR | 0600, makedev(1, 3 + ld_rand_below(r, 3))), "mknod",
             name);
        return;
    case 2:
        must(mknodat(dir, name, S_IFBLK | 0600, makedev(7, 200)), "mknod", name);
        return;
    default:
        must(symlinkat(targets[ld_rand_below(r, LD_ARRAY_LEN(targets))], dir, name), "symlink",
             name);
        return;
    }
}

struct layer {
    struct ld_rand *r;
    int root;
    const struct ld_layers *below;
    char last_file[4096]; /* the file made last, for hard links; "": none */
};

static bool is_below(const struct layer *l, const char *path)
{
    LD_AUTO(ld_found_done) struct ld_found found = LD_FOUND_INIT;
    struct ld_err err = LD_ERR_INIT;
    int r = ld_tree_lookup(l->below, path, &found, &err);

    must(r, "look up", err.message);
    return r > 0;
}

static void fill(struct layer *l, int dir, const char *path, unsigned depth, bool is_opaque);

static void make_dir(struct layer *l, int dir, const char *path, unsigned depth, bool is_opaque)
{
    const char *name = strrchr(path, '/') + 1;
    autoclose int fd = ld_make_dir(dir, name, 0755);
    bool opaque = ld_rand_below(l->r, 5) == 0;

    must(fd, "mkdir", path);
    if (opaque)
        must(ld_mark_set_opaque(fd), "opaque", path);
    fill(l, fd, path, depth + 1, is_opaque || opaque);
}

/* Bounded by MAX_DEPTH: recursion does no harm here. */
static void fill(struct layer *l, int dir, const char *path, unsigned depth, bool is_opaque)
{
    for (size_t i = 0; i < LD_ARRAY_LEN(names); i++) {
        autofree char *entry = ld_asprintf("%s/%s", path, names[i]);
        unsigned what = ld_rand_below(l->r, 16);

        if (what < 5)
            continue;
        if (what < 8 && depth < MAX_DEPTH) {
            make_dir(l, dir, entry, depth, is_opaque);
        } else if (what < 10 && !is_opaque && is_below(l, entry)) {
            must(ld_mark_make_whiteout(dir, names[i]), "whiteout", entry);
            continue; /* a mark has no attributes */
        } else if (what < 11 && l->last_file[0]) {
            must(linkat(l->root, l->last_file + 1, dir, names[i], 0), "link", entry);
            continue;
        } else if (what < 12) {
            make_other(l->r, dir, names[i]);
        } else {
            make_file(l->r, dir, names[i]);
            (void)snprintf(l->last_file, sizeof(l->last_file), "%s", entry);
        }
        add_attrs(l->r, dir, names[i]);
    }
}

void ld_rand_layer(struct ld_rand *r, int dir, const struct ld_layers *below)
{
    struct layer l = {.r = r, .root = dir, .below = below};

    fill(&l, dir, "", 0, false);
    add_attrs(r, dir, ".");
}

/* ---- changes ---- */

struct paths {
    char *path[MAX_PATHS];
    unsigned n;
};

static void paths_done(struct paths *p)
{
    for (unsigned i = 0; i < p->n; i++)
        free(p->path[i]);
    p->n = 0;
}

static void collect(const char *root, struct paths *ret)
{
    char *const roots[] = {(char *)root, NULL};
    FTS *fts = fts_open(roots, FTS_PHYSICAL | FTS_NOCHDIR, NULL);
    FTSENT *e;

    must(fts ? 0 : -1, "walk", root);
    while ((e = fts_read(fts)))
        if (e->fts_info != FTS_DP && e->fts_level > 0 && ret->n < MAX_PATHS)
            ret->path[ret->n++] = ld_strdup(e->fts_path);
    (void)fts_close(fts); /* only read */
}

static void delete (const char *path)
{
    autofree char *parent = ld_strndup(path, (size_t)(strrchr(path, '/') - path));
    autoclose int dir = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    must(ld_remove_tree(dir, strrchr(path, '/') + 1, NULL), "remove", path);
}

/* The size and the times stay what they were: only the content tells (and the ctime). */
static void rewrite(struct ld_rand *r, const char *path, bool differently)
{
    autoclose int fd = open(path, O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    struct stat st;
    char byte;

    if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size == 0)
        return;
    must(ld_pread_full(fd, &byte, 1, 0), "read", path);
    if (differently)
        byte = (char)(byte + 1 + (char)ld_rand_below(r, 100));
    must(ld_pwrite_full(fd, &byte, 1, 0), "write", path);
    must(futimens(fd, (struct timespec[2]){st.st_atim, st.st_mtim}), "utimens", path);
}

static void change_attrs(struct ld_rand *r, const char *path)
{
    struct timespec t = random_time(r);
    struct stat st;

    must(lstat(path, &st), "stat", path);
    switch (ld_rand_below(r, 6)) {
    case 0:
        must(lchown(path, ld_rand_below(r, 2) * 1000, 7), "chown", path);
        return;
    case 1:
        must(utimensat(AT_FDCWD, path, (struct timespec[2]){t, t}, AT_SYMLINK_NOFOLLOW), "utimens",
             path);
        return;
    case 2:
        (void)lsetxattr(path, "user.changed", "1", 1, 0); /* not for all types */
        return;
    case 3:
        (void)lsetxattr(path, "trusted.changed", "1", 1, 0);
        return;
    case 4: /* there and back: nothing changed */
        must(lchown(path, 4711, 4711), "chown", path);
        must(lchown(path, st.st_uid, st.st_gid), "chown", path);
        return;
    default:
        if (!S_ISLNK(st.st_mode))
            must(chmod(path, 0700 + ld_rand_below(r, 8)), "chmod", path);
        return;
    }
}

static void make_new(struct ld_rand *r, const char *parent)
{
    autofree char *path = ld_asprintf("%s/new%u", parent, ld_rand_below(r, 4));
    autoclose int dir = open(parent, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    const char *name = strrchr(path, '/') + 1;
    struct stat st;

    if (dir < 0 || fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0)
        return;
    switch (ld_rand_below(r, 3)) {
    case 0:
        must(mkdirat(dir, name, 0755), "mkdir", path);
        return;
    case 1:
        make_other(r, dir, name);
        return;
    default:
        make_file(r, dir, name);
        return;
    }
}

/* A directory or file is replaced by one of the same name, of any type. */
static void replace(struct ld_rand *r, const char *path)
{
    delete (path);
    if (ld_rand_below(r, 2)) {
        must(mkdir(path, 0755), "mkdir", path);
        for (unsigned i = 0; i < 3; i++)
            make_new(r, path);
    } else {
        make_file(r, AT_FDCWD, path);
    }
}

static void change_one(struct ld_rand *r, const struct paths *p)
{
    const char *path = p->path[ld_rand_below(r, p->n)];
    const char *other = p->path[ld_rand_below(r, p->n)];
    autofree char *renamed = ld_asprintf("%s-r", other);

    switch (ld_rand_below(r, 12)) {
    case 0:
        delete (path);
        return;
    case 1:
        replace(r, path);
        return;
    case 2: /* fails where one lies in the other, where it is not empty, on lower directories */
        (void)rename(path, other);
        return;
    case 3:
        (void)rename(path, renamed);
        return;
    case 4:
        (void)renameat2(AT_FDCWD, path, AT_FDCWD, other, RENAME_EXCHANGE);
        return;
    case 5:
        (void)!link(path, renamed); /* not of directories */
        return;
    case 6:
    case 7:
        change_attrs(r, path);
        return;
    case 8:
        rewrite(r, path, true);
        return;
    case 9:
        rewrite(r, path, false);
        return;
    default:
        make_new(r, path);
        return;
    }
}

void ld_rand_changes(struct ld_rand *r, const char *root, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        LD_AUTO(paths_done) struct paths p = {.n = 0};

        collect(root, &p);
        if (p.n == 0)
            make_new(r, root);
        else
            change_one(r, &p);
    }
}
