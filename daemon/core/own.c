/* A container's own tree: see own.h. */
#include "daemon/core/own.h"

#include <stdlib.h>

#include "daemon/base/mem.h"
#include "drivers/chain.h"

static int open_with(const struct ld_driver_env *env, const struct ld_driver *driver,
                     const struct ld_writable *w, size_t n_below, struct ld_own *ret,
                     struct ld_err *err)
{
    LD_AUTO(ld_chain_close) struct ld_open_chain below = {.fd = NULL};
    const struct ld_chain chain = {.sid = w->chain.sid, .n = n_below};
    enum ld_form form;
    autoclose int top = driver->open(env, w, &form);

    if (top < 0)
        return ld_err_sys(err, top, "open writable layer %" LD_PRI_SID, w->sid);
    if (form == LD_FORM_PLAIN || n_below == 0)
        n_below = 0; /* it shows itself */
    else if (ld_chain_open(env, &chain, &below, err) < 0)
        return -1;
    ret->fd = ld_alloc0((n_below + 1) * sizeof(*ret->fd));
    ret->fd[0] = ld_steal_fd(&top);
    for (size_t i = 0; i < n_below; i++)
        ret->fd[i + 1] = ld_steal_fd(&below.fd[i]);
    ret->layers = (struct ld_layers){.root = ret->fd, .n = n_below + 1, .form = form};
    return 0;
}

int ld_own_open(const struct ld_driver_env *env, const struct ld_driver *driver,
                const struct ld_writable *w, struct ld_own *ret, struct ld_err *err)
{
    return open_with(env, driver, w, w->n_own, ret, err);
}

int ld_own_open_whole(const struct ld_driver_env *env, const struct ld_driver *driver,
                      const struct ld_writable *w, struct ld_own *ret, struct ld_err *err)
{
    return open_with(env, driver, w, w->chain.n, ret, err);
}

void ld_own_close(struct ld_own *own)
{
    for (size_t i = 0; i < own->layers.n; i++)
        ld_close(own->fd[i]);
    free(own->fd);
    *own = (struct ld_own){.fd = NULL};
}
