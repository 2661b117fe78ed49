/* Output: see out.h. Write errors are found once, at the end, by main. */
#include "client/out.h"

#include <stdio.h>
#include <string.h>

#include "client/text.h"

enum { OUT_MAX = 1 << 30 };

static void put(const struct ld_buf *buf)
{
    (void)fwrite(ld_buf_str(buf), 1, buf->len, stdout); /* see above */
}

void ld_out_table(const struct ld_cli *cli, const struct ld_table *table, bool whole)
{
    autobuf struct ld_buf buf = LD_BUF_INIT(OUT_MAX);

    ld_table_render(table, whole ? 0 : cli->out_columns, cli->out_has_colour, &buf);
    put(&buf);
}

void ld_out_line(const char *text)
{
    autofree char *safe = ld_text_safe(text);

    (void)puts(safe);
}

void ld_out_styled(const struct ld_cli *cli, enum ld_style style, const char *text)
{
    autofree char *safe = ld_text_safe(text);

    if (cli->out_has_colour && style != LD_STYLE_PLAIN)
        (void)printf("%s%s%s", ld_style_code(style), safe, ld_style_code(LD_STYLE_PLAIN));
    else
        (void)fputs(safe, stdout);
}

void ld_out_raw_json(const char *json, size_t len)
{
    autobuf struct ld_buf buf = LD_BUF_INIT(OUT_MAX);

    ld_text_add_safe_json(&buf, json, len);
    if (buf.len == 0 || buf.data[buf.len - 1] != '\n')
        ld_buf_addc(&buf, '\n');
    put(&buf);
}

void ld_out_pretty_json(const cJSON *json)
{
    char *text = cJSON_Print(json);

    if (text) {
        autobuf struct ld_buf buf = LD_BUF_INIT(OUT_MAX);

        /* cJSON indents by tabs; inside strings tabs are always escaped. */
        for (const char *p = text; *p; p++) {
            if (*p == '\t' && (p == text || p[-1] == '\n' || p[-1] == '\t'))
                ld_buf_adds(&buf, "  ");
            else if (*p == '\t')
                ld_buf_addc(&buf, ' ');
            else
                ld_buf_addc(&buf, *p);
        }
        ld_out_raw_json(ld_buf_str(&buf), buf.len);
    }
    cJSON_free(text);
}

void ld_out_compact_json(const cJSON *json)
{
    char *text = cJSON_PrintUnformatted(json);

    if (text)
        ld_out_raw_json(text, strlen(text));
    cJSON_free(text);
}
