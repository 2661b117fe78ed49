/* The merged view: walking, looking up, comparing, copying; the kernel's overlay is the oracle. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "daemon/base/buf.h"
#include "daemon/base/fdio.h"
#include "daemon/base/mem.h"
#include "daemon/base/tree.h"
#include "tests/lib/env.h"
#include "tests/lib/randtree.h"
#include "tests/lib/treedump.h"

enum { MAX_ROOTS = 400 };

static int roots[MAX_ROOTS];

/* Directories 0 (topmost) … n-1 in the test's directory. */
static struct ld_layers make_layers(size_t n)
{
    for (size_t i = 0; i < n; i++) {
        char name[24];

        (void)snprintf(name, sizeof(name), "%zu", i);
        roots[i] = ld_test_mkdir(name);
    }
    return (struct ld_layers){.root = roots, .n = n, .form = LD_FORM_LAYER};
}

/* "/ /a /a/b </a </": '<' before second visits, '!' before whiteouts, "@N" where layer N > 0
 * provides. */
static char *walk_text(const struct ld_layers *layers, unsigned flags, const char *skip,
                       const char *skip_to)
{
    LD_AUTO(ld_tree_free_p) struct ld_tree *t = ld_tree_new(layers, flags, NULL);
    autobuf struct ld_buf text = LD_BUF_INIT(1 << 20);
    struct ld_err err = LD_ERR_INIT;
    struct ld_node node;
    int r;

    while ((r = ld_tree_next(t, &node, &err)) > 0) {
        ld_buf_addf(&text, "%s%s%s%s", text.len ? " " : "", node.is_leave ? "<" : "",
                    node.is_whiteout ? "!" : "", node.path);
        if (node.layer > 0)
            ld_buf_addf(&text, "@%zu", node.layer);
        cr_assert_str_eq(node.name, node.depth ? strrchr(node.path, '/') + 1 : ".");
        if (!node.is_leave && skip && strcmp(node.path, skip) == 0)
            ld_tree_skip(t);
        if (skip_to && !node.is_leave)
            ld_tree_skip_to(t, skip_to);
    }
    cr_assert_eq(r, 0, "%s", err.message);
    return ld_buf_take(&text);
}

static void expect_walk(const struct ld_layers *layers, unsigned flags, const char *want)
{
    autofree char *got = walk_text(layers, flags, NULL, NULL);

    cr_assert_str_eq(got, want);
}

LD_TEST(tree, walks_in_byte_order_and_leaves_directories)
{
    struct ld_layers layers = make_layers(1);

    ld_test_sh("cd 0; mkdir -p a/b a-b B; touch a/x 'a/\303\244' a-b/y ab");
    expect_walk(&layers, 0, "/ /B </B /a /a/b </a/b /a/x /a/\303\244 </a /a-b /a-b/y </a-b /ab </");
    expect_walk(&layers, LD_TREE_NO_LEAVE, "/ /B /a /a/b /a/x /a/\303\244 /a-b /a-b/y /ab");
}

LD_TEST(tree, shows_nothing_of_no_layers)
{
    struct ld_layers none = {.n = 0};
    struct ld_found found = LD_FOUND_INIT;
    struct ld_err err = LD_ERR_INIT;

    expect_walk(&none, 0, "");
    cr_assert_eq(ld_tree_lookup(&none, "/", &found, &err), 0);
}

