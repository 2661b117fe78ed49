/* Lists: {"items": […], "next": CURSOR}, streamed page by page; and their filters. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/base/err.h"
#include "daemon/store/store.h"

struct cJSON;
struct ld_core;
struct ld_list;
struct ld_request;

enum { LD_MAX_FILTERS = 64 };

/* The filters of a request; strings are owned. */
struct ld_filters {
    char *key[LD_MAX_FILTERS], *value[LD_MAX_FILTERS];
    size_t n;
    struct ld_label label[LD_MAX_FILTERS]; /* those of key "label", split */
    size_t n_labels;
};
/* `allowed`: "name label state". invalid names an unknown one. Loop. */
int ld_filters_read(const struct ld_request *req, const char *allowed, struct ld_filters *ret,
                    struct ld_err *err);
void ld_filters_done(struct ld_filters *filters);
const char *ld_filter_get(const struct ld_filters *filters,
                          const char *key); /* the last; or NULL */
/* A boolean filter as 1, -1; 0: absent. A time or a duration ago as ns; 0: absent. */
int ld_filter_bool(const struct ld_filters *filters, const char *key, int *ret, struct ld_err *err);
int ld_filter_until(const struct ld_filters *filters, int64_t *ret_ns, struct ld_err *err);

/* How one kind of thing is listed. The owner's struct begins with this. */
struct ld_lister {
    struct ld_core *core;
    struct ld_filters filters;
    uint64_t after;
    size_t limit; /* of the request; 0: all */
    /* On a worker: reads up to `limit` rows after `after`, calls ld_list_item for each that passes
     * the filters, and says where the next page begins (0: there is none). */
    int (*page)(struct ld_lister *lister, uint64_t after, size_t limit, struct ld_list *list,
                uint64_t *ret_next, struct ld_err *err);
    void (*free)(struct ld_lister *lister); /* its own things; then the struct is freed */
};

/* Reads ?limit=, ?after= and ?filter=, then streams. Takes the lister (made by ld_alloc0). */
void ld_reply_list(struct ld_request *req, struct ld_lister *lister, const char *filters);
/* Takes the value. -1: the client has gone. */
int ld_list_item(struct ld_list *list, struct cJSON *item, struct ld_err *err);
