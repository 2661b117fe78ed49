/* Clones: new containers that begin with the state of another one. */
#pragma once

#include <stdbool.h>

#include "daemon/core/container.h"

struct ld_clone_spec {
    const char *name;        /* or NULL */
    const char *labels;      /* NULL: those of the origin */
    const char *snapshot;    /* of the origin; NULL: its present state */
    struct ld_limits limits; /* where it has some of its own, instead of the origin's; 0: none */
    bool has_size_limit, has_inode_limit;
};

/* Loop: the origin's key, "n:c:NAME", and the lane: short work, or a copy. */
int ld_clone_admit(struct ld_core *core, const char *origin, const struct ld_clone_spec *spec,
                   struct ld_op *op, char ret_id[65], struct ld_err *err);

/* Worker. Image, config, settings and mounts are the origin's: volumes with a name are shared,
 * anonymous ones are new. Codes: those of ld_container_create and ld_tip_of. */
int ld_clone_create(struct ld_core *core, const struct ld_write *w, const char *origin,
                    const struct ld_clone_spec *spec, const bool *cancel,
                    struct ld_container_state *ret, struct ld_err *err);
