/* One request from its first line to its end: libmicrohttpd's callbacks. Loop thread.
 *
 * libmicrohttpd calls the access handler once with the headers, then with pieces of the body, then
 * once more, without data, when the body is through; and again after each resume. A reply can be
 * queued in the first call (it then stops the upload, right for Expect: 100-continue) or in the
 * last, never between.
 *
 * An error that is known while the client still sends its body is therefore written to the socket
 * by ourselves: nothing of this answer has been sent yet, and libmicrohttpd is only reading. The
 * rest of the body is then thrown away for a while, since closing with unread data would reset the
 * connection before the client has read the answer; then the connection is closed. A short body is
 * rather read whole, so that the connection can be used again.
 *
 * A suspended connection does not notice its client leaving, so its descriptor is watched for a
 * full hang-up meanwhile. (A client that only shut down writing still reads.) When it is resumed,
 * libmicrohttpd 0.9.75 first reads once more if reading was what it did last, and takes the end of
 * file for the end of everything. So a connection is never suspended from inside the access
 * handler, but right after MHD_run: by then the library knows that the request is complete, and
 * will not read. For the same reason all of an upload that has been read is taken over at once,
 * what does not fit into the ring in a buffer of ours.
 */
#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>

#include <cjson/cJSON.h>

#include "api/http.h"
#include "daemon/base/clock.h"
#include "daemon/base/digest.h"
#include "daemon/base/log.h"
#include "daemon/base/mem.h"
#include "daemon/base/parse.h"
#include "daemon/image/doc.h"
#include "daemon/jobs/loop.h"
#include "daemon/jobs/ring.h"

enum {
    SHORT_BODY = 64 * 1024, /* read whole although the answer is known */
    LINGER_MS = 10000,
    PATIENCE = 15, /* times the idle timeout */
    MAX_LOGGED_TARGET = 200,
};

/* ---- suspend and resume ---- */

void ld_exchange_suspend(struct ld_request *req)
{
    assert(req->conn && !req->suspended);
    req->suspended = true;
    MHD_suspend_connection(req->mhd);
    if (req->conn->hangup)
        ld_watch_set(req->conn->hangup, LD_WATCH_HANGUP);
}

static void suspend_soon(struct ld_request *req)
{
    struct ld_listener *listener = req->conn->listener;

    if (req->suspend_soon)
        return;
    req->suspend_soon = true;
    req->next_to_suspend = listener->to_suspend;
    listener->to_suspend = req;
}

static void cancel_suspend_soon(struct ld_request *req, struct ld_listener *listener)
{
    struct ld_request **slot = &listener->to_suspend;

    if (!req->suspend_soon)
        return;
    while (*slot != req)
        slot = &(*slot)->next_to_suspend;
    *slot = req->next_to_suspend;
    req->suspend_soon = false;
}

void ld_exchange_after_run(struct ld_listener *listener)
{
    struct ld_request *req;

    while ((req = listener->to_suspend)) {
        listener->to_suspend = req->next_to_suspend;
        req->suspend_soon = false;
        ld_exchange_suspend(req);
    }
}

void ld_exchange_resume(struct ld_request *req)
{
    if (!req->conn)
        return;
    if (req->suspend_soon) {
        cancel_suspend_soon(req, req->conn->listener);
        ld_server_kick(req->conn->listener);
    }
    if (!req->suspended)
        return;
    req->suspended = false;
    if (req->conn->hangup)
        ld_watch_set(req->conn->hangup, 0);
    MHD_resume_connection(req->mhd);
    ld_server_kick(req->conn->listener);
}

void ld_exchange_cut(struct ld_request *req)
{
    req->hung_up = true;
    ld_exchange_resume(req);
}

void ld_exchange_on_hangup(void *arg, unsigned events)
{
    struct ld_conn *conn = arg;

    (void)events;
    if (conn->current && conn->current->suspended)
        ld_exchange_cut(conn->current);
}

/* ---- life ---- */

/* Named by our own table, never by what clients write: so there are only so many. */
static struct ld_route_stats *route_stats(const struct ld_request *req)
{
    const struct ld_server *server = req->server;

    return &server->routes[req->target.route ? req->target.number : server->n_routes];
}

