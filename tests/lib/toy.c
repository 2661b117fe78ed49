/* The toy server: see toy.h. */
#include "tests/lib/toy.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cjson/cJSON.h>

#include "api/reply.h"
#include "api/request.h"
#include "daemon/base/cleanup.h"
#include "daemon/base/mem.h"
#include "daemon/base/parse.h"
#include "daemon/jobs/ring.h"
#include "tests/lib/env.h"

enum { PIECE = 64 * 1024, WAIT_S = 60 };

/* ---- what the test and the server's thread share ---- */

static void count(struct ld_toy *toy, int *counter)
{
    pthread_mutex_lock(&toy->lock);
    ++*counter;
    pthread_cond_broadcast(&toy->changed);
    pthread_mutex_unlock(&toy->lock);
}

static bool is_open(struct ld_toy *toy)
{
    bool open;

    pthread_mutex_lock(&toy->lock);
    open = toy->open;
    pthread_mutex_unlock(&toy->lock);
    return open;
}

static bool wait_changed(struct ld_toy *toy)
{
    struct timespec until;

    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += WAIT_S;
    return pthread_cond_timedwait(&toy->changed, &toy->lock, &until) == 0;
}

void ld_toy_open(struct ld_toy *toy)
{
    pthread_mutex_lock(&toy->lock);
    toy->open = true;
    pthread_mutex_unlock(&toy->lock);
}

void ld_toy_await(struct ld_toy *toy, const int *counter, int n)
{
    pthread_mutex_lock(&toy->lock);
    while (*counter < n)
        cr_assert(wait_changed(toy), "%d instead of %d", *counter, n);
    cr_expect_eq(*counter, n);
    pthread_mutex_unlock(&toy->lock);
}

static uint64_t query_number(struct ld_request *req, const char *key, uint64_t otherwise)
{
    struct ld_err err = LD_ERR_INIT;

    if (ld_request_u64(req, key, 0, UINT64_MAX, &otherwise, &err) < 0)
        abort(); /* the tests send numbers */
    return otherwise;
}

/* ---- plain replies ---- */

static void hello(struct ld_request *req)
{
    struct ld_err err = LD_ERR_INIT;
    struct cJSON *json;
    uint64_t n = 0;

    if (ld_request_u64(req, "n", 1, 10, &n, &err) < 0) {
        ld_reply_error(req, &err);
        return;
    }
    json = cJSON_CreateObject();
    cJSON_AddStringToObject(json, "hello", "world");
    cJSON_AddNumberToObject(json, "n", (double)n);
    cJSON_AddBoolToObject(json, "flag", ld_request_flag(req, "flag"));
    cJSON_AddNumberToObject(json, "uid", ld_request_peer(req)->uid);
    ld_reply_json(req, 200, json);
}

static void echo(struct ld_request *req)
{
    const char *only = ld_request_query(req, "only");
    struct ld_err err = LD_ERR_INIT;

    if (only && ld_members_only(ld_request_json(req), "", only, &err) < 0)
        ld_reply_error(req, &err);
    else
        ld_reply_json(req, 200, cJSON_Duplicate(ld_request_json(req), true));
}

/* ---- operations ---- */

struct work {
    struct ld_op op;
    struct ld_request *req;
    struct ld_toy *toy;
    struct ld_ring *ring;
    uint64_t bytes, slow_us, fail_at;
};

static int run_work(struct ld_op *op, struct ld_err *err)
{
    struct work *work = op->arg;

    count(work->toy, &work->toy->started);
    while (!is_open(work->toy)) {
        if (ld_flag_is_set(&op->cancel))
            return ld_err_set(err, LD_E_CANCELED, "cancelled");
        usleep(1000);
    }
    return 0;
}

static void work_done(struct ld_op *op)
{
    struct work *work = op->arg;
    struct cJSON *json;

    if (op->rc < 0) {
        count(work->toy, &work->toy->cancelled);
        ld_reply_error(work->req, &op->err);
    } else {
        count(work->toy, &work->toy->finished);
        json = cJSON_CreateObject();
        cJSON_AddNumberToObject(json, "bytes", (double)work->bytes);
        ld_reply_header(work->req, "Location", "/v1/work/1");
        ld_reply_json(work->req, work->ring ? 200 : 201, json);
    }
    if (work->ring && !op->job.was_run)
        ld_ring_leave_worker(work->ring);
    free(work);
}

static void do_work(struct ld_request *req)
{
    struct work *work = ld_new(struct work);

    work->req = req;
    work->toy = ld_request_app(req);
    ld_op_init(&work->op, LD_LANE_QUICK, run_work, work_done, work);
    if (ld_request_flag(req, "tied"))
        ld_request_submit_tied(req, &work->op);
    else
        ld_request_submit(req, &work->op);
}

