/* Volumes: create, find, use, seed, keep, remove; bind and tmpfs mounts; targets that try to
 * escape. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include <cjson/cJSON.h>

#include "daemon/base/fdio.h"
#include "daemon/base/mem.h"
#include "tests/lib/api.h"

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

static void holds(const char *root, const char *path, const char *want)
{
    autofree char *text = read_from(root, path);

    cr_expect_str_eq(text, want, "%s/%s", root, path);
}

LD_API_TEST(volumes, are_created_found_listed_and_removed)
{
    struct ld_text id, location;
    cJSON *json = ld_want(c, 201, "POST", "{'name':'data','labels':{'a':'1'}}", "/v1/volumes");

    id = ld_textf("%s", ld_str(json, "id"));
    location = ld_textf("/v1/volumes/%s", id.s);
    cr_expect_str_eq(ld_client_header(c, "Location"), location.s);
    cr_expect_not(ld_bool(json, "anonymous"));
    cr_expect_eq(ld_count(json, "users"), 0);
    (void)ld_want(c, 200, "GET", NULL, "/v1/volumes/data");
    (void)ld_want(c, 200, "GET", NULL, "%s", location.s);
    json = ld_want(c, 200, "GET", NULL, "/v1/volumes/%.12s?size=1", id.s);
    cr_expect_geq(ld_int(json, "size.inodes"), 1);
    (void)ld_want_error(c, "exists", "POST", "{'name':'data'}", "/v1/volumes");
    json = ld_want(c, 201, "POST", NULL, "/v1/volumes");
    cr_expect(ld_bool(json, "anonymous"));
    cr_expect(ld_is_null(json, "name"));
    (void)ld_want(c, 201, "POST", "{'labels':{'b':'2'}}", "/v1/volumes");

    static const struct {
        const char *query;
        int n;
    } rows[] = {
        {"", 3},
        {"?limit=2", 2},
        {"?filter=name=da*", 1},
        {"?filter=label=a=1", 1},
        {"?filter=label=b", 1},
        {"?filter=anonymous=1", 2},
        {"?filter=anonymous=0", 1},
        {"?filter=dangling=1", 3},
        {"?filter=dangling=0", 0},
        {"?filter=until=1h", 0},
    };
    for (size_t i = 0; i < LD_ARRAY_LEN(rows); i++) {
        json = ld_want(c, 200, "GET", NULL, "/v1/volumes%s", rows[i].query);
        cr_expect_eq(ld_count(json, "items"), rows[i].n, "%s: %d", rows[i].query,
                     ld_count(json, "items"));
    }
    (void)ld_want(c, 204, "DELETE", NULL, "/v1/volumes/data");
    (void)ld_want_error(c, "not_found", "DELETE", NULL, "/v1/volumes/data");
    (void)ld_want_error(c, "not_found", "GET", NULL, "/v1/volumes/data");
}

LD_API_TEST(volumes, are_refused_with_the_right_code)
{
    static const struct {
        const char *code, *body;
    } rows[] = {
        {"invalid", "{'name':''}"},
        {"invalid", "{'name':'Data'}"},
        {"invalid", "{'name':'a b'}"},
        {"invalid", "{'name':'0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef'}"},
        {"invalid", "{'labels':{'a':null}}"},
        {"invalid", "{'labels':'a'}"},
    };

    for (size_t i = 0; i < LD_ARRAY_LEN(rows); i++)
        (void)ld_want_error(c, rows[i].code, "POST", rows[i].body, "/v1/volumes");
    cr_expect_eq(ld_data_count(d, "volumes"), 0);
}

LD_API_TEST(volumes, are_put_idempotently_and_hold_preconditions)
{
    struct ld_text id;

    id = ld_textf("%s",
                  ld_str(ld_want(c, 201, "PUT", "{'labels':{'a':'1'}}", "/v1/volumes/data"), "id"));
    cr_expect_str_eq(
        ld_str(ld_want(c, 200, "PUT", "{'name':'data','labels':{'a':'1'}}", "/v1/volumes/data"),
               "id"),
        id.s);
    (void)ld_want_error(c, "exists", "PUT", NULL, "/v1/volumes/data");
    (void)ld_want_error(c, "invalid", "PUT", "{'name':'other'}", "/v1/volumes/data");
    (void)ld_want(c, 201, "PUT", NULL, "/v1/volumes/plain");
    (void)ld_want(c, 200, "PUT", "{}", "/v1/volumes/plain");
    /* However it came to be. */
    id = ld_textf(
        "%s", ld_str(ld_want(c, 201, "POST", "{'name':'posted','labels':{'b':'2'}}", "/v1/volumes"),
                     "id"));
    cr_expect_str_eq(
        ld_str(ld_want(c, 200, "PUT", "{'labels':{'b':'2'}}", "/v1/volumes/posted"), "id"), id.s);
    (void)ld_want_error(c, "exists", "PUT", NULL, "/v1/volumes/posted");
    (void)ld_want_error(c, "exists", "POST", "{'name':'posted','labels':{'b':'2'}}", "/v1/volumes");
    ld_have_base(c);
    (void)ld_create(c, "web", "base",
                    "'mounts':[{'type':'volume','source':'used','target':'/var/empty'}]");
    (void)ld_want(c, 200, "PUT", NULL, "/v1/volumes/used");
    (void)ld_want_error(c, "exists", "PUT", "{'labels':{'a':'1'}}", "/v1/volumes/used");
    static const struct {
        const char *method, *target, *header;
        int status;
    } rows[] = {
        {"PUT", "/v1/volumes/plain", "If-None-Match: *", 412},
        {"PUT", "/v1/volumes/fresh", "If-None-Match: *", 201},
        {"DELETE", "/v1/volumes/plain", "If-Match: \"9\"", 412},
        {"DELETE", "/v1/volumes/plain", "If-Match: \"1\"", 204},
        {"DELETE", "/v1/volumes/fresh", "If-Match: *", 204},
    };
    for (size_t i = 0; i < LD_ARRAY_LEN(rows); i++) {
        const struct ld_reply *reply =
            ld_call(c, &(struct ld_call){.method = rows[i].method,
                                         .target = rows[i].target,
                                         .headers = (const char *[]){rows[i].header, NULL}});

        cr_expect_eq(reply->status, rows[i].status, "%zu: %d", i, reply->status);
    }
}

