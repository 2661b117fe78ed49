/* A volume's content out and in as a tar: the same tree again; all or nothing into an empty volume;
 * over what is there into any other. */
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cjson/cJSON.h>

#include "daemon/base/clock.h"
#include "daemon/base/fdio.h"
#include "daemon/base/mem.h"
#include "tests/lib/api.h"

/* Of a volume by its name; the directories are in the order of their making. */
static struct ld_text dir_of(const struct ld_daemon *d, int number)
{
    struct ld_text pattern = ld_textf("%s/volumes/*", d->data_root), dir;
    glob_t found;

    cr_assert_eq(glob(pattern.s, 0, NULL, &found), 0);
    cr_assert_lt((size_t)number, found.gl_pathc);
    dir = ld_textf("%s", found.gl_pathv[number]);
    globfree(&found);
    return dir;
}

static const struct ld_reply *post(struct ld_client *c, const char *volume, const void *data,
                                   size_t len, const char *header)
{
    struct ld_text target = ld_textf("/v1/volumes/%s/import", volume);

    return ld_call(c, &(struct ld_call){.method = "POST",
                                        .target = target.s,
                                        .body = data,
                                        .body_len = len,
                                        .headers = (const char *[]){header, NULL}});
}

static const struct ld_reply *post_file(struct ld_client *c, const char *volume, const char *path)
{
    struct ld_text target = ld_textf("/v1/volumes/%s/import", volume);
    autoclose int fd = open(path, O_RDONLY | O_CLOEXEC);

    cr_assert_geq(fd, 0);
    return ld_call(c, &(struct ld_call){.method = "POST", .target = target.s, .body_fd = fd});
}

static void export_to(struct ld_client *c, const char *volume, const char *path)
{
    struct ld_text target = ld_textf("/v1/volumes/%s/export", volume);
    autoclose int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    cr_assert_eq(
        ld_call(c, &(struct ld_call){.method = "GET", .target = target.s, .to_fd = fd})->status,
        200);
}

static bool is_empty(const char *dir)
{
    struct ld_text pattern = ld_textf("%s/*", dir);
    glob_t found;
    int rc = glob(pattern.s, GLOB_PERIOD, NULL, &found);
    bool empty = rc == GLOB_NOMATCH || (rc == 0 && found.gl_pathc <= 2); /* "." and ".." */

    globfree(&found);
    return empty;
}

LD_API_TEST(volume_import, gives_what_was_exported)
{
    struct ld_text from, to;
    const struct ld_reply *reply;

    (void)ld_want(c, 201, "POST", "{'name':'from'}", "/v1/volumes");
    (void)ld_want(c, 201, "POST", "{'name':'to'}", "/v1/volumes");
    from = dir_of(d, 0);
    to = dir_of(d, 1);
    ld_test_sh("cd %s && mkdir -p a/b empty && echo one > a/one && ln a/one a/b/same && "
               "ln -s /etc/passwd a/link && mkfifo fifo && mknod null c 1 3 && "
               "head -c 5M /dev/urandom > big && truncate -s 20M sparse && chmod 4711 a/one && "
               "chown 5:6 a/b && setfattr -n user.x -v y a/one; printf '' > 'odd\n\377name' && "
               "touch -d '2001-02-03 04:05:06.789' a/b a empty . && chmod 1770 . && chown 7:8 .",
               from.s);
    export_to(c, "from", "/mnt/out.tar");
    ld_test_sh("test \"$(tar tf /mnt/out.tar | head -n 1)\" = ./");
    reply = post_file(c, "to", "/mnt/out.tar");
    cr_assert_eq(reply->status, 200, "%s", reply->body);
    cr_expect_eq(ld_int(reply->json, "entries"), 11);
    cr_expect_eq(ld_bool(reply->json, "staged"), true);
    cr_expect_str_eq(ld_tree_digest(to.s).s, ld_tree_digest(from.s).s);
    /* Again, over what is there. */
    reply = post_file(c, "to", "/mnt/out.tar");
    cr_assert_eq(reply->status, 200, "%s", reply->body);
    cr_expect_not(ld_bool(reply->json, "staged"));
    cr_expect_str_eq(ld_tree_digest(to.s).s, ld_tree_digest(from.s).s);
    cr_expect_eq(ld_data_count(d, "staging"), 0);
    ld_wait_reaped(d);
    ld_expect_df_is_du(d, c);
    (void)ld_want_error(c, "not_found", "GET", NULL, "/v1/volumes/none/export");
    (void)ld_want_error(c, "invalid", "GET", NULL, "/v1/volumes/to/export?x=1");
    (void)ld_want_error(c, "invalid", "POST", NULL, "/v1/volumes/to/import?x=1");
}

