/* image/untar.h: what is refused and what is not, on one layer; the random layers test the rest. */
#include "daemon/image/untar.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/base/fdio.h"
#include "daemon/base/mem.h"
#include "tests/lib/entries.h"
#include "tests/lib/env.h"
#include "tests/lib/mktar.h"

static char *repeat(const char *text, size_t n)
{
    autobuf struct ld_buf buf = LD_BUF_INIT(1 << 20);

    while (n-- > 0)
        ld_buf_adds(&buf, text);
    return ld_buf_take(&buf);
}

/* ---- refusals ---- */

struct refusal {
    const char *says; /* in the message */
    struct m_entry e[3];
};

static void refuse_all(const struct refusal *cases, size_t n)
{
    autofree struct m_world *w = ld_new(struct m_world);
    size_t fds;

    m_world_init(w);
    fds = ld_test_count_fds();
    for (size_t i = 0; i < n; i++) {
        size_t entries = 0;
        struct ld_err err = LD_ERR_INIT;

        while (entries < 3 && cases[i].e[entries].name)
            entries++;
        cr_assert_eq(m_world_try(w, cases[i].e, entries, &err), -1, "case %zu (%s) is taken", i,
                     cases[i].says);
        cr_expect_eq(err.code, LD_E_BAD_CONTENT, "case %zu: %s", i, ld_code_name(err.code));
        cr_expect(strstr(err.message, cases[i].says), "case %zu: '%s' does not say '%s'", i,
                  err.message, cases[i].says);
        cr_expect(strstr(err.message, "'"), "case %zu: '%s' names no entry", i, err.message);
    }
    cr_expect_eq(ld_test_count_fds(), fds, "descriptors are left open");
    m_world_done(w);
}

LD_TEST(untar, refuses_paths_that_lead_out)
{
    const struct refusal cases[] = {
        {"absolute", {M_A_FILE("/etc/passwd")}},
        {"leads out", {M_A_FILE("../x")}},
        {"leads out", {M_A_FILE("a/../../x")}},
        {"leads out", {M_A_DIR("..")}},
        {"leads out", {M_A_FILE("./../.././x")}},
        {"leads out", {M_A_FILE("a"), M_A_HARDLINK("b", "../a")}},
        {"leads out", {M_A_HARDLINK("b", "../../../../etc/shadow")}},
        {"only be a directory", {M_A_FILE("./")}},
        {"only be a directory", {M_A_SYMLINK(".", "etc")}},
    };

    refuse_all(cases, LD_ARRAY_LEN(cases));
}

LD_TEST(untar, refuses_names_and_depths_over_the_limits)
{
    autofree char *long_name = repeat("n", 256);
    autofree char *deep = repeat("a/", 128);
    autofree char *far = repeat("a/", 10000);
    autofree char *target = ld_asprintf("x/%s", long_name);
    autofree char *deeper = ld_asprintf("%sx", deep);
    autofree char *hidden = ld_asprintf(".wh.%.253s", long_name);
    const struct refusal cases[] = {
        {"name", {M_A_FILE(long_name)}},
        {"name", {M_A_HARDLINK("l", target)}},
        {"name", {M_A_SYMLINK("l", target), M_A_FILE("l/y")}},
        {"name", {M_A_FILE(hidden)}},
        {"depth", {M_A_FILE(deeper)}},
        {"depth", {M_A_SYMLINK("l", deep), M_A_DIR("l/l/")}},
        {"", {M_A_DIR(far)}},
        {"", {M_A_SYMLINK("l", far)}},
    };

    refuse_all(cases, LD_ARRAY_LEN(cases));
}

LD_TEST(untar, refuses_parents_that_are_no_directories)
{
    const struct refusal cases[] = {
        {"not a directory", {M_A_FILE("a"), M_A_FILE("a/b")}},
        {"not a directory", {M_ENTRY(M_FIFO, "a"), M_A_DIR("a/b/c")}},
        {"not a directory", {M_A_FILE("a"), M_A_SYMLINK("l", "a"), M_A_FILE("l/b")}},
        {"not a directory", {M_A_FILE("a"), M_A_FILE("a/.wh.b")}},
        {"not a directory", {M_A_FILE("a"), M_A_HARDLINK("b", "a/c")}},
        {"symlinks", {M_A_SYMLINK("l", "l"), M_A_FILE("l/x")}},
        {"symlinks", {M_A_SYMLINK("l", "m/.."), M_A_SYMLINK("m", "l/"), M_A_FILE("l/x")}},
    };

    refuse_all(cases, LD_ARRAY_LEN(cases));
}

