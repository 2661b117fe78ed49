/* Opening and closing the store, its identity, sids, and what every verb's file shares.
 *
 * Invariants: `meta.clean` is 1 only between a close and the next open; sids and event ids are
 * given out below ceilings that a synced commit has reserved, and an open starts at the old
 * ceiling, so that an id is never used twice, whatever a power cut forgets. Opening and closing run
 * on one thread, alone.
 */
#include "daemon/store/store.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "daemon/base/digest.h"
#include "daemon/base/fdio.h"
#include "daemon/base/log.h"
#include "daemon/base/mem.h"
#include "daemon/store/internal.h"
#include "daemon/store/schema.h"

enum { DEFAULT_MAX_EVENTS = 100000 };

int64_t ld_now_ns(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_REALTIME, &now); /* cannot fail for this clock */
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* ---- meta ---- */

static int meta_int(struct ld_db *db, const char *key, int64_t *ret, struct ld_err *err)
{
    autosql stmt = ld_sql(db, "SELECT value FROM meta WHERE key = ?1", err);

    if (!stmt)
        return -1;
    ld_bind(stmt, 1, key);
    return ld_sql_int(stmt, ret, err) < 0 ? -1 : 0;
}

static int meta_text(struct ld_db *db, const char *key, char **ret, struct ld_err *err)
{
    autosql stmt = ld_sql(db, "SELECT value FROM meta WHERE key = ?1", err);
    int rc;

    if (!stmt)
        return -1;
    ld_bind(stmt, 1, key);
    rc = ld_sql_next(stmt, err);
    if (rc > 0)
        *ret = ld_col_text(stmt, 0);
    return rc < 0 ? -1 : 0;
}

static int meta_set_int(struct ld_db *db, const char *key, int64_t value, struct ld_err *err)
{
    autosql stmt = ld_sql(db, "INSERT OR REPLACE INTO meta VALUES(?1, ?2)", err);

    if (!stmt)
        return -1;
    ld_bind(stmt, 1, key);
    ld_bind(stmt, 2, value);
    return ld_sql_done(stmt, err);
}

static int meta_set_text(struct ld_db *db, const char *key, const char *value, struct ld_err *err)
{
    autosql stmt = ld_sql(db, "INSERT OR REPLACE INTO meta VALUES(?1, ?2)", err);

    if (!stmt)
        return -1;
    ld_bind(stmt, 1, key);
    ld_bind(stmt, 2, value);
    return ld_sql_done(stmt, err);
}

/* ---- opening ---- */

/* SQLite opens by path only. The link is resolved now, so that a later chdir or mount does not
 * matter. */
static int database_path(int root_fd, char **ret_path, struct ld_err *err)
{
    char root[PATH_MAX];
    ssize_t n = readlink(ld_fd_path(root_fd).path, root, sizeof(root));

    if (n < 0)
        return ld_err_sys(err, -errno, "find the path of the data root");
    if ((size_t)n >= sizeof(root))
        return ld_err_sys(err, -ENAMETOOLONG, "find the path of the data root");
    root[n] = '\0';
    *ret_path = ld_asprintf("%s/db", root);
    return 0;
}

/* The journal files take the database's mode, so it is made here: SQLite would use the umask. */
static int make_file(int root_fd, struct ld_err *err)
{
    autoclose int fd = openat(root_fd, "db", O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0600);
    int rc = 0;

    if (fd < 0 && errno == EEXIST)
        return 0;
    if (fd < 0)
        return ld_err_sys(err, -errno, "make the database");
    if (fchmod(fd, 0600) < 0)
        rc = -errno;
    if (rc == 0)
        rc = ld_fsync(root_fd);
    return rc < 0 ? ld_err_sys(err, rc, "make the database") : 0;
}

static int read_boot_id(const struct ld_store_options *options, char **ret_id, struct ld_err *err)
{
    char id[37] = "";
    autoclose int fd = -EBADF;
    int rc;

    if (options && options->boot_id) {
        *ret_id = ld_strdup(options->boot_id);
        return 0;
    }
    fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    rc = fd < 0 ? -errno : ld_read_full(fd, id, sizeof(id) - 1);
    if (rc < 0)
        return ld_err_sys(err, rc, "read the kernel's boot id");
    *ret_id = ld_strdup(id);
    return 0;
}

