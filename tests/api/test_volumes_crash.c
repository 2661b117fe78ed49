/* Volumes, their snapshots and clones when the power goes: what was acknowledged is there, whole,
 * and of anything else there is all or nothing. */
#include <stdio.h>

#include <cjson/cJSON.h>

#include "daemon/base/fdio.h"
#include "daemon/base/mem.h"
#include "tests/lib/api.h"
#include "tests/lib/crash.h"

enum { MAX_ACKED = 1000, ROUNDS = 4 };

static const char volume[] = "/v1/volumes/data";

/* Writes the number of each snapshot into the volume; each fourth time goes back to it, each second
 * makes a clone of it, each third removes the oldest. */
static void take_snapshots(struct ld_crash *crash)
{
    while (crash->made < MAX_ACKED) {
        int n = crash->made;
        autofree char *body = ld_asprintf("{'name':'s%d'}", n);
        autofree char *back = ld_asprintf("%s/snapshots/s%d/rollback", volume, n);
        autofree char *clone = ld_asprintf("{'name':'c%d','snapshot':'s%d'}", n, n);
        autofree char *oldest = ld_asprintf("%s/snapshots/s%d", volume, crash->gone);

        if (!ld_crash_put_number(crash, n) ||
            ld_crash_call(crash, "POST", body, "/v1/volumes/data/snapshots") != 201 ||
            (n % 4 == 3 && ld_crash_call(crash, "POST", NULL, back) != 200) ||
            (n % 2 == 1 && ld_crash_call(crash, "POST", clone, "/v1/volumes/data/clone") != 201) ||
            !ld_crash_made(crash, 201) || (n % 3 == 2 && !ld_crash_remove_oldest(crash, oldest)))
            break;
    }
}

static void hold_to_account(const struct ld_crash *crash)
{
    struct ld_client *c = crash->d->client;

    for (int i = ld_crash_first(crash); i < crash->made; i++) {
        autofree char *body = ld_asprintf("{'name':'probe','snapshot':'s%d'}", i);

        (void)ld_want(c, 201, "POST", body, "%s/clone", volume);
        ld_crash_expect_number(c, "/v1/volumes/probe", i);
    }
    for (int i = 1; i < crash->made; i += 2) {
        struct ld_text clone = ld_textf("/v1/volumes/c%d", i);

        ld_crash_expect_number(c, clone.s, i);
    }
    (void)ld_want(c, 201, "POST", "{'name':'after'}", "%s/snapshots", volume);
}

/* One that was not acknowledged, whole all the same, is among them. */
static void clear(struct ld_daemon *d)
{
    for (;;) {
        cJSON *json = ld_want(d->client, 200, "GET", NULL, "/v1/volumes?limit=1");
        struct ld_text id;

        if (ld_count(json, "items") == 0)
            break;
        cr_expect_str_eq(ld_str(json, "items.0.state"), "ok");
        id = ld_textf("%s", ld_str(json, "items.0.id"));
        (void)ld_want(d->client, 204, "DELETE", NULL, "/v1/volumes/%s?purge=1", id.s);
    }
    ld_expect_df_is_du(d, d->client);
    cr_expect_eq(ld_data_count(d, "volumes"), 0);
    cr_expect_eq(ld_data_count(d, "staging"), 0);
    cr_expect_eq(ld_data_count(d, "quarantine"), 0);
}

LD_TEST(power_cut, while_volumes_are_snapshotted_loses_none_that_was_acknowledged)
{
    struct ld_daemon *d;
    int n = 0;

    ld_close(ld_test_fs("disk", "ext4", 512));
    d = ld_daemon_start("disk", NULL);
    for (int round = 0; round < ROUNDS; round++) {
        struct ld_crash crash;

        (void)ld_want(d->client, 201, "PUT", "{}", volume);
        ld_crash_start(&crash, d, volume, take_snapshots);
        ld_crash_cut_power(&crash, 150 + 230 * round, "disk");
        hold_to_account(&crash);
        n += crash.made;
        clear(d);
    }
    cr_expect_gt(n, ROUNDS);
    ld_api_finish(d);
}
