/* Snapshots, rollback and clones: states that come back as they were, at no cost in bytes, in any
 * order, through kills and power cuts. */
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cjson/cJSON.h>

#include "daemon/base/fdio.h"
#include "daemon/base/mem.h"
#include "daemon/base/mountapi.h"
#include "tests/lib/api.h"

static void roll_back(struct ld_client *c, const char *container, const char *snapshot)
{
    (void)ld_want(c, 200, "POST", NULL, "/v1/containers/%s/snapshots/%s/rollback", container,
                  snapshot);
}

/* ---- what they are ---- */

LD_API_TEST(snapshots, are_named_states_of_a_container)
{
    cJSON *json;
    struct ld_text id, one;

    ld_have_base(c);
    id = ld_create(c, "web", "base", NULL);
    ld_change(c, "web", "echo 1 > etc/one");
    json = ld_want(c, 201, "POST", "{'name':'first','labels':{'why':'upgrade'}}",
                   "/v1/containers/web/snapshots");
    one = ld_textf("/v1/containers/%s/snapshots/%s", id.s, ld_str(json, "id"));
    cr_expect_str_eq(ld_client_header(c, "Location"), one.s);
    cr_expect_eq(strncmp(ld_client_header(c, "ETag"), "\"1-", 3), 0);
    cr_expect_str_eq(ld_str(json, "name"), "first");
    cr_expect_str_eq(ld_str(json, "container"), id.s);
    cr_expect_str_eq(ld_str(json, "labels.why"), "upgrade");
    cr_expect_str_eq(ld_str(json, "consistency"), "exact");
    json = ld_want(c, 200, "GET", NULL, "%s", one.s);
    cr_expect_str_eq(ld_str(json, "name"), "first");
    (void)ld_want(c, 201, "POST", NULL, "/v1/containers/web/snapshots"); /* needs no name */

    json = ld_want(c, 200, "GET", NULL, "/v1/containers/web/snapshots");
    cr_expect_eq(ld_count(json, "items"), 2);
    cr_expect_str_eq(ld_str(json, "items.0.name"), "first");
    cr_expect(ld_is_null(json, "items.1.name"));
    json = ld_want(c, 200, "GET", NULL, "/v1/containers/web/snapshots?filter=label=why=upgrade");
    cr_expect_eq(ld_count(json, "items"), 1);
    json = ld_want(c, 200, "GET", NULL, "/v1/containers/web/snapshots?filter=name=f*&limit=1");
    cr_expect_eq(ld_count(json, "items"), 1);
    json = ld_want(c, 200, "GET", NULL, "/v1/containers/web/snapshots?filter=until=1h");
    cr_expect_eq(ld_count(json, "items"), 0);

    json = ld_want(c, 200, "GET", NULL, "/v1/containers/web");
    cr_expect_eq(ld_int(json, "snapshots"), 2);
    cr_expect_eq(ld_int(json, "layers"), 3);
    cr_expect_eq(ld_count(json, "chain"), 2, "the image's layers");
    cr_expect_not(ld_is_null(json, "parent"));
}

LD_API_TEST(snapshots, are_refused_with_the_right_code)
{
    static const struct {
        const char *code, *body;
    } rows[] = {
        {"invalid", "{'name':''}"},       {"invalid", "{'name':'A'}"},
        {"invalid", "{'name':7}"},        {"invalid", "{'labels':{'':'x'}}"},
        {"invalid", "{'nonsense':true}"}, {"exists", "{'name':'first'}"},
    };

    ld_have_base(c);
    (void)ld_create(c, "web", "base", NULL);
    (void)ld_create(c, "db", "base", NULL);
    (void)ld_take_snapshot(c, "web", "first");
    (void)ld_take_snapshot(c, "db", "first"); /* a name is the container's own */
    for (size_t i = 0; i < LD_ARRAY_LEN(rows); i++)
        (void)ld_want_error(c, rows[i].code, "POST", rows[i].body, "/v1/containers/web/snapshots");
    (void)ld_want_error(c, "not_found", "GET", NULL, "/v1/containers/web/snapshots/none");
    (void)ld_want_error(c, "not_found", "DELETE", NULL, "/v1/containers/web/snapshots/none");
    (void)ld_want_error(c, "not_found", "POST", NULL, "/v1/containers/web/snapshots/none/rollback");
    (void)ld_want_error(c, "not_found", "POST", "{'snapshot':'none'}", "/v1/containers/web/clone");
    (void)ld_want_error(c, "invalid", "GET", NULL, "/v1/containers/web/snapshots?filter=odd=1");
    (void)ld_want_error(c, "invalid", "GET", NULL, "/v1/containers/web/snapshots/first?odd=1");
    (void)ld_want_error(c, "invalid", "DELETE", NULL, "/v1/containers/web/snapshots/first?odd=1");
    (void)ld_want_error(c, "invalid", "POST", "{'odd':1}",
                        "/v1/containers/web/snapshots/first/rollback");
    (void)ld_want_error(c, "invalid", "POST", "{'name':'A B'}", "/v1/containers/web/clone");
    (void)ld_want_error(c, "exists", "POST", "{'name':'db'}", "/v1/containers/web/clone");
    cr_expect_eq(ld_count(ld_want(c, 200, "GET", NULL, "/v1/containers/web/snapshots"), "items"),
                 1);
    cr_expect_eq(ld_data_count(d, "w"), 2);
}

