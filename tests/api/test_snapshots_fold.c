/* Chains of snapshots of any length: layers are folded in the background, and nothing but the time
 * of a mount shows it. Trees stay what they are, bytes come back, through kills and while
 * containers are mounted. LD_TEST_SEED=n repeats a run, LD_SNAPSHOTS=n takes more of them. */
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cjson/cJSON.h>

#include "daemon/base/clock.h"
#include "daemon/base/fdio.h"
#include "daemon/base/mem.h"
#include "tests/lib/api.h"
#include "tests/lib/randtree.h"
#include "tests/lib/treedump.h"

enum { MANY = 500, BASE_NAMES = 5 /* in layers/: the empty layer, and base's two with recipes */ };

static uint64_t seed_of(const char *name)
{
    const char *text = getenv(name);
    uint64_t seed = text ? strtoull(text, NULL, 10) : (uint64_t)ld_now_ns();

    cr_log_info("%s=%lu", name, (unsigned long)seed);
    return seed;
}

static char *dump(struct ld_client *c, const char *name)
{
    char *text = ld_dump_string(ld_mount(c, name).s, 0);

    ld_unmount(c, name);
    return text;
}

static void expect_tree(struct ld_client *c, const char *name, const char *want, const char *what)
{
    autofree char *is = dump(c, name);

    if (strcmp(is, want) != 0) {
        ld_test_write(AT_FDCWD, "is", is);
        ld_test_write(AT_FDCWD, "want", want);
        ld_test_sh("diff want is | head -20 >&2");
    }
    cr_assert_str_eq(is, want, "%s", what);
}

static void roll_back(struct ld_client *c, const char *container, const char *snapshot)
{
    (void)ld_want(c, 200, "POST", NULL, "/v1/containers/%s/snapshots/%s/rollback", container,
                  snapshot);
}

static size_t layers_of(struct ld_client *c, const char *container)
{
    return (size_t)ld_int(ld_want(c, 200, "GET", NULL, "/v1/containers/%s", container), "layers");
}

/* ---- what is waited for ---- */

struct wait {
    const struct ld_daemon *d;
    const char *container;
    size_t n;
};

static bool is_flat(void *arg)
{
    const struct wait *w = arg;

    return layers_of(w->d->client, w->container) <= w->n;
}

static void wait_flat(const struct ld_daemon *d, const char *container, size_t n)
{
    struct wait w = {.d = d, .container = container, .n = n};

    cr_assert(ld_test_wait(is_flat, &w, 60), "%s still stands on %zu layers", container,
              layers_of(d->client, container));
}

/* ---- many ---- */

struct states {
    size_t n, cap;
    char **tree; /* of each snapshot s0, s1, …; NULL: removed */
};

static void states_free(struct states *s)
{
    for (size_t i = 0; i < s->n; i++)
        free(s->tree[i]);
    free(s->tree);
}

static void name_of(size_t i, char ret[24])
{
    (void)snprintf(ret, 24, "s%zu", i);
}

static void take_many(struct ld_client *c, struct ld_rand *r, struct states *s, size_t n)
{
    for (; s->n < n; s->n++) {
        struct ld_text at = ld_mount(c, "web");
        char name[24];

        ld_grow(&s->tree, &s->cap, s->n + 1, sizeof(*s->tree));

        ld_rand_changes(r, at.s, 1 + ld_rand_below(r, 4));
        s->tree[s->n] = ld_dump_string(at.s, 0);
        ld_unmount(c, "web");
        name_of(s->n, name);
        (void)ld_take_snapshot(c, "web", name);
        cr_assert_leq(layers_of(c, "web"), 2 + 48 + 1, "after %zu snapshots", s->n + 1);
    }
}

static void remove_all(struct ld_daemon *d, struct ld_rand *r, struct states *s)
{
    struct ld_client *c = d->client;

    for (size_t left = s->n; left > 0; left--) {
        size_t k = ld_rand_below(r, (unsigned)left), i = 0;
        char name[24];

        while (!s->tree[i] || k-- > 0)
            i++;
        name_of(i, name);
        (void)ld_want(c, 204, "DELETE", NULL, "/v1/containers/web/snapshots/%s", name);
        ld_free_p(&s->tree[i]);
        if (left % 50 != 1)
            continue;
        ld_expect_df_is_du(d, c);
        for (i = 0; i < s->n; i++) {
            if (!s->tree[i] || ld_rand_below(r, 10) != 0)
                continue;
            name_of(i, name);
            roll_back(c, "web", name);
            expect_tree(c, "web", s->tree[i], name);
        }
    }
}

static uint64_t layer_bytes(struct ld_client *c)
{
    return (uint64_t)ld_int(ld_want(c, 200, "GET", NULL, "/v1/df"), "layers.bytes");
}

