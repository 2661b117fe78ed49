/* --dry-run (LD_OPT_DRY_RUN) of the commands that remove. */
#pragma once

#include <cjson/cJSON.h>

#include "client/cli.h"
#include "daemon/base/buf.h"

/* Adds it to the query when it is given. True: it is, and the reply is for ld_dry_run_print. */
bool ld_dry_run_query(const struct ld_cli *cli, struct ld_buf *url);
/* One line per object, and the sum. */
void ld_dry_run_print(const cJSON *reply);
