/* Making a layer's directory: staged, synced, renamed to its place; then the caller records it.
 *
 * Until the record is made the storage id is marked as being made (making.h), so that a start after
 * a kill deletes what there is. Any worker.
 */
#pragma once

#include <stdbool.h>

#include "daemon/store/store.h"

struct ld_core;

/* Takes a sid, layer->sid, and makes an empty directory for it, open as *ret_dir. Whatever comes
 * out, ld_new_layer_end has to follow. */
int ld_new_layer_begin(struct ld_core *core, struct ld_layer *layer, int *ret_dir,
                       struct ld_err *err);
/* To its place, on disk with all that is in it where `sync`. Fills bytes and inodes. */
int ld_new_layer_publish(struct ld_core *core, struct ld_layer *layer, bool sync,
                         struct ld_err *err);
/* The record is made, or (keep false) will not be. Twice is fine. */
void ld_new_layer_end(struct ld_core *core, struct ld_layer *layer, bool keep);
