/* Files in and out of a tree: a container with its volumes, or a volume (file_tree.h opens both).
 *
 * Paths come from outside and the tree belongs to whoever runs in the container: nothing is opened
 * but by openat2(RESOLVE_IN_ROOT), O_PATH first, and only regular files are opened again. Blocking;
 * any worker. A symlink at the end of a path is followed only when the path ends in '/'. What was
 * written or deleted is on the disk when the call returns (not of a volatile container). Codes:
 * not_found; conflict (it is of the wrong type, or the container read-only); invalid (a path that
 * is none, too long, or loops); io, no_space.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#include "daemon/base/err.h"

struct ld_sink;
struct ld_source;

/* What paths are resolved in. */
struct ld_files_root {
    int fd;           /* O_PATH will do */
    const char *what; /* "container", "volume": for messages */
};

struct ld_file_info {
    char *name; /* the last component, "/" for the root */
    struct stat st;
    char *target; /* of a symlink, or NULL */
};
void ld_file_info_done(struct ld_file_info *info);

/* path: absolute, bytes. */
int ld_files_stat(const struct ld_files_root *root, const char *path, struct ld_file_info *ret,
                  struct ld_err *err);

/* The names of a directory in byte order, after `after` (NULL: from the first); sink borrows the
 * info. */
typedef int (*ld_file_info_fn)(void *arg, const struct ld_file_info *info, struct ld_err *err);
int ld_files_list(const struct ld_files_root *root, const char *path, const char *after,
                  ld_file_info_fn sink, void *arg, struct ld_err *err);

/* What the path names, a directory with all that is in it: entries begin with its last component.
 */
int ld_files_read_tar(const struct ld_files_root *root, const char *path, struct ld_sink *sink,
                      const bool *cancel, struct ld_err *err);
/* A regular file, opened for reading. */
int ld_files_open(const struct ld_files_root *root, const char *path, int *ret_fd,
                  struct stat *ret_st, struct ld_err *err);

struct ld_files_result {
    uint64_t entries, bytes;
    bool dirs_left; /* LD_UNPACK_ANY_DIRS: no directory has its attributes yet */
};

enum ld_unpack_flags {
    LD_UNPACK_SELF = 1 << 0,   /* "./" gives the directory itself its attributes */
    LD_UNPACK_STRICT = 1 << 1, /* what layers may not have is refused: absolute names, paths deeper
                                * than 128, character devices 0:0 */
    LD_UNPACK_ANY_DIRS = 1 << 2, /* more than 65,536 directories, too: see ld_files_finish_tar */
};
/* Unpacks a tar (uncompressed) into the directory `path`, over what is there, entry by entry. After
 * a failure those before it stay, each whole, and *ret counts them. Other codes: bad_content naming
 * the entry. */
int ld_files_write_tar(const struct ld_files_root *root, const char *path, struct ld_source *tar,
                       unsigned flags, const bool *cancel, struct ld_files_result *ret,
                       struct ld_err *err);
/* After dirs_left: gives the directories their attributes, read from the same tar again. */
int ld_files_finish_tar(const struct ld_files_root *root, const char *path, struct ld_source *tar,
                        unsigned flags, const bool *cancel, struct ld_err *err);
/* Reads all of a tar and refuses what unpacking it would refuse, as far as the archive alone tells.
 */
int ld_files_check_tar(struct ld_source *tar, unsigned flags, const bool *cancel,
                       struct ld_err *err);

struct ld_new_file {
    mode_t mode;
    uid_t uid;
    gid_t gid;
    struct timespec mtime; /* tv_nsec UTIME_NOW: now */
};
/* The content becomes the regular file `path`, created or replaced as a whole. */
int ld_files_write(const struct ld_files_root *root, const char *path, struct ld_source *content,
                   const struct ld_new_file *as, struct ld_files_result *ret, struct ld_err *err);

/* Deletes what the path names, never what a symlink at its end points to. busy: a mount is in it.
 */
int ld_files_delete(const struct ld_files_root *root, const char *path, bool recursive,
                    const bool *cancel, struct ld_err *err);
