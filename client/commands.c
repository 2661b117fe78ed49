/* The list of all commands, and finding one by its name: see cmd.h. */
#include <string.h>

#include "client/cmd.h"
#include "client/http.h"
#include "client/text.h"
#include "daemon/base/err.h"
#include "daemon/base/mem.h"

const struct ld_cmd_group *const ld_cmds_all[] = {
    &ld_cmds_image,
    &ld_cmds_image_prune,
    &ld_cmds_container,
    &ld_cmds_files,
    &ld_cmds_know,
    &ld_cmds_commit,
    &ld_cmds_container_prune,
    &ld_cmds_run,
    &ld_cmds_snapshot,
    &ld_cmds_volume,
    &ld_cmds_volume_files,
    &ld_cmds_volume_snapshot,
    &ld_cmds_volume_prune,
    &ld_cmds_trash,
    &ld_cmds_layer,
    &ld_cmds_job,
    &ld_cmds_system,
    &ld_cmds_check,
    &ld_cmds_system_prune,
    &ld_cmds_other,
    NULL,
};

static const struct ld_opt common[] = {
    {"host", 'H', "ADDRESS", false,
     "where layerd listens (default: $LAYERD_HOST, else " LD_HTTP_DEFAULT_HOST ")", NULL},
    {"help", 'h', NULL, false, "explain the command", NULL},
    {"version", 0, NULL, false, "print layerctl's version", NULL},
};

const struct ld_opts ld_cmds_common = {common, LD_ARRAY_LEN(common)};

static bool has_name(const struct ld_cmd *cmd, const char *name)
{
    if (strcmp(cmd->name, name) == 0)
        return true;
    for (size_t i = 0; i < LD_ARRAY_LEN(cmd->aliases) && cmd->aliases[i]; i++) {
        if (strcmp(cmd->aliases[i], name) == 0)
            return true;
    }
    return false;
}

static const struct ld_cmd *by_name(const char *name)
{
    for (const struct ld_cmd_group *const *g = ld_cmds_all; *g; g++) {
        for (size_t i = 0; i < (*g)->n; i++) {
            if (has_name(&(*g)->cmd[i], name))
                return &(*g)->cmd[i];
        }
    }
    return NULL;
}

bool ld_cmd_is_group(const char *word)
{
    for (const struct ld_cmd_group *const *g = ld_cmds_all; *g; g++) {
        if ((*g)->name[0] && strcmp((*g)->name, word) == 0)
            return true;
    }
    return false;
}

/* The nearest name, for people who type fast. */
struct guess {
    const char *name;
    unsigned distance;
};

static void consider(struct guess *guess, const char *typed, const char *name)
{
    unsigned distance = ld_text_distance(typed, name, 2);

    if (distance < guess->distance)
        *guess = (struct guess){name, distance};
}

static int unknown(const char *typed, struct ld_err *err)
{
    autofree char *safe = ld_text_safe(typed);
    struct guess guess = {NULL, 3};

    for (const struct ld_cmd_group *const *g = ld_cmds_all; *g; g++) {
        if ((*g)->name[0])
            consider(&guess, typed, (*g)->name);
        for (size_t i = 0; i < (*g)->n; i++) {
            const struct ld_cmd *cmd = &(*g)->cmd[i];

            consider(&guess, typed, cmd->name);
            for (size_t k = 0; k < LD_ARRAY_LEN(cmd->aliases) && cmd->aliases[k]; k++)
                consider(&guess, typed, cmd->aliases[k]);
        }
    }
    (void)ld_err_set(err, LD_E_INVALID, "there is no command '%s'", safe);
    return guess.name ? ld_err_hint(err, "did you mean 'layerctl %s'?", guess.name)
                      : ld_err_hint(err, "'layerctl --help' lists all commands");
}

const struct ld_cmd *ld_cmd_find(size_t n, const char *const *words, size_t *ret_used,
                                 struct ld_err *err)
{
    const struct ld_cmd *cmd;

    if (n > 1 && ld_cmd_is_group(words[0])) {
        autofree char *both = ld_asprintf("%s %s", words[0], words[1]);

        cmd = by_name(both);
        if (cmd) {
            *ret_used = 2;
            return cmd;
        }
        if (!by_name(words[0])) { /* "snapshot" is a short form, too */
            (void)unknown(both, err);
            return NULL;
        }
    }
    cmd = n > 0 ? by_name(words[0]) : NULL;
    if (!cmd) {
        (void)unknown(n > 0 ? words[0] : "", err);
        return NULL;
    }
    *ret_used = 1;
    return cmd;
}
