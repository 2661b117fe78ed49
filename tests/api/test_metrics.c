/* GET /v1/metrics: well-formed to the last line, and true. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cjson/cJSON.h>

#include "daemon/base/fdio.h"
#include "daemon/base/mem.h"
#include "tests/lib/api.h"
#include "tests/lib/openmetrics.h"

#define REQUESTS "layerd_http_requests_total{"
#define LATENCY  "layerd_http_request_duration_seconds_count{"

static struct ld_exposition scrape(struct ld_client *c)
{
    const struct ld_reply *reply =
        ld_call(c, &(struct ld_call){.method = "GET", .target = "/v1/metrics"});
    struct ld_exposition x;

    cr_assert_eq(reply->status, 200, "%.500s", reply->body);
    ld_exposition_read(reply->body, &x);
    cr_assert_null(x.problem, "%s", x.problem);
    return x;
}

static double now(struct ld_client *c, const char *series)
{
    struct ld_exposition x LD_AUTO(ld_exposition_done) = scrape(c);

    return ld_exposition_value(&x, series);
}

/* ---- the reader itself ---- */

Test(metrics, the_reader_refuses_what_is_malformed)
{
#define HISTOGRAM "# TYPE h histogram\n"
    static const char *const good[] = {
        "# EOF\n",
        "# TYPE a_bytes counter\n# UNIT a_bytes bytes\n# HELP a_bytes b c.\na_bytes_total 1\n# "
        "EOF\n",
        "# TYPE a gauge\na{x=\"1\",y=\"2\"} 0.5\na{x=\"2\",y=\"2\"} 7\n# EOF\n",
        HISTOGRAM "h_bucket{le=\"1.0\"} 1\nh_bucket{le=\"+Inf\"} 2\nh_count 2\nh_sum 9.5\n# EOF\n",
    };
    static const char *const bad[] = {
        "",
        "# TYPE a gauge\na 1\n",
        "# TYPE a gauge\na 1\n# EOF",
        "# TYPE a gauge\na 1\n# EOF\n\n",
        "# TYPE a gauge\n\na 1\n# EOF\n",
        "a 1\n# EOF\n",
        "# TYPE a gauge\nb 1\n# EOF\n",
        "# TYPE a gauge\na 1\na 2\n# EOF\n",
        "# TYPE a gauge\na 1\n# TYPE a gauge\n# EOF\n",
        "# TYPE a gauge\na 1\n# HELP a late\n# EOF\n",
        "# TYPE a gauge\n# UNIT a bytes\na 1\n# EOF\n",
        "# TYPE a counter\na 1\n# EOF\n",
        "# TYPE a_total counter\na_total 1\n# EOF\n",
        "# TYPE a gauge\na_total 1\n# EOF\n",
        "# TYPE a number\na 1\n# EOF\n",
        "# TYPE a gauge\na -1\n# EOF\n",
        "# TYPE a gauge\na  1\n# EOF\n",
        "# TYPE a gauge\na 1 \n# EOF\n",
        "# TYPE a gauge\na nan\n# EOF\n",
        "# TYPE a gauge\na{} 1\n# EOF\n",
        "# TYPE a gauge\na{x=\"1\",} 1\n# EOF\n",
        "# TYPE a gauge\na{x=\"1\",x=\"2\"} 1\n# EOF\n",
        "# TYPE a gauge\na{x=1} 1\n# EOF\n",
        HISTOGRAM "h_bucket{le=\"+Inf\"} 2\nh_count 1\nh_sum 1.0\n# EOF\n",
        HISTOGRAM "h_bucket{le=\"1.0\"} 2\nh_bucket{le=\"+Inf\"} 1\nh_count 1\nh_sum 1.0\n# EOF\n",
        HISTOGRAM "h_bucket{le=\"2.0\"} 1\nh_bucket{le=\"1.0\"} 1\nh_bucket{le=\"+Inf\"} 1\n"
                  "h_count 1\nh_sum 1.0\n# EOF\n",
        HISTOGRAM "h_bucket{le=\"1.0\"} 1\nh_count 1\nh_sum 1.0\n# EOF\n",
        HISTOGRAM "h_bucket{le=\"1\"} 1\nh_bucket{le=\"+Inf\"} 1\nh_count 1\nh_sum 1.0\n# EOF\n",
        HISTOGRAM "h_bucket{le=\"+Inf\"} 1\nh_count 1\n# EOF\n",
    };

    for (size_t i = 0; i < LD_ARRAY_LEN(good) + LD_ARRAY_LEN(bad); i++) {
        bool is_good = i < LD_ARRAY_LEN(good);
        const char *text = is_good ? good[i] : bad[i - LD_ARRAY_LEN(good)];
        struct ld_exposition x LD_AUTO(ld_exposition_done) = {.n = 0};

        ld_exposition_read(text, &x);
        cr_expect_eq(x.problem == NULL, is_good, "%s:\n%s", x.problem ? x.problem : "taken", text);
    }
#undef HISTOGRAM
}

