/* Untar: see untar.h. This file goes through the entries; paths, replaced nodes, links and nodes
 * with their attributes are in untar_*.c.
 *
 * Invariants: what is made lies in the layer's root or in the aside directory; `dirs` holds real
 * directories only, so an entry's name never meets a symlink unless untar_path.c followed it inside
 * the root; the notes are in the order of the archive. Runs on any one thread.
 */
#include "daemon/image/untar.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "daemon/base/fdio.h"
#include "daemon/base/mem.h"
#include "daemon/image/untar_impl.h"

/* ---- errors ---- */

/* Names may be 4 KiB long: messages show this much, so that the reason is always there. */
enum { SHOWN = 160 };

struct shown {
    char text[SHOWN + 4];
};

static struct shown show(const char *name)
{
    struct shown s;
    size_t len = strlen(name);

    (void)snprintf(s.text, sizeof(s.text), "%.*s%s", SHOWN, name, len > SHOWN ? "…" : "");
    return s;
}

int ld_untar_refuse(const struct ld_untar *u, struct ld_err *err, const char *fmt, ...)
{
    char reason[320];
    va_list ap;

    va_start(ap, fmt);
    (void)vsnprintf(reason, sizeof(reason), fmt, ap); /* a cut reason is one still */
    va_end(ap);
    return ld_err_set(err, LD_E_BAD_CONTENT, "entry '%s': %s", show(u->entry.name).text, reason);
}

int ld_untar_over(const struct ld_untar *u, struct ld_err *err, const char *limit, uint64_t max,
                  const char *what)
{
    return ld_err_over_limit(err, limit, max, "entry '%s': %s is over the limit of %" PRIu64,
                             show(u->entry.name).text, what, max);
}

int ld_untar_sys(const struct ld_untar *u, int neg_errno, const char *what, struct ld_err *err)
{
    switch (-neg_errno) {
    case ENAMETOOLONG:
        return ld_untar_refuse(u, err, "a name or symlink is too long for the file system");
    case EFBIG:
        return ld_untar_refuse(u, err, "it is too large for the file system");
    case EMLINK:
        return ld_untar_refuse(u, err, "it has more hard links than the file system can store");
    default:
        return ld_err_sys(err, neg_errno, "%s '%s'", what, show(u->entry.name).text);
    }
}

/* ---- helpers of all parts ---- */

int ld_untar_count_node(struct ld_untar *u, struct ld_err *err)
{
    uint64_t max = u->job->limits.max_entries ? u->job->limits.max_entries : LD_TAR_MAX_ENTRIES;

    if (++u->out.nodes > max)
        return ld_untar_over(u, err, "layer_entries", max,
                             "the number of entries and implied directories");
    return 0;
}

bool ld_untar_is_canceled(const struct ld_untar *u)
{
    return u->job->cancel && __atomic_load_n(u->job->cancel, __ATOMIC_RELAXED);
}

char *ld_untar_path(const struct ld_dirs *dirs, const char *name)
{
    const char *dir = ld_dirs_path(dirs);

    return dir[0] == '\0' ? ld_strdup(name) : ld_asprintf("%s/%s", dir, name);
}

int ld_untar_note(struct ld_untar *u, enum ld_note_kind kind, const char *path, struct ld_err *err)
{
    struct ld_pending_note note = {.kind = kind,
                                   .path = path,
                                   .mtime_sec = u->entry.mtime_sec,
                                   .mtime_nsec = u->entry.mtime_nsec};

    return ld_pending_add(u->out.pending, &note, err);
}

/* ---- entries ---- */

static int note_dir(struct ld_untar *u, const char *path, struct ld_err *err)
{
    const struct ld_tar_entry *e = &u->entry;
    struct ld_pending_note note = {.kind = LD_NOTE_DIR,
                                   .path = path,
                                   .mode = e->mode,
                                   .uid = e->uid,
                                   .gid = e->gid,
                                   .mtime_sec = e->mtime_sec,
                                   .mtime_nsec = e->mtime_nsec,
                                   .xattrs = &u->now};

    if (ld_untar_sort_xattrs(u, err) < 0)
        return -1;
    return ld_pending_add(u->out.pending, &note, err);
}

static int unpack_dir(struct ld_untar *u, const char *name, struct ld_err *err)
{
    int dir = ld_dirs_top(u->dirs);
    autofree char *path = ld_untar_path(u->dirs, name);

    if (mkdirat(dir, name, 0700) < 0) {
        struct stat st;

        if (errno != EEXIST)
            return ld_untar_sys(u, -errno, "create", err);
        if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
            return ld_untar_sys(u, -errno, "look at", err);
        if (!S_ISDIR(st.st_mode)) {
            if (ld_untar_replace(u, dir, name, err) < 0)
                return -1;
            if (mkdirat(dir, name, 0700) < 0)
                return ld_untar_sys(u, -errno, "create", err);
        }
    }
    return note_dir(u, path, err);
}

/* A name that begins with ".wh.": nothing is made of it here. Its type does not count (old engines
 * wrote them as hard links of each other), content becomes part of the recipe. */
static int unpack_whiteout(struct ld_untar *u, const char *name, struct ld_err *err)
{
    const char *hidden = name + 4;
    autofree char *path = NULL;

    if (u->entry.type == LD_TAR_DIR)
        return ld_untar_refuse(u, err, "a directory's name cannot begin with '.wh.'");
    if (strcmp(name, ".wh..wh..opq") == 0)
        return ld_untar_note(u, LD_NOTE_OPAQUE, ld_dirs_path(u->dirs), err);
    if (strncmp(hidden, ".wh.", 4) == 0)
        return ld_untar_refuse(u, err, "its name is reserved and has no meaning here");
    if (hidden[0] == '\0' || strcmp(hidden, ".") == 0 || strcmp(hidden, "..") == 0)
        return ld_untar_refuse(u, err, "it is a whiteout of no name");
    path = ld_untar_path(u->dirs, hidden);
    return ld_untar_note(u, LD_NOTE_WHITEOUT, path, err);
}

