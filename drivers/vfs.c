/* Driver vfs: works on any file system, by a private copy of the whole chain (reflinked where
 * possible).
 *
 * A writable layer is w/SID/{root,inodes}. `inodes` holds the inode number of each entry of the
 * fresh copy, in the order of a walk (which is the order of a walk of the chain: both show the same
 * tree). Together with the *ctime window* it makes `changes` exact at the price of one lstat per
 * file:
 *
 *   T0 = the time before the copy began (less what a coarse clock may lag), T1 = the time after it
 * ended; the copy is handed out once the coarse clock, which stamps inodes, has passed T1. So an
 * inode whose ctime lies in [T0, T1] was last touched by the copy itself; nothing can set a ctime
 * back but a clock that is. An inode with such a ctime that is still found at its place was not
 * changed, and is not compared.
 *
 * The place counts because a rename is not always a change of the inode: xfs leaves the ctime of
 * two files alone that are exchanged in one directory, and what lies in a moved directory is never
 * touched.
 *
 * A window or list that can't be had (a damaged record, a clock that jumped) makes `changes`
 * compare all: slower, still exact. No state, any thread.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/base/mem.h"
#include "daemon/base/parse.h"
#include "drivers/common.h"

enum {
    COARSE_LAG_MS = 20, /* two ticks of the slowest kernel */
    WAIT_MS = 1000,
    INODES_MAX = 1 << 30, /* bytes of the list */
};

static const uint64_t ns_per_s = 1000000000;

struct window {
    uint64_t from, to; /* nanoseconds since 1970; from > to: nothing lies inside */
};

/* What is kept of the copy, as four numbers. */
struct state {
    struct window window;
    struct ld_limits copied; /* limits are for what comes beyond it */
};

static uint64_t now_ns(clockid_t clock)
{
    struct timespec t;

    (void)clock_gettime(clock, &t); /* cannot fail for these clocks */
    return (uint64_t)t.tv_sec * ns_per_s + (uint64_t)t.tv_nsec;
}

/* Waits until no new ctime can lie inside. A clock set back meanwhile: there is no window. */
static void wait_past(struct window *window)
{
    struct timespec pause = {.tv_nsec = 500000};
    uint64_t until = now_ns(CLOCK_MONOTONIC) + WAIT_MS * (ns_per_s / 1000);

    while (now_ns(CLOCK_REALTIME_COARSE) <= window->to) {
        if (now_ns(CLOCK_MONOTONIC) > until) {
            *window = (struct window){.from = 1, .to = 0};
            return;
        }
        (void)nanosleep(&pause, NULL); /* a tick is 1 to 10 ms */
    }
}

static void write_state(const struct state *s, struct ld_driver_state *ret)
{
    (void)snprintf(ret->text, sizeof(ret->text), "%" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64,
                   s->window.from, s->window.to, s->copied.bytes,
                   s->copied.inodes); /* 83 bytes at most */
}

/* An older version wrote the first two. */
static struct state read_state(const struct ld_driver_state *state)
{
    static const struct state none = {.window = {.from = 1, .to = 0}};
    struct state s = none;
    uint64_t *const number[] = {&s.window.from, &s.window.to, &s.copied.bytes, &s.copied.inodes};
    char text[sizeof(state->text)];
    char *rest = text, *word;
    size_t n = 0;

    memcpy(text, state->text, sizeof(text));
    text[sizeof(text) - 1] = '\0';
    for (; n < LD_ARRAY_LEN(number) && (word = strsep(&rest, " ")); n++) {
        if (ld_parse_u64(word, 0, UINT64_MAX, number[n]) < 0)
            return none;
    }
    return n == 2 || n == 4 ? s : none;
}

/* ---- the list of inodes ---- */

static int write_inodes(int dir, int root, const bool *cancel, struct ld_err *err)
{
    const struct ld_layers copy = {.root = &root, .n = 1, .form = LD_FORM_PLAIN};
    LD_AUTO(ld_tree_free_p)
    struct ld_tree *t = ld_tree_new(&copy, LD_TREE_NO_LEAVE, cancel);
    autoclose int fd = openat(dir, "inodes", O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600);
    autofree uint64_t *inode = ld_alloc0(4096 * sizeof(*inode));
    struct ld_node node;
    size_t n = 0;
    int more = 1, r = fd < 0 ? -errno : 0;

    while (r == 0 && more > 0) {
        more = ld_tree_next(t, &node, err);
        if (more < 0)
            return -1;
        if (more > 0)
            inode[n++] = node.st.st_ino;
        if (n == 4096 || (more == 0 && n > 0)) {
            r = ld_write_full(fd, inode, n * sizeof(*inode));
            n = 0;
        }
    }
    return r < 0 ? ld_err_sys(err, r, "write the list of inodes") : 0;
}