static void maybe_free(struct ld_request *req)
{
    struct ld_server *server = req->server;

    if (req->mhd || req->app_holds || req->upload)
        return;
    assert(!req->conn);
    assert(!req->stream && !req->feed && !req->tied);
    if (req->prev)
        req->prev->next = req->next;
    else
        server->requests = req->next;
    if (req->next)
        req->next->prev = req->prev;
    server->stats.requests--;
    server->stats.uploads -= req->counts_as_upload;
    free(req->reply.body);
    free(req->reply.type);
    free(req->reply.message);
    ld_headers_free(&req->reply.headers);
    ld_target_done(&req->target);
    ld_buf_done(&req->json_text);
    ld_buf_done(&req->overflow);
    cJSON_Delete(req->json);
    free(req->raw);
    free(req);
    ld_server_request_freed(server);
}

static void leave_upload(struct ld_request *req)
{
    ld_ring_leave_loop(req->upload);
    req->upload = NULL;
}

void *ld_exchange_on_uri(void *cls, const char *uri, struct MHD_Connection *mhd)
{
    struct ld_listener *listener = cls;
    struct ld_server *server = listener->server;
    struct ld_request *req = ld_new(struct ld_request);

    req->server = server;
    req->mhd = mhd;
    req->conn = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_SOCKET_CONTEXT)->socket_context;
    req->conn->current = req;
    req->peer = req->conn->peer;
    req->raw = ld_strdup(uri);
    req->json_text = LD_BUF_INIT(LD_MAX_BODY);
    req->overflow = LD_BUF_INIT(LD_CONNECTION_MEMORY);
    req->began_ns = ld_monotonic_ns();
    ld_random_hex(req->id, 16);
    req->next = server->requests;
    if (req->next)
        req->next->prev = req;
    server->requests = req;
    server->stats.requests++;
    return req;
}

void ld_exchange_on_completed(void *cls, struct MHD_Connection *mhd, void **slot,
                              enum MHD_RequestTerminationCode how)
{
    struct ld_request *req = *slot;

    (void)cls;
    (void)mhd;
    (void)how;
    if (!req)
        return;
    *slot = NULL;
    cancel_suspend_soon(req, req->conn->listener);
    req->suspended = false;
    req->conn->current = NULL;
    req->conn = NULL; /* from here on the client counts as gone; req->mhd still holds the request */
    if (req->state == LD_ANSWER_NONE || req->state == LD_ANSWER_READY) {
        req->server->stats.answered[0]++;
        route_stats(req)->answered[0]++;
    }
    if (req->upload && !req->upload_is_whole)
        leave_upload(req); /* not ended: aborts */
    if (req->stream)
        ld_stream_client_gone(req->stream);
    if (req->feed)
        ld_feed_client_gone(req->feed);
    /* A state change whose request is complete goes on. */
    if (req->tied && !req->upload_is_whole)
        ld_ops_cancel(req->server->options.ops, req->tied);
    req->mhd = NULL;
    maybe_free(req);
}

/* ---- answering ---- */

static void log_answer(const struct ld_request *req, uint64_t took_ns)
{
    struct ld_log_ctx ctx = {.request_id = req->id, .uid = req->peer.uid, .pid = req->peer.pid};
    bool is_read = strcmp(req->method, "GET") == 0 || strcmp(req->method, "HEAD") == 0;
    enum ld_log_level level = is_read ? LD_LOG_DEBUG : LD_LOG_INFO;
    int status = req->reply.status;

    if (status >= 500)
        level = status == 500 ? LD_LOG_ERROR : LD_LOG_WARN;
    if (!ld_log_is_on(level))
        return;
    ld_log_with(&ctx, level, "%s '%.*s': %d in %" PRIu64 " ms%s%s", req->method, MAX_LOGGED_TARGET,
                req->raw, status, took_ns / 1000000, req->reply.message ? ": " : "",
                req->reply.message ? req->reply.message : "");
}

static void count_answer(struct ld_request *req)
{
    struct ld_server_stats *stats = &req->server->stats;
    struct ld_route_stats *route = route_stats(req);
    uint64_t took_ns = ld_monotonic_ns() - req->began_ns;

    stats->answered[req->reply.status / 100]++;
    stats->refused += req->reply.status == 503;
    route->answered[req->reply.status / 100]++;
    ld_histogram_add(&route->latency_ns, &ld_scale_time, took_ns);
    log_answer(req, took_ns);
}

static enum MHD_Result queue_reply(struct ld_request *req)
{
    struct MHD_Response *response = ld_reply_make(req);
    enum MHD_Result r;

