/* Keeping a mounted container still while its writable layer is copied: see mounts.h.
 *
 * The superblock is made read-only, not a mount: processes in other mount namespaces write through
 * mounts of their own, which share nothing else. The kernel refuses it while anything is open for
 * writing, and that is the answer then.
 *
 * It counts as a view until it is resumed, so that the superblock stays alive through us: with the
 * last view's end it could go, or live on read-only in another namespace where nobody reaches it.
 */
#include "daemon/core/mounts_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "daemon/base/fdio.h"
#include "daemon/base/log.h"
#include "daemon/base/mountapi.h"

/* What gives the superblock; -ENOENT: none is alive through us. */
static int open_live(struct ld_mounts *m, struct ld_mount_entry *e)
{
    int fd = -ENOENT;

    if (ld_entry_is_attached(m, e))
        fd = openat(m->root->mnt_fd, e->id, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    else if (e->is_staged)
        fd = openat(m->root->stage_fd, ld_sid_name(e->sid).text,
                    O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    else if (e->kept >= 0)
        fd = fcntl(e->kept, F_DUPFD_CLOEXEC, 0);
    else
        return fd;
    return fd < 0 ? -errno : fd;
}

int ld_mounts_quiesce(struct ld_mounts *m, const struct ld_rootfs *spec, struct ld_err *err)
{
    struct ld_mount_entry *e = ld_mounts_enter(m, spec->writable.sid);
    autoclose int fd = open_live(m, e);
    int r = fd < 0 ? fd : ld_mount_set_sb_rdonly(fd, true), rc = 0;

    if (r == -EBUSY) {
        rc = ld_entry_busy(m, spec, fd, err);
        (void)ld_err_prefix(err, "something in it is open for writing");
        (void)ld_err_hint(err, "end what writes to it, unmount it, or ask for live=1");
    } else if (r < 0 && r != -ENOENT) {
        rc = ld_err_sys(err, r, "keep container '%s' still", spec->id);
    }
    e->views += rc == 0;
    ld_mounts_leave(m, e);
    return rc;
}

void ld_mounts_resume(struct ld_mounts *m, const struct ld_rootfs *spec)
{
    struct ld_mount_entry *e = ld_mounts_enter(m, spec->writable.sid);
    int fd = open_live(m, e);
    int r = fd < 0 ? fd : ld_mount_set_sb_rdonly(fd, false);

    ld_close(fd); /* before the stage goes, where it may lie */
    if (r < 0 && r != -ENOENT)
        ld_error("container '%s' is read-only and can't be made writable again: %s", spec->id,
                 strerrordesc_np(-r));
    ld_entry_end_view(m, e, spec);
    ld_mounts_leave(m, e);
}
