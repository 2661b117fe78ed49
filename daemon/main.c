/* layerd: wires everything together, the only place that may include all.
 *
 * Order of the start: settings, umask, signals, the sockets (before any thread), loop, lanes, core
 * (recovery), server, READY. Order of the stop: server drained, operations drained, lanes drained,
 * core closed, loop freed. The service manager's watchdog is fed by the loop itself.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <systemd/sd-daemon.h>

#include "api/routes.h"
#include "api/server.h"
#include "daemon/base/clock.h"
#include "daemon/base/fdio.h"
#include "daemon/base/log.h"
#include "daemon/base/mem.h"
#include "daemon/core/config.h"
#include "daemon/core/core.h"
#include "daemon/jobs/lane.h"
#include "daemon/jobs/loop.h"
#include "daemon/jobs/op.h"

enum { EXIT_USAGE = 2, GROUP_BUFFER = 1 << 16 };

struct daemon {
    struct ld_options options;
    char **argv;
    int argc;
    struct ld_loop *loop;
    struct ld_lanes *lanes;
    struct ld_ops *ops;
    struct ld_core *core;
    struct ld_api *api;
    struct ld_router *router;
    struct ld_server *server;
    struct ld_signal *signals[3];
    struct ld_timer *watchdog, *impatient;
    int listen_fd, read_fd;
    char *own_socket, *own_read_socket; /* to be removed at the end */
    bool is_stopping, is_out_of_patience, is_server_drained, are_ops_draining, are_ops_drained,
        are_lanes_draining;
};

static int fail(const struct ld_err *err)
{
    ld_error("%s%s%s", err->message, err->hint[0] ? "; " : "", err->hint);
    return -1;
}

/* Whoever closed 0, 1 or 2 would have a file of ours written to by the next message. */
static void fill_standard_fds(void)
{
    int fd;

    do
        fd =
            open("/dev/null", O_RDWR); /* NOLINT: kept across nothing, never inherited on purpose */
    while (fd >= 0 && fd < 3);
    ld_close(fd);
}

/* ext4 holds nobody to a limit who has it: an import into a limited volume would go on. By the
 * system calls themselves, of the only thread there is yet; what is refused stays as it is. */
static void drop_resource_capability(void)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3];
    struct __user_cap_data_struct *word = &data[CAP_TO_INDEX(CAP_SYS_RESOURCE)];

    if (syscall(SYS_capget, &header, data) < 0)
        return;
    word->effective &= ~CAP_TO_MASK(CAP_SYS_RESOURCE);
    word->permitted &= ~CAP_TO_MASK(CAP_SYS_RESOURCE);
    (void)!syscall(SYS_capset, &header, data);
}

static void prepare_process(void)
{
    struct rlimit files;

    fill_standard_fds();
    umask(0);
    (void)signal(SIGPIPE, SIG_IGN); /* a constant: cannot fail */
    (void)mallopt(M_ARENA_MAX, 2);
    (void)mallopt(M_TRIM_THRESHOLD, 256 << 10);
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &files); /* what there was must do */
    }
    drop_resource_capability();
}

/* ---- sockets ---- */

static long socket_gid(const struct ld_config *config)
{
    autofree char *buffer = ld_alloc0(GROUP_BUFFER);
    struct group group, *found = NULL;

    if (!config->group || getgrnam_r(config->group, &group, buffer, GROUP_BUFFER, &found) != 0 ||
        !found)
        return -1;
    return (long)found->gr_gid;
}

/* fd://: the first socket the manager gave is for all, the second, when wanted, for readers. */
static int open_socket(const struct ld_config *config, const char *host, int index, int *ret_fd,
                       char **ret_path, struct ld_err *err)
{
    const char *path = host + strlen("unix://");

    if (strcmp(host, "fd://") == 0) {
        if (sd_listen_fds(0) <= index)
            return ld_err_set(err, LD_E_INVALID, "fd://: the service manager gave no socket %d",
                              index + 1);
        *ret_fd = SD_LISTEN_FDS_START + index;
        return 0;
    }
    if (ld_listen_unix(path, socket_gid(config), ret_fd, err) < 0)
        return -1;
    *ret_path = ld_strdup(path);
    return 0;
}

static int make_run_root(const char *path, struct ld_err *err)
{
    if (mkdir(path, 0711) < 0 && errno != EEXIST)
        return ld_err_sys(err, -errno, "make the run root '%s'", path);
    return 0;
}

