/* The event loop over libuv: see loop.h.
 *
 * Invariants: libuv's types end here. The only data shared with other threads is the queue of
 * posts, under its lock; the wake-up is sent under that lock too, so that whoever runs a post can
 * be sure that its poster is out of the loop (and may free it). Memory of a handle is freed by
 * libuv's close callback, since libuv may still hold it in the pass that closes it.
 */
#include "daemon/jobs/loop.h"

#include <assert.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>

#include <uv.h>

#include "daemon/base/fdio.h"
#include "daemon/base/log.h"
#include "daemon/base/mem.h"
#include "daemon/base/parse.h"

enum { LAG_WARN_US = 50000, LAG_WARN_EVERY_S = 10, LOOK_EVERY_MS = 500 };

struct post {
    ld_loop_fn fn;
    void *arg;
};

struct posts {
    struct post *items;
    size_t n, cap;
};

struct ld_loop {
    uv_loop_t uv;
    uv_async_t async;
    uv_prepare_t prepare;

    pthread_mutex_t lock;
    struct posts queue; /* under the lock */
    bool stop;          /* under the lock */
    struct posts batch; /* what run_posts works through */

    struct ld_loop_lag lag;
    uint64_t pass_began_ns, idle_ns, warned_ns;
    int schedstat_fd; /* of this thread; negative: the kernel has none */
    uint64_t waited_ns, looked_ns;
    size_t handles; /* of users; zero at free */
};

/* Which loop this thread runs: what ld_assert_loop asks. */
static _Thread_local struct ld_loop *current;
static _Thread_local bool is_running;

bool ld_is_loop_thread(void)
{
    return current != NULL;
}

bool ld_is_loop_running(void)
{
    return is_running;
}

void ld_assert_loop(void)
{
    assert(current != NULL);
}

/* ---- posts ---- */

/* One batch: what is posted meanwhile waits for the next pass, so that descriptors get their turn.
 */
static void run_posts(struct ld_loop *loop)
{
    struct posts batch;

    pthread_mutex_lock(&loop->lock);
    batch = loop->queue;
    loop->queue = loop->batch;
    loop->queue.n = 0;
    if (loop->stop) {
        loop->stop = false;
        uv_stop(&loop->uv);
    }
    pthread_mutex_unlock(&loop->lock);

    for (size_t i = 0; i < batch.n; i++)
        batch.items[i].fn(batch.items[i].arg);
    loop->batch = batch;
}

static void on_async(uv_async_t *async)
{
    run_posts(async->data);
}

void ld_loop_post(struct ld_loop *loop, ld_loop_fn fn, void *arg)
{
    pthread_mutex_lock(&loop->lock);
    ld_grow(&loop->queue.items, &loop->queue.cap, loop->queue.n + 1, sizeof(struct post));
    loop->queue.items[loop->queue.n++] = (struct post){fn, arg};
    if (loop->queue.n == 1)
        uv_async_send(&loop->async);
    pthread_mutex_unlock(&loop->lock);
}

/* ---- the loop itself ---- */

/* How long this thread has waited for a CPU so far: the second of the three numbers. */
static uint64_t waited_ns(const struct ld_loop *loop)
{
    char text[96] = "", *number;
    uint64_t waited = 0;

    if (loop->schedstat_fd < 0 || pread(loop->schedstat_fd, text, sizeof(text) - 1, 0) <= 0)
        return loop->waited_ns;
    number = text + strcspn(text, " ");
    number += *number == ' ';
    number[strcspn(number, " ")] = '\0';
    return ld_parse_u64(number, 0, UINT64_MAX, &waited) == 0 ? waited : loop->waited_ns;
}

/* What a machine with too few CPUs made of the pass is not the loop's doing, and nobody could mend
 * it here. The last look may be older than the pass: rather a warning less than one too many. */
