/* api/router.h: which route a target finds, and what it is decoded to. */
#include <string.h>

#include "api/router.h"
#include "daemon/base/buf.h"
#include "daemon/base/mem.h"
#include "tests/lib/env.h"

static void nothing(struct ld_request *req)
{
    (void)req;
}

static const struct ld_route table[] = {
    {"GET", "/v1", nothing, 0, NULL},
    {"GET", "/v1/images", nothing, 0, "limit after filter*"},
    {"POST", "/v1/images/import", nothing, 0, "ref*"},
    {"GET", "/v1/images/{ref...}", nothing, 0, NULL},
    {"DELETE", "/v1/images/{ref...}", nothing, 0, "force?"},
    {"GET", "/v1/images/{ref...}/history", nothing, 0, NULL},
    {"POST", "/v1/images/{ref...}/tag", nothing, 0, NULL},
    {"GET", "/v1/containers/{c}", nothing, 0, "size?"},
    {"POST", "/v1/containers/prune", nothing, 0, NULL},
    {"GET", "/v1/containers/{c}/files", nothing, 0, "path"},
    {"HEAD", "/v1/containers/{c}/files", nothing, 0, "path"},
    {"DELETE", "/v1/containers/{c}/snapshots/{s}", nothing, 0, NULL},
    {"GET", "/{api:v1.[0-9]*}/containers/json", nothing, LD_ROUTE_ANY_QUERY, NULL},
    {"GET", "/containers/json", nothing, LD_ROUTE_ANY_QUERY, NULL},
    {"GET", "/{api:v1.[0-9]*}/images/{name...}/json", nothing, 0, NULL},
};

/* Wanted: the pattern, or NULL and a code; a parameter's value. */
struct finding {
    const char *method, *raw, *pattern, *key, *value;
    enum ld_code code;
};

static void check(const struct finding *cases, size_t n)
{
    struct ld_router *router = ld_router_new();

    ld_router_add(router, table, LD_ARRAY_LEN(table));
    for (size_t i = 0; i < n; i++) {
        const struct finding *want = &cases[i];
        struct ld_target target = {0};
        struct ld_err err = LD_ERR_INIT;
        int r = ld_router_find(router, want->method, want->raw, &target, &err);

        if (want->pattern) {
            cr_expect_eq(r, 0, "%s %s: %s", want->method, want->raw, err.message);
            if (r == 0)
                cr_expect_str_eq(target.route->pattern, want->pattern, "%s", want->raw);
            if (r == 0 && want->key)
                cr_expect_str_eq(ld_target_param(&target, want->key), want->value, "%s", want->raw);
        } else {
            cr_expect_eq(r, -1, "%s %s found %s", want->method, want->raw,
                         target.route ? target.route->pattern : "");
            cr_expect_eq(err.code, want->code, "%s %s: %s %s", want->method, want->raw,
                         ld_code_name(err.code), err.message);
        }
        ld_target_done(&target);
    }
    ld_router_free(router);
}

Test(router, finds_the_most_specific_pattern)
{
    static const struct finding cases[] = {
        {"GET", "/v1", "/v1"},
        {"GET", "/v1/images", "/v1/images"},
        {"GET", "/v1/images/debian", "/v1/images/{ref...}", "ref", "debian"},
        {"GET", "/v1/images/reg.io:5000/a/b:1", "/v1/images/{ref...}", "ref", "reg.io:5000/a/b:1"},
        {"GET", "/v1/images/a@sha256:00", "/v1/images/{ref...}", "ref", "a@sha256:00"},
        {"GET", "/v1/images/my/history", "/v1/images/{ref...}/history", "ref", "my"},
        {"GET", "/v1/images/my/history:latest", "/v1/images/{ref...}", "ref", "my/history:latest"},
        {"GET", "/v1/images/history", "/v1/images/{ref...}", "ref", "history"},
        {"GET", "/v1/images/history/history", "/v1/images/{ref...}/history", "ref", "history"},
        {"POST", "/v1/images/a/b/tag", "/v1/images/{ref...}/tag", "ref", "a/b"},
        {"POST", "/v1/images/import", "/v1/images/import"},
        {"GET", "/v1/images/import/history", "/v1/images/{ref...}/history", "ref", "import"},
        {"GET", "/v1/images/a%2Fb", "/v1/images/{ref...}", "ref", "a/b"},
        {"DELETE", "/v1/containers/c/snapshots/s1", "/v1/containers/{c}/snapshots/{s}", "s", "s1"},
        {"HEAD", "/v1/containers/c", "/v1/containers/{c}", "c", "c"},
        {"HEAD", "/v1/containers/c/files", "/v1/containers/{c}/files"},
        {"POST", "/v1/containers/prune", "/v1/containers/prune"},
        {"GET", "/v1/containers/prune", "/v1/containers/{c}", "c", "prune"},
        {"HEAD", "/v1/containers/prune?size", "/v1/containers/{c}", "c", "prune"},
        {"GET", "/v1.44/containers/json", "/{api:v1.[0-9]*}/containers/json", "api", "v1.44"},
        {"GET", "/v1/containers/json", "/v1/containers/{c}", "c", "json"},
        {"GET", "/v1.44/images/a/b/json", "/{api:v1.[0-9]*}/images/{name...}/json", "name", "a/b"},
        {"GET", "/containers/json?x=y", "/containers/json"},
        {"GET", "http://localhost/v1/containers/c", "/v1/containers/{c}", "c", "c"},
    };

    check(cases, LD_ARRAY_LEN(cases));
}

