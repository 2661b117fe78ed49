/* What the drivers share. Blocking; any thread. For the drivers only. */
#pragma once

#include "drivers/chain.h"
#include "drivers/driver.h"

/* Removes what a failed operation or a trial left. What can't be removed is found later: in w as an
 * orphan, at the stage with the next start. */
void ld_driver_discard(int dir, const char *name);
