/* What a container's own tree is made of, for whoever looks its changes up in it: the writable
 * layer and the frozen states below it that are the container's own too, or the whole tree of a
 * driver that copies. Blocking; any worker. */
#pragma once

#include "daemon/base/tree.h"

struct ld_driver;
struct ld_driver_env;
struct ld_writable;

struct ld_own {
    struct ld_layers layers; /* topmost first */
    int *fd;                 /* owned */
};

int ld_own_open(const struct ld_driver_env *env, const struct ld_driver *driver,
                const struct ld_writable *w, struct ld_own *ret, struct ld_err *err) ld_must_check;
/* The same and all that lies below: the tree that the container shows. */
int ld_own_open_whole(const struct ld_driver_env *env, const struct ld_driver *driver,
                      const struct ld_writable *w, struct ld_own *ret,
                      struct ld_err *err) ld_must_check;
void ld_own_close(struct ld_own *own);
