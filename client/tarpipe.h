/* Trees as tar streams, made and unpacked by tar(1): it is on every system, keeps links, holes,
 * times and attributes, and never follows what an archive tries to plant outside. One thread;
 * blocking. */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

#include "daemon/base/cleanup.h"

struct ld_err;

struct ld_tarpipe {
    pid_t pid; /* 0: none */
    int fd;    /* its output (pack) or input (unpack) */
};

#define LD_TARPIPE_INIT ((struct ld_tarpipe){.fd = -EBADF})

/* The file or tree `path` (a symlink is stored as one), all names in the stream beginning with
 * `name` in its place; NULL: what the directory holds, without itself. Owners are root unless
 * `owners`. */
struct ld_tar_source {
    const char *path;
    const char *name;
    bool owners;
};
int ld_tar_pack(const struct ld_tar_source *source, struct ld_tarpipe *ret,
                struct ld_err *err) ld_must_check;

/* Into the directory; `strip` takes the first component off all names. Directories that are there
 * keep their attributes. */
int ld_tar_unpack(const char *dir, bool strip, bool owners, struct ld_tarpipe *ret,
                  struct ld_err *err) ld_must_check;

/* Closes the stream, waits, and fails when tar did (its reasons are on standard error). */
int ld_tar_finish(struct ld_tarpipe *pipe, struct ld_err *err) ld_must_check;
/* The same for what has failed anyway. Takes an unused pipe, too. */
void ld_tar_abort(struct ld_tarpipe *pipe);

#define autotarpipe LD_AUTO(ld_tar_abort)
