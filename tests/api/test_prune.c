/* Prune: what nobody uses goes, what comes into use meanwhile stays. */
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <unistd.h>

#include <cjson/cJSON.h>

#include "daemon/base/fdio.h"
#include "daemon/base/mem.h"
#include "tests/lib/api.h"

/* The objects as "kind name", joined by ", "; their bytes must add up. */
static struct ld_text told(const cJSON *json, const char *list)
{
    struct ld_text all = {""};
    int64_t sum = 0;
    const cJSON *item;

    cJSON_ArrayForEach (item, ld_at(json, list)) {
        const char *name = cJSON_GetStringValue(cJSON_GetObjectItem(item, "name"));

        all = ld_textf("%s%s%s %s", all.s, all.s[0] ? ", " : "", ld_str(item, "kind"),
                       name ? name : "-");
        sum += ld_int(item, "bytes");
    }
    cr_expect_eq(ld_int(json, "bytes"), sum);
    cr_expect_eq(ld_int(json, "objects"), ld_count(json, list));
    cr_expect_eq(ld_count(json, "failed"), 0);
    cr_expect(!ld_bool(json, "truncated"));
    return all;
}

static struct ld_text prune(struct ld_client *c, const char *target)
{
    return told(ld_want(c, 200, "POST", NULL, "/v1/%s", target), "removed");
}

static struct ld_text would(struct ld_client *c, const char *target)
{
    return told(ld_want(c, 200, "POST", "{}", "/v1/%s", target), "would_remove");
}

static int how_many(struct ld_client *c, const char *kind)
{
    return ld_count(ld_want(c, 200, "GET", NULL, "/v1/%s", kind), "items");
}

LD_API_TEST(prune, of_containers_leaves_those_in_use)
{
    struct ld_text place;
    cJSON *json;

    ld_have_base(c);
    (void)ld_create(c, "idle", "base", "'labels':{'a':'1','b':'2'}");
    (void)ld_create(c, "mounted", "base", NULL);
    (void)ld_create(c, "prune", "base", "'labels':{'a':'2'}");
    place = ld_mount(c, "mounted");
    ld_change(c, "idle", "head -c 1048576 /dev/urandom > big && sync big");
    (void)ld_take_snapshot(c, "prune", "one");
    cr_expect_str_eq(would(c, "containers/prune?dry_run=1").s, "container idle, container prune");
    cr_expect_str_eq(would(c, "containers/prune?dry_run&filter=label=a=1&filter=label=b").s,
                     "container idle");
    cr_expect_str_eq(would(c, "containers/prune?dry_run&filter=until=1h").s, "");
    cr_expect_str_eq(would(c, "containers/prune?dry_run&filter=until=2099-01-01T00:00:00Z").s,
                     "container idle, container prune");
    cr_expect_eq(how_many(c, "containers"), 3);
    cr_expect_str_eq(prune(c, "containers/prune?filter=label=a=2").s, "container prune");
    (void)ld_want_error(c, "not_found", "GET", NULL, "/v1/containers/prune");
    json = ld_want(c, 200, "POST", NULL, "/v1/containers/prune");
    cr_expect_str_eq(told(json, "removed").s, "container idle");
    cr_expect_geq(ld_int(json, "bytes"), 1048576);
    cr_expect_lt(ld_int(json, "bytes"), 1048576 + 65536);
    cr_expect_eq(ld_int(json, "trash_bytes"), 0, "the trash keeps no containers");
    cr_expect_str_eq(prune(c, "containers/prune").s, "");
    ld_test_sh("test -e '%s/etc/passwd'", place.s);
    ld_unmount(c, "mounted");
    cr_expect_str_eq(prune(c, "containers/prune").s, "container mounted");
    ld_wait_reaped(d);
    ld_expect_df_is_du(d, c);
}

/* "prune" is also a name. */
LD_API_TEST(prune, is_a_name_like_any_other)
{
    ld_have_base(c);
    (void)ld_want(c, 201, "PUT", "{'image':'base'}", "/v1/containers/prune");
    (void)ld_want(c, 201, "PUT", NULL, "/v1/volumes/prune");
    cr_expect_str_eq(ld_str(ld_want(c, 200, "GET", NULL, "/v1/containers/prune"), "name"), "prune");
    cr_expect_str_eq(ld_str(ld_want(c, 200, "GET", NULL, "/v1/volumes/prune"), "name"), "prune");
    (void)ld_want(c, 204, "DELETE", NULL, "/v1/containers/prune");
    (void)ld_want(c, 204, "DELETE", NULL, "/v1/volumes/prune");
}

