/* Lists: see list.h. A page is read, rendered into one buffer and sent; no statement of the
 * database is open while the client is waited for. */
#include "api/list.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cjson/cJSON.h>

#include "api/call.h"
#include "api/reply.h"
#include "api/request.h"
#include "daemon/base/buf.h"
#include "daemon/base/clock.h"
#include "daemon/base/mem.h"
#include "daemon/base/parse.h"

enum { FLUSH_BYTES = 128 << 10, MAX_BUFFER = 64 << 20 };

struct ld_list {
    struct ld_stream *stream;
    struct ld_buf buf;
    size_t n;
};

static bool is_allowed(const char *allowed, const char *key)
{
    size_t len = strlen(key);

    for (const char *p = allowed; len && (p = strstr(p, key)); p += len) {
        if ((p == allowed || p[-1] == ' ') && (p[len] == ' ' || p[len] == '\0'))
            return true;
    }
    return false;
}

static int read_one(struct ld_filters *f, const char *text, const char *allowed, struct ld_err *err)
{
    const char *eq = strchr(text, '=');
    char *value;

    if (!eq) {
        (void)ld_err_set(err, LD_E_INVALID, "the filter '%s' is not KEY=VALUE", text);
        return ld_err_details(err, "{\"parameter\":\"filter\"}");
    }
    f->key[f->n] = ld_strndup(text, (size_t)(eq - text));
    f->value[f->n] = ld_strdup(eq + 1);
    if (!is_allowed(allowed, f->key[f->n++])) {
        (void)ld_err_set(err, LD_E_INVALID, "there is no filter '%s' here", f->key[f->n - 1]);
        (void)ld_err_hint(err, "filters are: %s", *allowed ? allowed : "none");
        return ld_err_details(err, "{\"parameter\":\"filter\"}");
    }
    if (strcmp(f->key[f->n - 1], "label") != 0)
        return 0;
    value = strchr(f->value[f->n - 1], '=');
    if (value)
        *value++ = '\0';
    f->label[f->n_labels++] = (struct ld_label){.key = f->value[f->n - 1], .value = value};
    return 0;
}

int ld_filters_read(const struct ld_request *req, const char *allowed, struct ld_filters *ret,
                    struct ld_err *err)
{
    const char *text;

    *ret = (struct ld_filters){.n = 0};
    while ((text = ld_request_query_at(req, "filter", ret->n))) {
        if (ret->n == LD_MAX_FILTERS)
            return ld_err_set(err, LD_E_INVALID, "more than %d filters", LD_MAX_FILTERS);
        if (read_one(ret, text, allowed, err) < 0)
            return -1;
    }
    return 0;
}

void ld_filters_done(struct ld_filters *f)
{
    for (size_t i = 0; i < f->n; i++) {
        ld_free_p(&f->key[i]);
        ld_free_p(&f->value[i]);
    }
    f->n = 0;
    f->n_labels = 0;
}

const char *ld_filter_get(const struct ld_filters *f, const char *key)
{
    for (size_t i = f->n; i-- > 0;) {
        if (strcmp(f->key[i], key) == 0)
            return f->value[i];
    }
    return NULL;
}

int ld_filter_bool(const struct ld_filters *f, const char *key, int *ret, struct ld_err *err)
{
    const char *text = ld_filter_get(f, key);
    bool value;

    *ret = 0;
    if (!text)
        return 0;
    if (ld_parse_bool(text, &value) < 0)
        return ld_err_set(err, LD_E_INVALID, "the filter %s='%s' is neither 1 nor 0", key, text);
    *ret = value ? 1 : -1;
    return 0;
}

int ld_filter_until(const struct ld_filters *f, int64_t *ret_ns, struct ld_err *err)
{
    const char *text = ld_filter_get(f, "until");
    uint64_t ago_ms;
    int64_t seconds;

    *ret_ns = 0;
    if (!text)
        return 0;
    if (ld_parse_seconds(text, &ago_ms) == 0 && ago_ms < UINT64_C(1) << 43) {
        *ret_ns = ld_now_ns() - (int64_t)ago_ms * 1000000;
        return 0;
    }
    if (ld_parse_time(text, &seconds) < 0 || __builtin_mul_overflow(seconds, 1000000000, ret_ns))
        return ld_err_set(err, LD_E_INVALID,
                          "the filter until='%s' is neither a time nor a duration like 24h", text);
    return 0;
}

static int flush(struct ld_list *list, struct ld_err *err)
{
    int rc = 0;

    if (ld_buf_check(&list->buf) < 0)
        return ld_err_set(err, LD_E_INTERNAL, "an item of the list is too large");
    if (list->buf.len)
        rc = ld_stream_write(list->stream, list->buf.data, list->buf.len, err);
    ld_buf_clear(&list->buf);
    return rc;
}

int ld_list_item(struct ld_list *list, struct cJSON *item, struct ld_err *err)
{
    autofree char *text = cJSON_PrintUnformatted(item);

    cJSON_Delete(item);
    if (!text)
        return ld_err_set(err, LD_E_UNAVAILABLE, "no memory for the list");
    if (list->n++)
        ld_buf_addc(&list->buf, ',');
    ld_buf_adds(&list->buf, text);
    return list->buf.len > FLUSH_BYTES ? flush(list, err) : 0;
}

static int produce(struct ld_stream *stream, void *arg, struct ld_err *err)
{
    struct ld_lister *lister = arg;
    struct ld_list list = {.stream = stream, .buf = LD_BUF_INIT(MAX_BUFFER)};
    uint64_t next = lister->after;
    int rc = 0;

    ld_buf_adds(&list.buf, "{\"items\":[");
    do {
        size_t want = lister->limit ? lister->limit - list.n : 0;

        rc = lister->page(lister, next, want, &list, &next, err);
    } while (rc == 0 && next && (!lister->limit || list.n < lister->limit));
    if (next)
        ld_buf_addf(&list.buf, "],\"next\":\"%" PRIu64 "\"}", next);
    else
        ld_buf_adds(&list.buf, "],\"next\":null}");
    if (rc == 0)
        rc = flush(&list, err);
    ld_buf_done(&list.buf);
    return rc;
}

static void free_lister(void *arg)
{
    struct ld_lister *lister = arg;

    if (lister->free)
        lister->free(lister);
    ld_filters_done(&lister->filters);
    free(lister);
}

void ld_reply_list(struct ld_request *req, struct ld_lister *lister, const char *filters)
{
    struct ld_producer producer = {.run = produce,
                                   .free = free_lister,
                                   .arg = lister,
                                   .status = 200,
                                   .content_type = "application/json"};
    struct ld_err err = LD_ERR_INIT;
    uint64_t limit = 0;

    lister->core = ld_request_core(req);
    if (ld_request_u64(req, "limit", 1, LD_STORE_PAGE_MAX, &limit, &err) < 0 ||
        ld_request_u64(req, "after", 1, UINT64_MAX, &lister->after, &err) < 0 ||
        ld_filters_read(req, filters, &lister->filters, &err) < 0) {
        ld_reply_error(req, &err);
        free_lister(lister);
        return;
    }
    lister->limit = limit;
    ld_reply_stream(req, &producer);
}
