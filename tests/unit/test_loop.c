/* jobs/loop.h: posts, timers, idle, watches, signals, lag. */
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "daemon/base/mem.h"
#include "daemon/jobs/loop.h"
#include "tests/lib/env.h"

static struct ld_loop *make_loop(void)
{
    struct ld_err err = LD_ERR_INIT;
    struct ld_loop *loop = NULL;

    ld_test_ok(ld_loop_new(&loop, &err), &err);
    return loop;
}

static void stop(void *arg)
{
    ld_loop_stop(arg);
}

/* ---- posts ---- */

enum { POSTERS = 4, POSTS = 20000 };

struct post_test {
    struct ld_loop *loop;
    unsigned next[POSTERS]; /* the number each poster's next post must have */
    unsigned total;
    bool wrong;
};

struct post {
    struct post_test *test;
    unsigned poster, number;
};

static void on_post(void *arg)
{
    autofree struct post *post = arg;
    struct post_test *test = post->test;

    ld_assert_loop();
    if (test->next[post->poster]++ != post->number)
        test->wrong = true;
    if (++test->total == POSTERS * POSTS)
        ld_loop_stop(test->loop);
}

struct poster {
    struct post_test *test;
    unsigned index;
};

static void *post_many(void *arg)
{
    struct poster *me = arg;

    for (unsigned i = 0; i < POSTS; i++) {
        struct post *post = ld_new(struct post);

        *post = (struct post){me->test, me->index, i};
        ld_loop_post(me->test->loop, on_post, post);
    }
    return NULL;
}

LD_TEST(loop, runs_posts_of_many_threads_once_and_in_order)
{
    struct post_test test = {.loop = make_loop()};
    struct poster posters[POSTERS];
    pthread_t threads[POSTERS];

    for (unsigned i = 0; i < POSTERS; i++) {
        posters[i] = (struct poster){&test, i};
        cr_assert_eq(pthread_create(&threads[i], NULL, post_many, &posters[i]), 0);
    }
    ld_loop_run(test.loop);
    for (unsigned i = 0; i < POSTERS; i++)
        pthread_join(threads[i], NULL);
    cr_expect_eq(test.total, POSTERS * POSTS);
    cr_expect_not(test.wrong, "the order of one thread's posts was kept");
    ld_loop_free(test.loop);
}

static void count(void *arg)
{
    ++*(int *)arg;
}

LD_TEST(loop, runs_what_is_still_posted_before_it_is_freed)
{
    struct ld_loop *loop = make_loop();
    int n = 0;

    ld_loop_post(loop, count, &n);
    cr_expect_eq(n, 0, "never from inside the post");
    ld_loop_free(loop);
    cr_expect_eq(n, 1);
}

LD_TEST(loop, leaks_no_descriptor)
{
    size_t before;
    struct ld_loop *loop = make_loop(); /* libuv keeps some of the process's own */

    ld_loop_free(loop);
    before = ld_test_count_fds();
    loop = make_loop();
    ld_loop_free(loop);
    cr_expect_eq(ld_test_count_fds(), before);
}

LD_TEST(loop, ends_a_run_that_was_stopped_before_it_began)
{
    struct ld_loop *loop = make_loop();

    ld_loop_stop(loop);
    ld_loop_run(loop);
    ld_loop_free(loop);
}

/* ---- timers and idle ---- */

struct timer_test {
    struct ld_loop *loop;
    struct ld_timer *timer;
    struct ld_idle *idle;
    int n;
};

static void on_repeat(void *arg)
{
    struct timer_test *test = arg;

    if (++test->n < 3)
        return;
    ld_timer_free(test->timer); /* from its own callback */
    ld_loop_stop(test->loop);
}

LD_TEST(loop, repeats_a_timer_until_it_is_freed)
{
    struct timer_test test = {.loop = make_loop()};
    uint64_t before = ld_loop_now_ms(test.loop);

    test.timer = ld_timer_new(test.loop, on_repeat, &test);
    cr_expect_not(ld_timer_is_set(test.timer));
    ld_timer_start(test.timer, 20, 10);
    cr_expect(ld_timer_is_set(test.timer));
    ld_loop_run(test.loop);
    cr_expect_geq(ld_loop_now_ms(test.loop) - before, 40);
    ld_loop_free(test.loop);
    cr_expect_eq(test.n, 3);
}

