/* See api.h. */
#include "tests/lib/api.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cjson/cJSON.h>

#include "daemon/base/buf.h"
#include "daemon/base/fdio.h"
#include "daemon/base/mem.h"

void ld_api_finish(struct ld_daemon *d)
{
    cr_assert(ld_daemon_is_alive(d));
    (void)ld_want(d->client, 200, "GET", NULL, "/v1/info");
    ld_daemon_end(d);
}

struct ld_text ld_textf(const char *fmt, ...)
{
    struct ld_text t;
    va_list ap;
    int n;

    va_start(ap, fmt);
    n = vsnprintf(t.s, sizeof(t.s), fmt, ap);
    va_end(ap);
    cr_assert(n >= 0 && (size_t)n < sizeof(t.s), "%s is too long", fmt);
    return t;
}

void ld_have_base(struct ld_client *c)
{
    struct ld_blob archive = ld_make_base();

    (void)ld_import(c, &archive, "");
    ld_blob_done(&archive);
}

void ld_have_app(struct ld_client *c)
{
    struct ld_blob archive = ld_make_app();

    (void)ld_import(c, &archive, "");
    ld_blob_done(&archive);
}

struct ld_text ld_create(struct ld_client *c, const char *name, const char *image,
                         const char *members)
{
    autofree char *body = ld_asprintf("{'name':'%s','image':'%s'%s%s}", name, image,
                                      members ? "," : "", members ? members : "");

    return ld_textf("%s", ld_str(ld_want(c, 201, "POST", body, "/v1/containers"), "id"));
}

struct ld_text ld_mount(struct ld_client *c, const char *name)
{
    return ld_textf(
        "%s", ld_str(ld_want(c, 200, "POST", NULL, "/v1/containers/%s/mount", name), "mountpoint"));
}

void ld_unmount(struct ld_client *c, const char *name)
{
    cJSON *json = ld_want(c, 200, "POST", NULL, "/v1/containers/%s/unmount", name);

    cr_assert(ld_is_null(json, "mountpoint"));
}

/* Python has no part in it: find and the coreutils see what the kernel shows. */
struct ld_text ld_tree_digest(const char *path)
{
    autofree char *command = ld_asprintf(
        "cd '%s' && { find . -xdev -type d -printf '%%P %%y %%m %%U %%G %%T@\\n' -o "
        "-printf '%%P %%y %%m %%U %%G %%n %%s %%T@ %%l\\n' | LC_ALL=C sort; "
        "find . -xdev -type f -print0 | LC_ALL=C sort -z | xargs -0r sha256sum; "
        "find . -xdev '(' -type c -o -type b ')' -exec stat -c '%%n %%t %%T' {} + | LC_ALL=C sort; "
        "getfattr -Rdh -m '^(user|security)' . 2>/dev/null | LC_ALL=C sort; } | sha256sum",
        path);
    FILE *pipe = popen(command, "re"); /* NOLINT: tests run their own fixed commands */
    struct ld_text t = {""};

    cr_assert(pipe && fgets(t.s, 65, pipe), "%s", command);
    cr_assert_eq(pclose(pipe), 0);
    return t;
}

