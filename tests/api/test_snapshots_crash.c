/* Snapshots when the daemon ends in the middle of one: what was recorded is completed, what was not
 * is taken back, nothing that was acknowledged is lost. */
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cjson/cJSON.h>

#include "daemon/base/fdio.h"
#include "daemon/base/mem.h"
#include "daemon/base/mountapi.h"
#include "tests/lib/api.h"

/* ---- the daemon ends in the middle ---- */

LD_API_TEST(restart, completes_a_freeze_that_was_recorded_and_not_done)
{
    struct ld_text was;

    ld_have_base(c);
    (void)ld_create(c, "web", "base", NULL);
    ld_change(c, "web", "echo 1 > one; rm -r usr; ln one two");
    was = ld_root_digest(c, "web");
    (void)ld_take_snapshot(c, "web", "first");
    for (int half = 0; half < 3; half++) {
        ld_daemon_stop(d);
        /* What is recorded as layers/N lies in w/N still: before the move, or after it with the
         * work directory not yet gone. */
        ld_test_sh("cd %s; n=$(ls layers | grep -v '[.]' | sort -n | tail -1); mkdir w/$n; "
                   "test %d = 2 || mkdir w/$n/work; test %d = 1 || mv layers/$n w/$n/upper",
                   d->data_root, half, half);
        ld_daemon_again(d);
        cr_expect_str_eq(ld_root_digest(c, "web").s, was.s);
        cr_expect_eq(ld_data_count(d, "w"), 1);
        cr_expect_eq(ld_data_count(d, "layers"), 6);
        ld_expect_df_is_du(d, c);
    }
}

LD_API_TEST(restart, takes_back_a_freeze_that_was_not_recorded)
{
    struct ld_text was;

    ld_have_base(c);
    (void)ld_create(c, "web", "base", NULL);
    ld_change(c, "web", "echo 1 > one");
    was = ld_root_digest(c, "web");
    ld_daemon_kill(d);
    /* The next writable layer is made and marked, the transaction did not come. */
    ld_test_sh("cd %s; n=$(ls w); mkdir -p w/$((n+1))/upper w/$((n+1))/work; "
               "touch staging/making-$((n+1))",
               d->data_root);
    ld_daemon_again(d);
    cr_expect_eq(ld_data_count(d, "w"), 1);
    cr_expect_eq(ld_data_count(d, "staging"), 0);
    cr_expect_eq(ld_data_count(d, "quarantine"), 0);
    cr_expect_str_eq(ld_root_digest(c, "web").s, was.s);
    (void)ld_take_snapshot(c, "web", "first");
    cr_expect_str_eq(ld_root_digest(c, "web").s, was.s);
}

/* ---- kill -9 and power cuts while snapshots are taken ---- */

enum { MAX_ACKED = 2000 };

struct worker {
    pthread_t thread;
    struct ld_daemon *d;
    struct ld_client *client;
    char container[16];
    bool stop;
    int made, gone; /* snapshots s0 … were acknowledged, those below `gone` removed again */
    bool is_removing;
};

static int status_of(struct ld_client *client, const char *method, const char *json,
                     const char *target)
{
    const struct ld_reply *reply =
        ld_client_call(client, &(struct ld_call){.method = method, .target = target, .json = json});

    return reply ? reply->status : 0;
}

/* What is answered while the power goes was perhaps not: a sync that the cut overtakes may say that
 * all is well. Nobody hears of it after a real cut. */
static bool is_over(const struct worker *w)
{
    return __atomic_load_n(&w->stop, __ATOMIC_RELAXED);
}

/* Writes the number of each snapshot into its state; each fifth time goes back, each third removes
 * the oldest, and a clone is made now and then. */
static void *work(void *arg)
{
    struct worker *w = arg;

    while (!is_over(w) && w->made < MAX_ACKED) {
        int n = w->made;
        autofree char *one = ld_asprintf("/v1/containers/%s", w->container);
        autofree char *file = ld_asprintf("%s/files?path=/etc/number", one);
        autofree char *snapshots = ld_asprintf("%s/snapshots", one);
        autofree char *body = ld_asprintf("{'name':'s%d'}", n);
        autofree char *text = ld_asprintf("%d", n);
        autofree char *clone = ld_asprintf("%s/clone", one);
        autofree char *back = ld_asprintf("%s/snapshots/s%d/rollback", one, n);
        autofree char *oldest = ld_asprintf("%s/snapshots/s%d", one, w->gone);
        const struct ld_reply *reply =
            ld_client_call(w->client, &(struct ld_call){.method = "PUT",
                                                        .target = file,
                                                        .content_type = "application/octet-stream",
                                                        .body = text,
                                                        .body_len = strlen(text)});

        if (!reply || reply->status != 200 ||
            status_of(w->client, "POST", body, snapshots) != 201 || is_over(w))
            break;
        w->made++;
        if (n % 5 == 4 && status_of(w->client, "POST", NULL, back) != 200)
            break;
        if (n % 4 == 1 && status_of(w->client, "POST", NULL, clone) != 201)
            break;
        if (n % 3 != 2)
            continue;
        w->is_removing = true;
        if (status_of(w->client, "DELETE", NULL, oldest) != 204 || is_over(w))
            break;
        w->gone++;
        w->is_removing = false;
    }
    return NULL;
}

