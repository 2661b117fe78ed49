/* Operations and their keys: see op.h. Loop thread only, apart from run() and ld_ops_call.
 *
 * Each key has a queue of claims in the order of submission. A claim is *ready* when nothing before
 * it conflicts: an exclusive one when it is first, a shared one when all before it are shared. An
 * operation is granted when all its claims are ready, and keeps them queued until it ends, so a
 * claim behind it waits. All claims of an operation enter their queues in one go; so all queues
 * agree on who came first, the oldest waiting operation has only granted ones before it, and there
 * is neither deadlock nor starvation.
 *
 * Releasing keys never starts an operation from inside: what became ready is collected in a list,
 * which the entry points work off. So nothing here recurses, however long the queues are.
 */
#include "daemon/jobs/op.h"

#include <assert.h>
#include <pthread.h>
#include <stdarg.h>
#include <string.h>
#include <time.h>

#include "daemon/base/buf.h"
#include "daemon/base/mem.h"
#include "daemon/jobs/loop.h"

enum {
    N_BUCKETS = 4096, /* as many as operations may wait: chains stay short */
    CANCEL_POLL_MS = 50,
    MAX_KEY_LEN = 1 << 20, /* of a request's body */
};

enum op_state {
    OP_NEW,
    OP_WAITING, /* for keys */
    OP_READY,   /* in the list of those to start */
    OP_GRANTED, /* its job is with the lane */
    OP_ENDING,  /* done() is on its way */
};

struct claim {
    struct key *key;
    struct ld_op *op;
    struct claim *next, *prev;
    enum ld_key_mode mode;
};

struct key {
    struct key *next; /* in its bucket */
    struct claim *first, *last;
    struct claim *first_unready; /* all before it are ready, it and all after it are not */
    char name[];
};

struct named {
    char *name;
    enum ld_key_mode mode;
};

/* Names until the submit, claims from then on. */
struct ld_op_keys {
    struct named *names;
    struct claim *claims;
    size_t n, cap, n_unready;
    bool has_too_many;
    struct ld_op *next_ready;
};

struct ld_ops {
    struct ld_loop *loop;
    struct ld_lanes *lanes;
    struct key *buckets[N_BUCKETS];
    struct ld_op *first, *last;              /* all between submit and done, newest first */
    uint64_t n_submitted;                    /* the number of the newest */
    struct ld_ops_quiet *quiet, **quiet_end; /* in the order of `before` */
    struct ld_op *ready, **ready_end;
    struct ld_ops_stats stats;
    size_t open;
    bool draining, is_drained;
    void (*drained)(void *arg);
    void *drained_arg;
};

/* ---- an operation before its submit ---- */

void ld_op_init(struct ld_op *op, enum ld_lane lane, int (*run)(struct ld_op *, struct ld_err *),
                void (*done)(struct ld_op *), void *arg)
{
    *op = (struct ld_op){.run = run, .done = done, .arg = arg, .lane = lane, .state = OP_NEW};
}

void ld_op_key(struct ld_op *op, enum ld_key_mode mode, const char *fmt, ...)
{
    autobuf struct ld_buf name = LD_BUF_INIT(MAX_KEY_LEN);
    struct ld_op_keys *keys;
    va_list ap;

    assert(op->state == OP_NEW);
    va_start(ap, fmt);
    ld_buf_vaddf(&name, fmt, ap);
    va_end(ap);
    if (!op->keys)
        op->keys = ld_new(struct ld_op_keys);
    keys = op->keys;

    for (size_t i = 0; i < keys->n; i++) {
        if (strcmp(keys->names[i].name, ld_buf_str(&name)) != 0)
            continue;
        if (mode == LD_EXCLUSIVE)
            keys->names[i].mode = mode;
        return;
    }
    if (keys->n == LD_OP_MAX_KEYS || name.full) {
        keys->has_too_many = true;
        return;
    }
    ld_grow(&keys->names, &keys->cap, keys->n + 1, sizeof(struct named));
    keys->names[keys->n++] = (struct named){ld_buf_take(&name), mode};
}

static void free_names(struct ld_op_keys *keys)
{
    if (keys->names)
        for (size_t i = 0; i < keys->n; i++)
            free(keys->names[i].name);
    free(keys->names);
    keys->names = NULL;
}

void ld_op_done(struct ld_op *op)
{
    if (!op->keys)
        return;
    assert(!op->keys->claims);
    free_names(op->keys);
    free(op->keys);
    op->keys = NULL;
}

/* ---- keys ---- */