void ld_data_usage(const struct ld_daemon *d, struct ld_usage *ret)
{
    autoclose int dir = open(d->data_root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    cr_assert(dir >= 0);
    cr_assert_eq(ld_tree_usage(dir, ".", NULL, ret), 0);
}

static int count_one(void *arg, const char *name, unsigned char d_type)
{
    (void)name, (void)d_type;
    ++*(size_t *)arg;
    return 0;
}

size_t ld_data_count(const struct ld_daemon *d, const char *name)
{
    autofree char *path = ld_asprintf("%s/%s", d->data_root, name);
    autoclose int dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    size_t n = 0;

    cr_assert(dir >= 0, "%s: %s", path, strerror(errno));
    cr_assert_eq(ld_each_name(dir, count_one, &n), 0);
    return n;
}

struct counting {
    const struct ld_daemon *d;
    const char *name;
    size_t n;
};

static bool has_count(void *arg)
{
    const struct counting *w = arg;

    return ld_data_count(w->d, w->name) == w->n;
}

void ld_wait_count(const struct ld_daemon *d, const char *name, size_t n)
{
    struct counting w = {.d = d, .name = name, .n = n};

    cr_expect(ld_test_wait(has_count, &w, 60), "%s has %zu names, not %zu", name,
              ld_data_count(d, name), n);
}

static bool trash_is_empty(void *arg)
{
    return ld_data_count(arg, "trash") == 0;
}

void ld_wait_reaped(const struct ld_daemon *d)
{
    cr_assert(ld_test_wait(trash_is_empty, (void *)d, 60), "trash is not emptied");
}

struct ld_blob ld_changes(struct ld_client *c, const char *name)
{
    cJSON *json = ld_want(c, 200, "GET", NULL, "/v1/containers/%s/changes", name);
    struct ld_buf buf = LD_BUF_INIT(1 << 20);
    const cJSON *item;
    size_t len;

    cJSON_ArrayForEach (item, ld_at(json, "items"))
        ld_buf_addf(&buf, "%s%s %s", buf.len ? ", " : "", ld_str(item, "kind"),
                    ld_str(item, "path"));
    len = buf.len;
    return (struct ld_blob){.data = ld_buf_take(&buf), .len = len};
}

struct ld_text ld_take_snapshot(struct ld_client *c, const char *container, const char *snapshot)
{
    autofree char *body = ld_asprintf("{'name':'%s'}", snapshot);

    return ld_textf(
        "%s",
        ld_str(ld_want(c, 201, "POST", body, "/v1/containers/%s/snapshots", container), "id"));
}

void ld_change(struct ld_client *c, const char *container, const char *commands)
{
    ld_test_sh("cd %s && %s", ld_mount(c, container).s, commands);
    ld_unmount(c, container);
}

struct ld_text ld_root_digest(struct ld_client *c, const char *container)
{
    struct ld_text text = ld_tree_digest(ld_mount(c, container).s);

    ld_unmount(c, container);
    return text;
}

struct books {
    const struct ld_daemon *d;
    struct ld_client *c;
};

static bool is_balanced(void *arg)
{
    const struct books *b = arg;
    struct ld_usage usage;
    cJSON *df = ld_want(b->c, 200, "GET", NULL, "/v1/df");

    ld_data_usage(b->d, &usage);
    return ld_int(df, "total.bytes") == (int64_t)usage.bytes &&
           ld_int(df, "total.inodes") == (int64_t)usage.inodes;
}

void ld_expect_df_is_du(const struct ld_daemon *d, struct ld_client *c)
{
    struct books b = {d, c};

    ld_wait_reaped(d);
    cr_expect(ld_test_wait(is_balanced, &b, 20), "df tells something else than du");
}

/* Bound at another place: the kernel takes away a copy whose mount point is removed. */
static bool bind_in_own_namespace(const char *path)
{
    return unshare(CLONE_NEWNS) == 0 && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
           mkdir("/mnt/held", 0700) == 0 && mount(path, "/mnt/held", NULL, MS_BIND, NULL) == 0;
}

pid_t ld_hold_elsewhere(const char *path)
{
    char byte = 'n';
    int ready[2];
    pid_t holder;

    cr_assert_eq(pipe2(ready, O_CLOEXEC), 0);
    holder = fork();
    cr_assert_geq(holder, 0);
    if (holder == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        byte = bind_in_own_namespace(path) ? 'y' : 'n';
        (void)!write(ready[1], &byte, 1);
        for (;;)
            (void)pause();
    }
    cr_assert_eq(read(ready[0], &byte, 1), 1);
    cr_assert_eq(byte, 'y');
    ld_close(ready[0]);
    ld_close(ready[1]);
    return holder;
}

void ld_hold_end(pid_t holder)
{
    (void)kill(holder, SIGKILL);
    cr_assert_eq(waitpid(holder, NULL, 0), holder);
    (void)rmdir("/mnt/held");
}

/* ---- df ---- */

struct idle {
    const struct ld_daemon *d;
    struct ld_client *c;
    struct ld_usage du;
    cJSON *df; /* borrowed from the client */
};

/* What the daemon still does by itself (events of mounts, the reserve, the reaper) may fall between
 * the two looks. */
static bool df_agrees(void *arg)
{
    struct idle *idle = arg;

    ld_data_usage(idle->d, &idle->du);
    idle->df = ld_want(idle->c, 200, "GET", NULL, "/v1/df?verify=1");
    return (uint64_t)ld_int(idle->df, "total.bytes") == idle->du.bytes &&
           (uint64_t)ld_int(idle->df, "total.inodes") == idle->du.inodes &&
           (uint64_t)ld_int(idle->df, "verified.bytes") == idle->du.bytes &&
           (uint64_t)ld_int(idle->df, "verified.inodes") == idle->du.inodes;
}

void ld_df_is_du(const struct ld_daemon *d, struct ld_client *c)
{
    struct idle idle = {.d = d, .c = c};
    cJSON *json;

    cr_expect(ld_test_wait(df_agrees, &idle, 30), "df %lld bytes, %lld inodes; du %llu, %llu",
              (long long)ld_int(idle.df, "total.bytes"), (long long)ld_int(idle.df, "total.inodes"),
              (unsigned long long)idle.du.bytes, (unsigned long long)idle.du.inodes);
    json = idle.df;
    cr_expect_eq(ld_int(json, "total.bytes"),
                 ld_int(json, "layers.bytes") + ld_int(json, "writable_layers.bytes") +
                     ld_int(json, "volumes.bytes") + ld_int(json, "trash.bytes") +
                     ld_int(json, "quarantine.bytes") + ld_int(json, "staging.bytes") +
                     ld_int(json, "blobs.bytes") + ld_int(json, "other.bytes"));
    cr_expect_eq(ld_int(json, "layers.bytes"), ld_int(json, "layers.shared") +
                                                   ld_int(json, "layers.unique") +
                                                   ld_int(json, "layers.unused"));
}
