/* "?dry_run=1": what would go, told by the same checks, and nothing done. */
#include <stdio.h>
#include <string.h>

#include <cjson/cJSON.h>

#include "daemon/base/mem.h"
#include "tests/lib/api.h"

/* The objects as "kind name", joined by ", "; their bytes must add up. */
static struct ld_text would(struct ld_client *c, const char *target)
{
    cJSON *json = ld_want(c, 200, "DELETE", NULL, "%s", target);
    struct ld_text all = {""};
    int64_t sum = 0;
    const cJSON *item;

    cJSON_ArrayForEach (item, ld_at(json, "would_remove")) {
        const char *name = cJSON_GetStringValue(cJSON_GetObjectItem(item, "name"));

        all = ld_textf("%s%s%s %s", all.s, all.s[0] ? ", " : "", ld_str(item, "kind"),
                       name ? name : "-");
        sum += ld_int(item, "bytes");
    }
    cr_expect_eq(ld_int(json, "bytes"), sum);
    return all;
}

static int64_t newest_event(struct ld_client *c)
{
    const struct ld_reply *reply =
        ld_call(c, &(struct ld_call){.method = "GET", .target = "/v1/events"});
    int64_t n = 0;

    for (const char *at = reply->body; (at = strchr(at, '\n')); at++)
        n++;
    return n;
}

static void write_mib(const char *dir, const char *name)
{
    ld_test_sh("head -c 1048576 /dev/urandom > '%s/%s' && sync '%s/%s'", dir, name, dir, name);
}

LD_API_TEST(dry_run, of_a_container_tells_its_writable_layer)
{
    struct ld_text place, tree, again;
    int64_t events;
    cJSON *json;

    ld_have_base(c);
    (void)ld_create(c, "web", "base", NULL);
    place = ld_mount(c, "web");
    write_mib(place.s, "big");
    (void)ld_want_error(c, "busy", "DELETE", NULL, "/v1/containers/web?dry_run=1");
    (void)ld_want_error(c, "not_found", "DELETE", NULL, "/v1/containers/none?dry_run=1");
    tree = ld_tree_digest(place.s);
    events = newest_event(c);
    cr_expect_str_eq(would(c, "/v1/containers/web?dry_run=1&force=1").s, "container web");
    cr_expect_eq(newest_event(c), events);
    again = ld_tree_digest(place.s);
    cr_expect_str_eq(again.s, tree.s, "still mounted, nothing has gone");
    ld_unmount(c, "web");
    json = ld_want(c, 200, "DELETE", NULL, "/v1/containers/web?dry_run=1");
    cr_expect_geq(ld_int(json, "bytes"), 1048576);
    cr_expect_lt(ld_int(json, "bytes"), 1048576 + 65536);
    cr_expect_str_eq(ld_str(ld_want(c, 200, "GET", NULL, "/v1/containers/web"), "state"),
                     "created");
    cr_expect_eq(ld_data_count(d, "trash"), 0);
    (void)ld_want(c, 204, "DELETE", NULL, "/v1/containers/web?dry_run=0");
    (void)ld_want_error(c, "not_found", "DELETE", NULL, "/v1/containers/web?dry_run");
}

LD_API_TEST(dry_run, tells_what_goes_along)
{
    ld_have_app(c); /* declares /data */
    (void)ld_create(c, "web", "app", "'mounts':[{'type':'volume','source':'named','target':'/v'}]");
    cr_expect_str_eq(would(c, "/v1/containers/web?dry_run").s, "container web");
    cr_expect_str_eq(would(c, "/v1/containers/web?dry_run&volumes").s, "container web, volume -");
    (void)ld_want(c, 204, "DELETE", NULL, "/v1/images/app?force=1");
    /* Its layers have no other user. */
    cr_expect_str_eq(would(c, "/v1/containers/web?dry_run").s,
                     "container web, layer -, layer -, layer -");
    cr_expect_eq(ld_data_count(d, "layers"), 3 * 2 + 1);
    (void)ld_want(c, 204, "DELETE", NULL, "/v1/containers/web");
    ld_wait_reaped(d);
    cr_expect_eq(ld_data_count(d, "layers"), 1);
}

