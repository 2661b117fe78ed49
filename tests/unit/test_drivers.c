/* The conformance suite of the storage drivers: each test runs with every driver, on tmpfs and on
 * ext4. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/base/buf.h"
#include "daemon/base/fdio.h"
#include "daemon/base/mem.h"
#include "drivers/driver.h"
#include "tests/lib/env.h"
#include "tests/lib/fault_driver.h"
#include "tests/lib/randtree.h"
#include "tests/lib/treedump.h"

/* ---- the world of one driver on one file system ---- */

struct world {
    const struct ld_driver *driver;
    struct ld_driver_env env;
    char data[64]; /* path of the data root, below the test's directory */
    ld_sid next;
};

static int make_below(const char *dir, const char *name)
{
    autofree char *path = ld_asprintf("%s/%s", dir, name);

    return ld_test_mkdir(path);
}

static void world_enter(struct world *w, const struct ld_driver *driver, const char *fs)
{
    *w = (struct world){.driver = driver, .next = 1};
    (void)snprintf(w->data, sizeof(w->data), "%s-%s", driver->name, fs);
    ld_close(strcmp(fs, "tmpfs") == 0 ? ld_test_mkdir(w->data)
                                      : ld_test_fs(w->data, fs, strcmp(fs, "xfs") == 0 ? 320 : 96));
    w->env.layers_fd = make_below(w->data, "layers");
    w->env.w_fd = make_below(w->data, "w");
    ld_close(make_below(w->data, "layers/0"));
    ld_test_sh("mkdir -p stage; mountpoint -q stage || mount -t tmpfs -o mode=0700 stage stage");
    w->env.stage_fd = ld_test_mkdir("stage");
    w->env.instance = "test";
}

static void world_leave(struct world *w)
{
    ld_close(w->env.layers_fd);
    ld_close(w->env.w_fd);
    ld_close(w->env.stage_fd);
    if (chdir("/mnt") == 0)
        (void)umount2(w->data, MNT_DETACH); /* where it is a file system of its own */
}

static void in_worlds(void (*body)(struct world *w), const char *const *fs)
{
    for (size_t i = 0; fs[i]; i++)
        for (size_t k = 0; ld_drivers[k]; k++) {
            struct world w;

            world_enter(&w, ld_drivers[k], fs[i]);
            body(&w);
            world_leave(&w);
        }
}

static const char *const tmpfs_and_ext4[] = {"tmpfs", "ext4", NULL};
static const char *const all_fs[] = {"tmpfs", "ext4", "xfs", NULL};

