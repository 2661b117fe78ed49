/* image/codec.h: what the tools write is read, what is damaged or too large is refused. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "daemon/base/mem.h"
#include "daemon/image/codec.h"
#include "tests/lib/env.h"
#include "tests/lib/tarlib.h"

/* Decodes memory, in pieces of up to `drip` bytes (0: as they come). */
static int decode(const void *data, size_t len, size_t drip, const struct ld_codec_limits *limits,
                  struct ld_buf *ret, struct ld_err *err)
{
    auto_source *mem = ld_source_mem_new(data, len);
    auto_source *slow = ld_test_drip_new(mem, drip ? drip : SIZE_MAX >> 1, 1);
    auto_source *plain = NULL;

    *ret = LD_BUF_INIT(64 << 20);
    if (ld_decoder_new(slow, limits, &plain, err) < 0)
        return -1;
    return ld_test_slurp(plain, ret, err);
}

static void assert_decodes(const struct ld_buf *packed, size_t drip, const struct ld_buf *want,
                           const char *what)
{
    const struct ld_codec_limits limits = {.max_window = UINT64_C(128) << 20};
    struct ld_err err = LD_ERR_INIT;
    autobuf struct ld_buf got;

    ld_test_ok(decode(packed->data, packed->len, drip, &limits, &got, &err), &err);
    cr_assert_eq(got.len, want->len, "%s, drip %zu: %zu bytes, want %zu", what, drip, got.len,
                 want->len);
    cr_assert(got.len == 0 || memcmp(got.data, want->data, got.len) == 0, "%s", what);
}

/* Large enough for many buffers and blocks; small enough to be fed byte by byte. */
enum { LARGE = 1 << 20, SMALL = 100000 };

/* Packed forms of the file "data". */
static const char *const commands[] = {
    "gzip -c data",
    "gzip -1c data",
    "igzip -c data",
    "zstd -qc data",
    "zstd -q19c data",
    "zstd -q --no-check -c < data",
    "zstd -q --long=27 -c < data",
    "xz -2c data",
    "xz -0 -C sha256 -c data",
    "xz --x86 --lzma2=preset=1 -c data",
    "bzip2 -c data",
    "bzip2 -1c data",
    "cat data",
};

static void make_files(size_t size)
{
    autofree char *data = ld_alloc0(size);
    uint64_t state = 3;

    ld_test_fill(&state, data, size);
    memset(data + size / 3, 0, size / 6);
    ld_test_put_file("data", data, size);
    ld_test_put_file("small", data, 300);
    ld_test_put_file("empty", data, 0);
}

static struct ld_buf make_data(size_t size)
{
    make_files(size);
    return ld_test_file("data");
}

static void assert_commands_decode(size_t size, size_t drip, size_t drip2)
{
    autobuf struct ld_buf want = make_data(size);

    for (size_t i = 0; i < LD_ARRAY_LEN(commands); i++) {
        autobuf struct ld_buf packed = {0};

        ld_test_sh("%s > packed", commands[i]);
        packed = ld_test_file("packed");
        assert_decodes(&packed, drip, &want, commands[i]);
        assert_decodes(&packed, drip2, &want, commands[i]);
    }
}

LD_TEST(codec, decodes_what_the_tools_write)
{
    assert_commands_decode(LARGE, 0, 4096);
    assert_commands_decode(SMALL, 1, 3);
}

