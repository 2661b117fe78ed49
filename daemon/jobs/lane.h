/* Lanes: worker threads by the kind of work, each with a bounded queue.
 *
 * Threads are made on demand and end after a while without work. A worker has all signals blocked
 * and its own working directory and umask (CLONE_FS unshared: a job may fchdir, and must when it
 * cares). Who may wait for whom: a job on the stream lane may wait for jobs on copy and quick;
 * nothing else waits for a lane. So lanes cannot deadlock.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/base/err.h"

enum ld_lane {
    LD_LANE_QUICK,  /* short bounded work: mount, mkdir, rename, small reads, a store transaction */
    LD_LANE_STREAM, /* coordinators of long work, and whoever waits for bytes of a client */
    LD_LANE_COPY,   /* unpack, flatten, copies: as many as cores */
    LD_LANE_CLOSE,  /* last close of an overlay, which syncs */
    LD_LANE_REAP,   /* one thread, idle I/O priority: trash, folding, accounting */
    LD_LANE_COUNT
};
const char *ld_lane_name(enum ld_lane lane); /* "quick" */

struct ld_loop;
struct ld_lanes;

/* One piece of work, embedded in or pointed to by its owner, alive until done(). run() is called at
 * most once on a worker; done() exactly once on the loop, also after cancel and at shutdown. */
struct ld_job {
    void (*run)(struct ld_job *job);
    void (*done)(struct ld_job *job);
    bool was_run; /* for done(): false when it was cancelled before a worker took it */

    /* private to lane.c */
    struct ld_job *next, *prev;
    struct ld_lanes *lanes;
    enum ld_lane lane;
    unsigned char state;
};

/* Threads and waiting jobs per lane; 0 stands for the default of each. */
struct ld_lane_limits {
    unsigned threads, waiting;
};
/* limits: LD_LANE_COUNT of them, or NULL. Makes no thread. Loop thread. */
struct ld_lanes *ld_lanes_new(struct ld_loop *loop, const struct ld_lane_limits *limits);
/* Loop thread. Only after a drain has ended (asserted). Blocks until the threads are gone. */
void ld_lanes_free(struct ld_lanes *lanes);

/* Any thread. 0: done() will be called. -1: nothing happens (unavailable: the queue is full, no
 * thread can be made, or the lanes are draining). */
int ld_lanes_submit(struct ld_lanes *lanes, enum ld_lane lane, struct ld_job *job,
                    struct ld_err *err) ld_must_check;
/* Any thread, between submit and done. True: it was still waiting; done() comes with was_run false.
 */
bool ld_lanes_cancel(struct ld_lanes *lanes, struct ld_job *job);

/* Loop thread. New jobs are refused from now on, from running jobs too (run_all still works for
 * them); what waits is still run. drained(arg) is called on the loop when the last done() is
 * through. */
void ld_lanes_drain(struct ld_lanes *lanes, void (*drained)(void *arg), void *arg);

/* n calls of fn, indices 0 to n - 1, spread over a lane. */
struct ld_batch {
    int (*fn)(void *arg, size_t index, const bool *cancel, struct ld_err *err);
    void *arg;
    size_t n;
    const bool *cancel; /* the caller's own flag, or NULL; polled every 50 ms or so */
};
/* Blocks a worker of the stream lane (or a test) until all calls have returned. The first failure
 * (or the caller's cancel) sets the flag that the running calls poll and keeps the others from
 * starting; -1 with that first error. Batches share the lane fairly, call by call. Never refused
 * because of a full queue; where no thread can be made it runs on the caller. */
int ld_lanes_run_all(struct ld_lanes *lanes, enum ld_lane lane, const struct ld_batch *batch,
                     struct ld_err *err) ld_must_check;

/* Any thread, a snapshot. */
struct ld_lane_stats {
    unsigned threads, running, waiting;
    uint64_t finished, refused;
};
struct ld_lane_stats ld_lanes_stats(struct ld_lanes *lanes, enum ld_lane lane);

/* Flags that one thread sets and another polls: relaxed atomics on a plain bool, since what they
 * guard is only "stop soon". */
static inline bool ld_flag_is_set(const bool *flag)
{
    return flag && __atomic_load_n(flag, __ATOMIC_RELAXED);
}
static inline void ld_flag_set(bool *flag)
{
    __atomic_store_n(flag, true, __ATOMIC_RELAXED);
}
