/* Why a path is as it is: which layer, what is hidden, what a write costs; for each driver. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cjson/cJSON.h>

#include "daemon/base/buf.h"
#include "daemon/base/fdio.h"
#include "daemon/base/mem.h"
#include "daemon/base/parse.h"
#include "tests/lib/api.h"
#include "tests/lib/randtree.h"

static const char *const drivers[] = {"overlay", "vfs"};

static void create(struct ld_client *c, const char *driver, const char *more)
{
    autofree char *members =
        ld_asprintf("'driver':'%s'%s%s", driver, more ? "," : "", more ? more : "");

    (void)ld_create(c, "web", "base", members);
}

/* A path as a query value. */
static struct ld_blob escaped(const char *path)
{
    struct ld_buf text = LD_BUF_INIT(1 << 20);

    for (; *path; path++)
        ld_buf_addf(&text, "%%%02x", (unsigned char)*path);
    return (struct ld_blob){.len = text.len, .data = ld_buf_take(&text)};
}

static cJSON *explain(struct ld_client *c, const char *path, const char *more)
{
    struct ld_blob query LD_AUTO(ld_blob_done) = escaped(path);

    return ld_want(c, 200, "GET", NULL, "/v1/containers/web/explain?path=%s%s", query.data, more);
}

/* "2:image" or "-". */
static struct ld_text layer_of(const cJSON *json, const char *member)
{
    const cJSON *layer = ld_at(json, member);

    return cJSON_IsNull(layer)
               ? ld_textf("-")
               : ld_textf("%d:%s", (int)ld_int(layer, "number"), ld_str(layer, "kind"));
}

LD_API_TEST(explain, names_the_layer_of_a_path)
{
    static const struct {
        const char *path, *from; /* base has two layers */
        bool copies;
    } rows[] = {
        {"/etc/passwd", "1:image", true},  {"/etc/motd", "2:image", true},
        {"/etc/new", "3:writable", false}, {"/bin/tool", "3:writable", false},
        {"/etc/none", "-", false},         {"/usr/lib/deep/file", "1:image", true},
    };

    ld_have_base(c);
    for (size_t k = 0; k < LD_ARRAY_LEN(drivers); k++) {
        create(c, drivers[k], NULL);
        for (int mounted = 1; mounted >= 0; mounted--) {
            if (mounted)
                ld_test_sh("cd %s; echo x > etc/new; echo more >> bin/tool", ld_mount(c, "web").s);
            else
                ld_unmount(c, "web");
            for (size_t i = 0; i < LD_ARRAY_LEN(rows); i++) {
                cJSON *json = explain(c, rows[i].path, "");
                bool exists = rows[i].from[0] != '-';

                cr_expect_str_eq(layer_of(json, "from").s, rows[i].from, "%s %s", drivers[k],
                                 rows[i].path);
                cr_expect_eq(ld_bool(json, "exists"), exists);
                if (exists)
                    cr_expect_eq(ld_bool(json, "write.copies_up"), k == 0 && rows[i].copies,
                                 "%s %s", drivers[k], rows[i].path);
            }
        }
        (void)ld_want(c, 204, "DELETE", NULL, "/v1/containers/web");
    }
}

/* The layer of a path; the snapshot whose state it is. */
static const char *snapshot_of(struct ld_client *c, const char *container, const char *path)
{
    return ld_str(
        ld_want(c, 200, "GET", NULL, "/v1/containers/%s/explain?path=%s", container, path),
        "from.snapshot.id");
}

