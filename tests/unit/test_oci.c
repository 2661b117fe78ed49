/* image/oci.h and image/doc.h: documents, good and hostile. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cjson/cJSON.h>

#include "daemon/base/buf.h"
#include "daemon/base/mem.h"
#include "daemon/base/parse.h"
#include "daemon/base/sid.h"
#include "daemon/image/doc.h"
#include "daemon/image/oci.h"
#include "tests/lib/env.h"

#define D1           "sha256:1111111111111111111111111111111111111111111111111111111111111111"
#define D2           "sha256:2222222222222222222222222222222222222222222222222222222222222222"
#define OCI_MANIFEST "application/vnd.oci.image.manifest.v1+json"
#define OCI_INDEX    "application/vnd.oci.image.index.v1+json"
#define OCI_CONFIG   "application/vnd.oci.image.config.v1+json"
#define DOCKER_LIST  "application/vnd.docker.distribution.manifest.list.v2+json"

/* ---- JSON ---- */

LD_TEST(doc, refuses_what_readers_disagree_about)
{
    static const struct {
        const char *text, *says;
    } table[] = {
        {"", "empty"},
        {"{", "not valid JSON"},
        {"nonsense", "not valid JSON"},
        {"\"text\"", "neither a JSON object nor an array"},
        {"7", "neither"},
        {"{} {}", "after the JSON value"},
        {"{}x", "after the JSON value"},
        {"{\"a\":1,\"a\":2}", "'a' is there twice"},
        {"[{\"x\":{\"b\":1,\"c\":2,\"b\":3}}]", "'b' is there twice"},
        {"{\"a\":\"\\u0000\"}", "NUL in a string"},
        {"{\"a\":\"x\ny\"}", "control character"},
        {"{\"a\":\"\xff\"}", "not valid UTF-8"},
        {"{\"a\":\"\xc0\x80\"}", "not valid UTF-8"},
        {"{\"a\":\"\xed\xa0\x80\"}", "not valid UTF-8"},
        {"{\"a\":\"\xf5\x80\x80\x80\"}", "not valid UTF-8"},
        {"{\"a\":\"\xe2\x82", "not valid UTF-8"},
        {"{\"a\":\"open", "ends inside a string"},
        {"{\"a\":\"open\\", "ends inside a string"},
    };

    for (size_t i = 0; i < LD_ARRAY_LEN(table); i++) {
        struct ld_err err = LD_ERR_INIT;
        struct cJSON *json = NULL;

        ld_test_fails(ld_doc_parse(table[i].text, strlen(table[i].text), "doc", &json, &err), &err,
                      LD_E_BAD_CONTENT);
        cr_expect(strstr(err.message, table[i].says), "'%s' for '%s'", err.message, table[i].text);
        cr_expect_null(json);
    }
}

LD_TEST(doc, takes_every_kind_of_value)
{
    static const char text[] =
        " {\"a\\\\u0000\":[1,-2.5e3,true,false,null,\"\\u00e4\xf0\x9f\x98\x80\"],"
        "\"b\":{\"a\":1},\"c\":{\"a\":2}}\r\n";
    struct ld_err err = LD_ERR_INIT;
    LD_AUTO(ld_doc_free_p) struct cJSON *json = NULL;

    ld_test_ok(ld_doc_parse(text, sizeof(text) - 1, "doc", &json, &err), &err);
}

/* Depth and number of values cost nothing before they are refused. */
LD_TEST(doc, bounds_depth_and_values)
{
    struct ld_err err = LD_ERR_INIT;
    struct cJSON *json = NULL;
    autobuf struct ld_buf text = LD_BUF_INIT(16 << 20);

    for (int i = 0; i < 32; i++)
        ld_buf_addc(&text, '[');
    for (int i = 0; i < 32; i++)
        ld_buf_addc(&text, ']');
    ld_test_ok(ld_doc_parse(text.data, text.len, "doc", &json, &err), &err);
    ld_doc_free_p(&json);
    ld_buf_clear(&text);
    for (int i = 0; i < 5000000; i++)
        ld_buf_addc(&text, '[');
    ld_test_fails(ld_doc_parse(text.data, text.len, "doc", &json, &err), &err, LD_E_BAD_CONTENT);
    cr_expect(strstr(err.message, "deeper than 32"));
    ld_buf_clear(&text);
    ld_buf_addc(&text, '[');
    for (int i = 0; i < 100001; i++)
        ld_buf_adds(&text, "0,");
    ld_buf_adds(&text, "0]");
    ld_test_fails(ld_doc_parse(text.data, text.len, "doc", &json, &err), &err, LD_E_BAD_CONTENT);
    cr_expect(strstr(err.message, "100,000 values"));
}

