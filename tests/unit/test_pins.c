/* Pins: counted, and who waits for one is told when the last is dropped. */
#include "daemon/core/pins.h"
#include "tests/lib/env.h"

static void count(void *arg)
{
    ++*(int *)arg;
}

LD_TEST(pins, tell_who_waits_when_the_last_is_dropped)
{
    struct ld_pins *pins = ld_pins_new();
    const ld_sid both[] = {7, 8}, one = 7;
    int told = 0;

    ld_pins_on_free(pins, count, &told);
    cr_expect_not(ld_pins_wait(pins, 7), "nobody has pinned it");
    ld_pins_add(pins, both, 2);
    ld_pins_drop(pins, &both[1], 1);
    cr_expect_eq(told, 0, "nobody waits for 8, and who asked for 7 was told no");
    ld_pins_add(pins, &one, 1);
    cr_expect(ld_pins_wait(pins, 7));
    ld_pins_drop(pins, &one, 1);
    cr_expect_eq(told, 0, "there is another one");
    ld_pins_drop(pins, &one, 1);
    cr_expect_eq(told, 1);
    cr_expect_not(ld_pins_has(pins, 7));
    ld_pins_add(pins, &one, 1);
    ld_pins_drop(pins, &one, 1);
    cr_expect_eq(told, 1, "it is told once");
    ld_pins_free(pins);
}
