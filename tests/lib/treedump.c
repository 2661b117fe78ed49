/* The canonical text of a tree: see treedump.h. Single-threaded (fts). */
#include "tests/lib/treedump.h"

#include <errno.h>
#include <fcntl.h>
#include <fts.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "daemon/base/digest.h"
#include "daemon/base/fdio.h"
#include "daemon/base/mem.h"
#include "daemon/base/table.h"

enum { BLOCK = 128 << 10 };

/* The names of one multi-linked inode. */
struct group {
    struct {
        uint64_t dev, ino;
    } key;
    unsigned names;  /* how many the tree shows */
    unsigned number; /* in the order of first appearance; 0: not yet */
    UT_hash_handle hh;
};

struct dump {
    unsigned flags;
    FILE *out;
    struct group *groups;
    unsigned next_number;
};

static void dump_done(struct dump *d)
{
    ld_table_drain(hh, d->groups, free);
}

static void escaped(FILE *out, const char *text)
{
    for (const unsigned char *c = (const unsigned char *)text; *c; c++) {
        if (*c <= ' ' || *c >= 127 || *c == '\\')
            (void)fprintf(out, "\\%03o", *c);
        else
            (void)fputc(*c, out);
    }
}

static struct group *group_of(struct dump *d, const struct stat *st)
{
    struct group *g;
    struct group probe = {.key = {st->st_dev, st->st_ino}};

    HASH_FIND(hh, d->groups, &probe.key, sizeof(probe.key), g);
    if (!g) {
        g = ld_new(struct group);
        g->key = probe.key;
        HASH_ADD(hh, d->groups, key, sizeof(g->key), g);
    }
    return g;
}

