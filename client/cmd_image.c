/* layerctl image …: see layerctl(1). */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "client/api.h"
#include "client/cmd.h"
#include "client/contents.h"
#include "client/download.h"
#include "client/dry_run.h"
#include "client/list.h"
#include "client/object.h"
#include "client/out.h"
#include "client/progress.h"
#include "client/text.h"
#include "client/upload.h"
#include "daemon/base/err.h"
#include "daemon/base/fdio.h"
#include "daemon/base/mem.h"

/* ls */

static const struct ld_column image_columns[] = {
    {"REFERENCE", .shrinks = true}, {"IMAGE ID"}, {"CREATED"}, {"SIZE", .right = true},
    {"CONTAINERS", .right = true},
};

static void add_image_row(struct ld_table *t, const cJSON *image, const char *ref,
                          const struct ld_row_ctx *ctx)
{
    bool is_damaged = strcmp(ld_field_str(image, "state"), "damaged") == 0;
    autofree char *text = ld_asprintf("%s%s", ref, is_damaged ? " (damaged)" : "");

    ld_table_add_styled(t, text, is_damaged ? LD_STYLE_BAD : LD_STYLE_PLAIN);
    ld_cell_id(t, image, "id", ctx);
    ld_cell_age(t, image, "created", ctx);
    ld_cell_size(t, image, "size");
    ld_cell_count(t, image, "containers");
}

/* One row per reference. */
static void add_image(struct ld_table *t, const cJSON *image, const struct ld_row_ctx *ctx)
{
    const cJSON *refs = ld_field_get(image, "refs");
    const cJSON *ref;

    if (cJSON_GetArraySize(refs) == 0)
        add_image_row(t, image, "<none>", ctx);
    cJSON_ArrayForEach (ref, refs)
        add_image_row(t, image, ref->valuestring ? ref->valuestring : "", ctx);
}

static const struct ld_opt list_opts[] = {LD_OPT_FILTER, LD_OPT_QUIET, LD_OPT_WHOLE, LD_OPT_FORMAT};

static int run_ls(struct ld_cli *cli, struct ld_err *err)
{
    static const struct ld_list list = {image_columns, LD_ARRAY_LEN(image_columns), "id",
                                        add_image};
    autobuf struct ld_buf url = LD_URL_INIT;

    ld_buf_adds(&url, "/v1/images");
    ld_list_add_filters(cli, &url);
    return ld_list_show(cli, ld_buf_str(&url), &list, err);
}

/* inspect */

static const struct ld_opt show_opts[] = {LD_OPT_FORMAT};

static int show_image(struct ld_cli *cli, const char *name, struct ld_err *err)
{
    return ld_object_show(cli, LD_KIND_IMAGE, name, false, err);
}

static int run_inspect(struct ld_cli *cli, struct ld_err *err)
{
    (void)err;
    return ld_cli_each(cli, show_image);
}

/* history */

static const struct ld_column history_columns[] = {
    {"LAYER"},
    {"CREATED"},
    {"CREATED BY", .shrinks = true},
    {"SIZE", .right = true},
    {"COMMENT", .shrinks = true},
};

static void add_history(struct ld_table *t, const cJSON *step, const struct ld_row_ctx *ctx)
{
    ld_cell_id(t, step, "chain_id", ctx);
    ld_cell_age(t, step, "created", ctx);
    ld_cell_str(t, step, "created_by");
    ld_cell_size(t, step, "size");
    ld_cell_str(t, step, "comment");
}

static int run_history(struct ld_cli *cli, struct ld_err *err)
{
    static const struct ld_list list = {history_columns, LD_ARRAY_LEN(history_columns), "chain_id",
                                        add_history};
    autobuf struct ld_buf url = LD_URL_INIT;

    if (ld_object_url(LD_KIND_IMAGE, ld_args_get(cli->args, 0), "history", &url, err) < 0)
        return -1;
    return ld_list_show(cli, ld_buf_str(&url), &list, err);
}

