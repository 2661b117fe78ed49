/* Aligned tables: cells are collected, then rendered with every column as wide as its widest cell,
 * in columns of a terminal rather than bytes. One owner; any thread. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "client/style.h"
#include "daemon/base/buf.h"

struct ld_column {
    const char *title; /* upper case */
    bool right;        /* aligned to the right: numbers */
    bool shrinks;      /* may be cut with "…" when the table is wider than the terminal */
};

struct ld_table;

/* Borrows the columns. At most 16. */
struct ld_table *ld_table_new(const struct ld_column *columns, size_t n)
    __attribute__((returns_nonnull));
/* The next cell, row by row; copied, made safe to print; NULL and "" show as "-". A row is complete
 * after as many cells as there are columns. */
void ld_table_add(struct ld_table *t, const char *text);
void ld_table_add_styled(struct ld_table *t, const char *text, enum ld_style style);
size_t ld_table_rows(const struct ld_table *t);
/* max_width 0: as wide as it gets. */
void ld_table_render(const struct ld_table *t, size_t max_width, bool colour, struct ld_buf *ret);
void ld_table_free_p(struct ld_table **t);

#define autotable LD_AUTO(ld_table_free_p)
