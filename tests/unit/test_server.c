/* api/server.h with toy routes: requests, errors, bodies, limits, many clients. */
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cjson/cJSON.h>

#include "daemon/base/mem.h"
#include "tests/lib/client.h"
#include "tests/lib/env.h"
#include "tests/lib/toy.h"

static struct ld_toy toy;
static struct ld_client *client;

#define TOY_TEST(sentence) LD_TOY_TEST(server, &toy, &client, sentence)

static const struct ld_reply *call(const struct ld_call *how)
{
    return ld_toy_call(client, how);
}

static const struct ld_reply *get(const char *target)
{
    return ld_toy_get(client, target);
}

static void expect_error(const struct ld_reply *reply, int status, const char *code)
{
    ld_toy_expect_error(client, reply, status, code);
}

/* ---- small requests ---- */

TOY_TEST(answers_a_small_request)
{
    const struct ld_reply *reply = get("/v1/hello?n=7&flag");

    cr_assert_eq(reply->status, 200);
    cr_expect_eq(ld_int(reply->json, "n"), 7);
    cr_expect(ld_bool(reply->json, "flag"));
    cr_expect_eq(ld_int(reply->json, "uid"), getuid(), "credentials of the peer");
    cr_expect_str_eq(ld_client_header(client, "Server"), "layerd/" LD_VERSION);
    cr_expect_eq(strlen(ld_client_header(client, "X-Request-Id")), 32);
    cr_expect_str_eq(ld_client_header(client, "Content-Type"), "application/json");
}

TOY_TEST(answers_head_with_the_head_only)
{
    const struct ld_reply *reply = call(&(struct ld_call){.method = "HEAD", .target = "/v1/hello"});

    cr_expect_eq(reply->status, 200);
    cr_expect_eq(reply->len, 0);
    cr_expect_str_neq(ld_client_header(client, "Content-Length"), "0");
}

TOY_TEST(refuses_with_the_right_error)
{
    expect_error(get("/v1/nothing"), 404, "not_found");
    expect_error(call(&(struct ld_call){.method = "DELETE", .target = "/v1/hello"}), 405,
                 "method_not_allowed");
    cr_expect_str_eq(ld_client_header(client, "Allow"), "GET, HEAD");
    expect_error(get("/v1/hello?m=1"), 400, "invalid");
    expect_error(get("/v1/hello?n=11"), 400, "invalid");
    expect_error(get("/v1/hello?flag=maybe"), 400, "invalid");
}

TOY_TEST(keeps_a_connection_over_errors_and_bodies)
{
    for (int i = 0; i < 50; i++) {
        expect_error(
            call(&(struct ld_call){.method = "POST", .target = "/v1/nothing", .json = "{'a':1}"}),
            404, "not_found");
        cr_expect_eq(get("/v1/hello")->status, 200);
    }
    cr_expect_eq(ld_toy_stats(&toy).connections, 1);
}

/* ---- JSON bodies ---- */

TOY_TEST(takes_json_within_its_rules)
{
    static const struct {
        const char *body, *type;
        int status;
    } cases[] = {
        {"{\"a\": [1, 2]}", "application/json", 200},
        {"{\"a\": 1}", "application/json; charset=utf-8", 200},
        {"{\"a\": 1}", "text/plain", 415},
        {"{\"a\": 1}", "application/jsonx", 415},
        {"{\"a\": 1", "application/json", 400},
        {"{\"a\": 1} x", "application/json", 400},
        {"[1]", "application/json", 400},
        {"{\"a\": 1, \"a\": 2}", "application/json", 400},
        {"{\"a\": \"\xff\"}", "application/json", 400},
        {"{\"a\": \"\\u0000\"}", "application/json", 400},
        {"", "application/json", 400},
    };

    for (size_t i = 0; i < LD_ARRAY_LEN(cases); i++) {
        const struct ld_reply *reply = call(&(struct ld_call){.method = "POST",
                                                              .target = "/v1/echo",
                                                              .body = cases[i].body,
                                                              .body_len = strlen(cases[i].body),
                                                              .content_type = cases[i].type});

        cr_expect_eq(reply->status, cases[i].status, "%s: %d %s", cases[i].body, reply->status,
                     reply->body);
    }
    cr_expect_eq(call(&(struct ld_call){.method = "PATCH", .target = "/v1/echo"})->status, 200,
                 "no body where it is optional");
}

