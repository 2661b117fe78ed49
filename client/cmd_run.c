/* layerctl run: a container for one command, which an OCI runtime runs: see layerctl(1).
 *
 * layerd runs nothing, so the runtime is a child of layerctl. From the first request on signals are
 * blocked and waited for: whenever one comes, the container is taken away before layerctl ends. One
 * from the terminal has reached the runtime, too; any other is passed on to it.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "client/api.h"
#include "client/cmd.h"
#include "client/create_body.h"
#include "client/object.h"
#include "client/text.h"
#include "daemon/base/err.h"
#include "daemon/base/mem.h"

enum { RUN_FAILED = 125, SIGNALED = 128 };

static const int handled[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGCHLD};

/* ---- the runtime ---- */

static bool is_in_path(const char *name)
{
    autofree char *path = ld_strdup(getenv("PATH") ? getenv("PATH") : "/usr/sbin:/usr/bin");
    char *rest = NULL;

    for (char *dir = strtok_r(path, ":", &rest); dir; dir = strtok_r(NULL, ":", &rest)) {
        autofree char *file = ld_asprintf("%s/%s", dir, name);

        if (access(file, X_OK) == 0)
            return true;
    }
    return false;
}

static int find_runtime(const struct ld_args *args, const char **ret, struct ld_err *err)
{
    static const char *const known[] = {"crun", "runc"};
    const char *given = ld_args_value(args, "runtime");

    if (!given)
        given = getenv("LAYERD_RUNTIME");
    if (given && *given) {
        *ret = given;
        return 0;
    }
    for (size_t i = 0; i < LD_ARRAY_LEN(known); i++) {
        if (is_in_path(known[i])) {
            *ret = known[i];
            return 0;
        }
    }
    (void)ld_err_set(err, LD_E_NOT_FOUND, "neither crun nor runc is in $PATH");
    return ld_err_hint(err, "install one, or name another OCI runtime with --runtime");
}

struct command {
    const char **argv;
    size_t n, cap;
};

static void add_word(struct command *c, const char *word)
{
    ld_grow(&c->argv, &c->cap, c->n + 2, sizeof(*c->argv));
    c->argv[c->n++] = word;
}

static void command_done(struct command *c)
{
    ld_free_p(&c->argv);
}

static void begin_command(const struct ld_args *args, const char *runtime, struct command *c)
{
    const char *option;

    add_word(c, runtime);
    for (size_t i = 0; (option = ld_args_nth(args, "runtime-opt", i)); i++)
        add_word(c, option);
}

/* Without the terminal's or the caller's input where that was not asked for. */
static int start(const struct command *c, bool has_stdin, const sigset_t *mask, pid_t *ret)
{
    posix_spawn_file_actions_t files;
    posix_spawnattr_t attr;
    int r;

    if (posix_spawn_file_actions_init(&files) != 0)
        return -ENOMEM;
    if (posix_spawnattr_init(&attr) != 0) {
        (void)posix_spawn_file_actions_destroy(&files);
        return -ENOMEM;
    }
    r = has_stdin
            ? 0
            : posix_spawn_file_actions_addopen(&files, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    if (r == 0)
        r = posix_spawnattr_setsigmask(&attr, mask);
    if (r == 0)
        r = posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK);
    if (r == 0)
        r = posix_spawnp(ret, c->argv[0], &files, &attr, (char *const *)c->argv, environ);
    (void)posix_spawnattr_destroy(&attr);
    (void)posix_spawn_file_actions_destroy(&files);
    return -r;
}

static int exit_status_of(int status)
{
    return WIFSIGNALED(status) ? SIGNALED + WTERMSIG(status) : WEXITSTATUS(status);
}

static int wait_for(pid_t pid, const sigset_t *signals)
{
    int status = 0;

    while (waitpid(pid, &status, WNOHANG) != pid) {
        siginfo_t info;
        int number = sigwaitinfo(signals, &info);

        if (number > 0 && number != SIGCHLD && info.si_code != SI_KERNEL)
            (void)kill(pid, number);
    }
    return status;
}

/* ---- the container ---- */

static void add_strings(cJSON *to, const char *name, const char *const *text, size_t n)
{
    cJSON *list = cJSON_AddArrayToObject(to, name);

    for (size_t i = 0; i < n; i++)
        (void)cJSON_AddItemToArray(list, cJSON_CreateString(text[i]));
}

