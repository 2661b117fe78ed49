/* Long work: a request whose outcome is kept in a job. What import, commit, prune, check and the
 * like are made of; the answer is plain, a stream of progress, or a 202 (see ld_reply_verb).
 *
 * In this order: the job is recorded and the request's body taken, on a worker without keys; then a
 * client that asked for it is told 202; then the operation waits for its keys and runs; its outcome
 * is recorded; then whoever waits is answered. A client that vanishes after its body is through
 * cancels nothing. One that is cancelled while it waits ends as "canceled", like one that runs.
 */
#pragma once

#include "api/once.h"
#include "api/reply.h"
#include "daemon/store/store.h"

struct cJSON;
struct ld_core;
struct ld_ring;
struct ld_task;
struct ld_work;

/* A constant, one per kind of work. */
struct ld_work_kind {
    const char *name; /* "image.import" */
    size_t size;      /* of the handler's own struct, whose first member is the work */
    enum ld_lane lane;
    bool frees_space; /* it is begun on a full disk, too */
    /* Workers, 0 or -1 with err. */
    int (*take)(struct ld_work *work, struct ld_err *err); /* with an upload: its body, from ring */
    int (*run)(struct ld_work *work, struct ld_err *err);  /* fills what is marked below */
    /* In run's place: the same request made this object before (see ld_work_start). Or NULL. */
    int (*again)(struct ld_work *work, const struct ld_once_object *made, struct ld_err *err);
    void (*drop)(struct ld_work *work); /* last of the workers': closes what take opened; or NULL */
    void (*free)(struct ld_work *work); /* loop: what the struct owns, not the struct; or NULL */
};

struct ld_work {
    struct ld_verb verb; /* op: for the keys, and its cancel flag for run; take polls *cancel */
    const struct ld_work_kind *kind;
    struct ld_core *core;
    struct ld_write w;    /* who asks, and under which idempotency key: for the store */
    struct ld_ring *ring; /* of an upload, until take has returned */
    const bool *cancel;   /* of the stage under way */
    struct ld_once_key once;

    /* Filled by run and again. */
    struct cJSON *result;
    int status;              /* 200 is set */
    const char *object_kind; /* a constant: what it was about, or NULL */
    char *object_id;         /* owned, as the next */
    char *location;          /* with 201 */

    struct ld_task *task; /* private, as the next */
    char request_id[40];
    bool is_recorded;
};

/* Loop. Allocates kind->size bytes, zeroed, with the work at their beginning; begins its job. Add
 * keys to &work->verb.op, then start it; or refuse it. */
void *ld_work_new(const struct ld_work_kind *kind, struct ld_request *req);
/* Opens the body of an upload for take. False: too many are under way; it has been answered, and
 * the work freed. */
bool ld_work_upload(struct ld_work *work, struct ld_request *req);
/* With again, the request may carry an Idempotency-Key: what the work records must go through
 * work->w. */
void ld_work_start(struct ld_work *work, struct ld_request *req);
/* Replies with the error and frees the work, which was never started. */
void ld_work_refuse(struct ld_work *work, struct ld_request *req, const struct ld_err *err);

/* Any worker: to the job, and to the stream if there is one. See ld_verb_progress. */
void ld_work_tell(struct ld_work *work, const char *phase, const char *id, uint64_t current,
                  uint64_t total);
