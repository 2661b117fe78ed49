/* /v1/volumes: create, clone, list, inspect, patch, delete. */
#include <stdlib.h>
#include <string.h>

#include <cjson/cJSON.h>

#include "api/call.h"
#include "api/dry_run.h"
#include "api/json.h"
#include "api/list.h"
#include "api/router.h"
#include "api/routes.h"
#include "api/volume_json.h"
#include "daemon/base/fdio.h"
#include "daemon/base/mem.h"
#include "daemon/core/core.h"
#include "daemon/core/volume.h"

struct volume_call {
    struct ld_call call;
    char id[65];
    struct ld_volume_spec spec;
    struct ld_volume_origin origin;
    char *name, *labels, *snapshot;
    cJSON *patch;
    uint64_t if_match;
    char digest[72];
    struct ld_volume volume;
    struct ld_users users;
    struct ld_usage usage;
    struct ld_volume_removal removal;
    struct ld_removed removed;
    bool made, with_usage;
};

static void free_call(struct ld_call *call)
{
    struct volume_call *c = (struct volume_call *)call;

    free(c->name);
    free(c->labels);
    free(c->snapshot);
    cJSON_Delete(c->patch);
    ld_volume_done(&c->volume);
    ld_users_done(&c->users);
    ld_removed_done(&c->removed);
    free(c);
}

struct cJSON *ld_volume_json(const struct ld_volume *v, const struct ld_users *users)
{
    cJSON *json = cJSON_CreateObject();

    cJSON_AddStringToObject(json, "id", v->id);
    cJSON_AddItemToObject(json, "name", ld_json_text(v->name));
    cJSON_AddBoolToObject(json, "anonymous", v->anonymous);
    cJSON_AddItemToObject(json, "labels", ld_json_raw(v->labels, "{}"));
    cJSON_AddItemToObject(json, "size_limit", ld_json_limit(v->size_limit));
    cJSON_AddStringToObject(json, "state", v->damage ? "damaged" : "ok");
    cJSON_AddItemToObject(json, "reason", ld_json_text(v->damage));
    cJSON_AddItemToObject(json, "created_at", ld_json_time(v->created_ns));
    cJSON_AddItemToObject(json, "users", ld_json_users(users));
    cJSON_AddItemToObject(json, "version", ld_json_u64(v->version));
    return json;
}

static struct volume_call *new_call(struct ld_request *req, enum ld_lane lane,
                                    int (*run)(struct ld_call *, struct ld_err *),
                                    void (*reply)(struct ld_call *))
{
    return ld_call_new(sizeof(struct volume_call), req, lane, run, reply, free_call);
}

static void reply_volume(struct ld_call *call)
{
    struct volume_call *c = (struct volume_call *)call;
    cJSON *json = ld_volume_json(&c->volume, &c->users);

    if (c->with_usage)
        cJSON_AddItemToObject(json, "size", ld_json_usage(&c->usage));
    if (c->made)
        ld_reply_header(call->req, "Location", "/v1/volumes/%s", c->volume.id);
    ld_reply_object(call->req, c->made ? 201 : 200, c->volume.version, json);
}

static int run_create(struct ld_call *call, struct ld_err *err)
{
    struct volume_call *c = (struct volume_call *)call;

    if (ld_volume_create(call->core, &call->w, &c->spec, &c->volume, &c->made, err) < 0)
        return -1;
    return ld_store_volume_users(ld_core_store(call->core), c->volume.id, &c->users, err);
}

/* The name is no part of it: a PUT says it in the path. No body is an empty one. */
static void take_digest(const cJSON *body, struct volume_call *c)
{
    cJSON *copy = body ? cJSON_Duplicate(body, true) : cJSON_CreateObject();

    cJSON_DeleteItemFromObjectCaseSensitive(copy, "name");
    ld_json_digest(copy, c->digest);
    cJSON_Delete(copy);
    c->spec.spec_digest = c->digest;
}

static int create_again(struct ld_call *call, const struct ld_once_object *made, struct ld_err *err)
{
    struct volume_call *c = (struct volume_call *)call;
    struct ld_store *store = ld_core_store(call->core);

    c->made = true;
    if (ld_store_volume_get(store, made->id, &c->volume, err) < 0)
        return -1;
    return ld_store_volume_users(store, c->volume.id, &c->users, err);
}

static int read_body(struct volume_call *c, const char *path_name, struct ld_err *err)
{
    const cJSON *body = ld_request_json(c->call.req);
    const char *name = NULL;

    if (ld_members_only(body, "", "name labels size_limit", err) < 0 ||
        ld_member_string(body, "", "name", &name, err) < 0 ||
        ld_json_size_limit(body, &c->spec.size_limit, err) < 0 ||
        ld_json_labels(body, &c->labels, err) < 0)
        return -1;
    if (path_name && name && strcmp(path_name, name) != 0)
        return ld_err_set(err, LD_E_INVALID, "the path names '%s', the body '%s'", path_name, name);
    if (path_name)
        name = path_name;
    c->name = name ? ld_strdup(name) : NULL;
    c->spec.name = c->name;
    c->spec.labels = c->labels;
    take_digest(body, c);
    c->spec.may_exist = path_name != NULL;
    if (path_name)
        return ld_request_must_be_new(c->call.req, &c->spec.must_be_new, err);
    return 0;
}

