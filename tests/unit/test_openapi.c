/* tests/lib/{yaml,schema,openapi}: what holds the API's replies against openapi.yaml must itself be
 * right; and the error codes of openapi.yaml are those of base/err.h. */
#include <string.h>

#include <cjson/cJSON.h>
#include <criterion/criterion.h>

#include "daemon/base/buf.h"
#include "daemon/base/err.h"
#include "tests/lib/openapi.h"
#include "tests/lib/schema.h"

#define ID64 "8f2b6c0d4e9a17355b1c2f7d8e6a9b0c1d2e3f405162738495a6b7c8d9e0f1a2"

/* What is wrong with the value, or "" when it fits. */
static const char *problem_of(const char *schema_text, const char *value_text)
{
    static char text[4096];
    autobuf struct ld_buf problem = LD_BUF_INIT(4000);
    cJSON *schema = cJSON_Parse(schema_text);
    cJSON *value = cJSON_Parse(value_text);

    cr_assert(schema && value, "%s %s", schema_text, value_text);
    text[0] = '\0';
    if (!ld_schema_fits(schema, schema, value, "v", &problem))
        strcpy(text, ld_buf_str(&problem)); /* NOLINT: the buffer's ceiling is below */
    cJSON_Delete(schema);
    cJSON_Delete(value);
    return text;
}

Test(schema, tells_what_does_not_fit)
{
    static const struct {
        const char *schema, *value, *problem; /* "": fits */
    } rows[] = {
        {"{\"type\":\"integer\"}", "3", ""},
        {"{\"type\":\"integer\"}", "3.5", "another type"},
        {"{\"type\":[\"string\",\"null\"]}", "null", ""},
        {"{\"type\":\"boolean\"}", "1", "another type"},
        {"{\"enum\":[\"a\",\"b\"]}", "\"c\"", "none of the values"},
        {"{\"const\":7}", "8", "not the one value"},
        {"{\"pattern\":\"^[0-9]+$\"}", "\"12a\"", "does not match"},
        {"{\"maxLength\":2}", "\"äöü\"", "maxLength is 2, got 3"},
        {"{\"minimum\":1}", "0", "minimum"},
        {"{\"items\":{\"type\":\"string\"}}", "[\"a\",1]", "v[1]"},
        {"{\"minItems\":1}", "[]", "minItems"},
        {"{\"required\":[\"a\"]}", "{}", "'a' is missing"},
        {"{\"properties\":{\"a\":{}},\"additionalProperties\":false}", "{\"a\":1}", ""},
        {"{\"properties\":{\"a\":{}},\"additionalProperties\":false}", "{\"b\":1}",
         "v.b: not a member"},
        {"{\"additionalProperties\":{\"type\":\"string\"}}", "{\"b\":1}", "v.b"},
        {"{\"properties\":{\"a\":{}}}", "{\"a\":1,\"a\":2}", "there twice"},
        {"{\"maxProperties\":1}", "{\"a\":1,\"b\":2}", "maxProperties"},
        {"{\"allOf\":[{\"properties\":{\"a\":{}}}],\"unevaluatedProperties\":false}", "{\"a\":1}",
         ""},
        {"{\"allOf\":[{\"properties\":{\"a\":{}}}],\"unevaluatedProperties\":false}", "{\"b\":1}",
         "v.b: not a member"},
        {"{\"oneOf\":[{\"type\":\"string\"},{\"type\":\"null\"}]}", "3", "fits 0 of oneOf"},
        {"{\"oneOf\":[{\"minimum\":1},{\"minimum\":2}]}", "3", "fits 2 of oneOf"},
        {"{\"oneOf\":[{\"properties\":{\"a\":{}},\"required\":[\"a\"]},{\"type\":\"null\"}],"
         "\"unevaluatedProperties\":false}",
         "{\"a\":1}", ""},
        {"{\"$ref\":\"#/x-a\",\"x-a\":{\"type\":\"string\"}}", "3", "another type"},
        {"{\"$ref\":\"#/x-b\"}", "3", "leads nowhere"},
        {"{\"anyOf\":[]}", "3", "unknown word 'anyOf'"},
        {"{\"x-note\":1,\"description\":\"\"}", "3", ""},
    };

    for (size_t i = 0; i < LD_ARRAY_LEN(rows); i++) {
        const char *got = problem_of(rows[i].schema, rows[i].value);

        if (rows[i].problem[0])
            cr_expect(strstr(got, rows[i].problem), "%s, %s: '%s'", rows[i].schema, rows[i].value,
                      got);
        else
            cr_expect_str_eq(got, "", "%s, %s: '%s'", rows[i].schema, rows[i].value, got);
    }
}

