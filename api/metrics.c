/* /v1/metrics: what a monitor wants to know, in OpenMetrics' text form.
 *
 * What the loop counts is copied by the handler; a worker asks the store and the system for the
 * rest and writes the text. Nothing below the data root is walked. Labels have values from our own
 * tables only. A route that nobody has asked for yet has no series. */
#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "api/call.h"
#include "api/router.h"
#include "api/routes.h"
#include "api/server.h"
#include "daemon/base/buf.h"
#include "daemon/base/fdio.h"
#include "daemon/base/mem.h"
#include "daemon/base/parse.h"
#include "daemon/core/core.h"
#include "daemon/core/info.h"
#include "daemon/jobs/lane.h"
#include "daemon/jobs/loop.h"
#include "daemon/store/store.h"

#define CONTENT_TYPE "application/openmetrics-text; version=1.0.0; charset=utf-8"

enum { MAX_TEXT = 4 << 20 }; /* all routes with all their series are a twentieth of it */

static const uint64_t per_second = UINT64_C(1000000000); /* times are in nanoseconds */

struct metrics_call {
    struct ld_call call;
    struct ld_server_stats server;
    struct ld_route_stats *routes;
    size_t n_routes;
    struct ld_loop_lag lag;
    struct ld_buf text;
};

/* ---- the text form ---- */

/* unit: NULL, or what the name ends with. */
static void family(struct ld_buf *out, const char *name, const char *type, const char *unit,
                   const char *help)
{
    ld_buf_addf(out, "# TYPE %s %s\n", name, type);
    if (unit)
        ld_buf_addf(out, "# UNIT %s %s\n", name, unit);
    ld_buf_addf(out, "# HELP %s %s\n", name, help);
}

/* A whole number divided by `per` (1, or a power of ten that `per_second` is) with a point in it,
 * as bounds have to be written: 2.5, 1.0. */
static void add_number(struct ld_buf *out, uint64_t value, uint64_t per)
{
    uint64_t rest = value % per;

    ld_buf_addf(out, "%" PRIu64 ".", value / per);
    do {
        per = per > 1 ? per / 10 : 1;
        ld_buf_addf(out, "%" PRIu64, rest / per);
        rest %= per;
    } while (rest > 0);
}

static void gauge(struct ld_buf *out, const char *name, const char *unit, uint64_t value,
                  const char *help)
{
    family(out, name, "gauge", unit, help);
    ld_buf_addf(out, "%s %" PRIu64 "\n", name, value);
}

static void counter(struct ld_buf *out, const char *name, const char *unit, uint64_t value,
                    const char *help)
{
    family(out, name, "counter", unit, help);
    ld_buf_addf(out, "%s_total %" PRIu64 "\n", name, value);
}

/* labels: "" or `a="b"`. per: what a unit of the scale is divided by. */
static void histogram(struct ld_buf *out, const char *name, const char *labels,
                      const struct ld_histogram *h, const struct ld_scale *scale, uint64_t per)
{
    const char *comma = labels[0] ? "," : "", *open = labels[0] ? "{" : "",
               *close = labels[0] ? "}" : "";
    uint64_t sum = 0, count = ld_histogram_count(h);

    for (size_t i = 0; i < scale->n; i++) {
        sum += h->bucket[i];
        ld_buf_addf(out, "%s_bucket{%s%sle=\"", name, labels, comma);
        add_number(out, scale->bound[i], per);
        ld_buf_addf(out, "\"} %" PRIu64 "\n", sum);
    }
    ld_buf_addf(out, "%s_bucket{%s%sle=\"+Inf\"} %" PRIu64 "\n", name, labels, comma, count);
    ld_buf_addf(out, "%s_count%s%s%s %" PRIu64 "\n", name, open, labels, close, count);
    ld_buf_addf(out, "%s_sum%s%s%s ", name, open, labels, close);
    add_number(out, h->sum, per);
    ld_buf_addc(out, '\n');
}

/* ---- requests ---- */