LD_TEST(codec, reads_concatenated_members_as_one_stream)
{
    static const char *const forms[] = {
        "gzip -c data; gzip -c empty; gzip -9c small; gzip -c data",
        "igzip -c small; gzip -c data",
        ("zstd -qc data; printf '\\120\\052\\115\\030\\003\\000\\000\\000abc';"
         " zstd -qc empty small; zstd -q -c < data"),
        ("xz -c data; head -c 8 /dev/zero; xz -c empty; xz -c small; xz -c data;"
         " head -c 4 /dev/zero"),
        "bzip2 -c data; bzip2 -c empty; bzip2 -c small; bzip2 -c data",
    };
    autobuf struct ld_buf data = make_data(SMALL), want = LD_BUF_INIT(64 << 20);

    for (size_t i = 0; i < LD_ARRAY_LEN(forms); i++) {
        autobuf struct ld_buf packed = {0};

        ld_test_sh("(%s) > packed", forms[i]);
        packed = ld_test_file("packed");
        ld_buf_clear(&want);
        if (i != 1)
            ld_buf_add(&want, data.data, data.len);
        ld_buf_add(&want, data.data, 300);
        ld_buf_add(&want, data.data, data.len);
        assert_decodes(&packed, 0, &want, forms[i]);
        assert_decodes(&packed, 1, &want, forms[i]);
        assert_decodes(&packed, 700, &want, forms[i]);
    }
}

LD_TEST(codec, reads_all_fields_of_a_gzip_header)
{
    /* FEXTRA, FNAME, FCOMMENT, FHCRC; then a stored block "hi\n". */
    static const uint8_t member[] = {0x1f, 0x8b, 0x08, 0x1e, 0x01, 0x02, 0x03, 0x04, 0x00, 0x03,
                                     0x03, 0x00, 0x65, 0x78, 0x74, 0x6e, 0x00, 0x63, 0x00, 0x68,
                                     0xab, 0x01, 0x03, 0x00, 0xfc, 0xff, 0x68, 0x69, 0x0a, 0x7a,
                                     0x7a, 0x6f, 0xed, 0x03, 0x00, 0x00, 0x00};
    const struct ld_codec_limits limits = {0};

    for (size_t drip = 0; drip < 3; drip++) {
        struct ld_err err = LD_ERR_INIT;
        autobuf struct ld_buf got = {0};

        ld_test_ok(decode(member, sizeof(member), drip, &limits, &got, &err), &err);
        cr_assert_str_eq(ld_buf_str(&got), "hi\n");
    }
}

LD_TEST(codec, takes_other_bytes_as_they_are)
{
    static const char *const plain[] = {"", "x", "\x1f\x8b", "BZh0",
                                        "hello world, this is not packed"};

    for (size_t i = 0; i < LD_ARRAY_LEN(plain); i++) {
        const struct ld_codec_limits limits = {.max_ratio = 1};
        struct ld_err err = LD_ERR_INIT;
        autobuf struct ld_buf got = {0};

        ld_test_ok(decode(plain[i], strlen(plain[i]), 2, &limits, &got, &err), &err);
        cr_assert_str_eq(ld_buf_str(&got), plain[i]);
    }
}

LD_TEST(codec, refuses_truncated_data)
{
    static const char *const forms[] = {"gzip -c small", "zstd -qc small", "xz -c small",
                                        "bzip2 -c small"};

    make_files(SMALL);
    for (size_t i = 0; i < LD_ARRAY_LEN(forms); i++) {
        const struct ld_codec_limits limits = {0};
        autobuf struct ld_buf packed = {0};

        ld_test_sh("%s > packed", forms[i]);
        packed = ld_test_file("packed");
        for (size_t len = LD_CODEC_HEAD; len < packed.len; len++) {
            struct ld_err err = LD_ERR_INIT;
            autobuf struct ld_buf got = {0};

            ld_test_fails(decode(packed.data, len, len % 7, &limits, &got, &err), &err,
                          LD_E_BAD_CONTENT);
            cr_assert(strstr(err.message, "is truncated"), "%s at %zu: %s", forms[i], len,
                      err.message);
        }
    }
}

