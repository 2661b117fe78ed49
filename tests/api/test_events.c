/* Events: every change tells one, ids grow, a client that resumes misses nothing. */
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include <cjson/cJSON.h>

#include "daemon/base/buf.h"
#include "daemon/base/fdio.h"
#include "daemon/base/mem.h"
#include "tests/lib/api.h"
#include "tests/lib/store.h"

/* The lines of an events reply: types joined by blanks; the last id. */
static int64_t read_events(const char *text, struct ld_buf *types)
{
    int64_t last = 0;

    for (const char *line = text, *nl; (nl = strchr(line, '\n')) != NULL; line = nl + 1) {
        cJSON *event = cJSON_ParseWithLength(line, (size_t)(nl - line));
        int64_t id = ld_int(event, "id");

        cr_expect_gt(id, last, "ids grow");
        last = id;
        if (types)
            ld_buf_addf(types, "%s%s", types->len ? " " : "", ld_str(event, "type"));
        cJSON_Delete(event);
    }
    return last;
}

/* Each of them was made for us, and says so. */
static void expect_actor(const char *lines)
{
    for (const char *line = lines, *nl; (nl = strchr(line, '\n')) != NULL; line = nl + 1) {
        cJSON *event = cJSON_ParseWithLength(line, (size_t)(nl - line));

        cr_assert_not_null(event);
        cr_expect_eq(ld_int(event, "actor.uid"), 0, "%s", ld_str(event, "type"));
        cr_expect_eq(ld_int(event, "actor.pid"), getpid(), "%s", ld_str(event, "type"));
        cJSON_Delete(event);
    }
}

LD_API_TEST(events, are_told_for_every_change)
{
    autobuf struct ld_buf types = LD_BUF_INIT(1 << 16);
    const struct ld_reply *reply;

    ld_have_base(c);
    (void)ld_want(c, 200, "POST", "{'ref':'two'}", "/v1/images/base/tag");
    (void)ld_want(c, 201, "POST", "{'name':'data'}", "/v1/volumes");
    (void)ld_create(c, "web", "base", NULL);
    (void)ld_mount(c, "web");
    (void)ld_want(c, 200, "PATCH", "{'name':'www'}", "/v1/containers/web");
    ld_unmount(c, "www");
    (void)ld_want(c, 204, "DELETE", NULL, "/v1/containers/www");
    (void)ld_want(c, 204, "DELETE", NULL, "/v1/volumes/data?purge=1");
    (void)ld_want(c, 200, "DELETE", NULL, "/v1/images/two");
    (void)ld_want(c, 204, "DELETE", NULL, "/v1/images/base");
    reply = ld_call(c, &(struct ld_call){.method = "GET", .target = "/v1/events"});
    (void)read_events(reply->body, &types);
    expect_actor(reply->body);
    cr_expect_str_eq(ld_buf_str(&types),
                     "image.import image.tag image.tag volume.create container.create "
                     "container.mount container.update container.unmount container.remove "
                     "volume.remove image.untag image.untag image.remove",
                     "%s", ld_buf_str(&types));
}

LD_API_TEST(events, say_who_and_what)
{
    struct ld_text id, request;
    cJSON *event;

    ld_have_base(c);
    id = ld_create(c, "web", "base", NULL);
    request = ld_textf("%s", ld_client_header(c, "X-Request-Id"));
    event = cJSON_Parse(ld_call(c, &(struct ld_call){.method = "GET",
                                                     .target = "/v1/events?filter=type="
                                                               "container.*&limit=1"})
                            ->body);
    cr_expect_str_eq(ld_str(event, "type"), "container.create");
    cr_expect_str_eq(ld_str(event, "object.kind"), "container");
    cr_expect_str_eq(ld_str(event, "object.id"), id.s);
    cr_expect_str_eq(ld_str(event, "object.name"), "web");
    cr_expect_eq(ld_int(event, "actor.uid"), 0);
    cr_expect_eq(ld_int(event, "actor.pid"), getpid());
    cr_expect_str_eq(ld_str(event, "request_id"), request.s);
    cJSON_Delete(event);
}

