/* Plain file work by descriptors: see fdio.h. Trees are removed and counted in fdtree.c. */
#include "daemon/base/fdio.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "daemon/base/mem.h"

enum { COPY_CHUNK = 8 << 20, COPY_BLOCK = 1 << 18 };

ssize_t ld_read_some(int fd, void *data, size_t len)
{
    ssize_t n;

    do {
        n = read(fd, data, len);
    } while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : n;
}

ssize_t ld_pread_some(int fd, void *data, size_t len, uint64_t offset)
{
    ssize_t n;

    do {
        n = pread(fd, data, len, (off_t)offset);
    } while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : n;
}

int ld_read_full(int fd, void *data, size_t len)
{
    for (size_t done = 0; done < len;) {
        ssize_t n = ld_read_some(fd, (char *)data + done, len - done);

        if (n <= 0)
            return n < 0 ? (int)n : -ENODATA;
        done += (size_t)n;
    }
    return 0;
}

int ld_pread_full(int fd, void *data, size_t len, uint64_t offset)
{
    for (size_t done = 0; done < len;) {
        ssize_t n = ld_pread_some(fd, (char *)data + done, len - done, offset + done);

        if (n <= 0)
            return n < 0 ? (int)n : -ENODATA;
        done += (size_t)n;
    }
    return 0;
}

int ld_write_full(int fd, const void *data, size_t len)
{
    for (size_t done = 0; done < len;) {
        ssize_t n = write(fd, (const char *)data + done, len - done);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        done += (size_t)n;
    }
    return 0;
}

int ld_pwrite_full(int fd, const void *data, size_t len, uint64_t offset)
{
    for (size_t done = 0; done < len;) {
        ssize_t n = pwrite(fd, (const char *)data + done, len - done, (off_t)(offset + done));

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        done += (size_t)n;
    }
    return 0;
}

int ld_open_under(int dir, const char *path, enum ld_resolve how, int flags, mode_t mode)
{
    struct open_how open_how = {
        .flags = (unsigned)(flags | O_CLOEXEC),
        .mode = flags & O_CREAT || (flags & O_TMPFILE) == O_TMPFILE ? mode : 0,
        .resolve = RESOLVE_NO_MAGICLINKS | (how == LD_BENEATH ? RESOLVE_BENEATH : RESOLVE_IN_ROOT),
    };

    /* IN_ROOT and BENEATH answer EAGAIN when a rename elsewhere raced with a "..": try again. */
    for (int tries = 0; tries < 128; tries++) {
        long fd = syscall(SYS_openat2, dir, path, &open_how, sizeof(open_how));

        if (fd >= 0)
            return (int)fd;
        if (errno != EAGAIN && errno != EINTR)
            return -errno;
    }
    return -EAGAIN;
}

struct ld_fd_path ld_fd_path(int fd)
{
    struct ld_fd_path p;

    (void)snprintf(p.path, sizeof(p.path), "/proc/self/fd/%d", fd); /* 14 + 11 bytes at most */
    return p;
}

int ld_open_dir(int dir, const char *name)
{
    int fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

    return fd < 0 ? -errno : fd;
}

int ld_make_dir(int dir, const char *name, mode_t mode)
{
    autoclose int fd = -EBADF;

    if (mkdirat(dir, name, 0700) < 0)
        return -errno;
    fd = ld_open_dir(dir, name);
    if (fd < 0)
        return fd;
    if (fchmod(fd, mode) < 0)
        return -errno;
    return ld_steal_fd(&fd);
}

int ld_ensure_dir(int dir, const char *name, mode_t mode)
{
    int fd = ld_make_dir(dir, name, mode);

    return fd == -EEXIST ? ld_open_dir(dir, name) : fd;
}

int ld_fsync(int fd)
{
    return fsync(fd) < 0 ? -errno : 0;
}

int ld_syncfs(int fd)
{
    return syncfs(fd) < 0 ? -errno : 0;
}

static bool is_same_dir(int a, int b)
{
    struct stat sa, sb;

    return fstat(a, &sa) == 0 && fstat(b, &sb) == 0 && sa.st_dev == sb.st_dev &&
           sa.st_ino == sb.st_ino;
}

