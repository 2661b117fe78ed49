/* The store: every record of the daemon in one SQLite database, `db` in the data root.
 *
 * Threads. Reads: any thread; `_get`, `_find` and `_by_` lookups are short enough for the loop,
 * lists and sums belong on a worker. Write verbs block until their transaction is durable and never
 * run on the loop (asserted). All writes go through one thread, which puts everything that waits
 * into one transaction: N callers share one sync.
 *
 * Every write verb is one transaction of its own, checks its conditions again inside, and records
 * its event there. It is all or nothing; after an error nothing has changed.
 *
 * Error codes common to all: no_space, io, corrupt, unavailable (closing, or out of memory). Others
 * are named at each function.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/base/err.h"
#include "daemon/base/histogram.h"
#include "daemon/base/sid.h"
#include "daemon/store/records.h"

struct ld_store;

enum {
    LD_STORE_PAGE_MAX = 1000, /* rows of one page; a limit of 0 or above means this */
    LD_STORE_MAX_DIRS = 8,
    LD_STORE_MAX_DOC = 8 << 20, /* bytes of one document (config, manifest, labels) */
};

struct ld_store_options {
    const char *boot_id;   /* NULL: the kernel's. For tests */
    bool (*is_loop)(void); /* true on the thread that must not block; NULL: not checked */
    uint64_t max_events;   /* 0: 100,000 */
};

/* Opens (makes when missing) `db` below data_root_fd, brings its schema up to date, and starts the
 * writer thread. data_root_fd is borrowed until close. Nobody else may have the database open (the
 * caller holds the root's lock). Codes: corrupt (not a database, damaged), unsupported (made by a
 * newer layerd). */
int ld_store_open(int data_root_fd, const struct ld_store_options *options,
                  struct ld_store **ret_store, struct ld_err *err);

/* Commits what is queued, marks the database as cleanly closed, ends the thread. No other call may
 * be running or follow. NULL is fine. */
void ld_store_close(struct ld_store *store);
void ld_store_close_p(struct ld_store **store);

/* Random, 16 hex digits, made with the database: names our mounts. Valid until close. */
const char *ld_store_instance(const struct ld_store *store);
const char *ld_store_boot_id(const struct ld_store *store);
/* Is this the boot in which the database was open last? Otherwise nothing can still be mounted. */
bool ld_store_is_same_boot(const struct ld_store *store);
/* Every sid given out before this start lies below. A directory named by a sid at or above it means
 * that the database is older than the tree. */
ld_sid ld_store_sid_ceiling(const struct ld_store *store);
/* Every sid given out so far lies below: the next start's ceiling, if it were now. Any thread. */
ld_sid ld_store_sid_next(struct ld_store *store);

/* A sid that was never given out before, whatever a power cut forgot. Any thread; waits for a
 * commit only when a block is used up faster than the next one comes (not on the loop then). */
int ld_store_take_sid(struct ld_store *store, ld_sid *ret_sid, struct ld_err *err);

/* Called on the store's thread after each commit with events: it must not block. Set before events
 * are expected; once. */
typedef void (*ld_store_event_fn)(void *arg, uint64_t newest_id);
void ld_store_on_events(struct ld_store *store, ld_store_event_fn fn, void *arg);

/* Waits until everything queued before (posted events too) is committed and durable. */
int ld_store_flush(struct ld_store *store, struct ld_err *err);

struct ld_store_stats {
    uint64_t commits;            /* transactions */
    uint64_t writes;             /* verbs in them */
    struct ld_histogram batch;   /* writes per transaction; ld_scale_count */
    struct ld_histogram sync_ns; /* of each transaction that waited for the disk; ld_scale_time */
    uint64_t dir_syncs;          /* directories synced for them */
    uint64_t checkpoints;
    uint64_t wal_bytes; /* at present */
    uint64_t db_bytes;
};
void ld_store_get_stats(struct ld_store *store, struct ld_store_stats *ret);

/* ---- how a write is done ---- */

/* "Idempotency-Key": the object made under it is found again by the same peer's same request. */
struct ld_once {
    const char *key;
    int64_t uid;
    const char *digest; /* of the request */
    const char *answer; /* kept beside the object, or NULL */
};