LD_API_TEST(snapshots, are_found_by_name_then_by_the_beginning_of_an_id)
{
    static struct ld_text ids[2000];
    struct ld_text first;
    char prefix[5] = "";
    int n = 0;

    ld_have_base(c);
    (void)ld_create(c, "web", "base", "'ephemeral':true");
    first = ld_take_snapshot(c, "web", "first");
    cr_expect_str_eq(
        ld_str(ld_want(c, 200, "GET", NULL, "/v1/containers/web/snapshots/first"), "id"), first.s);
    cr_expect_str_eq(
        ld_str(ld_want(c, 200, "GET", NULL, "/v1/containers/web/snapshots/%.50s", first.s), "id"),
        first.s);
    while (!prefix[0] && n < 2000) {
        ids[n] = ld_textf(
            "%s", ld_str(ld_want(c, 201, "POST", NULL, "/v1/containers/web/snapshots"), "id"));
        for (int i = 0; i < n && !prefix[0]; i++) {
            if (strncmp(ids[i].s, ids[n].s, 4) == 0)
                (void)snprintf(prefix, sizeof(prefix), "%.4s", ids[n].s);
        }
        n++;
    }
    cr_assert_neq(prefix[0], '\0', "2,000 ids and no two begin alike");
    cr_expect_geq(ld_count(ld_want_error(c, "conflict", "GET", NULL,
                                         "/v1/containers/web/snapshots/%s", prefix),
                           "details.candidates"),
                  2);
    /* Nothing was changed, so that all of them are one and the same state. */
    cr_expect_eq(ld_int(ld_want(c, 200, "GET", NULL, "/v1/containers/web"), "layers"), 2);
}

/* Is there an event of that type, and is its attribute `name` this text? */
static bool is_told(struct ld_client *c, const char *type, const char *name, const char *text)
{
    autofree char *target = ld_asprintf("/v1/events?filter=type=%s", type);
    const struct ld_reply *reply = ld_call(c, &(struct ld_call){.method = "GET", .target = target});
    const char *end = strchr(reply->body, '\n');
    cJSON *event = end ? cJSON_ParseWithLength(reply->body, (size_t)(end - reply->body)) : NULL;
    bool told = event && strcmp(ld_str(event, name), text) == 0;

    cJSON_Delete(event);
    return told;
}

LD_API_TEST(snapshots, are_told_by_events)
{
    struct ld_text web, one, twin;

    ld_have_base(c);
    web = ld_create(c, "web", "base", NULL);
    one = ld_take_snapshot(c, "web", "first");
    twin = ld_textf(
        "%s", ld_str(ld_want(c, 201, "POST", "{'name':'twin'}", "/v1/containers/web/clone"), "id"));
    roll_back(c, "web", "first");
    (void)ld_want(c, 204, "DELETE", NULL, "/v1/containers/web/snapshots/first");
    cr_expect(is_told(c, "snapshot.create", "object.id", one.s));
    cr_expect(is_told(c, "snapshot.create", "attributes.container", web.s));
    cr_expect(is_told(c, "container.clone", "object.id", web.s));
    cr_expect(is_told(c, "container.clone", "attributes.clone", twin.s));
    cr_expect(is_told(c, "container.rollback", "attributes.snapshot_name", "first"));
    cr_expect(is_told(c, "snapshot.remove", "object.kind", "snapshot"));
}

