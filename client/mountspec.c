/* Mount options of `layerctl create`: see mountspec.h. */
#include "client/mountspec.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "client/args.h"
#include "daemon/base/buf.h"
#include "daemon/base/err.h"
#include "daemon/base/mem.h"
#include "daemon/base/parse.h"

struct spec {
    char *type, *source, *target, *subpath;
    bool read_only;
    uint64_t size;
};

static void spec_done(struct spec *spec)
{
    ld_free_p(&spec->type);
    ld_free_p(&spec->source);
    ld_free_p(&spec->target);
    ld_free_p(&spec->subpath);
}

static void replace(char **slot, const char *text)
{
    ld_free_p(slot);
    *slot = ld_strdup(text);
}

static int add(const struct spec *spec, const char *text, cJSON *mounts, struct ld_err *err)
{
    cJSON *mount;

    if (!spec->target || spec->target[0] != '/')
        return ld_err_set(err, LD_E_INVALID, "'%s': the target has to be an absolute path", text);
    mount = cJSON_CreateObject();
    (void)cJSON_AddStringToObject(mount, "type", spec->type);
    if (spec->source)
        (void)cJSON_AddStringToObject(mount, "source", spec->source);
    (void)cJSON_AddStringToObject(mount, "target", spec->target);
    if (spec->subpath)
        (void)cJSON_AddStringToObject(mount, "subpath", spec->subpath);
    if (spec->read_only)
        (void)cJSON_AddTrueToObject(mount, "read_only");
    if (spec->size)
        (void)cJSON_AddNumberToObject(mount, "size", (double)spec->size);
    (void)cJSON_AddItemToArray(mounts, mount);
    return 0;
}

/* The daemon has another working directory, so that paths are made absolute here. */
static int set_source(struct spec *spec, const char *source, struct ld_err *err)
{
    char *path;

    if (source[0] != '.') {
        replace(&spec->source, source);
        return 0;
    }
    path = realpath(source, NULL);
    if (!path)
        return ld_err_sys(err, -errno, "mount source '%s'", source);
    ld_free_p(&spec->source);
    spec->source = path;
    return 0;
}

int ld_mount_from_volume(const char *text, cJSON *mounts, struct ld_err *err)
{
    LD_AUTO(spec_done) struct spec spec = {0};
    autofree char *copy = ld_strdup(text);
    char *first = copy, *second = strchr(copy, ':'), *third = NULL;

    if (second)
        *second++ = '\0';
    if (second && (third = strchr(second, ':')))
        *third++ = '\0';
    if (third && strcmp(third, "ro") == 0)
        spec.read_only = true;
    else if (third && strcmp(third, "rw") != 0)
        return ld_err_set(err, LD_E_INVALID, "'%s': '%s' is neither ro nor rw", text, third);
    if (!*first || (second && !*second)) {
        (void)ld_err_set(err, LD_E_INVALID, "'%s' names no volume or no target", text);
        return ld_err_hint(err, "-v NAME:/TARGET, -v /PATH:/TARGET[:ro], or -v /TARGET");
    }
    if (second && set_source(&spec, first, err) < 0)
        return -1;
    replace(&spec.type, spec.source && spec.source[0] == '/' ? "bind" : "volume");
    replace(&spec.target, second ? second : first);
    return add(&spec, text, mounts, err);
}

static int set_key(struct spec *spec, const char *key, const char *value, struct ld_err *err)
{
    if (strcmp(key, "type") == 0) {
        if (!value || (strcmp(value, "volume") != 0 && strcmp(value, "bind") != 0 &&
                       strcmp(value, "tmpfs") != 0))
            return ld_err_set(err, LD_E_INVALID, "a mount's type is volume, bind or tmpfs");
        replace(&spec->type, value);
        return 0;
    }
    if (strcmp(key, "readonly") == 0 || strcmp(key, "read_only") == 0 || strcmp(key, "ro") == 0) {
        if (!value)
            spec->read_only = true;
        else if (ld_parse_bool(value, &spec->read_only) < 0)
            return ld_err_set(err, LD_E_INVALID, "'%s=%s': neither true nor false", key, value);
        return 0;
    }
    if (!value || !*value)
        return ld_err_set(err, LD_E_INVALID, "'%s' of a mount needs a value", key);
    if (strcmp(key, "source") == 0 || strcmp(key, "src") == 0)
        return set_source(spec, value, err);
    if (strcmp(key, "target") == 0 || strcmp(key, "dst") == 0 || strcmp(key, "destination") == 0) {
        replace(&spec->target, value);
        return 0;
    }
    if (strcmp(key, "subpath") == 0 || strcmp(key, "volume-subpath") == 0) {
        replace(&spec->subpath, value);
        return 0;
    }
    if (strcmp(key, "size") == 0 || strcmp(key, "tmpfs-size") == 0) {
        if (ld_parse_size(value, &spec->size) < 0 || spec->size == 0)
            return ld_err_set(err, LD_E_INVALID, "'%s=%s' is no size", key, value);
        return 0;
    }
    (void)ld_err_set(err, LD_E_INVALID, "a mount has no '%s'", key);
    return ld_err_hint(err, "type, source, target, readonly, subpath and, for tmpfs, size");
}

/* "key=value,key,…"; a comma cannot be part of a value. */
static int set_keys(struct spec *spec, char *list, struct ld_err *err)
{
    char *rest = NULL;

    for (char *word = strtok_r(list, ",", &rest); word; word = strtok_r(NULL, ",", &rest)) {
        char *value = strchr(word, '=');

        if (value)
            *value++ = '\0';
        if (set_key(spec, word, value, err) < 0)
            return -1;
    }
    return 0;
}

int ld_mount_from_long(const char *text, cJSON *mounts, struct ld_err *err)
{
    LD_AUTO(spec_done) struct spec spec = {0};
    autofree char *copy = ld_strdup(text);

    if (set_keys(&spec, copy, err) < 0)
        return ld_err_prefix(err, "--mount '%s'", text);
    if (!spec.type)
        replace(&spec.type, "volume");
    return add(&spec, text, mounts, err);
}

int ld_mount_from_tmpfs(const char *text, cJSON *mounts, struct ld_err *err)
{
    LD_AUTO(spec_done) struct spec spec = {.type = ld_strdup("tmpfs")};
    autofree char *copy = ld_strdup(text);
    char *options = strchr(copy, ':');

    if (options)
        *options++ = '\0';
    replace(&spec.target, copy);
    if (options && set_keys(&spec, options, err) < 0)
        return ld_err_prefix(err, "--tmpfs '%s'", text);
    return add(&spec, text, mounts, err);
}

int ld_mounts_from_args(const struct ld_args *args, cJSON *body, struct ld_err *err)
{
    static const struct {
        const char *option;
        int (*add)(const char *text, cJSON *mounts, struct ld_err *err);
    } kinds[] = {
        {"volume", ld_mount_from_volume},
        {"mount", ld_mount_from_long},
        {"tmpfs", ld_mount_from_tmpfs},
    };
    cJSON *mounts = cJSON_CreateArray();
    const char *text;

    for (size_t k = 0; k < LD_ARRAY_LEN(kinds); k++) {
        for (size_t i = 0; (text = ld_args_nth(args, kinds[k].option, i)); i++) {
            if (kinds[k].add(text, mounts, err) < 0) {
                cJSON_Delete(mounts);
                return -1;
            }
        }
    }
    if (cJSON_GetArraySize(mounts) > 0)
        (void)cJSON_AddItemToObject(body, "mounts", mounts);
    else
        cJSON_Delete(mounts);
    return 0;
}
