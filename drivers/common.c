/* The list of drivers, and what they share: see common.h. No state. */
#include "drivers/common.h"

#include <string.h>

#include "daemon/base/log.h"
#include "daemon/base/mem.h"

const struct ld_driver *const ld_drivers[] = {&ld_driver_overlay, &ld_driver_vfs, NULL};

const struct ld_driver *ld_driver_by_name(const char *name)
{
    for (size_t i = 0; ld_drivers[i]; i++)
        if (strcmp(ld_drivers[i]->name, name) == 0)
            return ld_drivers[i];
    return NULL;
}

void ld_driver_discard(int dir, const char *name)
{
    int r = ld_remove_tree(dir, name, NULL);

    if (r < 0)
        ld_debug("remove '%s': %s, ignoring", name, strerrordesc_np(-r));
}
