/* GET /v1/containers/C/holders: who keeps its file system busy. */
#include <stdlib.h>

#include <cjson/cJSON.h>

#include "api/call.h"
#include "api/container_json.h"
#include "api/json.h"
#include "api/router.h"
#include "api/routes.h"
#include "daemon/core/container.h"
#include "daemon/core/holders.h"

struct holders_call {
    struct ld_call call;
    char id[65];
    struct ld_container_state state;
    struct ld_holders holders;
};

static void free_call(struct ld_call *call)
{
    struct holders_call *c = (struct holders_call *)call;

    ld_container_state_done(&c->state);
    ld_holders_done(&c->holders);
    free(c);
}

static cJSON *holder_json(const struct ld_holder *h)
{
    cJSON *json = cJSON_CreateObject();
    cJSON *uses = cJSON_CreateArray();

    cJSON_AddItemToObject(json, "pid", ld_json_u64((uint64_t)h->pid));
    cJSON_AddStringToObject(json, "command", h->command);
    cJSON_AddItemToObject(json, "unit", ld_json_text(h->unit[0] ? h->unit : NULL));
    cJSON_AddItemToObject(json, "cgroup", ld_json_text(h->cgroup[0] ? h->cgroup : NULL));
    cJSON_AddItemToObject(json, "mount_namespace",
                          h->mount_ns ? ld_json_u64(h->mount_ns) : cJSON_CreateNull());
    for (unsigned use = LD_HOLD_CWD; use <= LD_HOLD_MOUNT; use <<= 1) {
        if (h->uses & use)
            cJSON_AddItemToArray(uses, cJSON_CreateString(ld_holder_use(use)));
    }
    cJSON_AddItemToObject(json, "uses", uses);
    if (h->path[0])
        ld_json_add_bytes(json, "path", h->path);
    return json;
}

static int run(struct ld_call *call, struct ld_err *err)
{
    struct holders_call *c = (struct holders_call *)call;

    /* With its probe: what holds a mount that was detached is known by it. */
    if (ld_container_inspect(call->core, c->id, &c->state, err) < 0)
        return -1;
    return ld_container_holders(call->core, c->id, &c->holders, err);
}

static void reply(struct ld_call *call)
{
    struct holders_call *c = (struct holders_call *)call;
    cJSON *json = cJSON_CreateObject();
    cJSON *items;

    cJSON_AddStringToObject(json, "state", ld_container_state_name(&c->state));
    items = cJSON_AddArrayToObject(json, "items");
    for (size_t i = 0; i < c->holders.n; i++)
        cJSON_AddItemToArray(items, holder_json(&c->holders.item[i]));
    cJSON_AddBoolToObject(json, "more", c->holders.more);
    ld_reply_json(call->req, 200, json);
}

static void holders(struct ld_request *req)
{
    struct holders_call *c = ld_call_new(sizeof(*c), req, LD_LANE_COPY, run, reply, free_call);
    struct ld_err err = LD_ERR_INIT;

    if (ld_container_admit(c->call.core, ld_request_param(req, "container"), false, &c->call.op,
                           c->id, &err) < 0)
        return ld_call_refuse(&c->call, &err);
    ld_call_submit(&c->call);
}

void ld_routes_holders(struct ld_router *router)
{
    static const struct ld_route routes[] = {
        {"GET", "/v1/containers/{container}/holders", holders, LD_ROUTE_METADATA, NULL},
    };

    ld_router_add(router, routes, LD_ARRAY_LEN(routes));
}