static void start(struct ld_daemon *d, struct worker *w, int round)
{
    *w = (struct worker){.d = d, .client = ld_client_new(d->socket)};
    (void)snprintf(w->container, sizeof(w->container), "w%d", round);
    (void)ld_create(d->client, w->container, "base", NULL);
    cr_assert_eq(pthread_create(&w->thread, NULL, work, w), 0);
}

static void finish(struct worker *w)
{
    __atomic_store_n(&w->stop, true, __ATOMIC_RELAXED);
    cr_assert_eq(pthread_join(w->thread, NULL), 0);
    ld_client_free(w->client);
}

/* Each acknowledged snapshot is there, and has the number it was taken with. */
static void hold_to_account(struct worker *w)
{
    struct ld_client *c = w->d->client;

    for (int i = w->gone + (w->is_removing ? 1 : 0); i < w->made; i++) {
        autofree char *body = ld_asprintf("{'name':'probe','snapshot':'s%d'}", i);
        autofree char *want = ld_asprintf("%d", i);
        const struct ld_reply *reply;

        (void)ld_want(c, 201, "POST", body, "/v1/containers/%s/clone", w->container);
        reply =
            ld_call(c, &(struct ld_call){.method = "GET",
                                         .target = "/v1/containers/probe/files?path=/etc/number",
                                         .headers = (const char *const[]){
                                             "Accept: application/octet-stream", NULL}});
        cr_expect_eq(reply->status, 200);
        cr_expect_str_eq(reply->body, want, "snapshot s%d of %s has %s", i, w->container,
                         reply->body);
        (void)ld_want(c, 204, "DELETE", NULL, "/v1/containers/probe");
    }
    (void)ld_take_snapshot(c, w->container, "after"); /* and it goes on */
}

static void clear(struct ld_daemon *d)
{
    for (;;) {
        cJSON *json = ld_want(d->client, 200, "GET", NULL, "/v1/containers?limit=1");
        struct ld_text id;

        if (ld_count(json, "items") == 0)
            break;
        id = ld_textf("%s", ld_str(json, "items.0.id"));
        (void)ld_want(d->client, 204, "DELETE", NULL, "/v1/containers/%s", id.s);
    }
    ld_wait_count(d, "layers", 5);
    ld_wait_count(d, "staging", 0);
    ld_expect_df_is_du(d, d->client);
    cr_expect_eq(ld_data_count(d, "w"), 0);
}

static void pause_ms(long ms)
{
    struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};

    (void)nanosleep(&t, NULL); /* how long the worker goes on is the test's input */
}

LD_API_TEST(kill, while_snapshots_are_taken_loses_none_that_was_acknowledged)
{
    int n = 0;

    ld_have_base(c);
    for (int round = 0; round < 8; round++) {
        struct worker w;

        start(d, &w, round);
        pause_ms(40 + 53 * round);
        ld_daemon_kill(d);
        finish(&w);
        ld_daemon_again(d);
        hold_to_account(&w);
        cr_expect_eq(ld_data_count(d, "quarantine"), 0);
        n += w.made;
        clear(d);
    }
    cr_expect_gt(n, 8);
}

LD_TEST(power_cut, while_snapshots_are_taken_loses_none_that_was_acknowledged)
{
    struct ld_daemon *d;
    int n = 0;

    ld_close(ld_test_fs("disk", "ext4", 512));
    d = ld_daemon_start("disk", NULL);
    ld_have_base(d->client);
    for (int round = 0; round < 4; round++) {
        struct worker w;

        start(d, &w, round);
        pause_ms(150 + 170 * round);
        __atomic_store_n(&w.stop, true, __ATOMIC_RELAXED);
        ld_daemon_cut_power(d, "disk");
        finish(&w);
        ld_daemon_again(d);
        hold_to_account(&w);
        n += w.made;
        clear(d);
    }
    cr_expect_gt(n, 4);
    ld_api_finish(d);
}

LD_API_TEST(restart, makes_a_container_writable_that_was_being_captured)
{
    int place = -EBADF;
    struct ld_text at;

    ld_have_base(c);
    (void)ld_create(c, "web", "base", NULL);
    at = ld_mount(c, "web");
    ld_daemon_kill(d);
    place = open(at.s, O_PATH | O_DIRECTORY | O_CLOEXEC);
    cr_assert_eq(ld_mount_set_sb_rdonly(place, true), 0);
    ld_close_p(&place);
    ld_test_sh("! touch %s/x 2>/dev/null", at.s);
    /* And what was copied so far, marked as being made. */
    ld_test_sh("cd %s; n=$(ls w); mkdir staging/layer-$((n+1)); touch staging/making-$((n+1));"
               "mkdir layers/$((n+2)); touch staging/making-$((n+2))",
               d->data_root);
    ld_daemon_again(d);
    ld_test_sh("touch %s/x", at.s);
    cr_expect_eq(ld_data_count(d, "staging"), 0);
    cr_expect_eq(ld_data_count(d, "layers"), 5);
    ld_unmount(c, "web");
}
