/* /v1/volumes/V/snapshots: take, list, inspect, delete, roll back. */
#include <stdlib.h>
#include <string.h>

#include <cjson/cJSON.h>

#include "api/call.h"
#include "api/dry_run.h"
#include "api/json.h"
#include "api/router.h"
#include "api/routes.h"
#include "api/snapshot_list.h"
#include "api/volume_json.h"
#include "daemon/base/mem.h"
#include "daemon/core/core.h"
#include "daemon/core/volume.h"
#include "daemon/core/volume_snapshot.h"

struct snapshot_call {
    struct ld_call call;
    char volume[65];
    char *owner, *name, *labels; /* as asked for, or NULL */
    struct ld_snapshot record;
    struct ld_volume state;
    struct ld_users users;
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
    ld_snapshot_done(&c->record);
    ld_volume_done(&c->state);
    ld_users_done(&c->users);
    ld_removed_done(&c->removed);
    free(c);
}

static struct snapshot_call *new_call(struct ld_request *req, enum ld_lane lane,
                                      int (*run)(struct ld_call *, struct ld_err *),
                                      void (*reply)(struct ld_call *))
{
    return ld_call_new(sizeof(struct snapshot_call), req, lane, run, reply, free_call);
}

/* ---- take ---- */

static int run_take(struct ld_call *call, struct ld_err *err)
{
    struct snapshot_call *c = (struct snapshot_call *)call;
    struct ld_volume_snapshot_spec spec = {
        .name = c->name, .labels = c->labels, .live = c->live, .cancel = &call->op.cancel};

    return ld_volume_snapshot_create(call->core, &call->w, c->volume, &spec, &c->record, err);
}

static void reply_taken(struct ld_call *call)
{
    struct snapshot_call *c = (struct snapshot_call *)call;

    ld_reply_header(call->req, "Location", "/v1/volumes/%s/snapshots/%s", c->record.owner_id,
                    c->record.id);
    ld_reply_object(call->req, 201, c->record.version, ld_snapshot_json("volume", &c->record));
}

/* The volume of the path; only looked up. */
static int find_owner(struct ld_request *req, char ret_id[65], struct ld_err *err)
{
    struct ld_volume v LD_AUTO(ld_volume_done) = {.sid = 0};

    if (ld_store_volume_find(ld_core_store(ld_request_core(req)), ld_request_param(req, "volume"),
                             &v, err) < 0)
        return -1;
    memcpy(ret_id, v.id, 65);
    return 0;
}

static int take_again(struct ld_call *call, const struct ld_once_object *made, struct ld_err *err)
{
    struct snapshot_call *c = (struct snapshot_call *)call;
    struct ld_volume owner LD_AUTO(ld_volume_done) = {.sid = 0};

    if (ld_store_volume_find(ld_core_store(call->core), c->owner, &owner, err) < 0)
        return -1;
    return ld_store_snapshot_find(ld_core_store(call->core), owner.id, made->id, &c->record, err);
}

static int read_body(struct snapshot_call *c, struct ld_err *err)
{
    const cJSON *body = ld_request_json(c->call.req);
    const char *name = NULL;

    if (ld_members_only(body, "", "name labels", err) < 0 ||
        ld_member_string(body, "", "name", &name, err) < 0 ||
        ld_json_labels(body, &c->labels, err) < 0)
        return -1;
    c->name = name ? ld_strdup(name) : NULL;
    return 0;
}

static void take(struct ld_request *req)
{
    struct snapshot_call *c = new_call(req, LD_LANE_COPY, run_take, reply_taken);
    struct ld_err err = LD_ERR_INIT;

    c->live = ld_request_flag(req, "live");
    c->owner = ld_strdup(ld_request_param(req, "volume"));
    if (ld_call_once(&c->call, take_again))
        return;
    if (read_body(c, &err) < 0 ||
        ld_volume_admit_clone(c->call.core, ld_request_param(req, "volume"), c->live, &c->call.op,
                              c->volume, &err) < 0)
        return ld_call_refuse(&c->call, &err);
    ld_call_submit(&c->call);
}

/* ---- list, inspect ---- */

static void list(struct ld_request *req)
{
    struct ld_err err = LD_ERR_INIT;
    char owner[65];

    if (find_owner(req, owner, &err) < 0)
        return ld_reply_error(req, &err);
    ld_reply_snapshots(req, "volume", owner);
}

static void inspect(struct ld_request *req)
{
    struct ld_err err = LD_ERR_INIT;
    char owner[65];

    if (find_owner(req, owner, &err) < 0)
        return ld_reply_error(req, &err);
    ld_reply_snapshot(req, "volume", owner);
}

/* ---- delete, roll back ---- */

static int admit(struct snapshot_call *c, struct ld_err *err)
{
    struct ld_request *req = c->call.req;

    if (ld_volume_admit(c->call.core, ld_request_param(req, "volume"), true, &c->call.op, c->volume,
                        err) < 0)
        return -1;
    return ld_store_snapshot_find(ld_core_store(c->call.core), c->volume,
                                  ld_request_param(req, "snapshot"), &c->record, err);
}

static int run_delete(struct ld_call *call, struct ld_err *err)
{
    struct snapshot_call *c = (struct snapshot_call *)call;

    return ld_volume_snapshot_remove(call->core, &call->w, c->volume, c->record.id, c->if_match,
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

    if (ld_volume_rollback(call->core, &call->w, c->volume, c->record.id, &call->op.cancel,
                           &c->state, err) < 0)
        return -1;
    return ld_store_volume_users(ld_core_store(call->core), c->volume, &c->users, err);
}

static void reply_volume(struct ld_call *call)
{
    struct snapshot_call *c = (struct snapshot_call *)call;

    ld_reply_object(call->req, 200, c->state.version, ld_volume_json(&c->state, &c->users));
}

static void roll_back(struct ld_request *req)
{
    struct snapshot_call *c = new_call(req, LD_LANE_COPY, run_rollback, reply_volume);
    struct ld_err err = LD_ERR_INIT;

    if (ld_members_only(ld_request_json(req), "", "", &err) < 0 || admit(c, &err) < 0)
        return ld_call_refuse(&c->call, &err);
    ld_call_submit(&c->call);
}

void ld_routes_volume_snapshots(struct ld_router *router)
{
    static const struct ld_route routes[] = {
        {"GET", "/v1/volumes/{volume}/snapshots", list, LD_ROUTE_METADATA, "limit after filter*"},
        {"POST", "/v1/volumes/{volume}/snapshots", take, LD_ROUTE_JSON_OPTIONAL, "live?"},
        {"GET", "/v1/volumes/{volume}/snapshots/{snapshot}", inspect, LD_ROUTE_METADATA, NULL},
        {"DELETE", "/v1/volumes/{volume}/snapshots/{snapshot}", remove_snapshot, 0, "dry_run?"},
        {"POST", "/v1/volumes/{volume}/snapshots/{snapshot}/rollback", roll_back,
         LD_ROUTE_JSON_OPTIONAL, NULL},
    };

    ld_router_add(router, routes, LD_ARRAY_LEN(routes));
}
