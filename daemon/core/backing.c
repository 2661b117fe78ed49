/* Backing file systems: see backing.h. */
#include "daemon/core/backing.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "daemon/base/ext4_image.h"
#include "daemon/base/fdio.h"
#include "daemon/base/log.h"
#include "daemon/base/mem.h"
#include "daemon/base/mountapi.h"
#include "daemon/core/damage.h"
#include "daemon/core/state.h"

enum {
    OWN_INODES = 8, /* of the root, the layer and what overlay makes in its work directory */
    EXT4_RESERVED_INODES = 10,
    MIN_INODES = 1024,         /* when no limit is asked for */
    TMPFS_BYTES_A_FILE = 4096, /* likewise: an empty file takes memory, but nothing of the size */
    EXT4_BYTES_A_FILE = 16384, /* likewise: mke2fs's own */
};

static const char source[] = "layerd-backing", image[] = "image";

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

/* ---- the kinds ---- */

static uint64_t add(uint64_t a, uint64_t b)
{
    uint64_t sum;

    return __builtin_add_overflow(a, b, &sum) ? UINT64_MAX : sum;
}

static uint64_t inodes_of(const struct ld_limits *limits, uint64_t bytes_a_file)
{
    uint64_t inodes = limits->bytes / bytes_a_file;

    if (limits->inodes)
        return add(limits->inodes, OWN_INODES);
    return add(inodes > MIN_INODES ? inodes : MIN_INODES, OWN_INODES);
}

/* There is always a number of inodes: tmpfs takes no limit later that it was made without, and
 * without one empty files would fill the memory. */
static struct ld_tmpfs tmpfs_of(const struct ld_limits *limits)
{
    return (struct ld_tmpfs){.source = source,
                             .size = limits->bytes,
                             .inodes = inodes_of(limits, TMPFS_BYTES_A_FILE),
                             .mode = 0700};
}

static int make_tmpfs(int dir, const struct ld_limits *limits)
{
    struct ld_tmpfs tmpfs = tmpfs_of(limits);

    (void)dir;
    return ld_mount_tmpfs(&tmpfs);
}

static int change_tmpfs(int root, const struct ld_limits *limits)
{
    struct ld_tmpfs tmpfs = tmpfs_of(limits);

    return ld_mount_tmpfs_change(root, &tmpfs);
}

static int make_ext4(int dir, const struct ld_limits *limits)
{
    uint64_t inodes = add(inodes_of(limits, EXT4_BYTES_A_FILE), EXT4_RESERVED_INODES);
    autoclose int file = openat(dir, image, O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0600);
    int r = file < 0 ? -errno : ld_ext4_format(file, limits->bytes, inodes);

    return r < 0 ? r : ld_ext4_mount(file);
}

static const struct kind {
    /* A detached mount, or -errno; dir is w/SID. */
    int (*make)(int dir, const struct ld_limits *limits);
    /* NULL: it keeps the size it was made with. -EINVAL: more is in it. */
    int (*change)(int root, const struct ld_limits *limits);
    uint64_t own_inodes; /* those that are there when nobody has written anything */
    const char *hint;    /* what it needs */
} kinds[LD_BACKING_END] = {
    [LD_BACKING_TMPFS] = {.make = make_tmpfs, .change = change_tmpfs, .own_inodes = OWN_INODES},
    [LD_BACKING_EXT4] = {.make = make_ext4,
                         .own_inodes = OWN_INODES + EXT4_RESERVED_INODES,
                         .hint = "it needs loop devices (modprobe loop) that the daemon may open, "
                                 "and ext4 in the kernel"},
};

/* ---- which can be used ---- */

/* Beside the writable layers: no sid is called so. */
static const char trial[] = "probe-backing";

static int try_kind(struct ld_core *core, const struct kind *kind)
{
    const struct ld_limits limits = {.bytes = 1 << 20, .inodes = 16};
    autoclose int dir = -EBADF, tree = -EBADF;
    int r = ld_remove_tree(core->root.w_fd, trial, NULL);

    if (r < 0)
        return r;
    dir = ld_make_dir(core->root.w_fd, trial, 0700);
    if (dir < 0)
        return dir;
    tree = kind->make(dir, &limits);
    r = ld_remove_tree(core->root.w_fd, trial, NULL);
    return tree < 0 ? tree : r;
}

