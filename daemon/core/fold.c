/* Folding layers, and the folder that does it in the background: see fold.h.
 *
 * The order of a fold: copy, sync, rename, record (new_layer.h); a kill before the record leaves
 * what the next start deletes, one after it the layers that were folded, which nothing needs and
 * the next start lets go. Between the two stand those who have read the old chain: operations, for
 * which ld_ops_when_quiet is waited, and mounts, which the records hold the layers for
 * (store/folds.c).
 *
 * A fold is never in anybody's way: no key is held, the layers it reads never change, and pins keep
 * them while it reads. Two that fold the same are told apart by the records: one of them has worked
 * for nothing.
 */
#include "daemon/core/fold.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/base/log.h"
#include "daemon/base/mem.h"
#include "daemon/base/table.h"
#include "daemon/core/fold_plan.h"
#include "daemon/core/freeze.h"
#include "daemon/core/new_layer.h"
#include "daemon/core/rootfs.h"
#include "daemon/core/stack.h"
#include "daemon/core/state.h"
#include "daemon/core/trash.h"
#include "daemon/core/writable.h"
#include "daemon/jobs/lane.h"
#include "daemon/jobs/loop.h"
#include "daemon/jobs/op.h"
#include "drivers/chain.h"

enum { FIRST_RETRY_MS = 250, LAST_RETRY_MS = 30000 };

struct noted {
    ld_sid tip;
    UT_hash_handle hh;
};

/* Runs that were folded: the topmost layer of each, and what they have become. */
struct folds {
    ld_sid *top, *into;
    size_t n, cap_top, cap_into;
};

struct ld_folder {
    struct ld_core *core;
    struct ld_timer *timer;
    struct ld_job job;
    bool is_running, is_kicked, is_stopped; /* loop */
    bool is_waiting;                        /* loop: for `quiet` */
    struct ld_ops_quiet quiet;
    bool cancel; /* atomic: stop soon */
    uint64_t retry_ms;
    struct folds waited;       /* loop: folded runs that are not let go yet, but waited for */
    struct folds ripe;         /* the job's, and the loop's while it does not run: that can be */
    bool has_more, has_failed; /* the job's: what the last run left */
    bool has_held;             /* atomic; the job writes it */

    pthread_mutex_t lock; /* protects all that follows; short */
    struct noted *noted;
    struct folds folded; /* runs that have just been */
    struct ld_fold_counts counts;
};

static void folds_add(struct folds *f, ld_sid top, ld_sid into)
{
    ld_grow(&f->top, &f->cap_top, f->n + 1, sizeof(*f->top));
    ld_grow(&f->into, &f->cap_into, f->n + 1, sizeof(*f->into));
    f->top[f->n] = top;
    f->into[f->n++] = into;
}

static void folds_move(struct folds *to, struct folds *from)
{
    for (size_t i = 0; i < from->n; i++)
        folds_add(to, from->top[i], from->into[i]);
    from->n = 0;
}

static void folds_done(struct folds *f)
{
    free(f->top);
    free(f->into);
}

/* ---- one fold ---- */

struct fold {
    struct ld_core *core;
    const bool *cancel;
    size_t limit;      /* of layers that may stay unfolded */
    uint64_t max_cost; /* of one fold */
    struct ld_foldable own;
    struct ld_fold_run run;
    struct ld_stack stack; /* of the run's topmost layer */
    struct ld_layer layer;
    ld_sid ids[LD_FOLD_RUN];
};

static bool plan(struct fold *f)
{
    struct ld_fold_item item[LD_MAX_LAYERS];

    for (size_t i = 0; i < f->own.n; i++) {
        const struct ld_foldable_layer *own = &f->own.item[i];

        item[i] = (struct ld_fold_item){.cost = own->bytes + own->inodes * LD_FOLD_INODE_COST,
                                        .is_named = own->is_named};
    }
    if (!ld_fold_plan(item, f->own.n, f->limit, &f->run) || f->run.cost > f->max_cost)
        return false;
    for (size_t i = 0; i < f->run.n; i++)
        f->ids[i] = f->own.item[f->run.first + i].sid;
    return true;
}

