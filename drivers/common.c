/* The list of drivers, and what they share: see common.h. No state. */
#include "drivers/common.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/base/log.h"
#include "daemon/base/mem.h"

const struct ld_driver *const ld_drivers[] = {&ld_driver_overlay, &ld_driver_vfs, NULL};

const struct ld_driver *ld_driver_by_name(const char *name)
{
    for (size_t i = 0; ld_drivers[i]; i++)
        if (strcmp(ld_drivers[i]->name, name) == 0)
            return ld_drivers[i];
    return NULL;
}

int ld_chain_open(const struct ld_driver_env *env, const struct ld_chain *chain,
                  struct ld_open_chain *ret, struct ld_err *err)
{
    static const ld_sid empty = 0;
    const ld_sid *sid = chain->n ? chain->sid : &empty;
    size_t n = chain->n ? chain->n : 1;
    LD_AUTO(ld_chain_close) struct ld_open_chain open = {.fd = NULL};

    if (n > LD_MAX_LAYERS)
        return ld_err_set(err, LD_E_UNSUPPORTED, "a chain of %zu layers is longer than %d", n,
                          LD_MAX_LAYERS);
    open.fd = ld_alloc0(n * sizeof(*open.fd));
    for (size_t i = 0; i < n; i++) {
        int fd = openat(env->layers_fd, ld_sid_name(sid[i]).text,
                        O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

        if (fd < 0 && errno == ENOENT)
            return ld_err_set(err, LD_E_CORRUPT, "layer %" LD_PRI_SID " has no directory", sid[i]);
        if (fd < 0)
            return ld_err_sys(err, -errno, "open layer %" LD_PRI_SID, sid[i]);
        open.fd[i] = fd;
        open.layers.n = i + 1;
    }
    open.layers.root = open.fd;
    open.layers.form = LD_FORM_LAYER;
    *ret = open;
    open = (struct ld_open_chain){.fd = NULL};
    return 0;
}

void ld_chain_close(struct ld_open_chain *chain)
{
    for (size_t i = 0; chain->fd && i < chain->layers.n; i++)
        ld_close(chain->fd[i]);
    free(chain->fd);
    *chain = (struct ld_open_chain){.fd = NULL};
}

void ld_driver_discard(int dir, const char *name)
{
    int r = ld_remove_tree(dir, name, NULL);

    if (r < 0)
        ld_debug("remove '%s': %s, ignoring", name, strerrordesc_np(-r));
}
