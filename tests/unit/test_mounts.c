/* core/mounts: the mounted life of a container with both drivers, as the kernel really does it. */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/base/fdio.h"
#include "daemon/base/mem.h"
#include "daemon/base/mountapi.h"
#include "daemon/core/mounts.h"
#include "daemon/core/root.h"
#include "drivers/driver.h"
#include "tests/lib/env.h"
#include "tests/lib/jobs.h"

enum { LAYER = 11, CONTAINER = 21, VOLUME = 31, VOLUME_RO = 32 };
static const char id[] = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
static const ld_sid chain[] = {LAYER};

/* One container on one layer, with a volume, a read-only volume inside it and a tmpfs. */
struct world {
    struct ld_test_jobs jobs;
    struct ld_root root;
    struct ld_driver_env env;
    struct ld_mounts *mounts;
    struct ld_rootfs fs;
    struct ld_mount_part part[3];
};

static void make_dir(int at, const char *name)
{
    ld_close(ld_ensure_dir(at, name, 0755));
}

static void start(struct world *w, const char *driver, size_t n_parts)
{
    struct ld_err err = LD_ERR_INIT;

    /* As under a service manager: everything is shared, which is where the traps are. */
    cr_assert_eq(mount(NULL, "/", NULL, MS_REC | MS_SHARED, NULL), 0);
    ld_test_jobs_start(&w->jobs, NULL);
    ld_test_ok(ld_root_open("/mnt/data", "/mnt/run", NULL, &w->root, &err), &err);
    w->env = (struct ld_driver_env){.layers_fd = w->root.layers_fd,
                                    .w_fd = w->root.w_fd,
                                    .stage_fd = w->root.stage_fd,
                                    .instance = "00ff00ff00ff00ff"};
    w->mounts = ld_mounts_new(&w->root, &w->env, w->jobs.lanes);
    make_dir(w->root.layers_fd, "11");
    ld_test_sh("cd data/layers/11 && mkdir -m 755 data tmp && echo base > base && ln -s / link && "
               "echo seeded > data/seed");
    make_dir(w->root.volumes_fd, "31");
    make_dir(w->root.volumes_fd, "32");
    ld_test_sh("echo ro > data/volumes/32/v32");
    w->part[0] = (struct ld_mount_part){
        .type = LD_PART_VOLUME, .target = "/data", .volume = VOLUME, .seed = true};
    w->part[1] = (struct ld_mount_part){
        .type = LD_PART_VOLUME, .target = "/data/sub", .volume = VOLUME_RO, .read_only = true};
    w->part[2] = (struct ld_mount_part){.type = LD_PART_TMPFS, .target = "/link/tmp"};
    w->fs = (struct ld_rootfs){.id = id,
                               .driver = ld_driver_by_name(driver),
                               .env = &w->env,
                               .writable = {.sid = CONTAINER, .chain = {.sid = chain, .n = 1}},
                               .parts = w->part,
                               .n_parts = n_parts};
    ld_test_ok(w->fs.driver->create(&w->env, &w->fs.writable, NULL, &err), &err);
}

static bool sees(const char *path)
{
    autofree char *full = ld_asprintf("/mnt/run/mnt/%s/%s", id, path);

    return access(full, F_OK) == 0;
}

