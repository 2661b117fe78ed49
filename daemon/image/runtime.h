/* The config.json of an OCI runtime bundle: what is run on a container's root.
 *
 * By the OCI runtime specification 1.0.2, with the mounts, capabilities and masked paths that
 * Docker and podman give a container without further wishes. Pure; any thread.
 */
#pragma once

#include <stdbool.h>

#include "daemon/image/account.h"
#include "daemon/image/oci.h"

/* The process of an image, overlaid by what a container's config says. */
struct ld_process {
    char **args; /* NULL-terminated, as env; empty: no command is known */
    char **env;
    char *user; /* as written, or NULL */
    char *cwd;
};
void ld_process_done(struct ld_process *process);

/* image: NULL when there is none any more. config: the container's JSON text, or NULL; its entry
 * point puts the image's command aside. corrupt: it can't be read. */
int ld_process_merge(const struct ld_oci_config *image, const char *config, struct ld_process *ret,
                     struct ld_err *err);

struct ld_runtime {
    const struct ld_process *process;
    const struct ld_account *user;
    const char *root;     /* absolute path */
    const char *hostname; /* also $HOSTNAME */
    bool is_read_only;
    bool has_terminal;
    bool host_network; /* no network namespace of its own */
};
/* The text, which the caller frees. */
char *ld_runtime_render(const struct ld_runtime *runtime) __attribute__((returns_nonnull));
