/* What the files of this folder share: the store itself, transactions, read connections. Private.
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "daemon/store/sql.h"
#include "daemon/store/store.h"

enum {
    LD_READERS = 4,
    LD_BATCH_MAX = 256, /* writes in one transaction */
    LD_QUEUE_MAX = 512, /* a posted event waits for room beyond this */
    LD_SID_BLOCK = 64,  /* sids reserved at once: small, since names of layers share one page */
    LD_EVENT_BLOCK = 65536,
};

struct ld_submit;

struct ld_store {
    int root_fd; /* borrowed */
    bool is_same_boot;
    bool (*is_loop)(void);
    uint64_t max_events;
    char *path; /* of the database, for more connections */
    char *boot_id;
    char instance[17];
    ld_sid first_sid;

    /* The writer's own: nobody else touches these while the thread runs. */
    pthread_t thread;
    bool has_thread;
    struct ld_db *writer;
    uint64_t event_next;    /* the id of the next event */
    uint64_t event_ceiling; /* ids below are reserved */
    uint64_t events_since_trim;
    int64_t trimmed_ns; /* CLOCK_MONOTONIC */
    int wal_frames;     /* in the WAL now */
    int wal_folded;     /* of these, when the last checkpoint ran */
    bool is_broken;     /* a sync has failed: nothing is acknowledged any more */
    bool is_full;       /* synchronous=FULL is set */

    pthread_mutex_t lock; /* protects all that follows */
    pthread_cond_t work;  /* something is queued, or stop */
    pthread_cond_t room;  /* the queue got shorter, a block of sids came */
    struct ld_submit *head, **tail;
    size_t n_queued;
    bool stop;
    bool sid_refill;         /* a block is on its way */
    struct ld_err sid_error; /* of the last try to get one */
    ld_sid sid_next, sid_ceiling;
    struct ld_store_stats stats;
    ld_store_event_fn on_events;
    void *on_events_arg;

    pthread_mutex_t read_lock; /* protects the pool */
    pthread_cond_t read_free;
    struct ld_db *idle[LD_READERS];
    size_t n_idle;
    size_t n_open;

    _Atomic uint64_t newest_event; /* written by the store's thread, read by any */
};

/* A transaction as a verb sees it. */
struct ld_tx {
    struct ld_store *store;
    struct ld_db *db;
    const struct ld_write *w;
    int64_t now_ns;
};

/* Runs on the store's thread within a savepoint: -1 undoes it. Anything it gives back is picked up
 * by the verb after success only, since the commit may still fail. */
typedef int (*ld_tx_fn)(struct ld_tx *tx, void *arg, struct ld_err *err);

/* LAZY: committed, but not synced; a batch of only such writes does not wait for the disk. */
enum ld_sync { LD_SYNC_FULL, LD_SYNC_LAZY };
int ld_store_write(struct ld_store *store, const struct ld_write *w, enum ld_sync sync, ld_tx_fn fn,
                   void *arg, struct ld_err *err);
/* Not awaited. `take_arg` is freed by `done`, which gets 0 or -1 on the store's thread, after the
 * commit. */
typedef void (*ld_tx_done_fn)(struct ld_store *store, void *take_arg, int rc, struct ld_err *err);
void ld_store_write_later(struct ld_store *store, enum ld_sync sync, ld_tx_fn fn, void *take_arg,
                          ld_tx_done_fn done);

int ld_writer_start(struct ld_store *store, struct ld_err *err);
void ld_writer_stop(struct ld_store *store); /* what is queued is done first */

/* The connection of one read: everything between begin and end sees one state of the database. */
struct ld_read {
    struct ld_store *store;
    struct ld_db *db;
};
enum ld_read_kind { LD_READ_POINT, LD_READ_LIST };
int ld_read_begin(struct ld_store *store, enum ld_read_kind kind, struct ld_read *ret,
                  struct ld_err *err) ld_must_check;
void ld_read_end_p(struct ld_read *read);
#define autoread LD_AUTO(ld_read_end_p) struct ld_read
void ld_readers_close(struct ld_store *store);

/* Appends an event to the transaction. */
int ld_tx_note(struct ld_tx *tx, const struct ld_note *note, struct ld_err *err) ld_must_check;
/* Events, ended jobs and old keys beyond their limits go, some thousands at a time. */
int ld_events_trim(struct ld_tx *tx, struct ld_err *err) ld_must_check;
int ld_jobs_trim(struct ld_tx *tx, struct ld_err *err) ld_must_check;

