/* The life of a container: see container.h. Creating is in container_create.c.
 *
 * Every change runs while the loop holds the container's key, so nothing here locks anything.
 */
#include "daemon/core/container.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "daemon/base/buf.h"
#include "daemon/base/mem.h"
#include "daemon/base/parse.h"
#include "daemon/core/bundle.h"
#include "daemon/core/config.h"
#include "daemon/core/fold.h"
#include "daemon/core/holders.h"
#include "daemon/core/limit_watch.h"
#include "daemon/core/limits.h"
#include "daemon/core/rootfs.h"
#include "daemon/core/state.h"
#include "daemon/core/trash.h"
#include "daemon/core/writable.h"
#include "daemon/jobs/op.h"

void ld_container_state_done(struct ld_container_state *state)
{
    ld_container_done(&state->record);
    ld_free_p(&state->mountpoint);
    ld_free_p(&state->target);
    ld_free_p(&state->bundle);
    ld_free_p(&state->damage);
}

void ld_container_state_of(struct ld_core *core, struct ld_container *record,
                           struct ld_container_state *ret)
{
    *ret = (struct ld_container_state){.record = *record};
    *record = (struct ld_container){.id = NULL};
    ret->mount = ld_mounts_state(core->mounts, ret->record.id, ret->record.upper_sid);
    if (ret->mount == LD_MOUNTED)
        ret->mountpoint = ld_asprintf("%s/mnt/%s", core->root.run_path, ret->record.id);
    ret->target = ld_mounts_target(core->mounts, ret->record.upper_sid);
    ret->bundle = ret->mountpoint ? ld_bundle_path(core, ret->record.id) : NULL;
    if (ret->record.damage)
        ret->damage = ld_strdup(ret->record.damage);
}

/* A damaged layer below damages the container too; looked at when one container is asked for. */
static void add_chain_damage(struct ld_core *core, struct ld_container_state *state)
{
    struct ld_chain_sids *chain = ld_new(struct ld_chain_sids);
    struct ld_layer layer LD_AUTO(ld_layer_done) = {.sid = 0};
    struct ld_err ignored = LD_ERR_INIT;

    if (!state->damage &&
        ld_store_chain(core->store, state->record.parent_sid, chain, &ignored) == 0 &&
        chain->damaged && ld_store_layer_get(core->store, chain->damaged, &layer, &ignored) == 0)
        state->damage = ld_asprintf("layer %s is damaged: %s", layer.chain_id ? layer.chain_id : "",
                                    layer.damage ? layer.damage : "unknown");
    free(chain);
}

static int state_by_id(struct ld_core *core, const char *id, struct ld_container_state *ret,
                       struct ld_err *err)
{
    struct ld_container record = {.id = NULL};

    if (ld_store_container_get(core->store, id, &record, err) < 0)
        return -1;
    ld_container_state_of(core, &record, ret);
    add_chain_damage(core, ret);
    return 0;
}

int ld_container_find(struct ld_core *core, const char *text, struct ld_container_state *ret,
                      struct ld_err *err)
{
    struct ld_container record = {.id = NULL};

    if (ld_store_container_find(core->store, text, &record, err) < 0)
        return -1;
    ld_container_state_of(core, &record, ret);
    add_chain_damage(core, ret);
    return 0;
}

int ld_container_admit(struct ld_core *core, const char *text, bool exclusive, struct ld_op *op,
                       char ret_id[65], struct ld_err *err)
{
    struct ld_container c LD_AUTO(ld_container_done) = {.id = NULL};

    if (ld_store_container_find(core->store, text, &c, err) < 0)
        return -1;
    memcpy(ret_id, c.id, 65);
    ld_op_key(op, exclusive ? LD_EXCLUSIVE : LD_SHARED, "c:%s", c.id);
    return 0;
}

