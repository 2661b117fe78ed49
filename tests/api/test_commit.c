/* Commits: a container's changes as one layer and an image, which is the same tree wherever it
 * goes.
 */
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cjson/cJSON.h>

#include "daemon/base/fdio.h"
#include "daemon/base/mem.h"
#include "tests/lib/api.h"

static cJSON *commit(struct ld_client *c, const char *container, const char *json)
{
    return ld_want(c, 201, "POST", json, "/v1/containers/%s/commit", container);
}

/* The root of a new container of the image. */
static struct ld_text image_digest(struct ld_client *c, const char *image)
{
    struct ld_text digest;

    (void)ld_create(c, "probe", image, NULL);
    digest = ld_root_digest(c, "probe");
    (void)ld_want(c, 204, "DELETE", NULL, "/v1/containers/probe");
    return digest;
}

/* The diff ID of its topmost layer; layers are told topmost first. */
static struct ld_text top_layer(const cJSON *image)
{
    return ld_textf("%s", ld_str(image, "layers.0.diff_id"));
}

/* Everything that an image can be made of in a tree, on what the base image has. */
static const char deeds[] =
    "echo new > etc/new; ln etc/new etc/also; ln -s ../none etc/link; mkfifo etc/fifo; "
    "mknod etc/dev b 7 9; rm etc/motd; rm -r usr; mkdir usr; echo x > usr/other; "
    "chmod 4711 etc/new; chown 5:70000000 etc/also; setfattr -n user.k -v v etc/new; "
    "truncate -s 3M etc/sparse; printf x >> etc/sparse; mkdir -p $'etc/\\377\\nodd/'; "
    "touch -d @-5.25 etc/fifo; touch -d '@4000000000.123456789' etc/odd; chmod 1777 .; "
    "rm -rf var/empty; echo now-a-file > var/empty";

LD_API_TEST(commit, makes_an_image_of_what_a_container_has_changed)
{
    struct ld_text id, was, location;
    cJSON *json;

    ld_have_base(c);
    id = ld_create(c, "web", "base", NULL);
    ld_change(c, "web", deeds);
    was = ld_root_digest(c, "web");
    json = commit(c, "web", "{'ref':'web:2','message':'why','author':'me'}");
    location = ld_textf("/v1/images/%s", ld_str(json, "id"));
    cr_expect_str_eq(ld_client_header(c, "Location"), location.s);
    cr_expect_str_eq(ld_str(json, "refs.0"), "web:2");
    cr_expect_str_eq(ld_str(json, "author"), "me");
    cr_expect_eq(ld_int(json, "layer_count"), 3);
    json = ld_want(c, 200, "GET", NULL, "/v1/images/web:2/history");
    cr_expect_str_eq(ld_str(json, "items.0.comment"), "why");
    cr_expect_str_eq(ld_str(json, "items.0.author"), "me");
    cr_expect_not(ld_bool(json, "items.0.empty_layer"));
    json = ld_want(c, 200, "GET", NULL, "/v1/layers/%s", ld_str(json, "items.0.chain_id"));
    cr_expect_str_eq(ld_str(json, "origin"), "commit");
    cr_expect_str_eq(image_digest(c, "web:2").s, was.s);

    /* The container shows what it did. */
    json = ld_want(c, 200, "GET", NULL, "/v1/containers/web");
    cr_expect_str_eq(ld_str(json, "image.ref"), "base:latest");
    cr_expect_str_eq(ld_root_digest(c, "web").s, was.s);
    (void)ld_want(c, 204, "DELETE", NULL, "/v1/images/web:2");
    cr_expect_str_eq(ld_root_digest(c, "web").s, was.s);
    ld_expect_df_is_du(d, c);
    (void)id;
}

static int64_t n_layers_of(struct ld_client *c, const char *container)
{
    return ld_int(ld_want(c, 200, "GET", NULL, "/v1/containers/%s", container), "layers");
}

static int64_t writable_bytes(struct ld_client *c)
{
    return ld_int(ld_want(c, 200, "GET", NULL, "/v1/df"), "writable_layers.bytes");
}

