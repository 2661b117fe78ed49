/* The trash: what is removed is kept, shown, deleted when that is asked for. */
#include <stdio.h>
#include <string.h>

#include <cjson/cJSON.h>

#include "daemon/base/mem.h"
#include "tests/lib/api.h"

/* A daemon that keeps containers, too. */
static struct ld_daemon *keeping(void)
{
    static const char *const args[] = {"--config", "/mnt/layerd.conf", NULL};

    ld_test_sh("umask 022; printf '[trash]\\nkeep_containers = 1h\\n' >layerd.conf");
    return ld_daemon_start("data", args);
}

#define KEEPING_TEST(sentence)                                                                     \
    static void keeping_##sentence(struct ld_daemon *d, struct ld_client *c);                      \
    LD_TEST(trash, sentence)                                                                       \
    {                                                                                              \
        struct ld_daemon *d = keeping();                                                           \
        keeping_##sentence(d, d->client);                                                          \
        ld_api_finish(d);                                                                          \
    }                                                                                              \
    static void keeping_##sentence(struct ld_daemon *d __attribute__((unused)),                    \
                                   struct ld_client *c __attribute__((unused)))

/* A removed volume with one file of a MiB; its id. */
static struct ld_text removed_volume(struct ld_daemon *d, struct ld_client *c, const char *name)
{
    struct ld_text body = ld_textf("{'name':'%s'}", name);
    struct ld_text id =
        ld_textf("%s", ld_str(ld_want(c, 201, "POST", body.s, "/v1/volumes"), "id"));

    ld_test_sh("cd %s/volumes; n=$(ls | sort -n | tail -1);"
               "head -c 1048576 /dev/urandom >$n/big; sync $n/big",
               d->data_root);
    (void)ld_want(c, 204, "DELETE", NULL, "/v1/volumes/%s", name);
    return id;
}

static int n_listed(struct ld_client *c, const char *query)
{
    return ld_count(ld_want(c, 200, "GET", NULL, "/v1/trash%s", query), "items");
}

KEEPING_TEST(shows_what_is_kept_and_until_when)
{
    struct ld_text volume, container;
    cJSON *json;

    ld_have_base(c);
    cr_expect_eq(n_listed(c, ""), 0);
    volume = removed_volume(d, c, "data");
    container = ld_create(c, "web", "base", NULL);
    (void)ld_want(c, 204, "DELETE", NULL, "/v1/containers/web");
    json = ld_want(c, 200, "GET", NULL, "/v1/trash");
    cr_assert_eq(ld_count(json, "items"), 2);
    cr_expect_str_eq(ld_str(json, "items.0.id"), volume.s);
    cr_expect_str_eq(ld_str(json, "items.0.kind"), "volume");
    cr_expect_str_eq(ld_str(json, "items.0.name"), "data");
    cr_expect(ld_is_null(json, "items.0.bytes"));
    cr_expect(ld_bool(json, "items.0.restorable"));
    cr_expect_gt(strcmp(ld_str(json, "items.0.purge_at"), ld_str(json, "items.0.removed_at")), 0);
    cr_expect_str_eq(ld_str(json, "items.1.id"), container.s);
    cr_expect_str_eq(ld_str(json, "items.1.kind"), "container");
    json = ld_want(c, 200, "GET", NULL, "/v1/trash?size=1&filter=kind=volume");
    cr_assert_eq(ld_count(json, "items"), 1);
    cr_expect_geq(ld_int(json, "items.0.bytes"), 1048576);
    cr_expect_lt(ld_int(json, "items.0.bytes"), 1048576 + 65536);
    cr_expect_eq(n_listed(c, "?filter=name=w*"), 1);
    cr_expect_eq(n_listed(c, "?filter=name=w*&filter=kind=volume"), 0);
    json = ld_want(c, 200, "GET", NULL, "/v1/trash?limit=1");
    cr_assert_eq(ld_count(json, "items"), 1);
    cr_expect_eq(n_listed(c, ld_textf("?after=%s", ld_str(json, "next")).s), 1);
    (void)ld_want_error(c, "invalid", "GET", NULL, "/v1/trash?filter=label=a");
    ld_daemon_kill(d);
    ld_daemon_again(d);
    cr_expect_eq(n_listed(c, ""), 2);
    cr_expect_eq(ld_data_count(d, "trash"), 2);
}

static bool has_one_left(void *d)
{
    return ld_data_count(d, "trash") == 1;
}

KEEPING_TEST(deletes_one_when_asked)
{
    struct ld_text first, second;
    cJSON *json;

    first = removed_volume(d, c, "data");
    second = removed_volume(d, c, "data");
    (void)ld_want_error(c, "invalid", "DELETE", NULL, "/v1/trash/data?dry_run=maybe");
    (void)ld_want_error(c, "not_found", "DELETE", NULL, "/v1/trash/none");
    (void)ld_want_error(c, "not_found", "DELETE", NULL, "/v1/trash/none?dry_run=1");
    (void)ld_want_error(c, "conflict", "DELETE", NULL, "/v1/trash/data");
    json = ld_want(c, 200, "DELETE", NULL, "/v1/trash/%.20s?dry_run=1", first.s);
    cr_expect_eq(ld_count(json, "would_remove"), 1);
    cr_expect_str_eq(ld_str(json, "would_remove.0.id"), first.s);
    cr_expect_geq(ld_int(json, "bytes"), 1048576);
    cr_expect_eq(ld_data_count(d, "trash"), 2);
    (void)ld_want(c, 204, "DELETE", NULL, "/v1/trash/%s", first.s);
    cr_assert(ld_test_wait(has_one_left, d, 60));
    json = ld_want(c, 200, "GET", NULL, "/v1/trash");
    cr_expect_str_eq(ld_str(json, "items.0.id"), second.s);
    (void)ld_want(c, 204, "DELETE", NULL, "/v1/trash/data");
    ld_wait_reaped(d);
}

static bool has_no_layers(void *d)
{
    return ld_data_count(d, "layers") == 1; /* the empty one */
}

KEEPING_TEST(is_emptied_when_asked_and_lets_go_of_layers)
{
    cJSON *json;

    ld_have_base(c);
    (void)removed_volume(d, c, "data");
    (void)ld_create(c, "web", "base", NULL);
    (void)ld_want(c, 204, "DELETE", NULL, "/v1/containers/web");
    (void)ld_want(c, 204, "DELETE", NULL, "/v1/images/base?force=1");
    cr_expect_gt(ld_data_count(d, "layers"), 1, "the container may come back");
    (void)ld_want_error(c, "invalid", "DELETE", NULL, "/v1/trash?dry_run=maybe");
    json = ld_want(c, 200, "DELETE", NULL, "/v1/trash?dry_run=1");
    cr_expect_eq(ld_count(json, "would_remove"), 2);
    cr_expect_eq(n_listed(c, ""), 2);
    (void)ld_want(c, 204, "DELETE", NULL, "/v1/trash");
    cr_assert(ld_test_wait(has_no_layers, d, 60), "its layers have no user any more");
    ld_wait_reaped(d);
    (void)ld_want(c, 204, "DELETE", NULL, "/v1/trash");
}
