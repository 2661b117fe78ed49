/* A chain of committed layers, opened: for the drivers, and for whoever reads layers without a
 * mount. Blocking; any thread. */
#pragma once

#include <stddef.h>

#include "drivers/driver.h"

/* The open roots of a chain, topmost first. A chain of no layer is layers/0, the fixed empty one.
 */
struct ld_open_chain {
    struct ld_layers layers; /* points to fd */
    int *fd;
};

/* Codes: unsupported (more than LD_MAX_LAYERS), corrupt (a layer's directory is missing). */
int ld_chain_open(const struct ld_driver_env *env, const struct ld_chain *chain,
                  struct ld_open_chain *ret, struct ld_err *err) ld_must_check;
void ld_chain_close(struct ld_open_chain *chain);

/* The same without its first n. */
static inline struct ld_layers ld_layers_below(const struct ld_layers *layers, size_t n)
{
    return (struct ld_layers){.root = layers->root + n, .n = layers->n - n, .form = layers->form};
}
