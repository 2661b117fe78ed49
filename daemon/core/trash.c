/* The trash and its reaper: see trash.h.
 *
 * The reaper is one job at a time on the reap lane. It takes what is due in the records' order;
 * what a pin, a view or a process in another mount namespace still holds is left for a later round,
 * sooner at first (each busy probe costs 2 ms and a line in the kernel's log), at last once in 30
 * s.
 */
#include "daemon/core/trash.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/base/clock.h"
#include "daemon/base/digest.h"
#include "daemon/base/fdio.h"
#include "daemon/base/log.h"
#include "daemon/base/mem.h"
#include "daemon/base/parse.h"
#include "daemon/core/backing.h"
#include "daemon/core/config.h"
#include "daemon/core/fold.h"
#include "daemon/core/freeze.h"
#include "daemon/core/layer_names.h"
#include "daemon/core/limits.h"
#include "daemon/core/state.h"
#include "daemon/image/ref.h"
#include "daemon/jobs/lane.h"
#include "daemon/jobs/loop.h"
#include "daemon/jobs/op.h"

enum { FIRST_RETRY_MS = 250, LAST_RETRY_MS = 30000, IDLE_MS = 60000 };

static int place_fd(const struct ld_core *core, enum ld_place place)
{
    switch (place) {
    case LD_PLACE_LAYERS:
        return core->root.layers_fd;
    case LD_PLACE_W:
        return core->root.w_fd;
    case LD_PLACE_VOLUMES:
        return core->root.volumes_fd;
    case LD_PLACE_NONE:
        break;
    }
    return -EBADF;
}

/* Does anybody hold the writable layer sid in env's directory of them? What can't be told is not
 * free. */
static bool is_upper_held(const struct ld_driver_env *env, ld_sid sid)
{
    struct ld_writable w = {.sid = sid};
    struct ld_err err = LD_ERR_INIT;
    bool held = false;

    if (ld_driver_overlay.in_use(env, &w, &held, &err) == 0)
        return held;
    ld_debug("probe of removed writable layer %" LD_PRI_SID ": %s", sid, err.message);
    return true;
}

/* It is dropped when it is free: a holder has the layers below it, too. */
static bool is_backing_held(struct ld_core *core, ld_sid sid)
{
    struct ld_driver_env env = ld_backing_env(&core->root, &core->env, sid);
    bool held = env.w_fd >= 0 && is_upper_held(&env, sid);

    ld_close(env.w_fd);
    return held;
}

void ld_trash_take_one(struct ld_core *core, const struct ld_gone *gone)
{
    size_t first = gone->place == LD_PLACE_LAYERS ? 0 : LD_LAYER_NAMES - 1;

    if (gone->place == LD_PLACE_W && !is_backing_held(core, gone->sid))
        ld_backing_drop(core, gone->sid);
    /* The layer itself is the last: the start looks for it. */
    for (size_t i = first; i < LD_LAYER_NAMES; i++) {
        struct ld_layer_name name = ld_layer_name(gone->sid, ld_layer_suffixes[i]);

        if (renameat2(place_fd(core, gone->place), name.text, core->root.trash_fd, name.text,
                      RENAME_NOREPLACE) < 0 &&
            errno != ENOENT)
            ld_warn("move '%s/%s' to the trash: %s; the next start tries again",
                    ld_place_dir(gone->place), name.text, strerrordesc_np(errno));
    }
}

void ld_trash_take(struct ld_core *core, const struct ld_removed *removed)
{
    for (size_t i = 0; i < removed->n; i++)
        ld_trash_take_one(core, &removed->item[i]);
    if (removed->n || removed->is_removed)
        ld_core_kick_reaper(core); /* what is kept counts for the trash's bound */
}

int ld_trash_measure(struct ld_core *core, struct ld_removed *removed, const bool *cancel,
                     struct ld_err *err)
{
    for (size_t i = 0; i < removed->n_objects; i++) {
        struct ld_removed_object *object = &removed->object[i];
        struct ld_usage usage = {.bytes = 0};
        int r;

        if (!object->has_dir || object->dir.place == LD_PLACE_LAYERS)
            continue;
        r = ld_tree_usage(place_fd(core, object->dir.place), ld_sid_name(object->dir.sid).text,
                          cancel, &usage);
        if (r < 0 && r != -ENOENT)
            return ld_err_sys(err, r, "count %s '%s'", object->kind,
                              object->name ? object->name : object->id);
        object->bytes = usage.bytes;
    }
    return 0;
}