LD_API_TEST(volumes, are_patched)
{
    cJSON *json = ld_want(c, 201, "PUT", "{'labels':{'a':'1','b':'2'}}", "/v1/volumes/data");
    static const struct {
        const char *header;
        int status;
    } rows[] = {{"If-Match: \"7\"", 412},
                {"If-Match: \"4\"", 200},
                {"If-Match: \"4\"", 412},
                {"If-Match: *", 200}};

    cr_expect(cJSON_IsNull(cJSON_GetObjectItemCaseSensitive(json, "size_limit")));
    json = ld_want(c, 200, "PATCH", "{'labels':{'a':null,'c':'3'}}", "/v1/volumes/data");
    cr_expect_eq(ld_count(json, "labels"), 2);
    cr_expect_str_eq(ld_str(json, "labels.c"), "3");
    cr_expect_eq(ld_int(json, "version"), 2);
    json = ld_want(c, 200, "PATCH", "{'labels':null}", "/v1/volumes/data");
    cr_expect_eq(ld_count(json, "labels"), 0);
    json = ld_want(c, 200, "PATCH", "{}", "/v1/volumes/data");
    cr_expect_eq(ld_int(json, "version"), 4);
    (void)ld_want_error(c, "invalid", "PATCH", "{'labels':[]}", "/v1/volumes/data");
    (void)ld_want_error(c, "invalid", "PATCH", "{'name':'other'}", "/v1/volumes/data");
    (void)ld_want_error(c, "not_found", "PATCH", "{}", "/v1/volumes/none");
    for (size_t i = 0; i < LD_ARRAY_LEN(rows); i++) {
        const struct ld_reply *reply =
            ld_call(c, &(struct ld_call){.method = "PATCH",
                                         .target = "/v1/volumes/data",
                                         .json = "{}",
                                         .headers = (const char *[]){rows[i].header, NULL}});

        cr_expect_eq(reply->status, rows[i].status, "%zu: %d", i, reply->status);
    }
}

