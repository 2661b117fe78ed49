/* What images and layers hold: /files of both, /changes between two images. */
#include <fcntl.h>
#include <string.h>

#include <cjson/cJSON.h>

#include "daemon/base/buf.h"
#include "daemon/base/mem.h"
#include "tests/lib/api.h"

/* "KIND PATH\n" of each item; where there is no kind, the type. By pages of `limit`, 0: at once. */
static struct ld_blob list(struct ld_client *c, const char *target, int limit)
{
    struct ld_buf text = LD_BUF_INIT(1 << 20);
    struct ld_text next = {""};
    char sep = strchr(target, '?') ? '&' : '?';

    do {
        autofree char *page =
            limit ? ld_asprintf("%c%slimit=%d", sep, next.s, limit) : ld_strdup("");
        const cJSON *json = ld_want(c, 200, "GET", NULL, "%s%s", target, page);
        const cJSON *item;

        cJSON_ArrayForEach (item, ld_at(json, "items")) {
            const char *kind = cJSON_GetStringValue(cJSON_GetObjectItem(item, "kind"));

            ld_buf_addf(&text, "%s %s\n", kind ? kind : ld_str(item, "type"), ld_str(item, "path"));
        }
        next = (struct ld_text){""};
        if (!ld_is_null(json, "next"))
            next = ld_textf("after=%s&", ld_str(json, "next"));
    } while (next.s[0]);
    return (struct ld_blob){.data = ld_buf_take(&text)};
}

static void expect_list(struct ld_client *c, const char *target, const char *want)
{
    for (int limit = 0; limit < 3; limit++) {
        struct ld_blob got = list(c, target, limit);

        cr_expect_str_eq(got.data, want, "%s, pages of %d: %s", target, limit, got.data);
        ld_blob_done(&got);
    }
}

static struct ld_text top_layer(struct ld_client *c, const char *image)
{
    return ld_textf(
        "%s", ld_str(ld_want(c, 200, "GET", NULL, "/v1/images/%s", image), "layers.0.chain_id"));
}

LD_API_TEST(image_files, are_what_a_container_shows)
{
    struct ld_blob listed;
    struct ld_text at;
    const cJSON *json, *item;

    ld_have_app(c);
    (void)ld_create(c, "web", "app", "'read_only':true");
    at = ld_mount(c, "web");
    listed = list(c, "/v1/images/app/files", 0);
    ld_test_write(AT_FDCWD, "/mnt/listed", listed.data);
    ld_test_sh(
        "cd %s && find . -xdev ! -path './data/*' -printf '%%y /%%P\\n' | "
        "sed 's/^f /file /; s/^d /directory /; s/^l /symlink /; s/^p /fifo /; s/^c /char_device /; "
        "s/^b /block_device /; s/^s /socket /' | LC_ALL=C sort >/mnt/found; "
        "grep -v ' /data/' /mnt/listed | LC_ALL=C sort | diff - /mnt/found",
        at.s);
    json = ld_want(c, 200, "GET", NULL, "/v1/images/app/files?after=/bin&limit=1000");
    cJSON_ArrayForEach (item, ld_at(json, "items")) {
        cr_expect(strncmp(ld_str(item, "layer"), "sha256:", 7) == 0);
        cr_expect_str_neq(ld_str(item, "path"), "/bin");
    }
    ld_unmount(c, "web");
    for (int limit = 1; limit < 3; limit++) {
        struct ld_blob paged = list(c, "/v1/images/app/files", limit);

        cr_expect_str_eq(paged.data, listed.data);
        ld_blob_done(&paged);
    }
    ld_blob_done(&listed);
}

LD_API_TEST(image_files, name_the_layer_that_gives_them)
{
    struct ld_text top;
    const cJSON *item;
    int own = 0;

    ld_have_app(c);
    top = top_layer(c, "app");
    cJSON_ArrayForEach (item,
                        ld_at(ld_want(c, 200, "GET", NULL, "/v1/images/app/files"), "items")) {
        bool is_own = strcmp(ld_str(item, "layer"), top.s) == 0;

        own += is_own;
        if (strncmp(ld_str(item, "path"), "/app/", 5) == 0)
            cr_expect(is_own, "%s", ld_str(item, "path"));
    }
    cr_expect_gt(own, 0);
}

