/* bzip2 streams by libbz2: at most 4 MB whatever the file says. One thread. */
#include "daemon/image/codec_impl.h"

#include <bzlib.h>

#include "daemon/base/mem.h"

struct bzip2 {
    bz_stream bz;
    bool begun;
};

static void *bzip2_new(const struct ld_codec_limits *limits)
{
    (void)limits; /* blocks are at most 900 kB */
    return ld_new(struct bzip2);
}

static int begin(struct bzip2 *b, const struct ld_codec_io *io, struct ld_err *err)
{
    if (ld_codec_detect(io->in, io->in_len) != LD_CODEC_BZIP2)
        return ld_codec_garbage(LD_CODEC_BZIP2, err);
    b->bz = (bz_stream){0};
    if (BZ2_bzDecompressInit(&b->bz, 0, 0) != BZ_OK)
        return ld_err_set(err, LD_E_UNAVAILABLE, "no memory for a bzip2 decoder");
    b->begun = true;
    return 0;
}

static void end(struct bzip2 *b)
{
    if (b->begun)
        (void)BZ2_bzDecompressEnd(&b->bz); /* only frees */
    b->begun = false;
}

static int bzip2_step(void *state, struct ld_codec_io *io, struct ld_err *err)
{
    struct bzip2 *b = state;
    int rc;

    if (!b->begun && begin(b, io, err) < 0)
        return -1;
    b->bz.next_in = (char *)io->in; /* only read: the library's field lacks the const */
    b->bz.avail_in = (unsigned)io->in_len;
    b->bz.next_out = (char *)io->out;
    b->bz.avail_out = (unsigned)io->out_len;
    rc = BZ2_bzDecompress(&b->bz);
    if (rc == BZ_MEM_ERROR)
        return ld_err_set(err, LD_E_UNAVAILABLE, "no memory for a bzip2 decoder");
    if (rc != BZ_OK && rc != BZ_STREAM_END)
        return ld_codec_damaged(LD_CODEC_BZIP2, "bad block", err);
    io->in = (const uint8_t *)b->bz.next_in;
    io->in_len = b->bz.avail_in;
    io->out = (uint8_t *)b->bz.next_out;
    io->out_len = b->bz.avail_out;
    if (rc == BZ_STREAM_END)
        end(b);
    return rc == BZ_STREAM_END;
}

static void bzip2_free(void *state)
{
    end(state);
    free(state);
}

const struct ld_codec_impl ld_codec_bzip2 = {
    .new = bzip2_new, .step = bzip2_step, .free = bzip2_free};
