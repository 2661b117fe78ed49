/* layerctl container …, but for what concerns the files in one (cmd_files.c): see layerctl(1). */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "client/api.h"
#include "client/cmd.h"
#include "client/create_body.h"
#include "client/dry_run.h"
#include "client/labels.h"
#include "client/limits.h"
#include "client/list.h"
#include "client/object.h"
#include "client/out.h"
#include "client/text.h"
#include "daemon/base/err.h"
#include "daemon/base/mem.h"

/* POST to /v1/containers/NAME/VERB; ret is the container. */
static int post(struct ld_cli *cli, const char *name, const char *verb, const cJSON *body,
                cJSON **ret, struct ld_err *err)
{
    autobuf struct ld_buf url = LD_URL_INIT;

    if (ld_object_url(LD_KIND_CONTAINER, name, verb, &url, err) < 0)
        return -1;
    return ld_api_json(cli, "POST", ld_buf_str(&url), body, ret, err);
}

/* ls */

static const struct ld_column columns[] = {
    {"CONTAINER ID"}, {"NAME", .shrinks = true}, {"IMAGE", .shrinks = true}, {"CREATED"}, {"STATE"},
    {"DRIVER"},
};

static void add_container(struct ld_table *t, const cJSON *container, const struct ld_row_ctx *ctx)
{
    const cJSON *image = ld_field_get(container, "image");

    ld_cell_id(t, container, "id", ctx);
    ld_cell_str(t, container, "name");
    if (ld_field_has(image, "ref"))
        ld_cell_str(t, image, "ref");
    else
        ld_cell_id(t, image, "id", ctx);
    ld_cell_age(t, container, "created_at", ctx);
    ld_cell_state(t, container);
    ld_cell_str(t, container, "driver");
}

static int run_ls(struct ld_cli *cli, struct ld_err *err)
{
    static const struct ld_list list = {columns, LD_ARRAY_LEN(columns), "id", add_container};
    autobuf struct ld_buf url = LD_URL_INIT;

    ld_buf_adds(&url, "/v1/containers");
    ld_list_add_filters(cli, &url);
    return ld_list_show(cli, ld_buf_str(&url), &list, err);
}

static const struct ld_opt list_opts[] = {
    {"all", 'a', NULL, false, "taken for habit's sake: all are listed anyway", NULL},
    LD_OPT_FILTER,
    LD_OPT_QUIET,
    LD_OPT_WHOLE,
    LD_OPT_FORMAT,
};

/* create */

static const struct ld_opt create_opts[] = {
    {"name", 'n', "NAME", false, "its name (default: none, it is known by its id)", NULL},
    LD_OPTS_CREATE,
    {"read-only", 0, NULL, false, "never mount it writable", NULL},
    {"ephemeral", 0, NULL, false, "fast and never synced to disk; gone after a reboot", NULL},
    {"auto-remove", 0, NULL, false, "remove it when it is unmounted", NULL},
    {"rm", 0, NULL, false, "the same as --auto-remove", NULL},
    {"mount-now", 'm', NULL, false, "mount it, too, and print the mountpoint", NULL},
    {"ensure", 0, NULL, false, "fine when it is there already, made by the same request", NULL},
    LD_OPT_ONCE,
    LD_OPT_FORMAT,
};

static int build_create(const struct ld_args *args, cJSON *body, struct ld_err *err)
{
    if (ld_args_flag(args, "ephemeral"))
        (void)cJSON_AddTrueToObject(body, "ephemeral");
    if (ld_args_flag(args, "auto-remove") || ld_args_flag(args, "rm"))
        (void)cJSON_AddTrueToObject(body, "auto_remove");
    return ld_create_body(args, body, err);
}

/* Create and mount are one for the caller: a container that was made now and cannot be mounted
 * goes. */
static int mount_new(struct ld_cli *cli, const char *id, bool is_new, cJSON **ret,
                     struct ld_err *err)
{
    autobuf struct ld_buf url = LD_URL_INIT;
    struct ld_err ignored = LD_ERR_INIT;