LD_TEST(doc, reads_whole_numbers_only)
{
    static const struct {
        const char *value;
        bool ok;
        uint64_t want;
    } table[] = {
        {"0", true, 0},
        {"4294967296", true, 1ULL << 32},
        {"9007199254740992", true, 1ULL << 53},
        {"1e3", true, 1000},
        {"-1", false, 0},
        {"0.5", false, 0},
        {"1e400", false, 0},
        {"9007199254740994", false, 0},
        {"\"7\"", false, 0},
        {"null", true, 0},
        {"18446744073709551616", false, 0},
        {"[]", false, 0},
    };

    for (size_t i = 0; i < LD_ARRAY_LEN(table); i++) {
        struct ld_err err = LD_ERR_INIT;
        struct ld_doc_reader r = {.what = "doc", .err = &err};
        LD_AUTO(ld_doc_free_p) struct cJSON *json = NULL;
        autofree char *text = ld_asprintf("{\"n\":%s}", table[i].value);
        uint64_t n = 77;
        int rc;

        ld_test_ok(ld_doc_parse(text, strlen(text), "doc", &json, &err), &err);
        rc = ld_doc_u64(&r, json, "n", false, &n);
        cr_expect_eq(rc, table[i].ok ? 0 : -1, "%s", text);
        cr_expect_eq(n, table[i].ok ? table[i].want : 77, "%s", text);
    }
}

/* ---- platforms ---- */

LD_TEST(oci, maps_machines_and_ranks_platforms)
{
    static const struct {
        const char *machine;
        struct ld_oci_platform image;
        int better_than; /* index of a row that ranks lower on the same machine; -1: must not run */
    } table[] = {
        {"x86_64", {"linux", "386", ""}, 99},      {"x86_64", {"linux", "amd64", "v3"}, 0},
        {"x86_64", {"linux", "amd64", "v2"}, 1},   {"x86_64", {"linux", "amd64", ""}, 2},
        {"x86_64", {"linux", "arm64", ""}, -1},    {"x86_64", {"windows", "amd64", ""}, -1},
        {"aarch64", {"linux", "arm", "v5"}, 99},   {"aarch64", {"linux", "arm", "v7"}, 6},
        {"aarch64", {"linux", "arm64", ""}, 7},    {"aarch64", {"linux", "arm64", "v8"}, 7},
        {"aarch64", {"linux", "amd64", ""}, -1},   {"armv7l", {"linux", "arm", "v6"}, 99},
        {"armv7l", {"linux", "arm", "v7"}, 11},    {"armv6l", {"linux", "arm", "v7"}, -1},
        {"armv6l", {"linux", "arm", "v6"}, 99},    {"i686", {"linux", "386", ""}, 99},
        {"i686", {"linux", "amd64", ""}, -1},      {"s390x", {"linux", "s390x", ""}, 99},
        {"ppc64le", {"linux", "ppc64le", ""}, 99}, {"strange", {"linux", "strange", ""}, 99},
    };

    for (size_t i = 0; i < LD_ARRAY_LEN(table); i++) {
        struct ld_oci_platform host;
        int rank;

        ld_oci_platform_of(table[i].machine, &host);
        rank = ld_oci_platform_rank(&host, &table[i].image);
        if (table[i].better_than < 0)
            cr_expect_eq(rank, 0, "row %zu", i);
        else if (table[i].better_than == 99)
            cr_expect_gt(rank, 0, "row %zu", i);
        else
            cr_expect_gt(rank, ld_oci_platform_rank(&host, &table[table[i].better_than].image),
                         "row %zu", i);
    }
}

/* ---- manifests and indexes ---- */

static int kind(const char *text, const char *type, enum ld_oci_kind *ret, struct ld_err *err)
{
    return ld_oci_kind_of(text, strlen(text), type, "doc", ret, err);
}