LD_API_TEST(explain, names_the_snapshot_of_a_layer)
{
    struct ld_text web, first, second;
    cJSON *json;

    ld_have_base(c);
    web = ld_create(c, "web", "base", NULL);
    ld_change(c, "web", "echo one >one");
    first = ld_take_snapshot(c, "web", "before");
    ld_change(c, "web", "echo two >two");
    second =
        ld_textf("%s", ld_str(ld_want(c, 201, "POST", NULL, "/v1/containers/web/snapshots"), "id"));
    cr_expect_str_eq(snapshot_of(c, "web", "/one"), first.s);
    cr_expect_str_eq(snapshot_of(c, "web", "/two"), second.s);
    json = ld_want(c, 200, "GET", NULL, "/v1/containers/web/explain?path=/one");
    cr_expect_str_eq(ld_str(json, "from.kind"), "snapshot");
    cr_expect_str_eq(ld_str(json, "from.snapshot.name"), "before");
    cr_expect_str_eq(ld_str(json, "from.snapshot.container"), web.s);
    json = ld_want(c, 200, "GET", NULL, "/v1/containers/web/explain?path=/two");
    cr_expect(ld_is_null(json, "from.snapshot.name"));
    json = ld_want(c, 200, "GET", NULL, "/v1/containers/web/explain?path=/etc/motd");
    cr_expect(ld_is_null(json, "from.snapshot"), "an image's");
    (void)ld_want(c, 201, "POST", "{'name':'fork','snapshot':'before'}",
                  "/v1/containers/web/clone");
    json = ld_want(c, 200, "GET", NULL, "/v1/containers/fork/explain?path=/one");
    cr_expect_str_eq(ld_str(json, "from.snapshot.id"), first.s);
    cr_expect_str_eq(ld_str(json, "from.snapshot.container"), web.s);
    (void)ld_want(c, 204, "DELETE", NULL, "/v1/containers/web/snapshots/before");
    json = ld_want(c, 200, "GET", NULL, "/v1/containers/fork/explain?path=/one");
    cr_expect_str_eq(ld_str(json, "from.kind"), "snapshot");
    cr_expect(ld_is_null(json, "from.snapshot"));
}

LD_API_TEST(explain, says_who_deleted_a_path)
{
    cJSON *json;

    ld_have_base(c);
    for (size_t k = 0; k < LD_ARRAY_LEN(drivers); k++) {
        create(c, drivers[k], NULL);
        ld_test_sh("cd %s; rm etc/passwd; rm -r usr; mkdir usr", ld_mount(c, "web").s);
        json = explain(c, "/etc/passwd", "");
        cr_expect_not(ld_bool(json, "exists"));
        cr_expect_str_eq(layer_of(json, "deleted_by.layer").s, "3:writable", "%s", drivers[k]);
        cr_expect_str_eq(ld_str(json, "deleted_by.how"), "deleted");
        json = explain(c, "/etc/gone", ""); /* by the upper layer of the image */
        cr_expect_str_eq(layer_of(json, "deleted_by.layer").s, "2:image", "%s", drivers[k]);
        json = explain(c, "/usr/lib/deep/file", "");
        cr_expect_str_eq(ld_str(json, "missing"), "/usr/lib");
        cr_expect_str_eq(layer_of(json, "deleted_by.layer").s, "3:writable", "%s", drivers[k]);
        json = explain(c, "/never/was", "");
        cr_expect_str_eq(ld_str(json, "missing"), "/never");
        cr_expect(ld_is_null(json, "deleted_by"));
        cr_expect_eq(ld_count(json, "layers"), 0);
        ld_unmount(c, "web");
        (void)ld_want(c, 204, "DELETE", NULL, "/v1/containers/web");
    }
}

LD_API_TEST(explain, prices_a_write)
{
    struct ld_text at;
    cJSON *json;

    ld_have_base(c);
    create(c, "overlay", NULL);
    json = explain(c, "/usr/lib/deep/file", "");
    cr_expect_eq(ld_int(json, "write.bytes"), ld_int(json, "entry.size"));
    cr_expect_eq(ld_int(json, "write.directories"), 3);
    at = ld_mount(c, "web");
    ld_test_sh("touch %s/usr/lib/deep/file", at.s);
    json = explain(c, "/usr/lib/deep/file", "");
    cr_expect_not(ld_bool(json, "write.copies_up"));
    json = explain(c, "/usr/lib", "");
    cr_expect_eq(ld_count(json, "layers"), 2, "the writable layer and the lowest");
    cr_expect_str_eq(ld_str(json, "layers.1.role"), "merges");
    ld_unmount(c, "web");
    (void)ld_want(c, 200, "POST", "{'read_only':true}", "/v1/containers/web/mount");
    json = explain(c, "/etc/motd", "");
    cr_expect_not(ld_bool(json, "write.possible"));
    cr_expect_str_eq(ld_str(json, "layers.1.role"), "hidden");
    cr_expect_str_eq(ld_str(json, "layers.1.hidden_by.how"), "replaced");
    ld_unmount(c, "web");
}

