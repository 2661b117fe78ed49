/* daemon/store: layers and images, their references, sharing and release. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "daemon/base/mem.h"
#include "daemon/store/store.h"
#include "tests/lib/env.h"
#include "tests/lib/store.h"

static struct ld_err err;
static struct ld_store *store;
static int root;

static void open_store(void)
{
    root = ld_test_mkdir("root");
    store = ld_test_store(root);
}

static void close_store(void)
{
    ld_store_close(store);
    ld_close(root);
}

#define STORE_TEST(sentence)                                                                       \
    static void body_##sentence(void);                                                             \
    LD_TEST(store_images, sentence)                                                                \
    {                                                                                              \
        open_store();                                                                              \
        body_##sentence();                                                                         \
        close_store();                                                                             \
    }                                                                                              \
    static void body_##sentence(void)

static struct ld_image get_image(const char *id)
{
    struct ld_image image = {0};

    ld_test_ok(ld_store_image_get(store, id, &image, &err), &err);
    return image;
}

static struct ld_removed remove_image(const char *id, const char *ref, bool force)
{
    struct ld_image_remove what = {.id = id, .ref = ref, .force = force};
    struct ld_removed removed = {0};

    ld_test_ok(ld_store_image_remove(store, &LD_WRITE_SELF, &what, &removed, &err), &err);
    return removed;
}

STORE_TEST(keeps_an_image_with_its_chain)
{
    autofree char *id = ld_test_image(store, 1, NULL, 3, "a:latest");
    LD_AUTO(ld_image_done) struct ld_image image = get_image(id);
    LD_AUTO(ld_layer_done) struct ld_layer top = {0};
    LD_AUTO(ld_layer_done) struct ld_layer same = {0};
    struct ld_chain_sids chain;

    cr_assert_eq(image.n_refs, 1);
    cr_assert_str_eq(image.refs[0], "a:latest");
    cr_assert_eq(image.config_len, 2);
    cr_assert_eq(memcmp(image.config, "{}", 3), 0, "a NUL is added");
    cr_assert_neq(image.created_ns, 0);
    ld_test_ok(ld_store_chain(store, image.tip_sid, &chain, &err), &err);
    cr_assert_eq(chain.n, 3);
    cr_assert_eq(chain.sid[0], image.tip_sid);
    cr_assert_eq(chain.damaged, 0);
    ld_test_ok(ld_store_layer_get(store, chain.sid[0], &top, &err), &err);
    cr_assert_eq(top.parent_sid, chain.sid[1]);
    cr_assert_eq(top.bytes, 1000);
    ld_test_ok(ld_store_layer_by_chain(store, top.chain_id, &same, &err), &err);
    cr_assert_eq(same.sid, top.sid);
    ld_test_ok(ld_store_chain(store, 0, &chain, &err), &err);
    cr_assert_eq(chain.n, 0);
}

STORE_TEST(says_not_found)
{
    struct ld_image image;
    struct ld_layer layer;
    struct ld_chain_sids chain;
    struct ld_removed removed;

    ld_test_fails(ld_store_image_get(store, "sha256:x", &image, &err), &err, LD_E_NOT_FOUND);
    ld_test_fails(ld_store_image_by_ref(store, "a:latest", &image, &err), &err, LD_E_NOT_FOUND);
    ld_test_fails(ld_store_image_by_prefix(store, "abcd", &image, &err), &err, LD_E_NOT_FOUND);
    ld_test_fails(ld_store_layer_get(store, 7, &layer, &err), &err, LD_E_NOT_FOUND);
    ld_test_fails(ld_store_layer_by_chain(store, "x", &layer, &err), &err, LD_E_NOT_FOUND);
    ld_test_fails(ld_store_chain(store, 7, &chain, &err), &err, LD_E_NOT_FOUND);
    ld_test_fails(ld_store_layer_set_damage(store, &LD_WRITE_SELF, 7, "x", &err), &err,
                  LD_E_NOT_FOUND);
    ld_test_fails(ld_store_image_tag(store, &LD_WRITE_SELF, "a", "sha256:x", 0, &err), &err,
                  LD_E_NOT_FOUND);
    ld_test_fails(ld_store_image_remove(store, &LD_WRITE_SELF,
                                        &(struct ld_image_remove){.ref = "a"}, &removed, &err),
                  &err, LD_E_NOT_FOUND);
    ld_test_fails(ld_store_image_remove(store, &LD_WRITE_SELF,
                                        &(struct ld_image_remove){.id = "sha256:x"}, &removed,
                                        &err),
                  &err, LD_E_NOT_FOUND);
}

STORE_TEST(finds_images_by_the_beginning_of_their_id)
{
    static const char *const hex[] = {"abcd1", "abcd2", "abce1"};
    LD_AUTO(ld_image_done) struct ld_image image = {0};

    for (size_t i = 0; i < LD_ARRAY_LEN(hex); i++) {
        autofree char *id = ld_asprintf("sha256:%s%059d", hex[i], 0);
        struct ld_image_add add = {.image = {.id = id, .config = (char[]){"{}"}, .config_len = 2}};

        ld_test_ok(ld_store_image_add(store, &LD_WRITE_SELF, &add, 1, &err), &err);
    }
    ld_test_ok(ld_store_image_by_prefix(store, "abce", &image, &err), &err);
    cr_assert_eq(strncmp(image.id, "sha256:abce1", 12), 0);
    ld_image_done(&image);
    ld_test_ok(ld_store_image_by_prefix(store, "sha256:abcd2", &image, &err), &err);
    ld_test_fails(ld_store_image_by_prefix(store, "abcd", &image, &err), &err, LD_E_CONFLICT);
    cr_assert_not_null(strstr(err.details, "\"candidates\":[\"sha256:abcd1"));
    cr_assert_not_null(strstr(err.details, "sha256:abcd2"));
    cr_assert_null(strstr(err.details, "abce"));
    ld_test_fails(ld_store_image_by_prefix(store, "abc", &image, &err), &err, LD_E_NOT_FOUND);
    ld_test_fails(ld_store_image_by_prefix(store, "abcd*", &image, &err), &err, LD_E_NOT_FOUND);
}

STORE_TEST(moves_a_reference_and_leaves_the_old_image_dangling)
{
    autofree char *a = ld_test_image(store, 1, NULL, 1, "x:1");
    autofree char *b = ld_test_image(store, 2, NULL, 1, "x:1");
    LD_AUTO(ld_image_page_done) struct ld_image_page page = {0};
    LD_AUTO(ld_image_done) struct ld_image by_ref = {0};

    ld_test_ok(ld_store_image_by_ref(store, "x:1", &by_ref, &err), &err);
    cr_assert_str_eq(by_ref.id, b);
    ld_test_ok(ld_store_image_list(store, &(struct ld_image_query){.dangling = 1}, &page, &err),
               &err);
    cr_assert_eq(page.n, 1);
    cr_assert_str_eq(page.item[0].id, a);
    cr_assert_eq(page.item[0].n_refs, 0);
    ld_image_page_done(&page);
    ld_test_ok(ld_store_image_list(store, &(struct ld_image_query){.dangling = -1}, &page, &err),
               &err);
    cr_assert_eq(page.n, 1);
    ld_image_page_done(&page);
    ld_test_ok(ld_store_image_list(store, &(struct ld_image_query){.ref_glob = "x:*"}, &page, &err),
               &err);
    cr_assert_eq(page.n, 1);
}

STORE_TEST(pages_images)
{
    LD_AUTO(ld_image_page_done) struct ld_image_page page = {0};
    struct ld_image_query query = {.limit = 2};
    size_t n = 0;

    for (unsigned i = 0; i < 5; i++)
        free(ld_test_image(store, i, NULL, 1, NULL));
    do {
        ld_image_page_done(&page);
        ld_test_ok(ld_store_image_list(store, &query, &page, &err), &err);
        n += page.n;
        query.after = page.next;
    } while (page.next != 0);
    cr_assert_eq(n, 5);
}

STORE_TEST(tags_and_checks_the_version)
{
    autofree char *id = ld_test_image(store, 1, NULL, 1, "a:1");
    LD_AUTO(ld_image_done) struct ld_image image = get_image(id);
    LD_AUTO(ld_image_done) struct ld_image now = {0};

    ld_test_ok(ld_store_image_tag(store, &LD_WRITE_SELF, "a:2", id, image.version, &err), &err);
    now = get_image(id);
    cr_assert_eq(now.n_refs, 2);
    cr_assert_gt(now.version, image.version);
    ld_test_fails(ld_store_image_tag(store, &LD_WRITE_SELF, "a:3", id, image.version, &err), &err,
                  LD_E_PRECONDITION);
    ld_test_ok(ld_store_image_tag(store, &LD_WRITE_SELF, "a:2", id, 0, &err), &err);
    ld_image_done(&image);
    image = get_image(id);
    cr_assert_eq(image.version, now.version, "nothing has changed");
}

/* ---- adding ---- */

