/* Images and layers: list, inspect, history, tag, untag, remove, sharing; and what disk use says of
 * them. */
#include <stdio.h>
#include <string.h>

#include <cjson/cJSON.h>

#include "daemon/base/digest.h"
#include "daemon/base/fdio.h"
#include "daemon/base/mem.h"
#include "tests/lib/api.h"

LD_API_TEST(images, share_the_layers_they_have_in_common)
{
    struct ld_blob app = ld_make_app();
    cJSON *json;
    int64_t unique;

    ld_have_base(c);
    cr_expect_eq(ld_data_count(d, "layers") >= 2, true);
    json = ld_import(c, &app, "");
    cr_expect_eq(ld_int(json, "layers.added"), 1);
    cr_expect_eq(ld_int(json, "layers.reused"), 2);
    unique = ld_int(json, "bytes_added");
    json = ld_want(c, 200, "GET", NULL, "/v1/images/app");
    cr_expect_eq(ld_int(json, "unique"), unique);
    cr_expect_gt(ld_int(json, "size"), unique);
    cr_expect_not(ld_bool(json, "layers.0.shared"));
    cr_expect(ld_bool(json, "layers.1.shared"));
    json = ld_import(c, &app, "");
    cr_expect_eq(ld_int(json, "layers.added"), 0);
    cr_expect_eq(ld_int(json, "bytes_added"), 0);
    ld_blob_done(&app);
    json = ld_want(c, 200, "GET", NULL, "/v1/layers");
    cr_expect_eq(ld_count(json, "items"), 3);
}

LD_API_TEST(images, tell_all_about_themselves)
{
    cJSON *json;
    struct ld_text id;

    ld_have_app(c);
    json = ld_want(c, 200, "GET", NULL, "/v1/images/app");
    id = ld_textf("%s", ld_str(json, "id"));
    cr_expect_str_eq(ld_str(json, "refs.0"), "app:latest");
    cr_expect_str_eq(ld_str(json, "created"), "2026-01-02T03:04:05Z");
    cr_expect_str_eq(ld_str(json, "author"), "tests");
    cr_expect_str_eq(ld_str(json, "os"), "linux");
    cr_expect_str_eq(ld_str(json, "config.entrypoint.0"), "/app/run");
    cr_expect_str_eq(ld_str(json, "config.cmd.0"), "-v");
    cr_expect_str_eq(ld_str(json, "config.env.1"), "A=b");
    cr_expect_str_eq(ld_str(json, "config.user"), "7:8");
    cr_expect_str_eq(ld_str(json, "config.working_dir"), "/app");
    cr_expect_str_eq(ld_str(json, "config.volumes.0"), "/data");
    cr_expect_str_eq(ld_str(json, "config.labels.team"), "storage");
    cr_expect_str_eq(ld_str(json, "config.exposed_ports.0"), "80/tcp");
    cr_expect_str_eq(ld_str(json, "config.stop_signal"), "SIGINT");
    cr_expect_str_eq(ld_str(json, "labels.team"), "storage");
    cr_expect_eq(ld_int(json, "layer_count"), 3);
    cr_expect_eq(ld_count(json, "layers"), 3);
    cr_expect_str_eq(ld_str(json, "state"), "ok");
    (void)ld_want(c, 200, "GET", NULL, "/v1/images/%s", id.s);
    (void)ld_want(c, 200, "GET", NULL, "/v1/images/%s", id.s + 7);
    (void)ld_want(c, 200, "GET", NULL, "/v1/images/%.12s", id.s + 7);
    (void)ld_want(c, 200, "GET", NULL, "/v1/images/sha256:%.12s", id.s + 7);
    (void)ld_want_error(c, "not_found", "GET", NULL, "/v1/images/app:other");
    (void)ld_want_error(c, "invalid", "GET", NULL, "/v1/images/Bad:Ref:x");
    json = ld_want(c, 200, "GET", NULL, "/v1/images/app/history");
    cr_assert_eq(ld_count(json, "items"), 4);
    cr_expect(ld_bool(json, "items.0.empty_layer"));
    cr_expect_str_eq(ld_str(json, "items.1.created_by"), "step 2");
    cr_expect_gt(ld_int(json, "items.1.size"), 0);
    (void)ld_want_error(c, "not_found", "GET", NULL, "/v1/images/none/history");
}

