/* Import: every form an archive comes in, everything that is wrong with one, the disk full, jobs
 * and progress, clients that leave. After a failure nothing a user can see is left. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cjson/cJSON.h>

#include "daemon/base/buf.h"
#include "daemon/base/fdio.h"
#include "daemon/base/mem.h"
#include "tests/lib/api.h"

static bool staging_is_empty(void *arg)
{
    return ld_data_count(arg, "staging") == 0;
}

/* No image, no layer a user sees, nothing under staging. */
static void nothing_is_left(struct ld_daemon *d, struct ld_client *c, const char *after)
{
    cr_expect_eq(ld_count(ld_want(c, 200, "GET", NULL, "/v1/images"), "items"), 0, "%s", after);
    cr_expect(ld_test_wait(staging_is_empty, d, 30), "%s: something is left under staging", after);
    cr_assert(ld_daemon_is_alive(d), "%s", after);
}

static const struct ld_entry small_entries[] = {
    {.path = "etc", .type = LD_ENTRY_DIR},
    {.path = "etc/name", .data = "small\n"},
};

static struct ld_blob small_layer(void)
{
    return ld_make_tar(small_entries, LD_ARRAY_LEN(small_entries));
}

/* A layer of n incompressible bytes. */
static struct ld_blob random_layer(size_t n)
{
    autofree char *data = ld_alloc0(n);
    struct ld_entry entry = {.path = "big", .data = data, .len = n};

    for (size_t done = 0; done < n;) {
        ssize_t got = getrandom(data + done, n - done, 0);

        cr_assert_gt(got, 0);
        done += (size_t)got;
    }
    return ld_make_tar(&entry, 1);
}

LD_API_TEST(import, takes_every_form_and_compression)
{
    static const char *const filters[] = {NULL, "gzip", "zstd", "xz", "bzip2"};
    static const char *const formats[] = {"oci", "docker"};
    const char *refs[] = {"docker.io/library/small:1", NULL};
    struct ld_blob layer = small_layer();
    struct ld_text id = {""};

    for (size_t f = 0; f < LD_ARRAY_LEN(formats); f++) {
        for (size_t i = 0; i < LD_ARRAY_LEN(filters); i++) {
            for (size_t o = 0; o < LD_ARRAY_LEN(filters); o++) {
                struct ld_image_spec spec = {.format = formats[f],
                                             .filter = filters[i],
                                             .outer = filters[o],
                                             .refs = refs,
                                             .layers = &layer,
                                             .n_layers = 1};
                struct ld_blob archive = ld_make_image(&spec, 1);
                cJSON *json = ld_import(c, &archive, "");

                if (id.s[0])
                    cr_expect_str_eq(ld_str(json, "images.0.id"), id.s,
                                     "one image, however it comes");
                id = ld_textf("%s", ld_str(json, "images.0.id"));
                cr_expect_str_eq(ld_str(json, "images.0.refs.0"), "small:1");
                ld_blob_done(&archive);
            }
        }
    }
    cr_expect_eq(ld_count(ld_want(c, 200, "GET", NULL, "/v1/images"), "items"), 1);
    ld_blob_done(&layer);
}

LD_API_TEST(import, takes_a_plain_root_file_system)
{
    struct ld_blob tar = small_layer();
    struct ld_blob packed = ld_compress(&tar, "zstd");
    cJSON *json = ld_import(c, &tar, "?ref=mini&format=rootfs");
    struct ld_text id = ld_textf("%s", ld_str(json, "images.0.id"));

    cr_expect_str_eq(ld_str(json, "images.0.refs.0"), "mini:latest");
    json = ld_import(c, &packed, "");
    cr_expect_str_eq(ld_str(json, "images.0.id"), id.s);
    (void)ld_create(c, "web", "mini", NULL);
    ld_test_sh("grep -q small %s/etc/name", ld_mount(c, "web").s);
    ld_unmount(c, "web");
    ld_blob_done(&tar);
    ld_blob_done(&packed);
}

