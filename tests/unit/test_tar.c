/* image/tar.h: against libarchive on archives of real tools and on random ones; hostile headers;
 * mutations. */
#include <fcntl.h>
#include <inttypes.h>
#include <locale.h>
#include <stdio.h>
#include <string.h>

#include <archive.h>
#include <archive_entry.h>

#include "daemon/base/digest.h"
#include "daemon/base/mem.h"
#include "daemon/image/tar.h"
#include "tests/lib/env.h"
#include "tests/lib/tarlib.h"

enum { BLOCK = 512 };

static const struct ld_tar_limits no_limits;

/* -- entries as text, so that two readers can be compared
 * ------------------------------------------ */

static void describe_xattr(struct ld_buf *out, const char *name, const void *value, size_t len)
{
    struct ld_digest d = ld_digest_of(value, len);
    char text[LD_DIGEST_TEXT];

    ld_digest_format(&d, text);
    ld_buf_addf(out, " %s=%zu:%.16s", name, len, text + 7);
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Readers give xattrs in orders of their own. */
static void add_sorted(struct ld_buf *out, struct ld_buf *items, size_t n)
{
    char *list[LD_TAR_MAX_XATTRS] = {NULL};

    for (size_t i = 0; i < n; i++) {
        list[i] = ld_buf_take(&items[i]);
    }
    qsort(list, n, sizeof(list[0]), by_text);
    for (size_t i = 0; i < n; i++) {
        if (i == 0 || strcmp(list[i], list[i - 1]) != 0) /* libarchive may say it twice */
            ld_buf_adds(out, list[i]);
    }
    for (size_t i = 0; i < n; i++)
        free(list[i]);
}

struct facts {
    const char *name, *link;
    char type;
    unsigned mode;
    uint64_t uid, gid, size;
    int64_t sec;
    long nsec;
    unsigned major, minor;
};

static void describe(struct ld_buf *out, const struct facts *f)
{
    ld_buf_addf(out, "%c %s -> %s %o %" PRIu64 ":%" PRIu64 " %" PRIu64 " %" PRId64 ".%09ld %u,%u",
                f->type, f->name, f->link, f->mode, f->uid, f->gid, f->size, f->sec, f->nsec,
                f->major, f->minor);
}

static void add_content(struct ld_buf *out, struct ld_sha256 *hash)
{
    struct ld_digest d = ld_sha256_final(hash);
    char text[LD_DIGEST_TEXT];

    ld_digest_format(&d, text);
    ld_buf_addf(out, " %.24s\n", text + 7);
}

/* -- ours ----------------------------------------------------------------------------------------
 */

static void describe_ours(struct ld_buf *out, const struct ld_tar_entry *e)
{
    static const char types[] = "fhlcbpd";
    const struct facts facts = {e->name,       e->linkname, types[e->type], e->mode,
                                e->uid,        e->gid,      e->size,        e->mtime_sec,
                                e->mtime_nsec, e->devmajor, e->devminor};
    struct ld_buf xattrs[LD_TAR_MAX_XATTRS];

    describe(out, &facts);
    for (size_t i = 0; i < e->n_xattrs; i++) {
        xattrs[i] = LD_BUF_INIT(1000);
        describe_xattr(&xattrs[i], e->xattrs[i].name, e->xattrs[i].value, e->xattrs[i].len);
    }
    add_sorted(out, xattrs, e->n_xattrs);
}

/* All entries as lines; content by ld_tar_content_new. */
static int list_ours(struct ld_source *src, struct ld_buf *out, struct ld_err *err)
{
    auto_tar *tar = ld_tar_new(src, &no_limits, NULL);
    LD_AUTO(ld_sha256_free_p) struct ld_sha256 *hash = ld_sha256_new();
    autofree char *chunk = ld_alloc0(10000);
    struct ld_tar_entry e;
    int rc;

    *out = LD_BUF_INIT(64 << 20);
    while ((rc = ld_tar_next(tar, &e, err)) > 0) {
        auto_source *content = ld_tar_content_new(tar);
        uint64_t total = 0;
        ssize_t n;

        describe_ours(out, &e);
        while ((n = ld_source_read(content, chunk, 10000, err)) > 0) {
            ld_sha256_update(hash, chunk, (size_t)n);
            total += (uint64_t)n;
        }
        if (n < 0)
            return -1;
        cr_assert_eq(total, e.size, "%s", e.name);
        add_content(out, hash);
    }
    return rc;
}

/* -- libarchive's --------------------------------------------------------------------------------
 */

static char la_type(struct archive_entry *e)
{
    if (archive_entry_hardlink(e))
        return 'h';
    switch (archive_entry_filetype(e)) {
    case AE_IFREG:
        return 'f';
    case AE_IFLNK:
        return 'l';
    case AE_IFCHR:
        return 'c';
    case AE_IFBLK:
        return 'b';
    case AE_IFIFO:
        return 'p';
    case AE_IFDIR:
        return 'd';
    default:
        return '?';
    }
}

/* libarchive writes "-1.5" for -1.5 s, but reads it as -1 s and + 0.5 s. */
static void correct_time(struct facts *f)
{
    if (f->sec < 0 && f->nsec > 0) {
        f->sec -= 1;
        f->nsec = 1000000000 - f->nsec;
    }
}

static void describe_theirs(struct ld_buf *out, struct archive_entry *e)
{
    char type = la_type(e);
    const char *link = type == 'h'   ? archive_entry_hardlink(e)
                       : type == 'l' ? archive_entry_symlink(e)
                                     : "";
    bool is_device = type == 'c' || type == 'b';
    struct facts facts = {archive_entry_pathname(e),
                          link,
                          type,
                          archive_entry_perm(e),
                          (uint64_t)archive_entry_uid(e),
                          (uint64_t)archive_entry_gid(e),
                          type == 'f' ? (uint64_t)archive_entry_size(e) : 0,
                          archive_entry_mtime(e),
                          archive_entry_mtime_nsec(e),
                          is_device ? (unsigned)archive_entry_rdevmajor(e) : 0,
                          is_device ? (unsigned)archive_entry_rdevminor(e) : 0};
    struct ld_buf xattrs[LD_TAR_MAX_XATTRS];
    size_t n = (size_t)archive_entry_xattr_reset(e);

    correct_time(&facts);
    describe(out, &facts);
    for (size_t i = 0; i < n; i++) {
        const char *name;
        const void *value;
        size_t len;

        cr_assert_eq(archive_entry_xattr_next(e, &name, &value, &len), ARCHIVE_OK);
        xattrs[i] = LD_BUF_INIT(1000);
        describe_xattr(&xattrs[i], name, value, len);
    }
    add_sorted(out, xattrs, n);
}

static void hash_theirs(struct archive *a, struct ld_sha256 *hash, uint64_t size)
{
    autofree char *chunk = ld_alloc0(10000);
    ssize_t n;

    for (; (n = archive_read_data(a, chunk, 10000)) > 0; size -= (uint64_t)n)
        ld_sha256_update(hash, chunk, (size_t)n);
    memset(chunk, 0, 10000);
    for (; size > 0; size -= (uint64_t)n) { /* it leaves out a hole that is all of a file */
        n = size < 10000 ? (ssize_t)size : 10000;
        ld_sha256_update(hash, chunk, (size_t)n);
    }
}

static struct ld_buf list_theirs(const char *path)
{
    LD_AUTO(ld_sha256_free_p) struct ld_sha256 *hash = ld_sha256_new();
    struct archive *a = archive_read_new();
    struct ld_buf out = LD_BUF_INIT(64 << 20);
    struct archive_entry *e;

    cr_assert_eq(archive_read_support_format_tar(a), ARCHIVE_OK);
    cr_assert_eq(archive_read_open_filename(a, path, 10240), ARCHIVE_OK);
    while (archive_read_next_header(a, &e) == ARCHIVE_OK) {
        describe_theirs(&out, e);
        /* GNU's lists of names in directories are no content. */
        if (la_type(e) == 'f')
            hash_theirs(a, hash, (uint64_t)archive_entry_size(e));
        add_content(&out, hash);
    }
    (void)archive_read_free(a); /* only frees */
    return out;
}

static void assert_same_text(const char *path, const char *ours, const char *theirs)
{
    size_t line = 0;

    for (size_t i = 0; ours[i] || theirs[i]; i++) {
        if (ours[i] != theirs[i])
            cr_assert_fail("%s: ours\n%.400s\nlibarchive's\n%.400s", path, ours + line,
                           theirs + line);
        if (ours[i] == '\n')
            line = i + 1;
    }
}

static unsigned archives;

static void compare(const char *path, void *arg)
{
    autobuf struct ld_buf ours = {0}, slow = {0}, theirs = list_theirs(path);
    autoclose int fd = open(path, O_RDONLY | O_CLOEXEC);
    auto_source *file = ld_source_fd_new(fd, 0, LD_TO_END);
    auto_source *again = ld_source_fd_new(fd, 0, LD_TO_END);
    auto_source *drip = ld_test_drip_new(again, 1000, 1);
    struct ld_err err = LD_ERR_INIT;

    (void)arg;
    archives++;
    cr_assert_eq(list_ours(file, &ours, &err), 0, "%s: %s", path, err.message);
    cr_assert_gt(ours.len, 0);
    assert_same_text(path, ld_buf_str(&ours), ld_buf_str(&theirs));
    cr_assert_eq(list_ours(drip, &slow, &err), 0, "%s: %s", path, err.message);
    cr_assert_str_eq(ld_buf_str(&ours), ld_buf_str(&slow), "%s", path);
}

LD_TEST(tar, reads_what_gnu_tar_writes_as_libarchive_does)
{
    cr_assert(setlocale(LC_CTYPE, "C.UTF-8")); /* libarchive's names */
    ld_test_tar_tree();
    ld_test_tar_corpus(compare, NULL);
    cr_assert_geq(archives, 17);
}

LD_TEST(tar, reads_random_archives_as_libarchive_does)
{
    static const char *const formats[] = {"pax", "gnutar", "ustar", "v7tar"};
    uint64_t state = ld_test_seed();

    for (unsigned i = 0; i < 80; i++) {
        ld_test_tar_random("random.tar", formats[i % 4], 1 + i % 40, &state);
        compare("random.tar", NULL);
    }
}

/* -- archives by hand ----------------------------------------------------------------------------
 */

/* A header in the making: fields by name, then the checksum. */
struct header {
    uint8_t block[BLOCK];
};

static void put_text(uint8_t *at, size_t size, const char *text)
{
    memset(at, 0, size);
    memcpy(at, text, strnlen(text, size));
}

static struct header header(const char *name, char type, uint64_t size)
{
    struct header h = {{0}};
    char text[16];

    put_text(h.block, 100, name);
    memcpy(h.block + 100, "0000644\0000000000\0000000000", 24);
    (void)snprintf(text, sizeof(text), "%011" PRIo64, size & 077777777777);
    put_text(h.block + 124, 12, text);
    put_text(h.block + 136, 12, "00000000000");
    h.block[156] = (uint8_t)type;
    memcpy(h.block + 257, "ustar\00000", 8);
    return h;
}

static void fix_checksum(uint8_t *block)
{
    unsigned sum = 0;

    memset(block + 148, ' ', 8);
    for (int i = 0; i < BLOCK; i++)
        sum += block[i];
    (void)snprintf((char *)block + 148, 8, "%06o", sum);
}

static void add_header(struct ld_buf *out, struct header h)
{
    fix_checksum(h.block);
    ld_buf_add(out, h.block, BLOCK);
}

static void add_padded(struct ld_buf *out, const void *data, size_t len)
{
    static const char zeros[BLOCK];

    ld_buf_add(out, data, len);
    ld_buf_add(out, zeros, -len % BLOCK);
}

static void add_entry(struct ld_buf *out, const char *name, char type, const char *content)
{
    add_header(out, header(name, type, strlen(content)));
    add_padded(out, content, strlen(content));
}

/* "LEN key=value\n" with the right length; for values of text. */
static void add_record(struct ld_buf *out, const char *key, const char *value)
{
    size_t rest = strlen(key) + strlen(value) + 3;
    size_t total = rest + 1;

    while (total != rest + (size_t)snprintf(NULL, 0, "%zu", total))
        total++;
    ld_buf_addf(out, "%zu %s=%s\n", total, key, value);
}

/* A pax header with these records (pairs, NULL at the end). */
static void add_pax(struct ld_buf *out, char type, const char *const *records)
{
    autobuf struct ld_buf pax = LD_BUF_INIT(4 << 20);

    for (; *records; records += 2)
        add_record(&pax, records[0], records[1]);
    add_header(out, header("PaxHeader", type, pax.len));
    add_padded(out, pax.data, pax.len);
}

static void add_end(struct ld_buf *out)
{
    static const char zeros[2 * BLOCK];

    ld_buf_add(out, zeros, sizeof(zeros));
}

static int list(const struct ld_buf *archive, struct ld_buf *out, struct ld_err *err)
{
    auto_source *mem = ld_source_mem_new(archive->data, archive->len);

    return list_ours(mem, out, err);
}

#define PAX(...) ((const char *const[]){__VA_ARGS__, NULL})

static struct ld_buf new_archive(void)
{
    return LD_BUF_INIT(64 << 20);
}

static void assert_refused(const struct ld_buf *archive, const char *reason)
{
    struct ld_err err = LD_ERR_INIT;
    autobuf struct ld_buf out = {0};

    ld_test_fails(list(archive, &out, &err), &err, LD_E_BAD_CONTENT);
    cr_assert(strstr(err.message, reason), "'%s' should say '%s'", err.message, reason);
    cr_assert(strstr(err.message, "entry "), "'%s' should name the entry", err.message);
}

static void assert_lists(const struct ld_buf *archive, const char *start)
{
    struct ld_err err = LD_ERR_INIT;
    autobuf struct ld_buf out = {0};

    ld_test_ok(list(archive, &out, &err), &err);
    cr_assert_eq(strncmp(ld_buf_str(&out), start, strlen(start)), 0, "got\n%s\nwant\n%s",
                 ld_buf_str(&out), start);
}

/* A file 'f' with one field of its header replaced. */
static void refuse_field(size_t at, const char *bytes, size_t len, char type, const char *reason)
{
    autobuf struct ld_buf archive = new_archive();
    struct header h = header("f", type, 0);

    memcpy(h.block + at, bytes, len);
    add_header(&archive, h);
    add_end(&archive);
    assert_refused(&archive, reason);
}

LD_TEST(tar, refuses_header_fields_that_are_no_numbers)
{
    refuse_field(100, "0x00644", 7, '0', "mode is not a number");
    refuse_field(108, "-000001", 7, '0', "owner is not a number");
    refuse_field(116, "99", 2, '0', "group is not a number");
    refuse_field(124, "1 1", 3, '0', "size is not a number");
    refuse_field(124, "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", 12, '0', "negative");
    refuse_field(124, "\x80\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", 12, '0', "not a number");
    refuse_field(124, "\x80\0\0\0\x80\0\0\0\0\0\0\0", 12, '0', "not a number");
    refuse_field(136, "12:00", 5, '0', "time is not a number");
    refuse_field(108, "\x80\0\0\0\xff\xff\xff\xff", 8, '0', "owner 4294967295 is out of range");
    refuse_field(116, "\x80\0\0\1\0\0\0\0", 8, '0', "group 4294967296 is out of range");
    refuse_field(329, "zzzzzzz", 7, '3', "device number is not a number");
    refuse_field(0, "\0", 1, '0', "has no name");
    refuse_field(0, "f", 1, 'M', "another volume");
    refuse_field(0, "f", 1, 'Q', "type 0x51 is not known");
    refuse_field(0, "f", 1, '2', "link to nothing");
    refuse_field(0, "f", 1, '1', "link to nothing");
}

LD_TEST(tar, refuses_broken_structure)
{
    autobuf struct ld_buf garbage = new_archive(), lone = new_archive(), cut = new_archive(),
                          orphan = new_archive(), many = new_archive();

    for (int i = 0; i < 200; i++)
        ld_buf_adds(&garbage, "this is not tar ");
    assert_refused(&garbage, "not a tar header");

    add_entry(&lone, "a", '0', "x");
    ld_buf_add(&lone, (char[BLOCK]){0}, BLOCK);
    add_entry(&lone, "b", '0', "x");
    assert_refused(&lone, "single zero block");

    add_entry(&cut, "name-of-it", '0', "content of more than nothing");
    cut.len = BLOCK + 10;
    assert_refused(&cut, "'name-of-it': the archive is truncated");
    cut.len = 300;
    assert_refused(&cut, "truncated");

    add_pax(&orphan, 'x', PAX("path", "p"));
    add_end(&orphan);
    assert_refused(&orphan, "ends after an extended header");

    for (int i = 0; i < 100; i++)
        add_pax(&many, 'x', PAX("path", "p"));
    assert_refused(&many, "too many extended headers");
}

LD_TEST(tar, ends_where_the_peers_reader_ends)
{
    autobuf struct ld_buf archive = new_archive(), empty = new_archive();
    static const char want[] = "f a ->  644 0:0 3 ";

    assert_lists(&empty, "");
    add_entry(&archive, "a", '0', "abc");
    assert_lists(&archive, want); /* no zero blocks */
    archive.len -= 100;
    assert_lists(&archive, want); /* not even all of the padding */
    archive.len += 100;
    ld_buf_add(&archive, (char[BLOCK]){0}, BLOCK);
    assert_lists(&archive, want); /* one zero block */
    ld_buf_add(&archive, (char[BLOCK]){0}, BLOCK);
    ld_buf_adds(&archive, "anything may follow");
    assert_lists(&archive, want);
}

LD_TEST(tar, refuses_bad_extended_headers)
{
    static const struct {
        const char *data, *reason;
    } bad[] = {
        {"path=x\n", "malformed"},
        {"99 path=x\n", "malformed"},
        {"5 path=x\n", "malformed"},
        {"0 path=x\n", "malformed"},
        {"-9 path=x\n", "malformed"},
        {"10 path=xy", "malformed"},
        {"9 pathx.\n", "malformed"},
        {"5 =x\n", "malformed"},
        {"11111111111111111111 path=x\n", "malformed"},
        {"12 size=-12\n", "bad value for 'size'"},
        {"28 size=9223372036854775808\n", "bad value for 'size'"},
        {"12 mtime=1e\n", "bad value for 'mtime'"},
        {"13 mtime=.5.\n", "bad value for 'mtime'"},
        {"15 mtime=--1.5\n", "bad value for 'mtime'"},
        {"18 uid=4294967295\n", "owner 4294967295 is out of range"},
        {"18 SCHILY.xattr.=\n", "xattr whose name is empty"},
        {"22 GNU.sparse.major=2\n", "sparse format is not known"},
        {"25 GNU.sparse.offset=100\n", "malformed"},
        {"25 GNU.sparse.numbytes=1\n", "bad value"},
        {"20 GNU.sparse.map=1\n", "map of holes is malformed"},
    };

    for (size_t i = 0; i < LD_ARRAY_LEN(bad); i++) {
        autobuf struct ld_buf archive = new_archive();

        add_entry(&archive, "PaxHeader", 'x', bad[i].data);
        add_entry(&archive, "f", '0', "");
        add_end(&archive);
        assert_refused(&archive, bad[i].reason);
    }
}

LD_TEST(tar, refuses_what_is_over_a_limit)
{
    autobuf struct ld_buf value = LD_BUF_INIT(4 << 20);
    static const struct {
        const char *key;
        size_t len;
        const char *reason;
    } bad[] = {
        {"path", 4097, "name is larger than 4096"},
        {"linkpath", 4096, "target is larger than 4095"},
        {"SCHILY.xattr.user.x", 65537, "xattr 'user.x' is larger"},
        {"comment", 2 << 20, "extended header is larger"},
    };

    for (size_t i = 0; i < LD_ARRAY_LEN(bad); i++) {
        autobuf struct ld_buf archive = new_archive();

        ld_buf_clear(&value);
        for (size_t n = 0; n < bad[i].len; n++)
            ld_buf_addc(&value, 'v');
        add_pax(&archive, 'x', PAX(bad[i].key, ld_buf_str(&value)));
        add_entry(&archive, "f", i == 1 ? '2' : '0', "");
        assert_refused(&archive, bad[i].reason);
    }
}

LD_TEST(tar, refuses_too_many_xattrs_also_of_one_name)
{
    for (int kind = 0; kind < 2; kind++) {
        autobuf struct ld_buf archive = new_archive(), pax = LD_BUF_INIT(1 << 20);

        for (int i = 0; i < 1000; i++) {
            char key[40];

            (void)snprintf(key, sizeof(key), "SCHILY.xattr.user.%d", kind ? i : 0);
            add_record(&pax, key, "v");
        }
        add_header(&archive, header("PaxHeader", 'x', pax.len));
        add_padded(&archive, pax.data, pax.len);
        add_entry(&archive, "f", '0', "");
        assert_refused(&archive, "more than 256 xattrs");
    }
}

LD_TEST(tar, refuses_too_many_entries_and_too_large_files)
{
    static const struct {
        struct ld_tar_limits limits;
        const char *details;
    } tries[] = {
        {{.max_entries = 2}, "{\"limit\":\"layer_entries\",\"value\":2}"},
        {{.max_file_size = 3}, "{\"limit\":\"layer_bytes\",\"value\":3}"},
    };
    autobuf struct ld_buf archive = new_archive();

    add_entry(&archive, "a", '0', "1");
    add_entry(&archive, "b", '0', "333");
    add_entry(&archive, "c", '0', "4444");
    for (size_t i = 0; i < LD_ARRAY_LEN(tries); i++) {
        auto_source *mem = ld_source_mem_new(archive.data, archive.len);
        auto_tar *tar = ld_tar_new(mem, &tries[i].limits, NULL);
        struct ld_err err = LD_ERR_INIT;
        struct ld_tar_entry e;

        cr_assert_eq(ld_tar_next(tar, &e, &err), 1);
        cr_assert_eq(ld_tar_next(tar, &e, &err), 1);
        ld_test_fails(ld_tar_next(tar, &e, &err), &err, LD_E_BAD_CONTENT);
        cr_assert_str_eq(err.details, tries[i].details);
    }
}

static void refuse_map(const char *map, const char *real_size, const char *content)
{
    autobuf struct ld_buf archive = new_archive();

    add_pax(
        &archive, 'x',
        PAX("GNU.sparse.major", "1", "GNU.sparse.minor", "0", "GNU.sparse.realsize", real_size));
    add_header(&archive, header("f", '0', BLOCK + strlen(content)));
    add_padded(&archive, map, strlen(map));
    add_padded(&archive, content, strlen(content));
    add_end(&archive);
    assert_refused(&archive, "map of holes");
}

LD_TEST(tar, refuses_sparse_maps_that_lie)
{
    refuse_map("1\n0\n4\n", "4", "123");       /* more than there is */
    refuse_map("1\n0\n2\n", "4", "123");       /* less */
    refuse_map("1\n2\n3\n", "4", "123");       /* past the end */
    refuse_map("2\n5\n1\n0\n2\n", "9", "123"); /* out of order */
    refuse_map("2\n0\n2\n1\n1\n", "9", "123"); /* overlapping */
    refuse_map("1\n9223372036854775807\n3\n", "9", "123");
    refuse_map("1\n18446744073709551615\n3\n", "9", "123");
    refuse_map("1\n-1\n3\n", "9", "123");
    refuse_map("x", "9", "123");
    refuse_map("\n", "9", "123");
    refuse_map("99999999\n", "9", "123");
    refuse_map("000000000000000000000000000\n", "9", "123");
}

LD_TEST(tar, reads_odd_but_honest_headers)
{
    autobuf struct ld_buf archive = new_archive();
    struct header h = header("old/", '\0', 0), prefixed = header("name", '0', 0), sized;

    memset(h.block + 257, 0, 8);
    add_header(&archive, h); /* v7: a directory by its '/' */

    put_text(prefixed.block + 345, 155, "prefix/of");
    add_header(&archive, prefixed);
    memcpy(prefixed.block + 257, "ustar  ", 8);
    add_header(&archive, prefixed); /* Go's old mistake */

    sized = header("dir", '5', 1000);
    add_header(&archive, sized); /* the size of a directory means nothing */
    add_entry(&archive, "DUMP", 'D', "Yname");
    add_pax(&archive, 'x',
            PAX("mtime", "-1.5", "path", "gr\xc3\xbc\xc3\x9f", "uid", "", "size", "2"));
    add_header(&archive, header("f", '0', 999));
    add_padded(&archive, "xy", 2);
    add_end(&archive);
    assert_lists(&archive,
                 "d old/ ->  644 0:0 0 0.000000000 0,0 e3b0c44298fc1c149afbf4c8\n"
                 "f prefix/of/name ->  644 0:0 0 0.000000000 0,0 e3b0c44298fc1c149afbf4c8\n"
                 "f prefix/of/name ->  644 0:0 0 0.000000000 0,0 e3b0c44298fc1c149afbf4c8\n"
                 "d dir ->  644 0:0 0 0.000000000 0,0 e3b0c44298fc1c149afbf4c8\n"
                 "d DUMP ->  644 0:0 0 0.000000000 0,0 e3b0c44298fc1c149afbf4c8\n"
                 "f gr\xc3\xbc\xc3\x9f ->  644 0:0 2 -2.500000000 0,0 ");
}

LD_TEST(tar, accepts_sums_of_signed_bytes)
{
    autobuf struct ld_buf archive = new_archive();
    struct header h = header("\xff\xfe", '0', 0);
    int sum = 0;

    memset(h.block + 148, ' ', 8);
    for (int i = 0; i < BLOCK; i++)
        sum += (int8_t)h.block[i];
    (void)snprintf((char *)h.block + 148, 8, "%06o", (unsigned)sum);
    ld_buf_add(&archive, h.block, BLOCK);
    assert_lists(&archive, "f \xff\xfe ->");
}

LD_TEST(tar, applies_global_headers_below_local_ones)
{
    autobuf struct ld_buf archive = new_archive(), bad = new_archive();

    add_pax(&archive, 'g', PAX("uid", "7", "mtime", "5", "SCHILY.xattr.user.g", "v"));
    add_entry(&archive, "a", '0', "");
    add_pax(&archive, 'x', PAX("uid", "8", "mtime", ""));
    add_entry(&archive, "b", '0', "");
    add_pax(&archive, 'g', PAX("uid", "9"));
    add_entry(&archive, "c", '0', "");
    assert_lists(
        &archive,
        "f a ->  644 7:0 0 5.000000000 0,0 user.g=1:4c94485e0c21ae6c e3b0c44298fc1c149afbf4c8\n"
        "f b ->  644 8:0 0 0.000000000 0,0 user.g=1:4c94485e0c21ae6c e3b0c44298fc1c149afbf4c8\n"
        "f c ->  644 9:0 0 5.000000000 0,0 user.g=1:4c94485e0c21ae6c e3b0c44298fc1c149afbf4c8\n");

    /* Comments weigh nothing, however many there are; what means something is bounded. */
    archive.len = 0;
    for (int i = 0; i < 1000; i++) {
        add_pax(&archive, 'g', PAX("comment", "0123456789012345678901234567890123456789"));
        add_entry(&archive, "a", '0', "");
    }
    assert_lists(&archive, "f a ->");
    for (int i = 0; i < 2000; i++) {
        add_pax(&archive, 'g', PAX("uid", "1234567"));
        add_entry(&archive, "a", '0', "");
    }
    assert_refused(&archive, "global header is larger");

    add_pax(&bad, 'g', PAX("path", "all"));
    add_entry(&bad, "a", '0', "");
    assert_refused(&bad, "global header");
}

LD_TEST(tar, ignores_acls_and_libarchives_xattrs_and_keeps_empty_ones)
{
    autobuf struct ld_buf archive = new_archive();

    add_pax(&archive, 'x',
            PAX("LIBARCHIVE.xattr.user.l", "dmFsdWU", "SCHILY.acl.access", "user::rwx",
                "SCHILY.xattr.user.e", "", "SCHILY.xattr.user.t", "1", "SCHILY.xattr.user.t", "v"));
    add_entry(&archive, "a", '0', "");
    assert_lists(&archive, "f a ->  644 0:0 0 0.000000000 0,0 user.e=0:e3b0c44298fc1c14 "
                           "user.t=1:4c94485e0c21ae6c ");
}

/* -- the tee
 * --------------------------------------------------------------------------------------- */

/* Puts the stream together again from what it is told: payload bytes are those given last. */
struct witness {
    struct ld_buf stream;
    uint64_t pending; /* payload told and not yet added */
};

static int witness_literal(void *arg, const void *data, size_t len, struct ld_err *err)
{
    (void)err;
    ld_buf_add(&((struct witness *)arg)->stream, data, len);
    return 0;
}

static int witness_payload(void *arg, uint64_t offset, uint64_t len, struct ld_err *err)
{
    (void)err;
    (void)offset;
    ((struct witness *)arg)->pending += len;
    return 0;
}

/* Reads an archive, taking only some of the payload; what the tee is told must be all of the
 * archive, also up to the point of an error. */
static int read_with_witness(const struct ld_buf *archive, uint64_t *state, struct ld_err *err)
{
    struct witness w = {.stream = LD_BUF_INIT(64 << 20)};
    const struct ld_tar_tee tee = {witness_literal, witness_payload, &w};
    auto_source *mem = ld_source_mem_new(archive->data, archive->len);
    auto_source *drip = ld_test_drip_new(mem, 1 + ld_test_below(state, 20000), *state);
    auto_tar *tar = ld_tar_new(drip, &(struct ld_tar_limits){.max_file_size = 1 << 30}, &tee);
    struct ld_tar_entry e;
    struct ld_tar_piece piece;
    int rc;

    while ((rc = ld_tar_next(tar, &e, err)) > 0) {
        uint64_t end = 0;

        cr_assert_eq(ld_tar_payload_offset(tar), w.stream.len);
        while (ld_test_below(state, 4) && (rc = ld_tar_data(tar, &piece, err)) > 0) {
            cr_assert_eq(w.pending, piece.len);
            cr_assert(piece.offset >= end && piece.len > 0);
            end = piece.offset + piece.len;
            cr_assert_leq(end, e.size);
            ld_buf_add(&w.stream, piece.data, piece.len);
            w.pending = 0;
        }
        if (rc < 0)
            break;
    }
    cr_assert(rc < 0 || w.stream.len == archive->len);
    cr_assert_leq(w.stream.len, archive->len);
    cr_assert(w.stream.len == 0 || memcmp(w.stream.data, archive->data, w.stream.len) == 0);
    ld_buf_done(&w.stream);
    return rc;
}

static void witness_archive(const char *path, void *arg)
{
    autobuf struct ld_buf archive = ld_test_file(path);
    struct ld_err err = LD_ERR_INIT;

    ld_test_ok(read_with_witness(&archive, arg, &err), &err);
}

LD_TEST(tar, tells_the_tee_every_byte_once)
{
    uint64_t state = ld_test_seed();

    ld_test_tar_tree();
    ld_test_tar_corpus(witness_archive, &state);
}

/* -- mutations
 * ------------------------------------------------------------------------------------- */

static void mutate(struct ld_buf *archive, uint64_t *state)
{
    size_t blocks = archive->len / BLOCK;

    for (uint64_t n = 1 + ld_test_below(state, 4); n > 0 && blocks; n--) {
        uint8_t *block = (uint8_t *)archive->data + ld_test_below(state, blocks) * BLOCK;
        static const uint8_t bytes[] = {0,   ' ',  '0',  '7', '9', '\n',
                                        '=', 0x80, 0xff, 'x', 'S', 'L'};
        bool is_header = memcmp(block + 257, "ustar", 5) == 0;

        block[ld_test_below(state, BLOCK)] = ld_test_below(state, 3)
                                                 ? bytes[ld_test_below(state, sizeof(bytes))]
                                                 : (uint8_t)ld_test_random(state);
        if (is_header && ld_test_below(state, 2))
            block[124 + ld_test_below(state, 33)] = bytes[ld_test_below(state, sizeof(bytes))];
        if (is_header)
            fix_checksum(block);
    }
    if (ld_test_below(state, 8) == 0)
        archive->len = ld_test_below(state, archive->len + 1);
}

/* Many short archives rather than few long ones: the first error ends a reading. */
LD_TEST(tar, survives_mutations)
{
    static const char *const formats[] = {"pax", "gnutar", "ustar", "pax"};
    uint64_t state = ld_test_seed();
    unsigned refused = 0, rounds = 0;

    for (unsigned i = 0; i < 40; i++) {
        autobuf struct ld_buf archive = {0};

        ld_test_tar_random("random.tar", formats[i % 4], 1 + i % 8, &state);
        archive = ld_test_file("random.tar");
        for (unsigned n = 0; n < 250; n++, rounds++) {
            autobuf struct ld_buf copy = LD_BUF_INIT(64 << 20);
            struct ld_err err = LD_ERR_INIT;

            ld_buf_add(&copy, archive.data, archive.len);
            mutate(&copy, &state);
            if (read_with_witness(&copy, &state, &err) < 0) {
                cr_assert_eq(err.code, LD_E_BAD_CONTENT, "%s", err.message);
                refused++;
            }
        }
    }
    cr_assert(refused > rounds / 10 && refused < rounds, "%u of %u refused", refused, rounds);
}
