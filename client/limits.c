/* Limits on command lines: see limits.h. */
#include "client/limits.h"

#include <stdint.h>
#include <string.h>

#include "daemon/base/err.h"
#include "daemon/base/parse.h"

static int add(const struct ld_args *args, const char *option, const char *member, cJSON *body,
               struct ld_err *err)
{
    const char *text = ld_args_value(args, option);
    uint64_t limit = 0;

    if (!text)
        return 0;
    if (strcmp(text, "none") == 0) {
        (void)cJSON_AddNullToObject(body, member);
        return 0;
    }
    if (ld_parse_size(text, &limit) < 0 || limit == 0)
        return ld_err_set(err, LD_E_INVALID, "'--%s %s' is neither a limit nor none", option, text);
    (void)cJSON_AddNumberToObject(body, member, (double)limit);
    return 0;
}

int ld_limits_size(const struct ld_args *args, cJSON *body, struct ld_err *err)
{
    return add(args, "size-limit", "size_limit", body, err);
}

int ld_limits_both(const struct ld_args *args, cJSON *body, struct ld_err *err)
{
    return ld_limits_size(args, body, err) < 0 ? -1
                                               : add(args, "inode-limit", "inode_limit", body, err);
}
