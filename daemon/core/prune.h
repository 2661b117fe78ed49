/* Pruning: everything of one kind that nobody uses is removed.
 *
 * Each object is removed as its DELETE would do it: by an operation of its own, under its own key,
 * with the checks of a removal in the transaction. So one that comes into use, or is changed in any
 * way, between the look at the list and its turn stays, and nothing is held up meanwhile. A failure
 * on one object is kept and the others go on.
 *
 * Never removed: containers that are mounted or held by a process, images that a container was made
 * of or that are mounted, volumes that a container has among its mounts; and nothing that is being
 * made or read at that moment (pins.h), so that a create is never told that what it made is gone.
 * Snapshots go with their container, as they do with a DELETE.
 */
#pragma once

#include <stdbool.h>

#include "daemon/base/err.h"
#include "daemon/store/store.h"

struct ld_core;

enum { LD_PRUNE_LIST_MAX = 10000 }; /* objects, and failures, that are named; more are counted */

enum ld_prune_kind { LD_PRUNE_IMAGES, LD_PRUNE_CONTAINERS, LD_PRUNE_VOLUMES };

struct ld_prune {
    enum ld_prune_kind kind;
    const struct ld_label *labels; /* all must be there */
    size_t n_labels;
    int64_t until_ns; /* made before; 0: at any time */
    bool all;         /* images, volumes: those with a name, too */
    bool volumes;     /* containers: their anonymous volumes, too */
    bool purge;       /* not to the trash */
    const bool *cancel;
    void (*progress)(void *arg, const char *id, uint64_t looked_at); /* any thread; or NULL */
    void *progress_arg;
};

struct ld_prune_failure {
    char *id, *name; /* name may be NULL */
    enum ld_code code;
    char *message;
};

struct ld_pruned {
    struct ld_removed removed; /* only its objects count here; bytes as they were on disk */
    uint64_t objects, bytes;   /* of all that went, named or not */
    uint64_t trash_bytes;      /* of these: what the trash keeps for a while */
    struct ld_prune_failure *failure;
    size_t n_failures;
    size_t cap_failures;
    bool is_cut; /* there were more than are named */
};
void ld_pruned_done(struct ld_pruned *pruned);

/* A worker of the stream lane, inside an operation without keys. With w->dry_run nothing is done,
 * and *ret says what would go, with the layers that nothing else needs, each once. Codes: canceled
 * (what went by then is gone), unavailable. */
int ld_prune_run(struct ld_core *core, const struct ld_write *w, const struct ld_prune *what,
                 struct ld_pruned *ret, struct ld_err *err);
