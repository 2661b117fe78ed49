/* Copying: see copy.h. One plain file goes as it is, with its attributes beside it; all else goes
 * as a tar. Where things land follows cp -r: into a directory that is there under their own name,
 * else under the name given; "/." at the end of a source stands for what the directory holds. */
#include "client/copy.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "client/api.h"
#include "client/progress.h"
#include "client/sink.h"
#include "client/tarpipe.h"
#include "daemon/base/err.h"
#include "daemon/base/fdio.h"
#include "daemon/base/mem.h"

enum { LINKS_MAX = 40 }; /* as the kernel */

static struct ld_progress *new_progress(const struct ld_cli *cli, const struct ld_copy *copy)
{
    return ld_progress_new(STDERR_FILENO, cli->err_is_terminal && !copy->quiet);
}

/* In */

/* Bytes on their way to the daemon, from a file, from tar or from standard input. */
struct source {
    int fd;
    struct ld_tarpipe *tar; /* NULL: not from tar */
    const char *label;
    uint64_t done, size;
    struct ld_progress *progress;
    struct ld_err tar_err; /* its code is none while tar has not failed */
    bool ended;
};

/* At the end of tar's output its success is asked for before the request is completed: half a tree
 * is never taken for a whole one. */
static ssize_t read_source(void *arg, void *data, size_t len)
{
    struct source *source = arg;
    ssize_t got = source->ended ? 0 : ld_read_some(source->fd, data, len);

    if (got == 0 && source->tar && !source->ended) {
        source->ended = true;
        return ld_tar_finish(source->tar, &source->tar_err) < 0 ? -EPIPE : 0;
    }
    if (got > 0) {
        source->done += (uint64_t)got;
        ld_progress_set(source->progress, source->label, "send", source->done, source->size);
    }
    return got;
}

static int put(struct ld_cli *cli, const char *target, const char *type, bool has_size,
               struct source *source, struct ld_err *err)
{
    autoreply struct ld_http_reply reply = LD_HTTP_REPLY_INIT;
    struct ld_http_call call = {
        .method = "PUT",
        .target = target,
        .headers = {type},
        .read = read_source,
        .read_arg = source,
        .has_size = has_size,
        .size = source->size,
    };
    struct ld_http *http;
    int r;

    if (ld_cli_http(cli, &http, err) < 0)
        return -1;
    r = ld_http_run(http, &call, &reply, err);
    ld_progress_clear(source->progress);
    if (source->tar_err.code != LD_E_NONE)
        *err = source->tar_err;
    return r;
}

/* tar of a local file or tree (name: see tarpipe.h) unpacked into `directory` there. */
static int put_tree(struct ld_cli *cli, const struct ld_copy *copy, const char *path,
                    const char *name, const char *directory, struct ld_err *err)
{
    struct ld_tar_source tree = {.path = path, .name = name, .owners = copy->owners};
    autoprogress struct ld_progress *progress = new_progress(cli, copy);
    autofree char *label = ld_place_name(path);
    autobuf struct ld_buf url = LD_URL_INIT;
    autotarpipe struct ld_tarpipe tar = LD_TARPIPE_INIT;
    struct source source = {.tar = &tar, .label = label, .progress = progress};

    if (ld_file_url(copy->to, directory, &url, err) < 0 || ld_tar_pack(&tree, &tar, err) < 0)
        return -1;
    source.fd = tar.fd;
    return put(cli, ld_buf_str(&url), "Content-Type: application/x-tar", false, &source, err);
}

static void add_attributes(struct ld_buf *url, const struct stat *st, bool owners)
{
    char text[64];
    char time[32];
    struct tm tm;

    (void)snprintf(text, sizeof(text), "%04o", st->st_mode & 07777U);
    ld_url_query(url, "mode", text);
    if (owners) {
        (void)snprintf(text, sizeof(text), "%u", st->st_uid);
        ld_url_query(url, "uid", text);
        (void)snprintf(text, sizeof(text), "%u", st->st_gid);
        ld_url_query(url, "gid", text);
    }
    /* The API's times have four digits of year. */
    if (gmtime_r(&st->st_mtim.tv_sec, &tm) && tm.tm_year >= -1900 && tm.tm_year < 8100) {
        (void)strftime(time, sizeof(time), "%Y-%m-%dT%H:%M:%S", &tm);
        (void)snprintf(text, sizeof(text), "%s.%09ldZ", time, st->st_mtim.tv_nsec);
        ld_url_query(url, "mtime", text);
    }
}