/* Patterns and methods are constants of ours, without quotes, backslashes and line ends. */
static void route_labels(const struct ld_route *route, char *text, size_t size)
{
    int n = snprintf(text, size, "method=\"%s\",route=\"%s\"", route ? route->method : "unknown",
                     route ? route->pattern : "unknown");

    assert(n > 0 && (size_t)n < size);
}

static bool was_asked_for(const struct ld_route_stats *route)
{
    return route->answered[0] > 0 || ld_histogram_count(&route->latency_ns) > 0;
}

static void add_route(struct ld_buf *out, const struct ld_route_stats *route)
{
    static const char *const status[] = {"gone", NULL, "2xx", "3xx", "4xx", "5xx"};
    char labels[256];

    route_labels(route->route, labels, sizeof(labels));
    for (size_t i = 0; i < LD_ARRAY_LEN(status); i++)
        if (status[i])
            ld_buf_addf(out, "layerd_http_requests_total{%s,status=\"%s\"} %" PRIu64 "\n", labels,
                        status[i], route->answered[i]);
}

static void add_latency(struct ld_buf *out, const struct ld_route_stats *route)
{
    char labels[256];

    route_labels(route->route, labels, sizeof(labels));
    histogram(out, "layerd_http_request_duration_seconds", labels, &route->latency_ns,
              &ld_scale_time, per_second);
}

static void add_requests(struct ld_buf *out, const struct metrics_call *c)
{
    const struct ld_server_stats *s = &c->server;

    family(out, "layerd_http_requests", "counter", NULL,
           "Requests by route and outcome; gone: the client left before the answer.");
    for (size_t i = 0; i < c->n_routes; i++)
        if (was_asked_for(&c->routes[i]))
            add_route(out, &c->routes[i]);
    family(out, "layerd_http_request_duration_seconds", "histogram", "seconds",
           "From a request's first line to its answer, or to the beginning of a streamed one.");
    for (size_t i = 0; i < c->n_routes; i++)
        if (was_asked_for(&c->routes[i]))
            add_latency(out, &c->routes[i]);
    counter(out, "layerd_http_refusals", NULL, s->refused, "Requests answered with 503.");
    counter(out, "layerd_http_received_bytes", "bytes", s->bytes_in, "Bodies of uploads.");
    counter(out, "layerd_http_sent_bytes", "bytes", s->bytes_out, "Bodies of streamed answers.");
    gauge(out, "layerd_http_connections", NULL, s->connections, "Connections of clients.");
    gauge(out, "layerd_http_requests_in_work", NULL, s->requests, "Requests not yet through.");
    gauge(out, "layerd_http_uploads", NULL, s->uploads, "Uploads under way.");
    gauge(out, "layerd_http_downloads", NULL, s->downloads, "Streamed answers under way.");
    gauge(out, "layerd_http_feeds", NULL, s->feeds, "Followers of events.");
}

/* ---- loop, lanes, store ---- */

static void add_loop(struct ld_buf *out, const struct ld_loop_lag *lag)
{
    family(out, "layerd_loop_pass_seconds", "histogram", "seconds",
           "Time that one pass of the event loop was busy: an event had to wait so long at most.");
    histogram(out, "layerd_loop_pass_seconds", "", &lag->busy_ns, &ld_scale_time, per_second);
    family(out, "layerd_loop_pass_max_seconds", "gauge", "seconds", "The longest of these passes.");
    ld_buf_adds(out, "layerd_loop_pass_max_seconds ");
    add_number(out, lag->max_us * 1000, per_second);
    ld_buf_addc(out, '\n');
}

static uint64_t running(const struct ld_lane_stats *s)
{
    return s->running;
}

static uint64_t waiting(const struct ld_lane_stats *s)
{
    return s->waiting;
}

static uint64_t threads(const struct ld_lane_stats *s)
{
    return s->threads;
}

static uint64_t finished(const struct ld_lane_stats *s)
{
    return s->finished;
}

static uint64_t refused(const struct ld_lane_stats *s)
{
    return s->refused;
}

