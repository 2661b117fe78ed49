/* daemon/store: snapshots, rolling back, and folding: which layers live, for whom, and when they
 * leave. */
#include <stdio.h>
#include <string.h>

#include "daemon/base/mem.h"
#include "daemon/store/store.h"
#include "tests/lib/env.h"
#include "tests/lib/store.h"

static struct ld_err err;
static struct ld_store *store;
static int root;

/* An image of one layer, and container 1 on it. */
static void open_store(void)
{
    autofree char *image = NULL;

    root = ld_test_mkdir("root");
    store = ld_test_store(root);
    image = ld_test_image(store, 1, NULL, 1, "a:1");
    ld_test_ok(ld_test_container(store, 1, "web", image, NULL, &err), &err);
}

#define STORE_TEST(sentence)                                                                       \
    static void body_##sentence(void);                                                             \
    LD_TEST(store_snapshots, sentence)                                                             \
    {                                                                                              \
        open_store();                                                                              \
        body_##sentence();                                                                         \
        ld_store_close(store);                                                                     \
        ld_close(root);                                                                            \
    }                                                                                              \
    static void body_##sentence(void)

static ld_sid take_sid(void)
{
    ld_sid sid = 0;

    ld_test_ok(ld_store_take_sid(store, &sid, &err), &err);
    return sid;
}

static ld_sid parent_of(unsigned container)
{
    LD_AUTO(ld_container_done) struct ld_container c = {0};

    ld_test_ok(ld_store_container_get(store, ld_test_id(container), &c, &err), &err);
    return c.parent_sid;
}

static ld_sid upper_of(unsigned container)
{
    LD_AUTO(ld_container_done) struct ld_container c = {0};

    ld_test_ok(ld_store_container_get(store, ld_test_id(container), &c, &err), &err);
    return c.upper_sid;
}

/* Freezes container 1 as snapshot 100 + n, named sN, of 1,000 bytes; its layer. */
static ld_sid freeze(unsigned n)
{
    autofree char *name = ld_asprintf("s%u", n);
    struct ld_snapshot s = {.id = (char *)ld_test_id(100 + n), .name = name};
    struct ld_layer layer = {
        .sid = upper_of(1), .origin = LD_ORIGIN_FREEZE, .bytes = 1000, .inodes = 2};
    struct ld_freeze f = {.container = ld_test_id(1),
                          .upper_sid = layer.sid,
                          .layer = &layer,
                          .next_sid = take_sid(),
                          .snapshot = &s};

    ld_test_ok(ld_store_freeze(store, &LD_WRITE_SELF, &f, &err), &err);
    return layer.sid;
}

static void freeze_many(ld_sid *sids, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        sids[i] = freeze(i);
}

static ld_sid tip_of(unsigned n)
{
    LD_AUTO(ld_snapshot_done) struct ld_snapshot s = {0};

    ld_test_ok(ld_store_snapshot_find(store, ld_test_id(1), ld_test_id(100 + n), &s, &err), &err);
    return s.tip_sid;
}

static size_t depth(ld_sid tip)
{
    struct ld_chain_sids chain;

    ld_test_ok(ld_store_chain(store, tip, &chain, &err), &err);
    return chain.n;
}

static size_t count_layers(void)
{
    LD_AUTO(ld_layer_page_done) struct ld_layer_page page = {0};

    ld_test_ok(ld_store_layer_list(store, 0, 0, &page, &err), &err);
    return page.n;
}

static size_t remove_snapshot(unsigned n)
{
    LD_AUTO(ld_removed_done) struct ld_removed removed = {0};

    ld_test_ok(ld_store_snapshot_remove(store, &LD_WRITE_SELF, ld_test_id(1), ld_test_id(100 + n),
                                        0, &removed, &err),
               &err);
    return removed.n;
}

/* sids: lowest first, as they were frozen. */
static int try_fold(const ld_sid *sids, unsigned n, ld_sid into)
{
    struct ld_layer layer = {.sid = into, .origin = LD_ORIGIN_FOLD, .bytes = 1500, .inodes = 3};
    ld_sid run[LD_MAX_LAYERS];
    struct ld_fold f = {.run = run, .n = n, .layer = &layer};

    for (unsigned i = 0; i < n; i++)
        run[i] = sids[n - 1 - i];
    return ld_store_fold(store, &f, &err);
}

static ld_sid fold(const ld_sid *sids, unsigned n)
{
    ld_sid into = take_sid();

    ld_test_ok(try_fold(sids, n, into), &err);
    return into;
}

/* The number of layers that leave. */
static size_t release(ld_sid top)
{
    LD_AUTO(ld_removed_done) struct ld_removed removed = {0};

    ld_test_ok(ld_store_fold_release(store, &top, 1, &removed, &err), &err);
    return removed.n;
}

