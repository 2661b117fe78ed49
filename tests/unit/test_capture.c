/* Captured, frozen, folded and committed layers show what the container showed: random trees, each
 * driver.
 *
 * LD_SEED=n runs that seed alone; LD_SEEDS=n runs more of them. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/base/buf.h"
#include "daemon/base/fdio.h"
#include "daemon/base/mem.h"
#include "daemon/core/capture.h"
#include "daemon/core/layer_pack.h"
#include "daemon/core/own.h"
#include "daemon/image/recipe.h"
#include "daemon/image/settle.h"
#include "daemon/image/untar.h"
#include "drivers/driver.h"
#include "tests/lib/env.h"
#include "tests/lib/randtree.h"
#include "tests/lib/treedump.h"

enum { MAX_CHAIN = 16, ROUNDS = 4, SEEDS = 12 };

/* A container whose states become layers. */
struct world {
    const struct ld_driver *driver;
    struct ld_driver_env env;
    ld_sid next;
    ld_sid chain[MAX_CHAIN]; /* what it stands on, topmost first */
    struct ld_writable c;
    char about[64];
};

static struct ld_err err;

static void world_enter(struct world *w, const struct ld_driver *driver, uint64_t seed)
{
    *w = (struct world){.driver = driver, .next = 1};
    ld_test_sh("rm -rf data; mkdir -p data/layers/0 data/w stage; "
               "mountpoint -q stage || mount -t tmpfs -o mode=0700 stage stage");
    w->env.layers_fd = ld_open_dir(AT_FDCWD, "data/layers");
    w->env.w_fd = ld_open_dir(AT_FDCWD, "data/w");
    w->env.stage_fd = ld_open_dir(AT_FDCWD, "stage");
    w->env.instance = "test";
    (void)snprintf(w->about, sizeof(w->about), "%s, LD_SEED=%llu", driver->name,
                   (unsigned long long)seed);
}

static void world_leave(struct world *w)
{
    ld_close(w->env.layers_fd);
    ld_close(w->env.w_fd);
    ld_close(w->env.stage_fd);
}

static int new_layer_dir(struct world *w, ld_sid *ret)
{
    int fd;

    *ret = w->next++;
    fd = ld_make_dir(w->env.layers_fd, ld_sid_name(*ret).text, 0755);
    cr_assert(fd >= 0);
    return fd;
}

static void stand_on(struct world *w, const ld_sid *chain, size_t n)
{
    memmove(w->chain, chain, n * sizeof(*chain));
    w->c.chain = (struct ld_chain){.sid = w->chain, .n = n};
}

/* One layer more on top of `chain`. */
static size_t put_on(ld_sid sid, const struct ld_chain *chain, ld_sid *ret)
{
    memmove(ret + 1, chain->sid, chain->n * sizeof(*ret));
    ret[0] = sid;
    return chain->n + 1;
}

static void make_base(struct world *w, struct ld_rand *rand)
{
    size_t n = 1 + ld_rand_below(rand, 3);
    int root[4];
    ld_sid chain[4];

    for (size_t i = n; i-- > 0;) {
        struct ld_layers below = {.root = &root[i + 1], .n = n - 1 - i};

        root[i] = new_layer_dir(w, &chain[i]);
        ld_rand_layer(rand, root[i], &below);
    }
    for (size_t i = 0; i < n; i++)
        ld_close(root[i]);
    stand_on(w, chain, n);
    w->c.sid = w->next++;
    ld_test_ok(w->driver->create(&w->env, &w->c, NULL, &err), &err);
}

static char *path_of(const struct ld_writable *writable)
{
    return ld_asprintf("/mnt/stage/%s", ld_sid_name(writable->sid).text);
}

static void mount_it(struct world *w, const struct ld_driver *driver,
                     const struct ld_writable *writable)
{
    cr_assert_eq(mkdirat(w->env.stage_fd, ld_sid_name(writable->sid).text, 0700), 0);
    ld_test_ok(driver->mount(&w->env, writable, 0, &err), &err);
}

static void unmount_it(const struct ld_writable *writable)
{
    autofree char *path = path_of(writable);

    cr_assert_eq(umount2(path, UMOUNT_NOFOLLOW), 0, "%s", strerror(errno));
    cr_assert_eq(rmdir(path), 0);
}

static char *dump(struct world *w, unsigned flags)
{
    autofree char *path = path_of(&w->c);
    char *text;

    mount_it(w, w->driver, &w->c);
    text = ld_dump_string(path, flags);
    unmount_it(&w->c);
    return text;
}

