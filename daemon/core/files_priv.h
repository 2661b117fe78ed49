/* What files.c, files_write.c and files_unpack.c share. */
#pragma once

#include "daemon/core/files.h"

/* "/a//b/" -> parent "/a", name "b"; the root has an empty name. */
struct ld_split_path {
    char *parent;
    char *name;
    bool wants_dir; /* a '/' at the end */
};
int ld_path_split(const char *path, struct ld_split_path *ret, struct ld_err *err);
void ld_path_split_done(struct ld_split_path *p);

/* -errno of a path in the tree as an error that names it. */
int ld_path_error(struct ld_err *err, int neg_errno, const struct ld_files_root *root,
                  const char *what, const char *path);

/* A file without a name in `dir`, or with a random one where there is no O_TMPFILE (*ret_temp,
 * free). */
int ld_nameless_make(int dir, char **ret_temp);
/* Gives the whole file its name; what has it now, unless a directory, is replaced at once. */
int ld_nameless_name(int dir, int fd, char **temp, const char *name);
void ld_nameless_drop(int dir, char **temp); /* one that has no name yet; twice is fine */