void ld_trash_finish(struct ld_core *core, const struct ld_write *w, struct ld_removed *removed,
                     struct ld_removed *ret)
{
    if (!w->dry_run)
        ld_trash_take(core, removed);
    *ret = ld_steal(removed);
}

/* ---- what is in it ---- */

bool ld_trash_is_restorable(const struct ld_trash *t)
{
    return t->place != LD_PLACE_LAYERS && t->purge_ns > t->removed_ns;
}

/* The snapshots of a volume stay where they are, and go with it. */
static int add_snapshots(struct ld_core *core, const struct ld_trash *t, const bool *cancel,
                         struct ld_usage *usage, struct ld_err *err)
{
    struct ld_snapshot_query query = {.owner = t->owner_id, .limit = 100};

    do {
        struct ld_snapshot_page page LD_AUTO(ld_snapshot_page_done) = {.n = 0};

        if (ld_store_snapshot_list(core->store, &query, &page, err) < 0)
            return -1;
        for (size_t i = 0; i < page.n; i++) {
            struct ld_usage one = {.bytes = 0};
            int r = ld_tree_usage(core->root.volumes_fd, ld_sid_name(page.item[i].volume_sid).text,
                                  cancel, &one);

            if (r < 0 && r != -ENOENT)
                return ld_err_sys(err, r, "count snapshot '%s'", page.item[i].id);
            usage->bytes += one.bytes;
            usage->inodes += one.inodes;
        }
        query.after = page.next;
    } while (query.after);
    return 0;
}

int ld_trash_usage(struct ld_core *core, const struct ld_trash *t, const bool *cancel,
                   struct ld_usage *ret, struct ld_err *err)
{
    struct ld_usage usage = {.bytes = 0};
    int r;

    if (t->place == LD_PLACE_NONE) {
        if (ld_store_trash_image_bytes(core->store, t->owner_id, &usage.bytes, err) < 0)
            return -1;
        *ret = usage;
        return 0;
    }
    r = ld_tree_usage(core->root.trash_fd, ld_sid_name(t->sid).text, cancel, &usage);
    if (r < 0 && r != -ENOENT)
        return ld_err_sys(err, r, "count %s '%s' in the trash", t->kind,
                          t->owner_name ? t->owner_name : t->owner_id);
    if (t->place == LD_PLACE_VOLUMES && ld_trash_is_restorable(t) &&
        add_snapshots(core, t, cancel, &usage, err) < 0)
        return -1;
    *ret = usage;
    return 0;
}

/* An image's reference in full; NULL: the text is none. Free it. */
static char *full_ref(const char *text)
{
    struct ld_err ignored = LD_ERR_INIT;
    struct ld_reference ref;
    char full[LD_REFERENCE_TEXT];

    if (ld_reference_parse(text, &ref, &ignored) < 0 || ref.digest[0])
        return NULL;
    ld_reference_format(&ref, full);
    return ld_strdup(full);
}

static int find(struct ld_core *core, const char *text, struct ld_trash *ret, struct ld_err *err)
{
    autofree char *ref = full_ref(text);

    return ld_store_trash_find(core->store, text, ref, ret, err);
}

/* What a purge would delete. */
struct look {
    const bool *cancel;
    ld_sid *sid;
    size_t n, cap;
    struct ld_removed removed;
};

static void look_done(struct look *look)
{
    free(look->sid);
    ld_removed_done(&look->removed);
    *look = (struct look){.n = 0};
}

/* What the reaper takes meanwhile counts for nothing; an image has its layers counted later. */
static int look_at(struct ld_core *core, const struct ld_trash *t, struct look *look,
                   struct ld_err *err)
{
    struct ld_removed_object *object =
        ld_removed_add(&look->removed, t->kind, t->owner_id, t->owner_name);
    struct ld_usage usage = {.bytes = 0};

    if (t->place != LD_PLACE_NONE && ld_trash_usage(core, t, look->cancel, &usage, err) < 0)
        return -1;
    object->bytes = usage.bytes;
    ld_grow(&look->sid, &look->cap, look->n + 1, sizeof(*look->sid));
    look->sid[look->n++] = t->sid;
    return 0;
}

