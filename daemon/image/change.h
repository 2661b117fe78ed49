/* Changes of an image's run configuration as lines of a Dockerfile, as `docker commit --change` has
 * them: CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL, ONBUILD, STOPSIGNAL, USER, VOLUME,
 * WORKDIR, in their JSON and shell forms.
 *
 * No blocking, any thread. Every failure is LD_E_INVALID and names the line.
 */
#pragma once

#include <stdbool.h>

#include "daemon/base/cleanup.h"

struct cJSON;
struct ld_err;

struct ld_changes {
    struct cJSON *run; /* the "config" object of an image config, changed in place; borrowed */
    bool cmd_is_set;   /* an ENTRYPOINT drops the CMD of the image, not one set before it */
};

int ld_change_apply(struct ld_changes *changes, const char *line, struct ld_err *err) ld_must_check;

/* Could the line be applied to some image? */
int ld_change_check(const char *line, struct ld_err *err) ld_must_check;

/* KEY=VALUE into an array of such: replaces that of the same key. `env` is made where missing. */
void ld_change_set_env(struct cJSON *run, const char *pair);