    if (post(cli, id, "mount", NULL, ret, err) == 0)
        return 0;
    if (!is_new)
        return -1;
    if (ld_object_url(LD_KIND_CONTAINER, id, NULL, &url, &ignored) == 0) {
        ld_url_query(&url, "volumes", "1");
        ld_url_query(&url, "purge", "1");
        if (ld_api_json(cli, "DELETE", ld_buf_str(&url), NULL, NULL, &ignored) < 0)
            (void)ld_err_hint(err, "the container stays: %s", ignored.message);
    }
    return -1;
}

static int run_create(struct ld_cli *cli, struct ld_err *err)
{
    const char *name = ld_args_value(cli->args, "name");
    bool ensure = ld_args_flag(cli->args, "ensure");
    bool mount_now = ld_args_flag(cli->args, "mount-now");
    autobuf struct ld_buf url = LD_URL_INIT;
    autoreply struct ld_http_reply reply = LD_HTTP_REPLY_INIT;
    autojson cJSON *body = cJSON_CreateObject();
    autojson cJSON *container = NULL;
    autojson cJSON *mounted = NULL;

    bool once = ld_args_value(cli->args, "idempotency-key") != NULL;
    int r;

    if (ensure && !name)
        return ld_err_set(err, LD_E_INVALID, "--ensure needs --name");
    if (ensure && once)
        return ld_err_set(err, LD_E_INVALID, "--ensure needs no --idempotency-key");
    if (build_create(cli->args, body, err) < 0)
        return -1;
    if (!ensure)
        ld_buf_adds(&url, "/v1/containers");
    else if (ld_object_url(LD_KIND_CONTAINER, name, NULL, &url, err) < 0)
        return -1;
    r = ensure ? ld_api_send(cli, "PUT", ld_buf_str(&url), body, &reply, err)
               : ld_api_make(cli, ld_buf_str(&url), body, &reply, err);
    if (r < 0 || ld_api_parse(&reply, &container, err) < 0)
        return -1;
    /* Under a key it may have been there: it stays. */
    if (mount_now && mount_new(cli, ld_field_str(container, "id"), reply.status == 201 && !once,
                               &mounted, err) < 0)
        return -1;
    if (ld_cli_wants_json(cli))
        ld_out_compact_json(mounted ? mounted : container);
    else
        ld_out_line(mounted ? ld_field_str(mounted, "mountpoint") : ld_field_str(container, "id"));
    return 0;
}

/* inspect */

static int show_container(struct ld_cli *cli, const char *name, struct ld_err *err)
{
    return ld_object_show(cli, LD_KIND_CONTAINER, name, ld_args_flag(cli->args, "size"), err);
}

static int run_inspect(struct ld_cli *cli, struct ld_err *err)
{
    (void)err;
    return ld_cli_each(cli, show_container);
}

static const struct ld_opt show_opts[] = {
    {"size", 's', NULL, false, "count what its writable layer holds", NULL},
    LD_OPT_FORMAT,
};

/* mount, umount */

static int mount_at(struct ld_cli *cli, const char *name, const char *target, struct ld_err *err)
{
    autojson cJSON *body = cJSON_CreateObject();
    autojson cJSON *container = NULL;

    if (ld_args_flag(cli->args, "read-only"))
        (void)cJSON_AddTrueToObject(body, "read_only");
    if (target)
        (void)cJSON_AddStringToObject(body, "target", target);
    if (ld_args_flag(cli->args, "trusted"))
        (void)cJSON_AddTrueToObject(body, "trusted");
    if (post(cli, name, "mount", body, &container, err) < 0)
        return -1;
    if (ld_cli_wants_json(cli))
        ld_out_compact_json(container);
    else
        ld_out_line(ld_field_str(container, target ? "target" : "mountpoint"));
    return 0;
}

