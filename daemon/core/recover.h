/* Recovery: the normal start. Idempotent; one bad object never stops it. Main thread, before the
 * loop. */
#pragma once

#include "daemon/base/err.h"

struct ld_core;

/* Holds the records against the disk: staging is emptied, removals are finished, what no record
 * knows goes to quarantine (for 7 days), records without a directory are marked damaged, ephemeral
 * containers of another boot expire. When the database is older than the tree nothing is touched
 * and core->refusal says why. */
int ld_recover(struct ld_core *core, struct ld_err *err);
