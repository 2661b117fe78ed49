/* layerctl: the command line of layerd. Finds the command, parses its options, runs it, tells what
 * went wrong. One thread. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <curl/curl.h>

#include "client/args.h"
#include "client/cli.h"
#include "client/cmd.h"
#include "client/help.h"
#include "client/http.h"
#include "daemon/base/err.h"
#include "daemon/base/mem.h"

/* https://no-color.org: any value that is not empty. */
static bool wants_colour(bool is_terminal)
{
    const char *no_color = getenv("NO_COLOR");
    const char *term = getenv("TERM");

    return is_terminal && !(no_color && *no_color) && !(term && strcmp(term, "dumb") == 0);
}

static void look_at_streams(struct ld_cli *cli)
{
    struct winsize size;

    cli->out_is_terminal = isatty(STDOUT_FILENO);
    cli->err_is_terminal = isatty(STDERR_FILENO);
    cli->out_has_colour = wants_colour(cli->out_is_terminal);
    cli->err_has_colour = wants_colour(cli->err_is_terminal);
    if (cli->out_is_terminal)
        cli->out_columns =
            ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

/* The option, else the environment, else the fixed place. */
static const char *choose_host(const struct ld_args *args)
{
    const char *option = ld_args_value(args, "host");
    const char *environment = getenv("LAYERD_HOST");

    if (option)
        return option;
    return environment && *environment ? environment : LD_HTTP_DEFAULT_HOST;
}

static int check_operands(const struct ld_cmd *cmd, const struct ld_args *args, struct ld_err *err)
{
    size_t n = ld_args_count(args);

    if (n >= cmd->min_operands && n <= cmd->max_operands)
        return 0;
    if (n < cmd->min_operands)
        (void)ld_err_set(err, LD_E_INVALID, "layerctl %s needs %s", cmd->name, cmd->operands);
    else if (cmd->operands[0])
        (void)ld_err_set(err, LD_E_INVALID, "layerctl %s takes no more than %s", cmd->name,
                         cmd->operands);
    else
        (void)ld_err_set(err, LD_E_INVALID, "layerctl %s takes no operands", cmd->name);
    return ld_err_hint(err, "'layerctl %s --help' explains it", cmd->name);
}

static int run_cmd(struct ld_cli *cli, const struct ld_cmd *cmd, struct ld_args *args,
                   struct ld_err *err)
{
    cli->args = args;
    if (ld_args_flag(args, "help")) {
        ld_help_cmd(cli, cmd);
        return 0;
    }
    if (check_operands(cmd, args, err) < 0)
        return -1;
    cli->cmd = cmd;
    return cmd->run(cli, err);
}

/* argv without the program's name. Options before the command are those that all commands have. */
static int dispatch(struct ld_cli *cli, int argc, const char *const *argv, struct ld_err *err)
{
    autoargs struct ld_args *before = ld_args_new((struct ld_opts){NULL, 0}, ld_cmds_common);
    autoargs struct ld_args *args = NULL;
    const struct ld_cmd *cmd;
    size_t words;
    int used;
    int r;

    if (ld_args_parse_until_operand(before, argc, argv, &used, err) < 0)
        return -1;
    argc -= used;
    argv += used;
    cli->host = choose_host(before);
    if (ld_args_flag(before, "version")) {
        (void)printf("layerctl %s\n", LD_VERSION);
        return 0;
    }
    if (argc == 0 || ld_args_flag(before, "help")) {
        ld_help_main(cli);
        return argc == 0 && !ld_args_flag(before, "help")
                   ? ld_err_set(err, LD_E_INVALID, "no command was named")
                   : 0;
    }
    if (ld_cmd_is_group(argv[0]) &&
        (argc == 1 || strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)) {
        ld_help_group(cli, argv[0]);
        return argc > 1 ? 0 : ld_err_set(err, LD_E_INVALID, "layerctl %s needs a command", argv[0]);
    }
    cmd = ld_cmd_find((size_t)argc, argv, &words, err);
    if (!cmd)
        return -1;
    args = ld_args_new(cmd->opts, ld_cmds_common);
    r = cmd->ends_options ? ld_args_parse_head(args, argc - (int)words, argv + words, err)
                          : ld_args_parse(args, argc - (int)words, argv + words, err);
    if (r < 0) {
        if (!err->hint[0])
            (void)ld_err_hint(err, "'layerctl %s --help' explains it", cmd->name);
        return -1;
    }
    if (ld_args_value(args, "host"))
        cli->host = ld_args_value(args, "host");
    r = run_cmd(cli, cmd, args, err);
    cli->args = NULL;
    return r;
}

int main(int argc, char **argv)
{
    struct ld_cli cli = {0};
    struct ld_err err = LD_ERR_INIT;

    if (curl_global_init(CURL_GLOBAL_NOTHING) != CURLE_OK) {
        (void)fputs("layerctl: libcurl does not start\n", stderr);
        return LD_EXIT_FAILED;
    }
    look_at_streams(&cli);
    if (dispatch(&cli, argc > 0 ? argc - 1 : 0, (const char *const *)argv + 1, &err) < 0)
        ld_cli_report(&cli, &err);
    ld_http_close_p(&cli.http);
    curl_global_cleanup();
    /* What could not be written was not done: a full disk must not look like success. */
    if (fflush(stdout) != 0 || ferror(stdout)) {
        struct ld_err lost = LD_ERR_INIT;

        (void)ld_err_sys(&lost, -errno, "write to standard output");
        cli.exit_status = LD_EXIT_OK;
        ld_cli_report(&cli, &lost);
    }
    return (int)cli.exit_status;
}