static int mount_one(struct ld_cli *cli, const char *name, struct ld_err *err)
{
    return mount_at(cli, name, NULL, err);
}

/* No container's name has a slash in it. */
static int run_mount(struct ld_cli *cli, struct ld_err *err)
{
    size_t n = ld_args_count(cli->args);
    const char *last = ld_args_get(cli->args, n - 1);

    if (n < 2 || *last != '/')
        return ld_cli_each(cli, mount_one);
    if (n > 2)
        return ld_err_set(err, LD_E_INVALID, "one container is mounted at one target");
    return mount_at(cli, ld_args_get(cli->args, 0), last, err);
}

static const struct ld_opt mount_opts[] = {
    {"read-only", 'r', NULL, false, "this time read-only", NULL},
    {"trusted", 0, NULL, false, "let set-id bits and device nodes work at TARGET", NULL},
    LD_OPT_FORMAT,
};

/* bundle */

static int run_bundle(struct ld_cli *cli, struct ld_err *err)
{
    const char *path = ld_args_get(cli->args, 1);
    const char *network = ld_args_value(cli->args, "network");
    autojson cJSON *body = cJSON_CreateObject();
    autojson cJSON *container = NULL;

    if (path)
        (void)cJSON_AddStringToObject(body, "path", path);
    if (network)
        (void)cJSON_AddStringToObject(body, "network", network);
    if (ld_args_flag(cli->args, "tty"))
        (void)cJSON_AddTrueToObject(body, "terminal");
    if (post(cli, ld_args_get(cli->args, 0), "bundle", body, &container, err) < 0)
        return -1;
    if (ld_cli_wants_json(cli))
        ld_out_compact_json(container);
    else
        ld_out_line(ld_field_str(container, "bundle"));
    return 0;
}

static const struct ld_opt bundle_opts[] = {
    {"tty", 't', NULL, false, "its process gets a terminal", NULL},
    {"network", 0, "none|host", false,
     "a network of its own without devices (default), or the host's", "none|host"},
    LD_OPT_FORMAT,
};

/* After a forced unmount: who still has the tree open. */
static void print_holders(const char *name, const cJSON *holders)
{
    const cJSON *holder;

    cJSON_ArrayForEach (holder, holders) {
        autofree char *command = ld_text_safe(ld_field_str(holder, "command"));
        autofree char *safe = ld_text_safe(name);

        (void)fprintf(stderr, "warning: '%s' is still held by process %llu (%s)\n", safe,
                      (unsigned long long)ld_field_u64(holder, "pid"), command);
    }
}

static int unmount_one(struct ld_cli *cli, const char *name, struct ld_err *err)
{
    autobuf struct ld_buf url = LD_URL_INIT;
    autojson cJSON *container = NULL;

    if (ld_object_url(LD_KIND_CONTAINER, name, "unmount", &url, err) < 0)
        return -1;
    if (ld_args_flag(cli->args, "force"))
        ld_url_query(&url, "force", "1");
    if (ld_args_flag(cli->args, "sync"))
        ld_url_query(&url, "sync", "1");
    if (ld_api_json(cli, "POST", ld_buf_str(&url), NULL, &container, err) < 0)
        return -1;
    print_holders(name, ld_field_get(container, "holders"));
    if (ld_cli_wants_json(cli))
        ld_out_compact_json(container);
    else
        ld_out_line(name);
    return 0;
}

static int run_umount(struct ld_cli *cli, struct ld_err *err)
{
    (void)err;
    return ld_cli_each(cli, unmount_one);
}

static const struct ld_opt umount_opts[] = {
    {"force", 'f', NULL, false, "detach it even when it is in use", NULL},
    {"sync", 0, NULL, false, "wait until what was written is on disk", NULL},
    LD_OPT_FORMAT,
};

/* rm */

