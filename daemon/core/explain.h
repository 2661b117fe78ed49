/* Why a path of a container is as it is: which layer gives it, what it hides, what a write to it
 * would cost.
 *
 * Paths are resolved inside the container's root, as somebody in there would: symlinks (40 at most)
 * never lead out of it, and where something else is mounted that is told instead. Neither mounts
 * nor changes anything. Blocking; any worker; the loop holds c:ID (shared will do).
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

#include "daemon/base/err.h"
#include "daemon/base/tree.h"
#include "daemon/store/records.h"

struct ld_core;

struct ld_explain_step { /* a symlink that was followed */
    char *path, *target;
};

/* What lies at the place a path leads to. */
enum ld_explain_place {
    LD_IN_CONTAINER,
    LD_IN_VOLUME,
    LD_IN_BIND,
    LD_IN_TMPFS,
    LD_IN_FOREIGN, /* somebody mounted it inside the container */
};

struct ld_explain_layer {
    size_t number; /* 1: the lowest layer; one more than there are layers: the writable one */
    enum ld_trace_role role;
    struct stat st;
    bool is_opaque;
    size_t hidden_by; /* likewise a number; 0: by nobody */
    char *hidden_at;
    enum ld_hide_how how;
};

struct ld_explain {
    struct ld_container container;
    struct ld_layer *layer; /* of the chain: layer[0] is number 1 */
    char **created_by;      /* as many, from the image's history; NULL: not told there */
    struct ld_snapshot
        *snapshot; /* as many: whose state it is; id NULL: nobody's, or the image's */
    size_t n_layers;
    size_t n_image_layers; /* so many of them, from the lowest, are the image's */

    char *resolved; /* without symlinks, "." and ".." */
    struct ld_explain_step *step;
    size_t n_steps;
    bool exists;
    char *missing; /* when not: the first part of the path that is missing, or no directory */
    bool is_loop;  /* when not: over 40 symlinks */
    struct stat st;
    char *target; /* of a symlink, or NULL */

    enum ld_explain_place place;
    char *mounted_at;                  /* when it is not the container's own */
    const struct ld_mount_spec *mount; /* of the container's; NULL: a foreign one */

    /* Of the container's own tree: */
    size_t provider;               /* number of the layer, 0: none */
    struct ld_explain_layer *part; /* layers that have something there, topmost first */
    size_t n_parts;
    size_t cap_parts;

    bool can_write;      /* the container, or this mount of it, is not read-only */
    bool copies;         /* a write makes a copy in the writable layer first … */
    uint64_t copy_bytes; /* … of so many bytes … */
    size_t copy_parents; /* … with so many directories above it … */
    bool breaks_links;   /* … and parts it from its other names */
};

/* path: absolute, bytes. follow: a symlink at its end too, as a '/' at the end has it anyway.
 * Codes: invalid (not absolute, too long), not_found (the container), corrupt (it or a layer is
 * damaged), unsupported (its driver). */
int ld_explain(struct ld_core *core, const char *id, const char *path, bool follow,
               const bool *cancel, struct ld_explain *ret, struct ld_err *err);
void ld_explain_done(struct ld_explain *explain);