#define CONFORMS(sentence, fs)                                                                     \
    static void conforms_##sentence(struct world *w);                                              \
    LD_TEST(drivers, sentence)                                                                     \
    {                                                                                              \
        in_worlds(conforms_##sentence, fs);                                                        \
    }                                                                                              \
    static void conforms_##sentence(struct world *w)

/* A new layer made by a shell script that runs in its directory. */
static ld_sid make_layer(struct world *w, const char *script)
{
    ld_sid sid = w->next++;

    ld_test_sh("mkdir -m 755 %s/layers/%" LD_PRI_SID "; cd %s/layers/%" LD_PRI_SID "; %s", w->data,
               sid, w->data, sid, script);
    return sid;
}

static struct ld_writable make_writable(struct world *w, const ld_sid *chain, size_t n)
{
    struct ld_writable writable = {.sid = w->next++, .chain = {.sid = chain, .n = n}};
    struct ld_err err = LD_ERR_INIT;

    ld_test_ok(w->driver->create(&w->env, &writable, NULL, &err), &err);
    return writable;
}

static const char *stage_path(const struct ld_writable *writable)
{
    static char path[64];

    (void)snprintf(path, sizeof(path), "/mnt/stage/%s", ld_sid_name(writable->sid).text);
    return path;
}

static void mount_it(struct world *w, const struct ld_writable *writable, unsigned flags)
{
    struct ld_err err = LD_ERR_INIT;

    cr_assert_eq(mkdirat(w->env.stage_fd, ld_sid_name(writable->sid).text, 0700), 0);
    ld_test_ok(w->driver->mount(&w->env, writable, flags, &err), &err);
}

static void unmount_it(const struct ld_writable *writable)
{
    cr_assert_eq(umount2(stage_path(writable), UMOUNT_NOFOLLOW), 0, "%s", strerror(errno));
    cr_assert_eq(rmdir(stage_path(writable)), 0);
}

/* ---- changes as text ---- */

struct listing {
    struct ld_buf text;
    char last[4096];
};

static int list_change(void *arg, const struct ld_change *c, struct ld_err *err)
{
    struct listing *l = arg;
    int fd;

    (void)err;
    ld_buf_addf(&l->text, "%c %s\n", "AMD"[c->kind], c -> path);
    cr_assert(!l->last[0] || ld_tree_path_cmp(l->last, c->path) < 0, "'%s' after '%s'", c->path,
              l->last);
    (void)snprintf(l->last, sizeof(l->last), "%s", c->path);
    cr_assert_str_eq(c->node->path, c->path);
    fd = ld_node_open(c->node);
    cr_assert(fd >= 0, "'%s': %s", c->path, strerror(-fd));
    ld_close(fd);
    return 0;
}

static char *changes_text(struct world *w, const struct ld_writable *writable)
{
    struct listing l = {.text = LD_BUF_INIT(1 << 22)};
    struct ld_err err = LD_ERR_INIT;

    ld_test_ok(w->driver->changes(&w->env, writable, list_change, &l, &err), &err);
    return ld_buf_take(&l.text);
}

/* ---- probe, create, mount ---- */

CONFORMS(probe_says_what_it_can_do_and_leaves_nothing, tmpfs_and_ext4)
{
    struct ld_err err = LD_ERR_INIT;
    unsigned flags = 0;
    size_t fds = ld_test_count_fds();

    ld_test_ok(w->driver->probe(&w->env, &flags, &err), &err);
    cr_assert_eq(flags,
                 strcmp(w->driver->name, "vfs") == 0 ? LD_DRIVER_COPIES : LD_DRIVER_UPPER_IS_LAYER);
    ld_test_sh("test -z \"$(ls -A stage %s/w | grep -v :)\"", w->data);
    cr_assert_eq(ld_test_count_fds(), fds);
    cr_assert_eq(ld_driver_by_name(w->driver->name), w->driver);
    cr_assert_null(ld_driver_by_name("none"));
}

CONFORMS(a_container_is_written_and_the_layers_are_not, tmpfs_and_ext4)
{
    ld_sid base = make_layer(w, "mkdir etc; echo one > etc/f; echo two > etc/g; chmod 711 .");
    struct ld_writable a = make_writable(w, &base, 1), b = make_writable(w, &base, 1);
    autofree char *layer = ld_asprintf("%s/layers/1", w->data);
    autofree char *before = ld_dump_string(layer, LD_DUMP_OVERLAY_XATTRS);
    autofree char *after = NULL;

    mount_it(w, &a, 0);
    ld_test_sh("cd %s; echo new > etc/f; rm etc/g; mkdir d; touch d/x; rm -r etc; mkdir etc; "
               "stat -c %%a . | grep -qx 711",
               stage_path(&a));
    mount_it(w, &b, 0);
    ld_test_sh("cd %s; test $(cat etc/f etc/g | tr -d '\\n') = onetwo; test ! -e d",
               stage_path(&b));
    unmount_it(&a);
    unmount_it(&b);
    mount_it(w, &a, 0);
    ld_test_sh("cd %s; test -e d/x; test -z \"$(ls etc)\"", stage_path(&a));
    unmount_it(&a);
    after = ld_dump_string(layer, LD_DUMP_OVERLAY_XATTRS);
    cr_assert_str_eq(before, after);
}

CONFORMS(chains_of_0_to_400_layers, tmpfs_and_ext4)
{
    static const size_t sizes[] = {0, 1, 2, 20, LD_MAX_LAYERS};
    ld_sid sid[LD_MAX_LAYERS + 1];
    struct ld_writable too_long;
    struct ld_err err = LD_ERR_INIT;

    /* sids of five digits, as after some years */
    w->next = 10000;
    for (size_t i = LD_MAX_LAYERS + 1; i-- > 0;)
        sid[i] = w->next++;
    ld_test_sh("cd %s/layers; for i in $(seq 10000 10400); do mkdir -m 755 $i; touch $i/f$i; "
               "echo $i > $i/top; done",
               w->data);
    for (size_t i = 0; i < LD_ARRAY_LEN(sizes); i++) {
        struct ld_writable c = make_writable(w, sid, sizes[i]);

        mount_it(w, &c, 0);
        ld_test_sh("cd %s; test $(ls | wc -l) = %zu; touch x; rm -f x", stage_path(&c),
                   sizes[i] ? sizes[i] + 1 : 0);
        if (sizes[i])
            ld_test_sh("cd %s; test $(cat top) = 10400", stage_path(&c));
        unmount_it(&c);
    }
    too_long = (struct ld_writable){.sid = w->next++, .chain = {sid, LD_MAX_LAYERS + 1}};
    ld_test_fails(w->driver->create(&w->env, &too_long, NULL, &err), &err, LD_E_UNSUPPORTED);
    ld_test_sh("test ! -e %s/w/%" LD_PRI_SID, w->data, too_long.sid);
}

CONFORMS(the_root_has_the_attributes_of_the_merged_root, tmpfs_and_ext4)
{
    ld_sid chain[2];
    struct ld_writable c;

    chain[1] = make_layer(w, "chmod 700 .");
    chain[0] = make_layer(w, "chown 5:6 .; chmod 1751 .; setfattr -n trusted.r -v 1 .; "
                             "setfacl -m u:9:rx -d -m u:8:rwx .; "
                             "setfattr -n trusted.overlay.opaque -v y .; "
                             "touch -d @99.000000007 .");
    c = make_writable(w, chain, 2);
    mount_it(w, &c, 0);
    ld_test_sh("cd %s; test \"$(stat -c '%%a %%u %%g %%.9Y' .)\" = '1751 5 6 99.000000007'; "
               "getfattr -n trusted.r . > /dev/null; getfacl -np . | grep -qx default:user:8:rwx; "
               "! getfattr -n trusted.overlay.opaque . 2> /dev/null",
               stage_path(&c));
    unmount_it(&c);
}

CONFORMS(marks_planted_in_a_layer_are_not_followed, tmpfs_and_ext4)
{
    ld_sid chain[2];
    struct ld_writable c;

    chain[1] = make_layer(w, "mkdir secret; echo key > secret/key; echo data > file; ln file l");
    chain[0] = make_layer(w, "mkdir evil; setfattr -n trusted.overlay.redirect -v /secret evil; "
                             "truncate -s 5 file; setfattr -n trusted.overlay.metacopy -v '' file; "
                             "setfattr -n trusted.overlay.origin -v x file; touch evil/own");
    c = make_writable(w, chain, 2);
    mount_it(w, &c, 0);
    ld_test_sh("cd %s; ! cat evil/key 2> /dev/null; ! grep -q data file 2> /dev/null; "
               "test $(cat secret/key) = key",
               stage_path(&c));
    unmount_it(&c);
}

CONFORMS(what_a_container_writes_is_a_layer_without_foreign_marks, tmpfs_and_ext4)
{
    ld_sid base = make_layer(w, "mkdir d; echo x > d/a; ln d/a d/b; echo y > f");
    struct ld_writable c = make_writable(w, &base, 1);

    if (strcmp(w->driver->name, "overlay") != 0)
        return;
    mount_it(w, &c, 0);
    ld_test_sh("cd %s; echo z >> d/a; chmod 600 f; mv d e 2> /dev/null; mkdir n; mv n m",
               stage_path(&c));
    unmount_it(&c);
    ld_test_sh("! getfattr -R -d -m 'trusted.overlay' %s/w/%" LD_PRI_SID
               "/upper | grep -E 'redirect|metacopy|nlink|uuid|protattr'",
               w->data, c.sid);
    ld_test_sh("test -z \"$(ls -A %s/w/%" LD_PRI_SID "/work/index 2> /dev/null)\"", w->data, c.sid);
    /* index=off: the file is whole, so the upper is right as a lower */
    ld_test_sh("test $(cat %s/w/%" LD_PRI_SID "/upper/f) = y", w->data, c.sid);
}

CONFORMS(read_only_mounts_refuse_writes, tmpfs_and_ext4)
{
    ld_sid base = make_layer(w, "echo x > f");
    struct ld_writable c = make_writable(w, &base, 1);
    autofree char *changes = NULL;

    mount_it(w, &c, 0);
    ld_test_sh("echo own > %s/own", stage_path(&c));
    unmount_it(&c);
    mount_it(w, &c, LD_MOUNT_RDONLY);
    ld_test_sh("cd %s; ! touch f 2> /dev/null; ! rm own 2> /dev/null; test $(cat own) = own",
               stage_path(&c));
    unmount_it(&c);
    mount_it(w, &c, 0);
    ld_test_sh("touch %s/more", stage_path(&c));
    unmount_it(&c);
    changes = changes_text(w, &c);
    cr_assert_str_eq(changes, "M /\nA /more\nA /own\n");
}

CONFORMS(volatile_mounts_work_once, tmpfs_and_ext4)
{
    ld_sid base = make_layer(w, "echo x > f");
    struct ld_writable c = make_writable(w, &base, 1);

    mount_it(w, &c, LD_MOUNT_VOLATILE);
    ld_test_sh("echo own > %s/f", stage_path(&c));
    if (strcmp(w->driver->name, "overlay") == 0)
        ld_test_sh("grep ' %s ' /proc/self/mountinfo | grep -q 'layerd:test:%" LD_PRI_SID
                   " .*/w/%" LD_PRI_SID "/upper,.*volatile'",
                   stage_path(&c), c.sid, c.sid);
    unmount_it(&c);
}

CONFORMS(nothing_stays_open_and_the_working_directory_is_kept, tmpfs_and_ext4)
{
    ld_sid base = make_layer(w, "mkdir -p a/b; echo x > a/b/f");
    size_t fds = ld_test_count_fds();
    struct ld_writable c = make_writable(w, &base, 1);
    struct ld_err err = LD_ERR_INIT;
    struct ld_usage usage;
    bool held;
    char cwd[256];

    cr_assert_eq(chdir("/mnt/stage"), 0);
    mount_it(w, &c, 0);
    cr_assert_str_eq(getcwd(cwd, sizeof(cwd)), "/mnt/stage");
    cr_assert_eq(chdir("/mnt"), 0);
    free(changes_text(w, &c));
    unmount_it(&c);
    ld_test_ok(w->driver->in_use(&w->env, &c, &held, &err), &err);
    ld_test_ok(w->driver->usage(&w->env, &c, &usage, &err), &err);
    cr_assert_eq(ld_test_count_fds(), fds);
}

struct mounter {
    struct world *w;
    struct ld_writable c;
    int rc;
    struct ld_err err;
};

static void *mount_thread(void *arg)
{
    struct mounter *m = arg;

    m->rc = m->w->driver->mount(&m->w->env, &m->c, 0, &m->err);
    return NULL;
}

CONFORMS(threads_mount_at_the_same_time, tmpfs_and_ext4)
{
    enum { N = 6 };
    ld_sid base = make_layer(w, "echo x > f");
    struct mounter m[N];
    pthread_t thread[N];

    for (size_t i = 0; i < N; i++) {
        m[i] = (struct mounter){.w = w, .c = make_writable(w, &base, 1)};
        cr_assert_eq(mkdirat(w->env.stage_fd, ld_sid_name(m[i].c.sid).text, 0700), 0);
    }
    for (size_t i = 0; i < N; i++)
        cr_assert_eq(pthread_create(&thread[i], NULL, mount_thread, &m[i]), 0);
    for (size_t i = 0; i < N; i++) {
        cr_assert_eq(pthread_join(thread[i], NULL), 0);
        cr_assert_eq(m[i].rc, 0, "%s", m[i].err.message);
        ld_test_sh("echo %zu > %s/own", i, stage_path(&m[i].c));
    }
    for (size_t i = 0; i < N; i++) {
        ld_test_sh("test $(cat %s/own) = %zu", stage_path(&m[i].c), i);
        unmount_it(&m[i].c);
    }
}

/* ---- held by others ---- */

/* A process in a mount namespace of its own that has its working directory there. */
static pid_t start_holder(const char *path, int *ret_pipe)
{
    int up[2], down[2];
    char byte;
    pid_t pid;

    cr_assert_eq(pipe2(up, O_CLOEXEC) | pipe2(down, O_CLOEXEC), 0);
    pid = fork();
    if (pid == 0) {
        ld_close(down[1]);
        if (unshare(CLONE_NEWNS) < 0 || chdir(path) < 0 || write(up[1], "r", 1) != 1 ||
            read(down[0], &byte, 1) < 0)
            _exit(1);
        _exit(0);
    }
    ld_close(up[1]);
    ld_close(down[0]);
    cr_assert_eq(read(up[0], &byte, 1), 1);
    ld_close(up[0]);
    *ret_pipe = down[1];
    return pid;
}

static bool is_held(struct world *w, const struct ld_writable *c)
{
    struct ld_err err = LD_ERR_INIT;
    bool held = false;

    ld_test_ok(w->driver->in_use(&w->env, c, &held, &err), &err);
    ld_test_sh("! ls stage | grep probe");
    return held;
}

CONFORMS(holders_in_other_namespaces_are_seen_where_they_do_harm, tmpfs_and_ext4)
{
    ld_sid base = make_layer(w, "echo x > f");
    struct ld_writable c = make_writable(w, &base, 1);
    bool is_seen = strcmp(w->driver->name, "overlay") == 0, held = false;
    struct ld_err err = LD_ERR_INIT;
    int wake, status;
    pid_t pid;

    cr_assert(!is_held(w, &c));
    mount_it(w, &c, 0);
    cr_assert_eq(is_held(w, &c), is_seen);
    pid = start_holder(stage_path(&c), &wake);
    unmount_it(&c);
    cr_assert_eq(is_held(w, &c), is_seen, "a process in a private namespace holds it");
    ld_close(wake);
    cr_assert_eq(waitpid(pid, &status, 0), pid);
    cr_assert(!is_held(w, &c), "nobody holds it any more");
    mount_it(w, &c, 0);
    unmount_it(&c);
    c.sid = 4711;
    ld_test_fails(w->driver->in_use(&w->env, &c, &held, &err), &err, LD_E_IO);
}

/* ---- changes ---- */

static const char base_script[] =
    "mkdir -p etc/dir bin usr/a/b; echo root > etc/passwd; echo a > etc/dir/a; echo b > etc/dir/b; "
    "echo tool > bin/tool; ln bin/tool bin/tool2; ln -s etc/passwd link; echo deep > usr/a/b/f; "
    "mknod gone c 0 0; chmod 755 etc/passwd; setfattr -n trusted.t -v 1 etc/passwd; "
    "find . -depth -exec touch -h -d @1000 {} +";

CONFORMS(changes_are_exact, tmpfs_and_ext4)
{
    static const struct {
        const char *script, *want;
    } cases[] = {
        {"true", ""},
        {"cat etc/passwd link > /dev/null; ls -lR > /dev/null", ""},
        {"chmod 600 etc/passwd; chmod 755 etc/passwd", ""},
        {"cp -p etc/passwd x; cat x > etc/passwd; rm x; touch -d @1000 etc/passwd .", ""},
        {"chmod 600 etc/passwd", "M /etc/passwd\n"},
        {"chmod u+s etc/dir/b", "M /etc/dir/b\n"},
        {"chown 1 etc", "M /etc\n"},
        {"chown -h 1 link", "M /link\n"},
        {"chmod 700 .", "M /\n"},
        {"setfattr -n trusted.t -v 2 etc/passwd", "M /etc/passwd\n"},
        {"setfattr -x trusted.t etc/passwd", "M /etc/passwd\n"},
        {"touch -d @1000.000000001 etc/dir/a", "M /etc/dir/a\n"},
        {"echo toor > etc/passwd; touch -d @1000 etc/passwd", "M /etc/passwd\n"},
        {"ln -sfn etc/passwx link; touch -h -d @1000 link .", "M /link\n"},
        {"touch new", "M /\nA /new\n"},
        {"touch new; rm new; touch -d @1000 .", ""},
        {"rm etc/dir/a", "M /etc/dir\nD /etc/dir/a\n"},
        {"rm -r etc/dir", "M /etc\nD /etc/dir\n"},
        {"rm -r usr", "M /\nD /usr\n"},
        {"rm -r etc/dir; mkdir etc/dir; touch etc/dir/c",
         "M /etc\nM /etc/dir\nD /etc/dir/a\nD /etc/dir/b\nA /etc/dir/c\n"},
        {"rm -r etc/dir; echo > etc/dir", "M /etc\nM /etc/dir\n"},
        {"rm etc/passwd; mkdir etc/passwd; touch etc/passwd/x",
         "M /etc\nM /etc/passwd\nA /etc/passwd/x\n"},
        {"rm -r usr/a; mkdir -p usr/a/b; touch usr/a/b/g",
         "M /usr\nM /usr/a\nM /usr/a/b\nD /usr/a/b/f\nA /usr/a/b/g\n"},
        {"rm -r usr/a; mkdir -p usr/a/b; echo deep > usr/a/b/f; touch -d @1000 usr/a/b/f usr/a/b "
         "usr/a usr",
         ""},
        {"mkdir p; mv p q; touch q/x", "M /\nA /q\nA /q/x\n"},
        {"mkdir p; touch p/a; rm -r etc/dir; mv p etc/dir; touch -d @1000 .",
         "M /etc\nM /etc/dir\nM /etc/dir/a\nD /etc/dir/b\n"},
        {"mv etc/passwd etc/pw", "M /etc\nD /etc/passwd\nA /etc/pw\n"},
        {"mv etc/dir etc/dir2", "M /etc\nD /etc/dir\nA /etc/dir2\nA /etc/dir2/a\nA /etc/dir2/b\n"},
        {"mv etc/dir/a t; mv etc/dir/b etc/dir/a; mv t etc/dir/b; touch -d @1000 . etc/dir",
         "M /etc/dir/a\nM /etc/dir/b\n"},
        {"ln etc/passwd etc/pw", "M /etc\nA /etc/pw\n"},
        {"echo more >> bin/tool2; rm bin/tool; touch -d @1000 bin", "D /bin/tool\nM /bin/tool2\n"},
        {"touch gone", "M /\nA /gone\n"},
        {"mkdir gone; touch gone/x", "M /\nA /gone\nA /gone/x\n"},
        {"touch 'a b' a-b; mkdir a; touch a/x", "M /\nA /a\nA /a/x\nA /a b\nA /a-b\n"},
        {"rm -rf ./*", "M /\nD /bin\nD /etc\nD /link\nD /usr\n"},
    };
    ld_sid base = make_layer(w, base_script);

    for (size_t i = 0; i < LD_ARRAY_LEN(cases); i++) {
        struct ld_writable c = make_writable(w, &base, 1);
        autofree char *mounted = NULL, *unmounted = NULL;

        mount_it(w, &c, 0);
        ld_test_sh("cd %s; %s", stage_path(&c), cases[i].script);
        mounted = changes_text(w, &c);
        unmount_it(&c);
        unmounted = changes_text(w, &c);
        cr_expect_str_eq(unmounted, cases[i].want, "%s: %s\n%s", w->data, cases[i].script,
                         unmounted);
        cr_expect_str_eq(mounted, unmounted, "mounted: %s", cases[i].script);
    }
}

static int stop(void *arg, const struct ld_change *change, struct ld_err *err)
{
    (void)change;
    ++*(int *)arg;
    return ld_err_set(err, LD_E_CANCELED, "enough");
}

CONFORMS(a_sink_ends_the_walk, tmpfs_and_ext4)
{
    ld_sid base = make_layer(w, base_script);
    struct ld_writable c = make_writable(w, &base, 1);
    struct ld_err err = LD_ERR_INIT;
    int calls = 0;

    mount_it(w, &c, 0);
    ld_test_sh("rm -r %s/*", stage_path(&c));
    unmount_it(&c);
    ld_test_fails(w->driver->changes(&w->env, &c, stop, &calls, &err), &err, LD_E_CANCELED);
    cr_assert_eq(calls, 1);
}

/* vfs: without its record and its list all is compared, and the answer is the same. */
LD_TEST(drivers, vfs_without_its_window_compares_all)
{
    struct world world, *w = &world;
    autofree char *whole = NULL, *poor = NULL;
    ld_sid base;
    struct ld_writable c;

    world_enter(w, &ld_driver_vfs, "ext4");
    base = make_layer(w, base_script);
    c = make_writable(w, &base, 1);
    mount_it(w, &c, 0);
    ld_test_sh("cd %s; echo toor > etc/passwd; touch -d @1000 etc/passwd; rm -r usr",
               stage_path(&c));
    unmount_it(&c);
    whole = changes_text(w, &c);
    c.state = (struct ld_driver_state){.text = "nonsense"};
    ld_test_sh("rm %s/w/%" LD_PRI_SID "/inodes", w->data, c.sid);
    poor = changes_text(w, &c);
    cr_assert_str_eq(whole, "M /\nM /etc/passwd\nD /usr\n");
    cr_assert_str_eq(poor, whole);
    world_leave(w);
}

/* ---- random ---- */

struct line {
    char *path; /* "/a", unescaped */
    char *rest;
    bool is_dir;
};

struct lines {
    struct line *line;
    size_t n, cap;
};

static void lines_done(struct lines *l)
{
    for (size_t i = 0; i < l->n; i++) {
        free(l->line[i].path);
        free(l->line[i].rest);
    }
    free(l->line);
}

static char *unescape(const char *text, size_t len)
{
    char *path = ld_alloc0(len + 2), *to = path;

    *to++ = '/';
    for (size_t i = 0; i < len; i++) {
        if (text[i] == '\\') {
            *to++ = (char)((text[i + 1] - '0') * 64 + (text[i + 2] - '0') * 8 + text[i + 3] - '0');
            i += 3;
        } else {
            *to++ = text[i];
        }
    }
    if (strcmp(path, "/.") == 0)
        path[1] = '\0';
    return path;
}

static struct lines parse_dump(const char *root)
{
    autofree char *text = ld_dump_string(root, LD_DUMP_NO_LINKS);
    struct lines l = {.n = 0};
    char *save = NULL;

    for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        size_t len = strcspn(line, " ");

        ld_grow(&l.line, &l.cap, l.n + 1, sizeof(*l.line));
        l.line[l.n++] = (struct line){.path = unescape(line, len),
                                      .rest = ld_strdup(line + len),
                                      .is_dir = line[len + 1] == 'd'};
    }
    return l;
}

