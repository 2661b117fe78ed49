/* GET /v1/images/{image}/export and /v1/images/export: images out as one archive.
 *
 * A short operation finds and pins what goes out, so that what is wrong with the request is
 * answered as an error; then the archive is streamed without any key held. */
#include <stdlib.h>
#include <string.h>

#include "api/call.h"
#include "api/router.h"
#include "api/routes.h"
#include "api/stream_sink.h"
#include "daemon/base/mem.h"
#include "daemon/core/config.h"
#include "daemon/core/image_export.h"

struct export_call {
    struct ld_call call;
    char **images;
    size_t n, cap;
    struct ld_image_export_options options;
    struct ld_image_export *export;
};

static void free_call(struct ld_call *call)
{
    struct export_call *c = (struct export_call *)call;

    for (size_t i = 0; i < c->n; i++)
        free(c->images[i]);
    free(c->images);
    ld_image_export_free(c->export);
    free(c);
}

static int run_open(struct ld_call *call, struct ld_err *err)
{
    struct export_call *c = (struct export_call *)call;

    return ld_image_export_open(call->core, (const char *const *)c->images, c->n, &c->options,
                                &c->export, err);
}

static int produce(struct ld_stream *stream, void *arg, struct ld_err *err)
{
    struct ld_stream_sink sink = ld_stream_sink(stream);
    struct ld_image_export *export = arg;
    uint64_t size = ld_image_export_size(export);

    if (size)
        ld_stream_length(stream, size);
    return ld_image_export_write(export, &sink.sink, ld_stream_cancel(stream), err);
}

static void free_export(void *arg)
{
    ld_image_export_free(arg);
}

static void reply_opened(struct ld_call *call)
{
    struct export_call *c = (struct export_call *)call;
    struct ld_producer producer = {
        .run = produce, .free = free_export, .status = 200, .content_type = "application/x-tar"};

    producer.arg = ld_steal(&c->export);
    ld_reply_stream(call->req, &producer);
}

static struct export_call *new_call(struct ld_request *req)
{
    return ld_call_new(sizeof(struct export_call), req, LD_LANE_QUICK, run_open, reply_opened,
                       free_call);
}

static void add_image(struct export_call *c, const char *text)
{
    ld_grow(&c->images, &c->cap, c->n + 1, sizeof(*c->images));
    c->images[c->n++] = ld_strdup(text);
}

static void submit(struct export_call *c)
{
    const char *format = ld_request_query(c->call.req, "format");
    const char *blobs = ld_request_query(c->call.req, "blobs");
    bool keep = true;
    struct ld_err err = LD_ERR_INIT;

    if (c->n == 0)
        (void)ld_err_set(&err, LD_E_INVALID, "'ref' is missing: no image is named");
    else if (format && ld_export_format_parse(format, &c->options.format) < 0)
        (void)ld_err_set(&err, LD_E_INVALID,
                         "'%.50s' is not a format of exports: oci, docker or rootfs", format);
    else if (blobs && ld_blobs_parse(blobs, &keep) < 0)
        (void)ld_err_set(&err, LD_E_INVALID, "blobs '%.50s' is neither keep nor drop", blobs);
    c->options.is_plain = !keep;
    if (err.code)
        ld_call_refuse(&c->call, &err);
    else
        ld_call_submit(&c->call);
}

static void export_one(struct ld_request *req)
{
    struct export_call *c = new_call(req);

    add_image(c, ld_request_param(req, "image"));
    submit(c);
}

static void export_several(struct ld_request *req)
{
    struct export_call *c = new_call(req);
    const char *ref;

    for (size_t i = 0; (ref = ld_request_query_at(req, "ref", i)); i++)
        add_image(c, ref);
    submit(c);
}

void ld_routes_image_export(struct ld_router *router)
{
    static const struct ld_route routes[] = {
        {"GET", "/v1/images/{image...}/export", export_one, 0, "format blobs"},
        {"GET", "/v1/images/export", export_several, 0, "ref* format blobs"},
    };

    ld_router_add(router, routes, LD_ARRAY_LEN(routes));
}
