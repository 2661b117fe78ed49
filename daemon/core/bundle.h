/* OCI runtime bundles: a config.json on the root of a mounted container, for crun, runc and their
 * like. layerd itself runs nothing.
 *
 * A bundle is RUN/bundles/ID, or a folder of the caller's choice that a symlink of that name points
 * to: written down before anything is written there. It lives as long as the container is mounted.
 * Threads: see core.h.
 */
#pragma once

#include <stdbool.h>

#include "daemon/core/container.h"

struct ld_bundle_wish {
    const char *path; /* an existing folder that only root can change; NULL: RUN/bundles/ID */
    bool has_terminal;
    bool host_network;
};

/* Worker, under the keys of ld_container_admit_mount: mounts it if it is not mounted, and writes
 * the bundle, also when there is one in that folder already. Codes: those of ld_container_mount;
 * conflict: there is a bundle elsewhere, a config.json that is not ours, no command, or the user is
 * not in the container's /etc/passwd; forbidden: the folder is not safe. */
int ld_container_bundle(struct ld_core *core, const struct ld_write *w, const char *id,
                        const struct ld_bundle_wish *wish, struct ld_container_state *ret,
                        struct ld_err *err);

/* Where the bundle of a container is, which the caller frees; NULL: it has none. Any thread. */
char *ld_bundle_path(const struct ld_core *core, const char *id);
/* After an unmount; a failure is logged. */
void ld_bundle_drop(struct ld_core *core, const char *id);

/* Start: drops those of containers that are not mounted, or that are no more. */
void ld_bundles_recover(struct ld_core *core);