/* What an event says; id, time and who are filled in by the store. Borrowed. */
struct ld_note {
    const char *type; /* "container.mount" */
    const char *kind; /* of the object: container, image, snapshot, volume, layer, system */
    const char *id;   /* the object's, or NULL as the following */
    const char *name;
    const char *attributes; /* a JSON object as text */
};

/* Everything about a write but the write. All borrowed for the call. A zeroed one is for tests: the
 * daemon itself uses LD_WRITE_SELF. */
struct ld_write {
    int64_t uid, pid;            /* who asked, for the event; -1: the daemon itself */
    const char *request_id;      /* or NULL */
    const int *dirs;             /* directories that must be durable before the record is */
    size_t n_dirs;               /* LD_STORE_MAX_DIRS at most */
    const struct ld_once *once;  /* or NULL; looked at by what makes things: add, tag, freeze */
    const struct ld_note *notes; /* more events for the same transaction */
    size_t n_notes;
    bool dry_run; /* do it, report the result, undo it: no event, no change */
};
#define LD_WRITE_SELF ((struct ld_write){.uid = -1, .pid = -1})

/* ---- layers ---- */

/* not_found. */
int ld_store_layer_get(struct ld_store *store, ld_sid sid, struct ld_layer *ret,
                       struct ld_err *err);
int ld_store_layer_by_chain(struct ld_store *store, const char *chain_id, struct ld_layer *ret,
                            struct ld_err *err);

/* The layers from a tip down to the lowest. tip 0: none. */
struct ld_chain_sids {
    ld_sid sid[LD_MAX_LAYERS]; /* topmost first */
    size_t n;
    ld_sid damaged; /* the topmost damaged one, 0: all are whole */
};
/* not_found: no such tip; corrupt: more than LD_MAX_LAYERS. */
int ld_store_chain(struct ld_store *store, ld_sid tip, struct ld_chain_sids *ret,
                   struct ld_err *err);

/* By sid; `after` 0 for the first page. */
int ld_store_layer_list(struct ld_store *store, uint64_t after, size_t limit,
                        struct ld_layer_page *ret, struct ld_err *err);
/* Images, containers and snapshots whose chain has the layer. */
int ld_store_layer_users(struct ld_store *store, ld_sid sid, struct ld_users *ret,
                         struct ld_err *err);
/* What a frozen layer takes, once somebody has counted it. Not synced. */
int ld_store_layer_set_count(struct ld_store *store, ld_sid sid, uint64_t bytes, uint64_t inodes,
                             struct ld_err *err);
/* The first sid above `after` of a layer that is not counted yet; 0: none. */
int ld_store_layer_uncounted(struct ld_store *store, ld_sid after, ld_sid *ret, struct ld_err *err);
/* reason NULL: it is whole again. not_found. */
int ld_store_layer_set_damage(struct ld_store *store, const struct ld_write *w, ld_sid sid,
                              const char *reason, struct ld_err *err);

/* The blob that is kept of a layer. not_found: none is. Point read. */
int ld_store_blob_get(struct ld_store *store, ld_sid sid, struct ld_kept_blob *ret,
                      struct ld_err *err);
/* It is kept no more; the layer stays. */
int ld_store_blob_forget(struct ld_store *store, const struct ld_write *w, ld_sid sid,
                         struct ld_err *err);

/* ---- images ---- */

enum ld_layer_how {
    LD_LAYER_NEW,      /* a new row: everything of `layer` but parent_sid */
    LD_LAYER_REUSED,   /* layer.sid and chain_id: must still be there, whole, on the layer below */
    LD_LAYER_REPAIRED, /* its directory was made anew in place: whole again, bytes and inodes set */
};
struct ld_layer_add {
    enum ld_layer_how how;
    struct ld_layer layer;
    struct ld_kept_blob blob; /* digest NULL: none; a reused layer keeps what it has */
};
struct ld_image_add {
    struct ld_image image; /* tip_sid, refs, version are not looked at; created_ns 0: now */
    const struct ld_layer_add *layers; /* bottom to top */
    size_t n_layers;
    const char *const *refs; /* names that will point to it, moved from other images if need be */
    size_t n_refs;
    const char *container; /* whose commit it is; NULL: an import */
};

