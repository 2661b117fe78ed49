/* Pins: who reads a stored directory without holding keys. A pinned sid can be removed from the
 * records and renamed to the trash, but the reaper waits. Containers and volumes are pinned while
 * they are made, too, so that nobody takes one for unused (prune.h) before its maker is through.
 * Any thread; never blocks.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "daemon/base/sid.h"

struct ld_pins;
struct ld_pins *ld_pins_new(void);
void ld_pins_free(struct ld_pins *pins);

void ld_pins_add(struct ld_pins *pins, const ld_sid *sids, size_t n);
void ld_pins_drop(struct ld_pins *pins, const ld_sid *sids, size_t n); /* as often as added */
bool ld_pins_has(struct ld_pins *pins, ld_sid sid);

/* The same for whoever waits until it is not: `fn` is called then, by who drops the last pin, with
 * no lock held. The reaper would otherwise look again after half a minute only. */
bool ld_pins_wait(struct ld_pins *pins, ld_sid sid);
void ld_pins_on_free(struct ld_pins *pins, void (*fn)(void *arg), void *arg); /* one; or NULL */
