/* /v1, /v1/info, /v1/df: what the daemon is and what it takes. */
#include <stdlib.h>
#include <string.h>

#include <cjson/cJSON.h>

#include "api/call.h"
#include "api/json.h"
#include "api/router.h"
#include "api/routes.h"
#include "api/server.h"
#include "daemon/base/mem.h"
#include "daemon/core/config.h"
#include "daemon/core/core.h"
#include "daemon/core/disk_use.h"
#include "daemon/core/image.h"
#include "daemon/core/info.h"
#include "daemon/image/oci.h"

struct system_call {
    struct ld_call call;
    struct ld_info info;
    cJSON *json;
    bool verify;
};

static void free_call(struct ld_call *call)
{
    struct system_call *c = (struct system_call *)call;

    cJSON_Delete(c->json);
    free(c);
}

static void reply_json(struct ld_call *call)
{
    struct system_call *c = (struct system_call *)call;

    ld_reply_json(call->req, 200, ld_steal(&c->json));
}

static void version(struct ld_request *req)
{
    cJSON *json = cJSON_CreateObject();

    cJSON_AddStringToObject(json, "name", "layerd");
    cJSON_AddStringToObject(json, "version", LD_VERSION);
    cJSON_AddStringToObject(json, "api", "v1");
    cJSON_AddArrayToObject(json, "features");
    ld_reply_json(req, 200, json);
}

/* ---- info ---- */

static cJSON *driver_json(const struct ld_driver_info *d)
{
    cJSON *json = cJSON_CreateObject();
    cJSON *capabilities;

    cJSON_AddStringToObject(json, "name", d->name);
    cJSON_AddBoolToObject(json, "usable", d->is_usable);
    cJSON_AddBoolToObject(json, "default", d->is_default);
    cJSON_AddItemToObject(json, "reason", ld_json_text(d->reason));
    cJSON_AddItemToObject(json, "hint", ld_json_text(d->hint));
    capabilities = cJSON_AddArrayToObject(json, "capabilities");
    if (d->upper_is_layer)
        cJSON_AddItemToArray(capabilities, cJSON_CreateString("upper_is_layer"));
    if (d->copies)
        cJSON_AddItemToArray(capabilities, cJSON_CreateString("copies"));
    if (d->quota)
        cJSON_AddItemToArray(capabilities, cJSON_CreateString("quota"));
    return json;
}

static cJSON *limits_json(const struct ld_config *config)
{
    const struct {
        const char *name;
        uint64_t value;
    } limits[] = {
        {"body_bytes", LD_MAX_BODY},
        {"json_depth", 32},
        {"manifest_bytes", LD_OCI_MAX_DOCUMENT},
        {"layer_entries", config->import.entries},
        {"layer_bytes", config->import.layer_bytes},
        {"ratio", config->import.ratio},
        {"ratio_from", config->import.ratio_from},
        {"labels", 64},
        {"label_bytes", 4096},
        {"mounts", 64},
        {"layers", LD_MAX_LAYERS},
        {"uploads", LD_MAX_UPLOADS},
        {"downloads", LD_MAX_DOWNLOADS},
        {"connections", LD_MAX_CONNECTIONS},
        {"decoder_memory", config->import.decoder_memory},
    };
    cJSON *json = cJSON_CreateObject();

    for (size_t i = 0; i < LD_ARRAY_LEN(limits); i++)
        cJSON_AddItemToObject(json, limits[i].name, ld_json_u64(limits[i].value));
    return json;
}

static cJSON *counts_json(const struct ld_info *info)
{
    cJSON *json = cJSON_CreateObject();

    cJSON_AddItemToObject(json, "images", ld_json_u64(info->sums.images));
    cJSON_AddItemToObject(json, "layers", ld_json_u64(info->sums.layers));
    cJSON_AddItemToObject(json, "containers", ld_json_u64(info->sums.containers));
    cJSON_AddItemToObject(json, "mounted", ld_json_u64(info->mounted));
    cJSON_AddItemToObject(json, "volumes", ld_json_u64(info->sums.volumes));
    cJSON_AddItemToObject(json, "jobs_running", ld_json_u64(info->jobs_running));
    return json;
}

static cJSON *paths_json(const struct ld_config *config, const struct ld_info *info)
{
    cJSON *json = cJSON_CreateObject();
    autofree char *mounts = ld_asprintf("%s/mnt", info->run_root);
    bool has_path = strncmp(config->host, "unix://", 7) == 0;

    cJSON_AddItemToObject(json, "data_root", ld_json_text(info->data_root));
    cJSON_AddItemToObject(json, "run_root", ld_json_text(info->run_root));
    cJSON_AddItemToObject(json, "mounts", ld_json_text(mounts));
    cJSON_AddItemToObject(json, "socket", ld_json_text(has_path ? config->host + 7 : NULL));
    return json;
}

static cJSON *quota_json(const struct ld_info *info)
{
    cJSON *json = cJSON_CreateObject();

    cJSON_AddBoolToObject(json, "usable", info->no_quota == NULL);
    cJSON_AddItemToObject(json, "reason", ld_json_text(info->no_quota));
    cJSON_AddItemToObject(json, "hint", ld_json_text(info->no_quota_hint));
    return json;
}

