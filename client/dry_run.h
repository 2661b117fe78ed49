/* Removing, and --dry-run (LD_OPT_DRY_RUN) of the commands that do. One thread. */
#pragma once

#include <cjson/cJSON.h>

#include "client/cli.h"
#include "daemon/base/buf.h"

/* Adds it to the query when it is given. True: it is, and the reply is for ld_dry_run_print. */
bool ld_dry_run_query(const struct ld_cli *cli, struct ld_buf *url);
/* One line per object, and the sum. */
void ld_dry_run_print(const cJSON *reply);

/* DELETE of url, to whose query --dry-run is added; prints what would be removed, or the name
 * (unless NULL) of what was. */
int ld_remove_at(struct ld_cli *cli, struct ld_buf *url, const char *name,
                 struct ld_err *err) ld_must_check;