static int copy_into(struct fold *f, int dir, struct ld_err *err)
{
    LD_AUTO(ld_chain_close) struct ld_open_chain open = {.fd = NULL};
    struct ld_chain chain = {.sid = f->stack.chain.sid, .n = f->stack.chain.n};
    struct ld_layers run, below;

    if (ld_chain_open(&f->core->env, &chain, &open, err) < 0)
        return -1;
    run = open.layers;
    run.n = f->run.n;
    below = ld_layers_below(&open.layers, f->run.n);
    return ld_tree_copy_layer(&run, &below, dir, 0, f->cancel, err);
}

static int make(struct fold *f, struct ld_err *err)
{
    autoclose int dir = -EBADF;

    f->layer = (struct ld_layer){.origin = LD_ORIGIN_FOLD};
    if (ld_new_layer_begin(f->core, &f->layer, &dir, err) < 0 || copy_into(f, dir, err) < 0 ||
        ld_new_layer_publish(f->core, &f->layer, true, err) < 0) {
        ld_new_layer_end(f->core, &f->layer, false);
        return -1;
    }
    return 0;
}

static void was_folded(struct ld_folder *folder, const struct fold *f, ld_sid into)
{
    pthread_mutex_lock(&folder->lock);
    folds_add(&folder->folded, f->ids[0], into);
    folder->counts.folds++;
    folder->counts.layers += f->run.n;
    pthread_mutex_unlock(&folder->lock);
}

static int record(struct fold *f, ld_sid *ret_sid, struct ld_err *err)
{
    struct ld_fold what = {.run = f->ids, .n = f->run.n, .layer = &f->layer};
    ld_sid sid = f->layer.sid;
    int rc = ld_store_fold(f->core->store, &what, err);

    ld_new_layer_end(f->core, &f->layer, rc == 0 || ld_is_undecided(err));
    if (rc < 0)
        return -1;
    was_folded(f->core->folder, f, sid);
    ld_debug("folded %zu layers below %" LD_PRI_SID " into %" LD_PRI_SID, f->run.n, f->ids[0], sid);
    *ret_sid = sid;
    return 0;
}

static int are_others(struct ld_err *err)
{
    return ld_err_set(err, LD_E_CONFLICT, "the layers to be folded are others by now");
}

static int fold_pinned(struct fold *f, ld_sid *ret_sid, struct ld_err *err)
{
    const struct ld_chain_sids *chain = &f->stack.chain;
    struct ld_layer top LD_AUTO(ld_layer_done) = {.sid = 0};
    struct ld_err lookup = LD_ERR_INIT;

    if (chain->n < f->run.n || memcmp(chain->sid, f->ids, f->run.n * sizeof(f->ids[0])) != 0)
        return are_others(err);
    if (make(f, err) == 0)
        return record(f, ret_sid, err);
    /* A layer is renamed away with its record: no damage. */
    if (err->code == LD_E_CORRUPT &&
        ld_store_layer_get(f->core->store, f->ids[0], &top, &lookup) < 0 &&
        lookup.code == LD_E_NOT_FOUND)
        return are_others(err);
    return -1;
}

static int fold_run(struct fold *f, ld_sid *ret_sid, struct ld_err *err)
{
    int rc;

    if (ld_core_may_grow(f->core, f->run.cost, err) < 0)
        return -1;
    rc = ld_stack_pin(f->core, f->ids[0], &f->stack, err);
    if (rc == 0)
        rc = fold_pinned(f, ret_sid, err);
    else if (err->code == LD_E_NOT_FOUND)
        rc = are_others(err);
    ld_stack_done(&f->stack);
    return rc;
}

/* The next fold of the chain that ends at *tip, which may be another layer then. 1; 0: nothing is
 * to be done. */
static int fold_next(struct fold *f, ld_sid *tip, struct ld_err *err)
{
    ld_sid sid = 0;

    if (ld_store_foldable(f->core->store, *tip, &f->own, err) < 0)
        return -1;
    if (!plan(f))
        return 0;
    if (fold_run(f, &sid, err) < 0)
        return -1;
    if (f->ids[0] == *tip)
        *tip = sid;
    return 1;
}

/* ---- because somebody can't wait ---- */

static void kick(struct ld_core *core);