int ld_container_admit_mount(struct ld_core *core, const char *text, struct ld_op *op,
                             char ret_id[65], struct ld_err *err)
{
    struct ld_container c LD_AUTO(ld_container_done) = {.id = NULL};

    if (ld_store_container_find(core->store, text, &c, err) < 0)
        return -1;
    memcpy(ret_id, c.id, 65);
    ld_op_key(op, LD_EXCLUSIVE, "c:%s", c.id);
    for (size_t i = 0; i < c.n_mounts; i++) {
        struct ld_volume v LD_AUTO(ld_volume_done) = {.sid = 0};

        if (c.mounts[i].type != LD_MOUNT_VOLUME)
            continue;
        if (ld_store_volume_get(core->store, c.mounts[i].volume_id, &v, err) < 0)
            return ld_err_prefix(err, "the volume for '%s'", c.mounts[i].target);
        ld_op_key(op, v.seeded ? LD_SHARED : LD_EXCLUSIVE, "v:%s", v.id);
        if (!v.seeded)
            op->lane = LD_LANE_COPY; /* filling it from the image is no short work */
    }
    return 0;
}

int ld_container_inspect(struct ld_core *core, const char *id, struct ld_container_state *ret,
                         struct ld_err *err)
{
    struct ld_loaded_rootfs rootfs;
    struct ld_err ignored = LD_ERR_INIT;

    if (state_by_id(core, id, ret, err) < 0)
        return -1;
    if (!ret->record.ever_mounted || ret->mount == LD_MOUNTED || ret->damage ||
        ld_rootfs_load(core, &ret->record, true, &rootfs, &ignored) < 0)
        return 0;
    ret->mount = ld_mounts_probe(core->mounts, &rootfs.fs);
    ld_rootfs_done(&rootfs);
    return 0;
}

int ld_container_usage(struct ld_core *core, const char *id, struct ld_usage *ret,
                       struct ld_err *err)
{
    struct ld_container c LD_AUTO(ld_container_done) = {.id = NULL};
    struct ld_loaded_rootfs rootfs;
    int rc;

    if (ld_store_container_get(core->store, id, &c, err) < 0 ||
        ld_rootfs_load(core, &c, true, &rootfs, err) < 0)
        return -1;
    rc = rootfs.fs.driver->usage(rootfs.fs.env, &rootfs.fs.writable, ret, err);
    ld_rootfs_done(&rootfs);
    return rc < 0 ? ld_blame_removal(core, id, err) : 0;
}

int ld_container_name_check(const char *name, struct ld_err *err)
{
    if (ld_name_is_valid(name))
        return 0;
    (void)ld_err_set(err, LD_E_INVALID, "the container name '%s' is not valid", name);
    return ld_err_hint(err, "names are [a-z0-9][a-z0-9_.-]*, at most 128 bytes, not 64 hex digits");
}

/* In the kernel; the record follows, or a start sets what the record says. */
static int limit(struct ld_core *core, const char *id, const struct ld_container_patch *patch,
                 struct ld_container *ret_before, struct ld_err *err)
{
    struct ld_container *c = ret_before;

    if (ld_store_container_get(core->store, id, c, err) < 0)
        return -1;
    if (patch->if_match && patch->if_match != c->version)
        return 0; /* to be refused in its transaction */
    if (ld_limits_set_container(core, c, patch->limits, err) < 0)
        return ld_err_prefix(err, "container '%s'", c->name ? c->name : c->id);
    return 0;
}

int ld_container_patch(struct ld_core *core, const struct ld_write *w, const char *id,
                       const struct ld_container_patch *patch, struct ld_container_state *ret,
                       struct ld_err *err)
{
    struct ld_container record = {.id = NULL};
    struct ld_container before LD_AUTO(ld_container_done) = {.id = NULL};
    struct ld_err ignored = LD_ERR_INIT;

    if (patch->name && ld_container_name_check(patch->name, err) < 0)
        return -1;
    if (patch->limits && limit(core, id, patch, &before, err) < 0)
        return -1;
    if (ld_store_container_patch(core->store, w, id, patch, &record, err) < 0) {
        if (patch->limits && !ld_is_undecided(err))
            (void)ld_limits_set_container(core, &before, &before.limits, &ignored);
        return -1;
    }
    ld_container_state_of(core, &record, ret);
    add_chain_damage(core, ret);
    return 0;
}

/* ---- mounting ---- */

static void post_event(struct ld_core *core, const struct ld_write *w, const char *type,
                       const struct ld_container *c)
{
    struct ld_note note = {.type = type, .kind = "container", .id = c->id, .name = c->name};

    ld_store_event_post(core->store, w, &note);
}