static void create(struct ld_request *req, const char *name)
{
    struct volume_call *c = new_call(req, LD_LANE_QUICK, run_create, reply_volume);
    struct ld_err err = LD_ERR_INIT;

    if (!name && ld_call_once(&c->call, create_again))
        return;
    if (read_body(c, name, &err) < 0)
        return ld_call_refuse(&c->call, &err);
    if (c->name)
        ld_op_key(&c->call.op, LD_EXCLUSIVE, "n:v:%s", c->name);
    ld_call_submit(&c->call);
}

static void post(struct ld_request *req)
{
    create(req, NULL);
}

static void put(struct ld_request *req)
{
    create(req, ld_request_param(req, "volume"));
}

/* ---- clone ---- */

static int read_clone(struct volume_call *c, struct ld_err *err)
{
    const cJSON *body = ld_request_json(c->call.req);
    const char *name = NULL;
    const char *snapshot = NULL;

    if (ld_members_only(body, "", "name labels snapshot size_limit", err) < 0 ||
        ld_member_string(body, "", "name", &name, err) < 0 ||
        ld_member_string(body, "", "snapshot", &snapshot, err) < 0 ||
        ld_json_size_limit(body, &c->spec.size_limit, err) < 0)
        return -1;
    c->origin.has_limit = cJSON_HasObjectItem(body, "size_limit");
    c->name = name ? ld_strdup(name) : NULL;
    c->snapshot = snapshot ? ld_strdup(snapshot) : NULL;
    if (!cJSON_GetObjectItemCaseSensitive(body, "labels"))
        return 0; /* it has those of its origin then */
    return ld_json_labels(body, &c->labels, err);
}

static void make_clone(struct ld_request *req)
{
    struct volume_call *c = new_call(req, LD_LANE_COPY, run_create, reply_volume);
    struct ld_err err = LD_ERR_INIT;

    c->origin.live = ld_request_flag(req, "live");
    if (ld_call_once(&c->call, create_again))
        return;
    if (read_clone(c, &err) < 0 ||
        ld_volume_admit_clone(c->call.core, ld_request_param(req, "volume"),
                              c->origin.live || c->snapshot, &c->call.op, c->id, &err) < 0)
        return ld_call_refuse(&c->call, &err);
    c->origin.id = c->id;
    c->origin.snapshot = c->snapshot;
    c->origin.cancel = &c->call.op.cancel;
    c->spec.name = c->name;
    c->spec.labels = c->labels;
    c->spec.origin = &c->origin;
    if (c->name)
        ld_op_key(&c->call.op, LD_EXCLUSIVE, "n:v:%s", c->name);
    ld_call_submit(&c->call);
}

static int run_inspect(struct ld_call *call, struct ld_err *err)
{
    struct volume_call *c = (struct volume_call *)call;
    struct ld_store *store = ld_core_store(call->core);

    if (ld_store_volume_get(store, c->id, &c->volume, err) < 0 ||
        ld_store_volume_users(store, c->id, &c->users, err) < 0)
        return -1;
    return c->with_usage ? ld_volume_usage(call->core, c->id, &c->usage, err) : 0;
}

static void inspect(struct ld_request *req)
{
    bool size = ld_request_flag(req, "size");
    struct volume_call *c =
        new_call(req, size ? LD_LANE_COPY : LD_LANE_QUICK, run_inspect, reply_volume);
    struct ld_err err = LD_ERR_INIT;

    c->with_usage = size;
    if (ld_store_volume_find(ld_core_store(c->call.core), ld_request_param(req, "volume"),
                             &c->volume, &err) < 0)
        return ld_call_refuse(&c->call, &err);
    memcpy(c->id, c->volume.id, sizeof(c->id));
    ld_volume_done(&c->volume);
    ld_call_submit(&c->call);
}

/* ---- patch ---- */

static int run_patch(struct ld_call *call, struct ld_err *err)
{
    struct volume_call *c = (struct volume_call *)call;
    struct ld_volume_patch patch = {.if_match = c->if_match};
    struct ld_volume now LD_AUTO(ld_volume_done) = {.sid = 0};
    const cJSON *labels = cJSON_GetObjectItemCaseSensitive(c->patch, "labels");
    uint64_t size_limit = 0;

    if (ld_store_volume_get(ld_core_store(call->core), c->id, &now, err) < 0 ||
        ld_json_size_limit(c->patch, &size_limit, err) < 0 ||
        (labels && ld_json_merge_labels(now.labels, labels, &c->labels, err) < 0))
        return -1;
    patch.labels = c->labels;
    if (cJSON_HasObjectItem(c->patch, "size_limit"))
        patch.size_limit = &size_limit; /* the same, too: the kernel may have lost it */
    if (ld_volume_patch(call->core, &call->w, c->id, &patch, &c->volume, err) < 0)
        return -1;
    return ld_store_volume_users(ld_core_store(call->core), c->id, &c->users, err);
}