LD_TEST(oci, tells_documents_apart_by_content)
{
    static const struct {
        const char *text, *type;
        enum ld_oci_kind want;
    } good[] = {
        {"{\"schemaVersion\":2,\"manifests\":[]}", OCI_INDEX, LD_OCI_INDEX},
        {"{\"schemaVersion\":2,\"manifests\":[]}", DOCKER_LIST, LD_OCI_INDEX},
        {"{\"schemaVersion\":2,\"manifests\":[]}", "", LD_OCI_INDEX},
        {"{\"manifests\":[],\"mediaType\":\"" OCI_INDEX "\"}", "application/x", LD_OCI_INDEX},
        {"{\"config\":{\"mediaType\":\"" OCI_CONFIG "\"},\"layers\":[]}", OCI_MANIFEST,
         LD_OCI_MANIFEST},
        {"{\"config\":{},\"layers\":[]}", NULL, LD_OCI_MANIFEST},
        {"{\"config\":{\"mediaType\":\"application/vnd.oci.empty.v1+json\"},\"layers\":[]}",
         OCI_MANIFEST, LD_OCI_ARTIFACT},
        {"{\"config\":{\"mediaType\":\"application/vnd.cncf.helm.config.v1+json\"},\"layers\":[]}",
         "", LD_OCI_ARTIFACT},
        {"{\"mediaType\":\"application/vnd.oci.artifact.manifest.v1+json\",\"blobs\":[]}", "",
         LD_OCI_ARTIFACT},
    };
    static const struct {
        const char *text, *type;
    } bad[] = {
        {"[]", ""},
        {"{}", ""},
        {"{\"manifests\":[],\"layers\":[]}", ""},
        {"{\"manifests\":[],\"config\":{}}", OCI_INDEX},
        {"{\"manifests\":[]}", OCI_MANIFEST},
        {"{\"config\":{},\"layers\":[]}", OCI_INDEX},
        {"{\"config\":{},\"layers\":[],\"mediaType\":\"" OCI_INDEX "\"}", OCI_MANIFEST},
        {"{\"config\":[],\"layers\":[]}", OCI_MANIFEST},
        {"{\"layers\":[]}", OCI_MANIFEST},
        {"{\"schemaVersion\":1,\"fsLayers\":[]}", ""},
        {"{\"schemaVersion\":\"2\",\"manifests\":[]}", ""},
    };
    struct ld_err err = LD_ERR_INIT;
    enum ld_oci_kind got;

    for (size_t i = 0; i < LD_ARRAY_LEN(good); i++) {
        ld_test_ok(kind(good[i].text, good[i].type, &got, &err), &err);
        cr_expect_eq(got, good[i].want, "%s", good[i].text);
    }
    for (size_t i = 0; i < LD_ARRAY_LEN(bad); i++)
        ld_test_fails(kind(bad[i].text, bad[i].type, &got, &err), &err, LD_E_BAD_CONTENT);
}

LD_TEST(oci, reads_an_index)
{
    static const char text[] =
        "{\"schemaVersion\":2,\"manifests\":["
        "{\"mediaType\":\"" OCI_MANIFEST "\",\"digest\":\"" D1 "\",\"size\":7,\"platform\":"
        "{\"os\":\"linux\",\"architecture\":\"arm\",\"variant\":\"v7\"},\"annotations\":"
        "{\"org.opencontainers.image.ref.name\":\"12\",\"io.containerd.image.name\":\"docker.io/"
        "x:12\"}},"
        "{\"digest\":\"" D2 "\",\"size\":8,\"annotations\":"
        "{\"vnd.docker.reference.type\":\"attestation-manifest\"}}]}";
    struct ld_err err = LD_ERR_INIT;
    LD_AUTO(ld_oci_index_done) struct ld_oci_index index = {0};
    char platform[LD_OCI_PLATFORM_TEXT], digest[LD_DIGEST_TEXT];

    ld_test_ok(ld_oci_index_parse(text, sizeof(text) - 1, "index", &index, &err), &err);
    cr_assert_eq(index.n, 2);
    cr_expect_str_eq(index.entries[0].ref_name, "12");
    cr_expect_str_eq(index.entries[0].image_name, "docker.io/x:12");
    cr_expect_str_eq(index.entries[0].media_type, OCI_MANIFEST);
    cr_expect_eq(index.entries[0].size, 7);
    cr_expect(index.entries[0].has_platform);
    ld_oci_platform_format(&index.entries[0].platform, platform);
    cr_expect_str_eq(platform, "linux/arm/v7");
    ld_digest_format(&index.entries[1].digest, digest);
    cr_expect_str_eq(digest, D2);
    cr_expect(index.entries[1].is_attestation);
    cr_expect_not(index.entries[1].has_platform);
}