static void warn_if_busy(struct ld_loop *loop, uint64_t now, uint64_t busy_us)
{
    uint64_t waited = waited_ns(loop), waited_us = (waited - loop->waited_ns) / 1000;

    loop->waited_ns = waited;
    loop->looked_ns = now;
    busy_us = busy_us > waited_us ? busy_us - waited_us : 0;
    if (busy_us <= LAG_WARN_US || now - loop->warned_ns <= LAG_WARN_EVERY_S * UINT64_C(1000000000))
        return;
    loop->warned_ns = now;
    ld_warn("the loop was busy for %" PRIu64 " ms in one pass", busy_us / 1000);
}

static void note_lag(struct ld_loop *loop, uint64_t now)
{
    uint64_t idle = uv_metrics_idle_time(&loop->uv);
    uint64_t busy_us = 0;

    if (loop->pass_began_ns) {
        uint64_t pass = now - loop->pass_began_ns, slept = idle - loop->idle_ns;

        busy_us = (pass > slept ? pass - slept : 0) / 1000;
        loop->lag.last_us = busy_us;
        if (busy_us > loop->lag.max_us)
            loop->lag.max_us = busy_us;
        ld_histogram_add(&loop->lag.busy_ns, &ld_scale_time, busy_us * 1000);
    }
    if (busy_us > LAG_WARN_US || now - loop->looked_ns > LOOK_EVERY_MS * UINT64_C(1000000))
        warn_if_busy(loop, now, busy_us);
    loop->lag.passes++;
    loop->pass_began_ns = now;
    loop->idle_ns = idle;
}

/* Runs once per pass, right before libuv sleeps. From one to the next, less the time slept, is what
 * callbacks took. */
static void on_prepare(uv_prepare_t *prepare)
{
    note_lag(prepare->data, uv_hrtime());
}

int ld_loop_new(struct ld_loop **ret, struct ld_err *err)
{
    struct ld_loop *loop = ld_new(struct ld_loop);
    int r = uv_loop_init(&loop->uv);

    assert(current == NULL);
    if (r < 0) {
        free(loop);
        return ld_err_set(err, LD_E_UNAVAILABLE, "make an event loop: %s", uv_strerror(r));
    }
    r = uv_async_init(&loop->uv, &loop->async, on_async);
    if (r < 0) {
        (void)uv_loop_close(&loop->uv); /* nothing is open in it */
        free(loop);
        return ld_err_set(err, LD_E_UNAVAILABLE, "make an event loop: %s", uv_strerror(r));
    }
    loop->async.data = loop;
    (void)uv_loop_configure(&loop->uv, UV_METRICS_IDLE_TIME); /* cannot fail for this option */
    (void)uv_prepare_init(&loop->uv, &loop->prepare);         /* cannot fail, nor can the start */
    (void)uv_prepare_start(&loop->prepare, on_prepare);
    uv_unref((uv_handle_t *)&loop->prepare);
    loop->prepare.data = loop;
    pthread_mutex_init(&loop->lock, NULL);
    loop->schedstat_fd = open("/proc/thread-self/schedstat", O_RDONLY | O_CLOEXEC);
    current = loop;
    *ret = loop;
    return 0;
}

void ld_loop_run(struct ld_loop *loop)
{
    assert(current == loop);
    loop->pass_began_ns = 0; /* the time between two runs is not lag */
    is_running = true;
    (void)uv_run(&loop->uv, UV_RUN_DEFAULT);
    is_running = false;
}

void ld_loop_stop(struct ld_loop *loop)
{
    pthread_mutex_lock(&loop->lock);
    loop->stop = true;
    uv_async_send(&loop->async);
    pthread_mutex_unlock(&loop->lock);
}

void ld_loop_free(struct ld_loop *loop)
{
    if (!loop)
        return;
    assert(current == loop);
    do {
        run_posts(loop);
    } while (loop->queue.n > 0);
    assert(loop->handles == 0);

    uv_close((uv_handle_t *)&loop->async, NULL);
    uv_close((uv_handle_t *)&loop->prepare, NULL);
    (void)uv_run(&loop->uv, UV_RUN_DEFAULT); /* lets the close callbacks run */
    if (uv_loop_close(&loop->uv) < 0)
        abort();
    pthread_mutex_destroy(&loop->lock);
    ld_close(loop->schedstat_fd);
    free(loop->queue.items);
    free(loop->batch.items);
    free(loop);
    current = NULL;
}

