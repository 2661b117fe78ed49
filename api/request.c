/* What handlers ask of a request: see request.h. Loop thread. */
#include "api/request.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "api/http.h"
#include "api/json.h"
#include "api/reply.h"
#include "daemon/base/digest.h"
#include "daemon/base/mem.h"
#include "daemon/base/parse.h"
#include "daemon/jobs/loop.h"
#include "daemon/jobs/ring.h"

enum { UPLOAD_RING = 1 << 20 };

void *ld_request_app(const struct ld_request *req)
{
    return req->server->options.app;
}

struct ld_loop *ld_request_loop(const struct ld_request *req)
{
    return req->server->options.loop;
}

const struct ld_server *ld_request_server(const struct ld_request *req)
{
    return req->server;
}

const char *ld_request_id(const struct ld_request *req)
{
    return req->id;
}

const char *ld_request_method(const struct ld_request *req)
{
    return req->method;
}

bool ld_request_is_head(const struct ld_request *req)
{
    return strcmp(req->method, "HEAD") == 0;
}

const struct ld_peer *ld_request_peer(const struct ld_request *req)
{
    return &req->peer;
}

bool ld_request_is_alive(const struct ld_request *req)
{
    return req->conn && !req->hung_up;
}

const char *ld_request_param(const struct ld_request *req, const char *key)
{
    const char *value = ld_target_param(&req->target, key);

    assert(value);
    return value;
}

bool ld_request_has_param(const struct ld_request *req, const char *key)
{
    return ld_target_param(&req->target, key) != NULL;
}

/* ---- query ---- */

const char *ld_request_query(const struct ld_request *req, const char *key)
{
    return ld_target_query(&req->target, key, 0);
}

const char *ld_request_query_at(const struct ld_request *req, const char *key, size_t at)
{
    return ld_target_query(&req->target, key, at);
}

bool ld_request_flag(const struct ld_request *req, const char *key)
{
    const char *value = ld_request_query(req, key);

    return value && strcmp(value, "0") != 0 && strcmp(value, "false") != 0;
}

int ld_request_u64(const struct ld_request *req, const char *key, uint64_t min, uint64_t max,
                   uint64_t *ret, struct ld_err *err)
{
    const char *value = ld_request_query(req, key);

    if (!value || ld_parse_u64(value, min, max, ret) == 0)
        return 0;
    return ld_err_set(err, LD_E_INVALID,
                      "query key '%s' takes a number from %" PRIu64 " to %" PRIu64 ", not '%.100s'",
                      key, min, max, value);
}

/* ---- headers ---- */

/* Headers live in libmicrohttpd's memory, which is gone once the client is: a handler asks before
 * it submits anything. */
const char *ld_request_header(const struct ld_request *req, const char *name)
{
    return req->conn ? MHD_lookup_connection_value(req->mhd, MHD_HEADER_KIND, name) : NULL;
}

/* Is one of the items of a comma-separated list this token, parameters (;…) apart? */
static bool list_has(const char *list, const char *token)
{
    size_t len = strlen(token);

    while (*list) {
        const char *end = strchrnul(list, ',');
        size_t item;

        list += strspn(list, " \t");
        item = strcspn(list, ",; \t");
        if (item == len && strncasecmp(list, token, len) == 0)
            return true;
        list = *end ? end + 1 : end;
    }
    return false;
}

/* All headers of one name: lists may be spread over several. */
struct lookup {
    const char *name, *token;
    bool found;
};

static enum MHD_Result look(void *cls, enum MHD_ValueKind kind, const char *name, const char *value)
{
    struct lookup *lookup = cls;

    (void)kind;
    if (value && strcasecmp(name, lookup->name) == 0 && list_has(value, lookup->token))
        lookup->found = true;
    return MHD_YES;
}

static bool header_has(const struct ld_request *req, const char *name, const char *token)
{
    struct lookup lookup = {name, token, false};

    if (req->conn)
        (void)MHD_get_connection_values(req->mhd, MHD_HEADER_KIND, look, &lookup); /* a count */
    return lookup.found;
}

bool ld_request_accepts(const struct ld_request *req, const char *type)
{
    return header_has(req, "Accept", type);
}

