/* An upper directory becomes a layer as it is: overlay's marks are those of the layer store, and
 * the options it was written with (overlay.c) keep out all that is not right in a lower.
 *
 * The work directory stays behind and goes: it holds the spare whiteout of the old mount, and a new
 * upper gets a new one. No state, any thread.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "drivers/common.h"
#include "drivers/overlay.h"

int ld_overlay_make(const struct ld_driver_env *env, const struct ld_writable *w, int *ret_upper,
                    struct ld_err *err)
{
    struct ld_sid_text name = ld_sid_name(w->sid);
    autoclose int dir = ld_driver_make(env, w);
    autoclose int upper = -EBADF;
    int rc = 0;

    if (dir < 0)
        return ld_err_sys(err, dir, "make writable layer %s", name.text);
    upper = ld_make_dir(dir, "upper", 0700);
    if (upper < 0)
        rc = ld_err_sys(err, upper, "make the upper directory of writable layer %s", name.text);
    else if (mkdirat(dir, "work", 0700) < 0)
        rc = ld_err_sys(err, -errno, "make the work directory of writable layer %s", name.text);
    if (rc < 0)
        ld_driver_discard(env->w_fd, name.text);
    else
        *ret_upper = ld_steal_fd(&upper);
    return rc;
}

static int open_upper(const struct ld_driver_env *env, ld_sid sid)
{
    autoclose int dir = ld_open_dir(env->w_fd, ld_sid_name(sid).text);

    return dir < 0 ? dir : ld_open_dir(dir, "upper");
}

int ld_overlay_is_clean(const struct ld_driver_env *env, const struct ld_writable *w, bool *ret,
                        struct ld_err *err)
{
    LD_AUTO(ld_chain_close) struct ld_open_chain chain = {.fd = NULL};
    LD_AUTO(ld_found_done) struct ld_found now = LD_FOUND_INIT, before = LD_FOUND_INIT;
    autoclose int upper = open_upper(env, w->sid);
    struct ld_layers own = {.root = &upper, .n = 1, .form = LD_FORM_LAYER};
    int r = upper < 0 ? upper : ld_dir_is_empty(upper, ".");

    *ret = false;
    if (r < 0)
        return ld_err_sys(err, r, "read writable layer %" LD_PRI_SID, w->sid);
    if (r == 0)
        return 0;
    if (ld_chain_open(env, &w->chain, &chain, err) < 0 ||
        ld_tree_lookup(&own, "/", &now, err) < 0 ||
        ld_tree_lookup(&chain.layers, "/", &before, err) < 0)
        return -1;
    return ld_node_compare(&now.node, &before.node, NULL, ret, err);
}

int ld_overlay_succeed(const struct ld_driver_env *env, const struct ld_writable *w, ld_sid next,
                       struct ld_err *err)
{
    LD_AUTO(ld_found_done) struct ld_found root = LD_FOUND_INIT;
    autoclose int upper = open_upper(env, w->sid);
    struct ld_layers own = {.root = &upper, .n = 1, .form = LD_FORM_LAYER};
    struct ld_writable after = {.sid = next, .limits = w->limits};
    autoclose int next_upper = -EBADF;

    if (upper < 0)
        return ld_err_sys(err, upper, "open writable layer %" LD_PRI_SID, w->sid);
    if (!ld_quota_is_on(&env->quota))
        after.limits = (struct ld_limits){.bytes = 0}; /* nor is this one held to them here */
    if (ld_tree_lookup(&own, "/", &root, err) < 0 ||
        ld_overlay_make(env, &after, &next_upper, err) < 0)
        return -1;
    if (ld_node_copy_attrs(&root.node, next_upper, LD_FORM_LAYER, err) == 0 &&
        ld_driver_limit_new(env, &after, &ld_overlay_base, err) == 0)
        return 0;
    ld_driver_discard(env->w_fd, ld_sid_name(next).text);
    return -1;
}

int ld_overlay_seal(const struct ld_driver_env *env, ld_sid sid, struct ld_err *err)
{
    struct ld_sid_text name = ld_sid_name(sid);
    autoclose int dir = ld_open_dir(env->w_fd, name.text);
    int r = dir == -ENOENT ? 0 : dir < 0 ? dir : 1; /* 0: done before, as a whole */

    if (r > 0) {
        /* Nobody writes to it any more; the kernel forgets what neither limits nor counts. */
        (void)!ld_quota_set(&env->quota, dir, sid, &(struct ld_limits){.bytes = 0});
        r = renameat2(dir, "upper", env->layers_fd, name.text, RENAME_NOREPLACE) < 0 ? -errno : 0;
        if (r == -ENOENT)
            r = 0; /* done before; what is left is the work directory */
        if (r == 0)
            r = ld_remove_tree(env->w_fd, name.text, NULL);
    }
    return r < 0 ? ld_err_sys(err, r, "seal layer %s", name.text) : 0;
}
