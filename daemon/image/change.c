/* Dockerfile lines onto a run configuration: see change.h. What Docker's parser and dispatchers do
 * is the model, where that is not said otherwise. */
#include "daemon/image/change.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include <cjson/cJSON.h>

#include "daemon/base/buf.h"
#include "daemon/base/err.h"
#include "daemon/base/mem.h"
#include "daemon/base/parse.h"
#include "daemon/image/change_impl.h"
#include "daemon/image/doc.h"
#include "daemon/image/words.h"

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

/* ---- the config object ---- */

/* The member as an object or array of that kind: another one, or none, is replaced by an empty one.
 */
static cJSON *member(cJSON *run, const char *name, bool is_array)
{
    cJSON *item = cJSON_GetObjectItemCaseSensitive(run, name);

    if (item && (is_array ? cJSON_IsArray(item) : cJSON_IsObject(item)))
        return item;
    cJSON_DeleteItemFromObjectCaseSensitive(run, name);
    return is_array ? cJSON_AddArrayToObject(run, name) : cJSON_AddObjectToObject(run, name);
}

void ld_change_put(cJSON *object, const char *name, cJSON *value)
{
    if (!cJSON_ReplaceItemInObjectCaseSensitive(object, name, value))
        cJSON_AddItemToObject(object, name, value);
}

/* The value of KEY in an array of KEY=VALUE, and where it stands. */
static const char *find_env(const cJSON *env, const char *key, size_t len, int *ret_at)
{
    const cJSON *item;
    int at = 0;

    cJSON_ArrayForEach (item, env) {
        const char *text = cJSON_GetStringValue(item);

        if (text && strncmp(text, key, len) == 0 && text[len] == '=') {
            *ret_at = at;
            return text + len + 1;
        }
        at++;
    }
    return NULL;
}

void ld_change_set_env(cJSON *run, const char *pair)
{
    cJSON *env = member(run, "Env", true);
    int at;

    if (find_env(env, pair, strcspn(pair, "="), &at))
        cJSON_ReplaceItemInArray(env, at, cJSON_CreateString(pair));
    else
        cJSON_AddItemToArray(env, cJSON_CreateString(pair));
}

static const char *get_variable(void *arg, const char *name, size_t len)
{
    const cJSON *run = arg;
    int at;

    return find_env(cJSON_GetObjectItemCaseSensitive(run, "Env"), name, len, &at);
}

int ld_change_expand(cJSON *run, const char *word, char **ret, struct ld_err *err)
{
    return ld_words_expand(word, get_variable, run, ret, err);
}

/* ---- the forms of arguments ---- */

/* A JSON array of strings, or NULL when the text is none (then it is in shell form). invalid: an
 * array with something else in it. */
static int read_json_form(const char *text, cJSON **ret, struct ld_err *err)
{
    struct ld_err why = LD_ERR_INIT;
    cJSON *list = NULL;
    const cJSON *item;

    *ret = NULL;
    if (*text != '[' || ld_doc_parse(text, strlen(text), "it", &list, &why) < 0)
        return 0;
    cJSON_ArrayForEach (item, list) {
        if (cJSON_IsString(item))
            continue;
        cJSON_Delete(list);
        return ld_err_set(err, LD_E_INVALID, "its JSON form is an array of strings");
    }
    *ret = list;
    return 0;
}

cJSON *ld_change_shell(const cJSON *run, const char *text)
{
    const cJSON *shell = cJSON_GetObjectItemCaseSensitive(run, "Shell");
    cJSON *list;

    if (cJSON_IsArray(shell) && cJSON_GetArraySize(shell) > 0) {
        list = cJSON_Duplicate(shell, true);
    } else {
        list = cJSON_CreateArray();
        cJSON_AddItemToArray(list, cJSON_CreateString("/bin/sh"));
        cJSON_AddItemToArray(list, cJSON_CreateString("-c"));
    }
    cJSON_AddItemToArray(list, cJSON_CreateString(text));
    return list;
}

int ld_change_command(const cJSON *run, const char *text, cJSON **ret, bool *ret_is_json,
                      struct ld_err *err)
{
    if (read_json_form(text, ret, err) < 0)
        return -1;
    *ret_is_json = *ret != NULL;
    if (!*ret)
        *ret = ld_change_shell(run, text);
    return 0;
}