LD_API_TEST(commit, is_what_an_idle_container_goes_on_on_top_of)
{
    LD_AUTO(ld_blob_done) struct ld_blob changes = {0}, now = {0};
    struct ld_text was, layer;
    int64_t version;

    ld_have_base(c);
    (void)ld_create(c, "web", "base", NULL);
    ld_change(c, "web", "head -c 4M /dev/urandom > etc/big; rm etc/motd; chmod 1777 .");
    was = ld_root_digest(c, "web");
    changes = ld_changes(c, "web");
    version = ld_int(ld_want(c, 200, "GET", NULL, "/v1/containers/web"), "version");
    layer = top_layer(commit(c, "web", "{'ref':'web:1'}"));
    ld_wait_reaped(d);
    cr_expect_lt(writable_bytes(c), 1 << 20, "what was committed is on the disk once");
    cr_expect_eq(n_layers_of(c, "web"), 3);
    cr_expect_str_eq(ld_root_digest(c, "web").s, was.s);
    now = ld_changes(c, "web");
    cr_expect(now.len == changes.len && memcmp(now.data, changes.data, now.len) == 0);
    cr_expect_eq(ld_int(ld_want(c, 200, "GET", NULL, "/v1/containers/web"), "version"), version);

    cr_expect_str_eq(top_layer(commit(c, "web", NULL)).s, layer.s, "nothing has changed");
    cr_expect_eq(n_layers_of(c, "web"), 3);
    for (int i = 0; i < 3; i++) {
        ld_change(c, "web", "date +%N > etc/when");
        cr_expect_eq(ld_int(commit(c, "web", "{'ref':'web:2'}"), "layer_count"), 3);
        cr_expect_eq(n_layers_of(c, "web"), 3, "each commit tells all");
    }
    was = ld_root_digest(c, "web");
    (void)ld_want(c, 200, "POST", NULL, "/v1/images/prune"); /* those without a name */
    (void)ld_want(c, 204, "DELETE", NULL, "/v1/images/web:1");
    (void)ld_want(c, 204, "DELETE", NULL, "/v1/images/web:2");
    cr_expect_str_eq(ld_root_digest(c, "web").s, was.s, "its layer stays");
    ld_wait_reaped(d);
    ld_expect_df_is_du(d, c);
    (void)ld_want(c, 204, "DELETE", NULL, "/v1/containers/web");
    ld_wait_reaped(d);
    cr_expect_eq(ld_data_count(d, "w"), 0);
    ld_expect_df_is_du(d, c);
}

LD_API_TEST(commit, leaves_a_container_where_it_is_that_somebody_uses_or_that_has_more)
{
    autofree char *name = NULL;
    struct ld_text at;

    ld_have_base(c);
    (void)ld_create(c, "web", "base", NULL);
    ld_change(c, "web", "echo x > etc/x");
    (void)ld_mount(c, "web");
    (void)commit(c, "web", "{'ref':'mounted'}");
    cr_expect_eq(n_layers_of(c, "web"), 2);
    ld_unmount(c, "web");
    (void)commit(c, "web", "{'squash':true}");
    cr_expect_eq(n_layers_of(c, "web"), 2);
    at = ld_mount(c, "web");
    name = ld_asprintf("%s/etc/s", at.s);
    cr_assert_eq(mknod(name, S_IFSOCK | 0600, 0), 0);
    ld_unmount(c, "web");
    (void)commit(c, "web", "{'ref':'socket'}");
    cr_expect_eq(n_layers_of(c, "web"), 2);
    ld_change(c, "web", "test -S etc/s; rm etc/s");
    (void)commit(c, "web", "{'ref':'idle'}");
    cr_expect_eq(n_layers_of(c, "web"), 3);
}

LD_API_TEST(commit, then_snapshots_before_and_after_it_are_returned_to)
{
    struct ld_text before, after;

    ld_have_base(c);
    (void)ld_create(c, "web", "base", NULL);
    ld_change(c, "web", "echo 1 > etc/one; rm etc/motd");
    (void)ld_take_snapshot(c, "web", "before");
    before = ld_root_digest(c, "web");
    ld_change(c, "web", "echo 2 > etc/two; rm etc/one");
    (void)commit(c, "web", "{'ref':'web'}");
    ld_change(c, "web", "echo 3 > etc/three; rm -r usr");
    (void)ld_take_snapshot(c, "web", "after");
    after = ld_root_digest(c, "web");
    (void)ld_want(c, 204, "DELETE", NULL, "/v1/images/web");
    for (int i = 0; i < 2; i++) {
        (void)ld_want(c, 200, "POST", NULL, "/v1/containers/web/snapshots/before/rollback");
        cr_expect_str_eq(ld_root_digest(c, "web").s, before.s);
        (void)ld_want(c, 200, "POST", NULL, "/v1/containers/web/snapshots/after/rollback");
        cr_expect_str_eq(ld_root_digest(c, "web").s, after.s);
        ld_daemon_kill(d);
        ld_daemon_again(d);
    }
    ld_wait_reaped(d);
    ld_expect_df_is_du(d, c);
}

static void export_to(struct ld_client *c, const char *image, const char *query, const char *name)
{
    autoclose int fd = open(name, O_CREAT | O_TRUNC | O_RDWR | O_CLOEXEC, 0600);
    autofree char *target = ld_asprintf("/v1/images/%s/export%s", image, query);
    const struct ld_reply *reply =
        ld_call(c, &(struct ld_call){.method = "GET", .target = target, .to_fd = fd});

    cr_assert_eq(reply->status, 200);
}

static void import_file(struct ld_client *c, const char *name)
{
    autoclose int fd = open(name, O_RDONLY | O_CLOEXEC);
    const struct ld_reply *reply = ld_call(
        c, &(struct ld_call){.method = "POST", .target = "/v1/images/import", .body_fd = fd});

    cr_assert_eq(reply->status, 200, "%s", reply->body);
}

