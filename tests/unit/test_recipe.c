/* image/recipe.h: replay gives every archive again, byte for byte, from the files it was unpacked
 * to. */
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "daemon/base/fdio.h"
#include "daemon/base/mem.h"
#include "daemon/image/recipe.h"
#include "daemon/image/tarw.h"
#include "tests/lib/env.h"
#include "tests/lib/tarlib.h"

/* A layer in the making: recipe and directories below the test's directory. */
struct layer {
    struct ld_recipe_layer fds;
};

static struct layer new_layer(void)
{
    struct layer layer;

    ld_test_sh("rm -rf layer aside recipe");
    layer.fds.root_fd = ld_test_mkdir("layer");
    layer.fds.aside_fd = ld_test_mkdir("aside");
    layer.fds.recipe_fd = open("recipe", O_CREAT | O_TRUNC | O_RDWR | O_CLOEXEC, 0600);
    cr_assert(layer.fds.recipe_fd >= 0);
    return layer;
}

static void layer_done(struct layer *layer)
{
    ld_close(layer->fds.root_fd);
    ld_close(layer->fds.aside_fd);
    ld_close(layer->fds.recipe_fd);
}

/* Unpacks nothing but the content of files, each to a file named by its number; some content is
 * left alone, as untar leaves what no file keeps. Returns what the tar reader returned last. */
static int unpack(const struct ld_buf *archive, struct layer *layer, uint64_t *state,
                  struct ld_err *err)
{
    auto_source *mem = ld_source_mem_new(archive->data, archive->len);
    auto_recipe *recipe = ld_recipe_new(layer->fds.recipe_fd);
    const struct ld_tar_tee tee = ld_recipe_tee(recipe);
    auto_tar *tar = ld_tar_new(mem, &(struct ld_tar_limits){.max_file_size = 1 << 30}, &tee);
    struct ld_tar_entry e;
    int rc;

    while ((rc = ld_tar_next(tar, &e, err)) > 0) {
        autofree char *path = ld_asprintf("e%" PRIu64, e.number);
        autoclose int fd = -EBADF;
        struct ld_tar_piece piece;

        if (e.type != LD_TAR_FILE || ld_test_below(state, 8) == 0)
            continue;
        fd = openat(layer->fds.root_fd, path, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600);
        cr_assert(fd >= 0);
        ld_test_ok(ld_recipe_file(recipe, path, err), err);
        while ((rc = ld_tar_data(tar, &piece, err)) > 0)
            cr_assert_eq(ld_pwrite_full(fd, piece.data, piece.len, piece.offset), 0);
        if (rc < 0)
            break;
    }
    if (rc == 0)
        ld_test_ok(ld_recipe_finish(recipe, err), err);
    return rc;
}

static int replay(const struct layer *layer, struct ld_buf *ret, struct ld_err *err)
{
    auto_sink *sink = NULL;

    *ret = LD_BUF_INIT(64 << 20);
    sink = ld_sink_buf_new(ret);
    return ld_recipe_replay(&layer->fds, sink, NULL, err);
}

static void assert_replays(const struct layer *layer, const struct ld_buf *archive,
                           const char *what)
{
    struct ld_err err = LD_ERR_INIT;
    autobuf struct ld_buf got = {0};
    uint64_t size;

    cr_assert_eq(replay(layer, &got, &err), 0, "%s: %s", what, err.message);
    cr_assert_eq(got.len, archive->len, "%s", what);
    cr_assert(got.len == 0 || memcmp(got.data, archive->data, got.len) == 0, "%s", what);
    ld_test_ok(ld_recipe_size(layer->fds.recipe_fd, &size, &err), &err);
    cr_assert_eq(size, archive->len);
}

