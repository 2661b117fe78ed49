/* Writing a recipe: see recipe.h, and recipe_impl.h for the form. One thread.
 *
 * Literals are gathered in `literal` so that a header and the padding before it are one record;
 * runs of payload of one file are gathered too. At most one of literal_len, run_len, zeros is not
 * 0. */
#include "daemon/image/recipe.h"

#include <inttypes.h>
#include <string.h>

#include <zstd.h>

#include "daemon/base/buf.h"
#include "daemon/base/fdio.h"
#include "daemon/base/mem.h"
#include "daemon/image/recipe_impl.h"

enum {
    LEVEL = 3, /* of compression: 31 bytes an entry; 6 gives 28 for four times the time */
    LITERAL = 64 << 10,
    OUT = 128 << 10,
    ZERO_RUN = 4096, /* shorter ones are left to the compressor */
};

struct ld_recipe {
    int fd;
    ZSTD_CCtx *zstd;
    uint64_t written;  /* to fd */
    uint64_t tar_size; /* told so far */
    uint64_t files;    /* FILE records so far */
    struct ld_buf moves;

    char *path; /* of the payload to come */
    bool path_written;
    uint64_t run_offset, run_len;
    uint64_t zeros;
    size_t literal_len;
    uint8_t literal[LITERAL];
    uint8_t out[OUT];
};

struct ld_recipe *ld_recipe_new(int fd)
{
    struct ld_recipe *r = ld_new(struct ld_recipe);

    r->fd = fd;
    r->moves = LD_BUF_INIT(LD_RECIPE_MAX_MOVES);
    return r;
}

void ld_recipe_free(struct ld_recipe *r)
{
    if (!r)
        return;
    (void)ZSTD_freeCCtx(r->zstd); /* only frees */
    ld_buf_done(&r->moves);
    free(r->path);
    free(r);
}

void ld_recipe_free_p(struct ld_recipe **r)
{
    ld_recipe_free(*r);
    *r = NULL;
}

/* -- the file ---------------------------------------------------------------------------------- */

static int write_out(struct ld_recipe *r, const void *data, size_t len, struct ld_err *err)
{
    int rc = ld_write_full(r->fd, data, len);

    if (rc < 0)
        return ld_err_sys(err, rc, "write the layer's recipe");
    r->written += len;
    return 0;
}

static int begin(struct ld_recipe *r, struct ld_err *err)
{
    if (r->zstd)
        return 0;
    r->zstd = ZSTD_createCCtx();
    if (!r->zstd || ZSTD_isError(ZSTD_CCtx_setParameter(r->zstd, ZSTD_c_compressionLevel, LEVEL)) ||
        ZSTD_isError(ZSTD_CCtx_setParameter(r->zstd, ZSTD_c_checksumFlag, 1)))
        return ld_err_set(err, LD_E_UNAVAILABLE, "no memory for the layer's recipe");
    return write_out(r, LD_RECIPE_MAGIC, LD_RECIPE_HEAD, err);
}

static int compress(struct ld_recipe *r, const void *data, size_t len, ZSTD_EndDirective end,
                    struct ld_err *err)
{
    ZSTD_inBuffer in = {data, len, 0};
    size_t left;

    if (begin(r, err) < 0)
        return -1;
    do {
        ZSTD_outBuffer out = {r->out, OUT, 0};

        left = ZSTD_compressStream2(r->zstd, &out, &in, end);
        if (ZSTD_isError(left))
            return ld_err_set(err, LD_E_UNAVAILABLE, "compress the layer's recipe: %s",
                              ZSTD_getErrorName(left));
        if (out.pos && write_out(r, r->out, out.pos, err) < 0)
            return -1;
    } while (in.pos < in.size || (end == ZSTD_e_end && left > 0));
    return 0;
}

static size_t put_varint(uint8_t *p, uint64_t value)
{
    size_t n = 0;

    for (; value >= 0x80; value >>= 7)
        p[n++] = (uint8_t)(value | 0x80);
    p[n++] = (uint8_t)value;
    return n;
}

/* The longest length is 2^62 - 1, more than any file or archive has. */
static int put_record(struct ld_recipe *r, enum ld_recipe_kind kind, uint64_t len,
                      struct ld_err *err)
{
    uint8_t varint[LD_RECIPE_VARINT];

    return compress(r, varint, put_varint(varint, len << 2 | kind), ZSTD_e_continue, err);
}

/* -- gathering --------------------------------------------------------------------------------- */

static int flush_literal(struct ld_recipe *r, struct ld_err *err)
{
    size_t len = r->literal_len;

    r->literal_len = 0;
    if (len == 0)
        return 0;
    if (put_record(r, LD_RECIPE_LITERAL, len, err) < 0)
        return -1;
    return compress(r, r->literal, len, ZSTD_e_continue, err);
}

static int flush_run(struct ld_recipe *r, struct ld_err *err)
{
    uint8_t varint[LD_RECIPE_VARINT];
    uint64_t len = r->run_len;

    r->run_len = 0;
    if (len == 0)
        return 0;
    if (put_record(r, LD_RECIPE_DATA, len, err) < 0)
        return -1;
    return compress(r, varint, put_varint(varint, r->run_offset), ZSTD_e_continue, err);
}