LD_API_TEST(explain, follows_links_inside_the_root_only)
{
    struct ld_text at;
    cJSON *json;

    ld_have_base(c);
    for (size_t k = 0; k < LD_ARRAY_LEN(drivers); k++) {
        create(c, drivers[k], NULL);
        at = ld_mount(c, "web");
        ld_test_sh(
            "cd %s; ln -s ../../../../../../etc/passwd up; ln -s /etc/passwd abs; ln -s a b; "
            "ln -s b a; ln -s /etc dir; ln -s . here; echo host > /mnt/secret; "
            "ln -s /mnt/secret out; printf x > \"$(printf 'odd\\377')\"",
            at.s);
        json = explain(c, "/up", "");
        cr_expect_str_eq(ld_str(json, "entry.type"), "symlink");
        cr_expect_str_eq(ld_str(json, "resolved"), "/up");
        json = explain(c, "/up", "&follow");
        cr_expect_str_eq(ld_str(json, "resolved"), "/etc/passwd");
        cr_expect_eq(ld_count(json, "links_followed"), 1);
        json = explain(c, "/dir/../dir/./passwd", "");
        cr_expect_str_eq(ld_str(json, "resolved"), "/etc/passwd");
        cr_expect_eq(ld_count(json, "links_followed"), 2);
        json = explain(c, "/../../etc/passwd", "");
        cr_expect_str_eq(ld_str(json, "resolved"), "/etc/passwd");
        json = explain(c, "/out", "&follow");
        cr_expect_not(ld_bool(json, "exists"), "the host's file is not seen");
        json = explain(c, "/a/x", "");
        cr_expect(ld_bool(json, "loop"));
        cr_expect_not(ld_bool(json, "exists"));
        cr_expect_eq(ld_count(json, "links_followed"), 40);
        json = explain(c, "/here/here/here/etc/motd/", "");
        cr_expect_str_eq(ld_str(json, "missing"), "/etc/motd", "it is no directory");
        json = explain(c, "/odd\377", "");
        cr_expect_str_eq(ld_str(json, "path_b64"), "L29kZP8=");
        cr_expect(ld_bool(json, "exists"));
        ld_unmount(c, "web");
        (void)ld_want(c, 204, "DELETE", NULL, "/v1/containers/web");
    }
}

LD_API_TEST(explain, says_what_lies_in_a_mount)
{
    static const char mounts[] =
        "'mounts':[{'type':'volume','source':'data','target':'/v'},"
        "{'type':'tmpfs','target':'/etc/t'},{'type':'bind','source':'/mnt/host','target':'/b',"
        "'read_only':true}]";
    struct ld_text at;
    cJSON *json;

    ld_have_base(c);
    ld_test_sh("mkdir host; echo x > host/file; ln -s ../etc host/link");
    for (size_t k = 0; k < LD_ARRAY_LEN(drivers); k++) {
        create(c, drivers[k], mounts);
        json = explain(c, "/v/none", "");
        cr_expect_str_eq(ld_str(json, "mount.type"), "volume", "before it was ever mounted");
        at = ld_mount(c, "web");
        ld_test_sh("echo y > %s/v/own", at.s);
        for (int mounted = 1; mounted >= 0; mounted--) {
            json = explain(c, "/v/own", "");
            cr_expect_str_eq(ld_str(json, "mount.type"), "volume");
            cr_expect_str_eq(ld_str(json, "mount.source"), "data");
            cr_expect_str_eq(ld_str(json, "mount.path"), "/own");
            cr_expect(ld_bool(json, "exists"));
            cr_expect(ld_is_null(json, "from"));
            json = explain(c, "/b/file", "");
            cr_expect_str_eq(ld_str(json, "mount.type"), "bind");
            cr_expect_not(ld_bool(json, "write.possible"));
            json = explain(c, "/etc/t/x", "");
            cr_expect_str_eq(ld_str(json, "mount.type"), "tmpfs");
            cr_expect_not(ld_bool(json, "exists"));
            json = explain(c, "/b/link/passwd", "");
            cr_expect_str_eq(ld_str(json, "resolved"), "/etc/passwd",
                             "out of the bind, in the root");
            cr_expect_str_eq(layer_of(json, "from").s, "1:image");
            if (mounted)
                ld_unmount(c, "web");
        }
        (void)ld_want(c, 204, "DELETE", NULL, "/v1/containers/web");
    }
}

