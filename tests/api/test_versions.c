/* ETag, If-Match, If-None-Match: who has seen what, and what happens only if that still holds. */
#include <stdio.h>
#include <string.h>

#include <cjson/cJSON.h>

#include "daemon/base/mem.h"
#include "tests/lib/api.h"

static const struct ld_reply *with(struct ld_client *c, const char *method, const char *target,
                                   const char *json, const char *header, const char *value)
{
    autofree char *line = ld_asprintf("%s: %s", header, value);
    const char *const headers[] = {line, NULL};

    return ld_call(
        c, &(struct ld_call){.method = method, .target = target, .json = json, .headers = headers});
}

static struct ld_text etag(struct ld_client *c, const char *target)
{
    (void)ld_want(c, 200, "GET", NULL, "%s", target);
    return ld_textf("%s", ld_client_header(c, "ETag"));
}

static void have_one_of_each(struct ld_client *c)
{
    ld_have_base(c);
    (void)ld_create(c, "web", "base", NULL);
    (void)ld_want(c, 201, "POST", "{'name':'data'}", "/v1/volumes");
}

static const char *const targets[] = {"/v1/containers/web", "/v1/volumes/data", "/v1/images/base"};

LD_API_TEST(versions, what_is_known_already_is_not_sent_again)
{
    have_one_of_each(c);
    for (size_t i = 0; i < LD_ARRAY_LEN(targets); i++) {
        struct ld_text tag = etag(c, targets[i]);
        struct ld_text weak = ld_textf("\"1-0000000000000000\", W/%s", tag.s);
        struct ld_text longer = ld_textf("%.10s", tag.s);
        const struct ld_reply *reply = with(c, "GET", targets[i], NULL, "If-None-Match", tag.s);

        cr_expect_eq(reply->status, 304, "%s", targets[i]);
        cr_expect_eq(reply->len, 0);
        cr_expect_str_eq(ld_client_header(c, "ETag"), tag.s);
        cr_expect_eq(with(c, "HEAD", targets[i], NULL, "If-None-Match", tag.s)->status, 304);
        cr_expect_eq(with(c, "GET", targets[i], NULL, "If-None-Match", weak.s)->status, 304);
        cr_expect_eq(with(c, "GET", targets[i], NULL, "If-None-Match", "*")->status, 304);
        cr_expect_eq(with(c, "GET", targets[i], NULL, "If-None-Match", "\"1\"")->status, 200);
        cr_expect_eq(with(c, "GET", targets[i], NULL, "If-None-Match", longer.s)->status, 200);
        cr_expect_eq(with(c, "GET", targets[i], NULL, "If-None-Match", "")->status, 200);
    }
    cr_expect_eq(with(c, "GET", "/v1/containers/none", NULL, "If-None-Match", "*")->status, 404);
}

/* Also what is no change of the record. */
LD_API_TEST(versions, whatever_is_shown_differently_has_another_etag)
{
    struct ld_text before[3], tag;

    have_one_of_each(c);
    for (size_t i = 0; i < LD_ARRAY_LEN(targets); i++)
        before[i] = etag(c, targets[i]);
    (void)ld_create(c, "user", "base",
                    "'mounts':[{'type':'volume','source':'data','target':'/v'}]");
    (void)ld_mount(c, "web");
    for (size_t i = 0; i < LD_ARRAY_LEN(targets); i++) {
        const struct ld_reply *reply =
            with(c, "GET", targets[i], NULL, "If-None-Match", before[i].s);

        cr_expect_eq(reply->status, 200, "%s", targets[i]);
    }
    /* The version is the same still, so what was decided on it may be done. */
    cr_expect_eq(
        with(c, "PATCH", targets[0], "{'labels':{'a':'b'}}", "If-Match", before[0].s)->status, 200);
    ld_unmount(c, "web");
    tag = etag(c, targets[0]);
    cr_expect_eq(strncmp(tag.s, "\"2-", 3), 0, "%s", tag.s);
}

LD_API_TEST(versions, what_has_changed_meanwhile_is_left_alone)
{
    static const char *const stale[] = {"\"7\"", "\"7-0123456789abcdef\""};
    struct ld_text tag;

    have_one_of_each(c);
    for (size_t i = 0; i < LD_ARRAY_LEN(stale); i++) {
        for (size_t k = 0; k < LD_ARRAY_LEN(targets); k++)
            cr_expect_eq(with(c, "DELETE", targets[k], NULL, "If-Match", stale[i])->status, 412);
        cr_expect_eq(with(c, "PATCH", targets[0], "{'name':'x'}", "If-Match", stale[i])->status,
                     412);
        cr_expect_eq(
            with(c, "POST", "/v1/images/base/tag", "{'ref':'b:2'}", "If-Match", stale[i])->status,
            412);
    }
    for (size_t k = 0; k < LD_ARRAY_LEN(targets); k++)
        (void)ld_want(c, 200, "GET", NULL, "%s", targets[k]);
    tag = etag(c, "/v1/images/base");
    cr_expect_eq(with(c, "POST", "/v1/images/base/tag", "{'ref':'b:2'}", "If-Match", tag.s)->status,
                 200);
    cr_expect_eq(with(c, "POST", "/v1/images/base/tag", "{'ref':'b:3'}", "If-Match", tag.s)->status,
                 412);
    tag = etag(c, targets[0]);
    cr_expect_eq(with(c, "PATCH", targets[0], "{'labels':{'a':'b'}}", "If-Match", tag.s)->status,
                 200);
    cr_expect_eq(with(c, "DELETE", targets[0], NULL, "If-Match", tag.s)->status, 412);
    tag =
        ld_textf("\"%d\"", (int)ld_int(ld_want(c, 200, "GET", NULL, "%s", targets[0]), "version"));
    cr_expect_eq(with(c, "DELETE", targets[0], NULL, "If-Match", tag.s)->status, 204);
    cr_expect_eq(with(c, "DELETE", targets[1], NULL, "If-Match", "*")->status, 204);
    cr_expect_eq(with(c, "DELETE", targets[1], NULL, "If-Match", "*")->status, 404);
}

LD_API_TEST(versions, only_what_is_new_is_made_by_who_asks_for_that)
{
    ld_have_base(c);
    for (int status = 201; status <= 412; status += 412 - 201) {
        cr_expect_eq(
            with(c, "PUT", "/v1/containers/new", "{'image':'base'}", "If-None-Match", "*")->status,
            status);
        cr_expect_eq(with(c, "PUT", "/v1/volumes/new", "{}", "If-None-Match", "*")->status, status);
    }
    cr_expect_eq(
        with(c, "PUT", "/v1/containers/new", "{'image':'base'}", "If-None-Match", "\"1\"")->status,
        400);
    cr_expect_eq(with(c, "PUT", "/v1/volumes/new", "{}", "If-None-Match", "\"1\"")->status, 400);
}

LD_API_TEST(versions, malformed_etags_are_refused)
{
    static const char *const bad[] = {
        "7",       "\"\"",   "\"x\"",     "\"0\"",  "\"7\", \"8\"",           "W/\"7\"", "\"7-\"",
        "\"7-1\"", "\"-7\"", "\"7-xyz\"", "\"1 \"", "\"1-0123456789abcdeg\"", "**",      "\""};

    have_one_of_each(c);
    for (size_t i = 0; i < LD_ARRAY_LEN(bad); i++) {
        for (size_t k = 0; k < LD_ARRAY_LEN(targets); k++)
            cr_expect_eq(with(c, "DELETE", targets[k], NULL, "If-Match", bad[i])->status, 400, "%s",
                         bad[i]);
    }
}
