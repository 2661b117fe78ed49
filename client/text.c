/* Safe and human text: see text.h. No state. */
#include "client/text.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "daemon/base/mem.h"
#include "daemon/base/parse.h"

enum { TEXT_MAX = 1 << 24 }; /* no single text printed is longer */

struct range {
    uint32_t first, last;
};

/* Combining marks and format characters that take no column. */
static const struct range narrow[] = {
    {0x0300, 0x036F}, {0x0483, 0x0489},   {0x0591, 0x05BD}, {0x0610, 0x061A}, {0x064B, 0x065F},
    {0x0900, 0x0902}, {0x0E31, 0x0E31},   {0x0E34, 0x0E3A}, {0x0E47, 0x0E4E}, {0x1AB0, 0x1AFF},
    {0x1DC0, 0x1DFF}, {0x200B, 0x200F},   {0x20D0, 0x20FF}, {0xFE00, 0xFE0F}, {0xFE20, 0xFE2F},
    {0xFEFF, 0xFEFF}, {0xE0100, 0xE01EF},
};

/* East Asian wide and full-width characters, and pictures. */
static const struct range wide[] = {
    {0x1100, 0x115F},   {0x2E80, 0x303E},   {0x3041, 0x33FF},   {0x3400, 0x4DBF},
    {0x4E00, 0x9FFF},   {0xA000, 0xA4CF},   {0xA960, 0xA97C},   {0xAC00, 0xD7A3},
    {0xF900, 0xFAFF},   {0xFE30, 0xFE6F},   {0xFF00, 0xFF60},   {0xFFE0, 0xFFE6},
    {0x1F300, 0x1F64F}, {0x1F680, 0x1F6FF}, {0x1F900, 0x1F9FF}, {0x20000, 0x3FFFD},
};

/* Characters that a terminal may obey, or that make text look like other text: C0, DEL, C1, line
 * and paragraph separators, the marks that override or isolate writing direction. */
static const struct range unsafe[] = {
    {0x00, 0x1F},     {0x7F, 0x9F},     {0x061C, 0x061C},
    {0x200E, 0x200F}, {0x2028, 0x202E}, {0x2066, 0x2069},
};

static bool is_in(const struct range *ranges, size_t n, uint32_t c)
{
    for (size_t i = 0; i < n; i++) {
        if (c >= ranges[i].first && c <= ranges[i].last)
            return true;
    }
    return false;
}

static bool is_unsafe(uint32_t c)
{
    return is_in(unsafe, LD_ARRAY_LEN(unsafe), c);
}

/* One character: its length in bytes, 0 where s does not start with valid UTF-8 (overlong forms,
 * surrogates and what is beyond U+10FFFF are not). */
static size_t decode(const char *s, size_t left, uint32_t *ret)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    const unsigned char *p = (const unsigned char *)s;
    uint32_t c;
    size_t len;

    if (left == 0)
        return 0;
    if (p[0] < 0x80) {
        *ret = p[0];
        return 1;
    }
    if (p[0] < 0xC2 || p[0] > 0xF4)
        return 0;
    len = p[0] < 0xE0 ? 2 : p[0] < 0xF0 ? 3 : 4;
    if (len > left)
        return 0;
    c = p[0] & (0x7FU >> len);
    for (size_t i = 1; i < len; i++) {
        if ((p[i] & 0xC0) != 0x80)
            return 0;
        c = c << 6 | (p[i] & 0x3F);
    }
    if (c < least[len] || c > 0x10FFFF || (c >= 0xD800 && c <= 0xDFFF))
        return 0;
    *ret = c;
    return len;
}

static size_t width_of(uint32_t c)
{
    if (is_in(narrow, LD_ARRAY_LEN(narrow), c))
        return 0;
    return is_in(wide, LD_ARRAY_LEN(wide), c) ? 2 : 1;
}

