/* A path of open directories: see dirs.h. */
#include "daemon/image/dirs.h"

#include <errno.h>
#include <string.h>

#include "daemon/base/fdio.h"
#include "daemon/base/mem.h"

struct ld_dirs {
    size_t depth;
    int fd[LD_MAX_TREE_DEPTH + 1];     /* by level; [0] is borrowed */
    size_t end[LD_MAX_TREE_DEPTH + 1]; /* of the path of a level in `path` */
    char path[LD_MAX_TREE_DEPTH * (LD_MAX_NAME + 1) + 1];
};

struct ld_dirs *ld_dirs_new(int root)
{
    struct ld_dirs *d = ld_new(struct ld_dirs);

    d->fd[0] = root;
    return d;
}

void ld_dirs_free(struct ld_dirs *d)
{
    if (d)
        ld_dirs_cut(d, 0);
    free(d);
}

void ld_dirs_free_p(struct ld_dirs **d)
{
    ld_dirs_free(*d);
    *d = NULL;
}

size_t ld_dirs_depth(const struct ld_dirs *d)
{
    return d->depth;
}

int ld_dirs_fd(const struct ld_dirs *d, size_t level)
{
    return d->fd[level];
}

const char *ld_dirs_path(const struct ld_dirs *d)
{
    return d->path;
}

/* Where the name of a level starts in the path. */
static size_t name_start(const struct ld_dirs *d, size_t level)
{
    return level == 1 ? 0 : d->end[level - 1] + 1;
}

const char *ld_dirs_name(const struct ld_dirs *d, size_t level, size_t *ret_len)
{
    size_t start = name_start(d, level);

    *ret_len = d->end[level] - start;
    return d->path + start;
}

bool ld_dirs_is_next(const struct ld_dirs *d, size_t level, const char *name, size_t len)
{
    size_t start;

    if (level >= d->depth)
        return false;
    start = name_start(d, level + 1);
    return d->end[level + 1] - start == len && memcmp(d->path + start, name, len) == 0;
}

void ld_dirs_cut(struct ld_dirs *d, size_t level)
{
    while (d->depth > level)
        ld_close_p(&d->fd[d->depth--]);
    d->path[d->end[d->depth]] = '\0';
}

int ld_dirs_push(struct ld_dirs *d, const char *name, size_t len)
{
    size_t start = d->depth ? d->end[d->depth] + 1 : 0;
    int fd;

    if (len > LD_MAX_NAME || d->depth == LD_MAX_TREE_DEPTH)
        return -ENAMETOOLONG;
    if (d->depth)
        d->path[start - 1] = '/';
    memcpy(d->path + start, name, len);
    d->path[start + len] = '\0';
    fd = ld_open_dir(d->fd[d->depth], d->path + start);
    if (fd < 0) {
        d->path[d->end[d->depth]] = '\0';
        return fd == -ELOOP ? -ENOTDIR : fd;
    }
    d->depth++;
    d->fd[d->depth] = fd;
    d->end[d->depth] = start + len;
    return 0;
}
