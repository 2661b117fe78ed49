/* Plain replies, errors as JSON, headers: see reply.h. Loop thread, but for the JSON helpers. */
#include "api/reply.h"

#include <assert.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cjson/cJSON.h>

#include "api/http.h"
#include "daemon/base/digest.h"
#include "daemon/base/mem.h"

static const char server_name[] = "layerd/" LD_VERSION;

/* ---- headers ---- */

void ld_header_add(struct ld_header **list, const char *name, const char *value)
{
    struct ld_header *h = ld_new(struct ld_header);

    while (*list)
        list = &(*list)->next;
    h->name = ld_strdup(name);
    h->value = ld_strdup(value);
    for (char *c = h->value; *c; c++)
        if ((unsigned char)*c < 0x20 || *c == 0x7F)
            *c = '?'; /* a line break would begin another header */
    *list = h;
}

void ld_headers_free(struct ld_header **list)
{
    while (*list) {
        struct ld_header *h = *list;

        *list = h->next;
        free(h->name);
        free(h->value);
        free(h);
    }
}

void ld_reply_header(struct ld_request *req, const char *name, const char *fmt, ...)
{
    autobuf struct ld_buf value = LD_BUF_INIT(16 * 1024);
    va_list ap;

    va_start(ap, fmt);
    ld_buf_vaddf(&value, fmt, ap);
    va_end(ap);
    ld_header_add(&req->reply.headers, name, ld_buf_str(&value));
}

/* ---- JSON ---- */

/* The length of the UTF-8 sequence at s, 0: there is none. */
static size_t utf8_len(const unsigned char *s)
{
    unsigned code;
    size_t n;

    if (*s < 0x80)
        return 1;
    if (*s >= 0xC2 && *s <= 0xDF) {
        n = 2;
        code = *s & 0x1F;
    } else if (*s >= 0xE0 && *s <= 0xEF) {
        n = 3;
        code = *s & 0x0F;
    } else if (*s >= 0xF0 && *s <= 0xF4) {
        n = 4;
        code = *s & 0x07;
    } else {
        return 0;
    }
    for (size_t i = 1; i < n; i++) {
        if ((s[i] & 0xC0) != 0x80)
            return 0;
        code = code << 6 | (s[i] & 0x3F);
    }
    if ((n == 3 && (code < 0x800 || (code >= 0xD800 && code <= 0xDFFF))) ||
        (n == 4 && (code < 0x10000 || code > 0x10FFFF)))
        return 0;
    return n;
}

/* A copy with U+FFFD for each byte that is not part of valid UTF-8. */
static char *to_utf8(const char *bytes, bool *ret_exact)
{
    autobuf struct ld_buf out = LD_BUF_INIT(3 * strlen(bytes) + 1);
    const unsigned char *s = (const unsigned char *)bytes;
    bool is_exact = true;

    while (*s) {
        size_t n = utf8_len(s);

        if (n > 0) {
            ld_buf_add(&out, s, n);
        } else {
            ld_buf_adds(&out, "\xEF\xBF\xBD");
            is_exact = false;
            n = 1;
        }
        s += n;
    }
    if (ret_exact)
        *ret_exact = is_exact;
    return ld_buf_take(&out);
}

struct cJSON *ld_bytes_json(const char *bytes, bool *ret_exact)
{
    autofree char *text = to_utf8(bytes, ret_exact);

    return cJSON_CreateString(text);
}

struct cJSON *ld_error_json(const struct ld_err *err, const char *request_id)
{
    struct cJSON *top = cJSON_CreateObject();
    struct cJSON *body = cJSON_AddObjectToObject(top, "error");
    struct cJSON *details = err->details[0] ? cJSON_Parse(err->details) : NULL;

    cJSON_AddStringToObject(body, "code", ld_code_name(err->code));
    cJSON_AddItemToObject(body, "message", ld_bytes_json(err->message, NULL));
    cJSON_AddItemToObject(body, "hint", ld_bytes_json(err->hint, NULL));
    cJSON_AddStringToObject(body, "request_id", request_id);
    cJSON_AddItemToObject(body, "details", details ? details : cJSON_CreateObject());
    return top;
}

/* ---- filling req->reply ---- */

static void fill(struct ld_request *req, int status, const char *type, char *body, size_t len)
{
    struct ld_answer *reply = &req->reply;

    assert(!reply->body);
    reply->status = status;
    reply->type = type ? ld_strdup(type) : NULL;
    reply->body = body;
    reply->len = len;
}

/* A line break at the end: for people with curl. */
static void fill_json(struct ld_request *req, int status, struct cJSON *json)
{
    char *text = cJSON_PrintUnformatted(json);
    size_t len;

    cJSON_Delete(json);
    if (!text)
        abort(); /* no memory, as ld_alloc0 would */
    len = strlen(text);
    text[len] = '\n'; /* in the place of the NUL; bodies have a length */
    fill(req, status, "application/json", text, len + 1);
}

