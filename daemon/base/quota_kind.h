/* One way of counting: what quota.c calls, for the functions of the same names in quota.h. NULL:
 * there is nothing to do. For the files of quota only. */
#pragma once

#include "daemon/base/quota.h"

struct ld_quota_kind {
    int (*probe)(int dir, const char *instance, struct ld_quota *ret, struct ld_err *err);
    void (*done)(struct ld_quota *quota);
    bool counts_inodes;
    /* Its use is what a walk finds: st_blocks. Groups of subvolumes count metadata as well, and
     * reflinked extents by rules of their own. */
    bool counts_blocks;
    int (*make_dir)(const struct ld_quota *quota, int parent, const char *name, mode_t mode,
                    ld_sid sid, bool is_limited);
    int (*is_counted)(const struct ld_quota *quota, int dir, ld_sid sid, bool *ret);
    int (*set)(const struct ld_quota *quota, int dir, ld_sid sid, const struct ld_limits *limits);
    int (*get)(const struct ld_quota *quota, int dir, ld_sid sid, struct ld_limits *ret_limits,
               struct ld_limits *ret_used);
    int (*settle)(int dir);
    int (*remove_tree)(const struct ld_quota *quota, int parent, const char *name,
                       const bool *cancel);
    int (*forget)(const struct ld_quota *quota, int dir, ld_sid sid);
    void (*sweep)(const struct ld_quota *quota, int dir);
};

extern const struct ld_quota_kind ld_quota_projects;
extern const struct ld_quota_kind ld_quota_subvolumes;
