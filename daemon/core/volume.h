/* Volumes: directories that outlive containers. Threads: see core.h. */
#pragma once

#include <stdbool.h>

#include "daemon/core/core.h"
#include "daemon/store/store.h"

struct ld_op;

/* What a clone is made from. */
struct ld_volume_origin {
    const char *id;
    const char *snapshot; /* this state of it; NULL: the present one */
    bool has_limit;       /* the spec's size_limit counts, not its own */
    bool live; /* copied even while a container has it mounted: what vanishes is left out */
    const bool *cancel; /* polled while it is copied */
};

struct ld_volume_spec {
    const char *name;        /* NULL: anonymous, found by its id */
    const char *labels;      /* a JSON object as text, or NULL */
    const char *spec_digest; /* of the canonical body, or NULL; a later PUT is compared with it */
    uint64_t size_limit;     /* 0: none */
    /* Clone: a copy of this one's content and limit, and of its labels unless there are some. NULL:
     * empty. */
    const struct ld_volume_origin *origin;
    bool may_exist;   /* PUT: one of the same body is the answer */
    bool must_be_new; /* PUT with If-None-Match: * */
};

/* Loop: "v:ID". ret_id may be NULL. */
int ld_volume_admit(struct ld_core *core, const char *text, bool exclusive, struct ld_op *op,
                    char ret_id[65], struct ld_err *err);

/* Loop: "v:ID" shared, since whoever reads or writes it does no more than its containers do. A
 * write into a volume that may still be seeded has it exclusively: seeding replaces the empty
 * directory. */
int ld_volume_admit_files(struct ld_core *core, const char *text, bool will_write, struct ld_op *op,
                          char ret_id[65], struct ld_err *err);

/* Loop: the keys of a copy's origin, exclusive unless it is live (or a snapshot), so that nobody
 * mounts it. */
int ld_volume_admit_clone(struct ld_core *core, const char *text, bool live, struct ld_op *op,
                          char ret_id[65], struct ld_err *err);

/* Worker. *ret_made false: a PUT found the same volume. exists: the name is taken; conflict: a PUT
 * of another body; precondition: must_be_new. A clone (keys: ld_volume_admit_clone): in_use names
 * the containers that have the origin mounted, unless it is live; corrupt; canceled. */
int ld_volume_create(struct ld_core *core, const struct ld_write *w,
                     const struct ld_volume_spec *spec, struct ld_volume *ret, bool *ret_made,
                     struct ld_err *err);
/* Worker, v:ID exclusive. *ret: as it is then. precondition; unsupported and conflict: those of
 * limits.h. */
int ld_volume_patch(struct ld_core *core, const struct ld_write *w, const char *id,
                    const struct ld_volume_patch *patch, struct ld_volume *ret, struct ld_err *err);
/* The volume of that name, made when there is none: first use. One that was made is pinned
 * (pins.h): the caller drops that once the volume has its user. */
int ld_volume_ensure(struct ld_core *core, const struct ld_write *w, const char *name,
                     struct ld_volume *ret, bool *ret_made, struct ld_err *err);

struct ld_volume_removal {
    bool purge; /* destroyed, not kept in the trash */
    uint64_t if_match;
};
/* Worker, v:ID exclusive. in_use names the containers. With w->dry_run nothing is done: what would
 * go is measured on disk. */
int ld_volume_remove(struct ld_core *core, const struct ld_write *w, const char *id,
                     const struct ld_volume_removal *how, struct ld_removed *ret,
                     struct ld_err *err);

/* A private clone (nodev, nosuid, noexec) of the volume's directory, for readers and writers in the
 * daemon; nothing that is mounted below is in it. Opened under the volume's key and used without:
 * the reaper waits. Worker. Codes: not_found, corrupt (it is damaged). */
struct ld_volume_view {
    struct ld_core *core;
    ld_sid sid;
    int fd;
};
int ld_volume_view(struct ld_core *core, const char *id, struct ld_volume_view *ret,
                   struct ld_err *err);
void ld_volume_view_close(struct ld_volume_view *view); /* a closed one is fine */

/* A directory to copy: the volume, or one of its snapshots. */
struct ld_volume_source {
    const char *id;
    ld_sid snapshot_sid; /* 0: the volume itself */
    uint64_t size_limit; /* of the copy: what it begins with may be more, then it can only shrink */
    bool live;
    const bool *cancel;
};
/* Copies it to volumes/SID, reflinked where the file system can: aside, synced, then in its place,
 * marked as being made (making.h) until the caller ends that; after a failure nothing is left.
 * corrupt; canceled. Worker. */
int ld_volume_copy(struct ld_core *core, const struct ld_volume_source *from, ld_sid sid,
                   struct ld_err *err);
/* A copy that is not recorded after all. */
void ld_volume_discard(struct ld_core *core, ld_sid sid);
/* in_use names the containers that have it mounted; under v:ID held exclusively. */
int ld_volume_refuse_mounted(struct ld_core *core, const struct ld_volume *v, bool could_be_live,
                             struct ld_err *err);

/* The containers that have it mounted now, or are held by a process in another mount namespace.
 * Nobody mounts it while v:ID is held exclusively. Worker. */
int ld_volume_mounters(struct ld_core *core, const char *id, struct ld_users *ret,
                       struct ld_err *err);

/* Bytes and inodes on disk: a walk. */
struct ld_usage;
int ld_volume_usage(struct ld_core *core, const char *id, struct ld_usage *ret, struct ld_err *err);
