/* image/archive.h: archives of real tools, hand-made ones of old engines, hostile ones, mutated
 * ones. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/base/buf.h"
#include "daemon/base/fdio.h"
#include "daemon/base/mem.h"
#include "daemon/base/parse.h"
#include "daemon/image/archive.h"
#include "tests/lib/env.h"

#define auto_archive LD_AUTO(ld_archive_free_p) struct ld_archive

/* ---- helpers ---- */

static const struct ld_oci_platform amd64 = {"linux", "amd64", ""};

static struct ld_archive_options options(const char *ref)
{
    return (struct ld_archive_options){
        .ref = ref, .platform = &amd64, .tmp_dir = open(ld_test_dir(), O_RDONLY | O_DIRECTORY)};
}

/* Opens a file of the test's directory. *ret_fd must stay open as long as the archive. */
static int open_with(const char *path, const struct ld_archive_options *o, int *ret_fd,
                     struct ld_archive **ret, struct ld_err *err)
{
    struct stat st;
    int rc;

    *ret_fd = open(path, O_RDONLY | O_CLOEXEC);
    cr_assert_geq(*ret_fd, 0, "open %s", path);
    cr_assert_eq(fstat(*ret_fd, &st), 0);
    rc = ld_archive_open(*ret_fd, (uint64_t)st.st_size, o, ret, err);
    ld_close(o->tmp_dir);
    return rc;
}

static int open_archive(const char *path, const char *ref, int *ret_fd, struct ld_archive **ret,
                        struct ld_err *err)
{
    struct ld_archive_options o = options(ref);

    return open_with(path, &o, ret_fd, ret, err);
}

/* A layout "L" by umoci with images `base` (one layer) and `two` (one more). */
static void make_layout(void)
{
    ld_test_sh("umask 022 && umoci init --layout L && umoci new --image L:base && echo one > a && "
               "umoci insert --image L:base a /a && echo two > b && "
               "umoci insert --image L:base --tag two b /b");
}

static void copy_image(const char *from, const char *to)
{
    ld_test_sh("umask 022 && skopeo --insecure-policy copy -q %s %s", from, to);
}

/* Every layer lies in the file, begins like gzip or tar, and has the digests it should. */
static void check_layers(const struct ld_archive *a)
{
    size_t n;
    const struct ld_archive_image *image = ld_archive_images(a, &n);
    struct stat st;

    cr_assert_eq(fstat(ld_archive_fd(a), &st), 0);
    for (size_t i = 0; i < n; i++) {
        for (size_t j = 0; j < image[i].n_layers; j++) {
            const struct ld_archive_layer *layer = &image[i].layers[j];
            autofree char *bytes = NULL;
            struct ld_digest digest;
            bool is_gzip;

            cr_assert_leq(layer->span.offset + layer->span.size, (uint64_t)st.st_size);
            cr_assert_leq(layer->span.size, 1 << 20);
            bytes = ld_alloc0((size_t)layer->span.size + 2);
            cr_assert_eq(ld_pread_full(ld_archive_fd(a), bytes, (size_t)layer->span.size,
                                       layer->span.offset),
                         0);
            is_gzip = bytes[0] == 0x1f && (unsigned char)bytes[1] == 0x8b;
            digest = ld_digest_of(bytes, (size_t)layer->span.size);
            if (layer->has_blob)
                cr_expect(ld_digest_equal(&digest, &layer->blob));
            if (layer->has_diff_id && !is_gzip)
                cr_expect(ld_digest_equal(&digest, &layer->diff_id));
        }
    }
}

static void check_config(const struct ld_archive *a, const struct ld_archive_image *image)
{
    struct ld_err err = LD_ERR_INIT;
    autofree char *text = NULL;
    struct ld_digest digest;

    ld_test_ok(ld_archive_read(a, &image->config, &text, &err), &err);
    digest = ld_digest_of(text, (size_t)image->config.size);
    cr_expect(ld_digest_equal(&digest, &image->id), "the id is the config's digest");
}

/* The only image, with the only name. */
static void expect_one(const char *path, const char *ref, const char *name, size_t n_layers,
                       struct ld_digest *ret_id)
{
    struct ld_err err = LD_ERR_INIT;
    auto_archive *a = NULL;
    autoclose int fd = -EBADF;
    const struct ld_archive_image *image;
    size_t n;

    ld_test_ok(open_archive(path, ref, &fd, &a, &err), &err);
    image = ld_archive_images(a, &n);
    cr_assert_eq(n, 1, "%s", path);
    cr_expect_eq(image->n_layers, n_layers, "%s", path);
    if (name) {
        cr_assert_eq(image->n_names, 1, "%s", path);
        cr_expect_str_eq(image->names[0], name);
    } else {
        cr_expect_eq(image->n_names, 0);
    }
    check_layers(a);
    check_config(a, image);
    if (ret_id)
        *ret_id = image->id;
}

