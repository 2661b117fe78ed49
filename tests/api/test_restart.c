/* The daemon ends in every way it can: told to, killed, with the power. What was acknowledged is
 * there, what was half made is not, mounts are where they were. The same under attack by many
 * clients: test_attack.c. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>

#include <cjson/cJSON.h>

#include "daemon/base/fdio.h"
#include "daemon/base/mem.h"
#include "tests/lib/api.h"

/* XFS_IOC_GOINGDOWN, ext4's too: 2 flushes nothing, like a power cut. */
#define SHUTDOWN_IOCTL   _IOR('X', 125, uint32_t)
#define SHUTDOWN_NOFLUSH 2

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

/* ---- the power goes: what is lost then is in test_attack.c ---- */

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
