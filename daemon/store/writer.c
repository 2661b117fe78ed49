/* The writer: one thread that puts every queued write into one transaction (group commit).
 *
 * A batch: sync the distinct directories that the writes rely on; BEGIN; one savepoint per write;
 * COMMIT; then wake the callers. While the disk syncs one batch, the next one queues up, so N
 * concurrent callers share one sync of the WAL (and one of a common directory). `synchronous` is
 * set per batch: FULL as soon as one write in it must be durable.
 *
 * Invariants: a write whose directory cannot be synced is not run. If COMMIT fails, every write of
 * the batch fails. Event ids are used only below a ceiling that is durable or becomes so in the
 * same synced transaction. After a failed sync nothing is written any more: the kernel has dropped
 * what it could not write, so a later success would prove nothing. Checkpoints are ours: when
 * nothing is to do, or when the WAL has become large.
 */
#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "daemon/base/clock.h"
#include "daemon/base/fdio.h"
#include "daemon/base/log.h"
#include "daemon/base/mem.h"
#include "daemon/store/internal.h"

enum {
    WAL_LARGE_FRAMES = 2000, /* 8 MiB more: checkpoint without waiting for a quiet moment */
    WAL_HUGE_FRAMES = 8000,  /* readers have kept it from starting over: wait for them */
    TRIM_EVENTS = 1000,      /* trim the ring after so many new events */
    IDLE_MS = 1000,          /* this long without a write: checkpoint */
    TRIM_EVERY_S = 3600,     /* age limits */
    EVENTS_PER_WRITE = 8192, /* more than any single write adds */
};

struct ld_submit {
    struct ld_submit *next;
    ld_tx_fn fn;
    void *arg;
    const struct ld_write *w;
    enum ld_sync sync;
    int rc;
    struct ld_err *err;
    bool is_done;        /* under the lock */
    pthread_cond_t wake; /* of the caller that waits */
    ld_tx_done_fn done;  /* or nobody waits: called, then freed */
};

/* Directories of one batch, each synced once whoever names it. */
struct synced {
    dev_t dev;
    ino_t ino;
    int rc;
};
struct batch {
    struct ld_submit *head;
    size_t n;
    struct synced dirs[LD_BATCH_MAX];
    size_t n_dirs;
    bool must_sync;
    uint64_t sync_ns; /* waiting for the disk took so long */
    uint64_t first_event;
};

/* ---- queueing ---- */

static void enqueue(struct ld_store *store, struct ld_submit *s)
{
    *store->tail = s;
    store->tail = &s->next;
    store->n_queued++;
    (void)pthread_cond_signal(&store->work);
}

int ld_store_write(struct ld_store *store, const struct ld_write *w, enum ld_sync sync, ld_tx_fn fn,
                   void *arg, struct ld_err *err)
{
    struct ld_submit s = {.fn = fn, .arg = arg, .w = w, .sync = sync, .err = err};
    bool refused;

    assert(!store->is_loop || !store->is_loop());
    assert(w->n_dirs <= LD_STORE_MAX_DIRS);
    (void)pthread_cond_init(&s.wake, NULL); /* cannot fail on Linux */
    (void)pthread_mutex_lock(&store->lock);
    refused = store->stop;
    if (!refused) {
        enqueue(store, &s);
        while (!s.is_done)
            (void)pthread_cond_wait(&s.wake, &store->lock);
    }
    (void)pthread_mutex_unlock(&store->lock);
    (void)pthread_cond_destroy(&s.wake);
    if (refused)
        return ld_err_set(err, LD_E_UNAVAILABLE, "database: closing");
    return s.rc;
}

void ld_store_write_later(struct ld_store *store, enum ld_sync sync, ld_tx_fn fn, void *take_arg,
                          ld_tx_done_fn done)
{
    static const struct ld_write self = {.uid = -1, .pid = -1};
    struct ld_submit *s = ld_new(struct ld_submit);

    *s = (struct ld_submit){.fn = fn,
                            .arg = take_arg,
                            .w = &self,
                            .sync = sync,
                            .err = ld_new(struct ld_err),
                            .done = done};
    (void)pthread_mutex_lock(&store->lock);
    enqueue(store, s);
    (void)pthread_mutex_unlock(&store->lock);
}

/* ---- directories ---- */

