/* Listeners and the drain: see server.h. Loop thread.
 *
 * Each listener is one libmicrohttpd daemon without threads. Its epoll descriptor is watched by our
 * loop; after every MHD_run, and after every resume, its timeout is asked for: zero means that it
 * has something to do which no descriptor will tell us.
 */
#include "api/server.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "api/http.h"
#include "daemon/base/log.h"
#include "daemon/base/mem.h"
#include "daemon/jobs/loop.h"

enum {
    IDLE_TIMEOUT_S = 60,
    BACKLOG = 512,
    CUT_ROUNDS = 100,
};

/* ---- running libmicrohttpd ---- */

static void plan_next_run(struct ld_listener *listener)
{
    MHD_UNSIGNED_LONG_LONG timeout_ms;

    if (MHD_get_timeout(listener->mhd, &timeout_ms) != MHD_YES) {
        ld_idle_stop(listener->idle);
        ld_timer_stop(listener->timer);
    } else if (timeout_ms == 0) {
        ld_idle_start(listener->idle);
    } else {
        ld_idle_stop(listener->idle);
        ld_timer_start(listener->timer, timeout_ms, 0);
    }
}

static void run(void *arg)
{
    struct ld_listener *listener = arg;

    if (MHD_run(listener->mhd) != MHD_YES)
        ld_error("the HTTP library cannot run, ignoring");
    ld_exchange_after_run(listener);
    plan_next_run(listener);
}

static void on_epoll(void *arg, unsigned events)
{
    (void)events;
    run(arg);
}

void ld_server_kick(struct ld_listener *listener)
{
    ld_idle_start(listener->idle);
}

/* ---- connections ---- */

static struct ld_conn *accept_conn(struct ld_listener *listener, int fd)
{
    struct ld_err err = LD_ERR_INIT;
    struct ld_conn *conn = ld_new(struct ld_conn);
    struct ucred cred;
    socklen_t len = sizeof(cred);

    conn->listener = listener;
    conn->fd = fd;
    conn->peer = (struct ld_peer){.uid = (uid_t)-1, .gid = (gid_t)-1};
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) == 0)
        conn->peer = (struct ld_peer){cred.uid, cred.gid, cred.pid};
    if (ld_watch_new(listener->server->options.loop, fd, ld_exchange_on_hangup, conn, &conn->hangup,
                     &err) < 0)
        ld_warn("%s, its client's leaving will be seen late", err.message);
    listener->server->stats.connections++;
    return conn;
}

static void on_connection(void *cls, struct MHD_Connection *mhd, void **slot,
                          enum MHD_ConnectionNotificationCode what)
{
    struct ld_conn *conn = *slot;

    switch (what) {
    case MHD_CONNECTION_NOTIFY_STARTED:
        *slot = accept_conn(
            cls, MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd);
        break;
    case MHD_CONNECTION_NOTIFY_CLOSED:
        assert(!conn->current);
        ld_watch_free(conn->hangup);
        conn->listener->server->stats.connections--;
        free(conn);
        *slot = NULL;
        break;
    }
}

/* Percent-decoding is the router's: once, and with an error for what is malformed. */
static size_t leave_escaped(void *cls, struct MHD_Connection *mhd, char *text)
{
    (void)cls;
    (void)mhd;
    return strlen(text);
}

__attribute__((format(printf, 2, 0))) static void log_from_library(void *cls, const char *fmt,
                                                                   va_list ap)
{
    char text[512];

    (void)cls;
    if (!ld_log_is_on(LD_LOG_DEBUG))
        return;
    (void)vsnprintf(text, sizeof(text), fmt, ap); /* cut when longer */
    text[strcspn(text, "\n")] = '\0';
    ld_debug("http: %s", text);
}

/* ---- listening ---- */

static void listener_free(struct ld_listener *listener)
{
    ld_watch_free(listener->watch);
    ld_idle_free(listener->idle);
    ld_timer_free(listener->timer);
    if (listener->mhd)
        MHD_stop_daemon(listener->mhd);
    free(listener);
}

