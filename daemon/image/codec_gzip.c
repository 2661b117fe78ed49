/* gzip by ISA-L, more than twice as fast as zlib; zlib where ISA-L is not packaged. One thread. */
#include "daemon/image/codec_impl.h"

#include <string.h>

#if __has_include(<isa-l/igzip_lib.h>) && !defined(LD_WITHOUT_ISAL)
#include <isa-l/igzip_lib.h>
#else
#include <zlib.h>
#define LD_GZIP_BY_ZLIB
#endif

#include "daemon/base/mem.h"

static int begins_member(const struct ld_codec_io *io)
{
    return io->in_len >= 3 && memcmp(io->in, "\x1f\x8b\x08", 3) == 0;
}

/* Writers with blocks of a fixed size (bsdtar, tapes) fill up with zeros, which gzip itself passes
 * over. True when nothing but zeros was there, and was taken. */
static bool skip_padding(struct ld_codec_io *io)
{
    size_t n = 0;

    while (n < io->in_len && io->in[n] == 0)
        n++;
    if (n == 0 || n < io->in_len)
        return false;
    io->in += n;
    io->in_len = 0;
    return true;
}

static int begin(bool *begun, const struct ld_codec_io *io, struct ld_err *err)
{
    if (!begins_member(io))
        return ld_codec_garbage(LD_CODEC_GZIP, err);
    *begun = true;
    return 0;
}

#ifndef LD_GZIP_BY_ZLIB

/* The header is read by a call of its own: isal_inflate forgets what it knows of one that does not
 * lie in a single piece of input. */
struct gzip {
    struct inflate_state inflate;
    struct isal_gzip_header header;
    bool begun;
    bool in_header;
};

static void *gzip_new(const struct ld_codec_limits *limits)
{
    struct gzip *g = ld_new(struct gzip);

    (void)limits; /* the window is 32 KiB */
    isal_inflate_init(&g->inflate);
    return g;
}

static const char *why(int rc)
{
    switch (rc) {
    case ISAL_INCORRECT_CHECKSUM:
        return "wrong checksum or length";
    case ISAL_INVALID_WRAPPER:
    case ISAL_UNSUPPORTED_METHOD:
        return "bad header";
    default:
        return "bad block";
    }
}

/* One call of the library: its result. */
static int inflate_some(struct gzip *g)
{
    int rc;

    if (!g->in_header)
        return isal_inflate(&g->inflate);
    rc = isal_read_gzip_header(&g->inflate, &g->header);
    if (rc != ISAL_DECOMP_OK)
        return rc;
    g->in_header = false;
    g->inflate.crc_flag = ISAL_GZIP_NO_HDR_VER; /* the trailer is still verified */
    return isal_inflate(&g->inflate);
}

static int gzip_step(void *state, struct ld_codec_io *io, struct ld_err *err)
{
    struct gzip *g = state;
    struct inflate_state *inflate = &g->inflate;
    int rc;

    if (!g->begun) {
        if (skip_padding(io))
            return 1;
        if (begin(&g->begun, io, err) < 0)
            return -1;
        isal_inflate_reset(inflate);
        isal_gzip_header_init(&g->header);
        g->in_header = true;
    }
    inflate->next_in = (uint8_t *)io->in; /* only read: the library's field lacks the const */
    inflate->avail_in = (uint32_t)io->in_len;
    inflate->next_out = io->out;
    inflate->avail_out = (uint32_t)io->out_len;
    rc = inflate_some(g);
    if (rc < 0 || rc == ISAL_NEED_DICT)
        return ld_codec_damaged(LD_CODEC_GZIP, why(rc), err);
    io->in = inflate->next_in;
    io->in_len = inflate->avail_in;
    io->out = inflate->next_out;
    io->out_len = inflate->avail_out;
    g->begun = inflate->block_state != ISAL_BLOCK_FINISH;
    return !g->begun;
}

static void gzip_free(void *state)
{
    free(state);
}

#else

struct gzip {
    z_stream z;
    bool begun;
};

static void *gzip_new(const struct ld_codec_limits *limits)
{
    struct gzip *g = ld_new(struct gzip);

    (void)limits;                                      /* the window is 32 KiB */
    if (inflateInit2(&g->z, 16 + MAX_WBITS) != Z_OK) { /* 16: with gzip's header and trailer */
        free(g);
        return NULL;
    }
    return g;
}

static int gzip_step(void *state, struct ld_codec_io *io, struct ld_err *err)
{
    struct gzip *g = state;
    int rc;

    if (!g->begun) {
        if (skip_padding(io))
            return 1;
        if (begin(&g->begun, io, err) < 0)
            return -1;
        (void)inflateReset(&g->z); /* fails only for a state that was never made */
    }
    g->z.next_in = (Bytef *)io->in; /* only read: the library's field lacks the const */
    g->z.avail_in = (uInt)io->in_len;
    g->z.next_out = io->out;
    g->z.avail_out = (uInt)io->out_len;
    rc = inflate(&g->z, Z_NO_FLUSH);
    if (rc != Z_OK && rc != Z_STREAM_END && rc != Z_BUF_ERROR)
        return ld_codec_damaged(LD_CODEC_GZIP, g->z.msg ? g->z.msg : "bad block", err);
    io->in = g->z.next_in;
    io->in_len = g->z.avail_in;
    io->out = g->z.next_out;
    io->out_len = g->z.avail_out;
    g->begun = rc != Z_STREAM_END;
    return !g->begun;
}

static void gzip_free(void *state)
{
    struct gzip *g = state;

    (void)inflateEnd(&g->z); /* only frees */
    free(g);
}

#endif

const struct ld_codec_impl ld_codec_gzip = {.new = gzip_new, .step = gzip_step, .free = gzip_free};
