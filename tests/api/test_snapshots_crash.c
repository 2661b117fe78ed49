/* Snapshots when the daemon ends in the middle of one: what was recorded is completed, what was not
 * is taken back, nothing that was acknowledged is lost. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cjson/cJSON.h>

#include "daemon/base/fdio.h"
#include "daemon/base/mem.h"
#include "daemon/base/mountapi.h"
#include "tests/lib/api.h"
#include "tests/lib/crash.h"

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

/* Writes the number of each snapshot into its state; each fifth time goes back, each third removes
 * the oldest, and a clone is made now and then. */
static void take_snapshots(struct ld_crash *crash)
{
    autofree char *snapshots = ld_asprintf("%s/snapshots", crash->owner);
    autofree char *clone = ld_asprintf("%s/clone", crash->owner);

    while (crash->made < MAX_ACKED) {
        int n = crash->made;
        autofree char *body = ld_asprintf("{'name':'s%d'}", n);
        autofree char *back = ld_asprintf("%s/s%d/rollback", snapshots, n);
        autofree char *oldest = ld_asprintf("%s/s%d", snapshots, crash->gone);

        if (!ld_crash_put_number(crash, n) ||
            !ld_crash_made(crash, ld_crash_call(crash, "POST", body, snapshots)) ||
            (n % 5 == 4 && ld_crash_call(crash, "POST", NULL, back) != 200) ||
            (n % 4 == 1 && ld_crash_call(crash, "POST", NULL, clone) != 201) ||
            (n % 3 == 2 && !ld_crash_remove_oldest(crash, oldest)))
            break;
    }
}

static struct ld_text start(struct ld_daemon *d, int round)
{
    struct ld_text name = ld_textf("w%d", round);

    (void)ld_create(d->client, name.s, "base", NULL);
    return ld_textf("/v1/containers/%s", name.s);
}

/* Each acknowledged snapshot is there, and has the number it was taken with. */
static void hold_to_account(const struct ld_crash *crash)
{
    struct ld_client *c = crash->d->client;

    for (int i = ld_crash_first(crash); i < crash->made; i++) {
        autofree char *body = ld_asprintf("{'name':'probe','snapshot':'s%d'}", i);

        (void)ld_want(c, 201, "POST", body, "%s/clone", crash->owner);
        ld_crash_expect_number(c, "/v1/containers/probe", i);
    }
    (void)ld_want(c, 201, "POST", NULL, "%s/snapshots", crash->owner); /* and it goes on */
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

LD_API_TEST(kill, while_snapshots_are_taken_loses_none_that_was_acknowledged)
{
    int n = 0;

    ld_have_base(c);
    for (int round = 0; round < 8; round++) {
        struct ld_text owner = start(d, round);
        struct ld_crash crash;

        ld_crash_start(&crash, d, owner.s, take_snapshots);
        ld_crash_kill(&crash, 40 + 53 * round);
        hold_to_account(&crash);
        cr_expect_eq(ld_data_count(d, "quarantine"), 0);
        n += crash.made;
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
        struct ld_text owner = start(d, round);
        struct ld_crash crash;

        ld_crash_start(&crash, d, owner.s, take_snapshots);
        ld_crash_cut_power(&crash, 150 + 170 * round, "disk");
        hold_to_account(&crash);
        n += crash.made;
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
