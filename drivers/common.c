/* The list of drivers, and what they share: see common.h. No state. */
#include "drivers/common.h"

#include <errno.h>
#include <string.h>

#include "daemon/base/log.h"
#include "daemon/base/mem.h"

const struct ld_driver *const ld_drivers[] = {&ld_driver_overlay, &ld_driver_vfs, NULL};

const struct ld_driver *ld_driver_by_name(const char *name)
{
    for (size_t i = 0; ld_drivers[i]; i++)
        if (strcmp(ld_drivers[i]->name, name) == 0)
            return ld_drivers[i];
    return NULL;
}

void ld_driver_discard(int dir, const char *name)
{
    int r = ld_remove_tree(dir, name, NULL);

    if (r < 0)
        ld_debug("remove '%s': %s, ignoring", name, strerrordesc_np(-r));
}

int ld_driver_make(const struct ld_driver_env *env, const struct ld_writable *w)
{
    return ld_quota_make_dir(&env->quota, env->w_fd, ld_sid_name(w->sid).text, 0700, w->sid,
                             w->limits.bytes || w->limits.inodes);
}

int ld_driver_refuse_uncounted(struct ld_err *err)
{
    (void)ld_err_set(err, LD_E_CONFLICT,
                     "what is in it is not counted: it was made without a limit, when the file "
                     "system had no quotas, or was taken out of its project");
    return ld_err_hint(err, "clone it with the limit: the clone is counted");
}

static uint64_t beyond(uint64_t base, uint64_t limit)
{
    uint64_t sum;

    if (limit == 0)
        return 0;
    return __builtin_add_overflow(base, limit, &sum) ? UINT64_MAX : sum;
}

int ld_driver_limit(const struct ld_driver_env *env, const struct ld_writable *w,
                    const struct ld_limits *base, struct ld_err *err)
{
    struct ld_limits limits = {.bytes = beyond(base->bytes, w->limits.bytes),
                               .inodes = beyond(base->inodes, w->limits.inodes)};
    autoclose int dir = ld_open_dir(env->w_fd, ld_sid_name(w->sid).text);
    bool is_counted = false;
    int r = dir < 0 ? dir : ld_quota_is_counted(&env->quota, dir, w->sid, &is_counted);

    if (r == 0 && !is_counted && (limits.bytes || limits.inodes))
        return ld_driver_refuse_uncounted(err);
    if (r == 0 && is_counted)
        r = ld_quota_set(&env->quota, dir, w->sid, &limits);
    return r < 0 ? ld_err_sys(err, r, "limit writable layer %" LD_PRI_SID, w->sid) : 0;
}

static uint64_t less(uint64_t a, uint64_t b)
{
    return a > b ? a - b : 0;
}

int ld_driver_used(const struct ld_driver_env *env, const struct ld_writable *w,
                   const struct ld_limits *base, struct ld_limits *ret, struct ld_err *err)
{
    autoclose int dir = ld_open_dir(env->w_fd, ld_sid_name(w->sid).text);
    struct ld_limits used = {.bytes = 0};
    int r = dir < 0 ? dir : ld_quota_get(&env->quota, dir, w->sid, NULL, &used);

    if (r == -EOPNOTSUPP)
        return ld_err_set(err, LD_E_UNSUPPORTED, "nothing is counted here");
    if (r < 0)
        return ld_err_sys(err, r, "ask for the use of writable layer %" LD_PRI_SID, w->sid);
    *ret = (struct ld_limits){.bytes = less(used.bytes, base->bytes),
                              .inodes = less(used.inodes, base->inodes)};
    return 0;
}
