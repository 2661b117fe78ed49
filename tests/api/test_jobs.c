/* Jobs: waiting for them, cancelling them, what a stop and a restart make of them; the progress of
 * an import. What they keep of an import's outcome is in test_import.c. */
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cjson/cJSON.h>

#include "daemon/base/clock.h"
#include "daemon/base/fdio.h"
#include "daemon/base/mem.h"
#include "tests/lib/api.h"
#include "tests/lib/store.h"

/* An import whose client holds back the second half of the body. */
struct stalled {
    struct ld_client *client;
    struct ld_blob archive;
    int fd;
    struct ld_text id;
};

static bool it_runs(void *arg)
{
    struct stalled *s = arg;
    cJSON *json = ld_want(s->client, 200, "GET", NULL, "/v1/jobs?filter=state=running");

    if (ld_count(json, "items") == 0 || ld_is_null(json, "items.0.progress"))
        return false;
    s->id = ld_textf("%s", ld_str(json, "items.0.id"));
    return true;
}

/* Takes the archive. */
static struct stalled stall_with(const struct ld_daemon *d, struct ld_blob archive)
{
    struct stalled s = {.client = d->client, .archive = archive, .fd = ld_raw_connect(d->socket)};
    autofree char *head = ld_asprintf("POST /v1/images/import HTTP/1.1\r\nHost: x\r\n"
                                      "Connection: close\r\nContent-Length: %zu\r\n\r\n",
                                      s.archive.len);

    ld_raw_send(s.fd, head, strlen(head));
    ld_raw_send(s.fd, s.archive.data, s.archive.len / 2);
    cr_assert(ld_test_wait(it_runs, &s, 30));
    return s;
}

static struct stalled stall(const struct ld_daemon *d)
{
    return stall_with(d, ld_make_base());
}

static void send_rest(const struct stalled *s)
{
    size_t half = s->archive.len / 2;

    ld_raw_send(s->fd, s->archive.data + half, s->archive.len - half);
}

static void stalled_done(struct stalled *s)
{
    ld_close(s->fd);
    ld_blob_done(&s->archive);
}

static void expect_state(struct ld_client *c, const char *id, const char *state)
{
    cJSON *json = ld_want(c, 200, "GET", NULL, "/v1/jobs/%s?wait=20s", id);

    cr_expect_str_eq(ld_str(json, "state"), state);
    cr_expect(ld_is_null(json, "progress"));
    cr_expect_not(ld_is_null(json, "finished_at"));
}

LD_API_TEST(jobs, tell_what_they_do)
{
    struct stalled s = stall(d);
    autofree char *reply = NULL;
    cJSON *json;

    json = ld_want(c, 200, "GET", NULL, "/v1/jobs/%.4s", s.id.s);
    cr_expect_str_eq(ld_str(json, "state"), "running");
    cr_expect_not(ld_bool(json, "cancel_requested"));
    cr_expect_str_eq(ld_str(json, "progress.phase"), "spool");
    cr_expect_eq(ld_int(json, "progress.total"), (int64_t)s.archive.len);
    cr_expect(ld_is_null(json, "object"));
    cr_expect(ld_is_null(json, "finished_at"));
    json = ld_want(c, 200, "GET", NULL, "/v1/info");
    cr_expect_eq(ld_int(json, "counts.jobs_running"), 1);
    send_rest(&s);
    reply = ld_raw_read(s.fd, 20);
    cr_expect(strncmp(reply, "HTTP/1.1 200", 12) == 0, "%.300s", reply);
    expect_state(c, s.id.s, "done");
    json = ld_want(c, 200, "GET", NULL, "/v1/jobs/%s", s.id.s);
    cr_expect_str_eq(ld_str(json, "object.kind"), "image");
    cr_expect_str_eq(ld_str(json, "object.name"), "base:latest");
    cr_expect_str_eq(ld_str(json, "object.id"), ld_str(json, "result.images.0.id"));
    stalled_done(&s);
}

/* ---- waiting ---- */

enum { WAITERS = 40 };

struct waiter {
    struct ld_client *client;
    pthread_t thread;
    struct ld_text target;
    char state[16];
    uint64_t took_ms;
};

static void *wait_for_it(void *arg)
{
    struct waiter *w = arg;
    uint64_t began = ld_monotonic_ms();
    const struct ld_reply *reply =
        ld_client_call(w->client, &(struct ld_call){.method = "GET", .target = w->target.s});

    if (reply && reply->status == 200)
        (void)snprintf(w->state, sizeof(w->state), "%s", ld_str(reply->json, "state"));
    w->took_ms = ld_monotonic_ms() - began;
    return NULL;
}