static int open_sockets(struct daemon *d, struct ld_err *err)
{
    const struct ld_config *config = &d->options.config;

    if (make_run_root(config->run_root, err) < 0)
        return -1;
    /* Started by its socket without being told so: that socket is what was meant. */
    if (sd_listen_fds(0) > 0 && strncmp(config->host, "unix://", 7) == 0 &&
        sd_is_socket_unix(SD_LISTEN_FDS_START, SOCK_STREAM, 1, config->host + 7, 0) > 0) {
        d->listen_fd = SD_LISTEN_FDS_START;
    } else if (open_socket(config, config->host, 0, &d->listen_fd, &d->own_socket, err) < 0) {
        return -1;
    }
    if (!config->read_host)
        return 0;
    return open_socket(config, config->read_host, 1, &d->read_fd, &d->own_read_socket, err);
}

static void remove_sockets(struct daemon *d)
{
    if (d->own_socket)
        (void)unlink(d->own_socket); /* the next start replaces a stale one */
    if (d->own_read_socket)
        (void)unlink(d->own_read_socket);
    ld_free_p(&d->own_socket);
    ld_free_p(&d->own_read_socket);
}

/* ---- the stop ---- */

static void on_lanes_drained(void *arg)
{
    struct daemon *d = arg;

    ld_loop_stop(d->loop);
}

static void drain_lanes_if_ready(struct daemon *d)
{
    bool is_server_ready = d->is_server_drained || d->is_out_of_patience;

    if (!is_server_ready || !d->are_ops_drained || d->are_lanes_draining)
        return;
    d->are_lanes_draining = true;
    ld_lanes_drain(d->lanes, on_lanes_drained, d);
}

static void on_ops_drained(void *arg)
{
    struct daemon *d = arg;

    d->are_ops_drained = true;
    drain_lanes_if_ready(d);
}

static void drain_ops(struct daemon *d)
{
    if (!d->are_ops_draining)
        ld_ops_drain(d->ops, true, on_ops_drained, d);
    d->are_ops_draining = true;
}

static void on_server_drained(void *arg)
{
    struct daemon *d = arg;

    d->is_server_drained = true;
    drain_ops(d);
    drain_lanes_if_ready(d);
}

/* Requests in work are waited for; what has not ended by now is told to end, and a client that does
 * not take its answer is cut off by ld_server_free. */
static void lose_patience(void *arg)
{
    struct daemon *d = arg;

    ld_warn("requests are still in work: cancelling them");
    d->is_out_of_patience = true;
    drain_ops(d);
    drain_lanes_if_ready(d);
}

static void stop(struct daemon *d)
{
    if (d->is_stopping)
        return;
    d->is_stopping = true;
    ld_info("stopping");
    (void)sd_notify(0, "STOPPING=1");
    ld_api_stop(d->api);
    ld_core_stop(d->core);
    ld_timer_start(d->impatient, d->options.config.drain_timeout_ms, 0);
    ld_server_drain(d->server, true, on_server_drained, d);
}

/* Only the log level changes without a restart. */
static void reload(struct daemon *d)
{
    struct ld_options options;
    struct ld_err err = LD_ERR_INIT;

    (void)sd_notifyf(0, "RELOADING=1\nMONOTONIC_USEC=%llu",
                     (unsigned long long)ld_monotonic_ms() * 1000);
    if (ld_options_read(d->argc, d->argv, &options, &err) < 0) {
        (void)fail(&err);
    } else {
        ld_log_set_level(options.config.log_level);
        ld_info("read the configuration again: the log level is the only setting that changes now");
        ld_config_done(&options.config);
    }
    (void)sd_notify(0, "READY=1");
}

static void on_signal(void *arg, int signum)
{
    struct daemon *d = arg;

    if (signum == SIGHUP)
        reload(d);
    else
        stop(d);
}

static void feed_watchdog(void *arg)
{
    (void)arg;
    (void)sd_notify(0, "WATCHDOG=1");
}

/* A second signal must not kill what is closing: the exit status tells that all is well. */
static void block_signals(void)
{
    sigset_t all;

    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_BLOCK, &all, NULL); /* constants: cannot fail */
}

