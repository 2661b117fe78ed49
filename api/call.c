/* One request, one operation: see call.h. */
#include "api/call.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/routes.h"
#include "daemon/base/mem.h"
#include "daemon/base/parse.h"

/* The operation holds the key's lock by now: what another request makes under it is made. */
static int run(struct ld_op *op, struct ld_err *err)
{
    struct ld_call *call = op->arg;
    struct ld_once_object made LD_AUTO(ld_once_object_done) = {.kind = NULL};
    int rc = ld_once_find(call->core, &call->once, &made, err);

    if (rc < 0)
        return -1;
    if (rc > 0)
        return call->again(call, &made, err) < 0 ? ld_once_gone(&call->once, &made, err) : 0;
    if (ld_once_is_given(&call->once))
        call->w.once = &call->once.once;
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
    if (call->w.dry_run)
        ld_request_submit_tied(call->req, &call->op); /* of no use to a client that has gone */
    else
        ld_request_submit(call->req, &call->op);
}

void ld_call_refuse(struct ld_call *call, const struct ld_err *err)
{
    ld_reply_error(call->req, err);
    ld_op_done(&call->op);
    call->free(call);
}

bool ld_call_once(struct ld_call *call,
                  int (*again)(struct ld_call *, const struct ld_once_object *, struct ld_err *))
{
    struct ld_once_object made LD_AUTO(ld_once_object_done) = {.kind = NULL};
    struct ld_err err = LD_ERR_INIT;
    int rc;

    if (ld_once_read(call->req, &call->once, &err) < 0) {
        ld_call_refuse(call, &err);
        return true;
    }
    if (!ld_once_is_given(&call->once))
        return false;
    call->again = again;
    ld_once_lock(&call->once, &call->op);
    /* Done already: whether it could be done now does not matter. */
    rc = ld_once_find(call->core, &call->once, &made, &err);
    if (rc < 0)
        ld_call_refuse(call, &err);
    else if (rc > 0)
        ld_call_submit(call);
    return rc != 0;
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

/* `"7"`, or the whole ETag of an answer, `"7-1f2e3d4c5b6a7988"`, whose first part is the version.
 */
static int parse_etag(const char *value, uint64_t *ret)
{
    size_t len = strlen(value);
    autofree char *text = NULL;
    char *digest;

    if (len < 2 || value[0] != '"' || value[len - 1] != '"')
        return -EINVAL;
    text = ld_strndup(value + 1, len - 2);
    digest = strchr(text, '-');
    if (digest) {
        *digest++ = '\0';
        if (!ld_is_hex(digest, LD_ETAG_DIGITS))
            return -EINVAL;
    }
    return ld_parse_u64(text, 1, UINT64_MAX, ret);
}

int ld_request_if_match(const struct ld_request *req, uint64_t *ret, struct ld_err *err)
{
    const char *value = ld_request_header(req, "If-Match");

    *ret = 0;
    if (!value || strcmp(value, "*") == 0 || parse_etag(value, ret) == 0)
        return 0;
    (void)ld_err_set(err, LD_E_INVALID, "If-Match: '%.100s' is not an ETag of layerd", value);
    return ld_err_hint(err, "give the ETag of an earlier answer, quotes included, or *");
}

int ld_request_must_be_new(const struct ld_request *req, bool *ret, struct ld_err *err)
{
    const char *value = ld_request_header(req, "If-None-Match");

    *ret = value != NULL;
    if (!value || strcmp(value, "*") == 0)
        return 0;
    return ld_err_set(err, LD_E_INVALID, "If-None-Match: here it can only be *, not '%.100s'",
                      value);
}
