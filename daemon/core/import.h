/* Importing images: from a spooled archive to recorded images.
 *
 * Plan (what is in it, which layers are there already, is there space), unpack the missing layers
 * in parallel on the copy lane, each into staging/SID with its digests verified, settle them bottom
 * to top, one syncfs, rename into layers/, one transaction for all images. A second import that
 * needs a layer that another one is working on waits for that one's outcome. A layer that is
 * damaged is made anew in place. A failure leaves nothing.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/base/err.h"
#include "daemon/core/spool.h"

struct ld_core;
struct ld_write;

struct ld_import_result;

/* Called by several workers at once. id: a digest, or NULL for the whole; valid for the call.
 * phase: "plan", "unpack", "settle", "record". Bytes; total 0: not known. */
typedef void (*ld_import_progress_fn)(void *arg, const char *phase, const char *id,
                                      uint64_t current, uint64_t total);

struct ld_import_options {
    const char *format;             /* "auto", "oci", "docker", "rootfs"; NULL: auto */
    const char *ref;                /* the name to give instead of those in the archive, or NULL */
    const char *blobs;              /* "keep", "drop"; NULL: as the settings say */
    ld_import_progress_fn progress; /* or NULL */
    void *progress_arg;
    const bool *cancel; /* or NULL; not looked at any more once it records */
    /* With w->once: what is recorded with the images beside the key. `result` is valid for the
     * call, the text is freed. */
    char *(*answer)(void *arg, const struct ld_import_result *result);
    void *answer_arg;
};

struct ld_import_result {
    char **image_ids; /* in the order of the archive, each once */
    size_t n_images;
    uint64_t layers_added; /* repaired ones too */
    uint64_t layers_reused;
    uint64_t bytes_added; /* on disk */
    char **warnings;
    size_t n_warnings;
};
void ld_import_result_done(struct ld_import_result *result);

/* `format`, `ref` and `blobs` as far as they can be judged without the archive: invalid. Any
 * thread. */
int ld_import_check(const struct ld_import_options *options, struct ld_err *err);

/* Worker of the stream lane, no keys held; blocks until everything is on disk. The spool is used
 * up: parts of it are freed on the way (the caller closes it). Codes: invalid (ref does not fit the
 * archive), bad_content, no_space, conflict (images were removed again and again meanwhile; the
 * core refuses to grow), canceled, io, corrupt, unavailable. */
int ld_import_run(struct ld_core *core, const struct ld_write *w, struct ld_spool *spool,
                  const struct ld_import_options *options, struct ld_import_result *ret,
                  struct ld_err *err);
