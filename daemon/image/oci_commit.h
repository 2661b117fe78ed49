/* The config of an image that is committed from a container: that of the container's image with one
 * more layer, one more line of history, and changes. Members that layerd does not know stay as they
 * are; what tells of the machine or container that made the image before goes. No blocking, any
 * thread.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/base/cleanup.h"
#include "daemon/base/digest.h"

struct ld_err;

/* All borrowed; pointers may be NULL where it says so. */
struct ld_oci_commit {
    const char *base; /* the config of the container's image */
    size_t base_len;
    const char *overrides; /* the container's own: a JSON object with entrypoint, cmd, env, user,
                              working_dir, stop_signal; or NULL */
    const char *const *changes; /* Dockerfile lines (change.h) */
    size_t n_changes;
    const char *author, *message;    /* or NULL */
    const struct ld_digest *diff_id; /* of the new layer; NULL: there is none */
    bool squash; /* the new layer is the only one, its line all of the history */
    int64_t created_ns;
};

/* Free the text. invalid names the change; bad_content: the base is not a config. */
int ld_oci_commit_render(const struct ld_oci_commit *commit, char **ret,
                         struct ld_err *err) ld_must_check;
