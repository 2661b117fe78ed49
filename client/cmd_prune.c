/* layerctl image|container|volume|system prune: see layerctl(1). */
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "client/api.h"
#include "client/cmd.h"
#include "client/dry_run.h"
#include "client/list.h"
#include "client/out.h"
#include "client/progress.h"
#include "client/text.h"
#include "daemon/base/err.h"
#include "daemon/base/mem.h"

/* ---- asking ---- */

/* Yes or no from standard input; its end is no answer. */
static int confirm(struct ld_cli *cli, const char *what, struct ld_err *err)
{
    char answer[16];
    size_t len;

    if (ld_args_flag(cli->args, "force") || ld_args_flag(cli->args, "dry-run"))
        return 0;
    (void)fprintf(stderr, "This removes %s.\nGo on? [y/N] ", what);
    (void)fflush(stderr);
    if (!fgets(answer, sizeof(answer), stdin)) {
        (void)fputc('\n', stderr);
        (void)ld_err_set(err, LD_E_INVALID, "nobody answered: nothing was removed");
        return ld_err_hint(err, "with --force nobody is asked");
    }
    len = strcspn(answer, "\r\n");
    answer[len] = '\0';
    if (strcasecmp(answer, "y") != 0 && strcasecmp(answer, "yes") != 0)
        return ld_err_set(err, LD_E_CANCELED, "nothing was removed");
    return 0;
}

/* ---- one request ---- */

static int send_request(struct ld_cli *cli, const struct ld_buf *url, cJSON **ret,
                        struct ld_err *err)
{
    autoprogress struct ld_progress *progress =
        ld_progress_new(STDERR_FILENO, cli->err_is_terminal);
    struct ld_http_call call = {.method = "POST", .target = ld_buf_str(url)};

    return ld_api_long(cli, &call, progress, ret, err);
}

static void report_failures(struct ld_cli *cli, const cJSON *reply)
{
    const cJSON *item;

    cJSON_ArrayForEach (item, ld_field_get(reply, "failed")) {
        struct ld_err why = LD_ERR_INIT;

        (void)ld_err_set(&why, LD_E_IO, "%s %s: %s", ld_field_str(item, "kind"),
                         ld_field_has(item, "name") ? ld_field_str(item, "name")
                                                    : ld_field_str(item, "id"),
                         ld_field_str(item, "message"));
        ld_cli_report(cli, &why);
    }
}

static void print_removed(const cJSON *reply)
{
    uint64_t in_trash = ld_field_u64(reply, "trash_bytes");
    const cJSON *item;

    cJSON_ArrayForEach (item, ld_field_get(reply, "removed")) {
        autofree char *name = ld_text_safe(ld_field_str(item, "name"));
        const char *kind = ld_field_str(item, "kind");

        if (strcmp(kind, "layer") == 0)
            continue; /* nobody knows them by name: they count */
        (void)printf("removed %s %s\n", kind,
                     *name ? name : ld_text_short_id(ld_field_str(item, "id")).text);
    }
    (void)printf("%s, %s in all",
                 ld_text_count(ld_field_u64(reply, "objects"), "object", "objects").text,
                 ld_text_size(ld_field_u64(reply, "bytes")).text);
    if (in_trash)
        (void)printf("; %s of that stay in the trash for a while", ld_text_size(in_trash).text);
    (void)putchar('\n');
}

/* Removes, or looks; prints it unless ret is given. */
static int prune(struct ld_cli *cli, struct ld_buf *url, cJSON **ret, struct ld_err *err)
{
    bool is_dry = ld_dry_run_query(cli, url);
    autojson cJSON *reply = NULL;

    ld_list_add_filters(cli, url);
    if (send_request(cli, url, &reply, err) < 0)
        return -1;
    if (ret)
        *ret = cJSON_Duplicate(reply, true);
    else if (is_dry)
        ld_dry_run_print(reply);
    else
        print_removed(reply);
    report_failures(cli, reply);
    return 0;
}

