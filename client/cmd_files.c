/* layerctl container …, what is in one: diff, export, cp, cat, files, rm-file; layerctl volume …,
 * the same for the last four. See layerctl(1). */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "client/api.h"
#include "client/cmd.h"
#include "client/contents.h"
#include "client/copy.h"
#include "client/download.h"
#include "client/list.h"
#include "client/object.h"
#include "client/out.h"
#include "client/text.h"
#include "daemon/base/err.h"
#include "daemon/base/mem.h"

/* diff */

static int run_diff(struct ld_cli *cli, struct ld_err *err)
{
    const char *output = ld_args_value(cli->args, "output");
    bool as_tar = ld_args_flag(cli->args, "tar") || output;
    autobuf struct ld_buf url = LD_URL_INIT;

    if (ld_object_url(LD_KIND_CONTAINER, ld_args_get(cli->args, 0), as_tar ? "diff" : "changes",
                      &url, err) < 0)
        return -1;
    return as_tar
               ? ld_download(cli, ld_buf_str(&url), "Accept: application/x-tar", output, true, err)
               : ld_changes_show(cli, ld_buf_str(&url), err);
}

static const struct ld_opt diff_opts[] = {
    {"tar", 't', NULL, false, "the changes themselves, as an OCI layer tar", NULL},
    {"output", 'o', "FILE", false, "write that tar to FILE", "file"},
    LD_OPT_FORMAT,
};

/* export */

static int run_export(struct ld_cli *cli, struct ld_err *err)
{
    autobuf struct ld_buf url = LD_URL_INIT;

    if (ld_object_url(LD_KIND_CONTAINER, ld_args_get(cli->args, 0), "export", &url, err) < 0)
        return -1;
    return ld_download(cli, ld_buf_str(&url), "Accept: application/x-tar",
                       ld_args_value(cli->args, "output"), true, err);
}

static const struct ld_opt export_opts[] = {
    {"output", 'o', "FILE", false, "write to FILE instead of standard output", "file"},
};

/* cp */

/* What a name without '@' is of: that which the command is about. */
static enum ld_kind kind_of_names(const struct ld_cli *cli)
{
    return strncmp(cli->cmd->name, "volume ", 7) == 0 ? LD_KIND_VOLUME : LD_KIND_CONTAINER;
}

static int run_cp(struct ld_cli *cli, struct ld_err *err)
{
    autoplace struct ld_place from = {0};
    autoplace struct ld_place to = {0};
    struct ld_copy copy = {
        .from = &from,
        .to = &to,
        .owners = ld_args_flag(cli->args, "archive"),
        .follow = ld_args_flag(cli->args, "follow-link"),
        .quiet = ld_args_flag(cli->args, "quiet"),
    };

    ld_place_parse(ld_args_get(cli->args, 0), kind_of_names(cli), &from);
    ld_place_parse(ld_args_get(cli->args, 1), kind_of_names(cli), &to);
    return ld_copy_run(cli, &copy, err);
}

static const struct ld_opt cp_opts[] = {
    {"archive", 'a', NULL, false, "keep owners (default: root inside, you outside)", NULL},
    {"follow-link", 'L', NULL, false, "follow a symlink named as the source", NULL},
    {"quiet", 'q', NULL, false, "no progress", NULL},
};

/* cat, files, rm-file */

static int parse_place(const struct ld_cli *cli, const char *text, struct ld_place *ret,
                       struct ld_buf *url, struct ld_err *err)
{
    enum ld_kind kind = kind_of_names(cli);

    ld_place_parse(text, kind, ret);
    if (!ret->owner)
        return ld_err_set(err, LD_E_INVALID, "'%s' is not of the form %s:PATH", text,
                          kind == LD_KIND_VOLUME ? "VOLUME" : "CONTAINER");
    return ld_file_url(ret, ret->path, url, err);
}

static int cat_one(struct ld_cli *cli, const char *operand, struct ld_err *err)
{
    autoplace struct ld_place place = {0};
    autobuf struct ld_buf url = LD_URL_INIT;

    if (parse_place(cli, operand, &place, &url, err) < 0)
        return -1;
    return ld_download(cli, ld_buf_str(&url), "Accept: application/octet-stream", "-", false, err);
}

static int run_cat(struct ld_cli *cli, struct ld_err *err)
{
    (void)err;
    return ld_cli_each(cli, cat_one);
}

static int run_files(struct ld_cli *cli, struct ld_err *err)
{
    autoplace struct ld_place place = {0};
    autobuf struct ld_buf url = LD_URL_INIT;

    if (parse_place(cli, ld_args_get(cli->args, 0), &place, &url, err) < 0)
        return -1;
    return ld_files_show(cli, ld_buf_str(&url), "name", err);
}

static const struct ld_opt files_opts[] = {LD_OPT_QUIET, LD_OPT_WHOLE, LD_OPT_FORMAT};