static bool is_whole(void)
{
    autofree char *ro = ld_asprintf("/mnt/run/mnt/%s/data/sub/x", id);
    int fd = open(ro, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    bool is_ro = fd < 0 && errno == EROFS;

    ld_close(fd);
    return is_ro && sees("base") && sees("data/seed") && sees("data/sub/v32");
}

static void attach(struct world *w)
{
    struct ld_err err = LD_ERR_INIT;
    bool was;

    ld_test_ok(ld_mounts_attach(w->mounts, &w->fs, &was, &err), &err);
    cr_assert_not(was);
    w->fs.was_mounted = true;
}

static int detach(struct world *w, struct ld_unmount_flags flags, struct ld_err *err)
{
    bool was, held;
    int rc = ld_mounts_detach(w->mounts, &w->fs, flags, &was, &held, err);

    if (rc == 0)
        cr_assert(was);
    return rc;
}

static bool is_closed(void *arg)
{
    struct world *w = arg;

    return ld_mounts_let_go(w->mounts, CONTAINER);
}

static void finish(struct world *w)
{
    cr_assert(ld_test_run_until(w->jobs.loop, is_closed, w));
    ld_test_jobs_end(&w->jobs);
    ld_mounts_free(w->mounts);
    ld_root_done(&w->root);
    cr_expect_eq(system("grep -q '/mnt/run' /proc/self/mountinfo"), 256, "mounts are left");
}

/* A process with its working directory in the container; propagation 0: in our namespace. */
struct holder {
    pid_t pid;
    int go;
};

static struct holder hold(const char *path, unsigned long propagation)
{
    autofree char *full = ld_asprintf("/mnt/run/mnt/%s/%s", id, path);
    int up[2], down[2];
    char c;
    struct holder h;

    cr_assert_eq(pipe2(up, O_CLOEXEC), 0);
    cr_assert_eq(pipe2(down, O_CLOEXEC), 0);
    h.pid = fork();
    if (h.pid == 0) {
        for (int fd = 3; fd < 512; fd++) {
            if (fd != up[1] && fd != down[0])
                (void)close(fd);
        }
        if (propagation &&
            (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | propagation, NULL) < 0))
            _exit(1);
        if (chdir(full) < 0 || write(up[1], "r", 1) != 1 || read(down[0], &c, 1) < 0)
            _exit(1);
        _exit(0);
    }
    ld_close(up[1]);
    ld_close(down[0]);
    h.go = down[1];
    cr_assert_eq(read(up[0], &c, 1), 1, "the holder did not start");
    ld_close(up[0]);
    return h;
}

static void release(struct holder h)
{
    ld_close(h.go);
    cr_assert_eq(waitpid(h.pid, NULL, 0), h.pid);
}

static const char *const drivers[] = {"overlay", "vfs"};

static void mounts_and_unmounts(const char *driver)
{
    struct world w = {.mounts = NULL};
    struct ld_err err = LD_ERR_INIT;
    bool was;
    int before;

    start(&w, driver, 3);
    before = (int)ld_test_count_fds();
    cr_assert_eq(ld_mounts_state(w.mounts, id, CONTAINER), LD_UNMOUNTED);
    attach(&w);
    cr_assert_eq(ld_mounts_state(w.mounts, id, CONTAINER), LD_MOUNTED);
    cr_assert(is_whole(), "volume, nested volume and content are there");
    cr_assert_eq(access("/mnt/data/volumes/31/sub/v32", F_OK), -1, "nothing leaks into the store");
    cr_assert_eq(access("/mnt/data/volumes/31/seed", F_OK), 0, "the volume was seeded");
    ld_test_ok(ld_mounts_attach(w.mounts, &w.fs, &was, &err), &err);
    cr_assert(was, "mounting again is the same");
    ld_test_ok(detach(&w, (struct ld_unmount_flags){.force = false}, &err), &err);
    cr_assert_not(sees("base"));
    w.part[0].seed = false;
    attach(&w); /* from the kept clone, most likely */
    cr_assert(is_whole());
    ld_test_ok(detach(&w, (struct ld_unmount_flags){.sync = true}, &err), &err);
    attach(&w);
    cr_assert(is_whole());
    ld_test_ok(detach(&w, (struct ld_unmount_flags){.force = true}, &err), &err);
    cr_assert(ld_test_run_until(w.jobs.loop, is_closed, &w));
    cr_expect_leq(abs((int)ld_test_count_fds() - before), 2, "descriptors leak");
    finish(&w);
}

LD_TEST(mounts, mount_and_unmount_overlay)
{
    mounts_and_unmounts("overlay");
}

LD_TEST(mounts, mount_and_unmount_vfs)
{
    mounts_and_unmounts("vfs");
}

LD_TEST(mounts, puts_everything_back_when_somebody_is_inside)
{
    struct world w = {.mounts = NULL};
    struct ld_err err = LD_ERR_INIT;
    static const char *const places[] = {"data", "data/sub", ".", "tmp"};
    static const unsigned long propagation[] = {0, MS_SLAVE};

    start(&w, "overlay", 3);
    attach(&w);
    for (size_t i = 0; i < LD_ARRAY_LEN(places); i++) {
        for (size_t p = 0; p < LD_ARRAY_LEN(propagation); p++) {
            struct holder h = hold(places[i], propagation[p]);

            ld_test_fails(detach(&w, (struct ld_unmount_flags){.force = false}, &err), &err,
                          LD_E_BUSY);
            cr_expect(is_whole(), "after a busy '%s' everything is back", places[i]);
            if (propagation[p] == 0)
                cr_expect(strstr(err.details, "\"holders\":[{"), "holders of '%s' are named: %s",
                          places[i], err.details);
            release(h);
        }
    }
    ld_test_ok(detach(&w, (struct ld_unmount_flags){.force = false}, &err), &err);
    finish(&w);
}

