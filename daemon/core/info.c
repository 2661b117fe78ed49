/* What the daemon is: see info.h. */
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
#include "daemon/core/state.h"

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
            .quota = ld_quota_is_on(&core->env.quota),
            .reason = s->is_usable ? NULL : s->why.message,
            .hint = s->is_usable || !s->why.hint[0] ? NULL : s->why.hint,
        };
    }
}

static void fill_backings(const struct ld_core *core, struct ld_info *ret)
{
    for (int i = LD_BACKING_NONE + 1; i < LD_BACKING_END; i++) {
        const struct ld_backing_status *s = &core->backing[i];

        ret->backing[ret->n_backings++] = (struct ld_backing_info){
            .name = ld_backing_name((enum ld_backing)i),
            .is_usable = s->is_usable,
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
                            .folded = ld_folder_counts(core),
                            .refusal = core->refusal};
    if (uname(&uts) < 0 || fstatfs(core->root.data_fd, &fs) < 0)
        return ld_err_sys(err, -errno, "ask for the system and the data root");
    (void)snprintf(ret->kernel, sizeof(ret->kernel), "%s", uts.release);   /* the same size */
    (void)snprintf(ret->machine, sizeof(ret->machine), "%s", uts.machine); /* likewise */
    ret->filesystem = fs_name(fs.f_type);
    ret->size = (uint64_t)fs.f_blocks * (uint64_t)fs.f_frsize;
    ret->available = (uint64_t)fs.f_bavail * (uint64_t)fs.f_frsize;
    ret->inodes_available = fs.f_ffree;
    ret->not_limited = core->n_not_limited;
    if (!ld_quota_is_on(&core->env.quota)) {
        ret->no_quota = core->no_quota.message;
        ret->no_quota_hint = core->no_quota.hint;
    }
    fill_drivers(core, ret);
    fill_backings(core, ret);
    if (ld_store_sums(core->store, &ret->sums, err) < 0 ||
        ld_store_job_list(core->store, &running, &jobs, err) < 0)
        return -1;
    ret->jobs_running = jobs.n;
    return 0;
}
