/* The pull parser: blocks from the source into entries. See tar.h; one block is read in
 * tar_header.c, extended headers in tar_pax.c, sparse maps in tar_sparse.c.
 *
 * Invariants: bytes between `at` and `end` of the buffer are read and not yet told to the tee;
 * every byte is told exactly once, when it is passed. `stored_left` bytes of payload and then
 * `padding` bytes lie between the present position and the next header. Nothing here grows with the
 * archive. One thread. */
#include "daemon/image/tar.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "daemon/base/buf.h"
#include "daemon/base/mem.h"
#include "daemon/image/tar_impl.h"

enum { BUFFER = 256 << 10, DIGITS_MAX = 20 };

struct ld_tar {
    struct ld_source *source;
    struct ld_tar_limits limits;
    const struct ld_tar_tee *tee;

    uint8_t *buffer;
    size_t at, end;
    bool source_ended;
    uint64_t passed; /* bytes of the stream before `at` */

    /* The entry just given. */
    uint64_t number;
    uint64_t stored; /* bytes of its payload in the stream, without a map at their front */
    uint64_t stored_left;
    uint64_t payload_at;
    uint32_t padding;
    struct ld_tar_map map;
    size_t segment; /* the one that comes next, and how much of it has been given */
    uint64_t segment_done;
    uint64_t size;
    char label[160]; /* its name for messages */

    /* What stood before it. */
    struct ld_tar_header header;
    struct ld_buf long_name, long_link;
    struct ld_buf pax_data, global_data;
    struct ld_tar_pax pax;
    bool has_pax;
    unsigned extensions;
};

struct ld_tar *ld_tar_new(struct ld_source *source, const struct ld_tar_limits *limits,
                          const struct ld_tar_tee *tee)
{
    struct ld_tar *tar = ld_new(struct ld_tar);

    tar->source = source;
    tar->limits = *limits;
    if (tar->limits.max_entries == 0)
        tar->limits.max_entries = LD_TAR_MAX_ENTRIES;
    tar->tee = tee;
    tar->buffer = ld_alloc0(BUFFER);
    tar->long_name = LD_BUF_INIT(LD_TAR_MAX_PATH + 1);
    tar->long_link = LD_BUF_INIT(LD_TAR_MAX_PATH + 1);
    tar->global_data = LD_BUF_INIT(LD_TAR_MAX_GLOBAL);
    tar->pax_data = LD_BUF_INIT(LD_TAR_MAX_GLOBAL + LD_TAR_MAX_PAX);
    return tar;
}

void ld_tar_free(struct ld_tar *tar)
{
    if (!tar)
        return;
    ld_buf_done(&tar->long_name);
    ld_buf_done(&tar->long_link);
    ld_buf_done(&tar->global_data);
    ld_buf_done(&tar->pax_data);
    free(tar->map.segments);
    free(tar->buffer);
    free(tar);
}

void ld_tar_free_p(struct ld_tar **tar)
{
    ld_tar_free(*tar);
    *tar = NULL;
}

uint64_t ld_tar_payload_offset(const struct ld_tar *tar)
{
    return tar->payload_at;
}

uint64_t ld_tar_payload_size(const struct ld_tar *tar)
{
    return tar->stored;
}

/* -- the buffer -------------------------------------------------------------------------------- */

/* At least `want` bytes (at most a block) in the buffer, or all that is left. */
static int fill(struct ld_tar *tar, size_t want, struct ld_err *err)
{
    if (tar->end - tar->at >= want || tar->source_ended)
        return 0;
    memmove(tar->buffer, tar->buffer + tar->at, tar->end - tar->at);
    tar->end -= tar->at;
    tar->at = 0;
    while (tar->end < want && !tar->source_ended) {
        ssize_t n = ld_source_read(tar->source, tar->buffer + tar->end, BUFFER - tar->end, err);

        if (n < 0)
            return -1;
        tar->source_ended = n == 0;
        tar->end += (size_t)n;
    }
    return 0;
}

