/* OCI runtime bundles: see bundle.h. */
#include "daemon/core/bundle.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "daemon/base/fdio.h"
#include "daemon/base/log.h"
#include "daemon/base/mem.h"
#include "daemon/core/rootfs.h"
#include "daemon/core/state.h"
#include "daemon/core/target.h"
#include "daemon/image/runtime.h"

enum { MAX_ACCOUNTS = 1 << 20, MAX_HOSTNAME = 63 };

static const char config_name[] = "config.json";
static const char temporary_name[] = ".config.json.layerd";

/* ---- where it is ---- */

char *ld_bundle_path(const struct ld_core *core, const char *id)
{
    autofree char *text = ld_alloc0(PATH_MAX);
    struct stat st;

    if (readlinkat(core->root.bundles_fd, id, text, PATH_MAX - 1) > 0)
        return ld_strdup(text);
    if (fstatat(core->root.bundles_fd, id, &st, AT_SYMLINK_NOFOLLOW) == 0)
        return ld_asprintf("%s/bundles/%s", core->root.run_path, id);
    return NULL;
}

static bool is_own_place(const struct ld_core *core, const char *path, const char *id)
{
    autofree char *own = ld_asprintf("%s/bundles/%s", core->root.run_path, id);

    return strcmp(own, path) == 0;
}

/* A folder whose config.json root runs: nobody else may write there. */
static int open_theirs(struct ld_core *core, const char *path, bool is_ours, int *ret,
                       struct ld_err *err)
{
    autoclose int place = -EBADF;
    autoclose int fd = -EBADF;
    struct stat st;

    if (ld_mount_target_open(&core->root, core->env.instance, path, &place, err) < 0)
        return -1;
    fd = openat(place, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) < 0)
        return ld_err_sys(err, -errno, "open the bundle '%s'", path);
    if (st.st_uid != 0 || (st.st_mode & (S_IWGRP | S_IWOTH)))
        return ld_err_set(err, LD_E_FORBIDDEN,
                          "the bundle '%s' is refused: others than root can write there", path);
    if (!is_ours && faccessat(fd, config_name, F_OK, AT_SYMLINK_NOFOLLOW) == 0) {
        (void)ld_err_set(err, LD_E_CONFLICT, "there is a '%s' in '%s' already", config_name, path);
        return ld_err_hint(err, "remove it, or choose another folder");
    }
    *ret = ld_steal_fd(&fd);
    return 0;
}

/* The folder, and its record. */
static int open_folder(struct ld_core *core, const char *id, const char *path, int *ret,
                       struct ld_err *err)
{
    autofree char *now = ld_bundle_path(core, id);
    int fd;

    if (path && is_own_place(core, path, id))
        path = NULL;
    if (now && (path ? strcmp(now, path) != 0 : !is_own_place(core, now, id))) {
        (void)ld_err_set(err, LD_E_CONFLICT, "its bundle is in '%s'", now);
        return ld_err_hint(err, "unmount it first");
    }
    if (path) {
        if (open_theirs(core, path, now != NULL, ret, err) < 0)
            return -1;
        if (now || symlinkat(path, core->root.bundles_fd, id) == 0)
            return 0;
        ld_close_p(ret);
        return ld_err_sys(err, -errno, "write down the bundle '%s'", path);
    }
    fd = ld_ensure_dir(core->root.bundles_fd, id, 0700);
    if (fd < 0)
        return ld_err_sys(err, fd, "make a folder for the bundle");
    *ret = fd;
    return 0;
}

/* ---- what is in it ---- */

/* A small file of the container, "" when there is none. What it names belongs to whoever runs in
 * there: resolved in its root, and only a regular file is opened. */
