/* layerctl snapshot …, rollback, clone: see layerctl(1). */
#include <stdio.h>
#include <string.h>

#include "client/api.h"
#include "client/cmd.h"
#include "client/dry_run.h"
#include "client/labels.h"
#include "client/limits.h"
#include "client/list.h"
#include "client/object.h"
#include "client/out.h"
#include "daemon/base/err.h"
#include "daemon/base/mem.h"

/* Snapshots are of containers, or by commands named so of volumes. */
static enum ld_kind owner_kind(const struct ld_cli *cli)
{
    return strncmp(cli->cmd->name, "volume ", strlen("volume ")) == 0 ? LD_KIND_VOLUME
                                                                      : LD_KIND_CONTAINER;
}

/* "/v1/containers/C/snapshots/S", and "/TAIL". */
static int snapshot_url(const struct ld_cli *cli, const char *owner, const char *snapshot,
                        const char *tail, struct ld_buf *url, struct ld_err *err)
{
    if (!*snapshot)
        return ld_err_set(err, LD_E_INVALID, "the name of the snapshot is empty");
    if (ld_object_url(owner_kind(cli), owner, "snapshots/", url, err) < 0)
        return -1;
    ld_url_segment(url, snapshot);
    if (tail)
        ld_buf_addf(url, "/%s", tail);
    return 0;
}

static void print_name(struct ld_cli *cli, const cJSON *object)
{
    if (ld_cli_wants_json(cli))
        ld_out_compact_json(object);
    else
        ld_out_line(ld_field_str(object, ld_field_has(object, "name") ? "name" : "id"));
}

/* What is made is printed by its name, or its id when it has none. */
static int make(struct ld_cli *cli, const char *target, const cJSON *body, struct ld_err *err)
{
    autoreply struct ld_http_reply reply = LD_HTTP_REPLY_INIT;
    autojson cJSON *made = NULL;

    if (ld_api_make(cli, target, body, &reply, err) < 0 || ld_api_parse(&reply, &made, err) < 0)
        return -1;
    print_name(cli, made);
    return 0;
}

/* ---- snapshot create, ls, inspect, rm ---- */

static int run_create(struct ld_cli *cli, struct ld_err *err)
{
    const char *name = ld_args_get(cli->args, 1);
    autobuf struct ld_buf url = LD_URL_INIT;
    autojson cJSON *body = cJSON_CreateObject();

    if (name)
        (void)cJSON_AddStringToObject(body, "name", name);
    if (ld_labels_from_args(cli->args, body, err) < 0 ||
        ld_object_url(owner_kind(cli), ld_args_get(cli->args, 0), "snapshots", &url, err) < 0)
        return -1;
    if (ld_args_flag(cli->args, "live"))
        ld_url_query(&url, "live", "1");
    return make(cli, ld_buf_str(&url), body, err);
}

static const struct ld_opt create_opts[] = {
    {"live", 0, NULL, false, "copy it even while it is mounted and changes", NULL},
    LD_OPT_LABEL,
    LD_OPT_ONCE,
    LD_OPT_FORMAT,
};

static const struct ld_column columns[] = {
    {"NAME", .shrinks = true}, {"ID"}, {"CREATED"}, {"CONSISTENCY"}};

static void add_snapshot(struct ld_table *t, const cJSON *snapshot, const struct ld_row_ctx *ctx)
{
    ld_cell_str(t, snapshot, "name");
    ld_cell_id(t, snapshot, "id", ctx);
    ld_cell_age(t, snapshot, "created_at", ctx);
    ld_cell_str(t, snapshot, "consistency");
}

static int run_ls(struct ld_cli *cli, struct ld_err *err)
{
    static const struct ld_list list = {columns, LD_ARRAY_LEN(columns), "name", add_snapshot};
    autobuf struct ld_buf url = LD_URL_INIT;

    if (ld_object_url(owner_kind(cli), ld_args_get(cli->args, 0), "snapshots", &url, err) < 0)
        return -1;
    ld_list_add_filters(cli, &url);
    return ld_list_show(cli, ld_buf_str(&url), &list, err);
}