/* Is there anything to fold for a container on that tip? Sets what may stay, and what a fold may
 * cost. */
static bool is_too_deep(struct fold *f, ld_sid tip, struct ld_err *err)
{
    struct ld_chain_sids chain;
    bool must;

    if (ld_store_chain(f->core->store, tip, &chain, err) < 0 || chain.n <= LD_FOLD_GROWTH_MAX ||
        ld_freeze_count(f->core, f->cancel, err) < 0 ||
        ld_store_foldable(f->core->store, tip, &f->own, err) < 0)
        return false;
    must = chain.n >= LD_MAX_LAYERS;
    f->limit = must ? 1 : LD_FOLD_GROWTH_MAX;
    f->max_cost = must ? UINT64_MAX : LD_FOLD_WAIT_COST;
    return f->own.n > f->limit;
}

int ld_fold_before_growth(struct ld_core *core, const struct ld_container *c, const bool *cancel,
                          bool *ret_changed, struct ld_err *err)
{
    autofree struct fold *f = ld_new(struct fold);
    struct ld_err why = LD_ERR_INIT;
    ld_sid tip = c->parent_sid;

    f->core = core;
    f->cancel = cancel;
    *ret_changed = false;
    if (!tip)
        return 0;
    while (is_too_deep(f, tip, &why)) {
        int rc = fold_next(f, &tip, &why);

        if (rc == 0 || (rc < 0 && why.code != LD_E_CONFLICT))
            break;
        *ret_changed = true;
        if (rc < 0)
            break; /* the folder was faster */
    }
    if (*ret_changed)
        kick(core);
    if (why.code == LD_E_CANCELED) {
        *err = why;
        return -1;
    }
    if (why.code)
        ld_debug("fold the layers of container %s: %s", c->id, why.message);
    return 0;
}

/* ---- the folder ---- */

static ld_sid take_noted(struct ld_folder *folder)
{
    struct noted *noted;
    ld_sid tip = 0;

    pthread_mutex_lock(&folder->lock);
    noted = folder->noted;
    if (noted) {
        HASH_DEL(folder->noted, noted);
        tip = noted->tip;
    }
    pthread_mutex_unlock(&folder->lock);
    free(noted);
    return tip;
}

static void note(struct ld_folder *folder, ld_sid tip)
{
    struct noted *noted;

    pthread_mutex_lock(&folder->lock);
    HASH_FIND(hh, folder->noted, &tip, sizeof(tip), noted);
    if (!noted) {
        noted = ld_new(struct noted);
        noted->tip = tip;
        HASH_ADD(hh, folder->noted, tip, sizeof(noted->tip), noted);
    }
    pthread_mutex_unlock(&folder->lock);
}

/* Folded runs that nobody reads any more who holds no pin. */
static int let_go(struct ld_folder *folder, struct ld_err *err)
{
    LD_AUTO(ld_removed_done) struct ld_removed removed = {.n = 0};

    if (folder->ripe.n == 0)
        return 0;
    if (ld_store_fold_release(folder->core->store, folder->ripe.top, folder->ripe.n, &removed,
                              err) < 0)
        return -1;
    /* Where they stood on a layer that nobody else names it can be folded now. */
    for (size_t i = 0; i < folder->ripe.n; i++)
        note(folder, folder->ripe.into[i]);
    folder->ripe.n = 0;
    ld_trash_take(folder->core, &removed);
    return 0;
}

/* Is it still the writable layer of its container? */
static bool is_current(struct ld_core *core, const struct ld_held *held)
{
    struct ld_container c LD_AUTO(ld_container_done) = {.id = NULL};
    struct ld_err ignored = LD_ERR_INIT;

    return ld_store_container_get(core->store, held->container, &c, &ignored) == 0 &&
           c.upper_sid == held->upper_sid;
}

/* Is no mount of the writable layer alive, in any mount namespace? The container's next one is of
 * the new chain, so it is enough that it was so once: no key is needed. But a removal that comes
 * between takes the layer away, and what is not there looks free to a probe: then it is for the
 * reaper to find out. It is recorded before, so the record says so afterwards. */
