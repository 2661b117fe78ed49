/* Images in the trash: kept with names and layers, counted there, restored, deleted. */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <cjson/cJSON.h>

#include "daemon/base/fdio.h"
#include "daemon/base/mem.h"
#include "tests/lib/api.h"

static struct ld_daemon *keeping(const char *settings)
{
    static const char *const args[] = {"--config", "/mnt/layerd.conf", NULL};

    ld_test_sh("umask 022; printf '[trash]\\n%s\\n' >layerd.conf", settings);
    return ld_daemon_start("data", args);
}

#define KEEPING_TEST(settings, sentence)                                                           \
    static void keeping_##sentence(struct ld_daemon *d, struct ld_client *c);                      \
    LD_TEST(trash_images, sentence)                                                                \
    {                                                                                              \
        struct ld_daemon *d = keeping(settings);                                                   \
        keeping_##sentence(d, d->client);                                                          \
        ld_api_finish(d);                                                                          \
    }                                                                                              \
    static void keeping_##sentence(struct ld_daemon *d __attribute__((unused)),                    \
                                   struct ld_client *c __attribute__((unused)))

#define HOUR "keep_images = 1h"

static int n_listed(struct ld_client *c, const char *query)
{
    return ld_count(ld_want(c, 200, "GET", NULL, "/v1/trash%s", query), "items");
}

static int n_images(struct ld_client *c)
{
    return ld_count(ld_want(c, 200, "GET", NULL, "/v1/images"), "items");
}

static struct ld_text image_id(struct ld_client *c, const char *name)
{
    return ld_textf("%s", ld_str(ld_want(c, 200, "GET", NULL, "/v1/images/%s", name), "id"));
}

static int64_t image_size(struct ld_client *c, const char *name)
{
    return ld_int(ld_want(c, 200, "GET", NULL, "/v1/images/%s", name), "size");
}

static int64_t df(struct ld_client *c, const char *member)
{
    return ld_int(ld_want(c, 200, "GET", NULL, "/v1/df"), member);
}

KEEPING_TEST(HOUR, are_found_nowhere_else_and_come_back_as_they_were)
{
    struct ld_text id, tree;
    int64_t size;
    cJSON *json;

    ld_have_base(c);
    id = image_id(c, "base");
    size = image_size(c, "base");
    (void)ld_create(c, "before", "base", NULL);
    tree = ld_tree_digest(ld_mount(c, "before").s);
    (void)ld_want(c, 204, "DELETE", NULL, "/v1/containers/before?force=1");
    (void)ld_want(c, 200, "POST", "{'ref':'ghcr.io/b/b:2'}", "/v1/images/base/tag");
    ld_wait_reaped(d);
    ld_df_is_du(d, c);
    json = ld_want(c, 200, "DELETE", NULL, "/v1/images/%s?force=1&dry_run=1", id.s);
    cr_expect_eq(ld_count(json, "would_remove"), 3, "two names, the image");
    cr_expect_eq(ld_int(json, "bytes"), size);
    (void)ld_want(c, 204, "DELETE", NULL, "/v1/images/%s?force=1", id.s);

    for (int i = 0; i < 2; i++) {
        cr_expect_eq(n_images(c), 0);
        (void)ld_want_error(c, "not_found", "GET", NULL, "/v1/images/base");
        (void)ld_want_error(c, "not_found", "GET", NULL, "/v1/images/%s", id.s);
        (void)ld_want_error(c, "not_found", "GET", NULL, "/v1/images/%.15s", id.s);
        (void)ld_want_error(c, "not_found", "POST", "{'ref':'x'}", "/v1/images/%s/tag", id.s);
        (void)ld_want_error(c, "not_found", "DELETE", NULL, "/v1/images/%s", id.s);
        (void)ld_want_error(c, "not_found", "POST", ld_textf("{'image':'%s'}", id.s).s,
                            "/v1/containers");
        json = ld_want(c, 200, "GET", NULL, "/v1/df");
        cr_expect_eq(ld_int(json, "layers.count"), 0);
        cr_expect_eq(ld_int(json, "layers.bytes"), 0);
        cr_expect_eq(ld_int(json, "layers.unused"), 0);
        cr_expect_eq(ld_int(json, "trash.bytes"), size);
        cr_expect_eq(ld_count(json, "images"), 0);
        ld_df_is_du(d, c);
        cr_expect_eq(ld_int(ld_want(c, 200, "GET", NULL, "/v1/info"), "counts.images"), 0);
        json = ld_want(c, 200, "GET", NULL, "/v1/layers");
        cr_expect_eq(ld_count(json, "items"), 2, "they are there");
        cr_expect_eq(ld_int(json, "items.0.images"), 0, "for no image");
        json = ld_want(c, 200, "GET", NULL, "/v1/trash?size=1");
        cr_assert_eq(ld_count(json, "items"), 1);
        cr_expect_str_eq(ld_str(json, "items.0.kind"), "image");
        cr_expect_str_eq(ld_str(json, "items.0.id"), id.s);
        cr_expect_str_eq(ld_str(json, "items.0.name"), "base:latest");
        cr_expect_str_eq(ld_str(json, "items.0.names.1"), "ghcr.io/b/b:2");
        cr_expect_eq(ld_int(json, "items.0.bytes"), size);
        cr_expect(ld_bool(json, "items.0.restorable"));
        cr_expect_eq(n_listed(c, "?filter=kind=image&filter=name=ghcr.io/*"), 1);
        cr_expect_eq(n_listed(c, "?filter=name=base*"), 1);
        cr_expect_eq(n_listed(c, "?filter=name=other*"), 0);
        ld_daemon_kill(d);
        ld_daemon_again(d);
    }
    json = ld_want(c, 200, "POST", NULL, "/v1/trash/ghcr.io%%2Fb%%2Fb:2/restore");
    cr_expect_str_eq(ld_str(json, "kind"), "image");
    cr_expect_str_eq(ld_str(json, "id"), id.s);
    cr_expect_str_eq(ld_str(json, "name"), "base:latest");
    cr_expect_eq(ld_count(json, "names"), 2);
    cr_expect_eq(ld_count(json, "names_taken"), 0);
    (void)ld_want_error(c, "not_found", "POST", NULL, "/v1/trash/base/restore");
    cr_expect_eq(n_listed(c, ""), 0);
    cr_expect_eq(df(c, "layers.bytes"), size);
    cr_expect_eq(df(c, "trash.bytes"), 0);
    ld_df_is_du(d, c);
    (void)ld_create(c, "after", "ghcr.io/b/b:2", NULL);
    cr_expect_str_eq(ld_tree_digest(ld_mount(c, "after").s).s, tree.s);
    ld_unmount(c, "after");
    json = ld_want(c, 200, "POST", NULL, "/v1/check");
    cr_expect_eq(ld_count(json, "findings"), 0);
}

