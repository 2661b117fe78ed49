/* The records of the store as plain values.
 *
 * Every struct owns its strings and arrays; `_done` frees them and leaves an empty value, may run
 * twice, and accepts a zeroed struct. Text that is absent is NULL. Times are nanoseconds since
 * 1970, 0: never. Whether something is mounted or busy is no record: the kernel is asked. Values;
 * any thread.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/base/cleanup.h"
#include "daemon/base/quota.h"
#include "daemon/base/sid.h"

/* Container, snapshot, volume and job ids: 64 hex digits. Image ids: "sha256:" and 64 hex digits.
 */

enum ld_origin {
    LD_ORIGIN_IMPORT,
    LD_ORIGIN_COMMIT,
    LD_ORIGIN_FREEZE,  /* it was a container's writable layer */
    LD_ORIGIN_CAPTURE, /* a copy of one */
    LD_ORIGIN_FOLD,    /* several of these in one */
};

/* A committed layer. Damaged when `damage` says why. */
struct ld_layer {
    ld_sid sid;
    ld_sid parent_sid; /* 0: the lowest */
    char *diff_id;     /* NULL until an image needs one */
    char *chain_id;    /* NULL likewise; unique */
    enum ld_origin origin;
    char *damage;      /* NULL: whole */
    bool is_uncounted; /* bytes and inodes are not known yet, and 0 */
    uint64_t bytes;
    uint64_t inodes;
    int64_t created_ns;
};

/* Imported and committed ones have a recipe beside them, the others have not. */
static inline bool ld_layer_has_recipe(const struct ld_layer *layer)
{
    return layer->origin == LD_ORIGIN_IMPORT || layer->origin == LD_ORIGIN_COMMIT;
}

/* The blob a layer came as, kept beside it. */
struct ld_kept_blob {
    char *digest;
    char *media_type;
    uint64_t size;
};

struct ld_image {
    char *id;       /* the config's digest */
    ld_sid tip_sid; /* 0: an image without layers */
    void *config;   /* the config as it came, NUL added */
    size_t config_len;
    void *manifest; /* as it came, or NULL; not filled by lists */
    size_t manifest_len;
    char *media_type;   /* of the manifest */
    uint64_t size;      /* as the importer said */
    int64_t created_ns; /* when it came here */
    uint64_t version;
    char **refs; /* full names, sorted; filled by every read */
    size_t n_refs;
};

enum ld_mount_type { LD_MOUNT_VOLUME, LD_MOUNT_BIND, LD_MOUNT_TMPFS };

/* What holds an ephemeral container's writable layer, if not the data root. In the database by
 * these numbers. */
enum ld_backing { LD_BACKING_NONE, LD_BACKING_TMPFS, LD_BACKING_EXT4, LD_BACKING_END };

/* A mount a container asks for. */
struct ld_mount_spec {
    enum ld_mount_type type;
    char *source;    /* volume: its name as asked or NULL; bind: absolute path; tmpfs: NULL */
    char *target;    /* bytes, absolute in the container */
    char *subpath;   /* below the volume, or NULL */
    char *volume_id; /* volume: resolved */
    bool read_only;
    uint64_t size; /* tmpfs: limit in bytes, 0: none */
};

struct ld_container {
    char *id;
    char *name;        /* NULL: none; unique among the living */
    char *image_id;    /* NULL: made from a snapshot or nothing. May name an image removed since
                          (force) */
    char *image_ref;   /* as asked */
    ld_sid base_sid;   /* the tip of its image: what its changes are told against */
    ld_sid parent_sid; /* the tip it stands on, the base or above it; 0: none */
    ld_sid upper_sid;
    char *driver;
    char *driver_state; /* the driver's own text */
    char *labels;       /* a JSON object of strings as text, never NULL when read */
    char *config;       /* a JSON object as text, or NULL */
    char *spec_digest;  /* of the canonical body that made it, or NULL */
    char *boot_id;      /* ephemeral: the boot it lives in. Set by the store */
    struct ld_mount_spec *mounts;
    size_t n_mounts;
    struct ld_limits limits; /* of the writable layer */
    enum ld_backing backing; /* ephemeral ones with a limit only */
    bool read_only;
    bool ephemeral; /* lives until the next boot, never synced */
    bool auto_remove;
    bool ever_mounted;
    char *damage; /* NULL: whole */
    int64_t created_ns;
    uint64_t version; /* grows with each visible change: the ETag */
    int64_t removed_ns;
};

