/* What would be removed: see dry_run.h. */
#include "client/dry_run.h"

#include <stdio.h>
#include <string.h>

#include "client/api.h"
#include "client/http.h"
#include "client/out.h"
#include "client/text.h"
#include "daemon/base/err.h"
#include "daemon/base/mem.h"

bool ld_dry_run_query(const struct ld_cli *cli, struct ld_buf *url)
{
    bool is_given = ld_args_flag(cli->args, "dry-run");

    if (is_given)
        ld_url_query(url, "dry_run", "1");
    return is_given;
}

void ld_dry_run_print(const cJSON *reply)
{
    const cJSON *list = ld_field_get(reply, "would_remove");
    const cJSON *item;

    cJSON_ArrayForEach (item, list) {
        autofree char *name = ld_text_safe(ld_field_str(item, "name"));
        const char *id = ld_field_str(item, "id");

        (void)printf("would remove %s %s", ld_field_str(item, "kind"),
                     *name ? name : ld_text_short_id(id).text);
        if (strcmp(ld_field_str(item, "kind"), "reference") != 0)
            (void)printf(" (%s)", ld_text_size(ld_field_u64(item, "bytes")).text);
        (void)putchar('\n');
    }
    (void)printf("%s, %s in all; nothing was done\n",
                 ld_text_count((uint64_t)cJSON_GetArraySize(list), "object", "objects").text,
                 ld_text_size(ld_field_u64(reply, "bytes")).text);
}

int ld_remove_at(struct ld_cli *cli, struct ld_buf *url, const char *name, struct ld_err *err)
{
    bool is_dry = ld_dry_run_query(cli, url);
    autojson cJSON *what = NULL;

    if (ld_api_json(cli, "DELETE", ld_buf_str(url), NULL, is_dry ? &what : NULL, err) < 0)
        return -1;
    if (is_dry)
        ld_dry_run_print(what);
    else if (name)
        ld_out_line(name);
    return 0;
}
