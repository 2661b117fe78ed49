/* Making a writable layer: see writable.h. */
#include "daemon/core/writable.h"

#include <errno.h>
#include <string.h>

#include "daemon/base/fdio.h"
#include "daemon/base/log.h"
#include "daemon/core/backing.h"
#include "daemon/core/limits.h"
#include "daemon/core/making.h"
#include "daemon/core/state.h"

static void discard(struct ld_core *core, ld_sid sid)
{
    int r;

    ld_backing_drop(core, sid);
    r = ld_quota_remove_tree(&core->env.quota, core->root.w_fd, ld_sid_name(sid).text, NULL);
    if (r < 0)
        ld_warn("take back writable layer %" LD_PRI_SID ": %s; the next start does it", sid,
                strerrordesc_np(-r));
}

/* In a file system of its own, which is what holds it to the limits. */
static int make_backed(struct ld_core *core, const struct ld_writable_spec *spec,
                       const bool *cancel, struct ld_writable *w, struct ld_err *err)
{
    struct ld_driver_env env;
    int rc;

    if (ld_backing_make(core, spec->backing, w->sid, &spec->limits, err) < 0)
        return -1;
    env = ld_backing_env(&core->root, &core->env, w->sid);
    w->is_apart = true;
    rc = spec->driver->create(&env, w, cancel, err);
    ld_close(env.w_fd);
    if (rc < 0)
        discard(core, w->sid);
    return rc;
}

static int make(struct ld_core *core, const struct ld_writable_spec *spec, const bool *cancel,
                struct ld_writable *w, struct ld_err *err)
{
    if (spec->backing)
        return make_backed(core, spec, cancel, w, err);
    w->limits = spec->limits;
    return spec->driver->create(&core->env, w, cancel, err);
}

int ld_writable_begin(struct ld_core *core, const struct ld_writable_spec *spec, const bool *cancel,
                      struct ld_new_writable *ret, struct ld_err *err)
{
    *ret = (struct ld_new_writable){.w.chain = spec->chain};
    if (!spec->backing && ld_limits_check(core, &spec->limits, err) < 0) {
        err->code = LD_E_CONFLICT; /* a create has asked before: it is of what this is made from */
        return -1;
    }
    if (ld_store_take_sid(core->store, &ret->w.sid, err) < 0)
        return -1;
    ld_pins_add(core->pins, &ret->w.sid, 1);
    ret->is_pinned = true;
    if (ld_making_begin(core, ret->w.sid, err) < 0 || make(core, spec, cancel, &ret->w, err) < 0)
        return -1;
    ret->is_made = true;
    return 0;
}

int ld_writable_ready(struct ld_core *core, struct ld_new_writable *nw, bool is_ephemeral,
                      struct ld_write *w, struct ld_err *err)
{
    struct ld_sid_text name = ld_sid_name(nw->w.sid);
    autoclose int layer = ld_open_dir(core->root.w_fd, name.text);
    autoclose int upper = layer < 0 ? -EBADF : ld_open_dir(layer, "upper");
    int r = 0;

    if (layer < 0)
        return ld_err_sys(err, layer, "open the new writable layer %s", name.text);
    if (is_ephemeral)
        return 0;
    if (upper < 0)
        r = ld_syncfs(layer); /* a copy of many files */
    if (r < 0)
        return ld_err_sys(err, r, "sync the new writable layer %s", name.text);
    /* Innermost first: what is in a directory is made before its parent is synced. */
    if (upper >= 0)
        nw->dirs[nw->n_dirs++] = ld_steal_fd(&upper);
    nw->dirs[nw->n_dirs++] = ld_steal_fd(&layer);
    w->dirs = nw->dirs;
    w->n_dirs = nw->n_dirs + 1;
    nw->dirs[nw->n_dirs] = core->root.w_fd; /* borrowed: not counted */
    return 0;
}

const char *ld_writable_state(const struct ld_new_writable *nw)
{
    return nw->w.state.text[0] ? nw->w.state.text : NULL;
}

void ld_writable_undo(struct ld_core *core, struct ld_new_writable *nw)
{
    if (!nw->is_made)
        return;
    discard(core, nw->w.sid);
    ld_limits_forget(core, nw->w.sid);
    nw->is_made = false;
}

void ld_writable_end(struct ld_core *core, struct ld_new_writable *nw)
{
    for (size_t i = 0; i < nw->n_dirs; i++)
        ld_close(nw->dirs[i]);
    nw->n_dirs = 0;
    if (nw->w.sid)
        ld_making_end(core, nw->w.sid);
    if (nw->is_pinned)
        ld_pins_drop(core->pins, &nw->w.sid, 1);
    nw->is_pinned = false;
}

bool ld_is_undecided(const struct ld_err *err)
{
    return err->code == LD_E_IO || err->code == LD_E_INTERNAL || err->code == LD_E_CORRUPT;
}
