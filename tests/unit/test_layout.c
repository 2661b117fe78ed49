/* Image archives as layout writes them: the size is known before, documents come first, and what a
 * writer of a layer fails at ends inside that layer. */
#include <stdio.h>
#include <string.h>

#include <archive.h>
#include <archive_entry.h>

#include "daemon/base/buf.h"
#include "daemon/base/mem.h"
#include "daemon/image/layout.h"
#include "tests/lib/env.h"

static struct ld_err err;

struct layers {
    uint64_t size[2];
    uint64_t fails_at; /* of the second; 0: never */
};

static int write_blob(void *arg, size_t blob, struct ld_sink *sink, struct ld_err *err_)
{
    const struct layers *l = arg;

    if (blob == 1 && l->fails_at)
        return ld_sink_zeros(sink, l->fails_at, err_) < 0
                   ? -1
                   : ld_err_set(err_, LD_E_CORRUPT, "as the test wants it");
    return ld_sink_zeros(sink, l->size[blob], err_);
}

static const char config[] = "{\"architecture\":\"amd64\",\"os\":\"linux\"}";
static const size_t order[] = {0, 1};
static char first[] = "docker.io/library/a:1", second[] = "example.org/b:2";
static char *const names[] = {first, second};

/* One image of two layers. */
struct fixture {
    struct layers layers;
    struct ld_layout_blob blobs[2];
    struct ld_layout_image image;
    struct ld_layout layout;
};

static void prepare(struct fixture *f, enum ld_layout_form form, uint64_t one, uint64_t two)
{
    *f = (struct fixture){.layers = {.size = {one, two}}};
    f->blobs[0] = (struct ld_layout_blob){.digest = ld_digest_of("one", 3), .size = one};
    f->blobs[1] = (struct ld_layout_blob){.digest = ld_digest_of("two", 3), .size = two};
    f->image = (struct ld_layout_image){.id = ld_digest_of(config, strlen(config)),
                                        .config = config,
                                        .config_len = strlen(config),
                                        .layers = order,
                                        .n_layers = 2,
                                        .names = names,
                                        .n_names = 2};
    f->layout = (struct ld_layout){.form = form,
                                   .images = &f->image,
                                   .n_images = 1,
                                   .blobs = f->blobs,
                                   .n_blobs = 2,
                                   .write_blob = write_blob,
                                   .arg = &f->layers};
}

static void size_is_right(const struct ld_layout *layout)
{
    auto_sink *count = ld_sink_count_new();
    uint64_t size = 0;

    ld_test_ok(ld_layout_size(layout, &size, &err), &err);
    ld_test_ok(ld_layout_write(layout, count, &err), &err);
    cr_expect_eq(ld_sink_count(count), size, "%llu, not %llu",
                 (unsigned long long)ld_sink_count(count), (unsigned long long)size);
}

LD_TEST(layout, knows_its_size_before)
{
    static const uint64_t sizes[] = {0, 1, 511, 512, 513, 100000, UINT64_C(9) << 30};
    struct fixture f;

    for (size_t i = 0; i < LD_ARRAY_LEN(sizes); i++) {
        prepare(&f, LD_LAYOUT_OCI, sizes[i], 1024);
        size_is_right(&f.layout);
        prepare(&f, LD_LAYOUT_DOCKER, 1024, sizes[i]);
        size_is_right(&f.layout);
    }
}

/* The names in the archive up to where it ends, each followed by a blank; *ret_whole: it has an
 * end.
 */
static char *list(const struct ld_buf *tar, bool *ret_whole)
{
    autobuf struct ld_buf text = LD_BUF_INIT(1 << 16);
    struct archive *a = archive_read_new();
    struct archive_entry *e;
    int r;

    cr_assert_eq(archive_read_support_format_tar(a), ARCHIVE_OK);
    cr_assert_eq(archive_read_open_memory(a, tar->data, tar->len), ARCHIVE_OK);
    while ((r = archive_read_next_header(a, &e)) == ARCHIVE_OK && archive_read_data_skip(a) == 0)
        ld_buf_addf(&text, "%.12s ", archive_entry_pathname(e));
    *ret_whole = r == ARCHIVE_EOF;
    archive_read_free(a);
    return ld_buf_take(&text);
}

LD_TEST(layout, puts_documents_first)
{
    autobuf struct ld_buf tar = LD_BUF_INIT(1 << 20);
    auto_sink *sink = ld_sink_buf_new(&tar);
    autofree char *found = NULL;
    struct fixture f;
    bool whole;

    prepare(&f, LD_LAYOUT_OCI, 700, 10);
    ld_test_ok(ld_layout_write(&f.layout, sink, &err), &err);
    found = list(&tar, &whole);
    cr_expect(whole);
    cr_expect_str_eq(found, "oci-layout index.json manifest.jso blobs/ blobs/sha256 blobs/sha256 "
                            "blobs/sha256 blobs/sha256 blobs/sha256 ");
}

LD_TEST(layout, gives_a_manifest_that_came_as_it_is)
{
    static const char manifest[] = "{ \"as\": \"it came\" }";
    autobuf struct ld_buf tar = LD_BUF_INIT(1 << 20);
    auto_sink *sink = ld_sink_buf_new(&tar);
    struct ld_digest digest = ld_digest_of(manifest, strlen(manifest));
    char text[LD_DIGEST_TEXT];
    struct fixture f;

    prepare(&f, LD_LAYOUT_OCI, 700, 10);
    f.image.manifest = manifest;
    f.image.manifest_len = strlen(manifest);
    f.image.manifest_type = "application/vnd.docker.distribution.manifest.v2+json";
    ld_test_ok(ld_layout_write(&f.layout, sink, &err), &err);
    ld_digest_format(&digest, text);
    cr_expect(memmem(tar.data, tar.len, manifest, strlen(manifest)));
    cr_expect(memmem(tar.data, tar.len, text, strlen(text)), "the index names it");
    cr_expect(memmem(tar.data, tar.len, f.image.manifest_type, strlen(f.image.manifest_type)));
}

LD_TEST(layout, ends_inside_the_layer_that_fails)
{
    static const uint64_t at[] = {1, 511, 512, 4095, 4096}; /* the last is all of it */
    struct fixture f;

    for (size_t i = 0; i < LD_ARRAY_LEN(at); i++) {
        autobuf struct ld_buf tar = LD_BUF_INIT(1 << 20);
        auto_sink *sink = ld_sink_buf_new(&tar);
        autofree char *found = NULL;
        bool whole;

        prepare(&f, LD_LAYOUT_OCI, 700, 4096);
        f.layers.fails_at = at[i];
        ld_test_fails(ld_layout_write(&f.layout, sink, &err), &err, LD_E_CORRUPT);
        found = list(&tar, &whole);
        cr_expect_not(whole, "%llu", (unsigned long long)at[i]);
    }
}

LD_TEST(layout, refuses_layers_of_another_length)
{
    autobuf struct ld_buf tar = LD_BUF_INIT(1 << 20);
    auto_sink *sink = ld_sink_buf_new(&tar);
    struct fixture f;

    prepare(&f, LD_LAYOUT_OCI, 700, 4096);
    f.layers.size[1] = 4097;
    ld_test_fails(ld_layout_write(&f.layout, sink, &err), &err, LD_E_CORRUPT);
    f.layers.size[1] = 4095;
    ld_test_fails(ld_layout_write(&f.layout, sink, &err), &err, LD_E_CORRUPT);
}
