/* What a removal would remove: see dry_run.h. */
#include "api/dry_run.h"

#include <stdlib.h>
#include <string.h>

#include <cjson/cJSON.h>

#include "api/call.h"
#include "api/json.h"
#include "daemon/base/mem.h"
#include "daemon/core/image.h"
#include "daemon/core/trash.h"
#include "daemon/store/records.h"

void ld_call_dry_run(struct ld_call *call)
{
    call->w.dry_run = ld_request_flag(call->req, "dry_run");
    if (call->w.dry_run)
        call->op.lane = LD_LANE_COPY;
}

int ld_call_measure(struct ld_call *call, struct ld_removed *removed, struct ld_err *err)
{
    return call->w.dry_run ? ld_trash_measure(call->core, removed, &call->op.cancel, err) : 0;
}

/* References are shown by their short names. */
static cJSON *name_json(const struct ld_removed_object *object)
{
    bool is_ref = strcmp(object->kind, "image") == 0 || strcmp(object->kind, "reference") == 0;
    autofree char *shown = object->name && is_ref ? ld_image_short_ref(object->name) : NULL;

    return ld_json_text(shown ? shown : object->name);
}

struct cJSON *ld_removed_objects_json(const struct ld_removed *removed)
{
    cJSON *list = cJSON_CreateArray();

    for (size_t i = 0; i < removed->n_objects; i++) {
        const struct ld_removed_object *object = &removed->object[i];
        cJSON *item = cJSON_CreateObject();

        cJSON_AddStringToObject(item, "kind", object->kind);
        cJSON_AddItemToObject(item, "id", ld_json_text(object->id));
        cJSON_AddItemToObject(item, "name", name_json(object));
        cJSON_AddItemToObject(item, "bytes", ld_json_u64(object->bytes));
        cJSON_AddItemToArray(list, item);
    }
    return list;
}

struct cJSON *ld_dry_run_json(const struct ld_removed *removed)
{
    cJSON *json = cJSON_CreateObject();
    uint64_t bytes = 0;

    for (size_t i = 0; i < removed->n_objects; i++)
        bytes += removed->object[i].bytes;
    cJSON_AddItemToObject(json, "would_remove", ld_removed_objects_json(removed));
    cJSON_AddItemToObject(json, "bytes", ld_json_u64(bytes));
    return json;
}