uint64_t ld_loop_now_ms(const struct ld_loop *loop)
{
    return uv_now(&loop->uv);
}

struct ld_loop_lag ld_loop_lag(struct ld_loop *loop, bool reset_max)
{
    struct ld_loop_lag lag = loop->lag;

    ld_assert_loop();
    if (reset_max)
        loop->lag.max_us = 0;
    return lag;
}

/* ---- handles: each begins with its libuv handle, whose close callback frees it ---- */

static void on_closed(uv_handle_t *handle)
{
    free(handle);
}

static void handle_init(struct ld_loop *loop, uv_handle_t *handle)
{
    handle->data = loop;
    loop->handles++;
}

static void handle_free(uv_handle_t *handle)
{
    struct ld_loop *loop = handle->data;

    assert(current == loop);
    loop->handles--;
    uv_close(handle, on_closed);
}

/* ---- descriptors ---- */

struct ld_watch {
    uv_poll_t uv;
    ld_watch_fn fn;
    void *arg;
    unsigned wanted;
};
static_assert(offsetof(struct ld_watch, uv) == 0, "freed as its libuv handle");

static void on_poll(uv_poll_t *uv, int status, int uv_events)
{
    struct ld_watch *watch = (struct ld_watch *)uv;
    unsigned events = 0;

    if (status < 0) {
        /* libuv has stopped the handle: EPOLLERR never goes away and would spin. */
        events = watch->wanted;
        watch->wanted = 0;
    } else {
        events |= uv_events & UV_READABLE ? LD_WATCH_READ : 0;
        events |= uv_events & UV_WRITABLE ? LD_WATCH_WRITE : 0;
        events |= uv_events & UV_DISCONNECT ? LD_WATCH_DISCONNECT : 0;
        events |= uv_events & UV_PRIORITIZED ? LD_WATCH_HANGUP : 0;
    }
    if (events)
        watch->fn(watch->arg, events);
}

int ld_watch_new(struct ld_loop *loop, int fd, ld_watch_fn fn, void *arg, struct ld_watch **ret,
                 struct ld_err *err)
{
    struct ld_watch *watch = ld_new(struct ld_watch);
    int r;

    assert(current == loop);
    r = uv_poll_init(&loop->uv, &watch->uv, fd);
    if (r < 0) {
        free(watch);
        return ld_err_sys(err, r, "watch descriptor %d", fd); /* libuv's codes are -errno here */
    }
    handle_init(loop, (uv_handle_t *)&watch->uv);
    watch->fn = fn;
    watch->arg = arg;
    *ret = watch;
    return 0;
}

void ld_watch_set(struct ld_watch *watch, unsigned events)
{
    int uv_events = 0;

    ld_assert_loop();
    if (watch->wanted == events)
        return;
    watch->wanted = events;
    if (events == 0) {
        (void)uv_poll_stop(&watch->uv); /* cannot fail */
        return;
    }
    uv_events |= events & LD_WATCH_READ ? UV_READABLE : 0;
    uv_events |= events & LD_WATCH_WRITE ? UV_WRITABLE : 0;
    uv_events |= events & LD_WATCH_DISCONNECT ? UV_DISCONNECT : 0;
    /* libuv adds EPOLLHUP to whatever is asked for and reports it as that. Unix sockets never have
     * urgent data, so asking for it alone means the hang-up alone. */
    uv_events |= events & LD_WATCH_HANGUP ? UV_PRIORITIZED : 0;
    if (uv_poll_start(&watch->uv, uv_events, on_poll) < 0)
        abort(); /* only a closed descriptor can do that: our bug */
}

void ld_watch_free(struct ld_watch *watch)
{
    if (watch)
        handle_free((uv_handle_t *)&watch->uv);
}

/* ---- timers ---- */

struct ld_timer {
    uv_timer_t uv;
    ld_loop_fn fn;
    void *arg;
};
static_assert(offsetof(struct ld_timer, uv) == 0, "freed as its libuv handle");