static const struct ld_opt history_opts[] = {LD_OPT_QUIET, LD_OPT_WHOLE, LD_OPT_FORMAT};

/* files, diff */

static const struct ld_opt files_opts[] = {LD_OPT_QUIET, LD_OPT_WHOLE, LD_OPT_FORMAT};

static int run_files(struct ld_cli *cli, struct ld_err *err)
{
    autobuf struct ld_buf url = LD_URL_INIT;

    if (ld_object_url(LD_KIND_IMAGE, ld_args_get(cli->args, 0), "files", &url, err) < 0)
        return -1;
    return ld_files_show(cli, ld_buf_str(&url), "path", err);
}

static int run_diff(struct ld_cli *cli, struct ld_err *err)
{
    autobuf struct ld_buf url = LD_URL_INIT;

    if (ld_object_url(LD_KIND_IMAGE, ld_args_get(cli->args, 1), "changes", &url, err) < 0)
        return -1;
    ld_url_query(&url, "since", ld_args_get(cli->args, 0));
    return ld_changes_show(cli, ld_buf_str(&url), err);
}

/* tag */

static int tag(struct ld_cli *cli, const char *image, const char *ref, struct ld_err *err)
{
    autobuf struct ld_buf url = LD_URL_INIT;
    autoreply struct ld_http_reply reply = LD_HTTP_REPLY_INIT;
    autojson cJSON *body = cJSON_CreateObject();

    if (ld_object_url(LD_KIND_IMAGE, image, "tag", &url, err) < 0)
        return -1;
    (void)cJSON_AddStringToObject(body, "ref", ref);
    return ld_api_make(cli, ld_buf_str(&url), body, &reply, err);
}

static const struct ld_opt tag_opts[] = {LD_OPT_ONCE};

static int run_tag(struct ld_cli *cli, struct ld_err *err)
{
    if (ld_args_count(cli->args) > 2 && ld_args_value(cli->args, "idempotency-key"))
        return ld_err_set(err, LD_E_INVALID,
                          "--idempotency-key is for one request: give one reference");
    for (size_t i = 1; i < ld_args_count(cli->args); i++) {
        if (tag(cli, ld_args_get(cli->args, 0), ld_args_get(cli->args, i), err) < 0)
            return -1;
    }
    return 0;
}

/* rm */

static int remove_image(struct ld_cli *cli, const char *name, struct ld_err *err)
{
    autobuf struct ld_buf url = LD_URL_INIT;
    autoreply struct ld_http_reply reply = LD_HTTP_REPLY_INIT;
    autofree char *safe = ld_text_safe(name);
    autojson cJSON *what = NULL;
    bool dry_run;

    if (ld_object_url(LD_KIND_IMAGE, name, NULL, &url, err) < 0)
        return -1;
    if (ld_args_flag(cli->args, "force"))
        ld_url_query(&url, "force", "1");
    if (ld_args_flag(cli->args, "purge"))
        ld_url_query(&url, "purge", "1");
    dry_run = ld_dry_run_query(cli, &url);
    if (ld_api_send(cli, "DELETE", ld_buf_str(&url), NULL, &reply, err) < 0 ||
        (dry_run && ld_api_parse(&reply, &what, err) < 0))
        return -1;
    if (dry_run) {
        ld_dry_run_print(what);
        return 0;
    }
    (void)printf("%s: %s\n", safe, reply.status == 204 ? "removed" : "untagged");
    return 0;
}

static int run_rm(struct ld_cli *cli, struct ld_err *err)
{
    (void)err;
    return ld_cli_each(cli, remove_image);
}

static const struct ld_opt rm_opts[] = {
    {"force", 'f', NULL, false, "with all its references, even when containers use it", NULL},
    {"purge", 0, NULL, false, "destroy it at once, whatever the trash keeps", NULL},
    LD_OPT_DRY_RUN,
};

/* import */