LD_API_TEST(prune, of_containers_leaves_what_a_process_holds)
{
    struct ld_text at;
    pid_t holder;

    ld_have_base(c);
    (void)ld_create(c, "held", "base", NULL);
    at = ld_mount(c, "held");
    holder = ld_hold_elsewhere(at.s);
    ld_unmount(c, "held");
    cr_expect_str_eq(prune(c, "containers/prune").s, "");
    ld_hold_end(holder);
    cr_expect_str_eq(prune(c, "containers/prune").s, "container held");
}

/* A volume on a disk that is gone. */
LD_API_TEST(prune, names_what_fails_and_goes_on)
{
    uint32_t how = 2; /* without flushing */
    int bad = ld_test_fs("bad", "xfs", 320);
    cJSON *json;

    for (int i = 0; i < 3; i++)
        (void)ld_want(c, 201, "POST", "{'labels':{}}", "/v1/volumes");
    ld_test_sh("mount --bind bad %s/volumes/$(ls %s/volumes | sort -n | sed -n 2p)", d->data_root,
               d->data_root);
    cr_assert_eq(ioctl(bad, _IOR('X', 125, uint32_t), &how), 0);
    ld_close(bad);
    json = ld_want(c, 200, "POST", NULL, "/v1/volumes/prune?dry_run=1");
    cr_expect_eq(ld_count(json, "would_remove"), 2);
    cr_expect_eq(ld_count(json, "failed"), 1);
    cr_expect_str_eq(ld_str(json, "failed.0.kind"), "volume");
    cr_expect_str_eq(ld_str(json, "failed.0.code"), "io");
    ld_test_sh("umount $(findmnt -rno TARGET | grep /volumes/)");
    cr_expect_eq(ld_count(ld_want(c, 200, "POST", NULL, "/v1/volumes/prune?purge=1"), "removed"),
                 3);
    ld_wait_reaped(d);
    cr_expect_eq(ld_data_count(d, "volumes"), 0);
}

LD_TEST(prune, works_on_a_full_disk)
{
    struct ld_daemon *d;
    struct ld_client *c;

    ld_close(ld_test_fs("small", "ext4", 512));
    d = ld_daemon_start("small", NULL);
    c = d->client;
    ld_have_base(c);
    (void)ld_create(c, "web", "base", NULL);
    (void)ld_want(c, 201, "POST", NULL, "/v1/volumes");
    ld_test_sh("test $(stat -c %%b small/root/reserve) -gt 0; cd small && until ! fallocate -l 1M "
               "fill$((n=n+1)) 2>/dev/null; do :; done;"
               "head -c 4M /dev/zero > rest 2>/dev/null; true");
    cr_expect_str_eq(prune(c, "containers/prune").s, "container web");
    cr_expect_str_eq(prune(c, "volumes/prune?purge=1").s, "volume -");
    cr_expect_eq(
        ld_count(ld_want(c, 200, "POST", NULL, "/v1/images/prune?filter=dangling=0"), "removed"),
        4);
    ld_test_sh("rm -f small/fill* small/rest");
    ld_api_finish(d);
}

/* Nothing is left even for the database's shared memory. */
LD_TEST(prune, works_after_a_start_on_a_full_disk)
{
    struct ld_daemon *d;

    ld_close(ld_test_fs("small", "ext4", 512));
    d = ld_daemon_start("small", NULL);
    ld_have_base(d->client);
    (void)ld_create(d->client, "web", "base", NULL);
    ld_daemon_stop(d);
    ld_test_sh("test $(stat -c %%b small/root/reserve) -gt 0; cd small && until ! fallocate -l 1M "
               "fill$((n=n+1)) 2>/dev/null; do :; done;"
               "head -c 4M /dev/zero > rest 2>/dev/null; true");
    ld_daemon_again(d);
    cr_expect_str_eq(prune(d->client, "containers/prune").s, "container web");
    ld_test_sh("rm -f small/fill* small/rest");
    ld_api_finish(d);
}

