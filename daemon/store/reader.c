/* The pool of read connections.
 *
 * Connections are opened when first needed and kept. Lists may use all but one: the last is left to
 * lookups, which are short, so that a lookup (the loop's too) never waits behind a list. Each read
 * is one transaction: a record and its parts are of one moment. Any thread.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/base/mem.h"
#include "daemon/store/internal.h"

/* An idle connection, or the right to open one (NULL). */
static struct ld_db *take_connection(struct ld_store *store, enum ld_read_kind kind)
{
    size_t reserved = kind == LD_READ_LIST ? 1 : 0;
    struct ld_db *db = NULL;

    (void)pthread_mutex_lock(&store->read_lock);
    while (store->n_idle + (LD_READERS - store->n_open) <= reserved)
        (void)pthread_cond_wait(&store->read_free, &store->read_lock);
    if (store->n_idle > 0)
        db = store->idle[--store->n_idle];
    else
        store->n_open++;
    (void)pthread_mutex_unlock(&store->read_lock);
    return db;
}

/* NULL: the right to a connection is given back. */
static void give_connection(struct ld_store *store, struct ld_db *db)
{
    (void)pthread_mutex_lock(&store->read_lock);
    if (db)
        store->idle[store->n_idle++] = db;
    else
        store->n_open--;
    (void)pthread_cond_broadcast(
        &store->read_free); /* a list that still may not must not eat the signal */
    (void)pthread_mutex_unlock(&store->read_lock);
}

static int begin(struct ld_db *db, struct ld_err *err)
{
    autosql stmt = ld_sql(db, "BEGIN", err);

    return stmt ? ld_sql_done(stmt, err) : -1;
}

int ld_read_begin(struct ld_store *store, enum ld_read_kind kind, struct ld_read *ret,
                  struct ld_err *err)
{
    struct ld_db *db = take_connection(store, kind);

    if (!db && ld_db_open(store->path, LD_DB_READER, &db, err) < 0) {
        give_connection(store, NULL);
        return -1;
    }
    if (begin(db, err) < 0) {
        ld_db_close(db);
        give_connection(store, NULL);
        return -1;
    }
    *ret = (struct ld_read){.store = store, .db = db};
    return 0;
}

void ld_read_end_p(struct ld_read *read)
{
    int saved = errno;
    struct ld_err ignored;
    autosql stmt = NULL;

    if (!read->db)
        return;
    stmt = ld_sql(read->db, "COMMIT", &ignored);
    if (!stmt ||
        ld_sql_done(stmt, &ignored) < 0) { /* nothing to lose: start anew with another one */
        ld_sql_reset_p(&stmt);
        ld_db_close(read->db);
        read->db = NULL;
    }
    ld_sql_reset_p(&stmt); /* before another thread has the connection */
    give_connection(read->store, read->db);
    *read = (struct ld_read){.store = NULL};
    errno = saved;
}

void ld_readers_close(struct ld_store *store)
{
    while (store->n_idle > 0)
        ld_db_close(store->idle[--store->n_idle]);
    store->n_open = 0;
}
