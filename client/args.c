/* Option parsing: see args.h. */
#include "client/args.h"

#include <assert.h>
#include <string.h>

#include "client/text.h"
#include "daemon/base/err.h"
#include "daemon/base/mem.h"

struct value {
    const struct ld_opt *opt;
    const char *text; /* NULL for a flag */
};

struct ld_args {
    struct ld_opts tables[2];
    struct value *values;
    size_t n_values, values_cap;
    const char **operands;
    size_t n_operands, operands_cap;
};

struct ld_args *ld_args_new(struct ld_opts own, struct ld_opts common)
{
    struct ld_args *args = ld_new(struct ld_args);

    args->tables[0] = own;
    args->tables[1] = common;
    return args;
}

void ld_args_free_p(struct ld_args **args)
{
    if (!*args)
        return;
    ld_free_p(&(*args)->values);
    ld_free_p(&(*args)->operands);
    ld_free_p(args);
}

static const struct ld_opt *by_name(const struct ld_args *args, const char *name, size_t len)
{
    for (size_t t = 0; t < LD_ARRAY_LEN(args->tables); t++) {
        for (size_t i = 0; i < args->tables[t].n; i++) {
            const struct ld_opt *opt = &args->tables[t].opt[i];

            if (strlen(opt->name) == len && memcmp(opt->name, name, len) == 0)
                return opt;
        }
    }
    return NULL;
}

static const struct ld_opt *by_letter(const struct ld_args *args, char letter)
{
    for (size_t t = 0; t < LD_ARRAY_LEN(args->tables); t++) {
        for (size_t i = 0; i < args->tables[t].n; i++) {
            if (args->tables[t].opt[i].letter == letter)
                return &args->tables[t].opt[i];
        }
    }
    return NULL;
}

static int unknown_name(const struct ld_args *args, const char *name, struct ld_err *err)
{
    autofree char *safe = ld_text_safe(name);
    const char *best = NULL;
    unsigned best_distance = 3;

    for (size_t t = 0; t < LD_ARRAY_LEN(args->tables); t++) {
        for (size_t i = 0; i < args->tables[t].n; i++) {
            const char *candidate = args->tables[t].opt[i].name;
            unsigned distance = ld_text_distance(name, candidate, 2);

            if (distance < best_distance) {
                best = candidate;
                best_distance = distance;
            }
        }
    }
    (void)ld_err_set(err, LD_E_INVALID, "there is no option '--%s'", safe);
    if (best)
        (void)ld_err_hint(err, "did you mean '--%s'?", best);
    return -1;
}

/* "a|b|c" allows just these words. */
static int check_word(const struct ld_opt *opt, const char *text, struct ld_err *err)
{
    size_t len = strlen(text);
    const char *p = opt->complete;
    autofree char *safe = NULL;

    if (!p || !strchr(p, '|'))
        return 0;
    for (;;) {
        size_t n = strcspn(p, "|");

        if (n == len && memcmp(p, text, n) == 0)
            return 0;
        if (!p[n])
            break;
        p += n + 1;
    }
    safe = ld_text_safe(text);
    return ld_err_set(err, LD_E_INVALID, "'--%s %s': it is one of %s", opt->name, safe,
                      opt->complete);
}

static int add_value(struct ld_args *args, const struct ld_opt *opt, const char *text,
                     struct ld_err *err)
{
    if (text && check_word(opt, text, err) < 0)
        return -1;
    ld_grow(&args->values, &args->values_cap, args->n_values + 1, sizeof(*args->values));
    args->values[args->n_values++] = (struct value){opt, text};
    return 0;
}

/* "--name", "--name=value" or "--name" "value"; *used counts a value taken from the next word. */
static int parse_long(struct ld_args *args, const char *word, const char *next, int *used,
                      struct ld_err *err)
{
    const char *equals = strchr(word, '=');
    size_t len = equals ? (size_t)(equals - word) : strlen(word);
    const struct ld_opt *opt = by_name(args, word, len);

    if (!opt) {
        autofree char *name = ld_strndup(word, len);

        return unknown_name(args, name, err);
    }
    if (!opt->value && equals)
        return ld_err_set(err, LD_E_INVALID, "the option '--%s' takes no value", opt->name);
    if (!opt->value)
        return add_value(args, opt, NULL, err);
    if (equals)
        return add_value(args, opt, equals + 1, err);
    if (!next)
        return ld_err_set(err, LD_E_INVALID, "the option '--%s' needs a value (%s)", opt->name,
                          opt->value);
    (*used)++;
    return add_value(args, opt, next, err);
}

