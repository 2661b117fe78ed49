/* image/change.h, image/words.h, image/oci_commit.h: Dockerfile lines, and configs made with them.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cjson/cJSON.h>

#include "daemon/base/err.h"
#include "daemon/base/mem.h"
#include "daemon/image/change.h"
#include "daemon/image/oci.h"
#include "daemon/image/oci_commit.h"
#include "tests/lib/env.h"

/* Applies lines (separated by '\n') to a "config" object; its text, or what was wrong. */
static char *apply(const char *before, const char *lines)
{
    autofree char *copy = ld_strdup(lines);
    cJSON *run = cJSON_Parse(before);
    struct ld_changes changes = {.run = run};
    struct ld_err err = LD_ERR_INIT;
    char *text, *rest = copy;
    int rc = 0;

    while (rc == 0 && rest) {
        const char *line = strsep(&rest, "\n");

        rc = ld_change_apply(&changes, line, &err);
    }
    text = rc == 0 ? cJSON_PrintUnformatted(run) : ld_strdup(err.message);
    if (rc < 0)
        cr_expect_eq(err.code, LD_E_INVALID);
    cJSON_Delete(run);
    return text;
}

LD_TEST(change, applies_each_instruction_in_its_forms)
{
    static const struct {
        const char *before, *lines, *after;
    } table[] = {
        {"{}", "CMD [\"a\", \"b c\"]", "{\"Cmd\":[\"a\",\"b c\"]}"},
        {"{}", "cmd echo $x 'y'", "{\"Cmd\":[\"/bin/sh\",\"-c\",\"echo $x 'y'\"]}"},
        {"{\"Shell\":[\"bash\",\"-c\"]}", "CMD x",
         "{\"Shell\":[\"bash\",\"-c\"],\"Cmd\":[\"bash\",\"-c\",\"x\"]}"},
        {"{\"Cmd\":[\"x\"]}", "CMD []", "{\"Cmd\":[]}"},
        {"{}", "CMD [not json", "{\"Cmd\":[\"/bin/sh\",\"-c\",\"[not json\"]}"},
        {"{\"Cmd\":[\"old\"]}", "ENTRYPOINT [\"e\"]", "{\"Entrypoint\":[\"e\"]}"},
        {"{\"Cmd\":[\"old\"]}", "CMD [\"n\"]\nENTRYPOINT [\"e\"]",
         "{\"Cmd\":[\"n\"],\"Entrypoint\":[\"e\"]}"},
        {"{\"Env\":[\"A=1\",\"B=2\"]}", "ENV A=9 C=\"x y\" D=z\\ w",
         "{\"Env\":[\"A=9\",\"B=2\",\"C=x y\",\"D=z w\"]}"},
        {"{\"Env\":null}", "ENV A  one two ", "{\"Env\":[\"A=one two\"]}"},
        {"{\"Env\":[\"A=1\"]}", "ENV A=2 B=$A",
         "{\"Env\":[\"A=2\",\"B=1\"]}"}, /* what was there before the line */
        {"{\"Env\":[\"A=1\",\"E=\"]}",
         "ENV B=${A}x C=${N:-none} D=${A:+set} F=${E:-e}${E-f}${E:+g}${E+h} G='$A' H=\"$A\" I=\\$A",
         "{\"Env\":[\"A=1\",\"E=\",\"B=1x\",\"C=none\",\"D=set\",\"F=eh\",\"G=$A\",\"H=1\",\"I=$"
         "A\"]}"},
        {"{}", "ENV A=a=b", "{\"Env\":[\"A=a=b\"]}"},
        {"{}", "ENV A=\"${B:-${C:-x \"y\"}z}'\"", "{\"Env\":[\"A=x yz'\"]}"},
        {"{}", "ENV A=${B:-${C:-x}}", "{\"Env\":[\"A=x\"]}"},
        {"{}", "LABEL a=1 \"b c\"='d e'", "{\"Labels\":{\"a\":\"1\",\"b c\":\"d e\"}}"},
        {"{\"Labels\":{\"a\":\"0\"}}", "LABEL a the rest", "{\"Labels\":{\"a\":\"the rest\"}}"},
        {"{}", "EXPOSE 80 443/TCP 53/udp 8000-8001/sctp",
         "{\"ExposedPorts\":{\"80/tcp\":{},\"443/tcp\":{},\"53/udp\":{},\"8000/sctp\":{},\"8001/"
         "sctp\":{}}}"},
        {"{\"Env\":[\"P=1 2\"]}", "EXPOSE $P",
         "{\"Env\":[\"P=1 2\"],\"ExposedPorts\":{\"1/tcp\":{},\"2/tcp\":{}}}"},
        {"{}", "USER 1000:1000", "{\"User\":\"1000:1000\"}"},
        {"{\"Volumes\":null}", "VOLUME /a /b", "{\"Volumes\":{\"/a\":{},\"/b\":{}}}"},
        {"{}", "VOLUME [\"/a b\"]", "{\"Volumes\":{\"/a b\":{}}}"},
        {"{}", "WORKDIR /a/./b/../c/", "{\"WorkingDir\":\"/a/c\"}"},
        {"{\"WorkingDir\":\"/a\"}", "WORKDIR b\nWORKDIR ../../../c", "{\"WorkingDir\":\"/c\"}"},
        {"{}", "WORKDIR x", "{\"WorkingDir\":\"/x\"}"},
        {"{}", "STOPSIGNAL SIGTERM", "{\"StopSignal\":\"SIGTERM\"}"},
        {"{}", "STOPSIGNAL 9", "{\"StopSignal\":\"9\"}"},
        {"{}", "STOPSIGNAL RTMIN+3", "{\"StopSignal\":\"RTMIN+3\"}"},
        {"{}", "HEALTHCHECK NONE", "{\"Healthcheck\":{\"Test\":[\"NONE\"]}}"},
        {"{}", "HEALTHCHECK --interval=1m30.5s --retries=3 --timeout=0 CMD curl  x",
         "{\"Healthcheck\":{\"Interval\":90500000000,\"Retries\":3,\"Test\":[\"CMD-SHELL\","
         "\"curl  x\"]}}"},
        {"{}", "HEALTHCHECK CMD [\"a\"]", "{\"Healthcheck\":{\"Test\":[\"CMD\",\"a\"]}}"},
        {"{\"OnBuild\":null}", "ONBUILD RUN x\nONBUILD ADD . /",
         "{\"OnBuild\":[\"RUN x\",\"ADD . /\"]}"},
    };

    for (size_t i = 0; i < LD_ARRAY_LEN(table); i++) {
        autofree char *got = apply(table[i].before, table[i].lines);

        cr_expect_str_eq(got, table[i].after, "'%s' gave %s", table[i].lines, got);
    }
}

