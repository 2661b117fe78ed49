/* Lists of files and of changes, whatever they are of. One thread. */
#pragma once

#include "client/cli.h"

/* GET of a list of changes: one line each, "A /path", or with --format json as it was sent. */
int ld_changes_show(struct ld_cli *cli, const char *target, struct ld_err *err) ld_must_check;

/* GET of a list of files, as a table; each has the member `name`: "name" in a directory, "path" in
 * a whole tree. The command has --quiet, --no-trunc and --format. */
int ld_files_show(struct ld_cli *cli, const char *target, const char *name,
                  struct ld_err *err) ld_must_check;
