/* Image references: see ref.h. The grammar is that of github.com/distribution/reference, the rules
 * for what may be left out are Docker's. Hand-written scanners instead of regular expressions: each
 * takes a text and tells how much of it belongs to the thing. */
#include "daemon/image/ref.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "daemon/base/err.h"
#include "daemon/base/parse.h"

static const char default_domain[] = "docker.io";
static const char legacy_domain[] = "index.docker.io";
static const char official_prefix[] = "library/";

static bool is_lower_alnum(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

static bool is_alnum(char c)
{
    return is_lower_alnum(c) || (c >= 'A' && c <= 'Z');
}

bool ld_reference_tag_is_valid(const char *tag)
{
    size_t len = strlen(tag);

    if (len == 0 || len > LD_REFERENCE_TAG_MAX || !(is_alnum(tag[0]) || tag[0] == '_'))
        return false;
    for (size_t i = 1; i < len; i++) {
        if (!is_alnum(tag[i]) && !strchr("_.-", tag[i]))
            return false;
    }
    return true;
}

/* One host name component, not empty, no hyphen at its ends: its length, 0 when it is none. */
static size_t host_component(const char *s, size_t len)
{
    size_t n = 0;

    while (n < len && (is_alnum(s[n]) || s[n] == '-'))
        n++;
    return n > 0 && s[0] != '-' && s[n - 1] != '-' ? n : 0;
}

static bool port_is_valid(const char *s, size_t len)
{
    if (len < 2 || s[0] != ':')
        return false;
    for (size_t i = 1; i < len; i++) {
        if (s[i] < '0' || s[i] > '9')
            return false;
    }
    return true;
}

static bool ipv6_is_valid(const char *s, size_t len)
{
    size_t n = 1;

    while (n < len && (isxdigit((unsigned char)s[n]) || s[n] == ':'))
        n++;
    if (n == 1 || n == len || s[n] != ']')
        return false;
    n++;
    return n == len || port_is_valid(s + n, len - n);
}

static bool domain_is_valid(const char *s, size_t len)
{
    size_t at = 0;

    if (len > 0 && s[0] == '[')
        return ipv6_is_valid(s, len);
    for (;;) {
        size_t n = host_component(s + at, len - at);

        if (n == 0)
            return false;
        at += n;
        if (at == len)
            return true;
        if (s[at] != '.')
            return port_is_valid(s + at, len - at);
        at++;
    }
}

/* Between two runs of letters and digits: one of ".", "_", "__", or any number of "-". */
static size_t separator(const char *s, size_t len)
{
    size_t n = 0;

    if (len == 0)
        return 0;
    if (s[0] == '.')
        return 1;
    if (s[0] == '_')
        return len > 1 && s[1] == '_' ? 2 : 1;
    while (n < len && s[n] == '-')
        n++;
    return n;
}

static bool path_component_is_valid(const char *s, size_t len)
{
    size_t at = 0;

    for (;;) {
        size_t start = at;
        size_t n;

        while (at < len && is_lower_alnum(s[at]))
            at++;
        if (at == start)
            return false;
        if (at == len)
            return true;
        n = separator(s + at, len - at);
        if (n == 0)
            return false;
        at += n;
    }
}

static bool path_is_valid(const char *s, size_t len)
{
    for (;;) {
        const char *slash = memchr(s, '/', len);
        size_t n = slash ? (size_t)(slash - s) : len;

        if (!path_component_is_valid(s, n))
            return false;
        if (!slash)
            return true;
        s += n + 1;
        len -= n + 1;
    }
}

static bool has_upper(const char *s, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (s[i] >= 'A' && s[i] <= 'Z')
            return true;
    }
    return false;
}

/* Docker's guess whether the first component is a registry's host. */
static bool looks_like_domain(const char *s, size_t len)
{
    return memchr(s, '.', len) || memchr(s, ':', len) || has_upper(s, len) ||
           (len == strlen("localhost") && memcmp(s, "localhost", len) == 0);
}

static int refuse(struct ld_err *err, const char *text, const char *why)
{
    return ld_err_set(err, LD_E_INVALID, "image reference '%.200s' is not valid: %s", text, why);
}

/* Takes "@digest" off the end; *len becomes the length of what stands before it. */
static int take_digest(const char *text, size_t *len, struct ld_reference *ref, struct ld_err *err)
{
    const char *at = memchr(text, '@', *len);
    struct ld_digest digest;
    int r;

    if (!at)
        return 0;
    r = ld_digest_parse(at + 1, &digest);
    if (r == -EOPNOTSUPP)
        return refuse(err, text, "only sha256 digests are supported");
    if (r < 0)
        return refuse(err, text, "after '@' it needs 'sha256:' and 64 lower-case hex digits");
    ld_digest_format(&digest, ref->digest);
    *len = (size_t)(at - text);
    return 0;
}

