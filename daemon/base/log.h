/* Structured log lines to the journal, as JSON, or as text on standard error.
 *
 * One failure makes one line; base/, image/ and drivers/ log at debug only. Any thread. Names from
 * outside stand in single quotes; control characters are escaped here.
 */
#pragma once

#include <stdbool.h>

enum ld_log_level { LD_LOG_DEBUG, LD_LOG_INFO, LD_LOG_WARN, LD_LOG_ERROR };
enum ld_log_format { LD_LOG_TEXT, LD_LOG_JSON, LD_LOG_JOURNAL };

/* Once, before threads start. */
void ld_log_setup(enum ld_log_level level, enum ld_log_format format);
void ld_log_set_level(enum ld_log_level level); /* any time */
bool ld_log_is_on(enum ld_log_level level);
int ld_log_level_parse(const char *name, enum ld_log_level *ret);   /* 0 or -EINVAL */
int ld_log_format_parse(const char *name, enum ld_log_format *ret); /* 0 or -EINVAL */

/* Who and what a line is about; empty strings are left out. */
struct ld_log_ctx {
    const char *request_id;
    const char *job;
    const char *object; /* "container:ID", "image:ID", "volume:ID", "layer:SID" */
    long uid, pid;      /* of the peer; -1: none */
};
#define LD_LOG_NO_CTX ((struct ld_log_ctx){.uid = -1, .pid = -1})

void ld_log_with(const struct ld_log_ctx *ctx, enum ld_log_level level, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

#define ld_log(level, ...)                                                                         \
    do {                                                                                           \
        if (ld_log_is_on(level))                                                                   \
            ld_log_with(&LD_LOG_NO_CTX, level, __VA_ARGS__);                                       \
    } while (0)
#define ld_debug(...) ld_log(LD_LOG_DEBUG, __VA_ARGS__)
#define ld_info(...)  ld_log(LD_LOG_INFO, __VA_ARGS__)
#define ld_warn(...)  ld_log(LD_LOG_WARN, __VA_ARGS__)
#define ld_error(...) ld_log(LD_LOG_ERROR, __VA_ARGS__)