STORE_TEST(asks_to_plan_again_when_the_ground_has_moved)
{
    autofree char *id = ld_test_image(store, 1, NULL, 2, "a:1");
    LD_AUTO(ld_image_done) struct ld_image image = get_image(id);
    LD_AUTO(ld_layer_done) struct ld_layer top = {0};
    struct ld_layer_add layers[2] = {{.how = LD_LAYER_REUSED}, {.how = LD_LAYER_REUSED}};
    struct ld_image_add add = {
        .image = {.id = (char[]){"sha256:other"}, .config = (char[]){"[]"}, .config_len = 2},
        .layers = layers,
        .n_layers = 1};
    struct ld_chain_sids chain;

    ld_test_ok(ld_store_chain(store, image.tip_sid, &chain, &err), &err);
    ld_test_ok(ld_store_layer_get(store, chain.sid[0], &top, &err), &err);

    layers[0].layer.sid = 4711; /* gone */
    ld_test_fails(ld_store_image_add(store, &LD_WRITE_SELF, &add, 1, &err), &err, LD_E_CONFLICT);
    layers[0].layer.sid = chain.sid[0]; /* on another layer */
    ld_test_fails(ld_store_image_add(store, &LD_WRITE_SELF, &add, 1, &err), &err, LD_E_CONFLICT);
    layers[0] = (struct ld_layer_add){.how = LD_LAYER_NEW}; /* somebody was faster */
    layers[0].layer = (struct ld_layer){.sid = 4711, .chain_id = top.chain_id};
    ld_test_fails(ld_store_image_add(store, &LD_WRITE_SELF, &add, 1, &err), &err, LD_E_CONFLICT);

    layers[0] = (struct ld_layer_add){.how = LD_LAYER_REUSED};
    layers[0].layer.sid = chain.sid[1];
    layers[1].layer.sid = chain.sid[0];
    add.n_layers = 2;
    ld_test_ok(ld_store_layer_set_damage(store, &LD_WRITE_SELF, chain.sid[0], "gone", &err), &err);
    ld_test_fails(ld_store_image_add(store, &LD_WRITE_SELF, &add, 1, &err), &err, LD_E_CONFLICT);
    ld_test_ok(ld_store_chain(store, image.tip_sid, &chain, &err), &err);
    cr_assert_eq(chain.damaged, chain.sid[0]);

    layers[1].how = LD_LAYER_REPAIRED;
    layers[1].layer.bytes = 77;
    ld_test_ok(ld_store_image_add(store, &LD_WRITE_SELF, &add, 1, &err), &err);
    ld_layer_done(&top);
    ld_test_ok(ld_store_layer_get(store, chain.sid[0], &top, &err), &err);
    cr_assert_null(top.damage);
    cr_assert_eq(top.bytes, 77);
}