LD_TEST(mounts, overlay_held_in_a_private_namespace_is_not_mounted_twice)
{
    struct world w = {.mounts = NULL};
    struct ld_err err = LD_ERR_INIT;
    struct holder h;
    bool was;

    start(&w, "overlay", 3);
    attach(&w);
    h = hold(".", MS_PRIVATE);
    ld_test_ok(detach(&w, (struct ld_unmount_flags){.sync = true}, &err), &err);
    cr_assert_eq(ld_mounts_probe(w.mounts, &w.fs), LD_HELD);
    cr_assert_eq(ld_mounts_state(w.mounts, id, CONTAINER), LD_HELD);
    ld_test_fails(ld_mounts_attach(w.mounts, &w.fs, &was, &err), &err, LD_E_BUSY);
    release(h);
    cr_assert_eq(ld_mounts_probe(w.mounts, &w.fs), LD_UNMOUNTED);
    attach(&w);
    ld_test_ok(detach(&w, (struct ld_unmount_flags){.sync = true}, &err), &err);
    finish(&w);
}

LD_TEST(mounts, force_detaches_and_says_who_holds_it)
{
    struct world w = {.mounts = NULL};
    struct ld_err err = LD_ERR_INIT;
    struct holder h;
    bool was, held;

    start(&w, "overlay", 3);
    attach(&w);
    h = hold(".", 0);
    ld_test_ok(ld_mounts_detach(w.mounts, &w.fs, (struct ld_unmount_flags){.force = true}, &was,
                                &held, &err),
               &err);
    cr_assert(was);
    cr_assert(held, "the overlay lives on in its holder");
    cr_assert_not(sees("base"));
    release(h);
    attach(&w);
    h = hold("data", 0);
    ld_test_ok(ld_mounts_detach(w.mounts, &w.fs, (struct ld_unmount_flags){.force = true}, &was,
                                &held, &err),
               &err);
    cr_assert_not(held, "a holder of a volume does not hold the overlay");
    release(h);
    finish(&w);
}

LD_TEST(mounts, never_unmounts_what_is_not_ours)
{
    struct world w = {.mounts = NULL};
    struct ld_err err = LD_ERR_INIT;

    start(&w, "overlay", 3);
    attach(&w);
    ld_test_sh("mount -t tmpfs foreign run/mnt/%s/data/sub", id);
    ld_test_fails(detach(&w, (struct ld_unmount_flags){.force = false}, &err), &err, LD_E_BUSY);
    cr_assert(strstr(err.message, "/data/sub"), "%s", err.message);
    ld_test_sh("umount run/mnt/%s/data/sub", id);
    ld_test_ok(detach(&w, (struct ld_unmount_flags){.force = false}, &err), &err);
    finish(&w);
}

LD_TEST(mounts, finds_its_mounts_again_after_a_restart)
{
    for (size_t i = 0; i < LD_ARRAY_LEN(drivers); i++) {
        struct world w = {.mounts = NULL};
        struct ld_err err = LD_ERR_INIT;

        start(&w, drivers[i], 3);
        attach(&w);
        ld_mounts_free(w.mounts);
        w.mounts = ld_mounts_new(&w.root, &w.env, w.jobs.lanes);
        cr_assert_eq(ld_mounts_state(w.mounts, id, CONTAINER), LD_UNMOUNTED);
        ld_test_ok(ld_mounts_sweep(w.mounts, &err), &err);
        cr_assert_eq(ld_mounts_state(w.mounts, id, CONTAINER), LD_MOUNTED);
        cr_assert(is_whole());
        ld_test_ok(detach(&w, (struct ld_unmount_flags){.force = false}, &err), &err);
        finish(&w);
        ld_test_sh("rm -rf data run");
    }
}

static void restart(struct world *w)
{
    struct ld_err err = LD_ERR_INIT;

    ld_mounts_free(w->mounts);
    w->mounts = ld_mounts_new(&w->root, &w->env, w->jobs.lanes);
    ld_test_ok(ld_mounts_sweep(w->mounts, &err), &err);
    ld_test_ok(ld_mounts_complete(w->mounts, &w->fs, &err), &err);
}

