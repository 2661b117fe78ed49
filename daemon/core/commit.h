/* Committing: what a container has changed since its image becomes one layer, and with it a new
 * image.
 *
 * What snapshots froze in between is in it as far as it is still there: what was deleted again is
 * in no commit. The container goes on on top of it: unless somebody uses it (or the driver copies),
 * its next writable layer stands on the committed one, so that what both say is on the disk once.
 * However often it is committed it stands on one such layer, since each commit tells all that was
 * changed since the image it was made from. That stays its image: changes are told against it as
 * before, and the new one can be removed whatever becomes of the container.
 *
 * The same tree gives the same layer, whatever the driver, the history of the container or the
 * time.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "daemon/base/err.h"
#include "daemon/core/import.h"

struct ld_core;
struct ld_write;

struct ld_commit_spec {
    const char *ref, *message, *author; /* each may be NULL */
    const char *const *changes;         /* of the config: lines of a Dockerfile (image/change.h) */
    size_t n_changes;
    bool squash; /* one layer of the whole root, on nothing */
    /* When the image was made, since 1970; NULL: now. Nothing in the layer is newer then: the same
     * changes give the same image whenever they were made (SOURCE_DATE_EPOCH). */
    const int64_t *created_s;
    /* Phases: "capture", "pack" (bytes of the layer's tar), "record". */
    ld_import_progress_fn progress; /* or NULL */
    void *progress_arg;
    const bool *cancel; /* or NULL; not looked at any more once it records */
};

/* What can be judged without the container: invalid. Any thread. */
int ld_commit_check(const struct ld_commit_spec *spec, struct ld_err *err);

/* Worker of the stream lane; the container's key is held, exclusive (ld_container_admit). Blocks
 * until everything is on disk; a mounted overlay is read-only for all who use it as long as its
 * changes are copied. *ret_image is the id; free it. A failure leaves nothing. Codes: invalid (a
 * change), busy (it is written to, or held elsewhere; details.holders), conflict (its image was
 * removed; too many layers), bad_content (what a layer can't say), corrupt, no_space, canceled. */
int ld_commit_run(struct ld_core *core, const struct ld_write *w, const char *container,
                  const struct ld_commit_spec *spec, char **ret_image,
                  struct ld_err *err) ld_must_check;
