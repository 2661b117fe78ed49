/* Jobs (long verbs, over restarts) and idempotency keys: what a client may ask for again later.
 * Both are forgotten after a time or beyond a number. */
#include <stdlib.h>
#include <string.h>

#include "daemon/base/mem.h"
#include "daemon/store/internal.h"

#define COLUMNS                                                                                    \
    "seq, id, kind, state, object_kind, object_id, uid, request_id, result, error, created_ns,"    \
    " finished_ns"

enum {
    PREFIX_MIN = 4,
    ID_LEN = 64,
    MAX_JOBS = 10000,
    MAX_JOB_DAYS = 7,
    MAX_KEYS = 10000,
    MAX_KEY_HOURS = 24
};

static const int64_t hour_ns = INT64_C(3600000000000);

/* ---- jobs ---- */

static void read_job(sqlite3_stmt *stmt, struct ld_job_record *job)
{
    *job = (struct ld_job_record){
        .id = ld_col_text(stmt, 1),
        .kind = ld_col_text(stmt, 2),
        .state = (enum ld_job_state)ld_col_int(stmt, 3),
        .object_kind = ld_col_text(stmt, 4),
        .object_id = ld_col_text(stmt, 5),
        .uid = ld_col_int(stmt, 6),
        .request_id = ld_col_text(stmt, 7),
        .result = ld_col_text(stmt, 8),
        .error = ld_col_text(stmt, 9),
        .created_ns = ld_col_int(stmt, 10),
        .finished_ns = ld_col_int(stmt, 11),
    };
}

static int add_job(struct ld_tx *tx, void *arg, struct ld_err *err)
{
    const struct ld_job_record *job = arg;
    autosql stmt = ld_sql(tx->db,
                          "INSERT INTO jobs(id, kind, state, object_kind, object_id, uid,"
                          " request_id, created_ns) VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
                          err);

    if (!stmt)
        return -1;
    ld_bind(stmt, 1, job->id);
    ld_bind(stmt, 2, job->kind);
    ld_bind(stmt, 3, (int)LD_JOB_RUNNING);
    ld_bind(stmt, 4, job->object_kind);
    ld_bind(stmt, 5, job->object_id);
    ld_bind(stmt, 6, tx->w->uid);
    ld_bind(stmt, 7, tx->w->request_id);
    ld_bind(stmt, 8, job->created_ns ? job->created_ns : tx->now_ns);
    return ld_sql_done(stmt, err);
}

int ld_store_job_add(struct ld_store *store, const struct ld_write *w,
                     const struct ld_job_record *job, struct ld_err *err)
{
    struct ld_job_record copy = *job; /* borrows the strings for the call */

    return ld_store_write(store, w, LD_SYNC_FULL, add_job, &copy, err);
}

static int finish_job(struct ld_tx *tx, void *arg, struct ld_err *err)
{
    const struct ld_job_record *job = arg;
    autosql find = ld_sql(tx->db, "SELECT state FROM jobs WHERE id = ?1", err);
    autosql stmt = NULL;
    int64_t state = 0;
    int rc;

    if (!find)
        return -1;
    ld_bind(find, 1, job->id);
    rc = ld_sql_int(find, &state, err);
    if (ld_want_row(rc, "job", job->id, err) < 0)
        return -1;
    if (state != LD_JOB_RUNNING)
        return ld_err_set(err, LD_E_CONFLICT, "job '%s' has ended already (%s)", job->id,
                          ld_job_state_name((enum ld_job_state)state));
    stmt = ld_sql(tx->db,
                  "UPDATE jobs SET state = ?2, result = ?3, error = ?4, finished_ns = ?5,"
                  " object_kind = coalesce(?6, object_kind), object_id = coalesce(?7, object_id)"
                  " WHERE id = ?1",
                  err);
    if (!stmt)
        return -1;
    ld_bind(stmt, 1, job->id);
    ld_bind(stmt, 2, (int)job->state);
    ld_bind(stmt, 3, job->result);
    ld_bind(stmt, 4, job->error);
    ld_bind(stmt, 5, job->finished_ns ? job->finished_ns : tx->now_ns);
    ld_bind(stmt, 6, job->object_kind);
    ld_bind(stmt, 7, job->object_id);
    return ld_sql_done(stmt, err);
}

