/* Counts by size: see histogram.h. */
#include "daemon/base/histogram.h"

#include "daemon/base/mem.h"

#define US UINT64_C(1000)
#define MS UINT64_C(1000000)
#define S  UINT64_C(1000000000)

const struct ld_scale ld_scale_time = {.bound = {100 * US, 500 * US, 1 * MS, 2500 * US, 5 * MS,
                                                 10 * MS, 25 * MS, 50 * MS, 100 * MS, 250 * MS,
                                                 500 * MS, 1 * S, 2500 * MS, 10 * S, 60 * S},
                                       .n = 15};

const struct ld_scale ld_scale_count = {.bound = {1, 2, 4, 8, 16, 32, 64, 128, 256}, .n = 9};

void ld_histogram_add(struct ld_histogram *histogram, const struct ld_scale *scale, uint64_t value)
{
    size_t i = 0;

    while (i < scale->n && value > scale->bound[i])
        i++;
    histogram->bucket[i]++;
    histogram->sum += value;
}

uint64_t ld_histogram_count(const struct ld_histogram *histogram)
{
    uint64_t count = 0;

    for (size_t i = 0; i < LD_ARRAY_LEN(histogram->bucket); i++)
        count += histogram->bucket[i];
    return count;
}
