/* tar(1) at the other end of a pipe: see tarpipe.h. */
#include "client/tarpipe.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "daemon/base/buf.h"
#include "daemon/base/err.h"
#include "daemon/base/fdio.h"
#include "daemon/base/mem.h"

enum { ARGS_MAX = 24, NAMES_MAX = 256 << 20 };

/* A command line in the making; the strings are borrowed. */
struct command {
    const char *arg[ARGS_MAX + 1];
    size_t n;
};

static void add(struct command *cmd, const char *arg)
{
    assert(cmd->n < ARGS_MAX);
    cmd->arg[cmd->n++] = arg;
}

static void add_all(struct command *cmd, const char *const *args, size_t n)
{
    for (size_t i = 0; i < n; i++)
        add(cmd, args[i]);
}

/* The environment without what changes tar's behaviour. The strings are borrowed. */
static char **tar_environment(void)
{
    char **env = NULL;
    size_t n = 0, cap = 0;

    for (char **p = environ; *p; p++) {
        if (strncmp(*p, "TAR_OPTIONS=", 12) == 0 || strncmp(*p, "POSIXLY_CORRECT", 15) == 0)
            continue;
        ld_grow(&env, &cap, n + 2, sizeof(*env));
        env[n++] = *p;
    }
    ld_grow(&env, &cap, n + 1, sizeof(*env));
    return env;
}

/* Starts tar with `theirs` as its descriptor `as`; `keep` stays open in it under its own number (or
 * -1). */
static int spawn(const struct command *cmd, int theirs, int as, int keep, pid_t *ret,
                 struct ld_err *err)
{
    autofree char **env = tar_environment();
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    sigset_t defaults;
    int r;

    (void)sigemptyset(&defaults);
    (void)sigaddset(&defaults, SIGPIPE);
    (void)posix_spawnattr_init(&attributes);
    (void)posix_spawnattr_setsigdefault(&attributes, &defaults);
    (void)posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGDEF);
    (void)posix_spawn_file_actions_init(&actions);
    r = posix_spawn_file_actions_adddup2(&actions, theirs, as);
    if (r == 0 && keep >= 0)
        r = posix_spawn_file_actions_adddup2(&actions, keep, keep); /* clears close-on-exec */
    if (r == 0)
        r = posix_spawnp(ret, cmd->arg[0], &actions, &attributes, (char *const *)cmd->arg, env);
    (void)posix_spawn_file_actions_destroy(&actions);
    (void)posix_spawnattr_destroy(&attributes);
    if (r != 0)
        return ld_err_sys(err, -r, "start tar");
    return 0;
}

/* The replacement of a transform: what sed would take for more than a character is quoted. */
static char *transform_to(const char *pattern, const char *name)
{
    autobuf struct ld_buf text = LD_BUF_INIT(1 << 16);

    ld_buf_addf(&text, "--transform=flags=rSh;s,%s,", pattern);
    for (; *name; name++) {
        if (strchr("\\&,", *name))
            ld_buf_addc(&text, '\\');
        ld_buf_addc(&text, *name);
    }
    ld_buf_addc(&text, ',');
    return ld_buf_take(&text);
}

static int add_name(void *arg, const char *name, unsigned char d_type)
{
    struct ld_buf *names = arg;

    (void)d_type;
    ld_buf_adds(names, "./");
    ld_buf_add(names, name, strlen(name) + 1);
    return 0;
}

/* The names in a directory, NUL-terminated, in an anonymous file. */
static int list_names(const char *path, int *ret, struct ld_err *err)
{
    autobuf struct ld_buf names = LD_BUF_INIT(NAMES_MAX);
    autoclose int dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    autoclose int fd = -EBADF;
    int r = dir < 0 ? -errno : ld_each_name(dir, add_name, &names);

    if (r == 0)
        r = ld_buf_check(&names);
    if (r == 0) {
        fd = memfd_create("names", MFD_CLOEXEC);
        r = fd < 0 ? -errno : ld_pwrite_full(fd, ld_buf_str(&names), names.len, 0);
    }
    if (r < 0)
        return ld_err_sys(err, r, "read the directory '%s'", path);
    *ret = ld_steal_fd(&fd);
    return 0;
}

/* What stands for the source on tar's command line: the directory to change into, and what to take.
 */
struct operand {
    char *directory, *what, *transform;
    int names; /* list of names to take, or -EBADF */
};

static void operand_done(struct operand *op)
{
    ld_free_p(&op->directory);
    ld_free_p(&op->what);
    ld_free_p(&op->transform);
    ld_close_p(&op->names);
}

