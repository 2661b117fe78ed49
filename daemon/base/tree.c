/* The merged view of a chain of layers: walking and looking up (tree.h).
 *
 * A walk is a stack of levels, one per directory on the way to the present entry. A level has
 * `parts`: the directories of single layers that are merged there, topmost first; the names of all
 * parts, read when the directory is entered and sorted; and the place reached in them. A layer that
 * takes part in a level takes part in every level above it, so a part whose descriptor was given up
 * (there are at most LD_TREE_MAX_FDS) is found again by name from the nearest level where its layer
 * is open, checked by device and inode.
 *
 * The merge rule is tree_merge.c's; walk and look-up both consist of it. No state besides, any
 * thread.
 */
#include "daemon/base/tree.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/base/buf.h"
#include "daemon/base/fdio.h"
#include "daemon/base/mem.h"
#include "daemon/base/tree_merge.h"

enum {
    NAME_BYTES = 256,
    NAMES_BYTES_MAX = 1 << 30, /* of all names in one directory */
    REOPEN_LEVELS = 64,        /* so many levels stay open when a part is opened again */
    PATH_BYTES_MAX = 1 << 26,
};

/* ---- walking ---- */

struct entry {
    unsigned name; /* offset into names */
    unsigned part;
};

struct level {
    struct ld_node
        node; /* of the directory itself; path, name and dir are filled when it is left */
    struct ld_merge_parts parts;
    size_t path_len; /* of the directory's path, without a trailing '/' (the root: 0) */
    size_t name_at;  /* of its last component in the path */
    char *names;
    size_t names_len, names_cap;
    struct entry *entry;
    size_t n, cap, at;
    bool is_read;
};

struct ld_tree {
    const struct ld_layers *layers;
    unsigned flags;
    const bool *cancel;
    struct level *level;
    size_t depth, cap;
    struct ld_buf path; /* of the present entry, "/a/b" */
    size_t open_fds;
    size_t evict_from; /* no level below this one (towards the root) has an open descriptor */
    bool is_started;
};

struct ld_tree *ld_tree_new(const struct ld_layers *layers, unsigned flags, const bool *cancel)
{
    struct ld_tree *t = ld_new(struct ld_tree);

    t->layers = layers;
    t->flags = flags;
    t->cancel = cancel;
    t->path = LD_BUF_INIT(PATH_BYTES_MAX);
    return t;
}

static void pop(struct ld_tree *t)
{
    struct level *l = &t->level[--t->depth];

    for (size_t i = 0; i < l->parts.n; i++)
        t->open_fds -= l->parts.item[i].fd >= 0;
    ld_merge_parts_done(&l->parts);
    free(l->names);
    free(l->entry);
    *l = (struct level){.n = 0};
    if (t->evict_from >= t->depth)
        t->evict_from = t->depth ? t->depth - 1 : 0;
}

void ld_tree_free(struct ld_tree *t)
{
    if (!t)
        return;
    while (t->depth > 0)
        pop(t);
    free(t->level);
    ld_buf_done(&t->path);
    free(t);
}

void ld_tree_free_p(struct ld_tree **t)
{
    int saved = errno;

    ld_tree_free(*t);
    *t = NULL;
    errno = saved;
}

/* Gives up descriptors, those nearest to the root first, until one more is allowed. `keep` (may be
 * NULL) stays open. */
static void make_room(struct ld_tree *t, const struct ld_merge_part *keep)
{
    for (size_t k = t->evict_from; k < t->depth && t->open_fds >= LD_TREE_MAX_FDS; k++) {
        struct ld_merge_parts *p = &t->level[k].parts;

        t->evict_from = k;
        for (size_t i = 0; i < p->n && t->open_fds >= LD_TREE_MAX_FDS; i++) {
            if (p->item[i].fd < 0 || &p->item[i] == keep)
                continue;
            ld_close_p(&p->item[i].fd);
            t->open_fds--;
        }
    }
}

static struct ld_merge_part *part_of_layer(struct level *l, size_t layer)
{
    size_t low = 0, high = l->parts.n;