LD_TEST(tree, skips_what_it_is_told_to)
{
    struct ld_layers layers = make_layers(2);
    static const struct {
        const char *skip, *skip_to, *want;
    } cases[] = {
        {"/a", NULL, "/ /a /b /b/y@1 /b/z </b /c@1 </"},
        {"/", NULL, "/"},
        {"/c", NULL, "/ /a /a/1 /a/2@1 </a /b /b/y@1 /b/z </b /c@1 </"},
        {NULL, "/b/z", "/ /b /b/z </b /c@1 </"},
        {NULL, "/b", "/ /b /b/y@1 /b/z </b /c@1 </"},
        {NULL, "/a/2/deep", "/ /a /a/2@1 </a /b /b/y@1 /b/z </b /c@1 </"},
        {NULL, "/a!", "/ /b /b/y@1 /b/z </b /c@1 </"},
        {NULL, "/zz", "/ </"},
        {NULL, "/", "/ /a /a/1 /a/2@1 </a /b /b/y@1 /b/z </b /c@1 </"},
    };

    ld_test_sh("mkdir 0/a 1/a 0/b 1/b; touch 0/a/1 1/a/2 0/b/z 1/b/y 1/c");
    for (size_t i = 0; i < LD_ARRAY_LEN(cases); i++) {
        autofree char *got = walk_text(&layers, 0, cases[i].skip, cases[i].skip_to);

        cr_assert_str_eq(got, cases[i].want, "case %zu: %s", i, got);
    }
}

LD_TEST(tree, orders_paths_as_the_walk_does)
{
    static const char *const sorted[] = {"/",    "/a",  "/a/b", "/a/b/c",   "/a/c",
                                         "/a-b", "/a.", "/ab",  "/\303\244"};

    for (size_t i = 0; i < LD_ARRAY_LEN(sorted); i++)
        for (size_t k = 0; k < LD_ARRAY_LEN(sorted); k++) {
            int c = ld_tree_path_cmp(sorted[i], sorted[k]);

            cr_assert_eq((c > 0) - (c < 0), (i > k) - (i < k), "'%s' and '%s'", sorted[i],
                         sorted[k]);
        }
}

LD_TEST(tree, merges_until_a_layer_says_otherwise)
{
    struct ld_layers layers = make_layers(3);

    ld_test_sh("mkdir -p 0/merged 1/merged 2/merged; touch 0/merged/0 1/merged/1 2/merged/2");
    ld_test_sh("mkdir -p 1/opaque 2/opaque; touch 1/opaque/1 2/opaque/2; "
               "setfattr -n trusted.overlay.opaque -v y 1/opaque");
    ld_test_sh("mkdir -p 0/stopped 2/stopped; touch 1/stopped 0/stopped/0 2/stopped/2");
    ld_test_sh("mkdir -p 0/white 2/white; mknod 1/white c 0 0; touch 0/white/0 2/white/2");
    ld_test_sh("mkdir -p 1/through 2/through; touch 1/through/1 2/through/2");
    ld_test_sh("mkdir -p 0/x 1/x/gone; mknod 0/x/gone c 0 0; mknod 0/ghost c 0 0; touch 2/top; "
               "mknod 0/top c 0 0");
    expect_walk(&layers, LD_TREE_NO_LEAVE,
                "/ /merged /merged/0 /merged/1@1 /merged/2@2 /opaque@1 /opaque/1@1 /stopped "
                "/stopped/0 /through@1 /through/1@1 /through/2@2 /white /white/0 /x");
    expect_walk(&layers, LD_TREE_NO_LEAVE | LD_TREE_WHITEOUTS,
                "/ !/ghost /merged /merged/0 /merged/1@1 /merged/2@2 /opaque@1 /opaque/1@1 "
                "/stopped /stopped/0 /through@1 /through/1@1 /through/2@2 !/top /white /white/0 "
                "/x !/x/gone");
}

LD_TEST(tree, ignores_an_opaque_mark_on_a_layers_root)
{
    struct ld_layers layers = make_layers(2);

    ld_test_sh("touch 0/a 1/b; setfattr -n trusted.overlay.opaque -v y 0; mkdir merged; "
               "mount -t overlay o -o lowerdir=0:1 merged; ls merged > listed; umount merged");
    ld_test_sh("printf 'a\\nb\\n' | cmp - listed");
    expect_walk(&layers, LD_TREE_NO_LEAVE, "/ /a /b@1");
}

