/* "Idempotency-Key": what is asked for twice under it is done once and answered twice, whatever
 * happens between. */
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cjson/cJSON.h>

#include "daemon/base/fdio.h"
#include "daemon/base/mem.h"
#include "tests/lib/api.h"

static const struct ld_reply *post(struct ld_client *c, const char *target, const char *json,
                                   const char *key)
{
    autofree char *line = ld_asprintf("Idempotency-Key: %s", key);
    const char *const headers[] = {line, NULL};

    return ld_call(
        c, &(struct ld_call){.method = "POST", .target = target, .json = json, .headers = headers});
}

/* The id of what the request made, which it says by 201. */
static struct ld_text made(struct ld_client *c, const char *target, const char *json,
                           const char *key)
{
    const struct ld_reply *reply = post(c, target, json, key);
    struct ld_text id;

    cr_assert_eq(reply->status, 201, "%s %s: %.300s", target, json, reply->body);
    id = ld_textf("%s", ld_str(reply->json, "id"));
    cr_expect_not_null(strstr(ld_client_header(c, "Location"), id.s));
    cr_expect_not_null(ld_client_header(c, "ETag"));
    return id;
}

static void refused(struct ld_client *c, const char *target, const char *json, const char *key,
                    const char *code)
{
    const struct ld_reply *reply = post(c, target, json, key);

    cr_assert_not_null(reply->json);
    cr_expect_str_eq(ld_str(reply->json, "error.code"), code, "%s %s %s: %.300s", target, json, key,
                     reply->body);
}

static int count(struct ld_client *c, const char *kind)
{
    return ld_count(ld_want(c, 200, "GET", NULL, "/v1/%s", kind), "items");
}

static const char containers[] = "/v1/containers";
static const char volumes[] = "/v1/volumes";

LD_API_TEST(once, a_container_is_made_however_often_it_is_asked_for)
{
    struct ld_text first, other;

    ld_have_base(c);
    first = made(c, containers, "{'image':'base','labels':{'a':'1'}}", "k1");
    for (int i = 0; i < 3; i++)
        cr_expect_str_eq(made(c, containers, "{'image':'base','labels':{'a':'1'}}", "k1").s,
                         first.s);
    /* The same in other words. */
    cr_expect_str_eq(made(c, containers,
                          "{'labels':{'a':'1'},'mounts':[],'read_only':false,'image':'base'}", "k1")
                         .s,
                     first.s);
    cr_expect_eq(count(c, "containers"), 1);
    other = made(c, containers, "{'image':'base','labels':{'a':'1'}}", "k2");
    cr_expect_str_neq(other.s, first.s);
    /* As it is now. */
    (void)ld_want(c, 200, "PATCH", "{'name':'renamed'}", "/v1/containers/%s", first.s);
    cr_expect_str_eq(
        ld_str(post(c, containers, "{'image':'base','labels':{'a':'1'}}", "k1")->json, "name"),
        "renamed");
    cr_expect_eq(count(c, "containers"), 2);
}

LD_API_TEST(once, another_request_under_the_key_is_a_conflict)
{
    ld_have_base(c);
    (void)made(c, containers, "{'image':'base'}", "k");
    refused(c, containers, "{'image':'base','name':'x'}", "k", "conflict");
    refused(c, volumes, "{}", "k", "conflict");
    refused(c, "/v1/images/base/tag", "{'ref':'b:2'}", "k", "conflict");
    cr_expect_eq(count(c, "containers"), 1);
    cr_expect_eq(count(c, "volumes"), 0);
    (void)ld_want_error(c, "not_found", "GET", NULL, "/v1/images/b:2");
}

/* Neither a restart nor what has become of the ground it was made on changes the answer. */
LD_API_TEST(once, answers_hold_over_restarts_and_without_the_image)
{
    struct ld_text id, volume;

    ld_have_base(c);
    id = made(c, containers, "{'image':'base','name':'web'}", "k");
    volume = made(c, volumes, "{}", "v");
    ld_daemon_stop(d);
    ld_daemon_again(d);
    cr_expect_str_eq(made(c, containers, "{'image':'base','name':'web'}", "k").s, id.s);
    ld_daemon_kill(d);
    ld_daemon_again(d);
    cr_expect_str_eq(made(c, volumes, "{}", "v").s, volume.s);
    (void)ld_want(c, 204, "DELETE", NULL, "/v1/images/base?force=1");
    cr_expect_str_eq(made(c, containers, "{'image':'base','name':'web'}", "k").s, id.s);
    cr_expect_eq(count(c, "containers"), 1);
    cr_expect_eq(count(c, "volumes"), 1);
}