/* A named tip of a container, or a copy of a volume: removed with it. */
struct ld_snapshot {
    char *id;
    char *owner_id;    /* the container or volume */
    char *name;        /* NULL: none; unique among those of its owner */
    char *labels;      /* JSON object, never NULL when read */
    ld_sid tip_sid;    /* 0: of a container without layers, or of a volume */
    ld_sid volume_sid; /* of a volume: the copy, volumes/SID; 0: of a container */
    bool fuzzy;        /* taken while its owner was written to */
    int64_t created_ns;
    uint64_t version;
};

struct ld_volume {
    char *id;
    ld_sid sid;
    char *name; /* NULL for anonymous ones: found by id */
    bool anonymous;
    bool seeded;
    uint64_t size_limit; /* 0: none */
    char *labels;        /* JSON object, never NULL when read */
    char *spec_digest;   /* or NULL */
    char *damage;
    int64_t created_ns;
    uint64_t version;
    int64_t removed_ns;
};

struct ld_event {
    uint64_t id; /* grows; gaps are normal */
    int64_t time_ns;
    char *type; /* "container.create" */
    char *kind; /* of the object: container, image, snapshot, volume, layer, system */
    char *object_id;
    char *object_name;
    int64_t uid, pid; /* who asked; -1: the daemon itself */
    char *request_id;
    char *attributes; /* a JSON object as text, or NULL */
};

enum ld_job_state {
    LD_JOB_RUNNING,
    LD_JOB_DONE,
    LD_JOB_FAILED,
    LD_JOB_CANCELED,
    LD_JOB_INTERRUPTED, /* the daemon died meanwhile */
};

/* Progress is not a record: it lives in memory while the job runs. */
struct ld_job_record {
    char *id;
    char *kind; /* "image.import" */
    enum ld_job_state state;
    char *object_kind, *object_id; /* what it is about, or NULL */
    int64_t uid;
    char *request_id;
    char *result; /* JSON text, or NULL */
    char *error;  /* JSON text: the error object, or NULL */
    int64_t created_ns;
    int64_t finished_ns;
};

/* Which directory of the data root a sid stands in; NONE: in none, it is an image's in the trash.
 */
enum ld_place { LD_PLACE_LAYERS, LD_PLACE_W, LD_PLACE_VOLUMES, LD_PLACE_NONE };
const char *ld_place_dir(enum ld_place place); /* "layers", "w", "volumes", "" */

/* Something whose removal was recorded and whose directory is (or is about to be) trash/SID. The
 * layers of an image stay where they are. */
struct ld_trash {
    ld_sid sid;
    enum ld_place place; /* where it comes from */
    char *kind;          /* layer, container, volume, image, snapshot (of a volume) */
    char *owner_id;      /* its id; a layer's chain ID or NULL */
    char *owner_name;    /* an image's: the first of its names */
    int64_t removed_ns;
    int64_t purge_ns; /* not deleted before; removed_ns: it may be half deleted */
    char **refs;      /* of an image, sorted; filled by lists */
    size_t n_refs;
};

/* Names that a restored image has again, and those that other images have taken meanwhile. */
struct ld_restored {
    char **refs;
    size_t n_refs, cap_refs;
    char **taken;
    size_t n_taken, cap_taken;
};

/* What a removal took away: the directories that the caller now moves to trash/SID. */
struct ld_gone {
    ld_sid sid;
    enum ld_place place;
};
/* The same as a user sees it. */
struct ld_removed_object {
    char *kind;     /* container, volume, image, layer; "reference": of the image `id` */
    char *id;       /* a layer's chain ID, or NULL when it has none */
    char *name;     /* or NULL */
    uint64_t bytes; /* of a layer as recorded; other directories are measured by the core; of an
                       image that is kept, on a dry run: of the layers that go to the trash with it
                     */
    struct ld_gone dir;
    bool has_dir;
    bool is_kept; /* in the trash, restorable */
};
struct ld_removed {
    struct ld_gone *item;
    size_t n;
    size_t cap;
    uint64_t layer_bytes; /* of the layers among them */
    char **untagged;      /* references dropped */
    size_t n_untagged;
    size_t cap_untagged;
    struct ld_removed_object *object; /* with strings of its own */
    size_t n_objects;
    size_t cap_objects;
    bool is_removed; /* false: an image only lost a reference */
};
/* The strings are copied. Valid until the next one is added. */
struct ld_removed_object *ld_removed_add(struct ld_removed *removed, const char *kind,
                                         const char *id, const char *name);

