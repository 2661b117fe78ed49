/* The daemon and its disk use: see info.h. */
#include "daemon/core/info.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/utsname.h>

#include "daemon/core/config.h"
#include "daemon/core/freeze.h"
#include "daemon/core/state.h"
#include "daemon/jobs/lane.h"

static const char *fs_name(long type)
{
    static const struct {
        unsigned type;
        const char *name;
    } known[] = {{EXT4_SUPER_MAGIC, "ext4"},         {XFS_SUPER_MAGIC, "xfs"},
                 {BTRFS_SUPER_MAGIC, "btrfs"},       {TMPFS_MAGIC, "tmpfs"},
                 {OVERLAYFS_SUPER_MAGIC, "overlay"}, {F2FS_SUPER_MAGIC, "f2fs"}};

    for (size_t i = 0; i < LD_ARRAY_LEN(known); i++) {
        if (known[i].type == (unsigned)type)
            return known[i].name;
    }
    return "other";
}

static void fill_drivers(const struct ld_core *core, struct ld_info *ret)
{
    for (size_t i = 0; i < core->n_drivers; i++) {
        const struct ld_driver_status *s = &core->driver[i];

        ret->driver[ret->n_drivers++] = (struct ld_driver_info){
            .name = s->driver->name,
            .is_usable = s->is_usable,
            .is_default = s->driver == core->default_driver,
            .upper_is_layer = s->flags & LD_DRIVER_UPPER_IS_LAYER,
            .copies = s->flags & LD_DRIVER_COPIES,
            .quota = s->flags & LD_DRIVER_QUOTA,
            .reason = s->is_usable ? NULL : s->why.message,
            .hint = s->is_usable || !s->why.hint[0] ? NULL : s->why.hint,
        };
    }
}

int ld_info_get(struct ld_core *core, struct ld_info *ret, struct ld_err *err)
{
    struct ld_job_query running = {.state = LD_JOB_RUNNING};
    struct ld_job_page jobs LD_AUTO(ld_job_page_done) = {.n = 0};
    struct utsname uts;
    struct statfs fs;

    *ret = (struct ld_info){.instance = core->env.instance,
                            .started_ns = core->started_ns,
                            .data_root = core->root.data_path,
                            .run_root = core->root.run_path,
                            .mounted = ld_mounts_count(core->mounts),
                            .refusal = core->refusal};
    if (uname(&uts) < 0 || fstatfs(core->root.data_fd, &fs) < 0)
        return ld_err_sys(err, -errno, "ask for the system and the data root");
    (void)snprintf(ret->kernel, sizeof(ret->kernel), "%s", uts.release);   /* the same size */
    (void)snprintf(ret->machine, sizeof(ret->machine), "%s", uts.machine); /* likewise */
    ret->filesystem = fs_name(fs.f_type);
    ret->size = (uint64_t)fs.f_blocks * (uint64_t)fs.f_frsize;
    ret->available = (uint64_t)fs.f_bavail * (uint64_t)fs.f_frsize;
    ret->inodes_available = fs.f_ffree;
    fill_drivers(core, ret);
    if (ld_store_sums(core->store, &ret->sums, err) < 0 ||
        ld_store_job_list(core->store, &running, &jobs, err) < 0)
        return -1;
    ret->jobs_running = jobs.n;
    return 0;
}

/* ---- disk use ---- */

struct walk {
    struct ld_disk_use *use;
    const bool *cancel;
    int dir;
    struct ld_usage *into;
    size_t *count; /* or NULL */
    bool is_layers;
};

static void add(struct ld_usage *to, const struct ld_usage *what)
{
    to->bytes += what->bytes;
    to->inodes += what->inodes;
}

/* A committed layer itself is in the records; its recipe and aside, and layers/0, are not. */
static bool is_recorded(const struct walk *w, const char *name)
{
    return w->is_layers && strcmp(name, "0") != 0 && name[strspn(name, "0123456789")] == '\0';
}

static bool is_blob(const char *name)
{
    const char *dot = strchr(name, '.');

    return dot && strcmp(dot, ".blob") == 0;
}

