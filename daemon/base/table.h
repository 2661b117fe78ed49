/* uthash as it is used here: include this instead of <uthash.h>.
 *
 * Its memory comes from mem.h, it aborts without memory like the rest, and it hashes by a call
 * instead of in line. A key is hashed as it lies in memory: no padding in it. One owner, no
 * locking.
 */
#pragma once

#include <stddef.h>
#include <stdlib.h>

#include "daemon/base/mem.h"

unsigned ld_table_hash(const void *key, size_t len) __attribute__((pure));

#define uthash_malloc(size)           ld_alloc0(size)
#define uthash_fatal(text)            abort() /* ld_alloc0 comes first */
#define HASH_FUNCTION(key, len, hash) ((hash) = ld_table_hash(key, len))

#include <uthash.h>

/* Takes everything out of the table and gives it to free_one. */
#define ld_table_drain(hh_, head, free_one)                                                        \
    do {                                                                                           \
        __typeof__(head) ld_one_ = (head), ld_next_;                                               \
                                                                                                   \
        HASH_CLEAR(hh_, head);                                                                     \
        for (; ld_one_; ld_one_ = ld_next_) {                                                      \
            ld_next_ = ld_one_->hh_.next;                                                          \
            free_one(ld_one_);                                                                     \
        }                                                                                          \
    } while (0)
