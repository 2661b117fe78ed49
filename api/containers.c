/* /v1/containers: create, list, inspect, patch, delete, mount, bundle, unmount. What moves content
 * (files, export, diff, changes) is in container_content.c. */
#include <stdlib.h>
#include <string.h>

#include <cjson/cJSON.h>

#include "api/call.h"
#include "api/container_json.h"
#include "api/dry_run.h"
#include "api/json.h"
#include "api/list.h"
#include "api/router.h"
#include "api/routes.h"
#include "daemon/base/fdio.h"
#include "daemon/base/mem.h"
#include "daemon/core/bundle.h"
#include "daemon/core/container.h"
#include "daemon/core/core.h"
#include "daemon/core/image.h"

/* One struct for all of them: what an operation is about, and what came out. */
struct container_call {
    struct ld_call call;
    char id[65];
    struct ld_container_body body;
    struct ld_container_state state;
    struct ld_container_removal removal;
    struct ld_removed removed;
    struct ld_unmount_flags unmount;
    struct ld_unmounted unmounted;
    struct ld_usage usage;
    char *labels, *name; /* of a patch */
    cJSON *patch;
    uint64_t if_match;
    struct ld_container_mounting mounting;
    struct ld_mount_target target;
    struct ld_bundle_wish bundle;
    char *target_path; /* or the bundle's */
    bool made, with_usage;
};

static void free_call(struct ld_call *call)
{
    struct container_call *c = (struct container_call *)call;

    ld_container_body_done(&c->body);
    ld_container_state_done(&c->state);
    ld_unmounted_done(&c->unmounted);
    ld_removed_done(&c->removed);
    free(c->labels);
    free(c->name);
    free(c->target_path);
    cJSON_Delete(c->patch);
    free(c);
}

static void reply_state(struct ld_call *call)
{
    struct container_call *c = (struct container_call *)call;

    ld_reply_object(call->req, 200, c->state.record.version,
                    ld_container_json(call->core, &c->state, c->with_usage ? &c->usage : NULL));
}

static struct container_call *new_call(struct ld_request *req, enum ld_lane lane,
                                       int (*run)(struct ld_call *, struct ld_err *),
                                       void (*reply)(struct ld_call *))
{
    return ld_call_new(sizeof(struct container_call), req, lane, run, reply, free_call);
}

/* ---- create ---- */

static int run_create(struct ld_call *call, struct ld_err *err)
{
    struct container_call *c = (struct container_call *)call;

    return ld_container_create(call->core, &call->w, &c->body.spec, &call->op.cancel, &c->state,
                               &c->made, err);
}

static void reply_created(struct ld_call *call)
{
    struct container_call *c = (struct container_call *)call;

    if (c->made)
        ld_reply_header(call->req, "Location", "/v1/containers/%s", c->state.record.id);
    ld_reply_object(call->req, c->made ? 201 : 200, c->state.record.version,
                    ld_container_json(call->core, &c->state, NULL));
}

static int create_again(struct ld_call *call, const struct ld_once_object *made, struct ld_err *err)
{
    struct container_call *c = (struct container_call *)call;

    c->made = true;
    return ld_container_inspect(call->core, made->id, &c->state, err);
}

static void create(struct ld_request *req, const char *name)
{
    /* Copying a whole image (vfs) is no short work. */
    struct container_call *c = new_call(req, LD_LANE_QUICK, run_create, reply_created);
    struct ld_err err = LD_ERR_INIT;

    if (!name && ld_call_once(&c->call, create_again))
        return;
    if (ld_container_body_read(ld_request_json(req), name, &c->body, &err) < 0 ||
        (name && ld_request_must_be_new(req, &c->body.spec.must_be_new, &err) < 0))
        return ld_call_refuse(&c->call, &err);
    if (ld_core_driver_copies(c->call.core, c->body.spec.driver))
        c->call.op.lane = LD_LANE_COPY;
    if (ld_container_admit_create(c->call.core, &c->body.spec, &c->call.op, &err) < 0)
        return ld_call_refuse(&c->call, &err);
    ld_call_submit(&c->call);
}

