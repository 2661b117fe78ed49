/* layerctl volume …: see layerctl(1). */
#include <stdio.h>
#include <string.h>

#include "client/api.h"
#include "client/cmd.h"
#include "client/download.h"
#include "client/dry_run.h"
#include "client/labels.h"
#include "client/limits.h"
#include "client/list.h"
#include "client/object.h"
#include "client/out.h"
#include "client/text.h"
#include "client/upload.h"
#include "daemon/base/err.h"
#include "daemon/base/mem.h"

static const struct ld_column columns[] = {
    {"NAME", .shrinks = true}, {"CREATED"}, {"ANONYMOUS"}, {"USED BY", .shrinks = true}, {"STATE"},
};

static void add_volume(struct ld_table *t, const cJSON *volume, const struct ld_row_ctx *ctx)
{
    autobuf struct ld_buf users = LD_BUF_INIT(1 << 20);
    const cJSON *user;

    if (ld_field_has(volume, "name"))
        ld_cell_str(t, volume, "name");
    else
        ld_cell_id(t, volume, "id", ctx);
    ld_cell_age(t, volume, "created_at", ctx);
    ld_table_add(t, ld_field_bool(volume, "anonymous") ? "yes" : "no");
    cJSON_ArrayForEach (user, ld_field_get(volume, "users"))
        ld_buf_addf(&users, "%s%s", users.len ? ", " : "",
                    ld_field_has(user, "name") ? ld_field_str(user, "name")
                                               : ld_text_short_id(ld_field_str(user, "id")).text);
    ld_table_add(t, ld_buf_str(&users));
    ld_cell_state(t, volume);
}

static int run_ls(struct ld_cli *cli, struct ld_err *err)
{
    static const struct ld_list list = {columns, LD_ARRAY_LEN(columns), "name", add_volume};
    autobuf struct ld_buf url = LD_URL_INIT;

    ld_buf_adds(&url, "/v1/volumes");
    ld_list_add_filters(cli, &url);
    return ld_list_show(cli, ld_buf_str(&url), &list, err);
}

static const struct ld_opt list_opts[] = {LD_OPT_FILTER, LD_OPT_QUIET, LD_OPT_WHOLE, LD_OPT_FORMAT};

static int run_create(struct ld_cli *cli, struct ld_err *err)
{
    const char *name = ld_args_get(cli->args, 0);
    autobuf struct ld_buf url = LD_URL_INIT;
    autojson cJSON *body = cJSON_CreateObject();
    autojson cJSON *volume = NULL;
    autoreply struct ld_http_reply reply = LD_HTTP_REPLY_INIT;
    bool ensure = ld_args_flag(cli->args, "ensure");
    int r;

    if (ensure && !name)
        return ld_err_set(err, LD_E_INVALID, "--ensure needs the volume's name");
    if (ensure && ld_args_value(cli->args, "idempotency-key"))
        return ld_err_set(err, LD_E_INVALID, "--ensure needs no --idempotency-key");
    if (ld_labels_from_args(cli->args, body, err) < 0 || ld_limits_size(cli->args, body, err) < 0)
        return -1;
    if (ensure && ld_object_url(LD_KIND_VOLUME, name, NULL, &url, err) < 0)
        return -1;
    if (!ensure) {
        ld_buf_adds(&url, "/v1/volumes");
        if (name)
            (void)cJSON_AddStringToObject(body, "name", name);
    }
    r = ensure ? ld_api_send(cli, "PUT", ld_buf_str(&url), body, &reply, err)
               : ld_api_make(cli, ld_buf_str(&url), body, &reply, err);
    if (r < 0 || ld_api_parse(&reply, &volume, err) < 0)
        return -1;
    if (ld_cli_wants_json(cli))
        ld_out_compact_json(volume);
    else
        ld_out_line(ld_field_str(volume, ld_field_has(volume, "name") ? "name" : "id"));
    return 0;
}

static const struct ld_opt create_opts[] = {
    LD_OPT_LABEL,
    LD_OPT_SIZE_LIMIT,
    {"ensure", 0, NULL, false, "fine when it is there already, made by the same request", NULL},
    LD_OPT_ONCE,
    LD_OPT_FORMAT,
};

/* update */

