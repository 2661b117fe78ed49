/* Containers as JSON, and from it. */
#pragma once

#include <stdbool.h>

#include "daemon/core/container.h"

struct cJSON;
struct ld_core;

/* "created", "mounted", "busy" or "damaged". Any thread. */
const char *ld_container_state_name(const struct ld_container_state *state);
/* Is it one of the words that "state" can be? */
bool ld_container_state_is_known(const char *name);

/* A list's item (summary) or the whole object; usage may be NULL. Any thread (reads the store). */
struct cJSON *ld_container_summary_json(const struct ld_container_state *state);
struct cJSON *ld_container_json(struct ld_core *core, const struct ld_container_state *state,
                                const struct ld_usage *usage);

/* The body of a create. Everything it points to is owned by *ret or borrowed from the body. */
struct ld_container_body {
    struct ld_container_spec spec;
    char *labels, *config, *name, *image, *driver;
    char digest[72];
};
/* name: that of a PUT's path, or NULL. invalid; unsupported: something of a later version. */
int ld_container_body_read(const struct cJSON *body, const char *name,
                           struct ld_container_body *ret, struct ld_err *err);
void ld_container_body_done(struct ld_container_body *body);
