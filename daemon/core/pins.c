/* Pins: see pins.h. A counted set under one short lock. */
#include "daemon/core/pins.h"

#include <pthread.h>
#include <stdlib.h>

#include "daemon/base/mem.h"
#include "daemon/base/table.h"

struct pin {
    ld_sid sid;
    size_t n;
    UT_hash_handle hh;
};

struct ld_pins {
    pthread_mutex_t lock;
    struct pin *set;
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
    pthread_mutex_lock(&pins->lock);
    for (size_t i = 0; i < n; i++) {
        struct pin *pin;

        HASH_FIND(hh, pins->set, &sids[i], sizeof(sids[i]), pin);
        if (pin && --pin->n == 0) {
            HASH_DEL(pins->set, pin);
            free(pin);
        }
    }
    pthread_mutex_unlock(&pins->lock);
}

bool ld_pins_has(struct ld_pins *pins, ld_sid sid)
{
    struct pin *pin;

    pthread_mutex_lock(&pins->lock);
    HASH_FIND(hh, pins->set, &sid, sizeof(sid), pin);
    pthread_mutex_unlock(&pins->lock);
    return pin != NULL;
}
