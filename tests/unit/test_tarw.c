/* image/tarw.h: what is written is read back the same, by us, by libarchive and by GNU tar. */
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include <archive.h>
#include <archive_entry.h>

#include "daemon/base/mem.h"
#include "daemon/image/tarw.h"
#include "tests/lib/env.h"
#include "tests/lib/tarlib.h"

enum { NAME_MAX_LEN = 600 };

/* An entry that owns its strings. */
struct made {
    struct ld_tar_entry entry;
    char name[NAME_MAX_LEN + 2], link[NAME_MAX_LEN + 2]; /* a directory's "/" at the end */
    struct ld_tar_xattr xattrs[4];
    char xattr_names[4][32];
    char values[4][300];
};

static void make_path(uint64_t *state, char *out, size_t max)
{
    size_t len = 1 + ld_test_below(state, max);

    for (size_t i = 0; i < len; i++) {
        out[i] = (char)('a' + ld_test_below(state, 26));
        if (i && out[i - 1] != '/' && ld_test_below(state, 20) == 0)
            out[i] = '/';
        if (ld_test_below(state, 400) == 0)
            out[i] = (char)0xe9; /* not UTF-8 */
    }
    if (out[len - 1] == '/')
        out[len - 1] = 'z';
    out[len] = '\0';
}

static void make_entry(uint64_t *state, struct made *m)
{
    static const uint64_t limits[] = {8, 1 << 21, UINT32_MAX};
    struct ld_tar_entry *e = &m->entry;

    *e = (struct ld_tar_entry){.name = m->name, .linkname = "", .xattrs = m->xattrs};
    make_path(state, m->name, ld_test_below(state, 2) ? 110 : NAME_MAX_LEN);
    e->type = (enum ld_tar_type)ld_test_below(state, LD_TAR_DIR + 1);
    if (e->type == LD_TAR_HARDLINK || e->type == LD_TAR_SYMLINK) {
        make_path(state, m->link, ld_test_below(state, 2) ? 102 : NAME_MAX_LEN);
        e->linkname = m->link;
    }
    if (e->type == LD_TAR_DIR)
        (void)strcat(m->name, "/");
    e->mode = (uint32_t)ld_test_below(state, 010000);
    e->uid = (uint32_t)ld_test_below(state, limits[ld_test_below(state, 3)]);
    e->gid = (uint32_t)ld_test_below(state, limits[ld_test_below(state, 3)]);
    e->size = e->type == LD_TAR_FILE ? ld_test_below(state, 2000) : 0;
    e->mtime_sec = (int64_t)ld_test_below(state, UINT64_C(1) << ld_test_below(state, 40)) -
                   (int64_t)ld_test_below(state, 1000);
    e->mtime_nsec = ld_test_below(state, 2) ? (uint32_t)ld_test_below(state, 1000000000) : 0;
    if (e->type == LD_TAR_CHAR || e->type == LD_TAR_BLOCK) {
        e->devmajor = (uint32_t)ld_test_below(state, 4096);
        e->devminor = (uint32_t)ld_test_below(state, 1 << 20);
    }
    e->n_xattrs = ld_test_below(state, 5);
    for (size_t i = 0; i < e->n_xattrs; i++) {
        (void)snprintf(m->xattr_names[i], 32, "user.%zu", 9 - i);
        ld_test_fill(state, m->values[i], sizeof(m->values[i]));
        m->xattrs[i] = (struct ld_tar_xattr){m->xattr_names[i], m->values[i],
                                             ld_test_below(state, sizeof(m->values[i]))};
    }
}

static const struct ld_tar_xattr *find_xattr(const struct ld_tar_entry *e, const char *name)
{
    for (size_t i = 0; i < e->n_xattrs; i++) {
        if (strcmp(e->xattrs[i].name, name) == 0)
            return &e->xattrs[i];
    }
    return NULL;
}

static void assert_same(const struct ld_tar_entry *a, const struct ld_tar_entry *b)
{
    cr_assert_str_eq(a->name, b->name);
    cr_assert_str_eq(a->linkname, b->linkname);
    cr_assert_eq(a->type, b->type);
    cr_assert_eq(a->mode, b->mode);
    cr_assert_eq(a->uid, b->uid);
    cr_assert_eq(a->gid, b->gid);
    cr_assert_eq(a->size, b->size);
    cr_assert_eq(a->mtime_sec, b->mtime_sec);
    cr_assert_eq(a->mtime_nsec, b->mtime_nsec);
    cr_assert_eq(a->devmajor, b->devmajor);
    cr_assert_eq(a->devminor, b->devminor);
    cr_assert_eq(a->n_xattrs, b->n_xattrs);
    for (size_t i = 0; i < a->n_xattrs; i++) {
        const struct ld_tar_xattr *x = find_xattr(b, a->xattrs[i].name);

        cr_assert(x && x->len == a->xattrs[i].len);
        cr_assert(x->len == 0 || memcmp(x->value, a->xattrs[i].value, x->len) == 0);
    }
}

