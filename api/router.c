/* The table of routes: see router.h.
 *
 * Invariants: routes of one pattern share a resource; resources are kept best first
 * (compare_patterns), so that the first that matches is the one. The path is split before it is
 * decoded, and decoded once.
 */
#include "api/router.h"

#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/base/buf.h"
#include "daemon/base/mem.h"
#include "daemon/base/parse.h"

enum { MAX_SEGMENTS = 32, MAX_ROUTES_HERE = 8 };

/* The better, the larger: a fixed word is worth more than a placeholder. */
enum kind { KIND_REST, KIND_ANY, KIND_GLOB, KIND_WORD };

struct segment {
    enum kind kind;
    char *name; /* of the placeholder */
    char *text; /* of the word, or the glob */
};

struct numbered {
    const struct ld_route *route;
    size_t number;
};

struct resource {
    const char *pattern;
    struct segment segments[MAX_SEGMENTS];
    size_t n, n_words;
    size_t rest; /* where {x...} stands; n: nowhere */
    struct numbered routes[MAX_ROUTES_HERE];
    size_t n_routes;
};

struct ld_router {
    struct resource **resources;
    size_t n, cap;
    const struct ld_route **routes; /* by number */
    size_t n_routes, routes_cap;
};

/* ---- patterns ---- */

static struct segment parse_segment(const char *text, size_t len)
{
    struct segment s = {.kind = KIND_WORD};
    autofree char *inner = NULL;
    char *colon;

    if (text[0] != '{') {
        s.text = ld_strndup(text, len);
        return s;
    }
    assert(len > 2 && text[len - 1] == '}');
    inner = ld_strndup(text + 1, len - 2);
    len -= 2;
    colon = strchr(inner, ':');
    if (colon) {
        s.kind = KIND_GLOB;
        s.text = ld_strdup(colon + 1);
        s.name = ld_strndup(inner, (size_t)(colon - inner));
    } else if (len > 3 && strcmp(inner + len - 3, "...") == 0) {
        s.kind = KIND_REST;
        s.name = ld_strndup(inner, len - 3);
    } else {
        s.kind = KIND_ANY;
        s.name = ld_strdup(inner);
    }
    return s;
}

static struct resource *parse_pattern(const char *pattern)
{
    struct resource *r = ld_new(struct resource);
    const char *at = pattern;

    r->pattern = pattern;
    r->rest = SIZE_MAX;
    while (*at) {
        const char *end;

        assert(*at == '/' && r->n < MAX_SEGMENTS);
        end = strchrnul(++at, '/');
        r->segments[r->n] = parse_segment(at, (size_t)(end - at));
        if (r->segments[r->n].kind == KIND_REST) {
            assert(r->rest == SIZE_MAX);
            r->rest = r->n;
        }
        r->n_words += r->segments[r->n].kind == KIND_WORD;
        r->n++;
        at = end;
    }
    if (r->rest == SIZE_MAX)
        r->rest = r->n;
    return r;
}

/* Greater than zero: a is asked before b. */
static int compare_patterns(const struct resource *a, const struct resource *b)
{
    for (size_t i = 0; i < a->n && i < b->n && i <= a->rest; i++)
        if (a->segments[i].kind != b->segments[i].kind)
            return (int)a->segments[i].kind - (int)b->segments[i].kind;
    return a->n_words == b->n_words ? 0 : a->n_words > b->n_words ? 1 : -1;
}

static struct resource *resource_get(struct ld_router *router, const char *pattern)
{
    struct resource *made;
    size_t at = 0;

    for (size_t i = 0; i < router->n; i++)
        if (strcmp(router->resources[i]->pattern, pattern) == 0)
            return router->resources[i];
    made = parse_pattern(pattern);
    ld_grow(&router->resources, &router->cap, router->n + 1, sizeof(made));
    while (at < router->n && compare_patterns(router->resources[at], made) >= 0)
        at++;
    memmove(router->resources + at + 1, router->resources + at, (router->n - at) * sizeof(made));
    router->resources[at] = made;
    router->n++;
    return made;
}

struct ld_router *ld_router_new(void)
{
    return ld_new(struct ld_router);
}

void ld_router_add(struct ld_router *router, const struct ld_route *routes, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct resource *r = resource_get(router, routes[i].pattern);

        assert(r->n_routes < MAX_ROUTES_HERE && routes[i].handler);
        for (size_t k = 0; k < r->n_routes; k++)
            assert(strcmp(r->routes[k].route->method, routes[i].method) != 0);
        r->routes[r->n_routes++] = (struct numbered){&routes[i], router->n_routes};
        ld_grow(&router->routes, &router->routes_cap, router->n_routes + 1,
                sizeof(*router->routes));
        router->routes[router->n_routes++] = &routes[i];
    }
}

