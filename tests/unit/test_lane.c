/* jobs/lane.h: jobs run once, end once, are bounded, cancelled, drained; batches. */
#include <pthread.h>
#include <time.h>
#include <unistd.h>

#include "tests/lib/env.h"
#include "tests/lib/jobs.h"

/* A gate that jobs wait at. */
struct gate {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool is_open;
    int inside, max_inside;
};
#define GATE_INIT                                                                                  \
    {                                                                                              \
        .lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER                     \
    }

static void gate_pass(struct gate *gate)
{
    pthread_mutex_lock(&gate->lock);
    gate->inside++;
    if (gate->inside > gate->max_inside)
        gate->max_inside = gate->inside;
    while (!gate->is_open)
        pthread_cond_wait(&gate->changed, &gate->lock);
    gate->inside--;
    pthread_mutex_unlock(&gate->lock);
}

static void gate_open(struct gate *gate)
{
    pthread_mutex_lock(&gate->lock);
    gate->is_open = true;
    pthread_cond_broadcast(&gate->changed);
    pthread_mutex_unlock(&gate->lock);
}

static int gate_inside(struct gate *gate)
{
    int n;

    pthread_mutex_lock(&gate->lock);
    n = gate->inside;
    pthread_mutex_unlock(&gate->lock);
    return n;
}

struct test_job {
    struct ld_job job;
    struct gate *gate;
    int *left;
    int n_run, n_done;
};

static void run(struct ld_job *job)
{
    struct test_job *mine = (struct test_job *)job;

    cr_assert_not(ld_is_loop_thread());
    mine->n_run++;
    if (mine->gate)
        gate_pass(mine->gate);
}

static void done(struct ld_job *job)
{
    struct test_job *mine = (struct test_job *)job;

    ld_assert_loop();
    mine->n_done++;
    --*mine->left;
}

static bool none_left(void *arg)
{
    return *(int *)arg == 0;
}

static void init(struct test_job *job, struct gate *gate, int *left)
{
    *job = (struct test_job){.job = {.run = run, .done = done}, .gate = gate, .left = left};
}

static bool someone_inside(void *arg)
{
    return gate_inside(arg) > 0;
}

LD_TEST(lane, runs_each_job_once_and_ends_it_once_on_the_loop)
{
    enum { N = 2000 };
    static struct test_job many[N];
    struct ld_test_jobs jobs;
    struct ld_err err = LD_ERR_INIT;
    int left = N;

    ld_test_jobs_start(&jobs, NULL);
    for (int i = 0; i < N; i++) {
        init(&many[i], NULL, &left);
        ld_test_ok(ld_lanes_submit(jobs.lanes, LD_LANE_QUICK, &many[i].job, &err), &err);
    }
    cr_assert(ld_test_run_until(jobs.loop, none_left, &left));
    for (int i = 0; i < N; i++)
        cr_expect(many[i].n_run == 1 && many[i].n_done == 1 && many[i].job.was_run);
    cr_expect_leq(ld_lanes_stats(jobs.lanes, LD_LANE_QUICK).threads, 16);
    cr_expect_eq(ld_lanes_stats(jobs.lanes, LD_LANE_QUICK).finished, N);
    ld_test_jobs_end(&jobs);
}

