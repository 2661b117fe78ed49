/* api/reply.h with toy routes: uploads, downloads, feeds, long verbs; clients that vanish; the
 * drain. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cjson/cJSON.h>

#include "daemon/base/mem.h"
#include "tests/lib/client.h"
#include "tests/lib/env.h"
#include "tests/lib/toy.h"

static struct ld_toy toy;
static struct ld_client *client;

#define TOY_TEST(sentence) LD_TOY_TEST(server_streams, &toy, &client, sentence)

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

/* A sparse file of that many zeros. */
static int zeros(uint64_t bytes)
{
    int fd = open("zeros", O_RDWR | O_CREAT | O_CLOEXEC, 0600);

    cr_assert(fd >= 0 && ftruncate(fd, (off_t)bytes) == 0);
    return fd;
}

static const struct ld_reply *upload(const char *target, uint64_t bytes, bool chunked)
{
    autoclose int fd = zeros(bytes);

    return call(&(struct ld_call){
        .method = "PUT", .target = target, .body_fd = fd, .chunked = chunked, .seconds = 240});
}

static long peak_kib(void)
{
    autofree char *line = NULL;
    FILE *file = fopen("/proc/self/status", "re");
    size_t cap = 0;
    long kib = -1;

    cr_assert_not_null(file);
    while (kib < 0 && getline(&line, &cap, file) > 0) {
        if (strncmp(line, "VmHWM:", 6) == 0)
            kib = strtol(line + 6, NULL, 10);
    }
    (void)fclose(file);
    return kib;
}

static void forget_peak(void)
{
    int fd = open("/proc/self/clear_refs", O_WRONLY | O_CLOEXEC);

    cr_assert(fd >= 0 && write(fd, "5", 1) == 1);
    close(fd);
}

/* ---- uploads ---- */

TOY_TEST(take_uploads_whole)
{
    static const uint64_t sizes[] = {0, 1, 100, 70000, (1 << 20) - 1, 1 << 20, 10000001};

    for (size_t i = 0; i < LD_ARRAY_LEN(sizes); i++) {
        for (int chunked = 0; chunked < 2; chunked++) {
            const struct ld_reply *reply = upload("/v1/upload", sizes[i], chunked);

            cr_assert_eq(reply->status, 200, "%d %s", reply->status, reply->body);
            cr_expect_eq((uint64_t)ld_int(reply->json, "bytes"), sizes[i]);
        }
    }
    cr_expect_eq(ld_toy_stats(&toy).connections, 1, "all on one connection");
}

TOY_TEST(keep_memory_bounded_under_a_slow_worker)
{
    enum { MIB = 256 };
    struct timespec began, ended;
    const struct ld_reply *reply;
    long before;

    (void)upload("/v1/upload", 1 << 20, true); /* warm */
    forget_peak();
    before = peak_kib();
    clock_gettime(CLOCK_MONOTONIC, &began);
    reply = upload("/v1/upload?slow_us=100", (uint64_t)MIB << 20, true);
    clock_gettime(CLOCK_MONOTONIC, &ended);
    cr_assert_eq(reply->status, 200);
    cr_expect_eq(ld_int(reply->json, "bytes"), (int64_t)MIB << 20);
    cr_expect_lt(peak_kib() - before, 8 * 1024, "%ld KiB more", peak_kib() - before);
    cr_log_info("%d MiB in %ld s, %ld KiB more memory", MIB, ended.tv_sec - began.tv_sec,
                peak_kib() - before);
}

TOY_TEST(tell_a_client_of_a_failure_while_it_still_sends)
{
    for (int chunked = 0; chunked < 2; chunked++)
        expect_error(upload("/v1/upload?fail_at=3000000", UINT64_C(4) << 30, chunked), 422,
                     "bad_content");
    expect_error(upload("/v1/import?fail=early", UINT64_C(4) << 30, true), 422, "bad_content");
    expect_error(upload("/v1/nothing", UINT64_C(4) << 30, true), 404, "not_found");
    cr_expect_eq(get("/v1/hello")->status, 200);
}

