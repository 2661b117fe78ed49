/* Image configs: see oci.h. OCI's and Docker's differ in members that do not matter here; Docker
 * writes null where OCI leaves a member out, both are read the same. */
#include "daemon/image/oci.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cjson/cJSON.h>

#include "daemon/base/err.h"
#include "daemon/base/mem.h"
#include "daemon/base/sid.h"
#include "daemon/image/doc.h"

static int take_string(const struct ld_doc_reader *r, const cJSON *from, const char *name,
                       char **ret)
{
    const char *text;

    if (ld_doc_string(r, from, name, false, &text) < 0)
        return -1;
    *ret = text ? ld_strdup(text) : NULL;
    return 0;
}

static int take_field(const struct ld_doc_reader *r, const cJSON *from, const char *name, char *to,
                      size_t size)
{
    const char *text;

    if (ld_doc_string(r, from, name, false, &text) < 0)
        return -1;
    if (text && strlen(text) >= size)
        return ld_err_set(r->err, LD_E_BAD_CONTENT, "%s: '%s' is longer than %zu bytes", r->what,
                          name, size - 1);
    (void)snprintf(to, size, "%s", text ? text : "");
    return 0;
}

static int read_rootfs(const struct ld_doc_reader *r, const cJSON *json, struct ld_oci_config *c)
{
    const cJSON *rootfs;
    const cJSON *ids;
    const cJSON *item = NULL;
    const char *type;
    size_t cap = 0;
    int n;

    if (ld_doc_object(r, json, "rootfs", true, &rootfs) < 0 ||
        ld_doc_string(r, rootfs, "type", false, &type) < 0 ||
        ld_doc_array(r, rootfs, "diff_ids", false, &ids) < 0)
        return -1;
    if (type && strcmp(type, "layers") != 0)
        return ld_err_set(r->err, LD_E_BAD_CONTENT,
                          "%s: a root file system of type '%.50s' is not "
                          "supported, only 'layers'",
                          r->what, type);
    n = cJSON_GetArraySize(ids);
    if (n > LD_MAX_LAYERS)
        return ld_err_set(r->err, LD_E_BAD_CONTENT, "%s: it has %d layers, the limit is %d",
                          r->what, n, LD_MAX_LAYERS);
    cJSON_ArrayForEach (item, ids) {
        ld_grow(&c->diff_ids, &cap, c->n_layers + 1, sizeof(*c->diff_ids));
        if (!cJSON_IsString(item) ||
            ld_digest_parse(item->valuestring, &c->diff_ids[c->n_layers]) < 0)
            return ld_err_set(r->err, LD_E_BAD_CONTENT,
                              "%s: rootfs.diff_ids[%zu] is not a sha256 "
                              "digest",
                              r->what, c->n_layers);
        c->n_layers++;
    }
    return 0;
}

/* Entries that are not empty stand for the layers, lowest first. A history that tells of more or
 * fewer layers than there are is wrong but harmless: the rest has no counterpart. */
static int read_history(const struct ld_doc_reader *r, const cJSON *json, struct ld_oci_config *c)
{
    const cJSON *array = NULL;
    const cJSON *item = NULL;
    size_t cap = 0;
    int layer = 0;

    if (ld_doc_array(r, json, "history", false, &array) < 0)
        return -1;
    cJSON_ArrayForEach (item, array) {
        struct ld_oci_history *h;

        if (!cJSON_IsObject(item))
            return ld_err_set(r->err, LD_E_BAD_CONTENT, "%s: history[%zu] is not an object",
                              r->what, c->n_history);
        ld_grow(&c->history, &cap, c->n_history + 1, sizeof(*c->history));
        h = &c->history[c->n_history++];
        if (take_string(r, item, "created", &h->created) < 0 ||
            take_string(r, item, "created_by", &h->created_by) < 0 ||
            take_string(r, item, "author", &h->author) < 0 ||
            take_string(r, item, "comment", &h->comment) < 0 ||
            ld_doc_bool(r, item, "empty_layer", &h->empty_layer) < 0)
            return -1;
        h->layer = !h->empty_layer && layer < (int)c->n_layers ? layer++ : -1;
    }
    return 0;
}

static int compare_pairs(const void *a, const void *b)
{
    return strcmp(((const struct ld_oci_pair *)a)->key, ((const struct ld_oci_pair *)b)->key);
}

