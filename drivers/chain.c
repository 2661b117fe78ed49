/* Opening a chain: see chain.h. */
#include "drivers/chain.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

#include "daemon/base/cleanup.h"
#include "daemon/base/fdio.h"
#include "daemon/base/mem.h"
#include "daemon/base/tree.h"

/* A layer that was just frozen is recorded before its directory comes here from w/SID/upper: who
 * holds no key may look in between. */
static int open_layer(const struct ld_driver_env *env, ld_sid sid)
{
    static const int flags = O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
    struct ld_sid_text name = ld_sid_name(sid);
    int fd = openat(env->layers_fd, name.text, flags);

    if (fd < 0 && errno == ENOENT) {
        autofree char *upper = ld_asprintf("%s/upper", name.text);

        fd = openat(env->w_fd, upper, flags);
        if (fd < 0 && errno == ENOENT)
            fd = openat(env->layers_fd, name.text, flags);
    }
    return fd < 0 ? -errno : fd;
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
        int fd = open_layer(env, sid[i]);

        if (fd == -ENOENT)
            return ld_err_set(err, LD_E_CORRUPT, "layer %" LD_PRI_SID " has no directory", sid[i]);
        if (fd < 0)
            return ld_err_sys(err, fd, "open layer %" LD_PRI_SID, sid[i]);
        open.fd[i] = fd;
        open.layers.n = i + 1;
    }
    open.layers.root = open.fd;
    open.layers.form = LD_FORM_LAYER;
    *ret = ld_steal(&open);
    return 0;
}

void ld_chain_close(struct ld_open_chain *chain)
{
    for (size_t i = 0; chain->fd && i < chain->layers.n; i++)
        ld_close(chain->fd[i]);
    free(chain->fd);
    *chain = (struct ld_open_chain){.fd = NULL};
}
