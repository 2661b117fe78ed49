/* Containers: create, find, list, change, mount, unmount, remove. */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <cjson/cJSON.h>

#include "daemon/base/buf.h"
#include "daemon/base/fdio.h"
#include "daemon/base/mem.h"
#include "tests/lib/api.h"

static bool exists(const char *fmt, const char *root)
{
    autofree char *path = ld_asprintf("%s%s", root, fmt);
    struct stat st;

    return lstat(path, &st) == 0;
}

static void write_to(const char *root, const char *path, const char *text)
{
    autoclose int dir = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    cr_assert(dir >= 0, "%s: %s", root, strerror(errno));
    ld_test_write(dir, path, text);
}

static char *read_from(const char *root, const char *path)
{
    autoclose int dir = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    cr_assert(dir >= 0, "%s: %s", root, strerror(errno));
    return ld_test_read(dir, path);
}

/* ---- create ---- */

LD_API_TEST(containers, are_created_with_all_they_were_given)
{
    cJSON *json;
    struct ld_text id;

    ld_have_base(c);
    json =
        ld_want(c, 201, "POST",
                "{'name':'web','image':'base','labels':{'team':'storage','empty':''},"
                "'read_only':false,'config':{'cmd':['sh','-c','true'],'env':['A=1'],'user':'7:8',"
                "'working_dir':'/etc','entrypoint':[],'stop_signal':'SIGINT'}}",
                "/v1/containers");
    id = ld_textf("/v1/containers/%s", ld_str(json, "id"));
    cr_expect_str_eq(ld_client_header(c, "Location"), id.s);
    cr_expect_eq(strncmp(ld_client_header(c, "ETag"), "\"1-", 3), 0);
    cr_expect_str_eq(ld_str(json, "state"), "created");
    cr_expect_str_eq(ld_str(json, "image.ref"), "base:latest");
    cr_expect_str_eq(ld_str(json, "labels.team"), "storage");
    cr_expect_str_eq(ld_str(json, "labels.empty"), "");
    cr_expect_str_eq(ld_str(json, "config.cmd.1"), "-c");
    cr_expect_eq(ld_count(json, "chain"), 2);
    cr_expect(ld_is_null(json, "mountpoint"));
    json = ld_want(c, 200, "GET", NULL, "%s?size=1", id.s);
    cr_expect_gt(ld_int(json, "size.inodes"), 0);
    cr_expect_leq(ld_int(json, "size.bytes"), 65536, "an empty container is thin");
}

LD_API_TEST(containers, may_have_no_name)
{
    cJSON *json;
    struct ld_text id;

    ld_have_base(c);
    json = ld_want(c, 201, "POST", "{'image':'base'}", "/v1/containers");
    cr_expect(ld_is_null(json, "name"));
    id = ld_textf("%s", ld_str(json, "id"));
    json = ld_want(c, 200, "GET", NULL, "/v1/containers/%.12s", id.s);
    cr_expect_str_eq(ld_str(json, "id"), id.s);
    (void)ld_want(c, 201, "POST", "{'image':'base'}", "/v1/containers");
}