/* The pass over headers gives the same entries as the archive. */
static void assert_same_headers(const struct layer *layer, const struct ld_buf *archive)
{
    auto_source *mem = ld_source_mem_new(archive->data, archive->len), *headers = NULL;
    auto_tar *full = ld_tar_new(mem, &(struct ld_tar_limits){0}, NULL);
    auto_tar *quick = NULL;
    struct ld_err err = LD_ERR_INIT;
    struct ld_tar_entry a, b;
    int rc;

    ld_test_ok(ld_recipe_headers_new(layer->fds.recipe_fd, &headers, &err), &err);
    quick = ld_tar_new(headers, &(struct ld_tar_limits){0}, NULL);
    do {
        rc = ld_tar_next(full, &a, &err);
        cr_assert_eq(ld_tar_next(quick, &b, &err), rc, "%s", err.message);
        if (rc == 0)
            break;
        cr_assert_str_eq(a.name, b.name);
        cr_assert_str_eq(a.linkname, b.linkname);
        cr_assert(a.type == b.type && a.mode == b.mode && a.uid == b.uid && a.size == b.size &&
                  a.mtime_sec == b.mtime_sec && a.n_xattrs == b.n_xattrs);
    } while (rc > 0);
}

static void record_and_replay(const char *path, void *arg)
{
    autobuf struct ld_buf archive = ld_test_file(path);
    LD_AUTO(layer_done) struct layer layer = new_layer();
    struct ld_err err = LD_ERR_INIT;

    ld_test_ok(unpack(&archive, &layer, arg, &err), &err);
    assert_replays(&layer, &archive, path);
    assert_same_headers(&layer, &archive);
}

LD_TEST(recipe, gives_every_archive_of_gnu_tar_again)
{
    uint64_t state = ld_test_seed();

    ld_test_tar_tree();
    ld_test_tar_corpus(record_and_replay, &state);
}

LD_TEST(recipe, gives_random_archives_again)
{
    static const char *const formats[] = {"pax", "gnutar", "ustar", "v7tar"};
    uint64_t state = ld_test_seed();

    for (unsigned i = 0; i < 60; i++) {
        ld_test_tar_random("random.tar", formats[i % 4], 1 + i, &state);
        record_and_replay("random.tar", &state);
    }
}

LD_TEST(recipe, gives_damaged_but_readable_archives_again)
{
    uint64_t state = ld_test_seed();
    unsigned read = 0;

    for (unsigned i = 0; i < 200; i++) {
        LD_AUTO(layer_done) struct layer layer = new_layer();
        autobuf struct ld_buf archive = {0};
        struct ld_err err = LD_ERR_INIT;

        ld_test_tar_random("random.tar", i % 2 ? "pax" : "gnutar", 3, &state);
        archive = ld_test_file("random.tar");
        archive.data[ld_test_below(&state, archive.len)] = (char)ld_test_random(&state);
        if (unpack(&archive, &layer, &state, &err) < 0)
            continue;
        assert_replays(&layer, &archive, "random.tar");
        read++;
    }
    cr_assert_gt(read, 20);
}

LD_TEST(recipe, keeps_what_follows_the_end)
{
    autobuf struct ld_buf archive = LD_BUF_INIT(64 << 20);
    LD_AUTO(layer_done) struct layer layer = new_layer();
    struct ld_err err = LD_ERR_INIT;
    uint64_t state = 1;
    struct stat st;

    for (int i = 0; i < 30000; i++)
        ld_buf_add(&archive, (char[1024]){0}, 1024);
    ld_buf_adds(&archive, "not even whole blocks");
    ld_test_ok(unpack(&archive, &layer, &state, &err), &err);
    assert_replays(&layer, &archive, "zeros");
    cr_assert_eq(fstat(layer.fds.recipe_fd, &st), 0);
    cr_assert_lt(st.st_size, 500);
}

/* -- files moved aside
 * ----------------------------------------------------------------------------- */

