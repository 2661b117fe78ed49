/* Containers out as tar: see export.h. */
#include "daemon/core/export.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/base/fdio.h"
#include "daemon/base/inodes.h"
#include "daemon/base/mem.h"
#include "daemon/base/table.h"
#include "daemon/core/container.h"
#include "daemon/core/own.h"
#include "daemon/core/rootfs.h"
#include "daemon/core/state.h"
#include "daemon/core/tarout.h"
#include "daemon/jobs/lane.h"

int ld_export_root(const struct ld_reader *reader, struct ld_sink *sink, const bool *cancel,
                   struct ld_err *err)
{
    const struct ld_layers plain = {.root = &reader->view.fd, .n = 1, .form = LD_FORM_PLAIN};

    return ld_tarout_tree(&plain, sink, cancel, err);
}

/* ---- the changes ---- */

/* A name of a multi-linked inode that was written as a change. */
struct written {
    char *path;
    UT_hash_handle hh;
};

struct diff {
    struct ld_tarout *out;
    const bool *cancel;
    struct written *written; /* by path */
};

static void written_free(struct written *w)
{
    free(w->path);
    free(w);
}

static void diff_done(struct diff *d)
{
    ld_table_drain(hh, d->written, written_free);
    ld_tarout_free_p(&d->out);
}

static void remember(struct diff *d, const char *path)
{
    struct written *w = ld_new(struct written);

    w->path = ld_strdup(path);
    HASH_ADD_KEYPTR(hh, d->written, w->path, strlen(w->path), w);
}

static int write_change(void *arg, const struct ld_change *change, struct ld_err *err)
{
    struct diff *d = arg;
    const char *slash = strrchr(change->path, '/');

    if (ld_flag_is_set(d->cancel))
        return ld_err_set(err, LD_E_CANCELED, "cancelled");
    if (strncmp(slash + 1, ".wh.", 4) == 0)
        return ld_err_set(err, LD_E_BAD_CONTENT,
                          "'%s' begins with '.wh.': a layer can't have such a name", change->path);
    /* A socket can't be said; what it has taken the place of is gone all the same. */
    if (change->kind == LD_CHANGE_DELETED ||
        (change->kind == LD_CHANGE_MODIFIED && S_ISSOCK(change->st->st_mode)))
        return ld_tarout_whiteout(d->out, change->path + 1, err);
    if (ld_tarout_node(d->out, change->node, change->path + 1, err) < 0)
        return -1;
    if (ld_inode_has_names(change->st))
        remember(d, change->path);
    return 0;
}

/* Names whose own entry is no change, but whose inode is one under another name: without them the
 * layer would tear the file in two. */
static int write_other_names(struct diff *d, const struct ld_layers *own, struct ld_err *err)
{
    struct ld_tree *tree LD_AUTO(ld_tree_free_p) = ld_tree_new(own, LD_TREE_NO_LEAVE, d->cancel);
    struct ld_node node;
    int rc;

    while ((rc = ld_tree_next(tree, &node, err)) > 0) {
        struct written *w;
        bool done;

        if (!ld_inode_has_names(&node.st))
            continue;
        HASH_FIND_STR(d->written, node.path, w);
        if (!w && ld_tarout_link(d->out, &node.st, node.path + 1, &done, err) < 0)
            return -1;
    }
    return rc;
}

int ld_export_diff(struct ld_core *core, const char *id, struct ld_sink *sink, const bool *cancel,
                   struct ld_err *err)
{
    struct diff d LD_AUTO(diff_done) = {.out = ld_tarout_new(sink, cancel), .cancel = cancel};
    struct ld_container c LD_AUTO(ld_container_done) = {.id = NULL};
    struct ld_loaded_rootfs rootfs LD_AUTO(ld_rootfs_done) = {.parts = NULL};
    LD_AUTO(ld_own_close) struct ld_own own = {.fd = NULL};

    if (ld_container_changes(core, id, write_change, &d, err) < 0)
        return -1;
    if (d.written) {
        if (ld_store_container_get(core->store, id, &c, err) < 0 ||
            ld_rootfs_load(core, &c, true, &rootfs, err) < 0 ||
            ld_own_open(rootfs.fs.env, rootfs.fs.driver, &rootfs.fs.writable, &own, err) < 0 ||
            write_other_names(&d, &own.layers, err) < 0)
            return -1;
    }
    return ld_tarout_finish(d.out, err);
}