static int look_at_all(struct ld_core *core, struct look *look, struct ld_err *err)
{
    struct ld_trash_query query = {.after = 0};

    do {
        struct ld_trash_page page LD_AUTO(ld_trash_page_done) = {.n = 0};

        if (ld_store_trash_list(core->store, &query, &page, err) < 0)
            return -1;
        for (size_t i = 0; i < page.n; i++) {
            if (look_at(core, &page.item[i], look, err) < 0)
                return -1;
        }
        query.after = page.next;
    } while (query.after);
    return 0;
}

/* Layers that only these things need, each once. */
static int look_at_layers(struct ld_core *core, const struct ld_write *w, struct look *look,
                          struct ld_err *err)
{
    LD_AUTO(ld_removed_done) struct ld_removed gone = {.n = 0};

    if (ld_store_trash_forget(core->store, w, look->sid, look->n, &gone, err) < 0)
        return -1;
    for (size_t i = 0; i < gone.n_objects; i++) {
        const struct ld_removed_object *o = &gone.object[i];

        if (o->has_dir && o->dir.place == LD_PLACE_LAYERS)
            ld_removed_add(&look->removed, o->kind, o->id, o->name)->bytes = o->bytes;
    }
    return 0;
}

static int look(struct ld_core *core, const struct ld_write *w, const struct ld_trash *one,
                const bool *cancel, struct ld_removed *ret, struct ld_err *err)
{
    LD_AUTO(look_done) struct look look = {.cancel = cancel};

    if ((one ? look_at(core, one, &look, err) : look_at_all(core, &look, err)) < 0 ||
        look_at_layers(core, w, &look, err) < 0)
        return -1;
    *ret = ld_steal(&look.removed);
    return 0;
}

int ld_trash_purge(struct ld_core *core, const struct ld_write *w, const char *text,
                   const bool *cancel, struct ld_removed *ret, struct ld_err *err)
{
    LD_AUTO(ld_trash_done) struct ld_trash trash = {.sid = 0};

    if (text && find(core, text, &trash, err) < 0)
        return -1;
    if (w->dry_run)
        return look(core, w, text ? &trash : NULL, cancel, ret, err);
    if (ld_store_trash_purge(core->store, w, trash.sid, err) < 0 &&
        (!ld_core_make_room(core, err) || ld_store_trash_purge(core->store, w, trash.sid, err) < 0))
        return -1;
    ld_core_kick_reaper(core);
    return 0;
}

/* ---- restoring ---- */

static int check_name(const struct ld_trash *t, const char *name, struct ld_err *err)
{
    autofree char *ref = NULL;

    if (t->place != LD_PLACE_NONE) {
        if (ld_name_is_valid(name))
            return 0;
        (void)ld_err_set(err, LD_E_INVALID, "the name '%s' is not valid", name);
        return ld_err_hint(err,
                           "names are [a-z0-9][a-z0-9_.-]*, at most 128 bytes, not 64 hex digits");
    }
    ref = full_ref(name);
    return ref ? 0 : ld_err_set(err, LD_E_INVALID, "'%s' is no name that an image can have", name);
}

int ld_trash_admit(struct ld_core *core, const char *text, const char *name, struct ld_op *op,
                   struct ld_trash *ret, struct ld_err *err)
{
    static const char keys[] = {
        [LD_PLACE_W] = 'c', [LD_PLACE_VOLUMES] = 'v', [LD_PLACE_NONE] = 'i'};
    LD_AUTO(ld_trash_done) struct ld_trash t = {.sid = 0};

    if (find(core, text, &t, err) < 0)
        return -1;
    if (t.place == LD_PLACE_LAYERS)
        return ld_err_set(err, LD_E_CONFLICT, "layer %s can't be restored: it is being deleted",
                          t.owner_id);
    if (name && check_name(&t, name, err) < 0)
        return -1;
    if (!name)
        name = t.owner_name;
    ld_op_key(op, LD_EXCLUSIVE, "%c:%s", keys[t.place], t.owner_id);
    if (name && t.place != LD_PLACE_NONE)
        ld_op_key(op, LD_EXCLUSIVE, "n:%c:%s", keys[t.place], name);
    *ret = ld_steal(&t);
    return 0;
}