LD_API_TEST(snapshots, count_in_the_versions_of_their_container)
{
    static const char *const stale[] = {"If-Match: \"1\"", NULL};
    static const char *const odd[] = {"If-Match: x", NULL};
    const struct ld_reply *reply;

    ld_have_base(c);
    (void)ld_create(c, "web", "base", NULL);
    (void)ld_take_snapshot(c, "web", "first");
    reply = ld_call(
        c, &(struct ld_call){.method = "DELETE", .target = "/v1/containers/web", .headers = stale});
    cr_expect_eq(reply->status, 412, "it has a snapshot that whoever asks does not know of");
    reply = ld_call(c, &(struct ld_call){.method = "DELETE",
                                         .target = "/v1/containers/web/snapshots/first",
                                         .headers = odd});
    cr_expect_eq(reply->status, 400);
    reply =
        ld_call(c, &(struct ld_call){.method = "DELETE",
                                     .target = "/v1/containers/web/snapshots/first",
                                     .headers = (const char *const[]){"If-Match: \"2\"", NULL}});
    cr_expect_eq(reply->status, 412);
    reply = ld_call(c, &(struct ld_call){.method = "DELETE",
                                         .target = "/v1/containers/web/snapshots/first",
                                         .headers = stale});
    cr_expect_eq(reply->status, 204);
}

static const struct ld_reply *with_header(struct ld_client *c, const char *method,
                                          const char *target, const char *json, const char *header)
{
    const char *const headers[] = {header, NULL};

    return ld_call(
        c, &(struct ld_call){.method = method, .target = target, .json = json, .headers = headers});
}

LD_API_TEST(snapshots, are_not_sent_to_who_knows_them)
{
    autofree char *known = NULL;

    ld_have_base(c);
    (void)ld_create(c, "web", "base", NULL);
    (void)ld_take_snapshot(c, "web", "first");
    known = ld_asprintf("If-None-Match: %s", ld_client_header(c, "ETag"));
    cr_expect_eq(with_header(c, "GET", "/v1/containers/web/snapshots/first", NULL, known)->status,
                 304);
}

LD_API_TEST(snapshots, and_clones_are_made_once_under_an_idempotency_key)
{
    static const struct {
        const char *target, *body, *header;
    } rows[] = {
        {"/v1/containers/web/snapshots", "{'name':'first'}", "Idempotency-Key: one"},
        {"/v1/containers/web/clone", "{'name':'twin'}", "Idempotency-Key: two"},
    };

    ld_have_base(c);
    (void)ld_create(c, "web", "base", NULL);
    ld_change(c, "web", "echo 1 > one");
    for (size_t i = 0; i < LD_ARRAY_LEN(rows); i++) {
        const struct ld_reply *reply =
            with_header(c, "POST", rows[i].target, rows[i].body, rows[i].header);
        struct ld_text id;

        cr_assert_eq(reply->status, 201, "%s", reply->body);
        id = ld_textf("%s", ld_str(reply->json, "id"));
        reply = with_header(c, "POST", rows[i].target, rows[i].body, rows[i].header);
        cr_assert_eq(reply->status, 201, "%s", reply->body);
        cr_expect_str_eq(ld_str(reply->json, "id"), id.s);
        reply = with_header(c, "POST", rows[i].target, "{'name':'other'}", rows[i].header);
        cr_expect_eq(reply->status, 409);
    }
    cr_expect_eq(ld_count(ld_want(c, 200, "GET", NULL, "/v1/containers"), "items"), 2);
}

LD_API_TEST(snapshots, tell_what_their_removal_would_free)
{
    cJSON *json;

    ld_have_base(c);
    (void)ld_create(c, "web", "base", NULL);
    ld_change(c, "web", "head -c 1M /dev/urandom > big");
    (void)ld_take_snapshot(c, "web", "first");
    (void)ld_take_snapshot(c, "web", "again");
    json = ld_want(c, 200, "DELETE", NULL, "/v1/containers/web/snapshots/first?dry_run=1");
    cr_expect_eq(ld_count(json, "would_remove"), 1, "the container stands on it");
    cr_expect_str_eq(ld_str(json, "would_remove.0.kind"), "snapshot");
    cr_expect_eq(ld_int(json, "bytes"), 0);
    (void)ld_want(c, 204, "DELETE", NULL, "/v1/containers/web/snapshots/again");
    ld_change(c, "web", "rm big");
    roll_back(c, "web", "first");
    (void)ld_want(c, 200, "GET", NULL, "/v1/containers/web/snapshots/first");
}

/* ---- what they cost ---- */

LD_API_TEST(snapshots, of_an_idle_container_copy_nothing)
{
    struct ld_usage before, after;

    ld_have_base(c);
    (void)ld_create(c, "web", "base", NULL);
    ld_change(c, "web", "head -c 64M /dev/urandom > big");
    ld_data_usage(d, &before);
    (void)ld_take_snapshot(c, "web", "first");
    for (int i = 0; i < 20; i++)
        (void)ld_want(c, 201, "POST", NULL, "/v1/containers/web/clone");
    ld_data_usage(d, &after);
    cr_expect_lt(after.bytes, before.bytes + 22 * 65536);
    cr_expect_eq(ld_data_count(d, "layers"), 4 + 2, "two and their recipes, 0, and one for all");
    ld_expect_df_is_du(d, c);
}

