/* A container's second place, of a caller's choice: see mounts.h, mounts_priv.h and target.h.
 *
 * It shows a clone of the whole tree: another mount of the same superblock. It comes before mnt/ID
 * and goes before it, so that what is mounted there is at its target, too; a start repairs what a
 * kill left in between.
 */
#include "daemon/core/mounts_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/base/log.h"
#include "daemon/base/mem.h"
#include "daemon/base/mountapi.h"
#include "daemon/core/target.h"

static void set_target(struct ld_mounts *m, struct ld_mount_entry *e, const char *path, uint64_t id)
{
    char *copy = path ? ld_strdup(path) : NULL;

    pthread_mutex_lock(&m->lock);
    free(e->target);
    e->target = copy;
    e->target_mount = id;
    pthread_mutex_unlock(&m->lock);
}

/* What is mounted at a path: -ENOENT when nothing is. */
static int mount_at(const char *path, uint64_t *ret)
{
    const char *name = NULL;
    autoclose int parent = ld_mount_target_open_parent(path, &name);
    bool is_root = false;
    int r = parent < 0 ? parent : ld_mount_id(parent, name, ret, &is_root);

    return r == 0 && !is_root ? -ENOENT : r;
}

struct look {
    const char *path, *instance;
    ld_sid sid;
    bool is_there, is_top; /* a mount of it at the path; and nothing over that */
};

static int look_at(void *arg, const struct ld_mountinfo *line)
{
    struct look *l = arg;

    if (strcmp(line->mountpoint, l->path) != 0)
        return 0;
    l->is_top = ld_mounts_sid_of(l->instance, line) == l->sid;
    l->is_there |= l->is_top;
    return 0;
}

/* What mountinfo says of a path; *ret_id: 0 when something else is mounted over ours. */
static int find_at(struct ld_mounts *m, const struct ld_mount_entry *e, const char *path,
                   uint64_t *ret_id)
{
    struct look look = {.path = path, .instance = m->env->instance, .sid = e->sid};
    int r = ld_mountinfo_each(look_at, &look);

    if (r == 0 && !look.is_there)
        r = -ENOENT;
    *ret_id = 0;
    return r == 0 && look.is_top ? mount_at(path, ret_id) : r;
}

bool ld_entry_is_at_target(struct ld_mounts *m, struct ld_mount_entry *e)
{
    uint64_t id = 0;

    if (!e->target)
        return false;
    if (mount_at(e->target, &id) == 0 && id == e->target_mount)
        return true;
    if (find_at(m, e, e->target, &id) != -ENOENT) {
        pthread_mutex_lock(&m->lock);
        e->target_mount = id;
        pthread_mutex_unlock(&m->lock);
        return true;
    }
    ld_info("what was shown at '%s' is not there any more", e->target);
    ld_mount_target_forget(m->root, e->id);
    ld_part_ids_done(&e->target_parts);
    set_target(m, e, NULL, 0);
    return false;
}

/* Nothing of others is ever unmounted. */
static int check_top(const struct ld_mount_entry *e, struct ld_err *err)
{
    if (e->target_mount)
        return 0;
    (void)ld_err_set(err, LD_E_BUSY,
                     "something that is not of layerd is mounted over its target '%s'", e->target);
    return ld_err_hint(err, "unmount that first");
}

char *ld_mounts_target(struct ld_mounts *m, ld_sid sid)
{
    struct ld_mount_entry *e;
    char *path = NULL;
    uint64_t want = 0, is;

    pthread_mutex_lock(&m->lock);
    HASH_FIND(hh, m->entries, &sid, sizeof(sid), e);
    if (e && e->target) {
        path = ld_strdup(e->target);
        want = e->target_mount;
    }
    pthread_mutex_unlock(&m->lock);
    if (path && (mount_at(path, &is) < 0 || is != want))
        ld_free_p(&path);
    return path;
}

/* ---- shown ---- */

/* The ids of what is mounted in it, which mountinfo alone could not tell from others' later. */
static void remember_parts(struct ld_mounts *m, struct ld_mount_entry *e,
                           const struct ld_rootfs *spec, int parent, const char *name)
{
    struct ld_spot spot = {
        .dir = parent, .name = name, .path = e->target, .known = &e->target_parts};
    LD_AUTO(ld_mount_tree_done) struct ld_mount_tree tree;

    ld_mount_tree_init(&tree, m, e, spec, &spot);
    if (spec->n_parts == 0 || ld_mount_tree_list(&tree) < 0)
        return; /* then they are known by what they show */
    for (size_t i = 0; i < tree.n; i++) {
        struct ld_part_ids *ids = &e->target_parts;

        ld_grow(&ids->id, &ids->cap, ids->n + 1, sizeof(*ids->id));
        ids->id[ids->n++] = tree.item[i].mount_id;
    }
}

static int put(struct ld_mounts *m, struct ld_mount_entry *e, const struct ld_rootfs *spec,
               int place, int dir, const char *name, struct ld_err *err)
{
    const struct ld_mount_target *target = spec->target;
    unsigned flags = LD_CLONE_RECURSIVE | (target->is_trusted ? 0 : LD_CLONE_NODEV_NOSUID);
    autoclose int tree = ld_mount_clone(dir, name, flags);
    const char *last = NULL;
    autoclose int parent = ld_mount_target_open_parent(target->path, &last);
    uint64_t id = 0;
    int r = tree < 0 ? tree : parent < 0 ? parent : ld_mount_put(tree, place);

    if (r < 0)
        return ld_err_sys(err, r, "show the container at '%s'", target->path);
    ld_close_p(&tree); /* an fd left open on an attached mount is EBUSY for ever */
    r = ld_mount_id(parent, last, &id, NULL);
    if (r < 0)
        return ld_err_sys(err, r, "look at the mount at '%s'", target->path);
    set_target(m, e, target->path, id);
    remember_parts(m, e, spec, parent, last);
    return 0;
}