LD_API_TEST(once, what_was_made_and_removed_is_not_made_again)
{
    cJSON *error;

    ld_have_base(c);
    (void)made(c, containers, "{'image':'base','name':'web'}", "k");
    (void)made(c, volumes, "{'name':'data'}", "v");
    (void)ld_want(c, 204, "DELETE", NULL, "/v1/containers/web");
    (void)ld_want(c, 204, "DELETE", NULL, "/v1/volumes/data");
    refused(c, containers, "{'image':'base','name':'web'}", "k", "conflict");
    refused(c, volumes, "{'name':'data'}", "v", "conflict");
    error = cJSON_GetObjectItem(post(c, volumes, "{'name':'data'}", "v")->json, "error");
    cr_expect_not_null(strstr(ld_str(error, "message"), "gone"));
    cr_expect_not_null(strstr(ld_str(error, "hint"), "new key"));
    cr_expect_eq(count(c, "containers"), 0);
}

LD_API_TEST(once, failures_are_not_remembered)
{
    refused(c, containers, "{'image':'base'}", "k", "not_found");
    refused(c, containers, "{'image':7}", "k", "invalid");
    ld_have_base(c);
    (void)made(c, containers, "{'image':'base'}", "k");
}

/* The key is the container's, not that of the volumes which come with it. */
LD_API_TEST(once, a_container_with_volumes_is_made_whole)
{
    static const char body[] =
        "{'image':'app','mounts':[{'type':'volume','source':'named','target':'/v'}]}";
    struct ld_text id;

    ld_have_app(c); /* declares /data */
    id = made(c, containers, body, "k");
    cr_expect_eq(count(c, "volumes"), 2);
    cr_expect_str_eq(made(c, containers, body, "k").s, id.s);
    cr_expect_eq(count(c, "volumes"), 2);
}

LD_API_TEST(once, a_tag_is_set_once)
{
    const char *const headers[] = {"Idempotency-Key: k", "If-Match: \"2\"", NULL};
    struct ld_call tag = {.method = "POST",
                          .target = "/v1/images/base/tag",
                          .json = "{'ref':'stable:1'}",
                          .headers = headers};
    cJSON *json;

    ld_have_base(c);
    ld_have_app(c);
    cr_assert_eq(ld_int(ld_want(c, 200, "GET", NULL, "/v1/images/base"), "version"), 2);
    cr_assert_eq(ld_call(c, &tag)->status, 200);
    /* Its version is another one by now: that was asked before it was set. */
    cr_expect_eq(ld_call(c, &tag)->status, 200);
    cr_expect_eq(ld_count(ld_call(c, &tag)->json, "refs"), 2);
    (void)ld_want(c, 200, "POST", "{'ref':'stable:1'}", "/v1/images/app/tag");
    json = ld_call(c, &tag)->json;
    cr_expect_eq(ld_count(json, "refs"), 1);
    json = ld_want(c, 200, "GET", NULL, "/v1/images/stable:1");
    cr_expect_eq(ld_count(json, "refs"), 2, "it has moved on, and stays there");
    (void)ld_want(c, 204, "DELETE", NULL, "/v1/images/base:latest");
    cr_expect_eq(ld_call(c, &tag)->status, 409);
}

LD_API_TEST(once, malformed_keys_are_refused)
{
    autofree char *long_key = ld_alloc0(130);
    autofree char *longest = ld_alloc0(129);
    static const char *const empty[] = {"Idempotency-Key;", NULL}; /* libcurl's way to say so */
    const struct ld_reply *reply;

    memset(long_key, 'k', 129);
    memset(longest, 'k', 128);
    refused(c, volumes, "{}", long_key, "invalid");
    refused(c, volumes, "{}", "two words", "invalid");
    refused(c, volumes, "{}", "k\xC3\xA4se", "invalid");
    refused(c, containers, "{'image':'base'}", "tab\there", "invalid");
    refused(c, "/v1/images/base/tag", "{'ref':'b:2'}", "a b", "invalid");
    refused(c, "/v1/images/import", "{}", "a b", "invalid");
    reply = ld_call(
        c, &(struct ld_call){.method = "POST", .target = volumes, .json = "{}", .headers = empty});
    cr_expect_eq(reply->status, 400);
    cr_expect_eq(count(c, "volumes"), 0);
    (void)made(c, volumes, "{}", longest);
    (void)made(c, volumes, "{}", "~!\"#$%&'()*+,-./:;<=>?@[]^_`{|}");
}

/* ---- at the same time ---- */

enum { CALLERS = 8 };

struct caller {
    struct ld_client *client;
    pthread_t thread;
    const char *target, *json;
    const struct ld_blob *body;
    int status;
    struct ld_text id, added;
};