static int read_labels(const struct ld_doc_reader *r, const cJSON *run, struct ld_oci_config *c)
{
    const cJSON *labels;
    const cJSON *item = NULL;
    size_t cap = 0;

    if (ld_doc_object(r, run, "Labels", false, &labels) < 0)
        return -1;
    cJSON_ArrayForEach (item, labels) {
        struct ld_oci_pair *pair;

        if (!cJSON_IsString(item))
            return ld_err_set(r->err, LD_E_BAD_CONTENT, "%s: label '%.100s' is not a string",
                              r->what, item->string);
        ld_grow(&c->labels, &cap, c->n_labels + 1, sizeof(*c->labels));
        pair = &c->labels[c->n_labels++];
        pair->key = ld_strdup(item->string);
        pair->value = ld_strdup(item->valuestring);
    }
    if (c->n_labels > 1)
        qsort(c->labels, c->n_labels, sizeof(*c->labels), compare_pairs);
    return 0;
}

/* What to run and how: for us data that bundles, commits and inspect pass on. */
static int read_run_config(const struct ld_doc_reader *r, const cJSON *json,
                           struct ld_oci_config *c)
{
    const cJSON *run;

    if (ld_doc_object(r, json, "config", false, &run) < 0)
        return -1;
    if (!run)
        return 0;
    if (take_string(r, run, "User", &c->user) < 0 ||
        take_string(r, run, "WorkingDir", &c->workdir) < 0 ||
        take_string(r, run, "StopSignal", &c->stop_signal) < 0 ||
        ld_doc_strings(r, run, "Env", &c->env) < 0 || ld_doc_strings(r, run, "Cmd", &c->cmd) < 0 ||
        ld_doc_strings(r, run, "Entrypoint", &c->entrypoint) < 0 ||
        ld_doc_keys(r, run, "Volumes", &c->volumes) < 0 ||
        ld_doc_keys(r, run, "ExposedPorts", &c->exposed_ports) < 0)
        return -1;
    return read_labels(r, run, c);
}

int ld_oci_config_parse(const char *text, size_t len, const char *what, struct ld_oci_config *ret,
                        struct ld_err *err)
{
    LD_AUTO(ld_oci_config_done) struct ld_oci_config config = {0};
    struct ld_doc_reader r = {.what = what, .err = err};
    LD_AUTO(ld_doc_free_p) cJSON *json = NULL;
    struct ld_oci_platform *p = &config.platform;

    if (ld_doc_parse(text, len, what, &json, err) < 0)
        return -1;
    if (!cJSON_IsObject(json))
        return ld_err_set(err, LD_E_BAD_CONTENT, "%s is not a JSON object", what);
    if (take_field(&r, json, "os", p->os, sizeof(p->os)) < 0 ||
        take_field(&r, json, "architecture", p->arch, sizeof(p->arch)) < 0 ||
        take_field(&r, json, "variant", p->variant, sizeof(p->variant)) < 0 ||
        take_string(&r, json, "created", &config.created) < 0 ||
        take_string(&r, json, "author", &config.author) < 0 || read_rootfs(&r, json, &config) < 0 ||
        read_history(&r, json, &config) < 0 || read_run_config(&r, json, &config) < 0)
        return -1;
    *ret = ld_steal(&config);
    return 0;
}

void ld_oci_config_done(struct ld_oci_config *c)
{
    for (size_t i = 0; i < c->n_history; i++) {
        free(c->history[i].created);
        free(c->history[i].created_by);
        free(c->history[i].author);
        free(c->history[i].comment);
    }
    for (size_t i = 0; i < c->n_labels; i++) {
        free(c->labels[i].key);
        free(c->labels[i].value);
    }
    free(c->history);
    free(c->labels);
    free(c->diff_ids);
    free(c->created);
    free(c->author);
    free(c->user);
    free(c->workdir);
    free(c->stop_signal);
    ld_strv_free_p(&c->env);
    ld_strv_free_p(&c->cmd);
    ld_strv_free_p(&c->entrypoint);
    ld_strv_free_p(&c->volumes);
    ld_strv_free_p(&c->exposed_ports);
    *c = (struct ld_oci_config){0};
}

char *ld_oci_config_render_rootfs(const struct ld_oci_platform *p, const struct ld_digest *diff_id)
{
    char digest[LD_DIGEST_TEXT];
    bool has_variant = p->variant[0] != '\0';

    /* The platform is uname's, through our table: nothing in it needs escaping. */
    ld_digest_format(diff_id, digest);
    return ld_asprintf(
        "{\"architecture\":\"%s\",\"os\":\"%s\"%s%s%s,\"config\":{},\"rootfs\":{\"type\":"
        "\"layers\",\"diff_ids\":[\"%s\"]},\"history\":[{\"created_by\":\"layerd import\"}]}",
        p->arch, p->os, has_variant ? ",\"variant\":\"" : "", p->variant, has_variant ? "\"" : "",
        digest);
}
