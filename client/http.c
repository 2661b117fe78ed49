/* libcurl, wrapped: see http.h. curl's callbacks return by count, so what went wrong inside one is
 * kept in `struct run` and preferred over curl's own words. */
#include "client/http.h"

#include <ctype.h>
#include <errno.h>
#include <grp.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <cjson/cJSON.h>
#include <curl/curl.h>

#include "client/text.h"
#include "daemon/base/err.h"
#include "daemon/base/mem.h"

enum { ERROR_BODY_MAX = 1 << 20, DETAILS_KEPT = 4, CONNECT_TIMEOUT_S = 10 };

struct ld_http {
    char *path;
    CURL *curl;
};

/* One call under way. */
struct run {
    const struct ld_http_call *call;
    struct ld_http_reply *reply;
    CURL *curl;
    struct ld_err *err;
    uint64_t sent;
    bool failed; /* *err says why a callback gave up */
};

int ld_http_open(const char *host, struct ld_http **ret, struct ld_err *err)
{
    static const char scheme[] = "unix://";
    const char *path = host;
    struct ld_http *http;

    if (strncmp(host, scheme, sizeof(scheme) - 1) == 0)
        path += sizeof(scheme) - 1;
    if (path[0] != '/') {
        (void)ld_err_set(err, LD_E_INVALID, "'%s' is not an address of layerd", host);
        return ld_err_hint(err, "addresses look like %s", LD_HTTP_DEFAULT_HOST);
    }
    if (strlen(path) >= sizeof(((struct sockaddr_un *)NULL)->sun_path))
        return ld_err_set(err, LD_E_INVALID, "the socket's path '%s' is too long", path);

    http = ld_new(struct ld_http);
    http->path = ld_strdup(path);
    http->curl = curl_easy_init();
    if (!http->curl) {
        ld_http_close_p(&http);
        return ld_err_set(err, LD_E_INTERNAL, "libcurl does not start");
    }
    *ret = http;
    return 0;
}

void ld_http_close_p(struct ld_http **http)
{
    if (!*http)
        return;
    curl_easy_cleanup((*http)->curl);
    ld_free_p(&(*http)->path);
    ld_free_p(http);
}

void ld_http_reply_done(struct ld_http_reply *reply)
{
    ld_buf_done(&reply->stat);
    ld_buf_done(&reply->body);
}

static size_t on_read(char *data, size_t size, size_t n, void *arg)
{
    struct run *run = arg;
    const struct ld_http_call *call = run->call;
    ssize_t got = call->read(call->read_arg, data, size * n);

    if (got > 0)
        run->sent += (uint64_t)got;
    if (got < 0)
        (void)ld_err_sys(run->err, (int)got, "read what is to be sent");
    else if (got == 0 && call->has_size && run->sent < call->size)
        (void)ld_err_set(run->err, LD_E_IO, "the file became shorter while it was sent");
    else
        return (size_t)got;
    run->failed = true;
    return CURL_READFUNC_ABORT;
}

/* Bodies are streams: when curl wants to begin again (a kept connection turned out to be closed),
 * it can only do so before the first byte. */
static int on_seek(void *arg, curl_off_t offset, int origin)
{
    (void)arg;
    return offset == 0 && origin == SEEK_SET ? CURL_SEEKFUNC_CANTSEEK : CURL_SEEKFUNC_FAIL;
}

static size_t on_write(char *data, size_t size, size_t n, void *arg)
{
    struct run *run = arg;
    size_t len = size * n;
    long status = 0;

    (void)curl_easy_getinfo(run->curl, CURLINFO_RESPONSE_CODE, &status);
    if (run->call->write && (status < 400 || run->call->keep_errors)) {
        if (run->call->write(run->call->write_arg, data, len, run->err) < 0) {
            run->failed = true;
            return 0;
        }
        return len;
    }
    ld_buf_add(&run->reply->body, data, len);
    if (ld_buf_check(&run->reply->body) < 0) {
        (void)ld_err_set(run->err, LD_E_TOO_LARGE, "the daemon's reply is over %s",
                         ld_text_size(run->reply->body.max).text);
        run->failed = true;
        return 0;
    }
    return len;
}

