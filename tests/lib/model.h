/* The model of layered trees that the tests hold the daemon against: entries of tars, what they
 * make of a layer, and what a chain of layers looks like from above.
 *
 * It knows nothing of the daemon's code and nothing of files: trees of nodes in memory, all given
 * back by m_free_all (arena.h). What it cannot do it does not say: no limits, no sizes of
 * directories.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { M_MAX_XATTRS = 8, M_MAX_SEGMENTS = 24 };

struct m_xattr {
    const char *name;
    const void *value;
    size_t len;
};

/* len bytes at an offset, made of a seed: byte i of the segment is m_byte(seed, i). */
struct m_segment {
    uint64_t offset, len, seed;
};

enum m_type { M_FILE, M_DIR, M_SYMLINK, M_HARDLINK, M_CHAR, M_BLOCK, M_FIFO };

struct m_entry {
    enum m_type type;
    const char *name, *target; /* as the tar has them; target NULL: none */
    uint32_t mode, uid, gid, major, minor;
    int64_t sec;
    uint32_t nsec;
    struct m_xattr *xattr;
    size_t n_xattrs;
    uint64_t size;
    struct m_segment *segment; /* files; ascending; the rest is zeros */
    size_t n_segments;
};

uint8_t m_byte(uint64_t seed, uint64_t i);

/* What several names may share. Its attributes are those of the entry that made it. */
struct m_inode {
    struct m_entry e;
    unsigned names;     /* in its layer; counted by m_layer_close */
    bool is_from_below; /* a hard link to a name of a lower layer made it */
};

struct m_node {
    char *name;
    struct m_node *parent;
    struct m_inode *inode;
    struct m_node **child; /* of a directory; sorted by name in a merged tree */
    size_t n, cap;
    bool is_implied; /* a directory no entry speaks of */
    bool is_missing; /* not in the tree: a place where something could be */
};

struct m_layer;

/* A new layer on a merged tree (NULL: a base). */
struct m_layer *m_layer_new(const struct m_node *below);
struct m_layer *m_layer_dup(const struct m_layer *layer);
/* False: the entry has to be refused; the layer is of no use any more. The entry is copied, what it
 * points to is not. */
bool m_layer_add(struct m_layer *layer, const struct m_entry *e);
/* The merged tree with this layer on top. */
struct m_node *m_layer_close(struct m_layer *layer);

struct m_node *m_child(const struct m_node *dir, const char *name);
bool m_is_dir(const struct m_node *node);
