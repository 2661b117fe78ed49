/* Limits of containers and volumes on btrfs, for real: with the quotas of qgroups and with simple
 * ones. Those of ext4 and xfs are tests/vm/limits.sh. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cjson/cJSON.h>

#include "daemon/base/fdio.h"
#include "tests/lib/api.h"

static const char *const args[] = {"--config", "/mnt/conf", NULL};

/* A daemon on a btrfs whose commits, and with them its cleaner, come every second. */
static struct ld_daemon *start(bool simple)
{
    autoclose int fs = ld_test_fs("disk", "btrfs", 640);
    struct ld_daemon *d;

    ld_test_sh("mount -o remount,commit=1 disk; printf '[storage]\nwatch_limits = 200ms\n' > conf");
    ld_test_quotas_on(fs, simple);
    d = ld_daemon_start("disk", args);
    ld_have_base(d->client);
    return d;
}

#define LIMITS_TEST(sentence)                                                                      \
    static void body_##sentence(struct ld_daemon *d, struct ld_client *c, bool simple);            \
    LD_TEST(limits, sentence)                                                                      \
    {                                                                                              \
        struct ld_daemon *d = start(false);                                                        \
        body_##sentence(d, d->client, false);                                                      \
        ld_api_finish(d);                                                                          \
    }                                                                                              \
    LD_TEST(limits_simple, sentence)                                                               \
    {                                                                                              \
        struct ld_daemon *d = start(true);                                                         \
        body_##sentence(d, d->client, true);                                                       \
        ld_api_finish(d);                                                                          \
    }                                                                                              \
    static void body_##sentence(struct ld_daemon *d __attribute__((unused)), struct ld_client *c,  \
                                bool simple __attribute__((unused)))

/* As many KiB as wanted; false: EDQUOT came before. */
static bool can_write(struct ld_text dir, const char *name, int kib)
{
    static const char block[64 << 10];
    struct ld_text path = ld_textf("%s/%s", dir.s, name);
    autoclose int fd = open(path.s, O_CREAT | O_WRONLY | O_TRUNC | O_CLOEXEC, 0600);
    int r = fd < 0 ? -errno : 0;

    for (int n = 0; r == 0 && n < kib; n += (int)sizeof(block) >> 10)
        r = ld_write_full(fd, block, sizeof(block));
    cr_assert(r == 0 || r == -EDQUOT, "%s", strerror(-r));
    return r == 0;
}

/* A container that has the volume, of the same name, mounted. */
static struct ld_text volume_dir(struct ld_client *c, const char *name)
{
    struct ld_text root;

    (void)ld_create(
        c, name, "base",
        ld_textf("'mounts':[{'type':'volume','source':'%s','target':'/data'}]", name).s);
    root = ld_mount(c, name);
    return ld_textf("%s/data", root.s);
}

LIMITS_TEST(of_a_container_are_held_raised_and_lowered)
{
    struct ld_text a, b;
    cJSON *json;

    (void)ld_create(c, "a", "base", "'size_limit':4194304");
    (void)ld_create(c, "b", "base", "'size_limit':4194304");
    a = ld_mount(c, "a");
    b = ld_mount(c, "b");
    cr_expect(can_write(a, "one", 3072));
    cr_expect_not(can_write(a, "two", 2048));
    cr_expect(can_write(b, "one", 3072), "a neighbour");
    (void)ld_want(c, 200, "PATCH", "{'size_limit':8388608}", "/v1/containers/a");
    cr_expect(can_write(a, "two", 4096), "raised");
    cr_expect_not(can_write(a, "three", 2048));
    cr_expect_eq(unlink(ld_textf("%s/three", a.s).s), 0);
    (void)ld_want(c, 200, "PATCH", "{'size_limit':1048576}", "/v1/containers/a");
    cr_expect_not(can_write(a, "four", 256), "lowered");
    ld_test_sh("rm -f %s/[ot]*; sync -f %s", a.s, a.s);
    cr_expect(can_write(a, "five", 512), "what is deleted can be written again");
    json = ld_want(c, 200, "PATCH", "{'size_limit':null}", "/v1/containers/a");
    cr_expect(ld_is_null(json, "size_limit"));
    cr_expect(can_write(a, "six", 6144), "lifted");
    (void)ld_want(c, 204, "DELETE", NULL, "/v1/containers/a?force=1");
    (void)ld_want(c, 204, "DELETE", NULL, "/v1/containers/b?force=1");
    ld_wait_reaped(d);
}

