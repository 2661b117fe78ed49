/* What an entry of the same path, coming later, replaces.
 *
 * The recipe writes the replaced content too, so it moves to the aside directory. A file with other
 * names in the layer stays where it is and is copied instead, once per inode: a further link held
 * aside would show in its link count.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "daemon/base/fdio.h"
#include "daemon/base/mem.h"
#include "daemon/base/table.h"
#include "daemon/image/untar_impl.h"

struct ld_untar_kept {
    ino_t ino;
    uint64_t n; /* ASIDE/n */
    UT_hash_handle hh;
};

struct aside_name {
    char text[24];
};

static struct aside_name aside_name(uint64_t n)
{
    struct aside_name name;

    (void)snprintf(name.text, sizeof(name.text), "%" PRIu64, n); /* 20 digits at most */
    return name;
}

int ld_untar_aside(struct ld_untar *u, struct ld_err *err)
{
    if (u->aside_fd < 0) {
        int fd = ld_ensure_dir(u->job->aside_parent_fd, u->job->aside_name, 0700);

        if (fd < 0)
            return ld_err_sys(err, fd, "make a layer's aside directory");
        u->aside_fd = fd;
    }
    return u->aside_fd;
}

void ld_untar_kept_done(struct ld_untar_kept **kept)
{
    ld_table_drain(hh, *kept, free);
}

static int copy_aside(struct ld_untar *u, int dir, const char *name, uint64_t n, struct ld_err *err)
{
    autoclose int from = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    autoclose int to = -EBADF;
    int r;

    if (from < 0)
        return ld_untar_sys(u, -errno, "open what is replaced by", err);
    to = openat(u->aside_fd, aside_name(n).text, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600);
    if (to < 0)
        return ld_untar_sys(u, -errno, "keep what is replaced by", err);
    r = ld_copy_data(from, to, u->job->cancel);
    return r < 0 ? ld_untar_sys(u, r, "keep what is replaced by", err) : 0;
}

/* Brings the content of a file aside; dir/name is gone or can go. */
static int keep_content(struct ld_untar *u, int dir, const char *name, const struct stat *st,
                        const char *path, struct ld_err *err)
{
    struct ld_untar_kept *kept;
    uint64_t n;

    if (ld_untar_aside(u, err) < 0)
        return -1;
    HASH_FIND(hh, u->kept, &st->st_ino, sizeof(st->st_ino), kept);
    n = kept ? kept->n : u->n_asides++;
    if (!kept && st->st_nlink > 1) {
        if (copy_aside(u, dir, name, n, err) < 0)
            return -1;
        kept = ld_new(struct ld_untar_kept);
        *kept = (struct ld_untar_kept){.ino = st->st_ino, .n = n};
        HASH_ADD(hh, u->kept, ino, sizeof(kept->ino), kept);
    } else if (!kept) {
        if (renameat(dir, name, u->aside_fd, aside_name(n).text) < 0)
            return ld_untar_sys(u, -errno, "keep what is replaced by", err);
    } else if (st->st_nlink == 1) {
        HASH_DEL(u->kept, kept); /* the inode goes now, its number may come again */
        free(kept);
    }
    return ld_recipe_moved(u->recipe, path, n, err);
}

static int remove_file(struct ld_untar *u, int dir, const char *name, const char *path,
                       struct ld_err *err)
{
    struct stat st;

    if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return ld_untar_sys(u, -errno, "look at what is replaced by", err);
    if (S_ISREG(st.st_mode) && st.st_size > 0 && keep_content(u, dir, name, &st, path, err) < 0)
        return -1;
    if (unlinkat(dir, name, 0) < 0 && errno != ENOENT)
        return ld_untar_sys(u, -errno, "remove what is replaced by", err);
    return 0;
}

/* Everything in a directory, not the directory itself. */
static int remove_content(struct ld_untar *u, int root, const char *path, struct ld_err *err)
{
    struct ld_layers layers = {.root = &root, .n = 1, .form = LD_FORM_PLAIN};
    LD_AUTO(ld_tree_free_p) struct ld_tree *tree = ld_tree_new(&layers, 0, u->job->cancel);
    struct ld_node node;
    int r;

    while ((r = ld_tree_next(tree, &node, err)) > 0) {
        autofree char *own = NULL;

        if (node.depth == 0 || (S_ISDIR(node.st.st_mode) && !node.is_leave))
            continue;
        if (S_ISDIR(node.st.st_mode)) {
            if (unlinkat(node.dir, node.name, AT_REMOVEDIR) < 0)
                return ld_untar_sys(u, -errno, "remove what is replaced by", err);
            continue;
        }
        own = ld_asprintf("%s%s", path, node.path);
        if (remove_file(u, node.dir, node.name, own, err) < 0)
            return -1;
    }
    return r;
}

static bool is_at_or_below(const char *path, const char *dir)
{
    size_t len = strlen(dir);

    return strncmp(path, dir, len) == 0 && (path[len] == '\0' || path[len] == '/');
}

int ld_untar_replace(struct ld_untar *u, int dir, const char *name, struct ld_err *err)
{
    autofree char *path = ld_untar_path(u->dirs, name);
    autoclose int fd = ld_open_dir(dir, name);

    if (fd == -ENOTDIR || fd == -ELOOP)
        return remove_file(u, dir, name, path, err);
    if (fd < 0)
        return ld_untar_sys(u, fd, "open what is replaced by", err);
    /* Never so while a link is made whose target is open: it does not lie in what it replaces. */
    if (is_at_or_below(ld_dirs_path(u->targets), path))
        ld_dirs_cut(u->targets, 0);
    if (remove_content(u, fd, path, err) < 0)
        return -1;
    if (unlinkat(dir, name, AT_REMOVEDIR) < 0)
        return ld_untar_sys(u, -errno, "remove what is replaced by", err);
    return 0;
}
