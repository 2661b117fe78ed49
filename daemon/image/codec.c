/* What all decoders share: detection, the input buffer, member after member, limits. See codec.h.
 *
 * Invariant: `in` points into the buffer; bytes before it are consumed and counted in total_in. */
#include "daemon/image/codec.h"

#include <inttypes.h>
#include <string.h>

#include "daemon/base/mem.h"
#include "daemon/image/codec_impl.h"

enum { IN_SIZE = 256 << 10, OUT_MAX = 1 << 30 };

struct decoder {
    struct ld_source base;
    struct ld_source *below;
    struct ld_codec_limits limits;
    enum ld_codec codec;
    const struct ld_codec_impl *impl;
    void *state;
    uint8_t *in;
    size_t in_len;
    bool below_ended;
    bool in_member; /* a member has begun and not ended */
    bool ended;
    uint64_t total_in;
    uint64_t total_out;
    uint8_t buffer[IN_SIZE];
};

const char *ld_codec_name(enum ld_codec codec)
{
    static const char *const names[] = {
        [LD_CODEC_NONE] = "none", [LD_CODEC_GZIP] = "gzip",   [LD_CODEC_ZSTD] = "zstd",
        [LD_CODEC_XZ] = "xz",     [LD_CODEC_BZIP2] = "bzip2",
    };

    return names[codec];
}

enum ld_codec ld_codec_detect(const void *head, size_t len)
{
    const uint8_t *p = head;

    if (len >= 3 && memcmp(p, "\x1f\x8b\x08", 3) == 0)
        return LD_CODEC_GZIP;
    if (len >= 4 && memcmp(p, "\x28\xb5\x2f\xfd", 4) == 0)
        return LD_CODEC_ZSTD;
    /* A skippable frame: pzstd and estargz-like tools put one first. */
    if (len >= 4 && (p[0] & 0xF0) == 0x50 && memcmp(p + 1, "\x2a\x4d\x18", 3) == 0)
        return LD_CODEC_ZSTD;
    if (len >= 6 && memcmp(p,
                           "\xfd"
                           "7zXZ\0",
                           6) == 0)
        return LD_CODEC_XZ;
    if (len >= 4 && memcmp(p, "BZh", 3) == 0 && p[3] >= '1' && p[3] <= '9')
        return LD_CODEC_BZIP2;
    return LD_CODEC_NONE;
}

int ld_codec_damaged(enum ld_codec codec, const char *why, struct ld_err *err)
{
    return ld_err_set(err, LD_E_BAD_CONTENT, "the %s data is damaged (%s)", ld_codec_name(codec),
                      why);
}

int ld_codec_garbage(enum ld_codec codec, struct ld_err *err)
{
    return ld_err_set(err, LD_E_BAD_CONTENT, "the %s data is followed by bytes that are not %s",
                      ld_codec_name(codec), ld_codec_name(codec));
}

int ld_codec_window_need(struct ld_codec_window *window, uint64_t bytes, struct ld_err *err)
{
    const struct ld_codec_limits *limits = window->limits;
    uint64_t max =
        limits->max_window > LD_CODEC_FREE_WINDOW ? limits->max_window : LD_CODEC_FREE_WINDOW;

    if (bytes > max)
        return ld_err_over_limit(err, "decoder_memory", max,
                                 "decompression needs a window of %" PRIu64 " bytes, %" PRIu64
                                 " are allowed",
                                 bytes, max);
    if (bytes <= LD_CODEC_FREE_WINDOW || bytes <= window->taken)
        return 0;
    /* Given back first: two decoders that each hold one window and want a larger one would wait for
     * each other. */
    ld_codec_window_give(window);
    if (limits->budget && limits->budget->take(limits->budget->arg, bytes, err) < 0)
        return -1;
    window->taken = bytes;
    return 0;
}

void ld_codec_window_give(struct ld_codec_window *window)
{
    if (window->taken && window->limits->budget)
        window->limits->budget->give(window->limits->budget->arg, window->taken);
    window->taken = 0;
}

/* At least `want` bytes of input, or all there is. */
static int fill(struct decoder *d, size_t want, struct ld_err *err)
{
    if (d->in_len >= want || d->below_ended)
        return 0;
    if (d->in_len)
        memmove(d->buffer, d->in, d->in_len);
    d->in = d->buffer;
    while (d->in_len < want && !d->below_ended) {
        ssize_t n = ld_source_read(d->below, d->buffer + d->in_len, IN_SIZE - d->in_len, err);

        if (n < 0)
            return -1;
        d->below_ended = n == 0;
        d->in_len += (size_t)n;
    }
    return 0;
}

static int count(struct decoder *d, size_t in, size_t out, struct ld_err *err)
{
    const struct ld_codec_limits *limits = &d->limits;

    d->total_in += in;
    d->total_out += out;
    if (limits->max_output && d->total_out > limits->max_output)
        return ld_err_over_limit(err, "layer_bytes", limits->max_output,
                                 "the decompressed data is larger than %" PRIu64 " bytes",
                                 limits->max_output);
    if (limits->max_ratio && d->total_out > limits->ratio_from &&
        d->total_out / limits->max_ratio > d->total_in)
        return ld_err_over_limit(err, "ratio", limits->max_ratio,
                                 "the data grows more than %" PRIu64 " times when decompressed",
                                 limits->max_ratio);
    return 0;
}

