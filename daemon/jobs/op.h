/* Operations: blocking functions that run on a lane while the loop holds their keys.
 *
 * An operation names the objects it needs, shared or exclusive, all at once: "c:ID", "n:c:NAME",
 * "v:ID", "n:v:NAME", "i:ID", "r:REF", "l:SID". The loop grants all of them or none, in the order
 * of submission: an operation passes an earlier waiting one only if no key of theirs conflicts. So
 * there is no deadlock and no starvation. Without keys it goes straight to its lane. An operation
 * never holds keys while it waits for bytes of a client.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/base/err.h"
#include "daemon/jobs/lane.h"

struct ld_loop;
struct ld_ops;
struct ld_op_keys; /* private: the keys of one operation */
struct ld_op_call; /* private: see ld_ops_call */

enum ld_key_mode { LD_SHARED, LD_EXCLUSIVE };
enum {
    LD_OP_MAX_KEYS = 512,     /* of one operation; more: invalid, told by done() */
    LD_OPS_MAX_WAITING = 4096 /* operations waiting for keys; more: unavailable, told by done() */
};

/* Embedded in or pointed to by its owner, which keeps it alive until done() has begun; done() may
 * free it. Between submit and done only ld_ops_cancel may touch it. */
struct ld_op {
    int (*run)(struct ld_op *op, struct ld_err *err); /* on the lane, blocking; 0 or -1 and err */
    void (*done)(struct ld_op *op);                   /* on the loop, exactly once, keys released */
    void *arg;                                        /* the owner's */
    enum ld_lane lane;

    /* For done(): 0, or -1 with err. canceled when it was cancelled before it ran; unavailable when
     * it was refused. */
    int rc;
    struct ld_err err;

    bool cancel; /* polled by run(), by ld_flag_is_set(&op->cancel) or passed on as const bool * */

    struct ld_op_keys *keys; /* private, as all below */
    struct ld_ops *ops;
    struct ld_op *next, *prev;
    uint64_t number;
    struct ld_op_call *call;
    /* For whoever submits it on the owner's behalf: on_cancel is called on the loop when it is
     * cancelled while it runs, to wake it from a wait that does not poll the flag (a ring). */
    void (*on_cancel)(struct ld_op *op);
    void *tag;
    struct ld_job job;
    unsigned char state;
};

/* Loop thread or the owner's, before the submit. */
void ld_op_init(struct ld_op *op, enum ld_lane lane, int (*run)(struct ld_op *, struct ld_err *),
                void (*done)(struct ld_op *), void *arg);
/* Adds a key; the same key twice counts once, exclusive wins. */
void ld_op_key(struct ld_op *op, enum ld_key_mode mode, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* Frees the keys of an operation that will not be submitted after all. */
void ld_op_done(struct ld_op *op);

/* Loop thread; both borrowed, they outlive the ops. free: only after a drain has ended (asserted).
 */
struct ld_ops *ld_ops_new(struct ld_loop *loop, struct ld_lanes *lanes);
void ld_ops_free(struct ld_ops *ops);

/* Loop thread. Every outcome, a refusal too, arrives by done(), never from inside this call. */
void ld_ops_submit(struct ld_ops *ops, struct ld_op *op);
/* Loop thread, between submit and done. Waiting (for keys or for a worker): done() comes at once,
 * canceled. Running: the flag is set and run() decides. */
void ld_ops_cancel(struct ld_ops *ops, struct ld_op *op);

/* A sub-operation: submits op, blocks a worker of the stream lane until it is done, and gives its
 * result. The caller's op must hold no key (else two of them could wait for each other) and op's
 * lane must be quick or copy. op->done is set here. A `cancel` that becomes true is passed on to
 * op. The key memory of op is freed in every case. */
int ld_ops_call(struct ld_ops *ops, struct ld_op *op, const bool *cancel,
                struct ld_err *err) ld_must_check;

/* Loop thread. fn(arg) is called once on the loop when every operation that is between submit and
 * done now is through: what they have read before is of use to nobody any more. Never from inside
 * this call. One at a time for each `quiet`, which the caller keeps alive until then. */
struct ld_ops_quiet {
    void (*fn)(void *arg);
    void *arg;
    uint64_t before; /* private, as the next */
    struct ld_ops_quiet *next;
};
void ld_ops_when_quiet(struct ld_ops *ops, struct ld_ops_quiet *quiet);

/* Loop thread. From now on new operations are refused with unavailable and those that wait for keys
 * end so; running ones go on (cancel_running: with their cancel flag set). drained(arg) is called
 * on the loop when the last done() is through. Drain the lanes afterwards. */
void ld_ops_drain(struct ld_ops *ops, bool cancel_running, void (*drained)(void *arg), void *arg);

/* Loop thread. */
struct ld_ops_stats {
    size_t waiting; /* for keys */
    size_t granted; /* on a lane: waiting for a worker, or running */
    size_t keys;    /* different keys held or waited for */
    uint64_t finished, canceled, refused;
};
struct ld_ops_stats ld_ops_stats(const struct ld_ops *ops);