TOY_TEST(names_unknown_members)
{
    const struct ld_reply *reply = call(&(struct ld_call){
        .method = "POST", .target = "/v1/echo?only=name+image", .json = "{'name':1,'x':2,'y':3}"});

    expect_error(reply, 400, "invalid");
    cr_expect_str_eq(ld_str(reply->json, "error.message"), "unknown member 'x', 'y'");
}

TOY_TEST(refuses_json_that_is_too_deep_or_too_long)
{
    autofree char *big = ld_alloc0(LD_MAX_BODY + 100);
    char deep[200];
    int dir = ld_test_mkdir("d");

    memset(deep, '[', 100);
    memset(deep + 100, ']', 100);
    expect_error(call(&(struct ld_call){.method = "POST",
                                        .target = "/v1/echo",
                                        .body = deep,
                                        .body_len = sizeof(deep),
                                        .content_type = "application/json"}),
                 400, "invalid");

    memset(big, ' ', LD_MAX_BODY + 99);
    expect_error(call(&(struct ld_call){.method = "POST",
                                        .target = "/v1/echo",
                                        .body = big,
                                        .body_len = LD_MAX_BODY + 99,
                                        .content_type = "application/json"}),
                 413, "too_large");

    ld_test_write(dir, "big", big);
    autoclose int fd = open("d/big", O_RDONLY | O_CLOEXEC);
    expect_error(call(&(struct ld_call){.method = "POST",
                                        .target = "/v1/echo",
                                        .body_fd = fd,
                                        .chunked = true,
                                        .content_type = "application/json"}),
                 413, "too_large");
    close(dir);
}

/* ---- raw: what a library would not send ---- */

static char *talk(const char *text, unsigned seconds)
{
    int fd = ld_raw_connect(toy.path);
    char *answer;

    ld_raw_send(fd, text, strlen(text));
    answer = ld_raw_read(fd, seconds);
    close(fd);
    return answer;
}

static int count_of(const char *text, const char *what)
{
    int n = 0;

    for (const char *at = strstr(text, what); at; at = strstr(at + 1, what))
        n++;
    return n;
}

TOY_TEST(answers_before_the_body_when_asked_to)
{
    autofree char *answer = talk("POST /v1/nothing HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n"
                                 "Content-Length: 100000000\r\n\r\n",
                                 30);

    cr_expect_eq(strncmp(answer, "HTTP/1.1 404", 12), 0, "%s", answer);
    cr_expect_eq(count_of(answer, "100 Continue"), 0);
}

TOY_TEST(asks_for_the_body_when_it_wants_it)
{
    int fd = ld_raw_connect(toy.path);
    static const char head[] = "POST /v1/echo HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n"
                               "Content-Type: application/json\r\nContent-Length: 2\r\n"
                               "Connection: close\r\n\r\n";
    char first[100] = "";
    autofree char *answer = NULL;

    ld_raw_send(fd, head, sizeof(head) - 1);
    cr_assert_gt(read(fd, first, sizeof(first) - 1), 0);
    cr_expect_eq(strncmp(first, "HTTP/1.1 100", 12), 0, "%s", first);
    ld_raw_send(fd, "{}", 2);
    answer = ld_raw_read(fd, 30);
    cr_expect_eq(strncmp(answer, "HTTP/1.1 200", 12), 0, "%s", answer);
    close(fd);
}

