/* Unmounting: see mounts.h and mounts_priv.h. Any worker.
 *
 * The last unmount of an overlay syncs the whole file system its upper lies on: a millisecond on a
 * quiet disk, up to a second beside another writer (moby#47630, containerd#8698). So a clone is
 * kept, which makes the unmount itself free, and closed later on a lane of its own.
 */
#include "daemon/core/mounts_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/base/fdio.h"
#include "daemon/base/log.h"
#include "daemon/base/mem.h"
#include "daemon/base/mountapi.h"
#include "daemon/core/backing.h"
#include "daemon/core/holders.h"
#include "daemon/core/mount_tree.h"

int ld_entry_busy(const struct ld_mounts *m, const struct ld_rootfs *spec, int place,
                  struct ld_err *err)
{
    struct ld_holder holder[LD_MAX_HOLDERS];
    size_t n = place < 0 ? 0 : ld_holders_find(place, true, holder);
    autoclose int top = openat(m->root->mnt_fd, spec->id, O_PATH | O_DIRECTORY | O_CLOEXEC);

    if (n == 0 && top >= 0)
        n = ld_holders_find(top, strcmp(spec->driver->name, "overlay") != 0, holder);
    return ld_holders_busy(holder, n, err);
}

/* The container's own place. The strings end with the call. */
static void open_spot(struct ld_mounts *m, struct ld_mount_entry *e, const struct ld_rootfs *spec,
                      const char *path, struct ld_mount_tree *ret)
{
    struct ld_spot spot = {
        .dir = m->root->mnt_fd, .name = spec->id, .path = path, .known = &e->parts};

    ld_mount_tree_init(ret, m, e, spec, &spot);
}

int ld_unmount_tree(struct ld_mounts *m, struct ld_mount_entry *e, const struct ld_rootfs *spec,
                    int *ret_k, struct ld_err *err)
{
    autofree char *path = ld_asprintf("%s/mnt/%s", m->root->run_path, spec->id);
    LD_AUTO(ld_mount_tree_done) struct ld_mount_tree tree;

    open_spot(m, e, spec, path, &tree);
    if (ld_mount_tree_take(&tree, spec->n_parts == 0, err) < 0)
        return -1;
    *ret_k = ld_steal_fd(&tree.top);
    return 0;
}

/* ---- kept clones ---- */

struct close_job {
    struct ld_job job;
    struct ld_mounts *m;
    char *id;
    struct ld_rootfs spec; /* without parts: only what a probe needs */
    ld_sid *chain;
};

static void close_job_free(struct close_job *j)
{
    free(j->id);
    free(j->chain);
    free(j);
}

static void forget_kept(struct ld_mounts *m)
{
    pthread_mutex_lock(&m->lock);
    m->kept--;
    pthread_mutex_unlock(&m->lock);
}

static void run_close(struct ld_job *job)
{
    struct close_job *j = (struct close_job *)job; /* its first member */
    struct ld_mount_entry *e = ld_mounts_enter(j->m, j->spec.writable.sid);
    struct ld_driver_env backing;

    /* With a view open the clone is what a mount would start from: the last view closes it. */
    if (e->views == 0 && !ld_entry_is_attached(j->m, e)) {
        ld_entry_close_kept(e);
        if (j->spec.is_backed) { /* opened now, since it may have been removed meanwhile */
            backing = ld_backing_env(j->m->root, j->m->env, e->sid);
            j->spec.env = &backing;
        }
        (void)ld_entry_probe(j->m, e, &j->spec); /* remembered in the entry */
        if (j->spec.is_backed)
            ld_close(backing.w_fd);
    }
    ld_mounts_leave(j->m, e);
    forget_kept(j->m);
}

static void close_done(struct ld_job *job)
{
    struct close_job *j = (struct close_job *)job;

    if (!job->was_run)
        forget_kept(j->m);
    close_job_free(j);
}

void ld_entry_close_kept(struct ld_mount_entry *e)
{
    ld_close_p(&e->kept); /* may sync the whole file system */
}

static bool submit_close(struct ld_mounts *m, const struct ld_rootfs *spec)
{
    struct close_job *j = ld_new(struct close_job);
    struct ld_err ignored = LD_ERR_INIT;

    j->job.run = run_close;
    j->job.done = close_done;
    j->m = m;
    j->id = ld_strdup(spec->id);
    j->spec.id = j->id;
    j->spec.driver = spec->driver;
    j->spec.env = j->m->env;
    j->spec.is_backed = spec->is_backed;
    j->spec.writable = spec->writable;
    j->chain = (ld_sid *)ld_memdup((const char *)spec->writable.chain.sid,
                                   spec->writable.chain.n * sizeof(ld_sid));
    j->spec.writable.chain.sid = j->chain;
    if (ld_lanes_submit(m->lanes, LD_LANE_CLOSE, &j->job, &ignored) == 0)
        return true;
    close_job_free(j);
    return false;
}

