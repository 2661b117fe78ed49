/* A layer that was made here, not unpacked: its tar, as far as the digest of it, and the recipe
 * from which that tar is written when it is wanted (layer_tar.h). The same tree gives the same tar:
 * entries by path, names of an inode as hard links to the first one, whiteouts, no time but the
 * files' own. Blocking; copy lane.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "daemon/base/digest.h"
#include "daemon/base/err.h"

struct ld_layer_packing {
    int root_fd;   /* the layer's directory: marks, no sockets; borrowed as the next */
    int recipe_fd; /* an empty file */
    bool is_whole; /* no layer lies below: it hides nothing */
    const bool *cancel;
    void (*progress)(void *arg, uint64_t bytes); /* of the tar so far; or NULL */
    void *progress_arg;
};

/* Nothing is synced. bad_content, naming the entry: what no layer can say (a name that begins with
 * ".wh.", deeper than LD_MAX_TREE_DEPTH, a device 0:0), or no tar. */
int ld_layer_pack(const struct ld_layer_packing *packing, struct ld_digest *ret_diff_id,
                  struct ld_err *err) ld_must_check;