LD_API_TEST(containers, are_refused_with_the_right_code)
{
    static const struct {
        const char *code, *body;
    } rows[] = {
        {"invalid", "{}"},
        {"invalid", "{'image':''}"},
        {"invalid", "{'image':'Not A Ref'}"},
        {"invalid", "{'image':'base','name':''}"},
        {"invalid", "{'image':'base','name':'Web'}"},
        {"invalid", "{'image':'base','name':'-web'}"},
        {"invalid", "{'image':'base','name':'a/b'}"},
        {"invalid", "{'image':'base','name':'"
                    "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef'}"},
        {"invalid", "{'image':'base','driver':'zfs9'}"},
        {"invalid", "{'image':'base','labels':{'':'x'}}"},
        {"invalid", "{'image':'base','mounts':[{'type':'odd','target':'/t'}]}"},
        {"invalid", "{'image':'base','mounts':[{'type':'tmpfs'}]}"},
        {"invalid", "{'image':'base','mounts':[{'type':'tmpfs','target':'t'}]}"},
        {"invalid", "{'image':'base','mounts':[{'type':'tmpfs','target':'/'}]}"},
        {"invalid", "{'image':'base','mounts':[{'type':'tmpfs','target':'/t','source':'x'}]}"},
        {"invalid", "{'image':'base','mounts':[{'type':'bind','target':'/t'}]}"},
        {"invalid", "{'image':'base','mounts':[{'type':'bind','target':'/t','source':'x'}]}"},
        {"invalid", "{'image':'base','mounts':[{'type':'volume','target':'/t','source':'A B'}]}"},
        {"invalid", "{'image':'base','mounts':[{'type':'volume','target':'/t','size':5}]}"},
        {"invalid", "{'image':'base','mounts':[{'type':'tmpfs','target':'/t'},"
                    "{'type':'tmpfs','target':'/t/'}]}"},
        {"not_found",
         "{'image':'base','mounts':[{'type':'bind','target':'/t','source':'/no/such'}]}"},
        {"not_found", "{'image':'nothing:here'}"},
        {"not_found", "{'image':'sha256:"
                      "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef'}"},
        {"exists", "{'image':'base','name':'web'}"},
    };

    ld_have_base(c);
    (void)ld_create(c, "web", "base", NULL);
    for (size_t i = 0; i < LD_ARRAY_LEN(rows); i++)
        (void)ld_want_error(c, rows[i].code, "POST", rows[i].body, "/v1/containers");
    cr_expect_eq(ld_count(ld_want(c, 200, "GET", NULL, "/v1/containers"), "items"), 1);
    cr_expect_eq(ld_data_count(d, "w"), 1);
    cr_expect_eq(ld_count(ld_want(c, 200, "GET", NULL, "/v1/volumes"), "items"), 0);
}

LD_API_TEST(containers, keep_the_limits_of_labels_and_mounts)
{
    autobuf struct ld_buf buf = LD_BUF_INIT(1 << 20);

    ld_have_base(c);
    ld_buf_adds(&buf, "{'image':'base','labels':{");
    for (int i = 0; i < 65; i++)
        ld_buf_addf(&buf, "%s'k%d':'v'", i ? "," : "", i);
    ld_buf_adds(&buf, "}}");
    (void)ld_want_error(c, "invalid", "POST", ld_buf_str(&buf), "/v1/containers");

    ld_buf_clear(&buf);
    ld_buf_adds(&buf, "{'image':'base','labels':{'k':'");
    for (int i = 0; i < 4097; i++)
        ld_buf_addc(&buf, 'v');
    ld_buf_adds(&buf, "'}}");
    (void)ld_want_error(c, "invalid", "POST", ld_buf_str(&buf), "/v1/containers");

    ld_buf_clear(&buf);
    ld_buf_adds(&buf, "{'image':'base','mounts':[");
    for (int i = 0; i < 65; i++)
        ld_buf_addf(&buf, "%s{'type':'tmpfs','target':'/t%d'}", i ? "," : "", i);
    ld_buf_adds(&buf, "]}");
    (void)ld_want_error(c, "invalid", "POST", ld_buf_str(&buf), "/v1/containers");
}

LD_API_TEST(containers, are_put_idempotently)
{
    static const char body[] = "{'image':'base','labels':{'a':'1','b':'2'},'read_only':false}";
    static const char same[] =
        "{'labels':{'b':'2','a':'1'},'name':'web','image':'docker.io/library/base:latest'}";
    struct ld_text id;
    cJSON *json;

    ld_have_base(c);
    json = ld_want(c, 201, "PUT", body, "/v1/containers/web");
    id = ld_textf("%s", ld_str(json, "id"));
    cr_expect_str_eq(ld_str(json, "name"), "web");
    json = ld_want(c, 200, "PUT", body, "/v1/containers/web");
    cr_expect_str_eq(ld_str(json, "id"), id.s);
    json = ld_want(c, 200, "PUT", same, "/v1/containers/web");
    cr_expect_str_eq(ld_str(json, "id"), id.s);
    (void)ld_want_error(c, "exists", "PUT", "{'image':'base','read_only':true}",
                        "/v1/containers/web");
    (void)ld_want_error(c, "invalid", "PUT", "{'image':'base','name':'other'}",
                        "/v1/containers/web");
    (void)ld_want_error(c, "invalid", "PUT", "{'image':'base'}", "/v1/containers/Web");
    (void)ld_want_error(c, "not_found", "PUT", "{'image':'none'}", "/v1/containers/new");
    cr_expect_eq(
        ld_call(c, &(struct ld_call){.method = "PUT",
                                     .target = "/v1/containers/web",
                                     .json = body,
                                     .headers = (const char *[]){"If-None-Match: *", NULL}})
            ->status,
        412);
    /* Who made it by POST may ask for it by PUT. */
    id = ld_create(c, "posted", "base", "'labels':{'a':'1'}");
    cr_expect_str_eq(ld_str(ld_want(c, 200, "PUT", "{'image':'base:latest','labels':{'a':'1'}}",
                                    "/v1/containers/posted"),
                            "id"),
                     id.s);
    (void)ld_want_error(c, "exists", "PUT", "{'image':'base'}", "/v1/containers/posted");
    (void)ld_want_error(c, "exists", "POST", "{'name':'posted','image':'base','labels':{'a':'1'}}",
                        "/v1/containers");
}

