/* daemon/store: what was acknowledged is there after kill -9 and after a power cut, on a journaled
 * file system whose shutdown ioctl drops everything that was not synced. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/base/fdio.h"
#include "daemon/base/mem.h"
#include "daemon/store/store.h"
#include "tests/lib/env.h"
#include "tests/lib/store.h"

#define EXT4_SHUTDOWN _IOR('X', 125, __u32)
enum { NO_LOG_FLUSH = 2, WRITERS = 4 };

static struct ld_err err;

/* The device of the test's file system, so that it can be mounted again after the cut. */
static void device_of(const char *path, char device[64])
{
    FILE *mounts = fopen("/proc/self/mounts", "re");
    char dev[256], dir[256];

    cr_assert_not_null(mounts);
    device[0] = '\0';
    while (fscanf(mounts, "%255s %255s %*[^\n]", dev, dir) == 2) {
        if (strcmp(dir, path) == 0)
            (void)snprintf(device, 64, "%.63s", dev);
    }
    (void)fclose(mounts);
    cr_assert_neq(device[0], '\0');
}

/* ---- power cut ---- */

struct writer {
    struct ld_store *store;
    int w_dir;
    unsigned number;
    _Atomic unsigned acknowledged; /* containers 0 … n-1 of this writer were confirmed */
    ld_sid highest;
    _Atomic bool *is_cut;
};

/* As the core does it: make w/SID, then record it, naming the directory that must be durable. */
static void *create_until_cut(void *arg)
{
    struct writer *me = arg;
    struct ld_write w = {.uid = -1, .pid = -1, .dirs = &me->w_dir, .n_dirs = 1};

    for (unsigned i = 0; i < 100000; i++) {
        struct ld_err e = LD_ERR_INIT;
        struct ld_container c = {.driver = (char[]){"overlay"},
                                 .id = (char *)ld_test_id(me->number * 100000 + i)};

        if (ld_store_take_sid(me->store, &c.upper_sid, &e) < 0)
            return NULL;
        me->highest = c.upper_sid;
        if (mkdirat(me->w_dir, ld_sid_name(c.upper_sid).text, 0700) < 0 ||
            ld_store_container_add(me->store, &w, &c, &e) < 0)
            return NULL;
        /* A sync that the cut overtakes may say that all is well: jbd2 does not tell an aborted
         * commit from a finished one. Nobody hears of it after a real cut. */
        if (*me->is_cut)
            return NULL;
        me->acknowledged = i + 1;
    }
    return NULL;
}

static bool each_has_written(void *arg)
{
    struct writer *writers = arg;

    for (unsigned i = 0; i < WRITERS; i++) {
        if (writers[i].acknowledged < 10)
            return false;
    }
    return true;
}

static void check_writer(struct ld_store *store, int w_dir, const struct writer *writer)
{
    for (unsigned i = 0; i < writer->acknowledged; i++) {
        LD_AUTO(ld_container_done) struct ld_container c = {0};
        struct stat st;

        ld_test_ok(ld_store_container_get(store, ld_test_id(writer->number * 100000 + i), &c, &err),
                   &err);
        cr_assert_eq(fstatat(w_dir, ld_sid_name(c.upper_sid).text, &st, 0), 0,
                     "the record came before its directory");
        cr_assert_lt(c.upper_sid, ld_store_sid_ceiling(store));
    }
}

LD_TEST(store_crash, loses_nothing_acknowledged_in_a_power_cut)
{
    int dir = ld_test_fs("disk", "ext4", 128);
    int w_dir = ld_test_mkdir("disk/w");
    struct ld_store *store = ld_test_store(dir);
    struct writer writers[WRITERS];
    pthread_t threads[WRITERS];
    _Atomic bool is_cut = false;
    __u32 how = NO_LOG_FLUSH;
    char device[64];
    ld_sid sid;

    device_of("/mnt/disk", device);
    cr_assert_eq(fsync(dir), 0);
    for (unsigned i = 0; i < WRITERS; i++) {
        writers[i] =
            (struct writer){.store = store, .w_dir = w_dir, .number = i, .is_cut = &is_cut};
        cr_assert_eq(pthread_create(&threads[i], NULL, create_until_cut, &writers[i]), 0);
    }
    cr_assert(ld_test_wait(each_has_written, writers, 60)); /* the cut is in the middle of more */
    is_cut = true;
    cr_assert_eq(ioctl(dir, EXT4_SHUTDOWN, &how), 0, "%s", strerror(errno));
    for (unsigned i = 0; i < WRITERS; i++)
        cr_assert_eq(pthread_join(threads[i], NULL), 0);
    ld_store_close(store); /* it must survive that nothing works any more */
    ld_close(w_dir);
    ld_close(dir);
    cr_assert_eq(umount("/mnt/disk"), 0, "%s", strerror(errno));
    cr_assert_eq(mount(device, "/mnt/disk", "ext4", 0, NULL), 0, "%s", strerror(errno));

    dir = ld_test_mkdir("disk");
    w_dir = ld_test_mkdir("disk/w");
    store = ld_test_store(dir);
    ld_test_ok(ld_store_take_sid(store, &sid, &err), &err);
    for (unsigned i = 0; i < WRITERS; i++) {
        check_writer(store, w_dir, &writers[i]);
        cr_assert_gt(sid, writers[i].highest, "a sid is given twice");
    }
    ld_store_close(store);
    ld_close(w_dir);
    ld_close(dir);
}

