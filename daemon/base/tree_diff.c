/* What is different between two trees: one walk over both in step, see tree_diff.h.
 *
 * Both walks deliver paths in the same order, so each entry of the chain is met before, at or after
 * the present entry of the layer. Of an overlay's upper, what it does not mention is unchanged,
 * except below a directory that shows nothing of the chain (`pure`: a closed one and all within):
 * there, and anywhere in a whole tree, an entry that only the chain has was deleted. The opaque
 * mark alone proves nothing (it also sits on brand-new directories that were renamed), nor does a
 * whiteout: what lies below decides.
 *
 * An entry that replaces another of a different type is modified; what was inside a replaced or
 * deleted directory is not told one by one. No state, any thread.
 */
#include "daemon/base/tree_diff.h"

#include <errno.h>
#include <string.h>

#define NOWHERE SIZE_MAX

struct walk {
    const struct ld_diff *diff;
    ld_change_fn sink;
    void *arg;

    struct ld_tree *now, *before;
    struct ld_node a, b; /* the present entries of both */
    bool has_b;          /* b is one to come; else the walk `before` has to go on first */
    bool is_before_at_end;
    size_t b_count; /* entries delivered by `before`: b is number b_count - 1 */
    size_t pure_at; /* depth of the directory of the upper that hides the chain, or NOWHERE */
    size_t done_at; /* depth of an entry of `before` whose inside counts for nothing, or NOWHERE */
};

static int tell(struct walk *w, enum ld_change_kind kind, const struct ld_node *node,
                struct ld_err *err)
{
    struct ld_change change = {.kind = kind, .path = node->path, .st = &node->st, .node = node};

    return w->sink(w->arg, &change, err) == 0 ? 0 : -1;
}

/* Are the entries of the directory at `depth` (on the way to where the walk was last) all in `now`?
 */
static bool is_pure(const struct walk *w, size_t depth)
{
    return !w->diff->now_is_upper || (w->pure_at != NOWHERE && depth >= w->pure_at);
}

/* What is inside b counts for nothing. A whole tree needs each entry counted, so they are only
 * passed. */
static void pass_inside(struct walk *w)
{
    if (!S_ISDIR(w->b.st.st_mode))
        return;
    if (w->diff->now_is_upper)
        ld_tree_skip(w->before);
    else
        w->done_at = w->b.depth;
}

/* Makes b the next entry of the chain that counts, at or after `path` where what comes before is of
 * no interest. */
static int next_b(struct walk *w, const char *path, struct ld_err *err)
{
    if (w->has_b || w->is_before_at_end)
        return 0;
    if (path && w->diff->now_is_upper && w->pure_at == NOWHERE)
        ld_tree_skip_to(w->before, path);
    for (;;) {
        int r = ld_tree_next(w->before, &w->b, err);

        if (r < 0)
            return -1;
        w->is_before_at_end = r == 0;
        w->has_b = r > 0;
        if (!w->has_b)
            return 0;
        w->b_count++;
        if (w->done_at == NOWHERE || w->b.depth <= w->done_at)
            break;
    }
    w->done_at = NOWHERE;
    return 0;
}

/* Deals with everything of the chain that comes before `path` (NULL: all the rest). */
static int pass_before(struct walk *w, const char *path, struct ld_err *err)
{
    for (;;) {
        bool is_gone;

        if (!path && w->diff->now_is_upper && w->pure_at == NOWHERE)
            return 0;
        if (next_b(w, path, err) < 0)
            return -1;
        if (!w->has_b || (path && ld_tree_path_cmp(w->b.path, path) >= 0))
            return 0;
        is_gone = w->b.depth > 0 && is_pure(w, w->b.depth - 1);
        if (is_gone && tell(w, LD_CHANGE_DELETED, &w->b, err) < 0)
            return -1;
        pass_inside(w);
        w->has_b = false;
        /* Out of the directory that hid the chain: what follows is not hidden. */
        if (!is_gone && w->diff->now_is_upper) {
            w->pure_at = NOWHERE;
            if (!path)
                return 0;
        }
    }
}

static bool is_in_window(const struct ld_diff *d, const struct timespec *t)
{
    bool is_after = t->tv_sec > d->from.tv_sec ||
                    (t->tv_sec == d->from.tv_sec && t->tv_nsec >= d->from.tv_nsec);
    bool is_before =
        t->tv_sec < d->to.tv_sec || (t->tv_sec == d->to.tv_sec && t->tv_nsec <= d->to.tv_nsec);

    return is_after && is_before;
}

static bool is_untouched(const struct walk *w)
{
    const struct ld_diff *d = w->diff;

    return w->b_count <= d->n_inode && d->inode[w->b_count - 1] == w->a.st.st_ino &&
           is_in_window(d, &w->a.st.st_ctim);
}

/* Both trees have something at this path. */
static int compare_both(struct walk *w, struct ld_err *err)
{
    bool is_dir_a = S_ISDIR(w->a.st.st_mode), is_dir_b = S_ISDIR(w->b.st.st_mode);
    bool is_equal = is_untouched(w);

    if (w->a.is_whiteout) {
        pass_inside(w);
        return tell(w, LD_CHANGE_DELETED, &w->b, err);
    }
    if (!is_equal && ld_node_compare(&w->a, &w->b, w->diff->cancel, &is_equal, err) < 0) {
        if (err->errnum != ENOENT && err->errnum != ESTALE)
            return -1;
        is_equal = true; /* it was replaced or removed this very moment: not told */
    }
    if (!is_equal && tell(w, LD_CHANGE_MODIFIED, &w->a, err) < 0)
        return -1;
    if (!is_dir_a || !is_dir_b)
        pass_inside(w);
    else if (w->a.is_closed && w->pure_at == NOWHERE)
        w->pure_at = w->a.depth;
    return 0;
}

static int visit(struct walk *w, struct ld_err *err)
{
    if (pass_before(w, w->a.path, err) < 0)
        return -1;
    if (w->pure_at != NOWHERE && w->a.depth <= w->pure_at)
        w->pure_at = NOWHERE;
    if (w->has_b && ld_tree_path_cmp(w->b.path, w->a.path) == 0) {
        w->has_b = false;
        return compare_both(w, err);
    }
    return w->a.is_whiteout ? 0 : tell(w, LD_CHANGE_ADDED, &w->a, err);
}

int ld_diff_walk(const struct ld_diff *diff, ld_change_fn sink, void *arg, struct ld_err *err)
{
    unsigned flags = LD_TREE_NO_LEAVE | (diff->now_is_upper ? LD_TREE_WHITEOUTS : 0);
    LD_AUTO(ld_tree_free_p) struct ld_tree *now = ld_tree_new(&diff->now, flags, diff->cancel);
    LD_AUTO(ld_tree_free_p)
    struct ld_tree *before = ld_tree_new(&diff->before, LD_TREE_NO_LEAVE, diff->cancel);
    struct walk w = {.diff = diff,
                     .sink = sink,
                     .arg = arg,
                     .now = now,
                     .before = before,
                     .pure_at = NOWHERE,
                     .done_at = NOWHERE};
    int r;

    while ((r = ld_tree_next(now, &w.a, err)) > 0)
        if (visit(&w, err) < 0)
            return -1;
    return r < 0 ? -1 : pass_before(&w, NULL, err);
}
