/* Snapshots of volumes: exact copies to return to or to clone; gone with their volume, back with it
 * from the trash; whole or not there after a kill. */
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <cjson/cJSON.h>

#include "daemon/base/clock.h"
#include "daemon/base/fdio.h"
#include "daemon/base/mem.h"
#include "tests/lib/api.h"

/* A container with the volume at /v, not mounted; its commands run in there. */
static void have_user(struct ld_client *c)
{
    ld_have_base(c);
    (void)ld_create(c, "web", "base", "'mounts':[{'type':'volume','source':'data','target':'/v'}]");
}

static struct ld_text digest(struct ld_client *c)
{
    struct ld_text at = ld_mount(c, "web");
    struct ld_text text = ld_tree_digest(ld_textf("%s/v", at.s).s);

    ld_unmount(c, "web");
    return text;
}

static struct ld_text take(struct ld_client *c, const char *name)
{
    cJSON *json =
        ld_want(c, 201, "POST", ld_textf("{'name':'%s'}", name).s, "/v1/volumes/data/snapshots");

    cr_expect_str_eq(ld_str(json, "consistency"), "exact");
    return ld_textf("%s", ld_str(json, "id"));
}

static void roll_back(struct ld_client *c, const char *name)
{
    cJSON *json = ld_want(c, 200, "POST", NULL, "/v1/volumes/data/snapshots/%s/rollback", name);

    cr_expect_str_eq(ld_str(json, "name"), "data");
}

LD_API_TEST(volume_snapshots, go_back_and_forth)
{
    static const char *const any[] = {"If-None-Match: *", NULL};
    struct ld_text was[3], id;
    cJSON *json;

    have_user(c);
    was[0] = digest(c);
    (void)take(c, "empty");
    ld_change(c, "web",
              "cd v; mkdir -p a/b; echo one > a/one; ln a/one a/b/same; ln -s x link; mkfifo fifo;"
              "truncate -s 20M sparse; chmod 4711 a/one; chown 5:6 a/b; setfattr -n user.x -v y a;"
              "touch -d '2001-02-03 04:05:06.789' a; chmod 1770 .; chown 7:8 .");
    was[1] = digest(c);
    id = take(c, "first");
    cr_expect_not_null(ld_client_header(c, "Location"));
    ld_change(c, "web", "cd v; rm -r a; echo two > two; chmod 755 .");
    was[2] = digest(c);
    (void)ld_want(c, 201, "POST", "{'name':'second','labels':{'a':'b'}}",
                  "/v1/volumes/data/snapshots");
    json = ld_want(c, 200, "GET", NULL, "/v1/volumes/data/snapshots");
    cr_expect_eq(ld_count(json, "items"), 3);
    cr_expect_str_eq(ld_str(json, "items.1.name"), "first");
    json = ld_want(c, 200, "GET", NULL, "/v1/volumes/data/snapshots?filter=label=a");
    cr_expect_str_eq(ld_str(json, "items.0.name"), "second");
    json = ld_want(c, 200, "GET", NULL, "/v1/volumes/data/snapshots/%.8s", id.s);
    cr_expect_str_eq(ld_str(json, "id"), id.s);
    cr_expect_eq(ld_call(c, &(struct ld_call){.method = "GET",
                                              .target = "/v1/volumes/data/snapshots/first",
                                              .headers = any})
                     ->status,
                 304);
    roll_back(c, "first");
    cr_expect_str_eq(digest(c).s, was[1].s);
    roll_back(c, "empty");
    cr_expect_str_eq(digest(c).s, was[0].s);
    roll_back(c, "second");
    cr_expect_str_eq(digest(c).s, was[2].s);
    roll_back(c, id.s);
    ld_change(c, "web", "cd v; echo changed >> a/one"); /* which no snapshot sees */
    roll_back(c, "first");
    cr_expect_str_eq(digest(c).s, was[1].s);
    (void)ld_want(c, 201, "POST", "{'name':'twin','snapshot':'second'}", "/v1/volumes/data/clone");
    (void)ld_want(c, 200, "HEAD", NULL, "/v1/volumes/twin/files?path=/two");
    (void)ld_want_error(c, "not_found", "POST", "{'snapshot':'third'}", "/v1/volumes/data/clone");
    json = ld_want(c, 200, "DELETE", NULL, "/v1/volumes/data/snapshots/second?dry_run=1");
    cr_expect_str_eq(ld_str(json, "would_remove.0.kind"), "snapshot");
    (void)ld_want(c, 204, "DELETE", NULL, "/v1/volumes/data/snapshots/second");
    (void)ld_want_error(c, "not_found", "GET", NULL, "/v1/volumes/data/snapshots/second");
    ld_wait_reaped(d);
    cr_expect_eq(ld_data_count(d, "volumes"), 4);
    cr_expect_eq(ld_data_count(d, "staging"), 0);
    ld_expect_df_is_du(d, c);
    cr_expect(ld_bool(ld_want(c, 200, "POST", NULL, "/v1/check"), "ok"));
}

