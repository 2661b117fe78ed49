/* Ephemeral containers whose writable layer is a file system of its own: the limits hold although
 * the data root enforces none, all else is as with any container, and nothing of it is left. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cjson/cJSON.h>

#include "daemon/base/fdio.h"
#include "daemon/base/mem.h"
#include "tests/lib/api.h"
#include "tests/lib/crash.h"

enum { MIB = 1 << 20, SLACK = 64 << 10 /* openapi.yaml says how much */ };

/* Each test runs with each kind that can be used here. */
static const char *const kinds[] = {"tmpfs", "ext4"};

static bool is_usable(struct ld_client *c, size_t kind)
{
    cJSON *info = ld_want(c, 200, "GET", NULL, "/v1/info");

    cr_assert_str_eq(ld_str(info, ld_textf("backings.%zu.name", kind).s), kinds[kind]);
    return ld_bool(info, ld_textf("backings.%zu.usable", kind).s);
}

#define BACKING_TEST(sentence)                                                                     \
    static void backing_##sentence(struct ld_daemon *d, struct ld_client *c, const char *kind);    \
    LD_API_TEST(backing, sentence)                                                                 \
    {                                                                                              \
        ld_have_base(c);                                                                           \
        for (size_t i = 0; i < LD_ARRAY_LEN(kinds); i++) {                                         \
            if (is_usable(c, i))                                                                   \
                backing_##sentence(d, c, kinds[i]);                                                \
        }                                                                                          \
    }                                                                                              \
    static void backing_##sentence(struct ld_daemon *d __attribute__((unused)),                    \
                                   struct ld_client *c, const char *kind __attribute__((unused)))

/* With more members, or NULL; its id. */
static struct ld_text create(struct ld_client *c, const char *name, const char *kind, int mib,
                             const char *more)
{
    struct ld_text members = ld_textf("'ephemeral':true,'backing':'%s','size_limit':%d%s%s", kind,
                                      mib * MIB, more ? "," : "", more ? more : "");

    return ld_create(c, name, "base", members.s);
}

/* What is mounted for backings: without the tmpfs that these are mounted in. */
static size_t n_backings(const struct ld_daemon *d)
{
    return ld_test_count_mounts(ld_textf("%s/backing/", d->run_root).s);
}

/* No loop device of an image in this test's own tmpfs, within a moment: the kernel lets go of them
 * on its own time. */
static bool has_no_loops(void *arg)
{
    autofree char *text = NULL;

    (void)arg;
    ld_test_sh("losetup -l -n -O BACK-MAJ:MIN | grep -cw \"$(mountpoint -d /mnt)\" >loops || true");
    text = ld_test_read(AT_FDCWD, "loops");
    return strtoul(text, NULL, 10) == 0;
}

static void expect_nothing_left(const struct ld_daemon *d)
{
    ld_wait_reaped(d);
    cr_expect_eq(n_backings(d), 0);
    cr_expect(ld_test_wait(has_no_loops, NULL, 10), "a loop device is left");
    cr_expect_eq(ld_data_count(d, "w"), 0);
}

/* Writes until it is full; how much that was. */
static uint64_t fill(const char *root, const char *name)
{
    struct ld_text path = ld_textf("%s/%s", root, name);
    struct stat st;

    ld_test_sh("! head -c 64M /dev/zero >%s 2>full && grep -q 'No space left' full", path.s);
    cr_assert_eq(stat(path.s, &st), 0);
    return (uint64_t)st.st_blocks * 512;
}

/* ---- what a create takes ---- */

LD_API_TEST(backing, needs_an_ephemeral_container_with_a_size)
{
    static const struct {
        const char *code, *members, *says;
    } rows[] = {
        {"invalid", "'backing':'tmpfs','size_limit':1048576", "ephemeral"},
        {"invalid", "'backing':'tmpfs','ephemeral':true", "size_limit"},
        {"invalid", "'backing':'tmpfs','ephemeral':true,'inode_limit':100", "size_limit"},
        {"invalid", "'backing':'zfs','ephemeral':true,'size_limit':1048576", "zfs"},
        {"invalid", "'backing':1,'ephemeral':true,'size_limit':1048576", "backing"},
        {"unsupported", "'backing':'tmpfs','ephemeral':true,'size_limit':1048576,'driver':'vfs'",
         "vfs"},
    };
    cJSON *error;

    ld_have_base(c);
    for (size_t i = 0; i < LD_ARRAY_LEN(rows); i++) {
        struct ld_text body = ld_textf("{'image':'base','name':'web',%s}", rows[i].members);

        error = ld_want_error(c, rows[i].code, "POST", body.s, "/v1/containers");
        cr_expect(strstr(ld_str(error, "message"), rows[i].says), "%s", ld_str(error, "message"));
    }
    error = ld_want_error(c, "unsupported", "POST", "{'image':'base','size_limit':1048576}",
                          "/v1/containers");
    cr_expect(strstr(ld_str(error, "hint"), "prjquota"), "%s", ld_str(error, "hint"));
    cr_expect(strstr(ld_str(error, "hint"), "backing=tmpfs"), "%s", ld_str(error, "hint"));
    expect_nothing_left(d);
}