LD_API_TEST(dry_run, of_a_volume_tells_its_data)
{
    struct ld_text place;
    cJSON *json;

    ld_have_base(c);
    (void)ld_create(c, "web", "base", "'mounts':[{'type':'volume','source':'data','target':'/v'}]");
    place = ld_mount(c, "web");
    write_mib(ld_textf("%s/v", place.s).s, "big");
    json = ld_want_error(c, "in_use", "DELETE", NULL, "/v1/volumes/data?dry_run=1");
    cr_expect_eq(ld_count(json, "details.users"), 1);
    (void)ld_want(c, 204, "DELETE", NULL, "/v1/containers/web?force=1");
    json = ld_want(c, 200, "DELETE", NULL, "/v1/volumes/data?dry_run=1");
    cr_expect_str_eq(ld_str(json, "would_remove.0.kind"), "volume");
    cr_expect_geq(ld_int(json, "bytes"), 1048576);
    cr_expect_str_eq(ld_str(ld_want(c, 200, "GET", NULL, "/v1/volumes/data"), "state"), "ok");
    (void)ld_want(c, 204, "DELETE", NULL, "/v1/volumes/data?purge=1");
}

LD_API_TEST(dry_run, of_an_image_tells_names_and_layers)
{
    struct ld_text id;
    int64_t size;
    cJSON *json;

    ld_have_base(c);
    json = ld_want(c, 200, "GET", NULL, "/v1/images/base");
    id = ld_textf("%s", ld_str(json, "id"));
    size = ld_int(json, "size");
    (void)ld_want(c, 200, "POST", "{'ref':'b:2'}", "/v1/images/base/tag");
    cr_expect_str_eq(would(c, "/v1/images/b:2?dry_run=1").s, "reference b:2");
    (void)ld_want_error(c, "conflict", "DELETE", NULL, "/v1/images/%s?dry_run=1", id.s);
    cr_expect_str_eq(would(c, ld_textf("/v1/images/%s?dry_run=1&force=1", id.s).s).s,
                     "reference b:2, reference base:latest, image b:2, layer -, layer -");
    (void)ld_want(c, 200, "DELETE", NULL, "/v1/images/b:2");
    (void)ld_create(c, "web", "base", NULL);
    (void)ld_want_error(c, "in_use", "DELETE", NULL, "/v1/images/base?dry_run=1");
    cr_expect_str_eq(would(c, "/v1/images/base?dry_run=1&force").s,
                     "reference base:latest, image base:latest", "its layers have a user");
    (void)ld_want(c, 204, "DELETE", NULL, "/v1/containers/web");
    json = ld_want(c, 200, "DELETE", NULL, "/v1/images/base?dry_run=1");
    cr_expect_eq(ld_int(json, "bytes"), size);
    json = ld_want(c, 200, "GET", NULL, "/v1/images/base");
    cr_expect_eq(ld_count(json, "refs"), 1);
    cr_expect_eq(ld_count(ld_want(c, 200, "GET", NULL, "/v1/layers"), "items"), 2);
    (void)ld_want(c, 204, "DELETE", NULL, "/v1/images/base");
}

LD_API_TEST(dry_run, minds_the_version_and_refuses_nonsense)
{
    static const char *const stale[] = {"If-Match: \"7\"", NULL};
    static const char *const targets[] = {"/v1/containers/web?dry_run", "/v1/volumes/data?dry_run",
                                          "/v1/images/base?dry_run"};

    ld_have_base(c);
    (void)ld_create(c, "web", "base", NULL);
    (void)ld_want(c, 201, "POST", "{'name':'data'}", "/v1/volumes");
    for (size_t i = 0; i < LD_ARRAY_LEN(targets); i++) {
        struct ld_call call = {.method = "DELETE", .target = targets[i], .headers = stale};

        cr_expect_eq(ld_call(c, &call)->status, 412, "%s", targets[i]);
        (void)ld_want_error(c, "invalid", "DELETE", NULL, "%s=maybe", targets[i]);
    }
    (void)ld_want_error(c, "invalid", "DELETE", NULL, "/v1/jobs/abcd?dry_run=1");
}