static int start_library(struct ld_listener *listener, int fd, struct ld_err *err)
{
    struct MHD_OptionItem options[] = {
        {MHD_OPTION_EXTERNAL_LOGGER, (intptr_t)log_from_library, NULL}, /* has to be the first */
        {MHD_OPTION_LISTEN_SOCKET, fd, NULL},
        {MHD_OPTION_CONNECTION_LIMIT, LD_MAX_CONNECTIONS, NULL},
        {MHD_OPTION_CONNECTION_MEMORY_LIMIT, LD_CONNECTION_MEMORY, NULL},
        {MHD_OPTION_CONNECTION_TIMEOUT, listener->server->options.idle_timeout_s, NULL},
        {MHD_OPTION_NOTIFY_CONNECTION, (intptr_t)on_connection, listener},
        {MHD_OPTION_NOTIFY_COMPLETED, (intptr_t)ld_exchange_on_completed, listener},
        {MHD_OPTION_URI_LOG_CALLBACK, (intptr_t)ld_exchange_on_uri, listener},
        {MHD_OPTION_UNESCAPE_CALLBACK, (intptr_t)leave_escaped, NULL},
        {MHD_OPTION_SIGPIPE_HANDLED_BY_APP, 1, NULL},
        {MHD_OPTION_END, 0, NULL},
    };

    listener->mhd = MHD_start_daemon(MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG,
                                     0, NULL, NULL, ld_exchange_on_access, listener,
                                     MHD_OPTION_ARRAY, options, MHD_OPTION_END);
    if (!listener->mhd)
        return ld_err_set(err, LD_E_INTERNAL, "the HTTP library does not start");
    return 0;
}

int ld_server_listen(struct ld_server *server, int fd, bool read_only, struct ld_err *err)
{
    struct ld_loop *loop = server->options.loop;
    struct ld_listener *listener = ld_new(struct ld_listener);

    ld_assert_loop();
    listener->server = server;
    listener->read_only = read_only;
    listener->idle = ld_idle_new(loop, run, listener);
    listener->timer = ld_timer_new(loop, run, listener);
    if (start_library(listener, fd, err) < 0) {
        ld_close(fd);
        listener_free(listener);
        return -1;
    }
    if (ld_watch_new(loop, MHD_get_daemon_info(listener->mhd, MHD_DAEMON_INFO_EPOLL_FD)->epoll_fd,
                     on_epoll, listener, &listener->watch, err) < 0) {
        listener_free(listener); /* closes fd too */
        return -1;
    }
    ld_watch_set(listener->watch, LD_WATCH_READ);
    listener->next = server->listeners;
    server->listeners = listener;
    return 0;
}

/* A socket file that nobody answers on is left from a daemon that was killed. */
static int remove_stale(const struct sockaddr_un *address, struct ld_err *err)
{
    autoclose int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return ld_err_sys(err, -errno, "make a socket");
    if (connect(fd, (const struct sockaddr *)address, sizeof(*address)) == 0)
        return ld_err_set(err, LD_E_CONFLICT, "another daemon answers at '%s'", address->sun_path);
    if (errno == ECONNREFUSED && unlink(address->sun_path) < 0)
        return ld_err_sys(err, -errno, "remove the stale socket '%s'", address->sun_path);
    return 0;
}

int ld_listen_unix(const char *path, long gid, int *ret_fd, struct ld_err *err)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    autoclose int fd = -EBADF;
    mode_t old;
    int r;

    if (strlen(path) >= sizeof(address.sun_path))
        return ld_err_set(err, LD_E_INVALID, "the socket's path '%s' is longer than %zu bytes",
                          path, sizeof(address.sun_path) - 1);
    (void)stpcpy(address.sun_path, path);
    if (remove_stale(&address, err) < 0)
        return -1;
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return ld_err_sys(err, -errno, "make a socket");
    /* Nobody else can connect between bind and chmod. */
    old = umask(0177);
    r = bind(fd, (const struct sockaddr *)&address, sizeof(address)) < 0 ? -errno : 0;
    (void)umask(old); /* cannot fail */
    if (r < 0)
        return ld_err_sys(err, r, "listen at '%s'", path);
    if (gid >= 0 && chown(path, (uid_t)-1, (gid_t)gid) < 0)
        return ld_err_sys(err, -errno, "give '%s' to group %ld", path, gid);
    if (chmod(path, 0660) < 0 || listen(fd, BACKLOG) < 0)
        return ld_err_sys(err, -errno, "listen at '%s'", path);
    *ret_fd = ld_steal_fd(&fd);
    return 0;
}

