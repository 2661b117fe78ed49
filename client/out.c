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

/* cJSON indents by tabs and puts an empty object on two lines. Line ends and tabs stand between
 * tokens only: inside strings they are escaped. */
static void add_indented(struct ld_buf *buf, const char *json)
{
    for (const char *p = json; *p; p++) {
        size_t blank = *p == '{' ? strspn(p + 1, "\n\t") : 0;

        if (blank > 0 && p[1 + blank] == '}') {
            ld_buf_addc(buf, '{');
            p += blank;
        } else if (*p == '\t' && p > json && p[-1] == ':') {
            ld_buf_addc(buf, ' ');
        } else if (*p == '\t') {
            ld_buf_adds(buf, "  ");
        } else {
            ld_buf_addc(buf, *p);
        }
    }
}

void ld_out_pretty_json(const cJSON *json)
{
    autobuf struct ld_buf buf = LD_BUF_INIT(OUT_MAX);
    char *text = cJSON_Print(json);

    if (text)
        add_indented(&buf, text);
    cJSON_free(text);
    ld_out_raw_json(ld_buf_str(&buf), buf.len);
}

void ld_out_compact_json(const cJSON *json)
{
    char *text = cJSON_PrintUnformatted(json);

    if (text)
        ld_out_raw_json(text, strlen(text));
    cJSON_free(text);
}