static int sync_dir(struct ld_store *store, struct batch *batch, int fd)
{
    struct stat st;
    uint64_t began_ns;
    int rc;

    if (fstat(fd, &st) < 0)
        return -errno;
    for (size_t i = 0; i < batch->n_dirs; i++) {
        if (batch->dirs[i].dev == st.st_dev && batch->dirs[i].ino == st.st_ino)
            return batch->dirs[i].rc;
    }
    began_ns = ld_monotonic_ns();
    rc = ld_fsync(fd);
    batch->sync_ns += ld_monotonic_ns() - began_ns;
    (void)pthread_mutex_lock(&store->lock);
    store->stats.dir_syncs++;
    (void)pthread_mutex_unlock(&store->lock);
    if (batch->n_dirs < LD_ARRAY_LEN(batch->dirs))
        batch->dirs[batch->n_dirs++] = (struct synced){st.st_dev, st.st_ino, rc};
    return rc;
}

static void sync_dirs(struct ld_store *store, struct batch *batch)
{
    for (struct ld_submit *s = batch->head; s; s = s->next) {
        for (size_t i = 0; i < s->w->n_dirs && s->rc == 0; i++) {
            int rc = sync_dir(store, batch, s->w->dirs[i]);

            if (rc < 0)
                s->rc = ld_err_sys(s->err, rc, "sync a directory before recording it");
        }
    }
}

/* ---- one batch ---- */

static int run_write(struct ld_store *store, struct ld_submit *s)
{
    struct ld_tx tx = {.store = store, .db = store->writer, .w = s->w, .now_ns = ld_now_ns()};
    struct ld_err ignored;
    int rc;

    if (ld_db_run(store->writer, "SAVEPOINT w", s->err) < 0)
        return -1;
    rc = s->fn(&tx, s->arg, s->err);
    for (size_t i = 0; i < s->w->n_notes && rc == 0; i++)
        rc = ld_tx_note(&tx, &s->w->notes[i], s->err);
    if (!ld_db_in_transaction(
            store->writer)) /* SQLite gave the whole transaction up: disk full, I/O */
        return -1;
    if (rc == 0 && !s->w->dry_run)
        return ld_db_run(store->writer, "RELEASE w", s->err);
    if (ld_db_run(store->writer, "ROLLBACK TO w; RELEASE w", rc < 0 ? &ignored : s->err) < 0)
        return -1;
    return rc;
}

/* A block of event ids is reserved long before the last one is used up. */
static int reserve_events(struct ld_store *store, struct batch *batch, uint64_t *ret_ceiling,
                          struct ld_err *err)
{
    autosql stmt = NULL;

    *ret_ceiling = store->event_ceiling;
    if (store->event_next + LD_EVENT_BLOCK / 2 < store->event_ceiling)
        return 0;
    *ret_ceiling = store->event_next + LD_EVENT_BLOCK;
    stmt = ld_sql(store->writer, "UPDATE meta SET value = ?1 WHERE key = 'event_ceiling'", err);
    if (!stmt)
        return -1;
    ld_bind(stmt, 1, *ret_ceiling);
    batch->must_sync = true;
    return ld_sql_done(stmt, err);
}

static int set_synchronous(struct ld_store *store, bool full, struct ld_err *err)
{
    if (store->is_full == full)
        return 0;
    if (ld_db_run(store->writer, full ? "PRAGMA synchronous = FULL" : "PRAGMA synchronous = NORMAL",
                  err) < 0)
        return -1;
    store->is_full = full;
    return 0;
}

static void note_failed_sync(struct ld_store *store, const struct ld_err *err)
{
    if (sqlite3_extended_errcode(ld_db_handle(store->writer)) != SQLITE_IOERR_FSYNC)
        return;
    store->is_broken = true;
    ld_error("no more changes are accepted: %s", err->message);
}

static int refuse_broken(struct ld_err *err)
{
    (void)ld_err_set(err, LD_E_IO, "database: a sync to the disk has failed before");
    return ld_err_hint(err, "check the disk, then start layerd again");
}

static int commit(struct ld_store *store, struct batch *batch, struct ld_err *err)
{
    uint64_t began_ns = ld_monotonic_ns();
    int rc = ld_db_run(store->writer, "COMMIT", err);

    if (batch->must_sync)
        batch->sync_ns += ld_monotonic_ns() - began_ns;
    return rc;
}

/* Everything between BEGIN and COMMIT. Writes that do not get their turn (no event ids left) are
 * cut off the batch into *ret_rest. */
static int run_transaction(struct ld_store *store, struct batch *batch, struct ld_submit **ret_rest,
                           struct ld_err *err)
{
    uint64_t ceiling;

