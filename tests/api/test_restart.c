/* The daemon ends in every way it can: told to, killed, with the power. What was acknowledged is
 * there, what was half made is not, mounts are where they were. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <time.h>

#include <cjson/cJSON.h>

#include "daemon/base/fdio.h"
#include "daemon/base/mem.h"
#include "tests/lib/api.h"

/* XFS_IOC_GOINGDOWN, ext4's too: 2 flushes nothing, like a power cut. */
#define SHUTDOWN_IOCTL   _IOR('X', 125, uint32_t)
#define SHUTDOWN_NOFLUSH 2

static bool quarantine_is_empty(const struct ld_daemon *d)
{
    return ld_data_count(d, "quarantine") == 0;
}

LD_API_TEST(restart, finds_mounts_alive_and_knows_them)
{
    static const char *const drivers[] = {"overlay", "vfs"};

    ld_have_base(c);
    for (size_t k = 0; k < LD_ARRAY_LEN(drivers); k++) {
        autofree char *members = ld_asprintf(
            "'driver':'%s','mounts':[{'type':'volume','source':'v','target':'/var/empty'},"
            "{'type':'tmpfs','target':'/tmp'}]",
            drivers[k]);
        struct ld_text at;
        cJSON *json;

        (void)ld_create(c, "web", "base", members);
        at = ld_mount(c, "web");
        ld_test_sh("echo one > %s/etc/one; echo two > %s/tmp/two", at.s, at.s);
        for (int way = 0; way < 2; way++) {
            if (way == 0)
                ld_daemon_stop(d);
            else
                ld_daemon_kill(d);
            ld_test_sh("grep -q one %s/etc/one; grep -q two %s/tmp/two", at.s, at.s);
            ld_daemon_again(d);
            json = ld_want(c, 200, "GET", NULL, "/v1/containers/web");
            cr_expect_str_eq(ld_str(json, "state"), "mounted");
            cr_expect_str_eq(ld_str(json, "mountpoint"), at.s);
            cr_expect_str_eq(ld_mount(c, "web").s, at.s);
            cr_expect_eq(ld_test_count_mounts(at.s), 3);
            ld_test_sh("grep -q two %s/tmp/two", at.s);
        }
        ld_unmount(c, "web");
        cr_expect_eq(ld_test_count_mounts(at.s), 0);
        (void)ld_want(c, 204, "DELETE", NULL, "/v1/containers/web");
    }
}

LD_API_TEST(restart, does_not_unmount_what_is_not_its_own)
{
    struct ld_text at;

    ld_have_base(c);
    (void)ld_create(c, "web", "base", NULL);
    at = ld_mount(c, "web");
    ld_daemon_stop(d);
    ld_test_sh("mkdir -p %s/mnt/foreign && mount -t tmpfs foreign %s/mnt/foreign; "
               "mount -t tmpfs foreign %s/etc",
               d->run_root, d->run_root, at.s);
    ld_daemon_again(d);
    cJSON *error = ld_want_error(c, "busy", "POST", NULL, "/v1/containers/web/unmount");
    cr_expect(strstr(ld_str(error, "message"), "etc"), "%s", ld_str(error, "message"));
    ld_test_sh("mountpoint -q %s/etc && umount %s/etc", at.s, at.s);
    ld_unmount(c, "web");
    ld_test_sh("mountpoint -q %s/mnt/foreign && umount %s/mnt/foreign", d->run_root, d->run_root);
}

LD_API_TEST(restart, refuses_a_second_daemon_on_the_same_root)
{
    struct ld_daemon other = *d;
    autofree char *run = ld_asprintf("%s/run2", ld_test_dir());
    autofree char *socket = ld_asprintf("%s/run2/layerd.sock", ld_test_dir());
    autofree char *said = NULL;

    other.pid = 0;
    other.run_root = run;
    other.socket = socket;
    said = ld_daemon_fails(&other);
    cr_expect(strstr(said, d->data_root), "%s", said);
    (void)ld_want(c, 200, "GET", NULL, "/v1");
}

LD_API_TEST(restart, after_a_kill_moves_away_what_no_record_knows)
{
    ld_have_base(c);
    (void)ld_create(c, "web", "base", NULL);
    ld_daemon_kill(d);
    ld_test_sh("cd %s; mkdir -p staging/left; touch staging/left/x; n=$(ls w | head -1); "
               "cp -a w/$n w/$((n+1))",
               d->data_root);
    ld_daemon_again(d);
    cr_expect_eq(ld_data_count(d, "staging"), 0);
    cr_expect_eq(ld_data_count(d, "w"), 1);
    (void)ld_mount(c, "web");
    ld_unmount(c, "web");
}

