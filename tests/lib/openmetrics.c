/* OpenMetrics 1.0: see openmetrics.h. One pass over the lines, with the family they are in. */
#include "tests/lib/openmetrics.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/base/mem.h"

enum { MAX_LABELS = 16 };

struct reader {
    struct ld_exposition *x;
    char **families; /* names of all so far */
    size_t n_families, families_cap;
    char *name; /* of the present one: borrowed */
    char type[16];
    bool has_unit, has_help, has_samples;
    /* the histogram under way */
    char *labels; /* without le; NULL: none is under way */
    double bound, count;
    int stage; /* 0 buckets, 1 after +Inf, 2 after _count */
};

struct sample {
    const char *suffix; /* behind the family's name: "_total" */
    char *labels;       /* without le; owned */
    double le;
    bool has_le;
    double value;
};

static const char *const words = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_";
static const char *const digits = "0123456789";

/* The length of a name of a metric (may_colon) or a label at `at`; 0: there is none. */
static size_t name_length(const char *at, bool may_colon)
{
    size_t n = 0;

    while (at[n] && (strchr(words, at[n]) || (n > 0 && strchr(digits, at[n])) ||
                     (may_colon && at[n] == ':')))
        n++;
    return n;
}

static const char *const types[] = {"counter", "gauge", "histogram", "info"};

static bool ends_with(const char *text, const char *end)
{
    size_t len = strlen(text), end_len = strlen(end);

    return len >= end_len && strcmp(text + len - end_len, end) == 0;
}

/* A number: digits, at most one point, +Inf. NaN, signs and blanks have no business here. */
static bool read_number(const char *text, double *ret)
{
    size_t whole = strspn(text, digits), rest = 0;

    if (strcmp(text, "+Inf") == 0) {
        *ret = INFINITY;
        return true;
    }
    if (text[whole] == '.')
        rest = 1 + strspn(text + whole + 1, digits);
    *ret = strtod(text, NULL);
    return whole > 0 && rest != 1 && text[whole + rest] == '\0';
}

/* ---- comments ---- */

static const char *begin_family(struct reader *r, const char *name, const char *type)
{
    if (r->labels)
        return "a histogram is not whole";
    if (r->name && !r->has_samples && strcmp(r->type, "counter") != 0 &&
        strcmp(r->type, "histogram") != 0)
        return "the family before has no samples";
    for (size_t i = 0; i < r->n_families; i++)
        if (strcmp(r->families[i], name) == 0)
            return "a family twice";
    for (size_t i = 0; i < LD_ARRAY_LEN(types) && strcmp(types[i], type) != 0; i++)
        if (i + 1 == LD_ARRAY_LEN(types))
            return "an unknown type";
    if (ends_with(name, "_total") || ends_with(name, "_count") || ends_with(name, "_sum") ||
        ends_with(name, "_bucket") || ends_with(name, "_info") || ends_with(name, "_created"))
        return "a family has a reserved ending";
    ld_grow(&r->families, &r->families_cap, r->n_families + 1, sizeof(*r->families));
    r->families[r->n_families++] = r->name = ld_strdup(name);
    (void)snprintf(r->type, sizeof(r->type), "%s", type);
    r->has_unit = r->has_help = r->has_samples = false;
    return NULL;
}

/* "# TYPE name rest" */
static const char *read_comment(struct reader *r, char *line)
{
    char *keyword = line + 2, *name = strchr(keyword, ' '), *rest;

    if (line[1] != ' ' || !name)
        return "no comment is known like this";
    *name++ = '\0';
    rest = name + name_length(name, true);
    if (rest == name || *rest != ' ')
        return "a name is missing";
    *rest++ = '\0';
    if (strcmp(keyword, "TYPE") == 0)
        return begin_family(r, name, rest);
    if (!r->name || strcmp(name, r->name) != 0 || r->has_samples)
        return "not at the head of its family";
    if (strcmp(keyword, "UNIT") == 0) {
        autofree char *end = ld_asprintf("_%s", rest);

        if (r->has_unit || !ends_with(name, end))
            return "a unit twice, or not the name's end";
        r->has_unit = true;
        return NULL;
    }
    if (strcmp(keyword, "HELP") != 0 || r->has_help || !*rest)
        return "a help twice or empty, or an unknown keyword";
    r->has_help = true;
    return NULL;
}

/* ---- samples ---- */

/* name="value",… to the brace. */
static const char *read_labels(char **at, struct sample *s)
{
    char *seen[MAX_LABELS];
    size_t n = 0, len;

    while (**at != '}') {
        char *name = *at, *value;

        len = name_length(name, false);
        if (len == 0 || name[len] != '=' || name[len + 1] != '"' || n == MAX_LABELS)
            return "a label is not well-formed";
        name[len] = '\0';
        value = name + len + 2;
        len = strcspn(value, "\"\\");
        if (value[len] != '"')
            return "a label's value does not end";
        value[len] = '\0';
        for (size_t i = 0; i < n; i++)
            if (strcmp(seen[i], name) == 0)
                return "a label twice";
        seen[n++] = name;
        if (strcmp(name, "le") == 0) {
            if (!read_number(value, &s->le) || (!strchr(value, '.') && value[0] != '+'))
                return "a bound is no canonical number";
            s->has_le = true;
        } else {
            char *more = ld_asprintf("%s%s=%s;", s->labels, name, value);

            free(s->labels);
            s->labels = more;
        }
        *at = value + len + 1;
        if (**at == ',' && (*at)[1] != '}')
            ++*at;
        else if (**at != '}')
            return "no comma between labels";
    }
    ++*at;
    return n > 0 ? NULL : "braces around nothing";
}

