/* An archive from a file or from standard input, into long work of the daemon. One thread. */
#pragma once

#include <stdbool.h>

#include "client/cli.h"

struct cJSON;

/* What a command that uploads takes. */
#define LD_OPTS_UPLOAD                                                                             \
    {"detach", 'd', NULL, false, "once it is sent, print the job's id and let it go on alone",     \
     NULL},                                                                                        \
        {"async", 0, NULL, false, "the same as --detach", NULL}, LD_OPT_ONCE

/* POST target with the archive at `path` ("-": standard input), obeying these options and --quiet.
 * *ret_result is the work's result; where *ret_detached, it names the job instead. */
int ld_upload(struct ld_cli *cli, const char *target, const char *path, bool *ret_detached,
              struct cJSON **ret_result, struct ld_err *err) ld_must_check;
