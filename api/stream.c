/* Streamed replies: see reply.h. Loop thread, but for what producers call.
 *
 * A stream is held by its request, until the client has the last byte or has gone, and by whoever
 * writes it, until that operation is done. Its head (status and headers) waits for bytes in the
 * ring, and for the end of the request's body: libmicrohttpd cannot do both at once.
 *
 * `ring` is constant. The producer may add headers before its first byte; the loop looks at them
 * after it has seen bytes, so the ring's lock orders the two.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include <cjson/cJSON.h>

#include "api/http.h"
#include "api/reply.h"
#include "daemon/base/mem.h"
#include "daemon/jobs/loop.h"
#include "daemon/jobs/ring.h"

enum {
    STREAM_RING = 256 * 1024,
    HEAD_WAITS =
        64 * 1024, /* for so much of a producer's body: what fails until then has a status */
    VERB_RING = 64 * 1024,
    BLOCK = 128 * 1024, /* libmicrohttpd's piece where the length is known */
    MAX_FEED = 1 << 20, /* unsent bytes of a feed */
};

/* Two own it, the request and who writes it: the one that lets go last frees it. */
struct ld_stream {
    struct ld_request *req; /* NULL once it has let go */
    bool has_writer;
    struct ld_server *server;
    struct ld_ring *ring;
    struct ld_op *work; /* who writes it; NULL once that is done */
    bool is_tied;       /* work is cancelled when the client vanishes */
    struct ld_op op;    /* the producer's */
    struct ld_producer producer;
    bool is_producer, has_begun;
    char request_id[33];
    const char *type;
    struct ld_header *headers;
    uint64_t length;
    char *last; /* after the ring */
    size_t last_len, last_at;
};

static void free_if_left(struct ld_stream *stream)
{
    if (stream->req || stream->has_writer)
        return;
    stream->server->stats.downloads -= stream->is_producer;
    ld_headers_free(&stream->headers);
    free(stream->last);
    free(stream);
}

/* The request lets go, or is let go. */
static void detach(struct ld_stream *stream)
{
    stream->req->stream = NULL;
    stream->req = NULL;
    ld_ring_leave_loop(stream->ring);
    free_if_left(stream);
}

/* The writer lets go, after its last word. */
static void leave(struct ld_stream *stream)
{
    stream->has_writer = false;
    free_if_left(stream);
}

/* ---- the beginning of the reply ---- */

static void begin(struct ld_stream *stream)
{
    struct ld_request *req = stream->req;
    struct ld_header **end = &req->reply.headers;

    stream->has_begun = true;
    req->reply.status = stream->is_producer ? stream->producer.status : 200;
    req->reply.type = ld_strdup(stream->type);
    while (*end)
        end = &(*end)->next;
    *end = ld_steal(&stream->headers);
    ld_exchange_reply(req);
}

static void try_begin(struct ld_stream *stream)
{
    struct ld_request *req = stream->req;
    struct ld_err cause;

    if (!req || stream->has_begun || req->body != LD_BODY_DONE)
        return;
    switch (ld_ring_poll(stream->ring, stream->is_producer ? HEAD_WAITS : 1)) {
    case LD_RING_WAIT:
        return;
    case LD_RING_MOVED:
    case LD_RING_END:
        begin(stream);
        return;
    case LD_RING_ABORTED:
        cause = *ld_ring_cause(stream->ring);
        detach(stream);
        ld_reply_error(req, &cause);
        return;
    }
}

void ld_stream_body_is_through(struct ld_stream *stream)
{
    try_begin(stream);
}

static void on_wake(void *arg)
{
    struct ld_stream *stream = arg;

    if (stream->has_begun)
        ld_exchange_resume(stream->req);
    else
        try_begin(stream);
}

void ld_stream_client_gone(struct ld_stream *stream)
{
    struct ld_request *req = stream->req;

    if (stream->work && stream->is_tied && !req->upload_is_whole)
        ld_ops_cancel(stream->server->options.ops, stream->work);
    if (!stream->has_begun)
        ld_exchange_drop(req);
    detach(stream);
}