/* Passes n bytes of the buffer as literals. */
static int pass(struct ld_tar *tar, size_t n, struct ld_err *err)
{
    const uint8_t *data = tar->buffer + tar->at;

    tar->at += n;
    tar->passed += n;
    if (tar->tee && n && tar->tee->literal(tar->tee->arg, data, n, err) < 0)
        return -1;
    return 0;
}

/* Passes up to n bytes of the stream as literals; *ret: how many there were. */
static int pass_over(struct ld_tar *tar, uint64_t n, uint64_t *ret, struct ld_err *err)
{
    uint64_t done = 0;

    while (done < n) {
        size_t have = tar->end - tar->at;
        uint64_t skipped;

        if (have == 0 && !tar->tee) {
            if (ld_source_skip(tar->source, n - done, &skipped, err) < 0)
                return -1;
            tar->passed += skipped;
            done += skipped;
            break;
        }
        if (have == 0 && fill(tar, 1, err) < 0)
            return -1;
        have = tar->end - tar->at;
        if (have == 0)
            break;
        if (have > n - done)
            have = (size_t)(n - done);
        if (pass(tar, have, err) < 0)
            return -1;
        done += have;
    }
    *ret = done;
    return 0;
}

static int truncated(struct ld_err *err)
{
    return ld_err_set(err, LD_E_BAD_CONTENT, "the archive is truncated");
}

/* Passes one block and points to it (until the next call): 1; 0 where the stream ends before it. */
static int next_block(struct ld_tar *tar, const uint8_t **ret, struct ld_err *err)
{
    size_t have;

    if (fill(tar, LD_TAR_BLOCK_SIZE, err) < 0)
        return -1;
    have = tar->end - tar->at;
    if (have == 0)
        return 0;
    if (have < LD_TAR_BLOCK_SIZE)
        return truncated(err);
    *ret = tar->buffer + tar->at;
    return pass(tar, LD_TAR_BLOCK_SIZE, err) < 0 ? -1 : 1;
}

/* Appends the next n bytes of the stream to buf, passing them. */
static int pass_into(struct ld_tar *tar, uint64_t n, struct ld_buf *buf, struct ld_err *err)
{
    while (n > 0) {
        size_t have;

        if (fill(tar, 1, err) < 0)
            return -1;
        have = tar->end - tar->at;
        if (have == 0)
            return truncated(err);
        if (have > n)
            have = (size_t)n;
        ld_buf_add(buf, tar->buffer + tar->at, have);
        if (pass(tar, have, err) < 0)
            return -1;
        n -= have;
    }
    return 0;
}

static uint32_t padding_of(uint64_t size)
{
    return (uint32_t)(-size & (LD_TAR_BLOCK_SIZE - 1));
}

/* What is left of the entry before. Its padding may be missing at the end of the stream. */
static int finish_entry(struct ld_tar *tar, struct ld_err *err)
{
    uint64_t want = tar->stored_left;
    uint64_t got;

    if (pass_over(tar, want, &got, err) < 0)
        return -1;
    if (got < want) {
        (void)truncated(err);
        return ld_err_prefix(err, "%s", tar->label);
    }
    if (pass_over(tar, tar->padding, &got, err) < 0)
        return -1;
    tar->stored_left = 0;
    tar->padding = 0;
    return 0;
}

/* -- headers in front of an entry ----------------------------------------------------------------
 */

static int over(const char *what, uint64_t max, struct ld_err *err)
{
    return ld_err_over_limit(err, "max_header", max, "its %s is larger than %" PRIu64 " bytes",
                             what, max);
}

/* The content of an extension header, and its padding. */
static int read_extension(struct ld_tar *tar, uint64_t max, const char *what, struct ld_buf *buf,
                          struct ld_err *err)
{
    uint64_t size = tar->header.size;
    uint64_t got;

