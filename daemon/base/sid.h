/* Storage ids: small integers given by the records, never reused; a directory's name in decimal. */
#pragma once

#include <inttypes.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

typedef uint64_t ld_sid; /* 0: none (layers/0 is the fixed empty layer) */

#define LD_PRI_SID PRIu64

struct ld_sid_text {
    char text[24];
};

static inline struct ld_sid_text ld_sid_name(ld_sid sid)
{
    struct ld_sid_text t;

    (void)snprintf(t.text, sizeof(t.text), "%" LD_PRI_SID, sid); /* 20 digits at most */
    return t;
}

/* A chain of committed layers, topmost first. Borrowed by whoever gets it. n is at most
 * LD_MAX_LAYERS: the overlay's option string has to fit one page. */
enum { LD_MAX_LAYERS = 400 };

struct ld_chain {
    const ld_sid *sid;
    size_t n;
};