static int read_accounts(int root, const char *path, char **ret, struct ld_err *err)
{
    autoclose int at = ld_open_under(root, path, LD_IN_ROOT, O_PATH, 0);
    autoclose int fd = -EBADF;
    autofree char *text = NULL;
    struct stat st;
    int r = 0;

    if (at == -ENOENT || at == -ENOTDIR || at == -ELOOP) {
        *ret = ld_strdup("");
        return 0;
    }
    if (at < 0 || fstat(at, &st) < 0)
        return ld_err_sys(err, at < 0 ? at : -errno, "open the container's /%s", path);
    if (!S_ISREG(st.st_mode) || st.st_size > MAX_ACCOUNTS)
        return ld_err_set(err, LD_E_CONFLICT,
                          "the container's /%s is no file, or larger than %d bytes", path,
                          (int)MAX_ACCOUNTS);
    fd = open(ld_fd_path(at).path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0)
        return ld_err_sys(err, -errno, "open the container's /%s", path);
    text = ld_alloc0((size_t)st.st_size + 1);
    for (size_t have = 0; have < (size_t)st.st_size;) {
        ssize_t n = ld_pread_some(fd, text + have, (size_t)st.st_size - have, have);

        if (n <= 0) {
            r = (int)n; /* shorter by now: what there is */
            break;
        }
        have += (size_t)n;
    }
    if (r < 0)
        return ld_err_sys(err, r, "read the container's /%s", path);
    *ret = ld_steal(&text);
    return 0;
}

static int find_user(struct ld_core *core, const struct ld_write *w, const char *id,
                     const char *user, struct ld_account *ret, struct ld_err *err)
{
    struct ld_reader reader;
    autofree char *passwd = NULL;
    autofree char *group = NULL;
    int rc;

    if (ld_reader_open(core, w, id, true, &reader, err) < 0)
        return -1;
    rc = read_accounts(reader.view.fd, "etc/passwd", &passwd, err);
    if (rc == 0)
        rc = read_accounts(reader.view.fd, "etc/group", &group, err);
    ld_reader_close(&reader);
    return rc < 0 ? -1 : ld_account_resolve(user, passwd, group, ret, err);
}

static int load_process(struct ld_core *core, const struct ld_container *c, struct ld_process *ret,
                        struct ld_err *err)
{
    struct ld_image image LD_AUTO(ld_image_done) = {.id = NULL};
    struct ld_oci_config config LD_AUTO(ld_oci_config_done) = {.user = NULL};
    bool has_image = c->image_id != NULL;

    if (has_image && ld_store_image_get(core->store, c->image_id, &image, err) < 0) {
        if (err->code != LD_E_NOT_FOUND)
            return -1;
        has_image = false; /* removed by force: the container's own config is what there is */
    }
    if (has_image &&
        ld_oci_config_parse(image.config, image.config_len, image.id, &config, err) < 0)
        return -1;
    if (ld_process_merge(has_image ? &config : NULL, c->config, ret, err) < 0)
        return -1;
    if (ret->args && ret->args[0])
        return 0;
    (void)ld_err_set(err, LD_E_CONFLICT,
                     "it has no command: neither its config nor its image names one");
    return ld_err_hint(err, "create it with config.cmd or config.entrypoint");
}

static int write_config(struct ld_core *core, int dir, const char *id, struct ld_runtime *runtime,
                        struct ld_err *err)
{
    autoclose int place = ld_mounts_open_place(core->mounts, id);
    autoclose int fd = -EBADF;
    autofree char *root = ld_asprintf("%s/mnt/%s", core->root.run_path, id);
    autofree char *text = NULL;
    struct statvfs sv;
    int r;