LD_API_TEST(import, takes_several_images_of_one_archive)
{
    const char *one[] = {"docker.io/library/one:1", NULL};
    const char *two[] = {"docker.io/library/two:2", "docker.io/library/two:latest", NULL};
    static const struct ld_entry more[] = {{.path = "more", .data = "more"}};
    struct ld_blob layers[] = {small_layer(), ld_make_tar(more, 1)};
    const char *const formats[] = {"oci", "docker"};

    for (size_t f = 0; f < LD_ARRAY_LEN(formats); f++) {
        struct ld_image_spec specs[] = {
            {.format = formats[f], .refs = one, .layers = layers, .n_layers = 1},
            {.refs = two, .layers = layers, .n_layers = 2}};
        struct ld_blob archive = ld_make_image(specs, 2);
        cJSON *json = ld_import(c, &archive, "");

        cr_expect_eq(ld_count(json, "images"), 2);
        (void)ld_want(c, 200, "GET", NULL, "/v1/images/two");
        (void)ld_want(c, 200, "GET", NULL, "/v1/images/two:2");
        (void)ld_import_error(c, &archive, "?ref=name", "invalid");
        ld_blob_done(&archive);
    }
    ld_blob_done(&layers[0]);
    ld_blob_done(&layers[1]);
}

LD_API_TEST(import, gives_the_name_it_is_told)
{
    struct ld_blob base = ld_make_base();
    cJSON *json = ld_import(c, &base, "?ref=registry.example/team/web:2");

    cr_expect_str_eq(ld_str(json, "images.0.refs.0"), "registry.example/team/web:2");
    (void)ld_import_error(c, &base, "?ref=Bad%20Ref", "invalid");
    (void)ld_import_error(c, &base, "?format=zip", "invalid");
    (void)ld_import_error(c, &base, "?format=docker", "bad_content");
    ld_blob_done(&base);
}

LD_API_TEST(import, takes_chunked_bodies)
{
    struct ld_blob base = ld_make_base();
    int fd = ld_blob_file(&base, "base.tar");
    const struct ld_reply *reply = ld_call(
        c, &(struct ld_call){
               .method = "POST", .target = "/v1/images/import", .body_fd = fd, .chunked = true});

    cr_expect_eq(reply->status, 200, "%s", reply->body);
    ld_close(fd);
    ld_blob_done(&base);
}

/* ---- what is wrong ---- */

LD_API_TEST(import, refuses_what_is_no_archive)
{
    struct ld_blob base = ld_make_base();
    const struct {
        const char *data;
        size_t len;
        const char *what;
    } rows[] = {
        {"", 0, "empty"},
        {"garbage", 7, "short garbage"},
        {base.data + 100, 4000, "the middle of an archive"},
        {base.data, 100, "100 bytes"},
        {base.data, 700, "a head without its content"},
        {base.data, base.len / 2, "half of it"},
        {"\x1f\x8b\x08\x00\x00\x00\x00\x00", 8, "a gzip head"},
        {"\x28\xb5\x2f\xfd\x00", 5, "a zstd head"},
        {"\xfd"
         "7zXZ\x00",
         6, "an xz head"},
        {"BZh9", 4, "a bzip2 head"},
    };

    for (size_t i = 0; i < LD_ARRAY_LEN(rows); i++) {
        struct ld_blob blob = {(char *)rows[i].data, rows[i].len};

        (void)ld_import_error(c, &blob, "", "bad_content");
        nothing_is_left(d, c, rows[i].what);
    }
    ld_blob_done(&base);
}

LD_API_TEST(import, refuses_archives_that_lie)
{
    static const struct {
        const char *format;
        enum ld_image_flaw flaw;
        const char *what;
    } rows[] = {
        {"oci", LD_FLAW_BLOB, "a layer's digest"},
        {"oci", LD_FLAW_DIFF_ID, "a diff ID"},
        {"docker", LD_FLAW_DIFF_ID, "a diff ID (docker)"},
        {"oci", LD_FLAW_CONFIG, "the config's digest"},
        {"oci", LD_FLAW_LAYER_MISSING, "a layer that is missing"},
        {"docker", LD_FLAW_LAYER_MISSING, "a layer that is missing (docker)"},
        {"oci", LD_FLAW_LAYER_COUNT, "the number of layers"},
        {"docker", LD_FLAW_LAYER_COUNT, "the number of layers (docker)"},
        {"oci", LD_FLAW_BIG_MANIFEST, "a manifest of 10 MB"},
        {"docker", LD_FLAW_BIG_MANIFEST, "a manifest of 10 MB (docker)"},
        {"oci", LD_FLAW_DEEP_JSON, "deep JSON"},
        {"docker", LD_FLAW_DEEP_JSON, "deep JSON (docker)"},
    };
    struct ld_blob layer = small_layer();
    const char *refs[] = {"docker.io/library/liar:1", NULL};

    for (size_t i = 0; i < LD_ARRAY_LEN(rows); i++) {
        struct ld_image_spec spec = {.format = rows[i].format,
                                     .refs = refs,
                                     .layers = &layer,
                                     .n_layers = 1,
                                     .flaw = rows[i].flaw};
        struct ld_blob archive = ld_make_image(&spec, 1);

        (void)ld_import_error(c, &archive, "", "bad_content");
        nothing_is_left(d, c, rows[i].what);
        ld_blob_done(&archive);
    }
    ld_blob_done(&layer);
}