static int prune_kind(struct ld_cli *cli, struct ld_buf *url, const char *what, struct ld_err *err)
{
    autojson cJSON *reply = NULL;

    if (confirm(cli, what, err) < 0 ||
        prune(cli, url, ld_cli_wants_json(cli) ? &reply : NULL, err) < 0)
        return -1;
    if (reply)
        ld_out_compact_json(reply);
    return 0;
}

/* ---- the commands ---- */

static void images_url(bool all, struct ld_buf *url)
{
    ld_buf_adds(url, "/v1/images/prune");
    if (all)
        ld_url_query(url, "filter", "dangling=0");
}

static int run_image(struct ld_cli *cli, struct ld_err *err)
{
    bool all = ld_args_flag(cli->args, "all");
    autobuf struct ld_buf url = LD_URL_INIT;

    images_url(all, &url);
    if (ld_args_flag(cli->args, "purge"))
        ld_url_query(&url, "purge", "1");
    return prune_kind(cli, &url,
                      all ? "all images that no container was made of"
                          : "all images without a name that no container was made of",
                      err);
}

static int run_container(struct ld_cli *cli, struct ld_err *err)
{
    autobuf struct ld_buf url = LD_URL_INIT;

    ld_buf_adds(&url, "/v1/containers/prune");
    if (ld_args_flag(cli->args, "volumes"))
        ld_url_query(&url, "volumes", "1");
    if (ld_args_flag(cli->args, "purge"))
        ld_url_query(&url, "purge", "1");
    return prune_kind(cli, &url, "all containers that are not mounted, with their snapshots", err);
}

static int run_volume(struct ld_cli *cli, struct ld_err *err)
{
    bool all = ld_args_flag(cli->args, "all");
    autobuf struct ld_buf url = LD_URL_INIT;

    ld_buf_adds(&url, "/v1/volumes/prune");
    if (all)
        ld_url_query(&url, "all", "1");
    if (ld_args_flag(cli->args, "purge"))
        ld_url_query(&url, "purge", "1");
    return prune_kind(cli, &url,
                      all ? "all volumes that no container uses"
                          : "all anonymous volumes that no container uses",
                      err);
}

static void print_heading(const struct ld_cli *cli, const char *text)
{
    ld_out_styled(cli, LD_STYLE_HEAD, text);
    (void)putchar('\n');
}

/* In this order: what goes first makes the next ones unused. */
static int run_system(struct ld_cli *cli, struct ld_err *err)
{
    bool with_volumes = ld_args_flag(cli->args, "volumes");
    bool all = ld_args_flag(cli->args, "all");
    autofree char *what = ld_asprintf(
        "all containers that are not mounted, with their snapshots%s, and all images%s that no "
        "container was made of",
        with_volumes ? ", all anonymous volumes that no container uses" : "",
        all ? "" : " without a name");
    autojson cJSON *all_json = cJSON_CreateObject();
    const char *kinds[] = {"containers", "volumes", "images"};

    if (confirm(cli, what, err) < 0)
        return -1;
    for (size_t i = 0; i < LD_ARRAY_LEN(kinds); i++) {
        autobuf struct ld_buf url = LD_URL_INIT;
        cJSON *reply = NULL;

        if (strcmp(kinds[i], "volumes") == 0 && !with_volumes)
            continue;
        if (strcmp(kinds[i], "images") == 0)
            images_url(all, &url);
        else
            ld_buf_addf(&url, "/v1/%s/prune", kinds[i]);
        if (!ld_cli_wants_json(cli))
            print_heading(cli, kinds[i]);
        if (prune(cli, &url, ld_cli_wants_json(cli) ? &reply : NULL, err) < 0)
            return -1;
        if (reply)
            (void)cJSON_AddItemToObject(all_json, kinds[i], reply);
    }
    if (ld_cli_wants_json(cli))
        ld_out_compact_json(all_json);
    return 0;
}

