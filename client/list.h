/* Lists of objects: fetched, filtered by the daemon, printed as a table, as ids or as JSON. One
 * thread. */
#pragma once

#include <stdint.h>

#include <cjson/cJSON.h>

#include "client/cli.h"
#include "client/table.h"

struct ld_row_ctx {
    bool whole;  /* --no-trunc */
    int64_t now; /* seconds since 1970 */
};

struct ld_list {
    const struct ld_column *columns;
    size_t n_columns;
    const char *id; /* the member that -q prints; where it is null, "id" */
    void (*add)(struct ld_table *t, const cJSON *item,
                const struct ld_row_ctx *ctx); /* its row or rows */
};

/* GET target and print; --format, --quiet and --no-trunc are the command's options. */
int ld_list_show(struct ld_cli *cli, const char *target, const struct ld_list *list,
                 struct ld_err *err) ld_must_check;

/* The same with an Accept header, for resources that have several forms. */
int ld_list_show_as(struct ld_cli *cli, const char *target, const char *accept,
                    const struct ld_list *list, struct ld_err *err) ld_must_check;

/* Adds the command's --filter values to a target. */
void ld_list_add_filters(const struct ld_cli *cli, struct ld_buf *url);

/* Cells of common kinds, from members of an object. */
void ld_cell_id(struct ld_table *t, const cJSON *item, const char *name,
                const struct ld_row_ctx *ctx);
void ld_cell_str(struct ld_table *t, const cJSON *item, const char *name);
void ld_cell_size(struct ld_table *t, const cJSON *item, const char *name);
void ld_cell_count(struct ld_table *t, const cJSON *item, const char *name);
void ld_cell_age(struct ld_table *t, const cJSON *item, const char *name,
                 const struct ld_row_ctx *ctx);
void ld_cell_state(struct ld_table *t, const cJSON *item); /* the member "state", coloured */