KEEPING_TEST(HOUR, leave_out_names_that_others_have_by_now)
{
    struct ld_text id;
    cJSON *json;

    ld_have_base(c);
    ld_have_app(c);
    id = image_id(c, "base");
    (void)ld_want(c, 200, "POST", "{'ref':'b:2'}", "/v1/images/base/tag");
    (void)ld_want(c, 204, "DELETE", NULL, "/v1/images/%s?force=1", id.s);
    (void)ld_want(c, 200, "POST", "{'ref':'b:2'}", "/v1/images/app/tag");
    (void)ld_want_error(c, "exists", "POST", "{'name':'b:2'}", "/v1/trash/base/restore");
    (void)ld_want_error(c, "invalid", "POST", "{'name':'/'}", "/v1/trash/base/restore");
    (void)ld_want_error(c, "invalid", "POST", ld_textf("{'name':'x@%s'}", id.s).s,
                        "/v1/trash/base/restore");
    cr_expect_eq(n_listed(c, ""), 1, "what was refused is there as before");
    json = ld_want(c, 200, "POST", NULL, "/v1/trash/base/restore");
    cr_expect_str_eq(ld_str(json, "names.0"), "base:latest");
    cr_expect_str_eq(ld_str(json, "names_taken.0"), "b:2");
    cr_expect_str_eq(image_id(c, "base").s, id.s);
    cr_expect_str_neq(image_id(c, "b:2").s, id.s);

    (void)ld_want(c, 204, "DELETE", NULL, "/v1/images/base");
    (void)ld_want(c, 200, "POST", "{'ref':'base'}", "/v1/images/app/tag");
    json = ld_want(c, 200, "POST", NULL, "/v1/trash/%.15s/restore", id.s);
    cr_expect(ld_is_null(json, "name"));
    cr_expect_eq(ld_count(json, "names"), 0);
    json = ld_want(c, 200, "GET", NULL, "/v1/images?filter=dangling=1");
    cr_assert_eq(ld_count(json, "items"), 1);
    cr_expect_str_eq(ld_str(json, "items.0.id"), id.s);

    (void)ld_want(c, 204, "DELETE", NULL, "/v1/images/%s", id.s);
    json = ld_want(c, 200, "POST", "{'name':'old'}", "/v1/trash/%s/restore", id.s);
    cr_expect_str_eq(ld_str(json, "name"), "old:latest");
    cr_expect_str_eq(image_id(c, "old").s, id.s);
}