LD_TEST(codec, refuses_what_follows_the_data)
{
    static const char *const forms[] = {
        "gzip -c small; printf x",       "gzip -c small; head -c 512 /dev/zero; printf x",
        "gzip -c small; printf '\\037'", "zstd -qc small; printf garbage",
        "xz -c small; printf garbage",   "xz -c small; head -c 3 /dev/zero",
        "bzip2 -c small; printf x",
    };

    make_files(SMALL);
    for (size_t i = 0; i < LD_ARRAY_LEN(forms); i++) {
        const struct ld_codec_limits limits = {0};
        struct ld_err err = LD_ERR_INIT;
        autobuf struct ld_buf packed = {0}, got = {0};

        ld_test_sh("(%s) > packed", forms[i]);
        packed = ld_test_file("packed");
        ld_test_fails(decode(packed.data, packed.len, 0, &limits, &got, &err), &err,
                      LD_E_BAD_CONTENT);
    }
}

LD_TEST(codec, passes_over_zeros_after_gzip)
{
    static const char *const forms[] = {"head -c 1 /dev/zero", "head -c 10240 /dev/zero",
                                        "head -c 700000 /dev/zero"};
    autobuf struct ld_buf data = {0};

    make_files(SMALL);
    data = ld_test_file("small");
    for (size_t i = 0; i < LD_ARRAY_LEN(forms); i++) {
        const struct ld_codec_limits limits = {0};
        struct ld_err err = LD_ERR_INIT;
        autobuf struct ld_buf packed = {0}, got = LD_BUF_INIT(1 << 26);

        ld_test_sh("(gzip -c small; %s) > packed", forms[i]);
        packed = ld_test_file("packed");
        ld_test_ok(decode(packed.data, packed.len, 0, &limits, &got, &err), &err);
        cr_assert_eq(got.len, data.len);
        cr_assert_eq(memcmp(got.data, data.data, got.len), 0);
    }
}

LD_TEST(codec, notices_every_flipped_bit_or_gives_the_same)
{
    static const char *const forms[] = {"gzip -c small", "zstd -qc --check small", "xz -c small",
                                        "bzip2 -c small"};
    autobuf struct ld_buf data = make_data(SMALL);

    for (size_t i = 0; i < LD_ARRAY_LEN(forms); i++) {
        const struct ld_codec_limits limits = {0};
        autobuf struct ld_buf packed = {0};

        ld_test_sh("%s > packed", forms[i]);
        packed = ld_test_file("packed");
        for (size_t bit = LD_CODEC_HEAD * 8; bit < packed.len * 8; bit++) {
            struct ld_err err = LD_ERR_INIT;
            autobuf struct ld_buf got = {0};
            int rc;

            packed.data[bit / 8] ^= (char)(1 << bit % 8);
            rc = decode(packed.data, packed.len, 0, &limits, &got, &err);
            cr_assert(rc < 0 || (got.len == 300 && memcmp(got.data, data.data, 300) == 0),
                      "%s, bit %zu", forms[i], bit);
            packed.data[bit / 8] ^= (char)(1 << bit % 8);
        }
    }
}

struct budget {
    uint64_t taken;
    unsigned calls;
};

static int budget_take(void *arg, uint64_t bytes, struct ld_err *err)
{
    struct budget *b = arg;

    (void)err;
    b->taken += bytes;
    b->calls++;
    return 0;
}

static void budget_give(void *arg, uint64_t bytes)
{
    ((struct budget *)arg)->taken -= bytes;
}