LD_API_TEST(commit, exported_and_imported_elsewhere_is_the_same_tree)
{
    static const char *const queries[] = {"", "?format=docker"};
    static const char *const drivers[] = {"'driver':'overlay'", "'driver':'vfs'"};

    for (size_t i = 0; i < LD_ARRAY_LEN(drivers); i++) {
        struct ld_text was, id, layer;
        cJSON *json;

        ld_have_base(c);
        (void)ld_create(c, "web", "base", drivers[i]);
        ld_change(c, "web", deeds);
        was = ld_root_digest(c, "web");
        json = commit(c, "web", "{'ref':'web'}");
        id = ld_textf("%s", ld_str(json, "id"));
        layer = top_layer(json);
        export_to(c, "web", queries[i], "one.tar");
        (void)ld_want(c, 204, "DELETE", NULL, "/v1/containers/web");
        (void)ld_want(c, 204, "DELETE", NULL, "/v1/images/web");
        (void)ld_want(c, 204, "DELETE", NULL, "/v1/images/base");
        ld_wait_reaped(d);
        import_file(c, "one.tar");
        json = ld_want(c, 200, "GET", NULL, "/v1/images/web");
        cr_expect_str_eq(ld_str(json, "id"), id.s);
        cr_expect_str_eq(top_layer(json).s, layer.s);
        cr_expect_str_eq(image_digest(c, "web").s, was.s);
        export_to(c, "web", queries[i], "two.tar");
        ld_test_sh("cmp one.tar two.tar");
        (void)ld_want(c, 204, "DELETE", NULL, "/v1/images/web");
        ld_expect_df_is_du(d, c);
    }
}

LD_API_TEST(commit, of_the_same_tree_is_the_same_layer)
{
    static const char *const members[] = {"'driver':'overlay'", "'driver':'vfs'", NULL};
    struct ld_text layer[3], chain = {""};
    size_t layers = 0;

    ld_have_base(c);
    for (size_t i = 0; i < LD_ARRAY_LEN(members); i++) {
        autofree char *name = ld_asprintf("web%zu", i);
        cJSON *json;

        (void)ld_create(c, name, "base", members[i]);
        if (i == 2) { /* by another way: states in between, files that were only touched */
            ld_change(c, name, "echo a > etc/a; mkdir etc/d; chmod 600 etc/passwd");
            (void)ld_take_snapshot(c, name, "one");
            ld_change(c, name, "rm -r etc/a etc/d; chmod 644 etc/passwd; echo x > etc/new");
            (void)ld_take_snapshot(c, name, "two");
        }
        ld_change(c, name,
                  "echo new > etc/new; rm etc/motd; rm -r usr; mkdir usr; ln etc/new usr/also; "
                  "touch -d @1 etc/new etc usr .");
        json = commit(c, name, NULL);
        layer[i] = top_layer(json);
        if (i == 0)
            layers = ld_data_count(d, "layers");
        else
            cr_expect_str_eq(ld_str(json, "layers.0.chain_id"), chain.s);
        chain = ld_textf("%s", ld_str(json, "layers.0.chain_id"));
        cr_expect_eq(ld_count(json, "refs"), 0);
    }
    cr_expect_str_eq(layer[0].s, layer[1].s, "overlay and vfs");
    cr_expect_str_eq(layer[0].s, layer[2].s, "with and without snapshots");
    cr_expect_eq(ld_data_count(d, "layers"), layers + 2, "one layer for all, and two frozen ones");
    cr_expect_eq(ld_data_count(d, "staging"), 0);
    ld_expect_df_is_du(d, c);
}

LD_API_TEST(commit, at_a_given_time_is_the_same_image_whenever_it_was_changed)
{
    static const char *const bodies[] = {"{'created':'2026-01-02T04:04:05.5+01:00'}",
                                         "{'created':'2026-01-02T03:04:05Z','squash':true}"};

    ld_have_base(c);
    for (size_t i = 0; i < LD_ARRAY_LEN(bodies); i++) {
        static const char *const drivers[] = {"'driver':'overlay'", "'driver':'vfs'"};
        struct ld_text id[2];

        for (size_t k = 0; k < LD_ARRAY_LEN(drivers); k++) {
            struct ld_text was, digest;

            (void)ld_create(c, "web", "base", drivers[k]);
            ld_change(c, "web",
                      "date +%N > /dev/null; mkdir -p opt/d; echo new > opt/d/new; ln -s x opt/l; "
                      "rm etc/motd; mkfifo opt/p; touch -d @1000.5 opt/d/old");
            was = ld_root_digest(c, "web");
            id[k] = ld_textf("%s", ld_str(commit(c, "web", bodies[i]), "id"));
            digest = ld_root_digest(c, "web");
            cr_expect_str_eq(digest.s, was.s, "the container's own times stay");
            (void)ld_want(c, 204, "DELETE", NULL, "/v1/containers/web");
        }
        cr_expect_str_eq(id[0].s, id[1].s);
        cr_expect_str_eq(ld_str(ld_want(c, 200, "GET", NULL, "/v1/images/%s", id[0].s), "created"),
                         "2026-01-02T03:04:05.000000000Z");
        (void)ld_create(c, "probe", id[0].s, NULL);
        ld_change(c, "probe",
                  "test $(stat -c %Y opt/d/new) = 1767323045; test $(stat -c %Y opt) = 1767323045; "
                  "test $(stat -c %y opt/d/old | cut -c 18-20) = 40. ; test ! -e etc/motd");
        (void)ld_want(c, 204, "DELETE", NULL, "/v1/containers/probe");
    }
}

