/* Making a layer's directory: see new_layer.h. */
#include "daemon/core/new_layer.h"

#include <stdio.h>

#include "daemon/base/fdio.h"
#include "daemon/core/making.h"
#include "daemon/core/state.h"
#include "daemon/core/trash.h"

struct stage_name {
    char text[40];
};

static struct stage_name stage_of(ld_sid sid)
{
    struct stage_name name;

    (void)snprintf(name.text, sizeof(name.text), "layer-%" LD_PRI_SID, sid); /* 26 at most */
    return name;
}

int ld_new_layer_begin(struct ld_core *core, struct ld_layer *layer, int *ret_dir,
                       struct ld_err *err)
{
    struct stage_name name;
    int dir;

    if (ld_store_take_sid(core->store, &layer->sid, err) < 0 ||
        ld_making_begin(core, layer->sid, err) < 0)
        return -1;
    name = stage_of(layer->sid);
    dir = ld_make_dir(core->root.staging_fd, name.text, 0700);
    if (dir < 0)
        return ld_err_sys(err, dir, "make '%s' in staging", name.text);
    *ret_dir = dir;
    return 0;
}

int ld_new_layer_publish(struct ld_core *core, struct ld_layer *layer, bool sync,
                         struct ld_err *err)
{
    struct stage_name from = stage_of(layer->sid);
    struct ld_usage usage = {.bytes = 0};
    int r = sync ? ld_syncfs(core->root.staging_fd) : 0;

    if (r == 0)
        r = ld_tree_usage(core->root.staging_fd, from.text, NULL, &usage);
    if (r == 0)
        r = ld_publish_at(core->root.staging_fd, from.text, core->root.layers_fd,
                          ld_sid_name(layer->sid).text);
    if (r < 0)
        return ld_err_sys(err, r, "put the new layer at its place");
    layer->bytes = usage.bytes;
    layer->inodes = usage.inodes;
    return 0;
}

void ld_new_layer_end(struct ld_core *core, struct ld_layer *layer, bool keep)
{
    if (!layer->sid)
        return;
    if (!keep) {
        ld_trash_discard(core, core->root.staging_fd, stage_of(layer->sid).text);
        ld_trash_discard(core, core->root.layers_fd, ld_sid_name(layer->sid).text);
        ld_core_kick_reaper(core);
    }
    ld_making_end(core, layer->sid);
    layer->sid = 0;
}
