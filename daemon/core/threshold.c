/* Thresholds: see threshold.h. */
#include "daemon/core/threshold.h"

#include <stddef.h>

#include "daemon/base/cleanup.h"

enum { REARM = 5 };

static const unsigned percents[] = {95, 80};

/* Rounded up, and no product that could overflow. */
static uint64_t share(uint64_t limit, unsigned percent)
{
    return limit / 100 * percent + (limit % 100 * percent + 99) / 100;
}

unsigned ld_threshold_look(struct ld_threshold *t, uint64_t used, uint64_t limit)
{
    unsigned before = t->limit == limit ? t->told : 0, now = 0;

    for (size_t i = 0; i < LD_ARRAY_LEN(percents) && now == 0 && limit; i++) {
        unsigned at = percents[i] <= before ? percents[i] - REARM : percents[i];

        if (used >= share(limit, at))
            now = percents[i];
    }
    *t = (struct ld_threshold){.limit = limit, .told = now};
    return now > before ? now : 0;
}
