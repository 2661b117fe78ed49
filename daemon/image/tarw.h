/* Writing tar, the same bytes for the same entries: ustar where an entry fits, else a pax header
 * before it with sorted records. Holes are written as zeros. One thread; blocks in the sink. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "daemon/base/err.h"
#include "daemon/image/sink.h"
#include "daemon/image/tar.h"

struct ld_tarw;

/* Sink and tee (NULL: none) are borrowed. */
struct ld_tarw *ld_tarw_new(struct ld_sink *sink, const struct ld_tar_tee *tee);
void ld_tarw_free(struct ld_tarw *w); /* does not finish */
void ld_tarw_free_p(struct ld_tarw **w);
#define auto_tarw LD_AUTO(ld_tarw_free_p) struct ld_tarw

/* Writes the header of an entry (`number` and `is_sparse` are not looked at; a directory's name
 * gets its
 * '/' here). A file of size > 0 wants exactly its content next, by one of the calls below. Code
 * invalid: the entry cannot be said in tar (an empty name, a name over LD_TAR_MAX_PATH, '=' in an
 * xattr's name). */
int ld_tarw_entry(struct ld_tarw *w, const struct ld_tar_entry *entry, struct ld_err *err);

/* A part of the content, in order. The tee is told literals. */
int ld_tarw_data(struct ld_tarw *w, const void *data, size_t len, struct ld_err *err);

/* All of the content, from offset 0 of a regular file (pread; borrowed). The tee is told payload. A
 * file that has become shorter is filled up with zeros, which the tee is told as literals;
 * *ret_short then tells (NULL: an error of code conflict instead). A `cancel` that becomes true
 * ends it (code canceled). */
int ld_tarw_file(struct ld_tarw *w, int fd, const bool *cancel, bool *ret_short,
                 struct ld_err *err);

/* The two zero blocks; nothing can follow. */
int ld_tarw_finish(struct ld_tarw *w, struct ld_err *err);
