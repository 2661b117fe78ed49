/* The model of layered trees: see model.h. Clarity before speed, and nothing shared with daemon/.
 */
#include "tests/lib/model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/lib/arena.h"

enum { MAX_SYMLINKS = 40, MAX_DEPTH = 128, MAX_NAME = 255 };

struct names { /* a set of paths */
    char **item;
    size_t n, cap;
};

struct lower_link { /* all hard links to one name of a lower layer share an inode */
    const char *target;
    struct m_inode *inode;
};

struct m_layer {
    const struct m_node *below;
    struct m_node *root;
    bool has_root; /* an entry has spoken of it, or implied it */
    struct names whiteouts, opaques;
    struct lower_link *links;
    size_t n_links, cap_links;
};

uint8_t m_byte(uint64_t seed, uint64_t i)
{
    uint64_t z = seed + (i / 8 + 1) * UINT64_C(0x9E3779B97F4A7C15);

    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    return (uint8_t)((z ^ (z >> 31)) >> (i % 8 * 8));
}

/* ---- trees ---- */

bool m_is_dir(const struct m_node *node)
{
    return node->inode->e.type == M_DIR;
}

struct m_node *m_child(const struct m_node *dir, const char *name)
{
    for (size_t i = 0; i < dir->n; i++)
        if (strcmp(dir->child[i]->name, name) == 0)
            return dir->child[i];
    return NULL;
}

static struct m_inode *new_inode(const struct m_entry *e)
{
    struct m_inode *inode = m_new(struct m_inode);

    inode->e = *e;
    return inode;
}

static struct m_node *new_node(struct m_node *parent, const char *name, struct m_inode *inode)
{
    struct m_node *node = m_new(struct m_node);

    node->name = m_strdup(name);
    node->parent = parent;
    node->inode = inode;
    return node;
}

static struct m_node *attach(struct m_node *node)
{
    struct m_node *dir = node->parent;

    m_grow(&dir->child, &dir->cap, dir->n + 1, sizeof(*dir->child));
    dir->child[dir->n++] = node;
    return node;
}

static void detach(struct m_node *node)
{
    struct m_node *dir = node->parent;

    for (size_t i = 0; i < dir->n; i++)
        if (dir->child[i] == node)
            dir->child[i] = dir->child[--dir->n];
}

static struct m_node *dup_tree(const struct m_node *node, struct m_node *parent)
{
    struct m_node *copy = new_node(parent, node->name, node->inode);

    copy->is_implied = node->is_implied;
    for (size_t i = 0; i < node->n; i++) {
        struct m_node *child = dup_tree(node->child[i], copy);

        (void)attach(child);
    }
    return copy;
}

static size_t depth_of(const struct m_node *node)
{
    size_t depth = 0;

    for (; node->parent; node = node->parent)
        depth++;
    return depth;
}

static char *path_of(const struct m_node *node)
{
    char *above;

    if (!node->parent)
        return m_strdup("");
    above = path_of(node->parent);
    return m_printf("%s/%s", above, node->name);
}

/* ---- sets of paths ---- */

static void names_add(struct names *set, const char *path)
{
    m_grow(&set->item, &set->cap, set->n + 1, sizeof(*set->item));
    set->item[set->n++] = m_strdup(path);
}

static bool names_have(const struct names *set, const char *path)
{
    for (size_t i = 0; i < set->n; i++)
        if (strcmp(set->item[i], path) == 0)
            return true;
    return false;
}

static struct names names_dup(const struct names *set)
{
    struct names copy = {.n = 0};

    for (size_t i = 0; i < set->n; i++)
        names_add(&copy, set->item[i]);
    return copy;
}

/* ---- a layer ---- */

static struct m_inode *default_dir(int64_t sec, uint32_t nsec)
{
    struct m_entry e = {.type = M_DIR, .mode = 0755, .sec = sec, .nsec = nsec};

    return new_inode(&e);
}

struct m_layer *m_layer_new(const struct m_node *below)
{
    struct m_layer *layer = m_new(struct m_layer);

    layer->below = below;
    layer->root = new_node(NULL, "", default_dir(0, 0));
    layer->root->is_implied = true;
    return layer;
}

struct m_layer *m_layer_dup(const struct m_layer *layer)
{
    struct m_layer *copy = m_new(struct m_layer);

    *copy = *layer;
    copy->root = dup_tree(layer->root, NULL);
    copy->whiteouts = names_dup(&layer->whiteouts);
    copy->opaques = names_dup(&layer->opaques);
    copy->links = m_memdup(layer->links, layer->n_links * sizeof(*copy->links));
    copy->cap_links = layer->n_links;
    return copy;
}