/* The value of "Name: value\r\n" when the name is this one; NULL otherwise. *len is the value's
 * then. */
static const char *value_of(const char *line, const char *name, size_t *len)
{
    size_t n = strlen(name);

    if (*len <= n || strncasecmp(line, name, n) != 0 || line[n] != ':')
        return NULL;
    line += n + 1;
    *len -= n + 1;
    while (*len > 0 && isspace((unsigned char)*line)) {
        line++;
        (*len)--;
    }
    while (*len > 0 && isspace((unsigned char)line[*len - 1]))
        (*len)--;
    return line;
}

static size_t on_header(char *line, size_t size, size_t n, void *arg)
{
    struct run *run = arg;
    struct ld_http_reply *reply = run->reply;
    size_t len = size * n;
    const char *value = value_of(line, "content-type", &len);

    if (value && len < sizeof(reply->content_type)) {
        memcpy(reply->content_type, value, len);
        reply->content_type[len] = '\0';
        reply->content_type[strcspn(reply->content_type, "; ")] = '\0';
        for (char *p = reply->content_type; *p; p++)
            *p = (char)tolower((unsigned char)*p);
    }
    len = size * n;
    value = value_of(line, "x-layerd-stat", &len);
    if (value) {
        ld_buf_clear(&reply->stat);
        ld_buf_add(&reply->stat, value, len);
    }
    return size * n;
}

/* Who may use the socket: its group, where that can be seen. */
static void hint_access(const struct ld_http *http, struct ld_err *err)
{
    struct stat st = {.st_gid = (gid_t)-1};
    struct group group, *found = NULL;
    char space[4096];
    const char *name = "layerd";

    if (stat(http->path, &st) == 0 && st.st_gid != 0 &&
        getgrgid_r(st.st_gid, &group, space, sizeof(space), &found) == 0 && found)
        name = found->gr_name;
    if (st.st_gid == 0)
        (void)ld_err_hint(err, "use sudo: only root may use this socket");
    else
        (void)ld_err_hint(err,
                          "use sudo, or join the group '%s' (sudo usermod -aG %s \"$USER\", then "
                          "log in again)",
                          name, name);
}

static int unreachable(const struct ld_http *http, int errnum, struct ld_err *err)
{
    (void)ld_err_sys(err, -errnum, "cannot reach layerd at unix://%s", http->path);
    err->code = LD_E_UNAVAILABLE;
    switch (errnum) {
    case EACCES:
    case EPERM:
        hint_access(http, err);
        break;
    case ENOENT:
        (void)ld_err_hint(
            err, "is the daemon running? 'systemctl start layerd.socket'; another address: -H "
                 "or LAYERD_HOST");
        break;
    case ECONNREFUSED:
        (void)ld_err_hint(err,
                          "the socket is there, but nobody listens: 'systemctl status layerd'");
        break;
    default:
        break;
    }
    return -1;
}

static int transport_error(const struct ld_http *http, CURLcode code, struct ld_err *err)
{
    long errnum = 0;

    switch (code) {
    case CURLE_COULDNT_CONNECT:
        (void)curl_easy_getinfo(http->curl, CURLINFO_OS_ERRNO, &errnum);
        return unreachable(http, errnum ? (int)errnum : ECONNREFUSED, err);
    case CURLE_OPERATION_TIMEDOUT:
        return unreachable(http, ETIMEDOUT, err);
    case CURLE_UNSUPPORTED_PROTOCOL:
    case CURLE_WEIRD_SERVER_REPLY:
        (void)ld_err_set(err, LD_E_IO, "what listens at unix://%s does not speak HTTP", http->path);
        return ld_err_hint(err, "-H or LAYERD_HOST name layerd's socket");
    case CURLE_PARTIAL_FILE:
    case CURLE_RECV_ERROR:
    case CURLE_SEND_ERROR:
    case CURLE_GOT_NOTHING:
        (void)ld_err_set(err, LD_E_IO, "the daemon broke off: %s", curl_easy_strerror(code));
        return ld_err_hint(err, "what has arrived is not whole; the daemon's log has the reason");
    default:
        return ld_err_set(err, LD_E_IO, "talking to layerd at unix://%s: %s", http->path,
                          curl_easy_strerror(code));
    }
}