static int flush_zeros(struct ld_recipe *r, struct ld_err *err)
{
    uint64_t len = r->zeros;

    r->zeros = 0;
    return len ? put_record(r, LD_RECIPE_ZEROS, len, err) : 0;
}

static int flush(struct ld_recipe *r, struct ld_err *err)
{
    if (flush_literal(r, err) < 0 || flush_run(r, err) < 0)
        return -1;
    return flush_zeros(r, err);
}

static bool is_zero(const uint8_t *data, size_t len)
{
    return data[0] == 0 && memcmp(data, data + 1, len - 1) == 0;
}

static int add_literal(void *arg, const void *data, size_t len, struct ld_err *err)
{
    struct ld_recipe *r = arg;

    r->tar_size += len;
    if (len >= ZERO_RUN && is_zero(data, len)) {
        if (flush_literal(r, err) < 0 || flush_run(r, err) < 0)
            return -1;
        r->zeros += len;
        return 0;
    }
    if (flush_run(r, err) < 0 || flush_zeros(r, err) < 0)
        return -1;
    for (size_t done = 0; done < len;) {
        size_t n = LITERAL - r->literal_len;

        if (n > len - done)
            n = len - done;
        memcpy(r->literal + r->literal_len, (const uint8_t *)data + done, n);
        r->literal_len += n;
        done += n;
        if (r->literal_len == LITERAL && flush_literal(r, err) < 0)
            return -1;
    }
    return 0;
}

static int name_file(struct ld_recipe *r, struct ld_err *err)
{
    size_t len;

    if (r->path_written)
        return 0;
    if (!r->path)
        return ld_err_set(err, LD_E_INTERNAL, "payload of no file was recorded");
    len = strlen(r->path);
    r->path_written = true;
    r->files++;
    if (put_record(r, LD_RECIPE_FILE, len, err) < 0)
        return -1;
    return compress(r, r->path, len, ZSTD_e_continue, err);
}

static int add_payload(void *arg, uint64_t offset, uint64_t len, struct ld_err *err)
{
    struct ld_recipe *r = arg;

    r->tar_size += len;
    if (r->run_len && r->path_written && offset == r->run_offset + r->run_len) {
        r->run_len += len;
        return 0;
    }
    if (flush(r, err) < 0 || name_file(r, err) < 0)
        return -1;
    r->run_offset = offset;
    r->run_len = len;
    return 0;
}

struct ld_tar_tee ld_recipe_tee(struct ld_recipe *r)
{
    return (struct ld_tar_tee){.literal = add_literal, .payload = add_payload, .arg = r};
}

static int check_path(const char *path, struct ld_err *err)
{
    if (strlen(path) > LD_RECIPE_MAX_PATH)
        return ld_err_over_limit(err, "max_path", LD_RECIPE_MAX_PATH,
                                 "the real path of '%.200s…' is longer than %d bytes", path,
                                 LD_RECIPE_MAX_PATH);
    return 0;
}

int ld_recipe_file(struct ld_recipe *r, const char *path, struct ld_err *err)
{
    if (check_path(path, err) < 0 || flush_run(r, err) < 0)
        return -1;
    free(r->path);
    r->path = ld_strdup(path);
    r->path_written = false;
    return 0;
}

int ld_recipe_moved(struct ld_recipe *r, const char *path, uint64_t n, struct ld_err *err)
{
    uint8_t varint[LD_RECIPE_VARINT];
    const uint64_t values[] = {r->files, n, strlen(path)};

    if (check_path(path, err) < 0)
        return -1;
    for (size_t i = 0; i < LD_ARRAY_LEN(values); i++)
        ld_buf_add(&r->moves, varint, put_varint(varint, values[i]));
    ld_buf_adds(&r->moves, path);
    if (ld_buf_check(&r->moves) < 0)
        return ld_err_over_limit(err, "max_replaced", LD_RECIPE_MAX_MOVES,
                                 "too many entries of the layer replace earlier ones");
    return 0;
}

static void put_u64(uint8_t *p, uint64_t value)
{
    for (int i = 0; i < 8; i++, value >>= 8)
        p[i] = (uint8_t)value;
}

int ld_recipe_finish(struct ld_recipe *r, struct ld_err *err)
{
    uint8_t foot[LD_RECIPE_FOOT];
    uint64_t moves_at;

    if (flush(r, err) < 0 || compress(r, NULL, 0, ZSTD_e_end, err) < 0)
        return -1;
    moves_at = r->written;
    if (compress(r, r->moves.data, r->moves.len, ZSTD_e_end, err) < 0)
        return -1;
    put_u64(foot, moves_at);
    put_u64(foot + 8, r->written - moves_at);
    put_u64(foot + 16, r->tar_size);
    memcpy(foot + 24, LD_RECIPE_END, 8);
    return write_out(r, foot, sizeof(foot), err);
}