LD_API_TEST(prune, of_containers_takes_volumes_and_layers_along)
{
    ld_have_app(c); /* declares /data */
    (void)ld_create(c, "one", "app", "'mounts':[{'type':'volume','source':'named','target':'/v'}]");
    (void)ld_create(c, "two", "app", NULL);
    (void)ld_want(c, 204, "DELETE", NULL, "/v1/images/app?force=1");
    cr_expect_str_eq(would(c, "containers/prune?dry_run&volumes").s,
                     "container one, volume -, container two, volume -, layer -, layer -, layer -");
    cr_expect_str_eq(prune(c, "containers/prune?volumes=1&purge=1").s,
                     "container one, volume -, container two, layer -, layer -, layer -, volume -");
    cr_expect_eq(how_many(c, "volumes"), 1);
    ld_wait_reaped(d);
    cr_expect_eq(ld_data_count(d, "layers"), 1);
}

/* By default removed volumes stay for a day, containers and what goes with them do not. */
LD_API_TEST(prune, tells_what_stays_in_the_trash)
{
    cJSON *json;

    ld_have_app(c); /* declares /data */
    (void)ld_create(c, "one", "app", "'mounts':[{'type':'volume','source':'named','target':'/v'}]");
    ld_change(c, "one", "head -c 100K /dev/zero > data/file; head -c 200K /dev/zero > v/file");
    json = ld_want(c, 200, "POST", NULL, "/v1/containers/prune?volumes=1");
    cr_expect_geq(ld_int(json, "bytes"), 100 << 10);
    cr_expect_eq(ld_int(json, "trash_bytes"), 0);
    ld_wait_reaped(d);
    json = ld_want(c, 200, "POST", NULL, "/v1/volumes/prune?all=1");
    cr_expect_geq(ld_int(json, "bytes"), 200 << 10);
    cr_expect_eq(ld_int(json, "trash_bytes"), ld_int(json, "bytes"));
    (void)ld_want(c, 200, "POST", NULL, "/v1/trash/named/restore");
    cr_expect_eq(how_many(c, "volumes"), 1);
}

LD_API_TEST(prune, of_volumes_takes_anonymous_ones_unless_told)
{
    struct ld_text anonymous;
    cJSON *json;

    ld_have_app(c);
    (void)ld_create(c, "web", "app", "'mounts':[{'type':'volume','source':'used','target':'/v'}]");
    anonymous = ld_textf("%s", ld_str(ld_want(c, 201, "POST", NULL, "/v1/volumes"), "id"));
    (void)ld_want(c, 201, "POST", "{'name':'kept','labels':{'keep':'yes'}}", "/v1/volumes");
    (void)ld_want(c, 201, "POST", "{'name':'spare'}", "/v1/volumes");
    cr_expect_str_eq(would(c, "volumes/prune?dry_run").s, "volume -");
    cr_expect_str_eq(would(c, "volumes/prune?dry_run&all").s,
                     "volume -, volume kept, volume spare");
    cr_expect_str_eq(would(c, "volumes/prune?dry_run&all&filter=until=1h").s, "");
    json = ld_want(c, 200, "POST", NULL, "/v1/volumes/prune");
    cr_expect_str_eq(ld_str(json, "removed.0.id"), anonymous.s);
    cr_expect_eq(ld_count(json, "removed"), 1);
    cr_expect_eq(ld_int(json, "trash_bytes"), ld_int(json, "bytes"));
    (void)ld_want(c, 200, "POST", NULL, "/v1/trash/%s/restore", anonymous.s);
    json = ld_want(c, 200, "POST", NULL, "/v1/volumes/prune?purge=1");
    cr_expect_eq(ld_int(json, "trash_bytes"), 0);
    ld_wait_reaped(d);
    cr_expect_str_eq(prune(c, "volumes/prune?all=1&filter=label=keep=yes").s, "volume kept");
    cr_expect_str_eq(prune(c, "volumes/prune?all=1").s, "volume spare");
    cr_expect_eq(how_many(c, "volumes"), 2, "the container's");
}