static void write_made(struct ld_tarw *w, const struct ld_tar_entry *e, const char *content)
{
    struct ld_err err = LD_ERR_INIT;

    ld_test_ok(ld_tarw_entry(w, e, &err), &err);
    if (e->size > 0) {
        ld_test_ok(ld_tarw_data(w, content, e->size / 3, &err), &err);
        ld_test_ok(ld_tarw_data(w, content + e->size / 3, e->size - e->size / 3, &err), &err);
    }
}

LD_TEST(tarw, is_read_back_the_same)
{
    enum { ENTRIES = 400 };
    uint64_t state = ld_test_seed();
    autofree struct made *made = ld_alloc0(ENTRIES * sizeof(*made));
    autobuf struct ld_buf out = LD_BUF_INIT(64 << 20);
    auto_sink *sink = ld_sink_buf_new(&out);
    auto_tarw *w = ld_tarw_new(sink, NULL);
    auto_source *mem = NULL;
    auto_tar *tar = NULL;
    struct ld_err err = LD_ERR_INIT;
    struct ld_tar_entry e;
    char content[2000];

    ld_test_fill(&state, content, sizeof(content));
    for (size_t i = 0; i < ENTRIES; i++) {
        make_entry(&state, &made[i]);
        write_made(w, &made[i].entry, content);
    }
    ld_test_ok(ld_tarw_finish(w, &err), &err);

    mem = ld_source_mem_new(out.data, out.len);
    tar = ld_tar_new(mem, &(struct ld_tar_limits){0}, NULL);
    for (size_t i = 0; i < ENTRIES; i++) {
        auto_source *src = NULL;
        autobuf struct ld_buf got = {0};

        cr_assert_eq(ld_tar_next(tar, &e, &err), 1, "%s", err.message);
        assert_same(&made[i].entry, &e);
        src = ld_tar_content_new(tar);
        ld_test_ok(ld_test_slurp(src, &got, &err), &err);
        cr_assert(got.len == e.size && (!got.len || memcmp(got.data, content, got.len) == 0));
    }
    cr_assert_eq(ld_tar_next(tar, &e, &err), 0);
    ld_test_put_file("out.tar", out.data, out.len);
    ld_test_sh("tar -tvf out.tar > list && test $(tar -tf out.tar | wc -l) = %d", ENTRIES);
}

static void assert_libarchive_reads(const char *path, const struct made *made, size_t n)
{
    struct archive *a = archive_read_new();
    struct archive_entry *e;

    cr_assert_eq(archive_read_support_format_tar(a), ARCHIVE_OK);
    cr_assert_eq(archive_read_open_filename(a, path, 10240), ARCHIVE_OK);
    for (size_t i = 0; i < n; i++) {
        const struct ld_tar_entry *want = &made[i].entry;

        cr_assert_geq(archive_read_next_header(a, &e), ARCHIVE_WARN, "%s", archive_error_string(a));
        cr_assert_eq((uint64_t)archive_entry_uid(e), want->uid);
        cr_assert_eq((uint64_t)archive_entry_gid(e), want->gid);
        cr_assert_eq((unsigned)archive_entry_perm(e), want->mode);
        if (want->mtime_sec >= 0) { /* it misreads fractions before 1970 */
            cr_assert_eq(archive_entry_mtime(e), want->mtime_sec);
            cr_assert_eq(archive_entry_mtime_nsec(e), want->mtime_nsec);
        }
        if (want->type == LD_TAR_FILE)
            cr_assert_eq((uint64_t)archive_entry_size(e), want->size);
        cr_assert_eq((size_t)archive_entry_xattr_count(e), want->n_xattrs);
    }
    cr_assert_eq(archive_read_next_header(a, &e), ARCHIVE_EOF);
    (void)archive_read_free(a); /* only frees */
}

LD_TEST(tarw, is_read_by_libarchive)
{
    enum { ENTRIES = 200 };
    uint64_t state = ld_test_seed();
    autofree struct made *made = ld_alloc0(ENTRIES * sizeof(*made));
    autoclose int fd = open("out.tar", O_CREAT | O_RDWR | O_CLOEXEC, 0600);
    auto_sink *sink = ld_sink_fd_new(fd);
    auto_tarw *w = ld_tarw_new(sink, NULL);
    struct ld_err err = LD_ERR_INIT;
    static const char content[2000];

    for (size_t i = 0; i < ENTRIES; i++) {
        make_entry(&state, &made[i]);
        write_made(w, &made[i].entry, content);
    }
    ld_test_ok(ld_tarw_finish(w, &err), &err);
    assert_libarchive_reads("out.tar", made, ENTRIES);
}

