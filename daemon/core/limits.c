/* Limits: see limits.h. */
#include "daemon/core/limits.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "daemon/base/fdio.h"
#include "daemon/base/log.h"
#include "daemon/core/backing.h"
#include "daemon/core/rootfs.h"
#include "daemon/core/state.h"

static bool is_none(const struct ld_limits *limits)
{
    return limits->bytes == 0 && limits->inodes == 0;
}

/* Somebody limits the whole store. A directory with a project of its own could not be renamed to
 * where that one is inherited: no layer, no removal would come to its place. */
static int refuse_inherited(const struct ld_root *root, struct ld_err *err)
{
    const int dirs[] = {root->data_fd,    root->layers_fd, root->w_fd,         root->volumes_fd,
                        root->staging_fd, root->trash_fd,  root->quarantine_fd};

    for (size_t i = 0; i < LD_ARRAY_LEN(dirs); i++) {
        if (!ld_quota_is_inherited(dirs[i]))
            continue;
        (void)ld_err_set(err, LD_E_UNSUPPORTED, "'%s' is in a project of its own", root->data_path);
        return ld_err_hint(err, "take it out with all that is in it: chattr -R -P -p 0 '%s'",
                           root->data_path);
    }
    return 0;
}

void ld_limits_probe(struct ld_core *core)
{
    if (refuse_inherited(&core->root, &core->no_quota) < 0 ||
        ld_quota_probe(core->root.data_fd, core->env.instance, &core->env.quota, &core->no_quota) <
            0)
        ld_debug("no limits: %s", core->no_quota.message);
}

int ld_limits_check(const struct ld_core *core, const struct ld_limits *limits, struct ld_err *err)
{
    if (is_none(limits))
        return 0;
    if (ld_quota_is_on(&core->env.quota))
        return ld_quota_check(&core->env.quota, limits, err);
    (void)ld_err_set(err, LD_E_UNSUPPORTED, "a limit could not be enforced here: %s",
                     core->no_quota.message);
    return ld_err_hint(err, "%s", core->no_quota.hint);
}

int ld_limits_set_container(struct ld_core *core, const struct ld_container *c,
                            const struct ld_limits *limits, struct ld_err *err)
{
    struct ld_loaded_rootfs rootfs;
    int rc;

    if (c->backing)
        return ld_backing_limit(core, c, limits, err);
    if (ld_limits_check(core, limits, err) < 0)
        return -1;
    if (!ld_quota_is_on(&core->env.quota))
        return 0;
    if (ld_rootfs_load(core, c, false, &rootfs, err) < 0)
        return -1;
    rootfs.fs.writable.limits = *limits;
    rc = rootfs.fs.driver->limit(rootfs.fs.env, &rootfs.fs.writable, err);
    ld_rootfs_done(&rootfs);
    return rc;
}

int ld_limits_set_volume(struct ld_core *core, const struct ld_volume *v, struct ld_err *err)
{
    const struct ld_quota *quota = &core->env.quota;
    struct ld_limits limits = {.bytes = v->size_limit};
    autoclose int dir = -EBADF;
    bool is_counted = false;
    int r;

    if (ld_limits_check(core, &limits, err) < 0)
        return -1;
    if (!ld_quota_is_on(quota))
        return 0;
    dir = ld_open_dir(core->root.volumes_fd, ld_sid_name(v->sid).text);
    r = dir < 0 ? dir : ld_quota_is_counted(quota, dir, v->sid, &is_counted);
    if (r == 0 && !is_counted && !is_none(&limits)) {
        return ld_driver_refuse_uncounted(err);
    }
    if (r == 0 && is_counted)
        r = ld_quota_set(quota, dir, v->sid, &limits);
    return r < 0 ? ld_err_sys(err, r, "limit its directory") : 0;
}

int ld_limits_used_container(struct ld_core *core, const struct ld_container *c,
                             struct ld_limits *ret, struct ld_err *err)
{
    struct ld_writable w = {.sid = c->upper_sid, .limits = c->limits};
    const struct ld_driver *driver = NULL;

    if (c->backing)
        return ld_backing_used(core, c, ret, err);
    if (c->driver_state)
        (void)snprintf(w.state.text, sizeof(w.state.text), "%s", c->driver_state);
    return ld_core_driver(core, c->driver, &driver, err) < 0
               ? -1
               : driver->used(&core->env, &w, ret, err);
}

int ld_limits_used_volume(struct ld_core *core, const struct ld_volume *v, struct ld_limits *ret,
                          struct ld_err *err)
{
    autoclose int dir = ld_open_dir(core->root.volumes_fd, ld_sid_name(v->sid).text);
    int r = dir < 0 ? dir : ld_quota_get(&core->env.quota, dir, v->sid, NULL, ret);

    if (r == -EOPNOTSUPP)
        return ld_err_set(err, LD_E_UNSUPPORTED, "nothing is counted here");
    return r < 0 ? ld_err_sys(err, r, "ask for the use of its directory") : 0;
}

int ld_limits_make_volume(struct ld_core *core, int parent, const char *name, mode_t mode,
                          const struct ld_volume *v)
{
    return ld_quota_make_dir(&core->env.quota, parent, name, mode, v->sid, v->size_limit != 0);
}

static void complain(struct ld_core *core, const char *kind, const char *name,
                     const struct ld_err *err)
{
    core->n_not_limited++;
    ld_error("%s '%s' is not held to its limits: %s", kind, name, err->message);
}

void ld_limits_recover_container(struct ld_core *core, const struct ld_container *c)
{
    struct ld_err err = LD_ERR_INIT;

    if (ld_limits_set_container(core, c, &c->limits, &err) < 0 && !is_none(&c->limits))
        complain(core, "container", c->name ? c->name : c->id, &err);
}

void ld_limits_recover_volume(struct ld_core *core, const struct ld_volume *v)
{
    struct ld_err err = LD_ERR_INIT;

    if (ld_limits_set_volume(core, v, &err) < 0 && v->size_limit)
        complain(core, "volume", v->name ? v->name : v->id, &err);
}

void ld_limits_forget(struct ld_core *core, ld_sid sid)
{
    int r = ld_quota_forget(&core->env.quota, core->root.w_fd, sid);

    if (r < 0)
        ld_debug("forget the limits of %" LD_PRI_SID ": %s", sid, strerrordesc_np(-r));
}
