/* Pruning: see prune.h. The list is read page by page; each object of a page is looked at, measured
 * and removed by operations that are waited for. What was read of an object is passed on as the
 * version it must still have. */
#include "daemon/core/prune.h"

#include <stdlib.h>
#include <string.h>

#include "daemon/base/mem.h"
#include "daemon/core/container.h"
#include "daemon/core/freeze.h"
#include "daemon/core/image.h"
#include "daemon/core/state.h"
#include "daemon/core/trash.h"
#include "daemon/core/volume.h"
#include "daemon/image/oci.h"
#include "daemon/jobs/op.h"

enum { PAGE = 100 };

struct pruning {
    struct ld_core *core;
    const struct ld_write *w;
    const struct ld_prune *what;
    struct ld_pruned *out;
    uint64_t looked_at;
    /* Of a dry run: what would go, and where that stands in *out (SIZE_MAX: it is cut off). */
    char **gone;
    size_t *place;
    size_t n_gone, cap_gone, cap_place;
    bool is_kept; /* these are images that go to the trash */
};

/* One object's removal. */
struct turn {
    struct pruning *p;
    const char *id, *name;
    ld_sid sid; /* of its directory; 0: an image */
    uint64_t version;
    struct ld_removed removed;
};

void ld_pruned_done(struct ld_pruned *pruned)
{
    for (size_t i = 0; i < pruned->n_failures; i++) {
        free(pruned->failure[i].id);
        free(pruned->failure[i].name);
        free(pruned->failure[i].message);
    }
    free(pruned->failure);
    ld_removed_done(&pruned->removed);
    *pruned = (struct ld_pruned){.objects = 0};
}

/* ---- one object: under its key ---- */

static int remove_container(struct turn *t, const struct ld_write *w, struct ld_removed *ret,
                            struct ld_err *err)
{
    const struct ld_prune *what = t->p->what;
    struct ld_container_removal how = {
        .volumes = what->volumes, .purge = what->purge, .settle = true, .if_match = t->version};

    return ld_container_remove(t->p->core, w, t->id, &how, ret, err);
}

static int remove_volume(struct turn *t, const struct ld_write *w, struct ld_removed *ret,
                         struct ld_err *err)
{
    struct ld_volume_removal how = {.purge = t->p->what->purge, .if_match = t->version};

    return ld_volume_remove(t->p->core, w, t->id, &how, ret, err);
}

static int remove_image(struct turn *t, const struct ld_write *w, struct ld_removed *ret,
                        struct ld_err *err)
{
    struct ld_image_removal how = {
        .all_names = true, .purge = t->p->what->purge, .if_match = t->version};

    return ld_image_remove(t->p->core, w, t->id, &how, ret, err);
}

static int remove_one(struct turn *t, const struct ld_write *w, struct ld_removed *ret,
                      struct ld_err *err)
{
    switch (t->p->what->kind) {
    case LD_PRUNE_IMAGES:
        return remove_image(t, w, ret, err);
    case LD_PRUNE_CONTAINERS:
        return remove_container(t, w, ret, err);
    case LD_PRUNE_VOLUMES:
        return remove_volume(t, w, ret, err);
    }
    return ld_err_set(err, LD_E_INTERNAL, "no such kind to prune");
}

static int check_pins(const struct turn *t, struct ld_err *err)
{
    return t->sid && ld_pins_has(t->p->core->pins, t->sid)
               ? ld_err_set(err, LD_E_BUSY, "'%s' is being read or made", t->id)
               : 0;
}

/* What would go. */
static int run_look(struct ld_op *op, struct ld_err *err)
{
    struct turn *t = op->arg;
    struct ld_write dry = *t->p->w;

    dry.dry_run = true;
    return check_pins(t, err) < 0 ? -1 : remove_one(t, &dry, &t->removed, err);
}

/* Without a key: nobody waits for a walk, and a walk sees what it sees. */
static int run_measure(struct ld_op *op, struct ld_err *err)
{
    struct turn *t = op->arg;

    return ld_trash_measure(t->p->core, &t->removed, &op->cancel, err);
}

