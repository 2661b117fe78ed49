/* What images and layers hold: see contents.h. */
#include "daemon/core/contents.h"

#include <stdlib.h>

#include "daemon/base/mem.h"
#include "daemon/core/stack.h"
#include "daemon/core/state.h"

static int open_image(struct ld_core *core, const struct ld_image *image, struct ld_stack *ret,
                      struct ld_err *err)
{
    if (ld_stack_pin(core, image->tip_sid, ret, err) == 0 && ld_stack_open(ret, err) == 0)
        return 0;
    if (err->code == LD_E_NOT_FOUND) /* a layer's: say what the user knows */
        return ld_err_set(err, LD_E_NOT_FOUND, "image %s was removed meanwhile", image->id);
    return ld_err_prefix(err, "image %.19s", image->id);
}

/* The records of a stack's layers, topmost first. */
struct described {
    struct ld_layer *layer;
    size_t n;
};

static void described_done(struct described *d)
{
    for (size_t i = 0; i < d->n; i++)
        ld_layer_done(&d->layer[i]);
    free(d->layer);
}

static int describe(const struct ld_stack *stack, struct described *ret, struct ld_err *err)
{
    ret->layer = ld_alloc0((stack->chain.n + 1) * sizeof(*ret->layer));
    for (; ret->n < stack->chain.n; ret->n++)
        if (ld_store_layer_get(stack->core->store, stack->chain.sid[ret->n], &ret->layer[ret->n],
                               err) < 0)
            return -1;
    return 0;
}

int ld_image_entries(struct ld_core *core, const struct ld_image *image, const char *after,
                     const bool *cancel, ld_entry_fn sink, void *arg, struct ld_err *err)
{
    struct ld_stack stack LD_AUTO(ld_stack_done) = {.core = NULL};
    struct described described LD_AUTO(described_done) = {.n = 0};
    LD_AUTO(ld_tree_free_p) struct ld_tree *tree = NULL;
    struct ld_node node;
    int r;

    if (open_image(core, image, &stack, err) < 0 || describe(&stack, &described, err) < 0)
        return -1;
    tree = ld_tree_new(&stack.layers, LD_TREE_NO_LEAVE, cancel);
    if (after)
        ld_tree_skip_to(tree, after);
    while ((r = ld_tree_next(tree, &node, err)) > 0) {
        if (after && ld_tree_path_cmp(node.path, after) <= 0)
            continue;
        if (sink(arg, &node, &described.layer[node.layer], err) != 0)
            return -1;
    }
    return r;
}

int ld_image_changes(struct ld_core *core, const struct ld_image *image,
                     const struct ld_image *since, const bool *cancel, ld_change_fn sink, void *arg,
                     struct ld_err *err)
{
    struct ld_stack now LD_AUTO(ld_stack_done) = {.core = NULL};
    struct ld_stack before LD_AUTO(ld_stack_done) = {.core = NULL};
    struct ld_diff diff = {.cancel = cancel};

    if (open_image(core, image, &now, err) < 0 || open_image(core, since, &before, err) < 0)
        return -1;
    diff.now = now.layers;
    diff.before = before.layers;
    return ld_diff_walk(&diff, sink, arg, err);
}

int ld_layer_changes(struct ld_core *core, const struct ld_layer *layer, const bool *cancel,
                     ld_change_fn sink, void *arg, struct ld_err *err)
{
    struct ld_stack stack LD_AUTO(ld_stack_done) = {.core = NULL};
    struct ld_diff diff = {.now_is_upper = true, .cancel = cancel};

    if (ld_stack_pin(core, layer->sid, &stack, err) < 0 || ld_stack_open(&stack, err) < 0)
        return -1;
    diff.now = (struct ld_layers){.root = stack.fd, .n = 1, .form = LD_FORM_LAYER};
    diff.before =
        (struct ld_layers){.root = stack.fd + 1, .n = stack.layers.n - 1, .form = LD_FORM_LAYER};
    return ld_diff_walk(&diff, sink, arg, err);
}
