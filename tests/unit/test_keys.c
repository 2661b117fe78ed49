/* jobs/op.h: who may run beside whom, in which order; cancel, refusal, drain, sub-operations. */
#include <pthread.h>
#include <string.h>
#include <unistd.h>

#include "daemon/base/mem.h"
#include "tests/lib/env.h"
#include "tests/lib/jobs.h"

/* An operation that runs until it is told to end. */
struct test_op {
    struct ld_op op;
    bool may_end; /* set by the test, polled by run */
    bool started; /* set by run, polled by the test */
    bool is_done;
};

static struct ld_test_jobs jobs;
static struct test_op ops[8];

static int run(struct ld_op *op, struct ld_err *err)
{
    struct test_op *mine = op->arg;

    ld_flag_set(&mine->started);
    while (!ld_flag_is_set(&mine->may_end)) {
        if (ld_flag_is_set(&op->cancel))
            return ld_err_set(err, LD_E_CANCELED, "cancelled");
        usleep(500);
    }
    return 0;
}

static void done(struct ld_op *op)
{
    struct test_op *mine = op->arg;

    ld_assert_loop();
    mine->is_done = true;
}

/* Submits ops[i] with the keys of a text: "a!" exclusive, "b" shared, separated by blanks. */
static void submit(size_t i, const char *keys)
{
    autofree char *text = ld_strdup(keys);
    char *save = NULL;

    ld_op_init(&ops[i].op, LD_LANE_QUICK, run, done, &ops[i]);
    for (char *key = strtok_r(text, " ", &save); key; key = strtok_r(NULL, " ", &save)) {
        size_t len = strlen(key);
        bool is_exclusive = key[len - 1] == '!';

        ld_op_key(&ops[i].op, is_exclusive ? LD_EXCLUSIVE : LD_SHARED, "%.*s",
                  (int)(len - is_exclusive), key);
    }
    ld_ops_submit(jobs.ops, &ops[i].op);
    cr_expect_not(ops[i].is_done, "never from inside the submit");
}

static bool has_started(void *arg)
{
    return ld_flag_is_set(&((struct test_op *)arg)->started);
}

static bool has_ended(void *arg)
{
    return ((struct test_op *)arg)->is_done;
}

static void expect_running(size_t i)
{
    cr_assert(ld_test_run_until(jobs.loop, has_started, &ops[i]), "operation %zu starts", i);
}

static bool after_a_while(void *arg)
{
    return ++*(int *)arg > 5;
}

static void expect_waiting(size_t i)
{
    int n = 0;

    cr_assert(ld_test_run_until(jobs.loop, after_a_while, &n));
    cr_expect_not(ops[i].started, "operation %zu must wait", i);
}

static void finish(size_t i)
{
    ld_flag_set(&ops[i].may_end);
    cr_assert(ld_test_run_until(jobs.loop, has_ended, &ops[i]));
    cr_expect_eq(ops[i].op.rc, 0, "%s", ops[i].op.err.message);
}

LD_TEST(keys, keep_exclusive_apart_and_let_shared_in_together)
{
    ld_test_jobs_start(&jobs, NULL);
    submit(0, "i:x");
    submit(1, "i:x");
    submit(2, "i:x!");
    expect_running(0);
    expect_running(1);
    expect_waiting(2);
    cr_expect_eq(ld_ops_stats(jobs.ops).waiting, 1);
    finish(0);
    expect_waiting(2);
    finish(1);
    expect_running(2);
    finish(2);
    cr_expect_eq(ld_ops_stats(jobs.ops).keys, 0, "nothing is kept for keys nobody wants");
    ld_test_jobs_end(&jobs);
}

