/* "?dry_run=1" of what removes: the checks and errors of the real call, then what it would remove.
 *
 * A handler sets call->w.dry_run, gives its operation the copy lane (volumes and writable layers
 * are measured), and answers with ld_dry_run_json. */
#pragma once

#include "daemon/base/err.h"

struct cJSON;
struct ld_call;
struct ld_removed;

/* Of a call that was not submitted yet: looks for "dry_run?" in its query. */
void ld_call_dry_run(struct ld_call *call);
/* For run(), after the removal: a dry run's objects are measured, for as long as the client waits.
 */
int ld_call_measure(struct ld_call *call, struct ld_removed *removed,
                    struct ld_err *err) ld_must_check;
/* {"would_remove": [{"kind","id","name","bytes"}, …], "bytes"}. Any thread. */
struct cJSON *ld_dry_run_json(const struct ld_removed *removed);
/* The objects alone, as an array. */
struct cJSON *ld_removed_objects_json(const struct ld_removed *removed);