    while (low < high) {
        size_t mid = low + (high - low) / 2;

        if (l->parts.item[mid].layer < layer)
            low = mid + 1;
        else
            high = mid;
    }
    return low < l->parts.n && l->parts.item[low].layer == layer ? &l->parts.item[low] : NULL;
}

/* Opens level k's part of a layer by its name in `at`. */
static int reopen_one(struct ld_tree *t, size_t k, const struct ld_merge_part *p, int at)
{
    const struct level *l = &t->level[k];
    char name[NAME_BYTES];
    size_t len = l->path_len - l->name_at;
    struct stat st;
    int fd;

    if (len >= sizeof(name))
        return -ENAMETOOLONG;
    memcpy(name, t->path.data + l->name_at, len);
    name[len] = '\0';
    fd = ld_open_dir(at, name);
    if (fd < 0)
        return fd;
    if (fstat(fd, &st) < 0 || st.st_dev != p->dev || st.st_ino != p->ino) {
        ld_close(fd);
        return -ESTALE;
    }
    return fd;
}

/* The descriptor of a part of level k, opened again if it had been given up; borrowed, good until
 * another part is asked for. -errno. */
static int part_fd(struct ld_tree *t, size_t k, struct ld_merge_part *want)
{
    size_t from = k;
    int at;

    if (k == 0)
        return t->layers->root[want->layer];
    if (want->fd >= 0)
        return want->fd;
    while (from > 0 && part_of_layer(&t->level[from], want->layer)->fd < 0)
        from--;
    at = from ? part_of_layer(&t->level[from], want->layer)->fd : t->layers->root[want->layer];
    at = fcntl(at, F_DUPFD_CLOEXEC, 0); /* eviction may close the one it comes from */
    if (at < 0)
        return -errno;
    for (size_t i = from + 1; i <= k; i++) {
        struct ld_merge_part *p = part_of_layer(&t->level[i], want->layer);
        int fd = reopen_one(t, i, p, at);

        ld_close(at);
        if (fd < 0)
            return fd;
        at = fd;
        if (i < k && i + REOPEN_LEVELS > k) {
            make_room(t, NULL);
            p->fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
            if (p->fd < 0) {
                ld_close(at);
                return -errno;
            }
            t->open_fds++;
            t->evict_from = i < t->evict_from ? i : t->evict_from;
        }
    }
    make_room(t, NULL);
    want->fd = at;
    t->open_fds++;
    t->evict_from = k < t->evict_from ? k : t->evict_from;
    return at;
}

struct reading {
    struct level *level;
    unsigned part;
};

static int add_name(void *arg, const char *name, unsigned char d_type)
{
    struct reading *r = arg;
    struct level *l = r->level;
    size_t len = strlen(name) + 1;

    (void)d_type; /* each entry is looked at anyway */
    if (l->n >= LD_TREE_MAX_NAMES || l->names_len + len > NAMES_BYTES_MAX)
        return -E2BIG;
    ld_grow(&l->names, &l->names_cap, l->names_len + len, 1);
    ld_grow(&l->entry, &l->cap, l->n + 1, sizeof(*l->entry));
    memcpy(l->names + l->names_len, name, len);
    l->entry[l->n++] = (struct entry){.name = (unsigned)l->names_len, .part = r->part};
    l->names_len += len;
    return 0;
}

static int by_name_and_part(const void *a, const void *b, void *names)
{
    const struct entry *x = a, *y = b;
    int c = strcmp((char *)names + x->name, (char *)names + y->name);

    return c ? c : (x->part > y->part) - (x->part < y->part);
}

static int read_level(struct ld_tree *t)
{
    struct level *l = &t->level[t->depth - 1];

    for (size_t i = 0; i < l->parts.n; i++) {
        struct reading reading = {.level = l, .part = (unsigned)i};
        int fd = part_fd(t, t->depth - 1, &l->parts.item[i]);
        int r = fd < 0 ? fd : ld_each_name(fd, add_name, &reading);

        if (r < 0) {
            l->n = l->names_len = 0;
            return r;
        }
    }
    if (l->n > 1)
        qsort_r(l->entry, l->n, sizeof(*l->entry), by_name_and_part, l->names);
    l->is_read = true;
    return 0;
}

