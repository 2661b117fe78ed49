/* What a command of layerctl gets to work with, and how commands are described. One thread. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "client/args.h"
#include "client/style.h"

struct ld_cmd;
struct ld_err;
struct ld_http;

/* Exit statuses, as layerctl(1) documents them. */
enum ld_exit {
    LD_EXIT_OK = 0,
    LD_EXIT_FAILED = 1,
    LD_EXIT_USAGE = 2,
    LD_EXIT_NOT_FOUND = 3,
    LD_EXIT_CONFLICT = 4,
    LD_EXIT_UNREACHABLE = 5,
};

struct ld_cli {
    const char *host;         /* where the daemon is */
    struct ld_http *http;     /* opened by ld_cli_http */
    const struct ld_cmd *cmd; /* that is run, and its arguments */
    const struct ld_args *args;
    bool out_is_terminal, err_is_terminal;
    bool out_has_colour, err_has_colour;
    size_t out_columns;       /* 0 where standard output is no terminal */
    enum ld_exit exit_status; /* of the first failure reported */
};

struct ld_cmd {
    const char *name;       /* "container create" */
    const char *aliases[3]; /* short forms: "create" */
    const char *operands;   /* "IMAGE", "CONTAINER...", "" */
    size_t min_operands, max_operands;
    bool ends_options;    /* what follows the first operand is taken as it is */
    const char *complete; /* kind of the operands, as in struct ld_opt */
    const char *summary;  /* one line, no full stop */
    const char *details;  /* paragraphs for --help and the man page, or NULL */
    struct ld_opts opts;
    /* 0, or -1 with err filled. A command with several objects reports each failure itself, goes on
     * with the others and returns 0. */
    int (*run)(struct ld_cli *cli, struct ld_err *err);
};

#define LD_OPERANDS_MANY SIZE_MAX

struct ld_cmd_group {
    const char *name; /* "container", or "" for commands that belong to no resource */
    const char *summary;
    const struct ld_cmd *cmd;
    size_t n;
};

#define LD_CMD_OPTS(table)                                                                         \
    {                                                                                              \
        (table), LD_ARRAY_LEN(table)                                                               \
    }

/* Options that many commands have, always of the same name and meaning. */
#define LD_OPT_FORMAT                                                                              \
    {                                                                                              \
        "format", 0, "table|json", false, "how to print: table (default) or json", "table|json"    \
    }
#define LD_OPT_QUIET                                                                               \
    {                                                                                              \
        "quiet", 'q', NULL, false, "print ids or names only, one per line", NULL                   \
    }
#define LD_OPT_WHOLE                                                                               \
    {                                                                                              \
        "no-trunc", 0, NULL, false, "print ids and texts whole", NULL                              \
    }
#define LD_OPT_ONCE                                                                                \
    {                                                                                              \
        "idempotency-key", 0, "KEY", false,                                                        \
            "do it once, however often it is asked for under this key", NULL                       \
    }
#define LD_OPT_DRY_RUN                                                                             \
    {                                                                                              \
        "dry-run", 0, NULL, false, "only tell what would be removed, and its size", NULL           \
    }
#define LD_OPT_FILTER                                                                              \
    {                                                                                              \
        "filter", 'f', "KEY=VALUE", true, "only what matches (may repeat)", NULL                   \
    }

/* The connection, opened when first asked for. */
int ld_cli_http(struct ld_cli *cli, struct ld_http **ret, struct ld_err *err) ld_must_check;

bool ld_cli_wants_json(const struct ld_cli *cli); /* --format json */

/* Prints an error, its hint and what its details name, and remembers the exit status. */
void ld_cli_report(struct ld_cli *cli, const struct ld_err *err);
enum ld_exit ld_cli_exit_of(const struct ld_err *err);

/* Runs `each` for every operand; failures are reported and the rest goes on. Returns 0. */
typedef int (*ld_cli_each_fn)(struct ld_cli *cli, const char *operand, struct ld_err *err);
int ld_cli_each(struct ld_cli *cli, ld_cli_each_fn each);
/* The same without the first operands: they are what the others belong to. */
int ld_cli_each_from(struct ld_cli *cli, size_t first, ld_cli_each_fn each);
