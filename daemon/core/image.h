/* Images in the store: finding, tagging, removing. Importing is import.h. Threads: see core.h. */
#pragma once

#include <stdbool.h>

#include "daemon/core/core.h"
#include "daemon/store/store.h"

struct ld_op;

/* By whole id ("sha256:HEX" or HEX), then reference by Docker's rules, then unique id prefix. Any
 * thread. invalid: neither an id nor a reference. */
int ld_image_find(struct ld_core *core, const char *text, struct ld_image *ret, struct ld_err *err);

/* Loop. Finds the image and adds its key ("i:ID"); for changes exclusive. ret may be NULL. */
int ld_image_admit(struct ld_core *core, const char *text, bool exclusive, struct ld_op *op,
                   struct ld_image *ret, struct ld_err *err);

/* Worker, i:ID exclusive. Gives the image another name; a name that points elsewhere moves. */
int ld_image_tag(struct ld_core *core, const struct ld_write *w, const char *image_id,
                 const char *ref, uint64_t if_match, struct ld_err *err);

struct ld_image_removal {
    bool force; /* also when containers were made of it, when it is mounted, has several names */
    bool all_names; /* by id: also when it has several */
    bool purge;     /* not to the trash */
    uint64_t if_match;
};
/* Worker, i:ID exclusive. `text` as the user wrote it: a reference is untagged, and the image goes
 * with its last one; an id means the image with all its names (several: only when told so). It
 * stays in the trash for as long as that is set to keep images. */
int ld_image_remove(struct ld_core *core, const struct ld_write *w, const char *text,
                    const struct ld_image_removal *how, struct ld_removed *ret, struct ld_err *err);

/* The short form of a stored reference ("debian:12"); free it. */
char *ld_image_short_ref(const char *ref);

/* A layer by its chain ID ("sha256:HEX" or HEX) or a unique beginning of its digits. Any worker.
 * conflict: several begin so. */
int ld_layer_find(struct ld_core *core, const char *text, struct ld_layer *ret,
                  struct ld_err *err) ld_must_check;
