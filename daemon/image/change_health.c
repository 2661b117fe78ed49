/* HEALTHCHECK lines: see change_impl.h. */
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include <cjson/cJSON.h>

#include "daemon/base/err.h"
#include "daemon/base/mem.h"
#include "daemon/base/parse.h"
#include "daemon/image/change_impl.h"

static const struct unit {
    const char *name;
    uint64_t ns;
} units[] = {
    {"ns", 1},         {"us", 1000},       {"µs", 1000},         {"ms", 1000000},
    {"s", 1000000000}, {"m", 60000000000}, {"h", 3600000000000},
};

static const uint64_t max_ns = INT64_MAX;

static const struct unit *find_unit(const char *text, size_t len)
{
    for (size_t i = 0; i < LD_ARRAY_LEN(units); i++) {
        if (strlen(units[i].name) == len && memcmp(units[i].name, text, len) == 0)
            return &units[i];
    }
    return NULL;
}

/* One number of "1m30.5s" with its unit; *at goes behind it. */
static int read_part(const char **at, uint64_t *sum)
{
    static const char digits[] = "0123456789";
    size_t whole = strspn(*at, digits), point = (*at)[whole] == '.';
    size_t fraction = point ? strspn(*at + whole + 1, digits) : 0;
    const char *name = *at + whole + point + fraction;
    size_t len = strcspn(name, "0123456789.");
    const struct unit *unit = find_unit(name, len);
    uint64_t part = 0, scale = unit ? unit->ns : 0;
    autofree char *number = ld_strndup(*at, whole);

    if (!unit || whole + fraction == 0 || (whole && ld_parse_u64(number, 0, max_ns, &part) < 0) ||
        __builtin_mul_overflow(part, unit->ns, &part) || __builtin_add_overflow(*sum, part, sum))
        return -1;
    for (size_t i = 0; i < fraction; i++) {
        scale /= 10;
        *sum += scale * (uint64_t)((*at)[whole + 1 + i] - '0'); /* less than one unit in all */
    }
    *at = name + len;
    return *sum > max_ns ? -1 : 0;
}

/* Go's durations without a sign: "30s", "1m30s", "1.5h", "0". */
static int read_duration(const char *text, uint64_t *ret)
{
    uint64_t sum = 0;

    if (strcmp(text, "0") == 0) {
        *ret = 0;
        return 0;
    }
    do {
        if (read_part(&text, &sum) < 0)
            return -1;
    } while (*text);
    *ret = sum;
    return 0;
}

static void put_number(cJSON *object, const char *name, uint64_t value)
{
    char text[24];

    (void)snprintf(text, sizeof(text), "%" PRIu64, value); /* 20 digits at most */
    ld_change_put(object, name, cJSON_CreateRaw(text));    /* exact, whatever a double holds */
}

static const struct option {
    const char *flag, *member;
    bool is_count;
} options[] = {
    {"--interval=", "Interval", false},        {"--timeout=", "Timeout", false},
    {"--start-period=", "StartPeriod", false}, {"--start-interval=", "StartInterval", false},
    {"--retries=", "Retries", true},
};

static int read_option(cJSON *check, const char *word, struct ld_err *err)
{
    enum { LEAST_NS = 1000000 };

    for (size_t i = 0; i < LD_ARRAY_LEN(options); i++) {
        const struct option *o = &options[i];
        const char *value = word + strlen(o->flag);
        uint64_t number;

        if (strncmp(word, o->flag, strlen(o->flag)) != 0)
            continue;
        if (o->is_count ? ld_parse_u64(value, 0, INT32_MAX, &number) < 0
                        : read_duration(value, &number) < 0 || (number && number < LEAST_NS))
            return ld_err_set(err, LD_E_INVALID,
                              o->is_count ? "'%.100s' is not a whole number"
                                          : "'%.100s' is not a duration of 1ms or more, like 1m30s",
                              word);
        if (number)
            put_number(check, o->member, number);
        return 0;
    }
    return ld_err_set(err, LD_E_INVALID, "'%.100s' is not an option of HEALTHCHECK", word);
}

/* Behind the options: "CMD …" or "NONE". */
static int read_test(struct ld_changes *c, cJSON *check, const char *text, bool has_options,
                     struct ld_err *err)
{
    size_t len = strcspn(text, " \t");
    const char *rest = text + len + strspn(text + len, " \t");
    cJSON *test = NULL, *command = NULL;
    bool is_json = false;

    if (len == 4 && strncasecmp(text, "NONE", 4) == 0 && !*rest && !has_options) {
        test = cJSON_CreateArray();
        cJSON_AddItemToArray(test, cJSON_CreateString("NONE"));
        ld_change_put(check, "Test", test);
        return 0;
    }
    if (len != 3 || strncasecmp(text, "CMD", 3) != 0 || !*rest)
        return ld_err_set(err, LD_E_INVALID, "it wants CMD and a command, or NONE");
    if (ld_change_command(c->run, rest, &command, &is_json, err) < 0)
        return -1;
    if (is_json && cJSON_GetArraySize(command) == 0) {
        cJSON_Delete(command);
        return ld_err_set(err, LD_E_INVALID, "its command is empty");
    }
    if (is_json) {
        test = command;
        cJSON_InsertItemInArray(test, 0, cJSON_CreateString("CMD"));
    } else {
        cJSON_Delete(command); /* whoever runs it knows the shell */
        test = cJSON_CreateArray();
        cJSON_AddItemToArray(test, cJSON_CreateString("CMD-SHELL"));
        cJSON_AddItemToArray(test, cJSON_CreateString(rest));
    }
    ld_change_put(check, "Test", test);
    return 0;
}

int ld_change_healthcheck(struct ld_changes *c, const char *text, struct ld_err *err)
{
    cJSON *check = cJSON_CreateObject();
    bool has_options = false;
    int rc = 0;

    while (rc == 0 && strncmp(text, "--", 2) == 0) {
        size_t len = strcspn(text, " \t");
        autofree char *word = ld_strndup(text, len);

        rc = read_option(check, word, err);
        text += len + strspn(text + len, " \t");
        has_options = true;
    }
    if (rc == 0)
        rc = read_test(c, check, text, has_options, err);
    if (rc < 0) {
        cJSON_Delete(check);
        return -1;
    }
    ld_change_put(c->run, "Healthcheck", check);
    return 0;
}
