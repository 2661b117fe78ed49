/* Finding who holds a mount, by /proc: see holders.h. */
#include "daemon/core/holders.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/base/fdio.h"
#include "daemon/base/mountapi.h"
#include "daemon/base/parse.h"

struct search {
    int proc;
    dev_t dev;
    uint64_t mount_id;
    bool same_mount;
    int pid_dir;
    bool found; /* in the process looked at */
    struct ld_holder *holder;
    size_t n;
};

static bool is_on_it(const struct search *s, int dir, const char *link)
{
    struct stat st;
    struct statx stx;

    if (!s->same_mount)
        return fstatat(dir, link, &st, AT_NO_AUTOMOUNT) == 0 && st.st_dev == s->dev;
    return statx(dir, link, AT_NO_AUTOMOUNT | AT_STATX_DONT_SYNC, STATX_MNT_ID | 0x4000U, &stx) ==
               0 &&
           stx.stx_mnt_id == s->mount_id;
}

static int look_at_link(void *arg, const char *name, unsigned char d_type)
{
    struct search *s = arg;
    char link[64];
    int n = snprintf(link, sizeof(link), "fd/%s", name);

    (void)d_type;
    if (n > 0 && (size_t)n < sizeof(link) && is_on_it(s, s->pid_dir, link))
        s->found = true;
    return s->found; /* one is enough */
}

static void read_command(int pid_dir, char command[32])
{
    autoclose int fd = openat(pid_dir, "comm", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : ld_read_some(fd, command, 31);

    command[n > 0 ? n : 0] = '\0';
    command[strcspn(command, "\n")] = '\0';
    for (char *c = command; *c; c++) {
        if (!isprint((unsigned char)*c) || *c == '"' || *c == '\\')
            *c = '?'; /* a process names itself */
    }
}

static int look_at_process(void *arg, const char *name, unsigned char d_type)
{
    static const char *const links[] = {"cwd", "root", "exe"};
    struct search *s = arg;
    autoclose int pid_dir = -EBADF, fds = -EBADF;
    int pid;

    (void)d_type;
    if (ld_parse_int(name, 1, INT32_MAX, &pid) < 0 || pid == getpid())
        return 0; /* our own views never keep a mount point busy */
    pid_dir = openat(s->proc, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (pid_dir < 0)
        return 0;
    s->found = false;
    for (size_t i = 0; i < LD_ARRAY_LEN(links) && !s->found; i++)
        s->found = is_on_it(s, pid_dir, links[i]);
    if (!s->found) {
        s->pid_dir = pid_dir;
        fds = openat(pid_dir, "fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fds >= 0)
            (void)!ld_each_name(fds, look_at_link, s); /* it may have ended by now */
    }
    if (s->found) {
        s->holder[s->n].pid = pid;
        read_command(pid_dir, s->holder[s->n].command);
        s->n++;
    }
    return s->n == LD_MAX_HOLDERS;
}

size_t ld_holders_find(int dir, bool same_mount, struct ld_holder ret[LD_MAX_HOLDERS])
{
    autoclose int proc = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct search s = {.proc = proc, .same_mount = same_mount, .holder = ret};
    struct stat st;

    if (proc < 0 || fstat(dir, &st) < 0 || ld_mount_id(dir, "", &s.mount_id, NULL) < 0)
        return 0;
    s.dev = st.st_dev;
    (void)!ld_each_name(proc, look_at_process, &s); /* what could be seen */
    return s.n;
}

void ld_holders_text(const struct ld_holder *holder, size_t n, struct ld_buf *text)
{
    for (size_t i = 0; i < n; i++)
        ld_buf_addf(text, "%s%d (%s)", i ? ", " : "", (int)holder[i].pid, holder[i].command);
}

void ld_holders_json(const struct ld_holder *holder, size_t n, struct ld_buf *json)
{
    ld_buf_adds(json, "{\"holders\":[");
    for (size_t i = 0; i < n; i++)
        ld_buf_addf(json, "%s{\"pid\":%d,\"command\":\"%s\"}", i ? "," : "", (int)holder[i].pid,
                    holder[i].command);
    ld_buf_adds(json, "]}");
}
