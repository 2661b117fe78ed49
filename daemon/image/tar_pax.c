/* Extended headers: "LENGTH KEY=VALUE\n" records into values. Pure functions, any thread.
 *
 * The data is changed in place: each key and each value gets its NUL where '=' and '\n' stood, so
 * that nothing is copied and values of any bytes keep their length. */
#include "daemon/image/tar_impl.h"

#include <string.h>

#include "daemon/base/parse.h"

#define XATTR_PREFIX "SCHILY.xattr."

struct record {
    char *key;
    char *value;
    size_t len; /* of the value */
};

static int malformed(struct ld_err *err)
{
    return ld_err_set(err, LD_E_BAD_CONTENT, "its extended header is malformed");
}

static int bad_value(const struct record *r, struct ld_err *err)
{
    return ld_err_set(err, LD_E_BAD_CONTENT, "its extended header has a bad value for '%s'",
                      r->key);
}

/* Takes one record off the front of *data. */
static int next_record(char **data, size_t *left, struct record *ret, struct ld_err *err)
{
    char *start = *data;
    char *blank = memchr(start, ' ', *left < 8 ? *left : 8);
    uint64_t len;
    char *equals;

    if (!blank)
        return malformed(err);
    *blank = '\0';
    if (ld_parse_u64(start, 1, *left, &len) < 0 || start + len <= blank + 1 ||
        start[len - 1] != '\n')
        return malformed(err);
    ret->key = blank + 1;
    equals = memchr(ret->key, '=', (size_t)(start + len - ret->key));
    if (!equals || equals == ret->key)
        return malformed(err);
    *equals = '\0';
    start[len - 1] = '\0';
    ret->value = equals + 1;
    ret->len = (size_t)(start + len - 1 - ret->value);
    if (strlen(ret->key) != (size_t)(equals - ret->key))
        return malformed(err);
    *data = start + len;
    *left -= (size_t)len;
    return 0;
}

/* A value that is text: it holds no NUL. NULL (record taken back) when empty. */
static int set_text(const struct record *r, const char **ret, struct ld_err *err)
{
    if (strlen(r->value) != r->len)
        return bad_value(r, err);
    *ret = r->len ? r->value : NULL;
    return 0;
}

/* A number; an empty value takes an earlier record back. */
static int set_number(struct ld_tar_pax *pax, const struct record *r, enum ld_tar_pax_has bit,
                      uint64_t *ret, struct ld_err *err)
{
    pax->has &= ~(unsigned)bit;
    if (r->len == 0)
        return 0;
    if (strlen(r->value) != r->len || ld_parse_u64(r->value, 0, INT64_MAX, ret) < 0)
        return bad_value(r, err);
    pax->has |= bit;
    return 0;
}

/* Digits after the point; those after the ninth are cut off, as Go and libarchive do. */
static int parse_fraction(const char *digits, uint32_t *ret)
{
    uint32_t nsec = 0;
    int n = 0;

    for (const char *p = digits; *p; p++) {
        if (*p < '0' || *p > '9')
            return -EINVAL;
        if (n < 9) {
            nsec = nsec * 10 + (uint32_t)(*p - '0');
            n++;
        }
    }
    for (; n < 9; n++)
        nsec *= 10;
    *ret = nsec;
    return 0;
}

/* [-]SECONDS[.FRACTION]; far-off times are the file system's to clamp, only sums must not wrap. */
static int set_time(struct ld_tar_pax *pax, const struct record *r, struct ld_err *err)
{
    bool is_negative = r->value[0] == '-';
    char *text = r->value + is_negative;
    char *point = strchr(text, '.');
    uint32_t nsec = 0;
    uint64_t sec;

    pax->has &= ~(unsigned)LD_TAR_PAX_MTIME;
    if (r->len == 0)
        return 0;
    if (strlen(r->value) != r->len)
        return bad_value(r, err);
    if (point)
        *point = '\0';
    if (ld_parse_u64(text, 0, INT64_MAX >> 1, &sec) < 0 ||
        (point && parse_fraction(point + 1, &nsec) < 0))
        return bad_value(r, err);
    pax->mtime_sec = is_negative ? -(int64_t)sec - (nsec > 0) : (int64_t)sec;
    pax->mtime_nsec = is_negative && nsec ? 1000000000 - nsec : nsec;
    pax->has |= LD_TAR_PAX_MTIME;
    return 0;
}

static int set_xattr(struct ld_tar_pax *pax, const struct record *r, struct ld_err *err)
{
    const char *name = r->key + strlen(XATTR_PREFIX);
    struct ld_tar_xattr xattr = {.name = name, .value = r->value, .len = r->len};
    size_t i = 0;

    if (name[0] == '\0' || strlen(name) > 255)
        return ld_err_set(err, LD_E_BAD_CONTENT, "it has an xattr whose name is empty or too long");
    if (r->len > LD_TAR_MAX_XATTR)
        return ld_err_over_limit(err, "max_xattr", LD_TAR_MAX_XATTR,
                                 "its xattr '%s' is larger than %d bytes", name, LD_TAR_MAX_XATTR);
    while (i < pax->n_xattrs && strcmp(pax->xattrs[i].name, name) != 0)
        i++;
    if (i == LD_TAR_MAX_XATTRS || ++pax->xattr_records > 2 * LD_TAR_MAX_XATTRS)
        return ld_err_over_limit(err, "max_xattrs", LD_TAR_MAX_XATTRS, "it has more than %d xattrs",
                                 LD_TAR_MAX_XATTRS);
    pax->xattrs[i] = xattr;
    if (i == pax->n_xattrs)
        pax->n_xattrs++;
    return 0;
}