LD_API_TEST(images, are_listed_by_filters)
{
    static const struct {
        const char *query;
        int n;
    } rows[] = {
        {"", 3},
        {"?limit=2", 2},
        {"?filter=name=ba*", 1},
        {"?filter=name=app:latest", 1},
        {"?filter=name=none", 0},
        {"?filter=dangling=1", 1},
        {"?filter=dangling=0", 2},
        {"?filter=label=team=storage", 1},
        {"?filter=label=none", 0},
        {"?filter=until=1h", 0},
        {"?filter=until=2199-01-01T00:00:00Z", 3},
    };
    static const struct ld_entry entries[] = {{.path = "x", .data = "x"}};
    struct ld_blob layer = ld_make_tar(entries, 1);
    struct ld_image_spec spec = {.layers = &layer, .n_layers = 1};
    struct ld_blob nameless = ld_make_image(&spec, 1);

    ld_have_base(c);
    ld_have_app(c);
    (void)ld_import(c, &nameless, "");
    for (size_t i = 0; i < LD_ARRAY_LEN(rows); i++) {
        cJSON *json = ld_want(c, 200, "GET", NULL, "/v1/images%s", rows[i].query);

        cr_expect_eq(ld_count(json, "items"), rows[i].n, "%s: %d", rows[i].query,
                     ld_count(json, "items"));
    }
    ld_blob_done(&layer);
    ld_blob_done(&nameless);
}

LD_API_TEST(images, are_tagged_and_untagged)
{
    cJSON *json;
    struct ld_text id;

    ld_have_base(c);
    ld_have_app(c);
    json = ld_want(c, 200, "POST", "{'ref':'registry.example:5000/team/web:1.0'}",
                   "/v1/images/base/tag");
    id = ld_textf("%s", ld_str(json, "id"));
    cr_expect_eq(ld_count(json, "refs"), 2);
    (void)ld_want(c, 200, "POST", "{'ref':'registry.example:5000/team/web:1.0'}",
                  "/v1/images/base/tag");
    (void)ld_want(c, 200, "GET", NULL, "/v1/images/registry.example:5000/team/web:1.0");
    (void)ld_want(c, 200, "GET", NULL, "/v1/images/registry.example:5000/team/web:1.0/history");
    (void)ld_want_error(c, "invalid", "POST", "{'ref':'BAD'}", "/v1/images/base/tag");
    (void)ld_want_error(c, "invalid", "POST", "{}", "/v1/images/base/tag");
    (void)ld_want_error(c, "not_found", "POST", "{'ref':'x'}", "/v1/images/none/tag");
    /* A name that another image has moves. */
    json = ld_want(c, 200, "POST", "{'ref':'base'}", "/v1/images/app/tag");
    cr_expect_eq(ld_count(json, "refs"), 2);
    json = ld_want(c, 200, "GET", NULL, "/v1/images/%s", id.s);
    cr_expect_eq(ld_count(json, "refs"), 1);
    /* By id with one name: gone. By name: only that, while there are more. */
    json = ld_want(c, 200, "DELETE", NULL, "/v1/images/base");
    cr_expect_str_eq(ld_str(json, "refs.0"), "app:latest");
    (void)ld_want(c, 204, "DELETE", NULL, "/v1/images/%s", id.s);
    (void)ld_want(c, 200, "POST", "{'ref':'second'}", "/v1/images/app/tag");
    id = ld_textf("%s", ld_str(ld_want(c, 200, "GET", NULL, "/v1/images/app"), "id"));
    (void)ld_want_error(c, "conflict", "DELETE", NULL, "/v1/images/%s", id.s);
    (void)ld_want(c, 204, "DELETE", NULL, "/v1/images/%s?force=1", id.s);
    (void)ld_want_error(c, "not_found", "DELETE", NULL, "/v1/images/app");
    cr_expect_eq(ld_count(ld_want(c, 200, "GET", NULL, "/v1/layers"), "items"), 0);
    ld_wait_reaped(d);
}

