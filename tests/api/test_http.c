/* The rules every route keeps: unknown and malformed input, methods, bodies, encodings,
 * connections. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include <cjson/cJSON.h>

#include "daemon/base/buf.h"
#include "daemon/base/mem.h"
#include "tests/lib/api.h"

LD_API_TEST(http, tells_its_name_and_version)
{
    cJSON *json = ld_want(c, 200, "GET", NULL, "/v1");

    cr_expect_str_eq(ld_str(json, "version"), LD_VERSION);
    cr_expect_str_eq(ld_client_header(c, "Server"), "layerd/" LD_VERSION);
}

LD_API_TEST(http, names_unknown_query_keys)
{
    static const char *const targets[] = {
        "GET /v1",
        "GET /v1/info",
        "GET /v1/df",
        "GET /v1/events",
        "GET /v1/images",
        "POST /v1/images/import",
        "GET /v1/images/base",
        "DELETE /v1/images/base",
        "POST /v1/images/base/tag",
        "GET /v1/images/base/history",
        "GET /v1/layers",
        "GET /v1/layers/abcd",
        "GET /v1/containers",
        "POST /v1/containers",
        "PUT /v1/containers/a",
        "GET /v1/containers/web",
        "PATCH /v1/containers/web",
        "DELETE /v1/containers/web",
        "POST /v1/containers/web/mount",
        "POST /v1/containers/web/unmount",
        "GET /v1/containers/web/changes",
        "GET /v1/containers/web/diff",
        "GET /v1/containers/web/export",
        "GET /v1/containers/web/files",
        "PUT /v1/containers/web/files",
        "DELETE /v1/containers/web/files",
        "GET /v1/volumes",
        "POST /v1/volumes",
        "PUT /v1/volumes/a",
        "GET /v1/volumes/a",
        "DELETE /v1/volumes/a",
        "GET /v1/jobs",
        "GET /v1/jobs/abcd",
        "DELETE /v1/jobs/abcd",
    };

    ld_have_base(c);
    (void)ld_create(c, "web", "base", NULL);
    for (size_t i = 0; i < LD_ARRAY_LEN(targets); i++) {
        size_t len = strcspn(targets[i], " ");
        autofree char *method = ld_strndup(targets[i], len);
        bool has_body = targets[i][0] == 'P';
        cJSON *error =
            ld_want_error(c, "invalid", method, has_body ? "{}" : NULL, "%s?oddkey=1%s",
                          targets[i] + len + 1, strstr(targets[i], "files") ? "&path=/" : "");

        cr_expect(strstr(ld_str(error, "message"), "oddkey"), "%s: %s", targets[i],
                  ld_str(error, "message"));
    }
}

LD_API_TEST(http, refuses_query_values_that_mean_nothing)
{
    static const char *const targets[] = {
        "/v1/images?limit=0",
        "/v1/images?limit=1001",
        "/v1/images?limit=x",
        "/v1/images?limit=1&limit=2",
        "/v1/images?after=%21",
        "/v1/containers?limit=-1",
        "/v1/containers?filter=odd=1",
        "/v1/containers?filter=name",
        "/v1/containers?filter=state=flying",
        "/v1/containers?filter=until=yesterday",
        "/v1/volumes?filter=dangling=perhaps",
        "/v1/jobs?filter=state=odd",
        "/v1/events?after=x",
        "/v1/events?follow=maybe",
        "/v1/events?filter=odd=1",
        "/v1/images?limit=%zz",
        "/v1/images?limit=%00",
        "/v1/containers/web?size=2",
        "/v1/containers/web/files",
        "/v1/containers/web/files?path=",
        "/v1/containers/web/files?path=relative",
        "/v1/containers/web/files?path=%00",
    };

    ld_have_base(c);
    (void)ld_create(c, "web", "base", NULL);
    for (size_t i = 0; i < LD_ARRAY_LEN(targets); i++)
        (void)ld_want_error(c, "invalid", "GET", NULL, "%s", targets[i]);
    (void)ld_want(c, 200, "GET", NULL, "/v1/containers/web?size");
    (void)ld_want(c, 200, "GET", NULL, "/v1/containers/web?size=false");
}

LD_API_TEST(http, tells_the_methods_a_resource_has)
{
    static const struct {
        const char *method, *target, *allow; /* each of these must be told */
    } rows[] = {
        {"POST", "/v1", "GET"},
        {"DELETE", "/v1/info", "GET"},
        {"PUT", "/v1/containers", "GET POST"},
        {"POST", "/v1/containers/web", "GET PUT PATCH DELETE"},
        {"GET", "/v1/containers/web/mount", "POST"},
        {"POST", "/v1/volumes/data", "GET PUT PATCH DELETE"},
        {"POST", "/v1/containers/web/files?path=/", "GET HEAD PUT DELETE"},
        {"PROPFIND", "/v1/images/base", "GET DELETE"},
    };

    for (size_t i = 0; i < LD_ARRAY_LEN(rows); i++) {
        char want[64];

        (void)ld_want_error(c, "method_not_allowed", rows[i].method, NULL, "%s", rows[i].target);
        (void)snprintf(want, sizeof(want), "%s", rows[i].allow);
        for (char *save = NULL, *word = strtok_r(want, " ", &save); word;
             word = strtok_r(NULL, " ", &save))
            cr_expect(strstr(ld_client_header(c, "Allow"), word), "%s: Allow: %s", rows[i].target,
                      ld_client_header(c, "Allow"));
    }
}