LD_API_TEST(image_changes, are_those_of_the_layers_between)
{
    struct ld_text top;
    struct ld_blob layer;
    autofree char *target = NULL;

    ld_have_base(c);
    ld_have_app(c);
    top = top_layer(c, "app");
    target = ld_asprintf("/v1/layers/%s/files", top.s);
    layer = list(c, target, 0);
    cr_expect(strstr(layer.data, "added /app\n"), "%s", layer.data);
    expect_list(c, target, layer.data);
    expect_list(c, "/v1/images/app/changes?since=base", layer.data);
    expect_list(c, "/v1/images/app/changes?since=app", "");
    ld_blob_done(&layer);
    layer = list(c, "/v1/images/base/changes?since=app", 0);
    cr_expect(strstr(layer.data, "deleted /app\n"), "%s", layer.data);
    cr_expect_null(strstr(layer.data, "added /app"));
    ld_blob_done(&layer);
}

/* The oracle is a container: of the one image it is made into the other. */
LD_API_TEST(image_changes, are_those_of_a_container_that_became_the_other)
{
    struct ld_blob told, wanted;
    struct ld_text at;

    ld_have_base(c);
    (void)ld_create(c, "web", "base", NULL);
    at = ld_mount(c, "web");
    ld_test_sh("cd %s && rm -r usr && echo new > etc/motd && mkdir -p srv/deep && ln etc/motd "
               "srv/deep/two "
               "&& ln -sfn other bin/link && touch -d @99 etc/passwd",
               at.s);
    ld_unmount(c, "web");
    ld_test_sh("curl -sf --unix-socket %s http://x/v1/containers/web/export | curl -sf "
               "--unix-socket %s -T - "
               "-X POST 'http://x/v1/images/import?format=rootfs&ref=flat' >/dev/null",
               d->socket, d->socket);
    wanted = list(c, "/v1/containers/web/changes", 0);
    told = list(c, "/v1/images/flat/changes?since=base", 0);
    cr_expect_str_eq(told.data, wanted.data);
    cr_expect(strstr(told.data, "deleted /usr\n"));
    ld_blob_done(&told);
    ld_blob_done(&wanted);
}

LD_API_TEST(contents, refuse_what_is_not_there_or_not_clear)
{
    (void)ld_want_error(c, "not_found", "GET", NULL, "/v1/images/none/files");
    (void)ld_want_error(c, "not_found", "GET", NULL, "/v1/images/none/changes?since=none");
    (void)ld_want_error(c, "not_found", "GET", NULL, "/v1/layers/ffffffff/files");
    ld_have_base(c);
    (void)ld_want_error(c, "not_found", "GET", NULL, "/v1/images/base/changes?since=none");
    (void)ld_want_error(c, "invalid", "GET", NULL, "/v1/images/base/changes");
    (void)ld_want_error(c, "invalid", "GET", NULL, "/v1/images/base/changes?since=base&limit=0");
    (void)ld_want_error(c, "invalid", "GET", NULL, "/v1/images/base/files?after=bin");
    (void)ld_want_error(c, "invalid", "GET", NULL, "/v1/layers/abcd/files?limit=x");
}

LD_API_TEST(contents, of_damaged_layers_are_not_told)
{
    struct ld_text top;

    ld_have_base(c);
    ld_have_app(c);
    top = top_layer(c, "base");
    ld_daemon_stop(d);
    ld_test_sh("cd %s/layers && rm -rf $(ls -d [1-9]* | grep -v '[.]' | sort -n | sed -n 2p)",
               d->data_root);
    ld_daemon_again(d);
    (void)ld_want_error(c, "corrupt", "GET", NULL, "/v1/images/base/files");
    (void)ld_want_error(c, "corrupt", "GET", NULL, "/v1/images/app/changes?since=base");
    (void)ld_want_error(c, "corrupt", "GET", NULL, "/v1/layers/%s/files", top.s);
}

/* Nobody waits for the listing: the layers are read on although the image goes. */
LD_API_TEST(contents, of_an_image_that_goes_meanwhile_are_whole)
{
    struct ld_stream *stream;

    ld_test_sh("mkdir /mnt/many && cd /mnt/many && seq 1 30000 | xargs touch && tar -cf "
               "/mnt/many.tar . && "
               "curl -sf --unix-socket %s -T /mnt/many.tar -X POST "
               "'http://x/v1/images/import?format=rootfs&ref=many' >/dev/null",
               d->socket);
    stream = ld_stream_open(d->socket, "/v1/images/many/files");
    cr_assert(ld_stream_wait(stream, "\"/1\"", 30));
    (void)ld_want(c, 204, "DELETE", NULL, "/v1/images/many");
    cr_expect(ld_stream_wait(stream, "\"/9999\"", 30));
    cr_expect(ld_stream_wait(stream, "\"next\":null", 30));
    ld_stream_close(stream);
    ld_wait_reaped(d);
}