LD_TEST(untar, refuses_hard_links_to_directories_and_to_nothing)
{
    const struct refusal cases[] = {
        {"to the directory 'd'", {M_A_DIR("d"), M_A_HARDLINK("l", "d")}},
        {"to the directory 'd'", {M_A_FILE("d/x"), M_A_HARDLINK("l", "./d/")}},
        {"layer's root", {M_A_HARDLINK("l", "/")}},
        {"hard link to 'gone'", {M_A_HARDLINK("l", "gone")}},
        {"hard link to 'l'", {M_A_HARDLINK("l", "l")}},
        {"hard link to 'etc/passwd'", {M_A_SYMLINK("e", "/etc"), M_A_HARDLINK("l", "e/passwd")}},
        {"hard link to 'etc/passwd'", {M_A_HARDLINK("l", "/etc/passwd")}},
        {"hard link to 'later'", {M_A_HARDLINK("l", "later"), M_A_FILE("later")}},
        {"that it replaces", {M_A_FILE("d/f", M_CONTENT(9, 1)), M_A_HARDLINK("d", "d/f")}},
        {"a whiteout", {M_A_FILE(".wh.a"), M_A_HARDLINK("l", ".wh.a")}},
    };

    refuse_all(cases, LD_ARRAY_LEN(cases));
}

LD_TEST(untar, refuses_devices_that_are_none)
{
    const struct refusal cases[] = {
        {"0:0", {M_ENTRY(M_CHAR, "a")}},
        {"out of range", {M_ENTRY(M_CHAR, "a", .major = 4096, .minor = 1)}},
        {"out of range", {M_ENTRY(M_BLOCK, "a", .major = 1, .minor = 1 << 20)}},
    };

    refuse_all(cases, LD_ARRAY_LEN(cases));
}

LD_TEST(untar, refuses_whiteouts_without_meaning)
{
    const struct refusal cases[] = {
        {"reserved", {M_A_FILE(".wh..wh.plnk")}},
        {"reserved", {M_A_FILE("d/.wh..wh..opaque")}},
        {"reserved", {M_A_FILE(".wh..wh.")}},
        {"no name", {M_A_FILE(".wh.")}},
        {"no name", {M_A_FILE("a/.wh..")}},
        {"no name", {M_A_FILE(".wh...")}},
        {"directory's name", {M_A_DIR(".wh.a/")}},
        {"begins with '.wh.'", {M_A_FILE("a/.wh.b/c")}},
        {"begins with '.wh.'", {M_A_SYMLINK("l", ".wh.x"), M_A_FILE("l/y")}},
    };

    refuse_all(cases, LD_ARRAY_LEN(cases));
}

LD_TEST(untar, refuses_xattrs_of_overlay_and_invalid_ones)
{
    const struct refusal cases[] = {
        {"overlay's own", {M_A_DIR("d", M_XATTR("trusted.overlay.opaque", "y"))}},
        {"overlay's own", {M_A_FILE("f", M_XATTR("trusted.overlay.redirect", "/x"))}},
        {"valid value", {M_A_FILE("f", M_XATTR("system.posix_acl_access", "rubbish"))}},
        {"valid value", {M_A_DIR("d", M_XATTR("system.posix_acl_default", "rubbish"))}},
        {"valid value", {M_A_FILE("f", M_XATTR("security.capability", "rubbish"))}},
    };

    refuse_all(cases, LD_ARRAY_LEN(cases));
}

LD_TEST(untar, calls_xattrs_too_large_for_the_file_system_bad_content)
{
    autofree struct m_world *w = ld_new(struct m_world);
    autofree char *value = repeat("v", 40000);
    struct m_entry file = M_A_FILE("big", M_XATTR_LEN("user.big", value, 40000));
    struct m_entry dir = M_A_DIR("big", M_XATTR_LEN("user.big", value, 40000));
    struct ld_err err = LD_ERR_INIT;

    ld_close(ld_test_fs("store", "ext4", 64));
    m_world_init(w);
    ld_test_fails(m_world_try(w, &file, 1, &err), &err, LD_E_BAD_CONTENT);
    cr_expect(strstr(err.message, "too large"), "%s", err.message);
    ld_test_fails(m_world_try(w, &dir, 1, &err), &err, LD_E_BAD_CONTENT);
    cr_expect(strstr(err.message, "too large"), "%s", err.message);
    m_world_done(w);
}

/* ---- limits ---- */

