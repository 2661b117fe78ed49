/* POST /v1/images/import: the body into a spool, the spool into images. */
#include <stdlib.h>
#include <string.h>

#include <cjson/cJSON.h>

#include "api/call.h"
#include "api/image_json.h"
#include "api/json.h"
#include "api/reply.h"
#include "api/router.h"
#include "api/routes.h"
#include "api/spooled.h"
#include "daemon/base/mem.h"
#include "daemon/core/core.h"
#include "daemon/core/import.h"

struct import {
    struct ld_spooled spooled;
    char *format, *ref, *blobs; /* or NULL */
};

static void tell(void *arg, const char *phase, const char *id, uint64_t current, uint64_t total)
{
    struct import *imp = arg;

    ld_work_tell(&imp->spooled.work, phase, id, current, total);
}

/* ---- the result ---- */

/* An image that was removed again meanwhile is left out. */
static int add_images(struct ld_core *core, const struct ld_import_result *result, cJSON *list,
                      struct ld_err *err)
{
    for (size_t i = 0; i < result->n_images; i++) {
        struct ld_image image LD_AUTO(ld_image_done) = {.id = NULL};
        struct ld_err why = LD_ERR_INIT;
        cJSON *json = NULL;

        if (ld_store_image_get(ld_core_store(core), result->image_ids[i], &image, &why) == 0)
            json = ld_image_summary_json(core, &image, &why);
        if (json) {
            cJSON_AddItemToArray(list, json);
        } else if (why.code != LD_E_NOT_FOUND) {
            *err = why;
            return -1;
        }
    }
    return 0;
}

/* All of the result but the images. */
static cJSON *counts_json(const struct ld_import_result *result)
{
    cJSON *json = cJSON_CreateObject();
    cJSON *layers = cJSON_AddObjectToObject(json, "layers");
    cJSON *warnings = cJSON_AddArrayToObject(json, "warnings");

    cJSON_AddItemToObject(layers, "added", ld_json_u64(result->layers_added));
    cJSON_AddItemToObject(layers, "reused", ld_json_u64(result->layers_reused));
    cJSON_AddItemToObject(json, "bytes_added", ld_json_u64(result->bytes_added));
    for (size_t i = 0; i < result->n_warnings; i++)
        cJSON_AddItemToArray(warnings, ld_json_text(result->warnings[i]));
    return json;
}

/* `json` (taken) is what counts_json gave. */
static int set_result(struct ld_work *work, const struct ld_import_result *result, cJSON *json,
                      struct ld_err *err)
{
    work->result = json;
    if (result->n_images == 1) {
        work->object_kind = "image";
        work->object_id = ld_strdup(result->image_ids[0]);
    }
    return add_images(work->core, result, cJSON_AddArrayToObject(json, "images"), err);
}

/* ---- the same request again ---- */

/* Recorded with the images: what cannot be found out later. */
static char *make_answer(void *arg, const struct ld_import_result *result)
{
    cJSON *json = counts_json(result);
    cJSON *ids = cJSON_AddArrayToObject(json, "ids");
    char *text;

    (void)arg;
    for (size_t i = 0; i < result->n_images; i++)
        cJSON_AddItemToArray(ids, cJSON_CreateString(result->image_ids[i]));
    text = cJSON_PrintUnformatted(json);
    cJSON_Delete(json);
    return text;
}

static int again(struct ld_work *work, const struct ld_once_object *made, struct ld_err *err)
{
    struct ld_import_result result LD_AUTO(ld_import_result_done) = {.n_images = 0};
    cJSON *json = made->answer ? cJSON_Parse(made->answer) : NULL;
    cJSON *ids = cJSON_DetachItemFromObjectCaseSensitive(json, "ids");
    const cJSON *id;
    int rc;

    result.image_ids = ld_alloc0((size_t)cJSON_GetArraySize(ids) * sizeof(*result.image_ids));
    cJSON_ArrayForEach (id, ids)
        result.image_ids[result.n_images++] = ld_strdup(id->valuestring);
    cJSON_Delete(ids);
    rc = set_result(work, &result, json, err);
    if (rc == 0 && cJSON_GetArraySize(cJSON_GetObjectItem(work->result, "images")) == 0)
        return ld_err_set(err, LD_E_NOT_FOUND, "the images are gone");
    return rc;
}

/* ---- the work ---- */

static int run(struct ld_work *work, struct ld_err *err)
{
    struct import *imp = (struct import *)work;
    struct ld_import_result result LD_AUTO(ld_import_result_done) = {.n_images = 0};
    struct ld_import_options options = {.format = imp->format,
                                        .ref = imp->ref,
                                        .blobs = imp->blobs,
                                        .progress = tell,
                                        .progress_arg = imp,
                                        .cancel = work->cancel,
                                        .answer = make_answer};

    if (ld_import_run(work->core, &work->w, &imp->spooled.spool, &options, &result, err) < 0)
        return -1;
    return set_result(work, &result, counts_json(&result), err);
}

static void free_import(struct ld_work *work)
{
    struct import *imp = (struct import *)work;

    ld_spooled_free(work);
    free(imp->format);
    free(imp->ref);
    free(imp->blobs);
}

static const struct ld_work_kind kind = {.name = "image.import",
                                         .size = sizeof(struct import),
                                         .lane = LD_LANE_STREAM,
                                         .take = ld_spooled_take,
                                         .run = run,
                                         .again = again,
                                         .drop = ld_spooled_drop,
                                         .free = free_import};

static void import(struct ld_request *req)
{
    struct ld_import_options options = {.format = ld_request_query(req, "format"),
                                        .ref = ld_request_query(req, "ref"),
                                        .blobs = ld_request_query(req, "blobs")};
    struct ld_err err = LD_ERR_INIT;
    struct import *imp;

    if (ld_import_check(&options, &err) < 0)
        return ld_reply_error(req, &err);
    imp = ld_spooled_new(&kind, req);
    imp->format = options.format ? ld_strdup(options.format) : NULL;
    imp->ref = options.ref ? ld_strdup(options.ref) : NULL;
    imp->blobs = options.blobs ? ld_strdup(options.blobs) : NULL;
    if (ld_work_upload(&imp->spooled.work, req))
        ld_work_start(&imp->spooled.work, req);
}

void ld_routes_import(struct ld_router *router)
{
    static const struct ld_route routes[] = {
        {"POST", "/v1/images/import", import, LD_ROUTE_UPLOAD, "ref format blobs"},
    };

    ld_router_add(router, routes, LD_ARRAY_LEN(routes));
}