LD_API_TEST(volume_snapshots, of_a_mounted_volume_are_refused_unless_they_are_live)
{
    cJSON *json;

    have_user(c);
    (void)take(c, "first");
    cr_expect_eq(ld_int(ld_want(c, 200, "GET", NULL, "/v1/df"), "volumes.count"), 1);
    (void)ld_mount(c, "web");
    json = ld_want_error(c, "in_use", "POST", NULL, "/v1/volumes/data/snapshots");
    cr_expect_str_eq(ld_str(json, "details.users.0.name"), "web");
    json = ld_want_error(c, "in_use", "POST", NULL, "/v1/volumes/data/snapshots/first/rollback");
    cr_expect_str_eq(ld_str(json, "details.users.0.name"), "web");
    json = ld_want(c, 201, "POST", NULL, "/v1/volumes/data/snapshots?live=1");
    cr_expect_str_eq(ld_str(json, "consistency"), "fuzzy");
    cr_expect(ld_is_null(json, "name"));
    (void)ld_want(c, 201, "POST", "{'name':'of-it','snapshot':'first'}", "/v1/volumes/data/clone");
    (void)ld_want(c, 204, "DELETE", NULL, "/v1/volumes/data/snapshots/first");
    ld_unmount(c, "web");
}

/* Our own clone of what was unmounted waits for others to be closed, which wait for the disk. */
LD_TEST(volume_snapshots, are_refused_while_a_process_holds_what_was_just_unmounted)
{
    struct ld_daemon *d;
    struct ld_client *c;
    struct ld_text at;
    pid_t holder;

    ld_close(ld_test_fs("disk", "ext4", 512));
    d = ld_daemon_start("disk", NULL);
    c = d->client;
    have_user(c);
    at = ld_mount(c, "web");
    for (int i = 0; i < 6; i++) {
        struct ld_text name = ld_textf("dirty%d", i);

        (void)ld_create(c, name.s, "base", NULL);
        ld_test_sh("head -c 10M /dev/urandom > %s/file", ld_mount(c, name.s).s);
    }
    holder = ld_hold_elsewhere(at.s);
    for (int i = 0; i < 6; i++)
        ld_unmount(c, ld_textf("dirty%d", i).s);
    ld_unmount(c, "web");
    (void)ld_want_error(c, "in_use", "POST", NULL, "/v1/volumes/data/snapshots");
    ld_hold_end(holder);
    (void)ld_want(c, 201, "POST", NULL, "/v1/volumes/data/snapshots");
    ld_api_finish(d);
}

