/* Chains of layers: see stack.h. */
#include "tests/lib/stack.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "daemon/base/buf.h"
#include "daemon/base/fdio.h"
#include "daemon/base/mem.h"
#include "daemon/image/recipe.h"

void ld_test_stack_init(struct ld_test_stack *stack, int dir)
{
    int empty = ld_make_dir(dir, "0", 0755);

    if (empty < 0)
        abort();
    ld_close(empty);
    *stack = (struct ld_test_stack){.dir = dir};
}

static void forget_last(struct ld_test_stack *stack)
{
    ld_untar_result_done(&stack->untarred);
    ld_settle_result_done(&stack->settled);
}

void ld_test_stack_done(struct ld_test_stack *stack)
{
    for (size_t i = 0; i < stack->n; i++)
        ld_close(stack->root[i]);
    ld_close(stack->dir);
    forget_last(stack);
    *stack = (struct ld_test_stack){.dir = -EBADF};
}

struct ld_layers ld_test_stack_layers(const struct ld_test_stack *stack)
{
    return (struct ld_layers){.root = stack->root, .n = stack->n, .form = LD_FORM_LAYER};
}

static int unpack(struct ld_test_stack *stack, struct ld_source *source, int root, const char *name,
                  struct ld_err *err)
{
    autofree char *recipe_name = ld_asprintf("%s.recipe", name);
    autofree char *aside_name = ld_asprintf("%s.aside", name);
    autoclose int recipe =
        openat(stack->dir, recipe_name, O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0600);
    struct ld_untar_job untar = {.source = source,
                                 .root_fd = root,
                                 .recipe_fd = recipe,
                                 .aside_parent_fd = stack->dir,
                                 .aside_name = aside_name,
                                 .limits = stack->limits,
                                 .escapes_xattrs = stack->escapes_xattrs};
    struct ld_settle_job settle = {.root_fd = root,
                                   .aside_parent_fd = stack->dir,
                                   .aside_name = aside_name,
                                   .lower = ld_test_stack_layers(stack)};
    int r;

    if (recipe < 0)
        return ld_err_sys(err, -errno, "create '%s'", recipe_name);
    forget_last(stack);
    r = ld_untar(&untar, &stack->untarred, err);
    if (r == 0)
        r = ld_settle(&settle, stack->untarred.pending, &stack->settled, err);
    ld_pending_free_p(&stack->untarred.pending);
    if (r < 0) {
        (void)unlinkat(stack->dir, recipe_name, 0); /* what is left is told by the test */
        (void)!ld_remove_tree(stack->dir, aside_name, NULL);
    }
    return r;
}

int ld_test_stack_add(struct ld_test_stack *stack, struct ld_source *source, struct ld_err *err)
{
    autofree char *name = ld_asprintf("%zu", stack->n + 1);
    autoclose int root = ld_make_dir(stack->dir, name, 0700);

    if (root < 0 || stack->n == LD_STACK_MAX)
        return ld_err_sys(err, root, "make layer %s", name);
    if (unpack(stack, source, root, name, err) < 0) {
        (void)!ld_remove_tree(stack->dir, name, NULL);
        return -1;
    }
    memmove(stack->root + 1, stack->root, stack->n * sizeof(*stack->root));
    stack->root[0] = ld_steal_fd(&root);
    stack->diff_id[stack->n++] = stack->untarred.diff_id;
    return 0;
}

int ld_test_stack_mount(const struct ld_test_stack *stack, const char *where)
{
    autobuf struct ld_buf options = LD_BUF_INIT(4096);
    autoclose int back = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
    autofree char *target = realpath(where, NULL);
    int r = 0;

    ld_buf_adds(&options, "index=off,metacopy=off,redirect_dir=nofollow,xino=off,nfs_export=off,"
                          "lowerdir=");
    for (size_t i = stack->n; i > 0; i--)
        ld_buf_addf(&options, "%zu:", i);
    ld_buf_adds(&options, "0");
    if (back < 0 || !target || fchdir(stack->dir) < 0)
        return -errno;
    if (mount("test", target, "overlay", MS_RDONLY, ld_buf_str(&options)) < 0)
        r = -errno;
    if (fchdir(back) < 0)
        abort();
    return r;
}

int ld_test_stack_replay(const struct ld_test_stack *stack, size_t number, struct ld_digest *ret,
                         struct ld_err *err)
{
    autofree char *recipe_name = ld_asprintf("%zu.recipe", number);
    autofree char *aside_name = ld_asprintf("%zu.aside", number);
    autoclose int recipe = openat(stack->dir, recipe_name, O_RDONLY | O_CLOEXEC);
    autoclose int aside = ld_open_dir(stack->dir, aside_name);
    struct ld_recipe_layer layer = {
        .recipe_fd = recipe, .root_fd = stack->root[stack->n - number], .aside_fd = aside};
    auto_sink *sink = ld_sink_digest_new(NULL);

    if (ld_recipe_replay(&layer, sink, NULL, err) < 0)
        return -1;
    *ret = ld_sink_digest_final(sink);
    return 0;
}
