/* Helpers for the tests of image/: see tarlib.h. */
#include "tests/lib/tarlib.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

#include <archive.h>
#include <archive_entry.h>

#include "daemon/base/fdio.h"
#include "daemon/base/mem.h"
#include "daemon/base/parse.h"
#include "tests/lib/env.h"

enum { SLURP_MAX = 64 << 20 };

uint64_t ld_test_seed(void)
{
    const char *text = getenv("LD_TEST_SEED");
    struct timespec now;
    uint64_t seed;

    (void)clock_gettime(CLOCK_REALTIME, &now);
    seed = (uint64_t)now.tv_nsec ^ (uint64_t)now.tv_sec << 20;
    if (text)
        cr_assert_eq(ld_parse_u64(text, 0, UINT64_MAX, &seed), 0, "LD_TEST_SEED is no number");
    (void)fprintf(stderr, "LD_TEST_SEED=%" PRIu64 "\n", seed);
    return seed;
}

uint64_t ld_test_random(uint64_t *state)
{
    uint64_t z = *state += UINT64_C(0x9E3779B97F4A7C15); /* splitmix64 */

    z = (z ^ z >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ z >> 27) * UINT64_C(0x94D049BB133111EB);
    return z ^ z >> 31;
}

uint64_t ld_test_below(uint64_t *state, uint64_t limit)
{
    return ld_test_random(state) % limit;
}

void ld_test_fill(uint64_t *state, void *data, size_t len)
{
    uint8_t *p = data;

    for (size_t i = 0; i < len; i++)
        p[i] = (uint8_t)(ld_test_random(state) & 0x1F);
}

struct drip {
    struct ld_source base;
    struct ld_source *below;
    size_t max;
    uint64_t state;
};

static ssize_t drip_read(struct ld_source *base, void *buf, size_t len, struct ld_err *err)
{
    struct drip *drip = (struct drip *)base;
    size_t n = 1 + ld_test_below(&drip->state, drip->max);

    return ld_source_read(drip->below, buf, n < len ? n : len, err);
}

static void drip_free(struct ld_source *base)
{
    free(base);
}

struct ld_source *ld_test_drip_new(struct ld_source *below, size_t max, uint64_t seed)
{
    static const struct ld_source_ops ops = {.read = drip_read, .free = drip_free};
    struct drip *drip = ld_new(struct drip);

    *drip = (struct drip){.base.ops = &ops, .below = below, .max = max, .state = seed};
    return &drip->base;
}

int ld_test_slurp(struct ld_source *src, struct ld_buf *ret, struct ld_err *err)
{
    autofree char *chunk = ld_alloc0(100000);
    ssize_t n;

    *ret = LD_BUF_INIT(SLURP_MAX);
    while ((n = ld_source_read(src, chunk, 100000, err)) > 0)
        ld_buf_add(ret, chunk, (size_t)n);
    cr_assert_eq(ld_buf_check(ret), 0, "more than 64 MiB");
    if (n == 0)
        cr_assert_eq(ld_source_read(src, chunk, 1, err), 0, "the end stays the end");
    return n < 0 ? -1 : 0;
}

struct ld_buf ld_test_file(const char *path)
{
    autoclose int fd = open(path, O_RDONLY | O_CLOEXEC);
    auto_source *src = NULL;
    struct ld_err err = LD_ERR_INIT;
    struct ld_buf buf;

    cr_assert(fd >= 0, "open %s", path);
    src = ld_source_fd_new(fd, 0, LD_TO_END);
    ld_test_ok(ld_test_slurp(src, &buf, &err), &err);
    return buf;
}

void ld_test_put_file(const char *path, const void *data, size_t len)
{
    autoclose int fd = open(path, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0600);

    cr_assert(fd >= 0, "create %s", path);
    cr_assert_eq(ld_write_full(fd, data, len), 0);
}

/* -- the tree ---------------------------------------------------------------------------------- */

