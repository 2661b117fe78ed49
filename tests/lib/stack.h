/* A chain of layers made by untar and settle in a directory, as the daemon would make it:
 * DIR/1, 2, … bottom first, each with N.recipe and, when there is something in it, N.aside; DIR/0
 * is the empty layer. */
#pragma once

#include "daemon/base/digest.h"
#include "daemon/base/err.h"
#include "daemon/base/tree.h"
#include "daemon/image/settle.h"
#include "daemon/image/source.h"
#include "daemon/image/untar.h"

enum { LD_STACK_MAX = 400 };

struct ld_test_stack {
    int dir; /* owned */
    size_t n;
    int root[LD_STACK_MAX];                 /* topmost first, n of them; owned */
    struct ld_digest diff_id[LD_STACK_MAX]; /* bottom first */
    struct ld_untar_limits limits;
    bool escapes_xattrs;
    struct ld_untar_result untarred; /* of the last layer, without its notes */
    struct ld_settle_result settled;
};

/* dir: an empty directory, taken. */
void ld_test_stack_init(struct ld_test_stack *stack, int dir);
void ld_test_stack_done(struct ld_test_stack *stack);

/* One more layer on top. After a failure nothing of it is left. */
int ld_test_stack_add(struct ld_test_stack *stack, struct ld_source *source, struct ld_err *err);
struct ld_layers ld_test_stack_layers(const struct ld_test_stack *stack);

/* Mounts the chain read-only by overlay at an existing directory. 0 or -errno. */
int ld_test_stack_mount(const struct ld_test_stack *stack, const char *where);

/* The digest of layer `number`'s tar as its recipe writes it (1: the lowest). */
int ld_test_stack_replay(const struct ld_test_stack *stack, size_t number, struct ld_digest *ret,
                         struct ld_err *err);
