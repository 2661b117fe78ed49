/* Commands that belong to no resource: inspect, api, help, and what the shell's completion calls.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "client/api.h"
#include "client/cmd.h"
#include "client/complete.h"
#include "client/help.h"
#include "client/object.h"
#include "client/out.h"
#include "client/sink.h"
#include "client/text.h"
#include "daemon/base/err.h"
#include "daemon/base/fdio.h"
#include "daemon/base/mem.h"

/* inspect */

static int inspect_any(struct ld_cli *cli, const char *name, struct ld_err *err)
{
    static const enum ld_kind kinds[] = {LD_KIND_CONTAINER, LD_KIND_IMAGE, LD_KIND_VOLUME,
                                         LD_KIND_LAYER, LD_KIND_JOB};
    autofree char *safe = ld_text_safe(name);

    for (size_t i = 0; i < LD_ARRAY_LEN(kinds); i++) {
        /* A name that one kind cannot have may be of the next. */
        if (ld_object_show(cli, kinds[i], name, false, err) == 0)
            return 0;
        if (err->code != LD_E_NOT_FOUND && err->code != LD_E_INVALID)
            return -1;
    }
    (void)ld_err_set(err, LD_E_NOT_FOUND, "there is no container, image, volume, layer or job '%s'",
                     safe);
    return ld_err_hint(err, "layerctl ps, images, volumes, layers and jobs list what is there");
}

static int run_inspect(struct ld_cli *cli, struct ld_err *err)
{
    (void)err;
    return ld_cli_each(cli, inspect_any);
}

static const struct ld_opt inspect_opts[] = {LD_OPT_FORMAT};

/* api */

/* What a raw call's reply goes through: JSON and text are made harmless on a terminal, other bytes
 * kept away from it. */
struct raw {
    struct ld_cli *cli;
    const struct ld_http_reply *reply;
    struct ld_buf start;   /* the beginning of the reply: an error's document */
    struct ld_buf pending; /* the beginning of a character whose rest has not come yet */
};

enum { RAW_START_MAX = 1 << 20, RAW_CHUNK_MAX = 1 << 26 };

static bool is_text(const char *type)
{
    return strncmp(type, "text/", 5) == 0 || strstr(type, "json") ||
           strcmp(type, "application/openmetrics-text") == 0;
}

/* Bytes at the end that begin a character of UTF-8 without ending it: at most 3. */
static size_t unfinished(const char *text, size_t len)
{
    for (size_t back = 1; back <= 3 && back <= len; back++) {
        unsigned char c = (unsigned char)text[len - back];

        if (c >= 0xC0)
            return back < (c < 0xE0 ? 2U : c < 0xF0 ? 3U : 4U) ? back : 0;
        if (c < 0x80)
            return 0;
    }
    return 0;
}

static void write_safe(struct raw *raw, const void *data, size_t len)
{
    autobuf struct ld_buf chunk = LD_BUF_INIT(RAW_CHUNK_MAX);
    autobuf struct ld_buf safe = LD_BUF_INIT(RAW_CHUNK_MAX);
    size_t rest;

    ld_buf_add(&chunk, ld_buf_str(&raw->pending), raw->pending.len);
    ld_buf_add(&chunk, data, len);
    rest = unfinished(ld_buf_str(&chunk), chunk.len);
    ld_text_add_safe_json(&safe, ld_buf_str(&chunk), chunk.len - rest);
    (void)fwrite(ld_buf_str(&safe), 1, safe.len, stdout); /* main looks for errors */
    ld_buf_clear(&raw->pending);
    ld_buf_add(&raw->pending, ld_buf_str(&chunk) + chunk.len - rest, rest);
}