LD_TEST(tree, reads_whiteouts_in_the_form_of_xattrs)
{
    struct ld_layers layers = make_layers(2);
    struct ld_found found = LD_FOUND_INIT;
    struct ld_err err = LD_ERR_INIT;

    ld_test_sh("mkdir 0/d 1/d; touch 0/d/gone 1/d/gone 0/d/empty 1/d/kept; "
               "setfattr -n trusted.overlay.opaque -v x 0/d; "
               "setfattr -n trusted.overlay.whiteout -v '' 0/d/gone");
    expect_walk(&layers, LD_TREE_NO_LEAVE, "/ /d /d/empty /d/kept@1");
    cr_assert_eq(ld_tree_lookup(&layers, "d/gone", &found, &err), 0);
}

LD_TEST(tree, does_not_follow_redirects_or_metacopy)
{
    struct ld_layers layers = make_layers(2);
    struct ld_found found = LD_FOUND_INIT;
    struct ld_err err = LD_ERR_INIT;

    ld_test_sh("mkdir 0/evil 1/secret; touch 1/secret/key; echo data > 1/file; : > 0/file; "
               "setfattr -n trusted.overlay.redirect -v /secret 0/evil; "
               "setfattr -n trusted.overlay.metacopy -v '' 0/file");
    expect_walk(&layers, LD_TREE_NO_LEAVE, "/ /evil /file /secret@1 /secret/key@1");
    cr_assert_eq(ld_tree_lookup(&layers, "/evil/key", &found, &err), 0);
    cr_assert_eq(ld_tree_lookup(&layers, "/file", &found, &err), 1);
    cr_assert_eq(found.node.st.st_size, 0);
    ld_found_done(&found);
}

LD_TEST(tree, looks_up_component_by_component)
{
    struct ld_layers layers = make_layers(3);
    struct ld_err err = LD_ERR_INIT;
    size_t fds;
    static const struct {
        const char *path;
        int found;
        size_t layer;
        const char *clean;
    } cases[] = {
        {"", 1, 0, "/"},          {"/", 1, 0, "/"},
        {"//", 1, 0, "/"},        {"a", 1, 0, "/a"},
        {"/a/", 1, 0, "/a"},      {"a//f", 1, 1, "/a/f"},
        {"/a/g", 1, 2, "/a/g"},   {"/a/gone", 0, 0, NULL},
        {"/a/none", 0, 0, NULL},  {"/link/f", 0, 0, NULL}, /* not through symlinks */
        {"/link", 1, 0, "/link"}, {"/a/f/deeper", 0, 0, NULL},
        {"/o", 1, 1, "/o"},       {"/o/hidden", 0, 0, NULL},
    };

    ld_test_sh("mkdir 0/a 1/a 2/a 1/o 2/o; ln -s a 0/link; touch 1/a/f 2/a/g 2/a/gone 2/o/hidden; "
               "mknod 1/a/gone c 0 0; setfattr -n trusted.overlay.opaque -v y 1/o");
    fds = ld_test_count_fds();
    for (size_t i = 0; i < LD_ARRAY_LEN(cases); i++) {
        LD_AUTO(ld_found_done) struct ld_found found = LD_FOUND_INIT;
        int r = ld_tree_lookup(&layers, cases[i].path, &found, &err);

        cr_assert_eq(r, cases[i].found, "'%s': %d", cases[i].path, r);
        if (r == 0)
            continue;
        cr_assert_eq(found.node.layer, cases[i].layer, "'%s'", cases[i].path);
        cr_assert_str_eq(found.node.path, cases[i].clean);
        r = ld_node_open(&found.node);
        cr_assert(r >= 0, "'%s': %s", cases[i].path, strerror(-r));
        ld_close(r);
    }
    cr_assert_eq(ld_test_count_fds(), fds);
    ld_test_fails(ld_tree_lookup(&layers, "a/../b", &(struct ld_found){0}, &err), &err,
                  LD_E_INVALID);
    ld_test_fails(ld_tree_lookup(&layers, "/./a", &(struct ld_found){0}, &err), &err, LD_E_INVALID);
}