LD_API_TEST(prune, of_images_takes_nameless_ones_unless_told)
{
    struct ld_text id;

    ld_have_app(c); /* base's layers, and one of its own */
    (void)ld_want(c, 200, "POST", "{'ref':'app:2'}", "/v1/images/app/tag");
    ld_have_base(c);
    id = ld_textf("%s", ld_str(ld_want(c, 200, "GET", NULL, "/v1/images/base"), "id"));
    cr_expect_str_eq(prune(c, "images/prune").s, "");
    (void)ld_want(c, 200, "POST", "{'ref':'base'}", "/v1/images/app/tag"); /* moves */
    cr_expect_str_eq(would(c, "images/prune?dry_run").s, "image -");
    (void)ld_want(c, 200, "POST", NULL, "/v1/images/%s/mount", id.s);
    cr_expect_str_eq(prune(c, "images/prune").s, "", "it is mounted");
    (void)ld_want(c, 200, "POST", NULL, "/v1/images/%s/unmount", id.s);
    (void)ld_create(c, "web", id.s, NULL);
    cr_expect_str_eq(prune(c, "images/prune").s, "", "a container was made of it");
    (void)ld_want(c, 204, "DELETE", NULL, "/v1/containers/web");
    cr_expect_str_eq(prune(c, "images/prune?filter=until=1h").s, "");
    cr_expect_str_eq(prune(c, "images/prune?filter=dangling=true").s, "image -");
    cr_expect_str_eq(would(c, "images/prune?dry_run&filter=dangling=0&filter=label=none").s, "");
    cr_expect_str_eq(prune(c, "images/prune?filter=dangling=0").s,
                     "reference app:2, reference app:latest, reference base:latest, image app:2, "
                     "layer -, layer -, layer -");
    cr_expect_eq(how_many(c, "images"), 0);
    ld_wait_reaped(d);
    ld_expect_df_is_du(d, c);
}

LD_API_TEST(prune, is_a_job_with_progress)
{
    static const char *const async[] = {"Prefer: respond-async", NULL};
    static const char *const lines[] = {"Accept: application/x-ndjson", NULL};
    const struct ld_reply *reply;
    struct ld_text job;
    cJSON *json;

    ld_have_base(c);
    (void)ld_create(c, "web", "base", NULL);
    reply = ld_call(c, &(struct ld_call){.method = "POST",
                                         .target = "/v1/containers/prune?dry_run=1",
                                         .headers = lines});
    cr_assert_eq(reply->status, 200);
    cr_expect_not_null(strstr(reply->body, "\"phase\":\"prune\""), "%s", reply->body);
    cr_expect_not_null(strstr(reply->body, "{\"result\":{\"would_remove\":[{"), "%s", reply->body);
    reply = ld_call(
        c, &(struct ld_call){.method = "POST", .target = "/v1/containers/prune", .headers = async});
    cr_assert_eq(reply->status, 202);
    job = ld_textf("%s", ld_str(reply->json, "job"));
    json = ld_want(c, 200, "GET", NULL, "/v1/jobs/%s?wait=60s", job.s);
    cr_expect_str_eq(ld_str(json, "kind"), "container.prune");
    cr_expect_str_eq(ld_str(json, "result.removed.0.name"), "web");
    for (size_t i = 0; i < 2; i++) {
        const char *const targets[] = {"/v1/images/prune", "/v1/volumes/prune"};

        reply =
            ld_call(c, &(struct ld_call){.method = "POST", .target = targets[i], .headers = async});
        cr_assert_eq(reply->status, 202);
        job = ld_textf("%s", ld_str(reply->json, "job"));
        (void)ld_want(c, 200, "GET", NULL, "/v1/jobs/%s?wait=60s", job.s);
    }
}

LD_API_TEST(prune, refuses_what_it_does_not_know)
{
    static const char *const bad[] = {"containers/prune?all=1",
                                      "containers/prune?filter=dangling=1",
                                      "containers/prune?dry_run=maybe",
                                      "containers/prune?filter=until=soon",
                                      "images/prune?purge=maybe",
                                      "images/prune?volumes=1",
                                      "images/prune?filter=dangling=perhaps",
                                      "images/prune?filter=name=a",
                                      "volumes/prune?volumes=1",
                                      "volumes/prune?filter=anonymous=1"};

    for (size_t i = 0; i < LD_ARRAY_LEN(bad); i++)
        (void)ld_want_error(c, "invalid", "POST", NULL, "/v1/%s", bad[i]);
    (void)ld_want_error(c, "invalid", "POST", "{'all':true}", "/v1/volumes/prune");
}

