/* The names of a committed layer in layers/, and while it is made or removed in staging/ and
 * trash/: SID, its directory, and beside it SID.recipe, SID.aside (what the recipe needs and the
 * directory has no more) and SID.blob (as it came, where that was asked for). Pure; any thread.
 */
#pragma once

#include <stdbool.h>

#include "daemon/base/sid.h"

enum { LD_LAYER_NAMES = 4 };

/* The directory, whose suffix is "", is the one that counts, and the last: it comes last and goes
 * first. */
extern const char *const ld_layer_suffixes[LD_LAYER_NAMES];
/* Has a layer that came in by an import always one of that name? */
bool ld_layer_suffix_is_optional(const char *suffix);

struct ld_layer_name {
    char text[48];
};
struct ld_layer_name ld_layer_name(ld_sid sid, const char *suffix);
