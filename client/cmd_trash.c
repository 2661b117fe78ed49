/* layerctl trash …: see layerctl(1). */
#include <stdio.h>
#include <string.h>

#include "client/api.h"
#include "client/cmd.h"
#include "client/dry_run.h"
#include "client/list.h"
#include "client/object.h"
#include "client/out.h"
#include "client/text.h"
#include "daemon/base/err.h"
#include "daemon/base/mem.h"

static const struct ld_column columns[] = {
    {"NAME", .shrinks = true}, {"KIND"}, {"ID"}, {"REMOVED"}, {"KEPT UNTIL"},
    {"SIZE", .right = true},
};

static void add_trash(struct ld_table *t, const cJSON *item, const struct ld_row_ctx *ctx)
{
    const char *until = ld_field_str(item, "purge_at");
    /* Whole seconds are enough: 2026-01-02T03:04:05Z. */
    autofree char *seconds = ld_asprintf("%.*sZ", (int)strcspn(until, ".Z"), until);

    ld_cell_str(t, item, "name");
    ld_cell_str(t, item, "kind");
    ld_cell_id(t, item, "id", ctx);
    ld_cell_age(t, item, "removed_at", ctx);
    ld_table_add(t, ld_field_bool(item, "restorable") ? seconds : "being deleted");
    if (ld_field_has(item, "bytes"))
        ld_cell_size(t, item, "bytes");
    else
        ld_table_add(t, "");
}

static int run_ls(struct ld_cli *cli, struct ld_err *err)
{
    static const struct ld_list list = {columns, LD_ARRAY_LEN(columns), "id", add_trash};
    autobuf struct ld_buf url = LD_URL_INIT;

    ld_buf_adds(&url, "/v1/trash");
    if (ld_args_flag(cli->args, "size"))
        ld_url_query(&url, "size", "1");
    ld_list_add_filters(cli, &url);
    return ld_list_show(cli, ld_buf_str(&url), &list, err);
}

static const struct ld_opt list_opts[] = {
    LD_OPT_FILTER, LD_OPT_QUIET,
    LD_OPT_WHOLE,  {"size", 's', NULL, false, "count what they hold", NULL},
    LD_OPT_FORMAT,
};

static int delete_one(struct ld_cli *cli, const char *name, struct ld_err *err)
{
    autobuf struct ld_buf url = LD_URL_INIT;

    if (ld_object_url(LD_KIND_TRASH, name, NULL, &url, err) < 0)
        return -1;
    return ld_remove_at(cli, &url, name, err);
}

static int run_rm(struct ld_cli *cli, struct ld_err *err)
{
    autobuf struct ld_buf url = LD_URL_INIT;
    bool all = ld_args_flag(cli->args, "all");

    if (all == (ld_args_get(cli->args, 0) != NULL))
        return ld_err_set(err, LD_E_INVALID,
                          all ? "--all and names exclude each other"
                              : "say what to delete, or --all");
    if (!all)
        return ld_cli_each(cli, delete_one);
    ld_buf_adds(&url, "/v1/trash");
    return ld_remove_at(cli, &url, NULL, err);
}

/* Names that an image did not get back are no failure. */
static void print_restored(const cJSON *restored)
{
    const cJSON *name;

    ld_out_line(ld_field_str(restored, ld_field_has(restored, "name") ? "name" : "id"));
    cJSON_ArrayForEach (name, ld_field_get(restored, "names_taken")) {
        autofree char *safe = ld_text_safe(cJSON_GetStringValue(name));

        (void)fprintf(stderr, "%s: another image has this name by now\n", safe);
    }
}

static int run_restore(struct ld_cli *cli, struct ld_err *err)
{
    const char *name = ld_args_value(cli->args, "name");
    autobuf struct ld_buf url = LD_URL_INIT;
    autojson cJSON *body = cJSON_CreateObject();
    autojson cJSON *restored = NULL;

    if (name)
        (void)cJSON_AddStringToObject(body, "name", name);
    if (ld_object_url(LD_KIND_TRASH, ld_args_get(cli->args, 0), "restore", &url, err) < 0 ||
        ld_api_json(cli, "POST", ld_buf_str(&url), body, &restored, err) < 0)
        return -1;
    print_restored(restored);
    return 0;
}

static const struct ld_opt restore_opts[] = {
    {"name", 'n', "NAME", false, "under another name", NULL},
};

static const struct ld_opt rm_opts[] = {
    {"all", 'a', NULL, false, "everything in the trash", NULL},
    LD_OPT_DRY_RUN,
};

static const struct ld_cmd cmds[] = {
    {
        .name = "trash ls",
        .aliases = {"trash list"},
        .operands = "",
        .summary = "List what was removed and is not deleted yet",
        .details = "Filters: kind=container, volume, image or layer, name=GLOB.",
        .opts = LD_CMD_OPTS(list_opts),
        .run = run_ls,
    },
    {
        .name = "trash restore",
        .operands = "ID",
        .min_operands = 1,
        .max_operands = 1,
        .complete = "trash",
        .summary = "Bring a removed container, volume or image back and print its name",
        .details = "ID may be a name, when only one in the trash has it. It comes back with its "
                   "id and data, under its name or another. An image gets back those of its names "
                   "that no other has by now.",
        .opts = LD_CMD_OPTS(restore_opts),
        .run = run_restore,
    },
    {
        .name = "trash rm",
        .operands = "[ID...]",
        .max_operands = LD_OPERANDS_MANY,
        .complete = "trash",
        .summary = "Delete what is in the trash now",
        .details = "ID may be a name. It can't be restored any more; the daemon deletes in the "
                   "background, so the space comes back a little later.",
        .opts = LD_CMD_OPTS(rm_opts),
        .run = run_rm,
    },
};

const struct ld_cmd_group ld_cmds_trash = {"trash", "What was removed and is not deleted yet", cmds,
                                           LD_ARRAY_LEN(cmds)};
