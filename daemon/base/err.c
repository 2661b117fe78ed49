/* Errors as values: see err.h. No state, any thread. */
#include "daemon/base/err.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#undef ld_err_set
#undef ld_err_sys
#undef ld_err_prefix
#undef ld_err_hint
#undef ld_err_details

static const struct {
    const char *name;
    int status;
} codes[LD_E_COUNT] = {[LD_E_NONE] = {"none", 200},
#define X(sym, code, status_, doc) [LD_E_##sym] = {code, status_},
                       LD_ERR_TABLE(X)
#undef X
};

const char *ld_code_name(enum ld_code code)
{
    return code < LD_E_COUNT ? codes[code].name : "internal";
}

int ld_code_status(enum ld_code code)
{
    return code < LD_E_COUNT ? codes[code].status : 500;
}

/* Cuts at a UTF-8 boundary and says so, when vsnprintf had more to write than fits. */
static void mark_cut(char *text, size_t size, int wanted)
{
    static const char mark[] = "…";
    size_t at = size - sizeof(mark);

    if (wanted < 0 || (size_t)wanted < size)
        return;
    while (at > 0 && ((unsigned char)text[at] & 0xC0) == 0x80)
        at--;
    memcpy(text + at, mark, sizeof(mark));
}

__attribute__((format(printf, 3, 0))) static void format(char *text, size_t size, const char *fmt,
                                                         va_list ap)
{
    mark_cut(text, size, vsnprintf(text, size, fmt, ap));
}

static enum ld_code code_of_errno(int errnum)
{
    switch (errnum) {
    case ENOSPC:
    case EDQUOT:
        return LD_E_NO_SPACE;
    case ENOMEM:
    case EMFILE:
    case ENFILE:
        return LD_E_UNAVAILABLE;
    case ECANCELED:
        return LD_E_CANCELED;
    default:
        return LD_E_IO;
    }
}

static void reset(struct ld_err *err, enum ld_code code, int errnum)
{
    err->code = code;
    err->errnum = errnum;
    err->message[0] = '\0';
    err->hint[0] = '\0';
    err->details[0] = '\0';
}

int ld_err_set(struct ld_err *err, enum ld_code code, const char *fmt, ...)
{
    char text[sizeof(err->message)];
    va_list ap;

    /* By way of a local: the arguments may point into *err. */
    va_start(ap, fmt);
    format(text, sizeof(text), fmt, ap);
    va_end(ap);
    reset(err, code, 0);
    memcpy(err->message, text, sizeof(text));
    return -1;
}

int ld_err_sys(struct ld_err *err, int neg_errno, const char *fmt, ...)
{
    char text[sizeof(err->message)];
    char reason[128];
    va_list ap;
    int errnum = neg_errno < 0 ? -neg_errno : neg_errno;
    size_t used;

    va_start(ap, fmt);
    format(text, sizeof(text), fmt, ap);
    va_end(ap);
    reset(err, code_of_errno(errnum), errnum);
    memcpy(err->message, text, sizeof(text));
    used = strlen(err->message);
    mark_cut(err->message + used, sizeof(err->message) - used,
             snprintf(err->message + used, sizeof(err->message) - used, ": %s",
                      strerror_r(errnum, reason, sizeof(reason))));
    return -1;
}

int ld_err_prefix(struct ld_err *err, const char *fmt, ...)
{
    char text[sizeof(err->message)];
    char old[sizeof(err->message)];
    va_list ap;
    size_t used;

    va_start(ap, fmt);
    format(text, sizeof(text), fmt, ap);
    va_end(ap);
    memcpy(old, err->message, sizeof(old));
    memcpy(err->message, text, sizeof(text));
    used = strlen(err->message);
    mark_cut(err->message + used, sizeof(err->message) - used,
             snprintf(err->message + used, sizeof(err->message) - used, ": %s", old));
    return -1;
}

int ld_err_hint(struct ld_err *err, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    format(err->hint, sizeof(err->hint), fmt, ap);
    va_end(ap);
    return -1;
}

int ld_err_details(struct ld_err *err, const char *json)
{
    size_t len = strlen(json);

    if (len < sizeof(err->details))
        memcpy(err->details, json, len + 1);
    return -1;
}
