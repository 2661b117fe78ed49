/* daemon/base/quota: what can be seen of it on a kernel without project quotas; xfs takes project
 * ids all the same. That they are enforced is tests/vm/limits.sh. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "daemon/base/fdio.h"
#include "daemon/base/quota.h"
#include "tests/lib/env.h"

enum { XFS_MIB = 320 };

static const struct ld_quota ours = {.base = 1 << 30};

LD_TEST(quota, is_refused_with_the_remedy_where_nothing_is_enforced)
{
    static const struct {
        const char *fs, *remedy;
    } rows[] = {{"tmpfs", "ext4 or xfs"},
                {"ext4", "tune2fs -O quota,project"},
                {"xfs", "mount it with -o prjquota"},
                {"btrfs", "ext4 or xfs"}};

    for (size_t i = 0; i < LD_ARRAY_LEN(rows); i++) {
        autoclose int dir = strcmp(rows[i].fs, "tmpfs") == 0
                                ? ld_test_mkdir("tmpfs")
                                : ld_test_fs(rows[i].fs, rows[i].fs, XFS_MIB);
        struct ld_quota quota = {.base = 0};
        struct ld_err err = LD_ERR_INIT;

        ld_test_fails(ld_quota_probe(dir, "instance", &quota, &err), &err, LD_E_UNSUPPORTED);
        cr_expect(strstr(err.hint, rows[i].remedy), "%s: %s", rows[i].fs, err.hint);
        cr_expect_eq(quota.base, 0);
    }
}

LD_TEST(quota, without_one_nothing_is_tagged_or_set)
{
    static const struct ld_quota none = {.base = 0};
    struct ld_limits limits = {.bytes = 4096};
    autoclose int dir = ld_test_mkdir("plain");
    bool is_tagged = false;

    cr_expect_eq(ld_quota_tag(&none, dir, 1), 0);
    cr_expect_eq(ld_quota_is_tagged(&none, dir, 1, &is_tagged), -EOPNOTSUPP);
    cr_expect_eq(ld_quota_set(&none, dir, 1, &limits), -EOPNOTSUPP);
    cr_expect_eq(ld_quota_get(&none, dir, 1, &limits, NULL), -EOPNOTSUPP);
    cr_expect_eq(ld_quota_tag_like(dir, dir), 0);
}

LD_TEST(quota, has_a_project_for_each_sid_as_far_as_numbers_go)
{
    autoclose int dir = ld_test_fs("xfs", "xfs", XFS_MIB);

    cr_expect_eq(ld_quota_tag(&ours, dir, UINT32_MAX - ours.base), -EOVERFLOW);
    cr_expect_eq(ld_quota_tag(&ours, dir, UINT64_MAX), -EOVERFLOW);
    cr_expect_eq(ld_quota_tag(&ours, dir, UINT32_MAX - ours.base - 1), 0);
}

/* As a layer's directories are laid out: w/1/{upper,work}, layers. */
LD_TEST(quota, tags_are_inherited_and_leave_by_rename_only)
{
    autoclose int fs = ld_test_fs("xfs", "xfs", XFS_MIB);
    autoclose int w = ld_make_dir(fs, "1", 0700);
    autoclose int layers = ld_make_dir(fs, "layers", 0700);
    autoclose int other = ld_make_dir(fs, "2", 0700);
    autoclose int upper = -EBADF, twin = -EBADF;
    bool is_tagged = false;

    cr_assert_eq(ld_quota_tag(&ours, w, 1), 0);
    cr_assert_eq(ld_quota_tag(&ours, other, 2), 0);
    upper = ld_make_dir(w, "upper", 0755);
    cr_assert_eq(ld_quota_is_tagged(&ours, upper, 1, &is_tagged), 0);
    cr_expect(is_tagged);
    cr_assert_eq(ld_quota_is_tagged(&ours, upper, 2, &is_tagged), 0);
    cr_expect_not(is_tagged);
    cr_expect_eq(renameat(w, "upper", other, "upper"), -1);
    cr_expect_eq(errno, EXDEV, "into another project");
    cr_assert_eq(renameat(w, "upper", layers, "1"), 0, "a freeze: %s", strerror(errno));
    cr_assert_eq(ld_quota_is_tagged(&ours, upper, 1, &is_tagged), 0);
    cr_expect(is_tagged, "it keeps its project");
    twin = ld_make_dir(fs, "twin", 0755);
    cr_assert_eq(ld_quota_tag_like(twin, layers), 0);
    cr_assert_eq(ld_quota_is_tagged(&ours, twin, 1, &is_tagged), 0);
    cr_expect_not(is_tagged, "layers has no project");
    cr_expect_not(ld_quota_is_inherited(layers));
    cr_expect(ld_quota_is_inherited(w));
    cr_assert_eq(ld_quota_tag_like(twin, upper), 0);
    cr_assert_eq(ld_quota_is_tagged(&ours, twin, 1, &is_tagged), 0);
    cr_expect(is_tagged);
}