LD_API_TEST(volume_import, takes_every_compression)
{
    static const char *const filters[] = {"gzip", "zstd", "xz", "bzip2"};
    static const struct ld_entry entries[] = {{.path = "file", .data = "packed"}};
    struct ld_blob tar = ld_make_tar(entries, 1);

    for (size_t i = 0; i < LD_ARRAY_LEN(filters); i++) {
        struct ld_blob packed = ld_compress(&tar, filters[i]);

        (void)ld_want(c, 201, "PUT", NULL, "/v1/volumes/%s", filters[i]);
        cr_expect_eq(post(c, filters[i], packed.data, packed.len, NULL)->status, 200);
        (void)ld_want(c, 200, "HEAD", NULL, "/v1/volumes/%s/files?path=/file", filters[i]);
        ld_blob_done(&packed);
    }
    ld_blob_done(&tar);
}

/* What layers may not have, and what is no archive. */
LD_API_TEST(volume_import, refuses_bad_archives_and_leaves_nothing)
{
    static const char deep[] =
        "a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/"
        "a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/"
        "a/"
        "a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a";
    const struct ld_entry bad[] = {
        {.path = "/abs", .data = "x"},
        {.path = "../up", .data = "x"},
        {.path = "a/../../up", .data = "x"},
        {.path = "dev", .type = LD_ENTRY_CHAR},
        {.path = deep, .data = "x"},
        {.path = "l", .type = LD_ENTRY_LINK, .data = "missing"},
        {.path = "l", .type = LD_ENTRY_LINK, .data = "../up"},
    };
    struct ld_text empty, full;

    (void)ld_want(c, 201, "POST", "{'name':'empty'}", "/v1/volumes");
    (void)ld_want(c, 201, "POST", "{'name':'full'}", "/v1/volumes");
    empty = dir_of(d, 0);
    full = dir_of(d, 1);
    ld_test_sh("echo kept > %s/kept", full.s);
    for (size_t i = 0; i < LD_ARRAY_LEN(bad); i++) {
        const struct ld_entry entries[] = {{.path = "first", .data = "fine"}, bad[i]};
        struct ld_blob tar = ld_make_tar(entries, 2);
        bool is_known_late = bad[i].type == LD_ENTRY_LINK && strcmp(bad[i].data, "missing") == 0;

        cr_expect_eq(post(c, "empty", tar.data, tar.len, NULL)->status, 422, "%zu", i);
        cr_expect(is_empty(empty.s), "%zu", i);
        cr_expect_eq(post(c, "full", tar.data, tar.len, NULL)->status, 422, "%zu", i);
        /* Whether the target of a link is there only the volume tells. */
        ld_test_sh("test -e %s/first -a %d = 1 -o ! -e %s/first -a %d = 0; rm -f %s/first", full.s,
                   is_known_late, full.s, is_known_late, full.s);
        ld_blob_done(&tar);
    }
    cr_expect_eq(post(c, "empty", "garbage", 7, NULL)->status, 422);
    cr_expect_eq(ld_data_count(d, "staging"), 0);
}

/* The part of an archive that came whole is not taken for all of it. */
LD_API_TEST(volume_import, of_half_an_archive_changes_nothing)
{
    struct ld_text empty, full, before;

    (void)ld_want(c, 201, "POST", "{'name':'empty'}", "/v1/volumes");
    (void)ld_want(c, 201, "POST", "{'name':'full'}", "/v1/volumes");
    empty = dir_of(d, 0);
    full = dir_of(d, 1);
    ld_test_sh("mkdir tree && for i in 1 2 3 4 5 6; do head -c 1M /dev/urandom > tree/$i; done; "
               "tar -C tree -cf - . | head -c 3M > half.tar; "
               "tar -C tree -czf - . | head -c 3M > half.tar.gz; echo kept > %s/1",
               full.s);
    before = ld_tree_digest(full.s);
    cr_expect_eq(post_file(c, "empty", "/mnt/half.tar")->status, 422);
    cr_expect_eq(post_file(c, "empty", "/mnt/half.tar.gz")->status, 422);
    cr_expect(is_empty(empty.s));
    cr_expect_eq(post_file(c, "full", "/mnt/half.tar")->status, 422);
    cr_expect_eq(post_file(c, "full", "/mnt/half.tar.gz")->status, 422);
    cr_expect_str_eq(ld_tree_digest(full.s).s, before.s);
    ld_wait_reaped(d);
    ld_expect_df_is_du(d, c);
}

