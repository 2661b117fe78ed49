/* Files by descriptor: whole reads and writes, opening below a root, publishing, removing trees.
 *
 * Blocking; any thread. Every function returns 0 (or what it says) or -errno. Every descriptor made
 * here is O_CLOEXEC.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "daemon/base/cleanup.h"

/* Exactly len bytes, through short results and EINTR. End of file before that is -ENODATA. */
int ld_read_full(int fd, void *data, size_t len) ld_must_check;
int ld_pread_full(int fd, void *data, size_t len, uint64_t offset) ld_must_check;
int ld_write_full(int fd, const void *data, size_t len) ld_must_check;
int ld_pwrite_full(int fd, const void *data, size_t len, uint64_t offset) ld_must_check;

/* One read or pread of at most len bytes: the count, 0 at the end of the file, -errno. */
ssize_t ld_read_some(int fd, void *data, size_t len) ld_must_check;
ssize_t ld_pread_some(int fd, void *data, size_t len, uint64_t offset) ld_must_check;

/* openat2 for every path that comes from outside. `how` says what a symlink may do:
 * BENEATH: neither `..` nor a symlink may leave dir (-EXDEV); IN_ROOT: dir is the path's "/".
 * Magic links are never followed. mode is used with O_CREAT. Returns the descriptor or -errno. */
enum ld_resolve { LD_BENEATH, LD_IN_ROOT };
int ld_open_under(int dir, const char *path, enum ld_resolve how, int flags,
                  mode_t mode) ld_must_check;

/* "/proc/self/fd/N" for calls that take only a path; size 32 is enough. */
struct ld_fd_path {
    char path[32];
};
struct ld_fd_path ld_fd_path(int fd);

/* mkdirat + open (O_RDONLY|O_DIRECTORY|O_NOFOLLOW). An existing directory is -EEXIST; use
 * ld_ensure_dir for "make if missing". The mode is exact, whatever the umask. */
int ld_make_dir(int dir, const char *name, mode_t mode) ld_must_check;
int ld_ensure_dir(int dir, const char *name, mode_t mode) ld_must_check;
int ld_open_dir(int dir, const char *name) ld_must_check; /* O_RDONLY|O_DIRECTORY|O_NOFOLLOW */

/* rename(2) that fails with -EEXIST instead of replacing, then fsync of the target directory (and
 * of the source directory if it is another one). The content must be durable already. */
int ld_publish_at(int from_dir, const char *from, int to_dir, const char *to) ld_must_check;

int ld_fsync(int fd) ld_must_check;
int ld_syncfs(int fd) ld_must_check;

/* Copies a file's data, holes kept; reflinks where the file system can. Offsets of both are 0. A
 * `cancel` that becomes true ends it with -ECANCELED. */
int ld_copy_data(int from, int to, const bool *cancel) ld_must_check;

/* Deletes name below dir with all that is in it, by descriptors only: no symlink is followed, no
 * other mount entered (-EXDEV), no limit on depth or path length. A missing name is success. */
int ld_remove_tree(int dir, const char *name, const bool *cancel) ld_must_check;

/* st_blocks * 512 and number of inodes of a tree (hard links once), not crossing mounts. A `cancel`
 * (or NULL) that becomes true ends the walk with -ECANCELED. */
struct ld_usage {
    uint64_t bytes;
    uint64_t inodes;
};
int ld_tree_usage(int dir, const char *name, const bool *cancel,
                  struct ld_usage *ret) ld_must_check;

/* Calls visit for each name but "." and ".." of an open directory (not sorted); a result other than
 * 0 ends the walk and is returned. `dir` is not consumed. d_type as readdir(3) gives it. */
typedef int (*ld_visit_fn)(void *arg, const char *name, unsigned char d_type);
int ld_each_name(int dir, ld_visit_fn visit, void *arg) ld_must_check;
/* 1: nothing is in the directory; 0: something is; -errno. */
int ld_dir_is_empty(int parent, const char *name) ld_must_check;