KEEPING_TEST(HOUR, live_again_when_they_are_imported)
{
    struct ld_text id, imported_at;
    struct ld_blob archive = ld_make_base();
    cJSON *json;

    json = ld_import(c, &archive, "");
    id = image_id(c, "base");
    imported_at =
        ld_textf("%s", ld_str(ld_want(c, 200, "GET", NULL, "/v1/images/base"), "imported_at"));
    (void)ld_want(c, 200, "POST", "{'ref':'b:2'}", "/v1/images/base/tag");
    (void)ld_want(c, 204, "DELETE", NULL, "/v1/images/%s?force=1", id.s);
    json = ld_import(c, &archive, "");
    cr_expect_eq(ld_int(json, "layers.added"), 0);
    cr_expect_eq(ld_int(json, "layers.reused"), 2);
    json = ld_want(c, 200, "GET", NULL, "/v1/images/base");
    cr_expect_str_eq(ld_str(json, "id"), id.s);
    cr_expect_eq(ld_count(json, "refs"), 1, "only what it was imported under");
    cr_expect_gt(strcmp(ld_str(json, "imported_at"), imported_at.s), 0);
    cr_expect_eq(n_listed(c, ""), 0);
    cr_expect_eq(n_images(c), 1);
    (void)ld_want_error(c, "not_found", "POST", NULL, "/v1/trash/%s/restore", id.s);
    ld_df_is_du(d, c);

    /* Also when it was to be deleted just now. */
    for (int i = 0; i < 10; i++) {
        (void)ld_want(c, 204, "DELETE", NULL, "/v1/images/base");
        (void)ld_want(c, 204, "DELETE", NULL, "/v1/trash/%s", id.s);
        (void)ld_import(c, &archive, "");
        cr_expect_str_eq(image_id(c, "base").s, id.s);
        ld_test_sh("grep -q . %s/etc/motd", ld_mount(c, ld_create(c, "web", "base", NULL).s).s);
        (void)ld_want(c, 204, "DELETE", NULL, "/v1/containers/web?force=1");
    }
    ld_blob_done(&archive);
    ld_wait_reaped(d);
    cr_expect_eq(n_images(c), 1);
    ld_df_is_du(d, c);
    cr_expect_eq(ld_count(ld_want(c, 200, "POST", NULL, "/v1/check"), "findings"), 0);
}

static bool lists_no_image(void *c)
{
    return n_listed(c, "?filter=kind=image") == 0;
}

/* A row goes after its directory, of which an image has none. */
static bool lists_nothing(void *c)
{
    return n_listed(c, "") == 0;
}

static bool has_no_layers(void *d)
{
    return ld_data_count(d, "layers") == 1; /* the empty one */
}

static void wait_gone(struct ld_daemon *d)
{
    cr_assert(ld_test_wait(has_no_layers, d, 60));
    ld_wait_reaped(d);
}

KEEPING_TEST(HOUR, share_layers_with_others_that_live_or_not)
{
    int64_t base, app;
    cJSON *json;

    ld_have_base(c);
    ld_have_app(c);
    base = image_size(c, "base");
    app = image_size(c, "app");
    (void)ld_want(c, 204, "DELETE", NULL, "/v1/images/base");
    cr_expect_eq(df(c, "trash.bytes"), 0, "app has its layers");
    cr_expect_eq(df(c, "layers.shared"), 0);
    ld_df_is_du(d, c);
    json = ld_want(c, 200, "DELETE", NULL, "/v1/images/app?dry_run=1");
    cr_expect_eq(ld_int(json, "bytes"), app);
    (void)ld_want(c, 204, "DELETE", NULL, "/v1/images/app");
    cr_expect_eq(df(c, "trash.bytes"), app);
    cr_expect_eq(df(c, "layers.count"), 0);
    ld_df_is_du(d, c);
    json = ld_want(c, 200, "GET", NULL, "/v1/trash?size=1");
    cr_expect_eq(ld_int(json, "items.0.bytes"), 0);
    cr_expect_eq(ld_int(json, "items.1.bytes"), app - base);
    json = ld_want(c, 200, "DELETE", NULL, "/v1/trash/app?dry_run=1");
    cr_expect_eq(ld_int(json, "bytes"), app - base);
    json = ld_want(c, 200, "DELETE", NULL, "/v1/trash?dry_run=1");
    cr_expect_eq(ld_int(json, "bytes"), app);
    cr_expect_eq(ld_count(json, "would_remove"), 2 + 3);
    (void)ld_want(c, 204, "DELETE", NULL, "/v1/trash/app");
    ld_wait_count(d, "layers", 1 + 2 * 2);
    cr_expect_eq(n_listed(c, "?filter=kind=image"), 1);
    ld_wait_count(d, "trash", 0);
    ld_df_is_du(d, c);
    ld_have_app(c);
    cr_expect_eq(df(c, "trash.bytes"), 0);
    cr_expect_eq(df(c, "layers.bytes"), app);
    (void)ld_want(c, 204, "DELETE", NULL, "/v1/images/app");
    (void)ld_want(c, 204, "DELETE", NULL, "/v1/trash");
    wait_gone(d);
    ld_df_is_du(d, c);
}