static void print_imported(const struct ld_cli *cli, const cJSON *result)
{
    const cJSON *layers = ld_field_get(result, "layers");
    uint64_t added = ld_field_u64(layers, "added");
    const cJSON *image, *warning;

    cJSON_ArrayForEach (image, ld_field_get(result, "images")) {
        const cJSON *refs = ld_field_get(image, "refs");
        const cJSON *ref;

        if (ld_args_flag(cli->args, "quiet")) {
            ld_out_line(ld_field_str(image, "id"));
            continue;
        }
        if (cJSON_GetArraySize(refs) == 0)
            (void)fputs("<none>", stdout);
        cJSON_ArrayForEach (ref, refs) {
            if (ref->prev->next)
                (void)fputs(", ", stdout);
            ld_out_styled(cli, LD_STYLE_HEAD, ref->valuestring ? ref->valuestring : "");
        }
        (void)printf("  %s  %s\n", ld_text_short_id(ld_field_str(image, "id")).text,
                     ld_text_size(ld_field_u64(image, "size")).text);
    }
    if (!ld_args_flag(cli->args, "quiet"))
        (void)printf("%s added (%s), %llu reused\n", ld_text_count(added, "layer", "layers").text,
                     ld_text_size(ld_field_u64(result, "bytes_added")).text,
                     (unsigned long long)ld_field_u64(layers, "reused"));
    cJSON_ArrayForEach (warning, ld_field_get(result, "warnings")) {
        autofree char *safe = ld_text_safe(warning->valuestring ? warning->valuestring : "");

        (void)fprintf(stderr, "warning: %s\n", safe);
    }
}

static int run_import(struct ld_cli *cli, struct ld_err *err)
{
    const char *operand = ld_args_get(cli->args, 0);
    const char *input = ld_args_value(cli->args, "input");
    const char *ref = ld_args_value(cli->args, "ref");
    const char *type = ld_args_value(cli->args, "type");
    const char *blobs = ld_args_value(cli->args, "blobs");
    autobuf struct ld_buf url = LD_URL_INIT;
    autojson cJSON *result = NULL;
    bool detached;

    if (operand && input)
        return ld_err_set(err, LD_E_INVALID, "an archive is named twice: '%s' and '%s'", operand,
                          input);
    ld_buf_adds(&url, "/v1/images/import");
    if (ref)
        ld_url_query(&url, "ref", ref);
    if (type)
        ld_url_query(&url, "format", type);
    if (blobs)
        ld_url_query(&url, "blobs", blobs);
    if (ld_upload(cli, ld_buf_str(&url),
                  operand ? operand
                  : input ? input
                          : "-",
                  &detached, &result, err) < 0)
        return -1;
    if (ld_cli_wants_json(cli))
        ld_out_compact_json(result);
    else if (detached)
        ld_out_line(ld_field_str(result, "job"));
    else
        print_imported(cli, result);
    return 0;
}

static const struct ld_opt import_opts[] = {
    {"input", 'i', "FILE", false, "the archive, instead of the operand", "file"},
    {"ref", 't', "REF", false, "name for the image, instead of those in the archive", NULL},
    {"type", 0, "auto|oci|docker|rootfs", false, "what the archive is (default: found out)",
     "auto|oci|docker|rootfs"},
    LD_OPTS_UPLOAD,
    {"blobs", 0, "keep|drop", false, "keep compressed layers as they came, too, or do not",
     "keep|drop"},
    {"quiet", 'q', NULL, false, "no progress; print image ids only", NULL},
    LD_OPT_FORMAT,
};

/* export */

static int run_export(struct ld_cli *cli, struct ld_err *err)
{
    const char *type = ld_args_value(cli->args, "type");
    const char *blobs = ld_args_value(cli->args, "blobs");
    autobuf struct ld_buf url = LD_URL_INIT;

    ld_buf_adds(&url, "/v1/images/export");
    for (size_t i = 0; i < ld_args_count(cli->args); i++)
        ld_url_query(&url, "ref", ld_args_get(cli->args, i));
    if (type)
        ld_url_query(&url, "format", type);
    if (blobs)
        ld_url_query(&url, "blobs", blobs);
    return ld_download(cli, ld_buf_str(&url), "Accept: application/x-tar",
                       ld_args_value(cli->args, "output"), true, err);
}