/* ---- dry runs ---- */

/* A dry run tells as much as the real one removes then; *ret_layers of them are layers. */
static int64_t prune_twice(struct ld_client *c, const char *target, int *ret_layers)
{
    char sep = strchr(target, '?') ? '&' : '?';
    cJSON *json = ld_want(c, 200, "POST", NULL, "%s%cdry_run=1", target, sep);
    int64_t objects = ld_int(json, "objects"), bytes = ld_int(json, "bytes"),
            trash_bytes = ld_int(json, "trash_bytes"), sum = 0;
    const cJSON *item;

    *ret_layers = 0;
    cJSON_ArrayForEach (item, ld_at(json, "would_remove")) {
        sum += ld_int(item, "bytes");
        *ret_layers += strcmp(ld_str(item, "kind"), "layer") == 0;
    }
    cr_expect_eq(sum, bytes);
    json = ld_want(c, 200, "POST", NULL, "%s", target);
    cr_expect_eq(ld_int(json, "objects"), objects, "%s", target);
    cr_expect_eq(ld_int(json, "bytes"), bytes, "%s", target);
    cr_expect_eq(ld_int(json, "trash_bytes"), trash_bytes, "%s", target);
    return bytes;
}

static int64_t layer_bytes(struct ld_client *c)
{
    return ld_int(ld_want(c, 200, "GET", NULL, "/v1/df"), "layers.bytes");
}

LD_API_TEST(prune, counts_layers_that_several_share_in_a_dry_run_once)
{
    int64_t size;
    int layers;

    ld_have_base(c);
    ld_have_app(c);
    size = layer_bytes(c);
    cr_expect_gt(size, 0);
    cr_expect_eq(prune_twice(c, "/v1/images/prune?filter=dangling=0", &layers), size);
    cr_expect_eq(layers, 3);

    ld_have_base(c);
    ld_have_app(c);
    (void)ld_create(c, "keeps", "base", NULL);
    size = layer_bytes(c) - ld_int(ld_want(c, 200, "GET", NULL, "/v1/images/base"), "size");
    cr_expect_eq(prune_twice(c, "/v1/images/prune?filter=dangling=0", &layers), size,
                 "a container has the others");
    cr_expect_eq(layers, 1);

    (void)ld_create(c, "too", "base", NULL);
    (void)ld_want(c, 204, "DELETE", NULL, "/v1/images/base?force=1");
    size = layer_bytes(c);
    cr_expect_geq(prune_twice(c, "/v1/containers/prune", &layers), size);
    cr_expect_eq(layers, 2);
    ld_wait_count(d, "layers", 1);
}

LD_TEST(prune, counts_layers_that_go_to_the_trash_once)
{
    static const char *const args[] = {"--config", "/mnt/layerd.conf", NULL};
    struct ld_daemon *d;
    int64_t size;
    int layers;

    ld_test_sh("umask 022; printf '[trash]\\nkeep_images = 1h\\n' >layerd.conf");
    d = ld_daemon_start("data", args);
    ld_have_base(d->client);
    ld_have_app(d->client);
    size = layer_bytes(d->client);
    cr_expect_eq(prune_twice(d->client, "/v1/images/prune?filter=dangling=0", &layers), size);
    cr_expect_eq(layers, 0, "they stay");
    ld_have_base(d->client);
    cr_expect_eq(prune_twice(d->client, "/v1/images/prune?filter=dangling=0&purge=1", &layers), 0,
                 "an image in the trash has them");
    ld_api_finish(d);
}

/* ---- cancelling ---- */

enum { MANY = 150 };

static void many_images(struct ld_client *c)
{
    static int round;
    struct ld_entry entry = {.path = "file", .data = "x"};
    struct ld_blob layer = ld_make_tar(&entry, 1);
    static struct ld_image_spec spec[MANY];
    static struct ld_text config[MANY];
    struct ld_blob archive;

    round++;
    for (int i = 0; i < MANY; i++) {
        config[i] = ld_textf("'Labels':{'n':'%d.%d'}", round, i);
        spec[i] = (struct ld_image_spec){.config = config[i].s, .layers = &layer, .n_layers = 1};
    }
    archive = ld_make_image(spec, MANY);
    (void)ld_import(c, &archive, "");
    ld_blob_done(&archive);
    ld_blob_done(&layer);
}