static const char *check_histogram(struct reader *r, const struct sample *s)
{
    bool is_bucket = strcmp(s->suffix, "_bucket") == 0;

    if (is_bucket != s->has_le)
        return "le belongs to buckets, and to nothing else";
    if (is_bucket && !r->labels) {
        r->labels = ld_strdup(s->labels);
        r->bound = r->count = -1;
        r->stage = 0;
    }
    if (!r->labels || strcmp(r->labels, s->labels) != 0)
        return "not in the place of its histogram";
    if (is_bucket) {
        if (r->stage != 0 || s->le <= r->bound || s->value < r->count)
            return "buckets do not grow";
        r->bound = s->le;
        r->count = s->value;
        r->stage = isinf(s->le) ? 1 : 0;
        return NULL;
    }
    if (strcmp(s->suffix, "_count") == 0) {
        if (r->stage++ != 1 || s->value != r->count)
            return "the count is not that of +Inf";
        return NULL;
    }
    if (strcmp(s->suffix, "_sum") != 0 || r->stage != 2)
        return "a histogram has buckets, _count, _sum";
    free(r->labels);
    r->labels = NULL;
    return NULL;
}

static const char *check_sample(struct reader *r, const struct sample *s)
{
    if (s->value < 0 || isinf(s->value))
        return "a value that cannot be";
    if (strcmp(r->type, "histogram") == 0)
        return check_histogram(r, s);
    if (s->has_le)
        return "le without a histogram";
    if (strcmp(r->type, "counter") == 0)
        return strcmp(s->suffix, "_total") == 0 ? NULL : "a counter does not end in _total";
    if (strcmp(r->type, "info") == 0)
        return strcmp(s->suffix, "_info") == 0 && s->value == 1 ? NULL : "an info is no _info 1";
    return s->suffix[0] == '\0' ? NULL : "a gauge has no ending";
}

static const char *add_sample(struct reader *r, const char *series, double value)
{
    struct ld_exposition *x = r->x;

    for (size_t i = 0; i < x->n; i++)
        if (strcmp(x->samples[i].series, series) == 0)
            return "a series twice";
    ld_grow(&x->samples, &x->cap, x->n + 1, sizeof(*x->samples));
    x->samples[x->n++] = (struct ld_sample){ld_strdup(series), value};
    r->has_samples = true;
    return NULL;
}

static const char *read_sample(struct reader *r, char *line)
{
    char *blank = strrchr(line, ' '), *at = line + name_length(line, true);
    autofree char *series = blank ? ld_strndup(line, (size_t)(blank - line)) : NULL;
    struct sample s = {.labels = ld_strdup("")};
    autofree char *name = ld_strndup(line, (size_t)(at - line));
    size_t len = r->name ? strlen(r->name) : 0;
    const char *problem = NULL;

    if (!blank || !len || strncmp(name, r->name, len) != 0)
        problem = "a sample of no family";
    if (!problem && *at == '{') {
        at++;
        problem = read_labels(&at, &s);
    }
    if (!problem && (at != blank || !read_number(blank + 1, &s.value)))
        problem = "no series, one blank, a number";
    if (!problem) {
        s.suffix = name + len;
        problem = check_sample(r, &s);
    }
    free(s.labels);
    return problem ? problem : add_sample(r, series, s.value);
}

/* ---- all of it ---- */

static const char *read_lines(struct reader *r, char *text, char **ret_line)
{
    char *line = text, *end;

    for (; (end = strchr(line, '\n')); line = end + 1) {
        const char *problem;

        *end = '\0';
        *ret_line = line;
        if (strcmp(line, "# EOF") == 0) {
            if (end[1])
                return "something after the end";
            return r->labels ? "a histogram is not whole" : NULL;
        }
        if (!*line || strpbrk(line, "\r\t"))
            return "an empty line, or a control character";
        problem = line[0] == '#' ? read_comment(r, line) : read_sample(r, line);
        if (problem)
            return problem;
    }
    *ret_line = line;
    return "it does not end in # EOF";
}

void ld_exposition_read(const char *text, struct ld_exposition *ret)
{
    autofree char *copy = ld_strdup(text);
    struct reader r = {.x = ret};
    char *line = copy;
    const char *problem;

    *ret = (struct ld_exposition){.n = 0};
    problem = read_lines(&r, copy, &line);
    if (problem)
        ret->problem = ld_asprintf("%s: '%s'", problem, line);
    for (size_t i = 0; i < r.n_families; i++)
        free(r.families[i]);
    free(r.families);
    free(r.labels);
}

void ld_exposition_done(struct ld_exposition *x)
{
    for (size_t i = 0; i < x->n; i++)
        free(x->samples[i].series);
    free(x->samples);
    free(x->problem);
    *x = (struct ld_exposition){.n = 0};
}

double ld_exposition_value(const struct ld_exposition *x, const char *series)
{
    for (size_t i = 0; i < x->n; i++)
        if (strcmp(x->samples[i].series, series) == 0)
            return x->samples[i].value;
    return -1;
}