LD_API_TEST(commit, has_nothing_of_what_was_deleted_between_two_snapshots)
{
    ld_have_base(c);
    (void)ld_create(c, "web", "base", NULL);
    ld_change(c, "web", "mkdir root; echo the-password > root/secret; echo one > root/one");
    (void)ld_take_snapshot(c, "web", "one");
    ld_change(c, "web", "rm root/secret; echo two > root/two");
    (void)ld_take_snapshot(c, "web", "two");
    ld_change(c, "web", "echo three > root/three");
    cr_expect_eq(ld_int(commit(c, "web", "{'ref':'web'}"), "layer_count"), 3);
    export_to(c, "web", "", "web.tar");
    ld_test_sh("! grep -aq -e the-password -e secret web.tar && grep -aq root/three web.tar && "
               "grep -aq root/one web.tar");
    cr_expect_str_eq(image_digest(c, "web").s, ld_root_digest(c, "web").s);
}

/* One name in a frozen layer is a change, the other one of the same file is not. */
LD_API_TEST(commit, and_diff_keep_the_names_of_a_file_together_whatever_was_frozen)
{
    ld_have_base(c);
    (void)ld_create(c, "web", "base", NULL);
    ld_change(c, "web", "ln etc/passwd etc/twin");
    (void)ld_take_snapshot(c, "web", "one");
    ld_change(c, "web", "echo more > etc/more");
    (void)commit(c, "web", "{'ref':'web'}");
    (void)ld_create(c, "probe", "web", NULL);
    ld_change(c, "probe", "test etc/passwd -ef etc/twin");
    (void)ld_want(c, 204, "DELETE", NULL, "/v1/containers/probe");
    {
        autoclose int fd = open("diff.tar", O_CREAT | O_TRUNC | O_RDWR | O_CLOEXEC, 0600);

        cr_expect_eq(ld_call(c, &(struct ld_call){.method = "GET",
                                                  .target = "/v1/containers/web/diff",
                                                  .to_fd = fd})
                         ->status,
                     200);
    }
    ld_test_sh("test $(tar -tf diff.tar | grep -c -e '^etc/passwd$' -e '^etc/twin$') = 2");
}

LD_API_TEST(commit, squashed_has_one_layer)
{
    static const char *const drivers[] = {"'driver':'overlay'", "'driver':'vfs'"};
    struct ld_text layer[2];

    ld_have_base(c);
    for (size_t i = 0; i < LD_ARRAY_LEN(drivers); i++) {
        autofree char *name = ld_asprintf("web%zu", i);
        cJSON *json;

        (void)ld_create(c, name, "base", drivers[i]);
        ld_change(c, name, "echo x > etc/x; rm etc/motd; touch -d @1 etc/x etc");
        json = commit(c, name, "{'ref':'flat','squash':true,'changes':['LABEL flat=yes']}");
        layer[i] = top_layer(json);
        cr_expect_eq(ld_int(json, "layer_count"), 1);
        cr_expect_str_eq(ld_str(json, "labels.flat"), "yes");
        cr_expect_eq(ld_count(ld_want(c, 200, "GET", NULL, "/v1/images/flat/history"), "items"), 1);
        cr_expect_str_eq(image_digest(c, "flat").s, ld_root_digest(c, name).s);
        export_to(c, "flat", "", "flat.tar");
        ld_test_sh("! grep -aq '[.]wh[.]' flat.tar");
    }
    cr_expect_str_eq(layer[0].s, layer[1].s);
    ld_expect_df_is_du(d, c);
}

LD_API_TEST(commit, of_an_unchanged_container_has_the_layers_of_its_image)
{
    size_t layers;
    cJSON *json;

    ld_have_base(c);
    (void)ld_create(c, "web", "base", NULL);
    ld_change(c, "web", "echo x > etc/x");
    (void)ld_take_snapshot(c, "web", "one");
    ld_change(c, "web", "rm etc/x; touch -d @1 etc");
    ld_change(c, "web", "touch -d \"$(stat -c %y usr)\" etc"); /* whatever: then it is a change */
    (void)ld_create(c, "same", "base", NULL);
    layers = ld_data_count(d, "layers");
    json = commit(c, "same", "{'ref':'same','changes':['USER nobody']}");
    cr_expect_eq(ld_int(json, "layer_count"), 2);
    cr_expect_str_eq(ld_str(json, "config.user"), "nobody");
    cr_expect_eq(ld_data_count(d, "layers"), layers);
    json = ld_want(c, 200, "GET", NULL, "/v1/images/same/history");
    cr_expect(ld_bool(json, "items.0.empty_layer"));
    cr_expect_eq(ld_data_count(d, "staging"), 0);
}

