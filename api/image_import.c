/* POST /v1/images/import: the body into a spool, the spool into images, in one operation and one
 * job. Only the first half is paced by the client, and ends when it vanishes. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cjson/cJSON.h>

#include "api/call.h"
#include "api/image_json.h"
#include "api/json.h"
#include "api/reply.h"
#include "api/router.h"
#include "api/routes.h"
#include "daemon/base/mem.h"
#include "daemon/core/core.h"
#include "daemon/core/import.h"
#include "daemon/core/jobs.h"
#include "daemon/core/spool.h"
#include "daemon/jobs/lane.h"
#include "daemon/jobs/ring.h"

struct import {
    struct ld_verb verb; /* first: it is freed by the verb */
    struct ld_core *core;
    struct ld_task *task;
    struct ld_ring *ring; /* the worker's side; left when the verb is freed */
    struct ld_write w;
    char request_id[40];
    char *format, *ref; /* or NULL */
    uint64_t length;    /* of the body; 0: not known */
    cJSON *result;
};

static void tell(void *arg, const char *phase, const char *id, uint64_t current, uint64_t total)
{
    struct import *imp = arg;

    ld_task_progress(imp->task, phase, id, current, total);
    ld_verb_progress(&imp->verb, phase, id, current, total);
}

static void tell_spooled(void *arg, uint64_t size)
{
    struct import *imp = arg;

    tell(imp, "spool", NULL, size, imp->length);
}

/* ---- the result ---- */

/* An image that was removed again meanwhile is left out. */
static int add_images(struct import *imp, const struct ld_import_result *result, cJSON *list,
                      struct ld_err *err)
{
    for (size_t i = 0; i < result->n_images; i++) {
        struct ld_image image LD_AUTO(ld_image_done) = {.id = NULL};
        struct ld_err why = LD_ERR_INIT;
        cJSON *json = NULL;

        if (ld_store_image_get(ld_core_store(imp->core), result->image_ids[i], &image, &why) == 0)
            json = ld_image_summary_json(imp->core, &image, &why);
        if (json) {
            cJSON_AddItemToArray(list, json);
        } else if (why.code != LD_E_NOT_FOUND) {
            *err = why;
            return -1;
        }
    }
    return 0;
}

static int render_result(struct import *imp, const struct ld_import_result *result,
                         struct ld_err *err)
{
    cJSON *json = imp->result = cJSON_CreateObject();
    cJSON *images = cJSON_AddArrayToObject(json, "images");
    cJSON *layers = cJSON_AddObjectToObject(json, "layers");
    cJSON *warnings = cJSON_AddArrayToObject(json, "warnings");

    cJSON_AddItemToObject(layers, "added", ld_json_u64(result->layers_added));
    cJSON_AddItemToObject(layers, "reused", ld_json_u64(result->layers_reused));
    cJSON_AddItemToObject(json, "bytes_added", ld_json_u64(result->bytes_added));
    for (size_t i = 0; i < result->n_warnings; i++)
        cJSON_AddItemToArray(warnings, ld_json_text(result->warnings[i]));
    return add_images(imp, result, images, err);
}

/* ---- the operation ---- */

static int spool_and_import(struct import *imp, struct ld_import_result *result, struct ld_err *err)
{
    struct ld_spool spool LD_AUTO(ld_spool_close) = LD_SPOOL_INIT;
    const bool *cancel = &imp->verb.op.cancel;
    struct ld_spool_options spooling = {
        .progress = tell_spooled, .progress_arg = imp, .cancel = cancel};
    struct ld_import_options options = {.format = imp->format,
                                        .ref = imp->ref,
                                        .progress = tell,
                                        .progress_arg = imp,
                                        .cancel = cancel};

    if (ld_spool_ring(imp->core, imp->ring, &spooling, &spool, err) < 0) {
        ld_ring_abort(imp->ring, err); /* no more of the body is wanted */
        return -1;
    }
    return ld_import_run(imp->core, &imp->w, &spool, &options, result, err);
}

