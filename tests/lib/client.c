/* See client.h. One easy handle per client, so that connections are kept; openapi.yaml is read once
 * per process (by whoever comes first; clients of threads are made by the test's main thread). */
#include "tests/lib/client.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cjson/cJSON.h>
#include <criterion/criterion.h>
#include <curl/curl.h>

#include "daemon/base/buf.h"
#include "daemon/base/fdio.h"
#include "daemon/base/mem.h"
#include "daemon/base/parse.h"
#include "tests/lib/openapi.h"

enum { MAX_HEADERS = 64, MAX_BODY = 1 << 30 };

/* What libcurl hands over while a reply comes in. */
struct intake {
    struct ld_openapi_header headers[MAX_HEADERS]; /* owned strings */
    size_t n_headers;
    struct ld_buf body;
    int to_fd; /* 0: keep */
};

struct ld_client {
    CURL *curl;
    char *socket_path;
    struct intake in;
    struct ld_reply reply;
    char *problem;
};

/* Set once, by the first client of the process; lives as long as it. */
static struct ld_openapi *the_api;

static const struct ld_openapi *api(void)
{
    if (!the_api)
        the_api = ld_openapi_open(NULL);
    return the_api;
}

static void intake_clear(struct intake *in)
{
    for (size_t i = 0; i < in->n_headers; i++) {
        free((char *)in->headers[i].name);
        free((char *)in->headers[i].value);
    }
    in->n_headers = 0;
    ld_buf_done(&in->body);
    in->body = LD_BUF_INIT(MAX_BODY);
}

static size_t take_header(char *data, size_t size, size_t n, void *arg)
{
    struct intake *in = arg;
    size_t len = size * n;
    char *colon = memchr(data, ':', len);

    if (len > 5 && memcmp(data, "HTTP/", 5) == 0)
        intake_clear(in); /* the head of a final reply after "100 Continue" */
    if (colon && in->n_headers < MAX_HEADERS) {
        char *value = colon + 1;
        size_t value_len = len - (size_t)(value - data);

        while (value_len > 0 && *value == ' ')
            value++, value_len--;
        while (value_len > 0 && (value[value_len - 1] == '\n' || value[value_len - 1] == '\r'))
            value_len--;
        in->headers[in->n_headers++] =
            (struct ld_openapi_header){.name = ld_strndup(data, (size_t)(colon - data)),
                                       .value = ld_strndup(value, value_len)};
    }
    return len;
}

static size_t take_body(char *data, size_t size, size_t n, void *arg)
{
    struct intake *in = arg;
    size_t len = size * n;

    if (in->to_fd > 0)
        return ld_write_full(in->to_fd, data, len) == 0 ? len : 0;
    ld_buf_add(&in->body, data, len);
    return in->body.full ? 0 : len;
}

static size_t give_body(char *data, size_t size, size_t n, void *arg)
{
    ssize_t got = ld_read_some(*(int *)arg, data, size * n);

    return got < 0 ? CURL_READFUNC_ABORT : (size_t)got;
}

struct ld_client *ld_client_new(const char *socket_path)
{
    struct ld_client *client = ld_new(struct ld_client);

    (void)api();
    client->curl = curl_easy_init();
    client->socket_path = ld_strdup(socket_path);
    client->in.body = LD_BUF_INIT(MAX_BODY);
    return client;
}

static void forget_reply(struct ld_client *client)
{
    intake_clear(&client->in);
    cJSON_Delete(client->reply.json);
    free(client->problem);
    client->problem = NULL;
    client->reply = (struct ld_reply){0};
}

void ld_client_free(struct ld_client *client)
{
    if (!client)
        return;
    forget_reply(client);
    ld_buf_done(&client->in.body);
    curl_easy_cleanup(client->curl);
    free(client->socket_path);
    free(client);
}

void ld_client_hang_up(struct ld_client *client)
{
    curl_easy_cleanup(client->curl);
    client->curl = curl_easy_init();
}

static char *with_double_quotes(const char *json)
{
    char *copy = ld_strdup(json);

    for (char *c = copy; *c; c++)
        *c = *c == '\'' ? '"' : *c;
    return copy;
}

