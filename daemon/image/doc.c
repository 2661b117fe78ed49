/* Bounded JSON: see doc.h. One pass over the text judges what cJSON does not (depth, number of
 * values, UTF-8, NUL in strings), so that cJSON's recursion and allocations are bounded before it
 * starts. */
#include "daemon/image/doc.h"

#include <stdlib.h>
#include <string.h>

#include <cjson/cJSON.h>

#include "daemon/base/err.h"
#include "daemon/base/mem.h"

static int bad(struct ld_err *err, const char *what, const char *why)
{
    return ld_err_set(err, LD_E_BAD_CONTENT, "%s: %s", what, why);
}

/* The length of the UTF-8 sequence at s (RFC 3629: shortest form, no surrogates), 0 when it is
 * none. */
static size_t utf8_sequence(const unsigned char *s, size_t len)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    size_t n = s[0] < 0xC2 ? 0 : s[0] < 0xE0 ? 2 : s[0] < 0xF0 ? 3 : s[0] < 0xF5 ? 4 : 0;
    uint32_t code;

    if (n == 0 || n > len)
        return 0;
    code = s[0] & (0xFFU >> (n + 1));
    for (size_t i = 1; i < n; i++) {
        if ((s[i] & 0xC0) != 0x80)
            return 0;
        code = code << 6 | (s[i] & 0x3F);
    }
    if (code < least[n] || code > 0x10FFFF || (code >= 0xD800 && code <= 0xDFFF))
        return 0;
    return n;
}

/* What the scan knows at one point of the text. */
struct scan {
    const char *text;
    size_t len;
    size_t at;
    int depth;
    size_t values;
};

/* From the byte after the opening quote to the byte after the closing one. */
static const char *scan_string(struct scan *s)
{
    while (s->at < s->len) {
        unsigned char c = (unsigned char)s->text[s->at];
        size_t n = 1;

        if (c == '"') {
            s->at++;
            return NULL;
        }
        if (c < 0x20)
            return "there is a control character in a string";
        if (c == '\\') {
            n = 2;
            if (s->len - s->at >= 6 && memcmp(s->text + s->at, "\\u0000", 6) == 0)
                return "there is a NUL in a string";
        } else if (c >= 0x80) {
            n = utf8_sequence((const unsigned char *)s->text + s->at, s->len - s->at);
            if (n == 0)
                return "it is not valid UTF-8";
        }
        s->at += n;
    }
    return "it ends inside a string";
}

/* NULL when the text is within bounds, else why not. */
static const char *scan_bounds(const char *text, size_t len)
{
    struct scan s = {.text = text, .len = len, .values = 1};

    while (s.at < len) {
        const char *why = NULL;

        switch (text[s.at++]) {
        case '"':
            why = scan_string(&s);
            break;
        case '[':
        case '{':
            if (++s.depth > LD_DOC_MAX_DEPTH)
                why = "it is nested deeper than 32 levels";
            s.values++;
            break;
        case ']':
        case '}':
            s.depth--;
            break;
        case ',':
            s.values++;
            break;
        case '\0':
            why = "it holds a NUL byte";
            break;
        default:
            break;
        }
        if (why)
            return why;
        if (s.values > LD_DOC_MAX_VALUES)
            return "it holds more than 100,000 values";
    }
    return NULL;
}

static int compare_keys(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* The names of an object, sorted; borrowed, but the array itself is the caller's. */
static const char **sorted_keys(const cJSON *object, size_t *ret_n)
{
    const char **keys = NULL;
    size_t cap = 0;
    size_t n = 0;
    const cJSON *item = NULL;

    cJSON_ArrayForEach (item, object) {
        ld_grow(&keys, &cap, n + 1, sizeof(*keys));
        keys[n++] = item->string;
    }
    if (n > 1)
        qsort(keys, n, sizeof(*keys), compare_keys);
    *ret_n = n;
    return keys;
}

static int check_duplicates(const cJSON *object, const char *what, struct ld_err *err)
{
    size_t n = 0;
    autofree const char **keys = sorted_keys(object, &n);

    for (size_t i = 1; i < n; i++) {
        if (strcmp(keys[i - 1], keys[i]) == 0)
            return ld_err_set(err, LD_E_BAD_CONTENT, "%s: the member '%.100s' is there twice", what,
                              keys[i]);
    }
    return 0;
}

/* All objects of the document, depth first; the scan has bounded the depth. */
static int check_objects(const cJSON *root, const char *what, struct ld_err *err)
{
    const cJSON *stack[LD_DOC_MAX_DEPTH + 1] = {root};
    int depth = 0;

    while (depth >= 0) {
        const cJSON *node = stack[depth];

        if (!node) {
            depth--;
            continue;
        }
        stack[depth] = node == root ? NULL : node->next;
        if (cJSON_IsObject(node) && check_duplicates(node, what, err) < 0)
            return -1;
        if (node->child)
            stack[++depth] = node->child;
    }
    return 0;
}

static bool only_blanks(const char *s, const char *end)
{
    while (s < end && strchr(" \t\r\n", *s))
        s++;
    return s == end;
}

int ld_doc_parse(const char *text, size_t len, const char *what, struct cJSON **ret,
                 struct ld_err *err)
{
    LD_AUTO(ld_doc_free_p) cJSON *json = NULL;
    const char *why = len ? scan_bounds(text, len) : "it is empty";
    const char *end = NULL;

    if (why)
        return bad(err, what, why);
    json = cJSON_ParseWithLengthOpts(text, len, &end, 0);
    if (!json)
        return ld_err_set(err, LD_E_BAD_CONTENT, "%s: not valid JSON at byte %zu", what,
                          end ? (size_t)(end - text) : 0);
    if (!only_blanks(end, text + len))
        return bad(err, what, "there is something after the JSON value");
    if (!cJSON_IsObject(json) && !cJSON_IsArray(json))
        return bad(err, what, "it is neither a JSON object nor an array");
    if (check_objects(json, what, err) < 0)
        return -1;
    *ret = ld_steal(&json);
    return 0;
}

void ld_doc_free_p(struct cJSON **json)
{
    cJSON_Delete(*json);
    *json = NULL;
}

typedef cJSON_bool (*type_fn)(const cJSON *const item);

/* The member of the wanted type; NULL when it is missing or null. */
static int member(const struct ld_doc_reader *r, const cJSON *from, const char *name, type_fn is,
                  const char *type, const cJSON **ret)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(from, name);

    if (item && cJSON_IsNull(item))
        item = NULL;
    if (item && !is(item))
        return ld_err_set(r->err, LD_E_BAD_CONTENT, "%s: '%s' is not %s", r->what, name, type);
    *ret = item;
    return 0;
}