TOY_TEST(tell_a_client_of_a_failure_that_has_stopped_sending)
{
    static const char head[] = "PUT /v1/upload?fail_at=4 HTTP/1.1\r\nHost: x\r\n"
                               "Content-Length: 1000\r\n\r\nbody";
    int fd = ld_raw_connect(toy.path);
    char answer[400] = "";

    ld_raw_send(fd, head, sizeof(head) - 1);
    cr_assert_gt(read(fd, answer, sizeof(answer) - 1), 0);
    cr_expect_eq(strncmp(answer, "HTTP/1.1 422", 12), 0, "%s", answer);
    cr_expect_not_null(strstr(answer, "Connection: close"));
    cr_expect_not_null(strstr(answer, "X-Request-Id: "));
    close(fd);
    ld_toy_await_quiet(&toy, 0);
}

TOY_TEST(take_an_upload_of_a_client_that_shuts_down_writing)
{
    static const char head[] = "PUT /v1/upload?slow_us=2000 HTTP/1.1\r\nHost: x\r\n"
                               "Content-Length: 3000000\r\nConnection: close\r\n\r\n";
    autofree char *body = ld_alloc0(3000000);
    autofree char *answer = NULL;
    int fd = ld_raw_connect(toy.path);

    ld_raw_send(fd, head, sizeof(head) - 1);
    ld_raw_send(fd, body, 3000000);
    cr_assert_eq(shutdown(fd, SHUT_WR), 0);
    answer = ld_raw_read(fd, 60);
    cr_expect_eq(strncmp(answer, "HTTP/1.1 200", 12), 0, "%.300s", answer);
    close(fd);
}

TOY_TEST(refuse_the_17th_upload)
{
    enum { N = LD_MAX_UPLOADS };
    static const char head[] =
        "PUT /v1/upload HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nbody";
    int fds[N];

    for (int i = 0; i < N; i++) {
        fds[i] = ld_raw_connect(toy.path);
        ld_raw_send(fds[i], head, sizeof(head) - 1);
    }
    ld_toy_await(&toy, &toy.started, N);
    expect_error(upload("/v1/upload", 100, false), 503, "unavailable");
    cr_expect_str_eq(ld_client_header(client, "Retry-After"), "1");
    for (int i = 0; i < N; i++)
        close(fds[i]);
    ld_toy_await(&toy, &toy.cancelled, N);
    ld_toy_await_quiet(&toy, 0); /* an answer before the body ends its connection */
    cr_expect_eq(upload("/v1/upload", 100, false)->status, 200);
}

/* ---- downloads ---- */