    if (size > max)
        return over(what, max, err);
    if (pass_into(tar, size, buf, err) < 0 || pass_over(tar, padding_of(size), &got, err) < 0)
        return -1;
    return got < padding_of(size) ? truncated(err) : 0;
}

/* The kernel takes no name with a NUL, and GNU tar ends its long names with one. */
static int read_long(struct ld_tar *tar, struct ld_buf *buf, struct ld_err *err)
{
    ld_buf_clear(buf);
    if (read_extension(tar, LD_TAR_MAX_PATH + 1, "name", buf, err) < 0)
        return -1;
    buf->len = strlen(ld_buf_str(buf));
    return 0;
}

static void reset_pax(struct ld_tar *tar)
{
    /* The array of xattrs is large and its used part is counted. */
    tar->pax.has = 0;
    tar->pax.path = tar->pax.linkpath = NULL;
    tar->pax.n_xattrs = tar->pax.xattr_records = 0;
    tar->pax.means_something = false;
    tar->pax.sparse_name = tar->pax.sparse_major = tar->pax.sparse_minor = NULL;
    tar->pax.has_map = tar->pax.offset_pending = false;
    tar->pax.map = &tar->map;
    tar->map.n = 0;
}

/* A local header replaces an earlier one of the same entry and lies on top of the global ones. */
static int read_pax(struct ld_tar *tar, struct ld_err *err)
{
    ld_buf_clear(&tar->pax_data);
    ld_buf_add(&tar->pax_data, tar->global_data.data, tar->global_data.len);
    tar->has_pax = true;
    return read_extension(tar, LD_TAR_MAX_PAX, "extended header", &tar->pax_data, err);
}

static int read_global(struct ld_tar *tar, struct ld_err *err)
{
    size_t before = tar->global_data.len;
    autofree char *copy = NULL;

    if (read_extension(tar, LD_TAR_MAX_GLOBAL - before, "global header", &tar->global_data, err) <
        0)
        return -1;
    reset_pax(tar);
    copy = ld_memdup(ld_buf_str(&tar->global_data) + before, tar->global_data.len - before);
    if (ld_tar_pax_parse(&tar->pax, copy, tar->global_data.len - before, err) < 0 ||
        ld_tar_pax_check_global(&tar->pax, err) < 0)
        return -1;
    if (!tar->pax.means_something)
        tar->global_data.len = before; /* nothing but comments, git's for example */
    return 0;
}

static int skip_label(struct ld_tar *tar, struct ld_err *err)
{
    tar->stored_left = tar->header.size;
    tar->padding = padding_of(tar->header.size);
    return finish_entry(tar, err);
}

/* 1: the header was one of those in front of an entry, and has been read; 0: it is an entry. */
static int read_if_extension(struct ld_tar *tar, struct ld_err *err)
{
    int rc;

    switch (tar->header.type) {
    case 'x':
    case 'X': /* Sun's name for it */
        rc = read_pax(tar, err);
        break;
    case 'g':
        rc = read_global(tar, err);
        break;
    case 'L':
        rc = read_long(tar, &tar->long_name, err);
        break;
    case 'K':
        rc = read_long(tar, &tar->long_link, err);
        break;
    case 'V':
        rc = skip_label(tar, err);
        break;
    default:
        return 0;
    }
    if (rc < 0)
        return -1;
    if (++tar->extensions > LD_TAR_MAX_EXTENSIONS)
        return ld_err_set(err, LD_E_BAD_CONTENT, "too many extended headers stand before it");
    return 1;
}

/* -- sparse files ------------------------------------------------------------------------------ */

/* Extension blocks follow an old GNU sparse header directly. */
static int read_old_sparse(struct ld_tar *tar, const uint8_t *header, uint64_t *ret_size,
                           struct ld_err *err)
{
    int64_t size;
    bool has_more;

