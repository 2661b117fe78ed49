/* Returning a container to one of its snapshots. */
#pragma once

#include <stdbool.h>

#include "daemon/core/container.h"

/* Worker, the container's key held: what it has changed since is gone, newer snapshots stay. busy:
 * it is mounted or held; corrupt: a layer of the snapshot is damaged. `cancel` ends the copying of
 * a vfs container. */
int ld_container_rollback(struct ld_core *core, const struct ld_write *w, const char *container,
                          const char *snapshot, const bool *cancel, struct ld_container_state *ret,
                          struct ld_err *err);
