/* Unmounting: see mounts.h and mounts_priv.h. Any worker.
 *
 * The last unmount of an overlay syncs the whole file system its upper lies on: a millisecond on a
 * quiet disk, up to a second beside another writer (moby#47630, containerd#8698). So a clone is
 * kept, which makes the unmount itself free, and closed later on a lane of its own.
 *
 * Children first, each through a descriptor of its parent directory: by a path below the container
 * a process in there could turn our umount2 into one of a mount of the host. At the first EBUSY
 * everything taken so far is put back.
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
#include "daemon/core/holders.h"

enum { MAX_CHILDREN = 1024 };

/* A mount inside the container, in the order of the table: parents before children. */
struct child {
    int id, parent;    /* of mountinfo */
    uint64_t mount_id; /* of statx */
    char *path;        /* relative to the container's root, as the kernel says */
    bool is_ours;
    int clone; /* once unmounted: what is put back if need be */
};

struct children {
    struct child *item;
    size_t n, cap;
    /* for the walk */
    struct ld_mounts *m;
    struct ld_mount_entry *e;
    const struct ld_rootfs *spec;
    char *mountpoint;
    int top_id;
};

static void children_done(struct children *c)
{
    for (size_t i = 0; i < c->n; i++) {
        free(c->item[i].path);
        ld_close(c->item[i].clone);
    }
    free(c->item);
    free(c->mountpoint);
    *c = (struct children){.n = 0};
}

static int collect(void *arg, const struct ld_mountinfo *line)
{
    struct children *c = arg;
    size_t len = strlen(c->mountpoint);

    if (strcmp(line->mountpoint, c->mountpoint) == 0) {
        c->top_id = line->id;
        return 0;
    }
    if (strncmp(line->mountpoint, c->mountpoint, len) != 0 || line->mountpoint[len] != '/')
        return 0;
    if (c->n == MAX_CHILDREN)
        return -E2BIG;
    ld_grow(&c->item, &c->cap, c->n + 1, sizeof(*c->item));
    c->item[c->n++] = (struct child){
        .id = line->id,
        .parent = line->parent,
        .path = ld_strdup(line->mountpoint + len + 1),
        /* After a restart the table of our own mounts is empty: known by what they show. */
        .is_ours = c->e->parts.n == 0 &&
                   ld_part_of_mount(c->m->root, c->spec, c->m->env->instance, line) != NULL,
        .clone = -EBADF,
    };
    return 0;
}

static bool is_placed(const struct children *c, size_t n, int parent)
{
    if (parent == c->top_id)
        return true;
    for (size_t i = 0; i < n; i++) {
        if (c->item[i].id == parent)
            return true;
    }
    return false;
}

/* Parents before children: the table itself is in the order of ids, which a clone gets when it is
 * made. What does not hang below the container's mount (it is hidden under it) is dropped. */
static void sort_children(struct children *c)
{
    size_t placed = 0;

    for (bool moved = true; moved;) {
        moved = false;
        for (size_t i = placed; i < c->n; i++) {
            struct child child = c->item[i];

            if (!is_placed(c, placed, child.parent))
                continue;
            c->item[i] = c->item[placed];
            c->item[placed++] = child;
            moved = true;
        }
    }
    while (c->n > placed)
        free(c->item[--c->n].path);
}

