/* Images and layers as JSON. Workers (they read the store). */
#pragma once

#include "daemon/base/err.h"
#include "daemon/store/records.h"

struct cJSON;
struct ld_core;

/* A list's item, the whole object, the steps of its making; NULL with err. */
struct cJSON *ld_image_summary_json(struct ld_core *core, const struct ld_image *image,
                                    struct ld_err *err);
struct cJSON *ld_image_json(struct ld_core *core, const struct ld_image *image, struct ld_err *err);
struct cJSON *ld_image_history_json(struct ld_core *core, const struct ld_image *image,
                                    struct ld_err *err);

struct cJSON *ld_layer_json(struct ld_core *core, const struct ld_layer *layer, bool with_users,
                            struct ld_err *err);