/* A mounted container is taken as it is, unless it was asked for otherwise. */
static int check_target(struct ld_core *core, const struct ld_rootfs *fs, struct ld_err *err)
{
    autofree char *at = ld_mounts_target(core->mounts, fs->writable.sid);
    struct ld_mount_target recorded = {.path = NULL};
    bool is_trusted =
        ld_mount_target_recorded(&core->root, fs->id, &recorded) && recorded.is_trusted;

    free((char *)recorded.path);
    if (!fs->target ||
        (at && strcmp(at, fs->target->path) == 0 && is_trusted == fs->target->is_trusted))
        return 0;
    if (!at)
        (void)ld_err_set(err, LD_E_CONFLICT, "it is mounted, but at no target");
    else
        (void)ld_err_set(err, LD_E_CONFLICT, "it is mounted at the target '%s'%s", at,
                         is_trusted ? ", trusted" : "");
    return ld_err_hint(err, "unmount it first");
}

static int check_mounted(struct ld_core *core, const struct ld_rootfs *fs, enum ld_mount_how how,
                         struct ld_err *err)
{
    autoclose int place = ld_mounts_open_place(core->mounts, fs->id);
    struct statvfs sv;
    bool is_read_only;

    if (check_target(core, fs, err) < 0)
        return -1;
    if (how == LD_AS_CREATED)
        return 0;
    if (place < 0 || fstatvfs(place, &sv) < 0)
        return ld_err_sys(err, place < 0 ? place : -errno, "look at the mount");
    is_read_only = sv.f_flag & ST_RDONLY;
    if (is_read_only == fs->read_only)
        return 0;
    (void)ld_err_set(err, LD_E_CONFLICT, "it is mounted %s",
                     is_read_only ? "read-only" : "writable");
    return ld_err_hint(err, "unmount it first");
}

static int attach(struct ld_core *core, const struct ld_write *w, const struct ld_container *c,
                  const struct ld_container_mounting *mounting, struct ld_err *err)
{
    struct ld_loaded_rootfs rootfs;
    bool was = false;
    int rc = -1;

    if (ld_rootfs_load(core, c, true, &rootfs, err) < 0)
        return -1;
    rootfs.fs.read_only |= mounting->how == LD_READ_ONLY;
    rootfs.fs.target = mounting->target;
    /* Recorded before the mount: whatever happens to us, the next one is probed for. */
    if ((c->ever_mounted || ld_store_container_set_ever_mounted(core->store, c->id, err) == 0) &&
        ld_mounts_attach(core->mounts, &rootfs.fs, &was, err) == 0)
        rc = was ? check_mounted(core, &rootfs.fs, mounting->how, err)
                 : ld_rootfs_record_seeds(core, w, c, &rootfs, err);
    if (rc == 0 && !was)
        post_event(core, w, "container.mount", c);
    ld_rootfs_done(&rootfs);
    return rc;
}

int ld_container_mount(struct ld_core *core, const struct ld_write *w, const char *id,
                       const struct ld_container_mounting *mounting, struct ld_container_state *ret,
                       struct ld_err *err)
{
    struct ld_container c LD_AUTO(ld_container_done) = {.id = NULL};

    if (ld_store_container_get(core->store, id, &c, err) < 0)
        return -1;
    if (attach(core, w, &c, mounting, err) < 0)
        return ld_err_prefix(err, "container '%s'", c.name ? c.name : c.id);
    return state_by_id(core, id, ret, err);
}

/* Who still holds a mount that was detached, as far as it can be seen; free it. */
static char *holders_of(const struct ld_core *core, int place, const struct ld_driver *driver)
{
    struct ld_holder holder[LD_MAX_HOLDERS];
    struct ld_buf json LD_AUTO(ld_buf_done) = LD_BUF_INIT(8192);
    size_t n = ld_holders_find(place, strcmp(driver->name, "overlay") != 0, holder);

    (void)core;
    ld_holders_json(holder, n, &json);
    return ld_buf_take(&json);
}

static int detach(struct ld_core *core, const struct ld_container *c, struct ld_unmount_flags flags,
                  struct ld_unmounted *ret, struct ld_err *err)
{
    struct ld_loaded_rootfs rootfs;
    bool held = false;
    int rc;