/* 300 bytes of a name; a path of 10,000 components. */
static char *long_name(void)
{
    char *name = ld_alloc0(301);

    memset(name, 'n', 300);
    return name;
}

static char *deep_path(void)
{
    char *path = ld_alloc0(20001);

    for (int i = 0; i < 10000; i++)
        memcpy(path + 2 * i, "d/", 2);
    path[19999] = 'x';
    return path;
}

LD_API_TEST(import, refuses_layers_that_reach_out_or_go_too_far)
{
    autofree char *name = long_name();
    autofree char *deep = deep_path();
    const struct {
        struct ld_entry entry[3];
        const char *named; /* is in the message; NULL: too long for it */
    } rows[] = {
        {{{.path = "../evil", .data = "x"}}, "../evil"},
        {{{.path = "a/../../evil", .data = "x"}}, "evil"},
        {{{.path = "/etc/evil", .data = "x"}}, "/etc/evil"},
        {{{.path = "a", .type = LD_ENTRY_LINK, .data = "../../../mnt/outside/mark"}}, "a"},
        {{{.path = "a", .type = LD_ENTRY_LINK, .data = "/none"}}, "a"},
        {{{.path = "dir", .type = LD_ENTRY_DIR},
          {.path = "a", .type = LD_ENTRY_LINK, .data = "dir"}},
         "a"},
        {{{.path = name, .data = "x"}}, NULL},
        {{{.path = deep, .data = "x"}}, NULL},
        {{{.path = "dev", .type = LD_ENTRY_CHAR}}, "dev"},
        {{{.path = ".wh..wh.odd", .data = ""}}, ".wh..wh.odd"},
    };
    autoclose int outside = ld_test_mkdir("outside");

    ld_test_write(outside, "mark", "host\n");
    for (size_t i = 0; i < LD_ARRAY_LEN(rows); i++) {
        size_t n = rows[i].entry[1].path ? 2 : 1;
        struct ld_blob layer = ld_make_tar(rows[i].entry, n);
        struct ld_image_spec spec = {.layers = &layer, .n_layers = 1};
        struct ld_blob archive = ld_make_image(&spec, 1);
        cJSON *error = ld_import_error(c, &archive, "", "bad_content");

        if (rows[i].named)
            cr_expect(strstr(ld_str(error, "message"), rows[i].named), "row %zu: %s", i,
                      ld_str(error, "message"));
        nothing_is_left(d, c, ld_str(error, "message"));
        ld_blob_done(&layer);
        ld_blob_done(&archive);
    }
    autofree char *mark = ld_test_read(outside, "mark");
    cr_expect_str_eq(mark, "host\n");
}

LD_API_TEST(import, follows_symlinks_inside_the_layer_only)
{
    static const struct ld_entry entries[] = {
        {.path = "esc", .type = LD_ENTRY_SYMLINK, .data = "/mnt/outside"},
        {.path = "up", .type = LD_ENTRY_SYMLINK, .data = "../../../../../../../mnt/outside"},
        {.path = "esc/evil", .data = "x"},
        {.path = "up/evil2", .data = "x"},
    };
    struct ld_blob layer = ld_make_tar(entries, LD_ARRAY_LEN(entries));
    struct ld_image_spec spec = {.layers = &layer, .n_layers = 1};
    struct ld_blob archive = ld_make_image(&spec, 1);
    autoclose int outside = ld_test_mkdir("outside");

    (void)ld_import(c, &archive, "?ref=esc");
    cr_expect_neq(faccessat(outside, "evil", F_OK, 0), 0);
    cr_expect_neq(faccessat(outside, "evil2", F_OK, 0), 0);
    (void)ld_create(c, "web", "esc", NULL);
    ld_test_sh("test -f %s/mnt/outside/evil", ld_mount(c, "web").s);
    ld_unmount(c, "web");
    ld_blob_done(&layer);
    ld_blob_done(&archive);
}

