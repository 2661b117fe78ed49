/* Unpacking of an import's missing layers and verifying of the others, in parallel on the copy
 * lane. See import_impl.h.
 *
 * Each worker has one task to itself. The blob is read once: counted and hashed, decoded, hashed
 * again and unpacked. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/base/fdio.h"
#include "daemon/base/mem.h"
#include "daemon/core/config.h"
#include "daemon/core/decoder.h"
#include "daemon/core/import_impl.h"
#include "daemon/image/archive.h"
#include "daemon/image/untar.h"
#include "daemon/jobs/lane.h"

struct work {
    struct ld_import *imp;
    struct ld_import_task **tasks;
    size_t n;
    pthread_mutex_t lock; /* of the import's warnings */
};

/* ---- the meter: a source that tells how far it is, and stops when cancelled ---- */

struct meter {
    struct ld_source source;
    struct ld_source *below; /* borrowed */
    const struct ld_import *imp;
    const struct ld_digest *id;
    const bool *cancel;
    uint64_t done, total;
};

static ssize_t meter_read(struct ld_source *source, void *buf, size_t len, struct ld_err *err)
{
    struct meter *m = (struct meter *)source;
    ssize_t n;

    if (ld_flag_is_set(m->cancel))
        return ld_err_set(err, LD_E_CANCELED, "cancelled");
    n = ld_source_read(m->below, buf, len, err);
    if (n > 0) {
        m->done += (uint64_t)n;
        ld_import_tell(m->imp, "unpack", m->id, m->done, m->total);
    }
    return n;
}

static void free_nothing(struct ld_source *source)
{
    (void)source; /* on its owner's stack */
}

static const struct ld_source_ops meter_ops = {.read = meter_read, .free = free_nothing};

/* ---- the watch: a source that fails before the disk is full ---- */

enum { WATCH_EVERY = 64 << 20 }; /* bytes of tar between two looks */

struct watch {
    struct ld_source source;
    struct ld_source *below; /* borrowed */
    struct ld_core *core;
    uint64_t done;
};

static ssize_t watch_read(struct ld_source *source, void *buf, size_t len, struct ld_err *err)
{
    struct watch *w = (struct watch *)source;
    ssize_t n = ld_source_read(w->below, buf, len, err);
    uint64_t before = w->done;

    if (n <= 0)
        return n;
    w->done += (uint64_t)n;
    if (before / WATCH_EVERY != w->done / WATCH_EVERY && ld_core_may_grow(w->core, 0, err) < 0)
        return -1;
    return n;
}

static const struct ld_source_ops watch_ops = {.read = watch_read, .free = free_nothing};

/* ---- one layer ---- */

/* Where a layer is staged: staging/N, N.recipe, N.aside. */
struct place {
    char name[24], recipe[40], aside[40];
    int root_fd, recipe_fd;
};

static void place_done(struct place *p)
{
    ld_close_p(&p->root_fd);
    ld_close_p(&p->recipe_fd);
}

static int make_place(struct ld_import *imp, struct ld_import_task *task, struct place *p,
                      struct ld_err *err)
{
    int staging = imp->core->root.staging_fd;

    if (ld_store_take_sid(imp->core->store, &task->staged_sid, err) < 0)
        return -1;
    if (task->how == LD_LAYER_NEW)
        task->sid = task->staged_sid;
    (void)snprintf(p->name, sizeof(p->name), "%" LD_PRI_SID, task->staged_sid);
    (void)snprintf(p->recipe, sizeof(p->recipe), "%s.recipe", p->name);
    (void)snprintf(p->aside, sizeof(p->aside), "%s.aside", p->name);
    p->root_fd = ld_make_dir(staging, p->name, 0700);
    if (p->root_fd < 0)
        return ld_err_sys(err, p->root_fd, "make 'staging/%s'", p->name);
    p->recipe_fd =
        openat(staging, p->recipe, O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (p->recipe_fd < 0)
        return ld_err_sys(err, -errno, "make 'staging/%s'", p->recipe);
    return 0;
}

static int check_digest(const struct ld_digest *got, const struct ld_digest *want, const char *what,
                        struct ld_err *err)
{
    char got_text[LD_DIGEST_TEXT], want_text[LD_DIGEST_TEXT];