/* The components of a path cleaned as text, NULL at the end; NULL: it leads out. */
static char **clean(const char *path)
{
    char **part = m_alloc((strlen(path) / 2 + 2) * sizeof(*part));
    char *text = m_strdup(path), *save = NULL;
    size_t n = 0;

    for (char *p = strtok_r(text, "/", &save); p; p = strtok_r(NULL, "/", &save)) {
        if (strcmp(p, ".") == 0)
            continue;
        if (strcmp(p, "..") == 0) {
            if (n == 0)
                return NULL;
            part[--n] = NULL;
            continue;
        }
        part[n++] = p;
    }
    return part;
}

struct way {
    struct m_layer *layer;
    const struct m_entry *e; /* NULL: nothing is made, the way may end at a missing place */
    unsigned n_symlinks;
};

static struct m_node *go(struct way *w, struct m_node *at, const char *path);

/* From directory `at` to its child; NULL: refused. */
static struct m_node *go_one(struct way *w, struct m_node *at, const char *name)
{
    struct m_node *child = m_child(at, name);

    if (strlen(name) > MAX_NAME || strncmp(name, ".wh.", 4) == 0)
        return NULL;
    if (!child) {
        child = new_node(at, name, default_dir(w->e ? w->e->sec : 0, w->e ? w->e->nsec : 0));
        child->is_implied = true;
        child->is_missing = !w->e;
        if (w->e && depth_of(child) > MAX_DEPTH)
            return NULL;
        return w->e ? attach(child) : child;
    }
    if (child->inode->is_from_below) /* whatever it is: unpacking does not look below */
        return NULL;
    if (child->inode->e.type == M_SYMLINK) {
        const char *target = child->inode->e.target;

        if (++w->n_symlinks > MAX_SYMLINKS)
            return NULL;
        return go(w, target[0] == '/' ? w->layer->root : at, target);
    }
    return m_is_dir(child) ? child : NULL;
}

static struct m_node *go(struct way *w, struct m_node *at, const char *path)
{
    char *text = m_strdup(path), *save = NULL;

    for (char *p = strtok_r(text, "/", &save); p && at; p = strtok_r(NULL, "/", &save)) {
        if (strcmp(p, "..") == 0)
            at = at->parent ? at->parent : at;
        else if (strcmp(p, ".") != 0)
            at = go_one(w, at, p);
    }
    return at;
}

/* All but the last component, which is given back. */
static struct m_node *go_parent(struct way *w, char **part, const char **ret_last)
{
    struct m_node *at = w->layer->root;
    size_t i = 0;

    for (; part[i + 1] && at; i++)
        at = go_one(w, at, part[i]);
    *ret_last = part[i];
    return at;
}

static const struct m_node *find_below(const struct m_node *below, const char *path)
{
    char *text = m_strdup(path), *save = NULL;

    for (char *p = strtok_r(text, "/", &save); p && below; p = strtok_r(NULL, "/", &save))
        below = m_child(below, p);
    return below;
}

/* The inode that stands for a name of a lower layer; NULL: there is none. */
static struct m_inode *lower_inode(struct m_layer *layer, const char *target)
{
    const struct m_node *there = layer->below ? find_below(layer->below, target) : NULL;
    struct m_inode *inode;

    for (size_t i = 0; i < layer->n_links; i++)
        if (strcmp(layer->links[i].target, target) == 0)
            return layer->links[i].inode;
    if (!there || m_is_dir(there))
        return NULL;
    inode = new_inode(&there->inode->e);
    inode->is_from_below = true;
    m_grow(&layer->links, &layer->cap_links, layer->n_links + 1, sizeof(*layer->links));
    layer->links[layer->n_links++] =
        (struct lower_link){.target = m_strdup(target), .inode = inode};
    return inode;
}

static void put(struct m_node *dir, const char *name, struct m_inode *inode)
{
    struct m_node *old = m_child(dir, name);

    if (old)
        detach(old);
    (void)attach(new_node(dir, name, inode));
}

static bool add_hardlink(struct m_layer *layer, struct m_node *dir, const char *name,
                         const struct m_entry *e)
{
    struct way w = {.layer = layer};
    char **part = clean(e->target);
    struct m_node *at, *to;
    struct m_inode *inode;
    const char *last;

    if (!part || !part[0])
        return false;
    at = go_parent(&w, part, &last);
    if (!at || strlen(last) > MAX_NAME || strncmp(last, ".wh.", 4) == 0)
        return false;
    to = m_child(at, last);
    if (to && m_is_dir(to))
        return false;
    if (!to) {
        inode = lower_inode(layer, path_of(new_node(at, last, NULL)));
    } else {
        inode = to->inode;
        for (; at; at = at->parent) /* in a tree that the link would replace */
            if (at->parent == dir && strcmp(at->name, name) == 0)
                return false;
    }
    if (!inode)
        return false;
    if (m_child(dir, name) && m_child(dir, name)->inode == inode)
        return true;
    put(dir, name, inode);
    return true;
}

