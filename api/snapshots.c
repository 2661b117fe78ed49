/* Snapshots of containers and of volumes: take, list, inspect, delete, roll back. What differs
 * between the two owners is in a table. */
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
#include "api/volume_json.h"
#include "daemon/base/mem.h"
#include "daemon/core/container.h"
#include "daemon/core/core.h"
#include "daemon/core/rollback.h"
#include "daemon/core/snapshot.h"
#include "daemon/core/volume.h"
#include "daemon/core/volume_snapshot.h"

struct snapshot_call;

struct owner_kind {
    const char *name; /* of the path's parameter, and in answers */
    const char *collection;
    enum ld_lane take_lane, rollback_lane;
    /* Loop. Only looked up; and for the operations. */
    int (*find)(struct ld_core *core, const char *text, char ret_id[65], struct ld_err *err);
    int (*admit_take)(struct snapshot_call *c, const char *text, struct ld_err *err);
    int (*admit)(struct snapshot_call *c, const char *text, struct ld_err *err);
    /* Workers. */
    int (*take)(struct snapshot_call *c, struct ld_err *err);
    int (*roll_back)(struct snapshot_call *c, struct ld_err *err);
    /* The owner as it is now. */
    void (*reply)(struct snapshot_call *c);
};

struct snapshot_call {
    struct ld_call call;
    const struct owner_kind *kind;
    char owner[65];
    char *text, *name, *labels; /* the owner, and the rest, as asked for; or NULL */
    struct ld_snapshot record;
    struct ld_container_state container; /* after a rollback: one of the two */
    struct ld_volume volume;
    struct ld_users users;
    struct ld_removed removed;
    uint64_t if_match;
    bool live;
};

static void free_call(struct ld_call *call)
{
    struct snapshot_call *c = (struct snapshot_call *)call;

    free(c->text);
    free(c->name);
    free(c->labels);
    ld_snapshot_done(&c->record);
    ld_container_state_done(&c->container);
    ld_volume_done(&c->volume);
    ld_users_done(&c->users);
    ld_removed_done(&c->removed);
    free(c);
}

/* ---- containers ---- */

static int find_container(struct ld_core *core, const char *text, char ret_id[65],
                          struct ld_err *err)
{
    struct ld_container c LD_AUTO(ld_container_done) = {.id = NULL};

    if (ld_store_container_find(ld_core_store(core), text, &c, err) < 0)
        return -1;
    memcpy(ret_id, c.id, 65);
    return 0;
}

static int admit_take_container(struct snapshot_call *c, const char *text, struct ld_err *err)
{
    return ld_snapshot_admit_create(c->call.core, text, &c->call.op, c->owner, err);
}

static int admit_container(struct snapshot_call *c, const char *text, struct ld_err *err)
{
    return ld_container_admit(c->call.core, text, true, &c->call.op, c->owner, err);
}

static int take_container(struct snapshot_call *c, struct ld_err *err)
{
    struct ld_snapshot_spec spec = {.name = c->name, .labels = c->labels, .live = c->live};

    return ld_snapshot_create(c->call.core, &c->call.w, c->owner, &spec, &c->call.op.cancel,
                              &c->record, err);
}

static int roll_back_container(struct snapshot_call *c, struct ld_err *err)
{
    return ld_container_rollback(c->call.core, &c->call.w, c->owner, c->record.id,
                                 &c->call.op.cancel, &c->container, err);
}

static void reply_container(struct snapshot_call *c)
{
    ld_reply_object(c->call.req, 200, c->container.record.version,
                    ld_container_json(c->call.core, &c->container, NULL));
}

/* ---- volumes ---- */

static int find_volume(struct ld_core *core, const char *text, char ret_id[65], struct ld_err *err)
{
    struct ld_volume v LD_AUTO(ld_volume_done) = {.sid = 0};

    if (ld_store_volume_find(ld_core_store(core), text, &v, err) < 0)
        return -1;
    memcpy(ret_id, v.id, 65);
    return 0;
}

