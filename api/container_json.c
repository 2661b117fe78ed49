/* Containers as JSON: see container_json.h. */
#include "api/container_json.h"

#include <stdlib.h>
#include <string.h>

#include <cjson/cJSON.h>

#include "api/json.h"
#include "api/request.h"
#include "daemon/base/fdio.h"
#include "daemon/base/mem.h"
#include "daemon/core/core.h"
#include "daemon/core/image.h"
#include "daemon/store/store.h"

const char *ld_container_state_name(const struct ld_container_state *s)
{
    if (s->damage)
        return "damaged";
    switch (s->mount) {
    case LD_MOUNTED:
        return "mounted";
    case LD_HELD:
        return "busy";
    case LD_UNMOUNTED:
        break;
    }
    return "created";
}

bool ld_container_state_is_known(const char *name)
{
    static const char *const names[] = {"created", "mounted", "busy", "damaged"};

    for (size_t i = 0; i < LD_ARRAY_LEN(names); i++) {
        if (strcmp(name, names[i]) == 0)
            return true;
    }
    return false;
}

struct cJSON *ld_container_summary_json(const struct ld_container_state *s)
{
    const struct ld_container *c = &s->record;
    cJSON *json = cJSON_CreateObject();
    cJSON *image = cJSON_AddObjectToObject(json, "image");
    autofree char *ref = c->image_ref ? ld_image_short_ref(c->image_ref) : NULL;
    const char *reason = s->damage;

    if (!reason && s->mount == LD_HELD)
        reason = "a process in another mount namespace holds an earlier mount";
    cJSON_AddStringToObject(json, "id", c->id);
    cJSON_AddItemToObject(json, "name", ld_json_text(c->name));
    cJSON_AddItemToObject(image, "id", ld_json_text(c->image_id));
    cJSON_AddItemToObject(image, "ref", ld_json_text(ref));
    cJSON_AddStringToObject(json, "state", ld_container_state_name(s));
    cJSON_AddItemToObject(json, "reason", ld_json_text(reason));
    cJSON_AddItemToObject(json, "mountpoint", ld_json_text(s->mountpoint));
    cJSON_AddItemToObject(json, "target", ld_json_text(s->target));
    cJSON_AddItemToObject(json, "bundle", ld_json_text(s->bundle));
    cJSON_AddStringToObject(json, "driver", c->driver);
    cJSON_AddBoolToObject(json, "read_only", c->read_only);
    cJSON_AddBoolToObject(json, "ephemeral", c->ephemeral);
    cJSON_AddBoolToObject(json, "auto_remove", c->auto_remove);
    cJSON_AddItemToObject(json, "size_limit", ld_json_limit(c->limits.bytes));
    cJSON_AddItemToObject(json, "inode_limit", ld_json_limit(c->limits.inodes));
    cJSON_AddItemToObject(json, "backing", ld_json_text(ld_backing_name(c->backing)));
    cJSON_AddItemToObject(json, "labels", ld_json_raw(c->labels, "{}"));
    cJSON_AddItemToObject(json, "created_at", ld_json_time(c->created_ns));
    cJSON_AddItemToObject(json, "version", ld_json_u64(c->version));
    return json;
}

static cJSON *mount_json(const struct ld_mount_spec *m)
{
    cJSON *json = cJSON_CreateObject();

    cJSON_AddStringToObject(json, "type", ld_mount_type_name(m->type));
    cJSON_AddItemToObject(json, "source", ld_json_text(m->source));
    cJSON_AddItemToObject(json, "volume_id", ld_json_text(m->volume_id));
    cJSON_AddItemToObject(json, "target", ld_json_text(m->target));
    cJSON_AddBoolToObject(json, "read_only", m->read_only);
    cJSON_AddItemToObject(json, "size", m->size ? ld_json_u64(m->size) : cJSON_CreateNull());
    if (m->subpath)
        cJSON_AddItemToObject(json, "subpath", ld_json_text(m->subpath));
    return json;
}

/* What it stands on: the image's layers by their chain IDs; how many layers there are in all, those
 * of its snapshots included; and the snapshot that is the topmost. */
static void add_ground(struct ld_core *core, const struct ld_container *c, cJSON *json)
{
    struct ld_chain_sids *chain = ld_new(struct ld_chain_sids);
    cJSON *list = cJSON_AddArrayToObject(json, "chain");
    struct ld_err ignored = LD_ERR_INIT;
    autofree char *parent = NULL;
    uint64_t n_snapshots = 0;

    if (ld_store_chain(ld_core_store(core), c->parent_sid, chain, &ignored) < 0)
        chain->n = 0; /* the container shows as damaged */
    for (size_t i = 0; i < chain->n; i++) {
        struct ld_layer layer LD_AUTO(ld_layer_done) = {.sid = 0};

        if (ld_store_layer_get(ld_core_store(core), chain->sid[i], &layer, &ignored) == 0 &&
            layer.chain_id)
            cJSON_AddItemToArray(list, cJSON_CreateString(layer.chain_id));
    }
    (void)ld_store_snapshot_summary(ld_core_store(core), c->id, &n_snapshots, &parent, &ignored);
    cJSON_AddItemToObject(json, "layers", ld_json_u64(chain->n));
    cJSON_AddItemToObject(json, "snapshots", ld_json_u64(n_snapshots));
    cJSON_AddItemToObject(json, "parent", ld_json_text(parent));
    free(chain);
}

