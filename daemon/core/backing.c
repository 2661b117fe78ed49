/* Backing file systems: see backing.h. */
#include "daemon/core/backing.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "daemon/base/fdio.h"
#include "daemon/base/log.h"
#include "daemon/base/mem.h"
#include "daemon/base/mountapi.h"
#include "daemon/core/damage.h"
#include "daemon/core/state.h"

enum {
    OWN_INODES = 8,      /* of the root, the layer and what overlay makes in its work directory */
    MIN_INODES = 1024,   /* when no limit is asked for */
    BYTES_A_FILE = 4096, /* likewise: an empty file takes memory, too, and no byte of the size */
};

static const char source[] = "layerd-backing";

/* ---- which are there ---- */

/* Its root, or -errno: ENOENT when nothing is mounted. */
static int open_root(const struct ld_root *root, ld_sid sid)
{
    autoclose int fd = ld_open_dir(root->backing_fd, ld_sid_name(sid).text);
    bool is_root = false;
    uint64_t id;
    int r = fd < 0 ? fd : ld_mount_id(fd, "", &id, &is_root);

    if (r < 0)
        return r;
    return is_root ? ld_steal_fd(&fd) : -ENOENT;
}

bool ld_backing_is_there(const struct ld_root *root, ld_sid sid)
{
    autoclose int fd = open_root(root, sid);

    return fd >= 0;
}

struct ld_driver_env ld_backing_env(const struct ld_root *root, const struct ld_driver_env *base,
                                    ld_sid sid)
{
    struct ld_driver_env env = *base;

    env.w_fd = open_root(root, sid);
    env.quota = (struct ld_quota){.base = 0};
    return env;
}

/* ---- which can be used ---- */

static int try_tmpfs(struct ld_err *err)
{
    struct ld_tmpfs tmpfs = {.source = source, .size = 1 << 20, .inodes = 16, .mode = 0700};
    autoclose int tree = ld_mount_tmpfs(&tmpfs);

    return tree < 0 ? ld_err_sys(err, tree, "make a trial tmpfs") : 0;
}

void ld_backings_probe(struct ld_core *core)
{
    struct ld_backing_status *s = &core->backing[LD_BACKING_TMPFS];

    s->is_usable = try_tmpfs(&s->why) == 0;
    if (!s->is_usable)
        ld_warn("no %s as a backing: %s", ld_backing_name(LD_BACKING_TMPFS), s->why.message);
}

int ld_backing_check(const struct ld_core *core, enum ld_backing kind,
                     const struct ld_driver *driver, struct ld_err *err)
{
    const struct ld_backing_status *s = &core->backing[kind];

    if (!driver->seal) {
        (void)ld_err_set(err, LD_E_UNSUPPORTED,
                         "with the storage driver '%s' there is no backing: it copies the image",
                         driver->name);
        return ld_err_hint(err, "use the driver 'overlay'");
    }
    if (s->is_usable)
        return 0;
    (void)ld_err_set(err, LD_E_UNSUPPORTED, "there can be no %s as a backing here: %s",
                     ld_backing_name(kind), s->why.message);
    return ld_err_hint(err, "%s", s->why.hint);
}

/* ---- making, changing, dropping ---- */

static uint64_t add(uint64_t a, uint64_t b)
{
    uint64_t sum;

    return __builtin_add_overflow(a, b, &sum) ? UINT64_MAX : sum;
}

/* There is always a number of inodes: tmpfs takes no limit later that it was made without, and
 * without one empty files would fill the memory. */
static struct ld_tmpfs tmpfs_of(const struct ld_limits *limits)
{
    uint64_t inodes = limits->inodes;

    if (inodes == 0)
        inodes =
            limits->bytes / BYTES_A_FILE > MIN_INODES ? limits->bytes / BYTES_A_FILE : MIN_INODES;
    return (struct ld_tmpfs){
        .source = source, .size = limits->bytes, .inodes = add(inodes, OWN_INODES), .mode = 0700};
}

