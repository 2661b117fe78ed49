/* Containers mounted at a place of the caller's choice: shown, found again, taken away; and places
 * that are refused. */
#include <string.h>

#include <cjson/cJSON.h>

#include "daemon/base/fdio.h"
#include "daemon/base/mem.h"
#include "tests/lib/api.h"

/* The whole tree of a container with a volume and a tmpfs in it. */
enum { WHOLE = 3 };
static const char members[] =
    "'driver':'%s','mounts':[{'type':'volume','source':'v','target':'/var/"
    "empty'},{'type':'tmpfs','target':'/tmp'}]";
static const char *const drivers[] = {"overlay", "vfs"};

static struct ld_text make_target(const char *name)
{
    ld_close(ld_test_mkdir(name));
    return ld_textf("%s/%s", ld_test_dir(), name);
}

static struct ld_text body(const char *target)
{
    return ld_textf("{'target':'%s'}", target);
}

static void make_web(struct ld_client *c, const char *driver)
{
    autofree char *text = NULL;

    if (strcmp(driver, "overlay") == 0)
        ld_have_base(c);
    text = ld_asprintf(members, driver);
    (void)ld_create(c, "web", "base", text);
}

LD_API_TEST(targets, show_the_whole_container)
{
    struct ld_text at = make_target("at"), ask = body(at.s);

    for (size_t k = 0; k < LD_ARRAY_LEN(drivers); k++) {
        cJSON *json;

        make_web(c, drivers[k]);
        json = ld_want(c, 200, "POST", ask.s, "/v1/containers/web/mount");
        cr_expect_str_eq(ld_str(json, "target"), at.s);
        cr_expect_eq(ld_test_count_mounts(at.s), WHOLE);
        ld_test_sh("echo one > %s/etc/one; grep -q one %s/etc/one; echo two > %s/tmp/two; "
                   "grep -q two %s/tmp/two; echo three > %s/var/empty/three",
                   at.s, ld_str(json, "mountpoint"), ld_str(json, "mountpoint"), at.s, at.s);
        ld_test_sh("grep -q '%s .*nosuid,nodev' /proc/self/mountinfo", at.s);
        json = ld_want(c, 200, "POST", ask.s, "/v1/containers/web/mount");
        cr_expect_str_eq(ld_str(json, "target"), at.s, "idempotent");
        (void)ld_want(c, 200, "POST", NULL, "/v1/containers/web/mount");
        (void)ld_want_error(c, "conflict", "POST", "{'target':'/srv'}", "/v1/containers/web/mount");
        (void)ld_want_error(c, "conflict", "POST",
                            ld_textf("{'target':'%s','trusted':true}", at.s).s,
                            "/v1/containers/web/mount");
        json = ld_want(c, 200, "POST", NULL, "/v1/containers/web/unmount");
        cr_expect(ld_is_null(json, "target"));
        cr_expect_eq(ld_test_count_mounts(at.s), 0);
        json = ld_want(c, 200, "POST", NULL, "/v1/containers/web/mount");
        cr_expect(ld_is_null(json, "target"), "the next mount is its own");
        (void)ld_want_error(c, "conflict", "POST", ask.s, "/v1/containers/web/mount");
        ld_unmount(c, "web");
        (void)ld_want(c, 204, "DELETE", NULL, "/v1/containers/web");
    }
}

LD_API_TEST(targets, can_be_read_only_or_trusted)
{
    struct ld_text at = make_target("at");

    ld_have_base(c);
    (void)ld_create(c, "web", "base", NULL);
    (void)ld_want(c, 200, "POST",
                  ld_textf("{'target':'%s','read_only':true,'trusted':true}", at.s).s,
                  "/v1/containers/web/mount");
    ld_test_sh("! touch %s/etc/x 2>/dev/null; ! grep -q '%s .*nosuid' /proc/self/mountinfo", at.s,
               at.s);
    ld_unmount(c, "web");
    (void)ld_want_error(c, "invalid", "POST", "{'trusted':true}", "/v1/containers/web/mount");
}

LD_API_TEST(targets, outlive_the_daemon)
{
    struct ld_text at = make_target("at"), ask = body(at.s);

    for (size_t k = 0; k < LD_ARRAY_LEN(drivers); k++) {
        make_web(c, drivers[k]);
        (void)ld_want(c, 200, "POST", ask.s, "/v1/containers/web/mount");
        for (int way = 0; way < 2; way++) {
            cJSON *json;

            if (way == 0)
                ld_daemon_stop(d);
            else
                ld_daemon_kill(d);
            ld_test_sh("test -e %s/etc/passwd", at.s);
            ld_daemon_again(d);
            json = ld_want(c, 200, "GET", NULL, "/v1/containers/web");
            cr_expect_str_eq(ld_str(json, "target"), at.s);
            (void)ld_want(c, 200, "POST", ask.s, "/v1/containers/web/mount");
            cr_expect_eq(ld_test_count_mounts(at.s), WHOLE);
        }
        ld_unmount(c, "web");
        cr_expect_eq(ld_test_count_mounts(at.s), 0);
        (void)ld_want(c, 204, "DELETE", NULL, "/v1/containers/web");
    }
}