int ld_entry_show_target(struct ld_mounts *m, struct ld_mount_entry *e,
                         const struct ld_rootfs *spec, int dir, const char *name,
                         struct ld_err *err)
{
    autoclose int place = -EBADF;

    if (ld_mount_target_open(m->root, m->env->instance, spec->target->path, &place, err) < 0 ||
        ld_mount_target_record(m->root, spec->id, spec->target, err) < 0)
        return -1;
    memcpy(e->id, spec->id, strlen(spec->id) + 1); /* 64 hex digits: checked by the caller */
    if (put(m, e, spec, place, dir, name, err) == 0)
        return 0;
    ld_mount_target_forget(m->root, spec->id);
    return -1;
}

/* ---- taken away ---- */

void ld_entry_forget_target(struct ld_mounts *m, struct ld_mount_entry *e,
                            const struct ld_rootfs *spec)
{
    if (!e->target)
        return;
    ld_part_ids_done(&e->target_parts);
    set_target(m, e, NULL, 0);
    ld_mount_target_forget(m->root, spec->id);
}

int ld_entry_drop_target(struct ld_mounts *m, struct ld_mount_entry *e,
                         const struct ld_rootfs *spec, struct ld_err *err)
{
    const char *name = NULL;
    autoclose int parent = -EBADF;
    int r;

    if (!ld_entry_is_at_target(m, e))
        return 0;
    if (check_top(e, err) < 0)
        return -1;
    parent = ld_mount_target_open_parent(e->target, &name);
    r = parent < 0 ? parent : ld_umount_at(parent, name, true);
    if (r < 0)
        return ld_err_sys(err, r, "detach the container from '%s'", e->target);
    ld_entry_forget_target(m, e, spec);
    return 0;
}

int ld_entry_take_target(struct ld_mounts *m, struct ld_mount_entry *e,
                         const struct ld_rootfs *spec, struct ld_taken_target *ret,
                         struct ld_err *err)
{
    struct ld_spot spot = {.known = &e->target_parts};

    if (!ld_entry_is_at_target(m, e))
        return 0;
    if (check_top(e, err) < 0)
        return -1;
    ret->path = ld_strdup(e->target);
    ret->parent = ld_mount_target_open_parent(ret->path, &spot.name);
    if (ret->parent < 0)
        return ld_err_sys(err, ret->parent, "open the folder of '%s'", ret->path);
    spot.dir = ret->parent;
    spot.path = ret->path;
    ld_mount_tree_init(&ret->tree, m, e, spec, &spot);
    if (ld_mount_tree_take(&ret->tree, spec->n_parts == 0, err) < 0)
        return -1;
    ret->is_taken = true;
    return 0;
}

void ld_entry_put_target_back(struct ld_mounts *m, struct ld_mount_entry *e,
                              struct ld_taken_target *taken)
{
    uint64_t id = 0;

    if (!taken->is_taken)
        return;
    ld_mount_tree_put_back(&taken->tree);
    if (mount_at(taken->path, &id) < 0)
        id = 0; /* told by then; the next look forgets it */
    set_target(m, e, taken->path, id);
}

void ld_taken_target_done(struct ld_taken_target *taken)
{
    ld_mount_tree_done(&taken->tree);
    ld_close_p(&taken->parent);
    ld_free_p(&taken->path);
    taken->is_taken = false;
}

/* ---- the start ---- */

/* What a mount that was cut off has left at its target; nobody was told of it. */
static int take_back(struct ld_mounts *m, struct ld_mount_entry *e, const struct ld_rootfs *spec,
                     struct ld_err *err)
{
    LD_AUTO(ld_taken_target_done) struct ld_taken_target taken = LD_TAKEN_TARGET_INIT;

    ld_info("container '%s' is not mounted: it is taken away from '%s'", spec->id, e->target);
    if (ld_entry_take_target(m, e, spec, &taken, err) < 0)
        return -1;
    ld_entry_forget_target(m, e, spec);
    return 0;
}

static int complete(struct ld_mounts *m, struct ld_mount_entry *e, const struct ld_rootfs *spec,
                    struct ld_err *err)
{
    bool is_attached = ld_entry_is_attached(m, e);
    uint64_t id = 0;

    memcpy(e->id, spec->id, strlen(spec->id) + 1); /* an id of the records */
    if (find_at(m, e, spec->target->path, &id) == 0) {
        set_target(m, e, spec->target->path, id);
        return is_attached ? 0 : take_back(m, e, spec, err);
    }
    if (!is_attached)
        return 0;
    ld_info("container '%s' is shown at '%s' again", spec->id, spec->target->path);
    return ld_entry_show_target(m, e, spec, m->root->mnt_fd, spec->id, err);
}

int ld_mounts_complete_target(struct ld_mounts *m, const struct ld_rootfs *spec, struct ld_err *err)
{
    struct ld_mount_entry *e = ld_mounts_enter(m, spec->writable.sid);
    int rc = complete(m, e, spec, err);

    if (!e->target)
        ld_mount_target_forget(m->root, spec->id);
    ld_mounts_leave(m, e);
    return rc;
}