static cJSON *backings_json(const struct ld_info *info)
{
    cJSON *json = cJSON_CreateArray();

    for (size_t i = 0; i < info->n_backings; i++) {
        const struct ld_backing_info *b = &info->backing[i];
        cJSON *item = cJSON_CreateObject();

        cJSON_AddItemToObject(item, "name", ld_json_text(b->name));
        cJSON_AddBoolToObject(item, "usable", b->is_usable);
        cJSON_AddItemToObject(item, "reason", ld_json_text(b->reason));
        cJSON_AddItemToObject(item, "hint", ld_json_text(b->hint));
        cJSON_AddItemToArray(json, item);
    }
    return json;
}

static cJSON *warnings_json(const struct ld_info *info)
{
    cJSON *json = cJSON_CreateArray();

    if (info->refusal)
        cJSON_AddItemToArray(json, ld_json_text(info->refusal));
    if (info->not_limited) {
        autofree char *text =
            ld_asprintf("%llu containers and volumes are not held to their limits: the log says "
                        "which, and why",
                        (unsigned long long)info->not_limited);

        cJSON_AddItemToArray(json, ld_json_text(text));
    }
    for (size_t i = 0; i < info->n_drivers; i++) {
        if (info->driver[i].is_default && info->driver[i].copies) {
            autofree char *text =
                ld_asprintf("the storage driver '%s' copies the whole image for each container",
                            info->driver[i].name);

            cJSON_AddItemToArray(json, ld_json_text(text));
        }
    }
    return json;
}

static int run_info(struct ld_call *call, struct ld_err *err)
{
    struct system_call *c = (struct system_call *)call;
    const struct ld_config *config = ld_core_config(call->core);
    const struct ld_info *info = &c->info;
    struct ld_oci_platform platform;
    cJSON *json, *storage, *drivers;

    if (ld_info_get(call->core, &c->info, err) < 0)
        return -1;
    ld_oci_platform_of(info->machine, &platform);
    json = c->json = cJSON_CreateObject();
    cJSON_AddStringToObject(json, "version", LD_VERSION);
    cJSON_AddItemToObject(json, "instance", ld_json_text(info->instance));
    cJSON_AddItemToObject(json, "kernel", ld_json_text(info->kernel));
    cJSON_AddItemToObject(json, "architecture", ld_json_text(platform.arch));
    cJSON_AddItemToObject(json, "started_at", ld_json_time(info->started_ns));
    storage = cJSON_AddObjectToObject(json, "storage");
    cJSON_AddItemToObject(storage, "filesystem", ld_json_text(info->filesystem));
    cJSON_AddItemToObject(storage, "size", ld_json_u64(info->size));
    cJSON_AddItemToObject(storage, "available", ld_json_u64(info->available));
    cJSON_AddItemToObject(storage, "inodes_available", ld_json_u64(info->inodes_available));
    cJSON_AddItemToObject(storage, "quota", quota_json(info));
    drivers = cJSON_AddArrayToObject(json, "drivers");
    for (size_t i = 0; i < info->n_drivers; i++)
        cJSON_AddItemToArray(drivers, driver_json(&info->driver[i]));
    cJSON_AddItemToObject(json, "backings", backings_json(info));
    cJSON_AddItemToObject(json, "limits", limits_json(config));
    cJSON_AddItemToObject(json, "counts", counts_json(info));
    cJSON_AddItemToObject(json, "paths", paths_json(config, info));
    cJSON_AddItemToObject(json, "warnings", warnings_json(info));
    return 0;
}

static void info(struct ld_request *req)
{
    struct system_call *c =
        ld_call_new(sizeof(*c), req, LD_LANE_QUICK, run_info, reply_json, free_call);

    ld_call_submit(&c->call);
}

/* ---- df ---- */

static cJSON *usage_count(size_t count, const struct ld_usage *usage)
{
    cJSON *json = ld_json_usage(usage);

    cJSON_AddItemToObject(json, "count", ld_json_u64(count));
    return json;
}

static cJSON *layers_json(const struct ld_disk_use *use)
{
    const struct ld_store_sums *s = &use->sums;
    cJSON *json = cJSON_CreateObject();

    cJSON_AddItemToObject(json, "count", ld_json_u64(s->layers));
    cJSON_AddItemToObject(json, "bytes", ld_json_u64(s->layer_bytes));
    cJSON_AddItemToObject(json, "inodes", ld_json_u64(s->layer_inodes));
    cJSON_AddItemToObject(json, "shared", ld_json_u64(s->shared_bytes));
    cJSON_AddItemToObject(json, "unique",
                          ld_json_u64(s->layer_bytes - s->shared_bytes - s->unused_bytes));
    cJSON_AddItemToObject(json, "unused", ld_json_u64(s->unused_bytes));
    return json;
}

static int add_image(struct ld_core *core, const struct ld_image_usage *usage, cJSON *list,
                     struct ld_err *err)
{
    struct ld_image image LD_AUTO(ld_image_done) = {.id = NULL};
    struct ld_users users LD_AUTO(ld_users_done) = {.n = 0};
    cJSON *json, *refs;