static enum ld_code code_of_status(int status)
{
    switch (status) {
    case 400:
        return LD_E_INVALID;
    case 409:
        return LD_E_CONFLICT;
    default:
        break;
    }
    for (int code = LD_E_NONE + 1; code < LD_E_COUNT; code++) {
        if (ld_code_status((enum ld_code)code) == status)
            return (enum ld_code)code;
    }
    return LD_E_INTERNAL;
}

static enum ld_code code_of_name(const char *name, int status)
{
    for (int code = LD_E_NONE + 1; name && code < LD_E_COUNT; code++) {
        if (strcmp(ld_code_name((enum ld_code)code), name) == 0)
            return (enum ld_code)code;
    }
    return code_of_status(status);
}

/* Cuts the lists in an error's details to what the error value has room for; "more" tells so. */
static void shorten(cJSON *details)
{
    cJSON *member;
    bool cut = false;

    cJSON_ArrayForEach (member, details) {
        while (cJSON_IsArray(member) && cJSON_GetArraySize(member) > DETAILS_KEPT) {
            cJSON_DeleteItemFromArray(member, DETAILS_KEPT);
            cut = true;
        }
    }
    if (cut && !cJSON_HasObjectItem(details, "more"))
        (void)cJSON_AddTrueToObject(details, "more");
}

int ld_http_error(int status, const char *body, size_t len, struct ld_err *err)
{
    cJSON *doc = len <= ERROR_BODY_MAX ? cJSON_ParseWithLength(body, len) : NULL;
    const cJSON *error = cJSON_GetObjectItemCaseSensitive(doc, "error");
    const char *code = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(error, "code"));
    const char *message = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(error, "message"));
    const char *hint = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(error, "hint"));
    cJSON *details = cJSON_GetObjectItemCaseSensitive(error, "details");

    if (message) {
        (void)ld_err_set(err, code_of_name(code, status), "%s", message);
        if (hint)
            (void)ld_err_hint(err, "%s", hint);
        if (details) {
            char *text;

            shorten(details);
            text = cJSON_PrintUnformatted(details);
            if (text)
                (void)ld_err_details(err, text);
            cJSON_free(text);
        }
    } else {
        (void)ld_err_set(err, code_of_status(status), "the server answered status %d", status);
        if (len > 0)
            (void)ld_err_hint(err, "this is no answer of layerd: is its socket the one that -H or "
                                   "LAYERD_HOST names?");
    }
    cJSON_Delete(doc);
    return -1;
}

/* Method, body and headers of a call. The list returned is the caller's. */
static struct curl_slist *prepare(CURL *curl, const struct ld_http_call *call, struct run *run)
{
    struct curl_slist *headers = NULL;

    for (size_t i = 0; i < LD_ARRAY_LEN(call->headers) && call->headers[i]; i++)
        headers = curl_slist_append(headers, call->headers[i]);
    (void)curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, call->method);
    if (strcmp(call->method, "HEAD") == 0)
        (void)curl_easy_setopt(curl, CURLOPT_NOBODY, 1L);
    if (call->read) {
        /* A size that is not known makes curl send chunks. */
        (void)curl_easy_setopt(curl, CURLOPT_UPLOAD, 1L);
        (void)curl_easy_setopt(curl, CURLOPT_READFUNCTION, on_read);
        (void)curl_easy_setopt(curl, CURLOPT_READDATA, run);
        (void)curl_easy_setopt(curl, CURLOPT_SEEKFUNCTION, on_seek);
        (void)curl_easy_setopt(curl, CURLOPT_INFILESIZE_LARGE,
                               call->has_size ? (curl_off_t)call->size : (curl_off_t)-1);
        (void)curl_easy_setopt(curl, CURLOPT_UPLOAD_BUFFERSIZE, 1L << 20);
    } else if (call->body) {
        (void)curl_easy_setopt(curl, CURLOPT_POSTFIELDS, call->body);
        (void)curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)call->body_len);
    } else if (strcmp(call->method, "POST") == 0 || strcmp(call->method, "PUT") == 0) {
        (void)curl_easy_setopt(curl, CURLOPT_POSTFIELDS, "");
        (void)curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)0);
    }
    return headers;
}

