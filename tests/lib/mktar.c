/* Tars of every dialect: see mktar.h. */
#include "tests/lib/mktar.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/base/mem.h"

enum { BLOCK = 512, HUGE_PAX = 4 << 20 };

struct field {
    size_t at, len;
};

static const struct field NAME = {0, 100}, MODE = {100, 8}, UID = {108, 8}, GID = {116, 8},
                          SIZE = {124, 12}, MTIME = {136, 12}, SUM = {148, 8}, LINK = {157, 100},
                          MAJOR = {329, 8}, MINOR = {337, 8};

struct head {
    char b[BLOCK];
};

static void put_octal(struct head *h, struct field f, uint64_t value)
{
    char text[32];

    (void)snprintf(text, sizeof(text), "%0*" PRIo64, (int)f.len - 1, value);
    memcpy(h->b + f.at, text + strlen(text) - (f.len - 1), f.len - 1);
    h->b[f.at + f.len - 1] = '\0';
}

static void put_base256(struct head *h, struct field f, int64_t value)
{
    for (size_t i = 0; i < f.len; i++)
        h->b[f.at + f.len - 1 - i] = (char)(i < 8 ? value >> (8 * i) : value < 0 ? -1 : 0);
    h->b[f.at] = (char)(value < 0 ? 0xff : 0x80);
}

static bool fits(struct field f, uint64_t value)
{
    return value < UINT64_C(1) << (3 * (f.len - 1));
}

/* Octal where it fits, else base-256 where the dialect has it; else 0 (pax says it). */
static void put_number(struct head *h, struct field f, int64_t value, enum mt_dialect dialect)
{
    if (value >= 0 && fits(f, (uint64_t)value))
        put_octal(h, f, (uint64_t)value);
    else if (dialect == MT_GNU)
        put_base256(h, f, value);
    else
        put_octal(h, f, 0);
}

static void put_text(struct head *h, struct field f, const char *text)
{
    size_t len = strlen(text);

    memcpy(h->b + f.at, text, len < f.len ? len : f.len);
}

static void put_head(struct ld_buf *tar, struct head *h)
{
    unsigned sum = 0;
    char text[16];

    memset(h->b + SUM.at, ' ', SUM.len);
    for (size_t i = 0; i < BLOCK; i++)
        sum += (unsigned char)h->b[i];
    (void)snprintf(text, sizeof(text), "%06o", sum & 0777777);
    memcpy(h->b + SUM.at, text, 7);
    ld_buf_add(tar, h->b, BLOCK);
}

static void pad(struct ld_buf *tar, size_t start, bool dirty)
{
    while ((tar->len - start) % BLOCK)
        ld_buf_addc(tar, dirty ? (char)(tar->len * 37 + 1) : '\0');
}

static char type_flag(const struct m_entry *e)
{
    switch (e->type) {
    case M_FILE:
        return '0';
    case M_HARDLINK:
        return '1';
    case M_SYMLINK:
        return '2';
    case M_CHAR:
        return '3';
    case M_BLOCK:
        return '4';
    case M_DIR:
        return '5';
    case M_FIFO:
        return '6';
    }
    abort();
}

/* A member that carries text about the next one: pax header, GNU long name. */
static void put_carrier(struct ld_buf *tar, char flag, const char *name, const void *data,
                        size_t len, enum mt_dialect dialect)
{
    struct head h = {.b = ""};
    size_t start;

    put_text(&h, NAME, name);
    put_octal(&h, MODE, 0644);
    put_octal(&h, UID, 0);
    put_octal(&h, GID, 0);
    put_octal(&h, SIZE, len);
    put_octal(&h, MTIME, 0);
    h.b[156] = flag;
    memcpy(h.b + 257, dialect == MT_GNU ? "ustar  " : "ustar\00000", 8);
    put_head(tar, &h);
    start = tar->len;
    ld_buf_add(tar, data, len);
    pad(tar, start, false);
}

static void pax_record(struct ld_buf *pax, const char *key, const void *value, size_t len)
{
    size_t body = 1 + strlen(key) + 1 + len + 1, total = body + 1;

    while (total < body + (size_t)snprintf(NULL, 0, "%zu", total))
        total++;
    ld_buf_addf(pax, "%zu %s=", total, key);
    ld_buf_add(pax, value, len);
    ld_buf_addc(pax, '\n');
}

static void pax_number(struct ld_buf *pax, const char *key, uint64_t value)
{
    char text[32];

    (void)snprintf(text, sizeof(text), "%" PRIu64, value);
    pax_record(pax, key, text, strlen(text));
}