    if (ld_store_image_get(ld_core_store(core), usage->id, &image, err) < 0 ||
        ld_store_image_users(ld_core_store(core), usage->id, &users, err) < 0)
        return err->code == LD_E_NOT_FOUND ? 0 : -1; /* removed meanwhile */
    json = cJSON_CreateObject();
    cJSON_AddStringToObject(json, "id", usage->id);
    refs = cJSON_AddArrayToObject(json, "refs");
    for (size_t i = 0; i < image.n_refs; i++) {
        autofree char *shown = ld_image_short_ref(image.refs[i]);

        cJSON_AddItemToArray(refs, ld_json_text(shown));
    }
    cJSON_AddItemToObject(json, "size", ld_json_u64(usage->shared + usage->unique));
    cJSON_AddItemToObject(json, "shared", ld_json_u64(usage->shared));
    cJSON_AddItemToObject(json, "unique", ld_json_u64(usage->unique));
    cJSON_AddItemToObject(json, "containers", ld_json_u64(users.n));
    cJSON_AddItemToArray(list, json);
    return 0;
}

static int add_images(struct ld_core *core, cJSON *list, struct ld_err *err)
{
    uint64_t after = 0;

    do {
        struct ld_image_usage_page page LD_AUTO(ld_image_usage_page_done) = {.n = 0};

        if (ld_store_image_usages(ld_core_store(core), after, 0, &page, err) < 0)
            return -1;
        for (size_t i = 0; i < page.n; i++) {
            if (add_image(core, &page.item[i], list, err) < 0)
                return -1;
        }
        after = page.next;
    } while (after);
    return 0;
}

static int add_check(struct system_call *c, const struct ld_disk_use *use, struct ld_err *err)
{
    struct ld_disk_check check LD_AUTO(ld_disk_check_done) = {.n_surprises = 0};
    cJSON *json, *list;

    if (ld_disk_check(c->call.core, use, &c->call.op.cancel, &check, err) < 0)
        return -1;
    json = cJSON_AddObjectToObject(c->json, "verified");
    cJSON_AddItemToObject(json, "bytes", ld_json_u64(check.found.bytes));
    cJSON_AddItemToObject(json, "inodes", ld_json_u64(check.found.inodes));
    cJSON_AddItemToObject(json, "unknown", ld_json_usage(&check.unknown));
    list = cJSON_AddArrayToObject(json, "layers");
    for (size_t i = 0; i < check.n_surprises; i++) {
        const struct ld_disk_surprise *s = &check.surprise[i];
        cJSON *item = cJSON_CreateObject();

        cJSON_AddItemToObject(item, "chain_id", ld_json_text(s->chain_id));
        cJSON_AddItemToObject(item, "recorded", ld_json_usage(&s->recorded));
        cJSON_AddItemToObject(item, "found", ld_json_usage(&s->found));
        cJSON_AddItemToArray(list, item);
    }
    return 0;
}

static int run_df(struct ld_call *call, struct ld_err *err)
{
    struct system_call *c = (struct system_call *)call;
    struct ld_disk_use use;
    cJSON *json;

    if (ld_disk_use_get(call->core, c->verify, &call->op.cancel, &use, err) < 0)
        return -1;
    json = c->json = cJSON_CreateObject();
    cJSON_AddItemToObject(json, "layers", layers_json(&use));
    if (add_images(call->core, cJSON_AddArrayToObject(json, "images"), err) < 0)
        return -1;
    cJSON_AddItemToObject(json, "writable_layers", usage_count(use.writable_count, &use.writable));
    cJSON_AddItemToObject(json, "volumes", usage_count(use.sums.volumes, &use.volumes));
    cJSON_AddItemToObject(json, "trash", ld_json_usage(&use.trash));
    cJSON_AddItemToObject(json, "quarantine", ld_json_usage(&use.quarantine));
    cJSON_AddItemToObject(json, "staging", ld_json_usage(&use.staging));
    cJSON_AddItemToObject(json, "blobs", ld_json_usage(&use.blobs));
    cJSON_AddItemToObject(json, "other", ld_json_usage(&use.other));
    cJSON_AddItemToObject(json, "total", ld_json_usage(&use.total));
    return c->verify ? add_check(c, &use, err) : 0;
}

static void df(struct ld_request *req)
{
    struct system_call *c =
        ld_call_new(sizeof(*c), req, LD_LANE_COPY, run_df, reply_json, free_call);

    c->verify = ld_request_flag(req, "verify");
    ld_request_submit_tied(req, &c->call.op); /* a walk: ended when nobody waits for it */
}

void ld_routes_system(struct ld_router *router)
{
    static const struct ld_route routes[] = {
        {"GET", "/v1", version, LD_ROUTE_METADATA, NULL},
        {"GET", "/v1/info", info, LD_ROUTE_METADATA, NULL},
        {"GET", "/v1/df", df, LD_ROUTE_METADATA, "verify?"},
    };

    ld_router_add(router, routes, LD_ARRAY_LEN(routes));
}
