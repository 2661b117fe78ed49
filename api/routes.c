/* All routes in one router: see routes.h. */
#include "api/routes.h"

#include <stdlib.h>

#include "api/events.h"
#include "daemon/base/mem.h"
#include "daemon/core/core.h"

struct ld_api {
    struct ld_core *core;
    struct ld_followers *followers;
};

struct ld_api *ld_api_new(struct ld_core *core, struct ld_router *router)
{
    struct ld_api *api = ld_new(struct ld_api);

    api->core = core;
    api->followers = ld_followers_new(core);
    ld_routes_system(router);
    ld_routes_check(router);
    ld_routes_events(router);
    ld_routes_metrics(router);
    ld_routes_images(router);
    ld_routes_contents(router);
    ld_routes_import(router);
    ld_routes_image_export(router);
    ld_routes_containers(router);
    ld_routes_content(router);
    ld_routes_files(router);
    ld_routes_holders(router);
    ld_routes_explain(router);
    ld_routes_snapshots(router);
    ld_routes_clones(router);
    ld_routes_commit(router);
    ld_routes_volumes(router);
    ld_routes_volume_content(router);
    ld_routes_trash(router);
    ld_routes_prune(router);
    ld_routes_jobs(router);
    return api;
}

void ld_api_stop(struct ld_api *api)
{
    ld_followers_stop(api->followers);
}

void ld_api_free(struct ld_api *api)
{
    if (!api)
        return;
    ld_followers_free(api->followers);
    free(api);
}

struct ld_core *ld_api_core(const struct ld_api *api)
{
    return api->core;
}

struct ld_followers *ld_api_followers(const struct ld_api *api)
{
    return api->followers;
}
