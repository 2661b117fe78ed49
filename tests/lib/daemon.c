/* See daemon.h. */
#include "tests/lib/daemon.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include "daemon/base/fdio.h"
#include "daemon/base/mem.h"
#include "tests/lib/client.h"
#include "tests/lib/env.h"

static const char log_name[] = "layerd.log";

enum { START_SECONDS = 60, STOP_SECONDS = 60, MAX_ARGS = 32 };

static int log_fd(void)
{
    autofree char *path = ld_asprintf("%s/%s", ld_test_dir(), log_name);

    return getenv("LD_TEST_LOG") ? -1 : open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
}

static char *read_log(void)
{
    autofree char *path = ld_asprintf("%s/%s", ld_test_dir(), log_name);
    autoclose int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat st = {0};
    char *text;

    if (fd < 0 || fstat(fd, &st) < 0)
        return ld_strdup("");
    text = ld_alloc0((size_t)st.st_size + 1);
    return ld_pread_full(fd, text, (size_t)st.st_size, 0) == 0 ? text : (free(text), ld_strdup(""));
}

void ld_daemon_show_log(void)
{
    autofree char *text = read_log();
    size_t len = strlen(text);

    (void)fprintf(stderr, "--- end of the daemon's log\n%s\n---\n",
                  len > 4000 ? text + len - 4000 : text);
}

static void spawn(struct ld_daemon *d)
{
    const char *program = getenv("LAYERD");
    const char *argv[MAX_ARGS] = {program ? program : LD_BUILD_ROOT "/layerd",
                                  "--data-root",
                                  d->data_root,
                                  "--run-root",
                                  d->run_root,
                                  "--group",
                                  "root",
                                  "--log-level",
                                  "debug"};
    autofree char *host = ld_asprintf("unix://%s", d->socket);
    autoclose int out = log_fd();
    size_t n = 9;

    argv[n++] = "--host";
    argv[n++] = host;
    for (size_t i = 0; d->args && d->args[i] && n < MAX_ARGS - 1; i++)
        argv[n++] = d->args[i];
    d->pid = fork();
    cr_assert(d->pid >= 0);
    if (d->pid == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (out >= 0)
            (void)(dup2(out, STDOUT_FILENO), dup2(out, STDERR_FILENO));
        execv(argv[0], (char *const *)argv);
        (void)fprintf(stderr, "%s: %s\n", argv[0], strerror(errno));
        _exit(127);
    }
}

/* True, and the pid is forgotten, when it has ended. */
static bool has_ended(struct ld_daemon *d, int *ret_status)
{
    if (d->pid > 0 && waitpid(d->pid, ret_status, WNOHANG) == 0)
        return false;
    d->pid = 0;
    return true;
}

struct start {
    struct ld_daemon *d;
    bool ended;
    int status;
};

static bool answers_or_ended(void *arg)
{
    struct start *s = arg;

    s->ended = has_ended(s->d, &s->status);
    return s->ended || ld_client_call(s->d->client,
                                      &(struct ld_call){.method = "GET", .target = "/v1"}) != NULL;
}

void ld_daemon_again(struct ld_daemon *d)
{
    struct start s = {.d = d};
    bool up;

    cr_assert_eq(d->pid, 0, "the daemon runs already");
    ld_client_hang_up(d->client);
    spawn(d);
    up = ld_test_wait(answers_or_ended, &s, START_SECONDS);
    if (!up || s.ended)
        ld_daemon_show_log();
    cr_assert(!s.ended, "the daemon did not start: wait status %#x", (unsigned)s.status);
    cr_assert(up, "the daemon does not answer: %s", ld_client_problem(d->client));
}

struct ld_daemon *ld_daemon_start(const char *data_root, const char *const *args)
{
    struct ld_daemon *d = ld_new(struct ld_daemon);

    ld_close(ld_test_mkdir(data_root));
    ld_close(ld_test_mkdir("run"));
    d->data_root = ld_asprintf("%s/%s/root", ld_test_dir(), data_root);
    d->run_root = ld_asprintf("%s/run", ld_test_dir());
    d->socket = ld_asprintf("%s/layerd.sock", d->run_root);
    d->args = args;
    d->client = ld_client_new(d->socket);
    ld_daemon_again(d);
    return d;
}

static bool ended(void *arg)
{
    struct start *s = arg;

    return has_ended(s->d, &s->status);
}

char *ld_daemon_fails(struct ld_daemon *d)
{
    struct start s = {.d = d};
    autofree char *before = read_log();
    autofree char *after = NULL;

    spawn(d);
    cr_assert(ld_test_wait(ended, &s, START_SECONDS), "the daemon started, it should not");
    cr_assert(WIFEXITED(s.status) && WEXITSTATUS(s.status) != 0, "wait status %#x",
              (unsigned)s.status);
    after = read_log();
    return ld_strdup(after + strlen(before));
}

