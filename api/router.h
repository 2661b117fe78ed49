/* Which handler answers a request: the table of routes, and what a target is split into.
 *
 * Pure: no HTTP library, no I/O. A router is constant after it was made; loop thread.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "daemon/base/err.h"

struct ld_request;

enum ld_route_flags {
    /* The body is a JSON object of at most 1 MiB, parsed before the handler is called. */
    LD_ROUTE_JSON = 1 << 0,
    /* The same, but there may be no body at all: ld_request_json() is an empty object then. */
    LD_ROUTE_JSON_OPTIONAL = 1 << 1,
    /* The handler is called with the headers; the body is a stream (ld_request_upload). */
    LD_ROUTE_UPLOAD = 1 << 2,
    /* Metadata only: GET and HEAD are also answered on the read-only socket. */
    LD_ROUTE_METADATA = 1 << 3,
    /* Query keys that the route does not list are ignored instead of refused. */
    LD_ROUTE_ANY_QUERY = 1 << 4,
    /* Body and query may be of any content type, and cut names are not refused (other API's rules).
     */
    LD_ROUTE_ANY_TYPE = 1 << 5,
};

/* One method of one resource.
 *
 * pattern: "/v1/containers/{c}/mount". {x} is one segment, {x...} one or more, slashes kept;
 * {x:GLOB} is one segment that matches the glob. Where several patterns match a path, the one whose
 * leftmost segments are fixed words wins, then the one with more of them: so
 * "/v1/images/{ref...}/history" wins over
 * "/v1/images/{ref...}" when a path ends in "/history". A method that the fixed words don't have
 * may be one of the pattern with a {x} in their place: "/v1/containers/prune" is a POST and, by any
 * other method, the container of that name. (A {x...} is no such place: what it names can be
 * written in another way.)
 *
 * method: GET answers HEAD too, unless the resource has a HEAD of its own.
 *
 * query: allowed keys, separated by blanks: "force?" is a boolean (checked before the handler is
 * called), "filter*" may repeat, "limit" is any text, once. NULL: none. */
struct ld_route {
    const char *method;
    const char *pattern;
    void (*handler)(struct ld_request *req);
    unsigned flags;
    const char *query;
};

struct ld_router;

/* All tables are borrowed for the router's life (they are constants). A wrong pattern aborts. */
struct ld_router *ld_router_new(void);
void ld_router_add(struct ld_router *router, const struct ld_route *routes, size_t n);
void ld_router_free(struct ld_router *router);
/* Routes are numbered in the order of adding, from 0. NULL: that many there are. */
const struct ld_route *ld_router_route(const struct ld_router *router, size_t number);

enum { LD_MAX_PARAMS = 4, LD_MAX_QUERY = 256, LD_MAX_TARGET = 64 * 1024 };

/* A target, split and decoded once. Owned strings: free with ld_target_done. */
struct ld_target {
    const struct ld_route *route;
    size_t number; /* of the route, when there is one */
    struct ld_target_pair {
        char *key, *value; /* query: "" for a bare key */
    } params[LD_MAX_PARAMS], *query;
    size_t n_params, n_query, query_cap;
    char allow[64]; /* for 405: "GET, HEAD, POST" */
};
void ld_target_done(struct ld_target *target);

/* Finds the route of a raw target ("/v1/images?filter=a%20b") and decodes it. Percent-decoding is
 * done exactly once; a decoded NUL and a malformed escape are refused; path segments must be UTF-8,
 * query values are bytes; '+' in a query is a blank. Codes: not_found, method_not_allowed
 * (target->allow is set), invalid (the query; names the keys). */
int ld_router_find(const struct ld_router *router, const char *method, const char *raw,
                   struct ld_target *target, struct ld_err *err) ld_must_check;

/* By key; NULL: absent. `at` counts repetitions from 0. */
const char *ld_target_param(const struct ld_target *target, const char *key);
const char *ld_target_query(const struct ld_target *target, const char *key, size_t at);
