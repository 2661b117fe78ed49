/* …/files of containers and of volumes: files in and out of a tree, whatever it belongs to.
 *
 * A read opens the tree first, by a short operation that holds its owner's keys, and then streams
 * without any. A write spools its body first, so that no key is held while a client is waited for.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include <cjson/cJSON.h>
#include <openssl/evp.h>

#include "api/call.h"
#include "api/file_json.h"
#include "api/json.h"
#include "api/path_list.h"
#include "api/router.h"
#include "api/routes.h"
#include "api/stream_sink.h"
#include "daemon/base/fdio.h"
#include "daemon/base/mem.h"
#include "daemon/base/parse.h"
#include "daemon/core/core.h"
#include "daemon/core/decoder.h"
#include "daemon/core/file_tree.h"
#include "daemon/core/spool.h"
#include "daemon/image/source.h"
#include "daemon/jobs/ring.h"

enum { BLOCK_BYTES = 128 << 10 };

static enum ld_file_owner owner_of(const struct ld_request *req)
{
    return ld_request_has_param(req, "volume") ? LD_FILES_OF_VOLUME : LD_FILES_OF_CONTAINER;
}

static const char *owner_name(const struct ld_request *req)
{
    return ld_request_param(req, owner_of(req) == LD_FILES_OF_VOLUME ? "volume" : "container");
}

/* ---- out ---- */

/* What a read is about: first the argument of the operation that opens the tree, then that of the
 * producer. */
struct content {
    struct ld_file_tree tree;
    char *path, *after;
    size_t limit;
    struct ld_file_info info;
    int (*produce)(struct content *c, struct ld_stream *stream, struct ld_err *err);
    const char *type;
};

static void content_free(void *arg)
{
    struct content *c = arg;

    ld_file_tree_close(&c->tree);
    ld_file_info_done(&c->info);
    free(c->path);
    free(c->after);
    free(c);
}

static int produce(struct ld_stream *stream, void *arg, struct ld_err *err)
{
    struct content *c = arg;
    int rc = c->produce(c, stream, err);

    ld_file_tree_close(&c->tree); /* on this worker: it may unmount */
    return rc;
}

struct open_call {
    struct ld_call call;
    enum ld_file_owner owner;
    char id[65];
    struct content *c;
    bool want_file, want_dir;
};

static void free_open(struct ld_call *call)
{
    struct open_call *o = (struct open_call *)call;

    if (o->c)
        content_free(o->c);
    free(o);
}

static int run_open(struct ld_call *call, struct ld_err *err)
{
    struct open_call *o = (struct open_call *)call;
    struct content *c = o->c;
    int rc;

    if (ld_file_tree_open(call->core, &call->w, o->owner, o->id, &c->tree, err) < 0)
        return -1;
    rc = ld_files_stat(&c->tree.root, c->path, &c->info, err);
    if (rc == 0 && o->want_file && !S_ISREG(c->info.st.st_mode))
        rc = ld_err_set(err, LD_E_CONFLICT, "'%s' is not a regular file", c->path);
    if (rc == 0 && o->want_dir && !S_ISDIR(c->info.st.st_mode))
        rc = ld_err_set(err, LD_E_CONFLICT, "'%s' is not a directory", c->path);
    if (rc < 0)
        ld_file_tree_close(&c->tree);
    return rc;
}

static cJSON *info_json(const struct ld_file_info *info)
{
    cJSON *json = cJSON_CreateObject();

    ld_json_add_bytes(json, "name", info->name);
    ld_json_add_file(json, info);
    return json;
}

/* FileInfo as JSON in base64. */
static void add_stat_header(struct ld_request *req, const struct ld_file_info *info)
{
    cJSON *json = info_json(info);
    autofree char *text = cJSON_PrintUnformatted(json);
    size_t len = text ? strlen(text) : 0;
    autofree char *b64 = ld_alloc0(len / 3 * 4 + 8);

    cJSON_Delete(json);
    (void)EVP_EncodeBlock((unsigned char *)b64, (const unsigned char *)text, (int)len);
    ld_reply_header(req, "X-Layerd-Stat", "%s", b64);
}

static void reply_opened(struct ld_call *call)
{
    struct open_call *o = (struct open_call *)call;
    struct content *c = ld_steal(&o->c);
    struct ld_producer producer = {
        .run = produce, .free = content_free, .arg = c, .status = 200, .content_type = c->type};

    add_stat_header(call->req, &c->info);
    ld_reply_stream(call->req, &producer);
}