static int write_raw(void *arg, const void *data, size_t len, struct ld_err *err)
{
    struct raw *raw = arg;

    if (raw->start.len < RAW_START_MAX)
        ld_buf_add(&raw->start, data, len);
    if (!raw->cli->out_is_terminal) {
        (void)fwrite(data, 1, len, stdout); /* main looks for errors */
    } else if (is_text(raw->reply->content_type)) {
        write_safe(raw, data, len);
    } else {
        (void)ld_err_set(err, LD_E_INVALID, "the reply is of type '%s', not for a terminal",
                         raw->reply->content_type);
        return ld_err_hint(err, "redirect standard output to a file");
    }
    return fflush(stdout) == 0 ? 0 : ld_err_sys(err, -errno, "write to standard output");
}

static ssize_t read_fd(void *arg, void *data, size_t len)
{
    return ld_read_some(*(const int *)arg, data, len);
}

/* -d TEXT, -d @FILE or -T FILE ("-": standard input). *fd stays open for the call. */
static int set_body(const struct ld_args *args, struct ld_http_call *call, int *fd,
                    struct ld_err *err)
{
    const char *data = ld_args_value(args, "data");
    const char *file = ld_args_value(args, "upload");
    struct stat st;

    if (data && file)
        return ld_err_set(err, LD_E_INVALID, "there is one body: --data or --upload");
    call->headers[0] =
        data ? "Content-Type: application/json" : "Content-Type: application/octet-stream";
    if (data && data[0] != '@') {
        call->body = data;
        call->body_len = strlen(data);
        return 0;
    }
    file = data ? data + 1 : file;
    if (!file) {
        call->headers[0] = NULL;
        return 0;
    }
    *fd = strcmp(file, "-") == 0 ? fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3)
                                 : open(file, O_RDONLY | O_CLOEXEC);
    if (*fd < 0 || fstat(*fd, &st) < 0)
        return ld_err_sys(err, -errno, "open '%s'", file);
    call->read = read_fd;
    call->read_arg = fd;
    if (S_ISREG(st.st_mode) && strcmp(file, "-") != 0) {
        call->has_size = true;
        call->size = (uint64_t)st.st_size;
    }
    return 0;
}

/* Headers of the user's after those of ours; one of the same name takes its place. */
static int set_headers(const struct ld_args *args, struct ld_http_call *call, struct ld_err *err)
{
    const char *header;

    for (size_t i = 0; (header = ld_args_nth(args, "header", i)); i++) {
        size_t n = strcspn(header, ":");
        size_t at = 0;

        if (!header[n] || strpbrk(header, "\r\n"))
            return ld_err_set(err, LD_E_INVALID, "'%s' is not of the form NAME: VALUE", header);
        while (at < LD_ARRAY_LEN(call->headers) && call->headers[at] &&
               strncasecmp(call->headers[at], header, n + 1) != 0)
            at++;
        if (at == LD_ARRAY_LEN(call->headers))
            return ld_err_set(err, LD_E_INVALID, "at most %zu headers", at);
        call->headers[at] = header;
    }
    return 0;
}

