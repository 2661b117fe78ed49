/* What each layer has at a path, held against the merge rule written down once more, plainly. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include "daemon/base/fdio.h"
#include "daemon/base/mem.h"
#include "daemon/base/parse.h"
#include "daemon/base/tree.h"
#include "tests/lib/env.h"
#include "tests/lib/randtree.h"

enum { LAYERS = 6 };

static int roots[LAYERS]; /* topmost first */
static const struct ld_layers chain = {.root = roots, .n = LAYERS, .form = LD_FORM_LAYER};

/* False: the layer has nothing there itself. */
static bool own_stat(size_t layer, const char *path, struct stat *ret, char *ret_mark)
{
    autoclose int fd = ld_tree_open_path(roots[layer], path + 1, O_PATH | O_NOFOLLOW);

    *ret_mark = '\0';
    if (fd < 0)
        return false;
    cr_assert_eq(fstat(fd, ret), 0);
    if (S_ISDIR(ret->st_mode))
        cr_assert_eq(ld_mark_get_opaque(fd, ret_mark), 0);
    return true;
}

/* The roles of all layers at a path: 'p'rovides, 'm'erges, 'w'hiteout that is not hidden itself,
 * '-' absent, 'h' anything else. */
static void model(const char *path, char roles[LAYERS + 1])
{
    bool active[LAYERS], next[LAYERS];
    struct stat st;
    char mark;

    memset(active, true, sizeof(active));
    for (size_t len = 1;; len++) {
        autofree char *prefix = NULL;
        bool is_found = false, is_over = false;

        if (path[len] != '/' && path[len] != '\0')
            continue;
        prefix = ld_strndup(path, len);
        memset(next, false, sizeof(next));
        for (size_t i = 0; i < LAYERS; i++) {
            bool has = own_stat(i, prefix, &st, &mark);

            roles[i] = has ? 'h' : '-';
            if (!has || !active[i] || is_over)
                continue;
            if (S_ISDIR(st.st_mode)) {
                roles[i] = is_found ? 'm' : 'p';
                next[i] = true;
                is_over = mark == 'y';
            } else {
                if (S_ISCHR(st.st_mode) && st.st_rdev == 0)
                    roles[i] = 'w';
                else if (!is_found)
                    roles[i] = 'p';
                is_over = true;
            }
            is_found = true;
        }
        memcpy(active, next, sizeof(active));
        if (!path[len])
            break;
    }
    roles[LAYERS] = '\0';
}

static char letter(const struct ld_trace_layer *l)
{
    switch (l->role) {
    case LD_TRACE_ABSENT:
        return '-';
    case LD_TRACE_PROVIDES:
        return 'p';
    case LD_TRACE_MERGES:
        return 'm';
    case LD_TRACE_WHITEOUT:
        return l->hidden_at ? 'h' : 'w';
    case LD_TRACE_HIDDEN:
        break;
    }
    return 'h';
}

static void check(const char *path)
{
    struct ld_trace trace LD_AUTO(ld_trace_done) = {.n = 0};
    struct ld_found found LD_AUTO(ld_found_done) = LD_FOUND_INIT;
    struct ld_err err = LD_ERR_INIT;
    char want[LAYERS + 1], is[LAYERS + 1] = "";
    int has = ld_tree_lookup(&chain, path, &found, &err);

    ld_test_ok(ld_tree_trace(&chain, path, &trace, &err), &err);
    model(path, want);
    for (size_t i = 0; i < trace.n; i++) {
        const struct ld_trace_layer *l = &trace.layer[i];

        is[i] = letter(l);
        if (l->role == LD_TRACE_HIDDEN) {
            cr_assert(l->hidden_at > 0 && l->hidden_at <= strlen(path), "%s", path);
            cr_assert_lt(l->hidden_by, i, "%s: by one above", path);
        }
    }
    cr_assert_str_eq(is, want, "%s: %s, want %s", path, is, want);
    cr_assert_eq(trace.provider, has ? found.node.layer : SIZE_MAX, "%s", path);
}

static size_t check_all_of(size_t layer)
{
    const struct ld_layers one = {.root = &roots[layer], .n = 1, .form = LD_FORM_PLAIN};
    struct ld_tree *t LD_AUTO(ld_tree_free_p) = ld_tree_new(&one, LD_TREE_NO_LEAVE, NULL);
    struct ld_err err = LD_ERR_INIT;
    struct ld_node node;
    size_t n = 0;
    int r;

    while ((r = ld_tree_next(t, &node, &err)) > 0) {
        autofree char *beside = ld_asprintf("%s.not", node.path);

        if (node.depth == 0)
            continue;
        check(node.path);
        check(beside);
        n++;
    }
    cr_assert_eq(r, 0, "%s", err.message);
    return n;
}

LD_TEST(tree_trace, agrees_with_the_rule_written_plainly)
{
    const char *given = getenv("LD_TEST_SEED");
    uint64_t seed = 20260101;
    size_t n = 0, fds;

    if (given)
        cr_assert_eq(ld_parse_u64(given, 0, UINT64_MAX, &seed), 0);
    fds = ld_test_count_fds();
    for (unsigned round = 0; round < 12; round++) {
        struct ld_rand r = {.state = seed + round};

        for (size_t i = LAYERS; i-- > 0;) {
            struct ld_layers below = {
                .root = &roots[i + 1], .n = LAYERS - 1 - i, .form = LD_FORM_LAYER};
            autofree char *name = ld_asprintf("r%u-%zu", round, i);

            roots[i] = ld_test_mkdir(name);
            ld_rand_layer(&r, roots[i], &below);
        }
        for (size_t i = 0; i < LAYERS; i++)
            n += check_all_of(i);
        for (size_t i = 0; i < LAYERS; i++)
            ld_close(roots[i]);
    }
    cr_expect_gt(n, 500, "seed %llu: %zu paths", (unsigned long long)seed, n);
    cr_expect_eq(ld_test_count_fds(), fds);
}

LD_TEST(tree_trace, refuses_dots_and_finds_nothing_by_names_too_long)
{
    struct ld_trace trace LD_AUTO(ld_trace_done) = {.n = 0};
    struct ld_layers one = {.root = roots, .n = 1, .form = LD_FORM_LAYER};
    autofree char *name = ld_alloc0(400);
    struct ld_err err = LD_ERR_INIT;

    roots[0] = ld_test_mkdir("one");
    ld_test_fails(ld_tree_trace(&one, "/a/../b", &trace, &err), &err, LD_E_INVALID);
    memset(name, 'n', 300);
    name[0] = '/';
    ld_test_ok(ld_tree_trace(&one, name, &trace, &err), &err);
    cr_expect_eq(trace.provider, SIZE_MAX);
    ld_trace_done(&trace);
    ld_test_ok(ld_tree_trace(&one, "/", &trace, &err), &err);
    cr_expect_eq(trace.provider, 0);
    ld_close(roots[0]);
}
