/* Errors: one value, no allocation, handed down by the caller.
 *
 * Everything from the drivers upward returns 0 or -1 and fills `struct ld_err`; base/ returns
 * -errno. Success leaves the error alone; failure leaves out-parameters alone. Handle a failure or
 * pass it on, never both. Any thread may fill the error it was given.
 */
#pragma once

#include <stdarg.h>
#include <stddef.h>

#include "daemon/base/cleanup.h"

/* Symbol, code on the wire, HTTP status, what it means. The only place where the three meet;
 * a test holds it against openapi.yaml. */
#define LD_ERR_TABLE(X)                                                                            \
    X(INVALID, "invalid", 400, "the request is malformed or an argument is not valid")             \
    X(FORBIDDEN, "forbidden", 403, "the peer may not do this")                                     \
    X(NOT_FOUND, "not_found", 404, "no such object")                                               \
    X(METHOD, "method_not_allowed", 405, "the resource has no such method, see Allow")             \
    X(CONFLICT, "conflict", 409, "the object's state does not permit this")                        \
    X(EXISTS, "exists", 409, "the name is taken")                                                  \
    X(IN_USE, "in_use", 409, "a record refers to the object, see details.users")                   \
    X(BUSY, "busy", 409, "a process or a mount holds the object")                                  \
    X(PRECONDITION, "precondition", 412, "the object is not in the version asked for")             \
    X(TOO_LARGE, "too_large", 413, "the request's body is over a limit")                           \
    X(UNSUPPORTED_MEDIA, "unsupported_media", 415, "the body's media type is not taken here")      \
    X(BAD_CONTENT, "bad_content", 422, "an archive or document in the body is not acceptable")     \
    X(INTERNAL, "internal", 500, "a bug in layerd")                                                \
    X(IO, "io", 500, "the system refused an operation on the disk")                                \
    X(CORRUPT, "corrupt", 500, "stored data is damaged")                                           \
    X(UNSUPPORTED, "unsupported", 501, "this build, kernel or file system cannot do it")           \
    X(UNAVAILABLE, "unavailable", 503, "too busy or shutting down, try again")                     \
    X(NO_SPACE, "no_space", 507, "the disk or a quota is full")                                    \
    X(CANCELED, "canceled", 503, "the job was cancelled")

enum ld_code {
    LD_E_NONE = 0,
#define X(sym, code, status, doc) LD_E_##sym,
    LD_ERR_TABLE(X)
#undef X
        LD_E_COUNT
};

struct ld_err {
    enum ld_code code;
    int errnum;         /* positive errno of the call that failed, or 0 */
    char message[512];  /* names the object and the reason; always terminated, cut with "…" */
    char hint[256];     /* what the user can do, or "" */
    char details[1024]; /* a JSON object as text, or "" */
};

#define LD_ERR_INIT ((struct ld_err){.code = LD_E_NONE})

/* Fills *err and returns -1. The old content is replaced. */
int ld_err_set(struct ld_err *err, enum ld_code code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* The same for a failed system call: neg_errno is -errno. The code follows from it: ENOSPC and
 * EDQUOT become no_space, ENOMEM, EMFILE and ENFILE unavailable, ECANCELED canceled,
 * else io; ": strerror" is appended. */
int ld_err_sys(struct ld_err *err, int neg_errno, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* Puts "text: " before the message (context, outermost first). Returns -1. */
int ld_err_prefix(struct ld_err *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Sets the hint; details takes a JSON object. Text too long for the field is dropped as a whole
 * for details (half a JSON object is none) and cut for the hint. Both return -1. */
int ld_err_hint(struct ld_err *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
int ld_err_details(struct ld_err *err, const char *json);

/* That -1 where the callers are compiled: compilers and analyzers see which ways end there. */
#define ld_err_set(...)     (ld_err_set(__VA_ARGS__), -1)
#define ld_err_sys(...)     (ld_err_sys(__VA_ARGS__), -1)
#define ld_err_prefix(...)  (ld_err_prefix(__VA_ARGS__), -1)
#define ld_err_hint(...)    (ld_err_hint(__VA_ARGS__), -1)
#define ld_err_details(...) (ld_err_details(__VA_ARGS__), -1)

const char *ld_code_name(enum ld_code code); /* "in_use" */
int ld_code_status(enum ld_code code);       /* 409 */
