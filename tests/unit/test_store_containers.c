/* daemon/store: containers, volumes, the trash, idempotency keys. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "daemon/base/mem.h"
#include "daemon/store/store.h"
#include "tests/lib/env.h"
#include "tests/lib/store.h"

static const int64_t hour_ns = INT64_C(3600000000000);
static struct ld_err err;
static struct ld_restored restored;
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
    LD_TEST(store_containers, sentence)                                                            \
    {                                                                                              \
        open_store();                                                                              \
        body_##sentence();                                                                         \
        close_store();                                                                             \
    }                                                                                              \
    static void body_##sentence(void)

static struct ld_removed remove_container(unsigned number, struct ld_remove how)
{
    struct ld_removed removed = {0};

    ld_test_ok(
        ld_store_container_remove(store, &LD_WRITE_SELF, ld_test_id(number), &how, &removed, &err),
        &err);
    return removed;
}

STORE_TEST(keeps_every_field_of_a_container)
{
    autofree char *image = ld_test_image(store, 1, NULL, 1, "a:1");
    struct ld_mount_spec mounts[2] = {
        {.type = LD_MOUNT_VOLUME,
         .source = (char[]){"data"},
         .target = (char[]){"/\xff/data"},
         .subpath = (char[]){"sub"},
         .volume_id = (char *)ld_test_id(9),
         .read_only = true},
        {.type = LD_MOUNT_TMPFS, .target = (char[]){"/tmp"}, .size = 4096}};
    struct ld_container c = {.id = (char *)ld_test_id(1),
                             .name = (char[]){"web"},
                             .image_id = image,
                             .image_ref = (char[]){"a"},
                             .parent_sid = 1,
                             .upper_sid = 50,
                             .driver = (char[]){"vfs"},
                             .driver_state = (char[]){"t0=1"},
                             .labels = (char[]){"{\"a\":\"1\"}"},
                             .config = (char[]){"{\"cmd\":[]}"},
                             .spec_digest = (char[]){"d"},
                             .mounts = mounts,
                             .n_mounts = 2,
                             .read_only = true,
                             .auto_remove = true};
    LD_AUTO(ld_container_done) struct ld_container got = {0};

    ld_test_ok(ld_test_volume(store, 9, "data", &err), &err);
    ld_test_ok(ld_store_container_add(store, &LD_WRITE_SELF, &c, &err), &err);
    ld_test_ok(ld_store_container_get(store, c.id, &got, &err), &err);
    cr_assert_str_eq(got.name, "web");
    cr_assert_str_eq(got.image_ref, "a");
    cr_assert_eq(got.parent_sid, 1);
    cr_assert_eq(got.upper_sid, 50);
    cr_assert_str_eq(got.driver_state, "t0=1");
    cr_assert_str_eq(got.labels, c.labels);
    cr_assert_str_eq(got.config, c.config);
    cr_assert_str_eq(got.spec_digest, "d");
    cr_assert(got.read_only && got.auto_remove && !got.ephemeral && !got.ever_mounted);
    cr_assert_eq(got.version, 1);
    cr_assert_eq(got.n_mounts, 2);
    cr_assert_str_eq(got.mounts[0].target, "/\xff/data", "paths are bytes");
    cr_assert_str_eq(got.mounts[0].volume_id, ld_test_id(9));
    cr_assert_str_eq(got.mounts[0].subpath, "sub");
    cr_assert(got.mounts[0].read_only);
    cr_assert_eq(got.mounts[1].size, 4096);
    cr_assert_null(got.mounts[1].source);
}

STORE_TEST(finds_by_whole_id_then_name_then_beginning)
{
    LD_AUTO(ld_container_done) struct ld_container c = {0};
    char a[65], b[65];

    (void)snprintf(a, sizeof(a), "abcd1%059d", 0);
    (void)snprintf(b, sizeof(b), "abcd2%059d", 0);
    for (int i = 0; i < 2; i++) {
        struct ld_container one = {
            .id = i ? b : a, .driver = (char[]){"vfs"}, .upper_sid = 100 + (ld_sid)i};

        ld_test_ok(ld_store_container_add(store, &LD_WRITE_SELF, &one, &err), &err);
    }
    ld_test_ok(ld_store_container_find(store, a, &c, &err), &err);
    cr_assert_eq(c.upper_sid, 100);
    ld_container_done(&c);
    ld_test_ok(ld_store_container_find(store, "abcd2", &c, &err), &err);
    cr_assert_eq(c.upper_sid, 101);
    ld_container_done(&c);
    ld_test_fails(ld_store_container_find(store, "abcd", &c, &err), &err, LD_E_CONFLICT);
    cr_assert_not_null(strstr(err.details, a));
    cr_assert_not_null(strstr(err.details, b));
    ld_test_fails(ld_store_container_find(store, "abc", &c, &err), &err, LD_E_NOT_FOUND);
    ld_test_ok(ld_test_container(store, 3, "abcd", NULL, NULL, &err), &err);
    ld_test_ok(ld_store_container_find(store, "abcd", &c, &err), &err);
    cr_assert_str_eq(c.id, ld_test_id(3), "a name goes before a beginning");
}

STORE_TEST(refuses_a_container_whose_ground_is_missing)
{
    autofree char *image = ld_test_image(store, 1, NULL, 1, "a:1");
    struct ld_removed removed;

    ld_test_ok(ld_test_container(store, 1, "web", NULL, NULL, &err), &err);
    ld_test_fails(ld_test_container(store, 2, "web", NULL, NULL, &err), &err, LD_E_EXISTS);
    cr_assert_not_null(strstr(err.details, ld_test_id(1)));
    ld_test_fails(ld_test_container(store, 2, NULL, NULL, ld_test_id(77), &err), &err,
                  LD_E_NOT_FOUND);
    {
        struct ld_container c = {.id = (char *)ld_test_id(3),
                                 .image_id = (char[]){"sha256:no"},
                                 .driver = (char[]){"vfs"},
                                 .upper_sid = 70};

        ld_test_fails(ld_store_container_add(store, &LD_WRITE_SELF, &c, &err), &err,
                      LD_E_NOT_FOUND);
        c.image_id = NULL;
        c.parent_sid = 4711;
        ld_test_fails(ld_store_container_add(store, &LD_WRITE_SELF, &c, &err), &err, LD_E_CONFLICT);
        c.labels = (char[]){"{broken"};
        c.parent_sid = 0;
        ld_test_fails(ld_store_container_add(store, &LD_WRITE_SELF, &c, &err), &err, LD_E_INTERNAL);
    }
    ld_test_ok(ld_store_layer_set_damage(store, &LD_WRITE_SELF, 1, "rotten", &err), &err);
    ld_test_fails(ld_test_container(store, 4, NULL, image, NULL, &err), &err, LD_E_CONFLICT);
    ld_test_fails(ld_store_container_remove(store, &LD_WRITE_SELF, ld_test_id(4),
                                            &(struct ld_remove){0}, &removed, &err),
                  &err, LD_E_NOT_FOUND);
}

STORE_TEST(patches_with_versions)
{
    struct ld_container_patch patch = {.name = "api", .labels = "{\"k\":\"v\"}", .if_match = 1};
    LD_AUTO(ld_container_done) struct ld_container c = {0};
    autofree char *events = NULL;

    ld_test_ok(ld_test_container(store, 1, "web", NULL, NULL, &err), &err);
    ld_test_ok(ld_test_container(store, 2, "db", NULL, NULL, &err), &err);
    ld_test_ok(ld_store_container_patch(store, &LD_WRITE_SELF, ld_test_id(1), &patch, &c, &err),
               &err);
    cr_assert_str_eq(c.name, "api");
    cr_assert_str_eq(c.labels, "{\"k\":\"v\"}");
    cr_assert_eq(c.version, 2);
    ld_test_fails(
        ld_store_container_patch(store, &LD_WRITE_SELF, ld_test_id(1), &patch, NULL, &err), &err,
        LD_E_PRECONDITION);
    patch = (struct ld_container_patch){.name = "db"};
    ld_test_fails(
        ld_store_container_patch(store, &LD_WRITE_SELF, ld_test_id(1), &patch, NULL, &err), &err,
        LD_E_EXISTS);
    ld_test_fails(
        ld_store_container_patch(store, &LD_WRITE_SELF, ld_test_id(7), &patch, NULL, &err), &err,
        LD_E_NOT_FOUND);
    patch.name = "api"; /* its own */
    ld_test_ok(ld_store_container_patch(store, &LD_WRITE_SELF, ld_test_id(1), &patch, NULL, &err),
               &err);
    events = ld_test_events(store);
    cr_assert_str_eq(events, "container.create container.create container.update container.update");
}