static size_t drop(ld_sid upper)
{
    LD_AUTO(ld_removed_done) struct ld_removed removed = {0};

    ld_test_ok(ld_store_held_drop(store, upper, &removed, &err), &err);
    return removed.n;
}

static ld_sid next_held(ld_sid after, bool *ret_gone)
{
    LD_AUTO(ld_held_done) struct ld_held held = {0};

    ld_test_ok(ld_store_held_next(store, after, &held, &err), &err);
    if (ret_gone)
        *ret_gone = held.is_gone;
    return held.upper_sid;
}

/* ---- snapshots ---- */

STORE_TEST(name_layers_that_live_as_long_as_they_are_needed)
{
    ld_sid sid[3];

    freeze_many(sid, 3);
    cr_expect_eq(depth(parent_of(1)), 4);
    cr_expect_eq(tip_of(0), sid[0]);
    cr_expect_eq(remove_snapshot(0), 0, "others stand on it");
    cr_expect_eq(remove_snapshot(2), 0, "the container stands on it");
    cr_expect_eq(count_layers(), 4);
    cr_expect_eq(remove_snapshot(1), 0);
}

STORE_TEST(of_one_name_are_refused_and_change_nothing)
{
    struct ld_snapshot s = {.id = (char *)ld_test_id(200), .name = (char[]){"s0"}};
    struct ld_layer layer = {.origin = LD_ORIGIN_FREEZE};
    struct ld_freeze f = {.container = ld_test_id(1), .layer = &layer, .snapshot = &s};
    ld_sid was = freeze(0);

    layer.sid = f.upper_sid = upper_of(1);
    f.next_sid = take_sid();
    ld_test_fails(ld_store_freeze(store, &LD_WRITE_SELF, &f, &err), &err, LD_E_EXISTS);
    cr_expect_eq(parent_of(1), was);
    cr_expect_eq(upper_of(1), layer.sid);
    f.upper_sid = was;
    s.name = NULL;
    ld_test_fails(ld_store_freeze(store, &LD_WRITE_SELF, &f, &err), &err, LD_E_CONFLICT);
    cr_expect_eq(count_layers(), 2);
}

STORE_TEST(are_returned_to_and_what_only_the_present_needed_leaves)
{
    LD_AUTO(ld_removed_done) struct ld_removed removed = {0};
    ld_sid sid[2];
    struct ld_moved back = {.container = ld_test_id(1), .snapshot = ld_test_id(100)};

    freeze_many(sid, 2);
    cr_expect_eq(remove_snapshot(1), 0);
    back.upper_sid = upper_of(1);
    back.next_sid = take_sid();
    ld_test_ok(ld_store_move(store, &LD_WRITE_SELF, &back, &removed, &err), &err);
    cr_expect_eq(removed.n, 2, "the writable layer, and the second state");
    cr_expect_eq(parent_of(1), sid[0]);
    cr_expect_eq(upper_of(1), back.next_sid);
    back.upper_sid = sid[1];
    ld_test_fails(ld_store_move(store, &LD_WRITE_SELF, &back, &removed, &err), &err, LD_E_CONFLICT);
}

STORE_TEST(leave_a_container_alone_that_moves_onto_what_shows_the_same)
{
    LD_AUTO(ld_removed_done) struct ld_removed removed = {0};
    LD_AUTO(ld_container_done) struct ld_container before = {0}, after = {0};
    ld_sid sid[2];
    struct ld_moved onto = {.container = ld_test_id(1)};

    freeze_many(sid, 2);
    ld_test_ok(ld_store_container_get(store, ld_test_id(1), &before, &err), &err);
    onto.upper_sid = upper_of(1);
    onto.next_sid = take_sid();
    onto.tip_sid = sid[0];
    ld_test_ok(ld_store_layer_set_damage(store, &LD_WRITE_SELF, sid[0], "gone", &err), &err);
    ld_test_fails(ld_store_move(store, &LD_WRITE_SELF, &onto, &removed, &err), &err, LD_E_CONFLICT);
    cr_expect_eq(upper_of(1), onto.upper_sid, "nothing has changed");
    ld_test_ok(ld_store_layer_set_damage(store, &LD_WRITE_SELF, sid[0], NULL, &err), &err);
    ld_test_ok(ld_store_move(store, &LD_WRITE_SELF, &onto, &removed, &err), &err);
    cr_expect_eq(removed.n, 1, "the writable layer; a snapshot has the second state");
    cr_expect_eq(parent_of(1), sid[0]);
    ld_test_ok(ld_store_container_get(store, ld_test_id(1), &after, &err), &err);
    cr_expect_eq(after.version, before.version);
}

/* ---- folding ---- */

