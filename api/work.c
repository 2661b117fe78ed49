/* Long work with a job: see work.h. */
#include "api/work.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cjson/cJSON.h>

#include "api/call.h"
#include "api/request.h"
#include "daemon/base/mem.h"
#include "daemon/core/core.h"
#include "daemon/core/jobs.h"
#include "daemon/jobs/ring.h"

/* ---- the outcome: workers ---- */

static void drop(struct ld_work *work)
{
    if (work->kind->drop)
        work->kind->drop(work);
}

/* The job has the error as the answer has it. */
static void finish_failed(struct ld_work *work, const struct ld_err *why)
{
    cJSON *json = ld_error_json(why, work->request_id);
    autofree char *text = cJSON_PrintUnformatted(cJSON_GetObjectItemCaseSensitive(json, "error"));

    cJSON_Delete(json);
    ld_task_finish(work->task, &work->w, &(struct ld_task_outcome){.why = why, .error = text});
}

static void finish_done(struct ld_work *work)
{
    autofree char *text = cJSON_PrintUnformatted(work->result);

    ld_task_finish(work->task, &work->w,
                   &(struct ld_task_outcome){.result = text,
                                             .object_kind = work->object_kind,
                                             .object_id = work->object_id});
}

/* ---- the stages: workers ---- */

static int record_and_take(struct ld_work *work, struct ld_err *err)
{
    if (ld_task_record(work->task, &work->w, work->kind->frees_space, err) < 0)
        return -1;
    work->is_recorded = true;
    return work->ring ? work->kind->take(work, err) : 0;
}

static int begin(struct ld_verb *verb, struct ld_err *err)
{
    struct ld_work *work = (struct ld_work *)verb;
    int rc = record_and_take(work, err);

    if (work->ring && rc < 0)
        ld_ring_abort(work->ring, err); /* no more of the body is wanted */
    if (work->ring)
        ld_ring_leave_worker(ld_steal(&work->ring));
    if (rc == 0)
        return 0;
    if (work->is_recorded)
        finish_failed(work, err);
    drop(work);
    return -1;
}

static int do_once(struct ld_work *work, struct ld_err *err)
{
    struct ld_once_object made LD_AUTO(ld_once_object_done) = {.kind = NULL};
    int rc = ld_once_find(work->core, &work->once, &made, err);

    if (rc < 0)
        return -1;
    if (rc > 0)
        return work->kind->again(work, &made, err) < 0 ? ld_once_gone(&work->once, &made, err) : 0;
    if (ld_once_is_given(&work->once))
        work->w.once = &work->once.once;
    return work->kind->run(work, err);
}

static int run(struct ld_op *op, struct ld_err *err)
{
    struct ld_work *work = op->arg;
    int rc;

    work->cancel = &op->cancel;
    rc = do_once(work, err);
    if (rc < 0)
        finish_failed(work, err);
    else
        finish_done(work);
    drop(work);
    work->verb.is_over = true;
    return rc;
}

static void abandon(struct ld_verb *verb, const struct ld_err *why)
{
    struct ld_work *work = (struct ld_work *)verb;

    finish_failed(work, why);
    drop(work);
}

/* ---- the loop's side ---- */

static struct cJSON *render(struct ld_verb *verb, struct ld_request *req, int *status)
{
    struct ld_work *work = (struct ld_work *)verb;

    *status = work->status;
    if (req && work->location)
        ld_reply_header(req, "Location", "%s", work->location);
    return ld_steal(&work->result);
}

static void free_work(struct ld_verb *verb)
{
    struct ld_work *work = (struct ld_work *)verb;

    if (work->ring)
        ld_ring_leave_worker(work->ring); /* take never ran */
    ld_task_end(work->task);
    if (work->kind->free)
        work->kind->free(work);
    cJSON_Delete(work->result);
    free(work->object_id);
    free(work->location);
    free(work);
}
static_assert(offsetof(struct ld_work, verb) == 0, "a verb that is work");

static void cancel(void *arg)
{
    ld_verb_cancel(arg);
}

void *ld_work_new(const struct ld_work_kind *kind, struct ld_request *req)
{
    struct ld_work *work = ld_alloc0(kind->size);

    work->kind = kind;
    work->status = 200;
    ld_op_init(&work->verb.op, kind->lane, run, NULL, work);
    work->verb.begin = begin;
    work->verb.begin_lane = LD_LANE_QUICK;
    work->verb.abandon = abandon;
    work->verb.render = render;
    work->verb.free = free_work;
    work->cancel = &work->verb.aside.cancel;
    work->core = ld_request_core(req);
    work->task = ld_task_begin(work->core, kind->name, cancel, &work->verb);
    work->verb.job_id = ld_task_id(work->task);
    (void)snprintf(work->request_id, sizeof(work->request_id), "%s",
                   ld_request_id(req)); /* 32 digits */
    work->w = ld_request_write(req);
    work->w.request_id = work->request_id;
    return work;
}

bool ld_work_upload(struct ld_work *work, struct ld_request *req)
{
    assert(work->kind->take);
    work->ring = ld_request_upload(req);
    work->verb.begin_lane = LD_LANE_STREAM;
    work->verb.tied = true;
    if (work->ring)
        return true;
    ld_op_done(&work->verb.op);
    free_work(&work->verb);
    return false;
}

void ld_work_start(struct ld_work *work, struct ld_request *req)
{
    struct ld_err err = LD_ERR_INIT;

    if (work->kind->again && ld_once_read(req, &work->once, &err) < 0)
        return ld_work_refuse(work, req, &err);
    ld_once_lock(&work->once, &work->verb.op);
    ld_reply_header(req, "X-Layerd-Job", "%s", work->verb.job_id);
    ld_reply_verb(req, &work->verb);
}

void ld_work_refuse(struct ld_work *work, struct ld_request *req, const struct ld_err *err)
{
    ld_reply_error(req, err);
    ld_op_done(&work->verb.op);
    free_work(&work->verb);
}

void ld_work_tell(struct ld_work *work, const char *phase, const char *id, uint64_t current,
                  uint64_t total)
{
    ld_task_progress(work->task, phase, id, current, total);
    ld_verb_progress(&work->verb, phase, id, current, total);
}
