/* base/histogram.h: where a value counts. */
#include <criterion/criterion.h>

#include "daemon/base/histogram.h"

static void expect_ascending(const struct ld_scale *scale)
{
    cr_assert_leq(scale->n, LD_MAX_BOUNDS);
    for (size_t i = 1; i < scale->n; i++)
        cr_expect_gt(scale->bound[i], scale->bound[i - 1]);
}

Test(histogram, counts_a_value_at_its_bound_below_it)
{
    struct ld_histogram h = {.sum = 0};

    expect_ascending(&ld_scale_count);
    expect_ascending(&ld_scale_time);
    ld_histogram_add(&h, &ld_scale_count, 0);
    ld_histogram_add(&h, &ld_scale_count, 1);
    ld_histogram_add(&h, &ld_scale_count, 2);
    ld_histogram_add(&h, &ld_scale_count, 3);
    ld_histogram_add(&h, &ld_scale_count, 256);
    ld_histogram_add(&h, &ld_scale_count, 257);
    cr_expect_eq(h.bucket[0], 2);
    cr_expect_eq(h.bucket[1], 1);
    cr_expect_eq(h.bucket[2], 1);
    cr_expect_eq(h.bucket[ld_scale_count.n - 1], 1);
    cr_expect_eq(h.bucket[ld_scale_count.n], 1);
    cr_expect_eq(h.sum, 519);
    cr_expect_eq(ld_histogram_count(&h), 6);
}