LD_API_TEST(snapshots, by_the_hundred_are_all_states_and_leave_no_byte)
{
    const char *more = getenv("LD_SNAPSHOTS");
    struct ld_rand r = {.state = seed_of("LD_TEST_SEED")};
    struct states s = {.n = 0};
    uint64_t before;

    ld_have_base(c);
    before = layer_bytes(c);
    (void)ld_create(c, "web", "base", NULL);
    take_many(c, &r, &s, more ? strtoul(more, NULL, 10) : MANY);
    wait_flat(d, "web", 2 + 32);
    ld_expect_df_is_du(d, c);
    for (size_t i = s.n / 10; i < s.n; i += s.n / 10) {
        char name[24];

        name_of(i, name);
        roll_back(c, "web", name);
        cr_expect_leq(layers_of(c, "web"), 2 + 32 + 8, "%s", name);
        expect_tree(c, "web", s.tree[i], name);
    }
    remove_all(d, &r, &s);
    (void)ld_want(c, 204, "DELETE", NULL, "/v1/containers/web");
    ld_wait_count(d, "layers", BASE_NAMES);
    ld_expect_df_is_du(d, c);
    cr_expect_eq(ld_data_count(d, "w") + ld_data_count(d, "staging"), 0);
    cr_expect_eq(layer_bytes(c), before);
    states_free(&s);
}

struct budget {
    struct ld_client *c;
    uint64_t bytes;
};

static bool is_within(void *arg)
{
    const struct budget *b = arg;

    return layer_bytes(b->c) <= b->bytes;
}

LD_API_TEST(snapshots, removed_give_back_what_later_states_have_replaced)
{
    struct budget budget = {.c = c};
    autofree char *tree = NULL;

    ld_have_base(c);
    budget.bytes = layer_bytes(c) + (5 << 20);
    (void)ld_create(c, "web", "base", NULL);
    for (size_t i = 0; i < 6; i++) {
        char name[24];

        name_of(i, name);
        ld_change(c, "web", "head -c 4M /dev/urandom > file");
        (void)ld_take_snapshot(c, "web", name);
    }
    tree = dump(c, "web");
    cr_expect_geq(layer_bytes(c), 24 << 20, "each is a state of its own");
    for (size_t i = 0; i < 5; i++) {
        char name[24];

        name_of(i, name);
        (void)ld_want(c, 204, "DELETE", NULL, "/v1/containers/web/snapshots/%s", name);
    }
    cr_expect(ld_test_wait(is_within, &budget, 60), "%lu bytes", (unsigned long)layer_bytes(c));
    expect_tree(c, "web", tree, "and it is what it was");
    roll_back(c, "web", "s5");
    expect_tree(c, "web", tree, "s5");
    ld_expect_df_is_du(d, c);
}

static const char *metrics(struct ld_client *c)
{
    return ld_call(c, &(struct ld_call){.method = "GET", .target = "/v1/metrics"})->body;
}

/* A clone keeps the state it was made of for as long as it lives. */
LD_API_TEST(clones, removed_give_back_what_their_origin_has_replaced)
{
    struct budget budget = {.c = c};
    autofree char *tree = NULL;

    ld_have_base(c);
    budget.bytes = layer_bytes(c) + (5 << 20);
    (void)ld_create(c, "web", "base", NULL);
    for (int i = 0; i < 4; i++) {
        autofree char *body = ld_asprintf("{'name':'fork%d'}", i);

        ld_change(c, "web", "head -c 4M /dev/urandom > file");
        (void)ld_want(c, 201, "POST", body, "/v1/containers/web/clone");
    }
    tree = dump(c, "web");
    cr_expect_geq(layer_bytes(c), 16 << 20, "each is a state of its own");
    for (int i = 0; i < 4; i++)
        (void)ld_want(c, 204, "DELETE", NULL, "/v1/containers/fork%d", i);
    cr_expect(ld_test_wait(is_within, &budget, 60), "%lu bytes", (unsigned long)layer_bytes(c));
    expect_tree(c, "web", tree, "and it is what it was");
    ld_expect_df_is_du(d, c);
    cr_expect_null(strstr(metrics(c), "layerd_folds_total 0\n"));
    cr_expect_null(strstr(metrics(c), "layerd_folded_layers_total 0\n"));
}

/* ---- the limit ---- */