KEEPING_TEST(HOUR, are_destroyed_when_that_is_asked_for)
{
    cJSON *json;
    int64_t size;

    ld_have_base(c);
    size = image_size(c, "base");
    (void)ld_want_error(c, "invalid", "DELETE", NULL, "/v1/images/base?purge=maybe");
    (void)ld_want(c, 204, "DELETE", NULL, "/v1/images/base?purge=1");
    wait_gone(d);
    ld_have_base(c);
    json = ld_want(c, 200, "POST", NULL, "/v1/images/prune?filter=dangling=0&dry_run=1");
    cr_expect_eq(ld_int(json, "bytes"), size);
    cr_expect_eq(ld_int(json, "trash_bytes"), size);
    json = ld_want(c, 200, "POST", NULL, "/v1/images/prune?filter=dangling=0&purge=1");
    cr_expect_eq(ld_int(json, "bytes"), size);
    cr_expect_eq(ld_int(json, "trash_bytes"), 0);
    wait_gone(d);
    ld_have_base(c);
    json = ld_want(c, 200, "POST", NULL, "/v1/images/prune?filter=dangling=0");
    cr_expect_eq(ld_int(json, "bytes"), size);
    cr_expect_eq(ld_int(json, "trash_bytes"), size);
    cr_expect_eq(n_listed(c, "?filter=kind=image"), 1);
    json = ld_want(c, 200, "POST", NULL, "/v1/images/prune?filter=dangling=0");
    cr_expect_eq(ld_int(json, "objects"), 0, "what is in the trash is no image to prune");
    ld_df_is_du(d, c);
}

KEEPING_TEST(HOUR, change_nothing_for_containers_made_of_them)
{
    struct ld_text id;
    cJSON *json;

    ld_have_base(c);
    id = image_id(c, "base");
    (void)ld_create(c, "web", "base", NULL);
    (void)ld_want_error(c, "in_use", "DELETE", NULL, "/v1/images/base");
    (void)ld_want(c, 204, "DELETE", NULL, "/v1/images/base?force=1");
    ld_test_sh("echo one >%s/etc/one", ld_mount(c, "web").s);
    json = ld_want(c, 200, "GET", NULL, "/v1/containers/web");
    cr_expect_str_eq(ld_str(json, "image.id"), id.s);
    ld_unmount(c, "web");
    cr_expect_eq(ld_count(ld_want(c, 200, "GET", NULL, "/v1/containers/web/changes"), "items"), 2);
    cr_expect_eq(df(c, "trash.bytes"), 0);
    ld_df_is_du(d, c);
    (void)ld_want(c, 204, "DELETE", NULL, "/v1/trash/base");
    cr_assert(ld_test_wait(lists_nothing, c, 60));
    ld_test_sh("grep -q one %s/etc/one", ld_mount(c, "web").s);
    (void)ld_want(c, 204, "DELETE", NULL, "/v1/containers/web?force=1");
    wait_gone(d);
    ld_df_is_du(d, c);
}

