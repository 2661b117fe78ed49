/* core/fold_plan.h: which layers are folded; the depth that is left, and how much is copied. */
#include <string.h>

#include "daemon/core/fold_plan.h"
#include "tests/lib/env.h"
#include "tests/lib/randtree.h"

enum { MAX = 20000, LIMIT = 32 };

/* A chain as the plan sees it, topmost first, and what becomes of it. */
struct chain {
    struct ld_fold_item item[400];
    size_t n, deepest;
    uint64_t put, copied;
};

/* `share` percent of what is folded stays: later layers replace what earlier ones have. */
static void fold(struct chain *c, struct ld_fold_run run, unsigned share)
{
    uint64_t sum = 0;

    for (size_t i = run.first; i < run.first + run.n; i++)
        sum += c->item[i].cost;
    cr_assert_eq(sum, run.cost);
    cr_assert(run.n >= 2 && run.first + run.n <= c->n);
    c->item[run.first].cost = sum * share / 100;
    memmove(&c->item[run.first + 1], &c->item[run.first + run.n],
            (c->n - run.first - run.n) * sizeof(c->item[0]));
    c->n -= run.n - 1;
    c->copied += sum;
}

static void settle(struct chain *c, unsigned share)
{
    struct ld_fold_run run;

    while (ld_fold_plan(c->item, c->n, LIMIT, &run))
        fold(c, run, share);
}

static void grow(struct chain *c, uint64_t cost, unsigned share)
{
    memmove(c->item + 1, c->item, c->n * sizeof(c->item[0]));
    c->item[0] = (struct ld_fold_item){.cost = cost, .is_named = true};
    c->n++;
    c->put += cost;
    settle(c, share);
    c->deepest = c->n > c->deepest ? c->n : c->deepest;
}

/* The same of named ones with these costs. */
static bool plan(const uint64_t *cost, size_t n, size_t limit, struct ld_fold_run *ret)
{
    struct ld_fold_item item[16];

    for (size_t i = 0; i < n; i++)
        item[i] = (struct ld_fold_item){.cost = cost[i], .is_named = true};
    return ld_fold_plan(item, n, limit, ret);
}

LD_TEST(fold_plan, leaves_short_chains_alone)
{
    uint64_t cost[] = {5, 1 << 20, 7, 0, 1 << 30, 3, 9};
    struct ld_fold_run run;

    for (size_t n = 0; n <= LD_ARRAY_LEN(cost); n++)
        cr_expect_not(plan(cost, n, LIMIT, &run), "%zu", n);
}

LD_TEST(fold_plan, takes_equal_ones_and_leaves_a_large_one_in_peace)
{
    uint64_t cost[] = {1, 1, 1, 1, 1, 1, 1, 1, UINT64_C(1) << 30, 1};
    struct ld_fold_run run;

    cr_assert(plan(cost, 9, LIMIT, &run));
    cr_expect_eq(run.first, 0);
    cr_expect_eq(run.n, 8);
    cr_expect_eq(run.cost, 8);
    cost[0] =
        UINT64_C(1) << 30; /* two large ones, seven small ones between: eight below the first */
    cr_assert(plan(cost, 10, LIMIT, &run));
    cr_expect_eq(run.cost, (UINT64_C(1) << 30) + 7, "only one of the two is copied");
}

LD_TEST(fold_plan, beyond_the_limit_takes_the_cheapest_whatever_it_costs)
{
    uint64_t cost[] = {1 << 30, 1 << 29, 1 << 28, 1 << 27, 1 << 26};
    struct ld_fold_run run;

    cr_assert(plan(cost, 5, 4, &run));
    cr_expect(run.first == 0 && run.n == 5);
    cr_assert(plan(cost, 2, 1, &run));
    cr_expect(run.first == 0 && run.n == 2);
    cr_expect_not(plan(cost, 1, 0, &run), "one is one");
}

LD_TEST(fold_plan, keeps_chains_short_and_copies_each_byte_a_few_times)
{
    for (unsigned kind = 0; kind < 5; kind++) {
        for (unsigned share = 25; share <= 100; share += 75) {
            static struct chain c;
            struct ld_rand r = {.state = 7 + kind};

            c = (struct chain){.n = 0};
            for (size_t i = 0; i < MAX; i++) {
                uint64_t cost = 20 << 10;

                if (kind == 1)
                    cost = 4096 + ld_rand_below(&r, 64 << 20);
                if (kind == 2) /* sizes of every magnitude */
                    cost = UINT64_C(1) << (12 + ld_rand_below(&r, 20));
                if (kind == 3) /* a large one now and then */
                    cost = i % 2 ? 20 << 10 : UINT64_C(256) << 20;
                if (kind == 4 && i == 0)
                    cost = UINT64_C(1) << 40;
                grow(&c, cost, share);
                if (kind == 4 && i > 0)
                    cr_assert_eq(c.item[c.n - 1].cost, UINT64_C(1) << 40, "a terabyte was copied");
            }
            cr_expect_leq(c.deepest, LIMIT, "kind %u: %zu layers", kind, c.deepest);
            cr_expect_leq(c.copied / 8, c.put, "kind %u, share %u: copied %lu times", kind, share,
                          c.copied / c.put);
            cr_log_info("kind %u, share %u: at most %zu layers, each byte copied %.1f times", kind,
                        share, c.deepest, (double)c.copied / (double)c.put);
        }
    }
}

LD_TEST(fold_plan, takes_what_nobody_names_with_the_one_above_it)
{
    struct ld_fold_item item[] = {{.cost = 3 << 20, .is_named = true},
                                  {.cost = 1 << 20, .is_named = true},
                                  {.cost = 2 << 20},
                                  {.cost = 40 << 20, .is_named = true}};
    struct ld_fold_run run;

    cr_expect_not(ld_fold_plan(item, 4, LIMIT, &run), "half as large above it");
    item[1].cost = 3 << 20;
    cr_assert(ld_fold_plan(item, 4, LIMIT, &run));
    cr_expect(run.first == 1 && run.n == 2 && run.cost == 5 << 20);
    item[2].is_named = true;
    cr_expect_not(ld_fold_plan(item, 4, LIMIT, &run));
    item[2] = item[1] = (struct ld_fold_item){.cost = 4096};
    cr_expect_not(ld_fold_plan(item, 4, LIMIT, &run), "it would cost more than it brings");
}

/* Each state is 64 MiB, all of it written anew: without their names, three quarters and more go. */
LD_TEST(fold_plan, gives_back_what_removed_snapshots_had)
{
    static struct chain c;
    uint64_t sum = 0;

    for (size_t i = 0; i < 31; i++) {
        c.item[c.n++] = (struct ld_fold_item){.cost = UINT64_C(64) << 20};
        c.item[0].is_named = true;
    }
    for (struct ld_fold_run run; ld_fold_plan(c.item, c.n, LIMIT, &run);) {
        fold(&c, run, 100);
        c.item[run.first].cost = UINT64_C(64) << 20;
    }
    for (size_t i = 0; i < c.n; i++)
        sum += c.item[i].cost;
    cr_expect_eq(sum, UINT64_C(64) << 20);
}