void ld_entry_keep(struct ld_mounts *m, struct ld_mount_entry *e, int k,
                   const struct ld_rootfs *spec, bool sync)
{
    bool is_room;

    ld_close(e->kept);
    e->kept = k;
    if (k < 0)
        return;
    pthread_mutex_lock(&m->lock);
    is_room = m->kept < LD_MAX_KEPT;
    m->kept += is_room && !sync;
    pthread_mutex_unlock(&m->lock);
    if (sync || !is_room) {
        if (e->views == 0)
            ld_entry_close_kept(e);
    } else if (!submit_close(m, spec)) {
        forget_kept(m);
        if (e->views == 0)
            ld_entry_close_kept(e);
    }
}

/* ---- the calls ---- */

static int detach_forced(struct ld_mounts *m, struct ld_mount_entry *e,
                         const struct ld_rootfs *spec, bool is_attached, bool *ret_held,
                         struct ld_err *err)
{
    autoclose int k =
        is_attached && e->views ? ld_mount_clone(m->root->mnt_fd, spec->id, 0) : -EBADF;
    int r = is_attached ? ld_umount_at(m->root->mnt_fd, spec->id, true) : 0;

    if (r < 0)
        return ld_err_sys(err, r, "detach container '%s'", spec->id);
    ld_part_ids_done(&e->parts);
    ld_entry_set(m, e, 0, false);
    if (k >= 0)
        e->kept = ld_steal_fd(&k); /* the last view closes it */
    *ret_held = ld_entry_probe(m, e, spec);
    return 0;
}

/* The target goes first: what is mounted at mnt/ID is there as well. */
static int detach(struct ld_mounts *m, struct ld_mount_entry *e, const struct ld_rootfs *spec,
                  bool is_attached, bool sync, struct ld_err *err)
{
    LD_AUTO(ld_taken_target_done) struct ld_taken_target target = LD_TAKEN_TARGET_INIT;
    int k = -EBADF;

    if (ld_entry_take_target(m, e, spec, &target, err) < 0)
        return -1;
    if (is_attached && ld_unmount_tree(m, e, spec, &k, err) < 0) {
        ld_entry_put_target_back(m, e, &target);
        return -1;
    }
    if (!is_attached && target.is_taken) {
        k = target.tree.top; /* nothing else shows it */
        target.tree.top = -EBADF;
    }
    ld_taken_target_done(&target);
    ld_entry_forget_target(m, e, spec);
    ld_entry_set(m, e, 0, false);
    ld_entry_keep(m, e, k, spec, sync);
    return 0;
}

int ld_mounts_detach(struct ld_mounts *m, const struct ld_rootfs *spec,
                     struct ld_unmount_flags flags, bool *ret_was, bool *ret_held,
                     struct ld_err *err)
{
    struct ld_mount_entry *e = ld_mounts_enter(m, spec->writable.sid);
    bool is_attached = ld_entry_is_attached(m, e);
    bool was = ld_entry_is_at_target(m, e) || is_attached, held = false;
    int rc = 0;

    if (was && flags.force) {
        rc = ld_entry_drop_target(m, e, spec, err);
        if (rc == 0)
            rc = detach_forced(m, e, spec, is_attached, &held, err);
    } else if (was) {
        rc = detach(m, e, spec, is_attached, flags.sync, err);
    }
    if (rc == 0 && was)
        (void)unlinkat(m->root->mnt_fd, spec->id, AT_REMOVEDIR); /* made again when needed */
    if (rc == 0 && flags.sync && !was && e->views == 0)
        ld_entry_close_kept(e); /* of an earlier unmount that did not wait */
    ld_mounts_leave(m, e);
    if (rc == 0) {
        *ret_was = was;
        *ret_held = held;
    }
    return rc;
}

/* ---- an unmount that was cut off ---- */

static size_t count_parts(const struct ld_mount_tree *tree)
{
    size_t n = 0;

    for (size_t i = 0; i < tree->n; i++)
        n += tree->item[i].is_ours;
    return n;
}

/* A target can also be missing because somebody inside has renamed a directory on the way to what
 * is mounted: then mountinfo still counts it. */
static int complete(struct ld_mounts *m, struct ld_mount_entry *e, const struct ld_rootfs *spec,
                    struct ld_err *err)
{
    autofree char *path = ld_asprintf("%s/mnt/%s", m->root->run_path, spec->id);
    LD_AUTO(ld_mount_tree_done) struct ld_mount_tree tree;
    autoclose int top = ld_mounts_open_place(m, spec->id);
    int r;

    open_spot(m, e, spec, path, &tree);
    if (top < 0)
        return ld_err_sys(err, top, "open the mount of container '%s'", spec->id);
    if (ld_parts_are_mounted(spec, top))
        return 0;
    r = ld_mount_tree_list(&tree);
    if (r < 0)
        return ld_err_sys(err, r, "list the mounts in container '%s'", spec->id);
    if (count_parts(&tree) >= spec->n_parts)
        return 0;
    ld_info("container '%s': its unmount was cut off; what it lacks is mounted again", spec->id);
    return ld_parts_mount_missing(m->root, spec, m->env, top, err);
}

int ld_mounts_complete(struct ld_mounts *m, const struct ld_rootfs *spec, struct ld_err *err)
{
    struct ld_mount_entry *e = ld_mounts_enter(m, spec->writable.sid);
    int rc = ld_entry_is_attached(m, e) ? complete(m, e, spec, err) : 0;

    ld_mounts_leave(m, e);
    return rc;
}