static void *ask(void *arg)
{
    static const char *const headers[] = {"Idempotency-Key: same", NULL};
    struct caller *a = arg;
    struct ld_call call = {
        .method = "POST", .target = a->target, .json = a->json, .headers = headers};
    const struct ld_reply *reply;

    if (a->body) {
        call.body = a->body->data;
        call.body_len = a->body->len;
    }
    reply = ld_client_call(a->client, &call);
    a->status = reply ? reply->status : -1;
    if (a->status == 201)
        a->id = ld_textf("%s", ld_str(reply->json, "id"));
    if (a->status == 200) {
        a->id = ld_textf("%s", ld_str(reply->json, "images.0.id"));
        a->added = ld_textf("%d", (int)ld_int(reply->json, "layers.added"));
    }
    return NULL;
}

static void ask_at_once(const struct ld_daemon *d, struct caller *callers, struct caller what)
{
    for (int i = 0; i < CALLERS; i++) {
        callers[i] = what;
        callers[i].client = ld_client_new(d->socket);
        cr_assert_eq(pthread_create(&callers[i].thread, NULL, ask, &callers[i]), 0);
    }
    for (int i = 0; i < CALLERS; i++) {
        cr_assert_eq(pthread_join(callers[i].thread, NULL), 0);
        ld_client_free(callers[i].client);
    }
}

LD_API_TEST(once, the_same_request_many_times_at_once_waits_for_the_first)
{
    struct caller callers[CALLERS];

    ld_have_base(c);
    ask_at_once(
        d, callers,
        (struct caller){.target = containers, .json = "{\"image\":\"base\",\"driver\":\"vfs\"}"});
    for (int i = 0; i < CALLERS; i++) {
        cr_expect_eq(callers[i].status, 201);
        cr_expect_str_eq(callers[i].id.s, callers[0].id.s);
    }
    cr_expect_eq(count(c, "containers"), 1);
}

LD_API_TEST(once, the_same_import_many_times_at_once_has_one_result)
{
    struct ld_blob base = ld_make_base();
    struct caller callers[CALLERS];

    ask_at_once(d, callers, (struct caller){.target = "/v1/images/import", .body = &base});
    for (int i = 0; i < CALLERS; i++) {
        cr_expect_eq(callers[i].status, 200);
        cr_expect_str_eq(callers[i].id.s, callers[0].id.s);
        cr_expect_str_eq(callers[i].added.s, "2");
    }
    ld_blob_done(&base);
}

/* ---- answers that never came ---- */

static void send_and_leave(struct ld_daemon *d, int i, int *fd)
{
    autofree char *body = ld_asprintf("{\"image\":\"base\",\"labels\":{\"n\":\"%d\"}}", i);
    autofree char *text = ld_asprintf("POST /v1/containers HTTP/1.1\r\nHost: x\r\n"
                                      "Idempotency-Key: key-%d\r\nContent-Length: %zu\r\n\r\n%s",
                                      i, strlen(body), body);

    *fd = ld_raw_connect(d->socket);
    ld_raw_send(*fd, text, strlen(text));
}

struct expected {
    struct ld_client *client;
    int n;
};

static bool they_are_there(void *arg)
{
    const struct expected *e = arg;

    return count(e->client, "containers") == e->n;
}

/* Killed at ever other moments between the request and its answer, which nobody reads: sent again,
 * it has been done once. Every third time it is known to have been recorded. */
LD_API_TEST(once, a_kill_between_request_and_answer_makes_none_twice)
{
    static const struct timespec tick = {.tv_nsec = 400000};
    int fd;

    ld_have_base(c);
    for (int i = 0; i < 15; i++) {
        autofree char *body = ld_asprintf("{'image':'base','labels':{'n':'%d'}}", i);
        autofree char *key = ld_asprintf("key-%d", i);
        struct expected e = {c, i + 1};
        struct ld_text id = {""};

        send_and_leave(d, i, &fd);
        if (i % 3 == 0) {
            cr_assert(ld_test_wait(they_are_there, &e, 20));
            id = ld_textf(
                "%s", ld_str(ld_want(c, 200, "GET", NULL, "/v1/containers?filter=label=n=%d", i),
                             "items.0.id"));
        }
        for (int n = 0; i % 3 != 0 && n < i; n++)
            (void)nanosleep(&tick, NULL); /* the moment differs; nothing is waited for */
        ld_daemon_kill(d);
        ld_close(fd);
        ld_daemon_again(d);
        if (id.s[0])
            cr_expect_str_eq(made(c, containers, body, key).s, id.s);
        else
            (void)made(c, containers, body, key);
        cr_assert_eq(count(c, "containers"), i + 1);
    }
}

