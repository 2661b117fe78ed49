/* /v1/jobs: list, inspect, wait for, cancel.
 *
 * Who waits holds no worker: the record is read, then the loop waits for the job's end or the time,
 * then the record is read again. Loop thread, but for what is marked as a worker's. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cjson/cJSON.h>

#include "api/call.h"
#include "api/json.h"
#include "api/list.h"
#include "api/reply.h"
#include "api/router.h"
#include "api/routes.h"
#include "daemon/base/clock.h"
#include "daemon/base/mem.h"
#include "daemon/base/parse.h"
#include "daemon/core/core.h"
#include "daemon/core/jobs.h"
#include "daemon/jobs/loop.h"

enum {
    MAX_WAIT_MS = 600 * 1000,
    LOOK_MS = 1000, /* so often: is the client still there? */
};

/* ---- a job as JSON: workers ---- */

static cJSON *progress_json(const struct ld_job_view *view)
{
    cJSON *json = cJSON_CreateObject();

    cJSON_AddItemToObject(json, "id", ld_json_text(view->is_whole ? NULL : view->id));
    cJSON_AddStringToObject(json, "phase", view->phase);
    cJSON_AddItemToObject(json, "current", ld_json_u64(view->current));
    cJSON_AddItemToObject(json, "total",
                          view->total ? ld_json_u64(view->total) : cJSON_CreateNull());
    return json;
}

/* Its name is what the result called it: it may be gone by now. */
static cJSON *object_json(const struct ld_job_record *job)
{
    cJSON *result, *images, *refs, *json;
    const char *name;

    if (!job->object_kind || !job->object_id)
        return cJSON_CreateNull();
    result = job->result ? cJSON_Parse(job->result) : NULL;
    images = cJSON_GetObjectItemCaseSensitive(result, "images"); /* an import's; else it is one */
    refs =
        cJSON_GetObjectItemCaseSensitive(images ? cJSON_GetArrayItem(images, 0) : result, "refs");
    name = cJSON_GetStringValue(refs ? cJSON_GetArrayItem(refs, 0)
                                     : cJSON_GetObjectItemCaseSensitive(result, "name"));
    json = cJSON_CreateObject();
    cJSON_AddStringToObject(json, "kind", job->object_kind);
    cJSON_AddStringToObject(json, "id", job->object_id);
    cJSON_AddItemToObject(json, "name", ld_json_text(name));
    cJSON_Delete(result);
    return json;
}

/* The record of an interrupted job has no error: nobody was there to write one. */
static cJSON *error_json(const struct ld_job_record *job)
{
    struct ld_err err = LD_ERR_INIT;
    cJSON *whole, *error;

    if (job->error)
        return ld_json_raw(job->error, "null");
    if (job->state != LD_JOB_INTERRUPTED)
        return cJSON_CreateNull();
    (void)ld_err_set(&err, LD_E_UNAVAILABLE, "layerd ended before job '%s' did", job->id);
    (void)ld_err_hint(&err, "ask for the same again: what is there already is reused");
    whole = ld_error_json(&err, job->request_id ? job->request_id : "");
    error = cJSON_DetachItemFromObjectCaseSensitive(whole, "error");
    cJSON_Delete(whole);
    return error;
}

/* view: NULL when it does not run. */
static cJSON *job_json(const struct ld_job_record *job, const struct ld_job_view *view)
{
    cJSON *json = cJSON_CreateObject();
    bool cancel = view ? view->cancel_requested : job->state == LD_JOB_CANCELED;

    cJSON_AddStringToObject(json, "id", job->id);
    cJSON_AddStringToObject(json, "kind", job->kind);
    cJSON_AddStringToObject(json, "state", ld_job_state_name(job->state));
    cJSON_AddBoolToObject(json, "cancel_requested", cancel);
    cJSON_AddItemToObject(json, "object", object_json(job));
    cJSON_AddItemToObject(json, "uid", ld_json_u64(job->uid > 0 ? (uint64_t)job->uid : 0));
    cJSON_AddItemToObject(json, "request_id", ld_json_text(job->request_id));
    cJSON_AddItemToObject(json, "created_at", ld_json_time(job->created_ns));
    cJSON_AddItemToObject(json, "finished_at", ld_json_time(job->finished_ns));
    cJSON_AddItemToObject(json, "progress",
                          view && view->has_progress ? progress_json(view) : cJSON_CreateNull());
    cJSON_AddItemToObject(json, "result", ld_json_raw(job->result, "null"));
    cJSON_AddItemToObject(json, "error", error_json(job));
    return json;
}

/* The record says that it runs; what does the core say? A record that goes on to say so is of a job
 * whose outcome could not be written: shown as interrupted. Not found: forgotten meanwhile. */