TOY_TEST(answers_pipelined_requests_in_order)
{
    autofree char *answer =
        talk("GET /v1/hello?n=1 HTTP/1.1\r\nHost: x\r\n\r\n"
             "POST /v1/nothing HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\n"
             "abc"
             "GET /v1/hello?n=2 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
             30);

    cr_expect_eq(count_of(answer, "HTTP/1.1 "), 3, "%s", answer);
    cr_expect_not_null(strstr(answer, "\"n\":1"));
    cr_expect_not_null(strstr(answer, "404"));
    cr_expect_not_null(strstr(answer, "\"n\":2"));
}

TOY_TEST(survives_what_is_not_http)
{
    autofree char *headers = ld_alloc0(500000);
    static const char *const texts[] = {
        "\r\n\r\n\r\n",
        "garbage\r\n\r\n",
        "GET\r\n\r\n",
        "GET /v1/hello HTTP/9.9\r\nHost: x\r\n\r\n",
        "GET /v1/hello HTTP/1.1\r\nHost: x\r\n\r\n\x01\x02garbage after\r\n\r\nGET",
        "POST /v1/echo HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        "POST /v1/echo HTTP/1.1\r\nHost: x\r\nContent-Length: 18446744073709551616\r\n\r\n",
        "POST /v1/echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        "GET /v1/hello?%%%%%%%%% HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    };
    size_t n;

    for (size_t i = 0; i < LD_ARRAY_LEN(texts); i++)
        free(talk(texts[i], 1));
    n = (size_t)(stpcpy(headers, "GET /v1/hello HTTP/1.1\r\nHost: x\r\n") - headers);
    while (n < 400000)
        n = (size_t)(stpcpy(headers + n, "X-Filler: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n") -
                     headers);
    (void)stpcpy(headers + n, "\r\n");
    autofree char *answer = talk(headers, 30);
    cr_expect_not_null(strstr(answer, " 431 "), "%.100s", answer);
    cr_expect_eq(get("/v1/hello")->status, 200);
}

TOY_TEST(answers_a_client_that_has_shut_down_writing)
{
    int fd = ld_raw_connect(toy.path);
    static const char text[] = "POST /v1/work HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n"
                               "Connection: close\r\n\r\n";
    autofree char *answer = NULL;

    ld_raw_send(fd, text, sizeof(text) - 1);
    ld_toy_await(&toy, &toy.started, 1);
    cr_assert_eq(shutdown(fd, SHUT_WR), 0);
    cr_expect_eq(get("/v1/hello")->status, 200, "the loop has seen it");
    ld_toy_open(&toy);
    answer = ld_raw_read(fd, 30);
    cr_expect_eq(strncmp(answer, "HTTP/1.1 201", 12), 0, "%s", answer);
    close(fd);
}

/* ---- the socket for readers ---- */

TOY_TEST(lets_readers_read_metadata_only)
{
    ld_client_free(client);
    client = ld_client_new(toy.read_path);
    cr_expect_eq(get("/v1/hello")->status, 200);
    cr_expect_eq(call(&(struct ld_call){.method = "HEAD", .target = "/v1/hello"})->status, 200);
    expect_error(get("/v1/download?bytes=1"), 403, "forbidden");
    expect_error(call(&(struct ld_call){.method = "POST", .target = "/v1/echo", .json = "{}"}), 403,
                 "forbidden");
    cr_expect_eq(get("/v1/hello")->status, 200);
}

/* ---- many ---- */

struct crowd {
    pthread_t thread;
    int calls, wrong;
};

static void *call_often(void *arg)
{
    struct crowd *me = arg;
    struct ld_client *mine = ld_client_new(toy.path);

    for (int i = 0; i < me->calls; i++) {
        const struct ld_reply *reply = ld_client_call(
            mine, &(struct ld_call){.method = "GET", .target = "/v1/hello", .unchecked = true});

        me->wrong += !reply || reply->status != 200;
    }
    ld_client_free(mine);
    return NULL;
}

