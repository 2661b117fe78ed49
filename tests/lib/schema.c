/* A JSON Schema validator: see schema.h. Recursion follows the schema and the value, both bounded
 * by cJSON's own nesting limit. */
#include "tests/lib/schema.h"

#include <math.h>
#include <regex.h>
#include <string.h>

#include <cjson/cJSON.h>

#include "daemon/base/buf.h"
#include "daemon/base/mem.h"

/* The place of a value, innermost first. */
struct place {
    const struct place *up;
    const char *name; /* NULL: an array's item */
    int index;
};

struct check {
    const cJSON *root;
    struct ld_buf *problem;
};

/* Which members of an object some schema has spoken of, by position. NULL for other values. */
typedef bool *seen_set;

static bool fits(const struct check *c, const cJSON *schema, const cJSON *value,
                 const struct place *at, seen_set seen);

static void add_place(struct ld_buf *buf, const struct place *at)
{
    const struct place *chain[64];
    size_t n = 0;

    for (; at && n < LD_ARRAY_LEN(chain); at = at->up)
        chain[n++] = at;
    while (n-- > 0) {
        if (chain[n]->name)
            ld_buf_addf(buf, "%s%s", chain[n]->up ? "." : "", chain[n]->name);
        else
            ld_buf_addf(buf, "[%d]", chain[n]->index);
    }
}

__attribute__((format(printf, 3, 4))) static bool
wrong(const struct check *c, const struct place *at, const char *fmt, ...)
{
    va_list ap;

    add_place(c->problem, at);
    ld_buf_adds(c->problem, ": ");
    va_start(ap, fmt);
    ld_buf_vaddf(c->problem, fmt, ap);
    va_end(ap);
    return false;
}

static const cJSON *member(const cJSON *object, const char *name)
{
    return cJSON_GetObjectItemCaseSensitive(object, name);
}

const cJSON *ld_schema_deref(const cJSON *root, const cJSON *node)
{
    const cJSON *ref = node ? member(node, "$ref") : NULL;

    for (int hops = 0; ref && hops < 16; hops++) {
        const char *rest = ref->valuestring;

        if (strncmp(rest, "#/", 2) != 0)
            return NULL;
        node = root;
        for (rest += 2; node && *rest;) {
            size_t len = strcspn(rest, "/");
            autofree char *part = ld_strndup(rest, len);

            node = member(node, part);
            rest += len + (rest[len] == '/');
        }
        ref = node ? member(node, "$ref") : NULL;
        /* A reference with siblings is a schema of its own. */
        if (ref && (node->child->next || node->child != ref))
            return node;
    }
    return node;
}

static bool has_type(const cJSON *value, const char *type)
{
    if (strcmp(type, "object") == 0)
        return cJSON_IsObject(value);
    if (strcmp(type, "array") == 0)
        return cJSON_IsArray(value);
    if (strcmp(type, "string") == 0)
        return cJSON_IsString(value);
    if (strcmp(type, "boolean") == 0)
        return cJSON_IsBool(value);
    if (strcmp(type, "null") == 0)
        return cJSON_IsNull(value);
    if (strcmp(type, "integer") == 0)
        return cJSON_IsNumber(value) && floor(value->valuedouble) == value->valuedouble;
    return false;
}

static bool fits_type(const cJSON *rule, const cJSON *value)
{
    const cJSON *one;

    if (cJSON_IsString(rule))
        return has_type(value, rule->valuestring);
    cJSON_ArrayForEach (one, rule) {
        if (has_type(value, one->valuestring))
            return true;
    }
    return false;
}

static bool fits_enum(const cJSON *rule, const cJSON *value)
{
    const cJSON *one;

    cJSON_ArrayForEach (one, rule) {
        if (cJSON_Compare(one, value, true))
            return true;
    }
    return false;
}

static bool matches(const struct check *c, const struct place *at, const cJSON *rule,
                    const char *text)
{
    regex_t regex;
    int rc = regcomp(&regex, rule->valuestring, REG_EXTENDED | REG_NOSUB);

    if (rc != 0)
        return wrong(c, at, "the pattern %s is not valid", rule->valuestring);
    rc = regexec(&regex, text, 0, NULL, 0);
    regfree(&regex);
    return rc == 0 || wrong(c, at, "'%s' does not match %s", text, rule->valuestring);
}

/* Characters, not bytes; the text is UTF-8. */
static double length_of(const char *text)
{
    size_t n = 0;

    for (; *text; text++)
        n += (*text & 0xc0) != 0x80;
    return (double)n;
}

