/* Long verbs with progress: see reply.h. Loop thread, but for ld_verb_progress. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cjson/cJSON.h>

#include "api/http.h"
#include "api/reply.h"
#include "daemon/base/mem.h"
#include "daemon/jobs/lane.h"
#include "daemon/jobs/ring.h"

enum { PROGRESS_EVERY_MS = 100 };

static const char ndjson[] = "application/x-ndjson";

static char *json_line(struct cJSON *json)
{
    autofree char *text = cJSON_PrintUnformatted(json);

    cJSON_Delete(json);
    if (!text)
        abort(); /* no memory, as ld_alloc0 would */
    return ld_asprintf("%s\n", text);
}

/* {"name": value}; takes the value. */
static struct cJSON *wrap(const char *name, struct cJSON *value)
{
    struct cJSON *json = cJSON_CreateObject();

    cJSON_AddItemToObject(json, name, value ? value : cJSON_CreateNull());
    return json;
}

static void end_stream(struct ld_verb *verb)
{
    struct ld_op *op = &verb->op;
    struct ld_request *req = NULL;
    int status = 200;

    /* A failure before the first line has been sent can still be a proper status. */
    if (op->rc < 0)
        req = ld_stream_take_back(verb->stream);
    if (req)
        ld_reply_error(req, &op->err);
    else if (op->rc < 0)
        ld_stream_finish(verb->stream,
                         json_line(ld_error_json(&op->err, ld_stream_request_id(verb->stream))));
    else
        ld_stream_finish(verb->stream,
                         json_line(wrap("result", verb->render(verb, NULL, &status))));
}

static void end_plain(struct ld_verb *verb)
{
    int status = 200;
    struct cJSON *json;

    if (verb->op.rc < 0) {
        ld_reply_error(verb->req, &verb->op.err);
        return;
    }
    json = verb->render(verb, verb->req, &status);
    if (json)
        ld_reply_json(verb->req, status, json);
    else
        ld_reply_empty(verb->req, status);
}

/* ---- the end ---- */

static void answer(struct ld_verb *verb)
{
    if (verb->stream)
        end_stream(verb);
    else if (verb->req)
        end_plain(verb);
    pthread_mutex_destroy(&verb->lock);
    verb->free(verb);
}

static int run_abandon(struct ld_op *op, struct ld_err *err)
{
    struct ld_verb *verb = op->arg;

    (void)err;
    verb->abandon(verb, &verb->op.err);
    return 0;
}

static void abandoned(struct ld_op *op)
{
    answer(op->arg);
}

static void verb_done(struct ld_op *op)
{
    struct ld_verb *verb = (struct ld_verb *)op;

    verb->stage = LD_VERB_ENDS;
    if (op->rc == 0 || !verb->has_begun || verb->is_over || !verb->abandon) {
        answer(verb);
        return;
    }
    ld_op_init(&verb->aside, LD_LANE_QUICK, run_abandon, abandoned, verb);
    ld_ops_submit(verb->ops, &verb->aside);
}
static_assert(offsetof(struct ld_verb, op) == 0, "an operation that is a verb");

/* ---- the beginning ---- */

/* What is needed of the request has been taken: it can be let go. */
static void reply_accepted(struct ld_verb *verb)
{
    struct ld_request *req = ld_steal(&verb->req);
    struct cJSON *json = cJSON_CreateObject();

    cJSON_AddStringToObject(json, "job", verb->job_id);
    ld_reply_header(req, "Location", "/v1/jobs/%s", verb->job_id);
    ld_reply_header(req, "Preference-Applied", "respond-async");
    ld_reply_json(req, 202, json);
}

static void work(struct ld_verb *verb)
{
    bool tied = verb->tied && !verb->has_begun;

    verb->stage = LD_VERB_WORKS;
    if (verb->is_async)
        reply_accepted(verb);
    if (verb->stream)
        ld_stream_go_on(verb->stream, &verb->op);
    if (!verb->req)
        ld_ops_submit(verb->ops, &verb->op);
    else if (tied)
        ld_request_submit_tied(verb->req, &verb->op);
    else
        ld_request_submit(verb->req, &verb->op);
}

