/* The plan of an import: which layers there are, which of them are missing. See import_impl.h.
 *
 * What the records say is true only until somebody removes an image, so it is looked up anew for
 * each attempt and checked again by the transaction. Pins keep the directories that are reused from
 * being deleted meanwhile. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "daemon/base/fdio.h"
#include "daemon/base/log.h"
#include "daemon/base/mem.h"
#include "daemon/base/table.h"
#include "daemon/core/import_impl.h"
#include "daemon/core/inflight.h"
#include "daemon/core/layer_names.h"
#include "daemon/image/archive.h"
#include "daemon/image/codec.h"
#include "daemon/image/oci.h"

/* ---- tasks ---- */

struct known {
    struct ld_digest chain_id;
    uint32_t task;
    UT_hash_handle hh;
};

static uint32_t new_task(struct ld_import *imp, const struct ld_archive_layer *layer)
{
    ld_grow(&imp->tasks, &imp->cap_tasks, imp->n_tasks + 1, sizeof(*imp->tasks));
    imp->tasks[imp->n_tasks].layer = layer;
    imp->tasks[imp->n_tasks].diff_id = layer->diff_id;
    return (uint32_t)imp->n_tasks++; /* LD_ARCHIVE_MAX_LAYERS at most */
}

/* The task of a chain ID; layers that images share are one task. */
static uint32_t task_of(struct ld_import *imp, struct known **set, const struct ld_digest *chain_id,
                        const struct ld_archive_layer *layer)
{
    struct known *k;

    HASH_FIND(hh, *set, chain_id, sizeof(*chain_id), k);
    if (k)
        return k->task;
    k = ld_new(struct known);
    k->chain_id = *chain_id;
    k->task = new_task(imp, layer);
    imp->tasks[k->task].chain_id = *chain_id;
    imp->tasks[k->task].has_chain_id = true;
    HASH_ADD(hh, *set, chain_id, sizeof(k->chain_id), k);
    return k->task;
}

static void plan_image(struct ld_import *imp, struct known **set, struct ld_import_image *image)
{
    const struct ld_archive_image *from = image->from;
    struct ld_digest chain_id = {{0}};

    image->id = from->id;
    image->tasks = ld_alloc0(from->n_layers * sizeof(*image->tasks));
    if (from->is_rootfs) {
        image->tasks[0] = new_task(imp, &from->layers[0]);
        return;
    }
    for (size_t i = 0; i < from->n_layers; i++) {
        chain_id = ld_chain_id(i ? &chain_id : NULL, &from->layers[i].diff_id);
        image->tasks[i] = task_of(imp, set, &chain_id, &from->layers[i]);
    }
}

void ld_import_plan(struct ld_import *imp)
{
    const struct ld_archive_image *from = ld_archive_images(imp->archive, &imp->n_images);
    struct known *set = NULL;

    imp->images = ld_alloc0(imp->n_images * sizeof(*imp->images));
    for (size_t i = 0; i < imp->n_images; i++) {
        imp->images[i].from = &from[i];
        plan_image(imp, &set, &imp->images[i]);
    }
    ld_table_drain(hh, set, free);
}

void ld_import_name_rootfs(struct ld_import *imp)
{
    struct ld_import_image *image = &imp->images[0];
    struct ld_import_task *task = &imp->tasks[0];

    task->chain_id = ld_chain_id(NULL, &task->diff_id);
    task->has_chain_id = true;
    image->config = ld_oci_config_render_rootfs(&image->from->platform, &task->diff_id);
    image->id = ld_digest_of(image->config, strlen(image->config));
}

/* ---- the records ---- */

static void pin(struct ld_import *imp, struct ld_import_task *task, ld_sid sid)
{
    if (task->pinned == sid)
        return;
    if (task->pinned)
        ld_pins_drop(imp->core->pins, &task->pinned, 1);
    if (sid)
        ld_pins_add(imp->core->pins, &sid, 1);
    task->pinned = sid;
}

void ld_import_unpin(struct ld_import *imp)
{
    for (size_t i = 0; i < imp->n_tasks; i++)
        pin(imp, &imp->tasks[i], 0);
}

