/* Files of containers in and out: stat, read, list, write, delete; never outside the root. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <cjson/cJSON.h>
#include <openssl/evp.h>

#include "daemon/base/buf.h"
#include "daemon/base/fdio.h"
#include "daemon/base/mem.h"
#include "tests/lib/api.h"
#include "tests/lib/file_calls.h"

/* X-Layerd-Stat of the last reply, decoded; the caller deletes it. */
static cJSON *stat_header(struct ld_client *c)
{
    const char *text = ld_client_header(c, "X-Layerd-Stat");
    autofree unsigned char *bytes = text ? ld_alloc0(strlen(text) + 1) : NULL;
    int n;

    cr_assert(text, "no X-Layerd-Stat");
    n = EVP_DecodeBlock(bytes, (const unsigned char *)text, (int)strlen(text));
    cr_assert_gt(n, 0);
    return cJSON_ParseWithLength((const char *)bytes, (size_t)n);
}

static const struct ld_reply *get(struct ld_client *c, const char *query, const char *accept)
{
    return ld_get_files(c, "containers/web", query, accept);
}

static const struct ld_reply *put(struct ld_client *c, const char *query, const char *type,
                                  const void *data, size_t len)
{
    return ld_put_files(c, "containers/web", query, type, data, len);
}

LD_API_TEST(files, are_statted)
{
    cJSON *json;

    ld_have_base(c);
    (void)ld_create(c, "web", "base", NULL);
    (void)ld_want(c, 200, "HEAD", NULL, "/v1/containers/web/files?path=/bin/tool");
    json = stat_header(c);
    cr_expect_str_eq(ld_str(json, "name"), "tool");
    cr_expect_str_eq(ld_str(json, "type"), "file");
    cr_expect_str_eq(ld_str(json, "mode"), "4755");
    cr_expect_eq(ld_int(json, "size"), 7);
    cr_expect_eq(strncmp(ld_str(json, "mtime"), "2023-11-14T22:13:20", 19), 0);
    cJSON_Delete(json);
    (void)ld_want(c, 200, "HEAD", NULL, "/v1/containers/web/files?path=/bin/link");
    json = stat_header(c);
    cr_expect_str_eq(ld_str(json, "type"), "symlink");
    cr_expect_str_eq(ld_str(json, "target"), "tool");
    cJSON_Delete(json);
    (void)ld_want(c, 200, "HEAD", NULL, "/v1/containers/web/files?path=/");
    json = stat_header(c);
    cr_expect_str_eq(ld_str(json, "type"), "directory");
    cJSON_Delete(json);
    (void)ld_want(c, 404, "HEAD", NULL, "/v1/containers/web/files?path=/none");
    (void)ld_want(c, 404, "HEAD", NULL, "/v1/containers/none/files?path=/");
    (void)ld_want(c, 400, "HEAD", NULL, "/v1/containers/web/files");
}

LD_API_TEST(files, are_read_as_bytes_tar_or_list)
{
    const struct ld_reply *reply;
    autofree char *names = NULL, *one = NULL;
    cJSON *json;

    ld_have_base(c);
    (void)ld_create(c, "web", "base", NULL);
    reply = get(c, "path=/etc/motd", ld_octets);
    cr_expect_eq(reply->status, 200);
    cr_expect_str_eq(reply->body, "second\n");
    cr_expect_str_eq(ld_client_header(c, "Content-Type"), ld_octets);
    cJSON_Delete(stat_header(c));
    cr_expect_eq(get(c, "path=/etc", ld_octets)->status, 409);
    cr_expect_eq(get(c, "path=/bin/link", ld_octets)->status, 409);
    names = ld_names_in_tar(get(c, "path=/usr/lib", NULL));
    cr_expect_str_eq(names, "lib/ lib/deep/ lib/deep/file");
    one = ld_names_in_tar(get(c, "path=/etc/motd", ld_tar_type));
    cr_expect_str_eq(one, "motd");
    json = get(c, "path=/etc", "application/json")->json;
    cr_expect_eq(ld_count(json, "items"), 2);
    cr_expect_str_eq(ld_str(json, "items.0.name"), "motd");
    cr_expect_str_eq(ld_str(json, "items.1.name"), "passwd");
    json = get(c, "path=/etc&limit=1", "application/json")->json;
    cr_expect_eq(ld_count(json, "items"), 1);
    autofree char *next = ld_asprintf("path=/etc&after=%s", ld_str(json, "next"));
    json = get(c, next, "application/json")->json;
    cr_expect_str_eq(ld_str(json, "items.0.name"), "passwd");
    cr_expect_eq(get(c, "path=/etc/motd", "application/json")->status, 409);
    cr_expect_eq(get(c, "path=/none", ld_octets)->status, 404);
    cr_expect_geq(get(c, "path=/etc/motd/x", ld_octets)->status,
                  404); /* or 409: it is no directory */
}