static int unpack_root(struct ld_untar *u, struct ld_err *err)
{
    if (u->entry.type != LD_TAR_DIR)
        return ld_untar_refuse(u, err, "the layer's root can only be a directory");
    u->has_root = true;
    return note_dir(u, "", err);
}

static int unpack(struct ld_untar *u, struct ld_err *err)
{
    char *name;

    if (ld_untar_clean(u, u->entry.name, false, u->clean, err) < 0 ||
        ld_untar_count_node(u, err) < 0)
        return -1;
    if (u->clean[0] == '\0')
        return unpack_root(u, err);
    if (!u->has_root && ld_untar_note(u, LD_NOTE_IMPLIED, "", err) < 0)
        return -1;
    u->has_root = true;
    name = strrchr(u->clean, '/');
    if (name)
        *name++ = '\0';
    else
        name = u->clean;
    if (ld_untar_follow(u, u->dirs, name == u->clean ? "" : u->clean, NULL, err) < 0)
        return -1;
    if (ld_dirs_depth(u->dirs) == LD_MAX_TREE_DEPTH) /* by way of symlinks */
        return ld_untar_over(u, err, "depth", LD_MAX_TREE_DEPTH, "the depth of its path");
    if (strncmp(name, ".wh.", 4) == 0)
        return unpack_whiteout(u, name, err);
    switch (u->entry.type) {
    case LD_TAR_DIR:
        return unpack_dir(u, name, err);
    case LD_TAR_HARDLINK:
        return ld_untar_hardlink(u, name, err);
    case LD_TAR_FILE:
    case LD_TAR_SYMLINK:
    case LD_TAR_CHAR:
    case LD_TAR_BLOCK:
    case LD_TAR_FIFO:
        return ld_untar_node(u, name, err);
    }
    return ld_untar_refuse(u, err, "its type is not known");
}

static int unpack_all(struct ld_untar *u, struct ld_err *err)
{
    int r;

    while ((r = ld_tar_next(u->tar, &u->entry, err)) > 0) {
        if (ld_untar_is_canceled(u))
            return ld_err_set(err, LD_E_CANCELED, "unpacking was cancelled");
        if (unpack(u, err) < 0)
            return -1;
        u->out.entries++;
    }
    if (r < 0)
        return -1;
    /* An empty archive: nothing implied the root. */
    u->entry = (struct ld_tar_entry){.name = ""};
    return u->has_root ? 0 : ld_untar_note(u, LD_NOTE_IMPLIED, "", err);
}

/* ---- a run ---- */

/* What the process's umask and ids make of a new inode, so that most files need neither chmod nor
 * chown. Not known: assume the worst. */
static void learn_birth(struct ld_untar *u)
{
    autoclose int fd = openat(u->job->root_fd, ".", O_TMPFILE | O_WRONLY | O_CLOEXEC, 0777);
    struct stat st;

    if (fd < 0 || fstat(fd, &st) < 0)
        st = (struct stat){.st_uid = (uid_t)-1, .st_gid = (gid_t)-1};
    u->masked = 0777 & ~st.st_mode;
    u->uid = st.st_uid;
    u->gid = st.st_gid;
}

static void run_done(struct ld_untar **slot)
{
    struct ld_untar *u = *slot;

    if (!u)
        return;
    ld_tar_free(u->tar);
    ld_recipe_free(u->recipe);
    ld_source_free(u->source);
    ld_source_free(u->hashed);
    ld_dirs_free(u->dirs);
    ld_dirs_free(u->targets);
    ld_close(u->aside_fd);
    ld_untar_kept_done(&u->kept);
    ld_untar_links_done(u);
    free(u->now.item);
    free(u->later.item);
    ld_untar_result_done(&u->out);
    free(u);
    *slot = NULL;
}

int ld_untar(const struct ld_untar_job *job, struct ld_untar_result *ret, struct ld_err *err)
{
    LD_AUTO(run_done) struct ld_untar *u = ld_new(struct ld_untar);
    struct ld_tar_limits limits = {.max_entries = job->limits.max_entries,
                                   .max_file_size = job->limits.max_file_size};
    struct ld_tar_tee tee;

    u->job = job;
    u->aside_fd = -EBADF;
    learn_birth(u);
    if (ld_pending_new(job->root_fd, &u->out.pending, err) < 0)
        return -1;
    u->dirs = ld_dirs_new(job->root_fd);
    u->targets = ld_dirs_new(job->root_fd);
    u->hashed = ld_source_digest_new(job->source);
    u->source = ld_source_ahead_new(u->hashed);
    u->recipe = ld_recipe_new(job->recipe_fd);
    tee = ld_recipe_tee(u->recipe);
    u->tar = ld_tar_new(u->source, &limits, &tee);
    if (unpack_all(u, err) < 0 || ld_recipe_finish(u->recipe, err) < 0)
        return -1;
    u->out.tar_bytes = ld_source_digest_count(u->hashed);
    u->out.diff_id = ld_source_digest_final(u->hashed);
    *ret = u->out;
    u->out = (struct ld_untar_result){.pending = NULL};
    return 0;
}

void ld_untar_result_done(struct ld_untar_result *result)
{
    ld_pending_free_p(&result->pending);
    ld_warnings_done(&result->warnings);
}
