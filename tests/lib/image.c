/* See image.h. */
#include "tests/lib/image.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <archive.h>
#include <archive_entry.h>
#include <cjson/cJSON.h>
#include <criterion/criterion.h>

#include "daemon/base/buf.h"
#include "daemon/base/fdio.h"
#include "daemon/base/mem.h"
#include "tests/lib/client.h"
#include "tests/lib/env.h"

enum { MAX_BLOB = 1 << 30, MAX_LAYERS = 401 };

#define HOST_ARCHITECTURE (sizeof(void *) == 8 && HOST_IS_ARM ? "arm64" : "amd64")
#ifdef __aarch64__
#define HOST_IS_ARM 1
#else
#define HOST_IS_ARM 0
#endif

void ld_blob_done(struct ld_blob *blob)
{
    free(blob->data);
    *blob = (struct ld_blob){0};
}

/* ---- tars ---- */

static la_ssize_t take(struct archive *a, void *arg, const void *data, size_t len)
{
    (void)a;
    ld_buf_add(arg, data, len);
    return (la_ssize_t)len;
}

static struct archive *writer_new(struct ld_buf *to, const char *filter, bool raw)
{
    struct archive *a = archive_write_new();

    if (filter)
        cr_assert_eq(archive_write_add_filter_by_name(a, filter), ARCHIVE_OK, "%s",
                     archive_error_string(a));
    cr_assert_eq(raw ? archive_write_set_format_raw(a) : archive_write_set_format_pax(a),
                 ARCHIVE_OK);
    /* No padding after a compressed stream: it would not be part of it. */
    cr_assert_eq(archive_write_set_bytes_in_last_block(a, raw ? 1 : 0), ARCHIVE_OK);
    cr_assert_eq(archive_write_open(a, to, NULL, take, NULL), ARCHIVE_OK);
    return a;
}

static void writer_end(struct archive *a)
{
    cr_assert_eq(archive_write_close(a), ARCHIVE_OK, "%s", archive_error_string(a));
    archive_write_free(a);
}

static struct ld_blob blob_of(struct ld_buf *buf)
{
    size_t len = buf->len;

    cr_assert(!buf->full);
    return (struct ld_blob){.data = ld_buf_take(buf), .len = len};
}

static void set_type(struct archive_entry *e, const struct ld_entry *entry)
{
    static const unsigned types[] = {
        [LD_ENTRY_FILE] = AE_IFREG, [LD_ENTRY_DIR] = AE_IFDIR,  [LD_ENTRY_SYMLINK] = AE_IFLNK,
        [LD_ENTRY_LINK] = AE_IFREG, [LD_ENTRY_CHAR] = AE_IFCHR, [LD_ENTRY_FIFO] = AE_IFIFO};
    unsigned mode = entry->mode                       ? entry->mode
                    : entry->type == LD_ENTRY_DIR     ? 0755
                    : entry->type == LD_ENTRY_SYMLINK ? 0777
                                                      : 0644;

    archive_entry_set_filetype(e, types[entry->type]);
    archive_entry_set_perm(e, mode);
    if (entry->type == LD_ENTRY_SYMLINK)
        archive_entry_set_symlink(e, entry->data);
    if (entry->type == LD_ENTRY_LINK)
        archive_entry_set_hardlink(e, entry->data);
    if (entry->type == LD_ENTRY_CHAR) {
        archive_entry_set_rdevmajor(e, entry->major);
        archive_entry_set_rdevminor(e, entry->minor);
    }
}

static void write_entry(struct archive *a, const struct ld_entry *entry)
{
    struct archive_entry *e = archive_entry_new();
    bool is_file = entry->type == LD_ENTRY_FILE;
    size_t len = !is_file || !entry->data ? 0 : entry->len ? entry->len : strlen(entry->data);

    archive_entry_set_pathname(e, entry->path);
    set_type(e, entry);
    archive_entry_set_uid(e, entry->uid);
    archive_entry_set_gid(e, entry->gid);
    archive_entry_set_mtime(e, entry->mtime ? entry->mtime : 1700000000, entry->mtime_ns);
    archive_entry_set_size(e, (la_int64_t)len);
    if (entry->xattr)
        archive_entry_xattr_add_entry(e, entry->xattr, entry->value, strlen(entry->value));
    cr_assert_geq(archive_write_header(a, e), ARCHIVE_WARN, "%s: %s", entry->path,
                  archive_error_string(a));
    if (len > 0)
        cr_assert_eq(archive_write_data(a, entry->data, len), (la_ssize_t)len);
    archive_entry_free(e);
}

