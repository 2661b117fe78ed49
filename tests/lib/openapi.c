/* openapi.yaml against real replies: see openapi.h.
 *
 * A path is matched by the template with the most literal components; a parameter marked
 * x-multi-segment takes one or more components (image references hold slashes). */
#include "tests/lib/openapi.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include <cjson/cJSON.h>

#include "daemon/base/buf.h"
#include "daemon/base/mem.h"
#include "tests/lib/schema.h"
#include "tests/lib/yaml.h"

struct ld_openapi {
    cJSON *root;
};

/* One exchange being checked. */
struct exam {
    const struct ld_openapi *api;
    const struct ld_openapi_exchange *x;
    const cJSON *item; /* the path's node */
    const cJSON *op;
    const cJSON *response;
    struct ld_buf *problem;
};

static const cJSON *member(const cJSON *object, const char *name)
{
    return object ? cJSON_GetObjectItemCaseSensitive(object, name) : NULL;
}

static const cJSON *deref(const struct ld_openapi *api, const cJSON *node)
{
    return node ? ld_schema_deref(api->root, node) : NULL;
}

struct ld_openapi *ld_openapi_open(const char *path)
{
    struct ld_openapi *api = ld_new(struct ld_openapi);
    char *problem;

    if (!path)
        path = getenv("LD_OPENAPI");
    if (!path)
        path = LD_SOURCE_ROOT "/openapi.yaml";
    api->root = ld_yaml_read(path, &problem);
    if (!api->root) {
        (void)fprintf(stderr, "%s: %s\n", path, problem);
        abort();
    }
    return api;
}

void ld_openapi_free(struct ld_openapi *api)
{
    if (api)
        cJSON_Delete(api->root);
    free(api);
}

const cJSON *ld_openapi_root(const struct ld_openapi *api)
{
    return api->root;
}

__attribute__((format(printf, 2, 3))) static bool wrong(const struct exam *e, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    ld_buf_vaddf(e->problem, fmt, ap);
    va_end(ap);
    return false;
}

/* ---- which operation ---- */

static bool takes_slashes(const struct ld_openapi *api, const cJSON *item, const char *name,
                          size_t len)
{
    const cJSON *one;

    cJSON_ArrayForEach (one, member(item, "parameters")) {
        const cJSON *parameter = deref(api, one);
        const char *its = member(parameter, "name")->valuestring;

        if (strlen(its) == len && memcmp(its, name, len) == 0)
            return cJSON_IsTrue(member(parameter, "x-multi-segment"));
    }
    return false;
}

/* The number of literal components when the template matches, else -1. Both begin with '/'. At most
 * one parameter of a template takes slashes, and it takes as much as what follows lets it. */
static int match(const struct ld_openapi *api, const cJSON *item, const char *path)
{
    const char *template = item->string;
    const char *path_end = path + strlen(path);
    int literals = 0;

    while (*template && path < path_end) {
        size_t want = strcspn(++template, "/");
        size_t have = strcspn(++path, "/");

        if (template[0] == '{') {
            if (have == 0)
                return -1;
            if (takes_slashes(api, item, template + 1, want - 2)) {
                size_t after = strlen(template + want);

                /* What follows the parameter is literal and must be the path's end. */
                if (strlen(path) <= after || strcmp(path_end - after, template + want) != 0)
                    return -1;
                return literals + (after > 0);
            }
        } else if (want != have || memcmp(template, path, want) != 0) {
            return -1;
        } else {
            literals++;
        }
        template += want;
        path += have;
    }
    return *template || path < path_end ? -1 : literals;
}

/* GET answers HEAD where nothing else does. */
static const cJSON *find_op(const cJSON *item, const char *method)
{
    char lower[16] = "";

    for (size_t i = 0; i < sizeof(lower) - 1 && method[i]; i++)
        lower[i] = (char)tolower((unsigned char)method[i]);
    if (strcmp(lower, "head") == 0 && !member(item, lower))
        return member(item, "get");
    return member(item, lower);
}

/* Does a parameter of the path take slashes? */
static bool is_multi(const struct ld_openapi *api, const cJSON *item)
{
    for (const char *at = strchr(item->string, '{'); at; at = strchr(at + 1, '{')) {
        if (takes_slashes(api, item, at + 1, strcspn(at + 1, "}")))
            return true;
    }
    return false;
}

/* A method that a fixed path has not may be one of a path with a parameter in that place, but for
 * parameters that take slashes. */
static const cJSON *find_item(const struct ld_openapi *api, const char *target, const char *method)
{
    autofree char *path = ld_strndup(target, strcspn(target, "?"));
    const cJSON *best = NULL, *other = NULL;
    int most = -1, most_other = -1;
    const cJSON *item;

    cJSON_ArrayForEach (item, member(api->root, "paths")) {
        int n = match(api, item, path);

        if (n > most) {
            most = n;
            best = item;
        }
        if (n > most_other && find_op(item, method) && !is_multi(api, item)) {
            most_other = n;
            other = item;
        }
    }
    return best && !find_op(best, method) && other ? other : best;
}

