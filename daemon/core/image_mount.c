/* Images mounted without a container: see image_mount.h.
 *
 * The mount point's folder mnt/ is ours alone, so whatever is mounted at mnt/image-HEX is that
 * image's. Built at the stage, shown by clones; no superblock of it has an upper, so nothing is
 * synced and any number of them does no harm.
 */
#include "daemon/core/image_mount.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/base/buf.h"
#include "daemon/base/fdio.h"
#include "daemon/base/log.h"
#include "daemon/base/mem.h"
#include "daemon/base/mountapi.h"
#include "daemon/base/parse.h"
#include "daemon/core/holders.h"
#include "daemon/core/state.h"
#include "daemon/core/target.h"

static const char prefix[] = "image-";

/* "sha256:HEX" -> "image-HEX": the name in mnt/, at the stage and in targets/. */
static char *name_of(const char *image_id)
{
    return ld_asprintf("%s%s", prefix, image_id + strlen("sha256:"));
}

static bool is_mounted(const struct ld_core *core, const char *name)
{
    bool is_root = false;
    uint64_t id;

    return ld_mount_id(core->root.mnt_fd, name, &id, &is_root) == 0 && is_root;
}

char *ld_image_mountpoint(const struct ld_core *core, const char *image_id)
{
    autofree char *name = name_of(image_id);

    return is_mounted(core, name) ? ld_asprintf("%s/mnt/%s", core->root.run_path, name) : NULL;
}

char *ld_image_target(const struct ld_core *core, const char *image_id)
{
    autofree char *name = name_of(image_id);
    struct ld_mount_target target = {.path = NULL};

    if (!is_mounted(core, name) || !ld_mount_target_recorded(&core->root, name, &target))
        return NULL;
    return (char *)target.path;
}

/* ---- the target ---- */

enum place { NOT_THERE, THERE, COVERED };

struct look {
    const char *path, *source;
    enum place place;
};

static int look_at(void *arg, const struct ld_mountinfo *line)
{
    struct look *l = arg;

    if (strcmp(line->mountpoint, l->path) != 0)
        return 0;
    if (strcmp(line->source, l->source) == 0)
        l->place = THERE;
    else if (l->place == THERE)
        l->place = COVERED;
    return 0;
}

static int find_at(const struct ld_core *core, const char *name, const char *path, enum place *ret)
{
    autofree char *source = ld_asprintf("layerd:%s:%s", core->env.instance, name);
    struct look look = {.path = path, .source = source};
    int r = ld_mountinfo_each(look_at, &look);

    *ret = look.place;
    return r;
}

/* A clone of dir/name at the target, which is written down first. */
static int show_target(struct ld_core *core, int dir, const char *name,
                       const struct ld_mount_target *target, struct ld_err *err)
{
    unsigned flags = LD_CLONE_RDONLY | (target->is_trusted ? 0 : LD_CLONE_NODEV_NOSUID);
    autoclose int place = -EBADF;
    autoclose int tree = -EBADF;
    int r;

    if (ld_mount_target_open(&core->root, core->env.instance, target->path, &place, err) < 0 ||
        ld_mount_target_record(&core->root, name, target, err) < 0)
        return -1;
    tree = ld_mount_clone(dir, name, flags);
    r = tree < 0 ? tree : ld_mount_put(tree, place);
    if (r == 0)
        return 0;
    ld_mount_target_forget(&core->root, name);
    return ld_err_sys(err, r, "show the image at '%s'", target->path);
}