static int remove_one(struct ld_cli *cli, const char *name, struct ld_err *err)
{
    autobuf struct ld_buf url = LD_URL_INIT;

    if (ld_object_url(LD_KIND_CONTAINER, name, NULL, &url, err) < 0)
        return -1;
    if (ld_args_flag(cli->args, "force"))
        ld_url_query(&url, "force", "1");
    if (ld_args_flag(cli->args, "volumes"))
        ld_url_query(&url, "volumes", "1");
    if (ld_args_flag(cli->args, "purge"))
        ld_url_query(&url, "purge", "1");
    if (ld_remove_at(cli, &url, name, err) == 0)
        return 0;
    if (err->code == LD_E_BUSY && !err->hint[0])
        (void)ld_err_hint(err, "layerctl rm --force unmounts it first");
    return -1;
}

static int run_rm(struct ld_cli *cli, struct ld_err *err)
{
    (void)err;
    return ld_cli_each(cli, remove_one);
}

static const struct ld_opt rm_opts[] = {
    {"force", 'f', NULL, false, "unmount it first, even when it is in use", NULL},
    {"volumes", 'v', NULL, false, "its anonymous volumes, too", NULL},
    {"purge", 0, NULL, false, "destroy it at once, whatever the trash keeps", NULL},
    LD_OPT_DRY_RUN,
};

/* rename, label */

static int patch(struct ld_cli *cli, const char *name, const cJSON *body, struct ld_err *err)
{
    autobuf struct ld_buf url = LD_URL_INIT;

    if (ld_object_url(LD_KIND_CONTAINER, name, NULL, &url, err) < 0)
        return -1;
    return ld_api_json(cli, "PATCH", ld_buf_str(&url), body, NULL, err);
}

static int run_rename(struct ld_cli *cli, struct ld_err *err)
{
    autojson cJSON *body = cJSON_CreateObject();

    (void)cJSON_AddStringToObject(body, "name", ld_args_get(cli->args, 1));
    return patch(cli, ld_args_get(cli->args, 0), body, err);
}

static int run_label(struct ld_cli *cli, struct ld_err *err)
{
    autojson cJSON *body = cJSON_CreateObject();
    cJSON *labels = cJSON_AddObjectToObject(body, "labels");

    for (size_t i = 1; i < ld_args_count(cli->args); i++) {
        if (ld_labels_patch(labels, ld_args_get(cli->args, i), err) < 0)
            return -1;
    }
    return patch(cli, ld_args_get(cli->args, 0), body, err);
}

/* update */

static int update_one(struct ld_cli *cli, const char *name, struct ld_err *err)
{
    autojson cJSON *body = cJSON_CreateObject();

    if (ld_limits_both(cli->args, body, err) < 0)
        return -1;
    if (!body->child)
        return ld_err_set(err, LD_E_INVALID,
                          "nothing is to be changed: --size-limit or --inode-limit is missing");
    return patch(cli, name, body, err);
}

static int run_update(struct ld_cli *cli, struct ld_err *err)
{
    (void)err;
    return ld_cli_each(cli, update_one);
}

static const struct ld_opt update_opts[] = {LD_OPT_SIZE_LIMIT, LD_OPT_INODE_LIMIT};