/* Only a dry run knows what is not in the records. */
static void take_bytes(struct ld_removed *to, const struct ld_removed *from)
{
    for (size_t i = 0; i < to->n_objects; i++) {
        struct ld_removed_object *o = &to->object[i];

        for (size_t k = 0; o->bytes == 0 && o->id && k < from->n_objects; k++) {
            const struct ld_removed_object *f = &from->object[k];

            if (f->id && strcmp(f->kind, o->kind) == 0 && strcmp(f->id, o->id) == 0)
                o->bytes = f->bytes;
        }
    }
}

static int run_removal(struct ld_op *op, struct ld_err *err)
{
    LD_AUTO(ld_removed_done) struct ld_removed removed = {.n = 0};
    struct turn *t = op->arg;

    if (check_pins(t, err) < 0 || remove_one(t, t->p->w, &removed, err) < 0)
        return -1;
    take_bytes(&removed, &t->removed);
    ld_removed_done(&t->removed);
    t->removed = ld_steal(&removed);
    return 0;
}

static int call(struct turn *t, enum ld_lane lane, int (*run)(struct ld_op *, struct ld_err *),
                bool with_key, struct ld_err *err)
{
    static const char *const keys[] = {
        [LD_PRUNE_IMAGES] = "i", [LD_PRUNE_CONTAINERS] = "c", [LD_PRUNE_VOLUMES] = "v"};
    const struct pruning *p = t->p;
    struct ld_op op;

    ld_op_init(&op, lane, run, NULL, t);
    if (with_key)
        ld_op_key(&op, LD_EXCLUSIVE, "%s:%s", keys[p->what->kind], t->id);
    return ld_ops_call(p->core->ops, &op, p->what->cancel, err);
}

/* It is measured before it is removed: nobody can do that once the reaper is at it. What can't be
 * measured can still be removed. */
static int remove_object(struct turn *t, struct ld_err *err)
{
    struct ld_err why = LD_ERR_INIT;

    if (call(t, LD_LANE_QUICK, run_look, true, err) < 0)
        return -1;
    if (t->sid && call(t, LD_LANE_COPY, run_measure, false, &why) < 0 &&
        (t->p->w->dry_run || why.code != LD_E_IO)) {
        *err = why;
        return -1;
    }
    return t->p->w->dry_run ? 0 : call(t, LD_LANE_QUICK, run_removal, true, err);
}

/* ---- what became of it ---- */

static void count_object(struct pruning *p, const struct ld_removed_object *object)
{
    struct ld_pruned *out = p->out;

    out->objects++;
    out->bytes += object->bytes;
    if (object->is_kept)
        out->trash_bytes += object->bytes;
    if (out->removed.n_objects < LD_PRUNE_LIST_MAX)
        ld_removed_add(&out->removed, object->kind, object->id, object->name)->bytes =
            object->bytes;
    else
        out->is_cut = true;
}

/* Layers of a dry run are told at its end: several of what goes may need the same. */
static bool is_told_later(const struct pruning *p, const struct ld_removed_object *object)
{
    return p->w->dry_run && object->has_dir && object->dir.place == LD_PLACE_LAYERS;
}

/* It may need layers that it leaves to nobody. */
static void note_gone(struct pruning *p, const struct turn *t, struct ld_removed_object *object)
{
    bool is_image = p->what->kind == LD_PRUNE_IMAGES;
    size_t at = p->out->removed.n_objects;

    if (strcmp(object->kind, is_image ? "image" : "container") != 0 ||
        (object->is_kept && !is_image)) /* a container in the trash still needs its own */
        return;
    ld_grow(&p->gone, &p->cap_gone, p->n_gone + 1, sizeof(*p->gone));
    ld_grow(&p->place, &p->cap_place, p->n_gone + 1, sizeof(*p->place));
    p->place[p->n_gone] = at < LD_PRUNE_LIST_MAX ? at : SIZE_MAX;
    p->gone[p->n_gone++] = ld_strdup(t->id);
    p->is_kept = object->is_kept;
    if (is_image)
        object->bytes = 0;
}

static void count_objects(struct pruning *p, struct turn *t)
{
    for (size_t i = 0; i < t->removed.n_objects; i++) {
        struct ld_removed_object *object = &t->removed.object[i];

        if (is_told_later(p, object))
            continue;
        if (p->w->dry_run)
            note_gone(p, t, object);
        count_object(p, object);
    }
}

