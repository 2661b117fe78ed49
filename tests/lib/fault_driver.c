/* The fault-injecting decorator: see fault_driver.h. Fault hooks may keep state; the flags are
 * atomic since operations run on any worker. */
#include "tests/lib/fault_driver.h"

static const struct ld_driver *inner;
static struct ld_driver outer;
static struct {
    int when; /* enum ld_fault_when; atomic, pairs with ld_fault_next */
    enum ld_code code;
    unsigned calls;
} fault[LD_FAULT_OPS];

/* The op's plan, which is used up. */
static enum ld_fault_when take(enum ld_fault_op op)
{
    __atomic_add_fetch(&fault[op].calls, 1, __ATOMIC_RELAXED);
    return (enum ld_fault_when)__atomic_exchange_n(&fault[op].when, LD_FAULT_NEVER,
                                                   __ATOMIC_ACQ_REL);
}

static int fail(enum ld_fault_op op, struct ld_err *err)
{
    return ld_err_set(err, fault[op].code, "a fault was asked for");
}

static int fault_create(const struct ld_driver_env *env, struct ld_writable *w, const bool *cancel,
                        struct ld_err *err)
{
    enum ld_fault_when when = take(LD_FAULT_CREATE);
    int rc = when == LD_FAULT_BEFORE ? 0 : inner->create(env, w, cancel, err);

    return when == LD_FAULT_NEVER || rc < 0 ? rc : fail(LD_FAULT_CREATE, err);
}

static int fault_mount(const struct ld_driver_env *env, const struct ld_writable *w, unsigned flags,
                       struct ld_err *err)
{
    enum ld_fault_when when = take(LD_FAULT_MOUNT);
    int rc = when == LD_FAULT_BEFORE ? 0 : inner->mount(env, w, flags, err);

    return when == LD_FAULT_NEVER || rc < 0 ? rc : fail(LD_FAULT_MOUNT, err);
}

static int fault_in_use(const struct ld_driver_env *env, const struct ld_writable *w,
                        bool *ret_held, struct ld_err *err)
{
    return take(LD_FAULT_IN_USE) ? fail(LD_FAULT_IN_USE, err)
                                 : inner->in_use(env, w, ret_held, err);
}

static int fault_changes(const struct ld_driver_env *env, const struct ld_writable *w,
                         ld_change_fn sink, void *arg, struct ld_err *err)
{
    enum ld_fault_when when = take(LD_FAULT_CHANGES);
    int rc = when == LD_FAULT_BEFORE ? 0 : inner->changes(env, w, sink, arg, err);

    return when == LD_FAULT_NEVER || rc < 0 ? rc : fail(LD_FAULT_CHANGES, err);
}

static int fault_usage(const struct ld_driver_env *env, const struct ld_writable *w,
                       struct ld_usage *ret, struct ld_err *err)
{
    return take(LD_FAULT_USAGE) ? fail(LD_FAULT_USAGE, err) : inner->usage(env, w, ret, err);
}

const struct ld_driver *ld_fault_driver(const struct ld_driver *to_wrap)
{
    inner = to_wrap;
    for (size_t i = 0; i < LD_FAULT_OPS; i++) {
        fault[i].when = LD_FAULT_NEVER;
        fault[i].calls = 0;
    }
    outer = *inner;
    outer.create = fault_create;
    outer.mount = fault_mount;
    outer.in_use = fault_in_use;
    outer.changes = fault_changes;
    outer.usage = fault_usage;
    return &outer;
}

void ld_fault_next(enum ld_fault_op op, enum ld_fault_when when, enum ld_code code)
{
    fault[op].code = code;
    __atomic_store_n(&fault[op].when, (int)when, __ATOMIC_RELEASE);
}

unsigned ld_fault_calls(enum ld_fault_op op)
{
    return __atomic_load_n(&fault[op].calls, __ATOMIC_RELAXED);
}
