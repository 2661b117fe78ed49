/* Settling a layer: see settle.h. Here the way through the layer, attributes of directories, sums;
 * marks are in settle_marks.c, links and late xattrs in settle_link.c.
 *
 * Several passes over untar's notes, each in bounded memory. Marks come first, for they decide what
 * of the layers below an implied directory may look at; attributes come last, when nothing in a
 * directory changes any more. Notes are applied in order and each sets all attributes, so what an
 * earlier one said of the same path is undone. Runs on any one thread.
 */
#include "daemon/image/settle.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/statvfs.h>
#include <sys/xattr.h>

#include "daemon/base/fdio.h"
#include "daemon/base/mem.h"
#include "daemon/image/settle_impl.h"

/* ---- errors ---- */

int ld_settle_refuse(struct ld_err *err, const char *path, const char *fmt, ...)
{
    char reason[320];
    va_list ap;

    va_start(ap, fmt);
    (void)vsnprintf(reason, sizeof(reason), fmt, ap); /* a cut reason is one still */
    va_end(ap);
    return ld_err_set(err, LD_E_BAD_CONTENT, "entry '%.160s': %s", path, reason);
}

int ld_settle_sys(struct ld_err *err, int neg_errno, const char *what, const char *path)
{
    return ld_err_sys(err, neg_errno, "%s '%.160s' of a layer", what, path);
}

int ld_settle_attr_error(struct ld_err *err, int neg_errno, int fd, const char *path)
{
    struct statvfs fs;

    switch (-neg_errno) {
    case ENOSPC: /* ext4 says so of xattrs that do not fit into their one block */
        if (fstatvfs(fd, &fs) < 0 || fs.f_bavail <= 16 || fs.f_favail == 0)
            break;
        /* fallthrough */
    case E2BIG:
    case ERANGE:
        return ld_settle_refuse(err, path, "its xattrs are too large to be stored");
    case EINVAL:
        return ld_settle_refuse(err, path, "one of its xattrs has no valid value");
    case EOPNOTSUPP:
        return ld_err_set(err, LD_E_UNSUPPORTED,
                          "entry '%.160s': the file system cannot store its xattrs", path);
    default:
        break;
    }
    return ld_settle_sys(err, neg_errno, "set the attributes of", path);
}

/* ---- going through the layer ---- */

/* Descriptors of lower directories that are kept, as long as one level does not need more. */
enum { MAX_FDS = 512 };

static void close_lower(struct ld_settle *s, struct ld_settle_level *l)
{
    s->open_fds -= l->below.layers.n;
    ld_subtree_done(&l->below);
    l->lower = LD_SETTLE_UNKNOWN;
}

void ld_settle_cut(struct ld_settle *s, size_t level)
{
    for (size_t i = ld_dirs_depth(s->dirs); i > level; i--)
        if (s->level[i].lower == LD_SETTLE_OPEN)
            close_lower(s, &s->level[i]);
    ld_dirs_cut(s->dirs, level);
}

static int read_mark(const struct ld_settle *s, int fd, char *ret_mark)
{
    char value;

    *ret_mark = LD_SETTLE_NO_MARK;
    if (!s->has_marks)
        return 0;
    if (fgetxattr(fd, LD_XATTR_OVERLAY "opaque", &value, 1) == 1)
        *ret_mark = value;
    else if (errno != ENODATA)
        return -errno;
    return 0;
}

/* Looks at the directory just entered. */
static int enter_level(struct ld_settle *s)
{
    size_t n = ld_dirs_depth(s->dirs);
    const struct ld_settle_level *above = &s->level[n - 1];
    struct ld_settle_level *l = &s->level[n];
    int r;

    *l = (struct ld_settle_level){.is_cut = above->is_alone};
    if (above->lower == LD_SETTLE_NONE)
        l->lower = LD_SETTLE_NONE;
    r = read_mark(s, ld_dirs_top(s->dirs), &l->mark);
    if (l->mark == LD_SETTLE_HIDDEN)
        l->is_cut = true;
    l->is_alone = l->is_cut || l->mark == LD_SETTLE_OPAQUE;
    return r;
}

