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

/* The word in ${name:-word}, while it is read. */
struct frame {
    struct ld_buf word;
    char *value; /* of the variable; owned; NULL: not set */
    bool takes_word, takes_value;
    bool was_quoted; /* the '${' stands in double quotes */
};

struct expand {
    const char *at;
    ld_words_get_fn get;
    void *arg;
    struct frame frame[LD_WORDS_DEPTH];
    int depth;
    bool is_quoted; /* in double quotes */
    struct ld_buf out;
    struct ld_err *err;
};

static void expand_done(struct expand *x)
{
    for (int i = 0; i < LD_WORDS_DEPTH; i++) {
        ld_buf_done(&x->frame[i].word);
        ld_free_p(&x->frame[i].value);
    }
    ld_buf_done(&x->out);
}

/* Where what is read now goes. */
static struct ld_buf *target(struct expand *x)
{
    return x->depth ? &x->frame[x->depth - 1].word : &x->out;
}

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

/* Behind the name in ${name…: to the word. */
static int begin_word(struct expand *x, const char *value)
{
    bool has_colon = *x->at == ':';
    bool is_set = value && (!has_colon || *value);
    char how;

    x->at += has_colon;
    how = *x->at;
    if (!how)
        return unended(x, "a '${'");
    if (how != '-' && how != '+')
        return ld_err_set(x->err, LD_E_INVALID,
                          "of variables there are the forms $a, ${a}, ${a:-word} and ${a:+word}");
    if (x->depth == LD_WORDS_DEPTH)
        return ld_err_set(x->err, LD_E_INVALID, "variables are nested deeper than %d levels",
                          LD_WORDS_DEPTH);
    x->at++;
    x->frame[x->depth++] = (struct frame){.word = LD_BUF_INIT(LD_WORDS_MAX),
                                          .value = value ? ld_strdup(value) : NULL,
                                          .takes_word = is_set == (how == '+'),
                                          .takes_value = is_set && how == '-',
                                          .was_quoted = x->is_quoted};
    x->is_quoted = false;
    return 0;
}

/* Behind the brace that closes it. */
static void end_word(struct expand *x)
{
    struct frame *f = &x->frame[--x->depth];
    struct ld_buf *out = target(x);

    if (f->takes_word)
        ld_buf_adds(out, ld_buf_str(&f->word));
    else if (f->takes_value)
        ld_buf_adds(out, f->value);
    out->full |= f->word.full;
    x->is_quoted = f->was_quoted;
    ld_buf_done(&f->word);
    ld_free_p(&f->value);
}

/* At the byte behind '$'. */
static int expand_variable(struct expand *x)
{
    bool has_brace = *x->at == '{';
    const char *name = x->at + has_brace;
    size_t len = name_length(name);
    const char *value;

    if (len == 0 && has_brace)
        return ld_err_set(x->err, LD_E_INVALID, "'${' is not followed by a name");
    if (len == 0) {
        ld_buf_addc(target(x), '$');
        return 0;
    }
    value = x->get(x->arg, name, len);
    x->at = name + len;
    if (has_brace && *x->at != '}')
        return begin_word(x, value);
    x->at += has_brace;
    ld_buf_adds(target(x), value ? value : "");
    return 0;
}

/* At the byte behind the quote. */
static int expand_single(struct expand *x)
{
    const char *end = strchr(x->at, '\'');

    if (!end)
        return unended(x, "a single quote");
    ld_buf_add(target(x), x->at, (size_t)(end - x->at));
    x->at = end + 1;
    return 0;
}

static int expand_next(struct expand *x)
{
    char c = *x->at++;

    if (c == '$')
        return expand_variable(x);
    if (c == '"') {
        x->is_quoted = !x->is_quoted;
        return 0;
    }
    if (c == '\\' && (!x->is_quoted || (*x->at && strchr("\"$\\", *x->at)))) {
        if (*x->at)
            ld_buf_addc(target(x), *x->at++);
        return 0;
    }
    if (c == '\'' && !x->is_quoted)
        return expand_single(x);
    if (c == '}' && !x->is_quoted && x->depth > 0)
        end_word(x);
    else
        ld_buf_addc(target(x), c);
    return 0;
}

int ld_words_expand(const char *text, ld_words_get_fn get, void *arg, char **ret,
                    struct ld_err *err)
{
    LD_AUTO(expand_done)
    struct expand x = {
        .at = text, .get = get, .arg = arg, .out = LD_BUF_INIT(LD_WORDS_MAX), .err = err};

    while (*x.at) {
        if (expand_next(&x) < 0)
            return -1;
    }
    if (x.is_quoted)
        return unended(&x, "a double quote");
    if (x.depth > 0)
        return unended(&x, "a '${'");
    if (ld_buf_check(&x.out) < 0)
        return ld_err_set(err, LD_E_INVALID, "it comes to more than %d bytes", LD_WORDS_MAX);
    *ret = ld_buf_take(&x.out);
    return 0;
}
