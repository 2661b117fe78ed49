/* Events: appended inside the transaction of what they tell, kept in a ring, listed by id.
 *
 * Ids come from a block that is durable before or with the first event that uses it (writer.c), so
 * a client that has seen an id never sees it again on another event. What the ring drops is
 * remembered by `meta.events_dropped`, so that a client which comes back too late is told.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/base/log.h"
#include "daemon/base/mem.h"
#include "daemon/store/internal.h"

enum {
    MAX_AGE_DAYS = 30,
    TRIM_ROWS = 5000,  /* at once: the writer's queue waits meanwhile */
    SCAN_ROWS = 10000, /* looked at for one page of a filtered list */
};

int ld_tx_note(struct ld_tx *tx, const struct ld_note *note, struct ld_err *err)
{
    autosql stmt = ld_sql(tx->db, "INSERT INTO events VALUES(?1,?2,?3,?4,?5,?6,?7,?8,?9,?10)", err);

    if (!stmt)
        return -1;
    ld_bind(stmt, 1, tx->store->event_next);
    ld_bind(stmt, 2, tx->now_ns);
    ld_bind(stmt, 3, note->type);
    ld_bind(stmt, 4, note->kind);
    ld_bind(stmt, 5, note->id);
    ld_bind(stmt, 6, note->name);
    ld_bind(stmt, 7, tx->w->uid);
    ld_bind(stmt, 8, tx->w->pid);
    ld_bind(stmt, 9, tx->w->request_id);
    ld_bind(stmt, 10, note->attributes);
    tx->store->event_next++;
    return ld_sql_done(stmt, err);
}

static int add_note(struct ld_tx *tx, void *arg, struct ld_err *err)
{
    return ld_tx_note(tx, arg, err);
}

int ld_store_event_add(struct ld_store *store, const struct ld_write *w, const struct ld_note *note,
                       struct ld_err *err)
{
    struct ld_note copy = *note;

    return ld_store_write(store, w, LD_SYNC_FULL, add_note, &copy, err);
}

/* ---- posted events ---- */

struct posted {
    struct ld_event event;
};

static int add_posted(struct ld_tx *tx, void *arg, struct ld_err *err)
{
    const struct ld_event *event = &((struct posted *)arg)->event;
    struct ld_write w = {.uid = event->uid, .pid = event->pid, .request_id = event->request_id};
    struct ld_tx as_poster = *tx;

    as_poster.w = &w;
    as_poster.now_ns = event->time_ns; /* when it happened, not when the batch runs */
    return ld_tx_note(&as_poster,
                      &(struct ld_note){.type = event->type,
                                        .kind = event->kind,
                                        .id = event->object_id,
                                        .name = event->object_name,
                                        .attributes = event->attributes},
                      err);
}

static void posted_done(struct ld_store *store, void *take_arg, int rc, struct ld_err *err)
{
    struct posted *posted = take_arg;

    (void)store;
    if (rc < 0)
        ld_warn("event %s of %s '%s' is lost: %s", posted->event.type, posted->event.kind,
                posted->event.object_id ? posted->event.object_id : "", err->message);
    ld_event_done(&posted->event);
    free(posted);
}

static char *dup_or_null(const char *text)
{
    return text ? ld_strdup(text) : NULL;
}

void ld_store_event_post(struct ld_store *store, const struct ld_write *w,
                         const struct ld_note *note)
{
    struct posted *posted = ld_new(struct posted);

    assert(!store->is_loop || !store->is_loop());
    posted->event = (struct ld_event){
        .time_ns = ld_now_ns(),
        .type = ld_strdup(note->type),
        .kind = ld_strdup(note->kind),
        .object_id = dup_or_null(note->id),
        .object_name = dup_or_null(note->name),
        .uid = w->uid,
        .pid = w->pid,
        .request_id = dup_or_null(w->request_id),
        .attributes = dup_or_null(note->attributes),
    };
    (void)pthread_mutex_lock(&store->lock);
    while (store->n_queued > LD_QUEUE_MAX)
        (void)pthread_cond_wait(&store->room, &store->lock);
    (void)pthread_mutex_unlock(&store->lock);
    ld_store_write_later(store, LD_SYNC_LAZY, add_posted, posted, posted_done);
}

/* ---- the ring ---- */

/* The highest id that has to go: by number or by age, TRIM_ROWS rows at most; 0: none. */
static int trim_limit(struct ld_tx *tx, int64_t *ret_last, struct ld_err *err)
{
    autosql stmt =
        ld_sql(tx->db,
               "SELECT max(id) FROM (SELECT id FROM events WHERE id <= max("
               "  coalesce((SELECT id FROM events ORDER BY id DESC LIMIT 1 OFFSET ?1), 0),"
               "  coalesce((SELECT id FROM events WHERE time_ns >= ?2 ORDER BY id LIMIT 1) - 1,"
               "           (SELECT max(id) FROM events), 0)) ORDER BY id LIMIT ?3)",
               err);
    int64_t oldest = tx->now_ns - MAX_AGE_DAYS * INT64_C(86400000000000);

    if (!stmt)
        return -1;
    ld_bind(stmt, 1, tx->store->max_events);
    ld_bind(stmt, 2, oldest);
    ld_bind(stmt, 3, TRIM_ROWS);
    return ld_sql_int(stmt, ret_last, err) < 0 ? -1 : 0;
}

