/* Capturing a container's changes: see capture.h, and new_layer.h for how the layer comes to its
 * place. */
#include "daemon/core/capture.h"

#include <errno.h>

#include "daemon/base/fdio.h"
#include "daemon/core/new_layer.h"
#include "daemon/core/state.h"

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

static int fill(const struct ld_tip_spec *spec, int dir, bool live, const bool *cancel,
                bool *ret_changed, struct ld_err *err)
{
    const struct ld_rootfs *fs = &spec->rootfs->fs;
    struct ld_capture_from from = {.env = fs->env,
                                   .driver = fs->driver,
                                   .writable = fs->writable,
                                   .live = live,
                                   .cancel = cancel};

    from.writable.n_own = 0;
    return fs->driver->seal ? ld_capture_upper(&from, dir, ret_changed, err)
                            : ld_capture_tree(&from, dir, ret_changed, err);
}

int ld_capture(struct ld_core *core, const struct ld_tip_spec *spec, bool live, const bool *cancel,
               struct ld_capture *ret, struct ld_err *err)
{
    struct ld_capture capture = {
        .layer = {.parent_sid = spec->container->parent_sid, .origin = LD_ORIGIN_CAPTURE}};
    autoclose int dir = -EBADF;
    int rc;

    if (ld_freeze_check_depth(spec, err) < 0)
        return -1;
    rc = ld_new_layer_begin(core, &capture.layer, &dir, err);
    if (rc == 0)
        rc = fill(spec, dir, live, cancel, &capture.is_changed, err);
    if (rc == 0 && capture.is_changed)
        rc = ld_new_layer_publish(core, &capture.layer, !spec->container->ephemeral, err);
    if (rc < 0 || !capture.is_changed)
        ld_new_layer_end(core, &capture.layer, false);
    if (rc == 0)
        *ret = capture;
    return rc;
}

void ld_capture_end(struct ld_core *core, struct ld_capture *capture, bool keep)
{
    ld_new_layer_end(core, &capture->layer, keep);
}
