/* Clones of volumes: the same tree, on its own; refused or copied live while it is mounted; whole
 * or not there after a kill. */
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cjson/cJSON.h>

#include "daemon/base/clock.h"
#include "daemon/base/fdio.h"
#include "daemon/base/mem.h"
#include "tests/lib/api.h"

/* The directories are in the order of their making. */
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

LD_API_TEST(volume_clone, has_the_same_tree_of_its_own)
{
    struct ld_text from, to, was;
    cJSON *json;

    (void)ld_want(c, 201, "POST", "{'name':'data','labels':{'a':'1'}}", "/v1/volumes");
    from = dir_of(d, 0);
    ld_test_sh("cd %s && mkdir -p a/b && echo one > a/one && ln a/one a/b/same && ln -s x link && "
               "mkfifo fifo && truncate -s 20M sparse && chmod 4711 a/one && chown 5:6 a/b && "
               "setfattr -n user.x -v y a/one && touch -d '2001-02-03 04:05:06.789' a && "
               "chmod 1770 . && chown 7:8 .",
               from.s);
    was = ld_tree_digest(from.s);
    json = ld_want(c, 201, "POST", "{'name':'twin'}", "/v1/volumes/data/clone");
    cr_expect_str_eq(ld_str(json, "name"), "twin");
    cr_expect_str_eq(ld_str(json, "labels.a"), "1");
    cr_expect_not_null(ld_client_header(c, "Location"));
    to = dir_of(d, 1);
    cr_expect_str_eq(ld_tree_digest(to.s).s, was.s);
    ld_test_sh("echo changed > %s/a/one; test \"$(cat %s/a/b/same)\" = one", from.s, to.s);
    json = ld_want(c, 201, "POST", "{'labels':{'b':'2'}}", "/v1/volumes/twin/clone");
    cr_expect(ld_bool(json, "anonymous"));
    cr_expect_eq(ld_count(json, "labels"), 1);
    json = ld_want(c, 201, "POST", NULL, "/v1/volumes/twin/clone");
    cr_expect_eq(ld_data_count(d, "staging"), 0);
    ld_expect_df_is_du(d, c);
    (void)ld_want(c, 204, "DELETE", NULL, "/v1/volumes/data?purge=1");
    cr_expect_str_eq(ld_tree_digest(to.s).s, was.s);
    ld_wait_reaped(d);
    ld_expect_df_is_du(d, c);
}

LD_API_TEST(volume_clone, is_refused_with_the_right_code)
{
    static const struct {
        const char *code, *volume, *body;
    } rows[] = {
        {"not_found", "none", NULL},           {"invalid", "data", "{'name':'Data'}"},
        {"invalid", "data", "{'x':1}"},        {"invalid", "data", "{'labels':7}"},
        {"exists", "data", "{'name':'data'}"},
    };
    autofree char *huge = ld_alloc0((1 << 20) + 100);

    (void)ld_want(c, 201, "POST", "{'name':'data'}", "/v1/volumes");
    for (size_t i = 0; i < LD_ARRAY_LEN(rows); i++)
        (void)ld_want_error(c, rows[i].code, "POST", rows[i].body, "/v1/volumes/%s/clone",
                            rows[i].volume);
    memset(huge, ' ', (1 << 20) + 99);
    cr_expect_eq(ld_call(c, &(struct ld_call){.method = "POST",
                                              .target = "/v1/volumes/data/clone",
                                              .content_type = "application/json",
                                              .body = huge,
                                              .body_len = (1 << 20) + 99})
                     ->status,
                 413);
    cr_expect_eq(ld_call(c, &(struct ld_call){.method = "POST",
                                              .target = "/v1/volumes/data/clone",
                                              .content_type = "text/plain",
                                              .body = "x",
                                              .body_len = 1})
                     ->status,
                 415);
    cr_expect_eq(ld_data_count(d, "volumes"), 1);
    ld_daemon_stop(d);
    ld_test_sh("rm -rf %s/volumes/*", d->data_root);
    ld_daemon_again(d);
    (void)ld_want_error(c, "corrupt", "POST", NULL, "/v1/volumes/data/clone");
    cr_expect_eq(ld_data_count(d, "volumes"), 0);
    cr_expect_eq(ld_data_count(d, "staging"), 0);
}

LD_API_TEST(volume_clone, of_a_mounted_volume_is_refused_unless_it_is_live)
{
    struct ld_text at;
    cJSON *error;

    ld_have_base(c);
    (void)ld_create(c, "web", "base", "'mounts':[{'type':'volume','source':'data','target':'/v'}]");
    (void)ld_create(c, "other", "base",
                    "'mounts':[{'type':'volume','source':'data','target':'/v'}]");
    at = ld_mount(c, "web");
    ld_test_sh("echo x > %s/v/file", at.s);
    error = ld_want_error(c, "in_use", "POST", NULL, "/v1/volumes/data/clone");
    cr_expect_eq(ld_count(error, "details.users"), 1);
    cr_expect_str_eq(ld_str(error, "details.users.0.name"), "web");
    (void)ld_want(c, 201, "POST", "{'name':'live'}", "/v1/volumes/data/clone?live=1");
    (void)ld_want(c, 200, "HEAD", NULL, "/v1/volumes/live/files?path=/file");
    ld_unmount(c, "web");
    (void)ld_want(c, 201, "POST", "{'name':'quiet'}", "/v1/volumes/data/clone");
    (void)ld_want(c, 200, "HEAD", NULL, "/v1/volumes/quiet/files?path=/file");
}

