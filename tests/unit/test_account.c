/* Who a container's process is, and what it runs. */
#include <stdlib.h>
#include <string.h>

#include "daemon/base/err.h"
#include "daemon/image/account.h"
#include "daemon/image/doc.h"
#include "daemon/image/runtime.h"
#include "tests/lib/env.h"

static const char passwd[] = "root:x:0:0:root:/root:/bin/sh\n"
                             "# a remark\n"
                             "short\n"
                             "www:x:33:34:www:/var/www:/bin/sh\n"
                             "www:x:99:99:twice:/:/bin/sh\n"
                             "odd:x:many:34::/:/bin/sh\n"
                             "7:x:70:70:a name of digits:/seven:/bin/sh\n"
                             "nohome:x:5:5:::";
static const char group[] = "root:x:0:\n"
                            "www:x:34:\n"
                            "adm:x:4:www,root\n"
                            "bad:x:no:www\n"
                            "wwwx:x:6:wwwx\n"
                            "last:x:8:nohome,www";

LD_TEST(account, is_found_by_name_and_by_number)
{
    static const struct {
        const char *user;
        unsigned uid, gid;
        const char *home;
        unsigned groups[3]; /* up to a 0 */
    } rows[] = {
        {NULL, 0, 0, "/root", {4}},          {"", 0, 0, "/root", {4}},
        {"root", 0, 0, "/root", {4}},        {"www", 33, 34, "/var/www", {4, 8}},
        {"33", 33, 34, "/var/www", {4, 8}},  {"www:", 33, 34, "/var/www", {4, 8}},
        {"www:adm", 33, 4, "/var/www", {0}}, {"www:77", 33, 77, "/var/www", {0}},
        {"1000", 1000, 0, "/", {0}},         {"1000:1000", 1000, 1000, "/", {0}},
        {":adm", 0, 4, "/root", {0}},        {"7", 70, 70, "/seven", {0}},
        {"nohome", 5, 5, "/", {8}},          {"5", 5, 5, "/", {8}},
    };

    for (size_t i = 0; i < LD_ARRAY_LEN(rows); i++) {
        LD_AUTO(ld_account_done) struct ld_account a = {.uid = 0};
        struct ld_err err = LD_ERR_INIT;
        size_t n = 0;

        ld_test_ok(ld_account_resolve(rows[i].user, passwd, group, &a, &err), &err);
        cr_expect_eq(a.uid, rows[i].uid, "%s", rows[i].user);
        cr_expect_eq(a.gid, rows[i].gid, "%s", rows[i].user);
        cr_expect_str_eq(a.home, rows[i].home, "%s", rows[i].user);
        while (n < 3 && rows[i].groups[n])
            n++;
        cr_assert_eq(a.n_groups, n, "%s", rows[i].user);
        for (size_t k = 0; k < n; k++)
            cr_expect_eq(a.groups[k], rows[i].groups[k], "%s", rows[i].user);
    }
}

LD_TEST(account, by_an_unknown_name_is_refused)
{
    static const char *const users[] = {"nobody", "www:none", "odd", "4294967295",
                                        "-1",     "1000:bad", "33 "};

    for (size_t i = 0; i < LD_ARRAY_LEN(users); i++) {
        struct ld_account a = {.uid = 0};
        struct ld_err err = LD_ERR_INIT;

        ld_test_fails(ld_account_resolve(users[i], passwd, group, &a, &err), &err, LD_E_CONFLICT);
    }
}

LD_TEST(account, without_any_files_is_a_number)
{
    LD_AUTO(ld_account_done) struct ld_account a = {.uid = 0};
    struct ld_err err = LD_ERR_INIT;

    ld_test_ok(ld_account_resolve("5:6", "", "", &a, &err), &err);
    cr_expect(a.uid == 5 && a.gid == 6);
    ld_account_done(&a);
    ld_test_ok(ld_account_resolve(NULL, "", "", &a, &err), &err);
    cr_expect(a.uid == 0 && a.gid == 0 && strcmp(a.home, "/") == 0);
}

static char *joined(char *const *list)
{
    static char text[256];

    text[0] = '\0';
    for (size_t i = 0; list && list[i]; i++) {
        (void)strncat(text, i ? " " : "", sizeof(text) - strlen(text) - 1);
        (void)strncat(text, list[i], sizeof(text) - strlen(text) - 1);
    }
    return text;
}

LD_TEST(process, is_the_images_overlaid_by_the_containers)
{
    static const char text[] =
        "{\"architecture\":\"amd64\",\"os\":\"linux\",\"config\":{\"Entrypoint\":[\"init\"],"
        "\"Cmd\":[\"serve\",\"-v\"],\"Env\":[\"A=1\",\"B=2\",\"B=3\"],\"User\":\"www\","
        "\"WorkingDir\":\"srv\"},\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[]}}";
    LD_AUTO(ld_oci_config_done) struct ld_oci_config image = {.user = NULL};
    struct ld_err broken = LD_ERR_INIT;
    static const struct {
        bool has_image;
        const char *config, *args, *env, *user, *cwd;
    } rows[] = {
        {true, NULL, "init serve -v", "A=1 B=3", "www", "/srv"},
        {true, "{}", "init serve -v", "A=1 B=3", "www", "/srv"},
        {true, "{\"cmd\":[\"x\"]}", "init x", "A=1 B=3", "www", "/srv"},
        {true, "{\"cmd\":[]}", "init", "A=1 B=3", "www", "/srv"},
        {true, "{\"entrypoint\":[\"e\"]}", "e", "A=1 B=3", "www", "/srv"},
        {true, "{\"entrypoint\":[],\"cmd\":[\"x\",\"y\"]}", "x y", "A=1 B=3", "www", "/srv"},
        {true, "{\"env\":[\"C=4\",\"A=5\"],\"user\":\"7\",\"working_dir\":\"/w\"}", "init serve -v",
         "A=5 B=3 C=4", "7", "/w"},
        {true, "{\"user\":\"\",\"working_dir\":\"\"}", "init serve -v", "A=1 B=3", NULL, "/srv"},
        {false, "{\"cmd\":[\"x\"]}", "x", "", NULL, "/"},
        {false, NULL, "", "", NULL, "/"},
    };

    ld_test_ok(ld_oci_config_parse(text, strlen(text), "config", &image, &broken), &broken);
    for (size_t i = 0; i < LD_ARRAY_LEN(rows); i++) {
        LD_AUTO(ld_process_done) struct ld_process p = {.args = NULL};
        struct ld_err err = LD_ERR_INIT;

        ld_test_ok(ld_process_merge(rows[i].has_image ? &image : NULL, rows[i].config, &p, &err),
                   &err);
        cr_expect_str_eq(joined(p.args), rows[i].args, "row %zu", i);
        cr_expect_str_eq(joined(p.env), rows[i].env, "row %zu", i);
        cr_expect_str_eq(p.user ? p.user : "", rows[i].user ? rows[i].user : "", "row %zu", i);
        cr_expect_str_eq(p.cwd, rows[i].cwd, "row %zu", i);
    }
}
