/* layerctl container explain and holders: why a container is as it is. See layerctl(1). */
#include <string.h>

#include "client/api.h"
#include "client/cmd.h"
#include "client/list.h"
#include "client/object.h"
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
    cJSON_ArrayForEach (use, ld_json_get(holder, "uses")) {
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

static const struct ld_cmd cmds[] = {
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
