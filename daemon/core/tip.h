/* The present state of a container as a tip: by freezing it where that can be, else by a copy of
 * its changes. Under the container's key; any worker. */
#pragma once

#include <stdbool.h>

#include "daemon/core/capture.h"
#include "daemon/store/store.h"

struct ld_core;

struct ld_tip_how {
    const struct ld_snapshot
        *snapshot; /* recorded with it (tip_sid, fuzzy are not looked at); or NULL */
    bool live;     /* a mounted container is read while it changes: the snapshot is fuzzy then */
    const bool *cancel;
};
struct ld_tip {
    ld_sid sid;
    /* Without a snapshot, and not frozen: the layer that the caller records (or not: then
     * ld_capture_end with false; in both cases that has to be called). */
    struct ld_capture capture;
};
/* busy: it is held elsewhere, or written to (details.holders). After a freeze the container has
 * another writable layer. */
int ld_tip_of(struct ld_core *core, const struct ld_write *w, const struct ld_container *c,
              const struct ld_tip_how *how, struct ld_tip *ret, struct ld_err *err);
