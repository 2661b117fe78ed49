/* layerctl system check: see layerctl(1). */
#include <stdio.h>

#include "client/api.h"
#include "client/cmd.h"
#include "client/out.h"
#include "client/text.h"
#include "daemon/base/err.h"
#include "daemon/base/mem.h"

static void print_finding(const cJSON *finding)
{
    const char *what = ld_field_has(finding, "name") ? "name" : "id";
    autofree char *object = ld_text_safe(ld_field_str(finding, what));
    autofree char *problem = ld_text_safe(ld_field_str(finding, "problem"));

    (void)printf("%s%s%s: %s", ld_field_str(finding, "kind"), *object ? " " : "", object, problem);
    if (ld_field_has(finding, "hint"))
        (void)printf(" (%s)", ld_field_str(finding, "hint"));
    (void)putchar('\n');
}

static int run_check(struct ld_cli *cli, struct ld_err *err)
{
    autojson cJSON *check = NULL;
    const cJSON *checked, *findings, *finding;

    if (ld_api_json(cli, "POST", "/v1/check", NULL, &check, err) < 0)
        return -1;
    findings = ld_field_get(check, "findings");
    checked = ld_field_get(check, "checked");
    if (ld_cli_wants_json(cli)) {
        ld_out_compact_json(check);
    } else {
        cJSON_ArrayForEach (finding, findings)
            print_finding(finding);
        (void)printf(
            "checked %s, %s, %s, %s\n",
            ld_text_count(ld_field_u64(checked, "layers"), "layer", "layers").text,
            ld_text_count(ld_field_u64(checked, "containers"), "container", "containers").text,
            ld_text_count(ld_field_u64(checked, "volumes"), "volume", "volumes").text,
            ld_text_count(ld_field_u64(checked, "mounts"), "mount", "mounts").text);
    }
    if (ld_field_bool(check, "ok"))
        return 0;
    return ld_err_set(err, LD_E_CORRUPT, "%d%s problems were found", cJSON_GetArraySize(findings),
                      ld_field_bool(check, "truncated") ? " and more" : "");
}

static const struct ld_opt check_opts[] = {LD_OPT_FORMAT};

static const struct ld_cmd cmds[] = {
    {
        .name = "system check",
        .aliases = {"check"},
        .operands = "",
        .summary = "Hold the records against the disk and the kernel",
        .details = "One look at everything, no content is read and nothing changed. One line per "
                   "problem; then the exit status is 1.",
        .opts = LD_CMD_OPTS(check_opts),
        .run = run_check,
    },
};

const struct ld_cmd_group ld_cmds_check = {"system", "The daemon itself", cmds, LD_ARRAY_LEN(cmds)};