static void set_common(CURL *curl, const char *socket_path, const char *target, struct intake *in)
{
    autofree char *url = ld_asprintf("http://localhost%s", target);

    curl_easy_setopt(curl, CURLOPT_UNIX_SOCKET_PATH, socket_path);
    curl_easy_setopt(curl, CURLOPT_URL, url);
    curl_easy_setopt(curl, CURLOPT_PATH_AS_IS, 1L);
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, take_header);
    curl_easy_setopt(curl, CURLOPT_HEADERDATA, in);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, take_body);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, in);
}

static struct curl_slist *make_headers(const struct ld_call *call)
{
    struct curl_slist *list = NULL;
    const char *type = call->content_type ? call->content_type
                       : call->json       ? "application/json"
                                          : NULL;
    autofree char *line = type ? ld_asprintf("Content-Type: %s", type) : NULL;

    list = curl_slist_append(list, line ? line : "Content-Type:"); /* none rather than curl's own */
    if (call->body_fd > 0 && call->chunked)
        list = curl_slist_append(list, "Transfer-Encoding: chunked");
    for (size_t i = 0; call->headers && call->headers[i]; i++)
        list = curl_slist_append(list, call->headers[i]);
    return list;
}

static void set_body(CURL *curl, const struct ld_call *call, const char *json, int *fd)
{
    struct stat st;

    if (call->body_fd > 0) {
        curl_easy_setopt(curl, CURLOPT_UPLOAD, 1L);
        curl_easy_setopt(curl, CURLOPT_READFUNCTION, give_body);
        curl_easy_setopt(curl, CURLOPT_READDATA, fd);
        (void)lseek(call->body_fd, 0, SEEK_SET);
        if (!call->chunked && fstat(call->body_fd, &st) == 0)
            curl_easy_setopt(curl, CURLOPT_INFILESIZE_LARGE, (curl_off_t)st.st_size);
    } else if (json || call->body) {
        curl_easy_setopt(curl, CURLOPT_POSTFIELDS, json ? json : call->body);
        curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE,
                         (curl_off_t)(json ? strlen(json) : call->body_len));
    } else if (strcmp(call->method, "POST") == 0) {
        curl_easy_setopt(curl, CURLOPT_POSTFIELDS, "");
    }
    if (strcmp(call->method, "HEAD") == 0)
        curl_easy_setopt(curl, CURLOPT_NOBODY, 1L);
    else
        curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, call->method);
}

/* "operation status code", appended as one write so that processes do not mix. */
static void note_coverage(const struct ld_call *call, const struct ld_reply *reply)
{
    const char *path = getenv("LD_API_COVERAGE");
    const char *id = ld_openapi_operation_id(api(), call->method, call->target);
    const cJSON *error = cJSON_GetObjectItem(reply->json, "error");
    const cJSON *code = cJSON_GetObjectItem(error, "code");
    autofree char *line =
        ld_asprintf("%s %d %s\n", id ? id : "-", reply->status, code ? code->valuestring : "-");
    int fd = path ? open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666) : -1;

    if (fd >= 0 && write(fd, line, strlen(line)) < 0)
        (void)fprintf(stderr, "coverage: %d\n", errno);
    ld_close(fd);
}

const char *ld_client_header(const struct ld_client *client, const char *name)
{
    for (size_t i = 0; i < client->in.n_headers; i++) {
        if (strcasecmp(client->in.headers[i].name, name) == 0)
            return client->in.headers[i].value;
    }
    return NULL;
}

static char *hold_against_api(const struct ld_call *call, const struct intake *in, int status,
                              const char *json, bool is_cut)
{
    struct ld_openapi_exchange x = {.method = call->method,
                                    .target = call->target,
                                    .request_type = call->content_type,
                                    .request_body = json,
                                    .status = status,
                                    .headers = in->headers,
                                    .n_headers = in->n_headers,
                                    .body = ld_buf_str(&in->body),
                                    .body_len = in->body.len,
                                    .is_cut = is_cut};

    return ld_openapi_check(api(), &x);
}