static int put_file(struct ld_cli *cli, const struct ld_copy *copy, const char *path,
                    const char *target, struct ld_err *err)
{
    autoprogress struct ld_progress *progress = new_progress(cli, copy);
    autofree char *label = ld_place_name(path);
    autobuf struct ld_buf url = LD_URL_INIT;
    autoclose int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct source source = {.fd = fd, .label = label, .progress = progress};
    struct stat st;

    if (fd < 0 || fstat(fd, &st) < 0)
        return ld_err_sys(err, -errno, "open '%s'", path);
    if (ld_file_url(copy->to, target, &url, err) < 0)
        return -1;
    add_attributes(&url, &st, copy->owners);
    source.size = (uint64_t)st.st_size;
    return put(cli, ld_buf_str(&url), "Content-Type: application/octet-stream", true, &source, err);
}

static int put_stdin(struct ld_cli *cli, const struct ld_copy *copy, struct ld_err *err)
{
    autoprogress struct ld_progress *progress = new_progress(cli, copy);
    autobuf struct ld_buf url = LD_URL_INIT;
    struct source source = {.fd = STDIN_FILENO, .label = "archive", .progress = progress};

    if (isatty(STDIN_FILENO))
        return ld_err_set(err, LD_E_INVALID, "no archive: standard input is a terminal");
    if (ld_file_url(copy->to, copy->to->path, &url, err) < 0)
        return -1;
    return put(cli, ld_buf_str(&url), "Content-Type: application/x-tar", false, &source, err);
}

/* What is at the target of a copy, seen through a symlink to a directory. */
enum target { TARGET_MISSING, TARGET_DIRECTORY, TARGET_OTHER };

static int look_there(struct ld_cli *cli, const struct ld_place *place, enum target *ret,
                      struct ld_err *err)
{
    autoremotefile struct ld_remote_file info = {0};

    if (ld_file_stat(cli, place, place->path, &info, err) < 0) {
        /* The path may be missing, but its owner may not. */
        if (err->code != LD_E_NOT_FOUND || ld_file_stat(cli, place, "/", &info, err) < 0)
            return -1;
        *ret = TARGET_MISSING;
        return 0;
    }
    *ret = strcmp(info.type, "directory") == 0 ? TARGET_DIRECTORY : TARGET_OTHER;
    if (strcmp(info.type, "symlink") == 0) {
        autofree char *through = ld_asprintf("%s/", place->path);
        autoremotefile struct ld_remote_file behind = {0};

        if (ld_file_stat(cli, place, through, &behind, err) == 0 &&
            strcmp(behind.type, "directory") == 0)
            *ret = TARGET_DIRECTORY;
    }
    return 0;
}

static char *join(const char *directory, const char *name)
{
    size_t len = strlen(directory);

    return ld_asprintf("%s%s%s", directory, len > 0 && directory[len - 1] == '/' ? "" : "/", name);
}

/* The path without its last component. */
static char *parent_of(const char *path)
{
    size_t len = strlen(path);

    while (len > 1 && path[len - 1] == '/')
        len--;
    while (len > 0 && path[len - 1] != '/')
        len--;
    while (len > 1 && path[len - 1] == '/')
        len--;
    return len > 0 ? ld_strndup(path, len) : ld_strdup(".");
}

static bool ends_in_slash(const char *path)
{
    size_t len = strlen(path);

    return len > 0 && path[len - 1] == '/';
}

