/* Memory of the model: see arena.h. One test, one thread: the list of blocks is the process's. */
#include "tests/lib/arena.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/base/mem.h"

enum { BLOCK = 1 << 20 };

struct block {
    struct block *next;
    size_t used, size;
    _Alignas(16) char data[];
};

static struct block *blocks;

void *m_alloc(size_t size)
{
    size_t want = (size + 15) / 16 * 16;
    struct block *b = blocks;
    void *p;

    if (!b || b->size - b->used < want) {
        size_t room = want > BLOCK ? want : BLOCK;

        b = ld_alloc0(sizeof(*b) + room);
        b->size = room;
        b->next = blocks;
        blocks = b;
    }
    p = b->data + b->used;
    b->used += want;
    return p;
}

void *m_memdup(const void *data, size_t len)
{
    char *copy = m_alloc(len + 1);

    if (len > 0)
        memcpy(copy, data, len);
    return copy;
}

char *m_strdup(const char *s)
{
    return m_memdup(s, strlen(s));
}

char *m_printf(const char *fmt, ...)
{
    va_list ap, again;
    char *text;
    int len;

    va_start(ap, fmt);
    va_copy(again, ap);
    len = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    if (len < 0)
        abort();
    text = m_alloc((size_t)len + 1);
    (void)vsnprintf(text, (size_t)len + 1, fmt, again);
    va_end(again);
    return text;
}

void m_grow(void *array, size_t *cap, size_t want, size_t item)
{
    void **slot = array;
    size_t next = want * 2 + 2;
    void *larger;

    if (want <= *cap)
        return;
    larger = m_alloc(next * item);
    if (*cap > 0)
        memcpy(larger, *slot, *cap * item);
    *slot = larger;
    *cap = next;
}

void m_free_all(void)
{
    while (blocks) {
        struct block *next = blocks->next;

        free(blocks);
        blocks = next;
    }
}
