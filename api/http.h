/* Private to api/: what server, exchange, requests and replies share. Loop thread.
 *
 * A request is held by two sides. libmicrohttpd holds it from its first line to the completed
 * callback; the application holds it from the handler's call to the reply. Either may let go first:
 * a reply to a client that has gone is dropped, and a client that has its early error may still be
 * sending its body. It is freed when both have let go.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <microhttpd.h>

#include "api/request.h"
#include "api/router.h"
#include "api/server.h"
#include "daemon/base/buf.h"
#include "daemon/jobs/op.h"

struct ld_stream;
struct ld_feed;
struct cJSON;

struct ld_listener {
    struct ld_server *server;
    struct ld_listener *next;
    struct MHD_Daemon *mhd;
    struct ld_watch *watch;
    struct ld_idle *idle;
    struct ld_timer *timer;
    struct ld_request *to_suspend; /* after this run */
    bool read_only;
};

struct ld_server {
    struct ld_server_options options;
    struct ld_listener *listeners;
    struct ld_request *requests; /* all that are not freed */
    struct ld_server_stats stats;
    struct ld_route_stats *routes; /* n_routes by number, then one for no route */
    size_t n_routes;
    struct ld_timer *later;  /* what may not be done from inside a call: on_later */
    struct ld_feed *unheard; /* feeds whose client had gone before they began */
    bool draining, is_drained;
    void (*drained)(void *arg);
    void *drained_arg;
};

/* A connection, made at accept. */
struct ld_conn {
    struct ld_listener *listener;
    struct ld_peer peer;
    int fd;                     /* libmicrohttpd's */
    struct ld_watch *hangup;    /* set while suspended: libmicrohttpd does not look then */
    struct ld_request *current; /* what it works on */
};

struct ld_header {
    struct ld_header *next;
    char *name, *value;
};

/* What is to be sent. */
struct ld_answer {
    int status;
    char *body; /* malloc'ed; NULL: none */
    size_t len;
    char *type;
    char *message; /* of an error, for the log */
    struct ld_header *headers;
    bool is_stream_head; /* HEAD of what would be a stream: no length */
};

/* Uploads are three times faster than with libmicrohttpd's default of 32 KiB. It is mapped, and
 * only what is used becomes memory. */
enum { LD_CONNECTION_MEMORY = 256 * 1024 };

/* The body, from the headers on. Allowed: none, json, upload, discard -> done; json, upload ->
 * discard. */
enum ld_body_state {
    LD_BODY_NONE,    /* there is none, or the headers are not through yet */
    LD_BODY_JSON,    /* gathered in memory */
    LD_BODY_UPLOAD,  /* goes into the ring */
    LD_BODY_DISCARD, /* thrown away: the reply is decided already */
    LD_BODY_DONE,
};

/* The reply. Allowed: none -> ready -> queued | sent. */
enum ld_answer_state {
    LD_ANSWER_NONE,
    LD_ANSWER_READY,  /* given, waits until libmicrohttpd can take it */
    LD_ANSWER_QUEUED, /* libmicrohttpd sends it */
    LD_ANSWER_SENT,   /* an early error, written by ourselves; the connection ends after the body */
};

struct ld_request {
    struct ld_server *server;
    struct ld_request *next, *prev;
    struct ld_conn *conn; /* NULL once the client has gone, or its answer is out */
    struct MHD_Connection *mhd;
    char id[33];
    char *raw; /* the target as it came */
    char method[16];
    struct ld_peer peer;
    struct ld_target target;
    uint64_t began_ns, length;

    bool is_begun;  /* the first call of the access handler is through */
    bool app_holds; /* the application owes a reply */
    bool in_access; /* inside the access handler */
    bool suspended, suspend_soon;
    struct ld_request *next_to_suspend;
    bool hung_up; /* the client has gone: end it at the next occasion */
    enum ld_body_state body;
    enum ld_answer_state state;
    struct ld_answer reply;

    struct ld_buf json_text;
    struct cJSON *json;
    bool has_data;         /* some of the body has come, so any 100-continue is through */
    uint64_t discard_left; /* so much is thrown away before the early reply */
    uint64_t linger_until_ms;