LD_API_TEST(targets, are_whole_again_after_a_kill_within_a_mount_or_an_unmount)
{
    struct ld_text at = make_target("at"), ask = body(at.s);

    for (size_t k = 0; k < LD_ARRAY_LEN(drivers); k++) {
        struct ld_text mountpoint;
        cJSON *json;

        make_web(c, drivers[k]);
        json = ld_want(c, 200, "POST", ask.s, "/v1/containers/web/mount");
        mountpoint = ld_textf("%s", ld_str(json, "mountpoint"));
        ld_daemon_kill(d);
        ld_test_sh("umount -R %s", at.s); /* as far as an unmount had come */
        ld_daemon_again(d);
        json = ld_want(c, 200, "GET", NULL, "/v1/containers/web");
        cr_expect_str_eq(ld_str(json, "target"), at.s);
        cr_expect_eq(ld_test_count_mounts(at.s), WHOLE);
        ld_daemon_kill(d);
        ld_test_sh("umount -R %s", mountpoint.s); /* as far as a mount had come */
        ld_daemon_again(d);
        json = ld_want(c, 200, "GET", NULL, "/v1/containers/web");
        cr_expect_str_eq(ld_str(json, "state"), "created");
        cr_expect_eq(ld_test_count_mounts(at.s), 0);
        (void)ld_want(c, 200, "POST", ask.s, "/v1/containers/web/mount");
        ld_unmount(c, "web");
        cr_expect_eq(ld_test_count_mounts(at.s), 0);
        (void)ld_want(c, 204, "DELETE", NULL, "/v1/containers/web");
    }
}

LD_API_TEST(targets, that_are_held_stay_and_name_who_holds_them)
{
    struct ld_text at = make_target("at"), ask = body(at.s);

    for (size_t k = 0; k < LD_ARRAY_LEN(drivers); k++) {
        const char *const where[] = {"etc", "tmp", ""};
        struct ld_text mountpoint;
        cJSON *json;
        pid_t pid;

        make_web(c, drivers[k]);
        json = ld_want(c, 200, "POST", ask.s, "/v1/containers/web/mount");
        mountpoint = ld_textf("%s", ld_str(json, "mountpoint"));
        for (size_t i = 0; i < LD_ARRAY_LEN(where); i++) {
            pid = ld_test_hold(ld_textf("%s/%s", at.s, where[i]).s);
            json = ld_want_error(c, "busy", "POST", NULL, "/v1/containers/web/unmount");
            cr_expect_eq(ld_int(json, "details.holders.0.pid"), pid);
            cr_expect_eq(ld_test_count_mounts(at.s), WHOLE);
            ld_test_let_go(pid);
            /* Held at its own mount point, it is put back at the target. */
            pid = ld_test_hold(ld_textf("%s/%s", mountpoint.s, where[i]).s);
            (void)ld_want_error(c, "busy", "POST", NULL, "/v1/containers/web/unmount");
            cr_expect_eq(ld_test_count_mounts(at.s), WHOLE);
            cr_expect_eq(ld_test_count_mounts(mountpoint.s), WHOLE);
            ld_test_let_go(pid);
        }
        pid = ld_test_hold(at.s);
        json = ld_want(c, 200, "POST", NULL, "/v1/containers/web/unmount?force=1");
        cr_expect(ld_is_null(json, "target"));
        cr_expect_eq(ld_test_count_mounts(at.s), 0);
        cr_expect_eq(ld_test_count_mounts(mountpoint.s), 0);
        ld_test_let_go(pid);
        (void)ld_want(c, 200, "POST", ask.s, "/v1/containers/web/mount");
        (void)ld_want_error(c, "busy", "DELETE", NULL, "/v1/containers/web");
        (void)ld_want(c, 204, "DELETE", NULL, "/v1/containers/web?force=1");
        cr_expect_eq(ld_test_count_mounts(at.s), 0);
    }
}

LD_API_TEST(targets, never_lose_what_others_mounted_there)
{
    struct ld_text at = make_target("at"), ask = body(at.s);
    cJSON *json;

    make_web(c, "overlay");
    (void)ld_want(c, 200, "POST", ask.s, "/v1/containers/web/mount");
    ld_test_sh("mount -t tmpfs foreign %s", at.s);
    json = ld_want_error(c, "busy", "POST", NULL, "/v1/containers/web/unmount");
    cr_expect(strstr(ld_str(json, "message"), at.s), "%s", ld_str(json, "message"));
    (void)ld_want_error(c, "busy", "POST", NULL, "/v1/containers/web/unmount?force=1");
    ld_daemon_kill(d);
    ld_daemon_again(d);
    (void)ld_want_error(c, "busy", "POST", NULL, "/v1/containers/web/unmount");
    ld_test_sh("umount %s; mount -t tmpfs foreign %s/etc", at.s, at.s);
    json = ld_want_error(c, "busy", "POST", NULL, "/v1/containers/web/unmount");
    cr_expect(strstr(ld_str(json, "message"), "etc"), "%s", ld_str(json, "message"));
    ld_test_sh("umount %s/etc", at.s);
    ld_unmount(c, "web");
    cr_expect_eq(ld_test_count_mounts(at.s), 0);
}