/* What a producer has written already is still sent when it is done. */
void ld_stream_abandon(struct ld_stream *stream)
{
    if (stream->is_producer && stream->work)
        ld_ops_cancel(stream->server->options.ops, stream->work);
}

/* ---- libmicrohttpd asks for bytes ---- */

static ssize_t read_last(struct ld_stream *stream, char *buf, size_t max)
{
    size_t left = stream->last_len - stream->last_at;
    size_t n = left < max ? left : max;

    if (n == 0)
        return MHD_CONTENT_READER_END_OF_STREAM;
    memcpy(buf, stream->last + stream->last_at, n);
    stream->last_at += n;
    return (ssize_t)n;
}

static ssize_t read_stream(void *cls, uint64_t at, char *buf, size_t max)
{
    struct ld_stream *stream = cls;
    size_t n;

    (void)at;
    if (stream->req->hung_up)
        return MHD_CONTENT_READER_END_WITH_ERROR;
    switch (ld_ring_try_read(stream->ring, buf, max, &n)) {
    case LD_RING_MOVED:
        stream->server->stats.bytes_out += n;
        return (ssize_t)n;
    case LD_RING_WAIT:
        ld_exchange_suspend(stream->req);
        return 0;
    case LD_RING_END:
        return read_last(stream, buf, max);
    case LD_RING_ABORTED:
        break;
    }
    return MHD_CONTENT_READER_END_WITH_ERROR;
}

struct MHD_Response *ld_stream_response(struct ld_stream *stream)
{
    return MHD_create_response_from_callback(stream->length, BLOCK, read_stream, stream, NULL);
}

static ssize_t read_nothing(void *cls, uint64_t at, char *buf, size_t max)
{
    (void)cls;
    (void)at;
    (void)buf;
    (void)max;
    return MHD_CONTENT_READER_END_OF_STREAM;
}

/* libmicrohttpd 0.9.75 answers HEAD with the last chunk of an empty body where the length is not
 * known, which the client would take for the next reply. So such an answer is not chunked, and the
 * last one. */
struct MHD_Response *ld_stream_head_response(void)
{
    struct MHD_Response *response =
        MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, BLOCK, read_nothing, NULL, NULL);

    if (response)
        (void)MHD_set_response_options(response, MHD_RF_HTTP_1_0_COMPATIBLE_STRICT,
                                       MHD_RO_END); /* cannot fail */
    return response;
}

/* ---- producers ---- */

static struct ld_stream *stream_new(struct ld_request *req, size_t capacity, const char *type)
{
    struct ld_stream *stream = ld_new(struct ld_stream);

    stream->has_writer = true;
    stream->server = req->server;
    stream->req = req;
    stream->type = type;
    stream->length = MHD_SIZE_UNKNOWN;
    stream->ring =
        ld_ring_new(req->server->options.loop, LD_RING_TO_LOOP, capacity, on_wake, stream);
    memcpy(stream->request_id, req->id, sizeof(stream->request_id));
    assert(!req->stream);
    req->stream = stream;
    return stream;
}

static int run_producer(struct ld_op *op, struct ld_err *err)
{
    struct ld_stream *stream = op->arg;
    int r = stream->producer.run(stream, stream->producer.arg, err);

    if (r == 0)
        ld_ring_end(stream->ring);
    else
        ld_ring_abort(stream->ring, err);
    return r;
}

/* It may wait for room in the ring. */
static void producer_canceled(struct ld_op *op)
{
    struct ld_stream *stream = op->arg;
    struct ld_err err = LD_ERR_INIT;

    (void)ld_err_set(&err, LD_E_CANCELED, "cancelled");
    ld_ring_abort(stream->ring, &err);
}

static void producer_done(struct ld_op *op)
{
    struct ld_stream *stream = op->arg;

    assert(stream->has_writer);
    stream->work = NULL;
    if (op->rc < 0)
        ld_ring_abort(stream->ring, &op->err); /* where it never ran */
    ld_ring_leave_worker(stream->ring);
    if (stream->producer.free)
        stream->producer.free(stream->producer.arg);
    if (stream->req)
        on_wake(stream); /* an abort by the loop wakes nobody */
    leave(stream);
}

