/* What a container holds as a whole: changes, diff, export.
 *
 * `changes` and `diff` go by the records; an export opens a view first, by a short operation that
 * holds the container's keys, and then streams without any.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "api/call.h"
#include "api/file_json.h"
#include "api/path_list.h"
#include "api/router.h"
#include "api/routes.h"
#include "api/stream_sink.h"
#include "daemon/base/mem.h"
#include "daemon/base/tree.h"
#include "daemon/core/container.h"
#include "daemon/core/core.h"
#include "daemon/core/export.h"
#include "daemon/core/rootfs.h"
#include "daemon/jobs/lane.h"

/* What a read is about: first the argument of the operation that opens the view, then that of the
 * producer. */
struct content {
    struct ld_core *core;
    char id[65];
    char *after;
    size_t limit;
    struct ld_reader reader;
    int (*produce)(struct content *c, struct ld_stream *stream, struct ld_err *err);
    const char *type;
};

static void content_free(void *arg)
{
    struct content *c = arg;

    ld_reader_close(&c->reader);
    free(c->after);
    free(c);
}

static int produce(struct ld_stream *stream, void *arg, struct ld_err *err)
{
    struct content *c = arg;
    int rc = c->produce(c, stream, err);

    ld_reader_close(&c->reader); /* on this worker: it may unmount */
    return rc;
}

static void stream_content(struct ld_request *req, struct content *c)
{
    struct ld_producer producer = {
        .run = produce, .free = content_free, .arg = c, .status = 200, .content_type = c->type};

    ld_reply_stream(req, &producer);
}

struct change_sink {
    struct content *c;
    struct ld_path_list *list;
};

static int on_change(void *arg, const struct ld_change *change, struct ld_err *err)
{
    struct change_sink *s = arg;

    if (ld_flag_is_set(ld_stream_cancel(s->list->stream)))
        return ld_err_set(err, LD_E_CANCELED, "the client has gone");
    if (s->c->after && ld_tree_path_cmp(change->path, s->c->after) <= 0)
        return 0;
    return ld_path_list_add(s->list, ld_change_json(change), change->path, err);
}

static int produce_changes(struct content *c, struct ld_stream *stream, struct ld_err *err)
{
    struct ld_path_list list LD_AUTO(ld_path_list_done) = {.n = 0};
    struct change_sink sink = {.c = c, .list = &list};

    ld_path_list_begin(&list, stream, c->limit);
    if (ld_container_changes(c->core, c->id, on_change, &sink, err) < 0 && !list.more)
        return -1;
    return ld_path_list_end(&list, err);
}

static int produce_diff(struct content *c, struct ld_stream *stream, struct ld_err *err)
{
    struct ld_stream_sink sink = ld_stream_sink(stream);

    return ld_export_diff(c->core, c->id, &sink.sink, ld_stream_cancel(stream), err);
}

static int produce_export(struct content *c, struct ld_stream *stream, struct ld_err *err)
{
    struct ld_stream_sink sink = ld_stream_sink(stream);

    return ld_export_root(&c->reader, &sink.sink, ld_stream_cancel(stream), err);
}

/* For what reads the records' way, without a view. */
static void start_plain(struct ld_request *req, const char *type,
                        int (*produce_)(struct content *, struct ld_stream *, struct ld_err *))
{
    struct content *c = ld_new(struct content);
    struct ld_container_state state LD_AUTO(ld_container_state_done) = {.mount = LD_UNMOUNTED};
    struct ld_err err = LD_ERR_INIT;

    c->core = ld_request_core(req);
    c->reader.view.fd = -EBADF;
    c->produce = produce_;
    c->type = type;
    if (ld_container_find(c->core, ld_request_param(req, "container"), &state, &err) < 0 ||
        ld_path_list_query(req, &c->limit, &c->after, &err) < 0) {
        ld_reply_error(req, &err);
        content_free(c);
        return;
    }
    memcpy(c->id, state.record.id, sizeof(c->id));
    stream_content(req, c);
}

static void changes(struct ld_request *req)
{
    start_plain(req, "application/json", produce_changes);
}

static void diff(struct ld_request *req)
{
    start_plain(req, "application/x-tar", produce_diff);
}

/* ---- reads by a view ---- */

struct open_call {
    struct ld_call call;
    struct content *c;
};

static void free_open(struct ld_call *call)
{
    struct open_call *o = (struct open_call *)call;

    if (o->c)
        content_free(o->c);
    free(o);
}

static int run_open(struct ld_call *call, struct ld_err *err)
{
    struct content *c = ((struct open_call *)call)->c;

    return ld_reader_open(call->core, &call->w, c->id, false, &c->reader, err);
}

static void reply_opened(struct ld_call *call)
{
    stream_content(call->req, ld_steal(&((struct open_call *)call)->c));
}

static void export(struct ld_request *req)
{
    struct open_call *o =
        ld_call_new(sizeof(*o), req, LD_LANE_QUICK, run_open, reply_opened, free_open);
    struct ld_err err = LD_ERR_INIT;

    o->c = ld_new(struct content);
    o->c->core = o->call.core;
    o->c->reader.view.fd = -EBADF;
    o->c->produce = produce_export;
    o->c->type = "application/x-tar";
    if (ld_container_admit(o->call.core, ld_request_param(req, "container"), true, &o->call.op,
                           o->c->id, &err) < 0)
        ld_call_refuse(&o->call, &err);
    else
        ld_call_submit(&o->call);
}

void ld_routes_content(struct ld_router *router)
{
    static const struct ld_route routes[] = {
        {"GET", "/v1/containers/{container}/changes", changes, LD_ROUTE_METADATA, "limit after"},
        {"GET", "/v1/containers/{container}/diff", diff, 0, NULL},
        {"GET", "/v1/containers/{container}/export", export, 0, NULL},
    };

    ld_router_add(router, routes, LD_ARRAY_LEN(routes));
}
