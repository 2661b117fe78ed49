/* What a record wants to find on the disk: one look, no walk. Constant texts, NULL when it is all
 * there. Any worker; a removal or a freeze that is under way may make it look missing.
 */
#pragma once

#include "daemon/base/sid.h"
#include "daemon/store/records.h"

struct ld_core;

const char *ld_layer_missing(const struct ld_core *core, const struct ld_layer *layer);
const char *ld_container_missing(const struct ld_core *core, const struct ld_container *container);
const char *ld_volume_missing(const struct ld_core *core, const struct ld_volume *volume);

/* The sid a name in layers/, w/, volumes/ or trash/ begins with; 0: none. */
ld_sid ld_sid_of_name(const char *name);
