/* Names of entries: cleaning them, and finding their parent in the layer's own root.
 *
 * Only directories held open are used: a name is never handed to the kernel with a slash in it, so
 * nothing that an archive says can lead out of the root.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>

#include "daemon/image/untar_impl.h"

static bool is_reserved(const char *name, size_t len)
{
    return len >= 4 && memcmp(name, ".wh.", 4) == 0;
}

/* Where the last component of out[0, len) starts, its slash included. */
static size_t without_last(const char *out, size_t len)
{
    while (len > 0 && out[len - 1] != '/')
        len--;
    return len > 0 ? len - 1 : 0;
}

int ld_untar_clean(const struct ld_untar *u, const char *raw, bool may_be_absolute, char *clean,
                   struct ld_err *err)
{
    size_t len = 0, depth = 0;

    for (const char *at = raw; *at != '\0';) {
        size_t n = strcspn(at, "/");

        if (n == 2 && at[0] == '.' && at[1] == '.') {
            if (depth == 0)
                return ld_untar_refuse(u, err, "its path leads out of the layer");
            depth--;
            len = without_last(clean, len);
        } else if (n > 0 && !(n == 1 && at[0] == '.')) {
            if (n > LD_MAX_NAME)
                return ld_untar_over(u, err, "name_bytes", LD_MAX_NAME, "a name in its path");
            if (++depth > LD_MAX_TREE_DEPTH)
                return ld_untar_over(u, err, "depth", LD_MAX_TREE_DEPTH, "the depth of its path");
            if (len > 0)
                clean[len++] = '/';
            memcpy(clean + len, at, n);
            len += n;
        }
        at += n;
        at += *at == '/';
    }
    clean[len] = '\0';
    if (raw[0] == '\0')
        return ld_untar_refuse(u, err, "it has no name");
    if (raw[0] == '/' && len > 0 && !may_be_absolute)
        return ld_untar_refuse(u, err, "its path is absolute");
    return 0;
}

/* The path still to go after a symlink: its target, then what came after it. */
static int read_symlink(struct ld_untar *u, int dir, const char *name, const char *rest,
                        const char **ret_todo, struct ld_err *err)
{
    char *to = rest >= u->todo[0] && rest < u->todo[1] ? u->todo[1] : u->todo[0];
    size_t rest_len = strlen(rest);
    ssize_t len = readlinkat(dir, name, to, PATH_MAX);

    if (len < 0 && errno == EINVAL)
        return ld_untar_refuse(u, err, "it lies below '%s', which is not a directory", name);
    if (len < 0)
        return ld_untar_sys(u, -errno, "read a symlink on the way to", err);
    if ((size_t)len + 1 + rest_len + 1 > LD_UNTAR_MAX_TODO)
        return ld_untar_refuse(u, err, "the symlinks in its path are too long");
    to[len] = '/';
    memcpy(to + len + 1, rest, rest_len + 1);
    *ret_todo = to;
    return 0;
}

static int make_implied(struct ld_untar *u, struct ld_dirs *dirs, const char *name, size_t len,
                        struct ld_err *err)
{
    int r;

    if (ld_untar_count_node(u, err) < 0)
        return -1;
    r = mkdirat(ld_dirs_top(dirs), name, 0700) < 0 ? -errno : ld_dirs_push(dirs, name, len);
    if (r < 0)
        return ld_untar_sys(u, r, "make the directory of", err);
    return ld_untar_note(u, LD_NOTE_IMPLIED, ld_dirs_path(dirs), err);
}

static void add_missing(struct ld_buf *missing, const char *name)
{
    if (missing->len > 0)
        ld_buf_addc(missing, '/');
    ld_buf_adds(missing, name);
}

/* Where a walk stands. The level may be above the top of `dirs` (after a ".." or an absolute
 * symlink): what lies below it is only a guess at what comes next, and costs nothing when right. */
struct walk {
    struct ld_dirs *dirs;
    struct ld_buf *missing; /* NULL: make what is missing */
    size_t level;
    unsigned n_symlinks;
    const char *todo;
};

static void step_up(struct walk *w)
{
    if (w->missing && w->missing->len > 0) {
        w->missing->len = without_last(w->missing->data, w->missing->len);
        w->missing->data[w->missing->len] = '\0';
    } else if (w->level > 0) {
        w->level--;
    }
}

/* One component that is neither "." nor "..". */
static int step(struct ld_untar *u, struct walk *w, const char *name, size_t len,
                struct ld_err *err)
{
    int r;

    if (w->missing && w->missing->len > 0) {
        add_missing(w->missing, name);
        return 0;
    }
    if (ld_dirs_is_next(w->dirs, w->level, name, len)) {
        w->level++;
        return 0;
    }
    ld_dirs_cut(w->dirs, w->level);
    r = ld_dirs_push(w->dirs, name, len);
    if (r == 0) {
        w->level++;
        return 0;
    }
    if (r == -ENAMETOOLONG)
        return ld_untar_over(u, err, "depth", LD_MAX_TREE_DEPTH, "the depth of its path");
    if (r == -ENOENT && w->missing) {
        add_missing(w->missing, name);
        return 0;
    }
    if (r == -ENOENT) {
        w->level++;
        return make_implied(u, w->dirs, name, len, err);
    }
    if (r != -ENOTDIR)
        return ld_untar_sys(u, r, "open the directory of", err);
    if (++w->n_symlinks > LD_UNTAR_MAX_SYMLINKS)
        return ld_untar_refuse(u, err, "there are more than %d symlinks in its path",
                               LD_UNTAR_MAX_SYMLINKS);
    if (read_symlink(u, ld_dirs_top(w->dirs), name, w->todo, &w->todo, err) < 0)
        return -1;
    if (w->todo[0] == '/')
        w->level = 0;
    return 0;
}

int ld_untar_follow(struct ld_untar *u, struct ld_dirs *dirs, const char *path,
                    struct ld_buf *missing, struct ld_err *err)
{
    struct walk w = {.dirs = dirs, .missing = missing, .todo = u->todo[0]};

    memcpy(u->todo[0], path, strlen(path) + 1); /* cleaned: it fits */
    while (*w.todo != '\0') {
        char name[LD_MAX_NAME + 1];
        size_t len = strcspn(w.todo, "/");
        const char *at = w.todo;

        w.todo += len;
        w.todo += *w.todo == '/';
        if (len == 0 || (len == 1 && at[0] == '.'))
            continue;
        if (len == 2 && at[0] == '.' && at[1] == '.') {
            step_up(&w);
            continue;
        }
        if (len > LD_MAX_NAME)
            return ld_untar_over(u, err, "name_bytes", LD_MAX_NAME, "a name in its path");
        if (is_reserved(at, len))
            return ld_untar_refuse(u, err, "it lies below a name that begins with '.wh.'");
        memcpy(name, at, len);
        name[len] = '\0';
        if (step(u, &w, name, len, err) < 0)
            return -1;
    }
    ld_dirs_cut(dirs, w.level);
    if (missing && ld_buf_check(missing) < 0)
        return ld_untar_refuse(u, err, "the symlinks in its path are too long");
    return 0;
}