/* All images of an import or commit with their layers in one transaction. A later image may reuse
 * what an earlier one of the same call adds. An image that is there already stays as it is and
 * takes the references; one in the trash lives again, with these references alone. conflict: a
 * reused layer is gone or damaged, or a new one's chain ID came meanwhile: plan again. exists:
 * once.key has its object. That is the first image and once.answer. Events: image.import or
 * image.commit per image, image.tag per reference. */
int ld_store_image_add(struct ld_store *store, const struct ld_write *w,
                       const struct ld_image_add *adds, size_t n, struct ld_err *err);

/* not_found. `id` in full; `ref` a full name. */
int ld_store_image_get(struct ld_store *store, const char *id, struct ld_image *ret,
                       struct ld_err *err);
int ld_store_image_by_ref(struct ld_store *store, const char *ref, struct ld_image *ret,
                          struct ld_err *err);
/* A unique beginning of an id, with or without "sha256:", of at least 4 hex digits (less:
 * not_found). conflict: ambiguous, details.candidates. */
int ld_store_image_by_prefix(struct ld_store *store, const char *prefix, struct ld_image *ret,
                             struct ld_err *err);

struct ld_image_query {
    uint64_t after;
    size_t limit;
    const char *ref_glob; /* one of its references matches, or NULL */
    int dangling;         /* 1: only those without references, -1: only with, 0: all */
    int64_t until_ns;     /* created before, 0: any time */
};
int ld_store_image_list(struct ld_store *store, const struct ld_image_query *query,
                        struct ld_image_page *ret, struct ld_err *err);

/* not_found: the image. Moves the reference if it points elsewhere. if_match 0: any version of the
 * image; precondition. Event image.tag. */
int ld_store_image_tag(struct ld_store *store, const struct ld_write *w, const char *ref,
                       const char *image_id, uint64_t if_match, struct ld_err *err);

struct ld_image_remove {
    const char *id;  /* exactly one of the two: the image with all its references … */
    const char *ref; /* … or one reference, and the image when it was the last */
    bool force; /* even when containers were made of it (they keep their layers) or, by id, when it
                 * has several references */
    bool all_refs; /* by id: even when it has several references */
    bool keep;     /* by ref: never the image (untag) */
    uint64_t if_match;
    int64_t keep_ns;  /* how long it can be restored from the trash; 0: it is destroyed */
    ld_sid trash_sid; /* one taken for that: its place in the trash */
};
/* not_found; in_use (details.users: containers); conflict (several references); precondition.
 * Layers that nothing else needs leave with it: their directories are in ret_removed, their trash
 * rows written; where it is kept, they stay with it. Events image.untag, image.remove. */
int ld_store_image_remove(struct ld_store *store, const struct ld_write *w,
                          const struct ld_image_remove *what, struct ld_removed *ret_removed,
                          struct ld_err *err);
/* Containers made from it. */
int ld_store_image_users(struct ld_store *store, const char *id, struct ld_users *ret,
                         struct ld_err *err);

/* ---- containers ---- */

/* `c` as it shall be (created_ns 0: now; version, boot_id, removed_ns are the store's).
 * exists: the name is taken (details.id), or once.key has its object already (look it up).
 * not_found: its image or a volume is gone. conflict: its tip is gone; once.key was used for
 * another request. An ephemeral one is not synced. Event container.create. */
int ld_store_container_add(struct ld_store *store, const struct ld_write *w,
                           const struct ld_container *c, struct ld_err *err);

/* A container on a tip of another one, whose image may be gone by now. `layer` (or NULL) is new and
 * goes with it: c stands on it. Events container.create, and container.clone of `from`. */
int ld_store_container_clone(struct ld_store *store, const struct ld_write *w,
                             const struct ld_container *c, const char *from_id,
                             const struct ld_layer *layer, struct ld_err *err);

/* Whole id. not_found. */
int ld_store_container_get(struct ld_store *store, const char *id, struct ld_container *ret,
                           struct ld_err *err);