/* ---- comparing ---- */

static bool is_equal(const struct ld_layers *a, const struct ld_layers *b, const char *path)
{
    LD_AUTO(ld_found_done) struct ld_found x = LD_FOUND_INIT, y = LD_FOUND_INIT;
    struct ld_err err = LD_ERR_INIT;
    bool equal = false;

    cr_assert_eq(ld_tree_lookup(a, path, &x, &err), 1);
    cr_assert_eq(ld_tree_lookup(b, path, &y, &err), 1);
    ld_test_ok(ld_node_compare(&x.node, &y.node, NULL, &equal, &err), &err);
    return equal;
}

LD_TEST(tree, compares_everything_that_counts)
{
    static const struct {
        const char *make, *change; /* in both directories; in the second */
        bool equal;
    } cases[] = {
        {"echo x > n", "true", true},
        {"echo x > n", "chmod 600 n", false},
        {"echo x > n", "chmod u+s n", false},
        {"echo x > n", "chown 1:0 n", false},
        {"echo x > n", "chgrp 1 n", false},
        {"echo x > n", "echo y > n", false},
        {"echo x > n", "echo yy > n", false},
        {"echo x > n", "touch -d @5.000000001 n", false},
        {"echo x > n", "rm n; mkdir n", false},
        {"echo x > n", "setfattr -n trusted.a -v b n", false},
        {"echo x > n; setfattr -n trusted.a -v b n", "setfattr -n trusted.a -v c n", false},
        {"echo x > n; setfattr -n trusted.a -v b n", "true", true},
        {"echo x > n", "setfattr -n trusted.overlay.origin -v c n", true},
        {"truncate -s 5M n", "rm n; head -c 5M /dev/zero > n", true},
        {"truncate -s 5M n", "printf x | dd of=n bs=1 seek=4000000 conv=notrunc status=none",
         false},
        {"ln -s t n", "true", true},
        {"ln -s t n", "rm n; ln -s u n", false},
        {"mknod n c 1 3", "true", true},
        {"mknod n c 1 3", "rm n; mknod n c 1 5", false},
        {"mknod n c 1 3", "rm n; mknod n b 1 3", false},
        {"mkfifo n", "true", true},
        {"mkdir n", "touch n/child; touch -d @5 n", true},
        {"mkdir n", "setfattr -n trusted.overlay.opaque -v y n", true},
    };

    for (size_t i = 0; i < LD_ARRAY_LEN(cases); i++) {
        struct ld_layers both = make_layers(2);
        struct ld_layers a = {.root = &both.root[0], .n = 1};
        struct ld_layers b = {.root = &both.root[1], .n = 1};

        ld_test_sh("for d in 0 1; do (cd $d; %s; touch -h -d @5 n); done", cases[i].make);
        ld_test_sh("cd 1; %s; test $(stat -c %%.9Y n) = 5.000000001 || touch -h -d @5 n",
                   cases[i].change);
        cr_assert_eq(is_equal(&a, &b, "n"), cases[i].equal, "%s | %s", cases[i].make,
                     cases[i].change);
        ld_test_sh("rm -r 0 1");
        ld_close(roots[0]), ld_close(roots[1]);
    }
}

/* ---- copying ---- */

static void copy_to(const struct ld_layers *layers, const char *to)
{
    autoclose int dir = ld_test_mkdir(to);
    struct ld_err err = LD_ERR_INIT;

    ld_test_ok(ld_tree_copy(layers, dir, LD_FORM_PLAIN, NULL, &err), &err);
}