static const struct ld_opt export_opts[] = {
    {"output", 'o', "FILE", false, "write to FILE instead of standard output", "file"},
    {"type", 0, "oci|docker|rootfs", false, "what to write (default: oci)", "oci|docker|rootfs"},
    {"blobs", 0, "keep|drop", false, "drop: not the blobs that were kept", "keep|drop"},
};

/* mount, umount */

static int post_verb(struct ld_cli *cli, const char *name, const char *verb, const cJSON *body,
                     cJSON **ret, struct ld_err *err)
{
    autobuf struct ld_buf url = LD_URL_INIT;

    if (ld_object_url(LD_KIND_IMAGE, name, verb, &url, err) < 0)
        return -1;
    if (strcmp(verb, "unmount") == 0 && ld_args_flag(cli->args, "force"))
        ld_url_query(&url, "force", "1");
    return ld_api_json(cli, "POST", ld_buf_str(&url), body, ret, err);
}

static int run_mount(struct ld_cli *cli, struct ld_err *err)
{
    const char *target = ld_args_get(cli->args, 1);
    autojson cJSON *body = cJSON_CreateObject();
    autojson cJSON *image = NULL;

    if (target)
        (void)cJSON_AddStringToObject(body, "target", target);
    if (ld_args_flag(cli->args, "trusted"))
        (void)cJSON_AddTrueToObject(body, "trusted");
    if (post_verb(cli, ld_args_get(cli->args, 0), "mount", body, &image, err) < 0)
        return -1;
    if (ld_cli_wants_json(cli))
        ld_out_compact_json(image);
    else
        ld_out_line(ld_field_str(image, target ? "target" : "mountpoint"));
    return 0;
}

static const struct ld_opt mount_opts[] = {
    {"trusted", 0, NULL, false, "let set-id bits and device nodes work at TARGET", NULL},
    LD_OPT_FORMAT,
};

static int unmount_one(struct ld_cli *cli, const char *name, struct ld_err *err)
{
    autojson cJSON *image = NULL;

    if (post_verb(cli, name, "unmount", NULL, &image, err) < 0)
        return -1;
    if (ld_cli_wants_json(cli))
        ld_out_compact_json(image);
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
    LD_OPT_FORMAT,
};

