/* Publishing and recording an import: see import_impl.h. The layers are durable; renames bring them
 * into layers/, one transaction makes them and the images exist. When it refuses, the renames are
 * undone.
 *
 * A crash between the two leaves directories that no record knows, marked as being made: the start
 * deletes them. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/base/fdio.h"
#include "daemon/base/log.h"
#include "daemon/base/mem.h"
#include "daemon/core/import_impl.h"
#include "daemon/core/layer_names.h"
#include "daemon/core/making.h"
#include "daemon/core/trash.h"
#include "daemon/image/archive.h"
#include "daemon/image/pending.h"

/* ---- publishing ---- */

/* What is there of a damaged layer may still be mounted somewhere: it is kept for a while. */
static int move_damaged(struct ld_import *imp, ld_sid sid, struct ld_err *err)
{
    const struct ld_root *root = &imp->core->root;
    char random[17];

    ld_random_hex(random, 8);
    for (size_t i = LD_LAYER_NAMES; i-- > 0;) {
        struct ld_layer_name from = ld_layer_name(sid, ld_layer_suffixes[i]);
        autofree char *to = ld_asprintf("layers-%s-%s", from.text, random);

        if (renameat2(root->layers_fd, from.text, root->quarantine_fd, to, RENAME_NOREPLACE) < 0 &&
            errno != ENOENT)
            return ld_err_sys(err, -errno, "move the damaged layer '%s' away", from.text);
    }
    return 0;
}

static int publish(struct ld_import *imp, struct ld_import_task *task, struct ld_err *err)
{
    const struct ld_root *root = &imp->core->root;

    if (task->how == LD_LAYER_REPAIRED && move_damaged(imp, task->sid, err) < 0)
        return -1;
    if (ld_making_begin(imp->core, task->sid, err) < 0)
        return -1;
    for (size_t i = 0; i < LD_LAYER_NAMES; i++) {
        struct ld_layer_name from = ld_layer_name(task->staged_sid, ld_layer_suffixes[i]);
        struct ld_layer_name to = ld_layer_name(task->sid, ld_layer_suffixes[i]);

        if (renameat2(root->staging_fd, from.text, root->layers_fd, to.text, RENAME_NOREPLACE) <
                0 &&
            !(errno == ENOENT && ld_layer_suffix_is_optional(ld_layer_suffixes[i])))
            return ld_err_sys(err, -errno, "move layer '%s' into place", to.text);
    }
    task->state = LD_TASK_PUBLISHED;
    return 0;
}

/* Back to staging/. A repaired layer whose image was removed meanwhile is in the trash, pinned. */
static void unpublish(struct ld_import *imp, struct ld_import_task *task)
{
    const struct ld_root *root = &imp->core->root;

    for (size_t i = LD_LAYER_NAMES; i-- > 0;) {
        struct ld_layer_name from = ld_layer_name(task->sid, ld_layer_suffixes[i]);
        struct ld_layer_name to = ld_layer_name(task->staged_sid, ld_layer_suffixes[i]);

        if (renameat2(root->layers_fd, from.text, root->staging_fd, to.text, RENAME_NOREPLACE) ==
                0 ||
            renameat2(root->trash_fd, from.text, root->staging_fd, to.text, RENAME_NOREPLACE) ==
                0 ||
            errno == ENOENT)
            continue;
        ld_warn("move 'layers/%s' back: %s; the next start moves it away", from.text,
                strerrordesc_np(errno));
    }
    ld_making_end(imp->core, task->sid);
    task->state = LD_TASK_SETTLED;
}

static void unpublish_all(struct ld_import *imp)
{
    for (size_t i = 0; i < imp->n_tasks; i++) {
        if (imp->tasks[i].state == LD_TASK_PUBLISHED)
            unpublish(imp, &imp->tasks[i]);
        ld_import_unpublish_blob(imp, &imp->tasks[i]);
    }
}

static int publish_all(struct ld_import *imp, struct ld_err *err)
{
    for (size_t i = 0; i < imp->n_tasks; i++) {
        if (ld_import_publish_blob(imp, &imp->tasks[i], err) < 0)
            return -1;
        if (imp->tasks[i].state != LD_TASK_SETTLED || !ld_import_is_missing(&imp->tasks[i]))
            continue;
        if (publish(imp, &imp->tasks[i], err) < 0) {
            /* Part of it may have moved: to staging/ with all of it. */
            imp->tasks[i].state = LD_TASK_PUBLISHED;
            return -1;
        }
    }
    return 0;
}

void ld_import_discard(struct ld_import *imp, struct ld_import_task *task)
{
    ld_pending_free_p(&task->pending);
    if (task->staged_sid) {
        for (size_t i = LD_LAYER_NAMES; i-- > 0;)
            ld_trash_discard(imp->core, imp->core->root.staging_fd,
                             ld_layer_name(task->staged_sid, ld_layer_suffixes[i]).text);
    }
    task->staged_sid = 0;
    task->has_blob = false;
    task->state = LD_TASK_NONE;
}

/* ---- recording ---- */

struct adds {
    struct ld_image_add *image;
    struct ld_layer_add *layers; /* of all images, one after the other */
    size_t n_images, n_layers;
};