static void add_lanes(struct ld_buf *out, struct ld_lanes *lanes)
{
    static const struct {
        const char *name, *help;
        uint64_t (*value)(const struct ld_lane_stats *);
        bool counts;
    } families[] = {
        {"layerd_lane_running", "Jobs that a thread of the lane works on.", running, false},
        {"layerd_lane_queued", "Jobs that wait for a thread of the lane.", waiting, false},
        {"layerd_lane_threads", "Threads of the lane.", threads, false},
        {"layerd_lane_finished", "Jobs that are through.", finished, true},
        {"layerd_lane_refused", "Jobs that found the lane full.", refused, true},
    };
    struct ld_lane_stats stats[LD_LANE_COUNT];

    for (int lane = 0; lane < LD_LANE_COUNT; lane++)
        stats[lane] = ld_lanes_stats(lanes, (enum ld_lane)lane);
    for (size_t i = 0; i < LD_ARRAY_LEN(families); i++) {
        family(out, families[i].name, families[i].counts ? "counter" : "gauge", NULL,
               families[i].help);
        for (int lane = 0; lane < LD_LANE_COUNT; lane++)
            ld_buf_addf(out, "%s%s{lane=\"%s\"} %" PRIu64 "\n", families[i].name,
                        families[i].counts ? "_total" : "", ld_lane_name((enum ld_lane)lane),
                        families[i].value(&stats[lane]));
    }
}

static void add_store(struct ld_buf *out, struct ld_store *store)
{
    struct ld_store_stats s;

    ld_store_get_stats(store, &s);
    family(out, "layerd_store_batch_writes", "histogram", NULL,
           "Writes that were one transaction of the database.");
    histogram(out, "layerd_store_batch_writes", "", &s.batch, &ld_scale_count, 1);
    family(out, "layerd_store_sync_seconds", "histogram", "seconds",
           "Time a transaction waited for the disk: its directories' syncs and its commit.");
    histogram(out, "layerd_store_sync_seconds", "", &s.sync_ns, &ld_scale_time, per_second);
    counter(out, "layerd_store_directory_syncs", NULL, s.dir_syncs, "Directories synced.");
    counter(out, "layerd_store_checkpoints", NULL, s.checkpoints, "Checkpoints of the database.");
    gauge(out, "layerd_store_database_bytes", "bytes", s.db_bytes, "Size of the database.");
    gauge(out, "layerd_store_log_bytes", "bytes", s.wal_bytes, "Size of its write-ahead log.");
}

/* ---- objects, process ---- */

static void add_objects(struct ld_buf *out, const struct ld_info *info)
{
    const struct ld_store_sums *s = &info->sums;

    gauge(out, "layerd_containers", NULL, s->containers, "Containers.");
    gauge(out, "layerd_containers_mounted", NULL, info->mounted, "Containers that are mounted.");
    gauge(out, "layerd_images", NULL, s->images, "Images.");
    gauge(out, "layerd_layers", NULL, s->layers, "Committed layers.");
    gauge(out, "layerd_layer_bytes", "bytes", s->layer_bytes, "Committed layers on disk.");
    counter(out, "layerd_folds", NULL, info->folded.folds,
            "Runs of layers that became one in the background.");
    counter(out, "layerd_folded_layers", NULL, info->folded.layers, "Layers in these runs.");
    gauge(out, "layerd_volumes", NULL, s->volumes, "Volumes.");
    gauge(out, "layerd_trash_entries", NULL, s->trash, "Removed objects still to be deleted.");
    gauge(out, "layerd_damaged_objects", NULL, s->damaged, "Objects marked damaged.");
    gauge(out, "layerd_jobs_running", NULL, info->jobs_running, "Long work under way.");
    gauge(out, "layerd_storage_size_bytes", "bytes", info->size,
          "Size of the file system with the data root.");
    gauge(out, "layerd_storage_available_bytes", "bytes", info->available,
          "What is available on it.");
}