const struct ld_route *ld_router_route(const struct ld_router *router, size_t number)
{
    return number < router->n_routes ? router->routes[number] : NULL;
}

void ld_router_free(struct ld_router *router)
{
    if (!router)
        return;
    for (size_t i = 0; i < router->n; i++) {
        struct resource *r = router->resources[i];

        for (size_t k = 0; k < r->n; k++) {
            free(r->segments[k].name);
            free(r->segments[k].text);
        }
        free(r);
    }
    free(router->resources);
    free(router->routes);
    free(router);
}

/* ---- decoding ---- */

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

/* One pass of percent-decoding. NULL: a malformed escape or a NUL. */
static char *decode(const char *text, size_t len, bool plus_is_blank)
{
    autofree char *out = ld_alloc0(len + 1);
    size_t n = 0;

    for (size_t i = 0; i < len; i++) {
        char c = text[i];

        if (c == '%') {
            int high = i + 2 < len ? hex_digit(text[i + 1]) : -1;
            int low = high >= 0 ? hex_digit(text[i + 2]) : -1;

            if (low < 0 || (high == 0 && low == 0))
                return NULL;
            c = (char)(high * 16 + low);
            i += 2;
        } else if (c == '+' && plus_is_blank) {
            c = ' ';
        }
        out[n++] = c;
    }
    return ld_steal(&out);
}

/* ---- the path ---- */

struct span {
    const char *at;
    size_t len;
};

struct path {
    struct span segments[MAX_SEGMENTS];
    size_t n;
};

/* False: not a path that could name anything. */
static bool split_path(const char *at, size_t len, struct path *ret)
{
    const char *end = at + len;

    ret->n = 0;
    while (at < end) {
        const char *slash;

        if (*at != '/' || ret->n == MAX_SEGMENTS)
            return false;
        at++;
        slash = memchr(at, '/', (size_t)(end - at));
        if (!slash)
            slash = end;
        ret->segments[ret->n++] = (struct span){at, (size_t)(slash - at)};
        at = slash;
    }
    return ret->n > 0;
}

static bool segment_matches(const struct segment *s, const struct span *span)
{
    autofree char *text = NULL;

    if (span->len == 0)
        return false;
    if (s->kind == KIND_ANY || s->kind == KIND_REST)
        return true;
    text = decode(span->at, span->len, false);
    if (!text)
        return false;
    return s->kind == KIND_GLOB ? ld_glob_matches(s->text, text) : strcmp(s->text, text) == 0;
}

/* How many segments {x...} stands for, 0 when there is none; -1: no match. */
static long match(const struct resource *r, const struct path *path)
{
    bool has_rest = r->rest < r->n;
    size_t rest_len;

    if (path->n < r->n || (!has_rest && path->n > r->n))
        return -1;
    rest_len = has_rest ? path->n - r->n + 1 : 0;
    for (size_t i = 0; i < path->n; i++) {
        size_t at = i;

        if (has_rest && i >= r->rest)
            at = i < r->rest + rest_len ? r->rest : i - rest_len + 1;
        if (!segment_matches(&r->segments[at], &path->segments[i]))
            return -1;
    }
    return (long)rest_len;
}

static bool is_utf8(const char *text)
{
    const unsigned char *s = (const unsigned char *)text;

    while (*s) {
        unsigned lead = *s++, n, min, code;

        if (lead < 0x80)
            continue;
        if (lead >= 0xC2 && lead <= 0xDF)
            n = 1, min = 0x80, code = lead & 0x1F;
        else if (lead >= 0xE0 && lead <= 0xEF)
            n = 2, min = 0x800, code = lead & 0x0F;
        else if (lead >= 0xF0 && lead <= 0xF4)
            n = 3, min = 0x10000, code = lead & 0x07;
        else
            return false;
        for (; n > 0; n--, s++) {
            if ((*s & 0xC0) != 0x80)
                return false;
            code = code << 6 | (*s & 0x3F);
        }
        if (code < min || code > 0x10FFFF || (code >= 0xD800 && code <= 0xDFFF))
            return false;
    }
    return true;
}

static int take_params(const struct resource *r, const struct path *path, size_t rest_len,
                       struct ld_target *target, struct ld_err *err)
{
    size_t at = 0;