/* An image of n layers, each with a file of its own. */
static void have_deep(struct ld_client *c, size_t n)
{
    autofree struct ld_blob *layers = ld_alloc0(n * sizeof(*layers));
    const char *refs[] = {"deep:latest", NULL};
    struct ld_image_spec spec = {.refs = refs, .layers = layers, .n_layers = n};
    struct ld_blob archive;

    for (size_t i = 0; i < n; i++) {
        char name[24];

        name_of(i, name);
        layers[i] = ld_make_tar(&(struct ld_entry){.path = name, .data = name}, 1);
    }
    archive = ld_make_image(&spec, 1);
    (void)ld_import(c, &archive, "");
    ld_blob_done(&archive);
    for (size_t i = 0; i < n; i++)
        ld_blob_done(&layers[i]);
}

LD_API_TEST(snapshots, of_a_container_on_a_deep_image_are_folded_before_one_is_too_many)
{
    have_deep(c, 398);
    (void)ld_create(c, "web", "deep", NULL);
    for (int i = 0; i < 6; i++) {
        char name[24];

        name_of((size_t)i, name);
        ld_change(c, "web", "date +%N > now");
        (void)ld_take_snapshot(c, "web", name);
        cr_expect_leq(layers_of(c, "web"), 400);
    }
    (void)ld_want(c, 204, "DELETE", NULL, "/v1/containers/web");
    ld_wait_count(d, "layers", 1 + 2 * 398);
    ld_expect_df_is_du(d, c);
}

LD_API_TEST(snapshots, are_refused_where_not_even_one_more_layer_fits)
{
    have_deep(c, 399);
    (void)ld_create(c, "web", "deep", NULL);
    ld_change(c, "web", "echo 1 > one");
    (void)ld_take_snapshot(c, "web", "first");
    ld_change(c, "web", "echo 2 > two");
    (void)ld_want_error(c, "conflict", "POST", NULL, "/v1/containers/web/snapshots");
    (void)ld_want_error(c, "conflict", "POST", NULL, "/v1/containers/web/clone");
    roll_back(c, "web", "first");
    ld_change(c, "web", "test -e one; test ! -e two");
}

/* ---- while containers are mounted ---- */

enum { RUN = 8 };

/* Eight states of a container that are folded at once, mounted before that is done: the snapshots
 * are gone, so the run lives for the mount alone. *ret_tree: what it shows. False: the folder was
 * faster. */
static bool mount_before_fold(struct ld_daemon *d, const char *name, struct ld_text *ret_at,
                              char **ret_tree)
{
    struct wait flat = {.d = d, .container = name, .n = 3};
    struct ld_client *c = d->client;

    (void)ld_create(c, name, "base", NULL);
    for (size_t i = 0; i < RUN; i++) {
        autofree char *change =
            ld_asprintf("head -c 6M /dev/urandom > file%zu; rm -r usr; mkdir -p usr/%zu", i, i);
        char snapshot[24];

        ld_change(c, name, change);
        name_of(i, snapshot);
        (void)ld_take_snapshot(c, name, snapshot);
    }
    *ret_at = ld_mount(c, name);
    for (size_t i = 0; i < RUN; i++) {
        char snapshot[24];

        name_of(i, snapshot);
        (void)ld_want(c, 204, "DELETE", NULL, "/v1/containers/%s/snapshots/%s", name, snapshot);
    }
    cr_assert(ld_test_wait(is_flat, &flat, 60), "it is not folded");
    ld_wait_reaped(d);
    if (ld_data_count(d, "layers") == BASE_NAMES + RUN + 1) {
        *ret_tree = ld_dump_string(ret_at->s, 0);
        return true;
    }
    ld_unmount(c, name);
    (void)ld_want(c, 204, "DELETE", NULL, "/v1/containers/%s", name);
    ld_wait_count(d, "layers", BASE_NAMES);
    return false;
}

static void mount_in_time(struct ld_daemon *d, struct ld_text *ret_at, char **ret_tree)
{
    for (int i = 0; i < 10; i++) {
        if (mount_before_fold(d, "web", ret_at, ret_tree))
            return;
    }
    cr_assert_fail("the folder was faster ten times");
}

LD_API_TEST(folds, leave_a_mount_the_layers_it_has)
{
    autofree char *tree = NULL, *again = NULL;
    struct ld_text at;

    ld_have_base(c);
    mount_in_time(d, &at, &tree);
    ld_daemon_kill(d); /* it outlives the daemon, too */
    ld_daemon_again(d);
    c = d->client;
    ld_wait_reaped(d);
    again = ld_dump_string(at.s, 0);
    cr_expect_str_eq(again, tree);
    cr_expect_eq(ld_data_count(d, "layers"), BASE_NAMES + RUN + 1);
    ld_expect_df_is_du(d, c);
    ld_unmount(c, "web");
    ld_wait_count(d, "layers", BASE_NAMES + 1);
    expect_tree(c, "web", tree, "the next mount is of the folded layer");
    ld_expect_df_is_du(d, c);
    (void)ld_want(c, 204, "DELETE", NULL, "/v1/containers/web");
    ld_wait_count(d, "layers", BASE_NAMES);
}

