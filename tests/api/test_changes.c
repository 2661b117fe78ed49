/* changes, diff and export for each driver; and that what one container does is seen nowhere else.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include <cjson/cJSON.h>

#include "daemon/base/buf.h"
#include "daemon/base/fdio.h"
#include "daemon/base/mem.h"
#include "tests/lib/api.h"

static const char *const drivers[] = {"overlay", "vfs"};

static void create(struct ld_client *c, const char *name, const char *image, const char *driver)
{
    autofree char *members = ld_asprintf("'driver':'%s'", driver);

    (void)ld_create(c, name, image, members);
}

LD_API_TEST(changes, are_exact)
{
    static const struct {
        const char *script;  /* run in the container's root */
        const char *changes; /* that must be told */
    } rows[] = {
        {"true", ""},
        {"cat etc/passwd usr/lib/deep/file >/dev/null; ls -lR . >/dev/null", ""},
        {"chmod 0600 etc/passwd", "modified /etc/passwd"},
        {"chown 9 usr/lib/deep", "modified /usr/lib/deep"},
        {"touch -d @1 etc/motd", "modified /etc/motd"},
        {"m=$(stat -c %y etc/motd); printf 'SECOND\\n' > etc/motd; touch -d \"$m\" etc/motd",
         "modified /etc/motd"},
        {"rm etc/motd", "modified /etc, deleted /etc/motd"},
        {"rm -r usr", "modified /, deleted /usr"},
        {"mv etc/motd etc/notd", "modified /etc, deleted /etc/motd, added /etc/notd"},
        {"touch etc/x && mkdir -p new/deep && rm etc/x",
         "modified /, modified /etc, added /new, added /new/deep"},
        {"rm -r usr/lib/deep; mkdir usr/lib/deep; echo y > usr/lib/deep/other",
         "modified /usr/lib, modified /usr/lib/deep, deleted /usr/lib/deep/file, "
         "added /usr/lib/deep/other"},
        {"rm etc/passwd; mkdir etc/passwd", "modified /etc, modified /etc/passwd"},
        {"ln -sfn other bin/link", "modified /bin, modified /bin/link"},
        {"mkfifo var/fifo", "modified /var, added /var/fifo"},
        {"chmod 0700 .", "modified /"},
        {"m=$(stat -c %y etc); touch etc/x; rm etc/x; touch -d \"$m\" etc", ""},
    };

    ld_have_base(c);
    for (size_t k = 0; k < LD_ARRAY_LEN(drivers); k++) {
        for (size_t i = 0; i < LD_ARRAY_LEN(rows); i++) {
            struct ld_blob mounted, later;
            struct ld_text at;

            create(c, "web", "base", drivers[k]);
            at = ld_mount(c, "web");
            ld_test_sh("cd %s; %s", at.s, rows[i].script);
            mounted = ld_changes(c, "web");
            ld_unmount(c, "web");
            later = ld_changes(c, "web");
            cr_expect_str_eq(mounted.data, rows[i].changes, "%s, '%s': %s", drivers[k],
                             rows[i].script, mounted.data);
            cr_expect_str_eq(later.data, rows[i].changes, "%s, '%s', unmounted: %s", drivers[k],
                             rows[i].script, later.data);
            (void)ld_want(c, 204, "DELETE", NULL, "/v1/containers/web");
            ld_blob_done(&mounted);
            ld_blob_done(&later);
        }
    }
}

LD_API_TEST(changes, come_in_pages_that_together_are_all)
{
    autofree char *after = ld_strdup("");
    struct ld_text at;
    int seen = 0;

    ld_have_base(c);
    (void)ld_create(c, "web", "base", NULL);
    at = ld_mount(c, "web");
    ld_test_sh("cd %s/var/empty; for i in $(seq 250); do touch f$i; done; mkdir d; touch d/x d-y",
               at.s);
    for (int pages = 0; pages < 10; pages++) {
        cJSON *json = ld_want(c, 200, "GET", NULL, "/v1/containers/web/changes?limit=100%s", after);

        seen += ld_count(json, "items");
        if (ld_is_null(json, "next"))
            break;
        free(after);
        after = ld_asprintf("&after=%s", ld_str(json, "next"));
    }
    cr_expect_eq(seen, 254);
    (void)ld_want_error(c, "invalid", "GET", NULL, "/v1/containers/web/changes?after=%%21%%21");
    ld_unmount(c, "web");
}

/* A stream of the API into a file. */
static void download(struct ld_client *c, const char *target, const char *path)
{
    autoclose int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    cr_assert_eq(
        ld_call(c, &(struct ld_call){.method = "GET", .target = target, .to_fd = fd})->status, 200,
        "%s", target);
}

static const char script[] =
    "cd %s; chmod 0640 etc/passwd; rm etc/motd; rm -r usr; mkdir -p srv/a; head -c 100000 "
    "/dev/urandom "
    ">srv/a/big; ln srv/a/big srv/a/same; truncate -s 3M srv/a/hole; ln -s a srv/l; mkfifo srv/f; "
    "mknod srv/n c 1 3; touch -d '2001-02-03 04:05:06.123456789' srv/a/big; chmod 1777 var; "
    "setfattr -n user.x -v y srv/a 2>/dev/null; true";

