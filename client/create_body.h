/* What commands that create a container have in common: their options, and the request's body.
 * Pure, but that a relative source path is resolved against the working directory. */
#pragma once

#include <cjson/cJSON.h>

#include "client/args.h"
#include "client/labels.h"
#include "client/limits.h"

/* Beside --name and --read-only, which each command has with words of its own. */
#define LD_OPTS_CREATE                                                                             \
    LD_OPT_LABEL,                                                                                  \
        {"volume",                                                                                 \
         'v',                                                                                      \
         "SOURCE:TARGET[:ro]",                                                                     \
         true,                                                                                     \
         "mount a volume, or a path of the host, at TARGET (may repeat)",                          \
         NULL},                                                                                    \
        {"mount",                                                                                  \
         0,                                                                                        \
         "KEY=VALUE,...",                                                                          \
         true,                                                                                     \
         "the same in full: type=volume|bind|tmpfs, source, target, readonly, subpath, size",      \
         NULL},                                                                                    \
        {"tmpfs", 0, "TARGET[:size=SIZE]", true, "mount an empty tmpfs (may repeat)", NULL},       \
        {"driver", 0, "NAME", false, "storage driver (default: the daemon's)", "driver"},          \
        LD_OPT_SIZE_LIMIT, LD_OPT_INODE_LIMIT, LD_OPT_BACKING

/* Of the first operand, the image, and these options. invalid. */
int ld_create_body(const struct ld_args *args, cJSON *body, struct ld_err *err) ld_must_check;