/* Form 0.0 says each segment in two records that repeat. */
static int set_sparse_pair(struct ld_tar_pax *pax, const struct record *r, bool is_offset,
                           struct ld_err *err)
{
    uint64_t value;

    if (strlen(r->value) != r->len || ld_parse_u64(r->value, 0, INT64_MAX, &value) < 0 ||
        pax->offset_pending == is_offset)
        return bad_value(r, err);
    pax->has_map = true;
    pax->offset_pending = is_offset;
    if (is_offset)
        pax->offset = value;
    else if (ld_tar_map_add(pax->map, pax->offset, value, err) < 0)
        return -1;
    return 0;
}

static int set_sparse_map(struct ld_tar_pax *pax, const struct record *r, struct ld_err *err)
{
    if (strlen(r->value) != r->len)
        return bad_value(r, err);
    pax->has_map = true;
    pax->offset_pending = false;
    pax->map->n = 0;
    return ld_tar_map_add_text(pax->map, r->value, err);
}

static int set_sparse(struct ld_tar_pax *pax, const struct record *r, const char *key,
                      struct ld_err *err)
{
    if (strcmp(key, "major") == 0)
        return set_text(r, &pax->sparse_major, err);
    if (strcmp(key, "minor") == 0)
        return set_text(r, &pax->sparse_minor, err);
    if (strcmp(key, "name") == 0)
        return set_text(r, &pax->sparse_name, err);
    if (strcmp(key, "realsize") == 0 || strcmp(key, "size") == 0)
        return set_number(pax, r, LD_TAR_PAX_REAL_SIZE, &pax->real_size, err);
    if (strcmp(key, "numblocks") == 0)
        return set_number(pax, r, LD_TAR_PAX_BLOCKS, &pax->n_blocks, err);
    if (strcmp(key, "map") == 0)
        return set_sparse_map(pax, r, err);
    if (strcmp(key, "offset") == 0 || strcmp(key, "numbytes") == 0)
        return set_sparse_pair(pax, r, key[0] == 'o', err);
    return 0;
}

static int set(struct ld_tar_pax *pax, const struct record *r, struct ld_err *err)
{
    static const char sparse[] = "GNU.sparse.";
    bool meant_something = pax->means_something;

    pax->means_something = true;
    if (strncmp(r->key, XATTR_PREFIX, strlen(XATTR_PREFIX)) == 0)
        return set_xattr(pax, r, err);
    if (strncmp(r->key, sparse, strlen(sparse)) == 0)
        return set_sparse(pax, r, r->key + strlen(sparse), err);
    if (strcmp(r->key, "path") == 0)
        return set_text(r, &pax->path, err);
    if (strcmp(r->key, "linkpath") == 0)
        return set_text(r, &pax->linkpath, err);
    if (strcmp(r->key, "size") == 0)
        return set_number(pax, r, LD_TAR_PAX_SIZE, &pax->size, err);
    if (strcmp(r->key, "uid") == 0)
        return set_number(pax, r, LD_TAR_PAX_UID, &pax->uid, err);
    if (strcmp(r->key, "gid") == 0)
        return set_number(pax, r, LD_TAR_PAX_GID, &pax->gid, err);
    if (strcmp(r->key, "mtime") == 0)
        return set_time(pax, r, err);
    pax->means_something = meant_something;
    return 0;
}

int ld_tar_pax_parse(struct ld_tar_pax *pax, char *data, size_t len, struct ld_err *err)
{
    while (len > 0) {
        struct record record;

        if (next_record(&data, &len, &record, err) < 0 || set(pax, &record, err) < 0)
            return -1;
    }
    return 0;
}

int ld_tar_pax_check_global(const struct ld_tar_pax *pax, struct ld_err *err)
{
    if (pax->path || pax->linkpath || pax->has & LD_TAR_PAX_SIZE || pax->has_map ||
        pax->sparse_major || pax->sparse_minor || pax->sparse_name ||
        pax->has & (LD_TAR_PAX_REAL_SIZE | LD_TAR_PAX_BLOCKS))
        return ld_err_set(err, LD_E_BAD_CONTENT,
                          "a global header gives a path or size to all entries");
    return 0;
}

int ld_tar_pax_sparse(const struct ld_tar_pax *pax, enum ld_tar_sparse *ret, struct ld_err *err)
{
    const char *major = pax->sparse_major ? pax->sparse_major : "0";
    const char *minor = pax->sparse_minor ? pax->sparse_minor : "0";

    *ret = LD_TAR_NOT_SPARSE;
    if (strcmp(major, "1") == 0 && strcmp(minor, "0") == 0)
        *ret = LD_TAR_SPARSE_1;
    else if (strcmp(major, "0") != 0 || (strcmp(minor, "0") != 0 && strcmp(minor, "1") != 0))
        return ld_err_set(err, LD_E_BAD_CONTENT, "its sparse format is not known");
    /* The forms 0 came without a version at first; a file of nothing but a hole has an empty map.
     */
    else if (pax->has_map || pax->has & LD_TAR_PAX_BLOCKS)
        *ret = LD_TAR_SPARSE_0;
    if (*ret == LD_TAR_NOT_SPARSE)
        return 0;
    if (!(pax->has & LD_TAR_PAX_REAL_SIZE) || pax->offset_pending)
        return malformed(err);
    if (*ret == LD_TAR_SPARSE_0 && pax->has & LD_TAR_PAX_BLOCKS && pax->map->n != pax->n_blocks)
        return ld_err_set(err, LD_E_BAD_CONTENT, "its map of holes is malformed");
    return 0;
}
