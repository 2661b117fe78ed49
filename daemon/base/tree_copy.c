/* Copying a whole merged view into a directory: see ld_tree_copy in tree.h.
 *
 * The target is a stack of open directories, of which the lowest are closed beyond MAX_OPEN and
 * reached again by ".."; nobody else changes the target while it is made. Names of an inode that
 * has more than one are linked to the first copy, found again by its path: an inode belongs to one
 * layer, so links are kept within a layer and never made across two. No state besides, any thread.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "daemon/base/fdio.h"
#include "daemon/base/inodes.h"
#include "daemon/base/mem.h"
#include "daemon/base/tree.h"

enum { MAX_OPEN = 256 };

#define NOWHERE SIZE_MAX

struct copy {
    int root; /* borrowed */
    bool with_marks, is_live, has_no_sockets;
    const struct ld_layers *below; /* of what the marks hide; or NULL */
    size_t closed_at; /* depth of the outermost directory that hides them; or NOWHERE */
    enum ld_form form;
    const bool *cancel;
    int *dir; /* open directories below the root; -EBADF: given up */
    size_t depth, cap;
    struct ld_inodes linked; /* with the first copy's path, relative to the root */
};

static void copy_done(struct copy *c)
{
    for (size_t i = 0; i < c->depth; i++)
        ld_close(c->dir[i]);
    free(c->dir);
    ld_inodes_done(&c->linked);
    *c = (struct copy){.root = -EBADF};
}

static int top(const struct copy *c)
{
    return c->depth ? c->dir[c->depth - 1] : c->root;
}

static int enter(struct copy *c, const char *name)
{
    int fd = ld_open_dir(top(c), name);

    if (fd < 0)
        return fd;
    if (c->depth >= MAX_OPEN)
        ld_close_p(&c->dir[c->depth - MAX_OPEN]);
    ld_grow(&c->dir, &c->cap, c->depth + 1, sizeof(*c->dir));
    c->dir[c->depth++] = fd;
    return 0;
}

