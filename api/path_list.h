/* Lists of paths as streamed JSON: {"items":[…],"next":CURSOR}. The cursor is the path of the last
 * item: "/a/b", or "b64:…" where it is not UTF-8. The producer's worker. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "daemon/base/buf.h"

struct cJSON;
struct ld_err;
struct ld_request;
struct ld_stream;

/* `limit` and `after` of the request; *ret_after NULL: from the first. Free it. */
int ld_path_list_query(const struct ld_request *req, size_t *ret_limit, char **ret_after,
                       struct ld_err *err);

struct ld_path_list {
    struct ld_stream *stream; /* borrowed */
    struct ld_buf buf;
    size_t n, limit; /* 0: none */
    char *last;      /* path of the last item sent */
    bool more;       /* there was one more than the limit */
};
void ld_path_list_begin(struct ld_path_list *ret, struct ld_stream *stream, size_t limit);
/* Takes the item. 1: the limit was reached before it. */
int ld_path_list_add(struct ld_path_list *list, struct cJSON *item, const char *path,
                     struct ld_err *err);
int ld_path_list_end(struct ld_path_list *list, struct ld_err *err);
void ld_path_list_done(struct ld_path_list *list);
