/* base/inodes.h: sets of inodes with more than one name. */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>

#include "daemon/base/fdio.h"
#include "daemon/base/inodes.h"
#include "tests/lib/env.h"

static struct stat inode(uint64_t dev, uint64_t ino)
{
    return (struct stat){.st_dev = dev, .st_ino = ino, .st_mode = S_IFREG, .st_nlink = 2};
}

LD_TEST(inodes, finds_each_of_many_with_its_text)
{
    enum { N = 100000 };
    struct ld_inodes set LD_AUTO(ld_inodes_done) = LD_INODES_INIT(LD_INODES_MAX);
    char text[32];

    for (unsigned i = 0; i < N; i++) {
        struct stat st = inode(7, i);

        cr_assert_null(ld_inodes_find(&set, &st, 0));
        (void)snprintf(text, sizeof(text), "dir/%u", i);
        cr_assert_eq(ld_inodes_add(&set, &st, 0, i % 3 ? text : ""), 0);
    }
    for (unsigned i = 0; i < N; i++) {
        struct stat st = inode(7, i);

        (void)snprintf(text, sizeof(text), "dir/%u", i);
        cr_assert_str_eq(ld_inodes_find(&set, &st, 0), i % 3 ? text : "");
    }
}

LD_TEST(inodes, keep_the_text_they_came_with)
{
    struct ld_inodes set LD_AUTO(ld_inodes_done) = LD_INODES_INIT(2);
    struct stat st = inode(1, 1);

    cr_assert_eq(ld_inodes_add(&set, &st, 0, "first"), 0);
    cr_assert_eq(ld_inodes_add(&set, &st, 0, "second"), 1);
    cr_assert_str_eq(ld_inodes_find(&set, &st, 0), "first");
}

LD_TEST(inodes, are_told_apart_by_number_device_and_layer)
{
    struct ld_inodes set LD_AUTO(ld_inodes_done) = LD_INODES_INIT(LD_INODES_MAX);
    char text[32];

    for (unsigned i = 0; i < 64; i++) {
        struct stat st = inode(i & 3, i >> 2 & 3);

        (void)snprintf(text, sizeof(text), "%u", i);
        cr_assert_eq(ld_inodes_add(&set, &st, i >> 4, text), 0);
    }
    for (unsigned i = 0; i < 64; i++) {
        struct stat st = inode(i & 3, i >> 2 & 3);

        (void)snprintf(text, sizeof(text), "%u", i);
        cr_assert_str_eq(ld_inodes_find(&set, &st, i >> 4), text);
    }
}

LD_TEST(inodes, beyond_the_bound_are_refused_and_the_others_stay)
{
    struct ld_inodes set LD_AUTO(ld_inodes_done) = LD_INODES_INIT(3);

    for (unsigned i = 0; i < 10; i++) {
        struct stat st = inode(1, i);

        cr_assert_eq(ld_inodes_add(&set, &st, 0, "text"), i < 3 ? 0 : -E2BIG);
    }
    for (unsigned i = 0; i < 10; i++) {
        struct stat st = inode(1, i);

        cr_expect_eq(ld_inodes_find(&set, &st, 0) != NULL, i < 3);
        if (i < 3)
            cr_expect_eq(ld_inodes_add(&set, &st, 0, "again"), 1, "one that is there is no more");
    }
}

LD_TEST(inodes, of_directories_have_one_name)
{
    struct stat st = inode(1, 1);

    cr_expect(ld_inode_has_names(&st));
    st.st_mode = S_IFDIR;
    cr_expect_not(ld_inode_has_names(&st));
    st.st_mode = S_IFLNK;
    cr_expect(ld_inode_has_names(&st));
    st.st_nlink = 1;
    cr_expect_not(ld_inode_has_names(&st));
}

/* Who counts them can be told to stop. */
LD_TEST(inodes, of_a_tree_are_counted_until_that_is_cancelled)
{
    autoclose int dir = ld_test_mkdir("tree");
    bool cancel = false;
    struct ld_usage usage = {.bytes = 0};

    ld_test_sh("cd tree && mkdir a && touch b a/c && ln b a/b");
    cr_assert_eq(ld_tree_usage(dir, ".", &cancel, &usage), 0);
    cr_expect_eq(usage.inodes, 4);
    cr_assert_eq(ld_tree_usage(dir, "b", NULL, &usage), 0);
    cr_expect_eq(usage.inodes, 1);
    cancel = true;
    cr_expect_eq(ld_tree_usage(dir, ".", &cancel, &usage), -ECANCELED);
    cr_expect_eq(usage.inodes, 1, "left alone");
}
