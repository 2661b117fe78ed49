/* The two ends of a copy, and the attributes of a file that is not here: see copy.h. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "client/api.h"
#include "client/copy.h"
#include "client/object.h"
#include "client/text.h"
#include "daemon/base/err.h"
#include "daemon/base/mem.h"
#include "daemon/base/parse.h"

void ld_place_parse(const char *text, enum ld_kind kind, struct ld_place *ret)
{
    bool is_volume = text[0] == '@'; /* no name begins so */
    const char *name = is_volume ? text + 1 : text;
    size_t n = strcspn(name, ":/");

    *ret = (struct ld_place){.kind = is_volume ? LD_KIND_VOLUME : kind};
    if (n == 0 || name[n] != ':' || name[0] == '.') {
        ret->path = ld_strdup(text);
        return;
    }
    ret->owner = ld_strndup(name, n);
    text = name + n + 1;
    ret->path = ld_asprintf("%s%s", text[0] == '/' ? "" : "/", text);
}

void ld_place_done(struct ld_place *place)
{
    ld_free_p(&place->owner);
    ld_free_p(&place->path);
}

bool ld_place_is_content(const char *path)
{
    size_t len = strlen(path);

    while (len > 1 && path[len - 1] == '/')
        len--;
    return len >= 2 ? memcmp(path + len - 2, "/.", 2) == 0 : strcmp(path, ".") == 0;
}

char *ld_place_name(const char *path)
{
    size_t end = strlen(path);
    size_t start;

    for (;;) {
        while (end > 1 && path[end - 1] == '/')
            end--;
        if (end < 2 || memcmp(path + end - 2, "/.", 2) != 0)
            break;
        end -= 1;
    }
    start = end;
    while (start > 0 && path[start - 1] != '/')
        start--;
    return start < end ? ld_strndup(path + start, end - start) : ld_strdup("/");
}

int ld_file_url(const struct ld_place *of, const char *path, struct ld_buf *url, struct ld_err *err)
{
    if (ld_object_url(of->kind, of->owner, "files", url, err) < 0)
        return -1;
    ld_url_query(url, "path", path);
    return 0;
}

void ld_remote_file_done(struct ld_remote_file *info)
{
    ld_free_p(&info->target);
}

/* A symlink's target: bytes where they are not UTF-8. */
static char *target_of(const cJSON *doc)
{
    autobuf struct ld_buf bytes = LD_BUF_INIT(1 << 16);

    if (ld_field_has(doc, "target_b64") &&
        ld_text_decode_base64(ld_field_str(doc, "target_b64"), &bytes) == 0)
        return ld_buf_take(&bytes);
    return ld_field_has(doc, "target") ? ld_strdup(ld_field_str(doc, "target")) : NULL;
}

static int parse_stat(const char *header, struct ld_remote_file *ret)
{
    autobuf struct ld_buf text = LD_BUF_INIT(256 << 10);
    autojson cJSON *doc = NULL;
    const char *fraction;
    uint64_t mode;

    if (ld_text_decode_base64(header, &text) < 0)
        return -EINVAL;
    doc = cJSON_ParseWithLength(ld_buf_str(&text), text.len);
    if (ld_parse_octal(ld_field_str(doc, "mode"), 07777, &mode) < 0)
        return -EINVAL;
    *ret = (struct ld_remote_file){
        .mode = (unsigned)mode,
        .uid = (uint32_t)ld_field_u64(doc, "uid"),
        .gid = (uint32_t)ld_field_u64(doc, "gid"),
        .size = ld_field_u64(doc, "size"),
        .mtime_sec = ld_field_time(doc, "mtime"),
        .target = target_of(doc),
    };
    (void)snprintf(ret->type, sizeof(ret->type), "%s",
                   ld_field_str(doc, "type")); /* ours are short */
    fraction = strchr(ld_field_str(doc, "mtime"), '.');
    for (uint32_t unit = 100000000; fraction && unit > 0; unit /= 10) {
        if (fraction[1] < '0' || fraction[1] > '9')
            break;
        ret->mtime_nsec += unit * (uint32_t)(*++fraction - '0');
    }
    return 0;
}

/* Answers to HEAD have no body: the same question by GET gives the daemon's own words. */
static void ask_why(struct ld_cli *cli, const struct ld_place *of, const char *path,
                    struct ld_err *err)
{
    autobuf struct ld_buf url = LD_URL_INIT;
    autoreply struct ld_http_reply reply = LD_HTTP_REPLY_INIT;
    struct ld_http_call call = {.method = "GET", .headers = {"Accept: application/json"}};
    struct ld_err why = LD_ERR_INIT;

    if (ld_file_url(of, path, &url, &why) < 0)
        return;
    ld_url_query(&url, "limit", "1");
    call.target = ld_buf_str(&url);
    if (ld_http_run(cli->http, &call, &reply, &why) < 0)
        *err = why;
}

int ld_file_stat(struct ld_cli *cli, const struct ld_place *of, const char *path,
                 struct ld_remote_file *ret, struct ld_err *err)
{
    autobuf struct ld_buf url = LD_URL_INIT;
    autoreply struct ld_http_reply reply = LD_HTTP_REPLY_INIT;

    if (ld_file_url(of, path, &url, err) < 0)
        return -1;
    if (ld_api_send(cli, "HEAD", ld_buf_str(&url), NULL, &reply, err) < 0) {
        if (reply.status >= 400)
            ask_why(cli, of, path, err);
        return -1;
    }
    if (parse_stat(ld_buf_str(&reply.stat), ret) < 0)
        return ld_err_set(err, LD_E_IO, "the daemon's description of '%s' is not valid", path);
    return 0;
}