/* As a user says it: whole id, then name, then unique beginning of an id (4 hex digits or more).
 * not_found; conflict: ambiguous, details.candidates. */
int ld_store_container_find(struct ld_store *store, const char *text, struct ld_container *ret,
                            struct ld_err *err);

struct ld_label {
    const char *key;
    const char *value; /* NULL: any */
};
struct ld_container_query {
    uint64_t after;
    size_t limit;
    const char *name_glob; /* or NULL, as all of these */
    const char *image_id;
    const char *driver;
    const char *volume_id;         /* mounts it */
    const struct ld_label *labels; /* all must be there */
    size_t n_labels;
    int64_t until_ns; /* created before, 0: any time */
    bool limited;     /* only those with a limit; the others are not even looked at */
};
/* In the order of their making. */
int ld_store_container_list(struct ld_store *store, const struct ld_container_query *query,
                            struct ld_container_page *ret, struct ld_err *err);

struct ld_container_patch {
    const char *name;               /* NULL: as it is */
    const char *labels;             /* the new object as a whole; NULL: as it is */
    const struct ld_limits *limits; /* NULL: as they are */
    uint64_t if_match;              /* 0: any version */
};
/* not_found, exists (name), precondition. `ret` may be NULL. Event container.update. */
int ld_store_container_patch(struct ld_store *store, const struct ld_write *w, const char *id,
                             const struct ld_container_patch *patch, struct ld_container *ret,
                             struct ld_err *err);

/* not_found. What the driver wants back; that it was mounted once (not synced: matters within one
 * boot only); why it is damaged (NULL: whole). No events but container.damaged. */
int ld_store_container_set_driver_state(struct ld_store *store, const struct ld_write *w,
                                        const char *id, const char *state, struct ld_err *err);
int ld_store_container_set_ever_mounted(struct ld_store *store, const char *id, struct ld_err *err);
int ld_store_container_set_damage(struct ld_store *store, const struct ld_write *w, const char *id,
                                  const char *reason, struct ld_err *err);

struct ld_remove {
    uint64_t if_match; /* 0: any version */
    int64_t keep_ns;   /* how long it can be restored from trash; 0: it is destroyed */
    bool volumes;      /* container: its anonymous volumes too, where nobody else has them */
    /* container: somebody may have it mounted still, so it needs its layers until its directory is
     * deleted (ld_store_trash_forget). */
    bool may_be_held;
};
/* not_found, precondition. Its writable layer, its snapshots, layers and anonymous volumes that
 * lose their last user leave with it: ret_removed. Event container.remove (volume.remove). */
int ld_store_container_remove(struct ld_store *store, const struct ld_write *w, const char *id,
                              const struct ld_remove *how, struct ld_removed *ret_removed,
                              struct ld_err *err);

/* Removes ephemeral containers of other boots than this one, with event container.expired. To be
 * called until *ret_more is false (100 each time). */
int ld_store_expire(struct ld_store *store, struct ld_removed *ret_removed, bool *ret_more,
                    struct ld_err *err);

/* ---- snapshots ---- */

/* The present state of a container becomes a tip. */
struct ld_freeze {
    const char *container; /* id */
    ld_sid upper_sid;      /* its writable layer, as the caller has seen it */
    /* The state as a new layer on the container's tip; NULL: the tip itself has it (unchanged). */
    const struct ld_layer *layer;
    /* Its next writable layer, standing on the new one (whose sid is upper_sid: a freeze); 0: it
     * keeps what it has (a capture). */
    ld_sid next_sid;
    bool is_ephemeral;
    const struct ld_snapshot *snapshot; /* named so; tip_sid, version are the store's. Or NULL */
};
/* not_found: the container; conflict: it has another writable layer by now, or once.key was used
 * for another request; exists: the snapshot's name (details.id), or once.key has its object. Event
 * snapshot.create. That of an ephemeral container is not synced. */
int ld_store_freeze(struct ld_store *store, const struct ld_write *w,
                    const struct ld_freeze *freeze, struct ld_err *err);

/* Of the container or volume `owner` (its id), as a user says it: whole id, name, beginning of an
 * id. not_found; conflict: ambiguous. */