static void expect_same_tree(const char *a, const char *b, const char *about)
{
    autofree char *x = ld_dump_string(a, 0), *y = ld_dump_string(b, 0);

    if (strcmp(x, y) == 0)
        return;
    FILE *fx = fopen("/mnt/dump.a", "w"), *fy = fopen("/mnt/dump.b", "w");

    (void)fputs(x, fx), (void)fputs(y, fy);
    (void)fclose(fx), (void)fclose(fy);
    (void)!system("diff /mnt/dump.a /mnt/dump.b | head -20 >&2");
    cr_assert_fail("%s: '%s' and '%s' differ", about, a, b);
}

LD_TEST(tree, copies_every_attribute)
{
    struct ld_layers layers = make_layers(1);
    struct stat st;

    ld_test_sh(
        "cd 0; mkdir -m 2751 d; setfacl -d -m u:7:rwx d; echo x > d/f; setfacl -b d/f; "
        "chmod 6711 d/f; setcap cap_net_raw+ep d/f; setfacl -m u:9:r d/f; chown 5:6 d; "
        "ln d/f link; mkfifo p; mknod c c 1 3; mknod b b 7 9; ln -s d/f s; chown -h 3:4 s; "
        "setfattr -h -n trusted.s -v 1 s; truncate -s 20M hole; "
        "printf end | dd of=hole bs=1 seek=10M conv=notrunc status=none; "
        "python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind(\"sock\")'; "
        "setfattr -n trusted.overlay.origin -v o d; setfattr -n trusted.overlay.overlay.x -v e d; "
        "find . -depth -exec touch -h -d '@77.123456789' {} +");
    copy_to(&layers, "copy");
    expect_same_tree("0", "copy", "attributes");
    cr_assert_eq(stat("copy/hole", &st), 0);
    cr_assert_lt(st.st_blocks, 1000, "the hole was filled");
    ld_test_sh("! getfattr -n trusted.overlay.origin copy/d 2> /dev/null");
    ld_test_sh("test $(getfattr --only-values -n trusted.overlay.x copy/d) = e");
}

LD_TEST(tree, escapes_xattrs_named_like_marks_in_a_layer)
{
    struct ld_layers plain = make_layers(1);
    autoclose int dir = ld_test_mkdir("layer");
    struct ld_err err = LD_ERR_INIT;

    plain.form = LD_FORM_PLAIN;
    ld_test_sh("mkdir 0/d; setfattr -n trusted.overlay.opaque -v y 0/d");
    ld_test_ok(ld_tree_copy(&plain, dir, LD_FORM_LAYER, NULL, &err), &err);
    ld_test_sh("test $(getfattr --only-values -n trusted.overlay.overlay.opaque layer/d) = y; "
               "! getfattr -n trusted.overlay.opaque layer/d 2> /dev/null");
}

LD_TEST(tree, keeps_links_of_one_layer_only)
{
    struct ld_layers layers = make_layers(2);

    ld_test_sh("echo 1 > 1/a; ln 1/a 1/b; ln 1/a 1/c; echo 0 > 0/b; ln 0/b 0/d");
    copy_to(&layers, "copy");
    ld_test_sh("cd copy; test a -ef c; test b -ef d; test ! a -ef b; test $(cat a c | tr -d '\\n') "
               "= 11; test $(cat b) = 0; test $(stat -c %%h a b | tr -d '\\n') = 22");
}