LD_TEST(oci, refuses_malformed_descriptors)
{
    static const struct {
        const char *entry, *says;
    } table[] = {
        {"7", "manifests[0] is not an object"},
        {"{\"size\":1}", "manifests[0]: 'digest' is missing"},
        {"{\"digest\":\"" D1 "\"}", "'size' is missing"},
        {"{\"digest\":\"" D1 "\",\"size\":-1}", "'size' is not a whole number"},
        {"{\"digest\":\"" D1 "\",\"size\":\"1\"}", "'size' is not a number"},
        {"{\"digest\":\"../../etc/passwd\",\"size\":1}", "'../../etc/passwd' is not a digest"},
        {"{\"digest\":\"sha512:00\",\"size\":1}", "not of sha256"},
        {"{\"digest\":7,\"size\":1}", "'digest' is not a string"},
        {"{\"digest\":\"" D1 "\",\"size\":1,\"platform\":\"linux\"}",
         "'platform' is not an object"},
        {"{\"digest\":\"" D1 "\",\"size\":1,\"annotations\":[]}", "'annotations' is not an object"},
        {"{\"digest\":\"" D1 "\",\"size\":1,\"platform\":{\"os\":"
         "\"0123456789012345678901234567890123456789\"}}",
         "longer than 31"},
    };

    for (size_t i = 0; i < LD_ARRAY_LEN(table); i++) {
        struct ld_err err = LD_ERR_INIT;
        struct ld_oci_index index = {0};
        autofree char *text = ld_asprintf("{\"manifests\":[%s]}", table[i].entry);

        ld_test_fails(ld_oci_index_parse(text, strlen(text), "index", &index, &err), &err,
                      LD_E_BAD_CONTENT);
        cr_expect(strstr(err.message, table[i].says), "'%s', wanted '%s'", err.message,
                  table[i].says);
    }
}

LD_TEST(oci, reads_manifests_of_up_to_400_layers)
{
    struct ld_err err = LD_ERR_INIT;

    for (int n = 400; n <= 401; n++) {
        autobuf struct ld_buf text = LD_BUF_INIT(1 << 20);
        LD_AUTO(ld_oci_manifest_done) struct ld_oci_manifest manifest = {0};

        ld_buf_addf(&text, "{\"config\":{\"digest\":\"%s\",\"size\":5},\"layers\":[", D1);
        for (int i = 0; i < n; i++)
            ld_buf_addf(&text, "%s{\"digest\":\"%s\",\"size\":%d}", i ? "," : "", D2, i);
        ld_buf_adds(&text, "]}");
        if (n > LD_MAX_LAYERS) {
            ld_test_fails(ld_oci_manifest_parse(text.data, text.len, "m", &manifest, &err), &err,
                          LD_E_BAD_CONTENT);
            cr_expect(strstr(err.message, "401 layers"), "%s", err.message);
            continue;
        }
        ld_test_ok(ld_oci_manifest_parse(text.data, text.len, "m", &manifest, &err), &err);
        cr_assert_eq(manifest.n_layers, 400);
        cr_expect_eq(manifest.layers[399].size, 399);
        cr_expect_eq(manifest.config.size, 5);
    }
}

LD_TEST(oci, judges_layer_types)
{
    cr_expect_eq(ld_oci_layer_kind_of(""), LD_OCI_LAYER_PLAIN);
    cr_expect_eq(ld_oci_layer_kind_of("application/vnd.oci.image.layer.v1.tar+zstd"),
                 LD_OCI_LAYER_PLAIN);
    cr_expect_eq(ld_oci_layer_kind_of("application/vnd.oci.image.layer.v1.tar+gzip+encrypted"),
                 LD_OCI_LAYER_ENCRYPTED);
    cr_expect_eq(ld_oci_layer_kind_of("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"),
                 LD_OCI_LAYER_FOREIGN);
    cr_expect_eq(ld_oci_layer_kind_of("application/vnd.oci.image.layer.nondistributable.v1.tar"),
                 LD_OCI_LAYER_FOREIGN);
}

/* ---- configs ---- */