static int choose(const struct ld_tar_source *source, struct operand *op, struct ld_err *err)
{
    const char *slash = strrchr(source->path, '/');
    struct stat st;

    if (lstat(source->path, &st) < 0)
        return ld_err_sys(err, -errno, "'%s'", source->path);
    if (!S_ISDIR(st.st_mode)) {
        op->directory = ld_asprintf("--directory=%.*s", slash ? (int)(slash - source->path) + 1 : 1,
                                    slash ? source->path : ".");
        op->what = ld_asprintf("./%s", slash ? slash + 1 : source->path);
        op->transform = transform_to(".*", source->name);
        return 0;
    }
    op->directory = ld_asprintf("--directory=%s", source->path);
    if (source->name) {
        op->what = ld_strdup(".");
        op->transform = transform_to("^\\.", source->name);
        return 0;
    }
    if (list_names(source->path, &op->names, err) < 0)
        return -1;
    op->what = ld_asprintf("--files-from=/proc/self/fd/%d", op->names);
    return 0;
}

int ld_tar_pack(const struct ld_tar_source *source, struct ld_tarpipe *ret, struct ld_err *err)
{
    static const char *const always[] = {
        "tar",
        "--create",
        "--file=-",
        "--format=posix",
        "--sparse",
        "--numeric-owner",
        "--xattrs",
        "--xattrs-include=user.*",
        "--xattrs-include=security.capability",
    };
    static const char *const as_root[] = {"--owner=0", "--group=0"};
    static const char *const listed[] = {"--null", "--verbatim-files-from"};
    LD_AUTO(operand_done) struct operand op = {.names = -EBADF};
    struct command cmd = {0};
    autoclose int ours = -EBADF;
    autoclose int theirs = -EBADF;
    int fds[2];

    if (choose(source, &op, err) < 0)
        return -1;
    add_all(&cmd, always, LD_ARRAY_LEN(always));
    if (!source->owners)
        add_all(&cmd, as_root, LD_ARRAY_LEN(as_root));
    if (op.transform)
        add(&cmd, op.transform);
    if (op.names >= 0)
        add_all(&cmd, listed, LD_ARRAY_LEN(listed));
    add(&cmd, op.directory);
    add(&cmd, op.what);
    if (pipe2(fds, O_CLOEXEC) < 0)
        return ld_err_sys(err, -errno, "start tar");
    ours = fds[0];
    theirs = fds[1];
    if (spawn(&cmd, theirs, STDOUT_FILENO, op.names, &ret->pid, err) < 0)
        return -1;
    ret->fd = ld_steal_fd(&ours);
    return 0;
}

int ld_tar_unpack(const char *dir, bool strip, bool owners, struct ld_tarpipe *ret,
                  struct ld_err *err)
{
    static const char *const always[] = {
        "tar",
        "--extract",
        "--file=-",
        "--preserve-permissions",
        "--no-overwrite-dir",
        "--numeric-owner",
        "--xattrs",
        "--xattrs-include=user.*",
    };
    autofree char *directory = ld_asprintf("--directory=%s", dir);
    struct command cmd = {0};
    autoclose int ours = -EBADF;
    autoclose int theirs = -EBADF;
    int fds[2];

    add_all(&cmd, always, LD_ARRAY_LEN(always));
    add(&cmd, directory);
    add(&cmd, owners ? "--same-owner" : "--no-same-owner");
    if (owners)
        add(&cmd, "--xattrs-include=security.capability");
    if (strip)
        add(&cmd, "--strip-components=1");
    if (pipe2(fds, O_CLOEXEC) < 0)
        return ld_err_sys(err, -errno, "start tar");
    theirs = fds[0];
    ours = fds[1];
    /* When tar gives up, writing to it is an error here, not the end of this program. */
    (void)signal(SIGPIPE, SIG_IGN);
    if (spawn(&cmd, theirs, STDIN_FILENO, -1, &ret->pid, err) < 0)
        return -1;
    ret->fd = ld_steal_fd(&ours);
    return 0;
}

static int wait_for(pid_t pid, int *ret_status)
{
    while (waitpid(pid, ret_status, 0) < 0) {
        if (errno != EINTR)
            return -errno;
    }
    return 0;
}

int ld_tar_finish(struct ld_tarpipe *pipe, struct ld_err *err)
{
    pid_t pid = pipe->pid;
    int status, r;

    ld_close_p(&pipe->fd);
    pipe->pid = 0;
    r = wait_for(pid, &status);
    if (r < 0)
        return ld_err_sys(err, r, "wait for tar");
    /* 1: a file changed while it was read. It told so; what was read is whole. */
    if (WIFEXITED(status) && WEXITSTATUS(status) <= 1)
        return 0;
    return ld_err_set(err, LD_E_IO, "tar failed (its reasons are above)");
}

void ld_tar_abort(struct ld_tarpipe *pipe)
{
    int status;

    ld_close_p(&pipe->fd);
    if (pipe->pid > 0)
        (void)wait_for(pipe->pid, &status); /* it ends by itself: its pipe is closed */
    pipe->pid = 0;
}