LD_TEST(import, keeps_its_limits)
{
    static const char *const args[] = {"--config", "/mnt/layerd.conf", NULL};
    size_t len = 80 << 20;
    autofree char *zeros = ld_alloc0(len);
    static struct ld_entry many[60];
    struct ld_entry big = {.path = "zeros", .data = zeros, .len = len};
    struct ld_blob layers[2];
    const char *limits[] = {"ratio", "entries"};
    struct ld_daemon *d;

    ld_test_sh("printf '[import]\\nlayer_entries = 50\\nratio = 20\\nratio_from = 64M\\n' > "
               "/mnt/layerd.conf");
    for (size_t i = 0; i < LD_ARRAY_LEN(many); i++) {
        autofree char *path = ld_asprintf("f%zu", i);

        many[i] = (struct ld_entry){.path = ld_steal(&path), .data = "x"};
    }
    layers[0] = ld_make_tar(&big, 1);
    layers[1] = ld_make_tar(many, LD_ARRAY_LEN(many));
    d = ld_daemon_start("data", args);
    for (size_t i = 0; i < 2; i++) {
        struct ld_image_spec spec = {.filter = "gzip", .layers = &layers[i], .n_layers = 1};
        struct ld_blob archive = ld_make_image(&spec, 1);
        cJSON *error = ld_import_error(d->client, &archive, "", "bad_content");

        cr_expect(strstr(ld_str(error, "details.limit"), limits[i]), "%s",
                  ld_str(error, "details.limit"));
        nothing_is_left(d, d->client, limits[i]);
        ld_blob_done(&archive);
        ld_blob_done(&layers[i]);
    }
    ld_api_finish(d);
}

LD_TEST(import, on_a_full_disk_leaves_nothing_and_goes_on)
{
    struct ld_blob layer = random_layer(160 << 20);
    struct ld_image_spec spec = {.layers = &layer, .n_layers = 1};
    struct ld_blob archive;
    struct ld_daemon *d;
    cJSON *error;

    ld_close(ld_test_fs("small", "ext4", 256));
    d = ld_daemon_start("small", NULL);
    archive = ld_make_image(&spec, 1);
    ld_have_base(d->client);
    error = ld_import_error(d->client, &archive, "?ref=big", "no_space");
    cr_expect_neq(ld_str(error, "message")[0], '\0');
    cr_expect_eq(ld_count(ld_want(d->client, 200, "GET", NULL, "/v1/images"), "items"), 1);
    cr_expect(ld_test_wait(staging_is_empty, d, 30));
    (void)ld_create(d->client, "web", "base", NULL);
    (void)ld_want(d->client, 204, "DELETE", NULL, "/v1/containers/web");
    ld_blob_done(&layer);
    ld_blob_done(&archive);
    ld_api_finish(d);
}

LD_TEST(import, and_create_say_no_space_below_the_watermark_while_removals_work)
{
    struct ld_daemon *d;
    struct ld_client *c;
    struct ld_blob app = ld_make_app();

    ld_close(ld_test_fs("small", "ext4", 600));
    d = ld_daemon_start("small", NULL);
    c = d->client;
    ld_have_base(c);
    (void)ld_create(c, "one", "base", NULL);
    (void)ld_want(c, 201, "POST", "{'name':'data'}", "/v1/volumes");
    ld_test_sh("head -c 1G /dev/zero > /mnt/small/fill 2>/dev/null; true");
    (void)ld_import_error(c, &app, "", "no_space");
    (void)ld_want_error(c, "no_space", "POST", "{'image':'base'}", "/v1/containers");
    (void)ld_want_error(c, "no_space", "PUT", "{'image':'base'}", "/v1/containers/two");
    (void)ld_want_error(c, "no_space", "POST", "{'name':'more'}", "/v1/volumes");
    (void)ld_want_error(c, "no_space", "PUT", NULL, "/v1/volumes/more");
    (void)ld_want(c, 204, "DELETE", NULL, "/v1/containers/one");
    (void)ld_want(c, 204, "DELETE", NULL, "/v1/volumes/data?purge=1");
    (void)ld_want(c, 204, "DELETE", NULL, "/v1/images/base");
    ld_test_sh("rm /mnt/small/fill");
    ld_have_base(c);
    (void)ld_create(c, "one", "base", NULL);
    ld_blob_done(&app);
    ld_api_finish(d);
}