LD_API_TEST(volume_snapshots, go_with_their_volume_and_come_back_with_it)
{
    struct ld_text was;

    have_user(c);
    ld_change(c, "web", "echo one > v/file");
    was = digest(c);
    (void)take(c, "first");
    ld_change(c, "web", "rm v/file");
    (void)ld_want(c, 204, "DELETE", NULL, "/v1/containers/web");
    (void)ld_want(c, 204, "DELETE", NULL, "/v1/volumes/data");
    (void)ld_want_error(c, "not_found", "GET", NULL, "/v1/volumes/data/snapshots");
    cr_expect_geq(ld_int(ld_want(c, 200, "DELETE", NULL, "/v1/trash?dry_run=1"), "bytes"), 4096,
                  "the snapshot's file goes with it");
    ld_daemon_kill(d);
    ld_daemon_again(d);
    (void)ld_want(c, 200, "POST", NULL, "/v1/trash/data/restore");
    ld_expect_df_is_du(d, c);
    roll_back(c, "first");
    (void)ld_create(c, "web", "base", "'mounts':[{'type':'volume','source':'data','target':'/v'}]");
    cr_expect_str_eq(digest(c).s, was.s);
    (void)ld_want(c, 204, "DELETE", NULL, "/v1/containers/web");
    (void)ld_want(c, 204, "DELETE", NULL, "/v1/volumes/data");
    (void)ld_want(c, 204, "DELETE", NULL, "/v1/trash");
    ld_wait_count(d, "volumes", 0);
    (void)ld_want(c, 201, "POST", "{'name':'data'}", "/v1/volumes");
    (void)take(c, "again");
    (void)ld_want(c, 204, "DELETE", NULL, "/v1/volumes/data?purge=1");
    ld_wait_reaped(d);
    cr_expect_eq(ld_data_count(d, "volumes"), 0);
    ld_expect_df_is_du(d, c);
}

LD_API_TEST(volume_snapshots, are_refused_with_the_right_code)
{
    static const struct {
        const char *code, *method, *target, *body;
    } rows[] = {
        {"not_found", "GET", "none/snapshots", NULL},
        {"not_found", "POST", "none/snapshots", NULL},
        {"not_found", "GET", "none/snapshots/s", NULL},
        {"not_found", "GET", "data/snapshots/none", NULL},
        {"not_found", "DELETE", "data/snapshots/none", NULL},
        {"not_found", "POST", "data/snapshots/none/rollback", NULL},
        {"exists", "POST", "data/snapshots", "{'name':'s'}"},
        {"invalid", "POST", "data/snapshots", "{'name':'S'}"},
        {"invalid", "POST", "data/snapshots", "{'x':1}"},
        {"invalid", "POST", "data/snapshots?live=maybe", NULL},
        {"invalid", "POST", "data/snapshots/s/rollback", "{'x':1}"},
        {"invalid", "GET", "data/snapshots?filter=x=y", NULL},
        {"invalid", "GET", "data/snapshots/s?x=y", NULL},
        {"invalid", "DELETE", "data/snapshots/s?dry_run=x", NULL},
    };
    static const char *const targets[] = {"/v1/volumes/data/snapshots",
                                          "/v1/volumes/data/snapshots/s/rollback"};
    static const char *const stale[] = {"If-Match: \"7\"", NULL};
    autofree char *huge = ld_alloc0((1 << 20) + 100);
    cJSON *json;

    (void)ld_want(c, 201, "POST", "{'name':'data'}", "/v1/volumes");
    (void)take(c, "s");
    for (size_t i = 0; i < LD_ARRAY_LEN(rows); i++)
        (void)ld_want_error(c, rows[i].code, rows[i].method, rows[i].body, "/v1/volumes/%s",
                            rows[i].target);
    memset(huge, ' ', (1 << 20) + 99);
    for (size_t i = 0; i < LD_ARRAY_LEN(targets); i++) {
        struct ld_call call = {.method = "POST",
                               .target = targets[i],
                               .content_type = "application/json",
                               .body = huge,
                               .body_len = (1 << 20) + 99};

        cr_expect_eq(ld_call(c, &call)->status, 413);
        call.content_type = "text/plain";
        call.body_len = 1;
        cr_expect_eq(ld_call(c, &call)->status, 415);
    }
    cr_expect_eq(ld_call(c, &(struct ld_call){.method = "DELETE",
                                              .target = "/v1/volumes/data/snapshots/s",
                                              .headers = stale})
                     ->status,
                 412);
    cr_expect_eq(ld_data_count(d, "volumes"), 2);
    ld_daemon_stop(d);
    ld_test_sh("rm -rf %s/volumes/*", d->data_root);
    ld_daemon_again(d);
    json = ld_want(c, 200, "POST", NULL, "/v1/check");
    cr_expect_eq(ld_count(json, "findings"), 2);
    cr_expect_str_eq(ld_str(json, "findings.0.kind"), "snapshot");
    cr_expect_str_eq(ld_str(json, "findings.0.name"), "s");
    (void)ld_want_error(c, "corrupt", "POST", NULL, "/v1/volumes/data/snapshots");
    (void)ld_want_error(c, "corrupt", "POST", NULL, "/v1/volumes/data/snapshots/s/rollback");
    (void)ld_want_error(c, "corrupt", "POST", "{'snapshot':'s'}", "/v1/volumes/data/clone");
    (void)ld_want(c, 204, "DELETE", NULL, "/v1/volumes/data/snapshots/s");
    cr_expect_eq(ld_data_count(d, "volumes"), 0);
    cr_expect_eq(ld_data_count(d, "staging"), 0);
}

