/* "Prefer: respond-async": the answer comes when nothing more is needed of the client, and the job
 * has the rest. */
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <cjson/cJSON.h>

#include "daemon/base/fdio.h"
#include "daemon/base/mem.h"
#include "tests/lib/api.h"

static const char *const async[] = {"Prefer: respond-async", NULL};

static const struct ld_reply *begin(struct ld_client *c, const struct ld_blob *archive,
                                    const char *query)
{
    autofree char *target = ld_asprintf("/v1/images/import%s", query);

    return ld_call(c, &(struct ld_call){.method = "POST",
                                        .target = target,
                                        .body = archive->data,
                                        .body_len = archive->len,
                                        .headers = async});
}

/* Begins an import; its job. */
static struct ld_text begin_job(struct ld_client *c, const struct ld_blob *archive)
{
    const struct ld_reply *reply = begin(c, archive, "");
    struct ld_text job, location;

    cr_assert_eq(reply->status, 202, "%.300s", reply->body);
    job = ld_textf("%s", ld_str(reply->json, "job"));
    location = ld_textf("/v1/jobs/%s", job.s);
    cr_expect_str_eq(ld_client_header(c, "Location"), location.s);
    cr_expect_str_eq(ld_client_header(c, "X-Layerd-Job"), job.s);
    cr_expect_str_eq(ld_client_header(c, "Preference-Applied"), "respond-async");
    return job;
}

static cJSON *outcome(struct ld_client *c, const char *job, const char *state)
{
    cJSON *json = ld_want(c, 200, "GET", NULL, "/v1/jobs/%s?wait=60s", job);

    cr_expect_str_eq(ld_str(json, "state"), state);
    return json;
}

/* An image whose only layer is that large: it takes a while. */
static struct ld_blob make_large(size_t mib)
{
    autofree char *data = ld_alloc0(mib << 20);
    struct ld_entry entry = {.path = "big", .data = data, .len = mib << 20};
    const char *const refs[] = {"big:latest", NULL};
    struct ld_blob layer = ld_make_tar(&entry, 1);
    struct ld_image_spec spec = {.refs = refs, .layers = &layer, .n_layers = 1};
    struct ld_blob image = ld_make_image(&spec, 1);

    ld_blob_done(&layer);
    return image;
}

LD_API_TEST(async, the_job_has_what_the_answer_would_have_had)
{
    struct ld_blob base = ld_make_base();
    struct ld_text job = begin_job(c, &base);
    cJSON *json = outcome(c, job.s, "done");
    autofree char *result = cJSON_PrintUnformatted(ld_at(json, "result.images"));
    autofree char *plain = NULL;

    cr_expect_eq(ld_int(json, "result.layers.added"), 2);
    cr_expect(ld_is_null(json, "error"));
    cr_expect_str_eq(ld_str(json, "object.name"), "base:latest");
    cr_expect_not(ld_bool(json, "cancel_requested"));
    plain = cJSON_PrintUnformatted(ld_at(ld_import(c, &base, ""), "images"));
    cr_expect_str_eq(result, plain);
    ld_blob_done(&base);
}

LD_API_TEST(async, what_fails_later_is_told_by_the_job)
{
    struct ld_blob base = ld_make_base();
    struct ld_blob bad = {.data = ld_strdup("this is no archive"), .len = 18};
    struct ld_text job = begin_job(c, &bad);
    cJSON *json = outcome(c, job.s, "failed");

    cr_expect_str_eq(ld_str(json, "error.code"), "bad_content");
    cr_expect(ld_is_null(json, "result"));
    cr_expect_neq(ld_str(json, "error.request_id")[0], '\0');
    /* What is known at once is said at once. */
    cr_expect_eq(begin(c, &base, "?format=zip")->status, 400);
    cr_expect_eq(begin(c, &base, "?ref=UPPER")->status, 400);
    cr_expect_eq(ld_count(ld_want(c, 200, "GET", NULL, "/v1/jobs"), "items"), 1);
    ld_blob_done(&base);
    ld_blob_done(&bad);
}

static bool something_came(int fd)
{
    char byte;

    return recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) > 0;
}

