/* Trees of files: see file_tree.h. */
#include "daemon/core/file_tree.h"

#include <errno.h>

#include "daemon/core/container.h"

int ld_file_tree_find(struct ld_core *core, enum ld_file_owner owner, const char *text,
                      struct ld_err *err)
{
    LD_AUTO(ld_container_done) struct ld_container c = {.id = NULL};
    LD_AUTO(ld_volume_done) struct ld_volume v = {.sid = 0};

    if (owner == LD_FILES_OF_VOLUME)
        return ld_store_volume_find(ld_core_store(core), text, &v, err);
    return ld_store_container_find(ld_core_store(core), text, &c, err);
}

int ld_file_tree_admit(struct ld_core *core, enum ld_file_owner owner, const char *text,
                       bool will_write, struct ld_op *op, char ret_id[65], struct ld_err *err)
{
    if (owner == LD_FILES_OF_VOLUME)
        return ld_volume_admit_files(core, text, will_write, op, ret_id, err);
    return ld_container_admit_mount(core, text, op, ret_id, err);
}

int ld_file_tree_open(struct ld_core *core, const struct ld_write *w, enum ld_file_owner owner,
                      const char *id, struct ld_file_tree *ret, struct ld_err *err)
{
    struct ld_file_tree tree = LD_FILE_TREE_INIT;

    if (owner == LD_FILES_OF_VOLUME) {
        if (ld_volume_view(core, id, &tree.volume, err) < 0)
            return -1;
        tree.root = (struct ld_files_root){.fd = tree.volume.fd, .what = "volume"};
    } else {
        if (ld_reader_open(core, w, id, true, &tree.container, err) < 0)
            return -1;
        tree.root = (struct ld_files_root){.fd = tree.container.view.fd, .what = "container"};
    }
    *ret = tree;
    return 0;
}

void ld_file_tree_close(struct ld_file_tree *tree)
{
    ld_reader_close(&tree->container);
    ld_volume_view_close(&tree->volume);
    tree->root.fd = -EBADF; /* borrowed from one of them */
}