LD_API_TEST(volume_snapshots, whose_ids_begin_alike_are_ambiguous)
{
    static struct ld_text ids[2000];
    char prefix[5] = "";

    (void)ld_want(c, 201, "POST", "{'name':'data'}", "/v1/volumes");
    for (int n = 0; n < 2000 && !prefix[0]; n++) {
        ids[n] = ld_textf(
            "%s", ld_str(ld_want(c, 201, "POST", NULL, "/v1/volumes/data/snapshots"), "id"));
        for (int i = 0; i < n && !prefix[0]; i++) {
            if (strncmp(ids[i].s, ids[n].s, 4) == 0)
                (void)snprintf(prefix, sizeof(prefix), "%.4s", ids[n].s);
        }
    }
    cr_assert_neq(prefix[0], '\0');
    (void)ld_want_error(c, "conflict", "GET", NULL, "/v1/volumes/data/snapshots/%s", prefix);
    (void)ld_want_error(c, "conflict", "DELETE", NULL, "/v1/volumes/data/snapshots/%s", prefix);
    (void)ld_want_error(c, "conflict", "POST", NULL, "/v1/volumes/data/snapshots/%s/rollback",
                        prefix);
}

LD_API_TEST(volume_snapshots, are_made_once_under_a_key)
{
    struct ld_call call = {.method = "POST",
                           .target = "/v1/volumes/data/snapshots",
                           .headers = (const char *[]){"Idempotency-Key: k", NULL}};
    struct ld_text id;

    (void)ld_want(c, 201, "POST", "{'name':'data'}", "/v1/volumes");
    id = ld_textf("%s", ld_str(ld_call(c, &call)->json, "id"));
    cr_expect_str_eq(ld_str(ld_call(c, &call)->json, "id"), id.s);
    cr_expect_eq(ld_data_count(d, "volumes"), 2);
    (void)ld_want(c, 204, "DELETE", NULL, "/v1/volumes/data/snapshots/%s", id.s);
    cr_expect_eq(ld_call(c, &call)->status, 409);
}

LD_TEST(volume_snapshots, say_no_space_and_leave_nothing_on_a_full_disk)
{
    struct ld_daemon *d;
    struct ld_client *c;

    ld_close(ld_test_fs("small", "ext4", 600));
    d = ld_daemon_start("small", NULL);
    c = d->client;
    (void)ld_want(c, 201, "POST", "{'name':'data'}", "/v1/volumes");
    (void)take(c, "s");
    ld_test_sh("head -c 1G /dev/zero > /mnt/small/fill 2>/dev/null; true");
    (void)ld_want_error(c, "no_space", "POST", NULL, "/v1/volumes/data/snapshots");
    (void)ld_want_error(c, "no_space", "POST", NULL, "/v1/volumes/data/snapshots/s/rollback");
    cr_expect_eq(ld_data_count(d, "volumes"), 2);
    cr_expect_eq(ld_data_count(d, "staging"), 0);
    (void)ld_want(c, 204, "DELETE", NULL, "/v1/volumes/data/snapshots/s");
    ld_test_sh("rm /mnt/small/fill");
    ld_api_finish(d);
}

