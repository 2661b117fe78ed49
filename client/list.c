/* Lists: see list.h. */
#include "client/list.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "client/api.h"
#include "client/out.h"
#include "client/text.h"
#include "daemon/base/err.h"

void ld_list_add_filters(const struct ld_cli *cli, struct ld_buf *url)
{
    const char *filter;

    for (size_t i = 0; (filter = ld_args_nth(cli->args, "filter", i)); i++)
        ld_url_query(url, "filter", filter);
}

int ld_list_show(struct ld_cli *cli, const char *target, const struct ld_list *list,
                 struct ld_err *err)
{
    return ld_list_show_as(cli, target, NULL, list, err);
}

static void print_id(const cJSON *item, const char *name)
{
    const cJSON *id = ld_field_get(item, name);

    if (cJSON_IsNumber(id))
        (void)printf("%llu\n", (unsigned long long)ld_field_u64(item, name));
    else
        ld_out_line(ld_field_str(item, name));
}

int ld_list_show_as(struct ld_cli *cli, const char *target, const char *accept,
                    const struct ld_list *list, struct ld_err *err)
{
    const struct ld_http_call call = {.method = "GET", .target = target, .headers = {accept}};
    struct ld_http *http;
    autoreply struct ld_http_reply reply = LD_HTTP_REPLY_INIT;
    autojson cJSON *doc = NULL;
    autotable struct ld_table *table = NULL;
    struct ld_row_ctx ctx = {.whole = ld_args_flag(cli->args, "no-trunc"), .now = time(NULL)};
    const cJSON *item;

    if (ld_cli_http(cli, &http, err) < 0 || ld_http_run(http, &call, &reply, err) < 0 ||
        ld_api_parse(&reply, &doc, err) < 0)
        return -1;
    if (ld_cli_wants_json(cli)) {
        ld_out_raw_json(ld_buf_str(&reply.body), reply.body.len);
        return 0;
    }
    table = ld_table_new(list->columns, list->n_columns);
    cJSON_ArrayForEach (item, ld_field_get(doc, "items")) {
        if (ld_args_flag(cli->args, "quiet"))
            print_id(item, ld_field_has(item, list->id) ? list->id : "id");
        else
            list->add(table, item, &ctx);
    }
    if (!ld_args_flag(cli->args, "quiet"))
        ld_out_table(cli, table, ctx.whole);
    return 0;
}

void ld_cell_id(struct ld_table *t, const cJSON *item, const char *name,
                const struct ld_row_ctx *ctx)
{
    const char *id = ld_field_str(item, name);

    ld_table_add(t, ctx->whole ? id : ld_text_short_id(id).text);
}

void ld_cell_str(struct ld_table *t, const cJSON *item, const char *name)
{
    ld_table_add(t, ld_field_str(item, name));
}

void ld_cell_size(struct ld_table *t, const cJSON *item, const char *name)
{
    ld_table_add(t, ld_field_has(item, name) ? ld_text_size(ld_field_u64(item, name)).text : "");
}

void ld_cell_count(struct ld_table *t, const cJSON *item, const char *name)
{
    char text[24];

    (void)snprintf(text, sizeof(text), "%llu",
                   (unsigned long long)ld_field_u64(item, name)); /* 20 digits at most */
    ld_table_add(t, text);
}

void ld_cell_age(struct ld_table *t, const cJSON *item, const char *name,
                 const struct ld_row_ctx *ctx)
{
    int64_t then = ld_field_time(item, name);

    ld_table_add(t, then ? ld_text_age(then, ctx->now).text : "");
}

void ld_cell_state(struct ld_table *t, const cJSON *item)
{
    static const struct {
        const char *state;
        enum ld_style style;
    } styles[] = {
        {"mounted", LD_STYLE_GOOD}, {"running", LD_STYLE_GOOD},   {"busy", LD_STYLE_CARE},
        {"damaged", LD_STYLE_BAD},  {"failed", LD_STYLE_BAD},     {"interrupted", LD_STYLE_BAD},
        {"ok", LD_STYLE_PLAIN},     {"canceled", LD_STYLE_FAINT},
    };
    const char *state = ld_field_str(item, "state");

    for (size_t i = 0; i < LD_ARRAY_LEN(styles); i++) {
        if (strcmp(styles[i].state, state) == 0) {
            ld_table_add_styled(t, state, styles[i].style);
            return;
        }
    }
    ld_table_add(t, state);
}
