/* Capturing by what the driver tells as changes, written as a layer. See capture.h.
 *
 * Besides the changes themselves a layer needs the directories they lie in, and all names of a file
 * of which one name has changed: else it would be torn in two. Directories get their attributes
 * last, since what is made in them touches their times.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/base/fdio.h"
#include "daemon/base/inodes.h"
#include "daemon/base/mem.h"
#include "daemon/core/capture.h"
#include "daemon/core/own.h"
#include "daemon/jobs/lane.h"

struct build {
    const struct ld_capture_from *from;
    struct ld_own own; /* the container's tree */
    int dir;           /* the layer's, borrowed */
    char **dirs;       /* made so far, relative, outer ones first */
    size_t n_dirs, cap;
    struct ld_inodes linked; /* with their first name in the layer, relative */
    bool is_changed;
};

static void build_done(struct build *b)
{
    for (size_t i = 0; i < b->n_dirs; i++)
        free(b->dirs[i]);
    free(b->dirs);
    ld_own_close(&b->own);
    ld_inodes_done(&b->linked);
}

/* Gone, or another by now: while it changes under a live capture that is no error. */
static bool is_passed_over(const struct build *b, const struct ld_err *err)
{
    return b->from->live && (err->errnum == ENOENT || err->errnum == ESTALE);
}

static void remember_dir(struct build *b, const char *path)
{
    ld_grow(&b->dirs, &b->cap, b->n_dirs + 1, sizeof(*b->dirs));
    b->dirs[b->n_dirs++] = ld_strdup(path);
}

/* The layer's directory `path` (relative, "" is the root), made with those above it where missing.
 */
static int open_dir(struct build *b, const char *path)
{
    autofree char *sofar = ld_strdup(path);
    autoclose int at = ld_tree_open_path(b->dir, path, O_RDONLY | O_DIRECTORY);

    if (at != -ENOENT)
        return ld_steal_fd(&at);
    at = ld_tree_open_path(b->dir, "", O_RDONLY | O_DIRECTORY);
    for (char *name = sofar; at >= 0 && *name;) {
        char *end = strchrnul(name, '/'), kept = *end;
        int next;

        *end = '\0';
        next = ld_open_dir(at, name);
        if (next == -ENOENT) {
            next = ld_make_dir(at, name, 0700);
            if (next >= 0)
                remember_dir(b, sofar);
        }
        ld_close(at);
        at = next;
        *end = kept;
        name = kept ? end + 1 : end;
    }
    return ld_steal_fd(&at);
}

/* The directory that `path` (absolute) lies in, and its last component. */
static int open_parent(struct build *b, const char *path, const char **ret_name)
{
    const char *slash = strrchr(path, '/');
    size_t len = (size_t)(slash - path);
    autofree char *above = ld_strndup(path + 1, len ? len - 1 : 0);

    *ret_name = slash + 1;
    return open_dir(b, above);
}

static int link_to(struct build *b, const char *path, int parent, const char *name)
{
    autoclose int first = ld_tree_open_path(b->dir, path, O_PATH | O_NOFOLLOW);

    if (first < 0)
        return first;
    if (linkat(first, "", parent, name, AT_EMPTY_PATH) < 0 && errno != EEXIST)
        return -errno;
    return 0;
}

static int add_node(struct build *b, const struct ld_node *node, struct ld_err *err)
{
    const char *name;
    autoclose int parent = open_parent(b, node->path, &name);
    bool is_multi = ld_inode_has_names(&node->st);
    const char *first = is_multi ? ld_inodes_find(&b->linked, &node->st, 0) : NULL;
    int r = parent;

    if (r >= 0 && first)
        r = link_to(b, first, parent, name);
    if (r < 0)
        return ld_err_sys(err, r, "put '%s' into the layer", node->path);
    if (first)
        return 0;
    if (ld_node_copy(node, parent, name, LD_FORM_LAYER, b->from->cancel, err) < 0) {
        (void)unlinkat(parent, name, 0); /* a part of it, under a live capture */
        return -1;
    }
    r = is_multi ? ld_inodes_add(&b->linked, &node->st, 0, node->path + 1) : 0;
    if (r < 0)
        return ld_err_sys(err, r, "remember '%s'", node->path);
    if (S_ISDIR(node->st.st_mode))
        remember_dir(b, node->path + 1);
    return 0;
}

