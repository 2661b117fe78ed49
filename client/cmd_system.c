/* layerctl system …: see layerctl(1). */
#include <stdio.h>
#include <string.h>

#include "client/api.h"
#include "client/cmd.h"
#include "client/list.h"
#include "client/object.h"
#include "client/out.h"
#include "client/text.h"
#include "daemon/base/err.h"
#include "daemon/base/mem.h"

static const struct ld_opt show_opts[] = {LD_OPT_FORMAT};

/* version */

static int run_version(struct ld_cli *cli, struct ld_err *err)
{
    autojson cJSON *api = NULL;
    autojson cJSON *both = NULL;

    if (ld_api_json(cli, "GET", "/v1", NULL, &api, err) < 0) {
        if (!ld_cli_wants_json(cli))
            (void)printf("layerctl  %s\n", LD_VERSION);
        return -1;
    }
    if (ld_cli_wants_json(cli)) {
        both = cJSON_CreateObject();
        (void)cJSON_AddStringToObject(both, "client", LD_VERSION);
        (void)cJSON_AddItemToObject(both, "server", ld_steal(&api));
        ld_out_compact_json(both);
        return 0;
    }
    (void)printf("layerctl  %s\nlayerd    ", LD_VERSION);
    ld_out_styled(cli, LD_STYLE_PLAIN, ld_field_str(api, "version"));
    (void)fputs("\napi       ", stdout);
    ld_out_line(ld_field_str(api, "api"));
    return 0;
}

/* info */

static void print_pair(const struct ld_cli *cli, const char *label, const char *text)
{
    (void)printf("%-14s  ", label);
    ld_out_styled(cli, LD_STYLE_PLAIN, text);
    (void)putchar('\n');
}

static void print_driver(const struct ld_cli *cli, const char *label, const cJSON *driver)
{
    bool usable = ld_field_bool(driver, "usable");

    (void)printf("%-14s  ", label);
    ld_out_styled(cli, usable ? LD_STYLE_GOOD : LD_STYLE_BAD, ld_field_str(driver, "name"));
    if (ld_field_bool(driver, "default"))
        (void)fputs(" (default)", stdout);
    if (!usable) {
        (void)fputs(" not usable: ", stdout);
        ld_out_styled(cli, LD_STYLE_PLAIN, ld_field_str(driver, "reason"));
    }
    if (ld_field_has(driver, "hint")) {
        (void)fputs("; ", stdout);
        ld_out_styled(cli, LD_STYLE_CARE, ld_field_str(driver, "hint"));
    }
    (void)putchar('\n');
}

static void print_drivers(const struct ld_cli *cli, const char *label, const cJSON *list)
{
    const cJSON *item;

    cJSON_ArrayForEach (item, list) {
        print_driver(cli, label, item);
        label = "";
    }
}

static void print_counts(const cJSON *counts)
{
    static const char *const names[] = {"images", "layers", "containers", "volumes"};
    bool first = true;

    (void)printf("%-14s  ", "objects");
    for (size_t i = 0; i < LD_ARRAY_LEN(names); i++, first = false)
        (void)printf("%s%s %llu", first ? "" : ", ", names[i],
                     (unsigned long long)ld_field_u64(counts, names[i]));
    (void)printf("; mounted %llu, jobs running %llu\n",
                 (unsigned long long)ld_field_u64(counts, "mounted"),
                 (unsigned long long)ld_field_u64(counts, "jobs_running"));
}