STORE_TEST(can_be_folded_where_they_are_states_of_containers)
{
    struct ld_foldable own;
    ld_sid sid[4], tip = 0;

    ld_test_ok(ld_store_foldable(store, parent_of(1), &own, &err), &err);
    cr_expect_eq(own.n, 0, "the image's are not");
    freeze_many(sid, 4);
    ld_test_ok(ld_store_foldable(store, sid[3], &own, &err), &err);
    cr_assert_eq(own.n, 4);
    cr_expect_eq(own.item[0].sid, sid[3]);
    cr_expect_eq(own.item[3].sid, sid[0]);
    cr_expect_eq(own.item[3].bytes, 1000);
    cr_expect(own.item[3].is_named);
    cr_expect_eq(remove_snapshot(0), 0);
    ld_test_ok(ld_store_foldable(store, sid[3], &own, &err), &err);
    cr_expect(own.item[0].is_named && own.item[1].is_named && !own.item[3].is_named);
    ld_test_ok(ld_store_foldable_above(store, sid[0], &tip, &err), &err);
    cr_expect_eq(tip, sid[3]);
    ld_test_ok(ld_store_foldable_tip(store, 0, &tip, &err), &err);
    cr_expect_eq(tip, sid[3]);
    ld_test_ok(ld_store_foldable_tip(store, tip, &tip, &err), &err);
    cr_expect_eq(tip, 0);
    ld_test_ok(ld_store_layer_set_damage(store, &LD_WRITE_SELF, sid[1], "x", &err), &err);
    ld_test_ok(ld_store_foldable(store, sid[3], &own, &err), &err);
    cr_expect_eq(own.n, 2, "nothing is folded over a damaged one");
    cr_expect_eq(try_fold(sid, 4, take_sid()), -1);
    cr_expect_eq(err.code, LD_E_CONFLICT);
}

STORE_TEST(folded_are_replaced_where_the_whole_run_is_and_stay_elsewhere)
{
    ld_sid sid[6], into;

    freeze_many(sid, 6);
    into = fold(sid, 4);
    cr_expect_eq(depth(parent_of(1)), 1 + 1 + 2);
    cr_expect_eq(tip_of(5), sid[5]);
    cr_expect_eq(tip_of(3), into, "the topmost state is what the run comes to");
    cr_expect_eq(tip_of(2), sid[2]);
    cr_expect_eq(depth(tip_of(2)), 4, "a chain that ends within the run keeps its lower part");
    cr_expect_eq(count_layers(), 1 + 6 + 1, "nothing leaves yet");
    cr_expect_eq(release(sid[3]), 1, "only the topmost is needed by nobody");
    cr_expect_eq(remove_snapshot(1), 0);
    cr_expect_eq(remove_snapshot(2), 2, "with the last that needs them");
    cr_expect_eq(remove_snapshot(0), 1);
    cr_expect_eq(count_layers(), 1 + 2 + 1);
    ld_test_fails(try_fold(sid, 4, take_sid()), &err, LD_E_CONFLICT);
}

STORE_TEST(folded_before_are_not_folded_again)
{
    struct ld_foldable own;
    ld_sid sid[4], tip = 0;

    freeze_many(sid, 4);
    (void)fold(sid, 4);
    ld_test_ok(ld_store_foldable(store, sid[3], &own, &err), &err);
    cr_expect_eq(own.n, 0, "nobody stands on it any more");
    ld_test_ok(ld_store_foldable_above(store, sid[0], &tip, &err), &err);
    cr_expect_eq(tip, sid[2], "nor is it a tip");
    ld_test_fails(try_fold(sid, 4, take_sid()), &err, LD_E_CONFLICT);
    cr_expect_eq(count_layers(), 1 + 4 + 1);
}

STORE_TEST(folded_are_held_for_who_may_have_them_mounted)
{
    ld_sid sid[4], upper;
    bool is_gone = true;

    freeze_many(sid, 4);
    for (unsigned i = 0; i < 3; i++)
        cr_expect_eq(remove_snapshot(i), 0);
    upper = upper_of(1);
    (void)fold(sid, 4);
    ld_test_ok(ld_store_container_set_ever_mounted(store, ld_test_id(1), &err), &err);
    cr_expect_eq(next_held(0, NULL), 0, "not before those are through who read the old chain");
    cr_expect_eq(release(sid[3]), 0, "it was mounted meanwhile");
    cr_expect_eq(next_held(0, &is_gone), upper);
    cr_expect_not(is_gone);
    cr_expect_eq(next_held(upper, NULL), 0);
    cr_expect_eq(drop(upper), 4, "seen unmounted: all of the run leaves");
    cr_expect_eq(count_layers(), 2);
    cr_expect_eq(next_held(0, NULL), 0);
}