/* The reply of a stream whose client wants the head only, or is gone: nothing is produced. */
static void reply_without(struct ld_request *req, const struct ld_producer *producer)
{
    if (producer->free)
        producer->free(producer->arg);
    req->reply.status = producer->status;
    req->reply.type = ld_strdup(producer->content_type);
    req->reply.is_stream_head = true;
    ld_exchange_reply(req);
}

void ld_reply_stream(struct ld_request *req, const struct ld_producer *producer)
{
    struct ld_server *server = req->server;
    struct ld_stream *stream;

    if (ld_request_is_head(req) || !req->conn) {
        reply_without(req, producer);
        return;
    }
    if (server->stats.downloads >= LD_MAX_DOWNLOADS) {
        struct ld_err err = LD_ERR_INIT;

        if (producer->free)
            producer->free(producer->arg);
        (void)ld_err_set(&err, LD_E_UNAVAILABLE, "%d downloads are under way already",
                         LD_MAX_DOWNLOADS);
        ld_reply_error(req, &err);
        return;
    }
    stream = stream_new(req, STREAM_RING, producer->content_type);
    stream->is_producer = true;
    server->stats.downloads++;
    stream->producer = *producer;
    stream->work = &stream->op;
    stream->is_tied = true;
    ld_op_init(&stream->op, LD_LANE_STREAM, run_producer, producer_done, stream);
    stream->op.on_cancel = producer_canceled;
    ld_ops_submit(server->options.ops, &stream->op);
    try_begin(stream); /* arms the wake */
}

int ld_stream_write(struct ld_stream *stream, const void *data, size_t len, struct ld_err *err)
{
    return ld_ring_write(stream->ring, data, len, err);
}

int ld_stream_json_line(struct ld_stream *stream, struct cJSON *json, struct ld_err *err)
{
    autofree char *text = cJSON_PrintUnformatted(json);
    size_t len;

    cJSON_Delete(json);
    if (!text)
        return ld_err_set(err, LD_E_UNAVAILABLE, "out of memory");
    len = strlen(text);
    text[len] = '\n'; /* in the place of the NUL */
    return ld_ring_write(stream->ring, text, len + 1, err);
}

struct ld_ring *ld_stream_ring(struct ld_stream *stream)
{
    return stream->ring;
}

const bool *ld_stream_cancel(const struct ld_stream *stream)
{
    return &stream->op.cancel;
}

const char *ld_stream_request_id(const struct ld_stream *stream)
{
    return stream->request_id;
}

void ld_stream_header(struct ld_stream *stream, const char *name, const char *value)
{
    assert(ld_ring_total(stream->ring) == 0);
    ld_header_add(&stream->headers, name, value);
}

void ld_stream_length(struct ld_stream *stream, uint64_t length)
{
    assert(ld_ring_total(stream->ring) == 0);
    stream->length = length;
}

/* ---- streams of verbs ---- */

/* It may wait for bytes of its client. */
static void verb_canceled(struct ld_op *op)
{
    struct ld_stream *stream = op->tag;

    if (stream->req)
        ld_exchange_abort_upload(stream->req);
}

struct ld_stream *ld_stream_attach(struct ld_request *req, const char *content_type, bool is_tied)
{
    struct ld_stream *stream = stream_new(req, VERB_RING, content_type);

    stream->is_tied = is_tied;
    assert(stream->has_writer); /* so it stays, whatever becomes of the request */
    try_begin(stream);          /* arms the wake, where the body is through already */
    return stream;
}

void ld_stream_go_on(struct ld_stream *stream, struct ld_op *op)
{
    stream->work = op;
    op->on_cancel = verb_canceled;
    op->tag = stream;
}

void ld_stream_finish(struct ld_stream *stream, char *last)
{
    assert(stream->has_writer);
    stream->work = NULL;
    stream->last = last;
    stream->last_len = strlen(last);
    ld_ring_end(stream->ring);
    ld_ring_leave_worker(stream->ring);
    try_begin(stream);
    if (stream->req)
        ld_exchange_resume(stream->req); /* it may wait for more */
    leave(stream);
}

struct ld_request *ld_stream_take_back(struct ld_stream *stream)
{
    struct ld_request *req = stream->req;