BACKING_TEST(is_told_and_part_of_what_a_put_compares)
{
    struct ld_text body =
        ld_textf("{'image':'base','ephemeral':true,'size_limit':1048576,'backing':'%s'}", kind);
    cJSON *json;

    (void)ld_want(c, 201, "PUT", body.s, "/v1/containers/web");
    json = ld_want(c, 200, "PUT", body.s, "/v1/containers/web");
    cr_expect_str_eq(ld_str(json, "backing"), kind);
    cr_expect_eq(ld_int(json, "size_limit"), MIB);
    (void)ld_want_error(c, "exists", "PUT", "{'image':'base','ephemeral':true}",
                        "/v1/containers/web");
    (void)ld_want_error(c, "invalid", "PATCH", "{'backing':null}", "/v1/containers/web");
    (void)ld_want(c, 204, "DELETE", NULL, "/v1/containers/web");
    expect_nothing_left(d);
}

LD_TEST(backing, by_ext4_is_refused_without_loop_devices)
{
    struct ld_daemon *d;
    cJSON *json;

    ld_test_sh("! test -e /dev/loop-control || mount --bind /dev/null /dev/loop-control");
    d = ld_daemon_start("data", NULL);
    ld_have_base(d->client);
    json = ld_want(d->client, 200, "GET", NULL, "/v1/info");
    cr_expect(ld_bool(json, "backings.0.usable"));
    cr_expect_not(ld_bool(json, "backings.1.usable"));
    cr_expect(strstr(ld_str(json, "backings.1.hint"), "modprobe loop"));
    json = ld_want_error(d->client, "unsupported", "POST",
                         "{'image':'base','ephemeral':true,'size_limit':1048576,'backing':'ext4'}",
                         "/v1/containers");
    cr_expect(strstr(ld_str(json, "hint"), "modprobe loop"), "%s", ld_str(json, "hint"));
    expect_nothing_left(d);
    ld_api_finish(d);
}

/* ---- the limits ---- */

BACKING_TEST(holds_a_container_to_its_size_and_no_other)
{
    struct ld_text one, two, free_one;
    uint64_t held;

    (void)create(c, "one", kind, 4, NULL);
    (void)create(c, "two", kind, 4, NULL);
    (void)ld_create(c, "free", "base", NULL);
    one = ld_mount(c, "one");
    two = ld_mount(c, "two");
    free_one = ld_mount(c, "free");
    held = fill(one.s, "big");
    cr_expect_leq(held, 4 * MIB + SLACK);
    cr_expect_geq(held, 4 * MIB - 256 * 1024, "%zu", (size_t)held);
    ld_test_sh("! echo more >%s/etc/more 2>/dev/null; head -c 3M /dev/zero >%s/big; "
               "head -c 8M /dev/zero >%s/big",
               one.s, two.s, free_one.s);
    ld_test_sh("rm %s/big && head -c 3M /dev/zero >%s/again", one.s, one.s);
    (void)ld_want(c, 204, "DELETE", NULL, "/v1/containers/one?force");
    (void)ld_want(c, 204, "DELETE", NULL, "/v1/containers/two?force");
    (void)ld_want(c, 204, "DELETE", NULL, "/v1/containers/free?force");
    expect_nothing_left(d);
}

static int count_files(const char *root, const char *dir)
{
    autofree char *text = NULL;

    ld_test_sh("mkdir -p %s/%s; for i in $(seq 200); do touch %s/%s/$i 2>/dev/null || break; done; "
               "ls %s/%s | wc -l >count",
               root, dir, root, dir, root, dir);
    text = ld_test_read(AT_FDCWD, "count");
    return (int)strtol(text, NULL, 10);
}

