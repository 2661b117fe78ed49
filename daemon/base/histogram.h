/* How often a value was how large: counts between fixed bounds, and the sum. Adding allocates
 * nothing. One owner, no locking. */
#pragma once

#include <stddef.h>
#include <stdint.h>

enum { LD_MAX_BOUNDS = 15 };

/* Ascending; a value counts where it is at most the bound. */
struct ld_scale {
    uint64_t bound[LD_MAX_BOUNDS];
    size_t n;
};
extern const struct ld_scale ld_scale_time;  /* nanoseconds: 0.1 ms to a minute */
extern const struct ld_scale ld_scale_count; /* 1 to 256 */

struct ld_histogram {
    uint64_t bucket[LD_MAX_BOUNDS + 1]; /* [scale.n]: above the last bound */
    uint64_t sum;
};
/* Always with the same scale. */
void ld_histogram_add(struct ld_histogram *histogram, const struct ld_scale *scale, uint64_t value);
/* How many values there were. */
uint64_t ld_histogram_count(const struct ld_histogram *histogram);