/* ---- kill -9 ---- */

struct worker {
    struct ld_client *client;
    const char *target, *json;
    int status;
    pthread_t thread;
};

static void *do_it(void *arg)
{
    struct worker *k = arg;
    const struct ld_reply *reply = ld_client_call(
        k->client, &(struct ld_call){.method = "POST", .target = k->target, .json = k->json});

    k->status = reply ? reply->status : 0;
    return NULL;
}

static void cut_off(struct ld_daemon *d, struct worker *k, uint64_t after_us)
{
    struct timespec ts = {.tv_sec = (time_t)(after_us / 1000000),
                          .tv_nsec = (long)(after_us % 1000000) * 1000};

    k->client = ld_client_new(d->socket);
    cr_assert_eq(pthread_create(&k->thread, NULL, do_it, k), 0);
    (void)nanosleep(&ts, NULL);
    ld_daemon_kill(d);
    cr_assert_eq(pthread_join(k->thread, NULL), 0);
    ld_client_free(k->client);
    ld_daemon_again(d);
    cr_expect_eq(ld_data_count(d, "staging"), 0);
    cr_expect_eq(ld_data_count(d, "quarantine"), 0);
}

/* A snapshot is whole or not there; a rollback happened or did not. */
LD_API_TEST(volume_snapshots, survive_a_kill_at_any_moment)
{
    enum { ROUNDS = 10 };
    struct ld_text was[2];
    uint64_t took_us;
    int n_taken = 0, n_back = 0;

    have_user(c);
    ld_change(c, "web",
              "cd v; for i in $(seq 20); do mkdir $i; for k in $(seq 40); do echo $i.$k > $i/$k;"
              "done; done");
    was[0] = digest(c);
    took_us = ld_monotonic_ms() * 1000;
    (void)take(c, "base");
    took_us = ld_monotonic_ms() * 1000 - took_us;
    ld_change(c, "web", "rm -r v/7; echo x > v/x");
    was[1] = digest(c);
    for (uint64_t round = 0; round < ROUNDS; round++) {
        struct worker snap = {.target = "/v1/volumes/data/snapshots", .json = "{'name':'cut'}"};
        struct worker back = {.target = "/v1/volumes/data/snapshots/base/rollback"};
        bool is_there;
        struct ld_text now;

        cut_off(d, &snap, (round + 1) * took_us * 13 / 10 / ROUNDS);
        is_there = ld_data_count(d, "volumes") == 3;
        cr_expect(is_there || snap.status != 201, "what was answered is there");
        n_taken += is_there;
        cut_off(d, &back, (round + 1) * took_us * 13 / 10 / ROUNDS);
        now = digest(c);
        cr_expect(strcmp(now.s, was[0].s) == 0 || strcmp(now.s, was[1].s) == 0, "nothing between");
        cr_expect(back.status != 200 || strcmp(now.s, was[0].s) == 0);
        n_back += strcmp(now.s, was[0].s) == 0;
        if (is_there) {
            roll_back(c, "cut");
            cr_expect_str_eq(digest(c).s, was[1].s);
            (void)ld_want(c, 204, "DELETE", NULL, "/v1/volumes/data/snapshots/cut");
        } else {
            (void)ld_want(c, 201, "POST", "{'name':'base2','snapshot':'base'}",
                          "/v1/volumes/data/clone");
            (void)ld_want(c, 204, "DELETE", NULL, "/v1/volumes/base2?purge=1");
            roll_back(c, "base");
            ld_change(c, "web", "rm -r v/7; echo x > v/x");
            was[1] = digest(c);
        }
        ld_wait_reaped(d);
        cr_expect_eq(ld_data_count(d, "volumes"), 2);
        ld_expect_df_is_du(d, c);
    }
    fprintf(stderr, "of %d: %d snapshots were taken, %d rollbacks done\n", ROUNDS, n_taken, n_back);
}
