/* Removing and counting whole trees by descriptors (declared in fdio.h).
 *
 * Both walks keep an explicit stack of names and at most MAX_OPEN descriptors: an ancestor that was
 * closed is reached again by "..", checked by device and inode, so neither depth nor path length is
 * limited by the process's descriptors. Nobody else changes these trees while we walk them (they
 * are ours by then: trash, staging, a sealed layer), a mount inside one is refused.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <uthash.h>

#include "daemon/base/fdio.h"
#include "daemon/base/mem.h"

struct level {
    DIR *dir;   /* NULL while closed; reading goes on at `at` when it is opened again */
    long at;    /* telldir: a cookie of the file system, good for another open of the directory */
    char *name; /* in the level above */
    dev_t dev;
    ino_t ino;
};

enum { MAX_OPEN = 64 };

struct walk {
    struct level *level;
    size_t depth, cap;
    dev_t dev;
};

static void walk_done(struct walk *w)
{
    for (size_t i = 0; i < w->depth; i++) {
        if (w->level[i].dir)
            (void)closedir(w->level[i].dir); /* only read */
        free(w->level[i].name);
    }
    free(w->level);
    *w = (struct walk){.depth = 0};
}

static struct level *walk_top(struct walk *w)
{
    return &w->level[w->depth - 1];
}

/* Takes fd. A directory on another device is a mount: -EXDEV. */
static int walk_push(struct walk *w, int fd, const char *name)
{
    autoclose int owned = fd;
    struct stat st;
    struct level *l;
    DIR *dir;

    if (fstat(fd, &st) < 0)
        return -errno;
    if (w->depth == 0)
        w->dev = st.st_dev;
    else if (st.st_dev != w->dev)
        return -EXDEV;
    dir = fdopendir(fd);
    if (!dir)
        return -errno;
    (void)ld_steal_fd(&owned);
    if (w->depth >= MAX_OPEN) {
        struct level *old = &w->level[w->depth - MAX_OPEN];

        if (old->dir) {
            old->at = telldir(old->dir);
            (void)closedir(old->dir); /* only read */
        }
        old->dir = NULL;
    }
    ld_grow(&w->level, &w->cap, w->depth + 1, sizeof(*w->level));
    l = &w->level[w->depth++];
    *l = (struct level){.dir = dir, .name = ld_strdup(name), .dev = st.st_dev, .ino = st.st_ino};
    return 0;
}

