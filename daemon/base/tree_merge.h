/* The merge rule, for the files of the tree module alone: see tree.h. No state, any thread. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "daemon/base/tree.h"

struct ld_merge_part {
    size_t layer;
    int fd; /* -EBADF: given up, or (a root) the caller's */
    dev_t dev;
    ino_t ino;
    bool has_xattr_whiteouts;
};

struct ld_merge_parts {
    struct ld_merge_part *item;
    size_t n, cap;
};

/* One name being merged, layer by layer from the top. */
struct ld_merge {
    const char *name;
    enum ld_form form;
    struct ld_node node;         /* st, layer, and what kind; not yet dir */
    bool is_found;               /* node is filled */
    struct ld_merge_parts parts; /* where a directory goes on */
};

enum ld_look { LD_LOOK_ABSENT, LD_LOOK_WHITEOUT, LD_LOOK_DIR, LD_LOOK_OTHER };

void ld_merge_parts_done(struct ld_merge_parts *parts);
void ld_merge_done(struct ld_merge *merge);

/* What one layer's directory `at` has under m->name. Returns an enum ld_look or -errno. */
int ld_merge_look(const struct ld_merge *m, const struct ld_merge_part *p, int at,
                  struct stat *ret) ld_must_check;
/* Takes the next lower layer's entry into account. Returns 1: nothing below counts; 0: go on;
 * -errno. */
int ld_merge_step(struct ld_merge *m, const struct ld_merge_part *p, int at) ld_must_check;
/* The parts of the root: all layers, whatever their roots say. The roots themselves stay the
 * caller's. */
int ld_merge_root(const struct ld_layers *layers, struct ld_merge_parts *ret,
                  struct ld_node *ret_node) ld_must_check;
/* Fills a part for an open directory, which becomes its own. *ret_mark as ld_mark_get_opaque. */
int ld_merge_part_init(struct ld_merge_part *p, size_t layer, int fd, enum ld_form form,
                       char *ret_mark) ld_must_check;

/* "/a/b" of "a//b/", free it; NULL: it has "." or ".." or is longer than any path. */
char *ld_merge_clean_path(const char *path);