static int admit_take_volume(struct snapshot_call *c, const char *text, struct ld_err *err)
{
    return ld_volume_admit_clone(c->call.core, text, c->live, &c->call.op, c->owner, err);
}

static int admit_volume(struct snapshot_call *c, const char *text, struct ld_err *err)
{
    return ld_volume_admit(c->call.core, text, true, &c->call.op, c->owner, err);
}

static int take_volume(struct snapshot_call *c, struct ld_err *err)
{
    struct ld_volume_snapshot_spec spec = {
        .name = c->name, .labels = c->labels, .live = c->live, .cancel = &c->call.op.cancel};

    return ld_volume_snapshot_create(c->call.core, &c->call.w, c->owner, &spec, &c->record, err);
}

static int roll_back_volume(struct snapshot_call *c, struct ld_err *err)
{
    if (ld_volume_rollback(c->call.core, &c->call.w, c->owner, c->record.id, &c->call.op.cancel,
                           &c->volume, err) < 0)
        return -1;
    return ld_store_volume_users(ld_core_store(c->call.core), c->owner, &c->users, err);
}

static void reply_volume(struct snapshot_call *c)
{
    ld_reply_object(c->call.req, 200, c->volume.version, ld_volume_json(&c->volume, &c->users));
}

/* ---- both ---- */

static const struct owner_kind containers = {
    .name = "container",
    .collection = "containers",
    .take_lane = LD_LANE_QUICK,
    .rollback_lane = LD_LANE_QUICK,
    .find = find_container,
    .admit_take = admit_take_container,
    .admit = admit_container,
    .take = take_container,
    .roll_back = roll_back_container,
    .reply = reply_container,
};
static const struct owner_kind volumes = {
    .name = "volume",
    .collection = "volumes",
    .take_lane = LD_LANE_COPY,
    .rollback_lane = LD_LANE_COPY,
    .find = find_volume,
    .admit_take = admit_take_volume,
    .admit = admit_volume,
    .take = take_volume,
    .roll_back = roll_back_volume,
    .reply = reply_volume,
};

static const struct owner_kind *kind_of(const struct ld_request *req)
{
    return ld_request_has_param(req, volumes.name) ? &volumes : &containers;
}

static struct snapshot_call *new_call(struct ld_request *req, enum ld_lane lane,
                                      int (*run)(struct ld_call *, struct ld_err *),
                                      void (*reply)(struct ld_call *))
{
    struct snapshot_call *c =
        ld_call_new(sizeof(struct snapshot_call), req, lane, run, reply, free_call);

    c->kind = kind_of(req);
    c->text = ld_strdup(ld_request_param(req, c->kind->name));
    return c;
}

/* ---- take ---- */

static int run_take(struct ld_call *call, struct ld_err *err)
{
    struct snapshot_call *c = (struct snapshot_call *)call;

    return c->kind->take(c, err);
}

static void reply_taken(struct ld_call *call)
{
    struct snapshot_call *c = (struct snapshot_call *)call;

    ld_reply_header(call->req, "Location", "/v1/%s/%s/snapshots/%s", c->kind->collection,
                    c->record.owner_id, c->record.id);
    ld_reply_object(call->req, 201, c->record.version, ld_snapshot_json(c->kind->name, &c->record));
}

static int take_again(struct ld_call *call, const struct ld_once_object *made, struct ld_err *err)
{
    struct snapshot_call *c = (struct snapshot_call *)call;
    char owner[65];

    if (c->kind->find(call->core, c->text, owner, err) < 0)
        return -1;
    return ld_store_snapshot_find(ld_core_store(call->core), owner, made->id, &c->record, err);
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
    struct snapshot_call *c = new_call(req, kind_of(req)->take_lane, run_take, reply_taken);
    struct ld_err err = LD_ERR_INIT;

    c->live = ld_request_flag(req, "live");
    if (ld_call_once(&c->call, take_again))
        return;
    if (read_body(c, &err) < 0 || c->kind->admit_take(c, c->text, &err) < 0)
        return ld_call_refuse(&c->call, &err);
    ld_call_submit(&c->call);
}