static int copy_in(struct ld_cli *cli, const struct ld_copy *copy, struct ld_err *err)
{
    bool content = ld_place_is_content(copy->from->path);
    autofree char *path = copy->follow || content || ends_in_slash(copy->from->path)
                              ? realpath(copy->from->path, NULL)
                              : ld_strdup(copy->from->path);
    autofree char *name = ld_place_name(path ? path : "");
    autofree char *parent = parent_of(copy->to->path);
    autofree char *new_name = ld_place_name(copy->to->path);
    autofree char *inside = NULL;
    enum target target = TARGET_MISSING;
    struct stat st;

    if (!path || lstat(path, &st) < 0)
        return ld_err_sys(err, -errno, "'%s'", copy->from->path);
    if (content && !S_ISDIR(st.st_mode))
        return ld_err_set(err, LD_E_INVALID, "'%s' is not a directory", copy->from->path);
    if (look_there(cli, copy->to, &target, err) < 0)
        return -1;
    /* "/." and "." have no name of their own: their content is meant, into a directory that is
     * there. */
    content = content || strcmp(name, "/") == 0;
    if (target == TARGET_OTHER && S_ISDIR(st.st_mode))
        return ld_err_set(err, LD_E_CONFLICT, "a directory cannot replace '%s' in %s '%s'",
                          copy->to->path, ld_object_noun(copy->to->kind), copy->to->owner);
    if (target == TARGET_MISSING && ends_in_slash(copy->to->path) && !S_ISDIR(st.st_mode))
        return ld_err_set(err, LD_E_NOT_FOUND, "%s '%s' has no directory '%s'",
                          ld_object_noun(copy->to->kind), copy->to->owner, copy->to->path);
    if (S_ISREG(st.st_mode)) {
        inside = join(copy->to->path, name);
        return put_file(cli, copy, path, target == TARGET_DIRECTORY ? inside : copy->to->path, err);
    }
    if (target == TARGET_DIRECTORY)
        return put_tree(cli, copy, path, content ? NULL : name, copy->to->path, err);
    return put_tree(cli, copy, path, new_name, parent, err);
}

/* Out */

/* A tar on its way to tar(1) or to a file, with what has come shown. */
struct drain {
    int fd;
    const char *label;
    uint64_t done;
    struct ld_progress *progress;
};

static int write_drain(void *arg, const void *data, size_t len, struct ld_err *err)
{
    struct drain *drain = arg;
    int r = ld_write_full(drain->fd, data, len);

    if (r < 0)
        return ld_err_sys(err, r, "unpack '%s'", drain->label);
    drain->done += len;
    ld_progress_set(drain->progress, drain->label, "receive", drain->done, 0);
    return 0;
}

static int fetch(struct ld_cli *cli, const struct ld_place *from, const char *accept,
                 ld_http_write_fn write, void *arg, struct ld_err *err)
{
    autobuf struct ld_buf url = LD_URL_INIT;
    autoreply struct ld_http_reply reply = LD_HTTP_REPLY_INIT;
    struct ld_http_call call = {
        .method = "GET", .headers = {accept}, .write = write, .write_arg = arg};
    struct ld_http *http;

    if (ld_file_url(from, from->path, &url, err) < 0 || ld_cli_http(cli, &http, err) < 0)
        return -1;
    call.target = ld_buf_str(&url);
    return ld_http_run(http, &call, &reply, err);
}

/* The tree unpacked below `directory`. */
static int get_tree(struct ld_cli *cli, const struct ld_copy *copy, const char *directory,
                    bool strip, struct ld_err *err)
{
    autoprogress struct ld_progress *progress = new_progress(cli, copy);
    autofree char *label = ld_place_name(copy->from->path);
    autotarpipe struct ld_tarpipe tar = LD_TARPIPE_INIT;
    struct drain drain = {.label = label, .progress = progress};
    struct ld_err tar_err = LD_ERR_INIT;
    int r;

    if (ld_tar_unpack(directory, strip, copy->owners, &tar, err) < 0)
        return -1;
    drain.fd = tar.fd;
    r = fetch(cli, copy->from, "Accept: application/x-tar", write_drain, &drain, err);
    ld_progress_clear(progress);
    if (ld_tar_finish(&tar, &tar_err) == 0)
        return r;
    /* tar's complaint about a stream that the daemon cut short is not the news. */
    if (r == 0 || err->errnum == EPIPE)
        *err = tar_err;
    return -1;
}