/* A lazy event may vanish, but a synced one takes along all that came before it. */
LD_TEST(store_crash, a_synced_commit_makes_earlier_lazy_ones_durable)
{
    int dir = ld_test_fs("disk", "ext4", 128);
    struct ld_store *store = ld_test_store(dir);
    struct ld_note note = {.type = "container.mount", .kind = "container"};
    LD_AUTO(ld_event_page_done) struct ld_event_page page = {0};
    __u32 how = NO_LOG_FLUSH;
    char device[64];

    device_of("/mnt/disk", device);
    for (int i = 0; i < 10; i++)
        ld_store_event_post(store, &LD_WRITE_SELF, &note);
    ld_test_ok(ld_store_flush(store, &err), &err);
    cr_assert_eq(ioctl(dir, EXT4_SHUTDOWN, &how), 0);
    ld_test_fails(ld_store_event_add(store, &LD_WRITE_SELF, &note, &err), &err, LD_E_IO);
    ld_store_close(store);
    ld_close(dir);
    cr_assert_eq(umount("/mnt/disk"), 0);
    cr_assert_eq(mount(device, "/mnt/disk", "ext4", 0, NULL), 0);
    dir = ld_test_mkdir("disk");
    store = ld_test_store(dir);
    ld_test_ok(ld_store_event_list(store, &(struct ld_event_query){0}, &page, &err), &err);
    cr_assert_eq(page.n, 10);
    ld_store_close(store);
    ld_close(dir);
}

/* ---- a disk that fails or is full ---- */

static struct {
    sqlite3_vfs vfs, *real;
    sqlite3_io_methods methods;
    int (*sync)(sqlite3_file *file, int flags);
    _Atomic bool fail;
} faulty;

static int faulty_sync(sqlite3_file *file, int flags)
{
    return faulty.fail ? SQLITE_IOERR_FSYNC : faulty.sync(file, flags);
}

static int faulty_open(sqlite3_vfs *vfs, sqlite3_filename name, sqlite3_file *file, int flags,
                       int *out_flags)
{
    int rc = faulty.real->xOpen(faulty.real, name, file, flags, out_flags);

    (void)vfs;
    if (rc != SQLITE_OK || !(flags & SQLITE_OPEN_WAL))
        return rc;
    faulty.methods = *file->pMethods;
    faulty.sync = faulty.methods.xSync;
    faulty.methods.xSync = faulty_sync;
    file->pMethods = &faulty.methods;
    return rc;
}

/* A sync that fails once and then succeeds has lost data in between: nothing may be acknowledged on
 * it. */
LD_TEST(store_crash, accepts_nothing_after_a_failed_sync)
{
    int dir = ld_test_mkdir("root");
    struct ld_note note = {.type = "system.test", .kind = "system"};
    struct ld_store *store;

    faulty.real = sqlite3_vfs_find(NULL);
    faulty.vfs = *faulty.real;
    faulty.vfs.zName = "faulty";
    faulty.vfs.xOpen = faulty_open;
    cr_assert_eq(sqlite3_vfs_register(&faulty.vfs, 1), SQLITE_OK);
    store = ld_test_store(dir);
    ld_test_ok(ld_store_event_add(store, &LD_WRITE_SELF, &note, &err), &err);
    faulty.fail = true;
    ld_test_fails(ld_store_event_add(store, &LD_WRITE_SELF, &note, &err), &err, LD_E_IO);
    faulty.fail = false;
    ld_test_fails(ld_store_event_add(store, &LD_WRITE_SELF, &note, &err), &err, LD_E_IO);
    cr_assert_neq(err.hint[0], '\0');
    ld_store_close(store);
    store = ld_test_store(dir);
    ld_test_ok(ld_store_event_add(store, &LD_WRITE_SELF, &note, &err), &err);
    ld_store_close(store);
    ld_close(dir);
}