int ld_store_snapshot_find(struct ld_store *store, const char *owner, const char *text,
                           struct ld_snapshot *ret, struct ld_err *err);
struct ld_snapshot_query {
    const char *owner; /* id of the container or volume */
    uint64_t after;
    size_t limit;
    const char *name_glob;         /* or NULL */
    const struct ld_label *labels; /* all must be there */
    size_t n_labels;
    int64_t until_ns; /* created before, 0: any time */
};
int ld_store_snapshot_list(struct ld_store *store, const struct ld_snapshot_query *query,
                           struct ld_snapshot_page *ret, struct ld_err *err);
/* Whose state a layer is: the first snapshot of it, of that container if it has one. not_found. */
int ld_store_snapshot_of_layer(struct ld_store *store, ld_sid layer, const char *container,
                               struct ld_snapshot *ret, struct ld_err *err);
/* How many a container has, and which of them it stands on (the newest; NULL: none). Free it. */
int ld_store_snapshot_summary(struct ld_store *store, const char *owner, uint64_t *ret_n,
                              char **ret_parent, struct ld_err *err);

/* not_found, precondition. Its directory (of a volume), or layers that nothing else needs, leave
 * with it. Event snapshot.remove. */
int ld_store_snapshot_remove(struct ld_store *store, const struct ld_write *w, const char *owner,
                             const char *id, uint64_t if_match, struct ld_removed *ret_removed,
                             struct ld_err *err);

/* A container goes on in another writable layer, on another tip. */
struct ld_moved {
    const char *container;    /* id */
    const char *snapshot;     /* the id of the one it returns to; NULL: none, but tip_sid */
    ld_sid tip_sid;           /* a layer that says with those below it what the container said */
    ld_sid upper_sid;         /* as the caller has seen it */
    ld_sid next_sid;          /* its next writable layer, on the tip */
    const char *driver_state; /* of that; or NULL */
    bool is_ephemeral;
};
/* not_found; conflict: it has another writable layer by now, or the tip is damaged or gone. The old
 * writable layer, and layers that only it needed, are in ret_removed. Returning to a snapshot is an
 * event, container.rollback, and a new version; a move by tip_sid changes nothing that shows. */
int ld_store_move(struct ld_store *store, const struct ld_write *w, const struct ld_moved *what,
                  struct ld_removed *ret_removed, struct ld_err *err);

/* ---- folding ---- */

/* The layers from a tip downwards that can be folded: states of containers, whole and counted. */
struct ld_foldable {
    struct ld_foldable_layer {
        ld_sid sid;
        uint64_t bytes, inodes;
        bool is_named;     /* a snapshot's or container's tip, or several layers stand on it */
    } item[LD_MAX_LAYERS]; /* topmost first */
    size_t n;              /* 0: not even that one, or it is nobody's tip */
};
int ld_store_foldable(struct ld_store *store, ld_sid tip, struct ld_foldable *ret,
                      struct ld_err *err);
/* A tip whose chain has the layer in it, or that it is; 0: there is none. */
int ld_store_foldable_above(struct ld_store *store, ld_sid sid, ld_sid *ret_tip,
                            struct ld_err *err);
/* The first sid above `after` of such a layer on which no other stands; 0: none. */
int ld_store_foldable_tip(struct ld_store *store, ld_sid after, ld_sid *ret, struct ld_err *err);

struct ld_fold {
    const ld_sid *run; /* topmost first: each stands on the next one */
    size_t n;
    const struct ld_layer *layer; /* new, on what the last of them stands on; parent_sid is not
                                     looked at */
};
/* What stands on the run's topmost layer stands on `layer` instead. The run stays as it is, whether
 * anybody else needs it or not, until ld_store_fold_release: those who have read the old chain may
 * go on with it. conflict: the run is not what it was. No event: nothing has changed to be seen. */
int ld_store_fold(struct ld_store *store, const struct ld_fold *fold, struct ld_err *err);
/* tops: the topmost layers of folded runs. Nobody any more is about to use a chain he has read
 * before the fold. The layers leave that nothing needs and no container can have mounted; those
 * that one can are held. */
