/* layerctl container explain and holders: why a container is as it is. See layerctl(1). */
#include <stdio.h>
#include <string.h>

#include "client/api.h"
#include "client/cmd.h"
#include "client/copy.h"
#include "client/list.h"
#include "client/object.h"
#include "client/text.h"
#include "daemon/base/err.h"
#include "daemon/base/mem.h"

/* holders */

static const struct ld_column holder_columns[] = {
    {"PID", .right = true},
    {"COMMAND"},
    {"USES"},
    {"UNIT", .shrinks = true},
    {"NAMESPACE", .right = true},
    {"PATH", .shrinks = true},
};

static void add_holder(struct ld_table *t, const cJSON *holder, const struct ld_row_ctx *ctx)
{
    autobuf struct ld_buf uses = LD_BUF_INIT(256);
    autofree char *path = ld_json_bytes(holder, "path");
    const cJSON *use;

    (void)ctx;
    cJSON_ArrayForEach (use, ld_field_get(holder, "uses")) {
        if (cJSON_IsString(use))
            ld_buf_addf(&uses, "%s%s", uses.len ? "," : "", use->valuestring);
    }
    ld_cell_count(t, holder, "pid");
    ld_cell_str(t, holder, "command");
    ld_table_add(t, ld_buf_str(&uses));
    ld_cell_str(t, holder, "unit");
    ld_cell_count(t, holder, "mount_namespace");
    ld_table_add(t, path);
}

static int run_holders(struct ld_cli *cli, struct ld_err *err)
{
    static const struct ld_list list = {holder_columns, LD_ARRAY_LEN(holder_columns), "pid",
                                        add_holder};
    autobuf struct ld_buf url = LD_URL_INIT;

    if (ld_object_url(LD_KIND_CONTAINER, ld_args_get(cli->args, 0), "holders", &url, err) < 0)
        return -1;
    return ld_list_show(cli, ld_buf_str(&url), &list, err);
}

static const struct ld_opt holders_opts[] = {
    {"quiet", 'q', NULL, false, "print pids only, one per line", NULL},
    LD_OPT_WHOLE,
    LD_OPT_FORMAT,
};

/* explain */

/* "layer 2 of base:latest (RUN x)", "layer 3, snapshot before", "the writable layer". */
static void add_layer_text(struct ld_buf *buf, const cJSON *doc, const cJSON *layer)
{
    const cJSON *image = ld_field_get(doc, "image");
    const char *kind = ld_field_str(layer, "kind");
    const char *by = ld_field_str(layer, "created_by");

    if (strcmp(kind, "writable") == 0) {
        ld_buf_adds(buf, "the writable layer");
        return;
    }
    ld_buf_addf(buf, "layer %llu", (unsigned long long)ld_field_u64(layer, "number"));
    if (strcmp(kind, "image") == 0)
        ld_buf_addf(buf, " of %s",
                    ld_field_has(image, "ref") ? ld_field_str(image, "ref") : "the image");
    else if (!ld_field_has(layer, "snapshot"))
        ld_buf_adds(buf, ", a snapshot");
    else if (ld_field_has(ld_field_get(layer, "snapshot"), "name"))
        ld_buf_addf(buf, ", snapshot %s", ld_field_str(ld_field_get(layer, "snapshot"), "name"));
    else
        ld_buf_addf(buf, ", snapshot %.12s", ld_field_str(ld_field_get(layer, "snapshot"), "id"));
    if (*by)
        ld_buf_addf(buf, " (%s)", by);
}

static void print_safe(const char *title, const char *text)
{
    autofree char *safe = ld_text_safe(text);

    (void)printf("%-10s %s\n", title, safe);
}

static void add_hidden(struct ld_buf *buf, const cJSON *doc, const cJSON *hidden)
{
    autofree char *path = ld_json_bytes(hidden, "path");

    ld_buf_addf(buf, "%s in ", ld_field_str(hidden, "how"));
    add_layer_text(buf, doc, ld_field_get(hidden, "layer"));
    ld_buf_addf(buf, ", at %s", path);
}

static void print_layers(const cJSON *doc)
{
    const cJSON *part;

    cJSON_ArrayForEach (part, ld_field_get(doc, "layers")) {
        autobuf struct ld_buf text = LD_BUF_INIT(1 << 16);

        ld_buf_addf(&text, "%s: %s", ld_field_str(part, "role"),
                    ld_field_has(part, "type") ? ld_field_str(part, "type") : "deletion");
        if (strcmp(ld_field_str(part, "type"), "file") == 0)
            ld_buf_addf(&text, ", %s", ld_text_size(ld_field_u64(part, "size")).text);
        if (ld_field_bool(part, "opaque"))
            ld_buf_adds(&text, ", opaque");
        ld_buf_adds(&text, ", ");
        add_layer_text(&text, doc, ld_field_get(part, "layer"));
        if (ld_field_has(part, "hidden_by")) {
            ld_buf_adds(&text, "; ");
            add_hidden(&text, doc, ld_field_get(part, "hidden_by"));
        }
        print_safe("", ld_buf_str(&text));
    }
}

