/* What every layer of a chain has at one path: see tree.h.
 *
 * All layers are gone down at once, the hidden ones too: a layer is hidden from the component on at
 * which one above it ended the merge, and stays so. No state, any thread.
 */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/base/fdio.h"
#include "daemon/base/mem.h"
#include "daemon/base/tree_merge.h"

/* Who ended the merge, and where. */
struct hide {
    bool is_set;
    size_t by, at;
    enum ld_hide_how how;
};

/* A layer on the way down: its directory at the place reached, or none. */
struct layer {
    struct ld_merge_part dir;
    bool has_dir;
    struct hide hide;
};

struct descent {
    const struct ld_layers *layers;
    struct layer *layer;
    struct ld_trace_layer *found; /* of the present component */
};

static void descent_done(struct descent *d)
{
    for (size_t i = 0; d->layer && i < d->layers->n; i++)
        ld_close(d->layer[i].dir.fd);
    free(d->layer);
}

static int dir_fd(const struct descent *d, size_t i)
{
    return d->layer[i].dir.fd >= 0 ? d->layer[i].dir.fd : d->layers->root[i];
}

/* An entry that takes no part in the merge. Its directory is gone into all the same. */
static int add_hidden(struct descent *d, size_t i, const struct ld_merge *m,
                      const struct hide *hide, struct layer *ret)
{
    struct ld_trace_layer *f = &d->found[i];
    int look = ld_merge_look(m, &d->layer[i].dir, dir_fd(d, i), &f->st);
    char mark = '\0';
    int fd, r;

    if (look < 0 || look == LD_LOOK_ABSENT)
        return look < 0 ? look : 0;
    f->role = look == LD_LOOK_WHITEOUT ? LD_TRACE_WHITEOUT : LD_TRACE_HIDDEN;
    f->hidden_by = hide->by;
    f->hidden_at = hide->at;
    f->how = hide->how;
    if (look != LD_LOOK_DIR)
        return 0;
    fd = ld_open_dir(dir_fd(d, i), m->name);
    if (fd < 0)
        return fd == -ENOENT || fd == -ENOTDIR || fd == -ELOOP ? 0 : fd; /* gone since the look */
    r = ld_merge_part_init(&ret->dir, i, fd, m->form, &mark);
    if (r < 0) {
        ld_close(fd);
        return r;
    }
    f->is_opaque = mark == 'y';
    ret->has_dir = true;
    ret->hide = *hide;
    return 0;
}

/* An entry that nothing above hides. `end` is set when it ends the merge. */
static int add_visible(struct descent *d, size_t i, struct ld_merge *m, size_t at, struct hide *end,
                       struct layer *ret)
{
    struct ld_trace_layer *f = &d->found[i];
    const struct ld_merge_part *dir = &d->layer[i].dir;
    bool was_found = m->is_found;
    size_t before = m->parts.n;
    int look = ld_merge_look(m, dir, dir_fd(d, i), &f->st);
    int r = look <= LD_LOOK_ABSENT ? look : ld_merge_step(m, dir, dir_fd(d, i));

    if (r < 0 || look == LD_LOOK_ABSENT)
        return r < 0 ? r : 0;
    if (m->parts.n > before) {
        struct ld_merge_part *part = &m->parts.item[before];

        f->role = was_found ? LD_TRACE_MERGES : LD_TRACE_PROVIDES;
        f->is_opaque = r == 1;
        if (r == 1)
            *end = (struct hide){true, i, at, LD_HIDE_OPAQUE};
        ret->dir = *part;
        ret->has_dir = true;
        part->fd = -EBADF; /* ours now */
    } else if (look == LD_LOOK_WHITEOUT) {
        f->role = LD_TRACE_WHITEOUT;
        *end = (struct hide){true, i, at, LD_HIDE_WHITEOUT};
    } else if (!was_found) {
        f->role = LD_TRACE_PROVIDES;
        *end = (struct hide){true, i, at, LD_HIDE_REPLACED};
    } else { /* below a directory */
        *end = (struct hide){true, m->node.layer, at, LD_HIDE_REPLACED};
        f->role = LD_TRACE_HIDDEN;
        f->hidden_by = end->by;
        f->hidden_at = at;
        f->how = end->how;
    }
    return 0;
}

