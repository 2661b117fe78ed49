/* Reading a recipe: replay and the pass over headers. See recipe.h, and recipe_impl.h for the form.
 *
 * A recipe is our own file, but it is parsed as if it came from outside: a damaged one gives code
 * corrupt and never a path out of the layer (openat2 BENEATH). One thread per reader; the
 * descriptor may be shared. */
#include "daemon/image/recipe.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "daemon/base/fdio.h"
#include "daemon/base/mem.h"
#include "daemon/image/codec.h"
#include "daemon/image/recipe_impl.h"

enum { BUFFER = 64 << 10, CHUNK = 256 << 10 };

/* -- records ----------------------------------------------------------------------------------- */

struct reader {
    struct ld_source *file;
    struct ld_source *plain;
    size_t at, end;
    uint8_t buffer[BUFFER];
};

struct foot {
    uint64_t moves_at, moves_len, tar_size;
};

/* What codecs call bad content is damage here: the file is ours. */
static int corrupt(struct ld_err *err)
{
    if (err->code == LD_E_BAD_CONTENT)
        err->code = LD_E_CORRUPT;
    return ld_err_prefix(err, "the layer's recipe");
}

static int malformed(struct ld_err *err)
{
    return ld_err_set(err, LD_E_CORRUPT, "the layer's recipe is damaged");
}

static uint64_t get_u64(const uint8_t *p)
{
    uint64_t value = 0;

    for (int i = 8; i-- > 0;)
        value = value << 8 | p[i];
    return value;
}

static int read_foot(int fd, struct foot *ret, struct ld_err *err)
{
    uint8_t head[LD_RECIPE_HEAD], foot[LD_RECIPE_FOOT];
    struct stat st;
    uint64_t size;
    int rc;

    if (fstat(fd, &st) < 0)
        return ld_err_sys(err, -errno, "look at the layer's recipe");
    size = (uint64_t)st.st_size;
    if (size < LD_RECIPE_HEAD + LD_RECIPE_FOOT)
        return malformed(err);
    rc = ld_pread_full(fd, head, sizeof(head), 0);
    if (rc == 0)
        rc = ld_pread_full(fd, foot, sizeof(foot), size - LD_RECIPE_FOOT);
    if (rc != 0)
        return ld_err_sys(err, rc, "read the layer's recipe");
    *ret = (struct foot){get_u64(foot), get_u64(foot + 8), get_u64(foot + 16)};
    if (memcmp(head, LD_RECIPE_MAGIC, LD_RECIPE_HEAD) != 0 ||
        memcmp(foot + 24, LD_RECIPE_END, 8) != 0 || ret->moves_at < LD_RECIPE_HEAD ||
        ret->moves_at > size || ret->moves_len != size - LD_RECIPE_FOOT - ret->moves_at)
        return malformed(err);
    return 0;
}

static void reader_done(struct reader *r)
{
    ld_source_free_p(&r->plain);
    ld_source_free_p(&r->file);
}

static int reader_init(struct reader *r, int fd, uint64_t offset, uint64_t len, struct ld_err *err)
{
    const struct ld_codec_limits limits = {0};

    r->file = ld_source_fd_new(fd, offset, len);
    if (ld_decoder_new(r->file, &limits, &r->plain, err) < 0)
        return corrupt(err);
    return 0;
}

/* Something in the buffer: 1; 0 at the end. */
static int reader_fill(struct reader *r, struct ld_err *err)
{
    ssize_t n;

    if (r->at < r->end)
        return 1;
    n = ld_source_read(r->plain, r->buffer, BUFFER, err);
    if (n < 0)
        return corrupt(err);
    r->at = 0;
    r->end = (size_t)n;
    return n > 0;
}

/* 1; 0 when the stream ends in front of it. */
static int get_varint(struct reader *r, uint64_t *ret, struct ld_err *err)
{
    uint64_t value = 0;

    for (unsigned n = 0; n < LD_RECIPE_VARINT; n++) {
        int rc = reader_fill(r, err);
        uint8_t byte;

        if (rc < 0)
            return -1;
        if (rc == 0)
            return n == 0 ? 0 : malformed(err);
        byte = r->buffer[r->at++];
        if (n == LD_RECIPE_VARINT - 1 && byte > 1)
            break;
        value |= (uint64_t)(byte & 0x7F) << (7 * n);
        if (byte < 0x80) {
            *ret = value;
            return 1;
        }
    }
    return malformed(err);
}

