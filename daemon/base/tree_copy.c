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

#include <uthash.h>

#include "daemon/base/fdio.h"
#include "daemon/base/mem.h"
#include "daemon/base/tree.h"

enum { MAX_OPEN = 256 };

struct link_key {
    uint64_t layer, dev, ino;
};

struct link {
    struct link_key key;
    char *path; /* of the first copy, relative to the target's root */
    UT_hash_handle hh;
};

struct copy {
    int root; /* borrowed */
    enum ld_form form;
    const bool *cancel;
    int *dir; /* open directories below the root; -EBADF: given up */
    size_t depth, cap;
    struct link *links;
};

static void copy_done(struct copy *c)
{
    struct link *l, *next;

    for (size_t i = 0; i < c->depth; i++)
        ld_close(c->dir[i]);
    free(c->dir);
    HASH_ITER (hh, c->links, l, next) {
        HASH_DEL(c->links, l);
        free(l->path);
        free(l);
    }
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

static struct link *find_link(struct copy *c, const struct link_key *key)
{
    struct link *l;

    HASH_FIND(hh, c->links, key, sizeof(*key), l);
    return l;
}

static void remember(struct copy *c, const struct link_key *key, const char *path)
{
    struct link *l = ld_new(struct link);

    l->key = *key;
    l->path = ld_strdup(path);
    HASH_ADD(hh, c->links, key, sizeof(l->key), l);
}

static int link_again(struct copy *c, const struct link *l, const char *name)
{
    autoclose int first = ld_tree_open_path(c->root, l->path, O_PATH | O_NOFOLLOW);

    if (first < 0)
        return first;
    return linkat(first, "", top(c), name, AT_EMPTY_PATH) < 0 ? -errno : 0;
}

static int copy_linked(struct copy *c, const struct ld_node *node, struct ld_err *err)
{
    struct link_key key = {node->layer, node->st.st_dev, node->st.st_ino};
    const struct link *l = find_link(c, &key);
    int r;

    if (l) {
        r = link_again(c, l, node->name);
        return r < 0 ? ld_err_sys(err, r, "link '%s'", node->path) : 0;
    }
    if (ld_node_copy(node, top(c), node->name, c->form, c->cancel, err) < 0)
        return -1;
    remember(c, &key, node->path + 1);
    return 0;
}

static int copy_one(struct copy *c, const struct ld_node *node, struct ld_err *err)
{
    int r = 0;

    if (node->is_leave) {
        if (ld_node_copy_attrs(node, top(c), c->form, err) < 0)
            return -1;
        if (c->depth > 0)
            r = leave(c);
        return r < 0 ? ld_err_sys(err, r, "leave '%s'", node->path) : 0;
    }
    if (node->depth == 0)
        return 0;
    if (!S_ISDIR(node->st.st_mode) && node->st.st_nlink > 1)
        return copy_linked(c, node, err);
    if (ld_node_copy(node, top(c), node->name, c->form, c->cancel, err) < 0)
        return -1;
    if (S_ISDIR(node->st.st_mode))
        r = enter(c, node->name);
    return r < 0 ? ld_err_sys(err, r, "enter '%s'", node->path) : 0;
}

int ld_tree_copy(const struct ld_layers *layers, int dir, enum ld_form form, const bool *cancel,
                 struct ld_err *err)
{
    LD_AUTO(ld_tree_free_p) struct ld_tree *t = ld_tree_new(layers, 0, cancel);
    LD_AUTO(copy_done) struct copy c = {.root = dir, .form = form, .cancel = cancel};
    struct ld_node node;
    int r;

    while ((r = ld_tree_next(t, &node, err)) > 0)
        if (copy_one(&c, &node, err) < 0)
            return -1;
    return r;
}