static void expect_over(const struct m_entry *e, size_t n, const struct ld_untar_limits *limits,
                        const char *name)
{
    autofree struct m_world *w = ld_new(struct m_world);
    struct ld_err err = LD_ERR_INIT;

    m_world_init(w);
    w->stack.limits = *limits;
    ld_test_fails(m_world_try(w, e, n, &err), &err, LD_E_BAD_CONTENT);
    cr_expect(strstr(err.details, name), "details '%s' do not name %s", err.details, name);
    cr_expect(strstr(err.details, "value"), "%s", err.details);
    m_world_done(w);
    cr_assert_eq(ld_remove_tree(AT_FDCWD, "store", NULL), 0);
}

LD_TEST(untar, keeps_to_the_limits)
{
    const struct m_entry many[] = {M_A_FILE("a"), M_A_FILE("b"), M_A_FILE("c")};
    const struct m_entry implied = M_A_FILE("a/b/c/d/e");
    const struct m_entry bytes[] = {M_A_FILE("a", M_CONTENT(6000, 1)),
                                    M_A_FILE("b", M_CONTENT(6000, 2))};
    const struct m_entry large = M_A_FILE("a", M_CONTENT(6000, 1));
    autofree char *name = repeat("n", 256);
    const struct m_entry long_name = M_A_FILE(name);

    expect_over(many, 3, &(struct ld_untar_limits){.max_entries = 2}, "entries");
    expect_over(&implied, 1, &(struct ld_untar_limits){.max_entries = 4}, "layer_entries");
    expect_over(bytes, 2, &(struct ld_untar_limits){.max_bytes = 10000}, "layer_bytes");
    expect_over(&large, 1, &(struct ld_untar_limits){.max_file_size = 5999}, "layer_bytes");
    expect_over(&long_name, 1, &(struct ld_untar_limits){.max_entries = 0}, "name_bytes");
}

LD_TEST(untar, does_not_fill_the_disk_with_a_hole)
{
    autofree struct m_world *w = ld_new(struct m_world);
    struct m_entry hole = M_A_FILE("hole", .size = UINT64_C(1) << 40);
    autobuf struct ld_buf tar = LD_BUF_INIT(1 << 20);
    auto_source *source = NULL;
    struct ld_err err = LD_ERR_INIT;

    m_world_init(w);
    cr_assert(mt_add(&tar, &hole, &(struct mt_style){MT_PAX, MT_PAX_1_0, false}));
    mt_end(&tar);
    source = ld_source_mem_new(tar.data, tar.len);
    ld_test_ok(ld_test_stack_add(&w->stack, source, &err), &err);
    cr_expect_lt(w->stack.settled.bytes, 100000);
    m_world_done(w);
}

/* ---- symlinks and links ---- */

LD_TEST(untar, follows_symlinks_inside_the_root_only)
{
    autofree struct m_world *w = ld_new(struct m_world);

    m_world_init(w);
    ld_close(ld_test_mkdir("outside"));
    m_world_put(w, M_A_SYMLINK("abs", "/mnt/outside"), M_A_FILE("abs/file", M_CONTENT(5, 1)),
                M_A_SYMLINK("up", "../../../../../mnt/outside"), M_A_FILE("up/other"),
                M_A_SYMLINK("deep/l", "../../../outside"), M_A_FILE("deep/l/x/y"),
                M_A_SYMLINK("p", "/proc/self/root"), M_A_DIR("p/etc"));
    cr_expect_eq(rmdir("outside"), 0, "something was made outside");
    m_world_done(w);
}

LD_TEST(untar, never_follows_the_last_component)
{
    autofree struct m_world *w = ld_new(struct m_world);

    m_world_init(w);
    m_world_put(w, M_A_FILE("target", M_CONTENT(100, 1)), M_A_SYMLINK("l", "target"),
                M_A_FILE("l", M_CONTENT(50, 2)), M_A_SYMLINK("m", "target"), M_A_HARDLINK("n", "m"),
                M_A_SYMLINK("d", "."), M_A_DIR("d/", .mode = 0700), M_A_SYMLINK("o", "target"),
                M_A_HARDLINK("o", "target"));
    m_world_done(w);
}