LD_TEST(keys, are_granted_in_the_order_of_submission)
{
    ld_test_jobs_start(&jobs, NULL);
    submit(0, "a");
    submit(1, "a! b!"); /* waits for 0 */
    submit(2, "a");     /* could run beside 0, but 1 was first */
    submit(3, "b");     /* b is free, but 1 was first */
    submit(4, "c!");    /* has nothing to do with them */
    expect_running(0);
    expect_running(4);
    expect_waiting(1);
    expect_waiting(2);
    expect_waiting(3);
    finish(0);
    expect_running(1);
    expect_waiting(2);
    expect_waiting(3);
    finish(1);
    expect_running(2);
    expect_running(3);
    finish(2);
    finish(3);
    finish(4);
    ld_test_jobs_end(&jobs);
}

LD_TEST(keys, named_twice_count_once_and_exclusive_wins)
{
    ld_test_jobs_start(&jobs, NULL);
    submit(0, "a a! a");
    submit(1, "a");
    expect_running(0);
    expect_waiting(1);
    finish(0);
    finish(1);
    ld_test_jobs_end(&jobs);
}

LD_TEST(keys, of_a_cancelled_waiter_do_not_block_those_behind_it)
{
    ld_test_jobs_start(&jobs, NULL);
    submit(0, "a");
    submit(1, "a!");
    submit(2, "a");
    expect_running(0);
    expect_waiting(2);
    ld_ops_cancel(jobs.ops, &ops[1].op);
    cr_assert(ld_test_run_until(jobs.loop, has_ended, &ops[1]));
    cr_expect_eq(ops[1].op.err.code, LD_E_CANCELED);
    cr_expect_not(ops[1].started);
    expect_running(2);
    ld_ops_cancel(jobs.ops, &ops[0].op); /* running: polls its flag */
    cr_assert(ld_test_run_until(jobs.loop, has_ended, &ops[0]));
    cr_expect_eq(ops[0].op.err.code, LD_E_CANCELED);
    cr_expect_eq(ld_ops_stats(jobs.ops).canceled, 2);
    finish(2);
    ld_test_jobs_end(&jobs);
}

LD_TEST(keys, too_many_are_refused_by_done)
{
    ld_test_jobs_start(&jobs, NULL);
    ld_op_init(&ops[0].op, LD_LANE_QUICK, run, done, &ops[0]);
    for (int i = 0; i <= LD_OP_MAX_KEYS; i++)
        ld_op_key(&ops[0].op, LD_SHARED, "v:%d", i);
    ld_ops_submit(jobs.ops, &ops[0].op);
    cr_assert(ld_test_run_until(jobs.loop, has_ended, &ops[0]));
    cr_expect_eq(ops[0].op.err.code, LD_E_INVALID);
    ld_test_jobs_end(&jobs);
}

static int n_ended;

static void count_done(struct ld_op *op)
{
    cr_assert(op->rc == 0 || op->err.code == LD_E_UNAVAILABLE, "%s", op->err.message);
    n_ended += op->rc == 0;
    free(op);
}

static int succeed(struct ld_op *op, struct ld_err *err)
{
    (void)op;
    (void)err;
    return 0;
}

static bool all_ended(void *arg)
{
    return n_ended >= *(int *)arg;
}

LD_TEST(keys, have_a_bounded_number_of_waiters)
{
    int want = LD_OPS_MAX_WAITING;

    ld_test_jobs_start(&jobs, NULL);
    submit(0, "a!");
    for (int i = 0; i < LD_OPS_MAX_WAITING + 100; i++) {
        struct ld_op *op = ld_new(struct ld_op);

        ld_op_init(op, LD_LANE_QUICK, succeed, count_done, NULL);
        ld_op_key(op, LD_EXCLUSIVE, "a");
        ld_ops_submit(jobs.ops, op);
    }
    cr_expect_eq(ld_ops_stats(jobs.ops).waiting, LD_OPS_MAX_WAITING);
    cr_expect_eq(ld_ops_stats(jobs.ops).refused, 100);
    finish(0);
    cr_assert(ld_test_run_until(jobs.loop, all_ended, &want));
    cr_expect_eq(n_ended, want);
    ld_test_jobs_end(&jobs);
}