static bool is_unmounted(struct ld_core *core, const struct ld_held *held, ld_sid *ret_tip)
{
    struct ld_loaded_rootfs rootfs LD_AUTO(ld_rootfs_done) = {.parts = NULL};
    struct ld_container c LD_AUTO(ld_container_done) = {.id = NULL};
    struct ld_err ignored = LD_ERR_INIT;

    if (ld_store_container_get(core->store, held->container, &c, &ignored) < 0 ||
        c.upper_sid != held->upper_sid || ld_rootfs_load(core, &c, false, &rootfs, &ignored) < 0)
        return false;
    *ret_tip = c.parent_sid;
    return ld_mounts_settle(core->mounts, &rootfs.fs) == LD_UNMOUNTED && is_current(core, held);
}

static int check_held(struct ld_folder *folder, struct ld_err *err)
{
    struct ld_core *core = folder->core;
    bool has_held = false;
    ld_sid after = 0;

    while (!ld_flag_is_set(&folder->cancel)) {
        LD_AUTO(ld_held_done) struct ld_held held = {.upper_sid = 0};
        LD_AUTO(ld_removed_done) struct ld_removed removed = {.n = 0};
        ld_sid tip = 0;

        if (ld_store_held_next(core->store, after, &held, err) < 0)
            return -1;
        after = held.upper_sid;
        if (after == 0)
            break;
        if (!held.is_gone && !(held.container && is_unmounted(core, &held, &tip))) {
            has_held = true;
            continue;
        }
        if (ld_store_held_drop(core->store, held.upper_sid, &removed, err) < 0)
            return -1;
        ld_trash_take(core, &removed);
        if (tip)
            note(folder, tip);
    }
    __atomic_store_n(&folder->has_held, has_held, __ATOMIC_RELAXED);
    return 0;
}

/* A chain that can't be folded now is left alone until it grows again. */
static void tell(const struct ld_err *err)
{
    if (err->code == LD_E_CANCELED || err->code == LD_E_CONFLICT || err->code == LD_E_NO_SPACE)
        ld_debug("folding layers: %s", err->message);
    else
        ld_warn("folding layers: %s", err->message);
}

/* One fold at most: the reaper has its turn in between. */
static void fold_some(struct ld_folder *folder)
{
    autofree struct fold *f = ld_new(struct fold);
    ld_sid tip;
    int rc = 0;

    f->core = folder->core;
    f->cancel = &folder->cancel;
    f->limit = LD_FOLD_IDLE_MAX;
    f->max_cost = UINT64_MAX;
    while (rc == 0 && !ld_flag_is_set(&folder->cancel) && (tip = take_noted(folder)) != 0) {
        struct ld_err err = LD_ERR_INIT;

        rc = ld_store_foldable_above(f->core->store, tip, &tip, &err);
        if (rc == 0)
            rc = fold_next(f, &tip, &err);
        folder->has_more = rc != 0;
        if (rc > 0 || (rc < 0 && err.code == LD_E_CONFLICT))
            note(folder, tip); /* there may be more to do */
        if (rc < 0)
            tell(&err);
    }
}

static struct ld_folder *folder_of(struct ld_job *job)
{
    return (struct ld_folder *)((char *)job - offsetof(struct ld_folder, job));
}

static void run(struct ld_job *job)
{
    struct ld_folder *folder = folder_of(job);
    struct ld_err err = LD_ERR_INIT;

    folder->has_more = folder->has_failed = false;
    if (let_go(folder, &err) == 0 && check_held(folder, &err) == 0 &&
        ld_freeze_count(folder->core, &folder->cancel, &err) == 0) {
        fold_some(folder);
        return;
    }
    folder->has_failed = true;
    tell(&err);
}

static void start(void *arg)
{
    struct ld_folder *folder = arg;
    struct ld_err err = LD_ERR_INIT;

    if (folder->is_running || folder->is_stopped)
        return;
    folder->is_running =
        ld_lanes_submit(folder->core->lanes, LD_LANE_REAP, &folder->job, &err) == 0;
    if (!folder->is_running)
        ld_timer_start(folder->timer, LAST_RETRY_MS, 0);
}