/* ---- against the mounted tree and `changes`, which know nothing of it ---- */

static void compare(struct ld_client *c, const char *root, const char *path, const char *driver)
{
    autofree char *real = ld_asprintf("%s%s", root, path);
    cJSON *json = explain(c, path, "");
    struct stat st;
    bool exists = lstat(real, &st) == 0;
    char mode[5];

    cr_assert_eq(ld_bool(json, "exists"), exists, "%s: %s", driver, path);
    if (!exists)
        return;
    (void)snprintf(mode, sizeof(mode), "%04o", (unsigned)(st.st_mode & 07777));
    cr_assert_str_eq(ld_str(json, "entry.mode"), mode, "%s: %s", driver, path);
    cr_assert_eq(ld_int(json, "entry.uid"), st.st_uid);
    if (S_ISREG(st.st_mode))
        cr_assert_eq(ld_int(json, "entry.size"), st.st_size, "%s: %s", driver, path);
}

static char *path_of(const cJSON *item)
{
    return ld_strdup(ld_str(item, "path"));
}

LD_API_TEST(explain, agrees_with_the_mounted_tree_and_its_changes)
{
    uint64_t seed = 7;

    ld_have_base(c);
    for (size_t k = 0; k < LD_ARRAY_LEN(drivers); k++) {
        struct ld_rand r = {.state = seed};
        autofree char **paths = ld_alloc0(1000 * sizeof(*paths));
        autofree bool *deleted = ld_alloc0(1000 * sizeof(*deleted));
        struct ld_text at;
        const cJSON *item;
        size_t n = 0;

        create(c, drivers[k], NULL);
        at = ld_mount(c, "web");
        ld_rand_changes(&r, at.s, 400);
        cJSON_ArrayForEach (
            item,
            ld_at(ld_want(c, 200, "GET", NULL, "/v1/containers/web/changes?limit=1000"), "items")) {
            if (cJSON_GetObjectItem(item, "path_b64"))
                continue;
            deleted[n] = strcmp(ld_str(item, "kind"), "deleted") == 0;
            paths[n++] = path_of(item);
        }
        cr_assert_gt(n, 4, "%zu changes", n);
        for (size_t i = 0; i < n; i++) {
            cJSON *json;

            compare(c, at.s, paths[i], drivers[k]);
            json = explain(c, paths[i], "");
            cr_assert_str_eq(layer_of(json, deleted[i] ? "deleted_by.layer" : "from").s,
                             "3:writable", "%s: %s", drivers[k], paths[i]);
            free(paths[i]);
        }
        compare(c, at.s, "/etc/passwd", drivers[k]);
        compare(c, at.s, "/usr/lib/deep/file", drivers[k]);
        ld_unmount(c, "web");
        (void)ld_want(c, 204, "DELETE", NULL, "/v1/containers/web");
    }
}

LD_API_TEST(explain, needs_a_container_and_an_absolute_path)
{
    (void)ld_want_error(c, "not_found", "GET", NULL, "/v1/containers/none/explain?path=/");
    ld_have_base(c);
    create(c, "overlay", NULL);
    (void)ld_want_error(c, "invalid", "GET", NULL, "/v1/containers/web/explain");
    (void)ld_want_error(c, "invalid", "GET", NULL, "/v1/containers/web/explain?path=etc");
}
