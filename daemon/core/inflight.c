/* Claims and decoder memory: see inflight.h. One short lock; whoever waits polls its cancel flag.
 *
 * Invariant: of two entries of the list that share an id, at most one is granted, and of those that
 * wait the one that came first is granted first. */
#include "daemon/core/inflight.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "daemon/base/mem.h"
#include "daemon/jobs/lane.h"

enum { CANCEL_POLL_MS = 50 };

struct ld_claim {
    struct ld_inflight *inflight;
    struct ld_claim *next; /* newer */
    struct ld_digest *ids; /* sorted */
    size_t n;
    bool is_granted;
};

struct ld_inflight {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct ld_claim *claims; /* oldest first */
    uint64_t memory, memory_taken;
};

struct ld_inflight *ld_inflight_new(uint64_t decoder_memory)
{
    struct ld_inflight *f = ld_new(struct ld_inflight);
    pthread_condattr_t attr;

    f->memory = decoder_memory;
    pthread_mutex_init(&f->lock, NULL);
    pthread_condattr_init(&attr);
    (void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC); /* cannot fail */
    pthread_cond_init(&f->changed, &attr);
    pthread_condattr_destroy(&attr);
    return f;
}

void ld_inflight_free(struct ld_inflight *f)
{
    if (!f)
        return;
    pthread_cond_destroy(&f->changed);
    pthread_mutex_destroy(&f->lock);
    free(f);
}

/* Waits for a change, or a little. -1: cancelled. */
static int wait_locked(struct ld_inflight *f, const bool *cancel, struct ld_err *err)
{
    struct timespec until;

    if (ld_flag_is_set(cancel))
        return ld_err_set(err, LD_E_CANCELED, "cancelled while it waited for another import");
    (void)clock_gettime(CLOCK_MONOTONIC, &until); /* cannot fail */
    until.tv_nsec += CANCEL_POLL_MS * 1000000L;
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    (void)pthread_cond_timedwait(&f->changed, &f->lock, &until); /* either way we look again */
    return 0;
}

/* ---- claims ---- */

static int compare_digests(const void *a, const void *b)
{
    return memcmp(a, b, sizeof(struct ld_digest));
}

static bool share_an_id(const struct ld_claim *a, const struct ld_claim *b)
{
    size_t i = 0, j = 0;

    while (i < a->n && j < b->n) {
        int order = compare_digests(&a->ids[i], &b->ids[j]);

        if (order == 0)
            return true;
        if (order < 0)
            i++;
        else
            j++;
    }
    return false;
}

/* Everybody before it in the list has it or wants it more; of those behind it only who has it. */
static bool is_free_locked(const struct ld_claim *claim)
{
    bool is_before = true;

    for (const struct ld_claim *c = claim->inflight->claims; c; c = c->next) {
        if (c == claim)
            is_before = false;
        else if ((is_before || c->is_granted) && share_an_id(c, claim))
            return false;
    }
    return true;
}

static void link_locked(struct ld_claim *claim)
{
    struct ld_claim **at = &claim->inflight->claims;

    while (*at)
        at = &(*at)->next;
    *at = claim;
}

static void unlink_claim(struct ld_claim *claim)
{
    struct ld_inflight *f = claim->inflight;
    struct ld_claim **at = &f->claims;

    pthread_mutex_lock(&f->lock);
    while (*at != claim)
        at = &(*at)->next;
    *at = claim->next;
    pthread_cond_broadcast(&f->changed);
    pthread_mutex_unlock(&f->lock);
}

int ld_claim_take(struct ld_inflight *f, const struct ld_digest *ids, size_t n, const bool *cancel,
                  struct ld_claim **ret, bool *ret_waited, struct ld_err *err)
{
    struct ld_claim *claim = ld_new(struct ld_claim);
    bool has_waited = false;
    int rc = 0;

    claim->inflight = f;
    claim->n = n;
    claim->ids = ld_alloc0(n * sizeof(*ids));
    if (n) {
        memcpy(claim->ids, ids, n * sizeof(*ids));
        qsort(claim->ids, n, sizeof(*ids), compare_digests);
    }
    pthread_mutex_lock(&f->lock);
    link_locked(claim);
    while (rc == 0 && !is_free_locked(claim)) {
        has_waited = true;
        rc = wait_locked(f, cancel, err);
    }
    claim->is_granted = rc == 0;
    pthread_mutex_unlock(&f->lock);
    if (rc < 0) {
        ld_claim_drop(claim);
        return -1;
    }
    *ret = claim;
    *ret_waited = has_waited;
    return 0;
}

bool ld_claim_has(const struct ld_claim *claim, const struct ld_digest *id)
{
    return claim && claim->n &&
           bsearch(id, claim->ids, claim->n, sizeof(*id), compare_digests) != NULL;
}

void ld_claim_drop(struct ld_claim *claim)
{
    if (!claim)
        return;
    unlink_claim(claim);
    free(claim->ids);
    free(claim);
}

void ld_claim_drop_p(struct ld_claim **claim)
{
    ld_claim_drop(ld_steal(claim));
}

/* ---- memory ---- */

int ld_inflight_take_memory(struct ld_inflight *f, uint64_t bytes, const bool *cancel,
                            struct ld_err *err)
{
    int rc = 0;

    pthread_mutex_lock(&f->lock);
    while (rc == 0 && f->memory_taken && (bytes > f->memory || f->memory_taken > f->memory - bytes))
        rc = wait_locked(f, cancel, err);
    if (rc == 0)
        f->memory_taken += bytes;
    pthread_mutex_unlock(&f->lock);
    return rc;
}

void ld_inflight_give_memory(struct ld_inflight *f, uint64_t bytes)
{
    pthread_mutex_lock(&f->lock);
    f->memory_taken -= bytes;
    pthread_cond_broadcast(&f->changed);
    pthread_mutex_unlock(&f->lock);
}