LD_API_TEST(commit, changes_the_config_as_asked_for)
{
    static const char own[] = "'config':{'entrypoint':['/own'],'env':['A=own'],'user':'u'}";
    cJSON *json;

    ld_have_app(c);
    (void)ld_create(c, "web", "app", own);
    ld_change(c, "web", "echo x > x");
    json = commit(c, "web",
                  "{'changes':['CMD [\\'a\\',\\'b\\']','ENV B=${A}er','EXPOSE 80','LABEL l=1',"
                  "'VOLUME /v','WORKDIR /w','WORKDIR x','STOPSIGNAL SIGINT',"
                  "'HEALTHCHECK NONE','ONBUILD RUN y']}");
    cr_expect_str_eq(ld_str(json, "config.entrypoint.0"), "/own");
    cr_expect_str_eq(ld_str(json, "config.cmd.1"), "b");
    cr_expect_str_eq(ld_str(json, "config.user"), "u");
    cr_expect_str_eq(ld_str(json, "config.working_dir"), "/w/x");
    cr_expect_str_eq(ld_str(json, "config.volumes.1"), "/v");
    cr_expect_str_eq(ld_str(json, "config.labels.l"), "1");
    cr_expect_str_eq(ld_str(json, "config.exposed_ports.0"), "80/tcp");
    cr_expect_str_eq(ld_str(json, "config.stop_signal"), "SIGINT");
    {
        autofree char *env = cJSON_PrintUnformatted(ld_at(json, "config.env"));

        cr_expect(strstr(env, "\"A=own\"") && strstr(env, "\"B=owner\""), "%s", env);
    }
}

LD_API_TEST(commit, is_refused_with_the_right_code)
{
    static const struct {
        const char *code, *body, *says;
    } rows[] = {
        {"invalid", "{'nonsense':true}", "nonsense"},
        {"invalid", "{'ref':'UPPER'}", "UPPER"},
        {"invalid",
         "{'ref':'a@sha256:"
         "1111111111111111111111111111111111111111111111111111111111111111'}",
         "digest"},
        {"invalid", "{'message':7}", "'message'"},
        {"invalid", "{'changes':'CMD x'}", "'changes'"},
        {"invalid", "{'changes':[7]}", "'changes'"},
        {"invalid", "{'changes':['CMD x','RUN y']}", "change 'RUN y'"},
        {"invalid", "{'changes':['USER $NOBODY']}", "change 'USER $NOBODY'"},
        {"invalid", "{'squash':'yes'}", "'squash'"},
        {"invalid", "{'created':7}", "'created'"},
        {"invalid", "{'created':'yesterday'}", "'created'"},
        {"invalid", "{'created':'1969-12-31T23:59:59Z'}", "'created'"},
        {"invalid", "{'created':'2262-01-01T00:00:00Z'}", "'created'"},
    };
    const struct ld_reply *reply;
    autofree char *large = ld_alloc0((1 << 20) + 100);

    ld_have_base(c);
    (void)ld_create(c, "web", "base", NULL);
    ld_change(c, "web", "echo x > x");
    for (size_t i = 0; i < LD_ARRAY_LEN(rows); i++) {
        cJSON *error =
            ld_want_error(c, rows[i].code, "POST", rows[i].body, "/v1/containers/web/commit");

        cr_expect(strstr(ld_str(error, "message"), rows[i].says), "%s", ld_str(error, "message"));
    }
    (void)ld_want_error(c, "not_found", "POST", NULL, "/v1/containers/none/commit");
    memset(large, ' ', (1 << 20) + 99);
    reply = ld_call(c, &(struct ld_call){.method = "POST",
                                         .target = "/v1/containers/web/commit",
                                         .content_type = "application/json",
                                         .body = large,
                                         .body_len = strlen(large)});
    cr_expect_eq(reply->status, 413);
    reply = ld_call(c, &(struct ld_call){.method = "POST",
                                         .target = "/v1/containers/web/commit",
                                         .content_type = "text/plain",
                                         .body = "FROM x",
                                         .body_len = 6});
    cr_expect_eq(reply->status, 415);
    cr_expect_eq(ld_count(ld_want(c, 200, "GET", NULL, "/v1/images"), "items"), 1);
    cr_expect_eq(ld_data_count(d, "staging"), 0);
    ld_expect_df_is_du(d, c);
}

