/* Entries into tar blocks: see tarw.h.
 *
 * Form (Go's archive/tar is the model): ustar; where a value does not fit its field, a pax header
 * in front says it and the field holds what fits or zero. The same entry always gives the same
 * bytes. Invariant: `left` bytes of the present entry's content are still to come. One thread. */
#include "daemon/image/tarw.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "daemon/base/fdio.h"
#include "daemon/base/mem.h"

enum {
    BLOCK = 512,
    CHUNK = 256 << 10,
    MAX_OCTAL_7 = 07777777,
    PAX_MAX = LD_TAR_MAX_PAX,
};

#define MAX_OCTAL_11 UINT64_C(077777777777)

struct ld_tarw {
    struct ld_sink *sink;
    const struct ld_tar_tee *tee;
    uint64_t size; /* of the present entry's content */
    uint64_t left;
    bool is_finished;
    struct ld_buf pax;
    uint8_t block[BLOCK];
    uint8_t chunk[CHUNK];
};

struct ld_tarw *ld_tarw_new(struct ld_sink *sink, const struct ld_tar_tee *tee)
{
    struct ld_tarw *w = ld_new(struct ld_tarw);

    w->sink = sink;
    w->tee = tee;
    w->pax = LD_BUF_INIT(PAX_MAX);
    return w;
}

void ld_tarw_free(struct ld_tarw *w)
{
    if (!w)
        return;
    ld_buf_done(&w->pax);
    free(w);
}

void ld_tarw_free_p(struct ld_tarw **w)
{
    ld_tarw_free(*w);
    *w = NULL;
}

static int emit(struct ld_tarw *w, const void *data, size_t len, struct ld_err *err)
{
    if (len && w->tee && w->tee->literal(w->tee->arg, data, len, err) < 0)
        return -1;
    return ld_sink_write(w->sink, data, len, err);
}

static int emit_padding(struct ld_tarw *w, uint64_t size, struct ld_err *err)
{
    static const char zeros[BLOCK];

    return emit(w, zeros, (size_t)(-size & (BLOCK - 1)), err);
}

/* -- one block --------------------------------------------------------------------------------- */

/* value in size - 1 octal digits and a NUL. */
static void put_octal(uint8_t *field, size_t size, uint64_t value)
{
    field[size - 1] = '\0';
    for (size_t i = size - 1; i-- > 0; value >>= 3)
        field[i] = (uint8_t)('0' + (value & 7));
    assert(value == 0);
}

static void put_checksum(uint8_t block[BLOCK])
{
    uint32_t sum = 0;

    memset(block + 148, ' ', 8);
    for (size_t i = 0; i < BLOCK; i++)
        sum += block[i];
    put_octal(block + 148, 7, sum);
}

static bool is_ascii(const char *s)
{
    for (; *s; s++) {
        if (*s & 0x80)
            return false;
    }
    return true;
}

/* Where a ustar name is cut into prefix and name, both without the '/': 0 for no cut; -1: it does
 * not fit. */
static int split_name(const char *name, size_t len)
{
    if (!is_ascii(name))
        return -1;
    if (len <= 100)
        return 0;
    /* The last '/' that leaves at most 155 before it; a '/' at the end of the name is part of it.
     */
    for (size_t at = len - 2 < 155 ? len - 2 : 155; at > 0; at--) {
        if (name[at] == '/')
            return len - at - 1 <= 100 ? (int)at : -1;
    }
    return -1;
}

static void put_name(uint8_t block[BLOCK], const char *name)
{
    size_t len = strlen(name);
    int cut = split_name(name, len);

    if (cut < 0)
        return; /* the pax header has it, and an empty field cannot be taken for another name */
    if (cut > 0) {
        memcpy(block + 345, name, (size_t)cut);
        name += cut + 1;
        len -= (size_t)cut + 1;
    }
    memcpy(block, name, len);
}

static uint64_t fitting(uint64_t value, uint64_t max)
{
    return value <= max ? value : 0;
}

static bool time_fits(const struct ld_tar_entry *e)
{
    return e->mtime_sec >= 0 && (uint64_t)e->mtime_sec <= MAX_OCTAL_11;
}

static void put_magic(uint8_t block[BLOCK])
{
    memcpy(block + 257,
           "ustar\0"
           "00",
           8);
}

static char type_flag(enum ld_tar_type type)
{
    static const char flags[] = {
        [LD_TAR_FILE] = '0',  [LD_TAR_HARDLINK] = '1', [LD_TAR_SYMLINK] = '2', [LD_TAR_CHAR] = '3',
        [LD_TAR_BLOCK] = '4', [LD_TAR_FIFO] = '6',     [LD_TAR_DIR] = '5',
    };

    return flags[type];
}

static bool is_device(const struct ld_tar_entry *e)
{
    return e->type == LD_TAR_CHAR || e->type == LD_TAR_BLOCK;
}