    assert(req->state == LD_ANSWER_READY);
    if (!response)
        return MHD_NO; /* no memory: the connection is closed */
    r = MHD_queue_response(req->mhd, (unsigned)req->reply.status, response);
    MHD_destroy_response(response); /* our reference */
    if (r == MHD_NO)
        return MHD_NO;
    req->state = LD_ANSWER_QUEUED;
    count_answer(req);
    return MHD_YES;
}

/* See the head of this file. What does not fit into the socket's buffer at once is not worth
 * waiting for. */
static void send_early(struct ld_request *req)
{
    autobuf struct ld_buf text = LD_BUF_INIT(64 * 1024);
    ssize_t n;

    assert(req->state == LD_ANSWER_READY && req->body == LD_BODY_DISCARD);
    ld_reply_print(req, &text);
    n = send(req->conn->fd, ld_buf_str(&text), text.len, MSG_DONTWAIT | MSG_NOSIGNAL);
    req->state = LD_ANSWER_SENT;
    req->linger_until_ms = ld_loop_now_ms(req->server->options.loop) + LINGER_MS;
    if (n < 0 || (size_t)n != text.len)
        req->hung_up = true;
    count_answer(req);
}

void ld_exchange_reply(struct ld_request *req)
{
    assert(req->app_holds && req->state == LD_ANSWER_NONE);
    req->app_holds = false;
    if (!req->conn) {
        maybe_free(req);
        return;
    }
    req->state = LD_ANSWER_READY;
    if (req->in_access)
        return; /* which goes on with it */
    if (req->suspended) {
        ld_exchange_resume(req);
    } else if (req->body == LD_BODY_UPLOAD && req->has_data) {
        /* The client may have stopped sending: no call need come by itself. Bytes have come, so any
         * 100-continue is through. */
        req->body = LD_BODY_DISCARD;
        send_early(req);
    }
}

void ld_exchange_drop(struct ld_request *req)
{
    assert(req->app_holds);
    req->app_holds = false;
    maybe_free(req);
}

/* An error before any handler was called. */
static void refuse(struct ld_request *req, const struct ld_err *err)
{
    assert(!req->app_holds && req->state == LD_ANSWER_NONE);
    ld_reply_fill_error(req, err);
    req->state = LD_ANSWER_READY;
}

/* ---- the first call: headers ---- */

static const char *header_of(const struct ld_request *req, const char *name)
{
    return MHD_lookup_connection_value(req->mhd, MHD_HEADER_KIND, name);
}

static uint64_t body_length(const struct ld_request *req)
{
    const char *length = header_of(req, "Content-Length");
    uint64_t n = 0;

    if (header_of(req, "Transfer-Encoding"))
        return UINT64_MAX;
    /* libmicrohttpd has refused what is no number. */
    if (length && ld_parse_u64(length, 0, UINT64_MAX - 1, &n) < 0)
        return UINT64_MAX;
    return n;
}

static bool is_allowed_for_readers(const struct ld_request *req)
{
    return (req->target.route->flags & LD_ROUTE_METADATA) &&
           (strcmp(req->method, "GET") == 0 || strcmp(req->method, "HEAD") == 0);
}

static int check_json_head(const struct ld_request *req, struct ld_err *err)
{
    if (req->length == 0 || !header_of(req, "Content-Type") ||
        (req->target.route->flags & LD_ROUTE_ANY_TYPE) ||
        ld_request_has_type(req, "application/json") ||
        (strcmp(req->method, "PATCH") == 0 &&
         ld_request_has_type(req, "application/merge-patch+json")))
        return 0;
    (void)ld_err_set(err, LD_E_UNSUPPORTED_MEDIA, "the body must be application/json, not '%.100s'",
                     header_of(req, "Content-Type"));
    return ld_err_hint(err, "send Content-Type: application/json");
}

static int too_large(struct ld_err *err)
{
    return ld_err_set(err, LD_E_TOO_LARGE, "the body is longer than %d bytes", LD_MAX_BODY);
}

static bool takes_json(const struct ld_request *req)
{
    return req->target.route->flags & (LD_ROUTE_JSON | LD_ROUTE_JSON_OPTIONAL);
}