LD_API_TEST(http, knows_no_other_paths)
{
    static const char *const targets[] = {"/",
                                          "/v2",
                                          "/v1/nothing",
                                          "/v1/containers/web/nothing",
                                          "/v1/containers/web/mount/x",
                                          "/V1",
                                          "/v1/containers/../info"};

    for (size_t i = 0; i < LD_ARRAY_LEN(targets); i++)
        (void)ld_want_error(c, "not_found", "GET", NULL, "%s", targets[i]);
}

LD_API_TEST(http, answers_head_like_get_without_a_body)
{
    static const char *const targets[] = {"/v1", "/v1/info", "/v1/containers",
                                          "/v1/containers/none"};

    for (size_t i = 0; i < LD_ARRAY_LEN(targets); i++) {
        int get = ld_call(c, &(struct ld_call){.method = "GET", .target = targets[i]})->status;
        const struct ld_reply *head =
            ld_call(c, &(struct ld_call){.method = "HEAD", .target = targets[i]});

        cr_expect_eq(head->status, get, "%s", targets[i]);
        cr_expect_eq(head->len, 0);
    }
}

/* A JSON body of n nested objects. */
static char *nested(int n)
{
    autobuf struct ld_buf buf = LD_BUF_INIT(1 << 20);

    for (int i = 0; i < n; i++)
        ld_buf_adds(&buf, "{\"labels\":");
    ld_buf_adds(&buf, "1");
    for (int i = 0; i < n; i++)
        ld_buf_addc(&buf, '}');
    return ld_buf_take(&buf);
}

LD_API_TEST(http, refuses_bodies_that_are_no_proper_json)
{
    autofree char *deep = nested(40);
    const struct {
        const char *text;
        size_t len; /* 0: strlen */
    } bodies[] = {
        {"", 0},
        {"nonsense", 0},
        {"[]", 0},
        {"null", 0},
        {"\"name\"", 0},
        {"{\"name\":\"a\"", 0},
        {"{\"name\":\"a\"} x", 0},
        {"{\"name\":\"a\",\"name\":\"b\"}", 0},
        {"{\"name\":\"a\xff\"}", 0},
        {"{\"name\":\"a\\u0000b\"}", 0},
        {"{\"name\":\"a\0b\"}", 14},
        {deep, 0},
        {"{\"name\":7}", 0},
        {"{\"labels\":[]}", 0},
        {"{\"labels\":{\"a\":1}}", 0},
        {"{\"oddmember\":1}", 0},
    };

    for (size_t i = 0; i < LD_ARRAY_LEN(bodies); i++) {
        const struct ld_reply *reply =
            ld_call(c, &(struct ld_call){.method = "PUT",
                                         .target = "/v1/containers/a",
                                         .content_type = "application/json",
                                         .body = bodies[i].text,
                                         .body_len = bodies[i].len ? bodies[i].len
                                                                   : strlen(bodies[i].text)});

        cr_expect_eq(reply->status, 400, "body %zu '%.40s': %d %.300s", i, bodies[i].text,
                     reply->status, reply->body);
    }
    cr_expect(strstr(ld_client_header(c, "Content-Type"), "json"));
    (void)ld_want_error(c, "not_found", "GET", NULL, "/v1/containers/a");
}

