/* Untar: one layer's tar into a directory of its own, and its recipe.
 *
 * The directory is the layer's whole world: parents are opened component by component, a symlink
 * made by the layer itself is followed inside the root, a missing parent becomes an implied
 * directory, a last component is never followed. No other layer is looked at. What depends on the
 * layers below (whiteouts, opaque marks, implied directories, links to their files), all attributes
 * of directories (0700 until then) and trusted xattrs are left to settle (settle.h) as notes.
 *
 * Decisions where readers differ:
 *  - names are cleaned as text ("a/../b" is "b"); then absolute names and ".." are refused, "/" is
 *    the root. A hard link's target may be absolute: it lies in the layer all the same.
 *  - the same path twice: the last one wins. A directory entry over a directory keeps what is in it
 *    and replaces all its attributes. Anything else replaces what was there, a whole tree too.
 *  - whiteouts and opaque marks are a set: they hide lower layers only, wherever they stand.
 *  - a hard link to a name that this layer does not have (yet) means the lower layers' file; all
 *    such links to one name are links of one inode.
 *  - an xattr Linux cannot store (a foreign namespace, user.* of a symlink or device) is left out
 *    with a warning; the recipe has it.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "daemon/base/digest.h"
#include "daemon/base/err.h"
#include "daemon/image/pending.h"
#include "daemon/image/source.h"
#include "daemon/image/warn.h"

struct ld_untar_limits {
    uint64_t max_entries;   /* entries and implied directories; 0: LD_TAR_MAX_ENTRIES */
    uint64_t max_bytes;     /* content of all files, holes not counted; 0: none */
    uint64_t max_file_size; /* of one file, holes included; 0: none */
};

/* All borrowed. */
struct ld_untar_job {
    struct ld_source *source; /* the uncompressed tar, read to its end; maybe by another thread */
    int root_fd;              /* an empty directory, without default ACL and set-gid bit */
    int recipe_fd;            /* an empty file */
    int aside_parent_fd;      /* here aside_name is made, a directory, when it is needed: it has */
    const char *aside_name;   /* replaced content for the recipe, and what settle takes away */
    struct ld_untar_limits limits;
    bool escapes_xattrs; /* the kernel shows trusted.overlay.overlay.X as trusted.overlay.X (6.7);
                            else an image's own trusted.overlay.* are refused */
    const bool *cancel;  /* NULL: none. Polled per entry and per buffer. */
};

struct ld_untar_result {
    struct ld_digest diff_id;
    uint64_t tar_bytes;
    uint64_t entries; /* of the archive */
    uint64_t nodes;   /* entries and implied directories */
    uint64_t bytes;   /* content written */
    struct ld_warnings warnings;
    struct ld_pending *pending; /* owned */
};

/* Blocks; any thread. Codes: bad_content naming the entry (limits: `details`), what the source
 * says, no_space, io, canceled. After a failure the caller throws away root, recipe and aside. The
 * recipe is complete, nothing is synced. */
int ld_untar(const struct ld_untar_job *job, struct ld_untar_result *ret, struct ld_err *err);
void ld_untar_result_done(struct ld_untar_result *result);