/* "Idempotency-Key" within the transaction that makes the object. */
int ld_once_check(struct ld_tx *tx, struct ld_err *err) ld_must_check;
int ld_once_record(struct ld_tx *tx, const char *kind, const char *id,
                   struct ld_err *err) ld_must_check;

/* Removal. A directory's trash row and its place in *removed (of `owner` kind, id and name count);
 * layers from `tip` downwards as long as nothing needs them. */
int ld_trash_add(struct ld_tx *tx, struct ld_gone gone, const struct ld_note *owner,
                 int64_t keep_ns, struct ld_removed *removed, struct ld_err *err) ld_must_check;
int ld_layers_release(struct ld_tx *tx, ld_sid tip, struct ld_removed *removed,
                      struct ld_err *err) ld_must_check;
/* Bytes of the layers from `tip` downwards on which nothing but what is in the trash stands. */
int ld_layers_dead_bytes(struct ld_db *db, ld_sid tip, uint64_t *ret,
                         struct ld_err *err) ld_must_check;
/* The trash as it was removed: up to that row. */
struct ld_trash_cut {
    int64_t removed_ns;
    ld_sid sid;
};
/* What can still be restored and was removed after the cut takes: its directories, as far as they
 * are counted, and the layers that nothing else needs but what is deleted, or was removed before.
 */
int ld_trash_kept_bytes(struct ld_db *db, struct ld_trash_cut after, uint64_t *ret,
                        struct ld_err *err) ld_must_check;

/* An image in the trash. trash: its removal, `sid` its place in the list. restored: it lives again
 * with those of its names that are free, or with `name` alone (exists: that is not). destroy: its
 * row goes with the layers that only it needed. refs: the names it had, sorted. bytes: of the
 * layers that would leave with it. */
int ld_image_restore(struct ld_tx *tx, const char *id, const char *name, struct ld_restored *ret,
                     struct ld_err *err) ld_must_check;
int ld_image_destroy(struct ld_tx *tx, const char *id, struct ld_removed *removed,
                     struct ld_err *err) ld_must_check;
int ld_image_removed_refs(struct ld_db *db, const char *id, char ***ret, size_t *ret_n,
                          struct ld_err *err) ld_must_check;

/* The blob kept of a layer, in place of any other; no blob. */
int ld_blob_put(struct ld_tx *tx, ld_sid sid, const struct ld_kept_blob *blob,
                struct ld_err *err) ld_must_check;
int ld_blob_forget(struct ld_tx *tx, ld_sid sid, struct ld_err *err) ld_must_check;

/* A new row on `parent`. conflict: its sid or chain ID is there already. */
int ld_layer_insert(struct ld_tx *tx, const struct ld_layer *layer, ld_sid parent,
                    struct ld_err *err) ld_must_check;

int ld_layer_conflict(struct ld_err *err, const struct ld_layer *layer, const char *why);

/* 1: a whole layer; 0: none or damaged. */
int ld_layer_is_whole(struct ld_db *db, ld_sid sid, struct ld_err *err) ld_must_check;

/* The living container: not_found, precondition (if_match 0: any version). */
int ld_container_living(struct ld_tx *tx, const char *id, uint64_t if_match,
                        struct ld_container *ret, struct ld_err *err) ld_must_check;
/* The row of a container goes with its snapshots and the layers that only they needed. */
int ld_container_destroy(struct ld_tx *tx, const char *id, struct ld_removed *removed,
                         struct ld_err *err) ld_must_check;
/* Snapshots; their owner is a container or volume that lives: kind, id and name of the note. row:
 * 1; 0: none. */
int ld_snapshot_row(struct ld_db *db, const char *owner, const char *id, struct ld_snapshot *ret,
                    struct ld_err *err) ld_must_check;
/* invalid: its labels. Any thread. */
int ld_snapshot_check(const struct ld_snapshot *s, struct ld_err *err) ld_must_check;
/* With its event. exists: the name, or what the key made. A volume's has volume_sid set, and no
 * tip. */
int ld_snapshot_add(struct ld_tx *tx, const struct ld_snapshot *s, const struct ld_note *owner,
                    ld_sid tip, struct ld_err *err) ld_must_check;