static int update_volume(struct ld_cli *cli, const char *name, struct ld_err *err)
{
    autobuf struct ld_buf url = LD_URL_INIT;
    autojson cJSON *body = cJSON_CreateObject();

    if (ld_limits_size(cli->args, body, err) < 0)
        return -1;
    if (!body->child)
        return ld_err_set(err, LD_E_INVALID, "nothing is to be changed: --size-limit is missing");
    if (ld_object_url(LD_KIND_VOLUME, name, NULL, &url, err) < 0)
        return -1;
    return ld_api_json(cli, "PATCH", ld_buf_str(&url), body, NULL, err);
}

static int run_update(struct ld_cli *cli, struct ld_err *err)
{
    (void)err;
    return ld_cli_each(cli, update_volume);
}

static const struct ld_opt update_opts[] = {LD_OPT_SIZE_LIMIT};

static int show_volume(struct ld_cli *cli, const char *name, struct ld_err *err)
{
    return ld_object_show(cli, LD_KIND_VOLUME, name, ld_args_flag(cli->args, "size"), err);
}

static int run_inspect(struct ld_cli *cli, struct ld_err *err)
{
    (void)err;
    return ld_cli_each(cli, show_volume);
}

static const struct ld_opt show_opts[] = {
    {"size", 's', NULL, false, "count what it holds", NULL},
    LD_OPT_FORMAT,
};

static int remove_volume(struct ld_cli *cli, const char *name, struct ld_err *err)
{
    autobuf struct ld_buf url = LD_URL_INIT;

    if (ld_object_url(LD_KIND_VOLUME, name, NULL, &url, err) < 0)
        return -1;
    if (ld_args_flag(cli->args, "purge"))
        ld_url_query(&url, "purge", "1");
    return ld_remove_at(cli, &url, name, err);
}

static const struct ld_opt rm_opts[] = {
    {"purge", 0, NULL, false, "destroy their data at once, whatever the trash keeps", NULL},
    LD_OPT_DRY_RUN,
};

static int run_rm(struct ld_cli *cli, struct ld_err *err)
{
    (void)err;
    return ld_cli_each(cli, remove_volume);
}

/* clone */

static int run_clone(struct ld_cli *cli, struct ld_err *err)
{
    const char *name = ld_args_get(cli->args, 1);
    autobuf struct ld_buf url = LD_URL_INIT;
    autojson cJSON *body = cJSON_CreateObject();
    autojson cJSON *volume = NULL;
    autoreply struct ld_http_reply reply = LD_HTTP_REPLY_INIT;

    if (name)
        (void)cJSON_AddStringToObject(body, "name", name);
    if (ld_args_value(cli->args, "snapshot"))
        (void)cJSON_AddStringToObject(body, "snapshot", ld_args_value(cli->args, "snapshot"));
    if (ld_labels_from_args(cli->args, body, err) < 0 || ld_limits_size(cli->args, body, err) < 0 ||
        ld_object_url(LD_KIND_VOLUME, ld_args_get(cli->args, 0), "clone", &url, err) < 0)
        return -1;
    if (ld_args_flag(cli->args, "live"))
        ld_url_query(&url, "live", "1");
    if (ld_api_make(cli, ld_buf_str(&url), body, &reply, err) < 0 ||
        ld_api_parse(&reply, &volume, err) < 0)
        return -1;
    if (ld_cli_wants_json(cli))
        ld_out_compact_json(volume);
    else
        ld_out_line(ld_field_str(volume, ld_field_has(volume, "name") ? "name" : "id"));
    return 0;
}

static const struct ld_opt clone_opts[] = {
    {"label", 'l', "KEY=VALUE", true, "a label, instead of those of VOLUME (may repeat)", NULL},
    {"snapshot", 's', "SNAPSHOT", false, "the content it had then, not the present one", NULL},
    {"live", 0, NULL, false, "copy it even while a container has it mounted", NULL},
    LD_OPT_SIZE_LIMIT,
    LD_OPT_ONCE,
    LD_OPT_FORMAT,
};

/* export, import */

static int run_export(struct ld_cli *cli, struct ld_err *err)
{
    autobuf struct ld_buf url = LD_URL_INIT;

    if (ld_object_url(LD_KIND_VOLUME, ld_args_get(cli->args, 0), "export", &url, err) < 0)
        return -1;
    return ld_download(cli, ld_buf_str(&url), "Accept: application/x-tar",
                       ld_args_value(cli->args, "output"), true, err);
}

static const struct ld_opt export_opts[] = {
    {"output", 'o', "FILE", false, "write to FILE instead of standard output", "file"},
};