static void build_header(uint8_t block[BLOCK], const struct ld_tar_entry *e, const char *name)
{
    memset(block, 0, BLOCK);
    put_name(block, name);
    put_octal(block + 100, 8, e->mode & 07777);
    put_octal(block + 108, 8, fitting(e->uid, MAX_OCTAL_7));
    put_octal(block + 116, 8, fitting(e->gid, MAX_OCTAL_7));
    put_octal(block + 124, 12, e->type == LD_TAR_FILE ? fitting(e->size, MAX_OCTAL_11) : 0);
    put_octal(block + 136, 12, time_fits(e) ? (uint64_t)e->mtime_sec : 0);
    block[156] = (uint8_t)type_flag(e->type);
    if (strlen(e->linkname) <= 100 && is_ascii(e->linkname))
        memcpy(block + 157, e->linkname, strlen(e->linkname));
    put_magic(block);
    put_octal(block + 329, 8, is_device(e) ? e->devmajor : 0);
    put_octal(block + 337, 8, is_device(e) ? e->devminor : 0);
    put_checksum(block);
}

/* -- the pax header ---------------------------------------------------------------------------- */

/* The length in front counts itself. */
static void add_record(struct ld_buf *pax, const char *key, const char *key2, const void *value,
                       size_t len)
{
    size_t rest = 1 + strlen(key) + strlen(key2) + 1 + len + 1;
    size_t total = rest + 1;

    for (size_t limit = 10; total >= limit; limit *= 10)
        total = rest + (size_t)snprintf(NULL, 0, "%zu", total);
    total = rest + (size_t)snprintf(NULL, 0, "%zu", total);
    ld_buf_addf(pax, "%zu %s%s=", total, key, key2);
    ld_buf_add(pax, value, len);
    ld_buf_addc(pax, '\n');
}

static void add_number(struct ld_buf *pax, const char *key, uint64_t value)
{
    char text[24];
    int n = snprintf(text, sizeof(text), "%" PRIu64, value); /* 20 digits at most */

    add_record(pax, key, "", text, (size_t)n);
}

static void add_time(struct ld_buf *pax, const struct ld_tar_entry *e)
{
    bool is_negative = e->mtime_sec < 0;
    uint64_t sec = is_negative ? -(uint64_t)e->mtime_sec : (uint64_t)e->mtime_sec;
    uint32_t nsec = e->mtime_nsec;
    char text[40];
    int n;

    if (is_negative && nsec) {
        sec -= 1;
        nsec = 1000000000 - nsec;
    }
    /* A sign, 20 digits, a point, 9 digits: less than the array. */
    n = snprintf(text, sizeof(text), "%s%" PRIu64, is_negative ? "-" : "", sec);
    if (nsec) {
        n += snprintf(text + n, sizeof(text) - (size_t)n, ".%09" PRIu32, nsec);
        while (text[n - 1] == '0')
            n--;
    }
    add_record(pax, "mtime", "", text, (size_t)n);
}

static int by_name(const void *a, const void *b)
{
    const struct ld_tar_xattr *const *x = a, *const *y = b;

    return strcmp((*x)->name, (*y)->name);
}

static int add_xattrs(struct ld_buf *pax, const struct ld_tar_entry *e, struct ld_err *err)
{
    const struct ld_tar_xattr *sorted[LD_TAR_MAX_XATTRS];

    if (e->n_xattrs > LD_TAR_MAX_XATTRS)
        return ld_err_set(err, LD_E_INVALID, "'%s' has more than %d xattrs", e->name,
                          LD_TAR_MAX_XATTRS);
    for (size_t i = 0; i < e->n_xattrs; i++)
        sorted[i] = &e->xattrs[i];
    if (e->n_xattrs > 1)
        qsort(sorted, e->n_xattrs, sizeof(sorted[0]), by_name);
    for (size_t i = 0; i < e->n_xattrs; i++) {
        if (strchr(sorted[i]->name, '='))
            return ld_err_set(err, LD_E_INVALID, "'%s' has the xattr '%s', which tar cannot name",
                              e->name, sorted[i]->name);
        add_record(pax, "SCHILY.xattr.", sorted[i]->name, sorted[i]->value, sorted[i]->len);
    }
    return 0;
}

/* The records that the entry needs, sorted by key: capitals come first. */
static int build_pax(struct ld_buf *pax, const struct ld_tar_entry *e, const char *name,
                     struct ld_err *err)
{
    ld_buf_clear(pax);
    if (add_xattrs(pax, e, err) < 0)
        return -1;
    if (e->gid > MAX_OCTAL_7)
        add_number(pax, "gid", e->gid);
    if (strlen(e->linkname) > 100 || !is_ascii(e->linkname))
        add_record(pax, "linkpath", "", e->linkname, strlen(e->linkname));
    if (e->mtime_nsec || !time_fits(e))
        add_time(pax, e);
    if (split_name(name, strlen(name)) < 0)
        add_record(pax, "path", "", name, strlen(name));
    if (e->type == LD_TAR_FILE && e->size > MAX_OCTAL_11)
        add_number(pax, "size", e->size);
    if (e->uid > MAX_OCTAL_7)
        add_number(pax, "uid", e->uid);
    if (ld_buf_check(pax) < 0)
        return ld_err_set(err, LD_E_INVALID, "the xattrs of '%s' are too large for tar", e->name);
    return 0;
}

