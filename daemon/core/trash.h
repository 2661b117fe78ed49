/* Removal's second half: directories to trash/, the reaper that deletes them.
 *
 * A removal is recorded in one transaction, then its directories are renamed to trash/SID (the
 * start repeats it), then the caller answers; deleting happens later, on the reap lane with idle
 * I/O priority.
 */
#pragma once

#include <stdbool.h>

#include "daemon/base/err.h"

struct ld_core;
struct ld_gone;
struct ld_op;
struct ld_reaper;
struct ld_removed;
struct ld_restored;
struct ld_trash;
struct ld_usage;
struct ld_write;

/* Renames what a removal took away; a directory that is not there is skipped. Any worker; never
 * fails as a whole: what can't be renamed now is found again by the next start (and logged). */
void ld_trash_take(struct ld_core *core, const struct ld_removed *removed);
void ld_trash_take_one(struct ld_core *core, const struct ld_gone *gone);

/* The end of a removal whose transaction is through: ld_trash_take, unless it was a dry run. *ret
 * takes `removed` over. Any worker. */
void ld_trash_finish(struct ld_core *core, const struct ld_write *w, struct ld_removed *removed,
                     struct ld_removed *ret);
/* After a dry run: what the containers and volumes among the objects hold on disk, by walks. One
 * that has gone meanwhile holds nothing. No key is needed. Any worker. canceled. */
int ld_trash_measure(struct ld_core *core, struct ld_removed *removed, const bool *cancel,
                     struct ld_err *err);

/* What is in the trash (by id, name or prefix; NULL: everything) is deleted now instead of later:
 * it is never restored, the reaper is awake, the space comes back while it works. A dry run leaves
 * all as it is and fills *ret, with the bytes it walks for and the layers that would leave with all
 * of it. Any worker. not_found; conflict: ambiguous; canceled. */
int ld_trash_purge(struct ld_core *core, const struct ld_write *w, const char *text,
                   const bool *cancel, struct ld_removed *ret, struct ld_err *err);
/* A container, volume or image of which nothing is deleted yet. */
bool ld_trash_is_restorable(const struct ld_trash *trash);
/* What is to be restored, its key and that of the name it is going to have. Loop. invalid: the
 * name; not_found; conflict: ambiguous, or a layer. */
int ld_trash_admit(struct ld_core *core, const char *text, const char *name, struct ld_op *op,
                   struct ld_trash *ret, struct ld_err *err);
/* It lives again with its data, under another name unless that is NULL. *ret: the names of an
 * image. Killed in the middle, the next start has it in the trash as before. Any worker; the codes
 * of ld_store_trash_restore. */
int ld_trash_restore(struct ld_core *core, const struct ld_write *w, const struct ld_trash *trash,
                     const char *name, struct ld_restored *ret, struct ld_err *err);
/* What it holds on disk: a walk; of an image, the layers that would go with it. Nothing where the
 * reaper was faster. */
int ld_trash_usage(struct ld_core *core, const struct ld_trash *trash, const bool *cancel,
                   struct ld_usage *ret, struct ld_err *err);

/* dir/name is in no record: to the trash under a name of its own, to be deleted next. A name that
 * is not there is skipped. Any worker; kick the reaper afterwards. */
void ld_trash_discard(struct ld_core *core, int dir, const char *name);

/* Loop thread. The reaper sleeps until it is kicked or something in the trash is due. */
struct ld_reaper *ld_reaper_new(struct ld_core *core);
void ld_reaper_free(struct ld_reaper *reaper); /* after the lanes have drained */
void ld_reaper_kick(struct ld_reaper *reaper); /* any thread */
void ld_reaper_stop(struct ld_reaper *reaper); /* loop thread: what it deletes now is cut short */
