/* The HTTP server on the loop: listeners, connections, limits, drain. Loop thread.
 *
 * libmicrohttpd without threads of its own, its epoll descriptor watched by our loop. Each listener
 * has up to LD_MAX_CONNECTIONS connections; a connection without traffic is closed after a while,
 * one that waits for our work never.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "api/router.h"
#include "daemon/base/err.h"
#include "daemon/base/histogram.h"

struct ld_loop;
struct ld_ops;
struct ld_server;

enum {
    LD_MAX_CONNECTIONS = 256,
    LD_MAX_UPLOADS = 16,
    LD_MAX_DOWNLOADS = 64,
    LD_MAX_FEEDS = 64,
    LD_MAX_BODY = 1 << 20, /* of a JSON request */
};

struct ld_server_options {
    struct ld_loop *loop;
    struct ld_ops *ops;             /* producers and verbs run here */
    const struct ld_router *router; /* with all its routes; all three are borrowed */
    void *app;                      /* ld_request_app */
    unsigned idle_timeout_s;        /* 0: 60. A body may pause for 15 times as long */
};
struct ld_server *ld_server_new(const struct ld_server_options *options);

/* A unix socket at path, made under umask 0177 (threads must not exist yet), then owner gid group
 * (-1: ours) and mode 0660; a stale socket is replaced, one that answers is an error (conflict).
 * The descriptor is the caller's. */
int ld_listen_unix(const char *path, long gid, int *ret_fd, struct ld_err *err) ld_must_check;

/* Takes the listening socket (also when it fails). read_only: GET and HEAD of metadata routes only.
 */
int ld_server_listen(struct ld_server *server, int fd, bool read_only,
                     struct ld_err *err) ld_must_check;

/* No new connections; new requests are answered with unavailable; feeds end, streams are cancelled
 * when `cancel_streams`; drained(arg) is called when the last request is through. */
void ld_server_drain(struct ld_server *server, bool cancel_streams, void (*drained)(void *arg),
                     void *arg);
/* Closes everything. After a drain has ended; or, when a client keeps it from ending, once all
 * operations are done (asserted: no handler may owe a reply): then that client is cut off. NULL is
 * fine. */
void ld_server_free(struct ld_server *server);

struct ld_server_stats {
    size_t connections, requests, uploads, downloads, feeds; /* now */
    uint64_t
        answered[6];  /* by hundreds of the status: [2] is 2xx; [0]: vanished before the reply */
    uint64_t refused; /* of them with unavailable */
    uint64_t bytes_in, bytes_out; /* bodies of uploads and streams */
};
struct ld_server_stats ld_server_stats(const struct ld_server *server);

/* The same by route. A stream's latency ends where its answer begins. */
struct ld_route_stats {
    const struct ld_route *route;   /* NULL: of requests that found none */
    uint64_t answered[6];           /* as above */
    struct ld_histogram latency_ns; /* of those answered, from the first line on; ld_scale_time */
};
/* Of every route, then of none: *ret_n of them, owned by the server. */
const struct ld_route_stats *ld_server_route_stats(const struct ld_server *server, size_t *ret_n);