LD_API_TEST(commit, refuses_what_no_layer_can_have)
{
    cJSON *error;

    ld_have_base(c);
    for (int i = 0; i < 2; i++) {
        const char *driver = i ? "'driver':'vfs'" : "'driver':'overlay'";

        for (int squash = 0; squash < 2; squash++) {
            const char *body = squash ? "{'squash':true}" : "{}";

            (void)ld_create(c, "web", "base", driver);
            ld_change(c, "web", "mkdir -p a/b; echo x > a/b/.wh.c");
            error = ld_want_error(c, "bad_content", "POST", body, "/v1/containers/web/commit");
            cr_expect(strstr(ld_str(error, "message"), "/a/b/.wh.c"), "%s",
                      ld_str(error, "message"));
            ld_change(c, "web", "rm -r a; mkdir -p $(yes d | head -130 | paste -sd/)");
            error = ld_want_error(c, "bad_content", "POST", body, "/v1/containers/web/commit");
            cr_expect_str_eq(ld_str(error, "details.limit"), "max_depth");
            ld_change(c, "web", "rm -r d");
            if (i) { /* overlay shows none */
                ld_change(c, "web", "mknod null c 0 0");
                error = ld_want_error(c, "bad_content", "POST", body, "/v1/containers/web/commit");
                cr_expect(strstr(ld_str(error, "message"), "'/null'"), "%s",
                          ld_str(error, "message"));
            }
            (void)ld_want(c, 204, "DELETE", NULL, "/v1/containers/web");
        }
    }
    cr_expect_eq(ld_data_count(d, "staging"), 0);
    ld_expect_df_is_du(d, c);
}

/* What was there before a socket took its place is gone in the image, too. */
LD_API_TEST(commit, leaves_sockets_out)
{
    static const char sockets[] =
        "rm etc/motd; for f in etc/motd new; do python3 -c 'import socket, sys; "
        "socket.socket(socket.AF_UNIX).bind(sys.argv[1])' $f; done; test -S etc/motd -a -S new";

    ld_have_base(c);
    for (int i = 0; i < 4; i++) {
        (void)ld_create(c, "web", "base", i % 2 ? "'driver':'vfs'" : NULL);
        ld_change(c, "web", sockets);
        (void)commit(c, "web", i / 2 ? "{'ref':'web','squash':true}" : "{'ref':'web'}");
        (void)ld_create(c, "probe", "web", NULL);
        ld_change(c, "probe", "test ! -e etc/motd -a ! -e new -a -e etc/passwd");
        (void)ld_want(c, 204, "DELETE", NULL, "/v1/containers/probe");
        (void)ld_want(c, 204, "DELETE", NULL, "/v1/containers/web");
        (void)ld_want(c, 204, "DELETE", NULL, "/v1/images/web");
    }
}

LD_API_TEST(commit, of_a_mounted_container_names_who_writes_to_it)
{
    int up[2], down[2];
    struct ld_text at;
    cJSON *error;
    char byte = 0;
    pid_t pid;

    ld_have_base(c);
    (void)ld_create(c, "web", "base", NULL);
    at = ld_mount(c, "web");
    cr_assert(pipe(up) == 0 && pipe(down) == 0);
    pid = fork();
    if (pid == 0) {
        int fd;

        if (chdir(at.s) < 0 || (fd = open("log", O_CREAT | O_WRONLY | O_CLOEXEC, 0644)) < 0 ||
            write(fd, "x", 1) != 1 || write(up[1], "x", 1) != 1)
            _exit(1);
        (void)close(down[1]);
        (void)!read(down[0], &byte, 1);
        _exit(write(fd, "y", 1) == 1 ? 0 : 1);
    }
    cr_assert_eq(read(up[0], &byte, 1), 1);
    error = ld_want_error(c, "busy", "POST", NULL, "/v1/containers/web/commit");
    cr_expect_eq(ld_int(error, "details.holders.0.pid"), (int64_t)pid);
    (void)close(down[1]);
    {
        int status;

        cr_assert_eq(waitpid(pid, &status, 0), pid);
        cr_expect(WIFEXITED(status) && WEXITSTATUS(status) == 0, "it could not write on");
    }
    (void)commit(c, "web", "{'ref':'web'}");
    ld_test_sh("echo z >> %s/log && grep -qx xyz %s/log", at.s, at.s); /* writable again */
    ld_unmount(c, "web");
    (void)ld_create(c, "probe", "web", NULL);
    ld_change(c, "probe", "test $(cat log) = xy");
}

LD_API_TEST(commit, of_a_vfs_container_needs_it_unmounted)
{
    cJSON *error;

    ld_have_base(c);
    (void)ld_create(c, "web", "base", "'driver':'vfs'");
    (void)ld_mount(c, "web");
    error = ld_want_error(c, "busy", "POST", NULL, "/v1/containers/web/commit");
    cr_expect(strstr(ld_str(error, "hint"), "unmount it"));
    ld_unmount(c, "web");
    (void)commit(c, "web", NULL);
}

LD_API_TEST(commit, needs_the_config_of_its_image)
{
    struct ld_blob base = ld_make_base();

    ld_have_base(c);
    (void)ld_create(c, "web", "base", NULL);
    ld_change(c, "web", "echo x > x");
    (void)ld_want(c, 204, "DELETE", NULL, "/v1/images/base?force");
    (void)ld_want_error(c, "conflict", "POST", NULL, "/v1/containers/web/commit");
    (void)ld_import(c, &base, "");
    cr_expect_eq(ld_int(commit(c, "web", NULL), "layer_count"), 3);
    ld_blob_done(&base);
}

