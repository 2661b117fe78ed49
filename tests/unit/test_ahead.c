/* image/source.h: reading ahead. The bytes, the end and the failure come in their order, nothing is
 * read far ahead, and the thread goes with the source. */
#include <dirent.h>
#include <stdio.h>
#include <string.h>

#include "daemon/base/mem.h"
#include "daemon/image/source.h"
#include "tests/lib/env.h"

enum { BLOCK = 256 << 10, MAX_AHEAD = 5 * BLOCK };

/* Counts up, in pieces of at most `piece`, then ends or fails. */
struct counter {
    struct ld_source base;
    uint64_t len, at;
    size_t piece;
    bool fails;
};

static uint8_t byte_at(uint64_t at)
{
    return (uint8_t)(at * 31 + (at >> 8) + (at >> 18));
}

static ssize_t counter_read(struct ld_source *base, void *buf, size_t len, struct ld_err *err)
{
    struct counter *c = (struct counter *)base;
    uint8_t *to = buf;

    if (c->at == c->len) {
        if (c->fails)
            return ld_err_set(err, LD_E_BAD_CONTENT, "damaged after %llu bytes",
                              (unsigned long long)c->at);
        return 0;
    }
    if (len > c->piece)
        len = c->piece;
    if (len > c->len - c->at)
        len = (size_t)(c->len - c->at);
    for (size_t i = 0; i < len; i++)
        to[i] = byte_at(c->at + i);
    __atomic_store_n(&c->at, c->at + len, __ATOMIC_RELAXED);
    return (ssize_t)len;
}

static void counter_free(struct ld_source *base)
{
    (void)base; /* the test's */
}

static const struct ld_source_ops counter_ops = {.read = counter_read, .free = counter_free};

static struct counter counter(uint64_t len, size_t piece)
{
    return (struct counter){.base = {&counter_ops}, .len = len, .piece = piece};
}

static unsigned count_threads(void)
{
    DIR *dir = opendir("/proc/self/task");
    unsigned n = 0;

    for (struct dirent *d; (d = readdir(dir));)
        n += d->d_name[0] != '.';
    (void)closedir(dir);
    return n;
}

static void expect_bytes(struct ld_source *src, uint64_t from, uint64_t to, size_t step)
{
    autofree uint8_t *buf = ld_alloc0(step);

    for (uint64_t at = from; at < to;) {
        struct ld_err err = LD_ERR_INIT;
        size_t want = to - at < step ? (size_t)(to - at) : step;
        ssize_t n = ld_source_read(src, buf, want, &err);

        ld_test_ok(n < 0 ? -1 : 0, &err);
        cr_assert(n > 0 && (size_t)n <= want, "%zd bytes at %llu", n, (unsigned long long)at);
        for (ssize_t i = 0; i < n; i++)
            if (buf[i] != byte_at(at + (uint64_t)i))
                cr_assert_fail("wrong byte at %llu", (unsigned long long)at + (uint64_t)i);
        at += (uint64_t)n;
    }
}

LD_TEST(ahead, gives_what_is_below_and_its_end)
{
    static const uint64_t lens[] = {0,         1,         BLOCK - 1,     BLOCK,
                                    BLOCK + 1, 2 * BLOCK, 9 * BLOCK + 7, 40 * BLOCK};
    static const size_t pieces[] = {4099, BLOCK, 1 << 20};
    static const size_t steps[] = {512, 100003, BLOCK, 3 << 20};

    for (size_t i = 0; i < LD_ARRAY_LEN(lens); i++) {
        for (size_t j = 0; j < LD_ARRAY_LEN(pieces) * LD_ARRAY_LEN(steps); j++) {
            struct counter c = counter(lens[i], pieces[j % LD_ARRAY_LEN(pieces)]);
            auto_source *src = ld_source_ahead_new(&c.base);
            struct ld_err err = LD_ERR_INIT;
            char byte;

            expect_bytes(src, 0, lens[i], steps[j / LD_ARRAY_LEN(pieces)]);
            for (int again = 0; again < 3; again++)
                cr_assert_eq(ld_source_read(src, &byte, 1, &err), 0);
        }
    }
}

LD_TEST(ahead, fails_after_the_bytes_before_the_failure)
{
    static const uint64_t lens[] = {0, 100, BLOCK, 3 * BLOCK + 5, 20 * BLOCK};

    for (size_t i = 0; i < LD_ARRAY_LEN(lens); i++) {
        struct counter c = counter(lens[i], 10007);
        auto_source *src = ld_source_ahead_new(&c.base);
        char text[64], byte;

        c.fails = true;
        expect_bytes(src, 0, lens[i], 70001);
        (void)snprintf(text, sizeof(text), "damaged after %llu bytes", (unsigned long long)lens[i]);
        for (int again = 0; again < 2; again++) {
            struct ld_err err = LD_ERR_INIT;

            cr_assert_eq(ld_source_read(src, &byte, 1, &err), -1);
            cr_assert_eq(err.code, LD_E_BAD_CONTENT);
            cr_assert_str_eq(err.message, text);
        }
    }
}

static bool is_full(void *arg)
{
    const struct counter *c = arg;

    return __atomic_load_n(&c->at, __ATOMIC_RELAXED) >= MAX_AHEAD;
}

LD_TEST(ahead, reads_no_more_than_its_blocks_and_can_be_freed_at_any_time)
{
    unsigned before = count_threads();

    for (uint64_t taken = 0; taken < 12 * BLOCK; taken += BLOCK / 2) {
        struct counter c = counter(UINT64_C(1) << 40, BLOCK);
        auto_source *src = ld_source_ahead_new(&c.base);

        expect_bytes(src, 0, taken, 30011);
        ld_source_free_p(&src);
        cr_assert_leq(c.at, taken + MAX_AHEAD);
        cr_assert_eq(count_threads(), before, "the thread has ended");
    }
}

LD_TEST(ahead, waits_when_its_blocks_are_full_and_goes_on)
{
    struct counter c = counter(100 * BLOCK, BLOCK);
    auto_source *src = ld_source_ahead_new(&c.base);

    expect_bytes(src, 0, BLOCK, BLOCK);
    cr_assert_eq(c.at, BLOCK, "the first block needs no thread");
    expect_bytes(src, BLOCK, BLOCK + 1, 1);
    cr_assert(ld_test_wait(is_full, &c, 10));
    cr_assert_leq(c.at, MAX_AHEAD);
    expect_bytes(src, BLOCK + 1, c.len, BLOCK);
}

LD_TEST(ahead, makes_no_thread_for_little)
{
    unsigned before = count_threads();
    struct counter c = counter(BLOCK - 1, 1000);
    auto_source *src = ld_source_ahead_new(&c.base);

    expect_bytes(src, 0, c.len, 3001);
    cr_assert_eq(count_threads(), before);
}
