/* What images and layers hold, read from the layer store without a mount and without keys: a
 * removal meanwhile does not disturb it. Blocking; any worker.
 */
#pragma once

#include <stdbool.h>

#include "daemon/base/tree_diff.h"
#include "daemon/store/records.h"

struct ld_core;

/* An entry of an image, and the layer that gives it; both are the walk's. A result other than 0
 * ends the walk, which then returns -1. */
typedef int (*ld_entry_fn)(void *arg, const struct ld_node *node, const struct ld_layer *layer,
                           struct ld_err *err);

/* Each entry behind the path `after` (NULL: all, the root first), in the order of a tree's walk.
 * Codes: not_found (removed meanwhile), corrupt (a layer is damaged), canceled. */
int ld_image_entries(struct ld_core *core, const struct ld_image *image, const char *after,
                     const bool *cancel, ld_entry_fn sink, void *arg,
                     struct ld_err *err) ld_must_check;

/* What makes `image` of `since`: as the changes of a container that began as that one. */
int ld_image_changes(struct ld_core *core, const struct ld_image *image,
                     const struct ld_image *since, const bool *cancel, ld_change_fn sink, void *arg,
                     struct ld_err *err) ld_must_check;

/* What a layer changes of those below it. What it has just as they do, or deletes where nothing
 * was, is no change. */
int ld_layer_changes(struct ld_core *core, const struct ld_layer *layer, const bool *cancel,
                     ld_change_fn sink, void *arg, struct ld_err *err) ld_must_check;