LD_API_TEST(files, are_written_as_bytes)
{
    static const struct {
        const char *query;
        int status;
    } rows[] = {
        {"path=/etc/new&mode=0640&uid=7&gid=8&mtime=2001-02-03T04:05:06.789Z", 200},
        {"path=/etc/motd", 200},
        {"path=/none/such", 404},
        {"path=/etc", 409},
        {"path=/etc/", 409},
        {"path=/etc/motd/x", 409},
        {"path=/etc/x&mode=9", 400},
        {"path=/etc/x&mode=17777", 400},
        {"path=/etc/x&uid=-1", 400},
        {"path=/etc/x&mtime=noon", 400},
    };
    struct ld_text at;
    struct stat st;

    ld_have_base(c);
    (void)ld_create(c, "web", "base", NULL);
    for (size_t i = 0; i < LD_ARRAY_LEN(rows); i++) {
        const struct ld_reply *reply = put(c, rows[i].query, ld_octets, "hello", 5);

        cr_expect(reply->status == rows[i].status ||
                      (strstr(rows[i].query, "motd/x") && reply->status == 404),
                  "%s: %d %s", rows[i].query, reply->status, reply->body);
    }
    at = ld_mount(c, "web");
    autofree char *path = ld_asprintf("%s/etc/new", at.s);
    cr_assert_eq(stat(path, &st), 0);
    cr_expect(st.st_uid == 7 && st.st_gid == 8 && (st.st_mode & 07777) == 0640 && st.st_size == 5);
    cr_expect(st.st_mtim.tv_sec == 981173106 && st.st_mtim.tv_nsec == 789000000);
    /* The same while it is mounted. */
    cr_expect_eq(put(c, "path=/etc/motd", ld_octets, "again", 5)->status, 200);
    cr_expect_str_eq(get(c, "path=/etc/motd", ld_octets)->body, "again");
    ld_unmount(c, "web");
}

LD_API_TEST(files, are_written_from_a_tar)
{
    static const struct ld_entry entries[] = {
        {.path = "dir", .type = LD_ENTRY_DIR, .mode = 0711, .uid = 3},
        {.path = "dir/file", .data = "in\n", .mode = 0600, .gid = 4, .mtime_ns = 5},
        {.path = "dir/same", .type = LD_ENTRY_LINK, .data = "dir/file"},
        {.path = "dir/sym", .type = LD_ENTRY_SYMLINK, .data = "/etc/passwd"},
        {.path = "motd", .data = "from tar\n"},
    };
    struct ld_blob tar = ld_make_tar(entries, LD_ARRAY_LEN(entries));
    struct ld_blob packed = ld_compress(&tar, "gzip");
    const struct ld_reply *reply;
    struct ld_text at;
    struct stat st;

    ld_have_base(c);
    (void)ld_create(c, "web", "base", NULL);
    reply = put(c, "path=/etc", ld_tar_type, tar.data, tar.len);
    cr_assert_eq(reply->status, 200, "%s", reply->body);
    cr_expect_eq(ld_int(reply->json, "entries"), 5);
    cr_expect_eq(ld_int(reply->json, "bytes"), 12);
    cr_expect_eq(put(c, "path=/var/empty", NULL, packed.data, packed.len)->status, 200);
    at = ld_mount(c, "web");
    autofree char *file = ld_asprintf("%s/etc/dir/file", at.s);
    cr_assert_eq(stat(file, &st), 0);
    cr_expect(st.st_gid == 4 && (st.st_mode & 07777) == 0600 && st.st_nlink == 2);
    cr_expect(st.st_mtim.tv_sec == 1700000000 && st.st_mtim.tv_nsec == 5);
    ld_test_sh("grep -q 'from tar' %s/etc/motd %s/var/empty/motd", at.s, at.s);
    ld_unmount(c, "web");
    cr_expect_eq(put(c, "path=/none", ld_tar_type, tar.data, tar.len)->status, 404);
    cr_expect_eq(put(c, "path=/etc/passwd", ld_tar_type, tar.data, tar.len)->status, 409);
    cr_expect_eq(put(c, "path=/etc", ld_tar_type, "garbage", 7)->status, 422);
    cr_expect_eq(put(c, "path=/etc", ld_tar_type, tar.data, 700)->status, 422);
    cr_expect_eq(put(c, "path=/etc", "text/plain", "x", 1)->status, 415);
    ld_blob_done(&tar);
    ld_blob_done(&packed);
}

