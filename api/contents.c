/* What images and layers hold: /files of both, and what is different between two images. */
#include <stdlib.h>
#include <string.h>

#include <cjson/cJSON.h>

#include "api/call.h"
#include "api/file_json.h"
#include "api/json.h"
#include "api/path_list.h"
#include "api/reply.h"
#include "api/request.h"
#include "api/router.h"
#include "api/routes.h"
#include "daemon/base/mem.h"
#include "daemon/core/contents.h"
#include "daemon/core/core.h"
#include "daemon/core/files.h"
#include "daemon/core/image.h"

struct listing {
    struct ld_core *core;
    char *name;  /* of the image or layer, as it was asked for */
    char *since; /* the image it is told against */
    char *after;
    size_t limit;
    int (*walk)(struct listing *l, const bool *cancel, struct ld_err *err);
    struct ld_path_list list;
};

static void listing_free(void *arg)
{
    struct listing *l = arg;

    free(l->name);
    free(l->since);
    free(l->after);
    free(l);
}

/* ---- on the worker ---- */

static int on_entry(void *arg, const struct ld_node *node, const struct ld_layer *layer,
                    struct ld_err *err)
{
    struct listing *l = arg;
    struct ld_file_info info = {.st = node->st};
    cJSON *json;
    int r;

    if (S_ISLNK(node->st.st_mode)) {
        r = ld_node_readlink(node, &info.target);
        if (r < 0)
            return ld_err_sys(err, r, "read the link '%s'", node->path);
    }
    json = cJSON_CreateObject();
    ld_json_add_bytes(json, "path", node->path);
    ld_json_add_file(json, &info);
    cJSON_AddItemToObject(json, "layer", ld_json_text(layer->chain_id));
    free(info.target);
    return ld_path_list_add(&l->list, json, node->path, err);
}

static int walk_image(struct listing *l, const bool *cancel, struct ld_err *err)
{
    struct ld_image image LD_AUTO(ld_image_done) = {.id = NULL};

    return ld_image_find(l->core, l->name, &image, err) < 0
               ? -1
               : ld_image_entries(l->core, &image, l->after, cancel, on_entry, l, err);
}

static int on_change(void *arg, const struct ld_change *change, struct ld_err *err)
{
    struct listing *l = arg;

    if (l->after && ld_tree_path_cmp(change->path, l->after) <= 0)
        return 0;
    return ld_path_list_add(&l->list, ld_change_json(change), change->path, err);
}

static int walk_changes(struct listing *l, const bool *cancel, struct ld_err *err)
{
    struct ld_image image LD_AUTO(ld_image_done) = {.id = NULL};
    struct ld_image since LD_AUTO(ld_image_done) = {.id = NULL};

    if (ld_image_find(l->core, l->name, &image, err) < 0 ||
        ld_image_find(l->core, l->since, &since, err) < 0)
        return -1;
    return ld_image_changes(l->core, &image, &since, cancel, on_change, l, err);
}

static int walk_layer(struct listing *l, const bool *cancel, struct ld_err *err)
{
    struct ld_layer layer LD_AUTO(ld_layer_done) = {.sid = 0};

    return ld_layer_find(l->core, l->name, &layer, err) < 0
               ? -1
               : ld_layer_changes(l->core, &layer, cancel, on_change, l, err);
}

static int produce(struct ld_stream *stream, void *arg, struct ld_err *err)
{
    struct listing *l = arg;
    int rc;

    ld_path_list_begin(&l->list, stream, l->limit);
    rc = l->walk(l, ld_stream_cancel(stream), err);
    if (rc == 0 || l->list.more) /* the end of a page ends the walk */
        rc = ld_path_list_end(&l->list, err);
    ld_path_list_done(&l->list);
    return rc;
}

/* ---- on the loop ---- */

static void start(struct ld_request *req, const char *name, const char *since,
                  int (*walk)(struct listing *, const bool *, struct ld_err *))
{
    struct listing *l = ld_new(struct listing);
    struct ld_producer producer = {.run = produce,
                                   .free = listing_free,
                                   .arg = l,
                                   .status = 200,
                                   .content_type = "application/json"};
    struct ld_err err = LD_ERR_INIT;

    l->core = ld_request_core(req);
    l->name = ld_strdup(name);
    l->since = since ? ld_strdup(since) : NULL;
    l->walk = walk;
    if (ld_path_list_query(req, &l->limit, &l->after, &err) < 0) {
        listing_free(l);
        ld_reply_error(req, &err);
        return;
    }
    ld_reply_stream(req, &producer);
}

static void image_files(struct ld_request *req)
{
    start(req, ld_request_param(req, "image"), NULL, walk_image);
}

static void image_changes(struct ld_request *req)
{
    const char *since = ld_request_query(req, "since");
    struct ld_err err = LD_ERR_INIT;

    if (since) {
        start(req, ld_request_param(req, "image"), since, walk_changes);
        return;
    }
    (void)ld_err_set(&err, LD_E_INVALID,
                     "'since' is missing: the image to tell the changes against");
    ld_reply_error(req, &err);
}

static void layer_files(struct ld_request *req)
{
    start(req, ld_request_param(req, "layer"), NULL, walk_layer);
}

void ld_routes_contents(struct ld_router *router)
{
    static const struct ld_route routes[] = {
        {"GET", "/v1/images/{image...}/files", image_files, LD_ROUTE_METADATA, "limit after"},
        {"GET", "/v1/images/{image...}/changes", image_changes, LD_ROUTE_METADATA,
         "since limit after"},
        {"GET", "/v1/layers/{layer}/files", layer_files, LD_ROUTE_METADATA, "limit after"},
    };

    ld_router_add(router, routes, LD_ARRAY_LEN(routes));
}
