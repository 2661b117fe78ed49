/* Driver overlay: the kernel's overlay file system, mounted by mount(2) from short relative names.
 *
 * A writable layer is w/SID/{upper,work}. Layers and upper are named relative to the directory
 * `layers` (400 layers fit the one page of options), so a mount is made by a thread whose working
 * directory is its own: CLONE_FS is unshared once per thread, and the old directory is entered
 * again. A w that is not the neighbour of layers is named by its descriptor, which is as short.
 *
 * The options are never left to the kernel's defaults: an upper written with index or metacopy is
 * wrong as a layer, and redirects (which redirect_dir=off still follows) lead out of one. Sources:
 * Documentation/filesystems/overlayfs.rst, and what the conformance suite asserts on each mark.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "daemon/base/buf.h"
#include "daemon/base/mem.h"
#include "drivers/common.h"
#include "drivers/overlay.h"

enum {
    OPTIONS_MAX = 4095, /* mount(2) takes one page, NUL included */
    NAME_MAX_OURS = 64, /* "probe-" and a sid, and the like */
};

static const char options_everywhere[] =
    "index=off,metacopy=off,redirect_dir=nofollow,xino=off,nfs_export=off";

/* What a worker has found out about itself and the kernel. Per thread, since nothing else may be
 * shared without a lock, and both cost one failed call at most. */
static _Thread_local struct {
    bool has_own_cwd;
    bool lacks_uuid_null; /* older than 6.6: each try would be a line in the kernel's log */
} self;

/* One overlay to mount; names relative to the directory `layers`. */
struct overlay {
    const char *lower; /* "3:2:1" */
    const char *upper; /* NULL: none, and no work */
    const char *work;
    const char *target; /* below the stage */
    const char *source;
    unsigned flags; /* enum ld_mount_flags */
};

static int build_options(const struct overlay *o, bool uuid_null, struct ld_buf *ret)
{
    ld_buf_clear(ret);
    ld_buf_addf(ret, "lowerdir=%s,", o->lower);
    if (o->upper)
        ld_buf_addf(ret, "upperdir=%s,workdir=%s,", o->upper, o->work);
    ld_buf_addf(ret, "%s%s%s", options_everywhere, uuid_null ? ",uuid=null" : "",
                o->flags & LD_MOUNT_VOLATILE ? ",volatile" : "");
    return ld_buf_check(ret);
}

/* In the working directory `layers`. */
static int mount_here(const struct overlay *o, const char *target, struct ld_err *err)
{
    autobuf struct ld_buf options = LD_BUF_INIT(OPTIONS_MAX);
    unsigned long flags = o->flags & LD_MOUNT_RDONLY ? MS_RDONLY : 0;
    int r = -EINVAL;

    if (build_options(o, true, &options) < 0)
        return ld_err_set(err, LD_E_UNSUPPORTED,
                          "the names of the layers below '%s' do not fit the %d bytes of a mount's "
                          "options",
                          o->target, OPTIONS_MAX);
    if (!self.lacks_uuid_null)
        r = mount(o->source, target, "overlay", flags, options.data) < 0 ? -errno : 0;
    if (r == -EINVAL) {
        (void)build_options(o, false, &options); /* shorter than what did fit */
        r = mount(o->source, target, "overlay", flags, options.data) < 0 ? -errno : 0;
        self.lacks_uuid_null = self.lacks_uuid_null || r == 0;
    }
    return r < 0 ? ld_err_sys(err, r, "mount an overlay of '%s'", o->target) : 0;
}

/* The kernel falls back to read-only in silence when the work directory is of no use to it. */
static int check_writable(const char *target, struct ld_err *err)
{
    autoclose int fd = open(target, O_PATH | O_DIRECTORY | O_CLOEXEC);
    struct statvfs sv;

    if (fd < 0 || fstatvfs(fd, &sv) < 0)
        return ld_err_sys(err, -errno, "look at the new mount");
    if (sv.f_flag & ST_RDONLY)
        return ld_err_set(err, LD_E_IO, "the kernel mounted the overlay read-only unasked");
    return 0;
}