static void many_containers(struct ld_client *c)
{
    for (int i = 0; i < MANY; i++)
        (void)ld_want(c, 201, "POST", "{'image':'base:latest'}", "/v1/containers");
}

static void many_volumes(struct ld_client *c)
{
    for (int i = 0; i < MANY; i++)
        (void)ld_want(c, 201, "POST", NULL, "/v1/volumes");
}

struct waiter {
    struct ld_client *client;
    const char *target;
    int status;
    struct ld_text code;
};

static void *prune_and_wait(void *arg)
{
    struct waiter *w = arg;
    const struct ld_reply *reply =
        ld_client_call(w->client, &(struct ld_call){.method = "POST", .target = w->target});

    w->status = reply ? reply->status : 0;
    if (w->status >= 400)
        w->code = ld_textf("%s", ld_str(reply->json, "error.code"));
    return NULL;
}

/* True: it was in time. */
static bool cancel_one(struct ld_daemon *d, const char *target)
{
    struct waiter w = {.client = ld_client_new(d->socket), .target = target};
    pthread_t thread;

    cr_assert_eq(pthread_create(&thread, NULL, prune_and_wait, &w), 0);
    for (int i = 0; i < 1000; i++) {
        cJSON *json = ld_want(d->client, 200, "GET", NULL, "/v1/jobs?filter=state=running");

        if (ld_count(json, "items") == 0)
            continue;
        (void)ld_call(
            d->client,
            &(struct ld_call){.method = "DELETE",
                              .target = ld_textf("/v1/jobs/%s", ld_str(json, "items.0.id")).s});
        break;
    }
    cr_assert_eq(pthread_join(thread, NULL), 0);
    ld_client_free(w.client);
    cr_assert(w.status == 200 || (w.status == 503 && strcmp(w.code.s, "canceled") == 0), "%d %s",
              w.status, w.code.s);
    return w.status == 503;
}

LD_API_TEST(prune, ends_when_it_is_cancelled)
{
    static const struct {
        const char *kind, *target;
        void (*fill)(struct ld_client *c);
    } cases[] = {
        {"images", "/v1/images/prune", many_images},
        {"containers", "/v1/containers/prune", many_containers},
        {"volumes", "/v1/volumes/prune", many_volumes},
    };

    ld_have_base(c);
    for (size_t i = 0; i < LD_ARRAY_LEN(cases); i++) {
        bool in_time = false;

        for (int tries = 0; tries < 20 && !in_time; tries++) {
            cases[i].fill(c);
            in_time = cancel_one(d, cases[i].target);
        }
        cr_assert(in_time, "%s", cases[i].kind);
        cr_expect_gt(how_many(c, cases[i].kind), 0);
        (void)ld_want(c, 200, "POST", NULL, "%s", cases[i].target);
    }
    cr_expect_eq(how_many(c, "images"), 1);
    cr_expect_eq(how_many(c, "containers"), 0);
    cr_expect_eq(how_many(c, "volumes"), 0);
}

/* One object is enough to be waited for: its walk ends, too. */
LD_API_TEST(prune, ends_within_one_walk_when_it_is_cancelled)
{
    static const char dry[] = "/v1/volumes/prune?all=1&dry_run=1",
                      real[] = "/v1/volumes/prune?all=1";
    bool in_time = false;
    cJSON *json;

    (void)ld_want(c, 201, "POST", "{'name':'large'}", "/v1/volumes");
    ld_test_sh("cd %s/volumes/*; for d in $(seq 100); do mkdir $d; "
               "(cd $d; seq 1000 | xargs touch) || exit 1; done",
               d->data_root);
    for (int tries = 0; tries < 20 && !in_time; tries++)
        in_time = cancel_one(d, dry);
    cr_assert(in_time);
    in_time = cancel_one(d, real);
    cr_expect_eq(how_many(c, "volumes"), in_time ? 1 : 0);
    if (!in_time)
        return;
    json = ld_want(c, 200, "POST", NULL, "%s", dry);
    cr_expect_eq(ld_count(json, "would_remove"), 1);
    (void)ld_want(c, 200, "POST", NULL, "%s", real);
    cr_expect_eq(how_many(c, "volumes"), 0);
}

