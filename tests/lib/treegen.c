/* Random entries: see treegen.h. */
#include "tests/lib/treegen.h"

#include <stdio.h>
#include <string.h>

#include "daemon/base/cleanup.h"
#include "tests/lib/arena.h"

uint64_t m_random(struct m_random *r, uint64_t below)
{
    uint64_t z = r->state += UINT64_C(0x9E3779B97F4A7C15);

    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    return (z ^ (z >> 31)) % below;
}

/* ---- names ---- */

static const char *random_part(struct m_random *r)
{
    static const char *const usual[] = {"a", "b", "c", "d", "lib", "usr"};
    static const char *const odd[] = {"x y", ".wh", "wh.a", "\303\274", "new\nline", "...", "a=b"};
    char *long_name;

    if (!m_chance(r, 12))
        return usual[m_random(r, LD_ARRAY_LEN(usual))];
    if (!m_chance(r, 8))
        return odd[m_random(r, LD_ARRAY_LEN(odd))];
    long_name = m_alloc(256);
    memset(long_name, 'n', 255);
    return long_name;
}

/* "a/b/c" of up to `most` parts, sometimes written oddly. */
static char *random_path(struct m_random *r, unsigned most)
{
    char *path = m_strdup(m_chance(r, 3) ? "./" : "");
    unsigned n = 1 + (unsigned)m_random(r, most);

    if (m_chance(r, 40))
        path = m_printf("%sgone/../", path);
    for (unsigned i = 0; i < n; i++)
        path = m_printf("%s%s%s", path, i ? m_chance(r, 30) ? "//" : "/" : "", random_part(r));
    return path;
}

/* A name that probably exists, or some name. */
static char *known_path(struct m_random *r, unsigned most)
{
    size_t n = r->n_recent < M_RECENT ? r->n_recent : M_RECENT;

    if (n == 0 || m_chance(r, 3))
        return random_path(r, most);
    return m_strdup(r->recent[m_random(r, n)]);
}

static char *random_target(struct m_random *r)
{
    switch (m_random(r, 8)) {
    case 0:
        return m_printf("/%s", random_part(r));
    case 1:
        return m_strdup("..");
    case 2:
        return m_printf("../%s", random_part(r));
    case 3:
        return m_strdup(".");
    case 4:
        return m_printf("%s/%s/../%s", random_part(r), random_part(r), random_part(r));
    default:
        return m_printf("%s%s%s", random_part(r), m_chance(r, 3) ? "/" : "",
                        m_chance(r, 3) ? "b" : "");
    }
}

/* ---- attributes ---- */

static void add_xattr(struct m_entry *e, const char *name, const void *value, size_t len)
{
    for (size_t i = 0; i < e->n_xattrs; i++)
        if (strcmp(e->xattr[i].name, name) == 0)
            return;
    e->xattr[e->n_xattrs++] =
        (struct m_xattr){.name = name, .value = m_memdup(value, len), .len = len};
}

struct acl_entry {
    uint16_t tag, perm;
    uint32_t id;
};

/* An access ACL that agrees with the entry's mode, as one on disk does. */
static void add_acl(struct m_random *r, struct m_entry *e, const char *name)
{
    struct {
        uint32_t version;
        struct acl_entry entry[5];
    } acl = {.version = 2,
             .entry = {{1, (uint16_t)m_random(r, 8), UINT32_MAX},
                       {2, (uint16_t)m_random(r, 8), 1000},
                       {4, (uint16_t)m_random(r, 8), UINT32_MAX},
                       {16, (uint16_t)m_random(r, 8), UINT32_MAX},
                       {32, (uint16_t)m_random(r, 8), UINT32_MAX}}};

    add_xattr(e, name, &acl, sizeof(acl));
    if (strcmp(name, "system.posix_acl_access") == 0)
        e->mode = (e->mode & 07000) | (uint32_t)acl.entry[0].perm << 6 |
                  (uint32_t)acl.entry[3].perm << 3 | acl.entry[4].perm;
}

static void random_xattrs(struct m_random *r, struct m_entry *e)
{
    static const uint8_t capability[20] = {1, 0, 0, 2, 0, 0x20};

    if (e->type == M_HARDLINK || !m_chance(r, 3))
        return;
    if (m_chance(r, 2) && (e->type == M_FILE || e->type == M_DIR))
        add_xattr(e, "user.text", "value", 5);
    if (m_chance(r, 4) && (e->type == M_FILE || e->type == M_DIR))
        add_xattr(e, "user.binary", "a\0b\nc=\xff", 7);
    if (m_chance(r, 6) && (e->type == M_FILE || e->type == M_DIR))
        add_xattr(e, "user.empty", "", 0);
    if (m_chance(r, 3) && e->type == M_FILE)
        add_xattr(e, "security.capability", capability, sizeof(capability));
    if (m_chance(r, 4) && e->type != M_SYMLINK)
        add_acl(r, e, "system.posix_acl_access");
    if (m_chance(r, 3) && e->type == M_DIR)
        add_acl(r, e, "system.posix_acl_default");
    if (m_chance(r, 6))
        add_xattr(e, "trusted.test", "t", 1);
}