static void put_part(int fd, uint64_t *state, off_t offset, size_t len)
{
    autofree char *data = ld_alloc0(len + 1);

    ld_test_fill(state, data, len);
    cr_assert_eq(ld_pwrite_full(fd, data, len, (uint64_t)offset), 0);
}

static int new_file(const char *path)
{
    int fd = open(path, O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0644);

    cr_assert(fd >= 0, "create %s: %m", path);
    return fd;
}

static void put_files(uint64_t *state)
{
    static const size_t sizes[] = {0, 1, 511, 512, 513, 1024, 70000, 700000};
    char long_name[240];

    for (size_t i = 0; i < LD_ARRAY_LEN(sizes); i++) {
        autofree char *path = ld_asprintf("tree/d/size-%zu", sizes[i]);
        autoclose int fd = new_file(path);

        put_part(fd, state, 0, sizes[i]);
        cr_assert_eq(fchmod(fd, (mode_t)(04755 >> i % 3)), 0);
    }
    memset(long_name, 'n', sizeof(long_name) - 1);
    long_name[sizeof(long_name) - 1] = '\0';
    for (size_t len = 90; len < sizeof(long_name); len += 37) {
        autofree char *path = ld_asprintf("tree/d/%s", long_name + sizeof(long_name) - 1 - len);
        autoclose int fd = new_file(path);

        put_part(fd, state, 0, len);
    }
    ld_close(new_file("tree/d/gr\xc3\xbc\xc3\x9f"));
    ld_close(new_file("tree/d/new\nline = x"));
}

/* Files of holes: at the front, at the end, nothing else, and more parts than a header holds. */
static void put_sparse(uint64_t *state)
{
    static const struct {
        const char *name;
        off_t size;
        int parts;
        off_t first, step;
    } files[] = {
        {"tree/s/all", 1 << 20, 0, 0, 0},
        {"tree/s/front", 1 << 20, 1, (1 << 20) - 4096, 4096},
        {"tree/s/end", 1 << 20, 1, 0, 4096},
        {"tree/s/few", 1 << 20, 3, 65536, 1 << 18},
        {"tree/s/many", 3 << 20, 70, 8192, 40960},
    };

    for (size_t i = 0; i < LD_ARRAY_LEN(files); i++) {
        autoclose int fd = new_file(files[i].name);

        for (int n = 0; n < files[i].parts; n++)
            put_part(fd, state, files[i].first + n * files[i].step, 4096);
        cr_assert_eq(ftruncate(fd, files[i].size), 0);
    }
}

static void put_links(void)
{
    char target[300];

    memset(target, 't', sizeof(target) - 1);
    target[sizeof(target) - 1] = '\0';
    cr_assert_eq(symlink("../d/size-512", "tree/l/short"), 0);
    cr_assert_eq(symlink(target, "tree/l/long"), 0);
    cr_assert_eq(symlink(target + 199, "tree/l/just-fits"), 0);
    cr_assert_eq(link("tree/d/size-513", "tree/l/hard"), 0);
    cr_assert_eq(link("tree/d/size-0", "tree/l/hard-empty"), 0);
    cr_assert_eq(mkfifo("tree/l/fifo", 0600), 0);
    cr_assert_eq(mknod("tree/l/char", S_IFCHR | 0640, makedev(5, 1)), 0);
    cr_assert_eq(mknod("tree/l/block", S_IFBLK | 0640, makedev(259, 70000)), 0);
}

static void put_xattrs(void)
{
    static const char binary[] = "a\0b\nc=\xff\0";

    cr_assert_eq(setxattr("tree/d/size-512", "trusted.binary", binary, sizeof(binary) - 1, 0), 0);
    cr_assert_eq(setxattr("tree/d/size-512", "trusted.more", "1", 1, 0), 0);
    cr_assert_eq(setxattr("tree/l", "trusted.on-dir", "x y", 3, 0), 0);
}