static void close_all(struct daemon *d)
{
    block_signals();
    ld_timer_free(d->watchdog);
    ld_timer_free(d->impatient);
    for (size_t i = 0; i < LD_ARRAY_LEN(d->signals); i++)
        ld_signal_free(d->signals[i]);
    ld_server_free(d->server);
    ld_api_free(d->api);
    ld_router_free(d->router);
    ld_core_close(d->core);
    if (d->ops)
        ld_ops_free(d->ops);
    if (d->lanes)
        ld_lanes_free(d->lanes);
    ld_loop_free(d->loop);
    remove_sockets(d);
}

/* ---- the start ---- */

static int watch_signals(struct daemon *d, struct ld_err *err)
{
    static const int wanted[] = {SIGTERM, SIGINT, SIGHUP};

    for (size_t i = 0; i < LD_ARRAY_LEN(wanted); i++) {
        if (ld_signal_new(d->loop, wanted[i], on_signal, d, &d->signals[i], err) < 0)
            return -1;
    }
    return 0;
}

static int open_all(struct daemon *d, struct ld_err *err)
{
    const struct ld_config *config = &d->options.config;
    uint64_t watchdog_us = 0;

    if (open_sockets(d, err) < 0 || ld_loop_new(&d->loop, err) < 0)
        return -1;
    d->lanes = ld_lanes_new(d->loop, NULL);
    d->ops = ld_ops_new(d->loop, d->lanes);
    d->impatient = ld_timer_new(d->loop, lose_patience, d);
    d->watchdog = ld_timer_new(d->loop, feed_watchdog, d);
    d->core = ld_core_open(config, d->loop, d->lanes, d->ops, err);
    if (!d->core)
        return -1;
    d->router = ld_router_new();
    d->api = ld_api_new(d->core, d->router);
    d->server = ld_server_new(&(struct ld_server_options){
        .loop = d->loop, .ops = d->ops, .router = d->router, .app = d->api});
    if (watch_signals(d, err) < 0 ||
        ld_server_listen(d->server, ld_steal_fd(&d->listen_fd), false, err) < 0)
        return -1;
    if (d->read_fd >= 0 && ld_server_listen(d->server, ld_steal_fd(&d->read_fd), true, err) < 0)
        return -1;
    if (sd_watchdog_enabled(0, &watchdog_us) > 0)
        ld_timer_start(d->watchdog, 0, watchdog_us / 3000);
    return 0;
}

/* A failed start has no requests, but may have made threads: they are drained as at a stop. */
static void abandon(struct daemon *d)
{
    if (d->loop && d->ops) {
        if (d->core)
            ld_core_stop(d->core);
        if (d->server)
            ld_server_drain(d->server, true, on_server_drained, d);
        else
            on_server_drained(d);
        ld_loop_run(d->loop);
    }
    ld_close_p(&d->listen_fd);
    ld_close_p(&d->read_fd);
}

static int serve(struct daemon *d)
{
    struct ld_err err = LD_ERR_INIT;
    int rc = open_all(d, &err);

    if (rc < 0) {
        (void)fail(&err);
        (void)sd_notifyf(0, "STATUS=%s", err.message);
        abandon(d);
    } else {
        ld_info("layerd " LD_VERSION " serves '%s', data root '%s'", d->options.config.host,
                d->options.config.data_root);
        (void)sd_notify(0, "READY=1");
        ld_loop_run(d->loop);
    }
    close_all(d);
    if (rc == 0)
        ld_info("stopped");
    return rc;
}

int main(int argc, char **argv)
{
    struct daemon d = {.argc = argc, .argv = argv, .listen_fd = -EBADF, .read_fd = -EBADF};
    struct ld_err err = LD_ERR_INIT;
    int rc;

    prepare_process();
    ld_log_setup(LD_LOG_INFO, LD_LOG_TEXT);
    if (ld_options_read(argc, argv, &d.options, &err) < 0) {
        (void)fail(&err);
        return EXIT_USAGE;
    }
    if (d.options.help || d.options.version) {
        (void)fputs(d.options.help ? ld_usage_text : "layerd " LD_VERSION "\n", stdout);
        ld_config_done(&d.options.config);
        return fflush(stdout) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
    }
    if (d.options.check_config) {
        (void)puts("the configuration is valid");
        ld_config_done(&d.options.config);
        return EXIT_SUCCESS;
    }
    ld_log_setup(d.options.config.log_level, d.options.config.log_format);
    rc = serve(&d);
    ld_config_done(&d.options.config);
    return rc < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
