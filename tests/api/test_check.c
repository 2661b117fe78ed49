/* POST /v1/check: what is wrong between records, disk and kernel is found, and nothing else is. */
#include <stdio.h>
#include <string.h>

#include <cjson/cJSON.h>

#include "daemon/base/mem.h"
#include "tests/lib/api.h"

static const cJSON *check(struct ld_client *c)
{
    return ld_want(c, 200, "POST", NULL, "/v1/check");
}

/* The only finding. */
static void expect_one(struct ld_client *c, const char *kind, const char *id, const char *problem)
{
    const cJSON *json = check(c);

    cr_expect_not(ld_bool(json, "ok"));
    cr_assert_eq(ld_count(json, "findings"), 1, "%s", cJSON_PrintUnformatted(json));
    cr_expect_str_eq(ld_str(json, "findings.0.kind"), kind);
    if (id)
        cr_expect_str_eq(ld_str(json, "findings.0.id"), id);
    cr_expect(strstr(ld_str(json, "findings.0.problem"), problem), "%s",
              ld_str(json, "findings.0.problem"));
}

LD_API_TEST(check, finds_nothing_where_all_is_well)
{
    const cJSON *json;

    ld_have_app(c);
    (void)ld_create(c, "one", "app", NULL);
    (void)ld_create(c, "two", "app", "'driver':'vfs'");
    (void)ld_mount(c, "one");
    (void)ld_mount(c, "two");
    (void)ld_create(c, "three", "app", NULL);
    ld_change(c, "three", "echo x > x");
    (void)ld_take_snapshot(c, "three", "s");
    json = check(c);
    cr_expect(ld_bool(json, "ok"), "%s", cJSON_PrintUnformatted(json));
    cr_expect_eq(ld_int(json, "checked.layers"), 4);
    cr_expect_eq(ld_int(json, "checked.containers"), 3);
    cr_expect_eq(ld_int(json, "checked.volumes"), 3);
    cr_expect_eq(ld_int(json, "checked.mounts"), 2);
    cr_expect_not(ld_bool(json, "truncated"));
    ld_unmount(c, "one");
    ld_unmount(c, "two");
    cr_expect(ld_bool(check(c), "ok"));
}

LD_API_TEST(check, finds_what_is_missing_on_the_disk)
{
    struct ld_text id, volume;

    ld_have_base(c);
    id = ld_create(c, "web", "base", NULL);
    ld_test_sh("cd %s/w && ls >/mnt/name && mv * /mnt/lost", d->data_root);
    expect_one(c, "container", id.s, "its writable layer is missing");
    ld_test_sh("mv /mnt/lost %s/w/$(cat /mnt/name)", d->data_root);
    cr_expect(ld_bool(check(c), "ok"));
    volume = ld_textf("%s", ld_str(ld_want(c, 201, "POST", "{'name':'v'}", "/v1/volumes"), "id"));
    ld_test_sh("rm -r %s/volumes/[1-9]*", d->data_root);
    expect_one(c, "volume", volume.s, "its directory is missing");
    (void)ld_want(c, 204, "DELETE", NULL, "/v1/volumes/v");
    ld_test_sh("rm %s/layers/*.recipe", d->data_root);
    cr_expect_eq(ld_count(check(c), "findings"), 2);
    ld_test_sh("rm -rf %s/layers/[1-9]*", d->data_root);
    cr_expect_eq(ld_count(check(c), "findings"), 2);
}

LD_API_TEST(check, finds_what_no_record_knows)
{
    ld_have_base(c);
    ld_test_sh("mkdir %s/w/4242", d->data_root);
    expect_one(c, "file", "w/4242", "is above all that the database has given out");
    ld_test_sh("rmdir %s/w/4242; touch %s/volumes/odd", d->data_root, d->data_root);
    expect_one(c, "file", "volumes/odd", "no record knows it");
    ld_test_sh("rm %s/volumes/odd", d->data_root);
    (void)ld_create(c, "web", "base", NULL); /* for a number that was given out */
    ld_test_sh("cd %s/w && ls >/mnt/number", d->data_root);
    (void)ld_want(c, 204, "DELETE", NULL, "/v1/containers/web?purge=1");
    ld_wait_reaped(d);
    ld_test_sh("mkdir %s/layers/$(cat /mnt/number)", d->data_root);
    expect_one(c, "file", NULL, "no record knows it");
    /* The hint is true. */
    ld_daemon_stop(d);
    ld_daemon_again(d);
    cr_expect(ld_bool(check(d->client), "ok"));
    ld_test_sh("test -d %s/quarantine/layers-$(cat /mnt/number)", d->data_root);
}

LD_API_TEST(check, finds_mounts_that_are_wrong)
{
    static const char id[] = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
    struct ld_text web, at;

    ld_have_base(c);
    ld_test_sh("mkdir -p %s/mnt/%s && mount -t tmpfs odd %s/mnt/%s", d->run_root, id, d->run_root,
               id);
    expect_one(c, "mount", id, "for a container that is not recorded");
    ld_test_sh("umount %s/mnt/%s", d->run_root, id);
    web = ld_create(c, "web", "base", "'mounts':[{'type':'volume','source':'v','target':'/srv'}]");
    at = ld_mount(c, "web");
    cr_expect(ld_bool(check(c), "ok"));
    ld_test_sh("umount %s/srv", at.s);
    expect_one(c, "container", web.s, "not all of its mounts are in it");
    ld_unmount(c, "web");
    cr_expect(ld_bool(check(c), "ok"));
}

LD_API_TEST(check, tells_no_more_than_a_thousand)
{
    const cJSON *json;

    ld_test_sh("cd %s/volumes && seq -f 'odd%%g' 1 1200 | xargs touch", d->data_root);
    json = check(c);
    cr_expect_eq(ld_count(json, "findings"), 1000);
    cr_expect(ld_bool(json, "truncated"));
}

LD_API_TEST(check, refuses_what_it_cannot_do)
{
    (void)ld_want(c, 200, "POST", "{'deep':false,'repair':false}", "/v1/check");
    (void)ld_want_error(c, "unsupported", "POST", "{'deep':true}", "/v1/check");
    (void)ld_want_error(c, "unsupported", "POST", "{'repair':true}", "/v1/check");
    (void)ld_want_error(c, "invalid", "POST", "{'shallow':true}", "/v1/check");
    (void)ld_want_error(c, "invalid", "POST", "{'deep':1}", "/v1/check");
}

/* Whatever is being made or removed meanwhile is no finding. */
LD_API_TEST(check, finds_nothing_beside_work)
{
    ld_have_app(c);
    for (int i = 0; i < 15; i++) {
        ld_test_sh("for i in 1 2 3 4; do (curl -sf --unix-socket %s -d "
                   "'{\"name\":\"n'$i'\",\"image\":\"app\"}' "
                   "-H 'Content-Type: application/json' http://x/v1/containers >/dev/null; "
                   "curl -sf --unix-socket %s -X DELETE "
                   "'http://x/v1/containers/n'$i'?volumes=1&purge=1') & done",
                   d->socket, d->socket);
        cr_expect(ld_bool(check(c), "ok"), "%s", cJSON_PrintUnformatted(check(c)));
    }
    ld_wait_reaped(d);
}