LD_API_TEST(http, names_unknown_members)
{
    static const struct {
        const char *method, *target, *body;
    } rows[] = {
        {"POST", "/v1/containers", "{'image':'base','oddmember':1}"},
        {"PUT", "/v1/containers/a", "{'image':'base','oddmember':1}"},
        {"POST", "/v1/containers",
         "{'image':'base','mounts':[{'type':'tmpfs','target':'/t','oddmember':1}]}"},
        {"POST", "/v1/containers", "{'image':'base','config':{'oddmember':1}}"},
        {"PATCH", "/v1/containers/web", "{'oddmember':1}"},
        {"PATCH", "/v1/volumes/data", "{'oddmember':1}"},
        {"POST", "/v1/containers/web/mount", "{'oddmember':1}"},
        {"POST", "/v1/containers/web/bundle", "{'oddmember':1}"},
        {"POST", "/v1/images/base/mount", "{'oddmember':1}"},
        {"POST", "/v1/images/base/unmount", "{'oddmember':1}"},
        {"POST", "/v1/volumes", "{'oddmember':1}"},
        {"PUT", "/v1/volumes/a", "{'oddmember':1}"},
        {"POST", "/v1/images/base/tag", "{'ref':'x','oddmember':1}"},
    };

    ld_have_base(c);
    (void)ld_create(c, "web", "base", NULL);
    for (size_t i = 0; i < LD_ARRAY_LEN(rows); i++) {
        cJSON *error =
            ld_want_error(c, "invalid", rows[i].method, rows[i].body, "%s", rows[i].target);

        cr_expect(strstr(ld_str(error, "message"), "oddmember"), "%s", ld_str(error, "message"));
    }
}

LD_API_TEST(http, refuses_what_it_cannot_honour_yet)
{
    static const struct {
        const char *method, *target, *body;
    } rows[] = {
        {"POST", "/v1/containers", "{'image':'base','idmap':'auto'}"},
    };

    ld_have_base(c);
    (void)ld_create(c, "web", "base", NULL);
    for (size_t i = 0; i < LD_ARRAY_LEN(rows); i++)
        (void)ld_want_error(c, "unsupported", rows[i].method, rows[i].body, "%s", rows[i].target);
}