/* "-1.25" is a second and a quarter before the epoch: 2 seconds before it and 750 ms after that. */
static void pax_time(struct ld_buf *pax, int64_t sec, uint32_t nsec)
{
    char text[48];

    if (sec < 0 && nsec > 0)
        (void)snprintf(text, sizeof(text), "-%" PRId64 ".%09u", -(sec + 1), 1000000000 - nsec);
    else
        (void)snprintf(text, sizeof(text), "%" PRId64 ".%09u", sec, nsec);
    pax_record(pax, "mtime", text, strlen(text));
}

/* ---- sparse maps ---- */

/* Data and the end of the file, as GNU tar writes maps. */
static size_t map_of(const struct m_entry *e, struct m_segment map[M_MAX_SEGMENTS + 1])
{
    size_t n = 0;
    uint64_t end = 0;

    for (; n < e->n_segments; n++) {
        map[n] = e->segment[n];
        end = map[n].offset + map[n].len;
    }
    if (end < e->size)
        map[n++] = (struct m_segment){.offset = e->size};
    return n;
}

static void pax_sparse(struct ld_buf *pax, const struct m_entry *e, enum mt_sparse form)
{
    struct m_segment map[M_MAX_SEGMENTS + 1];
    size_t n = map_of(e, map);
    autobuf struct ld_buf text = LD_BUF_INIT(HUGE_PAX);

    if (form == MT_PAX_1_0) {
        pax_number(pax, "GNU.sparse.major", 1);
        pax_number(pax, "GNU.sparse.minor", 0);
        pax_record(pax, "GNU.sparse.name", e->name, strlen(e->name));
        pax_number(pax, "GNU.sparse.realsize", e->size);
        return;
    }
    pax_number(pax, "GNU.sparse.size", e->size);
    pax_number(pax, "GNU.sparse.numblocks", n);
    for (size_t i = 0; i < n; i++) {
        if (form == MT_PAX_0_0) {
            pax_number(pax, "GNU.sparse.offset", map[i].offset);
            pax_number(pax, "GNU.sparse.numbytes", map[i].len);
        }
        ld_buf_addf(&text, "%s%" PRIu64 ",%" PRIu64, i ? "," : "", map[i].offset, map[i].len);
    }
    if (form == MT_PAX_0_1) {
        pax_record(pax, "GNU.sparse.name", e->name, strlen(e->name));
        pax_record(pax, "GNU.sparse.map", ld_buf_str(&text), text.len);
    }
}

/* The map of format 1.0 stands before the data. */
static void put_map_1_0(struct ld_buf *data, const struct m_entry *e)
{
    struct m_segment map[M_MAX_SEGMENTS + 1];
    size_t n = map_of(e, map);

    ld_buf_addf(data, "%zu\n", n);
    for (size_t i = 0; i < n; i++)
        ld_buf_addf(data, "%" PRIu64 "\n%" PRIu64 "\n", map[i].offset, map[i].len);
    pad(data, 0, false);
}

/* Old GNU: four pairs in the header, 21 in each block after it. */
static void put_old_gnu(struct ld_buf *more, struct head *h, const struct m_entry *e)
{
    struct m_segment map[M_MAX_SEGMENTS + 1];
    size_t n = map_of(e, map), i = 0;

    for (; i < n && i < 4; i++) {
        put_octal(h, (struct field){386 + 24 * i, 12}, map[i].offset);
        put_octal(h, (struct field){398 + 24 * i, 12}, map[i].len);
    }
    h->b[482] = i < n;
    put_octal(h, (struct field){483, 12}, e->size);
    while (i < n) {
        struct head block = {.b = ""};

        for (size_t k = 0; i < n && k < 21; k++, i++) {
            put_octal(&block, (struct field){24 * k, 12}, map[i].offset);
            put_octal(&block, (struct field){12 + 24 * k, 12}, map[i].len);
        }
        block.b[504] = i < n;
        ld_buf_add(more, block.b, BLOCK);
    }
}

/* ---- content ---- */

static void put_content(struct ld_buf *data, const struct m_entry *e, bool is_sparse)
{
    uint64_t at = 0;

    for (size_t i = 0; i < e->n_segments; i++) {
        const struct m_segment *s = &e->segment[i];

        for (; !is_sparse && at < s->offset; at++)
            ld_buf_addc(data, '\0');
        for (uint64_t k = 0; k < s->len; k++)
            ld_buf_addc(data, (char)m_byte(s->seed, k));
        at = s->offset + s->len;
    }
    for (; !is_sparse && at < e->size; at++)
        ld_buf_addc(data, '\0');
}

/* ---- entries ---- */

