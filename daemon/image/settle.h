/* Settling: what of a layer depends on the settled layers below it, and all that must come last.
 *
 *  - a whiteout becomes a char device 0:0 where it hides something; beside a directory of this
 *    layer it makes that one opaque. One that hides nothing, or lies in a directory that merges
 * with nothing, is dropped: overlay would show it.
 *  - an opaque mark is set where a directory lies below, else dropped. Of the layer's root (where
 *    overlay does not look for one) it becomes a whiteout or an opaque mark for each name below.
 *  - links to files of lower layers get content and attributes of the file, in place.
 *  - implied directories get owner, mode, xattrs and times of the directory below, as this layer's
 *    marks leave it, else root's, 0755, no xattrs, and the mtime of the entry that implied them.
 *  - last of all the attributes of directories (a default ACL set early leaks into files).
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "daemon/base/err.h"
#include "daemon/base/tree.h"
#include "daemon/image/pending.h"
#include "daemon/image/warn.h"

/* All borrowed. */
struct ld_settle_job {
    int root_fd; /* the layer, as untar left it */
    int aside_parent_fd;
    const char *aside_name;
    struct ld_layers lower; /* settled, topmost first, LD_FORM_LAYER; n 0: a base layer */
    const bool *cancel;     /* NULL: none */
};

struct ld_settle_result {
    uint64_t
        bytes; /* st_blocks * 512 of the layer; may still change by a few blocks at writeback */
    uint64_t inodes;
    bool has_aside; /* the recipe needs aside_name: keep it beside the layer. Else it is gone. */
    struct ld_warnings warnings;
};

/* Blocks; any thread; layers of one chain bottom to top. Codes: bad_content naming the entry,
 * no_space, io, canceled. After a failure the caller throws the layer away. Nothing is synced. */
int ld_settle(const struct ld_settle_job *job, struct ld_pending *pending,
              struct ld_settle_result *ret, struct ld_err *err);
void ld_settle_result_done(struct ld_settle_result *result);