LD_TEST(tarw, says_what_does_not_fit_in_sorted_records)
{
    static const struct ld_tar_xattr xattrs[] = {{"user.b", "2", 1}, {"security.a", "1", 1}};
    const struct ld_tar_entry e = {.name = "f",
                                   .linkname = "",
                                   .type = LD_TAR_DIR,
                                   .uid = 4000000,
                                   .gid = 5000000,
                                   .mtime_sec = -2,
                                   .mtime_nsec = 500000000,
                                   .xattrs = xattrs,
                                   .n_xattrs = 2};
    autobuf struct ld_buf out = LD_BUF_INIT(10000);
    auto_sink *sink = ld_sink_buf_new(&out);
    auto_tarw *w = ld_tarw_new(sink, NULL);
    struct ld_err err = LD_ERR_INIT;

    ld_test_ok(ld_tarw_entry(w, &e, &err), &err);
    ld_test_ok(ld_tarw_finish(w, &err), &err);
    cr_assert_eq(out.len, 5 * 512);
    cr_assert_str_eq(out.data + 512, "29 SCHILY.xattr.security.a=1\n"
                                     "25 SCHILY.xattr.user.b=2\n"
                                     "15 gid=5000000\n"
                                     "14 mtime=-1.5\n"
                                     "15 uid=4000000\n");
    cr_assert_str_eq(out.data + 1024, "f/");
}

LD_TEST(tarw, refuses_what_tar_cannot_say)
{
    static char long_name[5000];
    const struct ld_tar_xattr equals = {"user.a=b", "1", 1};
    const struct ld_tar_entry bad[] = {
        {.name = "", .linkname = ""},
        {.name = long_name, .linkname = ""},
        {.name = "x", .linkname = "", .xattrs = &equals, .n_xattrs = 1},
        {.name = "x", .linkname = "", .type = LD_TAR_CHAR, .devminor = 1 << 24},
    };
    autobuf struct ld_buf out = LD_BUF_INIT(10000);
    auto_sink *sink = ld_sink_buf_new(&out);
    auto_tarw *w = ld_tarw_new(sink, NULL);

    memset(long_name, 'x', sizeof(long_name) - 1);
    for (size_t i = 0; i < LD_ARRAY_LEN(bad); i++) {
        struct ld_err err = LD_ERR_INIT;

        ld_test_fails(ld_tarw_entry(w, &bad[i], &err), &err, LD_E_INVALID);
        cr_assert_eq(out.len, 0, "nothing is written");
    }
}

LD_TEST(tarw, fills_up_a_file_that_became_shorter)
{
    const struct ld_tar_entry e = {.name = "f", .linkname = "", .size = 1000000};
    autobuf struct ld_buf out = LD_BUF_INIT(2000000);
    auto_sink *sink = ld_sink_buf_new(&out);
    auto_tarw *w = ld_tarw_new(sink, NULL);
    autoclose int fd = -EBADF;
    struct ld_err err = LD_ERR_INIT;
    bool is_short = false;

    ld_test_put_file("f", "content", 7);
    fd = open("f", O_RDONLY | O_CLOEXEC);
    ld_test_ok(ld_tarw_entry(w, &e, &err), &err);
    ld_test_ok(ld_tarw_file(w, fd, NULL, &is_short, &err), &err);
    cr_assert(is_short);
    ld_test_ok(ld_tarw_entry(w, &e, &err), &err);
    cr_assert_eq(out.len, 512 + 1000448 + 512);
    ld_test_fails(ld_tarw_file(w, fd, NULL, NULL, &err), &err, LD_E_CONFLICT);
}

LD_TEST(tarw, stops_when_cancelled_and_when_the_sink_is_full)
{
    const struct ld_tar_entry e = {.name = "f", .linkname = "", .size = 7};
    autobuf struct ld_buf out = LD_BUF_INIT(600);
    auto_sink *sink = ld_sink_buf_new(&out);
    auto_tarw *w = ld_tarw_new(sink, NULL);
    autoclose int fd = -EBADF;
    struct ld_err err = LD_ERR_INIT;
    bool cancel = true;

    ld_test_put_file("f", "content", 7);
    fd = open("f", O_RDONLY | O_CLOEXEC);
    ld_test_ok(ld_tarw_entry(w, &e, &err), &err);
    ld_test_fails(ld_tarw_file(w, fd, &cancel, NULL, &err), &err, LD_E_CANCELED);
    ld_test_fails(ld_tarw_file(w, fd, NULL, NULL, &err), &err, LD_E_TOO_LARGE);
}
