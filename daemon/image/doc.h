/* JSON documents out of archives: parsed whole, within bounds, and read with types checked.
 *
 * Stricter than cJSON, since what two readers understand differently is an attack: nothing after
 * the value, no duplicate names in an object, valid UTF-8, no NUL in strings, depth and number of
 * values bounded before anything is allocated. Names are compared with case.
 *
 * No state, no blocking, any thread. Every failure is LD_E_BAD_CONTENT and begins with the
 * document's name.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/base/cleanup.h"

struct cJSON;
struct ld_err;

enum {
    LD_DOC_MAX_DEPTH = 32,
    LD_DOC_MAX_VALUES = 100000, /* about 10 MB of cJSON nodes */
};

/* The document must be an object or an array. `what` names it in errors ("manifest.json", a
 * digest). */
int ld_doc_parse(const char *text, size_t len, const char *what, struct cJSON **ret,
                 struct ld_err *err) ld_must_check;
void ld_doc_free_p(struct cJSON **json);

/* Members of an object. A missing member and `null` are the same: the result is NULL (0 for
 * numbers, an empty list), and failure only when `required`. Results are borrowed from the
 * document. */
struct ld_doc_reader {
    const char *what; /* names the document */
    struct ld_err *err;
};

int ld_doc_object(const struct ld_doc_reader *r, const struct cJSON *from, const char *name,
                  bool required, const struct cJSON **ret) ld_must_check;
int ld_doc_array(const struct ld_doc_reader *r, const struct cJSON *from, const char *name,
                 bool required, const struct cJSON **ret) ld_must_check;
int ld_doc_string(const struct ld_doc_reader *r, const struct cJSON *from, const char *name,
                  bool required, const char **ret) ld_must_check;
int ld_doc_bool(const struct ld_doc_reader *r, const struct cJSON *from, const char *name,
                bool *ret) ld_must_check;
/* A whole number from 0 to 2^53, where doubles are still exact. */
int ld_doc_u64(const struct ld_doc_reader *r, const struct cJSON *from, const char *name,
               bool required, uint64_t *ret) ld_must_check;
/* An array of strings as a NULL-terminated array of copies; NULL when missing. Free with
 * ld_strv_free_p. */
int ld_doc_strings(const struct ld_doc_reader *r, const struct cJSON *from, const char *name,
                   char ***ret) ld_must_check;
/* The member names of an object, sorted by bytes, in the same form. */
int ld_doc_keys(const struct ld_doc_reader *r, const struct cJSON *from, const char *name,
                char ***ret) ld_must_check;

void ld_strv_free_p(char ***strv);
size_t ld_strv_len(char *const *strv); /* NULL: 0 */
