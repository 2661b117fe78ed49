/* The trash: what is removed is kept, shown, deleted when that is asked for. */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <cjson/cJSON.h>

#include "daemon/base/fdio.h"
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

/* Its directory goes before its row. */
static bool lists_one(void *c)
{
    return n_listed(c, "") == 1;
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
    cr_assert(ld_test_wait(lists_one, c, 60));
    cr_expect_eq(ld_data_count(d, "trash"), 1);
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
    cr_assert_eq(ld_count(json, "would_remove"), 2 + 2, "and the layers that both need");
    cr_expect_str_eq(ld_str(json, "would_remove.2.kind"), "layer");
    cr_expect_geq(ld_int(json, "bytes"), 1048576 + ld_int(json, "would_remove.2.bytes") +
                                             ld_int(json, "would_remove.3.bytes"));
    cr_expect_eq(n_listed(c, ""), 2);
    (void)ld_want(c, 204, "DELETE", NULL, "/v1/trash");
    cr_assert(ld_test_wait(has_no_layers, d, 60), "its layers have no user any more");
    ld_wait_reaped(d);
    (void)ld_want(c, 204, "DELETE", NULL, "/v1/trash");
}

/* ---- restored ---- */

KEEPING_TEST(gives_a_volume_back_with_its_data)
{
    struct ld_text id = removed_volume(d, c, "data");
    cJSON *json;

    (void)ld_want(c, 201, "POST", "{'name':'data'}", "/v1/volumes");
    (void)ld_want_error(c, "not_found", "POST", NULL, "/v1/trash/none/restore");
    (void)ld_want_error(c, "invalid", "POST", "{'name':'/'}", "/v1/trash/data/restore");
    (void)ld_want_error(c, "invalid", "POST", "{'nam':'x'}", "/v1/trash/data/restore");
    (void)ld_want_error(c, "exists", "POST", NULL, "/v1/trash/data/restore");
    cr_expect_eq(ld_data_count(d, "trash"), 1, "what was refused is there as before");
    cr_expect_eq(ld_data_count(d, "volumes"), 1);
    json = ld_want(c, 200, "POST", "{'name':'old'}", "/v1/trash/data/restore");
    cr_expect_str_eq(ld_str(json, "kind"), "volume");
    cr_expect_str_eq(ld_str(json, "id"), id.s);
    cr_expect_str_eq(ld_str(json, "name"), "old");
    cr_expect_eq(n_listed(c, ""), 0);
    json = ld_want(c, 200, "GET", NULL, "/v1/volumes/old?size=1");
    cr_expect_str_eq(ld_str(json, "id"), id.s);
    cr_expect_geq(ld_int(json, "size.bytes"), 1048576);
    (void)ld_want_error(c, "not_found", "POST", NULL, "/v1/trash/data/restore");
    ld_daemon_kill(d);
    ld_daemon_again(d);
    json = ld_want(c, 200, "GET", NULL, "/v1/volumes/old?size=1");
    cr_expect_str_eq(ld_str(json, "state"), "ok");
    cr_expect_geq(ld_int(json, "size.bytes"), 1048576);
}

KEEPING_TEST(gives_a_container_back_with_its_volumes)
{
    struct ld_text id;
    cJSON *json;

    ld_have_base(c);
    id = ld_create(c, "web", "base",
                   "'mounts':[{'type':'volume','source':'data','target':'/var/empty'}]");
    ld_test_sh("echo one >%s/etc/one", ld_mount(c, "web").s);
    ld_unmount(c, "web");
    (void)ld_want(c, 204, "DELETE", NULL, "/v1/containers/web");
    (void)ld_want(c, 204, "DELETE", NULL, "/v1/volumes/data");
    (void)ld_want(c, 204, "DELETE", NULL, "/v1/images/base");
    (void)ld_want_error(c, "conflict", "POST", NULL, "/v1/trash/web/restore");
    (void)ld_want(c, 200, "POST", NULL, "/v1/trash/data/restore");
    json = ld_want(c, 200, "POST", "{}", "/v1/trash/%.12s/restore", id.s);
    cr_expect_str_eq(ld_str(json, "kind"), "container");
    cr_expect_str_eq(ld_str(json, "name"), "web");
    ld_test_sh("grep -q one %s/etc/one", ld_mount(c, "web").s);
    ld_unmount(c, "web");
    cr_expect_eq(ld_data_count(d, "trash"), 0);
}