static void put_times(void)
{
    static const struct {
        const char *name;
        struct timespec t;
    } times[] = {
        {"tree/d/size-1", {1234567890, 123456789}},
        {"tree/d/size-511", {-5, 500000000}},
        {"tree/d/size-512", {0, 1}},
        {"tree/d/size-513", {UINT64_C(4294967296) + 7, 0}},
        {"tree/s", {1600000000, 999999999}},
    };

    for (size_t i = 0; i < LD_ARRAY_LEN(times); i++) {
        const struct timespec both[2] = {times[i].t, times[i].t};

        cr_assert_eq(utimensat(AT_FDCWD, times[i].name, both, AT_SYMLINK_NOFOLLOW), 0);
    }
}

void ld_test_tar_tree(void)
{
    uint64_t state = 7;
    mode_t saved = umask(0);

    cr_assert_eq(mkdir("tree", 0755), 0);
    cr_assert_eq(mkdir("tree/d", 01777), 0);
    cr_assert_eq(mkdir("tree/s", 0700), 0);
    cr_assert_eq(mkdir("tree/l", 02750), 0);
    put_files(&state);
    put_sparse(&state);
    put_links();
    put_xattrs();
    cr_assert_eq(chown("tree/d/size-1024", 1000, 1001), 0);
    put_times();
    (void)umask(saved);
}

/* -- archives ---------------------------------------------------------------------------------- */

void ld_test_tar_corpus(void (*fn)(const char *path, void *arg), void *arg)
{
    static const struct {
        const char *name, *options;
    } kinds[] = {
        {"v7.tar", "--format=v7"},
        {"oldgnu.tar", "--format=oldgnu"},
        {"ustar.tar", "--format=ustar"},
        {"gnu.tar", "--format=gnu"},
        {"posix.tar", "--format=posix --xattrs --xattrs-include=*"},
        {"label.tar", "--format=gnu --label=volume"},
        {"global.tar", "--format=posix --pax-option=globexthdr.comment=hello"},
        {"incremental.tar", "--format=gnu --listed-incremental=/dev/null"},
        {"sparse-old.tar", "--format=oldgnu --sparse"},
        {"sparse-gnu.tar", "--format=gnu --sparse"},
        {"sparse-0.0.tar", "--format=posix --sparse --sparse-version=0.0"},
        {"sparse-0.1.tar", "--format=posix --sparse --sparse-version=0.1"},
        {"sparse-1.0.tar", "--format=posix --sparse --sparse-version=1.0 --xattrs"},
        {"raw-sparse.tar", "--format=posix --sparse --hole-detection=raw"},
        {"owner.tar", "--format=gnu --owner=:3000000 --group=:4000000000"},
        {"owner-pax.tar", "--format=posix --owner=:3000000 --group=:4000000000"},
        {"blocked.tar", "--format=gnu --blocking-factor=2000"},
    };

    for (size_t i = 0; i < LD_ARRAY_LEN(kinds); i++) {
        /* 1: an entry that this form cannot say was left out. */
        ld_test_sh("tar -C tree %s -cf %s . 2>/dev/null || test $? -le 2", kinds[i].options,
                   kinds[i].name);
        fn(kinds[i].name, arg);
    }
}

static void random_name(uint64_t *state, unsigned number, size_t max, char *name)
{
    size_t len = (size_t)snprintf(name, 16, "%u-", number);
    size_t want = ld_test_below(state, 8) ? ld_test_below(state, 40) : ld_test_below(state, max);

    for (size_t i = 0; i < want && len < max; i++)
        name[len++] = i && i % 29 == 0 ? '/' : (char)('a' + ld_test_below(state, 26));
    if (name[len - 1] == '/')
        name[len - 1] = 'x';
    name[len] = '\0';
}

