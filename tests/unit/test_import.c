/* core/import.h: archives into recorded layers and images, alone and side by side; failures leave
 * nothing.
 *
 * A core of its own in the test's tmpfs; imports run as operations of the stream lane, as in the
 * daemon. */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/base/fdio.h"
#include "daemon/base/mem.h"
#include "daemon/core/config.h"
#include "daemon/core/image.h"
#include "daemon/core/import.h"
#include "daemon/core/inflight.h"
#include "daemon/core/state.h"
#include "daemon/core/xattr_probe.h"
#include "daemon/image/recipe.h"
#include "daemon/image/sink.h"
#include "tests/lib/env.h"
#include "tests/lib/jobs.h"

struct world {
    struct ld_test_jobs jobs;
    struct ld_options options;
    struct ld_core *core;
};

static void world_open(struct world *w, const char *data_root)
{
    char data[64], run[64], config[64];
    char name[] = "layerd", c[] = "--config", d[] = "--data-root", r[] = "--run-root";
    char *argv[] = {name, c, config, d, data, r, run, NULL};
    struct ld_err err = LD_ERR_INIT;
    int dir = open(ld_test_dir(), O_RDONLY | O_DIRECTORY);

    (void)umask(0);
    ld_test_write(dir, "layerd.conf", "");
    ld_close(dir);
    (void)snprintf(data, sizeof(data), "%s/%s", ld_test_dir(), data_root);
    (void)snprintf(run, sizeof(run), "%s/run", ld_test_dir());
    (void)snprintf(config, sizeof(config), "%s/layerd.conf", ld_test_dir());
    ld_test_ok(ld_options_read(7, argv, &w->options, &err), &err);
    ld_test_jobs_start(&w->jobs, NULL);
    w->core = ld_core_open(&w->options.config, w->jobs.loop, w->jobs.lanes, w->jobs.ops, &err);
    cr_assert_not_null(w->core, "%s", err.message);
}

static void world_close(struct world *w)
{
    ld_core_stop(w->core);
    ld_test_jobs_drain(&w->jobs);
    ld_core_close(w->core);
    ld_test_jobs_free(&w->jobs);
    ld_config_done(&w->options.config);
}

/* ---- imports ---- */

struct run {
    struct ld_op op;
    struct world *w;
    const char *path, *ref, *format;
    void (*on_progress)(struct run *run, const char *phase); /* on a worker */
    struct ld_import_result result;
    bool is_done, seen_plan, seen_unpack;
    struct run *other;
};

static void progress(void *arg, const char *phase, const char *id, uint64_t current, uint64_t total)
{
    struct run *run = arg;

    (void)id;
    (void)total;
    if (strcmp(phase, "plan") == 0 && current)
        __atomic_store_n(&run->seen_plan, true, __ATOMIC_RELEASE);
    if (strcmp(phase, "unpack") == 0)
        __atomic_store_n(&run->seen_unpack, true, __ATOMIC_RELEASE);
    if (run->on_progress)
        run->on_progress(run, phase);
}

static int import(struct ld_op *op, struct ld_err *err)
{
    struct run *run = op->arg;
    LD_AUTO(ld_spool_close) struct ld_spool spool = LD_SPOOL_INIT;
    struct ld_import_options options = {.format = run->format,
                                        .ref = run->ref,
                                        .progress = progress,
                                        .progress_arg = run,
                                        .cancel = &op->cancel};
    autoclose int fd = open(run->path, O_RDONLY | O_CLOEXEC);
    char buffer[8192];
    ssize_t n;

    cr_assert_geq(fd, 0, "%s", run->path);
    if (ld_spool_open(run->w->core, &spool, err) < 0)
        return -1;
    while ((n = read(fd, buffer, sizeof(buffer))) > 0) {
        if (ld_spool_write(run->w->core, &spool, buffer, (size_t)n, err) < 0)
            return -1;
    }
    return ld_import_run(run->w->core, &LD_WRITE_SELF, &spool, &options, &run->result, err);
}

static void imported(struct ld_op *op)
{
    struct run *run = op->arg;

    run->is_done = true;
}

static void start(struct run *run)
{
    ld_op_init(&run->op, LD_LANE_STREAM, import, imported, run);
    ld_ops_submit(run->w->jobs.ops, &run->op);
}