LD_API_TEST(restart, after_a_kill_deletes_what_was_being_made_and_keeps_what_was_lost)
{
    ld_have_base(c);
    (void)ld_create(c, "web", "base", NULL);
    ld_daemon_kill(d);
    /* One of them marked as unfinished work of our own, one not. */
    ld_test_sh("cd %s; n=$(ls w | head -1); cp -a w/$n w/$((n+1)); touch staging/making-$((n+1));"
               "cp -a w/$n w/$((n+2))",
               d->data_root);
    ld_daemon_again(d);
    cr_expect_eq(ld_data_count(d, "staging"), 0);
    cr_expect_eq(ld_data_count(d, "w"), 1);
    cr_expect_eq(ld_data_count(d, "quarantine"), 1);
}

/* ---- kill -9 while clients are at it ---- */

enum { WORKERS = 4, MAX_ACKED = 20000 };

struct worker {
    pthread_t thread;
    struct ld_client *client;
    int number;
    bool stop;
    int made;              /* how many creations were acknowledged */
    char alive[MAX_ACKED]; /* 1: exists, 2: a delete was begun, not acknowledged */
    char problem[256];
};

static int do_call(struct worker *w, const char *method, const char *json, const char *target)
{
    const struct ld_reply *reply = ld_client_call(
        w->client, &(struct ld_call){.method = method, .target = target, .json = json});

    return reply ? reply->status : 0;
}

/* Creates c-W-N, mounts and unmounts some, deletes some, and keeps book of what was acknowledged.
 */
static void *work(void *arg)
{
    struct worker *w = arg;

    while (!__atomic_load_n(&w->stop, __ATOMIC_RELAXED) && w->made < MAX_ACKED) {
        int n = w->made;
        autofree char *body = ld_asprintf("{'name':'c-%d-%d','image':'base'}", w->number, n);
        autofree char *mount = ld_asprintf("/v1/containers/c-%d-%d/mount", w->number, n);
        autofree char *unmount = ld_asprintf("/v1/containers/c-%d-%d/unmount", w->number, n);
        autofree char *one = ld_asprintf("/v1/containers/c-%d-%d", w->number, n);

        if (do_call(w, "POST", body, "/v1/containers") != 201)
            break;
        w->alive[n] = 1;
        w->made++;
        if (n % 3 == 0 &&
            (do_call(w, "POST", NULL, mount) != 200 || do_call(w, "POST", NULL, unmount) != 200))
            break;
        if (n % 2 == 0)
            continue;
        w->alive[n] = 2;
        if (do_call(w, "DELETE", NULL, one) != 204)
            break;
        w->alive[n] = 0;
    }
    (void)snprintf(w->problem, sizeof(w->problem), "%s", ld_client_problem(w->client));
    return NULL;
}

static struct worker *start_workers(const struct ld_daemon *d)
{
    struct worker *workers = ld_alloc0(WORKERS * sizeof(*workers));

    for (int i = 0; i < WORKERS; i++) {
        workers[i].client = ld_client_new(d->socket);
        workers[i].number = i;
        cr_assert_eq(pthread_create(&workers[i].thread, NULL, work, &workers[i]), 0);
    }
    return workers;
}

static void pause_ms(long ms)
{
    struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};

    (void)nanosleep(&t, NULL); /* how long the workers go on is the test's input */
}

static void join_workers(struct worker *workers)
{
    for (int i = 0; i < WORKERS; i++) {
        __atomic_store_n(&workers[i].stop, true, __ATOMIC_RELAXED);
        cr_assert_eq(pthread_join(workers[i].thread, NULL), 0);
        ld_client_free(workers[i].client);
    }
}

/* Everything acknowledged is there and works; returns how many that were. */
static int hold_to_account(struct ld_client *c, const struct worker *workers)
{
    int n = 0;

    for (int i = 0; i < WORKERS; i++) {
        for (int k = 0; k < workers[i].made; k++) {
            autofree char *target = ld_asprintf("/v1/containers/c-%d-%d", i, k);
            const struct ld_reply *reply =
                ld_call(c, &(struct ld_call){.method = "GET", .target = target});

            if (workers[i].alive[k] == 1)
                cr_expect(reply->status == 200 &&
                              strcmp(ld_str(reply->json, "state"), "damaged") != 0,
                          "%s: %d %s", target, reply->status, reply->body);
            if (workers[i].alive[k] == 0)
                cr_expect_eq(reply->status, 404, "%s was removed", target);
            n++;
        }
    }
    return n;
}