static void on_quiet(void *arg)
{
    struct ld_folder *folder = arg;

    folder->is_waiting = false;
    if (folder->is_stopped)
        return;
    if (folder->is_running)
        folder->is_kicked = true; /* done() takes them */
    else {
        folds_move(&folder->ripe, &folder->waited);
        start(folder);
    }
}

/* What has been folded since is let go when the operations of today are through. */
static void wait_for_quiet(struct ld_folder *folder)
{
    if (folder->is_waiting)
        return;
    folds_move(&folder->ripe, &folder->waited);
    pthread_mutex_lock(&folder->lock);
    folds_move(&folder->waited, &folder->folded);
    pthread_mutex_unlock(&folder->lock);
    if (folder->waited.n == 0)
        return;
    folder->is_waiting = true;
    ld_ops_when_quiet(folder->core->ops, &folder->quiet);
}

static void done(struct ld_job *job)
{
    struct ld_folder *folder = folder_of(job);

    folder->is_running = false;
    if (folder->is_stopped)
        return;
    wait_for_quiet(folder);
    if (!folder->has_failed && (folder->is_kicked || folder->has_more || folder->ripe.n > 0)) {
        folder->is_kicked = false;
        start(folder);
    } else if (folder->has_failed || folder->has_held) {
        ld_timer_start(folder->timer, folder->retry_ms, 0);
        folder->retry_ms =
            folder->retry_ms * 2 < LAST_RETRY_MS ? folder->retry_ms * 2 : LAST_RETRY_MS;
    }
}

static void kick_on_loop(void *arg)
{
    struct ld_folder *folder = arg;

    folder->retry_ms = FIRST_RETRY_MS;
    folder->is_kicked = folder->is_running;
    start(folder); /* nothing where it runs, or is stopped */
}

static void kick(struct ld_core *core)
{
    if (core->folder && !core->refusal)
        ld_loop_post(core->loop, kick_on_loop, core->folder);
}

void ld_folder_look_again(struct ld_core *core)
{
    if (core->folder && ld_flag_is_set(&core->folder->has_held))
        kick(core);
}

void ld_folder_note(struct ld_core *core, ld_sid tip)
{
    if (!core->folder || !tip)
        return;
    note(core->folder, tip);
    kick(core);
}

struct ld_fold_counts ld_folder_counts(struct ld_core *core)
{
    struct ld_fold_counts counts = {.folds = 0};

    if (!core->folder)
        return counts;
    pthread_mutex_lock(&core->folder->lock);
    counts = core->folder->counts;
    pthread_mutex_unlock(&core->folder->lock);
    return counts;
}

struct ld_folder *ld_folder_new(struct ld_core *core)
{
    struct ld_folder *folder = ld_new(struct ld_folder);

    folder->core = core;
    folder->timer = ld_timer_new(core->loop, start, folder);
    folder->job.run = run;
    folder->job.done = done;
    folder->quiet = (struct ld_ops_quiet){.fn = on_quiet, .arg = folder};
    folder->retry_ms = FIRST_RETRY_MS;
    pthread_mutex_init(&folder->lock, NULL);
    return folder;
}

void ld_folder_start(struct ld_folder *folder)
{
    struct ld_err err = LD_ERR_INIT;
    ld_sid tip = 0;

    while (ld_store_foldable_tip(folder->core->store, tip, &tip, &err) == 0 && tip != 0)
        note(folder, tip);
    if (err.code)
        ld_warn("look for chains to be folded: %s", err.message);
    kick(folder->core);
}

void ld_folder_stop(struct ld_folder *folder)
{
    folder->is_stopped = true;
    ld_flag_set(&folder->cancel);
    ld_timer_stop(folder->timer);
}

static void destroy(void *arg)
{
    struct ld_folder *folder = arg;

    ld_table_drain(hh, folder->noted, free);
    folds_done(&folder->waited);
    folds_done(&folder->ripe);
    folds_done(&folder->folded);
    pthread_mutex_destroy(&folder->lock);
    free(folder);
}

void ld_folder_free(struct ld_folder *folder)
{
    if (!folder)
        return;
    folder->is_stopped = true;
    ld_timer_free(folder->timer);
    ld_loop_post(folder->core->loop, destroy, folder); /* after the kicks posted before */
}