/* *ret_n 0: there is no (whole) list. */
static int read_inodes(int dir, uint64_t **ret, size_t *ret_n)
{
    autoclose int fd = openat(dir, "inodes", O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    autofree uint64_t *inode = NULL;
    struct stat st;
    int r;

    *ret_n = 0;
    if (fd < 0 && errno == ENOENT)
        return 0;
    if (fd < 0 || fstat(fd, &st) < 0)
        return -errno;
    inode = ld_try_alloc((size_t)st.st_size, INODES_MAX);
    if (!inode)
        return errno == E2BIG ? 0 : -errno;
    r = ld_read_full(fd, inode, (size_t)st.st_size);
    if (r < 0)
        return r;
    *ret = ld_steal(&inode);
    *ret_n = (size_t)st.st_size / sizeof(**ret);
    return 0;
}

/* ---- the operations ---- */

static int copy_chain(const struct ld_driver_env *env, const struct ld_writable *w, int dir,
                      const bool *cancel, struct window *ret, struct ld_err *err)
{
    LD_AUTO(ld_chain_close) struct ld_open_chain chain = {.fd = NULL};
    autoclose int root = ld_make_dir(dir, "root", 0700);
    struct window window;

    if (root < 0)
        return ld_err_sys(err, root, "make the root directory");
    if (ld_chain_open(env, &w->chain, &chain, err) < 0)
        return -1;
    window.from = now_ns(CLOCK_REALTIME) - COARSE_LAG_MS * (ns_per_s / 1000);
    if (ld_tree_copy(&chain.layers, root, LD_FORM_PLAIN, cancel, err) < 0)
        return -1;
    window.to = now_ns(CLOCK_REALTIME);
    if (write_inodes(dir, root, cancel, err) < 0)
        return -1;
    wait_past(&window);
    *ret = window;
    return 0;
}

/* What is not allocated yet is counted as reserved. Where nothing counts it now, nothing will. */
static int count_copy(const struct ld_driver_env *env, const struct ld_writable *w, int dir,
                      struct ld_limits *ret, struct ld_err *err)
{
    int r = ld_quota_settle(&env->quota, dir);

    if (r == 0)
        r = ld_quota_get(&env->quota, dir, w->sid, NULL, ret);
    return r < 0 && r != -EOPNOTSUPP ? ld_err_sys(err, r, "count what was copied") : 0;
}

static int vfs_create(const struct ld_driver_env *env, struct ld_writable *w, const bool *cancel,
                      struct ld_err *err)
{
    struct ld_sid_text name = ld_sid_name(w->sid);
    autoclose int dir = ld_driver_make(env, w);
    struct state s = {.window = {.from = 1, .to = 0}};

    if (dir < 0)
        return ld_err_sys(err, dir, "make writable layer %s", name.text);
    if (copy_chain(env, w, dir, cancel, &s.window, err) < 0 ||
        count_copy(env, w, dir, &s.copied, err) < 0 ||
        ld_driver_limit_new(env, w, &s.copied, err) < 0) {
        ld_driver_discard(env->w_fd, name.text);
        return ld_err_prefix(err, "copy the image into writable layer %s", name.text);
    }
    write_state(&s, &w->state);
    return 0;
}

static int vfs_limit(const struct ld_driver_env *env, const struct ld_writable *w,
                     struct ld_err *err)
{
    struct state s = read_state(&w->state);

    return ld_driver_limit(env, w, &s.copied, err);
}

static int vfs_used(const struct ld_driver_env *env, const struct ld_writable *w,
                    struct ld_limits *ret, struct ld_err *err)
{
    struct state s = read_state(&w->state);

    return ld_driver_used(env, w, &s.copied, ret, err);
}

/* A clone and not a bind: it never becomes a peer of the mount that holds the data root. */
static int vfs_mount(const struct ld_driver_env *env, const struct ld_writable *w, unsigned flags,
                     struct ld_err *err)
{
    struct ld_sid_text name = ld_sid_name(w->sid);
    autofree char *path = ld_asprintf("%s/root", name.text);
    struct mount_attr attr = {.attr_set = flags & LD_MOUNT_RDONLY ? MOUNT_ATTR_RDONLY : 0,
                              .propagation = MS_PRIVATE};
    autoclose int root = ld_tree_open_path(env->w_fd, path, O_PATH | O_DIRECTORY);
    autoclose int tree = -EBADF;

    if (root < 0)
        return ld_err_sys(err, root, "open writable layer %s", name.text);
    tree = open_tree(root, "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH);
    if (tree < 0 || mount_setattr(tree, "", AT_EMPTY_PATH, &attr, sizeof(attr)) < 0 ||
        move_mount(tree, "", env->stage_fd, name.text, MOVE_MOUNT_F_EMPTY_PATH) < 0)
        return ld_err_sys(err, -errno, "mount writable layer %s", name.text);
    return 0;
}

static int vfs_in_use(const struct ld_driver_env *env, const struct ld_writable *w, bool *ret_held,
                      struct ld_err *err)
{
    struct stat st;

    if (fstatat(env->w_fd, ld_sid_name(w->sid).text, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return ld_err_sys(err, -errno, "look at writable layer %" LD_PRI_SID, w->sid);
    *ret_held = false; /* it can't be seen, and two mounts of a plain tree do no harm */
    return 0;
}

static struct timespec to_timespec(uint64_t ns)
{
    return (struct timespec){.tv_sec = (time_t)(ns / ns_per_s), .tv_nsec = (long)(ns % ns_per_s)};
}

static int vfs_changes(const struct ld_driver_env *env, const struct ld_writable *w,
                       ld_change_fn sink, void *arg, struct ld_err *err)
{
    LD_AUTO(ld_chain_close) struct ld_open_chain chain = {.fd = NULL};
    struct window window = read_state(&w->state).window;
    autoclose int dir = ld_open_dir(env->w_fd, ld_sid_name(w->sid).text);
    autoclose int root = dir < 0 ? dir : ld_open_dir(dir, "root");
    autofree uint64_t *inode = NULL;
    struct ld_diff diff = {.from = to_timespec(window.from), .to = to_timespec(window.to)};
    int r = root < 0 ? root : read_inodes(dir, &inode, &diff.n_inode);

    if (r < 0)
        return ld_err_sys(err, r, "open writable layer %" LD_PRI_SID, w->sid);
    if (ld_chain_open(env, &w->chain, &chain, err) < 0)
        return -1;
    if (w->n_own > 0)
        diff.n_inode = 0; /* it tells what is as in the whole chain, which is not asked for */
    diff.now = (struct ld_layers){.root = &root, .n = 1, .form = LD_FORM_PLAIN};
    diff.before = ld_layers_below(&chain.layers, w->n_own);
    diff.inode = inode;
    return ld_diff_walk(&diff, sink, arg, err);
}

static int vfs_open(const struct ld_driver_env *env, const struct ld_writable *w,
                    enum ld_form *ret_form)
{
    autoclose int dir = ld_open_dir(env->w_fd, ld_sid_name(w->sid).text);
    int fd = dir < 0 ? dir : ld_open_dir(dir, "root");

    if (fd >= 0)
        *ret_form = LD_FORM_PLAIN;
    return fd;
}

static int vfs_usage(const struct ld_driver_env *env, const struct ld_writable *w,
                     struct ld_usage *ret, struct ld_err *err)
{
    int r = ld_quota_usage(&env->quota, env->w_fd, ld_sid_name(w->sid).text, w->sid, NULL, ret);

    return r < 0 ? ld_err_sys(err, r, "count writable layer %" LD_PRI_SID, w->sid) : 0;
}

/* Needs nothing but directories and the new mount calls: a clone is made and thrown away. */
static int vfs_probe(const struct ld_driver_env *env, unsigned *ret_flags, struct ld_err *err)
{
    autoclose int tree =
        open_tree(env->w_fd, "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH);

    if (tree < 0) {
        (void)ld_err_sys(err, -errno, "clone the mount of the data root");
        return ld_err_hint(err, "mounting needs root (CAP_SYS_ADMIN)");
    }
    *ret_flags = LD_DRIVER_COPIES;
    return 0;
}

const struct ld_driver ld_driver_vfs = {
    .name = "vfs",
    .probe = vfs_probe,
    .create = vfs_create,
    .mount = vfs_mount,
    .in_use = vfs_in_use,
    .changes = vfs_changes,
    .open = vfs_open,
    .limit = vfs_limit,
    .used = vfs_used,
    .usage = vfs_usage,
};
