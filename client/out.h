/* Standard output: tables, JSON, lines. Text is made safe to print; JSON stays the same document.
 */
#pragma once

#include <stddef.h>

#include <cjson/cJSON.h>

#include "client/cli.h"
#include "client/table.h"

/* A table, as wide as the terminal allows unless `whole`. */
void ld_out_table(const struct ld_cli *cli, const struct ld_table *table, bool whole);
/* One line of text. */
void ld_out_line(const char *text);
void ld_out_styled(const struct ld_cli *cli, enum ld_style style,
                   const char *text); /* no line end */
/* A document as the daemon sent it, and a line end; and an indented one. */
void ld_out_raw_json(const char *json, size_t len);
void ld_out_pretty_json(const cJSON *json);
void ld_out_compact_json(const cJSON *json); /* on one line */
