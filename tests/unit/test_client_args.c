/* client/args.h, labels.h, mountspec.h, copy.h: what command lines mean. */
#include <stdio.h>
#include <string.h>

#include <criterion/criterion.h>

#include "client/args.h"
#include "client/cmd.h"
#include "client/copy.h"
#include "client/labels.h"
#include "client/mountspec.h"
#include "daemon/base/buf.h"
#include "daemon/base/err.h"
#include "daemon/base/mem.h"

static const struct ld_opt own[] = {
    {"name", 'n', "NAME", false, "", NULL},
    {"label", 'l', "KEY=VALUE", true, "", NULL},
    {"force", 'f', NULL, false, "", NULL},
    {"quiet", 'q', NULL, false, "", NULL},
    {"format", 0, "table|json", false, "", "table|json"},
};
static const struct ld_opt shared[] = {{"host", 'H', "ADDRESS", false, "", NULL}};

#define ARGC(argv) ((int)LD_ARRAY_LEN(argv))

static struct ld_args *new_args(void)
{
    return ld_args_new((struct ld_opts){own, LD_ARRAY_LEN(own)},
                       (struct ld_opts){shared, LD_ARRAY_LEN(shared)});
}

Test(client_args, takes_options_and_operands_in_any_order)
{
    const char *argv[] = {"web", "-fq", "--name=a=b", "-lx=1", "-l", "y", "-", "--", "-z"};
    autoargs struct ld_args *args = new_args();
    struct ld_err err = LD_ERR_INIT;

    cr_assert_eq(ld_args_parse(args, ARGC(argv), argv, &err), 0, "%s", err.message);
    cr_expect(ld_args_flag(args, "force"));
    cr_expect(ld_args_flag(args, "quiet"));
    cr_expect_str_eq(ld_args_value(args, "name"), "a=b");
    cr_expect_str_eq(ld_args_nth(args, "label", 0), "x=1");
    cr_expect_str_eq(ld_args_nth(args, "label", 1), "y");
    cr_expect_null(ld_args_nth(args, "label", 2));
    cr_expect_null(ld_args_value(args, "host"));
    cr_assert_eq(ld_args_count(args), 3);
    cr_expect_str_eq(ld_args_get(args, 0), "web");
    cr_expect_str_eq(ld_args_get(args, 1), "-");
    cr_expect_str_eq(ld_args_get(args, 2), "-z");
    cr_expect_null(ld_args_get(args, 3));
}

Test(client_args, refuses_what_it_does_not_know)
{
    static const struct {
        const char *argv[3];
        const char *message, *hint;
    } cases[] = {
        {{"--naem", "x"}, "there is no option '--naem'", "did you mean '--name'?"},
        {{"-z"}, "there is no option '-z'", ""},
        {{"--name"}, "the option '--name' needs a value (NAME)", ""},
        {{"-n"}, "the option '-n' needs a value (NAME)", ""},
        {{"--force=1"}, "the option '--force' takes no value", ""},
        {{"--format", "xml"}, "'--format xml': it is one of table|json", ""},
        {{"--\033x"}, "there is no option '--\\x1bx'", ""},
    };

    for (size_t i = 0; i < LD_ARRAY_LEN(cases); i++) {
        autoargs struct ld_args *args = new_args();
        struct ld_err err = LD_ERR_INIT;
        int argc = cases[i].argv[1] ? 2 : 1;

        cr_expect_eq(ld_args_parse(args, argc, cases[i].argv, &err), -1);
        cr_expect_eq(err.code, LD_E_INVALID);
        cr_expect_str_eq(err.message, cases[i].message);
        cr_expect_str_eq(err.hint, cases[i].hint);
    }
}

Test(client_args, stops_at_the_command)
{
    const char *argv[] = {"-H", "unix:///x", "ps", "-q"};
    autoargs struct ld_args *args = new_args();
    struct ld_err err = LD_ERR_INIT;
    int used = 0;

    cr_assert_eq(ld_args_parse_until_operand(args, ARGC(argv), argv, &used, &err), 0);
    cr_expect_eq(used, 2);
    cr_expect_not(ld_args_flag(args, "quiet"));
}