/* The tests' data root enforces none. */
LD_API_TEST(http, refuses_limits_that_nothing_enforces_with_the_remedy)
{
    static const struct {
        const char *method, *target, *body;
    } rows[] = {
        {"POST", "/v1/containers", "{'image':'base','size_limit':1048576}"},
        {"POST", "/v1/containers", "{'image':'base','inode_limit':100}"},
        {"PUT", "/v1/containers/a", "{'image':'base','size_limit':1048576}"},
        {"PATCH", "/v1/containers/web", "{'size_limit':1048576}"},
        {"PATCH", "/v1/containers/web", "{'inode_limit':100}"},
        {"POST", "/v1/volumes", "{'size_limit':1048576}"},
        {"PUT", "/v1/volumes/a", "{'size_limit':1048576}"},
        {"PATCH", "/v1/volumes/data", "{'size_limit':1048576}"},
    };
    cJSON *info;

    ld_have_base(c);
    (void)ld_create(c, "web", "base", NULL);
    (void)ld_want(c, 201, "PUT", NULL, "/v1/volumes/data");
    info = ld_want(c, 200, "GET", NULL, "/v1/info");
    cr_expect_not(ld_bool(info, "storage.quota.usable"));
    cr_expect_neq(ld_str(info, "storage.quota.reason")[0], '\0');
    for (size_t i = 0; i < LD_ARRAY_LEN(rows); i++) {
        cJSON *error =
            ld_want_error(c, "unsupported", rows[i].method, rows[i].body, "%s", rows[i].target);

        cr_expect(strstr(ld_str(error, "hint"), "prjquota"), "%s", ld_str(error, "hint"));
    }
    (void)ld_want_error(c, "not_found", "GET", NULL, "/v1/volumes/a");
    (void)ld_want_error(c, "invalid", "PATCH", "{'size_limit':65535}", "/v1/containers/web");
    (void)ld_want_error(c, "invalid", "PATCH", "{'inode_limit':15}", "/v1/containers/web");
    (void)ld_want_error(c, "invalid", "PATCH", "{'size_limit':'1M'}", "/v1/volumes/data");
    (void)ld_want(c, 200, "PATCH", "{'size_limit':null,'inode_limit':null}", "/v1/containers/web");
    (void)ld_want(c, 200, "PATCH", "{'size_limit':null}", "/v1/volumes/data");
}

LD_API_TEST(http, refuses_bodies_over_a_mebibyte)
{
    static const struct {
        const char *method, *target;
    } rows[] = {
        {"POST", "/v1/containers"},
        {"PUT", "/v1/containers/a"},
        {"PATCH", "/v1/containers/web"},
        {"PATCH", "/v1/volumes/data"},
        {"POST", "/v1/containers/web/mount"},
        {"POST", "/v1/containers/web/bundle"},
        {"POST", "/v1/images/base/mount"},
        {"POST", "/v1/volumes"},
        {"PUT", "/v1/volumes/a"},
        {"POST", "/v1/images/base/tag"},
        {"POST", "/v1/containers/web/snapshots"},
        {"POST", "/v1/containers/web/snapshots/s/rollback"},
        {"POST", "/v1/containers/web/clone"},
        {"POST", "/v1/trash/data/restore"},
        {"POST", "/v1/check"},
    };
    size_t len = (1 << 20) + 1;
    autofree char *body = ld_alloc0(len + 1);

    memset(body, ' ', len);
    body[0] = '{';
    body[len - 1] = '}';
    ld_have_base(c);
    (void)ld_create(c, "web", "base", NULL);
    for (size_t i = 0; i < LD_ARRAY_LEN(rows); i++) {
        const struct ld_reply *reply =
            ld_call(c, &(struct ld_call){.method = rows[i].method,
                                         .target = rows[i].target,
                                         .content_type = "application/json",
                                         .body = body,
                                         .body_len = len});

        cr_expect_eq(reply->status, 413, "%s: %d", rows[i].target, reply->status);
        cr_expect_str_eq(ld_str(reply->json, "error.code"), "too_large");
    }
}