/* ---- clients that leave, and many at once ---- */

/* Begins an import and sends `part` of the body. */
static int begin_import(const struct ld_daemon *d, const struct ld_blob *archive, size_t part)
{
    int fd = ld_raw_connect(d->socket);
    autofree char *head = ld_asprintf("POST /v1/images/import HTTP/1.1\r\nHost: x\r\n"
                                      "Content-Length: %zu\r\n\r\n",
                                      archive->len);

    ld_raw_send(fd, head, strlen(head));
    ld_raw_send(fd, archive->data, part);
    return fd;
}

LD_API_TEST(import, that_is_given_up_half_way_leaves_nothing)
{
    struct ld_blob layer = random_layer(8 << 20);
    struct ld_image_spec spec = {.layers = &layer, .n_layers = 1};
    struct ld_blob archive = ld_make_image(&spec, 1);
    size_t fds = ld_daemon_fds(d);

    for (int i = 0; i < 20; i++) {
        int fd = begin_import(d, &archive, archive.len * (size_t)i / 20);

        ld_close(fd);
        (void)ld_want(c, 200, "GET", NULL, "/v1");
    }
    nothing_is_left(d, c, "imports given up");
    cr_expect(ld_daemon_wait_fds(d, fds + 2, 60), "%zu descriptors, %zu before", ld_daemon_fds(d),
              fds);
    ld_blob_done(&layer);
    ld_blob_done(&archive);
}

struct all_running {
    struct ld_client *client;
    int wanted;
};

static bool all_run(void *arg)
{
    struct all_running *all = arg;

    return ld_count(ld_want(all->client, 200, "GET", NULL, "/v1/jobs?filter=state=running"),
                    "items") == all->wanted;
}

LD_API_TEST(import, is_limited_in_number)
{
    enum { MANY = 40 };
    struct ld_blob archive = ld_make_base();
    int fd[MANY];
    int limit = (int)ld_int(ld_want(c, 200, "GET", NULL, "/v1/info"), "limits.uploads");
    struct all_running running = {c, limit};

    cr_assert_lt(limit, MANY);
    for (int i = 0; i < limit; i++)
        fd[i] = begin_import(d, &archive, archive.len / 2);
    cr_assert(ld_test_wait(all_run, &running, 30));
    (void)ld_import_error(c, &archive, "", "unavailable");
    (void)ld_want(c, 200, "GET", NULL, "/v1/images"); /* everything else goes on */
    for (int i = 0; i < limit; i++) {
        autofree char *reply = NULL;

        ld_raw_send(fd[i], archive.data + archive.len / 2, archive.len - archive.len / 2);
        (void)shutdown(fd[i], SHUT_WR);
        reply = ld_raw_read(fd[i], 20);
        cr_expect(strncmp(reply, "HTTP/1.1 200", 12) == 0, "%d: %.300s", i, reply);
        ld_close(fd[i]);
    }
    ld_blob_done(&archive);
}

struct racer {
    pthread_t thread;
    struct ld_client *client;
    const struct ld_blob *archive;
    int status, added;
    char problem[512];
};

static void *race(void *arg)
{
    struct racer *r = arg;
    const struct ld_reply *reply =
        ld_client_call(r->client, &(struct ld_call){.method = "POST",
                                                    .target = "/v1/images/import",
                                                    .body = r->archive->data,
                                                    .body_len = r->archive->len});

    (void)snprintf(r->problem, sizeof(r->problem), "%s", ld_client_problem(r->client));
    r->status = reply ? reply->status : 0;
    if (r->status == 200)
        r->added = (int)cJSON_GetObjectItem(cJSON_GetObjectItem(reply->json, "layers"), "added")
                       ->valuedouble;
    return NULL;
}

LD_API_TEST(import, of_one_image_by_many_at_once_unpacks_it_once)
{
    enum { N = 8 };
    struct ld_blob archive = ld_make_app();
    struct racer racers[N];
    int added = 0;

    for (int i = 0; i < N; i++) {
        racers[i] = (struct racer){.client = ld_client_new(d->socket), .archive = &archive};
        cr_assert_eq(pthread_create(&racers[i].thread, NULL, race, &racers[i]), 0);
    }
    for (int i = 0; i < N; i++) {
        cr_assert_eq(pthread_join(racers[i].thread, NULL), 0);
        cr_expect_eq(racers[i].status, 200, "%d: %s", racers[i].status, racers[i].problem);
        added += racers[i].added;
        ld_client_free(racers[i].client);
    }
    cr_expect_eq(added, 3);
    cr_expect_eq(ld_count(ld_want(c, 200, "GET", NULL, "/v1/layers"), "items"), 3);
    cr_expect(ld_test_wait(staging_is_empty, d, 30));
    ld_blob_done(&archive);
}

