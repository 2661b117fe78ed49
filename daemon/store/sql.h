/* SQLite for the files of this folder: connections with their statements, bound and stepped with
 * checks.
 *
 * A connection and its statements belong to one thread at a time. A statement is compiled once per
 * connection and found again by the address of its text, so the text is always a literal. It is
 * reset at the end of the scope that uses it (`autosql`): none stays open between calls.
 */
#pragma once

#include <sqlite3.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/base/buf.h"
#include "daemon/base/err.h"

struct ld_db;

/* Opens `path` (an existing file). Writers may change it; readers refuse to. Codes: corrupt, io. */
enum ld_db_kind { LD_DB_WRITER, LD_DB_READER };
int ld_db_open(const char *path, enum ld_db_kind kind, struct ld_db **ret_db, struct ld_err *err);
void ld_db_close(struct ld_db *db); /* finalizes its statements; NULL is fine */
void ld_db_close_p(struct ld_db **db);
sqlite3 *ld_db_handle(struct ld_db *db);

/* Runs fixed text: PRAGMA, BEGIN, several statements. */
int ld_db_run(struct ld_db *db, const char *text, struct ld_err *err) ld_must_check;
bool ld_db_in_transaction(struct ld_db *db);
void ld_db_undo(struct ld_db *db); /* rolls back what is open, after a failure that is reported */

/* Fills err from SQLite's result: full: no_space; corrupt, notadb: corrupt; busy, nomem:
 * unavailable; ioerr: io; everything else is our bug: internal. Returns -1. */
int ld_db_error(sqlite3 *handle, int rc, const char *what, struct ld_err *err);

/* The statement of a literal, ready to bind; NULL with err. */
sqlite3_stmt *ld_sql(struct ld_db *db, const char *text, struct ld_err *err) ld_must_check;
void ld_sql_reset_p(sqlite3_stmt **stmt);
#define autosql LD_AUTO(ld_sql_reset_p) sqlite3_stmt *

/* Values are borrowed until the reset; NULL binds NULL. */
void ld_bind_int(sqlite3_stmt *stmt, int i, int64_t value);
void ld_bind_text(sqlite3_stmt *stmt, int i, const char *text);
void ld_bind_blob(sqlite3_stmt *stmt, int i, const void *data, size_t len);
/* 0 is "none" in the records and NULL in the database. */
void ld_bind_id(sqlite3_stmt *stmt, int i, uint64_t value);
#define ld_bind(stmt, i, value)                                                                    \
    _Generic((value), char *: ld_bind_text, const char *: ld_bind_text, default: ld_bind_int)(     \
        stmt, i, value)

int ld_sql_next(sqlite3_stmt *stmt, struct ld_err *err) ld_must_check; /* 1: a row, 0: none, -1 */
int ld_sql_done(sqlite3_stmt *stmt, struct ld_err *err) ld_must_check; /* runs to the end: 0, -1 */
/* The first column of the only row: 1, 0: no row (or NULL; *ret is left alone), -1. */
int ld_sql_int(sqlite3_stmt *stmt, int64_t *ret, struct ld_err *err) ld_must_check;

int64_t ld_col_int(sqlite3_stmt *stmt, int i);
uint64_t ld_col_u64(sqlite3_stmt *stmt, int i);
char *ld_col_text(sqlite3_stmt *stmt, int i);              /* a copy, or NULL */
void *ld_col_blob(sqlite3_stmt *stmt, int i, size_t *len); /* a copy with a NUL behind, or NULL */
const char *ld_col_peek(sqlite3_stmt *stmt, int i); /* borrowed until the next step, "" for NULL */
size_t ld_sql_row_bytes(sqlite3_stmt *stmt);        /* text and blobs of the current row */

/* `text` as a JSON string with its quotes; NULL as null. Bytes that are not UTF-8 become U+FFFD. */
void ld_json_add(struct ld_buf *buf, const char *text);
