/* Lists of paths: see path_list.h. */
#include "api/path_list.h"

#include <stdlib.h>
#include <string.h>

#include <cjson/cJSON.h>
#include <openssl/evp.h>

#include "api/json.h"
#include "api/reply.h"
#include "api/request.h"
#include "daemon/base/err.h"
#include "daemon/base/mem.h"

enum { MAX_LISTED = 1000, FLUSH_BYTES = 128 << 10 };

static void add_cursor(struct ld_buf *buf, const char *path)
{
    cJSON *json;
    bool exact = true;
    autofree char *text = NULL;

    if (!path) {
        ld_buf_adds(buf, "null");
        return;
    }
    json = ld_bytes_json(path, &exact);
    if (!exact) {
        size_t len = strlen(path);
        autofree char *b64 = ld_alloc0(len / 3 * 4 + 16);

        memcpy(b64, "b64:", 4);
        (void)EVP_EncodeBlock((unsigned char *)b64 + 4, (const unsigned char *)path, (int)len);
        cJSON_Delete(json);
        json = cJSON_CreateString(b64);
    }
    text = cJSON_PrintUnformatted(json);
    cJSON_Delete(json);
    ld_buf_adds(buf, text ? text : "null");
}

static int read_cursor(const char *text, char **ret, struct ld_err *err)
{
    size_t len = text ? strlen(text) : 0;
    int n;

    if (!text)
        return 0;
    if (text[0] == '/') {
        *ret = ld_strdup(text);
        return 0;
    }
    if (strncmp(text, "b64:", 4) == 0 && (len - 4) % 4 == 0 && len > 4) {
        *ret = ld_alloc0(len);
        n = EVP_DecodeBlock((unsigned char *)*ret, (const unsigned char *)text + 4, (int)len - 4);
        if (n > 0 && **ret == '/')
            return 0;
    }
    return ld_err_set(err, LD_E_INVALID, "'after' is not the 'next' of an earlier page");
}

int ld_path_list_query(const struct ld_request *req, size_t *ret_limit, char **ret_after,
                       struct ld_err *err)
{
    uint64_t limit = 0;

    if (ld_request_u64(req, "limit", 1, MAX_LISTED, &limit, err) < 0)
        return -1;
    *ret_limit = limit;
    return read_cursor(ld_request_query(req, "after"), ret_after, err);
}

void ld_path_list_begin(struct ld_path_list *ret, struct ld_stream *stream, size_t limit)
{
    *ret = (struct ld_path_list){.stream = stream, .buf = LD_BUF_INIT(64 << 20), .limit = limit};
    ld_buf_adds(&ret->buf, "{\"items\":[");
}

void ld_path_list_done(struct ld_path_list *list)
{
    ld_buf_done(&list->buf);
    free(list->last);
}

static int flush(struct ld_path_list *list, struct ld_err *err)
{
    int rc = ld_stream_write(list->stream, ld_buf_str(&list->buf), list->buf.len, err);

    ld_buf_clear(&list->buf);
    return rc;
}

int ld_path_list_add(struct ld_path_list *list, cJSON *item, const char *path, struct ld_err *err)
{
    autofree char *text = NULL;

    if (list->limit && list->n == list->limit) {
        cJSON_Delete(item);
        list->more = true;
        return 1;
    }
    text = cJSON_PrintUnformatted(item);
    cJSON_Delete(item);
    if (list->n++)
        ld_buf_addc(&list->buf, ',');
    ld_buf_adds(&list->buf, text);
    free(list->last);
    list->last = ld_strdup(path);
    return list->buf.len > FLUSH_BYTES ? flush(list, err) : 0;
}

int ld_path_list_end(struct ld_path_list *list, struct ld_err *err)
{
    ld_buf_adds(&list->buf, "],\"next\":");
    add_cursor(&list->buf, list->more ? list->last : NULL);
    ld_buf_addc(&list->buf, '}');
    return flush(list, err);
}
