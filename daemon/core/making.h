/* Marks for what is being made: a directory that stands in its final place before its record
 * exists.
 *
 * A kill in between leaves the directory; the mark (an empty file in staging/) tells the next start
 * that it is unfinished work of our own, to be deleted, and not something lost, to be kept in
 * quarantine. The marks are not synced: where a power cut takes one, quarantine is the safe answer.
 * Any worker.
 */
#pragma once

#include <stdbool.h>

#include "daemon/base/err.h"
#include "daemon/base/sid.h"

struct ld_core;

int ld_making_begin(struct ld_core *core, ld_sid sid, struct ld_err *err);
void ld_making_end(struct ld_core *core, ld_sid sid); /* recorded, or taken back; twice is fine */
bool ld_making_is_marked(struct ld_core *core, ld_sid sid);
