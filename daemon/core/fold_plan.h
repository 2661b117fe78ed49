/* Which layers of a chain to fold next: values only, any thread.
 *
 * A mount's time grows with its layers, and a fold costs a copy, which stays for as long as
 * snapshots need the folded layers themselves. So layers are folded with others of about their own
 * size: what a fold makes is LD_FOLD_RUN times as large, and nothing is copied more often than the
 * logarithm of the chain's whole size says. A large layer is not copied for the sake of small ones
 * next to it.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    LD_FOLD_RUN = 8,           /* layers of one size become one */
    LD_FOLD_UNIT = 64 << 10,   /* below that all are of the same size */
    LD_FOLD_INODE_COST = 4096, /* what an inode counts for: a copy of many files is slow */
};

struct ld_fold_item {
    uint64_t cost;
    bool is_named; /* something but the layer above needs it */
};

struct ld_fold_run {
    size_t first, n; /* indices into the chain */
    uint64_t cost;   /* of these in all */
};

/* item: the layers that can be folded, topmost first. False: nothing is to be done, unless there
 * are more than `limit` of them; then the cheapest run is chosen whatever it costs.
 *
 * One that is not named leaves with the fold, and with it what the layer above hides of it: there
 * two of one size, by halves, are enough, so that what removed snapshots leave behind is at most
 * about as much as what is needed. */
bool ld_fold_plan(const struct ld_fold_item *item, size_t n, size_t limit, struct ld_fold_run *ret);
