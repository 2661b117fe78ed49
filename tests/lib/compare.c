/* A real tree against the model: see compare.h. */
#include "tests/lib/compare.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include "daemon/base/cleanup.h"
#include "daemon/base/fdio.h"
#include "daemon/base/mem.h"

enum { CHUNK = 1 << 16, MAX_XATTR_BYTES = 1 << 16 };

struct pair { /* an inode of the model and the real one it was first seen as */
    const struct m_inode *model;
    ino_t real;
};

struct compare {
    unsigned flags;
    struct ld_buf *diff;
    bool is_equal;
    struct pair *pair;
    size_t n, cap;
};

static void __attribute__((format(printf, 3, 4)))
differ(struct compare *c, const char *path, const char *fmt, ...)
{
    va_list ap;

    c->is_equal = false;
    ld_buf_addf(c->diff, "  '%.300s': ", path[0] ? path : "/");
    va_start(ap, fmt);
    ld_buf_vaddf(c->diff, fmt, ap);
    va_end(ap);
    ld_buf_addc(c->diff, '\n');
}

static mode_t type_of(const struct m_entry *e)
{
    static const mode_t type[] = {
        [M_FILE] = S_IFREG, [M_DIR] = S_IFDIR,   [M_SYMLINK] = S_IFLNK, [M_HARDLINK] = 0,
        [M_CHAR] = S_IFCHR, [M_BLOCK] = S_IFBLK, [M_FIFO] = S_IFIFO,
    };

    return type[e->type];
}

static void compare_stat(struct compare *c, const struct m_node *node, const char *path,
                         const struct stat *st)
{
    const struct m_entry *e = &node->inode->e;

    if ((st->st_mode & S_IFMT) != type_of(e)) {
        differ(c, path, "type is %o, should be %o", st->st_mode & S_IFMT, type_of(e));
        return;
    }
    if (e->type != M_SYMLINK && (st->st_mode & 07777) != e->mode)
        differ(c, path, "mode is %o, should be %o", st->st_mode & 07777, e->mode);
    if (st->st_uid != e->uid || st->st_gid != e->gid)
        differ(c, path, "owner is %u:%u, should be %u:%u", st->st_uid, st->st_gid, e->uid, e->gid);
    if (st->st_mtim.tv_sec != e->sec || st->st_mtim.tv_nsec != e->nsec)
        differ(c, path, "mtime is %" PRId64 ".%09ld, should be %" PRId64 ".%09u",
               (int64_t)st->st_mtim.tv_sec, st->st_mtim.tv_nsec, e->sec, e->nsec);
    if ((e->type == M_CHAR || e->type == M_BLOCK) && st->st_rdev != makedev(e->major, e->minor))
        differ(c, path, "device is %u:%u, should be %u:%u", major(st->st_rdev), minor(st->st_rdev),
               e->major, e->minor);
    if (e->type == M_FILE && (uint64_t)st->st_size != e->size)
        differ(c, path, "size is %" PRId64 ", should be %" PRIu64, (int64_t)st->st_size, e->size);
    if (c->flags & M_LINK_COUNTS && e->type != M_DIR && st->st_nlink != node->inode->names)
        differ(c, path, "has %" PRIu64 " links, should have %u", (uint64_t)st->st_nlink,
               node->inode->names);
}

/* Names share an inode exactly where the model says so. */
static void compare_links(struct compare *c, const struct m_node *node, const char *path,
                          const struct stat *st)
{
    for (size_t i = 0; i < c->n; i++) {
        if ((c->pair[i].model == node->inode) != (c->pair[i].real == st->st_ino)) {
            differ(c, path, "is %s",
                   c->pair[i].model == node->inode
                       ? "not linked with another name, but should be"
                       : "linked with a name that it should not share with");
            return;
        }
        if (c->pair[i].model == node->inode)
            return;
    }
    ld_grow(&c->pair, &c->cap, c->n + 1, sizeof(*c->pair));
    c->pair[c->n++] = (struct pair){.model = node->inode, .real = st->st_ino};
}

static const struct m_xattr *find_xattr(const struct m_entry *e, const char *name)
{
    for (size_t i = 0; i < e->n_xattrs; i++)
        if (strcmp(e->xattr[i].name, name) == 0)
            return &e->xattr[i];
    return NULL;
}

static void compare_xattrs(struct compare *c, const struct m_node *node, const char *path,
                           const char *real)
{
    const struct m_entry *e = &node->inode->e;
    autofree char *list = ld_alloc0(MAX_XATTR_BYTES), *value = ld_alloc0(MAX_XATTR_BYTES);
    ssize_t len = llistxattr(real, list, MAX_XATTR_BYTES);
    size_t seen = 0;

    if (len < 0) {
        differ(c, path, "llistxattr: %s", strerror(errno));
        return;
    }
    for (const char *name = list; name < list + len; name += strlen(name) + 1) {
        const struct m_xattr *x = find_xattr(e, name);
        ssize_t n = lgetxattr(real, name, value, MAX_XATTR_BYTES);

        if (!x)
            differ(c, path, "has an xattr %s it should not have", name);
        else if (n < 0 || (size_t)n != x->len || memcmp(value, x->value, x->len) != 0)
            differ(c, path, "xattr %s has another value (%zd bytes)", name, n);
        seen += x != NULL;
    }
    if (seen != e->n_xattrs)
        differ(c, path, "has %zu xattrs of %zu", seen, e->n_xattrs);
}

