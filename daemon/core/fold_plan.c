/* Choosing the layers to fold: see fold_plan.h. */
#include "daemon/core/fold_plan.h"

/* 0: below the unit; else the number of digits to that base. */
static unsigned size_class(uint64_t cost, unsigned base)
{
    unsigned class = 0;

    for (cost /= LD_FOLD_UNIT; cost > 0; cost /= base)
        class ++;
    return class;
}

/* The cheapest run of n among item[from] … item[to - 1]; of equal ones the lowest, since what lies
 * lower is part of more chains. */
static struct ld_fold_run cheapest(const struct ld_fold_item *item, size_t from, size_t to,
                                   size_t n)
{
    struct ld_fold_run best = {.n = 0};
    uint64_t sum = 0;

    for (size_t i = from; i < to; i++) {
        sum += item[i].cost;
        if (i >= from + n)
            sum -= item[i - n].cost;
        if (i + 1 >= from + n && (best.n == 0 || sum <= best.cost))
            best = (struct ld_fold_run){.first = i + 1 - n, .n = n, .cost = sum};
    }
    return best;
}

/* Runs of one size. What lies below a larger one counts as large as that, or small ones between
 * large ones would add up. */
static bool plan_run(const struct ld_fold_item *item, size_t n, struct ld_fold_run *ret)
{
    size_t from = 0;
    unsigned class = 0; /* the largest so far: it only grows downwards */

    for (size_t i = 0; i <= n; i++) {
        unsigned own = i < n ? size_class(item[i].cost, LD_FOLD_RUN) : class + 1;

        if (own <= class)
            continue;
        if (i - from >= LD_FOLD_RUN) {
            *ret = cheapest(item, from, i, LD_FOLD_RUN);
            return true;
        }
        from = i;
        class = own;
    }
    return false;
}

/* A layer that nobody names and the one above it. Tiny ones are not worth a sync. */
static bool plan_pair(const struct ld_fold_item *item, size_t n, struct ld_fold_run *ret)
{
    for (size_t i = 0; i + 1 < n; i++) {
        unsigned class = size_class(item[i].cost, 2);

        if (class == 0 || item[i + 1].is_named || size_class(item[i + 1].cost, 2) != class)
            continue;
        *ret = cheapest(item, i, i + 2, 2);
        return true;
    }
    return false;
}

bool ld_fold_plan(const struct ld_fold_item *item, size_t n, size_t limit, struct ld_fold_run *ret)
{
    if (plan_run(item, n, ret) || plan_pair(item, n, ret))
        return true;
    if (n <= limit || n < 2)
        return false;
    *ret = cheapest(item, 0, n, n < LD_FOLD_RUN ? n : LD_FOLD_RUN);
    return true;
}