/* ---- uploads ---- */

static int drink(struct work *work, struct ld_err *err)
{
    char *piece = ld_alloc0(PIECE);
    ssize_t n;

    while ((n = ld_ring_read(work->ring, piece, PIECE, err)) > 0) {
        work->bytes += (uint64_t)n;
        if (work->slow_us)
            usleep((useconds_t)work->slow_us);
        if (work->bytes >= work->fail_at) {
            n = ld_err_set(err, LD_E_BAD_CONTENT, "byte %" PRIu64 " is bad", work->fail_at);
            break;
        }
    }
    free(piece);
    return n < 0 ? -1 : 0;
}

static int run_upload(struct ld_op *op, struct ld_err *err)
{
    struct work *work = op->arg;
    int r;

    count(work->toy, &work->toy->started);
    r = drink(work, err);
    ld_ring_leave_worker(work->ring);
    return r;
}

static void upload(struct ld_request *req)
{
    struct work *work = ld_new(struct work);

    work->req = req;
    work->toy = ld_request_app(req);
    work->slow_us = query_number(req, "slow_us", 0);
    work->fail_at = query_number(req, "fail_at", UINT64_MAX);
    work->ring = ld_request_upload(req);
    if (!work->ring) {
        free(work);
        return;
    }
    ld_op_init(&work->op, LD_LANE_STREAM, run_upload, work_done, work);
    ld_request_submit_tied(req, &work->op);
}

/* ---- downloads ---- */

struct download {
    struct ld_toy *toy;
    uint64_t bytes, fail_at;
    bool tell_length;
    char header[64];
};

static int produce(struct ld_stream *stream, struct download *d, struct ld_err *err)
{
    struct ld_ring *ring = ld_stream_ring(stream);

    if (d->header[0])
        ld_stream_header(stream, "X-Toy", d->header);
    if (d->tell_length)
        ld_stream_length(stream, d->bytes);
    for (uint64_t done = 0; done < d->bytes;) {
        uint64_t left = (d->bytes < d->fail_at ? d->bytes : d->fail_at) - done;
        void *space;
        ssize_t n;

        if (left == 0)
            return ld_err_set(err, LD_E_CORRUPT, "the rest is damaged");
        n = ld_ring_reserve(ring, &space, err);
        if (n < 0)
            return -1;
        n = (uint64_t)n < left ? n : (ssize_t)left;
        memset(space, 0, (size_t)n);
        ld_ring_commit(ring, (size_t)n);
        done += (uint64_t)n;
    }
    return 0;
}

static int run_download(struct ld_stream *stream, void *arg, struct ld_err *err)
{
    struct download *d = arg;
    int r;

    count(d->toy, &d->toy->started);
    r = produce(stream, d, err);
    count(d->toy, r < 0 ? &d->toy->cancelled : &d->toy->finished);
    return r;
}

static void download(struct ld_request *req)
{
    struct download *d = ld_new(struct download);
    struct ld_producer producer = {.run = run_download,
                                   .free = free,
                                   .arg = d,
                                   .status = 200,
                                   .content_type = "application/octet-stream"};

    d->toy = ld_request_app(req);
    d->bytes = query_number(req, "bytes", 0);
    d->fail_at = query_number(req, "fail_at", UINT64_MAX);
    d->tell_length = ld_request_flag(req, "length");
    if (ld_request_query(req, "header"))
        (void)strncat(d->header, ld_request_query(req, "header"), sizeof(d->header) - 1);
    ld_reply_stream(req, &producer);
}

/* ---- a feed ---- */

static void feed_ended(void *arg)
{
    struct ld_toy *toy = arg;

    toy->feed = NULL;
    count(toy, &toy->feeds_ended);
}

static void feed(struct ld_request *req)
{
    struct ld_toy *toy = ld_request_app(req);

    toy->feed = ld_reply_feed(req, "application/x-ndjson", feed_ended, toy);
    count(toy, &toy->started);
}

struct feed_text {
    struct ld_toy *toy;
    char *text;
    size_t times;
};

static void feed_on_loop(void *arg)
{
    struct feed_text *t = arg;

    for (size_t i = 0; i < t->times && t->toy->feed; i++)
        if (!ld_feed_write(t->toy->feed, t->text, strlen(t->text)))
            break;
    free(t->text);
    free(t);
}

void ld_toy_feed(struct ld_toy *toy, const char *text, size_t times)
{
    struct feed_text *t = ld_new(struct feed_text);

    *t = (struct feed_text){toy, ld_strdup(text), times};
    ld_loop_post(toy->jobs.loop, feed_on_loop, t);
}

/* ---- verbs ---- */

struct verb {
    struct ld_verb verb;
    struct work work;
    char fail[16];
    bool waits;
};

