/* An HTTP client for tests: libcurl over the unix socket; every exchange is held against
 * openapi.yaml.
 *
 * A client belongs to one thread. The reply of a call is borrowed and lives until the next call.
 * JSON bodies may be written with single quotes: "{'image':'base'}" (none can then be inside a
 * value).
 *
 * With LD_API_COVERAGE=FILE in the environment each exchange appends a line "operation status code"
 * to it.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct cJSON;
struct ld_client;

struct ld_call {
    const char *method;
    const char *target;         /* path and query, sent as it is */
    const char *json;           /* a JSON body, single quotes allowed; or NULL */
    const char *body;           /* or raw bytes; NULL: none */
    size_t body_len;            /* of `body` */
    int body_fd;                /* or a file from its start to its end; 0: none */
    bool chunked;               /* body_fd without a length */
    const char *content_type;   /* NULL: application/json with json, else none */
    const char *const *headers; /* "Name: value", NULL at the end; or NULL */
    int to_fd;                  /* the reply's body goes there; 0: it is kept */
    unsigned seconds;           /* 0: 120 */
    bool unchecked;             /* not held against openapi.yaml */
};

struct ld_reply {
    int status;
    const char *body; /* NUL added */
    size_t len;
    struct cJSON *json; /* of an application/json body, else NULL */
};

struct ld_client *ld_client_new(const char *socket_path);
void ld_client_free(struct ld_client *client);
/* Closes its kept connection: the next call makes a new one. */
void ld_client_hang_up(struct ld_client *client);

/* NULL: the exchange did not come about, or was not as openapi.yaml has it (ld_client_problem says
 * what). Any thread: no assertion in here. */
const struct ld_reply *ld_client_call(struct ld_client *client, const struct ld_call *call);
const char *ld_client_problem(const struct ld_client *client);
/* Of the last reply; NULL: not there. */
const char *ld_client_header(const struct ld_client *client, const char *name);

/* ---- with assertions: the test's own thread ---- */

const struct ld_reply *ld_call(struct ld_client *client, const struct ld_call *call);
/* The JSON of a reply of that status (NULL for 204). */
struct cJSON *ld_want(struct ld_client *client, int status, const char *method, const char *json,
                      const char *fmt, ...) __attribute__((format(printf, 5, 6)));
/* An error of that code with a message; returns the error object. */
struct cJSON *ld_want_error(struct ld_client *client, const char *code, const char *method,
                            const char *json, const char *fmt, ...)
    __attribute__((format(printf, 5, 6)));

/* Members by path: "image.id", "items.0.name". Asserted to be there, of the type. */
const struct cJSON *ld_at(const struct cJSON *json, const char *path);
const char *ld_str(const struct cJSON *json, const char *path);
int64_t ld_int(const struct cJSON *json, const char *path);
bool ld_bool(const struct cJSON *json, const char *path);
bool ld_is_null(const struct cJSON *json, const char *path);
int ld_count(const struct cJSON *json, const char *path); /* of an array or object */

/* ---- replies that go on ---- */

struct ld_stream;
/* Begins a GET whose reply is read bit by bit. */
struct ld_stream *ld_stream_open(const char *socket_path, const char *target);
/* Reads until the text is in what has come so far (then true), the reply ended, or the time is up.
 */
bool ld_stream_wait(struct ld_stream *stream, const char *text, unsigned seconds);
const char *ld_stream_text(const struct ld_stream *stream);
/* Ends it; what came is held against openapi.yaml (asserted). */
void ld_stream_close(struct ld_stream *stream);

/* ---- bytes ---- */

/* A connection on which the test writes and reads what it likes. Asserted. */
int ld_raw_connect(const char *socket_path);
void ld_raw_send(int fd, const void *data, size_t len);
/* All until the peer closes or the time is up; NUL added; free it. */
char *ld_raw_read(int fd, unsigned seconds);