LIMITS_TEST(are_of_what_was_made_with_them)
{
    struct ld_text plain;
    cJSON *error, *json;
    size_t n;

    (void)ld_create(c, "plain", "base", NULL);
    error = ld_want_error(c, "conflict", "PATCH", "{'size_limit':4194304}", "/v1/containers/plain");
    cr_expect(strstr(ld_str(error, "hint"), "clone it with the limit"), "%s",
              ld_str(error, "hint"));
    error = ld_want_error(c, "unsupported", "PATCH", "{'inode_limit':100}", "/v1/containers/plain");
    cr_expect(strstr(ld_str(error, "message"), "inodes"));
    (void)ld_want_error(c, "unsupported", "POST", "{'image':'base','inode_limit':100}",
                        "/v1/containers");
    (void)ld_want(c, 200, "PATCH", "{'size_limit':null}", "/v1/containers/plain");
    plain = ld_mount(c, "plain");
    cr_expect(can_write(plain, "one", 8192));
    ld_unmount(c, "plain");
    (void)ld_want(c, 201, "POST", "{'name':'data'}", "/v1/volumes");
    (void)ld_want_error(c, "conflict", "PATCH", "{'size_limit':4194304}", "/v1/volumes/data");
    n = ld_data_count(d, "layers");
    (void)ld_take_snapshot(c, "plain", "s"); /* it is frozen as ever */
    cr_expect_eq(ld_data_count(d, "layers"), n + 1);

    /* The remedy. */
    json = ld_want(c, 201, "POST", "{'name':'held','size_limit':4194304}",
                   "/v1/containers/plain/clone");
    cr_expect_eq(ld_int(json, "size_limit"), 4194304);
    cr_expect_not(can_write(ld_mount(c, "held"), "two", 5120));
    ld_unmount(c, "held");
    json = ld_want(c, 201, "POST", "{'size_limit':null}", "/v1/containers/held/clone");
    cr_expect(ld_is_null(json, "size_limit"));
    json =
        ld_want(c, 201, "POST", "{'name':'small','size_limit':1048576}", "/v1/volumes/data/clone");
    cr_expect_eq(ld_int(json, "size_limit"), 1048576);
    cr_expect_not(can_write(volume_dir(c, "small"), "x", 2048));
    (void)ld_want_error(c, "unsupported", "POST", "{'inode_limit':100}",
                        "/v1/containers/plain/clone");
}

LIMITS_TEST(stay_through_snapshots_rollbacks_clones_and_commits)
{
    struct ld_text digest, root;
    cJSON *json;

    (void)ld_create(c, "a", "base", "'size_limit':4194304");
    ld_change(c, "a", "head -c 2M /dev/urandom > one; mkdir -p d/e; chown 5:6 d; rm -rf etc");
    digest = ld_root_digest(c, "a");
    (void)ld_take_snapshot(c, "a", "s");
    cr_expect_str_eq(ld_root_digest(c, "a").s, digest.s);
    root = ld_mount(c, "a");
    cr_expect_not(can_write(root, "two", 3072));
    (void)ld_take_snapshot(c, "a", "mounted");
    ld_unmount(c, "a");

    (void)ld_want(c, 200, "POST", NULL, "/v1/containers/a/snapshots/s/rollback");
    cr_expect_str_eq(ld_root_digest(c, "a").s, digest.s, "rolled back");
    root = ld_mount(c, "a");
    cr_expect(can_write(root, "two", 3072), "the limit is whole after it");
    cr_expect_not(can_write(root, "three", 2048));
    ld_unmount(c, "a");

    json = ld_want(c, 201, "POST", "{'name':'b','snapshot':'s'}", "/v1/containers/a/clone");
    cr_expect_eq(ld_int(json, "size_limit"), 4194304);
    cr_expect_str_eq(ld_root_digest(c, "b").s, digest.s);
    root = ld_mount(c, "b");
    cr_expect_not(can_write(root, "three", 5120));
    ld_unmount(c, "b");
    json = ld_want(c, 201, "POST", "{'name':'c'}", "/v1/containers/a/clone");
    cr_expect_eq(ld_int(json, "size_limit"), 4194304);

    (void)ld_want(c, 200, "POST", NULL, "/v1/containers/a/snapshots/s/rollback");
    (void)ld_want(c, 201, "POST", "{'ref':'made:1'}", "/v1/containers/a/commit");
    (void)ld_create(c, "of-made", "made:1", NULL);
    cr_expect_str_eq(ld_root_digest(c, "of-made").s, digest.s, "the commit");
    ld_expect_df_is_du(d, c);
}

