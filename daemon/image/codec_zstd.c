/* zstd frames by libzstd. One thread.
 *
 * The window is read from each frame's header before the library sees it (RFC 8878, 3.1.1.1), so
 * that memory is asked for before it is used, and a frame that wants too much is told by its size.
 */
#include "daemon/image/codec_impl.h"

#include <string.h>

#include <zstd.h>

#include "daemon/base/mem.h"

enum { WINDOW_LOG_MAX = 31 }; /* the library's own limit: the real one is checked here */

struct zstd {
    ZSTD_DCtx *ctx;
    struct ld_codec_window window;
    bool begun;
};

static void *zstd_new(const struct ld_codec_limits *limits)
{
    struct zstd *z = ld_new(struct zstd);

    z->window.limits = limits;
    z->ctx = ZSTD_createDCtx();
    if (!z->ctx ||
        ZSTD_isError(ZSTD_DCtx_setParameter(z->ctx, ZSTD_d_windowLogMax, WINDOW_LOG_MAX))) {
        (void)ZSTD_freeDCtx(z->ctx);
        free(z);
        return NULL;
    }
    return z;
}

static uint64_t little_endian(const uint8_t *p, size_t n)
{
    uint64_t v = 0;

    while (n-- > 0)
        v = v << 8 | p[n];
    return v;
}

/* The window of the frame that begins at p; 0 for a skippable frame. -1: no frame begins here; -2:
 * the header is cut off. */
static int frame_window(const uint8_t *p, size_t len, uint64_t *ret)
{
    static const uint8_t dict_bytes[] = {0, 1, 2, 4};
    static const uint8_t size_bytes[] = {0, 2, 4, 8};
    size_t at = 5;
    unsigned descriptor;
    bool is_single;

    if (len < 5)
        return -2;
    if (ld_codec_detect(p, len) != LD_CODEC_ZSTD)
        return -1;
    *ret = 0;
    if ((p[0] & 0xF0) == 0x50)
        return 0;
    descriptor = p[4];
    is_single = descriptor & 0x20;
    if (!is_single) {
        unsigned base_log;

        if (len < 6)
            return -2;
        base_log = 10 + (p[5] >> 3);
        *ret = (UINT64_C(1) << base_log) + ((UINT64_C(1) << base_log) >> 3) * (p[5] & 7);
        return 0;
    }
    /* A single segment: the window is the content's size. */
    at += dict_bytes[descriptor & 3];
    if (len < at + (size_bytes[descriptor >> 6] ? size_bytes[descriptor >> 6] : 1))
        return -2;
    switch (descriptor >> 6) {
    case 0:
        *ret = p[at];
        break;
    case 1:
        *ret = little_endian(p + at, 2) + 256;
        break;
    default:
        *ret = little_endian(p + at, size_bytes[descriptor >> 6]);
    }
    return 0;
}

static int begin(struct zstd *z, const struct ld_codec_io *io, struct ld_err *err)
{
    uint64_t window;
    int rc = frame_window(io->in, io->in_len, &window);

    if (rc == -2)
        return ld_err_set(err, LD_E_BAD_CONTENT, "the zstd data is truncated");
    if (rc == -1)
        return ld_codec_garbage(LD_CODEC_ZSTD, err);
    if (ld_codec_window_need(&z->window, window, err) < 0)
        return -1;
    z->begun = true;
    return 0;
}

static int zstd_step(void *state, struct ld_codec_io *io, struct ld_err *err)
{
    struct zstd *z = state;
    ZSTD_inBuffer in = {io->in, io->in_len, 0};
    ZSTD_outBuffer out = {io->out, io->out_len, 0};
    size_t rc;

    if (!z->begun && begin(z, io, err) < 0)
        return -1;
    rc = ZSTD_decompressStream(z->ctx, &out, &in);
    if (ZSTD_isError(rc))
        return ld_codec_damaged(LD_CODEC_ZSTD, ZSTD_getErrorName(rc), err);
    io->in += in.pos;
    io->in_len -= in.pos;
    io->out += out.pos;
    io->out_len -= out.pos;
    z->begun = rc != 0;
    return rc == 0;
}

static void zstd_free(void *state)
{
    struct zstd *z = state;

    (void)ZSTD_freeDCtx(z->ctx); /* only frees */
    ld_codec_window_give(&z->window);
    free(z);
}

const struct ld_codec_impl ld_codec_zstd = {.new = zstd_new, .step = zstd_step, .free = zstd_free};