    struct ld_ring *upload;
    struct ld_buf overflow; /* of the ring: read already, to be written first */
    bool counts_as_upload, upload_is_whole;
    struct ld_stream *stream; /* a reference: it gives, or will give, the reply's body */
    struct ld_feed *feed;     /* likewise */
    struct ld_op *tied;       /* cancelled when the client vanishes */
    void (*tied_done)(struct ld_op *op);
};

/* server.c */
void ld_server_kick(struct ld_listener *listener); /* something may go on: run libmicrohttpd soon */
void ld_server_request_freed(struct ld_server *server);
void ld_server_later(struct ld_server *server); /* ends unheard feeds, reports the end of a drain */

/* exchange.c: libmicrohttpd's callbacks */
void *ld_exchange_on_uri(void *cls, const char *uri, struct MHD_Connection *mhd);
enum MHD_Result ld_exchange_on_access(void *cls, struct MHD_Connection *mhd, const char *url,
                                      const char *method, const char *version, const char *data,
                                      size_t *size, void **slot);
void ld_exchange_on_completed(void *cls, struct MHD_Connection *mhd, void **slot,
                              enum MHD_RequestTerminationCode how);
void ld_exchange_on_hangup(void *arg, unsigned events); /* of a struct ld_conn */
void ld_exchange_after_run(
    struct ld_listener *listener); /* of MHD_run: suspends who asked for it */
/* A body may be made while it is sent, and come to a halt for minutes (mmdebstrap unpacks packages
 * before the first byte of its tar). From inside the access handler. */
void ld_exchange_be_patient(struct ld_request *req, bool is_patient);
void ld_exchange_pour_on(struct ld_request *req); /* the upload's ring has room again */
void ld_exchange_abort_upload(struct ld_request *req);
/* For content readers: libmicrohttpd leaves the connection alone until ld_exchange_resume, which
 * may come once too often. */
void ld_exchange_suspend(struct ld_request *req);
void ld_exchange_resume(struct ld_request *req);
/* req->reply is complete (a stream's or a feed's: its head). The application lets go. */
void ld_exchange_reply(struct ld_request *req);
/* The application lets go without a reply: the client has gone. */
void ld_exchange_drop(struct ld_request *req);
/* The connection is cut at the next occasion. */
void ld_exchange_cut(struct ld_request *req);

/* reply.c */
void ld_header_add(struct ld_header **list, const char *name, const char *value);
void ld_headers_free(struct ld_header **list);
void ld_reply_fill_error(struct ld_request *req, const struct ld_err *err); /* without sending */
struct MHD_Response *ld_reply_make(struct ld_request *req); /* takes the body out of req->reply */
/* The whole answer as bytes, for an early error. */
void ld_reply_print(const struct ld_request *req, struct ld_buf *out);

/* stream.c */
struct MHD_Response *ld_stream_response(struct ld_stream *stream);
struct MHD_Response *ld_stream_head_response(void);
struct MHD_Response *ld_feed_response(struct ld_feed *feed);
void ld_stream_body_is_through(struct ld_stream *stream); /* the request's: it may answer now */
void ld_stream_client_gone(struct ld_stream *stream);     /* lets go of the request */
void ld_stream_abandon(struct ld_stream *stream);
void ld_feed_client_gone(struct ld_feed *feed);
void ld_feed_end_unheard(struct ld_server *server);
void ld_feed_cut(struct ld_feed *feed); /* at a drain */

/* For verb.c: a stream that operations, one after the other, write by ld_stream_ring. is_tied: the
 * one under way is cancelled when the client vanishes before its body is through. */
struct ld_stream *ld_stream_attach(struct ld_request *req, const char *content_type, bool is_tied);
void ld_stream_go_on(struct ld_stream *stream, struct ld_op *op); /* op is submitted next */
/* Ends it, on the loop, once op is done: `last` (taken) is sent last. Drops the reference. */
void ld_stream_finish(struct ld_stream *stream, char *last);
/* Likewise, when nothing has been sent yet: gives the request back for a plain reply, and drops the
 * reference. NULL: too late or nobody there; nothing happens. */
struct ld_request *ld_stream_take_back(struct ld_stream *stream);
