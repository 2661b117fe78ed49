/* The watch over limits: see limit_watch.h.
 *
 * A round is a row of jobs on the quick lane, a page of objects each, so that it never keeps a
 * worker from others for long. Only what was told is remembered, by storage id: a new writable
 * layer begins anew, and what a round did not come across is forgotten at its end. So memory is
 * bounded by what is nearly full.
 */
#include "daemon/core/limit_watch.h"

#include <inttypes.h>
#include <pthread.h>
#include <stddef.h>
#include <stdlib.h>

#include "daemon/base/log.h"
#include "daemon/base/mem.h"
#include "daemon/base/table.h"
#include "daemon/core/config.h"
#include "daemon/core/limits.h"
#include "daemon/core/state.h"
#include "daemon/core/threshold.h"
#include "daemon/jobs/lane.h"
#include "daemon/jobs/loop.h"

enum { PAGE = 100 };

struct told {
    ld_sid sid; /* the key */
    struct ld_threshold bytes, inodes;
    uint64_t round; /* in which it was seen last */
    UT_hash_handle hh;
};

struct ld_limit_watch {
    struct ld_core *core;
    struct ld_timer *timer;
    struct ld_job job;
    bool is_running, is_stopped; /* loop */
    bool is_woken;               /* loop: something has happened since the round began */

    /* the round: of the job, or of the loop between two */
    bool is_at_volumes;
    uint64_t after;
    bool has_failed, has_some;

    pthread_mutex_t lock; /* over what follows */
    struct told *told;
    uint64_t round;
};

/* Something with limits, and what it uses. */
struct subject {
    const char *kind, *id, *name;
    ld_sid sid;
    struct ld_limits used, limits;
};

static void tell(struct ld_core *core, const struct subject *s, const char *resource,
                 unsigned percent)
{
    bool is_bytes = resource[0] == 'b';
    autofree char *type = ld_asprintf("%s.limit", s->kind);
    autofree char *attributes = ld_asprintf(
        "{\"resource\":\"%s\",\"percent\":%u,\"used\":%" PRIu64 ",\"limit\":%" PRIu64 "}", resource,
        percent, is_bytes ? s->used.bytes : s->used.inodes,
        is_bytes ? s->limits.bytes : s->limits.inodes);
    struct ld_note note = {
        .type = type, .kind = s->kind, .id = s->id, .name = s->name, .attributes = attributes};

    ld_store_event_post(core->store, &LD_WRITE_SELF, &note);
}

static void judge(struct ld_limit_watch *w, const struct subject *s)
{
    struct ld_threshold bytes = {.told = 0}, inodes = {.told = 0};
    unsigned of_bytes, of_inodes;
    struct told *told = NULL;

    pthread_mutex_lock(&w->lock);
    HASH_FIND(hh, w->told, &s->sid, sizeof(s->sid), told);
    if (told) {
        bytes = told->bytes;
        inodes = told->inodes;
    }
    of_bytes = ld_threshold_look(&bytes, s->used.bytes, s->limits.bytes);
    of_inodes = ld_threshold_look(&inodes, s->used.inodes, s->limits.inodes);
    if (!told && (bytes.told || inodes.told)) {
        told = ld_new(struct told);
        told->sid = s->sid;
        HASH_ADD(hh, w->told, sid, sizeof(told->sid), told);
    }
    if (told) {
        told->bytes = bytes;
        told->inodes = inodes;
        told->round = w->round;
    }
    pthread_mutex_unlock(&w->lock);
    if (of_bytes)
        tell(w->core, s, "bytes", of_bytes);
    if (of_inodes)
        tell(w->core, s, "inodes", of_inodes);
}

static bool has_limits(const struct ld_limits *limits)
{
    return limits->bytes || limits->inodes;
}

/* What can't be looked at (it went meanwhile, nothing is counted here) is not judged. */
static void look_at_container(struct ld_limit_watch *w, const struct ld_container *c)
{
    struct subject s = {.kind = "container",
                        .id = c->id,
                        .name = c->name,
                        .sid = c->upper_sid,
                        .limits = c->limits};
    struct ld_err err = LD_ERR_INIT;

    if (!has_limits(&c->limits))
        return;
    if (ld_limits_used_container(w->core, c, &s.used, &err) == 0)
        judge(w, &s);
    else
        ld_debug("the use of container '%s': %s", c->id, err.message);
}

static void look_at_volume(struct ld_limit_watch *w, const struct ld_volume *v)
{
    struct subject s = {.kind = "volume",
                        .id = v->id,
                        .name = v->name,
                        .sid = v->sid,
                        .limits = {.bytes = v->size_limit}};
    struct ld_err err = LD_ERR_INIT;

    if (!has_limits(&s.limits))
        return;
    if (ld_limits_used_volume(w->core, v, &s.used, &err) == 0)
        judge(w, &s);
    else
        ld_debug("the use of volume '%s': %s", v->id, err.message);
}