static int run_stat(struct ld_call *call, struct ld_err *err)
{
    struct open_call *o = (struct open_call *)call;
    int rc = run_open(call, err);

    if (rc == 0)
        ld_file_tree_close(&o->c->tree);
    return rc;
}

static void reply_stat(struct ld_call *call)
{
    struct open_call *o = (struct open_call *)call;

    add_stat_header(call->req, &o->c->info);
    ld_reply_empty(call->req, 200);
}

static struct open_call *new_open(struct ld_request *req, const char *type,
                                  int (*produce_)(struct content *, struct ld_stream *,
                                                  struct ld_err *))
{
    struct open_call *o =
        ld_call_new(sizeof(*o), req, LD_LANE_QUICK, run_open, reply_opened, free_open);

    o->owner = owner_of(req);
    o->c = ld_new(struct content);
    o->c->tree = LD_FILE_TREE_INIT;
    o->c->produce = produce_;
    o->c->type = type;
    return o;
}

static void submit_open(struct open_call *o)
{
    struct ld_err err = LD_ERR_INIT;

    if (ld_file_tree_admit(o->call.core, o->owner, owner_name(o->call.req), false, &o->call.op,
                           o->id, &err) < 0)
        ld_call_refuse(&o->call, &err);
    else
        ld_call_submit(&o->call);
}

static int produce_tar(struct content *c, struct ld_stream *stream, struct ld_err *err)
{
    struct ld_stream_sink sink = ld_stream_sink(stream);

    return ld_files_read_tar(&c->tree.root, c->path, &sink.sink, ld_stream_cancel(stream), err);
}

static int produce_file(struct content *c, struct ld_stream *stream, struct ld_err *err)
{
    autoclose int fd = -EBADF;
    auto_source *source = NULL;
    autofree char *block = ld_alloc0(BLOCK_BYTES);
    struct stat st;
    ssize_t n;

    if (ld_files_open(&c->tree.root, c->path, &fd, &st, err) < 0)
        return -1;
    source = ld_source_fd_new(fd, 0, LD_TO_END);
    while ((n = ld_source_read(source, block, BLOCK_BYTES, err)) > 0) {
        if (ld_stream_write(stream, block, (size_t)n, err) < 0)
            return -1;
    }
    return (int)n;
}

static int on_file(void *arg, const struct ld_file_info *info, struct ld_err *err)
{
    struct ld_path_list *list = arg;
    autofree char *path = ld_asprintf("/%s", info->name);

    return ld_path_list_add(list, info_json(info), path, err);
}

static int produce_listing(struct content *c, struct ld_stream *stream, struct ld_err *err)
{
    struct ld_path_list list LD_AUTO(ld_path_list_done) = {.n = 0};

    ld_path_list_begin(&list, stream, c->limit);
    if (ld_files_list(&c->tree.root, c->path, c->after ? c->after + 1 : NULL, on_file, &list, err) <
        0)
        return -1;
    return ld_path_list_end(&list, err);
}

static int read_path(const struct ld_request *req, char **ret, struct ld_err *err)
{
    const char *path = ld_request_query(req, "path");

    if (!path || path[0] != '/') {
        (void)ld_err_set(err, LD_E_INVALID,
                         path ? "'path' is not absolute: '%s'" : "'path' is missing", path);
        return ld_err_details(err, "{\"parameter\":\"path\"}");
    }
    *ret = ld_strdup(path);
    return 0;
}

static void get_files(struct ld_request *req)
{
    bool json = ld_request_accepts(req, "application/json");
    bool bytes = !json && ld_request_accepts(req, "application/octet-stream");
    struct open_call *o = json    ? new_open(req, "application/json", produce_listing)
                          : bytes ? new_open(req, "application/octet-stream", produce_file)
                                  : new_open(req, "application/x-tar", produce_tar);
    struct ld_err err = LD_ERR_INIT;

    o->want_file = bytes;
    o->want_dir = json;
    if (read_path(req, &o->c->path, &err) < 0 ||
        ld_path_list_query(req, &o->c->limit, &o->c->after, &err) < 0)
        return ld_call_refuse(&o->call, &err);
    submit_open(o);
}

