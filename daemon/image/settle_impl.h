/* Private to settle*.c. */
#pragma once

#include "daemon/image/dirs.h"
#include "daemon/image/settle.h"

/* While a layer is being settled a directory's opaque mark has one of two values: overlay's own
 * says that its children below are hidden; HIDDEN that all of the directory below is (a whiteout
 * beside it), its attributes too. */
enum { LD_SETTLE_NO_MARK = 0, LD_SETTLE_OPAQUE = 'y', LD_SETTLE_HIDDEN = 'w' };

/* The directory of the layers below at the same path, whatever this layer's marks say of it. */
enum ld_settle_lower { LD_SETTLE_UNKNOWN, LD_SETTLE_OPEN, LD_SETTLE_NONE };

struct ld_settle_level {
    char mark;
    bool is_cut;   /* nothing below shows at this directory, attributes included */
    bool is_alone; /* nothing below shows in this directory */
    enum ld_settle_lower lower;
    struct ld_subtree below; /* OPEN: it; of level 0 it is the job's */
};

struct ld_settle {
    const struct ld_settle_job *job;
    struct ld_pending *pending;
    struct ld_settle_result out;
    struct ld_dirs *dirs;
    struct ld_settle_level level[LD_MAX_TREE_DEPTH + 1]; /* of dirs */
    size_t open_fds;                                     /* of all `below` */
    bool has_marks;                                      /* some directory may have a mark: look */
    bool is_root_opaque;
};

/* Brings s->dirs to the first len bytes of a path: 1; 0: no such directory (any more); -1. */
int ld_settle_go(struct ld_settle *s, const char *path, size_t len, struct ld_err *err);
/* The same for the directory that holds the last component. */
int ld_settle_go_parent(struct ld_settle *s, const char *path, const char **ret_name,
                        struct ld_err *err);
/* Leaves the levels below: what is known of their directories is forgotten. */
void ld_settle_cut(struct ld_settle *s, size_t level);
/* What the layers below have under a name in the directory of a level, whatever this layer's marks
 * say. name NULL: under the name of the next level. 1, 0, -1. */
int ld_settle_lower(struct ld_settle *s, size_t level, const char *name, struct ld_found *ret,
                    struct ld_err *err);
int ld_settle_refuse(struct ld_err *err, const char *path, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
int ld_settle_sys(struct ld_err *err, int neg_errno, const char *what, const char *path);
/* A failed setting of attributes: xattrs that cannot be stored are bad_content. */
int ld_settle_attr_error(struct ld_err *err, int neg_errno, int fd, const char *path);

/* settle_marks.c: whiteouts and opaque marks set, then (the second) HIDDEN made plain opaque. */
int ld_settle_marks(struct ld_settle *s, struct ld_err *err);
int ld_settle_plain_marks(struct ld_settle *s, struct ld_err *err);

/* settle_link.c: what waits in the aside directory, which is cleared of it. */
int ld_settle_links(struct ld_settle *s, struct ld_err *err);