static void post(struct ld_request *req)
{
    create(req, NULL);
}

static void put(struct ld_request *req)
{
    create(req, ld_request_param(req, "container"));
}

/* ---- inspect ---- */

static int run_inspect(struct ld_call *call, struct ld_err *err)
{
    struct container_call *c = (struct container_call *)call;

    if (ld_container_inspect(call->core, c->id, &c->state, err) < 0)
        return -1;
    if (!c->with_usage)
        return 0;
    return ld_container_usage(call->core, c->id, &c->usage, err);
}

static void inspect(struct ld_request *req)
{
    bool size = ld_request_flag(req, "size");
    struct container_call *c =
        new_call(req, size ? LD_LANE_COPY : LD_LANE_QUICK, run_inspect, reply_state);
    struct ld_err err = LD_ERR_INIT;

    c->with_usage = size;
    if (ld_container_find(c->call.core, ld_request_param(req, "container"), &c->state, &err) < 0)
        return ld_call_refuse(&c->call, &err);
    memcpy(c->id, c->state.record.id, sizeof(c->id));
    ld_container_state_done(&c->state);
    ld_call_submit(&c->call); /* no key: what it shows is a moment of a running world */
}

/* ---- list ---- */

struct container_lister {
    struct ld_lister base;
    struct ld_container_query query;
    char *image_id, *volume_id;
};

static int resolve_filters(struct container_lister *l, struct ld_err *err)
{
    struct ld_lister *b = &l->base;
    const char *image = ld_filter_get(&b->filters, "image");
    const char *volume = ld_filter_get(&b->filters, "volume");

    l->query = (struct ld_container_query){.name_glob = ld_filter_get(&b->filters, "name"),
                                           .driver = ld_filter_get(&b->filters, "driver"),
                                           .labels = b->filters.label,
                                           .n_labels = b->filters.n_labels};
    if (image && !l->image_id) {
        struct ld_image found LD_AUTO(ld_image_done) = {.id = NULL};

        if (ld_image_find(b->core, image, &found, err) == 0)
            l->image_id = ld_strdup(found.id);
        else if (err->code != LD_E_NOT_FOUND)
            return -1;
        else
            l->image_id = ld_strdup(image); /* containers may outlive it; no match otherwise */
    }
    if (volume && !l->volume_id) {
        struct ld_volume found LD_AUTO(ld_volume_done) = {.sid = 0};

        if (ld_store_volume_find(ld_core_store(b->core), volume, &found, err) < 0 &&
            err->code != LD_E_NOT_FOUND)
            return -1;
        l->volume_id = ld_strdup(found.id ? found.id : "none");
    }
    l->query.image_id = l->image_id;
    l->query.volume_id = l->volume_id;
    return ld_filter_until(&b->filters, &l->query.until_ns, err);
}

static int list_page(struct ld_lister *lister, uint64_t after, size_t limit, struct ld_list *list,
                     uint64_t *ret_next, struct ld_err *err)
{
    struct container_lister *l = (struct container_lister *)lister;
    struct ld_container_page page LD_AUTO(ld_container_page_done) = {.n = 0};
    const char *state = ld_filter_get(&lister->filters, "state");

    if (state && !ld_container_state_is_known(state))
        return ld_err_set(err, LD_E_INVALID,
                          "the filter state='%s' is none of created, mounted, busy, damaged",
                          state);
    if (resolve_filters(l, err) < 0)
        return -1;
    l->query.after = after;
    l->query.limit = limit;
    if (ld_store_container_list(ld_core_store(lister->core), &l->query, &page, err) < 0)
        return -1;
    *ret_next = page.next;
    for (size_t i = 0; i < page.n; i++) {
        struct ld_container_state s LD_AUTO(ld_container_state_done) = {.mount = LD_UNMOUNTED};
        cJSON *json;

        ld_container_state_of(lister->core, &page.item[i], &s);
        json = ld_container_summary_json(&s);
        if (state && strcmp(cJSON_GetStringValue(cJSON_GetObjectItem(json, "state")), state) != 0)
            cJSON_Delete(json);
        else if (ld_list_item(list, json, err) < 0)
            return -1;
    }
    return 0;
}

