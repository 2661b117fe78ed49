/* Snapshots as clients see them, of a container or of a volume: `kind` names the owner in the
 * answer, `owner` is its id. Loop thread, but the JSON. */
#pragma once

#include "daemon/store/records.h"

struct cJSON;
struct ld_request;

struct cJSON *ld_snapshot_json(const char *kind, const struct ld_snapshot *s); /* any thread */
void ld_reply_snapshots(struct ld_request *req, const char *kind, const char *owner);
/* The one that the path names. */
void ld_reply_snapshot(struct ld_request *req, const char *kind, const char *owner);
