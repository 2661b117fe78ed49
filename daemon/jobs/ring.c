/* The byte ring: see ring.h.
 *
 * Invariants: `in` and `out` count bytes ever written and read; in - out is what the ring holds.
 * Only the writer moves `in`, only the reader moves `out`, both under the lock; the bytes
 * themselves are copied outside it, since the space between is owned by one side at a time. At most
 * one wake is on its way to the loop; it holds a reference, so that the ring outlives it. No call
 * from inside the lock.
 */
#include "daemon/jobs/ring.h"

#include <assert.h>
#include <pthread.h>
#include <stdbool.h>
#include <string.h>

#include "daemon/base/mem.h"
#include "daemon/jobs/loop.h"

struct ld_ring {
    struct ld_loop *loop;
    void (*wake)(void *arg); /* loop thread only; NULL once the loop has left */
    void *wake_arg;

    pthread_mutex_t lock;
    pthread_cond_t changed; /* the worker waits here */
    unsigned refs;
    uint64_t in, out;
    size_t size; /* a power of two */
    enum ld_ring_dir dir;
    bool ended, aborted;
    bool worker_waits;
    bool loop_waits;     /* the loop wants a wake ... */
    size_t enough;       /* ... when it can have that many bytes ... */
    bool wake_sent;      /* ... and one is on its way */
    struct ld_err cause; /* constant once `aborted` */

    char *data;
};

struct ld_ring *ld_ring_new(struct ld_loop *loop, enum ld_ring_dir dir, size_t capacity,
                            void (*wake)(void *arg), void *arg)
{
    struct ld_ring *ring = ld_new(struct ld_ring);
    size_t size = LD_RING_MIN;

    while (size < capacity)
        size *= 2;
    ring->loop = loop;
    ring->dir = dir;
    ring->wake = wake;
    ring->wake_arg = arg;
    ring->size = size;
    ring->data = ld_alloc0(size);
    ring->refs = 2;
    pthread_mutex_init(&ring->lock, NULL);
    pthread_cond_init(&ring->changed, NULL);
    return ring;
}

static void unref(struct ld_ring *ring)
{
    bool last;

    pthread_mutex_lock(&ring->lock);
    last = --ring->refs == 0;
    pthread_mutex_unlock(&ring->lock);
    if (!last)
        return;
    pthread_cond_destroy(&ring->changed);
    pthread_mutex_destroy(&ring->lock);
    free(ring->data);
    free(ring);
}

static void deliver_wake(void *arg)
{
    struct ld_ring *ring = arg;

    pthread_mutex_lock(&ring->lock);
    ring->wake_sent = false;
    pthread_mutex_unlock(&ring->lock);
    if (ring->wake)
        ring->wake(ring->wake_arg);
    unref(ring);
}

/* After a change by the worker's side (or an abort): true when the loop has to be woken. Its caller
 * posts deliver_wake after unlocking. */
static bool take_wake_locked(struct ld_ring *ring, bool is_worth_it)
{
    if (!ring->loop_waits || !is_worth_it || ring->wake_sent)
        return false;
    ring->loop_waits = false;
    ring->wake_sent = true;
    ring->refs++;
    return true;
}

static void unlock_waking(struct ld_ring *ring, bool wake)
{
    pthread_mutex_unlock(&ring->lock);
    if (wake)
        ld_loop_post(ring->loop, deliver_wake, ring);
}

void ld_ring_abort(struct ld_ring *ring, const struct ld_err *cause)
{
    pthread_mutex_lock(&ring->lock);
    if (!ring->aborted) {
        ring->aborted = true;
        ring->cause = *cause;
    }
    if (ring->worker_waits)
        pthread_cond_signal(&ring->changed);
    unlock_waking(ring, !ld_is_loop_thread() && take_wake_locked(ring, true));
}

/* A writer that has ended may go while the other side still reads. */
static void leave(struct ld_ring *ring, bool is_writer)
{
    struct ld_err gone = LD_ERR_INIT;
    bool is_whole;

    pthread_mutex_lock(&ring->lock);
    is_whole = ring->aborted || (ring->ended && (is_writer || ring->in == ring->out));
    pthread_mutex_unlock(&ring->lock);
    if (!is_whole) {
        (void)ld_err_set(&gone, LD_E_CANCELED, "the other side of the stream went away");
        ld_ring_abort(ring, &gone);
    }
    unref(ring);
}