static const struct ld_cmd cmds[] = {
    {
        .name = "image ls",
        .aliases = {"images", "image list"},
        .operands = "",
        .summary = "List images",
        .details =
            "One line per reference, in the order in which the images came. Filters: name=GLOB, "
            "label=KEY[=VALUE], "
            "dangling=1 (without any reference), until=TIME or a duration such as 24h (imported "
            "before).",
        .opts = LD_CMD_OPTS(list_opts),
        .run = run_ls,
    },
    {
        .name = "image inspect",
        .operands = "IMAGE...",
        .min_operands = 1,
        .max_operands = LD_OPERANDS_MANY,
        .complete = "image",
        .summary = "Show all about images",
        .details = "Prints a JSON document per image.",
        .opts = LD_CMD_OPTS(show_opts),
        .run = run_inspect,
    },
    {
        .name = "image history",
        .aliases = {"history"},
        .operands = "IMAGE",
        .min_operands = 1,
        .max_operands = 1,
        .complete = "image",
        .summary = "Show how an image was made, newest step first",
        .opts = LD_CMD_OPTS(history_opts),
        .run = run_history,
    },
    {
        .name = "image files",
        .operands = "IMAGE",
        .min_operands = 1,
        .max_operands = 1,
        .complete = "image",
        .summary = "List every file of an image",
        .details = "With --format json each file names the layer that gives it.",
        .opts = LD_CMD_OPTS(files_opts),
        .run = run_files,
    },
    {
        .name = "image diff",
        .operands = "OLD NEW",
        .min_operands = 2,
        .max_operands = 2,
        .complete = "image",
        .summary = "Show what makes one image of another",
        .details = "A added, C changed, D deleted: exact, whatever layers the two share.",
        .opts = LD_CMD_OPTS(show_opts),
        .run = run_diff,
    },
    {
        .name = "image import",
        .aliases = {"load", "image load", "import"},
        .operands = "[FILE]",
        .max_operands = 1,
        .complete = "file",
        .summary = "Import images from an archive",
        .details =
            "FILE is an OCI image layout as a tar, a Docker archive (docker save) or the "
            "tar of a root file "
            "system, plain or compressed with gzip, zstd, xz or bzip2; without FILE or with "
            "- it is read "
            "from standard input. Layers that are there already are reused. On a terminal "
            "progress is shown on "
            "standard error. A failed import leaves no image behind. With --detach 'layerctl "
            "job wait' tells how it ended.",
        .opts = LD_CMD_OPTS(import_opts),
        .run = run_import,
    },
    {
        .name = "image export",
        .aliases = {"save", "image save"},
        .operands = "IMAGE...",
        .min_operands = 1,
        .max_operands = LD_OPERANDS_MANY,
        .complete = "image",
        .summary = "Write images as one archive",
        .details =
            "By default the archive is an OCI image layout and a Docker archive in one, for "
            "docker load, "
            "podman load, ctr image import, skopeo and layerctl load; with --type docker the "
            "latter alone, with --type rootfs the merged root of one image. Layers and configs "
            "are those that came, byte for byte: the same image gives the same file. Where the "
            "image's blobs were kept (load --blobs keep) they and its manifest are what goes out. "
            "An image "
            "named by a reference has that name in the archive, one named by its id has none. "
            "FILE appears whole or not at all.",
        .opts = LD_CMD_OPTS(export_opts),
        .run = run_export,
    },
    {
        .name = "image tag",
        .aliases = {"tag"},
        .operands = "IMAGE REF...",
        .min_operands = 2,
        .max_operands = LD_OPERANDS_MANY,
        .complete = "image",
        .summary = "Give an image more references",
        .details = "A reference that another image has moves to this one.",
        .opts = LD_CMD_OPTS(tag_opts),
        .run = run_tag,
    },
    {
        .name = "image mount",
        .operands = "IMAGE [TARGET]",
        .min_operands = 1,
        .max_operands = 2,
        .complete = "image",
        .summary = "Mount an image read-only and print where",
        .details = "Without a container. At TARGET, too, if it is given: an absolute path of an "
                   "existing folder, all above which belongs to root and can be written by root "
                   "only, without symlinks.",
        .opts = LD_CMD_OPTS(mount_opts),
        .run = run_mount,
    },
    {
        .name = "image umount",
        .aliases = {"image unmount"},
        .operands = "IMAGE...",
        .min_operands = 1,
        .max_operands = LD_OPERANDS_MANY,
        .complete = "image",
        .summary = "Unmount images",
        .opts = LD_CMD_OPTS(umount_opts),
        .run = run_umount,
    },
    {
        .name = "image rm",
        .aliases = {"rmi", "untag", "image untag"},
        .operands = "IMAGE...",
        .min_operands = 1,
        .max_operands = LD_OPERANDS_MANY,
        .complete = "image",
        .summary = "Untag images, remove them with their last reference",
        .details = "By reference: that reference is removed, and the image with its last one. By "
                   "id: the image is "
                   "removed if it has at most one reference and no container was made from it. "
                   "With --force in any "
                   "case; layers stay as long as containers use them.",
        .opts = LD_CMD_OPTS(rm_opts),
        .run = run_rm,
    },
};

const struct ld_cmd_group ld_cmds_image = {"image", "Images and their references", cmds,
                                           LD_ARRAY_LEN(cmds)};