LD_TEST(store_crash, goes_on_when_a_full_disk_has_room_again)
{
    int dir = ld_test_fs("disk", "ext4", 16);
    struct ld_store *store = ld_test_store(dir);
    autofree char *big = ld_alloc0(300001);
    struct ld_note note = {.type = "system.test", .kind = "system", .attributes = big};
    LD_AUTO(ld_event_page_done) struct ld_event_page page = {0};
    size_t added = 0;
    int rc;

    memset(big, 'x', 300000);
    ld_test_sh("dd if=/dev/zero of=disk/filler bs=4k 2>/dev/null || true");
    do {
        rc = ld_store_event_add(store, &LD_WRITE_SELF, &note, &err);
        added += rc == 0;
    } while (rc == 0 && added < 100);
    cr_assert_eq(rc, -1);
    cr_assert_eq(err.code, LD_E_NO_SPACE, "%s", err.message);
    cr_assert_eq(unlinkat(dir, "filler", 0), 0);
    ld_test_ok(ld_store_event_add(store, &LD_WRITE_SELF, &note, &err), &err);
    ld_test_ok(ld_store_event_list(store, &(struct ld_event_query){0}, &page, &err), &err);
    cr_assert_eq(page.n, added + 1, "what failed is not there");
    ld_store_close(store);
    ld_close(dir);
}

/* ---- kill -9 ---- */

/* Writes for ever; each number that is acknowledged goes into the pipe. */
static void child_writes(int dir, int pipe_fd, unsigned from)
{
    struct ld_store *store = NULL;
    struct ld_err e = LD_ERR_INIT;

    if (ld_store_open(dir, NULL, &store, &e) < 0)
        _exit(2);
    for (unsigned i = from;; i++) {
        bool ephemeral = i % 2 != 0; /* not synced, but a kill takes nothing from the kernel */
        struct ld_container c = {
            .driver = (char[]){"overlay"}, .id = (char *)ld_test_id(i), .ephemeral = ephemeral};

        if (ld_store_take_sid(store, &c.upper_sid, &e) < 0 ||
            ld_store_container_add(store, &LD_WRITE_SELF, &c, &e) < 0 ||
            ld_write_full(pipe_fd, &i, sizeof(i)) < 0)
            _exit(3);
    }
}

static void check_range(struct ld_store *store, unsigned from, unsigned to)
{
    for (unsigned i = from; i < to; i++) {
        struct ld_container c;

        ld_test_ok(ld_store_container_get(store, ld_test_id(i), &c, &err), &err);
        ld_container_done(&c);
    }
}

/* Kills a child that writes containers `from`, `from` + 1, … after some; returns the first that was
 * not acknowledged. */
static unsigned run_and_kill(int dir, unsigned from, int after)
{
    unsigned seen = from, next = from;
    int pipe_fds[2], status;
    pid_t pid;

    cr_assert_eq(pipe2(pipe_fds, O_CLOEXEC), 0);
    pid = fork(); /* no other thread runs here now */
    if (pid == 0)
        child_writes(dir, pipe_fds[1], from);
    ld_close(pipe_fds[1]);
    for (int i = 0; i < after; i++)
        cr_assert_eq(ld_read_full(pipe_fds[0], &seen, sizeof(seen)), 0);
    next = seen + 1;
    cr_assert_eq(kill(pid, SIGKILL), 0);
    cr_assert_eq(waitpid(pid, &status, 0), pid);
    cr_assert(WIFSIGNALED(status));
    while (ld_read_full(pipe_fds[0], &seen, sizeof(seen)) == 0)
        next = seen + 1;
    ld_close(pipe_fds[0]);
    return next;
}

LD_TEST(store_crash, loses_nothing_acknowledged_when_killed)
{
    enum { ROUNDS = 10, EACH = 100000 };
    int dir = ld_test_mkdir("root");
    unsigned until[ROUNDS];

    for (unsigned round = 0; round < ROUNDS; round++) {
        struct ld_store *store;

        until[round] = run_and_kill(dir, round * EACH, 20 + (int)round * 7);
        store = ld_test_store(dir);
        for (unsigned r = 0; r <= round; r++)
            check_range(store, r * EACH, until[r]);
        ld_store_close(store);
    }
    ld_close(dir);
}