LD_API_TEST(events, are_filtered)
{
    static const struct {
        const char *query;
        const char *types;
    } rows[] = {
        {"filter=kind=volume", "volume.create volume.remove"},
        {"filter=type=*.create", "container.create volume.create"},
        {"filter=object=web", "container.create container.mount"},
        {"filter=object=web&filter=type=*.mount", "container.mount"},
        {"filter=kind=volume&limit=1", "volume.create"},
        {"filter=type=none", ""},
        {"filter=object=base", "image.import image.tag"},
        {"filter=object=docker.io/library/base:latest&filter=type=*.tag", "image.tag"},
    };

    ld_have_base(c);
    (void)ld_create(c, "web", "base", NULL);
    (void)ld_mount(c, "web");
    (void)ld_want(c, 201, "POST", "{'name':'data'}", "/v1/volumes");
    (void)ld_want(c, 204, "DELETE", NULL, "/v1/volumes/data?purge=1");
    for (size_t i = 0; i < LD_ARRAY_LEN(rows); i++) {
        autobuf struct ld_buf types = LD_BUF_INIT(1 << 16);
        autofree char *target = ld_asprintf("/v1/events?%s", rows[i].query);

        (void)read_events(ld_call(c, &(struct ld_call){.method = "GET", .target = target})->body,
                          &types);
        cr_expect_str_eq(ld_buf_str(&types), rows[i].types, "%s: %s", rows[i].query,
                         ld_buf_str(&types));
    }
    ld_unmount(c, "web");
}

LD_API_TEST(events, are_resumed_without_loss_over_a_restart)
{
    autobuf struct ld_buf types = LD_BUF_INIT(1 << 20);
    int64_t last = 0;
    int seen = 0;

    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 20; i++)
            (void)ld_want(c, 201, "POST", NULL, "/v1/volumes");
        for (;;) {
            autofree char *target = ld_asprintf("/v1/events?limit=7&after=%lld", (long long)last);
            const struct ld_reply *reply =
                ld_call(c, &(struct ld_call){.method = "GET", .target = target});
            int64_t id = read_events(reply->body, &types);

            if (id == 0)
                break;
            last = id;
        }
        seen = 1;
        for (const char *t = ld_buf_str(&types); (t = strchr(t, ' ')) != NULL; t++)
            seen++;
        cr_expect_eq(seen, 20 * (round + 1));
        if (round == 0) {
            ld_daemon_stop(d);
            ld_daemon_again(d);
        } else if (round == 1) {
            ld_daemon_kill(d);
            ld_daemon_again(d);
        }
    }
}

/* Until it follows: no head comes before the first event, and that is the first it is there for. */
static void listens(struct ld_client *c, struct ld_stream *stream)
{
    for (int i = 0; i < 60; i++) {
        autofree char *body = ld_asprintf("{'name':'heard-%d'}", i);

        (void)ld_want(c, 201, "POST", body, "/v1/volumes");
        if (ld_stream_wait(stream, "\"heard-", 1))
            return;
    }
    cr_assert_fail("it hears nothing");
}

LD_API_TEST(events, are_followed)
{
    struct ld_stream *all, *fresh;

    (void)ld_want(c, 201, "POST", "{'name':'before'}", "/v1/volumes");
    all = ld_stream_open(d->socket, "/v1/events?follow=1");
    fresh = ld_stream_open(d->socket, "/v1/events?follow&after=latest&filter=kind=volume");
    cr_assert(ld_stream_wait(all, "\"before\"", 30));
    listens(c, fresh);
    for (int i = 0; i < 50; i++) {
        autofree char *body = ld_asprintf("{'name':'v%d'}", i);
        autofree char *text = ld_asprintf("\"v%d\"", i);

        (void)ld_want(c, 201, "POST", body, "/v1/volumes");
        cr_assert(ld_stream_wait(all, text, 30), "%s", text);
        cr_assert(ld_stream_wait(fresh, text, 30), "%s", text);
    }
    cr_expect_not(strstr(ld_stream_text(fresh), "\"before\""));
    (void)read_events(ld_stream_text(all), NULL);
    ld_stream_close(all);
    ld_stream_close(fresh);
}

