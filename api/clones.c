/* /v1/containers/C/clone. */
#include <stdlib.h>

#include <cjson/cJSON.h>

#include "api/call.h"
#include "api/container_json.h"
#include "api/json.h"
#include "api/router.h"
#include "api/routes.h"
#include "daemon/base/fdio.h"
#include "daemon/base/mem.h"
#include "daemon/core/clone.h"
#include "daemon/core/container.h"

struct clone_call {
    struct ld_call call;
    char origin[65];
    char *name, *labels, *snapshot; /* as asked for, or NULL */
    struct ld_limits limits;
    bool has_size_limit, has_inode_limit;
    struct ld_container_state state;
};

static void free_call(struct ld_call *call)
{
    struct clone_call *c = (struct clone_call *)call;

    free(c->name);
    free(c->labels);
    free(c->snapshot);
    ld_container_state_done(&c->state);
    free(c);
}

static struct ld_clone_spec spec_of(const struct clone_call *c)
{
    return (struct ld_clone_spec){.name = c->name,
                                  .labels = c->labels,
                                  .snapshot = c->snapshot,
                                  .limits = c->limits,
                                  .has_size_limit = c->has_size_limit,
                                  .has_inode_limit = c->has_inode_limit};
}

static int run_clone(struct ld_call *call, struct ld_err *err)
{
    struct clone_call *c = (struct clone_call *)call;
    struct ld_clone_spec spec = spec_of(c);

    return ld_clone_create(call->core, &call->w, c->origin, &spec, &call->op.cancel, &c->state,
                           err);
}

static void reply_cloned(struct ld_call *call)
{
    struct clone_call *c = (struct clone_call *)call;

    ld_reply_header(call->req, "Location", "/v1/containers/%s", c->state.record.id);
    ld_reply_object(call->req, 201, c->state.record.version,
                    ld_container_json(call->core, &c->state, NULL));
}

static int read_body(struct clone_call *c, struct ld_err *err)
{
    const cJSON *body = ld_request_json(c->call.req);
    const char *name = NULL, *snapshot = NULL;

    if (ld_members_only(body, "", "name labels snapshot size_limit inode_limit", err) < 0 ||
        ld_member_string(body, "", "name", &name, err) < 0 ||
        ld_member_string(body, "", "snapshot", &snapshot, err) < 0 ||
        ld_json_size_limit(body, &c->limits.bytes, err) < 0 ||
        ld_json_inode_limit(body, &c->limits.inodes, err) < 0)
        return -1;
    c->has_size_limit = cJSON_HasObjectItem(body, "size_limit");
    c->has_inode_limit = cJSON_HasObjectItem(body, "inode_limit");
    c->name = name ? ld_strdup(name) : NULL;
    c->snapshot = snapshot ? ld_strdup(snapshot) : NULL;
    if (!cJSON_GetObjectItemCaseSensitive(body, "labels"))
        return 0; /* it has those of its origin */
    return ld_json_labels(body, &c->labels, err);
}

static int clone_again(struct ld_call *call, const struct ld_once_object *made, struct ld_err *err)
{
    struct clone_call *c = (struct clone_call *)call;

    return ld_container_inspect(call->core, made->id, &c->state, err);
}

static void make_clone(struct ld_request *req)
{
    struct clone_call *c = ld_call_new(sizeof(struct clone_call), req, LD_LANE_QUICK, run_clone,
                                       reply_cloned, free_call);
    struct ld_clone_spec spec;
    struct ld_err err = LD_ERR_INIT;

    if (ld_call_once(&c->call, clone_again))
        return;
    if (read_body(c, &err) < 0)
        return ld_call_refuse(&c->call, &err);
    spec = spec_of(c);
    if (ld_clone_admit(c->call.core, ld_request_param(req, "container"), &spec, &c->call.op,
                       c->origin, &err) < 0)
        return ld_call_refuse(&c->call, &err);
    ld_call_submit(&c->call);
}

void ld_routes_clones(struct ld_router *router)
{
    static const struct ld_route routes[] = {
        {"POST", "/v1/containers/{container}/clone", make_clone, LD_ROUTE_JSON_OPTIONAL, NULL},
    };

    ld_router_add(router, routes, LD_ARRAY_LEN(routes));
}