/* NAME alone: as it is here, if it is. */
static void add_env(const struct ld_args *args, cJSON *config)
{
    cJSON *list = cJSON_AddArrayToObject(config, "env");
    const char *text;

    for (size_t i = 0; (text = ld_args_nth(args, "env", i)); i++) {
        const char *value = strchr(text, '=') ? NULL : getenv(text);
        autofree char *both = value ? ld_asprintf("%s=%s", text, value) : ld_strdup(text);

        if (value || strchr(text, '='))
            (void)cJSON_AddItemToArray(list, cJSON_CreateString(both));
    }
}

static void add_config(const struct ld_args *args, cJSON *body)
{
    cJSON *config = cJSON_AddObjectToObject(body, "config");
    const char *entrypoint = ld_args_value(args, "entrypoint");
    const char *user = ld_args_value(args, "user");
    const char *dir = ld_args_value(args, "workdir");
    size_t n = ld_args_count(args) - 1;
    autofree const char **words = ld_alloc0((n + 1) * sizeof(*words));

    for (size_t i = 0; i < n; i++)
        words[i] = ld_args_get(args, i + 1);
    if (n > 0)
        add_strings(config, "cmd", words, n);
    if (entrypoint)
        add_strings(config, "entrypoint", &entrypoint, *entrypoint ? 1 : 0);
    if (user)
        (void)cJSON_AddStringToObject(config, "user", user);
    if (dir)
        (void)cJSON_AddStringToObject(config, "working_dir", dir);
    add_env(args, config);
}

static int build_body(const struct ld_args *args, cJSON *body, struct ld_err *err)
{
    (void)cJSON_AddTrueToObject(body, "auto_remove");
    (void)cJSON_AddTrueToObject(body, "ephemeral"); /* nothing of it is to outlive the command */
    add_config(args, body);
    return ld_create_body(args, body, err);
}

static int make_bundle(struct ld_cli *cli, const char *id, cJSON **ret, struct ld_err *err)
{
    autobuf struct ld_buf url = LD_URL_INIT;
    autojson cJSON *body = cJSON_CreateObject();
    const char *network = ld_args_value(cli->args, "network");

    if (ld_args_flag(cli->args, "tty"))
        (void)cJSON_AddTrueToObject(body, "terminal");
    if (network)
        (void)cJSON_AddStringToObject(body, "network", network);
    if (ld_object_url(LD_KIND_CONTAINER, id, "bundle", &url, err) < 0)
        return -1;
    return ld_api_json(cli, "POST", ld_buf_str(&url), body, ret, err);
}

/* What cannot be taken away is said; the command's outcome stays what it was. */
static void take_away(struct ld_cli *cli, const char *id)
{
    autobuf struct ld_buf url = LD_URL_INIT;
    struct ld_err err = LD_ERR_INIT;

    if (ld_object_url(LD_KIND_CONTAINER, id, NULL, &url, &err) == 0) {
        ld_url_query(&url, "force", "1");
        ld_url_query(&url, "volumes", "1");
        ld_url_query(&url, "purge", "1");
        if (ld_api_json(cli, "DELETE", ld_buf_str(&url), NULL, NULL, &err) == 0)
            return;
    }
    (void)fprintf(stderr, "layerctl: warning: container %s stays: %s\n", id, err.message);
}

/* ---- one after the other ---- */

/* A runtime that was killed has not cleared up after itself. */
static void clear_up(const struct ld_args *args, const char *runtime, const char *id,
                     const sigset_t *mask)
{
    LD_AUTO(command_done) struct command c = {.argv = NULL};
    pid_t pid = 0;
    int status = 0;

    begin_command(args, runtime, &c);
    add_word(&c, "delete");
    add_word(&c, "--force");
    add_word(&c, id);
    if (start(&c, false, mask, &pid) == 0)
        (void)waitpid(pid, &status, 0);
}

static int run_bundle(struct ld_cli *cli, const char *runtime, const cJSON *container,
                      const sigset_t *signals, const sigset_t *mask, struct ld_err *err)
{
    LD_AUTO(command_done) struct command c = {.argv = NULL};
    const char *id = ld_field_str(container, "id");
    pid_t pid = 0;
    int status = 0;
    int r;

    begin_command(cli->args, runtime, &c);
    add_word(&c, "run");
    add_word(&c, "--bundle");
    add_word(&c, ld_field_str(container, "bundle"));
    add_word(&c, id);
    r = start(&c, ld_args_flag(cli->args, "interactive") || ld_args_flag(cli->args, "tty"), mask,
              &pid);
    if (r < 0)
        return ld_err_sys(err, r, "start the runtime '%s'", runtime);
    status = wait_for(pid, signals);
    if (WIFSIGNALED(status))
        clear_up(cli->args, runtime, id, mask);
    cli->exit_status = (enum ld_exit)exit_status_of(status);
    return 0;
}