/* Takes ":tag" off the end: the last colon after the last slash, unless all there is is a host. */
static int take_tag(const char *text, size_t *len, struct ld_reference *ref, struct ld_err *err)
{
    const char *slash = memrchr(text, '/', *len);
    const char *from = slash ? slash + 1 : text;
    const char *colon = memchr(from, ':', *len - (size_t)(from - text));
    size_t n;

    if (!colon)
        return 0;
    n = (size_t)(text + *len - (colon + 1));
    if (n > LD_REFERENCE_TAG_MAX)
        return refuse(err, text, "the tag is longer than 128 bytes");
    memcpy(ref->tag, colon + 1, n);
    ref->tag[n] = '\0';
    if (!ld_reference_tag_is_valid(ref->tag))
        return refuse(err, text, "the tag may hold letters, digits, '_', '.' and '-'");
    *len = (size_t)(colon - text);
    return 0;
}

static int set_name(const char *text, size_t len, struct ld_reference *ref, struct ld_err *err)
{
    const char *slash = memchr(text, '/', len);
    size_t first = slash ? (size_t)(slash - text) : 0;
    bool has_domain = slash && looks_like_domain(text, first);
    const char *domain = has_domain ? text : default_domain;
    size_t domain_len = has_domain ? first : strlen(default_domain);
    const char *path = has_domain ? slash + 1 : text;
    size_t path_len = has_domain ? len - first - 1 : len;
    const char *prefix = "";
    int n;

    if (has_domain && domain_len == strlen(legacy_domain) &&
        memcmp(domain, legacy_domain, domain_len) == 0) {
        domain = default_domain;
        domain_len = strlen(default_domain);
    }
    if (domain_len == strlen(default_domain) && memcmp(domain, default_domain, domain_len) == 0 &&
        !memchr(path, '/', path_len))
        prefix = official_prefix;
    if (!domain_is_valid(domain, domain_len))
        return refuse(err, text, "its first part is not a host name");
    if (has_upper(path, path_len))
        return refuse(err, text, "the repository name must be lower case");
    if (!path_is_valid(path, path_len))
        return refuse(err, text, "a name is runs of a-z and 0-9, joined by '.', '_', '__' or '-'");
    n = snprintf(ref->name, sizeof(ref->name), "%.*s/%s%.*s", (int)domain_len, domain, prefix,
                 (int)path_len, path);
    if (n < 0 || (size_t)n >= sizeof(ref->name))
        return refuse(err, text, "the name is longer than 255 bytes");
    return 0;
}

int ld_reference_parse(const char *text, struct ld_reference *ret, struct ld_err *err)
{
    size_t len = strnlen(text, LD_REFERENCE_TEXT);
    struct ld_reference ref = {0};

    if (len == 0)
        return ld_err_set(err, LD_E_INVALID, "an image reference is empty");
    if (len >= LD_REFERENCE_TEXT)
        return refuse(err, text, "it is too long");
    if (ld_is_hex(text, 64))
        return refuse(err, text, "64 hex digits are an id, not a name");
    if (take_digest(text, &len, &ref, err) < 0 || take_tag(text, &len, &ref, err) < 0 ||
        set_name(text, len, &ref, err) < 0)
        return -1;
    if (!ref.tag[0] && !ref.digest[0]) {
        memcpy(ref.tag, "latest", sizeof("latest"));
        ref.is_default_tag = true;
    }
    *ret = ref;
    return 0;
}

static void join(const struct ld_reference *ref, const char *name, char text[LD_REFERENCE_TEXT])
{
    (void)snprintf(text, LD_REFERENCE_TEXT, "%s%s%s%s%s", name, ref->tag[0] ? ":" : "", ref->tag,
                   ref->digest[0] ? "@" : "", ref->digest); /* sized for the longest of each */
}

void ld_reference_format(const struct ld_reference *ref, char text[LD_REFERENCE_TEXT])
{
    join(ref, ref->name, text);
}

/* The name without what may be left out: a borrowed tail of ref->name. */
static const char *short_name(const struct ld_reference *ref)
{
    static const char default_slash[] = "docker.io/";
    const char *name = ref->name;
    const char *slash;

    if (strncmp(name, default_slash, strlen(default_slash)) != 0)
        return name;
    name += strlen(default_slash);
    if (strncmp(name, official_prefix, strlen(official_prefix)) == 0 &&
        !strchr(name + strlen(official_prefix), '/'))
        return name + strlen(official_prefix);
    slash = strchr(name, '/');
    if (slash && looks_like_domain(name, (size_t)(slash - name)))
        return ref->name;
    return name;
}

void ld_reference_familiar_name(const struct ld_reference *ref,
                                char text[LD_REFERENCE_NAME_MAX + 1])
{
    (void)snprintf(text, LD_REFERENCE_NAME_MAX + 1, "%s",
                   short_name(ref)); /* never longer than the name */
}

void ld_reference_familiar(const struct ld_reference *ref, char text[LD_REFERENCE_TEXT])
{
    join(ref, short_name(ref), text);
}