STORE_TEST(sets_what_the_daemon_learns)
{
    LD_AUTO(ld_container_done) struct ld_container c = {0};
    const char *id = ld_test_id(1);

    ld_test_ok(ld_test_container(store, 1, NULL, NULL, NULL, &err), &err);
    ld_test_ok(ld_store_container_set_ever_mounted(store, id, &err), &err);
    ld_test_ok(ld_store_container_set_driver_state(store, &LD_WRITE_SELF, id, "x", &err), &err);
    ld_test_ok(ld_store_container_set_damage(store, &LD_WRITE_SELF, id, "lost", &err), &err);
    ld_test_ok(ld_store_container_get(store, id, &c, &err), &err);
    cr_assert(c.ever_mounted);
    cr_assert_str_eq(c.driver_state, "x");
    cr_assert_str_eq(c.damage, "lost");
    ld_container_done(&c);
    ld_test_ok(ld_store_container_set_damage(store, &LD_WRITE_SELF, id, NULL, &err), &err);
    ld_test_ok(ld_store_container_get(store, id, &c, &err), &err);
    cr_assert_null(c.damage);
    id = ld_test_id(2);
    ld_test_fails(ld_store_container_set_ever_mounted(store, id, &err), &err, LD_E_NOT_FOUND);
    ld_test_fails(ld_store_container_set_driver_state(store, &LD_WRITE_SELF, id, "x", &err), &err,
                  LD_E_NOT_FOUND);
    ld_test_fails(ld_store_container_set_damage(store, &LD_WRITE_SELF, id, "x", &err), &err,
                  LD_E_NOT_FOUND);
}

