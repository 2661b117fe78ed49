/* POST /v1/{images,containers,volumes}/prune: what nobody uses is removed. */
#include <stdlib.h>
#include <string.h>

#include <cjson/cJSON.h>

#include "api/call.h"
#include "api/dry_run.h"
#include "api/json.h"
#include "api/list.h"
#include "api/router.h"
#include "api/routes.h"
#include "api/work.h"
#include "daemon/base/mem.h"
#include "daemon/core/image.h"
#include "daemon/core/prune.h"

struct prune {
    struct ld_work work;
    struct ld_filters filters;
    struct ld_prune what;
    bool is_dry;
};

/* Objects looked at; how many there are is not known. */
static void tell(void *arg, const char *id, uint64_t looked_at)
{
    struct prune *p = arg;

    (void)id;
    ld_work_tell(&p->work, "prune", NULL, looked_at, 0);
}

static cJSON *failure_json(const struct prune *p, const struct ld_prune_failure *f)
{
    static const char *const kinds[] = {[LD_PRUNE_IMAGES] = "image",
                                        [LD_PRUNE_CONTAINERS] = "container",
                                        [LD_PRUNE_VOLUMES] = "volume"};
    bool is_image = p->what.kind == LD_PRUNE_IMAGES;
    autofree char *shown = is_image && f->name ? ld_image_short_ref(f->name) : NULL;
    cJSON *json = cJSON_CreateObject();

    cJSON_AddStringToObject(json, "kind", kinds[p->what.kind]);
    cJSON_AddStringToObject(json, "id", f->id);
    cJSON_AddItemToObject(json, "name", ld_json_text(shown ? shown : f->name));
    cJSON_AddStringToObject(json, "code", ld_code_name(f->code));
    cJSON_AddStringToObject(json, "message", f->message);
    return json;
}

static cJSON *pruned_json(const struct prune *p, const struct ld_pruned *pruned)
{
    cJSON *json = cJSON_CreateObject();
    cJSON *failed;

    cJSON_AddItemToObject(json, p->is_dry ? "would_remove" : "removed",
                          ld_removed_objects_json(&pruned->removed));
    cJSON_AddItemToObject(json, "objects", ld_json_u64(pruned->objects));
    cJSON_AddItemToObject(json, "bytes", ld_json_u64(pruned->bytes));
    cJSON_AddItemToObject(json, "trash_bytes", ld_json_u64(pruned->trash_bytes));
    failed = cJSON_AddArrayToObject(json, "failed");
    for (size_t i = 0; i < pruned->n_failures; i++)
        cJSON_AddItemToArray(failed, failure_json(p, &pruned->failure[i]));
    cJSON_AddBoolToObject(json, "truncated", pruned->is_cut);
    return json;
}

static int run(struct ld_work *work, struct ld_err *err)
{
    struct prune *p = (struct prune *)work;
    LD_AUTO(ld_pruned_done) struct ld_pruned pruned = {.objects = 0};
    struct ld_write w = work->w; /* the job is recorded in any case */

    w.dry_run = p->is_dry;
    p->what.cancel = work->cancel;
    if (ld_prune_run(work->core, &w, &p->what, &pruned, err) < 0)
        return -1;
    work->result = pruned_json(p, &pruned);
    return 0;
}

static void free_prune(struct ld_work *work)
{
    ld_filters_done(&((struct prune *)work)->filters);
}

static const struct ld_work_kind kinds[] = {
    [LD_PRUNE_IMAGES] = {.name = "image.prune",
                         .size = sizeof(struct prune),
                         .lane = LD_LANE_STREAM,
                         .frees_space = true,
                         .run = run,
                         .free = free_prune},
    [LD_PRUNE_CONTAINERS] = {.name = "container.prune",
                             .size = sizeof(struct prune),
                             .lane = LD_LANE_STREAM,
                             .frees_space = true,
                             .run = run,
                             .free = free_prune},
    [LD_PRUNE_VOLUMES] = {.name = "volume.prune",
                          .size = sizeof(struct prune),
                          .lane = LD_LANE_STREAM,
                          .frees_space = true,
                          .run = run,
                          .free = free_prune},
};

/* ---- the request ---- */

static int read_filters(struct prune *p, struct ld_request *req, struct ld_err *err)
{
    bool is_image = p->what.kind == LD_PRUNE_IMAGES;
    int dangling = 0;

    if (ld_members_only(ld_request_json(req), "", "", err) < 0 ||
        ld_filters_read(req, is_image ? "dangling label until" : "label until", &p->filters, err) <
            0 ||
        ld_filter_bool(&p->filters, "dangling", &dangling, err) < 0 ||
        ld_filter_until(&p->filters, &p->what.until_ns, err) < 0)
        return -1;
    if (is_image)
        p->what.all = dangling < 0;
    p->what.labels = p->filters.label;
    p->what.n_labels = p->filters.n_labels;
    return 0;
}

static void start(struct prune *p, struct ld_request *req, enum ld_prune_kind kind)
{
    struct ld_err err = LD_ERR_INIT;

    p->what.kind = kind;
    p->what.progress = tell;
    p->what.progress_arg = p;
    p->is_dry = ld_request_flag(req, "dry_run");
    if (read_filters(p, req, &err) < 0)
        return ld_work_refuse(&p->work, req, &err);
    ld_work_start(&p->work, req);
}

static void prune_images(struct ld_request *req)
{
    struct prune *p = ld_work_new(&kinds[LD_PRUNE_IMAGES], req);

    p->what.purge = ld_request_flag(req, "purge");
    start(p, req, LD_PRUNE_IMAGES);
}

static void prune_containers(struct ld_request *req)
{
    struct prune *p = ld_work_new(&kinds[LD_PRUNE_CONTAINERS], req);

    p->what.volumes = ld_request_flag(req, "volumes");
    p->what.purge = ld_request_flag(req, "purge");
    start(p, req, LD_PRUNE_CONTAINERS);
}

static void prune_volumes(struct ld_request *req)
{
    struct prune *p = ld_work_new(&kinds[LD_PRUNE_VOLUMES], req);

    p->what.all = ld_request_flag(req, "all");
    p->what.purge = ld_request_flag(req, "purge");
    start(p, req, LD_PRUNE_VOLUMES);
}

void ld_routes_prune(struct ld_router *router)
{
    static const struct ld_route routes[] = {
        {"POST", "/v1/images/prune", prune_images, LD_ROUTE_JSON_OPTIONAL,
         "filter* purge? dry_run?"},
        {"POST", "/v1/containers/prune", prune_containers, LD_ROUTE_JSON_OPTIONAL,
         "filter* volumes? purge? dry_run?"},
        {"POST", "/v1/volumes/prune", prune_volumes, LD_ROUTE_JSON_OPTIONAL,
         "filter* all? purge? dry_run?"},
    };

    ld_router_add(router, routes, LD_ARRAY_LEN(routes));
}
