/* Private to untar*.c: the state of one run, and what its files give each other. */
#pragma once

#include <sys/stat.h>

#include "daemon/base/buf.h"
#include "daemon/image/dirs.h"
#include "daemon/image/recipe.h"
#include "daemon/image/tar.h"
#include "daemon/image/untar.h"

enum {
    LD_UNTAR_MAX_SYMLINKS = 40, /* followed on the way to one entry */
    LD_UNTAR_MAX_TODO = 32 << 10,
};

struct ld_untar_link; /* an inode standing for a lower layer's file */
struct ld_untar_kept; /* a multi-linked inode whose content was copied aside */

struct ld_untar {
    const struct ld_untar_job *job;
    struct ld_untar_result out;
    struct ld_source *hashed; /* the job's, with the diff ID */
    struct ld_source *source; /* that, read ahead */
    struct ld_recipe *recipe;
    struct ld_tar *tar;
    struct ld_tar_entry entry; /* the one at work */

    struct ld_dirs *dirs;    /* the parent of the entry; stays open for the next one */
    struct ld_dirs *targets; /* the parent of the last hard link's target */
    bool has_root;           /* a note about the layer's root was made */

    int aside_fd;
    uint64_t n_asides;
    struct ld_untar_kept *kept; /* by inode number */
    struct ld_untar_link *by_target, *by_ino;
    uint64_t n_links;
    size_t links_bytes;

    mode_t masked; /* permission bits that the umask takes from what we create */
    uid_t uid;     /* owner of what we create */
    gid_t gid;

    struct ld_xattrs now;   /* of the entry: to be set by untar (a directory: to be noted) */
    struct ld_xattrs later; /* trusted.*: settle's */

    char clean[LD_TAR_MAX_PATH + 1];
    char target[LD_TAR_MAX_PATH + 1];
    char todo[2][LD_UNTAR_MAX_TODO]; /* what is left of a path being followed, before and after a
                                        symlink is put in */
};

/* ---- untar.c ---- */

/* bad_content "entry 'NAME': reason"; the same for a limit, with details. Both return -1. */
int ld_untar_refuse(const struct ld_untar *u, struct ld_err *err, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
int ld_untar_over(const struct ld_untar *u, struct ld_err *err, const char *limit, uint64_t max,
                  const char *what);
/* A failed call on behalf of the entry: what only its content can cause is bad_content. */
int ld_untar_sys(const struct ld_untar *u, int neg_errno, const char *what, struct ld_err *err);
/* One more inode in the layer. */
int ld_untar_count_node(struct ld_untar *u, struct ld_err *err);
bool ld_untar_is_canceled(const struct ld_untar *u);
/* The path of a name in the directory that `dirs` stands in; free it. */
char *ld_untar_path(const struct ld_dirs *dirs, const char *name);
/* A note about a path, with the entry's mtime. */
int ld_untar_note(struct ld_untar *u, enum ld_note_kind kind, const char *path, struct ld_err *err);

/* ---- untar_path.c ---- */

/* Cleans a name as text into u->clean or u->target (size LD_TAR_MAX_PATH + 1): "" is the root. */
int ld_untar_clean(const struct ld_untar *u, const char *raw, bool may_be_absolute, char *clean,
                   struct ld_err *err);
/* Brings `dirs` to the directory `path`, following symlinks of this layer. missing NULL: what is
 * missing is made (implied); else what is missing is put there ("a/b"), and `dirs` stands in the
 * last directory that exists. */
int ld_untar_follow(struct ld_untar *u, struct ld_dirs *dirs, const char *path,
                    struct ld_buf *missing, struct ld_err *err);

/* ---- untar_replace.c ---- */

/* Removes what a new entry replaces, a whole tree too. Content that the recipe needs goes aside. */
int ld_untar_replace(struct ld_untar *u, int dir, const char *name, struct ld_err *err);
/* The aside directory, made when it is not there yet: borrowed, or -1. */
int ld_untar_aside(struct ld_untar *u, struct ld_err *err);
void ld_untar_kept_done(struct ld_untar_kept **kept);

/* ---- untar_link.c ---- */

int ld_untar_hardlink(struct ld_untar *u, const char *name, struct ld_err *err);
void ld_untar_links_done(struct ld_untar *u);

/* ---- untar_node.c ---- */

/* Sorts the entry's xattrs into `now` and `later`; warns of those that cannot be stored. */
int ld_untar_sort_xattrs(struct ld_untar *u, struct ld_err *err);
/* A file, symlink, device or fifo with content and attributes. */
int ld_untar_node(struct ld_untar *u, const char *name, struct ld_err *err);
