/* Log lines: see log.h. Level and format are the only state; one write(2) per line keeps lines
 * whole. */
#include "daemon/base/log.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include <systemd/sd-journal.h>

#include "daemon/base/buf.h"
#include "daemon/base/cleanup.h"
#include "daemon/base/fdio.h"

static int current_level = LD_LOG_INFO; /* atomic: set by a reload, read everywhere */
static enum ld_log_format current_format = LD_LOG_TEXT;

static const struct {
    const char *name;
    int priority;
} levels[] = {
    [LD_LOG_DEBUG] = {"debug", LOG_DEBUG},
    [LD_LOG_INFO] = {"info", LOG_INFO},
    [LD_LOG_WARN] = {"warn", LOG_WARNING},
    [LD_LOG_ERROR] = {"error", LOG_ERR},
};

static const char *const formats[] = {
    [LD_LOG_TEXT] = "text", [LD_LOG_JSON] = "json", [LD_LOG_JOURNAL] = "journal"};

void ld_log_setup(enum ld_log_level level, enum ld_log_format format)
{
    ld_log_set_level(level);
    current_format = format;
}

void ld_log_set_level(enum ld_log_level level)
{
    __atomic_store_n(&current_level, (int)level, __ATOMIC_RELAXED);
}

bool ld_log_is_on(enum ld_log_level level)
{
    return (int)level >= __atomic_load_n(&current_level, __ATOMIC_RELAXED);
}

int ld_log_level_parse(const char *name, enum ld_log_level *ret)
{
    for (size_t i = 0; i < LD_ARRAY_LEN(levels); i++) {
        if (strcmp(name, levels[i].name) == 0) {
            *ret = (enum ld_log_level)i;
            return 0;
        }
    }
    return -EINVAL;
}

int ld_log_format_parse(const char *name, enum ld_log_format *ret)
{
    for (size_t i = 0; i < LD_ARRAY_LEN(formats); i++) {
        if (strcmp(name, formats[i]) == 0) {
            *ret = (enum ld_log_format)i;
            return 0;
        }
    }
    return -EINVAL;
}

/* A newline or an escape sequence in a name must not forge a line or drive a terminal. */
static void add_escaped(struct ld_buf *out, const char *text, bool json)
{
    for (const unsigned char *p = (const unsigned char *)text; *p; p++) {
        if (*p < 0x20 || *p == 0x7f)
            ld_buf_addf(out, json ? "\\u%04x" : "\\x%02x", *p);
        else if (json && (*p == '"' || *p == '\\'))
            ld_buf_addf(out, "\\%c", *p);
        else
            ld_buf_addc(out, (char)*p);
    }
}

static void add_field(struct ld_buf *out, const char *key, const char *value, bool json)
{
    if (!value || !*value)
        return;
    ld_buf_addf(out, json ? ",\"%s\":\"" : " %s=", key);
    add_escaped(out, value, json);
    if (json)
        ld_buf_addc(out, '"');
}

static void add_time(struct ld_buf *out)
{
    struct timespec now;
    struct tm tm;

    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &tm);
    ld_buf_addf(out, "%04d-%02d-%02dT%02d:%02d:%02d.%03ldZ", tm.tm_year + 1900, tm.tm_mon + 1,
                tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec, now.tv_nsec / 1000000);
}

static void write_line(const struct ld_log_ctx *ctx, enum ld_log_level level, const char *message)
{
    autobuf struct ld_buf line = LD_BUF_INIT(16384);
    bool json = current_format == LD_LOG_JSON;

    ld_buf_adds(&line, json ? "{\"time\":\"" : "");
    add_time(&line);
    ld_buf_addf(&line, json ? "\",\"level\":\"%s\",\"message\":\"" : " %-5s ", levels[level].name);
    add_escaped(&line, message, json);
    if (json)
        ld_buf_addc(&line, '"');
    add_field(&line, "request_id", ctx->request_id, json);
    add_field(&line, "job", ctx->job, json);
    add_field(&line, "object", ctx->object, json);
    if (ctx->uid >= 0)
        ld_buf_addf(&line, json ? ",\"uid\":%ld,\"pid\":%ld" : " uid=%ld pid=%ld", ctx->uid,
                    ctx->pid);
    ld_buf_adds(&line, json ? "}\n" : "\n");
    (void)!ld_write_full(STDERR_FILENO, line.data, line.len); /* nowhere to tell it */
}

static void send_to_journal(const struct ld_log_ctx *ctx, enum ld_log_level level,
                            const char *message)
{
    autobuf struct ld_buf text = LD_BUF_INIT(8192);

    add_escaped(&text, message, false);
    (void)sd_journal_send("MESSAGE=%s", ld_buf_str(&text), "PRIORITY=%d", levels[level].priority,
                          "LAYERD_REQUEST=%s", ctx->request_id ? ctx->request_id : "",
                          "LAYERD_JOB=%s", ctx->job ? ctx->job : "", "LAYERD_OBJECT=%s",
                          ctx->object ? ctx->object : "", "LAYERD_PEER_UID=%ld", ctx->uid,
                          "LAYERD_PEER_PID=%ld", ctx->pid, NULL);
}

void ld_log_with(const struct ld_log_ctx *ctx, enum ld_log_level level, const char *fmt, ...)
{
    int saved = errno;
    char message[2048];
    va_list ap;

    if (!ld_log_is_on(level))
        return;
    va_start(ap, fmt);
    (void)vsnprintf(message, sizeof(message), fmt, ap); /* a longer one is cut */
    va_end(ap);
    if (current_format == LD_LOG_JOURNAL)
        send_to_journal(ctx, level, message);
    else
        write_line(ctx, level, message);
    errno = saved;
}
