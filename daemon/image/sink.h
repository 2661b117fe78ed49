/* Byte sinks: where bytes are pushed to. One thread at a time. Writing blocks.
 * A sink stacked on another one borrows it: free the upper one first. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "daemon/base/buf.h"
#include "daemon/base/digest.h"
#include "daemon/base/err.h"

struct ld_sink;

/* Others add kinds by embedding `struct ld_sink` as the first member of theirs. */
struct ld_sink_ops {
    int (*write)(struct ld_sink *sink, const void *data, size_t len, struct ld_err *err); /* all */
    void (*free)(struct ld_sink *sink);
};

struct ld_sink {
    const struct ld_sink_ops *ops;
};

int ld_sink_write(struct ld_sink *sink, const void *data, size_t len, struct ld_err *err);
int ld_sink_zeros(struct ld_sink *sink, uint64_t len, struct ld_err *err);

void ld_sink_free(struct ld_sink *sink); /* NULL is fine */
void ld_sink_free_p(struct ld_sink **sink);
#define auto_sink LD_AUTO(ld_sink_free_p) struct ld_sink

/* Appends to a descriptor (borrowed, by write(2)); to a buffer (borrowed; full is too_large). */
struct ld_sink *ld_sink_fd_new(int fd);
struct ld_sink *ld_sink_buf_new(struct ld_buf *buf);

/* Hashes and counts what passes to `next` (borrowed; NULL: only hash). `final` is called once. */
struct ld_sink *ld_sink_digest_new(struct ld_sink *next);
uint64_t ld_sink_digest_count(const struct ld_sink *sink);
struct ld_digest ld_sink_digest_final(struct ld_sink *sink);

/* Only counts. */
struct ld_sink *ld_sink_count_new(void);
uint64_t ld_sink_count(const struct ld_sink *sink);