    tar->map.n = 0;
    if (ld_tar_number(header + 483, 12, &size) < 0 || size < 0)
        return ld_err_set(err, LD_E_BAD_CONTENT, "its real size is not a number");
    if (ld_tar_map_add_block(&tar->map, header, true, &has_more, err) < 0)
        return -1;
    /* Blocks without a pair count as well, so that a flag cannot keep us busy for nothing. */
    for (unsigned blocks = 0; has_more; blocks++) {
        const uint8_t *block;
        int rc = next_block(tar, &block, err);

        if (rc <= 0)
            return rc < 0 ? -1 : truncated(err);
        if (blocks > LD_TAR_MAX_SEGMENTS)
            return ld_err_set(err, LD_E_BAD_CONTENT, "its map of holes is malformed");
        if (ld_tar_map_add_block(&tar->map, block, false, &has_more, err) < 0)
            return -1;
    }
    *ret_size = (uint64_t)size;
    return 0;
}

/* One decimal number and its newline out of the blocks of a 1.0 map. */
struct map_reader {
    const uint8_t *block;
    size_t at; /* LD_TAR_BLOCK_SIZE: the next block is wanted */
};

static int read_map_number(struct ld_tar *tar, struct map_reader *r, uint64_t *ret,
                           struct ld_err *err)
{
    uint64_t value = 0;

    for (int digits = 0; digits <= DIGITS_MAX; digits++) {
        uint8_t c;

        if (r->at == LD_TAR_BLOCK_SIZE) {
            int rc;

            if (tar->stored_left < LD_TAR_BLOCK_SIZE)
                break;
            rc = next_block(tar, &r->block, err);
            if (rc <= 0)
                return rc < 0 ? -1 : truncated(err);
            tar->stored_left -= LD_TAR_BLOCK_SIZE;
            r->at = 0;
        }
        c = r->block[r->at++];
        if (c == '\n' && digits > 0) {
            *ret = value;
            return 0;
        }
        if (c < '0' || c > '9' || __builtin_mul_overflow(value, 10, &value) ||
            __builtin_add_overflow(value, c - '0', &value) || value > INT64_MAX)
            break;
    }
    return ld_err_set(err, LD_E_BAD_CONTENT, "its map of holes is malformed");
}

/* Form 1.0 keeps the map in whole blocks at the front of the payload. */
static int read_map(struct ld_tar *tar, struct ld_err *err)
{
    struct map_reader reader = {.at = LD_TAR_BLOCK_SIZE};
    uint64_t n;

    tar->map.n = 0;
    if (read_map_number(tar, &reader, &n, err) < 0)
        return -1;
    for (uint64_t i = 0; i < n; i++) {
        uint64_t offset, len;

        if (read_map_number(tar, &reader, &offset, err) < 0 ||
            read_map_number(tar, &reader, &len, err) < 0 ||
            ld_tar_map_add(&tar->map, offset, len, err) < 0)
            return -1;
    }
    return 0;
}

/* -- entries ----------------------------------------------------------------------------------- */

/* The names, by who says them last: header, pax, GNU's long headers. */
static void choose_names(struct ld_tar *tar, enum ld_tar_sparse sparse, struct ld_tar_entry *e)
{
    e->name = tar->header.name;
    e->linkname = tar->header.linkname;
    if (tar->pax.path)
        e->name = tar->pax.path;
    if (tar->pax.linkpath)
        e->linkname = tar->pax.linkpath;
    if (sparse != LD_TAR_NOT_SPARSE && tar->pax.sparse_name)
        e->name = tar->pax.sparse_name;
    if (tar->long_name.len)
        e->name = ld_buf_str(&tar->long_name);
    if (tar->long_link.len)
        e->linkname = ld_buf_str(&tar->long_link);
}

static void set_label(struct ld_tar *tar, const char *name)
{
    if (name)
        (void)snprintf(tar->label, sizeof(tar->label), "entry %" PRIu64 " '%.100s'", tar->number,
                       name);
    else
        (void)snprintf(tar->label, sizeof(tar->label), "entry %" PRIu64, tar->number);
}