LD_API_TEST(events, followers_end_when_the_daemon_stops)
{
    struct ld_stream *stream = ld_stream_open(d->socket, "/v1/events?follow=1");

    (void)ld_want(c, 201, "POST", "{'name':'one'}", "/v1/volumes");
    cr_assert(ld_stream_wait(stream, "\"one\"", 30));
    ld_daemon_stop(d);
    cr_expect_not(ld_stream_wait(stream, "never", 60));
    ld_stream_close(stream);
    ld_daemon_again(d);
}

/* ---- followers and a daemon that is killed ---- */

struct maker {
    struct ld_client *client;
    pthread_t thread;
    int round;
    int made; /* acknowledged: v-ROUND-0 to v-ROUND-(made - 1) */
};

static void *make_until_it_dies(void *arg)
{
    struct maker *m = arg;

    for (;; m->made++) {
        autofree char *body = ld_asprintf("{'name':'v-%d-%d'}", m->round, m->made);
        const struct ld_reply *reply = ld_client_call(
            m->client, &(struct ld_call){.method = "POST", .target = "/v1/volumes", .json = body});

        if (!reply || reply->status != 201)
            return NULL;
    }
}

/* Adds the names of the whole lines in text; the last id. Ids grow beyond `last`. */
static int64_t take_lines(const char *text, int64_t last, struct ld_buf *names)
{
    for (const char *line = text, *nl; (nl = strchr(line, '\n')) != NULL; line = nl + 1) {
        cJSON *event = cJSON_ParseWithLength(line, (size_t)(nl - line));
        int64_t id = ld_int(event, "id");

        cr_expect_gt(id, last, "an event comes once, in order");
        last = id;
        ld_buf_addf(names, "<%s>", ld_str(event, "object.name"));
        cJSON_Delete(event);
    }
    return last;
}

/* What was acknowledged is told exactly once, to a follower that resumes where it was cut off. */
LD_API_TEST(events, are_followed_over_kills_without_loss_or_repetition)
{
    enum { ROUNDS = 4 };
    autobuf struct ld_buf names = LD_BUF_INIT(4 << 20);
    struct maker makers[ROUNDS];
    int64_t last = 0;

    for (int round = 0; round <= ROUNDS; round++) {
        autofree char *target = ld_asprintf("/v1/events?follow=1&after=%lld", (long long)last);
        struct ld_stream *stream = ld_stream_open(d->socket, target);
        struct maker *m = &makers[round];
        autofree char *seen = NULL;

        if (round == ROUNDS) {
            (void)ld_want(c, 201, "POST", "{'name':'the-end'}", "/v1/volumes");
            cr_assert(ld_stream_wait(stream, "\"the-end\"", 60));
        } else {
            *m = (struct maker){.client = ld_client_new(d->socket), .round = round};
            cr_assert_eq(pthread_create(&m->thread, NULL, make_until_it_dies, m), 0);
            seen = ld_asprintf("\"v-%d-%d\"", round, 20 * (round + 1));
            cr_assert(ld_stream_wait(stream, seen, 60));
            ld_daemon_kill(d);
            cr_assert_eq(pthread_join(m->thread, NULL), 0);
            ld_client_free(m->client);
            (void)ld_stream_wait(stream, "what was on its way", 1);
        }
        last = take_lines(ld_stream_text(stream), last, &names);
        ld_stream_close(stream);
        if (round < ROUNDS)
            ld_daemon_again(d);
    }
    for (int round = 0; round < ROUNDS; round++) {
        for (int i = 0; i < makers[round].made; i++) {
            autofree char *name = ld_asprintf("<v-%d-%d>", round, i);
            const char *at = strstr(ld_buf_str(&names), name);

            cr_expect(at, "%s was acknowledged and never told", name);
            cr_expect_not(at && strstr(at + 1, name), "%s was told twice", name);
        }
    }
}

