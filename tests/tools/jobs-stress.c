/* A stress of daemon/jobs with its own main, since Criterion does not start under TSan.
 *
 *     jobs-stress [SECONDS [SEED]]
 *
 * Random operations with random keys are held against a model: when one starts, no unfinished
 * operation that was submitted earlier may conflict with it. That is mutual exclusion and the
 * promised order in one. Beside them: cancels, sub-operations, batches, posts from workers, and
 * rings in both directions with hashes, some of them aborted. Prints its seed; exits 0 when
 * everything held, else aborts.
 */
#include <assert.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "daemon/base/digest.h"
#include "daemon/base/mem.h"
#include "daemon/base/parse.h"
#include "daemon/jobs/ring.h"
#include "tests/lib/jobs.h"

enum { N_OBJECTS = 24, MAX_KEYS = 4, MAX_LIVE = 200, N_STREAMS = 4, BATCH = 40 };

struct work {
    struct ld_op op;
    uint64_t ticket;
    unsigned n_keys;
    unsigned object[MAX_KEYS];
    enum ld_key_mode mode[MAX_KEYS];
    unsigned seed;
    bool ran, cancelled;
    struct work *next; /* in the list of live ones */
};

static struct {
    struct ld_test_jobs jobs;
    struct ld_timer *end;
    bool ending;
    unsigned seed;

    pthread_mutex_t lock; /* guards the model */
    struct work *live;

    uint64_t tickets;
    size_t n_live, n_streams, posts_sent, posts_seen;
    uint64_t done, ran, cancelled, streams, aborted_streams, bytes;
} world = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* xorshift: reproducible, one state per user, no lock. */
static unsigned next_random(unsigned *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 17;
    *state ^= *state << 5;
    return *state;
}

static unsigned below(unsigned *state, unsigned n)
{
    return next_random(state) % n;
}

static void spin(unsigned n)
{
    for (volatile unsigned i = 0; i < n; i++)
        continue;
}

/* ---- operations against the model ---- */

static bool conflicts(const struct work *a, const struct work *b)
{
    for (unsigned i = 0; i < a->n_keys; i++)
        for (unsigned k = 0; k < b->n_keys; k++)
            if (a->object[i] == b->object[k] &&
                (a->mode[i] == LD_EXCLUSIVE || b->mode[k] == LD_EXCLUSIVE))
                return true;
    return false;
}

static void model_remove(struct work *work)
{
    pthread_mutex_lock(&world.lock);
    for (struct work **slot = &world.live; *slot; slot = &(*slot)->next) {
        if (*slot == work) {
            *slot = work->next;
            break;
        }
    }
    pthread_mutex_unlock(&world.lock);
}

static void model_check_start(struct work *work)
{
    pthread_mutex_lock(&world.lock);
    work->ran = true;
    for (const struct work *w = world.live; w; w = w->next) {
        /* One that was cancelled before it ran has lost its keys, but its done() is still to come.
         */
        bool is_out = w->cancelled && !w->ran;

        if (w->ticket < work->ticket && !is_out && conflicts(w, work)) {
            (void)fprintf(stderr, "operation %" PRIu64 " started beside %" PRIu64 "\n",
                          work->ticket, w->ticket);
            abort();
        }
    }
    pthread_mutex_unlock(&world.lock);
}

static void see_post(void *arg)
{
    (void)arg;
    world.posts_seen++;
}

static int run_inner(struct ld_op *op, struct ld_err *err)
{
    (void)err;
    spin(100);
    __atomic_fetch_add((int *)op->arg, 1, __ATOMIC_SEQ_CST);
    return 0;
}

static int call_item(void *arg, size_t index, const bool *cancel, struct ld_err *err)
{
    (void)cancel;
    __atomic_fetch_add((int *)arg, 1, __ATOMIC_SEQ_CST);
    spin(200);
    if (index == BATCH)
        return ld_err_set(err, LD_E_IO, "item %zu fails", index);
    return 0;
}

/* What a coordinator does: a sub-operation, then a batch that may fail. */
static int run_coordinator(struct work *work, struct ld_err *err)
{
    int n = 0;
    struct ld_op inner;
    struct ld_batch batch = {
        .fn = call_item, .arg = &n, .n = BATCH + work->seed % 2, .cancel = &work->op.cancel};

    ld_op_init(&inner, LD_LANE_QUICK, run_inner, NULL, &n);
    ld_op_key(&inner, LD_EXCLUSIVE, "inner");
    if (ld_ops_call(world.jobs.ops, &inner, &work->op.cancel, err) < 0)
        return -1;
    assert(n == 1);
    if (ld_lanes_run_all(world.jobs.lanes, LD_LANE_COPY, &batch, err) < 0) {
        assert(err->code == LD_E_CANCELED || (err->code == LD_E_IO && batch.n > BATCH));
        return -1;
    }
    assert(n == BATCH + 1 && batch.n == BATCH);
    return 0;
}

