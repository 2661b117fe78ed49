/* The byte sinks that belong to no other module: see sink.h. */
#include "daemon/image/sink.h"

#include "daemon/base/fdio.h"
#include "daemon/base/mem.h"

int ld_sink_write(struct ld_sink *sink, const void *data, size_t len, struct ld_err *err)
{
    return len ? sink->ops->write(sink, data, len, err) : 0;
}

int ld_sink_zeros(struct ld_sink *sink, uint64_t len, struct ld_err *err)
{
    static const char zeros[64 << 10];

    while (len > 0) {
        size_t n = len < sizeof(zeros) ? (size_t)len : sizeof(zeros);

        if (ld_sink_write(sink, zeros, n, err) < 0)
            return -1;
        len -= n;
    }
    return 0;
}

void ld_sink_free(struct ld_sink *sink)
{
    if (sink)
        sink->ops->free(sink);
}

void ld_sink_free_p(struct ld_sink **sink)
{
    int saved = errno;

    ld_sink_free(*sink);
    *sink = NULL;
    errno = saved;
}

static void free_plain(struct ld_sink *sink)
{
    free(sink);
}

/* -- a descriptor ------------------------------------------------------------------------------ */

struct fd_sink {
    struct ld_sink base;
    int fd;
};

static int fd_write(struct ld_sink *base, const void *data, size_t len, struct ld_err *err)
{
    int rc = ld_write_full(((struct fd_sink *)base)->fd, data, len);

    return rc < 0 ? ld_err_sys(err, rc, "write a stream") : 0;
}

struct ld_sink *ld_sink_fd_new(int fd)
{
    static const struct ld_sink_ops ops = {.write = fd_write, .free = free_plain};
    struct fd_sink *sink = ld_new(struct fd_sink);

    *sink = (struct fd_sink){.base.ops = &ops, .fd = fd};
    return &sink->base;
}

/* -- a buffer ---------------------------------------------------------------------------------- */

struct buf_sink {
    struct ld_sink base;
    struct ld_buf *buf;
};

static int buf_write(struct ld_sink *base, const void *data, size_t len, struct ld_err *err)
{
    struct ld_buf *buf = ((struct buf_sink *)base)->buf;

    ld_buf_add(buf, data, len);
    if (ld_buf_check(buf) < 0)
        return ld_err_set(err, LD_E_TOO_LARGE, "the stream is larger than %zu bytes", buf->max);
    return 0;
}

struct ld_sink *ld_sink_buf_new(struct ld_buf *buf)
{
    static const struct ld_sink_ops ops = {.write = buf_write, .free = free_plain};
    struct buf_sink *sink = ld_new(struct buf_sink);

    *sink = (struct buf_sink){.base.ops = &ops, .buf = buf};
    return &sink->base;
}

/* -- a digest ---------------------------------------------------------------------------------- */

struct digest_sink {
    struct ld_sink base;
    struct ld_sink *next;
    struct ld_sha256 *hash;
    uint64_t count;
};

static int digest_write(struct ld_sink *base, const void *data, size_t len, struct ld_err *err)
{
    struct digest_sink *sink = (struct digest_sink *)base;

    ld_sha256_update(sink->hash, data, len);
    sink->count += len;
    return sink->next ? ld_sink_write(sink->next, data, len, err) : 0;
}

static void digest_free(struct ld_sink *base)
{
    struct digest_sink *sink = (struct digest_sink *)base;

    ld_sha256_free_p(&sink->hash);
    free(sink);
}

struct ld_sink *ld_sink_digest_new(struct ld_sink *next)
{
    static const struct ld_sink_ops ops = {.write = digest_write, .free = digest_free};
    struct digest_sink *sink = ld_new(struct digest_sink);

    *sink = (struct digest_sink){.base.ops = &ops, .next = next, .hash = ld_sha256_new()};
    return &sink->base;
}

uint64_t ld_sink_digest_count(const struct ld_sink *sink)
{
    return ((const struct digest_sink *)sink)->count;
}

struct ld_digest ld_sink_digest_final(struct ld_sink *sink)
{
    return ld_sha256_final(((struct digest_sink *)sink)->hash);
}

/* -- a count ----------------------------------------------------------------------------------- */

struct count_sink {
    struct ld_sink base;
    uint64_t count;
};

static int count_write(struct ld_sink *base, const void *data, size_t len, struct ld_err *err)
{
    (void)data;
    (void)err;
    ((struct count_sink *)base)->count += len;
    return 0;
}

struct ld_sink *ld_sink_count_new(void)
{
    static const struct ld_sink_ops ops = {.write = count_write, .free = free_plain};
    struct count_sink *sink = ld_new(struct count_sink);

    sink->base.ops = &ops;
    return &sink->base;
}

uint64_t ld_sink_count(const struct ld_sink *sink)
{
    return ((const struct count_sink *)sink)->count;
}
