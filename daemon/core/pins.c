/* Pins: see pins.h. A counted set under one short lock. */
#include "daemon/core/pins.h"

#include <pthread.h>
#include <stdlib.h>

#include "daemon/base/mem.h"
#include "daemon/base/table.h"

struct pin {
    ld_sid sid;
    size_t n;
    bool is_waited_for;
    UT_hash_handle hh;
};

struct ld_pins {
    pthread_mutex_t lock;
    struct pin *set;
    void (*on_free)(void *arg);
    void *on_free_arg;
};

struct ld_pins *ld_pins_new(void)
{
    struct ld_pins *pins = ld_new(struct ld_pins);

    pthread_mutex_init(&pins->lock, NULL);
    return pins;
}

void ld_pins_free(struct ld_pins *pins)
{
    if (!pins)
        return;
    ld_table_drain(hh, pins->set, free);
    pthread_mutex_destroy(&pins->lock);
    free(pins);
}

void ld_pins_add(struct ld_pins *pins, const ld_sid *sids, size_t n)
{
    pthread_mutex_lock(&pins->lock);
    for (size_t i = 0; i < n; i++) {
        struct pin *pin;

        HASH_FIND(hh, pins->set, &sids[i], sizeof(sids[i]), pin);
        if (!pin) {
            pin = ld_new(struct pin);
            pin->sid = sids[i];
            HASH_ADD(hh, pins->set, sid, sizeof(pin->sid), pin);
        }
        pin->n++;
    }
    pthread_mutex_unlock(&pins->lock);
}

void ld_pins_drop(struct ld_pins *pins, const ld_sid *sids, size_t n)
{
    void (*on_free)(void *arg) = NULL;
    void *arg = NULL;

    pthread_mutex_lock(&pins->lock);
    for (size_t i = 0; i < n; i++) {
        struct pin *pin;

        HASH_FIND(hh, pins->set, &sids[i], sizeof(sids[i]), pin);
        if (!pin || --pin->n > 0)
            continue;
        if (pin->is_waited_for) {
            on_free = pins->on_free;
            arg = pins->on_free_arg;
        }
        HASH_DEL(pins->set, pin);
        free(pin);
    }
    pthread_mutex_unlock(&pins->lock);
    if (on_free)
        on_free(arg);
}

bool ld_pins_has(struct ld_pins *pins, ld_sid sid)
{
    struct pin *pin;

    pthread_mutex_lock(&pins->lock);
    HASH_FIND(hh, pins->set, &sid, sizeof(sid), pin);
    pthread_mutex_unlock(&pins->lock);
    return pin != NULL;
}

bool ld_pins_wait(struct ld_pins *pins, ld_sid sid)
{
    struct pin *pin;

    pthread_mutex_lock(&pins->lock);
    HASH_FIND(hh, pins->set, &sid, sizeof(sid), pin);
    if (pin)
        pin->is_waited_for = true;
    pthread_mutex_unlock(&pins->lock);
    return pin != NULL;
}

void ld_pins_on_free(struct ld_pins *pins, void (*fn)(void *arg), void *arg)
{
    pthread_mutex_lock(&pins->lock);
    pins->on_free = fn;
    pins->on_free_arg = arg;
    pthread_mutex_unlock(&pins->lock);
}