STORE_TEST(adds_all_images_of_an_archive_or_none)
{
    struct ld_layer_add one[1] = {{.how = LD_LAYER_NEW}};
    struct ld_layer_add two[2] = {{.how = LD_LAYER_REUSED}, {.how = LD_LAYER_NEW}};
    struct ld_image_add adds[2] = {
        {.image = {.id = (char[]){"sha256:1"}, .config = (char[]){"{}"}, .config_len = 2},
         .layers = one,
         .n_layers = 1},
        {.image = {.id = (char[]){"sha256:2"}, .config = (char[]){"{}"}, .config_len = 2},
         .layers = two,
         .n_layers = 2}};
    struct ld_store_sums sums;

    one[0].layer = (struct ld_layer){.sid = 10, .chain_id = (char[]){"c1"}, .bytes = 5};
    two[0].layer.sid = 10;
    two[1].layer = (struct ld_layer){.sid = 11, .chain_id = (char[]){"c1"}, .bytes = 6};
    ld_test_fails(ld_store_image_add(store, &LD_WRITE_SELF, adds, 2, &err), &err, LD_E_CONFLICT);
    ld_test_ok(ld_store_sums(store, &sums, &err), &err);
    cr_assert_eq(sums.images + sums.layers, 0);
    two[1].layer.chain_id = (char[]){"c2"};
    ld_test_ok(ld_store_image_add(store, &LD_WRITE_SELF, adds, 2, &err), &err);
    ld_test_ok(ld_store_image_add(store, &LD_WRITE_SELF, adds, 0, &err), &err);
    ld_test_ok(ld_store_sums(store, &sums, &err), &err);
    cr_assert_eq(sums.images, 2);
    cr_assert_eq(sums.layers, 2);
    cr_assert_eq(sums.layer_bytes, 11);
    cr_assert_eq(sums.shared_bytes, 5);
}

STORE_TEST(takes_the_same_image_again)
{
    autofree char *a = ld_test_image(store, 1, NULL, 1, "a:1");
    LD_AUTO(ld_image_done) struct ld_image image = get_image(a);
    struct ld_layer_add layer = {.how = LD_LAYER_REUSED, .layer.sid = image.tip_sid};
    const char *ref = "b:1";
    struct ld_image_add add = {.image = {.id = a,
                                         .config = (char[]){"{}"},
                                         .config_len = 2,
                                         .manifest = (char[]){"M"},
                                         .manifest_len = 1},
                               .layers = &layer,
                               .n_layers = 1,
                               .refs = &ref,
                               .n_refs = 1};

    ld_test_ok(ld_store_image_add(store, &LD_WRITE_SELF, &add, 1, &err), &err);
    ld_image_done(&image);
    image = get_image(a);
    cr_assert_eq(image.n_refs, 2);
    cr_assert_eq(image.manifest_len, 1, "the first manifest that comes is kept");
    add.n_layers = 0;
    ld_test_fails(ld_store_image_add(store, &LD_WRITE_SELF, &add, 1, &err), &err, LD_E_CONFLICT);
}

STORE_TEST(limits_the_depth_of_an_image)
{
    autofree struct ld_layer_add *layers = ld_alloc0(401 * sizeof(*layers));
    struct ld_image_add add = {
        .image = {.id = (char[]){"sha256:1"}, .config = (char[]){"{}"}, .config_len = 2},
        .layers = layers,
        .n_layers = 401};
    struct ld_chain_sids chain;

    for (size_t i = 0; i < 401; i++)
        layers[i].layer.sid = i + 1;
    ld_test_fails(ld_store_image_add(store, &LD_WRITE_SELF, &add, 1, &err), &err, LD_E_BAD_CONTENT);
    add.n_layers = 400;
    ld_test_ok(ld_store_image_add(store, &LD_WRITE_SELF, &add, 1, &err), &err);
    ld_test_ok(ld_store_chain(store, 400, &chain, &err), &err);
    cr_assert_eq(chain.n, 400);
    cr_assert_eq(chain.sid[399], 1);
}

/* ---- removing ---- */

STORE_TEST(removes_an_image_with_the_layers_that_only_it_has)
{
    autofree char *base = ld_test_image(store, 1, NULL, 2, "base:1");
    LD_AUTO(ld_trash_page_done) struct ld_trash_page trash = {0};
    struct ld_layer_page layers;

    free(ld_test_image(store, 2, base, 2, "app:1"));
    LD_AUTO(ld_removed_done) struct ld_removed removed = remove_image(NULL, "app:1", false);
    autofree char *events = ld_test_events(store);

    cr_assert(removed.is_removed);
    cr_assert_eq(removed.n, 2);
    cr_assert_eq(removed.layer_bytes, 2000);
    cr_assert_eq(removed.n_untagged, 1);
    cr_assert_eq(removed.item[0].place, LD_PLACE_LAYERS);
    cr_assert_eq(removed.item[0].sid, 4, "from the top down");
    ld_test_ok(ld_store_trash_list(store, &(struct ld_trash_query){0}, &trash, &err), &err);
    cr_assert_eq(trash.n, 2);
    cr_assert_str_eq(trash.item[0].kind, "layer");
    ld_test_ok(ld_store_layer_list(store, 0, 0, &layers, &err), &err);
    cr_assert_eq(layers.n, 2);
    ld_layer_page_done(&layers);
    cr_assert_str_eq(events,
                     "image.import image.tag image.import image.tag image.untag image.remove");
}