struct cJSON *ld_container_json(struct ld_core *core, const struct ld_container_state *s,
                                const struct ld_usage *usage)
{
    cJSON *json = ld_container_summary_json(s);
    cJSON *mounts = cJSON_AddArrayToObject(json, "mounts");

    for (size_t i = 0; i < s->record.n_mounts; i++)
        cJSON_AddItemToArray(mounts, mount_json(&s->record.mounts[i]));
    cJSON_AddItemToObject(json, "config", ld_json_raw(s->record.config, "null"));
    add_ground(core, &s->record, json);
    if (usage)
        cJSON_AddItemToObject(json, "size", ld_json_usage(usage));
    return json;
}

/* ---- the body of a create ---- */

static int read_type(const char *text, const char *where, enum ld_mount_type *ret,
                     struct ld_err *err)
{
    static const enum ld_mount_type types[] = {LD_MOUNT_VOLUME, LD_MOUNT_BIND, LD_MOUNT_TMPFS};

    for (size_t i = 0; text && i < LD_ARRAY_LEN(types); i++) {
        if (strcmp(text, ld_mount_type_name(types[i])) == 0) {
            *ret = types[i];
            return 0;
        }
    }
    return ld_err_set(err, LD_E_INVALID, "%s: 'type' is not volume, bind or tmpfs", where);
}

static int read_mount(const cJSON *json, size_t index, struct ld_mount_spec *m, struct ld_err *err)
{
    autofree char *where = ld_asprintf("mounts[%zu]", index);
    const char *type = NULL, *source = NULL, *target = NULL, *subpath = NULL;

    if (!cJSON_IsObject(json))
        return ld_err_set(err, LD_E_INVALID, "%s is not an object", where);
    if (ld_members_only(json, where, "type source target read_only size subpath", err) < 0 ||
        ld_member_string(json, where, "type", &type, err) < 0 ||
        ld_member_string(json, where, "source", &source, err) < 0 ||
        ld_member_string(json, where, "target", &target, err) < 0 ||
        ld_member_string(json, where, "subpath", &subpath, err) < 0 ||
        ld_member_bool(json, where, "read_only", &m->read_only, err) < 0 ||
        ld_member_u64(json, where, "size", &m->size, err) < 0 ||
        read_type(type, where, &m->type, err) < 0)
        return -1;
    if (!target)
        return ld_err_set(err, LD_E_INVALID, "%s: 'target' is missing", where);
    if (m->type != LD_MOUNT_TMPFS && cJSON_GetObjectItemCaseSensitive(json, "size"))
        return ld_err_set(err, LD_E_INVALID, "%s: only a tmpfs has a size", where);
    if (subpath && m->type == LD_MOUNT_TMPFS)
        return ld_err_set(err, LD_E_INVALID, "%s: a tmpfs has no subpath", where);
    if (strlen(target) > 4095 || (source && (strlen(source) > 4095 || !*source)) ||
        (subpath && (strlen(subpath) > 4095 || !*subpath)))
        return ld_err_set(err, LD_E_INVALID, "%s: a path is empty or longer than 4095 bytes",
                          where);
    m->source = source ? ld_strdup(source) : NULL;
    m->target = ld_strdup(target);
    m->subpath = subpath ? ld_strdup(subpath) : NULL;
    return 0;
}

static int read_mounts(const cJSON *body, struct ld_container_spec *spec, struct ld_err *err)
{
    const cJSON *mounts = NULL, *item;
    int n;

    if (ld_member_array(body, "", "mounts", &mounts, err) < 0)
        return -1;
    n = mounts ? cJSON_GetArraySize(mounts) : 0;
    if (n > 64) {
        (void)ld_err_set(err, LD_E_INVALID, "%d mounts are more than 64", n);
        return ld_err_details(err, "{\"limit\":\"mounts\",\"value\":64}");
    }
    spec->mounts = ld_alloc0(((size_t)n + 1) * sizeof(*spec->mounts));
    cJSON_ArrayForEach (item, mounts) {
        spec->n_mounts++;
        if (read_mount(item, spec->n_mounts - 1, &spec->mounts[spec->n_mounts - 1], err) < 0)
            return -1;
    }
    return 0;
}

static int check_strings(const cJSON *config, const char *name, int max, struct ld_err *err)
{
    const cJSON *list = NULL, *item;

    if (ld_member_array(config, "config", name, &list, err) < 0)
        return -1;
    if (list && cJSON_GetArraySize(list) > max)
        return ld_err_set(err, LD_E_INVALID, "config: '%s' has more than %d items", name, max);
    cJSON_ArrayForEach (item, list) {
        if (!cJSON_IsString(item))
            return ld_err_set(err, LD_E_INVALID, "config: '%s' is not an array of strings", name);
    }
    return 0;
}