    assert(stream->has_writer);
    if (!req || stream->has_begun)
        return NULL;
    stream->work = NULL;
    detach(stream);
    ld_ring_leave_worker(stream->ring);
    leave(stream);
    return req;
}

/* ---- feeds ---- */

struct ld_feed {
    struct ld_server *server;
    struct ld_request *req; /* NULL: nobody was there from the beginning */
    void (*ended)(void *arg);
    void *arg;
    struct ld_feed *next_unheard;
    bool is_ending;
    struct ld_buf unsent;
    size_t at; /* of it, sent already */
};

void ld_feed_client_gone(struct ld_feed *feed)
{
    if (feed->req)
        feed->req->feed = NULL;
    feed->server->stats.feeds--;
    if (feed->ended)
        feed->ended(feed->arg);
    ld_buf_done(&feed->unsent);
    free(feed);
}

void ld_feed_end_unheard(struct ld_server *server)
{
    while (server->unheard) {
        struct ld_feed *feed = server->unheard;

        server->unheard = feed->next_unheard;
        ld_feed_client_gone(feed);
    }
}

struct ld_feed *ld_reply_feed(struct ld_request *req, const char *content_type,
                              void (*ended)(void *arg), void *arg)
{
    struct ld_server *server = req->server;
    struct ld_feed *feed;

    if (server->stats.feeds >= LD_MAX_FEEDS) {
        struct ld_err err = LD_ERR_INIT;

        (void)ld_err_set(&err, LD_E_UNAVAILABLE, "%d followers are connected already",
                         LD_MAX_FEEDS);
        ld_reply_error(req, &err);
        return NULL;
    }
    feed = ld_new(struct ld_feed);
    server->stats.feeds++;
    feed->server = server;
    feed->ended = ended;
    feed->arg = arg;
    feed->unsent = LD_BUF_INIT(2 * MAX_FEED);
    if (req->conn) {
        feed->req = req;
        req->feed = feed;
    } else {
        feed->next_unheard = server->unheard;
        server->unheard = feed;
        ld_server_later(server);
    }
    req->reply.status = 200;
    req->reply.type = ld_strdup(content_type);
    ld_exchange_reply(req);
    return feed;
}

bool ld_feed_write(struct ld_feed *feed, const void *data, size_t len)
{
    ld_assert_loop();
    if (!feed->req || feed->req->hung_up || feed->is_ending)
        return false;
    if (feed->unsent.len - feed->at + len > MAX_FEED) {
        ld_exchange_cut(feed->req);
        return false;
    }
    if (feed->at == feed->unsent.len) {
        ld_buf_clear(&feed->unsent);
        feed->at = 0;
    }
    ld_buf_add(&feed->unsent, data, len);
    assert(!feed->unsent.full);
    ld_exchange_resume(feed->req);
    return true;
}

size_t ld_feed_unsent(const struct ld_feed *feed)
{
    return feed->unsent.len - feed->at;
}

void ld_feed_end(struct ld_feed *feed)
{
    feed->ended = NULL;
    ld_feed_cut(feed);
}

void ld_feed_cut(struct ld_feed *feed)
{
    feed->is_ending = true;
    if (feed->req)
        ld_exchange_resume(feed->req);
}

static ssize_t read_feed(void *cls, uint64_t at, char *buf, size_t max)
{
    struct ld_feed *feed = cls;
    size_t left = feed->unsent.len - feed->at;
    size_t n = left < max ? left : max;

    (void)at;
    if (feed->req->hung_up)
        return MHD_CONTENT_READER_END_WITH_ERROR;
    if (n == 0 && feed->is_ending)
        return MHD_CONTENT_READER_END_OF_STREAM;
    if (n == 0) {
        ld_exchange_suspend(feed->req);
        return 0;
    }
    memcpy(buf, feed->unsent.data + feed->at, n);
    feed->at += n;
    feed->server->stats.bytes_out += n;
    return (ssize_t)n;
}

struct MHD_Response *ld_feed_response(struct ld_feed *feed)
{
    return MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, BLOCK, read_feed, feed, NULL);
}