LD_API_TEST(volume_import, that_fails_over_content_keeps_what_came_before)
{
    static const struct ld_entry entries[] = {{.path = "one", .data = "1"},
                                              {.path = "two", .data = "2"},
                                              {.path = "dir", .data = "no directory"},
                                              {.path = "three", .data = "3"}};
    struct ld_blob tar = ld_make_tar(entries, LD_ARRAY_LEN(entries));
    const struct ld_reply *reply;
    struct ld_text dir;

    (void)ld_want(c, 201, "POST", "{'name':'data'}", "/v1/volumes");
    dir = dir_of(d, 0);
    ld_test_sh("mkdir %s/dir; echo old > %s/one", dir.s, dir.s);
    reply = post(c, "data", tar.data, tar.len, NULL);
    cr_expect_eq(reply->status, 409);
    cr_expect_str_eq(ld_str(reply->json, "error.code"), "conflict");
    cr_expect_eq(ld_int(reply->json, "error.details.entries"), 2);
    ld_test_sh("cd %s && test \"$(cat one two)\" = 12 && test ! -e three && test -d dir", dir.s);
    ld_blob_done(&tar);
}

LD_API_TEST(volume_import, into_a_mounted_volume_is_seen_inside)
{
    static const struct ld_entry entries[] = {{.path = "file", .data = "imported"}};
    struct ld_blob tar = ld_make_tar(entries, 1);
    const struct ld_reply *reply;
    struct ld_text at;

    ld_have_base(c);
    (void)ld_create(c, "web", "base", "'mounts':[{'type':'volume','source':'data','target':'/v'}]");
    at = ld_mount(c, "web");
    reply = post(c, "data", tar.data, tar.len, NULL);
    cr_assert_eq(reply->status, 200, "%s", reply->body);
    cr_expect_not(ld_bool(reply->json, "staged"));
    ld_test_sh("test \"$(cat %s/v/file)\" = imported", at.s);
    ld_unmount(c, "web");
    /* Once more when it is not mounted, but among the mounts of a container. */
    (void)ld_want(c, 204, "DELETE", NULL, "/v1/volumes/data/files?path=/file");
    reply = post(c, "data", tar.data, tar.len, NULL);
    cr_expect(ld_bool(reply->json, "staged"));
    at = ld_mount(c, "web");
    ld_test_sh("test \"$(cat %s/v/file)\" = imported", at.s);
    ld_unmount(c, "web");
    ld_blob_done(&tar);
}

/* Even of nothing: what is in the volume is what the import said. */
LD_API_TEST(volume_import, keeps_the_image_from_seeding_the_volume)
{
    static const struct ld_entry entries[] = {{.path = "./", .type = LD_ENTRY_DIR, .mode = 0700}};
    struct ld_blob tar = ld_make_tar(entries, 1);
    struct ld_text at;

    ld_have_app(c);
    (void)ld_create(c, "web", "app",
                    "'mounts':[{'type':'volume','source':'data','target':'/data'}]");
    cr_expect_eq(post(c, "data", tar.data, tar.len, NULL)->status, 200);
    at = ld_mount(c, "web");
    ld_test_sh("test -z \"$(ls -A %s/data)\" && test \"$(stat -c %%a %s/data)\" = 700", at.s, at.s);
    ld_unmount(c, "web");
    ld_blob_done(&tar);
}

LD_API_TEST(volume_import, of_more_directories_than_are_kept_in_memory_is_exact)
{
    enum { N = 66000, IN_ONE = 250 };
    struct ld_entry *entries = ld_alloc0((N + 1) * sizeof(*entries));
    struct ld_text to;
    struct ld_blob tar;

    (void)ld_want(c, 201, "POST", "{'name':'data'}", "/v1/volumes");
    to = dir_of(d, 0);
    for (int i = 0; i < N; i++)
        entries[i] = (struct ld_entry){.path = i % IN_ONE ? ld_asprintf("%d/%d", i / IN_ONE, i)
                                                          : ld_asprintf("%d", i / IN_ONE),
                                       .type = LD_ENTRY_DIR,
                                       .mode = 0711};
    entries[N] = (struct ld_entry){.path = "./", .type = LD_ENTRY_DIR, .mode = 0701};
    tar = ld_make_tar(entries, N + 1);
    cr_assert_eq(post(c, "data", tar.data, tar.len, NULL)->status, 200);
    /* The first, those that are kept, the last. */
    ld_test_sh("test \"$(find %s -mindepth 1 -printf '%%m %%T@ %%y\\n' | sort | uniq -c | "
               "sed 's/^ *//; s/[.]0* / /')\" = '%d 711 1700000000 d' && "
               "test \"$(stat -c '%%a %%Y' %s)\" = '701 1700000000'",
               to.s, N, to.s);
    for (int i = 0; i < N; i++)
        free((char *)entries[i].path);
    free(entries);
    ld_blob_done(&tar);
}

