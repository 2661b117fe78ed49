/* What the files of the import share. Private to import*.c.
 *
 * A task is one layer, by its chain ID, however many images of the archive stand on it. Its way:
 * NONE → STAGED (unpacked in staging/STAGED_SID) → SETTLED → PUBLISHED (renamed into layers/SID),
 * and back to SETTLED when the transaction failed.
 */
#pragma once

#include "daemon/base/digest.h"
#include "daemon/core/import.h"
#include "daemon/core/state.h"

struct ld_archive;
struct ld_archive_image;
struct ld_archive_layer;
struct ld_claim;
struct ld_pending;

enum ld_import_state { LD_TASK_NONE, LD_TASK_STAGED, LD_TASK_SETTLED, LD_TASK_PUBLISHED };

struct ld_import_task {
    const struct ld_archive_layer *layer;
    struct ld_digest chain_id, diff_id;
    bool has_chain_id; /* false: a root file system that is not unpacked yet */

    /* What the records say, looked up again for each attempt. */
    enum ld_layer_how how;
    ld_sid sid;    /* layers/SID: the recorded one's, or staged_sid */
    ld_sid pinned; /* or 0 */
    uint64_t bytes, inodes;

    /* What was made of it. */
    enum ld_import_state state;
    bool is_verified;  /* the blob's digests are right */
    ld_sid staged_sid; /* 0: nothing in staging/ */
    struct ld_pending *pending;
    bool has_aside;
    bool has_blob;          /* staging/STAGED_SID.blob, or where it was published to */
    bool is_blob_published; /* beside a layer that is reused */
    const char *blob_type;  /* its media type; borrowed */
    uint64_t made_bytes, made_inodes;
};

struct ld_import_image {
    const struct ld_archive_image *from;
    uint32_t *tasks; /* lowest first, from->n_layers of them */
    struct ld_digest id;
    char *config; /* of a root file system: rendered. Else NULL: read when it is recorded */
};

struct ld_import {
    struct ld_core *core;
    const struct ld_write *w;
    const struct ld_import_options *options;
    struct ld_spool *spool;
    struct ld_archive *archive;
    struct ld_import_image *images;
    size_t n_images;
    struct ld_import_task *tasks;
    size_t n_tasks, cap_tasks;
    struct ld_claim *claim;
    const char *container; /* it is a commit of that one (commit.h); or NULL */
    bool escapes_xattrs;
    bool keeps_blobs;
    int sync_fd; /* opened before the first write: its syncfs tells of every error since */
    char **warnings;
    size_t n_warnings, cap_warnings;
};

void ld_import_warn(struct ld_import *imp, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
void ld_import_tell(const struct ld_import *imp, const char *phase, const struct ld_digest *id,
                    uint64_t current, uint64_t total);

/* import_plan.c: tasks from the archive's images; what the records know of them. */
void ld_import_plan(struct ld_import *imp);
/* Looks every task up, claims those that are missing, waits for other imports if need be. */
int ld_import_look(struct ld_import *imp, struct ld_err *err) ld_must_check;
/* Is there room for what has to be unpacked? conflict: the core refuses to grow; no_space. */
int ld_import_check_space(struct ld_import *imp, struct ld_err *err) ld_must_check;
bool ld_import_is_missing(const struct ld_import_task *task);
/* The chain ID of a root file system's only task, once its diff ID is known; renders the config. */
void ld_import_name_rootfs(struct ld_import *imp);
void ld_import_unpin(struct ld_import *imp);

/* import_unpack.c: the tasks that are missing and NONE become STAGED; of all others the blobs are
 * verified. */
int ld_import_unpack(struct ld_import *imp, struct ld_err *err) ld_must_check;
/* import_blob.c: the blob as it came, for the layer to keep. Staged once it is verified; a new
 * layer's is published with the layer, a reused one's by itself. */
bool ld_import_wants_blob(const struct ld_import *imp, const struct ld_import_task *task);
int ld_import_stage_blob(struct ld_import *imp, struct ld_import_task *task, const bool *cancel,
                         struct ld_err *err) ld_must_check;
int ld_import_publish_blob(struct ld_import *imp, struct ld_import_task *task,
                           struct ld_err *err) ld_must_check;
void ld_import_unpublish_blob(struct ld_import *imp, struct ld_import_task *task);
/* After publishing: fills *ret when there is one to be recorded. */
void ld_import_record_blob(const struct ld_import_task *task, struct ld_kept_blob *ret);

/* import_settle.c: what is missing and STAGED becomes SETTLED, and durable. conflict: a layer below
 * has been removed meanwhile. */
int ld_import_settle(struct ld_import *imp, struct ld_err *err) ld_must_check;

/* import.c: what has come of it so far; the result owns copies. */
void ld_import_tell_result(const struct ld_import *imp, struct ld_import_result *ret);
/* Whatever the outcome: what is not recorded by now goes. */
void ld_import_done(struct ld_import *imp);

/* import_record.c: publishes and records all images in one transaction. conflict: the records have
 * changed, look again; what was made is SETTLED again. */
int ld_import_record(struct ld_import *imp, struct ld_err *err) ld_must_check;
/* Throws away what was made of a task and not recorded. */
void ld_import_discard(struct ld_import *imp, struct ld_import_task *task);