static int run_verb(struct ld_op *op, struct ld_err *err)
{
    struct verb *verb = op->arg;
    int r = 0;

    count(verb->work.toy, &verb->work.toy->started);
    if (strcmp(verb->fail, "early") == 0)
        r = ld_err_set(err, LD_E_BAD_CONTENT, "bad from the beginning");
    if (r == 0 && verb->work.ring)
        r = drink(&verb->work, err);
    if (verb->work.ring)
        ld_ring_leave_worker(verb->work.ring);
    for (uint64_t i = 1; r == 0 && i <= 3; i++)
        ld_verb_progress(&verb->verb, i < 3 ? "count" : "end", NULL, i, 3);
    while (r == 0 && verb->waits && !is_open(verb->work.toy))
        usleep(1000);
    if (r == 0 && strcmp(verb->fail, "late") == 0)
        r = ld_err_set(err, LD_E_CORRUPT, "bad at the end");
    count(verb->work.toy, r < 0 ? &verb->work.toy->cancelled : &verb->work.toy->finished);
    return r;
}

static struct cJSON *render_verb(struct ld_verb *verb, struct ld_request *req, int *status)
{
    struct verb *mine = (struct verb *)verb;
    struct cJSON *json = cJSON_CreateObject();

    if (req)
        ld_reply_header(req, "Location", "/v1/thing");
    *status = 201;
    cJSON_AddNumberToObject(json, "bytes", (double)mine->work.bytes);
    return json;
}

static void free_verb(struct ld_verb *verb)
{
    free(verb);
}

static void start_verb(struct ld_request *req)
{
    struct verb *verb = ld_new(struct verb);

    verb->work.toy = ld_request_app(req);
    verb->work.fail_at = query_number(req, "fail_at", UINT64_MAX);
    verb->waits = ld_request_flag(req, "wait");
    if (ld_request_query(req, "fail"))
        (void)strncat(verb->fail, ld_request_query(req, "fail"), sizeof(verb->fail) - 1);
    if (ld_request_query(req, "job"))
        verb->verb.job_id = "1234";
    verb->verb.render = render_verb;
    verb->verb.free = free_verb;
    ld_op_init(&verb->verb.op, LD_LANE_STREAM, run_verb, NULL, verb);
    if (strcmp(ld_request_method(req), "PUT") == 0) {
        verb->work.ring = ld_request_upload(req);
        verb->verb.tied = true;
        if (!verb->work.ring) {
            free(verb);
            return;
        }
    }
    ld_reply_verb(req, &verb->verb);
}

static const struct ld_route routes[] = {
    {"GET", "/v1/hello", hello, LD_ROUTE_METADATA, "n flag?"},
    {"POST", "/v1/echo", echo, LD_ROUTE_JSON, "only"},
    {"PATCH", "/v1/echo", echo, LD_ROUTE_JSON_OPTIONAL, NULL},
    {"POST", "/v1/work", do_work, 0, "tied?"},
    {"PUT", "/v1/upload", upload, LD_ROUTE_UPLOAD, "slow_us fail_at"},
    {"GET", "/v1/download", download, 0, "bytes fail_at length? header"},
    {"GET", "/v1/feed", feed, LD_ROUTE_METADATA, NULL},
    {"POST", "/v1/verb", start_verb, 0, "fail wait? job"},
    {"PUT", "/v1/import", start_verb, LD_ROUTE_UPLOAD, "fail wait? fail_at"},
};

/* ---- life ---- */

static void stop_loop(void *arg)
{
    struct ld_toy *toy = arg;

    ld_loop_stop(toy->jobs.loop);
}

static void drain(void *arg)
{
    struct ld_toy *toy = arg;

    ld_server_drain(toy->server, true, stop_loop, toy);
}

static void listen_at(struct ld_toy *toy, const char *path, bool read_only)
{
    struct ld_err err = LD_ERR_INIT;
    int fd = -EBADF;

    if (ld_listen_unix(path, -1, &fd, &err) < 0 ||
        ld_server_listen(toy->server, fd, read_only, &err) < 0) {
        (void)fprintf(stderr, "toy server: %s\n", err.message);
        abort();
    }
}

static void *serve(void *arg)
{
    struct ld_toy *toy = arg;
    struct ld_server_options options = {.app = toy, .idle_timeout_s = toy->idle_timeout_s};

    ld_test_jobs_start(&toy->jobs, NULL);
    toy->router = ld_router_new();
    ld_router_add(toy->router, routes, LD_ARRAY_LEN(routes));
    options.loop = toy->jobs.loop;
    options.ops = toy->jobs.ops;
    options.router = toy->router;
    toy->server = ld_server_new(&options);
    listen_at(toy, toy->path, false);
    listen_at(toy, toy->read_path, true);
    pthread_mutex_lock(&toy->lock);
    toy->is_up = true;
    pthread_cond_broadcast(&toy->changed);
    pthread_mutex_unlock(&toy->lock);

    ld_loop_run(toy->jobs.loop);
    ld_test_jobs_drain(&toy->jobs); /* operations whose clients left still know the server */
    ld_server_free(toy->server);
    ld_router_free(toy->router);
    ld_test_jobs_free(&toy->jobs);
    return NULL;
}