/* ---- the instructions ---- */

static int apply_cmd(struct ld_changes *c, const char *text, struct ld_err *err)
{
    cJSON *list = NULL;
    bool is_json;

    if (ld_change_command(c->run, text, &list, &is_json, err) < 0)
        return -1;
    c->cmd_is_set = cJSON_GetArraySize(list) > 0;
    ld_change_put(c->run, "Cmd", list);
    return 0;
}

static int apply_entrypoint(struct ld_changes *c, const char *text, struct ld_err *err)
{
    cJSON *list = NULL;
    bool is_json;

    if (ld_change_command(c->run, text, &list, &is_json, err) < 0)
        return -1;
    ld_change_put(c->run, "Entrypoint", list);
    if (!c->cmd_is_set)
        cJSON_DeleteItemFromObjectCaseSensitive(c->run, "Cmd");
    return 0;
}

typedef void (*pair_fn)(cJSON *run, const char *key, const char *value);

static void set_env(cJSON *run, const char *key, const char *value)
{
    autofree char *pair = ld_asprintf("%s=%s", key, value);

    ld_change_set_env(run, pair);
}

static void set_label(cJSON *run, const char *key, const char *value)
{
    ld_change_put(member(run, "Labels", false), key, cJSON_CreateString(value));
}

/* Values are expanded with what was there before the line. */
static int apply_pair(cJSON *run, const cJSON *before, const char *key, const char *value,
                      pair_fn set, struct ld_err *err)
{
    autofree char *k = NULL, *v = NULL;

    if (ld_words_expand(key, get_variable, (cJSON *)before, &k, err) < 0 ||
        ld_words_expand(value, get_variable, (cJSON *)before, &v, err) < 0)
        return -1;
    if (!*k || strchr(k, '='))
        return ld_err_set(err, LD_E_INVALID, "its names can't be empty or have a '='");
    set(run, k, v);
    return 0;
}

/* NAME=VALUE ..., or the old form NAME VALUE, whose value is all the rest. */
static int apply_pairs(struct ld_changes *c, const char *text, pair_fn set, struct ld_err *err)
{
    LD_AUTO(ld_strv_free_p) char **words = ld_words_split(text);
    LD_AUTO(ld_doc_free_p) cJSON *before = cJSON_Duplicate(c->run, true);

    if (words[0] && !strchr(words[0], '=')) {
        const char *value = text + strlen(words[0]);

        value += strspn(value, " \t");
        if (!*value)
            return ld_err_set(err, LD_E_INVALID, "it wants NAME=VALUE");
        return apply_pair(c->run, before, words[0], value, set, err);
    }
    for (char **w = words; *w; w++) {
        char *equals = strchr(*w, '=');

        if (!equals)
            return ld_err_set(err, LD_E_INVALID, "'%.100s' is not NAME=VALUE", *w);
        *equals = '\0';
        if (apply_pair(c->run, before, *w, equals + 1, set, err) < 0)
            return -1;
    }
    return 0;
}

static int apply_env(struct ld_changes *c, const char *text, struct ld_err *err)
{
    return apply_pairs(c, text, set_env, err);
}

static int apply_label(struct ld_changes *c, const char *text, struct ld_err *err)
{
    return apply_pairs(c, text, set_label, err);
}

/* "80", "8000-8010", each with "/tcp", "/udp", "/sctp" or nothing. */
static int add_ports(cJSON *ports, char *text, struct ld_err *err)
{
    static const char *const protocols[] = {"tcp", "udp", "sctp"};
    char *slash = strchr(text, '/'), *dash;
    const char *protocol = NULL;
    int first, last;

    for (size_t i = 0; i < LD_ARRAY_LEN(protocols); i++) {
        if (strcasecmp(slash ? slash + 1 : "tcp", protocols[i]) == 0)
            protocol = protocols[i];
    }
    if (slash)
        *slash = '\0';
    dash = strchr(text, '-');
    if (dash)
        *dash = '\0';
    if (!protocol || ld_parse_int(text, 1, 65535, &first) < 0 ||
        ld_parse_int(dash ? dash + 1 : text, first, 65535, &last) < 0)
        return ld_err_set(err, LD_E_INVALID,
                          "it wants ports: 80, 8000-8010, with /tcp, /udp or /sctp");
    for (int port = first; port <= last; port++) {
        char name[24];

        (void)snprintf(name, sizeof(name), "%d/%s", port, protocol); /* 10 at most */
        ld_change_put(ports, name, cJSON_CreateObject());
    }
    return 0;
}