void ld_reply_fill_error(struct ld_request *req, const struct ld_err *err)
{
    struct ld_err none = LD_ERR_INIT;

    if (err->code == LD_E_NONE) {
        (void)ld_err_set(&none, LD_E_INTERNAL, "an operation failed without saying why");
        err = &none;
    }
    fill_json(req, ld_code_status(err->code), ld_error_json(err, req->id));
    req->reply.message = ld_strdup(err->message);
    if (req->target.allow[0])
        ld_header_add(&req->reply.headers, "Allow", req->target.allow);
    if (req->reply.status == 503)
        ld_header_add(&req->reply.headers, "Retry-After", "1");
}

void ld_reply_json(struct ld_request *req, int status, struct cJSON *json)
{
    fill_json(req, status, json);
    ld_exchange_reply(req);
}

/* Does one item of the list name the entity? Weak comparison (RFC 9110, 13.1.2). */
static bool names_etag(const char *list, const char *etag)
{
    size_t len = strlen(etag);

    while (*list) {
        list += strspn(list, ", \t");
        if (*list == '*')
            return true;
        if (strncmp(list, "W/", 2) == 0)
            list += 2;
        if (strncmp(list, etag, len) == 0 && (list[len] == '\0' || strchr(", \t", list[len])))
            return true;
        list += strcspn(list, ",");
    }
    return false;
}

void ld_reply_object(struct ld_request *req, int status, uint64_t version, struct cJSON *json)
{
    const char *known = ld_request_header(req, "If-None-Match");
    bool is_read = strcmp(req->method, "GET") == 0 || ld_request_is_head(req);
    struct ld_answer *reply = &req->reply;
    char text[LD_DIGEST_TEXT];
    autofree char *etag = NULL;
    struct ld_digest digest;

    fill_json(req, status, json);
    digest = ld_digest_of(reply->body, reply->len);
    ld_digest_format(&digest, text);
    etag = ld_asprintf("\"%" PRIu64 "-%.*s\"", version, LD_ETAG_DIGITS, strchr(text, ':') + 1);
    ld_header_add(&reply->headers, "ETag", etag);
    if (is_read && known && names_etag(known, etag)) {
        ld_free_p(&reply->body);
        ld_free_p(&reply->type);
        fill(req, 304, NULL, NULL, 0);
    }
    ld_exchange_reply(req);
}

void ld_reply_error(struct ld_request *req, const struct ld_err *err)
{
    /* What was meant for a success does not fit an error. */
    ld_headers_free(&req->reply.headers);
    ld_reply_fill_error(req, err);
    ld_exchange_reply(req);
}

void ld_reply_empty(struct ld_request *req, int status)
{
    fill(req, status, NULL, NULL, 0);
    ld_exchange_reply(req);
}

void ld_reply_text(struct ld_request *req, int status, const char *content_type, const char *text)
{
    fill(req, status, content_type, ld_strdup(text), strlen(text));
    ld_exchange_reply(req);
}

/* ---- for the wire ---- */

static struct MHD_Response *make_body(struct ld_request *req)
{
    struct ld_answer *reply = &req->reply;
    struct MHD_Response *response;

    if (req->stream && !reply->body)
        return ld_stream_response(req->stream);
    if (req->feed)
        return ld_feed_response(req->feed);
    if (reply->is_stream_head)
        return ld_stream_head_response();
    if (!reply->body)
        return MHD_create_response_from_buffer(0, NULL, MHD_RESPMEM_PERSISTENT);
    response = MHD_create_response_from_buffer(reply->len, reply->body, MHD_RESPMEM_MUST_FREE);
    if (response)
        reply->body = NULL;
    return response;
}

/* A header that libmicrohttpd refuses (none of ours) is left out. */
static void put(struct MHD_Response *response, const char *name, const char *value)
{
    if (value)
        (void)MHD_add_response_header(response, name, value);
}

struct MHD_Response *ld_reply_make(struct ld_request *req)
{
    struct MHD_Response *response = make_body(req);

    if (!response)
        return NULL;
    put(response, "Server", server_name);
    put(response, "X-Request-Id", req->id);
    put(response, "Content-Type", req->reply.type);
    for (const struct ld_header *h = req->reply.headers; h; h = h->next)
        put(response, h->name, h->value);
    if (req->server->draining)
        put(response, "Connection", "close");
    return response;
}

void ld_reply_print(const struct ld_request *req, struct ld_buf *out)
{
    const struct ld_answer *reply = &req->reply;

    ld_buf_addf(out, "HTTP/1.1 %d %s\r\n", reply->status,
                MHD_get_reason_phrase_for((unsigned)reply->status));
    ld_buf_addf(out, "Server: %s\r\nX-Request-Id: %s\r\nConnection: close\r\n", server_name,
                req->id);
    if (reply->type)
        ld_buf_addf(out, "Content-Type: %s\r\n", reply->type);
    for (const struct ld_header *h = reply->headers; h; h = h->next)
        ld_buf_addf(out, "%s: %s\r\n", h->name, h->value);
    ld_buf_addf(out, "Content-Length: %zu\r\n\r\n", reply->len);
    if (reply->body)
        ld_buf_add(out, reply->body, reply->len);
}