    if (place < 0 || fstatvfs(place, &sv) < 0)
        return ld_err_sys(err, place < 0 ? place : -errno, "look at the mount");
    runtime->root = root;
    runtime->is_read_only = sv.f_flag & ST_RDONLY;
    text = ld_runtime_render(runtime);
    (void)unlinkat(dir, temporary_name, 0); /* of a daemon that was killed */
    fd = openat(dir, temporary_name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    r = fd < 0 ? -errno : ld_write_full(fd, text, strlen(text));
    if (r == 0 && renameat(dir, temporary_name, dir, config_name) < 0)
        r = -errno;
    return r < 0 ? ld_err_sys(err, r, "write the bundle's %s", config_name) : 0;
}

static int make(struct ld_core *core, const struct ld_write *w, const struct ld_container *c,
                const struct ld_bundle_wish *wish, struct ld_container_state *ret,
                struct ld_err *err)
{
    LD_AUTO(ld_process_done) struct ld_process process = {.args = NULL};
    LD_AUTO(ld_account_done) struct ld_account user = {.uid = 0};
    struct ld_container_mounting mounting = {.how = LD_AS_CREATED};
    autofree char *hostname =
        c->name && strlen(c->name) <= MAX_HOSTNAME ? ld_strdup(c->name) : ld_strndup(c->id, 12);
    struct ld_runtime runtime = {.process = &process,
                                 .user = &user,
                                 .hostname = hostname,
                                 .has_terminal = wish->has_terminal,
                                 .host_network = wish->host_network};
    autoclose int dir = -EBADF;

    /* What can be refused is, before it is mounted. */
    if (load_process(core, c, &process, err) < 0 ||
        find_user(core, w, c->id, process.user, &user, err) < 0 ||
        open_folder(core, c->id, wish->path, &dir, err) < 0)
        return -1;
    if (ld_container_mount(core, w, c->id, &mounting, ret, err) < 0) {
        if (ld_mounts_state(core->mounts, c->id, c->upper_sid) != LD_MOUNTED)
            ld_bundle_drop(core, c->id);
        return -1;
    }
    if (write_config(core, dir, c->id, &runtime, err) == 0) {
        ld_free_p(&ret->bundle);
        ret->bundle = ld_bundle_path(core, c->id);
        return 0;
    }
    ld_container_state_done(ret);
    return -1;
}

int ld_container_bundle(struct ld_core *core, const struct ld_write *w, const char *id,
                        const struct ld_bundle_wish *wish, struct ld_container_state *ret,
                        struct ld_err *err)
{
    struct ld_container c LD_AUTO(ld_container_done) = {.id = NULL};

    if (ld_store_container_get(core->store, id, &c, err) < 0)
        return -1;
    if (make(core, w, &c, wish, ret, err) == 0)
        return 0;
    return ld_err_prefix(err, "the bundle of container '%s'", c.name ? c.name : c.id);
}

/* ---- its end ---- */

/* Only what we wrote; the folder is the caller's. */
static int clear_theirs(const char *path)
{
    const char *name = NULL;
    autoclose int parent = ld_mount_target_open_parent(path, &name);
    autoclose int dir = parent < 0 ? parent : ld_open_dir(parent, name);

    if (dir < 0)
        return dir == -ENOENT ? 0 : dir;
    (void)unlinkat(dir, temporary_name, 0);
    return unlinkat(dir, config_name, 0) < 0 && errno != ENOENT ? -errno : 0;
}

void ld_bundle_drop(struct ld_core *core, const char *id)
{
    autofree char *path = ld_bundle_path(core, id);
    int r = 0;

    if (!path)
        return;
    if (!is_own_place(core, path, id)) {
        r = clear_theirs(path);
        if (unlinkat(core->root.bundles_fd, id, 0) < 0 && r == 0)
            r = -errno;
    } else {
        r = ld_remove_tree(core->root.bundles_fd, id, NULL);
    }
    if (r < 0)
        ld_warn("remove the bundle '%s': %s", path, strerrordesc_np(-r));
}

static int recover_one(void *arg, const char *name, unsigned char d_type)
{
    struct ld_core *core = arg;
    struct ld_container c LD_AUTO(ld_container_done) = {.id = NULL};
    struct ld_err ignored = LD_ERR_INIT;

    (void)d_type;
    if (ld_store_container_get(core->store, name, &c, &ignored) < 0 ||
        ld_mounts_state(core->mounts, c.id, c.upper_sid) != LD_MOUNTED)
        ld_bundle_drop(core, name);
    return 0;
}

void ld_bundles_recover(struct ld_core *core)
{
    (void)!ld_each_name(core->root.bundles_fd, recover_one, core); /* never fails the start */
}