    for (size_t i = 0; i < r->n; i++) {
        const struct span *first = &path->segments[at];
        size_t count = i == r->rest ? rest_len : 1;
        const struct span *last = first + count - 1;
        autofree char *value = NULL;

        at += count;
        if (r->segments[i].kind == KIND_WORD)
            continue;
        value = decode(first->at, (size_t)(last->at + last->len - first->at), false);
        if (!value || !is_utf8(value))
            return ld_err_set(err, LD_E_INVALID, "the path is not well-formed: '%.*s'",
                              (int)first->len, first->at);
        assert(target->n_params < LD_MAX_PARAMS);
        target->params[target->n_params++] =
            (struct ld_target_pair){ld_strdup(r->segments[i].name), ld_steal(&value)};
    }
    return 0;
}

/* ---- the method ---- */

static void add_method(char *list, size_t size, const char *method)
{
    size_t len = strlen(list);

    if (strstr(list, method)) /* no method's name is a part of another one's */
        return;
    assert(len + strlen(method) + 3 <= size);
    if (len > 0)
        len = (size_t)(stpcpy(list + len, ", ") - list);
    (void)stpcpy(list + len, method);
}

static const struct numbered *find_method(const struct resource *r, const char *method)
{
    for (size_t i = 0; i < r->n_routes; i++)
        if (strcmp(r->routes[i].route->method, method) == 0)
            return &r->routes[i];
    return NULL;
}

static bool choose_route(const struct resource *r, const char *method, struct ld_target *target)
{
    const struct numbered *found = find_method(r, method);

    if (!found && strcmp(method, "HEAD") == 0)
        found = find_method(r, "GET");
    if (found) {
        target->route = found->route;
        target->number = found->number;
    }
    return found != NULL;
}

static void add_methods(struct ld_target *target, const struct resource *r)
{
    for (size_t i = 0; i < r->n_routes; i++) {
        const char *method = r->routes[i].route->method;

        add_method(target->allow, sizeof(target->allow), method);
        if (strcmp(method, "GET") == 0 && !find_method(r, "HEAD"))
            add_method(target->allow, sizeof(target->allow), "HEAD");
    }
}

/* ---- the query ---- */

/* What a route says of a key: 0 nothing, else '1' once, '?' boolean, '*' repeated. */
static char query_kind(const struct ld_route *route, const char *key)
{
    const char *at = route->query ? route->query : "";
    size_t len = strlen(key);

    while (*at) {
        const char *end = strchrnul(at, ' ');
        char mark = end[-1];
        bool is_marked = mark == '?' || mark == '*';

        if ((size_t)(end - at) - is_marked == len && memcmp(at, key, len) == 0)
            return is_marked ? mark : '1';
        at = *end ? end + 1 : end;
    }
    return 0;
}

static bool is_bool(const char *value)
{
    static const char *const words[] = {"", "1", "true", "0", "false"};

    for (size_t i = 0; i < LD_ARRAY_LEN(words); i++)
        if (strcmp(value, words[i]) == 0)
            return true;
    return false;
}

static int refuse_unknown(const struct ld_target *target, const char *unknown, struct ld_err *err)
{
    autobuf struct ld_buf known = LD_BUF_INIT(1024);

    (void)ld_err_set(err, LD_E_INVALID, "unknown query key %s", unknown);
    for (const char *c = target->route->query ? target->route->query : ""; *c; c++)
        if (*c == ' ')
            ld_buf_adds(&known, ", ");
        else if (*c != '?' && *c != '*')
            ld_buf_addc(&known, *c);
    return ld_err_hint(err, known.len ? "known here: %s" : "this resource takes no query%s",
                       ld_buf_str(&known));
}

/* Names all unknown keys at once; then repeated ones and booleans that are none. */
static int check_query(const struct ld_target *target, struct ld_err *err)
{
    autobuf struct ld_buf unknown = LD_BUF_INIT(400);

    if (target->route->flags & LD_ROUTE_ANY_QUERY)
        return 0;
    for (size_t i = 0; i < target->n_query; i++)
        if (!query_kind(target->route, target->query[i].key))
            ld_buf_addf(&unknown, "%s'%s'", unknown.len ? ", " : "", target->query[i].key);
    if (unknown.len || unknown.full)
        return refuse_unknown(target, ld_buf_str(&unknown), err);

    for (size_t i = 0; i < target->n_query; i++) {
        const char *key = target->query[i].key;
        char kind = query_kind(target->route, key);

        if (kind != '*' && ld_target_query(target, key, 1))
            return ld_err_set(err, LD_E_INVALID, "query key '%s' may be given once only", key);
        if (kind == '?' && !is_bool(target->query[i].value))
            return ld_err_set(err, LD_E_INVALID, "query key '%s' takes 1, true, 0 or false", key);
    }
    return 0;
}

