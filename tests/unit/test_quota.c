/* daemon/base/quota: subvolumes of btrfs, and what can be seen of projects on a kernel without
 * project quotas; xfs takes project ids all the same. That those are enforced is
 * tests/vm/limits.sh. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "daemon/base/fdio.h"
#include "daemon/base/quota.h"
#include "daemon/base/quota_kind.h"
#include "tests/lib/env.h"

enum { XFS_MIB = 320 };

static const struct ld_quota ours = {.kind = &ld_quota_projects, .base = 1 << 30};

LD_TEST(quota, is_refused_with_the_remedy_where_nothing_is_enforced)
{
    static const struct {
        const char *fs, *remedy;
    } rows[] = {{"tmpfs", "ext4 or xfs"},
                {"ext4", "tune2fs -O quota,project"},
                {"xfs", "mount it with -o prjquota"},
                {"btrfs", "btrfs quota enable"}};

    for (size_t i = 0; i < LD_ARRAY_LEN(rows); i++) {
        autoclose int dir = strcmp(rows[i].fs, "tmpfs") == 0
                                ? ld_test_mkdir("tmpfs")
                                : ld_test_fs(rows[i].fs, rows[i].fs, XFS_MIB);
        struct ld_quota quota = {.base = 0};
        struct ld_err err = LD_ERR_INIT;

        ld_test_fails(ld_quota_probe(dir, "instance", &quota, &err), &err, LD_E_UNSUPPORTED);
        cr_expect(strstr(err.hint, rows[i].remedy), "%s: %s", rows[i].fs, err.hint);
        cr_expect_not(ld_quota_is_on(&quota));
    }
}

LD_TEST(quota, without_one_directories_are_plain)
{
    static const struct ld_quota none = {.base = 0};
    struct ld_limits limits = {.bytes = 4096};
    autoclose int parent = ld_test_mkdir("plain");
    autoclose int dir = ld_quota_make_dir(&none, parent, "1", 0751, 1, true);
    autoclose int like = ld_quota_make_like(&none, parent, "2", 0700, 1, dir);
    bool is_counted = false;
    struct stat st;

    cr_assert(dir >= 0 && like >= 0);
    cr_expect_eq(fstat(dir, &st), 0);
    cr_expect_eq(st.st_mode & 07777, 0751);
    cr_expect_eq(ld_quota_make_dir(&none, parent, "1", 0700, 1, false), -EEXIST);
    cr_expect_eq(ld_quota_is_counted(&none, dir, 1, &is_counted), -EOPNOTSUPP);
    cr_expect_eq(ld_quota_set(&none, dir, 1, &limits), -EOPNOTSUPP);
    cr_expect_eq(ld_quota_get(&none, dir, 1, &limits, NULL), -EOPNOTSUPP);
    cr_expect_eq(ld_quota_settle(&none, dir), 0);
    cr_expect_eq(ld_quota_remove_tree(&none, parent, "1", NULL), 0);
    cr_expect_eq(ld_quota_forget(&none, parent, 1), 0);
    ld_quota_sweep(&none, parent);
}

/* ---- projects ---- */

LD_TEST(quota, has_a_project_for_each_sid_as_far_as_numbers_go)
{
    autoclose int fs = ld_test_fs("xfs", "xfs", XFS_MIB);
    autoclose int last =
        ld_quota_make_dir(&ours, fs, "last", 0700, UINT32_MAX - ours.base - 1, false);

    cr_expect(last >= 0);
    cr_expect_eq(ld_quota_make_dir(&ours, fs, "a", 0700, UINT32_MAX - ours.base, false),
                 -EOVERFLOW);
    cr_expect_eq(ld_quota_make_dir(&ours, fs, "b", 0700, UINT64_MAX, false), -EOVERFLOW);
    cr_expect_eq(faccessat(fs, "a", F_OK, 0), -1, "nothing is left");
}