static int add_whiteout(struct build *b, const char *path, struct ld_err *err)
{
    const char *name;
    autoclose int parent = open_parent(b, path, &name);
    int r = parent < 0 ? parent : ld_mark_make_whiteout(parent, name);

    return r < 0 ? ld_err_sys(err, r, "mark '%s' as deleted", path) : 0;
}

static int leave_out(struct build *b, const struct ld_change *change, struct ld_err *err)
{
    if (b->from->left_out)
        *b->from->left_out = true;
    return change->kind == LD_CHANGE_ADDED ? 0 : add_whiteout(b, change->path, err);
}

static int add_change(void *arg, const struct ld_change *change, struct ld_err *err)
{
    struct build *b = arg;

    if (ld_flag_is_set(b->from->cancel))
        return ld_err_set(err, LD_E_CANCELED, "cancelled");
    b->is_changed = true;
    if (strcmp(change->path, "/") == 0)
        return 0; /* its attributes come last of all */
    if (change->kind == LD_CHANGE_DELETED)
        return add_whiteout(b, change->path, err);
    if (b->from->for_image && S_ISSOCK(change->st->st_mode)) /* a tar can't say it */
        return leave_out(b, change, err);
    if (ld_mark_is_whiteout(change->st))
        return ld_err_set(err, b->from->for_image ? LD_E_BAD_CONTENT : LD_E_CONFLICT,
                          "'%s' is a character device 0:0, which stands for a deletion in a layer",
                          change->path);
    if (add_node(b, change->node, err) == 0 || is_passed_over(b, err))
        return 0;
    return -1;
}

/* The other names of files of which one is in the layer. */
static int add_other_names(struct build *b, struct ld_err *err)
{
    struct ld_tree *tree LD_AUTO(ld_tree_free_p) =
        ld_tree_new(&b->own.layers, LD_TREE_NO_LEAVE, b->from->cancel);
    struct ld_node node;
    int rc;

    while (b->linked.all && (rc = ld_tree_next(tree, &node, err)) != 0) {
        if (rc < 0)
            return -1;
        if (ld_inode_has_names(&node.st) && ld_inodes_find(&b->linked, &node.st, 0) &&
            add_node(b, &node, err) < 0)
            return -1;
    }
    return 0;
}

/* The attributes that the container's tree has at `path` for the layer's directory there. */
static int dress(struct build *b, const char *path, struct ld_err *err)
{
    LD_AUTO(ld_found_done) struct ld_found found = LD_FOUND_INIT;
    autoclose int fd = ld_tree_open_path(b->dir, path, O_RDONLY | O_DIRECTORY);
    int rc;

    if (fd < 0)
        return ld_err_sys(err, fd, "open '%s' in the layer", path);
    rc = ld_tree_lookup(&b->own.layers, path, &found, err);
    if (rc == 0)
        return b->from->live ? 0 : ld_err_set(err, LD_E_INTERNAL, "'/%s' has vanished", path);
    if (rc < 0 || ld_node_copy_attrs(&found.node, fd, LD_FORM_LAYER, err) < 0)
        return is_passed_over(b, err) ? 0 : -1;
    return 0;
}

int ld_capture_tree(const struct ld_capture_from *from, int dir, bool *ret_changed,
                    struct ld_err *err)
{
    LD_AUTO(build_done)
    struct build b = {.from = from, .dir = dir, .linked = LD_INODES_INIT(LD_INODES_MAX)};

    if (ld_own_open(from->env, from->driver, &from->writable, &b.own, err) < 0 ||
        from->driver->changes(from->env, &from->writable, add_change, &b, err) < 0 ||
        add_other_names(&b, err) < 0)
        return -1;
    for (size_t i = b.n_dirs; i-- > 0;) {
        if (dress(&b, b.dirs[i], err) < 0)
            return -1;
    }
    *ret_changed = b.is_changed;
    return b.is_changed ? dress(&b, "", err) : 0;
}
