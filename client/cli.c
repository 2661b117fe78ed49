/* Context of a command: see cli.h. */
#include "client/cli.h"

#include <stdio.h>
#include <string.h>

#include <cjson/cJSON.h>

#include "client/http.h"
#include "client/text.h"
#include "daemon/base/err.h"
#include "daemon/base/mem.h"

int ld_cli_http(struct ld_cli *cli, struct ld_http **ret, struct ld_err *err)
{
    if (!cli->http && ld_http_open(cli->host, &cli->http, err) < 0)
        return -1;
    *ret = cli->http;
    return 0;
}

bool ld_cli_wants_json(const struct ld_cli *cli)
{
    const char *format = ld_args_value(cli->args, "format");

    return format && strcmp(format, "json") == 0;
}

enum ld_exit ld_cli_exit_of(const struct ld_err *err)
{
    switch (err->code) {
    case LD_E_NONE:
        return LD_EXIT_OK;
    case LD_E_INVALID:
    case LD_E_METHOD:
        return LD_EXIT_USAGE;
    case LD_E_NOT_FOUND:
        return LD_EXIT_NOT_FOUND;
    case LD_E_CONFLICT:
    case LD_E_EXISTS:
    case LD_E_IN_USE:
    case LD_E_BUSY:
    case LD_E_PRECONDITION:
        return LD_EXIT_CONFLICT;
    case LD_E_UNAVAILABLE:
        return LD_EXIT_UNREACHABLE;
    case LD_E_FORBIDDEN:
    case LD_E_TOO_LARGE:
    case LD_E_UNSUPPORTED_MEDIA:
    case LD_E_BAD_CONTENT:
    case LD_E_INTERNAL:
    case LD_E_IO:
    case LD_E_CORRUPT:
    case LD_E_UNSUPPORTED:
    case LD_E_NO_SPACE:
    case LD_E_CANCELED:
    case LD_E_COUNT:
        break;
    }
    return LD_EXIT_FAILED;
}

static void print_labelled(const struct ld_cli *cli, const char *label, enum ld_style style,
                           const char *text)
{
    autofree char *safe = ld_text_safe(text);

    if (cli->err_has_colour)
        (void)fprintf(stderr, "%s%s:%s %s\n", ld_style_code(style), label,
                      ld_style_code(LD_STYLE_PLAIN), safe);
    else
        (void)fprintf(stderr, "%s: %s\n", label, safe);
}

static const char *string_of(const cJSON *object, const char *name)
{
    const char *text = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(object, name));

    return text ? text : "";
}

/* One of the "users", "holders" or "candidates" (these are ids) of an error. */
static void print_detail(const cJSON *item)
{
    autofree char *kind = ld_text_safe(string_of(item, "kind"));
    autofree char *name = ld_text_safe(string_of(item, "name"));
    autofree char *id = ld_text_safe(ld_text_short_id(string_of(item, "id")).text);
    autofree char *command = ld_text_safe(string_of(item, "command"));
    autofree char *use = ld_text_safe(string_of(item, "use"));
    autofree char *unit = ld_text_safe(string_of(item, "unit"));
    const cJSON *pid = cJSON_GetObjectItemCaseSensitive(item, "pid");

    if (cJSON_IsString(item)) {
        autofree char *candidate = ld_text_safe(item->valuestring);

        (void)fprintf(stderr, "  %s\n", candidate);
    } else if (cJSON_IsNumber(pid)) {
        (void)fprintf(stderr, "  process %.0f (%s): %s%s%s\n", pid->valuedouble, command, use,
                      *unit ? ", in " : "", unit);
    } else if (*name) {
        (void)fprintf(stderr, "  %s %s (%s)\n", kind, name, id);
    } else {
        (void)fprintf(stderr, "  %s %s\n", kind, id);
    }
}

static void print_details(const char *json)
{
    cJSON *details = *json ? cJSON_Parse(json) : NULL;
    const cJSON *member, *item;

    cJSON_ArrayForEach (member, details) {
        if (cJSON_IsArray(member)) {
            cJSON_ArrayForEach (item, member)
                print_detail(item);
        }
    }
    if (cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(details, "more")))
        (void)fputs("  … and more\n", stderr);
    cJSON_Delete(details);
}

void ld_cli_report(struct ld_cli *cli, const struct ld_err *err)
{
    (void)fflush(stdout); /* so that both streams keep their order on a terminal */
    print_labelled(cli, "layerctl", LD_STYLE_BAD, err->message);
    print_details(err->details);
    if (err->hint[0])
        print_labelled(cli, "hint", LD_STYLE_CARE, err->hint);
    if (cli->exit_status == LD_EXIT_OK)
        cli->exit_status = ld_cli_exit_of(err);
}

int ld_cli_each(struct ld_cli *cli, ld_cli_each_fn each)
{
    return ld_cli_each_from(cli, 0, each);
}

int ld_cli_each_from(struct ld_cli *cli, size_t first, ld_cli_each_fn each)
{
    for (size_t i = first; i < ld_args_count(cli->args); i++) {
        struct ld_err err = LD_ERR_INIT;

        if (each(cli, ld_args_get(cli->args, i), &err) == 0)
            continue;
        ld_cli_report(cli, &err);
        if (cli->exit_status == LD_EXIT_UNREACHABLE)
            break; /* the others would only say the same */
    }
    return 0;
}