STORE_TEST(only_untags_while_there_are_other_references)
{
    autofree char *id = ld_test_image(store, 1, NULL, 1, "a:1");
    LD_AUTO(ld_removed_done) struct ld_removed removed = {0};
    struct ld_image_remove what = {.ref = "a:2", .keep = true};

    ld_test_ok(ld_store_image_tag(store, &LD_WRITE_SELF, "a:2", id, 0, &err), &err);
    removed = remove_image(NULL, "a:1", false);
    cr_assert_not(removed.is_removed);
    cr_assert_eq(removed.n, 0);
    ld_removed_done(&removed);
    ld_test_ok(ld_store_image_remove(store, &LD_WRITE_SELF, &what, &removed, &err), &err);
    cr_assert_not(removed.is_removed, "it was to be kept");
    ld_removed_done(&removed);
    removed = remove_image(id, NULL, false);
    cr_assert(removed.is_removed);
}

STORE_TEST(wants_force_for_an_image_with_several_references)
{
    autofree char *id = ld_test_image(store, 1, NULL, 1, "a:1");
    struct ld_image_remove what = {.id = id};
    LD_AUTO(ld_removed_done) struct ld_removed removed = {0};

    ld_test_ok(ld_store_image_tag(store, &LD_WRITE_SELF, "a:2", id, 0, &err), &err);
    ld_test_fails(ld_store_image_remove(store, &LD_WRITE_SELF, &what, &removed, &err), &err,
                  LD_E_CONFLICT);
    what.if_match = 99;
    ld_test_fails(ld_store_image_remove(store, &LD_WRITE_SELF, &what, &removed, &err), &err,
                  LD_E_PRECONDITION);
    removed = remove_image(id, NULL, true);
    cr_assert_eq(removed.n_untagged, 2);
}

STORE_TEST(protects_an_image_that_containers_use)
{
    autofree char *id = ld_test_image(store, 1, NULL, 2, "a:1");
    struct ld_image_remove what = {.ref = "a:1"};
    LD_AUTO(ld_removed_done) struct ld_removed removed = {0};
    LD_AUTO(ld_users_done) struct ld_users users = {0};
    struct ld_container c;

    ld_test_ok(ld_test_container(store, 5, "web", id, NULL, &err), &err);
    ld_test_fails(ld_store_image_remove(store, &LD_WRITE_SELF, &what, &removed, &err), &err,
                  LD_E_IN_USE);
    cr_assert_not_null(strstr(err.details, "\"kind\":\"container\""), "%s", err.details);
    cr_assert_not_null(strstr(err.details, "\"name\":\"web\""));
    ld_test_ok(ld_store_image_users(store, id, &users, &err), &err);
    cr_assert_eq(users.n, 1);
    ld_users_done(&users);

    removed = remove_image(NULL, "a:1", true);
    cr_assert(removed.is_removed);
    cr_assert_eq(removed.n, 0, "the container keeps its layers");
    ld_removed_done(&removed);
    ld_test_ok(ld_store_container_get(store, ld_test_id(5), &c, &err), &err);
    cr_assert_str_eq(c.image_id, id);
    ld_container_done(&c);
    ld_test_ok(ld_store_layer_users(store, 1, &users, &err), &err);
    cr_assert_eq(users.n, 1);
    cr_assert_str_eq(users.item[0].kind, "container");
    ld_test_ok(ld_store_container_remove(store, &LD_WRITE_SELF, ld_test_id(5),
                                         &(struct ld_remove){0}, &removed, &err),
               &err);
    cr_assert_eq(removed.n, 3, "its writable layer and both layers");
}

STORE_TEST(cuts_a_long_list_of_users_to_whole_items)
{
    autofree char *id = ld_test_image(store, 1, NULL, 1, "a:1");
    struct ld_image_remove what = {.ref = "a:1"};
    struct ld_removed removed;
    size_t len;

    for (unsigned i = 10; i < 60; i++)
        ld_test_ok(ld_test_container(store, i, NULL, id, NULL, &err), &err);
    ld_test_fails(ld_store_image_remove(store, &LD_WRITE_SELF, &what, &removed, &err), &err,
                  LD_E_IN_USE);
    len = strlen(err.details);
    cr_assert_gt(len, 500);
    cr_assert_str_eq(err.details + len - 14, "],\"more\":true}");
    cr_assert_not_null(strstr(err.message, "50 containers"));
}

STORE_TEST(sums_up_shared_and_own_bytes)
{
    autofree char *base = ld_test_image(store, 1, NULL, 2, "base:1");
    LD_AUTO(ld_image_usage_page_done) struct ld_image_usage_page page = {0};

    free(ld_test_image(store, 2, base, 3, "app:1"));
    free(ld_test_image(store, 3, NULL, 1, "alone:1"));
    ld_test_ok(ld_store_image_usages(store, 0, 0, &page, &err), &err);
    cr_assert_eq(page.n, 3);
    cr_assert_str_eq(page.item[0].id, base);
    cr_assert_eq(page.item[0].shared, 2000);
    cr_assert_eq(page.item[0].unique, 0);
    cr_assert_eq(page.item[1].shared, 2000);
    cr_assert_eq(page.item[1].unique, 3000);
    cr_assert_eq(page.item[2].unique, 1000);
}

/* ---- the trash ---- */

static ld_sid next_sid(void)
{
    ld_sid sid = 0;

    ld_test_ok(ld_store_take_sid(store, &sid, &err), &err);
    return sid + 1000; /* no layer's: the images above take theirs by themselves */
}

