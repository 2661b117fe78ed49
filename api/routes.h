/* All routes, and what their handlers share. Loop thread. */
#pragma once

struct ld_api;
struct ld_core;
struct ld_followers;
struct ld_router;

/* Adds every route to the router and watches the core's events. The result is what ld_request_app
 * gives to the handlers. All borrowed. */
struct ld_api *ld_api_new(struct ld_core *core, struct ld_router *router);
/* The stop begins: followers of events end. */
void ld_api_stop(struct ld_api *api);
void ld_api_free(struct ld_api *api); /* NULL is fine */
struct ld_core *ld_api_core(const struct ld_api *api);
struct ld_followers *ld_api_followers(const struct ld_api *api);

/* One table per resource, in the file of that name. */
void ld_routes_containers(struct ld_router *router);
void ld_routes_content(struct ld_router *router); /* export, diff, changes of a container */
void ld_routes_files(struct ld_router *router);   /* of containers and volumes */
void ld_routes_holders(struct ld_router *router); /* of a container */
void ld_routes_explain(struct ld_router *router);
void ld_routes_snapshots(struct ld_router *router); /* of containers and of volumes */
void ld_routes_clones(struct ld_router *router);
void ld_routes_commit(struct ld_router *router); /* of a container */
void ld_routes_volumes(struct ld_router *router);
void ld_routes_volume_content(struct ld_router *router); /* export, import */
void ld_routes_trash(struct ld_router *router);
void ld_routes_prune(struct ld_router *router);    /* of images, containers, volumes */
void ld_routes_images(struct ld_router *router);   /* and layers */
void ld_routes_contents(struct ld_router *router); /* of images and layers */
void ld_routes_import(struct ld_router *router);
void ld_routes_image_export(struct ld_router *router);
void ld_routes_jobs(struct ld_router *router);
void ld_routes_check(struct ld_router *router);
void ld_routes_system(struct ld_router *router); /* version, info, df */
void ld_routes_events(struct ld_router *router);
void ld_routes_metrics(struct ld_router *router);