static bool is_done(void *arg)
{
    return ((struct run *)arg)->is_done;
}

static void finish(struct run *run)
{
    cr_assert(ld_test_run_until(run->w->jobs.loop, is_done, run), "the import of %s hangs",
              run->path);
}

/* Imports one archive that must go well. */
static struct ld_import_result good(struct world *w, const char *path, const char *ref)
{
    struct run run = {.w = w, .path = path, .ref = ref};

    start(&run);
    finish(&run);
    cr_assert_eq(run.op.rc, 0, "%s: %s", path, run.op.err.message);
    return run.result;
}

static void expect_counts(struct ld_import_result r, size_t images, uint64_t added, uint64_t reused)
{
    cr_expect_eq(r.n_images, images, "%zu images", r.n_images);
    cr_expect_eq(r.layers_added, added, "%lu added", r.layers_added);
    cr_expect_eq(r.layers_reused, reused, "%lu reused", r.layers_reused);
    if (added == 0)
        cr_expect_eq(r.bytes_added, 0);
    ld_import_result_done(&r);
}

/* ---- looking at the outcome ---- */

static int count_name(void *arg, const char *name, unsigned char d_type)
{
    (void)name;
    (void)d_type;
    ++*(size_t *)arg;
    return 0;
}

static size_t count_names(int dir)
{
    size_t n = 0;

    cr_assert_eq(ld_each_name(dir, count_name, &n), 0);
    return n;
}

static bool is_trash_empty(void *arg)
{
    return count_names(((struct world *)arg)->core->root.trash_fd) == 0;
}

static struct ld_store_sums sums(struct world *w)
{
    struct ld_err err = LD_ERR_INIT;
    struct ld_store_sums s;

    ld_test_ok(ld_store_sums(w->core->store, &s, &err), &err);
    return s;
}

/* Nothing but what the records say: no staging, no strangers in layers/, the trash gets empty. */
static void expect_tidy(struct world *w)
{
    struct ld_store_sums s = sums(w);

    cr_expect_eq(count_names(w->core->root.staging_fd), 0, "something is left in staging/");
    cr_expect_eq(count_names(w->core->root.layers_fd), 1 + 2 * s.layers,
                 "layers/ has not just layers with their recipes");
    cr_expect(ld_test_run_until(w->jobs.loop, is_trash_empty, w), "something is left in trash/");
}

/* Each layer of an image writes the tar of its diff ID again, so its content is whole; its size in
 * the records is that on the disk. */
static void check_image(struct world *w, const char *name, size_t n_layers)
{
    LD_AUTO(ld_image_done) struct ld_image image = {0};
    struct ld_err err = LD_ERR_INIT;
    struct ld_chain_sids chain;

    ld_test_ok(ld_image_find(w->core, name, &image, &err), &err);
    ld_test_ok(ld_store_chain(w->core->store, image.tip_sid, &chain, &err), &err);
    cr_assert_eq(chain.n, n_layers, "'%s' has %zu layers", name, chain.n);
    cr_expect_eq(chain.damaged, 0);
    for (size_t i = 0; i < chain.n; i++) {
        LD_AUTO(ld_layer_done) struct ld_layer layer = {0};
        auto_sink *sink = ld_sink_digest_new(NULL);
        struct ld_sid_text sid = ld_sid_name(chain.sid[i]);
        autofree char *recipe = ld_asprintf("%s.recipe", sid.text);
        autoclose int root = ld_open_dir(w->core->root.layers_fd, sid.text);
        autoclose int recipe_fd = openat(w->core->root.layers_fd, recipe, O_RDONLY | O_CLOEXEC);
        struct ld_recipe_layer from = {.recipe_fd = recipe_fd, .root_fd = root, .aside_fd = -1};
        char text[LD_DIGEST_TEXT];
        struct ld_digest digest;
        struct ld_usage usage;

        ld_test_ok(ld_store_layer_get(w->core->store, chain.sid[i], &layer, &err), &err);
        ld_test_ok(ld_recipe_replay(&from, sink, NULL, &err), &err);
        digest = ld_sink_digest_final(sink);
        ld_digest_format(&digest, text);
        cr_expect_str_eq(text, layer.diff_id);
        cr_assert_eq(ld_tree_usage(w->core->root.layers_fd, sid.text, NULL, &usage), 0);
        cr_expect_eq(usage.bytes, layer.bytes);
        cr_expect_eq(usage.inodes, layer.inodes);
    }
}

