#include "api/snapshot_list.h"

#include <string.h>

#include <cjson/cJSON.h>

#include "api/call.h"
#include "api/json.h"
#include "api/list.h"
#include "api/reply.h"
#include "api/request.h"
#include "daemon/base/mem.h"
#include "daemon/core/core.h"

cJSON *ld_snapshot_json(const char *kind, const struct ld_snapshot *s)
{
    cJSON *json = cJSON_CreateObject();

    cJSON_AddStringToObject(json, "id", s->id);
    cJSON_AddItemToObject(json, "name", ld_json_text(s->name));
    cJSON_AddStringToObject(json, kind, s->owner_id);
    cJSON_AddItemToObject(json, "labels", ld_json_raw(s->labels, "{}"));
    cJSON_AddStringToObject(json, "consistency", s->fuzzy ? "fuzzy" : "exact");
    cJSON_AddItemToObject(json, "created_at", ld_json_time(s->created_ns));
    cJSON_AddItemToObject(json, "version", ld_json_u64(s->version));
    return json;
}

struct snapshot_lister {
    struct ld_lister base;
    const char *kind; /* static */
    char owner[65];
};

static int list_page(struct ld_lister *lister, uint64_t after, size_t limit, struct ld_list *list,
                     uint64_t *ret_next, struct ld_err *err)
{
    const struct snapshot_lister *l = (struct snapshot_lister *)lister;
    struct ld_snapshot_page page LD_AUTO(ld_snapshot_page_done) = {.n = 0};
    struct ld_snapshot_query query = {.owner = l->owner,
                                      .after = after,
                                      .limit = limit,
                                      .name_glob = ld_filter_get(&lister->filters, "name"),
                                      .labels = lister->filters.label,
                                      .n_labels = lister->filters.n_labels};

    if (ld_filter_until(&lister->filters, &query.until_ns, err) < 0 ||
        ld_store_snapshot_list(ld_core_store(lister->core), &query, &page, err) < 0)
        return -1;
    *ret_next = page.next;
    for (size_t i = 0; i < page.n; i++) {
        if (ld_list_item(list, ld_snapshot_json(l->kind, &page.item[i]), err) < 0)
            return -1;
    }
    return 0;
}

void ld_reply_snapshots(struct ld_request *req, const char *kind, const char *owner)
{
    struct snapshot_lister *l = ld_new(struct snapshot_lister);

    l->base.page = list_page;
    l->kind = kind;
    memcpy(l->owner, owner, strlen(owner) + 1); /* an id, 64 digits */
    ld_reply_list(req, &l->base, "name label until");
}

void ld_reply_snapshot(struct ld_request *req, const char *kind, const char *owner)
{
    struct ld_snapshot s LD_AUTO(ld_snapshot_done) = {.id = NULL};
    struct ld_err err = LD_ERR_INIT;

    if (ld_store_snapshot_find(ld_core_store(ld_request_core(req)), owner,
                               ld_request_param(req, "snapshot"), &s, &err) < 0)
        return ld_reply_error(req, &err);
    ld_reply_object(req, 200, s.version, ld_snapshot_json(kind, &s));
}