/* ---- find ---- */

LD_API_TEST(containers, are_found_by_id_name_and_unique_prefix)
{
    enum { N = 300 };
    static struct ld_text ids[N];
    bool met = false;

    ld_have_base(c);
    for (int i = 0; i < N; i++) {
        char name[16];

        (void)snprintf(name, sizeof(name), "n%d", i); /* no hex digits */
        ids[i] = ld_create(c, name, "base", NULL);
    }
    (void)ld_want(c, 200, "GET", NULL, "/v1/containers/%s", ids[7].s);
    (void)ld_want(c, 200, "GET", NULL, "/v1/containers/%.60s", ids[7].s);
    (void)ld_want_error(c, "not_found", "GET", NULL, "/v1/containers/%.3s", ids[7].s);
    (void)ld_want_error(c, "not_found", "GET", NULL, "/v1/containers/ffffffffffff");
    /* A name goes before a prefix. */
    {
        char name[5];
        autofree char *body = NULL;

        (void)snprintf(name, sizeof(name), "%.4s", ids[7].s);
        body = ld_asprintf("{'image':'base','name':'%s'}", name);
        (void)ld_want(c, 201, "POST", body, "/v1/containers");
        cr_expect_str_eq(ld_str(ld_want(c, 200, "GET", NULL, "/v1/containers/%s", name), "name"),
                         name);
    }
    for (int i = 0; i < N && !met; i++) {
        for (int k = i + 1; k < N && !met; k++) {
            if (i == 7 || k == 7 || strncmp(ids[i].s, ids[k].s, 4) != 0)
                continue;
            cJSON *error =
                ld_want_error(c, "conflict", "GET", NULL, "/v1/containers/%.4s", ids[i].s);

            met = true;
            cr_expect_geq(ld_count(error, "details.candidates"), 2);
        }
    }
    /* 300 of 65,536 prefixes: half of the time two meet; nothing to see else. */
}

LD_API_TEST(containers, are_listed_in_pages_and_by_filters)
{
    cJSON *json;
    autofree char *next = NULL;

    ld_have_base(c);
    ld_have_app(c);
    (void)ld_create(c, "web-1", "base", "'labels':{'tier':'front','team':'a=b'}");
    (void)ld_create(c, "web-2", "base", "'labels':{'tier':'back'},'driver':'vfs'");
    (void)ld_create(c, "db", "app", "'mounts':[{'type':'volume','source':'data','target':'/v'}]");
    (void)ld_mount(c, "web-2");

    json = ld_want(c, 200, "GET", NULL, "/v1/containers");
    cr_expect_eq(ld_count(json, "items"), 3);
    cr_expect(ld_is_null(json, "next"));
    json = ld_want(c, 200, "GET", NULL, "/v1/containers?limit=2");
    cr_expect_eq(ld_count(json, "items"), 2);
    next = ld_strdup(ld_str(json, "next"));
    json = ld_want(c, 200, "GET", NULL, "/v1/containers?limit=2&after=%s", next);
    cr_expect_eq(ld_count(json, "items"), 1);
    cr_expect(ld_is_null(json, "next"));
    cr_expect_str_eq(ld_str(json, "items.0.name"), "db");

    static const struct {
        const char *filter;
        int n;
    } rows[] = {
        {"filter=name=web-*", 2},         {"filter=name=web-1", 1},
        {"filter=name=WEB*", 0},          {"filter=label=tier", 2},
        {"filter=label=tier=back", 1},    {"filter=label=team=a=b", 1},
        {"filter=label=team%3Da%3Db", 1}, {"filter=label=tier&filter=label=team", 1},
        {"filter=state=mounted", 1},      {"filter=state=created", 2},
        {"filter=image=base", 2},         {"filter=image=base:latest&filter=driver=vfs", 1},
        {"filter=driver=vfs", 1},         {"filter=volume=data", 1},
        {"filter=until=1h", 0},           {"filter=until=2199-01-01T00:00:00Z", 3},
    };
    for (size_t i = 0; i < LD_ARRAY_LEN(rows); i++) {
        json = ld_want(c, 200, "GET", NULL, "/v1/containers?%s", rows[i].filter);
        cr_expect_eq(ld_count(json, "items"), rows[i].n, "%s: %d", rows[i].filter,
                     ld_count(json, "items"));
    }
}