static int apply_expose(struct ld_changes *c, const char *text, struct ld_err *err)
{
    autofree char *expanded = NULL;
    LD_AUTO(ld_strv_free_p) char **words = NULL;

    if (ld_change_expand(c->run, text, &expanded, err) < 0)
        return -1;
    words = ld_words_split(expanded);
    for (char **w = words; *w; w++) {
        if (add_ports(member(c->run, "ExposedPorts", false), *w, err) < 0)
            return -1;
    }
    return 0;
}

/* One that expands to nothing is as wrong as one that is missing. */
static int expand_whole(struct ld_changes *c, const char *text, char **ret, struct ld_err *err)
{
    autofree char *value = NULL;

    if (ld_change_expand(c->run, text, &value, err) < 0)
        return -1;
    if (!*value)
        return ld_err_set(err, LD_E_INVALID, "its argument comes to nothing");
    *ret = ld_steal(&value);
    return 0;
}

static int apply_user(struct ld_changes *c, const char *text, struct ld_err *err)
{
    autofree char *value = NULL;

    if (expand_whole(c, text, &value, err) < 0)
        return -1;
    ld_change_put(c->run, "User", cJSON_CreateString(value));
    return 0;
}

/* A container's mounts want absolute targets; Docker takes any text and fails when it runs one. */
static int add_volume(struct ld_changes *c, const char *word, struct ld_err *err)
{
    autofree char *value = NULL;

    if (expand_whole(c, word, &value, err) < 0)
        return -1;
    if (*value != '/')
        return ld_err_set(err, LD_E_INVALID, "'%.100s' is not an absolute path", value);
    ld_change_put(member(c->run, "Volumes", false), value, cJSON_CreateObject());
    return 0;
}

static int apply_volume(struct ld_changes *c, const char *text, struct ld_err *err)
{
    LD_AUTO(ld_doc_free_p) cJSON *list = NULL;
    LD_AUTO(ld_strv_free_p) char **words = NULL;
    const cJSON *item;

    if (read_json_form(text, &list, err) < 0)
        return -1;
    if (list && cJSON_GetArraySize(list) == 0)
        return ld_err_set(err, LD_E_INVALID, "it names no path");
    cJSON_ArrayForEach (item, list) {
        if (add_volume(c, item->valuestring, err) < 0)
            return -1;
    }
    words = list ? NULL : ld_words_split(text);
    for (char **w = words; w && *w; w++) {
        if (add_volume(c, *w, err) < 0)
            return -1;
    }
    return 0;
}

/* As text: "/a/./b/../c" is "/a/c". */
static char *clean_path(const char *path)
{
    autobuf struct ld_buf out = LD_BUF_INIT(2 * LD_WORDS_MAX + 2);

    while (*path) {
        size_t len = strcspn(path, "/");

        if (len == 2 && strncmp(path, "..", 2) == 0) {
            while (out.len > 0 && out.data[--out.len] != '/')
                continue;
            if (out.data)
                out.data[out.len] = '\0';
        } else if (len > 0 && !(len == 1 && *path == '.')) {
            ld_buf_addc(&out, '/');
            ld_buf_add(&out, path, len);
        }
        path += len + (path[len] == '/');
    }
    return out.len ? ld_buf_take(&out) : ld_strdup("/");
}

static int apply_workdir(struct ld_changes *c, const char *text, struct ld_err *err)
{
    const char *now = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(c->run, "WorkingDir"));
    autofree char *value = NULL, *whole = NULL, *clean = NULL;

    if (expand_whole(c, text, &value, err) < 0)
        return -1;
    whole = *value == '/' ? ld_strdup(value) : ld_asprintf("%s/%s", now ? now : "", value);
    if (strlen(whole) > LD_WORDS_MAX)
        return ld_err_set(err, LD_E_INVALID, "the path becomes too long");
    clean = clean_path(whole);
    ld_change_put(c->run, "WorkingDir", cJSON_CreateString(clean));
    return 0;
}