static size_t count_containers(struct ld_container_query query)
{
    LD_AUTO(ld_container_page_done) struct ld_container_page page = {0};

    ld_test_ok(ld_store_container_list(store, &query, &page, &err), &err);
    return page.n;
}

STORE_TEST(filters_lists)
{
    autofree char *image = ld_test_image(store, 1, NULL, 1, "a:1");
    const struct ld_label a = {"a", "1"}, b = {"b", NULL}, quote = {"q\"'[]", "x"};
    const struct ld_label both[] = {a, b};
    struct ld_container_patch patch = {.labels = "{\"a\":\"1\",\"b\":\"2\"}"};

    ld_test_ok(ld_test_volume(store, 9, "data", &err), &err);
    ld_test_ok(ld_test_container(store, 1, "web-1", image, NULL, &err), &err);
    ld_test_ok(ld_test_container(store, 2, "web-2", NULL, ld_test_id(9), &err), &err);
    ld_test_ok(ld_test_container(store, 3, NULL, NULL, NULL, &err), &err);
    ld_test_ok(ld_store_container_patch(store, &LD_WRITE_SELF, ld_test_id(1), &patch, NULL, &err),
               &err);
    patch.labels = "{\"a\":\"2\",\"q\\\"'[]\":\"x\"}";
    ld_test_ok(ld_store_container_patch(store, &LD_WRITE_SELF, ld_test_id(2), &patch, NULL, &err),
               &err);

    cr_assert_eq(count_containers((struct ld_container_query){0}), 3);
    cr_assert_eq(count_containers((struct ld_container_query){.name_glob = "web-*"}), 2);
    cr_assert_eq(count_containers((struct ld_container_query){.image_id = image}), 1);
    cr_assert_eq(count_containers((struct ld_container_query){.driver = "vfs"}), 0);
    cr_assert_eq(count_containers((struct ld_container_query){.volume_id = ld_test_id(9)}), 1);
    cr_assert_eq(count_containers((struct ld_container_query){.labels = &a, .n_labels = 1}), 1);
    cr_assert_eq(count_containers((struct ld_container_query){.labels = &b, .n_labels = 1}), 1);
    cr_assert_eq(count_containers((struct ld_container_query){.labels = both, .n_labels = 2}), 1);
    cr_assert_eq(count_containers((struct ld_container_query){.labels = &quote, .n_labels = 1}), 1);
    cr_assert_eq(count_containers((struct ld_container_query){.until_ns = 1}), 0);
}

