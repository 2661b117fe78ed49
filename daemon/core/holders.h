/* Who keeps a container's file system busy: processes in it or with something of it open, and other
 * mount namespaces that have a mount of it.
 *
 * By /proc. Blocking, any worker. Needs CAP_SYS_PTRACE to see other users' processes; without it
 * the list is what could be seen. The daemon's own views are never told: they end by themselves.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "daemon/base/buf.h"
#include "daemon/base/err.h"

struct ld_core;

enum { LD_MAX_HOLDERS = 6, LD_MAX_ALL_HOLDERS = 1000 };

/* In how many ways; from the one that is found first. */
enum ld_hold_use {
    LD_HOLD_CWD = 1 << 0,
    LD_HOLD_ROOT = 1 << 1,
    LD_HOLD_EXE = 1 << 2,
    LD_HOLD_FILE = 1 << 3,  /* an open descriptor */
    LD_HOLD_MMAP = 1 << 4,  /* a mapped file whose descriptor may be closed */
    LD_HOLD_MOUNT = 1 << 5, /* its mount namespace, another than ours, has a mount of it */
};

struct ld_holder {
    pid_t pid;
    unsigned uses; /* enum ld_hold_use */
    char command[32];
    char unit[64];     /* the last part of its control group, "" when there is none */
    char cgroup[256];  /* the whole of it, cut when longer */
    uint64_t mount_ns; /* inode of its mount namespace, 0: not to be seen */
    char path[512];    /* of the first use, as this process sees it, cut when longer; "": unknown */
};

/* The name of the first use: "cwd", "root", "exe", "file", "mmap", "mount". */
const char *ld_holder_use(unsigned uses);

/* Those that make an unmount busy, by the device of the file system that dir shows (an overlay has
 * one of its own); for a mount whose device others share, by mount id (same_mount). Stops at the
 * first use of each process. Returns the number found, at most LD_MAX_HOLDERS. */
size_t ld_holders_find(int dir, bool same_mount, struct ld_holder ret[LD_MAX_HOLDERS]);

/* "1234 (bash), 77 (sleep)" and the array of the API's Holder objects. */
void ld_holders_text(const struct ld_holder *holder, size_t n, struct ld_buf *text);
void ld_holders_json(const struct ld_holder *holder, size_t n, struct ld_buf *json);
/* busy: "the mount is in use by …", with as many of them in details.holders as fit. -1. */
int ld_holders_busy(const struct ld_holder *holder, size_t n, struct ld_err *err);

/* Everybody who holds a container, in every way, also when it is not mounted: by the device of its
 * overlay, found at its mount point or in another namespace, and by what mounts are made of. Asks
 * nobody to let go and probes nothing: see ld_container_inspect for that. */
struct ld_holders {
    struct ld_holder *item; /* by pid */
    size_t n;
    bool more; /* than LD_MAX_ALL_HOLDERS */
};
/* not_found, unsupported (its driver is not usable). */
int ld_container_holders(struct ld_core *core, const char *id, struct ld_holders *ret,
                         struct ld_err *err);
void ld_holders_done(struct ld_holders *holders);