    if (ld_rootfs_load(core, c, false, &rootfs, err) < 0)
        return -1;
    if (flags.force && ld_mounts_state(core->mounts, c->id, c->upper_sid) == LD_MOUNTED) {
        autoclose int place = ld_mounts_open_place(core->mounts, c->id);

        ret->holders = place < 0 ? NULL : holders_of(core, place, rootfs.fs.driver);
    }
    rc = ld_mounts_detach(core->mounts, &rootfs.fs, flags, &ret->was_mounted, &held, err);
    if (rc == 0)
        ld_bundle_drop(core, c->id);
    if (!held)
        ld_free_p(&ret->holders);
    ld_rootfs_done(&rootfs);
    if (rc == 0)
        ld_folder_look_again(core);
    return rc;
}

void ld_unmounted_done(struct ld_unmounted *unmounted)
{
    ld_container_state_done(&unmounted->state);
    ld_free_p(&unmounted->holders);
}

/* What had a file system of its own can't come back: that is unmounted now. */
static int remove_record(struct ld_core *core, const struct ld_write *w,
                         const struct ld_container *c, const struct ld_container_removal *how,
                         bool may_be_held, struct ld_removed *ret, struct ld_err *err)
{
    struct ld_removed removed LD_AUTO(ld_removed_done) = {.n = 0};
    struct ld_remove remove = {.if_match = how->if_match,
                               .volumes = how->volumes,
                               .may_be_held = may_be_held && c->ever_mounted};

    if (!how->purge && !c->backing)
        remove.keep_ns = (int64_t)core->config->trash_containers_ms * 1000000;
    if (ld_store_container_remove(core->store, w, c->id, &remove, &removed, err) < 0 &&
        (w->dry_run || !ld_core_make_room(core, err) ||
         ld_store_container_remove(core->store, w, c->id, &remove, &removed, err) < 0))
        return -1;
    ld_trash_finish(core, w, &removed, ret);
    return 0;
}

int ld_container_unmount(struct ld_core *core, const struct ld_write *w, const char *id,
                         struct ld_unmount_flags flags, struct ld_unmounted *ret,
                         struct ld_err *err)
{
    struct ld_container c LD_AUTO(ld_container_done) = {.id = NULL};
    struct ld_unmounted out LD_AUTO(ld_unmounted_done) = {.was_mounted = false};

    if (ld_store_container_get(core->store, id, &c, err) < 0)
        return -1;
    if (detach(core, &c, flags, &out, err) < 0)
        return ld_err_prefix(err, "container '%s'", c.name ? c.name : c.id);
    if (out.was_mounted) {
        post_event(core, w, "container.unmount", &c);
        ld_limit_watch_look(core->limit_watch, &c);
    }
    if (state_by_id(core, id, &out.state, err) < 0)
        return -1;
    if (out.was_mounted && c.auto_remove && out.state.mount == LD_UNMOUNTED) {
        struct ld_container_removal how = {.volumes = true};
        struct ld_removed removed LD_AUTO(ld_removed_done) = {.n = 0};

        if (remove_record(core, w, &c, &how, true, &removed, err) < 0)
            return -1;
    }
    *ret = ld_steal(&out);
    return 0;
}

/* Unmounts what is about to be removed; a dry run only looks whether it may be. */
static int make_removable(struct ld_core *core, const struct ld_write *w,
                          const struct ld_container *c, const struct ld_container_removal *how,
                          struct ld_err *err)
{
    bool force = how->force;
    struct ld_unmounted out = {.was_mounted = false};
    struct ld_loaded_rootfs rootfs;
    struct ld_err ignored = LD_ERR_INIT;
    enum ld_mount_state state = ld_mounts_state(core->mounts, c->id, c->upper_sid);
    autofree char *target = ld_mounts_target(core->mounts, c->upper_sid);
    int rc = 0;