STORE_TEST(lists_a_thousand_containers_in_pages)
{
    LD_AUTO(ld_container_page_done) struct ld_container_page page = {0};
    struct ld_container_query query = {.limit = 300};
    size_t n = 0, pages = 0;

    for (unsigned i = 0; i < 1000; i++)
        ld_test_ok(ld_test_container(store, i, NULL, NULL, NULL, &err), &err);
    do {
        ld_container_page_done(&page);
        ld_test_ok(ld_store_container_list(store, &query, &page, &err), &err);
        for (size_t i = 0; i < page.n; i++)
            cr_assert_str_eq(page.item[i].id, ld_test_id((unsigned)(n + i)), "in order");
        n += page.n;
        pages++;
        query.after = page.next;
    } while (page.next != 0);
    cr_assert_eq(n, 1000);
    cr_assert_eq(pages, 4);
    cr_assert_eq(count_containers((struct ld_container_query){0}), 1000, "one page of the maximum");
}

/* ---- removal, trash ---- */

STORE_TEST(destroys_a_container_and_frees_its_name)
{
    LD_AUTO(ld_removed_done) struct ld_removed removed = {0};
    LD_AUTO(ld_trash_page_done) struct ld_trash_page trash = {0};
    enum ld_sid_owner owner;
    struct ld_container c;
    ld_sid sid;

    ld_test_ok(ld_test_container(store, 1, "web", NULL, NULL, &err), &err);
    removed = remove_container(1, (struct ld_remove){.if_match = 1});
    cr_assert_eq(removed.n, 1);
    cr_assert_eq(removed.item[0].place, LD_PLACE_W);
    sid = removed.item[0].sid;
    ld_test_fails(ld_store_container_find(store, "web", &c, &err), &err, LD_E_NOT_FOUND);
    ld_test_ok(ld_test_container(store, 2, "web", NULL, NULL, &err), &err);
    ld_test_ok(ld_store_trash_list(store, &(struct ld_trash_query){0}, &trash, &err), &err);
    cr_assert_eq(trash.n, 1);
    cr_assert_str_eq(trash.item[0].owner_name, "web");
    ld_test_ok(ld_store_sid_owner(store, sid, &owner, &err), &err);
    cr_assert_eq(owner, LD_SID_TRASH);
    ld_test_fails(ld_store_trash_restore(store, &LD_WRITE_SELF, sid, NULL, &restored, &err), &err,
                  LD_E_CONFLICT);
    ld_removed_done(&removed);
    ld_test_ok(ld_store_trash_forget(store, &LD_WRITE_SELF, &sid, 1, &removed, &err), &err);
    ld_test_ok(ld_store_sid_owner(store, sid, &owner, &err), &err);
    cr_assert_eq(owner, LD_SID_UNKNOWN);
}