/* ---- change ---- */

LD_API_TEST(containers, are_patched_by_merging)
{
    cJSON *json;
    struct ld_text mountpoint;

    ld_have_base(c);
    (void)ld_create(c, "other", "base", NULL);
    (void)ld_create(c, "web", "base", "'labels':{'a':'1','b':'2'}");
    mountpoint = ld_mount(c, "web");
    json = ld_want(c, 200, "PATCH", "{'labels':{'a':null,'c':'3'}}", "/v1/containers/web");
    cr_expect_eq(ld_count(json, "labels"), 2);
    cr_expect_str_eq(ld_str(json, "labels.c"), "3");
    cr_expect_eq(ld_int(json, "version"), 2);
    cr_expect_eq(strncmp(ld_client_header(c, "ETag"), "\"2-", 3), 0);
    json = ld_want(c, 200, "PATCH", "{'name':'www'}", "/v1/containers/web");
    cr_expect_str_eq(ld_str(json, "mountpoint"), mountpoint.s, "a rename leaves the mount alone");
    (void)ld_want_error(c, "not_found", "GET", NULL, "/v1/containers/web");
    (void)ld_want_error(c, "exists", "PATCH", "{'name':'other'}", "/v1/containers/www");
    (void)ld_want_error(c, "invalid", "PATCH", "{'name':'Www'}", "/v1/containers/www");
    (void)ld_want_error(c, "invalid", "PATCH", "{'labels':{'a':1}}", "/v1/containers/www");
    (void)ld_want_error(c, "not_found", "PATCH", "{'labels':{}}", "/v1/containers/none");
    json = ld_want(c, 200, "PATCH", "{'labels':null}", "/v1/containers/www");
    cr_expect_eq(ld_count(json, "labels"), 0);
    json = ld_want(c, 200, "PATCH", "{}", "/v1/containers/www");
    cr_expect_str_eq(ld_str(json, "name"), "www");
}

LD_API_TEST(containers, hold_if_match)
{
    static const struct {
        const char *method, *header;
        int status;
    } rows[] = {
        {"PATCH", "If-Match: \"7\"", 412},  {"PATCH", "If-Match: \"1\"", 200},
        {"PATCH", "If-Match: \"1\"", 412},  {"PATCH", "If-Match: *", 200},
        {"PATCH", "If-Match: seven", 400},  {"DELETE", "If-Match: \"1\"", 412},
        {"DELETE", "If-Match: \"3\"", 204},
    };

    ld_have_base(c);
    (void)ld_create(c, "web", "base", NULL);
    for (size_t i = 0; i < LD_ARRAY_LEN(rows); i++) {
        autofree char *json = ld_asprintf("{'labels':{'n':'%zu'}}", i);
        const struct ld_reply *reply =
            ld_call(c, &(struct ld_call){.method = rows[i].method,
                                         .target = "/v1/containers/web",
                                         .json = rows[i].method[0] == 'P' ? json : NULL,
                                         .headers = (const char *[]){rows[i].header, NULL}});

        cr_expect_eq(reply->status, rows[i].status, "%zu: %d %s", i, reply->status, reply->body);
    }
}

/* ---- mount ---- */