/* What is left can be removed, whatever it was in the middle of; then nothing remains. */
static void clear(struct ld_daemon *d, struct ld_client *c)
{
    for (;;) {
        cJSON *json = ld_want(c, 200, "GET", NULL, "/v1/containers?limit=1");
        struct ld_text id;

        if (ld_count(json, "items") == 0)
            break;
        id = ld_textf("%s", ld_str(json, "items.0.id"));
        (void)ld_want(c, 204, "DELETE", NULL, "/v1/containers/%s?force=1", id.s);
    }
    ld_wait_reaped(d);
    cr_expect_eq(ld_data_count(d, "w"), 0);
    cr_expect_eq(ld_data_count(d, "staging"), 0);
}

LD_API_TEST(kill, at_any_time_loses_nothing_that_was_acknowledged)
{
    int n = 0;

    ld_have_base(c);
    for (int round = 0; round < 8; round++) {
        struct worker *workers = start_workers(d);

        pause_ms(30 + 47 * round);
        ld_daemon_kill(d);
        join_workers(workers);
        ld_daemon_again(d);
        n += hold_to_account(c, workers);
        clear(d, c);
        free(workers);
    }
    cr_expect_gt(n, 20);
    cr_expect_leq(ld_test_count_mounts(d->run_root), 2);
}

static void *import_forever(void *arg)
{
    struct worker *w = arg;
    struct ld_blob archive = ld_make_app();

    while (!__atomic_load_n(&w->stop, __ATOMIC_RELAXED)) {
        const struct ld_reply *reply =
            ld_client_call(w->client, &(struct ld_call){.method = "POST",
                                                        .target = "/v1/images/import",
                                                        .body = archive.data,
                                                        .body_len = archive.len});

        if (!reply || reply->status != 200)
            break;
        w->made++;
        if (do_call(w, "DELETE", NULL, "/v1/images/app") != 204)
            break;
        w->made--;
    }
    ld_blob_done(&archive);
    return NULL;
}

LD_API_TEST(kill, during_imports_leaves_whole_images_or_none)
{
    for (int round = 0; round < 8; round++) {
        struct worker *w = ld_alloc0(sizeof(*w));
        cJSON *json;
        int n;

        w->client = ld_client_new(d->socket);
        cr_assert_eq(pthread_create(&w->thread, NULL, import_forever, w), 0);
        pause_ms(20 + 31 * round);
        ld_daemon_kill(d);
        cr_assert_eq(pthread_join(w->thread, NULL), 0);
        ld_daemon_again(d);
        json = ld_want(c, 200, "GET", NULL, "/v1/images");
        n = ld_count(json, "items");
        cr_expect_leq(n, 1);
        if (n == 1) {
            cr_expect_str_eq(ld_str(json, "items.0.state"), "ok");
            (void)ld_create(c, "web", "app", NULL);
            ld_test_sh("test -f %s/app/run", ld_mount(c, "web").s);
            ld_unmount(c, "web");
            (void)ld_want(c, 204, "DELETE", NULL, "/v1/containers/web?volumes=1&purge=1");
            (void)ld_want(c, 204, "DELETE", NULL, "/v1/images/app");
        }
        cr_expect_eq(ld_data_count(d, "staging"), 0);
        ld_wait_reaped(d);
        cr_expect_leq(ld_data_count(d, "layers"), 1, "only the empty layer");
        ld_client_free(w->client);
        free(w);
    }
}

/* ---- the power goes ---- */

/* Shuts the data root's file system down without flushing, then mounts it again. The device is
 * found again by its mount: taken before. */
static void cut_power(struct ld_daemon *d, const char *fs)
{
    autofree char *path = ld_asprintf("%s/%s", ld_test_dir(), fs);
    uint32_t how = SHUTDOWN_NOFLUSH;
    int dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    cr_assert(dir >= 0);
    /* A second user of the loop device, or it detaches with the last unmount. */
    ld_test_sh("dev=$(findmnt -no SOURCE %s); echo $dev > /mnt/device", path);
    cr_assert_eq(ioctl(dir, SHUTDOWN_IOCTL, &how), 0, "%s", strerror(errno));
    ld_close(dir);
    pause_ms(20); /* the daemon goes on for a moment on a disk that is not there */
    ld_daemon_kill(d);
    ld_test_sh("exec 9<$(cat /mnt/device); "
               "for m in $(awk -v p=%s/ 'index($5, p) == 1 {print $5}' /proc/self/mountinfo | "
               "tac); do umount -l $m; done; umount %s && mount $(cat /mnt/device) %s",
               d->run_root, path, path);
}

