/* The pool of read connections, and what lists have in common.
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

/* ---- users and candidates ---- */

int ld_users_read(sqlite3_stmt *stmt, struct ld_users *ret, struct ld_err *err)
{
    LD_AUTO(ld_users_done) struct ld_users users = {0};
    size_t cap = 0;
    int rc = 0;

    while (users.n < LD_STORE_PAGE_MAX && (rc = ld_sql_next(stmt, err)) > 0) {
        ld_grow(&users.item, &cap, users.n + 1, sizeof(*users.item));
        users.item[users.n++] = (struct ld_user){
            .kind = ld_col_text(stmt, 0), .id = ld_col_text(stmt, 1), .name = ld_col_text(stmt, 2)};
    }
    if (rc < 0)
        return -1;
    *ret = ld_steal(&users);
    return 0;
}

/* Adds ",item" if the whole text still fits the details; false: it does not. */
static bool add_item(struct ld_buf *buf, const struct ld_buf *item, bool first)
{
    struct ld_err *sizes = NULL;

    if (buf->len + item->len + sizeof(",],\"more\":true}") > sizeof(sizes->details))
        return false;
    if (!first)
        ld_buf_addc(buf, ',');
    ld_buf_add(buf, item->data, item->len);
    return true;
}

int ld_users_details(const struct ld_users *users, struct ld_err *err)
{
    autobuf struct ld_buf buf = LD_BUF_INIT(sizeof(err->details));
    autobuf struct ld_buf item = LD_BUF_INIT(sizeof(err->details));
    size_t i;

    ld_buf_adds(&buf, "{\"users\":[");
    for (i = 0; i < users->n; i++) {
        ld_buf_clear(&item);
        ld_buf_adds(&item, "{\"kind\":");
        ld_json_add(&item, users->item[i].kind);
        ld_buf_adds(&item, ",\"id\":");
        ld_json_add(&item, users->item[i].id);
        ld_buf_adds(&item, ",\"name\":");
        ld_json_add(&item, users->item[i].name);
        ld_buf_addc(&item, '}');
        if (ld_buf_check(&item) < 0 || !add_item(&buf, &item, i == 0))
            break;
    }
    ld_buf_adds(&buf, i < users->n ? "],\"more\":true}" : "]}");
    return ld_err_details(err, ld_buf_str(&buf));
}

int ld_candidates_error(sqlite3_stmt *stmt, const char *what, const char *text, struct ld_err *err)
{
    autobuf struct ld_buf buf = LD_BUF_INIT(sizeof(err->details));
    size_t n = 0;
    int rc;

    ld_buf_adds(&buf, "{\"candidates\":[");
    while ((rc = ld_sql_next(stmt, err)) > 0 && n < 8) {
        if (n++ > 0)
            ld_buf_addc(&buf, ',');
        ld_json_add(&buf, ld_col_peek(stmt, 0));
    }
    if (rc < 0)
        return -1;
    ld_buf_adds(&buf, "]}");
    (void)ld_err_set(err, LD_E_CONFLICT, "%s '%s' is ambiguous: %zu%s ids begin with it", what,
                     text, n, rc > 0 ? " or more" : "");
    (void)ld_err_hint(err, "give more digits of the id");
    return ld_err_details(err, ld_buf_str(&buf));
}

char *ld_labels_json(const struct ld_label *labels, size_t n)
{
    autobuf struct ld_buf buf = LD_BUF_INIT(1 << 20);

    if (n == 0)
        return NULL;
    for (size_t i = 0; i < n; i++) {
        ld_buf_adds(&buf, i == 0 ? "[[" : ",[");
        ld_json_add(&buf, labels[i].key);
        ld_buf_addc(&buf, ',');
        ld_json_add(&buf, labels[i].value);
        ld_buf_addc(&buf, ']');
    }
    ld_buf_addc(&buf, ']');
    return ld_buf_take(&buf);
}

/* ---- the same words everywhere ---- */

int ld_err_missing(struct ld_err *err, const char *kind, const char *text)
{
    return ld_err_set(err, LD_E_NOT_FOUND, "no such %s: '%s'", kind, text);
}

int ld_err_taken(struct ld_err *err, const char *kind, const char *name, const char *id)
{
    autobuf struct ld_buf buf = LD_BUF_INIT(sizeof(err->details));

    ld_buf_adds(&buf, "{\"id\":");
    ld_json_add(&buf, id);
    ld_buf_addc(&buf, '}');
    (void)ld_err_set(err, LD_E_EXISTS, "%s '%s' exists already", kind, name);
    return ld_err_details(err, ld_buf_str(&buf));
}

int ld_err_version(struct ld_err *err, const char *kind, const char *id, uint64_t is, uint64_t want)
{
    return ld_err_set(err, LD_E_PRECONDITION, "%s '%s' is in version %llu, not %llu", kind, id,
                      (unsigned long long)is, (unsigned long long)want);
}