static void random_type(struct archive_entry *e, uint64_t *state, bool is_v7)
{
    char target[300];

    archive_entry_set_size(e, 0);
    switch (ld_test_below(state, is_v7 ? 3 : 7)) {
    case 0:
        archive_entry_set_filetype(e, AE_IFDIR);
        break;
    case 1:
        archive_entry_set_filetype(e, AE_IFLNK);
        random_name(state, 0, is_v7 ? 90 : 98, target);
        archive_entry_set_symlink(e, target);
        break;
    case 2:
    case 3:
        archive_entry_set_filetype(e, AE_IFREG);
        archive_entry_set_size(e, (int64_t)ld_test_below(state, 3000));
        break;
    case 4:
        archive_entry_set_filetype(e, AE_IFIFO);
        break;
    case 5:
        archive_entry_set_filetype(e, ld_test_below(state, 2) ? AE_IFCHR : AE_IFBLK);
        archive_entry_set_rdevmajor(e, (dev_t)ld_test_below(state, 4096));
        archive_entry_set_rdevminor(e, (dev_t)ld_test_below(state, 1 << 18));
        break;
    default:
        archive_entry_set_filetype(e, AE_IFREG);
        archive_entry_set_hardlink(e, "0-target");
    }
}

static void random_pax(struct archive_entry *e, uint64_t *state)
{
    int64_t sec = (int64_t)ld_test_below(state, UINT64_C(1) << 40) - (INT64_C(1) << 39);

    archive_entry_set_mtime(e, sec, (long)ld_test_below(state, 1000000000));
    archive_entry_set_uid(e, (int64_t)ld_test_below(state, UINT32_MAX));
    for (uint64_t n = ld_test_below(state, 4); n > 0; n--) {
        char name[32], value[200];

        (void)snprintf(name, sizeof(name), "user.x%" PRIu64, n);
        ld_test_fill(state, value, sizeof(value));
        archive_entry_xattr_add_entry(e, name, value, 1 + ld_test_below(state, sizeof(value)));
    }
    if (archive_entry_filetype(e) == AE_IFREG && !archive_entry_hardlink(e) &&
        ld_test_below(state, 3) == 0) {
        archive_entry_set_size(e, 100000);
        archive_entry_sparse_add_entry(e, 1000, 700);
        archive_entry_sparse_add_entry(e, 50000, (int64_t)ld_test_below(state, 9000));
    }
}

void ld_test_tar_random(const char *path, const char *format, unsigned entries, uint64_t *state)
{
    bool is_v7 = strcmp(format, "v7tar") == 0, is_pax = strcmp(format, "pax") == 0;
    struct archive *a = archive_write_new();
    autofree char *data = ld_alloc0(100000);

    cr_assert_eq(archive_write_set_format_by_name(a, format), ARCHIVE_OK);
    cr_assert_eq(archive_write_open_filename(a, path), ARCHIVE_OK);
    ld_test_fill(state, data, 100000);
    for (unsigned i = 0; i < entries; i++) {
        struct archive_entry *e = archive_entry_new();
        char name[256];

        random_name(state, i + 1, is_v7 || strcmp(format, "ustar") == 0 ? 96 : 230, name);
        archive_entry_set_pathname(e, name);
        archive_entry_set_perm(e, (mode_t)ld_test_below(state, 010000));
        archive_entry_set_uid(e, (int64_t)ld_test_below(state, 1 << 18));
        archive_entry_set_gid(e, (int64_t)ld_test_below(state, 1 << 18));
        archive_entry_set_mtime(e, (time_t)ld_test_below(state, UINT64_C(1) << 32), 0);
        random_type(e, state, is_v7);
        if (is_pax)
            random_pax(e, state);
        cr_assert_geq(archive_write_header(a, e), ARCHIVE_WARN, "%s: %s", name,
                      archive_error_string(a));
        if (archive_entry_size(e) > 0)
            cr_assert_geq(archive_write_data(a, data, (size_t)archive_entry_size(e)), 0);
        archive_entry_free(e);
    }
    cr_assert_eq(archive_write_close(a), ARCHIVE_OK);
    (void)archive_write_free(a); /* closed just above */
}
