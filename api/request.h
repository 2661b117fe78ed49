/* A request as handlers see it.
 *
 * A handler runs on the loop and must not block. It answers at once by one ld_reply_*
 * (api/reply.h), or submits an operation and answers from its done(). Exactly one reply per
 * request; it consumes the request: do not touch it afterwards. The request stays valid until then
 * even when its client has vanished; a reply to nobody is dropped.
 *
 *     static void show(struct ld_request *req)
 *     {
 *         struct ld_err err = LD_ERR_INIT;
 *         struct ld_container c = {0};
 *
 *         if (ld_container_find(ld_request_app(req), ld_request_param(req, "c"), &c, &err) < 0)
 *             ld_reply_error(req, &err);
 *         else
 *             ld_reply_json(req, 200, container_json(&c));
 *         ld_container_done(&c);
 *     }
 *     const struct ld_route ld_routes_containers[] = {
 *         {"GET", "/v1/containers/{c}", show, LD_ROUTE_METADATA, "size?"}, ...
 *
 * All functions: loop thread, unless they say otherwise. Strings are borrowed, valid until the
 * reply.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "daemon/base/err.h"

struct cJSON;
struct ld_loop;
struct ld_op;
struct ld_ops;
struct ld_request;
struct ld_ring;
struct ld_server;

struct ld_peer {
    uid_t uid;
    gid_t gid;
    pid_t pid; /* as it was at connect; for the log only, never for decisions */
};

/* What main gave to ld_server_new: the core, and whatever else handlers share. */
void *ld_request_app(const struct ld_request *req);
struct ld_loop *ld_request_loop(const struct ld_request *req);
const struct ld_server *ld_request_server(const struct ld_request *req);

const char *ld_request_id(const struct ld_request *req);     /* 32 hex digits */
const char *ld_request_method(const struct ld_request *req); /* "HEAD" too */
bool ld_request_is_head(const struct ld_request *req);
const struct ld_peer *ld_request_peer(const struct ld_request *req);
/* False once the client is known to have gone. */
bool ld_request_is_alive(const struct ld_request *req);

/* The part of the path that a {key} of the pattern stands for. Never NULL for a key of the pattern.
 */
const char *ld_request_param(const struct ld_request *req, const char *key);
/* For a handler of several resources: is the key in the pattern? */
bool ld_request_has_param(const struct ld_request *req, const char *key);

/* ---- query: only keys that the route lists ---- */

const char *ld_request_query(const struct ld_request *req, const char *key); /* NULL: absent */
/* The at-th value (from 0) of a key that may repeat; NULL: no more. */
const char *ld_request_query_at(const struct ld_request *req, const char *key, size_t at);
/* A boolean ("force?" in the route): absent false, bare or 1 or true, 0 or false. */
bool ld_request_flag(const struct ld_request *req, const char *key);
/* A number within [min, max]; absent: *ret is left alone. invalid names the key. */
int ld_request_u64(const struct ld_request *req, const char *key, uint64_t min, uint64_t max,
                   uint64_t *ret, struct ld_err *err) ld_must_check;

/* ---- headers ---- */

const char *ld_request_header(const struct ld_request *req, const char *name); /* NULL: absent */
/* Does Accept name this type (parameters and q-values apart; no wildcards)? */
bool ld_request_accepts(const struct ld_request *req, const char *type);
/* Is Content-Type this type (parameters apart)? */
bool ld_request_has_type(const struct ld_request *req, const char *type);
bool ld_request_prefers_async(const struct ld_request *req); /* Prefer: respond-async */
/* The body's Content-Length, or UINT64_MAX when chunked. */
uint64_t ld_request_length(const struct ld_request *req);

/* ---- JSON bodies (LD_ROUTE_JSON) ---- */

/* The parsed object; never NULL on a JSON route. It was checked already: at most 1 MiB, depth 32,
 * valid UTF-8, no duplicate members. */
const struct cJSON *ld_request_json(const struct ld_request *req);
/* Members of an object (the body or one inside it); `where` names it in messages ("mounts[0]"; ""
 * for the body). A missing member and null leave *ret alone. All fail with invalid. Any thread. */
int ld_members_only(const struct cJSON *object, const char *where, const char *allowed,
                    struct ld_err *err) ld_must_check; /* "name image labels": names all others */
int ld_member_string(const struct cJSON *object, const char *where, const char *name,
                     const char **ret, struct ld_err *err) ld_must_check;
int ld_member_bool(const struct cJSON *object, const char *where, const char *name, bool *ret,
                   struct ld_err *err) ld_must_check;
int ld_member_u64(const struct cJSON *object, const char *where, const char *name, uint64_t *ret,
                  struct ld_err *err) ld_must_check; /* a whole number to 2^53 */
int ld_member_object(const struct cJSON *object, const char *where, const char *name,
                     const struct cJSON **ret, struct ld_err *err) ld_must_check;
int ld_member_array(const struct cJSON *object, const char *where, const char *name,
                    const struct cJSON **ret, struct ld_err *err) ld_must_check;

/* Of what is asked for: method, resource and its parameters, query (whatever its order), and the
 * JSON body in its canonical form. LD_DIGEST_TEXT bytes. */
void ld_request_digest(const struct ld_request *req, char *text);

/* ---- uploads (LD_ROUTE_UPLOAD) ---- */

/* Opens the body as a ring whose worker side the caller owns (hand it to an op on the stream lane,
 * which leaves it: ld_ring_leave_worker). Once, from inside the handler, before any reply. NULL: as
 * many uploads as allowed are under way; the request has been answered with unavailable. When the
 * reply is given before the body is through, the rest of the body is thrown away. A client that
 * vanishes aborts the ring. */
struct ld_ring *ld_request_upload(struct ld_request *req);

/* ---- work ---- */

/* Submits an operation whose done() replies (and frees), or submits the next one. op is not tied to
 * the client: a state change whose request is complete goes on when the client vanishes. When op is
 * cancelled while its worker waits for the upload, the upload is aborted. */
void ld_request_submit(struct ld_request *req, struct ld_op *op);
/* The same, but op is cancelled when the client vanishes: for reads and for whatever its body
 * paces. At most one per request. */
void ld_request_submit_tied(struct ld_request *req, struct ld_op *op);