LD_API_TEST(volumes, with_the_same_prefix_are_ambiguous)
{
    static const struct {
        const char *method, *rest;
    } rows[] = {
        {"GET", ""},
        {"DELETE", ""},
        {"GET", "/files?path=/"},
        {"PUT", "/files?path=/x"},
        {"DELETE", "/files?path=/x"},
        {"GET", "/export"},
        {"POST", "/import"},
        {"POST", "/clone"},
        {"GET", "/snapshots"},
        {"POST", "/snapshots"},
        {"PATCH", ""},
    };
    static struct ld_text ids[2000];
    char prefix[5] = "";

    for (int n = 0; n < 2000 && !prefix[0]; n++) {
        ids[n] = ld_textf("%s", ld_str(ld_want(c, 201, "POST", NULL, "/v1/volumes"), "id"));
        for (int i = 0; i < n && !prefix[0]; i++) {
            if (strncmp(ids[i].s, ids[n].s, 4) == 0)
                (void)snprintf(prefix, sizeof(prefix), "%.4s", ids[n].s);
        }
    }
    cr_assert_neq(prefix[0], '\0');
    for (size_t i = 0; i < LD_ARRAY_LEN(rows); i++) {
        cJSON *error = ld_want_error(c, "conflict", rows[i].method,
                                     strcmp(rows[i].method, "PATCH") ? NULL : "{}",
                                     "/v1/volumes/%s%s", prefix, rows[i].rest);

        cr_expect_geq(ld_count(error, "details.candidates"), 2);
    }
}

static void a_volume_outlives_containers(struct ld_daemon *d, struct ld_client *c,
                                         const char *driver)
{
    autofree char *members = ld_asprintf(
        "'driver':'%s','mounts':[{'type':'volume','source':'data','target':'/srv/deep'}]", driver);
    struct ld_text at;
    cJSON *json;

    ld_have_base(c);
    (void)ld_create(c, "one", "base", members);
    (void)ld_create(c, "two", "base", members);
    json = ld_want(c, 200, "GET", NULL, "/v1/volumes/data");
    cr_expect_eq(ld_count(json, "users"), 2, "created on first use");
    at = ld_mount(c, "one");
    write_to(at.s, "srv/deep/file", "kept\n");
    write_to(at.s, "etc/other", "lost\n");
    holds(ld_mount(c, "two").s, "srv/deep/file", "kept\n");
    json = ld_want_error(c, "in_use", "DELETE", NULL, "/v1/volumes/data");
    cr_expect_eq(ld_count(json, "details.users"), 2);
    ld_unmount(c, "one");
    (void)ld_want(c, 204, "DELETE", NULL, "/v1/containers/one");
    (void)ld_want(c, 204, "DELETE", NULL, "/v1/containers/two?force=1&volumes=1");
    cr_expect_eq(ld_count(ld_want(c, 200, "GET", NULL, "/v1/volumes/data"), "users"), 0);
    ld_daemon_stop(d);
    ld_daemon_again(d);
    (void)ld_create(c, "three", "base", members);
    holds(ld_mount(c, "three").s, "srv/deep/file", "kept\n");
    cr_expect_eq(ld_test_count_mounts(ld_mount(c, "three").s), 2);
    ld_unmount(c, "three");
    (void)ld_want(c, 204, "DELETE", NULL, "/v1/containers/three");
    (void)ld_want(c, 204, "DELETE", NULL, "/v1/volumes/data");
    cr_expect_eq(ld_data_count(d, "volumes"), 0);
}

LD_API_TEST(volumes, outlive_overlay_containers)
{
    a_volume_outlives_containers(d, c, "overlay");
}

LD_API_TEST(volumes, outlive_vfs_containers)
{
    a_volume_outlives_containers(d, c, "vfs");
}