static bool is_inside(const char *path, const char *dir)
{
    size_t len = strlen(dir);

    return strncmp(path, dir, len) == 0 && path[len] == '/';
}

/* What `changes` has to say, from two dumps alone. */
static char *model_changes(const struct lines *before, const struct lines *after)
{
    struct ld_buf text = LD_BUF_INIT(1 << 22);
    const char *silent = NULL; /* a deleted or replaced directory */
    size_t i = 0, k = 0;

    while (i < before->n || k < after->n) {
        const struct line *b = i < before->n ? &before->line[i] : NULL;
        const struct line *a = k < after->n ? &after->line[k] : NULL;
        int c = !b ? 1 : !a ? -1 : ld_tree_path_cmp(b->path, a->path);

        i += c <= 0;
        k += c >= 0;
        if (c < 0) {
            if (silent && is_inside(b->path, silent))
                continue;
            ld_buf_addf(&text, "D %s\n", b->path);
            silent = b->path;
        } else if (c > 0) {
            ld_buf_addf(&text, "A %s\n", a->path);
        } else {
            if (strcmp(b->rest, a->rest) != 0)
                ld_buf_addf(&text, "M %s\n", a->path);
            if (b->is_dir && !a->is_dir)
                silent = b->path;
        }
    }
    return ld_buf_take(&text);
}

