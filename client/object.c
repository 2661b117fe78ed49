/* Objects of the API: see object.h. */
#include "client/object.h"

#include "client/api.h"
#include "client/out.h"
#include "daemon/base/err.h"
#include "daemon/base/mem.h"

static const struct {
    const char *path, *noun;
} kinds[] = {
    [LD_KIND_CONTAINER] = {"containers", "container"},
    [LD_KIND_IMAGE] = {"images", "image"},
    [LD_KIND_VOLUME] = {"volumes", "volume"},
    [LD_KIND_LAYER] = {"layers", "layer"},
    [LD_KIND_JOB] = {"jobs", "job"},
    [LD_KIND_TRASH] = {"trash", "trash"},
};

const char *ld_object_noun(enum ld_kind kind)
{
    return kinds[kind].noun;
}

int ld_object_url(enum ld_kind kind, const char *name, const char *tail, struct ld_buf *url,
                  struct ld_err *err)
{
    if (!*name)
        return ld_err_set(err, LD_E_INVALID, "the %s's name is empty", kinds[kind].noun);
    ld_buf_addf(url, "/v1/%s/", kinds[kind].path);
    if (kind == LD_KIND_IMAGE)
        ld_url_reference(url, name);
    else
        ld_url_segment(url, name);
    if (tail)
        ld_buf_addf(url, "/%s", tail);
    return 0;
}

int ld_object_get(struct ld_cli *cli, const char *target, cJSON **ret, struct ld_err *err)
{
    autoreply struct ld_http_reply reply = LD_HTTP_REPLY_INIT;
    autojson cJSON *doc = NULL;

    if (ld_api_send(cli, "GET", target, NULL, &reply, err) < 0 ||
        ld_api_parse(&reply, &doc, err) < 0)
        return -1;
    if (ld_cli_wants_json(cli))
        ld_out_raw_json(ld_buf_str(&reply.body), reply.body.len);
    else
        *ret = ld_steal(&doc);
    return 0;
}

int ld_object_print(struct ld_cli *cli, const char *target, struct ld_err *err)
{
    autojson cJSON *doc = NULL;

    if (ld_object_get(cli, target, &doc, err) < 0)
        return -1;
    if (doc)
        ld_out_pretty_json(doc);
    return 0;
}

int ld_object_show(struct ld_cli *cli, enum ld_kind kind, const char *name, bool with_size,
                   struct ld_err *err)
{
    autobuf struct ld_buf url = LD_URL_INIT;

    if (ld_object_url(kind, name, NULL, &url, err) < 0)
        return -1;
    if (with_size)
        ld_url_query(&url, "size", "1");
    return ld_object_print(cli, ld_buf_str(&url), err);
}
