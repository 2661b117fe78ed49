/* Completion: see complete.h. The command line is unfinished, so that nothing here is an error:
 * where nothing fits, nothing is printed. */
#include "client/complete.h"

#include <stdio.h>
#include <string.h>

#include "client/api.h"
#include "client/cmd.h"
#include "client/text.h"
#include "daemon/base/err.h"
#include "daemon/base/mem.h"

static void offer(const char *candidate, const char *typed, const char *suffix)
{
    autofree char *safe = ld_text_safe(candidate);

    if (strncmp(safe, typed, strlen(typed)) == 0)
        (void)printf("%s%s\n", safe, suffix);
}

/* A member of each item of a list: its text, or each text of its array. */
static void offer_list(struct ld_cli *cli, const char *target, const char *member, const char *list,
                       const char *typed, const char *suffix)
{
    struct ld_err ignored = LD_ERR_INIT;
    autojson cJSON *doc = NULL;
    const cJSON *item, *inner;

    if (ld_api_json(cli, "GET", target, NULL, &doc, &ignored) < 0)
        return;
    cJSON_ArrayForEach (item, ld_field_get(doc, list)) {
        const cJSON *value = ld_field_get(item, member);

        if (cJSON_IsString(value))
            offer(value->valuestring, typed, suffix);
        cJSON_ArrayForEach (inner, value) {
            if (cJSON_IsString(inner))
                offer(inner->valuestring, typed, suffix);
        }
    }
}

/* What an operand or a value may be; kinds without a list ("file") are the shell's. */
static void offer_kind(struct ld_cli *cli, const char *kind, const char *typed)
{
    static const struct {
        const char *kind, *target, *list, *member, *suffix;
    } kinds[] = {
        {"container", "/v1/containers?limit=1000", "items", "name", ""},
        {"container-file", "/v1/containers?limit=1000", "items", "name", ":/"},
        {"image", "/v1/images?limit=1000", "items", "refs", ""},
        {"volume", "/v1/volumes?limit=1000", "items", "name", ""},
        {"volume-file", "/v1/volumes?limit=1000", "items", "name", ":/"},
        {"trash", "/v1/trash?limit=1000", "items", "id", ""},
        {"layer", "/v1/layers?limit=1000", "items", "chain_id", ""},
        {"job", "/v1/jobs?limit=1000", "items", "id", ""},
        {"driver", "/v1/info", "drivers", "name", ""},
        {"backing", "/v1/info", "backings", "name", ""},
    };

    if (kind && strchr(kind, '|')) {
        autofree char *words = ld_strdup(kind);
        char *rest = NULL;

        for (char *word = strtok_r(words, "|", &rest); word; word = strtok_r(NULL, "|", &rest))
            offer(word, typed, "");
    }
    for (size_t i = 0; kind && i < LD_ARRAY_LEN(kinds); i++) {
        if (strcmp(kinds[i].kind, kind) == 0)
            offer_list(cli, kinds[i].target, kinds[i].member, kinds[i].list, typed,
                       kinds[i].suffix);
    }
}

static const struct ld_opt *option_of(const struct ld_cmd *cmd, const char *word)
{
    const struct ld_opts tables[] = {cmd ? cmd->opts : (struct ld_opts){NULL, 0}, ld_cmds_common};

    for (size_t t = 0; t < LD_ARRAY_LEN(tables); t++) {
        for (size_t i = 0; i < tables[t].n; i++) {
            const struct ld_opt *opt = &tables[t].opt[i];

            if ((strncmp(word, "--", 2) == 0 && strcmp(word + 2, opt->name) == 0) ||
                (word[0] == '-' && opt->letter && word[1] == opt->letter && !word[2]))
                return opt;
        }
    }
    return NULL;
}

static void offer_options(const struct ld_cmd *cmd, const char *typed)
{
    const struct ld_opts tables[] = {cmd ? cmd->opts : (struct ld_opts){NULL, 0}, ld_cmds_common};

    for (size_t t = 0; t < LD_ARRAY_LEN(tables); t++) {
        for (size_t i = 0; i < tables[t].n; i++) {
            autofree char *word = ld_asprintf("--%s", tables[t].opt[i].name);

            offer(word, typed, "");
        }
    }
}

static void offer_single(const char *name, const char *typed)
{
    if (!strchr(name, ' '))
        offer(name, typed, "");
}

/* Resources, and commands of one word. */
static void offer_first_words(const struct ld_cmd_group *g, const char *typed)
{
    if (g->summary && g->name[0])
        offer(g->name, typed, "");
    for (size_t i = 0; i < g->n; i++) {
        const struct ld_cmd *cmd = &g->cmd[i];

        if (!cmd->summary)
            continue;
        offer_single(cmd->name, typed);
        for (size_t k = 0; k < LD_ARRAY_LEN(cmd->aliases) && cmd->aliases[k]; k++)
            offer_single(cmd->aliases[k], typed);
    }
}

/* What is done to a resource. */
static void offer_second_words(const struct ld_cmd_group *g, const char *first, const char *typed)
{
    size_t len = strlen(first);

    for (size_t i = 0; i < g->n; i++) {
        const struct ld_cmd *cmd = &g->cmd[i];

        if (cmd->summary && strncmp(cmd->name, first, len) == 0 && cmd->name[len] == ' ')
            offer(cmd->name + len + 1, typed, "");
    }
}

/* `first`: NULL, or the resource that was typed. */
static void offer_commands(const char *first, const char *typed)
{
    for (const struct ld_cmd_group *const *g = ld_cmds_all; *g; g++) {
        if (first)
            offer_second_words(*g, first, typed);
        else
            offer_first_words(*g, typed);
    }
}

/* The words that are neither options nor values of options; at most two are of interest. */
static size_t command_words(size_t n, const char *const *words, const char *ret[2])
{
    size_t found = 0;

    for (size_t i = 0; i < n && found < 2; i++) {
        const struct ld_opt *opt = words[i][0] == '-' ? option_of(NULL, words[i]) : NULL;

        if (words[i][0] == '-') {
            i += opt && opt->value ? 1 : 0;
            continue;
        }
        ret[found++] = words[i];
        if (found == 1 && !ld_cmd_is_group(words[i]))
            break;
    }
    return found;
}

void ld_complete(struct ld_cli *cli, size_t n, const char *const *words)
{
    const char *typed = n > 0 ? words[n - 1] : "";
    const char *head[2] = {NULL, NULL};
    size_t found = n > 0 ? command_words(n - 1, words, head) : 0;
    size_t used;
    struct ld_err ignored = LD_ERR_INIT;
    const struct ld_cmd *cmd = found > 0 ? ld_cmd_find(found, head, &used, &ignored) : NULL;
    const struct ld_opt *before = n > 1 ? option_of(cmd, words[n - 2]) : NULL;

    for (size_t i = 0; i + 2 < n; i++) {
        if (strcmp(words[i], "-H") == 0 || strcmp(words[i], "--host") == 0)
            cli->host = words[i + 1];
    }
    if (before && before->value) {
        offer_kind(cli, before->complete, typed);
        return;
    }
    if (typed[0] == '-')
        offer_options(cmd, typed);
    else if (cmd)
        offer_kind(cli, cmd->complete, typed);
    else if (found == 0)
        offer_commands(NULL, typed);
    else if (found == 1 && ld_cmd_is_group(head[0]))
        offer_commands(head[0], typed);
}
