/* One request, one operation: see call.h. */
#include "api/call.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/routes.h"
#include "daemon/base/mem.h"
#include "daemon/base/parse.h"

static int run(struct ld_op *op, struct ld_err *err)
{
    struct ld_call *call = op->arg;

    return call->run(call, err);
}

static void done(struct ld_op *op)
{
    struct ld_call *call = op->arg;

    if (op->rc < 0)
        ld_reply_error(call->req, &op->err);
    else
        call->reply(call);
    call->free(call);
}

void *ld_call_new(size_t size, struct ld_request *req, enum ld_lane lane,
                  int (*run_)(struct ld_call *, struct ld_err *), void (*reply)(struct ld_call *),
                  void (*free_)(struct ld_call *))
{
    struct ld_call *call = ld_alloc0(size);

    ld_op_init(&call->op, lane, run, done, call);
    call->req = req;
    call->core = ld_request_core(req);
    call->run = run_;
    call->reply = reply;
    call->free = free_;
    (void)snprintf(call->request_id, sizeof(call->request_id), "%s",
                   ld_request_id(req)); /* 32 digits */
    call->w = ld_request_write(req);
    call->w.request_id = call->request_id;
    return call;
}

void ld_call_submit(struct ld_call *call)
{
    ld_request_submit(call->req, &call->op);
}

void ld_call_refuse(struct ld_call *call, const struct ld_err *err)
{
    ld_reply_error(call->req, err);
    ld_op_done(&call->op);
    call->free(call);
}

struct ld_core *ld_request_core(const struct ld_request *req)
{
    return ld_api_core(ld_request_app(req));
}

struct ld_write ld_request_write(const struct ld_request *req)
{
    const struct ld_peer *peer = ld_request_peer(req);

    return (struct ld_write){.uid = peer->uid, .pid = peer->pid, .request_id = ld_request_id(req)};
}

int ld_request_if_match(const struct ld_request *req, uint64_t *ret, struct ld_err *err)
{
    const char *value = ld_request_header(req, "If-Match");
    size_t len = value ? strlen(value) : 0;
    autofree char *digits = NULL;

    *ret = 0;
    if (!value || strcmp(value, "*") == 0)
        return 0;
    if (len > 2 && value[0] == '"' && value[len - 1] == '"')
        digits = ld_strndup(value + 1, len - 2);
    if (digits && ld_parse_u64(digits, 1, UINT64_MAX, ret) == 0)
        return 0;
    (void)ld_err_set(err, LD_E_INVALID, "If-Match: '%s' is not an ETag of layerd", value);
    return ld_err_hint(err, "give the ETag of an earlier answer, quotes included, or *");
}

void ld_reply_etag(struct ld_request *req, uint64_t version)
{
    ld_reply_header(req, "ETag", "\"%llu\"", (unsigned long long)version);
}
