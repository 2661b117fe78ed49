/* Volumes: see volume.h. A new one is a directory first and a record after it, in one order with
 * every other object: make, sync, record. */
#include "daemon/core/volume.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/base/clock.h"
#include "daemon/base/digest.h"
#include "daemon/base/fdio.h"
#include "daemon/base/mem.h"
#include "daemon/base/mountapi.h"
#include "daemon/base/parse.h"
#include "daemon/base/tree.h"
#include "daemon/core/config.h"
#include "daemon/core/container.h"
#include "daemon/core/limits.h"
#include "daemon/core/making.h"
#include "daemon/core/rootfs.h"
#include "daemon/core/state.h"
#include "daemon/core/trash.h"
#include "daemon/core/writable.h"
#include "daemon/jobs/op.h"

int ld_volume_admit(struct ld_core *core, const char *text, bool exclusive, struct ld_op *op,
                    char ret_id[65], struct ld_err *err)
{
    struct ld_volume volume LD_AUTO(ld_volume_done) = {.sid = 0};

    if (ld_store_volume_find(core->store, text, &volume, err) < 0)
        return -1;
    ld_op_key(op, exclusive ? LD_EXCLUSIVE : LD_SHARED, "v:%s", volume.id);
    if (ret_id)
        memcpy(ret_id, volume.id, 65);
    return 0;
}

int ld_volume_admit_files(struct ld_core *core, const char *text, bool will_write, struct ld_op *op,
                          char ret_id[65], struct ld_err *err)
{
    struct ld_volume v LD_AUTO(ld_volume_done) = {.sid = 0};

    if (ld_store_volume_find(core->store, text, &v, err) < 0)
        return -1;
    ld_op_key(op, will_write && !v.seeded ? LD_EXCLUSIVE : LD_SHARED, "v:%s", v.id);
    memcpy(ret_id, v.id, 65);
    return 0;
}

int ld_volume_admit_clone(struct ld_core *core, const char *text, bool live, struct ld_op *op,
                          char ret_id[65], struct ld_err *err)
{
    return ld_volume_admit(core, text, !live, op, ret_id, err);
}

/* ---- the directory of a new one ---- */

int ld_volume_refuse_mounted(struct ld_core *core, const struct ld_volume *v, bool could_be_live,
                             struct ld_err *err)
{
    LD_AUTO(ld_users_done) struct ld_users users = {.n = 0};

    if (ld_volume_mounters(core, v->id, &users, err) < 0)
        return -1;
    if (users.n == 0)
        return 0;
    (void)ld_err_set(err, LD_E_IN_USE, "volume '%s' is mounted by %zu container%s",
                     v->name ? v->name : v->id, users.n, users.n == 1 ? "" : "s");
    (void)ld_err_hint(err, "unmount them first%s",
                      could_be_live ? ", or have it copied while it changes (live)" : "");
    return ld_users_details(&users, err);
}

/* A private clone of volumes/SID, which is pinned until it is closed. */
static int open_view(struct ld_core *core, ld_sid sid, struct ld_volume_view *ret)
{
    int fd;

    ld_pins_add(core->pins, &sid, 1);
    fd = ld_mount_clone(core->root.volumes_fd, ld_sid_name(sid).text, LD_CLONE_GUARDED);
    if (fd < 0) {
        ld_pins_drop(core->pins, &sid, 1);
        return fd;
    }
    *ret = (struct ld_volume_view){.core = core, .sid = sid, .fd = fd};
    return 0;
}

static int view_snapshot(struct ld_core *core, ld_sid sid, struct ld_volume_view *ret,
                         struct ld_err *err)
{
    int r = open_view(core, sid, ret);

    if (r == -ENOENT)
        return ld_err_set(err, LD_E_CORRUPT, "the directory of the snapshot is missing");
    return r < 0 ? ld_err_sys(err, r, "open the snapshot") : 0;
}

static int copy_content(struct ld_core *core, const struct ld_volume_source *from, int to,
                        struct ld_err *err)
{
    struct ld_volume_view view = {.fd = -EBADF};
    struct ld_layers plain = {.root = &view.fd, .n = 1, .form = LD_FORM_PLAIN};
    int rc, r;

