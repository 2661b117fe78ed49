/* The trees that files.h reads and writes: a container with its volumes, or a volume. One of them
 * is opened by what it belongs to and closed by whoever is done, whatever it is. Threads: see
 * core.h. */
#pragma once

#include <errno.h>
#include <stdbool.h>

#include "daemon/core/files.h"
#include "daemon/core/rootfs.h"
#include "daemon/core/volume.h"

struct ld_op;

enum ld_file_owner { LD_FILES_OF_CONTAINER, LD_FILES_OF_VOLUME };

/* Any thread: is there such an owner? */
int ld_file_tree_find(struct ld_core *core, enum ld_file_owner owner, const char *text,
                      struct ld_err *err);
/* Loop: the keys of an open. A container's are those of a mount, whatever is done; a volume's: see
 * ld_volume_admit_files. */
int ld_file_tree_admit(struct ld_core *core, enum ld_file_owner owner, const char *text,
                       bool will_write, struct ld_op *op, char ret_id[65], struct ld_err *err);

struct ld_file_tree {
    struct ld_files_root root; /* fd -EBADF: closed */
    struct ld_reader container;
    struct ld_volume_view volume;
};
#define LD_FILE_TREE_INIT                                                                          \
    ((struct ld_file_tree){.root.fd = -EBADF, .container.view.fd = -EBADF, .volume.fd = -EBADF})

/* Worker, under those keys; reading goes on without them. Codes: those of ld_reader_open and
 * ld_volume_view. */
int ld_file_tree_open(struct ld_core *core, const struct ld_write *w, enum ld_file_owner owner,
                      const char *id, struct ld_file_tree *ret, struct ld_err *err);
void ld_file_tree_close(struct ld_file_tree *tree); /* a closed one is fine */
