/* What untar leaves for settle: a list of notes in the order of the archive, kept in an unnamed
 * file (a layer may have millions of entries) whose paths are real: no symlink, ".", ".." in them.
 *
 * A later note about the same path takes the place of an earlier one; a note about a directory that
 * is not there any more is void. Blocking; one thread at a time.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "daemon/base/err.h"
#include "daemon/base/tree.h"

enum ld_note_kind {
    LD_NOTE_DIR = 1,  /* an entry of type directory: all its attributes */
    LD_NOTE_IMPLIED,  /* a directory that an entry made by lying in it; mtime: the entry's */
    LD_NOTE_WHITEOUT, /* path is what it hides */
    LD_NOTE_OPAQUE,   /* path is the directory */
    LD_NOTE_LINK,     /* path is one name of placeholder `number`, target a name in a lower layer */
    LD_NOTE_XATTRS,   /* xattrs for the node that ASIDE holds a link of as x`number` */
};

struct ld_pending_note {
    enum ld_note_kind kind;
    const char *path; /* relative; "": the root */
    uint32_t mode, uid, gid;
    int64_t mtime_sec;
    uint32_t mtime_nsec;
    uint64_t number;
    const char *target;             /* LINK, else "" */
    const struct ld_xattrs *xattrs; /* DIR and XATTRS; NULL: none. Sorted by name. */
};

struct ld_pending;

/* dir: any directory of the file system to use. */
int ld_pending_new(int dir, struct ld_pending **ret, struct ld_err *err);
void ld_pending_free(struct ld_pending *p);
void ld_pending_free_p(struct ld_pending **p);

int ld_pending_add(struct ld_pending *p, const struct ld_pending_note *note, struct ld_err *err);
uint64_t ld_pending_count(const struct ld_pending *p, enum ld_note_kind kind);

/* Reading, as often as wanted, after the last add. next: 1 and a note that is good until the next
 * call; 0 at the end; -1. */
int ld_pending_rewind(struct ld_pending *p, struct ld_err *err);
int ld_pending_next(struct ld_pending *p, struct ld_pending_note *ret, struct ld_err *err);