LD_TEST(oci, reads_a_config_as_docker_writes_it)
{
    static const char text[] =
        "{\"architecture\":\"arm64\",\"variant\":\"v8\",\"os\":\"linux\",\"created\":"
        "\"2024-01-02T03:04:05.6Z\",\"config\":{\"User\":\"app:app\",\"Env\":[\"A=1\",\"B=2\"],"
        "\"Cmd\":[\"sh\",\"-c\",\"x\"],\"Entrypoint\":null,\"WorkingDir\":\"/"
        "w\",\"StopSignal\":\"9\","
        "\"Volumes\":{\"/data\":{},\"/a\":{}},\"ExposedPorts\":{\"80/"
        "tcp\":{}},\"Labels\":{\"z\":\"1\","
        "\"a\":\"\"},\"OnBuild\":null},\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[\"" D1
        "\",\"" D2
        "\"]},\"history\":[{\"created_by\":\"one\"},{\"created_by\":\"env\",\"empty_layer\":true},"
        "{\"created_by\":\"two\",\"comment\":\"c\"},{\"created_by\":\"too many\"}]}";
    struct ld_err err = LD_ERR_INIT;
    LD_AUTO(ld_oci_config_done) struct ld_oci_config c = {0};

    ld_test_ok(ld_oci_config_parse(text, sizeof(text) - 1, "config", &c, &err), &err);
    cr_expect_str_eq(c.platform.arch, "arm64");
    cr_expect_str_eq(c.created, "2024-01-02T03:04:05.6Z");
    cr_expect_str_eq(c.user, "app:app");
    cr_expect_str_eq(c.workdir, "/w");
    cr_expect_str_eq(c.stop_signal, "9");
    cr_assert_eq(ld_strv_len(c.env), 2);
    cr_expect_str_eq(c.env[1], "B=2");
    cr_expect_eq(ld_strv_len(c.cmd), 3);
    cr_expect_null(c.entrypoint);
    cr_assert_eq(ld_strv_len(c.volumes), 2);
    cr_expect_str_eq(c.volumes[0], "/a", "sorted");
    cr_expect_str_eq(c.exposed_ports[0], "80/tcp");
    cr_assert_eq(c.n_labels, 2);
    cr_expect_str_eq(c.labels[0].key, "a");
    cr_expect_str_eq(c.labels[1].value, "1");
    cr_assert_eq(c.n_layers, 2);
    cr_assert_eq(c.n_history, 4);
    cr_expect_eq(c.history[0].layer, 0);
    cr_expect_eq(c.history[1].layer, -1);
    cr_expect_eq(c.history[2].layer, 1);
    cr_expect_str_eq(c.history[2].comment, "c");
    cr_expect_eq(c.history[3].layer, -1, "no layer is left for it");
}

LD_TEST(oci, takes_a_config_without_layers)
{
    static const char *const texts[] = {
        "{\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[]}}",
        "{\"rootfs\":{\"type\":\"layers\",\"diff_ids\":null},\"config\":null,\"history\":null}",
        "{\"rootfs\":{}}",
    };

    for (size_t i = 0; i < LD_ARRAY_LEN(texts); i++) {
        struct ld_err err = LD_ERR_INIT;
        LD_AUTO(ld_oci_config_done) struct ld_oci_config c = {0};

        ld_test_ok(ld_oci_config_parse(texts[i], strlen(texts[i]), "config", &c, &err), &err);
        cr_expect_eq(c.n_layers, 0);
    }
}

LD_TEST(oci, refuses_malformed_configs)
{
    static const struct {
        const char *text, *says;
    } table[] = {
        {"[]", "not a JSON object"},
        {"{}", "'rootfs' is missing"},
        {"{\"rootfs\":7}", "'rootfs' is not an object"},
        {"{\"rootfs\":{\"type\":\"tree\"}}", "type 'tree' is not supported"},
        {"{\"rootfs\":{\"diff_ids\":{}}}", "'diff_ids' is not an array"},
        {"{\"rootfs\":{\"diff_ids\":[\"" D1 "\",7]}}", "diff_ids[1] is not a sha256 digest"},
        {"{\"rootfs\":{\"diff_ids\":[\"x\"]}}", "diff_ids[0] is not a sha256 digest"},
        {"{\"rootfs\":{},\"config\":[]}", "'config' is not an object"},
        {"{\"rootfs\":{},\"config\":{\"Env\":\"A=1\"}}", "'Env' is not an array"},
        {"{\"rootfs\":{},\"config\":{\"Env\":[1]}}", "'Env' holds something that is no string"},
        {"{\"rootfs\":{},\"config\":{\"Labels\":{\"a\":1}}}", "label 'a' is not a string"},
        {"{\"rootfs\":{},\"history\":[7]}", "history[0] is not an object"},
        {"{\"rootfs\":{},\"history\":[{\"empty_layer\":\"yes\"}]}",
         "'empty_layer' is not true or false"},
        {"{\"rootfs\":{},\"os\":7}", "'os' is not a string"},
    };

    for (size_t i = 0; i < LD_ARRAY_LEN(table); i++) {
        struct ld_err err = LD_ERR_INIT;
        struct ld_oci_config c = {0};

        ld_test_fails(ld_oci_config_parse(table[i].text, strlen(table[i].text), "config", &c, &err),
                      &err, LD_E_BAD_CONTENT);
        cr_expect(strstr(err.message, table[i].says), "'%s', wanted '%s'", err.message,
                  table[i].says);
    }
}