static void expect_text(const struct world *w, const char *got, const char *want, const char *what)
{
    int dir;

    if (strcmp(got, want) == 0)
        return;
    dir = ld_open_dir(AT_FDCWD, "/mnt");
    ld_test_write(dir, "got", got);
    ld_test_write(dir, "want", want);
    (void)!system("diff -a /mnt/got /mnt/want | head -20 >&2");
    cr_assert_fail("%s: %s: '<' is what we got, '>' what we want", w->about, what);
}

/* The kernel's own view of a chain, by a fresh overlay on it. */
static char *shown(struct world *w, const ld_sid *chain, size_t n, unsigned flags)
{
    struct ld_writable fresh = {.sid = w->next++, .chain = {.sid = chain, .n = n}};
    autofree char *path = path_of(&fresh);
    char *got;

    ld_test_ok(ld_driver_overlay.create(&w->env, &fresh, NULL, &err), &err);
    mount_it(w, &ld_driver_overlay, &fresh);
    got = ld_dump_string(path, flags);
    unmount_it(&fresh);
    return got;
}

static void expect_shown(struct world *w, const ld_sid *chain, size_t n, const char *want,
                         const char *what)
{
    autofree char *got = shown(w, chain, n, 0);

    expect_text(w, got, want, what);
}

static int add_line(void *arg, const struct ld_change *change, struct ld_err *e)
{
    (void)e;
    ld_buf_addf(arg, "%c %s\n", "AMD"[change->kind], change -> path);
    return 0;
}

static char *changes_of(struct world *w)
{
    struct ld_buf text = LD_BUF_INIT(1 << 22);

    ld_test_ok(w->driver->changes(&w->env, &w->c, add_line, &text, &err), &err);
    ld_buf_adds(&text, "");
    return ld_buf_take(&text);
}

static void capture(struct world *w, const char *want)
{
    struct ld_capture_from from = {.env = &w->env, .driver = w->driver, .writable = w->c};
    ld_sid chain[MAX_CHAIN], sid;
    autoclose int dir = new_layer_dir(w, &sid);
    bool is_changed = false;
    size_t n;

    from.writable.n_own = 0;
    ld_test_ok(
        (w->driver->seal ? ld_capture_upper : ld_capture_tree)(&from, dir, &is_changed, &err),
        &err);
    n = put_on(sid, &w->c.chain, chain);
    if (is_changed)
        expect_shown(w, chain, n, want, "captured");
    else
        expect_shown(w, chain + 1, n - 1, want, "captured, nothing changed");
}

/* ---- as a commit has it: packed, and unpacked again ---- */

static struct ld_digest pack(struct world *w, int dir, int recipe, bool is_whole)
{
    struct ld_layer_packing packing = {.root_fd = dir, .recipe_fd = recipe, .is_whole = is_whole};
    struct ld_digest diff_id = {{0}};

    cr_assert(ftruncate(recipe, 0) == 0 && lseek(recipe, 0, SEEK_SET) == 0);
    cr_assert_eq(ld_layer_pack(&packing, &diff_id, &err), 0, "%s: %s", w->about, err.message);
    return diff_id;
}

/* The tar of a packed layer, by its recipe. */
static void replay(struct world *w, int dir, int recipe, const struct ld_digest *diff_id, int tar)
{
    struct ld_recipe_layer layer = {.recipe_fd = recipe, .root_fd = dir, .aside_fd = -1};
    auto_sink *file = NULL;
    auto_sink *hashed = NULL;
    struct ld_digest got;

    cr_assert(ftruncate(tar, 0) == 0 && lseek(tar, 0, SEEK_SET) == 0);
    file = ld_sink_fd_new(tar);
    hashed = ld_sink_digest_new(file);
    ld_test_ok(ld_recipe_replay(&layer, hashed, NULL, &err), &err);
    got = ld_sink_digest_final(hashed);
    cr_assert(ld_digest_equal(&got, diff_id), "%s: the recipe writes another tar", w->about);
}

