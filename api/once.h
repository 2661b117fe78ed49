/* "Idempotency-Key": a request that is sent again is answered again, and done once.
 *
 * The key belongs to the peer's uid. It is recorded with the object it made, in one transaction, so
 * neither a crash nor a lost answer lets the same request make a second one. The same request is
 * the same method, target and body, each in a canonical form. What fails is not remembered. While
 * one request works, another one under the same key waits for it: `ld_once_key` names an exclusive
 * key of the operation.
 */
#pragma once

#include <stdbool.h>

#include "daemon/base/digest.h"
#include "daemon/store/store.h"

struct ld_core;
struct ld_op;
struct ld_request;

enum { LD_ONCE_MAX_KEY = 128 };

/* The key of one request. A zeroed one: none was given. Its address must not change. */
struct ld_once_key {
    struct ld_once once; /* for the store */
    char key[LD_ONCE_MAX_KEY + 1];
    char digest[LD_DIGEST_TEXT];
};

/* Loop, in the handler. invalid: the key is malformed. */
int ld_once_read(struct ld_request *req, struct ld_once_key *ret, struct ld_err *err);
static inline bool ld_once_is_given(const struct ld_once_key *key)
{
    return key->key[0] != '\0';
}
void ld_once_lock(const struct ld_once_key *key, struct ld_op *op); /* adds the operation's key */
/* Any thread: the body of an upload, once it is known, is part of what was asked for. */
void ld_once_add_body(struct ld_once_key *key, const struct ld_digest *body);

/* Any thread. 1: the same request has been done, *ret is what it made; 0: not yet, or no key was
 * given; -1: conflict (the key is another request's), and what the store says. */
int ld_once_find(struct ld_core *core, const struct ld_once_key *key, struct ld_once_object *ret,
                 struct ld_err *err);
/* What was made and is there no more: turns not_found into a conflict that says so. Returns -1. */
int ld_once_gone(const struct ld_once_key *key, const struct ld_once_object *made,
                 struct ld_err *err);