LD_TEST(change, refuses_what_cannot_be_committed_and_names_the_line)
{
    static const struct {
        const char *line, *says;
    } table[] = {
        {"RUN x", "'RUN' is not an instruction"},
        {"FROM scratch", "'FROM' is not"},
        {"", "is not an instruction"},
        {"CMD", "CMD wants an argument"},
        {"CMD [1]", "array of strings"},
        {"ENV", "wants an argument"},
        {"ENV A", "wants NAME=VALUE"},
        {"ENV A=1 B", "'B' is not NAME=VALUE"},
        {"ENV =1", "can't be empty"},
        {"ENV A='1", "single quote is not closed"},
        {"ENV A=\"1", "double quote is not closed"},
        {"ENV A=${B", "'${' is not closed"},
        {"ENV A=${B:-", "'${' is not closed"},
        {"ENV A=${}", "not followed by a name"},
        {"ENV A=${B%x}", "of variables there are"},
        {"ENV A=${B:-${B:-${B:-${B:-${B:-${B:-${B:-${B:-${B:-}}}}}}}}}", "nested deeper"},
        {"EXPOSE x", "wants ports"},
        {"EXPOSE 0", "wants ports"},
        {"EXPOSE 65536", "wants ports"},
        {"EXPOSE 9-8", "wants ports"},
        {"EXPOSE 80/icmp", "wants ports"},
        {"EXPOSE 1.2.3.4:80:80", "wants ports"},
        {"USER $NOBODY", "comes to nothing"},
        {"VOLUME x", "not an absolute path"},
        {"VOLUME []", "names no path"},
        {"STOPSIGNAL SIGNONE", "not a signal"},
        {"STOPSIGNAL 65", "not a signal"},
        {"HEALTHCHECK x", "wants CMD"},
        {"HEALTHCHECK CMD", "wants CMD"},
        {"HEALTHCHECK CMD []", "its command is empty"},
        {"HEALTHCHECK --interval=1s NONE", "wants CMD"},
        {"HEALTHCHECK --interval=1 CMD x", "not a duration"},
        {"HEALTHCHECK --interval=1us CMD x", "not a duration"},
        {"HEALTHCHECK --interval= CMD x", "not a duration"},
        {"HEALTHCHECK --interval=99999999999h CMD x", "not a duration"},
        {"HEALTHCHECK --retries=-1 CMD x", "not a whole number"},
        {"HEALTHCHECK --other=1 CMD x", "not an option"},
        {"ONBUILD FROM x", "can't be a trigger"},
        {"ONBUILD onbuild RUN x", "can't be a trigger"},
    };
    struct ld_err err = LD_ERR_INIT;

    for (size_t i = 0; i < LD_ARRAY_LEN(table); i++) {
        autofree char *got = apply("{}", table[i].line);
        autofree char *names = ld_asprintf("change '%s'", table[i].line);

        cr_expect(strstr(got, table[i].says), "'%s' for '%s'", got, table[i].line);
        cr_expect(strstr(got, names), "'%s' for '%s'", got, table[i].line);
    }
    ld_test_fails(ld_change_check("CMD x\nCMD y", &err), &err, LD_E_INVALID);
    ld_test_ok(ld_change_check("USER ${SOMEBODY}", &err), &err);
}