static void begin_to_wait(struct waiter *w, const struct ld_daemon *d, const char *id,
                          const char *wait)
{
    w->client = ld_client_new(d->socket);
    w->target = ld_textf("/v1/jobs/%s?wait=%s", id, wait);
    cr_assert_eq(pthread_create(&w->thread, NULL, wait_for_it, w), 0);
}

static void end_to_wait(struct waiter *w)
{
    cr_assert_eq(pthread_join(w->thread, NULL), 0);
    ld_client_free(w->client);
}

/* Far more of them than there are workers. */
LD_API_TEST(jobs, are_waited_for_without_holding_workers)
{
    static struct waiter waiters[WAITERS];
    struct stalled s = stall(d);

    for (size_t i = 0; i < WAITERS; i++)
        begin_to_wait(&waiters[i], d, s.id.s, "10m");
    for (int i = 0; i < 50; i++)
        (void)ld_want(c, 200, "GET", NULL, "/v1/images");
    (void)ld_want(c, 201, "POST", "{'name':'meanwhile'}", "/v1/volumes");
    send_rest(&s);
    for (size_t i = 0; i < WAITERS; i++) {
        end_to_wait(&waiters[i]);
        cr_expect_str_eq(waiters[i].state, "done");
        cr_expect_lt(waiters[i].took_ms, 100000);
    }
    stalled_done(&s);
}

LD_API_TEST(jobs, are_waited_for_as_long_as_asked)
{
    static const struct {
        const char *wait;
        uint64_t ms;
    } rows[] = {{"0s", 0}, {"1ms", 1}, {"300ms", 300}, {"1s", 1000}, {"1300ms", 1300}};
    static const char *const bad[] = {"1", "1h", "11m", "-1s", "1.5s", "s", "", "601s"};
    struct stalled s = stall(d);

    for (size_t i = 0; i < LD_ARRAY_LEN(rows); i++) {
        uint64_t began = ld_monotonic_ms(), took;
        cJSON *json = ld_want(c, 200, "GET", NULL, "/v1/jobs/%s?wait=%s", s.id.s, rows[i].wait);

        took = ld_monotonic_ms() - began;
        cr_expect_str_eq(ld_str(json, "state"), "running");
        cr_expect(took >= rows[i].ms && took < rows[i].ms + 60000, "%s took %d ms", rows[i].wait,
                  (int)took);
    }
    for (size_t i = 0; i < LD_ARRAY_LEN(bad); i++)
        (void)ld_want_error(c, "invalid", "GET", NULL, "/v1/jobs/%s?wait=%s", s.id.s, bad[i]);
    stalled_done(&s);
}

LD_API_TEST(jobs, may_be_left_by_who_waits)
{
    struct stalled s = stall(d);
    autofree char *head =
        ld_asprintf("GET /v1/jobs/%s?wait=10m HTTP/1.1\r\nHost: x\r\n\r\n", s.id.s);

    for (int i = 0; i < 50; i++) {
        int fd = ld_raw_connect(d->socket);

        ld_raw_send(fd, head, strlen(head));
        if (i % 2 == 0) /* some before the daemon has read it, some later */
            (void)ld_want(c, 200, "GET", NULL, "/v1");
        ld_close(fd);
    }
    send_rest(&s);
    expect_state(c, s.id.s, "done");
    stalled_done(&s);
}

/* ---- cancelling ---- */

/* The operation waits for bytes that never come. */
LD_API_TEST(jobs, are_cancelled_while_their_client_is_silent)
{
    struct stalled s = stall(d);
    struct waiter waiter;
    cJSON *json;

    begin_to_wait(&waiter, d, s.id.s, "10m");
    json = ld_want(c, 200, "DELETE", NULL, "/v1/jobs/%s", s.id.s);
    cr_expect(ld_bool(json, "cancel_requested"));
    end_to_wait(&waiter);
    cr_expect_str_eq(waiter.state, "canceled");
    cr_expect_lt(waiter.took_ms, 60000);
    json = ld_want(c, 200, "GET", NULL, "/v1/jobs/%s", s.id.s);
    cr_expect_str_eq(ld_str(json, "error.code"), "canceled");
    cr_expect(ld_bool(json, "cancel_requested"));
    (void)ld_want_error(c, "conflict", "DELETE", NULL, "/v1/jobs/%s", s.id.s);
    cr_expect_eq(ld_count(ld_want(c, 200, "GET", NULL, "/v1/images"), "items"), 0);
    stalled_done(&s);
}

struct piper {
    struct ld_client *client;
    pthread_t thread;
    int from;
    int status;
    char last[4096]; /* line of what came, NUL added */
    bool has_job;
};

