/* Requests to layerd in terms of JSON documents. Blocking; one thread. */
#pragma once

#include <stdint.h>

#include <cjson/cJSON.h>

#include "client/cli.h"
#include "client/http.h"

struct ld_progress;

void ld_cjson_free_p(cJSON **json);
#define autojson LD_AUTO(ld_cjson_free_p)

/* A request with a JSON body (or none: NULL); the reply's text is kept. */
int ld_api_send(struct ld_cli *cli, const char *method, const char *target, const cJSON *body,
                struct ld_http_reply *reply, struct ld_err *err) ld_must_check;
/* POST of what makes something, under the command's --idempotency-key (LD_OPT_ONCE) if it is given.
 */
int ld_api_make(struct ld_cli *cli, const char *target, const cJSON *body,
                struct ld_http_reply *reply, struct ld_err *err) ld_must_check;
/* "Idempotency-Key: KEY", which the caller frees; NULL when the option is not given. LD_E_INVALID.
 */
int ld_api_once_header(const struct ld_args *args, char **ret, struct ld_err *err) ld_must_check;
/* The reply as a document, which the caller deletes; a reply that is no JSON is LD_E_IO. */
int ld_api_parse(const struct ld_http_reply *reply, cJSON **ret, struct ld_err *err) ld_must_check;
/* Both in one; ret may be NULL where the reply does not matter. */
int ld_api_json(struct ld_cli *cli, const char *method, const char *target, const cJSON *body,
                cJSON **ret, struct ld_err *err) ld_must_check;

/* Long work: asks for NDJSON, shows its progress, gives its result, which the caller deletes. A
 * stream that ends without one is a failure. The call has room for one more header and writes
 * nowhere. */
int ld_api_long(struct ld_cli *cli, const struct ld_http_call *call, struct ld_progress *progress,
                cJSON **ret, struct ld_err *err) ld_must_check;

/* A step of long work, as its stream and its job tell it. */
void ld_api_show_progress(struct ld_progress *progress, const cJSON *step);

/* NDJSON line by line: feed bytes, get whole lines. A line over 16 MiB is LD_E_IO. */
typedef int (*ld_line_fn)(void *arg, const char *line, size_t len, struct ld_err *err);
struct ld_lines {
    struct ld_buf pending;
    ld_line_fn fn;
    void *arg;
};
#define LD_LINES_INIT(fn_, arg_)                                                                   \
    {                                                                                              \
        .pending = {.max = (size_t)16 << 20}, .fn = (fn_), .arg = (arg_)                           \
    }
int ld_lines_feed(void *lines, const void *data, size_t len,
                  struct ld_err *err); /* ld_http_write_fn */
void ld_lines_done(struct ld_lines *lines);

/* Members of an object, with something harmless where there is none of that type. */
const char *ld_field_str(const cJSON *object, const char *name);  /* or "" */
uint64_t ld_field_u64(const cJSON *object, const char *name);     /* or 0 */
bool ld_field_bool(const cJSON *object, const char *name);        /* or false */
bool ld_field_has(const cJSON *object, const char *name);         /* there, and not null */
const cJSON *ld_field_get(const cJSON *object, const char *name); /* or NULL; nested: "a.b" no */
/* The bytes of a path or name, safe to print: where they are not UTF-8, the daemon sends them in
 * base64 too. Free it. */
char *ld_json_bytes(const cJSON *object, const char *name) __attribute__((returns_nonnull));
int64_t ld_field_time(const cJSON *object, const char *name); /* or 0 */
