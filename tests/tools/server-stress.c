/* A stress of the HTTP server with its own main, for TSan and for leaks.
 *
 *     server-stress [SECONDS [SEED]]
 *
 * Clients on raw sockets do random things to the toy server: small requests, uploads and downloads
 * of random size, verbs, feeds, garbage; and leave at a random moment. Then the server is drained.
 * Prints its seed; exits 0 when every answer that was read whole was right and nothing was left,
 * else aborts.
 */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "daemon/base/log.h"
#include "daemon/base/mem.h"
#include "daemon/base/parse.h"
#include "tests/lib/toy.h"

enum { N_CLIENTS = 24 };

static struct ld_toy toy;
static bool stop;
static uint64_t n_whole, n_left;

struct visitor {
    pthread_t thread;
    unsigned seed;
};

static unsigned below(unsigned *seed, unsigned n)
{
    *seed ^= *seed << 13;
    *seed ^= *seed >> 17;
    *seed ^= *seed << 5;
    return *seed % n;
}

static int dial(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    (void)stpcpy(address.sun_path, toy.path);
    assert(fd >= 0);
    if (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
        abort();
    return fd;
}

/* False: the server closed, or we leave. */
static bool say(int fd, const char *data, size_t len)
{
    while (len > 0) {
        ssize_t n = send(fd, data, len, MSG_NOSIGNAL);

        if (n <= 0)
            return false;
        data += n;
        len -= (size_t)n;
    }
    return true;
}

/* Reads until the end, or `max` bytes, and looks at the status. */
static void hear(int fd, size_t max, const char *status)
{
    char data[4096];
    size_t total = 0;
    ssize_t n;

    while (total < max && (n = recv(fd, data, sizeof(data), 0)) > 0) {
        if (total == 0 && n > 12 && status && strncmp(data + 9, status, 3) != 0 &&
            strncmp(data + 9, "503", 3) != 0) {
            (void)fprintf(stderr, "wanted %s: %.*s\n", status, (int)n, data);
            abort();
        }
        total += (size_t)n;
    }
    __atomic_fetch_add(total < max && total > 0 ? &n_whole : &n_left, 1, __ATOMIC_RELAXED);
}

static void ask(int fd, unsigned *seed, const char *request, const char *status)
{
    autofree char *text =
        ld_asprintf("%s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n%s"
                    "Content-Length: 0\r\n\r\n",
                    request, below(seed, 2) ? "Accept: application/x-ndjson\r\n" : "");

    if (say(fd, text, strlen(text)))
        hear(fd, below(seed, 3) ? SIZE_MAX : below(seed, 3000), status);
}

static void send_upload(int fd, unsigned *seed, const char *target, const char *status)
{
    static const char piece[10000];
    unsigned size = below(seed, 3) ? below(seed, 4000000) : below(seed, 1000);
    unsigned leave_at = below(seed, 3) ? UINT32_MAX : below(seed, size + 1);
    autofree char *head = ld_asprintf("PUT %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
                                      "Content-Length: %u\r\n\r\n",
                                      target, size);

    if (!say(fd, head, strlen(head)))
        return;
    for (unsigned left = size; left > 0;) {
        unsigned n = left < sizeof(piece) ? left : (unsigned)sizeof(piece);

        if (size - left >= leave_at)
            return;
        if (!say(fd, piece, n))
            break;
        left -= n;
    }
    if (below(seed, 4) == 0)
        (void)shutdown(fd, SHUT_WR);
    hear(fd, SIZE_MAX, status);
}

static void visit(unsigned *seed)
{
    char target[100];
    int fd = dial();

    switch (below(seed, 10)) {
    case 0:
        ask(fd, seed, "GET /v1/hello", "200");
        break;
    case 1:
        ask(fd, seed, "POST /v1/work", "201");
        break;
    case 2:
        ask(fd, seed, "POST /v1/verb", NULL); /* 201, or 200 with progress */
        break;
    case 3:
        ask(fd, seed, "POST /v1/verb?fail=late", NULL);
        break;
    case 4:
        (void)snprintf(target, sizeof(target), "GET /v1/download?bytes=%u", below(seed, 5000000));
        ask(fd, seed, target, "200");
        break;
    case 5:
        ask(fd, seed, "GET /v1/download?bytes=3000000&fail_at=1000000", "200");
        break;
    case 6:
        send_upload(fd, seed, "/v1/upload", "200");
        break;
    case 7:
        (void)snprintf(target, sizeof(target), "/v1/import?fail_at=%u", 1 + below(seed, 3000000));
        send_upload(fd, seed, target, NULL); /* too short to fail, at times */
        break;
    case 8:
        (void)say(fd, "garbage\r\n\r\n", below(seed, 12));
        break;
    case 9:
        ask(fd, seed, "GET /v1/nothing", "404");
        break;
    }
    close(fd);
}

static void *visit_often(void *arg)
{
    struct visitor *me = arg;

    while (!ld_flag_is_set(&stop))
        visit(&me->seed);
    return NULL;
}

int main(int argc, char **argv)
{
    uint64_t seconds = 3, seed = (uint64_t)time(NULL);
    struct visitor visitors[N_CLIENTS];
    char dir[] = "/dev/shm/server-stress-XXXXXX";

    if ((argc > 1 && ld_parse_u64(argv[1], 1, 3600, &seconds) < 0) ||
        (argc > 2 && ld_parse_u64(argv[2], 1, UINT32_MAX, &seed) < 0) || argc > 3) {
        (void)fprintf(stderr, "usage: server-stress [SECONDS [SEED]]\n");
        return 2;
    }
    if (!mkdtemp(dir) || chdir(dir) < 0)
        abort();
    ld_log_setup(LD_LOG_ERROR + 1, LD_LOG_TEXT);
    ld_toy_start(&toy, 0);
    ld_toy_open(&toy);
    for (unsigned i = 0; i < N_CLIENTS; i++) {
        visitors[i].seed = (unsigned)(seed * 1000 + i) | 1;
        if (pthread_create(&visitors[i].thread, NULL, visit_often, &visitors[i]) != 0)
            abort();
    }
    sleep((unsigned)seconds);
    ld_flag_set(&stop);
    for (unsigned i = 0; i < N_CLIENTS; i++)
        pthread_join(visitors[i].thread, NULL);
    ld_toy_end(&toy); /* asserts that nothing is left */
    if (unlink(toy.path) < 0 || unlink(toy.read_path) < 0 || rmdir(dir) < 0)
        abort();
    printf("seed %" PRIu64 ": %" PRIu64 " answers read whole, %" PRIu64 " left early or cut\n",
           seed, n_whole, n_left);
    return 0;
}