static void on_idle(void *arg)
{
    struct timer_test *test = arg;

    if (++test->n == 1000) {
        ld_idle_free(test->idle);
        ld_loop_stop(test->loop);
    }
}

LD_TEST(loop, calls_an_idle_in_each_pass)
{
    struct timer_test test = {.loop = make_loop()};
    uint64_t passes;

    test.idle = ld_idle_new(test.loop, on_idle, &test);
    ld_idle_start(test.idle);
    ld_loop_run(test.loop);
    passes = ld_loop_lag(test.loop, false).passes;
    cr_expect_eq(test.n, 1000);
    cr_expect(passes >= 999 && passes <= 1001, "%d passes", (int)passes);
    ld_loop_free(test.loop);
}

/* ---- descriptors ---- */

struct watch_test {
    struct ld_loop *loop;
    struct ld_watch *watch;
    int fd;
    unsigned seen;
};

static void on_event(void *arg, unsigned events)
{
    struct watch_test *test = arg;

    test->seen |= events;
    ld_watch_set(test->watch, 0);
    ld_loop_stop(test->loop);
}

LD_TEST(loop, tells_readable_writable_and_disconnected)
{
    struct watch_test test = {.loop = make_loop()};
    struct ld_err err = LD_ERR_INIT;
    int pair[2];

    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    ld_test_ok(ld_watch_new(test.loop, pair[0], on_event, &test, &test.watch, &err), &err);

    ld_watch_set(test.watch, LD_WATCH_READ | LD_WATCH_WRITE);
    ld_loop_run(test.loop);
    cr_expect_eq(test.seen, LD_WATCH_WRITE);

    test.seen = 0;
    cr_assert_eq(write(pair[1], "x", 1), 1);
    ld_watch_set(test.watch, LD_WATCH_READ);
    ld_loop_run(test.loop);
    cr_expect_eq(test.seen, LD_WATCH_READ);

    test.seen = 0;
    cr_assert_eq(shutdown(pair[1], SHUT_WR), 0);
    ld_watch_set(test.watch, LD_WATCH_DISCONNECT);
    ld_loop_run(test.loop);
    cr_expect_eq(test.seen, LD_WATCH_DISCONNECT, "half-closed counts");

    ld_watch_free(test.watch);
    ld_loop_free(test.loop);
    close(pair[0]);
    close(pair[1]);
}

LD_TEST(loop, refuses_to_watch_a_regular_file)
{
    struct ld_loop *loop = make_loop();
    struct ld_err err = LD_ERR_INIT;
    struct ld_watch *watch;
    int dir = ld_test_mkdir("d");

    ld_test_write(dir, "f", "x");
    autoclose int fd = open("d/f", O_RDONLY | O_CLOEXEC);
    ld_test_fails(ld_watch_new(loop, fd, on_event, NULL, &watch, &err), &err, LD_E_IO);
    close(dir);
    ld_loop_free(loop);
}

/* ---- signals and lag ---- */

static void on_signal(void *arg, int signum)
{
    cr_expect_eq(signum, SIGUSR1);
    ld_loop_stop(arg);
}

LD_TEST(loop, delivers_a_signal)
{
    struct ld_loop *loop = make_loop();
    struct ld_err err = LD_ERR_INIT;
    struct ld_signal *sig;

    ld_test_ok(ld_signal_new(loop, SIGUSR1, on_signal, loop, &sig, &err), &err);
    raise(SIGUSR1);
    ld_loop_run(loop);
    ld_signal_free(sig);
    ld_loop_free(loop);
}

static void be_slow(void *arg)
{
    struct timespec t = {.tv_nsec = 30000000};

    (void)arg;
    nanosleep(&t, NULL);
}

LD_TEST(loop, measures_how_long_a_pass_took)
{
    struct ld_loop *loop = make_loop();
    struct ld_timer *timer = ld_timer_new(loop, stop, loop);
    struct ld_timer *slow = ld_timer_new(loop, be_slow, NULL);

    ld_timer_start(slow, 20, 0);
    ld_timer_start(timer, 2000, 0);
    ld_loop_run(loop);
    cr_expect_geq(ld_loop_lag(loop, false).max_us, 30000, "the callback counts");
    cr_expect_lt(ld_loop_lag(loop, true).max_us, 1500000, "sleeping does not");
    cr_expect_eq(ld_loop_lag(loop, false).max_us, 0, "reset");
    ld_timer_free(timer);
    ld_timer_free(slow);
    ld_loop_free(loop);
}
