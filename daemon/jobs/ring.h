/* A bounded byte ring between the loop and one worker, in one direction.
 *
 * One side is the loop (HTTP), which never blocks: it transfers what fits and is woken later. The
 * other is one worker, which blocks. Either of them writes, the other reads. The writer ends the
 * data or aborts; the reader may abort. An abort carries an error, the first one wins, and data not
 * yet read is dropped. Both sides hold one reference each.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "daemon/base/err.h"

struct ld_loop;
struct ld_ring;

enum { LD_RING_MIN = 4096 };

enum ld_ring_dir { LD_RING_TO_WORKER, LD_RING_TO_LOOP };

/* Loop thread. Capacity is rounded up to a power of two of at least LD_RING_MIN. wake(arg) is
 * called on the loop after a try_ call (or a poll) has answered "wait", once it is worth trying
 * again or when the worker has ended or aborted the ring; never after ld_ring_leave_loop. It may
 * come once too often. One reference is the loop's, one the worker's: give it to the worker or drop
 * it by ld_ring_leave_worker yourself. */
struct ld_ring *ld_ring_new(struct ld_loop *loop, enum ld_ring_dir dir, size_t capacity,
                            void (*wake)(void *arg), void *arg);
/* Each side drops its reference, once. A side that leaves without end of data (writer), or with
 * data unread (reader), aborts the ring with canceled. */
void ld_ring_leave_loop(struct ld_ring *ring);
void ld_ring_leave_worker(struct ld_ring *ring);

/* Any thread. */
void ld_ring_abort(struct ld_ring *ring, const struct ld_err *cause);

/* The writer's side, loop or worker: no more data. The ring may be aborted afterwards all the same.
 */
void ld_ring_end(struct ld_ring *ring);

/* ---- the worker, blocking; -1 with the abort's cause ---- */

/* All of it. */
int ld_ring_write(struct ld_ring *ring, const void *data, size_t len,
                  struct ld_err *err) ld_must_check;
/* At least one byte and at most len; 0 at the end of data. */
ssize_t ld_ring_read(struct ld_ring *ring, void *data, size_t len,
                     struct ld_err *err) ld_must_check;

/* All of it now, or nothing: false when there is no room, or the ring is aborted. Never blocks. */
bool ld_ring_offer(struct ld_ring *ring, const void *data, size_t len);

/* The same without a copy. peek gives a piece of what there is, at least one byte, 0 at the end;
 * consume takes n of it. reserve gives free space, at least one byte; commit makes n of it data. */
ssize_t ld_ring_peek(struct ld_ring *ring, const void **ret_data, struct ld_err *err) ld_must_check;
void ld_ring_consume(struct ld_ring *ring, size_t n);
ssize_t ld_ring_reserve(struct ld_ring *ring, void **ret_space, struct ld_err *err) ld_must_check;
void ld_ring_commit(struct ld_ring *ring, size_t n);

/* ---- the loop, never blocking ---- */

enum ld_ring_state {
    LD_RING_MOVED,   /* *ret_n > 0 bytes were transferred */
    LD_RING_WAIT,    /* nothing now; wake() will be called */
    LD_RING_END,     /* reading: all data was read and the writer has ended */
    LD_RING_ABORTED, /* see ld_ring_cause */
};
enum ld_ring_state ld_ring_try_write(struct ld_ring *ring, const void *data, size_t len,
                                     size_t *ret_n);
enum ld_ring_state ld_ring_try_read(struct ld_ring *ring, void *data, size_t len, size_t *ret_n);
/* What a try_read would answer, without reading, where fewer than `enough` bytes (at most the
 * capacity) are nothing yet, unless they are the last. WAIT arms the wake as try_read does. */
enum ld_ring_state ld_ring_poll(struct ld_ring *ring, size_t enough);

/* Valid once a call has shown that the ring is aborted, until the side leaves. */
const struct ld_err *ld_ring_cause(const struct ld_ring *ring);

/* Any thread: bytes that have gone in so far. */
uint64_t ld_ring_total(struct ld_ring *ring);