LD_API_TEST(images, hold_if_match)
{
    static const struct {
        const char *method, *target, *header;
        int status;
    } rows[] = {
        {"POST", "/v1/images/base/tag", "If-Match: \"99\"", 412},
        {"POST", "/v1/images/base/tag", "If-Match: *", 200},
        {"DELETE", "/v1/images/base", "If-Match: \"99\"", 412},
        {"DELETE", "/v1/images/base", "If-Match: *", 200},
    };

    ld_have_base(c);
    for (size_t i = 0; i < LD_ARRAY_LEN(rows); i++) {
        const struct ld_reply *reply =
            ld_call(c, &(struct ld_call){.method = rows[i].method,
                                         .target = rows[i].target,
                                         .json = rows[i].method[0] == 'P' ? "{'ref':'two'}" : NULL,
                                         .headers = (const char *[]){rows[i].header, NULL}});

        cr_expect_eq(reply->status, rows[i].status, "%zu: %d %s", i, reply->status, reply->body);
    }
}

LD_API_TEST(images, in_use_are_kept_unless_forced)
{
    struct ld_text at;
    cJSON *error;

    ld_have_base(c);
    (void)ld_create(c, "web", "base", NULL);
    error = ld_want_error(c, "in_use", "DELETE", NULL, "/v1/images/base");
    cr_expect_str_eq(ld_str(error, "details.users.0.name"), "web");
    cr_expect_eq(ld_int(ld_want(c, 200, "GET", NULL, "/v1/images/base"), "containers"), 1);
    (void)ld_want(c, 204, "DELETE", NULL, "/v1/images/base?force=1");
    (void)ld_want_error(c, "not_found", "GET", NULL, "/v1/images/base");
    /* The container keeps its layers, mounts, and takes them along when it goes. */
    at = ld_mount(c, "web");
    ld_test_sh("grep -q second %s/etc/motd", at.s);
    ld_unmount(c, "web");
    cr_expect_eq(ld_count(ld_want(c, 200, "GET", NULL, "/v1/layers"), "items"), 2);
    (void)ld_want(c, 204, "DELETE", NULL, "/v1/containers/web");
    cr_expect_eq(ld_count(ld_want(c, 200, "GET", NULL, "/v1/layers"), "items"), 0);
    ld_wait_reaped(d);
}

/* The four digits that two of n ids have in common; "" when no two do. */
static struct ld_text common_prefix(const struct ld_text *ids, int n)
{
    for (int i = 0; i + 1 < n; i++) {
        if (strncmp(ids[i].s, ids[n - 1].s, 11) == 0)
            return ld_textf("%.4s", ids[n - 1].s + 7);
    }
    return ld_textf("%s", "");
}

