/* What imports are working on: the chain IDs that one of them is making, and the memory that
 * decoders with large windows share. Any worker thread; taking blocks.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/base/digest.h"
#include "daemon/base/err.h"

struct ld_inflight;
struct ld_claim;

struct ld_inflight *ld_inflight_new(uint64_t decoder_memory);
void ld_inflight_free(struct ld_inflight *inflight); /* nobody has claims; NULL is fine */

/* Claims all ids at once, as soon as nobody else has one of them or has waited for one of them
 * longer. So nobody waits while he has something, and there is no deadlock. *ret_waited: the
 * records may have changed, look again. canceled. */
int ld_claim_take(struct ld_inflight *inflight, const struct ld_digest *ids, size_t n,
                  const bool *cancel, struct ld_claim **ret, bool *ret_waited,
                  struct ld_err *err) ld_must_check;
bool ld_claim_has(const struct ld_claim *claim, const struct ld_digest *id); /* NULL claim: false */
void ld_claim_drop(struct ld_claim *claim);                                  /* NULL is fine */
void ld_claim_drop_p(struct ld_claim **claim);

/* Memory for one decoder: waits until there is enough. canceled. More than there ever is: granted
 * when nobody else has any. */
int ld_inflight_take_memory(struct ld_inflight *inflight, uint64_t bytes, const bool *cancel,
                            struct ld_err *err) ld_must_check;
void ld_inflight_give_memory(struct ld_inflight *inflight, uint64_t bytes);