LD_TEST(tree, has_no_limit_on_depth_or_path_length)
{
    struct ld_layers layers = make_layers(3);
    size_t fds, seen = 0, most = 0;
    struct ld_err err = LD_ERR_INIT;
    struct ld_node node;
    struct ld_tree *t;
    int r;

    /* 900 levels of 200 bytes in two layers, files at both ends, two names of one file far apart.
     */
    ld_test_sh("python3 -c \"import os\n"
               "for layer in '12':\n"
               "  os.chdir('/mnt/' + layer)\n"
               "  open('aa', 'w').write('linked')\n"
               "  for i in range(900):\n"
               "    os.mkdir('n' * 200); os.chdir('n' * 200)\n"
               "    open('z' + layer, 'w')\n"
               "  os.link('/mnt/' + layer + '/aa', 'deep' + layer)\"");
    fds = ld_test_count_fds();
    t = ld_tree_new(&layers, 0, NULL);
    while ((r = ld_tree_next(t, &node, &err)) > 0) {
        if (++seen % 97 == 0) {
            size_t now = ld_test_count_fds();

            most = now > most ? now : most;
        }
    }
    cr_assert_eq(r, 0, "%s", err.message);
    cr_assert_eq(seen, 2 * 901 + 2 * 900 + 1 + 2, "%zu", seen);
    ld_tree_free(t);
    cr_assert_leq(most, fds + LD_TREE_MAX_FDS + 4);
    cr_assert_eq(ld_test_count_fds(), fds);
    copy_to(&layers, "copy");
    ld_test_sh("test $(find copy -name 'deep*' | wc -l) = 2; test $(stat -c %%h copy/aa) = 2");
    cr_assert_eq(ld_test_count_fds(), fds);
}

LD_TEST(tree, merges_400_layers_with_bounded_descriptors)
{
    struct ld_layers layers = make_layers(400);
    size_t fds = ld_test_count_fds(), most = 0, files = 0;
    struct ld_err err = LD_ERR_INIT;
    struct ld_tree *t;
    struct ld_node node;
    int r;

    ld_test_sh("for i in $(seq 0 399); do mkdir -p $i/a/b/c; touch $i/a/f$i $i/a/b/c/g$i; done");
    t = ld_tree_new(&layers, 0, NULL);
    while ((r = ld_tree_next(t, &node, &err)) > 0) {
        size_t now = ld_test_count_fds();

        most = now > most ? now : most;
        if (S_ISREG(node.st.st_mode)) {
            char want[32];

            files++;
            (void)snprintf(want, sizeof(want), "%c%zu", node.name[0], node.layer);
            cr_assert_str_eq(node.name, want);
            cr_assert_eq(faccessat(node.dir, node.name, F_OK, 0), 0);
        }
    }
    cr_assert_eq(r, 0, "%s", err.message);
    ld_tree_free(t);
    cr_assert_eq(files, 800);
    cr_assert_leq(most, fds + LD_TREE_MAX_FDS + 4, "%zu open at once", most - fds);
    cr_assert_eq(ld_test_count_fds(), fds);
}

LD_TEST(tree, ends_when_canceled_or_in_trouble)
{
    struct ld_layers layers = make_layers(1);
    struct ld_err err = LD_ERR_INIT;
    autoclose int dir = ld_test_mkdir("copy");
    bool cancel = true;
    size_t fds = ld_test_count_fds();

    ld_test_sh("mkdir 0/d; echo x > 0/d/f; mkdir -p copy/d");
    ld_test_fails(ld_tree_copy(&layers, dir, LD_FORM_PLAIN, &cancel, &err), &err, LD_E_CANCELED);
    ld_test_fails(ld_tree_copy(&layers, dir, LD_FORM_PLAIN, NULL, &err), &err, LD_E_IO);
    cr_assert_neq(strstr(err.message, "'/d'"), NULL, "%s", err.message);
    cr_assert_eq(ld_test_count_fds(), fds);
}

/* ---- against the kernel ---- */

/* Every entry that the kernel shows is found with the same attributes; in `copy` names that it does
 * not show are not. */