/* ---- list, inspect ---- */

static int find_owner(struct ld_request *req, char ret_id[65], struct ld_err *err)
{
    const struct owner_kind *kind = kind_of(req);

    return kind->find(ld_request_core(req), ld_request_param(req, kind->name), ret_id, err);
}

static void list(struct ld_request *req)
{
    struct ld_err err = LD_ERR_INIT;
    char owner[65];

    if (find_owner(req, owner, &err) < 0)
        return ld_reply_error(req, &err);
    ld_reply_snapshots(req, kind_of(req)->name, owner);
}

static void inspect(struct ld_request *req)
{
    struct ld_err err = LD_ERR_INIT;
    char owner[65];

    if (find_owner(req, owner, &err) < 0)
        return ld_reply_error(req, &err);
    ld_reply_snapshot(req, kind_of(req)->name, owner);
}

/* ---- delete, roll back ---- */

/* The snapshot of the path; its owner's key. */
static int admit(struct snapshot_call *c, struct ld_err *err)
{
    return c->kind->admit(c, c->text, err) < 0
               ? -1
               : ld_store_snapshot_find(ld_core_store(c->call.core), c->owner,
                                        ld_request_param(c->call.req, "snapshot"), &c->record, err);
}

static int run_delete(struct ld_call *call, struct ld_err *err)
{
    struct snapshot_call *c = (struct snapshot_call *)call;

    return ld_snapshot_remove(call->core, &call->w, c->owner, c->record.id, c->if_match,
                              &c->removed, err) < 0
               ? -1
               : ld_call_measure(call, &c->removed, err);
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

    return c->kind->roll_back(c, err);
}

static void reply_owner(struct ld_call *call)
{
    struct snapshot_call *c = (struct snapshot_call *)call;

    c->kind->reply(c);
}

/* A container that is a copy of its image is copied anew. */
static int pick_lane(struct snapshot_call *c, struct ld_err *err)
{
    struct ld_container container LD_AUTO(ld_container_done) = {.id = NULL};

    if (c->kind != &containers)
        return 0;
    if (ld_store_container_get(ld_core_store(c->call.core), c->owner, &container, err) < 0)
        return -1;
    if (ld_core_driver_copies(c->call.core, container.driver))
        c->call.op.lane = LD_LANE_COPY;
    return 0;
}

static void roll_back(struct ld_request *req)
{
    struct snapshot_call *c = new_call(req, kind_of(req)->rollback_lane, run_rollback, reply_owner);
    struct ld_err err = LD_ERR_INIT;

    if (ld_members_only(ld_request_json(req), "", "", &err) < 0 || admit(c, &err) < 0 ||
        pick_lane(c, &err) < 0)
        return ld_call_refuse(&c->call, &err);
    ld_call_submit(&c->call);
}

#define ROUTES(owner)                                                                              \
    {"GET", owner "/snapshots", list, LD_ROUTE_METADATA, "limit after filter*"},                   \
        {"POST", owner "/snapshots", take, LD_ROUTE_JSON_OPTIONAL, "live?"},                       \
        {"GET", owner "/snapshots/{snapshot}", inspect, LD_ROUTE_METADATA, NULL},                  \
        {"DELETE", owner "/snapshots/{snapshot}", remove_snapshot, 0, "dry_run?"},                 \
    {                                                                                              \
        "POST", owner "/snapshots/{snapshot}/rollback", roll_back, LD_ROUTE_JSON_OPTIONAL, NULL    \
    }

void ld_routes_snapshots(struct ld_router *router)
{
    static const struct ld_route routes[] = {
        ROUTES("/v1/containers/{container}"),
        ROUTES("/v1/volumes/{volume}"),
    };

    ld_router_add(router, routes, LD_ARRAY_LEN(routes));
}
