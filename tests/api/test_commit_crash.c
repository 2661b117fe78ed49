/* Commits when the daemon ends in the middle of one: an image that was acknowledged is there,
 * whole, as the container was; of any other there is either all or nothing. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <cjson/cJSON.h>

#include "daemon/base/fdio.h"
#include "daemon/base/mem.h"
#include "tests/lib/api.h"
#include "tests/lib/crash.h"

enum { MAX_ACKED = 1000 };

/* Writes the number of each commit into it; each second one is squashed, each fourth follows a
 * snapshot, each third removes the oldest image. */
static void commit(struct ld_crash *crash)
{
    while (crash->made < MAX_ACKED) {
        int n = crash->made;
        autofree char *body =
            ld_asprintf("{'ref':'c:%d','squash':%s}", n, n % 2 ? "true" : "false");
        autofree char *oldest = ld_asprintf("/v1/images/c:%d", crash->gone);

        if (!ld_crash_put_number(crash, n) ||
            (n % 4 == 3 &&
             ld_crash_call(crash, "POST", NULL, "/v1/containers/web/snapshots") != 201) ||
            !ld_crash_made(crash,
                           ld_crash_call(crash, "POST", body, "/v1/containers/web/commit")) ||
            (n % 3 == 2 && !ld_crash_remove_oldest(crash, oldest)))
            break;
    }
}

static void start(struct ld_daemon *d, struct ld_crash *crash)
{
    (void)ld_create(d->client, "web", "base", NULL);
    ld_crash_start(crash, d, "/v1/containers/web", commit);
}

/* An export holds each layer against its diff ID. */
static void expect_whole(struct ld_client *c, const char *image)
{
    autoclose int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
    autofree char *target = ld_asprintf("/v1/images/%s/export", image);

    cr_expect_eq(
        ld_call(c, &(struct ld_call){.method = "GET", .target = target, .to_fd = null})->status,
        200);
}

static void hold_to_account(const struct ld_crash *crash)
{
    struct ld_client *c = crash->d->client;

    for (int i = ld_crash_first(crash); i < crash->made; i++) {
        autofree char *image = ld_asprintf("c:%d", i);

        (void)ld_create(c, "probe", image, NULL);
        ld_crash_expect_number(c, "/v1/containers/probe", i);
        expect_whole(c, image);
    }
    if (crash->made > 0) { /* wherever it stands by now */
        autofree char *last =
            ld_asprintf("n=$(cat number); test $n = %d -o $n = %d", crash->made - 1, crash->made);

        ld_change(c, "web", last);
    }
    (void)ld_want(c, 201, "POST", "{'ref':'after'}", "/v1/containers/web/commit");
}

/* All images but the base, by their ids: one that was not acknowledged is whole all the same. */
static void clear(struct ld_daemon *d)
{
    struct ld_text base =
        ld_textf("%s", ld_str(ld_want(d->client, 200, "GET", NULL, "/v1/images/base"), "id"));

    (void)ld_want(d->client, 204, "DELETE", NULL, "/v1/containers/web");
    for (;;) {
        cJSON *json = ld_want(d->client, 200, "GET", NULL, "/v1/images");
        const cJSON *image, *other = NULL;
        struct ld_text id;

        cJSON_ArrayForEach (image, ld_at(json, "items"))
            other = strcmp(ld_str(image, "id"), base.s) != 0 ? image : other;
        if (!other)
            break;
        cr_expect_str_eq(ld_str(other, "state"), "ok");
        id = ld_textf("%s", ld_str(other, "id"));
        expect_whole(d->client, id.s);
        (void)ld_want(d->client, 204, "DELETE", NULL, "/v1/images/%s?force", id.s);
    }
    ld_expect_df_is_du(d, d->client);
    cr_expect_eq(ld_data_count(d, "w"), 0);
    cr_expect_eq(ld_data_count(d, "staging"), 0);
    cr_expect_eq(ld_data_count(d, "quarantine"), 0);
    cr_expect_eq(ld_data_count(d, "layers"), 5);
}

LD_API_TEST(kill, while_commits_are_made_loses_none_that_was_acknowledged)
{
    int n = 0;

    ld_have_base(c);
    for (int round = 0; round < 8; round++) {
        struct ld_crash crash;

        start(d, &crash);
        ld_crash_kill(&crash, 60 + 67 * round);
        hold_to_account(&crash);
        n += crash.made;
        clear(d);
    }
    cr_expect_gt(n, 8);
}

LD_TEST(power_cut, while_commits_are_made_loses_none_that_was_acknowledged)
{
    struct ld_daemon *d;
    int n = 0;

    ld_close(ld_test_fs("disk", "ext4", 512));
    d = ld_daemon_start("disk", NULL);
    ld_have_base(d->client);
    for (int round = 0; round < 4; round++) {
        struct ld_crash crash;

        start(d, &crash);
        ld_crash_cut_power(&crash, 200 + 230 * round, "disk");
        hold_to_account(&crash);
        n += crash.made;
        clear(d);
    }
    cr_expect_gt(n, 4);
    ld_api_finish(d);
}

/* Published and marked, the transaction did not come; and staged only. */
LD_API_TEST(restart, takes_back_a_commit_that_was_not_recorded)
{
    ld_have_base(c);
    (void)ld_create(c, "web", "base", NULL);
    ld_change(c, "web", "echo 1 > one");
    ld_daemon_kill(d);
    ld_test_sh(
        "cd %s; n=$(ls w); for i in 1 2; do mkdir layers/$((n+i)) staging/$((n+i+2)); "
        "touch layers/$((n+i)).recipe staging/making-$((n+i)) staging/$((n+i+2)).recipe; done",
        d->data_root);
    ld_daemon_again(d);
    cr_expect_eq(ld_data_count(d, "staging"), 0);
    cr_expect_eq(ld_data_count(d, "quarantine"), 0);
    ld_wait_reaped(d);
    cr_expect_eq(ld_data_count(d, "layers"), 5);
    (void)ld_want(c, 201, "POST", "{'ref':'web'}", "/v1/containers/web/commit");
    ld_expect_df_is_du(d, c);
}

static void pause_ms(long ms)
{
    struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};

    (void)nanosleep(&t, NULL); /* how far it comes is the test's input */
}

/* One that was cut off while a mounted container was copied leaves it read-only for nobody. */
LD_API_TEST(kill, while_a_mounted_container_is_committed_leaves_it_writable)
{
    struct ld_text at;

    ld_have_base(c);
    (void)ld_create(c, "web", "base", NULL);
    at = ld_mount(c, "web");
    ld_test_sh("head -c 64M /dev/urandom > %s/big", at.s);
    for (int i = 0; i < 4; i++) {
        const struct ld_reply *reply = ld_call(
            c, &(struct ld_call){.method = "POST",
                                 .target = "/v1/containers/web/commit",
                                 .headers = (const char *const[]){"Prefer: respond-async", NULL}});

        cr_assert_eq(reply->status, 202);
        pause_ms(3 * i);
        ld_daemon_kill(d);
        ld_daemon_again(d);
        ld_test_sh("echo %d >> %s/log", i, at.s);
        cr_expect_eq(ld_data_count(d, "staging"), 0);
    }
    ld_unmount(c, "web");
    ld_expect_df_is_du(d, c);
}