void ld_ring_leave_loop(struct ld_ring *ring)
{
    ld_assert_loop();
    ring->wake = NULL;
    leave(ring, ring->dir == LD_RING_TO_WORKER);
}

void ld_ring_leave_worker(struct ld_ring *ring)
{
    leave(ring, ring->dir == LD_RING_TO_LOOP);
}

void ld_ring_end(struct ld_ring *ring)
{
    pthread_mutex_lock(&ring->lock);
    ring->ended = true;
    if (ring->worker_waits)
        pthread_cond_signal(&ring->changed);
    unlock_waking(ring, ring->dir == LD_RING_TO_LOOP && take_wake_locked(ring, true));
}

const struct ld_err *ld_ring_cause(const struct ld_ring *ring)
{
    return &ring->cause;
}

uint64_t ld_ring_total(struct ld_ring *ring)
{
    uint64_t total;

    pthread_mutex_lock(&ring->lock);
    total = ring->in;
    pthread_mutex_unlock(&ring->lock);
    return total;
}

/* ---- pieces: the longest run of bytes that does not wrap ---- */

static size_t filled(const struct ld_ring *ring)
{
    return (size_t)(ring->in - ring->out);
}

static size_t piece(const struct ld_ring *ring, uint64_t at, size_t n)
{
    size_t to_wrap = ring->size - (size_t)(at & (ring->size - 1));

    return n < to_wrap ? n : to_wrap;
}

static char *place(const struct ld_ring *ring, uint64_t at)
{
    return ring->data + (at & (ring->size - 1));
}

/* Bytes moved. A side that waits for space is woken when half of the ring is free, not for each
 * piece: fewer switches, and the other side has enough to do meanwhile. */
static void moved(struct ld_ring *ring, size_t n, bool is_write)
{
    bool is_worth_it;

    pthread_mutex_lock(&ring->lock);
    if (is_write) {
        assert(n <= ring->size - filled(ring) && !ring->ended);
        ring->in += n;
        is_worth_it = filled(ring) >= (ring->dir == LD_RING_TO_LOOP ? ring->enough : 1);
    } else {
        assert(n <= filled(ring));
        ring->out += n;
        is_worth_it = ring->size - filled(ring) >= ring->size / 2;
    }
    if (ring->worker_waits && is_worth_it)
        pthread_cond_signal(&ring->changed);
    unlock_waking(ring, !ld_is_loop_thread() && take_wake_locked(ring, is_worth_it));
}

/* ---- the worker ---- */

static int aborted_locked(struct ld_ring *ring, struct ld_err *err)
{
    *err = ring->cause;
    pthread_mutex_unlock(&ring->lock);
    return -1;
}

static void wait_locked(struct ld_ring *ring)
{
    assert(!ld_is_loop_thread());
    ring->worker_waits = true;
    pthread_cond_wait(&ring->changed, &ring->lock);
    ring->worker_waits = false;
}

ssize_t ld_ring_peek(struct ld_ring *ring, const void **ret_data, struct ld_err *err)
{
    size_t n;

    assert(ring->dir == LD_RING_TO_WORKER);
    pthread_mutex_lock(&ring->lock);
    while (ring->in == ring->out && !ring->ended && !ring->aborted)
        wait_locked(ring);
    if (ring->aborted)
        return aborted_locked(ring, err);
    n = piece(ring, ring->out, filled(ring));
    *ret_data = place(ring, ring->out);
    pthread_mutex_unlock(&ring->lock);
    return (ssize_t)n;
}

void ld_ring_consume(struct ld_ring *ring, size_t n)
{
    assert(ring->dir == LD_RING_TO_WORKER);
    moved(ring, n, false);
}

ssize_t ld_ring_read(struct ld_ring *ring, void *data, size_t len, struct ld_err *err)
{
    const void *there;
    ssize_t n = ld_ring_peek(ring, &there, err);

    if (n <= 0)
        return n;
    if ((size_t)n > len)
        n = (ssize_t)len;
    memcpy(data, there, (size_t)n);
    ld_ring_consume(ring, (size_t)n);
    return n;
}

