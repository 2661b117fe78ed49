/* Shared JSON values: see json.h. */
#include "api/json.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cjson/cJSON.h>
#include <openssl/evp.h>

#include "api/reply.h"
#include "api/request.h"
#include "daemon/base/buf.h"
#include "daemon/base/digest.h"
#include "daemon/base/fdio.h"
#include "daemon/base/mem.h"
#include "daemon/image/ref.h"
#include "daemon/store/records.h"

enum { MAX_LABELS = 64, MAX_LABEL_KEY = 256, MAX_LABEL = 4096 };

struct cJSON *ld_json_timespec(const struct timespec *t)
{
    struct tm tm;
    char text[80];

    if (!gmtime_r(&t->tv_sec, &tm))
        return cJSON_CreateNull();
    (void)snprintf(text, sizeof(text), "%04d-%02d-%02dT%02d:%02d:%02d.%09ldZ", tm.tm_year + 1900,
                   tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec, t->tv_nsec);
    return cJSON_CreateString(text);
}

struct cJSON *ld_json_time(int64_t ns)
{
    struct timespec t = {.tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000};

    return ns > 0 ? ld_json_timespec(&t) : cJSON_CreateNull();
}

struct cJSON *ld_json_text(const char *text)
{
    return text ? ld_bytes_json(text, NULL) : cJSON_CreateNull();
}

struct cJSON *ld_json_u64(uint64_t value)
{
    char text[24];

    (void)snprintf(text, sizeof(text), "%" PRIu64, value);
    return cJSON_CreateRaw(text);
}

struct cJSON *ld_json_raw(const char *json, const char *otherwise)
{
    return cJSON_CreateRaw(json && *json ? json : otherwise);
}

struct cJSON *ld_json_usage(const struct ld_usage *usage)
{
    cJSON *json = cJSON_CreateObject();

    cJSON_AddItemToObject(json, "bytes", ld_json_u64(usage->bytes));
    cJSON_AddItemToObject(json, "inodes", ld_json_u64(usage->inodes));
    return json;
}

/* Images are shown by their short names. */
static cJSON *user_name(const struct ld_user *user)
{
    struct ld_reference ref;
    struct ld_err ignored = LD_ERR_INIT;
    char text[LD_REFERENCE_TEXT];

    if (!user->name || strcmp(user->kind, "image") != 0 ||
        ld_reference_parse(user->name, &ref, &ignored) < 0)
        return ld_json_text(user->name);
    ld_reference_familiar(&ref, text);
    return cJSON_CreateString(text);
}

struct cJSON *ld_json_users(const struct ld_users *users)
{
    cJSON *list = cJSON_CreateArray();

    for (size_t i = 0; i < users->n; i++) {
        cJSON *item = cJSON_CreateObject();

        cJSON_AddStringToObject(item, "kind", users->item[i].kind);
        cJSON_AddStringToObject(item, "id", users->item[i].id);
        cJSON_AddItemToObject(item, "name", user_name(&users->item[i]));
        cJSON_AddItemToArray(list, item);
    }
    return list;
}

void ld_json_add_bytes(struct cJSON *object, const char *name, const char *bytes)
{
    bool exact;
    size_t len = strlen(bytes);

    cJSON_AddItemToObject(object, name, ld_bytes_json(bytes, &exact));
    if (!exact) {
        autofree char *key = ld_asprintf("%s_b64", name);
        autofree char *b64 = ld_alloc0(len / 3 * 4 + 8);

        (void)EVP_EncodeBlock((unsigned char *)b64, (const unsigned char *)bytes, (int)len);
        cJSON_AddStringToObject(object, key, b64);
    }
}

const char *ld_json_file_type(mode_t mode)
{
    switch (mode & S_IFMT) {
    case S_IFDIR:
        return "directory";
    case S_IFLNK:
        return "symlink";
    case S_IFCHR:
        return "char_device";
    case S_IFBLK:
        return "block_device";
    case S_IFIFO:
        return "fifo";
    case S_IFSOCK:
        return "socket";
    default:
        return "file";
    }
}

static int by_name(const void *a, const void *b)
{
    return strcmp((*(cJSON *const *)a)->string, (*(cJSON *const *)b)->string);
}

/* Members in byte order; null, false and what is empty mean the same as absence and are left out.
 * Not deeper than 32: that is checked of every body. */