static int require(const struct ld_doc_reader *r, const cJSON *item, const char *name,
                   bool required)
{
    if (!item && required)
        return ld_err_set(r->err, LD_E_BAD_CONTENT, "%s: '%s' is missing", r->what, name);
    return 0;
}

int ld_doc_object(const struct ld_doc_reader *r, const struct cJSON *from, const char *name,
                  bool required, const struct cJSON **ret)
{
    const cJSON *item = NULL;

    if (member(r, from, name, cJSON_IsObject, "an object", &item) < 0 ||
        require(r, item, name, required) < 0)
        return -1;
    *ret = item;
    return 0;
}

int ld_doc_array(const struct ld_doc_reader *r, const struct cJSON *from, const char *name,
                 bool required, const struct cJSON **ret)
{
    const cJSON *item = NULL;

    if (member(r, from, name, cJSON_IsArray, "an array", &item) < 0 ||
        require(r, item, name, required) < 0)
        return -1;
    *ret = item;
    return 0;
}

int ld_doc_string(const struct ld_doc_reader *r, const struct cJSON *from, const char *name,
                  bool required, const char **ret)
{
    const cJSON *item = NULL;

    if (member(r, from, name, cJSON_IsString, "a string", &item) < 0 ||
        require(r, item, name, required) < 0)
        return -1;
    *ret = item ? item->valuestring : NULL;
    return 0;
}

int ld_doc_bool(const struct ld_doc_reader *r, const struct cJSON *from, const char *name,
                bool *ret)
{
    const cJSON *item = NULL;

    if (member(r, from, name, cJSON_IsBool, "true or false", &item) < 0)
        return -1;
    *ret = item && cJSON_IsTrue(item);
    return 0;
}

int ld_doc_u64(const struct ld_doc_reader *r, const struct cJSON *from, const char *name,
               bool required, uint64_t *ret)
{
    const cJSON *item = NULL;
    double value;

    if (member(r, from, name, cJSON_IsNumber, "a number", &item) < 0 ||
        require(r, item, name, required) < 0)
        return -1;
    value = item ? item->valuedouble : 0;
    /* NaN fails the first comparison; the conversion is exact below 2^53. */
    if (!(value >= 0 && value <= 0x1p53) || (double)(uint64_t)value < value)
        return ld_err_set(r->err, LD_E_BAD_CONTENT, "%s: '%s' is not a whole number from 0 to 2^53",
                          r->what, name);
    *ret = (uint64_t)value;
    return 0;
}

int ld_doc_strings(const struct ld_doc_reader *r, const struct cJSON *from, const char *name,
                   char ***ret)
{
    LD_AUTO(ld_strv_free_p) char **strv = NULL;
    const cJSON *array = NULL;
    const cJSON *item = NULL;
    size_t cap = 0;
    size_t n = 0;

    if (ld_doc_array(r, from, name, false, &array) < 0)
        return -1;
    if (array)
        ld_grow(&strv, &cap, 1, sizeof(*strv));
    cJSON_ArrayForEach (item, array) {
        if (!cJSON_IsString(item))
            return ld_err_set(r->err, LD_E_BAD_CONTENT,
                              "%s: '%s' holds something that is no string", r->what, name);
        ld_grow(&strv, &cap, n + 2, sizeof(*strv));
        strv[n++] = ld_strdup(item->valuestring);
    }
    *ret = ld_steal(&strv);
    return 0;
}

int ld_doc_keys(const struct ld_doc_reader *r, const struct cJSON *from, const char *name,
                char ***ret)
{
    autofree const char **keys = NULL;
    const cJSON *object = NULL;
    size_t n = 0;
    char **strv = NULL;
    size_t cap = 0;

    if (ld_doc_object(r, from, name, false, &object) < 0)
        return -1;
    if (object) {
        keys = sorted_keys(object, &n);
        ld_grow(&strv, &cap, n + 1, sizeof(*strv));
        for (size_t i = 0; i < n; i++)
            strv[i] = ld_strdup(keys[i]);
    }
    *ret = strv;
    return 0;
}

void ld_strv_free_p(char ***strv)
{
    for (char **p = *strv; p && *p; p++)
        free(*p);
    free(*strv);
    *strv = NULL;
}

size_t ld_strv_len(char *const *strv)
{
    size_t n = 0;

    while (strv && strv[n])
        n++;
    return n;
}
