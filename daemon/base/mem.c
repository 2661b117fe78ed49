/* Allocation: see mem.h. The only file that calls malloc and friends. */
#include "daemon/base/mem.h"

#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

static void *or_abort(void *p)
{
    if (!p) {
        static const char text[] = "layerd: out of memory\n";

        (void)!write(STDERR_FILENO, text, sizeof(text) - 1);
        abort();
    }
    return p;
}

void *ld_alloc0(size_t size)
{
    return or_abort(calloc(1, size ? size : 1));
}

char *ld_strdup(const char *s)
{
    return or_abort(strdup(s));
}

char *ld_strndup(const char *s, size_t len)
{
    return or_abort(strndup(s, len));
}

char *ld_memdup(const void *data, size_t len)
{
    char *copy = or_abort(malloc(len + 1));

    if (len)
        memcpy(copy, data, len);
    copy[len] = '\0';
    return copy;
}

char *ld_asprintf(const char *fmt, ...)
{
    char *text = NULL;
    va_list ap;
    int n;

    va_start(ap, fmt);
    n = vasprintf(&text, fmt, ap);
    va_end(ap);
    return or_abort(n < 0 ? NULL : text);
}

void *ld_try_alloc(size_t size, size_t limit)
{
    if (size > limit) {
        errno = E2BIG;
        return NULL;
    }
    return calloc(1, size ? size : 1);
}

void ld_grow(void *array, size_t *cap, size_t want, size_t item)
{
    void **slot = array;
    size_t next = *cap ? *cap : 8;
    size_t bytes;

    if (want <= *cap)
        return;
    while (next < want)
        next = next > SIZE_MAX / 2 ? want : next * 2;
    if (__builtin_mul_overflow(next, item, &bytes))
        or_abort(NULL);
    *slot = or_abort(realloc(*slot, bytes));
    memset((char *)*slot + *cap * item, 0, (next - *cap) * item);
    *cap = next;
}
