/* JSON Schema, the subset openapi.yaml uses: a value either fits or the first thing wrong with it
 * is told.
 *
 * Known: $ref (to "#/…", siblings count too), type, enum, const, pattern (POSIX extended),
 * minLength, maxLength, minimum, maximum, items, minItems, maxItems, properties, required,
 * additionalProperties, unevaluatedProperties: false, maxProperties, allOf, oneOf. Annotations and
 * x- words are passed over. Any other word is a problem of its own, so that no rule is silently not
 * checked. Any thread.
 */
#pragma once

#include <stdbool.h>

struct cJSON;
struct ld_buf;

/* root: where references lead. what: names the value in `problem` ("body", "line 3"). False:
 * problem has text appended; a member that is there twice does not fit either. */
bool ld_schema_fits(const struct cJSON *root, const struct cJSON *schema, const struct cJSON *value,
                    const char *what, struct ld_buf *problem);

/* The node a reference "#/a/b" leads to, through further references; node itself when it has none;
 * NULL: nowhere. */
const struct cJSON *ld_schema_deref(const struct cJSON *root, const struct cJSON *node);
