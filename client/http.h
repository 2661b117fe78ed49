/* HTTP over the daemon's unix socket. Blocking; one thread; one connection, kept between calls. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "daemon/base/buf.h"
#include "daemon/base/cleanup.h"

struct ld_err;
struct ld_http;

#define LD_HTTP_DEFAULT_HOST "unix:///run/layerd/layerd.sock"

/* `host` is unix:///PATH or an absolute path. Does not connect. LD_E_INVALID for anything else. */
int ld_http_open(const char *host, struct ld_http **ret, struct ld_err *err) ld_must_check;
void ld_http_close_p(struct ld_http **http);

#define autohttp LD_AUTO(ld_http_close_p)

/* Where an upload comes from: up to len bytes, 0 at the end, -errno. */
typedef ssize_t (*ld_http_read_fn)(void *arg, void *data, size_t len);
/* Where a reply's body goes; called for 2xx only. -1 with err filled ends the call. */
typedef int (*ld_http_write_fn)(void *arg, const void *data, size_t len, struct ld_err *err);

struct ld_http_call {
    const char *method;
    const char *target;     /* path and query, escaped already: see ld_url_* */
    const char *headers[6]; /* "Name: value" */
    const void *body;       /* a whole body, or */
    size_t body_len;
    ld_http_read_fn read; /* a streamed one; */
    void *read_arg;
    bool has_size;          /* its size, when known, */
    uint64_t size;          /* is promised to the server */
    ld_http_write_fn write; /* NULL: the body is collected in the reply */
    void *write_arg;
    bool keep_errors; /* a status of 400 and above is a reply like any other, written too */
};

struct ld_http_reply {
    int status;
    char content_type[128]; /* in lower case, without parameters */
    struct ld_buf stat;     /* X-Layerd-Stat */
    struct ld_buf body;
};

#define LD_HTTP_REPLY_INIT                                                                         \
    ((struct ld_http_reply){.stat = {.max = 256 << 10}, .body = {.max = (size_t)256 << 20}})

void ld_http_reply_done(struct ld_http_reply *reply);
#define autoreply LD_AUTO(ld_http_reply_done)

/* One request and its whole reply. -1: the daemon cannot be reached (LD_E_UNAVAILABLE with a hint
 * what to do), the reply broke off (LD_E_IO), or the daemon answered an error, which then is *err,
 * its code that of the reply. A status alone decides when the body is no error document. */
int ld_http_run(struct ld_http *http, const struct ld_http_call *call, struct ld_http_reply *reply,
                struct ld_err *err) ld_must_check;

/* The error a reply tells: fills *err from an error document (an object with "error" in it), or
 * from the status when it is none. Returns -1. */
int ld_http_error(int status, const char *body, size_t len, struct ld_err *err);

/* Paths: segments are escaped whole; references keep the slashes of their names. The first query
 * key is told from the later ones by the '?' in the buffer. */
void ld_url_segment(struct ld_buf *url, const char *segment);
void ld_url_reference(struct ld_buf *url, const char *reference);
void ld_url_query(struct ld_buf *url, const char *key, const char *value);

/* More than a command line can hold, escaped: a buffer of this ceiling never fills up. */
enum { LD_URL_MAX = 16 << 20 };
#define LD_URL_INIT LD_BUF_INIT(LD_URL_MAX)
