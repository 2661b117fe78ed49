/* A driver around another one that fails when told: for what the code above does then.
 *
 * There is one at a time per process (a driver's functions have no place for a context). */
#pragma once

#include "drivers/driver.h"

enum ld_fault_op {
    LD_FAULT_CREATE,
    LD_FAULT_MOUNT,
    LD_FAULT_IN_USE,
    LD_FAULT_CHANGES,
    LD_FAULT_USAGE,
    LD_FAULT_OPS,
};

/* BEFORE: the operation is not done. AFTER: it is done, and reported as failed: what it left is
 * there. */
enum ld_fault_when { LD_FAULT_NEVER, LD_FAULT_BEFORE, LD_FAULT_AFTER };

/* The decorated driver; `inner` is borrowed. Its name is that of the inner one. */
const struct ld_driver *ld_fault_driver(const struct ld_driver *inner);

/* The next call of `op` fails with this code; later ones don't. */
void ld_fault_next(enum ld_fault_op op, enum ld_fault_when when, enum ld_code code);
/* How often the op was called since ld_fault_driver. */
unsigned ld_fault_calls(enum ld_fault_op op);
