/* What the drivers share. Blocking; any thread. For the drivers only. */
#pragma once

#include "drivers/chain.h"
#include "drivers/driver.h"

/* Removes what a failed operation or a trial left. What can't be removed is found later: in w as an
 * orphan, at the stage with the next start. */
void ld_driver_discard(int dir, const char *name);

/* w/SID, empty, counted by the quota from the first entry on, if it has limits or can have them
 * later. The descriptor or -errno. */
int ld_driver_make(const struct ld_driver_env *env, const struct ld_writable *w);
/* For `limit`, and for whatever makes a layer: w->limits beyond `base`. */
int ld_driver_limit(const struct ld_driver_env *env, const struct ld_writable *w,
                    const struct ld_limits *base, struct ld_err *err) ld_must_check;
/* For `used`: what is beyond `base`. */
int ld_driver_used(const struct ld_driver_env *env, const struct ld_writable *w,
                   const struct ld_limits *base, struct ld_limits *ret,
                   struct ld_err *err) ld_must_check;
/* A layer that was just made: nothing is to be done where it has no limits. */
static inline int ld_driver_limit_new(const struct ld_driver_env *env, const struct ld_writable *w,
                                      const struct ld_limits *base, struct ld_err *err)
{
    return w->limits.bytes || w->limits.inodes ? ld_driver_limit(env, w, base, err) : 0;
}