static const int64_t hour_ns = INT64_C(3600) * 1000000000;

/* Into the trash; its sid there. *ret_bytes: what a dry run says before. */
static ld_sid trash_image(const char *id, uint64_t *ret_bytes)
{
    struct ld_image_remove what = {.id = id, .force = true, .keep_ns = hour_ns};
    struct ld_write dry = {.dry_run = true};
    LD_AUTO(ld_removed_done) struct ld_removed removed = {0};
    struct ld_removed_object *last;

    what.trash_sid = next_sid();
    ld_test_ok(ld_store_image_remove(store, &dry, &what, &removed, &err), &err);
    last = &removed.object[removed.n_objects - 1];
    cr_expect_str_eq(last->kind, "image");
    cr_expect(last->is_kept);
    cr_expect_not(last->has_dir);
    if (ret_bytes)
        *ret_bytes = last->bytes;
    ld_removed_done(&removed);
    ld_test_ok(ld_store_image_remove(store, &LD_WRITE_SELF, &what, &removed, &err), &err);
    cr_expect(removed.is_removed);
    cr_expect_eq(removed.n, 0, "nothing moves");
    cr_expect_eq(removed.layer_bytes, 0);
    return what.trash_sid;
}

static struct ld_store_sums get_sums(void)
{
    struct ld_store_sums sums;

    ld_test_ok(ld_store_sums(store, &sums, &err), &err);
    return sums;
}

static uint64_t own_bytes(const char *id)
{
    uint64_t bytes = 0;

    ld_test_ok(ld_store_trash_image_bytes(store, id, &bytes, &err), &err);
    return bytes;
}

static struct ld_removed forget(ld_sid sid)
{
    struct ld_removed removed = {0};

    ld_test_ok(ld_store_trash_forget(store, &LD_WRITE_SELF, &sid, 1, &removed, &err), &err);
    return removed;
}

static struct ld_restored restore(ld_sid sid, const char *name)
{
    struct ld_restored restored = {0};

    ld_test_ok(ld_store_trash_restore(store, &LD_WRITE_SELF, sid, name, &restored, &err), &err);
    return restored;
}

STORE_TEST(finds_an_image_in_the_trash_nowhere_but_there)
{
    autofree char *id = ld_test_image(store, 1, NULL, 2, "a:1");
    LD_AUTO(ld_image_page_done) struct ld_image_page page = {0};
    LD_AUTO(ld_image_usage_page_done) struct ld_image_usage_page usages = {0};
    LD_AUTO(ld_trash_page_done) struct ld_trash_page trash = {0};
    LD_AUTO(ld_users_done) struct ld_users users = {0};
    struct ld_image image;
    struct ld_store_sums sums;
    struct ld_layer layer = {0};
    struct ld_container c = {.id = (char *)ld_test_id(5),
                             .image_id = id,
                             .parent_sid = 2,
                             .upper_sid = 50,
                             .driver = (char[]){"vfs"}};
    uint64_t bytes = 0;
    ld_sid sid;

    ld_test_ok(ld_store_image_tag(store, &LD_WRITE_SELF, "a:2", id, 0, &err), &err);
    sid = trash_image(id, &bytes);
    cr_expect_eq(bytes, 2000);
    ld_test_fails(ld_store_image_get(store, id, &image, &err), &err, LD_E_NOT_FOUND);
    ld_test_fails(ld_store_image_by_ref(store, "a:1", &image, &err), &err, LD_E_NOT_FOUND);
    ld_test_fails(ld_store_image_by_prefix(store, id, &image, &err), &err, LD_E_NOT_FOUND);
    ld_test_fails(ld_store_image_tag(store, &LD_WRITE_SELF, "b:1", id, 0, &err), &err,
                  LD_E_NOT_FOUND);
    ld_test_fails(ld_store_container_add(store, &LD_WRITE_SELF, &c, &err), &err, LD_E_NOT_FOUND);
    for (int dangling = -1; dangling <= 1; dangling++) {
        ld_image_page_done(&page);
        ld_test_ok(
            ld_store_image_list(store, &(struct ld_image_query){.dangling = dangling}, &page, &err),
            &err);
        cr_expect_eq(page.n, 0);
    }
    ld_test_ok(ld_store_image_usages(store, 0, 0, &usages, &err), &err);
    cr_expect_eq(usages.n, 0);
    ld_test_ok(ld_store_layer_users(store, 1, &users, &err), &err);
    cr_expect_eq(users.n, 0);
    sums = get_sums();
    cr_expect_eq(sums.images + sums.refs, 0);
    cr_expect_eq(sums.layers + sums.layer_bytes + sums.layer_inodes + sums.unused_bytes, 0);
    cr_expect_eq(sums.trash_bytes, 2000);
    cr_expect_eq(sums.trash, 1);
    ld_test_ok(ld_store_layer_get(store, 1, &layer, &err), &err);
    ld_layer_done(&layer);

    ld_test_ok(ld_store_trash_list(store, &(struct ld_trash_query){0}, &trash, &err), &err);
    cr_assert_eq(trash.n, 1);
    cr_expect_eq(trash.item[0].sid, sid);
    cr_expect_eq(trash.item[0].place, LD_PLACE_NONE);
    cr_expect_str_eq(trash.item[0].kind, "image");
    cr_expect_str_eq(trash.item[0].owner_name, "a:1");
    cr_assert_eq(trash.item[0].n_refs, 2);
    cr_expect_str_eq(trash.item[0].refs[1], "a:2");
    cr_expect_eq(own_bytes(id), 2000);
}

static ld_sid find_trash(const char *text, const char *ref)
{
    LD_AUTO(ld_trash_done) struct ld_trash trash = {0};

    ld_test_ok(ld_store_trash_find(store, text, ref, &trash, &err), &err);
    return trash.sid;
}