/* ---- the metrics ---- */

LD_API_TEST(metrics, are_openmetrics)
{
    static const struct {
        const char *series;
        double least;
    } wanted[] = {
        {"layerd_loop_pass_seconds_count", 1},    {"layerd_lane_running{lane=\"quick\"}", 1},
        {"layerd_lane_queued{lane=\"reap\"}", 0}, {"layerd_store_batch_writes_count", 1},
        {"layerd_store_sync_seconds_count", 1},   {"layerd_http_connections", 1},
        {"process_start_time_seconds", 1},        {"process_resident_memory_bytes", 1},
    };
    struct ld_exposition x;

    ld_have_base(c);
    (void)ld_create(c, "web", "base", NULL);
    (void)ld_mount(c, "web");
    x = scrape(c);
    for (size_t i = 0; i < LD_ARRAY_LEN(wanted); i++)
        cr_expect_geq(ld_exposition_value(&x, wanted[i].series), wanted[i].least, "%s",
                      wanted[i].series);
    ld_exposition_done(&x);
    cr_expect_str_eq(ld_client_header(c, "Content-Type"),
                     "application/openmetrics-text; version=1.0.0; charset=utf-8");
    (void)ld_call(c, &(struct ld_call){.method = "HEAD", .target = "/v1/metrics"});
    (void)ld_want_error(c, "invalid", "GET", NULL, "/v1/metrics?x=1");
    (void)ld_want_error(c, "method_not_allowed", "POST", NULL, "/v1/metrics");
    ld_unmount(c, "web");
}