/* Being deleted, on its way into the trash, or lost. */
static int not_there(const struct ld_trash *t, struct ld_err *err)
{
    (void)ld_err_set(err, LD_E_CONFLICT, "%s '%s' can't be restored: it is being deleted", t->kind,
                     t->owner_name ? t->owner_name : t->owner_id);
    return ld_err_hint(err, "or on its way into the trash: look at what is in it");
}

static int record(struct ld_core *core, const struct ld_write *w, ld_sid sid, const char *name,
                  struct ld_restored *ret, struct ld_err *err)
{
    return ld_store_trash_restore(core->store, w, sid, name, ret, err) < 0 &&
                   (!ld_core_make_room(core, err) ||
                    ld_store_trash_restore(core->store, w, sid, name, ret, err) < 0)
               ? -1
               : 0;
}

/* The directory first, named in the transaction, so that it is on disk before the record says so.
 * Until then the start takes it to the trash again. Where it is not in the trash yet, who removed
 * it is about to move it there. */
static int bring_back(struct ld_core *core, const struct ld_write *w, const struct ld_trash *t,
                      const char *name, struct ld_restored *ret, struct ld_err *err)
{
    struct ld_sid_text dir = ld_sid_name(t->sid);
    struct ld_gone gone = {.sid = t->sid, .place = t->place};
    struct ld_write with = *w;
    int to = place_fd(core, t->place);

    if (renameat2(core->root.trash_fd, dir.text, to, dir.text, RENAME_NOREPLACE) < 0)
        return errno == ENOENT ? not_there(t, err)
                               : ld_err_sys(err, -errno, "take %s '%s' out of the trash", t->kind,
                                            t->owner_name ? t->owner_name : t->owner_id);
    with.dirs = &to;
    with.n_dirs = 1;
    if (record(core, &with, t->sid, name, ret, err) < 0) {
        ld_trash_take_one(core, &gone);
        return -1;
    }
    return 0;
}

/* The reaper looks for pins after the row says that it may delete: what is pinned and may still be
 * restored then is out of its reach. */
int ld_trash_restore(struct ld_core *core, const struct ld_write *w, const struct ld_trash *t,
                     const char *name, struct ld_restored *ret, struct ld_err *err)
{
    LD_AUTO(ld_trash_done) struct ld_trash now = {.sid = 0};
    autofree char *ref = name && t->place == LD_PLACE_NONE ? full_ref(name) : NULL;
    int rc;

    ld_pins_add(core->pins, &t->sid, 1);
    rc = ld_store_trash_find(core->store, t->owner_id, NULL, &now, err);
    if (rc == 0 && (now.sid != t->sid || !ld_trash_is_restorable(&now)))
        rc = not_there(t, err);
    else if (rc == 0)
        rc = t->place == LD_PLACE_NONE ? record(core, w, t->sid, ref, ret, err)
                                       : bring_back(core, w, t, name, ret, err);
    ld_pins_drop(core->pins, &t->sid, 1);
    return rc;
}

void ld_trash_discard(struct ld_core *core, int dir, const char *name)
{
    char to[18] = ".";

    ld_random_hex(to + 1, 8);
    if (renameat(dir, name, core->root.trash_fd, to) < 0 && errno != ENOENT)
        ld_warn("discard '%s': %s, ignoring", name, strerrordesc_np(errno));
}

/* ---- the reaper ---- */

struct ld_reaper {
    struct ld_core *core;
    struct ld_timer *timer;
    struct ld_job job;
    bool is_running, is_kicked; /* loop */
    bool is_stopped;            /* loop */
    bool cancel;                /* atomic: stop deleting soon */
    uint64_t retry_ms;
    uint64_t wait_ms; /* until a layer that is held is looked at again: grows */
    /* what the last run found */
    bool was_held;
};