/* Leaves the top directory; the one above is open again afterwards. */
static int walk_pop(struct walk *w)
{
    struct level *top = walk_top(w);
    struct level *above = w->depth > 1 ? top - 1 : NULL;
    int r = 0;

    if (above && !above->dir) {
        autoclose int fd = openat(dirfd(top->dir), "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        struct stat st;

        if (fd < 0 || fstat(fd, &st) < 0)
            r = -errno;
        else if (st.st_dev != above->dev || st.st_ino != above->ino)
            r = -ESTALE;
        else if (!(above->dir = fdopendir(fd)))
            r = -errno;
        else {
            (void)ld_steal_fd(&fd);
            seekdir(above->dir, above->at);
        }
    }
    (void)closedir(top->dir); /* only read */
    free(top->name);
    w->depth--;
    return r;
}

static bool is_canceled(const bool *cancel)
{
    return cancel && __atomic_load_n(cancel, __ATOMIC_RELAXED);
}

/* The next name in the top directory; NULL at its end or with *ret_errno set. */
static struct dirent *next_name(struct walk *w, int *ret_errno)
{
    struct dirent *entry;

    do {
        errno = 0;
        entry = readdir(walk_top(w)->dir); /* the stream is ours alone */
    } while (entry && (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0));
    *ret_errno = entry ? 0 : errno;
    return entry;
}

/* Deletes a name of the top directory, or enters it. */
static int remove_one(struct walk *w, const char *name)
{
    int at = dirfd(walk_top(w)->dir);
    int fd;

    if (unlinkat(at, name, 0) == 0 || errno == ENOENT)
        return 0;
    if (errno != EISDIR && errno != EPERM)
        return -errno;
    if (unlinkat(at, name, AT_REMOVEDIR) == 0)
        return 0;
    if (errno != ENOTEMPTY && errno != EEXIST)
        return -errno;
    fd = ld_open_dir(at, name);
    return fd < 0 ? fd : walk_push(w, fd, name);
}

int ld_remove_tree(int dir, const char *name, const bool *cancel)
{
    LD_AUTO(walk_done) struct walk w = {.depth = 0};
    int fd = ld_open_dir(dir, name);
    int r;

    if (fd == -ENOENT)
        return 0;
    if (fd == -ENOTDIR || fd == -ELOOP)
        return unlinkat(dir, name, 0) < 0 ? -errno : 0;
    if (fd < 0)
        return fd;
    r = walk_push(&w, fd, name);
    while (r == 0 && w.depth > 0) {
        struct dirent *entry = next_name(&w, &r);
        autofree char *own = NULL;

        if (r)
            return -r;
        if (is_canceled(cancel))
            return -ECANCELED;
        if (entry) {
            r = remove_one(&w, entry->d_name);
            continue;
        }
        own = ld_strdup(walk_top(&w)->name);
        r = walk_pop(&w);
        if (r == 0 && unlinkat(w.depth ? dirfd(walk_top(&w)->dir) : dir, own, AT_REMOVEDIR) < 0)
            r = -errno;
    }
    return r;
}

struct seen {
    ino_t ino;
    UT_hash_handle hh;
};

/* True when a multi-linked inode was counted already. */
static bool was_seen(struct seen **set, ino_t ino)
{
    struct seen *s;

    HASH_FIND(hh, *set, &ino, sizeof(ino), s);
    if (s)
        return true;
    s = ld_new(struct seen);
    s->ino = ino;
    HASH_ADD(hh, *set, ino, sizeof(ino), s);
    return false;
}

static void seen_done(struct seen **set)
{
    struct seen *s, *next;

    HASH_ITER (hh, *set, s, next) {
        HASH_DEL(*set, s);
        free(s);
    }
}

static int usage_walk(struct walk *w, struct seen **set, struct ld_usage *total)
{
    while (w->depth > 0) {
        int r;
        struct dirent *entry = next_name(w, &r);
        struct stat st;
        int fd;

        if (r)
            return -r;
        if (!entry) {
            r = walk_pop(w);
            if (r < 0)
                return r;
            continue;
        }
        if (fstatat(dirfd(walk_top(w)->dir), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0) {
            if (errno == ENOENT)
                continue;
            return -errno;
        }
        if (st.st_dev != w->dev)
            continue;
        if (!S_ISDIR(st.st_mode) && st.st_nlink > 1 && was_seen(set, st.st_ino))
            continue;
        total->bytes += (uint64_t)st.st_blocks * 512;
        total->inodes++;
        if (!S_ISDIR(st.st_mode))
            continue;
        fd = ld_open_dir(dirfd(walk_top(w)->dir), entry->d_name);
        if (fd == -ENOENT)
            continue;
        r = fd < 0 ? fd : walk_push(w, fd, entry->d_name);
        if (r < 0)
            return r;
    }
    return 0;
}

int ld_tree_usage(int dir, const char *name, struct ld_usage *ret)
{
    LD_AUTO(walk_done) struct walk w = {.depth = 0};
    LD_AUTO(seen_done) struct seen *set = NULL;
    struct ld_usage total = {0, 0};
    struct stat st;
    int fd, r;

    if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return -errno;
    total.bytes = (uint64_t)st.st_blocks * 512;
    total.inodes = 1;
    if (S_ISDIR(st.st_mode)) {
        fd = ld_open_dir(dir, name);
        r = fd < 0 ? fd : walk_push(&w, fd, name);
        if (r == 0)
            r = usage_walk(&w, &set, &total);
        if (r < 0)
            return r;
    }
    *ret = total;
    return 0;
}
