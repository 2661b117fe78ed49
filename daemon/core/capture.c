/* Capturing a container's changes: see capture.h.
 *
 * Staged under staging/, synced, renamed to layers/SID; then the caller records it. Until then the
 * storage id is marked as being made (making.h), so that a start after a kill deletes what there
 * is.
 */
#include "daemon/core/capture.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "daemon/base/fdio.h"
#include "daemon/base/log.h"
#include "daemon/core/making.h"
#include "daemon/core/state.h"
#include "daemon/core/trash.h"

struct stage_name {
    char text[40];
};

static struct stage_name stage_of(ld_sid sid)
{
    struct stage_name name;

    (void)snprintf(name.text, sizeof(name.text), "capture-%" LD_PRI_SID, sid); /* 28 at most */
    return name;
}

int ld_capture_upper(const struct ld_capture_from *from, int dir, bool *ret_changed,
                     struct ld_err *err)
{
    enum ld_form form;
    autoclose int upper = from->driver->open(from->env, &from->writable, &form);
    struct ld_layers layers = {.root = &upper, .n = 1, .form = LD_FORM_LAYER};
    unsigned flags = from->live ? LD_COPY_LIVE : 0;
    bool is_clean = false;

    if (upper < 0)
        return ld_err_sys(err, upper, "open writable layer %" LD_PRI_SID, from->writable.sid);
    if (from->driver->is_clean(from->env, &from->writable, &is_clean, err) < 0)
        return -1;
    *ret_changed = !is_clean;
    return is_clean ? 0 : ld_tree_copy_layer(&layers, NULL, dir, flags, from->cancel, err);
}

static int fill(struct ld_core *core, const struct ld_tip_spec *spec, int dir, bool live,
                const bool *cancel, bool *ret_changed, struct ld_err *err)
{
    const struct ld_rootfs *fs = &spec->rootfs->fs;
    struct ld_capture_from from = {.env = &core->env,
                                   .driver = fs->driver,
                                   .writable = fs->writable,
                                   .live = live,
                                   .cancel = cancel};

    from.writable.n_own = 0;
    return fs->driver->seal ? ld_capture_upper(&from, dir, ret_changed, err)
                            : ld_capture_tree(&from, dir, ret_changed, err);
}

static int publish(struct ld_core *core, const struct ld_tip_spec *spec, struct ld_layer *layer,
                   struct ld_err *err)
{
    struct stage_name from = stage_of(layer->sid);
    struct ld_usage usage = {.bytes = 0};
    int r = spec->container->ephemeral ? 0 : ld_syncfs(core->root.staging_fd);

    if (r == 0)
        r = ld_tree_usage(core->root.staging_fd, from.text, &usage);
    if (r == 0)
        r = ld_publish_at(core->root.staging_fd, from.text, core->root.layers_fd,
                          ld_sid_name(layer->sid).text);
    if (r < 0)
        return ld_err_sys(err, r, "put the captured layer at its place");
    layer->bytes = usage.bytes;
    layer->inodes = usage.inodes;
    return 0;
}

int ld_capture(struct ld_core *core, const struct ld_tip_spec *spec, bool live, const bool *cancel,
               struct ld_capture *ret, struct ld_err *err)
{
    struct ld_capture capture = {
        .layer = {.parent_sid = spec->container->parent_sid, .origin = LD_ORIGIN_CAPTURE}};
    autoclose int dir = -EBADF;
    struct stage_name name;
    int rc;

    if (ld_freeze_check_depth(spec, err) < 0 ||
        ld_store_take_sid(core->store, &capture.layer.sid, err) < 0 ||
        ld_making_begin(core, capture.layer.sid, err) < 0)
        return -1;
    name = stage_of(capture.layer.sid);
    dir = ld_make_dir(core->root.staging_fd, name.text, 0700);
    rc = dir < 0 ? ld_err_sys(err, dir, "make '%s' in staging", name.text)
                 : fill(core, spec, dir, live, cancel, &capture.is_changed, err);
    if (rc == 0 && capture.is_changed)
        rc = publish(core, spec, &capture.layer, err);
    if (rc < 0 || !capture.is_changed)
        ld_capture_end(core, &capture, false);
    if (rc == 0)
        *ret = capture;
    return rc;
}

void ld_capture_end(struct ld_core *core, struct ld_capture *capture, bool keep)
{
    ld_sid sid = capture->layer.sid;

    if (!sid)
        return;
    if (!keep) {
        ld_trash_discard(core, core->root.staging_fd, stage_of(sid).text);
        ld_trash_discard(core, core->root.layers_fd, ld_sid_name(sid).text);
        ld_core_kick_reaper(core);
    }
    ld_making_end(core, sid);
    capture->layer.sid = 0;
}
