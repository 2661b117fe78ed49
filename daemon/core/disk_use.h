/* Where the bytes below the data root are: for /v1/df. Blocking; any worker.
 *
 * Bytes are st_blocks x 512, hard links counted once. Committed layers are as the records have
 * them, those that only the trash still needs under `trash`; writable layers and volumes as the
 * quotas have them, where they count the same; all else is walked: when the daemon is idle, and
 * nobody has deleted files open, the total is what du counts below the data root.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/base/err.h"
#include "daemon/base/fdio.h"
#include "daemon/store/store.h"

struct ld_core;

struct ld_disk_use {
    struct ld_store_sums sums;
    size_t writable_count;
    struct ld_usage writable, volumes, trash, quarantine, staging, blobs, other, total;
};
/* must_walk: without the quotas. */
int ld_disk_use_get(struct ld_core *core, bool must_walk, const bool *cancel,
                    struct ld_disk_use *ret, struct ld_err *err);

/* A layer whose directory does not take what its record says. */
struct ld_disk_surprise {
    char *chain_id; /* NULL: a frozen one */
    struct ld_usage recorded, found;
};
struct ld_disk_check {
    struct ld_usage found;   /* all below the data root, walked */
    struct ld_usage unknown; /* of that, what nothing here accounts for */
    struct ld_disk_surprise *surprise;
    size_t n_surprises, cap_surprises;
};
/* Walks the layers, too, and looks for what is in none of the places. `use` was taken just before:
 * what changes between the two is a surprise. */
int ld_disk_check(struct ld_core *core, const struct ld_disk_use *use, const bool *cancel,
                  struct ld_disk_check *ret, struct ld_err *err);
void ld_disk_check_done(struct ld_disk_check *check);