LD_API_TEST(files, replace_no_directory_by_something_else)
{
    static const struct ld_entry file_over_dir[] = {{.path = "deep", .data = "x"}};
    static const struct ld_entry dir_over_file[] = {{.path = "motd", .type = LD_ENTRY_DIR}};
    struct ld_blob one = ld_make_tar(file_over_dir, 1), two = ld_make_tar(dir_over_file, 1);

    ld_have_base(c);
    (void)ld_create(c, "web", "base", NULL);
    cr_expect_eq(put(c, "path=/usr/lib", ld_tar_type, one.data, one.len)->status, 409);
    cr_expect_eq(put(c, "path=/etc", ld_tar_type, two.data, two.len)->status, 409);
    ld_blob_done(&one);
    ld_blob_done(&two);
}

LD_API_TEST(files, are_deleted)
{
    ld_have_base(c);
    (void)ld_create(c, "web", "base", NULL);
    (void)ld_want(c, 204, "DELETE", NULL, "/v1/containers/web/files?path=/etc/motd");
    (void)ld_want_error(c, "not_found", "DELETE", NULL, "/v1/containers/web/files?path=/etc/motd");
    (void)ld_want_error(c, "conflict", "DELETE", NULL, "/v1/containers/web/files?path=/usr");
    (void)ld_want(c, 204, "DELETE", NULL, "/v1/containers/web/files?path=/usr&recursive=1");
    (void)ld_want_error(c, "invalid", "DELETE", NULL,
                        "/v1/containers/web/files?path=/&recursive=1");
    (void)ld_want_error(c, "invalid", "DELETE", NULL,
                        "/v1/containers/web/files?path=/etc/..&recursive=1");
    (void)ld_want(c, 204, "DELETE", NULL, "/v1/containers/web/files?path=/bin/link");
    (void)ld_want(c, 200, "HEAD", NULL, "/v1/containers/web/files?path=/bin/tool");
    (void)ld_want(c, 204, "DELETE", NULL, "/v1/containers/web/files?path=/var/empty");
    struct ld_blob changes = ld_changes(c, "web");
    cr_expect(strstr(changes.data, "deleted /usr") && strstr(changes.data, "deleted /etc/motd"),
              "%s", changes.data);
    ld_blob_done(&changes);
}

LD_API_TEST(files, of_a_read_only_container_are_not_written)
{
    ld_have_base(c);
    (void)ld_create(c, "web", "base", "'read_only':true");
    cr_expect_str_eq(get(c, "path=/etc/motd", ld_octets)->body, "second\n");
    cr_expect_eq(put(c, "path=/etc/new", ld_octets, "x", 1)->status, 409);
    (void)ld_want_error(c, "conflict", "DELETE", NULL, "/v1/containers/web/files?path=/etc/motd");
}

LD_API_TEST(files, include_the_volumes)
{
    autofree char *names = NULL;

    ld_have_base(c);
    (void)ld_create(c, "web", "base",
                    "'mounts':[{'type':'volume','source':'data','target':'/srv/data'}]");
    cr_expect_eq(put(c, "path=/srv/data/file", ld_octets, "kept", 4)->status, 200);
    names = ld_names_in_tar(get(c, "path=/srv", NULL));
    cr_expect_str_eq(names, "srv/ srv/data/ srv/data/file");
    (void)ld_want_error(c, "busy", "DELETE", NULL,
                        "/v1/containers/web/files?path=/srv&recursive=1");
    (void)ld_want(c, 204, "DELETE", NULL, "/v1/containers/web");
    (void)ld_create(c, "web", "base", "'mounts':[{'type':'volume','source':'data','target':'/v'}]");
    cr_expect_str_eq(get(c, "path=/v/file", ld_octets)->body, "kept");
    cr_expect_eq(ld_test_count_mounts(d->run_root) <= 3, true);
}

