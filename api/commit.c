/* POST /v1/containers/C/commit: a container's changes as a layer and an image. */
#include <stdlib.h>
#include <string.h>

#include <cjson/cJSON.h>

#include "api/call.h"
#include "api/image_json.h"
#include "api/router.h"
#include "api/routes.h"
#include "api/work.h"
#include "daemon/base/mem.h"
#include "daemon/base/parse.h"
#include "daemon/core/commit.h"
#include "daemon/core/container.h"
#include "daemon/core/core.h"

enum { MAX_CHANGES = 1024 };
#define MAX_CREATED INT64_C(9214646399) /* the end of 2261: in nanoseconds it fits 63 bits */

struct commit {
    struct ld_work work;
    char container[65];
    char *ref, *message, *author; /* or NULL */
    char **changes;
    size_t n_changes;
    bool squash;
    int64_t created_s; /* with has_created */
    bool has_created;
    struct ld_err refusal; /* the container is not there, which counts unless it was committed
                              before under the same key */
};

static void tell(void *arg, const char *phase, const char *id, uint64_t current, uint64_t total)
{
    struct commit *c = arg;

    ld_work_tell(&c->work, phase, id, current, total);
}

static struct ld_commit_spec spec_of(struct commit *c)
{
    return (struct ld_commit_spec){.ref = c->ref,
                                   .message = c->message,
                                   .author = c->author,
                                   .changes = (const char *const *)c->changes,
                                   .n_changes = c->n_changes,
                                   .squash = c->squash,
                                   .created_s = c->has_created ? &c->created_s : NULL,
                                   .progress = tell,
                                   .progress_arg = c,
                                   .cancel = c->work.cancel};
}

static int set_result(struct ld_work *work, const char *id, struct ld_err *err)
{
    struct ld_image image LD_AUTO(ld_image_done) = {.id = NULL};

    if (ld_store_image_get(ld_core_store(work->core), id, &image, err) < 0)
        return -1;
    work->result = ld_image_json(work->core, &image, err);
    if (!work->result)
        return -1;
    work->status = 201;
    work->object_kind = "image";
    work->object_id = ld_strdup(id);
    work->location = ld_asprintf("/v1/images/%s", id);
    return 0;
}

static int again(struct ld_work *work, const struct ld_once_object *made, struct ld_err *err)
{
    return set_result(work, made->id, err);
}

static int run(struct ld_work *work, struct ld_err *err)
{
    struct commit *c = (struct commit *)work;
    struct ld_commit_spec spec = spec_of(c);
    autofree char *id = NULL;

    if (c->refusal.code != LD_E_NONE) {
        *err = c->refusal;
        return -1;
    }
    if (ld_commit_run(work->core, &work->w, c->container, &spec, &id, err) < 0)
        return -1;
    return set_result(work, id, err);
}

static void free_commit(struct ld_work *work)
{
    struct commit *c = (struct commit *)work;

    for (size_t i = 0; i < c->n_changes; i++)
        free(c->changes[i]);
    free(c->changes);
    free(c->ref);
    free(c->message);
    free(c->author);
}

static const struct ld_work_kind kind = {.name = "container.commit",
                                         .size = sizeof(struct commit),
                                         .lane = LD_LANE_STREAM,
                                         .run = run,
                                         .again = again,
                                         .free = free_commit};

/* ---- the request ---- */

static int read_text(const cJSON *body, const char *name, char **ret, struct ld_err *err)
{
    const char *text = NULL;

    if (ld_member_string(body, "", name, &text, err) < 0)
        return -1;
    *ret = text ? ld_strdup(text) : NULL;
    return 0;
}

static int read_created(struct commit *c, const cJSON *body, struct ld_err *err)
{
    const char *text = NULL;

    if (ld_member_string(body, "", "created", &text, err) < 0)
        return -1;
    if (!text)
        return 0;
    c->has_created =
        ld_parse_time(text, &c->created_s) == 0 && c->created_s >= 0 && c->created_s <= MAX_CREATED;
    if (c->has_created)
        return 0;
    return ld_err_set(err, LD_E_INVALID,
                      "'created' must be a time from 1970 to 2261, like 2026-01-02T03:04:05Z");
}

static int read_changes(struct commit *c, const cJSON *body, struct ld_err *err)
{
    const cJSON *list = NULL, *item;
    int n;

    if (ld_member_array(body, "", "changes", &list, err) < 0)
        return -1;
    n = cJSON_GetArraySize(list);
    if (n > MAX_CHANGES)
        return ld_err_set(err, LD_E_INVALID, "'changes' has more than %d lines", MAX_CHANGES);
    c->changes = ld_alloc0(((size_t)n + 1) * sizeof(*c->changes));
    cJSON_ArrayForEach (item, list) {
        if (!cJSON_IsString(item))
            return ld_err_set(err, LD_E_INVALID, "'changes' must be an array of strings");
        c->changes[c->n_changes++] = ld_strdup(item->valuestring);
    }
    return 0;
}

static int read_body(struct commit *c, const cJSON *body, struct ld_err *err)
{
    struct ld_commit_spec spec;

    if (ld_members_only(body, "", "ref message author created changes squash", err) < 0 ||
        read_text(body, "ref", &c->ref, err) < 0 ||
        read_text(body, "message", &c->message, err) < 0 ||
        read_text(body, "author", &c->author, err) < 0 || read_created(c, body, err) < 0 ||
        read_changes(c, body, err) < 0 || ld_member_bool(body, "", "squash", &c->squash, err) < 0)
        return -1;
    spec = spec_of(c);
    return ld_commit_check(&spec, err);
}

static void commit(struct ld_request *req)
{
    struct commit *c = ld_work_new(&kind, req);
    struct ld_err err = LD_ERR_INIT;

    if (read_body(c, ld_request_json(req), &err) < 0)
        return ld_work_refuse(&c->work, req, &err);
    if (ld_container_admit(c->work.core, ld_request_param(req, "container"), true, &c->work.verb.op,
                           c->container, &err) < 0) {
        if (err.code != LD_E_NOT_FOUND || !ld_request_header(req, "Idempotency-Key"))
            return ld_work_refuse(&c->work, req, &err);
        c->refusal = err;
    }
    ld_work_start(&c->work, req);
}

void ld_routes_commit(struct ld_router *router)
{
    static const struct ld_route routes[] = {
        {"POST", "/v1/containers/{container}/commit", commit, LD_ROUTE_JSON_OPTIONAL, NULL},
    };

    ld_router_add(router, routes, LD_ARRAY_LEN(routes));
}