static bool all_is_spooled_but_the_end(void *arg)
{
    cJSON *json = ld_want(arg, 200, "GET", NULL, "/v1/jobs?filter=state=running");

    return ld_count(json, "items") == 1 && !ld_is_null(json, "items.0.progress") &&
           ld_int(json, "items.0.progress.current") == ld_int(json, "items.0.progress.total") - 1;
}

/* As raw bytes, to hold back the last one of them. */
static int send_but_one(struct ld_daemon *d, const struct ld_blob *archive)
{
    int fd = ld_raw_connect(d->socket);
    autofree char *head =
        ld_asprintf("POST /v1/images/import HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
                    "Prefer: respond-async\r\nContent-Length: %zu\r\n\r\n",
                    archive->len);

    ld_raw_send(fd, head, strlen(head));
    ld_raw_send(fd, archive->data, archive->len - 1);
    cr_assert(ld_test_wait(all_is_spooled_but_the_end, d->client, 20));
    return fd;
}

LD_API_TEST(async, the_answer_waits_for_the_whole_body_and_no_longer)
{
    struct ld_blob large = make_large(64);
    int fd = send_but_one(d, &large);
    autofree char *reply = NULL;
    const char *job;
    struct ld_text id;

    cr_expect_not(something_came(fd));
    ld_raw_send(fd, large.data + large.len - 1, 1);
    reply = ld_raw_read(fd, 30);
    cr_assert_eq(strncmp(reply, "HTTP/1.1 202", 12), 0, "%.300s", reply);
    job = strstr(reply, "{\"job\":\"");
    cr_assert_not_null(job);
    id = ld_textf("%.64s", job + 8);
    ld_close(fd);
    (void)outcome(c, id.s, "done");
    (void)ld_want(c, 200, "GET", NULL, "/v1/images/big");
    ld_blob_done(&large);
}

LD_API_TEST(async, a_client_that_leaves_before_that_cancels_it)
{
    struct ld_blob base = ld_make_base();
    int fd = send_but_one(d, &base);
    struct ld_text id =
        ld_textf("%s", ld_str(ld_want(c, 200, "GET", NULL, "/v1/jobs"), "items.0.id"));

    ld_close(fd);
    (void)outcome(c, id.s, "canceled");
    cr_expect_eq(ld_count(ld_want(c, 200, "GET", NULL, "/v1/images"), "items"), 0);
    ld_blob_done(&base);
}

LD_API_TEST(async, a_client_that_leaves_after_that_cancels_nothing)
{
    struct ld_blob large = make_large(64);
    struct ld_text job = begin_job(c, &large);

    ld_client_hang_up(c);
    (void)outcome(c, job.s, "done");
    (void)ld_want(c, 200, "GET", NULL, "/v1/images/big");
    ld_blob_done(&large);
}

/* Whatever the moment, job and images agree. */
LD_API_TEST(async, a_job_is_cancelled_at_any_time_or_not_at_all)
{
    static const struct timespec tick = {.tv_nsec = 700000};
    struct ld_blob large = make_large(16);

    for (int i = 0; i < 12; i++) {
        struct ld_text job = begin_job(c, &large);
        struct ld_text target = ld_textf("/v1/jobs/%s", job.s);
        cJSON *json;
        bool done;
        int status;

        for (int n = 0; n < i * 3; n++)
            (void)nanosleep(&tick, NULL); /* the moment differs; nothing is waited for */
        status = ld_call(c, &(struct ld_call){.method = "DELETE", .target = target.s})->status;
        cr_expect(status == 200 || status == 409, "%d", status);
        json = ld_want(c, 200, "GET", NULL, "/v1/jobs/%s?wait=60s", job.s);
        done = strcmp(ld_str(json, "state"), "done") == 0;
        cr_expect(done || status == 200);
        if (!done) {
            cr_expect_str_eq(ld_str(json, "state"), "canceled");
            cr_expect_str_eq(ld_str(json, "error.code"), "canceled");
            cr_expect(ld_bool(json, "cancel_requested"));
        }
        cr_expect_eq(ld_count(ld_want(c, 200, "GET", NULL, "/v1/images"), "items"), done ? 1 : 0);
        if (done)
            (void)ld_want(c, 204, "DELETE", NULL, "/v1/images/big");
    }
    ld_blob_done(&large);
}