/* ---- progress and jobs ---- */

static const char *const as_ndjson[] = {"Accept: application/x-ndjson", NULL};

LD_API_TEST(import, tells_its_progress_and_ends_with_one_result)
{
    struct ld_blob base = ld_make_base();
    const struct ld_reply *reply = ld_call(c, &(struct ld_call){.method = "POST",
                                                                .target = "/v1/images/import",
                                                                .body = base.data,
                                                                .body_len = base.len,
                                                                .headers = as_ndjson});
    const char *result = strstr(reply->body, "{\"result\":");

    cr_expect_eq(reply->status, 200);
    cr_expect(strstr(reply->body, "{\"progress\":"), "%s", reply->body);
    cr_assert(result, "%s", reply->body);
    cr_expect_not(strstr(result + 1, "{\"result\":"));
    cr_expect_eq(strchr(result, '\n') + 1, reply->body + reply->len, "the result is the last line");
    ld_blob_done(&base);
}

LD_API_TEST(import, that_fails_in_a_stream_ends_with_one_error)
{
    struct ld_blob layer = small_layer();
    struct ld_image_spec spec = {.layers = &layer, .n_layers = 1, .flaw = LD_FLAW_DIFF_ID};
    struct ld_blob archive = ld_make_image(&spec, 1);
    const struct ld_reply *reply = ld_call(c, &(struct ld_call){.method = "POST",
                                                                .target = "/v1/images/import",
                                                                .body = archive.data,
                                                                .body_len = archive.len,
                                                                .headers = as_ndjson});

    cr_expect(strstr(reply->body, "{\"error\":"), "%s", reply->body);
    cr_expect_not(strstr(reply->body, "{\"result\":"));
    nothing_is_left(d, c, "a failed stream");
    ld_blob_done(&layer);
    ld_blob_done(&archive);
}

LD_API_TEST(jobs, keep_the_outcome_over_restarts)
{
    struct ld_blob base = ld_make_base();
    struct ld_blob bad = {(char *)"garbage", 7};
    struct ld_text good_id, bad_id;
    cJSON *json;

    (void)ld_import(c, &base, "");
    good_id = ld_textf("%s", ld_client_header(c, "X-Layerd-Job"));
    (void)ld_import_error(c, &bad, "", "bad_content");
    for (int round = 0; round < 2; round++) {
        json = ld_want(c, 200, "GET", NULL, "/v1/jobs/%s?wait=10s", good_id.s);
        cr_expect_str_eq(ld_str(json, "state"), "done");
        cr_expect_str_eq(ld_str(json, "kind"), "image.import");
        cr_expect_eq(ld_int(json, "result.layers.added"), 2);
        cr_expect_eq(ld_int(json, "uid"), 0);
        cr_expect_not(ld_is_null(json, "finished_at"));
        json = ld_want(c, 200, "GET", NULL, "/v1/jobs?filter=state=failed");
        cr_assert_eq(ld_count(json, "items"), 1);
        cr_expect_str_eq(ld_str(json, "items.0.error.code"), "bad_content");
        bad_id = ld_textf("%s", ld_str(json, "items.0.id"));
        (void)ld_want(c, 200, "GET", NULL, "/v1/jobs/%.12s", bad_id.s);
        (void)ld_want_error(c, "conflict", "DELETE", NULL, "/v1/jobs/%s", good_id.s);
        ld_daemon_stop(d);
        ld_daemon_again(d);
    }
    cr_expect_eq(
        ld_count(ld_want(c, 200, "GET", NULL, "/v1/jobs?filter=kind=image.import"), "items"), 2);
    cr_expect_eq(ld_count(ld_want(c, 200, "GET", NULL, "/v1/jobs?limit=1"), "items"), 1);
    (void)ld_want_error(c, "not_found", "GET", NULL, "/v1/jobs/ffffffff");
    (void)ld_want_error(c, "not_found", "DELETE", NULL, "/v1/jobs/ffffffff");
    (void)ld_want_error(c, "invalid", "GET", NULL, "/v1/jobs/%s?wait=long", good_id.s);
    ld_blob_done(&base);
}

