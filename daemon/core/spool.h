/* Spools: the body of an upload in one unlinked file below staging/, the only phase that a client
 * paces. Nobody holds keys meanwhile.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "daemon/base/err.h"

struct ld_core;
struct ld_digest;
struct ld_ring;

struct ld_spool {
    int fd; /* readable and writable, nobody else has it */
    uint64_t size;
};
#define LD_SPOOL_INIT ((struct ld_spool){.fd = -EBADF})

/* An empty one. no_space below the watermark, conflict when the core refuses to grow, io. */
int ld_spool_open(struct ld_core *core, struct ld_spool *ret, struct ld_err *err);
void ld_spool_close(struct ld_spool *spool); /* an empty one is fine, twice too */

/* Appends. no_space: the disk is full, or what is to be kept free would be touched. */
int ld_spool_write(struct ld_core *core, struct ld_spool *spool, const void *data, size_t len,
                   struct ld_err *err);

/* Worker of the stream lane: everything up to the ring's end. The ring stays the caller's.
 * `progress` (may be NULL) is told the size after each piece. too_large: more than max_bytes (0: no
 * limit). Codes of the two above, canceled, what the ring was aborted with. */
typedef void (*ld_spool_progress_fn)(void *arg, uint64_t size);
struct ld_spool_options {
    uint64_t max_bytes;
    ld_spool_progress_fn progress;
    void *progress_arg;
    const bool *cancel;       /* or NULL */
    struct ld_digest *digest; /* of all bytes, or NULL */
};
int ld_spool_ring(struct ld_core *core, struct ld_ring *ring,
                  const struct ld_spool_options *options, struct ld_spool *ret, struct ld_err *err);
