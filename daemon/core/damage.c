/* What a record wants to find on the disk: see damage.h. */
#include "daemon/core/damage.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "daemon/base/mem.h"
#include "daemon/base/parse.h"
#include "daemon/core/backing.h"
#include "daemon/core/layer_names.h"
#include "daemon/core/state.h"

static bool is_there(int dir, const char *name)
{
    struct stat st;

    return fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0;
}

const char *ld_layer_missing(const struct ld_core *core, const struct ld_layer *layer)
{
    if (!is_there(core->root.layers_fd, ld_layer_name(layer->sid, "").text))
        return "its directory is missing";
    if (ld_layer_has_recipe(layer) &&
        !is_there(core->root.layers_fd, ld_layer_name(layer->sid, ".recipe").text))
        return "its recipe is missing";
    return NULL;
}

const char *ld_container_missing(const struct ld_core *core, const struct ld_container *container)
{
    if (!is_there(core->root.w_fd, ld_sid_name(container->upper_sid).text))
        return "its writable layer is missing";
    if (container->backing && !ld_backing_is_there(&core->root, container->upper_sid))
        return "the file system that holds its writable layer was unmounted";
    return NULL;
}

const char *ld_volume_missing(const struct ld_core *core, const struct ld_volume *volume)
{
    return is_there(core->root.volumes_fd, ld_sid_name(volume->sid).text)
               ? NULL
               : "its directory is missing";
}

ld_sid ld_sid_of_name(const char *name)
{
    autofree char *digits = ld_strndup(name, strspn(name, "0123456789"));
    const char *rest = name + strlen(digits);
    uint64_t sid = 0;

    if (*rest && *rest != '.')
        return 0;
    return ld_parse_u64(digits, 1, UINT64_MAX, &sid) == 0 ? sid : 0;
}