KEEPING_TEST(never_gives_back_what_is_being_deleted)
{
    ld_have_base(c);
    (void)ld_create(c, "web", "base", NULL);
    (void)ld_want(c, 204, "DELETE", NULL, "/v1/images/base?force=1");
    (void)ld_want(c, 204, "DELETE", NULL, "/v1/containers/web");
    (void)ld_want(c, 204, "DELETE", NULL, "/v1/trash/web");
    for (int i = 0; i < 100; i++) {
        const struct ld_reply *reply =
            ld_call(c, &(struct ld_call){.method = "POST", .target = "/v1/trash/web/restore"});

        cr_expect(reply->status == 409 || reply->status == 404, "%d", reply->status);
    }
    ld_wait_reaped(d);
}

static const struct timespec *of_us(long us)
{
    static struct timespec t;

    t = (struct timespec){.tv_nsec = us * 1000};
    return &t;
}

/* At whatever moment it dies, the data is in one place or the other, and whole. */
KEEPING_TEST(survives_a_kill_at_any_moment)
{
    static const char ask[] = "POST /v1/trash/data/restore HTTP/1.1\r\nHost: x\r\n"
                              "Content-Length: 0\r\n\r\n";
    int n_living = 0;

    (void)removed_volume(d, c, "data");
    for (int i = 0; i < 16; i++) {
        int fd = ld_raw_connect(d->socket);
        bool is_living;

        ld_raw_send(fd, ask, sizeof(ask) - 1);
        (void)nanosleep(of_us(i * 250L), NULL); /* any moment */
        ld_daemon_kill(d);
        ld_close(fd);
        ld_daemon_again(d);
        is_living = n_listed(c, "") == 0;
        n_living += is_living;
        cr_expect_eq(ld_data_count(d, "trash"), is_living ? 0 : 1);
        cr_expect_eq(ld_data_count(d, "volumes"), is_living ? 1 : 0);
        if (!is_living)
            (void)ld_want(c, 200, "POST", NULL, "/v1/trash/data/restore");
        cr_expect_geq(ld_int(ld_want(c, 200, "GET", NULL, "/v1/volumes/data?size=1"), "size.bytes"),
                      1048576);
        (void)ld_want(c, 204, "DELETE", NULL, "/v1/volumes/data");
    }
    fprintf(stderr, "restored before the kill: %d of 16\n", n_living);
    cr_expect_eq(ld_data_count(d, "quarantine"), 0);
}

/* As if it were killed between the directory and the record. */
KEEPING_TEST(has_what_a_kill_took_out_half_way_again)
{
    struct ld_text id = removed_volume(d, c, "data");

    ld_daemon_kill(d);
    ld_test_sh("cd %s && mv trash/* volumes/", d->data_root);
    ld_daemon_again(d);
    cr_expect_eq(ld_data_count(d, "trash"), 1);
    cr_expect_eq(ld_data_count(d, "volumes"), 0);
    cr_expect_eq(ld_data_count(d, "quarantine"), 0);
    cr_expect_eq(n_listed(c, "?filter=kind=volume"), 1);
    (void)ld_want(c, 200, "POST", NULL, "/v1/trash/%s/restore", id.s);
    cr_expect_geq(ld_int(ld_want(c, 200, "GET", NULL, "/v1/volumes/data?size=1"), "size.bytes"),
                  1048576);
}

/* ---- its bound ---- */

static void set(const char *settings)
{
    ld_test_sh("printf '[trash]\\nkeep_containers = 1h\\n%s\\n' >layerd.conf", settings);
}