static void mounting_shows_the_image(struct ld_daemon *d, struct ld_client *c, const char *driver)
{
    autofree char *members = ld_asprintf("'driver':'%s'", driver);
    struct ld_text at, again;
    struct stat st;
    cJSON *json;
    size_t mounts = ld_test_count_mounts(d->run_root);

    ld_have_base(c);
    (void)ld_create(c, "web", "base", members);
    at = ld_mount(c, "web");
    again = ld_mount(c, "web");
    cr_expect_str_eq(at.s, again.s);
    cr_expect_eq(ld_test_count_mounts(at.s), 1);
    json = ld_want(c, 200, "GET", NULL, "/v1/containers/web");
    cr_expect_str_eq(ld_str(json, "state"), "mounted");
    cr_expect_str_eq(ld_str(json, "driver"), driver);
    autofree char *motd = read_from(at.s, "etc/motd");
    cr_expect_str_eq(motd, "second\n");
    cr_expect_not(exists("/etc/gone", at.s));
    cr_expect(exists("/etc/passwd", at.s));
    autofree char *tool = ld_asprintf("%s/bin/tool", at.s);
    cr_assert_eq(stat(tool, &st), 0);
    cr_expect_eq(st.st_mode & 07777, 04755);
    cr_expect_eq(st.st_nlink, 2);
    cr_assert_eq(stat(at.s, &st), 0);
    cr_expect_eq(st.st_mode & 07777, 0755);
    cr_expect_eq(st.st_mtime, 1700000000, "the root has the image's time");
    write_to(at.s, "etc/new", "new\n");
    json = ld_want(c, 200, "POST", NULL, "/v1/containers/web/unmount?sync=1");
    cr_expect(ld_bool(json, "was_mounted"));
    cr_expect_str_eq(ld_str(json, "state"), "created");
    json = ld_want(c, 200, "POST", "{}", "/v1/containers/web/unmount");
    cr_expect_not(ld_bool(json, "was_mounted"));
    cr_expect_leq(ld_test_count_mounts(d->run_root), mounts + 1);
    at = ld_mount(c, "web");
    autofree char *fresh = read_from(at.s, "etc/new");
    cr_expect_str_eq(fresh, "new\n");
    ld_unmount(c, "web");
}

LD_API_TEST(containers, are_mounted_by_overlay)
{
    mounting_shows_the_image(d, c, "overlay");
}

LD_API_TEST(containers, are_mounted_by_vfs)
{
    mounting_shows_the_image(d, c, "vfs");
}

static void writing_is_refused(const char *at)
{
    autofree char *path = ld_asprintf("%s/etc/new", at);

    cr_expect(open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0644) < 0 && errno == EROFS, "%s",
              strerror(errno));
}

LD_API_TEST(containers, are_mounted_read_only)
{
    static const char *const drivers[] = {"overlay", "vfs"};

    ld_have_base(c);
    for (size_t i = 0; i < LD_ARRAY_LEN(drivers); i++) {
        autofree char *always = ld_asprintf("'driver':'%s','read_only':true", drivers[i]);
        autofree char *once = ld_asprintf("'driver':'%s'", drivers[i]);
        cJSON *json;

        (void)ld_create(c, "always", "base", always);
        writing_is_refused(ld_mount(c, "always").s);
        (void)ld_create(c, "once", "base", once);
        json = ld_want(c, 200, "POST", "{'read_only':true}", "/v1/containers/once/mount");
        writing_is_refused(ld_str(json, "mountpoint"));
        (void)ld_want(c, 200, "POST", "{'read_only':true}", "/v1/containers/once/mount");
        (void)ld_want_error(c, "conflict", "POST", "{'read_only':false}",
                            "/v1/containers/once/mount");
        ld_unmount(c, "once");
        write_to(ld_mount(c, "once").s, "etc/new", "x");
        (void)ld_want(c, 204, "DELETE", NULL, "/v1/containers/once?force=1");
        (void)ld_want(c, 204, "DELETE", NULL, "/v1/containers/always?force=1");
    }
}

/* A child with its working directory in `path`, in a mount namespace of its own if `apart`. */
static pid_t hold(const char *path, bool apart)
{
    int ready[2];
    pid_t pid;
    char byte;

    cr_assert_eq(pipe2(ready, O_CLOEXEC), 0);
    pid = fork();
    if (pid == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (apart &&
            (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0))
            _exit(1);
        if (chdir(path) < 0 || write(ready[1], "x", 1) != 1)
            _exit(1);
        for (;;)
            (void)pause();
    }
    cr_assert(pid > 0 && read(ready[0], &byte, 1) == 1);
    ld_close(ready[0]);
    ld_close(ready[1]);
    return pid;
}