LD_API_TEST(commit, repairs_its_layer_and_refuses_a_damaged_base)
{
    struct ld_text was;

    ld_have_base(c);
    (void)ld_create(c, "web", "base", "'driver':'vfs'"); /* does not go on on top of it */
    ld_change(c, "web", "echo x > x");
    was = ld_root_digest(c, "web");
    (void)commit(c, "web", "{'ref':'web'}");
    ld_daemon_stop(d);
    ld_test_sh("cd %s/layers; n=$(ls | grep -v '[.]' | sort -n | tail -1); rm $n.recipe",
               d->data_root);
    ld_daemon_again(d);
    cr_expect_str_eq(ld_str(ld_want(c, 200, "GET", NULL, "/v1/images/web"), "state"), "damaged");
    (void)commit(c, "web", "{'ref':'web'}");
    cr_expect_str_eq(ld_str(ld_want(c, 200, "GET", NULL, "/v1/images/web"), "state"), "ok");
    cr_expect_str_eq(image_digest(c, "web").s, was.s);
    export_to(c, "web", "", "web.tar");
    ld_daemon_stop(d);
    ld_test_sh("cd %s/layers; n=$(ls | grep -v '[.]' | sort -n | sed -n 2p); rm -r $n",
               d->data_root);
    ld_daemon_again(d);
    (void)ld_want_error(c, "corrupt", "POST", NULL, "/v1/containers/web/commit");
}

/* ---- as long work ---- */

static const struct ld_reply *post(struct ld_client *c, const char *json, const char *header)
{
    const char *const headers[] = {header, NULL};

    return ld_call(c, &(struct ld_call){.method = "POST",
                                        .target = "/v1/containers/web/commit",
                                        .json = json,
                                        .headers = headers});
}

LD_API_TEST(commit, is_made_once_under_an_idempotency_key)
{
    const struct ld_reply *reply;
    struct ld_text id;

    ld_have_base(c);
    (void)ld_create(c, "web", "base", NULL);
    ld_change(c, "web", "echo x > x");
    reply = post(c, "{'ref':'web'}", "Idempotency-Key: one");
    cr_assert_eq(reply->status, 201, "%s", reply->body);
    id = ld_textf("%s", ld_str(reply->json, "id"));
    ld_change(c, "web", "echo y > y");
    reply = post(c, "{'ref':'web'}", "Idempotency-Key: one");
    cr_assert_eq(reply->status, 201, "%s", reply->body);
    cr_expect_str_eq(ld_str(reply->json, "id"), id.s);
    cr_expect_eq(post(c, "{'ref':'other'}", "Idempotency-Key: one")->status, 409);
    (void)ld_want(c, 204, "DELETE", NULL, "/v1/containers/web");
    reply = post(c, "{'ref':'web'}", "Idempotency-Key: one");
    cr_assert_eq(reply->status, 201, "the container may be gone: %s", reply->body);
    cr_expect_str_eq(ld_str(reply->json, "id"), id.s);
    cr_expect_eq(post(c, "{'ref':'web'}", "Idempotency-Key: two")->status, 404);
    (void)ld_want(c, 204, "DELETE", NULL, "/v1/images/web");
    cr_expect_eq(post(c, "{'ref':'web'}", "Idempotency-Key: one")->status, 409, "the image is");
}

LD_API_TEST(commit, answers_in_the_three_forms_of_long_work)
{
    const struct ld_reply *reply;
    struct ld_text job;
    cJSON *json;

    ld_have_base(c);
    (void)ld_create(c, "web", "base", NULL);
    ld_change(c, "web", "head -c 3M /dev/urandom > big");
    reply = post(c, "{'ref':'web'}", "Accept: application/x-ndjson");
    cr_assert_eq(reply->status, 200, "%s", reply->body);
    cr_expect(strstr(reply->body, "\"phase\":\"capture\""), "%s", reply->body);
    cr_expect(strstr(reply->body, "{\"result\":{\"id\":\"sha256:"), "%s", reply->body);
    reply = post(c, "{'ref':'web'}", "Prefer: respond-async");
    cr_assert_eq(reply->status, 202, "%s", reply->body);
    job = ld_textf("%s", ld_str(reply->json, "job"));
    json = ld_want(c, 200, "GET", NULL, "/v1/jobs/%s?wait=60s", job.s);
    cr_expect_str_eq(ld_str(json, "state"), "done");
    cr_expect_str_eq(ld_str(json, "kind"), "container.commit");
    cr_expect_str_eq(ld_str(json, "object.name"), "web:latest");
    cr_expect_eq(ld_int(json, "result.layer_count"), 3);
    json = ld_want(c, 200, "GET", NULL, "/v1/jobs?filter=kind=container.commit");
    cr_expect_eq(ld_count(json, "items"), 2);
}

static bool it_packs(void *arg)
{
    cJSON *json = ld_want(arg, 200, "GET", NULL, "/v1/jobs?filter=state=running");

    return ld_count(json, "items") == 1 && !ld_is_null(json, "items.0.progress");
}

struct waiter {
    struct ld_client *client;
    int status;
    struct ld_text code;
};