static int run_import(struct ld_cli *cli, struct ld_err *err)
{
    const char *path = ld_args_get(cli->args, 1);
    autobuf struct ld_buf url = LD_URL_INIT;
    autojson cJSON *result = NULL;
    bool detached;

    if (ld_object_url(LD_KIND_VOLUME, ld_args_get(cli->args, 0), "import", &url, err) < 0 ||
        ld_upload(cli, ld_buf_str(&url), path ? path : "-", &detached, &result, err) < 0)
        return -1;
    if (ld_cli_wants_json(cli))
        ld_out_compact_json(result);
    else if (detached)
        ld_out_line(ld_field_str(result, "job"));
    else if (!ld_args_flag(cli->args, "quiet"))
        (void)printf("%s, %s\n",
                     ld_text_count(ld_field_u64(result, "entries"), "entry", "entries").text,
                     ld_text_size(ld_field_u64(result, "bytes")).text);
    return 0;
}

static const struct ld_opt import_opts[] = {
    LD_OPTS_UPLOAD,
    {"quiet", 'q', NULL, false, "no progress, print nothing", NULL},
    LD_OPT_FORMAT,
};

static const struct ld_cmd cmds[] = {
    {
        .name = "volume ls",
        .aliases = {"volumes", "volume list"},
        .operands = "",
        .summary = "List volumes",
        .details = "Filters: name=GLOB, label=KEY[=VALUE], anonymous=1 or 0, dangling=1 (no "
                   "container uses "
                   "it), until=TIME or a duration such as 24h (created before).",
        .opts = LD_CMD_OPTS(list_opts),
        .run = run_ls,
    },
    {
        .name = "volume create",
        .operands = "[NAME]",
        .max_operands = 1,
        .summary = "Create a volume and print its name",
        .details = "Without NAME the volume is anonymous. A volume that a container names is "
                   "created by that, too.",
        .opts = LD_CMD_OPTS(create_opts),
        .run = run_create,
    },
    {
        .name = "volume update",
        .operands = "VOLUME...",
        .min_operands = 1,
        .max_operands = LD_OPERANDS_MANY,
        .complete = "volume",
        .summary = "Change the limit of volumes",
        .details = "It counts at once, whoever has them mounted; --size-limit none lifts it.",
        .opts = LD_CMD_OPTS(update_opts),
        .run = run_update,
    },
    {
        .name = "volume inspect",
        .operands = "VOLUME...",
        .min_operands = 1,
        .max_operands = LD_OPERANDS_MANY,
        .complete = "volume",
        .summary = "Show all about volumes",
        .details = "Prints a JSON document per volume.",
        .opts = LD_CMD_OPTS(show_opts),
        .run = run_inspect,
    },
    {
        .name = "volume rm",
        .operands = "VOLUME...",
        .min_operands = 1,
        .max_operands = LD_OPERANDS_MANY,
        .complete = "volume",
        .summary = "Remove volumes",
        .details =
            "Refused, with exit status 4, for a volume that a container has among its mounts.",
        .opts = LD_CMD_OPTS(rm_opts),
        .run = run_rm,
    },
    {
        .name = "volume clone",
        .operands = "VOLUME [NAME]",
        .min_operands = 1,
        .max_operands = 2,
        .complete = "volume",
        .summary = "Make a new volume with the same content and print its name",
        .details = "Reflinked where the file system can, else copied. Refused, with exit status 4, "
                   "while a container has VOLUME mounted, unless with --live.",
        .opts = LD_CMD_OPTS(clone_opts),
        .run = run_clone,
    },
    {
        .name = "volume export",
        .operands = "VOLUME",
        .min_operands = 1,
        .max_operands = 1,
        .complete = "volume",
        .summary = "Write what a volume holds as a tar",
        .opts = LD_CMD_OPTS(export_opts),
        .run = run_export,
    },
    {
        .name = "volume import",
        .operands = "VOLUME [FILE]",
        .min_operands = 1,
        .max_operands = 2,
        .complete = "volume",
        .summary = "Unpack a tar into a volume",
        .details = "FILE is a tar, plain or compressed with gzip, zstd, xz or bzip2; without FILE "
                   "or with - it is read from standard input. Into a volume that is empty and not "
                   "mounted all of it comes or nothing. Into any other it is unpacked over what is "
                   "there; a damaged archive is refused before that begins.",
        .opts = LD_CMD_OPTS(import_opts),
        .run = run_import,
    },
};

const struct ld_cmd_group ld_cmds_volume = {"volume", "Directories that outlive containers", cmds,
                                            LD_ARRAY_LEN(cmds)};
