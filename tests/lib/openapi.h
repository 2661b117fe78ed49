/* Holds a request and its reply against openapi.yaml.
 *
 * Looked at: that the path and method are described (else 405 with Allow, or 404), the status, the
 * headers (required ones there, values right, none that is not described), the media type, the
 * body, each line of an NDJSON body, the error code (its status, and that the operation may answer
 * it), and for requests that were accepted that their query keys, header and JSON body are allowed.
 * Any thread.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "daemon/base/cleanup.h"

struct cJSON;

struct ld_openapi_header {
    const char *name;
    const char *value;
};

struct ld_openapi_exchange {
    const char *method;
    const char *target;       /* path and query, as sent: "/v1/containers/web?size=1" */
    const char *request_type; /* its Content-Type, or NULL */
    const char *request_body; /* NULL: none, or not looked at */
    int status;
    const struct ld_openapi_header *headers;
    size_t n_headers;
    const char *body; /* NUL added */
    size_t body_len;
    bool is_cut; /* the reader stopped early: an unfinished last line is fine */
};

struct ld_openapi; /* the document */

/* path NULL: $LD_OPENAPI, else openapi.yaml of the source tree the test was built in. Aborts when
 * it cannot be read. */
struct ld_openapi *ld_openapi_open(const char *path);
void ld_openapi_free(struct ld_openapi *api);
const struct cJSON *ld_openapi_root(const struct ld_openapi *api);

/* NULL: all is as described. Else the problem; free it. */
char *ld_openapi_check(const struct ld_openapi *api,
                       const struct ld_openapi_exchange *exchange) ld_must_check;

/* "createContainer" for what a method and target mean; NULL: nothing. */
const char *ld_openapi_operation_id(const struct ld_openapi *api, const char *method,
                                    const char *target);