LD_TEST(oci, renders_a_config_that_it_reads_again)
{
    struct ld_err err = LD_ERR_INIT;
    LD_AUTO(ld_oci_config_done) struct ld_oci_config c = {0};
    struct ld_oci_platform platform = {"linux", "arm", "v7"};
    struct ld_digest diff = ld_digest_of("x", 1);
    autofree char *text = ld_oci_config_render_rootfs(&platform, &diff);

    ld_test_ok(ld_oci_config_parse(text, strlen(text), "config", &c, &err), &err);
    cr_expect_str_eq(c.platform.variant, "v7");
    cr_assert_eq(c.n_layers, 1);
    cr_expect(ld_digest_equal(&c.diff_ids[0], &diff));
    cr_expect_eq(c.history[0].layer, 0);
}

/* ---- mutations ---- */

static uint64_t next_random(uint64_t *state)
{
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * UINT64_C(2685821657736338717);
}

/* Every parser on every mutated document: it reads it or says bad_content, and frees what it made.
 */
static int parse_all(const char *text, size_t len)
{
    LD_AUTO(ld_oci_index_done) struct ld_oci_index index = {0};
    LD_AUTO(ld_oci_manifest_done) struct ld_oci_manifest manifest = {0};
    LD_AUTO(ld_oci_config_done) struct ld_oci_config config = {0};
    struct ld_err err = LD_ERR_INIT;
    enum ld_oci_kind got;
    int good = 0;

    for (int i = 0; i < 4; i++) {
        int rc = i == 0   ? ld_oci_kind_of(text, len, OCI_MANIFEST, "doc", &got, &err)
                 : i == 1 ? ld_oci_index_parse(text, len, "doc", &index, &err)
                 : i == 2 ? ld_oci_manifest_parse(text, len, "doc", &manifest, &err)
                          : ld_oci_config_parse(text, len, "doc", &config, &err);

        if (rc == 0)
            good++;
        else
            cr_assert_eq(err.code, LD_E_BAD_CONTENT, "%s", err.message);
    }
    return good;
}

LD_TEST(oci, survives_mutated_documents)
{
    static const char *const seeds[] = {
        "{\"manifests\":[{\"mediaType\":\"x\",\"digest\":\"" D1
        "\",\"size\":7,\"platform\":{\"os\":"
        "\"linux\",\"architecture\":\"arm\"},\"annotations\":{\"io.containerd.image.name\":\"a\"}}]"
        "}",
        "{\"config\":{\"digest\":\"" D1 "\",\"size\":5},\"layers\":[{\"digest\":\"" D2
        "\",\"size\":1}]}",
        "{\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[\"" D1
        "\"]},\"config\":{\"Env\":[\"A=\\u00e4\"],"
        "\"Labels\":{\"a\":\"b\"},\"Volumes\":{\"/x\":{}}},\"history\":[{\"empty_layer\":true}]}",
    };
    const char *given = getenv("LD_TEST_SEED");
    uint64_t seed = 20240607;
    uint64_t state;
    int good = 0;

    if (given)
        cr_assert_eq(ld_parse_u64(given, 1, UINT64_MAX, &seed), 0);
    state = seed;
    for (int run = 0; run < 30000; run++) {
        const char *from = seeds[run % 3];
        size_t len = strlen(from);
        autofree char *text = ld_strdup(from);

        for (uint64_t n = next_random(&state) % 3 + 1; n > 0; n--)
            text[next_random(&state) % len] = "{}[]\",:019-.e\\u\0\xff t"[next_random(&state) % 20];
        if (run % 8 == 0)
            len = next_random(&state) % len;
        good += parse_all(text, len);
    }
    (void)fprintf(stderr, "documents: seed %llu, %d readings accepted\n", (unsigned long long)seed,
                  good);
}