static int run_begin(struct ld_op *op, struct ld_err *err)
{
    struct ld_verb *verb = op->arg;

    return verb->begin(verb, err);
}

static void begun(struct ld_op *op)
{
    struct ld_verb *verb = op->arg;
    bool is_cancelled = ld_flag_is_set(&op->cancel); /* too late for begin to see it */

    if (op->rc < 0) {
        verb->stage = LD_VERB_ENDS;
        verb->op.rc = op->rc;
        verb->op.err = op->err;
        ld_op_done(&verb->op);
        answer(verb);
        return;
    }
    verb->has_begun = true;
    work(verb);
    if (is_cancelled)
        ld_ops_cancel(verb->ops, &verb->op);
}

static void begin(struct ld_verb *verb)
{
    ld_op_init(&verb->aside, verb->begin_lane, run_begin, begun, verb);
    if (verb->stream)
        ld_stream_go_on(verb->stream, &verb->aside);
    if (!verb->req)
        ld_ops_submit(verb->ops, &verb->aside);
    else if (verb->tied)
        ld_request_submit_tied(verb->req, &verb->aside);
    else
        ld_request_submit(verb->req, &verb->aside);
}

void ld_reply_verb(struct ld_request *req, struct ld_verb *verb)
{
    assert(verb->render && verb->free && verb->op.run);
    verb->op.done = verb_done;
    verb->req = NULL;
    verb->stream = NULL;
    verb->ops = req->server->options.ops;
    verb->stage = LD_VERB_BEGINS;
    verb->has_begun = verb->is_over = false;
    verb->last_ms = 0;
    verb->last_phase[0] = '\0';
    pthread_mutex_init(&verb->lock, NULL);

    verb->is_async = verb->job_id && ld_request_prefers_async(req);
    if (!verb->is_async && ld_request_accepts(req, ndjson))
        verb->stream = ld_stream_attach(req, ndjson, verb->tied);
    else
        verb->req = req;
    if (verb->begin)
        begin(verb);
    else
        work(verb);
}

void ld_verb_cancel(struct ld_verb *verb)
{
    if (verb->stage == LD_VERB_BEGINS)
        ld_ops_cancel(verb->ops, &verb->aside);
    else if (verb->stage == LD_VERB_WORKS)
        ld_ops_cancel(verb->ops, &verb->op);
}

/* ---- progress ---- */

static uint64_t now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

/* A change of phase and its end are always told, the rest ten times a second. */
static bool is_due_locked(struct ld_verb *verb, const char *phase, uint64_t current, uint64_t total)
{
    uint64_t now = now_ms();
    bool is_new = strncmp(verb->last_phase, phase, sizeof(verb->last_phase) - 1) != 0;

    if (!is_new && !(total > 0 && current == total) && now - verb->last_ms < PROGRESS_EVERY_MS)
        return false;
    verb->last_ms = now;
    verb->last_phase[0] = '\0';
    (void)strncat(verb->last_phase, phase, sizeof(verb->last_phase) - 1);
    return true;
}

void ld_verb_progress(struct ld_verb *verb, const char *phase, const char *id, uint64_t current,
                      uint64_t total)
{
    struct cJSON *body;
    autofree char *line = NULL;

    if (!verb->stream)
        return;
    pthread_mutex_lock(&verb->lock);
    if (is_due_locked(verb, phase, current, total)) {
        body = cJSON_CreateObject();
        cJSON_AddItemToObject(body, "id", id ? cJSON_CreateString(id) : cJSON_CreateNull());
        cJSON_AddStringToObject(body, "phase", phase);
        cJSON_AddNumberToObject(body, "current", (double)current);
        cJSON_AddItemToObject(body, "total",
                              total ? cJSON_CreateNumber((double)total) : cJSON_CreateNull());
        line = json_line(wrap("progress", body));
        /* Without room the client is slow, or sends its body still: the next line will do. */
        (void)ld_ring_offer(ld_stream_ring(verb->stream), line, strlen(line));
    }
    pthread_mutex_unlock(&verb->lock);
}