STORE_TEST(restores_a_container_within_its_time)
{
    autofree char *image = ld_test_image(store, 1, NULL, 2, "a:1");
    struct ld_remove how = {.keep_ns = hour_ns};
    LD_AUTO(ld_removed_done) struct ld_removed removed = {0};
    LD_AUTO(ld_trash_page_done) struct ld_trash_page due = {0};
    struct ld_image_remove rmi = {.ref = "a:1"};
    struct ld_container c;
    ld_sid sid;

    ld_test_ok(ld_test_container(store, 1, "web", image, NULL, &err), &err);
    removed = remove_container(1, how);
    sid = removed.item[0].sid;
    ld_removed_done(&removed);
    ld_test_ok(ld_store_trash_expire(store, hour_ns, &err), &err);
    ld_test_ok(ld_store_trash_list(store, &(struct ld_trash_query){.only_due = true}, &due, &err),
               &err);
    cr_assert_eq(due.n, 0, "not yet");
    ld_test_ok(ld_store_image_remove(store, &LD_WRITE_SELF, &rmi, &removed, &err), &err);
    cr_assert_eq(removed.n, 0, "it may come back and needs its layers");
    ld_removed_done(&removed);
    ld_test_ok(ld_test_container(store, 2, "web", NULL, NULL, &err), &err);
    ld_test_fails(ld_store_trash_restore(store, &LD_WRITE_SELF, sid, NULL, &restored, &err), &err,
                  LD_E_EXISTS);
    removed = remove_container(2, (struct ld_remove){0});
    ld_removed_done(&removed);
    ld_test_ok(ld_store_trash_restore(store, &LD_WRITE_SELF, sid, NULL, &restored, &err), &err);
    ld_test_ok(ld_store_container_find(store, "web", &c, &err), &err);
    cr_assert_str_eq(c.id, ld_test_id(1));
    ld_container_done(&c);

    removed = remove_container(1, how);
    ld_removed_done(&removed);
    ld_test_ok(ld_store_trash_purge(store, &LD_WRITE_SELF, sid, &err), &err);
    ld_test_fails(ld_store_trash_purge(store, &LD_WRITE_SELF, 4711, &err), &err, LD_E_NOT_FOUND);
    ld_test_ok(ld_store_trash_purge(store, &LD_WRITE_SELF, 0, &err), &err);
    ld_test_fails(ld_store_trash_restore(store, &LD_WRITE_SELF, sid, NULL, &restored, &err), &err,
                  LD_E_CONFLICT);
    ld_test_ok(ld_store_trash_forget(store, &LD_WRITE_SELF, &sid, 1, &removed, &err), &err);
    cr_assert_eq(removed.n, 2, "now its layers are free");
    ld_test_fails(ld_store_trash_restore(store, &LD_WRITE_SELF, sid, NULL, &restored, &err), &err,
                  LD_E_NOT_FOUND);
}

STORE_TEST(takes_anonymous_volumes_along_when_asked)
{
    LD_AUTO(ld_removed_done) struct ld_removed removed = {0};
    struct ld_volume v;

    ld_test_ok(ld_test_volume(store, 10, NULL, &err), &err);
    ld_test_ok(ld_test_volume(store, 11, "named", &err), &err);
    ld_test_ok(ld_test_container(store, 1, NULL, NULL, ld_test_id(10), &err), &err);
    ld_test_ok(ld_test_container(store, 2, NULL, NULL, ld_test_id(10), &err), &err);
    ld_test_ok(ld_test_container(store, 3, NULL, NULL, ld_test_id(11), &err), &err);
    removed = remove_container(1, (struct ld_remove){.volumes = true});
    cr_assert_eq(removed.n, 1, "another container has it too");
    ld_removed_done(&removed);
    removed = remove_container(2, (struct ld_remove){.volumes = true});
    cr_assert_eq(removed.n, 2);
    cr_assert_eq(removed.item[1].place, LD_PLACE_VOLUMES);
    ld_removed_done(&removed);
    removed = remove_container(3, (struct ld_remove){.volumes = true});
    cr_assert_eq(removed.n, 1, "a named one stays");
    ld_test_ok(ld_store_volume_find(store, "named", &v, &err), &err);
    ld_volume_done(&v);
}