LD_API_TEST(export, is_the_mounted_tree)
{
    ld_have_base(c);
    for (size_t k = 0; k < LD_ARRAY_LEN(drivers); k++) {
        struct ld_text at, mounted, unpacked;

        create(c, "web", "base", drivers[k]);
        at = ld_mount(c, "web");
        ld_test_sh(script, at.s);
        mounted = ld_tree_digest(at.s);
        download(c, "/v1/containers/web/export", "/mnt/export.tar");
        ld_test_sh("rm -rf /mnt/out; mkdir -p /mnt/out; tar -C /mnt/out --numeric-owner --xattrs "
                   "--xattrs-include='*' -xpf /mnt/export.tar");
        unpacked = ld_tree_digest("/mnt/out");
        cr_expect_str_eq(unpacked.s, mounted.s, "%s", drivers[k]);
        ld_unmount(c, "web");
        download(c, "/v1/containers/web/export", "/mnt/export2.tar");
        ld_test_sh("cmp /mnt/export.tar /mnt/export2.tar"); /* the same bytes, mounted or not */
        (void)ld_want(c, 204, "DELETE", NULL, "/v1/containers/web");
    }
}

LD_API_TEST(diff, on_the_same_image_makes_the_same_tree)
{
    struct ld_blob base = ld_make_base();

    ld_have_base(c);
    for (size_t k = 0; k < LD_ARRAY_LEN(drivers); k++) {
        struct ld_text at, changed, applied;

        create(c, "web", "base", drivers[k]);
        at = ld_mount(c, "web");
        ld_test_sh(script, at.s);
        changed = ld_tree_digest(at.s);
        download(c, "/v1/containers/web/diff", "/mnt/diff.tar");
        download(c, "/v1/containers/web/export", "/mnt/export.tar");
        ld_unmount(c, "web");
        (void)ld_want(c, 204, "DELETE", NULL, "/v1/containers/web");
        /* umoci, which is not ours, puts the layer on top of the base. */
        ld_close(ld_blob_file(&base, "base.tar"));
        ld_test_sh("rm -rf lay bundle; mkdir lay; tar -C lay -xf base.tar; "
                   "umoci raw add-layer --image lay:latest diff.tar && "
                   "umoci unpack --image lay:latest bundle");
        applied = ld_tree_digest("/mnt/bundle/rootfs");
        cr_expect_str_eq(applied.s, changed.s, "%s", drivers[k]);
    }
    ld_blob_done(&base);
}

LD_API_TEST(diff, cannot_tell_names_that_look_like_whiteouts)
{
    struct ld_text at;
    cJSON *error;

    ld_have_base(c);
    (void)ld_create(c, "web", "base", NULL);
    at = ld_mount(c, "web");
    ld_test_sh("touch %s/etc/.wh.odd", at.s);
    error = ld_want_error(c, "bad_content", "GET", NULL, "/v1/containers/web/diff");
    cr_expect(strstr(ld_str(error, "message"), ".wh.odd"), "%s", ld_str(error, "message"));
    ld_unmount(c, "web");
}

LD_API_TEST(changes, and_tars_leave_out_the_volumes)
{
    struct ld_blob changes;
    struct ld_text at;

    ld_have_base(c);
    (void)ld_create(c, "web", "base",
                    "'mounts':[{'type':'volume','source':'v','target':'/var/empty'}]");
    at = ld_mount(c, "web");
    ld_test_sh("echo secret > %s/var/empty/file", at.s);
    changes = ld_changes(c, "web");
    cr_expect_str_eq(changes.data, "");
    download(c, "/v1/containers/web/export", "/mnt/export.tar");
    download(c, "/v1/containers/web/diff", "/mnt/diff.tar");
    ld_test_sh("tar tf /mnt/export.tar | grep -q '^[./]*var/empty/$'; "
               "! tar tf /mnt/export.tar | grep -q 'empty/file'; ! grep -q secret /mnt/diff.tar");
    ld_unmount(c, "web");
    ld_blob_done(&changes);
}

LD_API_TEST(isolation, nothing_a_container_does_is_seen_in_another_or_in_the_image)
{
    ld_have_app(c);
    for (size_t k = 0; k < LD_ARRAY_LEN(drivers); k++) {
        autofree char *layers = ld_asprintf("%s/layers", d->data_root);
        struct ld_text one, two, third, before, after, stored, stored_after;

        create(c, "one", "app", drivers[k]);
        create(c, "two", "app", drivers[k]);
        one = ld_mount(c, "one");
        two = ld_mount(c, "two");
        before = ld_tree_digest(two.s);
        stored = ld_tree_digest(layers);
        ld_test_sh("cd %s; find . -xdev -type f -exec sh -c 'echo x >> \"$1\"' _ {} \\;; chmod -R "
                   "0700 etc; "
                   "rm -rf usr bin/tool; mkdir usr; touch usr/new; chown -R 7 app; mv app var/",
                   one.s);
        after = ld_tree_digest(two.s);
        stored_after = ld_tree_digest(layers);
        cr_expect_str_eq(after.s, before.s, "%s: the other container", drivers[k]);
        cr_expect_str_eq(stored_after.s, stored.s, "%s: the layers", drivers[k]);
        create(c, "third", "app", drivers[k]);
        third = ld_mount(c, "third");
        after = ld_tree_digest(third.s);
        cr_expect_str_eq(after.s, before.s, "%s: a new container", drivers[k]);
        (void)ld_want(c, 204, "DELETE", NULL, "/v1/containers/one?force=1&volumes=1");
        (void)ld_want(c, 204, "DELETE", NULL, "/v1/containers/two?force=1&volumes=1");
        (void)ld_want(c, 204, "DELETE", NULL, "/v1/containers/third?force=1&volumes=1");
    }
}

LD_API_TEST(drivers, show_the_same_tree)
{
    struct ld_text overlay, vfs;

    ld_have_base(c);
    create(c, "one", "base", "overlay");
    create(c, "two", "base", "vfs");
    overlay = ld_tree_digest(ld_mount(c, "one").s);
    vfs = ld_tree_digest(ld_mount(c, "two").s);
    cr_expect_str_eq(overlay.s, vfs.s);
    ld_unmount(c, "one");
    ld_unmount(c, "two");
}