/* An image that goes to the trash takes its layers along. */
static int count_layer(void *arg, size_t last, const char *chain_id, uint64_t bytes)
{
    struct pruning *p = arg;
    struct ld_removed_object layer = {
        .kind = (char *)"layer", .id = (char *)chain_id, .bytes = bytes}; /* borrowed */

    if (!p->is_kept) {
        count_object(p, &layer);
        return 0;
    }
    p->out->bytes += bytes;
    p->out->trash_bytes += bytes;
    if (p->place[last] != SIZE_MAX)
        p->out->removed.object[p->place[last]].bytes += bytes;
    return 0;
}

static int count_layers(struct pruning *p, struct ld_err *err)
{
    struct ld_gone_query query = {.ids = p->gone, .n = p->n_gone, .is_kept = p->is_kept};

    return p->n_gone == 0 ? 0 : ld_store_layers_gone(p->core->store, &query, count_layer, p, err);
}

static void pruning_done(struct pruning *p)
{
    for (size_t i = 0; i < p->n_gone; i++)
        free(p->gone[i]);
    free(p->gone);
    free(p->place);
    p->n_gone = 0;
}

static void add_failure(struct pruning *p, const struct turn *t, const struct ld_err *why)
{
    struct ld_pruned *out = p->out;

    if (out->n_failures == LD_PRUNE_LIST_MAX) {
        out->is_cut = true;
        return;
    }
    ld_grow(&out->failure, &out->cap_failures, out->n_failures + 1, sizeof(*out->failure));
    out->failure[out->n_failures++] =
        (struct ld_prune_failure){.id = ld_strdup(t->id),
                                  .name = t->name ? ld_strdup(t->name) : NULL,
                                  .code = why->code,
                                  .message = ld_strdup(why->message)};
}

/* -1: pruning ends. What is in use, changed or gone by now is left alone and no failure. */
static int note_refusal(struct pruning *p, const struct turn *t, const struct ld_err *why,
                        struct ld_err *err)
{
    switch (why->code) {
    case LD_E_NOT_FOUND:
    case LD_E_IN_USE:
    case LD_E_BUSY:
    case LD_E_PRECONDITION:
        return 0;
    case LD_E_CANCELED:
    case LD_E_UNAVAILABLE:
        *err = *why;
        return -1;
    default:
        add_failure(p, t, why);
        return 0;
    }
}

static int take_turn(struct pruning *p, struct turn t, struct ld_err *err)
{
    struct ld_err why = LD_ERR_INIT;
    int rc = remove_object(&t, &why);

    if (rc == 0)
        count_objects(p, &t);
    ld_removed_done(&t.removed);
    p->looked_at++;
    if (p->what->progress)
        p->what->progress(p->what->progress_arg, t.id, p->looked_at);
    return rc < 0 ? note_refusal(p, &t, &why, err) : 0;
}

static int poll_cancel(const struct pruning *p, struct ld_err *err)
{
    return ld_flag_is_set(p->what->cancel) ? ld_err_set(err, LD_E_CANCELED, "the job was cancelled")
                                           : 0;
}

/* ---- the lists: *after becomes the next page's, 0 at the end ---- */

static int prune_containers(struct pruning *p, uint64_t *after, struct ld_err *err)
{
    struct ld_container_page page LD_AUTO(ld_container_page_done) = {.n = 0};
    struct ld_container_query query = {.after = *after,
                                       .limit = PAGE,
                                       .labels = p->what->labels,
                                       .n_labels = p->what->n_labels,
                                       .until_ns = p->what->until_ns};

    if (ld_store_container_list(p->core->store, &query, &page, err) < 0)
        return -1;
    *after = page.next;
    for (size_t i = 0; i < page.n; i++) {
        const struct ld_container *c = &page.item[i];

        /* Its removal asks again; but nobody's key is waited for only to be refused. */
        if (ld_mounts_state(p->core->mounts, c->id, c->upper_sid) == LD_MOUNTED)
            continue;
        if (poll_cancel(p, err) < 0 || take_turn(p,
                                                 (struct turn){.p = p,
                                                               .id = c->id,
                                                               .name = c->name,
                                                               .sid = c->upper_sid,
                                                               .version = c->version},
                                                 err) < 0)
            return -1;
    }
    return 0;
}