/* What was asked for between two scrapes, by series: the first scrape counts in the second. */
LD_API_TEST(metrics, count_exactly_what_was_asked_for)
{
    static const struct {
        const char *labels, *status;
        int more;
    } asked[] = {
        {"method=\"GET\",route=\"/v1/info\"", "2xx", 5}, /* one of them a HEAD */
        {"method=\"GET\",route=\"/v1/containers/{container}\"", "4xx", 3},
        {"method=\"POST\",route=\"/v1/volumes\"", "2xx", 2},
        {"method=\"POST\",route=\"/v1/volumes\"", "4xx", 1},
        {"method=\"GET\",route=\"/v1/metrics\"", "2xx", 1},
        {"method=\"unknown\",route=\"unknown\"", "4xx", 2},
    };
    struct ld_exposition before = scrape(c), after;
    double answered = 0, timed = 0;

    for (int i = 0; i < 4; i++)
        (void)ld_want(c, 200, "GET", NULL, "/v1/info");
    (void)ld_call(c, &(struct ld_call){.method = "HEAD", .target = "/v1/info"});
    for (int i = 0; i < 3; i++)
        (void)ld_want_error(c, "not_found", "GET", NULL, "/v1/containers/none-%d", i);
    (void)ld_want(c, 201, "POST", "{'name':'a'}", "/v1/volumes");
    (void)ld_want(c, 201, "POST", "{'name':'b'}", "/v1/volumes");
    (void)ld_want_error(c, "exists", "POST", "{'name':'b'}", "/v1/volumes");
    (void)ld_want_error(c, "not_found", "GET", NULL, "/v1/nowhere");
    (void)ld_want_error(c, "method_not_allowed", "DELETE", NULL, "/v1/info");
    after = scrape(c);

    for (size_t i = 0; i < LD_ARRAY_LEN(asked); i++) {
        struct ld_text series =
            ld_textf(REQUESTS "%s,status=\"%s\"}", asked[i].labels, asked[i].status);
        double old = ld_exposition_value(&before, series.s);

        cr_expect_eq(ld_exposition_value(&after, series.s) - (old < 0 ? 0 : old), asked[i].more,
                     "%s", series.s);
    }
    for (size_t i = 0; i < after.n; i++) {
        const struct ld_sample *s = &after.samples[i];
        double old = ld_exposition_value(&before, s->series);
        double more = s->value - (old < 0 ? 0 : old);

        cr_expect_geq(more, strstr(s->series, "_total") ? 0 : more, "%s falls", s->series);
        answered += strncmp(s->series, REQUESTS, strlen(REQUESTS)) == 0 ? more : 0;
        timed += strncmp(s->series, LATENCY, strlen(LATENCY)) == 0 ? more : 0;
    }
    cr_expect_eq(answered, 14, "nothing else is counted: %g", answered);
    cr_expect_eq(timed, 14, "each has its latency: %g", timed);
    ld_exposition_done(&before);
    ld_exposition_done(&after);
}

LD_API_TEST(metrics, have_no_series_of_a_clients_making)
{
    struct ld_exposition before, after;

    (void)ld_want_error(c, "not_found", "GET", NULL, "/v1/nowhere");
    (void)ld_want_error(c, "not_found", "GET", NULL, "/v1/containers/none");
    (void)now(c, ""); /* the first one is not in itself */
    before = scrape(c);
    for (int i = 0; i < 50; i++) {
        autofree char *method = ld_asprintf("ODD%d", i);

        (void)ld_call(c,
                      &(struct ld_call){.method = method, .target = "/v1/info", .unchecked = true});
        (void)ld_want_error(c, "not_found", "GET", NULL, "/v1/nowhere/%%22%d", i);
        (void)ld_want_error(c, "not_found", "GET", NULL, "/v1/containers/%%22%d", i);
    }
    after = scrape(c);
    cr_expect_eq(after.n, before.n);
    cr_expect_eq(ld_exposition_value(&after, REQUESTS
                                     "method=\"unknown\",route=\"unknown\",status=\"4xx\"}"),
                 101);
    ld_exposition_done(&before);
    ld_exposition_done(&after);
}

LD_API_TEST(metrics, count_bytes_in_and_out)
{
    struct ld_blob archive = ld_make_base();
    double in = now(c, "layerd_http_received_bytes_total");
    double out;
    size_t len;

    (void)ld_import(c, &archive, "");
    cr_expect_eq(now(c, "layerd_http_received_bytes_total") - in, (double)archive.len);
    (void)ld_create(c, "web", "base", NULL);
    out = now(c, "layerd_http_sent_bytes_total");
    len =
        ld_call(c, &(struct ld_call){.method = "GET", .target = "/v1/containers/web/export"})->len;
    cr_expect_gt(len, 1024);
    cr_expect_eq(now(c, "layerd_http_sent_bytes_total") - out, (double)len);
    ld_blob_done(&archive);
}

