/* Downloads into files: see sink.h. */
#include "client/sink.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "client/progress.h"
#include "daemon/base/err.h"
#include "daemon/base/fdio.h"
#include "daemon/base/mem.h"

struct ld_outfile {
    int fd;
    char *path; /* what it becomes */
    char *part; /* what it is called until then; NULL: written in place */
    const char *label;
    struct ld_progress *progress;
    uint64_t done;
};

static int open_part(struct ld_outfile *sink, struct ld_err *err)
{
    mode_t mask = umask(0);

    (void)umask(mask);
    sink->part = ld_asprintf("%s.part-XXXXXX", sink->path);
    sink->fd = mkostemp(sink->part, O_CLOEXEC);
    if (sink->fd < 0) {
        int r = -errno;

        ld_free_p(&sink->part);
        return ld_err_sys(err, r, "create '%s'", sink->path);
    }
    if (fchmod(sink->fd, 0666 & ~mask) < 0) /* as any program makes files */
        return ld_err_sys(err, -errno, "create '%s'", sink->path);
    return 0;
}

static int open_file(struct ld_outfile *sink, const char *path, struct ld_err *err)
{
    struct stat st;
    const char *slash = strrchr(path, '/');

    sink->label = slash && slash[1] ? slash + 1 : path;
    if (stat(path, &st) < 0) {
        sink->path = ld_strdup(path);
        return open_part(sink, err);
    }
    if (S_ISDIR(st.st_mode))
        return ld_err_set(err, LD_E_INVALID, "'%s' is a directory", path);
    if (S_ISREG(st.st_mode)) {
        /* Through a symlink: the file is replaced, not the link. */
        sink->path = realpath(path, NULL);
        return sink->path ? open_part(sink, err) : ld_err_sys(err, -errno, "open '%s'", path);
    }
    sink->path = ld_strdup(path);
    sink->fd = open(path, O_WRONLY | O_CLOEXEC);
    return sink->fd < 0 ? ld_err_sys(err, -errno, "open '%s'", path) : 0;
}

int ld_outfile_open(const char *path, bool binary, struct ld_progress *progress,
                    struct ld_outfile **ret, struct ld_err *err)
{
    LD_AUTO(ld_outfile_free_p) struct ld_outfile *sink = ld_new(struct ld_outfile);

    sink->fd = -EBADF;
    sink->progress = progress;
    if (strcmp(path, "-") == 0) {
        if (binary && isatty(STDOUT_FILENO)) {
            (void)ld_err_set(err, LD_E_INVALID, "an archive is not written to a terminal");
            return ld_err_hint(err, "redirect standard output, or name a file");
        }
        sink->label = "archive";
        sink->path = ld_strdup("standard output");
        sink->fd = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);
        if (sink->fd < 0)
            return ld_err_sys(err, -errno, "open standard output");
    } else if (open_file(sink, path, err) < 0) {
        return -1;
    }
    *ret = ld_steal(&sink);
    return 0;
}

int ld_outfile_write(void *arg, const void *data, size_t len, struct ld_err *err)
{
    struct ld_outfile *sink = arg;
    int r = ld_write_full(sink->fd, data, len);

    if (r < 0)
        return ld_err_sys(err, r, "write '%s'", sink->path);
    sink->done += len;
    if (sink->progress)
        ld_progress_set(sink->progress, sink->label, "receive", sink->done, 0);
    return 0;
}

int ld_outfile_fd(const struct ld_outfile *sink)
{
    return sink->part ? sink->fd : -EBADF;
}

int ld_outfile_commit(struct ld_outfile *sink, struct ld_err *err)
{
    /* The result of close is where network file systems tell what they could not write. */
    if (close(ld_steal_fd(&sink->fd)) < 0)
        return ld_err_sys(err, -errno, "write '%s'", sink->path);
    if (!sink->part)
        return 0;
    if (rename(sink->part, sink->path) < 0)
        return ld_err_sys(err, -errno, "create '%s'", sink->path);
    ld_free_p(&sink->part);
    return 0;
}

void ld_outfile_free_p(struct ld_outfile **sink)
{
    if (!*sink)
        return;
    ld_close((*sink)->fd);
    if ((*sink)->part)
        (void)unlink((*sink)->part); /* half a file is none; nothing else can be done about it */
    ld_free_p(&(*sink)->part);
    ld_free_p(&(*sink)->path);
    ld_free_p(sink);
}