/* ---- life ---- */

/* On a timer of our own and not by a post, so that it ends with the server. */
static void on_later(void *arg)
{
    struct ld_server *server = arg;

    ld_feed_end_unheard(server);
    if (!server->draining || server->is_drained || server->requests)
        return; /* a new request (to be refused) may have come meanwhile: its end asks again */
    server->is_drained = true;
    server->drained(server->drained_arg);
}

void ld_server_later(struct ld_server *server)
{
    ld_timer_start(server->later, 0, 0);
}

void ld_server_request_freed(struct ld_server *server)
{
    if (server->draining && !server->requests && !server->is_drained)
        ld_server_later(server);
}

struct ld_server *ld_server_new(const struct ld_server_options *options)
{
    struct ld_server *server = ld_new(struct ld_server);

    ld_assert_loop();
    server->options = *options;
    if (server->options.idle_timeout_s == 0)
        server->options.idle_timeout_s = IDLE_TIMEOUT_S;
    while (ld_router_route(options->router, server->n_routes))
        server->n_routes++;
    server->routes = ld_alloc0((server->n_routes + 1) * sizeof(*server->routes));
    for (size_t i = 0; i < server->n_routes; i++)
        server->routes[i].route = ld_router_route(options->router, i);
    server->later = ld_timer_new(options->loop, on_later, server);
    return server;
}

void ld_server_drain(struct ld_server *server, bool cancel_streams, void (*drained)(void *arg),
                     void *arg)
{
    struct ld_request *next;

    ld_assert_loop();
    assert(!server->draining);
    server->draining = true;
    server->drained = drained;
    server->drained_arg = arg;
    for (struct ld_listener *l = server->listeners; l; l = l->next)
        ld_close(MHD_quiesce_daemon(l->mhd));
    for (struct ld_request *req = server->requests; req; req = next) {
        next = req->next; /* a cancelled stream may end its request at once */
        if (req->feed)
            ld_feed_cut(req->feed);
        if (req->stream && cancel_streams)
            ld_stream_abandon(req->stream);
    }
    ld_server_later(server);
}

/* libmicrohttpd aborts when it is stopped with suspended connections. */
static void cut_suspended(struct ld_server *server)
{
    for (int i = 0; i < CUT_ROUNDS; i++) {
        bool is_clear = true;

        for (struct ld_request *req = server->requests; req; req = req->next) {
            assert(!req->app_holds || req->stream);
            if (req->suspended) {
                is_clear = false;
                ld_exchange_cut(req);
            }
        }
        if (is_clear)
            return;
        for (struct ld_listener *l = server->listeners; l; l = l->next)
            run(l);
    }
}

void ld_server_free(struct ld_server *server)
{
    if (!server)
        return;
    ld_assert_loop();
    assert(server->draining || !server->requests);
    cut_suspended(server);
    while (server->listeners) {
        struct ld_listener *l = server->listeners;

        server->listeners = l->next;
        listener_free(l); /* ends all its requests */
    }
    assert(!server->requests && server->stats.connections == 0);
    ld_feed_end_unheard(server);
    ld_timer_free(server->later);
    free(server->routes);
    free(server);
}

struct ld_server_stats ld_server_stats(const struct ld_server *server)
{
    ld_assert_loop();
    return server->stats;
}

const struct ld_route_stats *ld_server_route_stats(const struct ld_server *server, size_t *ret_n)
{
    ld_assert_loop();
    *ret_n = server->n_routes + 1;
    return server->routes;
}