/* Who refers to an object. */
struct ld_user {
    char *kind; /* container, image, snapshot */
    char *id;
    char *name; /* or NULL */
};
struct ld_users {
    struct ld_user *item;
    size_t n; /* 1,000 at most */
};

/* As details of an error: {"users":[{kind,id,name}]}. Returns -1. */
struct ld_err;
int ld_users_details(const struct ld_users *users, struct ld_err *err);

/* Bytes of an image's layers: of those that other images have too, and of its own. */
struct ld_image_usage {
    char *id;
    uint64_t shared;
    uint64_t unique;
};

/* Pages: `next` is what to pass as `after` for the following page, 0 at the end. */
struct ld_layer_page {
    struct ld_layer *item;
    size_t n;
    uint64_t next;
};
struct ld_image_page {
    struct ld_image *item;
    size_t n;
    uint64_t next;
};
struct ld_container_page {
    struct ld_container *item;
    size_t n;
    uint64_t next;
};
struct ld_snapshot_page {
    struct ld_snapshot *item;
    size_t n;
    uint64_t next;
};
struct ld_volume_page {
    struct ld_volume *item;
    size_t n;
    uint64_t next;
};
struct ld_job_page {
    struct ld_job_record *item;
    size_t n;
    uint64_t next;
};
struct ld_trash_page {
    struct ld_trash *item;
    size_t n;
    uint64_t next;
};
struct ld_image_usage_page {
    struct ld_image_usage *item;
    size_t n;
    uint64_t next;
};
struct ld_event_page {
    struct ld_event *item;
    size_t n;
    uint64_t next; /* the last id looked at (filtered ones too): never 0, even at the end */
    bool more;     /* another page is there already */
    uint64_t gap_from, gap_to; /* events after `after` that were dropped; 0, 0: none */
};

void ld_layer_done(struct ld_layer *layer);
void ld_kept_blob_done(struct ld_kept_blob *blob);
void ld_image_done(struct ld_image *image);
void ld_mount_spec_done(struct ld_mount_spec *mount);
void ld_container_done(struct ld_container *container);
void ld_snapshot_done(struct ld_snapshot *snapshot);
void ld_volume_done(struct ld_volume *volume);
void ld_event_done(struct ld_event *event);
void ld_job_record_done(struct ld_job_record *job);
void ld_trash_done(struct ld_trash *trash);
void ld_removed_done(struct ld_removed *removed);
void ld_restored_done(struct ld_restored *restored);
void ld_users_done(struct ld_users *users);
void ld_image_usage_done(struct ld_image_usage *usage);
void ld_layer_page_done(struct ld_layer_page *page);
void ld_image_page_done(struct ld_image_page *page);
void ld_container_page_done(struct ld_container_page *page);
void ld_snapshot_page_done(struct ld_snapshot_page *page);
void ld_volume_page_done(struct ld_volume_page *page);
void ld_job_page_done(struct ld_job_page *page);
void ld_trash_page_done(struct ld_trash_page *page);
void ld_image_usage_page_done(struct ld_image_usage_page *page);
void ld_event_page_done(struct ld_event_page *page);

/* A deep copy; `to` is overwritten. */
void ld_container_copy(struct ld_container *to, const struct ld_container *from);
void ld_event_copy(struct ld_event *to, const struct ld_event *from);

const char *ld_origin_name(enum ld_origin origin);       /* "import" */
const char *ld_mount_type_name(enum ld_mount_type type); /* "volume" */
const char *ld_backing_name(enum ld_backing backing);    /* "tmpfs"; NULL: none */
const char *ld_job_state_name(enum ld_job_state state);  /* "running" */
