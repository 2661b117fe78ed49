/* Random layers and random changes, the same for the same seed: material for comparing a merged
 * view with the kernel's. Names are few, so that layers collide often. Failures abort the test. */
#pragma once

#include <stdint.h>

#include "daemon/base/tree.h"

struct ld_rand {
    uint64_t state;
};
uint64_t ld_rand_next(struct ld_rand *r);
unsigned ld_rand_below(struct ld_rand *r, unsigned n); /* 0 … n-1 */

/* Fills an empty directory as a layer over `below` (may have n == 0): all types of nodes, whiteouts
 * and opaque marks (only such as hide something or do no harm: overlay's readdir shows whiteouts
 * that hide nothing), hard links, holes, xattrs, ACLs, capabilities, set-id bits, nanosecond times.
 */
void ld_rand_layer(struct ld_rand *r, int dir, const struct ld_layers *below);

/* `n` random changes below `root`, as programs in a container would make them: writes, deletions of
 * trees, replacements, renames, exchanges, links, attributes there and back, rewrites of the same
 * size with the time put back. What the file system refuses is left out. */
void ld_rand_changes(struct ld_rand *r, const char *root, unsigned n);
