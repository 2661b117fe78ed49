/* Lanes of worker threads: see lane.h.
 *
 * Invariants: one lock guards everything here; no callback is called and nothing is posted under
 * it. A job is in exactly one state (idle, queued, running, delivered); whoever moves it from
 * queued to another owns the next step, so done() is posted once. `open` counts jobs between submit
 * and done, batches included; a drain ends when it is zero.
 *
 * A batch puts helpers on its lane, at most one per thread. A helper makes one call and queues
 * itself again at the end, so that batches share a lane call by call.
 */
#include "daemon/jobs/lane.h"

#include <assert.h>
#include <malloc.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "daemon/base/log.h"
#include "daemon/base/mem.h"
#include "daemon/jobs/loop.h"

enum {
    STACK_SIZE = 1 << 20, /* address space; only what is used becomes memory */
    IDLE_S = 30,          /* a worker without work ends after this */
    MAX_THREADS = 128,    /* of one lane */
    CANCEL_POLL_MS = 50,
};

enum { JOB_IDLE, JOB_QUEUED, JOB_RUNNING, JOB_DELIVERED };

enum slot_state { SLOT_FREE, SLOT_LIVE, SLOT_ENDED /* to be joined */ };

struct slot {
    struct ld_lanes *lanes;
    enum ld_lane lane;
    enum slot_state state;
    pthread_t thread;
};

struct lane {
    struct ld_job *first, *last;
    unsigned n_queued, n_bounded; /* helpers of batches do not count in the latter */
    unsigned max_queued;
    unsigned n_threads, max_threads, n_idle, n_running;
    uint64_t finished, refused;
    pthread_cond_t work;
    struct slot *slots; /* max_threads */
};

struct ld_lanes {
    struct ld_loop *loop;
    pthread_mutex_t lock;
    struct lane lane[LD_LANE_COUNT];
    size_t open;
    bool draining, ending;
    void (*drained)(void *arg);
    void *drained_arg;
};

static const struct {
    const char *name;
    struct ld_lane_limits limits; /* 0 threads: as many as cores */
} kinds[LD_LANE_COUNT] = {
    [LD_LANE_QUICK] = {"quick", {16, 4096}},
    /* Every upload (16) and download (64) may sit waiting for its client, and coordinators must
     * still find a thread: a slow reader may not stop imports. */
    [LD_LANE_STREAM] = {"stream", {112, 256}},
    [LD_LANE_COPY] = {"copy", {0, 1024}},
    [LD_LANE_CLOSE] = {"close", {4, 64}},
    [LD_LANE_REAP] = {"reap", {1, 1024}},
};

const char *ld_lane_name(enum ld_lane lane)
{
    return kinds[lane].name;
}

/* ---- queues ---- */

static void enqueue_locked(struct lane *lane, struct ld_job *job)
{
    job->next = NULL;
    job->prev = lane->last;
    if (lane->last)
        lane->last->next = job;
    else
        lane->first = job;
    lane->last = job;
    lane->n_queued++;
    job->state = JOB_QUEUED;
    if (lane->n_idle > 0)
        pthread_cond_signal(&lane->work);
}

static void unlink_locked(struct lane *lane, struct ld_job *job)
{
    if (job->prev)
        job->prev->next = job->next;
    else
        lane->first = job->next;
    if (job->next)
        job->next->prev = job->prev;
    else
        lane->last = job->prev;
    job->next = job->prev = NULL;
    lane->n_queued--;
}

/* ---- the end of a job ---- */

static void report_drained(void *arg)
{
    struct ld_lanes *lanes = arg;

    lanes->drained(lanes->drained_arg);
}

/* True when the drain has just ended: report_drained has to be posted, after unlocking. */
static bool close_one_locked(struct ld_lanes *lanes)
{
    assert(lanes->open > 0);
    return --lanes->open == 0 && lanes->draining;
}

static void deliver(void *arg)
{
    struct ld_job *job = arg;
    struct ld_lanes *lanes = job->lanes;
    bool is_drained;

    job->state = JOB_IDLE;
    job->done(job); /* may free the job */

    pthread_mutex_lock(&lanes->lock);
    is_drained = close_one_locked(lanes);
    pthread_mutex_unlock(&lanes->lock);
    if (is_drained)
        ld_loop_post(lanes->loop, report_drained, lanes);
}

/* ---- workers ---- */

static void set_up_thread(enum ld_lane lane)
{
    char name[16];

    (void)snprintf(name, sizeof(name), "ld-%s", kinds[lane].name); /* longest: "ld-stream" */
    (void)pthread_setname_np(pthread_self(), name);                /* cosmetic */
    /* An own working directory: a job may fchdir (short relative mount options). */
    if (unshare(CLONE_FS) < 0) {
        ld_error("a worker cannot have a working directory of its own");
        abort(); /* jobs would change directory under each other's feet */
    }
    if (lane == LD_LANE_REAP) {
        const int who_process = 1, class_idle = 3 << 13; /* linux/ioprio.h */

        (void)syscall(SYS_ioprio_set, who_process, 0, class_idle); /* a wish */
    }
}