/* Reads what the last run left and reserves the first blocks of ids. */
static int begin_run(struct ld_store *store, struct ld_err *err)
{
    struct ld_db *db = store->writer;
    int64_t sid = 1, event = 1;
    autofree char *instance = NULL;
    autofree char *last_boot = NULL;

    if (meta_int(db, "sid_ceiling", &sid, err) < 0 ||
        meta_int(db, "event_ceiling", &event, err) < 0 ||
        meta_text(db, "instance", &instance, err) < 0 ||
        meta_text(db, "boot_id", &last_boot, err) < 0)
        return -1;
    if (sid < 1 || event < 1 || (instance && strlen(instance) != sizeof(store->instance) - 1))
        return ld_err_set(err, LD_E_CORRUPT, "database: impossible values in its table 'meta'");
    if (instance)
        memcpy(store->instance, instance, sizeof(store->instance));
    else
        ld_random_hex(store->instance, (sizeof(store->instance) - 1) / 2);
    store->is_same_boot = last_boot && strcmp(last_boot, store->boot_id) == 0;
    store->first_sid = store->sid_next = (ld_sid)sid;
    store->sid_ceiling = store->sid_next + LD_SID_BLOCK;
    store->event_next = (uint64_t)event;
    store->event_ceiling = store->event_next + LD_EVENT_BLOCK;

    if (meta_set_text(db, "instance", store->instance, err) < 0 ||
        meta_set_text(db, "boot_id", store->boot_id, err) < 0 ||
        meta_set_int(db, "sid_ceiling", (int64_t)store->sid_ceiling, err) < 0 ||
        meta_set_int(db, "event_ceiling", (int64_t)store->event_ceiling, err) < 0 ||
        meta_set_int(db, "clean", 0, err) < 0)
        return -1;
    return 0;
}

static int newest_event(struct ld_store *store, struct ld_err *err)
{
    autosql stmt = ld_sql(store->writer, "SELECT max(id) FROM events", err);
    int64_t newest = 0;

    if (!stmt || ld_sql_int(stmt, &newest, err) < 0)
        return -1;
    atomic_store(&store->newest_event, (uint64_t)newest);
    return 0;
}

/* One synced transaction around `what` on the writer's connection, while no thread runs. */
static int run_alone(struct ld_store *store, int (*what)(struct ld_store *, struct ld_err *),
                     struct ld_err *err)
{
    if (ld_db_run(store->writer, "PRAGMA synchronous = FULL", err) < 0 ||
        ld_db_run(store->writer, "BEGIN IMMEDIATE", err) < 0)
        return -1;
    if (what(store, err) == 0 && ld_db_run(store->writer, "COMMIT", err) == 0)
        return 0;
    ld_db_undo(store->writer);
    return -1;
}

static struct ld_store *new_store(int data_root_fd, const struct ld_store_options *options)
{
    struct ld_store *store = ld_new(struct ld_store);
    pthread_condattr_t monotonic;

    store->root_fd = data_root_fd;
    store->max_events = DEFAULT_MAX_EVENTS;
    if (options) {
        store->is_loop = options->is_loop;
        if (options->max_events)
            store->max_events = options->max_events;
    }
    store->tail = &store->head;
    (void)pthread_condattr_init(&monotonic); /* these cannot fail on Linux */
    (void)pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&store->work, &monotonic);
    (void)pthread_condattr_destroy(&monotonic);
    (void)pthread_cond_init(&store->room, NULL);
    (void)pthread_mutex_init(&store->lock, NULL);
    (void)pthread_mutex_init(&store->read_lock, NULL);
    (void)pthread_cond_init(&store->read_free, NULL);
    return store;
}

int ld_store_open(int data_root_fd, const struct ld_store_options *options,
                  struct ld_store **ret_store, struct ld_err *err)
{
    LD_AUTO(ld_store_close_p) struct ld_store *store = new_store(data_root_fd, options);

    if (read_boot_id(options, &store->boot_id, err) < 0 ||
        database_path(data_root_fd, &store->path, err) < 0 || make_file(data_root_fd, err) < 0 ||
        ld_db_open(store->path, LD_DB_WRITER, &store->writer, err) < 0)
        return -1;
    if (ld_schema_upgrade(store->writer, data_root_fd, &ld_schema, err) < 0 ||
        run_alone(store, begin_run, err) < 0 || newest_event(store, err) < 0 ||
        ld_writer_start(store, err) < 0)
        return -1;
    *ret_store = ld_steal(&store);
    return 0;
}

/* ---- closing ---- */

/* Nothing was given out beyond, so the next run need not jump. */
static int end_run(struct ld_store *store, struct ld_err *err)
{
    if (meta_set_int(store->writer, "sid_ceiling", (int64_t)store->sid_next, err) < 0 ||
        meta_set_int(store->writer, "event_ceiling", (int64_t)store->event_next, err) < 0 ||
        meta_set_int(store->writer, "clean", 1, err) < 0)
        return -1;
    return 0;
}

