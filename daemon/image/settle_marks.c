/* Whiteouts and opaque marks of a layer.
 *
 * They are a set, so first every directory that has one is marked (whatever lies below), and only
 * then is it decided which of them hide something: a mark further up may have hidden it already.
 * Taking a mark away that hides nothing changes nothing for the others.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/xattr.h>

#include "daemon/image/settle_impl.h"

static int set_mark(int fd, char mark)
{
    return fsetxattr(fd, LD_XATTR_OVERLAY "opaque", &mark, 1, 0) < 0 ? -errno : 0;
}

/* Marks the directory that s->dirs stands in, unless it is HIDDEN, which says more. */
static int mark_top(struct ld_settle *s, char mark, const char *path, struct ld_err *err)
{
    struct ld_settle_level *l = &s->level[ld_dirs_depth(s->dirs)];
    int r;

    if (l->mark == LD_SETTLE_HIDDEN || l->mark == mark)
        return 0;
    r = set_mark(ld_dirs_top(s->dirs), mark);
    if (r < 0)
        return ld_settle_sys(err, r, "mark", path);
    l->mark = mark;
    return 0;
}

static int mark_one(struct ld_settle *s, const struct ld_pending_note *note, struct ld_err *err)
{
    int there = ld_settle_go(s, note->path, strlen(note->path), err);

    if (there <= 0)
        return there;
    if (note->path[0] == '\0') {
        s->is_root_opaque = true;
        return 0;
    }
    return mark_top(s, note->kind == LD_NOTE_OPAQUE ? LD_SETTLE_OPAQUE : LD_SETTLE_HIDDEN,
                    note->path, err);
}

static int make_whiteout(struct ld_settle *s, const char *name, const char *path,
                         struct ld_err *err)
{
    int r = ld_mark_make_whiteout(ld_dirs_top(s->dirs), name);

    return r < 0 ? ld_settle_sys(err, r, "make the whiteout of", path) : 0;
}

/* One name of the root below, all of which an opaque root hides. */
static int hide_root_name(struct ld_settle *s, const struct ld_node *below, struct ld_err *err)
{
    struct stat st;

    ld_settle_cut(s, 0);
    if (fstatat(s->job->root_fd, below->name, &st, AT_SYMLINK_NOFOLLOW) < 0) {
        if (errno != ENOENT)
            return ld_settle_sys(err, -errno, "look at", below->name);
        return make_whiteout(s, below->name, below->name, err);
    }
    if (!S_ISDIR(st.st_mode) || !S_ISDIR(below->st.st_mode))
        return 0;
    if (ld_settle_go(s, below->name, strlen(below->name), err) < 0)
        return -1;
    return mark_top(s, LD_SETTLE_HIDDEN, below->name, err);
}

static int each_root_name(struct ld_settle *s,
                          int (*visit)(struct ld_settle *s, const struct ld_node *below,
                                       struct ld_err *err),
                          struct ld_err *err)
{
    LD_AUTO(ld_tree_free_p)
    struct ld_tree *tree = ld_tree_new(&s->job->lower, LD_TREE_NO_LEAVE, s->job->cancel);
    struct ld_node node;
    int r;

    while ((r = ld_tree_next(tree, &node, err)) > 0) {
        if (node.depth == 0)
            continue;
        if (visit(s, &node, err) < 0)
            return -1;
        if (S_ISDIR(node.st.st_mode))
            ld_tree_skip(tree);
    }
    return r;
}

/* Does a directory lie below at the place of the one that s->dirs stands in? */
static int has_lower_dir(struct ld_settle *s, struct ld_err *err)
{
    LD_AUTO(ld_found_done) struct ld_found below = LD_FOUND_INIT;
    int r = ld_settle_lower(s, ld_dirs_depth(s->dirs) - 1, NULL, &below, err);

    return r > 0 && !S_ISDIR(below.node.st.st_mode) ? 0 : r;
}

static int decide_mark(struct ld_settle *s, const char *path, struct ld_err *err)
{
    size_t depth = ld_dirs_depth(s->dirs);
    struct ld_settle_level *l = &s->level[depth];
    int keep = 0;
    int r;

    if (l->mark == LD_SETTLE_NO_MARK)
        return 0;
    if (!s->level[depth - 1].is_alone)
        keep = has_lower_dir(s, err);
    if (keep != 0)
        return keep < 0 ? -1 : 0;
    r = ld_mark_clear_opaque(ld_dirs_top(s->dirs));
    if (r < 0)
        return ld_settle_sys(err, r, "unmark", path);
    l->mark = LD_SETTLE_NO_MARK;
    return 0;
}