    if ((from->snapshot_sid ? view_snapshot(core, from->snapshot_sid, &view, err)
                            : ld_volume_view(core, from->id, &view, err)) < 0)
        return -1;
    rc = (from->live ? ld_tree_copy_live : ld_tree_copy)(&plain, to, LD_FORM_PLAIN, from->cancel,
                                                         err);
    ld_volume_view_close(&view);
    if (rc < 0)
        return -1;
    r = ld_syncfs(to);
    return r < 0 ? ld_err_sys(err, r, "write the copy") : 0;
}

static int copy_aside(struct ld_core *core, const struct ld_volume_source *from,
                      const struct ld_volume *copy, struct ld_err *err)
{
    struct ld_sid_text name = ld_sid_name(copy->sid);
    autofree char *aside = ld_asprintf("clone-%s", name.text);
    autoclose int to = ld_limits_make_volume(core, core->root.staging_fd, aside, 0700, copy);
    int rc;

    if (to < 0)
        return ld_err_sys(err, to, "stage the copy");
    rc = copy_content(core, from, to, err);
    if (rc == 0 && renameat2(core->root.staging_fd, aside, core->root.volumes_fd, name.text,
                             RENAME_NOREPLACE) < 0)
        rc = ld_err_sys(err, -errno, "put the copy in place");
    if (rc < 0) {
        ld_trash_discard(core, core->root.staging_fd, aside);
        ld_core_kick_reaper(core);
    }
    return rc;
}

int ld_volume_copy(struct ld_core *core, const struct ld_volume_source *from, ld_sid sid,
                   struct ld_err *err)
{
    const struct ld_volume copy = {.sid = sid, .size_limit = from->size_limit};
    const struct ld_limits limits = {.bytes = from->size_limit};

    if (ld_limits_check(core, &limits, err) < 0) {
        err->code = LD_E_CONFLICT; /* with what it is a copy of */
        return -1;
    }
    if (ld_making_begin(core, sid, err) < 0)
        return -1;
    if (copy_aside(core, from, &copy, err) < 0) {
        ld_making_end(core, sid);
        return -1;
    }
    if (from->size_limit == 0 || ld_limits_set_volume(core, &copy, err) == 0)
        return 0;
    ld_volume_discard(core, sid);
    return -1;
}

/* Takes over from the origin what the clone has from it. */
static int inherit(struct ld_core *core, const struct ld_volume_origin *origin, struct ld_volume *v,
                   struct ld_volume_source *ret, struct ld_err *err)
{
    struct ld_volume from LD_AUTO(ld_volume_done) = {.sid = 0};
    struct ld_snapshot s LD_AUTO(ld_snapshot_done) = {.id = NULL};
    struct ld_volume other LD_AUTO(ld_volume_done) = {.sid = 0};
    struct ld_err lookup = LD_ERR_INIT;

    if (ld_store_volume_get(core->store, origin->id, &from, err) < 0)
        return -1;
    /* Asked again in its transaction; but nothing should be copied only to be refused. */
    if (v->name && ld_store_volume_by_name(core->store, v->name, &other, &lookup) == 0)
        return ld_err_set(err, LD_E_EXISTS, "there is a volume '%s' already", v->name);
    if (origin->snapshot &&
        ld_store_snapshot_find(core->store, origin->id, origin->snapshot, &s, err) < 0)
        return -1;
    if (!s.id && !origin->live && ld_volume_refuse_mounted(core, &from, true, err) < 0)
        return -1;
    *ret =
        (struct ld_volume_source){.id = origin->id,
                                  .snapshot_sid = s.volume_sid,
                                  .size_limit = origin->has_limit ? v->size_limit : from.size_limit,
                                  .live = origin->live && !s.id,
                                  .cancel = origin->cancel};
    v->seeded = from.seeded;
    v->size_limit = ret->size_limit;
    if (!v->labels && from.labels)
        v->labels = ld_strdup(from.labels);
    return 0;
}

static int make_empty(struct ld_core *core, const struct ld_volume *v, struct ld_err *err)
{
    autoclose int dir = -EBADF;
    int rc;

    if (ld_making_begin(core, v->sid, err) < 0)
        return -1;
    dir = ld_limits_make_volume(core, core->root.volumes_fd, ld_sid_name(v->sid).text, 0755, v);
    rc = dir < 0 ? ld_err_sys(err, dir, "make its directory") : 0;
    if (rc == 0 && v->size_limit)
        rc = ld_limits_set_volume(core, v, err);
    if (rc == 0)
        return 0;
    if (dir >= 0)
        ld_volume_discard(core, v->sid);
    else
        ld_making_end(core, v->sid);
    return -1;
}

