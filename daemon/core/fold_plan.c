/* Choosing the layers to fold: see fold_plan.h. */
#include "daemon/core/fold_plan.h"

static unsigned size_class(uint64_t cost)
{
    unsigned class = 0;

    for (cost /= LD_FOLD_UNIT; cost > 0; cost /= LD_FOLD_RUN)
        class ++;
    return class;
}

/* The cheapest run of n among item[from] … item[to - 1]; of equal ones the lowest, since what lies
 * lower is part of more chains. */
static struct ld_fold_run cheapest(const uint64_t *cost, size_t from, size_t to, size_t n)
{
    struct ld_fold_run best = {.n = 0};
    uint64_t sum = 0;

    for (size_t i = from; i < to; i++) {
        sum += cost[i];
        if (i >= from + n)
            sum -= cost[i - n];
        if (i + 1 >= from + n && (best.n == 0 || sum <= best.cost))
            best = (struct ld_fold_run){.first = i + 1 - n, .n = n, .cost = sum};
    }
    return best;
}

bool ld_fold_plan(const uint64_t *cost, size_t n, size_t limit, struct ld_fold_run *ret)
{
    size_t from = 0;
    unsigned class = 0; /* of what was seen so far: the largest, so it only grows downwards */

    for (size_t i = 0; i <= n; i++) {
        unsigned own = i < n ? size_class(cost[i]) : class + 1;

        if (own <= class)
            continue;
        /* What lies below in a smaller one's place counts as large as the largest above it, or
         * small ones between large ones would add up. */
        if (i - from >= LD_FOLD_RUN) {
            *ret = cheapest(cost, from, i, LD_FOLD_RUN);
            return true;
        }
        from = i;
        class = own;
    }
    if (n <= limit || n < 2)
        return false;
    *ret = cheapest(cost, 0, n, n < LD_FOLD_RUN ? n : LD_FOLD_RUN);
    return true;
}