LD_API_TEST(images, and_layers_whose_ids_begin_alike_are_ambiguous)
{
    static struct ld_text ids[3000], chains[3000];
    struct ld_text image = {""}, layer = {""};
    const char *prefix = image.s;

    for (int n = 0; n < 3000 && (!image.s[0] || !layer.s[0]); n++) {
        char text[16];
        struct ld_entry entry = {.path = "x", .data = text};
        struct ld_blob tar, archive;
        struct ld_image_spec spec = {.layers = &tar, .n_layers = 1};
        struct ld_digest chain;

        (void)snprintf(text, sizeof(text), "%d", n);
        tar = ld_make_tar(&entry, 1);
        archive = ld_make_image(&spec, 1);
        chain = ld_digest_of(tar.data, tar.len);
        ld_digest_format(&chain, chains[n].s);
        ids[n] = ld_textf("%s", ld_str(ld_import(c, &archive, ""), "images.0.id"));
        ld_blob_done(&tar);
        ld_blob_done(&archive);
        if (!image.s[0])
            image = common_prefix(ids, n + 1);
        if (!layer.s[0])
            layer = common_prefix(chains, n + 1);
    }
    cr_assert_neq(layer.s[0], '\0');
    (void)ld_want_error(c, "conflict", "GET", NULL, "/v1/layers/%s", layer.s);
    (void)ld_want_error(c, "conflict", "GET", NULL, "/v1/layers/%s/files", layer.s);
    cr_assert_neq(prefix[0], '\0');
    (void)ld_want_error(c, "conflict", "GET", NULL, "/v1/images/%s", prefix);
    (void)ld_want_error(c, "conflict", "DELETE", NULL, "/v1/images/%s", prefix);
    (void)ld_want_error(c, "conflict", "GET", NULL, "/v1/images/%s/history", prefix);
    (void)ld_want_error(c, "conflict", "GET", NULL, "/v1/images/%s/files", prefix);
    (void)ld_want_error(c, "conflict", "GET", NULL, "/v1/images/%s/changes?since=x", prefix);
    (void)ld_want_error(c, "conflict", "POST", "{'ref':'x'}", "/v1/images/%s/tag", prefix);
    (void)ld_want_error(c, "conflict", "GET", NULL, "/v1/images/%s/export", prefix);
    (void)ld_want_error(c, "conflict", "POST", NULL, "/v1/images/%s/mount", prefix);
    (void)ld_want_error(c, "conflict", "POST", NULL, "/v1/images/%s/unmount", prefix);
    (void)ld_want_error(c, "conflict", "GET", NULL, "/v1/images/export?ref=%s", prefix);
    {
        autofree char *body = ld_asprintf("{'image':'%s'}", prefix);

        (void)ld_want_error(c, "conflict", "POST", body, "/v1/containers");
        (void)ld_want_error(c, "conflict", "PUT", body, "/v1/containers/a");
    }
}

LD_API_TEST(layers, tell_their_users)
{
    cJSON *json;
    struct ld_text chain;

    ld_have_base(c);
    ld_have_app(c);
    (void)ld_create(c, "web", "app", NULL);
    json = ld_want(c, 200, "GET", NULL, "/v1/images/base");
    chain = ld_textf("%s", ld_str(json, "layers.1.chain_id"));
    json = ld_want(c, 200, "GET", NULL, "/v1/layers/%s", chain.s);
    cr_expect(ld_is_null(json, "parent"));
    cr_expect_eq(ld_int(json, "depth"), 1);
    cr_expect_eq(ld_int(json, "images"), 2);
    cr_expect_eq(ld_int(json, "containers"), 1);
    cr_expect_eq(ld_count(json, "users"), 3);
    cr_expect_gt(ld_int(json, "size"), 0);
    cr_expect_gt(ld_int(json, "inodes"), 10);
    (void)ld_want(c, 200, "GET", NULL, "/v1/layers/%s", chain.s + 7);
    (void)ld_want(c, 200, "GET", NULL, "/v1/layers/%.16s", chain.s + 7);
    (void)ld_want_error(c, "not_found", "GET", NULL, "/v1/layers/ffffffffffff");
    json = ld_want(c, 200, "GET", NULL, "/v1/layers?limit=2");
    cr_expect_eq(ld_count(json, "items"), 2);
    json = ld_want(c, 200, "GET", NULL, "/v1/layers?limit=2&after=%s", ld_str(json, "next"));
    cr_expect_eq(ld_count(json, "items"), 1);
}