static int remove_file(struct ld_cli *cli, const char *operand, struct ld_err *err)
{
    autoplace struct ld_place place = {0};
    autobuf struct ld_buf url = LD_URL_INIT;

    if (parse_place(cli, operand, &place, &url, err) < 0)
        return -1;
    if (ld_args_flag(cli->args, "recursive"))
        ld_url_query(&url, "recursive", "1");
    return ld_api_json(cli, "DELETE", ld_buf_str(&url), NULL, NULL, err);
}

static int run_rm_file(struct ld_cli *cli, struct ld_err *err)
{
    (void)err;
    return ld_cli_each(cli, remove_file);
}

static const struct ld_opt rm_file_opts[] = {
    {"recursive", 'r', NULL, false, "directories with all that is in them", NULL},
};

static const struct ld_cmd cmds[] = {
    {
        .name = "container diff",
        .aliases = {"diff", "container changes"},
        .operands = "CONTAINER",
        .min_operands = 1,
        .max_operands = 1,
        .complete = "container",
        .summary = "Show what differs from the image",
        .details = "A added, C changed, D deleted. Exact: attributes and content decide, a file "
                   "that was only "
                   "read is none. Volumes are not looked at.",
        .opts = LD_CMD_OPTS(diff_opts),
        .run = run_diff,
    },
    {
        .name = "container export",
        .aliases = {"export"},
        .operands = "CONTAINER",
        .min_operands = 1,
        .max_operands = 1,
        .complete = "container",
        .summary = "Write a container's whole root as a tar",
        .details = "Without the content of volumes.",
        .opts = LD_CMD_OPTS(export_opts),
        .run = run_export,
    },
    {
        .name = "container cp",
        .aliases = {"cp"},
        .operands = "CONTAINER:PATH|PATH|- PATH|CONTAINER:PATH|-",
        .min_operands = 2,
        .max_operands = 2,
        .complete = "container-file",
        .summary = "Copy files and trees into and out of a container or volume",
        .details =
            "As cp -r: into a directory that is there under its own name, else under the name "
            "given; a source "
            "that ends in /. stands for what the directory holds. - is a tar: from standard input "
            "into a directory of the container, or to standard output. Modes and times are kept. "
            "The container's "
            "volumes are seen; it need not be mounted. @VOLUME:PATH is in a volume, here and "
            "wherever CONTAINER:PATH is.",
        .opts = LD_CMD_OPTS(cp_opts),
        .run = run_cp,
    },
    {
        .name = "container cat",
        .aliases = {"cat"},
        .operands = "CONTAINER:PATH...",
        .min_operands = 1,
        .max_operands = LD_OPERANDS_MANY,
        .complete = "container-file",
        .summary = "Print files of a container",
        .run = run_cat,
    },
    {
        .name = "container files",
        .aliases = {"files"},
        .operands = "CONTAINER:PATH",
        .min_operands = 1,
        .max_operands = 1,
        .complete = "container-file",
        .summary = "List a directory of a container",
        .opts = LD_CMD_OPTS(files_opts),
        .run = run_files,
    },
    {
        .name = "container rm-file",
        .operands = "CONTAINER:PATH...",
        .min_operands = 1,
        .max_operands = LD_OPERANDS_MANY,
        .complete = "container-file",
        .summary = "Delete files of a container",
        .details = "A symlink is deleted itself, never what it points to.",
        .opts = LD_CMD_OPTS(rm_file_opts),
        .run = run_rm_file,
    },
};

static const struct ld_cmd volume_cmds[] = {
    {
        .name = "volume cp",
        .operands = "VOLUME:PATH|PATH|- PATH|VOLUME:PATH|-",
        .min_operands = 2,
        .max_operands = 2,
        .complete = "volume-file",
        .summary = "Copy files and trees into and out of a volume",
        .details = "As layerctl container cp, where a volume is @VOLUME:PATH. Containers that have "
                   "the volume mounted see the change at once.",
        .opts = LD_CMD_OPTS(cp_opts),
        .run = run_cp,
    },
    {
        .name = "volume cat",
        .operands = "VOLUME:PATH...",
        .min_operands = 1,
        .max_operands = LD_OPERANDS_MANY,
        .complete = "volume-file",
        .summary = "Print files of a volume",
        .run = run_cat,
    },
    {
        .name = "volume files",
        .operands = "VOLUME:PATH",
        .min_operands = 1,
        .max_operands = 1,
        .complete = "volume-file",
        .summary = "List a directory of a volume",
        .opts = LD_CMD_OPTS(files_opts),
        .run = run_files,
    },
    {
        .name = "volume rm-file",
        .operands = "VOLUME:PATH...",
        .min_operands = 1,
        .max_operands = LD_OPERANDS_MANY,
        .complete = "volume-file",
        .summary = "Delete files of a volume",
        .details = "A symlink is deleted itself, never what it points to.",
        .opts = LD_CMD_OPTS(rm_file_opts),
        .run = run_rm_file,
    },
};

const struct ld_cmd_group ld_cmds_volume_files = {"volume", NULL, volume_cmds,
                                                  LD_ARRAY_LEN(volume_cmds)};
const struct ld_cmd_group ld_cmds_files = {"container", NULL, cmds, LD_ARRAY_LEN(cmds)};
