/* The import as a whole: see import.h for its phases. This file has the order of the phases, and
 * what happens when the records change under it: look again, and make only what is missing now. */
#include "daemon/core/import.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/base/buf.h"
#include "daemon/base/mem.h"
#include "daemon/core/config.h"
#include "daemon/core/decoder.h"
#include "daemon/core/import_impl.h"
#include "daemon/core/inflight.h"
#include "daemon/core/trash.h"
#include "daemon/core/xattr_probe.h"
#include "daemon/image/archive.h"
#include "daemon/image/ref.h"
#include "daemon/jobs/lane.h"

enum { MAX_ATTEMPTS = 5, MAX_WARNINGS = 200 };

void ld_import_warn(struct ld_import *imp, const char *fmt, ...)
{
    autobuf struct ld_buf text = LD_BUF_INIT(1024);
    va_list ap;

    if (imp->n_warnings == MAX_WARNINGS)
        return;
    va_start(ap, fmt);
    ld_buf_vaddf(&text, fmt, ap);
    va_end(ap);
    ld_grow(&imp->warnings, &imp->cap_warnings, imp->n_warnings + 1, sizeof(*imp->warnings));
    imp->warnings[imp->n_warnings++] = ld_buf_take(&text);
}

void ld_import_tell(const struct ld_import *imp, const char *phase, const struct ld_digest *id,
                    uint64_t current, uint64_t total)
{
    char text[LD_DIGEST_TEXT];

    if (!imp->options->progress)
        return;
    if (id)
        ld_digest_format(id, text);
    imp->options->progress(imp->options->progress_arg, phase, id ? text : NULL, current, total);
}

int ld_import_check(const struct ld_import_options *o, struct ld_err *err)
{
    enum ld_archive_format format;
    struct ld_reference ref;
    bool keeps_blobs;

    if (o->format && ld_archive_format_parse(o->format, &format) < 0)
        return ld_err_set(err, LD_E_INVALID,
                          "'%.50s' is not a format of archives: auto, oci, docker or "
                          "rootfs",
                          o->format);
    if (o->blobs && ld_blobs_parse(o->blobs, &keeps_blobs) < 0)
        return ld_err_set(err, LD_E_INVALID, "blobs '%.50s' is neither keep nor drop", o->blobs);
    if (!o->ref)
        return 0;
    if (ld_reference_parse(o->ref, &ref, err) < 0)
        return -1;
    if (ref.digest[0])
        return ld_err_set(err, LD_E_INVALID,
                          "'%.200s': an image cannot be given a digest as its name", o->ref);
    return 0;
}

/* One call on the copy lane: an archive that is compressed as a whole is decompressed here, and the
 * lane bounds how many decoders and tables of archives there are at once. */
static int open_archive(void *arg, size_t index, const bool *cancel, struct ld_err *err)
{
    struct ld_import *imp = arg;
    const struct ld_import_options *o = imp->options;
    struct ld_decoder_limits decoder;
    struct ld_archive_options options = {.ref = o->ref,
                                         .limits = &decoder.limits,
                                         .tmp_dir = imp->core->root.staging_fd,
                                         .cancel = o->cancel};
    char *const *warnings;
    uint64_t free_bytes;
    size_t n;

    (void)index;
    (void)cancel; /* follows the caller's own */
    if (ld_import_check(o, err) < 0 || ld_core_may_grow(imp->core, 0, err) < 0 ||
        ld_root_free_bytes(&imp->core->root, &free_bytes, err) < 0)
        return -1;
    ld_decoder_limits_init(&decoder, imp->core, o->cancel);
    decoder.limits.max_output = 0; /* of a whole archive: copy_space is its limit */
    if (o->format)
        (void)ld_archive_format_parse(o->format, &options.format); /* just checked */
    options.copy_space = free_bytes > imp->core->config->min_free_bytes
                             ? free_bytes - imp->core->config->min_free_bytes
                             : 1;
    ld_import_tell(imp, "plan", NULL, 0, imp->spool->size);
    if (ld_archive_open(imp->spool->fd, imp->spool->size, &options, &imp->archive, err) < 0)
        return -1;
    /* Once there is a decompressed copy nobody reads the spool again; a failure only costs space.
     */
    if (ld_archive_fd(imp->archive) != imp->spool->fd)
        (void)!ftruncate(imp->spool->fd, 0);
    warnings = ld_archive_warnings(imp->archive, &n);
    for (size_t i = 0; i < n; i++)
        ld_import_warn(imp, "%s", warnings[i]);
    ld_import_tell(imp, "plan", NULL, imp->spool->size, imp->spool->size);
    return 0;
}