static void adds_done(struct adds *a)
{
    for (size_t i = 0; i < a->n_images; i++)
        ld_image_done(&a->image[i].image);
    for (size_t i = 0; i < a->n_layers; i++) {
        ld_layer_done(&a->layers[i].layer);
        ld_kept_blob_done(&a->layers[i].blob);
    }
    free(a->image);
    free(a->layers);
    *a = (struct adds){0};
}

static char *digest_text(const struct ld_digest *digest)
{
    char text[LD_DIGEST_TEXT];

    ld_digest_format(digest, text);
    return ld_strdup(text);
}

/* The first image that stands on a new layer adds it, the others of the same import reuse it. */
static void fill_layer(const struct ld_import *imp, const struct ld_import_task *task,
                       bool *is_added, struct ld_layer_add *add)
{
    bool is_made = task->how != LD_LAYER_REUSED;

    add->how = *is_added ? LD_LAYER_REUSED : task->how;
    add->layer = (struct ld_layer){.sid = task->sid,
                                   .diff_id = digest_text(&task->diff_id),
                                   .chain_id = digest_text(&task->chain_id),
                                   .origin = imp->container ? LD_ORIGIN_COMMIT : LD_ORIGIN_IMPORT,
                                   .bytes = is_made ? task->made_bytes : task->bytes,
                                   .inodes = is_made ? task->made_inodes : task->inodes};
    if (!*is_added)
        ld_import_record_blob(task, &add->blob);
    *is_added = true;
}

static int read_documents(const struct ld_import *imp, const struct ld_import_image *image,
                          struct ld_image *ret, struct ld_err *err)
{
    const struct ld_archive_image *from = image->from;
    char *config = NULL, *manifest = NULL;

    if (image->config) {
        ret->config = ld_strdup(image->config);
        ret->config_len = strlen(image->config);
        return 0;
    }
    if (ld_archive_read(imp->archive, &from->config, &config, err) < 0)
        return -1;
    ret->config = config;
    ret->config_len = (size_t)from->config.size;
    if (from->manifest.size == 0)
        return 0;
    if (ld_archive_read(imp->archive, &from->manifest, &manifest, err) < 0)
        return -1;
    ret->manifest = manifest;
    ret->manifest_len = (size_t)from->manifest.size;
    ret->media_type = from->manifest_media_type ? ld_strdup(from->manifest_media_type) : NULL;
    return 0;
}

static int fill_adds(const struct ld_import *imp, struct adds *adds, struct ld_err *err)
{
    autofree bool *is_added = ld_alloc0(imp->n_tasks * sizeof(*is_added));
    size_t n_layers = 0;

    for (size_t i = 0; i < imp->n_images; i++)
        n_layers += imp->images[i].from->n_layers;
    adds->image = ld_alloc0(imp->n_images * sizeof(*adds->image));
    adds->layers = ld_alloc0(n_layers * sizeof(*adds->layers));
    for (size_t i = 0; i < imp->n_images; i++) {
        const struct ld_import_image *image = &imp->images[i];
        struct ld_image_add *add = &adds->image[adds->n_images++];

        add->layers = adds->layers + adds->n_layers;
        add->n_layers = image->from->n_layers;
        add->refs = (const char *const *)image->from->names;
        add->n_refs = image->from->n_names;
        add->image.id = digest_text(&image->id);
        add->container = imp->container;
        for (size_t j = 0; j < add->n_layers; j++) {
            const struct ld_import_task *task = &imp->tasks[image->tasks[j]];
            struct ld_layer_add *layer = &adds->layers[adds->n_layers++];

            fill_layer(imp, task, &is_added[image->tasks[j]], layer);
            add->image.size += layer->layer.bytes;
        }
        if (read_documents(imp, image, &add->image, err) < 0)
            return -1;
    }
    return 0;
}

/* What the one who asks again is told. NULL: there is nothing to tell. */
static char *make_answer(const struct ld_import *imp)
{
    struct ld_import_result result LD_AUTO(ld_import_result_done) = {.n_images = 0};
    char *answer = NULL;

    if (imp->options->answer) {
        ld_import_tell_result(imp, &result);
        answer = imp->options->answer(imp->options->answer_arg, &result);
    }
    return answer; /* cppcheck-suppress returnDanglingLifetime; a text of its own */
}

int ld_import_record(struct ld_import *imp, struct ld_err *err)
{
    LD_AUTO(adds_done) struct adds adds = {.image = NULL};
    autofree char *answer = NULL;
    struct ld_write with = *imp->w;
    struct ld_once once;
    int rc;

    with.dirs = &imp->core->root.layers_fd;
    with.n_dirs = 1;
    rc = publish_all(imp, err);
    if (rc == 0)
        rc = fill_adds(imp, &adds, err);
    if (rc == 0 && with.once) { /* after publishing, which decides what is new */
        once = *with.once;
        answer = make_answer(imp);
        once.answer = answer;
        with.once = &once;
    }
    if (rc == 0)
        rc = ld_store_image_add(imp->core->store, &with, adds.image, adds.n_images, err);
    if (rc < 0) {
        unpublish_all(imp);
        return -1;
    }
    for (size_t i = 0; i < imp->n_tasks; i++) {
        if (imp->tasks[i].state != LD_TASK_PUBLISHED)
            continue;
        imp->tasks[i].staged_sid = 0; /* it is the record's now */
        ld_making_end(imp->core, imp->tasks[i].sid);
    }
    return 0;
}