/* Owner, mode and time of the thing fetched; the mode last, since chown clears set-id bits. */
static int apply(int fd, const struct ld_remote_file *info, bool owners)
{
    const struct timespec times[2] = {
        {.tv_nsec = UTIME_OMIT},
        {.tv_sec = info->mtime_sec, .tv_nsec = info->mtime_nsec},
    };

    if (owners && fchown(fd, info->uid, info->gid) < 0)
        return -errno;
    if (fchmod(fd, info->mode) < 0 || futimens(fd, times) < 0)
        return -errno;
    return 0;
}

static int get_file(struct ld_cli *cli, const struct ld_copy *copy, const char *path,
                    const struct ld_remote_file *info, struct ld_err *err)
{
    autoprogress struct ld_progress *progress = new_progress(cli, copy);
    autosink struct ld_outfile *sink = NULL;
    int r;

    if (ld_outfile_open(path, true, progress, &sink, err) < 0 ||
        fetch(cli, copy->from, "Accept: application/octet-stream", ld_outfile_write, sink, err) < 0)
        return -1;
    r = ld_outfile_fd(sink) < 0 ? 0 : apply(ld_outfile_fd(sink), info, copy->owners);
    if (r < 0)
        return ld_err_sys(err, r, "set the attributes of '%s'", path);
    return ld_outfile_commit(sink, err);
}

/* A tree under a new name: its own top directory is made here. */
static int get_new_directory(struct ld_cli *cli, const struct ld_copy *copy, const char *path,
                             const struct ld_remote_file *info, bool strip, struct ld_err *err)
{
    autoclose int dir = -EBADF;
    int r;

    if (mkdir(path, 0700) < 0)
        return ld_err_sys(err, -errno, "create the directory '%s'", path);
    dir = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (dir < 0)
        return ld_err_sys(err, -errno, "open '%s'", path);
    if (get_tree(cli, copy, path, strip, err) < 0)
        return -1;
    r = apply(dir, info, copy->owners);
    return r < 0 ? ld_err_sys(err, r, "set the attributes of '%s'", path) : 0;
}

/* A symlink, fifo or device under a new name: unpacked aside, then renamed. */
static int get_special(struct ld_cli *cli, const struct ld_copy *copy, const char *path,
                       struct ld_err *err)
{
    autofree char *aside = ld_asprintf("%s.part-XXXXXX", path);
    autofree char *name = ld_place_name(copy->from->path);
    autofree char *made = NULL;
    int r;

    if (!mkdtemp(aside))
        return ld_err_sys(err, -errno, "create '%s'", path);
    made = join(aside, name);
    r = get_tree(cli, copy, aside, false, err);
    if (r == 0 && rename(made, path) < 0)
        r = ld_err_sys(err, -errno, "create '%s'", path);
    (void)unlink(made); /* gone when all went well */
    (void)rmdir(aside); /* stays when something else is in it, visibly */
    return r;
}

static int look_at_host(const char *path, enum target *ret, struct ld_err *err)
{
    struct stat st;

    if (stat(path, &st) == 0)
        *ret = S_ISDIR(st.st_mode) ? TARGET_DIRECTORY : TARGET_OTHER;
    else if (errno == ENOENT)
        *ret =
            lstat(path, &st) == 0 ? TARGET_OTHER : TARGET_MISSING; /* a dangling symlink is there */
    else
        return ld_err_sys(err, -errno, "'%s'", path);
    return 0;
}

/* content: what the directory holds, not the directory. */
static int copy_out(struct ld_cli *cli, const struct ld_copy *copy, bool content,
                    struct ld_err *err)
{
    autofree char *name = ld_place_name(copy->from->path);
    autofree char *inside = join(copy->to->path, name);
    autoremotefile struct ld_remote_file info = {0};
    bool is_root = strcmp(copy->from->path, "/") == 0; /* its tar names no directory to strip */
    enum target target = TARGET_MISSING;
    bool is_directory;

