/* Progress on a terminal: a few lines on standard error, redrawn in place at most ten times a
 * second and erased at the end; nothing at all where standard error is no terminal. One thread.
 *
 * The arithmetic (rate, time left, one line) is apart from the drawing, and takes the time as an
 * argument. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/base/buf.h"
#include "daemon/base/cleanup.h"

/* Bytes per second, smoothed: what happened in the last seconds counts more than the start. */
struct ld_rate {
    uint64_t last_ms, last_bytes;
    double per_second; /* 0: not known yet */
    bool started;
};

void ld_rate_add(struct ld_rate *rate, uint64_t total_bytes, uint64_t now_ms);
/* Seconds until `remaining` bytes are through; false while the rate is not known. */
bool ld_rate_eta(const struct ld_rate *rate, uint64_t remaining, uint64_t *ret_seconds);

struct ld_progress_row {
    const char *what;        /* safe to print; cut when long */
    uint64_t current, total; /* total 0: not known, no bar and no time left */
    struct ld_rate rate;
};

/* One line of at most `columns` columns, without a line end. */
void ld_progress_line(const struct ld_progress_row *row, size_t columns, struct ld_buf *ret);

struct ld_progress;

/* Draws on fd when `visible`; otherwise all calls do nothing. */
struct ld_progress *ld_progress_new(int fd, bool visible) __attribute__((returns_nonnull));
/* Where the thing `id` stands; a new id opens a row, another phase starts its row over. Any text; a
 * row that reached its total is dropped in favour of those under way. */
void ld_progress_set(struct ld_progress *p, const char *id, const char *phase, uint64_t current,
                     uint64_t total);
/* Erases what is drawn, so that other output may follow; the next call draws again. */
void ld_progress_clear(struct ld_progress *p);
void ld_progress_free_p(struct ld_progress **p); /* clears */

#define autoprogress LD_AUTO(ld_progress_free_p)
