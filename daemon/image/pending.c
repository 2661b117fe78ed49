/* Notes from untar to settle: see pending.h.
 *
 * The file is a sequence of records: a fixed head, the part of the path that differs from the path
 * before (archives go through directories in order, so that is little), the target, the xattrs. It
 * never leaves this process, so its form is the machine's; lengths are checked all the same.
 */
#include "daemon/image/pending.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>

#include "daemon/base/fdio.h"
#include "daemon/base/mem.h"
#include "daemon/image/dirs.h"

enum {
    BLOCK = 16 << 10, /* an import of many layers holds as many of these */
    MAX_PATH = LD_MAX_TREE_DEPTH * (LD_MAX_NAME + 1) + LD_MAX_NAME + 1,
    MAX_XATTRS = 24 << 20, /* more than the tar reader lets through */
};

struct head {
    uint64_t number;
    int64_t mtime_sec;
    uint32_t mtime_nsec, mode, uid, gid;
    uint32_t xattrs_len;
    uint16_t shared, rest, target, n_xattrs;
    uint8_t kind;
};

struct xattr_head {
    uint32_t len;
    uint16_t name;
};

struct ld_pending {
    int fd;
    uint64_t end;    /* of what is in the file */
    uint64_t at;     /* reading: of the next block */
    size_t len, pos; /* of the block: filled (writing and reading), taken (reading) */
    uint64_t count[LD_NOTE_XATTRS + 1];
    char *xattrs; /* of the note given last */
    size_t xattrs_cap;
    struct ld_xattrs list;
    char path[MAX_PATH + 1];
    char target[PATH_MAX + 1];
    char block[BLOCK];
};

