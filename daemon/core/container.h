/* Containers: a thin writable layer on an image, mounted on request. Threads: see core.h. */
#pragma once

#include <stdbool.h>

#include "daemon/core/core.h"
#include "daemon/core/mounts.h"
#include "daemon/core/target.h"
#include "daemon/store/store.h"
#include "drivers/driver.h"

struct ld_op;

/* What a clone is made from (see clone.h); all borrowed. */
struct ld_container_origin {
    const struct ld_container *container;
    ld_sid tip_sid;               /* the state of it that the clone begins with */
    const struct ld_layer *layer; /* the tip's, when its record is still to be made; or NULL */
};

/* What a create asks for; all borrowed. */
struct ld_container_spec {
    const char *name;                         /* or NULL */
    const char *image;                        /* reference or id */
    const struct ld_container_origin *origin; /* instead of an image; NULL but for clones */
    const char *driver;
    const char *labels;      /* a JSON object as text, or NULL */
    const char *config;      /* likewise */
    const char *spec_digest; /* of the canonical body, or NULL; a later PUT is compared with it */
    struct ld_mount_spec
        *mounts; /* volume_id is not looked at; source of a volume: name, id or NULL */
    size_t n_mounts;
    struct ld_limits limits; /* of the writable layer */
    enum ld_backing backing;
    bool read_only, ephemeral, auto_remove;
    bool may_exist;   /* PUT: one of the same body is the answer */
    bool must_be_new; /* PUT with If-None-Match: * */
};

/* A container as it is now. */
struct ld_container_state {
    struct ld_container record;
    enum ld_mount_state mount;
    char *mountpoint; /* NULL unless mounted */
    char *target;     /* a caller's place where it is mounted, too; or NULL */
    char *bundle;     /* the folder of its runtime bundle, or NULL */
    char *damage;     /* its own, or that of a layer below; NULL: whole */
};
void ld_container_state_done(struct ld_container_state *state);

/* Any thread: whole id, name or unique prefix. No I/O but the store's. */
int ld_container_find(struct ld_core *core, const char *text, struct ld_container_state *ret,
                      struct ld_err *err);
/* Any thread: takes a record out of a list page (which is left empty) and adds its state. */
void ld_container_state_of(struct ld_core *core, struct ld_container *record,
                           struct ld_container_state *ret);

/* Loop: the keys of a create ("i:ID" shared, "n:c:NAME" exclusive); of anything else ("c:ID"). */
int ld_container_admit_create(struct ld_core *core, const struct ld_container_spec *spec,
                              struct ld_op *op, struct ld_err *err);
int ld_container_admit(struct ld_core *core, const char *text, bool exclusive, struct ld_op *op,
                       char ret_id[65], struct ld_err *err);
/* Loop: "c:ID" exclusive, its volumes shared, those not yet seeded exclusive. */
int ld_container_admit_mount(struct ld_core *core, const char *text, struct ld_op *op,
                             char ret_id[65], struct ld_err *err);

/* ---- workers ---- */

/* *ret_made false: a PUT found the same container. invalid, not_found (image), exists, unsupported
 * (driver), corrupt (a damaged layer below). `cancel` ends the copying of a vfs container. */
int ld_container_create(struct ld_core *core, const struct ld_write *w,
                        const struct ld_container_spec *spec, const bool *cancel,
                        struct ld_container_state *ret, bool *ret_made, struct ld_err *err);

/* By id, with a probe of one that was mounted once and is not now. */
int ld_container_inspect(struct ld_core *core, const char *id, struct ld_container_state *ret,
                         struct ld_err *err);
int ld_container_usage(struct ld_core *core, const char *id, struct ld_usage *ret,
                       struct ld_err *err);

/* invalid, with the rule as a hint. */
int ld_container_name_check(const char *name, struct ld_err *err);
int ld_container_patch(struct ld_core *core, const struct ld_write *w, const char *id,
                       const struct ld_container_patch *patch, struct ld_container_state *ret,
                       struct ld_err *err);

/* Success also when it is mounted, but conflict when that mount is not as it is wanted. Other
 * codes: those of ld_mounts_attach. */
enum ld_mount_how {
    LD_AS_CREATED,
    LD_READ_ONLY,
    LD_READ_WRITE /* unless it was created read-only */
};
struct ld_container_mounting {
    enum ld_mount_how how;
    const struct ld_mount_target *target; /* shown there, too; or NULL: no matter */
};
int ld_container_mount(struct ld_core *core, const struct ld_write *w, const char *id,
                       const struct ld_container_mounting *mounting, struct ld_container_state *ret,
                       struct ld_err *err);

struct ld_unmounted {
    struct ld_container_state state; /* as it was last, when auto_remove took it away */
    bool was_mounted;
    char *holders; /* after force: a JSON array of who still holds it, or NULL */
};
int ld_container_unmount(struct ld_core *core, const struct ld_write *w, const char *id,
                         struct ld_unmount_flags flags, struct ld_unmounted *ret,
                         struct ld_err *err);
void ld_unmounted_done(struct ld_unmounted *unmounted);

struct ld_container_removal {
    bool force;   /* also when it is mounted or held */
    bool volumes; /* its anonymous volumes too */
    bool purge;   /* destroyed at once, whatever the trash keeps */
    bool settle;  /* ours is closed first, which may wait for the disk: so any holder is seen, also
                     right after an unmount. Otherwise the reaper sees him */
    uint64_t if_match;
};
/* busy: it is mounted, or held by somebody. With w->dry_run nothing is done: what would go is
 * measured on disk. */
int ld_container_remove(struct ld_core *core, const struct ld_write *w, const char *id,
                        const struct ld_container_removal *how, struct ld_removed *ret,
                        struct ld_err *err);

/* Exact, in the order of paths; see ld_driver.changes. Reads the stored layers, needs no mount. */
int ld_container_changes(struct ld_core *core, const char *id, ld_change_fn sink, void *arg,
                         struct ld_err *err);