static int settle(struct ld_core *core, struct ld_job_record *job, struct ld_job_view *view,
                  bool *ret_runs, struct ld_err *err)
{
    struct ld_job_record again LD_AUTO(ld_job_record_done) = {.id = NULL};

    *ret_runs = job->state == LD_JOB_RUNNING && ld_job_look(core, job->id, view);
    if (*ret_runs || job->state != LD_JOB_RUNNING)
        return 0;
    if (ld_store_job_get(ld_core_store(core), job->id, &again, err) < 0)
        return -1;
    ld_job_record_done(job);
    *job = ld_steal(&again);
    if (job->state == LD_JOB_RUNNING)
        job->state = LD_JOB_INTERRUPTED;
    return 0;
}

/* ---- list ---- */

static int read_state(const struct ld_filters *filters, int *ret, struct ld_err *err)
{
    const char *text = ld_filter_get(filters, "state");

    *ret = -1;
    for (int state = LD_JOB_RUNNING; text && state <= LD_JOB_INTERRUPTED; state++) {
        if (strcmp(text, ld_job_state_name((enum ld_job_state)state)) == 0)
            *ret = state;
    }
    if (!text || *ret >= 0)
        return 0;
    (void)ld_err_set(err, LD_E_INVALID, "the filter state='%s' is no state of jobs", text);
    return ld_err_hint(err, "states are: running, done, failed, canceled, interrupted");
}

static int list_page(struct ld_lister *lister, uint64_t after, size_t limit, struct ld_list *list,
                     uint64_t *ret_next, struct ld_err *err)
{
    struct ld_job_page page LD_AUTO(ld_job_page_done) = {.n = 0};
    struct ld_job_query query = {
        .after = after, .limit = limit, .kind = ld_filter_get(&lister->filters, "kind")};

    if (read_state(&lister->filters, &query.state, err) < 0 ||
        ld_store_job_list(ld_core_store(lister->core), &query, &page, err) < 0)
        return -1;
    *ret_next = page.next;
    for (size_t i = 0; i < page.n; i++) {
        struct ld_err why = LD_ERR_INIT;
        struct ld_job_view view;
        bool runs;

        if (settle(lister->core, &page.item[i], &view, &runs, &why) < 0) {
            if (why.code == LD_E_NOT_FOUND)
                continue;
            *err = why;
            return -1;
        }
        if (query.state >= 0 && page.item[i].state != (enum ld_job_state)query.state)
            continue; /* ended since the page was read */
        if (ld_list_item(list, job_json(&page.item[i], runs ? &view : NULL), err) < 0)
            return -1;
    }
    return 0;
}

static void list(struct ld_request *req)
{
    struct ld_lister *l = ld_new(struct ld_lister);

    l->page = list_page;
    ld_reply_list(req, l, "state kind");
}

/* ---- inspect and wait ---- */

/* Reading: op is under way. Waiting: for the waiter or the timer, whichever is first. */
struct look {
    struct ld_op op;
    struct ld_request *req;
    struct ld_core *core;
    char *text;     /* as asked for */
    char id[65];    /* of the job that was found */
    uint64_t until; /* monotonic ms; 0: don't wait (any more) */
    cJSON *json;
    bool runs;
    struct ld_job_waiter waiter;
    struct ld_timer *timer;
};

static int run_look(struct ld_op *op, struct ld_err *err)
{
    struct look *look = op->arg;
    struct ld_job_record job LD_AUTO(ld_job_record_done) = {.id = NULL};
    struct ld_job_view view = {.cancel_requested = false};

    if (ld_store_job_find(ld_core_store(look->core), look->id[0] ? look->id : look->text, &job,
                          err) < 0 ||
        settle(look->core, &job, &view, &look->runs, err) < 0)
        return -1;
    (void)snprintf(look->id, sizeof(look->id), "%s", job.id); /* 64 digits */
    look->json = job_json(&job, look->runs ? &view : NULL);
    return 0;
}

static void look_done(struct ld_op *op);

static void read_record(struct look *look)
{
    ld_op_init(&look->op, LD_LANE_QUICK, run_look, look_done, look);
    ld_request_submit(look->req, &look->op);
}

static void free_look(struct look *look)
{
    ld_timer_free(look->timer);
    cJSON_Delete(look->json);
    free(look->text);
    free(look);
}

static void read_last(struct look *look)
{
    look->until = 0;
    cJSON_Delete(ld_steal(&look->json));
    read_record(look);
}

static void on_end(void *arg)
{
    struct look *look = arg;

    ld_timer_stop(look->timer);
    read_last(look);
}

static void on_time(void *arg)
{
    struct look *look = arg;

    if (ld_request_is_alive(look->req) && ld_monotonic_ms() < look->until)
        return;
    ld_timer_stop(look->timer);
    ld_job_unwait(&look->waiter);
    read_last(look);
}