    if (store->is_broken)
        return refuse_broken(err);
    if (store->event_next + LD_EVENT_BLOCK / 2 >= store->event_ceiling)
        batch->must_sync = true;
    if (set_synchronous(store, batch->must_sync, err) < 0 ||
        ld_db_run(store->writer, "BEGIN IMMEDIATE", err) < 0 ||
        reserve_events(store, batch, &ceiling, err) < 0)
        return -1;
    batch->first_event = store->event_next;
    for (struct ld_submit *s = batch->head, *last = NULL; s; last = s, s = s->next) {
        if (last && store->event_next + EVENTS_PER_WRITE > ceiling) {
            last->next = NULL;
            *ret_rest = s;
            break;
        }
        if (s->rc == 0)
            s->rc = run_write(store, s);
        if (!ld_db_in_transaction(store->writer)) {
            *err = *s->err;
            return -1;
        }
    }
    if (commit(store, batch, err) < 0) {
        note_failed_sync(store, err);
        return -1;
    }
    store->event_ceiling = ceiling;
    return 0;
}

static void announce(struct ld_store *store, const struct batch *batch)
{
    ld_store_event_fn fn;
    void *arg;

    if (store->event_next == batch->first_event)
        return;
    store->events_since_trim += store->event_next - batch->first_event;
    atomic_store(&store->newest_event, store->event_next - 1);
    (void)pthread_mutex_lock(&store->lock);
    fn = store->on_events;
    arg = store->on_events_arg;
    (void)pthread_mutex_unlock(&store->lock);
    if (fn)
        fn(arg, store->event_next - 1);
}

/* Wakes the callers, or calls `done` of those that have none. */
static void finish(struct ld_store *store, struct batch *batch)
{
    struct ld_submit *later = NULL;
    uint64_t n = 0;

    (void)pthread_mutex_lock(&store->lock);
    store->stats.commits++;
    for (struct ld_submit *s = batch->head, *next; s; s = next) {
        next = s->next; /* a woken caller's submission is gone at once */
        n++;
        if (s->done) {
            s->next = later;
            later = s;
        } else {
            s->is_done = true;
            (void)pthread_cond_signal(&s->wake);
        }
    }
    store->stats.writes += n;
    ld_histogram_add(&store->stats.batch, &ld_scale_count, n);
    if (batch->sync_ns > 0)
        ld_histogram_add(&store->stats.sync_ns, &ld_scale_time, batch->sync_ns);
    (void)pthread_mutex_unlock(&store->lock);
    while (later) {
        struct ld_submit *s = later;

        later = s->next;
        s->done(store, s->arg, s->rc, s->err);
        free(s->err);
        free(s);
    }
}

/* Returns the writes that had no turn. */
static struct ld_submit *run_batch(struct ld_store *store, struct batch *batch)
{
    struct ld_submit *rest = NULL;
    struct ld_err err = LD_ERR_INIT;

    for (struct ld_submit *s = batch->head; s; s = s->next)
        batch->must_sync |= s->sync == LD_SYNC_FULL;
    sync_dirs(store, batch);
    if (run_transaction(store, batch, &rest, &err) < 0) {
        ld_db_undo(store->writer);
        for (struct ld_submit *s = batch->head; s; s = s->next) {
            if (s->rc == 0)
                *s->err = err;
            s->rc = -1;
        }
    } else {
        announce(store, batch);
    }
    finish(store, batch);
    return rest;
}

/* ---- checkpoints and trimming ---- */

static int count_frames(void *arg, sqlite3 *handle, const char *schema, int frames)
{
    struct ld_store *store = arg;

    (void)handle, (void)schema;
    store->wal_frames = frames;
    return SQLITE_OK;
}

/* PASSIVE never waits for readers; RESTART does, so that the WAL starts over; TRUNCATE, when idle,
 * gives the space back too. */
static void checkpoint(struct ld_store *store, int mode)
{
    int rc = sqlite3_wal_checkpoint_v2(ld_db_handle(store->writer), NULL, mode, NULL, NULL);

    store->wal_folded = store->wal_frames;
    if (rc != SQLITE_OK && rc != SQLITE_BUSY)
        ld_warn("database: checkpoint: %s, ignoring", sqlite3_errstr(rc));
    (void)pthread_mutex_lock(&store->lock);
    store->stats.checkpoints++;
    (void)pthread_mutex_unlock(&store->lock);
}

static void checkpoint_if_large(struct ld_store *store)
{
    if (store->wal_frames < store->wal_folded)
        store->wal_folded = 0; /* it has started over */
    if (store->wal_frames - store->wal_folded > WAL_LARGE_FRAMES)
        checkpoint(store, store->wal_frames > WAL_HUGE_FRAMES ? SQLITE_CHECKPOINT_RESTART
                                                              : SQLITE_CHECKPOINT_PASSIVE);
}

static int64_t monotonic_ns(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now); /* cannot fail for this clock */
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static int trim(struct ld_tx *tx, void *arg, struct ld_err *err)
{
    (void)arg;
    if (ld_events_trim(tx, err) < 0)
        return -1;
    return ld_jobs_trim(tx, err);
}