LD_TEST(untar, replaces_every_type_by_every_type)
{
    const struct m_entry kinds[] = {
        M_A_FILE("x", M_CONTENT(3000, 7)),
        M_A_DIR("x/"),
        M_A_SYMLINK("x", "other"),
        M_A_HARDLINK("x", "other"),
        M_ENTRY(M_FIFO, "x"),
        M_A_FILE("x"),
        M_ENTRY(M_CHAR, "x", .major = 1, .minor = 3),
        M_A_FILE("x/below/it", M_CONTENT(700, 8)),
    };

    for (size_t i = 0; i < LD_ARRAY_LEN(kinds); i++) {
        for (size_t j = 0; j < LD_ARRAY_LEN(kinds); j++) {
            autofree struct m_world *w = ld_new(struct m_world);
            /* Below something that is no directory nothing can be. */
            if (kinds[j].name[1] == '/' && kinds[j].type == M_FILE && kinds[i].type != M_DIR &&
                kinds[i].name[1] != '/')
                continue;
            m_world_init(w);
            m_world_put(
                w, M_A_FILE("other", M_CONTENT(40, 9)), kinds[i],
                M_A_HARDLINK("keeps",
                             kinds[i].type == M_DIR || kinds[i].name[1] == '/' ? "other" : "x"),
                kinds[j],
                kinds[i].name[1] == '/' && kinds[i].type == M_FILE ? (struct m_entry)M_A_FILE("y")
                                                                   : kinds[j]);
            m_world_done(w);
            cr_assert_eq(ld_remove_tree(AT_FDCWD, "store", NULL), 0);
        }
    }
}

/* A replaced file with many names is kept for the recipe once, not once for each name. */
LD_TEST(untar, keeps_replaced_content_once)
{
    autofree struct m_world *w = ld_new(struct m_world);
    enum { TIMES = 200 };
    autofree struct m_entry *e = ld_alloc0((2 * TIMES + 2) * sizeof(*e));
    struct ld_usage aside;

    e[0] = (struct m_entry)M_A_FILE("a", M_CONTENT(100000, 3));
    e[1] = (struct m_entry)M_A_HARDLINK("b", "a");
    for (size_t i = 1; i <= TIMES; i++) {
        e[2 * i] = (struct m_entry)M_ENTRY(M_FIFO, "a");
        e[2 * i + 1] = (struct m_entry)M_A_HARDLINK("a", "b");
    }
    m_world_init(w);
    m_world_add(w, e, 2 * TIMES + 2);
    cr_expect(w->stack.settled.has_aside);
    cr_assert_eq(ld_tree_usage(w->stack.dir, "1.aside", NULL, &aside), 0);
    cr_expect_eq(aside.inodes, 2);
    m_world_done(w);
}

LD_TEST(untar, leaves_no_aside_directory_without_need)
{
    autofree struct m_world *w = ld_new(struct m_world);

    m_world_init(w);
    m_world_put(w, M_A_FILE("a", M_CONTENT(10, 3)), M_A_DIR("a"), M_A_FILE("b"), M_A_FILE("b"));
    cr_expect(w->stack.settled.has_aside);
    m_world_put(w, M_A_FILE("b"), M_A_FILE("b"), M_A_HARDLINK("c", "b"),
                M_A_FILE("x", M_XATTR("trusted.x", "1")), M_A_HARDLINK("d", "b"));
    cr_expect_not(w->stack.settled.has_aside);
    cr_expect_eq(faccessat(w->stack.dir, "2.aside", F_OK, 0), -1);
    m_world_done(w);
}

/* ---- attributes ---- */

LD_TEST(untar, keeps_set_id_bits_and_capabilities_of_files_with_owners)
{
    autofree struct m_world *w = ld_new(struct m_world);
    static const char cap[] = "\1\0\0\2\0\40\0\0\0\0\0\0\0\0\0\0\0\0\0\0";

    m_world_init(w);
    m_world_put(w, M_A_FILE("suid", .mode = 06755, .uid = 1000, .gid = 100, M_CONTENT(50, 1)),
                M_A_FILE("cap", .mode = 0755, .uid = 1000, M_CONTENT(50, 2),
                         M_XATTR("security.capability", cap)),
                M_A_DIR("d", .mode = 03777, .gid = 100), M_A_FILE("d/x", .mode = 02070));
    m_world_done(w);
}

LD_TEST(untar, applies_a_default_acl_to_nothing_of_the_layer)
{
    autofree struct m_world *w = ld_new(struct m_world);
    static const char acl[] = "\2\0\0\0"
                              "\1\0\7\0\377\377\377\377"
                              "\2\0\7\0\350\3\0\0"
                              "\4\0\0\0\377\377\377\377"
                              "\20\0\7\0\377\377\377\377"
                              "\40\0\0\0\377\377\377\377";

    m_world_init(w);
    m_world_put(w, M_A_DIR("d", M_XATTR("system.posix_acl_default", acl)), M_A_FILE("d/gone"));
    m_world_put(w, M_A_DIR("d", M_XATTR("system.posix_acl_default", acl)), M_A_FILE("d/file"),
                M_A_DIR("d/dir"), M_A_FILE("d/implied/file"), M_A_SYMLINK("d/l", "x"),
                M_A_FILE("d/.wh.gone"), M_A_HARDLINK("d/link", "d/file"));
    m_world_done(w);
}

