/* GET /v1/containers/C/explain: why a path is as it is. */
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>

#include <cjson/cJSON.h>

#include "api/call.h"
#include "api/json.h"
#include "api/router.h"
#include "api/routes.h"
#include "daemon/base/mem.h"
#include "daemon/core/container.h"
#include "daemon/core/explain.h"
#include "daemon/core/image.h"

struct explain_call {
    struct ld_call call;
    char id[65];
    char *path;
    bool follow;
    struct ld_explain x;
};

static void free_call(struct ld_call *call)
{
    struct explain_call *c = (struct explain_call *)call;

    ld_explain_done(&c->x);
    free(c->path);
    free(c);
}

static int run(struct ld_call *call, struct ld_err *err)
{
    struct explain_call *c = (struct explain_call *)call;

    return ld_explain(call->core, c->id, c->path, c->follow, &call->op.cancel, &c->x, err);
}

static void add_size(cJSON *json, const struct stat *st)
{
    cJSON_AddItemToObject(json, "size",
                          ld_json_u64(S_ISREG(st->st_mode) ? (uint64_t)st->st_size : 0));
}

static cJSON *entry_json(const struct ld_explain *x)
{
    const struct stat *st = &x->st;
    char mode[5] = {(char)('0' + (st->st_mode >> 9 & 7)), (char)('0' + (st->st_mode >> 6 & 7)),
                    (char)('0' + (st->st_mode >> 3 & 7)), (char)('0' + (st->st_mode & 7)), '\0'};
    cJSON *json;

    if (!x->exists)
        return cJSON_CreateNull();
    json = cJSON_CreateObject();
    cJSON_AddStringToObject(json, "type", ld_json_file_type(st->st_mode));
    cJSON_AddStringToObject(json, "mode", mode);
    cJSON_AddItemToObject(json, "uid", ld_json_u64(st->st_uid));
    cJSON_AddItemToObject(json, "gid", ld_json_u64(st->st_gid));
    add_size(json, st);
    cJSON_AddItemToObject(json, "links", ld_json_u64(st->st_nlink));
    cJSON_AddItemToObject(json, "mtime", ld_json_timespec(&st->st_mtim));
    if (x->target)
        ld_json_add_bytes(json, "target", x->target);
    return json;
}

static cJSON *steps_json(const struct ld_explain *x)
{
    cJSON *list = cJSON_CreateArray();

    for (size_t i = 0; i < x->n_steps; i++) {
        cJSON *json = cJSON_CreateObject();

        ld_json_add_bytes(json, "path", x->step[i].path);
        ld_json_add_bytes(json, "target", x->step[i].target);
        cJSON_AddItemToArray(list, json);
    }
    return list;
}

static cJSON *snapshot_json(const struct ld_snapshot *s)
{
    cJSON *json;

    if (!s->id)
        return cJSON_CreateNull();
    json = cJSON_CreateObject();
    cJSON_AddStringToObject(json, "id", s->id);
    cJSON_AddItemToObject(json, "name", ld_json_text(s->name));
    cJSON_AddStringToObject(json, "container", s->owner_id);
    return json;
}

/* A layer by its number, with what tells where it comes from. */
static cJSON *layer_json(const struct ld_explain *x, size_t number)
{
    const struct ld_layer *layer;
    bool is_image = number <= x->n_image_layers;
    cJSON *json;

    if (number == 0)
        return cJSON_CreateNull();
    json = cJSON_CreateObject();
    cJSON_AddItemToObject(json, "number", ld_json_u64(number));
    if (number > x->n_layers) {
        cJSON_AddStringToObject(json, "kind", "writable");
        return json;
    }
    layer = &x->layer[number - 1];
    cJSON_AddStringToObject(json, "kind", is_image ? "image" : "snapshot");
    cJSON_AddItemToObject(json, "chain_id", ld_json_text(layer->chain_id));
    cJSON_AddItemToObject(json, "diff_id", ld_json_text(layer->diff_id));
    cJSON_AddStringToObject(json, "origin", ld_origin_name(layer->origin));
    cJSON_AddItemToObject(json, "created_by", ld_json_text(x->created_by[number - 1]));
    cJSON_AddItemToObject(json, "snapshot", snapshot_json(&x->snapshot[number - 1]));
    return json;
}

static const char *role_name(enum ld_trace_role role)
{
    switch (role) {
    case LD_TRACE_PROVIDES:
        return "provides";
    case LD_TRACE_MERGES:
        return "merges";
    case LD_TRACE_WHITEOUT:
        return "whiteout";
    case LD_TRACE_HIDDEN:
    case LD_TRACE_ABSENT: /* is not told */
        break;
    }
    return "hidden";
}

static const char *how_name(enum ld_hide_how how)
{
    switch (how) {
    case LD_HIDE_WHITEOUT:
        return "deleted";
    case LD_HIDE_OPAQUE:
        return "opaque";
    case LD_HIDE_REPLACED:
        break;
    }
    return "replaced";
}

static cJSON *hidden_json(const struct ld_explain *x, const struct ld_explain_layer *p)
{
    cJSON *json;

    if (!p->hidden_by)
        return cJSON_CreateNull();
    json = cJSON_CreateObject();
    cJSON_AddItemToObject(json, "layer", layer_json(x, p->hidden_by));
    ld_json_add_bytes(json, "path", p->hidden_at);
    cJSON_AddStringToObject(json, "how", how_name(p->how));
    return json;
}