Test(router, refuses_what_names_nothing)
{
    static const struct finding cases[] = {
        {"GET", "", .code = LD_E_NOT_FOUND},
        {"GET", "/", .code = LD_E_NOT_FOUND},
        {"GET", "*", .code = LD_E_NOT_FOUND},
        {"GET", "v1", .code = LD_E_NOT_FOUND},
        {"GET", "/v1/", .code = LD_E_NOT_FOUND},
        {"GET", "//v1", .code = LD_E_NOT_FOUND},
        {"GET", "/v2", .code = LD_E_NOT_FOUND},
        {"GET", "/V1", .code = LD_E_NOT_FOUND},
        {"GET", "http://localhost", .code = LD_E_NOT_FOUND},
        {"GET", "/v1/images/", .code = LD_E_NOT_FOUND},
        {"GET", "/v1/images/a//b", .code = LD_E_NOT_FOUND},
        {"GET", "/v1/containers/a/b", .code = LD_E_NOT_FOUND},
        {"GET", "/v1/containers/c/files/", .code = LD_E_NOT_FOUND},
        {"GET", "/v1/x/x/x/x/x/x/x/x/x/x/x/x/x/x/x/x/x/x/x/x/x/x/x/x/x/x/x/x/x/x/x/x/x/x/x/x/x/x",
         .code = LD_E_NOT_FOUND},
        {"POST", "/v1", .code = LD_E_METHOD},
        {"GET", "/v1/images/import", .code = LD_E_METHOD},
        {"get", "/v1", .code = LD_E_METHOD},
        {"PUT", "/v1/containers/prune", .code = LD_E_METHOD},
        {"GET", "/v1/containers/a%00b", .code = LD_E_INVALID},
        {"GET", "/v1/containers/a%zz", .code = LD_E_INVALID},
        {"GET", "/v1/containers/a%4", .code = LD_E_INVALID},
        {"GET", "/v1/containers/a%", .code = LD_E_INVALID},
        {"GET", "/v1/containers/a%FF", .code = LD_E_INVALID},
        {"GET", "/v1/containers/a%C0%AE", .code = LD_E_INVALID},
    };

    check(cases, LD_ARRAY_LEN(cases));
}

Test(router, decodes_once_only)
{
    static const struct finding cases[] = {
        {"GET", "/v1/containers/a%2525", "/v1/containers/{c}", "c", "a%25"},
        {"GET", "/v1/containers/%2e%2e", "/v1/containers/{c}", "c", ".."},
        {"GET", "/v1/containers/a+b", "/v1/containers/{c}", "c", "a+b"},
        {"GET", "/v1/containers/a%2Fb", "/v1/containers/{c}", "c", "a/b"},
        {"GET", "/v%31/containers/a", "/v1/containers/{c}", "c", "a"},
    };

    check(cases, LD_ARRAY_LEN(cases));
}

