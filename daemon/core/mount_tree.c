/* A mount of ours and what is mounted in it: see mount_tree.h. Any worker. */
#include "daemon/core/mount_tree.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/base/fdio.h"
#include "daemon/base/log.h"
#include "daemon/base/mem.h"
#include "daemon/base/mountapi.h"
#include "daemon/core/mounts_priv.h"

enum { MAX_CHILDREN = 1024 };

void ld_mount_tree_init(struct ld_mount_tree *t, struct ld_mounts *m, struct ld_mount_entry *e,
                        const struct ld_rootfs *spec, const struct ld_spot *spot)
{
    *t = (struct ld_mount_tree){.m = m, .e = e, .spec = spec, .spot = *spot, .top = -EBADF};
}

void ld_mount_tree_done(struct ld_mount_tree *t)
{
    for (size_t i = 0; i < t->n; i++) {
        free(t->item[i].path);
        ld_close(t->item[i].clone);
    }
    ld_free_p(&t->item);
    t->n = t->cap = 0;
    ld_close_p(&t->top);
}

/* ---- what is mounted in it ---- */

static int collect(void *arg, const struct ld_mountinfo *line)
{
    struct ld_mount_tree *t = arg;
    size_t len = strlen(t->spot.path);

    if (strcmp(line->mountpoint, t->spot.path) == 0) {
        t->top_id = line->id;
        return 0;
    }
    if (strncmp(line->mountpoint, t->spot.path, len) != 0 || line->mountpoint[len] != '/')
        return 0;
    if (t->n == MAX_CHILDREN)
        return -E2BIG;
    ld_grow(&t->item, &t->cap, t->n + 1, sizeof(*t->item));
    t->item[t->n++] = (struct ld_mount_child){
        .id = line->id,
        .parent = line->parent,
        .path = ld_strdup(line->mountpoint + len + 1),
        /* After a restart the table of our own mounts is empty: known by what they show. */
        .is_ours = t->spot.known->n == 0 &&
                   ld_part_of_mount(t->m->root, t->spec, t->m->env->instance, line) != NULL,
        .clone = -EBADF,
    };
    return 0;
}

static bool is_placed(const struct ld_mount_tree *t, size_t n, int parent)
{
    if (parent == t->top_id)
        return true;
    for (size_t i = 0; i < n; i++) {
        if (t->item[i].id == parent)
            return true;
    }
    return false;
}

/* Parents before children: the table itself is in the order of ids, which a clone gets when it is
 * made. What does not hang below the container's mount (it is hidden under it) is dropped. */
static void sort(struct ld_mount_tree *t)
{
    size_t placed = 0;

    for (bool moved = true; moved;) {
        moved = false;
        for (size_t i = placed; i < t->n; i++) {
            struct ld_mount_child child = t->item[i];

            if (!is_placed(t, placed, child.parent))
                continue;
            t->item[i] = t->item[placed];
            t->item[placed++] = child;
            moved = true;
        }
    }
    while (t->n > placed)
        free(t->item[--t->n].path);
}

