/* Configs of committed images: see oci_commit.h. */
#include "daemon/image/oci_commit.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include <cjson/cJSON.h>

#include "daemon/base/err.h"
#include "daemon/base/mem.h"
#include "daemon/image/change_impl.h"
#include "daemon/image/doc.h"
#include "daemon/image/oci.h"

/* The member of that type; another one, or none, is replaced by an empty one. */
static cJSON *object_of(cJSON *from, const char *name)
{
    cJSON *item = cJSON_GetObjectItemCaseSensitive(from, name);

    if (cJSON_IsObject(item))
        return item;
    ld_change_put(from, name, cJSON_CreateObject());
    return cJSON_GetObjectItemCaseSensitive(from, name);
}

static cJSON *array_of(cJSON *from, const char *name)
{
    cJSON *item = cJSON_GetObjectItemCaseSensitive(from, name);

    if (cJSON_IsArray(item))
        return item;
    ld_change_put(from, name, cJSON_CreateArray());
    return cJSON_GetObjectItemCaseSensitive(from, name);
}

struct time_text {
    char text[40];
};

static struct time_text time_of(int64_t ns)
{
    time_t seconds = ns / 1000000000;
    struct time_text time;
    struct tm tm;
    size_t n;

    (void)gmtime_r(&seconds, &tm); /* fails beyond the year 2^31 only */
    n = strftime(time.text, sizeof(time.text), "%Y-%m-%dT%H:%M:%S", &tm);
    (void)snprintf(time.text + n, sizeof(time.text) - n, ".%09dZ", (int)(ns % 1000000000));
    return time;
}

/* ---- the run configuration ---- */

static void override(cJSON *run, const char *name, const cJSON *value)
{
    if (cJSON_IsArray(value) || (cJSON_IsString(value) && *value->valuestring))
        ld_change_put(run, name, cJSON_Duplicate(value, true));
}

/* As when it is run: an entrypoint of its own drops the image's cmd, env is joined by name. */
static int apply_overrides(cJSON *run, const char *text, struct ld_err *err)
{
    LD_AUTO(ld_doc_free_p) cJSON *own = NULL;
    const cJSON *item;

    if (!text)
        return 0;
    if (ld_doc_parse(text, strlen(text), "the container's config", &own, err) < 0)
        return -1;
    if (cJSON_IsArray(cJSON_GetObjectItemCaseSensitive(own, "entrypoint")))
        cJSON_DeleteItemFromObjectCaseSensitive(run, "Cmd");
    override(run, "Entrypoint", cJSON_GetObjectItemCaseSensitive(own, "entrypoint"));
    override(run, "Cmd", cJSON_GetObjectItemCaseSensitive(own, "cmd"));
    override(run, "User", cJSON_GetObjectItemCaseSensitive(own, "user"));
    override(run, "WorkingDir", cJSON_GetObjectItemCaseSensitive(own, "working_dir"));
    override(run, "StopSignal", cJSON_GetObjectItemCaseSensitive(own, "stop_signal"));
    cJSON_ArrayForEach (item, cJSON_GetObjectItemCaseSensitive(own, "env")) {
        if (cJSON_IsString(item))
            ld_change_set_env(run, item->valuestring);
    }
    return 0;
}

static int edit_run(cJSON *config, const struct ld_oci_commit *c, struct ld_err *err)
{
    struct ld_changes changes = {.run = object_of(config, "config")};

    if (apply_overrides(changes.run, c->overrides, err) < 0)
        return -1;
    for (size_t i = 0; i < c->n_changes; i++) {
        if (ld_change_apply(&changes, c->changes[i], err) < 0)
            return -1;
    }
    return 0;
}

/* ---- layers and history ---- */

static void edit_rootfs(cJSON *config, const struct ld_oci_commit *c)
{
    cJSON *rootfs = object_of(config, "rootfs");
    char text[LD_DIGEST_TEXT];

    ld_change_put(rootfs, "type", cJSON_CreateString("layers"));
    if (c->squash)
        ld_change_put(rootfs, "diff_ids", cJSON_CreateArray());
    if (!c->diff_id)
        return;
    ld_digest_format(c->diff_id, text);
    cJSON_AddItemToArray(array_of(rootfs, "diff_ids"), cJSON_CreateString(text));
}

/* A history may tell of fewer layers than there are; a line at its end would then be taken for one
 * of them. */
static void fill_history(cJSON *history, int n_layers)
{
    const cJSON *item;

    cJSON_ArrayForEach (item, history)
        n_layers -= !cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(item, "empty_layer"));
    for (; n_layers > 0; n_layers--) {
        cJSON *line = cJSON_CreateObject();

        cJSON_AddStringToObject(line, "created_by", "");
        cJSON_AddItemToArray(history, line);
    }
}

static void edit_history(cJSON *config, const struct ld_oci_commit *c, const char *created)
{
    cJSON *line = cJSON_CreateObject();

    if (c->squash)
        ld_change_put(config, "history", cJSON_CreateArray());
    else
        fill_history(array_of(config, "history"),
                     cJSON_GetArraySize(array_of(object_of(config, "rootfs"), "diff_ids")));
    cJSON_AddStringToObject(line, "created", created);
    cJSON_AddStringToObject(line, "created_by", "layerd commit");
    if (c->author)
        cJSON_AddStringToObject(line, "author", c->author);
    if (c->message)
        cJSON_AddStringToObject(line, "comment", c->message);
    if (!c->diff_id)
        cJSON_AddTrueToObject(line, "empty_layer");
    cJSON_AddItemToArray(array_of(config, "history"), line);
}

int ld_oci_commit_render(const struct ld_oci_commit *c, char **ret, struct ld_err *err)
{
    static const char *const of_its_maker[] = {"container", "container_config", "docker_version",
                                               "id", "parent"};
    struct time_text created = time_of(c->created_ns);
    LD_AUTO(ld_doc_free_p) cJSON *config = NULL;
    autofree char *text = NULL;

    if (ld_doc_parse(c->base, c->base_len, "the image's config", &config, err) < 0)
        return -1;
    if (!cJSON_IsObject(config))
        return ld_err_set(err, LD_E_BAD_CONTENT, "the image's config is not a JSON object");
    for (size_t i = 0; i < LD_ARRAY_LEN(of_its_maker); i++)
        cJSON_DeleteItemFromObjectCaseSensitive(config, of_its_maker[i]);
    cJSON_DeleteItemFromObjectCaseSensitive(config, "author");
    if (c->author)
        cJSON_AddStringToObject(config, "author", c->author);
    ld_change_put(config, "created", cJSON_CreateString(created.text));
    if (edit_run(config, c, err) < 0)
        return -1;
    edit_history(config, c, created.text); /* before the new layer is among the others */
    edit_rootfs(config, c);
    text = cJSON_PrintUnformatted(config);
    if (!text)
        return ld_err_set(err, LD_E_UNAVAILABLE, "no memory for the image's config");
    if (strlen(text) > LD_OCI_MAX_DOCUMENT)
        return ld_err_set(err, LD_E_INVALID, "the image's config becomes larger than %d bytes",
                          LD_OCI_MAX_DOCUMENT);
    *ret = ld_steal(&text);
    return 0;
}