static int prune_volumes(struct pruning *p, uint64_t *after, struct ld_err *err)
{
    struct ld_volume_page page LD_AUTO(ld_volume_page_done) = {.n = 0};
    struct ld_volume_query query = {.after = *after,
                                    .limit = PAGE,
                                    .labels = p->what->labels,
                                    .n_labels = p->what->n_labels,
                                    .unused = 1,
                                    .anonymous = p->what->all ? 0 : 1,
                                    .until_ns = p->what->until_ns};

    if (ld_store_volume_list(p->core->store, &query, &page, err) < 0)
        return -1;
    *after = page.next;
    for (size_t i = 0; i < page.n; i++) {
        const struct ld_volume *v = &page.item[i];

        if (poll_cancel(p, err) < 0 ||
            take_turn(
                p,
                (struct turn){
                    .p = p, .id = v->id, .name = v->name, .sid = v->sid, .version = v->version},
                err) < 0)
            return -1;
    }
    return 0;
}

static bool has_label(const struct ld_oci_config *config, const struct ld_label *label)
{
    for (size_t i = 0; i < config->n_labels; i++) {
        if (strcmp(config->labels[i].key, label->key) == 0)
            return !label->value || strcmp(config->labels[i].value, label->value) == 0;
    }
    return false;
}

/* An image's labels are in its config; one that can't be read has none. */
static bool has_labels(const struct pruning *p, const struct ld_image *image)
{
    LD_AUTO(ld_oci_config_done) struct ld_oci_config config = {.n_labels = 0};
    struct ld_err ignored = LD_ERR_INIT;

    if (p->what->n_labels == 0)
        return true;
    if (ld_oci_config_parse(image->config, image->config_len, image->id, &config, &ignored) < 0)
        return false;
    for (size_t i = 0; i < p->what->n_labels; i++) {
        if (!has_label(&config, &p->what->labels[i]))
            return false;
    }
    return true;
}

/* 1: nobody uses the image as far as can be seen; its removal asks again. */
static int is_unused(const struct pruning *p, const struct ld_image *image, struct ld_err *err)
{
    struct ld_users users LD_AUTO(ld_users_done) = {.n = 0};

    if (ld_store_image_users(p->core->store, image->id, &users, err) < 0)
        return -1;
    return users.n == 0;
}

static int prune_images(struct pruning *p, uint64_t *after, struct ld_err *err)
{
    struct ld_image_page page LD_AUTO(ld_image_page_done) = {.n = 0};
    struct ld_image_query query = {.after = *after,
                                   .limit = PAGE,
                                   .dangling = p->what->all ? 0 : 1,
                                   .until_ns = p->what->until_ns};

    if (ld_store_image_list(p->core->store, &query, &page, err) < 0)
        return -1;
    *after = page.next;
    for (size_t i = 0; i < page.n; i++) {
        const struct ld_image *image = &page.item[i];
        int unused = has_labels(p, image) ? is_unused(p, image, err) : 0;

        if (unused < 0 || poll_cancel(p, err) < 0)
            return -1;
        if (unused && take_turn(p,
                                (struct turn){.p = p,
                                              .id = image->id,
                                              .name = image->n_refs > 0 ? image->refs[0] : NULL,
                                              .version = image->version},
                                err) < 0)
            return -1;
    }
    return 0;
}

int ld_prune_run(struct ld_core *core, const struct ld_write *w, const struct ld_prune *what,
                 struct ld_pruned *ret, struct ld_err *err)
{
    static int (*const prune_page[])(struct pruning *, uint64_t *,
                                     struct ld_err *) = {[LD_PRUNE_IMAGES] = prune_images,
                                                         [LD_PRUNE_CONTAINERS] = prune_containers,
                                                         [LD_PRUNE_VOLUMES] = prune_volumes};
    LD_AUTO(ld_pruned_done) struct ld_pruned out = {.objects = 0};
    LD_AUTO(pruning_done) struct pruning p = {.core = core, .w = w, .what = what, .out = &out};
    uint64_t after = 0;

    struct ld_err why = LD_ERR_INIT;

    /* The bytes of layers that were a container's are told; those of one that can't be counted are
     * none, and no reason to remove nothing. */
    if (ld_freeze_count(core, what->cancel, &why) < 0 && why.code == LD_E_CANCELED) {
        *err = why;
        return -1;
    }
    do {
        if (prune_page[what->kind](&p, &after, err) < 0)
            return -1;
    } while (after);
    if (count_layers(&p, err) < 0)
        return -1;
    *ret = ld_steal(&out);
    return 0;
}
