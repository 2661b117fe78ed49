/* From a container's record to what drivers and mounts need of it. Blocking (a store read); any
 * worker. */
#pragma once

#include "daemon/core/mounts.h"
#include "daemon/store/store.h"

struct ld_core;

struct ld_loaded_rootfs {
    struct ld_rootfs fs; /* points into the rest and into the record */
    struct ld_chain_sids chain;
    struct ld_mount_part *parts;
    struct ld_driver_env backing; /* fs.env, when fs.is_backed: then its w_fd is ours */
};

/* `c` is borrowed for the life of *ret, which must not be moved. Codes: corrupt (it or a layer
 * below is damaged), unsupported (its driver is not usable here), not_found (a volume is gone). */
int ld_rootfs_load(struct ld_core *core, const struct ld_container *c, bool whole,
                   struct ld_loaded_rootfs *ret, struct ld_err *err);
void ld_rootfs_done(struct ld_loaded_rootfs *rootfs);

/* What the parts were seeded with is there for good: no later mount may do it again. After a mount.
 */
struct ld_write;
int ld_rootfs_record_seeds(struct ld_core *core, const struct ld_write *w,
                           const struct ld_container *c, const struct ld_loaded_rootfs *rootfs,
                           struct ld_err *err);

/* A usable driver by name; NULL or "": the default. Codes: invalid (no such driver), unsupported.
 */
int ld_core_driver(struct ld_core *core, const char *name, const struct ld_driver **ret,
                   struct ld_err *err);

/* Readers hold no keys, so the container may be removed under them. After one has failed on the
 * disk: if that is why, the error becomes not_found. Returns -1. */
int ld_blame_removal(struct ld_core *core, const char *id, struct ld_err *err);

/* A view with all that keeps what it shows from being deleted: for readers that hold no keys. */
struct ld_reader {
    struct ld_core *core;
    struct ld_container container;
    struct ld_loaded_rootfs rootfs;
    struct ld_view view; /* view.fd: the container's root */
};

/* Opens a view of the container `id`. Codes: those of ld_rootfs_load and ld_mounts_view, not_found.
 */
int ld_reader_open(struct ld_core *core, const struct ld_write *w, const char *id, bool with_parts,
                   struct ld_reader *ret, struct ld_err *err);
void ld_reader_close(struct ld_reader *reader); /* an empty one is fine */
