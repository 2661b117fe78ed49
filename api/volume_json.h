/* Volumes as JSON. Any thread. */
#pragma once

#include "daemon/store/records.h"

struct cJSON;

struct cJSON *ld_volume_json(const struct ld_volume *v, const struct ld_users *users);
