/* Labels: see labels.h. */
#include "client/labels.h"

#include <string.h>

#include "daemon/base/err.h"
#include "daemon/base/mem.h"

static void set(cJSON *labels, const char *key, cJSON *value)
{
    cJSON_DeleteItemFromObjectCaseSensitive(labels, key);
    (void)cJSON_AddItemToObject(labels, key, value);
}

int ld_labels_from_args(const struct ld_args *args, cJSON *body, struct ld_err *err)
{
    const char *text;
    cJSON *labels = NULL;

    for (size_t i = 0; (text = ld_args_nth(args, "label", i)); i++) {
        size_t len = strcspn(text, "=");
        autofree char *key = ld_strndup(text, len);

        if (len == 0)
            return ld_err_set(err, LD_E_INVALID, "the label '%s' has no key", text);
        if (!labels)
            labels = cJSON_AddObjectToObject(body, "labels");
        set(labels, key, cJSON_CreateString(text[len] ? text + len + 1 : ""));
    }
    return 0;
}

int ld_labels_patch(cJSON *labels, const char *text, struct ld_err *err)
{
    const char *equals = strchr(text, '=');
    size_t len = equals ? (size_t)(equals - text) : strlen(text);
    bool removes = !equals && len > 1 && text[len - 1] == '-';
    autofree char *key = ld_strndup(text, removes ? len - 1 : len);

    if (len == 0 || (!equals && !removes)) {
        (void)ld_err_set(err, LD_E_INVALID, "'%s' is no change of a label", text);
        return ld_err_hint(err, "KEY=VALUE sets one, KEY- removes it");
    }
    set(labels, key, removes ? cJSON_CreateNull() : cJSON_CreateString(equals + 1));
    return 0;
}
