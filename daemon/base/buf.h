/* A growing byte buffer with a ceiling. Reaching the ceiling is an error that sticks: append on,
 * check once at the end. One owner, no locking. */
#pragma once

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>

#include "daemon/base/cleanup.h"

struct ld_buf {
    char *data; /* always terminated when not NULL */
    size_t len;
    size_t cap;
    size_t max; /* ceiling in bytes, without the terminator */
    bool full;  /* something did not fit: the content is not whole */
};

#define LD_BUF_INIT(max_) ((struct ld_buf){.max = (max_)})

void ld_buf_add(struct ld_buf *buf, const void *data, size_t len);
void ld_buf_adds(struct ld_buf *buf, const char *s);
void ld_buf_addc(struct ld_buf *buf, char c);
void ld_buf_addf(struct ld_buf *buf, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void ld_buf_vaddf(struct ld_buf *buf, const char *fmt, va_list ap)
    __attribute__((format(printf, 2, 0)));
void ld_buf_clear(struct ld_buf *buf);            /* empty, memory kept, `full` forgotten */
const char *ld_buf_str(const struct ld_buf *buf); /* "" when empty; valid until the next change */
char *ld_buf_take(struct ld_buf *buf); /* hands the bytes over (never NULL), buf is empty */
int ld_buf_check(const struct ld_buf *buf) ld_must_check; /* 0, or -E2BIG when full */
void ld_buf_done(struct ld_buf *buf);

#define autobuf LD_AUTO(ld_buf_done)