    if (ld_file_stat(cli, copy->from, copy->from->path, &info, err) < 0 ||
        look_at_host(copy->to->path, &target, err) < 0)
        return -1;
    is_directory = strcmp(info.type, "directory") == 0;
    if (content && !is_directory)
        return ld_err_set(err, LD_E_CONFLICT, "'%s' is not a directory", copy->from->path);
    if (target == TARGET_OTHER && is_directory)
        return ld_err_set(err, LD_E_CONFLICT, "a directory cannot replace '%s'", copy->to->path);
    if (target == TARGET_MISSING && ends_in_slash(copy->to->path) && !is_directory)
        return ld_err_set(err, LD_E_NOT_FOUND, "there is no directory '%s'", copy->to->path);
    if (strcmp(info.type, "file") == 0)
        return get_file(cli, copy, target == TARGET_DIRECTORY ? inside : copy->to->path, &info,
                        err);
    if (target == TARGET_DIRECTORY)
        return get_tree(cli, copy, copy->to->path, content && !is_root, err);
    return is_directory ? get_new_directory(cli, copy, copy->to->path, &info, !is_root, err)
                        : get_special(cli, copy, copy->to->path, err);
}

static int get_stdout(struct ld_cli *cli, const struct ld_copy *copy, struct ld_err *err)
{
    autosink struct ld_outfile *sink = NULL;

    if (ld_outfile_open("-", true, NULL, &sink, err) < 0 ||
        fetch(cli, copy->from, "Accept: application/x-tar", ld_outfile_write, sink, err) < 0)
        return -1;
    return ld_outfile_commit(sink, err);
}

/* The path without "/." at its end; a slash stays there, so that a symlink to the directory is
 * followed. */
static char *directory_of_content(const char *path)
{
    size_t len = strlen(path);

    while (len > 1 && (path[len - 1] == '/' || (path[len - 1] == '.' && path[len - 2] == '/')))
        len--;
    return ld_asprintf("%.*s%s", (int)len, path, path[len - 1] == '/' ? "" : "/");
}

/* A symlink named as the source, followed; the daemon keeps all of it inside the root. */
static int follow_links(struct ld_cli *cli, const struct ld_place *of, char **path,
                        struct ld_err *err)
{
    for (unsigned i = 0; i < LINKS_MAX; i++) {
        autoremotefile struct ld_remote_file info = {0};
        autofree char *parent = NULL;
        char *next;

        if (ld_file_stat(cli, of, *path, &info, err) < 0)
            return -1;
        if (!info.target)
            return 0;
        parent = parent_of(*path);
        next = info.target[0] == '/' ? ld_strdup(info.target) : join(parent, info.target);
        free(*path);
        *path = next;
    }
    return ld_err_set(err, LD_E_INVALID, "'%s' is one of too many symlinks", *path);
}

int ld_copy_run(struct ld_cli *cli, const struct ld_copy *copy, struct ld_err *err)
{
    bool content = ld_place_is_content(copy->from->path);
    autoplace struct ld_place from = {0};
    struct ld_copy inner = *copy;

    if (!copy->from->owner == !copy->to->owner) {
        (void)ld_err_set(err, LD_E_INVALID, "one of the two has to be in a container or volume");
        return ld_err_hint(err, "layerctl cp CONTAINER:PATH PATH, or PATH CONTAINER:PATH; a volume "
                                "is @VOLUME:PATH");
    }
    if (copy->to->owner)
        return strcmp(copy->from->path, "-") == 0 ? put_stdin(cli, copy, err)
                                                  : copy_in(cli, copy, err);
    from.kind = copy->from->kind;
    from.owner = ld_strdup(copy->from->owner);
    from.path = content ? directory_of_content(copy->from->path) : ld_strdup(copy->from->path);
    if (copy->follow && follow_links(cli, &from, &from.path, err) < 0)
        return -1;
    inner.from = &from;
    return strcmp(copy->to->path, "-") == 0 ? get_stdout(cli, &inner, err)
                                            : copy_out(cli, &inner, content, err);
}
