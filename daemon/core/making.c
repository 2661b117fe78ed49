/* Marks for unfinished work: see making.h. */
#include "daemon/core/making.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/core/state.h"

struct mark {
    char name[40];
};

static struct mark mark_of(ld_sid sid)
{
    struct mark m;

    (void)snprintf(m.name, sizeof(m.name), "making-%" LD_PRI_SID, sid); /* 27 bytes at most */
    return m;
}

int ld_making_begin(struct ld_core *core, ld_sid sid, struct ld_err *err)
{
    struct mark m = mark_of(sid);
    int fd =
        openat(core->root.staging_fd, m.name, O_CREAT | O_WRONLY | O_NOFOLLOW | O_CLOEXEC, 0600);

    if (fd < 0)
        return ld_err_sys(err, -errno, "mark storage id %" LD_PRI_SID " as being made", sid);
    ld_close(fd);
    return 0;
}

void ld_making_end(struct ld_core *core, ld_sid sid)
{
    (void)unlinkat(core->root.staging_fd, mark_of(sid).name,
                   0); /* the next start empties staging */
}

bool ld_making_is_marked(struct ld_core *core, ld_sid sid)
{
    struct stat st;

    return fstatat(core->root.staging_fd, mark_of(sid).name, &st, AT_SYMLINK_NOFOLLOW) == 0;
}