STORE_TEST(folded_twice_are_held_for_who_mounted_them_before_the_first)
{
    ld_sid sid[4], upper, first, second;

    freeze_many(sid, 4);
    upper = upper_of(1);
    ld_test_ok(ld_store_container_set_ever_mounted(store, ld_test_id(1), &err), &err);
    first = fold(sid, 4);
    cr_expect_eq(release(sid[3]), 0);
    second = fold(sid, 2); /* the states 0, 1, 2 live on; the mount is of all four */
    for (unsigned i = 0; i < 4; i++)
        (void)remove_snapshot(i);
    cr_expect_eq(release(sid[1]), 0, "the container has it mounted");
    cr_expect_eq(count_layers(), 1 + 4 + 2);
    ld_test_fails(try_fold(sid, 2, take_sid()), &err, LD_E_CONFLICT);
    cr_expect_eq(drop(upper), 5, "the run, and what its half was folded into");
    cr_expect_eq(depth(first), 2);
    ld_test_fails(ld_store_layer_get(store, second, &(struct ld_layer){0}, &err), &err,
                  LD_E_NOT_FOUND);
}

STORE_TEST(folded_until_a_mount_ends_are_not_worth_another_fold)
{
    struct ld_foldable own;
    ld_sid sid[4], tip = 1;

    freeze_many(sid, 4);
    for (unsigned i = 0; i < 4; i++)
        (void)remove_snapshot(i);
    ld_test_ok(ld_store_container_set_ever_mounted(store, ld_test_id(1), &err), &err);
    (void)fold(sid, 4);
    cr_expect_eq(release(sid[3]), 0);
    ld_test_ok(ld_store_foldable_above(store, sid[1], &tip, &err), &err);
    cr_expect_eq(tip, 0);
    ld_test_ok(ld_store_foldable(store, sid[2], &own, &err), &err);
    cr_expect_eq(own.n, 0);
    ld_test_fails(try_fold(sid, 2, take_sid()), &err, LD_E_CONFLICT);
}

STORE_TEST(folded_are_held_until_a_removed_container_is_off_the_disk)
{
    LD_AUTO(ld_removed_done) struct ld_removed removed = {0}, forgotten = {0};
    struct ld_remove how = {.keep_ns = 0};
    ld_sid sid[4], upper;
    bool is_gone = false;

    freeze_many(sid, 4);
    upper = upper_of(1);
    (void)fold(sid, 4);
    ld_test_ok(ld_store_container_set_ever_mounted(store, ld_test_id(1), &err), &err);
    ld_test_ok(
        ld_store_container_remove(store, &LD_WRITE_SELF, ld_test_id(1), &how, &removed, &err),
        &err);
    cr_expect_eq(removed.n, 2, "its writable layer, and what was folded: not the run");
    cr_expect_eq(release(sid[3]), 0, "others may have it mounted still");
    cr_expect_eq(next_held(0, &is_gone), upper);
    cr_expect_not(is_gone);
    ld_test_ok(ld_store_trash_forget(store, &LD_WRITE_SELF, &upper, 1, &forgotten, &err), &err);
    cr_expect_eq(next_held(0, &is_gone), upper);
    cr_expect(is_gone);
    cr_expect_eq(drop(upper), 4);
    cr_expect_eq(count_layers(), 1);
}

STORE_TEST(folded_and_not_released_are_found_by_the_next_start)
{
    ld_sid sid[4];

    freeze_many(sid, 4);
    for (unsigned i = 0; i < 4; i++)
        cr_expect_eq(remove_snapshot(i), 0);
    ld_test_ok(ld_store_container_set_ever_mounted(store, ld_test_id(1), &err), &err);
    (void)fold(sid, 4);
    ld_store_close(store);
    store = ld_test_store(root);
    ld_test_ok(ld_store_folds_recover(store, &err), &err);
    cr_expect_eq(count_layers(), 1 + 4 + 1, "the same boot: it may be mounted");
    cr_expect_eq(drop(upper_of(1)), 4);
    (void)freeze(10);
    ld_test_ok(ld_store_folds_recover(store, &err), &err);
    cr_expect_eq(count_layers(), 3, "what is needed stays");
}

LD_TEST(store_snapshots, folded_are_held_for_nobody_after_another_boot)
{
    struct ld_store_options options = {.boot_id = "another"};
    ld_sid sid[4];

    open_store();
    freeze_many(sid, 4);
    ld_test_ok(ld_store_container_set_ever_mounted(store, ld_test_id(1), &err), &err);
    (void)fold(sid, 4);
    ld_store_close(store);
    ld_test_ok(ld_store_open(root, &options, &store, &err), &err);
    ld_test_ok(ld_store_folds_recover(store, &err), &err);
    cr_expect_eq(count_layers(), 1 + 3 + 1, "three are the states of snapshots");
    ld_test_ok(ld_store_folds_recover(store, &err), &err);
    cr_expect_eq(count_layers(), 5, "twice is fine");
    ld_store_close(store);
    ld_close(root);
}