static void *import_from_pipe(void *arg)
{
    static const char *const as_ndjson[] = {"Accept: application/x-ndjson", NULL};
    struct piper *p = arg;
    const struct ld_reply *reply =
        ld_client_call(p->client, &(struct ld_call){.method = "POST",
                                                    .target = "/v1/images/import",
                                                    .body_fd = p->from,
                                                    .chunked = true,
                                                    .headers = as_ndjson});

    if (reply) {
        size_t end =
            reply->len > 0 && reply->body[reply->len - 1] == '\n' ? reply->len - 1 : reply->len;
        const char *newline = memrchr(reply->body, '\n', end);
        const char *line = newline ? newline + 1 : reply->body;

        p->status = reply->status;
        (void)snprintf(p->last, sizeof(p->last), "%.*s", (int)(reply->body + end - line), line);
    }
    p->has_job = ld_client_header(p->client, "X-Layerd-Job") != NULL;
    return NULL;
}

/* Whether the stream's head is still open is a race with its first line of progress: then the
 * status says it, else the last line. Never silence. */
LD_API_TEST(jobs, that_are_cancelled_say_so_to_their_client)
{
    struct ld_blob base = ld_make_base();
    struct stalled s = {.client = c, .fd = -EBADF};
    struct piper p = {.client = ld_client_new(d->socket)};
    int ends[2];
    cJSON *last;

    cr_assert_eq(pipe2(ends, O_CLOEXEC), 0);
    p.from = ends[0];
    cr_assert_eq(pthread_create(&p.thread, NULL, import_from_pipe, &p), 0);
    cr_assert_eq(write(ends[1], base.data, 8192), 8192);
    cr_assert(ld_test_wait(it_runs, &s, 30));
    (void)ld_want(c, 200, "DELETE", NULL, "/v1/jobs/%s", s.id.s);
    ld_close(ends[1]);
    cr_assert_eq(pthread_join(p.thread, NULL), 0);
    cr_assert(p.status == 200 || p.status == 503, "status %d: %s", p.status, p.last);
    cr_expect_eq(p.has_job, p.status == 200);
    last = cJSON_Parse(p.last);
    cr_expect_str_eq(ld_str(last, "error.code"), "canceled", "%s", p.last);
    cJSON_Delete(last);
    expect_state(c, s.id.s, "canceled");
    ld_client_free(p.client);
    ld_close(ends[0]);
    ld_blob_done(&base);
}

/* Whichever comes first, job and images agree; a second request to cancel is no error while it
 * runs. */
LD_API_TEST(jobs, are_cancelled_at_any_time_or_not_at_all)
{
    static const struct timespec tick = {.tv_nsec = 300000};

    for (int i = 0; i < 12; i++) {
        struct stalled s = stall(d);
        autofree char *target = ld_asprintf("/v1/jobs/%s", s.id.s);
        autofree char *reply = NULL;
        cJSON *json;
        bool done;

        send_rest(&s);
        for (int n = 0; n < i * 2; n++)
            (void)nanosleep(&tick, NULL); /* the moment differs; nothing is waited for */
        for (int n = 0; n < 2; n++) {
            int status =
                ld_call(c, &(struct ld_call){.method = "DELETE", .target = target})->status;

            cr_expect(status == 200 || status == 409, "%d", status);
        }
        reply = ld_raw_read(s.fd, 20);
        json = ld_want(c, 200, "GET", NULL, "/v1/jobs/%s?wait=20s", s.id.s);
        done = strcmp(ld_str(json, "state"), "done") == 0;
        cr_expect(done || strcmp(ld_str(json, "state"), "canceled") == 0);
        cr_expect(strncmp(reply, done ? "HTTP/1.1 200" : "HTTP/1.1 503", 12) == 0, "%.300s", reply);
        cr_expect_eq(ld_count(ld_want(c, 200, "GET", NULL, "/v1/images"), "items"), done ? 1 : 0);
        if (done)
            (void)ld_want(c, 204, "DELETE", NULL, "/v1/images/base");
        stalled_done(&s);
    }
}

LD_API_TEST(jobs, whose_client_vanishes_are_cancelled)
{
    struct stalled s = stall(d);

    stalled_done(&s);
    expect_state(c, s.id.s, "canceled");
}

static bool it_is_beyond_the_spool(void *arg)
{
    struct stalled *s = arg;
    cJSON *json = ld_want(s->client, 200, "GET", NULL, "/v1/jobs/%s", s->id.s);

    return ld_is_null(json, "progress") || strcmp(ld_str(json, "progress.phase"), "spool") != 0;
}