static int choose_type(const struct ld_tar *tar, struct ld_tar_entry *e, struct ld_err *err)
{
    size_t len = strlen(e->name);
    unsigned char type = (unsigned char)tar->header.type;

    switch (type) {
    case '\0':
        e->type = len && e->name[len - 1] == '/' ? LD_TAR_DIR : LD_TAR_FILE;
        return 0;
    case '0':
    case '7': /* contiguous */
    case 'S':
        e->type = LD_TAR_FILE;
        return 0;
    case '1':
        e->type = LD_TAR_HARDLINK;
        return 0;
    case '2':
        e->type = LD_TAR_SYMLINK;
        return 0;
    case '3':
        e->type = LD_TAR_CHAR;
        return 0;
    case '4':
        e->type = LD_TAR_BLOCK;
        return 0;
    case '5':
    case 'D': /* a directory with a list of names, which means nothing here, as its payload */
        e->type = LD_TAR_DIR;
        return 0;
    case '6':
        e->type = LD_TAR_FIFO;
        return 0;
    case 'M':
        return ld_err_set(err, LD_E_BAD_CONTENT,
                          "it continues a file of another volume, which is not supported");
    default:
        return ld_err_set(err, LD_E_BAD_CONTENT, "its type 0x%02x is not known", type);
    }
}

static int check_names(struct ld_tar_entry *e, struct ld_err *err)
{
    size_t max = e->type == LD_TAR_SYMLINK ? LD_TAR_MAX_TARGET : LD_TAR_MAX_PATH;

    if (e->name[0] == '\0')
        return ld_err_set(err, LD_E_BAD_CONTENT, "it has no name");
    if (strlen(e->name) > LD_TAR_MAX_PATH)
        return over("name", LD_TAR_MAX_PATH, err);
    if (e->type != LD_TAR_HARDLINK && e->type != LD_TAR_SYMLINK) {
        e->linkname = "";
        return 0;
    }
    if (e->linkname[0] == '\0')
        return ld_err_set(err, LD_E_BAD_CONTENT, "it is a link to nothing");
    return strlen(e->linkname) > max ? over("link's target", max, err) : 0;
}

static int set_owner(uint64_t id, const char *what, uint32_t *ret, struct ld_err *err)
{
    /* (uid_t)-1 is chown's "leave alone". */
    if (id >= UINT32_MAX)
        return ld_err_set(err, LD_E_BAD_CONTENT, "its %s %" PRIu64 " is out of range", what, id);
    *ret = (uint32_t)id;
    return 0;
}

static int set_values(const struct ld_tar *tar, struct ld_tar_entry *e, struct ld_err *err)
{
    const struct ld_tar_header *h = &tar->header;
    const struct ld_tar_pax *pax = &tar->pax;

    if (set_owner(pax->has & LD_TAR_PAX_UID ? pax->uid : h->uid, "owner", &e->uid, err) < 0 ||
        set_owner(pax->has & LD_TAR_PAX_GID ? pax->gid : h->gid, "group", &e->gid, err) < 0)
        return -1;
    e->mode = h->mode;
    e->mtime_sec = pax->has & LD_TAR_PAX_MTIME ? pax->mtime_sec : h->mtime;
    e->mtime_nsec = pax->has & LD_TAR_PAX_MTIME ? pax->mtime_nsec : 0;
    e->xattrs = pax->xattrs;
    e->n_xattrs = pax->n_xattrs;
    if (e->type != LD_TAR_CHAR && e->type != LD_TAR_BLOCK)
        return 0;
    if (h->devmajor > UINT32_MAX || h->devminor > UINT32_MAX)
        return ld_err_set(err, LD_E_BAD_CONTENT, "its device number is out of range");
    e->devmajor = (uint32_t)h->devmajor;
    e->devminor = (uint32_t)h->devminor;
    return 0;
}