static void finish_reply(struct ld_client *client, const struct ld_call *call, const char *json)
{
    struct ld_reply *reply = &client->reply;
    const char *type = ld_client_header(client, "Content-Type");
    long status = 0;

    curl_easy_getinfo(client->curl, CURLINFO_RESPONSE_CODE, &status);
    reply->status = (int)status;
    reply->body = ld_buf_str(&client->in.body);
    reply->len = client->in.body.len;
    if (type && strncmp(type, "application/json", 16) == 0)
        reply->json = cJSON_ParseWithLength(reply->body, reply->len);
    note_coverage(call, reply);
    if (!call->unchecked)
        client->problem = hold_against_api(call, &client->in, reply->status, json, false);
}

const struct ld_reply *ld_client_call(struct ld_client *client, const struct ld_call *call)
{
    autofree char *json = call->json ? with_double_quotes(call->json) : NULL;
    struct curl_slist *headers = make_headers(call);
    int fd = call->body_fd;
    CURLcode rc;

    forget_reply(client);
    client->in.to_fd = call->to_fd;
    curl_easy_reset(client->curl);
    set_common(client->curl, client->socket_path, call->target, &client->in);
    set_body(client->curl, call, json, &fd);
    curl_easy_setopt(client->curl, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(client->curl, CURLOPT_TIMEOUT, call->seconds ? (long)call->seconds : 120L);
    rc = curl_easy_perform(client->curl);
    curl_slist_free_all(headers);
    if (rc == CURLE_OK)
        finish_reply(client, call, json);
    else
        client->problem =
            ld_asprintf("%s %s: %s", call->method, call->target, curl_easy_strerror(rc));
    return client->problem ? NULL : &client->reply;
}

const char *ld_client_problem(const struct ld_client *client)
{
    return client->problem ? client->problem : "";
}

/* ---- with assertions ---- */

const struct ld_reply *ld_call(struct ld_client *client, const struct ld_call *call)
{
    const struct ld_reply *reply = ld_client_call(client, call);

    cr_assert(reply, "%s", ld_client_problem(client));
    return reply;
}

__attribute__((format(printf, 4, 0))) static const struct ld_reply *
call_fmt(struct ld_client *client, const char *method, const char *json, const char *fmt,
         va_list ap)
{
    autobuf struct ld_buf target = LD_BUF_INIT(1 << 20);

    ld_buf_vaddf(&target, fmt, ap);
    return ld_call(
        client, &(struct ld_call){.method = method, .target = ld_buf_str(&target), .json = json});
}

cJSON *ld_want(struct ld_client *client, int status, const char *method, const char *json,
               const char *fmt, ...)
{
    const struct ld_reply *reply;
    va_list ap;

    va_start(ap, fmt);
    reply = call_fmt(client, method, json, fmt, ap);
    va_end(ap);
    cr_assert_eq(reply->status, status, "%s %s (%s): got %d, want %d: %.500s", method, fmt,
                 json ? json : "", reply->status, status, reply->body);
    return reply->json;
}

cJSON *ld_want_error(struct ld_client *client, const char *code, const char *method,
                     const char *json, const char *fmt, ...)
{
    const struct ld_reply *reply;
    cJSON *error;
    va_list ap;

    va_start(ap, fmt);
    reply = call_fmt(client, method, json, fmt, ap);
    va_end(ap);
    error = cJSON_GetObjectItem(reply->json, "error");
    cr_assert(error, "%s %s (%s): %d, want an error %s: %.500s", method, fmt, json ? json : "",
              reply->status, code, reply->body);
    cr_assert_str_eq(ld_str(error, "code"), code, "%s %s (%s): got %.500s", method, fmt,
                     json ? json : "", reply->body);
    cr_assert_neq(ld_str(error, "message")[0], '\0');
    return error;
}

const cJSON *ld_at(const cJSON *json, const char *path)
{
    const cJSON *node = json;

    for (const char *rest = path; node && *rest;) {
        size_t len = strcspn(rest, ".");
        autofree char *name = ld_strndup(rest, len);
        int index;

        if (cJSON_IsArray(node) && ld_parse_int(name, 0, 1 << 20, &index) == 0)
            node = cJSON_GetArrayItem(node, index);
        else
            node = cJSON_GetObjectItemCaseSensitive(node, name);
        rest += len + (rest[len] == '.');
    }
    if (!node) {
        autofree char *text = cJSON_PrintUnformatted(json);

        cr_assert(node, "no '%s' in %.1000s", path, text ? text : "nothing");
    }
    return node;
}

const char *ld_str(const cJSON *json, const char *path)
{
    const cJSON *node = ld_at(json, path);

    cr_assert(cJSON_IsString(node), "'%s' is no string", path);
    return node->valuestring;
}

int64_t ld_int(const cJSON *json, const char *path)
{
    const cJSON *node = ld_at(json, path);

    cr_assert(cJSON_IsNumber(node), "'%s' is no number", path);
    return (int64_t)node->valuedouble;
}

bool ld_bool(const cJSON *json, const char *path)
{
    const cJSON *node = ld_at(json, path);

    cr_assert(cJSON_IsBool(node), "'%s' is no boolean", path);
    return cJSON_IsTrue(node);
}

bool ld_is_null(const cJSON *json, const char *path)
{
    return cJSON_IsNull(ld_at(json, path));
}

int ld_count(const cJSON *json, const char *path)
{
    return cJSON_GetArraySize(ld_at(json, path));
}

/* ---- replies that go on ---- */

struct ld_stream {
    CURLM *multi;
    CURL *curl;
    char *target;
    struct intake in;
    bool is_over;
};

struct ld_stream *ld_stream_open(const char *socket_path, const char *target)
{
    struct ld_stream *stream = ld_new(struct ld_stream);

    stream->target = ld_strdup(target);
    stream->in.body = LD_BUF_INIT(MAX_BODY);
    stream->multi = curl_multi_init();
    stream->curl = curl_easy_init();
    set_common(stream->curl, socket_path, target, &stream->in);
    curl_multi_add_handle(stream->multi, stream->curl);
    return stream;
}

bool ld_stream_wait(struct ld_stream *stream, const char *text, unsigned seconds)
{
    for (unsigned i = 0; i <= seconds * 50; i++) {
        int running = 0;

        cr_assert_eq(curl_multi_perform(stream->multi, &running), CURLM_OK);
        stream->is_over = running == 0;
        if (strstr(ld_buf_str(&stream->in.body), text))
            return true;
        if (stream->is_over)
            return false;
        (void)curl_multi_poll(stream->multi, NULL, 0, 20, NULL);
    }
    return false;
}

const char *ld_stream_text(const struct ld_stream *stream)
{
    return ld_buf_str(&stream->in.body);
}

void ld_stream_close(struct ld_stream *stream)
{
    struct ld_call call = {.method = "GET", .target = stream->target};
    autofree char *problem = NULL;
    long status = 0;

    curl_easy_getinfo(stream->curl, CURLINFO_RESPONSE_CODE, &status);
    if (status != 0)
        problem = hold_against_api(&call, &stream->in, (int)status, NULL, !stream->is_over);
    curl_multi_remove_handle(stream->multi, stream->curl);
    curl_easy_cleanup(stream->curl);
    curl_multi_cleanup(stream->multi);
    intake_clear(&stream->in);
    ld_buf_done(&stream->in.body);
    free(stream->target);
    free(stream);
    cr_assert(!problem, "%s", problem);
}

/* ---- bytes ---- */

int ld_raw_connect(const char *socket_path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    cr_assert(strlen(socket_path) < sizeof(address.sun_path));
    memcpy(address.sun_path, socket_path, strlen(socket_path) + 1);
    cr_assert(fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0,
              "connect %s: %s", socket_path, strerror(errno));
    return fd;
}

void ld_raw_send(int fd, const void *data, size_t len)
{
    const char *next = data;

    while (len > 0) {
        ssize_t n = send(fd, next, len, MSG_NOSIGNAL);

        if (n < 0)
            return; /* the daemon has had enough: what it says is what counts */
        next += n;
        len -= (size_t)n;
    }
}

char *ld_raw_read(int fd, unsigned seconds)
{
    autobuf struct ld_buf buf = LD_BUF_INIT(MAX_BODY);
    struct pollfd pfd = {.fd = fd, .events = POLLIN};
    char data[8192];

    while (poll(&pfd, 1, (int)seconds * 1000) > 0) {
        ssize_t n = recv(fd, data, sizeof(data), 0);

        if (n <= 0)
            break;
        ld_buf_add(&buf, data, (size_t)n);
    }
    return ld_buf_take(&buf);
}