static cJSON *parts_json(const struct ld_explain *x)
{
    cJSON *list = cJSON_CreateArray();

    for (size_t i = 0; i < x->n_parts; i++) {
        const struct ld_explain_layer *p = &x->part[i];
        bool is_whiteout = p->role == LD_TRACE_WHITEOUT;
        cJSON *json = cJSON_CreateObject();

        cJSON_AddItemToObject(json, "layer", layer_json(x, p->number));
        cJSON_AddStringToObject(json, "role", role_name(p->role));
        cJSON_AddItemToObject(json, "type",
                              is_whiteout ? cJSON_CreateNull()
                                          : cJSON_CreateString(ld_json_file_type(p->st.st_mode)));
        add_size(json, &p->st);
        cJSON_AddBoolToObject(json, "opaque", p->is_opaque);
        cJSON_AddItemToObject(json, "hidden_by", hidden_json(x, p));
        cJSON_AddItemToArray(list, json);
    }
    return list;
}

/* The topmost layer that takes the path away from one that has it. */
static cJSON *deleted_json(const struct ld_explain *x)
{
    for (size_t i = 0; !x->exists && x->place == LD_IN_CONTAINER && i < x->n_parts; i++) {
        if (x->part[i].hidden_by && x->part[i].role == LD_TRACE_HIDDEN)
            return hidden_json(x, &x->part[i]);
    }
    return cJSON_CreateNull();
}

static cJSON *mount_json(const struct ld_explain *x)
{
    static const char *const types[] = {NULL, "volume", "bind", "tmpfs", "other"};
    const char *path = x->missing ? x->missing : x->resolved;
    const char *inside;
    cJSON *json;

    if (x->place == LD_IN_CONTAINER)
        return cJSON_CreateNull();
    inside = path + strlen(x->mounted_at);
    json = cJSON_CreateObject();
    cJSON_AddStringToObject(json, "type", types[x->place]);
    ld_json_add_bytes(json, "target", x->mounted_at);
    ld_json_add_bytes(json, "path", *inside ? inside : "/");
    cJSON_AddItemToObject(json, "source", ld_json_text(x->mount ? x->mount->source : NULL));
    cJSON_AddItemToObject(json, "volume_id", ld_json_text(x->mount ? x->mount->volume_id : NULL));
    return json;
}

static cJSON *write_json(const struct ld_explain *x)
{
    cJSON *json;

    if (!x->exists)
        return cJSON_CreateNull();
    json = cJSON_CreateObject();
    cJSON_AddBoolToObject(json, "possible", x->can_write);
    cJSON_AddBoolToObject(json, "copies_up", x->copies);
    cJSON_AddItemToObject(json, "bytes", ld_json_u64(x->copy_bytes));
    cJSON_AddItemToObject(json, "directories", ld_json_u64(x->copy_parents));
    cJSON_AddBoolToObject(json, "breaks_links", x->breaks_links);
    return json;
}

static cJSON *image_json(const struct ld_container *c)
{
    autofree char *ref = c->image_ref ? ld_image_short_ref(c->image_ref) : NULL;
    cJSON *json = cJSON_CreateObject();

    cJSON_AddItemToObject(json, "id", ld_json_text(c->image_id));
    cJSON_AddItemToObject(json, "ref", ld_json_text(ref));
    return json;
}

static void reply(struct ld_call *call)
{
    const struct explain_call *c = (struct explain_call *)call;
    const struct ld_explain *x = &c->x;
    cJSON *json = cJSON_CreateObject();

    ld_json_add_bytes(json, "path", c->path);
    ld_json_add_bytes(json, "resolved", x->resolved);
    cJSON_AddItemToObject(json, "links_followed", steps_json(x));
    cJSON_AddBoolToObject(json, "exists", x->exists);
    if (x->missing)
        ld_json_add_bytes(json, "missing", x->missing);
    cJSON_AddBoolToObject(json, "loop", x->is_loop);
    cJSON_AddItemToObject(json, "entry", entry_json(x));
    cJSON_AddItemToObject(json, "image", image_json(&x->container));
    cJSON_AddItemToObject(json, "from", layer_json(x, x->provider));
    cJSON_AddItemToObject(json, "layers", parts_json(x));
    cJSON_AddItemToObject(json, "deleted_by", deleted_json(x));
    cJSON_AddItemToObject(json, "mount", mount_json(x));
    cJSON_AddItemToObject(json, "write", write_json(x));
    ld_reply_json(call->req, 200, json);
}

static void explain(struct ld_request *req)
{
    struct explain_call *c = ld_call_new(sizeof(*c), req, LD_LANE_COPY, run, reply, free_call);
    const char *path = ld_request_query(req, "path");
    struct ld_err err = LD_ERR_INIT;

    if (!path || path[0] != '/') {
        (void)ld_err_set(&err, LD_E_INVALID,
                         path ? "'path' is not absolute: '%s'" : "'path' is missing", path);
        (void)ld_err_details(&err, "{\"parameter\":\"path\"}");
        return ld_call_refuse(&c->call, &err);
    }
    c->path = ld_strdup(path);
    c->follow = ld_request_flag(req, "follow");
    if (ld_container_admit(c->call.core, ld_request_param(req, "container"), false, &c->call.op,
                           c->id, &err) < 0)
        return ld_call_refuse(&c->call, &err);
    ld_request_submit_tied(req, &c->call.op); /* of no use to a client that has gone */
}

void ld_routes_explain(struct ld_router *router)
{
    static const struct ld_route routes[] = {
        {"GET", "/v1/containers/{container}/explain", explain, LD_ROUTE_METADATA, "path follow?"},
    };

    ld_router_add(router, routes, LD_ARRAY_LEN(routes));
}