static struct key **bucket_of(struct ld_ops *ops, const char *name)
{
    uint64_t hash =
        UINT64_C(14695981039346656037); /* FNV-1a; chains are bounded, flooding is harmless */

    for (const char *p = name; *p; p++)
        hash = (hash ^ (unsigned char)*p) * UINT64_C(1099511628211);
    return &ops->buckets[hash % N_BUCKETS];
}

static struct key *key_get(struct ld_ops *ops, const char *name)
{
    struct key **bucket = bucket_of(ops, name);
    struct key *key;
    size_t len = strlen(name) + 1;

    for (key = *bucket; key; key = key->next)
        if (strcmp(key->name, name) == 0)
            return key;
    key = ld_alloc0(sizeof(*key) + len);
    memcpy(key->name, name, len);
    key->next = *bucket;
    *bucket = key;
    ops->stats.keys++;
    return key;
}

static void key_free_unused(struct ld_ops *ops, struct key *key)
{
    struct key **slot = bucket_of(ops, key->name);

    if (key->first)
        return;
    while (*slot != key)
        slot = &(*slot)->next;
    *slot = key->next;
    ops->stats.keys--;
    free(key);
}

static void make_ready(struct ld_ops *ops, struct ld_op *op)
{
    if (op->state == OP_WAITING)
        ops->stats.waiting--;
    op->state = OP_READY;
    op->keys->next_ready = NULL;
    *ops->ready_end = op;
    ops->ready_end = &op->keys->next_ready;
}

/* Claims that nothing conflicts with any more become ready, front to back. */
static void advance(struct ld_ops *ops, struct key *key)
{
    for (struct claim *c = key->first_unready; c; c = c->next) {
        /* All before c are ready; were one of them exclusive, it would be the first and alone. */
        if (c != key->first && (c->mode == LD_EXCLUSIVE || key->first->mode == LD_EXCLUSIVE))
            return;
        key->first_unready = c->next;
        if (--c->op->keys->n_unready == 0 && c->op->state == OP_WAITING)
            make_ready(ops, c->op);
    }
}

static void claim_add(struct ld_ops *ops, struct claim *claim, const char *name)
{
    struct key *key = key_get(ops, name);

    claim->key = key;
    claim->prev = key->last;
    if (key->last)
        key->last->next = claim;
    else
        key->first = claim;
    key->last = claim;
    if (!key->first_unready)
        key->first_unready = claim;
    advance(ops, key);
}

static void claim_remove(struct ld_ops *ops, struct claim *claim)
{
    struct key *key = claim->key;

    if (claim->prev)
        claim->prev->next = claim->next;
    else
        key->first = claim->next;
    if (claim->next)
        claim->next->prev = claim->prev;
    else
        key->last = claim->prev;
    if (key->first_unready == claim)
        key->first_unready = claim->next;
    advance(ops, key);
    key_free_unused(ops, key);
}

static void claim_all(struct ld_ops *ops, struct ld_op *op)
{
    struct ld_op_keys *keys = op->keys;

    keys->n_unready = keys->n;
    keys->claims = ld_alloc0(keys->n * sizeof(struct claim));
    for (size_t i = 0; i < keys->n; i++) {
        keys->claims[i].op = op;
        keys->claims[i].mode = keys->names[i].mode;
        claim_add(ops, &keys->claims[i], keys->names[i].name);
    }
    free_names(keys);
}

static void release_all(struct ld_ops *ops, struct ld_op *op)
{
    if (!op->keys)
        return;
    if (op->keys->claims)
        for (size_t i = 0; i < op->keys->n; i++)
            claim_remove(ops, &op->keys->claims[i]);
    free(op->keys->claims);
    op->keys->claims = NULL;
    ld_op_done(op);
}

/* ---- the end ---- */

static void report_drained(struct ld_ops *ops)
{
    if (!ops->draining || ops->is_drained || ops->open > 0)
        return;
    ops->is_drained = true;
    ops->drained(ops->drained_arg);
}

static void report_quiet(void *arg)
{
    struct ld_ops *ops = arg;

    while (ops->quiet && (!ops->last || ops->last->number > ops->quiet->before)) {
        struct ld_ops_quiet *quiet = ops->quiet;

        ops->quiet = quiet->next;
        if (!ops->quiet)
            ops->quiet_end = &ops->quiet;
        quiet->fn(quiet->arg); /* may wait again */
    }
}