static struct timespec in_ms(long ms)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    t.tv_sec += ms / 1000;
    t.tv_nsec += ms % 1000 * 1000000;
    if (t.tv_nsec >= 1000000000) {
        t.tv_sec++;
        t.tv_nsec -= 1000000000;
    }
    return t;
}

/* The next job, or NULL when this worker is to end. */
static struct ld_job *next_job_locked(struct ld_lanes *lanes, struct lane *lane)
{
    struct timespec until = in_ms(IDLE_S * 1000L);
    struct ld_job *job;
    int r = 0;

    while (!lane->first && !lanes->ending && r == 0) {
        lane->n_idle++;
        r = pthread_cond_timedwait(&lane->work, &lanes->lock, &until);
        lane->n_idle--;
    }
    if (!lane->first && !lanes->ending) {
        /* A quiet time: what was freed goes back to the kernel. It takes a while, and a job may
         * come meanwhile. */
        pthread_mutex_unlock(&lanes->lock);
        (void)malloc_trim(0);
        pthread_mutex_lock(&lanes->lock);
    }
    job = lane->first;
    if (!job)
        return NULL;
    unlink_locked(lane, job);
    if (job->done)
        lane->n_bounded--;
    job->state = JOB_RUNNING;
    return job;
}

static void *work(void *arg)
{
    struct slot *slot = arg;
    struct ld_lanes *lanes = slot->lanes;
    struct lane *lane = &lanes->lane[slot->lane];
    struct ld_job *job;

    set_up_thread(slot->lane);
    pthread_mutex_lock(&lanes->lock);
    while ((job = next_job_locked(lanes, lane))) {
        bool has_done = job->done != NULL; /* a helper's memory may be gone after its run */

        lane->n_running++;
        pthread_mutex_unlock(&lanes->lock);
        job->was_run = true;
        job->run(job);
        pthread_mutex_lock(&lanes->lock);
        lane->n_running--;
        lane->finished++;
        if (has_done) {
            job->state = JOB_DELIVERED;
            pthread_mutex_unlock(&lanes->lock);
            ld_loop_post(lanes->loop, deliver, job);
            pthread_mutex_lock(&lanes->lock);
        }
    }
    slot->state = SLOT_ENDED;
    lane->n_threads--;
    pthread_mutex_unlock(&lanes->lock);
    return NULL;
}

/* One more thread. False: none can be made. A slot whose thread has ended is joined at no cost. */
static bool spawn_locked(struct ld_lanes *lanes, enum ld_lane which)
{
    struct lane *lane = &lanes->lane[which];
    struct slot *slot = lane->slots;
    sigset_t all, old;
    pthread_attr_t attr;
    int r;

    while (slot->state == SLOT_LIVE)
        slot++;
    if (slot->state == SLOT_ENDED)
        (void)pthread_join(slot->thread, NULL); /* it holds nothing and is about to return */
    *slot = (struct slot){.lanes = lanes, .lane = which, .state = SLOT_FREE};

    sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &old); /* inherited: signals belong to the loop */
    pthread_attr_init(&attr);
    (void)pthread_attr_setstacksize(&attr, STACK_SIZE);
    r = pthread_create(&slot->thread, &attr, work, slot);
    pthread_attr_destroy(&attr);
    (void)pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (r != 0)
        return false;
    slot->state = SLOT_LIVE;
    lane->n_threads++;
    return true;
}

/* Enough threads for what is queued: idle ones may have been signalled for other jobs already. */
static bool staff_locked(struct ld_lanes *lanes, enum ld_lane which)
{
    struct lane *lane = &lanes->lane[which];

    if (lane->n_queued > lane->n_idle && lane->n_threads < lane->max_threads)
        (void)spawn_locked(lanes, which);
    return lane->n_threads > 0;
}

/* ---- life ---- */

struct ld_lanes *ld_lanes_new(struct ld_loop *loop, const struct ld_lane_limits *limits)
{
    struct ld_lanes *lanes = ld_new(struct ld_lanes);
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    pthread_condattr_t attr;