const char *ld_openapi_operation_id(const struct ld_openapi *api, const char *method,
                                    const char *target)
{
    const cJSON *item = find_item(api, target, method);
    const cJSON *op = item ? find_op(item, method) : NULL;

    return op ? member(op, "operationId")->valuestring : NULL;
}

/* ---- headers ---- */

static const char *header_value(const struct ld_openapi_exchange *x, const char *name)
{
    for (size_t i = 0; i < x->n_headers; i++) {
        if (strcasecmp(x->headers[i].name, name) == 0)
            return x->headers[i].value;
    }
    return NULL;
}

static bool is_of_http(const char *name)
{
    static const char *const names[] = {"Date",           "Connection",        "Keep-Alive",
                                        "Content-Length", "Transfer-Encoding", "Content-Type"};

    for (size_t i = 0; i < LD_ARRAY_LEN(names); i++) {
        if (strcasecmp(name, names[i]) == 0)
            return true;
    }
    return false;
}

static bool check_headers(const struct exam *e)
{
    const cJSON *described = member(e->response, "headers");
    const cJSON *one;

    cJSON_ArrayForEach (one, described) {
        const cJSON *header = deref(e->api, one);
        const char *value = header_value(e->x, one->string);
        cJSON *text;
        bool ok;

        if (!value && cJSON_IsTrue(member(header, "required")))
            return wrong(e, "the header %s is missing", one->string);
        if (!value)
            continue;
        text = cJSON_CreateString(value);
        ok = ld_schema_fits(e->api->root, member(header, "schema"), text, one->string, e->problem);
        cJSON_Delete(text);
        if (!ok)
            return false;
    }
    for (size_t i = 0; i < e->x->n_headers; i++) {
        const char *name = e->x->headers[i].name;
        bool known = is_of_http(name);

        cJSON_ArrayForEach (one, described)
            known |= strcasecmp(one->string, name) == 0;
        if (!known)
            return wrong(e, "the header %s is not described", name);
    }
    return true;
}

/* ---- bodies ---- */

static bool is_utf8(const char *text, size_t len)
{
    for (size_t i = 0; i < len;) {
        unsigned char c = (unsigned char)text[i];
        size_t more = c < 0x80 ? 0 : c < 0xc2 ? 9 : c < 0xe0 ? 1 : c < 0xf0 ? 2 : c < 0xf5 ? 3 : 9;

        if (more > 3 || i + more >= len + (more == 0))
            return false;
        for (size_t k = 1; k <= more; k++) {
            if (((unsigned char)text[i + k] & 0xc0) != 0x80)
                return false;
        }
        i += more + 1;
    }
    return true;
}

static bool check_json(const struct exam *e, const cJSON *schema, const char *text, size_t len,
                       const char *what)
{
    const char *end;
    cJSON *value;
    bool ok;

    if (memchr(text, '\0', len) || !is_utf8(text, len))
        return wrong(e, "%s: not UTF-8, or NUL in it", what);
    value = cJSON_ParseWithLengthOpts(text, len, &end, false);
    if (!value)
        return wrong(e, "%s: no JSON: %.200s", what, text);
    ok = ld_schema_fits(e->api->root, schema, value, what, e->problem);
    cJSON_Delete(value);
    while (ok && end < text + len && isspace((unsigned char)*end))
        end++;
    return ok && (end == text + len || wrong(e, "%s: something after the JSON", what));
}

static bool check_lines(const struct exam *e, const cJSON *schema)
{
    const char *text = e->x->body, *end = text + e->x->body_len;

    for (unsigned n = 1; text < end; n++) {
        const char *nl = memchr(text, '\n', (size_t)(end - text));
        char what[32];

        if (!nl)
            return e->x->is_cut || wrong(e, "the last line has no end");
        (void)snprintf(what, sizeof(what), "line %u", n);
        if (!check_json(e, schema, text, (size_t)(nl - text), what))
            return false;
        text = nl + 1;
    }
    return true;
}

static bool check_body(const struct exam *e)
{
    const cJSON *content = member(e->response, "content");
    const char *type = header_value(e->x, "Content-Type");
    autofree char *bare = NULL;
    const cJSON *media;

    if (strcmp(e->x->method, "HEAD") == 0)
        return e->x->body_len == 0 || wrong(e, "HEAD with a body");
    if (!content) {
        if (e->x->body_len > 0 || type)
            return wrong(e, "%d has no body, got %zu bytes of %s", e->x->status, e->x->body_len,
                         type ? type : "no type");
        return true;
    }
    if (!type)
        return wrong(e, "no Content-Type");
    bare = ld_strndup(type, strcspn(type, "; "));
    media = member(content, bare);
    if (!media)
        return wrong(e, "the media type %s is not described", type);
    if (member(media, "x-line-schema"))
        return check_lines(e, member(media, "x-line-schema"));
    if (strcmp(bare, "application/json") == 0)
        return check_json(e, member(media, "schema"), e->x->body, e->x->body_len, "body");
    return true;
}