static int must_varint(struct reader *r, uint64_t *ret, struct ld_err *err)
{
    int rc = get_varint(r, ret, err);

    return rc > 0 ? 0 : rc == 0 ? malformed(err) : -1;
}

static int get_path(struct reader *r, uint64_t len, char path[LD_RECIPE_MAX_PATH + 1],
                    struct ld_err *err)
{
    if (len == 0 || len > LD_RECIPE_MAX_PATH)
        return malformed(err);
    for (uint64_t i = 0; i < len; i++) {
        int rc = reader_fill(r, err);

        if (rc <= 0)
            return rc < 0 ? -1 : malformed(err);
        path[i] = (char)r->buffer[r->at++];
        if (path[i] == '\0')
            return malformed(err);
    }
    path[len] = '\0';
    return 0;
}

/* -- what was moved aside ------------------------------------------------------------------------
 */

struct move {
    char *path;
    uint64_t files; /* FILE records before it: those it concerns */
    uint64_t n;
    size_t order;
};

struct moves {
    struct move *items;
    size_t n;
    size_t cap;
};

static void moves_done(struct moves *moves)
{
    for (size_t i = 0; i < moves->n; i++)
        free(moves->items[i].path);
    free(moves->items);
    *moves = (struct moves){0};
}

/* By path, then by time (`files` never falls with time). */
static int by_path(const void *a, const void *b)
{
    const struct move *x = a, *y = b;
    int c = strcmp(x->path, y->path);

    return c ? c : x->order < y->order ? -1 : x->order > y->order;
}

static int moves_load(struct moves *moves, int fd, const struct foot *foot, struct ld_err *err)
{
    autofree struct reader *r = ld_new(struct reader);
    char path[LD_RECIPE_MAX_PATH + 1];
    uint64_t total = 0;
    int rc = reader_init(r, fd, foot->moves_at, foot->moves_len, err);

    while (rc == 0) {
        struct move move = {.order = moves->n};
        uint64_t len;

        rc = get_varint(r, &move.files, err);
        if (rc <= 0)
            break;
        rc = must_varint(r, &move.n, err) < 0 || must_varint(r, &len, err) < 0 ||
                     get_path(r, len, path, err) < 0
                 ? -1
                 : 0;
        if (rc == 0 && (total += len) > LD_RECIPE_MAX_MOVES)
            rc = malformed(err);
        if (rc < 0)
            break;
        ld_grow(&moves->items, &moves->cap, moves->n + 1, sizeof(move));
        move.path = ld_strdup(path);
        moves->items[moves->n++] = move;
    }
    reader_done(r);
    if (rc == 0 && moves->n)
        qsort(moves->items, moves->n, sizeof(*moves->items), by_path);
    return rc;
}

static int compare_prefix(const char *path, const char *prefix, size_t len)
{
    int c = strncmp(path, prefix, len);

    return c ? c : path[len] != '\0';
}

/* The first move of exactly this path after the file'th FILE record; NULL: none. */
static const struct move *moved_after(const struct moves *moves, const char *prefix, size_t len,
                                      uint64_t file)
{
    size_t low = 0, high = moves->n;

    while (low < high) {
        size_t mid = low + (high - low) / 2;
        const struct move *m = &moves->items[mid];
        int c = compare_prefix(m->path, prefix, len);

        if (c < 0 || (c == 0 && m->files <= file))
            low = mid + 1;
        else
            high = mid;
    }
    if (low == moves->n || compare_prefix(moves->items[low].path, prefix, len) != 0)
        return NULL;
    return &moves->items[low];
}

/* The file, or a directory above it, may have been moved: the earliest move after it counts, since
 * nothing is moved twice. *ret_rest: what of the path lies below that move. */
static const struct move *find_move(const struct moves *moves, const char *path, uint64_t file,
                                    const char **ret_rest)
{
    const struct move *best = NULL;

    for (const char *p = path; moves->n; p++) {
        const struct move *m;

        if (*p != '/' && *p != '\0')
            continue;
        m = moved_after(moves, path, (size_t)(p - path), file);
        if (m && (!best || m->order < best->order)) {
            best = m;
            *ret_rest = p;
        }
        if (*p == '\0')
            break;
    }
    return best;
}

/* -- replay ------------------------------------------------------------------------------------ */

struct replay {
    const struct ld_recipe_layer *layer;
    struct ld_sink *sink;
    const bool *cancel;
    struct reader *reader;
    struct moves moves;
    uint64_t files;
    uint64_t given; /* bytes of the tar */
    int fd;         /* the file of the last FILE record; -EBADF: not yet opened */
    char path[LD_RECIPE_MAX_PATH + 1];
    uint8_t chunk[CHUNK];
};

