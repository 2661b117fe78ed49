/* The contract of a storage driver.
 *
 * A driver assembles: given a chain of committed layers and the sid of a writable layer it
 * prepares, mounts, inspects and destroys that writable layer. It owns no record, no tar code and
 * no policy.
 *
 * Every operation blocks and runs on any worker thread; the core never runs two for one sid at the
 * same time. A driver logs nothing above debug. After a failure there is either nothing or
 * something that `list` reports. A writable layer lives in w/SID and nowhere else.
 */
#pragma once

#include <stdbool.h>
#include <sys/stat.h>

#include "daemon/base/err.h"
#include "daemon/base/fdio.h"
#include "daemon/base/quota.h"
#include "daemon/base/sid.h"
#include "daemon/base/tree.h"
#include "daemon/base/tree_diff.h"

/* The directories a driver works in. Descriptors are borrowed and stay open for the process's life.
 */
struct ld_driver_env {
    int layers_fd; /* DATA/layers: one directory per committed layer, overlay's marks in it */
    int w_fd;      /* DATA/w: one directory per writable layer; of a layer that lies apart: the
                      directory, wherever it is, that has its SID */
    int stage_fd;  /* RUN/stage: private tmpfs, where mounts are built and probes scratch */
    const char *instance;  /* this store's random name: our mounts are named layerd:INSTANCE:SID */
    struct ld_quota quota; /* what writable layers are counted and limited by */
};

enum ld_driver_flags {
    LD_DRIVER_UPPER_IS_LAYER = 1 << 0, /* the writable layer, frozen, is a layer as it is */
    LD_DRIVER_COPIES = 1 << 1,         /* create copies the whole chain */
};

/* What `create` wants to be given back with each later call; kept by the records, opaque to them.
 */
struct ld_driver_state {
    char text[96];
};

/* A writable layer as the driver sees it. */
struct ld_writable {
    ld_sid sid;
    struct ld_chain chain;
    size_t n_own; /* so many of the chain, from the top, are frozen states of the container itself:
                     `changes` counts them in */
    struct ld_driver_state state;
    struct ld_limits limits; /* of what is written; what create copies is not counted */
    bool is_apart; /* w/SID is a file system, or a subvolume, of its own: what is in it can't be
                      renamed into the layer store, so it is captured, never frozen */
};

enum ld_mount_flags {
    LD_MOUNT_RDONLY = 1 << 0,
    LD_MOUNT_VOLATILE = 1 << 1, /* never sync: for ephemeral containers */
};

typedef int (*ld_sid_fn)(void *arg, ld_sid sid, struct ld_err *err);

struct ld_driver {
    const char *name;

    /* Usable here? By trying, on the data root's own file system and at the stage. -1: the message
     * says why not, the hint what would help. Leaves nothing behind. */
    int (*probe)(const struct ld_driver_env *env, unsigned *ret_flags, struct ld_err *err);

    /* Makes w/SID: an empty writable layer on w->chain (vfs: the flattened copy), its root having
     * the merged root's owner, mode, xattrs and times, held to w->limits. Fills w->state. Not
     * synced: the core does that. */
    int (*create)(const struct ld_driver_env *env, struct ld_writable *w, const bool *cancel,
                  struct ld_err *err);

    /* Mounts the writable layer at stage/SID, an existing empty directory made by the caller. A
     * mount that came up read-only unasked is an error. The caller has made sure (in_use, once it
     * was ever mounted) that nobody holds the layer: the kernel does not refuse a second mount, and
     * two of them corrupt it. Leaves the thread's working directory alone. */
    int (*mount)(const struct ld_driver_env *env, const struct ld_writable *w, unsigned flags,
                 struct ld_err *err);

    /* Mounts a chain without a writable layer, read-only, at stage/NAME, an existing empty
     * directory; its source is "layerd:INSTANCE:NAME". NULL: it can't. */
    int (*mount_chain)(const struct ld_driver_env *env, const struct ld_chain *chain,
                       const char *name, struct ld_err *err);

    /* Does anybody, in any namespace, still hold a mount of the writable layer? (vfs cannot see it
     * and says no.) Must not be asked while a mount or a clone of ours is open: that counts too. */
    int (*in_use)(const struct ld_driver_env *env, const struct ld_writable *w, bool *ret_held,
                  struct ld_err *err);

    /* Each change against the chain without its own layers, exactly: type, mode, owner, rdev,
     * target, xattrs, mtime, size and content decide. Component by component in byte order, a
     * directory before what is in it. An entry replaced by one of another type is modified. Only
     * the topmost of what was deleted is told, and nothing of what was in a directory that a file
     * replaces. May run while the layer is mounted. */
    int (*changes)(const struct ld_driver_env *env, const struct ld_writable *w, ld_change_fn sink,
                   void *arg, struct ld_err *err);

    /* The root directory of the writable layer's own tree (what the container changed, or all of
     * it), and its form. The descriptor or -errno. */
    int (*open)(const struct ld_driver_env *env, const struct ld_writable *w,
                enum ld_form *ret_form);

    /* The next three make a layer of the writable one without a copy; NULL unless
     * LD_DRIVER_UPPER_IS_LAYER. Nobody may hold it.
     *
     * Does it show just what its chain shows, the root's attributes included? */
    int (*is_clean)(const struct ld_driver_env *env, const struct ld_writable *w, bool *ret,
                    struct ld_err *err);
    /* Makes w/NEXT: empty, on top of w, whose root's attributes and limits it has. Not synced. */
    int (*succeed)(const struct ld_driver_env *env, const struct ld_writable *w, ld_sid next,
                   struct ld_err *err);
    /* w/SID becomes layers/SID, without limits. May have been done before, as a whole or in part.
     */
    int (*seal)(const struct ld_driver_env *env, ld_sid sid, struct ld_err *err);

    /* The kernel holds the layer to w->limits from now on, mounted or not. unsupported: it can't
     * be; conflict: this one can't, since it was made when none could. */
    int (*limit)(const struct ld_driver_env *env, const struct ld_writable *w, struct ld_err *err);
    /* What the kernel counts against these limits, without a walk; what is written at this moment
     * may be missing. unsupported: it counts nothing. */
    int (*used)(const struct ld_driver_env *env, const struct ld_writable *w, struct ld_limits *ret,
                struct ld_err *err);

    /* Bytes and inodes of w/SID on disk. */
    int (*usage)(const struct ld_driver_env *env, const struct ld_writable *w, struct ld_usage *ret,
                 struct ld_err *err);
};

/* All drivers, best first, NULL at the end. */
extern const struct ld_driver *const ld_drivers[];
extern const struct ld_driver ld_driver_overlay;
extern const struct ld_driver ld_driver_vfs;

/* conflict, with the remedy: it can't be limited, since what is in it was never counted. */
int ld_driver_refuse_uncounted(struct ld_err *err);

const struct ld_driver *ld_driver_by_name(const char *name); /* NULL: no such driver */