/* "L": images base (1 layer), two (base + 1), three (base + 1); as files base.tar, two.tar, … */
static void make_archives(void)
{
    ld_test_sh(
        "umask 022 && mkdir -p t/usr/bin && dd if=/dev/urandom of=t/usr/bin/tool bs=1k count=300 "
        "status=none && echo gone > t/gone && ln -s tool t/usr/bin/link && "
        "umoci init --layout L && umoci new --image L:base && umoci insert --image L:base t /t && "
        "echo two > a && umoci insert --image L:base --tag two a /t/usr/a && "
        "umoci insert --image L:base --tag three --whiteout /t/gone && "
        "for i in base two three; do skopeo --insecure-policy copy -q oci:L:$i "
        "oci-archive:$i.tar:$i:1; done && "
        "skopeo --insecure-policy copy -q oci:L:two docker-archive:docker.tar:two:2");
}

/* ---- tests ---- */

LD_TEST(import, adds_each_layer_once)
{
    struct world w = {0};
    size_t fds;

    make_archives();
    world_open(&w, "data");
    expect_counts(good(&w, "base.tar", NULL), 1, 1, 0);
    fds = ld_test_count_fds();
    expect_counts(good(&w, "base.tar", "other:x"), 1, 0, 1);
    expect_counts(good(&w, "two.tar", NULL), 1, 1, 1);
    expect_counts(good(&w, "docker.tar", NULL), 1, 0, 2);
    expect_counts(good(&w, "three.tar", NULL), 1, 1, 1);
    cr_expect_eq(sums(&w).layers, 3);
    cr_expect_eq(sums(&w).images, 3);
    cr_expect_eq(sums(&w).refs, 5);
    check_image(&w, "base:1", 1);
    check_image(&w, "other:x", 1);
    check_image(&w, "two:1", 2);
    check_image(&w, "two:2", 2);
    check_image(&w, "three:1", 2);
    expect_tidy(&w);
    cr_expect_leq(ld_test_count_fds(), fds + 4, "descriptors leak (workers' epoll apart)");
    world_close(&w);
}

LD_TEST(import, takes_many_images_in_one_transaction)
{
    struct world w = {0};

    make_archives();
    ld_test_sh("tar cf all.tar -C L . && gzip -k all.tar");
    world_open(&w, "data");
    expect_counts(good(&w, "all.tar.gz", "app"), 3, 3, 0);
    check_image(&w, "app:base", 1);
    check_image(&w, "app:two", 2);
    check_image(&w, "app:three", 2);
    expect_counts(good(&w, "all.tar", NULL), 3, 0, 3);
    cr_expect_eq(sums(&w).refs, 6);
    expect_tidy(&w);
    world_close(&w);
}

LD_TEST(import, makes_an_image_of_a_root_file_system)
{
    struct ld_err err = LD_ERR_INIT;
    LD_AUTO(ld_image_done) struct ld_image image = {0};
    struct world w = {0};

    ld_test_sh("umask 022 && mkdir -p r/etc && echo root > r/etc/passwd && tar cf r.tar -C r . && "
               "gzip -k r.tar && xz -k r.tar");
    world_open(&w, "data");
    expect_counts(good(&w, "r.tar", "root"), 1, 1, 0);
    expect_counts(good(&w, "r.tar.gz", "packed"), 1, 0, 1);
    expect_counts(good(&w, "r.tar.xz", NULL), 1, 0, 1);
    check_image(&w, "root", 1);
    check_image(&w, "packed", 1);
    ld_test_ok(ld_image_find(w.core, "root", &image, &err), &err);
    cr_expect(strstr(image.config, "\"diff_ids\""));
    cr_expect_null(image.manifest);
    cr_expect_eq(sums(&w).images, 1, "the same tar is the same image");
    expect_tidy(&w);
    world_close(&w);
}