static void on_timer(uv_timer_t *uv)
{
    struct ld_timer *timer = (struct ld_timer *)uv;

    timer->fn(timer->arg);
}

struct ld_timer *ld_timer_new(struct ld_loop *loop, ld_loop_fn fn, void *arg)
{
    struct ld_timer *timer = ld_new(struct ld_timer);

    assert(current == loop);
    (void)uv_timer_init(&loop->uv, &timer->uv); /* cannot fail */
    handle_init(loop, (uv_handle_t *)&timer->uv);
    timer->fn = fn;
    timer->arg = arg;
    return timer;
}

void ld_timer_start(struct ld_timer *timer, uint64_t delay_ms, uint64_t repeat_ms)
{
    ld_assert_loop();
    /* libuv counts from the time the pass began, which may be long ago: the timer would be early.
     */
    uv_update_time(timer->uv.loop);
    (void)uv_timer_start(&timer->uv, on_timer, delay_ms, repeat_ms); /* cannot fail: not closing */
}

void ld_timer_stop(struct ld_timer *timer)
{
    ld_assert_loop();
    (void)uv_timer_stop(&timer->uv); /* cannot fail */
}

bool ld_timer_is_set(const struct ld_timer *timer)
{
    return uv_is_active((const uv_handle_t *)&timer->uv) != 0;
}

void ld_timer_free(struct ld_timer *timer)
{
    if (timer)
        handle_free((uv_handle_t *)&timer->uv);
}

/* ---- idle ---- */

struct ld_idle {
    uv_idle_t uv;
    ld_loop_fn fn;
    void *arg;
};
static_assert(offsetof(struct ld_idle, uv) == 0, "freed as its libuv handle");

static void on_idle(uv_idle_t *uv)
{
    struct ld_idle *idle = (struct ld_idle *)uv;

    idle->fn(idle->arg);
}

struct ld_idle *ld_idle_new(struct ld_loop *loop, ld_loop_fn fn, void *arg)
{
    struct ld_idle *idle = ld_new(struct ld_idle);

    assert(current == loop);
    (void)uv_idle_init(&loop->uv, &idle->uv); /* cannot fail */
    handle_init(loop, (uv_handle_t *)&idle->uv);
    idle->fn = fn;
    idle->arg = arg;
    return idle;
}

void ld_idle_start(struct ld_idle *idle)
{
    ld_assert_loop();
    (void)uv_idle_start(&idle->uv, on_idle); /* started already: nothing happens */
}

void ld_idle_stop(struct ld_idle *idle)
{
    ld_assert_loop();
    (void)uv_idle_stop(&idle->uv); /* cannot fail */
}

void ld_idle_free(struct ld_idle *idle)
{
    if (idle)
        handle_free((uv_handle_t *)&idle->uv);
}

/* ---- signals ---- */

struct ld_signal {
    uv_signal_t uv;
    ld_signal_fn fn;
    void *arg;
};
static_assert(offsetof(struct ld_signal, uv) == 0, "freed as its libuv handle");

static void on_signal(uv_signal_t *uv, int signum)
{
    struct ld_signal *sig = (struct ld_signal *)uv;

    sig->fn(sig->arg, signum);
}

int ld_signal_new(struct ld_loop *loop, int signum, ld_signal_fn fn, void *arg,
                  struct ld_signal **ret, struct ld_err *err)
{
    struct ld_signal *sig = ld_new(struct ld_signal);
    int r;

    assert(current == loop);
    r = uv_signal_init(&loop->uv, &sig->uv);
    if (r < 0) {
        free(sig);
        return ld_err_sys(err, r, "watch signal %d", signum);
    }
    handle_init(loop, (uv_handle_t *)&sig->uv);
    sig->fn = fn;
    sig->arg = arg;
    r = uv_signal_start(&sig->uv, on_signal, signum);
    if (r < 0) {
        ld_signal_free(sig);
        return ld_err_sys(err, r, "watch signal %d", signum);
    }
    *ret = sig;
    return 0;
}

void ld_signal_free(struct ld_signal *sig)
{
    if (sig)
        handle_free((uv_handle_t *)&sig->uv);
}
