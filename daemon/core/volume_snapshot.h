/* Snapshots of volumes: copies (reflinked where the file system can) to return to, or to begin
 * other volumes with.
 *
 * A snapshot is a directory of its own beside those of the volumes; it goes with its volume, from
 * the trash too. A volume can't be kept still the way a container can: it is bind-mounted, and its
 * file system is the data root's. So one that a container has mounted is refused, or copied while
 * it changes. Workers, under the volume's key.
 */
#pragma once

#include <stdbool.h>

#include "daemon/core/core.h"
#include "daemon/store/store.h"

struct ld_volume_snapshot_spec {
    const char *name;   /* or NULL */
    const char *labels; /* a JSON object as text, or NULL */
    bool live;          /* also while it is mounted: what changes meanwhile may be half in it */
    const bool *cancel;
};

/* Keys: ld_volume_admit_clone. in_use names the containers that have the volume mounted; exists
 * (name), invalid, corrupt, canceled. */
int ld_volume_snapshot_create(struct ld_core *core, const struct ld_write *w, const char *volume,
                              const struct ld_volume_snapshot_spec *spec, struct ld_snapshot *ret,
                              struct ld_err *err);

/* v:ID exclusive. The volume is a copy of the snapshot from then on. in_use; corrupt; canceled. */
int ld_volume_rollback(struct ld_core *core, const struct ld_write *w, const char *volume,
                       const char *snapshot, const bool *cancel, struct ld_volume *ret,
                       struct ld_err *err);
