/* The operations of layerd, as the API calls them.
 *
 * Threads. `*_find` are point reads: any thread, the loop included. `*_admit` run on the loop: they
 * resolve a name to an id and add to the operation the keys it needs. Everything else blocks and
 * runs on a worker, inside ld_op.run, while the loop holds those keys.
 *
 * Objects are found by whole id, then name, then unique id prefix of at least 4 hex digits. Codes
 * that all of them may give: not_found, conflict (an ambiguous prefix; details.candidates),
 * unavailable, no_space, io.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/base/err.h"
#include "daemon/base/sid.h"

struct ld_config;
struct ld_core;
struct ld_lanes;
struct ld_loop;
struct ld_ops;
struct ld_store;

/* Opens the store and recovers (docs/ARCHITECTURE.md, "Start"). Main thread, before the loop runs.
 * config, loop, lanes and ops are borrowed and outlive the core. */
struct ld_core *ld_core_open(const struct ld_config *config, struct ld_loop *loop,
                             struct ld_lanes *lanes, struct ld_ops *ops, struct ld_err *err);
/* Loop: the stop begins; work of our own (deleting) is cut short, so that the lanes can drain. */
void ld_core_stop(struct ld_core *core);
/* After the lanes have drained, before the loop is freed. NULL is fine. */
void ld_core_close(struct ld_core *core);

struct ld_store *ld_core_store(struct ld_core *core);
const struct ld_config *ld_core_config(const struct ld_core *core);
struct ld_loop *ld_core_loop(struct ld_core *core);
struct ld_lanes *ld_core_lanes(struct ld_core *core);
struct ld_ops *ld_core_ops(struct ld_core *core);

/* Does this storage driver (NULL: the default) copy the image for each container? False for an
 * unknown one. Any thread. */
bool ld_core_driver_copies(const struct ld_core *core, const char *name);

/* Called on the loop after a commit that wrote events, with the newest event id. One watcher: the
 * API. */
typedef void (*ld_event_fn)(void *arg, uint64_t newest_id);
void ld_core_watch_events(struct ld_core *core, ld_event_fn fn, void *arg);

/* Wakes the reaper: something went to the trash. Any thread. */
void ld_core_kick_reaper(struct ld_core *core);
