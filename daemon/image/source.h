/* Byte sources: where bytes are pulled from, one interface for files, memory, decoders and rings.
 *
 * A source belongs to one thread at a time; several fd sources may share one descriptor (they use
 * pread). A source stacked on another one borrows it: free the upper one first. Reading blocks.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "daemon/base/digest.h"
#include "daemon/base/err.h"

struct ld_source;

/* Others add kinds by embedding `struct ld_source` as the first member of theirs. */
struct ld_source_ops {
    /* Between 1 and len bytes (len > 0); 0 at the end and ever after; -1 with err filled. */
    ssize_t (*read)(struct ld_source *src, void *buf, size_t len, struct ld_err *err);
    /* Optional: passes over between 1 and len bytes without giving them; 0 at the end; -1. */
    int64_t (*skip)(struct ld_source *src, uint64_t len, struct ld_err *err);
    void (*free)(struct ld_source *src);
};

struct ld_source {
    const struct ld_source_ops *ops;
};

ssize_t ld_source_read(struct ld_source *src, void *buf, size_t len, struct ld_err *err);
/* Reads until len bytes are there or the source ends: the count (short only at the end) or -1. */
ssize_t ld_source_read_full(struct ld_source *src, void *buf, size_t len, struct ld_err *err);
/* Passes over up to len bytes; fewer only at the end. 0 and the count, or -1. */
int ld_source_skip(struct ld_source *src, uint64_t len, uint64_t *ret_skipped, struct ld_err *err);
/* Reads to the end and throws away what comes (a digest below then covers everything). */
int ld_source_drain(struct ld_source *src, struct ld_err *err);

void ld_source_free(struct ld_source *src); /* NULL is fine */
void ld_source_free_p(struct ld_source **src);
#define auto_source LD_AUTO(ld_source_free_p) struct ld_source

#define LD_TO_END UINT64_MAX

/* len bytes of a file from offset (LD_TO_END: up to its end as it is then). The descriptor is
 * borrowed and its own position is neither used nor moved. A file that ends early ends the source.
 */
struct ld_source *ld_source_fd_new(int fd, uint64_t offset, uint64_t len);
/* Memory, borrowed. */
struct ld_source *ld_source_mem_new(const void *data, size_t len);
/* What `below` gives, but more than max bytes is bad_content: "WHAT is larger than max bytes", with
 * `limit` named in the details. Both strings are borrowed. */
struct ld_source *ld_source_limit_new(struct ld_source *below, uint64_t max, const char *limit,
                                      const char *what);

/* What `below` gives, hashed and counted as it passes. `final` is called once, after the end. */
struct ld_source *ld_source_digest_new(struct ld_source *below);
uint64_t ld_source_digest_count(const struct ld_source *src);
struct ld_digest ld_source_digest_final(struct ld_source *src);

/* What `below` gives, read ahead by a thread of its own once the first 256 KiB are through, at most
 * 1 MiB of it: whoever reads need not wait for decoding and hashing. From then on everything below
 * belongs to that thread, until this source is freed (which waits for a read in work) or has said
 * its end or its failure. */
struct ld_source *ld_source_ahead_new(struct ld_source *below);

/* bad_content with details {"limit": NAME, "value": MAX}: content is over a limit of ours. Returns
 * -1. */
int ld_err_over_limit(struct ld_err *err, const char *limit, uint64_t max, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