/* "-abc", "-nvalue" or "-n" "value". */
static int parse_letters(struct ld_args *args, const char *word, const char *next, int *used,
                         struct ld_err *err)
{
    for (const char *p = word; *p; p++) {
        const struct ld_opt *opt = by_letter(args, *p);

        if (!opt) {
            char letter[2] = {*p, '\0'};
            autofree char *safe = ld_text_safe(letter);

            return ld_err_set(err, LD_E_INVALID, "there is no option '-%s'", safe);
        }
        if (!opt->value) {
            if (add_value(args, opt, NULL, err) < 0)
                return -1;
            continue;
        }
        if (p[1])
            return add_value(args, opt, p[1] == '=' ? p + 2 : p + 1, err);
        if (!next)
            return ld_err_set(err, LD_E_INVALID, "the option '-%c' needs a value (%s)", *p,
                              opt->value);
        (*used)++;
        return add_value(args, opt, next, err);
    }
    return 0;
}

static bool is_option(const char *word)
{
    return word[0] == '-' && word[1];
}

static void add_operand(struct ld_args *args, const char *word)
{
    ld_grow(&args->operands, &args->operands_cap, args->n_operands + 1, sizeof(*args->operands));
    args->operands[args->n_operands++] = word;
}

static int parse(struct ld_args *args, int argc, const char *const *argv, bool stop, int *ret_used,
                 struct ld_err *err)
{
    int i = 0;

    for (; i < argc; i++) {
        const char *next = i + 1 < argc ? argv[i + 1] : NULL;
        int used = 0;

        if (strcmp(argv[i], "--") == 0) {
            i++;
            break;
        }
        if (!is_option(argv[i])) {
            if (stop)
                break;
            add_operand(args, argv[i]);
            continue;
        }
        if (argv[i][1] == '-' ? parse_long(args, argv[i] + 2, next, &used, err) < 0
                              : parse_letters(args, argv[i] + 1, next, &used, err) < 0)
            return -1;
        i += used;
    }
    *ret_used = i;
    for (; !stop && i < argc; i++)
        add_operand(args, argv[i]);
    return 0;
}

int ld_args_parse(struct ld_args *args, int argc, const char *const *argv, struct ld_err *err)
{
    int used;

    return parse(args, argc, argv, false, &used, err);
}

int ld_args_parse_head(struct ld_args *args, int argc, const char *const *argv, struct ld_err *err)
{
    int used;

    if (parse(args, argc, argv, true, &used, err) < 0)
        return -1;
    for (int i = used; i < argc; i++)
        add_operand(args, argv[i]);
    return 0;
}

int ld_args_parse_until_operand(struct ld_args *args, int argc, const char *const *argv,
                                int *ret_used, struct ld_err *err)
{
    return parse(args, argc, argv, true, ret_used, err);
}

static const struct ld_opt *must_have(const struct ld_args *args, const char *name)
{
    const struct ld_opt *opt = by_name(args, name, strlen(name));

    assert(opt);
    return opt;
}

bool ld_args_flag(const struct ld_args *args, const char *name)
{
    const struct ld_opt *opt = must_have(args, name);

    for (size_t i = 0; i < args->n_values; i++) {
        if (args->values[i].opt == opt)
            return true;
    }
    return false;
}

const char *ld_args_value(const struct ld_args *args, const char *name)
{
    const struct ld_opt *opt = must_have(args, name);

    for (size_t i = args->n_values; i > 0; i--) {
        if (args->values[i - 1].opt == opt)
            return args->values[i - 1].text;
    }
    return NULL;
}

const char *ld_args_nth(const struct ld_args *args, const char *name, size_t n)
{
    const struct ld_opt *opt = must_have(args, name);

    for (size_t i = 0; i < args->n_values; i++) {
        if (args->values[i].opt == opt && n-- == 0)
            return args->values[i].text;
    }
    return NULL;
}

size_t ld_args_count(const struct ld_args *args)
{
    return args->n_operands;
}

const char *ld_args_get(const struct ld_args *args, size_t i)
{
    return i < args->n_operands ? args->operands[i] : NULL;
}