/* One component down. *ret_provider SIZE_MAX: the merged tree has nothing of that name. */
static int step(struct descent *d, const char *name, size_t at, size_t *ret_provider)
{
    LD_AUTO(ld_merge_done) struct ld_merge m = {.name = name, .form = d->layers->form};
    struct layer *next = ld_alloc0(d->layers->n * sizeof(*next));
    struct hide end = {.is_set = false};
    int r = 0;

    memset(d->found, 0, d->layers->n * sizeof(*d->found));
    for (size_t i = 0; i < d->layers->n; i++)
        next[i].dir.fd = -EBADF;
    for (size_t i = 0; i < d->layers->n && r == 0; i++) {
        const struct layer *l = &d->layer[i];

        if (!l->has_dir)
            continue;
        if (l->hide.is_set || end.is_set)
            r = add_hidden(d, i, &m, l->hide.is_set ? &l->hide : &end, &next[i]);
        else
            r = add_visible(d, i, &m, at, &end, &next[i]);
    }
    *ret_provider = m.is_found && !m.node.is_whiteout ? m.node.layer : SIZE_MAX;
    descent_done(d);
    d->layer = next;
    return r;
}

/* The root: all of them, none hides another. */
static int start(struct descent *d, size_t *ret_provider)
{
    LD_AUTO(ld_merge_parts_done) struct ld_merge_parts parts = {.n = 0};
    struct ld_node root;
    int r = d->layers->n ? ld_merge_root(d->layers, &parts, &root) : 0;

    *ret_provider = d->layers->n ? 0 : SIZE_MAX;
    for (size_t i = 0; i < parts.n; i++) {
        d->layer[i] = (struct layer){.dir = parts.item[i], .has_dir = true};
        if (fstat(d->layers->root[i], &d->found[i].st) < 0)
            return -errno;
        d->found[i].role = i ? LD_TRACE_MERGES : LD_TRACE_PROVIDES;
    }
    return r;
}

int ld_tree_trace(const struct ld_layers *layers, const char *path, struct ld_trace *ret,
                  struct ld_err *err)
{
    struct ld_trace trace LD_AUTO(ld_trace_done) = {.path = ld_merge_clean_path(path),
                                                    .n = layers->n};
    struct descent d LD_AUTO(descent_done) = {.layers = layers};
    int r;

    if (!trace.path)
        return ld_err_set(err, LD_E_INVALID, "'%s' is not a clean path", path);
    trace.layer = ld_alloc0((layers->n + 1) * sizeof(*trace.layer));
    d.found = trace.layer;
    d.layer = ld_alloc0((layers->n + 1) * sizeof(*d.layer));
    for (size_t i = 0; i < layers->n; i++)
        d.layer[i].dir.fd = -EBADF;
    r = start(&d, &trace.provider);
    for (char *name = trace.path + 1, *end; r == 0 && *name; name = end + (*end == '/')) {
        char cut;

        end = name + strcspn(name, "/");
        cut = *end;
        *end = '\0';
        r = step(&d, name, (size_t)(end - trace.path), &trace.provider);
        *end = cut;
    }
    if (r == -ENAMETOOLONG) { /* no file system has such a name */
        memset(trace.layer, 0, layers->n * sizeof(*trace.layer));
        trace.provider = SIZE_MAX;
        r = 0;
    }
    if (r < 0)
        return ld_err_sys(err, r, "look up '%s'", path);
    *ret = ld_steal(&trace);
    return 0;
}

void ld_trace_done(struct ld_trace *trace)
{
    free(trace->path);
    free(trace->layer);
    *trace = (struct ld_trace){.n = 0};
}
