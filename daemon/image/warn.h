/* What an import tells its caller without failing: a short list of texts, bounded. One owner. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "daemon/base/cleanup.h"

enum { LD_WARNINGS_MAX = 32 };

struct ld_warnings {
    char *text[LD_WARNINGS_MAX]; /* the first ones, owned */
    size_t n;
    uint64_t total; /* of all, those that were not kept included */
};

void ld_warnings_add(struct ld_warnings *w, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
void ld_warnings_done(struct ld_warnings *w);
