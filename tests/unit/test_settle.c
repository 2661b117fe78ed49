/* image/settle.h: what is on disk after settling, where the merged view alone would not tell. */
#include "daemon/image/settle.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "daemon/base/buf.h"
#include "daemon/base/fdio.h"
#include "daemon/base/mem.h"
#include "tests/lib/entries.h"
#include "tests/lib/env.h"

static const struct m_entry base[] = {
    M_A_DIR("./", .mode = 0711, .uid = 7, .sec = 50),
    M_A_DIR("d/", .mode = 02750, .gid = 33, .sec = 100, .nsec = 5, M_XATTR("user.d", "x")),
    M_A_FILE("d/f", M_CONTENT(9000, 1), .mode = 04711, .uid = 9, .sec = 200),
    M_A_DIR("d/sub/"),
    M_A_FILE("d/sub/g", M_CONTENT(10, 2)),
    M_A_SYMLINK("l", "d", .mode = 0777, .uid = 4),
    M_ENTRY(M_FIFO, "p", .gid = 8),
};

static struct m_world *new_world(void)
{
    struct m_world *w = ld_new(struct m_world);

    m_world_init(w);
    m_world_add(w, base, LD_ARRAY_LEN(base));
    return w;
}

static void free_world(struct m_world **w)
{
    m_world_done(*w);
    free(*w);
}

