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
    const char *use; /* by the process looked at, or NULL */
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
        s->use = "file";
    return s->use != NULL; /* one is enough */
}

/* What a process says of itself, made safe for a line of text and for JSON. */
static void clean(char *text)
{
    for (char *c = text; *c; c++) {
        if (!isprint((unsigned char)*c) || *c == '"' || *c == '\\')
            *c = '?';
    }
}

static void read_text(int dir, const char *name, char *text, size_t size)
{
    autoclose int fd = openat(dir, name, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : ld_read_some(fd, text, size - 1);

    text[n > 0 ? n : 0] = '\0';
    text[strcspn(text, "\n")] = '\0';
}

static void describe(int pid_dir, struct ld_holder *holder)
{
    char group[512];
    const char *last;

    read_text(pid_dir, "comm", holder->command, sizeof(holder->command));
    clean(holder->command);
    read_text(pid_dir, "cgroup", group, sizeof(group));
    last = strrchr(group, '/');
    (void)snprintf(holder->unit, sizeof(holder->unit), "%.63s", last ? last + 1 : ""); /* cut */
    clean(holder->unit);
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
    s->use = NULL;
    for (size_t i = 0; i < LD_ARRAY_LEN(links) && !s->use; i++)
        s->use = is_on_it(s, pid_dir, links[i]) ? links[i] : NULL;
    if (!s->use) {
        s->pid_dir = pid_dir;
        fds = openat(pid_dir, "fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fds >= 0)
            (void)!ld_each_name(fds, look_at_link, s); /* it may have ended by now */
    }
    if (s->use) {
        struct ld_holder *holder = &s->holder[s->n++];

        *holder = (struct ld_holder){.pid = pid, .use = s->use};
        describe(pid_dir, holder);
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
    ld_buf_addc(json, '[');
    for (size_t i = 0; i < n; i++) {
        const char *quote = holder[i].unit[0] ? "\"" : "";

        ld_buf_addf(json, "%s{\"pid\":%d,\"command\":\"%s\",\"unit\":%s%s%s,\"use\":\"%s\"}",
                    i ? "," : "", (int)holder[i].pid, holder[i].command, quote,
                    holder[i].unit[0] ? holder[i].unit : "null", quote, holder[i].use);
    }
    ld_buf_addc(json, ']');
}
