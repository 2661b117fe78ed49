/* /v1/containers/C/snapshots: take, list, inspect, delete, roll back; and /v1/containers/C/clone.
 */
#include <stdlib.h>
#include <string.h>

#include <cjson/cJSON.h>

#include "api/call.h"
#include "api/container_json.h"
#include "api/dry_run.h"
#include "api/json.h"
#include "api/router.h"
#include "api/routes.h"
#include "api/snapshot_list.h"
#include "daemon/base/fdio.h"
#include "daemon/base/mem.h"
#include "daemon/core/clone.h"
#include "daemon/core/container.h"
#include "daemon/core/core.h"
#include "daemon/core/rollback.h"
#include "daemon/core/snapshot.h"

struct snapshot_call {
    struct ld_call call;
    char container[65];
    char *owner, *name, *labels, *snapshot; /* as asked for, or NULL */
    struct ld_snapshot record;
    struct ld_container_state state;
    struct ld_removed removed;
    uint64_t if_match;
    bool live;
};

static void free_call(struct ld_call *call)
{
    struct snapshot_call *c = (struct snapshot_call *)call;

    free(c->owner);
    free(c->name);
    free(c->labels);
    free(c->snapshot);
    ld_snapshot_done(&c->record);
    ld_container_state_done(&c->state);
    ld_removed_done(&c->removed);
    free(c);
}

static struct snapshot_call *new_call(struct ld_request *req, enum ld_lane lane,
                                      int (*run)(struct ld_call *, struct ld_err *),
                                      void (*reply)(struct ld_call *))
{
    return ld_call_new(sizeof(struct snapshot_call), req, lane, run, reply, free_call);
}

static void reply_snapshot(struct ld_call *call, int status)
{
    struct snapshot_call *c = (struct snapshot_call *)call;

    ld_reply_object(call->req, status, c->record.version,
                    ld_snapshot_json("container", &c->record));
}

/* Name and labels of a body; `more` is another member it may have. */
static int read_body(struct snapshot_call *c, const char *members, struct ld_err *err)
{
    const cJSON *body = ld_request_json(c->call.req);
    const char *name = NULL;

    if (ld_members_only(body, "", members, err) < 0 ||
        ld_member_string(body, "", "name", &name, err) < 0)
        return -1;
    c->name = name ? ld_strdup(name) : NULL;
    if (!cJSON_GetObjectItemCaseSensitive(body, "labels"))
        return 0; /* a clone has those of its origin then */
    return ld_json_labels(body, &c->labels, err);
}

/* ---- take ---- */

static int run_take(struct ld_call *call, struct ld_err *err)
{
    struct snapshot_call *c = (struct snapshot_call *)call;
    struct ld_snapshot_spec spec = {.name = c->name, .labels = c->labels, .live = c->live};

    return ld_snapshot_create(call->core, &call->w, c->container, &spec, &call->op.cancel,
                              &c->record, err);
}

static void reply_taken(struct ld_call *call)
{
    struct snapshot_call *c = (struct snapshot_call *)call;

    ld_reply_header(call->req, "Location", "/v1/containers/%s/snapshots/%s", c->record.owner_id,
                    c->record.id);
    reply_snapshot(call, 201);
}

static int take_again(struct ld_call *call, const struct ld_once_object *made, struct ld_err *err)
{
    struct snapshot_call *c = (struct snapshot_call *)call;
    struct ld_container owner LD_AUTO(ld_container_done) = {.id = NULL};

    if (ld_store_container_find(ld_core_store(call->core), c->owner, &owner, err) < 0)
        return -1;
    return ld_store_snapshot_find(ld_core_store(call->core), owner.id, made->id, &c->record, err);
}

static void take(struct ld_request *req)
{
    struct snapshot_call *c = new_call(req, LD_LANE_QUICK, run_take, reply_taken);
    struct ld_err err = LD_ERR_INIT;

    c->live = ld_request_flag(req, "live");
    c->owner = ld_strdup(ld_request_param(req, "container"));
    if (ld_call_once(&c->call, take_again))
        return;
    if (read_body(c, "name labels", &err) < 0 ||
        ld_snapshot_admit_create(c->call.core, ld_request_param(req, "container"), &c->call.op,
                                 c->container, &err) < 0)
        return ld_call_refuse(&c->call, &err);
    ld_call_submit(&c->call);
}

/* ---- list, inspect ---- */

/* The container of the path; only looked up. */
static int find_owner(struct ld_request *req, char ret_id[65], struct ld_err *err)
{
    struct ld_container c LD_AUTO(ld_container_done) = {.id = NULL};

    if (ld_store_container_find(ld_core_store(ld_request_core(req)),
                                ld_request_param(req, "container"), &c, err) < 0)
        return -1;
    memcpy(ret_id, c.id, 65);
    return 0;
}

static void list(struct ld_request *req)
{
    struct ld_err err = LD_ERR_INIT;
    char owner[65];

    if (find_owner(req, owner, &err) < 0)
        return ld_reply_error(req, &err);
    ld_reply_snapshots(req, "container", owner);
}

static void inspect(struct ld_request *req)
{
    struct ld_err err = LD_ERR_INIT;
    char owner[65];

    if (find_owner(req, owner, &err) < 0)
        return ld_reply_error(req, &err);
    ld_reply_snapshot(req, "container", owner);
}

/* ---- delete, roll back ---- */

/* The snapshot of the path; the container's key. */
static int admit(struct snapshot_call *c, struct ld_err *err)
{
    struct ld_request *req = c->call.req;

    if (ld_container_admit(c->call.core, ld_request_param(req, "container"), true, &c->call.op,
                           c->container, err) < 0)
        return -1;
    return ld_store_snapshot_find(ld_core_store(c->call.core), c->container,
                                  ld_request_param(req, "snapshot"), &c->record, err);
}

