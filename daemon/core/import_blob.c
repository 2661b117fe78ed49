/* Blobs that an import keeps: see import_impl.h. A copy of the blob's bytes in the spool goes
 * beside the layer. A layer's blob that is its tar is not kept: the recipe gives it. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

#include "daemon/base/fdio.h"
#include "daemon/base/log.h"
#include "daemon/base/mem.h"
#include "daemon/core/import_impl.h"
#include "daemon/core/layer_names.h"
#include "daemon/image/archive.h"
#include "daemon/jobs/lane.h"

enum { CHUNK = 256 << 10 };

bool ld_import_wants_blob(const struct ld_import *imp, const struct ld_import_task *task)
{
    const struct ld_archive_layer *layer = task->layer;

    return imp->keeps_blobs && !task->has_blob && layer->has_blob &&
           !ld_digest_equal(&layer->blob, &task->diff_id);
}

static bool is_kept_already(const struct ld_import *imp, const struct ld_import_task *task)
{
    LD_AUTO(ld_kept_blob_done) struct ld_kept_blob blob = {.digest = NULL};
    struct ld_err ignored = LD_ERR_INIT;

    return task->how == LD_LAYER_REUSED &&
           ld_store_blob_get(imp->core->store, task->sid, &blob, &ignored) == 0;
}

static int copy(const struct ld_import *imp, const struct ld_archive_span *span, int to,
                const bool *cancel, struct ld_err *err)
{
    autofree char *chunk = ld_alloc0(CHUNK);

    for (uint64_t done = 0; done < span->size;) {
        uint64_t left = span->size - done;
        size_t n = left < CHUNK ? (size_t)left : CHUNK;
        int r = ld_pread_full(ld_archive_fd(imp->archive), chunk, n, span->offset + done);

        if (ld_flag_is_set(cancel))
            return ld_err_set(err, LD_E_CANCELED, "cancelled");
        if (r == 0)
            r = ld_write_full(to, chunk, n);
        if (r < 0)
            return ld_err_sys(err, r, "keep the blob");
        done += n;
    }
    return 0;
}

/* As the manifest says; where there was none, as the first bytes say. */
static const char *media_type_of(const struct ld_import *imp, const struct ld_archive_layer *layer)
{
    unsigned char head[LD_CODEC_HEAD] = {0};

    if (layer->media_type)
        return layer->media_type;
    if (layer->span.size >= sizeof(head) &&
        ld_pread_full(ld_archive_fd(imp->archive), head, sizeof(head), layer->span.offset) == 0) {
        switch (ld_codec_detect(head, sizeof(head))) {
        case LD_CODEC_GZIP:
            return "application/vnd.oci.image.layer.v1.tar+gzip";
        case LD_CODEC_ZSTD:
            return "application/vnd.oci.image.layer.v1.tar+zstd";
        default:
            break;
        }
    }
    return "application/octet-stream";
}

int ld_import_stage_blob(struct ld_import *imp, struct ld_import_task *task, const bool *cancel,
                         struct ld_err *err)
{
    struct ld_layer_name name;
    autoclose int fd = -EBADF;

    if (!ld_import_wants_blob(imp, task) || is_kept_already(imp, task))
        return 0;
    if (!task->staged_sid && ld_store_take_sid(imp->core->store, &task->staged_sid, err) < 0)
        return -1;
    name = ld_layer_name(task->staged_sid, ".blob");
    fd = openat(imp->core->root.staging_fd, name.text,
                O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return ld_err_sys(err, -errno, "make 'staging/%s'", name.text);
    if (copy(imp, &task->layer->span, fd, cancel, err) < 0)
        return -1;
    task->has_blob = true;
    task->blob_type = media_type_of(imp, task->layer); /* now: the spool gives up its parts later */
    return 0;
}

/* Who was faster has the same right: then theirs stays. */
int ld_import_publish_blob(struct ld_import *imp, struct ld_import_task *task, struct ld_err *err)
{
    struct ld_layer_name from = ld_layer_name(task->staged_sid, ".blob");
    struct ld_layer_name to = ld_layer_name(task->sid, ".blob");

    if (task->how != LD_LAYER_REUSED || !task->has_blob)
        return 0;
    if (renameat2(imp->core->root.staging_fd, from.text, imp->core->root.layers_fd, to.text,
                  RENAME_NOREPLACE) == 0) {
        task->is_blob_published = true;
        return 0;
    }
    if (errno != EEXIST)
        return ld_err_sys(err, -errno, "move '%s' into place", to.text);
    task->has_blob = false;
    return 0;
}

/* What stays behind has no record: the next start deletes it. */
void ld_import_unpublish_blob(struct ld_import *imp, struct ld_import_task *task)
{
    const struct ld_root *root = &imp->core->root;
    struct ld_layer_name from = ld_layer_name(task->sid, ".blob");
    struct ld_layer_name to = ld_layer_name(task->staged_sid, ".blob");

    if (!task->is_blob_published)
        return;
    task->is_blob_published = false;
    if (renameat2(root->layers_fd, from.text, root->staging_fd, to.text, RENAME_NOREPLACE) < 0 &&
        renameat2(root->trash_fd, from.text, root->staging_fd, to.text, RENAME_NOREPLACE) < 0)
        task->has_blob = false;
}

void ld_import_record_blob(const struct ld_import_task *task, struct ld_kept_blob *ret)
{
    char digest[LD_DIGEST_TEXT];

    if (!task->has_blob || (task->how == LD_LAYER_REUSED && !task->is_blob_published))
        return;
    ld_digest_format(&task->layer->blob, digest);
    *ret = (struct ld_kept_blob){.digest = ld_strdup(digest),
                                 .media_type = ld_strdup(task->blob_type),
                                 .size = task->layer->span.size};
}