static void trimmed(struct ld_store *store, void *take_arg, int rc, struct ld_err *err)
{
    (void)store, (void)take_arg;
    if (rc < 0)
        ld_warn("trim events and jobs: %s, ignoring", err->message);
}

static void trim_if_due(struct ld_store *store)
{
    int64_t now = monotonic_ns();

    if (store->events_since_trim < TRIM_EVENTS && store->trimmed_ns != 0 &&
        now - store->trimmed_ns < TRIM_EVERY_S * INT64_C(1000000000))
        return;
    store->events_since_trim = 0;
    store->trimmed_ns = now;
    ld_store_write_later(store, LD_SYNC_LAZY, trim, NULL, trimmed);
}

/* ---- the thread ---- */

static void wait_for_work_locked(struct ld_store *store)
{
    struct timespec until;
    int rc = 0;

    (void)clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += IDLE_MS / 1000;
    while (!store->head && !store->stop) {
        if (store->wal_frames > 0 && rc == 0) {
            rc = pthread_cond_timedwait(&store->work, &store->lock, &until);
        } else if (rc == ETIMEDOUT) {
            rc = 0;
            (void)pthread_mutex_unlock(&store->lock);
            checkpoint(store, SQLITE_CHECKPOINT_TRUNCATE);
            store->wal_frames = store->wal_folded = 0; /* if it failed, the next commit tells */
            (void)pthread_mutex_lock(&store->lock);
        } else {
            (void)pthread_cond_wait(&store->work, &store->lock);
        }
    }
}

static void take_batch_locked(struct ld_store *store, struct batch *batch)
{
    struct ld_submit **end = &batch->head;

    memset(batch, 0, sizeof(*batch));
    while (store->head && batch->n < LD_BATCH_MAX) {
        *end = store->head;
        store->head = store->head->next;
        end = &(*end)->next;
        batch->n++;
        store->n_queued--;
    }
    *end = NULL;
    if (!store->head)
        store->tail = &store->head;
    (void)pthread_cond_broadcast(&store->room);
}

static void put_back_locked(struct ld_store *store, struct ld_submit *rest)
{
    struct ld_submit **end = &rest;

    for (; *end; end = &(*end)->next)
        store->n_queued++;
    *end = store->head;
    if (!store->head)
        store->tail = end;
    store->head = rest;
}

static void *writer_main(void *arg)
{
    struct ld_store *store = arg;
    struct batch *batch = ld_new(struct batch);

    (void)pthread_mutex_lock(&store->lock);
    for (;;) {
        struct ld_submit *rest;

        wait_for_work_locked(store);
        if (!store->head)
            break; /* stop, and nothing is left */
        take_batch_locked(store, batch);
        (void)pthread_mutex_unlock(&store->lock);
        rest = run_batch(store, batch);
        checkpoint_if_large(store);
        (void)pthread_mutex_lock(&store->lock);
        if (rest)
            put_back_locked(store, rest);
        if (!store->stop) {
            (void)pthread_mutex_unlock(&store->lock);
            trim_if_due(store);
            (void)pthread_mutex_lock(&store->lock);
        }
    }
    (void)pthread_mutex_unlock(&store->lock);
    free(batch);
    return NULL;
}

int ld_writer_start(struct ld_store *store, struct ld_err *err)
{
    sigset_t all, before;
    int rc;

    (void)sqlite3_wal_autocheckpoint(ld_db_handle(store->writer), 0);
    (void)sqlite3_wal_hook(ld_db_handle(store->writer), count_frames, store);
    store->is_full = true; /* as the opening transaction has set it */
    /* Signals are the main thread's: while it closes it blocks them, and then they would be ours.
     */
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before); /* constants: cannot fail */
    rc = pthread_create(&store->thread, NULL, writer_main, store);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (rc != 0)
        return ld_err_sys(err, -rc, "start the store's thread");
    store->has_thread = true;
    return 0;
}

void ld_writer_stop(struct ld_store *store)
{
    (void)pthread_mutex_lock(&store->lock);
    store->stop = true;
    (void)pthread_cond_signal(&store->work);
    (void)pthread_mutex_unlock(&store->lock);
    (void)pthread_join(store->thread, NULL);
    store->has_thread = false;
}

/* A commit without a change would not sync what earlier lazy ones have written. */
static int touch(struct ld_tx *tx, void *arg, struct ld_err *err)
{
    autosql stmt = ld_sql(tx->db, "UPDATE meta SET value = value WHERE key = 'clean'", err);

    (void)arg;
    return stmt ? ld_sql_done(stmt, err) : -1;
}

int ld_store_flush(struct ld_store *store, struct ld_err *err)
{
    return ld_store_write(store, &LD_WRITE_SELF, LD_SYNC_FULL, touch, NULL, err);
}