static int mount_overlay(const struct ld_driver_env *env, const struct overlay *o,
                         struct ld_err *err)
{
    autoclose int here = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
    struct ld_fd_path stage = ld_fd_path(env->stage_fd);
    char target[sizeof(stage.path) + 1 + NAME_MAX_OURS];
    int len = snprintf(target, sizeof(target), "%s/%s", stage.path, o->target);
    int rc;

    if (len < 0 || (size_t)len >= sizeof(target))
        return ld_err_set(err, LD_E_INTERNAL, "stage name '%s' is too long", o->target);
    if (!self.has_own_cwd && unshare(CLONE_FS) < 0)
        return ld_err_sys(err, -errno, "get a working directory of its own");
    self.has_own_cwd = true;
    if (here < 0 || fchdir(env->layers_fd) < 0)
        return ld_err_sys(err, -errno, "enter the directory of layers");
    rc = mount_here(o, target, err);
    if (fchdir(here) < 0 && rc == 0)
        rc = ld_err_sys(err, -errno, "return to the working directory");
    else if (rc == 0 && !(o->flags & LD_MOUNT_RDONLY))
        rc = check_writable(target, err);
    else
        return rc;
    if (rc < 0)
        (void)umount2(target, MNT_DETACH); /* the error that led here is what counts */
    return rc;
}

/* ---- the probe for holders ---- */

static void drop_scratch(const struct ld_driver_env *env, const char *u, const char *w)
{
    ld_driver_discard(env->stage_fd, u);
    ld_driver_discard(env->stage_fd, w);
}

static int set(int fs, const char *key, const char *value)
{
    return fsconfig(fs, FSCONFIG_SET_STRING, key, value, 0) < 0 ? -errno : 0;
}

/* Only the create step of an overlay with that upper as its lower: with index=on the kernel refuses
 * what another overlay has in use. Returns 0, -EBUSY, -errno. */