struct ld_blob ld_make_tar(const struct ld_entry *entries, size_t n)
{
    struct ld_buf buf = LD_BUF_INIT(MAX_BLOB);
    struct archive *a = writer_new(&buf, NULL, false);

    for (size_t i = 0; i < n; i++)
        write_entry(a, &entries[i]);
    writer_end(a);
    return blob_of(&buf);
}

struct ld_blob ld_compress(const struct ld_blob *blob, const char *filter)
{
    struct ld_buf buf = LD_BUF_INIT(MAX_BLOB);
    struct archive *a = writer_new(&buf, filter, true);
    struct archive_entry *e = archive_entry_new();

    archive_entry_set_filetype(e, AE_IFREG);
    archive_entry_set_size(e, (la_int64_t)blob->len);
    cr_assert_eq(archive_write_header(a, e), ARCHIVE_OK);
    cr_assert_eq(archive_write_data(a, blob->data, blob->len), (la_ssize_t)blob->len);
    archive_entry_free(e);
    writer_end(a);
    return blob_of(&buf);
}

/* ---- archives ---- */

struct digest_text {
    char text[LD_DIGEST_TEXT];
};

static struct digest_text digest_of(const void *data, size_t len)
{
    struct ld_digest digest = ld_digest_of(data, len);
    struct digest_text t = {.text = ""};

    ld_digest_format(&digest, t.text);
    return t;
}

static void put(struct archive *a, const char *name, const void *data, size_t len)
{
    write_entry(a, &(struct ld_entry){.path = name, .data = data, .len = len});
}

/* blobs/sha256/HEX, or HEX and a suffix at the top. */
static void put_blob(struct archive *a, bool oci, const struct digest_text *digest,
                     const char *suffix, const void *data, size_t len)
{
    autofree char *name = oci ? ld_asprintf("blobs/sha256/%s", digest->text + 7)
                              : ld_asprintf("%s%s", digest->text + 7, suffix);

    put(a, name, data, len);
}

static char *quoted(const char *text)
{
    char *copy = ld_strdup(text);

    for (char *c = copy; *c; c++)
        *c = *c == '\'' ? '"' : *c;
    return copy;
}

static struct ld_blob make_config(const struct ld_image_spec *spec)
{
    struct ld_buf buf = LD_BUF_INIT(MAX_BLOB);
    autofree char *members = quoted(spec->config ? spec->config : "");

    ld_buf_addf(
        &buf,
        "{\"architecture\":\"%s\",\"os\":\"linux\",\"created\":\"2026-01-02T03:04:05Z\","
        "\"author\":\"tests\",\"config\":{%s},\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[",
        spec->architecture ? spec->architecture : HOST_ARCHITECTURE, members);
    for (size_t i = 0; i < spec->n_layers; i++) {
        struct digest_text id = digest_of(spec->layers[i].data, spec->layers[i].len);

        if (spec->flaw == LD_FLAW_DIFF_ID && i == 0)
            id = digest_of("other", 5);
        ld_buf_addf(&buf, "%s\"%s\"", i ? "," : "", id.text);
    }
    if (spec->flaw == LD_FLAW_LAYER_COUNT)
        ld_buf_addf(&buf, ",\"%s\"", digest_of("one more", 8).text);
    ld_buf_adds(&buf, "]},\"history\":[");
    for (size_t i = 0; i < spec->n_layers; i++)
        ld_buf_addf(&buf, "%s{\"created\":\"2026-01-02T03:04:05Z\",\"created_by\":\"step %zu\"}",
                    i ? "," : "", i);
    ld_buf_addf(&buf, "%s{\"created_by\":\"CMD\",\"empty_layer\":true}]",
                spec->n_layers ? "," : "");
    if (spec->flaw == LD_FLAW_DEEP_JSON) {
        ld_buf_adds(&buf, ",\"deep\":");
        for (int i = 0; i < 1000; i++)
            ld_buf_addc(&buf, '[');
        for (int i = 0; i < 1000; i++)
            ld_buf_addc(&buf, ']');
    }
    ld_buf_addc(&buf, '}');
    return blob_of(&buf);
}