/* Every "example" beside a schema, wherever it is. */
static void check_examples(const cJSON *root, const cJSON *node, int *count)
{
    const cJSON *example = cJSON_GetObjectItemCaseSensitive(node, "example");
    const cJSON *child;

    if (cJSON_IsObject(node) && example) {
        autobuf struct ld_buf problem = LD_BUF_INIT(4096);

        cr_expect(ld_schema_fits(root, node, example, node->string ? node->string : "?", &problem),
                  "%s", ld_buf_str(&problem));
        ++*count;
    }
    cJSON_ArrayForEach (child, node) {
        if (child != example && (cJSON_IsObject(child) || cJSON_IsArray(child)))
            check_examples(root, child, count);
    }
}

Test(openapi, has_examples_that_fit_their_schemas)
{
    struct ld_openapi *api = ld_openapi_open(NULL);
    const cJSON *root = ld_openapi_root(api);
    int count = 0;

    check_examples(root, root, &count);
    cr_expect_gt(count, 30);
    ld_openapi_free(api);
}

Test(openapi, has_the_error_codes_of_the_table)
{
    struct ld_openapi *api = ld_openapi_open(NULL);
    const cJSON *codes = cJSON_GetObjectItem(ld_openapi_root(api), "x-error-codes");

    for (int code = LD_E_NONE + 1; code < LD_E_COUNT; code++) {
        const cJSON *row = cJSON_GetObjectItem(codes, ld_code_name(code));

        cr_assert(row, "%s is not in openapi.yaml", ld_code_name(code));
        cr_expect_eq((int)cJSON_GetObjectItem(row, "status")->valuedouble, ld_code_status(code),
                     "%s", ld_code_name(code));
    }
    cr_expect_eq(cJSON_GetArraySize(codes), LD_E_COUNT - 1);
    ld_openapi_free(api);
}

Test(openapi, finds_operations_by_path)
{
    static const struct {
        const char *method, *target, *id; /* NULL: none */
    } rows[] = {
        {"GET", "/v1", "getApi"},
        {"GET", "/v1/", NULL},
        {"GET", "/v1/containers?limit=1", "listContainers"},
        {"GET", "/v1/containers/web", "getContainer"},
        {"PUT", "/v1/containers/web/files?path=/a", "putFile"},
        {"GET", "/v1/containers/web/nothing", NULL},
        {"GET", "/v1/containers//files", NULL},
        {"GET", "/v1/images/registry.example/team/web:1", "getImage"},
        {"GET", "/v1/images/registry.example/team/web:1/history", "getImageHistory"},
        {"POST", "/v1/images/import", "importImages"},
        {"GET", "/v1/images/history", "getImage"},
        {"POST", "/v1/containers/web", NULL},
        {"GET", "/v2", NULL},
    };
    struct ld_openapi *api = ld_openapi_open(NULL);

    for (size_t i = 0; i < LD_ARRAY_LEN(rows); i++) {
        const char *id = ld_openapi_operation_id(api, rows[i].method, rows[i].target);

        cr_expect(rows[i].id ? id && strcmp(id, rows[i].id) == 0 : !id, "%s %s is %s",
                  rows[i].method, rows[i].target, id ? id : "nothing");
    }
    ld_openapi_free(api);
}

#define COMMON                                                                                     \
    {"Server", "layerd/0.1.0"}, {"X-Request-Id", "0f3a9c1e"},                                      \
    {                                                                                              \
        "Date", "now"                                                                              \
    }
#define JSON                                                                                       \
    {                                                                                              \
        "Content-Type", "application/json"                                                         \
    }
#define ERROR(code)                                                                                \
    "{\"error\":{\"code\":\"" code                                                                 \
    "\",\"message\":\"m\",\"hint\":\"\",\"request_id\":\"0f3a9c1e\","                              \
    "\"details\":{}}}"

