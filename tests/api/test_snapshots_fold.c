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
    size_t n;
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
    s->tree = ld_alloc0(n * sizeof(*s->tree));
    for (; s->n < n; s->n++) {
        struct ld_text at = ld_mount(c, "web");
        char name[24];

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