/* Its storage id, pinned on success: whoever looks for what nobody uses leaves it alone. */
static int begin(struct ld_core *core, const struct ld_volume_spec *spec, struct ld_volume *v,
                 struct ld_err *err)
{
    struct ld_limits limits = {.bytes = spec->size_limit};

    if (spec->name && !ld_name_is_valid(spec->name)) {
        (void)ld_err_set(err, LD_E_INVALID, "the volume name '%s' is not valid", spec->name);
        return ld_err_hint(err,
                           "names are [a-z0-9][a-z0-9_.-]*, at most 128 bytes, not 64 hex digits");
    }
    if (ld_limits_check(core, &limits, err) < 0 || ld_core_may_grow(core, 0, err) < 0 ||
        ld_store_take_sid(core->store, &v->sid, err) < 0)
        return -1;
    ld_pins_add(core->pins, &v->sid, 1);
    return 0;
}

/* Makes the directory of a new volume and fills its record. */
static int prepare(struct ld_core *core, const struct ld_volume_spec *spec, struct ld_volume *v,
                   struct ld_err *err)
{
    struct ld_volume_source from = {.id = NULL};
    char id[65];
    int rc;

    ld_random_hex(id, 32);
    v->id = ld_strdup(id);
    v->name = spec->name ? ld_strdup(spec->name) : NULL;
    v->anonymous = spec->name == NULL;
    v->labels = spec->labels ? ld_strdup(spec->labels) : NULL;
    v->spec_digest = spec->spec_digest ? ld_strdup(spec->spec_digest) : NULL;
    v->size_limit = spec->size_limit;
    v->created_ns = ld_now_ns();
    if (spec->origin && inherit(core, spec->origin, v, &from, err) < 0)
        return -1;
    rc = spec->origin ? ld_volume_copy(core, &from, v->sid, err) : make_empty(core, v, err);
    return rc < 0 ? ld_err_prefix(err, "volume '%s'", spec->name ? spec->name : id) : 0;
}

void ld_volume_discard(struct ld_core *core, ld_sid sid)
{
    /* Unknown to anybody. */
    ld_trash_discard(core, core->root.volumes_fd, ld_sid_name(sid).text);
    ld_limits_forget(core, sid);
    ld_core_kick_reaper(core);
    ld_making_end(core, sid);
}

static struct ld_write with_dir(const struct ld_write *w, const int *dir)
{
    struct ld_write with = *w;

    with.dirs = dir;
    with.n_dirs = 1;
    return with;
}

/* The volume of that name for a PUT: the same body means the same volume. 1: found. */
static int find_same(struct ld_core *core, const struct ld_volume_spec *spec, struct ld_volume *ret,
                     struct ld_err *err)
{
    struct ld_err lookup = LD_ERR_INIT;

    if (!spec->may_exist || !spec->name)
        return 0;
    if (ld_store_volume_by_name(core->store, spec->name, ret, &lookup) < 0)
        return lookup.code == LD_E_NOT_FOUND ? 0 : (*err = lookup, -1);
    if (!spec->must_be_new && ret->spec_digest && spec->spec_digest &&
        strcmp(ret->spec_digest, spec->spec_digest) == 0)
        return 1;
    ld_volume_done(ret);
    if (spec->must_be_new)
        return ld_err_set(err, LD_E_PRECONDITION, "the volume '%s' exists", spec->name);
    (void)ld_err_set(err, LD_E_EXISTS, "the volume '%s' exists and was made differently",
                     spec->name);
    return ld_err_hint(err, "remove it first, or ask for what it is");
}

static int create_new(struct ld_core *core, const struct ld_write *w,
                      const struct ld_volume_spec *spec, struct ld_volume *v, struct ld_volume *ret,
                      struct ld_err *err)
{
    struct ld_write with = with_dir(w, &core->root.volumes_fd);

    if (prepare(core, spec, v, err) < 0)
        return -1;
    if (ld_store_volume_add(core->store, &with, v, err) < 0) {
        if (!ld_is_undecided(err))
            ld_volume_discard(core, v->sid);
        return -1;
    }
    ld_making_end(core, v->sid);
    return ld_store_volume_get(core->store, v->id, ret, err);
}