static int check_head(struct ld_request *req, struct ld_err *err)
{
    if (req->server->draining)
        return ld_err_set(err, LD_E_UNAVAILABLE, "layerd is shutting down");
    if (ld_router_find(req->server->options.router, req->method, req->raw, &req->target, err) < 0)
        return -1;
    if (req->conn->listener->read_only && !is_allowed_for_readers(req))
        return ld_err_set(err, LD_E_FORBIDDEN, "this socket is for reading metadata only");
    if (takes_json(req) && check_json_head(req, err) < 0)
        return -1;
    if (takes_json(req) && req->length != UINT64_MAX && req->length > LD_MAX_BODY)
        return too_large(err);
    return 0;
}

static void call_handler(struct ld_request *req)
{
    req->app_holds = true;
    req->target.route->handler(req);
}

static enum MHD_Result on_headers(struct ld_request *req, const char *method)
{
    struct ld_err err = LD_ERR_INIT;

    req->is_begun = true;
    (void)strncat(req->method, method, sizeof(req->method) - 1);
    req->length = body_length(req);
    if (check_head(req, &err) < 0) {
        refuse(req, &err);
    } else if (req->target.route->flags & LD_ROUTE_UPLOAD) {
        call_handler(req);
        assert(req->upload || req->state == LD_ANSWER_READY);
        req->body = LD_BODY_UPLOAD;
    } else {
        req->body = takes_json(req) ? LD_BODY_JSON : LD_BODY_DISCARD;
        req->discard_left = SHORT_BODY;
    }
    if (req->state == LD_ANSWER_NONE || req->length == 0)
        return MHD_YES;

    req->body = LD_BODY_DISCARD;
    if (header_of(req, "Expect"))
        return queue_reply(req);
    if (req->length <= SHORT_BODY || req->length == UINT64_MAX)
        req->discard_left = SHORT_BODY;
    return MHD_YES;
}

/* ---- the body ---- */

static enum MHD_Result discard(struct ld_request *req, size_t *size)
{
    size_t n = *size;

    *size = 0;
    if (req->state == LD_ANSWER_SENT)
        return ld_loop_now_ms(req->server->options.loop) > req->linger_until_ms ? MHD_NO : MHD_YES;
    if (n <= req->discard_left) {
        req->discard_left -= n;
        return MHD_YES;
    }
    if (req->state == LD_ANSWER_NONE) {
        struct ld_err err = LD_ERR_INIT;

        (void)ld_err_set(&err, LD_E_TOO_LARGE, "this resource takes no body");
        refuse(req, &err);
    }
    send_early(req);
    return MHD_YES;
}

static enum MHD_Result gather_json(struct ld_request *req, const char *data, size_t *size)
{
    struct ld_err err = LD_ERR_INIT;

    ld_buf_add(&req->json_text, data, *size);
    if (!req->json_text.full) {
        *size = 0;
        return MHD_YES;
    }
    (void)too_large(&err);
    refuse(req, &err);
    req->body = LD_BODY_DISCARD;
    req->discard_left = 0;
    return discard(req, size);
}

/* Writes what fits; gives the bytes taken. A ring that the worker has left takes everything: its
 * operation is about to reply, or has. */
static size_t pour(struct ld_request *req, const char *data, size_t size)
{
    size_t done = 0;

    while (done < size) {
        size_t n;

        switch (ld_ring_try_write(req->upload, data + done, size - done, &n)) {
        case LD_RING_MOVED:
            done += n;
            req->server->stats.bytes_in += n;
            break;
        case LD_RING_ABORTED:
            return size;
        case LD_RING_WAIT:
        case LD_RING_END:
            return done;
        }
    }
    return done;
}

/* The body is through and all of it in the ring. */
static void try_end_upload(struct ld_request *req)
{
    if (!req->upload_is_whole || req->overflow.len > 0)
        return;
    ld_ring_end(req->upload);
    leave_upload(req);
    req->body = LD_BODY_DONE;
    if (req->stream)
        ld_stream_body_is_through(req->stream);
}

void ld_exchange_pour_on(struct ld_request *req)
{
    struct ld_buf *rest = &req->overflow;
    size_t done = pour(req, ld_buf_str(rest), rest->len);

    if (done > 0)
        memmove(rest->data, rest->data + done, rest->len - done);
    rest->len -= done;
    if (rest->len > 0)
        return;
    if (req->upload_is_whole)
        try_end_upload(req);
    else
        ld_exchange_resume(req);
    maybe_free(req);
}

void ld_exchange_abort_upload(struct ld_request *req)
{
    struct ld_err err = LD_ERR_INIT;

    if (!req->upload)
        return;
    (void)ld_err_set(&err, LD_E_CANCELED, "cancelled");
    ld_ring_abort(req->upload, &err);
    /* What is in hand goes nowhere any more. */
    ld_exchange_pour_on(req);
}