void ld_toy_start(struct ld_toy *toy, unsigned idle_timeout_s)
{
    *toy = (struct ld_toy){.path = "toy.sock", .read_path = "toy-read.sock"};
    pthread_mutex_init(&toy->lock, NULL);
    pthread_cond_init(&toy->changed, NULL);
    toy->idle_timeout_s = idle_timeout_s;
    cr_assert_eq(pthread_create(&toy->thread, NULL, serve, toy), 0);
    pthread_mutex_lock(&toy->lock);
    while (!toy->is_up)
        cr_assert(wait_changed(toy));
    pthread_mutex_unlock(&toy->lock);
}

void ld_toy_begin_end(struct ld_toy *toy)
{
    ld_loop_post(toy->jobs.loop, drain, toy);
}

void ld_toy_end(struct ld_toy *toy)
{
    ld_toy_begin_end(toy);
    pthread_join(toy->thread, NULL);
}

static void do_nothing(void *arg)
{
    (void)arg;
}

static void drain_impatiently(void *arg)
{
    struct ld_toy *toy = arg;

    ld_server_drain(toy->server, true, do_nothing, NULL);
    toy->jobs.are_ops_drained = true; /* by the time the loop has stopped */
    ld_ops_drain(toy->jobs.ops, true, stop_loop, toy);
}

void ld_toy_end_impatiently(struct ld_toy *toy)
{
    ld_loop_post(toy->jobs.loop, drain_impatiently, toy);
    pthread_join(toy->thread, NULL);
}

static void give_stats(void *arg)
{
    struct ld_toy *toy = arg;

    pthread_mutex_lock(&toy->lock);
    toy->stats = ld_server_stats(toy->server);
    toy->stats_given++;
    pthread_cond_broadcast(&toy->changed);
    pthread_mutex_unlock(&toy->lock);
}

struct ld_server_stats ld_toy_stats(struct ld_toy *toy)
{
    struct ld_server_stats stats;

    ld_loop_post(toy->jobs.loop, give_stats, toy);
    pthread_mutex_lock(&toy->lock);
    toy->stats_asked++;
    while (toy->stats_given < toy->stats_asked)
        cr_assert(wait_changed(toy));
    stats = toy->stats;
    pthread_mutex_unlock(&toy->lock);
    return stats;
}

struct quiet {
    struct ld_toy *toy;
    size_t connections;
};

static bool is_quiet(void *arg)
{
    struct quiet *quiet = arg;
    struct ld_server_stats stats = ld_toy_stats(quiet->toy);

    return stats.requests == 0 && stats.connections == quiet->connections && stats.uploads == 0 &&
           stats.downloads == 0 && stats.feeds == 0;
}

void ld_toy_await_quiet(struct ld_toy *toy, size_t connections)
{
    struct quiet quiet = {toy, connections};

    cr_assert(ld_test_wait(is_quiet, &quiet, 30),
              "left: %zu requests, %zu connections, %zu uploads, %zu downloads, %zu feeds",
              toy->stats.requests, toy->stats.connections, toy->stats.uploads, toy->stats.downloads,
              toy->stats.feeds);
}

const struct ld_reply *ld_toy_call(struct ld_client *client, const struct ld_call *how)
{
    struct ld_call unchecked = *how;
    const struct ld_reply *reply;

    unchecked.unchecked = true;
    reply = ld_client_call(client, &unchecked);
    cr_assert_not_null(reply, "%s %s: %s", how->method, how->target, ld_client_problem(client));
    return reply;
}

const struct ld_reply *ld_toy_get(struct ld_client *client, const char *target)
{
    return ld_toy_call(client, &(struct ld_call){.method = "GET", .target = target});
}

void ld_toy_expect_error(struct ld_client *client, const struct ld_reply *reply, int status,
                         const char *code)
{
    cr_expect_eq(reply->status, status, "%d: %s", reply->status, reply->body);
    cr_assert_not_null(reply->json);
    cr_expect_str_eq(ld_str(reply->json, "error.code"), code);
    cr_expect_str_neq(ld_str(reply->json, "error.message"), "");
    cr_expect_str_eq(ld_str(reply->json, "error.request_id"),
                     ld_client_header(client, "X-Request-Id"));
    cr_expect_str_eq(ld_client_header(client, "Server"), "layerd/" LD_VERSION);
}
