/* Random layered images: untar and settle against the model, as overlay shows them and as the
 * merged view copies them; and each recipe writes its tar again.
 *
 * LD_SEED=n runs that seed alone and shows its entries; LD_SEEDS=n runs more of them. LD_KEEP=DIR
 * (with a path outside /mnt) keeps the tars as SEED-LAYER.tar.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

#include "daemon/base/fdio.h"
#include "daemon/base/mem.h"
#include "daemon/base/parse.h"
#include "tests/lib/arena.h"
#include "tests/lib/compare.h"
#include "tests/lib/env.h"
#include "tests/lib/stack.h"
#include "tests/lib/treegen.h"

enum { SEEDS = 300, MAX_LAYERS = 4 };

static void show(const struct m_entry *e, bool is_taken)
{
    static const char letter[] = "fdlhcbp";

    (void)printf("  %c %c %o %u:%u '%s'%s%s x%zu\n", is_taken ? ' ' : '-', letter[e->type], e->mode,
                 e->uid, e->gid, e->name, e->target[0] ? " -> " : "", e->target, e->n_xattrs);
}

struct image {
    uint64_t seed;
    struct m_random random;
    struct ld_test_stack stack;
    struct m_node *merged;
    bool is_shown;
};

static void keep(const struct image *im, const struct ld_buf *tar)
{
    autofree char *path =
        ld_asprintf("%s/%lu-%zu.tar", getenv("LD_KEEP"), im->seed, im->stack.n + 1);
    autoclose int fd = open(path, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0600);

    cr_assert(fd >= 0, "%s: %s", path, strerror(errno));
    cr_assert_eq(ld_write_full(fd, tar->data, tar->len), 0);
}

/* One random layer; when `bad`, with an entry in it that has to be refused. */
static void add_layer(struct image *im, bool bad)
{
    autobuf struct ld_buf tar = LD_BUF_INIT(1 << 30);
    struct m_layer *layer = m_layer_new(im->merged);
    unsigned entries = (unsigned)m_random(&im->random, 40);
    bool is_bad = false;
    auto_source *source = NULL;
    struct ld_digest diff_id;
    struct ld_err err = LD_ERR_INIT;

    if (im->is_shown)
        (void)printf("layer %zu\n", im->stack.n + 1);
    ld_buf_adds(&tar, "");
    for (unsigned i = 0; i < entries || (bad && !is_bad && i < 1000); i++) {
        struct m_entry e = m_random_entry(&im->random);
        struct m_layer *next = m_layer_dup(layer);
        bool is_taken = m_layer_add(next, &e);

        if (im->is_shown)
            show(&e, is_taken);
        if (is_taken)
            layer = next;
        else if (!bad || is_bad)
            continue;
        is_bad = is_bad || !is_taken;
        m_random_write(&im->random, &tar, &e);
    }
    m_random_end(&im->random, &tar);
    if (getenv("LD_KEEP"))
        keep(im, &tar);
    source = ld_source_mem_new(ld_buf_str(&tar), tar.len);
    if (is_bad) {
        cr_assert_eq(ld_test_stack_add(&im->stack, source, &err), -1, "seed %lu: taken", im->seed);
        cr_assert_eq(err.code, LD_E_BAD_CONTENT, "seed %lu: %s", im->seed, err.message);
        return;
    }
    cr_assert_eq(ld_test_stack_add(&im->stack, source, &err), 0, "seed %lu: %s", im->seed,
                 err.message);
    im->merged = m_layer_close(layer);
    diff_id = ld_digest_of(ld_buf_str(&tar), tar.len);
    cr_assert(ld_digest_equal(&diff_id, &im->stack.diff_id[im->stack.n - 1]));
    cr_assert_eq(ld_test_stack_replay(&im->stack, im->stack.n, &diff_id, &err), 0, "seed %lu: %s",
                 im->seed, err.message);
    cr_assert(ld_digest_equal(&diff_id, &im->stack.diff_id[im->stack.n - 1]),
              "seed %lu: the recipe of layer %zu writes another tar", im->seed, im->stack.n);
}

static void compare_with_overlay(struct image *im)
{
    autobuf struct ld_buf diff = LD_BUF_INIT(1 << 20);
    autoclose int root = -EBADF;
    bool is_equal;

    cr_assert_eq(ld_test_stack_mount(&im->stack, "merged"), 0);
    root = ld_open_dir(AT_FDCWD, "merged");
    is_equal = m_compare(im->merged, root, M_LINK_COUNTS, &diff);
    ld_close_p(&root);
    cr_assert_eq(umount("merged"), 0);
    cr_assert(is_equal, "seed %lu, overlay:\n%s", im->seed, ld_buf_str(&diff));
}

static void compare_with_copy(struct image *im, const char *name)
{
    autobuf struct ld_buf diff = LD_BUF_INIT(1 << 20);
    autoclose int root = ld_test_mkdir(name);
    struct ld_layers layers = ld_test_stack_layers(&im->stack);
    struct ld_err err = LD_ERR_INIT;

    ld_test_ok(ld_tree_copy(&layers, root, LD_FORM_PLAIN, NULL, &err), &err);
    cr_assert(m_compare(im->merged, root, 0, &diff), "seed %lu, copy:\n%s", im->seed,
              ld_buf_str(&diff));
}

static void run_seed(uint64_t seed, bool is_shown)
{
    autofree struct image *im = ld_new(struct image);
    autofree char *name = ld_asprintf("fs/%lu", seed);
    unsigned layers;
    bool bad;

    im->seed = seed;
    im->random.state = seed * 7919;
    im->is_shown = is_shown;
    layers = 1 + (unsigned)m_random(&im->random, MAX_LAYERS);
    bad = m_random(&im->random, 4) == 0;
    ld_test_stack_init(&im->stack, ld_test_mkdir(name));
    im->stack.escapes_xattrs = true;
    for (unsigned i = 0; i < layers; i++) {
        add_layer(im, bad && i + 1 == layers);
        if (im->stack.n == i + 1)
            compare_with_overlay(im);
    }
    if (seed % 4 == 0 && im->stack.n > 0) {
        autofree char *copy = ld_asprintf("%s/copy", name);

        compare_with_copy(im, copy);
    }
    ld_test_stack_done(&im->stack);
    cr_assert_eq(ld_remove_tree(AT_FDCWD, name, NULL), 0);
    m_free_all();
}

static uint64_t number_from(const char *variable, uint64_t otherwise)
{
    const char *text = getenv(variable);
    uint64_t value = otherwise;

    if (text)
        cr_assert_eq(ld_parse_u64(text, 1, UINT64_C(1) << 40, &value), 0, "%s", variable);
    return value;
}

LD_TEST(layers_random, look_as_the_model_says)
{
    uint64_t only = number_from("LD_SEED", 0);
    uint64_t seeds = number_from("LD_SEEDS", SEEDS);
    autoclose int fs = ld_test_fs("fs", "ext4", 512);

    ld_close(ld_test_mkdir("merged"));
    for (uint64_t seed = only ? only : 1; seed <= (only ? only : seeds); seed++)
        run_seed(seed, only != 0);
    (void)fs;
}