static void expect_text(const char *got, const char *want, const char *about)
{
    FILE *a, *b;

    if (strcmp(got, want) == 0)
        return;
    a = fopen("/mnt/got", "w");
    b = fopen("/mnt/want", "w");
    (void)fputs(got, a), (void)fputs(want, b);
    (void)fclose(a), (void)fclose(b);
    (void)!system("diff -a /mnt/got /mnt/want | head -20 >&2");
    cr_assert_fail("%s: '<' is what we got, '>' what we want", about);
}

static uint64_t first_seed(void)
{
    const char *text = getenv("LD_SEED");

    return text ? strtoull(text, NULL, 10) : 5000;
}

static void random_round(struct world *w, uint64_t seed)
{
    struct ld_rand rand = {seed};
    ld_sid chain[4];
    int root[4];
    size_t n = 1 + ld_rand_below(&rand, 4);
    struct ld_writable c;
    char about[96];

    (void)snprintf(about, sizeof(about), "%s, LD_SEED=%llu", w->data, (unsigned long long)seed);
    for (size_t i = n; i-- > 0;) {
        struct ld_layers below = {.root = &root[i + 1], .n = n - 1 - i};

        chain[i] = make_layer(w, "true");
        root[i] = openat(w->env.layers_fd, ld_sid_name(chain[i]).text, O_RDONLY | O_CLOEXEC);
        ld_rand_layer(&rand, root[i], &below);
    }
    c = make_writable(w, chain, n);
    mount_it(w, &c, 0);
    {
        LD_AUTO(lines_done) struct lines before = parse_dump(stage_path(&c));
        LD_AUTO(lines_done) struct lines after = {.n = 0};
        autofree char *none = changes_text(w, &c);
        autofree char *want = NULL, *got = NULL;

        expect_text(none, "", about);
        ld_rand_changes(&rand, stage_path(&c), 1 + ld_rand_below(&rand, 30));
        after = parse_dump(stage_path(&c));
        want = model_changes(&before, &after);
        got = changes_text(w, &c);
        expect_text(got, want, about);
    }
    unmount_it(&c);
    for (size_t i = 0; i < n; i++)
        ld_close(root[i]);
    ld_test_sh("rm -rf %s/layers/[1-9]* %s/w/*", w->data, w->data);
}

