/* Parsing of numbers, sizes and names: see parse.h. */
#include "daemon/base/parse.h"

#include <ctype.h>
#include <errno.h>
#include <fnmatch.h>
#include <limits.h>
#include <string.h>
#include <strings.h>
#include <time.h>

/* Digits of a base up to 10 from the start of s; *end is the first byte that is none. */
static int digits(const char *s, unsigned base, uint64_t *ret, const char **end)
{
    uint64_t value = 0;
    const char *p = s;

    for (; *p >= '0' && *p < (char)('0' + base); p++) {
        if (__builtin_mul_overflow(value, base, &value) ||
            __builtin_add_overflow(value, (uint64_t)(*p - '0'), &value))
            return -ERANGE;
    }
    if (p == s)
        return -EINVAL;
    *ret = value;
    *end = p;
    return 0;
}

int ld_parse_u64(const char *s, uint64_t min, uint64_t max, uint64_t *ret)
{
    const char *end;
    uint64_t value;
    int r = digits(s, 10, &value, &end);

    if (r < 0)
        return r;
    if (*end)
        return -EINVAL;
    if (value < min || value > max)
        return -ERANGE;
    *ret = value;
    return 0;
}

int ld_parse_int(const char *s, int min, int max, int *ret)
{
    bool negative = min < 0 && *s == '-';
    const char *end;
    uint64_t magnitude;
    int64_t value;
    int r = digits(s + negative, 10, &magnitude, &end);

    if (r < 0)
        return r;
    if (*end)
        return -EINVAL;
    if (magnitude > (uint64_t)INT_MAX + 1)
        return -ERANGE;
    value = negative ? -(int64_t)magnitude : (int64_t)magnitude;
    if (value < min || value > max)
        return -ERANGE;
    *ret = (int)value;
    return 0;
}

int ld_parse_octal(const char *s, uint64_t max, uint64_t *ret)
{
    const char *end;
    uint64_t value;
    int r = digits(s, 8, &value, &end);

    if (r < 0)
        return r;
    if (*end)
        return -EINVAL;
    if (value > max)
        return -ERANGE;
    *ret = value;
    return 0;
}

int ld_parse_bool(const char *s, bool *ret)
{
    static const char *const yes[] = {"1", "true", "yes", "on"};
    static const char *const no[] = {"0", "false", "no", "off"};

    for (size_t i = 0; i < LD_ARRAY_LEN(yes); i++) {
        if (strcasecmp(s, yes[i]) == 0) {
            *ret = true;
            return 0;
        }
        if (strcasecmp(s, no[i]) == 0) {
            *ret = false;
            return 0;
        }
    }
    return -EINVAL;
}

int ld_parse_size(const char *s, uint64_t *ret)
{
    static const char units[] = "KMGT";
    const char *end;
    uint64_t value;
    int r = digits(s, 10, &value, &end);

    if (r < 0)
        return r;
    if (*end) {
        const char *unit = strchr(units, toupper((unsigned char)*end));
        uint64_t factor;

        if (!unit)
            return -EINVAL;
        factor = UINT64_C(1) << (10 * (unit - units + 1));
        end++;
        if (strcasecmp(end, "ib") != 0 && strcasecmp(end, "b") != 0 && *end)
            return -EINVAL;
        if (__builtin_mul_overflow(value, factor, &value))
            return -ERANGE;
    }
    *ret = value;
    return 0;
}

int ld_parse_seconds(const char *s, uint64_t *ret_ms)
{
    static const struct {
        const char *unit;
        uint64_t ms;
    } units[] = {{"", 1000},       {"ms", 1},          {"s", 1000},
                 {"m", 60 * 1000}, {"h", 3600 * 1000}, {"d", 86400 * 1000}};
    const char *end;
    uint64_t value;
    int r = digits(s, 10, &value, &end);

    if (r < 0)
        return r;
    for (size_t i = 0; i < LD_ARRAY_LEN(units); i++) {
        if (strcmp(end, units[i].unit) == 0) {
            if (__builtin_mul_overflow(value, units[i].ms, &value))
                return -ERANGE;
            *ret_ms = value;
            return 0;
        }
    }
    return -EINVAL;
}

/* n digits at *s into a number; moves on. */
static bool take_number(const char **s, size_t n, int *ret)
{
    int value = 0;

    for (size_t i = 0; i < n; i++, (*s)++) {
        if (**s < '0' || **s > '9')
            return false;
        value = value * 10 + (**s - '0');
    }
    *ret = value;
    return true;
}

static bool take_char(const char **s, const char *any)
{
    if (!**s || !strchr(any, **s))
        return false;
    (*s)++;
    return true;
}

/* "Z" or "+hh:mm": seconds east of Greenwich. */
static bool take_offset(const char **s, int64_t *ret)
{
    int hours, minutes;
    int sign = **s == '-' ? -1 : 1;

    if (take_char(s, "Zz")) {
        *ret = 0;
        return true;
    }
    if (!take_char(s, "+-") || !take_number(s, 2, &hours) || !take_char(s, ":") ||
        !take_number(s, 2, &minutes))
        return false;
    *ret = sign * (hours * 3600 + minutes * 60);
    return true;
}

int ld_parse_time(const char *s, int64_t *ret_seconds)
{
    struct tm tm = {0};
    int64_t offset;

    if (!take_number(&s, 4, &tm.tm_year) || !take_char(&s, "-") ||
        !take_number(&s, 2, &tm.tm_mon) || !take_char(&s, "-") ||
        !take_number(&s, 2, &tm.tm_mday) || !take_char(&s, "Tt ") ||
        !take_number(&s, 2, &tm.tm_hour) || !take_char(&s, ":") ||
        !take_number(&s, 2, &tm.tm_min) || !take_char(&s, ":") || !take_number(&s, 2, &tm.tm_sec))
        return -EINVAL;
    if (take_char(&s, ".")) {
        while (*s >= '0' && *s <= '9')
            s++;
    }
    if (!take_offset(&s, &offset) || *s)
        return -EINVAL;
    if (tm.tm_mon < 1 || tm.tm_mon > 12 || tm.tm_mday < 1 || tm.tm_mday > 31 || tm.tm_hour > 23 ||
        tm.tm_min > 59 || tm.tm_sec > 60)
        return -EINVAL;
    tm.tm_year -= 1900;
    tm.tm_mon -= 1;
    *ret_seconds = (int64_t)timegm(&tm) - offset;
    return 0;
}

bool ld_is_hex(const char *s, size_t n)
{
    return strlen(s) == n && strspn(s, "0123456789abcdef") == n;
}

bool ld_name_is_valid(const char *name)
{
    static const char first[] = "abcdefghijklmnopqrstuvwxyz0123456789";
    static const char rest[] = "abcdefghijklmnopqrstuvwxyz0123456789_.-";
    size_t len = strlen(name);

    return len >= 1 && len <= 128 && strchr(first, name[0]) && strspn(name, rest) == len &&
           !ld_is_hex(name, 64);
}

bool ld_glob_matches(const char *glob, const char *text)
{
    return fnmatch(glob, text, 0) == 0;
}
