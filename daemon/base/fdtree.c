/* Removing and counting whole trees by descriptors (declared in fdio.h).
 *
 * Both walks keep an explicit stack of names and at most MAX_OPEN descriptors: an ancestor that was
 * closed is reached again by "..", checked by device and inode, so neither depth nor path length is
 * limited by the process's descriptors. Nobody else changes these trees while we walk them (they
 * are ours by then: trash, staging, a sealed layer), a mount inside one is refused. A subvolume of
 * btrfs has a device of its own, but is no mount.
 */
#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/base/fdio.h"
#include "daemon/base/inodes.h"
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

/* Asked only of what is on another device. */
static bool is_mount(int at, const char *name)
{
    struct statx stx;

    return statx(at, name, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT, 0, &stx) < 0 ||
           stx.stx_attributes & STATX_ATTR_MOUNT_ROOT;
}

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
    assert(w->depth > 0);
    return &w->level[w->depth - 1];
}

/* Takes fd. A mount is -EXDEV. */
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
    else if (st.st_dev != w->dev && is_mount(fd, ""))
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

/* The level above `below`, where it was. */
static int open_again(struct level *l, int below)
{
    autoclose int fd = openat(below, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct stat st;

    if (fd < 0 || fstat(fd, &st) < 0)
        return -errno;
    if (st.st_dev != l->dev || st.st_ino != l->ino)
        return -ESTALE;
    l->dir = fdopendir(fd);
    if (!l->dir)
        return -errno;
    (void)ld_steal_fd(&fd);
    seekdir(l->dir, l->at);
    return 0;
}

/* Leaves the top directory; the one above is open again afterwards. */
static int walk_pop(struct walk *w)
{
    struct level *top = walk_top(w);
    int r = 0;

    if (w->depth > 1 && !top[-1].dir)
        r = open_again(&top[-1], dirfd(top->dir));
    (void)closedir(top->dir); /* only read */
    free(top->name);
    w->depth--;
    return r;
}

static bool is_canceled(const bool *cancel)
{
    return cancel && __atomic_load_n(cancel, __ATOMIC_RELAXED);
}

/* The next name in the top directory; NULL at its end. */
static int next_name(struct walk *w, const struct dirent **ret)
{
    const struct dirent *entry;

    do {
        errno = 0;
        entry = readdir(walk_top(w)->dir); /* the stream is ours alone */
    } while (entry && (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0));
    if (!entry && errno)
        return -errno;
    *ret = entry;
    return 0;
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
        const struct dirent *entry = NULL;
        autofree char *own = NULL;

        r = next_name(&w, &entry);
        if (r < 0)
            return r;
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

/* Counts an entry of the top directory, and enters it when it is one itself. */
static int count_one(struct walk *w, struct ld_inodes *counted, const char *name,
                     struct ld_usage *total)
{
    int at = dirfd(walk_top(w)->dir);
    struct stat st;
    int r;

    if (fstatat(at, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return errno == ENOENT ? 0 : -errno;
    if (st.st_dev != w->dev && is_mount(at, name))
        return 0;
    if (ld_inode_has_names(&st)) {
        r = ld_inodes_add(counted, &st, 0, "");
        if (r != 0)
            return r < 0 ? r : 0;
    }
    total->bytes += (uint64_t)st.st_blocks * 512;
    total->inodes++;
    if (!S_ISDIR(st.st_mode))
        return 0;
    r = ld_open_dir(at, name);
    if (r == -ENOENT)
        return 0;
    return r < 0 ? r : walk_push(w, r, name);
}

static int count_all(struct walk *w, const bool *cancel, struct ld_usage *total)
{
    struct ld_inodes counted LD_AUTO(ld_inodes_done) = LD_INODES_INIT(LD_INODES_MAX);
    int r = 0;

    while (r == 0 && w->depth > 0) {
        const struct dirent *entry = NULL;

        r = is_canceled(cancel) ? -ECANCELED : next_name(w, &entry);
        if (r == 0)
            r = entry ? count_one(w, &counted, entry->d_name, total) : walk_pop(w);
    }
    return r;
}

int ld_tree_usage(int dir, const char *name, const bool *cancel, struct ld_usage *ret)
{
    LD_AUTO(walk_done) struct walk w = {.depth = 0};
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
            r = count_all(&w, cancel, &total);
        if (r < 0)
            return r;
    }
    *ret = total;
    return 0;
}
