/* Writing trees as tar: see tarout.h. */
#include "daemon/core/tarout.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "daemon/base/inodes.h"
#include "daemon/base/mem.h"
#include "daemon/image/recipe.h"
#include "daemon/image/sink.h"
#include "daemon/image/tarw.h"

struct ld_tarout {
    struct ld_tarw *w;
    struct ld_inodes linked; /* written, with the name */
    const bool *cancel;
    struct ld_recipe *recipe; /* or NULL */
    struct ld_tar_tee tee;
};

struct ld_tarout *ld_tarout_new_recorded(struct ld_sink *sink, struct ld_recipe *recipe,
                                         const bool *cancel)
{
    struct ld_tarout *out = ld_new(struct ld_tarout);

    out->recipe = recipe;
    if (recipe)
        out->tee = ld_recipe_tee(recipe);
    out->w = ld_tarw_new(sink, recipe ? &out->tee : NULL);
    out->linked = LD_INODES_INIT(LD_TAR_MAX_ENTRIES);
    out->cancel = cancel;
    return out;
}

struct ld_tarout *ld_tarout_new(struct ld_sink *sink, const bool *cancel)
{
    return ld_tarout_new_recorded(sink, NULL, cancel);
}

void ld_tarout_free_p(struct ld_tarout **slot)
{
    struct ld_tarout *out = *slot;

    if (!out)
        return;
    ld_inodes_done(&out->linked);
    ld_tarw_free(out->w);
    free(out);
    *slot = NULL;
}

static int remember(struct ld_tarout *out, const struct stat *st, const char *name,
                    struct ld_err *err)
{
    int r = ld_inodes_add(&out->linked, st, 0, name);

    if (r == -E2BIG)
        return ld_err_set(err, LD_E_UNAVAILABLE, "more than %d files with several names",
                          LD_TAR_MAX_ENTRIES);
    return r < 0 ? ld_err_sys(err, r, "remember '%s'", name) : 0;
}

static enum ld_tar_type type_of(mode_t mode)
{
    switch (mode & S_IFMT) {
    case S_IFDIR:
        return LD_TAR_DIR;
    case S_IFLNK:
        return LD_TAR_SYMLINK;
    case S_IFCHR:
        return LD_TAR_CHAR;
    case S_IFBLK:
        return LD_TAR_BLOCK;
    case S_IFIFO:
        return LD_TAR_FIFO;
    default:
        return LD_TAR_FILE;
    }
}

static void fill(struct ld_tar_entry *e, const struct stat *st, const char *name)
{
    *e = (struct ld_tar_entry){
        .name = name,
        .linkname = "",
        .type = type_of(st->st_mode),
        .mode = st->st_mode & 07777,
        .uid = st->st_uid,
        .gid = st->st_gid,
        .size = S_ISREG(st->st_mode) ? (uint64_t)st->st_size : 0,
        .mtime_sec = st->st_mtim.tv_sec,
        .mtime_nsec = (uint32_t)st->st_mtim.tv_nsec,
        .devmajor = major(st->st_rdev),
        .devminor = minor(st->st_rdev),
    };
    if (!S_ISCHR(st->st_mode) && !S_ISBLK(st->st_mode))
        e->devmajor = e->devminor = 0;
}

int ld_tarout_link(struct ld_tarout *out, const struct stat *st, const char *name, bool *ret_done,
                   struct ld_err *err)
{
    const char *first = ld_inode_has_names(st) ? ld_inodes_find(&out->linked, st, 0) : NULL;
    struct ld_tar_entry e;

    *ret_done = first != NULL;
    if (!first)
        return 0;
    fill(&e, st, name);
    e.type = LD_TAR_HARDLINK;
    e.size = 0;
    e.devmajor = e.devminor = 0;
    e.linkname = first;
    return ld_tarw_entry(out->w, &e, err);
}

static int write_entry(struct ld_tarout *out, const struct ld_node *node, int fd, const char *name,
                       struct ld_err *err)
{
    struct ld_xattrs xattrs LD_AUTO(ld_xattrs_done) = {.n = 0};
    autofree struct ld_tar_xattr *list = NULL;
    autofree char *target = NULL;
    struct ld_tar_entry e;
    int r = ld_xattrs_get(fd, node->form, &xattrs);

    if (r == 0 && S_ISLNK(node->st.st_mode))
        r = ld_node_readlink(node, &target);
    if (r < 0)
        return ld_err_sys(err, r, "read the attributes of '%s'", node->path);
    fill(&e, &node->st, name);
    if (target)
        e.linkname = target;
    list = ld_alloc0((xattrs.n + 1) * sizeof(*list));
    for (size_t i = 0; i < xattrs.n; i++)
        list[i] = (struct ld_tar_xattr){
            .name = xattrs.item[i].name, .value = xattrs.item[i].value, .len = xattrs.item[i].len};
    e.xattrs = list;
    e.n_xattrs = xattrs.n;
    if (ld_tarw_entry(out->w, &e, err) < 0)
        return ld_err_prefix(err, "'%s'", node->path);
    if (e.type == LD_TAR_FILE && e.size) {
        bool is_short; /* it shrinks under us: filled up with zeros, as tar does */

        if (out->recipe && ld_recipe_file(out->recipe, node->path + 1, err) < 0)
            return -1;
        if (ld_tarw_file(out->w, fd, out->cancel, &is_short, err) < 0)
            return ld_err_prefix(err, "'%s'", node->path);
    }
    return 0;
}

int ld_tarout_node(struct ld_tarout *out, const struct ld_node *node, const char *name,
                   struct ld_err *err)
{
    const char *shown = *name ? name : "./";
    autoclose int fd = -EBADF;
    bool is_linked;

    if (S_ISSOCK(node->st.st_mode))
        return 0;
    if (ld_tarout_link(out, &node->st, shown, &is_linked, err) < 0)
        return -1;
    if (is_linked)
        return 0;
    fd = ld_node_open(node);
    if (fd == -ENOENT || fd == -ESTALE)
        return 0; /* gone, or another thing by now: the tree is alive */
    if (fd < 0)
        return ld_err_sys(err, fd, "open '%s'", node->path);
    if (write_entry(out, node, fd, shown, err) < 0)
        return -1;
    return ld_inode_has_names(&node->st) ? remember(out, &node->st, shown, err) : 0;
}

int ld_tarout_whiteout(struct ld_tarout *out, const char *path, struct ld_err *err)
{
    const char *slash = strrchr(path, '/');
    size_t dir = slash ? (size_t)(slash - path) + 1 : 0;
    autofree char *name = ld_asprintf("%.*s.wh.%s", (int)dir, path, path + dir);
    struct ld_tar_entry e = {.name = name, .linkname = "", .type = LD_TAR_FILE, .mode = 0};

    return ld_tarw_entry(out->w, &e, err);
}

int ld_tarout_finish(struct ld_tarout *out, struct ld_err *err)
{
    return ld_tarw_finish(out->w, err);
}

int ld_tarout_tree(const struct ld_layers *layers, struct ld_sink *sink, const bool *cancel,
                   struct ld_err *err)
{
    struct ld_tarout *out LD_AUTO(ld_tarout_free_p) = ld_tarout_new(sink, cancel);
    struct ld_tree *tree LD_AUTO(ld_tree_free_p) = ld_tree_new(layers, LD_TREE_NO_LEAVE, cancel);
    struct ld_node node;
    int rc;

    while ((rc = ld_tree_next(tree, &node, err)) > 0) {
        if (ld_tarout_node(out, &node, node.path + 1, err) < 0)
            return -1;
    }
    return rc < 0 ? -1 : ld_tarout_finish(out, err);
}
