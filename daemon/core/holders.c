/* Finding who holds a mount, by /proc: see holders.h.
 *
 * What is asked for one error (ld_holders_find) ends at the first use of each process. The whole
 * answer goes over /proc twice: first over the mount namespaces, which tells all mounts that show
 * the container, then over the processes, each of which is held against those mounts.
 */
#include "daemon/core/holders.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "daemon/base/fdio.h"
#include "daemon/base/mem.h"
#include "daemon/base/mountapi.h"
#include "daemon/base/parse.h"
#include "daemon/core/parts.h"
#include "daemon/core/rootfs.h"
#include "daemon/core/state.h"

enum { MAX_NAMESPACES = 4096, MAX_MOUNTS = 4096 };

struct search {
    int proc;
    bool has_dev;
    dev_t dev;         /* of the file system looked for */
    uint64_t mount_id; /* the only mount looked for, or 0 */
    const int *mount;  /* ids of mountinfo that count, too */
    size_t n_mounts;
    bool is_thorough; /* every use of a process, its threads and mapped files */
    int pid_dir;
    const char *folder;     /* whose names are looked at: "fd" */
    unsigned use;           /* which that means */
    struct ld_holder found; /* of the process looked at */
    int (*tell)(struct search *s);
    void *arg;
};

const char *ld_holder_use(unsigned uses)
{
    static const char *const names[] = {"cwd", "root", "exe", "file", "mmap", "mount"};

    for (size_t i = 0; i < LD_ARRAY_LEN(names); i++) {
        if (uses & 1U << i)
            return names[i];
    }
    return "";
}

static bool is_on_it(const struct search *s, int dir, const char *link)
{
    struct statx stx;
    unsigned mask = STATX_MNT_ID | (s->mount_id ? 0x4000U : 0); /* …_UNIQUE, where there is one */

    if (statx(dir, link, AT_NO_AUTOMOUNT | AT_STATX_DONT_SYNC, mask, &stx) < 0)
        return false;
    if (s->mount_id)
        return stx.stx_mnt_id == s->mount_id;
    if (s->has_dev && makedev(stx.stx_dev_major, stx.stx_dev_minor) == s->dev)
        return true;
    for (size_t i = 0; i < s->n_mounts; i++) {
        if ((uint64_t)s->mount[i] == stx.stx_mnt_id)
            return true;
    }
    return false;
}

static void look(struct search *s, int dir, const char *link, unsigned use)
{
    ssize_t len;

    if ((s->found.uses & use) || !is_on_it(s, dir, link))
        return;
    if (!s->found.uses && s->is_thorough) {
        len = readlinkat(dir, link, s->found.path, sizeof(s->found.path) - 1);
        s->found.path[len > 0 ? len : 0] = '\0';
    }
    s->found.uses |= use;
}

static int look_at_link(void *arg, const char *name, unsigned char d_type)
{
    struct search *s = arg;
    char link[96];
    int n = snprintf(link, sizeof(link), "%s/%s", s->folder, name);

    (void)d_type;
    if (n > 0 && (size_t)n < sizeof(link))
        look(s, s->pid_dir, link, s->use);
    return (s->found.uses & s->use) != 0; /* one is enough */
}

