/* OCI runtime bundles of containers. What runtimes make of them: tests/e2e/run.sh. */
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include <cjson/cJSON.h>

#include "daemon/base/fdio.h"
#include "daemon/base/mem.h"
#include "tests/lib/api.h"

static const char config[] = "'config':{'cmd':['tool','-x'],'env':['A=1'],'user':'root'}";

static bool is_there(const char *path)
{
    return access(path, F_OK) == 0;
}

/* The config.json of a bundle, which the caller deletes. */
static cJSON *read_config(const char *bundle)
{
    autofree char *path = ld_asprintf("%s/config.json", bundle);
    autofree char *text = ld_test_read(AT_FDCWD, path);
    cJSON *json = cJSON_Parse(text);

    cr_assert(json, "%s", text);
    return json;
}

static bool has_item(const cJSON *list, const char *text)
{
    const cJSON *item;

    cJSON_ArrayForEach (item, list) {
        if (strcmp(item->valuestring, text) == 0)
            return true;
    }
    return false;
}

LD_API_TEST(bundles, are_made_on_the_mounted_root_and_go_with_it)
{
    struct ld_text bundle, mountpoint;
    cJSON *json;
    cJSON *made;

    ld_have_base(c);
    (void)ld_create(c, "web", "base", config);
    json = ld_want(c, 200, "POST", NULL, "/v1/containers/web/bundle");
    cr_expect_str_eq(ld_str(json, "state"), "mounted");
    bundle = ld_textf("%s", ld_str(json, "bundle"));
    mountpoint = ld_textf("%s", ld_str(json, "mountpoint"));
    made = read_config(bundle.s);
    cr_expect_str_eq(ld_str(made, "root.path"), mountpoint.s);
    cr_expect_not(ld_bool(made, "root.readonly"));
    cr_expect_str_eq(ld_str(made, "hostname"), "web");
    cr_expect_str_eq(ld_str(made, "process.args.0"), "tool");
    cr_expect_str_eq(ld_str(made, "process.args.1"), "-x");
    cr_expect_str_eq(ld_str(made, "process.cwd"), "/");
    cr_expect_not(ld_bool(made, "process.terminal"));
    cr_expect(has_item(ld_at(made, "process.env"), "A=1"));
    cr_expect(has_item(ld_at(made, "process.env"), "HOSTNAME=web"));
    cr_expect(has_item(ld_at(made, "process.env"), "HOME=/"));
    cr_expect_eq(ld_count(made, "linux.namespaces"), 6);
    cJSON_Delete(made);

    json =
        ld_want(c, 200, "POST", "{'terminal':true,'network':'host'}", "/v1/containers/web/bundle");
    made = read_config(bundle.s);
    cr_expect(ld_bool(made, "process.terminal"));
    cr_expect_eq(ld_count(made, "linux.namespaces"), 5);
    cJSON_Delete(made);
    (void)ld_want_error(c, "conflict", "POST", "{'path':'/srv'}", "/v1/containers/web/bundle");

    ld_daemon_kill(d);
    ld_daemon_again(d);
    json = ld_want(c, 200, "GET", NULL, "/v1/containers/web");
    cr_expect_str_eq(ld_str(json, "bundle"), bundle.s);
    json = ld_want(c, 200, "POST", NULL, "/v1/containers/web/unmount");
    cr_expect(ld_is_null(json, "bundle"));
    cr_expect_not(is_there(bundle.s));
}

LD_API_TEST(bundles, of_a_read_only_mount_say_so)
{
    cJSON *json;
    cJSON *made;

    ld_have_base(c);
    (void)ld_create(c, "web", "base", config);
    (void)ld_want(c, 200, "POST", "{'read_only':true}", "/v1/containers/web/mount");
    json = ld_want(c, 200, "POST", NULL, "/v1/containers/web/bundle");
    made = read_config(ld_str(json, "bundle"));
    cr_expect(ld_bool(made, "root.readonly"));
    cJSON_Delete(made);
    (void)ld_want(c, 204, "DELETE", NULL, "/v1/containers/web?force=1");
}

LD_API_TEST(bundles, can_lie_in_a_folder_of_the_callers)
{
    cJSON *json;

    ld_have_base(c);
    (void)ld_create(c, "web", "base", config);
    (void)ld_create(c, "db", "base", config);
    ld_close(ld_test_mkdir("b"));
    ld_test_sh("touch /mnt/b/theirs");
    json = ld_want(c, 200, "POST", "{'path':'/mnt/b'}", "/v1/containers/web/bundle");
    cr_expect_str_eq(ld_str(json, "bundle"), "/mnt/b");
    (void)ld_want(c, 200, "POST", "{'path':'/mnt/b'}", "/v1/containers/web/bundle");
    (void)ld_want_error(c, "conflict", "POST", NULL, "/v1/containers/web/bundle");
    (void)ld_want_error(c, "conflict", "POST", "{'path':'/mnt/b'}", "/v1/containers/db/bundle");
    json = ld_want(c, 200, "GET", NULL, "/v1/containers/db");
    cr_expect_str_eq(ld_str(json, "state"), "created", "refused before it is mounted");
    ld_daemon_kill(d);
    ld_daemon_again(d);
    (void)ld_want(c, 204, "DELETE", NULL, "/v1/containers/web?force=1");
    cr_expect_not(is_there("/mnt/b/config.json"));
    cr_expect(is_there("/mnt/b/theirs"));

    /* One whose mount was gone when the daemon came back. */
    json = ld_want(c, 200, "POST", "{'path':'/mnt/b'}", "/v1/containers/db/bundle");
    ld_daemon_kill(d);
    ld_test_sh("umount %s", ld_str(json, "mountpoint"));
    ld_daemon_again(d);
    cr_expect_not(is_there("/mnt/b/config.json"));
    json = ld_want(c, 200, "POST", NULL, "/v1/containers/db/bundle");
    cr_expect_neq(strcmp(ld_str(json, "bundle"), "/mnt/b"), 0);
    ld_unmount(c, "db");
}