static const char *entry_name(const struct level *l, size_t i)
{
    return l->names + l->entry[i].name;
}

static struct level *push(struct ld_tree *t, const struct ld_node *node,
                          struct ld_merge_parts *parts)
{
    struct level *l;

    ld_grow(&t->level, &t->cap, t->depth + 1, sizeof(*t->level));
    l = &t->level[t->depth++];
    *l = (struct level){.node = *node, .parts = *parts};
    *parts = (struct ld_merge_parts){.n = 0};
    return l;
}

/* path = the top level's path + "/" + name */
static int set_path(struct ld_tree *t, const char *name)
{
    const struct level *l = &t->level[t->depth - 1];

    if (t->path.data) {
        t->path.len = l->path_len;
        t->path.data[t->path.len] = '\0';
    }
    ld_buf_addc(&t->path, '/');
    ld_buf_adds(&t->path, name);
    return ld_buf_check(&t->path);
}

static int start(struct ld_tree *t, struct ld_node *ret)
{
    LD_AUTO(ld_merge_parts_done) struct ld_merge_parts parts = {.n = 0};
    int r;

    t->is_started = true;
    if (t->layers->n == 0)
        return 0;
    r = ld_merge_root(t->layers, &parts, ret);
    if (r < 0)
        return r;
    (void)push(t, ret, &parts);
    return 1;
}

/* Second visit of the top level's directory; the level goes. Returns 1 when there is one to tell.
 */
static int leave(struct ld_tree *t, struct ld_node *ret)
{
    size_t k = t->depth - 1;
    struct ld_node node = t->level[k].node;
    size_t path_len = t->level[k].path_len, name_at = t->level[k].name_at;

    pop(t);
    if (t->path.data) {
        t->path.len = path_len;
        t->path.data[path_len] = '\0';
    }
    if (t->flags & LD_TREE_NO_LEAVE)
        return 0;
    if (k > 0) {
        node.dir = part_fd(t, k - 1, part_of_layer(&t->level[k - 1], node.layer));
        if (node.dir < 0)
            return node.dir;
        node.path = t->path.data;
        node.name = t->path.data + name_at;
    }
    node.is_leave = true;
    *ret = node;
    return 1;
}

/* Merges the entries of the name reached in the top level and goes past them. */
static int merge_next(struct ld_tree *t, struct ld_merge *m)
{
    size_t k = t->depth - 1;
    struct level *l = &t->level[k];
    size_t end = l->at + 1;
    int r = 0;

    while (end < l->n && strcmp(entry_name(l, end), m->name) == 0)
        end++;
    for (size_t i = l->at; i < end && r == 0; i++) {
        struct ld_merge_part *p = &l->parts.item[l->entry[i].part];
        size_t before = m->parts.n;
        int at = part_fd(t, k, p);

        if (at < 0)
            return at;
        make_room(t, p);
        r = ld_merge_step(m, p, at);
        t->open_fds += m->parts.n - before;
    }
    l->at = end;
    return r < 0 ? r : 0;
}

/* The next entry of the top level into *ret, its own level pushed when it is a directory. 1, or 0
 * when the name is hidden or gone. */
static int visit(struct ld_tree *t, struct ld_node *ret)
{
    size_t k = t->depth - 1;
    struct level *l = &t->level[k];
    LD_AUTO(ld_merge_done)
    struct ld_merge m = {.name = entry_name(l, l->at), .form = t->layers->form};
    int r = set_path(t, m.name);

    if (r == 0)
        r = merge_next(t, &m);
    if (r < 0 || !m.is_found || (m.node.is_whiteout && !(t->flags & LD_TREE_WHITEOUTS))) {
        t->open_fds -= m.parts.n;
        return r;
    }
    *ret = m.node;
    ret->depth = t->depth;
    ret->path = t->path.data;
    ret->name = t->path.data + l->path_len + 1;
    if (S_ISDIR(m.node.st.st_mode)) {
        struct level *child = push(t, ret, &m.parts);

        child->path_len = t->path.len;
        child->name_at = t->level[k].path_len + 1;
    }
    ret->dir = part_fd(t, k, part_of_layer(&t->level[k], ret->layer));
    return ret->dir < 0 ? ret->dir : 1;
}