/* Children go first, so this is what a kill in the middle of an unmount leaves. */
LD_TEST(mounts, an_unmount_that_was_cut_off_is_taken_back_at_the_start)
{
    for (size_t i = 0; i < LD_ARRAY_LEN(drivers); i++) {
        struct world w = {.mounts = NULL};
        struct ld_err err = LD_ERR_INIT;

        start(&w, drivers[i], 3);
        attach(&w);
        ld_test_sh("umount run/mnt/%s/data/sub", id);
        restart(&w);
        cr_expect(is_whole());
        ld_test_sh("umount run/mnt/%s/tmp run/mnt/%s/data/sub run/mnt/%s/data", id, id, id);
        restart(&w);
        cr_expect(is_whole());
        /* A target that leads nowhere now, while all is mounted. */
        ld_test_sh("rm run/mnt/%s/link", id);
        restart(&w);
        cr_expect(is_whole());
        ld_test_sh("test $(grep -c ' /mnt/run/mnt/%s' /proc/self/mountinfo) = 4", id);
        ld_test_ok(detach(&w, (struct ld_unmount_flags){.force = false}, &err), &err);
        finish(&w);
        ld_test_sh("rm -rf data run");
    }
}

LD_TEST(mounts, an_unmount_behind_our_back_is_noticed)
{
    struct world w = {.mounts = NULL};
    struct ld_err err = LD_ERR_INIT;
    bool was, held;

    start(&w, "overlay", 0);
    attach(&w);
    ld_test_sh("umount run/mnt/%s", id);
    cr_assert_eq(ld_mounts_state(w.mounts, id, CONTAINER), LD_UNMOUNTED);
    ld_test_ok(ld_mounts_detach(w.mounts, &w.fs, (struct ld_unmount_flags){.force = false}, &was,
                                &held, &err),
               &err);
    cr_assert_not(was);
    attach(&w);
    ld_test_ok(detach(&w, (struct ld_unmount_flags){.force = false}, &err), &err);
    finish(&w);
}

static void views_of(struct world *w, bool mounted)
{
    struct ld_err err = LD_ERR_INIT;
    struct ld_view plain, whole;

    if (mounted)
        attach(w);
    ld_test_ok(ld_mounts_view(w->mounts, &w->fs, false, &plain, &err), &err);
    ld_test_ok(ld_mounts_view(w->mounts, &w->fs, true, &whole, &err), &err);
    cr_assert_eq(faccessat(plain.fd, "base", F_OK, 0), 0);
    cr_assert_eq(faccessat(plain.fd, "data/sub/v32", F_OK, 0), -1, "a plain view has no volumes");
    cr_assert_eq(faccessat(whole.fd, "data/sub/v32", F_OK, 0), 0);
    if (mounted) {
        ld_test_ok(detach(w, (struct ld_unmount_flags){.force = false}, &err), &err);
        cr_assert_eq(faccessat(whole.fd, "data/sub/v32", F_OK, 0), 0, "a view outlives the mount");
    }
    attach(w); /* beside the views: the same superblock, never a second one */
    ld_test_write(plain.fd, "by-view", "x");
    cr_assert(sees("by-view"), "view and mount are one file system");
    ld_view_close(w->mounts, &w->fs, &plain);
    ld_view_close(w->mounts, &w->fs, &whole);
    cr_assert(is_whole());
    ld_test_ok(detach(w, (struct ld_unmount_flags){.force = false}, &err), &err);
}

LD_TEST(mounts, views_share_the_superblock_of_the_mount)
{
    for (size_t i = 0; i < LD_ARRAY_LEN(drivers); i++) {
        struct world w = {.mounts = NULL};

        start(&w, drivers[i], 3);
        views_of(&w, false);
        w.part[0].seed = false;
        views_of(&w, true);
        finish(&w);
        ld_test_sh("rm -rf data run");
    }
}

LD_TEST(mounts, a_read_only_container_refuses_missing_targets)
{
    struct world w = {.mounts = NULL};
    struct ld_err err = LD_ERR_INIT;
    bool was;

    start(&w, "overlay", 1);
    w.fs.read_only = true;
    w.part[0].target = "/missing";
    ld_test_fails(ld_mounts_attach(w.mounts, &w.fs, &was, &err), &err, LD_E_CONFLICT);
    w.part[0].target = "/data";
    w.part[0].seed = false;
    attach(&w);
    ld_test_sh("! touch run/mnt/%s/x 2>/dev/null && touch run/mnt/%s/data/x", id, id);
    ld_test_ok(detach(&w, (struct ld_unmount_flags){.force = false}, &err), &err);
    w.fs.read_only = false;
    attach(&w); /* a clone kept of a read-only mount does not make the next one so */
    ld_test_sh("touch run/mnt/%s/x", id);
    ld_test_ok(detach(&w, (struct ld_unmount_flags){.force = false}, &err), &err);
    finish(&w);
}