/* ---- ephemeral ---- */

LD_TEST(store_containers, expire_with_the_next_boot)
{
    struct ld_store_options options = {.boot_id = "one"};
    LD_AUTO(ld_removed_done) struct ld_removed removed = {0};
    struct ld_container c = {.driver = (char[]){"overlay"}, .ephemeral = true};
    autofree char *events = NULL;
    size_t n = 0;
    bool more;

    root = ld_test_mkdir("root");
    ld_test_ok(ld_store_open(root, &options, &store, &err), &err);
    ld_test_ok(ld_test_container(store, 1000, "durable", NULL, NULL, &err), &err);
    for (unsigned i = 0; i < 150; i++) {
        c.id = (char *)ld_test_id(i);
        ld_test_ok(ld_store_take_sid(store, &c.upper_sid, &err), &err);
        ld_test_ok(ld_store_container_add(store, &LD_WRITE_SELF, &c, &err), &err);
    }
    ld_test_ok(ld_store_expire(store, &removed, &more, &err), &err);
    cr_assert_eq(removed.n, 0);
    cr_assert_not(more);
    ld_store_close(store);
    options.boot_id = "two";
    ld_test_ok(ld_store_open(root, &options, &store, &err), &err);
    do {
        ld_removed_done(&removed);
        ld_test_ok(ld_store_expire(store, &removed, &more, &err), &err);
        n += removed.n;
    } while (more);
    cr_assert_eq(n, 150);
    cr_assert_eq(count_containers((struct ld_container_query){0}), 1);
    events = ld_test_events(store);
    cr_assert_not_null(strstr(events, "container.expired"));
    close_store();
}

/* ---- volumes ---- */

STORE_TEST(keeps_volumes_and_protects_them_while_used)
{
    LD_AUTO(ld_volume_done) struct ld_volume v = {0};
    LD_AUTO(ld_removed_done) struct ld_removed removed = {0};
    LD_AUTO(ld_users_done) struct ld_users users = {0};
    struct ld_remove how = {.keep_ns = hour_ns};
    const char *id = ld_test_id(10);
    autofree char *events = NULL;

    ld_test_ok(ld_test_volume(store, 10, "data", &err), &err);
    ld_test_fails(ld_test_volume(store, 11, "data", &err), &err, LD_E_EXISTS);
    cr_assert_not_null(strstr(err.details, id));
    ld_test_ok(ld_test_container(store, 1, "web", NULL, id, &err), &err);
    ld_test_fails(ld_store_volume_remove(store, &LD_WRITE_SELF, id, &how, &removed, &err), &err,
                  LD_E_IN_USE);
    cr_assert_not_null(strstr(err.details, "\"name\":\"web\""));
    ld_test_ok(ld_store_volume_users(store, id, &users, &err), &err);
    cr_assert_eq(users.n, 1);
    removed = remove_container(1, (struct ld_remove){0});
    ld_removed_done(&removed);

    ld_test_ok(ld_store_volume_set_seeded(store, &LD_WRITE_SELF, id, &err), &err);
    ld_test_ok(ld_store_volume_set_damage(store, &LD_WRITE_SELF, id, "lost", &err), &err);
    ld_test_ok(ld_store_volume_by_name(store, "data", &v, &err), &err);
    cr_assert(v.seeded);
    cr_assert_str_eq(v.damage, "lost");
    cr_assert_eq(v.version, 3);
    how.if_match = 1;
    ld_test_fails(ld_store_volume_remove(store, &LD_WRITE_SELF, id, &how, &removed, &err), &err,
                  LD_E_PRECONDITION);
    how.if_match = 3;
    ld_test_ok(ld_store_volume_remove(store, &LD_WRITE_SELF, id, &how, &removed, &err), &err);
    cr_assert_eq(removed.n, 1);
    ld_test_fails(ld_store_volume_get(store, id, &v, &err), &err, LD_E_NOT_FOUND);
    ld_test_ok(
        ld_store_trash_restore(store, &LD_WRITE_SELF, removed.item[0].sid, NULL, &restored, &err),
        &err);
    ld_volume_done(&v);
    ld_test_ok(ld_store_volume_get(store, id, &v, &err), &err);
    cr_assert(v.seeded);
    events = ld_test_events(store);
    cr_assert_not_null(strstr(events, "volume.damaged volume.remove volume.restore"));
}