/* How much payload follows, and where it belongs in the file. */
static int set_payload(struct ld_tar *tar, const uint8_t *block, enum ld_tar_sparse sparse,
                       struct ld_tar_entry *e, struct ld_err *err)
{
    uint64_t stored = tar->pax.has & LD_TAR_PAX_SIZE ? tar->pax.size : tar->header.size;
    bool is_old_sparse = tar->header.type == 'S';

    if (e->type != LD_TAR_FILE && tar->header.type != 'D')
        stored = 0;
    tar->stored_left = stored;
    tar->padding = padding_of(stored);
    e->size = e->type == LD_TAR_FILE ? stored : 0;
    e->is_sparse = is_old_sparse || (sparse != LD_TAR_NOT_SPARSE && e->type == LD_TAR_FILE);
    if (is_old_sparse && read_old_sparse(tar, block, &e->size, err) < 0)
        return -1;
    if (!is_old_sparse && e->is_sparse) {
        e->size = tar->pax.real_size;
        if (sparse == LD_TAR_SPARSE_1 && read_map(tar, err) < 0)
            return -1;
    }
    if (!e->is_sparse) {
        tar->map.n = 0;
        if (ld_tar_map_add(&tar->map, 0, e->size, err) < 0)
            return -1;
    }
    if (tar->limits.max_file_size && e->size > tar->limits.max_file_size)
        return ld_err_over_limit(err, "layer_bytes", tar->limits.max_file_size,
                                 "its size %" PRIu64 " is over the limit of %" PRIu64, e->size,
                                 tar->limits.max_file_size);
    tar->stored = tar->stored_left;
    tar->payload_at = tar->passed;
    return ld_tar_map_check(&tar->map, e->size, e->type == LD_TAR_FILE ? tar->stored : 0, err);
}

/* The header is read: everything that goes into the entry. */
static int make_entry(struct ld_tar *tar, const uint8_t *block, struct ld_tar_entry *e,
                      struct ld_err *err)
{
    enum ld_tar_sparse sparse;

    *e = (struct ld_tar_entry){.number = tar->number};
    reset_pax(tar);
    if (!tar->has_pax) {
        ld_buf_clear(&tar->pax_data);
        ld_buf_add(&tar->pax_data, tar->global_data.data, tar->global_data.len);
    }
    if (ld_tar_pax_parse(&tar->pax, tar->pax_data.data, tar->pax_data.len, err) < 0 ||
        ld_tar_pax_sparse(&tar->pax, &sparse, err) < 0)
        return -1;
    choose_names(tar, sparse, e);
    set_label(tar, e->name);
    if (choose_type(tar, e, err) < 0 || check_names(e, err) < 0 || set_values(tar, e, err) < 0 ||
        set_payload(tar, block, sparse, e, err) < 0)
        return -1;
    tar->size = e->size;
    tar->segment = 0;
    tar->segment_done = 0;
    return 0;
}

/* The first zero block is read. Whatever comes after the second belongs to the stream only. */
static int read_end(struct ld_tar *tar, struct ld_err *err)
{
    const uint8_t *block;
    uint64_t got;
    int rc = next_block(tar, &block, err);

    if (rc < 0)
        return -1;
    if (rc > 0 && !ld_tar_block_is_zero(block))
        return ld_err_set(err, LD_E_BAD_CONTENT, "a single zero block stands before it");
    return pass_over(tar, UINT64_MAX, &got, err);
}