LIMITS_TEST(of_a_volume_are_held_by_its_copies_too)
{
    struct ld_text dir;
    cJSON *json;

    (void)ld_want(c, 201, "POST", "{'name':'data','size_limit':4194304}", "/v1/volumes");
    dir = volume_dir(c, "data");
    cr_expect(can_write(dir, "one", 3072));
    cr_expect_not(can_write(dir, "two", 2048));
    (void)ld_want(c, 200, "PATCH", "{'size_limit':6291456}", "/v1/volumes/data");
    cr_expect(can_write(dir, "two", 2048));
    (void)unlink(ld_textf("%s/two", dir.s).s);
    ld_unmount(c, "data");

    json = ld_want(c, 201, "POST", "{'name':'twin'}", "/v1/volumes/data/clone");
    cr_expect_eq(ld_int(json, "size_limit"), 6291456);
    dir = volume_dir(c, "twin");
    cr_expect_not(can_write(dir, "more", 7168));
    ld_unmount(c, "twin");

    (void)ld_want(c, 201, "POST", "{'name':'s'}", "/v1/volumes/data/snapshots");
    (void)ld_want(c, 200, "POST", NULL, "/v1/volumes/data/snapshots/s/rollback");
    dir = ld_textf("%s/data", ld_mount(c, "data").s);
    cr_expect_not(can_write(dir, "more", 7168), "rolled back");
    ld_unmount(c, "data");
    (void)ld_want(c, 204, "DELETE", NULL, "/v1/containers/data");
    ld_wait_reaped(d); /* what the rollback has replaced had the same name */
    (void)ld_want(c, 204, "DELETE", NULL, "/v1/volumes/data");
    (void)ld_want(c, 200, "POST", NULL, "/v1/trash/data/restore");
    dir = volume_dir(c, "data");
    cr_expect_not(can_write(dir, "more", 7168), "restored");
}

LIMITS_TEST(of_a_volume_are_held_when_it_is_seeded_or_filled)
{
    struct ld_text dir;

    (void)ld_want(c, 201, "POST", "{'name':'seeded','size_limit':4194304}", "/v1/volumes");
    (void)ld_create(c, "seeded", "base",
                    "'mounts':[{'type':'volume','source':'seeded','target':'/etc'}]");
    dir = ld_textf("%s/etc", ld_mount(c, "seeded").s);
    ld_test_sh("test -n \"$(ls %s)\"", dir.s);
    cr_expect_not(can_write(dir, "more", 5120));

    (void)ld_want(c, 201, "POST", "{'name':'filled','size_limit':4194304}", "/v1/volumes");
    ld_test_sh("mkdir in && echo x > in/x && tar -C in -cf small.tar . && "
               "head -c 6M /dev/urandom > in/y && tar -C in -cf large.tar .");
    {
        autoclose int large = open("large.tar", O_RDONLY | O_CLOEXEC);
        struct ld_call call = {.method = "POST",
                               .target = "/v1/volumes/filled/import",
                               .content_type = "application/x-tar",
                               .body_fd = large};

        cr_expect_eq(ld_call(c, &call)->status, 507);
    }
    {
        autoclose int small = open("small.tar", O_RDONLY | O_CLOEXEC);
        struct ld_call call = {.method = "POST",
                               .target = "/v1/volumes/filled/import",
                               .content_type = "application/x-tar",
                               .body_fd = small};

        cr_expect_eq(ld_call(c, &call)->status, 200);
    }
    dir = volume_dir(c, "filled");
    ld_test_sh("test x = \"$(cat %s/x)\"", dir.s);
    cr_expect_not(can_write(dir, "more", 5120));
    cr_expect_eq(ld_data_count(d, "staging"), 0);
}

LIMITS_TEST(of_a_copied_container_are_for_what_comes_beyond_the_copy)
{
    struct ld_text root;

    (void)ld_create(c, "a", "base", "'driver':'vfs','size_limit':4194304");
    root = ld_mount(c, "a");
    cr_expect(can_write(root, "one", 3072));
    cr_expect_not(can_write(root, "two", 2048));
    (void)ld_want(c, 200, "PATCH", "{'size_limit':8388608}", "/v1/containers/a");
    cr_expect(can_write(root, "two", 3072));
    ld_unmount(c, "a");
    (void)ld_take_snapshot(c, "a", "s");
}

/* ---- what is told ---- */

struct telling {
    struct ld_client *client;
    const char *want;
};

static bool is_told(void *arg)
{
    struct telling *t = arg;
    struct ld_call call = {.method = "GET", .target = "/v1/events?filter=type=*.limit&limit=100"};

    return strstr(ld_call(t->client, &call)->body, t->want) != NULL;
}

