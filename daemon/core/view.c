/* Views: private clones of a container's tree for readers and writers in the daemon. See mounts.h.
 *
 * A container that is not mounted is mounted at the stage for the time of its views; nobody but us
 * can be in there. The last view gives that mount back as a kept clone, whose close syncs.
 */
#include "daemon/core/mounts_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "daemon/base/fdio.h"
#include "daemon/base/mountapi.h"

static int open_stage(struct ld_mounts *m, struct ld_mount_entry *e, const struct ld_rootfs *spec,
                      bool with_parts, struct ld_err *err)
{
    struct ld_sid_text name = ld_sid_name(e->sid);
    struct ld_part_ids ids = {.n = 0};
    autoclose int top = -EBADF;
    int rc = 0;

    if (!e->is_staged) {
        if (ld_entry_mount_at_stage(m, e, spec, name.text, err) < 0)
            return -1;
        e->is_staged = true;
    }
    if (!with_parts || e->has_staged_parts || spec->n_parts == 0)
        return 0;
    top = openat(m->root->stage_fd, name.text, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (top < 0)
        return ld_err_sys(err, -errno, "open the stage of container '%s'", spec->id);
    rc = ld_parts_mount(m->root, spec, m->env, top, &ids, err);
    ld_part_ids_done(&ids);
    e->has_staged_parts = true; /* or some of them: they go with the stage */
    return rc;
}

/* The stage is not needed any more: a kept clone takes its place until the close lane comes. */
static void close_stage(struct ld_mounts *m, struct ld_mount_entry *e, const struct ld_rootfs *spec)
{
    struct ld_sid_text name = ld_sid_name(e->sid);
    int k = ld_mount_clone(m->root->stage_fd, name.text, 0);

    if (ld_umount_at(m->root->stage_fd, name.text, true) == 0) {
        e->is_staged = false;
        e->has_staged_parts = false;
        (void)unlinkat(m->root->stage_fd, name.text, AT_REMOVEDIR); /* the next start does it too */
    }
    if (ld_entry_is_attached(m, e))
        ld_close(k); /* the mount at mnt/ID keeps the superblock: this closes nothing but a clone */
    else
        ld_entry_keep(m, e, k, spec, false);
}

int ld_mounts_view(struct ld_mounts *m, const struct ld_rootfs *spec, bool with_parts,
                   struct ld_view *ret, struct ld_err *err)
{
    struct ld_mount_entry *e = ld_mounts_enter(m, spec->writable.sid);
    unsigned flags = LD_CLONE_GUARDED | (with_parts ? LD_CLONE_RECURSIVE : 0);
    int fd = -EBADF, rc = 0;

    if (spec->read_only)
        flags |= LD_CLONE_RDONLY; /* of everything in it, so that no file can be put there */
    if (ld_entry_is_attached(m, e)) {
        fd = ld_mount_clone(m->root->mnt_fd, spec->id, flags);
    } else {
        rc = open_stage(m, e, spec, with_parts, err);
        if (rc == 0)
            fd = ld_mount_clone(m->root->stage_fd, ld_sid_name(e->sid).text, flags);
    }
    if (rc == 0 && fd < 0)
        rc = ld_err_sys(err, fd, "open a view of container '%s'", spec->id);
    if (rc == 0) {
        e->views++;
        *ret = (struct ld_view){.fd = fd, .sid = e->sid};
    } else if (e->is_staged && e->views == 0) {
        close_stage(m, e, spec);
    }
    ld_mounts_leave(m, e);
    return rc;
}

void ld_entry_end_view(struct ld_mounts *m, struct ld_mount_entry *e, const struct ld_rootfs *spec)
{
    if (--e->views > 0)
        return;
    if (e->is_staged)
        close_stage(m, e, spec);
    else if (e->kept >= 0)
        ld_entry_keep(m, e, ld_steal_fd(&e->kept), spec, false);
}

void ld_view_close(struct ld_mounts *m, const struct ld_rootfs *spec, struct ld_view *view)
{
    struct ld_mount_entry *e;

    if (view->fd < 0)
        return;
    e = ld_mounts_enter(m, view->sid);
    ld_close_p(&view->fd);
    ld_entry_end_view(m, e, spec);
    ld_mounts_leave(m, e);
}