LD_API_TEST(jobs, whose_body_is_complete_go_on_without_a_client)
{
    autofree char *zeros = ld_alloc0(64 << 20);
    struct ld_entry entry = {.path = "big", .data = zeros, .len = 64 << 20};
    const char *const refs[] = {"big:latest", NULL};
    struct ld_blob layer = ld_make_tar(&entry, 1);
    struct ld_image_spec spec = {.refs = refs, .layers = &layer, .n_layers = 1};
    struct stalled s = stall_with(d, ld_make_image(&spec, 1));

    send_rest(&s);
    cr_assert(ld_test_wait(it_is_beyond_the_spool, &s, 20));
    stalled_done(&s);
    expect_state(c, s.id.s, "done");
    (void)ld_want(c, 200, "GET", NULL, "/v1/images/big");
    ld_blob_done(&layer);
}

/* ---- the daemon's end ---- */

LD_TEST(jobs, cut_off_by_a_stop_are_interrupted_and_who_waits_is_answered)
{
    static const char *const args[] = {"--config", "/mnt/layerd.conf", NULL};
    struct ld_daemon *d;
    struct stalled s;
    struct ld_text request;
    autofree char *reply = NULL;
    cJSON *json;
    int fd;

    ld_test_sh("printf '[daemon]\\ndrain_timeout = 1s\\n' > /mnt/layerd.conf");
    d = ld_daemon_start("data", args);
    s = stall(d);
    request = ld_textf("GET /v1/jobs/%s?wait=10m HTTP/1.1\r\nHost: x\r\n\r\n", s.id.s);
    fd = ld_raw_connect(d->socket);
    ld_raw_send(fd, request.s, strlen(request.s));
    for (int i = 0; i < 5; i++) /* sent earlier, it has been read once these are answered */
        (void)ld_want(d->client, 200, "GET", NULL, "/v1");
    ld_daemon_stop(d);
    reply = ld_raw_read(fd, 60);
    ld_close(fd);
    cr_expect(strncmp(reply, "HTTP/1.1 200", 12) == 0 && strstr(reply, "\"running\""), "%s", reply);
    ld_daemon_again(d);
    json = ld_want(d->client, 200, "GET", NULL, "/v1/jobs/%s?wait=10m", s.id.s);
    cr_expect_str_eq(ld_str(json, "state"), "interrupted");
    cr_expect_str_eq(ld_str(json, "error.code"), "unavailable");
    cr_expect_not(ld_bool(json, "cancel_requested"));
    (void)ld_want_error(d->client, "conflict", "DELETE", NULL, "/v1/jobs/%s", s.id.s);
    stalled_done(&s);
    ld_api_finish(d);
}

LD_API_TEST(jobs, are_found_by_a_unique_prefix)
{
    static const char *const ids[] = {
        "abcd000000000000000000000000000000000000000000000000000000000001",
        "abcd000000000000000000000000000000000000000000000000000000000002",
        "abce000000000000000000000000000000000000000000000000000000000003"};
    autofree char *kind = ld_strdup("image.import");
    struct ld_err err = LD_ERR_INIT;
    struct ld_store *store;
    int dir;

    ld_daemon_stop(d);
    dir = open(d->data_root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    store = ld_test_store(dir);
    for (size_t i = 0; i < LD_ARRAY_LEN(ids); i++) {
        autofree char *id = ld_strdup(ids[i]);
        struct ld_job_record job = {.id = id, .kind = kind};

        ld_test_ok(ld_store_job_add(store, &(struct ld_write){.uid = 7}, &job, &err), &err);
    }
    ld_store_close(store);
    ld_close(dir);
    ld_daemon_again(d);
    cr_expect_str_eq(ld_str(ld_want(c, 200, "GET", NULL, "/v1/jobs/abce"), "id"), ids[2]);
    cr_expect_str_eq(ld_str(ld_want(c, 200, "GET", NULL, "/v1/jobs/%s", ids[0]), "id"), ids[0]);
    cr_expect_eq(
        ld_count(ld_want_error(c, "conflict", "GET", NULL, "/v1/jobs/abcd"), "details.candidates"),
        2);
    (void)ld_want_error(c, "conflict", "DELETE", NULL, "/v1/jobs/abcd00");
    (void)ld_want_error(c, "not_found", "GET", NULL, "/v1/jobs/abc");
    (void)ld_want_error(c, "not_found", "GET", NULL, "/v1/jobs/%s0", ids[0]);
    (void)ld_want_error(c, "invalid", "GET", NULL, "/v1/jobs?filter=state=dead");
    cr_expect_eq(
        ld_count(ld_want(c, 200, "GET", NULL, "/v1/jobs?filter=state=interrupted"), "items"), 3);
    cr_expect_eq(ld_count(ld_want(c, 200, "GET", NULL, "/v1/jobs?filter=kind=other"), "items"), 0);
}