LD_TEST(keys, a_drain_refuses_waiters_and_waits_for_runners)
{
    ld_test_jobs_start(&jobs, NULL);
    submit(0, "a!");
    submit(1, "a! b!");
    submit(2, "b");
    expect_running(0);
    ld_test_jobs_end(&jobs); /* cancels 0 */
    cr_expect_eq(ops[0].op.err.code, LD_E_CANCELED);
    cr_expect(ops[1].is_done && ops[2].is_done);
    cr_expect_eq(ops[1].op.err.code, LD_E_UNAVAILABLE);
    cr_expect_eq(ops[2].op.err.code, LD_E_UNAVAILABLE);
    cr_expect_not(ops[1].started || ops[2].started);
}

/* ---- sub-operations ---- */

static bool cancel_outer;

static int call_inner(struct ld_op *op, struct ld_err *err)
{
    struct ld_op inner;
    int r;

    ld_op_init(&inner, LD_LANE_QUICK, succeed, NULL, NULL);
    ld_op_key(&inner, LD_EXCLUSIVE, "a");
    r = ld_ops_call(jobs.ops, &inner, &cancel_outer, err);
    ld_flag_set(&((struct test_op *)op->arg)->started);
    return r;
}

static void count(void *arg)
{
    ld_assert_loop();
    ++*(int *)arg;
}

static bool is_one(void *arg)
{
    return *(int *)arg == 1;
}

LD_TEST(keys, quiet_comes_when_all_of_before_are_through_whoever_came_later)
{
    int first = 0, second = 0, idle = 0;
    struct ld_ops_quiet one = {.fn = count, .arg = &first}, two = {.fn = count, .arg = &second};

    ld_test_jobs_start(&jobs, NULL);
    submit(0, "a!");
    submit(1, "a!"); /* waits for a key: that counts, too */
    expect_running(0);
    ld_ops_when_quiet(jobs.ops, &one);
    submit(2, "b");
    ld_ops_when_quiet(jobs.ops, &two);
    finish(0);
    expect_running(1);
    cr_expect_eq(first, 0);
    finish(1);
    cr_expect_eq(first, 1);
    cr_expect_eq(second, 0);
    submit(3, "b");
    finish(2);
    cr_expect_eq(second, 1, "operation 3 came later");
    finish(3);
    one.arg = &idle;
    ld_ops_when_quiet(jobs.ops, &one);
    cr_expect_eq(idle, 0, "never from inside the call");
    cr_assert(ld_test_run_until(jobs.loop, is_one, &idle));
    cr_expect(first == 1 && second == 1);
    ld_test_jobs_end(&jobs);
}

LD_TEST(keys, a_worker_calls_a_sub_operation_and_waits)
{
    ld_test_jobs_start(&jobs, NULL);
    submit(0, "a");
    ld_op_init(&ops[1].op, LD_LANE_STREAM, call_inner, done, &ops[1]);
    ld_ops_submit(jobs.ops, &ops[1].op);
    expect_waiting(1);
    finish(0);
    cr_assert(ld_test_run_until(jobs.loop, has_ended, &ops[1]));
    cr_expect_eq(ops[1].op.rc, 0);
    ld_test_jobs_end(&jobs);
}

LD_TEST(keys, a_cancelled_caller_cancels_its_sub_operation)
{
    ld_test_jobs_start(&jobs, NULL);
    submit(0, "a");
    ld_op_init(&ops[1].op, LD_LANE_STREAM, call_inner, done, &ops[1]);
    ld_ops_submit(jobs.ops, &ops[1].op);
    expect_waiting(1);
    ld_flag_set(&cancel_outer);
    cr_assert(ld_test_run_until(jobs.loop, has_ended, &ops[1]));
    cr_expect_eq(ops[1].op.err.code, LD_E_CANCELED);
    finish(0);
    ld_test_jobs_end(&jobs);
}
