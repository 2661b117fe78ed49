/* A loop with lanes and operations for a test, and running them until something is true. */
#pragma once

#include <stdbool.h>

#include "daemon/jobs/lane.h"
#include "daemon/jobs/loop.h"
#include "daemon/jobs/op.h"

struct ld_test_jobs {
    struct ld_loop *loop;
    struct ld_lanes *lanes;
    struct ld_ops *ops;
    bool are_ops_drained; /* set by a test that has done it: ld_test_jobs_end goes on from there */
};

/* limits as for ld_lanes_new. Aborts when it cannot be made. */
void ld_test_jobs_start(struct ld_test_jobs *jobs, const struct ld_lane_limits *limits);
/* Drains operations, then lanes, and frees everything; or these two, with something in between. */
void ld_test_jobs_end(struct ld_test_jobs *jobs);
void ld_test_jobs_drain(struct ld_test_jobs *jobs);
void ld_test_jobs_free(struct ld_test_jobs *jobs);
/* Runs the loop until is_true(arg), asked every millisecond or after each pass. False: 60 s are up.
 */
bool ld_test_run_until(struct ld_loop *loop, bool (*is_true)(void *arg), void *arg);