static int create_throw_away(const char *lower, const char *upper, const char *work)
{
    autoclose int fs = fsopen("overlay", FSOPEN_CLOEXEC);
    int r;

    if (fs < 0)
        return -errno;
    r = set(fs, "index", "on");
    r = r ? r : set(fs, "lowerdir", lower);
    r = r ? r : set(fs, "upperdir", upper);
    r = r ? r : set(fs, "workdir", work);
    if (r == 0 && fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
        r = -errno;
    return r;
}

/* Scratch lies at the stage, a tmpfs: a dying overlay syncs its upper's file system. It is new each
 * time: index=on writes the lower's identity into it, and a second user of it would be EBUSY. */
static int probe_upper(const struct ld_driver_env *env, const char *layer, bool *ret_held)
{
    struct ld_fd_path w = ld_fd_path(env->w_fd), stage = ld_fd_path(env->stage_fd);
    autofree char *lower = ld_asprintf("%s/%s/upper", w.path, layer);
    autofree char *u = ld_asprintf("probe-%s-u", layer), *k = ld_asprintf("probe-%s-w", layer);
    autofree char *upper = ld_asprintf("%s/%s", stage.path, u);
    autofree char *work = ld_asprintf("%s/%s", stage.path, k);
    int r;

    drop_scratch(env, u, k);
    if (mkdirat(env->stage_fd, u, 0700) < 0 || mkdirat(env->stage_fd, k, 0700) < 0)
        r = -errno;
    else
        r = create_throw_away(lower, upper, work);
    drop_scratch(env, u, k);
    if (r == 0 || r == -EBUSY)
        *ret_held = r == -EBUSY;
    return r == -EBUSY ? 0 : r;
}

static int overlay_in_use(const struct ld_driver_env *env, const struct ld_writable *w,
                          bool *ret_held, struct ld_err *err)
{
    int r = probe_upper(env, ld_sid_name(w->sid).text, ret_held);

    return r < 0 ? ld_err_sys(err, r, "ask who holds writable layer %" LD_PRI_SID, w->sid) : 0;
}

/* ---- create and mount ---- */

/* Overlay shows the upper's own root as the container's "/": it gets what the chain shows there. */
static int dress_root(const struct ld_driver_env *env, const struct ld_writable *w, int upper,
                      struct ld_err *err)
{
    LD_AUTO(ld_chain_close) struct ld_open_chain chain = {.fd = NULL};
    LD_AUTO(ld_found_done) struct ld_found root = LD_FOUND_INIT;
    int r;

    if (ld_chain_open(env, &w->chain, &chain, err) < 0)
        return -1;
    r = ld_tree_lookup(&chain.layers, "/", &root, err);
    if (r <= 0)
        return r < 0 ? -1 : ld_err_set(err, LD_E_INTERNAL, "a chain without a root");
    return ld_node_copy_attrs(&root.node, upper, LD_FORM_LAYER, err);
}

static int overlay_create(const struct ld_driver_env *env, struct ld_writable *w,
                          const bool *cancel, struct ld_err *err)
{
    autoclose int upper = -EBADF;

    (void)cancel; /* it takes no time */
    if (ld_overlay_make(env, w, &upper, err) < 0)
        return -1;
    if (dress_root(env, w, upper, err) < 0 ||
        ld_driver_limit_new(env, w, &ld_overlay_base, err) < 0) {
        ld_driver_discard(env->w_fd, ld_sid_name(w->sid).text);
        return -1;
    }
    w->state = (struct ld_driver_state){.text = ""};
    return 0;
}

/* A volatile mount leaves a mark that keeps every later one away, since after a crash the upper
 * may be torn. Ours live within one boot, so whoever mounts again has lost nothing. */
static int forget_volatile(const struct ld_driver_env *env, const char *layer)
{
    autofree char *path = ld_asprintf("%s/work/work", layer);
    autoclose int work = ld_tree_open_path(env->w_fd, path, O_RDONLY | O_DIRECTORY);

    if (work < 0)
        return work == -ENOENT ? 0 : work;
    return ld_remove_tree(work, "incompat", NULL);
}

/* Are layers and w neighbours of these names? */
static bool is_laid_out(const struct ld_driver_env *env)
{
    struct stat a, b;

    return fstatat(env->layers_fd, "../w", &a, AT_SYMLINK_NOFOLLOW) == 0 &&
           fstat(env->w_fd, &b) == 0 && a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

static int overlay_mount(const struct ld_driver_env *env, const struct ld_writable *w,
                         unsigned flags, struct ld_err *err)
{
    struct ld_sid_text name = ld_sid_name(w->sid);
    autobuf struct ld_buf lower = LD_BUF_INIT(OPTIONS_MAX);
    struct ld_fd_path apart = ld_fd_path(env->w_fd);
    const char *dir = is_laid_out(env) ? "../w" : apart.path;
    autofree char *upper = ld_asprintf("%s/%s/upper", dir, name.text);
    autofree char *work = ld_asprintf("%s/%s/work", dir, name.text);
    autofree char *source = ld_asprintf("layerd:%s:%s", env->instance, name.text);
    struct overlay o = {
        .upper = upper, .work = work, .target = name.text, .source = source, .flags = flags};

    if (w->chain.n > LD_MAX_LAYERS)
        return ld_err_set(err, LD_E_UNSUPPORTED, "a chain of %zu layers is longer than %d",
                          w->chain.n, LD_MAX_LAYERS);
    for (size_t i = 0; i < w->chain.n; i++)
        ld_buf_addf(&lower, "%s%s", i ? ":" : "", ld_sid_name(w->chain.sid[i]).text);
    if (w->chain.n == 0)
        ld_buf_addc(&lower, '0');
    if (flags & LD_MOUNT_VOLATILE) {
        int r = forget_volatile(env, name.text);

        if (r < 0)
            return ld_err_sys(err, r, "clear the volatile mark of writable layer %s", name.text);
    }
    o.lower = ld_buf_str(&lower); /* cut: then the options do not fit either */
    return mount_overlay(env, &o, err);
}

static int overlay_mount_chain(const struct ld_driver_env *env, const struct ld_chain *chain,
                               const char *name, struct ld_err *err)
{
    autobuf struct ld_buf lower = LD_BUF_INIT(OPTIONS_MAX);
    autofree char *source = ld_asprintf("layerd:%s:%s", env->instance, name);
    struct overlay o = {.target = name, .source = source, .flags = LD_MOUNT_RDONLY};

    if (chain->n > LD_MAX_LAYERS)
        return ld_err_set(err, LD_E_UNSUPPORTED, "a chain of %zu layers is longer than %d",
                          chain->n, LD_MAX_LAYERS);
    for (size_t i = 0; i < chain->n; i++)
        ld_buf_addf(&lower, "%s%s", i ? ":" : "", ld_sid_name(chain->sid[i]).text);
    if (chain->n == 1)
        ld_buf_adds(&lower, ":0"); /* without an upper the kernel wants two */
    o.lower = ld_buf_str(&lower);
    return mount_overlay(env, &o, err);
}

/* ---- changes, usage ---- */

static int overlay_open_upper(const struct ld_driver_env *env, ld_sid sid)
{
    autofree char *path = ld_asprintf("%s/upper", ld_sid_name(sid).text);

    return ld_tree_open_path(env->w_fd, path, O_PATH | O_DIRECTORY);
}

static int overlay_changes(const struct ld_driver_env *env, const struct ld_writable *w,
                           ld_change_fn sink, void *arg, struct ld_err *err)
{
    LD_AUTO(ld_chain_close) struct ld_open_chain chain = {.fd = NULL};
    autofree int *own = ld_alloc0((w->n_own + 1) * sizeof(*own));
    autoclose int upper = overlay_open_upper(env, w->sid);
    struct ld_diff diff = {.now_is_upper = true};

    if (upper < 0)
        return ld_err_sys(err, upper, "open writable layer %" LD_PRI_SID, w->sid);
    if (ld_chain_open(env, &w->chain, &chain, err) < 0)
        return -1;
    own[0] = upper;
    for (size_t i = 0; i < w->n_own; i++)
        own[i + 1] = chain.fd[i];
    diff.now = (struct ld_layers){.root = own, .n = w->n_own + 1, .form = LD_FORM_LAYER};
    diff.before = ld_layers_below(&chain.layers, w->n_own);
    return ld_diff_walk(&diff, sink, arg, err);
}

static int overlay_open(const struct ld_driver_env *env, const struct ld_writable *w,
                        enum ld_form *ret_form)
{
    autoclose int dir = ld_open_dir(env->w_fd, ld_sid_name(w->sid).text);
    int fd = dir < 0 ? dir : ld_open_dir(dir, "upper");

    if (fd >= 0)
        *ret_form = LD_FORM_LAYER;
    return fd;
}

static int overlay_usage(const struct ld_driver_env *env, const struct ld_writable *w,
                         struct ld_usage *ret, struct ld_err *err)
{
    int r = ld_quota_usage(&env->quota, env->w_fd, ld_sid_name(w->sid).text, w->sid, NULL, ret);

    return r < 0 ? ld_err_sys(err, r, "count writable layer %" LD_PRI_SID, w->sid) : 0;
}

static int overlay_limit(const struct ld_driver_env *env, const struct ld_writable *w,
                         struct ld_err *err)
{
    return ld_driver_limit(env, w, &ld_overlay_base, err);
}

static int overlay_used(const struct ld_driver_env *env, const struct ld_writable *w,
                        struct ld_limits *ret, struct ld_err *err)
{
    return ld_driver_used(env, w, &ld_overlay_base, ret, err);
}

/* ---- is it usable here? ---- */

static const char probe_name[] = "probe"; /* w/probe, stage/probe: no sid is called so */

/* w/probe/{lower/{file,dir/},upper,work} and stage/probe. */
static int make_probe(const struct ld_driver_env *env, int *ret_dir)
{
    autoclose int dir = ld_make_dir(env->w_fd, probe_name, 0700);
    autoclose int lower = -EBADF, file = -EBADF;

    if (dir < 0)
        return dir;
    lower = ld_make_dir(dir, "lower", 0755);
    if (lower < 0)
        return lower;
    file = openat(lower, "file", O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    if (file < 0 || mkdirat(lower, "dir", 0755) < 0 || mkdirat(dir, "upper", 0755) < 0 ||
        mkdirat(dir, "work", 0700) < 0 || mkdirat(env->stage_fd, probe_name, 0700) < 0)
        return -errno;
    *ret_dir = ld_steal_fd(&dir);
    return 0;
}

/* In the mounted overlay: delete a file, replace a directory. In the upper: whiteout and opaque
 * mark. */
static int try_marks(const struct ld_driver_env *env, int dir, struct ld_err *err)
{
    autoclose int top = ld_open_dir(env->stage_fd, probe_name);
    autoclose int replaced = -EBADF;
    struct stat st;
    char mark = '\0';
    int r;

    if (top < 0)
        return ld_err_sys(err, top, "open the trial overlay");
    if (unlinkat(top, "file", 0) < 0 || unlinkat(top, "dir", AT_REMOVEDIR) < 0 ||
        mkdirat(top, "dir", 0755) < 0)
        return ld_err_sys(err, -errno, "change the trial overlay");
    if (fstatat(dir, "upper/file", &st, AT_SYMLINK_NOFOLLOW) < 0)
        return ld_err_sys(err, -errno, "find the trial overlay's whiteout");
    replaced = ld_tree_open_path(dir, "upper/dir", O_PATH | O_DIRECTORY);
    r = replaced < 0 ? replaced : ld_mark_get_opaque(replaced, &mark);
    if (r < 0)
        return ld_err_sys(err, r, "read the trial overlay's opaque mark");
    if (!ld_mark_is_whiteout(&st) || mark != 'y')
        return ld_err_set(err, LD_E_UNSUPPORTED,
                          "this kernel's overlay does not mark deletions as 0:0 devices and "
                          "trusted.overlay.opaque");
    return 0;
}

static int try_mount(const struct ld_driver_env *env, int dir, struct ld_err *err)
{
    struct overlay o = {.lower = "../w/probe/lower",
                        .upper = "../w/probe/upper",
                        .work = "../w/probe/work",
                        .target = probe_name,
                        .source = "layerd-probe",
                        .flags = LD_MOUNT_VOLATILE}; /* its end must not sync the disk */
    struct ld_fd_path stage = ld_fd_path(env->stage_fd);
    autofree char *target = ld_asprintf("%s/%s", stage.path, probe_name);
    bool held = false;
    int rc, r;

    if (mount_overlay(env, &o, err) < 0)
        return -1;
    rc = try_marks(env, dir, err);
    r = rc < 0 ? 0 : probe_upper(env, probe_name, &held);
    if (rc == 0 && r == 0 && !held)
        rc = ld_err_set(err, LD_E_UNSUPPORTED, "this kernel does not tell that an overlay is held");
    if (umount2(target, UMOUNT_NOFOLLOW) < 0 && rc == 0 && r == 0)
        r = -errno;
    if (rc == 0 && r == 0)
        r = probe_upper(env, probe_name, &held);
    if (rc == 0 && r == 0 && held)
        rc = ld_err_set(err, LD_E_UNSUPPORTED, "a trial overlay is still held after its unmount");
    return r < 0 ? ld_err_sys(err, r, "try the probe for holders") : rc;
}

static int overlay_probe(const struct ld_driver_env *env, unsigned *ret_flags, struct ld_err *err)
{
    autoclose int dir = -EBADF;
    int r, rc;

    if (!is_laid_out(env))
        return ld_err_set(err, LD_E_INTERNAL, "'w' is not beside 'layers'");
    ld_driver_discard(env->w_fd, probe_name);
    (void)unlinkat(env->stage_fd, probe_name, AT_REMOVEDIR);
    r = make_probe(env, &dir);
    rc = r < 0 ? ld_err_sys(err, r, "prepare a trial overlay") : try_mount(env, dir, err);
    (void)unlinkat(env->stage_fd, probe_name, AT_REMOVEDIR);
    r = ld_remove_tree(env->w_fd, probe_name, NULL);
    if (rc < 0)
        return ld_err_hint(err, "overlay needs root, Linux 6.1 or later, and a file system with "
                                "trusted xattrs and d_type (ext4, xfs, btrfs)");
    if (r < 0)
        return ld_err_sys(err, r, "remove the trial overlay");
    *ret_flags = LD_DRIVER_UPPER_IS_LAYER;
    return 0;
}

const struct ld_driver ld_driver_overlay = {
    .name = "overlay",
    .probe = overlay_probe,
    .create = overlay_create,
    .mount = overlay_mount,
    .mount_chain = overlay_mount_chain,
    .in_use = overlay_in_use,
    .changes = overlay_changes,
    .open = overlay_open,
    .is_clean = ld_overlay_is_clean,
    .succeed = ld_overlay_succeed,
    .seal = ld_overlay_seal,
    .limit = overlay_limit,
    .used = overlay_used,
    .usage = overlay_usage,
};
