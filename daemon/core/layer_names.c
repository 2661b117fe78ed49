/* Names of layers: see layer_names.h. */
#include "daemon/core/layer_names.h"

#include <stdio.h>
#include <string.h>

const char *const ld_layer_suffixes[LD_LAYER_NAMES] = {".recipe", ".aside", ".blob", ""};

bool ld_layer_suffix_is_optional(const char *suffix)
{
    return strcmp(suffix, ".aside") == 0 || strcmp(suffix, ".blob") == 0;
}

struct ld_layer_name ld_layer_name(ld_sid sid, const char *suffix)
{
    struct ld_layer_name name;

    (void)snprintf(name.text, sizeof(name.text), "%" LD_PRI_SID "%s", sid, suffix); /* 27 at most */
    return name;
}
