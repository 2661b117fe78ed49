/* Running jobs: see jobs.h.
 *
 * The loop owns the list, the waiters and each job's life. The lock is for what workers read
 * beside it (the list, flags) and write (progress); nothing blocks under it. */
#include "daemon/core/jobs.h"

#include <assert.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <utlist.h>

#include "daemon/base/digest.h"
#include "daemon/base/log.h"
#include "daemon/base/mem.h"
#include "daemon/core/state.h"
#include "daemon/jobs/loop.h"

struct ld_task {
    struct ld_core *core;
    struct ld_task *prev, *next;
    char id[65];
    const char *kind; /* a constant */
    void (*cancel)(void *arg);
    void *arg;
    struct ld_job_waiter *waiters;
    struct ld_job_view view; /* under the lock */
};

struct ld_jobs {
    pthread_mutex_t lock;
    struct ld_task *list; /* changed by the loop, under the lock */
    bool is_stopping;     /* likewise */
};

struct ld_jobs *ld_jobs_new(void)
{
    struct ld_jobs *jobs = ld_new(struct ld_jobs);

    (void)pthread_mutex_init(&jobs->lock, NULL);
    return jobs;
}

static void wake(struct ld_task *task)
{
    struct ld_job_waiter *waiter;

    while ((waiter = task->waiters)) {
        DL_DELETE(task->waiters, waiter);
        waiter->task = NULL;
        waiter->fn(waiter->arg);
    }
}

void ld_jobs_stop(struct ld_jobs *jobs)
{
    struct ld_task *task;

    ld_assert_loop();
    (void)pthread_mutex_lock(&jobs->lock);
    jobs->is_stopping = true;
    (void)pthread_mutex_unlock(&jobs->lock);
    DL_FOREACH (jobs->list, task)
        wake(task);
}

void ld_jobs_free(struct ld_jobs *jobs)
{
    if (!jobs)
        return;
    assert(!jobs->list);
    (void)pthread_mutex_destroy(&jobs->lock);
    free(jobs);
}

/* ---- for the operation ---- */

struct ld_task *ld_task_begin(struct ld_core *core, const char *kind, void (*cancel)(void *arg),
                              void *arg)
{
    struct ld_task *task = ld_new(struct ld_task);

    ld_assert_loop();
    task->core = core;
    task->kind = kind;
    task->cancel = cancel;
    task->arg = arg;
    ld_random_hex(task->id, 32);
    (void)pthread_mutex_lock(&core->jobs->lock);
    DL_APPEND(core->jobs->list, task);
    (void)pthread_mutex_unlock(&core->jobs->lock);
    return task;
}

const char *ld_task_id(const struct ld_task *task)
{
    return task->id;
}

int ld_task_record(struct ld_task *task, const struct ld_write *w, bool may_use_reserve,
                   struct ld_err *err)
{
    autofree char *kind = ld_strdup(task->kind);
    struct ld_job_record record = {.id = task->id, .kind = kind, .state = LD_JOB_RUNNING};

    if (ld_store_job_add(task->core->store, w, &record, err) == 0)
        return 0;
    return may_use_reserve && ld_core_make_room(task->core, err)
               ? ld_store_job_add(task->core->store, w, &record, err)
               : -1;
}

void ld_task_progress(struct ld_task *task, const char *phase, const char *id, uint64_t current,
                      uint64_t total)
{
    struct ld_job_view *view = &task->view;
    pthread_mutex_t *lock = &task->core->jobs->lock;

    (void)pthread_mutex_lock(lock);
    view->has_progress = true;
    view->is_whole = !id;
    (void)snprintf(view->phase, sizeof(view->phase), "%s", phase); /* a short constant */
    (void)snprintf(view->id, sizeof(view->id), "%s", id ? id : "");
    view->current = current;
    view->total = total;
    (void)pthread_mutex_unlock(lock);
}

static enum ld_job_state state_of(struct ld_task *task, const struct ld_err *why)
{
    struct ld_jobs *jobs = task->core->jobs;
    bool by_stop;

    if (!why)
        return LD_JOB_DONE;
    (void)pthread_mutex_lock(&jobs->lock);
    by_stop = jobs->is_stopping && !task->view.cancel_requested;
    (void)pthread_mutex_unlock(&jobs->lock);
    if (why->code != LD_E_CANCELED)
        return LD_JOB_FAILED;
    return by_stop ? LD_JOB_INTERRUPTED : LD_JOB_CANCELED;
}

static char *dup_or_null(const char *text)
{
    return text ? ld_strdup(text) : NULL;
}

void ld_task_finish(struct ld_task *task, const struct ld_write *w,
                    const struct ld_task_outcome *outcome)
{
    bool fits = outcome->result && strlen(outcome->result) <= LD_STORE_MAX_DOC;
    enum ld_job_state state = state_of(task, outcome->why);
    bool is_error = state == LD_JOB_FAILED || state == LD_JOB_CANCELED;
    struct ld_job_record record LD_AUTO(ld_job_record_done) = {
        .id = ld_strdup(task->id),
        .state = state,
        .result = fits ? ld_strdup(outcome->result) : NULL,
        .error = is_error ? dup_or_null(outcome->error) : NULL,
        .object_kind = dup_or_null(outcome->object_kind),
        .object_id = dup_or_null(outcome->object_id),
    };
    struct ld_err err = LD_ERR_INIT;

    if (ld_store_job_finish(task->core->store, w, &record, &err) < 0)
        ld_warn("the outcome of job '%s' (%s) is not in its record: %s", task->id,
                ld_job_state_name(state), err.message);
}

void ld_task_end(struct ld_task *task)
{
    struct ld_jobs *jobs = task->core->jobs;

    ld_assert_loop();
    (void)pthread_mutex_lock(&jobs->lock);
    DL_DELETE(jobs->list, task);
    (void)pthread_mutex_unlock(&jobs->lock);
    wake(task);
    free(task);
}

/* ---- for whoever asks ---- */

/* Under the lock, or on the loop. */
static struct ld_task *find(struct ld_jobs *jobs, const char *id)
{
    struct ld_task *task;

    DL_FOREACH (jobs->list, task) {
        if (strcmp(task->id, id) == 0)
            return task;
    }
    return NULL;
}

bool ld_job_look(struct ld_core *core, const char *id, struct ld_job_view *ret)
{
    const struct ld_task *task;

    (void)pthread_mutex_lock(&core->jobs->lock);
    task = find(core->jobs, id);
    if (task)
        *ret = task->view;
    (void)pthread_mutex_unlock(&core->jobs->lock);
    return task != NULL;
}

bool ld_job_cancel(struct ld_core *core, const char *id)
{
    struct ld_task *task = find(core->jobs, id);
    bool is_first;

    ld_assert_loop();
    if (!task)
        return false;
    (void)pthread_mutex_lock(&core->jobs->lock);
    is_first = !task->view.cancel_requested;
    task->view.cancel_requested = true;
    (void)pthread_mutex_unlock(&core->jobs->lock);
    if (is_first)
        task->cancel(task->arg);
    return true;
}

bool ld_job_wait(struct ld_core *core, const char *id, struct ld_job_waiter *waiter)
{
    struct ld_task *task = find(core->jobs, id);

    ld_assert_loop();
    if (!task || core->jobs->is_stopping)
        return false;
    waiter->task = task;
    DL_APPEND(task->waiters, waiter);
    return true;
}

void ld_job_unwait(struct ld_job_waiter *waiter)
{
    ld_assert_loop();
    DL_DELETE(waiter->task->waiters, waiter);
    waiter->task = NULL;
}