int ld_volume_create(struct ld_core *core, const struct ld_write *w,
                     const struct ld_volume_spec *spec, struct ld_volume *ret, bool *ret_made,
                     struct ld_err *err)
{
    struct ld_volume v LD_AUTO(ld_volume_done) = {.sid = 0};
    int rc = find_same(core, spec, ret, err);

    *ret_made = false;
    if (rc)
        return rc < 0 ? -1 : 0;
    if (begin(core, spec, &v, err) < 0)
        return -1;
    rc = create_new(core, w, spec, &v, ret, err);
    ld_pins_drop(core->pins, &v.sid, 1);
    *ret_made = rc == 0;
    return rc;
}

/* The volume of the name, if there is one by now; v otherwise, whose sid is taken. */
static int make_or_find(struct ld_core *core, const struct ld_write *w,
                        const struct ld_volume_spec *spec, struct ld_volume *v,
                        struct ld_volume *ret, bool *ret_made, struct ld_err *err)
{
    struct ld_write with = with_dir(w, &core->root.volumes_fd);

    if (prepare(core, spec, v, err) < 0)
        return -1;
    if (!spec->name) {
        if (ld_store_volume_add(core->store, &with, v, err) == 0) {
            ld_making_end(core, v->sid);
            *ret_made = true;
            return ld_store_volume_get(core->store, v->id, ret, err);
        }
    } else if (ld_store_volume_ensure(core->store, &with, v, ret, ret_made, err) == 0) {
        if (*ret_made)
            ld_making_end(core, v->sid);
        else
            ld_volume_discard(core, v->sid);
        return 0;
    }
    if (!ld_is_undecided(err))
        ld_volume_discard(core, v->sid);
    return -1;
}

int ld_volume_patch(struct ld_core *core, const struct ld_write *w, const char *id,
                    const struct ld_volume_patch *patch, struct ld_volume *ret, struct ld_err *err)
{
    struct ld_volume v LD_AUTO(ld_volume_done) = {.sid = 0};
    struct ld_err ignored = LD_ERR_INIT;
    uint64_t before;

    if (ld_store_volume_get(core->store, id, &v, err) < 0)
        return -1;
    before = v.size_limit;
    if (patch->size_limit && (!patch->if_match || patch->if_match == v.version)) {
        v.size_limit = *patch->size_limit;
        if (ld_limits_set_volume(core, &v, err) < 0)
            return ld_err_prefix(err, "volume '%s'", v.name ? v.name : v.id);
    }
    if (ld_store_volume_patch(core->store, w, id, patch, ret, err) == 0)
        return 0;
    v.size_limit = before;
    if (patch->size_limit && !ld_is_undecided(err))
        (void)ld_limits_set_volume(core, &v, &ignored);
    return -1;
}

int ld_volume_ensure(struct ld_core *core, const struct ld_write *w, const char *name,
                     struct ld_volume *ret, bool *ret_made, struct ld_err *err)
{
    struct ld_digest empty = ld_digest_of("{}", 2); /* a PUT without a body finds it */
    char digest[LD_DIGEST_TEXT];
    struct ld_volume_spec spec = {.name = name, .spec_digest = digest};
    struct ld_volume v LD_AUTO(ld_volume_done) = {.sid = 0};
    int rc;

    ld_digest_format(&empty, digest);
    *ret_made = false;
    if (name && ld_store_volume_find(core->store, name, ret, err) == 0)
        return 0;
    if (name && (err->code != LD_E_NOT_FOUND || ld_is_hex(name, 64)))
        return -1; /* an id is no name to make one by */
    if (begin(core, &spec, &v, err) < 0)
        return -1;
    rc = make_or_find(core, w, &spec, &v, ret, ret_made, err);
    if (rc < 0 || !*ret_made)
        ld_pins_drop(core->pins, &v.sid, 1);
    return rc;
}

int ld_volume_remove(struct ld_core *core, const struct ld_write *w, const char *id,
                     const struct ld_volume_removal *how, struct ld_removed *ret,
                     struct ld_err *err)
{
    struct ld_removed removed LD_AUTO(ld_removed_done) = {.n = 0};
    struct ld_remove remove = {.if_match = how->if_match};

