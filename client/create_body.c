/* Creating containers: see create_body.h. */
#include "client/create_body.h"

#include "client/mountspec.h"

static void add_option(const struct ld_args *args, const char *name, cJSON *body)
{
    const char *value = ld_args_value(args, name);

    if (value)
        (void)cJSON_AddStringToObject(body, name, value);
}

int ld_create_body(const struct ld_args *args, cJSON *body, struct ld_err *err)
{
    (void)cJSON_AddStringToObject(body, "image", ld_args_get(args, 0));
    add_option(args, "name", body);
    add_option(args, "driver", body);
    add_option(args, "backing", body);
    if (ld_args_flag(args, "read-only"))
        (void)cJSON_AddTrueToObject(body, "read_only");
    return ld_labels_from_args(args, body, err) < 0 || ld_limits_both(args, body, err) < 0
               ? -1
               : ld_mounts_from_args(args, body, err);
}
