/* jobs/ring.h: both directions, back-pressure, end, abort, leaving early. */
#include <pthread.h>
#include <string.h>
#include <time.h>

#include "daemon/base/digest.h"
#include "daemon/base/mem.h"
#include "daemon/jobs/ring.h"
#include "tests/lib/env.h"
#include "tests/lib/jobs.h"

enum { SIZE = 64 * 1024, CHUNK = 10007 };

struct transfer {
    struct ld_loop *loop;
    struct ld_ring *ring;
    uint64_t want, moved, worker_moved;
    struct ld_sha256 *loop_hash, *worker_hash;
    unsigned char pattern;
    char chunk[CHUNK];
    enum ld_ring_state state;
    int worker_rc;
    struct ld_err worker_err;
    pthread_t thread;
    unsigned wakes;
    size_t left; /* of the chunk */
};

static void fill(struct transfer *t, char *data, size_t len)
{
    for (size_t i = 0; i < len; i++)
        data[i] = (char)(t->pattern += 7);
}

static void finish(struct transfer *t)
{
    ld_loop_stop(t->loop);
}

/* ---- loop to worker ---- */

static void *drain_ring(void *arg)
{
    struct transfer *t = arg;
    const void *data;
    ssize_t n;

    while ((n = ld_ring_peek(t->ring, &data, &t->worker_err)) > 0) {
        size_t take = (size_t)n > 5 ? (size_t)n - 5 : (size_t)n;

        ld_sha256_update(t->worker_hash, data, take);
        t->worker_moved += take;
        ld_ring_consume(t->ring, take);
    }
    t->worker_rc = n < 0 ? -1 : 0;
    ld_ring_leave_worker(t->ring);
    return NULL;
}

static void feed(void *arg)
{
    struct transfer *t = arg;

    t->wakes++;
    while (t->moved < t->want) {
        size_t n;

        if (t->left == 0) {
            fill(t, t->chunk, CHUNK);
            ld_sha256_update(t->loop_hash, t->chunk, CHUNK);
            t->left = CHUNK;
        }
        t->state = ld_ring_try_write(t->ring, t->chunk + CHUNK - t->left, t->left, &n);
        if (t->state == LD_RING_WAIT)
            return;
        if (t->state == LD_RING_ABORTED) {
            finish(t);
            return;
        }
        t->moved += n;
        t->left -= n;
    }
    ld_ring_end(t->ring);
    finish(t);
}

static void start(struct transfer *t, enum ld_ring_dir dir, void (*wake)(void *),
                  void *(*thread)(void *))
{
    struct ld_err err = LD_ERR_INIT;

    if (!t->loop)
        ld_test_ok(ld_loop_new(&t->loop, &err), &err);
    t->ring = ld_ring_new(t->loop, dir, SIZE, wake, t);
    t->loop_hash = ld_sha256_new();
    t->worker_hash = ld_sha256_new();
    cr_assert_eq(pthread_create(&t->thread, NULL, thread, t), 0);
}

static void end(struct transfer *t)
{
    ld_ring_leave_loop(t->ring);
    pthread_join(t->thread, NULL);
    ld_loop_free(t->loop);
    ld_sha256_free_p(&t->loop_hash);
    ld_sha256_free_p(&t->worker_hash);
}

static void check_hashes(struct transfer *t)
{
    struct ld_digest a = ld_sha256_final(t->loop_hash), b = ld_sha256_final(t->worker_hash);

    cr_expect(ld_digest_equal(&a, &b), "the same bytes came out");
}

LD_TEST(ring, carries_bytes_from_the_loop_to_a_worker)
{
    static struct transfer t = {.want = (uint64_t)CHUNK * 20000};

    start(&t, LD_RING_TO_WORKER, feed, drain_ring);
    ld_loop_post(t.loop, feed, &t);
    ld_loop_run(t.loop);
    ld_ring_leave_loop(t.ring); /* ended: the worker still reads the rest */
    pthread_join(t.thread, NULL);
    cr_expect_eq(t.worker_rc, 0, "%s", t.worker_err.message);
    cr_expect_eq(t.worker_moved, t.want);
    cr_expect_lt(t.wakes, t.want / (SIZE / 2) + 10, "woken for half a ring, not for each piece");
    check_hashes(&t);
    ld_loop_free(t.loop);
}

/* ---- worker to loop ---- */

static void *fill_ring(void *arg)
{
    struct transfer *t = arg;

    while (t->worker_moved < t->want) {
        fill(t, t->chunk, CHUNK);
        ld_sha256_update(t->worker_hash, t->chunk, CHUNK);
        if (ld_ring_write(t->ring, t->chunk, CHUNK, &t->worker_err) < 0) {
            t->worker_rc = -1;
            break;
        }
        t->worker_moved += CHUNK;
    }
    if (t->worker_rc == 0)
        ld_ring_end(t->ring);
    ld_ring_leave_worker(t->ring);
    return NULL;
}

static void drink(void *arg)
{
    struct transfer *t = arg;
    char data[9000];
    size_t n;

    t->wakes++;
    while ((t->state = ld_ring_try_read(t->ring, data, sizeof(data), &n)) == LD_RING_MOVED) {
        ld_sha256_update(t->loop_hash, data, n);
        t->moved += n;
    }
    if (t->state != LD_RING_WAIT)
        finish(t);
}