void ld_limit_watch_look(struct ld_limit_watch *watch, const struct ld_container *c)
{
    if (!watch)
        return;
    look_at_container(watch, c);
    for (size_t i = 0; i < c->n_mounts; i++) {
        LD_AUTO(ld_volume_done) struct ld_volume v = {.sid = 0};
        struct ld_err ignored = LD_ERR_INIT;

        if (c->mounts[i].volume_id &&
            ld_store_volume_get(watch->core->store, c->mounts[i].volume_id, &v, &ignored) == 0)
            look_at_volume(watch, &v);
    }
}

/* ---- a round ---- */

static int page_of_containers(struct ld_limit_watch *w, struct ld_err *err)
{
    LD_AUTO(ld_container_page_done) struct ld_container_page page = {.n = 0};
    struct ld_container_query query = {.after = w->after, .limit = PAGE, .limited = true};

    if (ld_store_container_list(w->core->store, &query, &page, err) < 0)
        return -1;
    for (size_t i = 0; i < page.n; i++)
        look_at_container(w, &page.item[i]);
    w->has_some |= page.n > 0;
    w->after = page.next;
    return 0;
}

static int page_of_volumes(struct ld_limit_watch *w, struct ld_err *err)
{
    LD_AUTO(ld_volume_page_done) struct ld_volume_page page = {.n = 0};
    struct ld_volume_query query = {.after = w->after, .limit = PAGE, .limited = true};

    if (ld_store_volume_list(w->core->store, &query, &page, err) < 0)
        return -1;
    for (size_t i = 0; i < page.n; i++)
        look_at_volume(w, &page.item[i]);
    w->has_some |= page.n > 0;
    w->after = page.next;
    return 0;
}

static struct ld_limit_watch *watch_of(struct ld_job *job)
{
    return (struct ld_limit_watch *)((char *)job - offsetof(struct ld_limit_watch, job));
}

static void run(struct ld_job *job)
{
    struct ld_limit_watch *w = watch_of(job);
    struct ld_err err = LD_ERR_INIT;

    if ((w->is_at_volumes ? page_of_volumes(w, &err) : page_of_containers(w, &err)) == 0)
        return;
    w->has_failed = true;
    ld_warn("the watch over limits: %s", err.message);
}

static void forget_unseen(struct ld_limit_watch *w)
{
    struct told *one, *next;

    pthread_mutex_lock(&w->lock);
    one = w->told;
    HASH_CLEAR(hh, w->told); /* they are still a list */
    for (; one; one = next) {
        next = one->hh.next;
        if (one->round == w->round && (one->bytes.told || one->inodes.told))
            HASH_ADD(hh, w->told, sid, sizeof(one->sid), one);
        else
            free(one);
    }
    pthread_mutex_unlock(&w->lock);
}

static void submit(struct ld_limit_watch *w)
{
    struct ld_err err = LD_ERR_INIT;

    w->is_running = ld_lanes_submit(w->core->lanes, LD_LANE_QUICK, &w->job, &err) == 0;
    if (!w->is_running) /* the lane is full: later */
        ld_timer_start(w->timer, w->core->config->watch_limits_ms, 0);
}

static void done(struct ld_job *job)
{
    struct ld_limit_watch *w = watch_of(job);

    w->is_running = false;
    if (w->is_stopped)
        return;
    if (!w->has_failed && (w->after || !w->is_at_volumes)) {
        w->is_at_volumes |= w->after == 0;
        submit(w);
        return;
    }
    if (!w->has_failed)
        forget_unseen(w);
    if (w->has_some || w->has_failed || w->is_woken)
        ld_timer_start(w->timer, w->core->config->watch_limits_ms, 0);
}

static void start(void *arg)
{
    struct ld_limit_watch *w = arg;

    if (w->is_running || w->is_stopped)
        return;
    w->is_woken = w->is_at_volumes = w->has_failed = w->has_some = false;
    w->after = 0;
    pthread_mutex_lock(&w->lock);
    w->round++;
    pthread_mutex_unlock(&w->lock);
    submit(w);
}

/* ---- its life ---- */

void ld_limit_watch_wake(struct ld_limit_watch *watch)
{
    if (!watch || watch->is_stopped || watch->core->config->watch_limits_ms == 0)
        return;
    watch->is_woken = true;
    if (!watch->is_running && !ld_timer_is_set(watch->timer))
        ld_timer_start(watch->timer, watch->core->config->watch_limits_ms, 0);
}

struct ld_limit_watch *ld_limit_watch_new(struct ld_core *core)
{
    struct ld_limit_watch *w = ld_new(struct ld_limit_watch);

    w->core = core;
    w->timer = ld_timer_new(core->loop, start, w);
    w->job.run = run;
    w->job.done = done;
    pthread_mutex_init(&w->lock, NULL);
    return w;
}

void ld_limit_watch_stop(struct ld_limit_watch *watch)
{
    watch->is_stopped = true;
    ld_timer_stop(watch->timer);
}

void ld_limit_watch_free(struct ld_limit_watch *watch)
{
    if (!watch)
        return;
    ld_timer_free(watch->timer);
    ld_table_drain(hh, watch->told, free);
    pthread_mutex_destroy(&watch->lock);
    free(watch);
}