static int open_file(struct replay *r, struct ld_err *err)
{
    char moved[LD_RECIPE_MAX_PATH + 32];
    const char *path = r->path;
    const char *rest = "";
    int dir = r->layer->root_fd;
    const struct move *move;
    struct stat st;

    if (r->fd >= 0)
        return 0;
    if (r->files == 0)
        return malformed(err);
    move = find_move(&r->moves, r->path, r->files - 1, &rest);
    if (move) {
        if (r->layer->aside_fd < 0)
            return ld_err_set(err, LD_E_CORRUPT, "what the layer's recipe keeps aside is missing");
        (void)snprintf(moved, sizeof(moved), "%" PRIu64 "%s", move->n, rest); /* 20 more bytes */
        path = moved;
        dir = r->layer->aside_fd;
    }
    /* A device or fifo in its place must not be opened: look first, on the descriptor. */
    r->fd = ld_open_under(dir, path, LD_BENEATH, O_RDONLY | O_NOFOLLOW | O_NONBLOCK, 0);
    if (r->fd < 0 || fstat(r->fd, &st) < 0) {
        int rc = r->fd < 0 ? r->fd : -errno;

        (void)ld_err_sys(err, rc, "open the layer's file '%s'", r->path);
        if (rc == -ENOENT || rc == -ENOTDIR || rc == -ELOOP || rc == -EXDEV)
            err->code = LD_E_CORRUPT;
        return -1;
    }
    if (!S_ISREG(st.st_mode))
        return ld_err_set(err, LD_E_CORRUPT, "the layer's '%s' is no regular file", r->path);
    return 0;
}

static int is_canceled(const struct replay *r, struct ld_err *err)
{
    if (r->cancel && __atomic_load_n(r->cancel, __ATOMIC_RELAXED))
        return ld_err_set(err, LD_E_CANCELED, "writing the layer's archive was cancelled");
    return 0;
}

static int give_data(struct replay *r, uint64_t offset, uint64_t len, struct ld_err *err)
{
    if (open_file(r, err) < 0)
        return -1;
    while (len > 0) {
        ssize_t n = ld_pread_some(r->fd, r->chunk, len < CHUNK ? (size_t)len : CHUNK, offset);

        if (n < 0)
            return ld_err_sys(err, (int)n, "read the layer's file '%s'", r->path);
        if (n == 0)
            return ld_err_set(err, LD_E_CORRUPT, "the layer's file '%s' is too short", r->path);
        if (is_canceled(r, err) < 0 || ld_sink_write(r->sink, r->chunk, (size_t)n, err) < 0)
            return -1;
        offset += (uint64_t)n;
        len -= (uint64_t)n;
    }
    return 0;
}

static int give_literal(struct replay *r, uint64_t len, struct ld_err *err)
{
    struct reader *reader = r->reader;

    while (len > 0) {
        int rc = reader_fill(reader, err);
        size_t n;

        if (rc <= 0)
            return rc < 0 ? -1 : malformed(err);
        n = reader->end - reader->at < len ? reader->end - reader->at : (size_t)len;
        if (ld_sink_write(r->sink, reader->buffer + reader->at, n, err) < 0)
            return -1;
        reader->at += n;
        len -= n;
    }
    return is_canceled(r, err);
}

static int name_file(struct replay *r, uint64_t len, struct ld_err *err)
{
    ld_close_p(&r->fd);
    r->files++;
    return get_path(r->reader, len, r->path, err);
}

static int do_record(struct replay *r, uint64_t record, const struct foot *foot, struct ld_err *err)
{
    uint64_t len = record >> 2;
    uint64_t offset;

    if ((record & 3) != LD_RECIPE_FILE) {
        if (len > foot->tar_size - r->given)
            return malformed(err);
        r->given += len;
    }
    switch ((enum ld_recipe_kind)(record & 3)) {
    case LD_RECIPE_LITERAL:
        return give_literal(r, len, err);
    case LD_RECIPE_FILE:
        return name_file(r, len, err);
    case LD_RECIPE_DATA:
        return must_varint(r->reader, &offset, err) < 0 ? -1 : give_data(r, offset, len, err);
    case LD_RECIPE_ZEROS:
        return ld_sink_zeros(r->sink, len, err);
    }
    return malformed(err);
}

static int run(struct replay *r, const struct foot *foot, struct ld_err *err)
{
    uint64_t record;
    int rc;

    while ((rc = get_varint(r->reader, &record, err)) > 0) {
        if (do_record(r, record, foot, err) < 0)
            return -1;
    }
    if (rc == 0 && r->given != foot->tar_size)
        return malformed(err);
    return rc;
}

