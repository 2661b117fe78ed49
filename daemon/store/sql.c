/* SQLite, checked: see sql.h. Connections are opened without SQLite's own locking, since each
 * belongs to one thread at a time. What fails here and is no condition of the disk or of memory is
 * our bug. */
#include "daemon/store/sql.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/base/mem.h"
#include "daemon/store/records.h"
#include "daemon/store/store.h"

enum {
    STATEMENT_SLOTS = 256, /* a power of two, well above the number of statements in this folder */
    BUSY_TIMEOUT_MS = 5000,
    WRITER_CACHE_KIB = 1024,
    READER_CACHE_KIB = 256,
};

struct slot {
    const char *text;
    sqlite3_stmt *stmt;
};

struct ld_db {
    sqlite3 *handle;
    struct slot slots[STATEMENT_SLOTS]; /* open addressing by the address of the text */
    size_t n_slots;
};

static int last_errno(sqlite3_file *file)
{
    int errnum = 0;

    if (file && file->pMethods)
        (void)file->pMethods->xFileControl(file, SQLITE_FCNTL_LAST_ERRNO, &errnum);
    return errnum;
}

/* A read that the disk refuses is "corrupt" to SQLite (SQLITE_IOERR_CORRUPTFS, made CORRUPT before
 * anybody sees it); only its files remember why. 0: the content is what is wrong. */
static int refused_read(sqlite3 *handle)
{
    static const int files[] = {SQLITE_FCNTL_FILE_POINTER, SQLITE_FCNTL_JOURNAL_POINTER};
    int errnum = 0;

    for (size_t i = 0; handle && !errnum && i < LD_ARRAY_LEN(files); i++) {
        sqlite3_file *file = NULL;

        if (sqlite3_file_control(handle, "main", files[i], (void *)&file) == SQLITE_OK)
            errnum = last_errno(file);
    }
    return errnum;
}

int ld_db_error(sqlite3 *handle, int rc, const char *what, struct ld_err *err)
{
    const char *why = handle ? sqlite3_errmsg(handle) : sqlite3_errstr(rc);
    int errnum = handle ? sqlite3_system_errno(handle) : 0;
    enum ld_code code = LD_E_INTERNAL;

    switch (rc & 0xff) {
    case SQLITE_FULL:
        code = LD_E_NO_SPACE;
        break;
    case SQLITE_CORRUPT:
        errnum = refused_read(handle);
        code = errnum ? LD_E_IO : LD_E_CORRUPT;
        break;
    case SQLITE_NOTADB:
        code = LD_E_CORRUPT;
        break;
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
    case SQLITE_NOMEM:
        code = LD_E_UNAVAILABLE;
        break;
    case SQLITE_IOERR:
        if (rc == SQLITE_IOERR_NOMEM)
            code = LD_E_UNAVAILABLE;
        else
            code = errnum == ENOSPC || errnum == EDQUOT ? LD_E_NO_SPACE : LD_E_IO;
        break;
    case SQLITE_CANTOPEN:
    case SQLITE_READONLY:
    case SQLITE_PERM:
        code = LD_E_IO;
        break;
    default:
        break;
    }
    if (code == LD_E_IO && errnum)
        why = strerrordesc_np(errnum);
    (void)ld_err_set(err, code, "database: %s (%d): %.120s", why ? why : "unknown", rc, what);
    err->errnum = code == LD_E_IO || code == LD_E_NO_SPACE ? errnum : 0;
    return -1;
}