int ld_events_trim(struct ld_tx *tx, struct ld_err *err)
{
    int64_t last = 0;
    autosql mark = NULL;
    autosql drop = NULL;

    if (trim_limit(tx, &last, err) < 0)
        return -1;
    if (last == 0)
        return 0;
    mark = ld_sql(tx->db, "INSERT OR REPLACE INTO meta VALUES('events_dropped', ?1)", err);
    if (!mark)
        return -1;
    ld_bind(mark, 1, last);
    if (ld_sql_done(mark, err) < 0)
        return -1;
    drop = ld_sql(tx->db, "DELETE FROM events WHERE id <= ?1", err);
    if (!drop)
        return -1;
    ld_bind(drop, 1, last);
    return ld_sql_done(drop, err);
}

/* ---- lists ---- */

static void read_event(sqlite3_stmt *stmt, struct ld_event *event)
{
    *event = (struct ld_event){
        .id = ld_col_u64(stmt, 0),
        .time_ns = ld_col_int(stmt, 1),
        .type = ld_col_text(stmt, 2),
        .kind = ld_col_text(stmt, 3),
        .object_id = ld_col_text(stmt, 4),
        .object_name = ld_col_text(stmt, 5),
        .uid = ld_col_int(stmt, 6),
        .pid = ld_col_int(stmt, 7),
        .request_id = ld_col_text(stmt, 8),
        .attributes = ld_col_text(stmt, 9),
    };
}

static int find_gap(struct ld_db *db, uint64_t after, struct ld_event_page *page,
                    struct ld_err *err)
{
    autosql stmt = ld_sql(db, "SELECT value FROM meta WHERE key = 'events_dropped'", err);
    int64_t dropped = 0;

    if (!stmt || ld_sql_int(stmt, &dropped, err) < 0)
        return -1;
    if (after != 0 && after < (uint64_t)dropped) {
        page->gap_from = after + 1;
        page->gap_to = (uint64_t)dropped;
    }
    return 0;
}

static int read_events(struct ld_db *db, const struct ld_event_query *query,
                       struct ld_event_page *page, struct ld_err *err)
{
    /* Rows that do not match are looked at here too: they bound the work and move `next` on. */
    autosql stmt = ld_sql(
        db,
        "SELECT id, time_ns, type, kind, object_id, object_name, uid, pid, request_id, attributes,"
        " (?2 IS NULL OR type GLOB ?2) AND (?3 IS NULL OR kind = ?3)"
        " AND (?4 IS NULL OR object_id = ?4 OR object_name = ?4"
        "      OR (kind = 'image' AND object_name = ?7))"
        " AND (?5 = 0 OR time_ns >= ?5) AND (?6 = 0 OR time_ns < ?6)"
        " FROM events WHERE id > ?1 ORDER BY id",
        err);
    size_t limit = ld_page_limit(query->limit), cap = 0, bytes = 0;
    int rc;

    if (!stmt)
        return -1;
    ld_bind(stmt, 1, query->after);
    ld_bind(stmt, 2, query->type_glob);
    ld_bind(stmt, 3, query->kind);
    ld_bind(stmt, 4, query->object);
    ld_bind(stmt, 5, query->since_ns);
    ld_bind(stmt, 6, query->until_ns);
    ld_bind(stmt, 7, query->ref);
    page->next = query->after;
    for (size_t scanned = 0; (rc = ld_sql_next(stmt, err)) > 0; scanned++) {
        if (page->n >= limit || scanned >= SCAN_ROWS || bytes > LD_PAGE_BYTES) {
            page->more = true;
            return 0;
        }
        page->next = ld_col_u64(stmt, 0);
        if (!ld_col_int(stmt, 10))
            continue;
        ld_grow(&page->item, &cap, page->n + 1, sizeof(*page->item));
        read_event(stmt, &page->item[page->n++]);
        bytes += ld_sql_row_bytes(stmt);
    }
    return rc;
}

int ld_store_event_list(struct ld_store *store, const struct ld_event_query *query,
                        struct ld_event_page *ret, struct ld_err *err)
{
    LD_AUTO(ld_event_page_done) struct ld_event_page page = {0};
    autoread read = {0};

    if (ld_read_begin(store, LD_READ_LIST, &read, err) < 0 ||
        find_gap(read.db, query->after, &page, err) < 0 ||
        read_events(read.db, query, &page, err) < 0)
        return -1;
    *ret = ld_steal(&page);
    return 0;
}