static void free_lister(struct ld_lister *lister)
{
    struct container_lister *l = (struct container_lister *)lister;

    free(l->image_id);
    free(l->volume_id);
}

static void list(struct ld_request *req)
{
    struct container_lister *l = ld_new(struct container_lister);

    l->base.page = list_page;
    l->base.free = free_lister;
    ld_reply_list(req, &l->base, "name label state image driver volume until");
}

/* ---- patch ---- */

/* What the patch leaves out stays. */
static int read_limits(const cJSON *patch, const struct ld_limits *now, struct ld_limits *ret,
                       struct ld_err *err)
{
    *ret = *now;
    if (cJSON_HasObjectItem(patch, "size_limit") && ld_json_size_limit(patch, &ret->bytes, err) < 0)
        return -1;
    if (cJSON_HasObjectItem(patch, "inode_limit"))
        return ld_json_inode_limit(patch, &ret->inodes, err);
    return 0;
}

static int run_patch(struct ld_call *call, struct ld_err *err)
{
    struct container_call *c = (struct container_call *)call;
    struct ld_container_patch patch = {.name = c->name, .if_match = c->if_match};
    struct ld_container now LD_AUTO(ld_container_done) = {.id = NULL};
    struct ld_limits limits;
    const cJSON *labels = cJSON_GetObjectItemCaseSensitive(c->patch, "labels");

    if (ld_store_container_get(ld_core_store(call->core), c->id, &now, err) < 0)
        return -1;
    if (labels && ld_json_merge_labels(now.labels, labels, &c->labels, err) < 0)
        return -1;
    patch.labels = c->labels;
    if (read_limits(c->patch, &now.limits, &limits, err) < 0)
        return -1;
    if (cJSON_HasObjectItem(c->patch, "size_limit") || cJSON_HasObjectItem(c->patch, "inode_limit"))
        patch.limits = &limits; /* the same, too: the kernel may have lost it */
    return ld_container_patch(call->core, &call->w, c->id, &patch, &c->state, err);
}

static int read_patch(struct container_call *c, struct ld_err *err)
{
    const cJSON *body = ld_request_json(c->call.req);
    const cJSON *labels = cJSON_GetObjectItemCaseSensitive(body, "labels");
    const char *name = NULL;

    struct ld_limits limits;

    if (ld_members_only(body, "", "name labels size_limit inode_limit", err) < 0 ||
        ld_member_string(body, "", "name", &name, err) < 0 ||
        ld_json_size_limit(body, &limits.bytes, err) < 0 ||
        ld_json_inode_limit(body, &limits.inodes, err) < 0)
        return -1;
    if (cJSON_HasObjectItem(body, "name") && !name)
        return ld_err_set(err, LD_E_INVALID, "'name' is null: a name can be changed, not removed");
    if (labels && !cJSON_IsNull(labels) && !cJSON_IsObject(labels))
        return ld_err_set(err, LD_E_INVALID, "'labels' is neither an object nor null");
    c->name = name ? ld_strdup(name) : NULL;
    c->patch = cJSON_Duplicate(body, true);
    return ld_request_if_match(c->call.req, &c->if_match, err);
}