/* ---- very many ---- */

static void add_events(struct ld_daemon *d, int n, uint64_t keep)
{
    struct ld_store_options options = {.max_events = keep};
    struct ld_note note = {
        .type = "volume.create", .kind = "volume", .id = ld_test_id(1), .name = "stuffed"};
    struct ld_err err = LD_ERR_INIT;
    struct ld_store *store = NULL;
    int dir;

    ld_daemon_stop(d);
    dir = open(d->data_root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    ld_test_ok(ld_store_open(dir, &options, &store, &err), &err);
    for (int i = 0; i < n; i++)
        ld_store_event_post(store, &LD_WRITE_SELF, &note);
    ld_test_ok(ld_store_flush(store, &err), &err);
    ld_test_ok(ld_store_flush(store, &err), &err); /* the trimming was queued by the last batch */
    ld_store_close(store);
    ld_close(dir);
    ld_daemon_again(d);
}

LD_API_TEST(events, that_are_kept_no_longer_are_told_as_a_gap)
{
    const struct ld_reply *reply;
    cJSON *line;
    int64_t from, to;

    (void)ld_want(c, 201, "POST", "{'name':'first'}", "/v1/volumes");
    add_events(d, 1500, 100);
    reply = ld_call(c, &(struct ld_call){.method = "GET", .target = "/v1/events?after=1"});
    line = cJSON_ParseWithLength(reply->body, strcspn(reply->body, "\n"));
    from = ld_int(line, "gap.from");
    to = ld_int(line, "gap.to");
    cJSON_Delete(line);
    cr_expect_eq(from, 2);
    cr_expect_gt(to, 400);
    line = cJSON_Parse(strchr(reply->body, '\n') + 1);
    cr_expect_gt(ld_int(line, "id"), to);
    cJSON_Delete(line);
    reply = ld_call(c, &(struct ld_call){.method = "GET", .target = "/v1/events"});
    cr_expect_not(strstr(reply->body, "gap"), "who asks for all that is kept misses nothing");
}

/* More than a feed takes at once, to a client that does not read for a while: it is neither cut
 * off nor does it miss any, and it goes on with what is new. */
LD_API_TEST(events, of_the_past_reach_a_slow_follower_whole)
{
    enum { N = 20000 };
    static const char request[] =
        "GET /v1/events?follow=1&limit=1000 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    struct ld_stream *stream;
    autofree char *reply = NULL;
    int lines = 0, fd;

    add_events(d, N, 0);
    fd = ld_raw_connect(d->socket);
    ld_raw_send(fd, request, strlen(request));
    stream = ld_stream_open(d->socket, "/v1/events?follow=1");
    for (int i = 0; i < 200; i++)
        (void)ld_want(c, 201, "POST", NULL, "/v1/volumes");
    (void)ld_want(c, 201, "POST", "{'name':'newest'}", "/v1/volumes");
    cr_assert(ld_stream_wait(stream, "\"newest\"", 60));
    for (const char *nl = ld_stream_text(stream); (nl = strchr(nl, '\n')) != NULL; nl++)
        lines++;
    cr_expect_eq(lines, N + 201);
    (void)read_events(ld_stream_text(stream), NULL);
    ld_stream_close(stream);
    reply = ld_raw_read(fd, 60); /* ends by itself: the limit */
    cr_expect(strncmp(reply, "HTTP/1.1 200", 12) == 0 && strstr(reply, "\"stuffed\""));
    ld_close(fd);
}