Test(openapi, refuses_replies_that_are_not_described)
{
    static const char api_body[] =
        "{\"name\":\"layerd\",\"version\":\"0.1.0\",\"api\":\"v1\",\"features\":[]}";
    static const char event_line[] = "{\"gap\":{\"from\":1,\"to\":2}}\n{\"id\":3,\"time\":\"2026-"
                                     "11-25T10:15:30Z\",\"type\":\"image.tag\","
                                     "\"object\":{\"kind\":\"image\",\"id\":\"sha256:x\",\"name\":"
                                     "null},\"actor\":null,\"request_id\":null,"
                                     "\"attributes\":{}}\n";
    static const struct {
        const char *method, *target, *body;
        int status;
        struct ld_openapi_header headers[6];
        const char *problem; /* "": all is well */
        const char *request;
    } rows[] = {
        {"GET", "/v1", api_body, 200, {COMMON, JSON}, "", NULL},
        {"GET", "/v1", api_body, 200, {COMMON}, "no Content-Type", NULL},
        {"GET",
         "/v1",
         api_body,
         200,
         {JSON, {"Server", "layerd/1.0"}},
         "X-Request-Id is missing",
         NULL},
        {"GET",
         "/v1",
         api_body,
         200,
         {COMMON, JSON, {"X-Odd", "1"}},
         "X-Odd is not described",
         NULL},
        {"GET", "/v1", api_body, 201, {COMMON, JSON}, "status is not described", NULL},
        {"GET", "/v1", "{}", 200, {COMMON, JSON}, "'name' is missing", NULL},
        {"GET", "/v1", "{} x", 200, {COMMON, JSON}, "", "?"},
        {"GET", "/v1?x=1", api_body, 200, {COMMON, JSON}, "the query key 'x' was accepted", NULL},
        {"GET", "/v1", "<html>", 200, {COMMON, {"Content-Type", "text/html"}}, "media type", NULL},
        {"GET", "/v1/containers/a", ERROR("not_found"), 404, {COMMON, JSON}, "", NULL},
        {"GET",
         "/v1/containers/a",
         ERROR("not_found"),
         400,
         {COMMON, JSON},
         "code not_found with status 400",
         NULL},
        {"GET",
         "/v1/containers/a",
         ERROR("busy"),
         409,
         {COMMON, JSON},
         "getContainer may not answer busy",
         NULL},
        {"GET",
         "/v1/info",
         ERROR("unavailable"),
         503,
         {COMMON, JSON},
         "Retry-After is missing",
         NULL},
        {"GET", "/nowhere", ERROR("not_found"), 404, {COMMON, JSON}, "", NULL},
        {"GET", "/nowhere", api_body, 200, {COMMON, JSON}, "404 wanted", NULL},
        {"POST",
         "/v1",
         ERROR("method_not_allowed"),
         405,
         {COMMON, JSON, {"Allow", "GET"}},
         "",
         NULL},
        {"POST", "/v1", ERROR("method_not_allowed"), 405, {COMMON, JSON}, "Allow is missing", NULL},
        {"DELETE", "/v1/volumes/a", "", 204, {COMMON}, "", NULL},
        {"DELETE", "/v1/volumes/a", "x", 204, {COMMON}, "has no body", NULL},
        {"HEAD", "/v1/containers/a/files?path=/", "", 404, {COMMON, JSON}, "", NULL},
        {"GET",
         "/v1/events",
         event_line,
         200,
         {COMMON, {"Content-Type", "application/x-ndjson"}},
         "",
         NULL},
        {"GET",
         "/v1/events",
         "{}\n",
         200,
         {COMMON, {"Content-Type", "application/x-ndjson"}},
         "line 1",
         NULL},
        {"GET",
         "/v1/events",
         "{\"gap\"",
         200,
         {COMMON, {"Content-Type", "application/x-ndjson"}},
         "no end",
         NULL},
        {"POST",
         "/v1/containers/a/mount",
         ERROR("not_found"),
         404,
         {COMMON, JSON},
         "",
         "{\"odd\":1}"},
    };
    struct ld_openapi *api = ld_openapi_open(NULL);

    for (size_t i = 0; i < LD_ARRAY_LEN(rows); i++) {
        struct ld_openapi_exchange x = {.method = rows[i].method,
                                        .target = rows[i].target,
                                        .request_body = rows[i].request,
                                        .status = rows[i].status,
                                        .headers = rows[i].headers,
                                        .body = rows[i].body,
                                        .body_len = strlen(rows[i].body)};
        const char *want = rows[i].request && strcmp(rows[i].request, "?") == 0
                               ? "'name' is missing"
                               : rows[i].problem;
        autofree char *got = NULL;

        while (x.n_headers < 6 && rows[i].headers[x.n_headers].name)
            x.n_headers++;
        got = ld_openapi_check(api, &x);
        cr_expect(want[0] ? got && strstr(got, want) : !got, "row %zu: %s", i, got ? got : "fine");
    }
    ld_openapi_free(api);
}

Test(openapi, refuses_requests_that_should_not_have_been_accepted)
{
    struct ld_openapi *api = ld_openapi_open(NULL);
    static const struct ld_openapi_header headers[] = {
        COMMON, JSON, {"ETag", "\"1-0123456789abcdef\""}, {"Location", "/v1/volumes/" ID64}};
    static const char body[] =
        "{\"id\":\"" ID64
        "\",\"name\":\"a\",\"anonymous\":false,\"labels\":{},\"state\":\"ok\",\"reason\":null,"
        "\"created_at\":\"2026-11-25T10:15:30Z\",\"size_limit\":null,\"users\":[],\"version\":1}";
    struct ld_openapi_exchange x = {.method = "POST",
                                    .target = "/v1/volumes",
                                    .request_body = "{\"name\":\"a\"}",
                                    .status = 201,
                                    .headers = headers,
                                    .n_headers = LD_ARRAY_LEN(headers),
                                    .body = body,
                                    .body_len = sizeof(body) - 1};
    autofree char *fine = ld_openapi_check(api, &x);
    autofree char *odd = NULL;

    cr_expect(!fine, "%s", fine);
    x.request_body = "{\"name\":\"a\",\"odd\":1}";
    odd = ld_openapi_check(api, &x);
    cr_expect(odd && strstr(odd, "request.odd"), "%s", odd ? odd : "accepted");
    ld_openapi_free(api);
}
