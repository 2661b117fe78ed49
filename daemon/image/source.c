/* The byte sources that belong to no other module: see source.h.
 *
 * Invariant: after its end a source keeps saying 0; none reads ahead of what it gives. */
#include "daemon/image/source.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "daemon/base/fdio.h"
#include "daemon/base/mem.h"

enum { SCRATCH = 256 << 10 };

ssize_t ld_source_read(struct ld_source *src, void *buf, size_t len, struct ld_err *err)
{
    return src->ops->read(src, buf, len, err);
}

ssize_t ld_source_read_full(struct ld_source *src, void *buf, size_t len, struct ld_err *err)
{
    size_t done = 0;

    while (done < len) {
        ssize_t n = ld_source_read(src, (char *)buf + done, len - done, err);

        if (n < 0)
            return -1;
        if (n == 0)
            break;
        done += (size_t)n;
    }
    return (ssize_t)done;
}

/* One step of skipping by reading. */
static int64_t read_away(struct ld_source *src, void *scratch, uint64_t len, struct ld_err *err)
{
    return ld_source_read(src, scratch, len < SCRATCH ? (size_t)len : SCRATCH, err);
}

int ld_source_skip(struct ld_source *src, uint64_t len, uint64_t *ret_skipped, struct ld_err *err)
{
    autofree void *scratch = src->ops->skip || len == 0 ? NULL : ld_alloc0(SCRATCH);
    uint64_t done = 0;

    while (done < len) {
        int64_t n = src->ops->skip ? src->ops->skip(src, len - done, err)
                                   : read_away(src, scratch, len - done, err);

        if (n < 0)
            return -1;
        if (n == 0)
            break;
        done += (uint64_t)n;
    }
    *ret_skipped = done;
    return 0;
}

int ld_source_drain(struct ld_source *src, struct ld_err *err)
{
    uint64_t skipped;

    return ld_source_skip(src, UINT64_MAX, &skipped, err);
}

void ld_source_free(struct ld_source *src)
{
    if (src)
        src->ops->free(src);
}

void ld_source_free_p(struct ld_source **src)
{
    int saved = errno;

    ld_source_free(*src);
    *src = NULL;
    errno = saved;
}

static void free_plain(struct ld_source *src)
{
    free(src);
}

/* -- a file ------------------------------------------------------------------------------------ */

struct fd_source {
    struct ld_source base;
    int fd;
    uint64_t offset;
    uint64_t left;
};

static ssize_t fd_read(struct ld_source *base, void *buf, size_t len, struct ld_err *err)
{
    struct fd_source *src = (struct fd_source *)base;
    ssize_t n;

    if (len > src->left)
        len = (size_t)src->left;
    if (len == 0)
        return 0;
    n = ld_pread_some(src->fd, buf, len, src->offset);
    if (n < 0)
        return ld_err_sys(err, (int)n, "read a stored file");
    if (n == 0)
        src->left = 0; /* the end stays the end, also when the file grows */
    src->offset += (uint64_t)n;
    src->left -= (uint64_t)n;
    return n;
}

static int64_t fd_skip(struct ld_source *base, uint64_t len, struct ld_err *err)
{
    struct fd_source *src = (struct fd_source *)base;
    struct stat st;
    uint64_t there;

    if (fstat(src->fd, &st) < 0)
        return ld_err_sys(err, -errno, "look at a stored file");
    there = (uint64_t)st.st_size > src->offset ? (uint64_t)st.st_size - src->offset : 0;
    if (len > there)
        len = there;
    if (len > src->left)
        len = src->left;
    if (len > INT64_MAX)
        len = INT64_MAX;
    src->offset += len;
    src->left -= len;
    return (int64_t)len;
}

struct ld_source *ld_source_fd_new(int fd, uint64_t offset, uint64_t len)
{
    static const struct ld_source_ops ops = {.read = fd_read, .skip = fd_skip, .free = free_plain};
    struct fd_source *src = ld_new(struct fd_source);

    *src = (struct fd_source){.base.ops = &ops, .fd = fd, .offset = offset, .left = len};
    return &src->base;
}

/* -- memory ------------------------------------------------------------------------------------ */

struct mem_source {
    struct ld_source base;
    const uint8_t *data;
    size_t left;
};

