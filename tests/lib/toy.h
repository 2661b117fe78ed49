/* A small HTTP server with toy routes, on a thread of its own, for tests of api/'s server. */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "api/server.h"
#include "tests/lib/client.h"
#include "tests/lib/env.h"
#include "tests/lib/jobs.h"

struct ld_router;

/* Routes:
 *   GET  /v1/hello      {"hello": "world"}; ?n, ?flag? ; metadata
 *   POST /v1/echo       the JSON body back; ?only: allowed members
 *   POST /v1/work       an operation that ends when `open` is set, 201;
 *                       ?tied? cancelled when the client goes
 *   PUT  /v1/upload     {"bytes"}; ?slow_us: pause per piece; ?fail_at: 422 after so many bytes
 *   GET  /v1/download   ?bytes zeros; ?fail_at: corrupt after so many; ?length? told; ?header=
 *   GET  /v1/feed       lines that ld_toy_feed writes
 *   POST /v1/verb       three progress lines, then a result; ?fail=early|late;
 *                       waits for `open`: ?wait?
 *   PUT  /v1/import     the same with an upload
 */
struct ld_toy {
    pthread_t thread;
    const char *path, *read_path; /* of the sockets */
    unsigned idle_timeout_s;
    struct ld_test_jobs jobs;
    struct ld_router *router;
    struct ld_server *server;
    struct ld_feed *feed;

    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t changed;
    bool is_up;
    int started, finished, cancelled; /* operations of work, upload, download */
    int feeds_ended;
    bool open;
    struct ld_server_stats stats; /* of the last ld_toy_stats */
    unsigned stats_asked, stats_given;
};

/* Asserted. idle_timeout_s as in ld_server_options. */
void ld_toy_start(struct ld_toy *toy, unsigned idle_timeout_s);
/* Drains and frees everything, asserts that nothing is left; clients must have ended. */
void ld_toy_end(struct ld_toy *toy);
/* Begins that drain without waiting. */
void ld_toy_begin_end(struct ld_toy *toy);
/* The same, but waits for operations only, not for clients. */
void ld_toy_end_impatiently(struct ld_toy *toy);

void ld_toy_open(struct ld_toy *toy);
struct ld_server_stats ld_toy_stats(struct ld_toy *toy);
/* Asserts that *counter (one of the ints above) becomes n. */
void ld_toy_await(struct ld_toy *toy, const int *counter, int n);
/* Asserts that no request and no connection but `connections` is left. */
void ld_toy_await_quiet(struct ld_toy *toy, size_t connections);
/* Writes a text to the feed so many times, from the loop, until it is refused. */
void ld_toy_feed(struct ld_toy *toy, const char *text, size_t times);

/* A test of a suite with a fresh server in *toy and a client of it in *client, which are the
 * file's. */
#define LD_TOY_TEST(suite, toy, client, sentence)                                                  \
    static void ld_toy_body_##sentence(void);                                                      \
    LD_TEST(suite, sentence)                                                                       \
    {                                                                                              \
        ld_toy_start(toy, 0);                                                                      \
        *(client) = ld_client_new((toy)->path);                                                    \
        ld_toy_body_##sentence();                                                                  \
        ld_client_free(*(client));                                                                 \
        ld_toy_end(toy);                                                                           \
    }                                                                                              \
    static void ld_toy_body_##sentence(void)

/* What openapi.yaml says is of other routes: replies are not held against it. Asserted. */
const struct ld_reply *ld_toy_call(struct ld_client *client, const struct ld_call *how);
const struct ld_reply *ld_toy_get(struct ld_client *client, const char *target);
/* The last reply of the client is that error, in all its parts. */
void ld_toy_expect_error(struct ld_client *client, const struct ld_reply *reply, int status,
                         const char *code);