Test(client_args, every_command_is_found_and_whole)
{
    for (const struct ld_cmd_group *const *g = ld_cmds_all; *g; g++) {
        for (size_t i = 0; i < (*g)->n; i++) {
            const struct ld_cmd *cmd = &(*g)->cmd[i];
            char name[64];
            const char *words[2] = {name, NULL};
            char *space;
            struct ld_err err = LD_ERR_INIT;
            size_t used = 0;

            cr_assert_lt(strlen(cmd->name), sizeof(name));
            strcpy(name, cmd->name);
            space = strchr(name, ' ');
            if (space) {
                *space = '\0';
                words[1] = space + 1;
            }
            cr_expect_eq(ld_cmd_find(words[1] ? 2 : 1, words, &used, &err), cmd, "%s", cmd->name);
            cr_expect_not_null(cmd->operands, "%s", cmd->name);
            cr_expect_not_null(cmd->run, "%s", cmd->name);
            cr_expect_eq(cmd->max_operands > 0, cmd->operands[0] != '\0', "%s", cmd->name);
            for (size_t k = 0; k < LD_ARRAY_LEN(cmd->aliases) && cmd->aliases[k]; k++) {
                if (!strchr(cmd->aliases[k], ' ')) {
                    const char *alias[] = {cmd->aliases[k]};

                    cr_expect_eq(ld_cmd_find(1, alias, &used, &err), cmd, "%s is taken", alias[0]);
                }
            }
        }
    }
}

Test(client_args, of_a_command_that_ends_its_options_are_taken_as_they_are)
{
    static const struct ld_opt opts[] = {
        {"tty", 't', NULL, false, "", NULL},
        {"env", 'e', "NAME", true, "", NULL},
    };
    const char *argv[] = {"-t", "-e", "A=1", "image", "ls", "-t", "--", "--odd"};
    autoargs struct ld_args *args = ld_args_new((struct ld_opts){opts, 2}, ld_cmds_common);
    struct ld_err err = LD_ERR_INIT;

    cr_assert_eq(ld_args_parse_head(args, ARGC(argv), argv, &err), 0);
    cr_expect_eq(ld_args_count(args), 5);
    cr_expect_str_eq(ld_args_get(args, 2), "-t");
    cr_expect_str_eq(ld_args_get(args, 3), "--");
    cr_expect_str_eq(ld_args_get(args, 4), "--odd");
    cr_expect_null(ld_args_nth(args, "env", 1));
}

/* The whole manual page, for finding words in it. */
static char *read_manual(void)
{
    FILE *file = fopen(LD_SOURCE_ROOT "/docs/man/layerctl.1", "re");
    autobuf struct ld_buf text = LD_BUF_INIT(1 << 20);
    char part[4096];
    size_t n;

    cr_assert_not_null(file);
    while ((n = fread(part, 1, sizeof(part), file)) > 0)
        ld_buf_add(&text, part, n);
    (void)fclose(file);
    return ld_buf_take(&text);
}

Test(client_args, the_manual_has_every_command_and_option)
{
    autofree char *manual = read_manual();

    for (const struct ld_cmd_group *const *g = ld_cmds_all; *g; g++) {
        for (size_t i = 0; i < (*g)->n; i++) {
            const struct ld_cmd *cmd = &(*g)->cmd[i];
            autofree char *entry = ld_asprintf(".It Cm %s", cmd->name);
            const char *from = strstr(manual, entry);

            if (!cmd->summary)
                continue;
            cr_expect_not_null(from, "%s", cmd->name);
            for (size_t k = 0; from && k < cmd->opts.n; k++) {
                autofree char *option = ld_asprintf("Fl -%s", cmd->opts.opt[k].name);

                cr_expect(strstr(manual, option), "%s --%s", cmd->name, cmd->opts.opt[k].name);
            }
        }
    }
}

Test(client_args, misspelt_commands_get_a_suggestion)
{
    const char *words[] = {"image", "lss"};
    const char *one[] = {"imagse"};
    struct ld_err err = LD_ERR_INIT;
    size_t used;

    cr_expect_null(ld_cmd_find(2, words, &used, &err));
    cr_expect_str_eq(err.hint, "did you mean 'layerctl image ls'?");
    cr_expect_null(ld_cmd_find(1, one, &used, &err));
    cr_expect_not_null(strstr(err.hint, "image"));
}

Test(client_args, labels_are_set_and_taken_away)
{
    cJSON *labels = cJSON_CreateObject();
    struct ld_err err = LD_ERR_INIT;
    char *text;

    cr_assert_eq(ld_labels_patch(labels, "a=b=c", &err), 0);
    cr_assert_eq(ld_labels_patch(labels, "old-", &err), 0);
    cr_assert_eq(ld_labels_patch(labels, "e=", &err), 0);
    cr_assert_eq(ld_labels_patch(labels, "a=2", &err), 0);
    cr_expect_eq(ld_labels_patch(labels, "bare", &err), -1);
    cr_expect_eq(ld_labels_patch(labels, "=x", &err), -1);
    text = cJSON_PrintUnformatted(labels);
    cr_expect_str_eq(text, "{\"old\":null,\"e\":\"\",\"a\":\"2\"}");
    cJSON_free(text);
    cJSON_Delete(labels);
}