static int run_info(struct ld_cli *cli, struct ld_err *err)
{
    autojson cJSON *info = NULL;
    autofree char *storage = NULL;
    const cJSON *disk, *paths, *item;

    if (ld_object_get(cli, "/v1/info", &info, err) < 0)
        return -1;
    if (!info)
        return 0;
    disk = ld_field_get(info, "storage");
    paths = ld_field_get(info, "paths");
    storage = ld_asprintf("%s, %s free of %s", ld_field_str(disk, "filesystem"),
                          ld_text_size(ld_field_u64(disk, "available")).text,
                          ld_text_size(ld_field_u64(disk, "size")).text);
    print_pair(cli, "layerd", ld_field_str(info, "version"));
    print_pair(cli, "started", ld_text_whole_seconds(ld_field_str(info, "started_at")).text);
    print_pair(cli, "kernel", ld_field_str(info, "kernel"));
    print_pair(cli, "architecture", ld_field_str(info, "architecture"));
    print_drivers(cli, "drivers", ld_field_get(info, "drivers"));
    print_drivers(cli, "backings", ld_field_get(info, "backings"));
    print_counts(ld_field_get(info, "counts"));
    print_pair(cli, "storage", storage);
    print_pair(cli, "data root", ld_field_str(paths, "data_root"));
    print_pair(cli, "mounts", ld_field_str(paths, "mounts"));
    if (ld_field_has(paths, "socket"))
        print_pair(cli, "socket", ld_field_str(paths, "socket"));
    cJSON_ArrayForEach (item, ld_field_get(info, "warnings")) {
        (void)printf("%-14s  ", "warning");
        ld_out_styled(cli, LD_STYLE_CARE, item->valuestring ? item->valuestring : "");
        (void)putchar('\n');
    }
    return 0;
}

/* df */

static const struct ld_column df_columns[] = {
    {"TYPE"},
    {"COUNT", .right = true},
    {"SIZE", .right = true},
    {"INODES", .right = true},
};

static void add_usage(struct ld_table *t, const char *label, const cJSON *usage)
{
    ld_table_add(t, label);
    if (ld_field_has(usage, "count"))
        ld_cell_count(t, usage, "count");
    else
        ld_table_add(t, "");
    ld_cell_size(t, usage, "bytes");
    if (ld_field_has(usage, "inodes"))
        ld_cell_count(t, usage, "inodes");
    else
        ld_table_add(t, "");
}

static void add_share(struct ld_table *t, const char *label, const cJSON *layers, const char *name)
{
    ld_table_add_styled(t, label, LD_STYLE_FAINT);
    ld_table_add(t, "");
    ld_cell_size(t, layers, name);
    ld_table_add(t, "");
}

static const struct ld_column df_image_columns[] = {
    {"REFERENCE", .shrinks = true}, {"IMAGE ID"},
    {"SIZE", .right = true},        {"SHARED", .right = true},
    {"UNIQUE", .right = true},      {"CONTAINERS", .right = true},
};

static void print_df_images(const struct ld_cli *cli, const cJSON *images)
{
    autotable struct ld_table *t = ld_table_new(df_image_columns, LD_ARRAY_LEN(df_image_columns));
    const cJSON *image;

    cJSON_ArrayForEach (image, images) {
        autobuf struct ld_buf names = LD_BUF_INIT(1 << 20);
        const cJSON *ref;

        cJSON_ArrayForEach (ref, ld_field_get(image, "refs"))
            ld_buf_addf(&names, "%s%s", names.len ? ", " : "",
                        ref->valuestring ? ref->valuestring : "");
        ld_table_add(t, names.len ? ld_buf_str(&names) : "<none>");
        ld_table_add(t, ld_text_short_id(ld_field_str(image, "id")).text);
        ld_cell_size(t, image, "size");
        ld_cell_size(t, image, "shared");
        ld_cell_size(t, image, "unique");
        ld_cell_count(t, image, "containers");
    }
    (void)putchar('\n');
    ld_out_table(cli, t, false);
}

static void print_surprises(const cJSON *layers)
{
    const cJSON *layer;

    cJSON_ArrayForEach (layer, layers) {
        const cJSON *found = ld_field_get(layer, "found"),
                    *recorded = ld_field_get(layer, "recorded");

        (void)printf("layer %s: %llu bytes in %llu inodes, recorded are %llu in %llu\n",
                     ld_field_has(layer, "chain_id") ? ld_field_str(layer, "chain_id")
                                                     : "of a snapshot",
                     (unsigned long long)ld_field_u64(found, "bytes"),
                     (unsigned long long)ld_field_u64(found, "inodes"),
                     (unsigned long long)ld_field_u64(recorded, "bytes"),
                     (unsigned long long)ld_field_u64(recorded, "inodes"));
    }
}