static bool fits_bounds(const struct check *c, const struct place *at, const cJSON *rule,
                        double size)
{
    bool is_min = strncmp(rule->string, "min", 3) == 0;

    if (is_min ? size >= rule->valuedouble : size <= rule->valuedouble)
        return true;
    return wrong(c, at, "%s is %.0f, got %.0f", rule->string, rule->valuedouble, size);
}

static int position(const cJSON *object, const cJSON *child)
{
    int n = 0;

    for (const cJSON *i = object->child; i != child; i = i->next)
        n++;
    return n;
}

static bool fits_one_of(const struct check *c, const cJSON *rule, const cJSON *value,
                        const struct place *at, seen_set seen)
{
    size_t size = (size_t)cJSON_GetArraySize(value) + 1;
    autobuf struct ld_buf reasons = LD_BUF_INIT(65536);
    autofree bool *taken = ld_alloc0(size);
    int fitting = 0;
    const cJSON *one;

    cJSON_ArrayForEach (one, rule) {
        autobuf struct ld_buf reason = LD_BUF_INIT(16384);
        autofree bool *trial = ld_alloc0(size);

        if (fits(&(struct check){c->root, &reason}, one, value, at, trial)) {
            memcpy(taken, trial, size);
            fitting++;
        } else {
            ld_buf_addf(&reasons, " | %s", ld_buf_str(&reason));
        }
    }
    if (fitting != 1)
        return wrong(c, at, "fits %d of oneOf%s", fitting, ld_buf_str(&reasons));
    for (size_t i = 0; seen && i < size - 1; i++)
        seen[i] |= taken[i];
    return true;
}

static bool fits_items(const struct check *c, const cJSON *rule, const cJSON *value,
                       const struct place *at)
{
    int index = 0;

    for (const cJSON *item = value->child; item; item = item->next, index++) {
        if (!fits(c, rule, item, &(struct place){at, NULL, index}, NULL))
            return false;
    }
    return true;
}

static bool has_required(const struct check *c, const cJSON *rule, const cJSON *value,
                         const struct place *at)
{
    const cJSON *name;

    cJSON_ArrayForEach (name, rule) {
        if (!member(value, name->valuestring))
            return wrong(c, at, "'%s' is missing", name->valuestring);
    }
    return true;
}

/* properties and additionalProperties of one schema; marks what they speak of. */
static bool fits_members(const struct check *c, const cJSON *schema, const cJSON *value,
                         const struct place *at, seen_set seen)
{
    const cJSON *properties = member(schema, "properties");
    const cJSON *others = member(schema, "additionalProperties");
    int index = 0;

    for (const cJSON *m = value->child; m; m = m->next, index++) {
        const cJSON *rule = properties ? member(properties, m->string) : NULL;
        struct place below = {at, m->string, 0};

        if (position(value, member(value, m->string)) != index)
            return wrong(c, &below, "there twice");
        if (!rule && !others)
            continue;
        if (!rule && cJSON_IsFalse(others))
            return wrong(c, &below, "not a member that is described");
        if (seen)
            seen[index] = true;
        rule = rule ? rule : others;
        if (!cJSON_IsTrue(rule) && !fits(c, rule, m, &below, NULL))
            return false;
    }
    return true;
}

static bool all_seen(const struct check *c, const cJSON *value, const struct place *at,
                     const bool *seen)
{
    int index = 0;

    for (const cJSON *m = value->child; m; m = m->next, index++) {
        if (!seen[index])
            return wrong(c, &(struct place){at, m->string, 0}, "not a member that is described");
    }
    return true;
}

static bool fits_ref(const struct check *c, const cJSON *rule, const cJSON *value,
                     const struct place *at, seen_set seen)
{
    cJSON wrapper = {.type = cJSON_Object, .child = NULL};
    cJSON ref = *rule;
    const cJSON *target;

    /* Only the reference itself: its siblings are looked at by the caller. */
    ref.next = NULL;
    ref.prev = &ref;
    wrapper.child = &ref;
    target = ld_schema_deref(c->root, &wrapper);
    if (!target)
        return wrong(c, at, "the reference %s leads nowhere", rule->valuestring);
    return fits(c, target, value, at, seen);
}

enum keyword_kind { KEY_ALL, KEY_STRING, KEY_NUMBER, KEY_ARRAY, KEY_OBJECT, KEY_PASS };

