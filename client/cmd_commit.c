/* layerctl commit: see layerctl(1). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "client/api.h"
#include "client/cmd.h"
#include "client/object.h"
#include "client/out.h"
#include "client/progress.h"
#include "daemon/base/err.h"
#include "daemon/base/mem.h"
#include "daemon/base/parse.h"

#define LAST_EPOCH UINT64_C(9214646399) /* the end of 2261: what the daemon takes */

static void add_text(cJSON *body, const char *name, const char *value)
{
    if (value)
        (void)cJSON_AddStringToObject(body, name, value);
}

/* https://reproducible-builds.org/specs/source-date-epoch/ */
static int add_created(cJSON *body, struct ld_err *err)
{
    const char *epoch = getenv("SOURCE_DATE_EPOCH");
    uint64_t seconds;
    time_t time;
    struct tm tm;
    char text[sizeof("2261-01-02T03:04:05Z")];

    if (!epoch || !*epoch)
        return 0;
    if (ld_parse_u64(epoch, 0, LAST_EPOCH, &seconds) < 0)
        return ld_err_set(err, LD_E_INVALID, "SOURCE_DATE_EPOCH='%s' is no time in seconds", epoch);
    time = (time_t)seconds;
    (void)gmtime_r(&time, &tm); /* fails beyond the year 2^31 only */
    (void)strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &tm);
    add_text(body, "created", text);
    return 0;
}

static cJSON *make_body(const struct ld_args *args)
{
    cJSON *body = cJSON_CreateObject();
    cJSON *changes = cJSON_AddArrayToObject(body, "changes");
    const char *line;

    add_text(body, "ref", ld_args_get(args, 1));
    add_text(body, "message", ld_args_value(args, "message"));
    add_text(body, "author", ld_args_value(args, "author"));
    for (size_t i = 0; (line = ld_args_nth(args, "change", i)); i++)
        (void)cJSON_AddItemToArray(changes, cJSON_CreateString(line));
    if (ld_args_flag(args, "squash"))
        (void)cJSON_AddTrueToObject(body, "squash");
    return body;
}

static int send_request(struct ld_cli *cli, struct ld_http_call *call, cJSON **ret,
                        struct ld_err *err)
{
    autoprogress struct ld_progress *progress =
        ld_progress_new(STDERR_FILENO, cli->err_is_terminal);

    return ld_api_long(cli, call, progress, ret, err);
}

static int run_commit(struct ld_cli *cli, struct ld_err *err)
{
    bool detach = ld_args_flag(cli->args, "detach");
    autobuf struct ld_buf url = LD_URL_INIT;
    autojson cJSON *body = make_body(cli->args);
    autojson cJSON *result = NULL;
    autofree char *text = NULL, *once = NULL;
    struct ld_http_call call = {.method = "POST", .headers = {"Content-Type: application/json"}};
    size_t n_headers = 1;

    if (add_created(body, err) < 0)
        return -1;
    text = cJSON_PrintUnformatted(body);
    if (!text)
        return ld_err_set(err, LD_E_UNAVAILABLE, "no memory for the request");
    if (ld_object_url(LD_KIND_CONTAINER, ld_args_get(cli->args, 0), "commit", &url, err) < 0 ||
        ld_api_once_header(cli->args, &once, err) < 0)
        return -1;
    if (once)
        call.headers[n_headers++] = once;
    if (detach)
        call.headers[n_headers++] = "Prefer: respond-async";
    call.target = ld_buf_str(&url);
    call.body = text;
    call.body_len = strlen(text);
    if (send_request(cli, &call, &result, err) < 0)
        return -1;
    if (ld_cli_wants_json(cli))
        ld_out_compact_json(result);
    else
        ld_out_line(ld_field_str(result, detach ? "job" : "id"));
    return 0;
}

static const struct ld_opt commit_opts[] = {
    {"message", 'm', "TEXT", false, "a comment for the image's history", NULL},
    {"author", 'a', "TEXT", false, "who made the image", NULL},
    {"change", 'c', "LINE", true,
     "a change of the image's config as a line of a Dockerfile (may repeat)", NULL},
    {"squash", 0, NULL, false, "one layer of the whole root, without the image's own layers", NULL},
    {"detach", 'd', NULL, false, "print the job's id and let it go on alone", NULL},
    LD_OPT_ONCE,
    LD_OPT_FORMAT,
};

static const struct ld_cmd cmds[] = {
    {
        .name = "container commit",
        .aliases = {"commit"},
        .operands = "CONTAINER [REF]",
        .min_operands = 1,
        .max_operands = 2,
        .complete = "container",
        .summary = "Make an image of what a container has changed and print its id",
        .details =
            "All changes since the container's image become one layer on that image's layers; "
            "what was deleted again is not in it. The container goes on as it is. While a mounted "
            "container is copied it is read-only, and nobody may have a file in it open for "
            "writing.\n"
            "\n"
            "With SOURCE_DATE_EPOCH in the environment the image is made at that time, and nothing "
            "in "
            "its layer is newer: the same changes give the same image.\n"
            "\n"
            "LINE is one of CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL, ONBUILD, STOPSIGNAL, "
            "USER, VOLUME and WORKDIR with its arguments, as in a Dockerfile.",
        .opts = LD_CMD_OPTS(commit_opts),
        .run = run_commit,
    },
};

const struct ld_cmd_group ld_cmds_commit = {"container", NULL, cmds, LD_ARRAY_LEN(cmds)};
