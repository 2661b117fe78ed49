/* What the files of the overlay driver share: overlay.c (mounts, probe, changes), overlay_freeze.c.
 * Blocking; any thread. */
#pragma once

#include "drivers/driver.h"

/* What a new one holds already. */
static const struct ld_limits ld_overlay_base = {.bytes = 0, .inodes = 0};

/* w/SID/{upper,work}, both empty; *ret_upper is open. */
int ld_overlay_make(const struct ld_driver_env *env, const struct ld_writable *w, int *ret_upper,
                    struct ld_err *err) ld_must_check;

/* Operations of the driver: see driver.h. */
int ld_overlay_is_clean(const struct ld_driver_env *env, const struct ld_writable *w, bool *ret,
                        struct ld_err *err);
int ld_overlay_succeed(const struct ld_driver_env *env, const struct ld_writable *w, ld_sid next,
                       struct ld_err *err);
int ld_overlay_seal(const struct ld_driver_env *env, ld_sid sid, struct ld_err *err);
