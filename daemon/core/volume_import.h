/* A tar into a volume.
 *
 * Into a volume that is empty and that no container has mounted, all or nothing: unpacked aside,
 * synced, exchanged with the empty directory. Into any other, entry by entry over what is there, as
 * tar does; what the archive alone tells to be wrong is refused before the first one, and after any
 * other failure those before it stay, each whole, their number in the error's details ("entries").
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "daemon/core/core.h"

struct ld_op;
struct ld_spool;
struct ld_write;

struct ld_volume_import {
    uint64_t entries, bytes;
    bool staged; /* it appeared as a whole */
};
/* {"entries":…,"bytes":…,"staged":…}: what is kept beside an idempotency key, too. Free it. */
char *ld_volume_import_json(const struct ld_volume_import *result);

/* Worker, v:ID exclusive. Codes: not_found, corrupt (the volume is damaged), bad_content, conflict
 * (of types; or somebody put something into the volume meanwhile), no_space, canceled. */
int ld_volume_import(struct ld_core *core, const struct ld_write *w, const char *id,
                     const struct ld_spool *spool, const bool *cancel, struct ld_volume_import *ret,
                     struct ld_err *err);