void ld_text_add_safe(struct ld_buf *buf, const char *s)
{
    size_t left = strlen(s);

    while (left > 0) {
        uint32_t c;
        size_t n = decode(s, left, &c);

        if (n == 0) {
            ld_buf_addf(buf, "\\x%02x", (unsigned char)*s);
            n = 1;
        } else if (!is_unsafe(c)) {
            ld_buf_add(buf, s, n);
        } else if (c == '\n') {
            ld_buf_adds(buf, "\\n");
        } else if (c == '\t') {
            ld_buf_adds(buf, "\\t");
        } else if (c < 0x80) {
            ld_buf_addf(buf, "\\x%02x", c);
        } else {
            ld_buf_addf(buf, "\\u{%x}", c);
        }
        s += n;
        left -= n;
    }
}

char *ld_text_safe(const char *s)
{
    autobuf struct ld_buf buf = LD_BUF_INIT(TEXT_MAX);

    ld_text_add_safe(&buf, s);
    return ld_buf_take(&buf);
}

void ld_text_add_safe_json(struct ld_buf *buf, const char *json, size_t len)
{
    while (len > 0) {
        uint32_t c;
        size_t n = decode(json, len, &c);

        if (n == 0) {
            ld_buf_adds(buf, "\xEF\xBF\xBD"); /* U+FFFD */
            n = 1;
        } else if (is_unsafe(c) && c != '\n' && c != '\t' && c != '\r') {
            ld_buf_addf(buf, "\\u%04x", c);
        } else {
            ld_buf_add(buf, json, n);
        }
        json += n;
        len -= n;
    }
}

size_t ld_text_width(const char *s)
{
    size_t left = strlen(s);
    size_t columns = 0;

    while (left > 0) {
        uint32_t c = 0;
        size_t n = decode(s, left, &c);

        columns += n ? width_of(c) : 1;
        n = n ? n : 1;
        s += n;
        left -= n;
    }
    return columns;
}

void ld_text_add_cut(struct ld_buf *buf, const char *s, size_t columns)
{
    size_t left = strlen(s);
    size_t used = 0;

    if (ld_text_width(s) <= columns) {
        ld_buf_adds(buf, s);
        return;
    }
    while (left > 0) {
        uint32_t c = 0;
        size_t n = decode(s, left, &c);
        size_t w = n ? width_of(c) : 1;

        if (used + w + 1 > columns)
            break;
        n = n ? n : 1;
        ld_buf_add(buf, s, n);
        used += w;
        s += n;
        left -= n;
    }
    if (columns > 0)
        ld_buf_adds(buf, "…");
}

void ld_text_add_cut_left(struct ld_buf *buf, const char *s, size_t columns)
{
    size_t have = ld_text_width(s);

    if (have <= columns) {
        ld_buf_adds(buf, s);
        return;
    }
    if (columns == 0)
        return;
    while (*s && have > columns - 1) {
        uint32_t c = 0;
        size_t n = decode(s, strlen(s), &c);

        have -= n ? width_of(c) : 1;
        s += n ? n : 1;
    }
    ld_buf_adds(buf, "…");
    ld_buf_adds(buf, s);
}

struct ld_text ld_text_size(uint64_t bytes)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    double value = (double)bytes;
    struct ld_text t;
    size_t unit = 0;

    /* 1023.5 would print as "1024": it belongs to the next unit. */
    while (value >= 1023.5 && unit + 1 < LD_ARRAY_LEN(units)) {
        value /= 1024;
        unit++;
    }
    (void)snprintf(t.text, sizeof(t.text), unit > 0 && value < 9.95 ? "%.1f %s" : "%.0f %s", value,
                   units[unit]); /* at most "1023 EiB" */
    return t;
}

struct ld_text ld_text_count(uint64_t n, const char *one, const char *many)
{
    struct ld_text t;

    (void)snprintf(t.text, sizeof(t.text), "%llu %s", (unsigned long long)n,
                   n == 1 ? one : many); /* the nouns are ours and short */
    return t;
}

