/* The layers of a tip, pinned and open: see stack.h. */
#include "daemon/core/stack.h"

#include <stdlib.h>

#include "daemon/base/fdio.h"
#include "daemon/base/mem.h"
#include "daemon/core/core.h"
#include "daemon/core/layer_tar.h"
#include "daemon/core/pins.h"
#include "daemon/core/state.h"

static int refuse_damaged(struct ld_core *core, ld_sid damaged, struct ld_err *err)
{
    struct ld_layer layer LD_AUTO(ld_layer_done) = {.sid = 0};

    if (ld_store_layer_get(core->store, damaged, &layer, err) < 0)
        return -1;
    (void)ld_err_set(err, LD_E_CORRUPT, "layer %s is damaged: %s",
                     layer.diff_id ? layer.diff_id : "without diff ID",
                     layer.damage ? layer.damage : "unknown");
    return ld_err_hint(err, "import the image again: that repairs the layer");
}

/* A removal is recorded before anything is deleted: what is still recorded after it was pinned will
 * not be deleted. */
int ld_stack_pin(struct ld_core *core, ld_sid tip, struct ld_stack *ret, struct ld_err *err)
{
    struct ld_layer layer LD_AUTO(ld_layer_done) = {.sid = 0};

    *ret = (struct ld_stack){.core = core};
    if (ld_store_chain(core->store, tip, &ret->chain, err) < 0) {
        ret->chain.n = 0;
        return -1;
    }
    ld_pins_add(core->pins, ret->chain.sid, ret->chain.n);
    if (ret->chain.damaged)
        return refuse_damaged(core, ret->chain.damaged, err);
    return tip ? ld_store_layer_get(core->store, tip, &layer, err) : 0;
}

int ld_stack_open(struct ld_stack *stack, struct ld_err *err)
{
    size_t n = stack->chain.n;

    stack->fd = ld_alloc0((n + 1) * sizeof(*stack->fd));
    stack->layers = (struct ld_layers){.root = stack->fd, .form = LD_FORM_LAYER};
    for (size_t i = 0; i < n; i++) {
        int fd = ld_layer_open(stack->core, stack->chain.sid[i], err);

        if (fd < 0)
            return -1;
        stack->fd[i] = fd;
        stack->layers.n = i + 1;
    }
    return 0;
}

void ld_stack_done(struct ld_stack *stack)
{
    if (!stack->core)
        return;
    for (size_t i = 0; i < stack->layers.n; i++)
        ld_close(stack->fd[i]);
    free(stack->fd);
    ld_pins_drop(stack->core->pins, stack->chain.sid, stack->chain.n);
    if (stack->chain.n > 0)
        ld_core_kick_reaper(stack->core); /* it may have waited for the pins */
    *stack = (struct ld_stack){.core = NULL};
}
