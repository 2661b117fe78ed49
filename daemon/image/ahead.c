/* A source read ahead by a thread of its own: see source.h.
 *
 * The first block is read by whoever reads, so that small ones need no thread. Then the thread
 * fills blocks in turn and the reader empties them; each block belongs to one of the two, told by
 * `made` and `taken` under the lock. What `below` said last, its end or its failure, comes after
 * the bytes before it. */
#include <pthread.h>
#include <string.h>

#include "daemon/base/mem.h"
#include "daemon/image/source.h"

enum {
    BLOCK = 256 << 10,
    BLOCKS = 4,
    STACK_SIZE = 1 << 20, /* address space; only what is used becomes memory */
};

struct ahead {
    struct ld_source base;
    struct ld_source *below;
    size_t first;    /* bytes read before there was a thread */
    bool has_thread; /* of the reader */
    bool is_alone;   /* there will be none: the reader reads below itself */
    size_t pos;      /* of the reader in its block */
    uint8_t *blocks;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;

    /* under the lock */
    uint64_t made, taken;
    size_t len[BLOCKS];
    bool stop;  /* the reader has gone */
    bool ended; /* nothing is made any more */
    int rc;     /* what came last: 0 the end, -1 err */
    struct ld_err err;
};

/* ---- the thread ---- */

/* Room for one more block, or false: the reader has gone. */
static bool wait_for_room(struct ahead *a)
{
    bool stop;

    pthread_mutex_lock(&a->lock);
    while (!a->stop && a->made - a->taken == BLOCKS)
        pthread_cond_wait(&a->changed, &a->lock);
    stop = a->stop;
    pthread_mutex_unlock(&a->lock);
    return !stop;
}

/* Gives the reader a block, and the end when rc is 0 or -1. */
static void hand_over(struct ahead *a, size_t len, ssize_t rc, const struct ld_err *err)
{
    pthread_mutex_lock(&a->lock);
    if (len > 0)
        a->len[a->made++ % BLOCKS] = len;
    if (rc <= 0) {
        a->ended = true;
        a->rc = (int)rc;
        a->err = *err;
    }
    pthread_cond_signal(&a->changed);
    pthread_mutex_unlock(&a->lock);
}

static void *read_ahead(void *arg)
{
    struct ahead *a = arg;
    struct ld_err err = LD_ERR_INIT;
    ssize_t n = 1;

    (void)pthread_setname_np(pthread_self(), "ahead"); /* cosmetic */
    while (n > 0 && wait_for_room(a)) {
        uint8_t *block = a->blocks + a->made % BLOCKS * BLOCK;
        size_t len = 0;

        while (len < BLOCK && (n = ld_source_read(a->below, block + len, BLOCK - len, &err)) > 0)
            len += (size_t)n;
        hand_over(a, len, n, &err);
    }
    return NULL;
}

static void start(struct ahead *a)
{
    pthread_attr_t attr;

    a->blocks = ld_alloc0((size_t)BLOCKS * BLOCK);
    pthread_attr_init(&attr);
    (void)pthread_attr_setstacksize(&attr, STACK_SIZE);
    a->has_thread = pthread_create(&a->thread, &attr, read_ahead, a) == 0;
    a->is_alone = !a->has_thread; /* slower, but it works */
    pthread_attr_destroy(&attr);
}

/* ---- the reader ---- */

/* The bytes of the next block, once there is one; 0 at the end, -1. */
static ssize_t wait_for_block(struct ahead *a, struct ld_err *err)
{
    ssize_t n;

    pthread_mutex_lock(&a->lock);
    while (a->made == a->taken && !a->ended)
        pthread_cond_wait(&a->changed, &a->lock);
    if (a->made > a->taken) {
        n = (ssize_t)a->len[a->taken % BLOCKS];
    } else {
        n = a->rc;
        if (n < 0)
            *err = a->err;
    }
    pthread_mutex_unlock(&a->lock);
    return n;
}

static void give_back(struct ahead *a)
{
    pthread_mutex_lock(&a->lock);
    a->taken++;
    pthread_cond_signal(&a->changed);
    pthread_mutex_unlock(&a->lock);
}

static ssize_t read_block(struct ahead *a, void *buf, size_t len, struct ld_err *err)
{
    ssize_t size = wait_for_block(a, err);
    size_t left = size > 0 ? (size_t)size - a->pos : 0;

    if (size <= 0)
        return size;
    if (len > left)
        len = left;
    memcpy(buf, a->blocks + a->taken % BLOCKS * BLOCK + a->pos, len);
    a->pos += len;
    if (len == left) {
        a->pos = 0;
        give_back(a);
    }
    return (ssize_t)len;
}

static ssize_t ahead_read(struct ld_source *base, void *buf, size_t len, struct ld_err *err)
{
    struct ahead *a = (struct ahead *)base;
    ssize_t n;

    if (!a->has_thread && !a->is_alone && a->first >= BLOCK)
        start(a);
    if (a->has_thread)
        return read_block(a, buf, len, err);
    n = ld_source_read(a->below, buf, len, err);
    if (n > 0)
        a->first += (size_t)n;
    return n;
}

static void ahead_free(struct ld_source *base)
{
    struct ahead *a = (struct ahead *)base;

    if (a->has_thread) {
        pthread_mutex_lock(&a->lock);
        a->stop = true;
        pthread_cond_signal(&a->changed);
        pthread_mutex_unlock(&a->lock);
        pthread_join(a->thread, NULL);
    }
    pthread_cond_destroy(&a->changed);
    pthread_mutex_destroy(&a->lock);
    free(a->blocks);
    free(a);
}

struct ld_source *ld_source_ahead_new(struct ld_source *below)
{
    static const struct ld_source_ops ops = {.read = ahead_read, .free = ahead_free};
    struct ahead *a = ld_new(struct ahead);

    a->base.ops = &ops;
    a->below = below;
    a->err = (struct ld_err)LD_ERR_INIT;
    pthread_mutex_init(&a->lock, NULL);
    pthread_cond_init(&a->changed, NULL);
    return &a->base;
}
