/* Mounting volumes, binds and tmpfs into a container's root: see parts.h.
 *
 * Targets come from outside and the tree they name belongs to the container: they are resolved by
 * openat2(RESOLVE_IN_ROOT) only, and nothing is opened below but directories, by O_PATH.
 */
#include "daemon/core/parts.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "daemon/base/fdio.h"
#include "daemon/base/mem.h"
#include "daemon/base/mountapi.h"
#include "daemon/base/quota.h"
#include "daemon/base/tree.h"
#include "daemon/core/root.h"

enum { MAX_COMPONENTS = 128 };

void ld_part_ids_done(struct ld_part_ids *ids)
{
    free(ids->id);
    *ids = (struct ld_part_ids){.n = 0};
}

/* Makes the missing directories of a path below top and opens its parent; *ret_last is the last
 * component, borrowed from path. Symlinks on the way are followed inside the root, as the kernel
 * does. */
static int make_parents(int top, char *path, const char **ret_last)
{
    autoclose int at = openat(top, ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
    char *last = strrchr(path, '/');
    char *slash;

    if (at < 0)
        return -errno;
    *ret_last = last ? last + 1 : path;
    if (!last)
        return ld_steal_fd(&at);
    *last = '\0';
    /* Prefix by prefix, each from the top: a link in the middle may be absolute or go up. */
    for (slash = strchr(path, '/');; slash = strchr(slash + 1, '/')) {
        int next;

        if (slash)
            *slash = '\0';
        next = ld_open_under(top, path, LD_IN_ROOT, O_PATH | O_DIRECTORY, 0);
        if (next == -ENOENT) {
            const char *name = strrchr(path, '/');
            int made = ld_make_dir(at, name ? name + 1 : path, 0755);

            ld_close(made);
            next = made < 0 ? made : ld_open_under(top, path, LD_IN_ROOT, O_PATH | O_DIRECTORY, 0);
        }
        if (slash)
            *slash = '/';
        if (next < 0)
            return next;
        ld_close_p(&at);
        at = next;
        if (!slash)
            return ld_steal_fd(&at);
    }
}

static int make_target(int top, const char *target, bool is_dir)
{
    autofree char *path = ld_strdup(target);
    const char *last;
    autoclose int parent = make_parents(top, path, &last);
    int fd;

    if (parent < 0)
        return parent;
    if (is_dir) {
        fd = ld_make_dir(parent, last, 0755);
        ld_close(fd);
    } else {
        autoclose int dir = openat(parent, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

        fd = dir < 0
                 ? -errno
                 : openat(dir, last, O_CREAT | O_EXCL | O_WRONLY | O_NOFOLLOW | O_CLOEXEC, 0644);
        if (fd < 0)
            fd = -errno;
        ld_close(fd);
    }
    return fd == -EEXIST ? -ELOOP : fd < 0 ? fd : 0; /* it exists and dangles */
}

/* The relative form of an absolute target: no leading, trailing or double slashes. */
static char *relative_target(const char *target)
{
    char *path = ld_strdup(target);
    char *out = path;

    for (const char *in = target; *in; in++) {
        if (*in == '/' && (out == path || in[1] == '/' || in[1] == '\0'))
            continue;
        *out++ = *in;
    }
    *out = '\0';
    return path;
}

static int open_target(const struct ld_rootfs *spec, const struct ld_mount_part *part, int top,
                       bool is_dir, struct ld_err *err)
{
    autofree char *path = relative_target(part->target);
    autoclose int fd = ld_open_under(top, path, LD_IN_ROOT, O_PATH, 0);
    struct stat st;

    if (fd == -ENOENT) {
        int r;

        if (spec->read_only) {
            (void)ld_err_set(err, LD_E_CONFLICT,
                             "the mount target '%s' does not exist in the read-only container",
                             part->target);
            return ld_err_hint(err,
                               "make it in the image, or create the container without read_only");
        }
        r = make_target(top, path, is_dir);
        fd = r < 0 ? r : ld_open_under(top, path, LD_IN_ROOT, O_PATH, 0);
    }
    if (fd == -ELOOP || fd == -ENOTDIR || fd == -ENAMETOOLONG)
        return ld_err_set(err, LD_E_CONFLICT,
                          "the mount target '%s' can't be made in the container: %s", part->target,
                          fd == -ELOOP     ? "a symbolic link dangles or loops"
                          : fd == -ENOTDIR ? "a part of the path is not a directory"
                                           : "the path is too long");
    if (fd < 0)
        return ld_err_sys(err, fd, "open the mount target '%s'", part->target);
    if (fstat(fd, &st) < 0)
        return ld_err_sys(err, -errno, "look at the mount target '%s'", part->target);
    if (S_ISLNK(st.st_mode) || S_ISDIR(st.st_mode) != is_dir)
        return ld_err_set(err, LD_E_CONFLICT, "the mount target '%s' is %s, its source is %s",
                          part->target, S_ISDIR(st.st_mode) ? "a directory" : "not a directory",
                          is_dir ? "a directory" : "not one");
    return ld_steal_fd(&fd);
}

/* What is to take the volume's place: a directory like it. */
static int stage_volume(const struct ld_root *root, const struct ld_quota *quota, ld_sid sid,
                        const char *aside)
{
    autoclose int volume = ld_open_dir(root->volumes_fd, ld_sid_name(sid).text);
    int r = volume < 0 ? volume : ld_remove_tree(root->staging_fd, aside, NULL);

    return r < 0 ? r : ld_quota_make_like(quota, root->staging_fd, aside, 0700, sid, volume);
}

static int trade_places(const struct ld_root *root, const char *aside, const char *name)
{
    return renameat2(root->staging_fd, aside, root->volumes_fd, name, RENAME_EXCHANGE) < 0 ? -errno
                                                                                           : 0;
}

/* The seed takes the place of the volume, unless something is in that by now. btrfs replaces no
 * subvolume, not even an empty one: they trade places, and again if somebody was faster. */
static int replace_volume(const struct ld_root *root, const struct ld_quota *quota,
                          const char *aside, const char *name)
{
    int r = renameat(root->staging_fd, aside, root->volumes_fd, name) < 0 ? -errno : 0;

    if (r != -ENOTEMPTY && r != -EEXIST)
        return r;
    r = ld_dir_is_empty(root->volumes_fd, name);
    if (r == 1) {
        r = trade_places(root, aside, name);
        if (r == 0 && ld_dir_is_empty(root->staging_fd, aside) != 1)
            r = trade_places(root, aside, name);
    }
    return r < 0 ? r : ld_quota_remove_tree(quota, root->staging_fd, aside, NULL);
}

/* What the image has at the target goes into a new volume: copied aside, made durable, renamed over
 * the empty directory. A volume that has content by now is left as it is: the first wins. */
static int seed_volume(const struct ld_root *root, const struct ld_quota *quota,
                       const struct ld_mount_part *part, int target, struct ld_err *err)
{
    struct ld_sid_text name = ld_sid_name(part->volume);
    autofree char *aside = ld_asprintf("seed-%s", name.text);
    autoclose int from = openat(target, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct ld_layers plain = {.root = &from, .n = 1, .form = LD_FORM_PLAIN};
    autoclose int to = -EBADF;
    int r;

    if (from < 0)
        return ld_err_sys(err, -errno, "open the content at '%s'", part->target);
    to = stage_volume(root, quota, part->volume, aside);
    if (to < 0)
        return ld_err_sys(err, to, "stage the volume for '%s'", part->target);
    if (ld_tree_copy(&plain, to, LD_FORM_PLAIN, NULL, err) < 0) {
        (void)!ld_quota_remove_tree(quota, root->staging_fd, aside,
                                    NULL); /* the start discards staging too */
        return ld_err_prefix(err, "seed the volume at '%s'", part->target);
    }
    r = ld_syncfs(to);
    if (r == 0)
        r = replace_volume(root, quota, aside, name.text);
    if (r == 0)
        r = ld_fsync(root->volumes_fd);
    return r < 0 ? ld_err_sys(err, r, "seed the volume at '%s'", part->target) : 0;
}

/* The directory or file to be mounted, O_PATH. */
int ld_part_open_source(const struct ld_root *root, const struct ld_mount_part *part,
                        struct ld_err *err)
{
    struct ld_sid_text name = ld_sid_name(part->volume);
    const char *what = part->type == LD_PART_VOLUME ? "volume" : "source";
    const char *shown = part->type == LD_PART_VOLUME ? name.text : part->source;
    autoclose int fd =
        part->type == LD_PART_VOLUME
            ? openat(root->volumes_fd, name.text, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
            : open(part->source, O_PATH | O_CLOEXEC);
    int sub;

    if (fd < 0 && errno == ENOENT)
        return ld_err_set(err, LD_E_NOT_FOUND, "the %s '%s' for '%s' does not exist", what, shown,
                          part->target);
    if (fd < 0)
        return ld_err_sys(err, -errno, "open the %s '%s' for '%s'", what, shown, part->target);
    if (!part->subpath)
        return ld_steal_fd(&fd);
    sub = ld_open_under(fd, part->subpath, LD_BENEATH, O_PATH, 0);
    if (sub == -ENOENT)
        return ld_err_set(err, LD_E_NOT_FOUND,
                          "the subpath '%s' of the mount at '%s' does not exist", part->subpath,
                          part->target);
    if (sub == -EXDEV || sub == -ELOOP)
        return ld_err_set(err, LD_E_INVALID,
                          "the subpath '%s' of the mount at '%s' leaves its source", part->subpath,
                          part->target);
    return sub < 0 ? ld_err_sys(err, sub, "open the subpath '%s'", part->subpath) : sub;
}

static int put(int tree, int target, const struct ld_mount_part *part, struct ld_err *err)
{
    int r = ld_mount_put(tree, target);

    return r < 0 ? ld_err_sys(err, r, "mount at '%s'", part->target) : 0;
}

static int mount_tmpfs(const struct ld_rootfs *spec, const char *instance,
                       const struct ld_mount_part *part, int top, struct ld_err *err)
{
    autofree char *source = ld_asprintf("layerd:%s:%" LD_PRI_SID, instance, spec->writable.sid);
    autoclose int target = open_target(spec, part, top, true, err);
    struct ld_tmpfs tmpfs = {.source = source, .size = part->size, .mode = 01777};
    autoclose int tree = -EBADF;

    if (target < 0)
        return -1;
    tree = ld_mount_tmpfs(&tmpfs);
    if (tree < 0)
        return ld_err_sys(err, tree, "make a tmpfs for '%s'", part->target);
    if (part->read_only) {
        int r = ld_mount_set_rdonly(tree, true);

        if (r < 0)
            return ld_err_sys(err, r, "make the tmpfs at '%s' read-only", part->target);
    }
    return put(tree, target, part, err);
}

static int mount_tree(const struct ld_root *root, const struct ld_driver_env *env,
                      const struct ld_rootfs *spec, const struct ld_mount_part *part, int top,
                      struct ld_err *err)
{
    autoclose int source = ld_part_open_source(root, part, err);
    autoclose int target = -EBADF, tree = -EBADF;
    struct stat st;
    unsigned flags = part->read_only ? LD_CLONE_RDONLY : 0;

    if (source < 0)
        return -1;
    if (fstat(source, &st) < 0)
        return ld_err_sys(err, -errno, "look at the source of '%s'", part->target);
    target = open_target(spec, part, top, S_ISDIR(st.st_mode), err);
    if (target < 0)
        return -1;
    if (part->seed && S_ISDIR(st.st_mode)) {
        ld_close_p(&source); /* of the directory that seeding replaces */
        if (seed_volume(root, &env->quota, part, target, err) < 0)
            return -1;
        source = ld_part_open_source(root, part, err);
        if (source < 0)
            return -1;
    }
    tree = ld_mount_clone(source, "", flags);
    if (tree < 0)
        return ld_err_sys(err, tree, "clone the source of the mount at '%s'", part->target);
    return put(tree, target, part, err);
}

static size_t depth_of(const struct ld_mount_part *part)
{
    autofree char *path = relative_target(part->target);
    size_t n = *path ? 1 : 0;

    for (const char *p = path; *p; p++)
        n += *p == '/';
    return n;
}

/* The id of what was just mounted: what the target shows now. */
static int remember(int top, const struct ld_mount_part *part, struct ld_part_ids *ids,
                    struct ld_err *err)
{
    autofree char *path = relative_target(part->target);
    autoclose int fd = ld_open_under(top, path, LD_IN_ROOT, O_PATH, 0);
    uint64_t id;
    int r = fd < 0 ? fd : ld_mount_id(fd, "", &id, NULL);

    if (r < 0)
        return ld_err_sys(err, r, "look at the mount at '%s'", part->target);
    ld_grow(&ids->id, &ids->cap, ids->n + 1, sizeof(*ids->id));
    ids->id[ids->n++] = id;
    return 0;
}

static bool is_mounted_at(int top, const struct ld_mount_part *part)
{
    autofree char *path = relative_target(part->target);
    autoclose int fd = ld_open_under(top, path, LD_IN_ROOT, O_PATH, 0);
    bool is_root = false;
    uint64_t id;

    return fd >= 0 && ld_mount_id(fd, "", &id, &is_root) == 0 && is_root;
}

bool ld_parts_are_mounted(const struct ld_rootfs *spec, int top)
{
    for (size_t i = 0; i < spec->n_parts; i++) {
        if (!is_mounted_at(top, &spec->parts[i]))
            return false;
    }
    return true;
}

static int mount_part(const struct ld_root *root, const struct ld_rootfs *spec,
                      const struct ld_driver_env *env, const struct ld_mount_part *part, int top,
                      struct ld_err *err)
{
    return part->type == LD_PART_TMPFS ? mount_tmpfs(spec, env->instance, part, top, err)
                                       : mount_tree(root, env, spec, part, top, err);
}

/* The parts in the order of their targets' depth; *ret is owned by the caller. */
static int by_depth(const struct ld_rootfs *spec, const struct ld_mount_part ***ret,
                    struct ld_err *err)
{
    const struct ld_mount_part **parts = ld_alloc0((spec->n_parts + 1) * sizeof(*parts));
    size_t n = 0;

    for (size_t depth = 0; n < spec->n_parts && depth <= MAX_COMPONENTS; depth++) {
        for (size_t i = 0; i < spec->n_parts; i++) {
            if (depth_of(&spec->parts[i]) == depth)
                parts[n++] = &spec->parts[i];
        }
    }
    if (n < spec->n_parts) {
        free(parts);
        return ld_err_set(err, LD_E_INVALID, "a mount target is over %d components deep",
                          MAX_COMPONENTS);
    }
    *ret = parts;
    return 0;
}

int ld_parts_mount(const struct ld_root *root, const struct ld_rootfs *spec,
                   const struct ld_driver_env *env, int top, struct ld_part_ids *ids,
                   struct ld_err *err)
{
    autofree const struct ld_mount_part **parts = NULL;

    if (by_depth(spec, &parts, err) < 0)
        return -1;
    for (size_t i = 0; i < spec->n_parts; i++) {
        if (mount_part(root, spec, env, parts[i], top, err) < 0 ||
            remember(top, parts[i], ids, err) < 0)
            return -1;
    }
    return 0;
}

int ld_parts_mount_missing(const struct ld_root *root, const struct ld_rootfs *spec,
                           const struct ld_driver_env *env, int top, struct ld_err *err)
{
    autofree const struct ld_mount_part **parts = NULL;

    if (by_depth(spec, &parts, err) < 0)
        return -1;
    for (size_t i = 0; i < spec->n_parts; i++) {
        if (!is_mounted_at(top, parts[i]) && mount_part(root, spec, env, parts[i], top, err) < 0)
            return -1;
    }
    return 0;
}

struct place {
    int id;
    const char *path;
    struct ld_bind_root *ret;
};

static int match_place(void *arg, const struct ld_mountinfo *line)
{
    struct place *place = arg;
    size_t len = strlen(line->mountpoint);

    if (line->id != place->id)
        return 0;
    if (strcmp(line->mountpoint, "/") == 0)
        len = 0;
    if (strncmp(place->path, line->mountpoint, len) != 0)
        return 1;
    place->ret->path =
        ld_asprintf("%s%s", strcmp(line->root, "/") == 0 ? "" : line->root, place->path + len);
    if (!place->ret->path[0]) {
        free(place->ret->path);
        place->ret->path = ld_strdup("/");
    }
    place->ret->major = line->major;
    place->ret->minor = line->minor;
    return 1;
}

bool ld_bind_root_of(int fd, struct ld_bind_root *ret)
{
    char path[4096];
    ssize_t len = readlink(ld_fd_path(fd).path, path, sizeof(path) - 1);
    struct statx stx;
    struct place place = {.path = path, .ret = ret};

    *ret = (struct ld_bind_root){.path = NULL};
    if (len < 0 || statx(fd, "", AT_EMPTY_PATH, STATX_MNT_ID, &stx) < 0)
        return false;
    path[len] = '\0';
    place.id = (int)stx.stx_mnt_id;
    (void)!ld_mountinfo_each(match_place, &place); /* not found: path stays NULL */
    return ret->path != NULL;
}

const struct ld_mount_part *ld_part_of_mount(const struct ld_root *root,
                                             const struct ld_rootfs *spec, const char *instance,
                                             const struct ld_mountinfo *line)
{
    autofree char *mark = ld_asprintf("layerd:%s:%" LD_PRI_SID, instance, spec->writable.sid);

    for (size_t i = 0; i < spec->n_parts; i++) {
        const struct ld_mount_part *part = &spec->parts[i];
        struct ld_err ignored = LD_ERR_INIT;
        autoclose int source = -EBADF;
        struct ld_bind_root expected;
        bool is_it;

        if (part->type == LD_PART_TMPFS) {
            if (strcmp(line->fstype, "tmpfs") == 0 && strcmp(line->source, mark) == 0)
                return part;
            continue;
        }
        source = ld_part_open_source(root, part, &ignored);
        if (source < 0 || !ld_bind_root_of(source, &expected))
            continue;
        is_it = expected.major == line->major && expected.minor == line->minor &&
                strcmp(expected.path, line->root) == 0;
        free(expected.path);
        if (is_it)
            return part;
    }
    return NULL;
}
