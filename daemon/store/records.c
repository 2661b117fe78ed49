/* The records as values: freeing, copying, naming. Nothing here knows the database. Any thread. */
#include "daemon/store/records.h"

#include <stdlib.h>
#include <string.h>

#include "daemon/base/mem.h"

/* A page is an array of records that are freed one by one. */
#define PAGE_DONE(name, item_name)                                                                 \
    void ld_##name##_page_done(struct ld_##name##_page *page)                                      \
    {                                                                                              \
        for (size_t i = 0; i < page->n; i++)                                                       \
            ld_##item_name##_done(&page->item[i]);                                                 \
        free(page->item);                                                                          \
        memset(page, 0, sizeof(*page));                                                            \
    }

PAGE_DONE(layer, layer)
PAGE_DONE(image, image)
PAGE_DONE(container, container)
PAGE_DONE(snapshot, snapshot)
PAGE_DONE(volume, volume)
PAGE_DONE(job, job_record)
PAGE_DONE(trash, trash)
PAGE_DONE(image_usage, image_usage)
PAGE_DONE(event, event)

static void free_texts(char **texts, size_t n)
{
    for (size_t i = 0; i < n; i++)
        free(texts[i]);
    free(texts);
}

void ld_layer_done(struct ld_layer *layer)
{
    free(layer->diff_id);
    free(layer->chain_id);
    free(layer->damage);
    memset(layer, 0, sizeof(*layer));
}

void ld_kept_blob_done(struct ld_kept_blob *blob)
{
    free(blob->digest);
    free(blob->media_type);
    *blob = (struct ld_kept_blob){.digest = NULL};
}

void ld_image_done(struct ld_image *image)
{
    free(image->id);
    free(image->config);
    free(image->manifest);
    free(image->media_type);
    free_texts(image->refs, image->n_refs);
    memset(image, 0, sizeof(*image));
}

void ld_mount_spec_done(struct ld_mount_spec *mount)
{
    free(mount->source);
    free(mount->target);
    free(mount->subpath);
    free(mount->volume_id);
    memset(mount, 0, sizeof(*mount));
}

void ld_container_done(struct ld_container *container)
{
    free(container->id);
    free(container->name);
    free(container->image_id);
    free(container->image_ref);
    free(container->driver);
    free(container->driver_state);
    free(container->labels);
    free(container->config);
    free(container->spec_digest);
    free(container->boot_id);
    free(container->damage);
    for (size_t i = 0; i < container->n_mounts; i++)
        ld_mount_spec_done(&container->mounts[i]);
    free(container->mounts);
    memset(container, 0, sizeof(*container));
}

void ld_snapshot_done(struct ld_snapshot *snapshot)
{
    free(snapshot->id);
    free(snapshot->owner_id);
    free(snapshot->name);
    free(snapshot->labels);
    memset(snapshot, 0, sizeof(*snapshot));
}

void ld_volume_done(struct ld_volume *volume)
{
    free(volume->id);
    free(volume->name);
    free(volume->labels);
    free(volume->spec_digest);
    free(volume->damage);
    memset(volume, 0, sizeof(*volume));
}

void ld_event_done(struct ld_event *event)
{
    free(event->type);
    free(event->kind);
    free(event->object_id);
    free(event->object_name);
    free(event->request_id);
    free(event->attributes);
    memset(event, 0, sizeof(*event));
}

void ld_job_record_done(struct ld_job_record *job)
{
    free(job->id);
    free(job->kind);
    free(job->object_kind);
    free(job->object_id);
    free(job->request_id);
    free(job->result);
    free(job->error);
    memset(job, 0, sizeof(*job));
}

void ld_trash_done(struct ld_trash *trash)
{
    free(trash->kind);
    free(trash->owner_id);
    free(trash->owner_name);
    free_texts(trash->refs, trash->n_refs);
    memset(trash, 0, sizeof(*trash));
}

void ld_restored_done(struct ld_restored *restored)
{
    free_texts(restored->refs, restored->n_refs);
    free_texts(restored->taken, restored->n_taken);
    memset(restored, 0, sizeof(*restored));
}

struct ld_removed_object *ld_removed_add(struct ld_removed *removed, const char *kind,
                                         const char *id, const char *name)
{
    struct ld_removed_object *object;

    ld_grow(&removed->object, &removed->cap_objects, removed->n_objects + 1,
            sizeof(*removed->object));
    object = &removed->object[removed->n_objects++];
    *object = (struct ld_removed_object){.kind = ld_strdup(kind),
                                         .id = id ? ld_strdup(id) : NULL,
                                         .name = name ? ld_strdup(name) : NULL};
    return object;
}