/* ---- imports ---- */

static const struct ld_reply *import(struct ld_client *c, const struct ld_blob *body,
                                     const char *query, const char *key, const char *more)
{
    autofree char *line = ld_asprintf("Idempotency-Key: %s", key);
    autofree char *target = ld_asprintf("/v1/images/import%s", query);
    const char *const headers[] = {line, more, NULL};

    return ld_call(c, &(struct ld_call){.method = "POST",
                                        .target = target,
                                        .body = body->data,
                                        .body_len = body->len,
                                        .headers = headers});
}

LD_API_TEST(once, an_import_is_done_once)
{
    struct ld_blob base = ld_make_base(), app = ld_make_app();
    const struct ld_reply *reply;
    struct ld_text id;
    cJSON *job;

    reply = import(c, &base, "", "k", NULL);
    cr_assert_eq(reply->status, 200);
    cr_expect_eq(ld_int(reply->json, "layers.added"), 2);
    id = ld_textf("%s", ld_str(reply->json, "images.0.id"));
    (void)ld_want(c, 200, "POST", "{'ref':'other:1'}", "/v1/images/base/tag");
    ld_daemon_kill(d);
    ld_daemon_again(d);
    for (int i = 0; i < 2; i++) {
        reply = import(c, &base, "", "k", NULL);
        cr_assert_eq(reply->status, 200);
        cr_expect_eq(ld_int(reply->json, "layers.added"), 2, "as the first time");
        cr_expect_str_eq(ld_str(reply->json, "images.0.id"), id.s);
        cr_expect_eq(ld_count(reply->json, "images.0.refs"), 2, "the image as it is now");
    }
    job = ld_want(c, 200, "GET", NULL, "/v1/jobs/%s", ld_client_header(c, "X-Layerd-Job"));
    cr_expect_str_eq(ld_str(job, "state"), "done");
    cr_expect_eq(ld_int(job, "result.layers.added"), 2);
    cr_expect_str_eq(ld_str(job, "object.id"), id.s);
    reply = import(c, &base, "", "k", "Accept: application/x-ndjson");
    cr_expect_eq(reply->status, 200);
    cr_expect_not_null(strstr(reply->body, "\"added\":2"), "%.300s", reply->body);
    cr_expect_eq(import(c, &app, "", "k", NULL)->status, 409);
    cr_expect_eq(import(c, &base, "?ref=x:1", "k", NULL)->status, 409);
    reply = import(c, &base, "", "k2", NULL);
    cr_expect_eq(ld_int(reply->json, "layers.added"), 0, "another key is another request");
    ld_blob_done(&base);
    ld_blob_done(&app);
}

LD_API_TEST(once, an_import_sent_again_moves_no_name_back)
{
    struct ld_blob base = ld_make_base();

    cr_assert_eq(import(c, &base, "?ref=stable:1", "k", NULL)->status, 200);
    ld_have_app(c);
    (void)ld_want(c, 200, "POST", "{'ref':'stable:1'}", "/v1/images/app/tag");
    cr_expect_eq(import(c, &base, "?ref=stable:1", "k", NULL)->status, 200);
    cr_expect_eq(ld_count(ld_want(c, 200, "GET", NULL, "/v1/images/stable:1"), "refs"), 2);
    ld_blob_done(&base);
}

LD_API_TEST(once, an_import_whose_images_are_gone_is_a_conflict)
{
    struct ld_blob base = ld_make_base();
    const struct ld_reply *reply;

    cr_assert_eq(import(c, &base, "", "k", NULL)->status, 200);
    (void)ld_want(c, 204, "DELETE", NULL, "/v1/images/base");
    reply = import(c, &base, "", "k", NULL);
    cr_expect_eq(reply->status, 409);
    cr_expect_not_null(strstr(reply->body, "is gone"), "%.300s", reply->body);
    cr_expect_eq(count(c, "images"), 0);
    ld_blob_done(&base);
}

LD_API_TEST(once, an_import_that_nobody_waits_for_is_done_once_too)
{
    struct ld_blob base = ld_make_base();

    for (int i = 0; i < 3; i++) {
        const struct ld_reply *reply = import(c, &base, "", "k", "Prefer: respond-async");
        struct ld_text job;
        cJSON *json;

        cr_assert_eq(reply->status, 202);
        job = ld_textf("%s", ld_str(reply->json, "job"));
        json = ld_want(c, 200, "GET", NULL, "/v1/jobs/%s?wait=30s", job.s);
        cr_expect_str_eq(ld_str(json, "state"), "done");
        cr_expect_eq(ld_int(json, "result.layers.added"), 2);
    }
    ld_blob_done(&base);
}