static const struct ld_opt list_opts[] = {LD_OPT_FILTER, LD_OPT_QUIET, LD_OPT_WHOLE, LD_OPT_FORMAT};

static int run_inspect(struct ld_cli *cli, struct ld_err *err)
{
    autobuf struct ld_buf url = LD_URL_INIT;

    if (snapshot_url(cli, ld_args_get(cli->args, 0), ld_args_get(cli->args, 1), NULL, &url, err) <
        0)
        return -1;
    return ld_object_print(cli, ld_buf_str(&url), err);
}

static const struct ld_opt show_opts[] = {LD_OPT_FORMAT};

static int remove_snapshot(struct ld_cli *cli, const char *name, struct ld_err *err)
{
    autobuf struct ld_buf url = LD_URL_INIT;

    if (snapshot_url(cli, ld_args_get(cli->args, 0), name, NULL, &url, err) < 0)
        return -1;
    return ld_remove_at(cli, &url, name, err);
}

static int run_rm(struct ld_cli *cli, struct ld_err *err)
{
    (void)err;
    return ld_cli_each_from(cli, 1, remove_snapshot);
}

static const struct ld_opt rm_opts[] = {LD_OPT_DRY_RUN};

/* ---- rollback, clone ---- */

static int run_rollback(struct ld_cli *cli, struct ld_err *err)
{
    autobuf struct ld_buf url = LD_URL_INIT;
    autojson cJSON *container = NULL;

    if (snapshot_url(cli, ld_args_get(cli->args, 0), ld_args_get(cli->args, 1), "rollback", &url,
                     err) < 0 ||
        ld_api_json(cli, "POST", ld_buf_str(&url), NULL, &container, err) < 0)
        return -1;
    print_name(cli, container);
    return 0;
}

static int run_clone(struct ld_cli *cli, struct ld_err *err)
{
    const char *name = ld_args_get(cli->args, 1);
    const char *snapshot = ld_args_value(cli->args, "snapshot");
    autobuf struct ld_buf url = LD_URL_INIT;
    autojson cJSON *body = cJSON_CreateObject();

    if (name)
        (void)cJSON_AddStringToObject(body, "name", name);
    if (snapshot)
        (void)cJSON_AddStringToObject(body, "snapshot", snapshot);
    if (ld_labels_from_args(cli->args, body, err) < 0 || ld_limits_both(cli->args, body, err) < 0 ||
        ld_object_url(LD_KIND_CONTAINER, ld_args_get(cli->args, 0), "clone", &url, err) < 0)
        return -1;
    return make(cli, ld_buf_str(&url), body, err);
}

static const struct ld_opt clone_opts[] = {
    {"snapshot", 's', "SNAPSHOT", false, "begin with this state of it, not with the present one",
     NULL},
    LD_OPT_LABEL,
    LD_OPT_SIZE_LIMIT,
    LD_OPT_INODE_LIMIT,
    LD_OPT_ONCE,
    LD_OPT_FORMAT,
};