static void let_go(pid_t pid)
{
    (void)kill(pid, SIGKILL);
    cr_assert_eq(waitpid(pid, NULL, 0), pid);
}

LD_API_TEST(containers, name_who_keeps_them_busy)
{
    struct ld_text at;
    const cJSON *holders;
    pid_t pid;
    cJSON *json;

    ld_have_base(c);
    (void)ld_create(c, "web", "base",
                    "'mounts':[{'type':'tmpfs','target':'/t'},{'type':'volume','target':'/v'}]");
    at = ld_mount(c, "web");
    pid = hold(at.s, false);
    json = ld_want_error(c, "busy", "POST", NULL, "/v1/containers/web/unmount");
    holders = ld_at(json, "details.holders");
    cr_expect_eq(cJSON_GetArraySize(holders), 1);
    cr_expect_eq(ld_int(holders, "0.pid"), pid);
    cr_expect_eq(ld_test_count_mounts(at.s), 3, "all is as it was");
    (void)ld_want_error(c, "busy", "DELETE", NULL, "/v1/containers/web");
    json = ld_want(c, 200, "POST", NULL, "/v1/containers/web/unmount?force=1");
    cr_expect(ld_bool(json, "was_mounted"));
    cr_expect_eq(ld_count(json, "holders"), 1);
    cr_expect_eq(ld_test_count_mounts(at.s), 0);
    json = ld_want(c, 200, "GET", NULL, "/v1/containers/web");
    cr_expect_str_eq(ld_str(json, "state"), "busy");
    cr_expect_not(ld_is_null(json, "reason"));
    (void)ld_want_error(c, "busy", "POST", NULL, "/v1/containers/web/mount");
    let_go(pid);
    (void)ld_mount(c, "web");
    ld_unmount(c, "web");
}

static bool state_is_created(void *arg)
{
    struct ld_client *c = arg;
    cJSON *json = ld_want(c, 200, "GET", NULL, "/v1/containers/web");

    return strcmp(ld_str(json, "state"), "created") == 0;
}

LD_API_TEST(containers, held_in_another_namespace_are_busy_and_not_mounted_twice)
{
    struct ld_text at;
    pid_t pid;

    ld_have_base(c);
    (void)ld_create(c, "web", "base", "'driver':'overlay'");
    at = ld_mount(c, "web");
    pid = hold(at.s, true);
    (void)ld_want(c, 200, "POST", NULL, "/v1/containers/web/unmount?sync=1");
    (void)ld_want_error(c, "busy", "POST", NULL, "/v1/containers/web/mount");
    cr_expect_str_eq(ld_str(ld_want(c, 200, "GET", NULL, "/v1/containers/web"), "state"), "busy");
    (void)ld_want(c, 200, "GET", NULL, "/v1/containers/web/changes");
    (void)ld_want_error(c, "busy", "GET", NULL, "/v1/containers/web/export");
    (void)ld_want_error(c, "busy", "GET", NULL, "/v1/containers/web/files?path=/");
    (void)ld_want_error(c, "busy", "PUT", NULL, "/v1/containers/web/files?path=/");
    ld_daemon_kill(d);
    ld_daemon_again(d);
    (void)ld_want_error(c, "busy", "POST", NULL, "/v1/containers/web/mount");
    ld_daemon_stop(d);
    ld_daemon_again(d);
    (void)ld_want_error(c, "busy", "GET", NULL, "/v1/containers/web/export");
    (void)ld_want_error(c, "busy", "POST", NULL, "/v1/containers/web/mount");
    cr_expect_eq(ld_test_count_mounts(at.s), 0);
    let_go(pid);
    cr_assert(ld_test_wait(state_is_created, c, 60));
    (void)ld_mount(c, "web");
    ld_unmount(c, "web");
}