LD_TEST(codec, asks_the_budget_for_large_windows_only)
{
    static const struct {
        const char *command;
        bool is_large;
    } forms[] = {
        {"zstd -q -19 -c < small", false},
        {"zstd -q --long=27 -c < small", true},
        {"xz -6 -c small", false},
        {"xz -9 -c small", true},
    };

    make_files(SMALL);
    for (size_t i = 0; i < LD_ARRAY_LEN(forms); i++) {
        struct budget budget = {0};
        const struct ld_codec_budget vtable = {budget_take, budget_give, &budget};
        const struct ld_codec_limits tight = {.budget = &vtable};
        const struct ld_codec_limits wide = {.max_window = UINT64_C(160) << 20, .budget = &vtable};
        struct ld_err err = LD_ERR_INIT;
        autobuf struct ld_buf packed = {0}, got = {0}, again = {0};

        ld_test_sh("%s > packed", forms[i].command);
        packed = ld_test_file("packed");
        if (forms[i].is_large) {
            ld_test_fails(decode(packed.data, packed.len, 0, &tight, &got, &err), &err,
                          LD_E_BAD_CONTENT);
            cr_assert(strstr(err.details, "\"limit\":\"decoder_memory\""), "%s", err.details);
        } else {
            ld_test_ok(decode(packed.data, packed.len, 0, &tight, &got, &err), &err);
        }
        cr_assert_eq(budget.calls, 0);
        ld_test_ok(decode(packed.data, packed.len, 0, &wide, &again, &err), &err);
        cr_assert_eq(budget.calls, forms[i].is_large, "%s", forms[i].command);
        cr_assert_eq(budget.taken, 0, "given back");
        cr_assert_eq(again.len, 300);
    }
}

LD_TEST(codec, stops_bombs)
{
    static const struct {
        const char *command, *limit;
        struct ld_codec_limits limits;
    } forms[] = {
        {"head -c 20000000 /dev/zero | gzip -c", "layer_bytes", {.max_output = 1000000}},
        {"head -c 20000000 /dev/zero", "layer_bytes", {.max_output = 1000000}},
        {"head -c 200000000 /dev/zero | gzip -1c",
         "ratio",
         {.max_ratio = 100, .ratio_from = 64 << 20}},
        {"head -c 200000000 /dev/zero | zstd -qc", "ratio", {.max_ratio = 1000}},
    };

    for (size_t i = 0; i < LD_ARRAY_LEN(forms); i++) {
        struct ld_err err = LD_ERR_INIT;
        autobuf struct ld_buf packed = {0};
        auto_source *mem = NULL, *plain = NULL;

        ld_test_sh("%s > packed", forms[i].command);
        packed = ld_test_file("packed");
        mem = ld_source_mem_new(packed.data, packed.len);
        ld_test_ok(ld_decoder_new(mem, &forms[i].limits, &plain, &err), &err);
        ld_test_fails(ld_source_drain(plain, &err), &err, LD_E_BAD_CONTENT);
        cr_assert(strstr(err.details, forms[i].limit), "%s: %s", forms[i].command, err.details);
    }
}

LD_TEST(codec, limits_hashes_and_skips)
{
    autobuf struct ld_buf data = make_data(SMALL);
    autoclose int fd = open("data", O_RDONLY | O_CLOEXEC);
    auto_source *file = ld_source_fd_new(fd, 100, 1000);
    auto_source *hashed = ld_source_digest_new(file);
    auto_source *limited = ld_source_limit_new(hashed, 1000, "max_x", "the x");
    auto_source *tight = NULL, *again = NULL;
    struct ld_digest want = ld_digest_of(data.data + 100, 1000), got;
    struct ld_err err = LD_ERR_INIT;
    uint64_t skipped;

    ld_test_ok(ld_source_drain(limited, &err), &err);
    cr_assert_eq(ld_source_digest_count(hashed), 1000);
    got = ld_source_digest_final(hashed);
    cr_assert(ld_digest_equal(&want, &got));

    again = ld_source_fd_new(fd, 0, LD_TO_END);
    tight = ld_source_limit_new(again, 999, "max_x", "the x");
    ld_test_fails(ld_source_drain(tight, &err), &err, LD_E_BAD_CONTENT);
    cr_assert_str_eq(err.details, "{\"limit\":\"max_x\",\"value\":999}");

    ld_source_free_p(&tight);
    ld_source_free_p(&again);
    again = ld_source_fd_new(fd, 0, LD_TO_END);
    ld_test_ok(ld_source_skip(again, data.len - 5, &skipped, &err), &err);
    cr_assert_eq(skipped, data.len - 5);
    ld_test_ok(ld_source_skip(again, UINT64_MAX, &skipped, &err), &err);
    cr_assert_eq(skipped, 5);
}