LD_API_TEST(metrics, say_what_there_is)
{
    static const struct {
        const char *series, *member; /* of info */
    } rows[] = {
        {"layerd_images", "images"},         {"layerd_layers", "layers"},
        {"layerd_containers", "containers"}, {"layerd_containers_mounted", "mounted"},
        {"layerd_volumes", "volumes"},       {"layerd_jobs_running", "jobs_running"},
    };

    ld_have_base(c);
    (void)ld_create(c, "web", "base", NULL);
    (void)ld_create(c, "db", "base", NULL);
    (void)ld_create(c, "gone", "base", NULL);
    (void)ld_want(c, 204, "DELETE", NULL, "/v1/containers/gone");
    (void)ld_mount(c, "web");
    (void)ld_want(c, 201, "POST", "{'name':'a'}", "/v1/volumes");
    ld_wait_reaped(d);
    for (size_t i = 0; i < LD_ARRAY_LEN(rows); i++) {
        struct ld_text path = ld_textf("counts.%s", rows[i].member);
        int64_t want = ld_int(ld_want(c, 200, "GET", NULL, "/v1/info"), path.s);

        cr_expect_eq(now(c, rows[i].series), (double)want, "%s", rows[i].series);
    }
    cr_expect_eq(now(c, "layerd_containers"), 2);
    cr_expect_eq(now(c, "layerd_containers_mounted"), 1);
    cr_expect_eq(now(c, "layerd_layer_bytes"),
                 (double)ld_int(ld_want(c, 200, "GET", NULL, "/v1/df"), "layers.bytes"));
    cr_expect_eq(now(c, "layerd_http_connections"), 1);
    cr_expect_eq(now(c, "layerd_http_requests_in_work"), 1, "this one");
    cr_expect_eq(now(c, "layerd_lane_running{lane=\"quick\"}"), 1, "the same");
    ld_unmount(c, "web");
}

static bool has_two_in_work(void *arg)
{
    return now(arg, "layerd_http_requests_in_work") == 2;
}

static bool has_one_gone(void *arg)
{
    return now(arg, REQUESTS "method=\"POST\",route=\"/v1/volumes\",status=\"gone\"}") == 1;
}

LD_API_TEST(metrics, count_who_left_before_the_answer)
{
    static const char request[] = "POST /v1/volumes HTTP/1.1\r\nHost: x\r\n"
                                  "Content-Length: 10\r\n\r\n{\"n";
    int fd = ld_raw_connect(d->socket);

    ld_raw_send(fd, request, sizeof(request) - 1);
    cr_assert(ld_test_wait(has_two_in_work, c, 30), "the daemon has read it");
    ld_close(fd);
    cr_assert(ld_test_wait(has_one_gone, c, 30));
    cr_expect_eq(now(c, LATENCY "method=\"POST\",route=\"/v1/volumes\"}"), 0);
}

struct fds {
    struct ld_daemon *d;
    double told;
    size_t counted;
};

/* Both change while threads come and go. */
static bool are_equal(void *arg)
{
    struct fds *fds = arg;

    fds->told = now(fds->d->client, "process_open_fds");
    fds->counted = ld_daemon_fds(fds->d);
    return fds->told == (double)fds->counted;
}

LD_API_TEST(metrics, count_descriptors_as_the_kernel_does)
{
    struct fds fds = {.d = d};

    cr_expect(ld_test_wait(are_equal, &fds, 20), "told %g, there are %zu", fds.told, fds.counted);
}

/* A counter that went back to zero without a start would look like one. */
LD_API_TEST(metrics, begin_again_with_a_start)
{
    double started = now(c, "process_start_time_seconds");

    cr_expect_gt(now(c, REQUESTS "method=\"GET\",route=\"/v1/metrics\",status=\"2xx\"}"), 0);
    ld_daemon_stop(d);
    ld_daemon_again(d);
    c = d->client;
    cr_expect_eq(now(c, REQUESTS "method=\"GET\",route=\"/v1/metrics\",status=\"2xx\"}"), -1);
    cr_expect_gt(now(c, "process_start_time_seconds"), started);
}