/* The blobs of an image, written on the way; each needs to be there once only, but twice does no
 * harm. */
struct parts {
    struct digest_text config, layer[MAX_LAYERS];
    size_t config_len, layer_len[MAX_LAYERS];
};

static void put_layers(struct archive *a, const struct ld_image_spec *spec, bool oci,
                       struct parts *parts)
{
    cr_assert_lt(spec->n_layers, MAX_LAYERS);
    for (size_t i = 0; i < spec->n_layers; i++) {
        struct ld_blob packed = {0};
        const struct ld_blob *blob = &spec->layers[i];

        if (spec->filter) {
            packed = ld_compress(blob, spec->filter);
            blob = &packed;
        }
        parts->layer[i] = digest_of(blob->data, blob->len);
        parts->layer_len[i] = blob->len;
        if (spec->flaw == LD_FLAW_BLOB && i == 0) {
            autofree char *bent = ld_memdup(blob->data, blob->len);

            bent[blob->len / 2] = (char)(bent[blob->len / 2] ^ 1);
            put_blob(a, oci, &parts->layer[i], "/layer.tar", bent, blob->len);
        } else if (spec->flaw != LD_FLAW_LAYER_MISSING || i + 1 < spec->n_layers) {
            put_blob(a, oci, &parts->layer[i], "/layer.tar", blob->data, blob->len);
        }
        ld_blob_done(&packed);
    }
}

static void put_parts(struct archive *a, const struct ld_image_spec *spec, bool oci,
                      struct parts *parts)
{
    struct ld_blob config = make_config(spec);

    parts->config = digest_of(config.data, config.len);
    parts->config_len = config.len;
    if (spec->flaw == LD_FLAW_CONFIG)
        config.data[config.len - 2] = ' ';
    put_blob(a, oci, &parts->config, ".json", config.data, config.len);
    ld_blob_done(&config);
    put_layers(a, spec, oci, parts);
}

/* The image's entries in the index: one per name, or one without. */
static void add_entries(struct ld_buf *index, const struct ld_image_spec *spec,
                        const struct digest_text *digest, size_t len, bool is_first)
{
    size_t r = 0;

    do {
        const char *ref = spec->refs ? spec->refs[r] : NULL;

        ld_buf_addf(index,
                    "%s{\"mediaType\":\"application/vnd.oci.image.manifest.v1+json\","
                    "\"digest\":\"%s\",\"size\":%zu",
                    is_first && r == 0 ? "" : ",", digest->text, len);
        if (ref)
            ld_buf_addf(index,
                        ",\"annotations\":{\"io.containerd.image.name\":\"%s\","
                        "\"org.opencontainers.image.ref.name\":\"%s\"}",
                        ref, strrchr(ref, ':') + 1);
        ld_buf_addc(index, '}');
    } while (spec->refs && spec->refs[r] && spec->refs[++r]);
}