/* Keys are released already. done() may free the operation. */
static void deliver(void *arg)
{
    struct ld_op *op = arg;
    struct ld_ops *ops = op->ops;

    if (op->prev)
        op->prev->next = op->next;
    else
        ops->first = op->next;
    if (op->next)
        op->next->prev = op->prev;
    else
        ops->last = op->prev;
    ops->stats.finished++;
    if (op->rc < 0 && op->err.code == LD_E_CANCELED)
        ops->stats.canceled++;
    op->state = OP_NEW;
    op->done(op);
    ops->open--;
    report_quiet(ops);
    report_drained(ops);
}

/* Ends an operation that never ran; op->err says why. */
static void refuse(struct ld_ops *ops, struct ld_op *op)
{
    if (op->state == OP_WAITING)
        ops->stats.waiting--;
    op->state = OP_ENDING;
    op->rc = -1;
    release_all(ops, op);
    if (op->err.code != LD_E_CANCELED)
        ops->stats.refused++;
    ld_loop_post(ops->loop, deliver, op);
}

/* ---- on the lane ---- */

static struct ld_op *op_of(struct ld_job *job)
{
    return (struct ld_op *)((char *)job - offsetof(struct ld_op, job));
}

static void run_job(struct ld_job *job)
{
    struct ld_op *op = op_of(job);

    op->rc = op->run(op, &op->err);
    assert(op->rc == 0 || op->err.code != LD_E_NONE);
}

static void start_ready(struct ld_ops *ops);

static void job_done(struct ld_job *job)
{
    struct ld_op *op = op_of(job);
    struct ld_ops *ops = op->ops;

    if (!job->was_run)
        op->rc = ld_err_set(&op->err, LD_E_CANCELED, "cancelled before it began");
    op->state = OP_ENDING;
    ops->stats.granted--;
    release_all(ops, op);
    start_ready(ops);
    deliver(op);
}

static void start(struct ld_ops *ops, struct ld_op *op)
{
    if (ops->draining) {
        (void)ld_err_set(&op->err, LD_E_UNAVAILABLE, "layerd is shutting down");
        refuse(ops, op);
        return;
    }
    op->job.run = run_job;
    op->job.done = job_done;
    if (ld_lanes_submit(ops->lanes, op->lane, &op->job, &op->err) < 0) {
        refuse(ops, op);
        return;
    }
    op->state = OP_GRANTED;
    ops->stats.granted++;
}

static void start_ready(struct ld_ops *ops)
{
    struct ld_op *op;

    while ((op = ops->ready)) {
        ops->ready = op->keys->next_ready;
        if (!ops->ready)
            ops->ready_end = &ops->ready;
        start(ops, op);
    }
}

/* ---- entry points ---- */

static void enlist(struct ld_ops *ops, struct ld_op *op)
{
    op->ops = ops;
    op->rc = 0;
    op->err = LD_ERR_INIT;
    op->number = ++ops->n_submitted;
    op->prev = NULL;
    op->next = ops->first;
    if (op->next)
        op->next->prev = op;
    else
        ops->last = op;
    ops->first = op;
    ops->open++;
}

void ld_ops_submit(struct ld_ops *ops, struct ld_op *op)
{
    ld_assert_loop();
    assert(op->state == OP_NEW && op->run && op->done);
    enlist(ops, op);
    if (!op->keys) {
        start(ops, op);
        return;
    }
    if (op->keys->has_too_many) {
        (void)ld_err_set(&op->err, LD_E_INVALID, "the request involves more than %d objects",
                         LD_OP_MAX_KEYS);
        refuse(ops, op);
        return;
    }
    claim_all(ops, op);
    if (op->keys->n_unready == 0) {
        make_ready(ops, op);
        start_ready(ops);
        return;
    }
    op->state = OP_WAITING;
    ops->stats.waiting++;
    if (ops->draining || ops->stats.waiting > LD_OPS_MAX_WAITING) {
        (void)ld_err_set(&op->err, LD_E_UNAVAILABLE, "%s",
                         ops->draining ? "layerd is shutting down"
                                       : "too many operations wait for objects in use");
        refuse(ops, op);
        start_ready(ops);
    }
}

void ld_ops_cancel(struct ld_ops *ops, struct ld_op *op)
{
    ld_assert_loop();
    ld_flag_set(&op->cancel);
    if (op->state == OP_GRANTED) {
        if (!ld_lanes_cancel(ops->lanes, &op->job) && op->on_cancel)
            op->on_cancel(op); /* it runs, or is about to be done */
    } else if (op->state == OP_WAITING) {
        (void)ld_err_set(&op->err, LD_E_CANCELED, "cancelled before it began");
        refuse(ops, op);
        start_ready(ops);
    }
}

struct ld_ops *ld_ops_new(struct ld_loop *loop, struct ld_lanes *lanes)
{
    struct ld_ops *ops = ld_new(struct ld_ops);