static int run_work(struct ld_op *op, struct ld_err *err)
{
    struct work *work = op->arg;
    int r = 0;

    model_check_start(work);
    if (work->n_keys == 0 && op->lane == LD_LANE_STREAM) {
        r = run_coordinator(work, err);
    } else {
        for (unsigned i = below(&work->seed, 20); i > 0 && !ld_flag_is_set(&op->cancel); i--)
            spin(below(&work->seed, 3000));
    }
    __atomic_fetch_add(&world.posts_sent, 1, __ATOMIC_RELAXED);
    ld_loop_post(world.jobs.loop, see_post, NULL);
    model_remove(work);
    return r;
}

static void work_done(struct ld_op *op)
{
    struct work *work = op->arg;

    ld_assert_loop();
    assert(work->ran || op->rc < 0);
    if (!work->ran)
        model_remove(work);
    world.n_live--;
    world.done++;
    world.ran += work->ran;
    world.cancelled += work->cancelled;
    free(work);
}

static struct work *submit_one(void)
{
    static const enum ld_lane lanes[] = {LD_LANE_QUICK, LD_LANE_STREAM, LD_LANE_COPY};
    struct work *work = ld_new(struct work);

    work->ticket = ++world.tickets;
    work->seed = next_random(&world.seed) | 1;
    ld_op_init(&work->op, lanes[below(&world.seed, 3)], run_work, work_done, work);
    work->n_keys = below(&world.seed, MAX_KEYS + 1);
    for (unsigned i = 0; i < work->n_keys; i++) {
        /* Few objects are wanted by many: long queues. */
        work->object[i] = below(&world.seed, below(&world.seed, 2) ? 3 : N_OBJECTS);
        work->mode[i] = below(&world.seed, 3) ? LD_SHARED : LD_EXCLUSIVE;
        ld_op_key(&work->op, work->mode[i], "o:%u", work->object[i]);
    }
    pthread_mutex_lock(&world.lock);
    work->next = world.live;
    world.live = work;
    pthread_mutex_unlock(&world.lock);
    world.n_live++;
    ld_ops_submit(world.jobs.ops, &work->op);
    return work;
}

/* ---- rings ---- */

struct stream {
    struct ld_op op;
    struct ld_ring *ring;
    enum ld_ring_dir dir;
    uint64_t left, abort_at; /* bytes of the writer */
    unsigned loop_seed, worker_seed;
    struct ld_sha256 *in, *out; /* the writer's, the reader's hash */
    bool loop_over, op_over;
    struct ld_err cause;
    size_t chunk_len, chunk_at; /* of the loop's writer */
    char chunk[5000], worker_chunk[5000];
};

static void new_stream(void);

static void stream_check(struct stream *s)
{
    struct ld_digest a, b;

    if (!s->loop_over || !s->op_over)
        return;
    a = ld_sha256_final(s->in);
    b = ld_sha256_final(s->out);
    if (s->abort_at == 0 && s->op.rc == 0)
        assert(ld_digest_equal(&a, &b));
    else
        world.aborted_streams++;
    world.streams++;
    ld_sha256_free_p(&s->in);
    ld_sha256_free_p(&s->out);
    free(s);
    world.n_streams--;
    if (!world.ending)
        new_stream();
}

static size_t make_chunk(unsigned *seed, char *chunk, size_t max, uint64_t left)
{
    size_t n = 1 + below(seed, (unsigned)max);

    n = n < left ? n : (size_t)left;
    memset(chunk, (int)below(seed, 256), n);
    return n;
}

static int stream_write(struct stream *s, struct ld_err *err)
{
    while (s->left > 0) {
        size_t n = make_chunk(&s->worker_seed, s->worker_chunk, sizeof(s->worker_chunk), s->left);

        if (s->abort_at && s->left < s->abort_at) {
            (void)ld_err_set(err, LD_E_CORRUPT, "aborted by the worker");
            ld_ring_abort(s->ring, err);
            return -1;
        }
        ld_sha256_update(s->in, s->worker_chunk, n);
        if (ld_ring_write(s->ring, s->worker_chunk, n, err) < 0)
            return -1;
        s->left -= n;
    }
    ld_ring_end(s->ring);
    return 0;
}

static int stream_read(struct stream *s, struct ld_err *err)
{
    ssize_t n;

    for (;;) {
        size_t want = 1 + below(&s->worker_seed, sizeof(s->worker_chunk));

        n = ld_ring_read(s->ring, s->worker_chunk, want, err);
        if (n <= 0)
            return (int)n;
        ld_sha256_update(s->out, s->worker_chunk, (size_t)n);
    }
}

static int run_stream(struct ld_op *op, struct ld_err *err)
{
    struct stream *s = op->arg;
    int r = s->dir == LD_RING_TO_LOOP ? stream_write(s, err) : stream_read(s, err);

    ld_ring_leave_worker(s->ring);
    return r;
}

static void stream_done(struct ld_op *op)
{
    struct stream *s = op->arg;

    s->op_over = true;
    if (!op->job.was_run)
        ld_ring_leave_worker(s->ring);
    stream_check(s);
}