LD_TEST(power_cut, loses_nothing_that_was_acknowledged)
{
    struct ld_daemon *d;
    int n = 0;

    ld_close(ld_test_fs("disk", "ext4", 512));
    d = ld_daemon_start("disk", NULL);
    ld_have_base(d->client);
    (void)ld_want(d->client, 201, "POST", "{'name':'data'}", "/v1/volumes");
    for (int round = 0; round < 4; round++) {
        struct worker *workers = start_workers(d);

        pause_ms(100 + 150 * round);
        cut_power(d, "disk");
        join_workers(workers);
        ld_daemon_again(d);
        n += hold_to_account(d->client, workers);
        (void)ld_want(d->client, 200, "GET", NULL, "/v1/volumes/data");
        cr_expect_str_eq(ld_str(ld_want(d->client, 200, "GET", NULL, "/v1/images/base"), "state"),
                         "ok");
        (void)ld_create(d->client, "probe", "base", NULL);
        ld_test_sh("grep -q second %s/etc/motd", ld_mount(d->client, "probe").s);
        ld_unmount(d->client, "probe");
        clear(d, d->client);
        free(workers);
    }
    cr_expect_gt(n, 10);
    cr_expect(quarantine_is_empty(d) || ld_data_count(d, "quarantine") > 0);
    ld_api_finish(d);
}

LD_TEST(power_cut, under_the_running_daemon_is_an_io_error)
{
    uint32_t how = SHUTDOWN_NOFLUSH;
    struct ld_daemon *d;
    struct ld_client *c;
    int dir;

    ld_close(ld_test_fs("disk", "ext4", 256));
    d = ld_daemon_start("disk", NULL);
    c = d->client;
    ld_have_base(c);
    dir = open("/mnt/disk", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    cr_assert_eq(ioctl(dir, SHUTDOWN_IOCTL, &how), 0, "%s", strerror(errno));
    ld_close(dir);
    (void)ld_want_error(c, "io", "POST", "{'image':'base'}", "/v1/containers");
    (void)ld_want_error(c, "io", "POST", "{'name':'data'}", "/v1/volumes");
    (void)ld_want(c, 200, "GET", NULL, "/v1");
    cr_assert(ld_daemon_is_alive(d));
    ld_daemon_kill(d);
    ld_daemon_end(d);
}

LD_API_TEST(stop, waits_for_what_is_under_way)
{
    struct ld_blob archive = ld_make_base();
    int fd = ld_raw_connect(d->socket);
    autofree char *head = ld_asprintf("POST /v1/images/import HTTP/1.1\r\nHost: x\r\n"
                                      "Content-Length: %zu\r\n\r\n",
                                      archive.len);
    autofree char *reply = NULL;

    ld_raw_send(fd, head, strlen(head));
    ld_raw_send(fd, archive.data, archive.len);
    (void)kill(d->pid, SIGTERM);
    reply = ld_raw_read(fd, 20);
    cr_expect(reply[0] == '\0' || strncmp(reply, "HTTP/1.1 200", 12) == 0 ||
                  strncmp(reply, "HTTP/1.1 503", 12) == 0,
              "%.200s", reply);
    ld_close(fd);
    ld_daemon_stop(d);
    ld_daemon_again(d);
    ld_blob_done(&archive);
}

LD_API_TEST(restart, with_a_database_older_than_the_tree_touches_nothing_and_refuses_to_grow)
{
    struct ld_blob app = ld_make_app();
    cJSON *json;

    ld_have_base(c);
    (void)ld_create(c, "web", "base", NULL);
    ld_daemon_stop(d);
    ld_test_sh("mkdir -p %s/w/999999999/upper && touch %s/w/999999999/upper/precious", d->data_root,
               d->data_root);
    ld_daemon_again(d);
    json = ld_want(c, 200, "GET", NULL, "/v1/info");
    cr_expect_gt(ld_count(json, "warnings"), 0);
    (void)ld_import_error(c, &app, "", "conflict");
    (void)ld_want_error(c, "conflict", "POST", "{'image':'base'}", "/v1/containers");
    (void)ld_want_error(c, "conflict", "PUT", "{'image':'base'}", "/v1/containers/new");
    (void)ld_want_error(c, "conflict", "POST", NULL, "/v1/volumes");
    (void)ld_want_error(c, "conflict", "PUT", NULL, "/v1/volumes/new");
    ld_test_sh("test -f %s/w/999999999/upper/precious", d->data_root);
    (void)ld_mount(c, "web"); /* what is known works */
    ld_unmount(c, "web");
    ld_blob_done(&app);
}