    if (!how->purge)
        remove.keep_ns = (int64_t)core->config->trash_volumes_ms * 1000000;
    if (ld_store_volume_remove(core->store, w, id, &remove, &removed, err) < 0 &&
        (w->dry_run || !ld_core_make_room(core, err) ||
         ld_store_volume_remove(core->store, w, id, &remove, &removed, err) < 0))
        return -1;
    ld_trash_finish(core, w, &removed, ret);
    return 0;
}

/* An anonymous one may be removed with its container, whose key says nothing about it. */
static int blame_removal(struct ld_core *core, const char *id, struct ld_err *err)
{
    struct ld_volume v LD_AUTO(ld_volume_done) = {.sid = 0};
    struct ld_err lookup = LD_ERR_INIT;

    if (ld_store_volume_get(core->store, id, &v, &lookup) < 0 && lookup.code == LD_E_NOT_FOUND)
        *err = lookup;
    return -1;
}

int ld_volume_view(struct ld_core *core, const char *id, struct ld_volume_view *ret,
                   struct ld_err *err)
{
    struct ld_volume v LD_AUTO(ld_volume_done) = {.sid = 0};
    const char *shown;
    int r;

    if (ld_store_volume_get(core->store, id, &v, err) < 0)
        return -1;
    shown = v.name ? v.name : v.id;
    if (v.damage)
        return ld_err_set(err, LD_E_CORRUPT, "volume '%s' is damaged: %s", shown, v.damage);
    r = open_view(core, v.sid, ret);
    if (r == 0)
        return 0;
    (void)ld_err_sys(err, r, "open volume '%s'", shown);
    return blame_removal(core, id, err);
}

void ld_volume_view_close(struct ld_volume_view *view)
{
    if (view->fd < 0)
        return;
    ld_close_p(&view->fd);
    ld_pins_drop(view->core->pins, &view->sid, 1);
}

/* What was just unmounted may be held elsewhere: that shows once our own clone of it is closed. */
static enum ld_mount_state settled(struct ld_core *core, const struct ld_container_state *state)
{
    struct ld_err ignored = LD_ERR_INIT; /* one that can't be loaded was not mounted by us */
    struct ld_loaded_rootfs rootfs;
    enum ld_mount_state now;

    if (state->mount != LD_UNMOUNTED || !state->record.id || !state->record.ever_mounted ||
        ld_rootfs_load(core, &state->record, true, &rootfs, &ignored) < 0)
        return state->mount;
    now = ld_mounts_settle(core->mounts, &rootfs.fs);
    ld_rootfs_done(&rootfs);
    return now == LD_HELD ? LD_HELD : LD_UNMOUNTED; /* a view of ours is no mount */
}

int ld_volume_mounters(struct ld_core *core, const char *id, struct ld_users *ret,
                       struct ld_err *err)
{
    LD_AUTO(ld_users_done) struct ld_users users = {.n = 0};
    size_t n = 0;

    if (ld_store_volume_users(core->store, id, &users, err) < 0)
        return -1;
    for (size_t i = 0; i < users.n; i++) {
        struct ld_container_state state LD_AUTO(ld_container_state_done) = {.mount = LD_UNMOUNTED};
        struct ld_err why = LD_ERR_INIT;
        struct ld_user user = users.item[i];

        if (ld_container_inspect(core, user.id, &state, &why) < 0 && why.code != LD_E_NOT_FOUND) {
            *err = why;
            return -1;
        }
        if (settled(core, &state) == LD_UNMOUNTED)
            continue;
        users.item[i] = users.item[n]; /* those that have it come first */
        users.item[n++] = user;
    }
    *ret = users;
    users = (struct ld_users){.n = 0};
    for (; ret->n > n; ret->n--) {
        free(ret->item[ret->n - 1].kind);
        free(ret->item[ret->n - 1].id);
        free(ret->item[ret->n - 1].name);
    }
    return 0;
}

int ld_volume_usage(struct ld_core *core, const char *id, struct ld_usage *ret, struct ld_err *err)
{
    struct ld_volume v LD_AUTO(ld_volume_done) = {.sid = 0};
    int r;

    if (ld_store_volume_get(core->store, id, &v, err) < 0)
        return -1;
    r = ld_quota_usage(&core->env.quota, core->root.volumes_fd, ld_sid_name(v.sid).text, v.sid,
                       NULL, ret);
    return r < 0 ? ld_err_sys(err, r, "count volume '%s'", v.name ? v.name : v.id) : 0;
}