static bool needs_pax(const struct m_entry *e)
{
    return e->nsec > 0 || e->n_xattrs > 0;
}

static bool fits_ustar(const struct m_entry *e)
{
    return strlen(e->name) <= NAME.len && (!e->target || strlen(e->target) <= LINK.len) &&
           fits(UID, e->uid) && fits(GID, e->gid) && e->sec >= 0 && fits(MTIME, (uint64_t)e->sec);
}

static void put_pax(struct ld_buf *tar, const struct m_entry *e, const struct mt_style *style)
{
    autobuf struct ld_buf pax = LD_BUF_INIT(HUGE_PAX);

    ld_buf_adds(&pax, "");
    if (style->sparse != MT_DENSE)
        pax_sparse(&pax, e, style->sparse);
    if (strlen(e->name) > NAME.len && style->sparse != MT_PAX_0_1 && style->sparse != MT_PAX_1_0)
        pax_record(&pax, "path", e->name, strlen(e->name));
    if (e->target && strlen(e->target) > LINK.len)
        pax_record(&pax, "linkpath", e->target, strlen(e->target));
    if (!fits(UID, e->uid))
        pax_number(&pax, "uid", e->uid);
    if (!fits(GID, e->gid))
        pax_number(&pax, "gid", e->gid);
    if (e->nsec > 0 || e->sec < 0 || !fits(MTIME, (uint64_t)e->sec))
        pax_time(&pax, e->sec, e->nsec);
    for (size_t i = 0; i < e->n_xattrs; i++) {
        autofree char *key = ld_asprintf("SCHILY.xattr.%s", e->xattr[i].name);

        pax_record(&pax, key, e->xattr[i].value, e->xattr[i].len);
    }
    if (pax.len > 0)
        put_carrier(tar, 'x', "PaxHeaders.0/x", pax.data, pax.len, MT_PAX);
}

bool mt_add(struct ld_buf *tar, const struct m_entry *e, const struct mt_style *style)
{
    autobuf struct ld_buf data = LD_BUF_INIT(1 << 30), more = LD_BUF_INIT(1 << 20);
    bool is_sparse = e->type == M_FILE && style->sparse != MT_DENSE;
    struct head h = {.b = ""};
    size_t start;

    if (style->dialect != MT_PAX && (needs_pax(e) || style->sparse > MT_OLD_GNU))
        return false;
    if (style->dialect == MT_USTAR && (!fits_ustar(e) || is_sparse))
        return false;
    if (style->sparse == MT_OLD_GNU && style->dialect != MT_GNU)
        return false;
    if (style->sparse == MT_PAX_1_0)
        put_map_1_0(&data, e);
    if (e->type == M_FILE)
        put_content(&data, e, is_sparse);

    if (style->dialect == MT_PAX)
        put_pax(tar, e, style);
    if (style->dialect == MT_GNU && strlen(e->name) > NAME.len)
        put_carrier(tar, 'L', "././@LongLink", e->name, strlen(e->name) + 1, MT_GNU);
    if (style->dialect == MT_GNU && e->target && strlen(e->target) > LINK.len)
        put_carrier(tar, 'K', "././@LongLink", e->target, strlen(e->target) + 1, MT_GNU);

    put_text(&h, NAME, e->name);
    put_octal(&h, MODE, e->mode);
    put_number(&h, UID, e->uid, style->dialect);
    put_number(&h, GID, e->gid, style->dialect);
    put_number(&h, SIZE, (int64_t)data.len, style->dialect);
    put_number(&h, MTIME, e->sec, style->dialect);
    put_text(&h, LINK, e->target ? e->target : "");
    put_octal(&h, MAJOR, e->major);
    put_octal(&h, MINOR, e->minor);
    h.b[156] = is_sparse && style->sparse == MT_OLD_GNU ? 'S' : type_flag(e);
    memcpy(h.b + 257, style->dialect == MT_GNU ? "ustar  " : "ustar\00000", 8);
    if (is_sparse && style->sparse == MT_OLD_GNU)
        put_old_gnu(&more, &h, e);
    put_head(tar, &h);
    ld_buf_add(tar, ld_buf_str(&more), more.len);
    start = tar->len;
    ld_buf_add(tar, ld_buf_str(&data), data.len);
    pad(tar, start, style->has_dirty_padding);
    return true;
}

void mt_end(struct ld_buf *tar)
{
    static const char zeros[2 * BLOCK];

    ld_buf_add(tar, zeros, sizeof(zeros));
}

void mt_put(struct ld_buf *tar, const struct m_entry *e)
{
    if (!mt_add(tar, e, &(struct mt_style){.dialect = MT_PAX}))
        abort();
}