static int run_delete(struct ld_call *call, struct ld_err *err)
{
    struct snapshot_call *c = (struct snapshot_call *)call;

    return ld_snapshot_remove(call->core, &call->w, c->container, c->record.id, c->if_match,
                              &c->removed, err);
}

static void reply_gone(struct ld_call *call)
{
    struct snapshot_call *c = (struct snapshot_call *)call;

    if (call->w.dry_run)
        ld_reply_json(call->req, 200, ld_dry_run_json(&c->removed));
    else
        ld_reply_empty(call->req, 204);
}

static void remove_snapshot(struct ld_request *req)
{
    struct snapshot_call *c = new_call(req, LD_LANE_QUICK, run_delete, reply_gone);
    struct ld_err err = LD_ERR_INIT;

    ld_call_dry_run(&c->call);
    if (ld_request_if_match(req, &c->if_match, &err) < 0 || admit(c, &err) < 0)
        return ld_call_refuse(&c->call, &err);
    ld_call_submit(&c->call);
}

static int run_rollback(struct ld_call *call, struct ld_err *err)
{
    struct snapshot_call *c = (struct snapshot_call *)call;

    return ld_container_rollback(call->core, &call->w, c->container, c->record.id, &call->op.cancel,
                                 &c->state, err);
}

static void reply_container(struct ld_call *call)
{
    struct snapshot_call *c = (struct snapshot_call *)call;

    ld_reply_object(call->req, 200, c->state.record.version,
                    ld_container_json(call->core, &c->state, NULL));
}

static void roll_back(struct ld_request *req)
{
    struct snapshot_call *c = new_call(req, LD_LANE_QUICK, run_rollback, reply_container);
    struct ld_container state LD_AUTO(ld_container_done) = {.id = NULL};
    struct ld_err err = LD_ERR_INIT;

    if (ld_members_only(ld_request_json(req), "", "", &err) < 0 || admit(c, &err) < 0 ||
        ld_store_container_get(ld_core_store(c->call.core), c->container, &state, &err) < 0)
        return ld_call_refuse(&c->call, &err);
    if (ld_core_driver_copies(c->call.core, state.driver))
        c->call.op.lane = LD_LANE_COPY;
    ld_call_submit(&c->call);
}

/* ---- clone ---- */

static struct ld_clone_spec clone_spec(const struct snapshot_call *c)
{
    return (struct ld_clone_spec){.name = c->name, .labels = c->labels, .snapshot = c->snapshot};
}

static int run_clone(struct ld_call *call, struct ld_err *err)
{
    struct snapshot_call *c = (struct snapshot_call *)call;
    struct ld_clone_spec spec = clone_spec(c);

    return ld_clone_create(call->core, &call->w, c->container, &spec, &call->op.cancel, &c->state,
                           err);
}

static void reply_cloned(struct ld_call *call)
{
    struct snapshot_call *c = (struct snapshot_call *)call;

    ld_reply_header(call->req, "Location", "/v1/containers/%s", c->state.record.id);
    ld_reply_object(call->req, 201, c->state.record.version,
                    ld_container_json(call->core, &c->state, NULL));
}

static int read_clone(struct snapshot_call *c, struct ld_err *err)
{
    const char *snapshot = NULL;

    if (read_body(c, "name labels snapshot", err) < 0 ||
        ld_member_string(ld_request_json(c->call.req), "", "snapshot", &snapshot, err) < 0)
        return -1;
    c->snapshot = snapshot ? ld_strdup(snapshot) : NULL;
    return 0;
}

static int clone_again(struct ld_call *call, const struct ld_once_object *made, struct ld_err *err)
{
    struct snapshot_call *c = (struct snapshot_call *)call;

    return ld_container_inspect(call->core, made->id, &c->state, err);
}

static void make_clone(struct ld_request *req)
{
    struct snapshot_call *c = new_call(req, LD_LANE_QUICK, run_clone, reply_cloned);
    struct ld_clone_spec spec;
    struct ld_err err = LD_ERR_INIT;

    if (ld_call_once(&c->call, clone_again))
        return;
    if (read_clone(c, &err) < 0)
        return ld_call_refuse(&c->call, &err);
    spec = clone_spec(c);
    if (ld_clone_admit(c->call.core, ld_request_param(req, "container"), &spec, &c->call.op,
                       c->container, &err) < 0)
        return ld_call_refuse(&c->call, &err);
    ld_call_submit(&c->call);
}

void ld_routes_snapshots(struct ld_router *router)
{
    static const struct ld_route routes[] = {
        {"GET", "/v1/containers/{container}/snapshots", list, LD_ROUTE_METADATA,
         "limit after filter*"},
        {"POST", "/v1/containers/{container}/snapshots", take, LD_ROUTE_JSON_OPTIONAL, "live?"},
        {"GET", "/v1/containers/{container}/snapshots/{snapshot}", inspect, LD_ROUTE_METADATA,
         NULL},
        {"DELETE", "/v1/containers/{container}/snapshots/{snapshot}", remove_snapshot, 0,
         "dry_run?"},
        {"POST", "/v1/containers/{container}/snapshots/{snapshot}/rollback", roll_back,
         LD_ROUTE_JSON_OPTIONAL, NULL},
        {"POST", "/v1/containers/{container}/clone", make_clone, LD_ROUTE_JSON_OPTIONAL, NULL},
    };

    ld_router_add(router, routes, LD_ARRAY_LEN(routes));
}
