/* Idempotency keys: see once.h. */
#include "api/once.h"

#include <stdlib.h>
#include <string.h>

#include "api/call.h"
#include "api/json.h"
#include "api/request.h"
#include "daemon/base/mem.h"
#include "daemon/core/core.h"
#include "daemon/jobs/op.h"

static const char header[] = "Idempotency-Key";

/* What a key is made of must survive any log, shell and proxy. */
static bool is_valid(const char *text)
{
    size_t len = 0;

    for (; text[len]; len++) {
        if (text[len] < 0x21 || text[len] > 0x7E)
            return false;
    }
    return len > 0 && len <= LD_ONCE_MAX_KEY;
}

int ld_once_read(struct ld_request *req, struct ld_once_key *ret, struct ld_err *err)
{
    const char *text = ld_request_header(req, header);

    *ret = (struct ld_once_key){.key = ""};
    if (!text)
        return 0;
    if (!is_valid(text)) {
        (void)ld_err_set(err, LD_E_INVALID, "the header %s is not valid", header);
        return ld_err_hint(err, "it has 1 to %d characters from '!' to '~', no blanks",
                           LD_ONCE_MAX_KEY);
    }
    memcpy(ret->key, text, strlen(text) + 1); /* just measured */
    ld_request_digest(req, ret->digest);
    ret->once =
        (struct ld_once){.key = ret->key, .uid = ld_request_peer(req)->uid, .digest = ret->digest};
    return 0;
}

void ld_once_lock(const struct ld_once_key *key, struct ld_op *op)
{
    if (ld_once_is_given(key))
        ld_op_key(op, LD_EXCLUSIVE, "o:%lld:%s", (long long)key->once.uid, key->key);
}

void ld_once_add_body(struct ld_once_key *key, const struct ld_digest *body)
{
    char text[2 * LD_DIGEST_TEXT];
    struct ld_digest both;
    size_t len = strlen(key->digest);

    memcpy(text, key->digest, len);
    ld_digest_format(body, text + len);
    both = ld_digest_of(text, strlen(text));
    ld_digest_format(&both, key->digest);
}

int ld_once_find(struct ld_core *core, const struct ld_once_key *key, struct ld_once_object *ret,
                 struct ld_err *err)
{
    struct ld_err why = LD_ERR_INIT;

    if (!ld_once_is_given(key))
        return 0;
    if (ld_store_once_find(ld_core_store(core), &key->once, ret, &why) == 0)
        return 1;
    if (why.code == LD_E_NOT_FOUND)
        return 0;
    *err = why;
    return -1;
}

int ld_once_gone(const struct ld_once_key *key, const struct ld_once_object *made,
                 struct ld_err *err)
{
    if (err->code != LD_E_NOT_FOUND)
        return -1;
    (void)ld_err_set(
        err, LD_E_CONFLICT,
        "the request of the idempotency key '%s' has been done: it made %s '%s', which "
        "is gone",
        key->key, made->kind, made->id);
    return ld_err_hint(err, "use a new key to make another one");
}
