/* /v1/images: list, inspect, history, tag, mount, unmount, delete. The import is in image_import.c.
 */
#include <stdlib.h>
#include <string.h>

#include <cjson/cJSON.h>

#include "api/call.h"
#include "api/dry_run.h"
#include "api/image_json.h"
#include "api/json.h"
#include "api/list.h"
#include "api/router.h"
#include "api/routes.h"
#include "daemon/base/mem.h"
#include "daemon/base/parse.h"
#include "daemon/core/core.h"
#include "daemon/core/image.h"
#include "daemon/core/image_mount.h"
#include "daemon/core/target.h"

struct image_call {
    struct ld_call call;
    char *text; /* the image as it was asked for */
    char *ref;  /* of a tag */
    struct ld_mount_target target;
    char *target_path;
    char *id;
    uint64_t if_match;
    struct ld_removed removed;
    cJSON *json;      /* the reply; NULL: none */
    uint64_t version; /* of what it shows; 0: it has none */
    bool force, purge;
};

static void free_call(struct ld_call *call)
{
    struct image_call *c = (struct image_call *)call;

    free(c->text);
    free(c->ref);
    free(c->target_path);
    free(c->id);
    ld_removed_done(&c->removed);
    cJSON_Delete(c->json);
    free(c);
}

static struct image_call *new_call(struct ld_request *req,
                                   int (*run)(struct ld_call *, struct ld_err *),
                                   void (*reply)(struct ld_call *))
{
    struct image_call *c = ld_call_new(sizeof(*c), req, LD_LANE_QUICK, run, reply, free_call);

    c->text = ld_strdup(ld_request_param(req, "image"));
    return c;
}

static void reply_image(struct ld_call *call)
{
    struct image_call *c = (struct image_call *)call;

    if (c->version)
        ld_reply_object(call->req, 200, c->version, ld_steal(&c->json));
    else
        ld_reply_json(call->req, 200, ld_steal(&c->json));
}

static int render(struct image_call *c,
                  cJSON *(*json)(struct ld_core *, const struct ld_image *, struct ld_err *),
                  struct ld_err *err)
{
    struct ld_image image LD_AUTO(ld_image_done) = {.id = NULL};

    if (c->id ? ld_store_image_get(ld_core_store(c->call.core), c->id, &image, err) < 0
              : ld_image_find(c->call.core, c->text, &image, err) < 0)
        return -1;
    c->json = json(c->call.core, &image, err);
    if (json == ld_image_json)
        c->version = image.version;
    return c->json ? 0 : -1;
}

static int run_inspect(struct ld_call *call, struct ld_err *err)
{
    return render((struct image_call *)call, ld_image_json, err);
}

static void inspect(struct ld_request *req)
{
    ld_call_submit(&new_call(req, run_inspect, reply_image)->call);
}

static int run_history(struct ld_call *call, struct ld_err *err)
{
    return render((struct image_call *)call, ld_image_history_json, err);
}

static void history(struct ld_request *req)
{
    ld_call_submit(&new_call(req, run_history, reply_image)->call);
}

/* ---- list ---- */

static bool passes(const struct ld_filters *f, const struct ld_image *image, const cJSON *json)
{
    const char *glob = ld_filter_get(f, "name");
    const cJSON *labels = cJSON_GetObjectItemCaseSensitive(json, "labels");
    bool named = !glob;

    for (size_t i = 0; !named && i < image->n_refs; i++) {
        autofree char *shown = ld_image_short_ref(image->refs[i]);

        named = ld_glob_matches(glob, shown) || ld_glob_matches(glob, image->refs[i]);
    }
    for (size_t i = 0; i < f->n_labels; i++) {
        const char *value =
            cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(labels, f->label[i].key));

        if (!value || (f->label[i].value && strcmp(value, f->label[i].value) != 0))
            return false;
    }
    return named;
}

static int list_page(struct ld_lister *lister, uint64_t after, size_t limit, struct ld_list *list,
                     uint64_t *ret_next, struct ld_err *err)
{
    struct ld_image_page page LD_AUTO(ld_image_page_done) = {.n = 0};
    struct ld_image_query query = {.after = after, .limit = limit};

    if (ld_filter_bool(&lister->filters, "dangling", &query.dangling, err) < 0 ||
        ld_filter_until(&lister->filters, &query.until_ns, err) < 0 ||
        ld_store_image_list(ld_core_store(lister->core), &query, &page, err) < 0)
        return -1;
    *ret_next = page.next;
    for (size_t i = 0; i < page.n; i++) {
        cJSON *json = ld_image_summary_json(lister->core, &page.item[i], err);

        if (!json && err->code == LD_E_NOT_FOUND)
            continue; /* removed since the page was read */
        if (!json)
            return -1;
        if (!passes(&lister->filters, &page.item[i], json))
            cJSON_Delete(json);
        else if (ld_list_item(list, json, err) < 0)
            return -1;
    }
    return 0;
}