/* ---- as a job ---- */

LD_API_TEST(volume_import, is_a_job_with_a_key)
{
    static const struct ld_entry entries[] = {{.path = "file", .data = "once"}},
                                 others[] = {{.path = "file", .data = "other"}};
    struct ld_blob tar = ld_make_tar(entries, 1), other = ld_make_tar(others, 1);
    const struct ld_reply *reply;
    struct ld_text job;
    cJSON *json;

    (void)ld_want(c, 201, "POST", "{'name':'data'}", "/v1/volumes");
    reply = post(c, "data", tar.data, tar.len, "Idempotency-Key: k");
    cr_assert_eq(reply->status, 200, "%s", reply->body);
    (void)ld_want(c, 204, "DELETE", NULL, "/v1/volumes/data/files?path=/file");
    reply = post(c, "data", tar.data, tar.len, "Idempotency-Key: k");
    cr_expect_eq(reply->status, 200);
    cr_expect_eq(ld_int(reply->json, "entries"), 1);
    (void)ld_want(c, 404, "HEAD", NULL, "/v1/volumes/data/files?path=/file");
    cr_expect_eq(post(c, "data", other.data, other.len, "Idempotency-Key: k")->status, 409);

    reply = post(c, "data", other.data, other.len, "Prefer: respond-async");
    cr_assert_eq(reply->status, 202, "%s", reply->body);
    job = ld_textf("%s", ld_str(reply->json, "job"));
    json = ld_want(c, 200, "GET", NULL, "/v1/jobs/%s?wait=30s", job.s);
    cr_expect_str_eq(ld_str(json, "state"), "done");
    cr_expect_str_eq(ld_str(json, "kind"), "volume.import");
    cr_expect_str_eq(ld_str(json, "object.kind"), "volume");
    cr_expect_str_eq(ld_str(json, "object.name"), "data");
    cr_expect(ld_bool(json, "result.staged"));
    reply = post(c, "data", tar.data, tar.len, "Accept: application/x-ndjson");
    cr_expect_eq(reply->status, 200);
    cr_expect_not_null(strstr(reply->body, "\"result\":{\"entries\":1"));
    json = ld_want(c, 200, "GET", NULL, "/v1/events?filter=type=volume.import");
    cr_expect_eq(post(c, "none", tar.data, tar.len, NULL)->status, 404);
    ld_blob_done(&tar);
    ld_blob_done(&other);
}

struct importer {
    const struct ld_daemon *d;
    const char *path;
    struct ld_client *client;
    int status;
    pthread_t thread;
};

static void *import_it(void *arg)
{
    struct importer *i = arg;
    int fd = open(i->path, O_RDONLY | O_CLOEXEC);
    const struct ld_reply *reply = ld_client_call(
        i->client,
        &(struct ld_call){.method = "POST", .target = "/v1/volumes/data/import", .body_fd = fd});

    i->status = reply ? reply->status : 0;
    ld_close(fd);
    return NULL;
}

static void start(struct importer *i, const struct ld_daemon *d, const char *path)
{
    *i = (struct importer){.d = d, .path = path, .client = ld_client_new(d->socket)};
    cr_assert_eq(pthread_create(&i->thread, NULL, import_it, i), 0);
}

static void join(struct importer *i)
{
    cr_assert_eq(pthread_join(i->thread, NULL), 0);
    ld_client_free(i->client);
}

static void make_big_archive(void)
{
    ld_test_sh("mkdir tree && cd tree && for i in $(seq 20); do mkdir $i && "
               "(cd $i && for k in $(seq 40); do echo $i.$k > $k; done; head -c 100K /dev/zero > "
               "z); done; cd .. && tar -C tree -cf big.tar .");
}

static void sleep_ms(long ms)
{
    struct timespec ts = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};

    (void)nanosleep(&ts, NULL);
}

enum { ROUNDS = 12 };