/* A signal that came before there was a runtime to have it. */
static int pending(const sigset_t *signals)
{
    const struct timespec now = {0};
    siginfo_t info;
    int number;

    do
        number = sigtimedwait(signals, &info, &now);
    while (number == SIGCHLD);
    return number > 0 ? number : 0;
}

static int run_new(struct ld_cli *cli, const char *runtime, const sigset_t *signals,
                   const sigset_t *mask, struct ld_err *err)
{
    autoreply struct ld_http_reply reply = LD_HTTP_REPLY_INIT;
    autojson cJSON *body = cJSON_CreateObject();
    autojson cJSON *made = NULL;
    autojson cJSON *container = NULL;
    const char *id;
    int number;
    int rc;

    if (build_body(cli->args, body, err) < 0 ||
        ld_api_send(cli, "POST", "/v1/containers", body, &reply, err) < 0 ||
        ld_api_parse(&reply, &made, err) < 0)
        return -1;
    id = ld_field_str(made, "id");
    rc = make_bundle(cli, id, &container, err);
    number = rc == 0 ? pending(signals) : 0;
    if (number)
        cli->exit_status = (enum ld_exit)(SIGNALED + number);
    else if (rc == 0)
        rc = run_bundle(cli, runtime, container, signals, mask, err);
    take_away(cli, id);
    return rc;
}

static int prepare(struct ld_cli *cli, const char **ret_runtime, struct ld_err *err)
{
    if (find_runtime(cli->args, ret_runtime, err) < 0)
        return -1;
    if (ld_args_flag(cli->args, "tty") && !isatty(STDIN_FILENO))
        return ld_err_set(err, LD_E_INVALID, "--tty: standard input is no terminal");
    return 0;
}

static int run_run(struct ld_cli *cli, struct ld_err *err)
{
    const char *runtime = NULL;
    sigset_t signals;
    sigset_t mask;
    int rc;

    sigemptyset(&signals);
    for (size_t i = 0; i < LD_ARRAY_LEN(handled); i++)
        sigaddset(&signals, handled[i]);
    (void)sigprocmask(SIG_BLOCK, &signals, &mask);
    rc = prepare(cli, &runtime, err);
    if (rc == 0)
        rc = run_new(cli, runtime, &signals, &mask, err);
    (void)sigprocmask(SIG_SETMASK, &mask, NULL);
    if (rc == 0)
        return 0;
    ld_cli_report(cli, err); /* 1 to 5 may be the command's own statuses */
    cli->exit_status = (enum ld_exit)RUN_FAILED;
    return 0;
}

static const struct ld_opt run_opts[] = {
    {"interactive", 'i', NULL, false, "the command reads standard input", NULL},
    {"tty", 't', NULL, false, "the command gets a terminal", NULL},
    {"env", 'e', "NAME[=VALUE]", true, "set a variable, or take it over (may repeat)", NULL},
    {"user", 'u', "USER[:GROUP]", false, "run as (default: as the image says)", NULL},
    {"workdir", 'w', "PATH", false, "run in this folder of the container", NULL},
    {"entrypoint", 0, "PROGRAM", false, "instead of the image's entry point; \"\": none", NULL},
    {"name", 'n', "NAME", false, "its name, which is its host name, too", NULL},
    LD_OPTS_CREATE,
    {"read-only", 0, NULL, false, "the command can write to its volumes only", NULL},
    {"network", 0, "none|host", false,
     "a network of its own without devices (default), or the host's", "none|host"},
    {"rm", 0, NULL, false, "taken for habit's sake: it is removed anyway", NULL},
    {"runtime", 0, "PROGRAM", false,
     "the OCI runtime (default: $LAYERD_RUNTIME, else crun or runc)", NULL},
    {"runtime-opt", 0, "OPTION", true, "an option for the runtime, before 'run' (may repeat)",
     NULL},
};

static const struct ld_cmd cmds[] = {
    {
        .name = "run",
        .operands = "IMAGE [COMMAND...]",
        .min_operands = 1,
        .max_operands = LD_OPERANDS_MANY,
        .ends_options = true,
        .complete = "image",
        .summary = "Run a command in a new container by an OCI runtime, then remove it",
        .details =
            "Creates an ephemeral container, mounts it, makes a runtime bundle, has crun or runc "
            "run it, and takes all of it away again, also when a signal comes. layerd itself runs "
            "nothing. Exits with the command's status, with 128 and its number after a signal, "
            "and with 125 when layerctl itself fails. Options end at IMAGE.",
        .opts = LD_CMD_OPTS(run_opts),
        .run = run_run,
    },
};

const struct ld_cmd_group ld_cmds_run = {"", "Running commands", cmds, LD_ARRAY_LEN(cmds)};