static void patch(struct ld_request *req)
{
    struct container_call *c = new_call(req, LD_LANE_QUICK, run_patch, reply_state);
    struct ld_err err = LD_ERR_INIT;

    if (read_patch(c, &err) < 0 ||
        ld_container_admit(c->call.core, ld_request_param(req, "container"), true, &c->call.op,
                           c->id, &err) < 0)
        return ld_call_refuse(&c->call, &err);
    if (c->name)
        ld_op_key(&c->call.op, LD_EXCLUSIVE, "n:c:%s", c->name);
    ld_call_submit(&c->call);
}

/* ---- delete ---- */

static int run_delete(struct ld_call *call, struct ld_err *err)
{
    struct container_call *c = (struct container_call *)call;

    return ld_container_remove(call->core, &call->w, c->id, &c->removal, &c->removed, err) < 0
               ? -1
               : ld_call_measure(call, &c->removed, err);
}

static void reply_gone(struct ld_call *call)
{
    struct container_call *c = (struct container_call *)call;

    if (call->w.dry_run)
        ld_reply_json(call->req, 200, ld_dry_run_json(&c->removed));
    else
        ld_reply_empty(call->req, 204);
}

static void remove_container(struct ld_request *req)
{
    struct container_call *c = new_call(req, LD_LANE_QUICK, run_delete, reply_gone);
    struct ld_err err = LD_ERR_INIT;

    c->removal.force = ld_request_flag(req, "force");
    c->removal.volumes = ld_request_flag(req, "volumes");
    c->removal.purge = ld_request_flag(req, "purge");
    ld_call_dry_run(&c->call);
    if (ld_request_if_match(req, &c->removal.if_match, &err) < 0 ||
        ld_container_admit(c->call.core, ld_request_param(req, "container"), true, &c->call.op,
                           c->id, &err) < 0)
        return ld_call_refuse(&c->call, &err);
    ld_call_submit(&c->call);
}

/* ---- mount, unmount ---- */

static int run_mount(struct ld_call *call, struct ld_err *err)
{
    struct container_call *c = (struct container_call *)call;

    return ld_container_mount(call->core, &call->w, c->id, &c->mounting, &c->state, err);
}

static int read_mounting(struct container_call *c, const cJSON *body, struct ld_err *err)
{
    const char *path = NULL;
    bool read_only = false;

    if (ld_members_only(body, "", "read_only target trusted", err) < 0 ||
        ld_member_bool(body, "", "read_only", &read_only, err) < 0 ||
        ld_member_string(body, "", "target", &path, err) < 0 ||
        ld_member_bool(body, "", "trusted", &c->target.is_trusted, err) < 0)
        return -1;
    if (cJSON_IsBool(cJSON_GetObjectItemCaseSensitive(body, "read_only")))
        c->mounting.how = read_only ? LD_READ_ONLY : LD_READ_WRITE;
    if (!path)
        return c->target.is_trusted ? ld_err_set(err, LD_E_INVALID, "'trusted' needs a 'target'")
                                    : 0;
    c->target.path = c->target_path = ld_strdup(path);
    c->mounting.target = &c->target;
    return ld_mount_target_check(path, err);
}

static void mount(struct ld_request *req)
{
    struct container_call *c = new_call(req, LD_LANE_QUICK, run_mount, reply_state);
    struct ld_err err = LD_ERR_INIT;

    if (read_mounting(c, ld_request_json(req), &err) < 0 ||
        ld_container_admit_mount(c->call.core, ld_request_param(req, "container"), &c->call.op,
                                 c->id, &err) < 0)
        return ld_call_refuse(&c->call, &err);
    ld_call_submit(&c->call);
}

/* ---- bundle ---- */

static int run_bundle(struct ld_call *call, struct ld_err *err)
{
    struct container_call *c = (struct container_call *)call;

    return ld_container_bundle(call->core, &call->w, c->id, &c->bundle, &c->state, err);
}