    if (ld_digest_equal(got, want))
        return 0;
    ld_digest_format(got, got_text);
    ld_digest_format(want, want_text);
    return ld_err_set(err, LD_E_BAD_CONTENT, "the %s is %s, it should be %s", what, got_text,
                      want_text);
}

/* A blob being read: file, meter, hash, decoder, one on top of the other. Not to be moved. */
struct reader {
    struct ld_source *file;
    struct meter meter;
    struct ld_source *hashed;
    struct ld_source *tar;
    struct ld_decoder_limits limits;
};

static void reader_done(struct reader *r)
{
    ld_source_free(r->tar);
    ld_source_free(r->hashed);
    ld_source_free(r->file);
}

static int reader_open(struct ld_import *imp, const struct ld_archive_layer *layer,
                       const bool *cancel, struct reader *r, struct ld_err *err)
{
    ld_decoder_limits_init(&r->limits, imp->core, cancel);
    r->file = ld_source_fd_new(ld_archive_fd(imp->archive), layer->span.offset, layer->span.size);
    r->meter = (struct meter){.source = {&meter_ops},
                              .below = r->file,
                              .imp = imp,
                              .cancel = cancel,
                              .id = layer->has_diff_id ? &layer->diff_id : NULL,
                              .total = layer->span.size};
    r->hashed = ld_source_digest_new(&r->meter.source);
    return ld_decoder_new(r->hashed, &r->limits.limits, &r->tar, err);
}

static int check_blob(const struct ld_archive_layer *layer, struct reader *r, struct ld_err *err)
{
    struct ld_digest blob;

    if (!layer->has_blob)
        return 0;
    if (ld_source_drain(r->hashed, err) < 0)
        return -1;
    blob = ld_source_digest_final(r->hashed);
    return check_digest(&blob, &layer->blob, "digest of the blob", err);
}

static int check_diff_id(const struct ld_archive_layer *layer, const struct ld_digest *diff_id,
                         struct ld_err *err)
{
    return layer->has_diff_id ? check_digest(diff_id, &layer->diff_id, "diff ID", err) : 0;
}

/* The tar goes through untar to its end, then both digests are known. */
static int untar(struct ld_import *imp, struct ld_import_task *task, struct place *p,
                 const bool *cancel, struct ld_untar_result *ret, struct ld_err *err)
{
    const struct ld_import_limits *limits = &imp->core->config->import;
    LD_AUTO(reader_done) struct reader reader = {.file = NULL};
    struct watch watch = {.source = {&watch_ops}, .core = imp->core};
    struct ld_untar_job job = {
        .source = &watch.source,
        .root_fd = p->root_fd,
        .recipe_fd = p->recipe_fd,
        .aside_parent_fd = imp->core->root.staging_fd,
        .aside_name = p->aside,
        .limits = {.max_entries = limits->entries,
                   .max_bytes = limits->layer_bytes,
                   .max_file_size = limits->layer_bytes},
        .escapes_xattrs = imp->escapes_xattrs,
        .cancel = cancel,
    };

    if (reader_open(imp, task->layer, cancel, &reader, err) < 0)
        return -1;
    watch.below = reader.tar;
    if (ld_untar(&job, ret, err) < 0 || check_blob(task->layer, &reader, err) < 0)
        return -1;
    return check_diff_id(task->layer, &ret->diff_id, err);
}

static void take_warnings(struct work *work, const char *name, const struct ld_warnings *warnings)
{
    pthread_mutex_lock(&work->lock);
    for (size_t i = 0; i < warnings->n; i++)
        ld_import_warn(work->imp, "%s: %s", name, warnings->text[i]);
    if (warnings->total > warnings->n)
        ld_import_warn(work->imp, "%s: %" PRIu64 " more warnings", name,
                       warnings->total - warnings->n);
    pthread_mutex_unlock(&work->lock);
}

struct layer_name {
    char text[sizeof("layer ") + LD_DIGEST_TEXT];
};

static struct layer_name layer_name(const struct ld_archive_layer *layer)
{
    struct layer_name name = {"the root file system"};

    if (layer->has_diff_id) {
        memcpy(name.text, "layer ", sizeof("layer "));
        ld_digest_format(&layer->diff_id, name.text + strlen("layer "));
    }
    return name;
}

static int unpack(struct work *work, struct ld_import_task *task, const bool *cancel,
                  struct ld_err *err)
{
    LD_AUTO(place_done) struct place place = {.root_fd = -EBADF, .recipe_fd = -EBADF};
    LD_AUTO(ld_untar_result_done) struct ld_untar_result result = {.pending = NULL};

