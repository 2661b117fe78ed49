/* Layers from entries: see entries.h. */
#include "tests/lib/entries.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "daemon/base/fdio.h"
#include "tests/lib/arena.h"
#include "tests/lib/compare.h"
#include "tests/lib/env.h"
#include "tests/lib/mktar.h"

void m_world_init(struct m_world *w)
{
    *w = (struct m_world){.merged = NULL};
    ld_test_stack_init(&w->stack, ld_test_mkdir("store"));
}

void m_world_done(struct m_world *w)
{
    ld_test_stack_done(&w->stack);
    m_free_all();
}

static struct m_entry with_mode(const struct m_entry *e)
{
    struct m_entry full = *e;

    if (full.mode == 0)
        full.mode = full.type == M_DIR ? 0755 : 0644;
    return full;
}

int m_world_try(struct m_world *w, const struct m_entry *e, size_t n, struct ld_err *err)
{
    autobuf struct ld_buf tar = LD_BUF_INIT(1 << 30);
    auto_source *source = NULL;

    for (size_t i = 0; i < n; i++) {
        struct m_entry full = with_mode(&e[i]);

        mt_put(&tar, &full);
    }
    mt_end(&tar);
    source = ld_source_mem_new(tar.data, tar.len);
    return ld_test_stack_add(&w->stack, source, err);
}

void m_world_add(struct m_world *w, const struct m_entry *e, size_t n)
{
    struct m_layer *layer = m_layer_new(w->merged);
    autobuf struct ld_buf diff = LD_BUF_INIT(1 << 20);
    struct ld_layers layers;
    struct ld_err err = LD_ERR_INIT;
    struct ld_digest again;
    int copy;

    for (size_t i = 0; i < n; i++) {
        struct m_entry full = with_mode(&e[i]);

        cr_assert(m_layer_add(layer, &full), "the model refuses '%s'", full.name);
    }
    ld_test_ok(m_world_try(w, e, n, &err), &err);
    w->merged = m_layer_close(layer);
    ld_test_ok(ld_test_stack_replay(&w->stack, w->stack.n, &again, &err), &err);
    cr_assert(ld_digest_equal(&again, &w->stack.diff_id[w->stack.n - 1]),
              "the recipe writes another tar");
    layers = ld_test_stack_layers(&w->stack);
    copy = ld_test_mkdir("copy");
    ld_test_ok(ld_tree_copy(&layers, copy, LD_FORM_PLAIN, NULL, &err), &err);
    cr_assert(m_compare(w->merged, copy, 0, &diff), "\n%s", ld_buf_str(&diff));
    ld_close(copy);
    cr_assert_eq(ld_remove_tree(AT_FDCWD, "copy", NULL), 0);
}
