/* Tables: see table.h. Cells are stored escaped, so that what is measured is what is printed. */
#include "client/table.h"

#include <assert.h>
#include <string.h>

#include "client/text.h"
#include "daemon/base/mem.h"

enum { COLUMNS_MAX = 16, GAP = 2, SHRUNK_MIN = 8 };

struct cell {
    char *text;
    size_t width;
    enum ld_style style;
};

struct ld_table {
    const struct ld_column *columns;
    size_t n_columns;
    struct cell *cells;
    size_t n_cells, cap;
};

struct ld_table *ld_table_new(const struct ld_column *columns, size_t n)
{
    struct ld_table *t = ld_new(struct ld_table);

    assert(n > 0 && n <= COLUMNS_MAX);
    t->columns = columns;
    t->n_columns = n;
    return t;
}

void ld_table_add_styled(struct ld_table *t, const char *text, enum ld_style style)
{
    struct cell *cell;

    ld_grow(&t->cells, &t->cap, t->n_cells + 1, sizeof(*t->cells));
    cell = &t->cells[t->n_cells++];
    cell->text = ld_text_safe(text && *text ? text : "-");
    cell->width = ld_text_width(cell->text);
    cell->style = style;
}

void ld_table_add(struct ld_table *t, const char *text)
{
    ld_table_add_styled(t, text, LD_STYLE_PLAIN);
}

size_t ld_table_rows(const struct ld_table *t)
{
    return t->n_cells / t->n_columns;
}

static void measure(const struct ld_table *t, size_t widths[COLUMNS_MAX])
{
    for (size_t i = 0; i < t->n_columns; i++)
        widths[i] = ld_text_width(t->columns[i].title);
    for (size_t i = 0; i < t->n_cells; i++) {
        if (t->cells[i].width > widths[i % t->n_columns])
            widths[i % t->n_columns] = t->cells[i].width;
    }
}

/* Takes columns away from the widest shrinkable one until the table fits, or none can give more. */
static void shrink(const struct ld_table *t, size_t max_width, size_t widths[COLUMNS_MAX])
{
    size_t total = GAP * (t->n_columns - 1);

    for (size_t i = 0; i < t->n_columns; i++)
        total += widths[i];
    while (total > max_width) {
        size_t widest = t->n_columns;

        for (size_t i = 0; i < t->n_columns; i++) {
            if (t->columns[i].shrinks && widths[i] > SHRUNK_MIN &&
                (widest == t->n_columns || widths[i] > widths[widest]))
                widest = i;
        }
        if (widest == t->n_columns)
            return;
        widths[widest]--;
        total--;
    }
}

static void add_spaces(struct ld_buf *buf, size_t n)
{
    ld_buf_addf(buf, "%*s", (int)n, "");
}

/* The last column of a row gets no blanks behind it. */
static void render_cell(const struct ld_column *column, const struct cell *cell, size_t width,
                        bool is_last, bool colour, struct ld_buf *ret)
{
    bool styled = colour && cell->style != LD_STYLE_PLAIN;
    autobuf struct ld_buf cut = LD_BUF_INIT(1 << 24);
    size_t used;

    /* A cut before a wide character may leave a column over: measure what is printed. */
    ld_text_add_cut(&cut, cell->text, width);
    used = ld_text_width(ld_buf_str(&cut));
    if (column->right)
        add_spaces(ret, width - used);
    if (styled)
        ld_buf_adds(ret, ld_style_code(cell->style));
    ld_buf_add(ret, ld_buf_str(&cut), cut.len);
    if (styled)
        ld_buf_adds(ret, ld_style_code(LD_STYLE_PLAIN));
    if (!column->right && !is_last)
        add_spaces(ret, width - used);
    if (!is_last)
        add_spaces(ret, GAP);
}

void ld_table_render(const struct ld_table *t, size_t max_width, bool colour, struct ld_buf *ret)
{
    size_t widths[COLUMNS_MAX];

    assert(t->n_cells % t->n_columns == 0);
    measure(t, widths);
    if (max_width > 0)
        shrink(t, max_width, widths);
    for (size_t i = 0; i < t->n_columns; i++) {
        struct cell title = {(char *)t->columns[i].title, ld_text_width(t->columns[i].title),
                             LD_STYLE_HEAD};

        render_cell(&t->columns[i], &title, widths[i], i + 1 == t->n_columns, colour, ret);
    }
    ld_buf_addc(ret, '\n');
    for (size_t i = 0; i < t->n_cells; i++) {
        size_t column = i % t->n_columns;
        bool is_last = column + 1 == t->n_columns;

        render_cell(&t->columns[column], &t->cells[i], widths[column], is_last, colour, ret);
        if (is_last)
            ld_buf_addc(ret, '\n');
    }
}

void ld_table_free_p(struct ld_table **t)
{
    if (!*t)
        return;
    for (size_t i = 0; i < (*t)->n_cells; i++)
        ld_free_p(&(*t)->cells[i].text);
    ld_free_p(&(*t)->cells);
    ld_free_p(t);
}