struct ld_text ld_text_age(int64_t then, int64_t now)
{
    static const struct {
        int64_t seconds, upto;
        const char *one, *many;
    } steps[] = {
        {1, 120, "second", "seconds"},
        {60, 120 * 60, "minute", "minutes"},
        {3600, 48 * 3600, "hour", "hours"},
        {86400, 14 * 86400, "day", "days"},
        {7 * 86400, 60 * 86400, "week", "weeks"},
        {30 * 86400, 730 * (int64_t)86400, "month", "months"},
        {365 * (int64_t)86400, INT64_MAX, "year", "years"},
    };
    int64_t age;
    struct ld_text t;
    struct ld_text n;
    size_t i = 0;

    if (__builtin_sub_overflow(now, then, &age) || age == INT64_MIN) {
        (void)snprintf(t.text, sizeof(t.text), "?");
        return t;
    }
    if (age > -2 && age < 1) {
        (void)snprintf(t.text, sizeof(t.text), "just now");
        return t;
    }
    while ((age < 0 ? -age : age) >= steps[i].upto)
        i++;
    n = ld_text_count((uint64_t)((age < 0 ? -age : age) / steps[i].seconds), steps[i].one,
                      steps[i].many);
    (void)snprintf(t.text, sizeof(t.text), age < 0 ? "in %.40s" : "%.40s ago", n.text);
    return t;
}

struct ld_text ld_text_duration(uint64_t seconds)
{
    struct ld_text t;
    unsigned long long hours = seconds / 3600;
    unsigned minutes = (unsigned)(seconds / 60 % 60);
    unsigned rest = (unsigned)(seconds % 60);

    if (hours > 0)
        (void)snprintf(t.text, sizeof(t.text), "%llu:%02u:%02u", hours, minutes, rest);
    else
        (void)snprintf(t.text, sizeof(t.text), "%u:%02u", minutes, rest);
    return t;
}

struct ld_text ld_text_short_id(const char *id)
{
    static const char prefix[] = "sha256:";
    struct ld_text t;

    if (strncmp(id, prefix, sizeof(prefix) - 1) == 0)
        id += sizeof(prefix) - 1;
    (void)snprintf(t.text, sizeof(t.text), "%.12s", id); /* cut on purpose */
    return t;
}

struct ld_text ld_text_whole_seconds(const char *time)
{
    size_t len = strlen(time);
    struct ld_text t;

    if (len > 20 && time[19] == '.' && time[len - 1] == 'Z')
        (void)snprintf(t.text, sizeof(t.text), "%.19sZ", time);
    else
        (void)snprintf(t.text, sizeof(t.text), "%s", time); /* cut on purpose */
    return t;
}

int ld_text_decode_base64(const char *s, struct ld_buf *ret)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    uint32_t bits = 0;
    unsigned have = 0;

    for (; *s && *s != '='; s++) {
        const char *digit = strchr(digits, *s);

        if (!digit)
            return -EINVAL;
        bits = bits << 6 | (uint32_t)(digit - digits);
        have += 6;
        if (have >= 8) {
            have -= 8;
            ld_buf_addc(ret, (char)(bits >> have & 0xFF));
        }
    }
    return s[strspn(s, "=")] ? -EINVAL : 0;
}

unsigned ld_text_distance(const char *a, const char *b, unsigned limit)
{
    enum { MAX = 64 };
    unsigned char rows[3][MAX];
    size_t a_len = strlen(a), b_len = strlen(b);

    if (a_len >= MAX || b_len >= MAX)
        return limit + 1;
    for (size_t j = 0; j <= b_len; j++)
        rows[0][j] = (unsigned char)j;
    for (size_t i = 1; i <= a_len; i++) {
        unsigned char *row = rows[i % 3], *last = rows[(i + 2) % 3], *before = rows[(i + 1) % 3];

        row[0] = (unsigned char)i;
        for (size_t j = 1; j <= b_len; j++) {
            unsigned best = last[j - 1] + (a[i - 1] != b[j - 1]);

            if (last[j] + 1U < best)
                best = last[j] + 1U;
            if (row[j - 1] + 1U < best)
                best = row[j - 1] + 1U;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] &&
                before[j - 2] + 1U < best)
                best = before[j - 2] + 1U;
            row[j] = (unsigned char)best;
        }
    }
    return rows[a_len % 3][b_len] > limit ? limit + 1 : rows[a_len % 3][b_len];
}