LD_API_TEST(containers, removed_while_held_are_reaped_when_free)
{
    struct ld_text at;
    pid_t pid;

    ld_have_base(c);
    ld_wait_reaped(d);
    (void)ld_create(c, "web", "base", "'driver':'overlay'");
    at = ld_mount(c, "web");
    write_to(at.s, "etc/kept", "for the holder");
    pid = hold(at.s, true);
    (void)ld_want(c, 204, "DELETE", NULL, "/v1/containers/web?force=1");
    (void)ld_want_error(c, "not_found", "GET", NULL, "/v1/containers/web");
    cr_expect_eq(ld_data_count(d, "w"), 0);
    ld_test_sh("grep -q holder /proc/%d/cwd/etc/kept", pid);
    cr_expect_eq(ld_data_count(d, "trash"), 1);
    ld_daemon_kill(d);
    ld_daemon_again(d);
    (void)ld_want_error(c, "not_found", "GET", NULL, "/v1/containers/web");
    ld_daemon_stop(d);
    ld_daemon_again(d);
    cr_expect_eq(ld_data_count(d, "trash"), 1, "held, so not deleted by a start either");
    ld_test_sh("grep -q holder /proc/%d/cwd/etc/kept && echo more >>/proc/%d/cwd/etc/kept", pid,
               pid);
    let_go(pid);
    ld_wait_reaped(d);
    cr_expect_eq(ld_data_count(d, "quarantine"), 0);
}

LD_API_TEST(containers, with_auto_remove_go_when_unmounted)
{
    ld_have_base(c);
    (void)ld_create(c, "web", "base", "'auto_remove':true");
    (void)ld_mount(c, "web");
    ld_unmount(c, "web");
    (void)ld_want_error(c, "not_found", "GET", NULL, "/v1/containers/web");
    ld_wait_reaped(d);
    cr_expect_eq(ld_data_count(d, "w"), 0);
}

LD_API_TEST(containers, may_be_ephemeral)
{
    cJSON *json;

    ld_have_base(c);
    (void)ld_create(c, "web", "base", "'ephemeral':true");
    write_to(ld_mount(c, "web").s, "etc/new", "x");
    json = ld_want(c, 200, "GET", NULL, "/v1/containers/web");
    cr_expect(ld_bool(json, "ephemeral"));
    ld_unmount(c, "web");
    write_to(ld_mount(c, "web").s, "etc/more", "y");
    ld_unmount(c, "web");
    ld_daemon_stop(d);
    ld_daemon_again(d);
    (void)ld_want(c, 200, "GET", NULL, "/v1/containers/web");
    (void)ld_want(c, 204, "DELETE", NULL, "/v1/containers/web");
}

static const struct {
    const char *method, *rest, *body;
} routes[] = {
    {"GET", "", NULL},
    {"PATCH", "", "{}"},
    {"DELETE", "", NULL},
    {"POST", "/mount", NULL},
    {"POST", "/bundle", NULL},
    {"POST", "/unmount", NULL},
    {"GET", "/holders", NULL},
    {"GET", "/explain?path=/", NULL},
    {"GET", "/changes", NULL},
    {"GET", "/diff", NULL},
    {"GET", "/export", NULL},
    {"GET", "/files?path=/", NULL},
    {"PUT", "/files?path=/x", NULL},
    {"DELETE", "/files?path=/x", NULL},
    {"GET", "/snapshots", NULL},
    {"POST", "/snapshots", NULL},
    {"GET", "/snapshots/s", NULL},
    {"DELETE", "/snapshots/s", NULL},
    {"POST", "/snapshots/s/rollback", NULL},
    {"POST", "/clone", NULL},
    {"POST", "/commit", NULL},
};

LD_API_TEST(containers, answer_404_on_every_route)
{
    for (size_t i = 0; i < LD_ARRAY_LEN(routes); i++)
        (void)ld_want_error(c, "not_found", routes[i].method, routes[i].body,
                            "/v1/containers/none%s", routes[i].rest);
}

LD_API_TEST(containers, answer_conflict_on_every_route_for_an_ambiguous_prefix)
{
    static struct ld_text ids[2000];
    char prefix[5] = "";
    int n = 0;

    ld_have_base(c);
    while (!prefix[0] && n < 2000) {
        cJSON *json =
            ld_want(c, 201, "POST", "{'image':'base','ephemeral':true}", "/v1/containers");

        ids[n] = ld_textf("%s", ld_str(json, "id"));
        for (int i = 0; i < n && !prefix[0]; i++) {
            if (strncmp(ids[i].s, ids[n].s, 4) == 0)
                (void)snprintf(prefix, sizeof(prefix), "%.4s", ids[n].s);
        }
        n++;
    }
    cr_assert_neq(prefix[0], '\0', "2,000 ids and no two begin alike");
    for (size_t i = 0; i < LD_ARRAY_LEN(routes); i++) {
        cJSON *error = ld_want_error(c, "conflict", routes[i].method, routes[i].body,
                                     "/v1/containers/%s%s", prefix, routes[i].rest);

        cr_expect_geq(ld_count(error, "details.candidates"), 2);
    }
}

