/* Many clients at once, hostile containers, thousands of mounts: no error but the expected ones,
 * nothing leaks.
 *
 * LD_STRESS_SECONDS in the environment makes the storm longer than the suite's few seconds. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cjson/cJSON.h>

#include "daemon/base/fdio.h"
#include "daemon/base/mem.h"
#include "daemon/base/parse.h"
#include "tests/lib/api.h"

enum { CLIENTS = 64, NAMES = 16, CALLS = 10 /* of each client, however long they take */ };

struct stormer {
    pthread_t thread;
    struct ld_client *client;
    unsigned seed;
    uint64_t until_ms;
    unsigned calls, conflicts;
    char problem[1024];
};

static uint64_t now_ms(void)
{
    struct timespec t;

    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

/* What a call may answer when others work on the same names. */
static bool is_expected(int status)
{
    return status == 200 || status == 201 || status == 204 || status == 404 || status == 409;
}

static void *storm(void *arg)
{
    static const struct {
        const char *method, *rest, *json;
    } verbs[] = {
        {"PUT", "",
         "{'image':'base','mounts':[{'type':'volume','source':'v','target':'/var/empty'}]}"},
        {"PUT", "",
         "{'image':'base','mounts':[{'type':'volume','source':'v','target':'/var/empty'}]}"},
        {"POST", "/mount", NULL},
        {"POST", "/mount", NULL},
        {"POST", "/unmount", NULL},
        {"DELETE", "", NULL},
        {"DELETE", "?force=1", NULL},
        {"GET", "", NULL},
        {"GET", "/changes", NULL},
        {"PATCH", "", "{'labels':{'a':'b'}}"},
    };
    struct stormer *s = arg;

    while ((now_ms() < s->until_ms || s->calls < CALLS) && !s->problem[0]) {
        unsigned verb = (unsigned)rand_r(&s->seed) % LD_ARRAY_LEN(verbs);
        unsigned name = (unsigned)rand_r(&s->seed) % NAMES;
        autofree char *target = ld_asprintf("/v1/containers/s%u%s", name, verbs[verb].rest);
        const struct ld_reply *reply =
            ld_client_call(s->client, &(struct ld_call){.method = verbs[verb].method,
                                                        .target = target,
                                                        .json = verbs[verb].json});

        s->calls++;
        if (reply && reply->status == 409)
            s->conflicts++;
        if (!reply || !is_expected(reply->status))
            (void)snprintf(s->problem, sizeof(s->problem), "%s %s: %d %.400s %s",
                           verbs[verb].method, target, reply ? reply->status : 0,
                           reply ? reply->body : "", ld_client_problem(s->client));
    }
    return NULL;
}

static uint64_t storm_seconds(void)
{
    const char *text = getenv("LD_STRESS_SECONDS");
    uint64_t seconds = 3;

    if (text)
        cr_assert_eq(ld_parse_u64(text, 1, 3600, &seconds), 0);
    return seconds;
}

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
}

LD_API_TEST(stress, of_64_clients_leaks_nothing)
{
    static struct stormer stormers[CLIENTS];
    uint64_t until = now_ms() + storm_seconds() * 1000;
    unsigned calls = 0, conflicts = 0;
    size_t mounts, fds;
    uint64_t rss;

    ld_have_base(c);
    (void)ld_create(c, "warm", "base", NULL);
    (void)ld_mount(c, "warm");
    ld_unmount(c, "warm");
    mounts = ld_test_count_mounts("");
    fds = ld_daemon_fds(d);
    for (int i = 0; i < CLIENTS; i++) {
        stormers[i] = (struct stormer){
            .client = ld_client_new(d->socket), .seed = (unsigned)i + 1, .until_ms = until};
        cr_assert_eq(pthread_create(&stormers[i].thread, NULL, storm, &stormers[i]), 0);
    }
    for (int i = 0; i < CLIENTS; i++) {
        cr_assert_eq(pthread_join(stormers[i].thread, NULL), 0);
        cr_expect_str_eq(stormers[i].problem, "");
        calls += stormers[i].calls;
        conflicts += stormers[i].conflicts;
        ld_client_free(stormers[i].client);
    }
    cr_expect_gt(calls, conflicts);
    clear(d, c);
    cr_expect_eq(ld_test_count_mounts(""), mounts);
    cr_expect(ld_daemon_wait_fds(d, 60, 60), "%zu descriptors, %zu before", ld_daemon_fds(d), fds);
    cr_expect_eq(ld_data_count(d, "w"), 0);
    cr_expect_eq(ld_data_count(d, "staging"), 0);
    rss = ld_daemon_rss(d);
    (void)fprintf(stderr, "stress: %u calls, %u conflicts, %zu fds (%zu before), rss %llu KiB\n",
                  calls, conflicts, ld_daemon_fds(d), fds, (unsigned long long)rss >> 10);
}

/* What the swapper swaps: directories of the container with symlinks to the host. Mounts lie in all
 * of them. */
static const char *const swapped[] = {"srv/a", "srv/v", "srv/b"};

/* A process that turns directories of the container into symlinks to the host and back, as fast as
 * it can. inside: with its working directory in the root, which it keeps when that is unmounted. */
static pid_t start_swapper(const char *root, bool inside)
{
    pid_t pid;

    for (size_t i = 0; i < LD_ARRAY_LEN(swapped); i++)
        ld_test_sh("ln -sfn /mnt/outside %s/%s.link", root, swapped[i]);
    pid = fork();
    if (pid == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (inside && chdir(root) < 0)
            _exit(1);
        for (;;) {
            for (size_t i = 0; i < LD_ARRAY_LEN(swapped); i++) {
                autofree char *dir = ld_asprintf("%s/%s", inside ? "." : root, swapped[i]);
                autofree char *link = ld_asprintf("%s.link", dir);

                (void)renameat2(AT_FDCWD, dir, AT_FDCWD, link, RENAME_EXCHANGE);
            }
        }
    }
    cr_assert_gt(pid, 0);
    return pid;
}

