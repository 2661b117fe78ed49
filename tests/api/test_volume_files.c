/* Files of volumes in and out: the contract of containers' files, on a volume's own directory. */
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cjson/cJSON.h>

#include "daemon/base/fdio.h"
#include "daemon/base/mem.h"
#include "tests/lib/api.h"
#include "tests/lib/file_calls.h"

static const struct ld_reply *get(struct ld_client *c, const char *query, const char *accept)
{
    return ld_get_files(c, "volumes/data", query, accept);
}

static const struct ld_reply *put(struct ld_client *c, const char *query, const char *type,
                                  const void *data, size_t len)
{
    return ld_put_files(c, "volumes/data", query, type, data, len);
}

/* The directory of the only volume there is. */
static struct ld_text volume_dir(const struct ld_daemon *d)
{
    struct ld_text pattern = ld_textf("%s/volumes/*", d->data_root), dir;
    glob_t found;

    cr_assert_eq(glob(pattern.s, 0, NULL, &found), 0);
    cr_assert_eq(found.gl_pathc, 1);
    dir = ld_textf("%s", found.gl_pathv[0]);
    globfree(&found);
    return dir;
}

LD_API_TEST(volume_files, are_written_told_read_listed_and_deleted)
{
    struct ld_text dir;
    struct stat st;
    cJSON *json;

    (void)ld_want(c, 201, "POST", "{'name':'data'}", "/v1/volumes");
    cr_expect_eq(put(c, "path=/new&mode=0640&uid=7&gid=8&mtime=2001-02-03T04:05:06.789Z", ld_octets,
                     "hello", 5)
                     ->status,
                 200);
    dir = volume_dir(d);
    autofree char *path = ld_asprintf("%s/new", dir.s);
    cr_assert_eq(stat(path, &st), 0);
    cr_expect(st.st_uid == 7 && st.st_gid == 8 && (st.st_mode & 07777) == 0640 && st.st_size == 5);
    cr_expect(st.st_mtim.tv_sec == 981173106 && st.st_mtim.tv_nsec == 789000000);
    cr_expect_str_eq(get(c, "path=/new", ld_octets)->body, "hello");
    cr_expect_not_null(ld_client_header(c, "X-Layerd-Stat"));
    (void)ld_want(c, 200, "HEAD", NULL, "/v1/volumes/data/files?path=/new");
    cr_expect_not_null(ld_client_header(c, "X-Layerd-Stat"));
    (void)ld_want(c, 404, "HEAD", NULL, "/v1/volumes/data/files?path=/none");
    (void)ld_want(c, 404, "HEAD", NULL, "/v1/volumes/none/files?path=/");
    (void)ld_want(c, 400, "HEAD", NULL, "/v1/volumes/data/files");
    cr_expect_eq(put(c, "path=/other", ld_octets, "x", 1)->status, 200);
    json = get(c, "path=/&limit=1", "application/json")->json;
    cr_expect_eq(ld_count(json, "items"), 1);
    cr_expect_str_eq(ld_str(json, "items.0.name"), "new");
    cr_expect_str_eq(ld_str(json, "next"), "/new");
    json = get(c, "path=/&after=/new", "application/json")->json;
    cr_expect_str_eq(ld_str(json, "items.0.name"), "other");
    cr_expect(ld_is_null(json, "next"));
    (void)ld_want(c, 204, "DELETE", NULL, "/v1/volumes/data/files?path=/new");
    (void)ld_want_error(c, "not_found", "DELETE", NULL, "/v1/volumes/data/files?path=/new");
    cr_expect_eq(get(c, "path=/new", ld_octets)->status, 404);
}