STORE_TEST(finds_in_the_trash_by_id_name_and_prefix)
{
    autofree char *a = ld_test_image(store, 0xa, NULL, 1, "x:1");
    autofree char *b = NULL;
    LD_AUTO(ld_removed_done) struct ld_removed removed = {0};
    struct ld_trash trash;
    ld_sid sid, volume;
    char prefix[80];

    ld_test_ok(ld_store_image_tag(store, &LD_WRITE_SELF, "x:2", a, 0, &err), &err);
    sid = trash_image(a, NULL);
    ld_test_ok(ld_test_volume(store, 77, "x", &err), &err);
    ld_test_ok(ld_store_volume_remove(store, &LD_WRITE_SELF, ld_test_id(77),
                                      &(struct ld_remove){.keep_ns = hour_ns}, &removed, &err),
               &err);
    volume = removed.item[0].sid;
    cr_expect_eq(find_trash(a, NULL), sid);
    cr_expect_eq(find_trash(a + 7, NULL), sid, "without sha256:");
    (void)snprintf(prefix, sizeof(prefix), "%.70s", a);
    cr_expect_eq(find_trash(prefix, NULL), sid);
    cr_expect_eq(find_trash(prefix + 7, NULL), sid);
    cr_expect_eq(find_trash("x:2", "x:2"), sid);
    cr_expect_eq(find_trash("x", NULL), volume);
    cr_expect_eq(find_trash(ld_test_id(77), NULL), volume);
    ld_test_fails(ld_store_trash_find(store, "x", "x:1", &trash, &err), &err, LD_E_CONFLICT);
    ld_test_fails(ld_store_trash_find(store, "sha256:", NULL, &trash, &err), &err, LD_E_NOT_FOUND);
    b = ld_test_image(store, 0xb, NULL, 1, "x:2");
    (void)trash_image(b, NULL);
    ld_test_fails(ld_store_trash_find(store, "x:2", "x:2", &trash, &err), &err, LD_E_CONFLICT);
    cr_expect_eq(find_trash("x:1", "x:1"), sid);
}

STORE_TEST(gives_an_image_back_with_the_names_that_are_free)
{
    autofree char *id = ld_test_image(store, 1, NULL, 2, "a:1");
    autofree char *other = NULL, *events = NULL;
    LD_AUTO(ld_restored_done) struct ld_restored restored = {0};
    LD_AUTO(ld_image_done) struct ld_image before = {0};
    LD_AUTO(ld_image_done) struct ld_image image = {0};
    LD_AUTO(ld_trash_page_done) struct ld_trash_page trash = {0};
    struct ld_store_sums sums;
    ld_sid sid;

    ld_test_ok(ld_store_image_tag(store, &LD_WRITE_SELF, "a:2", id, 0, &err), &err);
    before = get_image(id);
    sid = trash_image(id, NULL);
    other = ld_test_image(store, 2, NULL, 1, "a:1");
    restored = restore(sid, NULL);
    cr_assert_eq(restored.n_refs, 1);
    cr_expect_str_eq(restored.refs[0], "a:2");
    cr_assert_eq(restored.n_taken, 1);
    cr_expect_str_eq(restored.taken[0], "a:1");
    image = get_image(id);
    cr_expect_eq(image.created_ns, before.created_ns);
    cr_expect_gt(image.version, before.version);
    cr_assert_eq(image.n_refs, 1);
    cr_expect_str_eq(image.refs[0], "a:2");
    sums = get_sums();
    cr_expect_eq(sums.layers, 3);
    cr_expect_eq(sums.trash + sums.trash_bytes, 0);
    ld_test_ok(ld_store_trash_list(store, &(struct ld_trash_query){0}, &trash, &err), &err);
    cr_expect_eq(trash.n, 0);
    ld_restored_done(&restored);
    ld_test_fails(ld_store_trash_restore(store, &LD_WRITE_SELF, sid, NULL, &restored, &err), &err,
                  LD_E_NOT_FOUND);

    sid = trash_image(id, NULL);
    ld_test_fails(ld_store_trash_restore(store, &LD_WRITE_SELF, sid, "a:1", &restored, &err), &err,
                  LD_E_EXISTS);
    restored = restore(sid, "b:1");
    ld_image_done(&image);
    image = get_image(id);
    cr_assert_eq(image.n_refs, 1, "under another name, so not under its own");
    cr_expect_str_eq(image.refs[0], "b:1");
    sid = trash_image(id, NULL);
    ld_test_ok(ld_store_trash_purge(store, &LD_WRITE_SELF, sid, &err), &err);
    ld_test_fails(ld_store_trash_restore(store, &LD_WRITE_SELF, sid, NULL, &restored, &err), &err,
                  LD_E_CONFLICT);
    events = ld_test_events(store);
    cr_expect_not_null(
        strstr(events, "image.remove image.import image.tag image.tag image.restore"), "%s",
        events);
}