    ld_assert_loop();
    lanes->loop = loop;
    pthread_mutex_init(&lanes->lock, NULL);
    pthread_condattr_init(&attr);
    (void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC); /* cannot fail */
    for (size_t i = 0; i < LD_LANE_COUNT; i++) {
        struct lane *lane = &lanes->lane[i];
        struct ld_lane_limits mine = kinds[i].limits;

        if (mine.threads == 0)
            mine.threads = cores > 1 ? (unsigned)cores : 1;
        if (limits && limits[i].threads)
            mine.threads = limits[i].threads;
        if (limits && limits[i].waiting)
            mine.waiting = limits[i].waiting;
        lane->max_threads = mine.threads < MAX_THREADS ? mine.threads : MAX_THREADS;
        lane->max_queued = mine.waiting;
        lane->slots = ld_alloc0(lane->max_threads * sizeof(struct slot));
        pthread_cond_init(&lane->work, &attr);
    }
    pthread_condattr_destroy(&attr);
    return lanes;
}

void ld_lanes_drain(struct ld_lanes *lanes, void (*drained)(void *arg), void *arg)
{
    bool is_drained;

    ld_assert_loop();
    pthread_mutex_lock(&lanes->lock);
    assert(!lanes->draining);
    lanes->draining = true;
    lanes->drained = drained;
    lanes->drained_arg = arg;
    is_drained = lanes->open == 0;
    pthread_mutex_unlock(&lanes->lock);
    if (is_drained)
        ld_loop_post(lanes->loop, report_drained, lanes);
}

void ld_lanes_free(struct ld_lanes *lanes)
{
    if (!lanes)
        return;
    ld_assert_loop();
    pthread_mutex_lock(&lanes->lock);
    assert(lanes->draining && lanes->open == 0);
    lanes->ending = true;
    for (size_t i = 0; i < LD_LANE_COUNT; i++)
        pthread_cond_broadcast(&lanes->lane[i].work);
    pthread_mutex_unlock(&lanes->lock);

    for (size_t i = 0; i < LD_LANE_COUNT; i++) {
        struct lane *lane = &lanes->lane[i];

        /* No thread is made any more, so a slot is either free for good or has one to join. */
        for (unsigned k = 0; k < lane->max_threads; k++) {
            enum slot_state state;

            pthread_mutex_lock(&lanes->lock);
            state = lane->slots[k].state;
            pthread_mutex_unlock(&lanes->lock);
            if (state != SLOT_FREE)
                (void)pthread_join(lane->slots[k].thread, NULL);
        }
        pthread_cond_destroy(&lane->work);
        free(lane->slots);
    }
    pthread_mutex_destroy(&lanes->lock);
    free(lanes);
}

/* ---- submit and cancel ---- */

static int submit_locked(struct ld_lanes *lanes, enum ld_lane which, struct ld_job *job,
                         struct ld_err *err)
{
    struct lane *lane = &lanes->lane[which];

    if (lanes->draining)
        return ld_err_set(err, LD_E_UNAVAILABLE, "layerd is shutting down");
    if (lane->n_bounded >= lane->max_queued)
        return ld_err_set(err, LD_E_UNAVAILABLE, "too much %s work is waiting (%u)",
                          kinds[which].name, lane->n_bounded);
    job->lanes = lanes;
    job->lane = which;
    job->was_run = false;
    enqueue_locked(lane, job);
    if (!staff_locked(lanes, which)) {
        unlink_locked(lane, job);
        job->state = JOB_IDLE;
        return ld_err_set(err, LD_E_UNAVAILABLE, "no thread can be made for %s work",
                          kinds[which].name);
    }
    lane->n_bounded++;
    lanes->open++;
    return 0;
}

int ld_lanes_submit(struct ld_lanes *lanes, enum ld_lane lane, struct ld_job *job,
                    struct ld_err *err)
{
    int r;

    assert(job->run && job->done);
    pthread_mutex_lock(&lanes->lock);
    r = submit_locked(lanes, lane, job, err);
    if (r < 0)
        lanes->lane[lane].refused++;
    pthread_mutex_unlock(&lanes->lock);
    return r;
}

bool ld_lanes_cancel(struct ld_lanes *lanes, struct ld_job *job)
{
    bool is_mine;

    pthread_mutex_lock(&lanes->lock);
    is_mine = job->state == JOB_QUEUED;
    if (is_mine) {
        unlink_locked(&lanes->lane[job->lane], job);
        lanes->lane[job->lane].n_bounded--;
        job->state = JOB_DELIVERED;
    }
    pthread_mutex_unlock(&lanes->lock);
    if (is_mine)
        ld_loop_post(lanes->loop, deliver, job);
    return is_mine;
}

struct ld_lane_stats ld_lanes_stats(struct ld_lanes *lanes, enum ld_lane which)
{
    const struct lane *lane = &lanes->lane[which];
    struct ld_lane_stats stats;

    pthread_mutex_lock(&lanes->lock);
    stats = (struct ld_lane_stats){.threads = lane->n_threads,
                                   .running = lane->n_running,
                                   .waiting = lane->n_queued,
                                   .finished = lane->finished,
                                   .refused = lane->refused};
    pthread_mutex_unlock(&lanes->lock);
    return stats;
}