LD_API_TEST(snapshots, of_an_unchanged_container_are_the_image_itself)
{
    struct ld_usage before, after;

    ld_have_base(c);
    (void)ld_create(c, "web", "base", NULL);
    (void)ld_mount(c, "web");
    ld_unmount(c, "web");
    ld_data_usage(d, &before);
    (void)ld_take_snapshot(c, "web", "one");
    (void)ld_take_snapshot(c, "web", "two");
    ld_data_usage(d, &after);
    cr_expect_eq(after.inodes, before.inodes);
    cr_expect_eq(ld_int(ld_want(c, 200, "GET", NULL, "/v1/containers/web"), "layers"), 2);
    ld_change(c, "web", "chmod 751 ."); /* an attribute of the root is a change, too */
    (void)ld_take_snapshot(c, "web", "three");
    cr_expect_eq(ld_int(ld_want(c, 200, "GET", NULL, "/v1/containers/web"), "layers"), 3);
    ld_change(c, "web", "test $(stat -c %a .) = 751");
}

LD_API_TEST(snapshots, are_counted_by_df_to_the_byte)
{
    ld_have_base(c);
    (void)ld_create(c, "web", "base", NULL);
    for (int i = 0; i < 5; i++) {
        autofree char *commands = ld_asprintf("head -c %d00K /dev/urandom > f%d; ln -f f%d "
                                              "etc/l%d; rm -rf usr/lib; mkdir -p usr/lib/x",
                                              i + 1, i, i, i);
        autofree char *name = ld_asprintf("s%d", i);

        ld_change(c, "web", commands);
        (void)ld_take_snapshot(c, "web", name);
        ld_expect_df_is_du(d, c);
    }
    (void)ld_want(c, 204, "DELETE", NULL, "/v1/containers/web/snapshots/s2");
    roll_back(c, "web", "s1");
    ld_expect_df_is_du(d, c);
    (void)ld_want(c, 204, "DELETE", NULL, "/v1/containers/web");
    ld_expect_df_is_du(d, c);
    cr_expect_eq(ld_data_count(d, "layers"), 5, "the image's two, their recipes, and 0");
}

/* ---- rollback ---- */

LD_API_TEST(rollback, brings_back_any_state_in_any_order)
{
    struct ld_text was[4];
    static const int order[] = {2, 0, 3, 1, 1};

    ld_have_base(c);
    (void)ld_create(c, "web", "base", NULL);
    for (int i = 0; i < 4; i++) {
        static const char *const steps[] = {
            "echo a > etc/a; rm etc/motd; mkdir var/empty/d; ln -s x l",
            "mv etc usr/etc2; mkdir etc; echo b > etc/b; ln l2 l3 2>/dev/null; touch -d @1 usr",
            "rm -rf usr; echo file > usr; setfattr -n user.x -v y etc",
            "rm usr; mkdir -p usr/lib/deep; echo d > usr/lib/deep/er; chown 7:8 .; chmod 700 var",
        };
        char name[16];

        ld_change(c, "web", steps[i]);
        (void)snprintf(name, sizeof(name), "s%d", i);
        (void)ld_take_snapshot(c, "web", name);
        was[i] = ld_root_digest(c, "web");
    }
    ld_change(c, "web", "rm -rf ./*; echo all is lost > here");
    for (size_t i = 0; i < LD_ARRAY_LEN(order); i++) {
        char name[8];

        (void)snprintf(name, sizeof(name), "s%d", order[i]);
        roll_back(c, "web", name);
        cr_expect_str_eq(ld_root_digest(c, "web").s, was[order[i]].s, "%s", name);
        ld_change(c, "web", "echo more > more");
    }
    cr_expect_eq(ld_count(ld_want(c, 200, "GET", NULL, "/v1/containers/web/snapshots"), "items"),
                 4);
}