CONFORMS(random_changes_equal_a_model, all_fs)
{
    for (uint64_t seed = first_seed(); seed < first_seed() + 12; seed++)
        random_round(w, seed);
}

/* ---- failures ---- */

static void expect_nothing_of(struct world *w, const struct ld_writable *c)
{
    ld_test_sh("test ! -e %s/w/%" LD_PRI_SID, w->data, c->sid);
}

CONFORMS(a_failed_create_leaves_nothing, tmpfs_and_ext4)
{
    ld_sid chain[2] = {make_layer(w, "head -c 100000 /dev/zero | tr '\\0' x > big; touch f"), 999};
    struct ld_writable c = {.sid = w->next++, .chain = {chain, 2}};
    struct ld_err err = LD_ERR_INIT;
    size_t fds = ld_test_count_fds();
    bool cancel = true;

    ld_test_fails(w->driver->create(&w->env, &c, NULL, &err), &err, LD_E_CORRUPT);
    cr_assert_neq(strstr(err.message, "999"), NULL, "%s", err.message);
    expect_nothing_of(w, &c);

    c.chain.n = 1;
    if (strcmp(w->driver->name, "vfs") == 0) {
        ld_test_fails(w->driver->create(&w->env, &c, &cancel, &err), &err, LD_E_CANCELED);
        expect_nothing_of(w, &c);
    }
    ld_test_ok(w->driver->create(&w->env, &c, NULL, &err), &err);
    ld_test_fails(w->driver->create(&w->env, &c, NULL, &err), &err, LD_E_IO);
    ld_test_sh("test -d %s/w/%" LD_PRI_SID, w->data, c.sid); /* that one was there before */
    cr_assert_eq(ld_test_count_fds(), fds);
}

