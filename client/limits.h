/* Limits on command lines: a size (10, 10K, 2G) or number, or "none" to lift one. Pure. */
#pragma once

#include <cjson/cJSON.h>

#include "client/args.h"

#define LD_OPT_SIZE_LIMIT                                                                          \
    {                                                                                              \
        "size-limit", 0, "SIZE", false,                                                            \
            "how much can be written to it, where the file system "                                \
            "enforces that",                                                                       \
            NULL                                                                                   \
    }
#define LD_OPT_INODE_LIMIT                                                                         \
    {                                                                                              \
        "inode-limit", 0, "N", false, "how many files and folders can be made in it", NULL         \
    }
#define LD_OPT_BACKING                                                                             \
    {                                                                                              \
        "backing", 0, "KIND", false,                                                               \
            "what it writes goes to a file system of its own, of that size: tmpfs, ext4, ext4",    \
            "backing"                                                                              \
    }

/* Adds what the options say; nothing where they are missing. */
int ld_limits_size(const struct ld_args *args, cJSON *body, struct ld_err *err) ld_must_check;
int ld_limits_both(const struct ld_args *args, cJSON *body, struct ld_err *err) ld_must_check;