LD_API_TEST(rollback, needs_a_container_that_nobody_uses)
{
    int up[2], down[2];
    struct ld_text at;
    char byte = 0;
    pid_t pid;

    ld_have_base(c);
    (void)ld_create(c, "web", "base", NULL);
    (void)ld_take_snapshot(c, "web", "first");
    at = ld_mount(c, "web");
    (void)ld_want_error(c, "busy", "POST", NULL, "/v1/containers/web/snapshots/first/rollback");
    cr_assert(pipe(up) == 0 && pipe(down) == 0);
    pid = fork();
    if (pid == 0) {
        /* In a mount namespace of its own, like any other service's. */
        if (unshare(CLONE_NEWNS) < 0 || chdir(at.s) < 0 || write(up[1], "x", 1) != 1)
            _exit(1);
        (void)close(down[1]);
        (void)!read(down[0], &byte, 1);
        _exit(0);
    }
    cr_assert_eq(read(up[0], &byte, 1), 1);
    ld_test_sh("umount -l %s", at.s); /* from here on nothing shows in our mountinfo */
    (void)ld_want_error(c, "busy", "POST", NULL, "/v1/containers/web/snapshots/first/rollback");
    (void)ld_want_error(c, "busy", "POST", NULL, "/v1/containers/web/snapshots");
    (void)ld_want_error(c, "busy", "POST", NULL, "/v1/containers/web/clone");
    /* A state that nobody can change any more may be had at any time. */
    (void)ld_want(c, 201, "POST", "{'snapshot':'first'}", "/v1/containers/web/clone");
    (void)close(down[1]);
    cr_assert_eq(waitpid(pid, NULL, 0), pid);
    roll_back(c, "web", "first");
    (void)ld_take_snapshot(c, "web", "second");
}

LD_API_TEST(rollback, heals_a_container_that_lost_its_writable_layer)
{
    struct ld_text was;

    ld_have_base(c);
    (void)ld_create(c, "web", "base", NULL);
    ld_change(c, "web", "echo 1 > one");
    (void)ld_take_snapshot(c, "web", "first");
    was = ld_root_digest(c, "web");
    ld_daemon_stop(d);
    ld_test_sh("rm -rf %s/w/*", d->data_root);
    ld_daemon_again(d);
    (void)ld_want_error(c, "corrupt", "POST", NULL, "/v1/containers/web/snapshots");
    (void)ld_want_error(c, "corrupt", "POST", NULL, "/v1/containers/web/clone");
    roll_back(c, "web", "first");
    cr_expect_str_eq(ld_str(ld_want(c, 200, "GET", NULL, "/v1/containers/web"), "state"),
                     "created");
    cr_expect_str_eq(ld_root_digest(c, "web").s, was.s);
}

LD_API_TEST(rollback, refuses_a_state_whose_layer_is_lost)
{
    ld_have_base(c);
    (void)ld_create(c, "web", "base", NULL);
    (void)ld_take_snapshot(c, "web", "good");
    ld_change(c, "web", "echo 1 > one");
    (void)ld_take_snapshot(c, "web", "bad");
    ld_daemon_stop(d);
    ld_test_sh("cd %s/layers && rm -rf $(ls -d [1-9]* | grep -v '[.]' | sort -n | tail -1)",
               d->data_root);
    ld_daemon_again(d);
    (void)ld_want_error(c, "corrupt", "POST", NULL, "/v1/containers/web/snapshots/bad/rollback");
    (void)ld_want_error(c, "corrupt", "POST", "{'snapshot':'bad'}", "/v1/containers/web/clone");
    roll_back(c, "web", "good");
    ld_change(c, "web", "test ! -e one");
}

/* ---- clones ---- */

LD_API_TEST(clones, begin_alike_and_go_on_by_themselves)
{
    cJSON *json;
    struct ld_text was;

    ld_have_app(c);
    (void)ld_create(c, "web", "app",
                    "'labels':{'tier':'front'},'config':{'cmd':['run']},"
                    "'mounts':[{'type':'volume','source':'shared','target':'/srv'},"
                    "{'type':'tmpfs','target':'/tmp','size':65536}]");
    ld_change(c, "web", "echo own > etc/own; echo shared > srv/file; echo anon > data/file");
    was = ld_root_digest(c, "web");
    json = ld_want(c, 201, "POST", "{'name':'twin'}", "/v1/containers/web/clone");
    cr_expect_str_eq(ld_str(json, "name"), "twin");
    cr_expect_str_eq(ld_str(json, "labels.tier"), "front");
    cr_expect_str_eq(ld_str(json, "config.cmd.0"), "run");
    cr_expect_str_eq(ld_str(json, "image.ref"), "app:latest");
    cr_expect_eq(ld_count(json, "mounts"), 3);
    (void)was;
    ld_change(c, "twin",
              "grep -q own etc/own; grep -q shared srv/file; test ! -e data/file;"
              "test -e data/seed; findmnt -no FSTYPE tmp | grep -q tmpfs;"
              "rm etc/own; echo t > etc/twin; echo both > srv/both");
    ld_change(c, "web", "grep -q own etc/own; test ! -e etc/twin; test -e srv/both");
    json =
        ld_want(c, 201, "POST", "{'name':'third','labels':{'a':'b'}}", "/v1/containers/twin/clone");
    cr_expect_eq(ld_count(json, "labels"), 1);
    (void)ld_want(c, 204, "DELETE", NULL, "/v1/containers/web?volumes=1");
    (void)ld_want(c, 204, "DELETE", NULL, "/v1/containers/twin?volumes=1");
    ld_change(c, "third", "test -e etc/twin; test ! -e etc/own; test -e srv/both");
    cr_expect_str_eq(ld_changes(c, "third").data, "modified /, modified /etc, added /etc/twin, "
                                                  "added /srv, added /tmp");
}