static int take_query(const char *at, struct ld_target *target, struct ld_err *err)
{
    while (*at) {
        const char *end = strchrnul(at, '&');
        const char *equals = memchr(at, '=', (size_t)(end - at));
        const char *key_end = equals ? equals : end;
        const char *value = equals ? equals + 1 : end;
        struct ld_target_pair pair;

        if (end > at) {
            if (target->n_query == LD_MAX_QUERY)
                return ld_err_set(err, LD_E_INVALID, "more than %d query keys", LD_MAX_QUERY);
            pair.key = decode(at, (size_t)(key_end - at), true);
            pair.value = decode(value, (size_t)(end - value), true);
            ld_grow(&target->query, &target->query_cap, target->n_query + 1, sizeof(pair));
            target->query[target->n_query++] = pair;
            if (!pair.key || !pair.value || !is_utf8(pair.key))
                return ld_err_set(err, LD_E_INVALID, "the query is not well-formed: '%.*s'",
                                  (int)(end - at < 200 ? end - at : 200), at);
        }
        at = *end ? end + 1 : end;
    }
    return check_query(target, err);
}

/* ---- lookup ---- */

/* The absolute form ("http://host/path") is as good as the path alone: RFC 9112, 3.2.2. */
static const char *skip_authority(const char *raw)
{
    static const char scheme[] = "http://";

    if (strncasecmp(raw, scheme, sizeof(scheme) - 1) == 0)
        return strchrnul(raw + sizeof(scheme) - 1, '/');
    return raw;
}

/* The first resource that matches the path, or the next one segment for segment that has the
 * method. -1: not_found, method_not_allowed. */
static int find_resource(const struct ld_router *router, const char *method,
                         const struct path *path, struct ld_target *target,
                         const struct resource **ret, long *ret_rest_len, struct ld_err *err)
{
    const struct resource *first = NULL;

    for (size_t i = 0; i < router->n; i++) {
        const struct resource *r = router->resources[i];
        long rest_len = first && r->rest < r->n ? -1 : match(r, path);

        if (rest_len < 0)
            continue;
        if (choose_route(r, method, target)) {
            target->allow[0] = '\0';
            *ret = r;
            *ret_rest_len = rest_len;
            return 0;
        }
        first = first ? first : r;
        add_methods(target, r);
    }
    if (!first)
        return ld_err_set(err, LD_E_NOT_FOUND, "no such resource");
    return ld_err_set(err, LD_E_METHOD, "%s is not possible here, only %s", method, target->allow);
}

int ld_router_find(const struct ld_router *router, const char *method, const char *raw,
                   struct ld_target *target, struct ld_err *err)
{
    const char *path_at = skip_authority(raw);
    const char *query = strchrnul(path_at, '?');
    const struct resource *found = NULL;
    struct path path;
    long rest_len = 0;

    if (strlen(raw) > LD_MAX_TARGET)
        return ld_err_set(err, LD_E_INVALID, "the request's target is longer than %d bytes",
                          LD_MAX_TARGET);
    if (!split_path(path_at, (size_t)(query - path_at), &path))
        path.n = 0; /* matches nothing */
    if (find_resource(router, method, &path, target, &found, &rest_len, err) < 0)
        return err->code == LD_E_NOT_FOUND
                   ? ld_err_set(err, LD_E_NOT_FOUND, "no such resource: '%.*s'",
                                (int)(query - path_at < 200 ? query - path_at : 200), path_at)
                   : -1;
    if (take_params(found, &path, (size_t)rest_len, target, err) < 0)
        return -1;
    return *query ? take_query(query + 1, target, err) : 0;
}

const char *ld_target_param(const struct ld_target *target, const char *key)
{
    for (size_t i = 0; i < target->n_params; i++)
        if (strcmp(target->params[i].key, key) == 0)
            return target->params[i].value;
    return NULL;
}

const char *ld_target_query(const struct ld_target *target, const char *key, size_t at)
{
    for (size_t i = 0; i < target->n_query; i++)
        if (strcmp(target->query[i].key, key) == 0 && at-- == 0)
            return target->query[i].value;
    return NULL;
}

static void free_pairs(struct ld_target_pair *pairs, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        free(pairs[i].key);
        free(pairs[i].value);
    }
}

void ld_target_done(struct ld_target *target)
{
    free_pairs(target->params, target->n_params);
    free_pairs(target->query, target->n_query);
    free(target->query);
    *target = (struct ld_target){0};
}