int ld_publish_at(int from_dir, const char *from, int to_dir, const char *to)
{
    int r;

    if (renameat2(from_dir, from, to_dir, to, RENAME_NOREPLACE) < 0)
        return -errno;
    r = ld_fsync(to_dir);
    if (r == 0 && !is_same_dir(from_dir, to_dir))
        r = ld_fsync(from_dir);
    return r;
}

static ssize_t copy_by_range(int from, int to, uint64_t at, size_t want)
{
    loff_t in = (loff_t)at, out = (loff_t)at;
    ssize_t n = copy_file_range(from, &in, to, &out, want, 0);

    return n < 0 ? -errno : n;
}

/* Not between these two files, rather than not at all. */
static bool is_no_pair(ssize_t error)
{
    return error == -EXDEV || error == -EINVAL || error == -EOPNOTSUPP || error == -ENOSYS;
}

static ssize_t copy_by_block(int from, int to, uint64_t at, size_t want, char **block)
{
    ssize_t n;
    int r;

    if (!*block)
        *block = ld_alloc0(COPY_BLOCK);
    n = ld_pread_some(from, *block, want < COPY_BLOCK ? want : COPY_BLOCK, at);
    if (n < 0)
        return n;
    r = ld_pwrite_full(to, *block, (size_t)n, at);
    return r < 0 ? r : n;
}

/* One run of data [at, end): by copy_file_range, which reflinks where it can; by read and write
 * where the kernel refuses the pair of files. */
static int copy_run(int from, int to, uint64_t at, uint64_t end, const bool *cancel)
{
    bool by_range = true;
    autofree char *block = NULL;

    while (at < end) {
        size_t want = end - at < COPY_CHUNK ? (size_t)(end - at) : COPY_CHUNK;
        ssize_t n;

        if (cancel && __atomic_load_n(cancel, __ATOMIC_RELAXED))
            return -ECANCELED;
        n = by_range ? copy_by_range(from, to, at, want)
                     : copy_by_block(from, to, at, want, &block);
        if (n > 0)
            at += (uint64_t)n;
        else if (by_range && is_no_pair(n))
            by_range = false;
        else if (n != -EINTR)
            return (int)n; /* 0: the file got shorter under us */
    }
    return 0;
}

int ld_copy_data(int from, int to, const bool *cancel)
{
    struct stat st;
    off_t at = 0;

    if (fstat(from, &st) < 0)
        return -errno;
    while (at < st.st_size) {
        off_t data = lseek(from, at, SEEK_DATA);
        off_t hole;
        int r;

        if (data < 0 && errno == ENXIO)
            break; /* only a hole follows */
        if (data < 0)
            return -errno;
        hole = lseek(from, data, SEEK_HOLE);
        if (hole < 0)
            return -errno;
        r = copy_run(from, to, (uint64_t)data, (uint64_t)hole, cancel);
        if (r < 0)
            return r;
        at = hole;
    }
    return ftruncate(to, st.st_size) < 0 ? -errno : 0;
}

int ld_each_name(int dir, ld_visit_fn visit, void *arg)
{
    int fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *stream;
    int r = 0;

    if (fd < 0)
        return -errno;
    stream = fdopendir(fd);
    if (!stream) {
        r = -errno;
        ld_close(fd);
        return r;
    }
    while (r == 0) {
        struct dirent *entry;

        errno = 0;
        entry = readdir(stream); /* the stream is ours alone */
        if (!entry) {
            r = -errno;
            break;
        }
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            r = visit(arg, entry->d_name, entry->d_type);
    }
    (void)closedir(stream); /* only read */
    return r;
}

static int stop_at_first(void *arg, const char *name, unsigned char d_type)
{
    (void)arg;
    (void)name;
    (void)d_type;
    return 1;
}

int ld_dir_is_empty(int parent, const char *name)
{
    autoclose int dir = ld_open_dir(parent, name);
    int r = dir < 0 ? dir : ld_each_name(dir, stop_at_first, NULL);

    return r < 0 ? r : r == 0;
}
