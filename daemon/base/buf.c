/* Bounded buffers: see buf.h. */
#include "daemon/base/buf.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "daemon/base/mem.h"

/* Room for len more bytes and the terminator, or the buffer is full for good. */
static bool reserve(struct ld_buf *buf, size_t len)
{
    if (buf->full || len > buf->max || buf->len > buf->max - len) {
        buf->full = true;
        return false;
    }
    ld_grow(&buf->data, &buf->cap, buf->len + len + 1, 1);
    return true;
}

void ld_buf_add(struct ld_buf *buf, const void *data, size_t len)
{
    if (!reserve(buf, len))
        return;
    if (len)
        memcpy(buf->data + buf->len, data, len);
    buf->len += len;
    buf->data[buf->len] = '\0';
}

void ld_buf_adds(struct ld_buf *buf, const char *s)
{
    ld_buf_add(buf, s, strlen(s));
}

void ld_buf_addc(struct ld_buf *buf, char c)
{
    ld_buf_add(buf, &c, 1);
}

void ld_buf_vaddf(struct ld_buf *buf, const char *fmt, va_list ap)
{
    va_list again;
    int n;

    va_copy(again, ap);
    n = vsnprintf(NULL, 0, fmt, again);
    va_end(again);
    if (n < 0 || !reserve(buf, (size_t)n)) {
        buf->full = true;
        return;
    }
    (void)vsnprintf(buf->data + buf->len, (size_t)n + 1, fmt, ap); /* measured just above */
    buf->len += (size_t)n;
}

void ld_buf_addf(struct ld_buf *buf, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    ld_buf_vaddf(buf, fmt, ap);
    va_end(ap);
}

void ld_buf_clear(struct ld_buf *buf)
{
    buf->len = 0;
    buf->full = false;
    if (buf->data)
        buf->data[0] = '\0';
}

const char *ld_buf_str(const struct ld_buf *buf)
{
    return buf->data ? buf->data : "";
}

char *ld_buf_take(struct ld_buf *buf)
{
    char *data = buf->data ? buf->data : ld_strdup("");

    buf->data = NULL;
    buf->len = buf->cap = 0;
    return data;
}

int ld_buf_check(const struct ld_buf *buf)
{
    return buf->full ? -E2BIG : 0;
}

void ld_buf_done(struct ld_buf *buf)
{
    ld_free_p(&buf->data);
    buf->len = buf->cap = 0;
}