static void look_at_folder(struct search *s, const char *folder, unsigned use)
{
    autoclose int fd = openat(s->pid_dir, folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    s->folder = folder;
    s->use = use;
    if (fd >= 0)
        (void)!ld_each_name(fd, look_at_link, s); /* it may have ended by now */
}

/* A thread may have a working directory and a root of its own. */
static int look_at_thread(void *arg, const char *name, unsigned char d_type)
{
    struct search *s = arg;
    char link[64];

    (void)d_type;
    if (snprintf(link, sizeof(link), "task/%.20s/cwd", name) > 0)
        look(s, s->pid_dir, link, LD_HOLD_CWD);
    if (snprintf(link, sizeof(link), "task/%.20s/root", name) > 0)
        look(s, s->pid_dir, link, LD_HOLD_ROOT);
    return 0;
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

static uint64_t mount_ns_of(int pid_dir)
{
    struct stat st;

    return fstatat(pid_dir, "ns/mnt", &st, 0) == 0 ? st.st_ino : 0;
}

static void describe(int pid_dir, struct ld_holder *holder)
{
    char group[512];
    const char *last, *path;

    read_text(pid_dir, "comm", holder->command, sizeof(holder->command));
    clean(holder->command);
    read_text(pid_dir, "cgroup", group, sizeof(group));
    clean(group);
    path = strchr(group, '/');
    (void)snprintf(holder->cgroup, sizeof(holder->cgroup), "%s", path ? path : ""); /* cut */
    last = strrchr(group, '/');
    (void)snprintf(holder->unit, sizeof(holder->unit), "%.63s", last ? last + 1 : ""); /* cut */
    holder->mount_ns = mount_ns_of(pid_dir);
}

static int look_at_process(void *arg, const char *name, unsigned char d_type)
{
    static const struct {
        const char *link;
        unsigned use;
    } links[] = {{"cwd", LD_HOLD_CWD}, {"root", LD_HOLD_ROOT}, {"exe", LD_HOLD_EXE}};
    struct search *s = arg;
    autoclose int pid_dir = -EBADF;
    int pid;

    (void)d_type;
    if (ld_parse_int(name, 1, INT32_MAX, &pid) < 0 || pid == getpid())
        return 0; /* our own views never keep a mount point busy */
    pid_dir = openat(s->proc, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (pid_dir < 0)
        return 0;
    s->pid_dir = pid_dir;
    s->found = (struct ld_holder){.pid = pid};
    for (size_t i = 0; i < LD_ARRAY_LEN(links) && (s->is_thorough || !s->found.uses); i++)
        look(s, pid_dir, links[i].link, links[i].use);
    if (s->is_thorough || !s->found.uses)
        look_at_folder(s, "fd", LD_HOLD_FILE);
    if (s->is_thorough) {
        autoclose int threads = openat(pid_dir, "task", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

        look_at_folder(s, "map_files", LD_HOLD_MMAP);
        if (threads >= 0)
            (void)!ld_each_name(threads, look_at_thread, s); /* it may have ended by now */
    }
    if (!s->found.uses)
        return 0;
    describe(pid_dir, &s->found);
    return s->tell(s);
}

/* ---- for one error ---- */

struct few {
    struct ld_holder *holder;
    size_t n;
};

static int tell_few(struct search *s)
{
    struct few *few = s->arg;

    few->holder[few->n++] = s->found;
    return few->n == LD_MAX_HOLDERS;
}

size_t ld_holders_find(int dir, bool same_mount, struct ld_holder ret[LD_MAX_HOLDERS])
{
    autoclose int proc = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct few few = {.holder = ret};
    struct search s = {.proc = proc, .has_dev = true, .tell = tell_few, .arg = &few};
    struct stat st;
    uint64_t id;

    if (proc < 0 || fstat(dir, &st) < 0 || ld_mount_id(dir, "", &id, NULL) < 0)
        return 0;
    s.dev = st.st_dev;
    s.mount_id = same_mount ? id : 0;
    (void)!ld_each_name(proc, look_at_process, &s); /* what could be seen */
    return few.n;
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
                    holder[i].unit[0] ? holder[i].unit : "null", quote,
                    ld_holder_use(holder[i].uses));
    }
    ld_buf_addc(json, ']');
}

int ld_holders_busy(const struct ld_holder *holder, size_t n, struct ld_err *err)
{
    struct ld_buf text LD_AUTO(ld_buf_done) = LD_BUF_INIT(400);
    struct ld_buf json LD_AUTO(ld_buf_done) = LD_BUF_INIT(sizeof(err->details) - 1);

    ld_holders_text(holder, n, &text);
    (void)ld_err_set(err, LD_E_BUSY, "the mount is in use%s%s", n ? " by " : "", ld_buf_str(&text));
    /* As many as fit. */
    do {
        ld_buf_clear(&json);
        ld_buf_adds(&json, "{\"holders\":");
        ld_holders_json(holder, n, &json);
        ld_buf_addc(&json, '}');
    } while (ld_buf_check(&json) < 0 && n-- > 0);
    (void)ld_err_details(err, ld_buf_str(&json));
    return ld_err_hint(err, "end what uses it, or unmount with force");
}

/* ---- all of them ---- */

/* A namespace with a mount of the container that is not the one at its mount point. */
struct elsewhere {
    uint64_t ns;
    pid_t pid; /* the lowest in it that was seen */
    char path[512];
};

struct scan {
    const struct ld_rootfs *fs;
    char *source;             /* of its overlay */
    struct ld_bind_root bind; /* of what a driver without a file system of its own binds */
    char *place;              /* where it is mounted for all to see */
    char *stage;              /* "RUN/stage/" */
    uint64_t own_ns;

    int proc;
    uint64_t ns; /* being read, by way of pid */
    pid_t pid;
    bool is_told; /* ns is in `elsewhere` */
    uint64_t seen[MAX_NAMESPACES];
    size_t n_seen;
    int mount[MAX_MOUNTS];
    size_t n_mounts;
    bool has_dev;
    dev_t dev;
    struct elsewhere *elsewhere;
    size_t n_elsewhere, cap;
    struct ld_holders *out;
    size_t out_cap;
};

static void scan_free(struct scan **slot)
{
    struct scan *s = *slot;

    ld_close(s->proc);
    free(s->source);
    free(s->bind.path);
    free(s->place);
    free(s->stage);
    free(s->elsewhere);
    free(s);
    *slot = NULL;
}

/* Also of a directory in it. */
static bool is_the_container(const struct scan *s, const struct ld_mountinfo *line)
{
    size_t len;

    if (strcmp(line->fstype, "overlay") == 0)
        return strcmp(line->source, s->source) == 0;
    if (!s->bind.path || line->major != s->bind.major || line->minor != s->bind.minor)
        return false;
    len = strlen(s->bind.path);
    return strncmp(line->root, s->bind.path, len) == 0 &&
           (line->root[len] == '\0' || line->root[len] == '/');
}

/* Where views are built: nobody but us can be in there. */
static bool is_stage(const struct scan *s, const struct ld_mountinfo *line)
{
    size_t len = strlen(s->stage);

    return s->ns == s->own_ns && strncmp(line->mountpoint, s->stage, len) == 0;
}

static int look_at_mount(void *arg, const struct ld_mountinfo *line)
{
    struct scan *s = arg;
    size_t len = strlen(s->place);
    bool is_own = s->ns == s->own_ns;
    bool is_inside = is_own && strncmp(line->mountpoint, s->place, len) == 0 &&
                     (line->mountpoint[len] == '\0' || line->mountpoint[len] == '/');
    bool is_it = is_the_container(s, line);

    /* What is mounted inside it keeps it busy as well. */
    if ((is_it || is_inside) && s->n_mounts < MAX_MOUNTS)
        s->mount[s->n_mounts++] = line->id;
    if (!is_it)
        return 0;
    if (strcmp(line->fstype, "overlay") == 0) {
        s->has_dev = true;
        s->dev = makedev(line->major, line->minor);
    }
    if (!is_inside && !is_stage(s, line) && !s->is_told) {
        struct elsewhere *e;

        ld_grow(&s->elsewhere, &s->cap, s->n_elsewhere + 1, sizeof(*e));
        e = &s->elsewhere[s->n_elsewhere++];
        *e = (struct elsewhere){.ns = s->ns, .pid = s->pid};
        (void)snprintf(e->path, sizeof(e->path), "%s", line->mountpoint); /* cut */
        s->is_told = true;
    }
    return 0;
}

static int look_at_namespace(void *arg, const char *name, unsigned char d_type)
{
    struct scan *s = arg;
    autoclose int pid_dir = -EBADF;
    uint64_t ns;
    int pid;

    (void)d_type;
    if (ld_parse_int(name, 1, INT32_MAX, &pid) < 0)
        return 0;
    pid_dir = openat(s->proc, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    ns = pid_dir < 0 ? 0 : mount_ns_of(pid_dir);
    if (!ns)
        return 0;
    for (size_t i = 0; i < s->n_elsewhere; i++) {
        if (s->elsewhere[i].ns == ns && pid < s->elsewhere[i].pid)
            s->elsewhere[i].pid = pid;
    }
    for (size_t i = 0; i < s->n_seen; i++) {
        if (s->seen[i] == ns)
            return 0;
    }
    if (s->n_seen == MAX_NAMESPACES)
        return 0;
    s->ns = ns;
    s->pid = pid;
    s->is_told = false;
    if (ld_mountinfo_each_of(pid_dir, look_at_mount, s) == 0)
        s->seen[s->n_seen++] = ns; /* else another process of it may tell */
    return 0;
}

static struct ld_holder *add_holder(struct scan *s)
{
    struct ld_holders *out = s->out;

    if (out->n == LD_MAX_ALL_HOLDERS) {
        out->more = true;
        return NULL;
    }
    ld_grow(&out->item, &s->out_cap, out->n + 1, sizeof(*out->item));
    return &out->item[out->n++];
}

static int tell_all(struct search *search)
{
    struct ld_holder *holder = add_holder(search->arg);

    if (!holder)
        return 1;
    *holder = search->found;
    return 0;
}

/* A namespace is told by one of its processes: the one that is there already, or its first. */
static void add_elsewhere(struct scan *s, const struct elsewhere *e)
{
    struct ld_holder *holder = NULL;
    char name[16];
    autoclose int pid_dir = -EBADF;

    for (size_t i = 0; i < s->out->n && !holder; i++)
        holder = s->out->item[i].pid == e->pid ? &s->out->item[i] : NULL;
    if (!holder)
        holder = add_holder(s);
    if (!holder)
        return;
    if (holder->pid == 0) {
        holder->pid = e->pid;
        (void)snprintf(name, sizeof(name), "%d", (int)e->pid);
        pid_dir = openat(s->proc, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (pid_dir >= 0)
            describe(pid_dir, holder);
        holder->mount_ns = e->ns;
        memcpy(holder->path, e->path, sizeof(holder->path));
    }
    holder->uses |= LD_HOLD_MOUNT;
}

static int by_pid(const void *a, const void *b)
{
    const struct ld_holder *x = a, *y = b;

    return (x->pid > y->pid) - (x->pid < y->pid);
}

static void search_all(struct scan *s)
{
    struct search search = {.proc = s->proc,
                            .has_dev = s->has_dev,
                            .dev = s->dev,
                            .mount = s->mount,
                            .n_mounts = s->n_mounts,
                            .is_thorough = true,
                            .tell = tell_all,
                            .arg = s};

    if (s->has_dev || s->n_mounts)
        (void)!ld_each_name(s->proc, look_at_process, &search); /* what could be seen */
    for (size_t i = 0; i < s->n_elsewhere; i++)
        add_elsewhere(s, &s->elsewhere[i]);
    if (s->out->n > 1)
        qsort(s->out->item, s->out->n, sizeof(*s->out->item), by_pid);
}

int ld_container_holders(struct ld_core *core, const char *id, struct ld_holders *ret,
                         struct ld_err *err)
{
    struct ld_container c LD_AUTO(ld_container_done) = {.id = NULL};
    struct ld_loaded_rootfs rootfs LD_AUTO(ld_rootfs_done) = {.parts = NULL};
    struct scan *s LD_AUTO(scan_free) = ld_new(struct scan);
    struct stat st;
    int r;

    s->proc = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (s->proc < 0 || stat("/proc/thread-self/ns/mnt", &st) < 0)
        return ld_err_sys(err, -errno, "open /proc");
    if (ld_store_container_get(core->store, id, &c, err) < 0 ||
        ld_rootfs_load(core, &c, false, &rootfs, err) < 0)
        return -1;
    *ret = (struct ld_holders){.n = 0};
    s->fs = &rootfs.fs;
    s->out = ret;
    s->own_ns = st.st_ino;
    s->source = ld_asprintf("layerd:%s:%" LD_PRI_SID, core->env.instance, c.upper_sid);
    if (strcmp(rootfs.fs.driver->name, "overlay") != 0) {
        enum ld_form form;
        autoclose int own = rootfs.fs.driver->open(rootfs.fs.env, &rootfs.fs.writable, &form);

        if (own >= 0)
            (void)ld_bind_root_of(own, &s->bind); /* else nothing of it can be mounted */
    }
    s->place = ld_asprintf("%s/mnt/%s", core->root.run_path, c.id);
    s->stage = ld_asprintf("%s/stage/", core->root.run_path);
    /* A mount that was detached is in no table, but its device is known as long as it is held. */
    s->has_dev = strcmp(rootfs.fs.driver->name, "overlay") == 0 &&
                 ld_mounts_device(core->mounts, c.upper_sid, &s->dev);
    r = ld_each_name(s->proc, look_at_namespace, s);
    if (r < 0)
        return ld_err_sys(err, r, "read /proc");
    search_all(s);
    return 0;
}

void ld_holders_done(struct ld_holders *holders)
{
    free(holders->item);
    *holders = (struct ld_holders){.n = 0};
}