BACKING_TEST(holds_a_container_to_its_number_of_files)
{
    struct ld_text at;
    int n;

    (void)create(c, "web", kind, 4, "'inode_limit':100");
    at = ld_mount(c, "web");
    n = count_files(at.s, "many");
    cr_expect(n >= 95 && n <= 120, "%d", n);
    ld_test_sh("rm -r %s/many", at.s);
    ld_unmount(c, "web");
    (void)ld_want(c, 204, "DELETE", NULL, "/v1/containers/web");
    expect_nothing_left(d);
}

LD_API_TEST(backing, changes_its_size_while_it_is_mounted)
{
    struct ld_text at;
    cJSON *json, *error;

    ld_have_base(c);
    (void)create(c, "web", "tmpfs", 1, NULL);
    at = ld_mount(c, "web");
    (void)fill(at.s, "big");
    json = ld_want(c, 200, "PATCH", "{'size_limit':4194304}", "/v1/containers/web");
    cr_expect_eq(ld_int(json, "size_limit"), 4 * MIB);
    ld_test_sh("head -c 2M /dev/zero >>%s/big", at.s);
    error = ld_want_error(c, "conflict", "PATCH", "{'size_limit':1048576}", "/v1/containers/web");
    cr_expect(strstr(ld_str(error, "message"), "holds more"), "%s", ld_str(error, "message"));
    (void)ld_want_error(c, "conflict", "PATCH", "{'size_limit':null}", "/v1/containers/web");
    json = ld_want(c, 200, "GET", NULL, "/v1/containers/web");
    cr_expect_eq(ld_int(json, "size_limit"), 4 * MIB);
    ld_test_sh("rm %s/big", at.s);
    (void)ld_want(c, 200, "PATCH", "{'size_limit':1048576,'inode_limit':100}",
                  "/v1/containers/web");
    cr_expect_leq(fill(at.s, "big"), MIB);
    ld_test_sh("rm %s/big", at.s);
    cr_expect_leq(count_files(at.s, "many"), 104);
    (void)ld_want(c, 200, "PATCH", "{'inode_limit':null}", "/v1/containers/web");
    cr_expect_eq(count_files(at.s, "many"), 200);
    ld_unmount(c, "web");
    (void)ld_want(c, 200, "PATCH", "{'size_limit':2097152}", "/v1/containers/web");
    ld_daemon_kill(d);
    ld_daemon_again(d);
    cr_expect_geq(fill(ld_mount(c, "web").s, "big"), MIB);
    (void)ld_want(c, 204, "DELETE", NULL, "/v1/containers/web?force");
    expect_nothing_left(d);
}

LD_API_TEST(backing, by_ext4_keeps_the_size_it_was_made_with)
{
    cJSON *error;

    ld_have_base(c);
    if (!is_usable(c, 1))
        return;
    (void)ld_want_error(
        c, "invalid", "POST",
        "{'image':'base','ephemeral':true,'size_limit':9007199254740992,'backing':'ext4'}",
        "/v1/containers");
    (void)create(c, "web", "ext4", 4, NULL);
    error = ld_want_error(c, "conflict", "PATCH", "{'size_limit':8388608}", "/v1/containers/web");
    cr_expect(strstr(ld_str(error, "message"), "keeps the size"), "%s", ld_str(error, "message"));
    (void)ld_want_error(c, "conflict", "PATCH", "{'size_limit':null}", "/v1/containers/web");
    (void)ld_want(c, 200, "PATCH", "{'size_limit':4194304,'labels':{'a':'b'}}",
                  "/v1/containers/web");
    ld_daemon_stop(d);
    ld_daemon_again(d);
    cr_expect_eq(ld_count(ld_want(c, 200, "GET", NULL, "/v1/info"), "warnings"), 0);
    (void)ld_want(c, 204, "DELETE", NULL, "/v1/containers/web");
    expect_nothing_left(d);
}