void ld_backings_probe(struct ld_core *core)
{
    for (int i = LD_BACKING_NONE + 1; i < LD_BACKING_END; i++) {
        struct ld_backing_status *s = &core->backing[i];
        int r = try_kind(core, &kinds[i]);

        s->is_usable = r == 0;
        if (r < 0) {
            (void)ld_err_sys(&s->why, r, "make one on trial");
            (void)ld_err_hint(&s->why, "%s", kinds[i].hint ? kinds[i].hint : "");
            ld_debug("no %s as a backing: %s", ld_backing_name((enum ld_backing)i), s->why.message);
        }
    }
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
    autoclose int dir = ld_make_dir(core->root.w_fd, name.text, 0700);
    autoclose int tree = dir < 0 ? -EBADF : kinds[kind].make(dir, limits);
    int r = dir < 0 ? dir : tree < 0 ? tree : mount_at(core, sid, tree);

    if (r == 0)
        return 0;
    if (r == -EFBIG)
        (void)ld_err_set(err, LD_E_INVALID, "no %s is that large", ld_backing_name(kind));
    else
        (void)ld_err_sys(err, r, "make the %s of writable layer %s", ld_backing_name(kind),
                         name.text);
    if (dir >= 0) {
        ld_backing_drop(core, sid);
        (void)!ld_remove_tree(core->root.w_fd, name.text, NULL); /* else the next start does it */
    }
    return -1;
}

static bool is_same(const struct ld_limits *a, const struct ld_limits *b)
{
    return a->bytes == b->bytes && a->inodes == b->inodes;
}

int ld_backing_limit(struct ld_core *core, const struct ld_container *c,
                     const struct ld_limits *limits, struct ld_err *err)
{
    const struct kind *kind = &kinds[c->backing];
    autoclose int root = -EBADF;
    int r;

    if (limits->bytes == 0)
        return ld_err_set(err, LD_E_CONFLICT, "its %s has to have a size",
                          ld_backing_name(c->backing));
    if (!kind->change && is_same(limits, &c->limits))
        return 0;
    if (!kind->change) {
        (void)ld_err_set(err, LD_E_CONFLICT, "its %s keeps the size it was made with",
                         ld_backing_name(c->backing));
        return ld_err_hint(err, "make another one of that size: commit it, and create from that");
    }
    root = open_root(&core->root, c->upper_sid);
    r = root < 0 ? root : kind->change(root, limits);
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
    uint64_t files, own = kinds[c->backing].own_inodes;
    struct statvfs sv;

    if (fd < 0 || fstatvfs(fd, &sv) < 0)
        return ld_err_sys(err, fd < 0 ? fd : -errno, "ask for the use of its %s",
                          ld_backing_name(c->backing));
    files = sv.f_files - sv.f_ffree;
    ret->bytes = (uint64_t)(sv.f_blocks - sv.f_bfree) * sv.f_frsize;
    ret->inodes = files > own ? files - own : 0;
    return 0;
}

/* Unless somebody still has it, what he wrote needs no place any more. */
static void abandon(struct ld_core *core, ld_sid sid)
{
    struct ld_driver_env env = ld_backing_env(&core->root, &core->env, sid);
    struct ld_writable w = {.sid = sid};
    struct ld_err ignored = LD_ERR_INIT;
    struct statfs fs;
    bool held = true;

    if (env.w_fd < 0)
        return;
    if (fstatfs(env.w_fd, &fs) == 0 && fs.f_type == EXT4_SUPER_MAGIC &&
        ld_mounts_let_go(core->mounts, sid) &&
        ld_driver_overlay.in_use(&env, &w, &held, &ignored) == 0 && !held)
        ld_ext4_abandon(env.w_fd);
    ld_close(env.w_fd);
}

void ld_backing_drop(struct ld_core *core, ld_sid sid)
{
    struct ld_sid_text name = ld_sid_name(sid);
    int r;

    abandon(core, sid);
    r = ld_umount_at(core->root.backing_fd, name.text, true);
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