LD_API_TEST(volumes, are_seeded_once_from_the_image)
{
    struct ld_text at;
    struct stat st;

    ld_have_app(c);
    (void)ld_create(c, "one", "app", "'mounts':[{'type':'volume','source':'v','target':'/data'}]");
    at = ld_mount(c, "one");
    holds(at.s, "data/seed", "seed\n");
    holds(at.s, "data/sub/file", "sub\n");
    autofree char *seed = ld_asprintf("%s/data/seed", at.s);
    autofree char *top = ld_asprintf("%s/data", at.s);
    cr_assert_eq(stat(seed, &st), 0);
    cr_expect(st.st_uid == 5 && st.st_gid == 6 && st.st_mtime == 1700000000);
    cr_assert_eq(stat(top, &st), 0);
    cr_expect(st.st_uid == 5 && st.st_gid == 6 && (st.st_mode & 07777) == 0770);
    ld_test_sh("rm -r %s/data/sub %s/data/seed", at.s, at.s);
    write_to(at.s, "data/own", "own\n");
    ld_unmount(c, "one");
    (void)ld_create(c, "two", "app", "'mounts':[{'type':'volume','source':'v','target':'/data'}]");
    at = ld_mount(c, "two");
    holds(at.s, "data/own", "own\n");
    autofree char *again = ld_asprintf("%s/data/seed", at.s);
    cr_expect_neq(stat(again, &st), 0, "seeded once only");
    ld_unmount(c, "two");
}

LD_API_TEST(volumes, of_the_image_are_anonymous_and_go_with_volumes_1)
{
    cJSON *json;
    struct ld_text at, id;

    ld_have_app(c);
    (void)ld_create(c, "one", "app", NULL);
    json = ld_want(c, 200, "GET", NULL, "/v1/containers/one");
    cr_assert_eq(ld_count(json, "mounts"), 1);
    cr_expect_str_eq(ld_str(json, "mounts.0.target"), "/data");
    cr_expect(ld_is_null(json, "mounts.0.source"));
    id = ld_textf("%s", ld_str(json, "mounts.0.volume_id"));
    at = ld_mount(c, "one");
    holds(at.s, "data/seed", "seed\n");
    (void)ld_want(c, 204, "DELETE", NULL, "/v1/containers/one?force=1");
    json = ld_want(c, 200, "GET", NULL, "/v1/volumes/%s", id.s);
    cr_expect(ld_bool(json, "anonymous"));
    (void)ld_want(c, 204, "DELETE", NULL, "/v1/volumes/%s", id.s);

    (void)ld_create(c, "two", "app", "'mounts':[{'type':'volume','target':'/more'}]");
    cr_expect_eq(ld_count(ld_want(c, 200, "GET", NULL, "/v1/volumes"), "items"), 2);
    (void)ld_want(c, 204, "DELETE", NULL, "/v1/containers/two?volumes=1");
    cr_expect_eq(ld_count(ld_want(c, 200, "GET", NULL, "/v1/volumes"), "items"), 0);
}

LD_API_TEST(volumes, are_mounted_by_id_and_read_only)
{
    autofree char *members = NULL;
    struct ld_text at, id;

    ld_have_base(c);
    id = ld_textf("%s", ld_str(ld_want(c, 201, "POST", NULL, "/v1/volumes"), "id"));
    members = ld_asprintf(
        "'mounts':[{'type':'volume','source':'%s','target':'/v','read_only':true}]", id.s);
    (void)ld_create(c, "one", "base", members);
    at = ld_mount(c, "one");
    autofree char *path = ld_asprintf("%s/v/x", at.s);
    cr_expect(open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0644) < 0 && errno == EROFS);
    write_to(at.s, "x", "the container itself is writable");
    ld_unmount(c, "one");
    (void)ld_want_error(c, "not_found", "POST",
                        "{'image':'base','mounts':[{'type':'volume','target':'/v','source':"
                        "'0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef'}]}",
                        "/v1/containers");
}