static void random_attrs(struct m_random *r, struct m_entry *e)
{
    static const uint32_t id[] = {0, 0, 0, 1000, 65534, 2097152, 4294967294};
    static const int64_t sec[] = {0, 1, 1700000000, 1700000001, INT64_C(8589934593), -5};
    static const uint32_t mode[] = {0755, 0644, 0600, 0, 0777, 04755, 02755, 01777, 06711};

    e->uid = id[m_random(r, LD_ARRAY_LEN(id))];
    e->gid = id[m_random(r, LD_ARRAY_LEN(id))];
    e->sec = sec[m_random(r, LD_ARRAY_LEN(sec))];
    e->nsec = m_chance(r, 3) ? (uint32_t)m_random(r, 1000000000) : 0;
    e->mode = e->type == M_SYMLINK ? 0777 : mode[m_random(r, LD_ARRAY_LEN(mode))];
    random_xattrs(r, e);
}

static void random_content(struct m_random *r, struct m_entry *e)
{
    bool is_sparse = m_chance(r, 6);
    uint64_t most = m_chance(r, 10) ? 300000 : 6000;
    size_t n = is_sparse ? m_random(r, m_chance(r, 4) ? M_MAX_SEGMENTS : 5) : 1;
    uint64_t at = 0;

    if (m_chance(r, 8))
        return;
    for (size_t i = 0; i < n; i++) {
        uint64_t hole = is_sparse ? m_random(r, 3) * 4096 + m_random(r, 2) * 100 : 0;
        uint64_t len = is_sparse ? 1 + m_random(r, 5000) : 1 + m_random(r, most);

        if (m_chance(r, 4))
            len = (len + 511) / 512 * 512;
        e->segment[i] = (struct m_segment){.offset = at + hole, .len = len, .seed = r->state};
        at += hole + len;
    }
    e->n_segments = n;
    e->size = at;
    if (is_sparse)
        e->size += m_chance(r, 20) ? 64 << 20 : m_random(r, 3) * 5000;
}

struct m_entry m_random_entry(struct m_random *r)
{
    struct m_entry e = {.target = "",
                        .xattr = m_alloc(M_MAX_XATTRS * sizeof(*e.xattr)),
                        .segment = m_alloc(M_MAX_SEGMENTS * sizeof(*e.segment))};
    unsigned kind = (unsigned)m_random(r, 100);
    char *path = kind % 4 == 0 ? known_path(r, 4) : random_path(r, 4);

    e.name = path;
    r->recent[r->n_recent++ % M_RECENT] = path;
    if (kind < 28) {
        e.type = M_FILE;
        random_content(r, &e);
    } else if (kind < 50) {
        e.type = M_DIR;
        e.name = m_chance(r, 15) ? "./" : m_printf("%s/", path);
    } else if (kind < 62) {
        e.type = M_SYMLINK;
        e.target = random_target(r);
    } else if (kind < 74) {
        e.type = M_HARDLINK;
        e.target = m_printf("%s%s", m_chance(r, 6) ? "/" : "", known_path(r, 3));
    } else if (kind < 78) {
        e.type = m_chance(r, 2) ? M_CHAR : M_BLOCK;
        e.major = m_chance(r, 4) ? 4095 : 1;
        e.minor = m_chance(r, 4) ? 1048575 : (unsigned)m_random(r, 9);
    } else if (kind < 80) {
        e.type = M_FIFO;
    } else if (kind < 94) {
        char *hidden = known_path(r, 3);
        char *slash = strrchr(hidden, '/');

        e.name = slash ? m_printf("%.*s/.wh.%s", (int)(slash - hidden), hidden, slash + 1)
                       : m_printf(".wh.%s", hidden);
    } else {
        e.name = m_chance(r, 8) ? ".wh..wh..opq" : m_printf("%s/.wh..wh..opq", known_path(r, 3));
    }
    random_attrs(r, &e);
    return e;
}

/* ---- writing ---- */

void m_random_write(struct m_random *r, struct ld_buf *tar, const struct m_entry *e)
{
    struct mt_style style = {.has_dirty_padding = m_chance(r, 4)};
    uint64_t data = 0;

    for (size_t i = 0; i < e->n_segments; i++)
        data += e->segment[i].len;
    do {
        style.dialect = (enum mt_dialect)m_random(r, 3);
        style.sparse = MT_DENSE;
        if (data < e->size && (e->size > 1 << 20 || !m_chance(r, 4)))
            style.sparse = (enum mt_sparse)(1 + m_random(r, 4));
    } while (!mt_add(tar, e, &style));
}

void m_random_end(struct m_random *r, struct ld_buf *tar)
{
    if (m_chance(r, 8))
        return; /* no end: a stream that stops at an entry's */
    mt_end(tar);
    if (m_chance(r, 4))
        mt_end(tar);
    if (m_chance(r, 8))
        ld_buf_adds(tar, "rubbish after the end");
}
