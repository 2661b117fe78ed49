/* What a volume holds as a whole: export, import. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <cjson/cJSON.h>

#include "api/call.h"
#include "api/json.h"
#include "api/router.h"
#include "api/routes.h"
#include "api/spooled.h"
#include "api/stream_sink.h"
#include "daemon/base/mem.h"
#include "daemon/core/core.h"
#include "daemon/core/files.h"
#include "daemon/core/volume.h"
#include "daemon/core/volume_import.h"

/* ---- export ---- */

/* First a short operation with the volume's key, which opens the view; then a producer without. */
struct export_call {
    struct ld_call call;
    char id[65];
    struct ld_volume_view *view;
};

static void free_view(void *arg)
{
    ld_volume_view_close(arg);
    free(arg);
}

static void free_export(struct ld_call *call)
{
    struct export_call *e = (struct export_call *)call;

    if (e->view)
        free_view(e->view);
    free(e);
}

static int run_export(struct ld_call *call, struct ld_err *err)
{
    struct export_call *e = (struct export_call *)call;

    return ld_volume_view(call->core, e->id, e->view, err);
}

static int produce(struct ld_stream *stream, void *arg, struct ld_err *err)
{
    struct ld_stream_sink sink = ld_stream_sink(stream);
    struct ld_volume_view *view = arg;
    struct ld_files_root root = {.fd = view->fd, .what = "volume"};

    return ld_files_read_tar(&root, "/", &sink.sink, ld_stream_cancel(stream), err);
}

static void reply_export(struct ld_call *call)
{
    struct export_call *e = (struct export_call *)call;
    struct ld_producer producer = {
        .run = produce, .free = free_view, .status = 200, .content_type = "application/x-tar"};

    producer.arg = ld_steal(&e->view);
    ld_reply_stream(call->req, &producer);
}

static void export(struct ld_request *req)
{
    struct export_call *e =
        ld_call_new(sizeof(*e), req, LD_LANE_QUICK, run_export, reply_export, free_export);
    struct ld_err err = LD_ERR_INIT;

    e->view = ld_new(struct ld_volume_view);
    e->view->fd = -EBADF;
    if (ld_volume_admit(e->call.core, ld_request_param(req, "volume"), false, &e->call.op, e->id,
                        &err) < 0)
        ld_call_refuse(&e->call, &err);
    else
        ld_call_submit(&e->call);
}

/* ---- import ---- */

struct import {
    struct ld_spooled spooled;
    char id[65];
};

/* counts: what ld_volume_import_json gave. */
static int set_result(struct ld_work *work, const char *counts, struct ld_err *err)
{
    struct ld_volume volume LD_AUTO(ld_volume_done) = {.sid = 0};
    const char *id = ((struct import *)work)->id;

    if (ld_store_volume_get(ld_core_store(work->core), id, &volume, err) < 0)
        return -1;
    work->result = counts ? cJSON_Parse(counts) : NULL;
    if (!work->result)
        return ld_err_set(err, LD_E_INTERNAL, "the import's counts are not there");
    cJSON_AddStringToObject(work->result, "id", id);
    cJSON_AddItemToObject(work->result, "name", ld_json_text(volume.name));
    work->object_kind = "volume";
    work->object_id = ld_strdup(id);
    return 0;
}

static int run(struct ld_work *work, struct ld_err *err)
{
    struct import *imp = (struct import *)work;
    struct ld_volume_import result;
    autofree char *counts = NULL;

    if (ld_volume_import(work->core, &work->w, imp->id, &imp->spooled.spool, work->cancel, &result,
                         err) < 0)
        return -1;
    counts = ld_volume_import_json(&result);
    return set_result(work, counts, err);
}

static int again(struct ld_work *work, const struct ld_once_object *made, struct ld_err *err)
{
    return set_result(work, made->answer, err);
}

static const struct ld_work_kind kind = {.name = "volume.import",
                                         .size = sizeof(struct import),
                                         .lane = LD_LANE_COPY,
                                         .take = ld_spooled_take,
                                         .run = run,
                                         .again = again,
                                         .drop = ld_spooled_drop,
                                         .free = ld_spooled_free};

static void import(struct ld_request *req)
{
    struct import *imp = ld_spooled_new(&kind, req);
    struct ld_err err = LD_ERR_INIT;

    if (ld_volume_admit(imp->spooled.work.core, ld_request_param(req, "volume"), true,
                        &imp->spooled.work.verb.op, imp->id, &err) < 0)
        return ld_work_refuse(&imp->spooled.work, req, &err);
    if (ld_work_upload(&imp->spooled.work, req))
        ld_work_start(&imp->spooled.work, req);
}

void ld_routes_volume_content(struct ld_router *router)
{
    static const struct ld_route routes[] = {
        {"GET", "/v1/volumes/{volume}/export", export, 0, NULL},
        {"POST", "/v1/volumes/{volume}/import", import, LD_ROUTE_UPLOAD, NULL},
    };

    ld_router_add(router, routes, LD_ARRAY_LEN(routes));
}