struct waiting {
    struct ld_client *c;
    int n;
};

static bool are_left(void *arg)
{
    const struct waiting *w = arg;

    return n_listed(w->c, "") == w->n;
}

/* Its directory can't be moved at first. */
KEEPING_TEST(counts_what_comes_late)
{
    struct waiting w = {.n = 0};

    ld_daemon_stop(d);
    set("max_bytes = 512k");
    ld_daemon_again(d);
    ld_have_base(d->client);
    (void)ld_create(d->client, "big", "base", NULL);
    ld_change(d->client, "big", "head -c 1M /dev/urandom >big");
    ld_test_sh("mount --bind %s/w/3 %s/w/3", d->data_root, d->data_root);
    (void)ld_want(d->client, 204, "DELETE", NULL, "/v1/containers/big");
    (void)ld_create(d->client, "small", "base", NULL); /* its removal has the reaper look again */
    (void)ld_want(d->client, 204, "DELETE", NULL, "/v1/containers/small?purge=1");
    w = (struct waiting){.c = d->client, .n = 1};
    cr_assert(ld_test_wait(are_left, &w, 60));
    ld_test_sh("umount %s/w/3", d->data_root);
    ld_daemon_stop(d);
    ld_daemon_again(d);
    w = (struct waiting){.c = d->client, .n = 0};
    cr_expect(ld_test_wait(are_left, &w, 60), "it is in the trash now, and too large for it");
    ld_wait_reaped(d);
}

/* A directory that can't be read: that of a process which has ended. */
KEEPING_TEST(is_emptied_around_what_cant_be_counted)
{
    struct waiting w = {.n = 1};

    ld_have_base(c);
    (void)ld_create(c, "x", "base", NULL);
    (void)ld_create(c, "y", "base", NULL);
    (void)ld_want(c, 204, "DELETE", NULL, "/v1/containers/x");
    ld_wait_count(d, "trash", 1);
    ld_daemon_stop(d);
    ld_test_sh("sleep 60 & mount --bind /proc/$!/net %s/trash/3; kill $!; wait $! || true;"
               "! ls %s/trash/3 2>ls",
               d->data_root, d->data_root);
    set("max_bytes = 1g");
    ld_daemon_again(d);
    w.c = d->client;
    (void)ld_want(d->client, 204, "DELETE", NULL, "/v1/containers/y?purge=1");
    cr_expect(ld_test_wait(are_left, &w, 60));
    ld_test_sh("umount %s/trash/3", d->data_root);
    (void)ld_want(d->client, 204, "DELETE", NULL, "/v1/trash");
    ld_wait_reaped(d);
}

/* In a mount namespace of its own a process has what it has, whatever is removed here. */
LD_API_TEST(trash, keeps_the_layers_of_a_removed_container_for_who_holds_it)
{
    struct ld_text at;
    pid_t holder;

    for (int is_auto = 0; is_auto < 2; is_auto++) {
        ld_have_base(c);
        (void)ld_create(c, "web", "base", is_auto ? "'auto_remove':true" : NULL);
        at = ld_mount(c, "web");
        holder = ld_hold_elsewhere(at.s);
        (void)ld_want(c, 204, "DELETE", NULL, "/v1/images/base?force");
        if (is_auto)
            ld_unmount(c, "web");
        else
            (void)ld_want(c, 204, "DELETE", NULL, "/v1/containers/web?force");
        (void)ld_want_error(c, "not_found", "GET", NULL, "/v1/containers/web");
        for (int i = 0; i < 2; i++) {
            ld_test_sh("for i in $(seq 20); do test -s /proc/%d/root/mnt/held/etc/passwd || "
                       "exit 1; sleep 0.05; done",
                       holder);
            ld_daemon_kill(d);
            ld_daemon_again(d);
        }
        ld_hold_end(holder);
        ld_wait_count(d, "layers", 1);
        ld_expect_df_is_du(d, c);
    }
}