STORE_TEST(lets_the_layers_of_a_forgotten_image_go)
{
    autofree char *base = ld_test_image(store, 1, NULL, 2, "base:1");
    autofree char *app = ld_test_image(store, 2, base, 3, "app:1");
    LD_AUTO(ld_removed_done) struct ld_removed removed = {0};
    struct ld_write dry = {.dry_run = true};
    ld_sid sids[2];
    uint64_t bytes = 0;

    sids[0] = trash_image(base, &bytes);
    cr_expect_eq(bytes, 0, "another image stands on it");
    cr_expect_eq(own_bytes(base), 0);
    cr_expect_eq(get_sums().trash_bytes, 0);
    cr_expect_eq(get_sums().layer_bytes, 5000);
    cr_expect_eq(get_sums().shared_bytes, 0, "only one image that lives has them");
    sids[1] = trash_image(app, &bytes);
    cr_expect_eq(bytes, 5000, "with it goes what only the trash has");
    cr_expect_eq(own_bytes(base), 0);
    cr_expect_eq(own_bytes(app), 3000);
    cr_expect_eq(get_sums().trash_bytes, 5000);
    cr_expect_eq(get_sums().layers, 0);
    ld_test_ok(ld_store_trash_forget(store, &dry, sids, 2, &removed, &err), &err);
    cr_expect_eq(removed.layer_bytes, 5000, "each layer once");
    ld_removed_done(&removed);
    removed = forget(sids[0]);
    cr_expect_eq(removed.n, 0);
    ld_removed_done(&removed);
    cr_expect_eq(own_bytes(app), 5000);
    removed = forget(sids[1]);
    cr_expect_eq(removed.n, 5);
    cr_expect_eq(removed.layer_bytes, 5000);
    cr_expect_eq(get_sums().trash_bytes, 0);
    ld_removed_done(&removed);
    removed = forget(sids[1]);
    cr_expect_eq(removed.n, 0, "done already");
}

STORE_TEST(keeps_layers_of_the_trash_that_containers_stand_on)
{
    autofree char *id = ld_test_image(store, 1, NULL, 2, "a:1");
    LD_AUTO(ld_removed_done) struct ld_removed removed = {0};
    uint64_t bytes = 1;
    ld_sid sid;

    ld_test_ok(ld_test_container(store, 5, "web", id, NULL, &err), &err);
    sid = trash_image(id, &bytes);
    cr_expect_eq(bytes, 0);
    cr_expect_eq(get_sums().layer_bytes, 2000);
    cr_expect_eq(get_sums().unused_bytes, 2000, "no image has them");
    cr_expect_eq(get_sums().trash_bytes, 0);
    ld_test_ok(ld_store_container_remove(store, &LD_WRITE_SELF, ld_test_id(5),
                                         &(struct ld_remove){.keep_ns = hour_ns}, &removed, &err),
               &err);
    cr_expect_eq(get_sums().trash_bytes, 2000, "the container is in the trash, too");
    cr_expect_eq(get_sums().layer_bytes, 0);
    cr_expect_eq(own_bytes(id), 0, "but needs them");
    ld_removed_done(&removed);
    removed = forget(sid);
    cr_expect_eq(removed.n, 0);
    cr_expect_eq(get_sums().trash_bytes, 2000);
}

STORE_TEST(makes_an_image_in_the_trash_live_when_it_is_added_again)
{
    autofree char *id = ld_test_image(store, 1, NULL, 1, "a:1");
    LD_AUTO(ld_image_done) struct ld_image image = get_image(id);
    LD_AUTO(ld_removed_done) struct ld_removed removed = {0};
    struct ld_layer_add layer = {.how = LD_LAYER_REUSED, .layer.sid = image.tip_sid};
    const char *ref = "b:1";
    struct ld_image_add add = {
        .image = {.id = id, .config = (char[]){"{}"}, .config_len = 2, .created_ns = 4711},
        .layers = &layer,
        .n_layers = 1,
        .refs = &ref,
        .n_refs = 1};
    ld_sid sid = trash_image(id, NULL);

    ld_test_ok(ld_store_trash_purge(store, &LD_WRITE_SELF, sid, &err), &err);
    ld_test_ok(ld_store_image_add(store, &LD_WRITE_SELF, &add, 1, &err), &err);
    ld_image_done(&image);
    image = get_image(id);
    cr_assert_eq(image.n_refs, 1);
    cr_expect_str_eq(image.refs[0], "b:1");
    cr_expect_eq(image.created_ns, 4711);
    cr_expect_eq(get_sums().images, 1);
    cr_expect_eq(get_sums().trash, 0);
    removed = forget(sid); /* the reaper has read the list before */
    cr_expect_eq(removed.n, 0);
    ld_image_done(&image);
    image = get_image(id);
}

/* What was removed first goes first. */
STORE_TEST(bounds_what_the_trash_keeps)
{
    autofree char *base = ld_test_image(store, 1, NULL, 2, "base:1");
    autofree char *app = ld_test_image(store, 2, base, 3, "app:1");
    autofree char *alone = ld_test_image(store, 3, NULL, 4, "alone:1");
    LD_AUTO(ld_trash_page_done) struct ld_trash_page due = {0};
    LD_AUTO(ld_trash_page_done) struct ld_trash_page page = {0};
    LD_AUTO(ld_removed_done) struct ld_removed removed = {0};
    struct ld_trash_query only_due = {.only_due = true}, uncounted = {.only_uncounted = true};
    ld_sid first = trash_image(alone, NULL), volume;

    ld_test_ok(ld_test_volume(store, 77, "x", &err), &err);
    ld_test_ok(ld_store_volume_remove(store, &LD_WRITE_SELF, ld_test_id(77),
                                      &(struct ld_remove){.keep_ns = hour_ns}, &removed, &err),
               &err);
    volume = removed.item[0].sid;
    (void)trash_image(app, NULL);
    (void)trash_image(base, NULL);
    ld_test_ok(ld_store_trash_list(store, &uncounted, &page, &err), &err);
    cr_assert_eq(page.n, 1);
    cr_expect_eq(page.item[0].sid, volume);
    ld_trash_page_done(&page);
    ld_test_ok(ld_store_trash_set_bytes(store, volume, 100, &err), &err);
    ld_test_ok(ld_store_trash_list(store, &uncounted, &page, &err), &err);
    cr_expect_eq(page.n, 0);

    ld_test_ok(ld_store_trash_bound(store, 9100, &err), &err);
    ld_test_ok(ld_store_trash_list(store, &only_due, &due, &err), &err);
    cr_expect_eq(due.n, 0);
    ld_test_ok(ld_store_trash_bound(store, 9099, &err), &err);
    ld_test_ok(ld_store_trash_list(store, &only_due, &due, &err), &err);
    cr_assert_eq(due.n, 1);
    cr_expect_eq(due.item[0].sid, first);
    ld_trash_page_done(&due);
    ld_test_ok(ld_store_trash_bound(store, 5099, &err), &err);
    ld_test_ok(ld_store_trash_list(store, &only_due, &due, &err), &err);
    cr_expect_eq(due.n, 2, "the volume");
    ld_trash_page_done(&due);
    ld_test_ok(ld_store_trash_bound(store, 2000, &err), &err);
    ld_test_ok(ld_store_trash_list(store, &only_due, &due, &err), &err);
    cr_expect_eq(due.n, 3, "base alone needs no more");
    ld_trash_page_done(&due);
    ld_test_ok(ld_store_trash_bound(store, 1, &err), &err);
    ld_test_ok(ld_store_trash_list(store, &only_due, &due, &err), &err);
    cr_expect_eq(due.n, 4);
}