LD_API_TEST(clones, of_a_snapshot_outlive_it_and_its_container)
{
    struct ld_text was;

    ld_have_base(c);
    (void)ld_create(c, "web", "base", NULL);
    ld_change(c, "web", "echo 1 > one; rm -r usr");
    (void)ld_take_snapshot(c, "web", "first");
    was = ld_root_digest(c, "web");
    ld_change(c, "web", "echo 2 > two");
    (void)ld_want(c, 201, "POST", "{'name':'twin','snapshot':'first'}", "/v1/containers/web/clone");
    (void)ld_want(c, 204, "DELETE", NULL, "/v1/containers/web/snapshots/first");
    cr_expect_str_eq(ld_root_digest(c, "twin").s, was.s);
    (void)ld_want(c, 204, "DELETE", NULL, "/v1/containers/web");
    (void)ld_want_error(c, "in_use", "DELETE", NULL, "/v1/images/base");
    (void)ld_want(c, 204, "DELETE", NULL, "/v1/images/base?force");
    ld_wait_reaped(d);
    cr_expect_str_eq(ld_root_digest(c, "twin").s, was.s, "the image is gone, its layers are not");
    (void)ld_take_snapshot(c, "twin", "alone");
    (void)ld_want(c, 201, "POST", "{'name':'third'}", "/v1/containers/twin/clone");
    (void)ld_want(c, 204, "DELETE", NULL, "/v1/containers/twin");
    cr_expect_str_eq(ld_root_digest(c, "third").s, was.s);
    (void)ld_want(c, 204, "DELETE", NULL, "/v1/containers/third");
    ld_wait_reaped(d);
    cr_expect_eq(ld_data_count(d, "layers"), 1, "nothing but the empty layer");
}

LD_API_TEST(snapshots, are_named_when_they_keep_an_image)
{
    cJSON *error;

    ld_have_base(c);
    (void)ld_create(c, "web", "base", NULL);
    (void)ld_take_snapshot(c, "web", "first");
    error = ld_want_error(c, "in_use", "DELETE", NULL, "/v1/images/base");
    cr_expect(strstr(ld_str(error, "message"), "snapshot"), "%s", ld_str(error, "message"));
    cr_expect_eq(ld_count(error, "details.users"), 2);
    cr_expect_str_eq(ld_str(error, "details.users.0.kind"), "container");
    cr_expect_str_eq(ld_str(error, "details.users.1.kind"), "snapshot");
    cr_expect_str_eq(ld_str(error, "details.users.1.name"), "first");
}

/* ---- changes, told against the image ---- */

LD_API_TEST(changes, do_not_depend_on_snapshots)
{
    static const char *const steps[] = {
        "echo 1 > etc/one; rm etc/motd; mkdir new; echo x > new/x",
        "rm etc/one; echo motd > etc/motd; mv new newer",
        "rm -rf usr; mkdir usr; echo y > usr/y",
        "rm -rf usr newer; chmod 700 var",
        "mkdir -p usr/lib/deep; echo tool > bin/tool",
    };

    ld_have_base(c);
    (void)ld_create(c, "plain", "base", NULL);
    (void)ld_create(c, "frozen", "base", NULL);
    for (size_t i = 0; i < LD_ARRAY_LEN(steps); i++) {
        struct ld_blob plain, frozen;

        ld_change(c, "plain", steps[i]);
        ld_change(c, "frozen", steps[i]);
        (void)ld_want(c, 201, "POST", NULL, "/v1/containers/frozen/snapshots");
        plain = ld_changes(c, "plain");
        frozen = ld_changes(c, "frozen");
        cr_expect_str_eq(frozen.data, plain.data, "step %zu", i);
        ld_blob_done(&plain);
        ld_blob_done(&frozen);
    }
}

struct reader {
    struct ld_client *client;
    pthread_t thread;
    atomic_bool stop;
    int asked;
    char problem[400];
};

static void *read_changes(void *arg)
{
    struct reader *r = arg;

    while (!atomic_load(&r->stop) && !r->problem[0]) {
        const struct ld_reply *reply = ld_client_call(
            r->client, &(struct ld_call){.method = "GET", .target = "/v1/containers/web/changes"});

        if (!reply || reply->status != 200)
            (void)snprintf(r->problem, sizeof(r->problem), "%s",
                           reply ? reply->body : ld_client_problem(r->client));
        r->asked++;
    }
    return NULL;
}