/* What an import makes of the tar, on top of `base`. */
static void unpack(struct world *w, int tar, int dir, const struct ld_chain *base)
{
    autoclose int recipe = open("recipe2", O_CREAT | O_TRUNC | O_RDWR | O_CLOEXEC, 0600);
    LD_AUTO(ld_untar_result_done) struct ld_untar_result result = {.pending = NULL};
    LD_AUTO(ld_settle_result_done) struct ld_settle_result settled = {.bytes = 0};
    auto_source *source = NULL;
    int below[MAX_CHAIN];
    struct ld_untar_job job = {.root_fd = dir,
                               .recipe_fd = recipe,
                               .aside_parent_fd = w->env.w_fd,
                               .aside_name = "aside",
                               .escapes_xattrs = true};
    struct ld_settle_job settle = {.root_fd = dir,
                                   .aside_parent_fd = w->env.w_fd,
                                   .aside_name = "aside",
                                   .lower = {.root = below, .n = base->n, .form = LD_FORM_LAYER}};

    source = ld_source_fd_new(tar, 0, (uint64_t)lseek(tar, 0, SEEK_END));
    job.source = source;
    cr_assert_eq(ld_untar(&job, &result, &err), 0, "%s: %s", w->about, err.message);
    for (size_t i = 0; i < base->n; i++)
        below[i] = ld_open_dir(w->env.layers_fd, ld_sid_name(base->sid[i]).text);
    cr_assert_eq(ld_settle(&settle, result.pending, &settled, &err), 0, "%s: %s", w->about,
                 err.message);
    for (size_t i = 0; i < base->n; i++)
        ld_close(below[i]);
    /* Settling may say that a directory has taken the place of a symlink. */
    cr_expect_eq(result.warnings.n, 0, "%s: %s", w->about,
                 result.warnings.n ? result.warnings.text[0] : "");
}

/* A directory that is to be a layer: all of the tree, or what was changed of it. */
static bool fill(struct world *w, int dir, bool squash)
{
    static const struct ld_layers nothing = {.n = 0};
    struct ld_capture_from from = {
        .env = &w->env, .driver = w->driver, .writable = w->c, .for_image = true};
    LD_AUTO(ld_own_close) struct ld_own own = {.fd = NULL};
    bool is_changed = true;

    if (!squash) {
        ld_test_ok(ld_capture_tree(&from, dir, &is_changed, &err), &err);
        return is_changed;
    }
    ld_test_ok(ld_own_open_whole(&w->env, w->driver, &w->c, &own, &err), &err);
    ld_test_ok(ld_tree_copy_layer(&own.layers, &nothing, dir, LD_COPY_NO_SOCKETS, NULL, &err),
               &err);
    return true;
}

/* apply(base, changes(base, x)) = x, by the layer itself and by its tar. Names that only the base
 * has on one file, of which one was copied up and is as it was, are no change: then they are on one
 * file again. */
static void commit(struct world *w, bool squash)
{
    unsigned flags = squash ? 0 : LD_DUMP_NO_LINKS;
    autofree char *want = dump(w, flags);
    size_t n_base = squash ? 0 : w->c.chain.n - w->c.n_own;
    struct ld_chain base = {.sid = w->chain + w->c.n_own, .n = n_base};
    autoclose int recipe = open("recipe", O_CREAT | O_RDWR | O_CLOEXEC, 0600);
    autoclose int tar = open("layer.tar", O_CREAT | O_RDWR | O_CLOEXEC, 0600);
    autofree char *got = NULL, *whole = NULL;
    ld_sid chain[MAX_CHAIN], sid, twin;
    autoclose int dir = new_layer_dir(w, &sid);
    autoclose int again = new_layer_dir(w, &twin);
    struct ld_digest diff_id, twin_id;

    if (!fill(w, dir, squash)) {
        got = shown(w, base.sid, base.n, flags);
        return expect_text(w, got, want, "committed, nothing changed");
    }
    got = shown(w, chain, put_on(sid, &base, chain), flags);
    expect_text(w, got, want, squash ? "squashed" : "committed");
    diff_id = pack(w, dir, recipe, squash);
    replay(w, dir, recipe, &diff_id, tar);
    unpack(w, tar, again, &base);
    whole = shown(w, chain, put_on(sid, &base, chain), 0);
    expect_shown(w, chain, put_on(twin, &base, chain), whole, "committed and imported");
    twin_id = pack(w, again, recipe, squash);
    cr_assert(ld_digest_equal(&twin_id, &diff_id), "%s: imported it is another layer", w->about);
}

static void freeze(struct world *w, const char *want)
{
    autofree char *before = changes_of(w);
    autofree char *after = NULL, *got = NULL;
    ld_sid chain[MAX_CHAIN], old = w->c.sid, next = w->next++;
    size_t n = put_on(old, &w->c.chain, chain);

    ld_test_ok(w->driver->succeed(&w->env, &w->c, next, &err), &err);
    ld_test_ok(w->driver->seal(&w->env, old, &err), &err);
    ld_test_ok(w->driver->seal(&w->env, old, &err), &err); /* as a start may do it */
    w->c.sid = next;
    w->c.n_own++;
    stand_on(w, chain, n);
    got = dump(w, 0);
    expect_text(w, got, want, "frozen");
    after = changes_of(w);
    expect_text(w, after, before, "changes after a freeze");
}