/* As a layer's directories are laid out: w/1/{upper,work}, layers. */
LD_TEST(quota, projects_are_inherited_and_left_by_rename_only)
{
    autoclose int fs = ld_test_fs("xfs", "xfs", XFS_MIB);
    autoclose int w = ld_quota_make_dir(&ours, fs, "1", 0700, 1, false);
    autoclose int layers = ld_make_dir(fs, "layers", 0700);
    autoclose int other = ld_quota_make_dir(&ours, fs, "2", 0700, 2, true);
    autoclose int upper = -EBADF;
    bool is_counted = false;

    cr_assert(w >= 0 && layers >= 0 && other >= 0);
    upper = ld_make_dir(w, "upper", 0755);
    cr_assert_eq(ld_quota_is_counted(&ours, upper, 1, &is_counted), 0);
    cr_expect(is_counted);
    cr_assert_eq(ld_quota_is_counted(&ours, upper, 2, &is_counted), 0);
    cr_expect_not(is_counted);
    cr_expect_eq(renameat(w, "upper", other, "upper"), -1);
    cr_expect_eq(errno, EXDEV, "into another project");
    cr_assert_eq(renameat(w, "upper", layers, "1"), 0, "a freeze: %s", strerror(errno));
    cr_assert_eq(ld_quota_is_counted(&ours, upper, 1, &is_counted), 0);
    cr_expect(is_counted, "it keeps its project");
    cr_expect_not(ld_quota_is_inherited(layers));
    cr_expect(ld_quota_is_inherited(w));
}

/* ---- subvolumes ---- */

static struct ld_quota probe(int dir)
{
    struct ld_quota quota = {.base = 0};
    struct ld_err err = LD_ERR_INIT;

    ld_test_ok(ld_quota_probe(dir, "instance", &quota, &err), &err);
    cr_assert(ld_quota_is_on(&quota));
    return quota;
}

/* How much of a MiB can be written to a new file, in KiB; -1: another error than EDQUOT. */
static int write_mib(int dir, const char *name)
{
    static const char block[64 << 10];
    autoclose int fd = openat(dir, name, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);

    if (fd < 0)
        return errno == EDQUOT ? 0 : -1;
    for (int kib = 0; kib < 1024; kib += 64) {
        if (write(fd, block, sizeof(block)) != (ssize_t)sizeof(block))
            return errno == EDQUOT ? kib : -1;
    }
    return 1024;
}

static void hold_to_limits(bool simple)
{
    autoclose int fs = ld_test_fs("btrfs", "btrfs", 256);
    struct ld_limits limits = {.bytes = 2 << 20}, used;
    autoclose int one = -EBADF, two = -EBADF, plain = -EBADF, like = -EBADF;
    struct ld_quota quota;
    bool is_counted = false;
    struct stat st;

    ld_test_quotas_on(fs, simple);
    quota = probe(fs);
    one = ld_quota_make_dir(&quota, fs, "1", 0751, 1, true);
    two = ld_quota_make_dir(&quota, fs, "2", 0700, 2, true);
    plain = ld_quota_make_dir(&quota, fs, "3", 0700, 3, false);
    cr_assert(one >= 0 && two >= 0 && plain >= 0);
    cr_expect_eq(fstat(one, &st), 0);
    cr_expect_eq(st.st_mode & 07777, 0751);
    cr_expect_eq(ld_quota_make_dir(&quota, fs, "1", 0700, 1, true), -EEXIST);
    cr_expect_eq(ld_quota_is_counted(&quota, one, 1, &is_counted), 0);
    cr_expect(is_counted);
    cr_expect_eq(ld_quota_is_counted(&quota, plain, 3, &is_counted), 0);
    cr_expect_not(is_counted);
    cr_expect_eq(ld_quota_set(&quota, plain, 3, &limits), -EOPNOTSUPP);

    cr_expect_eq(ld_quota_set(&quota, one, 1, &limits), 0);
    cr_expect_eq(write_mib(one, "a"), 1024);
    cr_expect_leq(write_mib(one, "b"), 1023);
    cr_expect_eq(write_mib(two, "a"), 1024);
    cr_expect_eq(ld_quota_settle(&quota, one), 0);
    cr_expect_eq(ld_quota_get(&quota, one, 1, &limits, &used), 0);
    cr_expect_eq(limits.bytes, 2 << 20);
    cr_expect_gt(used.bytes, 1536 << 10);
    cr_expect_leq(used.bytes, 2 << 20);

    like = ld_quota_make_like(&quota, fs, "4", 0700, 1, one);
    cr_expect_eq(ld_quota_get(&quota, like, 1, &limits, NULL), 0);
    cr_expect_eq(limits.bytes, 2 << 20);
    cr_expect_eq(renameat(one, "a", fs, "a"), -1);
    cr_expect_eq(errno, EXDEV);
    cr_expect_eq(renameat2(fs, "4", fs, "1", RENAME_EXCHANGE), 0, "%s", strerror(errno));

    limits.bytes = 0;
    cr_expect_eq(ld_quota_set(&quota, one, 1, &limits), 0);
    cr_expect_eq(write_mib(one, "c"), 1024);
    ld_quota_done(&quota);
}

