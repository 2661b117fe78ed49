/* A canonical text of a directory tree, to compare two trees byte by byte.
 *
 * It shares no code with daemon/base/tree (it walks by fts), so that it can serve as that module's
 * oracle. One line per entry, the root "." included, in the byte order of the paths' components:
 *
 *   PATH TYPE MODE UID:GID mtime=S.NS [size=N sha256=HEX] [rdev=MA:MI] [target=T] [link=N]
 * [NAME=HEX ...]
 *
 * Names and targets are escaped (\ooo); link=N groups the names of one inode, numbered by first
 * appearance, and stands only where the tree shows at least two of them; xattrs come sorted by
 * name.
 */
#pragma once

#include <stdio.h>

enum ld_dump_flags {
    LD_DUMP_OVERLAY_XATTRS = 1 << 0, /* trusted.overlay.* too; else they are left out */
    LD_DUMP_NO_DIR_TIMES = 1 << 1,
    LD_DUMP_NO_LINKS = 1 << 2, /* no link=N: then a line says just what `changes` compares */
};

/* Writes the text to `out`. 0, or -errno of the entry named in `ret_path` (256 bytes, may be NULL).
 */
int ld_dump_tree(const char *root, unsigned flags, FILE *out, char *ret_path);

/* The same as a string, free it; aborts the process on an error (tests). */
char *ld_dump_string(const char *root, unsigned flags);