int ld_store_fold_release(struct ld_store *store, const ld_sid *tops, size_t n,
                          struct ld_removed *ret_removed, struct ld_err *err);

/* A writable layer that layers are held for. */
struct ld_held {
    ld_sid upper_sid; /* 0: there are no more */
    char *container;  /* the living one that has it; NULL: it is in the trash, or */
    bool is_gone;     /* … deleted: let go of it */
};
void ld_held_done(struct ld_held *held);
/* The first one above `after`. */
int ld_store_held_next(struct ld_store *store, ld_sid after, struct ld_held *ret,
                       struct ld_err *err);
/* Nobody has anything of that writable layer mounted: what was held for it leaves, where nothing
 * needs it. */
int ld_store_held_drop(struct ld_store *store, ld_sid upper, struct ld_removed *ret_removed,
                       struct ld_err *err);
/* Start: lets go of what can't be mounted, and of folded layers whose release was cut off. Their
 * directories are found by their trash rows. */
int ld_store_folds_recover(struct ld_store *store, struct ld_err *err);

/* ---- volumes ---- */

/* As for containers. exists: the name is taken (details.id), or once.key has its object. Event
 * volume.create. */
int ld_store_volume_add(struct ld_store *store, const struct ld_write *w, const struct ld_volume *v,
                        struct ld_err *err);
/* The living volume of v's name, or v made: first wins. *ret_made tells which; if false, the caller
 * discards the directory it had prepared under v's sid. */
int ld_store_volume_ensure(struct ld_store *store, const struct ld_write *w,
                           const struct ld_volume *v, struct ld_volume *ret, bool *ret_made,
                           struct ld_err *err);
int ld_store_volume_get(struct ld_store *store, const char *id, struct ld_volume *ret,
                        struct ld_err *err);
int ld_store_volume_by_name(struct ld_store *store, const char *name, struct ld_volume *ret,
                            struct ld_err *err);
int ld_store_volume_find(struct ld_store *store, const char *text, struct ld_volume *ret,
                         struct ld_err *err);

struct ld_volume_query {
    uint64_t after;
    size_t limit;
    const char *name_glob;
    const struct ld_label *labels;
    size_t n_labels;
    int unused;    /* 1: only those no living container mounts, -1: only those mounted, 0: all */
    int anonymous; /* 1, -1, 0 likewise */
    int64_t until_ns;
    bool limited; /* only those with a limit; the others are not even looked at */
};
int ld_store_volume_list(struct ld_store *store, const struct ld_volume_query *query,
                         struct ld_volume_page *ret, struct ld_err *err);
/* Living containers that mount it. */
int ld_store_volume_users(struct ld_store *store, const char *id, struct ld_users *ret,
                          struct ld_err *err);
struct ld_volume_patch {
    const char *labels;         /* the new object as a whole; NULL: as it is */
    const uint64_t *size_limit; /* NULL: as it is */
    uint64_t if_match;          /* 0: any version */
};
/* not_found, precondition. Event volume.update. */
int ld_store_volume_patch(struct ld_store *store, const struct ld_write *w, const char *id,
                          const struct ld_volume_patch *patch, struct ld_volume *ret,
                          struct ld_err *err);
int ld_store_volume_set_seeded(struct ld_store *store, const struct ld_write *w, const char *id,
                               struct ld_err *err);
/* Something was put into it: it is never seeded any more. not_found; exists: once.key has its
 * object, the volume and once.answer. Event volume.import with these attributes. */
int ld_store_volume_imported(struct ld_store *store, const struct ld_write *w, const char *id,
                             const char *attributes, struct ld_err *err);
int ld_store_volume_set_damage(struct ld_store *store, const struct ld_write *w, const char *id,
                               const char *reason, struct ld_err *err);
/* not_found; in_use (details.users); precondition. Event volume.remove. */
int ld_store_volume_remove(struct ld_store *store, const struct ld_write *w, const char *id,
                           const struct ld_remove *how, struct ld_removed *ret_removed,
                           struct ld_err *err);

/* A copy of a volume under a name: s->volume_sid, which is in place. not_found: the volume; exists:
 * the snapshot's name (details.id), or once.key has its object. Event snapshot.create. Found,
 * listed and removed like those of containers: the volume's id is the owner. */