/* ---- races ---- */

struct racer {
    struct ld_client *client;
    const char *target;
    pthread_t thread;
    bool stop;
    int rounds;
};

static void *prune_on_and_on(void *arg)
{
    struct racer *r = arg;

    while (!__atomic_load_n(&r->stop, __ATOMIC_RELAXED)) {
        const struct ld_reply *reply =
            ld_client_call(r->client, &(struct ld_call){.method = "POST", .target = r->target});

        if (!reply || reply->status != 200)
            return (void *)"a prune failed";
        r->rounds++;
    }
    return NULL;
}

static void begin_race(struct racer *r, struct ld_daemon *d, const char *target)
{
    *r = (struct racer){.client = ld_client_new(d->socket), .target = target};
    cr_assert_eq(pthread_create(&r->thread, NULL, prune_on_and_on, r), 0);
}

static void end_race(struct racer *r)
{
    void *problem = NULL;

    __atomic_store_n(&r->stop, true, __ATOMIC_RELAXED);
    cr_assert_eq(pthread_join(r->thread, &problem), 0);
    cr_expect_null(problem, "%s", (const char *)problem);
    cr_expect_gt(r->rounds, 0);
    ld_client_free(r->client);
}

/* Whoever finds its container mounted keeps it; whoever comes too late is told so. */
LD_API_TEST(prune, never_takes_what_was_mounted_first)
{
    struct racer racer;
    int won = 0;

    ld_have_base(c);
    begin_race(&racer, d, "/v1/containers/prune?volumes=1");
    for (int i = 0; i < 200; i++) {
        struct ld_text id, target;
        const struct ld_reply *reply;

        id = ld_textf("%s",
                      ld_str(ld_want(c, 201, "POST", "{'image':'base'}", "/v1/containers"), "id"));
        target = ld_textf("/v1/containers/%s/mount", id.s);
        reply = ld_call(c, &(struct ld_call){.method = "POST", .target = target.s, .json = "{}"});
        cr_assert(reply->status == 200 || reply->status == 404, "%s", reply->body);
        if (reply->status == 404)
            continue;
        won++;
        ld_test_sh("test -e '%s/etc/passwd'", ld_str(reply->json, "mountpoint"));
        (void)ld_want(c, 200, "GET", NULL, "/v1/containers/%s", id.s);
        (void)ld_want(c, 204, "DELETE", NULL, "/v1/containers/%s?force=1", id.s);
    }
    end_race(&racer);
    fprintf(stderr, "%d of 200 mounts came first, %d prunes\n", won, racer.rounds);
    cr_expect_gt(won, 0);
    ld_wait_reaped(d);
    cr_expect_eq(ld_data_count(d, "w"), 0);
    ld_expect_df_is_du(d, c);
}

/* A volume is nobody's until the container that it is made for is recorded. */
LD_API_TEST(prune, never_takes_a_volume_whose_container_is_being_made)
{
    struct racer racer;

    ld_have_app(c); /* declares /data: an anonymous one, too */
    begin_race(&racer, d, "/v1/volumes/prune?all=1&purge=1");
    for (int i = 0; i < 200; i++) {
        autofree char *members =
            ld_asprintf("'mounts':[{'type':'volume','source':'v%d','target':'/v'}]", i);
        struct ld_text id = ld_create(c, "web", "app", members);

        (void)ld_want(c, 200, "GET", NULL, "/v1/volumes/v%d", i);
        (void)ld_mount(c, id.s);
        ld_unmount(c, id.s);
        (void)ld_want(c, 204, "DELETE", NULL, "/v1/containers/web?volumes=1");
    }
    end_race(&racer);
    (void)ld_want(c, 200, "POST", NULL, "/v1/volumes/prune?all=1&purge=1");
    cr_expect_eq(how_many(c, "volumes"), 0);
    ld_wait_reaped(d);
    ld_expect_df_is_du(d, c);
}