static void head_files(struct ld_request *req)
{
    struct open_call *o = new_open(req, NULL, NULL);
    struct ld_err err = LD_ERR_INIT;

    o->call.run = run_stat;
    o->call.reply = reply_stat;
    if (read_path(req, &o->c->path, &err) < 0)
        return ld_call_refuse(&o->call, &err);
    submit_open(o);
}

/* ---- in ---- */

struct put_call {
    struct ld_call call;
    enum ld_file_owner owner;
    char id[65];
    char *path;
    struct ld_ring *ring;
    struct ld_spool spool;
    struct ld_new_file as;
    struct ld_files_result result;
    bool is_tar, recursive;
};

static void free_put(struct ld_call *call)
{
    struct put_call *p = (struct put_call *)call;

    ld_spool_close(&p->spool);
    if (p->ring)
        ld_ring_leave_worker(p->ring);
    free(p->path);
    free(p);
}

/* First operation, no keys: the body into a file of ours. */
static int run_spool(struct ld_call *call, struct ld_err *err)
{
    struct put_call *p = (struct put_call *)call;
    struct ld_spool_options options = {.cancel = &call->op.cancel};

    return ld_spool_ring(call->core, p->ring, &options, &p->spool, err);
}

static int write_from_spool(struct put_call *p, const struct ld_files_root *root,
                            struct ld_err *err)
{
    auto_source *raw = ld_source_fd_new(p->spool.fd, 0, LD_TO_END);
    auto_source *decoded = NULL;
    struct ld_decoder_limits limits;

    if (!p->is_tar)
        return ld_files_write(root, p->path, raw, &p->as, &p->result, err);
    ld_decoder_limits_init(&limits, p->call.core, &p->call.op.cancel);
    if (ld_decoder_new(raw, &limits.limits, &decoded, err) < 0)
        return -1;
    return ld_files_write_tar(root, p->path, decoded, 0, &p->call.op.cancel, &p->result, err);
}

/* Second operation, with the owner's keys. */
static int run_put(struct ld_call *call, struct ld_err *err)
{
    struct put_call *p = (struct put_call *)call;
    struct ld_file_tree tree;
    int rc;

    if (ld_file_tree_open(call->core, &call->w, p->owner, p->id, &tree, err) < 0)
        return -1;
    rc = write_from_spool(p, &tree.root, err);
    ld_file_tree_close(&tree);
    return rc;
}

static void reply_put(struct ld_call *call)
{
    struct put_call *p = (struct put_call *)call;
    cJSON *json = cJSON_CreateObject();

    cJSON_AddItemToObject(json, "entries", ld_json_u64(p->result.entries));
    cJSON_AddItemToObject(json, "bytes", ld_json_u64(p->result.bytes));
    ld_reply_json(call->req, 200, json);
}

static void submit_write(struct put_call *p)
{
    struct ld_err err = LD_ERR_INIT;

    if (ld_file_tree_admit(p->call.core, p->owner, owner_name(p->call.req), true, &p->call.op,
                           p->id, &err) < 0)
        ld_call_refuse(&p->call, &err);
    else
        ld_call_submit(&p->call);
}

/* The body is whole: go on with the keys. The same call serves for the second operation. */
static void reply_spooled(struct ld_call *call)
{
    struct put_call *p = (struct put_call *)call;
    struct put_call *next =
        ld_call_new(sizeof(*next), call->req, LD_LANE_COPY, run_put, reply_put, free_put);

    next->owner = p->owner;
    next->path = ld_steal(&p->path);
    next->spool = p->spool;
    p->spool = LD_SPOOL_INIT;
    next->as = p->as;
    next->is_tar = p->is_tar;
    submit_write(next);
}

static int read_time(const char *text, struct timespec *ret, struct ld_err *err)
{
    struct tm tm = {0};
    const char *rest = strptime(text, "%Y-%m-%dT%H:%M:%S", &tm);
    long nsec = 0, scale = 100000000;

    if (rest && *rest == '.') {
        for (rest++; *rest >= '0' && *rest <= '9'; rest++, scale /= 10)
            nsec += (*rest - '0') * scale;
    }
    if (!rest || strcmp(rest, "Z") != 0)
        return ld_err_set(err, LD_E_INVALID, "mtime '%s' is no time in UTC (2026-01-31T12:00:00Z)",
                          text);
    *ret = (struct timespec){.tv_sec = timegm(&tm), .tv_nsec = nsec};
    return 0;
}