LD_TEST(import, takes_an_image_without_layers)
{
    struct ld_err err = LD_ERR_INIT;
    LD_AUTO(ld_image_done) struct ld_image image = {0};
    struct world w = {0};

    ld_test_sh("umoci init --layout L && umoci new --image L:empty && tar cf e.tar -C L .");
    world_open(&w, "data");
    expect_counts(good(&w, "e.tar", "empty"), 1, 0, 0);
    ld_test_ok(ld_image_find(w.core, "empty", &image, &err), &err);
    cr_expect_eq(image.tip_sid, 0);
    expect_tidy(&w);
    world_close(&w);
}

LD_TEST(import, works_side_by_side)
{
    enum { N = 6 };
    static const char *const paths[] = {"two.tar", "base.tar", "three.tar", "docker.tar"};
    struct run runs[N] = {0};
    struct world w = {0};
    uint64_t added = 0;

    make_archives();
    world_open(&w, "data");
    for (size_t i = 0; i < N; i++) {
        runs[i].w = &w;
        runs[i].path = paths[i % LD_ARRAY_LEN(paths)];
        start(&runs[i]);
    }
    for (size_t i = 0; i < N; i++) {
        finish(&runs[i]);
        cr_expect_eq(runs[i].op.rc, 0, "%s: %s", runs[i].path, runs[i].op.err.message);
        added += runs[i].result.layers_added;
        ld_import_result_done(&runs[i].result);
    }
    cr_expect_eq(added, 3, "each layer was made by one of them");
    cr_expect_eq(sums(&w).layers, 3);
    check_image(&w, "two:1", 2);
    check_image(&w, "three:1", 2);
    expect_tidy(&w);
    world_close(&w);
}

static bool other_has_planned(void *arg)
{
    return __atomic_load_n(&((struct run *)arg)->other->seen_plan, __ATOMIC_ACQUIRE);
}

static bool has_claimed(void *arg)
{
    return __atomic_load_n(&((struct run *)arg)->seen_unpack, __ATOMIC_ACQUIRE);
}

/* The first import has claimed the layers; it goes on when the second one wants them, and gives up.
 */
static void give_up(struct run *run, const char *phase)
{
    if (strcmp(phase, "settle") != 0)
        return;
    (void)ld_test_wait(other_has_planned, run, 20);
    ld_flag_set(&run->op.cancel);
}

LD_TEST(import, takes_over_what_another_one_gave_up)
{
    struct world w = {0};
    struct run first = {.w = &w, .path = "two.tar", .on_progress = give_up};
    struct run second = {.w = &w, .path = "two.tar"};

    make_archives();
    world_open(&w, "data");
    first.other = &second;
    start(&first);
    cr_assert(ld_test_run_until(w.jobs.loop, has_claimed, &first));
    start(&second);
    finish(&first);
    finish(&second);
    cr_expect_eq(first.op.rc, -1);
    cr_expect_eq(first.op.err.code, LD_E_CANCELED, "%s", first.op.err.message);
    cr_assert_eq(second.op.rc, 0, "%s", second.op.err.message);
    expect_counts(second.result, 1, 2, 0);
    check_image(&w, "two:1", 2);
    expect_tidy(&w);
    world_close(&w);
}

/* Just before an import records, the image whose layer it reuses is removed. */
static void remove_base(struct run *run, const char *phase)
{
    LD_AUTO(ld_removed_done) struct ld_removed removed = {0};
    struct ld_err err = LD_ERR_INIT;

    if (strcmp(phase, "record") != 0 || !run->other)
        return;
    run->other = NULL;
    ld_test_ok(ld_image_remove(run->w->core, &LD_WRITE_SELF, "base:1",
                               &(struct ld_image_removal){.force = false}, &removed, &err),
               &err);
    cr_expect_eq(removed.n, 1);
}

LD_TEST(import, makes_again_what_was_removed_meanwhile)
{
    struct world w = {0};
    struct run run = {.w = &w, .path = "two.tar", .on_progress = remove_base};

    make_archives();
    world_open(&w, "data");
    expect_counts(good(&w, "base.tar", NULL), 1, 1, 0);
    run.other = &run;
    start(&run);
    finish(&run);
    cr_assert_eq(run.op.rc, 0, "%s", run.op.err.message);
    expect_counts(run.result, 1, 2, 0);
    check_image(&w, "two:1", 2);
    expect_tidy(&w);
    world_close(&w);
}