static int run_df(struct ld_cli *cli, struct ld_err *err)
{
    static const struct {
        const char *label, *name;
    } rows[] = {
        {"writable layers", "writable_layers"},
        {"volumes", "volumes"},
        {"trash", "trash"},
        {"quarantine", "quarantine"},
        {"staging", "staging"},
        {"kept blobs", "blobs"},
        {"other", "other"},
        {"total", "total"},
    };
    autotable struct ld_table *t = ld_table_new(df_columns, LD_ARRAY_LEN(df_columns));
    autojson cJSON *df = NULL;
    const cJSON *layers, *verified;

    if (ld_object_get(cli, ld_args_flag(cli->args, "verify") ? "/v1/df?verify=1" : "/v1/df", &df,
                      err) < 0)
        return -1;
    if (!df)
        return 0;
    layers = ld_field_get(df, "layers");
    add_usage(t, "layers", layers);
    add_share(t, "  of several images", layers, "shared");
    add_share(t, "  of one image", layers, "unique");
    add_share(t, "  of none", layers, "unused");
    for (size_t i = 0; i < LD_ARRAY_LEN(rows); i++)
        add_usage(t, rows[i].label, ld_field_get(df, rows[i].name));
    verified = ld_field_get(df, "verified");
    if (verified) {
        add_usage(t, "found on the disk", verified);
        add_usage(t, "  of that unknown", ld_field_get(verified, "unknown"));
    }
    ld_out_table(cli, t, true);
    if (verified)
        print_surprises(ld_field_get(verified, "layers"));
    if (ld_args_flag(cli->args, "images"))
        print_df_images(cli, ld_field_get(df, "images"));
    return 0;
}

static const struct ld_opt df_opts[] = {
    {"images", 'i', NULL, false, "each image, too: what it shares and what is its own", NULL},
    {"verify", 0, NULL, false, "hold the records against the disk, too: every layer is walked",
     NULL},
    LD_OPT_FORMAT,
};

/* metrics */

static int run_metrics(struct ld_cli *cli, struct ld_err *err)
{
    autoreply struct ld_http_reply reply = LD_HTTP_REPLY_INIT;
    const char *text;
    size_t len;

    if (ld_api_send(cli, "GET", "/v1/metrics", NULL, &reply, err) < 0)
        return -1;
    text = ld_buf_str(&reply.body);
    len = reply.body.len;
    ld_out_raw_json(text, len > 0 && text[len - 1] == '\n' ? len - 1 : len); /* adds the line end */
    return 0;
}

/* events */

static void print_attributes(const cJSON *attributes)
{
    const cJSON *item;

    cJSON_ArrayForEach (item, attributes) {
        autofree char *key = ld_text_safe(item->string);
        char *json = cJSON_IsString(item) ? NULL : cJSON_PrintUnformatted(item);
        autofree char *value = ld_text_safe(json                ? json
                                            : item->valuestring ? item->valuestring
                                                                : "");

        (void)printf("  %s=%s", key, value);
        cJSON_free(json);
    }
}

/* 2026-11-25T10:15:30Z  container.created  web (8f2b6c0d4e9a)  image=debian:12 */
static void print_event(const struct ld_cli *cli, const cJSON *event)
{
    const cJSON *object = ld_field_get(event, "object");
    const cJSON *actor = ld_field_get(event, "actor"); /* null: the daemon itself */
    struct ld_text id = ld_text_short_id(ld_field_str(object, "id"));
    autofree char *type = ld_text_safe(ld_field_str(event, "type"));
    autofree char *safe_id = ld_text_safe(id.text);

    (void)printf("%6llu  ", (unsigned long long)ld_field_u64(event, "id"));
    ld_out_styled(cli, LD_STYLE_FAINT, ld_text_whole_seconds(ld_field_str(event, "time")).text);
    (void)printf("  %-19s  ", type);
    if (ld_field_has(object, "name")) {
        ld_out_styled(cli, LD_STYLE_HEAD, ld_field_str(object, "name"));
        (void)printf(" (%s)", safe_id);
    } else {
        (void)fputs(safe_id, stdout);
    }
    if (cJSON_IsObject(actor))
        (void)printf("  by uid %llu, pid %llu", (unsigned long long)ld_field_u64(actor, "uid"),
                     (unsigned long long)ld_field_u64(actor, "pid"));
    print_attributes(ld_field_get(event, "attributes"));
    (void)putchar('\n');
}