LD_TEST(drivers, a_full_disk_leaves_nothing)
{
    struct world world, *w = &world;
    struct ld_err err = LD_ERR_INIT;
    struct ld_writable c;
    ld_sid base;

    ld_test_sh("mkdir vfs-tmpfs; mount -t tmpfs -o size=3m small vfs-tmpfs");
    world_enter(w, &ld_driver_vfs, "tmpfs");
    base = make_layer(w, "head -c 2000000 /dev/urandom > big; touch z");
    c = (struct ld_writable){.sid = w->next++, .chain = {&base, 1}};
    ld_test_fails(w->driver->create(&w->env, &c, NULL, &err), &err, LD_E_NO_SPACE);
    cr_assert_neq(strstr(err.message, "'/big'"), NULL, "%s", err.message);
    expect_nothing_of(w, &c);
    world_leave(w);
}

CONFORMS(a_failed_mount_mounts_nothing, tmpfs_and_ext4)
{
    ld_sid base = make_layer(w, "touch f");
    struct ld_writable c = make_writable(w, &base, 1);
    struct ld_err err = LD_ERR_INIT;
    size_t fds = ld_test_count_fds();
    char cwd[256];

    ld_test_fails(w->driver->mount(&w->env, &c, 0, &err), &err, LD_E_IO); /* no stage/SID */
    ld_test_sh("rm -r %s/w/%" LD_PRI_SID "/*", w->data, c.sid);
    cr_assert_eq(mkdirat(w->env.stage_fd, ld_sid_name(c.sid).text, 0700), 0);
    ld_test_fails(w->driver->mount(&w->env, &c, 0, &err), &err, LD_E_IO);
    ld_test_sh("! mountpoint -q %s", stage_path(&c));
    cr_assert_eq(rmdir(stage_path(&c)), 0);
    ld_test_fails(w->driver->changes(&w->env, &c, list_change, NULL, &err), &err, LD_E_IO);
    cr_assert_eq(ld_test_count_fds(), fds);
    cr_assert_str_eq(getcwd(cwd, sizeof(cwd)), "/mnt");
}