LD_API_TEST(mounts, bind_and_tmpfs_appear_in_the_container)
{
    autofree char *members = NULL;
    struct ld_text at;
    autoclose int host = ld_test_mkdir("host");
    cJSON *json;

    ld_test_write(host, "file", "host\n");
    ld_have_base(c);
    members =
        ld_asprintf("'mounts':[{'type':'bind','source':'%s/host','target':'/mnt/host'},"
                    "{'type':'bind','source':'%s/host/file','target':'/etc/motd','read_only':true},"
                    "{'type':'tmpfs','target':'/tmp','size':1048576}]",
                    ld_test_dir(), ld_test_dir());
    (void)ld_create(c, "one", "base", members);
    at = ld_mount(c, "one");
    holds(at.s, "mnt/host/file", "host\n");
    holds(at.s, "etc/motd", "host\n");
    write_to(at.s, "mnt/host/new", "from inside\n");
    autofree char *seen = ld_test_read(host, "new");
    cr_expect_str_eq(seen, "from inside\n");
    autofree char *big = ld_asprintf("%s/tmp/big", at.s);
    autoclose int fd = open(big, O_CREAT | O_WRONLY | O_CLOEXEC, 0644);
    autofree char *zeros = ld_alloc0(2 << 20);
    cr_assert(fd >= 0);
    cr_expect_eq(ld_write_full(fd, zeros, 2 << 20), -ENOSPC, "the tmpfs has its size");
    ld_close_p(&fd);
    ld_unmount(c, "one");
    json = ld_want(c, 200, "GET", NULL, "/v1/containers/one");
    cr_expect_eq(ld_count(json, "mounts"), 3);
    autofree char *source = ld_asprintf("%s/host", ld_test_dir());
    cr_expect_str_eq(ld_str(json, "mounts.0.source"), source);
    ld_test_sh("rm -r host");
    json = ld_want_error(c, "not_found", "POST", NULL, "/v1/containers/one/mount");
    cr_expect(strstr(ld_str(json, "message"), "host"), "%s", ld_str(json, "message"));
    cr_expect_eq(ld_test_count_mounts(at.s), 0, "nothing is left mounted");
}

LD_API_TEST(mounts, of_a_subpath_show_only_it_and_never_leave_the_source)
{
    static const struct {
        const char *subpath, *code;
    } bad[] = {{"none", "not_found"}, {"out", "invalid"}, {"../host2", "invalid"}};
    autofree char *members = NULL;

    ld_test_sh(
        "mkdir -m 755 host host/in host2; echo inner > host/in/file; ln -s /mnt/host2 host/out");
    ld_have_base(c);
    members = ld_asprintf("'mounts':[{'type':'bind','source':'%s/host','target':'/srv',"
                          "'subpath':'in'}]",
                          ld_test_dir());
    (void)ld_create(c, "one", "base", members);
    cr_expect_str_eq(ld_str(ld_want(c, 200, "GET", NULL, "/v1/containers/one"), "mounts.0.subpath"),
                     "in");
    holds(ld_mount(c, "one").s, "srv/file", "inner\n");
    ld_unmount(c, "one");
    for (size_t i = 0; i < LD_ARRAY_LEN(bad); i++) {
        struct ld_text name = ld_textf("bad%zu", i);
        autofree char *more = ld_asprintf("'mounts':[{'type':'bind','source':'%s/host',"
                                          "'target':'/srv','subpath':'%s'}]",
                                          ld_test_dir(), bad[i].subpath);

        (void)ld_create(c, name.s, "base", more);
        (void)ld_want_error(c, bad[i].code, "POST", NULL, "/v1/containers/%s/mount", name.s);
    }
    ld_test_sh("test -z \"$(ls -A host2)\"");
}

