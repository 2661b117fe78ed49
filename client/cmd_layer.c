/* layerctl layer …: see layerctl(1). */
#include "client/api.h"
#include "client/cmd.h"
#include "client/contents.h"
#include "client/list.h"
#include "client/object.h"
#include "daemon/base/err.h"

static const struct ld_column columns[] = {
    {"CHAIN ID"},
    {"PARENT"},
    {"CREATED"},
    {"SIZE", .right = true},
    {"IMAGES", .right = true},
    {"CONTAINERS", .right = true},
    {"STATE"},
};

static void add_layer(struct ld_table *t, const cJSON *layer, const struct ld_row_ctx *ctx)
{
    ld_cell_id(t, layer, "chain_id", ctx);
    ld_cell_id(t, layer, "parent", ctx);
    ld_cell_age(t, layer, "created_at", ctx);
    ld_cell_size(t, layer, "size");
    ld_cell_count(t, layer, "images");
    ld_cell_count(t, layer, "containers");
    ld_cell_state(t, layer);
}

static int run_ls(struct ld_cli *cli, struct ld_err *err)
{
    static const struct ld_list list = {columns, LD_ARRAY_LEN(columns), "chain_id", add_layer};

    return ld_list_show(cli, "/v1/layers", &list, err);
}

static int show_layer(struct ld_cli *cli, const char *name, struct ld_err *err)
{
    return ld_object_show(cli, LD_KIND_LAYER, name, false, err);
}

static int run_inspect(struct ld_cli *cli, struct ld_err *err)
{
    (void)err;
    return ld_cli_each(cli, show_layer);
}

static int run_files(struct ld_cli *cli, struct ld_err *err)
{
    autobuf struct ld_buf url = LD_URL_INIT;

    if (ld_object_url(LD_KIND_LAYER, ld_args_get(cli->args, 0), "files", &url, err) < 0)
        return -1;
    return ld_changes_show(cli, ld_buf_str(&url), err);
}

static const struct ld_opt list_opts[] = {LD_OPT_QUIET, LD_OPT_WHOLE, LD_OPT_FORMAT};
static const struct ld_opt show_opts[] = {LD_OPT_FORMAT};

static const struct ld_cmd cmds[] = {
    {
        .name = "layer ls",
        .aliases = {"layers", "layer list"},
        .operands = "",
        .summary = "List committed layers",
        .opts = LD_CMD_OPTS(list_opts),
        .run = run_ls,
    },
    {
        .name = "layer inspect",
        .operands = "CHAIN...",
        .min_operands = 1,
        .max_operands = LD_OPERANDS_MANY,
        .complete = "layer",
        .summary = "Show all about layers, and who uses them",
        .details = "CHAIN is a chain ID or a unique beginning of its digits. Prints a JSON "
                   "document per layer.",
        .opts = LD_CMD_OPTS(show_opts),
        .run = run_inspect,
    },
    {
        .name = "layer files",
        .operands = "CHAIN",
        .min_operands = 1,
        .max_operands = 1,
        .complete = "layer",
        .summary = "Show what a layer adds, changes and deletes",
        .details = "A added, C changed, D deleted, against the layers below it.",
        .opts = LD_CMD_OPTS(show_opts),
        .run = run_files,
    },
};

const struct ld_cmd_group ld_cmds_layer = {"layer", "Committed layers: read-only and shared", cmds,
                                           LD_ARRAY_LEN(cmds)};