static int leave(struct copy *c)
{
    autoclose int fd = c->dir[--c->depth];
    int *above = c->depth ? &c->dir[c->depth - 1] : NULL;

    if (above && *above < 0)
        *above = openat(fd, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return above && *above < 0 ? -errno : 0;
}

static int link_again(struct copy *c, const char *path, const char *name)
{
    autoclose int first = ld_tree_open_path(c->root, path, O_PATH | O_NOFOLLOW);

    if (first < 0)
        return first;
    return linkat(first, "", top(c), name, AT_EMPTY_PATH) < 0 ? -errno : 0;
}

/* Gone, or another by now: under a live copy no error. */
static bool is_passed_over(const struct copy *c, const struct ld_err *err)
{
    return c->is_live && (err->errnum == ENOENT || err->errnum == ESTALE);
}

static int copy_linked(struct copy *c, const struct ld_node *node, struct ld_err *err)
{
    const char *first = ld_inodes_find(&c->linked, &node->st, node->layer);
    int r;

    if (first) {
        r = link_again(c, first, node->name);
        return r < 0 ? ld_err_sys(err, r, "link '%s'", node->path) : 0;
    }
    if (ld_node_copy(node, top(c), node->name, c->form, c->cancel, err) < 0)
        return -1;
    r = ld_inodes_add(&c->linked, &node->st, node->layer, node->path + 1);
    return r < 0 ? ld_err_sys(err, r, "remember '%s'", node->path) : 0;
}

/* Is there something further down that the node could hide? */
static int has_below(const struct copy *c, const struct ld_node *node, bool *ret,
                     struct ld_err *err)
{
    LD_AUTO(ld_found_done) struct ld_found found = LD_FOUND_INIT;
    int rc = 0;

    *ret = c->closed_at == NOWHERE;
    if (*ret && c->below) {
        rc = ld_tree_lookup(c->below, node->path, &found, err);
        *ret = rc > 0;
    }
    return rc < 0 ? -1 : 0;
}

static int copy_whiteout(struct copy *c, const struct ld_node *node, struct ld_err *err)
{
    bool hides;
    int r;

    if (has_below(c, node, &hides, err) < 0)
        return -1;
    r = hides ? ld_mark_make_whiteout(top(c), node->name) : 0;
    return r < 0 ? ld_err_sys(err, r, "mark '%s' as deleted", node->path) : 0;
}

/* Just entered. */
static int mark_closed(struct copy *c, const struct ld_node *node, struct ld_err *err)
{
    bool hides;
    int r;

    if (!c->with_marks || !node->is_closed)
        return 0;
    if (has_below(c, node, &hides, err) < 0)
        return -1;
    r = hides ? ld_mark_set_opaque(top(c)) : 0;
    if (c->closed_at == NOWHERE)
        c->closed_at = node->depth;
    return r < 0 ? ld_err_sys(err, r, "mark '%s' as opaque", node->path) : 0;
}

static int leave_dir(struct copy *c, const struct ld_node *node, struct ld_err *err)
{
    int r = 0;

    if (c->closed_at == node->depth)
        c->closed_at = NOWHERE;
    if (ld_node_copy_attrs(node, top(c), c->form, err) < 0 && !is_passed_over(c, err))
        return -1;
    if (c->depth > 0)
        r = leave(c);
    return r < 0 ? ld_err_sys(err, r, "leave '%s'", node->path) : 0;
}

static int enter_dir(struct copy *c, const struct ld_node *node, struct ld_err *err)
{
    int r = enter(c, node->name);

    return r < 0 ? ld_err_sys(err, r, "enter '%s'", node->path) : mark_closed(c, node, err);
}

static int copy_one(struct copy *c, const struct ld_node *node, struct ld_err *err)
{
    bool is_dir = S_ISDIR(node->st.st_mode);
    int rc;

    if (node->is_leave)
        return leave_dir(c, node, err);
    if (node->depth == 0)
        return 0;
    if (node->is_whiteout)
        return copy_whiteout(c, node, err);
    if (c->has_no_sockets && S_ISSOCK(node->st.st_mode))
        return 0;
    if (ld_inode_has_names(&node->st))
        rc = copy_linked(c, node, err);
    else
        rc = ld_node_copy(node, top(c), node->name, c->form, c->cancel, err);
    if (rc < 0 && is_passed_over(c, err)) {
        (void)unlinkat(top(c), node->name, 0); /* a part of it */
        return 0;
    }
    return rc == 0 && is_dir ? enter_dir(c, node, err) : rc;
}

static int copy_all(struct copy *c, const struct ld_layers *layers, struct ld_err *err)
{
    unsigned flags = c->with_marks ? LD_TREE_WHITEOUTS : 0;
    LD_AUTO(ld_tree_free_p) struct ld_tree *t = ld_tree_new(layers, flags, c->cancel);
    struct ld_node node;
    int r;

    while ((r = ld_tree_next(t, &node, err)) > 0)
        if (copy_one(c, &node, err) < 0)
            return -1;
    return r;
}

int ld_tree_copy(const struct ld_layers *layers, int dir, enum ld_form form, const bool *cancel,
                 struct ld_err *err)
{
    LD_AUTO(copy_done)
    struct copy c = {.root = dir,
                     .form = form,
                     .cancel = cancel,
                     .closed_at = NOWHERE,
                     .linked = LD_INODES_INIT(LD_INODES_MAX)};

    return copy_all(&c, layers, err);
}

int ld_tree_copy_live(const struct ld_layers *layers, int dir, enum ld_form form,
                      const bool *cancel, struct ld_err *err)
{
    LD_AUTO(copy_done)
    struct copy c = {.root = dir,
                     .form = form,
                     .cancel = cancel,
                     .is_live = true,
                     .closed_at = NOWHERE,
                     .linked = LD_INODES_INIT(LD_INODES_MAX)};

    return copy_all(&c, layers, err);
}

int ld_tree_copy_layer(const struct ld_layers *layers, const struct ld_layers *below, int dir,
                       unsigned flags, const bool *cancel, struct ld_err *err)
{
    LD_AUTO(copy_done)
    struct copy c = {.root = dir,
                     .form = LD_FORM_LAYER,
                     .cancel = cancel,
                     .with_marks = true,
                     .is_live = flags & LD_COPY_LIVE,
                     .has_no_sockets = flags & LD_COPY_NO_SOCKETS,
                     .below = below,
                     .closed_at = NOWHERE,
                     .linked = LD_INODES_INIT(LD_INODES_MAX)};

    return copy_all(&c, layers, err);
}
