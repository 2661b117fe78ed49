/* Jobs while they run: progress, cancelling, waiting for the end. Their records are the store's.
 *
 * A job is begun on the loop, recorded and finished by its operation on a worker, and ended on the
 * loop when the operation is done. So its record is final by the time it is ended; one that says
 * "running" without a job here lost its outcome (the disk was full) or will be marked at the next
 * start.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/base/err.h"

struct ld_core;
struct ld_task; /* one running job */
struct ld_write;

/* ---- for the core ---- */

struct ld_jobs;
struct ld_jobs *ld_jobs_new(void);
/* Loop. Who waits is told; what is cut short from now on counts as interrupted. */
void ld_jobs_stop(struct ld_jobs *jobs);
void ld_jobs_free(struct ld_jobs *jobs); /* all have ended (asserted); NULL is fine */

/* ---- for the operation ---- */

/* Loop. cancel(arg) is called on the loop, at most once, when somebody wants it to end early. */
struct ld_task *ld_task_begin(struct ld_core *core, const char *kind, void (*cancel)(void *arg),
                              void *arg);
const char *ld_task_id(const struct ld_task *task); /* constant; 64 hex digits */
/* Worker: makes the record. An operation that fails here has no job. may_use_reserve: on a full
 * disk too, since it frees space. */
int ld_task_record(struct ld_task *task, const struct ld_write *w, bool may_use_reserve,
                   struct ld_err *err);
/* Any worker of the operation. id: what is worked on, NULL: the whole; total 0: not known. */
void ld_task_progress(struct ld_task *task, const char *phase, const char *id, uint64_t current,
                      uint64_t total);

/* Borrowed for the call. */
struct ld_task_outcome {
    const struct ld_err *why;            /* NULL: success */
    const char *result;                  /* JSON text; left out of the record when over 8 MiB */
    const char *error;                   /* JSON text */
    const char *object_kind, *object_id; /* what it was about, or NULL */
};
/* Worker, once after a record: writes the outcome. A failure to do so is logged. */
void ld_task_finish(struct ld_task *task, const struct ld_write *w,
                    const struct ld_task_outcome *outcome);
/* Loop, in the operation's done(): it is over, whether it was ever recorded or not. Frees it. */
void ld_task_end(struct ld_task *task);

/* ---- for whoever asks ---- */

struct ld_job_view {
    bool cancel_requested;
    bool has_progress;
    bool is_whole; /* progress of the whole: no id */
    char phase[16], id[80];
    uint64_t current, total; /* total 0: not known */
};
/* Any thread. False: it does not run here (any more). */
bool ld_job_look(struct ld_core *core, const char *id, struct ld_job_view *ret);
/* Loop. Idempotent. False: it does not run (any more). */
bool ld_job_cancel(struct ld_core *core, const char *id);

/* Part of its owner. */
struct ld_job_waiter {
    void (*fn)(void *arg); /* on the loop, once: the job has ended, or the daemon stops */
    void *arg;
    struct ld_job_waiter *prev, *next; /* private */
    struct ld_task *task;              /* private */
};
/* Loop. False: it does not run (any more), or the daemon stops: fn will not be called. */
bool ld_job_wait(struct ld_core *core, const char *id, struct ld_job_waiter *waiter);
void ld_job_unwait(struct ld_job_waiter *waiter); /* loop; before fn was called */
