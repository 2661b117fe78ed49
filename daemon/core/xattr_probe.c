/* Whether overlay unescapes xattrs: see xattr_probe.h. A detached overlay of two directories at the
 * stage, a tmpfs of ours; the first has an escaped mark, and the mount is asked for it. */
#include "daemon/core/xattr_probe.h"

#include <fcntl.h>
#include <linux/mount.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "daemon/base/digest.h"
#include "daemon/base/fdio.h"
#include "daemon/core/state.h"

/* glibc 2.36 has these, but its <sys/mount.h> and <linux/mount.h> do not go together. */
static int set_option(int fs, const char *key, const char *value)
{
    return (int)syscall(SYS_fsconfig, fs, FSCONFIG_SET_STRING, key, value, 0);
}

static int mount_detached(const char *lowerdir)
{
    autoclose int fs = (int)syscall(SYS_fsopen, "overlay", FSOPEN_CLOEXEC);

    if (fs < 0 || set_option(fs, "lowerdir", lowerdir) < 0 ||
        syscall(SYS_fsconfig, fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
        return -1;
    return (int)syscall(SYS_fsmount, fs, FSMOUNT_CLOEXEC, 0);
}

static bool shows_unescaped(int upper, int lower)
{
    char lowerdir[2 * sizeof(struct ld_fd_path) + 2];
    autoclose int mount = -EBADF;
    autoclose int root = -EBADF;
    char value[4];

    if (fsetxattr(upper, "trusted.overlay.overlay.layerd", "1", 1, 0) < 0)
        return false;
    (void)snprintf(lowerdir, sizeof(lowerdir), "%s:%s", ld_fd_path(upper).path,
                   ld_fd_path(lower).path); /* sized for both */
    mount = mount_detached(lowerdir);
    if (mount < 0)
        return false;
    root = openat(mount, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return root >= 0 && fgetxattr(root, "trusted.overlay.layerd", value, sizeof(value)) == 1;
}

bool ld_core_escapes_xattrs(const struct ld_core *core)
{
    char random[17], names[2][24];
    int fd[2] = {-EBADF, -EBADF};
    bool result = false;

    ld_random_hex(random, 8);
    for (size_t i = 0; i < 2; i++) {
        (void)snprintf(names[i], sizeof(names[i]), "x%zu-%s", i, random);
        fd[i] = ld_make_dir(core->root.stage_fd, names[i], 0700);
    }
    if (fd[0] >= 0 && fd[1] >= 0)
        result = shows_unescaped(fd[0], fd[1]);
    for (size_t i = 0; i < 2; i++) {
        ld_close(fd[i]);
        (void)unlinkat(core->root.stage_fd, names[i],
                       AT_REMOVEDIR); /* the stage is emptied at start */
    }
    return result;
}