static int decide_whiteout(struct ld_settle *s, const struct ld_pending_note *note,
                           struct ld_err *err)
{
    LD_AUTO(ld_found_done) struct ld_found below = LD_FOUND_INIT;
    const char *name;
    struct stat st;
    int r = ld_settle_go_parent(s, note->path, &name, err);

    if (r <= 0)
        return r;
    if (fstatat(ld_dirs_top(s->dirs), name, &st, AT_SYMLINK_NOFOLLOW) == 0) {
        if (!S_ISDIR(st.st_mode))
            return 0; /* hides it by being there */
        if (ld_settle_go(s, note->path, strlen(note->path), err) < 0)
            return -1;
        return decide_mark(s, note->path, err);
    }
    if (errno != ENOENT && errno != ENAMETOOLONG)
        return ld_settle_sys(err, -errno, "look at", note->path);
    if (errno == ENAMETOOLONG || s->level[ld_dirs_depth(s->dirs)].is_alone)
        return 0;
    r = ld_settle_lower(s, ld_dirs_depth(s->dirs), name, &below, err);
    return r <= 0 ? r : make_whiteout(s, name, note->path, err);
}

static int decide_one(struct ld_settle *s, const struct ld_pending_note *note, struct ld_err *err)
{
    int there;

    if (note->kind == LD_NOTE_WHITEOUT)
        return decide_whiteout(s, note, err);
    if (note->path[0] == '\0')
        return 0;
    there = ld_settle_go(s, note->path, strlen(note->path), err);
    return there <= 0 ? there : decide_mark(s, note->path, err);
}

static int each_mark(struct ld_settle *s,
                     int (*visit)(struct ld_settle *s, const struct ld_pending_note *note,
                                  struct ld_err *err),
                     struct ld_err *err)
{
    struct ld_pending_note note;
    int r;

    ld_settle_cut(s, 0); /* forget what the last pass knew */
    if (ld_pending_rewind(s->pending, err) < 0)
        return -1;
    while ((r = ld_pending_next(s->pending, &note, err)) > 0)
        if ((note.kind == LD_NOTE_WHITEOUT || note.kind == LD_NOTE_OPAQUE) &&
            visit(s, &note, err) < 0)
            return -1;
    return r;
}

int ld_settle_marks(struct ld_settle *s, struct ld_err *err)
{
    s->has_marks = s->job->lower.n > 0 && (ld_pending_count(s->pending, LD_NOTE_WHITEOUT) > 0 ||
                                           ld_pending_count(s->pending, LD_NOTE_OPAQUE) > 0);
    if (!s->has_marks)
        return 0;
    if (each_mark(s, mark_one, err) < 0)
        return -1;
    if (s->is_root_opaque && each_root_name(s, hide_root_name, err) < 0)
        return -1;
    return each_mark(s, decide_one, err);
}

static int make_plain(struct ld_settle *s, const char *path, struct ld_err *err)
{
    int there = ld_settle_go(s, path, strlen(path), err);
    int r;

    if (there <= 0 || s->level[ld_dirs_depth(s->dirs)].mark != LD_SETTLE_HIDDEN)
        return there < 0 ? -1 : 0;
    r = ld_mark_set_opaque(ld_dirs_top(s->dirs));
    return r < 0 ? ld_settle_sys(err, r, "mark", path) : 0;
}

static int make_note_plain(struct ld_settle *s, const struct ld_pending_note *note,
                           struct ld_err *err)
{
    return make_plain(s, note->path, err);
}

static int make_root_name_plain(struct ld_settle *s, const struct ld_node *below,
                                struct ld_err *err)
{
    return make_plain(s, below->name, err);
}

int ld_settle_plain_marks(struct ld_settle *s, struct ld_err *err)
{
    if (!s->has_marks)
        return 0;
    if (each_mark(s, make_note_plain, err) < 0)
        return -1;
    return s->is_root_opaque ? each_root_name(s, make_root_name_plain, err) : 0;
}