/* One that waits for another under the same key is cancelled alone. */
LD_API_TEST(async, a_job_is_cancelled_while_it_waits_for_its_turn)
{
    const char *const keyed[] = {"Prefer: respond-async", "Idempotency-Key: k", NULL};
    struct ld_blob large = make_large(64);
    struct ld_call call = {.method = "POST",
                           .target = "/v1/images/import",
                           .body = large.data,
                           .body_len = large.len,
                           .headers = keyed};
    struct ld_text first = ld_textf("%s", ld_str(ld_call(c, &call)->json, "job"));
    struct ld_text second = ld_textf("%s", ld_str(ld_call(c, &call)->json, "job"));
    struct ld_text target = ld_textf("/v1/jobs/%s", second.s);
    int status = ld_call(c, &(struct ld_call){.method = "DELETE", .target = target.s})->status;
    cJSON *json;

    cr_expect(status == 200 || status == 409, "%d", status);
    (void)outcome(c, first.s, "done");
    json = ld_want(c, 200, "GET", NULL, "/v1/jobs/%s?wait=60s", second.s);
    if (strcmp(ld_str(json, "state"), "done") != 0) {
        cr_expect_str_eq(ld_str(json, "state"), "canceled");
        cr_expect_str_eq(ld_str(json, "error.code"), "canceled");
    }
    cr_expect_eq(ld_count(ld_want(c, 200, "GET", NULL, "/v1/images"), "items"), 1);
    ld_blob_done(&large);
}

/* What was promised by the 202 is there: as done, or as interrupted, which says what to do. */
LD_API_TEST(async, a_job_is_known_after_a_kill_at_any_time)
{
    static const struct timespec tick = {.tv_nsec = 2000000};
    struct ld_blob large = make_large(24);

    for (int i = 0; i < 8; i++) {
        struct ld_text job = begin_job(c, &large);
        cJSON *json;
        const char *state;

        for (int n = 0; n < i * 4; n++)
            (void)nanosleep(&tick, NULL); /* the moment differs; nothing is waited for */
        ld_daemon_kill(d);
        ld_daemon_again(d);
        json = ld_want(c, 200, "GET", NULL, "/v1/jobs/%s?wait=60s", job.s);
        state = ld_str(json, "state");
        cr_expect_not(ld_is_null(json, "finished_at"));
        if (strcmp(state, "done") != 0) {
            cr_expect_str_eq(state, "interrupted");
            cr_expect_str_eq(ld_str(json, "error.code"), "unavailable");
            cr_expect_neq(ld_str(json, "error.hint")[0], '\0');
        } else {
            (void)ld_want(c, 200, "GET", NULL, "/v1/images/big");
        }
        cr_expect_eq(ld_data_count(d, "staging"), 0);
        (void)ld_call(c, &(struct ld_call){.method = "DELETE", .target = "/v1/images/big"});
    }
    ld_blob_done(&large);
}

LD_API_TEST(async, jobs_are_listed_by_state_and_kind)
{
    struct ld_blob base = ld_make_base();
    struct ld_blob bad = {.data = ld_strdup("this is no archive"), .len = 18};
    struct ld_text good = begin_job(c, &base), failed = begin_job(c, &bad);
    cJSON *json;

    (void)outcome(c, good.s, "done");
    (void)outcome(c, failed.s, "failed");
    json = ld_want(c, 200, "GET", NULL, "/v1/jobs?filter=state=failed&filter=kind=image.import");
    cr_assert_eq(ld_count(json, "items"), 1);
    cr_expect_str_eq(ld_str(json, "items.0.id"), failed.s);
    json = ld_want(c, 200, "GET", NULL, "/v1/jobs?filter=kind=image.import&limit=1");
    cr_assert_eq(ld_count(json, "items"), 1);
    cr_expect_str_eq(ld_str(json, "items.0.id"), good.s);
    cr_expect_eq(ld_count(ld_want(c, 200, "GET", NULL, "/v1/jobs?filter=state=running"), "items"),
                 0);
    ld_blob_done(&base);
    ld_blob_done(&bad);
}