static bool is_signal(const char *text)
{
    const char *name = strncasecmp(text, "SIG", 3) == 0 ? text + 3 : text;
    int number;

    if (ld_parse_int(text, 1, 64, &number) == 0)
        return true;
    for (int i = 1; i < 32; i++) {
        const char *known = sigabbrev_np(i);

        if (known && strcasecmp(known, name) == 0)
            return true;
    }
    if (strncasecmp(name, "RTMIN", 5) != 0 && strncasecmp(name, "RTMAX", 5) != 0)
        return false;
    return !name[5] ||
           ((name[5] == '+' || name[5] == '-') && ld_parse_int(name + 6, 0, 30, &number) == 0);
}

static int apply_stopsignal(struct ld_changes *c, const char *text, struct ld_err *err)
{
    autofree char *value = NULL;

    if (expand_whole(c, text, &value, err) < 0)
        return -1;
    if (!is_signal(value))
        return ld_err_set(err, LD_E_INVALID, "'%.100s' is not a signal", value);
    ld_change_put(c->run, "StopSignal", cJSON_CreateString(value));
    return 0;
}

static int apply_onbuild(struct ld_changes *c, const char *text, struct ld_err *err)
{
    static const char *const refused[] = {"ONBUILD", "FROM", "MAINTAINER"};
    size_t len = strcspn(text, " \t");

    for (size_t i = 0; i < LD_ARRAY_LEN(refused); i++) {
        if (strlen(refused[i]) == len && strncasecmp(text, refused[i], len) == 0)
            return ld_err_set(err, LD_E_INVALID, "%s can't be a trigger", refused[i]);
    }
    cJSON_AddItemToArray(member(c->run, "OnBuild", true), cJSON_CreateString(text));
    return 0;
}

/* ---- one line ---- */

static const struct instruction {
    const char *name;
    int (*apply)(struct ld_changes *c, const char *text, struct ld_err *err);
} instructions[] = {
    {"CMD", apply_cmd},         {"ENTRYPOINT", apply_entrypoint},
    {"ENV", apply_env},         {"EXPOSE", apply_expose},
    {"LABEL", apply_label},     {"HEALTHCHECK", ld_change_healthcheck},
    {"ONBUILD", apply_onbuild}, {"STOPSIGNAL", apply_stopsignal},
    {"USER", apply_user},       {"VOLUME", apply_volume},
    {"WORKDIR", apply_workdir},
};

static const struct instruction *find_instruction(const char *text, size_t len)
{
    for (size_t i = 0; i < LD_ARRAY_LEN(instructions); i++) {
        if (strlen(instructions[i].name) == len &&
            strncasecmp(text, instructions[i].name, len) == 0)
            return &instructions[i];
    }
    return NULL;
}

static int apply_line(struct ld_changes *c, char *text, struct ld_err *err)
{
    size_t len = strcspn(text, " \t"), end = strlen(text);
    const struct instruction *instruction = find_instruction(text, len);
    const char *rest = text + len + strspn(text + len, " \t");

    if (strpbrk(text, "\n\r"))
        return ld_err_set(err, LD_E_INVALID, "it is more than one line");
    if (!instruction) {
        (void)ld_err_set(err, LD_E_INVALID, "'%.*s' is not an instruction that can be committed",
                         len < 50 ? (int)len : 50, text);
        return ld_err_hint(err, "known here: CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL, "
                                "ONBUILD, STOPSIGNAL, USER, VOLUME, WORKDIR");
    }
    while (end > 0 && is_blank(text[end - 1]))
        text[--end] = '\0';
    if (!*rest)
        return ld_err_set(err, LD_E_INVALID, "%s wants an argument", instruction->name);
    return instruction->apply(c, rest, err);
}

int ld_change_apply(struct ld_changes *c, const char *line, struct ld_err *err)
{
    autofree char *text = ld_strdup(line + strspn(line, " \t"));

    if (apply_line(c, text, err) == 0)
        return 0;
    return ld_err_prefix(err, "change '%.200s'", line);
}

int ld_change_check(const char *line, struct ld_err *err)
{
    LD_AUTO(ld_doc_free_p) cJSON *run = cJSON_CreateObject();
    struct ld_changes changes = {.run = run};
    struct ld_err why = LD_ERR_INIT;

    /* What a variable comes to is known only with the image. */
    if (ld_change_apply(&changes, line, &why) == 0 || strchr(line, '$'))
        return 0;
    *err = why;
    return -1;
}