static bool begin_to_wait(struct look *look)
{
    uint64_t now = ld_monotonic_ms();
    uint64_t left = look->until > now ? look->until - now : 0;

    if (left == 0 || !look->runs || !ld_job_wait(look->core, look->id, &look->waiter))
        return false;
    /* A second or less to the end: one look, exactly then. */
    look->timer = ld_timer_new(ld_request_loop(look->req), on_time, look);
    ld_timer_start(look->timer, left % LOOK_MS + (left % LOOK_MS == 0) * LOOK_MS, LOOK_MS);
    return true;
}

/* When the job ended between the record's reading and here, it is read again. */
static void look_done(struct ld_op *op)
{
    struct look *look = op->arg;

    if (op->rc == 0 && look->until > 0 && look->runs) {
        if (!begin_to_wait(look))
            read_last(look);
        return;
    }
    if (op->rc < 0)
        ld_reply_error(look->req, &op->err);
    else
        ld_reply_json(look->req, 200, ld_steal(&look->json));
    free_look(look);
}

static int read_wait(const struct ld_request *req, uint64_t *ret_ms, struct ld_err *err)
{
    const char *text = ld_request_query(req, "wait");
    size_t digits = text ? strspn(text, "0123456789") : 0;
    const char *unit = text ? text + digits : "";

    *ret_ms = 0;
    if (!text)
        return 0;
    if ((strcmp(unit, "ms") == 0 || strcmp(unit, "s") == 0 || strcmp(unit, "m") == 0) &&
        ld_parse_seconds(text, ret_ms) == 0 && *ret_ms <= MAX_WAIT_MS)
        return 0;
    (void)ld_err_set(err, LD_E_INVALID, "wait='%s' is no duration of at most 10m", text);
    (void)ld_err_hint(err, "write it like 500ms, 30s or 5m");
    return ld_err_details(err, "{\"parameter\":\"wait\"}");
}

static void inspect(struct ld_request *req)
{
    struct ld_err err = LD_ERR_INIT;
    struct look *look;
    uint64_t wait_ms;

    if (read_wait(req, &wait_ms, &err) < 0)
        return ld_reply_error(req, &err);
    look = ld_new(struct look);
    look->req = req;
    look->core = ld_request_core(req);
    look->text = ld_strdup(ld_request_param(req, "job"));
    look->until = wait_ms ? ld_monotonic_ms() + wait_ms : 0;
    look->waiter = (struct ld_job_waiter){.fn = on_end, .arg = look};
    read_record(look);
}

/* ---- cancel ---- */

struct cancel_call {
    struct ld_call call;
    char *text;
    char id[65];
    cJSON *json;
};

static int run_find(struct ld_call *call, struct ld_err *err)
{
    struct cancel_call *c = (struct cancel_call *)call;
    struct ld_job_record job LD_AUTO(ld_job_record_done) = {.id = NULL};
    struct ld_job_view view;
    bool runs;

    if (ld_store_job_find(ld_core_store(call->core), c->text, &job, err) < 0 ||
        settle(call->core, &job, &view, &runs, err) < 0)
        return -1;
    if (!runs)
        return ld_err_set(err, LD_E_CONFLICT, "job '%s' has ended already (%s)", job.id,
                          ld_job_state_name(job.state));
    (void)snprintf(c->id, sizeof(c->id), "%s", job.id); /* 64 digits */
    view.cancel_requested = true;
    c->json = job_json(&job, &view);
    return 0;
}

static void cancel(struct ld_call *call)
{
    struct cancel_call *c = (struct cancel_call *)call;
    struct ld_err err = LD_ERR_INIT;

    if (ld_job_cancel(call->core, c->id)) {
        ld_reply_json(call->req, 200, ld_steal(&c->json));
        return;
    }
    (void)ld_err_set(&err, LD_E_CONFLICT, "job '%s' has ended already", c->id);
    ld_reply_error(call->req, &err);
}

static void free_cancel(struct ld_call *call)
{
    struct cancel_call *c = (struct cancel_call *)call;

    cJSON_Delete(c->json);
    free(c->text);
    free(c);
}

static void remove_job(struct ld_request *req)
{
    struct cancel_call *c =
        ld_call_new(sizeof(*c), req, LD_LANE_QUICK, run_find, cancel, free_cancel);

    c->text = ld_strdup(ld_request_param(req, "job"));
    ld_call_submit(&c->call);
}

void ld_routes_jobs(struct ld_router *router)
{
    static const struct ld_route routes[] = {
        {"GET", "/v1/jobs", list, LD_ROUTE_METADATA, "limit after filter*"},
        {"GET", "/v1/jobs/{job}", inspect, LD_ROUTE_METADATA, "wait"},
        {"DELETE", "/v1/jobs/{job}", remove_job, 0, NULL},
    };

    ld_router_add(router, routes, LD_ARRAY_LEN(routes));
}