void ld_store_close(struct ld_store *store)
{
    struct ld_err err;

    if (!store)
        return;
    if (store->has_thread) {
        ld_writer_stop(store);
        if (!store->is_broken && run_alone(store, end_run, &err) < 0)
            ld_warn("the next start will check the database: %s, ignoring", err.message);
    }
    ld_readers_close(store);
    ld_db_close(store->writer); /* the last connection: it folds the WAL into the database */
    (void)pthread_cond_destroy(&store->work);
    (void)pthread_cond_destroy(&store->room);
    (void)pthread_cond_destroy(&store->read_free);
    (void)pthread_mutex_destroy(&store->lock);
    (void)pthread_mutex_destroy(&store->read_lock);
    free(store->path);
    free(store->boot_id);
    free(store);
}

void ld_store_close_p(struct ld_store **store)
{
    int saved = errno;

    ld_store_close(*store);
    *store = NULL;
    errno = saved;
}

/* ---- identity and ids ---- */

const char *ld_store_instance(const struct ld_store *store)
{
    return store->instance;
}

const char *ld_store_boot_id(const struct ld_store *store)
{
    return store->boot_id;
}

bool ld_store_is_same_boot(const struct ld_store *store)
{
    return store->is_same_boot;
}

ld_sid ld_store_sid_ceiling(const struct ld_store *store)
{
    return store->first_sid;
}

ld_sid ld_store_sid_next(struct ld_store *store)
{
    ld_sid next;

    (void)pthread_mutex_lock(&store->lock);
    next = store->sid_next;
    (void)pthread_mutex_unlock(&store->lock);
    return next;
}

struct refill {
    ld_sid ceiling;
};

static int write_sid_ceiling(struct ld_tx *tx, void *arg, struct ld_err *err)
{
    const struct refill *refill = arg;

    return meta_set_int(tx->db, "sid_ceiling", (int64_t)refill->ceiling, err);
}

static void refill_done(struct ld_store *store, void *take_arg, int rc, struct ld_err *err)
{
    struct refill *refill = take_arg;

    (void)pthread_mutex_lock(&store->lock);
    store->sid_refill = false;
    if (rc == 0)
        store->sid_ceiling = refill->ceiling;
    else
        store->sid_error = *err;
    (void)pthread_cond_broadcast(&store->room);
    (void)pthread_mutex_unlock(&store->lock);
    free(refill);
}

static void refill_sids(struct ld_store *store)
{
    struct refill *refill = ld_new(struct refill);

    (void)pthread_mutex_lock(&store->lock);
    refill->ceiling = store->sid_ceiling + LD_SID_BLOCK;
    (void)pthread_mutex_unlock(&store->lock);
    ld_store_write_later(store, LD_SYNC_FULL, write_sid_ceiling, refill, refill_done);
}

/* Marks a refill as on its way; the caller then queues it without the lock. */
static bool want_refill_locked(struct ld_store *store)
{
    if (store->sid_refill || store->sid_ceiling - store->sid_next > LD_SID_BLOCK / 2)
        return false;
    store->sid_refill = true;
    store->sid_error.code = LD_E_NONE;
    return true;
}

int ld_store_take_sid(struct ld_store *store, ld_sid *ret_sid, struct ld_err *err)
{
    ld_sid sid = 0;
    int rc = 0;

    while (sid == 0 && rc == 0) {
        bool want_refill;

        (void)pthread_mutex_lock(&store->lock);
        if (store->sid_next < store->sid_ceiling)
            sid = store->sid_next++;
        want_refill = want_refill_locked(store);
        if (sid == 0 && !want_refill) {
            assert(!store->is_loop || !store->is_loop());
            while (store->sid_refill)
                (void)pthread_cond_wait(&store->room, &store->lock);
            if (store->sid_error.code != LD_E_NONE) {
                *err = store->sid_error;
                rc = -1;
            }
        }
        (void)pthread_mutex_unlock(&store->lock);
        if (want_refill)
            refill_sids(store);
    }
    if (rc < 0)
        return -1;
    *ret_sid = sid;
    return 0;
}

void ld_store_on_events(struct ld_store *store, ld_store_event_fn fn, void *arg)
{
    (void)pthread_mutex_lock(&store->lock);
    store->on_events = fn;
    store->on_events_arg = arg;
    (void)pthread_mutex_unlock(&store->lock);
}

uint64_t ld_store_event_newest(struct ld_store *store)
{
    return atomic_load(&store->newest_event);
}

void ld_store_get_stats(struct ld_store *store, struct ld_store_stats *ret)
{
    struct stat st;

    (void)pthread_mutex_lock(&store->lock);
    *ret = store->stats;
    (void)pthread_mutex_unlock(&store->lock);
    ret->db_bytes = fstatat(store->root_fd, "db", &st, 0) == 0 ? (uint64_t)st.st_size : 0;
    ret->wal_bytes = fstatat(store->root_fd, "db-wal", &st, 0) == 0 ? (uint64_t)st.st_size : 0;
}