Test(router, checks_the_query)
{
    static const struct finding cases[] = {
        {"GET", "/v1/images?", "/v1/images"},
        {"GET", "/v1/images?&&", "/v1/images"},
        {"GET", "/v1/images?limit=1&after=x", "/v1/images"},
        {"GET", "/v1/images?filter=a&filter=b", "/v1/images"},
        {"DELETE", "/v1/images/a?force", "/v1/images/{ref...}"},
        {"DELETE", "/v1/images/a?force=", "/v1/images/{ref...}"},
        {"DELETE", "/v1/images/a?force=true", "/v1/images/{ref...}"},
        {"DELETE", "/v1/images/a?force=yes", .code = LD_E_INVALID},
        {"DELETE", "/v1/images/a?force=1&force=1", .code = LD_E_INVALID},
        {"GET", "/v1/images?limit=1&limit=2", .code = LD_E_INVALID},
        {"GET", "/v1/images?limits=1", .code = LD_E_INVALID},
        {"GET", "/v1/images?lim=1", .code = LD_E_INVALID},
        {"GET", "/v1/images?=1", .code = LD_E_INVALID},
        {"GET", "/v1/images?limit=%00", .code = LD_E_INVALID},
        {"GET", "/v1/images?limit=%g0", .code = LD_E_INVALID},
        {"GET", "/v1?x", .code = LD_E_INVALID},
    };

    check(cases, LD_ARRAY_LEN(cases));
}

Test(router, names_all_unknown_keys_and_what_is_known)
{
    struct ld_router *router = ld_router_new();
    struct ld_target target = {0};
    struct ld_err err = LD_ERR_INIT;

    ld_router_add(router, table, LD_ARRAY_LEN(table));
    cr_assert_eq(ld_router_find(router, "GET", "/v1/images?foo=1&limit=2&bar", &target, &err), -1);
    cr_expect_str_eq(err.message, "unknown query key 'foo', 'bar'");
    cr_expect_str_eq(err.hint, "known here: limit, after, filter");
    ld_target_done(&target);
    ld_router_free(router);
}

Test(router, gives_query_values_as_bytes)
{
    struct ld_router *router = ld_router_new();
    struct ld_target target = {0};
    struct ld_err err = LD_ERR_INIT;

    ld_router_add(router, table, LD_ARRAY_LEN(table));
    cr_assert_eq(ld_router_find(router, "GET",
                                "/v1/images?filter=%FF%2520+x&filter=label=a=b&filter", &target,
                                &err),
                 0, "%s", err.message);
    cr_expect_str_eq(ld_target_query(&target, "filter", 0), "\xFF%20 x");
    cr_expect_str_eq(ld_target_query(&target, "filter", 1), "label=a=b");
    cr_expect_str_eq(ld_target_query(&target, "filter", 2), "");
    cr_expect_null(ld_target_query(&target, "filter", 3));
    ld_target_done(&target);
    ld_router_free(router);
}

Test(router, tells_which_methods_a_resource_has)
{
    struct ld_router *router = ld_router_new();
    struct ld_target target = {0};
    struct ld_err err = LD_ERR_INIT;

    ld_router_add(router, table, LD_ARRAY_LEN(table));
    cr_assert_eq(ld_router_find(router, "PUT", "/v1/images/a", &target, &err), -1);
    cr_expect_str_eq(target.allow, "GET, HEAD, DELETE");
    ld_target_done(&target);
    cr_assert_eq(ld_router_find(router, "PUT", "/v1/containers/a/files", &target, &err), -1);
    cr_expect_str_eq(target.allow, "GET, HEAD");
    ld_target_done(&target);
    cr_assert_eq(ld_router_find(router, "PUT", "/v1/containers/prune", &target, &err), -1);
    cr_expect_str_eq(target.allow, "POST, GET, HEAD");
    ld_target_done(&target);
    ld_router_free(router);
}

Test(router, bounds_the_target)
{
    struct ld_router *router = ld_router_new();
    struct ld_target target = {0};
    struct ld_err err = LD_ERR_INIT;
    autofree char *long_one = ld_alloc0(LD_MAX_TARGET + 100);
    autobuf struct ld_buf many = LD_BUF_INIT(1 << 20);

    ld_router_add(router, table, LD_ARRAY_LEN(table));
    memset(long_one, 'a', LD_MAX_TARGET + 50);
    memcpy(long_one, "/v1/images/", 11);
    cr_expect_eq(ld_router_find(router, "GET", long_one, &target, &err), -1);
    cr_expect_eq(err.code, LD_E_INVALID);
    ld_target_done(&target);

    ld_buf_adds(&many, "/v1/images?");
    for (int i = 0; i <= LD_MAX_QUERY; i++)
        ld_buf_adds(&many, "filter=a&");
    cr_expect_eq(ld_router_find(router, "GET", ld_buf_str(&many), &target, &err), -1);
    cr_expect_eq(err.code, LD_E_INVALID);
    ld_target_done(&target);
    ld_router_free(router);
}