    ld_assert_loop();
    ops->loop = loop;
    ops->lanes = lanes;
    ops->ready_end = &ops->ready;
    ops->quiet_end = &ops->quiet;
    return ops;
}

void ld_ops_when_quiet(struct ld_ops *ops, struct ld_ops_quiet *quiet)
{
    ld_assert_loop();
    quiet->before = ops->n_submitted;
    quiet->next = NULL;
    *ops->quiet_end = quiet;
    ops->quiet_end = &quiet->next;
    if (!ops->last)
        ld_loop_post(ops->loop, report_quiet, ops);
}

void ld_ops_free(struct ld_ops *ops)
{
    if (!ops)
        return;
    ld_assert_loop();
    assert(ops->is_drained && ops->open == 0 && ops->stats.keys == 0);
    free(ops);
}

static void report_drained_posted(void *arg)
{
    report_drained(arg);
}

void ld_ops_drain(struct ld_ops *ops, bool cancel_running, void (*drained)(void *arg), void *arg)
{
    ld_assert_loop();
    assert(!ops->draining);
    ops->draining = true;
    ops->drained = drained;
    ops->drained_arg = arg;
    for (struct ld_op *op = ops->first; op; op = op->next) {
        if (op->state == OP_WAITING) {
            (void)ld_err_set(&op->err, LD_E_UNAVAILABLE, "layerd is shutting down");
            refuse(ops, op);
        } else if (cancel_running && op->state == OP_GRANTED) {
            ld_ops_cancel(ops, op);
        }
    }
    start_ready(ops); /* those that became ready by it are refused as well */
    ld_loop_post(ops->loop, report_drained_posted, ops);
}

struct ld_ops_stats ld_ops_stats(const struct ld_ops *ops)
{
    ld_assert_loop();
    return ops->stats;
}

/* ---- sub-operations ---- */

/* On the caller's stack; the loop is through with it once it is over and no post is on its way. */
struct ld_op_call {
    struct ld_ops *ops;
    struct ld_op *op;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool is_over, cancel_sent, cancel_pending;
};

static void call_submit(void *arg)
{
    struct ld_op_call *call = arg;

    ld_ops_submit(call->ops, call->op);
}

static void call_done(struct ld_op *op)
{
    struct ld_op_call *call = op->call;

    pthread_mutex_lock(&call->lock);
    call->is_over = true;
    pthread_cond_signal(&call->changed);
    pthread_mutex_unlock(&call->lock);
}

static void call_cancel(void *arg)
{
    struct ld_op_call *call = arg;

    /* is_over is written on this thread only. */
    if (!call->is_over)
        ld_ops_cancel(call->ops, call->op);
    pthread_mutex_lock(&call->lock);
    call->cancel_pending = false;
    pthread_cond_signal(&call->changed);
    pthread_mutex_unlock(&call->lock);
}

static void call_wait(struct ld_op_call *call, const bool *cancel)
{
    pthread_mutex_lock(&call->lock);
    while (!call->is_over || call->cancel_pending) {
        struct timespec until;

        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_nsec += CANCEL_POLL_MS * 1000000L;
        until.tv_sec += until.tv_nsec / 1000000000;
        until.tv_nsec %= 1000000000;
        (void)pthread_cond_timedwait(&call->changed, &call->lock, &until);
        if (!call->is_over && !call->cancel_sent && ld_flag_is_set(cancel)) {
            call->cancel_sent = call->cancel_pending = true;
            ld_loop_post(call->ops->loop, call_cancel, call);
        }
    }
    pthread_mutex_unlock(&call->lock);
}

int ld_ops_call(struct ld_ops *ops, struct ld_op *op, const bool *cancel, struct ld_err *err)
{
    struct ld_op_call call = {.ops = ops, .op = op};
    pthread_condattr_t attr;

    assert(!ld_is_loop_thread());
    assert(op->lane == LD_LANE_QUICK || op->lane == LD_LANE_COPY);
    pthread_mutex_init(&call.lock, NULL);
    pthread_condattr_init(&attr);
    (void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC); /* cannot fail */
    pthread_cond_init(&call.changed, &attr);
    pthread_condattr_destroy(&attr);
    op->done = call_done;
    op->call = &call; /* cppcheck-suppress autoVariables; until call_wait returns */
    ld_loop_post(ops->loop, call_submit, &call);
    call_wait(&call, cancel);
    op->call = NULL;
    pthread_cond_destroy(&call.changed);
    pthread_mutex_destroy(&call.lock);

    if (op->rc < 0)
        *err = op->err;
    return op->rc;
}