static void finish_failed(struct import *imp, const struct ld_err *why)
{
    cJSON *json = ld_error_json(why, imp->request_id);
    autofree char *text = cJSON_PrintUnformatted(cJSON_GetObjectItemCaseSensitive(json, "error"));

    cJSON_Delete(json);
    ld_task_finish(imp->task, &imp->w, &(struct ld_task_outcome){.why = why, .error = text});
}

static void finish_done(struct import *imp, const struct ld_import_result *result)
{
    autofree char *text = cJSON_PrintUnformatted(imp->result);
    struct ld_task_outcome outcome = {.result = text};

    if (result->n_images == 1) {
        outcome.object_kind = "image";
        outcome.object_id = result->image_ids[0];
    }
    ld_task_finish(imp->task, &imp->w, &outcome);
}

static int run(struct ld_op *op, struct ld_err *err)
{
    struct import *imp = op->arg;
    struct ld_import_result result LD_AUTO(ld_import_result_done) = {.n_images = 0};

    if (ld_task_record(imp->task, &imp->w, err) < 0)
        return -1;
    if (spool_and_import(imp, &result, err) < 0 || render_result(imp, &result, err) < 0) {
        finish_failed(imp, err);
        return -1;
    }
    finish_done(imp, &result);
    return 0;
}

/* ---- the loop's side ---- */

static void cancel_import(void *arg)
{
    struct import *imp = arg;

    ld_ops_cancel(ld_core_ops(imp->core), &imp->verb.op);
}

static struct cJSON *render(struct ld_verb *verb, struct ld_request *req, int *status)
{
    struct import *imp = (struct import *)verb;

    (void)req;
    (void)status;
    return ld_steal(&imp->result);
}

static void free_import(struct ld_verb *verb)
{
    struct import *imp = (struct import *)verb;

    ld_ring_leave_worker(imp->ring);
    ld_task_end(imp->task);
    cJSON_Delete(imp->result);
    free(imp->format);
    free(imp->ref);
    free(imp);
}

static struct import *new_import(struct ld_request *req, struct ld_ring *ring)
{
    const char *format = ld_request_query(req, "format");
    const char *ref = ld_request_query(req, "ref");
    uint64_t length = ld_request_length(req);
    struct import *imp = ld_new(struct import);

    ld_op_init(&imp->verb.op, LD_LANE_STREAM, run, NULL, imp);
    imp->verb.render = render;
    imp->verb.free = free_import;
    imp->verb.tied = true;
    imp->core = ld_request_core(req);
    imp->ring = ring;
    imp->task = ld_task_begin(imp->core, "image.import", cancel_import, imp);
    imp->verb.job_id = ld_task_id(imp->task);
    (void)snprintf(imp->request_id, sizeof(imp->request_id), "%s",
                   ld_request_id(req)); /* 32 digits */
    imp->w = ld_request_write(req);
    imp->w.request_id = imp->request_id;
    imp->format = format ? ld_strdup(format) : NULL;
    imp->ref = ref ? ld_strdup(ref) : NULL;
    imp->length = length == UINT64_MAX ? 0 : length;
    return imp;
}

static void import(struct ld_request *req)
{
    struct ld_import_options options = {.format = ld_request_query(req, "format"),
                                        .ref = ld_request_query(req, "ref")};
    struct ld_err err = LD_ERR_INIT;
    struct ld_ring *ring;
    struct import *imp;

    if (ld_import_check(&options, &err) < 0)
        return ld_reply_error(req, &err);
    ring = ld_request_upload(req);
    if (!ring) /* answered already */
        return;
    imp = new_import(req, ring);
    ld_reply_header(req, "X-Layerd-Job", "%s", ld_task_id(imp->task));
    ld_reply_verb(req, &imp->verb);
}

void ld_routes_import(struct ld_router *router)
{
    static const struct ld_route routes[] = {
        {"POST", "/v1/images/import", import, LD_ROUTE_UPLOAD, "ref format"},
    };

    ld_router_add(router, routes, LD_ARRAY_LEN(routes));
}