/* Doubling with every line, a config could be made to fill any memory. */
LD_TEST(change, bounds_what_variables_come_to)
{
    cJSON *run = cJSON_Parse("{\"Env\":[\"A=0123456789\"]}");
    struct ld_changes changes = {.run = run};
    struct ld_err err = LD_ERR_INIT;
    int lines = 0;

    while (lines < 100 && ld_change_apply(&changes, "ENV A=$A$A", &err) == 0)
        lines++;
    cr_expect_eq(err.code, LD_E_INVALID);
    cr_expect(strstr(err.message, "more than 65536 bytes"), "%s", err.message);
    cr_expect_lt(lines, 20);
    cJSON_Delete(run);
}

/* ---- configs ---- */

#define D1 "sha256:1111111111111111111111111111111111111111111111111111111111111111"

static const char base[] =
    "{\"architecture\":\"arm64\",\"variant\":\"v8\",\"os\":\"linux\",\"os.features\":[\"f\"],"
    "\"author\":\"me\",\"container\":\"abc\",\"docker_version\":\"1\",\"parent\":\"sha256:p\","
    "\"config\":{\"Cmd\":[\"c\"],\"Env\":[\"A=1\"],\"ArgsEscaped\":true},"
    "\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[\"" D1 "\"]}}";

static cJSON *render(struct ld_oci_commit *c)
{
    struct ld_err err = LD_ERR_INIT;
    autofree char *text = NULL;
    cJSON *json;

    c->base = base;
    c->base_len = strlen(base);
    ld_test_ok(ld_oci_commit_render(c, &text, &err), &err);
    json = cJSON_Parse(text);
    cr_assert_not_null(json);
    return json;
}

static void expect_json(const cJSON *from, const char *name, const char *want)
{
    cJSON *item = cJSON_GetObjectItemCaseSensitive(from, name);
    autofree char *got = item ? cJSON_PrintUnformatted(item) : ld_strdup("(none)");

    cr_expect_str_eq(got, want, "%s: %s, not %s", name, got, want);
}

LD_TEST(oci_commit, adds_a_layer_and_a_line_of_history)
{
    static const char *const changes[] = {"ENV B=2", "USER u"};
    struct ld_digest diff_id = ld_digest_of("x", 1);
    struct ld_oci_commit c = {.overrides =
                                  "{\"entrypoint\":[\"e\"],\"env\":[\"A=9\"],\"user\":\"\"}",
                              .changes = changes,
                              .n_changes = 2,
                              .message = "why",
                              .diff_id = &diff_id,
                              .created_ns = 1700000000123456789};
    char digest[LD_DIGEST_TEXT];
    autofree char *ids = NULL;
    cJSON *json = render(&c);

    ld_digest_format(&diff_id, digest);
    ids = ld_asprintf("{\"type\":\"layers\",\"diff_ids\":[\"" D1 "\",\"%s\"]}", digest);
    expect_json(json, "architecture", "\"arm64\"");
    expect_json(json, "variant", "\"v8\"");
    expect_json(json, "os.features", "[\"f\"]");
    expect_json(json, "created", "\"2023-11-14T22:13:20.123456789Z\"");
    expect_json(json, "author", "(none)");
    expect_json(json, "container", "(none)");
    expect_json(json, "docker_version", "(none)");
    expect_json(json, "parent", "(none)");
    expect_json(json, "config",
                "{\"Env\":[\"A=9\",\"B=2\"],\"ArgsEscaped\":true,\"Entrypoint\":[\"e\"],"
                "\"User\":\"u\"}");
    expect_json(json, "rootfs", ids);
    expect_json(json, "history",
                "[{\"created_by\":\"\"},{\"created\":\"2023-11-14T22:13:20.123456789Z\","
                "\"created_by\":\"layerd commit\",\"comment\":\"why\"}]");
    cJSON_Delete(json);
}

LD_TEST(oci_commit, without_changes_of_files_has_an_empty_layer)
{
    struct ld_oci_commit c = {.author = "you", .created_ns = 1};
    cJSON *json = render(&c);

    expect_json(json, "author", "\"you\"");
    expect_json(json, "rootfs", "{\"type\":\"layers\",\"diff_ids\":[\"" D1 "\"]}");
    expect_json(json, "history",
                "[{\"created_by\":\"\"},{\"created\":\"1970-01-01T00:00:00.000000001Z\","
                "\"created_by\":\"layerd commit\",\"author\":\"you\",\"empty_layer\":true}]");
    cJSON_Delete(json);
}

LD_TEST(oci_commit, squashed_has_one_layer_and_one_line)
{
    struct ld_digest diff_id = ld_digest_of("x", 1);
    struct ld_oci_commit c = {.squash = true, .diff_id = &diff_id, .created_ns = 1};
    cJSON *json = render(&c);
    autofree char *text = cJSON_PrintUnformatted(json);
    struct ld_oci_config config = {0};
    struct ld_err err = LD_ERR_INIT;

    ld_test_ok(ld_oci_config_parse(text, strlen(text), "it", &config, &err), &err);
    cr_expect_eq(config.n_layers, 1);
    cr_expect_eq(config.n_history, 1);
    cr_expect(ld_digest_equal(&config.diff_ids[0], &diff_id));
    ld_oci_config_done(&config);
    cJSON_Delete(json);
}