LD_API_TEST(layers, that_were_lost_are_damaged_until_imported_again)
{
    cJSON *json;

    ld_have_base(c);
    (void)ld_create(c, "web", "base", NULL);
    ld_daemon_stop(d);
    ld_test_sh("cd %s/layers && rm -rf $(ls -d [1-9]* | grep -v '[.]' | sort -n | tail -1)",
               d->data_root);
    ld_daemon_again(d);
    json = ld_want(c, 200, "GET", NULL, "/v1/images/base");
    cr_expect_str_eq(ld_str(json, "state"), "damaged");
    json = ld_want(c, 200, "GET", NULL, "/v1/containers/web");
    cr_expect_str_eq(ld_str(json, "state"), "damaged");
    (void)ld_want_error(c, "corrupt", "POST", "{'image':'base'}", "/v1/containers");
    (void)ld_want_error(c, "corrupt", "PUT", "{'image':'base'}", "/v1/containers/new");
    (void)ld_want_error(c, "corrupt", "POST", NULL, "/v1/containers/web/mount");
    (void)ld_want_error(c, "corrupt", "POST", NULL, "/v1/containers/web/bundle");
    (void)ld_want_error(c, "corrupt", "POST", NULL, "/v1/images/base/mount");
    ld_have_base(c);
    json = ld_want(c, 200, "GET", NULL, "/v1/images/base");
    cr_expect_str_eq(ld_str(json, "state"), "ok");
    ld_test_sh("grep -q second %s/etc/motd", ld_mount(c, "web").s);
    ld_unmount(c, "web");
}

LD_API_TEST(df, is_what_du_counts)
{
    cJSON *json;
    struct ld_text at;

    ld_df_is_du(d, c);
    ld_have_base(c);
    ld_have_app(c);
    (void)ld_create(c, "one", "app", NULL);
    (void)ld_create(c, "two", "base", "'driver':'vfs'");
    at = ld_mount(c, "one");
    ld_test_sh(
        "head -c 300000 /dev/urandom >%s/etc/big; head -c 200000 /dev/urandom >%s/data/big; sync",
        at.s, at.s);
    ld_unmount(c, "one");
    ld_df_is_du(d, c);
    json = ld_want(c, 200, "GET", NULL, "/v1/df");
    cr_expect_eq(ld_int(json, "layers.count"), 3);
    cr_expect_eq(ld_count(json, "images"), 2);
    cr_expect_eq(ld_int(json, "writable_layers.count"), 2);
    cr_expect_eq(ld_int(json, "volumes.count"), 1);
    cr_expect_geq(ld_int(json, "volumes.bytes"), 200000);
    cr_expect_geq(ld_int(json, "writable_layers.bytes"), 300000);
    cr_expect_gt(ld_int(json, "layers.shared"), 0);
    (void)ld_want(c, 204, "DELETE", NULL, "/v1/containers/one?volumes=1&purge=1");
    ld_wait_reaped(d);
    ld_df_is_du(d, c);
}

struct idle {
    struct ld_daemon *d;
    struct ld_client *c;
    struct ld_usage du;
    cJSON *df; /* borrowed from the client */
};

/* What the records do not know is not in the total, and found by who looks. */
static bool verified_agrees(void *arg)
{
    struct idle *idle = arg;

    ld_data_usage(idle->d, &idle->du);
    idle->df = ld_want(idle->c, 200, "GET", NULL, "/v1/df?verify=1");
    return (uint64_t)ld_int(idle->df, "verified.bytes") == idle->du.bytes &&
           (uint64_t)ld_int(idle->df, "verified.inodes") == idle->du.inodes;
}

LD_API_TEST(df, finds_what_the_records_do_not_know)
{
    struct idle idle = {.d = d, .c = c};
    const cJSON *layer;

    ld_have_base(c);
    cr_expect(ld_test_wait(verified_agrees, &idle, 30));
    cr_expect_eq(ld_count(idle.df, "verified.layers"), 0);
    cr_expect_eq(ld_int(idle.df, "verified.unknown.inodes"), 0);
    ld_test_sh("cd %s && head -c 100000 /dev/urandom "
               ">$(find layers -maxdepth 1 -regex 'layers/[1-9][0-9]*' | head -n 1)/grown && "
               "mkdir odd layers/999999 && head -c 100000 /dev/urandom >odd/file && sync",
               d->data_root);
    cr_expect(ld_test_wait(verified_agrees, &idle, 30), "%lld, %llu",
              (long long)ld_int(idle.df, "verified.bytes"), (unsigned long long)idle.du.bytes);
    cr_expect_eq(ld_int(idle.df, "verified.unknown.inodes"), 3);
    cr_expect_eq(ld_count(idle.df, "verified.layers"), 1);
    layer = ld_at(idle.df, "verified.layers.0");
    cr_expect_eq(ld_int(layer, "found.inodes"), ld_int(layer, "recorded.inodes") + 1);
    cr_expect_geq(ld_int(layer, "found.bytes"), ld_int(layer, "recorded.bytes") + 100000);
}