static void expect_mount(int (*parse)(const char *, cJSON *, struct ld_err *), const char *text,
                         const char *json)
{
    cJSON *mounts = cJSON_CreateArray();
    struct ld_err err = LD_ERR_INIT;
    int r = parse(text, mounts, &err);
    char *got = cJSON_PrintUnformatted(mounts);

    cr_expect_eq(r, json ? 0 : -1, "%s: %s", text, err.message);
    if (json)
        cr_expect_str_eq(got, json);
    else
        cr_expect_eq(err.code, LD_E_INVALID);
    cJSON_free(got);
    cJSON_Delete(mounts);
}

Test(client_args, mounts_mean_what_docker_users_expect)
{
    expect_mount(ld_mount_from_volume, "data:/data",
                 "[{\"type\":\"volume\",\"source\":\"data\",\"target\":\"/data\"}]");
    expect_mount(
        ld_mount_from_volume, "/srv:/data:ro",
        "[{\"type\":\"bind\",\"source\":\"/srv\",\"target\":\"/data\",\"read_only\":true}]");
    expect_mount(ld_mount_from_volume, "/cache", "[{\"type\":\"volume\",\"target\":\"/cache\"}]");
    expect_mount(ld_mount_from_volume, "data", NULL);
    expect_mount(ld_mount_from_volume, "data:rel", NULL);
    expect_mount(ld_mount_from_volume, "data:/d:rx", NULL);
    expect_mount(ld_mount_from_volume, ":/d", NULL);
    expect_mount(ld_mount_from_long, "type=bind,src=/a,dst=/b,readonly",
                 "[{\"type\":\"bind\",\"source\":\"/a\",\"target\":\"/b\",\"read_only\":true}]");
    expect_mount(ld_mount_from_long, "type=tmpfs,target=/t,tmpfs-size=1M",
                 "[{\"type\":\"tmpfs\",\"target\":\"/t\",\"size\":1048576}]");
    expect_mount(ld_mount_from_long, "source=v,target=/t,subpath=a/b",
                 "[{\"type\":\"volume\",\"source\":\"v\",\"target\":\"/t\",\"subpath\":\"a/b\"}]");
    expect_mount(ld_mount_from_long, "type=nfs,target=/t", NULL);
    expect_mount(ld_mount_from_long, "source=x", NULL);
    expect_mount(ld_mount_from_long, "target=/t,colour=red", NULL);
    expect_mount(ld_mount_from_tmpfs, "/tmp:size=64m",
                 "[{\"type\":\"tmpfs\",\"target\":\"/tmp\",\"size\":67108864}]");
    expect_mount(ld_mount_from_tmpfs, "tmp", NULL);
}

Test(client_args, places_are_told_apart)
{
    static const struct {
        const char *text, *owner, *path;
    } cases[] = {
        {"web:/etc", "web", "/etc"},
        {"web:etc", "web", "/etc"},
        {"./web:etc", NULL, "./web:etc"},
        {"/a:b", NULL, "/a:b"},
        {"-", NULL, "-"},
        {"file", NULL, "file"},
        {"dir/a:b", NULL, "dir/a:b"},
        {"web:", "web", "/"},
        {"web:/a/.", "web", "/a/."},
        {"@data:/x", "data", "/x"},
        {"./@data:x", NULL, "./@data:x"},
        {"@data", NULL, "@data"},
        {"@:x", NULL, "@:x"},
    };

    for (size_t i = 0; i < LD_ARRAY_LEN(cases); i++) {
        autoplace struct ld_place place = {0};

        ld_place_parse(cases[i].text, LD_KIND_CONTAINER, &place);
        cr_expect_str_eq(place.path, cases[i].path);
        if (!cases[i].owner) {
            cr_expect_null(place.owner, "%s", cases[i].text);
            continue;
        }
        cr_expect_str_eq(place.owner, cases[i].owner);
        cr_expect_eq(place.kind, cases[i].text[0] == '@' ? LD_KIND_VOLUME : LD_KIND_CONTAINER);
    }
    autoplace struct ld_place place = {0};

    ld_place_parse("data:/x", LD_KIND_VOLUME, &place);
    cr_expect_eq(place.kind, LD_KIND_VOLUME);
}

Test(client_args, names_are_the_last_part_of_paths)
{
    static const struct {
        const char *path, *name;
        bool content;
    } cases[] = {
        {"/a/b", "b", false},   {"/a/b/", "b", false},    {"/a/b/.", "b", true},
        {"/", "/", false},      {"/.", "/", true},        {"b", "b", false},
        {"/a/b/./", "b", true}, {"/a/..x", "..x", false},
    };

    for (size_t i = 0; i < LD_ARRAY_LEN(cases); i++) {
        autofree char *name = ld_place_name(cases[i].path);

        cr_expect_str_eq(name, cases[i].name);
        cr_expect_eq(ld_place_is_content(cases[i].path), cases[i].content, "%s", cases[i].path);
    }
}