LIMITS_TEST(tell_when_they_are_nearly_reached)
{
    struct telling told = {.client = c, .want = "\"resource\":\"bytes\",\"percent\":80"};
    struct ld_text root;

    (void)ld_want(c, 201, "POST", "{'name':'v','size_limit':4194304}", "/v1/volumes");
    (void)ld_create(c, "a", "base",
                    "'size_limit':4194304,"
                    "'mounts':[{'type':'volume','source':'v','target':'/data'}]");
    root = ld_mount(c, "a");
    cr_expect(can_write(root, "one", 3520));
    cr_expect(ld_test_wait(is_told, &told, 30), "80 percent");
    (void)can_write(root, "two", 1024);
    told.want = "\"percent\":95";
    cr_expect(ld_test_wait(is_told, &told, 30), "95 percent");
    (void)can_write(ld_textf("%s/data", root.s), "three", 5120);
    ld_unmount(c, "a");
    told.want = "\"volume.limit\"";
    cr_expect(ld_test_wait(is_told, &told, 30), "the volume");
}

/* ---- kills, removals ---- */

static size_t count_groups(void)
{
    FILE *out = popen("ls /sys/fs/btrfs/$(blkid -p -o value -s UUID /mnt/disk.img)/qgroups |"
                      " grep -c '^0_'",
                      "r");
    size_t n = 0;

    cr_assert_eq(fscanf(out, "%zu", &n), 1); /* NOLINT: grep has printed it */
    (void)pclose(out);
    return n;
}

static bool has_one_group(void *arg)
{
    (void)arg;
    return count_groups() == 1; /* that of the file system's root */
}

LIMITS_TEST(survive_kills_and_leave_nothing_when_they_go)
{
    struct ld_text root;

    (void)ld_create(c, "a", "base", "'size_limit':4194304");
    root = ld_mount(c, "a");
    for (int i = 0; i < 4; i++) {
        pid_t maker = fork();

        if (maker == 0) {
            execlp("curl", "curl", "-s", "--unix-socket", d->socket,
                   "http://localhost/v1/containers", "-H", "Content-Type: application/json", "-d",
                   "{\"image\":\"base\",\"size_limit\":4194304}", "-o", "/dev/null", NULL);
            _exit(1);
        }
        (void)usleep(20000U * (unsigned)i);
        ld_daemon_kill(d);
        ld_test_let_go(maker);
        ld_daemon_again(d);
    }
    c = d->client;
    cr_expect(can_write(root, "one", 3072));
    cr_expect_not(can_write(root, "two", 2048), "after the restarts");
    ld_unmount(c, "a");
    for (;;) {
        cJSON *json = ld_want(c, 200, "GET", NULL, "/v1/containers?limit=1");

        if (ld_count(json, "items") == 0)
            break;
        (void)ld_want(c, 204, "DELETE", NULL, "/v1/containers/%s",
                      ld_textf("%s", ld_str(json, "items.0.id")).s);
    }
    ld_wait_reaped(d);
    cr_expect_eq(ld_data_count(d, "w"), 0);
    cr_expect_eq(ld_data_count(d, "quarantine"), 0);
    ld_daemon_stop(d);
    ld_test_sh("sync -f disk; btrfs subvolume sync disk >&2");
    ld_daemon_again(d); /* it sweeps what the kernel did not let go of in time */
    cr_expect(ld_test_wait(has_one_group, NULL, 60));
}

LD_TEST(limits, are_refused_with_the_remedy_while_the_quotas_are_off)
{
    struct ld_daemon *d;
    cJSON *error;

    ld_close(ld_test_fs("disk", "btrfs", 256));
    d = ld_daemon_start("disk", NULL);
    ld_have_base(d->client);
    error = ld_want_error(d->client, "unsupported", "POST", "{'image':'base','size_limit':4194304}",
                          "/v1/containers");
    cr_expect(strstr(ld_str(error, "hint"), "btrfs quota enable"), "%s", ld_str(error, "hint"));
    (void)ld_want_error(d->client, "unsupported", "POST", "{'size_limit':4194304}", "/v1/volumes");
    (void)ld_create(d->client, "a", "base", NULL);
    (void)ld_want_error(d->client, "unsupported", "POST", "{'size_limit':4194304}",
                        "/v1/containers/a/clone");
    (void)ld_want(d->client, 201, "POST", "{'name':'v'}", "/v1/volumes");
    (void)ld_want_error(d->client, "unsupported", "POST", "{'size_limit':4194304}",
                        "/v1/volumes/v/clone");
    ld_api_finish(d);
}