/* Does anybody still hold the writable layer that is now at trash/SID? */
static bool is_held_elsewhere(struct ld_core *core, const char *name, ld_sid sid)
{
    autofree char *upper = ld_asprintf("%s/upper", name);
    struct ld_driver_env env = core->env;
    struct stat st;

    if (ld_backing_is_there(&core->root, sid))
        return true; /* it would have been dropped */
    if (fstatat(core->root.trash_fd, upper, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return false; /* a copy: its holders keep what they have open, like any deleted file */
    env.w_fd = core->root.trash_fd;
    return is_upper_held(&env, sid);
}

static int delete_one(struct ld_core *core, const struct ld_trash *t, const bool *cancel)
{
    size_t first = t->place == LD_PLACE_LAYERS ? 0 : LD_LAYER_NAMES - 1;
    struct ld_gone gone = {.sid = t->sid, .place = t->place};
    struct ld_sid_text name = ld_sid_name(t->sid);

    if (t->place == LD_PLACE_NONE)
        return 0; /* its layers leave with its row */
    if (ld_pins_wait(core->pins, t->sid) || !ld_mounts_let_go(core->mounts, t->sid))
        return -EBUSY;
    ld_trash_take_one(core, &gone); /* the removal itself may have failed to */
    if (t->place == LD_PLACE_W && is_held_elsewhere(core, name.text, t->sid))
        return -EBUSY;
    for (size_t i = first; i < LD_LAYER_NAMES; i++) {
        struct ld_layer_name part = ld_layer_name(t->sid, ld_layer_suffixes[i]);
        int r = ld_quota_remove_tree(&core->env.quota, core->root.trash_fd, part.text, cancel);

        if (r < 0)
            return r;
    }
    ld_limits_forget(core, t->sid);
    return 0;
}

/* Work directories and half-made things without a record, left by a crash. */
static int delete_unrecorded(void *arg, const char *name, unsigned char d_type)
{
    struct ld_reaper *r = arg;

    (void)d_type;
    if (name[0] != '.')
        return 0;
    return ld_quota_remove_tree(&r->core->env.quota, r->core->root.trash_fd, name, &r->cancel);
}

static void reap_page(struct ld_reaper *r, const struct ld_trash_page *page, ld_sid *gone,
                      size_t *ret_n)
{
    for (size_t i = 0; i < page->n && !ld_flag_is_set(&r->cancel); i++) {
        int rc = delete_one(r->core, &page->item[i], &r->cancel);

        if (rc == 0)
            gone[(*ret_n)++] = page->item[i].sid;
        else if (rc == -EBUSY)
            r->was_held = true;
        else if (rc != -ECANCELED)
            ld_warn("delete trash/%" LD_PRI_SID ": %s", page->item[i].sid, strerrordesc_np(-rc));
    }
}

/* What is on its way into the trash is counted when it is there: who moves it wakes the reaper.
 * What can't be counted counts for nothing, and is in nobody's way. */
static int count_one(struct ld_reaper *r, const struct ld_trash *t, struct ld_err *err)
{
    struct ld_core *core = r->core;
    struct ld_usage usage = {.bytes = 0};
    struct ld_err why = LD_ERR_INIT;
    struct stat st;

    if (fstatat(core->root.trash_fd, ld_sid_name(t->sid).text, &st, AT_SYMLINK_NOFOLLOW) < 0 &&
        errno == ENOENT)
        return 0;
    if (ld_trash_usage(core, t, &r->cancel, &usage, &why) < 0) {
        if (why.code == LD_E_CANCELED) {
            *err = why;
            return -1;
        }
        ld_warn("%s; the bound of the trash is kept without it", why.message);
    }
    return ld_store_trash_set_bytes(core->store, t->sid, usage.bytes, err);
}

/* What has come since is measured first, while it lies there unchanged. */
static int keep_bound(struct ld_reaper *r, struct ld_err *err)
{
    struct ld_trash_query query = {.only_uncounted = true};

    if (!r->core->config->trash_max_bytes)
        return 0;
    do {
        struct ld_trash_page page LD_AUTO(ld_trash_page_done) = {.n = 0};

        if (ld_store_trash_list(r->core->store, &query, &page, err) < 0)
            return -1;
        for (size_t i = 0; i < page.n && !ld_flag_is_set(&r->cancel); i++) {
            if (count_one(r, &page.item[i], err) < 0)
                return -1;
        }
        query.after = page.next;
    } while (query.after && !ld_flag_is_set(&r->cancel));
    return ld_store_trash_bound(r->core->store, r->core->config->trash_max_bytes, err);
}

static void run(struct ld_job *job)
{
    struct ld_reaper *r = (struct ld_reaper *)((char *)job - offsetof(struct ld_reaper, job));
    struct ld_trash_query query = {.only_due = true, .limit = 100};
    struct ld_err err = LD_ERR_INIT;

    r->was_held = false;
    (void)!ld_each_name(r->core->root.trash_fd, delete_unrecorded, r); /* the next round goes on */
    if (ld_store_trash_expire(r->core->store, ld_now_ns(), &err) == 0)
        (void)keep_bound(r, &err); /* a failure ends the loop */
    while (!err.code && !ld_flag_is_set(&r->cancel)) {
        struct ld_trash_page page LD_AUTO(ld_trash_page_done) = {.n = 0};
        struct ld_removed removed LD_AUTO(ld_removed_done) = {.n = 0};
        ld_sid gone[100];
        size_t n = 0;

        if (ld_store_trash_list(r->core->store, &query, &page, &err) < 0)
            break;
        reap_page(r, &page, gone, &n);
        if (n && ld_store_trash_forget(r->core->store, &LD_WRITE_SELF, gone, n, &removed, &err) < 0)
            break;
        ld_trash_take(r->core, &removed);
        if (n)
            ld_folder_look_again(r->core);
        query.after = page.next;
        if (!query.after)
            break;
    }
    if (!err.code)
        (void)ld_freeze_count(r->core, &r->cancel, &err);
    if (err.code && err.code != LD_E_CANCELED)
        ld_warn("the reaper: %s", err.message);
    ld_quota_sweep(&r->core->env.quota, r->core->root.trash_fd);
    ld_reserve_keep(&r->core->root);
}

static void arm(struct ld_reaper *r);

static void done(struct ld_job *job)
{
    struct ld_reaper *r = (struct ld_reaper *)((char *)job - offsetof(struct ld_reaper, job));

    r->is_running = false;
    if (r->is_stopped)
        return;
    if (r->is_kicked) {
        r->is_kicked = false;
        r->retry_ms = FIRST_RETRY_MS;
        r->wait_ms = FIRST_RETRY_MS;
    } else if (r->was_held) {
        r->retry_ms = r->wait_ms;
        r->wait_ms = r->wait_ms * 2 < LAST_RETRY_MS ? r->wait_ms * 2 : LAST_RETRY_MS;
    } else {
        r->retry_ms = IDLE_MS; /* something may have become due */
    }
    arm(r);
}

static void start(void *arg)
{
    struct ld_reaper *r = arg;
    struct ld_err err = LD_ERR_INIT;

    if (r->is_running || r->is_stopped)
        return;
    r->is_running = ld_lanes_submit(r->core->lanes, LD_LANE_REAP, &r->job, &err) == 0;
    if (!r->is_running)
        ld_timer_start(r->timer, LAST_RETRY_MS, 0);
}

static void arm(struct ld_reaper *r)
{
    ld_timer_start(r->timer, r->retry_ms, 0);
}

static void kick_on_loop(void *arg)
{
    struct ld_reaper *r = arg;

    r->wait_ms = FIRST_RETRY_MS; /* what has just come may be held for a moment only */
    if (r->is_running)
        r->is_kicked = true;
    else
        start(r); /* nothing once it is stopped */
}

struct ld_reaper *ld_reaper_new(struct ld_core *core)
{
    struct ld_reaper *r = ld_new(struct ld_reaper);

    r->core = core;
    r->timer = ld_timer_new(core->loop, start, r);
    r->job.run = run;
    r->job.done = done;
    r->retry_ms = r->wait_ms = FIRST_RETRY_MS;
    return r;
}

void ld_reaper_kick(struct ld_reaper *reaper)
{
    ld_loop_post(reaper->core->loop, kick_on_loop, reaper);
}

void ld_reaper_stop(struct ld_reaper *reaper)
{
    reaper->is_stopped = true;
    ld_flag_set(&reaper->cancel);
    ld_timer_stop(reaper->timer);
}

void ld_reaper_free(struct ld_reaper *reaper)
{
    if (!reaper)
        return;
    reaper->is_stopped = true;
    ld_timer_free(reaper->timer);
    ld_loop_post(reaper->core->loop, free, reaper); /* after the kicks posted before */
}