LD_TEST(drivers, an_overlay_that_comes_up_read_only_is_refused)
{
    struct world world, *w = &world;
    struct ld_err err = LD_ERR_INIT;
    struct ld_writable c;
    ld_sid base;

    world_enter(w, &ld_driver_overlay, "tmpfs");
    base = make_layer(w, "touch f");
    c = make_writable(w, &base, 1);
    /* The kernel can't make its directory in work, and mounts read-only without a word. */
    ld_test_sh("mkdir -p %s/w/%" LD_PRI_SID "/work/work/not/deep; "
               "mount -t tmpfs t %s/w/%" LD_PRI_SID "/work/work/not",
               w->data, c.sid, w->data, c.sid);
    cr_assert_eq(mkdirat(w->env.stage_fd, ld_sid_name(c.sid).text, 0700), 0);
    ld_test_fails(w->driver->mount(&w->env, &c, 0, &err), &err, LD_E_IO);
    ld_test_sh("! mountpoint -q %s", stage_path(&c));
    world_leave(w);
}

CONFORMS(usage_counts_what_is_written, tmpfs_and_ext4)
{
    ld_sid base = make_layer(w, "head -c 500000 /dev/urandom > big");
    struct ld_writable c = make_writable(w, &base, 1);
    struct ld_err err = LD_ERR_INIT;
    struct ld_usage before, after;

    ld_test_ok(w->driver->usage(&w->env, &c, &before, &err), &err);
    if (strcmp(w->driver->name, "vfs") == 0)
        cr_assert_geq(before.bytes, 500000);
    else
        cr_assert_leq(before.bytes, 64 << 10);
    mount_it(w, &c, 0);
    ld_test_sh("head -c 300000 /dev/urandom > %s/new; sync %s/new", stage_path(&c), stage_path(&c));
    unmount_it(&c);
    ld_test_ok(w->driver->usage(&w->env, &c, &after, &err), &err);
    cr_assert_geq(after.bytes, before.bytes + 300000);
    cr_assert_geq(after.inodes, before.inodes + 1);
}

CONFORMS(the_decorator_fails_when_told, tmpfs_and_ext4)
{
    const struct ld_driver *faulty = ld_fault_driver(w->driver);
    ld_sid base = make_layer(w, "touch f");
    struct ld_writable c = {.sid = w->next++, .chain = {&base, 1}};
    struct ld_err err = LD_ERR_INIT;

    ld_fault_next(LD_FAULT_CREATE, LD_FAULT_BEFORE, LD_E_NO_SPACE);
    ld_test_fails(faulty->create(&w->env, &c, NULL, &err), &err, LD_E_NO_SPACE);
    expect_nothing_of(w, &c);
    ld_fault_next(LD_FAULT_CREATE, LD_FAULT_AFTER, LD_E_IO);
    ld_test_fails(faulty->create(&w->env, &c, NULL, &err), &err, LD_E_IO);
    ld_test_sh("test -d %s/w/%" LD_PRI_SID, w->data, c.sid);
    cr_assert_eq(ld_fault_calls(LD_FAULT_CREATE), 2);
    cr_assert_eq(mkdirat(w->env.stage_fd, ld_sid_name(c.sid).text, 0700), 0);
    ld_test_ok(faulty->mount(&w->env, &c, 0, &err), &err);
    unmount_it(&c);
}
