/* Labels on command lines: KEY=VALUE, and KEY- to take one away. Pure. */
#pragma once

#include <cjson/cJSON.h>

#include "client/args.h"

#define LD_OPT_LABEL                                                                               \
    {                                                                                              \
        "label", 'l', "KEY=VALUE", true, "a label (may repeat)", NULL                              \
    }

/* Adds "labels" to body from the option --label; nothing where there is none. A bare KEY has the
 * value "". */
int ld_labels_from_args(const struct ld_args *args, cJSON *body, struct ld_err *err) ld_must_check;

/* One "KEY=VALUE" or "KEY-" as a member of a merge patch of labels. */
int ld_labels_patch(cJSON *labels, const char *text, struct ld_err *err) ld_must_check;