/* They hold no key: the writable layer moves away under who is about to read it. */
LD_API_TEST(changes, are_told_while_snapshots_are_taken)
{
    struct reader r = {.client = ld_client_new(d->socket)};

    ld_have_base(c);
    (void)ld_create(c, "web", "base", NULL);
    cr_assert_eq(pthread_create(&r.thread, NULL, read_changes, &r), 0);
    for (int i = 0; i < 60; i++) {
        char name[16];

        (void)snprintf(name, sizeof(name), "s%d", i);
        ld_change(c, "web", "date +%N > etc/now");
        (void)ld_take_snapshot(c, "web", name);
    }
    atomic_store(&r.stop, true);
    cr_assert_eq(pthread_join(r.thread, NULL), 0);
    cr_expect_gt(r.asked, 0);
    cr_expect_str_eq(r.problem, "");
    ld_client_free(r.client);
}

LD_API_TEST(diff, of_a_frozen_container_keeps_its_links_whole)
{
    ld_have_base(c);
    (void)ld_create(c, "web", "base", NULL);
    ld_change(c, "web", "echo x > a; ln a b; ln a c");
    (void)ld_want(c, 201, "POST", NULL, "/v1/containers/web/snapshots");
    ld_change(c, "web", "ln a d; echo y > e; ln e f");
    ld_test_sh("mkdir out; curl -sS --unix-socket %s http://x/v1/containers/web/diff | tar -C out "
               "-xp; cd out; test $(stat -c %%h e) = 2; test $(stat -c %%h b) = 2; "
               "test $(stat -c %%h a) = 2; test b -ef c; test a -ef d; test e -ef f",
               d->socket);
}

/* ---- the rest ---- */

LD_API_TEST(snapshots, of_ephemeral_containers_go_with_them)
{
    ld_have_base(c);
    (void)ld_create(c, "web", "base", "'ephemeral':true");
    ld_change(c, "web", "echo 1 > one");
    (void)ld_take_snapshot(c, "web", "first");
    ld_change(c, "web", "echo 2 > two");
    roll_back(c, "web", "first");
    ld_change(c, "web", "test -e one; test ! -e two");
    cr_expect(ld_bool(ld_want(c, 201, "POST", NULL, "/v1/containers/web/clone"), "ephemeral"),
              "what it stands on may not outlive the boot");
}

/* ---- captured ones ---- */

LD_API_TEST(snapshots, of_a_mounted_container_are_exact_when_nobody_writes)
{
    struct ld_text was, at;
    cJSON *json;

    ld_have_base(c);
    (void)ld_create(c, "web", "base", NULL);
    ld_change(c, "web", "echo 0 > zero; ln zero null");
    (void)ld_take_snapshot(c, "web", "before");
    at = ld_mount(c, "web");
    ld_test_sh("cd %s && echo 1 > one && ln one two && rm -r usr && rm zero && mkdir etc/d", at.s);
    was = ld_tree_digest(at.s);
    json = ld_want(c, 201, "POST", "{'name':'first'}", "/v1/containers/web/snapshots");
    cr_expect_str_eq(ld_str(json, "consistency"), "exact");
    ld_test_sh("cd %s && echo 3 > three && rm one", at.s); /* it is writable again */
    (void)ld_take_snapshot(c, "web", "second");
    (void)ld_want(c, 201, "POST", "{'name':'twin'}", "/v1/containers/web/clone");
    cr_expect_str_eq(ld_root_digest(c, "twin").s, ld_tree_digest(at.s).s);
    ld_unmount(c, "web");
    roll_back(c, "web", "first");
    cr_expect_str_eq(ld_root_digest(c, "web").s, was.s);
    ld_expect_df_is_du(d, c);
    (void)ld_want(c, 204, "DELETE", NULL, "/v1/containers/web");
    (void)ld_want(c, 204, "DELETE", NULL, "/v1/containers/twin");
    ld_expect_df_is_du(d, c);
    cr_expect_eq(ld_data_count(d, "layers"), 5);
}