LD_API_TEST(http, refuses_other_media_types)
{
    static const struct {
        const char *method, *target, *type;
    } rows[] = {
        {"POST", "/v1/containers", "application/x-www-form-urlencoded"},
        {"PUT", "/v1/containers/a", "text/plain"},
        {"PATCH", "/v1/containers/web", "application/xml"},
        {"PATCH", "/v1/volumes/data", "application/xml"},
        {"POST", "/v1/containers/web/mount", "text/plain"},
        {"POST", "/v1/containers/web/bundle", "text/plain"},
        {"POST", "/v1/images/base/mount", "text/plain"},
        {"POST", "/v1/volumes", "text/plain"},
        {"PUT", "/v1/volumes/a", "text/plain"},
        {"POST", "/v1/images/base/tag", "text/plain"},
        {"POST", "/v1/containers/web/snapshots", "text/plain"},
        {"POST", "/v1/containers/web/snapshots/s/rollback", "text/plain"},
        {"POST", "/v1/containers/web/clone", "text/plain"},
        {"POST", "/v1/trash/data/restore", "text/plain"},
        {"POST", "/v1/check", "text/plain"},
        {"PUT", "/v1/containers/web/files?path=/etc", "application/x-www-form-urlencoded"},
    };

    ld_have_base(c);
    (void)ld_create(c, "web", "base", NULL);
    for (size_t i = 0; i < LD_ARRAY_LEN(rows); i++) {
        const struct ld_reply *reply = ld_call(c, &(struct ld_call){.method = rows[i].method,
                                                                    .target = rows[i].target,
                                                                    .content_type = rows[i].type,
                                                                    .body = "{}",
                                                                    .body_len = 2});

        cr_expect_eq(reply->status, 415, "%s: %d %s", rows[i].target, reply->status, reply->body);
    }
    /* None at all, and a charset, are fine. */
    (void)ld_call(c, &(struct ld_call){
                         .method = "PUT", .target = "/v1/volumes/a", .body = "{}", .body_len = 2});
    cr_expect_eq(ld_call(c, &(struct ld_call){.method = "PUT",
                                              .target = "/v1/volumes/a",
                                              .content_type = "application/json; charset=utf-8",
                                              .body = "{}",
                                              .body_len = 2})
                     ->status,
                 200);
}

LD_API_TEST(http, decodes_paths_once)
{
    ld_have_base(c);
    (void)ld_create(c, "web", "base", NULL);
    (void)ld_want(c, 200, "GET", NULL, "/v1/containers/%%77eb");
    (void)ld_want_error(c, "invalid", "GET", NULL, "/v1/containers/%%zz");
    (void)ld_want_error(c, "invalid", "GET", NULL, "/v1/containers/a%%00b");
    (void)ld_want_error(c, "not_found", "GET", NULL, "/v1/containers/%%2577eb");
    (void)ld_want_error(c, "not_found", "GET", NULL, "/v1/containers/..%%2fweb");
    (void)ld_want(c, 200, "GET", NULL, "/v1/images/docker.io%%2flibrary%%2fbase:latest");
    (void)ld_want(c, 200, "GET", NULL, "/v1/images/docker.io/library/base");
}

/* ---- below HTTP ---- */

LD_API_TEST(http, survives_bytes_that_are_no_http)
{
    static const char *const heads[] = {
        "\r\n\r\n",
        "GARBAGE\r\n\r\n",
        "GET\r\n\r\n",
        "GET /v1 HTTP/9.9\r\n\r\n",
        "GET /v1 HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
        "POST /v1/volumes HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\n{}",
        "POST /v1/volumes HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nZZZ\r\n",
        "\x16\x03\x01\x02\x00\x01",
    };

    for (size_t i = 0; i < LD_ARRAY_LEN(heads); i++) {
        int fd = ld_raw_connect(d->socket);
        autofree char *reply = NULL;

        ld_raw_send(fd, heads[i], strlen(heads[i]));
        (void)shutdown(fd, SHUT_WR);
        reply = ld_raw_read(fd, 1); /* a head that is not whole may wait for its timeout */
        cr_expect(reply[0] == '\0' || strncmp(reply, "HTTP/1.1 4", 10) == 0 ||
                      strncmp(reply, "HTTP/1.1 505", 12) == 0 || strncmp(reply, "HTTP/1.0", 8) == 0,
                  "%zu: %.60s", i, reply);
        ld_close(fd);
        (void)ld_want(c, 200, "GET", NULL, "/v1");
    }
}

LD_API_TEST(http, answers_a_client_that_has_shut_down_writing)
{
    static const char request[] = "GET /v1 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    int fd = ld_raw_connect(d->socket);
    autofree char *reply = NULL;

    ld_raw_send(fd, request, sizeof(request) - 1);
    (void)shutdown(fd, SHUT_WR);
    reply = ld_raw_read(fd, 10);
    cr_expect(strncmp(reply, "HTTP/1.1 200", 12) == 0 && strstr(reply, "\"layerd\""), "%s", reply);
    ld_close(fd);
}