static void loop_leave(struct stream *s)
{
    s->loop_over = true;
    world.bytes += ld_ring_total(s->ring);
    ld_ring_leave_loop(s->ring);
    stream_check(s);
}

static void loop_read(struct stream *s)
{
    char data[3000];
    enum ld_ring_state state;
    size_t n;

    while ((state = ld_ring_try_read(s->ring, data, 1 + below(&s->loop_seed, sizeof(data)), &n)) ==
           LD_RING_MOVED)
        ld_sha256_update(s->out, data, n);
    if (state != LD_RING_WAIT)
        loop_leave(s);
}

static void loop_write(struct stream *s)
{
    while (s->left > 0) {
        enum ld_ring_state state;
        size_t n;

        if (s->chunk_at == s->chunk_len) {
            s->chunk_len = make_chunk(&s->loop_seed, s->chunk, sizeof(s->chunk), s->left);
            s->chunk_at = 0;
            ld_sha256_update(s->in, s->chunk, s->chunk_len);
        }
        state = ld_ring_try_write(s->ring, s->chunk + s->chunk_at, s->chunk_len - s->chunk_at, &n);
        if (state == LD_RING_WAIT)
            return;
        if (state == LD_RING_ABORTED || (s->abort_at && s->left < s->abort_at)) {
            loop_leave(s); /* without an end: aborts */
            return;
        }
        s->chunk_at += n;
        s->left -= n;
    }
    ld_ring_end(s->ring);
    loop_leave(s);
}

static void wake_stream(void *arg)
{
    struct stream *s = arg;

    if (s->dir == LD_RING_TO_LOOP)
        loop_read(s);
    else
        loop_write(s);
}

static void new_stream(void)
{
    struct stream *s = ld_new(struct stream);

    s->dir = below(&world.seed, 2) ? LD_RING_TO_LOOP : LD_RING_TO_WORKER;
    s->left = 1 + below(&world.seed, 4 << 20);
    s->abort_at = below(&world.seed, 3) ? 0 : 1 + below(&world.seed, 1 << 20);
    s->loop_seed = next_random(&world.seed) | 1;
    s->worker_seed = next_random(&world.seed) | 1;
    s->in = ld_sha256_new();
    s->out = ld_sha256_new();
    s->ring =
        ld_ring_new(world.jobs.loop, s->dir, 1 << (12 + below(&world.seed, 6)), wake_stream, s);
    ld_op_init(&s->op, LD_LANE_STREAM, run_stream, stream_done, s);
    ld_ops_submit(world.jobs.ops, &s->op);
    world.n_streams++;
    ld_loop_post(world.jobs.loop, wake_stream, s);
}

/* ---- the driver of it all ---- */

static void tick(void *arg)
{
    (void)arg;
    if (world.ending)
        return;
    while (world.n_live < MAX_LIVE) {
        struct work *last = submit_one();

        if (below(&world.seed, 10) == 0) {
            pthread_mutex_lock(&world.lock);
            last->cancelled = true;
            pthread_mutex_unlock(&world.lock);
            ld_ops_cancel(world.jobs.ops, &last->op);
        }
    }
}

static void end(void *arg)
{
    (void)arg;
    world.ending = true;
}

static bool is_over(void *arg)
{
    (void)arg;
    return world.ending && world.n_streams == 0;
}

int main(int argc, char **argv)
{
    uint64_t seconds = 3, seed = (uint64_t)time(NULL);
    struct ld_idle *idle;

    if ((argc > 1 && ld_parse_u64(argv[1], 1, 3600, &seconds) < 0) ||
        (argc > 2 && ld_parse_u64(argv[2], 1, UINT32_MAX, &seed) < 0) || argc > 3) {
        (void)fprintf(stderr, "usage: jobs-stress [SECONDS [SEED]]\n");
        return 2;
    }
    world.seed = (unsigned)seed | 1;
    ld_test_jobs_start(&world.jobs, NULL);
    world.end = ld_timer_new(world.jobs.loop, end, NULL);
    ld_timer_start(world.end, seconds * 1000, 0);
    idle = ld_idle_new(world.jobs.loop, tick, NULL);
    ld_idle_start(idle);
    for (int i = 0; i < N_STREAMS; i++)
        new_stream();
    assert(ld_test_run_until(world.jobs.loop, is_over, NULL));
    ld_idle_free(idle);
    ld_timer_free(world.end);
    ld_test_jobs_end(&world.jobs); /* with what is still waiting and running */

    assert(world.n_live == 0 && world.live == NULL && world.done == world.tickets);
    assert(world.posts_seen == world.posts_sent);
    printf("seed %" PRIu64 ": %" PRIu64 " operations (%" PRIu64 " ran, %" PRIu64
           " cancelled), %" PRIu64 " streams (%" PRIu64 " aborted), %" PRIu64 " MiB\n",
           seed, world.done, world.ran, world.cancelled, world.streams, world.aborted_streams,
           world.bytes >> 20);
    return 0;
}
