/* What the daemon streams, into a file or to standard output. One thread. */
#pragma once

#include <stdbool.h>

#include "client/cli.h"

/* GET target with this "Accept: …". path NULL or "-": standard output, which is refused when it is
 * a terminal and `binary`; a file appears whole or not at all. */
int ld_download(struct ld_cli *cli, const char *target, const char *accept, const char *path,
                bool binary, struct ld_err *err) ld_must_check;