static bool add_dir(struct m_node *dir, const char *name, const struct m_entry *e)
{
    struct m_node *old = m_child(dir, name);

    if (old && m_is_dir(old)) {
        old->inode = new_inode(e);
        old->is_implied = false;
    } else {
        put(dir, name, new_inode(e));
    }
    return true;
}

static bool add_whiteout(struct m_layer *layer, struct m_node *dir, const char *name,
                         const struct m_entry *e)
{
    const char *hidden = name + 4;

    if (e->type == M_DIR)
        return false;
    if (strcmp(name, ".wh..wh..opq") == 0) {
        names_add(&layer->opaques, path_of(dir));
        return true;
    }
    if (strncmp(hidden, ".wh.", 4) == 0 || hidden[0] == '\0' || strcmp(hidden, ".") == 0 ||
        strcmp(hidden, "..") == 0)
        return false;
    names_add(&layer->whiteouts, path_of(new_node(dir, hidden, NULL)));
    return true;
}

bool m_layer_add(struct m_layer *layer, const struct m_entry *e)
{
    struct way w = {.layer = layer, .e = e};
    char **part = clean(e->name);
    struct m_node *dir;
    const char *name;

    if (!part || e->name[0] == '\0' || (e->name[0] == '/' && part[0]))
        return false;
    if (!part[0]) {
        layer->has_root = true;
        layer->root->inode = new_inode(e);
        layer->root->is_implied = false;
        return e->type == M_DIR;
    }
    if (!layer->has_root)
        layer->root->inode = default_dir(e->sec, e->nsec);
    layer->has_root = true;
    dir = go_parent(&w, part, &name);
    if (!dir || strlen(name) > MAX_NAME || depth_of(dir) + 1 > MAX_DEPTH)
        return false;
    if (strncmp(name, ".wh.", 4) == 0)
        return add_whiteout(layer, dir, name, e);
    if (e->type == M_HARDLINK)
        return add_hardlink(layer, dir, name, e);
    if (e->type == M_DIR)
        return add_dir(dir, name, e);
    if (e->type == M_CHAR && e->major == 0 && e->minor == 0)
        return false;
    put(dir, name, new_inode(e));
    return true;
}

/* ---- seen from above ---- */

static int by_name(const void *a, const void *b)
{
    return strcmp((*(struct m_node *const *)a)->name, (*(struct m_node *const *)b)->name);
}

/* A directory of the layer over the directory below that it merges with (NULL: none). */
static struct m_node *merge(const struct m_layer *layer, const struct m_node *own,
                            const struct m_node *below, struct m_node *parent)
{
    struct m_inode *inode = own->is_implied && below ? below->inode : own->inode;
    struct m_node *merged = new_node(parent, own->name, inode);
    char *path = path_of(own);
    bool is_opaque = names_have(&layer->opaques, path);

    for (size_t i = 0; below && !is_opaque && i < below->n; i++) {
        const struct m_node *child = below->child[i];
        char *child_path = m_printf("%s/%s", path, child->name);

        if (!m_child(own, child->name) && !names_have(&layer->whiteouts, child_path))
            (void)attach(dup_tree(child, merged));
    }
    for (size_t i = 0; i < own->n; i++) {
        const struct m_node *child = own->child[i];
        const struct m_node *under = below && !is_opaque ? m_child(below, child->name) : NULL;

        if (!m_is_dir(child)) {
            (void)attach(new_node(merged, child->name, child->inode));
            continue;
        }
        if (under && (!m_is_dir(under) || names_have(&layer->whiteouts, path_of(child))))
            under = NULL;
        (void)attach(merge(layer, child, under, merged));
    }
    if (merged->n)
        qsort(merged->child, merged->n, sizeof(*merged->child), by_name);
    return merged;
}

static void count_names(struct m_node *node)
{
    node->inode->names++;
    for (size_t i = 0; i < node->n; i++)
        count_names(node->child[i]);
}

struct m_node *m_layer_close(struct m_layer *layer)
{
    count_names(layer->root);
    return merge(layer, layer->root, layer->below, NULL);
}