LD_TEST(import, repairs_damaged_layers_in_place)
{
    struct ld_err err = LD_ERR_INIT;
    struct ld_chain_sids before, after;
    LD_AUTO(ld_image_done) struct ld_image image = {0};
    struct world w = {0};

    make_archives();
    world_open(&w, "data");
    expect_counts(good(&w, "two.tar", NULL), 1, 2, 0);
    ld_test_ok(ld_image_find(w.core, "two:1", &image, &err), &err);
    ld_test_ok(ld_store_chain(w.core->store, image.tip_sid, &before, &err), &err);

    /* One is marked, of the other the directory is gone without anybody knowing. */
    ld_test_ok(
        ld_store_layer_set_damage(w.core->store, &LD_WRITE_SELF, before.sid[1], "a test", &err),
        &err);
    ld_test_sh("rm -r data/layers/%s/t && rm -r data/layers/%s", ld_sid_name(before.sid[1]).text,
               ld_sid_name(before.sid[0]).text);
    expect_counts(good(&w, "docker.tar", NULL), 1, 2, 0);
    ld_test_ok(ld_store_chain(w.core->store, image.tip_sid, &after, &err), &err);
    cr_expect_eq(after.sid[0], before.sid[0]);
    cr_expect_eq(after.sid[1], before.sid[1]);
    check_image(&w, "two:1", 2);
    cr_expect_eq(sums(&w).layers, 2);
    cr_expect_eq(sums(&w).damaged, 0);
    expect_tidy(&w);
    world_close(&w);
}

LD_TEST(import, leaves_nothing_after_a_failure)
{
    static const struct {
        const char *make, *says;
        enum ld_code code;
    } table[] = {
        {": > bad.tar", "empty", LD_E_BAD_CONTENT},
        {"head -c 30000 /dev/urandom > bad.tar", "archive", LD_E_BAD_CONTENT},
        {"head -c 200000 two.tar > bad.tar", "archive", LD_E_BAD_CONTENT},
        /* Two blobs exchanged: sizes differ; then a byte of the largest one. */
        {"rm -rf x && mkdir x && tar xf two.tar -C x && f=$(ls -S x/blobs/sha256/* | head -1) && "
         "printf X "
         "| dd of=$f bs=1 seek=100000 conv=notrunc status=none && tar cf bad.tar -C x .",
         "layer sha256:", LD_E_BAD_CONTENT},
        /* The blob is good, the config promises another diff ID. */
        {"rm -rf x && mkdir x && tar xf docker.tar -C x && cd x && c=$(ls *.json | grep -v "
         "manifest) && "
         "sed -i 's/\"diff_ids\":\\[\"sha256:..../\"diff_ids\":[\"sha256:0000/' $c && "
         "h=$(sha256sum < $c | "
         "cut -c1-64) && mv $c $h.json && sed -i s/$c/$h.json/ manifest.json && tar cf ../bad.tar "
         "*",
         "the diff ID is sha256:", LD_E_BAD_CONTENT},
        {"rm -rf x && mkdir x && echo x > x/f && tar cf bad.tar -C x --transform s,f,../f, f",
         "entry", LD_E_BAD_CONTENT},
    };
    struct world w = {0};
    size_t fds;

    make_archives();
    world_open(&w, "data");
    expect_counts(good(&w, "base.tar", NULL), 1, 1, 0);
    fds = ld_test_count_fds();
    for (size_t i = 0; i < LD_ARRAY_LEN(table); i++) {
        struct run run = {.w = &w, .path = "bad.tar", .ref = "bad"};

        ld_test_sh("%s", table[i].make);
        start(&run);
        finish(&run);
        cr_expect_eq(run.op.rc, -1, "%s", table[i].make);
        cr_expect_eq(run.op.err.code, table[i].code, "%s: %s", ld_code_name(run.op.err.code),
                     run.op.err.message);
        cr_expect(strstr(run.op.err.message, table[i].says), "'%s'", run.op.err.message);
        cr_expect_eq(sums(&w).images, 1);
        cr_expect_eq(sums(&w).layers, 1);
        expect_tidy(&w);
    }
    cr_expect_leq(ld_test_count_fds(), fds + 4, "descriptors leak");
    check_image(&w, "base:1", 1);
    world_close(&w);
}