void ld_daemon_stop(struct ld_daemon *d)
{
    struct start s = {.d = d};
    bool over;

    cr_assert(d->pid > 0, "the daemon is not running");
    (void)kill(d->pid, SIGTERM);
    over = ld_test_wait(ended, &s, STOP_SECONDS);
    if (!over || s.status != 0)
        ld_daemon_show_log();
    cr_assert(over, "the daemon does not stop");
    cr_assert_eq(s.status, 0, "the daemon ended with wait status %#x", (unsigned)s.status);
}

void ld_daemon_kill(struct ld_daemon *d)
{
    cr_assert(d->pid > 0 && kill(d->pid, SIGKILL) == 0);
    cr_assert_eq(waitpid(d->pid, NULL, 0), d->pid);
    d->pid = 0;
}

void ld_daemon_cut_power(struct ld_daemon *d, const char *fs)
{
    /* XFS_IOC_GOINGDOWN, ext4's too: 2 flushes nothing. */
    const unsigned long shutdown_ioctl = _IOR('X', 125, uint32_t);
    struct timespec moment = {.tv_nsec = 20000000};
    autofree char *path = ld_asprintf("%s/%s", ld_test_dir(), fs);
    autoclose int dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    uint32_t how = 2;

    cr_assert(dir >= 0);
    /* A second user of the loop device, or it detaches with the last unmount. */
    ld_test_sh("dev=$(findmnt -no SOURCE %s); echo $dev > /mnt/device", path);
    cr_assert_eq(ioctl(dir, shutdown_ioctl, &how), 0, "%s", strerror(errno));
    ld_close_p(&dir);
    (void)nanosleep(&moment,
                    NULL); /* the daemon goes on for a moment on a disk that is not there */
    ld_daemon_kill(d);
    ld_test_sh("exec 9<$(cat /mnt/device); "
               "for m in $(awk -v p=%s/ 'index($5, p) == 1 {print $5}' /proc/self/mountinfo | "
               "tac); do umount -l $m; done; umount %s && mount $(cat /mnt/device) %s",
               d->run_root, path, path);
}

void ld_daemon_end(struct ld_daemon *d)
{
    if (d->pid > 0)
        ld_daemon_stop(d);
    ld_client_free(d->client);
    free(d->data_root);
    free(d->run_root);
    free(d->socket);
    free(d);
}

bool ld_daemon_is_alive(const struct ld_daemon *d)
{
    siginfo_t info = {0};

    if (d->pid > 0 && waitid(P_PID, (id_t)d->pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0 &&
        info.si_pid == 0)
        return true;
    ld_daemon_show_log();
    return false;
}

/* "VmRSS:     1234 kB" of /proc/PID/status, in bytes. */
static uint64_t status_value(const struct ld_daemon *d, const char *key)
{
    autofree char *path = ld_asprintf("/proc/%d/status", d->pid);
    FILE *file = fopen(path, "re");
    unsigned long long kib = 0;
    char line[256];

    cr_assert(file, "%s", path);
    while (fgets(line, sizeof(line), file)) {
        if (strncmp(line, key, strlen(key)) == 0)
            kib = strtoull(line + strlen(key) + 1, NULL, 10);
    }
    (void)fclose(file);
    return kib << 10;
}

uint64_t ld_daemon_rss(const struct ld_daemon *d)
{
    return status_value(d, "VmRSS");
}

uint64_t ld_daemon_peak_rss(const struct ld_daemon *d)
{
    return status_value(d, "VmHWM");
}

void ld_daemon_reset_peak(const struct ld_daemon *d)
{
    autofree char *path = ld_asprintf("/proc/%d/clear_refs", d->pid);
    autoclose int fd = open(path, O_WRONLY | O_CLOEXEC);

    cr_assert(fd >= 0 && write(fd, "5", 1) == 1);
}

static int count_one(void *arg, const char *name, unsigned char d_type)
{
    (void)name, (void)d_type;
    ++*(size_t *)arg;
    return 0;
}

size_t ld_daemon_fds(const struct ld_daemon *d)
{
    autofree char *path = ld_asprintf("/proc/%d/fd", d->pid);
    autoclose int dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    size_t n = 0;

    cr_assert_eq(ld_each_name(dir, count_one, &n), 0);
    return n;
}

struct few_fds {
    const struct ld_daemon *d;
    size_t most;
};

static bool has_few_fds(void *arg)
{
    const struct few_fds *few = arg;

    return ld_daemon_fds(few->d) <= few->most;
}

bool ld_daemon_wait_fds(const struct ld_daemon *d, size_t most, unsigned seconds)
{
    struct few_fds few = {d, most};

    return ld_test_wait(has_few_fds, &few, seconds);
}

size_t ld_test_count_mounts(const char *prefix)
{
    FILE *file = fopen("/proc/self/mountinfo", "re");
    autofree char *line = NULL;
    size_t cap = 0, n = 0;

    cr_assert(file);
    while (getline(&line, &cap, file) > 0) {
        char *point = line;

        for (int field = 0; point && field < 4; field++)
            point = strchr(point + 1, ' ');
        n += point && strncmp(point + 1, prefix, strlen(prefix)) == 0;
    }
    (void)fclose(file);
    return n;
}