LD_TEST(mounts, targets_never_leave_the_root)
{
    struct world w = {.mounts = NULL};
    struct ld_err err = LD_ERR_INIT;
    static const char *const targets[] = {"/esc/x", "/../../../../mnt/host", "/up/x/y"};

    ld_test_sh("mkdir -p -m 755 host");
    start(&w, "overlay", 1);
    ld_test_sh(
        "cd data/layers/11 && ln -s /../../../mnt/host esc && ln -s ../../../../mnt/host up");
    w.part[0].seed = false;
    for (size_t i = 0; i < LD_ARRAY_LEN(targets); i++) {
        bool was;

        w.part[0].target = targets[i];
        if (ld_mounts_attach(w.mounts, &w.fs, &was, &err) == 0)
            ld_test_ok(detach(&w, (struct ld_unmount_flags){.force = false}, &err), &err);
        ld_test_sh("test -z \"$(ls -A host)\" && ! grep -q ' /mnt/host' /proc/self/mountinfo");
    }
    finish(&w);
}

/* ---- keeping it still ---- */

struct blocker {
    struct ld_job job;
    int go; /* until this is at its end */
};

static void block(struct ld_job *job)
{
    struct blocker *b = (struct blocker *)job;
    char c;

    (void)!read(b->go, &c, 1);
}

static void unblocked(struct ld_job *job)
{
    (void)job;
}

/* The view that gave the superblock ends meanwhile, and the lane that would close what it leaves is
 * busy: the next mount is of the same superblock. */
LD_TEST(mounts, what_was_kept_still_is_writable_again_whatever_ends_meanwhile)
{
    struct world w = {.mounts = NULL};
    struct blocker blocker[4];
    struct ld_err err = LD_ERR_INIT;
    struct ld_view view;
    int pipe_fd[2];

    start(&w, "overlay", 0);
    cr_assert_eq(pipe2(pipe_fd, O_CLOEXEC), 0);
    for (size_t i = 0; i < LD_ARRAY_LEN(blocker); i++) {
        blocker[i] = (struct blocker){.job = {.run = block, .done = unblocked}, .go = pipe_fd[0]};
        ld_test_ok(ld_lanes_submit(w.jobs.lanes, LD_LANE_CLOSE, &blocker[i].job, &err), &err);
    }
    ld_test_ok(ld_mounts_view(w.mounts, &w.fs, false, &view, &err), &err);
    w.fs.was_mounted = true;
    ld_test_ok(ld_mounts_quiesce(w.mounts, &w.fs, &err), &err);
    ld_view_close(w.mounts, &w.fs, &view);
    ld_mounts_resume(w.mounts, &w.fs);
    attach(&w);
    ld_test_sh("touch run/mnt/%s/x", id);
    ld_close(pipe_fd[1]);
    ld_test_ok(detach(&w, (struct ld_unmount_flags){.force = false}, &err), &err);
    finish(&w);
    ld_close(pipe_fd[0]);
}

/* After a forced unmount a view's kept clone is all that there is of it here. */
LD_TEST(mounts, who_writes_to_a_detached_mount_is_seen_beside_a_view)
{
    struct world w = {.mounts = NULL};
    struct ld_err err = LD_ERR_INIT;
    struct ld_view view;
    bool was, held;
    int fd;

    start(&w, "overlay", 0);
    attach(&w);
    ld_test_ok(ld_mounts_view(w.mounts, &w.fs, false, &view, &err), &err);
    fd = openat(view.fd, "x", O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    cr_assert_geq(fd, 0);
    ld_test_ok(ld_mounts_detach(w.mounts, &w.fs, (struct ld_unmount_flags){.force = true}, &was,
                                &held, &err),
               &err);
    ld_test_fails(ld_mounts_quiesce(w.mounts, &w.fs, &err), &err, LD_E_BUSY);
    ld_close(fd);
    ld_test_ok(ld_mounts_quiesce(w.mounts, &w.fs, &err), &err);
    cr_expect_eq(openat(view.fd, "y", O_CREAT | O_WRONLY | O_CLOEXEC, 0600), -1);
    cr_expect_eq(errno, EROFS);
    ld_mounts_resume(w.mounts, &w.fs);
    ld_test_write(view.fd, "y", "");
    ld_view_close(w.mounts, &w.fs, &view);
    finish(&w);
}