LD_API_TEST(volume_files, go_in_and_out_as_a_tar)
{
    static const struct ld_entry entries[] = {
        {.path = "dir", .type = LD_ENTRY_DIR, .mode = 0711, .uid = 3},
        {.path = "dir/file", .data = "in\n", .mode = 0600, .gid = 4, .mtime_ns = 5},
        {.path = "dir/same", .type = LD_ENTRY_LINK, .data = "dir/file"},
        {.path = "dir/sym", .type = LD_ENTRY_SYMLINK, .data = "/etc/passwd"},
    };
    static const struct ld_entry over[] = {{.path = "dir", .data = "no directory"}};
    struct ld_blob tar = ld_make_tar(entries, LD_ARRAY_LEN(entries));
    struct ld_blob packed = ld_compress(&tar, "zstd"), file = ld_make_tar(over, 1);
    const struct ld_reply *reply;
    struct ld_text dir;

    (void)ld_want(c, 201, "POST", "{'name':'data'}", "/v1/volumes");
    reply = put(c, "path=/", ld_tar_type, packed.data, packed.len);
    cr_assert_eq(reply->status, 200, "%s", reply->body);
    cr_expect_eq(ld_int(reply->json, "entries"), 4);
    cr_expect_eq(ld_int(reply->json, "bytes"), 3);
    dir = volume_dir(d);
    ld_test_sh("test \"$(stat -c '%%a %%u' %s/dir)\" = '711 3' && "
               "test \"$(stat -c '%%a %%g %%h' %s/dir/file)\" = '600 4 2'",
               dir.s, dir.s);
    reply = get(c, "path=/dir", NULL);
    cr_assert_eq(reply->status, 200);
    autoclose int out = open("/mnt/out.tar", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    cr_assert_eq(ld_write_full(out, reply->body, reply->len), 0);
    ld_test_sh(
        "test \"$(tar tf /mnt/out.tar | tr '\\n' ' ')\" = 'dir/ dir/file dir/same dir/sym '");
    reply = get(c, "path=/", NULL);
    cr_assert_eq(ld_pwrite_full(out, reply->body, reply->len, 0), 0);
    ld_test_sh("test \"$(tar tf /mnt/out.tar | head -n 2 | tr '\\n' ' ')\" = './ dir/ '");

    cr_expect_eq(put(c, "path=/none", ld_tar_type, tar.data, tar.len)->status, 404);
    cr_expect_eq(put(c, "path=/dir/file", ld_tar_type, tar.data, tar.len)->status, 409);
    cr_expect_eq(put(c, "path=/", ld_tar_type, file.data, file.len)->status, 409);
    cr_expect_eq(put(c, "path=/", ld_tar_type, "garbage", 7)->status, 422);
    cr_expect_eq(put(c, "path=/", "text/plain", "x", 1)->status, 415);
    cr_expect_eq(put(c, "path=/x&mode=9", ld_octets, "x", 1)->status, 400);
    cr_expect_eq(get(c, "path=/dir", ld_octets)->status, 409);
    cr_expect_eq(get(c, "path=/dir/file", "application/json")->status, 409);
    cr_expect_eq(get(c, "path=relative", ld_octets)->status, 400);
    (void)ld_want_error(c, "conflict", "DELETE", NULL, "/v1/volumes/data/files?path=/dir");
    (void)ld_want_error(c, "invalid", "DELETE", NULL, "/v1/volumes/data/files?path=/&recursive=1");
    (void)ld_want(c, 204, "DELETE", NULL, "/v1/volumes/data/files?path=/dir&recursive=1");
    ld_test_sh("test -z \"$(ls %s)\"", dir.s);
    ld_blob_done(&tar);
    ld_blob_done(&packed);
    ld_blob_done(&file);
}

LD_API_TEST(volume_files, are_those_its_containers_see)
{
    struct ld_text at;

    ld_have_base(c);
    (void)ld_create(c, "web", "base",
                    "'mounts':[{'type':'volume','source':'data','target':'/srv/data'}]");
    cr_expect_eq(put(c, "path=/before", ld_octets, "1", 1)->status, 200);
    at = ld_mount(c, "web");
    cr_expect_eq(put(c, "path=/during", ld_octets, "2", 1)->status, 200);
    ld_test_sh("cd %s/srv/data && test \"$(cat before during)\" = 12 && echo 3 > inside", at.s);
    cr_expect_str_eq(get(c, "path=/inside", ld_octets)->body, "3\n");
    (void)ld_want(c, 204, "DELETE", NULL, "/v1/volumes/data/files?path=/inside");
    ld_test_sh("test ! -e %s/srv/data/inside", at.s);
    ld_unmount(c, "web");
    cr_expect_str_eq(get(c, "path=/during", ld_octets)->body, "2");
}

/* What is in it before its first mount is never hidden or replaced by the image's content. */
LD_API_TEST(volume_files, written_first_keep_the_volume_from_being_seeded)
{
    struct ld_text at;

    ld_have_app(c); /* /data/seed */
    (void)ld_create(c, "web", "app",
                    "'mounts':[{'type':'volume','source':'data','target':'/data'}]");
    cr_expect_eq(put(c, "path=/mine", ld_octets, "1", 1)->status, 200);
    at = ld_mount(c, "web");
    ld_test_sh("test \"$(ls %s/data)\" = mine", at.s);
    ld_unmount(c, "web");
}

struct racer {
    const char *socket;
    int round;
    int status;
    pthread_t thread;
};

static void *mount_it(void *arg)
{
    struct racer *r = arg;
    struct ld_client *c = ld_client_new(r->socket);
    autofree char *target = ld_asprintf("/v1/containers/c%d/mount", r->round);
    const struct ld_reply *reply =
        ld_client_call(c, &(struct ld_call){.method = "POST", .target = target});

    r->status = reply ? reply->status : 0;
    ld_client_free(c);
    return NULL;
}

/* Seeding replaces the empty directory: what is written at the same time is in the new one. */
LD_API_TEST(volume_files, written_while_a_volume_is_seeded_stay)
{
    ld_have_app(c);
    for (int i = 0; i < 30; i++) {
        struct racer r = {.socket = d->socket, .round = i};
        struct ld_text name = ld_textf("c%d", i);
        struct ld_text mounts =
            ld_textf("'mounts':[{'type':'volume','source':'v%d','target':'/data'}]", i);
        struct ld_text target = ld_textf("/v1/volumes/v%d/files?path=/mine", i);
        const struct ld_reply *reply;

        (void)ld_create(c, name.s, "app", mounts.s);
        cr_assert_eq(pthread_create(&r.thread, NULL, mount_it, &r), 0);
        if (i % 3)
            usleep((useconds_t)(i * 100));
        reply = ld_call(c, &(struct ld_call){.method = "PUT",
                                             .target = target.s,
                                             .content_type = ld_octets,
                                             .body = "x",
                                             .body_len = 1});
        cr_expect_eq(reply->status, 200, "%s", reply->body);
        cr_assert_eq(pthread_join(r.thread, NULL), 0);
        cr_expect_eq(r.status, 200);
        (void)ld_want(c, 200, "HEAD", NULL, "%s", target.s);
        ld_unmount(c, name.s);
    }
}

LD_API_TEST(volume_files, never_leave_the_volume)
{
    static const struct ld_entry evil[] = {
        {.path = "esc", .type = LD_ENTRY_SYMLINK, .data = "/mnt/outside"},
        {.path = "esc/evil", .data = "x"},
    };
    static const struct ld_entry dots[] = {{.path = "../../evil", .data = "x"}};
    static const struct ld_entry link[] = {
        {.path = "l", .type = LD_ENTRY_LINK, .data = "../../../../mnt/outside/mark"}};
    struct ld_blob tar = ld_make_tar(evil, 2), up = ld_make_tar(dots, 1),
                   hard = ld_make_tar(link, 1);
    static const char *const reads[] = {
        "path=/abs/mark", "path=/up/mark", "path=/../../../mnt/outside/mark", "path=/../../db",
        "path=/../1/x",   "path=/loop",    "path=/magic/mnt/outside/mark",
    };
    autoclose int outside = ld_test_mkdir("outside");
    struct ld_text dir, before;
    pid_t swapper;

    ld_test_write(outside, "mark", "host\n");
    (void)ld_want(c, 201, "POST", "{'name':'data'}", "/v1/volumes");
    dir = volume_dir(d);
    ld_test_sh("cd %s && ln -s /mnt/outside abs; ln -s ../../../../../mnt/outside up; "
               "ln -s loop loop; ln -s /proc/self/root magic; mkdir d; ln -s /mnt/outside d.link",
               dir.s);
    before = ld_tree_digest("/mnt/outside");
    for (size_t i = 0; i < LD_ARRAY_LEN(reads); i++)
        cr_expect_neq(get(c, reads[i], ld_octets)->status, 200, "%s", reads[i]);
    cr_expect_neq(put(c, "path=/abs/evil", ld_octets, "x", 1)->status, 200);
    (void)ld_want_error(c, "not_found", "DELETE", NULL, "/v1/volumes/data/files?path=/abs/mark");
    (void)put(c, "path=/", ld_tar_type, tar.data, tar.len);
    cr_expect_eq(put(c, "path=/", ld_tar_type, up.data, up.len)->status, 422);
    cr_expect_eq(put(c, "path=/", ld_tar_type, hard.data, hard.len)->status, 422);

    swapper = fork();
    if (swapper == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (chdir(dir.s) < 0)
            _exit(1);
        for (;;)
            (void)renameat2(AT_FDCWD, "d", AT_FDCWD, "d.link", RENAME_EXCHANGE);
    }
    cr_assert_gt(swapper, 0);
    for (int i = 0; i < 200; i++) {
        const struct ld_reply *reply;

        (void)put(c, "path=/d/new", ld_octets, "x", 1);
        (void)put(c, "path=/d", ld_tar_type, tar.data, tar.len);
        reply = get(c, "path=/d/mark", ld_octets);
        cr_expect_neq(reply->status, 200);
        (void)ld_call(c, &(struct ld_call){.method = "DELETE",
                                           .target = "/v1/volumes/data/files?path=/d/mark"});
    }
    (void)kill(swapper, SIGKILL);
    cr_assert_eq(waitpid(swapper, NULL, 0), swapper);
    cr_expect_str_eq(ld_tree_digest("/mnt/outside").s, before.s);
    ld_blob_done(&tar);
    ld_blob_done(&up);
    ld_blob_done(&hard);
}

LD_API_TEST(volume_files, of_special_kinds_are_told_and_never_opened)
{
    struct ld_text dir;
    cJSON *json;

    (void)ld_want(c, 201, "POST", "{'name':'data'}", "/v1/volumes");
    dir = volume_dir(d);
    ld_test_sh("mkfifo %s/fifo; mknod %s/null c 1 3", dir.s, dir.s);
    json = get(c, "path=/", "application/json")->json;
    cr_expect_str_eq(ld_str(json, "items.0.type"), "fifo");
    cr_expect_str_eq(ld_str(json, "items.1.type"), "char_device");
    cr_expect_eq(get(c, "path=/fifo", ld_octets)->status, 409);
    cr_expect_eq(get(c, "path=/null", ld_octets)->status, 409);
}

LD_API_TEST(volume_files, of_a_damaged_volume_are_refused)
{
    (void)ld_want(c, 201, "POST", "{'name':'data'}", "/v1/volumes");
    ld_daemon_stop(d);
    ld_test_sh("rm -rf %s/volumes/*", d->data_root);
    ld_daemon_again(d);
    (void)ld_want(c, 500, "HEAD", NULL, "/v1/volumes/data/files?path=/");
    (void)ld_want_error(c, "corrupt", "GET", NULL, "/v1/volumes/data/files?path=/");
    cr_expect_eq(put(c, "path=/x", ld_octets, "x", 1)->status, 500);
    cr_expect_str_eq(ld_str(put(c, "path=/x", ld_octets, "x", 1)->json, "error.code"), "corrupt");
    (void)ld_want_error(c, "corrupt", "DELETE", NULL, "/v1/volumes/data/files?path=/x");
}

LD_TEST(volume_files, say_no_space_and_change_nothing_on_a_full_disk)
{
    struct ld_daemon *d;
    struct ld_client *c;
    autoclose int in = open("/mnt/in", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    const struct ld_reply *reply;

    ld_close(ld_test_fs("small", "ext4", 256));
    d = ld_daemon_start("small", NULL);
    c = d->client;
    ld_test_sh("head -c 300M /dev/zero | tr '\\0' x > /mnt/in");
    (void)ld_want(c, 201, "POST", "{'name':'data'}", "/v1/volumes");
    cr_expect_eq(put(c, "path=/file", ld_octets, "old", 3)->status, 200);
    reply = ld_call(c, &(struct ld_call){.method = "PUT",
                                         .target = "/v1/volumes/data/files?path=/file",
                                         .content_type = ld_octets,
                                         .body_fd = in});
    cr_expect_eq(reply->status, 507, "%d %s", reply->status, reply->body);
    cr_expect_str_eq(get(c, "path=/file", ld_octets)->body, "old");
    ld_api_finish(d);
}

/* The reaper waits for whoever reads. */
LD_API_TEST(volume_files, being_read_outlive_the_volume)
{
    enum { SIZE = 64 << 20 };
    static const char request[] = "GET /v1/volumes/data/files?path=/d HTTP/1.1\r\nHost: x\r\n"
                                  "Connection: close\r\n\r\n";
    autofree char *block = ld_alloc0(1 << 20);
    autoclose int fd = ld_raw_connect(d->socket);
    struct ld_text dir;
    size_t len = 0;
    ssize_t n;

    (void)ld_want(c, 201, "POST", "{'name':'data'}", "/v1/volumes");
    dir = volume_dir(d);
    ld_test_sh("mkdir %s/d && for i in $(seq 64); do head -c 1M /dev/zero > %s/d/$i; done", dir.s,
               dir.s);
    ld_raw_send(fd, request, sizeof(request) - 1);
    cr_assert_gt(read(fd, block, 1000), 0); /* under way, and held back by us */
    (void)ld_want(c, 204, "DELETE", NULL, "/v1/volumes/data?purge=1");
    usleep(500000); /* the reaper looks, and waits */
    while ((n = read(fd, block, 1 << 20)) > 0)
        len += (size_t)n;
    cr_expect_gt(len, SIZE);
    ld_wait_reaped(d);
}
