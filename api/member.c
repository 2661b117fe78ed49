/* Members of JSON objects, types checked: see request.h. No state, any thread. */
#include <stdio.h>
#include <string.h>

#include <cjson/cJSON.h>

#include "api/request.h"
#include "daemon/base/buf.h"

static const uint64_t max_exact = UINT64_C(1) << 53; /* doubles are exact up to here */

struct path_text {
    char text[160];
};

/* "'mounts[0].source'" for messages. */
static struct path_text name_of(const char *where, const char *name)
{
    struct path_text path;

    (void)snprintf(path.text, sizeof(path.text), "'%.100s%s%.50s'", where, *where ? "." : "", name);
    return path;
}

static bool is_listed(const char *list, const char *name)
{
    size_t len = strlen(name);

    while (*list) {
        const char *end = strchrnul(list, ' ');

        if ((size_t)(end - list) == len && memcmp(list, name, len) == 0)
            return true;
        list = *end ? end + 1 : end;
    }
    return false;
}

int ld_members_only(const struct cJSON *object, const char *where, const char *allowed,
                    struct ld_err *err)
{
    autobuf struct ld_buf unknown = LD_BUF_INIT(400);
    const struct cJSON *member;

    cJSON_ArrayForEach (member, object) {
        if (!is_listed(allowed, member->string))
            ld_buf_addf(&unknown, "%s%s", unknown.len ? ", " : "",
                        name_of(where, member->string).text);
    }
    if (unknown.len == 0 && !unknown.full)
        return 0;
    (void)ld_err_set(err, LD_E_INVALID, "unknown member %s", ld_buf_str(&unknown));
    return ld_err_hint(err, "known here: %s", allowed);
}

/* NULL: absent, or null. */
static const struct cJSON *get(const struct cJSON *object, const char *name)
{
    const struct cJSON *member = cJSON_GetObjectItemCaseSensitive(object, name);

    return cJSON_IsNull(member) ? NULL : member;
}

static int wrong_type(const char *where, const char *name, const char *wanted, struct ld_err *err)
{
    return ld_err_set(err, LD_E_INVALID, "%s must be %s", name_of(where, name).text, wanted);
}

int ld_member_string(const struct cJSON *object, const char *where, const char *name,
                     const char **ret, struct ld_err *err)
{
    const struct cJSON *member = get(object, name);

    if (!member)
        return 0;
    if (!cJSON_IsString(member))
        return wrong_type(where, name, "a string", err);
    *ret = member->valuestring;
    return 0;
}

int ld_member_bool(const struct cJSON *object, const char *where, const char *name, bool *ret,
                   struct ld_err *err)
{
    const struct cJSON *member = get(object, name);

    if (!member)
        return 0;
    if (!cJSON_IsBool(member))
        return wrong_type(where, name, "true or false", err);
    *ret = cJSON_IsTrue(member);
    return 0;
}

int ld_member_u64(const struct cJSON *object, const char *where, const char *name, uint64_t *ret,
                  struct ld_err *err)
{
    const struct cJSON *member = get(object, name);
    double value;

    if (!member)
        return 0;
    value = cJSON_IsNumber(member) ? member->valuedouble : -1;
    if (!(value >= 0 && value <= (double)max_exact) || value != (double)(uint64_t)value)
        return wrong_type(where, name, "a whole number from 0 to 2^53", err);
    *ret = (uint64_t)value;
    return 0;
}

int ld_member_object(const struct cJSON *object, const char *where, const char *name,
                     const struct cJSON **ret, struct ld_err *err)
{
    const struct cJSON *member = get(object, name);

    if (!member)
        return 0;
    if (!cJSON_IsObject(member))
        return wrong_type(where, name, "an object", err);
    *ret = member;
    return 0;
}

int ld_member_array(const struct cJSON *object, const char *where, const char *name,
                    const struct cJSON **ret, struct ld_err *err)
{
    const struct cJSON *member = get(object, name);

    if (!member)
        return 0;
    if (!cJSON_IsArray(member))
        return wrong_type(where, name, "an array", err);
    *ret = member;
    return 0;
}