/* The directory that holds a child's mount point, and the name in it. Lies on the parent mount. */
static int open_parent(const struct ld_mount_tree *t, const struct ld_mount_child *child,
                       const char **ret_name)
{
    autoclose int top =
        openat(t->spot.dir, t->spot.name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
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

static int identify(struct ld_mount_tree *t)
{
    for (size_t i = 0; i < t->n; i++) {
        struct ld_mount_child *child = &t->item[i];
        const char *name = NULL;
        autoclose int parent = open_parent(t, child, &name);
        int r = parent < 0 ? parent : ld_mount_id(parent, name, &child->mount_id, NULL);

        if (r < 0)
            return r;
        if (is_remembered(t->spot.known, child->mount_id))
            child->is_ours = true;
    }
    return 0;
}

int ld_mount_tree_list(struct ld_mount_tree *t)
{
    int r = ld_mountinfo_each(collect, t);

    if (r < 0)
        return r;
    sort(t);
    return identify(t);
}

/* ---- taking it away ---- */

/* Takes one child away; its clone stays. */
static int take_child(struct ld_mount_tree *t, struct ld_mount_child *child)
{
    const char *name = NULL;
    autoclose int parent = open_parent(t, child, &name);
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

/* From the first one on. */
static void put_children_back(struct ld_mount_tree *t, size_t first)
{
    struct ld_part_ids *known = t->spot.known;

    for (size_t i = first; i < t->n; i++) {
        struct ld_mount_child *child = &t->item[i];
        const char *name = NULL;
        autoclose int parent = open_parent(t, child, &name);
        uint64_t id = 0;
        int r = parent < 0 ? parent : ld_mount_put_at(child->clone, parent, name);

        if (r == 0)
            r = ld_mount_id(parent, name, &id, NULL);
        if (r < 0) {
            ld_error("container '%s': what was mounted at '/%s' can't be put back: %s", t->spec->id,
                     child->path, strerrordesc_np(-r));
            continue;
        }
        ld_grow(&known->id, &known->cap, known->n + 1, sizeof(*known->id));
        known->id[known->n++] = id;
    }
}

static int busy_child(const struct ld_mount_tree *t, const struct ld_mount_child *child,
                      struct ld_err *err)
{
    const char *name = "";
    autoclose int parent = open_parent(t, child, &name);
    autoclose int place = parent < 0 ? -EBADF : openat(parent, name, O_PATH | O_CLOEXEC);

    return ld_entry_busy(t->m, t->spec, place, err);
}

static int take_children(struct ld_mount_tree *t, struct ld_err *err)
{
    for (size_t i = 0; i < t->n; i++) {
        if (!t->item[i].is_ours) {
            (void)ld_err_set(err, LD_E_BUSY,
                             "something that is not of layerd is mounted at '/%s' of the container",
                             t->item[i].path);
            return ld_err_hint(err, "unmount it, or unmount with force");
        }
    }
    for (size_t i = t->n; i-- > 0;) {
        int r = take_child(t, &t->item[i]);

        if (r == 0)
            continue;
        if (r == -EBUSY)
            (void)busy_child(t, &t->item[i], err);
        else
            (void)ld_err_sys(err, r, "unmount '/%s' of the container", t->item[i].path);
        put_children_back(t, i + 1);
        return -1;
    }
    return 0;
}

static int busy_top(const struct ld_mount_tree *t, struct ld_err *err)
{
    autoclose int place = openat(t->spot.dir, t->spot.name, O_PATH | O_NOFOLLOW | O_CLOEXEC);

    return ld_entry_busy(t->m, t->spec, place, err);
}

int ld_mount_tree_take(struct ld_mount_tree *t, bool is_bare, struct ld_err *err)
{
    autoclose int top = ld_mount_clone(t->spot.dir, t->spot.name, 0);
    int r;

    if (top < 0)
        return ld_err_sys(err, top, "clone the mount of container '%s'", t->spec->id);
    /* Most containers have nothing mounted in them, and reading mountinfo grows with the machine.
     */
    r = is_bare ? ld_umount_at(t->spot.dir, t->spot.name, false) : -EBUSY;
    if (r == -EBUSY) {
        r = ld_mount_tree_list(t);
        if (r < 0)
            return ld_err_sys(err, r, "list the mounts in container '%s'", t->spec->id);
        if (take_children(t, err) < 0)
            return -1;
        r = ld_umount_at(t->spot.dir, t->spot.name, false);
        if (r < 0) {
            ld_part_ids_done(t->spot.known);
            put_children_back(t, 0);
        }
    }
    if (r == -EBUSY)
        return busy_top(t, err);
    if (r < 0)
        return ld_err_sys(err, r, "unmount container '%s'", t->spec->id);
    ld_part_ids_done(t->spot.known);
    t->top = ld_steal_fd(&top);
    return 0;
}

void ld_mount_tree_put_back(struct ld_mount_tree *t)
{
    int r = ld_mount_put_at(t->top, t->spot.dir, t->spot.name);

    if (r < 0)
        ld_error("container '%s' can't be put back at '%s': %s", t->spec->id, t->spot.path,
                 strerrordesc_np(-r));
    else
        put_children_back(t, 0);
    ld_close_p(&t->top);
}