/* One step of the format's decoder. The count of bytes given, which may be 0 before the end. */
static ssize_t step(struct decoder *d, void *buf, size_t len, struct ld_err *err)
{
    struct ld_codec_io io;
    size_t used;
    int rc;

    if (fill(d, d->in_member ? 1 : LD_CODEC_HEADER, err) < 0)
        return -1;
    if (d->in_len == 0 && !d->in_member) {
        d->ended = true;
        return 0;
    }
    io = (struct ld_codec_io){d->in, d->in_len, buf, len, d->below_ended};
    d->in_member = true;
    rc = d->impl->step(d->state, &io, err);
    if (rc < 0)
        return -1;
    d->in_member = rc == 0;
    used = d->in_len - io.in_len;
    if (rc == 0 && used == 0 && io.out_len == len) {
        if (d->below_ended && d->in_len == 0)
            return ld_err_set(err, LD_E_BAD_CONTENT, "the %s data is truncated",
                              ld_codec_name(d->codec));
        return ld_codec_damaged(d->codec, "no progress", err);
    }
    d->in += used;
    d->in_len -= used;
    if (count(d, used, len - io.out_len, err) < 0)
        return -1;
    return (ssize_t)(len - io.out_len);
}

static ssize_t decoder_read(struct ld_source *base, void *buf, size_t len, struct ld_err *err)
{
    struct decoder *d = (struct decoder *)base;
    ssize_t n = 0;

    if (len > OUT_MAX)
        len = OUT_MAX;
    while (n == 0 && !d->ended) {
        n = step(d, buf, len, err);
        if (n < 0)
            return -1;
    }
    return n;
}

/* Bytes that are not compressed: first what detection has read, then straight from below. */
static ssize_t plain_read(struct ld_source *base, void *buf, size_t len, struct ld_err *err)
{
    struct decoder *d = (struct decoder *)base;
    ssize_t n;

    if (d->in_len) {
        n = (ssize_t)(len < d->in_len ? len : d->in_len);
        memcpy(buf, d->in, (size_t)n);
        d->in += n;
        d->in_len -= (size_t)n;
    } else {
        n = ld_source_read(d->below, buf, len, err);
        if (n < 0)
            return -1;
    }
    return count(d, (size_t)n, (size_t)n, err) < 0 ? -1 : n;
}

static int64_t plain_skip(struct ld_source *base, uint64_t len, struct ld_err *err)
{
    struct decoder *d = (struct decoder *)base;
    uint64_t n;

    if (d->in_len) {
        n = len < d->in_len ? len : d->in_len;
        d->in += n;
        d->in_len -= (size_t)n;
    } else if (ld_source_skip(d->below, len, &n, err) < 0) {
        return -1;
    }
    return count(d, (size_t)n, (size_t)n, err) < 0 ? -1 : (int64_t)n;
}

static void decoder_free(struct ld_source *base)
{
    struct decoder *d = (struct decoder *)base;

    if (d->state)
        d->impl->free(d->state);
    free(d);
}

static const struct ld_source_ops decoder_ops = {.read = decoder_read, .free = decoder_free};
static const struct ld_source_ops plain_ops = {
    .read = plain_read, .skip = plain_skip, .free = decoder_free};

static const struct ld_codec_impl *impl_of(enum ld_codec codec)
{
    switch (codec) {
    case LD_CODEC_GZIP:
        return &ld_codec_gzip;
    case LD_CODEC_ZSTD:
        return &ld_codec_zstd;
    case LD_CODEC_XZ:
        return &ld_codec_xz;
    case LD_CODEC_BZIP2:
        return &ld_codec_bzip2;
    case LD_CODEC_NONE:
        break;
    }
    return NULL;
}

int ld_decoder_new(struct ld_source *below, const struct ld_codec_limits *limits,
                   struct ld_source **ret, struct ld_err *err)
{
    struct decoder *d = ld_new(struct decoder);
    auto_source *owned = &d->base;

    d->base.ops = &plain_ops;
    d->below = below;
    d->limits = *limits;
    d->in = d->buffer;
    if (fill(d, LD_CODEC_HEAD, err) < 0)
        return -1;
    d->codec = ld_codec_detect(d->in, d->in_len);
    d->impl = impl_of(d->codec);
    if (d->impl) {
        d->base.ops = &decoder_ops;
        d->state = d->impl->new (&d->limits);
        if (!d->state)
            return ld_err_set(err, LD_E_UNAVAILABLE, "no memory for a %s decoder",
                              ld_codec_name(d->codec));
    }
    *ret = ld_steal(&owned);
    return 0;
}

enum ld_codec ld_decoder_codec(const struct ld_source *decoder)
{
    return ((const struct decoder *)decoder)->codec;
}