LD_TEST(untar, leaves_out_xattrs_linux_cannot_store_and_says_so)
{
    autofree struct m_world *w = ld_new(struct m_world);
    const struct m_entry e[] = {
        M_A_FILE("mac", M_XATTR("com.apple.quarantine", "x")),
        M_A_SYMLINK("l", "mac", M_XATTR("user.x", "1")),
        M_A_FILE("nfs", M_XATTR("system.nfs4_acl", "x")),
        M_A_HARDLINK("quiet", "mac", M_XATTR("user.x", "1")),
    };
    struct ld_err err = LD_ERR_INIT;

    m_world_init(w);
    ld_test_ok(m_world_try(w, e, LD_ARRAY_LEN(e), &err), &err);
    cr_expect_eq(w->stack.untarred.warnings.total, 3);
    cr_expect(strstr(w->stack.untarred.warnings.text[0], "com.apple.quarantine"));
    m_world_done(w);
}

/* ---- running ---- */

static int untar_bytes(const struct ld_buf *tar, const bool *cancel, struct ld_err *err)
{
    autoclose int root = ld_test_mkdir("root");
    autoclose int here = ld_open_dir(AT_FDCWD, ".");
    autoclose int recipe = open("recipe", O_CREAT | O_TRUNC | O_RDWR | O_CLOEXEC, 0600);
    auto_source *source = ld_source_mem_new(ld_buf_str(tar), tar->len);
    struct ld_untar_job job = {.source = source,
                               .root_fd = root,
                               .recipe_fd = recipe,
                               .aside_parent_fd = here,
                               .aside_name = "aside",
                               .cancel = cancel};
    struct ld_untar_result result;
    int r = ld_untar(&job, &result, err);

    if (r == 0)
        ld_untar_result_done(&result);
    return r;
}

LD_TEST(untar, stops_when_cancelled)
{
    autobuf struct ld_buf tar = LD_BUF_INIT(1 << 20);
    const struct m_entry file = M_A_FILE("a", M_CONTENT(5000, 1));
    bool cancel = true;
    struct ld_err err = LD_ERR_INIT;

    mt_put(&tar, &file);
    mt_end(&tar);
    ld_test_fails(untar_bytes(&tar, &cancel, &err), &err, LD_E_CANCELED);
    cancel = false;
    ld_test_ok(untar_bytes(&tar, &cancel, &err), &err);
}

LD_TEST(untar, refuses_a_layer_that_breaks_off)
{
    autobuf struct ld_buf tar = LD_BUF_INIT(1 << 20);
    const struct m_entry file = M_A_FILE("a", M_CONTENT(5000, 1));
    struct ld_err err = LD_ERR_INIT;

    mt_put(&tar, &file);
    tar.len -= 2000;
    ld_test_fails(untar_bytes(&tar, NULL, &err), &err, LD_E_BAD_CONTENT);
    ld_buf_clear(&tar);
    for (int i = 0; i < 5000; i++)
        ld_buf_adds(&tar, "garbage");
    ld_test_fails(untar_bytes(&tar, NULL, &err), &err, LD_E_BAD_CONTENT);
}

LD_TEST(untar, says_no_space_when_the_disk_is_full)
{
    autofree struct m_world *w = ld_new(struct m_world);
    const struct m_entry file = M_A_FILE("a", M_CONTENT(3 << 20, 1));
    struct ld_err err = LD_ERR_INIT;

    ld_close(ld_test_mkdir("store"));
    ld_test_sh("mount -t tmpfs -o size=1m,mode=0755 none store");
    m_world_init(w);
    ld_test_fails(m_world_try(w, &file, 1, &err), &err, LD_E_NO_SPACE);
    cr_expect(strstr(err.message, "'a'"), "%s", err.message);
    m_world_done(w);
}

LD_TEST(untar, takes_an_empty_archive_and_one_of_the_root_alone)
{
    autofree struct m_world *w = ld_new(struct m_world);

    m_world_init(w);
    m_world_add(w, NULL, 0);
    m_world_put(w, M_A_DIR("./", .mode = 01777, .uid = 5, .sec = 12345));
    m_world_add(w, NULL, 0);
    m_world_put(w, M_A_DIR("/", .mode = 0711));
    m_world_done(w);
}
