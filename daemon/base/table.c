/* The hash of all tables: see table.h. */
#include "daemon/base/table.h"

unsigned ld_table_hash(const void *key, size_t len)
{
    unsigned hash;

    HASH_JEN(key, len, hash);
    return hash;
}