/* Of a volume that was never filled, the clone is filled as the other one would have been. */
LD_API_TEST(volume_clone, of_a_new_volume_is_seeded_like_it)
{
    struct ld_text at;

    ld_have_app(c);
    (void)ld_want(c, 201, "POST", "{'name':'data'}", "/v1/volumes");
    (void)ld_want(c, 201, "POST", "{'name':'twin'}", "/v1/volumes/data/clone");
    (void)ld_create(c, "web", "app",
                    "'mounts':[{'type':'volume','source':'twin','target':'/data'}]");
    at = ld_mount(c, "web");
    ld_test_sh("test -e %s/data/seed", at.s);
    ld_unmount(c, "web");
}

LD_API_TEST(volume_clone, is_made_once_under_a_key)
{
    struct ld_call call = {.method = "POST",
                           .target = "/v1/volumes/data/clone",
                           .headers = (const char *[]){"Idempotency-Key: k", NULL}};
    struct ld_text id;

    (void)ld_want(c, 201, "POST", "{'name':'data'}", "/v1/volumes");
    id = ld_textf("%s", ld_str(ld_call(c, &call)->json, "id"));
    cr_expect_str_eq(ld_str(ld_call(c, &call)->json, "id"), id.s);
    cr_expect_eq(ld_data_count(d, "volumes"), 2);
}

LD_TEST(volume_clone, says_no_space_and_leaves_nothing_on_a_full_disk)
{
    struct ld_daemon *d;
    struct ld_client *c;

    ld_close(ld_test_fs("small", "ext4", 256));
    d = ld_daemon_start("small", NULL);
    c = d->client;
    (void)ld_want(c, 201, "POST", "{'name':'data'}", "/v1/volumes");
    ld_test_sh("head -c 130M /dev/zero > %s/big", dir_of(d, 0).s);
    (void)ld_want_error(c, "no_space", "POST", NULL, "/v1/volumes/data/clone");
    cr_expect_eq(ld_data_count(d, "volumes"), 1);
    cr_expect_eq(ld_data_count(d, "staging"), 0);
    ld_wait_reaped(d);
    ld_expect_df_is_du(d, c);
    ld_api_finish(d);
}

/* ---- kill -9 ---- */

struct cloner {
    struct ld_client *client;
    int status;
    pthread_t thread;
};

static void *clone_it(void *arg)
{
    struct cloner *k = arg;
    const struct ld_reply *reply =
        ld_client_call(k->client, &(struct ld_call){.method = "POST",
                                                    .target = "/v1/volumes/data/clone",
                                                    .json = "{'name':'twin'}"});

    k->status = reply ? reply->status : 0;
    return NULL;
}

LD_API_TEST(volume_clone, cut_off_by_a_kill_is_whole_or_not_there)
{
    enum { ROUNDS = 10 };
    struct ld_text was;
    uint64_t took_ms;

    (void)ld_want(c, 201, "POST", "{'name':'data'}", "/v1/volumes");
    ld_test_sh("cd %s && for i in $(seq 20); do mkdir $i && (cd $i && for k in $(seq 40); do "
               "echo $i.$k > $k; done; head -c 100K /dev/zero > z); done",
               dir_of(d, 0).s);
    was = ld_tree_digest(dir_of(d, 0).s);
    took_ms = ld_monotonic_ms();
    (void)ld_want(c, 201, "POST", "{'name':'twin'}", "/v1/volumes/data/clone");
    took_ms = ld_monotonic_ms() - took_ms;
    for (long round = 0; round < ROUNDS; round++) {
        struct cloner k = {.status = 0};
        struct timespec ts = {.tv_nsec = 0};
        bool is_there;

        (void)ld_want(c, 204, "DELETE", NULL, "/v1/volumes/twin?purge=1");
        ld_wait_reaped(d);
        k.client = ld_client_new(d->socket);
        cr_assert_eq(pthread_create(&k.thread, NULL, clone_it, &k), 0);
        ts.tv_nsec = (round + 1) * (long)took_ms * 1300000 / ROUNDS % 1000000000;
        (void)nanosleep(&ts, NULL);
        ld_daemon_kill(d);
        cr_assert_eq(pthread_join(k.thread, NULL), 0);
        ld_client_free(k.client);
        ld_daemon_again(d);
        is_there = ld_data_count(d, "volumes") == 2;
        cr_expect(is_there || k.status != 201, "what was answered is there");
        cr_expect_eq(ld_data_count(d, "staging"), 0);
        cr_expect_eq(ld_data_count(d, "quarantine"), 0);
        cr_expect_str_eq(ld_tree_digest(dir_of(d, 0).s).s, was.s);
        if (is_there)
            cr_expect_str_eq(ld_tree_digest(dir_of(d, 1).s).s, was.s);
        ld_wait_reaped(d);
        ld_expect_df_is_du(d, c);
        if (!is_there)
            (void)ld_want(c, 201, "POST", "{'name':'twin'}", "/v1/volumes");
    }
}
