/* The layers of a tip, for readers that hold no keys: pinned, so that the reaper leaves them alone,
 * and open. Blocking; any worker; one owner.
 */
#pragma once

#include "daemon/base/sid.h"
#include "daemon/base/tree.h"
#include "daemon/store/store.h"

struct ld_core;

struct ld_stack {
    struct ld_core *core;
    struct ld_chain_sids chain; /* topmost first */
    int *fd;                    /* once open: the layers' roots */
    struct ld_layers layers;    /* points to fd; LD_FORM_LAYER */
};

/* tip 0: no layer. Codes: not_found (the tip is not recorded any more), corrupt (a layer is
 * damaged). After a failure, too, ld_stack_done is due. */
int ld_stack_pin(struct ld_core *core, ld_sid tip, struct ld_stack *ret,
                 struct ld_err *err) ld_must_check;
/* Opens what is pinned: a descriptor per layer. */
int ld_stack_open(struct ld_stack *stack, struct ld_err *err) ld_must_check;
void ld_stack_done(struct ld_stack *stack); /* an empty one is fine */