static void list(struct ld_request *req)
{
    struct ld_lister *l = ld_new(struct ld_lister);

    l->page = list_page;
    ld_reply_list(req, l, "name label dangling until");
}

/* ---- tag, delete ---- */

static int admit(struct image_call *c, struct ld_err *err)
{
    struct ld_image image LD_AUTO(ld_image_done) = {.id = NULL};

    if (ld_image_admit(c->call.core, c->text, true, &c->call.op, &image, err) < 0)
        return -1;
    c->id = ld_steal(&image.id);
    return ld_request_if_match(c->call.req, &c->if_match, err);
}

static int run_tag(struct ld_call *call, struct ld_err *err)
{
    struct image_call *c = (struct image_call *)call;

    if (ld_image_tag(call->core, &call->w, c->id, c->ref, c->if_match, err) < 0)
        return -1;
    return render(c, ld_image_json, err);
}

static int tag_again(struct ld_call *call, const struct ld_once_object *made, struct ld_err *err)
{
    struct image_call *c = (struct image_call *)call;

    free(c->id);
    c->id = ld_strdup(made->id);
    return render(c, ld_image_json, err);
}

static void tag(struct ld_request *req)
{
    struct image_call *c = new_call(req, run_tag, reply_image);
    struct ld_err err = LD_ERR_INIT;
    const char *ref = NULL;

    if (ld_call_once(&c->call, tag_again))
        return;
    if (ld_members_only(ld_request_json(req), "", "ref", &err) < 0 ||
        ld_member_string(ld_request_json(req), "", "ref", &ref, &err) < 0)
        return ld_call_refuse(&c->call, &err);
    if (!ref) {
        (void)ld_err_set(&err, LD_E_INVALID, "'ref' is missing");
        return ld_call_refuse(&c->call, &err);
    }
    c->ref = ld_strdup(ref);
    if (admit(c, &err) < 0)
        return ld_call_refuse(&c->call, &err);
    ld_op_key(&c->call.op, LD_EXCLUSIVE, "r:%s", ref);
    ld_call_submit(&c->call);
}

static int run_delete(struct ld_call *call, struct ld_err *err)
{
    struct image_call *c = (struct image_call *)call;
    struct ld_image_removal how = {.force = c->force, .purge = c->purge, .if_match = c->if_match};

    if (ld_image_remove(call->core, &call->w, c->text, &how, &c->removed, err) < 0)
        return -1;
    return c->removed.is_removed || call->w.dry_run ? 0 : render(c, ld_image_json, err);
}

static void reply_deleted(struct ld_call *call)
{
    struct image_call *c = (struct image_call *)call;

    if (call->w.dry_run)
        ld_reply_json(call->req, 200, ld_dry_run_json(&c->removed));
    else if (c->json)
        reply_image(call);
    else
        ld_reply_empty(call->req, 204);
}

static void remove_image(struct ld_request *req)
{
    struct image_call *c = new_call(req, run_delete, reply_deleted);
    struct ld_err err = LD_ERR_INIT;

    c->force = ld_request_flag(req, "force");
    c->purge = ld_request_flag(req, "purge");
    ld_call_dry_run(&c->call);
    if (admit(c, &err) < 0)
        return ld_call_refuse(&c->call, &err);
    ld_call_submit(&c->call);
}

/* ---- mount, unmount ---- */

static int run_mount(struct ld_call *call, struct ld_err *err)
{
    struct image_call *c = (struct image_call *)call;

    if (ld_image_mount(call->core, &call->w, c->id, c->target.path ? &c->target : NULL, err) < 0)
        return -1;
    return render(c, ld_image_json, err);
}

static int read_target(struct image_call *c, const cJSON *body, struct ld_err *err)
{
    const char *path = NULL;

    if (ld_members_only(body, "", "target trusted", err) < 0 ||
        ld_member_string(body, "", "target", &path, err) < 0 ||
        ld_member_bool(body, "", "trusted", &c->target.is_trusted, err) < 0)
        return -1;
    if (!path)
        return c->target.is_trusted ? ld_err_set(err, LD_E_INVALID, "'trusted' needs a 'target'")
                                    : 0;
    c->target.path = c->target_path = ld_strdup(path);
    return ld_mount_target_check(path, err);
}

