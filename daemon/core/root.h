/* The data root and the run root: where everything lies, opened once, locked, by descriptors.
 *
 * The layout is the one of docs/ARCHITECTURE.md. Opening is idempotent and repairs what a crash or
 * a reboot left (missing folders, an old stage). Main thread; the descriptors are then borrowed by
 * all.
 */
#pragma once

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>

#include "daemon/base/err.h"

struct ld_root {
    char *data_path, *run_path; /* absolute, without symlinks */
    int data_fd;
    int layers_fd, w_fd, volumes_fd, staging_fd, trash_fd, quarantine_fd; /* in the data root */
    int run_fd, mnt_fd, stage_fd, backing_fd, targets_fd, bundles_fd;     /* in the run root */
    int lock_fd;
    uint64_t data_mount_id;
    unsigned gid; /* of the group that may use the socket and mnt/ */
};

#define LD_ROOT_INIT                                                                               \
    ((struct ld_root){.data_fd = -EBADF,                                                           \
                      .layers_fd = -EBADF,                                                         \
                      .w_fd = -EBADF,                                                              \
                      .volumes_fd = -EBADF,                                                        \
                      .staging_fd = -EBADF,                                                        \
                      .trash_fd = -EBADF,                                                          \
                      .quarantine_fd = -EBADF,                                                     \
                      .run_fd = -EBADF,                                                            \
                      .mnt_fd = -EBADF,                                                            \
                      .stage_fd = -EBADF,                                                          \
                      .backing_fd = -EBADF,                                                        \
                      .targets_fd = -EBADF,                                                        \
                      .bundles_fd = -EBADF,                                                        \
                      .lock_fd = -EBADF})

/* Makes and opens both roots. Code conflict: another daemon has the data root; unsupported: the
 * file system cannot serve (remote, no d_type). group NULL or unknown: root's group, with a
 * warning. */
int ld_root_open(const char *data_path, const char *run_path, const char *group,
                 struct ld_root *ret, struct ld_err *err);

/* Closes the descriptors. Unmounts stage/ and, when nothing is mounted in them any more, mnt/ and
 * backing/. */
void ld_root_done(struct ld_root *root);

/* The reserve: 64 MiB given up once when the disk is full, so that removals still have room for the
 * database. `keep` makes it again when there is space; `give_up` frees it. Both are harmless twice.
 */
void ld_reserve_keep(const struct ld_root *root);
void ld_reserve_give_up(const struct ld_root *root);

/* Bytes an unprivileged writer could still use on the data root's file system. */
int ld_root_free_bytes(const struct ld_root *root, uint64_t *ret, struct ld_err *err);
