/* Who keeps a container busy: every way of holding it is named, and nobody else is. */
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cjson/cJSON.h>

#include "daemon/base/fdio.h"
#include "daemon/base/mem.h"
#include "tests/lib/api.h"

/* A process that holds the tree at `at` in its way, then waits to be ended. */
static pid_t hold(int (*take)(const char *at), const char *at)
{
    int ready[2];
    char byte = 0;
    pid_t pid;

    cr_assert_eq(pipe2(ready, O_CLOEXEC), 0);
    pid = fork();
    cr_assert_geq(pid, 0);
    if (pid == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        byte = take(at) == 0 ? 'y' : 'n';
        (void)!write(ready[1], &byte, 1);
        for (;;)
            (void)pause();
    }
    cr_assert_eq(read(ready[0], &byte, 1), 1);
    cr_assert_eq(byte, 'y', "the holder of '%s' is ready", at);
    ld_close(ready[0]);
    ld_close(ready[1]);
    return pid;
}

static void let_go(pid_t pid)
{
    (void)kill(pid, SIGKILL);
    cr_assert_eq(waitpid(pid, NULL, 0), pid);
}

static int take_cwd(const char *at)
{
    return chdir(at);
}

static int take_root(const char *at)
{
    return chroot(at);
}

static int take_file(const char *at)
{
    autofree char *path = ld_asprintf("%s/etc/passwd", at);

    return open(path, O_RDONLY) < 0;
}

static int take_mmap(const char *at)
{
    autofree char *path = ld_asprintf("%s/etc/passwd", at);
    autoclose int fd = open(path, O_RDONLY);

    return mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, fd, 0) == MAP_FAILED;
}

/* At another place: the kernel takes away a copy whose mount point is removed. */
static int take_mount(const char *at)
{
    if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
        return -1;
    (void)mkdir("/mnt/held", 0755);
    return mount(at, "/mnt/held", NULL, MS_BIND, NULL);
}

static int take_cwd_and_file(const char *at)
{
    return take_file(at) || take_cwd(at);
}

/* ---- a thread of its own directory ---- */

static const char *thread_at;
static int thread_rc = -1;

static void *thread_main(void *arg)
{
    pthread_barrier_t *barrier = arg;

    thread_rc = unshare(CLONE_FS) < 0 || chdir(thread_at) < 0;
    (void)pthread_barrier_wait(barrier);
    for (;;)
        (void)pause();
    return NULL;
}

static int take_thread_cwd(const char *at)
{
    static pthread_barrier_t barrier;
    pthread_t thread;

    thread_at = at;
    (void)pthread_barrier_init(&barrier, NULL, 2);
    if (pthread_create(&thread, NULL, thread_main, &barrier) != 0)
        return -1;
    (void)pthread_barrier_wait(&barrier);
    return thread_rc;
}

/* ---- what is told ---- */

/* "cwd,file" of that process, "" when it is not named; asserts that nobody else is. */
static struct ld_text uses_of(const cJSON *json, pid_t pid)
{
    struct ld_text text = {.s = ""};
    const cJSON *item, *use;

    cJSON_ArrayForEach (item, ld_at(json, "items")) {
        cr_expect_eq(ld_int(item, "pid"), pid, "'%s' holds nothing", ld_str(item, "command"));
        cJSON_ArrayForEach (use, ld_at(item, "uses")) {
            size_t len = strlen(text.s);

            (void)snprintf(text.s + len, sizeof(text.s) - len, "%s%s", len ? "," : "",
                           use->valuestring);
        }
    }
    return text;
}

static const char *const drivers[] = {"overlay", "vfs"};

LD_API_TEST(holders, are_named_with_every_way_of_holding)
{
    static const struct {
        int (*take)(const char *at);
        const char *uses;
    } rows[] = {
        {take_cwd, "cwd"},
        {take_root, "root"},
        {take_file, "file"},
        {take_mmap, "mmap"},
        {take_cwd_and_file, "cwd,file"},
        {take_mount, "mount"},
        {take_thread_cwd, "cwd"},
    };

    ld_have_base(c);
    for (size_t k = 0; k < LD_ARRAY_LEN(drivers); k++) {
        struct ld_text members = ld_textf("'driver':'%s'", drivers[k]);
        struct ld_text at;

        (void)ld_create(c, "web", "base", members.s);
        cr_expect_eq(ld_count(ld_want(c, 200, "GET", NULL, "/v1/containers/web/holders"), "items"),
                     0);
        at = ld_mount(c, "web");
        cr_expect_eq(ld_count(ld_want(c, 200, "GET", NULL, "/v1/containers/web/holders"), "items"),
                     0, "%s: the mount itself is nobody's", drivers[k]);
        for (size_t i = 0; i < LD_ARRAY_LEN(rows); i++) {
            pid_t pid = hold(rows[i].take, at.s);
            cJSON *json = ld_want(c, 200, "GET", NULL, "/v1/containers/web/holders");
            struct ld_text uses = uses_of(json, pid);

            cr_expect_str_eq(uses.s, rows[i].uses, "%s, %zu: %s", drivers[k], i, uses.s);
            cr_expect_str_eq(ld_str(json, "state"), "mounted");
            cr_expect_not(ld_bool(json, "more"));
            if (uses.s[0]) {
                struct stat st;
                struct ld_text ns = ld_textf("/proc/%d/ns/mnt", (int)pid);

                cr_assert_eq(stat(ns.s, &st), 0);
                cr_expect_eq(ld_int(json, "items.0.mount_namespace"), (int64_t)st.st_ino);
                cr_expect_eq(strncmp(ld_str(json, "items.0.path"), at.s, strlen(at.s)), 0, "%s: %s",
                             rows[i].uses, ld_str(json, "items.0.path"));
            }
            let_go(pid);
        }
        ld_unmount(c, "web");
        (void)ld_want(c, 204, "DELETE", NULL, "/v1/containers/web");
    }
}