bool ld_request_has_type(const struct ld_request *req, const char *type)
{
    return header_has(req, "Content-Type", type);
}

bool ld_request_prefers_async(const struct ld_request *req)
{
    return header_has(req, "Prefer", "respond-async");
}

uint64_t ld_request_length(const struct ld_request *req)
{
    return req->length;
}

const struct cJSON *ld_request_json(const struct ld_request *req)
{
    assert(req->json);
    return req->json;
}

/* ---- what is asked for ---- */

static int compare_pairs(const void *a, const void *b)
{
    const struct ld_target_pair *x = a, *y = b;
    int by_key = strcmp(x->key, y->key);

    return by_key != 0 ? by_key : strcmp(x->value, y->value);
}

/* With its NUL, so that two texts cannot be taken for one. */
static void hash_text(struct ld_sha256 *hash, const char *text)
{
    ld_sha256_update(hash, text, strlen(text) + 1);
}

static void hash_pairs(struct ld_sha256 *hash, const struct ld_target_pair *pairs, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        hash_text(hash, pairs[i].key);
        hash_text(hash, pairs[i].value);
    }
    hash_text(hash, "");
}

void ld_request_digest(const struct ld_request *req, char *text)
{
    const struct ld_target *target = &req->target;
    autofree struct ld_target_pair *query =
        ld_alloc0((target->n_query + 1) * sizeof(*target->query));
    LD_AUTO(ld_sha256_free_p) struct ld_sha256 *hash = ld_sha256_new();
    struct ld_digest digest;

    if (target->n_query > 0)
        memcpy(query, target->query, target->n_query * sizeof(*query));
    qsort(query, target->n_query, sizeof(*query), compare_pairs);
    hash_text(hash, req->method);
    hash_text(hash, target->route->pattern);
    hash_pairs(hash, target->params, target->n_params);
    hash_pairs(hash, query, target->n_query);
    if (req->json) {
        char body[LD_DIGEST_TEXT];

        ld_json_digest(req->json, body);
        hash_text(hash, body);
    }
    digest = ld_sha256_final(hash);
    ld_digest_format(&digest, text);
}

/* ---- uploads ---- */

static void on_room(void *arg)
{
    ld_exchange_pour_on(arg);
}

struct ld_ring *ld_request_upload(struct ld_request *req)
{
    struct ld_server *server = req->server;

    assert(req->in_access && req->app_holds && !req->upload && req->body == LD_BODY_NONE);
    if (server->stats.uploads >= LD_MAX_UPLOADS) {
        struct ld_err err = LD_ERR_INIT;

        (void)ld_err_set(&err, LD_E_UNAVAILABLE, "%d uploads are under way already",
                         LD_MAX_UPLOADS);
        ld_reply_error(req, &err);
        return NULL;
    }
    server->stats.uploads++;
    req->counts_as_upload = true;
    ld_exchange_be_patient(req, true);
    req->upload = ld_ring_new(server->options.loop, LD_RING_TO_WORKER, UPLOAD_RING, on_room, req);
    return req->upload;
}

/* ---- work ---- */

/* Its worker may wait for bytes of the client. The request is there until op's done() replies. */
static void on_cancel(struct ld_op *op)
{
    ld_exchange_abort_upload(op->tag);
}

void ld_request_submit(struct ld_request *req, struct ld_op *op)
{
    if (req->app_holds && !op->on_cancel) {
        op->on_cancel = on_cancel;
        op->tag = req;
    }
    ld_ops_submit(req->server->options.ops, op);
}

static void tied_done(struct ld_op *op)
{
    struct ld_request *req = op->tag;
    void (*done)(struct ld_op *) = req->tied_done;

    req->tied = NULL;
    done(op); /* replies: req may be gone */
}

void ld_request_submit_tied(struct ld_request *req, struct ld_op *op)
{
    assert(req->app_holds && !req->tied);
    req->tied = op;
    req->tied_done = op->done;
    op->done = tied_done;
    ld_request_submit(req, op);
    if (!req->conn) /* it vanished while an earlier stage ran */
        ld_ops_cancel(req->server->options.ops, op);
}