static int dump_content(struct dump *d, const char *path)
{
    autoclose int fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    LD_AUTO(ld_sha256_free_p) struct ld_sha256 *hash = ld_sha256_new();
    autofree char *block = ld_alloc0(BLOCK);
    char text[LD_DIGEST_TEXT];
    struct ld_digest digest;
    ssize_t n;

    if (fd < 0)
        return -errno;
    while ((n = ld_read_some(fd, block, BLOCK)) > 0)
        ld_sha256_update(hash, block, (size_t)n);
    if (n < 0)
        return (int)n;
    digest = ld_sha256_final(hash);
    ld_digest_format(&digest, text);
    (void)fprintf(d->out, " sha256=%s", strchr(text, ':') + 1);
    return 0;
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static int dump_xattrs(struct dump *d, const char *path)
{
    static char list[1 << 16], value[1 << 16];
    char *name[512];
    size_t n = 0;
    ssize_t len = llistxattr(path, list, sizeof(list));

    if (len < 0)
        return errno == EOPNOTSUPP ? 0 : -errno;
    for (char *at = list; at < list + len && n < LD_ARRAY_LEN(name); at += strlen(at) + 1)
        if (d->flags & LD_DUMP_OVERLAY_XATTRS || strncmp(at, "trusted.overlay.", 16) != 0)
            name[n++] = at;
    qsort(name, n, sizeof(*name), by_text);
    for (size_t i = 0; i < n; i++) {
        ssize_t size = lgetxattr(path, name[i], value, sizeof(value));

        if (size < 0)
            return -errno;
        (void)fputc(' ', d->out);
        escaped(d->out, name[i]);
        (void)fputc('=', d->out);
        for (ssize_t k = 0; k < size; k++)
            (void)fprintf(d->out, "%02x", (unsigned char)value[k]);
    }
    return 0;
}

static char type_letter(mode_t mode)
{
    switch (mode & S_IFMT) {
    case S_IFDIR:
        return 'd';
    case S_IFREG:
        return 'f';
    case S_IFLNK:
        return 'l';
    case S_IFCHR:
        return 'c';
    case S_IFBLK:
        return 'b';
    case S_IFIFO:
        return 'p';
    default:
        return 's';
    }
}

static int dump_one(struct dump *d, const char *path, const char *shown, const struct stat *st)
{
    int r = 0;

    escaped(d->out, shown);
    (void)fprintf(d->out, " %c %04o %u:%u", type_letter(st->st_mode), st->st_mode & 07777,
                  st->st_uid, st->st_gid);
    if (!S_ISDIR(st->st_mode) || !(d->flags & LD_DUMP_NO_DIR_TIMES))
        (void)fprintf(d->out, " mtime=%lld.%09ld", (long long)st->st_mtim.tv_sec,
                      st->st_mtim.tv_nsec);
    if (S_ISREG(st->st_mode)) {
        (void)fprintf(d->out, " size=%lld", (long long)st->st_size);
        r = dump_content(d, path);
    } else if (S_ISCHR(st->st_mode) || S_ISBLK(st->st_mode)) {
        (void)fprintf(d->out, " rdev=%u:%u", major(st->st_rdev), minor(st->st_rdev));
    } else if (S_ISLNK(st->st_mode)) {
        char target[4096];
        ssize_t len = readlink(path, target, sizeof(target) - 1);

        if (len < 0)
            return -errno;
        target[len] = '\0';
        (void)fputs(" target=", d->out);
        escaped(d->out, target);
    }
    if (!S_ISDIR(st->st_mode) && st->st_nlink > 1) {
        struct group *g = group_of(d, st);

        if (g->names > 1 && !(d->flags & LD_DUMP_NO_LINKS)) {
            g->number = g->number ? g->number : ++d->next_number;
            (void)fprintf(d->out, " link=%u", g->number);
        }
    }
    if (r == 0)
        r = dump_xattrs(d, path);
    (void)fputc('\n', d->out);
    return r;
}

static int by_name(const FTSENT **a, const FTSENT **b)
{
    return strcmp((*a)->fts_name, (*b)->fts_name);
}

static int walk(struct dump *d, const char *root, bool is_counting, char *ret_path)
{
    char *const roots[] = {(char *)root, NULL};
    FTS *fts = fts_open(roots, FTS_PHYSICAL | FTS_NOCHDIR, by_name);
    size_t root_len = strlen(root);
    int r = fts ? 0 : -errno;

    while (r == 0) {
        FTSENT *e;

        errno = 0;
        e = fts_read(fts);
        if (!e) {
            r = -errno;
            break;
        }
        if (e->fts_info == FTS_DP)
            continue;
        if (e->fts_info == FTS_DNR || e->fts_info == FTS_ERR || e->fts_info == FTS_NS)
            r = -e->fts_errno;
        else if (is_counting && !S_ISDIR(e->fts_statp->st_mode) && e->fts_statp->st_nlink > 1)
            group_of(d, e->fts_statp)->names++;
        else if (!is_counting)
            r = dump_one(d, e->fts_accpath, e->fts_level ? e->fts_path + root_len + 1 : ".",
                         e->fts_statp);
        if (r < 0 && ret_path)
            (void)snprintf(ret_path, 256, "%s", e->fts_path);
    }
    if (fts)
        (void)fts_close(fts); /* only read */
    return r;
}

int ld_dump_tree(const char *root, unsigned flags, FILE *out, char *ret_path)
{
    LD_AUTO(dump_done) struct dump d = {.flags = flags, .out = out};
    int r = walk(&d, root, true, ret_path);

    return r < 0 ? r : walk(&d, root, false, ret_path);
}

char *ld_dump_string(const char *root, unsigned flags)
{
    char *text = NULL;
    char at[256] = "?";
    size_t len;
    FILE *out = open_memstream(&text, &len);
    int r = out ? ld_dump_tree(root, flags, out, at) : -ENOMEM;

    if (r < 0) {
        (void)fprintf(stderr, "dump of '%s', at '%s': %s\n", root, at, strerror(-r));
        abort();
    }
    (void)fclose(out);
    return text;
}
