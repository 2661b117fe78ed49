/* A request that is answered by one operation: what nearly every handler needs, once. Loop thread.
 */
#pragma once

#include "api/once.h"
#include "api/reply.h"
#include "api/request.h"
#include "daemon/jobs/op.h"
#include "daemon/store/store.h"

struct ld_api;
struct ld_core;

/* First member of the handler's own struct, which free() frees. */
struct ld_call {
    struct ld_op op;
    struct ld_request *req;
    struct ld_core *core;
    struct ld_write w; /* who asks: for the store */
    char request_id[40];
    int (*run)(struct ld_call *call, struct ld_err *err); /* on the lane */
    void (*reply)(struct ld_call *call);                  /* after success: one ld_reply_* */
    void (*free)(struct ld_call *call);
    struct ld_once_key once; /* private, as the next */
    int (*again)(struct ld_call *call, const struct ld_once_object *made, struct ld_err *err);
};

/* Allocates `size` bytes, zeroed, with the call at their beginning. Add keys to &call->op, then
 * submit it; or refuse it. */
void *ld_call_new(size_t size, struct ld_request *req, enum ld_lane lane,
                  int (*run)(struct ld_call *, struct ld_err *), void (*reply)(struct ld_call *),
                  void (*free)(struct ld_call *));
/* The call lives until its reply; an error is replied as such. */
void ld_call_submit(struct ld_call *call);
/* Replies with the error and frees the call, which was never submitted. */
void ld_call_refuse(struct ld_call *call, const struct ld_err *err);

/* For what makes something, right after ld_call_new: the request's Idempotency-Key. When the same
 * request has been done before, again() is run in run()'s place: it reads the object that was made,
 * so that reply() answers as the first time; not_found: it is gone. True: it is answered, or will
 * be: the handler returns. */
bool ld_call_once(struct ld_call *call,
                  int (*again)(struct ld_call *, const struct ld_once_object *, struct ld_err *));

struct ld_core *ld_request_core(const struct ld_request *req);
/* Who asks, for the records; borrows the request's id. */
struct ld_write ld_request_write(const struct ld_request *req);

/* If-Match as a row version: 0 when absent or "*". invalid: not one of our ETags. */
int ld_request_if_match(const struct ld_request *req, uint64_t *ret, struct ld_err *err);
/* If-None-Match of a PUT: true for "*". invalid: anything else. */
int ld_request_must_be_new(const struct ld_request *req, bool *ret, struct ld_err *err);
