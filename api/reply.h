/* Replies: exactly one per request. Each consumes the request. Loop thread unless said otherwise.
 *
 * `Server` and `X-Request-Id` are added to all of them; HEAD gets the headers only.
 */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/base/err.h"
#include "daemon/jobs/op.h"

struct cJSON;
struct ld_request;
struct ld_ring;

/* Adds a header to the reply that is to come. The value is copied; control characters in it become
 * '?'. */
void ld_reply_header(struct ld_request *req, const char *name, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* Takes the JSON value. */
void ld_reply_json(struct ld_request *req, int status, struct cJSON *json);
/* The same for what has a version: with an ETag, `"VERSION-DIGEST"`, the digest being that of what
 * is shown (which changes without the record: mounted, used). A GET whose If-None-Match names it is
 * answered 304. */
enum { LD_ETAG_DIGITS = 16 };
void ld_reply_object(struct ld_request *req, int status, uint64_t version, struct cJSON *json);
void ld_reply_error(struct ld_request *req, const struct ld_err *err);
void ld_reply_empty(struct ld_request *req, int status);
void ld_reply_text(struct ld_request *req, int status, const char *content_type, const char *text);

/* {"error": {…}} as in a reply: for NDJSON streams. Any thread. The caller frees it. */
struct cJSON *ld_error_json(const struct ld_err *err, const char *request_id);
/* Bytes as a JSON string, U+FFFD for what is not UTF-8. `ret_exact`: nothing was replaced (may be
 * NULL). Any thread. */
struct cJSON *ld_bytes_json(const char *bytes, bool *ret_exact);

/* ---- streams: a producer on the stream lane ---- */

struct ld_stream;

struct ld_producer {
    /* On a worker, blocking: writes the body by ld_stream_*. Status and headers are sent when 64
     * KiB are written, or when it ends: so a failure before that becomes a normal error reply, one
     * after it cuts the body (NDJSON producers write their error line themselves and succeed). */
    int (*run)(struct ld_stream *stream, void *arg, struct ld_err *err);
    void (*free)(
        void *arg); /* on the loop, exactly once, also when run was never called; or NULL */
    void *arg;
    int status;               /* 200 */
    const char *content_type; /* a constant */
};
/* Starts it; HEAD gets the headers without running it. Too many at once: unavailable. The stream is
 * cancelled when the client vanishes. */
void ld_reply_stream(struct ld_request *req, const struct ld_producer *producer);

/* For the producer, on its worker. write: -1 canceled when the client is gone. */
int ld_stream_write(struct ld_stream *stream, const void *data, size_t len,
                    struct ld_err *err) ld_must_check;
int ld_stream_json_line(struct ld_stream *stream, struct cJSON *json,
                        struct ld_err *err) ld_must_check; /* takes the value; adds '\n' */
struct ld_ring *ld_stream_ring(struct ld_stream *stream);  /* for reserve and commit */
const bool *ld_stream_cancel(const struct ld_stream *stream);
const char *ld_stream_request_id(const struct ld_stream *stream);
/* Before the first byte: one more header; the body's exact length, when it is known. */
void ld_stream_header(struct ld_stream *stream, const char *name, const char *value);
void ld_stream_length(struct ld_stream *stream, uint64_t length);

/* ---- feeds: a stream written by the loop (events that are followed) ---- */

struct ld_feed;

/* ended(arg) is called once, when the client has gone, was too slow, or the server drains; the feed
 * is invalid from then on. Headers are sent at once. */
/* NULL: too many; the request has been answered with unavailable. */
struct ld_feed *ld_reply_feed(struct ld_request *req, const char *content_type,
                              void (*ended)(void *arg), void *arg);
/* Never blocks. Over 1 MiB unsent the client is too slow: the feed ends (ended is called later, not
 * from here), false. */
bool ld_feed_write(struct ld_feed *feed, const void *data, size_t len);
/* Bytes that the client has not taken yet. */
size_t ld_feed_unsent(const struct ld_feed *feed);
/* End of the body; ended is not called any more. */
void ld_feed_end(struct ld_feed *feed);

/* ---- long verbs: import, export to disk, commit, prune, check ---- */

/* An operation with progress, in one of three forms of answer. work.h has it with a job, and is
 * what handlers use. Embedded in its owner, alive until free. The owner fills op (ld_op_init with
 * any done, keys), then starts it. */
struct ld_verb {
    struct ld_op op;
    /* Before op, or NULL: on a worker, without keys: what has to be done before a client can be
     * told that the rest goes on without it. begin_lane: stream when it takes the request's body.
     */
    int (*begin)(struct ld_verb *verb, struct ld_err *err);
    enum ld_lane begin_lane;
    /* After a begin, when op never ran (it was cancelled or refused while it waited): on a worker.
     */
    void (*abandon)(struct ld_verb *verb, const struct ld_err *why);
    bool is_over; /* set by op's run: nothing is left to be abandoned */
    /* On the loop after op succeeded: the result, and *status (200 already set). ld_reply_header
     * may be called on req (Location), which is NULL where headers come too late. NULL: an empty
     * reply. */
    struct cJSON *(*render)(struct ld_verb *verb, struct ld_request *req, int *status);
    void (*free)(struct ld_verb *verb); /* on the loop, last of all */
    const char *job_id; /* of its job record, or NULL; must live as long as the verb */
    bool tied;          /* begin, or op without a begin, is cancelled when the client vanishes */

    struct ld_request *req; /* private, as all below */
    struct ld_ops *ops;
    struct ld_op aside; /* begin, abandon */
    enum ld_verb_stage { LD_VERB_BEGINS, LD_VERB_WORKS, LD_VERB_ENDS } stage;
    bool is_async, has_begun;
    struct ld_stream *stream;
    pthread_mutex_t lock; /* of progress: several workers may report */
    uint64_t last_ms;
    char last_phase[32];
};
/* Plain: replies with render()'s JSON when op is done, or with its error. With `Accept:
 * application/x-ndjson`: 200 and one JSON object per line: progress lines, then exactly one
 * {"result": …} or {"error": …}. With `Prefer: respond-async` and a job_id: 202 and Location when
 * begin has succeeded (its error otherwise); nobody waits for the rest. */
void ld_reply_verb(struct ld_request *req, struct ld_verb *verb);
/* Loop: it is to end early, whatever it does now. Between ld_reply_verb and free. */
void ld_verb_cancel(struct ld_verb *verb);
/* From the operation, any worker: {"progress": {"id", "phase", "current", "total"}}; id may be
 * NULL, total 0 (null then): unknown. Cheap enough to be called per buffer: at most ten lines a
 * second are sent, more on a change of phase or at current == total. Never blocks: a line that a
 * slow client leaves no room for is dropped. */
void ld_verb_progress(struct ld_verb *verb, const char *phase, const char *id, uint64_t current,
                      uint64_t total);