LD_API_TEST(files, never_leave_the_root)
{
    static const struct ld_entry evil[] = {
        {.path = "esc", .type = LD_ENTRY_SYMLINK, .data = "/mnt/outside"},
        {.path = "esc/evil", .data = "x"},
    };
    static const struct ld_entry dots[] = {{.path = "../../evil", .data = "x"}};
    static const struct ld_entry link[] = {
        {.path = "l", .type = LD_ENTRY_LINK, .data = "../../../../mnt/outside/mark"}};
    static const struct ld_entry dir[] = {{.path = "abs", .type = LD_ENTRY_DIR}};
    struct ld_blob tar = ld_make_tar(evil, 2), up = ld_make_tar(dots, 1),
                   hard = ld_make_tar(link, 1), over = ld_make_tar(dir, 1);
    autoclose int outside = ld_test_mkdir("outside");
    struct ld_text at;

    ld_test_write(outside, "mark", "host\n");
    ld_have_base(c);
    (void)ld_create(c, "web", "base", NULL);
    at = ld_mount(c, "web");
    ld_test_sh(
        "ln -s /mnt/outside %s/abs; ln -s ../../../../../mnt/outside %s/up; ln -s loop %s/loop; "
        "ln -s /proc/self/root %s/magic",
        at.s, at.s, at.s, at.s);
    static const char *const reads[] = {
        "path=/abs/mark",
        "path=/up/mark",
        "path=/../../mnt/outside/mark",
        "path=/loop",
        "path=/loop/x",
        "path=/magic/mnt/outside/mark",
        "path=/%2e%2e/mnt/outside/mark",
    };
    for (size_t i = 0; i < LD_ARRAY_LEN(reads); i++)
        cr_expect_neq(get(c, reads[i], ld_octets)->status, 200, "%s", reads[i]);
    cr_expect_neq(put(c, "path=/abs/evil", ld_octets, "x", 1)->status, 200);
    cr_expect_neq(put(c, "path=/abs/mark", ld_octets, "x", 1)->status, 200);
    (void)ld_want_error(c, "not_found", "DELETE", NULL, "/v1/containers/web/files?path=/abs/mark");
    (void)put(c, "path=/", ld_tar_type, tar.data, tar.len);
    cr_expect_eq(put(c, "path=/", ld_tar_type, up.data, up.len)->status, 422);
    cr_expect_eq(put(c, "path=/", ld_tar_type, hard.data, hard.len)->status, 422);
    cr_expect_eq(put(c, "path=/", ld_tar_type, over.data, over.len)->status, 409,
                 "whether it leads to a directory is asked inside the root");
    autofree char *mark = ld_test_read(outside, "mark");
    cr_expect_str_eq(mark, "host\n");
    cr_expect_neq(faccessat(outside, "evil", F_OK, 0), 0);
    ld_unmount(c, "web");
    ld_blob_done(&tar);
    ld_blob_done(&up);
    ld_blob_done(&hard);
    ld_blob_done(&over);
}

LD_API_TEST(files, may_have_names_that_are_no_utf8)
{
    cJSON *json;

    ld_have_base(c);
    (void)ld_create(c, "web", "base", NULL);
    cr_expect_eq(put(c, "path=/var/empty/a%ffb%0ac", ld_octets, "odd", 3)->status, 200);
    cr_expect_str_eq(get(c, "path=/var/empty/a%ffb%0ac", ld_octets)->body, "odd");
    json = get(c, "path=/var/empty", "application/json")->json;
    cr_expect_str_eq(ld_str(json, "items.0.name"), "a\xef\xbf\xbd"
                                                   "b\nc");
    cr_expect_str_eq(ld_str(json, "items.0.name_b64"), "Yf9iCmM=");
    json = ld_want(c, 200, "GET", NULL, "/v1/containers/web/changes");
    cr_expect_str_eq(ld_str(json, "items.1.path_b64"), "L3Zhci9lbXB0eS9h/2IKYw==");
}

LD_API_TEST(files, of_any_kind_are_told_and_special_ones_never_opened)
{
    struct ld_text at;
    cJSON *json;

    ld_have_base(c);
    (void)ld_create(c, "web", "base", NULL);
    at = ld_mount(c, "web");
    ld_test_sh("mkfifo %s/var/empty/fifo; mknod %s/var/empty/null c 1 3", at.s, at.s);
    json = get(c, "path=/var/empty", "application/json")->json;
    cr_expect_str_eq(ld_str(json, "items.0.type"), "fifo");
    cr_expect_str_eq(ld_str(json, "items.1.type"), "char_device");
    cr_expect_eq(ld_int(json, "items.1.device.minor"), 3);
    cr_expect_eq(get(c, "path=/var/empty/fifo", ld_octets)->status, 409);
    cr_expect_eq(get(c, "path=/var/empty/null", ld_octets)->status, 409);
    autofree char *names = ld_names_in_tar(get(c, "path=/var/empty", NULL));
    cr_expect_str_eq(names, "empty/ empty/fifo empty/null");
    ld_unmount(c, "web");
}