    if (target)
        state = LD_MOUNTED; /* there, if no longer at mnt/ID */
    if (state == LD_MOUNTED && !force) {
        (void)ld_err_set(err, LD_E_BUSY, "container '%s' is mounted", c->name ? c->name : c->id);
        return ld_err_hint(err, "unmount it first, or remove it with force");
    }
    if (state == LD_MOUNTED && w->dry_run)
        return 0;
    if (state == LD_MOUNTED) {
        rc = detach(core, c, (struct ld_unmount_flags){.force = false}, &out, err);
        if (rc < 0 && err->code == LD_E_BUSY)
            rc = detach(core, c, (struct ld_unmount_flags){.force = true}, &out, err);
        if (rc == 0)
            post_event(core, w, "container.unmount", c);
        ld_unmounted_done(&out);
        return rc;
    }
    /* One that can't be loaded is damaged: nothing can be mounted there, it may go. */
    if (force || !c->ever_mounted || ld_rootfs_load(core, c, false, &rootfs, &ignored) < 0)
        return 0;
    state = how->settle ? ld_mounts_settle(core->mounts, &rootfs.fs)
                        : ld_mounts_probe(core->mounts, &rootfs.fs);
    ld_rootfs_done(&rootfs);
    if (state != LD_HELD)
        return 0;
    (void)ld_err_set(err, LD_E_BUSY,
                     "container '%s' is held by a process in another mount namespace",
                     c->name ? c->name : c->id);
    return ld_err_hint(err,
                       "end that process, or remove it with force: its data goes when it is free");
}

int ld_container_remove(struct ld_core *core, const struct ld_write *w, const char *id,
                        const struct ld_container_removal *how, struct ld_removed *ret,
                        struct ld_err *err)
{
    struct ld_container c LD_AUTO(ld_container_done) = {.id = NULL};

    if (ld_store_container_get(core->store, id, &c, err) < 0)
        return -1;
    if (how->if_match && how->if_match != c.version)
        return ld_err_set(err, LD_E_PRECONDITION, "container '%s' is at version %llu, not %llu",
                          c.name ? c.name : c.id, (unsigned long long)c.version,
                          (unsigned long long)how->if_match);
    if (make_removable(core, w, &c, how, err) < 0 ||
        remove_record(core, w, &c, how, how->force && !w->dry_run, ret, err) < 0)
        return -1;
    if (!w->dry_run && c.parent_sid != c.base_sid)
        ld_folder_note(core, c.parent_sid); /* what others have replaced of that state can go */
    return 0;
}

/* Counts what the sink was told. */
struct telling {
    ld_change_fn sink;
    void *arg;
    size_t n;
};

static int tell(void *arg, const struct ld_change *change, struct ld_err *err)
{
    struct telling *t = arg;

    t->n++;
    return t->sink(t->arg, change, err);
}

static int read_changes(struct ld_core *core, const struct ld_container *c, struct telling *t,
                        struct ld_err *err)
{
    struct ld_loaded_rootfs rootfs;
    ld_sid upper = c->upper_sid;
    int rc;

    if (ld_rootfs_load(core, c, true, &rootfs, err) < 0)
        return -1;
    ld_pins_add(core->pins, rootfs.chain.sid, rootfs.chain.n);
    ld_pins_add(core->pins, &upper, 1);
    rc = rootfs.fs.driver->changes(rootfs.fs.env, &rootfs.fs.writable, tell, t, err);
    ld_pins_drop(core->pins, rootfs.chain.sid, rootfs.chain.n);
    ld_pins_drop(core->pins, &upper, 1);
    ld_rootfs_done(&rootfs);
    return rc;
}

/* No key is held, so a freeze or a rollback can move the writable layer away before it is open.
 * Once it is, it is read by descriptors. */
int ld_container_changes(struct ld_core *core, const char *id, ld_change_fn sink, void *arg,
                         struct ld_err *err)
{
    struct telling t = {.sink = sink, .arg = arg};
    struct ld_err why = LD_ERR_INIT;
    ld_sid before = 0;

    for (;;) {
        struct ld_container c LD_AUTO(ld_container_done) = {.id = NULL};

        if (ld_store_container_get(core->store, id, &c, err) < 0)
            return -1;
        if (c.upper_sid == before || t.n > 0)
            break;
        before = c.upper_sid;
        why = (struct ld_err)LD_ERR_INIT;
        if (read_changes(core, &c, &t, &why) == 0)
            return 0;
    }
    *err = why;
    return ld_blame_removal(core, id, err);
}