/* ---- batches ---- */

struct helper {
    struct ld_job job;
    struct batch *batch;
};

/* On the waiter's stack; helpers are through with it once n_helpers is zero. */
struct batch {
    struct ld_lanes *lanes;
    const struct ld_batch *what;
    size_t next;      /* under the lock, as all below */
    size_t n_helpers; /* queued or running */
    bool stop;        /* what fn polls: an atomic flag */
    bool has_failed;
    struct ld_err err;
    pthread_cond_t over;
};

static void fail_locked(struct batch *batch, const struct ld_err *err)
{
    ld_flag_set(&batch->stop);
    if (!batch->has_failed) {
        batch->has_failed = true;
        batch->err = *err;
    }
}

/* One call; true when it makes sense to come again. */
static bool call_one(struct batch *batch)
{
    struct ld_err err = LD_ERR_INIT;
    size_t index;
    bool is_on;
    int r;

    pthread_mutex_lock(&batch->lanes->lock);
    is_on = !ld_flag_is_set(&batch->stop) && batch->next < batch->what->n;
    index = batch->next;
    batch->next += is_on ? 1 : 0;
    pthread_mutex_unlock(&batch->lanes->lock);
    if (!is_on)
        return false;

    r = batch->what->fn(batch->what->arg, index, &batch->stop, &err);
    pthread_mutex_lock(&batch->lanes->lock);
    if (r < 0)
        fail_locked(batch, &err);
    is_on = !ld_flag_is_set(&batch->stop) && batch->next < batch->what->n;
    pthread_mutex_unlock(&batch->lanes->lock);
    return is_on;
}

static void run_helper(struct ld_job *job)
{
    struct helper *helper = (struct helper *)job;
    struct batch *batch = helper->batch;
    struct ld_lanes *lanes = batch->lanes;
    bool is_on = call_one(batch);

    pthread_mutex_lock(&lanes->lock);
    if (is_on) {
        enqueue_locked(&lanes->lane[job->lane], job);
    } else if (--batch->n_helpers == 0) {
        pthread_cond_signal(&batch->over); /* after the unlock the waiter's memory is gone */
    }
    pthread_mutex_unlock(&lanes->lock);
}

/* Queues the helpers; none when no thread can be made. */
static void start_helpers_locked(struct batch *batch, enum ld_lane which, struct helper *helpers,
                                 size_t n)
{
    struct ld_lanes *lanes = batch->lanes;

    for (size_t i = 0; i < n; i++) {
        helpers[i] = (struct helper){
            .job = {.run = run_helper, .lanes = lanes, .lane = which},
            .batch = batch,
        };
        enqueue_locked(&lanes->lane[which], &helpers[i].job);
        if (!staff_locked(lanes, which)) {
            unlink_locked(&lanes->lane[which], &helpers[i].job);
            return;
        }
        batch->n_helpers++;
    }
}

static void wait_for_helpers_locked(struct batch *batch)
{
    while (batch->n_helpers > 0) {
        struct timespec until = in_ms(CANCEL_POLL_MS);

        (void)pthread_cond_timedwait(&batch->over, &batch->lanes->lock, &until);
        if (ld_flag_is_set(batch->what->cancel) && !ld_flag_is_set(&batch->stop)) {
            struct ld_err err = LD_ERR_INIT;

            (void)ld_err_set(&err, LD_E_CANCELED, "cancelled");
            fail_locked(batch, &err);
        }
    }
}

int ld_lanes_run_all(struct ld_lanes *lanes, enum ld_lane lane, const struct ld_batch *what,
                     struct ld_err *err)
{
    struct batch batch = {.lanes = lanes, .what = what};
    size_t max = lanes->lane[lane].max_threads;
    size_t n = what->n < max ? what->n : max;
    autofree struct helper *helpers = ld_alloc0((n + 1) * sizeof(struct helper));
    pthread_condattr_t attr;

    assert(!ld_is_loop_thread());
    pthread_condattr_init(&attr);
    (void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC); /* cannot fail */
    pthread_cond_init(&batch.over, &attr);
    pthread_condattr_destroy(&attr);

    pthread_mutex_lock(&lanes->lock);
    start_helpers_locked(&batch, lane, helpers, n);
    wait_for_helpers_locked(&batch);
    pthread_mutex_unlock(&lanes->lock);
    /* What is left when no helper could run. */
    while (!ld_flag_is_set(what->cancel) && call_one(&batch))
        continue;
    pthread_cond_destroy(&batch.over);

    if (batch.has_failed) {
        *err = batch.err;
        return -1;
    }
    if (batch.next < what->n)
        return ld_err_set(err, LD_E_CANCELED, "cancelled");
    return 0;
}
