/* Values that many replies share, as JSON. All results are the caller's. Any thread. */
#pragma once

#include <stdint.h>
#include <sys/stat.h>
#include <time.h>

struct cJSON;
struct ld_usage;
struct ld_users;

struct cJSON *ld_json_time(int64_t ns);                   /* RFC 3339 in UTC; null for 0 */
struct cJSON *ld_json_timespec(const struct timespec *t); /* 0 is 1970, not null */
struct cJSON *ld_json_text(const char *text);             /* null for NULL */
struct cJSON *ld_json_u64(uint64_t value);                /* exact, also above 2^53 */
struct cJSON *ld_json_raw(const char *json, const char *otherwise); /* stored JSON, or a constant */
struct cJSON *ld_json_usage(const struct ld_usage *usage);
struct cJSON *ld_json_users(const struct ld_users *users);
/* Adds NAME with the bytes as text, and NAME_b64 when they are not UTF-8. */
void ld_json_add_bytes(struct cJSON *object, const char *name, const char *bytes);
const char *ld_json_file_type(mode_t mode); /* "file", "directory", … */

/* The labels of a body as canonical JSON text ("{}" when absent): at most 64, key and value
 * together at most 4 KiB. Free it. `object` is the body or a part of it; invalid. */
struct ld_err;
int ld_json_labels(const struct cJSON *object, char **ret, struct ld_err *err);

/* A limit of a body, 0 when it is absent or null. invalid: no number, or less than anything can be
 * made with. */
int ld_json_size_limit(const struct cJSON *body, uint64_t *ret, struct ld_err *err);
int ld_json_inode_limit(const struct cJSON *body, uint64_t *ret, struct ld_err *err);
struct cJSON *ld_json_limit(uint64_t limit); /* null for none */

/* RFC 7396 on stored labels: null removes. `patch` is an object or null; invalid. Free *ret. */
int ld_json_merge_labels(const char *stored, const struct cJSON *patch, char **ret,
                         struct ld_err *err);

/* The digest of a body in its canonical form: members sorted, nulls and false left out. 72 bytes.
 */
void ld_json_digest(const struct cJSON *object, char text[72]);
