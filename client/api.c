/* The API as documents: see api.h. */
#include "client/api.h"

#include <assert.h>
#include <string.h>

#include "client/progress.h"
#include "client/text.h"
#include "daemon/base/err.h"
#include "daemon/base/mem.h"
#include "daemon/base/parse.h"

static const char json_type[] = "application/json";
static const char ndjson_type[] = "application/x-ndjson";

void ld_cjson_free_p(cJSON **json)
{
    cJSON_Delete(*json);
    *json = NULL;
}

/* header: one more of them, or NULL. */
static int send_json(struct ld_cli *cli, const char *method, const char *target, const cJSON *body,
                     const char *header, struct ld_http_reply *reply, struct ld_err *err)
{
    struct ld_http_call call = {.method = method, .target = target};
    size_t n = 0;
    struct ld_http *http;
    char *text = NULL;
    int r;

    if (ld_cli_http(cli, &http, err) < 0)
        return -1;
    if (body) {
        text = cJSON_PrintUnformatted(body);
        if (!text)
            return ld_err_set(err, LD_E_INTERNAL, "no memory for the request");
        call.headers[n++] = "Content-Type: application/json";
        call.body = text;
        call.body_len = strlen(text);
    }
    call.headers[n] = header;
    r = ld_http_run(http, &call, reply, err);
    cJSON_free(text);
    return r;
}

int ld_api_send(struct ld_cli *cli, const char *method, const char *target, const cJSON *body,
                struct ld_http_reply *reply, struct ld_err *err)
{
    return send_json(cli, method, target, body, NULL, reply, err);
}

/* The daemon says what a key may have in it; what would break the request is refused here. */
int ld_api_once_header(const struct ld_args *args, char **ret, struct ld_err *err)
{
    const char *key = ld_args_value(args, "idempotency-key");

    *ret = NULL;
    if (!key)
        return 0;
    for (const char *p = key; *p; p++) {
        if (*p < 0x21 || *p > 0x7E)
            return ld_err_set(err, LD_E_INVALID,
                              "the idempotency key has a blank or another special character in it");
    }
    if (!*key)
        return ld_err_set(err, LD_E_INVALID, "the idempotency key is empty");
    *ret = ld_asprintf("Idempotency-Key: %s", key);
    return 0;
}

int ld_api_make(struct ld_cli *cli, const char *target, const cJSON *body,
                struct ld_http_reply *reply, struct ld_err *err)
{
    autofree char *header = NULL;

    if (ld_api_once_header(cli->args, &header, err) < 0)
        return -1;
    return send_json(cli, "POST", target, body, header, reply, err);
}

static int parse_text(const char *text, size_t len, cJSON **ret, struct ld_err *err)
{
    *ret = cJSON_ParseWithLength(text, len);
    if (*ret)
        return 0;
    (void)ld_err_set(err, LD_E_IO, "the answer is not valid JSON");
    return ld_err_hint(err, "is the socket that -H or LAYERD_HOST names layerd's?");
}

int ld_api_parse(const struct ld_http_reply *reply, cJSON **ret, struct ld_err *err)
{
    if (strcmp(reply->content_type, json_type) != 0) {
        autofree char *type = ld_text_safe(reply->content_type);

        (void)ld_err_set(err, LD_E_IO, "the answer is of type '%s', not JSON", type);
        return ld_err_hint(err, "is the socket that -H or LAYERD_HOST names layerd's?");
    }
    return parse_text(ld_buf_str(&reply->body), reply->body.len, ret, err);
}

int ld_api_json(struct ld_cli *cli, const char *method, const char *target, const cJSON *body,
                cJSON **ret, struct ld_err *err)
{
    autoreply struct ld_http_reply reply = LD_HTTP_REPLY_INIT;

    if (ld_api_send(cli, method, target, body, &reply, err) < 0)
        return -1;
    return ret ? ld_api_parse(&reply, ret, err) : 0;
}

int ld_lines_feed(void *arg, const void *data, size_t len, struct ld_err *err)
{
    struct ld_lines *lines = arg;
    const char *p = data;

    while (len > 0) {
        const char *end = memchr(p, '\n', len);
        size_t n = end ? (size_t)(end - p) : len;

        ld_buf_add(&lines->pending, p, n);
        if (ld_buf_check(&lines->pending) < 0)
            return ld_err_set(err, LD_E_IO, "a line of the answer is over 16 MiB");
        if (!end)
            return 0;
        if (lines->pending.len > 0 &&
            lines->fn(lines->arg, ld_buf_str(&lines->pending), lines->pending.len, err) < 0)
            return -1;
        ld_buf_clear(&lines->pending);
        p += n + 1;
        len -= n + 1;
    }
    return 0;
}

void ld_lines_done(struct ld_lines *lines)
{
    ld_buf_done(&lines->pending);
}

/* A long verb under way. */
struct work {
    struct ld_progress *progress;
    struct ld_http_reply reply;
    struct ld_lines lines;
    cJSON *result;
};

