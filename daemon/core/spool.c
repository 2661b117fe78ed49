/* Spools: see spool.h. The file has no name from the start, so a crash leaves nothing. */
#include "daemon/core/spool.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "daemon/base/digest.h"
#include "daemon/base/fdio.h"
#include "daemon/core/state.h"
#include "daemon/jobs/lane.h"
#include "daemon/jobs/ring.h"

/* How often the free space is looked at: between two looks so many bytes are written. */
enum { CHECK_EVERY = 16 << 20 };

int ld_spool_open(struct ld_core *core, struct ld_spool *ret, struct ld_err *err)
{
    int fd;

    if (ld_core_may_grow(core, 0, err) < 0)
        return -1;
    fd = openat(core->root.staging_fd, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (fd < 0)
        return ld_err_sys(err, -errno, "make a file for the upload");
    *ret = (struct ld_spool){.fd = fd};
    return 0;
}

void ld_spool_close(struct ld_spool *spool)
{
    ld_close_p(&spool->fd);
}

int ld_spool_write(struct ld_core *core, struct ld_spool *spool, const void *data, size_t len,
                   struct ld_err *err)
{
    uint64_t size;
    int r;

    if (__builtin_add_overflow(spool->size, len, &size))
        return ld_err_set(err, LD_E_TOO_LARGE, "the upload is too large");
    if (spool->size / CHECK_EVERY != size / CHECK_EVERY && ld_core_may_grow(core, len, err) < 0)
        return -1;
    r = ld_pwrite_full(spool->fd, data, len, spool->size);
    if (r < 0)
        return ld_err_sys(err, r, "write the upload");
    spool->size = size;
    return 0;
}

static int copy_ring(struct ld_core *core, struct ld_ring *ring, const struct ld_spool_options *o,
                     struct ld_spool *spool, struct ld_err *err)
{
    LD_AUTO(ld_sha256_free_p) struct ld_sha256 *hash = o->digest ? ld_sha256_new() : NULL;
    const void *data = NULL;
    ssize_t n;

    while ((n = ld_ring_peek(ring, &data, err)) > 0) {
        if (ld_flag_is_set(o->cancel))
            return ld_err_set(err, LD_E_CANCELED, "the upload was cancelled");
        if (o->max_bytes && (uint64_t)n > o->max_bytes - spool->size)
            return ld_err_set(err, LD_E_TOO_LARGE, "the upload has more than %llu bytes",
                              (unsigned long long)o->max_bytes);
        if (ld_spool_write(core, spool, data, (size_t)n, err) < 0)
            return -1;
        if (hash)
            ld_sha256_update(hash, data, (size_t)n);
        ld_ring_consume(ring, (size_t)n);
        if (o->progress)
            o->progress(o->progress_arg, spool->size);
    }
    if (n < 0)
        return -1;
    if (hash)
        *o->digest = ld_sha256_final(hash);
    return 0;
}

int ld_spool_ring(struct ld_core *core, struct ld_ring *ring,
                  const struct ld_spool_options *options, struct ld_spool *ret, struct ld_err *err)
{
    LD_AUTO(ld_spool_close) struct ld_spool spool = LD_SPOOL_INIT;

    if (ld_spool_open(core, &spool, err) < 0 || copy_ring(core, ring, options, &spool, err) < 0)
        return -1;
    *ret = spool;
    spool.fd = -EBADF;
    return 0;
}
