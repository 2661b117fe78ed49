/* The merged view of a chain of layers, and nodes: compare, copy, attributes, overlay's marks.
 *
 * The one rule, as overlay has it: a directory merges downwards until the first layer whose entry
 * is opaque, a whiteout, or not a directory. Nothing else in layerd knows it. Redirects and
 * metacopy are never followed. The root of a layer always merges: overlay does not look for an
 * opaque mark there.
 *
 * Blocking; any thread; one object belongs to one thread at a time. Functions that walk fill `err`,
 * naming the entry; functions about one descriptor return -errno. Depth, path length and number of
 * layers are not limited by open descriptors: at most LD_TREE_MAX_FDS are kept per walk.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/stat.h>

#include "daemon/base/cleanup.h"
#include "daemon/base/err.h"

/* How a directory tree says things.
 * LAYER: char 0:0 is a whiteout, trusted.overlay.* are marks; an ordinary xattr of that name is
 * stored as trusted.overlay.overlay.*, and shown under its own name again (as Linux 6.7 and later
 * do). PLAIN: a tree that shows itself: a mounted container seen through a view, vfs's root, a
 * volume. */
enum ld_form { LD_FORM_LAYER, LD_FORM_PLAIN };

/* A chain of open root directories (O_PATH will do), topmost first; of none, the tree is empty.
 * Borrowed; must outlive what is opened on it. */
struct ld_layers {
    const int *root;
    size_t n;
    enum ld_form form;
};

enum {
    LD_TREE_MAX_FDS = 512,
    LD_TREE_MAX_NAMES = 1 << 24, /* in one directory, counted over all layers of it */
};

/* One entry of a merged tree. All of it is valid until the next call on the walk it came from. */
struct ld_node {
    const char *path; /* "/", "/etc/passwd": bytes; path + 1 is the relative one */
    const char *name; /* the last component; "." for the root */
    size_t depth;     /* 0: the root */
    struct stat st;   /* nanoseconds and all; of the topmost layer that has it */
    size_t layer;     /* index into root[] of the layer that provides it */
    int dir; /* directory of that layer which has `name` (borrowed; root: the root itself) */
    enum ld_form form; /* of the tree it lies in */
    bool is_merged;    /* a directory that goes on in a layer further down */
    bool is_opaque;    /* a directory with an opaque mark (the root never) */
    bool is_closed;    /* a directory that merging ended at: what layers still further down than
                          these have there is hidden (a single layer: the same as is_opaque) */
    bool is_whiteout;  /* only with LD_TREE_WHITEOUTS: hides what lies below */
    bool is_leave;     /* the second visit of a directory, after all that is in it */
};

/* ---- walking ---- */

enum ld_tree_flags {
    LD_TREE_NO_LEAVE = 1 << 0,  /* no second visit of directories */
    LD_TREE_WHITEOUTS = 1 << 1, /* whiteouts are delivered too (is_whiteout), not only obeyed */
};

/* Pre-order, the root first, names in byte order within each directory (so paths come in the order
 * of their components). `cancel` (may be NULL) is polled for each entry. Never fails: a root that
 * can't be read is told by the first ld_tree_next. */
struct ld_tree;
struct ld_tree *ld_tree_new(const struct ld_layers *layers, unsigned flags, const bool *cancel);
void ld_tree_free(struct ld_tree *t);
void ld_tree_free_p(struct ld_tree **t);

/* 1: *ret is filled; 0: the end; -1: err. An entry that vanishes between reading the names and
 * looking at it (a mounted tree) is left out. */
int ld_tree_next(struct ld_tree *t, struct ld_node *ret, struct ld_err *err) ld_must_check;

/* After a directory's first visit: nothing in it is read or delivered, nor its second visit. */
void ld_tree_skip(struct ld_tree *t);

/* Leaves out, unlooked at, everything that comes before `path` ("/a/b") in the order of the walk;
 * second visits of what is left still come. To be called between two ld_tree_next. */
void ld_tree_skip_to(struct ld_tree *t, const char *path);