static void put(struct ld_recipe *r, const struct layer *layer, const char *path, const char *text)
{
    const struct ld_tar_tee tee = ld_recipe_tee(r);
    struct ld_err err = LD_ERR_INIT;

    ld_test_write(layer->fds.root_fd, path, text);
    ld_test_ok(tee.literal(tee.arg, "[", 1, &err), &err);
    ld_test_ok(ld_recipe_file(r, path, &err), &err);
    ld_test_ok(tee.payload(tee.arg, 0, strlen(text), &err), &err);
    ld_test_ok(tee.literal(tee.arg, "]", 1, &err), &err);
}

static void move(struct ld_recipe *r, const struct layer *layer, const char *path, uint64_t n)
{
    struct ld_err err = LD_ERR_INIT;
    char name[24];

    (void)snprintf(name, sizeof(name), "%" PRIu64, n);
    cr_assert_eq(renameat(layer->fds.root_fd, path, layer->fds.aside_fd, name), 0);
    ld_test_ok(ld_recipe_moved(r, path, n, &err), &err);
}

LD_TEST(recipe, finds_replaced_files_aside)
{
    LD_AUTO(layer_done) struct layer layer = new_layer();
    auto_recipe *r = ld_recipe_new(layer.fds.recipe_fd);
    autobuf struct ld_buf got = {0};
    struct ld_err err = LD_ERR_INIT;

    cr_assert_eq(mkdirat(layer.fds.root_fd, "d", 0700), 0);
    put(r, &layer, "f", "f1");
    put(r, &layer, "d/f", "df1");
    put(r, &layer, "dx", "dx");
    move(r, &layer, "f", 1);
    put(r, &layer, "f", "f2");
    move(r, &layer, "f", 2);
    put(r, &layer, "f", "f3");
    move(r, &layer, "d/f", 3);
    put(r, &layer, "d/f", "df2");
    move(r, &layer, "d", 44); /* with d/f */
    cr_assert_eq(mkdirat(layer.fds.root_fd, "d", 0700), 0);
    put(r, &layer, "d/f", "df3");
    ld_test_ok(ld_recipe_finish(r, &err), &err);

    ld_test_ok(replay(&layer, &got, &err), &err);
    cr_assert_str_eq(ld_buf_str(&got), "[f1][df1][dx][f2][f3][df2][df3]");
}

/* -- damage
 * ---------------------------------------------------------------------------------------- */

static void make_small(struct layer *layer, struct ld_buf *ret)
{
    auto_recipe *r = ld_recipe_new(layer->fds.recipe_fd);
    struct ld_err err = LD_ERR_INIT;

    cr_assert_eq(mkdirat(layer->fds.root_fd, "d", 0700), 0);
    put(r, layer, "d/f", "content");
    move(r, layer, "d/f", 5);
    put(r, layer, "d/f", "other content");
    ld_test_ok(ld_recipe_finish(r, &err), &err);
    ld_test_ok(replay(layer, ret, &err), &err);
}

LD_TEST(recipe, says_that_a_layer_is_damaged)
{
    static const char *const damages[] = {
        "rm layer/d/f",
        "truncate -s 3 layer/d/f",
        "rm layer/d/f; mkdir layer/d/f",
        "rm layer/d/f; mkfifo layer/d/f",
        "rm layer/d/f; ln -s /etc/passwd layer/d/f",
        "mv layer/d layer/e; ln -s ../../.. layer/d",
        "rm aside/5",
    };

    for (size_t i = 0; i < LD_ARRAY_LEN(damages); i++) {
        LD_AUTO(layer_done) struct layer layer = new_layer();
        autobuf struct ld_buf got = {0}, again = {0};
        struct ld_err err = LD_ERR_INIT;

        make_small(&layer, &got);
        ld_test_sh("%s", damages[i]);
        ld_test_fails(replay(&layer, &again, &err), &err, LD_E_CORRUPT);
        cr_assert(strstr(err.message, "d/f"), "%s", err.message);
    }
}