static void *commit_and_wait(void *arg)
{
    struct waiter *w = arg;
    const struct ld_reply *reply = ld_client_call(
        w->client,
        &(struct ld_call){.method = "POST", .target = "/v1/containers/web/commit", .json = "{}"});

    w->status = reply ? reply->status : 0;
    if (w->status >= 400)
        w->code = ld_textf("%s", ld_str(reply->json, "error.code"));
    return NULL;
}

LD_API_TEST(commit, that_is_cancelled_leaves_nothing)
{
    struct waiter w = {.client = ld_client_new(d->socket)};
    pthread_t thread;

    ld_have_base(c);
    (void)ld_create(c, "web", "base", NULL);
    ld_change(c, "web", "truncate -s 64G big"); /* takes the hash longer than anybody waits */
    cr_assert_eq(pthread_create(&thread, NULL, commit_and_wait, &w), 0);
    cr_assert(ld_test_wait(it_packs, c, 60));
    (void)ld_want(
        c, 200, "DELETE", NULL, "/v1/jobs/%s",
        ld_str(ld_want(c, 200, "GET", NULL, "/v1/jobs?filter=state=running"), "items.0.id"));
    cr_assert_eq(pthread_join(thread, NULL), 0);
    cr_expect_eq(w.status, 503);
    cr_expect_str_eq(w.code.s, "canceled");
    ld_client_free(w.client);
    cr_expect_eq(ld_count(ld_want(c, 200, "GET", NULL, "/v1/images"), "items"), 1);
    cr_expect_eq(ld_data_count(d, "staging"), 0);
    ld_change(c, "web", "echo writable > again; rm big");
    ld_expect_df_is_du(d, c);
}

LD_API_TEST(commit, that_waits_for_another_one_can_be_cancelled)
{
    static const char *const async[] = {"Prefer: respond-async", NULL};
    struct ld_text job[2];
    cJSON *json;

    ld_have_base(c);
    (void)ld_create(c, "web", "base", NULL);
    ld_change(c, "web", "truncate -s 8G big");
    for (int i = 0; i < 2; i++) {
        const struct ld_reply *reply = ld_call(
            c, &(struct ld_call){
                   .method = "POST", .target = "/v1/containers/web/commit", .headers = async});

        cr_assert_eq(reply->status, 202, "%s", reply->body);
        job[i] = ld_textf("%s", ld_str(reply->json, "job"));
    }
    for (int i = 1; i >= 0; i--)
        (void)ld_call(c, &(struct ld_call){.method = "DELETE",
                                           .target = ld_textf("/v1/jobs/%s", job[i].s).s});
    json = ld_want(c, 200, "GET", NULL, "/v1/jobs/%s?wait=60s", job[1].s);
    cr_expect_str_eq(ld_str(json, "state"), "canceled");
    cr_expect_str_eq(ld_str(json, "error.code"), "canceled");
    (void)ld_want(c, 200, "GET", NULL, "/v1/jobs/%s?wait=60s", job[0].s);
    cr_expect_eq(ld_data_count(d, "staging"), 0);
}

LD_API_TEST(commit, is_told_by_an_event)
{
    struct ld_text web;
    const struct ld_reply *reply;
    cJSON *event;

    ld_have_base(c);
    web = ld_create(c, "web", "base", NULL);
    (void)commit(c, "web", "{'ref':'web:2'}");
    reply = ld_call(
        c, &(struct ld_call){.method = "GET", .target = "/v1/events?filter=type=image.commit"});
    event = cJSON_ParseWithLength(reply->body, strcspn(reply->body, "\n"));
    cr_expect_str_eq(ld_str(event, "attributes.container"), web.s);
    cr_expect_str_eq(ld_str(event, "object.kind"), "image");
    cr_expect_str_eq(ld_str(event, "object.name"), "web:2");
    cr_expect_eq(ld_int(event, "actor.uid"), 0);
    cJSON_Delete(event);
}

LD_TEST(commit, says_no_space_and_leaves_nothing_on_a_full_disk)
{
    struct ld_daemon *d;
    struct ld_client *c;
    static const char *const args[] = {"--config", "conf", NULL};

    ld_close(ld_test_fs("disk", "ext4", 96));
    ld_test_sh("printf '[storage]\nmin_free = 0\n' > conf");
    d = ld_daemon_start("disk", args);
    c = d->client;
    ld_have_base(c);
    (void)ld_create(c, "web", "base", NULL);
    ld_change(c, "web", "head -c 48M /dev/urandom > big"); /* twice does not fit */
    (void)ld_want_error(c, "no_space", "POST", NULL, "/v1/containers/web/commit");
    cr_expect_eq(ld_count(ld_want(c, 200, "GET", NULL, "/v1/images"), "items"), 1);
    cr_expect_eq(ld_data_count(d, "staging"), 0);
    ld_wait_reaped(d);
    ld_change(c, "web", "rm big; echo x > x");
    ld_expect_df_is_du(d, c);
    (void)commit(c, "web", NULL);
    ld_api_finish(d);
}