static int run_api(struct ld_cli *cli, struct ld_err *err)
{
    autoreply struct ld_http_reply reply = LD_HTTP_REPLY_INIT;
    autoclose int fd = -EBADF;
    autofree char *target = NULL;
    struct raw raw = {.cli = cli,
                      .reply = &reply,
                      .start = {.max = RAW_START_MAX + RAW_CHUNK_MAX},
                      .pending = {.max = 8}};
    struct ld_http_call call = {.method = ld_args_get(cli->args, 0),
                                .write = write_raw,
                                .write_arg = &raw,
                                .keep_errors = true};
    const char *path = ld_args_get(cli->args, 1);
    struct ld_http *http;
    int r;

    if (strspn(call.method, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") != strlen(call.method) || !*call.method)
        return ld_err_set(err, LD_E_INVALID,
                          "'%s' is no method (GET, HEAD, POST, PUT, PATCH, DELETE)", call.method);
    if (strpbrk(path, " \t\r\n#"))
        return ld_err_set(err, LD_E_INVALID,
                          "'%s' is no path: blanks and # are written %%20 and %%23", path);
    target = ld_asprintf("%s%s", path[0] == '/' ? "" : "/", path);
    call.target = target;
    if (set_body(cli->args, &call, &fd, err) < 0 || set_headers(cli->args, &call, err) < 0 ||
        ld_cli_http(cli, &http, err) < 0)
        return -1;
    r = ld_http_run(http, &call, &reply, err);
    if (r == 0 && cli->out_is_terminal && raw.start.len > 0)
        (void)putchar('\n');
    if (r == 0 && strcmp(call.method, "HEAD") == 0)
        (void)printf("%d\n", reply.status);
    if (r == 0 && reply.status >= 400)
        r = ld_http_error(reply.status, ld_buf_str(&raw.start), raw.start.len, err);
    ld_buf_done(&raw.start);
    ld_buf_done(&raw.pending);
    return r;
}

static const struct ld_opt api_opts[] = {
    {"data", 'd', "JSON|@FILE", false, "the body, as application/json", NULL},
    {"upload", 'T', "FILE|-", false, "the body, as application/octet-stream, streamed", "file"},
    {"header", 0, "NAME: VALUE", true, "a header (may repeat)", NULL},
};

/* help */

static int run_help(struct ld_cli *cli, struct ld_err *err)
{
    const char *words[2] = {ld_args_get(cli->args, 0), ld_args_get(cli->args, 1)};
    size_t n = ld_args_count(cli->args);
    const struct ld_cmd *cmd;
    size_t used;

    if (n == 0) {
        ld_help_main(cli);
        return 0;
    }
    if (n == 1 && ld_cmd_is_group(words[0])) {
        ld_help_group(cli, words[0]);
        return 0;
    }
    cmd = ld_cmd_find(n, words, &used, err);
    if (!cmd)
        return -1;
    ld_help_cmd(cli, cmd);
    return 0;
}

static int run_complete(struct ld_cli *cli, struct ld_err *err)
{
    size_t n = ld_args_count(cli->args);
    const char **words = NULL;
    size_t cap = 0;

    (void)err;
    ld_grow(&words, &cap, n + 1, sizeof(*words));
    for (size_t i = 0; i < n; i++)
        words[i] = ld_args_get(cli->args, i);
    ld_complete(cli, n, words);
    free(words);
    return 0;
}

static const struct ld_cmd cmds[] = {
    {
        .name = "inspect",
        .operands = "NAME...",
        .min_operands = 1,
        .max_operands = LD_OPERANDS_MANY,
        .complete = "container",
        .summary = "Show all about containers, images, volumes, layers, jobs",
        .details = "The first kind that has an object of that name or id, in this order. Prints a "
                   "JSON document "
                   "per object.",
        .opts = LD_CMD_OPTS(inspect_opts),
        .run = run_inspect,
    },
    {
        .name = "api",
        .operands = "METHOD PATH",
        .min_operands = 2,
        .max_operands = 2,
        .complete = "GET|HEAD|POST|PUT|PATCH|DELETE",
        .summary = "Send a request as it is and print the reply",
        .details =
            "PATH is escaped already, such as '/v1/containers?filter=state%3Dmounted'. An error's "
            "document is "
            "printed, too, and the exit status is as for any command. HEAD prints the status.",
        .opts = LD_CMD_OPTS(api_opts),
        .run = run_api,
    },
    {
        .name = "help",
        .operands = "[COMMAND...]",
        .max_operands = 2,
        .summary = "Explain layerctl or a command",
        .run = run_help,
    },
    {
        .name = "__complete", /* no summary: not listed */
        .operands = "WORD...",
        .max_operands = LD_OPERANDS_MANY,
        .run = run_complete,
    },
};

const struct ld_cmd_group ld_cmds_other = {"", "Anything", cmds, LD_ARRAY_LEN(cmds)};