int ld_store_volume_snapshot_add(struct ld_store *store, const struct ld_write *w,
                                 const char *volume, const struct ld_snapshot *s,
                                 struct ld_err *err);
/* The volume goes on in next_sid, a copy of the snapshot that is in place, and is whole. The old
 * directory is in ret_removed. not_found; conflict: it is another directory than `sid` by now;
 * in_use is not looked at. Event volume.rollback. */
struct ld_volume_rollback {
    const char *volume, *snapshot; /* ids */
    ld_sid sid, next_sid;
};
int ld_store_volume_rollback(struct ld_store *store, const struct ld_write *w,
                             const struct ld_volume_rollback *what, struct ld_removed *ret_removed,
                             struct ld_err *err);

/* ---- trash ---- */

struct ld_trash_query {
    uint64_t after;
    size_t limit;
    bool only_due;       /* only what is to be deleted: never restored any more */
    bool only_uncounted; /* only what can be restored, and lacks ld_store_trash_set_bytes */
    const char *kind;    /* NULL: any */
};
int ld_store_trash_list(struct ld_store *store, const struct ld_trash_query *query,
                        struct ld_trash_page *ret, struct ld_err *err);
/* By the object's id, its name (an image's: any that it had, in full, as `ref`; NULL: the text is
 * no reference), or a prefix of the id. not_found; conflict: ambiguous. */
int ld_store_trash_find(struct ld_store *store, const char *text, const char *ref,
                        struct ld_trash *ret, struct ld_err *err);
/* Their directories are deleted: the rows go. Unknown sids are skipped. What a restorable container
 * or image still held (layers) goes to ret_removed. */
int ld_store_trash_forget(struct ld_store *store, const struct ld_write *w, const ld_sid *sids,
                          size_t n, struct ld_removed *ret_removed, struct ld_err *err);
/* Bytes of the layers that would leave with an image in the trash if it alone were forgotten. */
int ld_store_trash_image_bytes(struct ld_store *store, const char *id, uint64_t *ret,
                               struct ld_err *err);
/* What the directory of something in the trash takes. Not synced. */
int ld_store_trash_set_bytes(struct ld_store *store, ld_sid sid, uint64_t bytes,
                             struct ld_err *err);
/* Until all that can be restored takes no more than that: what was removed first is deleted now.
 * What is not counted counts for nothing. */
int ld_store_trash_bound(struct ld_store *store, uint64_t max_bytes, struct ld_err *err);
/* "Delete it now": sid 0 means everything. From then on it is not restored. not_found. */
int ld_store_trash_purge(struct ld_store *store, const struct ld_write *w, ld_sid sid,
                         struct ld_err *err);
/* The same for what is due at that time: the reaper's first step, so that nothing half deleted is
 * ever restored. */
int ld_store_trash_expire(struct ld_store *store, int64_t due_ns, struct ld_err *err);
/* A removed container, volume or image lives again, under another name unless that is NULL. The
 * caller renames trash/SID back first (and names that directory in w->dirs). An image gets those of
 * its names that no other has by now: *ret. not_found: no such row; conflict: it is being deleted,
 * or lacks what it needs; exists: the name is taken. Event container.restore (volume., image.). */
int ld_store_trash_restore(struct ld_store *store, const struct ld_write *w, ld_sid sid,
                           const char *name, struct ld_restored *ret, struct ld_err *err);

/* What the records know of a sid, for the reconciliation at start. */
enum ld_sid_owner { LD_SID_UNKNOWN, LD_SID_LAYER, LD_SID_CONTAINER, LD_SID_VOLUME, LD_SID_TRASH };
int ld_store_sid_owner(struct ld_store *store, ld_sid sid, enum ld_sid_owner *ret,
                       struct ld_err *err);

/* ---- sums ---- */

