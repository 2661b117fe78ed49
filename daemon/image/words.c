/* Words of Dockerfile lines: see words.h. BuildKit's shell lexer is the model. */
#include "daemon/image/words.h"

#include <stdbool.h>
#include <string.h>

#include "daemon/base/buf.h"
#include "daemon/base/err.h"
#include "daemon/base/mem.h"

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

/* ---- splitting ---- */

/* From the first byte of a word to behind its last one. */
static const char *skip_word(const char *at)
{
    char quote = '\0';

    for (; *at && (quote || !is_blank(*at)); at++) {
        if (*at == '\\' && quote != '\'' && at[1])
            at++;
        else if (quote && *at == quote)
            quote = '\0';
        else if (!quote && (*at == '\'' || *at == '"'))
            quote = *at;
    }
    return at;
}

char **ld_words_split(const char *text)
{
    char **words = ld_alloc0(sizeof(*words));
    size_t n = 0, cap = 1;

    for (const char *at = text; *at;) {
        const char *end;

        if (is_blank(*at)) {
            at++;
            continue;
        }
        end = skip_word(at);
        ld_grow(&words, &cap, n + 2, sizeof(*words));
        words[n++] = ld_strndup(at, (size_t)(end - at));
        at = end;
    }
    return words;
}

/* ---- expanding ---- */

struct expand {
    const char *at;
    ld_words_get_fn get;
    void *arg;
    int depth;
    struct ld_err *err;
};

static int unended(struct expand *x, const char *what)
{
    return ld_err_set(x->err, LD_E_INVALID, "%s is not closed", what);
}

static size_t name_length(const char *s)
{
    static const char digits[] = "0123456789";
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_0123456789";

    if (*s == '@' || *s == '*' || *s == '#')
        return 1; /* a shell's own: never set here */
    return strspn(s, strspn(s, digits) ? digits : letters);
}

static int expand_until(struct expand *x, char stop, struct ld_buf *out);

/* Behind the name in ${name…: to behind the brace. */
static int expand_modifier(struct expand *x, const char *value, struct ld_buf *out)
{
    autobuf struct ld_buf word = LD_BUF_INIT(LD_WORDS_MAX);
    bool has_colon = *x->at == ':';
    bool is_set = value && (!has_colon || *value);
    char how;

    x->at += has_colon;
    how = *x->at;
    if (how != '-' && how != '+')
        return how ? ld_err_set(x->err, LD_E_INVALID,
                                "of variables there are the forms $a, ${a}, ${a:-word} and "
                                "${a:+word}")
                   : unended(x, "a '${'");
    if (x->depth == LD_WORDS_DEPTH)
        return ld_err_set(x->err, LD_E_INVALID, "variables are nested deeper than %d levels",
                          LD_WORDS_DEPTH);
    x->at++;
    x->depth++;
    if (expand_until(x, '}', &word) < 0)
        return -1;
    x->depth--;
    if (is_set == (how == '+'))
        ld_buf_adds(out, ld_buf_str(&word));
    else if (is_set)
        ld_buf_adds(out, value);
    out->full |= word.full;
    return 0;
}

/* At the byte behind '$'. */
static int expand_variable(struct expand *x, struct ld_buf *out)
{
    bool has_brace = *x->at == '{';
    const char *name = x->at + has_brace;
    size_t len = name_length(name);
    const char *value;

    if (len == 0 && has_brace)
        return ld_err_set(x->err, LD_E_INVALID, "'${' is not followed by a name");
    if (len == 0) {
        ld_buf_addc(out, '$');
        return 0;
    }
    value = x->get(x->arg, name, len);
    x->at = name + len;
    if (has_brace && *x->at != '}')
        return expand_modifier(x, value, out);
    x->at += has_brace;
    ld_buf_adds(out, value ? value : "");
    return 0;
}

/* At the byte behind the quote. */
static int expand_single(struct expand *x, struct ld_buf *out)
{
    const char *end = strchr(x->at, '\'');

    if (!end)
        return unended(x, "a single quote");
    ld_buf_add(out, x->at, (size_t)(end - x->at));
    x->at = end + 1;
    return 0;
}

static int expand_double(struct expand *x, struct ld_buf *out)
{
    while (*x->at && *x->at != '"') {
        char c = *x->at++;

        if (c == '$') {
            if (expand_variable(x, out) < 0)
                return -1;
            continue;
        }
        if (c == '\\' && *x->at && strchr("\"$\\", *x->at))
            c = *x->at++;
        ld_buf_addc(out, c);
    }
    if (!*x->at)
        return unended(x, "a double quote");
    x->at++;
    return 0;
}

/* To behind `stop`; '\0': to the end. Its recursion, through a variable's word, is bounded by
 * LD_WORDS_DEPTH. */
static int expand_until(struct expand *x, char stop, struct ld_buf *out)
{
    while (*x->at && *x->at != stop) {
        char c = *x->at++;
        int rc = 0;

        if (c == '\'')
            rc = expand_single(x, out);
        else if (c == '"')
            rc = expand_double(x, out);
        else if (c == '$')
            rc = expand_variable(x, out);
        else if (c != '\\')
            ld_buf_addc(out, c);
        else if (*x->at)
            ld_buf_addc(out, *x->at++);
        if (rc < 0)
            return -1;
    }
    if (stop && !*x->at)
        return unended(x, "a '${'");
    x->at += stop != '\0';
    return 0;
}

int ld_words_expand(const char *text, ld_words_get_fn get, void *arg, char **ret,
                    struct ld_err *err)
{
    struct expand x = {.at = text, .get = get, .arg = arg, .err = err};
    autobuf struct ld_buf out = LD_BUF_INIT(LD_WORDS_MAX);

    if (expand_until(&x, '\0', &out) < 0)
        return -1;
    if (ld_buf_check(&out) < 0)
        return ld_err_set(err, LD_E_INVALID, "it comes to more than %d bytes", LD_WORDS_MAX);
    *ret = ld_buf_take(&out);
    return 0;
}
