/* Backing: a file system of its own for what an ephemeral container writes, which holds it to a
 * size also where the file system of the data root enforces no limits.
 *
 * It is mounted at RUN/backing/SID, and has in its root a directory SID: the driver works in it as
 * in DATA/w. DATA/w/SID is there all the same (of a tmpfs, empty; of an ext4, with its image):
 * records, recovery and the trash go by it. What is in it can't be renamed into the layer store: it
 * is captured, never frozen.
 *
 * Mounts stay when the daemon ends, as those of containers do. A start knows them by their names,
 * unmounts those that belong to no container, and a container whose mount is gone is damaged. A
 * removal detaches the mount: the kernel frees it with whoever uses it last, so nothing of it is
 * kept in the trash. Blocking; any worker that holds the container's key, unless it says otherwise.
 */
#pragma once

#include <stdbool.h>

#include "daemon/store/records.h"
#include "drivers/driver.h"

struct ld_core;
struct ld_root;

/* The start, after the drivers' probe: which can be used, by trying. */
void ld_backings_probe(struct ld_core *core);
/* unsupported, with the remedy: not usable here, or not with that driver. */
int ld_backing_check(const struct ld_core *core, enum ld_backing kind,
                     const struct ld_driver *driver, struct ld_err *err);

/* DATA/w/SID and RUN/backing/SID, of that size. After a failure there is neither. */
int ld_backing_make(struct ld_core *core, enum ld_backing kind, ld_sid sid,
                    const struct ld_limits *limits, struct ld_err *err);
/* Mounted or not. conflict: it holds more than that, it keeps its size, or there is none. */
int ld_backing_limit(struct ld_core *core, const struct ld_container *c,
                     const struct ld_limits *limits, struct ld_err *err);
/* What of its limits is used up: one call. No key is needed. */
int ld_backing_used(struct ld_core *core, const struct ld_container *c, struct ld_limits *ret,
                    struct ld_err *err);
/* Unmounts it, whoever has something in it open; DATA/w/SID stays. Harmless where there is none. */
void ld_backing_drop(struct ld_core *core, ld_sid sid);

/* Is it mounted? No key is needed. */
bool ld_backing_is_there(const struct ld_root *root, ld_sid sid);

/* What the driver of such a container works with: like `base`, but for its w_fd, which the caller
 * closes; it is -errno when nothing is mounted. No key is needed. As long as it is open the file
 * system lives. */
struct ld_driver_env ld_backing_env(const struct ld_root *root, const struct ld_driver_env *base,
                                    ld_sid sid);

/* The start, after expired containers have gone: unmounts what belongs to none. */
void ld_backings_recover(struct ld_core *core);
