/* Images mounted without a container. */
#include <string.h>

#include <cjson/cJSON.h>

#include "daemon/base/fdio.h"
#include "daemon/base/mem.h"
#include "tests/lib/api.h"

static struct ld_text mount_image(struct ld_client *c, const char *image)
{
    return ld_textf(
        "%s", ld_str(ld_want(c, 200, "POST", NULL, "/v1/images/%s/mount", image), "mountpoint"));
}

LD_API_TEST(image_mounts, show_the_image_and_nothing_can_be_written)
{
    struct ld_text at, digest;
    cJSON *json;

    ld_have_base(c);
    (void)ld_create(c, "web", "base", NULL);
    digest = ld_root_digest(c, "web");
    at = mount_image(c, "base");
    cr_expect_str_eq(ld_tree_digest(at.s).s, digest.s, "as a container of it shows it");
    ld_test_sh("! touch %s/etc/x 2>/dev/null", at.s);
    cr_expect_str_eq(mount_image(c, "base").s, at.s, "idempotent");
    json = ld_want(c, 200, "GET", NULL, "/v1/images/base");
    cr_expect_str_eq(ld_str(json, "mountpoint"), at.s);
    (void)ld_mount(c, "web"); /* on the same layers */
    ld_unmount(c, "web");
    json = ld_want(c, 200, "POST", NULL, "/v1/images/base/unmount");
    cr_expect(ld_is_null(json, "mountpoint"));
    (void)ld_want(c, 200, "POST", "{}", "/v1/images/base/unmount");
    cr_expect_eq(ld_test_count_mounts(at.s), 0);
}

LD_API_TEST(image_mounts, of_a_single_layer_work_too)
{
    struct ld_text at;

    ld_test_sh("mkdir -p r/etc && echo one >r/etc/one && tar -C r -cf one.tar .");
    ld_test_sh("curl -sS --fail --unix-socket %s --data-binary @one.tar -H "
               "'Content-Type: application/x-tar' "
               "'http://x/v1/images/import?ref=one&format=rootfs' >out",
               d->socket);
    at = mount_image(c, "one");
    ld_test_sh("grep -q one %s/etc/one; ! touch %s/etc/x 2>/dev/null", at.s, at.s);
    (void)ld_want(c, 200, "POST", NULL, "/v1/images/one/unmount");
}

LD_API_TEST(image_mounts, work_where_containers_are_copies)
{
    struct ld_text at;

    ld_have_base(c);
    (void)ld_create(c, "copy", "base", "'driver':'vfs'");
    at = mount_image(c, "base");
    ld_test_sh("test -e %s/etc/motd", at.s);
    (void)ld_want(c, 200, "POST", NULL, "/v1/images/base/unmount");
}

LD_API_TEST(image_mounts, are_shown_at_a_target_and_outlive_the_daemon)
{
    struct ld_text at;
    cJSON *json;

    ld_close(ld_test_mkdir("at"));
    ld_have_base(c);
    (void)ld_want_error(c, "invalid", "POST", "{'trusted':true}", "/v1/images/base/mount");
    (void)ld_want_error(c, "invalid", "POST", "{'target':'at'}", "/v1/images/base/mount");
    (void)ld_want_error(c, "forbidden", "POST", ld_textf("{'target':'%s'}", d->run_root).s,
                        "/v1/images/base/mount");
    (void)ld_want_error(c, "not_found", "POST", "{'target':'/mnt/none'}", "/v1/images/base/mount");
    json = ld_want(c, 200, "GET", NULL, "/v1/images/base");
    cr_expect(ld_is_null(json, "mountpoint"), "nothing stays of what failed");
    json = ld_want(c, 200, "POST", "{'target':'/mnt/at'}", "/v1/images/base/mount");
    cr_expect_str_eq(ld_str(json, "target"), "/mnt/at");
    at = ld_textf("%s", ld_str(json, "mountpoint"));
    ld_test_sh("grep -q '/mnt/at ro,nosuid,nodev' /proc/self/mountinfo");
    (void)ld_want(c, 200, "POST", "{'target':'/mnt/at'}", "/v1/images/base/mount");
    (void)ld_want_error(c, "conflict", "POST", "{'target':'/srv'}", "/v1/images/base/mount");
    for (int way = 0; way < 3; way++) {
        ld_daemon_kill(d);
        if (way == 1)
            ld_test_sh("umount /mnt/at"); /* as far as an unmount had come */
        if (way == 2)
            ld_test_sh("umount %s", at.s); /* as far as a mount had come */
        ld_daemon_again(d);
        json = ld_want(c, 200, "GET", NULL, "/v1/images/base");
        cr_expect_eq(ld_is_null(json, "target"), way == 2);
        cr_expect_eq(ld_test_count_mounts("/mnt/at"), way == 2 ? 0 : 1);
    }
    (void)ld_want(c, 200, "POST", "{'target':'/mnt/at'}", "/v1/images/base/mount");
    (void)ld_want(c, 200, "POST", NULL, "/v1/images/base/unmount");
    cr_expect_eq(ld_test_count_mounts("/mnt/at"), 0);
    cr_expect_eq(ld_test_count_mounts(at.s), 0);
}

LD_API_TEST(image_mounts, that_are_held_stay_and_keep_the_image)
{
    struct ld_text at;
    cJSON *json;
    pid_t pid;

    ld_close(ld_test_mkdir("at"));
    ld_have_base(c);
    json = ld_want(c, 200, "POST", "{'target':'/mnt/at'}", "/v1/images/base/mount");
    at = ld_textf("%s", ld_str(json, "mountpoint"));
    for (int i = 0; i < 2; i++) {
        pid = ld_test_hold(i ? "/mnt/at" : at.s);
        json = ld_want_error(c, "busy", "POST", NULL, "/v1/images/base/unmount");
        cr_expect_eq(ld_int(json, "details.holders.0.pid"), pid);
        cr_expect_eq(ld_test_count_mounts("/mnt/at"), 1);
        cr_expect_eq(ld_test_count_mounts(at.s), 1);
        ld_test_let_go(pid);
    }
    ld_test_sh("mount -t tmpfs foreign /mnt/at");
    (void)ld_want_error(c, "busy", "POST", NULL, "/v1/images/base/unmount?force=1");
    ld_test_sh("umount /mnt/at");
    (void)ld_want_error(c, "busy", "DELETE", NULL, "/v1/images/base");
    (void)ld_want(c, 200, "POST", "{'ref':'other'}", "/v1/images/base/tag");
    (void)ld_want(c, 200, "DELETE", NULL, "/v1/images/other");
    (void)ld_want(c, 200, "DELETE", NULL, "/v1/images/base?force=1&dry_run=1");
    cr_expect_eq(ld_test_count_mounts(at.s), 1);
    pid = ld_test_hold("/mnt/at");
    (void)ld_want(c, 204, "DELETE", NULL, "/v1/images/base?force=1");
    cr_expect_eq(ld_test_count_mounts("/mnt/at"), 0);
    cr_expect_eq(ld_test_count_mounts(at.s), 0);
    ld_test_let_go(pid);
    (void)ld_want_error(c, "not_found", "POST", NULL, "/v1/images/base/mount");
    (void)ld_want_error(c, "not_found", "POST", NULL, "/v1/images/base/unmount");
}