static int read_patch(struct volume_call *c, struct ld_err *err)
{
    const cJSON *body = ld_request_json(c->call.req);
    const cJSON *labels = cJSON_GetObjectItemCaseSensitive(body, "labels");
    uint64_t size_limit;

    if (ld_members_only(body, "", "labels size_limit", err) < 0 ||
        ld_json_size_limit(body, &size_limit, err) < 0)
        return -1;
    if (labels && !cJSON_IsNull(labels) && !cJSON_IsObject(labels))
        return ld_err_set(err, LD_E_INVALID, "'labels' is neither an object nor null");
    c->patch = cJSON_Duplicate(body, true);
    return ld_request_if_match(c->call.req, &c->if_match, err);
}

static void patch(struct ld_request *req)
{
    struct volume_call *c = new_call(req, LD_LANE_QUICK, run_patch, reply_volume);
    struct ld_err err = LD_ERR_INIT;

    if (read_patch(c, &err) < 0 || ld_volume_admit(c->call.core, ld_request_param(req, "volume"),
                                                   true, &c->call.op, c->id, &err) < 0)
        return ld_call_refuse(&c->call, &err);
    ld_call_submit(&c->call);
}

static int list_page(struct ld_lister *lister, uint64_t after, size_t limit, struct ld_list *list,
                     uint64_t *ret_next, struct ld_err *err)
{
    struct ld_volume_page page LD_AUTO(ld_volume_page_done) = {.n = 0};
    struct ld_volume_query query = {.after = after,
                                    .limit = limit,
                                    .name_glob = ld_filter_get(&lister->filters, "name"),
                                    .labels = lister->filters.label,
                                    .n_labels = lister->filters.n_labels};

    if (ld_filter_bool(&lister->filters, "anonymous", &query.anonymous, err) < 0 ||
        ld_filter_bool(&lister->filters, "dangling", &query.unused, err) < 0 ||
        ld_filter_until(&lister->filters, &query.until_ns, err) < 0 ||
        ld_store_volume_list(ld_core_store(lister->core), &query, &page, err) < 0)
        return -1;
    *ret_next = page.next;
    for (size_t i = 0; i < page.n; i++) {
        struct ld_users users LD_AUTO(ld_users_done) = {.n = 0};

        if (ld_store_volume_users(ld_core_store(lister->core), page.item[i].id, &users, err) < 0 ||
            ld_list_item(list, ld_volume_json(&page.item[i], &users), err) < 0)
            return -1;
    }
    return 0;
}

static void list(struct ld_request *req)
{
    struct ld_lister *l = ld_new(struct ld_lister);

    l->page = list_page;
    ld_reply_list(req, l, "name label anonymous dangling until");
}

static int run_delete(struct ld_call *call, struct ld_err *err)
{
    struct volume_call *c = (struct volume_call *)call;

    return ld_volume_remove(call->core, &call->w, c->id, &c->removal, &c->removed, err) < 0
               ? -1
               : ld_call_measure(call, &c->removed, err);
}

static void reply_gone(struct ld_call *call)
{
    struct volume_call *c = (struct volume_call *)call;

    if (call->w.dry_run)
        ld_reply_json(call->req, 200, ld_dry_run_json(&c->removed));
    else
        ld_reply_empty(call->req, 204);
}

static void remove_volume(struct ld_request *req)
{
    struct volume_call *c = new_call(req, LD_LANE_QUICK, run_delete, reply_gone);
    struct ld_err err = LD_ERR_INIT;

    c->removal.purge = ld_request_flag(req, "purge");
    ld_call_dry_run(&c->call);
    if (ld_request_if_match(req, &c->removal.if_match, &err) < 0 ||
        ld_volume_admit(c->call.core, ld_request_param(req, "volume"), true, &c->call.op, c->id,
                        &err) < 0)
        return ld_call_refuse(&c->call, &err);
    ld_call_submit(&c->call);
}

void ld_routes_volumes(struct ld_router *router)
{
    static const struct ld_route routes[] = {
        {"GET", "/v1/volumes", list, LD_ROUTE_METADATA, "limit after filter*"},
        {"POST", "/v1/volumes", post, LD_ROUTE_JSON_OPTIONAL, NULL},
        {"GET", "/v1/volumes/{volume}", inspect, LD_ROUTE_METADATA, "size?"},
        {"PUT", "/v1/volumes/{volume}", put, LD_ROUTE_JSON_OPTIONAL, NULL},
        {"PATCH", "/v1/volumes/{volume}", patch, LD_ROUTE_JSON, NULL},
        {"POST", "/v1/volumes/{volume}/clone", make_clone, LD_ROUTE_JSON_OPTIONAL, "live?"},
        {"DELETE", "/v1/volumes/{volume}", remove_volume, 0, "purge? dry_run?"},
    };

    ld_router_add(router, routes, LD_ARRAY_LEN(routes));
}