int ld_tree_next(struct ld_tree *t, struct ld_node *ret, struct ld_err *err)
{
    int r = 0;

    if (t->is_started && t->depth == 0)
        return 0;
    while (r == 0) {
        struct level *l = t->depth ? &t->level[t->depth - 1] : NULL;

        if (t->cancel && __atomic_load_n(t->cancel, __ATOMIC_RELAXED))
            r = -ECANCELED;
        else if (!t->is_started)
            r = start(t, ret);
        else if (!l)
            return 0;
        else if (!l->is_read)
            r = read_level(t);
        else if (l->at < l->n)
            r = visit(t, ret);
        else
            r = leave(t, ret);
    }
    if (r < 0)
        return ld_err_sys(err, r, "read '%s'", t->path.len ? t->path.data : "/");
    return 1;
}

void ld_tree_skip(struct ld_tree *t)
{
    if (t->depth > 0 && !t->level[t->depth - 1].is_read)
        pop(t);
}

/* strcmp of the component a[0..a_len) with b, which ends at '/' or NUL. */
static int component_cmp(const char *a, size_t a_len, const char *b)
{
    size_t b_len = strcspn(b, "/");
    int c = memcmp(a, b, a_len < b_len ? a_len : b_len);

    return c ? c : (a_len > b_len) - (a_len < b_len);
}

void ld_tree_skip_to(struct ld_tree *t, const char *path)
{
    const char *rest = path + 1;
    size_t k = 1;
    struct level *l;

    if (t->depth == 0)
        return;
    /* Down the levels as long as they lie on the way to `path`. */
    for (; k < t->depth && *rest; k++) {
        int c;

        l = &t->level[k];
        c = component_cmp(t->path.data + l->name_at, l->path_len - l->name_at, rest);
        if (c > 0)
            return;
        if (c < 0)
            break;
        rest += strcspn(rest, "/");
        rest += *rest == '/';
    }
    if (!*rest)
        return;
    for (size_t i = k; i < t->depth; i++) {
        t->level[i].is_read = true;
        t->level[i].at = t->level[i].n;
    }
    l = &t->level[k - 1];
    /* What can't be read now is left to ld_tree_next, which says why. */
    if (!l->is_read && (k < t->depth || read_level(t) < 0))
        return;
    while (l->at < l->n &&
           component_cmp(entry_name(l, l->at), strlen(entry_name(l, l->at)), rest) < 0)
        l->at++;
}

int ld_tree_path_cmp(const char *a, const char *b)
{
    for (; *a && *a == *b; a++, b++)
        continue;
    if (*a == *b)
        return 0;
    /* The end of a component comes before any byte. */
    if (*a == '\0' || *b == '\0')
        return *a == '\0' ? -1 : 1;
    if (*a == '/' || *b == '/')
        return *a == '/' ? -1 : 1;
    return (unsigned char)*a < (unsigned char)*b ? -1 : 1;
}

/* ---- looking up ---- */

static int parts_fd(const struct ld_layers *layers, const struct ld_merge_part *p)
{
    return p->fd >= 0 ? p->fd : layers->root[p->layer];
}

/* Merges name over all parts of a directory. */
static int merge_in(const struct ld_layers *layers, const struct ld_merge_parts *in,
                    struct ld_merge *m)
{
    int r = 0;

    for (size_t i = 0; i < in->n && r == 0; i++)
        r = ld_merge_step(m, &in->item[i], parts_fd(layers, &in->item[i]));
    return r < 0 ? r : 0;
}

/* Goes down along text ("/a/b", which is cut into components as it goes and put together again).
 * 1, 0, -errno; the found node's directory is dup'ed; of a directory *ret_parts (NULL: not wanted)
 * are what it merges from. */
