/* A committed layer as the tar it came as: for export, and for whatever else reads layers without
 * holding keys. Blocking; any worker. The caller has pinned the sid: then a removal meanwhile only
 * moves the layer to the trash, where it is found too.
 */
#pragma once

#include <stdbool.h>

#include "daemon/base/digest.h"
#include "daemon/base/err.h"
#include "daemon/base/sid.h"

struct ld_core;
struct ld_sink;

/* One of a layer's names (layer_names.h), wherever it is; flags besides O_RDONLY. -errno. */
int ld_layer_open_part(struct ld_core *core, ld_sid sid, const char *suffix,
                       int flags) ld_must_check;
/* The layer's own root directory (O_RDONLY; never to be written). not_found: it is neither among
 * the layers nor in the trash. Returns the descriptor, or -1 with err. */
int ld_layer_open(struct ld_core *core, ld_sid sid, struct ld_err *err) ld_must_check;

/* Bytes of its tar. Codes: as ld_layer_write_tar. */
int ld_layer_tar_size(struct ld_core *core, ld_sid sid, const struct ld_digest *diff_id,
                      uint64_t *ret, struct ld_err *err) ld_must_check;

/* Writes the tar and holds it against the diff ID when the last byte is through: until this has
 * returned 0 nothing of it is known to be right. Code corrupt: the layer is damaged, which is then
 * logged and recorded; others are the sink's, io, canceled. */
int ld_layer_write_tar(struct ld_core *core, ld_sid sid, const struct ld_digest *diff_id,
                       struct ld_sink *sink, const bool *cancel, struct ld_err *err) ld_must_check;