LD_TEST(lane, tells_the_submitter_when_its_queue_is_full_and_cancels_what_waits)
{
    static const struct ld_lane_limits limits[LD_LANE_COUNT] = {[LD_LANE_CLOSE] = {1, 2}};
    struct ld_test_jobs jobs;
    struct ld_err err = LD_ERR_INIT;
    struct gate gate = GATE_INIT;
    struct test_job job[4];
    int left = 3;

    ld_test_jobs_start(&jobs, limits);
    for (int i = 0; i < 4; i++)
        init(&job[i], &gate, &left);
    ld_test_ok(ld_lanes_submit(jobs.lanes, LD_LANE_CLOSE, &job[0].job, &err), &err);
    cr_assert(ld_test_run_until(jobs.loop, someone_inside, &gate));
    ld_test_ok(ld_lanes_submit(jobs.lanes, LD_LANE_CLOSE, &job[1].job, &err), &err);
    ld_test_ok(ld_lanes_submit(jobs.lanes, LD_LANE_CLOSE, &job[2].job, &err), &err);
    ld_test_fails(ld_lanes_submit(jobs.lanes, LD_LANE_CLOSE, &job[3].job, &err), &err,
                  LD_E_UNAVAILABLE);

    cr_expect(ld_lanes_cancel(jobs.lanes, &job[1].job));
    cr_expect_not(ld_lanes_cancel(jobs.lanes, &job[1].job), "only once");
    cr_expect_not(ld_lanes_cancel(jobs.lanes, &job[0].job), "it runs");
    gate_open(&gate);
    cr_assert(ld_test_run_until(jobs.loop, none_left, &left));
    cr_expect(job[1].n_run == 0 && job[1].n_done == 1 && !job[1].job.was_run);
    cr_expect(job[2].n_run == 1 && job[2].n_done == 1);
    cr_expect(job[3].n_run == 0 && job[3].n_done == 0);
    ld_test_jobs_end(&jobs);
}

static void *open_later(void *arg)
{
    struct timespec t = {.tv_nsec = 20000000};

    nanosleep(&t, NULL);
    gate_open(arg);
    return NULL;
}

LD_TEST(lane, runs_what_waits_before_a_drain_ends)
{
    static const struct ld_lane_limits limits[LD_LANE_COUNT] = {[LD_LANE_REAP] = {1, 10}};
    struct ld_test_jobs jobs;
    struct ld_err err = LD_ERR_INIT;
    struct gate gate = GATE_INIT;
    struct test_job job[3];
    pthread_t opener;
    int left = 3;

    ld_test_jobs_start(&jobs, limits);
    for (int i = 0; i < 3; i++) {
        init(&job[i], &gate, &left);
        ld_test_ok(ld_lanes_submit(jobs.lanes, LD_LANE_REAP, &job[i].job, &err), &err);
    }
    pthread_create(&opener, NULL, open_later, &gate);
    ld_test_jobs_end(&jobs); /* asserts that nothing is open */
    pthread_join(opener, NULL);
    cr_expect_eq(left, 0);
}

static void change_dir(struct ld_job *job)
{
    cr_assert_eq(chdir("/proc"), 0);
    run(job);
}

LD_TEST(lane, gives_each_worker_its_own_working_directory)
{
    struct ld_test_jobs jobs;
    struct ld_err err = LD_ERR_INIT;
    struct test_job job;
    char *cwd;
    int left = 1;

    ld_test_jobs_start(&jobs, NULL);
    init(&job, NULL, &left);
    job.job.run = change_dir;
    ld_test_ok(ld_lanes_submit(jobs.lanes, LD_LANE_QUICK, &job.job, &err), &err);
    cr_assert(ld_test_run_until(jobs.loop, none_left, &left));
    cwd = getcwd(NULL, 0);
    cr_expect_str_eq(cwd, ld_test_dir());
    free(cwd);
    ld_test_jobs_end(&jobs);
}

/* ---- batches ---- */

struct batch_test {
    struct ld_test_jobs jobs;
    struct ld_job job;
    struct ld_batch batch;
    enum ld_lane lane;
    bool cancel;
    int rc, left;
    struct ld_err err;
    int calls[100];
    struct gate gate;
    size_t fails_at;
    int seen_stop;
};

static void run_batch(struct ld_job *job)
{
    struct batch_test *test = (void *)((char *)job - offsetof(struct batch_test, job));

    test->rc = ld_lanes_run_all(test->jobs.lanes, test->lane, &test->batch, &test->err);
}

static void batch_done(struct ld_job *job)
{
    struct batch_test *test = (void *)((char *)job - offsetof(struct batch_test, job));

    test->left--;
}