static void write_oci(struct archive *a, const struct ld_image_spec *specs, size_t n)
{
    static const char layout[] = "{\"imageLayoutVersion\":\"1.0.0\"}";
    autobuf struct ld_buf index = LD_BUF_INIT(MAX_BLOB);
    autofree struct parts *parts = ld_new(struct parts);

    put(a, "oci-layout", layout, sizeof(layout) - 1);
    ld_buf_adds(&index, "{\"schemaVersion\":2,\"manifests\":[");
    for (size_t k = 0; k < n; k++) {
        const struct ld_image_spec *spec = &specs[k];
        autobuf struct ld_buf manifest = LD_BUF_INIT(MAX_BLOB);
        struct digest_text digest;

        put_parts(a, spec, true, parts);
        ld_buf_addf(&manifest,
                    "{\"schemaVersion\":2,\"mediaType\":\"application/"
                    "vnd.oci.image.manifest.v1+json\",\"config\":{\"mediaType\":\"application/"
                    "vnd.oci.image.config.v1+json\",\"digest\":\"%s\",\"size\":%zu},\"layers\":[",
                    parts->config.text, parts->config_len);
        for (size_t i = 0; i < spec->n_layers; i++)
            ld_buf_addf(&manifest,
                        "%s{\"mediaType\":\"application/vnd.oci.image.layer.v1.tar%s%s\","
                        "\"digest\":\"%s\",\"size\":%zu}",
                        i ? "," : "", spec->filter ? "+" : "", spec->filter ? spec->filter : "",
                        parts->layer[i].text, parts->layer_len[i]);
        ld_buf_adds(&manifest, "]}");
        for (int i = 0; spec->flaw == LD_FLAW_BIG_MANIFEST && i < 10 << 20; i++)
            ld_buf_addc(&manifest, ' ');
        digest = digest_of(manifest.data, manifest.len);
        put_blob(a, true, &digest, "", manifest.data, manifest.len);
        add_entries(&index, spec, &digest, manifest.len, k == 0);
    }
    ld_buf_adds(&index, "]}");
    put(a, "index.json", index.data, index.len);
}

static void write_docker(struct archive *a, const struct ld_image_spec *specs, size_t n)
{
    autobuf struct ld_buf manifest = LD_BUF_INIT(MAX_BLOB);
    autofree struct parts *parts = ld_new(struct parts);

    for (size_t k = 0; k < n; k++) {
        const struct ld_image_spec *spec = &specs[k];

        put_parts(a, spec, false, parts);
        ld_buf_addf(&manifest, "%s{\"Config\":\"%s.json\",\"RepoTags\":[", k ? "," : "[",
                    parts->config.text + 7);
        for (size_t r = 0; spec->refs && spec->refs[r]; r++)
            ld_buf_addf(&manifest, "%s\"%s\"", r ? "," : "", spec->refs[r]);
        ld_buf_adds(&manifest, "],\"Layers\":[");
        for (size_t i = 0; i < spec->n_layers; i++)
            ld_buf_addf(&manifest, "%s\"%s/layer.tar\"", i ? "," : "", parts->layer[i].text + 7);
        ld_buf_adds(&manifest, "]}");
        for (int i = 0; spec->flaw == LD_FLAW_BIG_MANIFEST && i < 10 << 20; i++)
            ld_buf_addc(&manifest, ' ');
    }
    ld_buf_addc(&manifest, ']');
    put(a, "manifest.json", manifest.data, manifest.len);
}

struct ld_blob ld_make_image(const struct ld_image_spec *specs, size_t n)
{
    struct ld_buf buf = LD_BUF_INIT(MAX_BLOB);
    struct archive *a = writer_new(&buf, NULL, false);
    struct ld_blob plain, packed;

    if (specs[0].format && strcmp(specs[0].format, "docker") == 0)
        write_docker(a, specs, n);
    else
        write_oci(a, specs, n);
    writer_end(a);
    plain = blob_of(&buf);
    if (!specs[0].outer)
        return plain;
    packed = ld_compress(&plain, specs[0].outer);
    ld_blob_done(&plain);
    return packed;
}

int ld_blob_file(const struct ld_blob *blob, const char *name)
{
    autofree char *path = ld_asprintf("%s/%s", ld_test_dir(), name);
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    cr_assert(fd >= 0, "%s: %s", path, strerror(errno));
    cr_assert_eq(ld_write_full(fd, blob->data, blob->len), 0);
    return fd;
}

/* ---- import ---- */

static const struct ld_reply *import(struct ld_client *client, const struct ld_blob *archive,
                                     const char *query)
{
    autofree char *target = ld_asprintf("/v1/images/import%s", query);

    return ld_call(client, &(struct ld_call){.method = "POST",
                                             .target = target,
                                             .body = archive->data,
                                             .body_len = archive->len});
}