static int read_put(struct put_call *p, struct ld_err *err)
{
    const struct ld_request *req = p->call.req;
    const char *mode = ld_request_query(req, "mode"), *mtime = ld_request_query(req, "mtime");
    const char *type = ld_request_header(req, "Content-Type");
    uint64_t value = 0644, uid = 0, gid = 0;

    p->as = (struct ld_new_file){.mtime.tv_nsec = UTIME_NOW};
    p->is_tar = !ld_request_has_type(req, "application/octet-stream");
    if (p->is_tar && type && !ld_request_has_type(req, "application/x-tar"))
        return ld_err_set(err, LD_E_UNSUPPORTED_MEDIA,
                          "the body is '%s', not application/x-tar or application/octet-stream",
                          type);
    if (read_path(req, &p->path, err) < 0)
        return -1;
    if (p->is_tar &&
        (mode || mtime || ld_request_query(req, "uid") || ld_request_query(req, "gid")))
        return ld_err_set(err, LD_E_INVALID, "mode, uid, gid and mtime are for one file only");
    if (mode && ld_parse_octal(mode, 07777, &value) < 0)
        return ld_err_set(err, LD_E_INVALID, "mode '%s' is not octal permissions", mode);
    if (ld_request_u64(req, "uid", 0, UINT32_MAX - 1, &uid, err) < 0 ||
        ld_request_u64(req, "gid", 0, UINT32_MAX - 1, &gid, err) < 0 ||
        (mtime && read_time(mtime, &p->as.mtime, err) < 0))
        return -1;
    p->as.mode = (mode_t)value;
    p->as.uid = (uid_t)uid;
    p->as.gid = (gid_t)gid;
    return 0;
}

static void put_files(struct ld_request *req)
{
    struct put_call *p =
        ld_call_new(sizeof(*p), req, LD_LANE_STREAM, run_spool, reply_spooled, free_put);
    struct ld_err err = LD_ERR_INIT;

    p->owner = owner_of(req);
    p->spool = LD_SPOOL_INIT;
    if (read_put(p, &err) < 0 ||
        ld_file_tree_find(p->call.core, p->owner, owner_name(req), &err) < 0)
        return ld_call_refuse(&p->call, &err);
    p->ring = ld_request_upload(req);
    if (!p->ring) { /* answered already */
        ld_op_done(&p->call.op);
        free_put(&p->call);
        return;
    }
    ld_request_submit_tied(req, &p->call.op);
}

/* ---- away ---- */

static int run_delete(struct ld_call *call, struct ld_err *err)
{
    struct put_call *p = (struct put_call *)call;
    struct ld_file_tree tree;
    int rc;

    if (ld_file_tree_open(call->core, &call->w, p->owner, p->id, &tree, err) < 0)
        return -1;
    rc = ld_files_delete(&tree.root, p->path, p->recursive, &call->op.cancel, err);
    ld_file_tree_close(&tree);
    return rc;
}

static void reply_gone(struct ld_call *call)
{
    ld_reply_empty(call->req, 204);
}

static void delete_files(struct ld_request *req)
{
    struct put_call *p =
        ld_call_new(sizeof(*p), req, LD_LANE_COPY, run_delete, reply_gone, free_put);
    struct ld_err err = LD_ERR_INIT;

    p->owner = owner_of(req);
    p->spool = LD_SPOOL_INIT;
    p->recursive = ld_request_flag(req, "recursive");
    if (read_path(req, &p->path, &err) < 0)
        return ld_call_refuse(&p->call, &err);
    submit_write(p);
}

#define LD_FILES_ROUTES(base)                                                                      \
    {"HEAD", base "/files", head_files, 0, "path"},                                                \
        {"GET", base "/files", get_files, 0, "path limit after"},                                  \
        {"PUT", base "/files", put_files, LD_ROUTE_UPLOAD, "path mode uid gid mtime"},             \
    {                                                                                              \
        "DELETE", base "/files", delete_files, 0, "path recursive?"                                \
    }

void ld_routes_files(struct ld_router *router)
{
    static const struct ld_route routes[] = {
        LD_FILES_ROUTES("/v1/containers/{container}"),
        LD_FILES_ROUTES("/v1/volumes/{volume}"),
    };

    ld_router_add(router, routes, LD_ARRAY_LEN(routes));
}
