/* POST /v1/check: the records held against the disk and the kernel. */
#include <stdlib.h>

#include <cjson/cJSON.h>

#include "api/call.h"
#include "api/json.h"
#include "api/router.h"
#include "api/routes.h"
#include "daemon/base/mem.h"
#include "daemon/core/check.h"
#include "daemon/jobs/lane.h"

struct check_call {
    struct ld_call call;
    struct ld_check check;
};

static void free_call(struct ld_call *call)
{
    struct check_call *c = (struct check_call *)call;

    ld_check_done(&c->check);
    free(c);
}

static int run(struct ld_call *call, struct ld_err *err)
{
    struct check_call *c = (struct check_call *)call;

    return ld_check_run(call->core, &call->op.cancel, &c->check, err);
}

static cJSON *finding_json(const struct ld_finding *f)
{
    cJSON *json = cJSON_CreateObject();

    cJSON_AddStringToObject(json, "kind", f->kind);
    cJSON_AddItemToObject(json, "id", ld_json_text(f->id));
    cJSON_AddItemToObject(json, "name", ld_json_text(f->name));
    cJSON_AddStringToObject(json, "problem", f->problem);
    cJSON_AddItemToObject(json, "hint", ld_json_text(f->hint));
    return json;
}

static void reply(struct ld_call *call)
{
    const struct ld_check *check = &((struct check_call *)call)->check;
    cJSON *json = cJSON_CreateObject(), *part;

    cJSON_AddBoolToObject(json, "ok", check->n_findings == 0);
    part = cJSON_AddObjectToObject(json, "checked");
    cJSON_AddItemToObject(part, "layers", ld_json_u64(check->layers));
    cJSON_AddItemToObject(part, "containers", ld_json_u64(check->containers));
    cJSON_AddItemToObject(part, "volumes", ld_json_u64(check->volumes));
    cJSON_AddItemToObject(part, "mounts", ld_json_u64(check->mounts));
    part = cJSON_AddArrayToObject(json, "findings");
    for (size_t i = 0; i < check->n_findings; i++)
        cJSON_AddItemToArray(part, finding_json(&check->finding[i]));
    cJSON_AddBoolToObject(json, "truncated", check->is_cut);
    ld_reply_json(call->req, 200, json);
}

/* What is asked for and not there yet is refused, never left out in silence. */
static int read_body(const cJSON *body, struct ld_err *err)
{
    bool repair = false, deep = false;

    if (!body)
        return 0;
    if (ld_members_only(body, "", "repair deep", err) < 0 ||
        ld_member_bool(body, "", "repair", &repair, err) < 0 ||
        ld_member_bool(body, "", "deep", &deep, err) < 0)
        return -1;
    if (deep)
        return ld_err_set(err, LD_E_UNSUPPORTED,
                          "this version can't read every layer: no deep check");
    if (!repair)
        return 0;
    (void)ld_err_set(err, LD_E_UNSUPPORTED, "this version repairs nothing by a check");
    return ld_err_hint(err, "a restart of the daemon puts in order what a start can");
}

static void check(struct ld_request *req)
{
    struct check_call *c = ld_call_new(sizeof(*c), req, LD_LANE_COPY, run, reply, free_call);
    struct ld_err err = LD_ERR_INIT;

    if (read_body(ld_request_json(req), &err) < 0)
        ld_call_refuse(&c->call, &err);
    else
        ld_request_submit_tied(req, &c->call.op);
}

void ld_routes_check(struct ld_router *router)
{
    static const struct ld_route routes[] = {
        {"POST", "/v1/check", check, LD_ROUTE_JSON_OPTIONAL, NULL},
    };

    ld_router_add(router, routes, LD_ARRAY_LEN(routes));
}