static int read_config(const cJSON *body, char **ret, struct ld_err *err)
{
    const cJSON *config = NULL;
    const char *text;

    if (ld_member_object(body, "", "config", &config, err) < 0)
        return -1;
    if (!config)
        return 0;
    if (ld_members_only(config, "config", "entrypoint cmd env user working_dir stop_signal", err) <
            0 ||
        check_strings(config, "entrypoint", 1024, err) < 0 ||
        check_strings(config, "cmd", 1024, err) < 0 ||
        check_strings(config, "env", 4096, err) < 0 ||
        ld_member_string(config, "config", "user", &text, err) < 0 ||
        ld_member_string(config, "config", "working_dir", &text, err) < 0 ||
        ld_member_string(config, "config", "stop_signal", &text, err) < 0)
        return -1;
    *ret = cJSON_PrintUnformatted(config);
    return *ret ? 0 : ld_err_set(err, LD_E_UNAVAILABLE, "no memory for the config");
}

static int read_backing(const cJSON *body, enum ld_backing *ret, struct ld_err *err)
{
    const char *name = NULL;

    if (ld_member_string(body, "", "backing", &name, err) < 0)
        return -1;
    *ret = LD_BACKING_NONE;
    for (int i = 1; name && i < LD_BACKING_END && !*ret; i++)
        *ret = strcmp(name, ld_backing_name((enum ld_backing)i)) == 0 ? (enum ld_backing)i : *ret;
    if (!name || *ret)
        return 0;
    (void)ld_err_set(err, LD_E_INVALID, "there is no backing '%s'", name);
    return ld_err_hint(err, "GET /v1/info lists the backings");
}

static int read_body(const cJSON *body, const char *name, struct ld_container_body *b,
                     struct ld_err *err)
{
    struct ld_container_spec *spec = &b->spec;
    const char *given = NULL, *image = NULL, *driver = NULL;

    if (ld_members_only(body, "",
                        "name image labels driver read_only ephemeral auto_remove mounts config "
                        "size_limit inode_limit backing idmap",
                        err) < 0 ||
        ld_member_string(body, "", "name", &given, err) < 0 ||
        ld_member_string(body, "", "image", &image, err) < 0 ||
        ld_member_string(body, "", "driver", &driver, err) < 0 ||
        ld_member_bool(body, "", "read_only", &spec->read_only, err) < 0 ||
        ld_member_bool(body, "", "ephemeral", &spec->ephemeral, err) < 0 ||
        ld_member_bool(body, "", "auto_remove", &spec->auto_remove, err) < 0 ||
        ld_json_size_limit(body, &spec->limits.bytes, err) < 0 ||
        ld_json_inode_limit(body, &spec->limits.inodes, err) < 0 ||
        read_backing(body, &spec->backing, err) < 0)
        return -1;
    if (cJSON_HasObjectItem(body, "idmap"))
        return ld_err_set(err, LD_E_UNSUPPORTED, "this version can't map a container (idmap)");
    if (!image || !*image)
        return ld_err_set(err, LD_E_INVALID, "'image' is missing");
    if (name && given && strcmp(name, given) != 0)
        return ld_err_set(err, LD_E_INVALID, "the path names '%s', the body '%s'", name, given);
    if (name)
        given = name;
    b->name = given ? ld_strdup(given) : NULL;
    b->image = ld_strdup(image);
    b->driver = driver ? ld_strdup(driver) : NULL;
    spec->name = b->name;
    spec->image = b->image;
    spec->driver = b->driver;
    if (ld_json_labels(body, &b->labels, err) < 0 || read_config(body, &b->config, err) < 0 ||
        read_mounts(body, spec, err) < 0)
        return -1;
    spec->labels = b->labels;
    spec->config = b->config;
    return 0;
}

/* The name is no part of it: a PUT says it in the path, and it may change. */
static void take_digest(const cJSON *body, struct ld_container_body *b)
{
    cJSON *copy = cJSON_Duplicate(body, true);
    autofree char *image = ld_image_short_ref(b->image);

    cJSON_DeleteItemFromObjectCaseSensitive(copy, "name");
    cJSON_ReplaceItemInObjectCaseSensitive(copy, "image", cJSON_CreateString(image));
    ld_json_digest(copy, b->digest);
    cJSON_Delete(copy);
    b->spec.spec_digest = b->digest;
}

int ld_container_body_read(const struct cJSON *body, const char *name,
                           struct ld_container_body *ret, struct ld_err *err)
{
    *ret = (struct ld_container_body){.name = NULL};
    if (read_body(body, name, ret, err) < 0) {
        ld_container_body_done(ret);
        return -1;
    }
    take_digest(body, ret);
    ret->spec.may_exist = name != NULL;
    return 0;
}

void ld_container_body_done(struct ld_container_body *b)
{
    for (size_t i = 0; i < b->spec.n_mounts; i++)
        ld_mount_spec_done(&b->spec.mounts[i]);
    ld_free_p(&b->spec.mounts);
    b->spec.n_mounts = 0;
    ld_free_p(&b->labels);
    ld_free_p(&b->config);
    ld_free_p(&b->name);
    ld_free_p(&b->image);
    ld_free_p(&b->driver);
}
