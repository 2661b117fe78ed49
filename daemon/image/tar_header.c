/* One tar header block into values: v7, ustar, GNU. Pure functions of their arguments, any thread.
 *
 * Layout (POSIX.1-2017 pax, "ustar Interchange Format"; GNU tar manual, "Basic Tar Format"):
 * name 0 (100), mode 100 (8), uid 108 (8), gid 116 (8), size 124 (12), mtime 136 (12), chksum 148
 * (8), type 156, linkname 157 (100), magic 257 (8), devmajor 329 (8), devminor 337 (8), prefix 345
 * (155); GNU in place of the prefix: atime 345 (12), ctime 357 (12), …, sparse map 386, realsize
 * 483. */
#include "daemon/image/tar_impl.h"

#include <string.h>

#include "daemon/base/parse.h"

bool ld_tar_block_is_zero(const uint8_t block[LD_TAR_BLOCK_SIZE])
{
    return block[0] == 0 && memcmp(block, block + 1, LD_TAR_BLOCK_SIZE - 1) == 0;
}

/* Big-endian two's complement; bit 7 of the first byte only marks the form, bit 6 is the sign. */
static int base256(const uint8_t *field, size_t len, int64_t *ret)
{
    uint8_t invert = field[0] & 0x40 ? 0xFF : 0;
    uint64_t value = 0;

    for (size_t i = 0; i < len; i++) {
        uint8_t c = field[i] ^ invert;

        if (i == 0)
            c &= 0x7F;
        if (value >> 55)
            return -ERANGE;
        value = value << 8 | c;
    }
    *ret = invert ? -(int64_t)value - 1 : (int64_t)value;
    return 0;
}

int ld_tar_number(const uint8_t *field, size_t len, int64_t *ret)
{
    char text[13] = {0};
    uint64_t value = 0;
    size_t n;
    int rc;

    if (len > sizeof(text) - 1)
        return -EINVAL;
    if (field[0] & 0x80)
        return base256(field, len, ret);
    while (len > 0 && (*field == ' ' || *field == '\0')) {
        field++;
        len--;
    }
    memcpy(text, field, len);
    n = strlen(text);
    while (n > 0 && text[n - 1] == ' ')
        text[--n] = '\0';
    rc = n ? ld_parse_octal(text, INT64_MAX, &value) : 0;
    if (rc < 0)
        return rc;
    *ret = (int64_t)value;
    return 0;
}

/* Old tars summed signed bytes; both are accepted, as everywhere. */
static bool checksum_matches(const uint8_t *block)
{
    int32_t plain = 8 * ' ', with_sign = 8 * ' '; /* the field itself counts as blanks */
    int64_t want;

    for (size_t i = 0; i < LD_TAR_BLOCK_SIZE; i++) {
        if (i == 148)
            i += 8;
        plain += block[i];
        with_sign += (int8_t)block[i];
    }
    return ld_tar_number(block + 148, 8, &want) == 0 && (want == plain || want == with_sign);
}

static int number(const uint8_t *field, size_t len, const char *what, int64_t *ret,
                  struct ld_err *err)
{
    if (ld_tar_number(field, len, ret) < 0)
        return ld_err_set(err, LD_E_BAD_CONTENT, "the header's %s is not a number", what);
    return 0;
}

static int not_negative(const uint8_t *field, size_t len, const char *what, uint64_t *ret,
                        struct ld_err *err)
{
    int64_t value;

    if (number(field, len, what, &value, err) < 0)
        return -1;
    if (value < 0)
        return ld_err_set(err, LD_E_BAD_CONTENT, "the header's %s is negative", what);
    *ret = (uint64_t)value;
    return 0;
}

/* Go before 1.8 wrote a ustar prefix into headers with GNU's magic, and docker's old images have
 * such headers: where GNU has its times there is a prefix if they are no numbers. */
static bool gnu_has_prefix(const uint8_t *block)
{
    int64_t time;

    if (ld_tar_number(block + 345, 12, &time) == 0 && ld_tar_number(block + 357, 12, &time) == 0)
        return false;
    for (size_t i = 345; i < 500 && block[i]; i++) {
        if (block[i] & 0x80)
            return false;
    }
    return true;
}

static void join_name(const uint8_t *block, bool has_prefix, char name[155 + 1 + 100 + 1])
{
    size_t n = has_prefix ? strnlen((const char *)block + 345, 155) : 0;
    size_t len = strnlen((const char *)block, 100);

    memcpy(name, block + 345, n);
    if (n)
        name[n++] = '/';
    memcpy(name + n, block, len);
    name[n + len] = '\0';
}

static int parse_numbers(const uint8_t *block, struct ld_tar_header *h, struct ld_err *err)
{
    uint64_t mode;

    if (not_negative(block + 100, 8, "mode", &mode, err) < 0 ||
        not_negative(block + 108, 8, "owner", &h->uid, err) < 0 ||
        not_negative(block + 116, 8, "group", &h->gid, err) < 0 ||
        not_negative(block + 124, 12, "size", &h->size, err) < 0 ||
        number(block + 136, 12, "time", &h->mtime, err) < 0)
        return -1;
    h->mode = mode & 07777;
    /* Writers leave anything in the device fields of other types. */
    if ((h->type == '3' || h->type == '4') &&
        (not_negative(block + 329, 8, "device number", &h->devmajor, err) < 0 ||
         not_negative(block + 337, 8, "device number", &h->devminor, err) < 0))
        return -1;
    return 0;
}

int ld_tar_header_parse(const uint8_t block[LD_TAR_BLOCK_SIZE], struct ld_tar_header *ret,
                        struct ld_err *err)
{
    bool is_ustar = memcmp(block + 257, "ustar\0", 6) == 0;
    bool is_gnu = memcmp(block + 257, "ustar  \0", 8) == 0;
    size_t len;

    if (!checksum_matches(block))
        return ld_err_set(err, LD_E_BAD_CONTENT, "this is not a tar header (wrong checksum)");
    *ret = (struct ld_tar_header){.type = (char)block[156]};
    join_name(block, is_ustar || (is_gnu && gnu_has_prefix(block)), ret->name);
    len = strnlen((const char *)block + 157, 100);
    memcpy(ret->linkname, block + 157, len);
    return parse_numbers(block, ret, err);
}
