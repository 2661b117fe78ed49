/* /v1/trash: what was removed and is not deleted yet. */
#include <stdlib.h>
#include <string.h>

#include <cjson/cJSON.h>

#include "api/call.h"
#include "api/dry_run.h"
#include "api/json.h"
#include "api/list.h"
#include "api/router.h"
#include "api/routes.h"
#include "daemon/base/fdio.h"
#include "daemon/base/mem.h"
#include "daemon/base/parse.h"
#include "daemon/core/core.h"
#include "daemon/core/image.h"
#include "daemon/core/trash.h"

struct trash_call {
    struct ld_call call;
    char *text; /* what is meant; NULL: everything */
    struct ld_removed removed;
    struct ld_trash trash; /* what is restored */
    char *name;            /* under another one; or NULL */
    struct ld_restored restored;
};

static void free_call(struct ld_call *call)
{
    struct trash_call *c = (struct trash_call *)call;

    free(c->text);
    free(c->name);
    ld_removed_done(&c->removed);
    ld_trash_done(&c->trash);
    ld_restored_done(&c->restored);
    free(c);
}

/* ---- list ---- */

struct trash_lister {
    struct ld_lister base;
    bool with_size;
};

static bool is_image(const struct ld_trash *t)
{
    return t->place == LD_PLACE_NONE;
}

/* As a user says it. */
static cJSON *name_json(const struct ld_trash *t, const char *name)
{
    autofree char *shown = name && is_image(t) ? ld_image_short_ref(name) : NULL;

    return ld_json_text(shown ? shown : name);
}

static void add_names(cJSON *json, const char *member, const struct ld_trash *t, char *const *names,
                      size_t n)
{
    cJSON *list = cJSON_AddArrayToObject(json, member);

    for (size_t i = 0; i < n; i++)
        cJSON_AddItemToArray(list, name_json(t, names[i]));
}

static cJSON *trash_json(const struct ld_trash *t, const struct ld_usage *usage)
{
    cJSON *json = cJSON_CreateObject();

    cJSON_AddItemToObject(json, "id", ld_json_text(t->owner_id));
    cJSON_AddStringToObject(json, "kind", t->kind);
    cJSON_AddItemToObject(json, "name", name_json(t, t->owner_name));
    if (is_image(t))
        add_names(json, "names", t, t->refs, t->n_refs);
    cJSON_AddItemToObject(json, "removed_at", ld_json_time(t->removed_ns));
    cJSON_AddItemToObject(json, "purge_at", ld_json_time(t->purge_ns));
    cJSON_AddItemToObject(json, "bytes", usage ? ld_json_u64(usage->bytes) : cJSON_CreateNull());
    cJSON_AddBoolToObject(json, "restorable", ld_trash_is_restorable(t));
    return json;
}

static bool has_name(const struct ld_trash *t, const char *glob)
{
    if (!is_image(t))
        return t->owner_name && ld_glob_matches(glob, t->owner_name);
    for (size_t i = 0; i < t->n_refs; i++) {
        autofree char *shown = ld_image_short_ref(t->refs[i]);

        if (ld_glob_matches(glob, shown) || ld_glob_matches(glob, t->refs[i]))
            return true;
    }
    return false;
}

static int list_page(struct ld_lister *lister, uint64_t after, size_t limit, struct ld_list *list,
                     uint64_t *ret_next, struct ld_err *err)
{
    const struct trash_lister *l = (struct trash_lister *)lister;
    struct ld_trash_page page LD_AUTO(ld_trash_page_done) = {.n = 0};
    struct ld_trash_query query = {
        .after = after, .limit = limit, .kind = ld_filter_get(&lister->filters, "kind")};
    const char *name = ld_filter_get(&lister->filters, "name");

    if (ld_store_trash_list(ld_core_store(lister->core), &query, &page, err) < 0)
        return -1;
    *ret_next = page.next;
    for (size_t i = 0; i < page.n; i++) {
        struct ld_usage usage;

        if (name && !has_name(&page.item[i], name))
            continue;
        if ((l->with_size && ld_trash_usage(lister->core, &page.item[i], NULL, &usage, err) < 0) ||
            ld_list_item(list, trash_json(&page.item[i], l->with_size ? &usage : NULL), err) < 0)
            return -1;
    }
    return 0;
}

