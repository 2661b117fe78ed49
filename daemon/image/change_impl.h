/* What change*.c and oci_commit.c share. */
#pragma once

#include "daemon/image/change.h"

/* Sets a member, in the place of what was there; takes the value. */
void ld_change_put(struct cJSON *object, const char *name, struct cJSON *value);
/* A word without quotes, the variables of run's Env replaced; free it. */
int ld_change_expand(struct cJSON *run, const char *word, char **ret,
                     struct ld_err *err) ld_must_check;
/* A command in JSON form as it is, in shell form as an argument of the image's shell. */
int ld_change_command(const struct cJSON *run, const char *text, struct cJSON **ret,
                      bool *ret_is_json, struct ld_err *err) ld_must_check;
struct cJSON *ld_change_shell(const struct cJSON *run, const char *text);

/* HEALTHCHECK [--interval=D] [--timeout=D] [--start-period=D] [--start-interval=D] [--retries=N]
 * CMD …, or NONE. */
int ld_change_healthcheck(struct ld_changes *changes, const char *text, struct ld_err *err);