static const struct ld_cmd cmds[] = {
    {
        .name = "container ls",
        .aliases = {"ps", "container list", "containers"},
        .operands = "",
        .summary = "List containers",
        .details = "In the order of their making. Filters: name=GLOB, label=KEY[=VALUE], "
                   "state=created|mounted|busy|damaged, "
                   "image=IMAGE, driver=NAME, volume=VOLUME, until=TIME or a duration such as 24h "
                   "(created before).",
        .opts = LD_CMD_OPTS(list_opts),
        .run = run_ls,
    },
    {
        .name = "container create",
        .aliases = {"create"},
        .operands = "IMAGE",
        .min_operands = 1,
        .max_operands = 1,
        .complete = "image",
        .summary = "Create a container and print its id",
        .details =
            "A container is a thin writable layer on an image. Named volumes are created on first "
            "use and "
            "outlive it; a new volume is filled with what the image has at the target. With "
            "--mount-now the "
            "mountpoint is printed instead of the id, and nothing stays when it cannot be mounted.",
        .opts = LD_CMD_OPTS(create_opts),
        .run = run_create,
    },
    {
        .name = "container update",
        .aliases = {"update"},
        .operands = "CONTAINER...",
        .min_operands = 1,
        .max_operands = LD_OPERANDS_MANY,
        .complete = "container",
        .summary = "Change the limits of containers",
        .details = "They count at once, mounted or not; the value none lifts one.",
        .opts = LD_CMD_OPTS(update_opts),
        .run = run_update,
    },
    {
        .name = "container inspect",
        .operands = "CONTAINER...",
        .min_operands = 1,
        .max_operands = LD_OPERANDS_MANY,
        .complete = "container",
        .summary = "Show all about containers",
        .details = "Prints a JSON document per container.",
        .opts = LD_CMD_OPTS(show_opts),
        .run = run_inspect,
    },
    {
        .name = "container mount",
        .aliases = {"mount"},
        .operands = "CONTAINER... [TARGET]",
        .min_operands = 1,
        .max_operands = LD_OPERANDS_MANY,
        .complete = "container",
        .summary = "Mount containers and print where",
        .details =
            "A container that is mounted stays as it is, and its mountpoint is printed. One can be "
            "mounted at TARGET, too: an absolute path of an existing folder, all above which "
            "belongs to root and can be written by root only, without symlinks. It is unmounted "
            "there with the container.",
        .opts = LD_CMD_OPTS(mount_opts),
        .run = run_mount,
    },
    {
        .name = "container bundle",
        .aliases = {"bundle"},
        .operands = "CONTAINER [FOLDER]",
        .min_operands = 1,
        .max_operands = 2,
        .complete = "container",
        .summary = "Make an OCI runtime bundle of a container and print where",
        .details =
            "Mounts the container and writes a config.json for it, so that 'crun run' or 'runc "
            "run' with --bundle works. It is in FOLDER, an existing one that only root can change, "
            "or in the daemon's run root, and goes when the container is unmounted.",
        .opts = LD_CMD_OPTS(bundle_opts),
        .run = run_bundle,
    },
    {
        .name = "container umount",
        .aliases = {"umount", "unmount", "container unmount"},
        .operands = "CONTAINER...",
        .min_operands = 1,
        .max_operands = LD_OPERANDS_MANY,
        .complete = "container",
        .summary = "Unmount containers",
        .details = "Refused, with exit status 4, while a process uses the tree: the processes are "
                   "named. A "
                   "container that is not mounted stays as it is.",
        .opts = LD_CMD_OPTS(umount_opts),
        .run = run_umount,
    },
    {
        .name = "container rm",
        .aliases = {"rm"},
        .operands = "CONTAINER...",
        .min_operands = 1,
        .max_operands = LD_OPERANDS_MANY,
        .complete = "container",
        .summary = "Remove containers and their writable layers",
        .details = "What was written in them is destroyed; volumes stay.",
        .opts = LD_CMD_OPTS(rm_opts),
        .run = run_rm,
    },
    {
        .name = "container rename",
        .aliases = {"rename"},
        .operands = "CONTAINER NAME",
        .min_operands = 2,
        .max_operands = 2,
        .complete = "container",
        .summary = "Give a container another name",
        .details = "A mounted one keeps its mountpoint.",
        .run = run_rename,
    },
    {
        .name = "container label",
        .aliases = {"label"},
        .operands = "CONTAINER KEY=VALUE|KEY-...",
        .min_operands = 2,
        .max_operands = LD_OPERANDS_MANY,
        .complete = "container",
        .summary = "Set labels of a container, or remove them (KEY-)",
        .run = run_label,
    },
};

const struct ld_cmd_group ld_cmds_container = {
    "container", "Containers: a writable layer on an image", cmds, LD_ARRAY_LEN(cmds)};