void ld_removed_done(struct ld_removed *removed)
{
    for (size_t i = 0; i < removed->n_objects; i++) {
        free(removed->object[i].kind);
        free(removed->object[i].id);
        free(removed->object[i].name);
    }
    free(removed->object);
    free(removed->item);
    free_texts(removed->untagged, removed->n_untagged);
    memset(removed, 0, sizeof(*removed));
}

void ld_users_done(struct ld_users *users)
{
    for (size_t i = 0; i < users->n; i++) {
        free(users->item[i].kind);
        free(users->item[i].id);
        free(users->item[i].name);
    }
    free(users->item);
    memset(users, 0, sizeof(*users));
}

void ld_image_usage_done(struct ld_image_usage *usage)
{
    free(usage->id);
    memset(usage, 0, sizeof(*usage));
}

static char *dup_or_null(const char *text)
{
    return text ? ld_strdup(text) : NULL;
}

static void copy_mount(struct ld_mount_spec *to, const struct ld_mount_spec *from)
{
    *to = (struct ld_mount_spec){
        .type = from->type,
        .source = dup_or_null(from->source),
        .target = dup_or_null(from->target),
        .subpath = dup_or_null(from->subpath),
        .volume_id = dup_or_null(from->volume_id),
        .read_only = from->read_only,
        .size = from->size,
    };
}

void ld_container_copy(struct ld_container *to, const struct ld_container *from)
{
    *to = *from;
    to->id = dup_or_null(from->id);
    to->name = dup_or_null(from->name);
    to->image_id = dup_or_null(from->image_id);
    to->image_ref = dup_or_null(from->image_ref);
    to->driver = dup_or_null(from->driver);
    to->driver_state = dup_or_null(from->driver_state);
    to->labels = dup_or_null(from->labels);
    to->config = dup_or_null(from->config);
    to->spec_digest = dup_or_null(from->spec_digest);
    to->boot_id = dup_or_null(from->boot_id);
    to->damage = dup_or_null(from->damage);
    to->mounts = from->n_mounts ? ld_alloc0(from->n_mounts * sizeof(*to->mounts)) : NULL;
    for (size_t i = 0; i < from->n_mounts; i++)
        copy_mount(&to->mounts[i], &from->mounts[i]);
}

void ld_event_copy(struct ld_event *to, const struct ld_event *from)
{
    *to = *from;
    to->type = dup_or_null(from->type);
    to->kind = dup_or_null(from->kind);
    to->object_id = dup_or_null(from->object_id);
    to->object_name = dup_or_null(from->object_name);
    to->request_id = dup_or_null(from->request_id);
    to->attributes = dup_or_null(from->attributes);
}

const char *ld_place_dir(enum ld_place place)
{
    switch (place) {
    case LD_PLACE_LAYERS:
        return "layers";
    case LD_PLACE_W:
        return "w";
    case LD_PLACE_VOLUMES:
        return "volumes";
    case LD_PLACE_NONE:
        return "";
    }
    abort();
}

const char *ld_origin_name(enum ld_origin origin)
{
    switch (origin) {
    case LD_ORIGIN_IMPORT:
        return "import";
    case LD_ORIGIN_COMMIT:
        return "commit";
    case LD_ORIGIN_FREEZE:
        return "freeze";
    case LD_ORIGIN_CAPTURE:
        return "capture";
    case LD_ORIGIN_FOLD:
        return "fold";
    }
    abort();
}

const char *ld_backing_name(enum ld_backing backing)
{
    switch (backing) {
    case LD_BACKING_TMPFS:
        return "tmpfs";
    case LD_BACKING_EXT4:
        return "ext4";
    case LD_BACKING_NONE:
    case LD_BACKING_END:
        break;
    }
    return NULL;
}

const char *ld_mount_type_name(enum ld_mount_type type)
{
    switch (type) {
    case LD_MOUNT_VOLUME:
        return "volume";
    case LD_MOUNT_BIND:
        return "bind";
    case LD_MOUNT_TMPFS:
        return "tmpfs";
    }
    abort();
}

const char *ld_job_state_name(enum ld_job_state state)
{
    switch (state) {
    case LD_JOB_RUNNING:
        return "running";
    case LD_JOB_DONE:
        return "done";
    case LD_JOB_FAILED:
        return "failed";
    case LD_JOB_CANCELED:
        return "canceled";
    case LD_JOB_INTERRUPTED:
        return "interrupted";
    }
    abort();
}