STORE_TEST(says_not_found_for_volumes)
{
    struct ld_volume v;
    struct ld_removed removed;

    ld_test_fails(ld_store_volume_get(store, ld_test_id(1), &v, &err), &err, LD_E_NOT_FOUND);
    ld_test_fails(ld_store_volume_by_name(store, "x", &v, &err), &err, LD_E_NOT_FOUND);
    ld_test_fails(ld_store_volume_find(store, "abcd", &v, &err), &err, LD_E_NOT_FOUND);
    ld_test_fails(ld_store_volume_set_seeded(store, &LD_WRITE_SELF, ld_test_id(1), &err), &err,
                  LD_E_NOT_FOUND);
    ld_test_fails(ld_store_volume_set_damage(store, &LD_WRITE_SELF, ld_test_id(1), "x", &err), &err,
                  LD_E_NOT_FOUND);
    ld_test_fails(ld_store_volume_remove(store, &LD_WRITE_SELF, ld_test_id(1),
                                         &(struct ld_remove){0}, &removed, &err),
                  &err, LD_E_NOT_FOUND);
}

STORE_TEST(lets_the_first_maker_of_a_volume_win)
{
    struct ld_volume want = {
        .id = (char *)ld_test_id(1), .name = (char[]){"data"}, .sid = 500, .seeded = true};
    LD_AUTO(ld_volume_done) struct ld_volume got = {0};
    bool is_made = false;

    ld_test_ok(ld_store_volume_ensure(store, &LD_WRITE_SELF, &want, &got, &is_made, &err), &err);
    cr_assert(is_made);
    cr_assert_eq(got.sid, 500);
    ld_volume_done(&got);
    want.id = (char *)ld_test_id(2);
    want.sid = 501;
    ld_test_ok(ld_store_volume_ensure(store, &LD_WRITE_SELF, &want, &got, &is_made, &err), &err);
    cr_assert_not(is_made);
    cr_assert_eq(got.sid, 500);
    cr_assert_str_eq(got.id, ld_test_id(1));
}

static size_t count_volumes(struct ld_volume_query query)
{
    LD_AUTO(ld_volume_page_done) struct ld_volume_page page = {0};

    ld_test_ok(ld_store_volume_list(store, &query, &page, &err), &err);
    return page.n;
}

STORE_TEST(filters_volumes)
{
    ld_test_ok(ld_test_volume(store, 1, "a", &err), &err);
    ld_test_ok(ld_test_volume(store, 2, "b", &err), &err);
    ld_test_ok(ld_test_volume(store, 3, NULL, &err), &err);
    ld_test_ok(ld_test_container(store, 9, NULL, NULL, ld_test_id(2), &err), &err);
    cr_assert_eq(count_volumes((struct ld_volume_query){0}), 3);
    cr_assert_eq(count_volumes((struct ld_volume_query){.name_glob = "[ab]"}), 2);
    cr_assert_eq(count_volumes((struct ld_volume_query){.unused = 1}), 2);
    cr_assert_eq(count_volumes((struct ld_volume_query){.unused = -1}), 1);
    cr_assert_eq(count_volumes((struct ld_volume_query){.anonymous = 1}), 1);
    cr_assert_eq(count_volumes((struct ld_volume_query){.anonymous = -1, .unused = 1}), 1);
    cr_assert_eq(count_volumes((struct ld_volume_query){.limit = 1}), 1);
}