cJSON *ld_import(struct ld_client *client, const struct ld_blob *archive, const char *query)
{
    const struct ld_reply *reply = import(client, archive, query);

    cr_assert_eq(reply->status, 200, "import%s: %d: %.600s", query, reply->status, reply->body);
    return reply->json;
}

cJSON *ld_import_error(struct ld_client *client, const struct ld_blob *archive, const char *query,
                       const char *code)
{
    const struct ld_reply *reply = import(client, archive, query);
    cJSON *error = cJSON_GetObjectItem(reply->json, "error");

    cr_assert(error, "import%s: want %s, got %d: %.600s", query, code, reply->status, reply->body);
    cr_assert_str_eq(ld_str(error, "code"), code, "import%s: %.600s", query, reply->body);
    return error;
}

/* ---- the usual images ---- */

static const struct ld_entry base_entries[] = {
    {.path = "./", .type = LD_ENTRY_DIR, .mode = 0755},
    {.path = "bin", .type = LD_ENTRY_DIR},
    {.path = "bin/tool", .data = "#!tool\n", .mode = 04755},
    {.path = "bin/same", .type = LD_ENTRY_LINK, .data = "bin/tool"},
    {.path = "bin/link", .type = LD_ENTRY_SYMLINK, .data = "tool"},
    {.path = "etc", .type = LD_ENTRY_DIR},
    {.path = "etc/passwd", .data = "root:x:0:0::/:/bin/tool\n", .mtime_ns = 123456789},
    {.path = "etc/motd", .data = "base\n"},
    {.path = "etc/gone", .data = "soon\n"},
    {.path = "usr", .type = LD_ENTRY_DIR},
    {.path = "usr/lib", .type = LD_ENTRY_DIR},
    {.path = "usr/lib/deep", .type = LD_ENTRY_DIR, .mode = 0750, .uid = 7, .gid = 8},
    {.path = "usr/lib/deep/file", .data = "deep\n", .uid = 7, .gid = 8},
    {.path = "var", .type = LD_ENTRY_DIR},
    {.path = "var/empty", .type = LD_ENTRY_DIR},
};
static const struct ld_entry upper_entries[] = {
    {.path = "etc", .type = LD_ENTRY_DIR},
    {.path = "etc/.wh.gone"},
    {.path = "etc/motd", .data = "second\n"},
};
static const struct ld_entry app_entries[] = {
    {.path = "app", .type = LD_ENTRY_DIR},
    {.path = "app/run", .data = "run\n", .mode = 0755},
    {.path = "data", .type = LD_ENTRY_DIR, .mode = 0770, .uid = 5, .gid = 6},
    {.path = "data/seed", .data = "seed\n", .uid = 5, .gid = 6},
    {.path = "data/sub", .type = LD_ENTRY_DIR},
    {.path = "data/sub/file", .data = "sub\n"},
};

static struct ld_blob make_usual(size_t n_layers, const char *ref, const char *config)
{
    struct ld_blob layers[] = {ld_make_tar(base_entries, LD_ARRAY_LEN(base_entries)),
                               ld_make_tar(upper_entries, LD_ARRAY_LEN(upper_entries)),
                               ld_make_tar(app_entries, LD_ARRAY_LEN(app_entries))};
    const char *refs[] = {ref, NULL};
    struct ld_image_spec spec = {
        .filter = "gzip", .refs = refs, .config = config, .layers = layers, .n_layers = n_layers};
    struct ld_blob archive = ld_make_image(&spec, 1);

    for (size_t i = 0; i < LD_ARRAY_LEN(layers); i++)
        ld_blob_done(&layers[i]);
    return archive;
}

struct ld_blob ld_make_base(void)
{
    return make_usual(2, "docker.io/library/base:latest", "'Cmd':['/bin/tool']");
}

struct ld_blob ld_make_app(void)
{
    return make_usual(3, "docker.io/library/app:latest",
                      "'Entrypoint':['/app/run'],'Cmd':['-v'],'Env':['PATH=/bin','A=b'],"
                      "'User':'7:8','WorkingDir':'/app','Labels':{'team':'storage'},"
                      "'Volumes':{'/data':{}},'ExposedPorts':{'80/tcp':{}},'StopSignal':'SIGINT'");
}