static void print_write(const cJSON *write)
{
    autobuf struct ld_buf text = LD_BUF_INIT(1024);

    if (!ld_field_bool(write, "possible"))
        ld_buf_adds(&text, "not possible: it is read-only");
    else if (!ld_field_bool(write, "copies_up"))
        ld_buf_adds(&text, "in place");
    else
        ld_buf_addf(
            &text, "copies %s up, and %s%s", ld_text_size(ld_field_u64(write, "bytes")).text,
            ld_text_count(ld_field_u64(write, "directories"), "directory", "directories").text,
            ld_field_bool(write, "breaks_links") ? "; parts it from its other names" : "");
    print_safe("a write", ld_buf_str(&text));
}

static void print_explanation(const cJSON *doc)
{
    autofree char *resolved = ld_json_bytes(doc, "resolved");
    autofree char *missing = ld_json_bytes(doc, "missing");
    const cJSON *step, *mount = ld_field_get(doc, "mount");
    autobuf struct ld_buf text = LD_BUF_INIT(1 << 16);

    (void)printf("%-10s %s\n", "path", resolved);
    cJSON_ArrayForEach (step, ld_field_get(doc, "links_followed")) {
        autofree char *path = ld_json_bytes(step, "path");
        autofree char *target = ld_json_bytes(step, "target");

        (void)printf("%-10s %s -> %s\n", "by", path, target);
    }
    if (!ld_field_bool(doc, "exists"))
        (void)printf("%-10s %s%s\n", "missing", missing,
                     ld_field_bool(doc, "loop") ? " (too many symbolic links)" : "");
    if (cJSON_IsObject(mount)) {
        autofree char *target = ld_json_bytes(mount, "target");

        ld_buf_addf(&text, "%s %s, mounted at %s", ld_field_str(mount, "type"),
                    ld_field_str(mount, "source"), target);
        print_safe("in", ld_buf_str(&text));
    } else if (ld_field_has(doc, "from")) {
        add_layer_text(&text, doc, ld_field_get(doc, "from"));
        print_safe("from", ld_buf_str(&text));
    } else if (ld_field_has(doc, "deleted_by")) {
        add_hidden(&text, doc, ld_field_get(doc, "deleted_by"));
        print_safe("hidden", ld_buf_str(&text));
    }
    if (ld_field_has(doc, "write"))
        print_write(ld_field_get(doc, "write"));
    if (cJSON_GetArraySize(ld_field_get(doc, "layers")) > 0)
        (void)printf("layers\n");
    print_layers(doc);
}

static int run_explain(struct ld_cli *cli, struct ld_err *err)
{
    autoplace struct ld_place place = {0};
    autobuf struct ld_buf url = LD_URL_INIT;
    autojson cJSON *doc = NULL;

    ld_place_parse(ld_args_get(cli->args, 0), LD_KIND_CONTAINER, &place);
    if (!place.owner || place.kind != LD_KIND_CONTAINER) {
        autofree char *safe = ld_text_safe(ld_args_get(cli->args, 0));

        return ld_err_set(err, LD_E_INVALID, "'%s' is not of the form CONTAINER:PATH", safe);
    }
    if (ld_object_url(LD_KIND_CONTAINER, place.owner, "explain", &url, err) < 0)
        return -1;
    ld_url_query(&url, "path", place.path);
    if (ld_args_flag(cli->args, "follow"))
        ld_url_query(&url, "follow", "1");
    if (ld_object_get(cli, ld_buf_str(&url), &doc, err) < 0)
        return -1;
    if (doc)
        print_explanation(doc);
    return 0;
}

static const struct ld_opt explain_opts[] = {
    {"follow", 'L', NULL, false, "follow a symlink at the end of the path, too", NULL},
    LD_OPT_FORMAT,
};

static const struct ld_cmd cmds[] = {
    {
        .name = "container explain",
        .aliases = {"explain"},
        .operands = "CONTAINER:PATH",
        .min_operands = 1,
        .max_operands = 1,
        .complete = "container-file",
        .summary = "Show why a path of a container is as it is",
        .details = "Which layer gives it and what the others have there, who deleted it, whether "
                   "it lies in a volume, and what a first write to it would copy. Nothing is "
                   "mounted for it.",
        .opts = LD_CMD_OPTS(explain_opts),
        .run = run_explain,
    },
    {
        .name = "container holders",
        .aliases = {"holders", "who"},
        .operands = "CONTAINER",
        .min_operands = 1,
        .max_operands = 1,
        .complete = "container",
        .summary = "Show who keeps a container busy",
        .details = "Processes with a working directory, root, program, open or mapped file in it, "
                   "and mount namespaces that have a mount of it elsewhere: each by one of its "
                   "processes.",
        .opts = LD_CMD_OPTS(holders_opts),
        .run = run_holders,
    },
};

const struct ld_cmd_group ld_cmds_know = {"container", NULL, cmds, LD_ARRAY_LEN(cmds)};
