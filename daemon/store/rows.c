/* What the tables' files do alike: they find one row or a page of rows, set a column, name who uses
 * something, and say that something is missing or taken. */
#include <string.h>

#include "daemon/base/mem.h"
#include "daemon/store/internal.h"

enum { ID_LEN = 64, PREFIX_MIN = 4 };

/* ---- one row ---- */

static size_t hex_len(const char *text)
{
    size_t n = strspn(text, "0123456789abcdef");

    return text[n] == '\0' ? n : 0;
}

bool ld_text_is_id(const char *text)
{
    return hex_len(text) == ID_LEN;
}

bool ld_text_is_prefix(const char *text)
{
    size_t n = hex_len(text);

    return n >= PREFIX_MIN && n < ID_LEN;
}

/* {"candidates":[…]} of a statement (id). */
static int ambiguous(sqlite3_stmt *stmt, const char *kind, const char *prefix, struct ld_err *err)
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
    (void)ld_err_set(err, LD_E_CONFLICT, "%s '%s' is ambiguous: %zu%s ids begin with it", kind,
                     prefix, n, rc > 0 ? " or more" : "");
    (void)ld_err_hint(err, "give more digits of the id");
    return ld_err_details(err, ld_buf_str(&buf));
}

int ld_only_id(sqlite3_stmt *stmt, const char *kind, const char *prefix, char **ret_id,
               struct ld_err *err)
{
    autofree char *id = NULL;
    int rc = ld_sql_next(stmt, err);

    if (rc <= 0)
        return rc;
    id = ld_col_text(stmt, 0);
    rc = ld_sql_next(stmt, err);
    if (rc < 0)
        return -1;
    if (rc > 0) {
        (void)sqlite3_reset(stmt); /* from the first one again */
        return ambiguous(stmt, kind, prefix, err);
    }
    *ret_id = ld_steal(&id);
    return 1;
}

int ld_want_row(int rc, const char *kind, const char *text, struct ld_err *err)
{
    if (rc == 0)
        return ld_err_missing(err, kind, text);
    return rc < 0 ? -1 : 0;
}

/* ---- pages ---- */

size_t ld_page_limit(size_t limit)
{
    return limit == 0 || limit > LD_STORE_PAGE_MAX ? LD_STORE_PAGE_MAX : limit;
}

int ld_page_next(sqlite3_stmt *stmt, struct ld_paging *p, uint64_t *ret_next, struct ld_err *err)
{
    int rc = ld_sql_next(stmt, err);

    if (rc <= 0)
        return rc;
    if (p->n == p->max || p->bytes > LD_PAGE_BYTES) {
        *ret_next = p->last;
        return 0;
    }
    p->n++;
    p->last = ld_col_u64(stmt, 0);
    p->bytes += ld_sql_row_bytes(stmt);
    return 1;
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

/* ---- one column ---- */

static int set_text(struct ld_tx *tx, void *arg, struct ld_err *err)
{
    const struct ld_set *set = arg;
    autosql stmt = ld_sql(tx->db, set->sql, err);

    if (!stmt)
        return -1;
    ld_bind(stmt, 1, set->id);
    ld_bind(stmt, 2, set->text);
    if (ld_sql_done(stmt, err) < 0)
        return -1;
    if (sqlite3_changes(ld_db_handle(tx->db)) == 0)
        return ld_err_missing(err, set->kind, set->id);
    if (!set->event)
        return 0;
    return ld_tx_note(tx, &(struct ld_note){.type = set->event, .kind = set->kind, .id = set->id},
                      err);
}

int ld_store_set(struct ld_store *store, const struct ld_write *w, enum ld_sync sync,
                 const struct ld_set *set, struct ld_err *err)
{
    struct ld_set copy = *set; /* borrows the strings for the call */

    return ld_store_write(store, w, sync, set_text, &copy, err);
}

/* ---- users ---- */

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