/* ---- error codes ---- */

static bool holds(const cJSON *array, const char *text)
{
    const cJSON *one;

    cJSON_ArrayForEach (one, array) {
        if (strcmp(one->valuestring, text) == 0)
            return true;
    }
    return false;
}

/* The code belongs to the status, and the operation (NULL: none) says it may answer it. */
static bool check_code(const struct exam *e)
{
    cJSON *body = cJSON_ParseWithLength(e->x->body, e->x->body_len);
    const cJSON *error = member(body, "error");
    const char *code = error ? member(error, "code")->valuestring : "?";
    const char *request = header_value(e->x, "X-Request-Id");
    const cJSON *row = member(member(e->api->root, "x-error-codes"), code);
    bool ok = true;

    if (!row || (int)member(row, "status")->valuedouble != e->x->status)
        ok = wrong(e, "code %s with status %d", code, e->x->status);
    else if (e->op && !holds(member(e->op, "x-codes"), code) &&
             !holds(member(e->api->root, "x-common-codes"), code) &&
             !holds(member(e->api->root, "x-anywhere-codes"), code))
        ok = wrong(e, "%s may not answer %s: %s", member(e->op, "operationId")->valuestring, code,
                   member(error, "message")->valuestring);
    else if (!request || strcmp(member(error, "request_id")->valuestring, request) != 0)
        ok = wrong(e, "request_id is not the header's");
    cJSON_Delete(body);
    return ok;
}

/* ---- what was asked ---- */

static bool is_query_key(const struct exam *e, const char *key, size_t len)
{
    const cJSON *lists[] = {member(e->item, "parameters"), member(e->op, "parameters")};
    const cJSON *one;

    for (size_t i = 0; i < LD_ARRAY_LEN(lists); i++) {
        cJSON_ArrayForEach (one, lists[i]) {
            const cJSON *parameter = deref(e->api, one);
            const char *name = member(parameter, "name")->valuestring;

            if (strcmp(member(parameter, "in")->valuestring, "query") == 0 && strlen(name) == len &&
                memcmp(name, key, len) == 0)
                return true;
        }
    }
    return false;
}

/* An accepted request must have been acceptable. */
static bool check_request(const struct exam *e)
{
    const char *query = strchr(e->x->target, '?');
    const cJSON *content = member(member(e->op, "requestBody"), "content");
    const cJSON *media = member(content, "application/json");

    while (query && query[1]) {
        size_t len = strcspn(++query, "=&");

        if (!is_query_key(e, query, len))
            return wrong(e, "the query key '%.*s' was accepted", (int)len, query);
        query = strchr(query, '&');
    }
    if (!e->x->request_body || !e->x->request_body[0] || !media)
        return true;
    if (!check_json(e, member(media, "schema"), e->x->request_body, strlen(e->x->request_body),
                    "request"))
        return wrong(e, " (and was accepted)");
    return true;
}

/* ---- all of it ---- */

static const cJSON *component(const struct ld_openapi *api, const char *name)
{
    return member(member(member(api->root, "components"), "responses"), name);
}

/* A path that is none, or a method the resource does not have. */
static bool check_unrouted(struct exam *e)
{
    int want = e->item ? 405 : 404;

    e->response = component(e->api, e->item ? "MethodNotAllowed" : "NotFound");
    if (e->x->status != want)
        return wrong(e, "not described: %d wanted", want);
    return check_headers(e) && check_body(e) &&
           (strcmp(e->x->method, "HEAD") == 0 || check_code(e));
}

static bool check_routed(struct exam *e)
{
    char status[16];

    (void)snprintf(status, sizeof(status), "%d", e->x->status);
    e->response = deref(e->api, member(member(e->op, "responses"), status));
    if (!e->response && e->x->status == 403) /* a matter of the socket, not of the operation */
        e->response = component(e->api, "Forbidden");
    if (!e->response)
        return wrong(e, "the status is not described: %.300s", e->x->body);
    if (!check_headers(e) || !check_body(e))
        return false;
    if (e->x->status >= 400)
        return strcmp(e->x->method, "HEAD") == 0 || check_code(e);
    return check_request(e);
}

char *ld_openapi_check(const struct ld_openapi *api, const struct ld_openapi_exchange *exchange)
{
    autobuf struct ld_buf problem = LD_BUF_INIT(65536);
    struct exam e = {.api = api, .x = exchange, .problem = &problem};

    e.item = find_item(api, exchange->target, exchange->method);
    e.op = e.item ? find_op(e.item, exchange->method) : NULL;
    if (e.op ? check_routed(&e) : check_unrouted(&e))
        return NULL;
    return ld_asprintf("%s %s: %d: %s", exchange->method, exchange->target, exchange->status,
                       ld_buf_str(&problem));
}