static int look_down(const struct ld_layers *layers, char *text, struct ld_found *ret,
                     struct ld_merge_parts *ret_parts)
{
    LD_AUTO(ld_merge_parts_done) struct ld_merge_parts in = {.n = 0};
    struct ld_node root;
    size_t depth = 0;
    int r = layers->n ? ld_merge_root(layers, &in, &root) : 0;

    if (r < 0 || layers->n == 0)
        return r;
    if (strcmp(text, "/") == 0) {
        ret->node = root;
        return 1;
    }
    for (char *name = text + 1, *end;; name = end + 1) {
        LD_AUTO(ld_merge_done) struct ld_merge m = {.name = name, .form = layers->form};
        bool is_last;

        end = name + strcspn(name, "/");
        is_last = *end == '\0';
        *end = '\0';
        depth++;
        r = merge_in(layers, &in, &m);
        if (r < 0 || !m.is_found || m.node.is_whiteout)
            return r;
        if (is_last) {
            int at = -EBADF;

            for (size_t i = 0; i < in.n; i++)
                if (in.item[i].layer == m.node.layer)
                    at = parts_fd(layers, &in.item[i]);
            ret->dir = fcntl(at, F_DUPFD_CLOEXEC, 0);
            if (ret->dir < 0)
                return -errno;
            ret->node = m.node;
            ret->node.dir = ret->dir;
            ret->node.depth = depth;
            ret->node.name = name;
            if (ret_parts) {
                *ret_parts = m.parts;
                m.parts = (struct ld_merge_parts){.n = 0};
            }
            return 1;
        }
        *end = '/';
        if (!S_ISDIR(m.node.st.st_mode))
            return 0;
        ld_merge_parts_done(&in);
        in = m.parts;
        m.parts = (struct ld_merge_parts){.n = 0};
    }
}

static int look_up(const struct ld_layers *layers, const char *path, struct ld_found *ret,
                   struct ld_merge_parts *ret_parts, struct ld_err *err)
{
    struct ld_found found = LD_FOUND_INIT;
    autofree char *text = ld_merge_clean_path(path);
    int r;

    if (!text)
        return ld_err_set(err, LD_E_INVALID, "'%s' is not a clean path", path);
    r = look_down(layers, text, &found, ret_parts);
    /* A name too long for the file system, a link on the way: there is no such entry. */
    if (r == -ENAMETOOLONG || r == -ENOTDIR)
        r = 0;
    if (r <= 0)
        return r < 0 ? ld_err_sys(err, r, "look up '%s'", path) : 0;
    found.path = ld_steal(&text);
    found.node.path = found.path;
    *ret = found;
    return 1;
}

int ld_tree_lookup(const struct ld_layers *layers, const char *path, struct ld_found *ret,
                   struct ld_err *err)
{
    return look_up(layers, path, ret, NULL, err);
}

int ld_tree_enter(const struct ld_layers *layers, const char *path, struct ld_subtree *ret,
                  struct ld_err *err)
{
    LD_AUTO(ld_found_done) struct ld_found found = LD_FOUND_INIT;
    LD_AUTO(ld_merge_parts_done) struct ld_merge_parts parts = {.n = 0};
    int r = look_up(layers, path, &found, &parts, err);

    if (r <= 0 || parts.n == 0)
        return r < 0 ? -1 : 0;
    ret->fd = ld_alloc0(parts.n * sizeof(*ret->fd));
    for (size_t i = 0; i < parts.n; i++)
        ret->fd[i] = ld_steal_fd(&parts.item[i].fd);
    ret->layers = (struct ld_layers){.root = ret->fd, .n = parts.n, .form = layers->form};
    return 1;
}

void ld_subtree_done(struct ld_subtree *subtree)
{
    for (size_t i = 0; i < subtree->layers.n; i++)
        ld_close(subtree->fd[i]);
    free(subtree->fd);
    *subtree = (struct ld_subtree){.fd = NULL};
}

void ld_found_done(struct ld_found *found)
{
    ld_close(found->dir);
    free(found->path);
    *found = LD_FOUND_INIT;
}