TOY_TEST(answers_20000_small_requests)
{
    struct crowd crowd[8];
    struct timespec began, ended;
    double seconds;
    size_t fds = ld_test_count_fds();

    clock_gettime(CLOCK_MONOTONIC, &began);
    for (size_t i = 0; i < 8; i++) {
        crowd[i] = (struct crowd){.calls = 2500};
        cr_assert_eq(pthread_create(&crowd[i].thread, NULL, call_often, &crowd[i]), 0);
    }
    for (size_t i = 0; i < 8; i++) {
        pthread_join(crowd[i].thread, NULL);
        cr_expect_eq(crowd[i].wrong, 0);
    }
    clock_gettime(CLOCK_MONOTONIC, &ended);
    seconds = (double)(ended.tv_sec - began.tv_sec) + (double)(ended.tv_nsec - began.tv_nsec) / 1e9;
    cr_log_info("20,000 requests in %.2f s", seconds);
    ld_toy_await_quiet(&toy, 0);
    cr_expect_geq(ld_toy_stats(&toy).answered[2], 20000);
    cr_expect_eq(ld_test_count_fds(), fds, "no descriptor is left");
}

TOY_TEST(serves_256_connections_at_once)
{
    enum { N = 256 };
    static const char text[] = "POST /v1/work HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n";
    int fds[N];

    for (int i = 0; i < N; i++) {
        fds[i] = ld_raw_connect(toy.path);
        ld_raw_send(fds[i], text, sizeof(text) - 1);
    }
    ld_toy_await(&toy, &toy.started, 16); /* as many as the lane has threads */
    ld_toy_open(&toy);
    for (int i = 0; i < N; i++) {
        char answer[16] = "";

        cr_assert_gt(read(fds[i], answer, sizeof(answer) - 1), 0);
        cr_expect_eq(strncmp(answer, "HTTP/1.1 201", 12), 0);
        close(fds[i]);
    }
    ld_toy_await_quiet(&toy, 0);
    cr_expect_eq(get("/v1/hello")->status, 200);
}

/* ---- the socket itself ---- */

LD_TEST(server, replaces_a_stale_socket_but_not_a_live_one)
{
    struct ld_err err = LD_ERR_INIT;
    struct stat st;
    int first = -EBADF, second = -EBADF;

    ld_test_ok(ld_listen_unix("s", -1, &first, &err), &err);
    cr_assert_eq(stat("s", &st), 0);
    cr_expect_eq(st.st_mode, S_IFSOCK | 0660, "whatever the umask");
    ld_test_fails(ld_listen_unix("s", -1, &second, &err), &err, LD_E_CONFLICT);
    close(first);
    ld_test_ok(ld_listen_unix("s", -1, &second, &err), &err);
    close(second);
    ld_test_fails(ld_listen_unix("missing/s", -1, &second, &err), &err, LD_E_IO);
}

/* A tar that is piped in while it is made: mmdebstrap sends nothing for minutes. */
LD_TEST(server, waits_for_an_upload_that_pauses)
{
    static const char head[] = "PUT /v1/upload HTTP/1.1\r\nHost: x\r\nContent-Length: 6\r\n\r\n123";
    struct timespec longer = {.tv_sec = 2, .tv_nsec = 500000000};
    autofree char *answer = NULL;
    int fd;

    ld_toy_start(&toy, 1);
    fd = ld_raw_connect(toy.path);
    ld_raw_send(fd, head, sizeof(head) - 1);
    (void)nanosleep(&longer, NULL); /* than connections may be idle: the input */
    ld_raw_send(fd, "456", 3);
    answer = ld_raw_read(fd, 30); /* until it is closed: being idle once more */
    cr_expect_eq(strncmp(answer, "HTTP/1.1 200", 12), 0, "%s", answer);
    close(fd);
    ld_toy_await_quiet(&toy, 0);
    ld_toy_end(&toy);
}

LD_TEST(server, closes_idle_connections)
{
    int fd;
    char c;

    ld_toy_start(&toy, 1);
    fd = ld_raw_connect(toy.path);
    ld_raw_send(fd, "GET /v1/he", 10);
    cr_expect_leq(read(fd, &c, 1), 1); /* an error reply, or the end */
    ld_toy_await_quiet(&toy, 0);
    close(fd);
    ld_toy_end(&toy);
}
