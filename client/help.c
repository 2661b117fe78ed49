/* Help texts: see help.h. All that is printed stands in the tables. */
#include "client/help.h"

#include <stdio.h>
#include <string.h>

#include "client/cmd.h"
#include "client/out.h"
#include "client/text.h"
#include "daemon/base/mem.h"

enum { COLUMNS = 79, OPTION_COLUMN = 34, COMMAND_COLUMN = 30 };

/* Words of text in lines of at most COLUMNS, each after the first indented; `at` is where the first
 * begins. */
static void print_wrapped(const char *text, size_t at, size_t indent)
{
    size_t column = at;

    while (*text) {
        size_t len = strcspn(text, " ");

        if (column > indent && column + len + 1 > COLUMNS) {
            (void)printf("\n%*s", (int)indent, "");
            column = indent;
        } else if (column > indent) {
            (void)putchar(' ');
            column++;
        }
        (void)printf("%.*s", (int)len, text);
        column += len;
        text += len;
        text += strspn(text, " ");
    }
    (void)putchar('\n');
}

/* A term, and its explanation in a column of its own. */
static void print_entry(const char *term, const char *text, size_t column)
{
    size_t len = strlen(term);

    if (len + 1 > column)
        (void)printf("%s\n%*s", term, (int)column, "");
    else
        (void)printf("%-*s", (int)column, term);
    print_wrapped(text, column, column);
}

static void print_heading(const struct ld_cli *cli, const char *text)
{
    ld_out_styled(cli, LD_STYLE_HEAD, text);
    (void)putchar('\n');
}

static void print_options(const struct ld_cli *cli, const char *heading, struct ld_opts opts)
{
    if (opts.n == 0)
        return;
    (void)putchar('\n');
    print_heading(cli, heading);
    for (size_t i = 0; i < opts.n; i++) {
        const struct ld_opt *opt = &opts.opt[i];
        char letter[5] = {' ', ' ', ' ', ' ', '\0'};
        autofree char *term = NULL;

        if (opt->letter)
            (void)snprintf(letter, sizeof(letter), "-%c, ", opt->letter);
        term = ld_asprintf("  %s--%s%s%s", letter, opt->name, opt->value ? " " : "",
                           opt->value ? opt->value : "");
        print_entry(term, opt->help, OPTION_COLUMN);
    }
}

void ld_help_cmd(const struct ld_cli *cli, const struct ld_cmd *cmd)
{
    (void)printf("Usage: layerctl %s%s%s%s\n", cmd->name, cmd->opts.n > 0 ? " [OPTIONS]" : "",
                 cmd->operands[0] ? " " : "", cmd->operands);
    for (size_t i = 0; i < LD_ARRAY_LEN(cmd->aliases) && cmd->aliases[i]; i++)
        (void)printf("%s layerctl %s", i ? "," : "Short:", cmd->aliases[i]);
    (void)printf("%s\n", cmd->aliases[0] ? "\n" : "");
    (void)printf("%s.\n", cmd->summary);
    if (cmd->details) {
        (void)putchar('\n');
        print_wrapped(cmd->details, 0, 0);
    }
    print_options(cli, "Options", cmd->opts);
    print_options(cli, "Options of all commands", ld_cmds_common);
}

/* "  image ls, images", and what it does. */
static void print_cmd(const struct ld_cmd *cmd)
{
    autofree char *term = ld_asprintf("  %s%s%s", cmd->name, cmd->aliases[0] ? ", " : "",
                                      cmd->aliases[0] ? cmd->aliases[0] : "");

    print_entry(term, cmd->summary, COMMAND_COLUMN);
}

static void print_group(const struct ld_cli *cli, const struct ld_cmd_group *group)
{
    if (group->summary) {
        (void)putchar('\n');
        print_heading(cli, group->summary);
    }
    for (size_t i = 0; i < group->n; i++) {
        if (group->cmd[i].summary)
            print_cmd(&group->cmd[i]);
    }
}

void ld_help_group(const struct ld_cli *cli, const char *name)
{
    (void)printf("Usage: layerctl %s COMMAND [ARGUMENTS]\n", name);
    for (const struct ld_cmd_group *const *g = ld_cmds_all; *g; g++) {
        if (strcmp((*g)->name, name) == 0)
            print_group(cli, *g);
    }
    (void)printf("\nlayerctl %s COMMAND --help explains a command.\n", name);
}

void ld_help_main(const struct ld_cli *cli)
{
    static const char *const exits[][2] = {
        {"  0", "done"},
        {"  1", "the operation failed"},
        {"  2", "the command line or a value in it is not valid"},
        {"  3", "no such object"},
        {"  4", "the object's state does not permit it: in use, busy, name taken"},
        {"  5", "the daemon cannot be reached, or has no time"},
    };

    (void)puts("Usage: layerctl [OPTIONS] COMMAND [ARGUMENTS]\n\n"
               "Controls layerd, which serves container file systems: images in, copy-on-write\n"
               "containers out, volumes that stay.");
    for (const struct ld_cmd_group *const *g = ld_cmds_all; *g; g++)
        print_group(cli, *g);
    print_options(cli, "Options", ld_cmds_common);
    (void)putchar('\n');
    print_heading(cli, "Exit status");
    for (size_t i = 0; i < LD_ARRAY_LEN(exits); i++)
        print_entry(exits[i][0], exits[i][1], 6);
    (void)puts("\nlayerctl COMMAND --help explains a command; layerctl(1) has it all.");
}