LD_TEST(import, says_before_work_that_there_is_no_space)
{
    struct world w = {0};
    struct run run = {.w = &w, .path = "big.tar", .ref = "big"};

    (void)ld_test_fs("disk", "ext4", 160);
    ld_test_sh(
        "mkdir r && truncate -s 150M r/big && tar cf r.tar -C r . && gzip -c r.tar > big.tar");
    world_open(&w, "disk/data");
    start(&run);
    finish(&run);
    cr_expect_eq(run.op.rc, -1);
    cr_expect_eq(run.op.err.code, LD_E_NO_SPACE, "%s", run.op.err.message);
    cr_expect_eq(sums(&w).layers, 0);
    expect_tidy(&w);
    world_close(&w);
}

LD_TEST(import, judges_its_options)
{
    struct ld_err err = LD_ERR_INIT;

    ld_test_ok(ld_import_check(&(struct ld_import_options){.format = "oci", .ref = "a:1"}, &err),
               &err);
    ld_test_ok(ld_import_check(&(struct ld_import_options){.format = NULL}, &err), &err);
    ld_test_fails(ld_import_check(&(struct ld_import_options){.format = "zip"}, &err), &err,
                  LD_E_INVALID);
    ld_test_fails(ld_import_check(&(struct ld_import_options){.ref = "A"}, &err), &err,
                  LD_E_INVALID);
    ld_test_fails(
        ld_import_check(&(struct ld_import_options){.ref = "a@sha256:1111111111111111111111111"
                                                           "111111111111111111111111111111111"
                                                           "111111"},
                        &err),
        &err, LD_E_INVALID);
}

LD_TEST(import, probes_what_overlay_does_with_escaped_xattrs)
{
    struct world w = {0};

    world_open(&w, "data");
    cr_log_info("escapes: %d", ld_core_escapes_xattrs(w.core));
    cr_expect_eq(count_names(w.core->root.stage_fd), 0, "the probe leaves nothing");
    world_close(&w);
}

/* ---- claims ---- */

LD_TEST(inflight, lets_strangers_pass_and_refuses_to_wait_when_cancelled)
{
    struct ld_inflight *f = ld_inflight_new(100);
    struct ld_err err = LD_ERR_INIT;
    struct ld_digest ids[] = {ld_digest_of("a", 1), ld_digest_of("b", 1), ld_digest_of("c", 1)};
    struct ld_claim *one = NULL, *two = NULL, *three = NULL;
    bool waited = true, cancel = true;

    ld_test_ok(ld_claim_take(f, ids, 2, NULL, &one, &waited, &err), &err);
    cr_expect_not(waited);
    cr_expect(ld_claim_has(one, &ids[0]));
    cr_expect_not(ld_claim_has(one, &ids[2]));
    ld_test_ok(ld_claim_take(f, &ids[2], 1, NULL, &two, &waited, &err), &err);
    cr_expect_not(waited);
    ld_test_fails(ld_claim_take(f, &ids[1], 2, &cancel, &three, &waited, &err), &err,
                  LD_E_CANCELED);
    ld_claim_drop(one);
    ld_claim_drop(two);
    ld_test_ok(ld_claim_take(f, ids, 3, &cancel, &three, &waited, &err), &err);
    ld_claim_drop_p(&three);
    ld_claim_drop(NULL);

    ld_test_ok(ld_inflight_take_memory(f, 1000, NULL, &err), &err);
    ld_test_fails(ld_inflight_take_memory(f, 1, &cancel, &err), &err, LD_E_CANCELED);
    ld_inflight_give_memory(f, 1000);
    ld_test_ok(ld_inflight_take_memory(f, 60, NULL, &err), &err);
    ld_test_ok(ld_inflight_take_memory(f, 40, NULL, &err), &err);
    ld_test_fails(ld_inflight_take_memory(f, 1, &cancel, &err), &err, LD_E_CANCELED);
    ld_inflight_give_memory(f, 100);
    ld_inflight_free(f);
}