/* The first one goes when the second comes: both are larger than the bound, one is not. */
KEEPING_TEST("keep_images = 1h\\nmax_bytes = 1536k", are_bounded_in_what_they_take)
{
    static const char *const refs[2][2] = {{"one:1", NULL}, {"two:1", NULL}};
    cJSON *json;

    for (size_t i = 0; i < 2; i++) {
        autofree char *data = ld_alloc0(1 << 20);
        struct ld_entry file = {.path = "big", .data = data, .len = 1 << 20};
        struct ld_blob layer, archive;

        memset(data, 'a' + (int)i, 1 << 20);
        layer = ld_make_tar(&file, 1);
        archive = ld_make_image(
            &(struct ld_image_spec){.layers = &layer, .n_layers = 1, .refs = refs[i]}, 1);
        (void)ld_import(c, &archive, "");
        ld_blob_done(&layer);
        ld_blob_done(&archive);
    }
    (void)ld_want(c, 204, "DELETE", NULL, "/v1/images/one:1");
    ld_wait_count(d, "layers", 1 + 2 * 2);
    cr_expect_eq(n_listed(c, ""), 1);
    (void)ld_want(c, 204, "DELETE", NULL, "/v1/images/two:1");
    ld_wait_count(d, "layers", 1 + 2);
    ld_wait_count(d, "trash", 0);
    json = ld_want(c, 200, "GET", NULL, "/v1/trash?filter=kind=image");
    cr_assert_eq(ld_count(json, "items"), 1);
    cr_expect_str_eq(ld_str(json, "items.0.name"), "two:1");
    ld_df_is_du(d, c);
    (void)ld_want(c, 201, "POST", "{'name':'data'}", "/v1/volumes");
    ld_test_sh("cd %s/volumes/*; head -c 1048576 /dev/urandom >big; sync big", d->data_root);
    (void)ld_want(c, 204, "DELETE", NULL, "/v1/volumes/data");
    cr_expect(ld_test_wait(lists_no_image, c, 60));
    cr_expect_eq(n_listed(c, "?filter=kind=volume"), 1, "it came last");
}

struct waiting {
    struct ld_daemon *d;
    struct ld_client *c;
};

/* What is removed wakes the reaper. */
static bool is_over(void *arg)
{
    struct waiting *w = arg;

    (void)ld_want(w->c, 201, "POST", "{'name':'x'}", "/v1/volumes");
    (void)ld_want(w->c, 204, "DELETE", NULL, "/v1/volumes/x?purge=1");
    return ld_data_count(w->d, "layers") == 1;
}

KEEPING_TEST("keep_images = 1s", are_deleted_when_their_time_is_over)
{
    struct waiting w = {.d = d, .c = c};

    ld_have_base(c);
    (void)ld_want(c, 204, "DELETE", NULL, "/v1/images/base");
    cr_assert(ld_test_wait(is_over, &w, 60));
    cr_assert(ld_test_wait(lists_nothing, c, 60));
    ld_df_is_du(d, c);
}

/* Removed, restored and deleted in turn, killed at whatever moment: one record, and it is whole. */
KEEPING_TEST(HOUR, survive_a_kill_at_any_moment)
{
    static const char *const asks[] = {
        "DELETE /v1/images/base HTTP/1.1\r\nHost: x\r\n\r\n",
        "POST /v1/trash/base/restore HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
        "DELETE /v1/trash/base HTTP/1.1\r\nHost: x\r\n\r\n",
    };
    int n[3] = {0};

    ld_have_base(c);
    for (int i = 0; i < 24; i++) {
        int fd = ld_raw_connect(d->socket);
        const char *ask = asks[i % (int)LD_ARRAY_LEN(asks)];
        struct timespec t = {.tv_nsec = (i / 3) * 600000L}; /* any moment */
        int living, removed;

        ld_raw_send(fd, ask, strlen(ask));
        (void)nanosleep(&t, NULL);
        ld_daemon_kill(d);
        ld_close(fd);
        ld_daemon_again(d);
        living = n_images(c);
        removed = n_listed(c, "?filter=kind=image");
        cr_expect_leq(living + removed, 1);
        if (living + removed == 0)
            cr_expect_eq(i % 3, 2, "only the last one deletes it");
        n[living ? 0 : removed ? 1 : 2]++;
        if (i % 3 == 2) {
            ld_have_base(c);
            cr_expect_eq(n_images(c), 1);
        } else if (living) {
            (void)ld_want(c, 204, "DELETE", NULL, "/v1/images/base");
        }
    }
    fprintf(stderr, "living %d, in the trash %d, gone %d of 24\n", n[0], n[1], n[2]);
    cr_expect_eq(ld_data_count(d, "quarantine"), 0);
    ld_wait_count(d, "trash", 0);
    ld_df_is_du(d, c);
    cr_expect_eq(ld_count(ld_want(c, 200, "POST", NULL, "/v1/check"), "findings"), 0);
}
