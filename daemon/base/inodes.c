/* Sets of inodes: see inodes.h. */
#include "daemon/base/inodes.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>

#include "daemon/base/mem.h"
#include "daemon/base/table.h"

/* Without padding: it is hashed as it lies in memory. */
struct key {
    uint64_t dev, ino, layer;
};

struct ld_inode {
    struct key key;
    UT_hash_handle hh;
    char text[];
};

bool ld_inode_has_names(const struct stat *st)
{
    return !S_ISDIR(st->st_mode) && st->st_nlink > 1;
}

static struct ld_inode *find(const struct ld_inodes *set, const struct key *key)
{
    struct ld_inode *found;

    HASH_FIND(hh, set->all, key, sizeof(*key), found);
    return found;
}

const char *ld_inodes_find(const struct ld_inodes *set, const struct stat *st, size_t layer)
{
    const struct key key = {st->st_dev, st->st_ino, layer};
    const struct ld_inode *found = find(set, &key);

    return found ? found->text : NULL;
}

int ld_inodes_add(struct ld_inodes *set, const struct stat *st, size_t layer, const char *text)
{
    const struct key key = {st->st_dev, st->st_ino, layer};
    struct ld_inode *add;

    if (find(set, &key))
        return 1;
    if (HASH_COUNT(set->all) >= set->max)
        return -E2BIG;
    add = ld_alloc0(sizeof(*add) + strlen(text) + 1);
    add->key = key;
    memcpy(add->text, text, strlen(text) + 1);
    HASH_ADD(hh, set->all, key, sizeof(add->key), add);
    return 0;
}

void ld_inodes_done(struct ld_inodes *set)
{
    ld_table_drain(hh, set->all, free);
}
