/* Events: every change tells one, ids grow, a client that resumes misses nothing. */
#include <stdio.h>
#include <string.h>

#include <cjson/cJSON.h>

#include "daemon/base/buf.h"
#include "daemon/base/mem.h"
#include "tests/lib/api.h"

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

LD_API_TEST(events, are_followed)
{
    struct ld_stream *all, *fresh;

    (void)ld_want(c, 201, "POST", "{'name':'before'}", "/v1/volumes");
    all = ld_stream_open(d->socket, "/v1/events?follow=1");
    fresh = ld_stream_open(d->socket, "/v1/events?follow&after=latest&filter=kind=volume");
    cr_assert(ld_stream_wait(all, "\"before\"", 10));
    cr_expect_not(ld_stream_wait(fresh, "before", 0));
    for (int i = 0; i < 50; i++) {
        autofree char *body = ld_asprintf("{'name':'v%d'}", i);
        autofree char *text = ld_asprintf("\"v%d\"", i);

        (void)ld_want(c, 201, "POST", body, "/v1/volumes");
        cr_assert(ld_stream_wait(all, text, 10), "%s", text);
        cr_assert(ld_stream_wait(fresh, text, 10), "%s", text);
    }
    cr_expect_not(strstr(ld_stream_text(fresh), "before"));
    (void)read_events(ld_stream_text(all), NULL);
    ld_stream_close(all);
    ld_stream_close(fresh);
}

LD_API_TEST(events, followers_end_when_the_daemon_stops)
{
    struct ld_stream *stream = ld_stream_open(d->socket, "/v1/events?follow=1");

    (void)ld_want(c, 201, "POST", "{'name':'one'}", "/v1/volumes");
    cr_assert(ld_stream_wait(stream, "\"one\"", 10));
    ld_daemon_stop(d);
    cr_expect_not(ld_stream_wait(stream, "never", 5));
    ld_stream_close(stream);
    ld_daemon_again(d);
}