LD_API_TEST(holders, of_what_is_unmounted_are_found_in_their_namespace)
{
    struct ld_text at;
    cJSON *json;
    pid_t pid;

    ld_have_base(c);
    (void)ld_create(c, "web", "base", NULL);
    at = ld_mount(c, "web");
    pid = hold(take_mount, at.s);
    (void)ld_want(c, 200, "POST", NULL, "/v1/containers/web/unmount?sync=1");
    json = ld_want(c, 200, "GET", NULL, "/v1/containers/web/holders");
    cr_expect_str_eq(uses_of(json, pid).s, "mount");
    cr_expect_str_eq(ld_str(json, "state"), "busy");
    cr_expect_str_eq(ld_str(json, "items.0.path"), "/mnt/held");
    (void)ld_want_error(c, "busy", "POST", NULL, "/v1/containers/web/mount");
    let_go(pid);
}

LD_API_TEST(holders, of_a_mount_that_was_detached_are_still_found)
{
    struct ld_text at;
    cJSON *json;
    pid_t pid;

    ld_have_base(c);
    (void)ld_create(c, "web", "base", NULL);
    at = ld_mount(c, "web");
    pid = hold(take_cwd_and_file, at.s);
    json = ld_want(c, 200, "POST", NULL, "/v1/containers/web/unmount?force");
    cr_expect_eq(ld_count(json, "holders"), 1);
    json = ld_want(c, 200, "GET", NULL, "/v1/containers/web/holders");
    cr_expect_str_eq(uses_of(json, pid).s, "cwd,file");
    cr_expect_str_eq(ld_str(json, "state"), "busy");
    let_go(pid);
    json = ld_want(c, 200, "GET", NULL, "/v1/containers/web/holders");
    cr_expect_eq(ld_count(json, "items"), 0);
    cr_expect_str_eq(ld_str(json, "state"), "created");
}

static int take_look_alike(const char *at)
{
    return take_mount("/mnt/other/w/1/root") || system("umount /mnt/run/mnt/*") || take_cwd(at);
}

/* By the same path in another store, or another file system. */
LD_API_TEST(holders, of_another_store_are_not_taken_for_ours)
{
    pid_t pid;

    ld_have_base(c);
    (void)ld_create(c, "web", "base", "'driver':'vfs'");
    (void)ld_mount(c, "web");
    ld_test_sh("mkdir -p other/w; for w in %s/w/*; do mkdir -p other/w/${w##*/}/root; done; "
               "ln -sfn ${w##*/} other/w/1",
               d->data_root);
    pid = hold(take_look_alike, "/mnt/other");
    (void)uses_of(ld_want(c, 200, "GET", NULL, "/v1/containers/web/holders"), 0);
    let_go(pid);
    ld_unmount(c, "web");
}

LD_API_TEST(holders, in_a_volume_of_the_container_count)
{
    struct ld_text at, inside;
    cJSON *json;
    pid_t pid;

    ld_have_base(c);
    (void)ld_create(c, "web", "base", "'mounts':[{'type':'volume','source':'data','target':'/v'}]");
    at = ld_mount(c, "web");
    inside = ld_textf("%s/v", at.s);
    pid = hold(take_cwd, inside.s);
    json = ld_want(c, 200, "GET", NULL, "/v1/containers/web/holders");
    cr_expect_str_eq(uses_of(json, pid).s, "cwd");
    (void)ld_want_error(c, "busy", "POST", NULL, "/v1/containers/web/unmount");
    let_go(pid);
    ld_unmount(c, "web");
}

LD_API_TEST(holders, need_a_container_and_no_query)
{
    (void)ld_want_error(c, "not_found", "GET", NULL, "/v1/containers/none/holders");
    ld_have_base(c);
    (void)ld_create(c, "web", "base", NULL);
    (void)ld_want_error(c, "invalid", "GET", NULL, "/v1/containers/web/holders?x=1");
}