struct running {
    struct ld_client *client;
    struct ld_text id;
};

static bool a_job_runs(void *arg)
{
    struct running *r = arg;
    cJSON *json = ld_want(r->client, 200, "GET", NULL, "/v1/jobs?filter=state=running");

    if (ld_count(json, "items") == 0)
        return false;
    r->id = ld_textf("%s", ld_str(json, "items.0.id"));
    return true;
}

/* An import whose body comes through a pipe, as slowly as the test likes. */
struct slow {
    pthread_t thread;
    struct ld_client *client;
    int pipe[2];
    int status;
    char code[32];
    char problem[512];
};

static void *import_slowly(void *arg)
{
    struct slow *s = arg;
    const struct ld_reply *reply =
        ld_client_call(s->client, &(struct ld_call){.method = "POST",
                                                    .target = "/v1/images/import",
                                                    .body_fd = s->pipe[0],
                                                    .chunked = true});
    const cJSON *error = reply ? cJSON_GetObjectItem(reply->json, "error") : NULL;

    (void)snprintf(s->problem, sizeof(s->problem), "%s", ld_client_problem(s->client));
    s->status = reply ? reply->status : 0;
    if (error)
        (void)snprintf(s->code, sizeof(s->code), "%s",
                       cJSON_GetObjectItem(error, "code")->valuestring);
    return NULL;
}

LD_API_TEST(jobs, are_cancelled)
{
    struct ld_blob archive = ld_make_base();
    struct slow slow = {.client = ld_client_new(d->socket)};
    struct running running = {.client = c};
    cJSON *json;

    cr_assert_eq(pipe2(slow.pipe, O_CLOEXEC), 0);
    cr_assert_eq(pthread_create(&slow.thread, NULL, import_slowly, &slow), 0);
    cr_assert_eq(ld_write_full(slow.pipe[1], archive.data, archive.len / 2), 0);
    cr_assert(ld_test_wait(a_job_runs, &running, 30));
    json = ld_want(c, 200, "GET", NULL, "/v1/jobs/%s?wait=100ms", running.id.s);
    cr_expect_str_eq(ld_str(json, "state"), "running");
    json = ld_want(c, 200, "DELETE", NULL, "/v1/jobs/%s", running.id.s);
    cr_expect(ld_bool(json, "cancel_requested"));
    cr_expect_eq(
        ld_write_full(slow.pipe[1], archive.data + archive.len / 2, archive.len - archive.len / 2),
        0);
    ld_close(slow.pipe[1]);
    cr_assert_eq(pthread_join(slow.thread, NULL), 0);
    cr_expect_eq(slow.status, 503, "%s", slow.problem);
    cr_expect_str_eq(slow.code, "canceled");
    ld_close(slow.pipe[0]);
    ld_client_free(slow.client);
    json = ld_want(c, 200, "GET", NULL, "/v1/jobs/%s?wait=10s", running.id.s);
    cr_expect_str_eq(ld_str(json, "state"), "canceled");
    (void)ld_want_error(c, "conflict", "DELETE", NULL, "/v1/jobs/%s", running.id.s);
    nothing_is_left(d, c, "a cancelled job");
    ld_blob_done(&archive);
}

LD_API_TEST(jobs, cut_off_by_a_kill_are_interrupted)
{
    struct ld_blob archive = ld_make_base();
    int fd = begin_import(d, &archive, archive.len / 2);
    struct running running = {.client = c};
    cJSON *json;

    cr_assert(ld_test_wait(a_job_runs, &running, 30));
    ld_daemon_kill(d);
    ld_close(fd);
    ld_daemon_again(d);
    json = ld_want(c, 200, "GET", NULL, "/v1/jobs/%s", running.id.s);
    cr_expect_str_eq(ld_str(json, "state"), "interrupted");
    nothing_is_left(d, c, "a kill");
    ld_blob_done(&archive);
}

/* ---- memory ---- */

/* A root file system of 128 MiB, an eighth of it incompressible, through a compressor that does not
 * know its size and so takes the whole window of its level. */