static int read_bundle(struct container_call *c, const cJSON *body, struct ld_err *err)
{
    const char *path = NULL;
    const char *network = NULL;

    if (ld_members_only(body, "", "path terminal network", err) < 0 ||
        ld_member_string(body, "", "path", &path, err) < 0 ||
        ld_member_string(body, "", "network", &network, err) < 0 ||
        ld_member_bool(body, "", "terminal", &c->bundle.has_terminal, err) < 0)
        return -1;
    if (network && strcmp(network, "none") != 0 && strcmp(network, "host") != 0)
        return ld_err_set(err, LD_E_INVALID, "'network' is neither none nor host");
    c->bundle.host_network = network && strcmp(network, "host") == 0;
    if (!path)
        return 0;
    c->bundle.path = c->target_path = ld_strdup(path);
    return ld_mount_target_check(path, err);
}

static void bundle(struct ld_request *req)
{
    struct container_call *c = new_call(req, LD_LANE_QUICK, run_bundle, reply_state);
    struct ld_err err = LD_ERR_INIT;

    if (read_bundle(c, ld_request_json(req), &err) < 0 ||
        ld_container_admit_mount(c->call.core, ld_request_param(req, "container"), &c->call.op,
                                 c->id, &err) < 0)
        return ld_call_refuse(&c->call, &err);
    ld_call_submit(&c->call);
}

static int run_unmount(struct ld_call *call, struct ld_err *err)
{
    struct container_call *c = (struct container_call *)call;

    return ld_container_unmount(call->core, &call->w, c->id, c->unmount, &c->unmounted, err);
}

static void reply_unmounted(struct ld_call *call)
{
    struct container_call *c = (struct container_call *)call;
    cJSON *json = ld_container_json(call->core, &c->unmounted.state, NULL);

    cJSON_AddBoolToObject(json, "was_mounted", c->unmounted.was_mounted);
    if (c->unmount.force)
        cJSON_AddItemToObject(json, "holders", ld_json_raw(c->unmounted.holders, "[]"));
    ld_reply_object(call->req, 200, c->unmounted.state.record.version, json);
}

static void unmount(struct ld_request *req)
{
    struct container_call *c = new_call(req, LD_LANE_QUICK, run_unmount, reply_unmounted);
    struct ld_err err = LD_ERR_INIT;

    c->unmount.force = ld_request_flag(req, "force");
    c->unmount.sync = ld_request_flag(req, "sync");
    if (c->unmount.sync)
        c->call.op.lane = LD_LANE_STREAM; /* may wait for the disk */
    if (ld_members_only(ld_request_json(req), "", "", &err) < 0 ||
        ld_container_admit(c->call.core, ld_request_param(req, "container"), true, &c->call.op,
                           c->id, &err) < 0)
        return ld_call_refuse(&c->call, &err);
    ld_call_submit(&c->call);
}

void ld_routes_containers(struct ld_router *router)
{
    static const struct ld_route routes[] = {
        {"GET", "/v1/containers", list, LD_ROUTE_METADATA, "limit after filter*"},
        {"POST", "/v1/containers", post, LD_ROUTE_JSON, NULL},
        {"GET", "/v1/containers/{container}", inspect, LD_ROUTE_METADATA, "size?"},
        {"PUT", "/v1/containers/{container}", put, LD_ROUTE_JSON, NULL},
        {"PATCH", "/v1/containers/{container}", patch, LD_ROUTE_JSON, NULL},
        {"DELETE", "/v1/containers/{container}", remove_container, 0,
         "force? volumes? purge? dry_run?"},
        {"POST", "/v1/containers/{container}/mount", mount, LD_ROUTE_JSON_OPTIONAL, NULL},
        {"POST", "/v1/containers/{container}/bundle", bundle, LD_ROUTE_JSON_OPTIONAL, NULL},
        {"POST", "/v1/containers/{container}/unmount", unmount, LD_ROUTE_JSON_OPTIONAL,
         "force? sync?"},
    };

    ld_router_add(router, routes, LD_ARRAY_LEN(routes));
}
