/* layerctl job …: see layerctl(1). */
#include <stdio.h>
#include <string.h>

#include "client/api.h"
#include "client/cmd.h"
#include "client/list.h"
#include "client/object.h"
#include "client/out.h"
#include "client/progress.h"
#include "client/text.h"
#include "daemon/base/err.h"

static const struct ld_column columns[] = {
    {"JOB ID"}, {"KIND"}, {"STATE"}, {"CREATED"}, {"PROGRESS"}, {"ERROR", .shrinks = true},
};

static void add_job(struct ld_table *t, const cJSON *job, const struct ld_row_ctx *ctx)
{
    const cJSON *progress = ld_field_get(job, "progress");
    autobuf struct ld_buf text = LD_BUF_INIT(4096);

    ld_cell_id(t, job, "id", ctx);
    ld_cell_str(t, job, "kind");
    ld_cell_state(t, job);
    ld_cell_age(t, job, "created_at", ctx);
    if (progress)
        ld_buf_addf(&text, "%s %s", ld_field_str(progress, "phase"),
                    ld_text_size(ld_field_u64(progress, "current")).text);
    if (ld_field_has(progress, "total"))
        ld_buf_addf(&text, " / %s", ld_text_size(ld_field_u64(progress, "total")).text);
    ld_table_add(t, ld_buf_str(&text));
    ld_cell_str(t, ld_field_get(job, "error"), "message");
}

static int run_ls(struct ld_cli *cli, struct ld_err *err)
{
    static const struct ld_list list = {columns, LD_ARRAY_LEN(columns), "id", add_job};
    autobuf struct ld_buf url = LD_URL_INIT;

    ld_buf_adds(&url, "/v1/jobs");
    ld_list_add_filters(cli, &url);
    return ld_list_show(cli, ld_buf_str(&url), &list, err);
}

static int show_job(struct ld_cli *cli, const char *name, struct ld_err *err)
{
    return ld_object_show(cli, LD_KIND_JOB, name, false, err);
}

static int run_inspect(struct ld_cli *cli, struct ld_err *err)
{
    (void)err;
    return ld_cli_each(cli, show_job);
}

/* Asks again and again, each time for as long as a proxy or a person may lose patience. */
static int wait_job(struct ld_cli *cli, const char *name, struct ld_err *err)
{
    autobuf struct ld_buf url = LD_URL_INIT;
    autoprogress struct ld_progress *progress =
        ld_progress_new(STDERR_FILENO, cli->err_is_terminal);

    if (ld_object_url(LD_KIND_JOB, name, NULL, &url, err) < 0)
        return -1;
    ld_url_query(&url, "wait", cli->err_is_terminal ? "1s" : "30s");
    for (;;) {
        autojson cJSON *job = NULL;
        const cJSON *now;
        const char *state;

        if (ld_api_json(cli, "GET", ld_buf_str(&url), NULL, &job, err) < 0)
            return -1;
        state = ld_field_str(job, "state");
        now = ld_field_get(job, "progress");
        if (strcmp(state, "running") == 0) {
            ld_api_show_progress(progress, now);
            continue;
        }
        ld_progress_clear(progress);
        if (ld_field_has(job, "error")) {
            char *text = cJSON_PrintUnformatted(job);

            (void)ld_http_error(500, text ? text : "", text ? strlen(text) : 0, err);
            cJSON_free(text);
            return ld_err_prefix(err, "job '%s' %s", name, state);
        }
        ld_out_line(state);
        return 0;
    }
}

static int run_wait(struct ld_cli *cli, struct ld_err *err)
{
    (void)err;
    return ld_cli_each(cli, wait_job);
}

static int cancel_job(struct ld_cli *cli, const char *name, struct ld_err *err)
{
    autobuf struct ld_buf url = LD_URL_INIT;

    if (ld_object_url(LD_KIND_JOB, name, NULL, &url, err) < 0 ||
        ld_api_json(cli, "DELETE", ld_buf_str(&url), NULL, NULL, err) < 0)
        return -1;
    ld_out_line(name);
    return 0;
}

static int run_cancel(struct ld_cli *cli, struct ld_err *err)
{
    (void)err;
    return ld_cli_each(cli, cancel_job);
}

static const struct ld_opt list_opts[] = {LD_OPT_FILTER, LD_OPT_QUIET, LD_OPT_WHOLE, LD_OPT_FORMAT};
static const struct ld_opt show_opts[] = {LD_OPT_FORMAT};

static const struct ld_cmd cmds[] = {
    {
        .name = "job ls",
        .aliases = {"jobs", "job list"},
        .operands = "",
        .summary = "List jobs: long work, kept over restarts",
        .details = "Filters: state=running|done|failed|canceled|interrupted, "
                   "kind=image.import|volume.import.",
        .opts = LD_CMD_OPTS(list_opts),
        .run = run_ls,
    },
    {
        .name = "job show",
        .aliases = {"job inspect"},
        .operands = "JOB...",
        .min_operands = 1,
        .max_operands = LD_OPERANDS_MANY,
        .complete = "job",
        .summary = "Show all about jobs",
        .details = "Prints a JSON document per job, with its result or error.",
        .opts = LD_CMD_OPTS(show_opts),
        .run = run_inspect,
    },
    {
        .name = "job wait",
        .operands = "JOB...",
        .min_operands = 1,
        .max_operands = LD_OPERANDS_MANY,
        .complete = "job",
        .summary = "Wait until jobs have ended",
        .details = "Prints the state; fails as the job failed.",
        .run = run_wait,
    },
    {
        .name = "job cancel",
        .operands = "JOB...",
        .min_operands = 1,
        .max_operands = LD_OPERANDS_MANY,
        .complete = "job",
        .summary = "Cancel jobs",
        .details = "They end as soon as they can and leave nothing half made.",
        .run = run_cancel,
    },
};

const struct ld_cmd_group ld_cmds_job = {"job", "Long work", cmds, LD_ARRAY_LEN(cmds)};