static int next_entry(struct ld_tar *tar, struct ld_tar_entry *e, struct ld_err *err)
{
    const uint8_t *block;
    int rc;

    for (;;) {
        rc = next_block(tar, &block, err);
        if (rc < 0)
            return -1;
        if (rc == 0 || ld_tar_block_is_zero(block))
            break;
        if (ld_tar_header_parse(block, &tar->header, err) < 0)
            return -1;
        rc = read_if_extension(tar, err);
        if (rc < 0)
            return -1;
        if (rc > 0)
            continue;
        if (tar->number > tar->limits.max_entries)
            return ld_err_over_limit(err, "layer_entries", tar->limits.max_entries,
                                     "the archive has more than %" PRIu64 " entries",
                                     tar->limits.max_entries);
        return make_entry(tar, block, e, err) < 0 ? -1 : 1;
    }
    if (tar->has_pax || tar->long_name.len || tar->long_link.len)
        return ld_err_set(err, LD_E_BAD_CONTENT, "the archive ends after an extended header");
    return rc == 0 ? 0 : read_end(tar, err);
}

int ld_tar_next(struct ld_tar *tar, struct ld_tar_entry *ret, struct ld_err *err)
{
    struct ld_tar_entry entry;
    int rc;

    if (finish_entry(tar, err) < 0)
        return -1;
    tar->number++;
    set_label(tar, NULL);
    tar->has_pax = false;
    tar->extensions = 0;
    ld_buf_clear(&tar->long_name);
    ld_buf_clear(&tar->long_link);
    rc = next_entry(tar, &entry, err);
    if (rc < 0)
        return ld_err_prefix(err, "%s", tar->label);
    if (rc > 0)
        *ret = entry;
    return rc;
}

/* -- payload ----------------------------------------------------------------------------------- */

int ld_tar_data(struct ld_tar *tar, struct ld_tar_piece *ret, struct ld_err *err)
{
    const struct ld_tar_segment *s = &tar->map.segments[tar->segment];
    size_t have;

    if (tar->segment >= tar->map.n)
        return 0;
    if (fill(tar, 1, err) < 0)
        return ld_err_prefix(err, "%s", tar->label);
    have = tar->end - tar->at;
    if (have == 0) {
        (void)truncated(err);
        return ld_err_prefix(err, "%s", tar->label);
    }
    if (have > s->len - tar->segment_done)
        have = (size_t)(s->len - tar->segment_done);
    *ret = (struct ld_tar_piece){
        .data = tar->buffer + tar->at, .len = have, .offset = s->offset + tar->segment_done};
    tar->at += have;
    tar->passed += have;
    tar->stored_left -= have;
    tar->segment_done += have;
    if (tar->segment_done == s->len) {
        tar->segment++;
        tar->segment_done = 0;
    }
    if (tar->tee && tar->tee->payload(tar->tee->arg, ret->offset, have, err) < 0)
        return -1;
    return 1;
}

struct content_source {
    struct ld_source base;
    struct ld_tar *tar;
    struct ld_tar_piece piece;
    uint64_t at;
};

static ssize_t content_read(struct ld_source *base, void *buf, size_t len, struct ld_err *err)
{
    struct content_source *src = (struct content_source *)base;
    uint64_t data_at;

    if (src->piece.len == 0) {
        int rc = ld_tar_data(src->tar, &src->piece, err);

        if (rc < 0)
            return -1;
        if (rc == 0)
            src->piece = (struct ld_tar_piece){.offset = src->tar->size};
    }
    data_at = src->piece.offset;
    if (src->at < data_at) {
        if (len > data_at - src->at)
            len = (size_t)(data_at - src->at);
        memset(buf, 0, len);
    } else {
        if (len > src->piece.len)
            len = src->piece.len;
        if (len)
            memcpy(buf, src->piece.data, len);
        src->piece.data = (const uint8_t *)src->piece.data + len;
        src->piece.len -= len;
        src->piece.offset += len;
    }
    src->at += len;
    return (ssize_t)len;
}

static void content_free(struct ld_source *base)
{
    free(base);
}

struct ld_source *ld_tar_content_new(struct ld_tar *tar)
{
    static const struct ld_source_ops ops = {.read = content_read, .free = content_free};
    struct content_source *src = ld_new(struct content_source);

    *src = (struct content_source){.base.ops = &ops, .tar = tar};
    return &src->base;
}