/* The second number of statm: resident pages. */
static int resident_bytes(uint64_t *ret)
{
    autoclose int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    char text[256];
    ssize_t n = fd < 0 ? -errno : ld_read_some(fd, text, sizeof(text) - 1);
    char *number;
    uint64_t pages;

    if (n < 0)
        return (int)n;
    text[n] = '\0';
    number = text + strcspn(text, " ");
    number += *number == ' ';
    number[strcspn(number, " ")] = '\0';
    if (ld_parse_u64(number, 0, UINT64_MAX, &pages) < 0)
        return -EBADMSG;
    *ret = pages * (uint64_t)sysconf(_SC_PAGESIZE);
    return 0;
}

static int open_descriptors(uint64_t *ret)
{
    DIR *dir = opendir("/proc/self/fd");
    const struct dirent *entry;
    uint64_t n = 0;

    if (!dir)
        return -errno;
    while ((entry = readdir(dir)))
        n += entry->d_name[0] != '.';
    (void)closedir(dir); /* was only read */
    *ret = n - 1;        /* without this one */
    return 0;
}

/* Under the names that every monitor knows. */
static int add_process(struct ld_buf *out, int64_t started_ns, struct ld_err *err)
{
    uint64_t resident = 0, descriptors = 0;
    int r = resident_bytes(&resident);

    if (r == 0)
        r = open_descriptors(&descriptors);
    if (r < 0)
        return ld_err_sys(err, r, "ask for memory and descriptors of layerd");
    family(out, "process_start_time_seconds", "gauge", "seconds",
           "When layerd started, in seconds since 1970.");
    ld_buf_adds(out, "process_start_time_seconds ");
    add_number(out, (uint64_t)started_ns, per_second);
    ld_buf_addc(out, '\n');
    gauge(out, "process_resident_memory_bytes", "bytes", resident, "Memory of layerd.");
    gauge(out, "process_open_fds", NULL, descriptors, "Open descriptors of layerd.");
    family(out, "layerd_build", "info", NULL, "This layerd.");
    ld_buf_adds(out, "layerd_build_info{version=\"" LD_VERSION "\",api=\"v1\"} 1\n");
    return 0;
}

/* ---- the request ---- */

static int run(struct ld_call *call, struct ld_err *err)
{
    struct metrics_call *c = (struct metrics_call *)call;
    struct ld_buf *out = &c->text;
    struct ld_info info;

    if (ld_info_get(call->core, &info, err) < 0)
        return -1;
    add_requests(out, c);
    add_loop(out, &c->lag);
    add_lanes(out, ld_core_lanes(call->core));
    add_store(out, ld_core_store(call->core));
    add_objects(out, &info);
    if (add_process(out, info.started_ns, err) < 0)
        return -1;
    ld_buf_adds(out, "# EOF\n");
    assert(!out->full);
    return 0;
}

static void reply(struct ld_call *call)
{
    struct metrics_call *c = (struct metrics_call *)call;

    ld_reply_text(call->req, 200, CONTENT_TYPE, ld_buf_str(&c->text));
}

static void free_call(struct ld_call *call)
{
    struct metrics_call *c = (struct metrics_call *)call;

    ld_buf_done(&c->text);
    free(c->routes);
    free(c);
}

static void metrics(struct ld_request *req)
{
    struct metrics_call *c = ld_call_new(sizeof(*c), req, LD_LANE_QUICK, run, reply, free_call);
    const struct ld_server *server = ld_request_server(req);
    const struct ld_route_stats *routes = ld_server_route_stats(server, &c->n_routes);

    c->server = ld_server_stats(server);
    c->lag = ld_loop_lag(ld_request_loop(req), false);
    c->routes = ld_alloc0(c->n_routes * sizeof(*routes));
    memcpy(c->routes, routes, c->n_routes * sizeof(*routes));
    c->text = LD_BUF_INIT(MAX_TEXT);
    ld_call_submit(&c->call);
}

void ld_routes_metrics(struct ld_router *router)
{
    static const struct ld_route routes[] = {
        {"GET", "/v1/metrics", metrics, LD_ROUTE_METADATA, NULL},
    };

    ld_router_add(router, routes, LD_ARRAY_LEN(routes));
}