static bool keyword_kind(const char *word, enum keyword_kind *ret)
{
    static const struct {
        const char *word;
        enum keyword_kind kind;
    } table[] = {
        {"$ref", KEY_ALL},         {"type", KEY_ALL},
        {"enum", KEY_ALL},         {"const", KEY_ALL},
        {"allOf", KEY_ALL},        {"oneOf", KEY_ALL},
        {"pattern", KEY_STRING},   {"minLength", KEY_STRING},
        {"maxLength", KEY_STRING}, {"minimum", KEY_NUMBER},
        {"maximum", KEY_NUMBER},   {"items", KEY_ARRAY},
        {"minItems", KEY_ARRAY},   {"maxItems", KEY_ARRAY},
        {"required", KEY_OBJECT},  {"maxProperties", KEY_OBJECT},
        {"properties", KEY_PASS},  {"additionalProperties", KEY_PASS},
        {"description", KEY_PASS}, {"unevaluatedProperties", KEY_PASS},
        {"example", KEY_PASS},     {"default", KEY_PASS},
        {"format", KEY_PASS},      {"title", KEY_PASS},
    };

    for (size_t i = 0; i < LD_ARRAY_LEN(table); i++) {
        if (strcmp(word, table[i].word) == 0) {
            *ret = table[i].kind;
            return true;
        }
    }
    *ret = KEY_PASS;
    return strncmp(word, "x-", 2) == 0;
}

static bool fits_any(const struct check *c, const cJSON *rule, const cJSON *value,
                     const struct place *at, seen_set seen)
{
    const cJSON *part;

    if (strcmp(rule->string, "$ref") == 0)
        return fits_ref(c, rule, value, at, seen);
    if (strcmp(rule->string, "oneOf") == 0)
        return fits_one_of(c, rule, value, at, seen);
    if (strcmp(rule->string, "type") == 0) {
        autofree char *told = cJSON_PrintUnformatted(value);

        return fits_type(rule, value) || wrong(c, at, "%.80s is of another type", told);
    }
    if (strcmp(rule->string, "enum") == 0)
        return fits_enum(rule, value) || wrong(c, at, "'%s' is none of the values",
                                               value->valuestring ? value->valuestring : "?");
    if (strcmp(rule->string, "const") == 0)
        return cJSON_Compare(rule, value, true) || wrong(c, at, "not the one value");
    cJSON_ArrayForEach (part, rule) /* allOf */
    {
        if (!fits(c, part, value, at, seen))
            return false;
    }
    return true;
}

static bool fits_rule(const struct check *c, const cJSON *rule, const cJSON *value,
                      const struct place *at, seen_set seen)
{
    enum keyword_kind kind;

    if (!keyword_kind(rule->string, &kind))
        return wrong(c, at, "the schema has the unknown word '%s'", rule->string);
    switch (kind) {
    case KEY_PASS:
        return true;
    case KEY_ALL:
        return fits_any(c, rule, value, at, seen);
    case KEY_STRING:
        if (!cJSON_IsString(value))
            return true;
        return strcmp(rule->string, "pattern") == 0
                   ? matches(c, at, rule, value->valuestring)
                   : fits_bounds(c, at, rule, length_of(value->valuestring));
    case KEY_NUMBER:
        return !cJSON_IsNumber(value) || fits_bounds(c, at, rule, value->valuedouble);
    case KEY_ARRAY:
        if (!cJSON_IsArray(value))
            return true;
        return strcmp(rule->string, "items") == 0
                   ? fits_items(c, rule, value, at)
                   : fits_bounds(c, at, rule, cJSON_GetArraySize(value));
    case KEY_OBJECT:
        if (!cJSON_IsObject(value))
            return true;
        return strcmp(rule->string, "required") == 0
                   ? has_required(c, rule, value, at)
                   : fits_bounds(c, at, rule, cJSON_GetArraySize(value));
    }
    return false;
}

static bool fits(const struct check *c, const cJSON *schema, const cJSON *value,
                 const struct place *at, seen_set seen)
{
    bool is_object = cJSON_IsObject(value);
    autofree bool *own = NULL;

    if (is_object && !seen)
        seen = own = ld_alloc0((size_t)cJSON_GetArraySize(value) + 1);
    for (const cJSON *rule = schema->child; rule; rule = rule->next) {
        if (!fits_rule(c, rule, value, at, seen))
            return false;
    }
    if (is_object && !fits_members(c, schema, value, at, seen))
        return false;
    if (is_object && cJSON_IsFalse(member(schema, "unevaluatedProperties")))
        return all_seen(c, value, at, seen);
    return true;
}

bool ld_schema_fits(const cJSON *root, const cJSON *schema, const cJSON *value, const char *what,
                    struct ld_buf *problem)
{
    struct check c = {root, problem};

    return fits(&c, schema, value, &(struct place){NULL, what, 0}, NULL);
}