void ld_api_show_progress(struct ld_progress *progress, const cJSON *step)
{
    const char *id = ld_field_str(step, "id");

    ld_progress_set(progress, strncmp(id, "sha256:", 7) == 0 ? ld_text_short_id(id).text : id,
                    ld_field_str(step, "phase"), ld_field_u64(step, "current"),
                    ld_field_u64(step, "total"));
}

static int on_work_line(void *arg, const char *line, size_t len, struct ld_err *err)
{
    struct work *work = arg;
    autojson cJSON *doc = NULL;
    const cJSON *progress;

    if (parse_text(line, len, &doc, err) < 0)
        return -1;
    progress = ld_field_get(doc, "progress");
    if (progress) {
        ld_api_show_progress(work->progress, progress);
    } else if (ld_field_get(doc, "error")) {
        return ld_http_error(500, line, len, err);
    } else if (cJSON_HasObjectItem(doc, "result")) {
        cJSON_Delete(work->result);
        work->result = cJSON_DetachItemFromObjectCaseSensitive(doc, "result");
    }
    return 0; /* lines of a kind that a later version brings are not for us */
}

/* The media type decides: a daemon may answer short work at once, by the result itself. */
static int on_work_data(void *arg, const void *data, size_t len, struct ld_err *err)
{
    struct work *work = arg;

    if (strcmp(work->reply.content_type, ndjson_type) == 0)
        return ld_lines_feed(&work->lines, data, len, err);
    ld_buf_add(&work->reply.body, data, len);
    return 0;
}

static int finish_work(struct work *work, struct ld_err *err)
{
    const struct ld_buf *rest = &work->lines.pending;

    if (strcmp(work->reply.content_type, ndjson_type) != 0)
        return ld_api_parse(&work->reply, &work->result, err);
    if (rest->len > 0 && on_work_line(work, ld_buf_str(rest), rest->len, err) < 0)
        return -1;
    if (work->result)
        return 0;
    (void)ld_err_set(err, LD_E_IO, "the daemon's report ended without a result");
    return ld_err_hint(err, "'layerctl job ls' shows what became of it");
}

int ld_api_long(struct ld_cli *cli, const struct ld_http_call *call, struct ld_progress *progress,
                cJSON **ret, struct ld_err *err)
{
    struct work work = {.progress = progress, .reply = LD_HTTP_REPLY_INIT};
    struct ld_http_call streamed = *call;
    struct ld_http *http;
    size_t i = 0;
    int r;

    if (ld_cli_http(cli, &http, err) < 0)
        return -1;
    while (streamed.headers[i])
        i++;
    assert(i + 1 < LD_ARRAY_LEN(streamed.headers));
    streamed.headers[i] = "Accept: application/x-ndjson, application/json";
    streamed.write = on_work_data;
    streamed.write_arg = &work;
    work.lines = (struct ld_lines)LD_LINES_INIT(on_work_line, &work);
    r = ld_http_run(http, &streamed, &work.reply, err);
    if (r == 0)
        r = finish_work(&work, err);
    ld_lines_done(&work.lines);
    ld_http_reply_done(&work.reply);
    if (r < 0) {
        cJSON_Delete(work.result);
        return -1;
    }
    *ret = work.result;
    return 0;
}

const cJSON *ld_field_get(const cJSON *object, const char *name)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, name);

    return cJSON_IsNull(item) ? NULL : item;
}

const char *ld_field_str(const cJSON *object, const char *name)
{
    const char *text = cJSON_GetStringValue(ld_field_get(object, name));

    return text ? text : "";
}

uint64_t ld_field_u64(const cJSON *object, const char *name)
{
    const cJSON *item = ld_field_get(object, name);

    /* Doubles are exact up to 2^53: 8 PiB. */
    return cJSON_IsNumber(item) && item->valuedouble >= 0 && item->valuedouble < 1.8e19
               ? (uint64_t)item->valuedouble
               : 0;
}

bool ld_field_bool(const cJSON *object, const char *name)
{
    return cJSON_IsTrue(ld_field_get(object, name));
}

bool ld_field_has(const cJSON *object, const char *name)
{
    return ld_field_get(object, name) != NULL;
}

int64_t ld_field_time(const cJSON *object, const char *name)
{
    int64_t seconds;

    return ld_parse_time(ld_field_str(object, name), &seconds) == 0 ? seconds : 0;
}

char *ld_json_bytes(const cJSON *object, const char *name)
{
    autofree char *name_b64 = ld_asprintf("%s_b64", name);
    autobuf struct ld_buf bytes = LD_BUF_INIT(1 << 20);

    if (ld_field_has(object, name_b64) &&
        ld_text_decode_base64(ld_field_str(object, name_b64), &bytes) == 0)
        return ld_text_safe(ld_buf_str(&bytes));
    return ld_text_safe(ld_field_str(object, name));
}