static int count_name(void *arg, const char *name, unsigned char d_type)
{
    struct walk *w = arg;
    struct ld_usage usage;
    int r;

    (void)d_type;
    if (ld_flag_is_set(w->cancel))
        return -ECANCELED;
    if (is_recorded(w, name))
        return 0;
    r = ld_tree_usage(w->dir, name, &usage);
    if (r == -ENOENT)
        return 0; /* it went meanwhile */
    if (r < 0)
        return r;
    add(w->is_layers && is_blob(name) ? &w->use->blobs : w->into, &usage);
    if (w->count)
        ++*w->count;
    return 0;
}

/* The folder itself goes to `other`, what is in it to `into`. */
static int count_folder(struct walk *w, int dir, struct ld_usage *into, size_t *count)
{
    struct stat st;

    if (fstat(dir, &st) < 0)
        return -errno;
    w->use->other.bytes += (uint64_t)st.st_blocks * 512;
    w->use->other.inodes++;
    w->dir = dir;
    w->into = into;
    w->count = count;
    return ld_each_name(dir, count_name, w);
}

static int count_file(void *arg, const char *name, unsigned char d_type)
{
    struct walk *w = arg;
    struct stat st;

    (void)d_type;
    if (fstatat(w->dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0 || S_ISDIR(st.st_mode))
        return 0;
    w->use->other.bytes += (uint64_t)st.st_blocks * 512;
    w->use->other.inodes++;
    return 0;
}

/* Sums of layers that no image has: only containers or snapshots keep them. */
static int sum_unused(struct ld_core *core, struct ld_disk_use *use, struct ld_err *err)
{
    uint64_t after = 0;

    do {
        struct ld_layer_page page LD_AUTO(ld_layer_page_done) = {.n = 0};

        if (ld_store_layer_list(core->store, after, 0, &page, err) < 0)
            return -1;
        for (size_t i = 0; i < page.n; i++) {
            struct ld_users users LD_AUTO(ld_users_done) = {.n = 0};
            bool has_image = false;

            if (ld_store_layer_users(core->store, page.item[i].sid, &users, err) < 0)
                return -1;
            for (size_t k = 0; k < users.n && !has_image; k++)
                has_image = strcmp(users.item[k].kind, "image") == 0;
            use->unused_bytes += has_image ? 0 : page.item[i].bytes;
        }
        after = page.next;
    } while (after);
    return 0;
}

int ld_disk_use_get(struct ld_core *core, const bool *cancel, struct ld_disk_use *ret,
                    struct ld_err *err)
{
    struct ld_disk_use use = {.unused_bytes = 0};
    struct walk w = {.use = &use, .cancel = cancel};
    const struct ld_root *root = &core->root;
    int r;

    if (ld_freeze_count(core, cancel, err) < 0 || ld_store_sums(core->store, &use.sums, err) < 0 ||
        sum_unused(core, &use, err) < 0)
        return -1;
    r = count_folder(&w, root->w_fd, &use.writable, &use.writable_count);
    if (r == 0)
        r = count_folder(&w, root->volumes_fd, &use.volumes, &use.volume_count);
    if (r == 0)
        r = count_folder(&w, root->trash_fd, &use.trash, NULL);
    if (r == 0)
        r = count_folder(&w, root->quarantine_fd, &use.quarantine, NULL);
    if (r == 0)
        r = count_folder(&w, root->staging_fd, &use.staging, NULL);
    w.is_layers = true;
    if (r == 0)
        r = count_folder(&w, root->layers_fd, &use.other, NULL);
    if (r == 0) {
        struct ld_usage self = {.inodes = 1};
        struct stat st;

        w.dir = root->data_fd;
        r = fstat(root->data_fd, &st) < 0 ? -errno : ld_each_name(root->data_fd, count_file, &w);
        self.bytes = r == 0 ? (uint64_t)st.st_blocks * 512 : 0;
        add(&use.other, &self);
    }
    if (r < 0)
        return ld_err_sys(err, r, "count the data root");
    use.total = (struct ld_usage){.bytes = use.sums.layer_bytes, .inodes = use.sums.layer_inodes};
    add(&use.total, &use.writable);
    add(&use.total, &use.volumes);
    add(&use.total, &use.trash);
    add(&use.total, &use.quarantine);
    add(&use.total, &use.staging);
    add(&use.total, &use.blobs);
    add(&use.total, &use.other);
    *ret = use;
    return 0;
}