/* In the topmost layer: 'w' a whiteout, 'o' an opaque directory, 'd', 'f' other, '-' nothing. */
static char what_is(const struct m_world *w, const char *path)
{
    int root = w->stack.root[0];
    struct ld_fd_path at = ld_fd_path(root);
    autofree char *full = ld_asprintf("%s/%s", at.path, path);
    struct stat st;
    char value[4];

    if (fstatat(root, path, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return '-';
    if (S_ISCHR(st.st_mode) && st.st_rdev == makedev(0, 0))
        return 'w';
    if (!S_ISDIR(st.st_mode))
        return 'f';
    if (lgetxattr(full, "trusted.overlay.opaque", value, sizeof(value)) < 0)
        return 'd';
    return value[0] == 'y' ? 'o' : '?';
}

struct expected {
    const char *path;
    char what;
};

static void expect(const struct m_world *w, const struct expected *e, size_t n)
{
    for (size_t i = 0; i < n; i++)
        cr_expect_eq(what_is(w, e[i].path), e[i].what, "'%s' is %c, should be %c", e[i].path,
                     what_is(w, e[i].path), e[i].what);
}
#define EXPECT(w, ...)                                                                             \
    expect((w), (const struct expected[]){__VA_ARGS__},                                            \
           sizeof((const struct expected[]){__VA_ARGS__}) / sizeof(struct expected))

LD_TEST(settle, makes_whiteouts_of_what_they_hide_only)
{
    LD_AUTO(free_world) struct m_world *w = new_world();

    m_world_put(w, M_A_FILE("d/.wh.f"), M_A_FILE(".wh.l"), M_A_FILE("d/.wh.ghost"),
                M_A_FILE("new/.wh.ghost"), M_A_FILE("d/f2/.wh.x"), M_A_FILE("p/.wh.x"));
    EXPECT(w, {"d/f", 'w'}, {"l", 'w'}, {"d/ghost", '-'}, {"new", 'd'}, {"new/ghost", '-'},
           {"d/f2/x", '-'}, {"p/x", '-'});
    /* What is hidden already cannot be hidden again. */
    m_world_put(w, M_A_FILE("d/.wh.f"), M_A_FILE("d/sub/.wh.g"));
    EXPECT(w, {"d/f", '-'}, {"d/sub/g", 'w'});
}

LD_TEST(settle, takes_whiteouts_in_any_order)
{
    LD_AUTO(free_world) struct m_world *w = new_world();

    m_world_put(w, M_A_FILE("d/f", M_CONTENT(5, 5)), M_A_FILE("d/.wh.f"), M_A_FILE("d/.wh.sub"),
                M_A_DIR("d/sub"), M_A_FILE("d/sub/new"), M_A_FILE("x"), M_A_FILE(".wh.x"),
                M_A_FILE("y/z"), M_A_FILE(".wh.y"));
    EXPECT(w, {"d/f", 'f'}, {"d/sub", 'o'}, {"x", 'f'}, {"y", 'd'}, {"y/z", 'f'});
}

LD_TEST(settle, marks_directories_opaque_where_something_lies_below)
{
    LD_AUTO(free_world) struct m_world *w = new_world();

    m_world_put(w, M_A_FILE("d/.wh..wh..opq"), M_A_FILE("d/sub/.wh..wh..opq"),
                M_A_FILE("d/sub/.wh.g"), M_A_FILE("new/.wh..wh..opq"), M_A_DIR("l"),
                M_A_FILE("l/.wh..wh..opq"));
    EXPECT(w, {"d", 'o'}, {"d/sub", 'd'}, {"d/sub/g", '-'}, {"new", 'd'}, {"l", 'd'});
}

/* overlay has no opaque roots. */
LD_TEST(settle, hides_every_name_below_an_opaque_root)
{
    LD_AUTO(free_world) struct m_world *w = new_world();

    m_world_put(w, M_A_FILE(".wh..wh..opq"), M_A_FILE("d/new"), M_A_FILE("l"));
    EXPECT(w, {"d", 'o'}, {"l", 'f'}, {"p", 'w'});
    m_world_put(w, M_A_FILE("only"), M_A_FILE(".wh..wh..opq"));
    EXPECT(w, {"d", 'w'}, {"l", 'w'}, {"p", '-'}, {"only", 'f'});
}

LD_TEST(settle, gives_implied_directories_the_attributes_below)
{
    LD_AUTO(free_world) struct m_world *w = new_world();
    struct stat st;
    char value[8];

    m_world_put(w, M_A_FILE("d/sub/new/file", .sec = 900, .nsec = 9));
    cr_assert_eq(fstatat(w->stack.root[0], "d", &st, 0), 0);
    cr_expect_eq(st.st_mode & 07777, 02750);
    cr_expect_eq(st.st_gid, 33);
    cr_expect_eq(st.st_mtim.tv_sec, 100);
    cr_assert_eq(fchdir(w->stack.root[0]), 0);
    cr_expect_eq(getxattr("d", "user.d", value, sizeof(value)), 1);
    cr_assert_eq(chdir(ld_test_dir()), 0);
    cr_assert_eq(fstatat(w->stack.root[0], "d/sub/new", &st, 0), 0);
    cr_expect_eq(st.st_mode & 07777, 0755);
    cr_expect_eq(st.st_mtim.tv_sec, 900);
    cr_expect_eq(st.st_mtim.tv_nsec, 9);
    /* A whiteout beside it: what lies below is another directory. */
    m_world_put(w, M_A_FILE(".wh.d"), M_A_FILE("d/x", .sec = 901));
    cr_assert_eq(fstatat(w->stack.root[0], "d", &st, 0), 0);
    cr_expect_eq(st.st_mode & 07777, 0755);
    cr_expect_eq(st.st_mtim.tv_sec, 901);
}

LD_TEST(settle, fills_hard_links_to_lower_files_in_place)
{
    LD_AUTO(free_world) struct m_world *w = new_world();
    struct stat a, b;

    m_world_put(w, M_A_HARDLINK("a", "d/f"), M_A_HARDLINK("x/b", "./d//f"), M_A_HARDLINK("c", "a"),
                M_A_FILE("a"), M_A_HARDLINK("fifo", "p"), M_A_HARDLINK("fifo2", "fifo"),
                M_A_HARDLINK("sym", "/l"), M_A_HARDLINK("d/f", "d/f"));
    cr_assert_eq(fstatat(w->stack.root[0], "x/b", &a, 0), 0);
    cr_assert_eq(fstatat(w->stack.root[0], "c", &b, 0), 0);
    cr_expect_eq(a.st_ino, b.st_ino);
    cr_expect_eq(a.st_nlink, 3, "x/b, c and d/f, nothing else");
    cr_expect_eq(a.st_mode & 07777, 04711);
    cr_assert_eq(fstatat(w->stack.root[0], "fifo2", &b, 0), 0);
    cr_expect(S_ISFIFO(b.st_mode) && b.st_nlink == 2);
    cr_expect_not(w->stack.settled.has_aside);
}

LD_TEST(settle, refuses_hard_links_that_lead_nowhere_below)
{
    LD_AUTO(free_world) struct m_world *w = new_world();
    static const struct {
        const char *target, *says;
    } cases[] = {{"nothing", "'nothing'"},
                 {"d", "to the directory 'd'"},
                 {"l/f", "'l/f'"}, /* through a symlink of a lower layer */
                 {"d/f/x", "'d/f/x'"}};
    size_t fds = ld_test_count_fds();

    for (size_t i = 0; i < LD_ARRAY_LEN(cases); i++) {
        const struct m_entry e = M_A_HARDLINK("new", cases[i].target);
        struct ld_err err = LD_ERR_INIT;

        ld_test_fails(m_world_try(w, &e, 1, &err), &err, LD_E_BAD_CONTENT);
        cr_expect(strstr(err.message, cases[i].says), "%s", err.message);
        cr_expect(strstr(err.message, "'new'"), "%s", err.message);
    }
    cr_expect_eq(ld_test_count_fds(), fds);
}

LD_TEST(settle, warns_of_a_directory_over_a_symlink_below)
{
    LD_AUTO(free_world) struct m_world *w = new_world();

    m_world_put(w, M_A_FILE("l/x"));
    cr_assert_eq(w->stack.settled.warnings.total, 1);
    cr_expect(strstr(w->stack.settled.warnings.text[0], "'l'"));
    m_world_put(w, M_A_FILE("l/y"));
    cr_expect_eq(w->stack.settled.warnings.total, 0);
}

/* The last entry of a directory has the last word, all attributes of it. */
LD_TEST(settle, replaces_all_attributes_of_a_directory_entered_again)
{
    LD_AUTO(free_world) struct m_world *w = new_world();

    m_world_put(w, M_A_DIR("d", .mode = 0700, .uid = 1, M_XATTR("user.gone", "1")), M_A_FILE("d/x"),
                M_A_DIR("./d/", .mode = 0750, M_XATTR("user.stays", "2")),
                M_A_DIR("e", .mode = 0700, M_XATTR("user.gone", "1")), M_A_FILE("e"), M_A_FILE("x"),
                M_A_DIR("e", .mode = 0711), M_A_DIR("f", .uid = 3), M_A_FILE("f"),
                M_ENTRY(M_FIFO, "f"));
}

LD_TEST(settle, sums_what_is_on_disk)
{
    LD_AUTO(free_world) struct m_world *w = new_world();
    struct ld_usage usage;

    m_world_put(w, M_A_FILE("a", M_CONTENT(50000, 1)), M_A_HARDLINK("b", "a"), M_A_FILE("d/c"));
    cr_assert_eq(ld_tree_usage(w->stack.dir, "2", NULL, &usage), 0);
    cr_expect_eq(w->stack.settled.bytes, usage.bytes);
    cr_expect_eq(w->stack.settled.inodes, 4);
}

LD_TEST(settle, sets_trusted_xattrs_and_escapes_those_of_overlay)
{
    LD_AUTO(free_world) struct m_world *w = new_world();
    char value[8];

    w->stack.escapes_xattrs = true;
    m_world_put(w, M_A_FILE("t", M_XATTR("trusted.x", "1")), M_A_HARDLINK("u", "t"), M_A_FILE("t"),
                M_A_SYMLINK("s", "t", M_XATTR("trusted.x", "2")),
                M_A_FILE("o", M_XATTR("trusted.overlay.opaque", "y")),
                M_A_DIR("od", M_XATTR("trusted.overlay.redirect", "/d")));
    cr_expect_eq(w->stack.settled.inodes, 6);
    cr_assert_eq(fchdir(w->stack.root[0]), 0);
    cr_expect_eq(getxattr("od", "trusted.overlay.redirect", value, sizeof(value)), -1);
    cr_expect_eq(getxattr("od", "trusted.overlay.overlay.redirect", value, sizeof(value)), 2);
    cr_expect_eq(getxattr("o", "trusted.overlay.overlay.opaque", value, sizeof(value)), 1);
    cr_assert_eq(chdir(ld_test_dir()), 0);
}

/* Many layers, many open levels: no descriptor is needed for each. */
LD_TEST(settle, works_on_the_longest_chain_and_the_deepest_path)
{
    LD_AUTO(free_world) struct m_world *w = new_world();
    autobuf struct ld_buf deep = LD_BUF_INIT(1 << 16);
    size_t fds;

    for (int i = 0; i < 127; i++)
        ld_buf_adds(&deep, "d/");
    ld_buf_adds(&deep, "file");
    fds = ld_test_count_fds();
    for (uint64_t i = 0; i < 40; i++) {
        const struct m_entry e[] = {M_A_FILE(deep.data, M_CONTENT(3, i)), M_A_FILE("d/d/d/.wh.x")};
        struct ld_err err = LD_ERR_INIT;

        ld_test_ok(m_world_try(w, e, LD_ARRAY_LEN(e), &err), &err);
    }
    cr_expect_eq(ld_test_count_fds(), fds + 40, "the roots of the layers and no more");
}

LD_TEST(settle, stops_when_cancelled)
{
    LD_AUTO(free_world) struct m_world *w = new_world();
    autoclose int root = ld_test_mkdir("root");
    autoclose int here = ld_open_dir(AT_FDCWD, ".");
    LD_AUTO(ld_pending_free_p) struct ld_pending *pending = NULL;
    bool cancel = true;
    struct ld_settle_job job = {.root_fd = root,
                                .aside_parent_fd = here,
                                .aside_name = "none",
                                .lower = ld_test_stack_layers(&w->stack),
                                .cancel = &cancel};
    struct ld_pending_note note = {.kind = LD_NOTE_IMPLIED, .path = ""};
    struct ld_settle_result result;
    struct ld_err err = LD_ERR_INIT;

    ld_test_ok(ld_pending_new(root, &pending, &err), &err);
    ld_test_ok(ld_pending_add(pending, &note, &err), &err);
    ld_test_fails(ld_settle(&job, pending, &result, &err), &err, LD_E_CANCELED);
    cancel = false;
    ld_test_ok(ld_settle(&job, pending, &result, &err), &err);
    cr_expect_eq(result.inodes, 1);
}

/* ---- the notes ---- */

LD_TEST(pending, gives_back_what_was_put_in)
{
    enum { NOTES = 3000 };
    autoclose int dir = ld_test_mkdir("dir");
    LD_AUTO(ld_pending_free_p) struct ld_pending *p = NULL;
    autofree char *big = ld_alloc0(200000);
    char a[] = "user.a", b[] = "user.big";
    struct ld_xattr item[2] = {{.name = a, .value = a + 6, .len = 0},
                               {.name = b, .value = big, .len = 200000}};
    struct ld_xattrs xattrs = {.item = item, .n = 2};
    struct ld_err err = LD_ERR_INIT;
    struct ld_pending_note note;

    ld_test_ok(ld_pending_new(dir, &p, &err), &err);
    for (unsigned i = 0; i < NOTES; i++) {
        autofree char *path = ld_asprintf("dir/%u/name", i / 7);
        struct ld_pending_note in = {.kind = i % 3 ? LD_NOTE_DIR : LD_NOTE_LINK,
                                     .path = path,
                                     .mode = i,
                                     .mtime_sec = -(int64_t)i,
                                     .number = i,
                                     .target = i % 3 ? NULL : "to",
                                     .xattrs = i % 500 == 1 ? &xattrs : NULL};

        ld_test_ok(ld_pending_add(p, &in, &err), &err);
    }
    cr_expect_eq(ld_pending_count(p, LD_NOTE_LINK), NOTES / 3);
    for (int pass = 0; pass < 2; pass++) {
        ld_test_ok(ld_pending_rewind(p, &err), &err);
        for (unsigned i = 0; i < NOTES; i++) {
            autofree char *path = ld_asprintf("dir/%u/name", i / 7);

            cr_assert_eq(ld_pending_next(p, &note, &err), 1, "%s", err.message);
            cr_assert(strcmp(note.path, path) == 0 && note.mode == i && note.number == i &&
                      note.mtime_sec == -(int64_t)i);
            cr_assert_str_eq(note.target, i % 3 ? "" : "to");
            cr_assert_eq(note.xattrs != NULL, i % 500 == 1);
            cr_assert(!note.xattrs || ld_xattrs_equal(note.xattrs, &xattrs));
        }
        cr_assert_eq(ld_pending_next(p, &note, &err), 0);
    }
}