LD_API_TEST(mounts, need_their_targets_in_a_read_only_container)
{
    ld_have_base(c);
    (void)ld_create(c, "one", "base",
                    "'read_only':true,'mounts':[{'type':'tmpfs','target':'/none/such'}]");
    cJSON *error = ld_want_error(c, "conflict", "POST", NULL, "/v1/containers/one/mount");
    cr_expect(strstr(ld_str(error, "message"), "/none/such"), "%s", ld_str(error, "message"));
    cr_expect_neq(ld_str(error, "hint")[0], '\0');
    (void)ld_create(c, "two", "base",
                    "'read_only':true,'mounts':[{'type':'tmpfs','target':'/var/empty'}]");
    write_to(ld_mount(c, "two").s, "var/empty/x", "a tmpfs is writable");
    ld_unmount(c, "two");
}

LD_API_TEST(mounts, never_land_outside_the_root)
{
    static const struct ld_entry entries[] = {
        {.path = "mnt/outside", .type = LD_ENTRY_DIR},
        {.path = "dangling", .type = LD_ENTRY_SYMLINK, .data = "/no/such"},
        {.path = "abs", .type = LD_ENTRY_SYMLINK, .data = "/mnt/outside"},
        {.path = "up", .type = LD_ENTRY_SYMLINK, .data = "../../../../../../mnt/outside"},
        {.path = "loop", .type = LD_ENTRY_SYMLINK, .data = "loop"},
        {.path = "file", .data = "x"},
    };
    struct ld_blob layer = ld_make_tar(entries, LD_ARRAY_LEN(entries));
    struct ld_image_spec spec = {.layers = &layer, .n_layers = 1};
    struct ld_blob archive = ld_make_image(&spec, 1);
    autoclose int outside = ld_test_mkdir("outside");
    struct ld_text at;

    ld_test_write(outside, "mark", "host\n");
    (void)ld_import(c, &archive, "?ref=tricky");
    (void)ld_create(
        c, "one", "tricky",
        "'mounts':[{'type':'volume','target':'/abs'},{'type':'tmpfs','target':'/up/x'}]");
    at = ld_mount(c, "one");
    cr_expect_eq(ld_test_count_mounts("/mnt/outside"), 0);
    cr_expect_eq(ld_test_count_mounts(at.s), 3);
    autofree char *inner = ld_asprintf("%s/mnt/outside", at.s);
    cr_expect_geq(ld_test_count_mounts(inner), 1, "resolved inside the root");
    ld_unmount(c, "one");
    (void)ld_create(c, "two", "tricky", "'mounts':[{'type':'tmpfs','target':'/loop'}]");
    (void)ld_want_error(c, "conflict", "POST", NULL, "/v1/containers/two/mount");
    (void)ld_create(c, "five", "tricky", "'mounts':[{'type':'tmpfs','target':'/dangling'}]");
    (void)ld_want_error(c, "conflict", "POST", NULL, "/v1/containers/five/mount");
    (void)ld_create(c, "three", "tricky", "'mounts':[{'type':'tmpfs','target':'/file'}]");
    (void)ld_want_error(c, "conflict", "POST", NULL, "/v1/containers/three/mount");
    (void)ld_create(c, "four", "tricky", "'mounts':[{'type':'tmpfs','target':'/file/below'}]");
    (void)ld_want_error(c, "conflict", "POST", NULL, "/v1/containers/four/mount");
    (void)ld_want_error(c, "invalid", "POST",
                        "{'image':'tricky','mounts':[{'type':'tmpfs','target':'/a/../../b'}]}",
                        "/v1/containers");
    ld_blob_done(&layer);
    ld_blob_done(&archive);
}

LD_API_TEST(volumes, that_lost_their_directory_are_damaged)
{
    cJSON *json;

    (void)ld_want(c, 201, "POST", "{'name':'data'}", "/v1/volumes");
    ld_daemon_stop(d);
    ld_test_sh("rm -rf %s/volumes/*", d->data_root);
    ld_daemon_again(d);
    json = ld_want(c, 200, "GET", NULL, "/v1/volumes/data");
    cr_expect_str_eq(ld_str(json, "state"), "damaged");
    cr_expect_not(ld_is_null(json, "reason"));
    (void)ld_want(c, 204, "DELETE", NULL, "/v1/volumes/data");
}