int ld_settle_go(struct ld_settle *s, const char *path, size_t len, struct ld_err *err)
{
    size_t level = 0;

    for (const char *at = path, *end = path + len; at < end;) {
        const char *slash = memchr(at, '/', (size_t)(end - at));
        size_t n = slash ? (size_t)(slash - at) : (size_t)(end - at);

        if (!ld_dirs_is_next(s->dirs, level, at, n)) {
            int r;

            ld_settle_cut(s, level);
            r = ld_dirs_push(s->dirs, at, n);
            if (r == -ENOENT || r == -ENOTDIR)
                return 0;
            if (r == 0)
                r = enter_level(s);
            if (r < 0)
                return ld_settle_sys(err, r, "open", path);
        }
        level++;
        at += n + (slash != NULL);
    }
    ld_settle_cut(s, level);
    return 1;
}

int ld_settle_go_parent(struct ld_settle *s, const char *path, const char **ret_name,
                        struct ld_err *err)
{
    const char *slash = strrchr(path, '/');

    *ret_name = slash ? slash + 1 : path;
    return ld_settle_go(s, path, slash ? (size_t)(slash - path) : 0, err);
}

static const struct ld_layers *lower_of(const struct ld_settle *s, size_t level)
{
    return level == 0 ? &s->job->lower : &s->level[level].below.layers;
}

static char *name_of(const struct ld_settle *s, size_t level)
{
    size_t len;
    const char *name = ld_dirs_name(s->dirs, level, &len);

    return ld_strndup(name, len);
}

/* Gives up what is nearest to the root: the way goes on from the deepest. */
static void make_room(struct ld_settle *s, size_t level)
{
    for (size_t i = 1; i < level && s->open_fds + lower_of(s, level)->n > MAX_FDS; i++)
        if (s->level[i].lower == LD_SETTLE_OPEN)
            close_lower(s, &s->level[i]);
}

/* Opens the lower directory of a level from that of the one above. */
static int open_lower(struct ld_settle *s, size_t level, struct ld_err *err)
{
    struct ld_settle_level *l = &s->level[level];
    autofree char *name = name_of(s, level);
    int r = 0;

    if (s->level[level - 1].lower == LD_SETTLE_OPEN) {
        make_room(s, level - 1);
        r = ld_tree_enter(lower_of(s, level - 1), name, &l->below, err);
    }
    if (r < 0)
        return -1;
    l->lower = r ? LD_SETTLE_OPEN : LD_SETTLE_NONE;
    if (r)
        s->open_fds += l->below.layers.n;
    return 0;
}

int ld_settle_lower(struct ld_settle *s, size_t level, const char *name, struct ld_found *ret,
                    struct ld_err *err)
{
    size_t known = level;
    autofree char *own = NULL;

    while (s->level[known].lower == LD_SETTLE_UNKNOWN)
        known--;
    while (known < level)
        if (open_lower(s, ++known, err) < 0)
            return -1;
    if (s->level[level].lower == LD_SETTLE_NONE)
        return 0;
    if (!name) {
        own = name_of(s, level + 1);
        name = own;
    }
    return ld_tree_lookup(lower_of(s, level), name, ret, err);
}

/* ---- attributes of directories ---- */

/* What lies below at the directory that s->dirs stands in, as this layer's marks leave it. */
static int lower_of_top(struct ld_settle *s, struct ld_found *ret, struct ld_err *err)
{
    size_t depth = ld_dirs_depth(s->dirs);
    struct ld_settle_level *l = &s->level[depth];
    int r;

    if (l->is_cut || l->lower == LD_SETTLE_NONE)
        return 0;
    if (depth == 0)
        return ld_tree_lookup(&s->job->lower, "", ret, err);
    r = ld_settle_lower(s, depth - 1, NULL, ret, err);
    if (l->lower == LD_SETTLE_UNKNOWN && (r == 0 || (r > 0 && !S_ISDIR(ret->node.st.st_mode))))
        l->lower = LD_SETTLE_NONE;
    return r;
}

static int set_from_note(int fd, const struct ld_pending_note *note, struct ld_err *err)
{
    bool is_implied = note->kind == LD_NOTE_IMPLIED;
    struct timespec mtime = {.tv_sec = note->mtime_sec, .tv_nsec = note->mtime_nsec};
    struct stat st = {.st_mode = S_IFDIR | (is_implied ? 0755 : note->mode),
                      .st_uid = is_implied ? 0 : note->uid,
                      .st_gid = is_implied ? 0 : note->gid,
                      .st_atim = mtime,
                      .st_mtim = mtime};
    int r = ld_attrs_set(fd, LD_FORM_LAYER, &st, note->xattrs);

    return r < 0 ? ld_settle_attr_error(err, r, fd, note->path) : 0;
}