static int configure(sqlite3 *handle, enum ld_db_kind kind, struct ld_err *err)
{
    autofree char *cache = ld_asprintf("PRAGMA cache_size = -%d",
                                       kind == LD_DB_WRITER ? WRITER_CACHE_KIB : READER_CACHE_KIB);
    const char *const pragmas[] = {
        cache,
        "PRAGMA cell_size_check = ON",
        "PRAGMA temp_store = MEMORY",
        kind == LD_DB_WRITER ? "PRAGMA query_only = OFF" : "PRAGMA query_only = ON",
    };
    int rc = SQLITE_OK;

    (void)sqlite3_extended_result_codes(handle, 1);
    (void)sqlite3_busy_timeout(handle, BUSY_TIMEOUT_MS);
    (void)sqlite3_limit(handle, SQLITE_LIMIT_LENGTH, LD_STORE_MAX_DOC + (1 << 20));
    (void)sqlite3_limit(handle, SQLITE_LIMIT_LIKE_PATTERN_LENGTH, 512);
    (void)sqlite3_limit(handle, SQLITE_LIMIT_ATTACHED, 1); /* VACUUM INTO attaches its target */
    rc |= sqlite3_db_config(handle, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    rc |= sqlite3_db_config(handle, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
    rc |= sqlite3_db_config(handle, SQLITE_DBCONFIG_ENABLE_FKEY, 1, NULL);
    assert(rc == SQLITE_OK);
    for (size_t i = 0; i < LD_ARRAY_LEN(pragmas); i++) {
        rc = sqlite3_exec(handle, pragmas[i], NULL, NULL, NULL);
        if (rc != SQLITE_OK)
            return ld_db_error(handle, rc, pragmas[i], err);
    }
    return 0;
}

int ld_db_open(const char *path, enum ld_db_kind kind, struct ld_db **ret_db, struct ld_err *err)
{
    LD_AUTO(ld_db_close_p) struct ld_db *db = ld_new(struct ld_db);
    int rc = sqlite3_open_v2(path, &db->handle, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL);

    if (rc != SQLITE_OK)
        return ld_db_error(db->handle, rc, "open", err);
    if (configure(db->handle, kind, err) < 0)
        return -1;
    *ret_db = ld_steal(&db);
    return 0;
}

void ld_db_close(struct ld_db *db)
{
    int rc;

    if (!db)
        return;
    for (size_t i = 0; i < STATEMENT_SLOTS; i++)
        (void)sqlite3_finalize(db->slots[i].stmt); /* repeats the last step's error */
    rc = sqlite3_close(db->handle);
    assert(rc == SQLITE_OK); /* a statement outside the cache would be left */
    free(db);
}

void ld_db_close_p(struct ld_db **db)
{
    int saved = errno;

    ld_db_close(*db);
    *db = NULL;
    errno = saved;
}

sqlite3 *ld_db_handle(struct ld_db *db)
{
    return db->handle;
}

int ld_db_run(struct ld_db *db, const char *text, struct ld_err *err)
{
    int rc = sqlite3_exec(db->handle, text, NULL, NULL, NULL);

    return rc == SQLITE_OK ? 0 : ld_db_error(db->handle, rc, text, err);
}

bool ld_db_in_transaction(struct ld_db *db)
{
    return sqlite3_get_autocommit(db->handle) == 0;
}

void ld_db_undo(struct ld_db *db)
{
    /* It fails when SQLite has rolled back by itself: the same result. */
    if (ld_db_in_transaction(db))
        (void)sqlite3_exec(db->handle, "ROLLBACK", NULL, NULL, NULL);
}

/* The slot of a text, or the empty one where it belongs. */
static struct slot *find_slot(struct ld_db *db, const char *text)
{
    size_t i = ((uintptr_t)text * UINT64_C(0x9E3779B97F4A7C15)) >> 32;

    for (;; i++) {
        struct slot *slot = &db->slots[i % STATEMENT_SLOTS];

        if (!slot->text || slot->text == text)
            return slot;
    }
}

sqlite3_stmt *ld_sql(struct ld_db *db, const char *text, struct ld_err *err)
{
    struct slot *slot = find_slot(db, text);
    int rc;

    if (slot->text) {
        assert(!sqlite3_stmt_busy(slot->stmt)); /* used again inside its own loop */
        return slot->stmt;
    }
    assert(db->n_slots < STATEMENT_SLOTS * 3 / 4);
    rc = sqlite3_prepare_v3(db->handle, text, -1, SQLITE_PREPARE_PERSISTENT, &slot->stmt, NULL);
    if (rc != SQLITE_OK) {
        (void)ld_db_error(db->handle, rc, text, err);
        return NULL;
    }
    slot->text = text;
    db->n_slots++;
    return slot->stmt;
}

void ld_sql_reset_p(sqlite3_stmt **stmt)
{
    int saved = errno;

    if (*stmt) {
        (void)sqlite3_reset(*stmt); /* repeats the last step's error */
        (void)sqlite3_clear_bindings(*stmt);
    }
    *stmt = NULL;
    errno = saved;
}

void ld_bind_int(sqlite3_stmt *stmt, int i, int64_t value)
{
    int rc = sqlite3_bind_int64(stmt, i, value);

    assert(rc == SQLITE_OK);
}

void ld_bind_text(sqlite3_stmt *stmt, int i, const char *text)
{
    int rc =
        text ? sqlite3_bind_text(stmt, i, text, -1, SQLITE_STATIC) : sqlite3_bind_null(stmt, i);

    assert(rc == SQLITE_OK); /* nothing is copied; sizes were checked by the verb */
}

void ld_bind_blob(sqlite3_stmt *stmt, int i, const void *data, size_t len)
{
    int rc =
        data ? sqlite3_bind_blob64(stmt, i, data, len, SQLITE_STATIC) : sqlite3_bind_null(stmt, i);

    assert(rc == SQLITE_OK);
}

void ld_bind_id(sqlite3_stmt *stmt, int i, uint64_t value)
{
    int rc = value ? sqlite3_bind_int64(stmt, i, (int64_t)value) : sqlite3_bind_null(stmt, i);

    assert(rc == SQLITE_OK);
}

int ld_sql_next(sqlite3_stmt *stmt, struct ld_err *err)
{
    int rc = sqlite3_step(stmt);

    if (rc == SQLITE_ROW)
        return 1;
    if (rc == SQLITE_DONE)
        return 0;
    return ld_db_error(sqlite3_db_handle(stmt), rc, sqlite3_sql(stmt), err);
}

int ld_sql_done(sqlite3_stmt *stmt, struct ld_err *err)
{
    int rc;

    do {
        rc = ld_sql_next(stmt, err);
    } while (rc > 0);
    return rc;
}

int ld_sql_int(sqlite3_stmt *stmt, int64_t *ret, struct ld_err *err)
{
    int rc = ld_sql_next(stmt, err);

    if (rc <= 0)
        return rc;
    if (sqlite3_column_type(stmt, 0) == SQLITE_NULL)
        return 0;
    *ret = sqlite3_column_int64(stmt, 0);
    return 1;
}

int64_t ld_col_int(sqlite3_stmt *stmt, int i)
{
    return sqlite3_column_int64(stmt, i);
}

uint64_t ld_col_u64(sqlite3_stmt *stmt, int i)
{
    return (uint64_t)sqlite3_column_int64(stmt, i);
}

char *ld_col_text(sqlite3_stmt *stmt, int i)
{
    const unsigned char *text = sqlite3_column_text(stmt, i);

    return text ? ld_memdup(text, (size_t)sqlite3_column_bytes(stmt, i)) : NULL;
}

void *ld_col_blob(sqlite3_stmt *stmt, int i, size_t *len)
{
    const void *data = sqlite3_column_blob(stmt, i);

    *len = 0;
    if (sqlite3_column_type(stmt, i) == SQLITE_NULL)
        return NULL;
    *len = (size_t)sqlite3_column_bytes(stmt, i);
    return ld_memdup(data ? data : "", *len); /* SQLite gives NULL for an empty blob */
}

const char *ld_col_peek(sqlite3_stmt *stmt, int i)
{
    const unsigned char *text = sqlite3_column_text(stmt, i);

    return text ? (const char *)text : "";
}

size_t ld_sql_row_bytes(sqlite3_stmt *stmt)
{
    size_t sum = 0;

    for (int i = 0; i < sqlite3_column_count(stmt); i++) {
        int type = sqlite3_column_type(stmt, i);

        if (type == SQLITE_TEXT || type == SQLITE_BLOB)
            sum += (size_t)sqlite3_column_bytes(stmt, i);
    }
    return sum;
}

/* Length of the UTF-8 sequence at s, 0 if it is none (overlong, surrogate, out of range, cut). */
static size_t utf8_len(const unsigned char *s)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    size_t n = s[0] < 0x80 ? 1 : (s[0] & 0xe0) == 0xc0 ? 2 : (s[0] & 0xf0) == 0xe0 ? 3 : 4;
    uint32_t c;

    if (n == 1)
        return 1;
    if (s[0] < 0xc0 || s[0] > 0xf4)
        return 0;
    c = s[0] & (0x7fu >> n);
    for (size_t i = 1; i < n; i++) {
        if ((s[i] & 0xc0) != 0x80)
            return 0;
        c = c << 6 | (s[i] & 0x3f);
    }
    if (c < least[n] || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff))
        return 0;
    return n;
}

void ld_json_add(struct ld_buf *buf, const char *text)
{
    const unsigned char *s = (const unsigned char *)text;

    if (!text) {
        ld_buf_adds(buf, "null");
        return;
    }
    ld_buf_addc(buf, '"');
    while (*s) {
        size_t n = utf8_len(s);

        if (n == 0)
            ld_buf_adds(buf, "\xef\xbf\xbd");
        else if (*s == '"' || *s == '\\')
            ld_buf_addf(buf, "\\%c", *s);
        else if (*s < 0x20)
            ld_buf_addf(buf, "\\u%04x", *s);
        else
            ld_buf_add(buf, s, n);
        s += n ? n : 1;
    }
    ld_buf_addc(buf, '"');
}