static int admit_alone(struct image_call *c, struct ld_err *err)
{
    struct ld_image image LD_AUTO(ld_image_done) = {.id = NULL};

    if (ld_image_admit(c->call.core, c->text, true, &c->call.op, &image, err) < 0)
        return -1;
    c->id = ld_steal(&image.id);
    return 0;
}

static void mount(struct ld_request *req)
{
    struct image_call *c = new_call(req, run_mount, reply_image);
    struct ld_err err = LD_ERR_INIT;

    if (read_target(c, ld_request_json(req), &err) < 0 || admit_alone(c, &err) < 0)
        return ld_call_refuse(&c->call, &err);
    ld_call_submit(&c->call);
}

static int run_unmount(struct ld_call *call, struct ld_err *err)
{
    struct image_call *c = (struct image_call *)call;

    if (ld_image_unmount(call->core, &call->w, c->id, c->force, err) < 0)
        return -1;
    return render(c, ld_image_json, err);
}

static void unmount(struct ld_request *req)
{
    struct image_call *c = new_call(req, run_unmount, reply_image);
    struct ld_err err = LD_ERR_INIT;

    c->force = ld_request_flag(req, "force");
    if (ld_members_only(ld_request_json(req), "", "", &err) < 0 || admit_alone(c, &err) < 0)
        return ld_call_refuse(&c->call, &err);
    ld_call_submit(&c->call);
}

/* ---- layers ---- */

static int layer_page(struct ld_lister *lister, uint64_t after, size_t limit, struct ld_list *list,
                      uint64_t *ret_next, struct ld_err *err)
{
    struct ld_layer_page page LD_AUTO(ld_layer_page_done) = {.n = 0};

    if (ld_store_layer_list(ld_core_store(lister->core), after, limit, &page, err) < 0)
        return -1;
    *ret_next = page.next;
    for (size_t i = 0; i < page.n; i++) {
        cJSON *json = ld_layer_json(lister->core, &page.item[i], false, err);

        if (!json && err->code == LD_E_NOT_FOUND)
            continue; /* removed since the page was read */
        if (!json || ld_list_item(list, json, err) < 0)
            return -1;
    }
    return 0;
}

static void list_layers(struct ld_request *req)
{
    struct ld_lister *l = ld_new(struct ld_lister);

    l->page = layer_page;
    ld_reply_list(req, l, "");
}

static int run_layer(struct ld_call *call, struct ld_err *err)
{
    struct image_call *c = (struct image_call *)call;
    struct ld_layer layer LD_AUTO(ld_layer_done) = {.sid = 0};

    if (ld_layer_find(call->core, c->text, &layer, err) < 0)
        return -1;
    c->json = ld_layer_json(call->core, &layer, true, err);
    return c->json ? 0 : -1;
}

static void inspect_layer(struct ld_request *req)
{
    struct image_call *c =
        ld_call_new(sizeof(*c), req, LD_LANE_QUICK, run_layer, reply_image, free_call);

    c->text = ld_strdup(ld_request_param(req, "layer"));
    ld_call_submit(&c->call);
}

void ld_routes_images(struct ld_router *router)
{
    static const struct ld_route routes[] = {
        {"GET", "/v1/images", list, LD_ROUTE_METADATA, "limit after filter*"},
        {"GET", "/v1/images/{image...}", inspect, LD_ROUTE_METADATA, NULL},
        {"DELETE", "/v1/images/{image...}", remove_image, 0, "force? purge? dry_run?"},
        {"POST", "/v1/images/{image...}/tag", tag, LD_ROUTE_JSON, NULL},
        {"GET", "/v1/images/{image...}/history", history, LD_ROUTE_METADATA, NULL},
        {"POST", "/v1/images/{image...}/mount", mount, LD_ROUTE_JSON_OPTIONAL, NULL},
        {"POST", "/v1/images/{image...}/unmount", unmount, LD_ROUTE_JSON_OPTIONAL, "force?"},
        {"GET", "/v1/layers", list_layers, LD_ROUTE_METADATA, "limit after"},
        {"GET", "/v1/layers/{layer}", inspect_layer, LD_ROUTE_METADATA, NULL},
    };

    ld_router_add(router, routes, LD_ARRAY_LEN(routes));
}