static int busy(int dir, const char *name, struct ld_err *err)
{
    autoclose int place = openat(dir, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    struct ld_holder holder[LD_MAX_HOLDERS];
    size_t n = place < 0 ? 0 : ld_holders_find(place, false, holder);

    return ld_holders_busy(holder, n, err);
}

/* Takes it away there; *ret is what was written down, its path the caller's (NULL: there is none).
 */
static int drop_target(struct ld_core *core, const char *name, bool force,
                       struct ld_mount_target *ret, struct ld_err *err)
{
    const char *last = NULL;
    autoclose int parent = -EBADF;
    enum place place = NOT_THERE;
    int r;

    if (!ld_mount_target_recorded(&core->root, name, ret))
        return 0;
    r = find_at(core, name, ret->path, &place);
    if (r == 0 && place == COVERED) {
        (void)ld_err_set(err, LD_E_BUSY,
                         "something that is not of layerd is mounted over its target '%s'",
                         ret->path);
        return ld_err_hint(err, "unmount that first");
    }
    if (r == 0 && place == THERE) {
        parent = ld_mount_target_open_parent(ret->path, &last);
        r = parent < 0 ? parent : ld_umount_at(parent, last, force);
        if (r == -EBUSY)
            return busy(parent, last, err);
    }
    if (r < 0)
        return ld_err_sys(err, r, "unmount the image at '%s'", ret->path);
    ld_mount_target_forget(&core->root, name);
    return 0;
}

/* ---- mounting ---- */

static void post_event(struct ld_core *core, const struct ld_write *w, const char *type,
                       const char *id)
{
    struct ld_note note = {.type = type, .kind = "image", .id = id};

    ld_store_event_post(core->store, w, &note);
}

static int find_driver(const struct ld_core *core, const struct ld_driver **ret, struct ld_err *err)
{
    for (size_t i = 0; i < core->n_drivers; i++) {
        const struct ld_driver_status *s = &core->driver[i];

        if (s->is_usable && s->driver->mount_chain) {
            *ret = s->driver;
            return 0;
        }
    }
    (void)ld_err_set(err, LD_E_UNSUPPORTED, "no usable storage driver can mount an image");
    return ld_err_hint(err, "create a read-only container of it");
}

static int mount_at_stage(struct ld_core *core, const struct ld_image *image, const char *name,
                          struct ld_err *err)
{
    autofree struct ld_chain_sids *sids = ld_new(struct ld_chain_sids);
    const struct ld_driver *driver = NULL;
    struct ld_chain chain;
    int dir;

    if (find_driver(core, &driver, err) < 0 ||
        ld_store_chain(core->store, image->tip_sid, sids, err) < 0)
        return -1;
    if (sids->damaged)
        return ld_err_set(err, LD_E_CORRUPT, "a layer of the image is damaged");
    if (sids->n == 0)
        return ld_err_set(err, LD_E_CONFLICT, "the image has no layers to mount");
    dir = ld_ensure_dir(core->root.stage_fd, name, 0700);
    if (dir < 0)
        return ld_err_sys(err, dir, "make the stage of the image");
    ld_close(dir);
    chain = (struct ld_chain){.sid = sids->sid, .n = sids->n};
    return driver->mount_chain(&core->env, &chain, name, err);
}

static void drop_stage(struct ld_core *core, const char *name)
{
    (void)!ld_umount_at(core->root.stage_fd, name, true);    /* not mounted: nothing to do */
    (void)unlinkat(core->root.stage_fd, name, AT_REMOVEDIR); /* the next start does it, too */
}

static int show(struct ld_core *core, const char *name, struct ld_err *err)
{
    int dir = ld_ensure_dir(core->root.mnt_fd, name, 0700);
    autoclose int tree = -EBADF;
    int r = dir < 0 ? dir : 0;

    ld_close(dir);
    tree = r < 0 ? r : ld_mount_clone(core->root.stage_fd, name, LD_CLONE_RDONLY);
    r = tree < 0 ? tree : ld_mount_put_at(tree, core->root.mnt_fd, name);
    return r < 0 ? ld_err_sys(err, r, "show the image at its mount point") : 0;
}

static int mount_new(struct ld_core *core, const struct ld_image *image, const char *name,
                     const struct ld_mount_target *target, struct ld_err *err)
{
    struct ld_mount_target dropped = {.path = NULL};
    struct ld_err ignored = LD_ERR_INIT;
    int rc = mount_at_stage(core, image, name, err);

    if (rc == 0 && target)
        rc = show_target(core, core->root.stage_fd, name, target, err);
    if (rc == 0 && show(core, name, err) < 0) {
        (void)drop_target(core, name, true, &dropped, &ignored);
        free((char *)dropped.path);
        rc = -1;
    }
    drop_stage(core, name);
    return rc;
}

static int check_target(struct ld_core *core, const char *name,
                        const struct ld_mount_target *target, struct ld_err *err)
{
    struct ld_mount_target is = {.path = NULL};
    bool has_one = ld_mount_target_recorded(&core->root, name, &is);
    bool is_same = !target || (has_one && strcmp(is.path, target->path) == 0 &&
                               is.is_trusted == target->is_trusted);

    if (!is_same)
        (void)ld_err_set(err, LD_E_CONFLICT, "it is mounted, but at %s%s%s",
                         has_one ? "the target '" : "no target", has_one ? is.path : "",
                         has_one ? "'" : "");
    free((char *)is.path);
    return is_same ? 0 : ld_err_hint(err, "unmount it first");
}

int ld_image_mount(struct ld_core *core, const struct ld_write *w, const char *image_id,
                   const struct ld_mount_target *target, struct ld_err *err)
{
    struct ld_image image LD_AUTO(ld_image_done) = {.id = NULL};
    autofree char *name = name_of(image_id);
    bool was = is_mounted(core, name);

    if (ld_store_image_get(core->store, image_id, &image, err) < 0)
        return -1;
    if ((was ? check_target(core, name, target, err) : mount_new(core, &image, name, target, err)) <
        0)
        return ld_err_prefix(err, "image '%.19s'", image_id);
    if (!was)
        post_event(core, w, "image.mount", image_id);
    return 0;
}

/* ---- unmounting ---- */

static int unmount(struct ld_core *core, const char *name, bool force, struct ld_err *err)
{
    struct ld_mount_target target = {.path = NULL};
    struct ld_err ignored = LD_ERR_INIT;
    int rc = drop_target(core, name, force, &target, err);
    int r = rc < 0 ? 0 : ld_umount_at(core->root.mnt_fd, name, force);

    if (r == -EBUSY)
        rc = busy(core->root.mnt_fd, name, err);
    else if (r < 0)
        rc = ld_err_sys(err, r, "unmount it");
    if (r < 0 && target.path && show_target(core, core->root.mnt_fd, name, &target, &ignored) < 0)
        ld_error("image '%s' can't be put back at '%s': %s", name, target.path, ignored.message);
    free((char *)target.path);
    if (rc == 0)
        (void)unlinkat(core->root.mnt_fd, name, AT_REMOVEDIR); /* made again when needed */
    return rc;
}

int ld_image_unmount(struct ld_core *core, const struct ld_write *w, const char *image_id,
                     bool force, struct ld_err *err)
{
    autofree char *name = name_of(image_id);

    if (!is_mounted(core, name))
        return 0;
    if (unmount(core, name, force, err) < 0)
        return ld_err_prefix(err, "image '%.19s'", image_id);
    post_event(core, w, "image.unmount", image_id);
    return 0;
}

/* ---- the start ---- */

static void recover(struct ld_core *core, const char *name, const struct ld_mount_target *target,
                    struct ld_err *err)
{
    struct ld_mount_target dropped = {.path = NULL};
    enum place place = NOT_THERE;
    int r = find_at(core, name, target->path, &place);

    if (r < 0) {
        (void)ld_err_sys(err, r, "read /proc/self/mountinfo");
    } else if (!is_mounted(core, name)) {
        (void)drop_target(core, name, false, &dropped, err);
        free((char *)dropped.path);
    } else if (place == NOT_THERE) {
        (void)show_target(core, core->root.mnt_fd, name, target, err);
    }
}

static int recover_one(void *arg, const char *name, unsigned char d_type)
{
    struct ld_core *core = arg;
    struct ld_mount_target target = {.path = NULL};
    struct ld_err err = LD_ERR_INIT;

    (void)d_type;
    if (strncmp(name, prefix, strlen(prefix)) != 0 || !ld_is_hex(name + strlen(prefix), 64) ||
        !ld_mount_target_recorded(&core->root, name, &target))
        return 0;
    recover(core, name, &target, &err);
    if (err.code)
        ld_error("%s at its target '%s': %s", name, target.path, err.message);
    free((char *)target.path);
    return 0;
}

void ld_image_mounts_recover(struct ld_core *core)
{
    (void)!ld_each_name(core->root.targets_fd, recover_one, core); /* never fails the start */
}