/* The image is sparse: what is deleted in it is given back. */
LD_API_TEST(backing, by_ext4_takes_what_it_holds)
{
    struct ld_text at;

    ld_have_base(c);
    if (!is_usable(c, 1))
        return;
    (void)create(c, "web", "ext4", 64, NULL);
    ld_test_sh("test $(du -k %s/w/*/image | cut -f1) -lt 512", d->data_root);
    at = ld_mount(c, "web");
    ld_test_sh("head -c 32M /dev/urandom >%s/big && sync -f %s/backing/*", at.s, d->run_root);
    ld_test_sh("test $(du -k %s/w/*/image | cut -f1) -gt 32000", d->data_root);
    ld_expect_df_is_du(d, c);
    ld_test_sh("rm %s/big && sync -f %s/backing/*", at.s, d->run_root);
    ld_test_sh("test $(du -k %s/w/*/image | cut -f1) -lt 2048", d->data_root);
    ld_unmount(c, "web");
    (void)ld_want(c, 204, "DELETE", NULL, "/v1/containers/web");
    expect_nothing_left(d);
}

LD_TEST(backing, tells_when_it_is_nearly_full)
{
    static const char *const args[] = {"--config", "/mnt/layerd.conf", NULL};
    struct ld_stream *events;
    struct ld_daemon *d;

    ld_test_sh("umask 022; printf '[storage]\\nwatch_limits = 1s\\n' >layerd.conf");
    d = ld_daemon_start("data", args);
    ld_have_base(d->client);
    events = ld_stream_open(d->socket, "/v1/events?follow=1");
    (void)create(d->client, "web", "tmpfs", 4, "'inode_limit':100");
    ld_test_sh("cd %s && head -c 3800000 /dev/zero >big", ld_mount(d->client, "web").s);
    cr_expect(ld_stream_wait(events, "\"percent\":80", 20), "%s", ld_stream_text(events));
    cr_expect(strstr(ld_stream_text(events), "container.limit"));
    ld_test_sh("cd %s && touch $(seq 96)", ld_mount(d->client, "web").s);
    cr_expect(ld_stream_wait(events, "inodes", 20), "%s", ld_stream_text(events));
    ld_stream_close(events);
    (void)ld_want(d->client, 204, "DELETE", NULL, "/v1/containers/web?force");
    ld_api_finish(d);
}

/* ---- as any container ---- */

BACKING_TEST(is_read_and_copied_like_any_other)
{
    struct ld_text at, was;
    struct ld_blob told;
    cJSON *json;

    (void)create(c, "web", kind, 4, NULL);
    ld_change(c, "web", "echo one >etc/one; rm -r usr; mkdir usr; chmod 4755 etc/one");
    told = ld_changes(c, "web");
    cr_expect(strstr(told.data, "added /etc/one"), "%s", told.data);
    ld_blob_done(&told);
    was = ld_root_digest(c, "web");
    json = ld_want(c, 200, "GET", NULL, "/v1/containers/web/explain?path=/etc/one");
    (void)json;
    json = ld_want(c, 200, "GET", NULL, "/v1/containers/web?size=1");
    cr_expect_gt(ld_int(json, "size.bytes"), 0);
    /* Idle, then mounted, then with something that writes to it. */
    (void)ld_take_snapshot(c, "web", "idle");
    at = ld_mount(c, "web");
    ld_test_sh("echo two >%s/etc/two", at.s);
    (void)ld_take_snapshot(c, "web", "mounted");
    ld_test_sh("echo three >%s/etc/three", at.s);
    json = ld_want(c, 200, "GET", NULL, "/v1/containers/web/holders");
    cr_expect_eq(ld_count(json, "items"), 0);
    ld_unmount(c, "web");

    (void)ld_want(c, 201, "POST", "{'name':'copy'}", "/v1/containers/web/clone");
    json = ld_want(c, 200, "GET", NULL, "/v1/containers/copy");
    cr_expect_str_eq(ld_str(json, "backing"), kind);
    cr_expect_eq(ld_int(json, "size_limit"), 4 * MIB);
    at = ld_mount(c, "copy");
    ld_test_sh("grep -q three %s/etc/three", at.s);
    cr_expect_leq(fill(at.s, "big"), 4 * MIB + SLACK);
    ld_unmount(c, "copy");

    (void)ld_want(c, 200, "POST", NULL, "/v1/containers/web/snapshots/mounted/rollback");
    at = ld_mount(c, "web");
    ld_test_sh("grep -q two %s/etc/two && ! test -e %s/etc/three", at.s, at.s);
    cr_expect_leq(fill(at.s, "big"), 4 * MIB + SLACK);
    ld_unmount(c, "web");
    (void)ld_want(c, 200, "POST", NULL, "/v1/containers/web/snapshots/idle/rollback");
    cr_expect_str_eq(ld_root_digest(c, "web").s, was.s);
    cr_expect_eq(n_backings(d), 2);

    (void)ld_want(c, 201, "POST", "{'ref':'made'}", "/v1/containers/web/commit");
    (void)ld_create(c, "plain", "made", NULL);
    cr_expect_str_eq(ld_root_digest(c, "plain").s, was.s);
    (void)ld_want(c, 204, "DELETE", NULL, "/v1/containers/plain");
    (void)ld_want(c, 204, "DELETE", NULL, "/v1/images/made");
    (void)ld_want(c, 204, "DELETE", NULL, "/v1/containers/web");
    (void)ld_want(c, 204, "DELETE", NULL, "/v1/containers/copy");
    expect_nothing_left(d);
}

