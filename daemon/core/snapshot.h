/* Snapshots of containers: named states to return to, or to begin new containers from. And what
 * they have in common with those of volumes (volume_snapshot.h).
 *
 * A snapshot is a name for a layer. Taking one of a container that is not in use costs no copy
 * (freeze.h). Snapshots go with their container; what was made from one stays. Threads: see core.h;
 * the owner's key is held (ld_container_admit, ld_volume_admit).
 */
#pragma once

#include <stdbool.h>

#include "daemon/core/core.h"
#include "daemon/store/store.h"

struct ld_op;

struct ld_snapshot_spec {
    const char *name;   /* or NULL */
    const char *labels; /* a JSON object as text, or NULL */
    bool live;          /* of a mounted container: while it changes */
};

/* Loop: the keys of taking one, and the lane: short work, or a copy. */
int ld_snapshot_admit_create(struct ld_core *core, const char *container, struct ld_op *op,
                             char ret_id[65], struct ld_err *err);

/* By the container's id, on a worker. exists (name), conflict (too many layers), busy (it is in
 * use), corrupt, unsupported. */
int ld_snapshot_create(struct ld_core *core, const struct ld_write *w, const char *container,
                       const struct ld_snapshot_spec *spec, const bool *cancel,
                       struct ld_snapshot *ret, struct ld_err *err);

/* ---- of a container or a volume ---- */

/* A new one's name, or NULL. owner: kind, id, name. invalid; exists. */
int ld_snapshot_check_name(struct ld_core *core, const struct ld_note *owner, const char *name,
                           struct ld_err *err);
/* By the owner's id and the snapshot's, on a worker. not_found, precondition. */
int ld_snapshot_remove(struct ld_core *core, const struct ld_write *w, const char *owner,
                       const char *id, uint64_t if_match, struct ld_removed *ret,
                       struct ld_err *err);