/* ---- remove ---- */

LD_API_TEST(containers, take_their_data_along)
{
    struct ld_usage before, after;
    struct ld_text at;

    ld_have_base(c);
    ld_wait_reaped(d);
    ld_data_usage(d, &before);
    (void)ld_create(c, "web", "base", NULL);
    at = ld_mount(c, "web");
    ld_test_sh("head -c 8M /dev/urandom > %s/etc/big; mkdir -p %s/a/b/c; ln -s x %s/a/l", at.s,
               at.s, at.s);
    (void)ld_want_error(c, "busy", "DELETE", NULL, "/v1/containers/web");
    (void)ld_want(c, 204, "DELETE", NULL, "/v1/containers/web?force");
    (void)ld_want_error(c, "not_found", "DELETE", NULL, "/v1/containers/web");
    ld_wait_reaped(d);
    ld_data_usage(d, &after);
    cr_expect_eq(ld_data_count(d, "w"), 0);
    cr_expect_lt(after.bytes, before.bytes + (1 << 20), "what it wrote is gone");
    cr_expect_eq(ld_test_count_mounts(at.s), 0);
    (void)ld_create(c, "web", "base", NULL); /* the name is free again */
    cr_expect_not(exists("/etc/big", ld_mount(c, "web").s));
    ld_unmount(c, "web");
}

/* On a disk: directories of a tmpfs cost nothing. */
LD_TEST(containers, cost_little_disk_each)
{
    enum { N = 100 };
    struct ld_usage before, after;
    struct ld_daemon *d;
    struct ld_client *c;

    ld_close(ld_test_fs("disk", "ext4", 256));
    d = ld_daemon_start("disk", NULL);
    c = d->client;
    ld_have_base(c);
    ld_wait_reaped(d);
    ld_data_usage(d, &before);
    for (int i = 0; i < N; i++) {
        char name[16];

        (void)snprintf(name, sizeof(name), "n%d", i); /* no hex digits */
        (void)ld_create(c, name, "base", "'driver':'overlay'");
        if (i % 10 == 0) {
            (void)ld_mount(c, name);
            ld_unmount(c, name);
        }
    }
    ld_data_usage(d, &after);
    cr_expect_lt(after.bytes, before.bytes + N * UINT64_C(65536));
    ld_api_finish(d);
}

LD_API_TEST(containers, that_lost_their_writable_layer_are_damaged_and_can_be_removed)
{
    static const struct {
        const char *method, *rest;
    } rows[] = {
        {"POST", "/mount"},         {"GET", "/changes"},      {"GET", "/diff"},
        {"GET", "/export"},         {"GET", "/files?path=/"}, {"DELETE", "/files?path=/etc/motd"},
        {"GET", "/explain?path=/"}, {"POST", "/bundle"},
    };
    cJSON *json;

    ld_have_base(c);
    (void)ld_create(c, "web", "base", NULL);
    ld_daemon_stop(d);
    ld_test_sh("rm -rf %s/w/*", d->data_root);
    ld_daemon_again(d);
    json = ld_want(c, 200, "GET", NULL, "/v1/containers/web");
    cr_expect_str_eq(ld_str(json, "state"), "damaged");
    cr_expect_not(ld_is_null(json, "reason"));
    for (size_t i = 0; i < LD_ARRAY_LEN(rows); i++)
        (void)ld_want_error(c, "corrupt", rows[i].method, NULL, "/v1/containers/web%s",
                            rows[i].rest);
    cr_expect_eq(ld_call(c, &(struct ld_call){.method = "PUT",
                                              .target = "/v1/containers/web/files?path=/x",
                                              .content_type = "application/octet-stream",
                                              .body = "x",
                                              .body_len = 1})
                     ->status,
                 500);
    (void)ld_create(c, "other", "base", NULL); /* everything else works */
    (void)ld_mount(c, "other");
    ld_unmount(c, "other");
    (void)ld_want(c, 204, "DELETE", NULL, "/v1/containers/web");
}
