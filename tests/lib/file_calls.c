#include "tests/lib/file_calls.h"

#include <archive.h>
#include <archive_entry.h>
#include <criterion/criterion.h>

#include "daemon/base/buf.h"
#include "daemon/base/mem.h"
#include "tests/lib/client.h"

const char ld_octets[] = "application/octet-stream";
const char ld_tar_type[] = "application/x-tar";

const struct ld_reply *ld_get_files(struct ld_client *c, const char *owner, const char *query,
                                    const char *accept)
{
    autofree char *target = ld_asprintf("/v1/%s/files?%s", owner, query);
    autofree char *header = accept ? ld_asprintf("Accept: %s", accept) : NULL;

    return ld_call(c, &(struct ld_call){.method = "GET",
                                        .target = target,
                                        .headers = (const char *[]){header, NULL}});
}

const struct ld_reply *ld_put_files(struct ld_client *c, const char *owner, const char *query,
                                    const char *type, const void *data, size_t len)
{
    autofree char *target = ld_asprintf("/v1/%s/files?%s", owner, query);

    return ld_call(c, &(struct ld_call){.method = "PUT",
                                        .target = target,
                                        .content_type = type,
                                        .body = data,
                                        .body_len = len});
}

char *ld_names_in_tar(const struct ld_reply *reply)
{
    autobuf struct ld_buf names = LD_BUF_INIT(1 << 20);
    struct archive *a = archive_read_new();
    struct archive_entry *e;

    cr_assert_eq(archive_read_support_format_tar(a), ARCHIVE_OK);
    cr_assert_eq(archive_read_open_memory(a, reply->body, reply->len), ARCHIVE_OK);
    while (archive_read_next_header(a, &e) == ARCHIVE_OK)
        ld_buf_addf(&names, "%s%s", names.len ? " " : "", archive_entry_pathname(e));
    archive_read_free(a);
    return ld_buf_take(&names);
}