/* The chain ID of a root file system is known only when it is unpacked. */
static bool is_rootfs(const struct ld_import *imp)
{
    return imp->n_images == 1 && imp->images[0].from->is_rootfs;
}

static int attempt(struct ld_import *imp, struct ld_err *err)
{
    if (is_rootfs(imp) && !imp->tasks[0].has_chain_id) {
        if (ld_import_unpack(imp, err) < 0)
            return -1;
        ld_import_name_rootfs(imp);
    }
    if (ld_import_look(imp, err) < 0 || ld_import_unpack(imp, err) < 0 ||
        ld_import_settle(imp, err) < 0)
        return -1;
    return ld_import_record(imp, err);
}

static int run(struct ld_import *imp, struct ld_err *err)
{
    struct ld_batch open = {.fn = open_archive, .arg = imp, .n = 1, .cancel = imp->options->cancel};
    int rc = -1;

    imp->sync_fd = openat(imp->core->root.data_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (imp->sync_fd < 0)
        return ld_err_sys(err, -errno, "open the data root");
    if (ld_lanes_run_all(imp->core->lanes, LD_LANE_COPY, &open, err) < 0)
        return -1;
    imp->keeps_blobs = imp->core->config->import.keep_blobs;
    if (imp->options->blobs)
        (void)ld_blobs_parse(imp->options->blobs, &imp->keeps_blobs); /* just checked */
    imp->escapes_xattrs = ld_core_escapes_xattrs(imp->core);
    ld_import_plan(imp);
    for (int n = 0; rc < 0 && n < MAX_ATTEMPTS; n++) {
        rc = attempt(imp, err);
        if (rc < 0 && (err->code != LD_E_CONFLICT || imp->core->refusal))
            return -1;
    }
    return rc;
}

void ld_import_tell_result(const struct ld_import *imp, struct ld_import_result *ret)
{
    *ret = (struct ld_import_result){.n_images = imp->n_images, .n_warnings = imp->n_warnings};
    ret->image_ids = ld_alloc0(imp->n_images * sizeof(*ret->image_ids));
    for (size_t i = 0; i < imp->n_images; i++) {
        char id[LD_DIGEST_TEXT];

        ld_digest_format(&imp->images[i].id, id);
        ret->image_ids[i] = ld_strdup(id);
    }
    for (size_t i = 0; i < imp->n_tasks; i++) {
        if (imp->tasks[i].how != LD_LAYER_REUSED ? imp->tasks[i].has_blob
                                                 : imp->tasks[i].is_blob_published)
            ret->bytes_added += imp->tasks[i].layer->span.size;
        if (imp->tasks[i].how == LD_LAYER_REUSED) {
            ret->layers_reused++;
            continue;
        }
        ret->layers_added++;
        ret->bytes_added += imp->tasks[i].made_bytes;
    }
    ret->warnings = ld_alloc0(imp->n_warnings * sizeof(*ret->warnings));
    for (size_t i = 0; i < imp->n_warnings; i++)
        ret->warnings[i] = ld_strdup(imp->warnings[i]);
}

void ld_import_done(struct ld_import *imp)
{
    for (size_t i = 0; i < imp->n_tasks; i++)
        ld_import_discard(imp, &imp->tasks[i]);
    ld_core_kick_reaper(imp->core);
    ld_claim_drop(imp->claim);
    ld_import_unpin(imp);
    for (size_t i = 0; i < imp->n_images; i++) {
        free(imp->images[i].tasks);
        free(imp->images[i].config);
    }
    for (size_t i = 0; i < imp->n_warnings; i++)
        free(imp->warnings[i]);
    free(imp->warnings);
    free(imp->images);
    free(imp->tasks);
    ld_archive_free(imp->archive);
    ld_close(imp->sync_fd);
}

int ld_import_run(struct ld_core *core, const struct ld_write *w, struct ld_spool *spool,
                  const struct ld_import_options *options, struct ld_import_result *ret,
                  struct ld_err *err)
{
    LD_AUTO(ld_import_done)
    struct ld_import imp = {
        .core = core, .w = w, .spool = spool, .options = options, .sync_fd = -EBADF};

    if (run(&imp, err) < 0)
        return -1;
    ld_import_tell_result(&imp, ret);
    return 0;
}

void ld_import_result_done(struct ld_import_result *r)
{
    for (size_t i = 0; i < r->n_images; i++)
        free(r->image_ids[i]);
    for (size_t i = 0; i < r->n_warnings; i++)
        free(r->warnings[i]);
    free(r->image_ids);
    free(r->warnings);
    *r = (struct ld_import_result){0};
}