int ld_http_run(struct ld_http *http, const struct ld_http_call *call, struct ld_http_reply *reply,
                struct ld_err *err)
{
    struct run run = {.call = call, .reply = reply, .curl = http->curl, .err = err};
    autofree char *url = ld_asprintf("http://localhost%s", call->target);
    struct curl_slist *headers;
    CURLcode code;
    long status = 0;

    curl_easy_reset(http->curl);
    (void)curl_easy_setopt(http->curl, CURLOPT_URL, url);
    (void)curl_easy_setopt(http->curl, CURLOPT_PATH_AS_IS, 1L);
    (void)curl_easy_setopt(http->curl, CURLOPT_UNIX_SOCKET_PATH, http->path);
    (void)curl_easy_setopt(http->curl, CURLOPT_PROXY, "");
    (void)curl_easy_setopt(http->curl, CURLOPT_NOSIGNAL, 1L);
    (void)curl_easy_setopt(http->curl, CURLOPT_CONNECTTIMEOUT, (long)CONNECT_TIMEOUT_S);
    (void)curl_easy_setopt(http->curl, CURLOPT_USERAGENT, "layerctl/" LD_VERSION);
    (void)curl_easy_setopt(http->curl, CURLOPT_BUFFERSIZE, 512L << 10);
    (void)curl_easy_setopt(http->curl, CURLOPT_WRITEFUNCTION, on_write);
    (void)curl_easy_setopt(http->curl, CURLOPT_WRITEDATA, &run);
    (void)curl_easy_setopt(http->curl, CURLOPT_HEADERFUNCTION, on_header);
    (void)curl_easy_setopt(http->curl, CURLOPT_HEADERDATA, &run);
    headers = prepare(http->curl, call, &run);
    (void)curl_easy_setopt(http->curl, CURLOPT_HTTPHEADER, headers);

    code = curl_easy_perform(http->curl);
    (void)curl_easy_getinfo(http->curl, CURLINFO_RESPONSE_CODE, &status);
    curl_slist_free_all(headers);
    reply->status = (int)status;
    if (run.failed)
        return -1;
    /* A server that refuses an upload answers and closes: curl may see the closing first, but the
     * answer is what counts. */
    if (status >= 400 && !call->keep_errors && (code == CURLE_OK || reply->body.len > 0))
        return ld_http_error((int)status, ld_buf_str(&reply->body), reply->body.len, err);
    if (code != CURLE_OK)
        return transport_error(http, code, err);
    return 0;
}

static bool is_unreserved(char c)
{
    return isalnum((unsigned char)c) || (c && strchr("-._~", c));
}

static void add_escaped(struct ld_buf *url, const char *text, const char *also)
{
    for (; *text; text++) {
        if (is_unreserved(*text) || strchr(also, *text))
            ld_buf_addc(url, *text);
        else
            ld_buf_addf(url, "%%%02X", (unsigned char)*text);
    }
}

void ld_url_segment(struct ld_buf *url, const char *segment)
{
    add_escaped(url, segment, ":");
}

void ld_url_reference(struct ld_buf *url, const char *reference)
{
    add_escaped(url, reference, ":/@");
}

void ld_url_query(struct ld_buf *url, const char *key, const char *value)
{
    ld_buf_addc(url, strchr(ld_buf_str(url), '?') ? '&' : '?');
    ld_buf_adds(url, key);
    ld_buf_addc(url, '=');
    add_escaped(url, value, ":/@,");
}