struct ld_store_sums {
    uint64_t layers, layer_bytes, layer_inodes; /* that something living stands on, or nothing */
    uint64_t shared_bytes;                      /* of layers that more than one image has */
    uint64_t unused_bytes;                      /* of these layers: that no image has */
    uint64_t trash_bytes, trash_inodes;         /* of those that only the trash still needs */
    uint64_t images, refs, containers, volumes, trash, damaged;
};
int ld_store_sums(struct ld_store *store, struct ld_store_sums *ret, struct ld_err *err);
/* If all of these containers or images were removed: the layers that would leave, each once, with
 * the last of them, in this order, that needs it. A result other than 0 ends it and is returned.
 * Reads only. */
struct ld_gone_query {
    char *const *ids; /* borrowed */
    size_t n;
    bool is_kept; /* they go to the trash: layers that only the trash would need then */
};
typedef int (*ld_gone_layer_fn)(void *arg, size_t last, const char *chain_id, uint64_t bytes);
int ld_store_layers_gone(struct ld_store *store, const struct ld_gone_query *query,
                         ld_gone_layer_fn sink, void *arg, struct ld_err *err) ld_must_check;
/* The database's own consistency: each problem that SQLite finds, 100 at most. A result other than
 * 0 ends it and is returned. */
int ld_store_check(struct ld_store *store, int (*sink)(void *arg, const char *problem), void *arg,
                   struct ld_err *err) ld_must_check;
/* Each image's shared and own bytes, in the order of ld_store_image_list. */
int ld_store_image_usages(struct ld_store *store, uint64_t after, size_t limit,
                          struct ld_image_usage_page *ret, struct ld_err *err);

/* ---- events ---- */

/* Queued and committed with the next batch, without a sync: for mounts and unmounts. Copied. Waits
 * only while hundreds are queued; a failure to write it is logged. Not on the loop. */
void ld_store_event_post(struct ld_store *store, const struct ld_write *w,
                         const struct ld_note *note);
/* One event in a transaction of its own, durable. */
int ld_store_event_add(struct ld_store *store, const struct ld_write *w, const struct ld_note *note,
                       struct ld_err *err);

struct ld_event_query {
    uint64_t after; /* 0: from the oldest kept */
    size_t limit;
    const char *type_glob; /* or NULL, as these */
    const char *kind;
    const char *object; /* id or name */
    const char *ref;    /* another form of it: the name of an image */
    int64_t since_ns, until_ns;
};
/* At most 1,000 rows; a filtered page may be empty with `more` set: go on with `next`. */
int ld_store_event_list(struct ld_store *store, const struct ld_event_query *query,
                        struct ld_event_page *ret, struct ld_err *err);
/* The newest committed event's id, 0: none. Any thread, no I/O. */
uint64_t ld_store_event_newest(struct ld_store *store);

/* ---- jobs ---- */

int ld_store_job_add(struct ld_store *store, const struct ld_write *w,
                     const struct ld_job_record *job, struct ld_err *err);
/* Ends a running job: state, result, error and object of `job`. not_found; conflict: it has ended
 * already. */
int ld_store_job_finish(struct ld_store *store, const struct ld_write *w,
                        const struct ld_job_record *job, struct ld_err *err);
int ld_store_job_get(struct ld_store *store, const char *id, struct ld_job_record *ret,
                     struct ld_err *err);
/* By whole id or unique prefix; not_found, conflict. */
int ld_store_job_find(struct ld_store *store, const char *text, struct ld_job_record *ret,
                      struct ld_err *err);
struct ld_job_query {
    uint64_t after;
    size_t limit;
    const char *kind; /* or NULL */
    int state;        /* enum ld_job_state, -1: any */
};
int ld_store_job_list(struct ld_store *store, const struct ld_job_query *query,
                      struct ld_job_page *ret, struct ld_err *err);
/* At start: what was running has been cut off. */
int ld_store_jobs_interrupt(struct ld_store *store, struct ld_err *err);

/* ---- idempotency keys ---- */

/* What was made under a key. */
struct ld_once_object {
    char *kind, *id;
    char *answer; /* or NULL */
};
void ld_once_object_done(struct ld_once_object *object);

/* Within the last 24 hours. not_found; conflict: another request used the key. */
int ld_store_once_find(struct ld_store *store, const struct ld_once *once,
                       struct ld_once_object *ret, struct ld_err *err);