static const struct ld_cmd cmds[] = {
    {
        .name = "snapshot create",
        .aliases = {"snapshot"},
        .operands = "CONTAINER [NAME]",
        .min_operands = 1,
        .max_operands = 2,
        .complete = "container",
        .summary = "Take a snapshot of a container and print its name",
        .details = "The present state of the container's own files, to return to by rollback or to "
                   "begin other containers with by clone. Of a mounted container its changes are "
                   "copied, unless "
                   "somebody has a file in it open for writing.",
        .opts = LD_CMD_OPTS(create_opts),
        .run = run_create,
    },
    {
        .name = "snapshot ls",
        .aliases = {"snapshots", "snapshot list"},
        .operands = "CONTAINER",
        .min_operands = 1,
        .max_operands = 1,
        .complete = "container",
        .summary = "List a container's snapshots, oldest first",
        .details = "Filters: name=GLOB, label=KEY[=VALUE], until=TIME or a duration such as 24h "
                   "(taken before).",
        .opts = LD_CMD_OPTS(list_opts),
        .run = run_ls,
    },
    {
        .name = "snapshot inspect",
        .operands = "CONTAINER SNAPSHOT",
        .min_operands = 2,
        .max_operands = 2,
        .complete = "container",
        .summary = "Show all about a snapshot",
        .details = "Prints a JSON document.",
        .opts = LD_CMD_OPTS(show_opts),
        .run = run_inspect,
    },
    {
        .name = "snapshot rm",
        .operands = "CONTAINER SNAPSHOT...",
        .min_operands = 2,
        .max_operands = LD_OPERANDS_MANY,
        .complete = "container",
        .summary = "Remove snapshots of a container",
        .details = "In any order. The container, and clones of the snapshots, stay as they are.",
        .opts = LD_CMD_OPTS(rm_opts),
        .run = run_rm,
    },
    {
        .name = "snapshot rollback",
        .aliases = {"rollback"},
        .operands = "CONTAINER SNAPSHOT",
        .min_operands = 2,
        .max_operands = 2,
        .complete = "container",
        .summary = "Return a container to a snapshot",
        .details = "What it has changed since is destroyed, unless a snapshot has it; newer "
                   "snapshots stay. The container must not be mounted.",
        .opts = LD_CMD_OPTS(show_opts),
        .run = run_rollback,
    },
    {
        .name = "container clone",
        .aliases = {"clone", "container fork"},
        .operands = "CONTAINER [NAME]",
        .min_operands = 1,
        .max_operands = 2,
        .complete = "container",
        .summary = "Make a container that begins as another one is, and print its name",
        .details = "Image, configuration, settings, limits, labels and mounts are the same, unless "
                   "others are given; volumes with a name are shared, anonymous ones are new. Of a "
                   "container that is mounted its "
                   "changes are copied, as for a snapshot.",
        .opts = LD_CMD_OPTS(clone_opts),
        .run = run_clone,
    },
};

const struct ld_cmd_group ld_cmds_snapshot = {"snapshot", "States of containers to return to", cmds,
                                              LD_ARRAY_LEN(cmds)};

static const struct ld_cmd volume_cmds[] = {
    {
        .name = "volume snapshot",
        .operands = "VOLUME [NAME]",
        .min_operands = 1,
        .max_operands = 2,
        .complete = "volume",
        .summary = "Take a snapshot of a volume and print its name",
        .details = "A copy of what it holds, reflinked where the file system can. Refused, with "
                   "exit status 4, while a container has it mounted, unless with --live.",
        .opts = LD_CMD_OPTS(create_opts),
        .run = run_create,
    },
    {
        .name = "volume snapshots",
        .operands = "VOLUME",
        .min_operands = 1,
        .max_operands = 1,
        .complete = "volume",
        .summary = "List a volume's snapshots, oldest first",
        .details = "Filters: name=GLOB, label=KEY[=VALUE], until=TIME or a duration such as 24h "
                   "(taken before).",
        .opts = LD_CMD_OPTS(list_opts),
        .run = run_ls,
    },
    {
        .name = "volume rm-snapshot",
        .operands = "VOLUME SNAPSHOT...",
        .min_operands = 2,
        .max_operands = LD_OPERANDS_MANY,
        .complete = "volume",
        .summary = "Remove snapshots of a volume",
        .opts = LD_CMD_OPTS(rm_opts),
        .run = run_rm,
    },
    {
        .name = "volume rollback",
        .operands = "VOLUME SNAPSHOT",
        .min_operands = 2,
        .max_operands = 2,
        .complete = "volume",
        .summary = "Return a volume to a snapshot",
        .details = "What it holds is destroyed, unless a snapshot has it; newer snapshots stay. No "
                   "container may have it mounted.",
        .opts = LD_CMD_OPTS(show_opts),
        .run = run_rollback,
    },
};

const struct ld_cmd_group ld_cmds_volume_snapshot = {"volume", NULL, volume_cmds,
                                                     LD_ARRAY_LEN(volume_cmds)};