static int mount_at(struct ld_core *core, ld_sid sid, int tree)
{
    struct ld_sid_text name = ld_sid_name(sid);
    int r = mkdirat(core->root.backing_fd, name.text, 0700) < 0 && errno != EEXIST ? -errno : 0;

    return r < 0 ? r : ld_mount_put_at(tree, core->root.backing_fd, name.text);
}

int ld_backing_make(struct ld_core *core, enum ld_backing kind, ld_sid sid,
                    const struct ld_limits *limits, struct ld_err *err)
{
    struct ld_sid_text name = ld_sid_name(sid);
    struct ld_tmpfs tmpfs = tmpfs_of(limits);
    autoclose int dir = ld_make_dir(core->root.w_fd, name.text, 0700);
    autoclose int tree = dir < 0 ? -EBADF : ld_mount_tmpfs(&tmpfs);
    int r = dir < 0 ? dir : tree < 0 ? tree : mount_at(core, sid, tree);

    if (r == 0)
        return 0;
    (void)ld_err_sys(err, r, "make a %s for writable layer %s", ld_backing_name(kind), name.text);
    if (dir >= 0) {
        ld_backing_drop(core, sid);
        (void)!ld_remove_tree(core->root.w_fd, name.text, NULL); /* else the next start does it */
    }
    return -1;
}

int ld_backing_limit(struct ld_core *core, const struct ld_container *c,
                     const struct ld_limits *limits, struct ld_err *err)
{
    struct ld_tmpfs tmpfs = tmpfs_of(limits);
    autoclose int fd = open_root(&core->root, c->upper_sid);
    int r;

    if (limits->bytes == 0)
        return ld_err_set(err, LD_E_CONFLICT, "its %s has to have a size",
                          ld_backing_name(c->backing));
    r = fd < 0 ? fd : ld_mount_tmpfs_change(fd, &tmpfs);
    if (r == -EINVAL) {
        (void)ld_err_set(err, LD_E_CONFLICT, "it holds more than that");
        return ld_err_hint(err, "remove files from it first");
    }
    return r < 0 ? ld_err_sys(err, r, "change the size of its %s", ld_backing_name(c->backing)) : 0;
}

int ld_backing_used(struct ld_core *core, const struct ld_container *c, struct ld_limits *ret,
                    struct ld_err *err)
{
    autoclose int fd = open_root(&core->root, c->upper_sid);
    struct statvfs sv;
    uint64_t files;

    if (fd < 0 || fstatvfs(fd, &sv) < 0)
        return ld_err_sys(err, fd < 0 ? fd : -errno, "ask for the use of its %s",
                          ld_backing_name(c->backing));
    files = sv.f_files - sv.f_ffree;
    ret->bytes = (uint64_t)(sv.f_blocks - sv.f_bfree) * sv.f_frsize;
    ret->inodes = files < OWN_INODES ? 0 : files - OWN_INODES;
    return 0;
}

void ld_backing_drop(struct ld_core *core, ld_sid sid)
{
    struct ld_sid_text name = ld_sid_name(sid);
    int r = ld_umount_at(core->root.backing_fd, name.text, true);

    if (r < 0 && r != -ENOENT && r != -EINVAL) /* EINVAL: nothing is mounted there */
        ld_warn("unmount 'backing/%s': %s; the next start tries again", name.text,
                strerrordesc_np(-r));
    (void)unlinkat(core->root.backing_fd, name.text, AT_REMOVEDIR); /* likewise */
}

/* ---- the start ---- */

static int look_at(void *arg, const char *name, unsigned char d_type)
{
    struct ld_core *core = arg;
    ld_sid sid = ld_sid_of_name(name);
    enum ld_sid_owner owner = LD_SID_UNKNOWN;
    struct ld_err err = LD_ERR_INIT;

    (void)d_type;
    if (sid && ld_store_sid_owner(core->store, sid, &owner, &err) < 0) {
        ld_warn("look up 'backing/%s': %s, ignoring", name, err.message);
        return 0;
    }
    if (sid && owner != LD_SID_CONTAINER)
        ld_backing_drop(core, sid);
    return 0;
}

void ld_backings_recover(struct ld_core *core)
{
    (void)!ld_each_name(core->root.backing_fd, look_at, core); /* never fails the start */
}
