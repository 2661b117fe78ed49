/* The blob of a committed layer as it came, kept beside it at layers/SID.blob. It is a convenience:
 * the layer itself never depends on it, so one that is damaged is dropped. Blocking; any worker;
 * the caller has pinned the sid.
 */
#pragma once

#include <stdbool.h>

#include "daemon/base/digest.h"
#include "daemon/base/err.h"
#include "daemon/base/sid.h"

struct ld_core;
struct ld_sink;

/* Is the kept blob of the layer the one with this digest and size? */
bool ld_layer_blob_is(struct ld_core *core, ld_sid sid, const struct ld_digest *digest,
                      uint64_t size);

/* Writes it, and holds it against the digest when the last byte is through. Code corrupt: it is
 * damaged, which is logged, and the blob dropped. */
int ld_layer_write_blob(struct ld_core *core, ld_sid sid, const struct ld_digest *digest,
                        struct ld_sink *sink, const bool *cancel, struct ld_err *err) ld_must_check;

/* Forgets it and deletes the file. */
void ld_layer_drop_blob(struct ld_core *core, ld_sid sid);