LD_API_TEST(info, tells_drivers_limits_and_counts)
{
    cJSON *json;
    const cJSON *driver;
    int defaults = 0;

    ld_have_base(c);
    (void)ld_create(c, "web", "base", NULL);
    (void)ld_mount(c, "web");
    json = ld_want(c, 200, "GET", NULL, "/v1/info");
    cr_expect_str_eq(ld_str(json, "paths.data_root"), d->data_root);
    cr_expect_str_eq(ld_str(json, "paths.socket"), d->socket);
    cr_expect_eq(ld_int(json, "counts.images"), 1);
    cr_expect_eq(ld_int(json, "counts.layers"), 2);
    cr_expect_eq(ld_int(json, "counts.containers"), 1);
    cr_expect_eq(ld_int(json, "counts.mounted"), 1);
    cr_expect_eq(ld_int(json, "limits.body_bytes"), 1 << 20);
    cr_expect_str_eq(ld_str(json, "storage.filesystem"), "tmpfs");
    cJSON_ArrayForEach (driver, ld_at(json, "drivers"))
        defaults += ld_bool(driver, "default");
    cr_expect_eq(defaults, 1);
    ld_unmount(c, "web");
}

/* A root file system of one file: its layer's chain ID is the digest of its tar. */
static struct ld_blob numbered_tar(unsigned n, struct ld_digest *ret_chain)
{
    struct ld_text text = ld_textf("%u", n);
    const struct ld_entry entry = {"n", LD_ENTRY_FILE, text.s};
    struct ld_blob tar = ld_make_tar(&entry, 1);

    *ret_chain = ld_digest_of(tar.data, tar.len);
    return tar;
}

/* Two tars whose digests begin with the same four digits. */
static void find_twins(unsigned ret[2], char prefix[5])
{
    static unsigned seen[1 << 16]; /* number + 1 of the tar that has these first two bytes */

    for (unsigned n = 0; n < 1 << 20; n++) {
        struct ld_digest chain;
        struct ld_blob tar = numbered_tar(n, &chain);
        unsigned *slot = &seen[chain.bytes[0] << 8 | chain.bytes[1]];

        ld_blob_done(&tar);
        if (*slot) {
            ret[0] = *slot - 1;
            ret[1] = n;
            (void)snprintf(prefix, 5, "%02x%02x", chain.bytes[0], chain.bytes[1]);
            return;
        }
        *slot = n + 1;
    }
    cr_assert_fail("no twins");
}

LD_API_TEST(layers, with_the_same_prefix_are_ambiguous)
{
    unsigned twins[2];
    char prefix[5];

    find_twins(twins, prefix);
    for (size_t i = 0; i < 2; i++) {
        struct ld_digest chain;
        struct ld_blob tar = numbered_tar(twins[i], &chain);
        struct ld_text query = ld_textf("?ref=twin%zu&format=rootfs", i);
        char text[LD_DIGEST_TEXT];

        (void)ld_import(c, &tar, query.s);
        ld_digest_format(&chain, text);
        (void)ld_want(c, 200, "GET", NULL, "/v1/layers/%s", text);
        (void)ld_want(c, 200, "GET", NULL, "/v1/layers/%.20s", text + 7);
        ld_blob_done(&tar);
    }
    (void)ld_want_error(c, "conflict", "GET", NULL, "/v1/layers/%s", prefix);
}