static void expect_bad(const char *path, const char *says)
{
    struct ld_err err = LD_ERR_INIT;
    auto_archive *a = NULL;
    autoclose int fd = -EBADF;
    size_t fds = ld_test_count_fds();

    cr_expect_eq(open_archive(path, NULL, &fd, &a, &err), -1, "%s (%s)", path, says);
    cr_expect_eq(err.code, LD_E_BAD_CONTENT, "%s: %s", ld_code_name(err.code), err.message);
    cr_expect(strstr(err.message, says), "'%s' does not say '%s'", err.message, says);
    cr_expect_null(a);
    ld_close_p(&fd);
    cr_expect_eq(ld_test_count_fds(), fds, "descriptors leak");
}

/* ---- real tools ---- */

LD_TEST(archive, one_image_has_one_id_in_every_form)
{
    struct ld_digest oci, docker, again;

    make_layout();
    copy_image("oci:L:two", "oci-archive:o.tar:example.org/app:1");
    copy_image("oci:L:two", "docker-archive:d.tar:example.org/app:1");
    copy_image("docker-archive:d.tar", "oci-archive:p.tar:quay.io/other");
    expect_one("o.tar", NULL, "example.org/app:1", 2, &oci);
    expect_one("d.tar", NULL, "example.org/app:1", 2, &docker);
    cr_expect(ld_digest_equal(&oci, &docker));
    expect_one("o.tar", "debian:12", "docker.io/library/debian:12", 2, &again);
    cr_expect(ld_digest_equal(&oci, &again));
    expect_one("d.tar", "mine", "docker.io/library/mine:latest", 2, NULL);
    expect_one("p.tar", NULL, "quay.io/other:latest", 2, NULL);
}

LD_TEST(archive, may_be_compressed_as_a_whole)
{
    struct ld_digest plain, packed;

    make_layout();
    copy_image("oci:L:two", "oci-archive:o.tar:app:1");
    expect_one("o.tar", NULL, "docker.io/library/app:1", 2, &plain);
    ld_test_sh("gzip -k o.tar && zstd -q -k o.tar && xz -k o.tar && bzip2 -k o.tar");
    for (size_t i = 0; i < 4; i++) {
        static const char *const ends[] = {"gz", "zst", "xz", "bz2"};
        char path[16];

        (void)snprintf(path, sizeof(path), "o.tar.%s", ends[i]);
        expect_one(path, NULL, "docker.io/library/app:1", 2, &packed);
        cr_expect(ld_digest_equal(&plain, &packed));
    }
    ld_test_sh("head -c 200 o.tar.gz > cut.gz && head -c 200 o.tar.xz > cut.xz");
    expect_bad("cut.gz", "archive");
    expect_bad("cut.xz", "archive");
}

/* umoci writes a bare word as ref.name. One image: the word is its name, as podman has it; several
 * and a name from the caller: the words are tags. */
LD_TEST(archive, takes_bare_words_as_names_or_tags)
{
    struct ld_err err = LD_ERR_INIT;
    auto_archive *a = NULL;
    autoclose int fd = -EBADF;
    const struct ld_archive_image *image;
    size_t n;

    make_layout();
    ld_test_sh("tar cf L.tar -C L .");
    ld_test_ok(open_archive("L.tar", NULL, &fd, &a, &err), &err);
    image = ld_archive_images(a, &n);
    cr_assert_eq(n, 2);
    cr_expect_str_eq(image[0].names[0], "docker.io/library/base:latest");
    cr_expect_str_eq(image[1].names[0], "docker.io/library/two:latest");
    cr_expect_eq(image[0].n_layers, 1);
    cr_expect_eq(image[1].n_layers, 2);
    cr_expect(ld_digest_equal(&image[0].layers[0].blob, &image[1].layers[0].blob), "shared");
    cr_expect_eq(image[0].layers[0].span.offset, image[1].layers[0].span.offset);
    ld_archive_free_p(&a);
    ld_close_p(&fd);

    ld_test_ok(open_archive("L.tar", "app", &fd, &a, &err), &err);
    image = ld_archive_images(a, &n);
    cr_expect_str_eq(image[0].names[0], "docker.io/library/app:base");
    cr_expect_str_eq(image[1].names[0], "docker.io/library/app:two");
    ld_archive_free_p(&a);
    ld_close_p(&fd);
    ld_test_fails(open_archive("L.tar", "app:1", &fd, &a, &err), &err, LD_E_INVALID);
    ld_close_p(&fd);
    ld_test_fails(open_archive("L.tar", "App", &fd, &a, &err), &err, LD_E_INVALID);
    ld_close_p(&fd);

    ld_test_sh(
        "umoci tag --image L:base latest && umoci rm --image L:base && umoci rm --image L:two && "
        "tar cf L.tar -C L .");
    expect_one("L.tar", NULL, NULL, 1, NULL);
    expect_one("L.tar", "debian", "docker.io/library/debian:latest", 1, NULL);
    ld_test_ok(open_archive("L.tar", NULL, &fd, &a, &err), &err);
    cr_assert_eq((ld_archive_warnings(a, &n), n), 1, "an image without a name is worth a word");
}

