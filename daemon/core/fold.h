/* Folding: runs of a chain's layers, each a frozen or captured state of a container, become one
 * layer, so that a container with any number of snapshots is mounted about as fast as a new one.
 *
 * Every tree stays what it is, to the byte: chains with the whole run in them get the new layer in
 * its place, in one transaction; those that end within the run keep its lower part. What nobody
 * needs any more leaves then, but not before the last mount of it.
 *
 * The folder is one job at a time on the reap lane, one fold each time. It looks at the chains it
 * was told of, and at all of them after a start.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "daemon/base/err.h"
#include "daemon/base/sid.h"

struct ld_container;
struct ld_core;
struct ld_folder;

enum {
    LD_FOLD_IDLE_MAX = 32,   /* layers above the image: the folder leaves no more */
    LD_FOLD_GROWTH_MAX = 48, /* a container's own that may become one more: else it folds first … */
};
#define LD_FOLD_WAIT_COST (UINT64_C(64) << 20) /* … if that is cheap */

/* A container is about to get one more layer; its key is held. Folds what the folder had no time
 * for, when there is much of it; *ret_changed: its record is another by now. Never fails for want
 * of a fold: whoever has too many layers then finds out. Codes: canceled. */
int ld_fold_before_growth(struct ld_core *core, const struct ld_container *c, const bool *cancel,
                          bool *ret_changed, struct ld_err *err);

/* Any thread: a chain with this layer in it has grown, or has a layer that is nobody's state any
 * more. */
void ld_folder_note(struct ld_core *core, ld_sid tip);
/* Any thread: something was unmounted or deleted for which layers may be held. */
void ld_folder_look_again(struct ld_core *core);

/* Since the start. Any thread. */
struct ld_fold_counts {
    uint64_t folds, layers; /* runs that were folded, and the layers in them */
};
struct ld_fold_counts ld_folder_counts(struct ld_core *core);

/* Loop. */
struct ld_folder *ld_folder_new(struct ld_core *core);
void ld_folder_start(struct ld_folder *folder);
void ld_folder_stop(struct ld_folder *folder); /* what it copies now is cut short */
void ld_folder_free(struct ld_folder *folder); /* after the lanes have drained; NULL is fine */