    if (make_place(work->imp, task, &place, err) < 0 ||
        untar(work->imp, task, &place, cancel, &result, err) < 0)
        return -1;
    task->diff_id = result.diff_id;
    task->pending = ld_steal(&result.pending);
    task->state = LD_TASK_STAGED;
    take_warnings(work, layer_name(task->layer).text, &result.warnings);
    return 0;
}

/* A layer that is there already is not needed from the archive. Still, an archive that is damaged
 * is refused, or it would be a good one until the day its image is removed. */
static int verify(struct ld_import *imp, struct ld_import_task *task, const bool *cancel,
                  struct ld_err *err)
{
    LD_AUTO(reader_done) struct reader reader = {.file = NULL};
    auto_source *tar = NULL;
    struct ld_digest diff_id;

    if (reader_open(imp, task->layer, cancel, &reader, err) < 0)
        return -1;
    if (task->layer->has_blob)
        return check_blob(task->layer, &reader, err);
    tar = ld_source_digest_new(reader.tar);
    if (ld_source_drain(tar, err) < 0)
        return -1;
    diff_id = ld_source_digest_final(tar);
    return check_diff_id(task->layer, &diff_id, err);
}

static int unpack_one(void *arg, size_t index, const bool *cancel, struct ld_err *err)
{
    struct work *work = arg;
    struct ld_import_task *task = work->tasks[index];
    int rc = ld_import_is_missing(task) ? unpack(work, task, cancel, err)
                                        : verify(work->imp, task, cancel, err);

    if (rc < 0)
        return ld_err_prefix(err, "%s", layer_name(task->layer).text);
    task->is_verified = true;
    return ld_import_stage_blob(work->imp, task, cancel, err);
}

/* ---- all of them ---- */

static bool overlaps(const struct ld_archive_span *a, const struct ld_archive_span *b)
{
    return a->offset < b->offset + b->size && b->offset < a->offset + a->size;
}

/* Is the blob needed again: as a layer that may still have to be unpacked, or as a document? */
static bool is_needed(const struct ld_import *imp, const struct ld_archive_span *span)
{
    for (size_t i = 0; i < imp->n_tasks; i++) {
        if (imp->tasks[i].state == LD_TASK_NONE && overlaps(&imp->tasks[i].layer->span, span))
            return true;
    }
    for (size_t i = 0; i < imp->n_images; i++) {
        if (overlaps(&imp->images[i].from->config, span) ||
            overlaps(&imp->images[i].from->manifest, span))
            return true;
    }
    return false;
}

/* Unpacked blobs are given up: the syncfs to come would otherwise write them out too, for nothing.
 * A file system that cannot punch holes only makes it slower. */
static void free_blobs(const struct work *work)
{
    int fd = ld_archive_fd(work->imp->archive);

    for (size_t i = 0; i < work->n; i++) {
        const struct ld_archive_span *span = &work->tasks[i]->layer->span;

        if (work->tasks[i]->state == LD_TASK_STAGED && !is_needed(work->imp, span))
            (void)!fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)span->offset,
                             (off_t)span->size);
    }
}

int ld_import_unpack(struct ld_import *imp, struct ld_err *err)
{
    autofree struct ld_import_task **tasks =
        ld_alloc0(imp->n_tasks * sizeof(struct ld_import_task *));
    struct work work = {.imp = imp, .tasks = tasks, .lock = PTHREAD_MUTEX_INITIALIZER};
    struct ld_batch batch = {.fn = unpack_one, .arg = &work, .cancel = imp->options->cancel};
    int rc;

    for (size_t i = 0; i < imp->n_tasks; i++) {
        struct ld_import_task *task = &imp->tasks[i];

        if (task->state != LD_TASK_NONE || (!ld_import_is_missing(task) && task->is_verified))
            continue;
        ld_import_discard(imp, task);
        tasks[work.n++] = task;
    }
    if (work.n == 0)
        return 0;
    batch.n = work.n;
    if (ld_import_check_space(imp, err) < 0)
        return -1;
    rc = ld_lanes_run_all(imp->core->lanes, LD_LANE_COPY, &batch, err);
    pthread_mutex_destroy(&work.lock);
    if (rc == 0)
        free_blobs(&work);
    return rc;
}
