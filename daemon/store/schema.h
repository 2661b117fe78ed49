/* The schema and how it grows. Private to this folder and its test. */
#pragma once

#include "daemon/store/sql.h"

/* Step i brings a database from version i to i + 1; step 0 makes it. */
struct ld_schema {
    const char *const *steps;
    int n_steps;
};
extern const struct ld_schema ld_schema;

/* Checks that it is ours and whole (quick_check unless it was closed cleanly), makes it when empty,
 * keeps a copy as `db.vN.backup` before the first step from version N on, and runs the missing
 * steps, one transaction each. Codes: corrupt, unsupported (newer). */
int ld_schema_upgrade(struct ld_db *db, int root_fd, const struct ld_schema *schema,
                      struct ld_err *err);