static int on_event(void *arg, const char *line, size_t len, struct ld_err *err)
{
    struct ld_cli *cli = arg;
    autojson cJSON *event = cJSON_ParseWithLength(line, len);
    const cJSON *gap = ld_field_get(event, "gap");

    if (!event)
        return ld_err_set(err, LD_E_IO, "an event is not valid JSON");
    if (ld_cli_wants_json(cli))
        ld_out_raw_json(line, len);
    else if (gap)
        (void)printf("(events %llu to %llu are no longer kept)\n",
                     (unsigned long long)ld_field_u64(gap, "from"),
                     (unsigned long long)ld_field_u64(gap, "to"));
    else
        print_event(cli, event);
    (void)fflush(stdout); /* whoever follows wants each event now; main looks for errors */
    return ferror(stdout) ? ld_err_set(err, LD_E_IO, "cannot write to standard output") : 0;
}

static int run_events(struct ld_cli *cli, struct ld_err *err)
{
    autobuf struct ld_buf url = LD_URL_INIT;
    autoreply struct ld_http_reply reply = LD_HTTP_REPLY_INIT;
    struct ld_lines lines = LD_LINES_INIT(on_event, cli);
    struct ld_http_call call = {.method = "GET", .write = ld_lines_feed, .write_arg = &lines};
    const char *after = ld_args_value(cli->args, "after");
    const char *limit = ld_args_value(cli->args, "limit");
    struct ld_http *http;
    int r;

    ld_buf_adds(&url, "/v1/events");
    if (ld_args_flag(cli->args, "follow"))
        ld_url_query(&url, "follow", "1");
    if (after)
        ld_url_query(&url, "after", after);
    if (limit)
        ld_url_query(&url, "limit", limit);
    ld_list_add_filters(cli, &url);
    call.target = ld_buf_str(&url);
    if (ld_cli_http(cli, &http, err) < 0)
        return -1;
    r = ld_http_run(http, &call, &reply, err);
    if (r == 0 && lines.pending.len > 0)
        r = on_event(cli, ld_buf_str(&lines.pending), lines.pending.len, err);
    ld_lines_done(&lines);
    return r;
}

static const struct ld_opt events_opts[] = {
    {"follow", 'F', NULL, false, "go on with new ones as they happen", NULL},
    {"after", 0, "ID|latest", false, "only those after this one", NULL},
    {"limit", 0, "N", false, "end after this many", NULL},
    LD_OPT_FILTER,
    LD_OPT_FORMAT,
};

static const struct ld_cmd cmds[] = {
    {
        .name = "system info",
        .aliases = {"info"},
        .operands = "",
        .summary = "Show what the daemon is, can do and holds",
        .opts = LD_CMD_OPTS(show_opts),
        .run = run_info,
    },
    {
        .name = "system df",
        .aliases = {"df"},
        .operands = "",
        .summary = "Show where the bytes are",
        .opts = LD_CMD_OPTS(df_opts),
        .run = run_df,
    },
    {
        .name = "system metrics",
        .aliases = {"metrics"},
        .operands = "",
        .summary = "Print what a monitor wants to know, as OpenMetrics text",
        .run = run_metrics,
    },
    {
        .name = "system events",
        .aliases = {"events"},
        .operands = "",
        .summary = "Show what happened, one event per line",
        .details = "The first column is the event's id: with --after ID nothing is missed. "
                   "Filters: type=GLOB, kind=container|image|snapshot|volume|layer, object=ID, "
                   "name or image. With "
                   "--format json each line is one document.",
        .opts = LD_CMD_OPTS(events_opts),
        .run = run_events,
    },
    {
        .name = "system version",
        .aliases = {"version"},
        .operands = "",
        .summary = "Show the versions of client and daemon",
        .opts = LD_CMD_OPTS(show_opts),
        .run = run_version,
    },
};

const struct ld_cmd_group ld_cmds_system = {"system", "The daemon itself", cmds,
                                            LD_ARRAY_LEN(cmds)};
