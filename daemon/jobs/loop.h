/* The event loop: one thread that owns all mutable daemon state.
 *
 * The thread that calls ld_loop_new is the loop thread until ld_loop_free; all callbacks run there.
 * Everything here but ld_loop_post and ld_loop_stop is for the loop thread only and never blocks
 * (ld_loop_run apart). Callbacks may free their own handle.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "daemon/base/err.h"
#include "daemon/base/histogram.h"

struct ld_loop;

/* Fails with unavailable (descriptors, memory). One loop per thread. */
int ld_loop_new(struct ld_loop **ret, struct ld_err *err) ld_must_check;
/* Runs what is still posted, then frees. Every watch, timer, idle and signal must be freed before,
 * and no other thread may post any more. NULL is fine. */
void ld_loop_free(struct ld_loop *loop);
/* Runs callbacks until ld_loop_stop; may be called again. */
void ld_loop_run(struct ld_loop *loop);
/* Any thread. The current pass is finished first; a stop before the run ends that run at once. */
void ld_loop_stop(struct ld_loop *loop);

/* Aborts when the calling thread is not a loop thread: opens every function that touches loop
 * state. */
void ld_assert_loop(void);
bool ld_is_loop_thread(void);
/* Is it inside ld_loop_run? Before and after that the loop thread may block: nobody waits for it.
 */
bool ld_is_loop_running(void);

/* Any thread: fn(arg) is called on the loop, exactly once, in the order of posting (FIFO over all
 * threads), never from inside ld_loop_post. Never fails (aborts without memory). */
typedef void (*ld_loop_fn)(void *arg);
void ld_loop_post(struct ld_loop *loop, ld_loop_fn fn, void *arg);

/* Monotonic milliseconds; coarse inside callbacks (the time the pass began). */
uint64_t ld_loop_now_ms(const struct ld_loop *loop);

/* How long a ready event had to wait at most: the time one pass spent in callbacks. Above 50 ms it
 * is logged (at most once in ten seconds). */
struct ld_loop_lag {
    uint64_t last_us;
    uint64_t max_us;             /* since the last reset */
    uint64_t passes;             /* ever */
    struct ld_histogram busy_ns; /* of the passes, ever; ld_scale_time */
};
struct ld_loop_lag ld_loop_lag(struct ld_loop *loop, bool reset_max);

/* A descriptor's readiness, level-triggered. One watch per descriptor; regular files are refused.
 * The descriptor becomes non-blocking. It is borrowed: free the watch before closing it. `events`
 * is what is true now; an error of the descriptor (EPOLLERR) shows as all events that were
 * asked for, and the watch is stopped then. */
enum ld_watch_events {
    LD_WATCH_READ = 1 << 0,
    LD_WATCH_WRITE = 1 << 1,
    LD_WATCH_DISCONNECT = 1 << 2, /* the peer closed, or shut down writing: see HANGUP */
    LD_WATCH_HANGUP = 1 << 3,     /* of a socket: both directions are closed, the peer is gone */
};
struct ld_watch;
typedef void (*ld_watch_fn)(void *arg, unsigned events);
int ld_watch_new(struct ld_loop *loop, int fd, ld_watch_fn fn, void *arg, struct ld_watch **ret,
                 struct ld_err *err) ld_must_check;         /* made stopped */
void ld_watch_set(struct ld_watch *watch, unsigned events); /* 0: stopped */
void ld_watch_free(struct ld_watch *watch);                 /* NULL is fine */

/* Timers in monotonic milliseconds. start replaces what was set; repeat_ms 0: once. */
struct ld_timer;
struct ld_timer *ld_timer_new(struct ld_loop *loop, ld_loop_fn fn, void *arg);
void ld_timer_start(struct ld_timer *timer, uint64_t delay_ms, uint64_t repeat_ms);
void ld_timer_stop(struct ld_timer *timer);
bool ld_timer_is_set(const struct ld_timer *timer);
void ld_timer_free(struct ld_timer *timer); /* NULL is fine */

/* "Run again soon": while started, fn is called once in each pass and the loop does not sleep. */
struct ld_idle;
struct ld_idle *ld_idle_new(struct ld_loop *loop, ld_loop_fn fn, void *arg);
void ld_idle_start(struct ld_idle *idle);
void ld_idle_stop(struct ld_idle *idle);
void ld_idle_free(struct ld_idle *idle); /* NULL is fine */

/* A signal of the process, delivered on the loop. */
struct ld_signal;
typedef void (*ld_signal_fn)(void *arg, int signum);
int ld_signal_new(struct ld_loop *loop, int signum, ld_signal_fn fn, void *arg,
                  struct ld_signal **ret, struct ld_err *err) ld_must_check;
void ld_signal_free(struct ld_signal *sig); /* NULL is fine */