LD_API_TEST(snapshots, of_a_container_that_is_written_to_name_the_writer)
{
    struct ld_text at;
    cJSON *error, *json;
    int up[2], down[2];
    char byte = 0;
    pid_t pid;

    ld_have_base(c);
    (void)ld_create(c, "web", "base", NULL);
    at = ld_mount(c, "web");
    cr_assert(pipe(up) == 0 && pipe(down) == 0);
    pid = fork();
    if (pid == 0) {
        int fd;

        /* Its own mount of the same overlay, in a namespace of its own. */
        if (unshare(CLONE_NEWNS) < 0 || chdir(at.s) < 0)
            _exit(1);
        fd = open("log", O_CREAT | O_WRONLY | O_CLOEXEC, 0644);
        if (fd < 0 || write(fd, "x", 1) != 1 || write(up[1], "x", 1) != 1)
            _exit(1);
        (void)close(down[1]);
        (void)!read(down[0], &byte, 1);
        _exit(write(fd, "y", 1) == 1 ? 0 : 1); /* nobody has taken that away */
    }
    cr_assert_eq(read(up[0], &byte, 1), 1);
    error = ld_want_error(c, "busy", "POST", NULL, "/v1/containers/web/snapshots");
    cr_expect_geq(ld_count(error, "details.holders"), 1);
    cr_expect_eq(ld_int(error, "details.holders.0.pid"), (int64_t)pid);
    (void)ld_want_error(c, "busy", "POST", NULL, "/v1/containers/web/clone");
    json = ld_want(c, 201, "POST", "{'name':'live'}", "/v1/containers/web/snapshots?live=1");
    cr_expect_str_eq(ld_str(json, "consistency"), "fuzzy");
    (void)close(down[1]);
    {
        int status;

        cr_assert_eq(waitpid(pid, &status, 0), pid);
        cr_expect(WIFEXITED(status) && WEXITSTATUS(status) == 0, "it could not write on");
    }
    (void)ld_take_snapshot(c, "web", "still");
    ld_test_sh("grep -qx xy %s/log", at.s);
    ld_unmount(c, "web");
}

LD_API_TEST(snapshots, of_a_vfs_container_are_copies_of_what_it_changed)
{
    struct ld_text was[2];

    ld_have_base(c);
    (void)ld_create(c, "web", "base", "'driver':'vfs'");
    (void)ld_take_snapshot(c, "web", "clean");
    ld_change(c, "web", "echo 1 > one; ln one two; rm -r usr; touch -d @5 etc/motd");
    (void)ld_take_snapshot(c, "web", "first");
    was[0] = ld_root_digest(c, "web");
    ld_change(c, "web", "echo 2 > two; mkdir usr; rm etc/motd; ln -s x y");
    (void)ld_take_snapshot(c, "web", "second");
    was[1] = ld_root_digest(c, "web");
    (void)ld_want(c, 201, "POST", "{'name':'twin'}", "/v1/containers/web/clone");
    (void)ld_want(c, 201, "POST", "{'name':'old','snapshot':'first'}", "/v1/containers/web/clone");
    cr_expect_str_eq(ld_root_digest(c, "twin").s, was[1].s);
    cr_expect_str_eq(ld_root_digest(c, "old").s, was[0].s);
    cr_expect_str_eq(ld_changes(c, "twin").data, ld_changes(c, "web").data);
    roll_back(c, "web", "first");
    cr_expect_str_eq(ld_root_digest(c, "web").s, was[0].s);
    cr_expect_str_eq(ld_changes(c, "web").data, ld_changes(c, "old").data);
    roll_back(c, "web", "clean");
    cr_expect_str_eq(ld_changes(c, "web").data, "");
    (void)ld_mount(c, "web");
    (void)ld_want_error(c, "busy", "POST", NULL, "/v1/containers/web/snapshots");
    cr_expect_str_eq(
        ld_str(ld_want(c, 201, "POST", NULL, "/v1/containers/web/snapshots?live"), "consistency"),
        "fuzzy");
    ld_unmount(c, "web");
    ld_expect_df_is_du(d, c);
}

LD_TEST(snapshots, say_no_space_below_the_watermark_while_removals_work)
{
    struct ld_daemon *d;
    struct ld_client *c;

    ld_close(ld_test_fs("small", "ext4", 600));
    d = ld_daemon_start("small", NULL);
    c = d->client;
    ld_have_base(c);
    (void)ld_create(c, "web", "base", NULL);
    ld_change(c, "web", "echo 1 > one");
    (void)ld_take_snapshot(c, "web", "first");
    ld_test_sh("head -c 1G /dev/zero > /mnt/small/fill 2>/dev/null; true");
    (void)ld_want_error(c, "no_space", "POST", NULL, "/v1/containers/web/snapshots");
    (void)ld_want_error(c, "no_space", "POST", NULL, "/v1/containers/web/clone");
    (void)ld_want_error(c, "no_space", "POST", NULL, "/v1/containers/web/snapshots/first/rollback");
    (void)ld_want(c, 204, "DELETE", NULL, "/v1/containers/web/snapshots/first");
    ld_test_sh("rm /mnt/small/fill");
    (void)ld_take_snapshot(c, "web", "second");
    ld_api_finish(d);
}
