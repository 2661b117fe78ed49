/* When the use of a limit is worth to be told: at 80 and at 95 percent, each once, and again only
 * after it has fallen 5 percent below, or when the limit is another one. A value; any thread. */
#pragma once

#include <stdint.h>

/* Zeroed: nothing was told. */
struct ld_threshold {
    uint64_t limit;
    unsigned told; /* percent: 0, 80, 95 */
};

/* The percentage that was reached since the last look: the higher one where it was both; 0:
 * nothing new. limit 0: there is none. */
unsigned ld_threshold_look(struct ld_threshold *t, uint64_t used, uint64_t limit);
