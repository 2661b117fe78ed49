/* Tells when something is about to be full: events container.limit and volume.limit, attributes
 * resource (bytes, inodes), percent (80, 95), used, limit.
 *
 * The kernel tells nobody about the use of project quotas, so it is asked: every
 * `storage.watch_limits`, one call for each object that has limits, and at the unmount of one. What
 * was told is in memory only: after a restart it may be told once more. While nothing has a limit
 * and nothing happens, nothing is done; what happens meanwhile is seen by its events.
 */
#pragma once

struct ld_container;
struct ld_core;
struct ld_limit_watch;

/* Loop. */
struct ld_limit_watch *ld_limit_watch_new(struct ld_core *core);
void ld_limit_watch_stop(struct ld_limit_watch *watch);
void ld_limit_watch_free(struct ld_limit_watch *watch); /* after the lanes have drained; NULL */
/* Loop: something has happened, so there may be limits. NULL is fine. */
void ld_limit_watch_wake(struct ld_limit_watch *watch);

/* Any worker: one container, and the volumes it mounts, now. */
void ld_limit_watch_look(struct ld_limit_watch *watch, const struct ld_container *c);
