/* xz streams, concatenated and padded, by liblzma. One thread.
 *
 * liblzma asks for memory by failing with LZMA_MEMLIMIT_ERROR before it allocates; the limit may
 * then be raised and decoding goes on. */
#include "daemon/image/codec_impl.h"

#include <lzma.h>

#include "daemon/base/mem.h"

#define OVERHEAD (UINT64_C(2) << 20) /* of a decoder beside its dictionary: filters, tables */

struct xz {
    lzma_stream lzma;
    struct ld_codec_window window;
};

static void *xz_new(const struct ld_codec_limits *limits)
{
    struct xz *x = ld_new(struct xz);

    x->lzma = (lzma_stream)LZMA_STREAM_INIT;
    x->window.limits = limits;
    if (lzma_stream_decoder(&x->lzma, LD_CODEC_FREE_WINDOW + OVERHEAD, LZMA_CONCATENATED) !=
        LZMA_OK) {
        free(x);
        return NULL;
    }
    return x;
}

static const char *why(lzma_ret rc)
{
    switch (rc) {
    case LZMA_FORMAT_ERROR:
        return "bytes that are not xz";
    case LZMA_OPTIONS_ERROR:
        return "options that are not supported";
    case LZMA_MEM_ERROR:
        return "no memory";
    default:
        return "bad block";
    }
}

static int raise_limit(struct xz *x, struct ld_err *err)
{
    uint64_t need = lzma_memusage(&x->lzma);

    if (ld_codec_window_need(&x->window, need > OVERHEAD ? need - OVERHEAD : need, err) < 0)
        return -1;
    if (lzma_memlimit_set(&x->lzma, need) != LZMA_OK)
        return ld_codec_damaged(LD_CODEC_XZ, "memory limit", err);
    return 0;
}

static int xz_step(void *state, struct ld_codec_io *io, struct ld_err *err)
{
    struct xz *x = state;
    lzma_ret rc;

    x->lzma.next_in = io->in;
    x->lzma.avail_in = io->in_len;
    x->lzma.next_out = io->out;
    x->lzma.avail_out = io->out_len;
    do {
        rc = lzma_code(&x->lzma, io->at_end ? LZMA_FINISH : LZMA_RUN);
    } while (rc == LZMA_MEMLIMIT_ERROR && raise_limit(x, err) == 0);
    if (rc == LZMA_MEMLIMIT_ERROR)
        return -1;
    if (rc == LZMA_MEM_ERROR)
        return ld_err_set(err, LD_E_UNAVAILABLE, "no memory for an xz decoder");
    if (rc != LZMA_OK && rc != LZMA_STREAM_END && rc != LZMA_BUF_ERROR)
        return ld_codec_damaged(LD_CODEC_XZ, why(rc), err);
    io->in = x->lzma.next_in;
    io->in_len = x->lzma.avail_in;
    io->out = x->lzma.next_out;
    io->out_len = x->lzma.avail_out;
    return rc == LZMA_STREAM_END;
}

static void xz_free(void *state)
{
    struct xz *x = state;

    lzma_end(&x->lzma);
    ld_codec_window_give(&x->window);
    free(x);
}

const struct ld_codec_impl ld_codec_xz = {.new = xz_new, .step = xz_step, .free = xz_free};
