/* What untar left in the aside directory for settle: lN, an empty file standing for a file of the
 * layers below, to be filled in place, since all its names in the layer are links of that inode;
 * xN, a link of a node that gets trusted xattrs.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "daemon/base/fdio.h"
#include "daemon/base/mem.h"
#include "daemon/image/settle_impl.h"

/* What has become of placeholder N. */
enum state { UNTOUCHED, FILLED, REPLACED /* the target is no regular file: its copy is nN */ };

struct links {
    struct ld_settle *s;
    int aside;
    char *state; /* by number */
    size_t n, cap;
};

struct aside_name {
    char text[24];
};

static struct aside_name aside_name(char kind, uint64_t n)
{
    struct aside_name name;

    (void)snprintf(name.text, sizeof(name.text), "%c%" PRIu64, kind, n); /* 21 at most */
    return name;
}

static void links_done(struct links *l)
{
    ld_close(l->aside);
    free(l->state);
}

/* Content and attributes of the file below, into the inode that is there. */
static int fill(struct links *l, const struct ld_pending_note *note, const struct ld_node *below,
                struct ld_err *err)
{
    autoclose int to =
        openat(l->aside, aside_name('l', note->number).text, O_WRONLY | O_NOFOLLOW | O_CLOEXEC);
    autoclose int from = -EBADF;
    int r;

    if (to < 0)
        return ld_settle_sys(err, -errno, "open what stands for", note->target);
    from = ld_node_open(below);
    if (from < 0)
        return ld_settle_sys(err, from, "open below", note->target);
    r = ld_copy_data(from, to, l->s->job->cancel);
    if (r < 0)
        return ld_settle_sys(err, r, "copy from below", note->target);
    if (ld_node_copy_attrs(below, to, LD_FORM_LAYER, err) < 0)
        return ld_err_prefix(err, "hard link '%.160s'", note->path);
    l->state[note->number] = FILLED;
    return 0;
}

static int resolve(struct links *l, const struct ld_pending_note *note, struct ld_err *err)
{
    LD_AUTO(ld_found_done) struct ld_found below = LD_FOUND_INIT;
    const struct ld_layers *lower = &l->s->job->lower;
    int found = lower->n > 0 ? ld_tree_lookup(lower, note->target, &below, err) : 0;

    if (found < 0)
        return -1;
    if (found == 0)
        return ld_settle_refuse(err, note->path,
                                "it is a hard link to '%.200s', which is neither in this layer "
                                "before it nor in the layers below",
                                note->target);
    if (S_ISDIR(below.node.st.st_mode))
        return ld_settle_refuse(err, note->path, "it is a hard link to the directory '%.200s'",
                                note->target);
    if (S_ISREG(below.node.st.st_mode))
        return fill(l, note, &below.node, err);
    if (ld_node_copy(&below.node, l->aside, aside_name('n', note->number).text, LD_FORM_LAYER,
                     l->s->job->cancel, err) < 0)
        return ld_err_prefix(err, "hard link '%.160s'", note->path);
    l->state[note->number] = REPLACED;
    return 0;
}

/* A name of the placeholder, if it still is one, becomes a name of the copy. */
static int relink(struct links *l, const struct ld_pending_note *note, struct ld_err *err)
{
    struct aside_name old = aside_name('l', note->number);
    struct aside_name copy = aside_name('n', note->number);
    struct stat is, was;
    const char *name;
    int dir;
    int r = ld_settle_go_parent(l->s, note->path, &name, err);

    if (r <= 0)
        return r;
    dir = ld_dirs_top(l->s->dirs);
    if (fstatat(l->aside, old.text, &was, AT_SYMLINK_NOFOLLOW) < 0)
        return ld_settle_sys(err, -errno, "look at what stands for", note->target);
    if (fstatat(dir, name, &is, AT_SYMLINK_NOFOLLOW) < 0 || is.st_ino != was.st_ino)
        return 0;
    if (unlinkat(dir, name, 0) < 0 || linkat(l->aside, copy.text, dir, name, 0) < 0)
        return ld_settle_sys(err, -errno, "link", note->path);
    return 0;
}

static int settle_link(struct links *l, const struct ld_pending_note *note, struct ld_err *err)
{
    ld_grow(&l->state, &l->cap, note->number + 1, sizeof(*l->state));
    if (l->n <= note->number)
        l->n = note->number + 1;
    if (l->state[note->number] == UNTOUCHED && resolve(l, note, err) < 0)
        return -1;
    return l->state[note->number] == REPLACED ? relink(l, note, err) : 0;
}

static int settle_xattrs(struct links *l, const struct ld_pending_note *note, struct ld_err *err)
{
    struct aside_name name = aside_name('x', note->number);
    autoclose int fd = openat(l->aside, name.text, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    int r;

    if (fd < 0)
        return ld_settle_sys(err, -errno, "open", note->path);
    r = ld_xattrs_set(fd, LD_FORM_LAYER, note->xattrs);
    if (r < 0)
        return ld_settle_attr_error(err, r, fd, note->path);
    if (unlinkat(l->aside, name.text, 0) < 0)
        return ld_settle_sys(err, -errno, "put away a link of", note->path);
    return 0;
}

static int put_away(struct links *l, struct ld_err *err)
{
    for (size_t i = 0; i < l->n; i++)
        for (const char *kind = "ln"; *kind; kind++)
            if (unlinkat(l->aside, aside_name(*kind, i).text, 0) < 0 && errno != ENOENT)
                return ld_err_sys(err, -errno, "clear a layer's aside directory");
    return 0;
}

int ld_settle_links(struct ld_settle *s, struct ld_err *err)
{
    LD_AUTO(links_done) struct links l = {.s = s, .aside = -EBADF};
    struct ld_pending_note note;
    int r;

    if (ld_pending_count(s->pending, LD_NOTE_LINK) + ld_pending_count(s->pending, LD_NOTE_XATTRS) ==
        0)
        return 0;
    l.aside = ld_open_dir(s->job->aside_parent_fd, s->job->aside_name);
    if (l.aside < 0)
        return ld_err_sys(err, l.aside, "open a layer's aside directory");
    if (ld_pending_rewind(s->pending, err) < 0)
        return -1;
    while ((r = ld_pending_next(s->pending, &note, err)) > 0) {
        if (s->job->cancel && __atomic_load_n(s->job->cancel, __ATOMIC_RELAXED))
            return ld_err_set(err, LD_E_CANCELED, "settling a layer was cancelled");
        if ((note.kind == LD_NOTE_LINK && settle_link(&l, &note, err) < 0) ||
            (note.kind == LD_NOTE_XATTRS && settle_xattrs(&l, &note, err) < 0))
            return -1;
    }
    return r < 0 ? -1 : put_away(&l, err);
}