int ld_recipe_replay(const struct ld_recipe_layer *layer, struct ld_sink *sink, const bool *cancel,
                     struct ld_err *err)
{
    autofree struct replay *r = ld_new(struct replay);
    autofree struct reader *reader = ld_new(struct reader);
    struct foot foot;
    int rc;

    if (read_foot(layer->recipe_fd, &foot, err) < 0)
        return -1;
    r->layer = layer;
    r->sink = sink;
    r->cancel = cancel;
    r->reader = reader;
    r->fd = -EBADF;
    rc = moves_load(&r->moves, layer->recipe_fd, &foot, err);
    if (rc == 0)
        rc = reader_init(reader, layer->recipe_fd, LD_RECIPE_HEAD, foot.moves_at - LD_RECIPE_HEAD,
                         err);
    if (rc == 0)
        rc = run(r, &foot, err);
    reader_done(reader);
    moves_done(&r->moves);
    ld_close(r->fd);
    return rc;
}

int ld_recipe_size(int recipe_fd, uint64_t *ret, struct ld_err *err)
{
    struct foot foot;

    if (read_foot(recipe_fd, &foot, err) < 0)
        return -1;
    *ret = foot.tar_size;
    return 0;
}

/* -- headers only ------------------------------------------------------------------------------ */

struct headers_source {
    struct ld_source base;
    struct reader reader;
    bool is_literal;
    uint64_t left; /* of the present record */
};

/* A record of which something is left: 1; 0 at the end. */
static int next_bytes(struct headers_source *src, struct ld_err *err)
{
    char path[LD_RECIPE_MAX_PATH + 1];
    uint64_t record, offset;

    while (src->left == 0) {
        int rc = get_varint(&src->reader, &record, err);

        if (rc <= 0)
            return rc;
        if ((record & 3) == LD_RECIPE_FILE) {
            if (get_path(&src->reader, record >> 2, path, err) < 0)
                return -1;
            continue;
        }
        if ((record & 3) == LD_RECIPE_DATA && must_varint(&src->reader, &offset, err) < 0)
            return -1;
        src->is_literal = (record & 3) == LD_RECIPE_LITERAL;
        src->left = record >> 2;
    }
    return 1;
}

/* Between 1 and len bytes of the present record; those of a literal are in the reader's buffer. */
static int64_t step(struct headers_source *src, uint64_t len, struct ld_err *err)
{
    int rc = next_bytes(src, err);

    if (rc <= 0)
        return rc;
    if (len > src->left)
        len = src->left;
    if (src->is_literal) {
        rc = reader_fill(&src->reader, err);
        if (rc <= 0)
            return rc < 0 ? -1 : malformed(err);
        if (len > src->reader.end - src->reader.at)
            len = src->reader.end - src->reader.at;
        src->reader.at += (size_t)len;
    }
    if (len > INT64_MAX)
        len = INT64_MAX;
    src->left -= len;
    return (int64_t)len;
}

static int64_t headers_skip(struct ld_source *base, uint64_t len, struct ld_err *err)
{
    return step((struct headers_source *)base, len, err);
}

static ssize_t headers_read(struct ld_source *base, void *buf, size_t len, struct ld_err *err)
{
    struct headers_source *src = (struct headers_source *)base;
    ssize_t n = step(src, len, err);

    if (n <= 0)
        return n;
    if (src->is_literal)
        memcpy(buf, src->reader.buffer + src->reader.at - n, (size_t)n);
    else
        memset(buf, 0, (size_t)n);
    return n;
}

static void headers_free(struct ld_source *base)
{
    struct headers_source *src = (struct headers_source *)base;

    reader_done(&src->reader);
    free(src);
}

int ld_recipe_headers_new(int recipe_fd, struct ld_source **ret, struct ld_err *err)
{
    static const struct ld_source_ops ops = {
        .read = headers_read, .skip = headers_skip, .free = headers_free};
    struct headers_source *src;
    struct foot foot;

    if (read_foot(recipe_fd, &foot, err) < 0)
        return -1;
    src = ld_new(struct headers_source);
    src->base.ops = &ops;
    if (reader_init(&src->reader, recipe_fd, LD_RECIPE_HEAD, foot.moves_at - LD_RECIPE_HEAD, err) <
        0) {
        headers_free(&src->base);
        return -1;
    }
    *ret = &src->base;
    return 0;
}
