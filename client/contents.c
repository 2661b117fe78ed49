/* Lists of files and of changes: see contents.h. */
#include "client/contents.h"

#include <stdio.h>
#include <string.h>

#include "client/api.h"
#include "client/list.h"
#include "client/out.h"
#include "daemon/base/err.h"
#include "daemon/base/mem.h"

/* ---- changes ---- */

static void print_change(const struct ld_cli *cli, const cJSON *change)
{
    static const struct {
        const char *kind, *mark;
        enum ld_style style;
    } kinds[] = {
        {"added", "A", LD_STYLE_GOOD},
        {"modified", "C", LD_STYLE_CARE},
        {"deleted", "D", LD_STYLE_BAD},
    };
    autofree char *path = ld_json_bytes(change, "path");
    const char *kind = ld_field_str(change, "kind");

    for (size_t i = 0; i < LD_ARRAY_LEN(kinds); i++) {
        if (strcmp(kinds[i].kind, kind) == 0)
            ld_out_styled(cli, kinds[i].style, kinds[i].mark);
    }
    (void)printf(" %s\n", path);
}

int ld_changes_show(struct ld_cli *cli, const char *target, struct ld_err *err)
{
    autoreply struct ld_http_reply reply = LD_HTTP_REPLY_INIT;
    autojson cJSON *doc = NULL;
    const cJSON *change;

    if (ld_api_send(cli, "GET", target, NULL, &reply, err) < 0)
        return -1;
    if (ld_cli_wants_json(cli)) {
        ld_out_raw_json(ld_buf_str(&reply.body), reply.body.len);
        return 0;
    }
    if (ld_api_parse(&reply, &doc, err) < 0)
        return -1;
    cJSON_ArrayForEach (change, ld_field_get(doc, "items"))
        print_change(cli, change);
    return 0;
}

/* ---- files ---- */

static const struct ld_column file_columns[] = {
    {"MODE"}, {"UID", .right = true}, {"GID", .right = true}, {"SIZE", .right = true}, {"MODIFIED"},
    {"NAME"},
};

/* "drwxr-xr-x" as ls prints it. */
static void format_mode(const char *type, unsigned mode, char text[11])
{
    static const struct {
        const char *type;
        char letter;
    } letters[] = {
        {"file", '-'},         {"directory", 'd'}, {"symlink", 'l'}, {"char_device", 'c'},
        {"block_device", 'b'}, {"fifo", 'p'},      {"socket", 's'},
    };
    static const char bits[] = "rwxrwxrwx";

    memset(text, '?', 10);
    text[10] = '\0';
    for (size_t i = 0; i < LD_ARRAY_LEN(letters); i++) {
        if (strcmp(letters[i].type, type) == 0)
            text[0] = letters[i].letter;
    }
    for (unsigned i = 0; i < 9; i++)
        text[1 + i] = mode & (0400U >> i) ? bits[i] : '-';
    if (mode & 04000)
        text[3] = text[3] == 'x' ? 's' : 'S';
    if (mode & 02000)
        text[6] = text[6] == 'x' ? 's' : 'S';
    if (mode & 01000)
        text[9] = text[9] == 'x' ? 't' : 'T';
}

static void add_file(struct ld_table *t, const cJSON *file, const struct ld_row_ctx *ctx)
{
    autofree char *name = ld_json_bytes(file, ld_field_has(file, "path") ? "path" : "name");
    autofree char *target = ld_json_bytes(file, "target");
    autofree char *both = ld_asprintf("%s -> %s", name, target);
    const char *type = ld_field_str(file, "type");
    unsigned mode = 0;
    char text[11];

    (void)ctx;
    for (const char *p = ld_field_str(file, "mode"); *p >= '0' && *p <= '7'; p++)
        mode = (mode << 3 | (unsigned)(*p - '0')) & 07777;
    format_mode(type, mode, text);
    ld_table_add(t, text);
    ld_cell_count(t, file, "uid");
    ld_cell_count(t, file, "gid");
    ld_cell_size(t, file, "size");
    (void)snprintf(text, sizeof(text), "%.10s", ld_field_str(file, "mtime")); /* the day */
    ld_table_add(t, text);
    ld_table_add_styled(t, *target ? both : name,
                        strcmp(type, "directory") == 0 ? LD_STYLE_HEAD : LD_STYLE_PLAIN);
}

int ld_files_show(struct ld_cli *cli, const char *target, const char *name, struct ld_err *err)
{
    struct ld_list list = {file_columns, LD_ARRAY_LEN(file_columns), name, add_file};

    return ld_list_show_as(cli, target, "Accept: application/json", &list, err);
}