ssize_t ld_ring_reserve(struct ld_ring *ring, void **ret_space, struct ld_err *err)
{
    size_t n;

    assert(ring->dir == LD_RING_TO_LOOP);
    pthread_mutex_lock(&ring->lock);
    while (filled(ring) == ring->size && !ring->aborted)
        wait_locked(ring);
    if (ring->aborted)
        return (ssize_t)aborted_locked(ring, err);
    n = piece(ring, ring->in, ring->size - filled(ring));
    *ret_space = place(ring, ring->in);
    pthread_mutex_unlock(&ring->lock);
    return (ssize_t)n;
}

void ld_ring_commit(struct ld_ring *ring, size_t n)
{
    assert(ring->dir == LD_RING_TO_LOOP);
    moved(ring, n, true);
}

int ld_ring_write(struct ld_ring *ring, const void *data, size_t len, struct ld_err *err)
{
    const char *from = data;

    while (len > 0) {
        void *space;
        ssize_t n = ld_ring_reserve(ring, &space, err);

        if (n < 0)
            return -1;
        if ((size_t)n > len)
            n = (ssize_t)len;
        memcpy(space, from, (size_t)n);
        ld_ring_commit(ring, (size_t)n);
        from += n;
        len -= (size_t)n;
    }
    return 0;
}

bool ld_ring_offer(struct ld_ring *ring, const void *data, size_t len)
{
    struct ld_err err;
    bool fits;

    pthread_mutex_lock(&ring->lock);
    fits = !ring->aborted && len <= ring->size - filled(ring);
    pthread_mutex_unlock(&ring->lock);
    /* Only the writer takes space: what fits now still fits. An abort in between ends the write. */
    return fits && ld_ring_write(ring, data, len, &err) == 0;
}

/* ---- the loop ---- */

/* What the loop can do now, in bytes; 0 with a state that is not MOVED. Fewer than `enough` are
 * waited for. WAIT arms the wake. */
static enum ld_ring_state look_locked(struct ld_ring *ring, size_t enough, size_t *ret_n)
{
    bool is_reader = ring->dir == LD_RING_TO_LOOP;
    size_t n = is_reader ? filled(ring) : ring->size - filled(ring);

    *ret_n = 0;
    if (ring->aborted)
        return LD_RING_ABORTED;
    if (n >= enough || (n > 0 && ring->ended)) {
        *ret_n = n;
        return LD_RING_MOVED;
    }
    if (is_reader && ring->ended)
        return LD_RING_END;
    ring->loop_waits = true;
    ring->enough = enough;
    return LD_RING_WAIT;
}

enum ld_ring_state ld_ring_poll(struct ld_ring *ring, size_t enough)
{
    enum ld_ring_state state;
    size_t n;

    ld_assert_loop();
    assert(enough > 0 && enough <= ring->size);
    pthread_mutex_lock(&ring->lock);
    state = look_locked(ring, enough, &n);
    pthread_mutex_unlock(&ring->lock);
    return state;
}

/* Both pieces, where the run wraps. */
static enum ld_ring_state transfer(struct ld_ring *ring, char *to, const char *from, size_t len,
                                   size_t *ret_n)
{
    enum ld_ring_state state;
    size_t n, first;
    uint64_t at;

    ld_assert_loop();
    assert(len > 0 && (to || from));
    pthread_mutex_lock(&ring->lock);
    state = look_locked(ring, 1, &n);
    at = to ? ring->out : ring->in;
    n = n < len ? n : len;
    first = piece(ring, at, n);
    pthread_mutex_unlock(&ring->lock);

    *ret_n = n;
    if (state != LD_RING_MOVED)
        return state;
    if (to) {
        memcpy(to, place(ring, at), first);
        memcpy(to + first, ring->data, n - first);
    } else {
        memcpy(place(ring, at), from, first);
        memcpy(ring->data, from + first, n - first);
    }
    moved(ring, n, from != NULL);
    return LD_RING_MOVED;
}

enum ld_ring_state ld_ring_try_write(struct ld_ring *ring, const void *data, size_t len,
                                     size_t *ret_n)
{
    assert(ring->dir == LD_RING_TO_WORKER);
    return transfer(ring, NULL, data, len, ret_n);
}

enum ld_ring_state ld_ring_try_read(struct ld_ring *ring, void *data, size_t len, size_t *ret_n)
{
    assert(ring->dir == LD_RING_TO_LOOP);
    return transfer(ring, data, NULL, len, ret_n);
}