static void compare_content(struct compare *c, const struct m_node *node, int dir, const char *path)
{
    const struct m_entry *e = &node->inode->e;
    autoclose int fd = openat(dir, node->name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    autofree unsigned char *have = ld_alloc0(CHUNK), *want = ld_alloc0(CHUNK);
    struct stat st;

    if (fd < 0 || fstat(fd, &st) < 0) {
        differ(c, path, "open: %s", strerror(errno));
        return;
    }
    for (uint64_t at = 0; at < e->size; at += CHUNK) {
        uint64_t n = e->size - at < CHUNK ? e->size - at : CHUNK;

        memset(want, 0, n);
        for (size_t i = 0; i < e->n_segments; i++) {
            const struct m_segment *s = &e->segment[i];
            uint64_t from = s->offset > at ? s->offset : at;

            for (uint64_t k = from; k < s->offset + s->len && k < at + n; k++)
                want[k - at] = m_byte(s->seed, k - s->offset);
        }
        if (ld_pread_full(fd, have, n, at) < 0 || memcmp(have, want, n) != 0) {
            differ(c, path, "content differs after byte %" PRIu64, at);
            return;
        }
    }
    /* Large holes are holes: 1 MiB of blocks is more than all data of a file of the tests. */
    if (e->size > 8 << 20 && st.st_blocks > 2 << 10)
        differ(c, path, "holes are filled: %" PRId64 " blocks", (int64_t)st.st_blocks);
}

static void compare_target(struct compare *c, const struct m_node *node, int dir, const char *path)
{
    char target[4096] = "";
    ssize_t len = readlinkat(dir, node->name, target, sizeof(target) - 1);

    if (len < 0 || strcmp(target, node->inode->e.target) != 0)
        differ(c, path, "target is '%s', should be '%s'", target, node->inode->e.target);
}

static void compare_dir(struct compare *c, const struct m_node *node, int fd, const char *path);

static void compare_node(struct compare *c, const struct m_node *node, int dir, const char *path)
{
    autofree char *real = ld_asprintf("/proc/self/fd/%d/%s", dir, node->name);
    struct stat st;

    if (fstatat(dir, node->name, &st, AT_SYMLINK_NOFOLLOW) < 0) {
        differ(c, path, "is missing: %s", strerror(errno));
        return;
    }
    compare_stat(c, node, path, &st);
    if ((st.st_mode & S_IFMT) != type_of(&node->inode->e))
        return;
    compare_xattrs(c, node, path, real);
    if (node->inode->e.type != M_DIR)
        compare_links(c, node, path, &st);
    if (node->inode->e.type == M_FILE)
        compare_content(c, node, dir, path);
    if (node->inode->e.type == M_SYMLINK)
        compare_target(c, node, dir, path);
    if (node->inode->e.type == M_DIR) {
        autoclose int fd = ld_open_dir(dir, node->name);

        compare_dir(c, node, fd, path);
    }
}

static void compare_dir(struct compare *c, const struct m_node *node, int fd, const char *path)
{
    DIR *stream = fdopendir(fcntl(fd, F_DUPFD_CLOEXEC, 0));
    struct dirent *entry;

    if (!stream) {
        differ(c, path, "opendir: %s", strerror(errno));
        return;
    }
    while ((entry = readdir(stream)))
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0 &&
            !m_child(node, entry->d_name))
            differ(c, path, "has '%s', which should not be there", entry->d_name);
    (void)closedir(stream); /* only read */
    for (size_t i = 0; i < node->n; i++) {
        autofree char *below = ld_asprintf("%s/%s", path, node->child[i]->name);

        compare_node(c, node->child[i], fd, below);
    }
}

bool m_compare(const struct m_node *model, int dir, unsigned flags, struct ld_buf *diff)
{
    struct compare c = {.flags = flags, .diff = diff, .is_equal = true};
    struct ld_fd_path root = ld_fd_path(dir);
    autofree char *real = ld_asprintf("%s/.", root.path);
    struct stat st;

    if (fstat(dir, &st) < 0) {
        differ(&c, "", "fstat: %s", strerror(errno));
        return false;
    }
    compare_stat(&c, model, "", &st);
    compare_xattrs(&c, model, "", real);
    compare_dir(&c, model, dir, "");
    free(c.pair);
    return c.is_equal;
}