/* The order of a walk: <0, 0, >0 as by component, each by bytes. */
int ld_tree_path_cmp(const char *a, const char *b);

/* ---- looking up ---- */

/* What the merged tree has at `path` (with or without a leading '/'; "" or "/": the root). Symlinks
 * are not followed, neither in the middle (then there is nothing) nor at the end; "." and ".." are
 * refused. 1: found, release it; 0: absent or hidden; -1: err. */
struct ld_found {
    struct ld_node node;
    char *path; /* owns node.path and node.name */
    int dir;    /* owns node.dir; -EBADF for the root, whose node.dir is the caller's */
};
#define LD_FOUND_INIT ((struct ld_found){.dir = -EBADF})
int ld_tree_lookup(const struct ld_layers *layers, const char *path, struct ld_found *ret,
                   struct ld_err *err) ld_must_check;
void ld_found_done(struct ld_found *found);

/* A directory of the merged tree (not its root) as a chain of its own: what it merges from, topmost
 * first, open. For many look-ups in it, each of which then costs one step instead of the whole way
 * down. 1; 0: absent, hidden or no directory; -1: err. */
struct ld_subtree {
    struct ld_layers layers;
    int *fd; /* owned */
};
int ld_tree_enter(const struct ld_layers *layers, const char *path, struct ld_subtree *ret,
                  struct ld_err *err) ld_must_check;
void ld_subtree_done(struct ld_subtree *subtree);

/* What each layer has at one path, and what becomes of it in the merged tree. */
enum ld_trace_role {
    LD_TRACE_ABSENT,   /* the layer has nothing there */
    LD_TRACE_PROVIDES, /* this is what the merged tree shows */
    LD_TRACE_MERGES,   /* a directory that goes on in the one above it */
    LD_TRACE_WHITEOUT, /* says that there is nothing, here and below */
    LD_TRACE_HIDDEN,   /* by a layer above, see below */
};
enum ld_hide_how {
    LD_HIDE_WHITEOUT, /* deleted */
    LD_HIDE_OPAQUE,   /* in a directory that was made anew */
    LD_HIDE_REPLACED, /* by something that is no directory, or by a directory */
};
struct ld_trace_layer {
    enum ld_trace_role role;
    struct stat st; /* but of LD_TRACE_ABSENT */
    bool is_opaque;
    size_t hidden_by; /* LD_TRACE_HIDDEN: the layer … */
    size_t hidden_at; /* … at so many bytes of the path (all of it, or a directory above) … */
    enum ld_hide_how how;
};
struct ld_trace {
    char *path; /* "/a/b", clean */
    struct ld_trace_layer *layer;
    size_t n;
    size_t provider; /* SIZE_MAX: there is nothing at the path */
};
/* As ld_tree_lookup, but of every layer of the chain. Opens one descriptor per layer at a time. */
int ld_tree_trace(const struct ld_layers *layers, const char *path, struct ld_trace *ret,
                  struct ld_err *err) ld_must_check;
void ld_trace_done(struct ld_trace *trace);

/* Opens a relative path below root, no symlink anywhere, of any length (openat2 takes 4,095 bytes).
 * "" or ".": root itself. Returns the descriptor or -errno (-ELOOP, -ENOTDIR for a symlink in it).
 */
int ld_tree_open_path(int root, const char *path, int flags) ld_must_check;

/* ---- one node ---- */

/* Regular files O_RDONLY, directories O_RDONLY|O_DIRECTORY, all else O_PATH; never blocks, never
 * follows. -ESTALE: it is another type by now. */
int ld_node_open(const struct ld_node *node) ld_must_check;

/* The target of a symlink; free it. */
int ld_node_readlink(const struct ld_node *node, char **ret) ld_must_check;

/* Equal means: type, mode, owner, rdev, target, xattrs, mtime, size and content (the last only when
 * all else is equal; the size of directories counts for nothing). */
int ld_node_compare(const struct ld_node *a, const struct ld_node *b, const bool *cancel,
                    bool *ret_equal, struct ld_err *err) ld_must_check;