/* Whenever it is: the volume is empty or whole, and nothing is left beside it. */
LD_API_TEST(volume_import, cut_off_by_a_kill_is_all_or_nothing)
{
    struct ld_text whole;
    uint64_t took_ms = 0;
    int done = 0, none = 0;

    make_big_archive();
    for (long round = 0; round <= ROUNDS; round++) {
        struct importer i;
        struct ld_text dir;
        bool empty;

        (void)ld_want(c, 201, "POST", "{'name':'data'}", "/v1/volumes");
        dir = dir_of(d, 0);
        if (round == 0) {
            took_ms = ld_monotonic_ms();
            cr_assert_eq(post_file(c, "data", "/mnt/big.tar")->status, 200);
            took_ms = ld_monotonic_ms() - took_ms;
            whole = ld_tree_digest(dir.s);
            (void)ld_want(c, 204, "DELETE", NULL, "/v1/volumes/data?purge=1");
            ld_wait_reaped(d);
            continue;
        }
        start(&i, d, "/mnt/big.tar");
        sleep_ms(round * (long)took_ms * 5 / 4 / ROUNDS);
        ld_daemon_kill(d);
        join(&i);
        ld_daemon_again(d);
        empty = is_empty(dir.s);
        if (!empty)
            cr_expect_str_eq(ld_tree_digest(dir.s).s, whole.s, "round %ld", round);
        cr_expect(i.status != 200 || !empty, "what was answered is there");
        done += !empty;
        none += empty;
        cr_expect_eq(ld_data_count(d, "staging"), 0);
        cr_expect_eq(ld_data_count(d, "quarantine"), 0);
        (void)ld_want(c, 204, "DELETE", NULL, "/v1/volumes/data?purge=1");
        ld_wait_reaped(d);
        ld_expect_df_is_du(d, c);
    }
    (void)fprintf(stderr, "volume_import: %d whole, %d empty\n", done, none);
}

static bool is_unpacking(void *arg)
{
    struct importer *i = arg;
    struct ld_text pattern = ld_textf("%s/staging/import-*/*", i->d->data_root);
    glob_t found;
    bool is = glob(pattern.s, 0, NULL, &found) == 0;

    globfree(&found);
    return is;
}

LD_API_TEST(volume_import, can_be_cancelled)
{
    struct importer i;
    struct ld_text dir;
    cJSON *json;

    make_big_archive();
    ld_test_sh("for k in $(seq 40); do cp -r tree more$k; done; tar -cf all.tar tree more*");
    (void)ld_want(c, 201, "POST", "{'name':'data'}", "/v1/volumes");
    dir = dir_of(d, 0);
    start(&i, d, "/mnt/all.tar");
    cr_assert(ld_test_wait(is_unpacking, &i, 30));
    json = ld_want(c, 200, "GET", NULL, "/v1/jobs?filter=state=running");
    cr_assert_eq(ld_count(json, "items"), 1);
    struct ld_text job = ld_textf("%s", ld_str(json, "items.0.id"));
    (void)ld_want(c, 200, "DELETE", NULL, "/v1/jobs/%s", job.s);
    json = ld_want(c, 200, "GET", NULL, "/v1/jobs/%s?wait=30s", job.s);
    cr_expect_str_eq(ld_str(json, "state"), "canceled");
    join(&i);
    cr_expect(is_empty(dir.s));
    cr_expect_eq(ld_data_count(d, "staging"), 0);
}

/* ---- what goes wrong ---- */

LD_TEST(volume_import, says_no_space_and_leaves_nothing_on_a_full_disk)
{
    struct ld_daemon *d;
    struct ld_client *c;
    struct ld_text dir;

    ld_close(ld_test_fs("small", "ext4", 256));
    d = ld_daemon_start("small", NULL);
    c = d->client;
    ld_test_sh("head -c 400M /dev/zero > big && tar -cf - big | gzip -1 > big.tar.gz");
    (void)ld_want(c, 201, "POST", "{'name':'data'}", "/v1/volumes");
    dir = dir_of(d, 0);
    cr_expect_eq(post_file(c, "data", "/mnt/big.tar.gz")->status, 507);
    cr_expect(is_empty(dir.s));
    cr_expect_eq(ld_data_count(d, "staging"), 0);
    ld_wait_reaped(d);
    ld_expect_df_is_du(d, c);
    ld_api_finish(d);
}

LD_API_TEST(volume_import, and_export_refuse_a_damaged_volume)
{
    static const struct ld_entry entries[] = {{.path = "file", .data = "x"}};
    struct ld_blob tar = ld_make_tar(entries, 1);

    (void)ld_want(c, 201, "POST", "{'name':'data'}", "/v1/volumes");
    ld_daemon_stop(d);
    ld_test_sh("rm -rf %s/volumes/*", d->data_root);
    ld_daemon_again(d);
    (void)ld_want_error(c, "corrupt", "GET", NULL, "/v1/volumes/data/export");
    cr_expect_str_eq(ld_str(post(c, "data", tar.data, tar.len, NULL)->json, "error.code"),
                     "corrupt");
    ld_blob_done(&tar);
}