#define OPT_PRUNE_FILTER                                                                           \
    {                                                                                              \
        "filter", 0, "KEY=VALUE", true, "only what matches (may repeat)", NULL                     \
    }
#define OPT_PRUNE_FORCE                                                                            \
    {                                                                                              \
        "force", 'f', NULL, false, "do not ask", NULL                                              \
    }

static const struct ld_opt image_opts[] = {
    {"all", 'a', NULL, false, "those with a name, too", NULL},
    {"purge", 0, NULL, false, "destroy them at once, whatever the trash keeps", NULL},
    OPT_PRUNE_FILTER,
    OPT_PRUNE_FORCE,
    LD_OPT_DRY_RUN,
    LD_OPT_FORMAT,
};

static const struct ld_opt container_opts[] = {
    {"volumes", 'v', NULL, false, "their anonymous volumes, too", NULL},
    {"purge", 0, NULL, false, "destroy their data at once, whatever the trash keeps", NULL},
    OPT_PRUNE_FILTER,
    OPT_PRUNE_FORCE,
    LD_OPT_DRY_RUN,
    LD_OPT_FORMAT,
};

static const struct ld_opt volume_opts[] = {
    {"all", 'a', NULL, false, "those with a name, too", NULL},
    {"purge", 0, NULL, false, "destroy their data at once, whatever the trash keeps", NULL},
    OPT_PRUNE_FILTER,
    OPT_PRUNE_FORCE,
    LD_OPT_DRY_RUN,
    LD_OPT_FORMAT,
};

static const struct ld_opt system_opts[] = {
    {"all", 'a', NULL, false, "images with a name, too", NULL},
    {"volumes", 0, NULL, false, "anonymous volumes, too", NULL},
    OPT_PRUNE_FILTER,
    OPT_PRUNE_FORCE,
    LD_OPT_DRY_RUN,
    LD_OPT_FORMAT,
};

static const struct ld_cmd image_cmds[] = {{
    .name = "image prune",
    .operands = "",
    .summary = "Remove the images that nobody uses",
    .details = "Those without a name that no container was made of; with --all also those with "
               "one. Filters: label=KEY[=VALUE], until=TIME or a duration like 24h.",
    .opts = LD_CMD_OPTS(image_opts),
    .run = run_image,
}};

static const struct ld_cmd container_cmds[] = {{
    .name = "container prune",
    .operands = "",
    .summary = "Remove the containers that are not mounted",
    .details = "With their snapshots. One that is mounted, or held by a process, stays. Filters: "
               "label=KEY[=VALUE], until=TIME or a duration like 24h.",
    .opts = LD_CMD_OPTS(container_opts),
    .run = run_container,
}};

static const struct ld_cmd volume_cmds[] = {{
    .name = "volume prune",
    .operands = "",
    .summary = "Remove the anonymous volumes that no container uses",
    .details = "With --all also those with a name. The trash keeps them for a while. Filters: "
               "label=KEY[=VALUE], until=TIME or a duration like 24h.",
    .opts = LD_CMD_OPTS(volume_opts),
    .run = run_volume,
}};

static const struct ld_cmd system_cmds[] = {{
    .name = "system prune",
    .operands = "",
    .summary = "Remove containers that are not mounted and images that nobody uses",
    .details = "As container prune, then with --volumes volume prune, then image prune. A dry run "
               "looks at each as things are now: images of containers that would go are not "
               "told. The filters hold for all of them.",
    .opts = LD_CMD_OPTS(system_opts),
    .run = run_system,
}};

const struct ld_cmd_group ld_cmds_image_prune = {"image", NULL, image_cmds, 1};
const struct ld_cmd_group ld_cmds_container_prune = {"container", NULL, container_cmds, 1};
const struct ld_cmd_group ld_cmds_volume_prune = {"volume", NULL, volume_cmds, 1};
const struct ld_cmd_group ld_cmds_system_prune = {"system", NULL, system_cmds, 1};