/* All frozen states as one layer. */
static void fold(struct world *w, const char *want)
{
    int root[MAX_CHAIN];
    struct ld_layers all = {.root = root, .n = w->c.chain.n, .form = LD_FORM_LAYER};
    struct ld_layers run = {.root = root, .n = w->c.n_own, .form = LD_FORM_LAYER};
    struct ld_layers below = {.root = root + run.n, .n = all.n - run.n, .form = LD_FORM_LAYER};
    ld_sid chain[MAX_CHAIN], sid;
    autoclose int dir = new_layer_dir(w, &sid);
    struct ld_chain rest = {.sid = w->chain + run.n, .n = below.n};

    for (size_t i = 0; i < all.n; i++)
        root[i] = ld_open_dir(w->env.layers_fd, ld_sid_name(w->chain[i]).text);
    ld_test_ok(ld_tree_copy_layer(&run, &below, dir, 0, NULL, &err), &err);
    for (size_t i = 0; i < all.n; i++)
        ld_close(root[i]);
    expect_shown(w, chain, put_on(sid, &rest, chain), want, "folded");
}

static void random_round(const struct ld_driver *driver, uint64_t seed)
{
    struct ld_rand rand = {seed};
    struct world w;
    autofree char *state = NULL;

    world_enter(&w, driver, seed);
    make_base(&w, &rand);
    for (int i = 0; i < ROUNDS; i++) {
        autofree char *path = path_of(&w.c);

        mount_it(&w, driver, &w.c);
        ld_rand_changes(&rand, path, ld_rand_below(&rand, 25));
        unmount_it(&w.c);
        free(state);
        state = dump(&w, 0);
        capture(&w, state);
        commit(&w, false);
        commit(&w, true);
        if (driver->seal)
            freeze(&w, state);
    }
    if (w.c.n_own > 0)
        fold(&w, state);
    world_leave(&w);
}

static void random_rounds(const struct ld_driver *driver)
{
    const char *one = getenv("LD_SEED"), *many = getenv("LD_SEEDS");
    uint64_t first = one ? strtoull(one, NULL, 10) : 9000;
    uint64_t n = one ? 1 : many ? strtoull(many, NULL, 10) : SEEDS;

    for (uint64_t i = 0; i < n; i++)
        random_round(driver, first + i);
}

LD_TEST(capture, overlay_shows_what_the_container_showed)
{
    random_rounds(&ld_driver_overlay);
}

LD_TEST(capture, vfs_shows_what_the_container_showed)
{
    random_rounds(&ld_driver_vfs);
}

LD_TEST(capture, keeps_links_whole_in_a_layer)
{
    static const char commands[] =
        "echo new >> a; ln a d; echo x > e; ln e f; rm c; touch -d @7 sub/g; ln sub/h sub/i";
    const struct ld_driver *const drivers[] = {&ld_driver_overlay, &ld_driver_vfs};

    for (size_t k = 0; k < LD_ARRAY_LEN(drivers); k++) {
        struct world w;
        ld_sid base;
        autofree char *state = NULL;

        world_enter(&w, drivers[k], 0);
        ld_close(new_layer_dir(&w, &base));
        ld_test_sh("cd data/layers/1; echo a > a; ln a b; ln a c; mkdir sub; echo g > sub/g; "
                   "ln sub/g sub/h");
        stand_on(&w, &base, 1);
        w.c.sid = w.next++;
        ld_test_ok(w.driver->create(&w.env, &w.c, NULL, &err), &err);
        mount_it(&w, w.driver, &w.c);
        ld_test_sh("cd /mnt/stage/%s; %s", ld_sid_name(w.c.sid).text, commands);
        unmount_it(&w.c);
        state = dump(&w, 0);
        capture(&w, state);
        world_leave(&w);
    }
}

LD_TEST(capture, refuses_a_device_that_would_be_a_deletion)
{
    struct ld_capture_from from;
    struct world w;
    ld_sid base, sid;
    bool is_changed;
    int dir;

    world_enter(&w, &ld_driver_vfs, 0);
    ld_close(new_layer_dir(&w, &base));
    stand_on(&w, &base, 1);
    w.c.sid = w.next++;
    ld_test_ok(w.driver->create(&w.env, &w.c, NULL, &err), &err);
    ld_test_sh("mknod data/w/%s/root/odd c 0 0", ld_sid_name(w.c.sid).text);
    from = (struct ld_capture_from){.env = &w.env, .driver = w.driver, .writable = w.c};
    dir = new_layer_dir(&w, &sid);
    ld_test_fails(ld_capture_tree(&from, dir, &is_changed, &err), &err, LD_E_CONFLICT);
    cr_assert(strstr(err.message, "/odd"), "%s", err.message);
    ld_close(dir);
    world_leave(&w);
}