LD_API_TEST(files, of_any_size_go_in_and_out_whole)
{
    enum { SIZE = 48 << 20 };
    autoclose int in = open("/mnt/in", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    autoclose int out = open("/mnt/out", O_RDWR | O_CREAT | O_CLOEXEC, 0600);

    ld_test_sh("head -c %d /dev/urandom > /mnt/in", SIZE);
    ld_have_base(c);
    (void)ld_create(c, "web", "base", NULL);
    ld_daemon_reset_peak(d);
    cr_expect_eq(ld_call(c, &(struct ld_call){.method = "PUT",
                                              .target = "/v1/containers/web/files?path=/big",
                                              .content_type = ld_octets,
                                              .body_fd = in})
                     ->status,
                 200);
    cr_expect_eq(
        ld_call(c, &(struct ld_call){.method = "GET",
                                     .target = "/v1/containers/web/files?path=/big",
                                     .headers =
                                         (const char *[]){"Accept: application/octet-stream", NULL},
                                     .to_fd = out})
            ->status,
        200);
    ld_test_sh("cmp /mnt/in /mnt/out");
    cr_expect(!LD_MEMORY_COUNTS || ld_daemon_peak_rss(d) < 64 << 20);
}

LD_TEST(files, say_no_space_and_change_nothing_on_a_full_disk)
{
    struct ld_daemon *d;
    struct ld_client *c;
    int in = open("/mnt/in", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    const struct ld_reply *reply;

    ld_close(ld_test_fs("small", "ext4", 256));
    d = ld_daemon_start("small", NULL);
    c = d->client;
    ld_test_sh("head -c 300M /dev/zero | tr '\\0' x > /mnt/in");
    ld_have_base(c);
    (void)ld_create(c, "web", "base", NULL);
    reply = ld_call(c, &(struct ld_call){.method = "PUT",
                                         .target = "/v1/containers/web/files?path=/etc/motd",
                                         .content_type = ld_octets,
                                         .body_fd = in});
    cr_expect_eq(reply->status, 507, "%d %s", reply->status, reply->body);
    cr_expect_str_eq(get(c, "path=/etc/motd", ld_octets)->body, "second\n");
    ld_close(in);
    /* What says that a file of the image is gone is a file itself. */
    (void)ld_mount(c, "web");
    ld_test_sh("cd small && until ! fallocate -l 1M fill$((n=n+1)) 2>/dev/null; do :; done;"
               "until ! touch $(seq -f x%%.0f $((k=k+1)) $((k=k+499))) 2>/dev/null; do :; done");
    (void)ld_want_error(c, "no_space", "DELETE", NULL, "/v1/containers/web/files?path=/etc/motd");
    ld_test_sh("rm -f small/fill* && find small -maxdepth 1 -name 'x*' -delete");
    (void)ld_want(c, 204, "DELETE", NULL, "/v1/containers/web/files?path=/etc/motd");
    ld_unmount(c, "web");
    ld_api_finish(d);
}

LD_TEST(files, are_not_deleted_where_there_is_no_room_for_a_whiteout)
{
    struct ld_daemon *d;
    struct ld_client *c;

    ld_close(ld_test_fs("small", "ext4", 256));
    d = ld_daemon_start("small", NULL);
    c = d->client;
    ld_have_base(c);
    (void)ld_create(c, "web", "base", "'driver':'overlay'");
    ld_test_sh("head -c 1G /dev/zero > /mnt/small/fill 2>/dev/null; true");
    (void)ld_want_error(c, "no_space", "DELETE", NULL,
                        "/v1/containers/web/files?path=/usr/lib/deep/file");
    ld_test_sh("rm /mnt/small/fill");
    cr_expect_str_eq(get(c, "path=/usr/lib/deep/file", ld_octets)->body, "deep\n");
    (void)ld_want(c, 204, "DELETE", NULL, "/v1/containers/web/files?path=/usr/lib/deep/file");
    ld_api_finish(d);
}
