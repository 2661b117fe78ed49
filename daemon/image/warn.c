/* Warnings: see warn.h. */
#include "daemon/image/warn.h"

#include <stdarg.h>
#include <stdio.h>

#include "daemon/base/mem.h"

void ld_warnings_add(struct ld_warnings *w, const char *fmt, ...)
{
    char text[512];
    va_list ap;

    w->total++;
    if (w->n == LD_WARNINGS_MAX)
        return;
    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, ap); /* a cut warning still warns */
    va_end(ap);
    w->text[w->n++] = ld_strdup(text);
}

void ld_warnings_done(struct ld_warnings *w)
{
    for (size_t i = 0; i < w->n; i++)
        free(w->text[i]);
    *w = (struct ld_warnings){.n = 0};
}
