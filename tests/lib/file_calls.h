/* Files of a container or a volume through the API. */
#pragma once

#include <stddef.h>

struct ld_client;
struct ld_reply;

extern const char ld_octets[], ld_tar_type[]; /* media types */

/* owner: "containers/NAME" or "volumes/NAME"; query: "path=…"; accept: NULL: none. */
const struct ld_reply *ld_get_files(struct ld_client *c, const char *owner, const char *query,
                                    const char *accept);
const struct ld_reply *ld_put_files(struct ld_client *c, const char *owner, const char *query,
                                    const char *type, const void *data, size_t len);
/* The names in a tar, joined by blanks; the caller's. */
char *ld_names_in_tar(const struct ld_reply *reply);
