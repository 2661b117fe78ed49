/* Where downloaded bytes go: standard output, or a file that appears whole or not at all. One
 * thread. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/base/cleanup.h"

struct ld_err;
struct ld_progress;
struct ld_outfile;

/* `path` "-" is standard output, which is refused when it is a terminal and `binary`. A regular
 * file is written under another name beside it and renamed by commit; anything else that exists (a
 * device, a fifo) is written at once. The progress, which may be NULL, is told what came, under the
 * path's last name. */
int ld_outfile_open(const char *path, bool binary, struct ld_progress *progress,
                    struct ld_outfile **ret, struct ld_err *err) ld_must_check;
/* As ld_http_write_fn. */
int ld_outfile_write(void *sink, const void *data, size_t len, struct ld_err *err);
/* The descriptor, for attributes; -EBADF for standard output and what is no regular file. */
int ld_outfile_fd(const struct ld_outfile *sink);
int ld_outfile_commit(struct ld_outfile *sink, struct ld_err *err) ld_must_check;
void ld_outfile_free_p(struct ld_outfile **sink); /* discards what was not committed */

#define autosink LD_AUTO(ld_outfile_free_p)
