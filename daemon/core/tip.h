/* The present state of a container as a tip: by freezing it where that can be, else by a copy of
 * its changes. Under the container's key; any worker. */
#pragma once

#include "daemon/store/store.h"

struct ld_core;

/* Records `snapshot` (tip_sid is not looked at), or with NULL only makes the state a tip that the
 * container stands on. busy: somebody uses it. *ret_tip is the layer that has the state. */
int ld_tip_of(struct ld_core *core, const struct ld_write *w, const struct ld_container *c,
              const struct ld_snapshot *snapshot, ld_sid *ret_tip, struct ld_err *err);
