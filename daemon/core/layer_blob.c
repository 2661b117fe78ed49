/* Kept blobs: see layer_blob.h. */
#include "daemon/core/layer_blob.h"

#include <errno.h>
#include <sys/stat.h>

#include "daemon/base/fdio.h"
#include "daemon/base/log.h"
#include "daemon/base/mem.h"
#include "daemon/core/layer_names.h"
#include "daemon/core/layer_tar.h"
#include "daemon/core/state.h"
#include "daemon/core/trash.h"
#include "daemon/image/sink.h"
#include "daemon/jobs/lane.h"

enum { CHUNK = 256 << 10 };

bool ld_layer_blob_is(struct ld_core *core, ld_sid sid, const struct ld_digest *digest,
                      uint64_t size)
{
    LD_AUTO(ld_kept_blob_done) struct ld_kept_blob blob = {.digest = NULL};
    autoclose int fd = -EBADF;
    struct ld_err ignored = LD_ERR_INIT;
    struct ld_digest kept;
    struct stat st;

    if (ld_store_blob_get(core->store, sid, &blob, &ignored) < 0 ||
        ld_digest_parse(blob.digest, &kept) < 0 || !ld_digest_equal(&kept, digest) ||
        blob.size != size)
        return false;
    fd = ld_layer_open_part(core, sid, ".blob", 0);
    return fd >= 0 && fstat(fd, &st) == 0 && (uint64_t)st.st_size == size;
}

static int copy(int fd, struct ld_sink *sink, const bool *cancel, struct ld_err *err)
{
    autofree char *chunk = ld_alloc0(CHUNK);
    uint64_t offset = 0;
    ssize_t n;

    while ((n = ld_pread_some(fd, chunk, CHUNK, offset)) > 0) {
        if (ld_flag_is_set(cancel))
            return ld_err_set(err, LD_E_CANCELED, "cancelled");
        if (ld_sink_write(sink, chunk, (size_t)n, err) < 0)
            return -1;
        offset += (uint64_t)n;
    }
    return n < 0 ? ld_err_sys(err, (int)n, "read the layer's blob") : 0;
}

static int write_verified(struct ld_core *core, ld_sid sid, const struct ld_digest *digest,
                          struct ld_sink *sink, const bool *cancel, struct ld_err *err)
{
    autoclose int fd = ld_layer_open_part(core, sid, ".blob", 0);
    auto_sink *hashed = ld_sink_digest_new(sink);
    struct ld_digest got;

    if (fd == -ENOENT)
        return ld_err_set(err, LD_E_CORRUPT, "it is missing");
    if (fd < 0)
        return ld_err_sys(err, fd, "open it");
    if (copy(fd, hashed, cancel, err) < 0)
        return -1;
    got = ld_sink_digest_final(hashed);
    return ld_digest_equal(&got, digest)
               ? 0
               : ld_err_set(err, LD_E_CORRUPT, "its content is not that of its digest any more");
}

int ld_layer_write_blob(struct ld_core *core, ld_sid sid, const struct ld_digest *digest,
                        struct ld_sink *sink, const bool *cancel, struct ld_err *err)
{
    char text[LD_DIGEST_TEXT];

    if (write_verified(core, sid, digest, sink, cancel, err) == 0)
        return 0;
    ld_digest_format(digest, text);
    (void)ld_err_prefix(err, "blob %s", text);
    if (err->code == LD_E_CORRUPT) {
        ld_error("layer %" LD_PRI_SID ": %s; it is not kept any more", sid, err->message);
        ld_layer_drop_blob(core, sid);
    }
    return -1;
}

/* A file without a record is deleted by the next start. */
void ld_layer_drop_blob(struct ld_core *core, ld_sid sid)
{
    struct ld_err err = LD_ERR_INIT;

    if (ld_store_blob_forget(core->store, &LD_WRITE_SELF, sid, &err) < 0) {
        ld_warn("forget the blob of layer %" LD_PRI_SID ": %s", sid, err.message);
        return;
    }
    ld_trash_discard(core, core->root.layers_fd, ld_layer_name(sid, ".blob").text);
    ld_core_kick_reaper(core);
}
