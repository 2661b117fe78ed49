/* A test's world: see env.h. Any failure in here is a broken machine, not a failed test: it aborts.
 */
#include "tests/lib/env.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/btrfs.h>
#include <linux/loop.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "daemon/base/fdio.h"
#include "daemon/base/mem.h"

static const char root[] = "/mnt";

static void die(const char *what)
{
    (void)fprintf(stderr, "test environment: %s: %s\n", what, strerror(errno));
    abort();
}

void ld_test_enter(void)
{
    umask(0137);
    if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
        die("a mount namespace of its own (root needed)");
    if (mount("layerd-test", root, "tmpfs", 0, "mode=0755") < 0)
        die("tmpfs");
    if (chdir(root) < 0)
        die("chdir");
}

const char *ld_test_dir(void)
{
    return root;
}

int ld_test_mkdir(const char *name)
{
    autofree char *path = ld_asprintf("%s/%s", root, name);
    int fd;

    if ((mkdir(path, 0755) < 0 && errno != EEXIST) || chmod(path, 0755) < 0)
        die(path);
    fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        die(path);
    return fd;
}

/* The device detaches itself with its last user, so nobody has to clean up after a crash. */
static void attach_loop(const char *image, char device[32])
{
    autoclose int file = open(image, O_RDWR | O_CLOEXEC);
    autoclose int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);

    if (file < 0 || control < 0)
        die("loop");
    for (int tries = 0; tries < 64; tries++) {
        struct loop_config config = {.fd = (unsigned)file, .info.lo_flags = LO_FLAGS_AUTOCLEAR};
        int n = ioctl(control, LOOP_CTL_GET_FREE);
        autoclose int loop = -EBADF;

        if (n < 0)
            die("LOOP_CTL_GET_FREE");
        (void)snprintf(device, 32, "/dev/loop%d", n);
        loop = open(device, O_RDWR | O_CLOEXEC);
        if (loop < 0)
            die(device);
        if (ioctl(loop, LOOP_CONFIGURE, &config) == 0) {
            (void)ld_steal_fd(&loop); /* kept open until exit: it would detach before the mount */
            return;
        }
        if (errno != EBUSY)
            die("LOOP_CONFIGURE");
    }
    die("no free loop device");
}

int ld_test_fs(const char *name, const char *type, unsigned mib)
{
    autofree char *image = ld_asprintf("%s/%s.img", root, name);
    char device[32];
    autoclose int fd = open(image, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
    int dir;

    if (fd < 0 || ftruncate(fd, (off_t)mib << 20) < 0)
        die(image);
    ld_test_sh("mkfs.%s -q %s %s", type, strcmp(type, "ext4") == 0 ? "-F" : "-f", image);
    attach_loop(image, device);
    dir = ld_test_mkdir(name);
    ld_close(dir);
    if (mount(device, name, type, 0, NULL) < 0)
        die("mount the loop file system");
    return ld_test_mkdir(name);
}

void ld_test_quotas_on(int dir, bool simple)
{
    /* BTRFS_QUOTA_CTL_ENABLE_SIMPLE_QUOTA, which older headers lack. */
    struct btrfs_ioctl_quota_ctl_args args = {.cmd = simple ? 4 : BTRFS_QUOTA_CTL_ENABLE};

    if (ioctl(dir, BTRFS_IOC_QUOTA_CTL, &args) < 0)
        die("BTRFS_IOC_QUOTA_CTL");
}

void ld_test_write(int dir, const char *path, const char *text)
{
    autoclose int fd = openat(dir, path, O_CREAT | O_WRONLY | O_TRUNC | O_CLOEXEC, 0644);

    cr_assert(fd >= 0, "create %s: %s", path, strerror(errno));
    cr_assert_eq(fchmod(fd, 0644), 0);
    cr_assert_eq(ld_write_full(fd, text, strlen(text)), 0);
}

char *ld_test_read(int dir, const char *path)
{
    autoclose int fd = openat(dir, path, O_RDONLY | O_CLOEXEC);
    struct stat st;
    char *text;

    cr_assert(fd >= 0, "open %s: %s", path, strerror(errno));
    cr_assert_eq(fstat(fd, &st), 0);
    text = ld_alloc0((size_t)st.st_size + 1);
    cr_assert_eq(ld_read_full(fd, text, (size_t)st.st_size), 0);
    return text;
}

void ld_test_sh(const char *fmt, ...)
{
    char command[8192];
    va_list ap;
    int n;

    va_start(ap, fmt);
    n = vsnprintf(command, sizeof(command), fmt, ap);
    va_end(ap);
    cr_assert(n > 0 && (size_t)n < sizeof(command), "command too long");
    n = system(command); /* NOLINT: tests run their own fixed commands */
    cr_assert_eq(n, 0, "'%s' exited with %d", command, n);
}

bool ld_test_wait(bool (*is_true)(void *arg), void *arg, unsigned seconds)
{
    struct timespec pause = {.tv_nsec = 2000000};

    for (unsigned i = 0; i < seconds * 500; i++) {
        if (is_true(arg))
            return true;
        (void)nanosleep(&pause, NULL); /* between two looks at the condition */
    }
    return is_true(arg);
}

static int count_one(void *arg, const char *name, unsigned char d_type)
{
    (void)name, (void)d_type;
    ++*(size_t *)arg;
    return 0;
}

size_t ld_test_count_fds(void)
{
    autoclose int dir = open("/proc/self/fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    size_t n = 0;

    cr_assert_eq(ld_each_name(dir, count_one, &n), 0);
    return n - 2; /* the descriptors of this very walk */
}

pid_t ld_test_hold(const char *path)
{
    int ready[2];
    pid_t pid;
    char byte;

    cr_assert_eq(pipe2(ready, O_CLOEXEC), 0);
    pid = fork();
    if (pid == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (chdir(path) < 0 || write(ready[1], "x", 1) != 1)
            _exit(1);
        for (;;)
            (void)pause();
    }
    cr_assert(pid > 0 && read(ready[0], &byte, 1) == 1);
    ld_close(ready[0]);
    ld_close(ready[1]);
    return pid;
}

void ld_test_let_go(pid_t pid)
{
    (void)kill(pid, SIGKILL);
    cr_assert_eq(waitpid(pid, NULL, 0), pid);
}