LD_API_TEST(folds, leave_the_layers_to_who_holds_them_in_another_namespace)
{
    autofree char *tree = NULL;
    struct ld_text at;
    int up[2], down[2], status;
    char byte = 0;
    pid_t pid;

    ld_have_base(c);
    mount_in_time(d, &at, &tree);
    cr_assert(pipe(up) == 0 && pipe(down) == 0);
    pid = fork();
    if (pid == 0) {
        autofree char *shown = NULL;

        if (unshare(CLONE_NEWNS) < 0 || chdir(at.s) < 0 || write(up[1], "x", 1) != 1)
            _exit(1);
        (void)close(down[1]);
        (void)!read(down[0], &byte, 1);
        shown = ld_dump_string(".", 0);
        _exit(strcmp(shown, tree) == 0 ? 0 : 2);
    }
    cr_assert_eq(read(up[0], &byte, 1), 1);
    ld_unmount(c, "web");
    (void)ld_want(c, 204, "DELETE", NULL, "/v1/containers/web?force=1");
    cr_expect_eq(ld_data_count(d, "layers"), BASE_NAMES + RUN + 1,
                 "the run, and what it has become, which its next mount would have been of");
    (void)close(down[1]);
    cr_assert_eq(waitpid(pid, &status, 0), pid);
    cr_expect(WIFEXITED(status) && WEXITSTATUS(status) == 0, "it saw something else: %d", status);
    ld_wait_count(d, "layers", BASE_NAMES);
    ld_expect_df_is_du(d, c);
}

/* ---- kill -9 and power cuts ---- */

static void pause_ms(unsigned ms)
{
    struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};

    (void)nanosleep(&t, NULL); /* how far the folder comes is the test's input */
}

/* Some more states, large enough for their folds to take a while. */
static void take_large(struct ld_client *c, struct states *s, size_t n)
{
    for (size_t end = s->n + n; s->n < end; s->n++) {
        struct ld_text at = ld_mount(c, "web");
        char name[24];

        ld_grow(&s->tree, &s->cap, s->n + 1, sizeof(*s->tree));

        ld_test_sh("cd %s; head -c 1M /dev/urandom > file%zu; rm -fr usr; mkdir -p usr/%zu etc/a; "
                   "ln -f file%zu etc/a/link",
                   at.s, s->n % 12, s->n, s->n % 12);
        s->tree[s->n] = ld_dump_string(at.s, 0);
        ld_unmount(c, "web");
        name_of(s->n, name);
        (void)ld_take_snapshot(c, "web", name);
    }
}

static void expect_all(struct ld_daemon *d, const struct states *s)
{
    cr_expect_eq(ld_data_count(d, "quarantine"), 0);
    for (size_t i = 0; i < s->n; i++) {
        char name[24];

        name_of(i, name);
        roll_back(d->client, "web", name);
        expect_tree(d->client, "web", s->tree[i], name);
    }
}

static void finish_all(struct ld_daemon *d, struct states *s)
{
    (void)ld_want(d->client, 204, "DELETE", NULL, "/v1/containers/web");
    ld_wait_count(d, "layers", BASE_NAMES);
    ld_wait_count(d, "staging", 0);
    ld_expect_df_is_du(d, d->client);
    states_free(s);
}

LD_API_TEST(folds, killed_in_the_middle_lose_no_state_and_no_byte)
{
    struct ld_rand r = {.state = seed_of("LD_TEST_SEED")};
    struct states s = {.n = 0};

    ld_have_base(c);
    (void)ld_create(c, "web", "base", NULL);
    for (int round = 0; round < 8; round++) {
        take_large(d->client, &s, 8);
        pause_ms(ld_rand_below(&r, 40));
        ld_daemon_kill(d);
        ld_daemon_again(d);
        if (round % 4 == 3)
            expect_all(d, &s);
    }
    finish_all(d, &s);
}

LD_TEST(folds, cut_off_by_a_power_cut_lose_no_state_and_no_byte)
{
    struct ld_rand r = {.state = seed_of("LD_TEST_SEED")};
    struct states s = {.n = 0};
    struct ld_daemon *d;

    ld_close(ld_test_fs("disk", "ext4", 700));
    d = ld_daemon_start("disk", NULL);
    ld_have_base(d->client);
    (void)ld_create(d->client, "web", "base", NULL);
    for (int round = 0; round < 4; round++) {
        take_large(d->client, &s, 8);
        pause_ms(ld_rand_below(&r, 80));
        ld_daemon_cut_power(d, "disk");
        ld_daemon_again(d);
    }
    expect_all(d, &s);
    finish_all(d, &s);
    ld_api_finish(d);
}