/* ---- those with limits ---- */

static size_t count_limited(void)
{
    LD_AUTO(ld_container_page_done) struct ld_container_page page = {0};
    struct ld_container_query query = {.limited = true};

    ld_test_ok(ld_store_container_list(store, &query, &page, &err), &err);
    return page.n;
}

STORE_TEST(lists_those_with_limits_alone)
{
    struct ld_limits limits = {.inodes = 16};
    struct ld_container_patch container = {.limits = &limits};
    struct ld_volume_patch volume = {.size_limit = &limits.bytes};
    LD_AUTO(ld_volume_done) struct ld_volume v = {0};

    for (unsigned n = 1; n <= 3; n++) {
        ld_test_ok(ld_test_container(store, n, NULL, NULL, NULL, &err), &err);
        ld_test_ok(ld_test_volume(store, 10 + n, NULL, &err), &err);
    }
    cr_assert_eq(count_limited(), 0);
    ld_test_ok(
        ld_store_container_patch(store, &LD_WRITE_SELF, ld_test_id(2), &container, NULL, &err),
        &err);
    cr_assert_eq(count_limited(), 1);
    limits = (struct ld_limits){.bytes = 4096};
    ld_test_ok(
        ld_store_container_patch(store, &LD_WRITE_SELF, ld_test_id(3), &container, NULL, &err),
        &err);
    ld_test_ok(ld_store_volume_patch(store, &LD_WRITE_SELF, ld_test_id(12), &volume, &v, &err),
               &err);
    cr_assert_eq(count_limited(), 2);
    cr_assert_eq(count_volumes((struct ld_volume_query){.limited = true}), 1);
    cr_assert_eq(count_volumes((struct ld_volume_query){.limited = false}), 3);
    remove_container(2, (struct ld_remove){.keep_ns = hour_ns});
    cr_assert_eq(count_limited(), 1, "not what is in the trash");
    limits = (struct ld_limits){.bytes = 0};
    ld_test_ok(
        ld_store_container_patch(store, &LD_WRITE_SELF, ld_test_id(3), &container, NULL, &err),
        &err);
    cr_assert_eq(count_limited(), 0);
}

/* ---- idempotency ---- */

STORE_TEST(finds_what_an_idempotency_key_made)
{
    struct ld_once once = {.key = "k", .uid = 5, .digest = "d1"};
    struct ld_write w = {.uid = 5, .once = &once};
    struct ld_volume v = {.id = (char *)ld_test_id(1), .sid = 600};
    struct ld_once_object made LD_AUTO(ld_once_object_done) = {.kind = NULL};

    ld_test_fails(ld_store_once_find(store, &once, &made, &err), &err, LD_E_NOT_FOUND);
    ld_test_ok(ld_store_volume_add(store, &w, &v, &err), &err);
    ld_test_ok(ld_store_once_find(store, &once, &made, &err), &err);
    cr_assert_str_eq(made.kind, "volume");
    cr_assert_str_eq(made.id, v.id);
    cr_assert_null(made.answer);
    v.id = (char *)ld_test_id(2);
    v.sid = 601;
    ld_test_fails(ld_store_volume_add(store, &w, &v, &err), &err, LD_E_EXISTS);
    cr_assert_not_null(strstr(err.details, ld_test_id(1)));
    once.digest = "d2";
    ld_test_fails(ld_store_volume_add(store, &w, &v, &err), &err, LD_E_CONFLICT);
    ld_test_fails(ld_store_once_find(store, &once, &made, &err), &err, LD_E_CONFLICT);
    once.uid = 6; /* another peer's key is another key */
    ld_test_ok(ld_store_volume_add(store, &w, &v, &err), &err);
}