/* Makes dir/name like the node: data with its holes (reflinked where possible), symlinks, fifos,
 * devices, sockets; then owner, mode, xattrs, times. A directory is made empty, 0700, without
 * attributes: those come last, by ld_node_copy_attrs. dir/name must not exist. `form`: of the tree
 * that dir lies in. */
int ld_node_copy(const struct ld_node *node, int dir, const char *name, enum ld_form form,
                 const bool *cancel, struct ld_err *err) ld_must_check;
/* The node's owner, mode, xattrs and times onto fd (O_PATH will do). */
int ld_node_copy_attrs(const struct ld_node *node, int fd, enum ld_form form,
                       struct ld_err *err) ld_must_check;

/* Copies the whole merged view into `dir`, an existing empty directory, which gets the root's
 * attributes last of all. Hard links of one layer are kept. After a failure `dir` holds a part. */
int ld_tree_copy(const struct ld_layers *layers, int dir, enum ld_form form, const bool *cancel,
                 struct ld_err *err) ld_must_check;
/* Of a tree that changes meanwhile: what vanishes is left out. */
int ld_tree_copy_live(const struct ld_layers *layers, int dir, enum ld_form form,
                      const bool *cancel, struct ld_err *err) ld_must_check;

/* The same into one layer (LD_FORM_LAYER): what the copied ones hide of those still further down,
 * it hides, too. `below`, those further down; then only marks that hide something are made (overlay
 * shows a whiteout that hides nothing). NULL: all marks are. */
enum ld_copy_flags {
    LD_COPY_LIVE = 1 << 0,       /* it may change meanwhile: what vanishes is left out */
    LD_COPY_NO_SOCKETS = 1 << 1, /* sockets are left out, too */
};
int ld_tree_copy_layer(const struct ld_layers *layers, const struct ld_layers *below, int dir,
                       unsigned flags, const bool *cancel, struct ld_err *err) ld_must_check;

/* ---- attributes (fd may be O_PATH and of any type, symlinks too) ---- */

struct ld_xattr {
    char *name;
    char *value; /* a NUL follows, not counted */
    size_t len;
};
struct ld_xattrs { /* sorted by name */
    struct ld_xattr *item;
    size_t n, cap;
};
/* All xattrs under the names the tree shows: no marks. At most 8 MiB per node, else -E2BIG. A file
 * system without xattrs has none. */
int ld_xattrs_get(int fd, enum ld_form form, struct ld_xattrs *ret) ld_must_check;
/* Adds or replaces; names as shown. */
int ld_xattrs_set(int fd, enum ld_form form, const struct ld_xattrs *xattrs) ld_must_check;
int ld_xattr_set(int fd, enum ld_form form, const char *name, const void *value,
                 size_t len) ld_must_check;
/* Removes every xattr that ld_xattrs_get shows. */
int ld_xattrs_clear(int fd, enum ld_form form) ld_must_check;
bool ld_xattrs_equal(const struct ld_xattrs *a, const struct ld_xattrs *b);
void ld_xattrs_done(struct ld_xattrs *xattrs);

/* Owner, then mode (not of symlinks), then xattrs (may be NULL), then access and modification time:
 * chown clears set-id bits and capabilities, everything touches the times. */
int ld_attrs_set(int fd, enum ld_form form, const struct stat *st,
                 const struct ld_xattrs *xattrs) ld_must_check;

/* ---- overlay's marks ---- */

#define LD_XATTR_OVERLAY "trusted.overlay."

bool ld_mark_is_whiteout(const struct stat *st);                    /* char 0:0 */
int ld_mark_make_whiteout(int dir, const char *name) ld_must_check; /* replaces nothing */
int ld_mark_set_opaque(int dir_fd) ld_must_check;                   /* `y` */
int ld_mark_clear_opaque(int dir_fd) ld_must_check;                 /* absent is success */
/* 'y': opaque; 'x': merges, but holds whiteouts in the form of empty files with an xattr (which is
 * read and never written here); '\0': neither. */
int ld_mark_get_opaque(int dir_fd, char *ret_mark) ld_must_check;