static int settle_dir(struct ld_settle *s, const struct ld_pending_note *note, struct ld_err *err)
{
    LD_AUTO(ld_found_done) struct ld_found below = LD_FOUND_INIT;
    int fd = ld_dirs_top(s->dirs);
    int found = lower_of_top(s, &below, err);
    int r;

    if (found < 0)
        return -1;
    if (found > 0 && S_ISLNK(below.node.st.st_mode))
        ld_warnings_add(&s->out.warnings,
                        "directory '%.200s' takes the place of a symlink in the layers below",
                        note->path);
    r = ld_xattrs_clear(fd, LD_FORM_LAYER);
    if (r < 0)
        return ld_settle_sys(err, r, "remove xattrs of", note->path);
    if (note->kind == LD_NOTE_DIR || found == 0 || !S_ISDIR(below.node.st.st_mode))
        return set_from_note(fd, note, err);
    if (ld_node_copy_attrs(&below.node, fd, LD_FORM_LAYER, err) < 0)
        return ld_err_prefix(err, "directory '%.160s' of a layer", note->path);
    return 0;
}

static int settle_dirs(struct ld_settle *s, struct ld_err *err)
{
    struct ld_pending_note note;
    int r;

    if (ld_pending_rewind(s->pending, err) < 0)
        return -1;
    while ((r = ld_pending_next(s->pending, &note, err)) > 0) {
        int there;

        if (note.kind != LD_NOTE_DIR && note.kind != LD_NOTE_IMPLIED)
            continue;
        if (s->job->cancel && __atomic_load_n(s->job->cancel, __ATOMIC_RELAXED))
            return ld_err_set(err, LD_E_CANCELED, "settling a layer was cancelled");
        there = ld_settle_go(s, note.path, strlen(note.path), err);
        if (there < 0 || (there > 0 && settle_dir(s, &note, err) < 0))
            return -1;
    }
    return r;
}

/* ---- a run ---- */

/* The aside directory stays as long as the recipe has content in it. */
static int close_aside(struct ld_settle *s, struct ld_err *err)
{
    if (unlinkat(s->job->aside_parent_fd, s->job->aside_name, AT_REMOVEDIR) == 0 || errno == ENOENT)
        return 0;
    if (errno != ENOTEMPTY && errno != EEXIST)
        return ld_err_sys(err, -errno, "remove a layer's aside directory");
    s->out.has_aside = true;
    return 0;
}

static int settle(struct ld_settle *s, struct ld_err *err)
{
    struct ld_usage usage;
    int r;

    if (ld_settle_marks(s, err) < 0 || ld_settle_links(s, err) < 0)
        return -1;
    ld_settle_cut(s, 0); /* what its levels know of marks is old */
    if (settle_dirs(s, err) < 0 || ld_settle_plain_marks(s, err) < 0 || close_aside(s, err) < 0)
        return -1;
    r = ld_tree_usage(s->job->root_fd, ".", s->job->cancel, &usage);
    if (r < 0)
        return ld_err_sys(err, r, "sum up a layer");
    s->out.bytes = usage.bytes;
    s->out.inodes = usage.inodes;
    return 0;
}

static void run_done(struct ld_settle **s)
{
    ld_settle_cut(*s, 0);
    ld_dirs_free((*s)->dirs);
    ld_settle_result_done(&(*s)->out);
    free(*s);
}

int ld_settle(const struct ld_settle_job *job, struct ld_pending *pending,
              struct ld_settle_result *ret, struct ld_err *err)
{
    LD_AUTO(run_done) struct ld_settle *s = ld_new(struct ld_settle);

    s->job = job;
    s->pending = pending;
    s->dirs = ld_dirs_new(job->root_fd);
    s->level[0].lower = job->lower.n > 0 ? LD_SETTLE_OPEN : LD_SETTLE_NONE;
    if (settle(s, err) < 0)
        return -1;
    *ret = s->out;
    s->out = (struct ld_settle_result){.bytes = 0};
    return 0;
}

void ld_settle_result_done(struct ld_settle_result *result)
{
    ld_warnings_done(&result->warnings);
}