LD_TEST(quota, subvolumes_are_held_to_their_limits)
{
    hold_to_limits(false);
}

LD_TEST(quota, subvolumes_are_held_to_their_limits_by_simple_quotas)
{
    hold_to_limits(true);
}

static int count_groups(void)
{
    FILE *out = popen("ls /sys/fs/btrfs/$(blkid -p -o value -s UUID /mnt/btrfs.img)/qgroups |"
                      " grep -c '^0_'",
                      "r");
    int n = -1;

    cr_assert_eq(fscanf(out, "%d", &n), 1); /* NOLINT: grep has printed it */
    (void)pclose(out);
    return n;
}

struct sweeping {
    const struct ld_quota *quota;
    int fs;
};

static bool is_swept(void *arg)
{
    struct sweeping *s = arg;

    cr_expect_eq(ld_syncfs(s->fs), 0);
    ld_quota_sweep(s->quota, s->fs);
    return count_groups() == 1; /* that of the root */
}

static void leave_nothing(bool simple)
{
    autoclose int fs = ld_test_fs("btrfs", "btrfs", 256);
    struct ld_limits limits = {.bytes = 1 << 20};
    struct ld_quota quota;
    struct sweeping sweeping = {.quota = &quota, .fs = fs};

    ld_test_sh("mount -o remount,commit=1 /mnt/btrfs");
    ld_test_quotas_on(fs, simple);
    quota = probe(fs);
    for (int i = 0; i < 3; i++) {
        autoclose int dir = ld_quota_make_dir(&quota, fs, i ? "b" : "a", 0700, 1, true);

        cr_assert_eq(ld_quota_set(&quota, dir, 1, &limits), 0);
        cr_expect_leq(write_mib(dir, "full"), 1023);
        cr_expect_eq(ld_quota_remove_tree(&quota, fs, i ? "b" : "a", NULL), 0);
    }
    cr_expect(ld_test_wait(is_swept, &sweeping, 60), "by who has deleted them");
    ld_test_sh("cd btrfs && for i in 1 2 3; do btrfs -q subvolume create $i; rmdir $i; done");
    ld_quota_done(&quota);
    quota = probe(fs);
    cr_expect(ld_test_wait(is_swept, &sweeping, 60), "by the next process");
    ld_quota_done(&quota);
}

LD_TEST(quota, of_deleted_subvolumes_nothing_stays)
{
    leave_nothing(false);
}

LD_TEST(quota, of_deleted_subvolumes_nothing_stays_of_simple_quotas)
{
    leave_nothing(true);
}

/* Who may write to a volume can make some in it. */
LD_TEST(quota, subvolumes_within_are_walked_like_directories)
{
    autoclose int fs = ld_test_fs("btrfs", "btrfs", 256);
    struct ld_usage usage;

    ld_test_sh("cd btrfs && mkdir -p a/b && btrfs -q subvolume create a/b/c && "
               "btrfs -q subvolume create a/b/c/d && echo x > a/b/c/d/e && "
               "mkdir a/m && mount -t tmpfs none a/m && echo y > a/m/not-ours");
    cr_expect_eq(ld_tree_usage(fs, "a", NULL, &usage), 0);
    cr_expect_eq(usage.inodes, 5);
    cr_expect_eq(ld_remove_tree(fs, "a/b", NULL), 0);
    cr_expect_eq(faccessat(fs, "a/b", F_OK, 0), -1);
    cr_expect_eq(ld_remove_tree(fs, "a", NULL), -EBUSY, "a mount");
    cr_expect_eq(faccessat(fs, "a/m/not-ours", F_OK, 0), 0);
}

LD_TEST(quota, of_subvolumes_counts_no_inodes)
{
    static const struct ld_quota btrfs = {.kind = &ld_quota_subvolumes};
    struct ld_limits bytes = {.bytes = 1 << 20}, inodes = {.inodes = 100};
    struct ld_err err = LD_ERR_INIT;

    ld_test_ok(ld_quota_check(&btrfs, &bytes, &err), &err);
    ld_test_ok(ld_quota_check(&ours, &inodes, &err), &err);
    ld_test_fails(ld_quota_check(&btrfs, &inodes, &err), &err, LD_E_UNSUPPORTED);
    cr_expect_neq(err.hint[0], '\0');
}