static void check_lookups(const struct ld_layers *layers, struct ld_rand *r)
{
    static const char *const names[] = {"a", "b", "c", "dir", "e-e", "e", "f g", "z", "none"};

    for (unsigned i = 0; i < 300; i++) {
        LD_AUTO(ld_found_done) struct ld_found found = LD_FOUND_INIT;
        autobuf struct ld_buf path = LD_BUF_INIT(4096);
        struct ld_err err = LD_ERR_INIT;
        struct stat st;
        int got, want;

        ld_buf_adds(&path, "/mnt/merged");
        for (unsigned k = 1 + ld_rand_below(r, 4); k > 0; k--)
            ld_buf_addf(&path, "/%s", names[ld_rand_below(r, LD_ARRAY_LEN(names))]);
        want = lstat(path.data, &st) == 0;
        if (want) { /* not through a symlink of the container */
            autofree char *real =
                ld_strndup(path.data, (size_t)(strrchr(path.data, '/') - path.data));
            autofree char *parent = realpath(real, NULL);

            want = parent && strcmp(parent, real) == 0;
        }
        got = ld_tree_lookup(layers, path.data + strlen("/mnt/merged"), &found, &err);
        cr_assert_eq(got, want, "'%s': %d, the kernel says %d", path.data, got, want);
        if (!got)
            continue;
        cr_assert_eq(found.node.st.st_mode, st.st_mode, "'%s'", path.data);
        cr_assert_eq(found.node.st.st_size,
                     S_ISDIR(st.st_mode) ? found.node.st.st_size : st.st_size);
        cr_assert_eq(found.node.st.st_mtim.tv_nsec, st.st_mtim.tv_nsec, "'%s'", path.data);
    }
}

static void mount_and_compare(uint64_t seed, const char *fs)
{
    struct ld_rand rand = {seed};
    size_t n = 1 + ld_rand_below(&rand, 6);
    autobuf struct ld_buf lower = LD_BUF_INIT(4000);
    struct ld_layers layers = {.form = LD_FORM_LAYER};
    char about[64];

    (void)snprintf(about, sizeof(about), "seed %llu on %s", (unsigned long long)seed, fs);
    ld_test_sh("mkdir -p merged %s/w", fs);
    for (size_t i = n; i-- > 0;) {
        autofree char *name = ld_asprintf("%s/%zu", fs, i);

        roots[i] = ld_test_mkdir(name);
        layers = (struct ld_layers){.root = &roots[i + 1], .n = n - 1 - i, .form = LD_FORM_LAYER};
        ld_rand_layer(&rand, roots[i], &layers);
    }
    for (size_t i = 0; i < n; i++)
        ld_buf_addf(&lower, "%s%s/%zu", i ? ":" : "", fs, i);
    ld_buf_addf(&lower, ":%s/w", fs); /* a second lower, empty */
    ld_test_sh("mount -t overlay o -o "
               "lowerdir=%s,index=off,metacopy=off,redirect_dir=nofollow,xino=off merged",
               lower.data);
    layers = (struct ld_layers){.root = roots, .n = n, .form = LD_FORM_LAYER};
    {
        autofree char *copy = ld_asprintf("%s/copy", fs);

        copy_to(&layers, copy);
        expect_same_tree("merged", copy, about);
    }
    check_lookups(&layers, &rand);
    for (size_t i = 0; i < n; i++)
        ld_close(roots[i]);
    ld_test_sh("umount merged; rm -rf %s/[0-9]* %s/copy %s/w", fs, fs, fs);
}

static uint64_t first_seed(void)
{
    const char *text = getenv("LD_SEED");

    return text ? strtoull(text, NULL, 10) : 1000;
}

LD_TEST(tree, shows_random_layers_as_the_kernel_does_on_tmpfs)
{
    ld_test_sh("mkdir fs");
    for (uint64_t seed = first_seed(); seed < first_seed() + 25; seed++)
        mount_and_compare(seed, "fs");
}

LD_TEST(tree, shows_random_layers_as_the_kernel_does_on_ext4)
{
    ld_close(ld_test_fs("fs", "ext4", 128));
    for (uint64_t seed = first_seed() + 100; seed < first_seed() + 125; seed++)
        mount_and_compare(seed, "fs");
}
