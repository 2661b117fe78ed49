/* Freezing: a container's writable layer becomes a layer as it is, without a copy, and the
 * container goes on in a new, empty one. Only for drivers whose writable layer is a layer
 * (overlay), and while nobody holds it. Under the container's key; any worker.
 */
#pragma once

#include "daemon/core/rootfs.h"

struct ld_core;

/* What the present state of a container is to be recorded with: `snapshot` or nothing. */
struct ld_tip_spec {
    const struct ld_container *container;
    const struct ld_loaded_rootfs *rootfs; /* of it */
    const struct ld_snapshot *snapshot;    /* tip_sid is not looked at; or NULL */
};

/* *ret_tip: the layer that has the state; the one it stands on when nothing was changed. conflict:
 * too many layers. Other codes: those of ld_store_freeze. */
int ld_freeze(struct ld_core *core, const struct ld_write *w, const struct ld_tip_spec *spec,
              ld_sid *ret_tip, struct ld_err *err);

/* conflict: one more layer would be too many. */
int ld_freeze_check_depth(const struct ld_tip_spec *spec, struct ld_err *err);

/* Start: w/SID is recorded as a frozen layer: what was cut off is done. Again is fine. */
int ld_freeze_finish(struct ld_core *core, ld_sid sid, struct ld_err *err);

/* Counts the layers that were frozen since; df wants them all counted. Any worker. */
int ld_freeze_count(struct ld_core *core, const bool *cancel, struct ld_err *err);