int ld_store_job_finish(struct ld_store *store, const struct ld_write *w,
                        const struct ld_job_record *job, struct ld_err *err)
{
    struct ld_job_record copy = *job; /* borrows the strings for the call */

    if (job->result && strlen(job->result) > LD_STORE_MAX_DOC)
        return ld_err_set(err, LD_E_INVALID, "job '%s': its result is too large", job->id);
    return ld_store_write(store, w, LD_SYNC_FULL, finish_job, &copy, err);
}

/* 1: found; 0: no such job. */
static int get_job(struct ld_db *db, const char *id, struct ld_job_record *ret, struct ld_err *err)
{
    autosql stmt = ld_sql(db, "SELECT " COLUMNS " FROM jobs WHERE id = ?1", err);
    int rc;

    if (!stmt)
        return -1;
    ld_bind(stmt, 1, id);
    rc = ld_sql_next(stmt, err);
    if (rc > 0)
        read_job(stmt, ret);
    return rc;
}

int ld_store_job_get(struct ld_store *store, const char *id, struct ld_job_record *ret,
                     struct ld_err *err)
{
    autoread read = {0};

    if (ld_read_begin(store, LD_READ_POINT, &read, err) < 0)
        return -1;
    return ld_want_row(get_job(read.db, id, ret, err), "job", id, err);
}

static int find_prefix(struct ld_db *db, const char *prefix, char **ret_id, struct ld_err *err)
{
    autosql stmt = ld_sql(
        db, "SELECT id FROM jobs WHERE id >= ?1 AND id < ?1 || 'g' ORDER BY id LIMIT 9", err);

    if (!stmt)
        return -1;
    ld_bind(stmt, 1, prefix);
    return ld_only_id(stmt, "job", prefix, ret_id, err);
}

int ld_store_job_find(struct ld_store *store, const char *text, struct ld_job_record *ret,
                      struct ld_err *err)
{
    autofree char *id = NULL;
    autoread read = {0};
    int rc = 0;

    if (ld_read_begin(store, LD_READ_POINT, &read, err) < 0)
        return -1;
    if (ld_text_is_id(text))
        rc = get_job(read.db, text, ret, err);
    else if (ld_text_is_prefix(text))
        rc = find_prefix(read.db, text, &id, err);
    if (rc > 0 && id)
        rc = get_job(read.db, id, ret, err);
    return ld_want_row(rc, "job", text, err);
}

int ld_store_job_list(struct ld_store *store, const struct ld_job_query *query,
                      struct ld_job_page *ret, struct ld_err *err)
{
    LD_AUTO(ld_job_page_done) struct ld_job_page page = {0};
    struct ld_paging paging = LD_PAGING(query->limit);
    size_t cap = 0;
    autoread read = {0};
    autosql stmt = NULL;
    int rc;

    if (ld_read_begin(store, LD_READ_LIST, &read, err) < 0)
        return -1;
    stmt = ld_sql(read.db,
                  "SELECT " COLUMNS " FROM jobs WHERE seq > ?1 AND (?2 IS NULL OR kind = ?2)"
                  " AND (?3 < 0 OR state = ?3) ORDER BY seq LIMIT ?4",
                  err);
    if (!stmt)
        return -1;
    ld_bind(stmt, 1, query->after);
    ld_bind(stmt, 2, query->kind);
    ld_bind(stmt, 3, query->state);
    ld_bind(stmt, 4, paging.max + 1);
    while ((rc = ld_page_next(stmt, &paging, &page.next, err)) > 0) {
        ld_grow(&page.item, &cap, page.n + 1, sizeof(*page.item));
        read_job(stmt, &page.item[page.n++]);
    }
    if (rc < 0)
        return -1;
    *ret = ld_steal(&page);
    return 0;
}

static int interrupt(struct ld_tx *tx, void *arg, struct ld_err *err)
{
    autosql stmt =
        ld_sql(tx->db, "UPDATE jobs SET state = ?1, finished_ns = ?2 WHERE state = 0", err);

    (void)arg;
    if (!stmt)
        return -1;
    ld_bind(stmt, 1, (int)LD_JOB_INTERRUPTED);
    ld_bind(stmt, 2, tx->now_ns);
    return ld_sql_done(stmt, err);
}

int ld_store_jobs_interrupt(struct ld_store *store, struct ld_err *err)
{
    return ld_store_write(store, &LD_WRITE_SELF, LD_SYNC_FULL, interrupt, NULL, err);
}