LD_API_TEST(http, answers_pipelined_requests_in_order)
{
    static const char request[] =
        "GET /v1 HTTP/1.1\r\nHost: x\r\n\r\nGET /v1/none HTTP/1.1\r\nHost: x\r\n\r\n"
        "GET /v1/info HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    int fd = ld_raw_connect(d->socket);
    autofree char *reply = NULL;
    const char *first, *second, *third;

    ld_raw_send(fd, request, sizeof(request) - 1);
    reply = ld_raw_read(fd, 10);
    first = strstr(reply, "HTTP/1.1 200");
    second = first ? strstr(first, "HTTP/1.1 404") : NULL;
    third = second ? strstr(second, "HTTP/1.1 200") : NULL;
    cr_expect(third, "%s", reply);
    ld_close(fd);
}

LD_API_TEST(http, keeps_256_connections_and_their_descriptors_in_order)
{
    enum { N = 250 };
    static const char request[] = "GET /v1 HTTP/1.1\r\nHost: x\r\n\r\n";
    static int fd[N];
    size_t before = ld_daemon_fds(d);

    for (int i = 0; i < N; i++)
        fd[i] = ld_raw_connect(d->socket);
    for (int i = 0; i < N; i++)
        ld_raw_send(fd[i], request, sizeof(request) - 1);
    for (int i = 0; i < N; i++) {
        struct pollfd pfd = {.fd = fd[i], .events = POLLIN};
        char data[512] = "";

        cr_assert_eq(poll(&pfd, 1, 20000), 1, "connection %d is not answered", i);
        cr_assert(recv(fd[i], data, sizeof(data) - 1, 0) > 0 &&
                      strncmp(data, "HTTP/1.1 200", 12) == 0,
                  "%d: %s", i, data);
    }
    for (int i = 0; i < N; i++)
        ld_close(fd[i]);
    cr_expect(ld_daemon_wait_fds(d, before + 4, 60), "%zu descriptors, %zu before",
              ld_daemon_fds(d), before);
}

/* ---- the socket for readers ---- */

LD_TEST(http, lets_readers_have_metadata_and_nothing_else)
{
    static const char *const args[] = {"--read-host", "unix:///mnt/run/read.sock", NULL};
    static const char *const open_to_all[] = {"/v1",         "/v1/info",           "/v1/images",
                                              "/v1/volumes", "/v1/containers/web", "/v1/jobs",
                                              "/v1/metrics"};
    static const struct {
        const char *method, *json, *target;
    } closed[] = {
        {"POST", "{'image':'base'}", "/v1/containers"},
        {"PUT", "{'image':'base'}", "/v1/containers/other"},
        {"PATCH", "{'labels':{'a':'b'}}", "/v1/containers/web"},
        {"DELETE", NULL, "/v1/containers/web"},
        {"POST", NULL, "/v1/containers/web/mount"},
        {"GET", NULL, "/v1/containers/web/export"},
        {"GET", NULL, "/v1/containers/web/files?path=/etc/motd"},
        {"PUT", "{}", "/v1/containers/web/files?path=/etc/motd"},
        {"POST", NULL, "/v1/images/import"},
        {"DELETE", NULL, "/v1/images/base"},
        {"DELETE", NULL, "/v1/volumes/none"},
    };
    struct ld_daemon *d = ld_daemon_start("data", args);
    struct ld_client *reader = ld_client_new("/mnt/run/read.sock");

    ld_have_base(d->client);
    (void)ld_create(d->client, "web", "base", NULL);
    for (size_t i = 0; i < LD_ARRAY_LEN(open_to_all); i++)
        (void)ld_want(reader, 200, "GET", NULL, "%s", open_to_all[i]);
    for (size_t i = 0; i < LD_ARRAY_LEN(closed); i++)
        (void)ld_want_error(reader, "forbidden", closed[i].method, closed[i].json, "%s",
                            closed[i].target);
    cr_expect_eq(ld_count(ld_want(reader, 200, "GET", NULL, "/v1/containers"), "items"), 1);
    ld_client_free(reader);
    ld_api_finish(d);
}
