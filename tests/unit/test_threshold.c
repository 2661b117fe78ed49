/* core/threshold: what is told of a use that grows, falls and grows, and of another limit. */
#include <stdint.h>

#include "daemon/core/threshold.h"
#include "tests/lib/env.h"

static unsigned look(struct ld_threshold *t, uint64_t used)
{
    return ld_threshold_look(t, used, 1000);
}

LD_TEST(threshold, tells_each_percentage_once_and_only_the_higher_of_two)
{
    struct ld_threshold t = {.told = 0};

    cr_expect_eq(look(&t, 0), 0);
    cr_expect_eq(look(&t, 799), 0);
    cr_expect_eq(look(&t, 800), 80);
    cr_expect_eq(look(&t, 800), 0);
    cr_expect_eq(look(&t, 949), 0);
    cr_expect_eq(look(&t, 950), 95);
    cr_expect_eq(look(&t, 1200), 0);
    t = (struct ld_threshold){.told = 0};
    cr_expect_eq(look(&t, 1000), 95);
    cr_expect_eq(look(&t, 1000), 0);
}

LD_TEST(threshold, tells_again_after_the_use_has_fallen_five_percent_below)
{
    struct ld_threshold t = {.told = 0};

    cr_expect_eq(look(&t, 990), 95);
    cr_expect_eq(look(&t, 900), 0);
    cr_expect_eq(look(&t, 990), 0, "not fallen far enough");
    cr_expect_eq(look(&t, 899), 0);
    cr_expect_eq(look(&t, 940), 0, "80 stays told");
    cr_expect_eq(look(&t, 950), 95);
    cr_expect_eq(look(&t, 750), 0);
    cr_expect_eq(look(&t, 800), 0);
    cr_expect_eq(look(&t, 749), 0);
    cr_expect_eq(t.told, 0);
    cr_expect_eq(look(&t, 800), 80);
}

LD_TEST(threshold, begins_anew_with_another_limit)
{
    struct ld_threshold t = {.told = 0};

    cr_expect_eq(ld_threshold_look(&t, 990, 1000), 95);
    cr_expect_eq(ld_threshold_look(&t, 990, 1001), 95);
    cr_expect_eq(ld_threshold_look(&t, 990, 1200), 80);
    cr_expect_eq(ld_threshold_look(&t, 990, 0), 0);
    cr_expect_eq(ld_threshold_look(&t, 990, 1000), 95);
}

LD_TEST(threshold, holds_for_the_smallest_and_the_largest_limits)
{
    struct ld_threshold t = {.told = 0};

    cr_expect_eq(ld_threshold_look(&t, 0, 1), 0);
    cr_expect_eq(ld_threshold_look(&t, 1, 1), 95);
    cr_expect_eq(ld_threshold_look(&t, UINT64_MAX / 10 * 7, UINT64_MAX), 0);
    cr_expect_eq(ld_threshold_look(&t, UINT64_MAX / 10 * 8 + 5, UINT64_MAX), 80);
    cr_expect_eq(ld_threshold_look(&t, UINT64_MAX, UINT64_MAX), 95);
}