static int64_t mem_skip(struct ld_source *base, uint64_t len, struct ld_err *err)
{
    struct mem_source *src = (struct mem_source *)base;
    size_t n = len < src->left ? (size_t)len : src->left;

    (void)err;
    src->data += n;
    src->left -= n;
    return (int64_t)n;
}

static ssize_t mem_read(struct ld_source *base, void *buf, size_t len, struct ld_err *err)
{
    struct mem_source *src = (struct mem_source *)base;
    const uint8_t *from = src->data;
    size_t n = (size_t)mem_skip(base, len, err);

    if (n)
        memcpy(buf, from, n);
    return (ssize_t)n;
}

struct ld_source *ld_source_mem_new(const void *data, size_t len)
{
    static const struct ld_source_ops ops = {
        .read = mem_read, .skip = mem_skip, .free = free_plain};
    struct mem_source *src = ld_new(struct mem_source);

    *src = (struct mem_source){.base.ops = &ops, .data = data, .left = len};
    return &src->base;
}

/* -- a limit ----------------------------------------------------------------------------------- */

struct limit_source {
    struct ld_source base;
    struct ld_source *below;
    uint64_t max;
    uint64_t seen;
    const char *limit;
    const char *what;
};

static ssize_t limit_read(struct ld_source *base, void *buf, size_t len, struct ld_err *err)
{
    struct limit_source *src = (struct limit_source *)base;
    ssize_t n = ld_source_read(src->below, buf, len, err);

    if (n < 0)
        return -1;
    src->seen += (uint64_t)n;
    if (src->seen > src->max)
        return ld_err_over_limit(err, src->limit, src->max, "%s is larger than %" PRIu64 " bytes",
                                 src->what, src->max);
    return n;
}

struct ld_source *ld_source_limit_new(struct ld_source *below, uint64_t max, const char *limit,
                                      const char *what)
{
    static const struct ld_source_ops ops = {.read = limit_read, .free = free_plain};
    struct limit_source *src = ld_new(struct limit_source);

    *src = (struct limit_source){
        .base.ops = &ops, .below = below, .max = max, .limit = limit, .what = what};
    return &src->base;
}

/* -- a digest ---------------------------------------------------------------------------------- */

struct digest_source {
    struct ld_source base;
    struct ld_source *below;
    struct ld_sha256 *hash;
    uint64_t count;
};

static ssize_t digest_read(struct ld_source *base, void *buf, size_t len, struct ld_err *err)
{
    struct digest_source *src = (struct digest_source *)base;
    ssize_t n = ld_source_read(src->below, buf, len, err);

    if (n > 0) {
        ld_sha256_update(src->hash, buf, (size_t)n);
        src->count += (uint64_t)n;
    }
    return n;
}

static void digest_free(struct ld_source *base)
{
    struct digest_source *src = (struct digest_source *)base;

    ld_sha256_free_p(&src->hash);
    free(src);
}

struct ld_source *ld_source_digest_new(struct ld_source *below)
{
    static const struct ld_source_ops ops = {.read = digest_read, .free = digest_free};
    struct digest_source *src = ld_new(struct digest_source);

    *src = (struct digest_source){.base.ops = &ops, .below = below, .hash = ld_sha256_new()};
    return &src->base;
}

uint64_t ld_source_digest_count(const struct ld_source *src)
{
    return ((const struct digest_source *)src)->count;
}

struct ld_digest ld_source_digest_final(struct ld_source *src)
{
    return ld_sha256_final(((struct digest_source *)src)->hash);
}

/* -- limits ------------------------------------------------------------------------------------ */

int ld_err_over_limit(struct ld_err *err, const char *limit, uint64_t max, const char *fmt, ...)
{
    char text[sizeof(err->message)];
    char details[128];
    va_list ap;

    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, ap); /* ld_err cuts at the same length */
    va_end(ap);
    (void)ld_err_set(err, LD_E_BAD_CONTENT, "%s", text);
    /* The names are ours: literal words without quotes, far shorter than the array. */
    (void)snprintf(details, sizeof(details), "{\"limit\":\"%.64s\",\"value\":%" PRIu64 "}", limit,
                   max);
    return ld_err_details(err, details);
}