static int emit_pax(struct ld_tarw *w, struct ld_err *err)
{
    struct ld_tar_entry header = {.name = "", .linkname = "", .mode = 0644, .size = w->pax.len};

    build_header(w->block, &header, "././@PaxHeader");
    w->block[156] = 'x';
    put_checksum(w->block);
    if (emit(w, w->block, BLOCK, err) < 0 || emit(w, w->pax.data, w->pax.len, err) < 0)
        return -1;
    return emit_padding(w, w->pax.len, err);
}

/* -- entries ----------------------------------------------------------------------------------- */

static int check(const struct ld_tar_entry *e, struct ld_err *err)
{
    if (e->name[0] == '\0')
        return ld_err_set(err, LD_E_INVALID, "an entry without a name cannot be written");
    if (strlen(e->name) >= LD_TAR_MAX_PATH || strlen(e->linkname) > LD_TAR_MAX_PATH)
        return ld_err_set(err, LD_E_INVALID, "the name '%s' is too long for tar", e->name);
    if (is_device(e) && (e->devmajor > MAX_OCTAL_7 || e->devminor > MAX_OCTAL_7))
        return ld_err_set(err, LD_E_INVALID, "the device number of '%s' is too large for tar",
                          e->name);
    return 0;
}

int ld_tarw_entry(struct ld_tarw *w, const struct ld_tar_entry *entry, struct ld_err *err)
{
    char name[LD_TAR_MAX_PATH + 2];
    size_t len;

    assert(w->left == 0 && !w->is_finished);
    if (check(entry, err) < 0)
        return -1;
    len = strlen(entry->name);
    memcpy(name, entry->name, len + 1);
    if (entry->type == LD_TAR_DIR && name[len - 1] != '/')
        memcpy(name + len, "/", 2);
    if (build_pax(&w->pax, entry, name, err) < 0 || (w->pax.len && emit_pax(w, err) < 0))
        return -1;
    build_header(w->block, entry, name);
    if (emit(w, w->block, BLOCK, err) < 0)
        return -1;
    w->size = entry->type == LD_TAR_FILE ? entry->size : 0;
    w->left = w->size;
    return 0;
}

int ld_tarw_data(struct ld_tarw *w, const void *data, size_t len, struct ld_err *err)
{
    assert(len <= w->left);
    if (emit(w, data, len, err) < 0)
        return -1;
    w->left -= len;
    return w->left == 0 && len ? emit_padding(w, w->size, err) : 0;
}

/* What a file that has become shorter lacks. */
static int fill_up(struct ld_tarw *w, bool *ret_short, struct ld_err *err)
{
    if (!ret_short)
        return ld_err_set(err, LD_E_CONFLICT, "the file has become shorter while it was read");
    *ret_short = true;
    memset(w->chunk, 0, CHUNK);
    while (w->left > 0) {
        if (ld_tarw_data(w, w->chunk, w->left < CHUNK ? (size_t)w->left : CHUNK, err) < 0)
            return -1;
    }
    return 0;
}

static int is_canceled(const bool *cancel, struct ld_err *err)
{
    if (cancel && __atomic_load_n(cancel, __ATOMIC_RELAXED))
        return ld_err_set(err, LD_E_CANCELED, "writing the archive was cancelled");
    return 0;
}

int ld_tarw_file(struct ld_tarw *w, int fd, const bool *cancel, bool *ret_short, struct ld_err *err)
{
    uint64_t offset = 0;

    assert(w->left == w->size);
    if (w->left == 0)
        return 0;
    while (w->left > 0) {
        ssize_t n = ld_pread_some(fd, w->chunk, w->left < CHUNK ? (size_t)w->left : CHUNK, offset);

        if (n < 0)
            return ld_err_sys(err, (int)n, "read a file for the archive");
        if (n == 0)
            return fill_up(w, ret_short, err);
        if (is_canceled(cancel, err) < 0 ||
            (w->tee && w->tee->payload(w->tee->arg, offset, (uint64_t)n, err) < 0) ||
            ld_sink_write(w->sink, w->chunk, (size_t)n, err) < 0)
            return -1;
        offset += (uint64_t)n;
        w->left -= (uint64_t)n;
    }
    return emit_padding(w, w->size, err);
}

int ld_tarw_finish(struct ld_tarw *w, struct ld_err *err)
{
    assert(w->left == 0 && !w->is_finished);
    w->is_finished = true;
    memset(w->block, 0, BLOCK);
    return emit(w, w->block, BLOCK, err) < 0 ? -1 : emit(w, w->block, BLOCK, err);
}