/* As many as it takes, and not one more. */
STORE_TEST(bounds_many_at_once)
{
    enum { N = 60, BYTES = 1000 };
    autofree char *base = ld_test_image(store, 1, NULL, 2, "base:1");
    LD_AUTO(ld_trash_page_done) struct ld_trash_page page = {0};
    struct ld_trash_query volumes = {.limit = N, .kind = "volume"};

    for (unsigned i = 0; i < N; i++) {
        LD_AUTO(ld_removed_done) struct ld_removed removed = {0};

        ld_test_ok(ld_test_volume(store, 100 + i, NULL, &err), &err);
        ld_test_ok(ld_store_volume_remove(store, &LD_WRITE_SELF, ld_test_id(100 + i),
                                          &(struct ld_remove){.keep_ns = hour_ns}, &removed, &err),
                   &err);
        ld_test_ok(ld_store_trash_set_bytes(store, removed.item[0].sid, BYTES, &err), &err);
        if (i == N / 2)
            (void)trash_image(base, NULL); /* two layers */
    }
    for (uint64_t kept = N; kept <= N; kept -= 7) {
        size_t n_kept = 0;

        ld_test_ok(ld_store_trash_bound(store, kept * BYTES + BYTES - 1, &err), &err);
        ld_test_ok(ld_store_trash_list(store, &volumes, &page, &err), &err);
        cr_assert_eq(page.n, N);
        for (size_t i = 0; i < page.n; i++) {
            bool is_kept = page.item[i].purge_ns > page.item[i].removed_ns;

            cr_expect(i == 0 || is_kept || page.item[i - 1].purge_ns == page.item[i - 1].removed_ns,
                      "in order");
            n_kept += is_kept;
        }
        cr_expect_eq(n_kept, kept > N / 2 ? kept - 2 : kept, "the image is kept before its turn");
        ld_trash_page_done(&page);
    }
}

/* ---- several at once ---- */

struct leaving {
    size_t n, last[8];
    uint64_t bytes;
};

static int note_leaving(void *arg, size_t last, const char *chain_id, uint64_t bytes)
{
    struct leaving *l = arg;

    cr_assert_not_null(chain_id);
    cr_assert_lt(l->n, LD_ARRAY_LEN(l->last));
    l->last[l->n++] = last;
    l->bytes += bytes;
    return 0;
}

static struct leaving would_leave(char *one, char *two, bool is_kept)
{
    char *ids[] = {one, two};
    struct ld_gone_query query = {.ids = ids, .n = two ? 2 : 1, .is_kept = is_kept};
    struct leaving l = {.n = 0};

    cr_assert_eq(ld_store_layers_gone(store, &query, note_leaving, &l, &err), 0);
    return l;
}

STORE_TEST(knows_the_layers_that_leave_with_several_at_once)
{
    autofree char *base = ld_test_image(store, 1, NULL, 2, "base:1");
    autofree char *app = ld_test_image(store, 2, base, 3, "app:1");
    struct leaving l = would_leave(base, app, false);

    cr_expect_eq(l.n, 5, "each once");
    cr_expect_eq(l.bytes, 5000);
    cr_expect_eq(l.last[0], 1);
    l = would_leave(app, base, false);
    cr_expect_eq(l.n, 5);
    cr_expect_eq(l.last[0], 0, "app's own go with it");
    cr_expect_eq(l.last[4], 1);
    cr_expect_eq(would_leave(base, NULL, false).n, 0);
    cr_expect_eq(would_leave(app, NULL, false).n, 3);
    (void)trash_image(base, NULL);
    cr_expect_eq(would_leave(app, NULL, false).n, 3, "the trash needs the others");
    cr_expect_eq(would_leave(app, NULL, true).n, 5, "but nothing that lives");
    ld_test_ok(ld_test_container(store, 5, "one", app, NULL, &err), &err);
    ld_test_ok(ld_test_container(store, 6, "two", app, NULL, &err), &err);
    cr_expect_eq(would_leave(app, NULL, true).n, 0);
    cr_expect_eq(would_leave((char *)ld_test_id(5), (char *)ld_test_id(6), false).n, 0);
    (void)trash_image(app, NULL);
    cr_expect_eq(would_leave((char *)ld_test_id(5), (char *)ld_test_id(6), true).n, 5);
    cr_expect_eq(would_leave((char *)ld_test_id(5), NULL, true).n, 0);
}