/* ---- the daemon ends ---- */

BACKING_TEST(outlives_the_daemon)
{
    struct ld_text at;

    (void)create(c, "mounted", kind, 4, NULL);
    (void)create(c, "idle", kind, 4, NULL);
    ld_change(c, "idle", "echo idle >etc/kept");
    at = ld_mount(c, "mounted");
    ld_test_sh("echo mounted >%s/etc/kept", at.s);
    for (int way = 0; way < 2; way++) {
        if (way == 0)
            ld_daemon_stop(d);
        else
            ld_daemon_kill(d);
        ld_test_sh("grep -q mounted %s/etc/kept", at.s);
        ld_daemon_again(d);
        cr_expect_eq(n_backings(d), 2);
        cr_expect_str_eq(ld_mount(c, "mounted").s, at.s);
        ld_test_sh("grep -q idle %s/etc/kept", ld_mount(c, "idle").s);
        ld_unmount(c, "idle");
    }
    cr_expect_leq(fill(at.s, "big"), 4 * MIB + SLACK);
    (void)ld_want(c, 204, "DELETE", NULL, "/v1/containers/mounted?force");
    (void)ld_want(c, 204, "DELETE", NULL, "/v1/containers/idle");
    expect_nothing_left(d);
}

BACKING_TEST(is_found_damaged_when_somebody_unmounted_it)
{
    cJSON *json;

    (void)create(c, "web", kind, 4, NULL);
    ld_change(c, "web", "echo one >etc/one");
    (void)ld_take_snapshot(c, "web", "first");
    ld_test_sh("umount -l %s/backing/*", d->run_root);
    (void)ld_want_error(c, "corrupt", "POST", NULL, "/v1/containers/web/mount");
    ld_daemon_stop(d);
    ld_daemon_again(d);
    json = ld_want(c, 200, "GET", NULL, "/v1/containers/web");
    cr_expect_str_eq(ld_str(json, "state"), "damaged");
    cr_expect(strstr(ld_str(json, "reason"), "unmounted"), "%s", ld_str(json, "reason"));
    (void)ld_want(c, 200, "POST", NULL, "/v1/containers/web/snapshots/first/rollback");
    ld_test_sh("grep -q one %s/etc/one", ld_mount(c, "web").s);
    ld_unmount(c, "web");
    ld_test_sh("umount -l %s/backing/*", d->run_root);
    (void)ld_want(c, 204, "DELETE", NULL, "/v1/containers/web");
    expect_nothing_left(d);
}

LD_API_TEST(backing, without_a_container_is_unmounted_by_a_start)
{
    ld_have_base(c);
    (void)create(c, "web", "tmpfs", 1, NULL);
    ld_daemon_kill(d);
    /* Killed before the record, and before the mount. */
    ld_test_sh("cd %s; n=$(ls w); a=$((n+1)) b=$((n+2)); mkdir w/$a; : >staging/making-$a; "
               "cd %s/backing; mkdir $a $b; mount -t tmpfs layerd-backing $a; mkdir $a/$a",
               d->data_root, d->run_root);
    ld_daemon_again(d);
    cr_expect_eq(n_backings(d), 1);
    ld_test_sh("test $(ls %s/backing | wc -l) = 1", d->run_root);
    cr_expect_eq(ld_data_count(d, "w"), 1);
    cr_expect_eq(ld_data_count(d, "quarantine"), 0);
    (void)ld_want(c, 204, "DELETE", NULL, "/v1/containers/web");
    expect_nothing_left(d);
}

static const char *crash_kind;