/* ---- made by hand ---- */

/* Text with tokens for what build() has made: @CONFIG@, @LAYER@, @MANIFEST@ are descriptors without
 * braces, @DIFF@ the diff ID, @CHEX@ @LHEX@ @MHEX@ hex digests. */
struct parts {
    const char *config, *manifest, *index, *docker; /* NULL: a good one (docker: none) */
    const char *then; /* shell command in the layout before it is packed */
};

struct token {
    const char *name;
    char text[300];
};

static char *expand(const char *text, const struct token *tokens, size_t n)
{
    struct ld_buf out = LD_BUF_INIT(16 << 20);

    while (*text) {
        size_t i = 0;

        while (i < n && strncmp(text, tokens[i].name, strlen(tokens[i].name)) != 0)
            i++;
        if (i == n) {
            ld_buf_addc(&out, *text++);
            continue;
        }
        ld_buf_adds(&out, tokens[i].text);
        text += strlen(tokens[i].name);
    }
    return ld_buf_take(&out);
}

static void put_blob(int dir, const char *data, size_t len, const char *type, struct token *desc,
                     struct token *hex)
{
    struct ld_digest digest = ld_digest_of(data, len);
    char text[LD_DIGEST_TEXT], path[128];
    autoclose int fd = -EBADF;

    ld_digest_format(&digest, text);
    (void)snprintf(path, sizeof(path), "blobs/sha256/%s", text + 7);
    fd = openat(dir, path, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0644);
    cr_assert_geq(fd, 0);
    cr_assert_eq(ld_write_full(fd, data, len), 0);
    (void)snprintf(hex->text, sizeof(hex->text), "%s", text + 7);
    (void)snprintf(desc->text, sizeof(desc->text),
                   "\"mediaType\":\"%s\",\"digest\":\"%s\",\"size\":%zu", type, text, len);
}

enum { DIFF, CONFIG, CHEX, LAYER, LHEX, MANIFEST, MHEX, N_TOKENS };

/* Makes B/ and packs it as b.tar; what goes into it is remembered as environment variables for
 * `then`. */