LD_TEST(recipe, never_follows_a_damaged_recipe)
{
    LD_AUTO(layer_done) struct layer layer = new_layer();
    autobuf struct ld_buf want = {0}, recipe = {0};

    make_small(&layer, &want);
    recipe = ld_test_file("recipe");
    for (size_t len = 0; len < recipe.len; len++) {
        autobuf struct ld_buf got = {0};
        struct ld_err err = LD_ERR_INIT;

        cr_assert_eq(ftruncate(layer.fds.recipe_fd, (off_t)len), 0);
        ld_test_fails(replay(&layer, &got, &err), &err, LD_E_CORRUPT);
        cr_assert_eq(ld_pwrite_full(layer.fds.recipe_fd, recipe.data, recipe.len, 0), 0);
    }
    for (size_t bit = 0; bit < recipe.len * 8; bit++) {
        autobuf struct ld_buf got = {0};
        struct ld_err err = LD_ERR_INIT;
        char byte = (char)(recipe.data[bit / 8] ^ 1 << bit % 8);

        cr_assert_eq(ld_pwrite_full(layer.fds.recipe_fd, &byte, 1, bit / 8), 0);
        if (replay(&layer, &got, &err) == 0)
            cr_assert_str_eq(ld_buf_str(&got), ld_buf_str(&want), "bit %zu", bit);
        else
            cr_assert_eq(err.code, LD_E_CORRUPT, "bit %zu: %s", bit, err.message);
        cr_assert_eq(ld_pwrite_full(layer.fds.recipe_fd, recipe.data, recipe.len, 0), 0);
    }
}

LD_TEST(recipe, is_cancelled)
{
    LD_AUTO(layer_done) struct layer layer = new_layer();
    autobuf struct ld_buf got = {0};
    auto_sink *sink = ld_sink_digest_new(NULL);
    struct ld_err err = LD_ERR_INIT;
    const bool cancel = true;

    make_small(&layer, &got);
    ld_test_fails(ld_recipe_replay(&layer.fds, sink, &cancel, &err), &err, LD_E_CANCELED);
}

LD_TEST(recipe, refuses_paths_that_replay_could_not_open)
{
    LD_AUTO(layer_done) struct layer layer = new_layer();
    auto_recipe *r = ld_recipe_new(layer.fds.recipe_fd);
    struct ld_err err = LD_ERR_INIT;
    char path[LD_TAR_MAX_PATH + 1];

    memset(path, 'p', sizeof(path) - 1);
    path[sizeof(path) - 1] = '\0';
    ld_test_fails(ld_recipe_file(r, path, &err), &err, LD_E_BAD_CONTENT);
}

/* Commit writes its tar through the recorder: the writer feeds it too. */
LD_TEST(recipe, is_fed_by_the_tar_writer)
{
    LD_AUTO(layer_done) struct layer layer = new_layer();
    auto_recipe *r = ld_recipe_new(layer.fds.recipe_fd);
    const struct ld_tar_tee tee = ld_recipe_tee(r);
    autobuf struct ld_buf tar = LD_BUF_INIT(1 << 20);
    auto_sink *sink = ld_sink_buf_new(&tar);
    auto_tarw *w = ld_tarw_new(sink, &tee);
    const struct ld_tar_entry e = {.name = "f", .linkname = "", .size = 7};
    const struct ld_tar_entry dir = {.name = "dir", .linkname = "", .type = LD_TAR_DIR};
    struct ld_err err = LD_ERR_INIT;
    autoclose int fd = -EBADF;

    ld_test_write(layer.fds.root_fd, "f", "content");
    fd = openat(layer.fds.root_fd, "f", O_RDONLY | O_CLOEXEC);
    ld_test_ok(ld_tarw_entry(w, &dir, &err), &err);
    ld_test_ok(ld_tarw_entry(w, &e, &err), &err);
    ld_test_ok(ld_recipe_file(r, "f", &err), &err);
    ld_test_ok(ld_tarw_file(w, fd, NULL, NULL, &err), &err);
    ld_test_ok(ld_tarw_finish(w, &err), &err);
    ld_test_ok(ld_recipe_finish(r, &err), &err);
    assert_replays(&layer, &tar, "written");
}