void ld_exchange_be_patient(struct ld_request *req, bool is_patient)
{
    unsigned seconds = req->server->options.idle_timeout_s * (is_patient ? PATIENCE : 1);

    (void)MHD_set_connection_option(req->mhd, MHD_CONNECTION_OPTION_TIMEOUT, seconds);
}

static enum MHD_Result take_upload(struct ld_request *req, const char *data, size_t *size)
{
    size_t done = req->overflow.len > 0 ? 0 : pour(req, data, *size);

    ld_buf_add(&req->overflow, data + done, *size - done);
    *size = 0;
    if (req->overflow.full)
        return MHD_NO; /* cannot be: one run reads at most the connection's memory */
    if (req->overflow.len > 0)
        suspend_soon(req);
    return MHD_YES;
}

static enum MHD_Result on_data(struct ld_request *req, const char *data, size_t *size)
{
    req->has_data = true;
    switch (req->body) {
    case LD_BODY_JSON:
        return gather_json(req, data, size);
    case LD_BODY_UPLOAD:
        if (req->state == LD_ANSWER_NONE)
            return take_upload(req, data, size);
        req->body = LD_BODY_DISCARD;
        req->discard_left = 0;
        return discard(req, size);
    case LD_BODY_DISCARD:
        return discard(req, size);
    case LD_BODY_NONE:
    case LD_BODY_DONE:
        break;
    }
    abort(); /* libmicrohttpd gives no data outside the body */
}

/* ---- the last call: the body is through ---- */

static int parse_json(struct ld_request *req, struct ld_err *err)
{
    if (req->json_text.len == 0) {
        if (!(req->target.route->flags & LD_ROUTE_JSON_OPTIONAL))
            return ld_err_set(err, LD_E_INVALID, "a JSON object is missing in the body");
        req->json = cJSON_CreateObject();
        if (!req->json)
            return ld_err_set(err, LD_E_UNAVAILABLE, "out of memory");
        return 0;
    }
    if (ld_doc_parse(ld_buf_str(&req->json_text), req->json_text.len, "the body", &req->json, err) <
        0) {
        if (err->code == LD_E_BAD_CONTENT)
            err->code = LD_E_INVALID;
        return -1;
    }
    if (!cJSON_IsObject(req->json))
        return ld_err_set(err, LD_E_INVALID, "the body must be a JSON object");
    ld_buf_done(&req->json_text);
    return 0;
}

static void end_body(struct ld_request *req)
{
    bool is_json = req->body == LD_BODY_JSON;
    struct ld_err err = LD_ERR_INIT;

    if (req->counts_as_upload)
        ld_exchange_be_patient(req, false);
    if (req->body == LD_BODY_UPLOAD && req->upload) {
        req->upload_is_whole = true;
        try_end_upload(req);
        return;
    }
    req->body = LD_BODY_DONE;
    if (req->state != LD_ANSWER_NONE)
        return;
    if (is_json && parse_json(req, &err) < 0)
        refuse(req, &err);
    else
        call_handler(req);
}

static enum MHD_Result on_body_end(struct ld_request *req)
{
    if (req->body != LD_BODY_DONE)
        end_body(req);
    switch (req->state) {
    case LD_ANSWER_NONE:
        suspend_soon(req);
        return MHD_YES;
    case LD_ANSWER_READY:
        return queue_reply(req);
    case LD_ANSWER_SENT:
        return MHD_NO; /* closes, as the answer has said */
    case LD_ANSWER_QUEUED:
        return MHD_YES;
    }
    abort();
}

enum MHD_Result ld_exchange_on_access(void *cls, struct MHD_Connection *mhd, const char *url,
                                      const char *method, const char *version, const char *data,
                                      size_t *size, void **slot)
{
    struct ld_request *req = *slot;
    enum MHD_Result r;

    (void)cls;
    (void)mhd;
    (void)url; /* decoded by libmicrohttpd: we do that ourselves, from the raw one */
    (void)version;
    if (req->hung_up)
        return MHD_NO;
    assert(!req->in_access && !req->suspended);
    cancel_suspend_soon(req, req->conn->listener);
    req->in_access = true;
    if (!req->is_begun)
        r = on_headers(req, method);
    else if (*size > 0)
        r = on_data(req, data, size);
    else
        r = on_body_end(req);
    req->in_access = false;
    return r;
}
