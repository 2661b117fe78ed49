/* client/http.h and client/api.h without a daemon: addresses, URLs, error documents, lines. */
#include <string.h>

#include <criterion/criterion.h>

#include "client/api.h"
#include "daemon/base/err.h"
#include "daemon/base/mem.h"

Test(client_api, takes_addresses_of_sockets_only)
{
    static const char *const good[] = {"unix:///run/layerd/layerd.sock", "/tmp/x.sock"};
    static const char *const bad[] = {"", "unix://rel", "tcp://localhost:1", "http://x",
                                      "layerd.sock"};
    struct ld_err err = LD_ERR_INIT;

    for (size_t i = 0; i < LD_ARRAY_LEN(good); i++) {
        autohttp struct ld_http *http = NULL;

        cr_expect_eq(ld_http_open(good[i], &http, &err), 0, "%s", good[i]);
    }
    for (size_t i = 0; i < LD_ARRAY_LEN(bad); i++) {
        autohttp struct ld_http *http = NULL;

        cr_expect_eq(ld_http_open(bad[i], &http, &err), -1, "%s", bad[i]);
        cr_expect_eq(err.code, LD_E_INVALID);
    }
}

Test(client_api, a_missing_socket_comes_with_a_hint)
{
    autohttp struct ld_http *http = NULL;
    autoreply struct ld_http_reply reply = LD_HTTP_REPLY_INIT;
    struct ld_http_call call = {.method = "GET", .target = "/v1"};
    struct ld_err err = LD_ERR_INIT;

    cr_assert_eq(ld_http_open("/nonexistent/layerd.sock", &http, &err), 0);
    cr_expect_eq(ld_http_run(http, &call, &reply, &err), -1);
    cr_expect_eq(err.code, LD_E_UNAVAILABLE);
    cr_expect_not_null(strstr(err.message, "/nonexistent/layerd.sock"));
    cr_expect_not_null(strstr(err.hint, "is the daemon running"));
}

Test(client_api, escapes_what_goes_into_a_target)
{
    autobuf struct ld_buf url = LD_URL_INIT;

    ld_buf_adds(&url, "/v1/containers/");
    ld_url_segment(&url, "a/b?c#d e%");
    ld_url_query(&url, "filter", "label=a b");
    ld_url_query(&url, "path", "/\xFF&");
    cr_expect_str_eq(ld_buf_str(&url),
                     "/v1/containers/a%2Fb%3Fc%23d%20e%25?filter=label%3Da%20b&path=/%FF%26");
    ld_buf_clear(&url);
    ld_url_reference(&url, "ghcr.io/team/web:1@x");
    cr_expect_str_eq(ld_buf_str(&url), "ghcr.io/team/web:1@x");
}

Test(client_api, understands_error_documents)
{
    static const struct {
        int status;
        const char *body;
        enum ld_code code;
        const char *message;
    } cases[] = {
        {409,
         "{\"error\":{\"code\":\"in_use\",\"message\":\"m\",\"hint\":\"h\",\"details\":{\"users\":["
         "]}}}",
         LD_E_IN_USE, "m"},
        {409, "{\"error\":{\"code\":\"newer\",\"message\":\"m\"}}", LD_E_CONFLICT, "m"},
        {404, "<html>", LD_E_NOT_FOUND, "the server answered status 404"},
        {507, "", LD_E_NO_SPACE, "the server answered status 507"},
        {418, "{}", LD_E_INTERNAL, "the server answered status 418"},
        {400, "[1]", LD_E_INVALID, "the server answered status 400"},
    };

    for (size_t i = 0; i < LD_ARRAY_LEN(cases); i++) {
        struct ld_err err = LD_ERR_INIT;

        cr_expect_eq(ld_http_error(cases[i].status, cases[i].body, strlen(cases[i].body), &err),
                     -1);
        cr_expect_eq(err.code, cases[i].code, "case %zu", i);
        cr_expect_str_eq(err.message, cases[i].message);
    }
}

Test(client_api, keeps_as_many_details_as_it_has_room_for)
{
    autobuf struct ld_buf body = LD_BUF_INIT(1 << 20);
    struct ld_err err = LD_ERR_INIT;
    autojson cJSON *details = NULL;

    ld_buf_adds(&body,
                "{\"error\":{\"code\":\"in_use\",\"message\":\"m\",\"details\":{\"users\":[");
    for (int i = 0; i < 20; i++)
        ld_buf_addf(&body, "%s{\"kind\":\"container\",\"id\":\"%064d\",\"name\":\"web%d\"}",
                    i ? "," : "", i, i);
    ld_buf_adds(&body, "]}}}");
    cr_expect_eq(ld_http_error(409, ld_buf_str(&body), body.len, &err), -1);
    details = cJSON_Parse(err.details);
    cr_expect_eq(cJSON_GetArraySize(ld_field_get(details, "users")), 4);
    cr_expect(ld_field_bool(details, "more"));
}

static int collect(void *arg, const char *line, size_t len, struct ld_err *err)
{
    struct ld_buf *all = arg;

    ld_buf_add(all, line, len);
    ld_buf_addc(all, '|');
    return strcmp(line, "stop") == 0 ? ld_err_set(err, LD_E_IO, "stopped") : 0;
}

Test(client_api, takes_lines_apart_wherever_they_are_cut)
{
    static const char stream[] = "{\"a\":1}\n\n{\"b\":2}\nrest";

    for (size_t step = 1; step < sizeof(stream); step++) {
        autobuf struct ld_buf all = LD_BUF_INIT(1024);
        struct ld_lines lines = LD_LINES_INIT(collect, &all);
        struct ld_err err = LD_ERR_INIT;

        for (size_t at = 0; at < sizeof(stream) - 1; at += step) {
            size_t left = sizeof(stream) - 1 - at;

            cr_assert_eq(ld_lines_feed(&lines, stream + at, left < step ? left : step, &err), 0);
        }
        cr_expect_str_eq(ld_buf_str(&all), "{\"a\":1}|{\"b\":2}|");
        cr_expect_str_eq(ld_buf_str(&lines.pending), "rest");
        ld_lines_done(&lines);
    }
}

Test(client_api, a_line_may_end_the_stream)
{
    autobuf struct ld_buf all = LD_BUF_INIT(1024);
    struct ld_lines lines = LD_LINES_INIT(collect, &all);
    struct ld_err err = LD_ERR_INIT;

    cr_expect_eq(ld_lines_feed(&lines, "go\nstop\nmore\n", 13, &err), -1);
    cr_expect_str_eq(ld_buf_str(&all), "go|stop|");
    ld_lines_done(&lines);
}

Test(client_api, members_that_are_missing_are_harmless)
{
    autojson cJSON *doc =
        cJSON_Parse("{\"s\":\"x\",\"n\":7,\"z\":null,\"neg\":-1,\"t\":\"2026-11-25T10:15:30Z\"}");

    cr_expect_str_eq(ld_field_str(doc, "s"), "x");
    cr_expect_str_eq(ld_field_str(doc, "n"), "");
    cr_expect_str_eq(ld_field_str(NULL, "s"), "");
    cr_expect_eq(ld_field_u64(doc, "n"), 7);
    cr_expect_eq(ld_field_u64(doc, "neg"), 0);
    cr_expect_not(ld_field_has(doc, "z"));
    cr_expect_eq(ld_field_time(doc, "t"), 1795601730);
}
