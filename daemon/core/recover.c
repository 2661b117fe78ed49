/* Recovery at start: see recover.h. Needs no walk of layer contents: one look at each folder of the
 * data root and one at each record. */
#include "daemon/core/recover.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/base/clock.h"
#include "daemon/base/fdio.h"
#include "daemon/base/log.h"
#include "daemon/base/mem.h"
#include "daemon/core/backing.h"
#include "daemon/core/bundle.h"
#include "daemon/core/damage.h"
#include "daemon/core/freeze.h"
#include "daemon/core/image_mount.h"
#include "daemon/core/layer_blob.h"
#include "daemon/core/layer_names.h"
#include "daemon/core/limits.h"
#include "daemon/core/making.h"
#include "daemon/core/rootfs.h"
#include "daemon/core/state.h"
#include "daemon/core/target.h"
#include "daemon/core/trash.h"

static const int64_t quarantine_ns = INT64_C(7) * 24 * 3600 * 1000000000;

static int discard_staged(void *arg, const char *name, unsigned char d_type)
{
    struct ld_core *core = arg;

    (void)d_type;
    ld_trash_discard(core, core->root.staging_fd, name);
    return 0;
}

static int discard_old(void *arg, const char *name, unsigned char d_type)
{
    struct ld_core *core = arg;
    struct stat st;

    (void)d_type;
    if (fstatat(core->root.quarantine_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
        ld_now_ns() - ((int64_t)st.st_ctim.tv_sec * 1000000000 + st.st_ctim.tv_nsec) >
            quarantine_ns)
        ld_trash_discard(core, core->root.quarantine_fd, name);
    return 0;
}

struct folder {
    struct ld_core *core;
    int fd;
    enum ld_place place;
    ld_sid above; /* the largest sid found at or above the ceiling */
};

static int look_above(void *arg, const char *name, unsigned char d_type)
{
    struct folder *f = arg;
    ld_sid sid = ld_sid_of_name(name);

    (void)d_type;
    if (sid >= ld_store_sid_ceiling(f->core->store) && sid > f->above)
        f->above = sid;
    return 0;
}

static int is_older_than_tree(struct ld_core *core, bool *ret, struct ld_err *err)
{
    const int fds[] = {core->root.layers_fd, core->root.w_fd, core->root.volumes_fd,
                       core->root.trash_fd};
    struct folder f = {.core = core};

    for (size_t i = 0; i < LD_ARRAY_LEN(fds); i++) {
        int r = ld_each_name(fds[i], look_above, &f);

        if (r < 0)
            return ld_err_sys(err, r, "read the data root");
    }
    *ret = f.above != 0;
    if (*ret)
        core->refusal = ld_asprintf(
            "the database is older than the data root (it knows nothing of %" LD_PRI_SID
            " and above): it was restored from a backup, so nothing is changed or created",
            f.above);
    return 0;
}

static void quarantine(struct folder *f, const char *name)
{
    autofree char *to = ld_asprintf("%s-%s", ld_place_dir(f->place), name);

    if (renameat2(f->fd, name, f->core->root.quarantine_fd, to, RENAME_NOREPLACE) < 0) {
        ld_warn("quarantine '%s/%s': %s, ignoring", ld_place_dir(f->place), name,
                strerrordesc_np(errno));
        return;
    }
    ld_warn("'%s/%s' is in no record: moved to quarantine/%s for 7 days", ld_place_dir(f->place),
            name, to);
}

/* A kill between the file and its record, whichever goes first, leaves a file that counts for
 * nothing. */
static bool is_blob_without_record(const struct folder *f, const char *name, ld_sid sid)
{
    LD_AUTO(ld_kept_blob_done) struct ld_kept_blob blob = {.digest = NULL};
    struct ld_err err = LD_ERR_INIT;

    return f->place == LD_PLACE_LAYERS && strcmp(name, ld_layer_name(sid, ".blob").text) == 0 &&
           ld_store_blob_get(f->core->store, sid, &blob, &err) < 0 && err.code == LD_E_NOT_FOUND;
}

static int check_name(void *arg, const char *name, unsigned char d_type)
{
    struct folder *f = arg;
    ld_sid sid = ld_sid_of_name(name);
    enum ld_sid_owner owner = LD_SID_UNKNOWN;
    struct ld_err err = LD_ERR_INIT;
    struct ld_gone gone = {.sid = sid, .place = f->place};

    (void)d_type;
    if (strcmp(name, "0") == 0 && f->place == LD_PLACE_LAYERS)
        return 0;
    if (sid && ld_store_sid_owner(f->core->store, sid, &owner, &err) < 0) {
        ld_warn("look up '%s/%s': %s, ignoring", ld_place_dir(f->place), name, err.message);
        return 0;
    }
    switch (owner) {
    case LD_SID_TRASH:
        ld_trash_take_one(f->core, &gone);
        break;
    case LD_SID_UNKNOWN:
        if (sid && ld_making_is_marked(f->core, sid)) {
            ld_trash_discard(f->core, f->fd, name); /* we were killed while we made it */
            ld_limits_forget(f->core, sid);
        } else {
            quarantine(f, name);
        }
        break;
    case LD_SID_LAYER:
        /* A freeze was recorded, and its move cut off. */
        if (f->place == LD_PLACE_W && ld_freeze_finish(f->core, sid, &err) < 0)
            ld_error("complete the freeze of layer %" LD_PRI_SID ": %s", sid, err.message);
        if (is_blob_without_record(f, name, sid))
            ld_trash_discard(f->core, f->fd, name);
        break;
    case LD_SID_CONTAINER:
    case LD_SID_VOLUME:
        break;
    }
    return 0;
}

static bool is_there(int dir, const char *name)
{
    struct stat st;

    return fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0;
}

/* The layer is whole without it. */
static void check_blob(struct ld_core *core, ld_sid sid)
{
    LD_AUTO(ld_kept_blob_done) struct ld_kept_blob blob = {.digest = NULL};
    struct ld_layer_name name = ld_layer_name(sid, ".blob");
    struct ld_err ignored = LD_ERR_INIT;

    if (ld_store_blob_get(core->store, sid, &blob, &ignored) < 0 ||
        is_there(core->root.layers_fd, name.text))
        return;
    ld_warn("the kept blob 'layers/%s' is missing: it is forgotten", name.text);
    ld_layer_drop_blob(core, sid);
}

static int check_layers(struct ld_core *core, struct ld_err *err)
{
    uint64_t after = 0;

    do {
        struct ld_layer_page page LD_AUTO(ld_layer_page_done) = {.n = 0};

        if (ld_store_layer_list(core->store, after, 0, &page, err) < 0)
            return -1;
        for (size_t i = 0; i < page.n; i++) {
            const struct ld_layer *layer = &page.item[i];
            const char *damage = ld_layer_missing(core, layer);

            check_blob(core, layer->sid);
            if (!damage || layer->damage)
                continue;
            ld_error("layer %s (%" LD_PRI_SID "): %s", layer->chain_id ? layer->chain_id : "",
                     layer->sid, damage);
            if (ld_store_layer_set_damage(core->store, &LD_WRITE_SELF, layer->sid, damage, err) < 0)
                return -1;
        }
        after = page.next;
    } while (after);
    return 0;
}

/* What fails here is the container's own: it is mounted as it is. */
static void complete_mount(struct ld_core *core, const struct ld_container *c)
{
    struct ld_loaded_rootfs rootfs;
    struct ld_err err = LD_ERR_INIT;

    if (c->n_mounts == 0 || ld_mounts_state(core->mounts, c->id, c->upper_sid) != LD_MOUNTED)
        return;
    if (ld_rootfs_load(core, c, false, &rootfs, &err) == 0) {
        (void)ld_mounts_complete(core->mounts, &rootfs.fs, &err);
        ld_rootfs_done(&rootfs);
    }
    if (err.code)
        ld_error("container '%s' lacks mounts: %s", c->name ? c->name : c->id, err.message);
}

/* Likewise. */
static void complete_target(struct ld_core *core, const struct ld_container *c)
{
    struct ld_mount_target target;
    struct ld_loaded_rootfs rootfs;
    struct ld_err err = LD_ERR_INIT;

    if (!ld_mount_target_recorded(&core->root, c->id, &target))
        return;
    if (ld_rootfs_load(core, c, false, &rootfs, &err) == 0) {
        rootfs.fs.target = &target;
        (void)ld_mounts_complete_target(core->mounts, &rootfs.fs, &err);
        ld_rootfs_done(&rootfs);
    }
    if (err.code)
        ld_error("container '%s' at its target '%s': %s", c->name ? c->name : c->id, target.path,
                 err.message);
    free((char *)target.path);
}

static int check_containers(struct ld_core *core, struct ld_err *err)
{
    struct ld_container_query query = {.after = 0};

    do {
        struct ld_container_page page LD_AUTO(ld_container_page_done) = {.n = 0};

        if (ld_store_container_list(core->store, &query, &page, err) < 0)
            return -1;
        for (size_t i = 0; i < page.n; i++) {
            const struct ld_container *c = &page.item[i];
            const char *damage;

            if (c->damage)
                continue;
            damage = ld_container_missing(core, c);
            if (!damage) {
                ld_limits_recover_container(core, c);
                complete_mount(core, c);
                complete_target(core, c);
                continue;
            }
            ld_error("container '%s': %s", c->name ? c->name : c->id, damage);
            if (ld_store_container_set_damage(core->store, &LD_WRITE_SELF, c->id, damage, err) < 0)
                return -1;
        }
        query.after = page.next;
    } while (query.after);
    return 0;
}

static int check_volumes(struct ld_core *core, struct ld_err *err)
{
    struct ld_volume_query query = {.after = 0};

    do {
        struct ld_volume_page page LD_AUTO(ld_volume_page_done) = {.n = 0};

        if (ld_store_volume_list(core->store, &query, &page, err) < 0)
            return -1;
        for (size_t i = 0; i < page.n; i++) {
            const struct ld_volume *v = &page.item[i];
            const char *damage = ld_volume_missing(core, v);

            if (!v->damage && !damage)
                ld_limits_recover_volume(core, v);
            if (v->damage || !damage)
                continue;
            ld_error("volume '%s': %s", v->name ? v->name : v->id, damage);
            if (ld_store_volume_set_damage(core->store, &LD_WRITE_SELF, v->id, damage, err) < 0)
                return -1;
        }
        query.after = page.next;
    } while (query.after);
    return 0;
}

static int expire(struct ld_core *core, struct ld_err *err)
{
    bool more = false;

    do {
        struct ld_removed removed LD_AUTO(ld_removed_done) = {.n = 0};

        if (ld_store_expire(core->store, &removed, &more, err) < 0)
            return -1;
        for (size_t i = 0; i < removed.n; i++)
            ld_trash_take_one(core, &removed.item[i]);
    } while (more);
    return 0;
}

int ld_recover(struct ld_core *core, struct ld_err *err)
{
    struct folder folders[] = {
        {.core = core, .fd = core->root.layers_fd, .place = LD_PLACE_LAYERS},
        {.core = core, .fd = core->root.w_fd, .place = LD_PLACE_W},
        {.core = core, .fd = core->root.volumes_fd, .place = LD_PLACE_VOLUMES},
    };
    bool is_older = false;

    if (is_older_than_tree(core, &is_older, err) < 0)
        return -1;
    if (is_older) {
        ld_error("%s", core->refusal);
        return 0;
    }
    (void)!ld_each_name(core->root.quarantine_fd, discard_old, core); /* never fails the start */
    if (ld_store_jobs_interrupt(core->store, err) < 0 || expire(core, err) < 0 ||
        ld_store_folds_recover(core->store, err) < 0)
        return -1;
    for (size_t i = 0; i < LD_ARRAY_LEN(folders); i++) {
        int r = ld_each_name(folders[i].fd, check_name, &folders[i]);

        if (r < 0)
            return ld_err_sys(err, r, "read the folder '%s'", ld_place_dir(folders[i].place));
    }
    ld_backings_recover(core);
    ld_bundles_recover(core);
    ld_image_mounts_recover(core);
    /* After the folders: it has the marks of what was being made. */
    (void)!ld_each_name(core->root.staging_fd, discard_staged, core); /* never fails the start */
    return check_layers(core, err) < 0 || check_containers(core, err) < 0 ||
                   check_volumes(core, err) < 0
               ? -1
               : 0;
}
