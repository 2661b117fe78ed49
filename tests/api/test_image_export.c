/* Images out again: the bytes that came, each time, whoever removes, damages, reads slowly or
 * leaves meanwhile. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <cjson/cJSON.h>

#include "daemon/base/fdio.h"
#include "daemon/base/mem.h"
#include "tests/lib/api.h"
#include "tests/lib/tarlib.h"

/* GET /v1/images/TARGET into the file NAME of the test's directory. */
static void export_to(struct ld_client *c, const char *name, const char *target)
{
    autofree char *path = ld_asprintf("/v1/images/%s", target);
    int fd = open(name, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    const struct ld_reply *reply;

    cr_assert_geq(fd, 0);
    reply = ld_call(c, &(struct ld_call){.method = "GET", .target = path, .to_fd = fd});
    cr_assert_eq(reply->status, 200, "%s", path);
    ld_close(fd);
}

static struct ld_text id_of(struct ld_client *c, const char *image)
{
    return ld_textf("%s", ld_str(ld_want(c, 200, "GET", NULL, "/v1/images/%s", image), "id"));
}

static void import_file(struct ld_client *c, const char *name, const char *query)
{
    autofree char *target = ld_asprintf("/v1/images/import%s", query);
    int fd = open(name, O_RDONLY | O_CLOEXEC);
    const struct ld_reply *reply;

    cr_assert_geq(fd, 0);
    reply = ld_call(c, &(struct ld_call){.method = "POST", .target = target, .body_fd = fd});
    cr_assert_eq(reply->status, 200, "%s: %s", name, reply->body);
    ld_close(fd);
}

LD_API_TEST(image_export, round_trips_in_every_format)
{
    static const char *const formats[] = {"", "?format=oci", "?format=docker"};
    struct ld_text id;

    ld_have_base(c);
    ld_have_app(c);
    id = id_of(c, "app");
    export_to(c, "root.before", "app/export?format=rootfs");
    for (size_t i = 0; i < LD_ARRAY_LEN(formats); i++) {
        struct ld_text target = ld_textf("app/export%s", formats[i]);

        export_to(c, "first.tar", target.s);
        export_to(c, "second.tar", target.s);
        ld_test_sh("cmp first.tar second.tar");
        (void)ld_want(c, 204, "DELETE", NULL, "/v1/images/app");
        import_file(c, "first.tar", "");
        cr_expect_str_eq(id_of(c, "app:latest").s, id.s, "%s", formats[i]);
        export_to(c, "third.tar", target.s);
        ld_test_sh("cmp first.tar third.tar");
        ld_daemon_stop(d);
        ld_daemon_again(d);
        c = d->client;
        export_to(c, "fourth.tar", target.s);
        ld_test_sh("cmp first.tar fourth.tar");
    }
    export_to(c, "root.after", "app/export?format=rootfs");
    ld_test_sh("cmp root.before root.after");
}

/* An image of one layer with these bytes; its diff ID's digits. */
static struct ld_text import_layer(struct ld_client *c, const char *path)
{
    struct ld_text id;

    import_file(c, path, "?format=rootfs&ref=layer");
    id = ld_textf("%s",
                  ld_str(ld_want(c, 200, "GET", NULL, "/v1/images/layer"), "layers.0.diff_id"));
    return ld_textf("%s", id.s + strlen("sha256:"));
}

static void check_one(const char *path, void *arg)
{
    struct ld_client *c = arg;
    struct ld_text hex = import_layer(c, path);

    export_to(c, "out.tar", "layer/export");
    ld_test_sh("tar xOf out.tar blobs/sha256/%s | cmp - '%s'", hex.s, path);
    export_to(c, "out.tar", "layer/export?format=docker");
    ld_test_sh("tar xOf out.tar %s.tar | cmp - '%s'", hex.s, path);
}

LD_API_TEST(image_export, gives_the_very_tars_that_came_whatever_wrote_them)
{
    ld_test_tar_tree();
    ld_test_tar_corpus(check_one, c);
}

LD_API_TEST(image_export, gives_duplicates_links_and_whiteouts_as_they_came)
{
    static const struct ld_entry entries[] = {
        {.path = "etc/", .type = LD_ENTRY_DIR},
        {.path = "etc/twice", .data = "the first one, which is replaced\n"},
        {.path = "etc/name", .data = "linked\n", .xattr = "user.note", .value = "x"},
        {.path = "etc/other", .type = LD_ENTRY_LINK, .data = "etc/name"},
        {.path = "etc/twice", .data = "second\n"},
        {.path = "etc/.wh.gone", .data = ""},
        {.path = "etc/twice", .type = LD_ENTRY_SYMLINK, .data = "name"},
    };
    struct ld_blob tar = ld_make_tar(entries, LD_ARRAY_LEN(entries));
    struct ld_text hex;

    ld_close(ld_blob_file(&tar, "layer.tar"));
    hex = import_layer(c, "layer.tar");
    export_to(c, "out.tar", "layer/export");
    ld_test_sh("tar xOf out.tar blobs/sha256/%s | cmp - layer.tar", hex.s);
    ld_blob_done(&tar);
}

LD_API_TEST(image_export, puts_what_several_images_share_once)
{
    ld_have_base(c);
    ld_have_app(c);
    (void)ld_want(c, 200, "POST", "{'ref':'example.org/team/base:2'}", "/v1/images/base/tag");
    export_to(c, "all.tar", "export?ref=base&ref=app&ref=example.org/team/base:2&ref=base");
    ld_test_sh("test -z \"$(tar tf all.tar | sort | uniq -d)\"");
    ld_test_sh("test $(tar tf all.tar | grep -c blobs/sha256/.) = 7"); /* 2 x 2 and 3 layers */
    ld_test_sh("tar xOf all.tar manifest.json | grep -qF "
               "'\"RepoTags\":[\"base:latest\",\"example.org/team/base:2\"]'");
    ld_test_sh(
        "test $(tar xOf all.tar index.json | grep -o '\"io.containerd.image.name\":\"[^\"]*' "
        "| sort -u | wc -l) = 3");
    (void)ld_want(c, 204, "DELETE", NULL, "/v1/images/app");
    (void)ld_want(c, 200, "DELETE", NULL, "/v1/images/base");
    (void)ld_want(c, 204, "DELETE", NULL, "/v1/images/example.org/team/base:2");
    import_file(c, "all.tar", "");
    (void)id_of(c, "app:latest");
    cr_expect_str_eq(id_of(c, "base:latest").s, id_of(c, "example.org/team/base:2").s);
}

LD_API_TEST(image_export, names_an_image_as_it_was_asked_for)
{
    struct ld_text id;

    ld_have_base(c);
    id = id_of(c, "base");
    export_to(c, "by-id.tar", ld_textf("%s/export", id.s).s);
    export_to(c, "by-prefix.tar", ld_textf("export?ref=%.10s", id.s + 7).s);
    ld_test_sh("cmp by-id.tar by-prefix.tar");
    ld_test_sh("tar xOf by-id.tar manifest.json | grep -qF '\"RepoTags\":[]'");
    ld_test_sh("! tar xOf by-id.tar index.json | grep -q annotations");
    (void)ld_want(c, 204, "DELETE", NULL, "/v1/images/base");
    import_file(c, "by-id.tar", "?ref=again:1");
    cr_expect_str_eq(id_of(c, "again:1").s, id.s);
}

LD_API_TEST(image_export, of_an_image_without_layers_is_whole_too)
{
    const char *refs[] = {"docker.io/library/empty:1", NULL};
    struct ld_image_spec spec = {.refs = refs};
    struct ld_blob archive = ld_make_image(&spec, 1);
    struct ld_text id = ld_textf("%s", ld_str(ld_import(c, &archive, ""), "images.0.id"));

    export_to(c, "empty.tar", "empty:1/export");
    export_to(c, "empty.root", "empty:1/export?format=rootfs");
    ld_test_sh("test $(stat -c %%s empty.root) = 1024 && tar tf empty.root");
    (void)ld_want(c, 204, "DELETE", NULL, "/v1/images/empty:1");
    import_file(c, "empty.tar", "");
    cr_expect_str_eq(id_of(c, "empty:1").s, id.s);
    ld_blob_done(&archive);
}

LD_API_TEST(image_export, as_a_root_is_what_a_container_exports)
{
    static const char *const drivers[] = {"'driver':'vfs'", "'driver':'overlay'"};
    int fd;

    ld_have_app(c);
    export_to(c, "image.tar", "app/export?format=rootfs");
    for (size_t i = 0; i < LD_ARRAY_LEN(drivers); i++) {
        struct ld_text name = ld_textf("c%zu", i), target;

        (void)ld_create(c, name.s, "app", drivers[i]);
        target = ld_textf("/v1/containers/%s/export", name.s);
        fd = open("container.tar", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        cr_assert_eq(
            ld_call(c, &(struct ld_call){.method = "GET", .target = target.s, .to_fd = fd})->status,
            200);
        ld_close(fd);
        ld_test_sh("cmp image.tar container.tar");
    }
}

LD_API_TEST(image_export, refuses_what_it_cannot_do)
{
    ld_have_base(c);
    ld_have_app(c);
    (void)ld_want_error(c, "not_found", "GET", NULL, "/v1/images/nothing/export");
    (void)ld_want_error(c, "not_found", "GET", NULL, "/v1/images/export?ref=base&ref=nothing");
    (void)ld_want_error(c, "invalid", "GET", NULL, "/v1/images/base/export?format=zip");
    (void)ld_want_error(c, "invalid", "GET", NULL, "/v1/images/export");
    (void)ld_want_error(c, "invalid", "GET", NULL, "/v1/images/export?ref=Not%%20one");
    (void)ld_want_error(c, "invalid", "GET", NULL,
                        "/v1/images/export?ref=base&ref=app&format=rootfs");
    (void)ld_want(c, 404, "HEAD", NULL, "/v1/images/nothing/export");
    (void)ld_want(c, 200, "HEAD", NULL, "/v1/images/base/export");
}

/* ---- slow readers ---- */

/* Begins an export and takes its first bytes only. */
static int begin(const struct ld_daemon *d, const char *target)
{
    autofree char *request =
        ld_asprintf("GET /v1/images/%s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", target);
    int fd = ld_raw_connect(d->socket);
    char head[4096];

    ld_raw_send(fd, request, strlen(request));
    cr_assert_eq(ld_read_full(fd, head, sizeof(head)), 0);
    cr_assert_eq(memcmp(head, "HTTP/1.1 200 OK", 15), 0, "%.60s", head);
    return fd;
}

/* Bytes until the daemon closes. */
static uint64_t drain(int fd)
{
    static char buf[256 << 10];
    uint64_t total = 0;
    ssize_t n;

    for (;;) {
        struct pollfd p = {.fd = fd, .events = POLLIN};

        cr_assert_eq(poll(&p, 1, 60000), 1, "nothing comes any more");
        n = recv(fd, buf, sizeof(buf), 0);
        if (n <= 0)
            return total;
        total += (uint64_t)n;
    }
}

/* big:latest, 16 MiB: more than a socket and a ring take. */
static void have_big(struct ld_client *c)
{
    ld_test_sh("mkdir big && head -c 16M /dev/urandom >big/data && tar -C big -cf big.tar .");
    import_file(c, "big.tar", "?format=rootfs&ref=big");
}

static uint64_t size_of(const char *name)
{
    struct stat st;

    cr_assert_eq(stat(name, &st), 0);
    return (uint64_t)st.st_size;
}

LD_API_TEST(image_export, goes_on_when_the_image_is_removed_meanwhile)
{
    uint64_t rest;
    int fd;

    have_big(c);
    export_to(c, "whole.tar", "big/export");
    fd = begin(d, "big/export");
    (void)ld_want(c, 204, "DELETE", NULL, "/v1/images/big");
    rest = drain(fd);
    cr_expect_geq(rest + 4096, size_of("whole.tar"));
    ld_close(fd);
    ld_wait_reaped(d);
}

LD_API_TEST(image_export, of_a_client_that_leaves_ends)
{
    int fd;

    have_big(c);
    fd = begin(d, "big/export");
    (void)ld_want(c, 204, "DELETE", NULL, "/v1/images/big");
    ld_close(fd);
    ld_wait_reaped(d); /* its pins are gone */
}

LD_API_TEST(image_export, leaves_nothing_when_the_daemon_is_killed)
{
    int fd;

    have_big(c);
    fd = begin(d, "big/export");
    ld_daemon_kill(d);
    ld_close(fd);
    ld_daemon_again(d);
    cr_expect_eq(ld_data_count(d, "staging"), 0);
    cr_expect_eq(ld_data_count(d, "quarantine"), 0);
    export_to(d->client, "after.tar", "big/export");
    ld_test_sh("tar xOf after.tar blobs/sha256/$(sha256sum <big.tar | cut -c-64) | cmp - big.tar");
}

LD_API_TEST(image_export, of_much_data_keeps_memory_low)
{
    have_big(c);
    ld_test_sh("for i in 1 2 3 4 5 6; do head -c 32M /dev/zero; cat big/data; done >big/data2 && "
               "tar -C big -cf big.tar .");
    import_file(c, "big.tar", "?format=rootfs&ref=big");
    ld_daemon_reset_peak(d);
    export_to(c, "out.tar", "big/export");
    cr_expect_gt(size_of("out.tar"), 300 << 20);
    cr_expect(!LD_MEMORY_COUNTS || ld_daemon_peak_rss(d) < 48 << 20, "%llu MiB",
              (unsigned long long)ld_daemon_peak_rss(d) >> 20);
}

/* ---- damage ---- */

static void damage(const struct ld_daemon *d, const char *command)
{
    ld_test_sh("cd %s/layers && f=$(ls -d [0-9]*/data) && l=${f%%/*} && %s", d->data_root, command);
}

/* The transfer ends before its promised length, the layer is damaged from then on, an import
 * repairs it. */
static void is_cut_off(struct ld_daemon *d, const char *command)
{
    struct ld_client *c = d->client;
    int fd = open("cut.tar", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    struct ld_call call = {.method = "GET", .target = "/v1/images/big/export", .to_fd = fd};
    const struct ld_reply *reply;

    damage(d, command);
    reply = ld_client_call(c, &call); /* cut off, or an error where nothing was sent yet */
    cr_expect(!reply || reply->status == 500, "%s: must not look whole", command);
    ld_close(fd);
    cr_expect_lt(size_of("cut.tar"), size_of("whole.tar"));
    ld_test_sh("! tar tf cut.tar >/dev/null 2>&1"); /* it ends inside an entry */
    cr_expect_str_eq(ld_str(ld_want(c, 200, "GET", NULL, "/v1/images/big"), "state"), "damaged",
                     "%s", command);
    (void)ld_want_error(c, "corrupt", "GET", NULL, "/v1/images/big/export");
    (void)ld_want_error(c, "corrupt", "GET", NULL, "/v1/images/export?ref=big");
    (void)ld_want_error(c, "corrupt", "GET", NULL, "/v1/images/big/export?format=rootfs");
    import_file(c, "big.tar", "?format=rootfs&ref=big");
    export_to(c, "repaired.tar", "big/export");
    ld_test_sh("cmp whole.tar repaired.tar");
}

LD_API_TEST(image_export, of_a_damaged_layer_is_cut_off_and_tells)
{
    have_big(c);
    export_to(c, "whole.tar", "big/export");
    is_cut_off(d, "printf x | dd of=$f bs=1 seek=16777215 conv=notrunc"); /* the last byte */
    is_cut_off(d, "printf x | dd of=$f bs=1 seek=0 conv=notrunc");
    is_cut_off(d, "truncate -s 1M $f");
    is_cut_off(d, "rm $f");
}

LD_API_TEST(image_export, of_a_layer_without_its_recipe_is_refused)
{
    have_big(c);
    damage(d, "rm $l.recipe");
    (void)ld_want_error(c, "corrupt", "GET", NULL, "/v1/images/big/export");
    cr_expect_str_eq(ld_str(ld_want(c, 200, "GET", NULL, "/v1/images/big"), "state"), "damaged");
}

/* ---- kept blobs ---- */

/* kept:1 of two layers, compressed, with a manifest: always from the same archive, kept.tar, since
 * gzip writes the time. */
static void import_compressed(struct ld_client *c, const char *query)
{
    static const struct ld_entry entries[] = {{.path = "etc", .type = LD_ENTRY_DIR},
                                              {.path = "etc/kept", .data = "kept\n"}};
    const char *refs[] = {"docker.io/library/kept:1", NULL};

    if (access("kept.tar", F_OK) < 0) {
        struct ld_blob layers[2] = {ld_make_tar(entries, 2), ld_make_tar(entries, 1)};
        struct ld_image_spec spec = {
            .filter = "gzip", .refs = refs, .layers = layers, .n_layers = LD_ARRAY_LEN(layers)};
        struct ld_blob archive = ld_make_image(&spec, 1);

        ld_close(ld_blob_file(&archive, "kept.tar"));
        ld_blob_done(&archive);
        ld_blob_done(&layers[0]);
        ld_blob_done(&layers[1]);
    }
    import_file(c, "kept.tar", query);
}

#define BLOBS_OF "tar tf %s | grep -o 'blobs/sha256/[0-9a-f]\\{64\\}' | sort"

static bool is_as_it_came(struct ld_client *c)
{
    export_to(c, "out.tar", "kept:1/export");
    ld_test_sh(BLOBS_OF " >in.list; " BLOBS_OF
                        " >out.list; cmp -s in.list out.list && touch same || "
                        "rm -f same",
               "kept.tar", "out.tar");
    return access("same", F_OK) == 0;
}

LD_API_TEST(kept_blobs, go_out_with_the_manifest_they_came_with)
{
    struct ld_text id, digest;
    cJSON *json;

    import_compressed(c, "?blobs=keep");
    json = ld_want(c, 200, "GET", NULL, "/v1/images/kept:1");
    id = ld_textf("%s", ld_str(json, "id"));
    digest = ld_textf("%s", ld_str(json, "layers.0.blob.digest") + strlen("sha256:"));
    cr_expect_eq(ld_int(json, "blobs"),
                 ld_int(json, "layers.0.blob.size") + ld_int(json, "layers.1.blob.size"));
    cr_expect(strstr(ld_str(json, "layers.0.blob.media_type"), "gzip"));
    json = ld_want(c, 200, "GET", NULL, "/v1/df");
    cr_expect_eq(ld_int(json, "blobs.inodes"), 2);
    cr_expect_gt(ld_int(json, "blobs.bytes"), 0);
    cr_expect(is_as_it_came(c));
    ld_test_sh("tar xOf out.tar blobs/sha256/%s | gzip -t", digest.s);
    export_to(c, "plain.tar", "kept:1/export?blobs=drop");
    ld_test_sh("! tar tf plain.tar | grep -q %s", digest.s);
    export_to(c, "docker.tar", "kept:1/export?format=docker");
    ld_test_sh("! tar tf docker.tar | grep -q %s", digest.s);
    (void)ld_want_error(c, "invalid", "GET", NULL, "/v1/images/kept:1/export?blobs=both");
    ld_daemon_kill(d);
    ld_daemon_again(d);
    c = d->client;
    cr_expect(is_as_it_came(c));
    (void)ld_want(c, 204, "DELETE", NULL, "/v1/images/kept:1");
    ld_wait_reaped(d);
    cr_expect_eq(ld_data_count(d, "layers"), 1, "layers/0 alone");
    import_file(c, "out.tar", "?blobs=keep");
    cr_expect_str_eq(id_of(c, "kept:1").s, id.s);
    cr_expect(is_as_it_came(c));
}

LD_API_TEST(kept_blobs, are_added_to_layers_that_are_there)
{
    import_compressed(c, "?blobs=drop");
    cr_expect(ld_is_null(ld_want(c, 200, "GET", NULL, "/v1/images/kept:1"), "layers.0.blob"));
    cr_expect_not(is_as_it_came(c));
    import_compressed(c, "?blobs=keep");
    cr_expect(is_as_it_came(c));
    import_compressed(c, "?blobs=drop"); /* what is kept stays */
    cr_expect(is_as_it_came(c));
    (void)ld_want_error(c, "invalid", "POST", NULL, "/v1/images/import?blobs=maybe");
}

LD_TEST(kept_blobs, follow_the_setting_unless_an_import_asks_for_the_other)
{
    struct ld_daemon *d;

    ld_test_sh("umask 022; printf '[import]\\nkeep_blobs = keep\\n' >layerd.conf");
    d = ld_daemon_start("data", (const char *[]){"--config", "/mnt/layerd.conf", NULL});
    import_compressed(d->client, "?blobs=drop");
    cr_expect_not(is_as_it_came(d->client));
    import_compressed(d->client, "");
    cr_expect(is_as_it_came(d->client));
    ld_api_finish(d);
}

LD_API_TEST(kept_blobs, that_are_damaged_are_dropped_and_the_layer_stays)
{
    struct ld_call call = {.method = "GET", .target = "/v1/images/kept:1/export"};
    const struct ld_reply *reply;

    import_compressed(c, "?blobs=keep");
    ld_test_sh("cd %s/layers && f=$(ls *.blob | head -1) && printf x | dd of=$f bs=1 seek=30 "
               "conv=notrunc",
               d->data_root);
    reply = ld_client_call(c, &call); /* cut off, or an error where nothing was sent yet */
    cr_expect(!reply || reply->status == 500, "it must not look whole");
    cr_expect_str_eq(ld_str(ld_want(c, 200, "GET", NULL, "/v1/images/kept:1"), "state"), "ok");
    cr_expect_not(is_as_it_came(c)); /* but whole */
    import_compressed(c, "?blobs=keep");
    cr_expect(is_as_it_came(c));
}

LD_API_TEST(kept_blobs, without_their_file_or_record_are_forgotten_at_start)
{
    import_compressed(c, "?blobs=keep");
    ld_daemon_stop(d);
    ld_test_sh("cd %s/layers && rm $(ls *.blob | head -1)", d->data_root);
    ld_daemon_again(d);
    cr_expect_eq(ld_int(ld_want(d->client, 200, "GET", NULL, "/v1/df"), "blobs.inodes"), 1);
    cr_expect_not(is_as_it_came(d->client));
    ld_daemon_stop(d);
    ld_test_sh("cd %s/layers && for l in [1-9]*; do test -d $l && ! test -e $l.blob && touch "
               "$l.blob; done; test $(ls *.blob | wc -l) = 2",
               d->data_root);
    ld_daemon_again(d);
    cr_expect_eq(ld_int(ld_want(d->client, 200, "GET", NULL, "/v1/df"), "blobs.inodes"), 1);
    cr_expect_eq(ld_data_count(d, "quarantine"), 0);
}

LD_API_TEST(kept_blobs, of_a_layer_that_is_made_anew_are_those_of_the_new_one)
{
    import_compressed(c, "?blobs=keep");
    ld_daemon_stop(d);
    ld_test_sh("cd %s/layers && rm -r *.recipe", d->data_root);
    ld_daemon_again(d);
    c = d->client;
    (void)ld_want_error(c, "corrupt", "GET", NULL, "/v1/images/kept:1/export");
    import_compressed(c, "?blobs=drop");
    cr_expect_not(is_as_it_came(c));
    cr_expect_eq(ld_int(ld_want(c, 200, "GET", NULL, "/v1/df"), "blobs.inodes"), 0);
}