int ld_pending_new(int dir, struct ld_pending **ret, struct ld_err *err)
{
    int fd = openat(dir, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    struct ld_pending *p;

    if (fd < 0)
        return ld_err_sys(err, -errno, "make a temporary file for a layer's notes");
    p = ld_new(struct ld_pending);
    p->fd = fd;
    *ret = p;
    return 0;
}

void ld_pending_free(struct ld_pending *p)
{
    if (!p)
        return;
    ld_close(p->fd);
    free(p->xattrs);
    free(p->list.item);
    free(p);
}

void ld_pending_free_p(struct ld_pending **p)
{
    ld_pending_free(*p);
    *p = NULL;
}

uint64_t ld_pending_count(const struct ld_pending *p, enum ld_note_kind kind)
{
    return p->count[kind];
}

static int flush(struct ld_pending *p, struct ld_err *err)
{
    int r = ld_pwrite_full(p->fd, p->block, p->len, p->end);

    if (r < 0)
        return ld_err_sys(err, r, "write a layer's notes");
    p->end += p->len;
    p->len = 0;
    return 0;
}

static int put(struct ld_pending *p, const void *data, size_t len, struct ld_err *err)
{
    const char *from = data;

    while (len > 0) {
        size_t n = BLOCK - p->len < len ? BLOCK - p->len : len;

        memcpy(p->block + p->len, from, n);
        p->len += n;
        from += n;
        len -= n;
        if (p->len == BLOCK && flush(p, err) < 0)
            return -1;
    }
    return 0;
}

static size_t xattrs_size(const struct ld_xattrs *xattrs)
{
    size_t size = 0;

    for (size_t i = 0; xattrs && i < xattrs->n; i++)
        size +=
            sizeof(struct xattr_head) + strlen(xattrs->item[i].name) + 1 + xattrs->item[i].len + 1;
    return size;
}

static int put_xattrs(struct ld_pending *p, const struct ld_xattrs *xattrs, struct ld_err *err)
{
    for (size_t i = 0; xattrs && i < xattrs->n; i++) {
        const struct ld_xattr *x = &xattrs->item[i];
        struct xattr_head head = {.len = (uint32_t)x->len, .name = (uint16_t)strlen(x->name)};

        if (put(p, &head, sizeof(head), err) < 0 || put(p, x->name, head.name + 1U, err) < 0 ||
            put(p, x->value, x->len, err) < 0 || put(p, "", 1, err) < 0)
            return -1;
    }
    return 0;
}

int ld_pending_add(struct ld_pending *p, const struct ld_pending_note *note, struct ld_err *err)
{
    const char *target = note->target ? note->target : "";
    size_t len = strlen(note->path);
    size_t shared = 0;
    size_t xattrs_len = xattrs_size(note->xattrs);
    struct head head = {.kind = (uint8_t)note->kind,
                        .number = note->number,
                        .mtime_sec = note->mtime_sec,
                        .mtime_nsec = note->mtime_nsec,
                        .mode = note->mode,
                        .uid = note->uid,
                        .gid = note->gid,
                        .target = (uint16_t)strlen(target),
                        .n_xattrs = (uint16_t)(note->xattrs ? note->xattrs->n : 0),
                        .xattrs_len = (uint32_t)xattrs_len};

    if (len > MAX_PATH || strlen(target) > PATH_MAX || xattrs_len > MAX_XATTRS)
        return ld_err_set(err, LD_E_INTERNAL, "a note about a layer is too long");
    while (shared < len && note->path[shared] == p->path[shared])
        shared++;
    head.shared = (uint16_t)shared;
    head.rest = (uint16_t)(len - shared);
    memcpy(p->path + shared, note->path + shared, len - shared + 1);
    p->count[note->kind]++;
    if (put(p, &head, sizeof(head), err) < 0 || put(p, note->path + shared, head.rest, err) < 0 ||
        put(p, target, head.target, err) < 0)
        return -1;
    return put_xattrs(p, note->xattrs, err);
}

int ld_pending_rewind(struct ld_pending *p, struct ld_err *err)
{
    /* The first reading begins with what is still in the block of the writer. */
    if (p->at == 0 && p->pos == 0 && p->len > 0 && flush(p, err) < 0)
        return -1;
    p->at = 0;
    p->len = p->pos = 0;
    p->path[0] = '\0';
    return 0;
}

static int get(struct ld_pending *p, void *data, size_t len, struct ld_err *err)
{
    char *to = data;

    while (len > 0) {
        size_t n;

        if (p->pos == p->len) {
            ssize_t got = ld_pread_some(p->fd, p->block, BLOCK, p->at);

            if (got <= 0)
                return ld_err_sys(err, got < 0 ? (int)got : -EIO, "read a layer's notes");
            p->at += (uint64_t)got;
            p->len = (size_t)got;
            p->pos = 0;
        }
        n = p->len - p->pos < len ? p->len - p->pos : len;
        memcpy(to, p->block + p->pos, n);
        p->pos += n;
        to += n;
        len -= n;
    }
    return 0;
}

/* Makes the list of xattrs point into their block, each name and value with its NUL. */
static int get_xattrs(struct ld_pending *p, const struct head *head, struct ld_err *err)
{
    size_t at = 0;

    ld_grow(&p->xattrs, &p->xattrs_cap, head->xattrs_len, 1);
    ld_grow(&p->list.item, &p->list.cap, head->n_xattrs, sizeof(*p->list.item));
    p->list.n = head->n_xattrs;
    if (get(p, p->xattrs, head->xattrs_len, err) < 0)
        return -1;
    for (size_t i = 0; i < p->list.n; i++) {
        struct xattr_head x = {.len = 0};

        if (head->xattrs_len - at < sizeof(x))
            return ld_err_set(err, LD_E_INTERNAL, "a layer's notes are damaged");
        memcpy(&x, p->xattrs + at, sizeof(x));
        at += sizeof(x);
        if (head->xattrs_len - at < (size_t)x.name + x.len + 2)
            return ld_err_set(err, LD_E_INTERNAL, "a layer's notes are damaged");
        p->list.item[i] = (struct ld_xattr){
            .name = p->xattrs + at, .value = p->xattrs + at + x.name + 1, .len = x.len};
        at += (size_t)x.name + x.len + 2;
    }
    return 0;
}

int ld_pending_next(struct ld_pending *p, struct ld_pending_note *ret, struct ld_err *err)
{
    struct head head = {.kind = 0};

    if (p->at >= p->end && p->pos == p->len)
        return 0;
    if (get(p, &head, sizeof(head), err) < 0)
        return -1;
    if ((size_t)head.shared + head.rest > MAX_PATH || head.target > PATH_MAX ||
        head.xattrs_len > MAX_XATTRS || head.shared > strlen(p->path))
        return ld_err_set(err, LD_E_INTERNAL, "a layer's notes are damaged");
    if (get(p, p->path + head.shared, head.rest, err) < 0 ||
        get(p, p->target, head.target, err) < 0)
        return -1;
    p->path[head.shared + head.rest] = '\0';
    p->target[head.target] = '\0';
    if (head.n_xattrs > 0 && get_xattrs(p, &head, err) < 0)
        return -1;
    *ret = (struct ld_pending_note){.kind = (enum ld_note_kind)head.kind,
                                    .path = p->path,
                                    .mode = head.mode,
                                    .uid = head.uid,
                                    .gid = head.gid,
                                    .mtime_sec = head.mtime_sec,
                                    .mtime_nsec = head.mtime_nsec,
                                    .number = head.number,
                                    .target = p->target,
                                    .xattrs = head.n_xattrs > 0 ? &p->list : NULL};
    return 1;
}
