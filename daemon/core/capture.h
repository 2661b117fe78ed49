/* Capturing: a copy of what a container has changed, as a layer on what it stands on. For drivers
 * whose writable layer is no layer (vfs), and for containers that are in use; linear in the
 * changes. The container keeps its writable layer. Under the container's key; any worker.
 */
#pragma once

#include "daemon/core/freeze.h"

struct ld_capture {
    bool is_changed;       /* false: the tip it stands on has the same state */
    struct ld_layer layer; /* its directory is at its place; the record is still to be made */
};

/* `live`: it may change meanwhile; what vanishes is left out. conflict: too many layers, or it has
 * something that a layer can't have. */
int ld_capture(struct ld_core *core, const struct ld_tip_spec *spec, bool live, const bool *cancel,
               struct ld_capture *ret, struct ld_err *err);
/* The record is made, or (keep false) will not be. Twice is fine. */
void ld_capture_end(struct ld_core *core, struct ld_capture *capture, bool keep);

/* The two ways to fill the layer's directory. */
struct ld_capture_from {
    const struct ld_driver_env *env;
    const struct ld_driver *driver;
    struct ld_writable writable; /* without own layers: changes are told against the whole chain */
    bool live;
    bool for_image; /* what a tar can't say is left out (sockets) or refused (bad_content) */
    bool *left_out; /* set when something was, for the image's sake; or NULL */
    const bool *cancel;
};
/* An upper directory, mark for mark. *ret_changed false: it says nothing. */
int ld_capture_upper(const struct ld_capture_from *from, int dir, bool *ret_changed,
                     struct ld_err *err);
/* The changes as the driver tells them, exactly. */
int ld_capture_tree(const struct ld_capture_from *from, int dir, bool *ret_changed,
                    struct ld_err *err);