/* Makes containers and removes each other one until the daemon is gone. */
static void make_and_remove(struct ld_crash *crash)
{
    for (int i = 0; i < 2000; i++) {
        struct ld_text body = ld_textf("{'image':'base','name':'c%d','ephemeral':true,"
                                       "'backing':'%s','size_limit':4194304}",
                                       crash->made, crash_kind);
        struct ld_text target = ld_textf("/v1/containers/c%d", crash->gone);

        if (!ld_crash_made(crash, ld_crash_call(crash, "POST", body.s, crash->owner)) ||
            (i % 2 && !ld_crash_remove_oldest(crash, target.s)))
            break;
    }
}

BACKING_TEST(is_whole_or_gone_after_a_kill)
{
    for (long ms = 20; ms <= 140; ms += 40) {
        struct ld_crash crash;
        cJSON *json;
        int n;

        crash_kind = kind;
        ld_crash_start(&crash, d, "/v1/containers", make_and_remove);
        ld_crash_kill(&crash, ms);
        json = ld_want(c, 200, "GET", NULL, "/v1/containers");
        n = ld_count(json, "items");
        cr_expect_eq(n_backings(d), (size_t)n);
        cr_expect_geq(n, crash.made - ld_crash_first(&crash));
        cr_expect_eq(ld_data_count(d, "quarantine"), 0);
        for (int i = 0; i < n; i++) {
            struct ld_text id = ld_textf(
                "%s", ld_str(ld_want(c, 200, "GET", NULL, "/v1/containers"), "items.0.id"));

            ld_change(c, id.s, "echo works >etc/works");
            (void)ld_want(c, 204, "DELETE", NULL, "/v1/containers/%s", id.s);
        }
        expect_nothing_left(d);
    }
}

/* ---- removing ---- */

BACKING_TEST(goes_with_its_last_user)
{
    struct ld_text at;
    pid_t holder;

    ld_have_base(c);
    (void)create(c, "web", kind, 4, NULL);
    at = ld_mount(c, "web");
    ld_test_sh("echo one >%s/etc/one", at.s);
    holder = ld_hold_elsewhere(at.s);
    (void)ld_want_error(c, "busy", "DELETE", NULL, "/v1/containers/web");
    (void)ld_want(c, 204, "DELETE", NULL, "/v1/images/base?force");
    (void)ld_want(c, 204, "DELETE", NULL, "/v1/containers/web?force");
    ld_test_sh("for i in $(seq 20); do grep -q one /proc/%d/root/mnt/held/etc/one && "
               "grep -q root /proc/%d/root/mnt/held/etc/passwd || exit 1; sleep 0.05; done",
               holder, holder);
    ld_hold_end(holder);
    expect_nothing_left(d);
    ld_wait_count(d, "layers", 1);
}

/* Whoever enters a mount namespace of his own, as services do, has a copy of what is mounted. */
LD_API_TEST(backing, is_unmounted_in_other_namespaces_too)
{
    struct ld_text in_there =
        ld_textf("grep -c ' %s/backing/' /proc/$(cat pid)/mountinfo", d->run_root);

    ld_have_base(c);
    (void)create(c, "web", "tmpfs", 1, NULL);
    ld_test_sh("unshare -m --propagation slave sh -c 'echo $$ >pid; exec sleep 100' & "
               "until test -s pid; do sleep 0.01; done");
    ld_test_sh("test $(%s) = 1", in_there.s);
    (void)ld_want(c, 204, "DELETE", NULL, "/v1/containers/web");
    ld_test_sh("test $(%s) = 0; kill $(cat pid)", in_there.s);
}

LD_TEST(backing, is_not_kept_in_the_trash)
{
    static const char *const args[] = {"--config", "/mnt/layerd.conf", NULL};
    struct ld_daemon *d;
    struct ld_client *c;

    ld_test_sh("umask 022; printf '[trash]\\nkeep_containers = 1h\\n' >layerd.conf");
    d = ld_daemon_start("data", args);
    c = d->client;
    ld_have_base(c);
    for (size_t i = 0; i < LD_ARRAY_LEN(kinds); i++) {
        if (!is_usable(c, i))
            continue;
        (void)create(c, "web", kinds[i], 4, NULL);
        (void)ld_want(c, 204, "DELETE", NULL, "/v1/containers/web");
        cr_expect_eq(n_backings(d), 0);
        expect_nothing_left(d);
    }
    ld_api_finish(d);
}