/* The directory that holds a child's mount point, and the name in it. Lies on the parent mount. */
static int open_parent(struct ld_mounts *m, const struct ld_rootfs *spec, const struct child *child,
                       const char **ret_name)
{
    autoclose int top =
        openat(m->root->mnt_fd, spec->id, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    autofree char *dir = ld_strdup(child->path);
    char *slash = strrchr(dir, '/');

    if (top < 0)
        return -errno;
    *ret_name = slash ? child->path + (slash - dir) + 1 : child->path;
    if (slash)
        *slash = '\0';
    return ld_open_under(top, slash ? dir : ".", LD_IN_ROOT, O_PATH | O_DIRECTORY, 0);
}

static bool is_remembered(const struct ld_part_ids *ids, uint64_t id)
{
    for (size_t i = 0; i < ids->n; i++) {
        if (ids->id[i] == id)
            return true;
    }
    return false;
}

static int identify(struct children *c)
{
    for (size_t i = 0; i < c->n; i++) {
        struct child *child = &c->item[i];
        const char *name = NULL;
        autoclose int parent = open_parent(c->m, c->spec, child, &name);
        int r = parent < 0 ? parent : ld_mount_id(parent, name, &child->mount_id, NULL);

        if (r < 0)
            return r;
        if (is_remembered(&c->e->parts, child->mount_id))
            child->is_ours = true;
    }
    return 0;
}

static int list_children(struct ld_mounts *m, struct ld_mount_entry *e,
                         const struct ld_rootfs *spec, struct children *ret)
{
    int r;

    *ret = (struct children){.m = m, .e = e, .spec = spec};
    ret->mountpoint = ld_asprintf("%s/mnt/%s", m->root->run_path, spec->id);
    r = ld_mountinfo_each(collect, ret);
    if (r < 0)
        return r;
    sort_children(ret);
    return identify(ret);
}

int ld_entry_busy(const struct ld_mounts *m, const struct ld_rootfs *spec, int place,
                  struct ld_err *err)
{
    struct ld_holder holder[LD_MAX_HOLDERS];
    size_t n = place < 0 ? 0 : ld_holders_find(place, true, holder);
    struct ld_buf text LD_AUTO(ld_buf_done) = LD_BUF_INIT(400);
    struct ld_buf json LD_AUTO(ld_buf_done) = LD_BUF_INIT(sizeof(err->details) - 1);
    autoclose int top = openat(m->root->mnt_fd, spec->id, O_PATH | O_DIRECTORY | O_CLOEXEC);

    if (n == 0 && top >= 0)
        n = ld_holders_find(top, strcmp(spec->driver->name, "overlay") != 0, holder);
    ld_holders_text(holder, n, &text);
    (void)ld_err_set(err, LD_E_BUSY, "the mount is in use%s%s", n ? " by " : "", ld_buf_str(&text));
    /* As many as fit. */
    do {
        ld_buf_clear(&json);
        ld_buf_adds(&json, "{\"holders\":");
        ld_holders_json(holder, n, &json);
        ld_buf_addc(&json, '}');
    } while (ld_buf_check(&json) < 0 && n-- > 0);
    (void)ld_err_details(err, ld_buf_str(&json));
    return ld_err_hint(err, "end what uses it, or unmount with force");
}

/* Takes one child away; its clone stays. */
static int take_child(struct ld_mounts *m, const struct ld_rootfs *spec, struct child *child)
{
    const char *name = NULL;
    autoclose int parent = open_parent(m, spec, child, &name);
    autoclose int clone = -EBADF;
    uint64_t id = 0;
    int r;

    if (parent < 0)
        return parent;
    r = ld_mount_id(parent, name, &id, NULL);
    if (r < 0)
        return r;
    if (id != child->mount_id)
        return -EAGAIN; /* moved by somebody inside since we asked */
    clone = ld_mount_clone(parent, name, 0);
    if (clone < 0)
        return clone;
    r = ld_umount_at(parent, name, false);
    if (r == 0)
        child->clone = ld_steal_fd(&clone);
    return r;
}

static void put_back(struct ld_mounts *m, struct ld_mount_entry *e, const struct ld_rootfs *spec,
                     struct children *c, size_t first)
{
    for (size_t i = first; i < c->n; i++) {
        struct child *child = &c->item[i];
        const char *name = NULL;
        autoclose int parent = open_parent(m, spec, child, &name);
        uint64_t id = 0;
        int r = parent < 0 ? parent : ld_mount_put_at(child->clone, parent, name);

        if (r == 0)
            r = ld_mount_id(parent, name, &id, NULL);
        if (r < 0) {
            ld_error("container '%s': what was mounted at '/%s' can't be put back: %s", spec->id,
                     child->path, strerrordesc_np(-r));
            continue;
        }
        ld_grow(&e->parts.id, &e->parts.cap, e->parts.n + 1, sizeof(*e->parts.id));
        e->parts.id[e->parts.n++] = id;
    }
}

static int busy_child(const struct ld_mounts *m, const struct ld_rootfs *spec,
                      const struct child *child, struct ld_err *err)
{
    const char *name = "";
    autoclose int parent = open_parent((struct ld_mounts *)m, spec, child, &name);
    autoclose int place = parent < 0 ? -EBADF : openat(parent, name, O_PATH | O_CLOEXEC);

    return ld_entry_busy(m, spec, place, err);
}

static int take_children(struct ld_mounts *m, struct ld_mount_entry *e,
                         const struct ld_rootfs *spec, struct children *c, struct ld_err *err)
{
    for (size_t i = 0; i < c->n; i++) {
        if (!c->item[i].is_ours) {
            (void)ld_err_set(err, LD_E_BUSY,
                             "something that is not of layerd is mounted at '/%s' of the container",
                             c->item[i].path);
            return ld_err_hint(err, "unmount it, or unmount with force");
        }
    }
    for (size_t i = c->n; i-- > 0;) {
        int r = take_child(m, spec, &c->item[i]);

        if (r == 0)
            continue;
        if (r == -EBUSY)
            (void)busy_child(m, spec, &c->item[i], err);
        else
            (void)ld_err_sys(err, r, "unmount '/%s' of the container", c->item[i].path);
        put_back(m, e, spec, c, i + 1);
        return -1;
    }
    return 0;
}

int ld_unmount_tree(struct ld_mounts *m, struct ld_mount_entry *e, const struct ld_rootfs *spec,
                    int *ret_k, struct ld_err *err)
{
    struct children children LD_AUTO(children_done) = {.n = 0};
    autoclose int k = ld_mount_clone(m->root->mnt_fd, spec->id, 0);
    int r;

    if (k < 0)
        return ld_err_sys(err, k, "clone the mount of container '%s'", spec->id);
    /* Most containers have nothing mounted in them, and reading mountinfo grows with the machine.
     */
    r = spec->n_parts == 0 ? ld_umount_at(m->root->mnt_fd, spec->id, false) : -EBUSY;
    if (r == -EBUSY) {
        r = list_children(m, e, spec, &children);
        if (r < 0)
            return ld_err_sys(err, r, "list the mounts in container '%s'", spec->id);
        if (take_children(m, e, spec, &children, err) < 0)
            return -1;
        r = ld_umount_at(m->root->mnt_fd, spec->id, false);
        if (r < 0) {
            ld_part_ids_done(&e->parts);
            put_back(m, e, spec, &children, 0);
        }
    }
    if (r == -EBUSY)
        return ld_entry_busy(m, spec, -EBADF, err);
    if (r < 0)
        return ld_err_sys(err, r, "unmount container '%s'", spec->id);
    ld_part_ids_done(&e->parts);
    *ret_k = ld_steal_fd(&k);
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

    /* With a view open the clone is what a mount would start from: the last view closes it. */
    if (e->views == 0 && !ld_entry_is_attached(j->m, e)) {
        ld_entry_close_kept(e);
        (void)ld_entry_probe(j->m, e, &j->spec); /* remembered in the entry */
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
                         const struct ld_rootfs *spec, bool *ret_held, struct ld_err *err)
{
    autoclose int k = e->views ? ld_mount_clone(m->root->mnt_fd, spec->id, 0) : -EBADF;
    int r = ld_umount_at(m->root->mnt_fd, spec->id, true);

    if (r < 0)
        return ld_err_sys(err, r, "detach container '%s'", spec->id);
    ld_part_ids_done(&e->parts);
    ld_entry_set(m, e, 0, false);
    if (k >= 0)
        e->kept = ld_steal_fd(&k); /* the last view closes it */
    *ret_held = ld_entry_probe(m, e, spec);
    return 0;
}

int ld_mounts_detach(struct ld_mounts *m, const struct ld_rootfs *spec,
                     struct ld_unmount_flags flags, bool *ret_was, bool *ret_held,
                     struct ld_err *err)
{
    struct ld_mount_entry *e = ld_mounts_enter(m, spec->writable.sid);
    bool was = ld_entry_is_attached(m, e), held = false;
    int k = -EBADF, rc = 0;

    if (was && flags.force) {
        rc = detach_forced(m, e, spec, &held, err);
    } else if (was) {
        rc = ld_unmount_tree(m, e, spec, &k, err);
        if (rc == 0) {
            ld_entry_set(m, e, 0, false);
            ld_entry_keep(m, e, k, spec, flags.sync);
        }
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

static size_t count_parts(const struct children *children)
{
    size_t n = 0;

    for (size_t i = 0; i < children->n; i++)
        n += children->item[i].is_ours;
    return n;
}

/* A target can also be missing because somebody inside has renamed a directory on the way to what
 * is mounted: then mountinfo still counts it. */
static int complete(struct ld_mounts *m, struct ld_mount_entry *e, const struct ld_rootfs *spec,
                    struct ld_err *err)
{
    struct children children LD_AUTO(children_done) = {.n = 0};
    autoclose int top = ld_mounts_open_place(m, spec->id);
    int r;

    if (top < 0)
        return ld_err_sys(err, top, "open the mount of container '%s'", spec->id);
    if (ld_parts_are_mounted(spec, top))
        return 0;
    r = list_children(m, e, spec, &children);
    if (r < 0)
        return ld_err_sys(err, r, "list the mounts in container '%s'", spec->id);
    if (count_parts(&children) >= spec->n_parts)
        return 0;
    ld_info("container '%s': its unmount was cut off; what it lacks is mounted again", spec->id);
    return ld_parts_mount_missing(m->root, spec, m->env->instance, top, err);
}

int ld_mounts_complete(struct ld_mounts *m, const struct ld_rootfs *spec, struct ld_err *err)
{
    struct ld_mount_entry *e = ld_mounts_enter(m, spec->writable.sid);
    int rc = ld_entry_is_attached(m, e) ? complete(m, e, spec, err) : 0;

    ld_mounts_leave(m, e);
    return rc;
}