static bool is_on_disk(const struct ld_core *core, const struct ld_layer *layer)
{
    struct ld_layer_name root = ld_layer_name(layer->sid, "");
    struct ld_layer_name recipe = ld_layer_name(layer->sid, ".recipe");
    struct stat st;

    return fstatat(core->root.layers_fd, root.text, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
           (!ld_layer_has_recipe(layer) ||
            fstatat(core->root.layers_fd, recipe.text, &st, AT_SYMLINK_NOFOLLOW) == 0);
}

static int look_up(struct ld_import *imp, struct ld_import_task *task, struct ld_err *err)
{
    LD_AUTO(ld_layer_done) struct ld_layer layer = {0};
    char chain_id[LD_DIGEST_TEXT];
    struct ld_err lookup = LD_ERR_INIT;

    ld_digest_format(&task->chain_id, chain_id);
    if (ld_store_layer_by_chain(imp->core->store, chain_id, &layer, &lookup) < 0) {
        if (lookup.code != LD_E_NOT_FOUND) {
            *err = lookup;
            return -1;
        }
        pin(imp, task, 0);
        task->how = LD_LAYER_NEW;
        task->sid = task->staged_sid;
        return 0;
    }
    /* Pinned before it is looked for: if it is there now, it stays until we are through. */
    pin(imp, task, layer.sid);
    task->sid = layer.sid;
    task->bytes = layer.bytes;
    task->inodes = layer.inodes;
    task->how =
        !layer.damage && is_on_disk(imp->core, &layer) ? LD_LAYER_REUSED : LD_LAYER_REPAIRED;
    return 0;
}

static int look_all_up(struct ld_import *imp, struct ld_err *err)
{
    for (size_t i = 0; i < imp->n_tasks; i++) {
        if (look_up(imp, &imp->tasks[i], err) < 0)
            return -1;
    }
    return 0;
}

bool ld_import_is_missing(const struct ld_import_task *task)
{
    return !task->has_chain_id || task->how != LD_LAYER_REUSED;
}

/* ---- claims ---- */

static bool has_claimed_all(const struct ld_import *imp)
{
    for (size_t i = 0; i < imp->n_tasks; i++) {
        if (ld_import_is_missing(&imp->tasks[i]) &&
            !ld_claim_has(imp->claim, &imp->tasks[i].chain_id))
            return false;
    }
    return true;
}

/* Before the second look everybody else who could add one of these layers has been waited for. */
int ld_import_look(struct ld_import *imp, struct ld_err *err)
{
    autofree struct ld_digest *ids = ld_alloc0(imp->n_tasks * sizeof(*ids));

    if (look_all_up(imp, err) < 0)
        return -1;
    while (!has_claimed_all(imp)) {
        bool has_waited = false;
        size_t n = 0;

        ld_claim_drop(ld_steal(&imp->claim));
        for (size_t i = 0; i < imp->n_tasks; i++) {
            if (ld_import_is_missing(&imp->tasks[i]))
                ids[n++] = imp->tasks[i].chain_id;
        }
        if (ld_claim_take(imp->core->inflight, ids, n, imp->options->cancel, &imp->claim,
                          &has_waited, err) < 0 ||
            look_all_up(imp, err) < 0)
            return -1;
        if (has_waited)
            ld_debug("import: another one worked on a layer of ours");
    }
    return 0;
}

/* ---- space ---- */

/* At least so much will be on disk: exact for a plain tar, for gzip what its last four bytes say
 * (the size modulo 4 GiB of the last member), else the blob's own size. */
static uint64_t least_size(const struct ld_import *imp, const struct ld_archive_span *span)
{
    int fd = ld_archive_fd(imp->archive);
    unsigned char head[LD_CODEC_HEAD], tail[4];
    uint64_t said;

    if (span->size < 18 || ld_pread_full(fd, head, sizeof(head), span->offset) < 0 ||
        ld_codec_detect(head, sizeof(head)) != LD_CODEC_GZIP ||
        ld_pread_full(fd, tail, sizeof(tail), span->offset + span->size - 4) < 0)
        return span->size;
    said = (uint64_t)tail[0] | (uint64_t)tail[1] << 8 | (uint64_t)tail[2] << 16 |
           (uint64_t)tail[3] << 24;
    /* More than deflate can give is a lie that the decoder will find out. */
    return said > span->size && said / 1032 <= span->size ? said : span->size;
}

int ld_import_check_space(struct ld_import *imp, struct ld_err *err)
{
    uint64_t bytes = 0;

    for (size_t i = 0; i < imp->n_tasks; i++) {
        const struct ld_import_task *task = &imp->tasks[i];

        if (ld_import_is_missing(task) && task->state == LD_TASK_NONE &&
            __builtin_add_overflow(bytes, least_size(imp, &task->layer->span), &bytes))
            bytes = UINT64_MAX;
        if (ld_import_wants_blob(imp, task) &&
            __builtin_add_overflow(bytes, task->layer->span.size, &bytes))
            bytes = UINT64_MAX;
    }
    return ld_core_may_grow(imp->core, bytes, err);
}
