/* Limits on what containers and volumes hold: the records say which, the kernel enforces them
 * (daemon/base/quota.h).
 *
 * The kernel comes first and the record after it, so that what was answered is enforced; a start
 * sets the kernel to what the records say. What is removed keeps its limit until it is deleted:
 * somebody may still write to it. Any worker; the caller holds the object's key.
 */
#pragma once

#include "daemon/base/quota.h"
#include "daemon/store/store.h"

struct ld_core;

/* At the start, before anything is made: what can be limited. */
void ld_limits_probe(struct ld_core *core);
/* unsupported, with the remedy: there are limits, and nothing here can enforce them. */
int ld_limits_check(const struct ld_core *core, const struct ld_limits *limits, struct ld_err *err);

/* The kernel's limits of the container become those; of the volume, its record's. With none, where
 * nothing can be limited, nothing is done. unsupported; conflict: made when nothing could be. */
int ld_limits_set_container(struct ld_core *core, const struct ld_container *c,
                            const struct ld_limits *limits, struct ld_err *err);
int ld_limits_set_volume(struct ld_core *core, const struct ld_volume *v, struct ld_err *err);
/* A new volume's directory, empty, counted where it has to be, wherever it is made; the descriptor
 * or -errno. Its limit is not set. */
int ld_limits_make_volume(struct ld_core *core, int parent, const char *name, mode_t mode,
                          const struct ld_volume *v) ld_must_check;

/* What counts against their limits now, without a walk. unsupported: nothing is counted. */
int ld_limits_used_container(struct ld_core *core, const struct ld_container *c,
                             struct ld_limits *ret, struct ld_err *err);
int ld_limits_used_volume(struct ld_core *core, const struct ld_volume *v, struct ld_limits *ret,
                          struct ld_err *err);

/* At the start, for each record. What can't be set is logged and counted, and fails nothing. */
void ld_limits_recover_container(struct ld_core *core, const struct ld_container *c);
void ld_limits_recover_volume(struct ld_core *core, const struct ld_volume *v);

/* It was deleted: the kernel forgets it. */
void ld_limits_forget(struct ld_core *core, ld_sid sid);
