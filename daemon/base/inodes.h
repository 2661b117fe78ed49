/* Inodes with more than one name, as a walk of a tree meets them: each once, with a text (the name
 * it was met under, or "").
 *
 * One owner, no locking, never blocks. An inode takes some 100 bytes and its text. How many there
 * are is up to whoever filled the tree, so each set has a bound.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/stat.h>

#include "daemon/base/cleanup.h"

enum { LD_INODES_MAX = 1 << 24 }; /* for who knows no better bound */

struct ld_inode;

struct ld_inodes {
    struct ld_inode *all; /* NULL: none */
    size_t max;
};

#define LD_INODES_INIT(max_) ((struct ld_inodes){.max = (max_)})

/* Not a directory, whose link count says how many directories are in it. */
bool ld_inode_has_names(const struct stat *st);

/* The text of st's inode, the set's; NULL: it is not there. `layer`: an inode is one only within
 * its layer of a chain; 0 where there is no chain. */
const char *ld_inodes_find(const struct ld_inodes *set, const struct stat *st, size_t layer);

/* 0: it is there now; 1: it was there, with the text it came with; -E2BIG: beyond the bound. The
 * text is copied. */
int ld_inodes_add(struct ld_inodes *set, const struct stat *st, size_t layer,
                  const char *text) ld_must_check;

void ld_inodes_done(struct ld_inodes *set);