LD_API_TEST(targets, that_somebody_unmounted_are_forgotten)
{
    struct ld_text at = make_target("at"), ask = body(at.s);
    cJSON *json;

    make_web(c, "overlay");
    json = ld_want(c, 200, "POST", ask.s, "/v1/containers/web/mount");
    ld_test_sh("umount -R %s", at.s);
    json = ld_want(c, 200, "GET", NULL, "/v1/containers/web");
    cr_expect(ld_is_null(json, "target"));
    ld_unmount(c, "web");
    /* Or the other way round: there is one way out. */
    json = ld_want(c, 200, "POST", ask.s, "/v1/containers/web/mount");
    ld_test_sh("umount -R %s", ld_str(json, "mountpoint"));
    (void)ld_want_error(c, "busy", "POST", NULL, "/v1/containers/web/mount");
    (void)ld_want_error(c, "busy", "DELETE", NULL, "/v1/containers/web");
    json = ld_want(c, 200, "POST", NULL, "/v1/containers/web/unmount");
    cr_expect(ld_bool(json, "was_mounted"));
    cr_expect_eq(ld_test_count_mounts(at.s), 0);
    (void)ld_mount(c, "web");
    ld_unmount(c, "web");
}

LD_API_TEST(targets, that_are_not_safe_are_refused)
{
    struct ld_text mountpoint, taken = make_target("taken"), at = make_target("at");
    static const struct {
        const char *code, *path;
    } rows[] = {
        {"invalid", "etc"},
        {"invalid", "/"},
        {"invalid", "/mnt//at"},
        {"invalid", "/mnt/./at"},
        {"invalid", "/mnt/at/../at"},
        {"invalid", "/mnt/at/"},
        {"not_found", "/mnt/none"},
        {"not_found", "/mnt/none/at"},
        {"conflict", "/mnt/file"},
        {"conflict", "/mnt/file/at"},
        {"conflict", "/mnt/full"},
        {"forbidden", "/mnt/link"},
        {"forbidden", "/mnt/link/in"},
        {"forbidden", "/mnt/theirs/at"},
        {"forbidden", "/mnt/open/at"},
        {"forbidden", "/mnt/group/at"},
        {"forbidden", "/mnt/taken/etc"},
        {"forbidden", "/mnt/copied/etc"},
    };

    ld_test_sh(
        "cd /mnt && touch file && mkdir -p link.d/in theirs/at open/at group/at full copied "
        "above/below && "
        "chmod 755 link.d theirs full copied above && ln -s link.d link && chown 1 theirs && "
        "chmod 1777 open && chmod 775 group && mount -t tmpfs x full && mount --bind %s "
        "above/below",
        d->data_root);
    make_web(c, "overlay");
    (void)ld_create(c, "held", "base", NULL);
    (void)ld_create(c, "copy", "base", "'driver':'vfs'");
    (void)ld_want(c, 200, "POST", body(taken.s).s, "/v1/containers/held/mount");
    (void)ld_want(c, 200, "POST", body("/mnt/copied").s, "/v1/containers/copy/mount");
    for (size_t i = 0; i < LD_ARRAY_LEN(rows); i++)
        (void)ld_want_error(c, rows[i].code, "POST", body(rows[i].path).s,
                            "/v1/containers/web/mount");
    (void)ld_want_error(c, "forbidden", "POST", body(d->data_root).s, "/v1/containers/web/mount");
    (void)ld_want_error(c, "forbidden", "POST", body(d->run_root).s, "/v1/containers/web/mount");
    (void)ld_want_error(c, "forbidden", "POST", body(ld_textf("%s/w", d->data_root).s).s,
                        "/v1/containers/web/mount");
    (void)ld_want_error(c, "forbidden", "POST", body("/mnt/above/below/w").s,
                        "/v1/containers/web/mount");
    mountpoint = ld_mount(c, "web");
    ld_unmount(c, "web");
    (void)ld_want_error(c, "forbidden", "POST", body(mountpoint.s).s, "/v1/containers/web/mount");
    (void)ld_want(c, 200, "POST", body(at.s).s, "/v1/containers/web/mount");
    ld_unmount(c, "web");
    ld_unmount(c, "held");
    ld_unmount(c, "copy");
    ld_test_sh("umount /mnt/full /mnt/above/below");
    cr_expect_eq(ld_test_count_mounts("/mnt/taken"), 0);
}

LD_TEST(targets, above_the_roots_are_refused)
{
    struct ld_daemon *d;

    ld_test_sh("mkdir -p /mnt/a/b && chmod 755 /mnt/a /mnt/a/b");
    d = ld_daemon_start("a/b/data", NULL);
    ld_have_base(d->client);
    (void)ld_create(d->client, "web", "base", NULL);
    (void)ld_want_error(d->client, "forbidden", "POST", "{'target':'/mnt/a'}",
                        "/v1/containers/web/mount");
    (void)ld_want_error(d->client, "forbidden", "POST", "{'target':'/mnt/a/b'}",
                        "/v1/containers/web/mount");
    ld_api_finish(d);
}