TOY_TEST(give_downloads_whole)
{
    autoclose int fd = open("out", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    const struct ld_reply *reply;
    struct timespec began, ended;

    cr_expect_eq(get("/v1/download?bytes=0")->status, 200);
    reply = get("/v1/download?bytes=10000001&header=x");
    cr_expect_eq(reply->status, 200);
    cr_expect_eq(reply->len, 10000001);
    cr_expect_str_eq(ld_client_header(client, "X-Toy"), "x");
    cr_expect_null(ld_client_header(client, "Content-Length"));
    reply = get("/v1/download?bytes=10000001&length");
    cr_expect_eq(reply->len, 10000001);
    cr_expect_str_eq(ld_client_header(client, "Content-Length"), "10000001");

    clock_gettime(CLOCK_MONOTONIC, &began);
    (void)call(&(struct ld_call){
        .method = "GET", .target = "/v1/download?bytes=268435456", .to_fd = fd, .seconds = 240});
    clock_gettime(CLOCK_MONOTONIC, &ended);
    cr_expect_eq(lseek(fd, 0, SEEK_END), 1 << 28);
    cr_log_info("256 MiB in %.2f s", (double)(ended.tv_sec - began.tv_sec) +
                                         (double)(ended.tv_nsec - began.tv_nsec) / 1e9);
    cr_expect_eq(ld_toy_stats(&toy).connections, 1);
}

TOY_TEST(answer_head_without_producing)
{
    const struct ld_reply *reply =
        call(&(struct ld_call){.method = "HEAD", .target = "/v1/download?bytes=100"});

    cr_expect_eq(reply->status, 200);
    cr_expect_str_eq(ld_client_header(client, "Content-Type"), "application/octet-stream");
    cr_expect_null(ld_client_header(client, "Content-Length"));
    cr_expect_eq(toy.started, 0);
    cr_expect_eq(get("/v1/hello")->status, 200);
}

TOY_TEST(answer_an_error_in_the_first_bytes_and_cut_after_them)
{
    struct ld_call cut = {
        .method = "GET", .target = "/v1/download?bytes=9000000&fail_at=5000000", .unchecked = true};

    expect_error(get("/v1/download?bytes=100&fail_at=0"), 500, "corrupt");
    expect_error(get("/v1/download?bytes=900000&fail_at=60000"), 500, "corrupt");
    cr_expect_null(ld_client_call(client, &cut), "the body is not whole");
    ld_client_hang_up(client);
    cr_expect_eq(get("/v1/hello")->status, 200);
    ld_toy_await_quiet(&toy, 1);
}

TOY_TEST(refuse_the_65th_download)
{
    enum { N = LD_MAX_DOWNLOADS };
    static const char head[] = "GET /v1/download?bytes=90000000 HTTP/1.1\r\nHost: x\r\n\r\n";
    int fds[N];

    for (int i = 0; i < N; i++) {
        fds[i] = ld_raw_connect(toy.path);
        ld_raw_send(fds[i], head, sizeof(head) - 1);
    }
    ld_toy_await(&toy, &toy.started, N);
    expect_error(get("/v1/download?bytes=1"), 503, "unavailable");
    cr_expect_eq(upload("/v1/upload", 100, false)->status, 200, "uploads still find a worker");
    for (int i = 0; i < N; i++)
        close(fds[i]);
    ld_toy_await(&toy, &toy.cancelled, N);
    ld_toy_await_quiet(&toy, 1);
}

/* ---- clients that vanish ---- */

static int begin(const char *head)
{
    int fd = ld_raw_connect(toy.path);

    ld_raw_send(fd, head, strlen(head));
    return fd;
}

TOY_TEST(forget_a_client_that_leaves_within_the_head)
{
    close(begin("GET /v1/hello HTTP/1.1\r\nHo"));
    close(begin("POST /v1/echo HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                "Content-Length: 100\r\n\r\n{"));
    close(begin("POST /v1/nothing HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{"));
    ld_toy_await_quiet(&toy, 0);
}

TOY_TEST(cancel_the_upload_of_a_client_that_leaves)
{
    int fd = begin("PUT /v1/upload HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nbody");

    ld_toy_await(&toy, &toy.started, 1);
    close(fd);
    ld_toy_await(&toy, &toy.cancelled, 1);
    ld_toy_await_quiet(&toy, 0);
}

TOY_TEST(cancel_the_upload_of_a_client_that_leaves_while_it_waits_for_room)
{
    int fd = begin("PUT /v1/upload?slow_us=1000000 HTTP/1.1\r\nHost: x\r\n"
                   "Content-Length: 90000000\r\n\r\n");
    autofree char *body = ld_alloc0(1 << 20);

    ld_raw_send(fd, body, 1 << 20); /* the ring */
    ld_raw_send(fd, body, 200000);
    ld_toy_await(&toy, &toy.started, 1);
    close(fd);
    ld_toy_await(&toy, &toy.cancelled, 1);
    ld_toy_await_quiet(&toy, 0);
}

TOY_TEST(finish_a_state_change_whose_client_leaves)
{
    int fd = begin("POST /v1/work HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n");

    ld_toy_await(&toy, &toy.started, 1);
    close(fd);
    cr_expect_eq(get("/v1/hello")->status, 200);
    cr_expect_eq(toy.cancelled, 0);
    ld_toy_open(&toy);
    ld_toy_await(&toy, &toy.finished, 1);
    ld_toy_await_quiet(&toy, 1);
}

TOY_TEST(cancel_what_is_tied_to_its_client)
{
    int fd = begin("POST /v1/work?tied HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n");

    ld_toy_await(&toy, &toy.started, 1);
    close(fd);
    ld_toy_await(&toy, &toy.cancelled, 1);
    ld_toy_await_quiet(&toy, 0);
}

TOY_TEST(cancel_the_download_of_a_client_that_leaves)
{
    int fd = begin("GET /v1/download?bytes=9000000000 HTTP/1.1\r\nHost: x\r\n\r\n");
    char some[1000];

    ld_toy_await(&toy, &toy.started, 1);
    cr_assert_gt(read(fd, some, sizeof(some)), 0);
    close(fd);
    ld_toy_await(&toy, &toy.cancelled, 1);
    ld_toy_await_quiet(&toy, 0);
}

TOY_TEST(finish_a_verb_whose_client_leaves)
{
    int fd = begin("POST /v1/verb?wait HTTP/1.1\r\nHost: x\r\nAccept: application/x-ndjson\r\n"
                   "Content-Length: 0\r\n\r\n");
    char some[1000];

    cr_assert_gt(read(fd, some, sizeof(some)), 0);
    close(fd);
    ld_toy_await_quiet(&toy, 0);
    ld_toy_open(&toy);
    ld_toy_await(&toy, &toy.finished, 1);
}

/* ---- feeds ---- */

TOY_TEST(feed_lines_to_a_follower)
{
    int fd = begin("GET /v1/feed HTTP/1.1\r\nHost: x\r\n\r\n");
    char seen[4000] = "";
    size_t n = 0;

    ld_toy_await(&toy, &toy.started, 1);
    ld_toy_feed(&toy, "{\"line\":1}\n", 1);
    while (!strstr(seen, "{\"line\":1}")) {
        ssize_t got = read(fd, seen + n, sizeof(seen) - 1 - n);

        cr_assert_gt(got, 0);
        n += (size_t)got;
    }
    ld_toy_feed(&toy, "{\"line\":2}\n", 1);
    while (!strstr(seen, "{\"line\":2}")) {
        ssize_t got = read(fd, seen + n, sizeof(seen) - 1 - n);

        cr_assert_gt(got, 0);
        n += (size_t)got;
    }
    cr_expect_eq(strncmp(seen, "HTTP/1.1 200", 12), 0);
    close(fd);
    ld_toy_await(&toy, &toy.feeds_ended, 1);
    ld_toy_await_quiet(&toy, 0);
}

TOY_TEST(end_the_feed_of_a_follower_that_is_too_slow)
{
    autofree char *line = ld_alloc0(1001);
    int fd = begin("GET /v1/feed HTTP/1.1\r\nHost: x\r\n\r\n");

    memset(line, 'x', 1000);
    ld_toy_await(&toy, &toy.started, 1);
    for (int i = 0; i < 20; i++)
        ld_toy_feed(&toy, line, 1000);
    /* libmicrohttpd notices when the socket takes bytes again, or is closed. */
    free(ld_raw_read(fd, 10));
    ld_toy_await(&toy, &toy.feeds_ended, 1);
    close(fd);
    ld_toy_await_quiet(&toy, 0);
}

/* ---- long verbs ---- */

static const struct ld_reply *verb(const char *target, const char *header)
{
    const char *const headers[] = {header, NULL};

    return call(&(struct ld_call){.method = "POST", .target = target, .headers = headers});
}

static const char ndjson[] = "Accept: application/x-ndjson";

TOY_TEST(answer_a_verb_plainly)
{
    const struct ld_reply *reply = verb("/v1/verb", NULL);

    cr_expect_eq(reply->status, 201);
    cr_expect_eq(ld_int(reply->json, "bytes"), 0);
    cr_expect_str_eq(ld_client_header(client, "Location"), "/v1/thing");
    expect_error(verb("/v1/verb?fail=late", NULL), 500, "corrupt");
}

/* The second of the three is one too many, but for a worker that was not run for a while. */
TOY_TEST(show_the_progress_of_a_verb)
{
    static const char first[] =
        "{\"progress\":{\"id\":null,\"phase\":\"count\",\"current\":1,\"total\":3}}\n";
    static const char late[] =
        "{\"progress\":{\"id\":null,\"phase\":\"count\",\"current\":2,\"total\":3}}\n";
    const struct ld_reply *reply = verb("/v1/verb", ndjson);
    const char *rest = reply->body;

    cr_expect_eq(reply->status, 200);
    cr_expect_str_eq(ld_client_header(client, "Content-Type"), "application/x-ndjson");
    cr_assert_eq(strncmp(rest, first, strlen(first)), 0, "%s", rest);
    rest += strlen(first);
    if (strncmp(rest, late, strlen(late)) == 0)
        rest += strlen(late);
    cr_expect_str_eq(rest,
                     "{\"progress\":{\"id\":null,\"phase\":\"end\",\"current\":3,\"total\":3}}\n"
                     "{\"result\":{\"bytes\":0}}\n");
}

TOY_TEST(end_a_verb_with_one_error_line)
{
    const struct ld_reply *reply;
    const char *last;

    expect_error(verb("/v1/verb?fail=early", ndjson), 422, "bad_content");
    /* The first line is on its way before the failure, or not: both ends are right. */
    reply = verb("/v1/verb?fail=late", ndjson);
    if (reply->status == 200) {
        last = strstr(reply->body, "{\"error\":{\"code\":\"corrupt\"");
        cr_assert_not_null(last, "%s", reply->body);
        cr_expect_null(strstr(last + 1, "{\"error\""));
        cr_expect_null(strstr(reply->body, "{\"result\""));
    } else {
        expect_error(reply, 500, "corrupt");
    }
}

TOY_TEST(show_the_progress_of_an_import_after_its_body)
{
    const char *const headers[] = {ndjson, NULL};
    autoclose int fd = zeros(5000000);
    const struct ld_reply *reply = call(&(struct ld_call){
        .method = "PUT", .target = "/v1/import", .body_fd = fd, .headers = headers});

    cr_expect_eq(reply->status, 200);
    cr_expect_not_null(strstr(reply->body, "{\"progress\":"));
    cr_expect_not_null(strstr(reply->body, "{\"result\":{\"bytes\":5000000}}\n"));
}

TOY_TEST(detach_a_verb_when_asked_to)
{
    const struct ld_reply *reply = verb("/v1/verb?wait&job=1", "Prefer: respond-async");

    cr_expect_eq(reply->status, 202);
    cr_expect_str_eq(ld_client_header(client, "Location"), "/v1/jobs/1234");
    ld_toy_open(&toy);
    ld_toy_await(&toy, &toy.finished, 1);
}

/* ---- the drain ---- */

LD_TEST(server_streams, drain_ends_feeds_and_streams_and_waits_for_work)
{
    char some[1000];
    int feed, download, work;
    size_t fds = ld_test_count_fds();

    ld_toy_start(&toy, 0);
    feed = begin("GET /v1/feed HTTP/1.1\r\nHost: x\r\n\r\n");
    download = begin("GET /v1/download?bytes=9000000000 HTTP/1.1\r\nHost: x\r\n\r\n");
    work = begin("POST /v1/work HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n");
    ld_toy_await(&toy, &toy.started, 3);
    cr_assert_gt(read(download, some, sizeof(some)), 0);
    ld_toy_begin_end(&toy);
    ld_toy_await(&toy, &toy.feeds_ended, 1);
    ld_toy_await(&toy, &toy.cancelled, 1);
    close(download); /* its client must not be waited for: it never reads */
    ld_toy_open(&toy);
    cr_assert_gt(read(work, some, sizeof(some)), 0);
    cr_expect_eq(strncmp(some, "HTTP/1.1 201", 12), 0, "work in hand is finished");
    pthread_join(toy.thread, NULL);
    close(feed);
    close(work);
    cr_expect_leq(ld_test_count_fds(), fds + 2, "libuv keeps a pair of its own");
}

LD_TEST(server_streams, clients_that_do_not_read_are_cut_off_at_the_end)
{
    int download, feed, idle, head, upload_fd;

    ld_toy_start(&toy, 0);
    feed = begin("GET /v1/feed HTTP/1.1\r\nHost: x\r\n\r\n");
    download = begin("GET /v1/download?bytes=9000000000 HTTP/1.1\r\nHost: x\r\n\r\n");
    upload_fd = begin("PUT /v1/upload HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nbody");
    idle = ld_raw_connect(toy.path);
    head = begin("GET /v1/hel");
    ld_toy_await(&toy, &toy.started, 3);
    ld_toy_end_impatiently(&toy); /* asserts that no request and no connection is left */
    cr_expect_eq(toy.feeds_ended, 1);
    cr_expect_eq(toy.cancelled, 2);
    close(feed);
    close(download);
    close(upload_fd);
    close(idle);
    close(head);
}