/* NOLINTNEXTLINE(misc-no-recursion): so the stack is bounded, too. */
static cJSON *canonical(const cJSON *from)
{
    cJSON *to;
    const cJSON *item;
    size_t n = 0;

    if (cJSON_IsArray(from)) {
        to = cJSON_CreateArray();
        cJSON_ArrayForEach (item, from)
            cJSON_AddItemToArray(to, canonical(item));
        return to;
    }
    if (!cJSON_IsObject(from))
        return cJSON_Duplicate(from, true);
    to = cJSON_CreateObject();
    autofree const cJSON **sorted =
        ld_alloc0(((size_t)cJSON_GetArraySize(from) + 1) * sizeof(*sorted));
    cJSON_ArrayForEach (item, from)
        sorted[n++] = item;
    qsort(sorted, n, sizeof(*sorted), by_name);
    for (size_t i = 0; i < n; i++) {
        const cJSON *value = sorted[i];
        bool is_empty = (cJSON_IsArray(value) || cJSON_IsObject(value)) && !value->child;

        if (!cJSON_IsNull(value) && !cJSON_IsFalse(value) && !is_empty)
            cJSON_AddItemToObject(to, value->string, canonical(value));
    }
    return to;
}

void ld_json_digest(const struct cJSON *object, char text[72])
{
    cJSON *form = canonical(object);
    autofree char *printed = cJSON_PrintUnformatted(form);
    struct ld_digest digest = ld_digest_of(printed, printed ? strlen(printed) : 0);

    cJSON_Delete(form);
    ld_digest_format(&digest, text);
}

static int check_label(const cJSON *label, struct ld_err *err)
{
    size_t key = strlen(label->string);

    if (!cJSON_IsString(label))
        return ld_err_set(err, LD_E_INVALID, "the label '%s' is not a string", label->string);
    if (key < 1 || key > MAX_LABEL_KEY)
        return ld_err_set(err, LD_E_INVALID, "the key of a label has %zu bytes, not 1 to %d", key,
                          MAX_LABEL_KEY);
    if (key + strlen(label->valuestring) > MAX_LABEL) {
        (void)ld_err_set(err, LD_E_INVALID, "the label '%s' is larger than %d bytes", label->string,
                         MAX_LABEL);
        return ld_err_details(err, "{\"limit\":\"label_bytes\",\"value\":4096}");
    }
    return 0;
}

int ld_json_labels(const struct cJSON *object, char **ret, struct ld_err *err)
{
    const cJSON *labels = NULL, *label;
    cJSON *sorted;

    if (ld_member_object(object, "", "labels", &labels, err) < 0)
        return -1;
    if (!labels) {
        *ret = ld_strdup("{}");
        return 0;
    }
    if (cJSON_GetArraySize(labels) > MAX_LABELS) {
        (void)ld_err_set(err, LD_E_INVALID, "%d labels are more than %d",
                         cJSON_GetArraySize(labels), MAX_LABELS);
        return ld_err_details(err, "{\"limit\":\"labels\",\"value\":64}");
    }
    cJSON_ArrayForEach (label, labels) {
        if (check_label(label, err) < 0)
            return -1;
    }
    sorted = canonical(labels);
    *ret = cJSON_PrintUnformatted(sorted);
    cJSON_Delete(sorted);
    return *ret ? 0 : ld_err_set(err, LD_E_UNAVAILABLE, "no memory for the labels");
}

/* What the directories of an empty layer take stays below. */
enum { MIN_SIZE = 64 << 10, MIN_INODES = 16 };

static int read_limit(const cJSON *body, const char *name, uint64_t min, uint64_t *ret,
                      struct ld_err *err)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(body, name);

    *ret = 0;
    if (!item || cJSON_IsNull(item))
        return 0;
    if (ld_member_u64(body, "", name, ret, err) < 0)
        return -1;
    if (*ret < min)
        return ld_err_set(err, LD_E_INVALID, "'%s' is less than %llu", name,
                          (unsigned long long)min);
    return 0;
}

int ld_json_size_limit(const cJSON *body, uint64_t *ret, struct ld_err *err)
{
    return read_limit(body, "size_limit", MIN_SIZE, ret, err);
}

int ld_json_inode_limit(const cJSON *body, uint64_t *ret, struct ld_err *err)
{
    return read_limit(body, "inode_limit", MIN_INODES, ret, err);
}

cJSON *ld_json_limit(uint64_t limit)
{
    return limit ? ld_json_u64(limit) : cJSON_CreateNull();
}

int ld_json_merge_labels(const char *stored, const cJSON *patch, char **ret, struct ld_err *err)
{
    cJSON *body = cJSON_CreateObject();
    cJSON *labels = cJSON_IsNull(patch) ? cJSON_CreateObject() : cJSON_Parse(stored);
    const cJSON *item;
    int rc;

    cJSON_ArrayForEach (item, patch) {
        cJSON_DeleteItemFromObjectCaseSensitive(labels, item->string);
        if (!cJSON_IsNull(item))
            cJSON_AddItemToObject(labels, item->string, cJSON_Duplicate(item, true));
    }
    cJSON_AddItemToObject(body, "labels", labels);
    rc = ld_json_labels(body, ret, err);
    cJSON_Delete(body);
    return rc;
}