LD_API_TEST(bundles, are_refused_where_others_could_change_them)
{
    static const struct {
        const char *code, *body;
    } rows[] = {
        {"invalid", "{'path':'b'}"},
        {"invalid", "{'network':'bridge'}"},
        {"not_found", "{'path':'/mnt/none'}"},
        {"conflict", "{'path':'/mnt/file'}"},
        {"conflict", "{'path':'/mnt/full'}"},
        {"forbidden", "{'path':'/mnt/link'}"},
        {"forbidden", "{'path':'/mnt/theirs'}"},
        {"forbidden", "{'path':'/mnt/open'}"},
        {"forbidden", "{'path':'/mnt/open/in'}"},
    };

    ld_have_base(c);
    (void)ld_create(c, "web", "base", config);
    ld_test_sh(
        "cd /mnt && touch file && mkdir full theirs open open/in && touch full/config.json && "
        "chmod 755 full theirs open/in && chmod 777 open && chown 1 theirs && ln -s full link");
    for (size_t i = 0; i < LD_ARRAY_LEN(rows); i++)
        (void)ld_want_error(c, rows[i].code, "POST", rows[i].body, "/v1/containers/web/bundle");
    cr_expect(is_there("/mnt/full/config.json"));
    cr_expect(ld_is_null(ld_want(c, 200, "GET", NULL, "/v1/containers/web"), "mountpoint"));
}

LD_API_TEST(bundles, need_a_command_and_a_user_that_is_there)
{
    cJSON *json;
    cJSON *made;
    struct ld_text at;

    ld_have_base(c);
    (void)ld_create(c, "idle", "base", "'config':{'entrypoint':[],'cmd':[]}");
    json = ld_want_error(c, "conflict", "POST", NULL, "/v1/containers/idle/bundle");
    cr_expect(strstr(ld_str(json, "message"), "no command"), "%s", ld_str(json, "message"));
    (void)ld_create(c, "odd", "base", "'config':{'cmd':['x'],'user':'nobody'}");
    json = ld_want_error(c, "conflict", "POST", NULL, "/v1/containers/odd/bundle");
    cr_expect(strstr(ld_str(json, "message"), "nobody"), "%s", ld_str(json, "message"));
    /* The accounts are the container's, wherever it has hung them in its root. */
    at = ld_mount(c, "odd");
    ld_test_sh("cd %s/etc && echo 'nobody:x:7:8::/n:' >/mnt/passwd && rm passwd && "
               "ln -s /mnt/passwd passwd",
               at.s);
    (void)ld_want_error(c, "conflict", "POST", NULL, "/v1/containers/odd/bundle");
    ld_test_sh("cd %s && mkdir -p mnt && echo 'nobody:x:7:8::/n:' >mnt/passwd && "
               "echo 'x:x:9:nobody' >etc/group",
               at.s);
    json = ld_want(c, 200, "POST", NULL, "/v1/containers/odd/bundle");
    made = read_config(ld_str(json, "bundle"));
    cr_expect_eq(ld_int(made, "process.user.uid"), 7);
    cr_expect_eq(ld_int(made, "process.user.gid"), 8);
    cr_expect_eq(ld_int(made, "process.user.additionalGids.0"), 9);
    cr_expect(has_item(ld_at(made, "process.env"), "HOME=/n"));
    cJSON_Delete(made);
    ld_test_sh("cd %s/etc && rm passwd && mkfifo passwd", at.s);
    (void)ld_want_error(c, "conflict", "POST", NULL, "/v1/containers/odd/bundle");
    ld_unmount(c, "odd");
}

LD_API_TEST(bundles, of_a_held_container_are_busy)
{
    struct ld_text at;
    pid_t pid;

    ld_have_base(c);
    (void)ld_create(c, "web", "base", config);
    at = ld_mount(c, "web");
    pid = ld_test_hold(at.s);
    (void)ld_want(c, 200, "POST", NULL, "/v1/containers/web/unmount?force=1");
    (void)ld_want_error(c, "busy", "POST", NULL, "/v1/containers/web/bundle");
    ld_test_let_go(pid);
    (void)ld_want(c, 200, "POST", NULL, "/v1/containers/web/bundle");
    ld_unmount(c, "web");
}