/* The row, and what only it needed. */
int ld_snapshot_drop(struct ld_tx *tx, const struct ld_snapshot *s, struct ld_removed *removed,
                     struct ld_err *err) ld_must_check;
/* The owner is a new version, and was rolled back to it. */
int ld_snapshot_returned(struct ld_tx *tx, const struct ld_snapshot *s, const struct ld_note *owner,
                         struct ld_err *err) ld_must_check;
/* All snapshots of a volume that is gone for good. */
int ld_volume_snapshots_drop(struct ld_tx *tx, const char *volume, struct ld_removed *removed,
                             struct ld_err *err) ld_must_check;
/* A living volume leaves (event, trash row, own row); who uses it was checked. */
int ld_volume_drop(struct ld_tx *tx, const struct ld_volume *v, int64_t keep_ns,
                   struct ld_removed *removed, struct ld_err *err) ld_must_check;
/* 1: a living volume with that id; *ret may be NULL; 0: none. */
int ld_volume_row(struct ld_db *db, const char *id, struct ld_volume *ret,
                  struct ld_err *err) ld_must_check;
/* 1: a living container mounts it; 0: none does. */
int ld_volume_is_used(struct ld_db *db, const char *id, struct ld_err *err) ld_must_check;

/* not_found, exists with details.id, precondition: the same words for containers and volumes. */
int ld_err_missing(struct ld_err *err, const char *kind, const char *text);
int ld_err_taken(struct ld_err *err, const char *kind, const char *name, const char *id);
int ld_err_version(struct ld_err *err, const char *kind, const char *id, uint64_t is,
                   uint64_t want);

/* The users that a statement (kind, id, name) lists, 1,000 at most. */
int ld_users_read(sqlite3_stmt *stmt, struct ld_users *ret, struct ld_err *err) ld_must_check;

/* A text that names an object may be its id (64 hex digits), its name, or the first 4 or more
 * digits of its id. */
bool ld_text_is_id(const char *text);
bool ld_text_is_prefix(const char *text);
/* The only id that a statement finds (column 0, nine rows at most): 1; 0: none. conflict with
 * details.candidates: several. */
int ld_only_id(sqlite3_stmt *stmt, const char *kind, const char *prefix, char **ret_id,
               struct ld_err *err) ld_must_check;
/* What a lookup found (1, 0, -1) for somebody who needs it: 0, -1; not_found for 0. */
int ld_want_row(int rc, const char *kind, const char *text, struct ld_err *err) ld_must_check;

/* Pages. Column 0 is a row's place, and one row more than `max` is asked for. */
struct ld_paging {
    size_t max, n, bytes;
    uint64_t last;
};
enum { LD_PAGE_BYTES = 8 << 20 };   /* a page ends early when its rows are this large */
size_t ld_page_limit(size_t limit); /* kept within bounds */
#define LD_PAGING(limit) ((struct ld_paging){.max = ld_page_limit(limit)})
/* 1: another row; 0: the end of the page, *ret_next is set if there is one more. */
int ld_page_next(sqlite3_stmt *stmt, struct ld_paging *p, uint64_t *ret_next,
                 struct ld_err *err) ld_must_check;

/* A column of one row is set, and that noted. */
struct ld_set {
    const char *sql; /* ?1 id, ?2 text */
    const char *kind, *id;
    const char *text;
    const char *event; /* or NULL */
};
int ld_store_set(struct ld_store *store, const struct ld_write *w, enum ld_sync sync,
                 const struct ld_set *set, struct ld_err *err);

/* [["key","value"],…] for a statement that filters by labels; NULL: no filter. */
char *ld_labels_json(const struct ld_label *labels, size_t n);
/* Does labels column `col` hold every pair of parameter `param`? NULL passes everything. */
#define LD_LABELS_MATCH(col, param)                                                                \
    "(" param " IS NULL OR NOT EXISTS (SELECT 1 FROM json_each(" param ") f WHERE NOT EXISTS ("    \
    "SELECT 1 FROM json_each(" col ") l WHERE l.key = json_extract(f.value, '$[0]') AND "          \
    "(json_extract(f.value, '$[1]') IS NULL OR l.value = json_extract(f.value, '$[1]')))))"

int64_t ld_now_ns(void); /* CLOCK_REALTIME */