static int pack_much(const char *filter)
{
    int fd;

    ld_test_sh("[ -d /mnt/much ] || { mkdir /mnt/much; head -c 16M /dev/urandom > /mnt/much/noise;"
               " head -c 112M /dev/zero > /mnt/much/zeros; }");
    ld_test_sh("tar -C /mnt/much -c noise zeros | %s > /mnt/packed", filter);
    fd = open("/mnt/packed", O_RDONLY | O_CLOEXEC);
    cr_assert_geq(fd, 0);
    return fd;
}

LD_API_TEST(import, of_much_data_keeps_memory_low)
{
    static const struct {
        const char *filter;
        unsigned mib;
    } forms[] = {
        {"gzip -1", 64},
        {"zstd -1 --zstd=wlog=23", 64},
        {"xz -0 --lzma2=preset=0,dict=8MiB", 64},
        {"zstd -1 --long=27", 64 + 128},
    };

    for (size_t i = 0; i < LD_ARRAY_LEN(forms); i++) {
        autoclose int fd = pack_much(forms[i].filter);
        const struct ld_call call = {.method = "POST",
                                     .target = "/v1/images/import?format=rootfs&ref=much",
                                     .body_fd = fd,
                                     .chunked = true};
        uint64_t peak;

        ld_daemon_reset_peak(d);
        cr_expect_eq(ld_call(c, &call)->status, 200, "%s", forms[i].filter);
        peak = ld_daemon_peak_rss(d) >> 20;
        cr_expect(!LD_MEMORY_COUNTS || peak < forms[i].mib, "%s: %llu MiB", forms[i].filter,
                  (unsigned long long)peak);
    }
}

LD_API_TEST(import, of_eight_clients_shares_the_memory_of_decoders)
{
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    uint64_t peak;

    ld_close(pack_much("zstd -1 --long=27"));
    ld_daemon_reset_peak(d);
    ld_test_sh(
        "for i in 1 2 3 4 5 6 7 8; do curl -sS -o /mnt/out$i -T /mnt/packed -X POST"
        " --unix-socket %s \"http://x/v1/images/import?format=rootfs&ref=much$i\" & done; wait;"
        " [ $(grep -l '\"layers\"' /mnt/out[1-8] | wc -l) = 8 ]",
        d->socket);
    /* One window of 128 MiB, and for each core what unpacks. */
    peak = ld_daemon_peak_rss(d) >> 20;
    cr_expect(!LD_MEMORY_COUNTS || peak < 64 + 160 + 16 * (uint64_t)cores, "%llu MiB",
              (unsigned long long)peak);
}

LD_API_TEST(import, refuses_a_window_beyond_the_memory_for_decoders)
{
    ld_test_sh("mkdir /mnt/few && date > /mnt/few/date");
    for (int log = 28; log <= 31; log++) {
        autoclose int fd = -EBADF;
        const struct ld_reply *reply;

        ld_test_sh("tar -C /mnt/few -c date | zstd -q --long=%d > /mnt/packed", log);
        fd = open("/mnt/packed", O_RDONLY | O_CLOEXEC);
        cr_assert_geq(fd, 0);
        reply = ld_call(c, &(struct ld_call){.method = "POST",
                                             .target = "/v1/images/import?format=rootfs",
                                             .body_fd = fd});
        cr_expect_eq(reply->status, 422, "2^%d", log);
        cr_expect_str_eq(ld_str(reply->json, "error.details.limit"), "decoder_memory");
        nothing_is_left(d, c, "a large window");
    }
}

LD_TEST(import, of_a_bomb_stops_before_the_disk_is_full)
{
    struct ld_daemon *d;
    const struct ld_reply *reply;
    autoclose int fd = -EBADF;

    ld_close(ld_test_fs("small", "ext4", 400));
    d = ld_daemon_start("small", NULL);
    ld_test_sh(
        "mkdir /mnt/in && truncate -s 900M /mnt/in/zeros && tar -C /mnt/in -c zeros | zstd -q > "
        "/mnt/packed");
    fd = open("/mnt/packed", O_RDONLY | O_CLOEXEC);
    reply = ld_call(d->client, &(struct ld_call){.method = "POST",
                                                 .target = "/v1/images/import?format=rootfs",
                                                 .body_fd = fd});
    cr_expect_eq(reply->status, 507);
    cr_expect(strstr(ld_str(reply->json, "error.message"), "to be kept free"), "%s", reply->body);
    nothing_is_left(d, d->client, "a bomb");
    ld_api_finish(d);
}