/* ---- idempotency keys ---- */

/* 1: the key has its object; 0: unused or forgotten; -1: error, also when another request used it.
 */
static int find_once(struct ld_db *db, const struct ld_once *once, struct ld_once_object *ret,
                     struct ld_err *err)
{
    autosql stmt = ld_sql(db,
                          "SELECT digest, kind, object_id, answer FROM once"
                          " WHERE key = ?1 AND uid = ?2 AND created_ns > ?3",
                          err);
    int rc;

    if (!stmt)
        return -1;
    ld_bind(stmt, 1, once->key);
    ld_bind(stmt, 2, once->uid);
    ld_bind(stmt, 3, ld_now_ns() - MAX_KEY_HOURS * hour_ns);
    rc = ld_sql_next(stmt, err);
    if (rc <= 0)
        return rc;
    if (strcmp(ld_col_peek(stmt, 0), once->digest) != 0)
        return ld_err_set(err, LD_E_CONFLICT,
                          "the idempotency key '%s' was used for another request", once->key);
    *ret = (struct ld_once_object){
        .kind = ld_col_text(stmt, 1), .id = ld_col_text(stmt, 2), .answer = ld_col_text(stmt, 3)};
    return 1;
}

void ld_once_object_done(struct ld_once_object *object)
{
    ld_free_p(&object->kind);
    ld_free_p(&object->id);
    ld_free_p(&object->answer);
}

int ld_store_once_find(struct ld_store *store, const struct ld_once *once,
                       struct ld_once_object *ret, struct ld_err *err)
{
    autoread read = {0};
    int rc;

    if (ld_read_begin(store, LD_READ_POINT, &read, err) < 0)
        return -1;
    rc = find_once(read.db, once, ret, err);
    if (rc == 0)
        return ld_err_missing(err, "idempotency key", once->key);
    return rc < 0 ? -1 : 0;
}

int ld_once_check(struct ld_tx *tx, struct ld_err *err)
{
    LD_AUTO(ld_once_object_done) struct ld_once_object made = {0};
    int rc = tx->w->once ? find_once(tx->db, tx->w->once, &made, err) : 0;

    if (rc > 0)
        return ld_err_taken(err, made.kind, tx->w->once->key, made.id);
    return rc;
}

int ld_once_record(struct ld_tx *tx, const char *kind, const char *id, struct ld_err *err)
{
    const struct ld_once *once = tx->w->once;
    autosql stmt = NULL;

    if (!once)
        return 0;
    stmt = ld_sql(tx->db, "INSERT OR REPLACE INTO once VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7)", err);
    if (!stmt)
        return -1;
    ld_bind(stmt, 1, once->key);
    ld_bind(stmt, 2, once->uid);
    ld_bind(stmt, 3, once->digest);
    ld_bind(stmt, 4, kind);
    ld_bind(stmt, 5, id);
    ld_bind(stmt, 6, tx->now_ns);
    ld_bind(stmt, 7, once->answer);
    return ld_sql_done(stmt, err);
}

/* ---- limits ---- */

static int trim_keys(struct ld_tx *tx, struct ld_err *err)
{
    autosql stmt = ld_sql(tx->db,
                          "DELETE FROM once WHERE created_ns <= max(?1, coalesce((SELECT created_ns"
                          " FROM once ORDER BY created_ns DESC LIMIT 1 OFFSET ?2), 0))",
                          err);

    if (!stmt)
        return -1;
    ld_bind(stmt, 1, tx->now_ns - MAX_KEY_HOURS * hour_ns);
    ld_bind(stmt, 2, MAX_KEYS);
    return ld_sql_done(stmt, err);
}

int ld_jobs_trim(struct ld_tx *tx, struct ld_err *err)
{
    autosql stmt =
        ld_sql(tx->db,
               "DELETE FROM jobs WHERE state <> 0 AND (created_ns < ?1 OR seq <="
               " coalesce((SELECT seq FROM jobs ORDER BY seq DESC LIMIT 1 OFFSET ?2), 0))",
               err);

    if (!stmt)
        return -1;
    ld_bind(stmt, 1, tx->now_ns - MAX_JOB_DAYS * 24 * hour_ns);
    ld_bind(stmt, 2, MAX_JOBS);
    if (ld_sql_done(stmt, err) < 0)
        return -1;
    return trim_keys(tx, err);
}
