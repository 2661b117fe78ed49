/* A loop with lanes and operations for tests: see jobs.h. */
#include "tests/lib/jobs.h"

#include <stdio.h>
#include <stdlib.h>

enum { LIMIT_MS = 60000 };

void ld_test_jobs_start(struct ld_test_jobs *jobs, const struct ld_lane_limits *limits)
{
    struct ld_err err = LD_ERR_INIT;

    if (ld_loop_new(&jobs->loop, &err) < 0) {
        (void)fprintf(stderr, "test environment: %s\n", err.message);
        abort();
    }
    jobs->lanes = ld_lanes_new(jobs->loop, limits);
    jobs->ops = ld_ops_new(jobs->loop, jobs->lanes);
}

static void lanes_drained(void *arg)
{
    struct ld_test_jobs *jobs = arg;

    ld_loop_stop(jobs->loop);
}

static void ops_drained(void *arg)
{
    struct ld_test_jobs *jobs = arg;

    ld_lanes_drain(jobs->lanes, lanes_drained, jobs);
}

void ld_test_jobs_drain(struct ld_test_jobs *jobs)
{
    if (jobs->are_ops_drained)
        ops_drained(jobs);
    else
        ld_ops_drain(jobs->ops, true, ops_drained, jobs);
    ld_loop_run(jobs->loop);
}

void ld_test_jobs_end(struct ld_test_jobs *jobs)
{
    ld_test_jobs_drain(jobs);
    ld_test_jobs_free(jobs);
}

void ld_test_jobs_free(struct ld_test_jobs *jobs)
{
    ld_ops_free(jobs->ops);
    ld_lanes_free(jobs->lanes);
    ld_loop_free(jobs->loop);
}

struct until {
    struct ld_loop *loop;
    bool (*is_true)(void *arg);
    void *arg;
    uint64_t deadline;
    bool result;
};

static void ask(void *arg)
{
    struct until *until = arg;

    until->result = until->is_true(until->arg);
    if (until->result || ld_loop_now_ms(until->loop) > until->deadline)
        ld_loop_stop(until->loop);
}

bool ld_test_run_until(struct ld_loop *loop, bool (*is_true)(void *arg), void *arg)
{
    struct until until = {loop, is_true, arg, ld_loop_now_ms(loop) + LIMIT_MS, false};
    struct ld_timer *timer = ld_timer_new(loop, ask, &until);

    ld_timer_start(timer, 0, 1);
    ld_loop_run(loop);
    ld_timer_free(timer);
    return until.result;
}