LD_TEST(ring, carries_bytes_from_a_worker_to_the_loop)
{
    static struct transfer t = {.want = (uint64_t)CHUNK * 20000};

    start(&t, LD_RING_TO_LOOP, drink, fill_ring);
    ld_loop_post(t.loop, drink, &t);
    ld_loop_run(t.loop);
    cr_expect_eq(t.state, LD_RING_END);
    cr_expect_eq(t.moved, t.want);
    cr_expect_eq(ld_ring_total(t.ring), t.want);
    check_hashes(&t);
    end(&t);
    cr_expect_eq(t.worker_rc, 0);
}

/* ---- abort ---- */

static void abort_full(void *arg)
{
    struct transfer *t = arg;
    struct ld_err err = LD_ERR_INIT;

    (void)ld_err_set(&err, LD_E_UNAVAILABLE, "the client is too slow");
    ld_ring_abort(t->ring, &err);
    finish(t);
}

static void *leave_at_once(void *arg)
{
    (void)arg;
    return NULL;
}

LD_TEST(ring, waits_for_enough_or_for_the_last)
{
    static struct transfer t;
    struct ld_err err = LD_ERR_INIT;

    start(&t, LD_RING_TO_LOOP, drink, leave_at_once);
    pthread_join(t.thread, NULL);
    cr_assert_eq(ld_ring_write(t.ring, t.chunk, 99, &err), 0);
    cr_expect_eq(ld_ring_poll(t.ring, 100), LD_RING_WAIT);
    cr_expect_eq(ld_ring_poll(t.ring, 99), LD_RING_MOVED);
    cr_assert_eq(ld_ring_write(t.ring, t.chunk, 1, &err), 0);
    cr_expect_eq(ld_ring_poll(t.ring, 100), LD_RING_MOVED);
    cr_expect_eq(ld_ring_poll(t.ring, 101), LD_RING_WAIT);
    ld_ring_end(t.ring);
    cr_expect_eq(ld_ring_poll(t.ring, 101), LD_RING_MOVED);
    ld_ring_leave_worker(t.ring);
    ld_ring_leave_loop(t.ring);
    ld_loop_free(t.loop);
    ld_sha256_free_p(&t.loop_hash);
    ld_sha256_free_p(&t.worker_hash);
}

LD_TEST(ring, ends_a_blocked_writer_with_the_cause_of_the_abort)
{
    static struct transfer t = {.want = UINT64_MAX};
    struct ld_timer *timer;

    start(&t, LD_RING_TO_LOOP, drink, fill_ring);
    timer = ld_timer_new(t.loop, abort_full, &t);
    ld_timer_start(timer, 30, 0);
    ld_loop_run(t.loop);
    cr_expect_eq(ld_ring_poll(t.ring, 1), LD_RING_ABORTED);
    ld_timer_free(timer);
    end(&t);
    cr_expect_eq(t.worker_rc, -1);
    cr_expect_eq(t.worker_err.code, LD_E_UNAVAILABLE);
    cr_expect_leq(t.worker_moved, SIZE);
}

LD_TEST(ring, ends_a_blocked_reader_when_the_loop_leaves_without_an_end)
{
    static struct transfer t;

    start(&t, LD_RING_TO_WORKER, feed, drain_ring);
    end(&t);
    cr_expect_eq(t.worker_rc, -1);
    cr_expect_eq(t.worker_err.code, LD_E_CANCELED);
}

static void *abort_ring(void *arg)
{
    struct transfer *t = arg;
    struct ld_err err = LD_ERR_INIT;

    cr_assert_eq(ld_ring_write(t->ring, "half", 4, &err), 0);
    (void)ld_err_set(&err, LD_E_CORRUPT, "the layer is damaged");
    ld_ring_abort(t->ring, &err);
    ld_ring_leave_worker(t->ring);
    return NULL;
}

LD_TEST(ring, shows_the_loop_the_cause_of_a_workers_abort)
{
    static struct transfer t;

    start(&t, LD_RING_TO_LOOP, drink, abort_ring);
    ld_loop_post(t.loop, drink, &t);
    ld_loop_run(t.loop);
    cr_expect_eq(t.state, LD_RING_ABORTED);
    cr_expect_eq(ld_ring_cause(t.ring)->code, LD_E_CORRUPT);
    end(&t);
}

static void *leave_early(void *arg)
{
    struct transfer *t = arg;
    struct ld_err err = LD_ERR_INIT;
    char c;

    cr_assert_eq(ld_ring_read(t->ring, &c, 1, &err), 1);
    ld_ring_leave_worker(t->ring);
    return NULL;
}

LD_TEST(ring, wakes_a_loop_that_waits_for_space_when_the_worker_leaves)
{
    static struct transfer t = {.want = (uint64_t)CHUNK * 100};

    start(&t, LD_RING_TO_WORKER, feed, leave_early);
    ld_loop_post(t.loop, feed, &t);
    ld_loop_run(t.loop);
    cr_expect_eq(t.state, LD_RING_ABORTED);
    cr_expect_eq(ld_ring_cause(t.ring)->code, LD_E_CANCELED);
    end(&t);
}

/* ---- no wake after leaving ---- */

static void must_not_come(void *arg)
{
    (void)arg;
    cr_assert_fail("woken after leaving");
}

LD_TEST(ring, never_wakes_a_loop_that_has_left)
{
    static struct transfer t = {.want = CHUNK};

    start(&t, LD_RING_TO_LOOP, must_not_come, fill_ring);
    cr_assert(ld_ring_poll(t.ring, 1) == LD_RING_WAIT || ld_ring_total(t.ring) > 0);
    pthread_join(t.thread, NULL); /* the wake is posted by now */
    ld_ring_leave_loop(t.ring);
    ld_loop_free(t.loop); /* runs the post */
    ld_sha256_free_p(&t.loop_hash);
    ld_sha256_free_p(&t.worker_hash);
}
