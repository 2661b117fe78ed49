/* Uploads: see upload.h. */
#include "client/upload.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "client/api.h"
#include "client/progress.h"
#include "daemon/base/err.h"
#include "daemon/base/fdio.h"
#include "daemon/base/mem.h"

/* An archive on its way to the daemon. */
struct upload {
    int fd;
    const char *name;
    uint64_t done, size; /* size 0: not known */
    struct ld_progress *progress;
};

static void upload_done(struct upload *upload)
{
    ld_progress_free_p(&upload->progress);
    ld_close_p(&upload->fd);
}

static ssize_t read_upload(void *arg, void *data, size_t len)
{
    struct upload *upload = arg;
    ssize_t got = ld_read_some(upload->fd, data, len);

    if (got > 0) {
        upload->done += (uint64_t)got;
        ld_progress_set(upload->progress, upload->name, "send", upload->done, upload->size);
    }
    return got;
}

static int open_archive(const struct ld_cli *cli, const char *path, struct upload *upload,
                        struct ld_http_call *call, struct ld_err *err)
{
    const char *name = cli->cmd->name;
    struct stat st;

    if (strcmp(path, "-") == 0) {
        if (isatty(STDIN_FILENO)) {
            (void)ld_err_set(err, LD_E_INVALID, "no archive: standard input is a terminal");
            return ld_err_hint(err, "give a FILE, or … | layerctl %s", name);
        }
        upload->name = "archive";
        upload->fd = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3);
    } else {
        const char *slash = strrchr(path, '/');

        upload->name = slash && slash[1] ? slash + 1 : path;
        upload->fd = open(path, O_RDONLY | O_CLOEXEC);
    }
    if (upload->fd < 0 || fstat(upload->fd, &st) < 0)
        return ld_err_sys(err, -errno, "open '%s'", path);
    if (S_ISDIR(st.st_mode)) {
        (void)ld_err_set(err, LD_E_INVALID, "'%s' is a directory, not an archive", path);
        return ld_err_hint(err, "tar -C '%s' -c . | layerctl %s", path, name);
    }
    if (S_ISREG(st.st_mode)) {
        off_t at = lseek(upload->fd, 0, SEEK_CUR); /* standard input may have been read from */

        upload->size = at >= 0 && at < st.st_size ? (uint64_t)(st.st_size - at) : 0;
        call->has_size = true;
        call->size = upload->size;
    }
    upload->progress =
        ld_progress_new(STDERR_FILENO, cli->err_is_terminal && !ld_args_flag(cli->args, "quiet"));
    call->read = read_upload;
    call->read_arg = upload;
    return 0;
}

int ld_upload(struct ld_cli *cli, const char *target, const char *path, bool *ret_detached,
              struct cJSON **ret_result, struct ld_err *err)
{
    bool detach = ld_args_flag(cli->args, "detach") || ld_args_flag(cli->args, "async");
    struct ld_http_call call = {
        .method = "POST", .target = target, .headers = {"Content-Type: application/x-tar"}};
    LD_AUTO(upload_done) struct upload upload = {.fd = -EBADF};
    autofree char *once = NULL;
    size_t n_headers = 1;

    if (ld_api_once_header(cli->args, &once, err) < 0)
        return -1;
    if (once)
        call.headers[n_headers++] = once;
    if (detach)
        call.headers[n_headers++] = "Prefer: respond-async";
    if (open_archive(cli, path, &upload, &call, err) < 0 ||
        ld_api_long(cli, &call, upload.progress, ret_result, err) < 0)
        return -1;
    *ret_detached = detach;
    return 0;
}
