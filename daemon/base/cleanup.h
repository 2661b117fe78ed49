/* Ownership by scope: locals that own a thing free it when they go out of scope.
 *
 * A cleanup function accepts the empty value (NULL, a negative fd), keeps errno, and may run twice.
 * Handing over is visible: ld_steal(&ptr), ld_steal_fd(&fd).
 */
#pragma once

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#define LD_AUTO(fn)   __attribute__((cleanup(fn)))
#define ld_must_check __attribute__((warn_unused_result))

/* Close once, never retry: on Linux the number is free whatever close() says. */
static inline void ld_close(int fd)
{
    if (fd >= 0) {
        int saved = errno;
        (void)close(fd); /* what was written was checked by fsync */
        errno = saved;
    }
}

static inline void ld_close_p(int *fd)
{
    ld_close(*fd);
    *fd = -EBADF;
}

static inline void ld_free_p(void *p)
{
    void **slot = p;

    free(*slot);
    *slot = NULL;
}

static inline int ld_steal_fd(int *fd)
{
    int taken = *fd;

    *fd = -EBADF;
    return taken;
}

#define autofree  LD_AUTO(ld_free_p)
#define autoclose LD_AUTO(ld_close_p)

/* A pointer, or a struct whose empty value is all zeroes. */
#define ld_steal(p)                                                                                \
    ({                                                                                             \
        __typeof__(*(p)) ld_taken_ = *(p);                                                         \
        *(p) = (__typeof__(*(p))){0};                                                              \
        ld_taken_;                                                                                 \
    })

#define LD_ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))