static void start_batch(struct batch_test *test, size_t n,
                        int (*fn)(void *, size_t, const bool *, struct ld_err *))
{
    /* Far fewer threads than calls, however many cores there are. */
    static const struct ld_lane_limits limits[LD_LANE_COUNT] = {[LD_LANE_COPY] = {.threads = 4}};
    struct ld_err err = LD_ERR_INIT;

    ld_test_jobs_start(&test->jobs, limits);
    test->lane = LD_LANE_COPY;
    test->left = 1;
    test->batch = (struct ld_batch){.fn = fn, .arg = test, .n = n, .cancel = &test->cancel};
    test->job = (struct ld_job){.run = run_batch, .done = batch_done};
    ld_test_ok(ld_lanes_submit(test->jobs.lanes, LD_LANE_STREAM, &test->job, &err), &err);
}

static int count_call(void *arg, size_t index, const bool *cancel, struct ld_err *err)
{
    struct batch_test *test = arg;

    (void)cancel;
    (void)err;
    __atomic_fetch_add(&test->calls[index], 1, __ATOMIC_SEQ_CST);
    return 0;
}

LD_TEST(lane, makes_every_call_of_a_batch_once)
{
    static struct batch_test test;

    start_batch(&test, 100, count_call);
    cr_assert(ld_test_run_until(test.jobs.loop, none_left, &test.left));
    cr_expect_eq(test.rc, 0);
    for (int i = 0; i < 100; i++)
        cr_expect_eq(test.calls[i], 1);
    ld_test_jobs_end(&test.jobs);
}

LD_TEST(lane, finishes_an_empty_batch)
{
    static struct batch_test test;

    start_batch(&test, 0, count_call);
    cr_assert(ld_test_run_until(test.jobs.loop, none_left, &test.left));
    cr_expect_eq(test.rc, 0);
    ld_test_jobs_end(&test.jobs);
}

static int fail_third(void *arg, size_t index, const bool *cancel, struct ld_err *err)
{
    struct batch_test *test = arg;

    __atomic_fetch_add(&test->calls[index], 1, __ATOMIC_SEQ_CST);
    if (index == 2)
        return ld_err_set(err, LD_E_BAD_CONTENT, "layer %zu is bad", index);
    while (index > 2 && !ld_flag_is_set(cancel))
        continue;
    if (index > 2)
        return ld_err_set(err, LD_E_CANCELED, "cancelled");
    return 0;
}

LD_TEST(lane, ends_a_batch_with_its_first_failure)
{
    static struct batch_test test;

    start_batch(&test, 100, fail_third);
    cr_assert(ld_test_run_until(test.jobs.loop, none_left, &test.left));
    cr_expect_eq(test.rc, -1);
    cr_expect_eq(test.err.code, LD_E_BAD_CONTENT, "%s", test.err.message);
    cr_expect_eq(test.calls[99], 0, "the last was never begun");
    ld_test_jobs_end(&test.jobs);
}

static int wait_for_cancel(void *arg, size_t index, const bool *cancel, struct ld_err *err)
{
    struct batch_test *test = arg;

    __atomic_fetch_add(&test->calls[index], 1, __ATOMIC_SEQ_CST);
    while (!ld_flag_is_set(cancel))
        usleep(1000);
    return ld_err_set(err, LD_E_CANCELED, "cancelled");
}

static bool first_was_called(void *arg)
{
    struct batch_test *test = arg;

    return __atomic_load_n(&test->calls[0], __ATOMIC_SEQ_CST) == 1;
}

LD_TEST(lane, passes_the_callers_cancel_on_to_a_batch)
{
    static struct batch_test test;

    start_batch(&test, 100, wait_for_cancel);
    cr_assert(ld_test_run_until(test.jobs.loop, first_was_called, &test));
    ld_flag_set(&test.cancel);
    cr_assert(ld_test_run_until(test.jobs.loop, none_left, &test.left));
    cr_expect_eq(test.rc, -1);
    cr_expect_eq(test.err.code, LD_E_CANCELED);
    ld_test_jobs_end(&test.jobs);
}