static void build(const struct parts *p)
{
    struct token t[N_TOKENS] = {{"@DIFF@"}, {"@CONFIG@"},   {"@CHEX@"}, {"@LAYER@"},
                                {"@LHEX@"}, {"@MANIFEST@"}, {"@MHEX@"}};
    autofree char *layer = ld_alloc0(1536);
    autofree char *config = NULL, *manifest = NULL, *index = NULL, *docker = NULL;
    autoclose int dir = -EBADF;
    char *then;

    ld_test_sh("rm -rf B && umask 022 && mkdir -p B/blobs/sha256");
    dir = open("B", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    put_blob(dir, layer, 1536, "application/vnd.oci.image.layer.v1.tar", &t[LAYER], &t[LHEX]);
    (void)snprintf(t[DIFF].text, sizeof(t[DIFF].text), "sha256:%.64s", t[LHEX].text);
    config = expand(p->config ? p->config
                              : "{\"architecture\":\"amd64\",\"os\":\"linux\",\"rootfs\":{\"type\":"
                                "\"layers\",\"diff_ids\":[\"@DIFF@\"]}}",
                    t, N_TOKENS);
    put_blob(dir, config, strlen(config), "application/vnd.oci.image.config.v1+json", &t[CONFIG],
             &t[CHEX]);
    manifest =
        expand(p->manifest ? p->manifest
                           : "{\"schemaVersion\":2,\"config\":{@CONFIG@},\"layers\":[{@LAYER@}]}",
               t, N_TOKENS);
    put_blob(dir, manifest, strlen(manifest), "application/vnd.oci.image.manifest.v1+json",
             &t[MANIFEST], &t[MHEX]);
    index = expand(p->index ? p->index : "{\"schemaVersion\":2,\"manifests\":[{@MANIFEST@}]}", t,
                   N_TOKENS);
    ld_test_write(dir, "index.json", index);
    ld_test_write(dir, "oci-layout", "{\"imageLayoutVersion\":\"1.0.0\"}");
    if (p->docker) {
        docker = expand(p->docker, t, N_TOKENS);
        ld_test_write(dir, "manifest.json", docker);
    }
    then = expand(p->then ? p->then : "true", t, N_TOKENS);
    ld_test_sh("cd B && C=blobs/sha256/%s L=blobs/sha256/%s M=blobs/sha256/%s && { %s ; } && rm -f "
               "../b.tar && tar cf ../b.tar -- *",
               t[CHEX].text, t[LHEX].text, t[MHEX].text, then);
    free(then);
}

LD_TEST(archive, chooses_the_host_s_platform)
{
    struct ld_digest want, got;

    build(&(struct parts){0});
    expect_one("b.tar", NULL, NULL, 1, &want);
    /* In index.json itself, beside attestations and others. */
    build(&(struct parts){
        .index = "{\"manifests\":["
                 "{\"digest\":\"sha256:1111111111111111111111111111111111111111111111111"
                 "111111111111111\",\"size\":1,\"platform\":{\"os\":\"linux\","
                 "\"architecture\":\"arm64\"}},"
                 "{@MANIFEST@,\"platform\":{\"os\":\"linux\",\"architecture\":"
                 "\"amd64\"}},"
                 "{\"digest\":\"sha256:2222222222222222222222222222222222222222222222222"
                 "222222222222222\",\"size\":1,\"platform\":{\"os\":\"unknown\","
                 "\"architecture\":\"unknown\"}}]}"});
    expect_one("b.tar", NULL, NULL, 1, &got);
    cr_expect(ld_digest_equal(&want, &got));
    /* Missing: what is there is told. */
    build(&(struct parts){.index = "{\"manifests\":["
                                   "{@MANIFEST@,\"platform\":{\"os\":\"linux\",\"architecture\":"
                                   "\"arm64\",\"variant\":\"v8\"}},"
                                   "{@MANIFEST@,\"platform\":{\"os\":\"linux\",\"architecture\":"
                                   "\"s390x\"}}]}"});
    expect_bad("b.tar", "no image for linux/amd64, only for: linux/arm64/v8, linux/s390x");
    /* One that stands alone is taken, with a warning when its config says so too. */
    build(&(struct parts){.index = "{\"manifests\":[{@MANIFEST@,\"platform\":{\"os\":\"linux\","
                                   "\"architecture\":\"arm64\"}}]}"});
    expect_one("b.tar", NULL, NULL, 1, NULL);
}

LD_TEST(archive, descends_into_nested_indexes)
{
    struct ld_digest want, got;

    build(&(struct parts){0});
    expect_one("b.tar", NULL, NULL, 1, &want);
    /* As buildx and containerd write it: index.json, an index, manifests. */
    build(&(struct parts){
        .then = "printf "
                "'{\"schemaVersion\":2,\"manifests\":[{@MANIFEST@,\"platform\":{\"os\":\"linux\","
                "\"architecture\":\"amd64\"}}]}' > i && H=$(sha256sum < i | cut -c1-64) && "
                "S=$(stat -c %s "
                "i) && mv i blobs/sha256/$H && printf "
                "'{\"manifests\":[{\"digest\":\"sha256:%s\",\"size\":%s,\"annotations\":{"
                "\"io.containerd.image.name\":\"docker.io/library/app:9\","
                "\"org.opencontainers.image.ref.name\":\"9\"}}]}' $H $S > index.json"});
    expect_one("b.tar", NULL, "docker.io/library/app:9", 1, &got);
    cr_expect(ld_digest_equal(&want, &got));
}

LD_TEST(archive, merges_both_forms_of_newer_engines)
{
    struct ld_err err = LD_ERR_INIT;
    auto_archive *a = NULL;
    autoclose int fd = -EBADF;
    const struct ld_archive_image *image;
    size_t n;

    build(&(struct parts){
        .index = "{\"manifests\":[{@MANIFEST@,\"annotations\":{\"io.containerd.image.name\":"
                 "\"docker.io/library/app:1\",\"org.opencontainers.image.ref.name\":\"1\"}}]}",
        .docker =
            "[{\"Config\":\"blobs/sha256/@CHEX@\",\"RepoTags\":[\"app:1\",\"app:2\"],\"Layers\":["
            "\"blobs/sha256/@LHEX@\"]}]"});
    ld_test_ok(open_archive("b.tar", NULL, &fd, &a, &err), &err);
    image = ld_archive_images(a, &n);
    cr_assert_eq(n, 1);
    cr_assert_eq(image->n_names, 2);
    cr_expect_str_eq(image->names[1], "docker.io/library/app:2");
    cr_expect_gt(image->manifest.size, 0);
    cr_expect_eq(ld_archive_format(a), LD_ARCHIVE_OCI);
    check_layers(a);
}

/* Docker 1.10 to 24: layers in directories, some only links; manifest.json anywhere. */
LD_TEST(archive, reads_old_docker_archives)
{
    static const char docker[] =
        "[{\"Config\":\"@CHEX@.json\",\"RepoTags\":[\"old:1\"],\"Layers\":["
        "\"x/layer.tar\",\"y/layer.tar\",\"z/layer.tar\"]},"
        "{\"Config\":\"@CHEX@.json\",\"RepoTags\":[\"old:2\"],\"Layers\":["
        "\"x/layer.tar\",\"y/layer.tar\",\"z/layer.tar\"]},"
        "{\"Config\":\"sha256:@CHEX@\",\"RepoTags\":null,\"Layers\":["
        "\"./x//layer.tar\",\"y/layer.tar\",\"z/layer.tar\"]}]";
    struct ld_err err = LD_ERR_INIT;
    auto_archive *a = NULL;
    autoclose int fd = -EBADF;
    const struct ld_archive_image *image;
    size_t n;

    build(&(struct parts){
        .config = "{\"architecture\":\"amd64\",\"os\":\"linux\",\"rootfs\":{\"type\":\"layers\","
                  "\"diff_ids\":[\"@DIFF@\",\"@DIFF@\",\"@DIFF@\"]}}",
        .docker = docker,
        .then =
            "rm oci-layout index.json && mkdir x y z && mv $L x/layer.tar && ln -s ../x/layer.tar "
            "y/layer.tar && ln x/layer.tar z/layer.tar && cp $C @CHEX@.json && mv $C sha256:@CHEX@ "
            "&& rm -r blobs && echo 1.0 > x/VERSION && echo '{}' > repositories"});
    ld_test_ok(open_archive("b.tar", NULL, &fd, &a, &err), &err);
    image = ld_archive_images(a, &n);
    cr_assert_eq(n, 1, "three items, one image");
    cr_expect_eq(ld_archive_format(a), LD_ARCHIVE_DOCKER);
    cr_expect_eq(image->n_names, 2);
    cr_assert_eq(image->n_layers, 3);
    for (size_t i = 0; i < 3; i++)
        cr_expect_eq(image->layers[i].span.offset, image->layers[0].span.offset);
    cr_expect_eq(image->manifest.size, 0);
    check_layers(a);
    check_config(a, image);
}

LD_TEST(archive, takes_an_image_without_layers)
{
    build(&(struct parts){.config =
                              "{\"architecture\":\"amd64\",\"os\":\"linux\",\"rootfs\":{\"type\":"
                              "\"layers\",\"diff_ids\":null}}",
                          .manifest = "{\"config\":{@CONFIG@},\"layers\":[]}"});
    expect_one("b.tar", "empty", "docker.io/library/empty:latest", 0, NULL);
}

LD_TEST(archive, passes_over_artifacts)
{
    struct ld_err err = LD_ERR_INIT;
    auto_archive *a = NULL;
    autoclose int fd = -EBADF;
    size_t n;

    build(&(struct parts){
        .then =
            "printf '{\"config\":{\"mediaType\":\"application/vnd.oci.empty.v1+json\",\"digest\":"
            "\"sha256:@CHEX@\",\"size\":2},\"layers\":[]}' > i && H=$(sha256sum < i | cut -c1-64) "
            "&& "
            "S=$(stat -c %s i) && mv i blobs/sha256/$H && printf "
            "'{\"manifests\":[{\"digest\":\"sha256:%s\",\"size\":%s},{@MANIFEST@}]}' $H $S > "
            "index.json && printf '{\"manifests\":[{\"digest\":\"sha256:%s\",\"size\":%s}]}' $H "
            "$S > only"});
    ld_test_ok(open_archive("b.tar", NULL, &fd, &a, &err), &err);
    cr_expect_not_null(ld_archive_images(a, &n));
    cr_assert_eq(n, 1);
    cr_assert_not_null(ld_archive_warnings(a, &n));
    cr_assert_eq(n, 1);
    ld_test_sh("mv B/only B/index.json && tar cf b.tar -C B .");
    expect_bad("b.tar", "holds no image");
}

LD_TEST(archive, takes_a_plain_root_file_system)
{
    struct ld_archive_options o = options("root");
    struct ld_err err = LD_ERR_INIT;
    const struct ld_archive_image *image;
    struct ld_digest diff = ld_digest_of("x", 1);
    autofree char *config = NULL;
    auto_archive *a = NULL;
    autoclose int fd = -EBADF;
    struct stat st;
    size_t n;

    ld_test_sh("mkdir -p r/etc && echo x > r/etc/passwd && echo '{}' > r/index.json && tar cf "
               "r.tar -C r .");
    ld_test_ok(open_with("r.tar", &o, &fd, &a, &err), &err);
    image = ld_archive_images(a, &n);
    cr_assert_eq(n, 1);
    cr_expect(image->is_rootfs);
    cr_expect_str_eq(image->names[0], "docker.io/library/root:latest");
    cr_expect_eq(ld_archive_format(a), LD_ARCHIVE_ROOTFS);
    cr_assert_eq(fstat(fd, &st), 0);
    cr_assert_eq(image->n_layers, 1);
    cr_expect_eq(image->layers[0].span.offset, 0);
    cr_expect_eq(image->layers[0].span.size, (uint64_t)st.st_size);
    cr_expect_not(image->layers[0].has_diff_id);
    config = ld_oci_config_render_rootfs(&image->platform, &diff);
    cr_expect(strstr(config, "\"amd64\""));
    ld_archive_free_p(&a);
    ld_close_p(&fd);

    /* Its own manifest.json needs the format said; then nothing in it is looked at. */
    ld_test_sh("echo '{}' > r/manifest.json && tar czf r.tgz -C r .");
    expect_bad("r.tgz", "manifest.json is not a JSON array");
    o = options(NULL);
    o.format = LD_ARCHIVE_ROOTFS;
    ld_test_ok(open_with("r.tgz", &o, &fd, &a, &err), &err);
    cr_expect_eq(ld_archive_fd(a), fd, "not decompressed here");
}

/* ---- hostile ---- */

LD_TEST(archive, refuses_what_is_no_archive)
{
    ld_test_sh(
        ": > empty && head -c 100000 /dev/urandom > noise && head -c 10240 /dev/zero > zeros && "
        "printf '\\037\\213\\010' > stub.gz && head -c 5000 /dev/urandom | gzip > noise.gz && "
        "printf x > x && tar cf t.tar x && head -c 300 t.tar > short.tar");
    expect_bad("empty", "the archive is empty");
    expect_bad("noise", "archive");
    expect_bad("zeros", "no entries");
    expect_bad("stub.gz", "archive");
    expect_bad("noise.gz", "archive");
    expect_bad("short.tar", "archive");
}

LD_TEST(archive, refuses_hostile_documents)
{
    static const struct {
        struct parts parts;
        const char *says;
    } table[] = {
        {{.then = "rm $C"}, "is not in the archive"},
        {{.then = "rm $L"}, "is not in the archive"},
        {{.then = "rm $M"}, "is not in the archive"},
        {{.then = "rm index.json"}, "no index.json"},
        {{.then = "tr r R < $C > x && mv x $C"}, "has not the digest of its name"},
        {{.then = "tr r R < $M > x && mv x $M"}, "has not the digest of its name"},
        {{.then = "echo >> $M"}, "its descriptor says"},
        {{.then = "echo >> $L"}, "its descriptor says"},
        {{.then = "rm $L && mkdir $L"}, "is not in the archive"},
        {{.then = "rm $L && mkfifo $L"}, "no regular file"},
        {{.then = "ln -sf ../../$L $L"}, "lead in a circle"},
        {{.then = "ln -sf a $L && ln -s b blobs/sha256/a && ln -s a blobs/sha256/b"},
         "in a circle"},
        {{.then = "ln -sf ../../../../../etc/passwd $C"}, "is not in the archive"},
        {{.then = "ln -sf /etc/passwd $C"}, "is not in the archive"},
        {{.then = "head -c 10000000 /dev/zero | tr '\\000' ' ' > index.json"},
         "has 10000000 bytes"},
        {{.then = "head -c 4000000 /dev/zero | tr '\\000' '[' > index.json"}, "deeper than 32"},
        {{.then = "echo garbage > index.json"}, "not valid JSON"},
        {{.then = ": > index.json"}, "it is empty"},
        {{.then = "echo '{\"imageLayoutVersion\":\"2.0\"}' > oci-layout"},
         "'2.0' is not supported"},
        {{.then = "echo '[]' > oci-layout"}, "'imageLayoutVersion' is missing"},
        {{.index = "{\"manifests\":[]}"}, "holds no image"},
        {{.index = "{\"manifests\":{}}"}, "'manifests' is not an array"},
        {{.index = "{\"manifests\":[{@MANIFEST@,\"size\":1}]}"}, "'size' is there twice"},
        {{.index = "{\"manifests\":[],\"layers\":[]}"}, "ambiguous"},
        {{.manifest = "{\"config\":{@CONFIG@},\"layers\":[{@LAYER@},{@LAYER@}]}"},
         "1 diff IDs, but the"},
        {{.manifest = "{\"config\":{@CONFIG@},\"layers\":[]}"}, "has 0 layers"},
        {{.manifest = "{\"config\":{@CONFIG@}}"}, "'layers' is missing"},
        {{.manifest = "{\"schemaVersion\":1,\"fsLayers\":[]}"}, "schema 1 is not supported"},
        {{.manifest =
              "{\"config\":{@CONFIG@},\"layers\":[{\"mediaType\":\"application/"
              "vnd.docker.image.rootfs.foreign.diff.tar.gzip\",\"digest\":\"sha256:1111111111111111"
              "111111111111111111111111111111111111111111111111\",\"size\":3,\"urls\":[\"http://"
              "x\"]"
              "}]}"},
         "is not in the archive"},
        {{.manifest =
              "{\"config\":{@CONFIG@},\"layers\":[{\"mediaType\":\"application/"
              "vnd.oci.image.layer.v1.tar+encrypted\",\"digest\":\"@DIFF@\",\"size\":1536}]}"},
         "encrypted layer"},
        {{.config = "{\"os\":\"windows\",\"architecture\":\"amd64\",\"rootfs\":{\"diff_ids\":[\"@"
                    "DIFF@\"]}}"},
         "for windows/amd64"},
        {{.config = "{\"rootfs\":{\"diff_ids\":7}}"}, "'diff_ids' is not an array"},
        {{.config = "[]"}, "is not a JSON object"},
        /* Docker's form. */
        {{.docker = "[]", .then = "rm oci-layout"}, "holds no image"},
        {{.docker = "{}", .then = "rm oci-layout"}, "not a JSON array"},
        {{.docker = "[7]", .then = "rm oci-layout"}, "manifest.json[0] is not an object"},
        {{.docker = "[{}]", .then = "rm oci-layout"}, "'Config' is missing"},
        {{.docker = "[{\"Config\":\"../../etc/passwd\"}]", .then = "rm oci-layout"},
         "'../../etc/passwd' is not in the archive"},
        {{.docker = "[{\"Config\":\"/etc/passwd\"}]", .then = "rm oci-layout"},
         "is not in the archive"},
        {{.docker = "[{\"Config\":\"blobs/sha256/@CHEX@\",\"Layers\":[\"../b.tar\"]}]",
          .then = "rm oci-layout"},
         "'../b.tar' is not in the archive"},
        {{.docker = "[{\"Config\":\"blobs/sha256/@CHEX@\",\"Layers\":[]}]",
          .then = "rm oci-layout"},
         "has 0 layers"},
        {{.docker = "[{\"Config\":\"blobs/sha256/@CHEX@\",\"Layers\":\"x\"}]",
          .then = "rm oci-layout"},
         "'Layers' is not an array"},
        {{.docker = "[{\"Config\":\"@LHEX@.json\",\"Layers\":[]}]",
          .then = "rm oci-layout && cp $C @LHEX@.json"},
         "has not the digest of its name"},
        {{.docker = "[{\"Config\":\"blobs/sha256/@CHEX@\",\"RepoTags\":[\"Bad Tag\"],\"Layers\":["
                    "\"blobs/sha256/@LHEX@\"]}]",
          .then = "rm oci-layout"},
         "RepoTags: image reference"},
        {{.docker = "[{\"Config\":\"blobs/sha256/@LHEX@\",\"Layers\":[]}]",
          .then = "rm oci-layout"},
         "NUL"},
        {{.then =
              "rm -r oci-layout index.json blobs && echo '{}' > repositories && mkdir x && touch "
              "x/layer.tar"},
         "before 1.10 is not supported"},
    };

    for (size_t i = 0; i < LD_ARRAY_LEN(table); i++) {
        build(&table[i].parts);
        expect_bad("b.tar", table[i].says);
    }
}

LD_TEST(archive, refuses_sparse_blobs)
{
    build(&(struct parts){.then = "truncate -s 4M $L"});
    ld_test_sh("cd B && tar --sparse -cf ../b.tar -- *");
    expect_bad("b.tar", "stored sparse");
}

LD_TEST(archive, bounds_entries_and_names)
{
    autobuf struct ld_buf docker = LD_BUF_INIT(4 << 20);

    /* More entries than an archive of images may have: a root file system, or too many. */
    ld_test_sh(
        "mkdir many && cd many && seq 100001 | xargs touch && tar cf ../many.tar . && echo '[]' > "
        "manifest.json && tar cf ../over.tar .");
    {
        struct ld_err err = LD_ERR_INIT;
        auto_archive *a = NULL;
        autoclose int fd = -EBADF;

        ld_test_ok(open_archive("many.tar", NULL, &fd, &a, &err), &err);
        cr_expect_eq(ld_archive_format(a), LD_ARCHIVE_ROOTFS);
    }
    expect_bad("over.tar", "too many entries");

    ld_buf_adds(&docker,
                "[{\"Config\":\"blobs/sha256/@CHEX@\",\"Layers\":[\"blobs/sha256/@LHEX@\"],"
                "\"RepoTags\":[\"x:0\"");
    for (int i = 1; i <= 10000; i++)
        ld_buf_addf(&docker, ",\"x:%d\"", i);
    ld_buf_adds(&docker, "]}]");
    build(&(struct parts){.docker = docker.data, .then = "rm oci-layout"});
    expect_bad("b.tar", "too many names");
}

LD_TEST(archive, stops_when_cancelled)
{
    struct ld_archive_options o = options(NULL);
    struct ld_err err = LD_ERR_INIT;
    auto_archive *a = NULL;
    autoclose int fd = -EBADF;
    bool cancel = true;

    build(&(struct parts){0});
    o.cancel = &cancel;
    ld_test_fails(open_with("b.tar", &o, &fd, &a, &err), &err, LD_E_CANCELED);
}

/* ---- mutations ---- */

/* xorshift64*: the same run for the same seed everywhere. */
static uint64_t next_random(uint64_t *state)
{
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * UINT64_C(2685821657736338717);
}

static size_t mutate(char *bytes, size_t len, uint64_t *state)
{
    unsigned edits = 1 + (unsigned)(next_random(state) % 6);

    if (next_random(state) % 16 == 0)
        len = next_random(state) % len;
    for (unsigned i = 0; len > 0 && i < edits; i++) {
        size_t at = next_random(state) % len;

        switch (next_random(state) % 4) {
        case 0:
            bytes[at] = (char)next_random(state);
            break;
        case 1:
            bytes[at] ^= (char)(1 << next_random(state) % 8);
            break;
        case 2:
            bytes[at] = "{}[]\",:09-.e\\u/\0\xff"[next_random(state) % 18];
            break;
        default:
            memmove(bytes + at, bytes + next_random(state) % len / 2, (len - at) / 8);
            break;
        }
    }
    return len;
}

static void fuzz(const char *path, uint64_t seed, int runs)
{
    uint64_t state = seed;
    autoclose int in = open(path, O_RDONLY | O_CLOEXEC);
    autofree char *good = NULL, *bytes = NULL;
    struct stat st;
    int accepted = 0;

    cr_assert_eq(fstat(in, &st), 0);
    good = ld_alloc0((size_t)st.st_size);
    bytes = ld_alloc0((size_t)st.st_size);
    cr_assert_eq(ld_read_full(in, good, (size_t)st.st_size), 0);
    for (int i = 0; i < runs; i++) {
        autoclose int fd = memfd_create("fuzz", MFD_CLOEXEC);
        struct ld_archive_options o = options(NULL);
        struct ld_err err = LD_ERR_INIT;
        auto_archive *a = NULL;
        size_t len;
        int rc;

        memcpy(bytes, good, (size_t)st.st_size);
        len = mutate(bytes, (size_t)st.st_size, &state);
        cr_assert_eq(ld_write_full(fd, bytes, len), 0);
        rc = ld_archive_open(fd, len, &o, &a, &err);
        ld_close(o.tmp_dir);
        if (rc == 0) {
            size_t n;
            const struct ld_archive_image *image = ld_archive_images(a, &n);
            uint64_t size = ld_archive_fd(a) == fd ? len : UINT64_MAX;

            accepted++;
            for (size_t j = 0; j < n; j++) {
                for (size_t k = 0; k < image[j].n_layers; k++)
                    cr_assert_leq(image[j].layers[k].span.offset + image[j].layers[k].span.size,
                                  size, "seed %llu run %d", (unsigned long long)seed, i);
            }
        } else {
            cr_assert_eq(err.code, LD_E_BAD_CONTENT, "seed %llu run %d: %s",
                         (unsigned long long)seed, i, err.message);
        }
    }
    (void)fprintf(stderr, "fuzz %s: seed %llu, %d of %d accepted\n", path, (unsigned long long)seed,
                  accepted, runs);
}

LD_TEST(archive, survives_mutations)
{
    const char *given = getenv("LD_TEST_SEED");
    uint64_t seed = 20240607;

    if (given)
        cr_assert_eq(ld_parse_u64(given, 1, UINT64_MAX, &seed), 0);
    make_layout();
    copy_image("oci:L:two", "oci-archive:o.tar:app:1");
    copy_image("oci:L:two", "docker-archive:d.tar:app:1");
    ld_test_sh("gzip -k d.tar");
    fuzz("o.tar", seed, 3000);
    fuzz("d.tar", seed + 1, 3000);
    fuzz("d.tar.gz", seed + 2, 500);
}