/* Everything that resolves paths in a container; the type says what the body is. */
static const struct {
    const char *method, *target, *type;
} by_path[] = {
    {"PUT", "/v1/containers/web/files?path=/srv/a/new", "application/octet-stream"},
    {"PUT", "/v1/containers/web/files?path=/srv/v/t/new", "application/octet-stream"},
    {"PUT", "/v1/containers/web/files?path=/srv/a", "application/x-tar"},
    {"PUT", "/v1/containers/web/files?path=/srv", "application/x-tar"},
    {"GET", "/v1/containers/web/files?path=/srv/a/mark", NULL},
    {"GET", "/v1/containers/web/files?path=/srv/b/", NULL},
    {"DELETE", "/v1/containers/web/files?path=/srv/a/mark", NULL},
    {"DELETE", "/v1/containers/web/files?path=/srv/v/mark", NULL},
    {"DELETE", "/v1/containers/web/files?path=/srv/a/b&recursive=1", NULL},
    {"GET", "/v1/containers/web/export", NULL},
    {"GET", "/v1/containers/web/changes", NULL},
    {"POST", "/v1/containers/web/unmount", NULL},
    {"POST", "/v1/containers/web/mount", NULL},
    {"POST", "/v1/containers/web/unmount?force=1", NULL},
    {"POST", "/v1/containers/web/mount", NULL},
};

static void use_paths(struct ld_client *c, const struct ld_blob *tar)
{
    static const char secret[] = "secret of the host";

    for (size_t i = 0; i < LD_ARRAY_LEN(by_path); i++) {
        bool has_body = by_path[i].type != NULL;
        const struct ld_reply *reply =
            ld_client_call(c, &(struct ld_call){.method = by_path[i].method,
                                                .target = by_path[i].target,
                                                .content_type = by_path[i].type,
                                                .body = has_body ? tar->data : NULL,
                                                .body_len = has_body ? tar->len : 0});

        if (!reply) /* a cut stream of a changing tree is fine; anything else is not */
            cr_expect(by_path[i].method[0] == 'G', "%s", ld_client_problem(c));
        else
            cr_expect_null(memmem(reply->body, reply->len, secret, sizeof(secret) - 1),
                           "%s reads outside", by_path[i].target);
        cr_expect_eq(ld_test_count_mounts("/mnt/outside"), 0, "%s mounts outside",
                     by_path[i].target);
    }
}

static void swap_under(struct ld_client *c, const char *driver, bool inside)
{
    static const struct ld_entry entries[] = {{.path = "a/tar", .data = "x"},
                                              {.path = "v/tar", .data = "x"},
                                              {.path = "b/deep/tar", .data = "x"},
                                              {.path = "tar", .data = "x"}};
    struct ld_blob tar = ld_make_tar(entries, LD_ARRAY_LEN(entries));
    uint64_t until = now_ms() + storm_seconds() * 1000;
    struct ld_text before = ld_tree_digest("/mnt/outside"), source = ld_tree_digest("/mnt/source");
    autofree char *members =
        ld_asprintf("'driver':'%s','mounts':[{'type':'tmpfs','target':'/srv/a/t'},"
                    "{'type':'volume','source':'data','target':'/srv/v/t'},"
                    "{'type':'bind','source':'/mnt/source','target':'/srv/b/t','read_only':true}]",
                    driver);
    struct ld_text at;
    pid_t swapper;

    (void)ld_create(c, "web", "base", members);
    at = ld_mount(c, "web");
    swapper = start_swapper(at.s, inside);
    do
        use_paths(c, &tar);
    while (now_ms() < until);
    (void)kill(swapper, SIGKILL);
    cr_assert_eq(waitpid(swapper, NULL, 0), swapper);
    cr_expect_str_eq(ld_tree_digest("/mnt/outside").s, before.s);
    cr_expect_str_eq(ld_tree_digest("/mnt/source").s, source.s);
    (void)ld_want(c, 204, "DELETE", NULL, "/v1/containers/web?force=1");
    cr_expect_eq(ld_test_count_mounts(at.s), 0);
    ld_blob_done(&tar);
}

LD_API_TEST(stress, of_symlinks_swapped_at_full_speed_touches_nothing_outside)
{
    ld_test_sh("umask 022; mkdir -p outside/t outside/b outside/deep source; "
               "echo secret of the host | tee outside/mark outside/t/mark outside/b/file "
               "outside/tar >/dev/null; echo bound > source/kept");
    ld_have_base(c);
    swap_under(c, "overlay", false);
    swap_under(c, "vfs", true);
    ld_wait_reaped(d);
}

LD_API_TEST(stress, of_a_thousand_containers_keeps_memory_low)
{
    enum { N = 1000 };
    uint64_t rss;

    ld_have_base(c);
    for (int i = 0; i < N; i++) {
        autofree char *body = ld_asprintf("{'name':'c%d','image':'base','ephemeral':true}", i);

        (void)ld_want(c, 201, "POST", body, "/v1/containers");
    }
    cr_expect_eq(ld_count(ld_want(c, 200, "GET", NULL, "/v1/containers"), "items"), N);
    rss = ld_daemon_rss(d);
    (void)fprintf(stderr, "stress: rss with %d containers %llu KiB\n", N,
                  (unsigned long long)rss >> 10);
    cr_expect(!LD_MEMORY_COUNTS || rss < 16 << 20, "%llu KiB", (unsigned long long)rss >> 10);
}