static void list(struct ld_request *req)
{
    struct trash_lister *l = ld_new(struct trash_lister);

    l->base.page = list_page;
    l->with_size = ld_request_flag(req, "size");
    ld_reply_list(req, &l->base, "kind name");
}

/* ---- delete ---- */

static int run_purge(struct ld_call *call, struct ld_err *err)
{
    struct trash_call *c = (struct trash_call *)call;

    return ld_trash_purge(call->core, &call->w, c->text, &call->op.cancel, &c->removed, err);
}

static void reply_purged(struct ld_call *call)
{
    struct trash_call *c = (struct trash_call *)call;

    if (call->w.dry_run)
        ld_reply_json(call->req, 200, ld_dry_run_json(&c->removed));
    else
        ld_reply_empty(call->req, 204);
}

static void purge(struct ld_request *req, const char *text)
{
    struct trash_call *c = ld_call_new(sizeof(struct trash_call), req, LD_LANE_QUICK, run_purge,
                                       reply_purged, free_call);

    c->text = text ? ld_strdup(text) : NULL;
    ld_call_dry_run(&c->call);
    ld_call_submit(&c->call);
}

static void purge_all(struct ld_request *req)
{
    purge(req, NULL);
}

static void purge_one(struct ld_request *req)
{
    purge(req, ld_request_param(req, "trash"));
}

/* ---- restore ---- */

static int run_restore(struct ld_call *call, struct ld_err *err)
{
    struct trash_call *c = (struct trash_call *)call;

    return ld_trash_restore(call->core, &call->w, &c->trash, c->name, &c->restored, err);
}

static void reply_restored(struct ld_call *call)
{
    struct trash_call *c = (struct trash_call *)call;
    const struct ld_restored *r = &c->restored;
    const char *name = c->name ? c->name : c->trash.owner_name;
    cJSON *json = cJSON_CreateObject();

    if (is_image(&c->trash))
        name = r->n_refs > 0 ? r->refs[0] : NULL;
    cJSON_AddStringToObject(json, "kind", c->trash.kind);
    cJSON_AddStringToObject(json, "id", c->trash.owner_id);
    cJSON_AddItemToObject(json, "name", name_json(&c->trash, name));
    if (is_image(&c->trash)) {
        add_names(json, "names", &c->trash, r->refs, r->n_refs);
        add_names(json, "names_taken", &c->trash, r->taken, r->n_taken);
    }
    ld_reply_json(call->req, 200, json);
}

static void restore(struct ld_request *req)
{
    struct trash_call *c = ld_call_new(sizeof(struct trash_call), req, LD_LANE_QUICK, run_restore,
                                       reply_restored, free_call);
    const cJSON *body = ld_request_json(req);
    const char *name = NULL;
    struct ld_err err = LD_ERR_INIT;

    if (ld_members_only(body, "", "name", &err) < 0 ||
        ld_member_string(body, "", "name", &name, &err) < 0 ||
        ld_trash_admit(c->call.core, ld_request_param(req, "trash"), name, &c->call.op, &c->trash,
                       &err) < 0)
        return ld_call_refuse(&c->call, &err);
    c->name = name ? ld_strdup(name) : NULL;
    ld_call_submit(&c->call);
}

void ld_routes_trash(struct ld_router *router)
{
    static const struct ld_route routes[] = {
        {"GET", "/v1/trash", list, LD_ROUTE_METADATA, "limit after filter* size?"},
        {"DELETE", "/v1/trash", purge_all, 0, "dry_run?"},
        {"DELETE", "/v1/trash/{trash}", purge_one, 0, "dry_run?"},
        {"POST", "/v1/trash/{trash}/restore", restore, LD_ROUTE_JSON_OPTIONAL, NULL},
    };

    ld_router_add(router, routes, LD_ARRAY_LEN(routes));
}
